//! Files of a user's home: bounded reading, atomic replacing, private directories.
//! Knows no format and no file by name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pauses between attempts at a lock grow up to this: long enough to be cheap, short enough that 50 writers are done soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// Reads a regular file of at most `limit` bytes. Anything else (a pipe would hang us, a device has no end) is an
/// error, and so is a longer file.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let there = fs::metadata(path)?;
    if !there.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    // One more than there is, so that the end is seen without growing.
    let mut bytes = Vec::with_capacity(usize::try_from(there.len().min(limit)).map_or(0, |length| length + 1));
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The path still leads to this file.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// Puts `bytes` where `path` is, all or nothing, 0600: a temporary file beside it, fsync, rename, fsync of the
/// directory. `temp_prefix` begins the temporary's name, so that `sweep` finds one that a crash left. The caller holds a lock:
/// two writers of one process would share the name.
pub fn replace(path: &Path, temp_prefix: &str, bytes: &[u8]) -> io::Result<()> {
    let directory = swap(path, temp_prefix, |temp| write_new(temp, bytes))?;
    sync_directory(directory);
    Ok(())
}

/// The same for what can be learned again: after a power cut it may be the old file or an empty one. Waits for no disk.
pub fn replace_cached(path: &Path, temp_prefix: &str, bytes: &[u8]) -> io::Result<()> {
    swap(path, temp_prefix, |temp| write_unsynced(temp, bytes).map(drop)).map(drop)
}

fn swap<'a>(path: &'a Path, prefix: &str, write: impl Fn(&Path) -> io::Result<()>) -> io::Result<&'a Path> {
    let directory = path.parent().ok_or_else(|| io::Error::other("has no directory"))?;
    let temp = directory.join(format!("{prefix}{}", std::process::id()));
    // A process id comes round again: what a dead namesake left is not ours to append to.
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write(&temp).and_then(|()| fs::rename(&temp, path));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.map(|()| directory)
}

/// A new file that only we can read, on the disk when this returns. Never follows a link, never truncates.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_unsynced(path, bytes)?.sync_all()
}

fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask may have taken bits, an inherited ACL may have added some.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Takes the lock on `path` alone; the file is made when it is not there. Held until the result is dropped, also by the
/// death of the process. Waits by trying, so that it can end: a blocking lock would hang with whoever holds it.
/// `WouldBlock`: somebody else had it for all of `patience`.
pub fn lock(path: &Path, patience: Duration) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(error) if waited >= patience => return Err(error.into()),
            Err(_) => {}
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Makes a rename last. Not every file system can (FUSE, some network mounts), and the file itself is whole either
/// way, so a refusal is no failure.
pub fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

/// Creates a directory and its missing parents, 0700. One that exists keeps its mode.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|error| match error.kind() {
        // Something else is there: a file, or a link that leads nowhere or in a circle.
        io::ErrorKind::AlreadyExists => fs::metadata(path).err().unwrap_or_else(|| io::ErrorKind::NotADirectory.into()),
        _ => error,
    })
}

/// Where a symbolic link finally leads, even when nothing is there yet; `path` itself when it is no link.
pub fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(at);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Removes files in `directory` whose names begin with `prefix`. The caller holds the lock under which such files are
/// made: what it finds was left by the dead.
pub fn sweep(directory: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;

    #[test]
    fn a_held_lock_is_given_up() {
        let dir = Scratch::new("lock");
        let held = lock(&dir.path("l"), Duration::ZERO).unwrap();
        let error = lock(&dir.path("l"), Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock(&dir.path("l"), Duration::ZERO).unwrap();
    }

    #[test]
    fn replaces_through_a_temporary_and_leaves_none() {
        let dir = Scratch::new("replace");
        let path = dir.path("f");
        replace(&path, "f.tmp-", b"one").unwrap();
        fs::write(dir.path(&format!("f.tmp-{}", std::process::id())), "torn").unwrap();
        replace(&path, "f.tmp-", b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.root()).unwrap().count(), 1);
        // Over a directory it fails, and takes its temporary with it.
        fs::create_dir(dir.path("d")).unwrap();
        assert!(replace(&dir.path("d"), "d.tmp-", b"x").is_err());
        assert_eq!(fs::read_dir(dir.root()).unwrap().count(), 2);
    }

    #[test]
    fn reads_regular_files_within_the_limit_only() {
        let dir = Scratch::new("read");
        fs::write(dir.path("f"), "12345").unwrap();
        assert_eq!(read_bounded(&dir.path("f"), 5).unwrap(), b"12345");
        assert_eq!(read_bounded(&dir.path("f"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(dir.root(), 5).is_err());
        assert!(read_bounded(Path::new("/dev/zero"), 5).is_err());
        assert_eq!(read_bounded(&dir.path("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn sweeps_only_files_of_its_prefix() {
        let dir = Scratch::new("sweep");
        for name in ["s.tmp-1", "s.tmp-2", "s.last-good"] {
            fs::write(dir.path(name), "x").unwrap();
        }
        fs::create_dir(dir.path("s.tmp-3")).unwrap();
        sweep(dir.root(), "s.tmp-");
        assert_eq!(fs::read_dir(dir.root()).unwrap().count(), 2);
        assert!(dir.path("s.last-good").is_file());
    }

    #[test]
    fn links_lead_to_what_may_not_exist_and_loops_end() {
        use std::os::unix::fs::symlink;
        let dir = Scratch::new("links");
        symlink("b", dir.path("a")).unwrap();
        symlink("c", dir.path("b")).unwrap();
        assert_eq!(link_target(&dir.path("a")).unwrap(), dir.path("c"));
        symlink("loop", dir.path("loop")).unwrap();
        assert!(link_target(&dir.path("loop")).is_err());
    }
}
