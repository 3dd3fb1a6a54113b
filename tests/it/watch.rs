//! What a live view of `quota` must bear beside its own keys: no keyboard, a stop from outside, and a terminal without colours
//! or UTF-8; and that it asks nobody about what is known.

use crate::support::scene::{PATIENCE, SOON};
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::usage::Usage;
use crate::support::tmux::{Tmux, signal};
use std::fs;
use std::time::{Duration, Instant};

const PRODEX: &str = env!("CARGO_BIN_EXE_prodex");

struct World {
    // Dropped first: the view is gone before its backend is.
    space: TestSpace,
    backend: Backend,
}

impl World {
    fn new(profiles: &[&str], script: Script) -> World {
        let backend = Backend::start(script);
        World { space: TestSpace::with_profiles("watch", profiles, &backend), backend }
    }

    fn healthy(profiles: &[&str]) -> World {
        World::new(profiles, Script::new(profiles))
    }

    /// `prodex quota ARGS` on a terminal of this size.
    fn open(&self, width: u16, height: u16, args: &[&str]) -> Tmux {
        Tmux::start(&self.space, width, height, &[], &[&[PRODEX, "quota"], args].concat())
    }

    /// A line of shell on a terminal; `$prodex` is the program. Ends with `ended: CODE` on a screen that lives on.
    fn shell(&self, line: &str) -> Tmux {
        let line = format!("trap : INT; {line}; echo ended: $?; read x");
        Tmux::start(&self.space, 80, 24, &[("prodex", PRODEX)], &["sh", "-c", &line])
    }

    fn asked(&self) -> usize {
        self.backend.records().iter().filter(|record| record.kind == Kind::Usage).count()
    }
}

#[test]
fn an_old_answer_stays_and_nobody_is_asked_twice() {
    let world = World::healthy(&["first", "second"]);
    world.space.prodex(&["quota", "--all", "--once"]).output().expect(0);
    let before = world.asked();
    // Everything is known before anybody is asked, its age ticks, and a look around later nobody was asked.
    let tmux = world.open(100, 24, &["--all"]);
    let screen = tmux.wait_for("5h 88% left | weekly 70% left", PATIENCE);
    assert!(!screen.contains("asking"), "{screen}");
    tmux.wait_until("seven seconds", PATIENCE, |screen| screen.contains(" 7s ago") || screen.contains(" 8s ago"));
    assert_eq!(world.asked(), before);
}

/// Sends a signal to the view that runs there.
fn kill(world: &World, name: &str) {
    let home = format!("HOME={}", world.space.home().display());
    let ours = fs::read_dir("/proc").expect("a Linux /proc").flatten().map(|entry| entry.path()).find(|path| {
        fs::read(path.join("environ")).is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == home.as_bytes()))
            && fs::read_link(path.join("exe")).is_ok_and(|exe| exe.to_string_lossy() == PRODEX)
    });
    signal(name, &ours.expect("the view runs").file_name().unwrap().to_string_lossy());
}

#[test]
fn a_stop_from_outside_is_recovered_from() {
    let world = World::healthy(&["first"]);
    let tmux = world.open(80, 24, &[]);
    tmux.wait_for("Ready", PATIENCE);
    kill(&world, "STOP");
    kill(&world, "CONT");
    tmux.resize(60, 24);
    tmux.wait_for(&format!("[ Quota first ] {}\n", "=".repeat(44)), SOON);
    tmux.send_keys(&["q"]);
    assert_eq!(tmux.wait_exit(SOON), 0);
}

const WAYS_OUT: [(&str, i32); 3] = [("TERM", 143), ("HUP", 129), ("INT", 0)];

#[test]
fn it_ends_while_ctrl_s_holds_the_terminal() {
    let world = World::healthy(&["first"]);
    let held = || {
        let tmux = world.open(80, 24, &[]);
        tmux.wait_for("Ready", PATIENCE);
        tmux.send_keys(&["C-s"]);
        // At the next second it draws.
        std::thread::sleep(Duration::from_millis(1_500));
        tmux
    };
    for (name, code) in WAYS_OUT {
        let tmux = held();
        kill(&world, name);
        assert_eq!(tmux.wait_exit(SOON), code, "{name}");
        tmux.wait_until("the screen from before", SOON, |_| tmux.format("#{alternate_on}#{wrap_flag}") == "01");
    }
    let tmux = held();
    tmux.send_keys(&["q"]);
    assert_eq!(tmux.wait_exit(SOON), 0);
    let tmux = held();
    let before = tmux.capture();
    tmux.send_keys(&["C-q"]);
    tmux.wait_until("seconds that go on", SOON, |screen| screen != before);
}

