//! The terminal as a screen of its own: keys without Enter, no echo, no cursor, the alternate buffer; put back as it was on
//! every way out, a panic and a signal included. Never waits for a terminal that takes nothing. Knows neither keys nor what is
//! drawn.

use super::poll::{self, Watch};
use super::{clock, signal};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Alternate buffer, no cursor, and no wrapping: a character that is wider than we think must not shift all lines.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The first of it ends a picture that was begun (`?2026h`).
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// A terminal that takes no byte for so long stands still: held with Ctrl+S, or nobody reads it. What is not written by then is
/// given up, so that keys are heard meanwhile and an end is one.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the terminal was, while it is not.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);
static ENTERED: AtomicBool = AtomicBool::new(false);

/// What ended a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes of keys; at least one.
    Input(Vec<u8>),
    /// The terminal is gone.
    Closed,
    Resized,
    /// Ctrl+C.
    Interrupted,
    /// To be ended by this signal.
    Ended(i32),
    /// Ctrl+Z was pressed.
    Suspended,
    /// Somebody called [`Bell::ring`].
    Rung,
    /// Another thread panicked, with these words.
    Broken(String),
    Timeout,
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub struct Bell(Arc<UnixStream>);

impl Bell {
    pub fn ring(&self) {
        // A full pipe is one that rings already.
        let _ = (&*self.0).write(&[0]);
    }
}

pub struct Screen {
    signals: UnixStream,
    rung: UnixStream,
    bell: Bell,
    /// Where keys come from, while stdin is a terminal.
    keys: Option<File>,
    out: File,
    /// The terminal took everything so far, [`ENTER`] first.
    whole: Cell<bool>,
    /// Of the first panic in another thread.
    broken: Arc<Mutex<Option<String>>>,
}

impl Screen {
    /// Takes the terminal that stdout is.
    pub fn open() -> io::Result<Screen> {
        let signals = signal::listen()?;
        let (rung, bell) = UnixStream::pair()?;
        rung.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let stdin = io::stdin();
        let keys = stdin.is_terminal().then(|| stdin.as_fd().try_clone_to_owned()).transpose()?.map(File::from);
        let bell = Bell(Arc::new(bell));
        let broken = Arc::default();
        let screen = Screen { signals, rung, bell, keys, out: terminal()?, whole: Cell::new(false), broken };
        screen.catch_panics();
        screen.enter();
        Ok(screen)
    }

    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// The message of a panic belongs on the screen that stays. Only the thread that draws may give the terminal back: it would
    /// draw on behind another one's back.
    fn catch_panics(&self) {
        let (bell, broken, drawing) = (self.bell(), Arc::clone(&self.broken), thread::current().id());
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().id() == drawing {
                leave();
                hook(info);
                return;
            }
            broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| info.to_string());
            bell.ring();
        }));
    }

    fn enter(&self) {
        if self.keys.is_some() {
            set_keys();
        }
        ENTERED.store(true, Ordering::SeqCst);
        self.whole.set(false);
    }

    /// Whether the terminal took all of it. False: a signal came meanwhile, or it stands still; nobody knows what it shows then.
    pub fn draw(&self, bytes: &[u8]) -> io::Result<bool> {
        let start = if self.whole.get() { &[] } else { ENTER };
        let whole = write(&self.out, &[start, bytes].concat(), Watch::new(&self.signals).read(true))?;
        self.whole.set(whole);
        Ok(whole)
    }

    /// Until something happens, or `deadline`.
    pub fn wait(&self, deadline: Instant) -> io::Result<Event> {
        let keys = self.keys.as_ref().map_or(Watch::nothing(), |keys| Watch::new(keys).read(true));
        let mut set = [Watch::new(&self.signals).read(true), keys, Watch::new(&self.rung).read(true)];
        if !poll::wait(&mut set, Some(deadline))? {
            return Ok(Event::Timeout);
        }
        let mut bytes = [0; 256];
        if set[0].readable() {
            return Ok(match (&self.signals).read(&mut bytes[..1]) {
                Ok(1) => meaning(i32::from(bytes[0])),
                _ => Event::Timeout,
            });
        }
        if let Some(mut keys) = self.keys.as_ref().filter(|_| set[1].readable()) {
            return Ok(match keys.read(&mut bytes) {
                Ok(0) => Event::Closed,
                Ok(taken) => Event::Input(bytes[..taken].to_vec()),
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                    Event::Timeout
                }
                Err(_) => Event::Closed,
            });
        }
        while matches!((&self.rung).read(&mut bytes), Ok(256)) {}
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(broken.map_or(Event::Rung, Event::Broken))
    }

    /// Gives the terminal back and sleeps until the shell says to go on.
    pub fn suspend(&self) {
        leave();
        signal::suspend();
        self.enter();
    }
}

