//! Socket options that std does not offer.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Makes the coming close of `socket` a reset instead of an orderly end, so that a stream which broke upstream cannot be
/// taken for one that ended. Best effort: on failure the close stays orderly.
pub fn reset_on_close(socket: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; pointer and length describe `linger`.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}
