//! From a host and port to a connected TCP socket, within a deadline. Knows no TLS and no HTTP.

use super::{Cause, NetError, Patience, Phase};
use crate::sys::clock;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// One address gets this long before the next is tried (0.2.38's connect limit).
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connects to the first address that answers. The socket is blocking, with Nagle's algorithm off.
pub fn tcp(host: &str, port: u16, patience: Patience) -> Result<TcpStream, NetError> {
    let failed = |phase, cause| NetError { phase, peer: format!("{host}:{port}"), cause };
    let addresses = resolve(host, port, patience).map_err(|cause| failed(Phase::Resolve, cause))?;
    let mut last = Cause::Failed("it has no address".to_owned());
    for address in addresses {
        let left = patience.until.saturating_duration_since(clock::now());
        if left.is_zero() {
            last = Cause::Deadline;
            break;
        }
        match TcpStream::connect_timeout(&address, left.min(CONNECT_LIMIT)) {
            Ok(socket) => {
                // Small writes (a WebSocket turn, a request head) must not wait for the peer's delayed ACK.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => last = Cause::Deadline,
            Err(error) => last = Cause::Failed(error.to_string()),
        }
    }
    Err(failed(Phase::Connect, last))
}

/// `getaddrinfo` has no deadline, so it runs on a thread that is left behind when it takes too long.
fn resolve(host: &str, port: u16, patience: Patience) -> Result<Vec<SocketAddr>, Cause> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (tell, answer) = mpsc::sync_channel(1);
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let _ = tell.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
        })
        .map_err(|error| Cause::Failed(error.to_string()))?;
    match answer.recv_timeout(patience.until.saturating_duration_since(clock::now())) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(Cause::Failed(error.to_string())),
        Err(_) => Err(Cause::Deadline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Patience {
        Patience::until(clock::now() + Duration::from_secs(5))
    }

    #[test]
    fn connects_by_address_and_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tcp("127.0.0.1", port, soon()).is_ok());
        // `localhost` may resolve to ::1 first, where nobody listens: the next address is tried.
        assert!(tcp("localhost", port, soon()).is_ok());
    }

    #[test]
    fn says_which_step_failed() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = tcp("127.0.0.1", port, soon()).unwrap_err();
        assert_eq!((refused.phase, refused.peer.as_str()), (Phase::Connect, format!("127.0.0.1:{port}").as_str()));
        assert_eq!(tcp("no-such-host.invalid", 1, soon()).unwrap_err().phase, Phase::Resolve);
        assert_eq!(tcp("127.0.0.1", port, Patience::until(clock::now())).unwrap_err().cause, Cause::Deadline);
    }
}