fn meaning(signal: i32) -> Event {
    match signal {
        libc::SIGWINCH | libc::SIGCONT => Event::Resized,
        libc::SIGINT => Event::Interrupted,
        libc::SIGTSTP => Event::Suspended,
        other => Event::Ended(other),
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// As it was before; once.
fn leave() {
    if !ENTERED.swap(false, Ordering::SeqCst) {
        return;
    }
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut mode) = before {
        // Ends what Ctrl+S holds: the last words are to come through.
        mode.c_iflag &= !libc::IXON;
        set_mode(&mode);
    }
    let _ = terminal().and_then(|out| write(&out, LEAVE, Watch::nothing()));
    if let Some(mode) = before {
        set_mode(&mode);
    }
}

/// Keys come one by one and are not shown. Ctrl+C and Ctrl+Z stay signals.
fn set_keys() {
    // SAFETY: a zeroed termios is a valid value of this plain C struct.
    let mut mode: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live termios.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &raw mut mode) } != 0 {
        return;
    }
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(mode);
    mode.c_lflag &= !(libc::ICANON | libc::ECHO);
    mode.c_cc[libc::VMIN] = 1;
    mode.c_cc[libc::VTIME] = 0;
    set_mode(&mode);
}

fn set_mode(mode: &libc::termios) {
    // SAFETY: the pointer is to a live termios.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const *mode) };
}

/// The terminal that stdout is, past std's line buffer, which would cut a picture into pieces. Opened anew, so that not to block
/// is our own affair and not that of everybody who has it open; where that is not allowed, as it is.
fn terminal() -> io::Result<File> {
    let own = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/dev/fd/1");
    own.or_else(|_| io::stdout().as_fd().try_clone_to_owned().map(File::from))
}

/// Whether all of it was taken: see [`PATIENCE`]; `wake` ends it as well.
fn write(mut out: &File, mut bytes: &[u8], wake: Watch) -> io::Result<bool> {
    let mut until = clock::now() + PATIENCE;
    while !bytes.is_empty() {
        let mut set = [Watch::new(out).write(true), wake];
        if !poll::wait(&mut set, Some(until))? || set[1].readable() || clock::now() >= until {
            return Ok(false);
        }
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                bytes = bytes.get(taken..).unwrap_or_default();
                until = clock::now() + PATIENCE;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_elsewhere_is_told_to_the_thread_that_draws() {
        let (signals, _other) = UnixStream::pair().unwrap();
        let (rung, bell) = UnixStream::pair().unwrap();
        rung.set_nonblocking(true).unwrap();
        let (bell, out) = (Bell(Arc::new(bell)), File::open("/dev/null").unwrap());
        let screen = Screen { signals, rung, bell, keys: None, out, whole: Cell::new(true), broken: Arc::default() };
        let soon = || clock::now() + Duration::from_secs(60);
        screen.bell().ring();
        assert_eq!(screen.wait(soon()).unwrap(), Event::Rung);
        screen.catch_panics();
        let other = thread::spawn(|| panic!("on purpose"));
        let told = screen.wait(soon()).unwrap();
        assert!(other.join().is_err());
        let _ = std::panic::take_hook();
        // Another test's may have been the first.
        assert!(matches!(&told, Event::Broken(words) if words.contains("panicked")), "{told:?}");
    }
}
