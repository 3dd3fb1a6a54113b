//! Writing `auth.json` of a `CODEX_HOME` as codex writes it (wire.md 7): under its locks, whole or not at all, 0600.
//! Knows files, not tokens: what stands in them is the caller's.
//!
//! `auth.lock` is held by whoever is about to change the login, over the request to the server included; `auth.json.lock`
//! only while the file is replaced. Codex waits for the first without end and does not wait for the second.

use super::auth::MAX_BYTES;
use crate::error::Error;
use crate::state::file;
use crate::sys::clock;
use crate::wire::json::Raw;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Codex's own beginning for the temporary file; only read and made under `auth.lock`.
const TEMP: &str = ".auth-";
/// What a login may grow by when it is refreshed: three tokens of a few KB each.
const ROOM: usize = 64 * 1024;
/// Longer than any rename; who holds `auth.json.lock` for this long hangs, and a rename harms nobody.
const SHORT: Duration = Duration::from_secs(2);
/// Pauses between attempts grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A codex that refreshes holds its lock for one request to the login server.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The words for a lock that could not be taken.
pub fn not_locked(codex_home: &Path, error: &io::Error) -> Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return Error::io("lock", &codex_home.join("auth.json"), error);
    }
    let home = codex_home.display();
    let next = format!("End the codex in {home}, and try again.");
    Error::new(format!("another process has held the login in {home} locked for {} s", PATIENCE.as_secs())).next(next)
}

/// Codex's lock over changes of the login in one home. Released when dropped, also by the death of the process.
#[derive(Debug)]
pub struct Locked {
    home: PathBuf,
    _lock: File,
}

impl Locked {
    /// Waits until `until`; `WouldBlock` when somebody has it for longer, `NotFound` when the home went meanwhile.
    pub fn take(codex_home: &Path, until: Instant) -> io::Result<Locked> {
        let path = codex_home.join("auth.lock");
        let lock = wait_for(&path, until)?;
        if !file::is_at(&lock, &path)? {
            // The lock of a home that was removed guards nothing; what is here by its name now is another one.
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Locked { home: codex_home.to_owned(), _lock: lock })
    }

    pub fn read(&self) -> io::Result<Vec<u8>> {
        file::read_bounded(&self.path(), MAX_BYTES)
    }

    /// A temporary file with room for the login on the disk: a full disk or a read-only home shows before a token that
    /// works once is spent.
    pub fn draft(&self) -> io::Result<Draft<'_>> {
        let mut draft = Draft { locked: self, path: PathBuf::new(), file: None };
        loop {
            draft.path = self.home.join(format!("{TEMP}{}", six_letters()));
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.path);
            match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = draft.file.insert(opened?);
                    file.set_permissions(fs::Permissions::from_mode(0o600))?;
                    let size = fs::metadata(self.path()).map_or(0, |meta| meta.len()).min(MAX_BYTES);
                    file.write_all(&vec![0; usize::try_from(size).unwrap_or(0) + ROOM])?;
                    file.sync_data()?;
                    return Ok(draft);
                }
            }
        }
    }

    /// Puts these bytes in the place of the login.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.draft()?.publish(bytes)
    }

    /// What a death between writing and renaming left. A login that is newer than the one in place is the only copy of
    /// a token that works once, so it takes its place; anything else goes.
    pub fn recover(&self) {
        let mut left: Vec<PathBuf> = left_over(&self.home).collect();
        if left.is_empty() {
            return;
        }
        let _short = self.short();
        left.sort();
        for path in left {
            let newer = file::read_bounded(&path, MAX_BYTES).ok().filter(|bytes| self.is_newer(bytes));
            let adopted = newer.is_some() && fs::rename(&path, self.path()).is_ok();
            if !adopted {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn is_newer(&self, bytes: &[u8]) -> bool {
        let Ok(current) = self.read() else { return false };
        let text = |bytes: &[u8], path: &[&str]| -> Option<String> {
            Some(Raw::parse(bytes).ok()?.at(path)?.as_str()?.into_owned())
        };
        let account = ["tokens", "account_id"];
        let has = |name| text(bytes, &["tokens", name]).is_some_and(|token| !token.is_empty());
        // RFC 3339 in UTC: later is greater, to the second, which is all that matters here.
        let when = |bytes: &[u8]| text(bytes, &["last_refresh"]).map(|at| at.chars().take(19).collect::<String>());
        has("access_token")
            && has("refresh_token")
            && text(bytes, &account) == text(&current, &account)
            && when(bytes) > when(&current)
    }

    fn path(&self) -> PathBuf {
        self.home.join("auth.json")
    }

    /// Codex's lock over the replacing. When it cannot be had the rename goes on without: it is whole either way, and
    /// what would be lost is a login.
    fn short(&self) -> Option<File> {
        wait_for(&self.home.join("auth.json.lock"), clock::now() + SHORT).ok()
    }
}

/// `recover`, where there is something to do and nobody is at work on the login.
pub fn recover_left_over(codex_home: &Path) {
    if left_over(codex_home).next().is_some()
        && let Ok(locked) = Locked::take(codex_home, clock::now())
    {
        locked.recover();
    }
}

/// What `recover` would look at.
pub fn left_over(codex_home: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(codex_home).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_temporary));
    named.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).map(|entry| entry.path())
}

