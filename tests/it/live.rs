//! `prodex quota` on a terminal (tmux): painted as answers arrive, every way out, every size; and what a pipe gets instead.

use crate::support::scene::{PATIENCE, SOON};
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Point, Say};
use crate::support::standin::gate::Gate;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use crate::support::standin::usage::Usage;
use crate::support::tmux::Tmux;
use prodex::screen::text;
use std::time::Duration;

const PRODEX: &str = env!("CARGO_BIN_EXE_prodex");
const NAMES: [&str; 8] = ["work", "main", "third", "fourth", "fifth", "sixth", "a-name-of-thirty-characters-ok", "z"];
/// What every account has by default.
const REMAINING: &str = "5h 88% left | weekly 70% left";

fn world(name: &str, profiles: &[&str], script: Script) -> (TestSpace, Backend) {
    let backend = Backend::start(script);
    let space = TestSpace::with_profiles(name, profiles, &backend);
    (space, backend)
}

fn view(space: &TestSpace, width: u16, height: u16) -> Tmux {
    Tmux::start(space, width, height, &[], &[PRODEX, "quota", "--all"])
}

#[test]
fn each_account_is_painted_as_its_answer_arrives() {
    let gate = Gate::new();
    let slow = Behave::new(Say::Default).hold(&gate, Point::BeforeHead);
    let script = Script::new(&NAMES[..3]).on("third", Kind::Usage, [slow]);
    let (space, backend) = world("live", &NAMES[..3], script);
    let tmux = view(&space, 80, 30);
    let screen = tmux.wait_until("two of three", SOON, |screen| screen.matches(REMAINING).count() == 2);
    assert!(screen.contains("third") && screen.contains("status: asking the backend..."), "{screen}");
    assert!(screen.contains("asking 1 of 3..."), "{screen}");
    assert!(screen.starts_with("[ Quota Watch ] ===="), "{screen}");
    // A second screen asks nobody again, and sees what the first one learned.
    let other = view(&space, 80, 30);
    other.wait_until("the same two", SOON, |screen| screen.matches(REMAINING).count() == 2);
    gate.open();
    let whole = |screen: &str| screen.matches("status: Ready").count() == 3 && !screen.contains("asking");
    tmux.wait_until("all three", SOON, whole);
    other.wait_until("all three", SOON, whole);
    for name in &NAMES[..3] {
        assert_eq!(backend.of(name, &Kind::Usage).len(), 1, "{name}");
    }
    // Countdowns and ages go on without anybody being asked.
    let age = |screen: &str| screen.split("read ").nth(1)?.split("s ago").next()?.parse::<u32>().ok();
    let before = age(&tmux.capture());
    tmux.wait_until("an age that grows", SOON, |screen| age(screen) > before);
}

/// The screen of a shell in which the view was run, with what `stty` said before and after it.
fn leave_by(space: &TestSpace, leave: impl Fn(&Tmux, i32)) -> (String, Tmux) {
    let script = "stty -g > before; trap : INT; sh -c 'echo $$ > pid; exec \"$0\" quota --all' \"$0\"; \
                  echo left-$?; stty -g > after; echo end; sleep 600";
    let tmux = Tmux::start(space, 80, 30, &[], &["sh", "-c", script, PRODEX]);
    tmux.wait_for("status: Ready", SOON);
    assert_eq!(tmux.format("#{cursor_flag}#{alternate_on}"), "01");
    let read = |name: &str| std::fs::read_to_string(space.work().join(name)).unwrap();
    leave(&tmux, read("pid").trim().parse().unwrap());
    let screen = tmux.wait_for("\nend", SOON);
    assert_eq!(read("before"), read("after"));
    assert_eq!(tmux.format("#{cursor_flag}#{alternate_on}#{wrap_flag}"), "101");
    assert!(!screen.contains("Quota Watch"), "{screen}");
    (screen, tmux)
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    let (space, _backend) = world("live-out", &NAMES[..2], Script::new(&NAMES[..2]));
    let kill = |signal: &str, pid: i32| {
        assert!(space.run("kill", &[signal, &pid.to_string()]).output().status.success());
    };
    assert!(leave_by(&space, |tmux, _| tmux.send_keys(&["q"])).0.contains("left-0"));
    assert!(leave_by(&space, |tmux, _| tmux.send_keys(&["C-c"])).0.contains("left-0"));
    let screen = leave_by(&space, |_, pid| kill("-TERM", pid)).0;
    assert!(screen.contains("left-143"), "{screen}");
    let screen = leave_by(&space, |_, pid| kill("-HUP", pid)).0;
    assert!(screen.contains("left-129"), "{screen}");
}

#[test]
fn a_shell_can_suspend_it_and_go_on() {
    let (space, _backend) = world("live-stop", &NAMES[..2], Script::new(&NAMES[..2]));
    let tmux = Tmux::start(&space, 80, 30, &[("PS1", "shell> ")], &["bash", "--norc", "-i"]);
    tmux.wait_for("shell>", SOON);
    tmux.send_keys(&["-l", &format!("{PRODEX} quota")]);
    tmux.send_keys(&["Enter"]);
    tmux.wait_for("[ Quota work ]", SOON);
    tmux.send_keys(&["C-z"]);
    tmux.wait_for("Stopped", SOON);
    assert_eq!(tmux.format("#{cursor_flag}#{alternate_on}"), "10");
    tmux.send_keys(&["fg", "Enter"]);
    tmux.wait_until("the view again", SOON, |screen| screen.starts_with("[ Quota work ]") && screen.contains("Ready"));
    tmux.send_keys(&["q"]);
    tmux.wait_for("Stopped", SOON);
}

