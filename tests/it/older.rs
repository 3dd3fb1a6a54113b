//! Older versions of codex behind prodex: they start, and their turns rotate as today's do.

use crate::support::scene::Scene;
use crate::support::standin::behave::Behave;
use crate::support::standin::script::{Kind, Script};
use crate::terminal::Screen;

const BOTH: [&str; 2] = ["first", "second"];

const ASKED: [&str; 5] = ["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+"];

fn after_the_warm_up() -> Script {
    Script::new(&BOTH).on("first", Kind::Turn, [Behave::quota_event()])
}

#[test]
fn exec_of_older_versions_rotates() {
    for version in ["0.118.0", "0.155.0"] {
        let mut scene = Scene::new("older", &BOTH, after_the_warm_up());
        scene.codex(version);
        let output = scene.exec(&["Say hello"]).output().expect(0);
        assert_eq!(output.stdout.trim_end(), "Hello from second.");
        assert_eq!(scene.asked(), ASKED, "{version}");
        for trouble in ["ERROR: ", "Reconnecting", "Falling back", "usage limit"] {
            assert!(!output.stderr.contains(trouble), "{version}: {}", output.stderr);
        }
    }
}

#[test]
fn the_terminal_of_0_118_rotates() {
    // Of its own default it would ask whether another should take its place.
    terminal("0.118.0", "model = \"gpt-5.4\"");
}

#[test]
fn the_terminal_of_0_155_rotates() {
    terminal("0.155.0", "");
}

fn terminal(version: &str, config: &str) {
    let mut scene = Scene::new("older", &BOTH, after_the_warm_up());
    scene.codex(version);
    let screen = Screen::open_with(scene, config);
    screen.ask("Say hello", "Hello from second.");
    assert_eq!(screen.asked(), ASKED);
    screen.quit();
}
