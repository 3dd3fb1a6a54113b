//! Where the latest runtime log of ours is, and the end of it. A directory for temporary files belongs to everybody: what is
//! in it is believed only where it is our own. Knows nothing of what a log says.

use super::{POINTER, PREFIX};
use crate::sys::user;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// 0.2.38's sample: about 60 exchanges of ours at its verbosity, some 500 of the short kind.
const SAMPLE: u64 = 128 * 1024;
/// A path has at most 4,096 bytes on Linux.
const MAX_POINTER: u64 = 4096 + 2;

/// The end of the latest log.
pub struct Sample {
    pub log: PathBuf,
    /// Bytes of the whole file.
    pub size: u64,
    pub text: Vec<u8>,
}

pub enum NoLog {
    /// Nothing ran behind the proxy here yet.
    Never,
    /// There is something, and it is not read; why.
    Refused(String),
}

/// Where the pointer to the latest log stands.
pub fn pointer(dir: &Path) -> PathBuf {
    dir.join(POINTER)
}

/// The log that the pointer in `dir` names; where it names none, the newest of our own there. Files must be regular ones of
/// our own user and no links: a directory for temporary files belongs to everybody, and its pointer may be another user's.
pub fn latest(dir: &Path) -> Result<Sample, NoLog> {
    match named(dir).and_then(sample) {
        Ok(sample) => Ok(sample),
        Err(no_log) => match own_logs(dir, user::id()).into_iter().find_map(|log| sample(log.path).ok()) {
            Some(newest) => Ok(newest),
            None => Err(no_log),
        },
    }
}

/// One of our logs.
pub(super) struct OwnLog {
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub len: u64,
    pub path: PathBuf,
}

/// Regular files in `dir` that have the name of a log and belong to `own`, the newest first.
pub(super) fn own_logs(dir: &Path, own: u32) -> Vec<OwnLog> {
    let mut logs: Vec<OwnLog> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with(PREFIX) && name.ends_with(".log")) {
            continue;
        }
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if meta.is_file() && meta.uid() == own {
            logs.push(OwnLog { modified: (meta.mtime(), meta.mtime_nsec()), len: meta.len(), path: entry.path() });
        }
    }
    logs.sort_unstable_by_key(|log| std::cmp::Reverse(log.modified));
    logs
}

/// What the pointer says.
fn named(dir: &Path) -> Result<PathBuf, NoLog> {
    let pointer = pointer(dir);
    let (file, _) = match open_own(&pointer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoLog::Never),
        other => other.map_err(|error| refused(&pointer, &error))?,
    };
    let mut path = Vec::new();
    file.take(MAX_POINTER).read_to_end(&mut path).map_err(|error| refused(&pointer, &error))?;
    path.truncate(path.iter().position(|byte| *byte == b'\n').unwrap_or(path.len()));
    let log = PathBuf::from(OsString::from_vec(path));
    if !log.is_absolute() {
        return Err(NoLog::Refused(format!("{} holds no path", pointer.display())));
    }
    Ok(log)
}

fn sample(log: PathBuf) -> Result<Sample, NoLog> {
    let tail = || -> io::Result<(u64, Vec<u8>)> {
        let (mut file, size) = open_own(&log)?;
        let skipped = size.saturating_sub(SAMPLE);
        file.seek(SeekFrom::Start(skipped))?;
        let mut text = Vec::new();
        file.take(SAMPLE).read_to_end(&mut text)?;
        if skipped > 0 {
            // It begins in the middle of a line.
            let rest = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
            text.drain(..rest);
        }
        Ok((size, text))
    };
    let (size, text) = tail().map_err(|error| refused(&log, &error))?;
    Ok(Sample { log, size, text })
}

fn refused(path: &Path, error: &io::Error) -> NoLog {
    NoLog::Refused(format!("{} is not read: {error}", path.display()))
}

/// Opens a regular file that is no link and belongs to us; with its length.
fn open_own(path: &Path) -> io::Result<(File, u64)> {
    // Before opening: a pipe would hang us.
    let found = path.symlink_metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if found.uid() != user::id() {
        return Err(io::Error::other("it belongs to another user"));
    }
    let file = File::open(path)?;
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (found.dev(), found.ino()) {
        return Err(io::Error::other("it was replaced at this moment"));
    }
    Ok((file, opened.len()))
}

