//! `state.json` on disk (spec S-21): one lock for every change, a copy that is known to be good, no torn file at any instant.
//! Knows how to read and replace the document, not what is in it (`State`).
//!
//! Readers take no lock: a rename shows them the old file or the new one. Writers hold `state.json.lock` from
//! reading to renaming, so no change is made to a stale copy. 0.2.38 locks the same file.

use super::{State, file};
use crate::config::Config;
use crate::error::Error;
use crate::sys::clock;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// 16,384 + 4,096 bindings of 0.2.38 make 2.3 MB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Every change takes milliseconds; who holds the lock for this long hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const TEMP: &str = "state.json.tmp-";

#[derive(Debug)]
pub struct Loaded {
    pub state: State,
    /// `state.json` does not parse; where, why, and what is used instead.
    pub warning: Option<String>,
}

/// What stands in the files now. No file is an empty state.
pub fn load(config: &Config) -> Result<Loaded, Error> {
    Ok(read(config)?.0)
}

/// Lock, read, apply, write. Nothing is written when `change` fails or changes nothing.
pub fn update<T>(config: &Config, change: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
    let _lock = Lock::take(config)?;
    let (Loaded { mut state, .. }, on_disk) = read(config)?;
    let result = change(&mut state)?;
    write(config, &state, &on_disk)?;
    Ok(result)
}

/// Apart from `update`, of which there is one for each kind of change.
fn write(config: &Config, state: &State, on_disk: &OnDisk) -> Result<(), Error> {
    let text = state.text();
    let path = config.state_file();
    if text.len() as u64 > MAX_BYTES {
        // Written, nobody could read it any more.
        let what = format!("{} would be larger than {} MiB, so it stays as it is", path.display(), MAX_BYTES >> 20);
        return Err(Error::new(what).next("Look for what makes it so large."));
    }
    let target = file::link_target(&path).map_err(|error| Error::io("follow", &path, &error))?;
    for directory in [Some(config.root.as_path()), target.parent()].into_iter().flatten() {
        file::sweep(directory, TEMP);
    }
    match on_disk {
        OnDisk::Good(bytes) if *bytes == text.as_bytes() => return Ok(()),
        OnDisk::Good(bytes) => keep_last_good(config, bytes)?,
        OnDisk::Broken => set_aside(&path, clock::unix())?,
        // Begun anew, or lost: the copy of what was there is not to go with the first change.
        OnDisk::Absent if last_good(config).is_file() => set_aside(&last_good(config), clock::unix())?,
        OnDisk::Absent => {}
    }
    file::replace(&target, TEMP, text.as_bytes()).map_err(|error| cannot("write", &target, &error))?;
    // The copy follows the file, so that a file torn later (0.2.38 does not fsync) costs no change of ours. Before the
    // rename above it held the version that this one replaced. The change is made: that its copy has to wait for the next one
    // (a full disk) is no failure, for which a caller would undo its part.
    let _ = keep_last_good(config, text.as_bytes());
    Ok(())
}

/// The lock that every change of the root's files takes; released when dropped, also by the death of the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(config: &Config) -> Result<Lock, Error> {
        file::create_private_dir(&config.root).map_err(|error| cannot("create", &config.root, &error))?;
        let path = config.root.join("state.json.lock");
        match file::lock(&path, LOCK_PATIENCE) {
            Ok(file) => Ok(Lock { _file: file }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let seconds = LOCK_PATIENCE.as_secs();
                let what = format!("{} has been locked by another process for {seconds} s", path.display());
                Err(Error::new(what).next("Look for a prodex that hangs, stop it and try again."))
            }
            Err(error) => Err(cannot("lock", &path, &error)),
        }
    }
}

/// A failure to write below the root, with what can be done about it.
pub fn cannot(doing: &str, path: &Path, error: &io::Error) -> Error {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Make it writable for you, or choose another place with PRODEX_HOME."
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Make room on that disk, and try again.",
        _ => return Error::io(doing, path, error),
    };
    Error::io(doing, path, error).next(next)
}

enum OnDisk {
    Absent,
    Good(Vec<u8>),
    Broken,
}

fn last_good(config: &Config) -> PathBuf {
    config.root.join("state.json.last-good")
}

