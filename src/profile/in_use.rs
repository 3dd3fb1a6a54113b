//! "In use by pid": the mark that a prodex sets on a home while the codex that it launched runs there, so that no prodex
//! refreshes that login under it. The mark is a shared flock, and a line that says who holds it. What codex leaves behind
//! inherits the flock, a development server for one: so a mark counts only while a process that said so lives.
//!
//! A codex that was started without prodex holds no mark: against it `auth.lock` and reading again protect (`refresh`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Ends in `.lock` like all that `home` never copies. Holds a line for each process: its id, and when it began, which a
/// later process of the same id did not. Older versions wrote the id alone.
const NAME: &str = ".prodex-in-use.lock";
/// Ids of more processes than ever run in one home.
const MAX_BYTES: u64 = 64 * 1024;
/// A check takes microseconds; one that was stopped in the middle must not keep codex from starting.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// This process launched a codex in that home. Keep it until that codex ended.
#[derive(Debug)]
pub struct InUse {
    lock: File,
}

impl InUse {
    /// For a codex that takes our place in the process and is to hold the mark itself.
    pub fn file(&self) -> &File {
        &self.lock
    }
}

/// Several at once may mark a home. Waits for a check that happens to look, which is over at once.
pub fn mark(codex_home: &Path) -> io::Result<InUse> {
    let options = |append| {
        let mut options = OpenOptions::new();
        options.read(true).append(append).write(true).create(true).mode(0o600);
        options
    };
    let mut file = options(true).open(codex_home.join(NAME))?;
    if file.try_lock().is_ok() {
        // Nobody else: what stands in there is of the dead.
        file.set_len(0)?;
    }
    let mut waited = Duration::ZERO;
    while let Err(error) = file.try_lock_shared() {
        if waited >= PATIENCE {
            return Err(error.into());
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
    // From here on nobody empties the file.
    let pid = std::process::id();
    let began = began(pid).map_or_else(String::new, |began| format!(" {began}"));
    file.write_all(format!("{pid}{began}\n").as_bytes())?;
    Ok(InUse { lock: file })
}

/// The last process that marked this home and still lives; 0 when that cannot be told. `None`: nobody uses it. Processes
/// of another PID namespace are not seen.
pub fn in_use(codex_home: &Path) -> Option<u32> {
    let file = File::open(codex_home.join(NAME)).ok()?;
    // Any other failure means that there is no flock here, so there is no mark either.
    if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    let _ = file.take(MAX_BYTES).read_to_string(&mut text);
    let mut said = false;
    for (pid, then) in text.lines().rev().filter_map(holder) {
        said = true;
        if began(pid).is_some_and(|now| then.is_none_or(|then| then == now)) {
            return Some(pid);
        }
    }
    // About to say who it is, or without a /proc to ask.
    (!said || began(std::process::id()).is_none()).then_some(0)
}

fn holder(line: &str) -> Option<(u32, Option<u64>)> {
    match line.split_once(' ') {
        None => Some((line.parse().ok()?, None)),
        Some((pid, began)) => Some((pid.parse().ok()?, Some(began.parse().ok()?))),
    }
}

/// When a process began, in clock ticks since boot: field 22 of /proc/PID/stat. `None`: there is no such process, or only
/// its number, which its parent has not asked for yet.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // Field 2 is a name in brackets and may hold anything, brackets and line ends too.
    let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace();
    fields.next().filter(|&state| state != "Z")?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;

    #[test]
    fn held_by_each_and_gone_with_the_last() {
        let dir = Scratch::new("in-use");
        assert_eq!(in_use(dir.root()), None);
        let one = mark(dir.root()).unwrap();
        let two = mark(dir.root()).unwrap();
        assert_eq!(in_use(dir.root()), Some(std::process::id()));
        drop(one);
        assert_eq!(in_use(dir.root()), Some(std::process::id()));
        drop(two);
        assert_eq!(in_use(dir.root()), None);
        std::fs::write(dir.path(NAME), "junk\n4000000000\n").unwrap();
        let three = mark(dir.root()).unwrap();
        let pid = std::process::id();
        let began = began(pid).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path(NAME)).unwrap(), format!("{pid} {began}\n"));
        for (text, found) in [
            ("", Some(0)),
            ("junk\n4000000000 x\n", Some(0)),
            ("4000000000\n4000000000 1\n", None),
            (&format!("{pid}\n4000000000 1\njunk\n"), Some(pid)),
            (&format!("{pid} {began}\n4000000000\n"), Some(pid)),
            (&format!("{pid} {}\n", began + 1), None),
        ] {
            std::fs::write(dir.path(NAME), text).unwrap();
            assert_eq!(in_use(dir.root()), found, "{text}");
        }
        drop(three);
        assert!(mark(&dir.path("missing")).is_err());
    }

    #[test]
    fn what_codex_leaves_behind_uses_nothing() {
        let dir = Scratch::new("in-use-left");
        let ours = mark(dir.root()).unwrap();
        // A lock of another open of the file, as what inherits it has it when its parent is gone.
        let left = File::open(dir.path(NAME)).unwrap();
        left.try_lock_shared().unwrap();
        let mut parent = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(dir.path(NAME), format!("{} {}\n", parent.id(), began(parent.id()).unwrap())).unwrap();
        drop(ours);
        assert_eq!(in_use(dir.root()), Some(parent.id()));
        parent.kill().unwrap();
        while in_use(dir.root()).is_some() {
            std::thread::yield_now();
        }
        parent.wait().unwrap();
        assert_eq!(in_use(dir.root()), None);
        let again = mark(dir.root()).unwrap();
        assert_eq!(in_use(dir.root()), Some(std::process::id()));
        drop(again);
    }
}
