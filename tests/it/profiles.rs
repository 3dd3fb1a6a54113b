//! Profiles from outside: what is on the disk after each command, and after a death at any instant.

use crate::support::behind::until;
use crate::support::standin::json::Json;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A HOME of its own, gone afterwards.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("prodex-it-{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).expect("a home");
        Home(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in the home")).expect("directories");
        fs::write(path, text).expect("a file");
    }

    fn state(&self) -> String {
        fs::read_to_string(self.path(".prodex/state.json")).expect("state.json")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prodex"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(args).env_clear().env("HOME", &self.0).env("PATH", path).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("prodex runs")
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("output is text")
    }

    #[track_caller]
    fn fails(&self, args: &[&str], what: &str) {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(what) && stderr.lines().count() == 1, "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("a directory").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    /// A codex that writes down how it was called, logs in as the given e-mail, and does `then`.
    fn fake_codex(&self, email: &str, then: &str) {
        let auth = auth_json(email);
        let script = format!(
            "#!/bin/sh\necho \"$CODEX_HOME|$*\" >> '{}'\n[ \"$1\" = login ] && printf '%s' '{auth}' > \"$CODEX_HOME/auth.json\"\n{then}\n",
            self.path("calls").display()
        );
        self.write("bin/codex", &script);
        fs::set_permissions(self.path("bin/codex"), fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn with_codex(&self, args: &[&str]) -> Output {
        self.command(args).env("PRODEX_CODEX_BIN", self.path("bin/codex")).output().expect("prodex runs")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Unsigned tokens are enough for codex and for us.
fn auth_json(email: &str) -> String {
    format!(
        r#"{{"auth_mode":"chatgpt","tokens":{{"id_token":"e30.{}.s","access_token":"t0ken","account_id":"acct"}}}}"#,
        URL_SAFE_NO_PAD.encode(format!(r#"{{"email":"{email}"}}"#))
    )
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("is there").permissions().mode() & 0o777
}

/// Whether this is the JSON of a state; a second prodex judges.
fn parses(home: &Home) -> bool {
    let output = home.run(&["profile", "list"]);
    output.status.success() && output.stderr.is_empty()
}

#[test]
fn from_the_first_profile_to_the_last() {
    let home = Home::new("life");
    assert!(home.ok(&["profile", "list"]).contains("No profiles configured."));
    assert!(!home.path(".prodex").exists(), "looking creates nothing");
    assert!(home.ok(&["current"]).contains("No active profile."));
    home.fails(&["use", "main"], "profile 'main' does not exist");

    let added = home.ok(&["profile", "add", "main"]);
    assert!(added.contains("Added profile 'main'.") && added.contains("prodex login -p main"), "{added}");
    home.ok(&["profile", "add", "second"]);
    assert!(home.ok(&["current"]).contains("main"));
    assert!(home.ok(&["use", "second"]).contains("Active profile: second"));
    assert!(home.ok(&["profile", "use", "-p", "main"]).contains("Active profile: main"));
    home.ok(&["profile", "add", "third", "--activate"]);
    assert!(home.ok(&["profile", "list"]).contains("Active:    third"));
    home.fails(&["profile", "add", "main"], "profile 'main' already exists");
    home.fails(&["profile", "add", "../x"], "path separators");

    let profiles = home.path(".prodex/profiles");
    for path in [home.path(".prodex"), profiles.clone(), profiles.join("main")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    for name in ["state.json", "state.json.last-good", "state.json.lock"] {
        assert_eq!(mode(&home.path(".prodex").join(name)), 0o600, "{name}");
    }
    let sessions = fs::read_link(profiles.join("main/sessions")).expect("a link");
    assert_eq!(sessions, home.path(".codex/sessions"));

    assert!(home.ok(&["profile", "remove", "third"]).contains("Active:       main"));
    assert!(profiles.join("third").is_dir(), "the home stays");
    assert!(home.ok(&["profile", "add", "third"]).contains("registered again"));
    assert!(home.ok(&["profile", "remove", "third", "--delete-home"]).contains("Yes ("));
    assert!(!profiles.join("third").exists() && home.path(".codex/sessions").is_dir());
    home.ok(&["profile", "remove", "main"]);
    assert!(home.ok(&["profile", "remove", "second"]).contains("cleared"));
    home.fails(&["profile", "remove", "second"], "does not exist");
}

#[test]
fn import_copies_the_login_links_the_history_and_warns_about_the_token() {
    let home = Home::new("import");
    home.fails(&["profile", "import-current"], "codex login");
    assert!(!home.path(".prodex/profiles/default").exists());
    home.write(".codex/auth.json", &auth_json("main@example.com"));
    home.write(".codex/config.toml", "model = \"x\"");
    home.write(".codex/history.jsonl", "{}\n");
    home.write(".codex/sessions/2026/r.jsonl", "{}\n");
    fs::create_dir_all(home.path(".codex/packages")).expect("a directory");
    symlink("/nonexistent", home.path(".codex/packages/current")).expect("a link");
    let text = home.ok(&["profile", "import-current", "main"]);
    assert!(text.contains("the same refresh token") && text.contains("prodex login -p main"), "{text}");
    let profile = home.path(".prodex/profiles/main");
    assert_eq!(mode(&profile.join("auth.json")), 0o600);
    assert!(!profile.join("auth.json").is_symlink() && profile.join("config.toml").is_file());
    assert!(!profile.join("packages").exists());
    assert_eq!(fs::read_link(profile.join("history.jsonl")).expect("a link"), home.path(".codex/history.jsonl"));
    let list = home.ok(&["profile", "list"]);
    for expected in ["Auth:      chatgpt", "Email:     main@example.com", "Kind:      managed", "Current:   Yes"] {
        assert!(list.contains(expected), "{list}");
    }
    assert!(home.state().contains("\"email\": \"main@example.com\""));
    assert!(home.ok(&["current"]).contains("main@example.com"));
}

#[test]
fn a_failing_import_leaves_nothing() {
    let home = Home::new("import-fail");
    home.write(".codex/config.toml", "");
    fs::create_dir_all(home.path(".codex/auth.json")).expect("a directory where the login should be");
    home.fails(&["profile", "import-current"], "auth.json");
    assert!(home.names(".prodex/profiles").is_empty());
    assert!(!home.path(".prodex/state.json").exists());
}

#[test]
fn external_homes_are_registered_and_never_deleted() {
    let home = Home::new("external");
    let mut relative = home.command(&["profile", "add", "ext", "--codex-home", "work/codex"]);
    assert!(relative.current_dir(&home.0).status().expect("prodex runs").success());
    assert_eq!(mode(&home.path("work/codex")), 0o700);
    assert!(home.state().contains(home.path("work/codex").to_str().expect("text")));
    assert!(home.names("work/codex").is_empty(), "no links in there");
    let same = home.path("work/../work/codex");
    home.fails(&["profile", "add", "x", "--codex-home", same.to_str().expect("text")], "already used by profile 'ext'");
    home.fails(&["profile", "remove", "ext", "--delete-home"], "external home");
    assert!(home.ok(&["profile", "list"]).contains("external"));
    home.ok(&["profile", "remove", "ext"]);
    assert!(home.path("work/codex").is_dir());
}

#[test]
fn a_home_outside_is_not_deleted_whatever_state_json_says() {
    let home = Home::new("outside");
    home.write("precious/file", "x");
    home.ok(&["profile", "add", "b"]);
    symlink(home.path("precious"), home.path(".prodex/profiles/link")).expect("a link");
    for path in [
        home.path("precious"),
        home.path(".prodex/profiles/link"),
        home.path(".prodex/profiles"),
        home.path(".prodex/profiles/../.."),
    ] {
        let path = path.to_str().expect("text");
        let entry = format!(r#"{{"profiles":{{"a":{{"codex_home":"{path}","managed":true}}}}}}"#);
        home.write(".prodex/state.json", &entry);
        home.fails(&["profile", "remove", "a", "--delete-home"], "not deleted");
        assert!(home.state().contains("\"a\"") && home.path("precious/file").is_file());
    }
}

/// A home grew history of its own (a codex without prodex, an older prodex), or all profiles have theirs in it.
#[test]
fn history_does_not_go_with_a_home() {
    let home = Home::new("remove-history");
    let entry = |name: &str| home.path(".prodex/profiles/a").join(name);
    let remove = ["profile", "remove", "a", "--delete-home"];
    home.ok(&["profile", "add", "a"]);
    for name in ["sessions", "worktrees"] {
        fs::remove_file(entry(name)).expect("a link");
        fs::create_dir(entry(name)).expect("a directory");
    }
    home.write(".prodex/profiles/a/worktrees/ab/work", "mine");
    home.write(".prodex/profiles/a/sessions/2026/11/25/thread", "mine");
    home.ok(&remove);
    for path in [".codex/worktrees/ab/work", ".codex/sessions/2026/11/25/thread"] {
        assert_eq!(fs::read_to_string(home.path(path)).expect("handed over"), "mine");
    }
    // Moved aside, now or before.
    home.ok(&["profile", "add", "a"]);
    fs::remove_file(entry("worktrees")).expect("a link");
    home.write(".prodex/profiles/a/worktrees/ab/work", "another");
    home.fails(&remove, "nothing was removed: ");
    home.fails(&remove, "/worktrees.aside-");
    assert!(home.state().contains("\"a\": {") && entry("sessions").is_symlink());
    home.ok(&["profile", "remove", "a"]);
    // What all share is in this home: by a link, or because it is the shared home.
    home.ok(&["profile", "add", "b"]);
    let shared = home.path(".prodex/profiles/b");
    fs::remove_dir_all(home.path(".codex")).expect("a directory");
    symlink(&shared, home.path(".codex")).expect("a link");
    home.write(".codex/sessions-are-here", "");
    home.fails(&["profile", "remove", "b", "--delete-home"], "nothing was removed: ");
    fs::remove_file(home.path(".codex")).expect("a link");
    fs::remove_file(shared.join("sessions")).expect("a link");
    home.write(".prodex/profiles/b/sessions/thread", "mine");
    fs::create_dir(home.path(".codex")).expect("a directory");
    symlink(shared.join("sessions"), home.path(".codex/sessions")).expect("a link");
    home.fails(&["profile", "remove", "b", "--delete-home"], "/profiles/b/sessions is history");
    assert!(shared.join("sessions/thread").is_file());
}

#[test]
fn a_home_of_0_2_38_is_taken_over_with_its_unknown_keys() {
    let home = Home::new("take-over");
    let sample = r#"{"active_profile":"main",
        "profiles":{"main":{"codex_home":"<PH>/profiles/main","managed":true,"email":null,"provider":{"provider_kind":"openai"}},
            "second":{"codex_home":"<PH>/profiles/second","managed":true,"email":"second@example.com"}},
        "last_run_selected_at":{"main":1795574904},
        "response_profile_bindings":{"resp_e54a9f6872":{"profile_name":"main","bound_at":1795574904}},
        "session_profile_bindings":{"SESS-1":{"profile_name":"second","bound_at":1795575129}},
        "unknown":{"keep":[1.50]}}"#
    .replace("<PH>", home.path(".prodex").to_str().expect("text"));
    home.write(".prodex/state.json", &sample);
    assert!(home.ok(&["profile", "list"]).contains("second@example.com"));
    home.ok(&["use", "second"]);
    // How it is laid out is the unit test's matter.
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let expected = bare(&sample).replacen(r#""active_profile":"main""#, r#""active_profile":"second""#, 1);
    // A choice is remembered as one.
    let state = bare(&home.state());
    let (begin, rest) = state.split_once(r#""last_run_selected_at":{"main":1795574904,"second":"#).expect("a choice");
    let (_, end) = rest.split_once('}').expect("a number and the end");
    assert_eq!(format!(r#"{begin}"last_run_selected_at":{{"main":1795574904}}{end}"#), expected);
    assert_eq!(mode(&home.path(".prodex/state.json")), 0o600);
    home.ok(&["profile", "remove", "second"]);
    let state = home.state();
    assert!(!state.contains("SESS-1") && state.contains("resp_e54") && state.contains("provider_kind"), "{state}");
}

#[test]
fn a_torn_state_is_reported_kept_and_replaced_by_the_copy() {
    let home = Home::new("torn");
    home.ok(&["profile", "add", "one"]);
    home.ok(&["profile", "add", "two"]);
    let whole = home.state();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        let torn = &whole[..cut];
        home.write(".prodex/state.json", torn);
        let output = home.run(&["profile", "list"]);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stdout.contains("one") && stdout.contains("two"), "{stdout}");
        assert!(stderr.contains(".prodex/state.json") && stderr.contains("byte"), "{stderr}");
        assert_eq!(home.state(), torn, "looking changes nothing");
        home.ok(&["use", "two"]);
        assert!(parses(&home));
        let kept = home.names(".prodex").into_iter().filter(|name| name.contains(".broken-"));
        let kept: Vec<_> =
            kept.map(|name| fs::read_to_string(home.path(".prodex").join(name)).expect("kept")).collect();
        assert!(kept.iter().any(|text| text == torn), "{kept:?}");
    }
}

#[test]
fn whatever_auth_json_holds_the_list_is_shown() {
    let home = Home::new("auth");
    home.ok(&["profile", "add", "a"]);
    let path = ".prodex/profiles/a/auth.json";
    let rows = [
        ("", "invalid-auth"),
        ("{\"tokens\":", "invalid-auth"),
        ("[[[[", "invalid-auth"),
        ("{}", "auth-present"),
        (r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-secret"}"#, "api-key"),
        (r#"{"tokens":{"access_token":"a\nb"}}"#, "invalid-auth"),
        ("{\"auth_mode\":\"\\u001b[2J\"}", "auth-present"),
    ];
    for (text, label) in rows {
        home.write(path, text);
        let list = home.ok(&["profile", "list"]);
        assert!(list.contains(&format!("Auth:      {label}\n")), "{text}: {list}");
        assert!(!list.contains("secret") && !list.contains('\u{1b}'));
    }
    home.write(path, &"[".repeat(1_000_000));
    assert!(home.ok(&["profile", "list"]).contains("invalid-auth"));
    home.write(path, &auth_json("evil\\u001b[2J@x\\u202e"));
    assert!(!home.ok(&["profile", "list"]).contains('\u{1b}'));
    let email = home.state().replace("\"email\": null", "\"email\": \"e\\u001b]0;x\\u0007\"");
    home.write(".prodex/state.json", &email);
    assert!(!home.ok(&["profile", "list"]).contains('\u{1b}'));
}

#[test]
fn twenty_at_once_lose_nobody() {
    let home = Home::new("twenty");
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    let start = |name: &String| {
        home.command(&["profile", "add", name]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("prodex")
    };
    let children: Vec<Child> = names.iter().map(start).collect();
    for child in children {
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let state = home.state();
    for name in &names {
        assert!(state.contains(&format!("\"{name}\"")), "{name}: {state}");
        assert!(home.path(".prodex/profiles").join(name).join("sessions").is_symlink(), "{name}");
    }
    assert_eq!(home.names(".prodex/profiles").len(), 20);
    assert_eq!(home.names(".prodex"), ["profiles", "state.json", "state.json.last-good", "state.json.lock"]);
}

#[test]
fn killed_at_any_instant_the_state_reads_and_the_next_command_works() {
    let home = Home::new("kill");
    home.ok(&["profile", "add", "first"]);
    let script = r#"i=0; while :; do i=$((i+1)); "$0" profile add "r$1-$i" >/dev/null || exit 1; done"#;
    for round in 0..50_u64 {
        // The loop leads its own process group: one signal ends it and the prodex of that instant.
        let mut looping = Command::new("sh");
        looping.args(["-c", script, env!("CARGO_BIN_EXE_prodex"), &round.to_string()]);
        looping.env_clear().env("HOME", &home.0).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut looping = std::os::unix::process::CommandExt::process_group(&mut looping, 0).spawn().expect("sh");
        // Not a timing that a result depends on: the instants are only meant to differ.
        std::thread::sleep(std::time::Duration::from_micros(3_000 + round * 709));
        let kill = Command::new("kill").args(["-KILL", "--", &format!("-{}", looping.id())]).status();
        assert!(kill.expect("kill").success());
        looping.wait().expect("an end");
        assert!(parses(&home), "round {round}: {}", home.state());
    }
    home.ok(&["profile", "add", "last"]);
    let state = home.state();
    assert!(state.contains("\"first\"") && state.contains("\"last\""));
    // The last one that was killed may not be gone yet: as long as it holds its lock, its home is not left over.
    until("what the dead left is swept", || {
        home.ok(&["profile", "list"]);
        home.names(".prodex/profiles").iter().all(|name| !name.starts_with('.')).then_some(())
    });
    // A home without its entry is adopted, so no name is lost for good.
    for name in home.names(".prodex/profiles") {
        if !home.state().contains(&format!("\"{name}\"")) {
            home.ok(&["profile", "add", &name]);
        }
    }
}

#[test]
fn list_and_current_as_documents() {
    let home = Home::new("documents");
    let document = |args: &[&str]| Json::parse(home.ok(args).as_bytes()).expect("one JSON document");
    let empty = document(&["current", "--json"]);
    assert_eq!(empty.get("schema_version").and_then(Json::number), Some(1.0));
    assert_eq!((empty.get("active_profile"), empty.get("profile")), (Some(&Json::Null), Some(&Json::Null)));
    assert_eq!(document(&["profile", "list", "--json"]).get("profiles").map(|list| list.items().len()), Some(0));
    home.write(".codex/auth.json", &auth_json("a@example.com"));
    home.ok(&["profile", "import-current", "main"]);
    home.ok(&["profile", "add", "spare"]);
    let list = document(&["profile", "list", "--json"]);
    let told: Vec<Vec<&str>> = list
        .get("profiles")
        .expect("profiles")
        .items()
        .iter()
        .map(|profile| {
            let text = |name: &str| profile.get(name).and_then(Json::text).unwrap_or("-");
            vec![text("name"), text("kind"), text("auth"), text("email")]
        })
        .collect();
    assert_eq!(told, [["main", "managed", "chatgpt", "a@example.com"], ["spare", "managed", "no-auth", "-"]]);
    let current = document(&["current", "--json"]);
    assert_eq!(current.get("profile").and_then(|profile| profile.get("name")).and_then(Json::text), Some("main"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = Home::new("pipe");
    home.ok(&["profile", "add", "a"]);
    let mut child =
        home.command(&["profile", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("prodex");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert_eq!((child.wait().expect("an end").code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn login_and_logout_are_codex_in_the_home_of_the_profile() {
    let home = Home::new("login");
    home.ok(&["profile", "add", "a"]);
    home.ok(&["profile", "add", "b"]);
    home.fake_codex("b@example.com", "exit 0");
    let output = home.with_codex(&["login", "-p", "b", "--device-auth", "-p", "x"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Logged in successfully for profile 'b'."));
    let b = home.path(".prodex/profiles/b");
    let calls = || fs::read_to_string(home.path("calls")).expect("calls");
    assert_eq!(calls(), format!("{}|login -c cli_auth_credentials_store=\"file\" --device-auth -p x\n", b.display()));
    assert!(
        home.state().contains("\"email\": \"b@example.com\"") && home.state().contains("\"active_profile\": \"b\"")
    );
    assert_eq!(home.with_codex(&["logout"]).status.code(), Some(0));
    assert!(calls().ends_with(&format!("{}|logout -c cli_auth_credentials_store=\"file\"\n", b.display())));

    home.fake_codex("a@example.com", "exit 7");
    assert_eq!(home.with_codex(&["login", "-p", "a"]).status.code(), Some(7));
    assert!(home.state().contains("\"active_profile\": \"b\""), "a failed login changes nothing");
    home.fake_codex("a@example.com", "kill -TERM $$");
    assert_eq!(home.with_codex(&["logout", "a"]).status.code(), Some(143));
    let missing = home.command(&["logout", "a"]).env("PRODEX_CODEX_BIN", "/nonexistent").output().expect("prodex runs");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("PRODEX_CODEX_BIN"));
    assert!(home.with_codex(&["login", "-p", "nobody"]).status.code() == Some(1));
}
