//! Opens files of ours that other processes of the user share: never through a link, never a pipe or a device, readable by
//! the user alone. Knows no file by name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `options` say how. A new file gets mode 0600; what is no regular file is an error, and opening it waits for nobody.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a pipe in the file's place would hang us; regular files do not care.
    let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn opens_regular_files_only_and_makes_them_private() {
        let dir = std::env::temp_dir().join(format!("prodex-private-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let append = || OpenOptions::new().append(true).create(true).to_owned();
        let path = dir.join("f");
        let file = open(&mut append(), &path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        symlink(&path, dir.join("link")).unwrap();
        assert!(open(&mut append(), &dir.join("link")).is_err());
        assert!(open(OpenOptions::new().read(true), &dir).is_err());
        assert!(open(OpenOptions::new().write(true), Path::new("/dev/null")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
