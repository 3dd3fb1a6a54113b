//! A WebSocket that codex opens for something else than the model: one try, with the credentials that codex sent, then bytes
//! both ways as they come. Knows no frames; nothing is looked at and nothing moves.

use super::attempt::{Call, Sender};
use super::deliver::{self, Ended};
use super::dial::{self, Dialled};
use super::downstream::Client;
use super::duplex::{Duplex, Moved, Read};
use super::journal::Marker;
use super::route::Route;
use super::{Shared, admission, exchange, websocket};
use crate::net::stream::Stream;
use crate::wire::head::Request;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Open at once. Codex opens one or two; each keeps a thread, of which the model's exchanges are to have enough.
const MAX_OPEN: usize = 128;

/// How many are open.
#[derive(Default)]
pub struct Passages(AtomicUsize);

/// One that is open, until it is dropped.
struct Open<'a>(&'a Passages);

impl Passages {
    fn enter(&self) -> Option<Open<'_>> {
        let more = |open: usize| (open < MAX_OPEN).then_some(open + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Open(self))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route) -> Ended {
    let (key, mut trace, slot) = match websocket::begin(shared, client, request, route) {
        Ok(begun) => begun,
        Err(ended) => return ended,
    };
    let Some(_open) = shared.passages.enter() else {
        admission::note_full(shared, trace.tag, &route.path, Marker::ActiveLimit, MAX_OPEN, MAX_OPEN);
        let why = format!("prodex: {MAX_OPEN} sockets of this kind are open, and no more may be.");
        return deliver::unavailable(shared, client, &why, &trace);
    };
    trace.attempts = 1;
    let call = Call { request, route, sender: Sender::Codex, drop_turn_state: false };
    match dial::direct(shared, client, &call, key) {
        Ok(Dialled::Open(mut link, response)) => {
            if client.write_all(&websocket::switching(&response)).is_err() {
                trace.over(shared, 101, "client");
                return Ended::Close;
            }
            // An open socket may be silent for hours: it keeps nobody out.
            drop(slot);
            trace.over(shared, 101, pass(client, &mut link.stream, link.early));
            Ended::Close
        }
        Ok(Dialled::Answer(answer)) => deliver::relay(shared, client, *answer, None, &mut trace),
        Err(error) if error.client_gone() => {
            trace.over(shared, 0, "client_gone");
            Ended::Close
        }
        Err(error) => {
            exchange::note_connect_error(shared, trace.tag, route, &error);
            deliver::unavailable(shared, client, &format!("prodex: {error}."), &trace)
        }
    }
}

/// Until one side ends; who that was, as the log says it.
fn pass(client: &mut Client, upstream: &mut Stream, early: Vec<u8>) -> &'static str {
    let mut io = Duplex::new(std::mem::take(&mut client.unread), early);
    loop {
        io.to_upstream.push(&io.client_in);
        io.to_client.push(&io.upstream_in);
        io.client_in.clear();
        io.upstream_in.clear();
        match io.turn(client, upstream, None) {
            Moved::Read { upstream: Read::End, .. } => {
                // What codex was to hear before the end, it still hears.
                let _ = client.write_all(io.to_client.rest());
                return "upstream";
            }
            Moved::Read { .. } | Moved::Late => {}
            Moved::ClientGone => return "client",
            Moved::Failed => return "idle",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// Our end as the proxy has it, and the other one.
    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Stream::plain(ours).unwrap(), listener.accept().unwrap().0)
    }

    #[test]
    fn whatever_it_looks_like_it_passes() {
        let quota = br#"{"type":"error","status":429,"error":{"type":"usage_limit_reached"}}"#;
        // What comes with the heads, what comes later, who ends it.
        for (early, later, ends) in
            [(&b""[..], &quota[..], "upstream"), (quota, b"\x88\0", "upstream"), (b"x", b"", "client")]
        {
            let ((downstream, mut codex), (mut stream, mut upstream)) = (pair(), pair());
            let mut client = Client::new(downstream);
            client.unread = early.to_vec();
            codex.write_all(later).unwrap();
            upstream.write_all(later).unwrap();
            let last = if ends == "client" { &codex } else { &upstream };
            last.shutdown(Shutdown::Write).unwrap();
            assert_eq!(pass(&mut client, &mut stream, early.to_vec()), ends);
            drop((client, stream));
            let heard = |mut peer: TcpStream| {
                let mut heard = Vec::new();
                let _ = peer.read_to_end(&mut heard);
                heard
            };
            let all = [early, later].concat();
            if ends == "upstream" {
                assert_eq!(heard(codex), all);
            }
            assert!(all.starts_with(&heard(upstream)));
        }
    }

    #[test]
    fn so_many_and_no_more() {
        let passages = Passages::default();
        let mut open: Vec<_> = (0..MAX_OPEN).map_while(|_| passages.enter()).collect();
        assert_eq!((open.len(), passages.enter().is_none()), (128, true));
        open.pop();
        assert!(passages.enter().is_some());
    }
}
