//! Who takes fresh work (spec S-46, S-55; `scheduling.md`): where a run begins, what answers tell of quotas on their way, and
//! when the backend is asked. The rule itself has its tables in `quota/schedule/tests.rs`.

use crate::support::behind::{Behind, until};
use crate::support::codex::Fake;
use crate::support::scene::Scene;
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::Behave;
use crate::support::standin::json::Json;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::usage::Usage;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Alpha is active and has little left, gamma has most.
fn uneven() -> Script {
    Script::new(&NAMES)
        .usage("alpha", Usage::both(50.0, 80.0))
        .usage("beta", Usage::both(95.0, 95.0))
        .usage("gamma", Usage::both(10.0, 20.0))
}

fn scene(script: Script) -> (Scene, Fake) {
    let mut scene = Scene::new("choice", &NAMES, script);
    let fake = Fake::new(&scene.space, "case \"$*\" in *stay*) sleep 4;; esac");
    scene.space.env("PRODEX_CODEX_BIN", fake.path());
    (scene, fake)
}

/// Where the last codex ran.
fn home(fake: &Fake) -> String {
    let calls = fake.calls();
    let home = &calls.last().expect("codex was started").env["CODEX_HOME"];
    Path::new(home).file_name().expect("a name").to_string_lossy().into_owned()
}

fn usage_calls(backend: &Backend) -> Vec<usize> {
    NAMES.iter().map(|name| backend.of(name, &Kind::Usage).len()).collect()
}

/// The used percents that all processes know of a profile.
fn known(space: &TestSpace, profile: &str) -> Option<Vec<f64>> {
    let text = fs::read(space.prodex_home().join("quota.json")).ok()?;
    let limit = Json::parse(&text)?.get("profiles")?.get(profile)?.get("usage")?.get("rate_limit")?.clone();
    let used = |window: &str| limit.get(window)?.get("used_percent")?.number();
    Some(["window_0", "window_1"].into_iter().filter_map(used).collect())
}

#[test]
fn a_fresh_run_begins_where_the_rule_says_and_says_why() {
    let (scene, fake) = scene(uneven());
    let output = scene.run(&["exec", "hello"]).output().expect(0);
    let line = output.stderr.trim_end();
    assert!(line.starts_with("Picked profile gamma: week 80% left / "), "{line}");
    assert!(line.ends_with(" (best pace). `-p alpha` insists on 'alpha'.") && !line.contains('\n'), "{line}");
    assert_eq!(home(&fake), "gamma");
    let current = scene.space.prodex(&["current"]).output().expect(0).stdout;
    assert!(current.contains("alpha"), "the choice of `use` stands: {current}");
    // Within a minute it stays there, also after a run that was over at once or one that was told where to go.
    scene.run(&["-p", "beta", "exec", "hello"]).output().expect(0);
    scene.backend.set_usage("gamma", Usage::both(30.0, 90.0));
    let again = scene.run(&["exec", "hello"]).output().expect(0).stderr;
    assert!(again.contains("(picked less than a minute ago)"), "{again}");
    assert_eq!(home(&fake), "gamma");
}

#[test]
fn who_is_named_or_goes_on_is_not_moved() {
    for (before, args) in [
        (&["-p", "alpha"][..], &["exec", "hello"][..]),
        (&["--no-auto-rotate"], &["exec", "hello"]),
        (&["--skip-quota-check"], &["exec", "hello"]),
        (&[], &["resume", "01999999-0000-7000-8000-000000000000"]),
        (&[], &["exec", "resume", "--last"]),
        (&[], &["01999999-0000-7000-8000-000000000000"]),
    ] {
        let (scene, fake) = scene(uneven());
        let output = scene.run(&[before, args].concat()).output().expect(0);
        let picked = output.stderr.contains("Picked");
        assert_eq!((home(&fake).as_str(), picked), ("alpha", false), "{before:?} {args:?}: {}", output.stderr);
    }
}

#[test]
fn what_was_known_lately_serves_where_no_answer_comes() {
    let (scene, fake) = scene(uneven());
    scene.run(&["-p", "alpha", "exec", "stay"]).output().expect(0);
    until("what was learned is known", || known(&scene.space, "gamma").filter(|used| !used.is_empty()));
    // Alpha would be kept for the minute, had it room.
    scene.backend.set_usage("alpha", Usage::both(90.0, 80.0));
    scene.backend.set("gamma", Kind::Usage, [Behave::json("{}").before(Duration::from_secs(20))]);
    let output = scene.run(&["exec", "hello"]).output().expect(0);
    assert!(output.stderr.starts_with("Picked profile gamma: week 80% left / "), "{}", output.stderr);
    assert_eq!(home(&fake), "gamma");
}

