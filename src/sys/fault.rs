//! What happens when the memory of a file is touched that the file no longer has (SIGBUS), because somebody cut it short: in
//! the ranges that are named here zeros take its place, anywhere else it ends the process as before. Knows no files.

use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ranges at the same time. A run has one; the tests of this crate play many runs in one process.
const MAX_RANGES: usize = 1_024;
/// The smallest page that Linux has: a range begins at one, so the bits below are free for its length.
const PAGE_BITS: usize = 4096;

/// Each the address where one begins plus the number of its pages, so that a handler reads both at once; 0 is a free place.
static RANGES: [AtomicUsize; MAX_RANGES] = [const { AtomicUsize::new(0) }; MAX_RANGES];
static BEFORE: OnceLock<Before> = OnceLock::new();

struct Before {
    page: usize,
    /// Std has a handler, which tells of stack overflows.
    action: libc::sigaction,
}

/// A range that is guarded until this is dropped.
pub struct Guarded(&'static AtomicUsize);

/// `start` is where a mapping of `bytes` begins.
pub fn guard(start: NonNull<libc::c_void>, bytes: usize) -> io::Result<Guarded> {
    let page = install()?.page;
    let pages = bytes.div_ceil(page);
    let start = start.as_ptr() as usize;
    if pages >= PAGE_BITS || !start.is_multiple_of(page) {
        return Err(io::Error::other("not a range to guard"));
    }
    let claim =
        |range: &&AtomicUsize| range.compare_exchange(0, start + pages, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    RANGES.iter().find(claim).map(Guarded).ok_or_else(|| io::Error::other("too many ranges are guarded"))
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

fn install() -> io::Result<&'static Before> {
    if let Some(before) = BEFORE.get() {
        return Ok(before);
    }
    // SAFETY: takes a plain number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    if page < PAGE_BITS || !page.is_power_of_two() {
        return Err(io::Error::other("no size of a page"));
    }
    // SAFETY: a zeroed sigaction is valid, and the pointers lead to live values of the right type. The handler only uses
    // atomics, mmap, sigaction and raise, which are system calls and nothing else.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = touched as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // Of several first callers one says what was before, and installs.
        let mut result = 0;
        let before = BEFORE.get_or_init(|| {
            result = libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
            Before { page, action: before }
        });
        if result != 0 { Err(io::Error::last_os_error()) } else { Ok(before) }
    }
}

/// Runs in signal context, on the thread that touched `info`'s address.
extern "C" fn touched(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `info`, whose address is one when the code is above 0.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Not set only between the handler's installation and its return, when no range is there yet.
    let Some(before) = BEFORE.get() else { return };
    if code > 0 && is_guarded(at, before.page) {
        let start = (at & !(before.page - 1)) as *mut libc::c_void;
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the page is within a mapping of ours whose owner is in the middle of using it, so nothing else is there;
        // it is only reached as atomics, for which any bytes are values.
        if unsafe { libc::mmap(start, before.page, access, kind, -1, 0) } != libc::MAP_FAILED {
            return;
        }
    }
    // SAFETY: the action was the system's own; when this returns, the same instruction faults again and meets it. What
    // somebody sent does not come again by itself.
    unsafe {
        libc::sigaction(signal, &raw const before.action, std::ptr::null_mut());
        if code <= 0 {
            libc::raise(signal);
        }
    }
}

fn is_guarded(at: usize, page: usize) -> bool {
    RANGES.iter().any(|range| {
        let range = range.load(Ordering::SeqCst);
        let (start, pages) = (range & !(PAGE_BITS - 1), range & (PAGE_BITS - 1));
        at >= start && at - start < pages * page
    })
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Mapping;
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::sync::atomic::Ordering::Relaxed;

    fn cut(name: &str) -> Mapping {
        let path = std::env::temp_dir().join(format!("prodex-fault-{}-{name}", std::process::id()));
        let mapping = Mapping::open(&path, 4_000).unwrap();
        mapping.words().iter().for_each(|word| word.store(7, Relaxed));
        OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        std::fs::remove_file(&path).unwrap();
        mapping
    }

    #[test]
    fn what_was_cut_off_is_zeros_and_can_be_written() {
        let mapping = cut("zeros");
        let read = |at: usize| mapping.words()[at].load(Relaxed);
        assert_eq!([read(0), read(511), read(512), read(3_999)], [7, 7, 0, 0]);
        mapping.words()[600].store(1, Relaxed);
        mapping.words()[2_000].fetch_add(3, Relaxed);
        assert_eq!([read(600), read(2_000), read(0)], [1, 3, 7]);
    }

    #[test]
    #[ignore = "it ends its process: the next test runs it"]
    fn touches_what_nobody_guards() {
        let mapping = cut("other");
        let file = mapping.file().as_raw_fd();
        // SAFETY: a new mapping, of which one byte within it is read.
        unsafe {
            let start = libc::mmap(std::ptr::null_mut(), 8_192, libc::PROT_READ, libc::MAP_SHARED, file, 0);
            start.cast::<u8>().add(5_000).read_volatile();
        }
    }

    #[test]
    fn anywhere_else_it_ends_the_process() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "sys::fault::tests::touches_what_nobody_guards", "--ignored"]);
        let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(ended.signal(), Some(libc::SIGBUS), "{ended}");
    }
}
