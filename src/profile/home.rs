//! Managed homes: made, copied from another `CODEX_HOME`, removed. A home is built under a name that no profile can have and
//! renamed when it is whole; what a failure or a `kill -9` leaves is swept by the next command.
//! Knows the directory, and of the registry only who lives in it; links to the shared history are `links`'s.

use super::copy::Copy;
use super::{Profile, authfile, husk};
use crate::config::Config;
use crate::error::Error;
use crate::state::store::{self, Lock};
use crate::state::{State, file};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// No valid profile name holds a plus.
const STAGED: &str = ".new+";
const DISCARDED: &str = ".gone+";

/// A home that is being built. Gone when dropped, unless `publish` gave it its name.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    /// Locked while we live: tells the sweeper of another process that this one is not left over.
    _alive: Option<File>,
    published: bool,
    /// What `copy_of` left out although it is nothing that can be rebuilt.
    pub skipped: Vec<String>,
}

impl Staged {
    /// An empty private home. Takes the state's lock for a moment, so not for use within `store::update`.
    pub fn empty(config: &Config) -> Result<Staged, Error> {
        let profiles = config.profiles_dir();
        let _lock = Lock::take(config)?;
        file::create_private_dir(&profiles).map_err(|error| store::cannot("create", &profiles, &error))?;
        sweep(&profiles);
        let path = fresh(&profiles, STAGED);
        file::create_private_dir(&path).map_err(|error| store::cannot("create", &path, &error))?;
        let alive = alive(&path);
        Ok(Staged { path, _alive: alive, published: false, skipped: Vec::new() })
    }

    /// A home for a new account, with the user's configuration in it (`~/.codex/*.toml`, `*.md`, `*.rules`, `prompts`, `rules`,
    /// `skills`, `agents`): a rotation must not change model, sandbox or trust. Nobody's login.
    pub fn configured(config: &Config) -> Result<Staged, Error> {
        let staged = Staged::empty(config)?;
        if let Ok(root) = config.default_codex_home.canonicalize() {
            Copy::of(root).configuration(&staged.path)?;
        }
        Ok(staged)
    }

    /// What belongs to account and configuration of `source`; not what is shared, nor what can be rebuilt.
    pub fn copy_of(config: &Config, source: &Path) -> Result<Staged, Error> {
        let root = source.canonicalize().map_err(|error| Error::io("read", source, &error))?;
        if !root.is_dir() {
            return Err(Error::new(format!("{} is not a directory", source.display())));
        }
        let mut staged = Staged::empty(config)?;
        let mut copy = Copy::of(root).without(&config.root);
        copy.home(&staged.path)?;
        staged.skipped = copy.skipped;
        Ok(staged)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the home its name; fails when something has it. Under the state's lock.
    pub fn publish(mut self, home: &Path) -> Result<(), Error> {
        if !husk::is_free(home) {
            return Err(Error::new(format!("{} exists already", home.display())));
        }
        if home.exists() {
            husk::clear(home).map_err(|error| Error::io("replace", home, &error))?;
        }
        fs::rename(&self.path, home).map_err(|error| store::cannot("create", home, &error))?;
        self.published = true;
        if let Some(profiles) = home.parent() {
            file::sync_directory(profiles);
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether this home may be deleted: a real directory strictly inside `<root>/profiles`. False when nothing is there.
pub fn deletable(config: &Config, home: &Path) -> Result<bool, Error> {
    let refused = |why: &str| {
        let what = format!("{} is not deleted: {why}", home.display());
        Error::new(what).next("Remove the profile without --delete-home, and the directory by hand.")
    };
    let meta = match fs::symlink_metadata(home) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("look at", home, &error)),
    };
    if !meta.is_dir() {
        return Err(refused("it is not a directory"));
    }
    let real = |path: &Path| path.canonicalize().map_err(|error| Error::io("resolve", path, &error));
    let (profiles, home) = (real(&config.profiles_dir())?, real(home)?);
    if home == profiles || !home.starts_with(&profiles) {
        return Err(refused(&format!("it is not inside {}", profiles.display())));
    }
    Ok(true)
}

/// The profile, other than `name`, whose home this is, or lies in it.
pub fn resident(state: &State, home: &Path, name: &str) -> Option<Profile> {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = place(home);
    state.profiles().into_iter().find(|other| other.name != name && place(&other.codex_home).starts_with(&here))
}

/// Deletes a home that is `deletable`, unless it is a profile's. Links in it go, what they lead to stays.
pub fn delete(config: &Config, home: &Path) -> Result<(), Error> {
    let Some((registry, gone)) = discard(config, home)? else { return Ok(()) };
    drop(registry);
    gone.delete()
}

/// Takes the name from a home that no profile has. Whoever makes a profile meanwhile finds the home as it was, or none.
fn discard(config: &Config, home: &Path) -> Result<Option<(Lock, Discarded)>, Error> {
    let registry = Lock::take(config)?;
    if resident(&store::load(config)?.state, home, "").is_some() {
        return Ok(None);
    }
    Ok(Some((registry, Discarded::of(config, home)?)))
}

/// What became of a home that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    Deleted,
    /// All but its husk: threads lead through it.
    Husk,
    /// It has become a profile's again.
    Kept,
}

/// `delete` of a home that no profile has any more, and in which codex ran: its husk stays. Not within `store::update`.
pub fn retire(config: &Config, home: &Path) -> Result<Retired, Error> {
    let links = husk::links(home);
    // Made before and named right after; that it cannot be made keeps no login on the disk.
    let staged = if links.is_empty() { None } else { Staged::empty(config).ok() };
    let staged = staged.filter(|staged| husk::fill(staged.path(), &links).is_ok());
    let Some((registry, gone)) = discard(config, home)? else { return Ok(Retired::Kept) };
    let is_husk = staged.is_some_and(|staged| staged.publish(home).is_ok());
    drop(registry);
    gone.delete()?;
    Ok(if is_husk { Retired::Husk } else { Retired::Deleted })
}

/// A home that has lost its name and is being deleted.
struct Discarded {
    path: PathBuf,
    _alive: Option<File>,
}

impl Discarded {
    fn of(config: &Config, home: &Path) -> Result<Discarded, Error> {
        // Before it gets the name that tells a sweeper to look at it.
        let alive = alive(home);
        let path = fresh(&config.profiles_dir(), DISCARDED);
        fs::rename(home, &path).map_err(|error| store::cannot("delete", home, &error))?;
        Ok(Discarded { path, _alive: alive })
    }