#[test]
fn it_ends_while_nobody_reads_the_terminal() {
    let world = World::healthy(&["first", "second"]);
    for (name, code) in WAYS_OUT {
        // Of this size a picture is some 15 KB. A shell's own words of a signal would wait for a reader.
        let large = "export PRODEX_TERM_COLUMNS=1000 PRODEX_TERM_LINES=1000; exec 2> /dev/null; \"$0\" quota --all; echo $? > code";
        let tmux = Tmux::start(&world.space, 80, 24, &[], &["sh", "-c", large, PRODEX]);
        tmux.wait_for("Quota Watch", PATIENCE);
        let hanging = tmux.hang();
        // More pictures than a terminal keeps (some 70 KB).
        for _ in 0..40 {
            kill(&world, "WINCH");
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(&world, name);
        let code_file = world.space.work().join("code");
        let ended = || fs::read_to_string(&code_file).ok()?.trim().parse::<i32>().ok();
        let until = Instant::now() + SOON;
        while ended().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Asked before it reads again.
        let ended = ended();
        let _ = fs::remove_file(code_file);
        drop(hanging);
        assert_eq!(ended, Some(code), "{name}");
    }
}

#[test]
fn colours_say_what_is_left_unless_nobody_wants_them() {
    let script = Script::new(&["full", "half", "little"])
        .usage("full", Usage::weekly_only(10.0))
        .usage("half", Usage::weekly_only(70.0))
        .usage("little", Usage::weekly_only(95.0));
    let world = World::new(&["full", "half", "little"], script);
    let tmux = world.shell("\"$prodex\" quota --all --once");
    tmux.wait_for("ended: 0", PATIENCE);
    let screen = tmux.capture_colours();
    for (code, words) in [("32", "90%"), ("33", "30%"), ("31", "5%")] {
        assert!(screen.contains(&format!("\x1b[{code}mweekly {words} left")), "{screen:?}");
    }
    let tmux = world.shell("NO_COLOR=1 \"$prodex\" quota --all --once; NO_COLOR=1 LC_ALL=C \"$prodex\" quota --once");
    tmux.wait_for("ended: 0", PATIENCE);
    let screen = tmux.capture_colours();
    assert!(!screen.contains('\x1b'), "{screen:?}");
    assert!(screen.contains('█') && screen.contains("#-"), "{screen}");
}

#[test]
fn without_a_keyboard_it_lives_until_ctrl_c() {
    let world = World::healthy(&["first", "second"]);
    let tmux = world.shell("\"$prodex\" quota --all < /dev/null");
    tmux.wait_for("accounts, 2 ready", PATIENCE);
    tmux.send_keys(&["C-c"]);
    tmux.wait_for("ended: 0", SOON);
}

#[test]
fn a_size_that_no_screen_has_is_no_panic() {
    let world = World::healthy(&["first", "second"]);
    for number in [u32::MAX.into(), u64::MAX] {
        let number = number.to_string();
        for args in [
            &["quota", "--all", "--once"][..],
            &["quota", "--once"],
            &["why"],
            &["profile", "list"],
            &["doctor", "--runtime"],
        ] {
            let run = world.space.prodex(args).env("PRODEX_TERM_COLUMNS", &number).env("PRODEX_TERM_LINES", &number);
            assert_eq!(run.at_most(PATIENCE).output().code(), 0, "{args:?}");
        }
        let sizes = format!("PRODEX_TERM_COLUMNS={number} PRODEX_TERM_LINES={number}");
        let tmux = world.shell(&format!("{sizes} \"$prodex\" quota --all"));
        tmux.wait_for("[ Quota Watch ] ===", PATIENCE);
        tmux.send_keys(&["q"]);
        tmux.wait_for("ended: 0", SOON);
    }
}
