//! `prodex doctor` from outside: what is found in homes that are wrong, the self-check with the real codex and with false
//! ones, the log, the document.

use crate::support::codex::{self, Fake};
use crate::support::run::Output;
use crate::support::space::{TestSpace, write_private};
use crate::support::standin::backend::Backend;
use crate::support::standin::json::Json;
use crate::support::standin::script::Script;
use crate::support::standin::token;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

/// Answers `--version`; `exec` is what else it does (sh; `$3` and `$5` are unused, `$2` and `$4` the overrides).
fn fake(space: &TestSpace, exec: &str) -> Fake {
    Fake::new(space, &format!("if [ \"$1\" = --version ]; then echo 'codex-cli 9.8.7'; exit 0; fi\n{exec}"))
}

/// Sends a model request as the overrides say, with bash's own sockets.
const OBEYS: &str = r#"exec bash -c '
url=${4#*\"}; url=${url%\"*}; rest=${url#http://}; host=${rest%%/*}; path=/${rest#*/}
exec 3<>/dev/tcp/${host%:*}/${host#*:}
printf "POST %s/responses HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\n{}" "$path" "$host" >&3
cat <&3 >/dev/null; echo "ERROR: 400" >&2; exit 1' bash "$@""#;

/// Goes to its own idea of the backend, by the HTTP proxy that it finds in the environment.
const BYPASSES: &str = r#"exec bash -c '
rest=${HTTPS_PROXY#http://}
exec 3<>/dev/tcp/${rest%:*}/${rest#*:}
printf "CONNECT chatgpt.com:443 HTTP/1.1\r\nHost: chatgpt.com:443\r\n\r\n" >&3
cat <&3 >/dev/null; echo "ERROR: stream disconnected" >&2; exit 1' bash"#;

fn two() -> TestSpace {
    let mut space = TestSpace::new("doctor");
    space.profiles(&["main", "second"]);
    space.unset("HTTPS_PROXY");
    space.env("PRODEX_TERM_COLUMNS", "80");
    space
}

#[track_caller]
fn doctor(space: &TestSpace, args: &[&str]) -> Output {
    let output = space.prodex(&[&["doctor"], args].concat()).at_most(Duration::from_secs(40)).output().expect(0);
    assert_eq!(output.stderr, "");
    assert!(output.stdout.chars().all(|c| c == '\n' || !c.is_control()), "{}", output.stdout);
    for token in ["rt-main", "rt-second", &token::auth_json("main")[80..120]] {
        assert!(!output.stdout.contains(token), "{}", output.stdout);
    }
    output
}

#[track_caller]
fn document(space: &TestSpace, args: &[&str]) -> Json {
    let output = doctor(space, &[&["--json"], args].concat());
    let json = Json::parse(output.stdout.as_bytes()).unwrap_or_else(|| panic!("{}", output.stdout));
    assert_eq!(json.get("schema_version").and_then(Json::number), Some(1.0));
    json
}

/// `id` or `id:profile` of each finding.
fn ids(document: &Json) -> Vec<String> {
    let findings = document.get("findings").expect("findings").items();
    let text = |finding: &Json, name: &str| finding.get(name).and_then(Json::text).map(str::to_owned);
    let id = |finding: &Json| {
        assert!(!text(finding, "next").unwrap().is_empty());
        let id = text(finding, "id").unwrap();
        text(finding, "profile").map_or(id.clone(), |profile| format!("{id}:{profile}"))
    };
    findings.iter().map(id).collect()
}

fn at<'a>(document: &'a Json, path: &[&str]) -> &'a Json {
    path.iter().fold(document, |value, name| value.get(name).unwrap_or_else(|| panic!("no {name} of {path:?}")))
}

#[test]
fn real_codex_obeys_the_overrides_and_nothing_is_left() {
    let mut space = two();
    // What a user may have set must neither lead this codex out nor lend it a key.
    space.env("NO_PROXY", "*");
    space.env("OPENAI_API_KEY", "sk-real");
    space.env("PRODEX_CODEX_BIN", codex::real(codex::CURRENT).to_str().unwrap());
    let output = doctor(&space, &[]);
    assert!(output.stdout.starts_with("[ Findings ] "), "{}", output.stdout);
    assert!(output.stdout.contains("\nNothing is wrong.\n"), "{}", output.stdout);
    let row = format!("\nOverrides:          codex {} sends its model traffic through prodex\n", codex::CURRENT);
    assert!(output.stdout.contains(&row), "{}", output.stdout);
    assert!(output.took < Duration::from_secs(15), "{:?}", output.took);
    assert_eq!(fs::read_dir(space.tmp()).unwrap().count(), 0, "the throw-away home is gone");
    assert_eq!(fs::read_dir(space.codex_home()).unwrap().count(), 0, "the user's own home was not touched");
}

#[test]
fn an_older_real_codex_obeys_too() {
    let mut space = two();
    space.env("PRODEX_CODEX_BIN", codex::real("0.155.0").to_str().unwrap());
    let json = document(&space, &[]);
    assert_eq!(ids(&json), [""; 0]);
    assert!(matches!(at(&json, &["overrides", "works"]), Json::Bool(true)));
    assert_eq!(at(&json, &["environment", "codex", "version"]).text(), Some("0.155.0"));
}

#[test]
fn a_codex_that_obeys_is_called_as_run_calls_it() {
    let mut space = two();
    let fake = fake(&space, OBEYS);
    space.env("PRODEX_CODEX_BIN", fake.path());
    let json = document(&space, &[]);
    assert_eq!(ids(&json), [""; 0]);
    assert_eq!(at(&json, &["overrides", "transport"]).text(), Some("http"));
    let calls = fake.calls();
    let call = calls.iter().find(|call| call.args.len() > 1).unwrap();
    assert_eq!(&call.args[4..], ["exec", "--skip-git-repo-check", "hi"]);
    assert!(call.args[1].starts_with("chatgpt_base_url=\"http://127.0.0.1:"), "{:?}", call.args);
    assert_eq!(call.env["NO_PROXY"], "127.0.0.1,localhost,::1");
    assert!(call.env["CODEX_HOME"].starts_with(space.tmp().to_str().unwrap()));
}

#[test]
fn a_codex_that_goes_past_us_is_a_finding() {
    let mut space = two();
    let rows = [
        (BYPASSES, "codex 9.8.7 went past prodex: it wanted to reach chatgpt.com:443 (nothing came"),
        ("echo 'ERROR: no thanks' >&2; exit 3", "ended (exit status: 3) without a model request (nothing came"),
        ("exit 0", "ended (exit status: 0) without a model request"),
    ];
    for (exec, expected) in rows {
        let fake = fake(&space, exec);
        space.env("PRODEX_CODEX_BIN", fake.path());
        let json = document(&space, &[]);
        assert_eq!(ids(&json), ["overrides"], "{exec}");
        let text = at(&json, &["overrides", "text"]).text().unwrap();
        assert!(text.contains(expected), "{text}");
        let page = doctor(&space, &[]).stdout.replace("\n  ", " ");
        assert!(page.contains("`prodex run --no-auto-rotate`"), "{page}");
    }
}

#[test]
fn a_codex_that_hangs_is_killed_with_its_children() {
    let mut space = two();
    let fake = fake(&space, "sleep 300 & echo $! > \"$CODEX_HOME/../child\"; wait");
    space.env("PRODEX_CODEX_BIN", fake.path());
    let output = doctor(&space, &[]);
    assert!(output.took < Duration::from_secs(25), "{:?}", output.took);
    let page = output.stdout.replace("\n  ", " ");
    assert!(page.contains("sent no model request within 15 s"), "{page}");
    let child = fs::read_to_string(space.tmp().join("child")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    assert!(stat.is_err() || stat.unwrap().contains(") Z "), "the child lives");
}

#[test]
fn a_version_that_hangs_or_fails_is_a_finding() {
    let mut space = two();
    let rows =
        [("exit 4", "failed with exit code 4"), ("exit 0", "said nothing"), ("printf '\\033[2Jx y\\033[2J\\n'", "")];
    for (version, expected) in rows {
        let fake = Fake::new(&space, &format!("if [ \"$1\" = --version ]; then {version}; exit; fi\n{OBEYS}"));
        space.env("PRODEX_CODEX_BIN", fake.path());
        let page = doctor(&space, &[]).stdout;
        assert!(page.contains(expected), "{page}");
    }
    let hangs = Fake::new(&space, &format!("if [ \"$1\" = --version ]; then sleep 60; fi\n{OBEYS}"));
    space.env("PRODEX_CODEX_BIN", hangs.path());
    assert_eq!(ids(&document(&space, &["--runtime"])), ["codex_version"]);
}

#[test]
fn a_missing_directory_for_temporary_files_is_not_codexs_fault() {
    let mut space = two();
    let fake = Fake::new(&space, OBEYS);
    space.env("PRODEX_CODEX_BIN", fake.path());
    let missing = space.root().join("nowhere");
    space.env("TMPDIR", missing.to_str().unwrap());
    let found = document(&space, &[]);
    assert_eq!(ids(&found), ["no_tmpdir"]);
    let finding = &found.get("findings").unwrap().items()[0];
    let words = |name: &str| finding.get(name).and_then(Json::text).unwrap().to_owned();
    assert!(words("what").contains(missing.to_str().unwrap()) && words("next").contains("TMPDIR"));
    assert_eq!(fake.calls().len(), 0, "it was not tried");
}

#[test]
fn everything_that_is_wrong_is_a_line_with_the_next_command() {
    let mut space = TestSpace::new("doctor-wrong");
    space.env("PRODEX_CODEX_BIN", "no-such-codex");
    space.unset("HTTPS_PROXY");
    assert_eq!(ids(&document(&space, &[])), ["codex_missing", "no_profile"]);

    space.profiles(&["main", "second", "third", "fourth", "fifth", "sixth"]);
    assert_eq!(ids(&document(&space, &[])), ["codex_missing"]);
    let auth = |name: &str| space.profile_home(name).join("auth.json");
    fs::set_permissions(auth("main"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(space.profile_home("main").join("config.toml"), "model_provider = \"azure\"\n").unwrap();
    write_private(&auth("second"), &token::auth_json("main"));
    fs::remove_file(auth("third")).unwrap();
    fs::write(space.profile_home("third").join("config.toml"), "cli_auth_credentials_store = \"keyring\"\n").unwrap();
    write_private(&auth("fourth"), "{ torn");
    symlink(space.root().join("nowhere"), space.profile_home("fourth").join("archived_sessions")).unwrap();
    fs::remove_dir_all(space.profile_home("fifth")).unwrap();
    fs::rename(auth("sixth"), space.root().join("auth")).unwrap();
    symlink(space.root().join("auth"), auth("sixth")).unwrap();
    space.env("HTTPS_PROXY", "socks5://user:secret@proxy:1");
    let expected = [
        "codex_missing",
        "home_missing:fifth",
        "login_unusable:fourth",
        "links:fourth",
        "auth_mode:main",
        "foreign_provider:main",
        "auth_link:sixth",
        "keyring:third",
        "same_login:second",
        "http_proxy",
    ];
    assert_eq!(ids(&document(&space, &[])), expected);
    for columns in [40, 80, 120] {
        space.env("PRODEX_TERM_COLUMNS", &columns.to_string());
        let page = doctor(&space, &[]).stdout;
        assert!(page.lines().all(|line| line.chars().count() <= columns), "{columns}\n{page}");
        assert!(!page.contains("secret"), "{page}");
        let flat = page.split_whitespace().collect::<String>();
        for next in ["prodexprofileremovefifth", "chmod600", "npminstall-g@openai/codex", "prodexlogin-psecond"] {
            assert!(flat.contains(next), "{columns} {next}\n{page}");
        }
    }
    fs::write(space.state_file(), "{\"profiles\": {").unwrap();
    let found = ids(&document(&space, &[]));
    assert_eq!(found[..2], ["codex_missing", "state_broken"], "{found:?}");
    fs::remove_file(space.state_file()).unwrap();
    fs::create_dir(space.state_file()).unwrap();
    assert_eq!(ids(&document(&space, &[]))[1], "state_unreadable");
}

#[test]
fn fix_says_each_step_and_leaves_what_is_not_ours() {
    let space = two();
    let fix = || space.prodex(&["doctor", "--fix"]).output().expect(0).stdout;
    let first = fix();
    assert!(first.lines().all(|line| line.starts_with("fixed: ")), "links and modes of a hand-made home: {first}");
    assert!(fix().starts_with("Nothing to fix."), "and then nothing");

    let open = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (main, second) = (space.profile_home("main"), space.profile_home("second"));
    open(&main, 0o755);
    open(&main.join("auth.json"), 0o644);
    open(&space.state_file(), 0o664);
    // A link that leads elsewhere, one that is gone, a real directory with a thread in it where the shared one has that name.
    fs::remove_file(second.join("sessions")).unwrap();
    symlink("/nowhere", second.join("sessions")).unwrap();
    fs::remove_file(second.join("history.jsonl")).unwrap();
    symlink("/nowhere", second.join("state_9.sqlite")).unwrap();
    fs::remove_file(second.join("attachments")).unwrap();
    fs::create_dir(second.join("attachments")).unwrap();
    fs::write(second.join("attachments/mine"), "mine").unwrap();
    fs::write(space.codex_home().join("attachments/mine"), "theirs").unwrap();
    // Somebody else's home.
    let external = space.root().join("external");
    fs::create_dir(&external).unwrap();
    write_private(&external.join("auth.json"), &token::auth_json("third"));
    open(&external.join("auth.json"), 0o644);
    space.prodex(&["profile", "add", "ext", "--codex-home", external.to_str().unwrap()]).output().expect(0);

    // What died: a home that was being built, temporary files, a refresh that was not finished.
    let dead = space.prodex_home().join("profiles/.new+1+0");
    fs::create_dir(&dead).unwrap();
    write_private(&dead.join("auth.json"), "{}");
    write_private(&space.prodex_home().join("bindings.log"), "");
    let names = ["state.json.tmp-1", "quota.json.tmp-1", "proxy-secret.tmp-1", "bindings.log.tmp-1"];
    let temps = names.map(|name| space.prodex_home().join(name));
    for temp in &temps {
        write_private(temp, "{");
    }
    for home in [&main, &external] {
        write_private(&home.join(".auth-abcdef"), "torn");
    }
    // A login that leads to a file of the user's.
    let led_to = space.root().join("led-to.json");
    fs::copy(second.join("auth.json"), &led_to).unwrap();
    open(&led_to, 0o644);
    fs::remove_file(second.join("auth.json")).unwrap();
    symlink(&led_to, second.join("auth.json")).unwrap();
    // Beside what is prodex's, a script of the user's.
    let script = space.prodex_home().join("backup.sh");
    fs::write(&script, "").unwrap();
    open(&script, 0o755);
    open(&space.state_file(), 0o664);
    let said = fix();
    for what in [
        "profiles/main is private (mode 0700, was 0755)",
        "main/auth.json is private (mode 0600, was 0644)",
        "state.json is private (mode 0600, was 0664)",
        "links of profile 'second' to the shared history: attachments, history.jsonl, sessions, state_9.sqlite",
        "external/.auth-abcdef is gone",
        "proxy-secret.tmp-1 is gone",
        "bindings.log.tmp-1 is gone",
        "moved aside, and kept: ",
        "profiles/main/.auth-abcdef is gone",
        "quota.json.tmp-1 is gone",
        "profiles/.new+1+0 is gone",
        "state.json.tmp-1 is gone",
    ] {
        let line = said.lines().find(|line| line.contains(what));
        assert!(line.is_some_and(|line| line.starts_with("fixed: ")), "{what}: {said}");
    }
    assert!(said.contains("left alone: ") && said.contains("because that home is yours: `chmod 600 "), "{said}");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(&led_to).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(!dead.exists() && !temps.iter().any(|temp| temp.exists()));
    let aside = fs::read_dir(&second)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("attachments.aside-"));
    assert_eq!(fs::read_to_string(aside.expect("kept").path().join("mine")).unwrap(), "mine");
    let again = fix();
    assert!(again.lines().count() == 1 && again.starts_with("left alone: "), "{again}");

    // A torn state comes back from its copy; without one nothing is invented.
    let whole = fs::read(space.state_file()).unwrap();
    fs::write(space.state_file(), &whole[..whole.len() / 2]).unwrap();
    assert!(fix().contains("state.json is the last good one again"));
    assert_eq!(fs::read(space.state_file()).unwrap(), whole);
    fs::write(space.state_file(), "{").unwrap();
    fs::remove_file(space.prodex_home().join("state.json.last-good")).unwrap();
    assert!(fix().contains("because it is torn and there is no good copy"));
    assert_eq!(fs::read_to_string(space.state_file()).unwrap(), "{");
}

#[test]
fn homes_that_codex_cannot_read_and_that_nobody_has() {
    let mut space = two();
    let fake = fake(&space, OBEYS);
    space.env("PRODEX_CODEX_BIN", fake.path());
    assert_eq!(ids(&document(&space, &[])), [""; 0]);
    fs::create_dir(space.profile_home("main").join("config.toml")).unwrap();
    fs::write(space.profile_home("second").join("config.toml"), "a = 1\nmodel = gpt-5\n").unwrap();
    // Without an entry: with a login, with none, one that could not be a profile; and what is left of one that was deleted.
    space.login("lost", &token::auth_json("lost"));
    fs::create_dir(space.profile_home("empty")).unwrap();
    fs::create_dir(space.profile_home("a b")).unwrap();
    fs::create_dir(space.profile_home("husk")).unwrap();
    symlink(space.codex_home().join("sessions"), space.profile_home("husk").join("sessions")).unwrap();
    let found = document(&space, &[]);
    assert_eq!(ids(&found), ["config_broken:main", "config_broken:second", "home_of_nobody"]);
    let page = doctor(&space, &[]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "main/config.toml cannot be read: not a regular file",
        "second/config.toml cannot be read: line 2: a text without its \"quotes\"; codex does not start in profile 'second'",
        "profiles: a b, empty, lost (with a login)",
        "`prodex profile add empty`",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    space.prodex(&["profile", "add", "lost"]).output().expect(0);
    assert!(!doctor(&space, &[]).stdout.contains("lost (with"));
}

#[test]
fn one_profile_means_no_rotation() {
    let mut space = TestSpace::new("doctor-one");
    space.profiles(&["main"]);
    space.unset("HTTPS_PROXY");
    let fake = fake(&space, OBEYS);
    space.env("PRODEX_CODEX_BIN", fake.path());
    assert_eq!(ids(&document(&space, &[])), ["no_rotation"]);
}

#[test]
fn quotas_and_refused_logins() {
    let backend = Backend::start(Script::new(&["main"]));
    let mut space = TestSpace::with_profiles("doctor-quota", &["main", "second"], &backend);
    space.unset("HTTPS_PROXY");
    let fake = fake(&space, "exit 1");
    space.env("PRODEX_CODEX_BIN", fake.path());
    let json = document(&space, &["--quota"]);
    assert_eq!(ids(&json), ["login_refused:second"]);
    let profiles = at(&json, &["profiles"]).items();
    assert_eq!(at(&profiles[0], &["quota", "status"]).text(), Some("ready"));
    assert_eq!(at(&profiles[1], &["quota", "status"]).text(), Some("error"));
    let page = doctor(&space, &["--quota"]).stdout;
    assert!(page.contains("\nQuota:     Ready\nMain:      "), "{page}");
    assert!(fake.calls().iter().all(|call| call.args == ["--version"]), "who asks for quotas does not wait for codex");
}

#[test]
fn the_log_of_the_last_run() {
    let mut space = two();
    let fake = fake(&space, "exit 1");
    space.env("PRODEX_CODEX_BIN", fake.path());
    let page = doctor(&space, &["--runtime"]).stdout;
    assert!(page.contains("there is no runtime log yet") && page.contains("`prodex run` writes one"), "{page}");
    assert!(page.contains("\nNothing is wrong.\n"), "{page}");

    let log = space.tmp().join("prodex-runtime-1-1.log");
    let stamp = "[2026-11-25 07:16:03.123 +00:00]";
    let lines = [
        "runtime proxy started listen_addr=127.0.0.1:1",
        "request=1 transport=http quota_blocked profile=main reason=quota",
        "profile_retry_backoff profile=main until=1795575061",
        "profile_commit profile=second switched=true",
        "request=1 transport=http exchange profile=second status=200 attempts=2 commit_ms=30 first_ms=31 bytes=7 end=whole",
        "request=2 transport=http stream_read_error profile=second error=\u{1b}[2J\u{9b}2J",
    ];
    let text: String = lines.iter().flat_map(|line| [stamp, " ", line, "\n"]).collect();
    fs::write(&log, format!("{text}torn [2026")).unwrap();
    fs::write(space.tmp().join("prodex-runtime-latest.path"), format!("{}\n", log.display())).unwrap();
    let json = document(&space, &["--runtime"]);
    assert_eq!(ids(&json), ["runtime"]);
    let number = |path: &[&str]| at(&json, &[&["runtime"], path].concat()).number();
    assert_eq!((number(&["lines"]), number(&["foreign_lines"]), number(&["moves"])), (Some(6.0), Some(1.0), Some(1.0)));
    assert_eq!((number(&["counts", "stream_read_errors"]), number(&["commit_ms", "p99"])), (Some(1.0), Some(30.0)));
    assert_eq!(number(&["markers", "profile_retry_backoff"]), Some(1.0));
    assert_eq!(at(&json, &["runtime", "diagnosis", "id"]).text(), Some("stream_read_errors"));
    let page = doctor(&space, &["--runtime"]).stdout;
    assert!(page.contains("\nStream read errors: 1\n") && !page.contains("Bounces"), "{page}");
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("Diagnosis: answers broke off on their way from the backend. Next step: "), "{page}");

    // A link is not followed.
    fs::remove_file(&log).unwrap();
    symlink(space.state_file(), &log).unwrap();
    assert_eq!(ids(&document(&space, &["--runtime"])), ["runtime_log"]);
}

#[test]
fn a_closed_pipe_is_quiet() {
    let space = two();
    let script = format!("'{}' doctor --runtime | true; echo \"${{PIPESTATUS[0]}}\"", env!("CARGO_BIN_EXE_prodex"));
    for _ in 0..5 {
        let output = space.run("bash", &["-c", &script]).output().expect(0);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("0\n", ""));
    }
}
