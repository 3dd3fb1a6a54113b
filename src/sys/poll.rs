//! poll(2) on a few descriptors until a deadline. Knows only descriptors, not what they carry.

use crate::sys::clock;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// One descriptor, what is awaited from it and what came. A hang-up of the peer is always awaited.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Watch(libc::pollfd);

impl Watch {
    pub fn new(fd: &impl AsRawFd) -> Watch {
        Watch::raw(fd.as_raw_fd())
    }

    pub fn raw(fd: RawFd) -> Watch {
        Watch(libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 })
    }

    /// A place in the set that is not watched: poll(2) skips negative descriptors.
    pub fn nothing() -> Watch {
        Watch(libc::pollfd { fd: -1, events: 0, revents: 0 })
    }

    #[must_use]
    pub fn read(mut self, wanted: bool) -> Watch {
        if wanted {
            self.0.events |= libc::POLLIN;
        }
        self
    }

    #[must_use]
    pub fn write(mut self, wanted: bool) -> Watch {
        if wanted {
            self.0.events |= libc::POLLOUT;
        }
        self
    }

    pub fn readable(&self) -> bool {
        self.0.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0
    }

    pub fn writable(&self) -> bool {
        self.0.revents & (libc::POLLOUT | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// The peer closed its side (or all of it). Bytes that came before may still be unread.
    pub fn hung_up(&self) -> bool {
        self.0.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }
}

/// Waits until one of `watches` has something to tell: true; or until `deadline`: false. Without a deadline it waits
/// for ever. A signal does not end the wait.
pub fn wait(watches: &mut [Watch], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let timeout = match deadline {
            None => -1,
            Some(deadline) => millis_up(deadline.saturating_duration_since(clock::now())),
        };
        // SAFETY: `Watch` is a transparent wrapper of pollfd, the slice is valid and exclusively borrowed for the call,
        // and its length is passed along with it.
        let ready = unsafe { libc::poll(watches.as_mut_ptr().cast(), watches.len() as libc::nfds_t, timeout) };
        if ready > 0 {
            return Ok(true);
        }
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if deadline.is_some_and(|deadline| deadline <= clock::now()) {
            return Ok(false);
        }
    }
}

/// Rounded up: rounding down would spin through the last millisecond.
fn millis_up(duration: Duration) -> libc::c_int {
    libc::c_int::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tells_silence_bytes_and_hang_up_apart() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let now = Instant::now();
        let mut set = [Watch::new(&far).read(true), Watch::nothing()];
        assert!(!wait(&mut set, Some(now)).unwrap());
        near.write_all(b"x").unwrap();
        assert!(wait(&mut set, None).unwrap());
        assert!(set[0].readable() && !set[0].hung_up());
        drop(near);
        let mut quiet = [Watch::new(&far)];
        assert!(wait(&mut quiet, None).unwrap());
        assert!(quiet[0].hung_up(), "a hang-up is told without asking for bytes");
    }

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(millis_up(Duration::ZERO), 0);
        assert_eq!(millis_up(Duration::from_nanos(1)), 1);
        assert_eq!(millis_up(Duration::from_millis(7)), 7);
        assert_eq!(millis_up(Duration::MAX), libc::c_int::MAX);
    }
}
