//! `prodex quota` from outside: the binary against a small backend of its own that answers by token.

use crate::support::space::TestSpace;
use crate::support::standin::json::Json;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const READY: &str = r#"{"plan_type":"plus","email":"ready@example.com","rate_limit":{"allowed":true,"limit_reached":false,
  "primary_window":{"used_percent":37,"limit_window_seconds":18000,"reset_at":4102444800},
  "secondary_window":{"used_percent":12,"limit_window_seconds":604800,"reset_at":4102531200}}}"#;

const BLOCKED: &str = r#"{"plan_type":"plus","rate_limit":{"allowed":false,"limit_reached":true,
  "primary_window":{"used_percent":100,"limit_window_seconds":18000,"reset_at":4102444800},
  "secondary_window":{"used_percent":12,"limit_window_seconds":604800,"reset_at":4102531200}}}"#;

const WEEKLY_ONLY: &str = r#"{"plan_type":"team","rate_limit":{"allowed":true,
  "primary_window":{"used_percent":40.0,"limit_window_seconds":604800,"reset_at":4102531200},"secondary_window":null}}"#;

const FLOATS: &str = r#"{"plan_type":"pro","rate_limit":{
  "primary_window":{"used_percent":12.5,"limit_window_seconds":18000.0,"reset_at":"4102444800"}}}"#;

#[derive(Clone)]
enum Reply {
    Status(u16, String),
    /// Says nothing until as many others were answered, then hangs up.
    HangUntil(usize),
}

fn ok(body: &str) -> Reply {
    Reply::Status(200, body.to_owned())
}

#[derive(Default)]
struct Seen {
    answered: Mutex<usize>,
    changed: Condvar,
    heads: Mutex<Vec<String>>,
}

/// A temporary HOME with profiles, and the backend that knows their tokens.
struct Space {
    dir: PathBuf,
    base: String,
    seen: Arc<Seen>,
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Space {
    /// One profile for each reply; the first is the active one.
    fn new(profiles: &[(&str, Reply)]) -> Space {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("prodex-it-quota-{}-{number}", std::process::id()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/backend-api", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let replies = profiles.iter().map(|(name, reply)| (token(name), reply.clone())).collect();
        serve(listener, replies, Arc::clone(&seen));
        let space = Space { dir, base, seen };
        let mut entries = String::new();
        for (name, _) in profiles {
            let auth = format!(
                r#"{{"auth_mode":"chatgpt","tokens":{{"access_token":"{}","account_id":"acct-{name}"}}}}"#,
                token(name)
            );
            space.auth(name, Some(&auth));
            let home = space.home(name);
            let _ = write!(
                entries,
                r#"{}"{name}":{{"codex_home":"{}","managed":true,"email":"{name}@example.com"}}"#,
                if entries.is_empty() { "" } else { "," },
                home.display()
            );
        }
        let active = profiles[0].0;
        let state = format!(r#"{{"active_profile":"{active}","profiles":{{{entries}}}}}"#);
        std::fs::write(space.dir.join("prodex/state.json"), state).unwrap();
        space
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.join("prodex/profiles").join(name)
    }

    /// Puts this auth.json into the profile's home, or none.
    fn auth(&self, name: &str, auth: Option<&str>) {
        let home = self.home(name);
        std::fs::create_dir_all(&home).unwrap();
        match auth {
            Some(auth) => std::fs::write(home.join("auth.json"), auth).unwrap(),
            None => std::fs::remove_file(home.join("auth.json")).unwrap(),
        }
    }

    fn command(&self, args: &[&str], columns: usize) -> Command {
        let mut command = self.prodex(columns);
        command.arg("quota").args(args);
        command
    }

    fn prodex(&self, columns: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prodex"));
        command.env_clear().stdin(Stdio::null());
        command.env("HOME", &self.dir).env("PRODEX_HOME", self.dir.join("prodex")).env("TZ", "UTC");
        command.env("CODEX_CHATGPT_BASE_URL", &self.base).env("PRODEX_TERM_COLUMNS", columns.to_string());
        command
    }

    /// Exit code, stdout, stderr; checked for what no output may ever hold.
    fn run(&self, args: &[&str], columns: usize) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(args, columns).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        for text in [&stdout, &stderr] {
            assert!(!text.contains("secret-token") && !text.contains('\x1b'), "{text}");
        }
        (status.code().unwrap(), stdout, stderr)
    }
}

/// Without what tells how long until a reset: gauges and the pool. How they look is `screens.rs`'s.
fn steady((code, stdout, stderr): (i32, String, String)) -> (i32, String, String) {
    let gauge = |line: &&str| !line.contains("##") && !line.contains("--- ");
    let lines: Vec<&str> = stdout.lines().take_while(|line| !line.starts_with("Pool:")).filter(gauge).collect();
    (code, lines.join("\n").trim_end().to_owned() + "\n", stderr)
}

fn token(name: &str) -> String {
    format!("secret-token-of-{name}")
}

/// Answers every request by its token, until the test process ends.
fn serve(listener: TcpListener, replies: HashMap<String, Reply>, seen: Arc<Seen>) {
    let replies = Arc::new(replies);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (replies, seen) = (Arc::clone(&replies), Arc::clone(&seen));
            std::thread::spawn(move || answer(stream, &replies, &seen));
        }
    });
}

