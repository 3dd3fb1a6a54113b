//! Codex's own screen behind prodex, in tmux: it starts whatever the backend says of workspaces, rotates without a word,
//! and Ctrl+C is its own.

use crate::support::scene::{PATIENCE, SOON, Scene};
use crate::support::standin::behave::{Behave, Point, QuotaForm, Stage, Where};
use crate::support::standin::record::{Finished, Record};
use crate::support::standin::script::{Kind, Script};
use crate::support::tmux::Tmux;
use std::time::{Duration, Instant};

const BOTH: [&str; 2] = ["first", "second"];

fn both() -> Script {
    Script::new(&BOTH)
}

/// `prodex run` on a screen, in a directory that codex trusts.
pub struct Screen {
    pub tmux: Tmux,
    pub scene: Scene,
}

impl Screen {
    /// Up to codex's prompt.
    #[track_caller]
    pub fn open(scene: Scene) -> Screen {
        Screen::open_with(scene, "")
    }

    /// The same with these lines first in config.toml.
    #[track_caller]
    pub fn open_with(scene: Scene, config: &str) -> Screen {
        let config = format!(
            "check_for_update_on_startup = false\n{config}\n[projects.\"{}\"]\ntrust_level = \"trusted\"\n",
            scene.space.work().display()
        );
        std::fs::write(scene.space.profile_home("first").join("config.toml"), config).expect("a config.toml");
        let tmux = Tmux::start(&scene.space, 100, 30, &[], &[env!("CARGO_BIN_EXE_prodex"), "run"]);
        tmux.wait_until("prompt", PATIENCE, |screen| screen.contains("\n›"));
        Screen { tmux, scene }
    }

    /// Types, and waits for what the answer must be.
    #[track_caller]
    pub fn ask(&self, prompt: &str, answer: &str) {
        self.prompt(prompt, || self.tmux.capture().contains(answer));
        let screen = self.tmux.capture();
        let since = screen.rfind(&format!("› {prompt}")).unwrap_or(0);
        for trouble in ["rror", "Reconnecting", "Falling back", "usage limit", "■"] {
            assert!(!screen[since..].contains(trouble), "{trouble} in:\n{screen}");
        }
    }

    /// Types and sends, until something has come of it.
    #[track_caller]
    pub fn prompt(&self, prompt: &str, done: impl Fn() -> bool) {
        self.tmux.send_keys(&["-l", prompt]);
        self.tmux.wait_for(&format!("› {prompt}"), PATIENCE);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            // Too close behind the text it is a pasted line end; on an empty prompt it is nothing.
            self.tmux.send_keys(&["Enter"]);
            let again = Instant::now() + Duration::from_secs(1);
            while Instant::now() < again {
                if done() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("nothing came of {prompt:?}:\n{}", self.tmux.capture());
    }

    /// Of the user's own thread, which is the first: codex asks for a title on the side.
    pub fn asked(&self) -> Vec<String> {
        let thread = |record: &Record| {
            let id = record.header("session-id").or(record.header("session_id"));
            id.expect("a session id").to_owned()
        };
        let users = self.scene.model_records().first().map(thread);
        self.scene.asked_but(|record| Some(thread(record)) != users)
    }

    /// Ctrl+C until codex is gone, as its user does: the first may still interrupt a turn, or only ask.
    #[track_caller]
    pub fn quit(self) {
        for _ in 0..5 {
            self.tmux.send_keys(&["C-c"]);
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until && self.tmux.exit_status().is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            if self.tmux.exit_status().is_some() {
                break;
            }
        }
        assert_eq!(self.tmux.wait_exit(SOON), 0);
        self.scene.nothing_left();
    }
}

#[track_caller]
fn rotates_after_the_warm_up(script: Script) {
    let script = script.on("first", Kind::Turn, [Behave::quota_event()]);
    let screen = Screen::open(Scene::new("tui", &BOTH, script));
    screen
        .scene
        .backend
        .wait_for("the warm-up", PATIENCE, |records| records.iter().any(|r| r.is("first", &Kind::Prewarm)));
    screen.ask("Say hello", "Hello from second.");
    screen.scene.backend.set("second", Kind::Turn, [Behave::answer("And again.")]);
    screen.ask("Say it again", "And again.");
    let asked = ["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+", "second turn+"];
    assert_eq!(screen.asked(), asked);
    screen.quit();
}

#[test]
fn rotates_where_a_workspace_has_no_constraint() {
    rotates_after_the_warm_up(both());
}

#[test]
fn rotates_where_a_workspace_is_the_usual_one() {
    rotates_after_the_warm_up(both().check("first", "https://chatgpt.com", "NO_CONSTRAINT").check(
        "second",
        "https://chatgpt.com",
        "NO_CONSTRAINT",
    ));
}

#[test]
fn rotates_where_the_backend_knows_no_workspaces() {
    let unknown = || [Behave::plain_error(404)];
    rotates_after_the_warm_up(both().on("first", Kind::Check, unknown()).on("second", Kind::Check, unknown()));
}

#[test]
fn rotates_at_the_second_prompt() {
    let screen = Screen::open(Scene::new("tui", &BOTH, both()));
    screen.ask("Say hello", "Hello from first.");
    screen.scene.backend.set("first", Kind::Turn, [Behave::quota_event()]);
    screen.ask("Say it again", "Hello from second.");
    let asked = ["first handshake", "first prewarm+", "first turn+", "first turn", "second handshake", "second turn+"];
    assert_eq!(screen.asked(), asked);
    screen.quit();
}

#[test]
fn rotates_over_http() {
    let script = both()
        .on("first", Kind::Handshake, [Behave::upgrade_required()])
        .on("second", Kind::Handshake, [Behave::upgrade_required()])
        .on("first", Kind::Post, [Behave::quota(QuotaForm::UsageLimitReached, Where::Failed(Stage::Created))]);
    let screen = Screen::open(Scene::new("tui", &BOTH, script));
    screen.ask("Say hello", "Hello from second.");
    screen.scene.backend.set("second", Kind::Post, [Behave::answer("And again.")]);
    screen.ask("Say it again", "And again.");
    assert_eq!(screen.asked(), ["first handshake", "first post", "second post+", "second post+"]);
    screen.quit();
}

#[test]
fn an_interrupt_is_codexs_own() {
    let script = both().on("first", Kind::Turn, [Behave::hang(Point::AfterDeltas(1))]);
    let screen = Screen::open(Scene::new("tui", &BOTH, script));
    let speaks = |record: &Record| record.is("first", &Kind::Turn) && record.output_began;
    screen.prompt("Say hello", || screen.scene.backend.records().iter().any(speaks));
    screen.tmux.send_keys(&["C-c"]);
    screen.tmux.wait_for("interrupted", PATIENCE);
    // The turn is gone upstream as well, and the next one is served.
    screen.scene.backend.wait_for("the leave", PATIENCE, |records| {
        records.iter().any(|record| record.is("first", &Kind::Turn) && record.finished == Finished::ClientGone)
    });
    screen.scene.backend.set("first", Kind::Turn, [Behave::ok()]);
    screen.ask("Say it again", "Hello from first.");
    screen.quit();
}
