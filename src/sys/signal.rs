//! Signals, for two kinds of commands. A screen that stays gets them as bytes in a pipe (`listen`). While codex runs, the
//! terminal's own (INT, QUIT) are left to codex, TERM and HUP are handed on to it (`take_over`).
//! A no-op handler and never `SIG_IGN`: a child inherits the latter, the former is reset by exec (design.md 2.2). What was
//! ignored when we were started (`nohup`, a background job of a script) stays ignored, by us and by codex.

use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

/// The child that TERM and HUP go to; 0 before it lives and after it was reaped.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// The signals that are to be handed on, a bit each: the handler says so first and looks for a child then, `forward_to`
/// does it the other way round, so that one of them sees the other.
static PENDING: AtomicI32 = AtomicI32::new(0);
const HANDED_ON: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGHUP];

/// From here on INT and QUIT do nothing to this process, TERM and HUP wait for `forward_to`.
pub fn take_over() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        install(signal, nothing, libc::SA_RESTART);
    }
    for signal in HANDED_ON {
        install(signal, hand_on, libc::SA_RESTART);
    }
}

/// TERM and HUP go to process `pid` from here on, one that came earlier included. 0 ends the forwarding: to be called
/// before the child is reaped, since then its number can be given to another process.
pub fn forward_to(pid: i32) {
    CHILD.store(pid, Ordering::SeqCst);
    deliver();
}

/// Where `listen`'s signals are written to; -1 for nowhere.
static LISTENER: AtomicI32 = AtomicI32::new(-1);
const LISTENED: [libc::c_int; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP, libc::SIGCONT, libc::SIGWINCH];

/// Flags of a handler that ends a write to a terminal which takes nothing (no SA_RESTART).
const AT_ONCE: libc::c_int = 0;

/// From here on what ends, suspends or resizes a screen is a byte to be read, its number, and does nothing else.
pub fn listen() -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    // Never closed: a handler may be about to write to it.
    LISTENER.store(far.into_raw_fd(), Ordering::SeqCst);
    for signal in LISTENED {
        install(signal, tell, AT_ONCE);
    }
    Ok(near)
}

/// Runs in signal context: an atomic and write(2) are all it may use.
extern "C" fn tell(signal: libc::c_int) {
    let byte = signal as u8;
    // SAFETY: one byte of a live local; a full pipe is one that says enough already.
    unsafe { libc::write(LISTENER.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}

/// Stops until the shell goes on with us; at once when no shell could.
pub fn suspend() {
    default(libc::SIGTSTP);
    raise(libc::SIGTSTP);
    install(libc::SIGTSTP, tell, AT_ONCE);
}

/// Ends this process by the signal, as if it had never been caught.
pub fn end_by(signal: libc::c_int) {
    default(signal);
    raise(signal);
}

fn default(signal: libc::c_int) {
    // SAFETY: SIG_DFL is a valid disposition for every signal.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn raise(signal: libc::c_int) {
    // SAFETY: takes a plain number.
    unsafe { libc::raise(signal) };
}

extern "C" fn nothing(_: libc::c_int) {}

/// Runs in signal context: atomics and kill(2) are all it may use.
extern "C" fn hand_on(signal: libc::c_int) {
    PENDING.fetch_or(1 << signal, Ordering::SeqCst);
    deliver();
}

/// What waits goes to the child, once, if there is one.
fn deliver() {
    let child = CHILD.load(Ordering::SeqCst);
    if child <= 0 {
        return;
    }
    let waiting = PENDING.swap(0, Ordering::SeqCst);
    for signal in HANDED_ON {
        if waiting & (1 << signal) != 0 {
            // SAFETY: kill(2) takes plain numbers; a process that is gone is an error that nobody needs.
            unsafe { libc::kill(child, signal) };
        }
    }
}

/// With SA_RESTART in `flags` the other threads' system calls go on.
fn install(signal: libc::c_int, handler: extern "C" fn(libc::c_int), flags: libc::c_int) {
    // SAFETY: a zeroed sigaction is valid (empty mask); the handler only uses async-signal-safe operations.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action);
        if action.sa_sigaction == libc::SIG_IGN {
            return;
        }
        action = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = flags;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}
