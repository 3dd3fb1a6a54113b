//! What of a `CODEX_HOME` goes into another one: the account and what the user wrote for codex, not what is shared, nor what
//! codex makes anew. Knows no profile and no registry; a home is built and named by `home`.

use super::{auth, shared};
use crate::error::Error;
use crate::state::file;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// A stranger's file at the top of a home is configuration up to here, and a cache beyond.
const MAX_UNKNOWN: u64 = 1024 * 1024;
/// Deeper than any skill or plugin; far above what the stack holds.
const MAX_DEPTH: usize = 64;
/// Directories of what the user wrote for codex.
pub const CONFIGURATION: [&str; 4] = ["prompts", "rules", "skills", "agents"];

/// What codex makes anew, or what only lives where it is.
fn is_rebuildable(name: &str) -> bool {
    let fixed = ["packages", "log", "tmp", ".tmp", "models_cache.json", "version.json"];
    let parts = [".sqlite", ".sqlite-wal", ".sqlite-shm", ".sqlite-journal", ".lock"];
    fixed.contains(&name)
        || ["app-server-", ".auth-", ".prodex-"].iter().any(|begin| name.starts_with(begin))
        || name.contains(".aside-")
        || parts.iter().any(|part| name.ends_with(part))
}

/// Text that the user or codex wrote for codex, whatever its size.
pub fn is_configuration(name: &str) -> bool {
    [".toml", ".md", ".rules"].iter().any(|end| name.ends_with(end)) || name == ".credentials.json"
}

pub struct Copy {
    /// Canonical.
    root: PathBuf,
    /// Device and inode of what is left out.
    without: Option<(u64, u64)>,
    /// What was left out although it is nothing that can be rebuilt.
    pub skipped: Vec<String>,
}

impl Copy {
    /// Of this home, by its canonical path.
    pub fn of(root: PathBuf) -> Copy {
        Copy { root, without: None, skipped: Vec::new() }
    }

    /// But for this directory, which may lie inside.
    #[must_use]
    pub fn without(self, directory: &Path) -> Copy {
        Copy { without: fs::metadata(directory).map(|meta| (meta.dev(), meta.ino())).ok(), ..self }
    }

    /// What the user wrote for codex, and nobody's login.
    pub fn configuration(&mut self, to: &Path) -> Result<(), Error> {
        for entry in entries(&self.root)? {
            let name = entry.file_name();
            let known = name.to_str().unwrap_or_default();
            let is_wanted = is_configuration(known) && known != ".credentials.json" || CONFIGURATION.contains(&known);
            if is_wanted && shared::shape(known).is_none() {
                self.entry(&entry.path(), &to.join(&name), 0)?;
            }
        }
        Ok(())
    }

    /// What belongs to account and configuration; not what is shared, nor what can be rebuilt.
    pub fn home(&mut self, to: &Path) -> Result<(), Error> {
        for entry in entries(&self.root)? {
            let name = entry.file_name();
            let known = name.to_str().unwrap_or_default();
            if known == "auth.json" {
                copy_credentials(&entry.path(), &to.join(&name))?;
                continue;
            }
            if shared::shape(known).is_some() || is_rebuildable(known) {
                continue;
            }
            let large =
                |entry: &DirEntry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > MAX_UNKNOWN);
            if !is_configuration(known) && large(&entry) {
                self.skip(&entry.path(), "larger than 1 MiB");
                continue;
            }
            self.entry(&entry.path(), &to.join(&name), 0)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), Error> {
        let meta = match fs::symlink_metadata(from) {
            Ok(meta) => meta,
            // Codex may be at work in there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("read", from, &error)),
        };
        let kind = meta.file_type();
        if kind.is_symlink() {
            self.link(from, to).map_err(|error| Error::io("copy", from, &error))
        } else if kind.is_file() {
            copy_file(from, to, meta.permissions().mode()).map_err(|error| Error::io("copy", from, &error))
        } else if !kind.is_dir() {
            self.skip(from, "neither file nor directory");
            Ok(())
        } else if self.without == Some((meta.dev(), meta.ino())) {
            Ok(())
        } else if depth >= MAX_DEPTH {
            Err(Error::new(format!("{} is nested too deeply to be copied", from.display())))
        } else {
            file::create_private_dir(to).map_err(|error| Error::io("create", to, &error))?;
            for entry in entries(from)? {
                self.entry(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
            }
            Ok(())
        }
    }

    /// A link stays a link. A relative one that leads out of the source would lead elsewhere from its new place.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let target = fs::read_link(from)?;
        let absolute = normal(&from.parent().unwrap_or(&self.root).join(&target));
        symlink(if target.is_relative() && !absolute.starts_with(&self.root) { absolute } else { target }, to)
    }

    fn skip(&mut self, path: &Path, why: &str) {
        self.skipped.push(format!("{} ({why})", path.display()));
    }
}

fn entries(directory: &Path) -> Result<Vec<DirEntry>, Error> {
    let read = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    read.map_err(|error| Error::io("read", directory, &error))
}

/// Always a file of its own, also where the source has a link: codex replaces it when it refreshes (wire.md 7).
fn copy_credentials(from: &Path, to: &Path) -> Result<(), Error> {
    match file::read_bounded(from, auth::MAX_BYTES) {
        Ok(bytes) => file::write_new(to, &bytes).map_err(|error| Error::io("write", to, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("read", from, &error)),
    }
}

/// Private, and executable where the source is (scripts of skills).
fn copy_file(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    let mut source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mode = if mode & 0o100 == 0 { 0o600 } else { 0o700 };
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    io::copy(&mut source, &mut copy)?;
    Ok(())
}

/// The path without `.` and `..`, by its words alone.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push::<&OsStr>(part.as_ref()),
        }
        path
    })
}
