//! The threads of a history store, the last used first, from codex's transcripts; codex's databases are not opened.
//! Bounded however long the history is: the newest directories first, of each file some bytes.

use super::rollout::{self, Origin};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Threads begun before these are not seen, though they may have gone on since: their files lie anywhere in the tree.
pub const MAX_FILES: usize = 5_000;
/// Names that are looked at in one directory: 200,000 threads of one day are taken in, a directory without end is not.
const MAX_NAMES: usize = 1_000_000;
/// The first line up to the long instructions; 0.169 needs 700 bytes.
const HEAD: u64 = 8 * 1024;
/// What stands before the user's first words: instructions and tools, 90 KB in 0.169.
const HEAD_WITH_WORDS: u64 = 512 * 1024;
/// Reaches back over the last turn of most threads.
const TAIL: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub id: String,
    pub path: PathBuf,
    /// Unix seconds.
    pub updated_at: u64,
    /// Where its last turn ran; not cleaned.
    pub cwd: Option<String>,
    pub origin: Origin,
    pub provider: Option<String>,
}

impl Thread {
    /// The first that the user said, on one line; not cleaned.
    pub fn words(&self) -> Option<String> {
        let mut head = Vec::new();
        File::open(&self.path).ok()?.take(HEAD_WITH_WORDS).read_to_end(&mut head).ok()?;
        rollout::words(&head)
    }
}

/// Reads one transcript at a time, the last changed one first.
pub struct Threads {
    /// With the time since 1970; the last changed one last. Two within a second are told apart.
    files: Vec<(Duration, PathBuf)>,
    /// Files and directories that could not be read, or are no transcripts though they look so.
    pub skipped: usize,
}

impl Threads {
    /// Of a `CODEX_HOME`; none where there is no history.
    pub fn of(codex_home: &Path) -> Threads {
        let mut threads = Threads { files: Vec::new(), skipped: 0 };
        let mut days = vec![codex_home.join("sessions")];
        // Years, months, days.
        for digits in [4, 2, 2] {
            let mut below = Vec::new();
            for directory in days {
                let is_number = |name: &str| name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit());
                below.extend(threads.newest(&directory, MAX_FILES, is_number));
                if below.len() > MAX_FILES {
                    break;
                }
            }
            days = below;
        }
        for day in days {
            let room = MAX_FILES - threads.files.len();
            if room == 0 {
                break;
            }
            for path in threads.newest(&day, room, |name| rollout::named(name).is_some()) {
                match fs::metadata(&path).and_then(|meta| changed_at(&meta)) {
                    Ok(at) => threads.files.push((at, path)),
                    Err(_) => threads.skipped += 1,
                }
            }
        }
        threads.files.sort_unstable();
        threads
    }

    /// Entries with such a name, by name from the last: codex puts the time into its names.
    fn newest(&mut self, directory: &Path, limit: usize, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.skipped += usize::from(error.kind() != io::ErrorKind::NotFound);
                return Vec::new();
            }
        };
        let mut names: Vec<String> = Vec::new();
        for entry in entries.take(MAX_NAMES).flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if wanted(&name) {
                names.push(name);
            }
            // Never many more than are wanted.
            if names.len() >= 2 * limit.max(1) {
                keep_last(&mut names, limit);
            }
        }
        keep_last(&mut names, limit);
        names.into_iter().map(|name| directory.join(name)).collect()
    }
}

fn keep_last(names: &mut Vec<String>, limit: usize) {
    names.sort_unstable_by(|one, other| other.cmp(one));
    names.truncate(limit);
}

impl Iterator for Threads {
    type Item = Thread;

    fn next(&mut self) -> Option<Thread> {
        while let Some((updated_at, path)) = self.files.pop() {
            match read(&path, updated_at.as_secs()) {
                Some(thread) => return Some(thread),
                None => self.skipped += 1,
            }
        }
        None
    }
}