fn read(config: &Config) -> Result<(Loaded, OnDisk), Error> {
    let path = config.state_file();
    let bytes = match file::read_bounded(&path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Loaded { state: State::default(), warning: None }, OnDisk::Absent));
        }
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    let reason = match State::parse(&bytes) {
        Ok(state) => return Ok((Loaded { state, warning: None }, OnDisk::Good(bytes))),
        Err(reason) => reason,
    };
    let copy = last_good(config);
    let rescued = file::read_bounded(&copy, MAX_BYTES).ok().and_then(|bytes| State::parse(&bytes).ok());
    let homes = config.profiles_dir();
    let is_home_left = || fs::read_dir(&homes).is_ok_and(|mut homes| homes.next().is_some());
    let instead = match &rescued {
        Some(_) => format!("{} is used instead", copy.display()),
        None if is_home_left() => format!(
            "there is no good copy, so no profile is known, but `prodex profile add NAME` takes each home in again that is \
             in {}",
            homes.display()
        ),
        None => "there is no good copy, so no profile is known".to_owned(),
    };
    let warning = format!(
        "{} cannot be read: {reason}; {instead}, and the next change keeps the damaged file as {}",
        path.display(),
        aside_name(&path, "<time>").display()
    );
    let state = rescued.unwrap_or_default();
    Ok((Loaded { state, warning: Some(warning) }, OnDisk::Broken))
}

fn keep_last_good(config: &Config, bytes: &[u8]) -> Result<(), Error> {
    let path = last_good(config);
    if file::read_bounded(&path, MAX_BYTES).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    file::replace(&path, TEMP, bytes).map_err(|error| cannot("write", &path, &error))
}

/// A second name for the damaged file before the good one takes its place: at no instant is there no `state.json`.
fn set_aside(path: &Path, now: u64) -> Result<(), Error> {
    let source = file::link_target(path).map_err(|error| Error::io("follow", path, &error))?;
    let mut number = now;
    loop {
        let aside = aside_name(path, &number.to_string());
        let kept = match fs::hard_link(&source, &aside) {
            // Not every file system has hard links, and a link's target may be on another one.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                file::read_bounded(&source, MAX_BYTES).and_then(|bytes| file::write_new(&aside, &bytes))
            }
            linked => linked,
        };
        match kept {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            kept => return kept.map_err(|error| Error::io("keep the damaged file as", &aside, &error)),
        }
    }
}