fn answer(mut stream: TcpStream, replies: &HashMap<String, Reply>, seen: &Seen) {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(taken) => head.extend_from_slice(&chunk[..taken]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let token = head.lines().find_map(|line| line.strip_prefix("Authorization: Bearer ")).unwrap_or_default();
    let reply = replies.get(token).cloned();
    seen.heads.lock().unwrap().push(head.clone());
    match reply.unwrap_or(Reply::Status(401, String::new())) {
        Reply::Status(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that refuses a body of 10 MB hangs up in the middle.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            *seen.answered.lock().unwrap() += 1;
            seen.changed.notify_all();
        }
        Reply::HangUntil(others) => {
            let answered = seen.answered.lock().unwrap();
            let _ = seen.changed.wait_timeout_while(answered, Duration::from_secs(30), |answered| *answered < others);
        }
    }
}

#[test]
fn one_profile_as_a_panel() {
    let space = Space::new(&[("main", ok(READY))]);
    let expected = "\
[ Quota main ] =================================================================
Profile:   main
Account:   main@example.com
Plan:      plus
Status:    Ready
Main:      5h: 63% left (37% used), resets 2100-01-01 00:00 +00:00 |
           weekly: 88% left (12% used), resets 2100-01-02 00:00 +00:00
";
    assert_eq!(steady(space.run(&["--once"], 80)), (0, expected.to_owned(), String::new()));
    assert_eq!(steady(space.run(&["-p", "main", "--once"], 80)), (0, expected.to_owned(), String::new()));
    let heads = space.seen.heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].starts_with("GET /backend-api/wham/usage HTTP/1.1\r\n"), "{}", heads[0]);
    for header in ["ChatGPT-Account-Id: acct-main", "User-Agent: codex-cli"] {
        assert!(heads[0].lines().any(|line| line == header), "{}", heads[0]);
    }
}

#[test]
fn another_base_has_the_other_path_and_no_account_id_is_no_header() {
    let space = Space::new(&[("main", ok(READY))]);
    space.auth("main", Some(r#"{"tokens":{"access_token":"secret-token-of-main"}}"#));
    let base = space.base.replace("/backend-api", "");
    assert_eq!(space.run(&["--once", "--base-url", &base], 80).0, 0);
    let head = space.seen.heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /api/codex/usage HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("account-id"), "{head}");
    let (code, stdout, stderr) = space.run(&["--base-url", "not a url"], 80);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("Error: the base URL 'not a url' cannot be used"), "{stderr}");
}

