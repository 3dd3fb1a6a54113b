//! Logins from outside: which profile an account becomes, and what is left of a login that failed or died.

mod real;
mod refresh;

use super::support::codex::{self, Fake};
use super::support::run::Output;
use super::support::space::{TestSpace, write_private};
use super::support::standin::json::Json;
use super::support::standin::token;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_secs(20);

/// An auth.json; an empty account or user is left out.
fn login_file(account: &str, user: &str, email: &str, refresh_token: &str) -> String {
    let claim = |name: &str, value: &str| match value {
        "" => String::new(),
        value => format!(r#","{name}":"{value}""#),
    };
    let auth = format!(r#"{{"chatgpt_plan_type":"plus"{}}}"#, claim("chatgpt_user_id", user));
    let payload = format!(r#"{{"email":"{email}","https://api.openai.com/auth":{auth}}}"#);
    let id = URL_SAFE_NO_PAD.encode(payload);
    format!(
        r#"{{"auth_mode":"chatgpt","tokens":{{"id_token":"e30.{id}.s","access_token":"at-{refresh_token}","refresh_token":"{refresh_token}"{}}}}}"#,
        claim("account_id", account)
    )
}

/// A codex whose `login` puts `next` into its home, then does `then`.
fn fake(space: &mut TestSpace, then: &str) -> Fake {
    let next = space.root().join("next");
    let body = format!("[ \"$1\" = login ] && (umask 077; cp '{}' \"$CODEX_HOME/auth.json\")\n{then}", next.display());
    let fake = Fake::new(space, &body);
    space.env("PRODEX_CODEX_BIN", fake.path());
    fake
}

fn next_login(space: &TestSpace, text: &str) {
    write_private(&space.root().join("next"), text);
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn profiles(space: &TestSpace) -> Vec<String> {
    names(&space.prodex_home().join("profiles"))
}

fn auth(space: &TestSpace, profile: &str) -> String {
    fs::read_to_string(space.profile_home(profile).join("auth.json")).expect("a login")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("is there").permissions().mode() & 0o777
}

fn state(space: &TestSpace) -> String {
    fs::read_to_string(space.state_file()).expect("state.json")
}

#[test]
fn the_account_decides_which_profile_it_is() {
    let mut space = TestSpace::new("login-account");
    let codex = fake(&mut space, "exit 0");
    let rows = [
        // A workspace, a person, an e-mail; what happens to which profile.
        (("a", "u", "main@example.com"), "Logged in as main@example.com. Created profile 'main_example.com'."),
        (("a", "u", "main@example.com"), "Logged in as main@example.com. Reusing profile 'main_example.com'."),
        (("a", "u", "renamed@example.com"), "Logged in as renamed@example.com. Reusing profile 'main_example.com'."),
        (("b", "u", "Main@Example.com"), "Created profile 'main_example.com-2'."),
        (("a", "v", "colleague@example.com"), "Created profile 'colleague_example.com'."),
        (("c", "u", "main@example.com"), "Created profile 'main_example.com-3'."),
        (("b", "u", "main@example.com"), "Reusing profile 'main_example.com-2'."),
        (("d", "", ""), "Logged in as d. Created profile 'd'."),
    ];
    for (serial, ((account, user, email), words)) in rows.into_iter().enumerate() {
        let login = login_file(account, user, email, &format!("rt-{serial}"));
        next_login(&space, &login);
        let output = space.prodex(&["login", "--device-auth"]).output().expect(0);
        assert!(output.stdout.contains(words), "{words}: {}", output.stdout);
        let profile = words.rsplit('\'').nth(1).expect("a name");
        assert_eq!(auth(&space, profile), login);
        assert_eq!(mode(&space.profile_home(profile).join("auth.json")), 0o600);
        assert_eq!(mode(&space.profile_home(profile)), 0o700);
        assert!(state(&space).contains(&format!("\"active_profile\": \"{profile}\"")));
        assert!(space.profile_home(profile).join("sessions").is_symlink());
    }
    assert_eq!(
        profiles(&space),
        ["colleague_example.com", "d", "main_example.com", "main_example.com-2", "main_example.com-3"]
    );
    assert!(state(&space).contains("\"email\": \"renamed@example.com\""));
    let call = &codex.calls()[0];
    assert_eq!(call.args, ["login", "-c", "cli_auth_credentials_store=\"file\"", "--device-auth"]);
    assert!(call.env["CODEX_HOME"].contains("/.new+"), "{}", call.env["CODEX_HOME"]);
}

#[test]
fn where_an_account_is_unknown_the_email_decides() {
    let mut space = TestSpace::new("login-email");
    let _codex = fake(&mut space, "exit 0");
    // An external home, logged out, of which only the e-mail is remembered; and one that says no account.
    let external = space.root().join("external");
    space.prodex(&["profile", "add", "x", "--codex-home", external.to_str().expect("UTF-8")]).output().expect(0);
    write_private(&external.join("auth.json"), &login_file("", "", "X@example.com", "rt-old"));
    next_login(&space, &login_file("a", "u", "x@example.com", "rt-new"));
    let output = space.prodex(&["login"]).output().expect(0);
    assert!(output.stdout.contains("Reusing profile 'x'."), "{}", output.stdout);
    assert!(fs::read_to_string(external.join("auth.json")).expect("a login").contains("rt-new"));
    assert!(!external.join("sessions").is_symlink(), "an external home gets no links");
    fs::remove_file(external.join("auth.json")).expect("logged out");
    let output = space.prodex(&["login"]).output().expect(0);
    assert!(output.stdout.contains("Reusing profile 'x'."), "{}", output.stdout);
    assert_eq!(profiles(&space), [""; 0]);
}

#[test]
fn many_logins_at_once_make_one_profile_for_each_account() {
    let mut space = TestSpace::new("login-many");
    let body = "printf '%s' \"$LOGIN\" > \"$CODEX_HOME/auth.json\"; exit 0";
    let codex = Fake::new(&space, body);
    space.env("PRODEX_CODEX_BIN", codex.path());
    let running: Vec<_> = (0..12)
        .map(|number| {
            let account = format!("a{}", number % 3);
            let login = login_file(&account, "u", "same@example.com", &format!("rt-{number}"));
            space.prodex(&["login"]).env("LOGIN", &login).start()
        })
        .collect();
    let outputs: Vec<Output> = running.into_iter().map(|running| running.wait(SHORT).expect(0)).collect();
    let created = outputs.iter().filter(|output| output.stdout.contains("Created")).count();
    assert_eq!(created, 3);
    assert_eq!(profiles(&space), ["same_example.com", "same_example.com-2", "same_example.com-3"]);
    for profile in profiles(&space) {
        assert_eq!(mode(&space.profile_home(&profile).join("auth.json")), 0o600);
    }
}

#[test]
fn a_login_that_fails_leaves_nothing() {
    let mut space = TestSpace::new("login-fails");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    for (then, code) in [("exit 7", 7), ("kill -TERM $$", 143), ("rm \"$CODEX_HOME/auth.json\"; exit 0", 1)] {
        let _codex = fake(&mut space, then);
        let output = space.prodex(&["login"]).output().expect(code);
        assert!(output.stdout.is_empty(), "{}", output.stdout);
        assert_eq!(profiles(&space), [""; 0], "{then}");
    }
    next_login(&space, r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-secret"}"#);
    let _codex = fake(&mut space, "exit 0");
    let output = space.prodex(&["login"]).output().expect(1);
    assert!(output.stderr.contains("api-key") && output.stderr.contains("prodex login -p NAME"), "{}", output.stderr);
    assert!(!output.stderr.contains("sk-secret"));
    assert_eq!(profiles(&space), [""; 0]);
    assert!(!space.state_file().exists());
    // The shared history cannot be linked: after the login, and still nothing is left.
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    let output = space.prodex(&["login"]).env("PRODEX_SHARED_CODEX_HOME", "/dev/null/x").output().expect(1);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert_eq!(profiles(&space), [""; 0]);
}

/// While a login waits for codex's lock on the profile that it is to update, that profile is removed.
#[test]
fn a_login_goes_into_no_home_that_was_removed() {
    for (args, first) in
        [(&["profile", "remove", "one"][..], true), (&["profile", "remove", "one", "--delete-home"], false)]
    {
        let mut space = TestSpace::new("login-removed");
        let codex = fake(&mut space, "exit 0");
        fs::create_dir_all(space.codex_home().join("sessions/2026")).expect("a history");
        next_login(&space, &login_file("a", "u", "one@example.com", "rt-old"));
        space.prodex(&["login"]).output().expect(0);
        let old = auth(&space, "one_example.com");
        let args: Vec<&str> = args.iter().map(|word| if *word == "one" { "one_example.com" } else { word }).collect();
        let lock = fs::File::create(space.profile_home("one_example.com").join("auth.lock")).expect("codex's lock");
        lock.lock().expect("a codex that refreshes");
        next_login(&space, &login_file("a", "u", "one@example.com", "rt-new"));
        let login = space.prodex(&["login"]).start();
        let until = Instant::now() + SHORT;
        while codex.calls().len() < 2 {
            assert!(Instant::now() < until, "{}", login.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(50));
        let remove = space.prodex(&args).start();
        // With the home it waits for the codex as well.
        let removed = if first { Ok(remove.wait(SHORT).expect(0)) } else { Err(remove) };
        drop(lock);
        login.wait(SHORT).expect(0);
        removed.unwrap_or_else(|remove| remove.wait(SHORT).expect(0));
        let state = state(&space);
        for home in profiles(&space) {
            let registered = state.contains(&format!("{home}\": {{"));
            let login = fs::read_to_string(space.profile_home(&home).join("auth.json")).unwrap_or_default();
            assert!(registered || login.is_empty() || login == old, "{args:?}: {home} is nobody's: {state}");
            let lock = space.profile_home(&home).join("auth.lock").exists();
            assert!(registered || login == old || !lock, "{args:?}: {home} was made again for nobody");
        }
        assert!(!first || profiles(&space).contains(&"one_example.com-2".to_owned()), "{:?}", profiles(&space));
    }
}

#[test]
fn of_two_that_remove_one_profile_one_does() {
    let space = TestSpace::new("remove-twice");
    space.profiles(&["main"]);
    let lock = fs::File::create(space.profile_home("main").join("auth.lock")).expect("codex's lock");
    lock.lock().expect("a codex that refreshes");
    let removing = [(); 2].map(|()| space.prodex(&["profile", "remove", "main", "--delete-home"]).start());
    std::thread::sleep(Duration::from_millis(100));
    assert!(space.profile_home("main").join("auth.json").exists(), "they wait");
    drop(lock);
    let outputs = removing.map(|removing| removing.wait(SHORT));
    let said = |code: i32, words: &str| {
        outputs.iter().filter(|output| output.code() == code && format!("{output:?}").contains(words)).count()
    };
    assert_eq!((said(0, "Removed profile 'main'"), said(1, "profile 'main' does not exist")), (1, 1), "{outputs:?}");
    assert_eq!(profiles(&space), [""; 0]);
}

#[test]
fn a_home_in_which_codex_runs_is_not_deleted() {
    let mut space = TestSpace::new("remove-used");
    space.profiles(&["main"]);
    let _codex = fake(&mut space, "echo open your browser\nexec sleep 60");
    let running = space.prodex(&["login", "-p", "main"]).start();
    let until = Instant::now() + SHORT;
    while !running.stdout().contains("open your browser") {
        assert!(Instant::now() < until, "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = space.prodex(&["profile", "remove", "main", "--delete-home"]).output().expect(1).stderr;
    assert!(
        error.contains("codex runs in the home of profile 'main' (process ") && error.lines().count() == 1,
        "{error}"
    );
    assert!(state(&space).contains("\"main\": {"), "nothing was changed");
    running.signal_group("INT");
    running.wait(SHORT);
    space.prodex(&["profile", "remove", "main", "--delete-home"]).output().expect(0);
    assert_eq!(profiles(&space), [""; 0]);
}

#[test]
fn a_login_that_is_registered_is_kept_whatever_comes_after() {
    let mut space = TestSpace::new("login-no-copy");
    let _codex = fake(&mut space, "exit 0");
    fs::create_dir_all(space.prodex_home().join("state.json.last-good")).expect("in the way of the copy");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    space.prodex(&["login"]).output().expect(0);
    assert!(state(&space).contains("\"a_example.com\": {"));
    assert!(auth(&space, "a_example.com").contains("\"rt\""));
}

/// The registry remembers the e-mail of a profile that has become something else since.
#[test]
fn an_api_key_is_not_replaced_by_the_login_that_was_there_before() {
    let mut space = TestSpace::new("login-key");
    let _codex = fake(&mut space, "exit 0");
    let login = login_file("a", "u", "a@example.com", "rt-1");
    next_login(&space, &login);
    space.prodex(&["login"]).output().expect(0);
    let key = r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-mine"}"#;
    next_login(&space, key);
    space.prodex(&["login", "-p", "a_example.com", "--with-api-key"]).output().expect(0);
    next_login(&space, &login);
    let output = space.prodex(&["login"]).output().expect(0);
    assert!(output.stdout.contains("Created profile 'a_example.com-2'."), "{}", output.stdout);
    assert_eq!((auth(&space, "a_example.com"), auth(&space, "a_example.com-2")), (key.to_owned(), login));
}

/// Codex revokes the token at the server, and with it every copy.
#[test]
fn a_logout_ends_no_other_copy_of_the_login() {
    let mut space = TestSpace::new("logout-shared");
    let codex = fake(&mut space, "[ \"$1\" = logout ] && rm \"$CODEX_HOME/auth.json\"; exit 0");
    let login = login_file("a", "u", "a@example.com", "rt-1");
    write_private(&space.codex_home().join("auth.json"), &login);
    space.prodex(&["profile", "import-current", "main"]).output().expect(0);
    let refused = |what: &str| {
        let error = space.prodex(&["logout", "-p", "main"]).output().expect(1).stderr;
        let said = error.contains(what) && error.contains("`prodex login -p main` first") && error.lines().count() == 1;
        assert!(said && !error.contains("rt-1"), "{error}");
        assert!(codex.calls().is_empty());
    };
    refused("/.codex holds the same login as profile 'main'");
    space.prodex(&["profile", "add", "copy", "--copy-current"]).output().expect(0);
    fs::remove_file(space.codex_home().join("auth.json")).expect("a login");
    refused("/profiles/copy holds the same login as profile 'main'");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt-2"));
    space.prodex(&["login", "-p", "main"]).output().expect(0);
    space.prodex(&["logout", "-p", "main"]).output().expect(0);
    assert!(!space.profile_home("main").join("auth.json").exists());
    assert_eq!(auth(&space, "copy"), login);
}

/// The browser logs in whom it knows, which is the account of the profile before.
#[test]
fn the_same_account_once_more_is_said() {
    let mut space = TestSpace::new("login-twin");
    let _codex = fake(&mut space, "exit 0");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt-1"));
    space.prodex(&["login"]).output().expect(0);
    space.prodex(&["profile", "add", "second"]).output().expect(0);
    next_login(&space, &login_file("a", "u", "a@example.com", "rt-2"));
    let twice = |profile: &str| space.prodex(&["login", "-p", profile]).output().expect(0).stderr;
    let said = twice("second");
    assert!(said.contains("profile 'a_example.com' is this account already") && said.lines().count() == 1, "{said}");
    next_login(&space, &login_file("b", "u", "a@example.com", "rt-3"));
    assert!(!twice("second").contains("already"), "another workspace");
    assert!(twice("second").is_empty(), "its own account again");
}

/// While codex logs in, the name goes to a home of somebody else's.
#[test]
fn the_email_of_a_login_is_its_homes_and_not_its_names() {
    let mut space = TestSpace::new("login-renamed");
    space.profiles(&["main"]);
    let go = space.root().join("go");
    let _codex = fake(&mut space, &format!("echo browser\nwhile [ ! -e '{}' ]; do sleep 0.02; done", go.display()));
    next_login(&space, &login_file("a", "u", "new@example.com", "rt"));
    let login = space.prodex(&["login", "-p", "main"]).start();
    let until = Instant::now() + SHORT;
    while !login.stdout().contains("browser") {
        assert!(Instant::now() < until, "{}", login.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    let other = space.root().join("other").display().to_string();
    space.prodex(&["profile", "remove", "main"]).output().expect(0);
    space.prodex(&["profile", "add", "main", "--codex-home", &other]).output().expect(0);
    fs::write(&go, "").expect("a file");
    login.wait(SHORT);
    assert!(!state(&space).contains("new@example.com"), "{}", state(&space));
}

#[test]
fn a_missing_home_is_said_and_made_again_by_a_login() {
    let mut space = TestSpace::new("login-homeless");
    let _codex = fake(&mut space, "exit 0");
    let external = space.root().join("external");
    space.profiles(&["main"]);
    space.prodex(&["profile", "add", "ext", "--codex-home", external.to_str().expect("UTF-8")]).output().expect(0);
    fs::remove_dir(&external).expect("an empty home");
    fs::remove_dir_all(space.profile_home("main")).expect("a home");
    let list = space.prodex(&["profile", "list"]).output().expect(0).stdout;
    let flat = list.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("Its home is missing: put it back, log in anew with `prodex login -p main`, or"), "{list}");
    assert!(
        flat.contains("Its home is missing: put it back, or forget it with `prodex profile remove ext`."),
        "{list}"
    );
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    for args in [&["login", "-p", "ext"][..], &["logout", "main"], &["login", "-p", "main", "status"]] {
        let error = space.prodex(args).output().expect(1).stderr;
        assert!(error.contains("does not exist. Put it back, or forget the profile"), "{args:?}: {error}");
    }
    space.prodex(&["login", "-p", "main"]).output().expect(0);
    assert!(auth(&space, "main").contains("rt") && space.profile_home("main").join("sessions").is_symlink());
    assert_eq!(mode(&space.profile_home("main")), 0o700);
}

#[test]
fn a_second_profile_of_one_account_is_told_when_it_is_made() {
    let space = TestSpace::new("twins");
    write_private(&space.codex_home().join("auth.json"), &login_file("a", "u", "a@example.com", "rt"));
    let home = space.codex_home();
    let twin = "Warning: profile 'one' is this account already";
    for (args, told) in [
        (&["import-current", "one"][..], false),
        (&["import-current", "two"], true),
        (&["add", "three", "--copy-current"], true),
        (&["add", "four", "--codex-home", home.to_str().expect("UTF-8")], true),
        (&["add", "five"], false),
    ] {
        let output = space.prodex(&[&["profile"], args].concat()).output().expect(0);
        assert_eq!(output.stderr.starts_with(twin), told, "{args:?}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), usize::from(told), "{args:?}: {}", output.stderr);
    }
}

#[test]
fn an_interrupted_login_leaves_nothing() {
    let mut space = TestSpace::new("login-interrupted");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    let _codex = fake(&mut space, "echo open your browser\nexec sleep 60");
    let waiting = || {
        let running = space.prodex(&["login"]).start();
        let until = Instant::now() + SHORT;
        while !running.stdout().contains("open your browser") {
            assert!(Instant::now() < until, "{}", running.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    };
    let interrupted = waiting();
    interrupted.signal_group("INT");
    assert_eq!(interrupted.wait(SHORT).code(), 130);
    assert_eq!(profiles(&space), [""; 0]);
    let ended = waiting();
    ended.signal("TERM");
    assert_eq!(ended.wait(SHORT).code(), 143);
    assert_eq!(profiles(&space), [""; 0]);
    // Killed, it can clean up nothing: the next command does, whichever it is, and not in the home of the living.
    for next in [&["profile", "list"][..], &["current"], &["login", "status"]] {
        let (killed, living) = (waiting(), waiting());
        assert_eq!(profiles(&space).len(), 2);
        killed.signal("KILL");
        killed.wait(SHORT);
        let left = space.prodex(next).output();
        assert_eq!(profiles(&space).len(), 1, "{next:?}: {left:?}");
        living.signal_group("INT");
        living.wait(SHORT);
        assert_eq!(profiles(&space), [""; 0], "{next:?}");
    }
}

#[test]
fn killed_at_any_instant_a_login_is_whole_or_swept() {
    let mut space = TestSpace::new("login-killed");
    let _codex = fake(&mut space, "exit 0");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt-first"));
    let took = space.prodex(&["login"]).output().expect(0).took;
    for instant in 0..50_u32 {
        // By turns an account that is known, and a new one.
        let account = if instant % 2 == 0 { "a".to_owned() } else { format!("n{instant}") };
        next_login(&space, &login_file(&account, "u", "a@example.com", &format!("rt-{instant}")));
        let running = space.prodex(&["login"]).start();
        std::thread::sleep(took * instant / 45);
        running.signal("KILL");
        // The false codex ends with its parent, or a moment later.
        running.wait(SHORT);
        let output = space.prodex(&["profile", "list"]).output().expect(0);
        assert_eq!(output.stderr, "", "{instant}");
        for profile in profiles(&space) {
            let home = space.profile_home(&profile);
            assert!(!profile.starts_with('.'), "{instant}: {profile}");
            assert!(Json::parse(auth(&space, &profile).as_bytes()).is_some(), "{instant}: {profile}");
            for file in names(&home).iter().filter(|name| name.contains("auth")) {
                assert_eq!(mode(&home.join(file)), 0o600, "{instant}: {file}");
            }
        }
    }
    // What was cut off between writing and renaming goes with the next login.
    next_login(&space, &login_file("a", "u", "a@example.com", "rt-last"));
    space.prodex(&["login"]).output().expect(0);
    assert!(auth(&space, "a_example.com").contains("rt-last"));
    assert_eq!(stray(&space.profile_home("a_example.com")), [""; 0]);
}

fn stray(home: &Path) -> Vec<String> {
    names(home).into_iter().filter(|name| name.starts_with(".auth-")).collect()
}

#[test]
fn clear_answers_where_no_login_can_be() {
    let mut space = TestSpace::new("login-answers");
    let codex = fake(&mut space, "exit 0");
    let key = space.prodex(&["login", "--with-api-key"]).stdin(b"sk-x").output().expect(2);
    assert!(key.stderr.contains("prodex login -p NAME --with-api-key"), "{}", key.stderr);
    let unknown = space.prodex(&["login", "-p", "new"]).output().expect(1);
    assert!(unknown.stderr.contains("prodex profile add new"), "{}", unknown.stderr);
    let invalid = space.prodex(&["login", "-p", "../x"]).output().expect(1);
    assert!(invalid.stderr.contains("path separators"), "{}", invalid.stderr);
    let nobody = space.prodex(&["login", "status"]).output().expect(1);
    assert!(nobody.stderr.contains("no profile yet"), "{}", nobody.stderr);
    assert_eq!(codex.calls().len(), 0);
    assert_eq!(profiles(&space), [""; 0]);

    // Into a profile by name goes any account; another one than before is worth a word.
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    space.prodex(&["profile", "add", "one"]).output().expect(0);
    assert_eq!(space.prodex(&["login", "-p", "one"]).output().expect(0).stderr, "");
    next_login(&space, &login_file("b", "u", "b@example.com", "rt"));
    let moved = space.prodex(&["login", "-p", "one"]).output().expect(0);
    assert!(moved.stderr.contains("b@example.com, not a@example.com"), "{}", moved.stderr);
}

#[test]
fn a_login_in_the_keyring_is_named() {
    let mut space = TestSpace::new("login-keyring");
    for (setting, words) in [("keyring", "is in the system's keyring"), ("auto", "may be in the system's keyring")] {
        let config = format!("cli_auth_credentials_store = \"{setting}\"\n");
        fs::write(space.codex_home().join("config.toml"), config).expect("config.toml");
        let import = space.prodex(&["profile", "import-current", "k"]).output().expect(1);
        assert!(import.stderr.contains(words) && import.stderr.contains("`prodex login`"), "{}", import.stderr);
        assert_eq!(profiles(&space), [""; 0]);
    }
    // A managed home with that setting: its login goes into a file all the same.
    space.prodex(&["profile", "add", "k", "--copy-current"]).output().expect(0);
    fs::write(space.profile_home("k").join("config.toml"), "cli_auth_credentials_store = \"keyring\"").expect("config");
    let list = space.prodex(&["profile", "list"]).output().expect(0).stdout;
    assert!(list.contains("keyring") && list.contains("`prodex login -p k`"), "{list}");
    let codex = fake(&mut space, "exit 0");
    next_login(&space, &login_file("a", "u", "a@example.com", "rt"));
    space.prodex(&["login", "-p", "k"]).output().expect(0);
    assert!(codex.calls()[0].args.contains(&"cli_auth_credentials_store=\"file\"".to_owned()));
    let external = space.root().join("external");
    space.prodex(&["profile", "add", "e", "--codex-home", external.to_str().expect("UTF-8")]).output().expect(0);
    space.prodex(&["login", "-p", "e"]).output().expect(0);
    assert_eq!(codex.calls().last().expect("a call").args, ["login"], "an external home is the user's own business");
}

#[test]
fn the_real_codex_takes_a_key_and_tells_its_status() {
    let mut space = TestSpace::new("login-real");
    space.env("PRODEX_CODEX_BIN", codex::real(codex::CURRENT).to_str().expect("UTF-8"));
    space.prodex(&["profile", "add", "a"]).output().expect(0);
    let all = |output: &Output| format!("{}{}", output.stdout, output.stderr);
    let status = space.prodex(&["login", "status"]).output().expect(1);
    assert!(all(&status).contains("Not logged in"), "{status:?}");
    let key = b"sk-test-0123456789abcdefghij\n";
    let login = space.prodex(&["login", "-p", "a", "--with-api-key"]).stdin(key).output().expect(0);
    assert!(login.stdout.contains("Logged in successfully for profile 'a'."), "{login:?}");
    assert_eq!(mode(&space.profile_home("a").join("auth.json")), 0o600);
    assert!(space.prodex(&["profile", "list"]).output().expect(0).stdout.contains("api-key"));
    let status = space.prodex(&["login", "status"]).output().expect(0);
    assert!(all(&status).contains("API key configured"), "{status:?}");
    space.prodex(&["login", "-p", "a", "--with-api-key"]).stdin(b"").output().expect(1);
    space.prodex(&["logout"]).output().expect(0);
    assert!(!space.profile_home("a").join("auth.json").exists());

    space.login("a", &token::auth_json("a"));
    let status = space.prodex(&["login", "status"]).output().expect(0);
    assert!(all(&status).contains("Logged in using ChatGPT"), "{status:?}");
    assert_eq!(profiles(&space), ["a"]);
}
