//! A WebSocket's beginning: the upstream is asked first, and its answer, whatever it is, is codex's (spec S-59, S-60).
//! What follows an accepted handshake is `session`'s.

use super::affinity::Claims;
use super::deliver::{self, Ended, Trace};
use super::dial::{self, Dialled, Opening};
use super::downstream::{Client, local_answer};
use super::journal::Marker;
use super::rotate::{self, Outcome};
use super::route::{Lane, Route};
use super::select::Ask;
use super::{Shared, admission, relay, session};
use crate::wire::handshake;
use crate::wire::head::{Request, Response};

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
    let claims = Claims::of_headers(|name| request.headers().value(name));
    let opening = Opening { request, route, key, session: claims.session };
    // No turn is asked yet, so nothing pins the socket; the session's own profile has its cache.
    let mut ask = Ask { owner: None, movable: true, ..shared.ledger.ask(&claims, false) };
    match dial::open(shared, client, &opening, &mut ask, trace.tag, &mut trace.attempts) {
        Outcome::Won(id, Dialled::Open(link, response)) => {
            if client.write_all(&switching(&response)).is_err() {
                return Ended::Close;
            }
            trace.profile = Some(id);
            // A socket without a turn takes no place: each turn asks for its own.
            drop(slot);
            session::run(shared, client, &opening, *link, trace.tag);
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
        Outcome::Refused(_, Dialled::Open(..)) | Outcome::ClientGone => Ended::Close,
        Outcome::Nobody(error) => deliver::unavailable(client, &rotate::exhausted(error.as_ref())),
    }
}

/// The upstream's 101 for codex: its key was codex's own, so its accept value is right.
pub fn switching(response: &Response) -> Vec<u8> {
    relay::head_for_codex(response, &[], &[("connection", b"Upgrade"), ("upgrade", b"websocket")])
}
