//! Codex as a process: found, replaced into, or started and waited for. Knows nothing of what it is started for.

use crate::sys::signal;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// What to start and with which environment on top of our own.
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
}

/// The executable that `name` means: a path when it holds a slash, else the first in `PATH`.
pub fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return is_executable(Path::new(name)).then(|| PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| is_executable(candidate))
}

/// Becomes that program: same process, same terminal, nothing in between. `keep` stays open in it, for the lock that hangs
/// on it. Returns only when it could not.
pub fn replace(program: &Program, keep: Option<&File>) -> io::Error {
    if let Some(file) = keep {
        // SAFETY: the descriptor is open for as long as `file` is borrowed; clearing its flags touches nothing else.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
    }
    command(program).exec()
}

/// Starts it in our process group with our terminal, and waits. INT and QUIT of the terminal are the child's alone, TERM
/// and HUP sent to us reach it, and what we were started to ignore it ignores too; should we die without a word (SIGKILL), the kernel sends it TERM.
/// To be called on the main thread: the kernel watches the thread that started the child.
pub fn run(program: &Program) -> io::Result<ExitStatus> {
    signal::take_over();
    let mut command = command(program);
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made (prctl, getppid).
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            // We may have died before the line above took effect.
            if u32::try_from(libc::getppid()).is_ok_and(|now| now != parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    signal::forward_to(i32::try_from(child.id()).unwrap_or(0));
    wait_for_end(child.id());
    signal::forward_to(0);
    child.wait()
}

/// The child ended, and its number is still its own.
fn wait_for_end(pid: u32) {
    loop {
        // SAFETY: a zeroed siginfo_t is valid, the pointer is to a live one, and the child is left to be waited for.
        let result = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        // Any other failure is the next wait's to tell.
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// The code that a shell would report: the program's own, or 128+n for signal n (spec S-11).
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(&program.path);
    command.args(&program.args).envs(program.env.iter().map(|(name, value)| (name, value)));
    command
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_path_and_by_name() {
        assert!(find(OsStr::new("sh")).is_some());
        assert_eq!(find(OsStr::new("/bin/sh")), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find(OsStr::new("/etc/passwd")), None, "not executable");
        assert_eq!(find(OsStr::new("no-such-program-here")), None);
    }

    #[test]
    fn codes_as_a_shell_reports_them() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGTERM)), 143);
    }
}