#[test]
fn at_every_width_nothing_is_wider_and_what_is_left_is_whole() {
    let script = Script::new(&NAMES)
        .usage("sixth", Usage { email: Some("名前👩‍👩‍👧\\u001b[2J@例え.jp".to_owned()), ..Usage::both(12.0, 30.0) });
    let (space, backend) = world("live-width", &NAMES, script);
    let tmux = view(&space, 120, 70);
    for width in [120_u16, 40, 60, 80, 200] {
        tmux.resize(width, 70);
        let full = |screen: &str| {
            let title = screen.lines().next().unwrap_or_default();
            text::width(title) == usize::from(width) && screen.matches(REMAINING).count() == NAMES.len()
        };
        let screen = tmux.wait_until(&format!("a table of {width}"), SOON, full);
        assert!(screen.lines().all(|line| text::width(line) <= usize::from(width)), "{width}:\n{screen}");
        assert!(!screen.contains("hidden"), "{screen}");
    }
    for name in NAMES {
        assert_eq!(backend.of(name, &Kind::Usage).len(), 1, "a resize asks nobody: {name}");
    }
}

#[test]
fn a_short_terminal_says_what_it_hides_and_scrolls() {
    let (space, _backend) = world("live-short", &NAMES, Script::new(&NAMES));
    let tmux = view(&space, 80, 14);
    let page = |screen: &str, range: &str| screen.contains(&format!("profiles hidden ({range} of 8)"));
    tmux.wait_until("the first page", SOON, |screen| page(screen, "1-2") && !screen.contains("asking"));
    // The answers put them in order; all have the same resets, so it is by name.
    tmux.wait_for("a-name-of-thirty", SOON);
    tmux.send_keys(&["Down"]);
    tmux.wait_until("one further", SOON, |screen| page(screen, "2-3"));
    tmux.send_keys(&["x", "PPage"]);
    tmux.wait_until("the first again", SOON, |screen| page(screen, "1-2"));
    tmux.send_keys(&["End"]);
    let last = tmux.wait_until("the last page", SOON, |screen| page(screen, "7-8"));
    assert!(last.contains("\nz ") && last.contains("Quota Watch"), "{last}");
    // Home, in three pieces.
    for byte in ["1b", "5b", "48"] {
        tmux.send_keys(&["-H", byte]);
        std::thread::sleep(Duration::from_millis(20));
    }
    tmux.wait_until("the first again", SOON, |screen| page(screen, "1-2"));
    for (width, height) in [(80, 3), (20, 2), (1, 1), (2, 5)] {
        tmux.resize(width, height);
        tmux.wait_until("something", SOON, |screen| !screen.trim().is_empty());
        assert_eq!(tmux.exit_status(), None);
    }
    tmux.resize(80, 70);
    tmux.wait_until("everything", SOON, |screen| screen.matches(REMAINING).count() == 8);
    tmux.send_keys(&["q"]);
    assert_eq!(tmux.wait_exit(SOON), 0);
}

#[test]
fn what_is_no_screen_gets_one_plain_snapshot() {
    let (space, _backend) = world("live-plain", &NAMES[..2], Script::new(&NAMES[..2]));
    let whole = space.prodex(&["quota", "--all"]).at_most(PATIENCE).output();
    assert_eq!((whole.code(), whole.stderr.as_str()), (0, ""));
    assert!(whole.stdout.starts_with("[ Quota Overview ] ===") && !whole.stdout.contains('\x1b'), "{}", whole.stdout);
    assert_eq!(whole.stdout.matches(REMAINING).count(), 2, "{}", whole.stdout);
    let head = space.run("sh", &["-c", "{ \"$0\" quota --all; echo $? >&2; } | head -1", PRODEX]).output();
    assert_eq!((head.stdout.lines().count(), head.stderr.as_str()), (1, "0\n"));
    let forced = space.prodex(&["quota", "--all"]).env("CLICOLOR_FORCE", "1").output();
    assert!(forced.stdout.contains("\x1b[32mReady\x1b[0m"), "{}", forced.stdout);
    let ascii = space.prodex(&["quota", "--all"]).env("LC_ALL", "C").output();
    assert!(ascii.stdout.is_ascii() && ascii.stdout.contains("####"), "{}", ascii.stdout);
    for (name, value) in [("TERM", "dumb"), ("NO_COLOR", "1")] {
        let tmux = Tmux::start(&space, 80, 30, &[], &["env", &format!("{name}={value}"), PRODEX, "quota", "--once"]);
        assert_eq!(tmux.wait_exit(SOON), 0);
        let screen = tmux.capture_colours();
        assert!(screen.contains("Profile:   work") && !screen.contains('\x1b'), "{screen:?}");
    }
    let dumb = Tmux::start(&space, 80, 30, &[], &["env", "TERM=dumb", PRODEX, "quota", "--all"]);
    assert_eq!(dumb.wait_exit(SOON), 0);
    assert!(dumb.capture().contains("status: Ready"));
}

#[test]
fn an_account_has_one_e_mail_on_every_screen() {
    let (space, _backend) = world("live-mail", &NAMES[..2], Script::new(&NAMES[..2]));
    // What was remembered of an earlier login.
    let state = std::fs::read_to_string(space.state_file()).unwrap();
    let login = token::email("work");
    std::fs::write(space.state_file(), state.replace(&login, "earlier@example.com")).unwrap();
    for args in ["quota --once", "quota --all --once", "quota --json", "profile list", "current", "doctor --runtime"] {
        let said = space.prodex(&args.split(' ').collect::<Vec<_>>()).at_most(PATIENCE).output().stdout;
        assert!(said.contains(&login) && !said.contains("earlier"), "{args}:\n{said}");
    }
    let watched = view(&space, 120, 30).wait_for("status: Ready", SOON);
    assert!(watched.contains(&login) && !watched.contains("earlier"), "{watched}");
}
