//! Refreshing against the stand-in's login server: once whoever calls, nothing lost whoever dies. No command does that
//! alone yet, so this one file uses the library, in processes of its own.

use super::{SHORT, auth, fake, mode, names, next_login, stray};
use crate::support::run::{Output, Run};
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Cut, Point};
use crate::support::standin::json::Json;
use crate::support::standin::record::Record;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use prodex::profile::refresh;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Not a test: the process that refreshes. This binary starts itself as such.
#[test]
#[ignore = "started by other tests"]
fn refresh_helper() {
    let Ok(home) = std::env::var("REFRESH_HOME") else { return };
    let rejected = std::env::var("REFRESH_REJECTED").unwrap_or_default();
    let patience = std::env::var("REFRESH_MS").map_or(10_000, |text| text.parse().expect("milliseconds"));
    let post: refresh::Post = &|url, headers, body, deadline| {
        let answer = prodex::net::fetch::post(url, headers, body, deadline, refresh::MAX_ANSWER);
        answer.map(|answer| (answer.status, answer.body)).map_err(|error| error.to_string())
    };
    let deadline = Instant::now() + Duration::from_millis(patience);
    let result = refresh::refresh(Path::new(&home), &rejected, token::unix_now(), deadline, post);
    println!("=> {result:?}");
}

fn refreshing(space: &TestSpace, home: &Path, rejected: &str) -> Run {
    let this = std::env::current_exe().expect("this test binary");
    space
        .run(this, &["login::refresh::refresh_helper", "--exact", "--ignored", "--nocapture"])
        .env("REFRESH_HOME", home.to_str().expect("UTF-8"))
        .env("REFRESH_REJECTED", rejected)
}

/// What the helper said.
fn verdict(output: &Output) -> String {
    let verdict = output.stdout.lines().find_map(|line| Some(line.split_once("=> ")?.1));
    verdict.unwrap_or_else(|| panic!("{output:?}")).to_owned()
}

fn asked(backend: &Backend) -> Vec<Record> {
    backend.records().into_iter().filter(|record| record.kind == Kind::Token).collect()
}

fn access_token(home: &Path) -> String {
    let text = fs::read(home.join("auth.json")).expect("a login");
    let json = Json::parse(&text).expect("JSON");
    json.get("tokens").and_then(|tokens| tokens.get("access_token")?.text().map(str::to_owned)).expect("a token")
}

fn one_profile(name: &str) -> (Backend, TestSpace, PathBuf) {
    let backend = Backend::start(Script::new(&["main"]));
    let space = TestSpace::with_profiles(name, &["main"], &backend);
    let home = space.profile_home("main");
    (backend, space, home)
}

#[test]
fn a_refresh_changes_tokens_and_nothing_else() {
    let (backend, space, home) = one_profile("refresh");
    let old = auth(&space, "main").replace("\"account_id\"", "\"new\": [1.0e5, \"\\u00e4\"],\n    \"account_id\"");
    space.login("main", &old);
    let rejected = access_token(&home);
    assert_eq!(verdict(&refreshing(&space, &home, &rejected).output()), "Ok(Here)");
    let [request] = &asked(&backend)[..] else { panic!("one request") };
    let body = r#"{"client_id":"app_EMoamEEZ73f0CkXaXp7hrann","grant_type":"refresh_token","refresh_reason":"unauthorized_recovery","refresh_token":"rt-main-0"}"#;
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    let header = |name: &str| request.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
    assert_eq!(header("content-type").expect("a type").1, "application/json");
    let new = auth(&space, "main");
    let changed = |(old, new): (&str, &str)| (old != new).then(|| new.split('"').nth(1).unwrap_or_default().to_owned());
    let changed: Vec<String> = old.lines().zip(new.lines()).filter_map(changed).collect();
    assert_eq!(changed, ["access_token", "refresh_token", "last_refresh"]);
    assert_eq!(old.lines().count(), new.lines().count());
    assert_eq!(mode(&home.join("auth.json")), 0o600);
    assert_eq!(stray(&home), [""; 0]);
    // Good for a day: nothing to do before it expires, and nothing for the token of before.
    assert_eq!(verdict(&refreshing(&space, &home, "").output()), "Ok(Elsewhere)");
    assert_eq!(verdict(&refreshing(&space, &home, &rejected).output()), "Ok(Elsewhere)");
    space.login("main", &token::auth_json_until("main", token::unix_now() + 60).replace("rt-main-0", "rt-main-x"));
    assert_eq!(verdict(&refreshing(&space, &home, "").output()), "Ok(Here)");
    assert_eq!(asked(&backend).len(), 2);
}

#[test]
fn of_eight_processes_one_asks() {
    let (backend, space, home) = one_profile("refresh-eight");
    backend.set("", Kind::Token, [Behave::ok().before(Duration::from_millis(300))]);
    let rejected = access_token(&home);
    let running: Vec<_> = (0..8).map(|_| refreshing(&space, &home, &rejected).start()).collect();
    let mut verdicts: Vec<String> = running.into_iter().map(|running| verdict(&running.wait(SHORT))).collect();
    verdicts.sort();
    assert_eq!(verdicts.remove(7), "Ok(Here)");
    assert!(verdicts.iter().all(|verdict| verdict == "Ok(Elsewhere)"), "{verdicts:?}");
    assert_eq!(asked(&backend).len(), 1);
}

