//! "In use by pid": the mark that a prodex sets on a home while the codex that it launched runs there, so that no prodex
//! refreshes that login under it. The mark is a shared flock, which ends with the process, however it ends.
//!
//! A codex that was started without prodex holds no mark: against it `auth.lock` and reading again protect (`refresh`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Ends in `.lock` like all that `home` never copies. Holds the process ids, one a line, for people.
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
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    Ok(InUse { lock: file })
}

/// The last process that marked this home and still lives; 0 when its number cannot be told. `None`: no mark is held.
pub fn in_use(codex_home: &Path) -> Option<u32> {
    let file = File::open(codex_home.join(NAME)).ok()?;
    // Any other failure means that there is no flock here, so there is no mark either.
    if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    let _ = file.take(MAX_BYTES).read_to_string(&mut text);
    let alive = |pid: &u32| Path::new("/proc").join(pid.to_string()).exists();
    Some(text.lines().rev().filter_map(|line| line.parse().ok()).find(alive).unwrap_or(0))
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
        assert_eq!(std::fs::read_to_string(dir.path(NAME)).unwrap(), format!("{}\n", std::process::id()));
        std::fs::write(dir.path(NAME), "junk\n4000000000\n").unwrap();
        assert_eq!(in_use(dir.root()), Some(0), "held, whoever it is");
        drop(three);
        assert!(mark(&dir.path("missing")).is_err());
    }
}