/// A pipe would hang us.
fn changed_at(meta: &Metadata) -> io::Result<Duration> {
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn read(path: &Path, updated_at: u64) -> Option<Thread> {
    let (id, compressed) = rollout::named(path.file_name()?.to_str()?)?;
    let mut thread = Thread {
        id: id.to_owned(),
        path: path.to_owned(),
        updated_at,
        cwd: None,
        origin: Origin::Other,
        provider: None,
    };
    // An old thread that codex put away: its name is all that can be had without unpacking it.
    if compressed {
        return Some(thread);
    }
    let mut file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut bytes).ok()?;
    // The name is what codex finds it by: a copy under another name is no thread.
    let meta = rollout::meta(&bytes).filter(|meta| meta.id == thread.id)?;
    let length = file.metadata().ok()?.len();
    bytes.clear();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    thread.cwd = rollout::last_cwd(&bytes).or(meta.cwd);
    (thread.origin, thread.provider) = (meta.origin, meta.provider);
    Some(thread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use std::fs::OpenOptions;
    use std::os::unix::fs::symlink;

    fn id(number: u32) -> String {
        format!("01a212af-92e5-7b53-bd59-{number:012x}")
    }

    fn write(home: &Path, day: &str, number: u32, updated_at: u64) -> PathBuf {
        let directory = home.join("sessions").join(day);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("rollout-2026-11-25T12-30-26-{}.jsonl", id(number)));
        let meta =
            format!(r#"{{"type":"session_meta","payload":{{"id":"{}","cwd":"/w","source":"cli"}}}}"#, id(number));
        fs::write(&path, meta + "\n").unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(updated_at)).unwrap();
        path
    }

    #[test]
    fn the_last_used_first_and_what_is_none_is_counted() {
        let home = Scratch::new("threads");
        let home = home.config().shared_codex_home;
        assert_eq!(Threads::of(&home).count(), 0);
        write(&home, "2026/11/25", 1, 1_000);
        write(&home, "2025/01/02", 2, 3_000);
        let torn = write(&home, "2026/11/25", 3, 4_000);
        fs::write(&torn, r#"{"type":"session_meta","pay"#).unwrap();
        let copy = write(&home, "2026/11/24", 4, 2_000);
        fs::copy(&copy, copy.with_file_name(format!("rollout-2026-11-24T00-00-00-{}.jsonl", id(9)))).unwrap();
        fs::write(copy.with_file_name(format!("rollout-2026-11-24T00-00-00-{}.jsonl.zst", id(5))), "zst").unwrap();
        fs::create_dir(copy.with_file_name(format!("rollout-2026-11-24T00-00-00-{}.jsonl", id(6)))).unwrap();
        fs::write(copy.with_file_name("notes.txt"), "x").unwrap();
        symlink("loop", home.join("sessions/2024")).unwrap();
        symlink("2024", home.join("sessions/loop")).unwrap();
        let mut threads = Threads::of(&home);
        let ids: Vec<String> = threads.by_ref().map(|thread| thread.id).collect();
        assert_eq!(ids, [id(5), id(2), id(4), id(1)]);
        assert_eq!(threads.skipped, 4, "torn, copy, directory, loop");
    }

    #[test]
    fn the_newest_of_a_large_directory() {
        let home = Scratch::new("threads-large");
        let home = home.config().shared_codex_home;
        for number in 0..9 {
            write(&home, "2026/11/25", number, 1);
        }
        let mut threads = Threads { files: Vec::new(), skipped: 0 };
        let names = threads.newest(&home.join("sessions/2026/11/25"), 2, |name| rollout::named(name).is_some());
        let names: Vec<String> = names.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].ends_with(&format!("{}.jsonl", id(8))) && names[1].ends_with(&format!("{}.jsonl", id(7))));
        assert!(threads.newest(&home.join("sessions"), 0, |_| true).is_empty());
    }
}
