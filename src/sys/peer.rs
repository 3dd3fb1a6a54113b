//! Whose socket is at the other end of a loopback connection. Linux tells it in /proc/net/tcp; elsewhere nobody does.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};

/// Connections of one machine that are looked through at most.
const MAX_LINES: usize = 100_000;

/// Whether the process at the other end runs under our own user. False when that cannot be known.
pub fn is_own_user(socket: &TcpStream) -> bool {
    let (Ok(SocketAddr::V4(theirs)), Ok(SocketAddr::V4(ours))) = (socket.peer_addr(), socket.local_addr()) else {
        return false;
    };
    // SAFETY: getuid takes nothing, fails never.
    let own = unsafe { libc::getuid() };
    let Ok(table) = File::open("/proc/net/tcp") else { return false };
    let mut lines = BufReader::new(table).lines().take(MAX_LINES).map_while(Result::ok);
    lines.find_map(|line| owner(&line, theirs, ours)).is_some_and(|uid| uid == own)
}

/// The uid of a line of /proc/net/tcp, when it is about the socket bound to `local` and connected to `remote`:
/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …` (proc(5)).
fn owner(line: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let is_it = fields.next()? == hex(local) && fields.next()? == hex(remote);
    is_it.then(|| fields.nth(4)?.parse().ok()).flatten()
}

/// The kernel prints the address as a number in the machine's own byte order.
fn hex(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reads_a_line_of_the_table() {
        let line = "  15: 0100007F:A5CC 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 42 1 0";
        let (local, remote) = ("127.0.0.1:42444".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(owner(line, local, remote), Some(1000));
            assert_eq!(owner(line, remote, local), None);
        }
        assert_eq!(owner("sl local_address rem_address", local, remote), None);
    }

    #[test]
    fn knows_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(is_own_user(&listener.accept().unwrap().0));
    }
}