#[test]
fn the_others_are_asked_once_and_the_best_takes_over() {
    let backend = Backend::start(uneven());
    let run = Behind::start("asked-once", &NAMES, &backend);
    // One more of the same user: it asks nothing that the first one knows.
    let other = run.beside("alpha", false);
    assert_eq!(usage_calls(&backend), [0, 0, 0], "no traffic, no question");
    let answer = run.ask_fresh("{}").text();
    assert!(answer.contains("Hello from alpha"), "{answer}");
    until("the quotas were asked for", || run.space.marked("quota asked profiles=").pop());
    until("what was learned is known", || known(&run.space, "gamma"));
    other.ask_fresh("{}");
    run.ask_fresh("{}");
    backend.set("alpha", Kind::Post, [Behave::quota_status()]);
    let answer = run.ask_fresh("{}").text();
    assert!(answer.contains("Hello from gamma"), "by the alphabet it would be beta: {answer}");
    assert_eq!(usage_calls(&backend), [0, 1, 1], "alpha's own answers tell of alpha");
    let file = run.space.prodex_home().join("quota.json");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).expect("a file").contains("eyJ"), "no token in it");
}

#[test]
fn when_one_runs_out_the_others_are_asked_again_after_a_minute() {
    let backend = Backend::start(uneven());
    let mut run = Behind::start("asked-again", &NAMES, &backend);
    run.ask_fresh("{}");
    for name in ["beta", "gamma"] {
        until("what was learned is known", || known(&run.space, name));
    }
    assert_eq!(usage_calls(&backend), [0, 1, 1]);
    run.end();
    let file = run.space.prodex_home().join("quota.json");
    let mut text = fs::read_to_string(&file).expect("a file");
    for time in ["\"taken_at\":", "\"asked_at\":"] {
        let mut parts = text.split(time);
        let mut older = parts.next().expect("a beginning").to_owned();
        for part in parts {
            let digits = part.trim_start().bytes().take_while(u8::is_ascii_digit).count();
            let (at, rest) = part.trim_start().split_at(digits);
            let at: u64 = at.parse().expect("a time");
            older = format!("{older}{time}{}{rest}", at.saturating_sub(90));
        }
        text = older;
    }
    fs::write(&file, text).expect("it is ours");
    let run = run.beside("alpha", false);
    run.ask_fresh("{}");
    backend.set("alpha", Kind::Post, [Behave::quota_status()]);
    // Who serves it may tell of itself before anybody asks; the other one cannot.
    run.ask_fresh("{}");
    until("somebody was asked again", || usage_calls(&backend).contains(&2).then_some(()));
}

#[test]
fn a_window_that_is_used_up_moves_what_is_fresh() {
    let backend = Backend::start(Script::new(&NAMES));
    let run = Behind::start("used-up", &NAMES, &backend);
    backend.set_usage("alpha", Usage::both(100.0, 30.0));
    let answer = run.ask_fresh("{}").text();
    assert!(answer.contains("Hello from alpha"), "the backend served it: {answer}");
    until("it is noted", || run.space.marked("profile_retry_backoff profile=alpha ").pop());
    let answer = run.ask_fresh("{}").text();
    assert!(answer.contains("Hello from beta"), "{answer}");
    until("the others can know", || known(&run.space, "alpha").filter(|used| *used == [100.0, 30.0]));
}

#[test]
fn why_tells_what_a_run_would_do() {
    let (scene, _) = scene(uneven());
    let why = || scene.space.prodex(&["why"]).output().expect(0).stdout;
    let first = why();
    assert!(first.contains("Fresh work goes to gamma: best pace."), "{first}");
    // The clock goes on: 2h 30m is 2h 29m a second later.
    assert!(first.contains("week 80% left / 2d 7h (pace x2.42), 5h 90% (2h "), "{first}");
    assert!(first.contains("), 0 active -> "), "{first}");
    let names: Vec<&str> =
        first.lines().filter_map(|line| NAMES.into_iter().find(|name| line.contains(name))).collect();
    assert_eq!(names, ["gamma", "gamma", "alpha", "beta"], "{first}");
    assert!(first.contains("little left in the short window"), "{first}");
    why();
    assert_eq!(usage_calls(&scene.backend), [1, 1, 1], "nobody is asked twice within 30 s");
    let picked = scene.run(&["exec", "hello"]).output().expect(0).stderr;
    let numbers = |text: &str| text.split("week ").nth(1).and_then(|rest| rest.split(" (2h").next()).map(str::to_owned);
    assert_eq!(numbers(&picked), numbers(&first), "the same numbers: {picked}");
}

#[test]
fn an_event_of_a_socket_tells_as_much() {
    let backend = Backend::start(Script::new(&NAMES));
    let run = Behind::start("event", &NAMES, &backend);
    let mut client = run.socket();
    backend.set_usage("alpha", Usage::both(44.0, 55.0));
    client.text(r#"{"type":"response.create","model":"m","input":[]}"#);
    client.read_events().expect("a turn");
    until("it is known", || known(&run.space, "alpha").filter(|used| *used == [44.0, 55.0]));
}

#[test]
fn what_somebody_has_just_chosen_begins() {
    let (scene, fake) = scene(uneven());
    scene.backend.set_usage("beta", Usage::both(40.0, 90.0));
    scene.space.prodex(&["use", "beta"]).output().expect(0);
    let output = scene.run(&["exec", "hello"]).output().expect(0);
    assert_eq!((home(&fake).as_str(), output.stderr.as_str()), ("beta", ""), "little is left of it, and it was chosen");
}