#[cfg(test)]
mod tests {
    use super::super::read::{Summary, summarize};
    use super::*;
    use crate::state::scratch::Scratch;
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    const STAMPED: &str = "[2026-11-25 07:16:03.123 +00:00] ";

    #[test]
    fn ten_megabytes_are_read_from_their_end_only() {
        let scratch = Scratch::new("long");
        let dir = scratch.root();
        let path = dir.join("log");
        let line = format!("{STAMPED}overloaded profile=a\n");
        std::fs::write(&path, line.repeat(10 * 1024 * 1024 / line.len())).unwrap();
        std::fs::write(pointer(dir), path.display().to_string()).unwrap();
        let sample = latest(dir).ok().unwrap();
        assert!(sample.size > 10_000_000 && sample.text.len() as u64 <= SAMPLE);
        let summary = summarize(&sample.text);
        assert_eq!((summary.foreign, summary.count("overloaded")), (0, summary.lines));
        // One line without an end, longer than the sample: nothing, and no trouble.
        std::fs::write(&path, vec![b'x'; 10 * 1024 * 1024]).unwrap();
        assert_eq!(summarize(&latest(dir).ok().unwrap().text), Summary::default());
    }

    #[test]
    fn believes_no_link_and_nothing_that_is_no_file() {
        let scratch = Scratch::new("links");
        let dir = scratch.root();
        let reason = || match latest(dir) {
            Err(NoLog::Refused(reason)) => reason,
            _ => String::new(),
        };
        let log = dir.join("log");
        std::fs::write(&log, "x\n").unwrap();
        std::fs::write(dir.join("real"), log.display().to_string()).unwrap();
        symlink(dir.join("real"), pointer(dir)).unwrap();
        assert!(reason().ends_with("it is no regular file"), "{}", reason());
        std::fs::remove_file(pointer(dir)).unwrap();
        for bad in ["", "\n", "relative/log\n", "\0"] {
            std::fs::write(pointer(dir), bad).unwrap();
            assert!(reason().ends_with("holds no path"), "{}", reason());
        }
        for bad in ["/dev/zero\n", "/no/such/file\n", "/\n", "/\0\n"] {
            std::fs::write(pointer(dir), bad).unwrap();
            assert!(reason().contains("is not read"), "{bad:?} {}", reason());
        }
        symlink(&log, dir.join("link")).unwrap();
        std::fs::write(pointer(dir), dir.join("link").display().to_string()).unwrap();
        assert!(reason().ends_with("it is no regular file"));
    }

    #[test]
    fn where_the_pointer_is_not_ours_the_newest_log_of_our_own_is_read() {
        let scratch = Scratch::new("shared");
        let dir = scratch.root();
        let put = |name: &str, seconds: u64| {
            let path = dir.join(name);
            std::fs::write(&path, name).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + seconds);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            path
        };
        let newest = || latest(dir).ok().map(|sample| String::from_utf8(sample.text).unwrap());
        assert!(matches!(latest(dir), Err(NoLog::Never)));
        put("prodex-runtime-1-1.log", 1);
        let second = put("prodex-runtime-2-2.log", 2);
        put("prodex-runtime-2-2.txt", 3);
        put("other.log", 4);
        symlink("/etc/hostname", dir.join("prodex-runtime-3-3.log")).unwrap();
        std::fs::create_dir(dir.join("prodex-runtime-4-4.log")).unwrap();
        assert_eq!(newest().as_deref(), Some("prodex-runtime-2-2.log"), "no pointer at all");
        // The first user's, to a place that is not for us.
        std::fs::write(pointer(dir), "/root/prodex-runtime-9-9.log\n").unwrap();
        assert_eq!(newest().as_deref(), Some("prodex-runtime-2-2.log"));
        let named = put("prodex-runtime-5-5.log", 0);
        std::fs::write(pointer(dir), named.display().to_string()).unwrap();
        assert_eq!(newest().as_deref(), Some("prodex-runtime-5-5.log"), "a good pointer is followed");
        std::fs::remove_file(pointer(dir)).unwrap();
        std::fs::create_dir(pointer(dir)).unwrap();
        assert_eq!(newest().as_deref(), Some("prodex-runtime-2-2.log"));
        assert_eq!(own_logs(dir, user::id() + 1).len(), 0, "another user's are not ours");
        assert_eq!(own_logs(dir, user::id()).first().map(|log| log.path.clone()), Some(second));
    }
}