fn aside_name(path: &Path, when: &str) -> PathBuf {
    path.with_file_name(format!("state.json.broken-{when}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn activate(config: &Config, name: &str) {
        update(config, |state| {
            state.set_active(Some(name));
            Ok(())
        })
        .unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_change_is_private_whole_and_leaves_no_temporary() {
        let dir = Scratch::new("store");
        let config = dir.config();
        assert!(load(&config).unwrap().state.profiles().is_empty());
        assert!(!config.root.exists(), "reading creates nothing");
        activate(&config, "a");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&config.root), 0o700);
        for name in names(&config.root) {
            assert_eq!(mode(&config.root.join(&name)), 0o600, "{name}");
        }
        assert_eq!(names(&config.root), ["state.json", "state.json.last-good", "state.json.lock"]);
        assert_eq!(load(&config).unwrap().state.active().as_deref(), Some("a"));
    }

    #[test]
    fn a_failing_change_writes_nothing() {
        let dir = Scratch::new("store-fail");
        let config = dir.config();
        let failed = update(&config, |state| {
            state.set_active(Some("a"));
            Err::<(), _>(Error::new("no"))
        });
        assert!(failed.is_err());
        assert!(!config.state_file().exists());
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let dir = Scratch::new("store-large");
        let config = dir.config();
        activate(&config, "a");
        let error = update(&config, |state| {
            state.set_active(Some(&"x".repeat(usize::try_from(MAX_BYTES).unwrap())));
            Ok(())
        });
        assert!(error.unwrap_err().to_string().contains("larger than 64 MiB"));
        assert_eq!(load(&config).unwrap().state.active().as_deref(), Some("a"));
        assert_eq!(names(&config.root), ["state.json", "state.json.last-good", "state.json.lock"]);
    }

    #[test]
    fn a_damaged_file_is_reported_replaced_by_the_copy_and_kept() {
        let dir = Scratch::new("store-broken");
        let config = dir.config();
        activate(&config, "a");
        let torn = &fs::read(config.state_file()).unwrap()[..20];
        fs::write(config.state_file(), torn).unwrap();
        let loaded = load(&config).unwrap();
        let warning = loaded.warning.unwrap();
        assert!(warning.contains(config.state_file().to_str().unwrap()) && warning.contains("20"), "{warning}");
        assert_eq!(loaded.state.active().as_deref(), Some("a"));
        assert_eq!(fs::read(config.state_file()).unwrap(), torn, "reading changes nothing");
        assert!(update(&config, |_| Err::<(), _>(Error::new("no"))).is_err());
        assert_eq!(fs::read(config.state_file()).unwrap(), torn, "a failed change neither");
        activate(&config, "b");
        assert!(load(&config).unwrap().warning.is_none());
        let aside = names(&config.root).into_iter().find(|name| name.starts_with("state.json.broken-")).unwrap();
        assert_eq!(fs::read(config.root.join(aside)).unwrap(), torn);
        // Without the copy, what is left is named.
        fs::write(config.state_file(), torn).unwrap();
        fs::remove_file(last_good(&config)).unwrap();
        let warning = || load(&config).unwrap().warning.unwrap();
        assert!(warning().contains("so no profile is known, and the next change"), "{}", warning());
        fs::create_dir_all(config.profiles_dir().join("main")).unwrap();
        assert!(warning().contains("known, but `prodex profile add NAME` takes each home"), "{}", warning());
        activate(&config, "b");
        // Twice in one second: two names.
        fs::write(config.state_file(), "").unwrap();
        activate(&config, "c");
        assert_eq!(names(&config.root).iter().filter(|name| name.contains("broken-")).count(), 3);
    }

    /// A caller undoes its part of a change that failed: a home that was just made, with its login.
    #[test]
    fn a_change_whose_copy_cannot_be_kept_is_made() {
        let dir = Scratch::new("store-no-copy");
        let config = dir.config();
        fs::create_dir_all(last_good(&config)).unwrap();
        activate(&config, "a");
        assert_eq!(load(&config).unwrap().state.active().as_deref(), Some("a"));
        let failed = update(&config, |state| {
            state.set_active(Some("b"));
            Ok(())
        });
        assert!(failed.is_err(), "one that is there is not replaced without a copy");
        assert_eq!(load(&config).unwrap().state.active().as_deref(), Some("a"));
    }

    #[test]
    fn of_a_file_that_is_gone_the_copy_stays() {
        let dir = Scratch::new("store-gone");
        let config = dir.config();
        activate(&config, "a");
        let before = fs::read(config.state_file()).unwrap();
        fs::remove_file(config.state_file()).unwrap();
        assert_eq!(load(&config).unwrap().state.active(), None);
        for name in ["b", "c"] {
            activate(&config, name);
        }
        let kept: Vec<String> = names(&config.root).into_iter().filter(|name| name.contains("broken-")).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(fs::read(config.root.join(&kept[0])).unwrap(), before);
    }

    #[test]
    fn a_link_is_written_through_also_before_its_target_exists() {
        let dir = Scratch::new("store-link");
        let config = dir.config();
        fs::create_dir_all(&config.root).unwrap();
        fs::create_dir(dir.path("dotfiles")).unwrap();
        symlink("../dotfiles/state.json", config.state_file()).unwrap();
        activate(&config, "a");
        activate(&config, "b");
        assert!(config.state_file().is_symlink());
        assert!(fs::read_to_string(dir.path("dotfiles/state.json")).unwrap().contains("\"b\""));
        assert_eq!(names(&dir.path("dotfiles")), ["state.json"]);
    }

    #[test]
    fn what_is_no_file_or_cannot_be_read_is_an_error_and_stays() {
        let dir = Scratch::new("store-dir");
        let config = dir.config();
        fs::create_dir_all(config.state_file()).unwrap();
        assert!(load(&config).is_err());
        assert!(update(&config, |_| Ok(())).is_err());
        assert!(config.state_file().is_dir());
    }
}
