//! A WebSocket's beginning: the upstream is asked first, and its answer, whatever it is, is codex's (spec S-59, S-60).
//! What follows an accepted handshake is `session`'s.

use super::affinity::Claims;
use super::deliver::{self, Ended, Trace};
use super::dial::{self, Dialled, Opening};
use super::downstream::{Client, local_answer};
use super::journal::Marker;
use super::lane::Slot;
use super::rotate::{self, Outcome};
use super::route::{Lane, Route};
use super::select::Ask;
use super::sockets::{Open, Sockets};
use super::{Shared, admission, relay, session};
use crate::sys::buffer::Buffer;
use crate::wire::handshake;
use crate::wire::head::{Request, Response};

/// What every socket begins with.
pub struct Begun<'a, 'b> {
    pub key: &'b str,
    pub trace: Trace,
    /// Until it is open.
    pub slot: Slot<'a>,
    /// As long as it is open.
    pub open: Open<'a>,
}

/// A handshake of codex that is right, and a place for it among `sockets`. Else codex has been told.
pub fn begin<'a, 'b>(
    shared: &'a Shared,
    client: &mut Client,
    request: &'b Request,
    route: &Route,
    sockets: &'a Sockets,
) -> Result<Begun<'a, 'b>, Ended> {
    let trace = Trace::new(shared.tag(Lane::WebSocket));
    let key = match handshake::key(request) {
        Ok(key) => key,
        Err(bad) => {
            trace.over(shared, 400, "bad_request");
            let _ = client.write_all(&local_answer(400, "bad_request", &bad.to_string()));
            return Err(Ended::Close);
        }
    };
    let place = admission::admit(shared, trace.tag, &route.path)
        .and_then(|slot| Ok((slot, admission::open(shared, trace.tag, &route.path, sockets)?)));
    match place {
        Ok((slot, open)) => Ok(Begun { key, trace, slot, open }),
        Err(why) => Err(deliver::unavailable(shared, client, &why, &trace)),
    }
}

pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route) -> Ended {
    let Begun { key, mut trace, slot, open: _open } = match begin(shared, client, request, route, &shared.sockets) {
        Ok(begun) => begun,
        Err(ended) => return ended,
    };
    let claims = Claims::of_headers(|name| request.headers().value(name));
    let opening = Opening { request, route, key, session: claims.session };
    // No turn is asked yet, so nothing pins the socket; the session's own profile has its cache.
    let mut ask = Ask { owner: None, movable: true, ..shared.ledger.ask(&claims, false) };
    match dial::open(shared, client, &opening, &mut ask, trace.tag, &mut trace.attempts) {
        Outcome::Won(id, Dialled::Open(link, response)) => {
            trace.profile = Some(id);
            if client.write_all(&switching(&response)).is_err() {
                trace.over(shared, 101, "client_gone");
                return Ended::Close;
            }
            // A socket without a turn takes no place: each turn asks for its own.
            drop(slot);
            session::run(shared, client, &opening, *link, &trace);
            Ended::Close
        }
        Outcome::Won(id, Dialled::Answer(answer)) | Outcome::Refused(id, Dialled::Answer(answer)) => {
            trace.profile = Some(id);
            let status = answer.head.status();
            shared.journal.mark(
                trace.tag,
                Marker::UpstreamHandshakeRefused,
                format_args!("profile={} status={status}", shared.name(id)),
            );
            deliver::relay(shared, client, *answer, None, &mut trace)
        }
        // An open link is never a refusal.
        Outcome::Refused(_, Dialled::Open(..)) | Outcome::ClientGone => {
            trace.over(shared, 0, "client_gone");
            Ended::Close
        }
        Outcome::Nobody(error) => deliver::unavailable(shared, client, &rotate::exhausted(error.as_ref()), &trace),
    }
}

/// The upstream's 101 for codex: its key was codex's own, so its accept value is right.
pub fn switching(response: &Response) -> Buffer {
    relay::head_for_codex(response, &[], &[("connection", b"Upgrade"), ("upgrade", b"websocket")])
}
