//! `prodex run` from outside: what codex is started with, whose signals are whose, the preflight, and what goes wrong.
//! With a false codex where the question is how it was called, with the real one where it is how it ends.

use crate::support::codex::{Call, Fake};
use crate::support::run::{Output, Running};
use crate::support::scene::{PATIENCE, SOON, Scene};
use crate::support::standin::behave::{Behave, Point};
use crate::support::standin::gate::Gate;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use crate::support::standin::usage::Usage;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const BOTH: [&str; 2] = ["first", "second"];

fn both() -> Script {
    Script::new(&BOTH)
}

/// Used up for five hours.
fn out() -> Usage {
    Usage::both(100.0, 30.0)
}

/// Two profiles and a false codex that does this.
fn faked(script: Script, body: &str) -> (Scene, Fake) {
    let mut scene = Scene::new("run", &BOTH, script);
    let fake = Fake::new(&scene.space, body);
    scene.space.env("PRODEX_CODEX_BIN", fake.path());
    (scene, fake)
}

/// The one call, its arguments without the two overrides; `None` where there are none.
#[track_caller]
fn only_call(fake: &Fake) -> (Call, Option<Vec<String>>) {
    let mut calls = fake.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = calls.remove(0);
    let rest = match call.args.as_slice() {
        [c, chatgpt, d, openai, rest @ ..]
            if c == "-c"
                && d == "-c"
                && chatgpt.starts_with("chatgpt_base_url=\"http://127.0.0.1:")
                && openai.starts_with("openai_base_url=\"http://127.0.0.1:") =>
        {
            Some(rest.to_vec())
        }
        _ => None,
    };
    (call, rest)
}

fn home_of(scene: &Scene, name: &str) -> String {
    scene.space.profile_home(name).to_string_lossy().into_owned()
}

fn active(scene: &Scene) -> String {
    scene.space.prodex(&["current"]).output().expect(0).stdout
}

// What codex gets

#[test]
fn the_version_is_codexs() {
    let scene = Scene::new("run", &BOTH, both());
    assert_eq!(scene.run(&["--", "--version"]).output().expect(0).stdout, "codex-cli 0.169.0\n");
}

#[test]
fn piped_stdin_is_the_prompt() {
    let scene = Scene::new("run", &BOTH, both());
    for (args, stdin, wanted) in [
        (&[][..], "Paint it violet", "Paint it violet"),
        (&["-"][..], "Paint it violet", "Paint it violet"),
        (&["Paint it"][..], "violet", r"Paint it\n\n<stdin>\nviolet\n</stdin>"),
    ] {
        let output = scene.exec(args).stdin(stdin.as_bytes()).output().expect(0);
        assert_eq!(output.stdout.trim_end(), "Hello from first.");
        let turn = scene.backend.of("first", &Kind::Turn).pop().expect("a turn");
        assert!(String::from_utf8_lossy(&turn.body).contains(wanted), "{args:?}");
    }
}

#[test]
fn arguments_go_to_codex_verbatim() {
    const THREAD: &str = "01a210cb-f896-72b1-b4b4-7d0e16b5b0d2";
    for (given, wanted) in [
        (
            &["exec", "-p", "x", "-h", "--", "--no-auto-rotate"][..],
            &["exec", "-p", "x", "-h", "--", "--no-auto-rotate"][..],
        ),
        (&["--", "--version"], &["--version"]),
        (&["--", "--", "-p"], &["--", "-p"]),
        (
            &["--auto-rotate", "two\nlines", "", "ünïcode", "$HOME `x` \"y\""],
            &["two\nlines", "", "ünïcode", "$HOME `x` \"y\""],
        ),
        (&["-pfirst", "-m", "gpt"], &["-m", "gpt"]),
        (&["--profile=first", "--unknown"], &["--unknown"]),
        (&[THREAD], &["resume", THREAD]),
        (&[], &[]),
    ] {
        let (scene, fake) = faked(both(), "");
        scene.run(given).output().expect(0);
        let (call, args) = only_call(&fake);
        assert_eq!(args.expect("behind the proxy"), wanted, "{given:?}");
        assert_eq!(call.env["CODEX_HOME"], home_of(&scene, "first"));
        assert_eq!(call.dir, scene.space.work().to_string_lossy());
    }
}

