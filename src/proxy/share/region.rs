//! Where the shared words are: a file in /dev/shm, one for each user, PRODEX_HOME, and world of process numbers; or, where
//! that cannot be, memory of our own. Knows who may begin anew with the words, not what they mean.
//!
//! Memory, because a page of a file on a disk makes its writer wait while the disk takes it, and ends it when the disk is
//! full. Everybody who uses the file holds a shared lock on it, which the kernel takes back when they die: who gets the
//! lock alone knows that nobody is there, and may clear the words or remove the file.

use crate::state::file;
use crate::sys::mapping::{self, Mapping};
use crate::sys::{clock, private, user};
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, UNIX_EPOCH};

const DIRECTORY: &str = "/dev/shm";
/// The number is that of the layout: another one is another file.
const PREFIX: &str = "prodex-2-";
/// Locks that stand in the way are held for microseconds.
const ATTEMPTS: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);
/// What a run said stands at least so long for the next one of its home, whatever other homes the user has. Seconds.
const KEPT: u64 = 120;
/// Names that are read, to find files which nobody uses any more.
const MAX_LOOKED_AT: usize = 1_000;
/// Files that one start removes: it makes one at most, and has better things to do.
const MAX_REMOVED: usize = 8;

pub enum Region {
    Mapped(Mapping),
    Own(Box<[AtomicU64]>),
}

impl Region {
    pub fn words(&self) -> &[AtomicU64] {
        match self {
            Region::Mapped(mapping) => mapping.words(),
            Region::Own(words) => words,
        }
    }