#[test]
fn refused_for_good_it_says_log_in_again_until_somebody_does() {
    let (backend, mut space, home) = one_profile("refresh-reused");
    backend.revoke("rt-main-0");
    let rejected = access_token(&home);
    for _ in 0..3 {
        let verdict = verdict(&refreshing(&space, &home, &rejected).output());
        assert!(verdict.starts_with("Err(Permanent(\"its refresh token was used already"), "{verdict}");
    }
    assert_eq!(asked(&backend).len(), 1);
    for command in [&["profile", "list"][..], &["current"]] {
        let output = space.prodex(command).output().expect(0);
        assert!(output.stdout.contains("chatgpt, log in again: its refresh token was used already"), "{output:?}");
    }
    for file in names(&home).iter().filter(|name| name.starts_with(".prodex")) {
        assert_eq!(mode(&home.join(file)), 0o600);
        assert!(!fs::read_to_string(home.join(file)).expect("text").contains("rt-main"), "{file}");
    }
    let _codex = fake(&mut space, "exit 0");
    next_login(&space, &token::auth_json("main").replace("rt-main-0", "rt-main-y"));
    space.prodex(&["login"]).output().expect(0);
    assert!(!space.prodex(&["profile", "list"]).output().expect(0).stdout.contains("log in again"));
}

#[test]
fn a_login_server_in_trouble_changes_nothing_and_is_not_waited_for() {
    let (backend, space, home) = one_profile("refresh-trouble");
    let (old, rejected) = (auth(&space, "main"), access_token(&home));
    backend.set("", Kind::Token, [Behave::status(500, "{}")]);
    let verdict_ = verdict(&refreshing(&space, &home, &rejected).output());
    assert_eq!(verdict_, "Err(Transient(\"the login server answered with HTTP 500\"))");
    backend.set("", Kind::Token, [Behave::ok().cut(Cut::Hang, Point::BeforeHead)]);
    let output = refreshing(&space, &home, &rejected).env("REFRESH_MS", "1000").output();
    assert!(verdict(&output).starts_with("Err(Transient(\"no answer from"), "{output:?}");
    assert!(output.took < Duration::from_secs(5), "{:?}", output.took);
    backend.set("", Kind::Token, [Behave::ok().cut(Cut::Drop, Point::InsideHead)]);
    let output = refreshing(&space, &home, &rejected).output();
    assert!(verdict(&output).starts_with("Err(Transient("), "{output:?}");
    assert_eq!(auth(&space, "main"), old);
    assert_eq!(stray(&home), [""; 0]);
    // flock(2), as codex locks: somebody else's program can hold it.
    let lock = home.join("auth.lock");
    let holder = space.run("flock", &[lock.to_str().expect("UTF-8"), "sleep", "60"]).start();
    let until = Instant::now() + SHORT;
    loop {
        let output = refreshing(&space, &home, &rejected).env("REFRESH_MS", "700").output();
        match verdict(&output).as_str() {
            "Err(Busy)" => break,
            other => assert!(Instant::now() < until, "{other}"),
        }
    }
    drop(holder);
}

#[test]
fn never_under_a_codex_that_prodex_launched() {
    let (backend, space, home) = one_profile("refresh-in-use");
    let (rejected, mark) = (access_token(&home), home.join(".prodex-in-use.lock"));
    // One process, that says who it is once it holds the lock.
    let holding = format!("echo $$ > '{}'; exec sleep 60", mark.display());
    let user =
        space.run("flock", &["--shared", "--no-fork", mark.to_str().expect("UTF-8"), "sh", "-c", &holding]).start();
    let expected = format!("Err(InUse({}))", user.id());
    let until = Instant::now() + SHORT;
    while fs::read_to_string(&mark).ok() != Some(format!("{}\n", user.id())) {
        assert!(Instant::now() < until, "the mark is not set");
    }
    assert_eq!(verdict(&refreshing(&space, &home, &rejected).output()), expected);
    assert_eq!(asked(&backend).len(), 0);
    // The mark ends with who holds it, however it ends.
    user.signal_group("KILL");
    user.wait(SHORT);
    assert_eq!(verdict(&refreshing(&space, &home, &rejected).output()), "Ok(Here)");
}

#[test]
fn killed_at_any_instant_a_refresh_leaves_a_login_that_reads() {
    let (backend, space, home) = one_profile("refresh-killed");
    let fresh = |serial: &str| space.login("main", &token::auth_json("main").replace("rt-main-0", serial));
    let rejected = access_token(&home);
    let took = refreshing(&space, &home, &rejected).output().took;
    for instant in 0..50_u32 {
        fresh(&format!("rt-main-k{instant}"));
        let (old, rejected) = (auth(&space, "main"), access_token(&home));
        let running = refreshing(&space, &home, &rejected).start();
        std::thread::sleep(took * instant / 45);
        running.signal("KILL");
        running.wait(SHORT);
        let now = auth(&space, "main");
        assert!(Json::parse(now.as_bytes()).is_some(), "{instant}: {now}");
        assert!(now == old || access_token(&home) != rejected, "{instant}: half a change");
        for file in names(&home).iter().filter(|name| name.contains("auth")) {
            assert_eq!(mode(&home.join(file)), 0o600, "{instant}: {file}");
        }
        // The next one finds nothing to do, and clears up: a new login that was all written is not lost.
        assert_eq!(verdict(&refreshing(&space, &home, "another token").output()), "Ok(Elsewhere)");
        assert_eq!(stray(&home), [""; 0], "{instant}");
    }
    assert!(!asked(&backend).is_empty());
}