#[test]
fn the_exit_code_is_codexs() {
    for (body, code) in
        [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -INT $$", 130)]
    {
        // Behind the proxy, and in our place.
        for args in [&["exec"][..], &["--no-auto-rotate", "exec"]] {
            let (scene, _fake) = faked(both(), body);
            let output = scene.run(args).output().expect(code);
            // In our place codex does not know of the backend that was named, and that is said.
            let said: Vec<&str> = output.stderr.lines().filter(|line| !line.contains("without the proxy")).collect();
            assert_eq!((output.stdout.as_str(), said.len()), ("", 0), "{body} {args:?} {}", output.stderr);
        }
    }
}

/// What is different in one case.
type Prepare<'a> = &'a dyn Fn(&Scene);

#[test]
fn the_proxy_stands_between_only_where_it_can_help() {
    let config =
        |scene: &Scene, text: &str| fs::write(scene.space.profile_home("first").join("config.toml"), text).unwrap();
    let login = |scene: &Scene, name: &str, auth: &str| scene.space.login(name, auth);
    let api_key = r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-test"}"#;
    let table: [(&str, Prepare, &[&str], bool); 11] = [
        ("two logins", &|_| (), &["exec"], true),
        ("the built-in provider, named", &|_| (), &["-c", "model_provider=\"openai\""], true),
        ("no rotation wanted", &|_| (), &["--no-auto-rotate", "exec"], false),
        ("an API key launches", &|scene| login(scene, "first", api_key), &["exec"], false),
        ("an API key is the other", &|scene| login(scene, "second", api_key), &["exec"], false),
        (
            "no login is the other",
            &|scene| fs::remove_file(scene.space.profile_home("second").join("auth.json")).unwrap(),
            &["exec"],
            false,
        ),
        ("another provider in the config", &|scene| config(scene, "model_provider = \"local\"\n"), &["exec"], false),
        ("another provider by -c", &|_| (), &["exec", "-c", "model_provider=local"], false),
        ("another provider by --config=", &|_| (), &["--config=model_provider=\"local\""], false),
        ("--oss", &|_| (), &["exec", "--oss"], false),
        ("a config that codex will judge", &|scene| config(scene, "this is [ not toml"), &["exec"], true),
    ];
    for (what, prepare, args, proxied) in table {
        let (scene, fake) = faked(both(), "");
        prepare(&scene);
        let output = scene.run(args).output().expect(0);
        let (call, rest) = only_call(&fake);
        assert_eq!(rest.is_some(), proxied, "{what}: {:?} {}", call.args, output.stderr);
        assert_eq!(call.env.contains_key("no_proxy"), proxied, "{what}");
        assert_eq!(scene.space.runtime_logs().is_empty(), !proxied, "{what}");
    }
    let scene = Scene::new("run", &["only"], Script::new(&["only"]));
    let fake = Fake::new(&scene.space, "");
    scene.run(&["exec"]).env("PRODEX_CODEX_BIN", fake.path()).output().expect(0);
    assert_eq!(only_call(&fake).0.args, ["exec"], "one profile");
}

#[test]
fn loopback_joins_the_users_proxy_exceptions() {
    for (set, wanted) in [
        (&[][..], "127.0.0.1,localhost,::1"),
        (&[("NO_PROXY", "corp.example")], "corp.example,127.0.0.1,localhost,::1"),
        // Programs look at one of the two: what the user said in one of them holds in both.
        (&[("no_proxy", "corp.example, localhost")], "corp.example,localhost,127.0.0.1,::1"),
    ] {
        let (mut scene, fake) = faked(both(), "");
        scene.space.unset("NO_PROXY");
        scene.space.unset("HTTPS_PROXY");
        for (name, value) in set {
            scene.space.env(name, value);
        }
        scene.run(&["exec"]).output().expect(0);
        let (call, _) = only_call(&fake);
        assert_eq!([&call.env["NO_PROXY"], &call.env["no_proxy"]], [wanted, wanted], "{set:?}");
    }
}

// Signals

/// A real turn that the backend never answers.
fn hanging() -> (Scene, Running) {
    let scene = Scene::new("signal", &BOTH, both().on("first", Kind::Turn, [Behave::hang(Point::BeforeHead)]));
    let running = scene.exec(&["Say hello"]).start();
    scene.backend.wait_for("the turn", PATIENCE, |records| records.iter().any(|record| record.kind == Kind::Turn));
    (scene, running)
}

#[test]
fn an_interrupt_of_the_group_is_codexs_own() {
    let (scene, mut running) = hanging();
    running.signal_group("INT");
    let output = running.ended(SOON).expect(1);
    assert!(output.stderr.contains("turn interrupted"), "{}", output.stderr);
    scene.nothing_left();
}

#[test]
fn a_signal_to_us_reaches_codex() {
    for (signal, code) in [("TERM", 143), ("HUP", 129)] {
        let (scene, mut running) = hanging();
        running.signal(signal);
        running.ended(SOON).expect(code);
        scene.nothing_left();
    }
}

#[test]
fn an_interrupt_to_us_alone_ends_nothing() {
    let (scene, mut running) = hanging();
    running.signal("INT");
    running.signal("QUIT");
    running.signal("TERM");
    running.ended(SOON).expect(143);
    scene.nothing_left();
}

#[test]
fn codex_ends_with_us_even_when_we_are_killed() {
    let (scene, mut running) = hanging();
    running.signal("KILL");
    running.ended(SOON).expect(137);
    scene.nothing_left();
}

#[test]
fn what_codex_makes_of_a_signal_counts() {
    let (scene, fake) = faked(both(), "trap 'exit 3' TERM\necho ready\nwhile :; do sleep 0.02; done");
    let mut running = scene.run(&["exec"]).start();
    let until = std::time::Instant::now() + SOON;
    while !running.stdout().contains("ready") {
        assert!(std::time::Instant::now() < until, "codex was started: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("TERM");
    running.ended(SOON).expect(3);
    only_call(&fake);
    scene.nothing_left();
}

/// `nohup`, and a background job of a script.
#[test]
fn what_we_were_started_to_ignore_codex_ignores_too() {
    for (ignored, mask) in [("HUP", 0b1_u64), ("INT QUIT", 0b110), ("TERM", 1 << 14), ("", 0)] {
        let body = "grep SigIgn /proc/self/status\necho ready\nwhile :; do sleep 0.02; done";
        let (scene, fake) = faked(both(), body);
        let shell = format!("trap '' {ignored}; exec \"$@\"");
        let shell = if mask == 0 { "exec \"$@\"" } else { &shell };
        let args = ["-c", shell, "sh", env!("CARGO_BIN_EXE_prodex"), "run", "exec"];
        let mut running = scene.space.run("sh", &args).start();
        let until = std::time::Instant::now() + SOON;
        while !running.stdout().contains("ready") {
            assert!(std::time::Instant::now() < until, "codex was started: {}", running.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        let line = running.stdout();
        let seen = line.split_whitespace().nth(1).and_then(|seen| u64::from_str_radix(seen, 16).ok());
        assert_eq!(seen.map(|seen| seen & 0x4007), Some(mask), "{ignored}: {line}");
        // Neither we nor codex mind.
        for signal in ignored.split(' ').filter(|_| mask != 0) {
            running.signal(signal);
        }
        std::thread::sleep(Duration::from_millis(50));
        let (signal, code) = if ignored == "TERM" { ("HUP", 129) } else { ("TERM", 143) };
        running.signal(signal);
        running.ended(SOON).expect(code);
        only_call(&fake);
        scene.nothing_left();
    }
}

// The preflight

#[test]
fn a_blocked_profile_is_left_for_a_ready_one() {
    for args in [&["exec"][..], &["-p", "first", "exec"]] {
        let (scene, fake) = faked(both().usage("first", out()), "");
        let output = scene.run(args).output().expect(0);
        let lines: Vec<&str> = output.stderr.lines().collect();
        assert!(lines[0].starts_with("Quota preflight blocked profile 'first': "), "{}", output.stderr);
        assert!(lines[1].starts_with("Auto-rotating to profile 'second' ("), "{}", output.stderr);
        assert_eq!((lines.len(), output.stdout.as_str()), (2, ""));
        let (call, args) = only_call(&fake);
        assert_eq!(
            (call.env["CODEX_HOME"].as_str(), args.unwrap()),
            (home_of(&scene, "second").as_str(), vec!["exec".to_owned()])
        );
        assert!(active(&scene).contains("second"));
    }
}

#[test]
fn without_rotation_a_blocked_profile_stops_the_run() {
    let (scene, fake) = faked(both().usage("first", out()), "");
    let output = scene.run(&["--no-auto-rotate", "exec"]).output().expect(2);
    for words in ["first", "second", "--no-auto-rotate", "--skip-quota-check", "prodex quota -p first"] {
        assert!(output.stderr.contains(words), "no {words} in {}", output.stderr);
    }
    assert!(fake.calls().is_empty() && output.stdout.is_empty());
    assert!(active(&scene).contains("first"));
}

#[test]
fn with_every_profile_blocked_the_run_stops() {
    let (scene, fake) = faked(both().usage("first", out()).usage("second", Usage::both(10.0, 100.0)), "");
    let output = scene.run(&["exec"]).output().expect(2);
    assert!(
        output.stderr.contains("no ready profile") && output.stderr.contains("prodex quota --all"),
        "{}",
        output.stderr
    );
    assert!(fake.calls().is_empty() && output.stdout.is_empty());
}

#[test]
fn the_check_can_be_skipped() {
    let (scene, fake) = faked(both().usage("first", out()), "");
    let output = scene.run(&["--skip-quota-check", "exec"]).output().expect(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    assert_eq!(only_call(&fake).0.env["CODEX_HOME"], home_of(&scene, "first"));
    assert!(scene.backend.of("first", &Kind::Usage).is_empty());
}

#[test]
fn an_unreadable_quota_stops_nothing() {
    let odd =
        [Behave::plain_error(500), Behave::json("not JSON"), Behave::json("{}"), Behave::drop_at(Point::BeforeHead)];
    for behave in odd {
        let (scene, fake) = faked(both().on("first", Kind::Usage, [behave.clone()]), "");
        let output = scene.run(&["exec"]).output().expect(0);
        goes_on_with_a_warning(&output);
        assert_eq!(only_call(&fake).0.env["CODEX_HOME"], home_of(&scene, "first"), "{behave:?}");
    }
}

#[track_caller]
fn goes_on_with_a_warning(output: &Output) {
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].contains("quota preflight failed for 'first'") && lines[1].contains("continuing"),
        "{}",
        output.stderr
    );
}

#[test]
fn an_unreachable_backend_stops_nothing() {
    let (mut scene, fake) = faked(both(), "");
    scene.space.env("CODEX_CHATGPT_BASE_URL", "http://127.0.0.1:9/backend-api");
    let output = scene.run(&["exec"]).output().expect(0);
    goes_on_with_a_warning(&output);
    assert!(output.stderr.contains("127.0.0.1:9"), "{}", output.stderr);
    only_call(&fake);
}

#[test]
fn a_wanted_profile_is_taken_while_it_is_ready() {
    let (scene, fake) = faked(both(), "");
    let output = scene.run(&["-p", "second", "exec"]).output().expect(0);
    assert_eq!(output.stderr, "");
    assert_eq!(only_call(&fake).0.env["CODEX_HOME"], home_of(&scene, "second"));
}

#[test]
fn another_accounts_silence_does_not_delay_the_start() {
    let gate = Gate::new();
    let script = both().on("second", Kind::Usage, [Behave::ok().hold(&gate, Point::BeforeHead)]);
    let (scene, fake) = faked(script, "");
    let output = scene.run(&["exec"]).output().expect(0);
    only_call(&fake);
    // The limit of one such call is 5 s.
    assert!(output.took < Duration::from_secs(4), "{:?}", output.took);
    assert!(scene.backend.of("second", &Kind::Usage).iter().all(|record| record.status.is_none()));
    gate.open();
}

// What goes wrong

/// One line on stderr with these words, nothing on stdout.
#[track_caller]
fn one_line(output: &Output, words: &[&str]) {
    assert_eq!((output.stderr.lines().count(), output.stdout.as_str()), (1, ""), "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "no {word} in {}", output.stderr);
    }
}

#[test]
fn a_missing_codex_is_named() {
    let (mut scene, _fake) = faked(both(), "");
    scene.space.env("PRODEX_CODEX_BIN", "/no/such/codex");
    let output = scene.run(&["exec"]).output().expect(1);
    one_line(&output, &["/no/such/codex", "PRODEX_CODEX_BIN"]);
    scene.space.unset("PRODEX_CODEX_BIN");
    let output = scene.run(&["exec"]).env("PATH", "/no/such/dir").output().expect(1);
    one_line(&output, &["codex", "PATH"]);
}

#[test]
fn an_unknown_profile_is_named() {
    let (scene, fake) = faked(both(), "");
    one_line(&scene.run(&["-p", "nobody", "exec"]).output().expect(1), &["nobody"]);
    assert!(fake.calls().is_empty());
}

#[test]
fn a_useless_base_url_is_named() {
    let (scene, fake) = faked(both(), "");
    one_line(&scene.run(&["--base-url", "ftp://x", "exec"]).output().expect(1), &["ftp://x", "--base-url"]);
    assert!(fake.calls().is_empty());
}

#[test]
fn a_missing_or_broken_login_is_named_and_left_for_a_ready_one() {
    for (broken, why) in
        [(None, "nobody is logged in"), (Some(""), "no JSON"), (Some("{"), "no JSON"), (Some("[]"), "no JSON object")]
    {
        let (scene, fake) = faked(both(), "");
        match broken {
            Some(text) => scene.space.login("first", text),
            None => fs::remove_file(scene.space.profile_home("first").join("auth.json")).unwrap(),
        }
        // Named, it is what codex starts with: it may be meant to be logged in to.
        let output = scene.run(&["-p", "first", "exec"]).output().expect(0);
        for words in ["'first'", why, "prodex login -p first"] {
            assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
        }
        assert_eq!(only_call(&fake).0.args, ["exec"], "nothing in between");
        let output = scene.run(&["exec"]).output().expect(0);
        assert!(output.stderr.contains("Auto-rotating to profile 'second'"), "{}", output.stderr);
        assert!(output.stderr.contains("prodex login -p first"), "{}", output.stderr);
    }
}

#[test]
fn a_broken_login_of_another_profile_is_left_aside() {
    let names = ["first", "second", "third"];
    let scene = Scene::new("run", &names, Script::new(&names).on("first", Kind::Turn, [Behave::quota_event()]));
    scene.space.login("second", "{");
    let output = scene.exec(&["Say hello"]).output().expect(0);
    assert_eq!(output.stdout.trim_end(), "Hello from third.");
}

#[test]
fn a_broken_state_is_named_and_kept() {
    let (scene, fake) = faked(both(), "");
    fs::write(scene.space.state_file(), "{ \"profiles\": ").unwrap();
    let output = scene.run(&["exec"]).output();
    assert_eq!(output.code(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("state.json"), "{}", output.stderr);
    assert!(fake.calls().is_empty() && output.stdout.is_empty());
    let kept = fs::read_dir(scene.space.prodex_home())
        .unwrap()
        .flatten()
        .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text == "{ \"profiles\": "));
    assert!(kept, "what was there is still there");
}

#[test]
fn a_broken_config_is_codexs_to_tell() {
    let scene = Scene::new("run", &BOTH, both());
    fs::write(scene.space.profile_home("first").join("config.toml"), "this is [ not toml").unwrap();
    let mut running = scene.exec(&["Say hello"]).start();
    let output = running.ended(PATIENCE).expect(1);
    assert!(output.stderr.contains("config.toml"), "{}", output.stderr);
    scene.nothing_left();
}

// Secrets

#[test]
fn no_secret_reaches_a_log_or_the_terminal() {
    let script = both().on("first", Kind::Turn, [Behave::tool_call("echo indigo-output"), Behave::quota_event()]).on(
        "second",
        Kind::Turn,
        [Behave::answer("The answer is ultramarine.")],
    );
    let scene = Scene::new("secret", &BOTH, script);
    let output = scene.exec(&["Paint it violet"]).output().expect(0);
    assert_eq!(output.stdout.trim_end(), "The answer is ultramarine.");
    let logs = scene.space.runtime_logs();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].contains("committed profile=second"));
    let mut secrets =
        vec!["@example.com".to_owned(), "violet".to_owned(), "ultramarine".to_owned(), "indigo".to_owned()];
    for name in BOTH {
        secrets.extend([format!("rt-{name}"), format!("{name}@"), token::account_id(name), format!("ts-{name}")]);
        let auth = fs::read_to_string(scene.space.profile_home(name).join("auth.json")).unwrap();
        let tokens = auth.split('"').filter(|text| text.starts_with("eyJ")).map(str::to_owned);
        secrets.extend(
            tokens
                .flat_map(|token| token.split('.').map(str::to_owned).collect::<Vec<_>>())
                .filter(|part| part.len() > 60),
        );
    }
    assert!(secrets.len() >= 4 + 2 * 6, "{secrets:?}");
    for secret in &secrets {
        assert!(!logs[0].contains(secret.as_str()), "{secret} is in the log");
    }
    for secret in secrets.iter().filter(|secret| secret.len() > 60) {
        assert!(!output.stderr.contains(secret.as_str()), "{secret} is on the terminal");
    }
    let files: Vec<_> = fs::read_dir(scene.space.tmp())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("prodex-"))
        .collect();
    assert_eq!(files.len(), 2, "the log and the pointer to it");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}