#[test]
fn all_profiles_as_a_table() {
    let profiles = [("main", ok(READY)), ("spent", ok(BLOCKED)), ("weekly", ok(WEEKLY_ONLY)), ("floats", ok(FLOATS))];
    let space = Space::new(&profiles);
    let expected = "\
[ Quota Overview ] =============================================================
PROFILE  CUR  AUTH     ACCOUNT             PLAN  REMAINING
--------------------------------------------------------------------------------
floats        chatgpt  floats@example.com  pro   5h 87% left
  status: Ready

main     *    chatgpt  main@example.com    plus  5h 63% left | weekly 88% left
  status: Ready

weekly        chatgpt  weekly@example.com  team  weekly 60% left
  status: Ready

spent         chatgpt  spent@example.com   plus  5h 0% left | weekly 88% left
  status: Blocked: 5h exhausted until 2100-01-01 00:00 +00:00
";
    assert_eq!(steady(space.run(&["--all", "--once"], 80)), (0, expected.to_owned(), String::new()));
    let (code, narrow, _) = space.run(&["--all", "--once", "--detail"], 40);
    assert_eq!(code, 0);
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    assert!(narrow.contains("*main    5h 63% left | weekly 88% left\n"), "{narrow}");
    assert!(narrow.contains("  resets: 5h 2100-01-01 00:00 +00:00 |\n  weekly 2100-01-02 00:00 +00:00\n"), "{narrow}");
}

