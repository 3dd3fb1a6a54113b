//! The links from a managed home to the shared history store (spec S-23), by the table in `shared`.
//! Nothing of the user's is deleted: what stands in the way moves to the shared place when that is free, else aside.

use super::Profile;
use super::shared::{ENTRIES, SQLITE_SIDES, Shape, shape};
use crate::config::Config;
use crate::error::Error;
use crate::state::{file, store::Lock};
use crate::sys::clock;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Puts the links of a managed home right; says what was moved aside. Called before every run: when all is right,
/// nothing is touched and no lock is taken.
pub fn ensure_links(profile: &Profile, config: &Config) -> Result<Vec<String>, Error> {
    let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
    if !profile.managed {
        return Ok(Vec::new());
    }
    if !home.is_dir() {
        let what = format!("the home of profile '{}' is missing: {}", profile.name, home.display());
        return Err(Error::new(what).next(format!("Remove it with `prodex profile remove {}`.", profile.name)));
    }
    if faults(home, shared)?.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = Lock::take(config)?;
    link_all(home, shared)
}

/// Levels of directories that are merged, below each of these: a thread's file is in `sessions/YYYY/MM/DD`, and has a name of
/// its own. Elsewhere a directory is one thing (a checkout, what one thread drew) that is not to be mixed with a namesake.
const TRANSCRIPTS: [&str; 2] = ["sessions", "archived_sessions"];
const DEEPEST: usize = 4;

/// The same without the lock, for a home that nobody else knows yet.
pub fn link_all(home: &Path, shared: &Path) -> Result<Vec<String>, Error> {
    file::create_private_dir(shared).map_err(|error| Error::io("create", shared, &error))?;
    for left_over in left_over(home) {
        let _ = fs::remove_file(left_over);
    }
    let (mut aside, mut failed) = (Vec::new(), None);
    for fault in faults(home, shared)? {
        // One that cannot be is no reason to keep the others apart.
        if let Err(error) = fix(&fault, &mut aside) {
            failed.get_or_insert_with(|| Error::io("link", &fault.link, &error));
        }
    }
    match failed {
        Some(error) if aside.is_empty() => Err(error),
        Some(error) => Err(Error::new(format!("{error} Moved aside: {}", aside.join(", ")))),
        None => Ok(aside),
    }
}

/// What is wrong with one entry of a home.
#[derive(Debug)]
pub struct Fault {
    pub name: String,
    pub found: Found,
    link: PathBuf,
    target: PathBuf,
    shape: Shape,
}

/// What is there instead of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// The link is right, and the directory that it leads to is missing: codex could not make it through the link.
    NoTarget,
    WrongLink,
    Real,
}

/// A home that is the shared one, or contains it, would be linked to itself.
fn is_around(home: &Path, shared: &Path) -> bool {
    matches!((home.canonicalize(), shared.canonicalize()), (Ok(home), Ok(shared)) if shared.starts_with(&home))
}

/// History that would go with this home: not handed over, or moved aside.
pub fn history_in(home: &Path, shared: &Path) -> Option<PathBuf> {
    if is_around(home, shared) {
        return Some(shared.to_owned());
    }
    let is_history = |entry: &fs::DirEntry| {
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        entry.file_name().to_str().is_some_and(|name| name.contains(".aside-") || shape(name).is_some() && !is_link)
    };
    fs::read_dir(home).ok()?.flatten().find(is_history).map(|entry| entry.path())
}

/// By name. The one rule of what is wrong: what a run puts right, and what `doctor` tells.
pub fn faults(home: &Path, shared: &Path) -> Result<Vec<Fault>, Error> {
    if is_around(home, shared) {
        return Ok(Vec::new());
    }
    let mut wanted: BTreeMap<String, Shape> =
        ENTRIES.iter().map(|(name, shape)| ((*name).to_owned(), *shape)).collect();
    for directory in [home, shared] {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("read", directory, &error)),
        };
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if let Some(shape) = shape(&name) {
                wanted.insert(name, shape);
            }
        }
    }
    let mut faults = Vec::new();
    for (name, shape) in wanted {
        let (link, target) = (home.join(&name), shared.join(&name));
        let found = look(&link, &target, shape).map_err(|error| Error::io("look at", &link, &error))?;
        faults.extend(found.map(|found| Fault { name, found, link, target, shape }));
    }
    Ok(faults)
}

