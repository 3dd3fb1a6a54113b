//! A terminal for tests: one command in a detached tmux server of its own. Knows no program; needs tmux.

use super::space::TestSpace;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Tmux {
    socket: String,
    tmpdir: PathBuf,
    /// Where the shell around the command leaves its exit status: tmux 3.3 now and then loses it.
    status: PathBuf,
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

impl Tmux {
    /// Starts `argv` in a window of this size, in the world of `space`, with these variables on top.
    pub fn start(space: &TestSpace, width: u16, height: u16, env: &[(&str, &str)], argv: &[&str]) -> Tmux {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let socket = format!("prodex-{}-{serial}", std::process::id());
        let status = space.root().join(format!("{socket}.status"));
        let tmux = Tmux { socket, tmpdir: space.tmp(), status };
        let mut command = space.command("tmux");
        command
            .args(["-L", &tmux.socket, "-f", "/dev/null", "new-session", "-d"])
            .args(["-x", &width.to_string(), "-y", &height.to_string()])
            .env("TMUX_TMPDIR", &tmux.tmpdir)
            .envs(env.iter().copied());
        // The pane stays when the command ends, so that its last screen can be read.
        // A trap that does nothing is not inherited: Ctrl+C reaches the command as ever, and the shell outlives it.
        let shell = "s=$1; shift; trap : INT QUIT; \"$@\"; echo $? > \"$s.partial\"; mv \"$s.partial\" \"$s\"";
        command.args(["--", "sh", "-c", shell, "sh"]).arg(&tmux.status).args(argv);
        command.args([";", "set-option", "-g", "remain-on-exit", "on"]);
        let output = command.stdin(Stdio::null()).output();
        let output = output.expect("tmux is needed for this test: apt-get install tmux (or brew install tmux)");
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        tmux
    }

    fn call(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.socket])
            .args(args)
            .env("TMUX_TMPDIR", &self.tmpdir)
            .output()
            .expect("tmux was there a moment ago");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// tmux names for keys: `Enter`, `C-c`, `Escape`; anything else is typed.
    pub fn send_keys(&self, keys: &[&str]) {
        self.call(&[&["send-keys"], keys].concat());
    }

    /// The screen as text.
    pub fn capture(&self) -> String {
        self.call(&["capture-pane", "-p"])
    }

    /// The screen with its escape sequences for colour.
    pub fn capture_colours(&self) -> String {
        self.call(&["capture-pane", "-p", "-e"])
    }

    /// What tmux knows of the window: `#{cursor_flag}`, `#{alternate_on}`.
    pub fn format(&self, format: &str) -> String {
        self.call(&["display-message", "-p", format]).trim_end().to_owned()
    }

    /// From here on nobody reads what the command prints, until this is dropped.
    pub fn hang(&self) -> Hanging {
        Hanging::new(self.format("#{pid}"))
    }

    pub fn resize(&self, width: u16, height: u16) {
        self.call(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// The exit status as a shell says it (128 + signal), once the command ended.
    pub fn exit_status(&self) -> Option<i32> {
        std::fs::read_to_string(&self.status).ok()?.trim().parse().ok()
    }

    /// The first screen that shows `text`; panics with the last one that does not.
    #[track_caller]
    pub fn wait_for(&self, text: &str, at_most: Duration) -> String {
        self.wait_until(&format!("{text:?}"), at_most, |screen| screen.contains(text))
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, at_most: Duration, wish: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + at_most;
        loop {
            let screen = self.capture();
            if wish(&screen) {
                return screen;
            }
            assert!(Instant::now() < until, "no {what} on the screen within {at_most:?}:\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    #[track_caller]
    pub fn wait_exit(&self, at_most: Duration) -> i32 {
        let until = Instant::now() + at_most;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(Instant::now() < until, "not ended after {at_most:?}:\n{}", self.capture());
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

/// A tmux that stands still.
pub struct Hanging(String);

impl Hanging {
    fn new(pid: String) -> Hanging {
        signal("STOP", &pid);
        Hanging(pid)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

/// To a process that the test started.
pub fn signal(name: &str, pid: &str) {
    let status = Command::new("kill").args(["-s", name, pid]).status();
    assert!(status.expect("kill runs").success(), "kill -s {name} {pid}");
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}
