//! `bindings.log` on disk: appended to by all processes of the user at once, rewritten by one. Knows the file and its
//! lock, not when to use them (`recorder`).
//!
//! Who appends holds `bindings.lock` shared, who puts a rewritten log in place holds it alone, and the log is opened under
//! the lock: no line can go to a file that was replaced. Readers need no lock, a rename shows them the old file or the new.

use super::line::{self, Entry, Line};
use crate::config::Config;
use crate::state::file;
use crate::sys::private;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A file this long is rewritten, and so is one with twice the lines that count.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;
const MAX_LINES: usize = 2 * (super::MAX_RESPONSES + super::MAX_SESSIONS + super::MAX_TURN_STATES);
/// What a rewriting leaves at most, so that the next one is not due at once: full bounds of real ids make 4 MB.
const KEEP_BYTES: usize = 6 * 1024 * 1024;
/// No more than the end of the file is read: twice what it may be, for writers that could not rewrite it.
const READ_BYTES: u64 = 2 * MAX_BYTES;
/// Whole lines of kinds that only a later version knows are kept for it, but no more than this many.
const MAX_FOREIGN: usize = 4_096;
/// A holder needs microseconds, a rewriting the time of its syncs; who holds it for longer was stopped.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(2);
const TEMP: &str = "bindings.log.tmp-";

pub fn path(config: &Config) -> PathBuf {
    config.root.join("bindings.log")
}

/// How an attempt to append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Fewer than were given when the disk is full.
    pub bytes: usize,
    /// Of the whole file, afterwards.
    pub length: u64,
}

/// Appends `bytes` in one write, so that lines of 50 processes do not mix.
pub fn append(config: &Config, bytes: &[u8]) -> io::Result<Appended> {
    let _lock = lock(config, File::try_lock_shared)?;
    let mut log = private::open(OpenOptions::new().append(true).create(true), &path(config))?;
    let written = loop {
        match log.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => break written?,
        }
    };
    Ok(Appended { bytes: written, length: log.metadata()?.len() })
}

/// Whether so many lines or bytes are in it that it should be rewritten.
fn is_due(bytes: &[u8]) -> bool {
    bytes.len() as u64 > MAX_BYTES || bytes.split(|&byte| byte == b'\n').nth(MAX_LINES).is_some()
}

/// When the log is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// If it is due and nobody else is at it.
    Due,
    /// After whoever is at it.
    Now,
}

/// Rewrites the log with the lines that count and whose profile `keep` approves of. False when there is none, or when it
/// was left alone.
pub fn compact(config: &Config, when: When, keep: impl Fn(&str) -> bool) -> io::Result<bool> {
    // Threads of one process would share the name of the temporary file.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = path(config);
    let Some(mut old) = hold(&path, when)? else { return Ok(false) };
    let (mut bytes, end) = read_tail(&mut old)?;
    // Who appends may be in the middle of it: a reader sees a write in parts. The unfinished line moves along whole.
    let unfinished = bytes.rsplit(|&byte| byte == b'\n').next().map_or(0, <[u8]>::len);
    bytes.truncate(bytes.len() - unfinished);
    let end = end - unfinished as u64;
    if when == When::Due && !is_due(&bytes) {
        return Ok(false);
    }
    file::sweep(&config.root, TEMP);
    let temp = path.with_file_name(format!("{TEMP}{}", std::process::id()));
    let _ = fs::remove_file(&temp);
    let replaced = replace(config, (&mut old, end), &temp, &kept_text(&bytes, keep));
    if replaced.is_err() {
        let _ = fs::remove_file(&temp);
    }
    replaced.map(|()| true)
}

/// The log itself, held alone. Whoever rewrites does so, so that 50 processes which all find it too long do it once.
fn hold(path: &Path, when: When) -> io::Result<Option<File>> {
    loop {
        let log = match private::open(OpenOptions::new().read(true), path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            log => log?,
        };
        match when {
            When::Now => wait(path, || log.try_lock())?,
            When::Due => match log.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                locked => locked?,
            },
        }
        if file::is_at(&log, path)? {
            return Ok(Some(log));
        }
        // Another one is in its place by now.
        if when == When::Due {
            return Ok(None);
        }
    }
}

