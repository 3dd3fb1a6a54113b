//! From a host and port to a connected TCP socket, within a deadline. Knows no TLS and no HTTP.

use super::stream::wait;
use super::{Cause, NetError, Patience, Phase};
use crate::sys::clock;
use crate::sys::poll::Watch;
use crate::sys::socket;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// An address that is not the last gets at least this long of what is left: one lost SYN is sent again after 1 s.
const LEAST_SHARE: Duration = Duration::from_secs(1);
/// So often a client that left is looked for while a name is being resolved; codex must see its own end within 100 ms.
const RESOLVE_SLICE: Duration = Duration::from_millis(50);

/// Connects to the first address that answers. The socket is non-blocking, with Nagle's algorithm off.
pub fn tcp(host: &str, port: u16, patience: Patience) -> Result<TcpStream, NetError> {
    let failed = |phase, cause| NetError { phase, peer: format!("{host}:{port}"), cause };
    let addresses = resolve(host, port, patience).map_err(|cause| failed(Phase::Resolve, cause))?;
    first_of(&addresses, patience).map_err(|cause| failed(Phase::Connect, cause))
}

/// In their order. One that stays silent takes at most half of the time that is left, the last one all of it.
fn first_of(addresses: &[SocketAddr], patience: Patience) -> Result<TcpStream, Cause> {
    let mut last = Cause::Failed("it has no address".to_owned());
    for (index, address) in addresses.iter().enumerate() {
        let now = clock::now();
        let left = patience.until.saturating_duration_since(now);
        if left.is_zero() {
            return Err(Cause::Deadline);
        }
        let share = if index + 1 == addresses.len() { left } else { left.min(LEAST_SHARE.max(left / 2)) };
        match connect(address, Patience { until: now + share, ..patience }) {
            Err(cause) if cause != Cause::ClientGone => last = cause,
            ended => return ended,
        }
    }
    Err(last)
}

fn connect(address: &SocketAddr, patience: Patience) -> Result<TcpStream, Cause> {
    let words = |error: std::io::Error| Cause::Failed(error.to_string());
    let socket = socket::start_connecting(address).map_err(words)?;
    wait(Watch::new(&socket).write(true), patience)?;
    if let Some(error) = socket.take_error().map_err(words)? {
        return Err(words(error));
    }
    // Small writes (a WebSocket turn, a request head) must not wait for the peer's delayed ACK.
    let _ = socket.set_nodelay(true);
    Ok(socket)
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
    told(&answer, patience)?.map_err(|error| Cause::Failed(error.to_string()))
}

/// What a thread tells, unless the time is over or the client gone before.
fn told<T>(answer: &mpsc::Receiver<T>, patience: Patience) -> Result<T, Cause> {
    loop {
        let now = clock::now();
        let left = patience.until.saturating_duration_since(now);
        match answer.recv_timeout(left.min(RESOLVE_SLICE)) {
            Ok(told) => return Ok(told),
            Err(RecvTimeoutError::Disconnected) => return Err(Cause::Failed("it cannot be looked up".to_owned())),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Cause::Deadline),
            // Only a look at the client: nothing else is watched and no time is left for it.
            Err(RecvTimeoutError::Timeout) => match wait(Watch::nothing(), Patience { until: now, ..patience }) {
                Err(Cause::Deadline) => {}
                other => other?,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

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

    #[test]
    fn a_silent_address_leaves_time_for_the_next() {
        let deaf = socket::Deaf::listen();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let within = |millis| Patience::until(clock::now() + Duration::from_millis(millis));
        let found = first_of(&[refused, deaf.address(), listener.local_addr().unwrap()], within(1900)).unwrap();
        assert_eq!(found.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(first_of(&[refused, deaf.address()], within(200)).unwrap_err(), Cause::Deadline);
        assert!(matches!(first_of(&[refused], within(1000)).unwrap_err(), Cause::Failed(_)));
    }

    #[test]
    fn a_client_that_left_ends_it() {
        let deaf = socket::Deaf::listen();
        let (near, far) = UnixStream::pair().unwrap();
        let began = clock::now();
        let patience = Patience { until: began + Duration::from_mins(1), client: Some(near.as_raw_fd()) };
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            drop(far);
        });
        let (_tell, never) = mpsc::channel::<()>();
        assert_eq!(told(&never, patience).unwrap_err(), Cause::ClientGone);
        assert_eq!(first_of(&[deaf.address(), deaf.address()], patience).unwrap_err(), Cause::ClientGone);
        assert!(began.elapsed() < Duration::from_secs(20));
        leaving.join().unwrap();
    }
}
