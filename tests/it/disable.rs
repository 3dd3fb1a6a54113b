//! `profile disable | enable | reserve`: what they write and show, and what a run makes of it. The rule of the reserve has its
//! tables in `quota/schedule/tests.rs`.

use crate::support::behind::{Behind, until};
use crate::support::codex::Fake;
use crate::support::scene::{SOON, Scene};
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Cut, Point};
use crate::support::standin::json::Json;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::usage::Usage;
use crate::support::tmux::Tmux;
use std::fs;
use std::path::Path;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn ok(space: &TestSpace, args: &[&str]) -> String {
    space.prodex(args).output().expect(0).stdout
}

/// The members of a profile's entry in `state.json`.
fn member(space: &TestSpace, profile: &str, name: &str) -> Option<String> {
    let state = Json::parse(&fs::read(space.state_file()).expect("state.json")).expect("JSON");
    state.get("profiles")?.get(profile)?.get(name).map(|value| format!("{value:?}"))
}

#[test]
fn what_is_set_is_shown_and_gone_when_it_is_taken_back() {
    let space = TestSpace::new("disable");
    space.profiles(&NAMES);
    let before = fs::read_to_string(space.state_file()).expect("state.json");
    let said = ok(&space, &["profile", "disable", "alpha"]);
    assert!(
        said.contains("Disabled profile 'alpha'.") && said.contains("Next:      It is the active profile"),
        "{said}"
    );
    let said = ok(&space, &["profile", "reserve", "beta", "20%"]);
    assert!(said.contains("20% of each window of profile 'beta' is kept back."), "{said}");
    let list = ok(&space, &["profile", "list"]);
    assert!(
        list.contains("Rotation:  disabled\n") && list.contains("Rotation:  20% of each window kept back\n"),
        "{list}"
    );
    let json = ok(&space, &["profile", "list", "--json"]);
    assert!(json.contains("\"disabled\": true") && json.contains("\"reserve_percent\": 20"), "{json}");
    assert_eq!((member(&space, "gamma", "disabled"), member(&space, "gamma", "reserve_percent")), (None, None));
    let used = space.prodex(&["use", "alpha"]).output().expect(0);
    assert!(used.stderr.contains("'alpha' is disabled") && used.stderr.lines().count() == 1, "{}", used.stderr);
    ok(&space, &["profile", "enable", "alpha"]);
    ok(&space, &["profile", "reserve", "beta", "0"]);
    let after = fs::read_to_string(space.state_file()).expect("state.json");
    let profiles = |text: &str| Json::parse(text.as_bytes()).and_then(|state| state.get("profiles").cloned());
    assert_eq!(profiles(&after), profiles(&before), "0.2.38's file again");
}

#[test]
fn a_wrong_word_changes_nothing() {
    let space = TestSpace::new("disable-wrong");
    space.profiles(&NAMES);
    let before = fs::read(space.state_file()).expect("state.json");
    for (args, code, what) in [
        (&["profile", "disable", "nobody"][..], 1, "profile 'nobody' does not exist"),
        (&["profile", "enable", "nobody"], 1, "profile 'nobody' does not exist"),
        (&["profile", "reserve", "nobody", "5"], 1, "profile 'nobody' does not exist"),
        (&["profile", "reserve", "alpha", "100"], 2, "'100' is not a percentage from 0 to 99"),
        (&["profile", "reserve", "alpha", "1.5"], 2, "'1.5' is not a percentage"),
        (&["profile", "reserve", "alpha"], 2, "PERCENT is missing"),
        (&["profile", "disable"], 2, "NAME is missing"),
    ] {
        let output = space.prodex(args).output().expect(code);
        assert!(output.stderr.contains(what), "{args:?}: {}", output.stderr);
    }
    assert_eq!(fs::read(space.state_file()).expect("state.json"), before);
}

/// Alpha is active and best, gamma better than beta.
fn scene() -> (Scene, Fake) {
    let script = Script::new(&NAMES)
        .usage("alpha", Usage::both(10.0, 10.0))
        .usage("beta", Usage::both(50.0, 50.0))
        .usage("gamma", Usage::both(10.0, 20.0));
    let mut scene = Scene::new("disable", &NAMES, script);
    let fake = Fake::new(&scene.space, "");
    scene.space.env("PRODEX_CODEX_BIN", fake.path());
    (scene, fake)
}