/// The long part, writing and syncing, stops nobody; what was appended meanwhile moves along under the lock.
fn replace(config: &Config, (old, end): (&mut File, u64), temp: &Path, text: &[u8]) -> io::Result<()> {
    // Synced before the rename: a power cut must not trade the old file for an empty one.
    file::write_new(temp, text)?;
    let mut new = private::open(OpenOptions::new().append(true), temp)?;
    let lock = lock(config, File::try_lock)?;
    old.seek(SeekFrom::Start(end))?;
    io::copy(&mut old.take(READ_BYTES), &mut new)?;
    fs::rename(temp, path(config))?;
    drop(lock);
    file::sync_directory(&config.root);
    Ok(())
}

fn kept_text(bytes: &[u8], keep: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut room = KEEP_BYTES;
    let kept: Vec<&[u8]> = scan(bytes)
        .kept
        .iter()
        .rev()
        .filter(|kept| kept.entry.as_ref().is_none_or(|entry| keep(entry.profile)))
        .map_while(|kept| {
            room = room.checked_sub(kept.line.len() + 1)?;
            Some(kept.line)
        })
        .collect();
    let mut text = Vec::with_capacity(KEEP_BYTES - room);
    for line in kept.iter().rev() {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

/// A line that counts.
pub struct Kept<'a> {
    pub line: &'a [u8],
    /// `None` for a kind that we do not know.
    pub entry: Option<Entry<'a>>,
}

pub struct Scan<'a> {
    /// Oldest first, the last of each id, within the bounds.
    pub kept: Vec<Kept<'a>>,
    pub unreadable: usize,
}

pub fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut seen = HashSet::new();
    let mut counts = [0_usize; 3];
    let mut foreign = HashSet::new();
    let (mut kept, mut unreadable) = (Vec::new(), 0);
    for (nth, line) in bytes.rsplit(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let entry = match line::decode(line) {
            Line::Known(entry) => {
                let count = &mut counts[entry.kind as usize];
                if *count == entry.kind.limit() || !seen.insert((entry.kind, entry.id)) {
                    continue;
                }
                *count += 1;
                Some(entry)
            }
            Line::Foreign if foreign.len() < MAX_FOREIGN && foreign.insert(line) => None,
            Line::Foreign => continue,
            // The last has no end: somebody is writing it, or died of it.
            Line::Unreadable => {
                unreadable += usize::from(nth > 0);
                continue;
            }
        };
        kept.push(Kept { line, entry });
    }
    kept.reverse();
    Scan { kept, unreadable }
}

/// The end of the file, from the beginning of a line on.
pub fn tail(path: &Path) -> io::Result<Vec<u8>> {
    Ok(read_tail(&mut private::open(OpenOptions::new().read(true), path)?)?.0)
}

/// The same, and where it ends.
fn read_tail(log: &mut File) -> io::Result<(Vec<u8>, u64)> {
    let length = log.metadata()?.len();
    let skipped = length.saturating_sub(READ_BYTES);
    log.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length - skipped).unwrap_or(0));
    log.take(READ_BYTES).read_to_end(&mut bytes)?;
    let end = skipped + bytes.len() as u64;
    if skipped > 0 {
        let begun = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
        bytes.drain(..begun);
    }
    Ok((bytes, end))
}

/// Released when dropped, also by the death of the process.
fn lock(config: &Config, attempt: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<File> {
    file::create_private_dir(&config.root)?;
    let path = config.root.join("bindings.lock");
    let file = private::open(OpenOptions::new().read(true).write(true).create(true).truncate(false), &path)?;
    wait(&path, || attempt(&file))?;
    Ok(file)
}

/// Waits by trying, so that it can end.
fn wait(path: &Path, attempt: impl Fn() -> Result<(), TryLockError>) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) if waited >= LOCK_PATIENCE => {
                return Err(io::Error::other(format!("{} is locked by another process", path.display())));
            }
            Err(_) => {}
        }
        std::thread::sleep(LOCK_PAUSE);
        waited += LOCK_PAUSE;
    }
}
