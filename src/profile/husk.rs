//! What stays of a deleted home: its links to the shared history. Codex writes the path of a thread's file into its index as it
//! reached it, through the home that it ran under, and 0.169 finds no thread whose path has gone ("no rollout found for
//! thread id"): with the home every thread begun under it would be lost. Holds no login and no setting.

use super::shared::{ENTRIES, Shape, shape};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The links that a husk of this home needs; none when no thread can have gone through it.
pub fn links(home: &Path) -> Vec<(&'static str, PathBuf)> {
    let directories = ENTRIES.iter().filter(|(_, shape)| *shape == Shape::Directory).map(|(name, _)| *name);
    let link = |name| Some((name, fs::read_link(home.join(name)).ok()?));
    let has_entries = |name: &str| fs::read_dir(home.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    if has_entries("sessions") { directories.filter_map(link).collect() } else { Vec::new() }
}

/// Puts those links into an empty directory.
pub fn fill(directory: &Path, links: &[(&str, PathBuf)]) -> io::Result<()> {
    links.iter().try_for_each(|(name, target)| symlink(target, directory.join(name)))
}

/// Nothing is there, or only a husk, which gives way to a home.
pub fn is_free(home: &Path) -> bool {
    match fs::symlink_metadata(home) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(meta) => meta.is_dir() && is_husk(home),
    }
}

/// Takes a husk away. What else may have come into it stays, and is an error.
pub fn clear(home: &Path) -> io::Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(home)
}

/// Links to the shared history and nothing else.
fn is_husk(home: &Path) -> bool {
    let Ok(entries) = fs::read_dir(home) else { return false };
    let mut count = 0;
    let only_links = entries.inspect(|_| count += 1).all(|entry| {
        entry.is_ok_and(|entry| {
            let shared = entry.file_name().to_str().is_some_and(|name| shape(name) == Some(Shape::Directory));
            shared && entry.file_type().is_ok_and(|kind| kind.is_symlink())
        })
    });
    only_links && count > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;

    #[test]
    fn links_to_a_history_with_threads_and_nothing_else() {
        let dir = Scratch::new("husk");
        let (home, shared) = (dir.path("home"), dir.path("shared"));
        fs::create_dir(&home).unwrap();
        super::super::links::link_all(&home, &shared).unwrap();
        fs::write(home.join("auth.json"), "secret").unwrap();
        assert_eq!(links(&home), [], "no thread, no husk");
        fs::create_dir(shared.join("sessions/2026")).unwrap();
        let links = links(&home);
        assert!(links.contains(&("sessions", shared.join("sessions"))), "{links:?}");
        assert!(!links.iter().any(|(name, _)| name.ends_with("sqlite")), "{links:?}");

        let husk = dir.path("husk");
        assert!(is_free(&husk) && !is_free(&home));
        fs::create_dir(&husk).unwrap();
        assert!(!is_free(&husk), "an empty directory is somebody's");
        fill(&husk, &links).unwrap();
        assert!(is_free(&husk));
        fs::write(husk.join("note"), "mine").unwrap();
        assert!(!is_free(&husk) && clear(&husk).is_err());
        assert_eq!(fs::read_to_string(husk.join("note")).unwrap(), "mine");
        fs::remove_file(husk.join("note")).unwrap();
        fs::create_dir(shared.join("sessions/2025")).unwrap();
        clear(&husk).unwrap();
        assert!(!husk.exists() && shared.join("sessions/2025").is_dir());
    }
}
