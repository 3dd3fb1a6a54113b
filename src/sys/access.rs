//! What the system would let us do with a file: modes, owners, read-only mounts and all. Changes nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether something could be written there now.
pub fn is_writable(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: access(2) reads a string that ends with NUL and lives longer than the call.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_a_write_would() {
        assert!(is_writable(&std::env::temp_dir()));
        assert!(!is_writable(Path::new("/nowhere")));
    }
}