#[test]
fn whatever_one_account_does_the_others_are_shown() {
    let html = "<!DOCTYPE html><html><body>Just a moment...</body></html>";
    let profiles = [
        ("ready", ok(READY)),
        ("hangs", Reply::HangUntil(9)),
        ("page", Reply::Status(503, html.to_owned())),
        ("page200", ok(html)),
        ("array", ok("[1,2]")),
        ("torn", ok(&READY[..100])),
        ("large", ok(&"x".repeat(10 * 1024 * 1024))),
        ("out", Reply::Status(401, r#"{"error":{"message":"Bad secret-token-of-out","code":"x"}}"#.to_owned())),
        ("limited", Reply::Status(429, r#"{"detail":"Slow\u001b[2J down"}"#.to_owned())),
        ("last", ok(WEEKLY_ONLY)),
        ("key", ok(READY)),
        ("none", ok(READY)),
        ("broken", ok(READY)),
    ];
    let space = Space::new(&profiles);
    space.auth("key", Some(r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-secret-token"}"#));
    space.auth("none", None);
    space.auth("broken", Some("{"));
    let (code, table, stderr) = space.run(&["--all", "--once"], 200);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(!table.contains("Just a moment"), "{table}");
    let status = |name: &str| {
        let mut lines = table.lines().skip_while(|line| !line.starts_with(&format!("{name} ")));
        let status = lines.find(|line| line.trim_start().starts_with("status: "));
        status.unwrap_or_else(|| panic!("no {name} in {table}")).trim().to_owned()
    };
    assert_eq!(status("ready"), "status: Ready");
    assert_eq!(status("last"), "status: Ready");
    assert!(status("hangs").starts_with("status: Error: no answer from 127.0.0.1:"), "{table}");
    assert!(status("page").starts_with("status: Error: HTTP 503 from 127.0.0.1:"), "{table}");
    assert_eq!(status("page200"), "status: Error: the quota backend's answer is not JSON");
    assert_eq!(status("array"), "status: Error: the quota backend's answer is not a JSON object");
    assert_eq!(status("torn"), "status: Error: the quota backend's answer is not JSON");
    assert!(status("large").contains("larger than 1048576 bytes"), "{table}");
    assert!(status("out").ends_with("Log in again: `prodex login -p out`"), "{table}");
    assert!(status("limited").ends_with(": Slow [2J down"), "{table}");
    assert_eq!(status("key"), "status: Error: no ChatGPT login (api-key)");
    assert_eq!(status("none"), "status: Error: no ChatGPT login (no-auth). Log in: `prodex login -p none`");
    assert!(status("broken").starts_with("status: Error: no ChatGPT login (invalid-auth: "), "{table}");
    assert_eq!(space.seen.heads.lock().unwrap().len(), 10, "no call without tokens");
}

#[test]
fn fifty_profiles_at_once() {
    let names: Vec<String> = (0..50).map(|n| format!("p{n:02}")).collect();
    let profiles: Vec<(&str, Reply)> = names.iter().map(|name| (name.as_str(), ok(READY))).collect();
    let space = Space::new(&profiles);
    let (code, table, _) = space.run(&["--all", "--once"], 80);
    assert_eq!((code, table.matches("status: Ready").count()), (0, 50), "{table}");
}

#[test]
fn raw_is_the_backends_own_json_sorted() {
    let body = r#"{"z":1.50,"rate_limit":{"b":[],"a":{}},"big":12345678901234567890,"s":"\u00e4\u2028/"}"#;
    let space = Space::new(&[("main", ok(body))]);
    let (code, stdout, stderr) = space.run(&["-p", "main", "--raw"], 80);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let expected = "{\n  \"big\": 12345678901234567890,\n  \"rate_limit\": {\n    \"a\": {},\n    \"b\": []\n  },\n  \
                    \"s\": \"ä\u{2028}/\",\n  \"z\": 1.50\n}\n";
    assert_eq!(stdout, expected);
}

#[test]
fn raw_of_all_is_one_object_and_exit_1_when_one_failed() {
    let small = r#"{"rate_limit":{"primary_window":null},"a":1}"#;
    let space = Space::new(&[("main", ok(small)), ("b", Reply::Status(401, String::new())), ("c", ok(small))]);
    let (code, stdout, stderr) = space.run(&["--all", "--raw", "--once"], 80);
    assert_eq!((code, stderr.as_str()), (1, ""));
    let host = space.base.trim_start_matches("http://").trim_end_matches("/backend-api");
    let usage = "{\n    \"a\": 1,\n    \"rate_limit\": {\n      \"primary_window\": null\n    }\n  }";
    let error = format!("HTTP 401 from {host}. Log in again: `prodex login -p b`");
    let expected =
        format!("{{\n  \"b\": {{\n    \"error\": \"{error}\"\n  }},\n  \"c\": {usage},\n  \"main\": {usage}\n}}\n");
    assert_eq!(stdout, expected);
    space.auth("b", Some(r#"{"tokens":{"access_token":"secret-token-of-c"}}"#));
    assert_eq!(space.run(&["--all", "--raw"], 80).0, 0);
}

#[test]
fn a_single_failure_is_one_line_on_stderr() {
    let space = Space::new(&[("main", Reply::Status(401, "<html>\n".repeat(1000)))]);
    let host = space.base.trim_start_matches("http://").trim_end_matches("/backend-api").to_owned();
    for args in [&["--once"][..], &["--raw"]] {
        let expected = format!(
            "Error: cannot read the quota of profile 'main': HTTP 401 from {host}. Log in again: `prodex login -p main`\n"
        );
        assert_eq!(space.run(args, 80), (1, String::new(), expected));
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base = format!("http://127.0.0.1:{port}/backend-api");
    let (code, stdout, stderr) = space.run(&["--once", "--base-url", &base], 80);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 1));
    assert!(stderr.contains(&format!("cannot connect to 127.0.0.1:{port}")), "{stderr}");
    assert_eq!(space.run(&["-p", "nobody"], 80).0, 1);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    // 700 KB of output, more than any pipe holds.
    let profiles: Vec<(String, Reply)> =
        (0..12).map(|n| (format!("p{n}"), ok(&format!("{{\"a\":\"{}\"}}", "y".repeat(60_000))))).collect();
    let profiles: Vec<(&str, Reply)> = profiles.iter().map(|(name, reply)| (name.as_str(), reply.clone())).collect();
    let space = Space::new(&profiles);
    let mut child =
        space.command(&["--all", "--raw"], 80).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn the_document_has_every_account_and_the_pool() {
    let space = Space::new(&[("main", ok(READY)), ("out", ok(BLOCKED)), ("bad", Reply::Status(500, "no".to_owned()))]);
    let (code, text, errors) = space.run(&["--all", "--json"], 80);
    assert_eq!((code, errors.as_str()), (0, ""), "an account that fails is in the document");
    let document = Json::parse(text.as_bytes()).expect("one JSON document");
    assert_eq!(document.get("schema_version").and_then(Json::number), Some(1.0));
    assert_eq!(document.get("active_profile").and_then(Json::text), Some("main"));
    let profiles = document.get("profiles").expect("profiles").items();
    let told = |of: &Json| -> Vec<String> {
        let quota = of.get("quota").expect("a quota");
        let text = |of: &Json, name: &str| of.get(name).and_then(Json::text).unwrap_or("-").to_owned();
        vec![text(of, "name"), text(quota, "status"), text(quota, "plan"), text(quota, "text")]
    };
    assert_eq!(told(&profiles[1]), ["main", "ready", "plus", "Ready"]);
    assert_eq!(told(&profiles[2]), ["out", "blocked", "plus", "Blocked: 5h exhausted until 2100-01-01 00:00 +00:00"]);
    assert_eq!(told(&profiles[0])[..3], ["bad", "error", "-"]);
    let window = &profiles[1].get("quota").and_then(|quota| quota.get("windows")).expect("windows").items()[0];
    for (member, number) in [("left_percent", 63.0), ("length_seconds", 18_000.0), ("resets_at", 4_102_444_800.0)] {
        assert_eq!(window.get(member).and_then(Json::number), Some(number), "{member}");
    }
    let pool = document.get("pool").expect("a pool");
    let number = |name: &str| pool.get(name).and_then(Json::number);
    assert_eq!([number("known"), number("ready"), number("left_percent")], [Some(2.0), Some(1.0), Some(88.0)]);
    assert_eq!(number("next_back_at"), Some(4_102_444_800.0));

    // What was known of an account that gives no answer now, or is disabled, does not count: a job relies on it.
    let pool_of = |space: &Space| {
        let text = space.run(&["--all", "--json"], 80).1;
        let document = Json::parse(text.as_bytes()).expect("one JSON document");
        let pool = document.get("pool").expect("a pool");
        ["known", "ready"].map(|name| pool.get(name).and_then(Json::number))
    };
    let auth = std::fs::read_to_string(space.home("main").join("auth.json")).unwrap();
    space.auth("main", None);
    assert_eq!(pool_of(&space), [Some(1.0), Some(0.0)]);
    space.auth("main", Some(&auth));
    assert_eq!(pool_of(&space), [Some(2.0), Some(1.0)]);
    assert!(space.prodex(80).args(["profile", "disable", "out"]).output().unwrap().status.success());
    assert_eq!(pool_of(&space), [Some(1.0), Some(1.0)]);

    let (code, text, _) = space.run(&["-p", "bad", "--json"], 80);
    let document = Json::parse(text.as_bytes()).expect("one JSON document");
    assert_eq!((code, document.get("profiles").expect("profiles").items().len()), (1, 1), "{text}");
    assert_eq!(space.run(&["--json", "--raw"], 80).0, 2);
}

#[test]
fn a_status_bar_shows_what_is_known_and_asks_nobody() {
    let space = Space::new(&[("main", ok(READY)), ("out", ok(BLOCKED))]);
    assert_eq!(space.run(&["--line"], 80), (0, "main not read yet\n".to_owned(), String::new()));
    space.run(&["--all", "--once"], 80);
    let asked = space.seen.heads.lock().unwrap().len();
    assert_eq!(space.run(&["--line"], 80).1, "main 5h 63% | weekly 88% | 1 of 2 ready\n");
    assert_eq!(space.run(&["--line", "-p", "out"], 80).1, "out 5h 0% | weekly 88% | 1 of 2 ready\n");
    assert_eq!(space.seen.heads.lock().unwrap().len(), asked);
    let age = space.dir.join("prodex/quota.json");
    let old = std::fs::read_to_string(&age).unwrap();
    let taken = old.split("\"taken_at\":").nth(1).and_then(|rest| rest.split(',').next()).unwrap().to_owned();
    let long_ago = (taken.parse::<u64>().unwrap() - 7_800).to_string();
    std::fs::write(&age, old.replace(&format!("\"taken_at\":{taken}"), &format!("\"taken_at\":{long_ago}"))).unwrap();
    assert_eq!(space.run(&["--line"], 80).1, "main 5h 63% | weekly 88% | 2h 10m ago | 1 of 2 ready\n");
}

#[test]
fn a_status_bar_gets_one_line_whatever_is_wrong() {
    let space = TestSpace::new("bar");
    let line = |args: &[&str], base: &str| {
        let run = space.prodex(&[&["quota", "--line"][..], args].concat()).env("CODEX_CHATGPT_BASE_URL", base);
        let output = run.output().expect(0);
        (output.stdout, output.stderr)
    };
    let said = |text: &str| (format!("prodex: {text}\n"), String::new());
    assert_eq!(line(&[], "http://127.0.0.1:9"), said("there is no profile yet"));
    space.profiles(&["main"]);
    assert_eq!(line(&[], "http://127.0.0.1:9").0, "main not read yet\n");
    assert_eq!(line(&["-p", "gone"], "http://127.0.0.1:9"), said("profile 'gone' does not exist"));
    let (bad, stderr) = line(&[], "not an address\nwith two lines");
    assert!(bad.starts_with("prodex: the base URL") && bad.lines().count() == 1 && stderr.is_empty(), "{bad}{stderr}");
    let state = std::fs::read_to_string(space.state_file()).unwrap();
    let vanished = state.replace("\"active_profile\": \"main\"", "\"active_profile\": \"gone\"");
    std::fs::write(space.state_file(), vanished).unwrap();
    assert_eq!(line(&[], "http://127.0.0.1:9").0, "prodex: active profile 'gone' no longer exists\n");
}

#[test]
fn profiles_are_shown_with_what_is_known_of_their_quota_and_nobody_is_asked() {
    let space = Space::new(&[("main", ok(READY)), ("out", ok(BLOCKED))]);
    let shown = |args: &[&str]| {
        let output = space.prodex(80).args(args).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(shown(&["current"]).contains("\nQuota:      not read yet: `prodex quota -p main`\n"));
    assert!(space.seen.heads.lock().unwrap().is_empty());
    space.run(&["--all", "--once"], 80);
    let asked = space.seen.heads.lock().unwrap().len();
    let current = shown(&["current"]);
    assert!(current.starts_with("[ Current Profile ] ===") && current.contains("\nProfile:    main\n"), "{current}");
    assert!(current.contains("\nQuota:      Ready; read "), "{current}");
    assert!(current.contains("\nMain:       5h 63% left | weekly 88% left\n"), "{current}");
    let list = shown(&["profile", "list"]);
    assert!(list.contains("\n\n[ Profile out ] ===") && list.contains("\nQuota:     Blocked: 5h exhausted"), "{list}");
    assert!(list.contains("\nMain:      5h 0% left | weekly 88% left\n"), "{list}");
    // Another account in the same profile: what was read is not its.
    space.auth("main", Some(r#"{"tokens":{"access_token":"secret-token-x","account_id":"other"}}"#));
    assert!(shown(&["current"]).contains("\nQuota:      not read yet"));
    space.auth("main", None);
    let list = shown(&["profile", "list"]);
    assert!(
        list.contains("\nNext:      Log in with `prodex login -p main`.\n") && !list.contains("not read yet"),
        "{list}"
    );
    assert_eq!(space.seen.heads.lock().unwrap().len(), asked);
}
