//! The files of a home that `bundle` carries: read from it, and written into one that is being built. Bounded, and private.
//! Knows no registry.

use super::bundle::{MAX_CONTENT, MAX_DEPTH, MAX_FILE, MAX_FILES, PackedFile, belongs};
use super::copy::CONFIGURATION;
use crate::error::Error;
use crate::state::file;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What was read, and what was left out although it belongs to the profile, with the reason.
#[derive(Debug, Default)]
pub struct Contents {
    pub files: Vec<PackedFile>,
    pub left_out: Vec<String>,
    /// What was left out beyond those: named one by one it would be no news any more.
    pub more_left_out: usize,
    /// Bytes that an export has left for others.
    pub room: usize,
}

const MAX_NAMED: usize = 20;

/// The account's files and the user's configuration. Links to files are read through; a directory is entered through a link
/// only at the top, so there are no circles. `room`: what others have left of `MAX_CONTENT`.
pub fn read(home: &Path, room: usize) -> Result<Contents, Error> {
    let mut contents = Contents { room, ..Contents::default() };
    for (name, path) in entries(home)? {
        let is_directory = fs::metadata(&path).is_ok_and(|meta| meta.is_dir());
        if is_directory && CONFIGURATION.contains(&name.as_str()) {
            contents.directory(&path, &name, 1)?;
        } else if belongs(&name) {
            contents.file(&path, name)?;
        }
    }
    contents.files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(contents)
}

impl Contents {
    fn directory(&mut self, directory: &Path, below: &str, depth: usize) -> Result<(), Error> {
        for (name, path) in entries(directory)? {
            let name = format!("{below}/{name}");
            let kind = fs::symlink_metadata(&path).map(|meta| meta.file_type());
            match kind {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => self.directory(&path, &name, depth + 1)?,
                Ok(kind) if kind.is_symlink() && path.is_dir() => self.leave_out(&path, "a link to a directory"),
                Ok(_) if belongs(&name) => self.file(&path, name)?,
                Ok(_) => self.leave_out(&path, "nested too deeply"),
                // Gone meanwhile.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), Error> {
        let is_login = name == "auth.json";
        match file::read_bounded(path, MAX_FILE) {
            Ok(bytes) => {
                let room = self.room.checked_sub(bytes.len()).filter(|_| self.files.len() < MAX_FILES);
                let Some(room) = room else {
                    let most = format!("{MAX_FILES} files of a profile, and {} MiB in all", MAX_CONTENT >> 20);
                    let what = format!("an export holds at most {most}, which {} exceeds", path.display());
                    return Err(Error::new(what).next("Export fewer at once: `prodex profile export FILE NAME`."));
                };
                self.room = room;
                let executable = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0);
                self.files.push(PackedFile { path: name, executable, bytes });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A profile without its login is not what was asked for.
            Err(error) if is_login => return Err(Error::io("read", path, &error)),
            Err(error) => self.leave_out(path, &error.to_string()),
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        if self.left_out.len() < MAX_NAMED {
            self.left_out.push(format!("{} ({why})", path.display()));
        } else {
            self.more_left_out += 1;
        }
    }
}

/// With names in UTF-8: a document can carry no others, and codex writes none.
fn entries(directory: &Path) -> Result<Vec<(String, std::path::PathBuf)>, Error> {
    let read = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let read = read.map_err(|error| Error::io("read", directory, &error))?;
    Ok(read.into_iter().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect())
}

/// Into an empty home. The paths are `bundle`'s, so they lead nowhere else.
pub fn write(home: &Path, files: &[PackedFile]) -> Result<(), Error> {
    for file in files {
        let path = home.join(&file.path);
        let parent = path.parent().unwrap_or(home);
        file::create_private_dir(parent).map_err(|error| Error::io("create", parent, &error))?;
        file::write_new(&path, &file.bytes).map_err(|error| Error::io("write", &path, &error))?;
        if file.executable {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&path, private).map_err(|error| Error::io("protect", &path, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use std::os::unix::fs::symlink;

    #[test]
    fn takes_account_and_configuration_and_puts_them_back() {
        let dir = Scratch::new("pack");
        let home = dir.path("home");
        for directory in ["skills/s", "sessions", "prompts", "elsewhere/sub"] {
            fs::create_dir_all(home.join(directory)).unwrap();
        }
        for name in ["auth.json", "config.toml", "skills/s/run.sh", "sessions/x", "history.jsonl", "models_cache.json"]
        {
            fs::write(home.join(name), name).unwrap();
        }
        fs::set_permissions(home.join("skills/s/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path("dotfile"), "mine").unwrap();
        fs::write(home.join("huge.md"), vec![b'x'; 1_048_577]).unwrap();
        symlink(dir.path("dotfile"), home.join("AGENTS.md")).unwrap();
        symlink("..", home.join("skills/s/circle")).unwrap();
        symlink("nowhere", home.join("prompts/gone.md")).unwrap();
        symlink("elsewhere", home.join("rules")).unwrap();
        fs::write(home.join("elsewhere/sub/r.rules"), "r").unwrap();
        let contents = read(&home, 1_000).unwrap();
        let paths: Vec<&str> = contents.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["AGENTS.md", "auth.json", "config.toml", "rules/sub/r.rules", "skills/s/run.sh"]);
        assert_eq!(contents.left_out.len(), 2, "{:?}", contents.left_out);
        let new = dir.path("new");
        file::create_private_dir(&new).unwrap();
        write(&new, &contents.files).unwrap();
        assert_eq!(fs::read_to_string(new.join("AGENTS.md")).unwrap(), "mine");
        let mode = |name: &str| fs::metadata(new.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("auth.json"), mode("skills/s/run.sh"), mode("rules/sub")), (0o600, 0o700, 0o700));
        assert_eq!(read(&new, 1_000).unwrap().files, contents.files);
        assert!(write(&new, &contents.files).is_err(), "nothing is overwritten");
        let bytes: usize = contents.files.iter().map(|file| file.bytes.len()).sum();
        assert_eq!(read(&new, bytes).unwrap().room, 0);
        assert!(read(&new, bytes - 1).unwrap_err().to_string().contains("an export holds at most"));
        (0..25).for_each(|number| fs::write(home.join(format!("{number}.md")), vec![b'x'; 1_048_577]).unwrap());
        let contents = read(&home, 1_000).unwrap();
        assert_eq!((contents.left_out.len(), contents.more_left_out), (20, 7));
    }
}
