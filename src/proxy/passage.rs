//! A WebSocket that codex opens for something else than the model: one try, with the credentials that codex sent, then bytes
//! both ways as they come. Knows no frames; nothing is looked at and nothing moves.

use super::attempt::{Call, Sender};
use super::deliver::{self, Ended};
use super::dial::{self, Dialled};
use super::downstream::Client;
use super::duplex::{Duplex, Moved, Read};
use super::route::Route;
use super::websocket::Begun;
use super::{Shared, exchange, websocket};
use crate::net::stream::Stream;
use crate::wire::head::Request;

pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route) -> Ended {
    let Begun { key, mut trace, slot, open: _open } =
        match websocket::begin(shared, client, request, route, &shared.passages) {
            Ok(begun) => begun,
            Err(ended) => return ended,
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
}
