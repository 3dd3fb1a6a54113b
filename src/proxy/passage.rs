//! A WebSocket that codex opens for something else than the model: one try, with the credentials that codex sent, then bytes
//! both ways as they come. Knows no frames; nothing is looked at and nothing moves.

use super::attempt::{Call, Sender};
use super::deliver::{self, Ended, Trace};
use super::dial::{self, Dialled};
use super::downstream::{Client, local_answer};
use super::duplex::{Duplex, Moved, Read};
use super::journal::Marker;
use super::route::{Lane, Route};
use super::{Shared, admission, exchange, websocket};
use crate::net::stream::Stream;
use crate::wire::handshake;
use crate::wire::head::Request;

pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route) -> Ended {
    let key = match handshake::key(request) {
        Ok(key) => key,
        Err(bad) => {
            let _ = client.write_all(&local_answer(400, "bad_request", &bad.to_string()));
            return Ended::Close;
        }
    };
    let mut trace = Trace::new(shared.tag(Lane::WebSocket));
    let slot = match admission::admit(shared, trace.tag, &route.path) {
        Ok(slot) => slot,
        Err(why) => return deliver::unavailable(client, &why),
    };
    trace.attempts = 1;
    let call = Call { request, route, sender: Sender::Codex, drop_turn_state: false };
    match dial::direct(shared, client, &call, key) {
        Ok(Dialled::Open(mut link, response)) => {
            if client.write_all(&websocket::switching(&response)).is_err() {
                return Ended::Close;
            }
            // An open socket may be silent for hours: it keeps nobody out.
            drop(slot);
            let end = pass(client, &mut link.stream, link.early);
            shared.journal.mark(trace.tag, Marker::Exchange, format_args!("profile=- status=101 end={end}"));
            Ended::Close
        }
        Ok(Dialled::Answer(answer)) => deliver::relay(shared, client, *answer, None, &mut trace),
        Err(error) if error.client_gone() => Ended::Close,
        Err(error) => {
            exchange::note_connect_error(shared, trace.tag, route, &error);
            deliver::unavailable(client, &format!("prodex: {error}."))
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