    /// Where there are no locks a sweeper may be at it as well: what it was quicker to remove is gone all the same.
    fn delete(self) -> Result<(), Error> {
        loop {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if fs::symlink_metadata(&self.path).is_err() {
                        return Ok(());
                    }
                }
                removed => return removed.map_err(|error| store::cannot("delete", &self.path, &error)),
            }
        }
    }
}

/// A lock on a directory: as long as it is held, somebody is at work there.
fn alive(directory: &Path) -> Option<File> {
    File::open(directory).ok().filter(|directory| directory.try_lock().is_ok())
}

/// A name in `profiles` that nobody else uses.
fn fresh(profiles: &Path, prefix: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = profiles.join(format!("{prefix}{}+{number}", std::process::id()));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

/// Removes what dead processes left, credentials included. Any command may call it: with nothing left it takes no lock.
pub fn sweep_left_over(config: &Config) {
    let profiles = config.profiles_dir();
    if unfinished(&profiles).next().is_some()
        && let Ok(_lock) = Lock::take(config)
    {
        sweep(&profiles);
    }
    for home in fs::read_dir(&profiles).into_iter().flatten().flatten() {
        // One that is being built is at work, or goes as a whole.
        let is_built = home.file_name().to_str().is_some_and(|name| !is_unfinished(name));
        if is_built && home.file_type().is_ok_and(|kind| kind.is_dir()) {
            authfile::recover_left_over(&home.path());
        }
    }
}

/// What `sweep_left_over` would look at: homes that are being built or deleted, or were left so, and halves of logins.
pub fn left_over(config: &Config) -> Vec<PathBuf> {
    let profiles = config.profiles_dir();
    let mut found: Vec<PathBuf> = unfinished(&profiles).map(|(path, _)| path).collect();
    for home in fs::read_dir(&profiles).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if !found.contains(&home) {
            found.extend(authfile::left_over(&home));
        }
    }
    found
}

/// The living hold a lock on theirs. Where a directory cannot be locked (NFS), what is to go anyway goes.
fn sweep(profiles: &Path) {
    for (path, name) in unfinished(profiles) {
        let dead = match File::open(&path).map(|directory| directory.try_lock()) {
            Ok(Ok(())) => true,
            Ok(Err(TryLockError::WouldBlock)) => false,
            _ => name.starts_with(DISCARDED),
        };
        if dead && path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn unfinished(profiles: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = fs::read_dir(profiles).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)));
    named.filter(|(_, name)| is_unfinished(name))
}

/// A home that is being built or deleted.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(STAGED) || name.starts_with(DISCARDED)
}

#[cfg(test)]
mod tests;
