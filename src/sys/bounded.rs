//! A program that is asked something: no terminal, no input, a process group of its own, output kept up to a limit, and
//! killed with everything that it started. Knows nothing of what it is asked.

use super::child::Program;
use super::clock;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Of each stream the last bytes are kept: what a program says at its end tells why it ended.
const KEEP: usize = 16 * 1024;
/// Pause between two looks at a process that runs.
const PAUSE: Duration = Duration::from_millis(5);
/// The pipes of a dead group are empty by then, unless something left the group and holds them.
const DRAIN: Duration = Duration::from_millis(200);

/// Killed with its group when dropped.
pub struct Bounded {
    child: Child,
    status: Option<ExitStatus>,
    killed: bool,
    stdout: Tail,
    stderr: Tail,
}

/// What a program wrote, as text.
pub struct Said {
    /// How it ended by itself; `None`: it had to be killed.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
}

impl Bounded {
    /// Starts it in `dir`, without the variables of `without`. To be called on the main thread: should that die, by
    /// Ctrl+C for one, the kernel kills the program.
    pub fn start(program: &Program, dir: &Path, without: &[&str]) -> io::Result<Bounded> {
        let mut command = Command::new(&program.path);
        for name in without {
            command.env_remove(name);
        }
        command.args(&program.args).envs(program.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(dir).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let (stdout, stderr) = (Tail::of(child.stdout.take()), Tail::of(child.stderr.take()));
        Ok(Bounded { child, status: None, killed: false, stdout, stderr })
    }

    /// Whether it ended by itself.
    pub fn ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status.is_some()
    }

    /// Waits for its end or for `deadline`, then ends what is left of it.
    pub fn finish_by(mut self, deadline: Instant) -> Said {
        while !self.ended() && clock::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        self.finish()
    }

    /// Ends it and everything that it started.
    pub fn finish(mut self) -> Said {
        self.ended();
        self.kill();
        Said { status: self.status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    fn kill(&mut self) {
        self.killed = true;
        // The number of a group stays taken while a member lives. Without one the leader is dead: reaped at most a moment
        // ago, and no new process has become the leader of a group under its number since.
        if let Ok(group) = i32::try_from(self.child.id()) {
            // SAFETY: kill(2) takes plain numbers; a group that is gone is an error that nobody needs.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.child.wait();
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        if !self.killed {
            self.kill();
        }
    }
}

/// The end of one stream, read on a thread of its own.
struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Tail {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let read = move |mut pipe: Box<dyn Read + Send>| {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..count]);
                let surplus = kept.len().saturating_sub(KEEP);
                kept.drain(..surplus);
            }
        };
        // Without a thread the pipe is closed, and the program hears that nobody listens.
        let thread = pipe.and_then(|pipe| {
            std::thread::Builder::new().name("output".to_owned()).spawn(move || read(Box::new(pipe))).ok()
        });
        Tail { bytes, thread }
    }

    fn text(&self) -> String {
        let until = clock::now() + DRAIN;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && clock::now() < until {
            std::thread::sleep(PAUSE);
        }
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Bounded {
        let program = Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("GIVEN".into(), "yes".into())],
        };
        Bounded::start(&program, Path::new("/"), &["HOME"]).unwrap()
    }

    fn soon(seconds: u64) -> Instant {
        clock::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn what_a_program_says() {
        let said = shell("pwd; echo \"$GIVEN${HOME-gone}\"; echo why >&2; exit 7").finish_by(soon(20));
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("/\nyesgone\n", "why\n"));
        assert_eq!(said.status.and_then(|status| status.code()), Some(7));
        let long = shell("yes x | head -c 100000; echo end").finish_by(soon(20)).stdout;
        assert!(long.len() == KEEP && long.ends_with("end\n"));
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let began = clock::now();
        let said = shell("sleep 60 & echo $!; wait").finish_by(clock::now() + Duration::from_millis(300));
        assert!(said.status.is_none() && began.elapsed() < Duration::from_secs(10));
        let child = Path::new("/proc").join(said.stdout.trim());
        let gone = || std::fs::read_to_string(child.join("stat")).map_or(true, |stat| stat.contains(") Z "));
        while !gone() {
            assert!(began.elapsed() < Duration::from_secs(20), "the child of the shell lives on");
            std::thread::sleep(PAUSE);
        }
    }
}