/// Where the last codex ran.
fn home(fake: &Fake) -> Option<String> {
    let call = fake.calls().pop()?;
    Some(Path::new(&call.env["CODEX_HOME"]).file_name()?.to_string_lossy().into_owned())
}

#[test]
fn a_run_leaves_a_disabled_or_kept_back_profile() {
    let disable = &["profile", "disable", "alpha"][..];
    let keep = &["profile", "reserve", "alpha", "95"][..];
    let resume = &["resume", "01999999-0000-7000-8000-000000000000"][..];
    for (set, args, place, said) in [
        (
            disable,
            &["exec", "hi"][..],
            "gamma",
            "Profile 'alpha' is disabled: running with 'gamma'. `-p alpha` insists.\n",
        ),
        (disable, resume, "gamma", "Profile 'alpha' is disabled: running with 'gamma'. `-p alpha` insists.\n"),
        (disable, &["-p", "alpha", "exec", "hi"], "alpha", ""),
        (disable, &["-p", "beta", "exec", "hi"], "beta", ""),
        (disable, &["--no-auto-rotate", "exec", "hi"], "alpha", "Warning: without the proxy"),
        (disable, &["--skip-quota-check", "exec", "hi"], "alpha", "Warning: profile 'alpha' is disabled."),
        (keep, &["exec", "hi"], "gamma", "Profile 'alpha' keeps 95% of each window back: running with 'gamma'."),
        (keep, resume, "alpha", ""),
        (keep, &["-p", "alpha", "exec", "hi"], "alpha", ""),
    ] {
        let (scene, fake) = scene();
        ok(&scene.space, set);
        let output = scene.run(args).output().expect(0);
        assert_eq!(home(&fake).as_deref(), Some(place), "{set:?} {args:?}: {}", output.stderr);
        assert!(output.stderr.starts_with(said) && output.stderr.is_empty() == said.is_empty(), "{}", output.stderr);
        let current = ok(&scene.space, &["current"]);
        assert!(current.contains("alpha"), "the choice of `use` stands: {current}");
    }
}

#[test]
fn nobody_is_left() {
    let (scene, fake) = scene();
    for name in ["beta", "gamma"] {
        ok(&scene.space, &["profile", "disable", name]);
    }
    ok(&scene.space, &["profile", "reserve", "alpha", "95"]);
    let error = scene.run(&["exec", "hi"]).output().expect(2).stderr;
    assert!(error.contains("profile 'alpha' keeps 95% of each window back, and no other one is ready"), "{error}");
    assert!(error.contains("`prodex run -p alpha`") && error.lines().count() == 1, "{error}");
    ok(&scene.space, &["profile", "disable", "alpha"]);
    let error = scene.run(&["exec", "hi"]).output().expect(2).stderr;
    assert!(error.contains("profile 'alpha' is disabled, and no other one is ready"), "{error}");
    assert_eq!(home(&fake), None, "codex did not start");
    let why = ok(&scene.space, &["why"]);
    assert!(why.contains("no: disabled") && !why.contains("Fresh work goes to"), "{why}");
    scene.run(&["-p", "beta", "exec", "hi"]).output().expect(0);
    assert_eq!(home(&fake).as_deref(), Some("beta"));
}

#[test]
fn a_disabled_profile_is_not_asked_and_not_waited_for() {
    let (scene, fake) = scene();
    ok(&scene.space, &["profile", "disable", "alpha"]);
    scene.backend.set("alpha", Kind::Usage, [Behave::ok().cut(Cut::Hang, Point::BeforeHead)]);
    let output = scene.run(&["exec", "hi"]).output().expect(0);
    assert_eq!(home(&fake).as_deref(), Some("gamma"), "{}", output.stderr);
    let why = ok(&scene.space, &["why"]);
    assert!(why.contains("Fresh work goes to gamma") && why.contains("no: disabled"), "{why}");
    assert_eq!(scene.backend.of("alpha", &Kind::Usage).len(), 0);
}

#[test]
fn what_a_stopped_run_learned_is_known() {
    let (scene, _) = scene();
    for name in NAMES {
        scene.backend.set_usage(name, Usage::both(100.0, 100.0));
    }
    scene.run(&["exec", "hi"]).output().expect(2);
    ok(&scene.space, &["why"]);
    for name in NAMES {
        assert_eq!(scene.backend.of(name, &Kind::Usage).len(), 1, "{name} is not asked twice within 30 s");
    }
}