/// What is wrong at `link`, if anything.
fn look(link: &Path, target: &Path, shape: Shape) -> io::Result<Option<Found>> {
    let kind = match fs::symlink_metadata(link) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Found::Nothing)),
        Err(error) => return Err(error),
    };
    let same_place = || matches!((link.canonicalize(), target.canonicalize()), (Ok(one), Ok(other)) if one == other);
    if kind.is_symlink() && fs::read_link(link)? == target {
        return Ok((shape == Shape::Directory && !target.exists()).then_some(Found::NoTarget));
    }
    if same_place() {
        // Another spelling, or the user's own link the other way round.
        return Ok(None);
    }
    Ok(Some(if kind.is_symlink() { Found::WrongLink } else { Found::Real }))
}

fn fix(fault: &Fault, aside: &mut Vec<String>) -> io::Result<()> {
    let Fault { link, target, shape, found, .. } = fault;
    let says_nothing =
        || *shape == Shape::Lock && fs::symlink_metadata(link).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if matches!(found, Found::Real) && says_nothing() {
        return replace(link, target);
    }
    if matches!(found, Found::Real) && !hand_over(link, target, *shape)? {
        aside.push(move_aside(link, *shape)?.display().to_string());
    }
    if *shape == Shape::Directory && !target.exists() {
        file::create_private_dir(target)?;
    }
    match found {
        Found::NoTarget => Ok(()),
        Found::Nothing | Found::Real => symlink(target, link),
        Found::WrongLink => replace(link, target),
    }
}

const TEMP: &str = ".link+";

/// Links that a death left before they had their names: what they were to replace is still at fault then.
fn left_over(home: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMP)));
    named.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink())).map(|entry| entry.path())
}

/// A link to `target` takes the place of what is at `link`, at once.
fn replace(link: &Path, target: &Path) -> io::Result<()> {
    let temp = link.with_file_name(format!("{TEMP}{}", std::process::id()));
    symlink(target, &temp)?;
    fs::rename(&temp, link).inspect_err(|_| drop(fs::remove_file(&temp)))
}

/// Moves what is real in the home to the shared place. Says false when that is taken, or on another file system.
fn hand_over(real: &Path, target: &Path, shape: Shape) -> io::Result<bool> {
    if fs::symlink_metadata(real)?.is_dir() {
        // A directory replaces nothing but an empty directory.
        if fs::rename(real, target).is_ok() {
            return Ok(true);
        }
        let is_transcripts = real.file_name().is_some_and(|name| TRANSCRIPTS.iter().any(|known| name == *known));
        merge(real, target, if is_transcripts { DEEPEST } else { 0 });
        return Ok(fs::remove_dir(real).is_ok());
    }
    if fs::symlink_metadata(target).is_ok() && !is_one_file(real, target) {
        return Ok(false);
    }
    if shape == Shape::Sqlite {
        // The log goes first: a database without its log has lost its last writes, a log without a database waits.
        for side in SQLITE_SIDES {
            let (from, to) = (with_suffix(real, side), with_suffix(target, side));
            if fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file()) && !move_file(&from, &to) {
                return Ok(false);
            }
        }
    }
    Ok(move_file(real, target))
}

/// Moves what has a free place in `to`; what has none, or cannot be moved, stays.
fn merge(from: &Path, to: &Path, depth: usize) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (one, other) = (entry.path(), to.join(entry.file_name()));
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            move_file(&one, &other);
        } else if fs::rename(&one, &other).is_err() && depth > 0 && !other.is_symlink() && other.is_dir() {
            merge(&one, &other, depth - 1);
            let _ = fs::remove_dir(&one);
        }
    }
}

/// A second name, then the first one goes: unlike a rename it cannot replace what came into being meanwhile.
fn move_file(from: &Path, to: &Path) -> bool {
    (fs::hard_link(from, to).is_ok() || is_one_file(from, to)) && fs::remove_file(from).is_ok()
}

/// Two names of one file, as a death between the two steps of `move_file` leaves them.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (fs::symlink_metadata(one), fs::symlink_metadata(other)) else { return false };
    one.nlink() > 1 && (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// `NAME.aside-<unix>` in the home; a database takes its log along under the name where `SQLite` looks for it.
fn move_aside(real: &Path, shape: Shape) -> io::Result<PathBuf> {
    let taken = |number: u64| fs::symlink_metadata(with_suffix(real, &format!(".aside-{number}"))).is_ok();
    let mut number = clock::unix();
    while taken(number) {
        number += 1;
    }
    let aside = with_suffix(real, &format!(".aside-{number}"));
    if shape == Shape::Sqlite {
        for side in SQLITE_SIDES {
            let from = with_suffix(real, side);
            if fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file()) {
                fs::rename(&from, with_suffix(&aside, side))?;
            }
        }
    }
    fs::rename(real, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