/// Six letters or digits follow, as codex has it: another name is the user's own.
fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix(TEMP);
    random.is_some_and(|random| random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A file that becomes the login, or goes when dropped.
#[derive(Debug)]
pub struct Draft<'a> {
    locked: &'a Locked,
    path: PathBuf,
    file: Option<File>,
}

impl Draft<'_> {
    pub fn publish(mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let result = file
            .rewind()
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.set_len(bytes.len() as u64))
            .and_then(|()| file.sync_all())
            .and_then(|()| {
                let _short = self.locked.short();
                fs::rename(&self.path, self.locked.path())
            });
        if result.is_err() {
            self.file = Some(file);
        }
        result?;
        file::sync_directory(&self.locked.home);
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// flock(2), as codex does, by trying: a blocking lock would hang with whoever holds it.
fn wait_for(path: &Path, until: Instant) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut pause = Duration::from_millis(1);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) if clock::now() >= until => return Err(io::ErrorKind::WouldBlock.into()),
            Err(_) => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Hard to guess is not asked for: the name is created new, in a private directory.
fn six_letters() -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = RandomState::new().hash_one(std::process::id());
    let mut letter = || {
        let at = usize::try_from(random % 62).unwrap_or(0);
        random /= 62;
        LETTERS.get(at).map_or('x', |letter| char::from(*letter))
    };
    (0..6).map(|_| letter()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;

    fn login(account: &str, at: &str) -> String {
        format!(
            r#"{{"tokens":{{"access_token":"a","refresh_token":"r","account_id":"{account}"}},"last_refresh":"{at}"}}"#
        )
    }

    fn names(dir: &Scratch) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir.root()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_draft_becomes_the_login_or_goes() {
        let dir = Scratch::new("draft");
        let locked = Locked::take(dir.root(), clock::now()).unwrap();
        drop(locked.draft().unwrap());
        assert_eq!(names(&dir), ["auth.lock"]);
        locked.replace(b"{}").unwrap();
        assert_eq!(locked.read().unwrap(), b"{}");
        assert_eq!(fs::metadata(dir.path("auth.json")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&dir), ["auth.json", "auth.json.lock", "auth.lock"]);
        let busy = Locked::take(dir.root(), clock::now() + Duration::from_millis(5)).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        assert!(not_locked(dir.root(), &busy).to_string().contains("End the codex in"));
        fs::remove_file(dir.path("auth.json")).unwrap();
        fs::create_dir(dir.path("auth.json")).unwrap();
        assert!(locked.replace(b"{}").is_err());
        assert_eq!(names(&dir), ["auth.json", "auth.json.lock", "auth.lock"]);
    }

    #[test]
    fn the_lock_of_a_home_that_went_is_none() {
        let dir = Scratch::new("lock-gone");
        let (home, gone) = (dir.path("home"), dir.path("gone"));
        fs::create_dir(&home).unwrap();
        let held = Locked::take(&home, clock::now()).unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Locked::take(&home, clock::now() + PATIENCE));
            // Either it waits for the lock that moves, or it comes when there is nothing: the same answer.
            std::thread::sleep(Duration::from_millis(20));
            fs::rename(&home, &gone).unwrap();
            drop(held);
            waiting.join().unwrap()
        });
        assert_eq!(waiting.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!home.exists());
    }

    #[test]
    fn the_newer_login_of_a_death_is_kept_and_the_rest_swept() {
        let dir = Scratch::new("recover");
        let locked = Locked::take(dir.root(), clock::now()).unwrap();
        fs::write(dir.path("auth.json"), login("a", "2026-11-25T03:15:45.243533500Z")).unwrap();
        let newer = login("a", "2026-11-25T03:15:46Z");
        for (name, text) in [
            (".auth-000001", "\0\0"),
            (".auth-000002", login("b", "2027-01-01T00:00:00Z").as_str()),
            (".auth-000003", login("a", "2026-11-25T03:15:44Z").as_str()),
            (".auth-000004", &newer[..newer.len() - 1]),
            (".auth-000005", newer.as_str()),
        ] {
            fs::write(dir.path(name), text).unwrap();
        }
        let mine = [".auth-notes", ".auth-old.json", ".auth-äöü"];
        for name in mine {
            fs::write(dir.path(name), "mine").unwrap();
        }
        locked.recover();
        assert_eq!(fs::read_to_string(dir.path("auth.json")).unwrap(), newer);
        let left = [&mine[..], &["auth.json", "auth.json.lock", "auth.lock"]].concat();
        assert_eq!(names(&dir), left);
    }
}
