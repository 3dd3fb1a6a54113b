//! What std does not offer for sockets: options, and connecting without waiting.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A non-blocking socket on its way to `address`. It is writable when it is there or has failed: `take_error` says which.
pub fn start_connecting(address: &SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes plain numbers.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and nobody else has it.
    let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let result = match address {
        SocketAddr::V4(address) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                // In the order of the wire already.
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            connect(fd, &name)
        }
        SocketAddr::V6(address) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            connect(fd, &name)
        }
    };
    match result {
        // A signal does not stop it either.
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Err(error),
        _ => Ok(socket),
    }
}

/// `name` is a `sockaddr_in` or `sockaddr_in6`.
fn connect<T>(fd: libc::c_int, name: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`, which connect(2) only reads.
    let result = unsafe { libc::connect(fd, (&raw const *name).cast(), size_of::<T>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

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

/// The process or the machine has no descriptor left: waiting helps, asking again at once does not.
pub fn out_of_descriptors(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// An address that never answers: its queue of connections is full.
#[cfg(test)]
pub struct Deaf {
    listener: std::net::TcpListener,
    _waiting: Vec<TcpStream>,
}

#[cfg(test)]
impl Deaf {
    pub fn listen() -> Deaf {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: listen(2) takes plain numbers; asked again it only changes the length of the queue.
        unsafe { libc::listen(listener.as_raw_fd(), 0) };
        let address = listener.local_addr().unwrap();
        // The queue has room for one more than it says.
        let waiting = (0..3).map(|_| start_connecting(&address).unwrap()).collect();
        Deaf { listener, _waiting: waiting }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn connects_over_both_families() {
        for name in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may be without IPv6.
            let Ok(listener) = TcpListener::bind(name) else { continue };
            let socket = start_connecting(&listener.local_addr().unwrap()).unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(socket.local_addr().unwrap(), from);
            assert!(socket.take_error().unwrap().is_none());
        }
    }
}
