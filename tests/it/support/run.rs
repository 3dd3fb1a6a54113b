//! Runs one command with a deadline: its own process group, its output collected, killed with everything it started
//! rather than waited for without end. Knows no program.

use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
    at_most: Duration,
}

#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    /// The exit code, or 128 + signal as a shell says it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Panics with everything that was written unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert_eq!(self.code(), code, "\n-- stdout --\n{}\n-- stderr --\n{}", self.stdout, self.stderr);
        self
    }
}

impl Run {
    pub fn new(command: Command) -> Run {
        Run { command, stdin: None, at_most: Duration::from_mins(1) }
    }

    pub fn stdin(mut self, bytes: &[u8]) -> Run {
        self.stdin = Some(bytes.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    pub fn at_most(mut self, wait: Duration) -> Run {
        self.at_most = wait;
        self
    }

    /// Waits for the end.
    #[track_caller]
    pub fn output(self) -> Output {
        let at_most = self.at_most;
        self.start().wait(at_most)
    }

    /// Starts and comes back at once.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let shown = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), self.stdin.take()) {
            // A thread: the child may write before it reads, and may never read.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let stdout = Collector::start(child.stdout.take().expect("piped"));
        let stderr = Collector::start(child.stderr.take().expect("piped"));
        Running { child, shown, stdout, stderr, began: Instant::now(), ended: false }
    }
}

/// A command under way. Dropped, it is killed with its group.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Collector,
    stderr: Collector,
    began: Instant,
    ended: bool,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends `TERM`, `INT`, `KILL` … to the process alone.
    pub fn signal(&self, name: &str) {
        kill(name, &self.child.id().to_string());
    }

    /// The same to its whole group, as a terminal does with Ctrl+C.
    pub fn signal_group(&self, name: &str) {
        kill(name, &format!("-{}", self.child.id()));
    }

    #[track_caller]
    pub fn wait(mut self, at_most: Duration) -> Output {
        self.ended(at_most)
    }

    /// The same, and what it left behind lives on until this is dropped.
    #[track_caller]
    pub fn ended(&mut self, at_most: Duration) -> Output {
        let until = Instant::now() + at_most;
        loop {
            match self.child.try_wait().expect("the child is ours") {
                Some(status) => {
                    self.ended = true;
                    let took = self.began.elapsed();
                    // Something that outlives the child may hold the pipes: half a second, then what there is.
                    let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
                    return Output { status, stdout, stderr, took };
                }
                None if Instant::now() >= until => {
                    self.signal_group("KILL");
                    panic!(
                        "still running after {at_most:?}: {}\n-- stdout --\n{}\n-- stderr --\n{}",
                        self.shown,
                        self.stdout(),
                        self.stderr()
                    );
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group outlives its leader when the leader left something behind.
        self.signal_group("KILL");
        if !self.ended {
            let _ = self.child.wait();
        }
    }
}

fn kill(name: &str, target: &str) {
    let _ = Command::new("kill").args(["-s", name, "--", target]).stderr(Stdio::null()).status();
}

struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = bytes.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Collector { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn finish(&self) -> String {
        let until = Instant::now() + Duration::from_millis(500);
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.text()
    }
}
