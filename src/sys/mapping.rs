//! A small file that several processes of one user have in their memory at once, as words to be read and written
//! atomically. Knows nothing of what the words mean.
//!
//! When somebody cuts the file short, what is gone is zeros for us alone from then on (`fault`), and what others say is no
//! longer seen there. Only its user can do that; callers put it where nobody looks for files to edit, restore or rotate,
//! and in memory, where no disk can fill up under it ([`is_in_memory`]).

use super::fault::{self, Guarded};
use super::{private, user};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Sanity for callers; the real ones need 36 KB.
const MAX_WORDS: usize = 1 << 20;

pub struct Mapping {
    file: File,
    start: NonNull<AtomicU64>,
    words: usize,
    guarded: Option<Guarded>,
}

// SAFETY: the memory belongs to this value until it is dropped, and is only reached as atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `words` words of the file; a new or short one grows, with zeros. A file of somebody else, or one that
    /// others may write, is an error.
    pub fn open(path: &Path, words: usize) -> io::Result<Mapping> {
        if words == 0 || words > MAX_WORDS {
            return Err(io::Error::other("not a size for a mapping"));
        }
        let file = private::open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
        let meta = file.metadata()?;
        if meta.uid() != user::id() || meta.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can write it"));
        }
        let bytes = words * size_of::<AtomicU64>();
        // Makes the file long enough and gives it all its blocks, holes included, without touching what is in it: a page
        // that finds no room when it is first written would be a SIGBUS.
        let length = bytes.try_into().map_err(io::Error::other)?;
        // SAFETY: the descriptor is open for as long as `file` lives; the call takes numbers only.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours; the result is checked.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mapped at 0"))?;
        let mut mapping = Mapping { file, start: start.cast(), words, guarded: None };
        mapping.guarded = Some(fault::guard(start, bytes)?);
        Ok(mapping)
    }

    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and leads to `words` words, mapped until `self` is dropped, which the lifetime
        // of the result forbids. Other processes change them at any time, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// For locks.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guarded = None;
        // SAFETY: exactly what `open` mapped; nobody can hold a reference into it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}

/// Whether files of that directory live in memory (tmpfs): no disk is written behind our back, and none can be full.
pub fn is_in_memory(directory: &Path) -> bool {
    /// `TMPFS_MAGIC` of linux/magic.h.
    const TMPFS: u64 = 0x0102_1994;
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    // SAFETY: a zeroed `statfs` is a valid value of this plain C struct.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and the pointer is to a live value of the right type.
    let answer = unsafe { libc::statfs(path.as_ptr(), &raw mut info) };
    answer == 0 && u64::try_from(info.f_type).is_ok_and(|kind| kind == TMPFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::Ordering::Relaxed;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("prodex-mapping-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn two_mappings_are_one_memory_and_last() {
        let dir = Dir::new("two");
        let path = dir.0.join("m");
        let (one, two) = (Mapping::open(&path, 1_000).unwrap(), Mapping::open(&path, 1_000).unwrap());
        assert!(one.words().iter().all(|word| word.load(Relaxed) == 0));
        one.words()[999].store(7, Relaxed);
        assert_eq!(two.words()[999].load(Relaxed), 7);
        drop((one, two));
        assert_eq!(fs::metadata(&path).unwrap().len(), 8_000);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Mapping::open(&path, 1_000).unwrap().words()[999].load(Relaxed), 7);
    }

    #[test]
    fn a_short_file_grows_and_keeps_what_it_has() {
        let dir = Dir::new("short");
        let path = dir.0.join("m");
        fs::write(&path, [1; 12]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mapping = Mapping::open(&path, 600).unwrap();
        assert_eq!(mapping.words()[0].load(Relaxed), 0x0101_0101_0101_0101);
        assert_eq!(mapping.words()[599].load(Relaxed), 0);
        fs::write(dir.0.join("long"), vec![1; 100_000]).unwrap();
        fs::set_permissions(dir.0.join("long"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Mapping::open(&dir.0.join("long"), 1).unwrap().words().len(), 1);
        assert_eq!(fs::metadata(dir.0.join("long")).unwrap().len(), 100_000);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let dir = Dir::new("refuse");
        let path = dir.0.join("m");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Mapping::open(&path, 1).is_err(), "others can write it");
        symlink(dir.0.join("real"), dir.0.join("link")).unwrap();
        assert!(Mapping::open(&dir.0.join("link"), 1).is_err());
        assert!(Mapping::open(&dir.0, 1).is_err() && Mapping::open(Path::new("/dev/zero"), 1).is_err());
        assert!(Mapping::open(&dir.0.join("new"), 0).is_err());
        assert!(Mapping::open(&dir.0.join("new"), usize::MAX).is_err());
        assert!(Mapping::open(Path::new("/proc/none/m"), 1).is_err());
    }

    #[test]
    fn memory_is_told_from_disks() {
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("/no/such/directory")) && !is_in_memory(Path::new("\0")));
    }
}