#[test]
fn a_screen_asks_a_disabled_account_only_by_name() {
    let backend = Backend::start(Script::new(&NAMES));
    let space = TestSpace::with_profiles("disabled-unasked", &NAMES, &backend);
    let asked = || {
        let calls = |name: &&str| backend.of(name, &Kind::Usage).len();
        NAMES.iter().map(calls).collect::<Vec<usize>>()
    };
    for name in ["alpha", "beta"] {
        ok(&space, &["profile", "disable", name]);
    }
    // Of beta something is known, of alpha nothing.
    assert!(ok(&space, &["quota", "-p", "beta", "--once"]).contains("5h: 88% left"));
    assert_eq!(asked(), [0, 1, 0]);
    let screen = ok(&space, &["quota", "--all", "--once"]);
    for words in ["status: Ready; disabled; read ", "status: Not read yet; disabled\n", "Pool:  "] {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    // Nor where it is the active one.
    assert!(ok(&space, &["quota", "--once"]).contains("Status:    Not read yet; disabled\n"));
    let json = Json::parse(ok(&space, &["quota", "--all", "--json"]).as_bytes()).expect("JSON");
    let status = |profile: &Json| profile.get("quota")?.get("status")?.text().map(str::to_owned);
    let statuses: Vec<_> = json.get("profiles").expect("profiles").items().iter().filter_map(status).collect();
    assert_eq!(statuses, ["unknown", "ready", "ready"]);
    let raw = ok(&space, &["quota", "--all", "--raw"]);
    assert_eq!(raw.matches("\"error\": \"disabled, so it was not asked\"").count(), 2, "{raw}");
    let error = space.prodex(&["quota", "--raw"]).output().expect(1).stderr;
    assert!(error.contains("`prodex quota -p alpha --raw`"), "{error}");
    ok(&space, &["doctor", "--quota"]);
    assert_eq!((asked()[0], asked()[1]), (0, 1));
    let tmux = Tmux::start(&space, 80, 40, &[], &[env!("CARGO_BIN_EXE_prodex"), "quota", "--all"]);
    let screen = tmux.wait_for("Not read yet; disabled", SOON);
    assert!(screen.contains("Ready; disabled; read ") && !screen.contains("asking"), "{screen}");
    drop(tmux);
    assert_eq!((asked()[0], asked()[1]), (0, 1));
    // By name it is.
    let tmux = Tmux::start(&space, 80, 40, &[], &[env!("CARGO_BIN_EXE_prodex"), "quota", "-p", "alpha"]);
    tmux.wait_for("Ready; disabled; read ", SOON);
    assert_eq!((asked()[0], asked()[1]), (1, 1));
    assert!(ok(&space, &["quota", "--line"]).starts_with("alpha 5h 88% | weekly 70% | disabled"));
}

#[test]
fn the_proxy_does_not_move_to_a_disabled_profile() {
    let backend = Backend::start(Script::new(&NAMES));
    let space = TestSpace::with_profiles("disabled-member", &NAMES, &backend);
    ok(&space, &["profile", "disable", "beta"]);
    let run = Behind::inside(space, "alpha", &backend);
    backend.set("alpha", Kind::Post, [Behave::quota_status()]);
    let answer = run.ask_fresh("{}").text();
    assert!(answer.contains("Hello from gamma"), "{answer}");
    assert_eq!(
        backend.of("beta", &Kind::Post).len() + backend.of("beta", &Kind::Usage).len(),
        0,
        "not asked for anything"
    );
}

#[test]
fn the_proxy_leaves_a_profile_at_its_reserve_and_tells_no_other_run() {
    let backend = Backend::start(Script::new(&NAMES));
    let space = TestSpace::with_profiles("reserve", &NAMES, &backend);
    ok(&space, &["profile", "reserve", "alpha", "20"]);
    let run = Behind::inside(space, "alpha", &backend);
    let insists = run.beside("alpha", false);
    backend.set_usage("alpha", Usage::both(70.0, 79.0));
    assert!(run.ask_fresh("{}").text().contains("Hello from alpha"));
    backend.set_usage("alpha", Usage::both(70.0, 80.0));
    assert!(run.ask_fresh("{}").text().contains("Hello from alpha"), "the answer tells that it is reached");
    until("it is noted", || run.space.marked("held back profile=alpha reserve_percent=20").pop());
    let answer = run.ask_fresh("{}").text();
    assert!(answer.contains("Hello from beta"), "{answer}");
    let answer = insists.ask_fresh("{}").text();
    assert!(answer.contains("Hello from alpha"), "named, it may be used to the end: {answer}");
}