    pub fn own(words: usize) -> Region {
        Region::Own((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// `begin` is called while nobody else has the words.
    pub fn shared(root: &Path, words: usize, begin: impl Fn(&[AtomicU64])) -> io::Result<Region> {
        if !mapping::is_in_memory(Path::new(DIRECTORY)) {
            return Err(io::Error::other(format!("{DIRECTORY} is no memory file system")));
        }
        Region::in_directory(Path::new(DIRECTORY), root, words, begin)
    }

    pub fn in_directory(
        directory: &Path,
        root: &Path,
        words: usize,
        begin: impl Fn(&[AtomicU64]),
    ) -> io::Result<Region> {
        let prefix = format!("{PREFIX}{}-", user::id());
        let path = path(directory, &prefix, root)?;
        let mapping = enter(&path, words, begin)?;
        remove_unused(directory, &prefix, &path);
        Ok(Region::Mapped(mapping))
    }
}

/// Numbers of processes mean something in one namespace only (a container has its own), so each has a file of its own.
fn path(directory: &Path, prefix: &str, root: &Path) -> io::Result<PathBuf> {
    let world = fs::metadata("/proc/self/ns/pid")?.ino();
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    Ok(directory.join(format!("{prefix}{world:x}-{:016x}", super::hash(root.as_os_str().as_bytes()))))
}

fn enter(path: &Path, words: usize, begin: impl Fn(&[AtomicU64])) -> io::Result<Mapping> {
    for _ in 0..ATTEMPTS {
        let mapping = Mapping::open(path, words)?;
        if locked(mapping.file().try_lock())? && file::is_at(mapping.file(), path).unwrap_or(false) {
            begin(mapping.words());
        }
        // From alone to shared somebody may come between: they begin anew too, or remove the file, which shows below.
        if locked(mapping.file().try_lock_shared())? && file::is_at(mapping.file(), path).unwrap_or(false) {
            // Writing through the mapping does not do so.
            let _ = mapping.file().set_modified(UNIX_EPOCH + Duration::from_secs(clock::unix()));
            return Ok(mapping);
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other(format!("{} is locked", path.display())))
}

/// Files of other homes whose last process is gone, and began a while ago: they would fill the memory.
fn remove_unused(directory: &Path, prefix: &str, own: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut removed = 0;
    for entry in entries.flatten().take(MAX_LOOKED_AT) {
        if removed == MAX_REMOVED {
            break;
        }
        let (path, name) = (entry.path(), entry.file_name());
        if path == own || !name.to_str().is_some_and(|name| name.starts_with(prefix)) {
            continue;
        }
        let modified = fs::symlink_metadata(&path).map_or(0, |meta| u64::try_from(meta.mtime()).unwrap_or(0));
        if clock::unix().abs_diff(modified) < KEPT {
            continue;
        }
        let Ok(file) = private::open(OpenOptions::new().read(true), &path) else { continue };
        if locked(file.try_lock()).unwrap_or(false) && file::is_at(&file, &path).unwrap_or(false) {
            let _ = fs::remove_file(&path);
            removed += 1;
        }
    }
}

fn locked(result: Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use std::sync::atomic::Ordering::Relaxed;

    fn open(dir: &Scratch, root: &str) -> io::Result<Region> {
        Region::in_directory(dir.root(), &dir.path(root), 10, |words| {
            words[0].fetch_add(1, Relaxed);
        })
    }

    fn files(dir: &Scratch) -> usize {
        fs::read_dir(dir.root()).unwrap().count()
    }

    #[test]
    fn only_the_first_begins_anew() {
        let dir = Scratch::new("region");
        let begun = |region: &Region| region.words()[0].load(Relaxed);
        let one = open(&dir, "a").unwrap();
        let two = open(&dir, "a").unwrap();
        assert_eq!((begun(&one), begun(&two)), (1, 1));
        drop(one);
        assert_eq!(begun(&open(&dir, "a").unwrap()), 1, "the second is still there");
        drop(two);
        assert_eq!(begun(&open(&dir, "a").unwrap()), 2);
    }

    #[test]
    fn homes_are_apart_and_the_unused_ones_go() {
        let dir = Scratch::new("region-homes");
        let (one, two) = (open(&dir, "a").unwrap(), open(&dir, "b").unwrap());
        one.words()[5].store(1, Relaxed);
        assert_eq!((two.words()[5].load(Relaxed), files(&dir)), (0, 2));
        drop(one);
        let three = open(&dir, "c").unwrap();
        assert_eq!(files(&dir), 3, "a was in use a moment ago");
        drop(three);
        for entry in fs::read_dir(dir.root()).unwrap().flatten() {
            let file = OpenOptions::new().write(true).open(entry.path()).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(clock::unix() - KEPT)).unwrap();
        }
        let _three = open(&dir, "c").unwrap();
        assert_eq!(files(&dir), 2, "b and c are in use, a is not");
        fs::write(dir.path("prodex-1-of-somebody-else"), "").unwrap();
        fs::write(dir.path("something"), "").unwrap();
        let _four = open(&dir, "c").unwrap();
        assert_eq!(files(&dir), 4);
    }

    #[test]
    fn a_start_removes_a_few() {
        let dir = Scratch::new("region-many");
        for n in 0..3 * MAX_REMOVED {
            let name = format!("{PREFIX}{}-{n}", user::id());
            let file = fs::File::create(dir.path(&name)).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
        }
        for left in [2 * MAX_REMOVED, MAX_REMOVED, 0, 0] {
            let _region = open(&dir, "a").unwrap();
            assert_eq!(files(&dir), left + 1);
        }
    }

    #[test]
    fn many_at_once_come_in() {
        let dir = Scratch::new("region-race");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let dir = &dir;
                scope.spawn(move || {
                    for round in 0..50 {
                        let root = ["a", "b"][(thread + round) % 2];
                        let region = open(dir, root).unwrap();
                        assert!(region.words()[0].load(Relaxed) > 0, "someone has begun");
                    }
                });
            }
        });
    }

    #[test]
    fn no_place_is_an_error() {
        let dir = Scratch::new("region-none");
        assert!(Region::in_directory(&dir.path("none"), &dir.path("a"), 10, |_| {}).is_err());
    }
}
