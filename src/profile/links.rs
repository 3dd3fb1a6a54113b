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
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;

    fn scene(name: &str) -> (Scratch, Config, Profile) {
        let dir = Scratch::new(name);
        let config = dir.config();
        let codex_home = config.profiles_dir().join("a");
        fs::create_dir_all(&codex_home).unwrap();
        let profile = Profile { name: "a".into(), codex_home, managed: true, ..Profile::default() };
        (dir, config, profile)
    }

    #[test]
    fn a_bare_home_gets_every_link_and_the_second_time_nothing_happens() {
        let (_dir, config, profile) = scene("links");
        assert!(ensure_links(&profile, &config).unwrap().is_empty());
        for (name, shape) in ENTRIES {
            let target = config.shared_codex_home.join(name);
            assert_eq!(fs::read_link(profile.codex_home.join(name)).unwrap(), target);
            assert_eq!(target.is_dir(), *shape == Shape::Directory, "{name}");
        }
        let inode = |name| fs::symlink_metadata(profile.codex_home.join(name)).unwrap().ino();
        let before = (inode("sessions"), inode("state_5.sqlite"));
        let _held = Lock::take(&config).unwrap();
        assert!(ensure_links(&profile, &config).unwrap().is_empty(), "without the lock");
        assert_eq!((inode("sessions"), inode("state_5.sqlite")), before);
    }

    #[test]
    fn real_entries_move_to_the_free_place_with_their_log() {
        let (_dir, config, profile) = scene("links-move");
        let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
        fs::create_dir(home.join("sessions")).unwrap();
        fs::write(home.join("sessions/r"), "mine").unwrap();
        fs::create_dir_all(shared.join("sessions")).unwrap();
        fs::write(home.join("history.jsonl"), "h").unwrap();
        fs::write(home.join("state_9.sqlite"), "db").unwrap();
        fs::write(home.join("state_9.sqlite-wal"), "wal").unwrap();
        assert!(ensure_links(&profile, &config).unwrap().is_empty());
        for (name, text) in
            [("sessions/r", "mine"), ("history.jsonl", "h"), ("state_9.sqlite", "db"), ("state_9.sqlite-wal", "wal")]
        {
            assert_eq!(fs::read_to_string(shared.join(name)).unwrap(), text);
        }
        assert!(home.join("state_9.sqlite").is_symlink() && !home.join("state_9.sqlite-wal").exists());
    }

    #[test]
    fn what_stands_in_the_way_goes_aside_and_is_named() {
        let (_dir, config, profile) = scene("links-aside");
        let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
        for (directory, text) in [(home, "mine"), (shared, "theirs")] {
            fs::create_dir_all(directory.join("sessions")).unwrap();
            fs::write(directory.join("sessions/r"), text).unwrap();
            fs::write(directory.join("state_5.sqlite"), text).unwrap();
        }
        fs::write(home.join("state_5.sqlite-wal"), "wal").unwrap();
        symlink("/elsewhere", home.join("history.jsonl")).unwrap();
        symlink("/elsewhere", home.join(".link+1")).unwrap();
        let aside = ensure_links(&profile, &config).unwrap();
        assert_eq!(aside.len(), 2, "{aside:?}");
        assert_eq!(fs::read_to_string(Path::new(&aside[0]).join("r")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&aside[1]).unwrap(), "mine");
        assert_eq!(fs::read_to_string(format!("{}-wal", aside[1])).unwrap(), "wal");
        assert_eq!(fs::read_to_string(home.join("sessions/r")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(home.join("state_5.sqlite")).unwrap(), "theirs");
        assert_eq!(fs::read_link(home.join("history.jsonl")).unwrap(), shared.join("history.jsonl"));
        assert!(!home.join(".link+1").is_symlink(), "what a death left");
    }

    #[test]
    fn an_empty_lock_gives_way_and_what_is_written_does_not() {
        let (_dir, config, profile) = scene("links-lock");
        let lock = profile.codex_home.join("session_index.jsonl.lock");
        for (text, aside) in [("", 0), ("x", 1)] {
            let _ = fs::remove_file(&lock);
            fs::write(&lock, text).unwrap();
            fs::create_dir_all(&config.shared_codex_home).unwrap();
            fs::write(config.shared_codex_home.join("session_index.jsonl.lock"), "").unwrap();
            assert_eq!(ensure_links(&profile, &config).unwrap().len(), aside);
            assert!(lock.is_symlink());
        }
    }

    #[test]
    fn a_loop_is_said_and_stays() {
        let (_dir, config, profile) = scene("links-loop");
        fs::create_dir_all(&config.shared_codex_home).unwrap();
        symlink("sessions", config.shared_codex_home.join("sessions")).unwrap();
        let error = ensure_links(&profile, &config).unwrap_err().to_string();
        assert!(error.contains("sessions"), "{error}");
        let linked = |name: &str| profile.codex_home.join(name).is_symlink();
        assert!(!linked("sessions") && linked("worktrees") && linked("history.jsonl"), "the others are made");
        assert_eq!(fs::read_link(config.shared_codex_home.join("sessions")).unwrap(), Path::new("sessions"));
    }

    #[test]
    fn two_histories_become_one_but_for_what_has_one_name() {
        let (_dir, config, profile) = scene("links-merge");
        let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
        let files =
            [(home, "mine", ["01/01/a", "11/25/b", "11/25/c"]), (shared, "theirs", ["02/01/d", "11/25/e", "11/25/c"])];
        for (directory, text, names) in files {
            for name in names {
                let path = directory.join("sessions/2026").join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        // Somebody writes into one that moves.
        let mut open = fs::File::options().append(true).open(home.join("sessions/2026/11/25/b")).unwrap();
        let aside = ensure_links(&profile, &config).unwrap();
        std::io::Write::write_all(&mut open, b"+").unwrap();
        let text = |name: &str| fs::read_to_string(home.join("sessions/2026").join(name)).unwrap();
        let texts = ["01/01/a", "11/25/b", "11/25/c", "02/01/d", "11/25/e"].map(text);
        assert_eq!(texts, ["mine", "mine+", "theirs", "theirs", "theirs"]);
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::read_to_string(Path::new(&aside[0]).join("2026/11/25/c")).unwrap(), "mine");
        assert_eq!(fs::read_dir(Path::new(&aside[0]).join("2026")).unwrap().count(), 1);
    }

    #[test]
    fn two_of_one_name_go_aside_within_one_second() {
        let (_dir, config, profile) = scene("links-twice");
        let own = profile.codex_home.join("history.jsonl");
        fs::create_dir_all(&config.shared_codex_home).unwrap();
        fs::write(config.shared_codex_home.join("history.jsonl"), "theirs").unwrap();
        let aside = ["one", "two", "three"].map(|text| {
            let _ = fs::remove_file(&own);
            fs::write(&own, text).unwrap();
            ensure_links(&profile, &config).unwrap().remove(0)
        });
        assert_eq!(aside.map(|path| fs::read_to_string(path).unwrap()), ["one", "two", "three"]);
    }

    #[test]
    fn what_a_death_left_under_two_names_is_one_file() {
        let (_dir, config, profile) = scene("links-two-names");
        for name in ["sessions/2026/r", "history.jsonl", "state_5.sqlite", "state_5.sqlite-wal"] {
            let (own, shared) = (profile.codex_home.join(name), config.shared_codex_home.join(name));
            for path in [&own, &shared] {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            fs::write(&own, name).unwrap();
            fs::hard_link(&own, &shared).unwrap();
        }
        assert_eq!(ensure_links(&profile, &config).unwrap(), [""; 0]);
        for name in ["sessions/2026/r", "history.jsonl", "state_5.sqlite", "state_5.sqlite-wal"] {
            let shared = config.shared_codex_home.join(name);
            assert_eq!(fs::metadata(&shared).unwrap().nlink(), 1, "{name}");
            assert_eq!(fs::read_to_string(shared).unwrap(), name);
        }
    }

    #[test]
    fn what_is_merged_goes_through_no_link() {
        let (dir, config, profile) = scene("links-merge-link");
        let own = profile.codex_home.join("sessions/2025");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("r"), "mine").unwrap();
        fs::create_dir_all(config.shared_codex_home.join("sessions")).unwrap();
        fs::create_dir(dir.path("elsewhere")).unwrap();
        symlink(dir.path("elsewhere"), config.shared_codex_home.join("sessions/2025")).unwrap();
        let aside = ensure_links(&profile, &config).unwrap();
        assert_eq!(fs::read_dir(dir.path("elsewhere")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(Path::new(&aside[0]).join("2025/r")).unwrap(), "mine");
    }

    #[test]
    fn two_checkouts_of_one_name_are_not_mixed() {
        let (_dir, config, profile) = scene("links-checkouts");
        let (home, shared) = (&profile.codex_home, &config.shared_codex_home);
        for (file, directory) in [("ab/mine", home), ("cd/mine", home), ("ab/theirs", shared)] {
            let path = directory.join("worktrees").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let aside = ensure_links(&profile, &config).unwrap();
        let names =
            |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(names(shared.join("worktrees/ab")), ["theirs"]);
        assert_eq!(names(shared.join("worktrees/cd")), ["mine"], "its place was free");
        assert_eq!(aside.len(), 1);
        assert_eq!(names(Path::new(&aside[0]).join("ab")), ["mine"]);
        assert_eq!(names(PathBuf::from(&aside[0])), ["ab"]);
    }

    #[test]
    fn nobody_is_linked_to_himself() {
        let (_dir, mut config, profile) = scene("links-self");
        config.shared_codex_home.clone_from(&profile.codex_home);
        assert!(ensure_links(&profile, &config).unwrap().is_empty());
        assert_eq!(fs::read_dir(&profile.codex_home).unwrap().count(), 0);
        let external = Profile { managed: false, codex_home: "/dev/null/nowhere".into(), ..profile.clone() };
        assert!(ensure_links(&external, &config).unwrap().is_empty());
        assert!(ensure_links(&Profile { codex_home: "/dev/null/nowhere".into(), ..profile }, &config).is_err());
    }

    #[test]
    fn a_link_the_other_way_round_is_left_alone() {
        let (_dir, config, profile) = scene("links-back");
        fs::create_dir(profile.codex_home.join("sessions")).unwrap();
        fs::create_dir_all(&config.shared_codex_home).unwrap();
        symlink(profile.codex_home.join("sessions"), config.shared_codex_home.join("sessions")).unwrap();
        assert!(ensure_links(&profile, &config).unwrap().is_empty());
        assert!(!profile.codex_home.join("sessions").is_symlink());
    }
}
