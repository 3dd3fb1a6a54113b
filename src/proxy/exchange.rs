//! One downstream request from top to bottom: head, guard, route, then the way that its class takes.
//! Read this file first: it calls down to everything else in the proxy.

use super::attempt::{self, Call, Sender};
use super::budget::Allowance;
use super::deliver::{Ended, Trace, client_fault, relay, unavailable};
use super::downstream::{Client, NoRequest, Upload, local_answer};
use super::journal::{self, Marker, Tag};
use super::model;
use super::route::{self, Class, Route, Stray};
use super::{Shared, admission, check, guard, passage, websocket};
use crate::net::NetError;
use crate::sys::clock;
use crate::wire::head::{self, Request};
use crate::wire::{Malformed, handshake};
use std::time::{Duration, Instant};

/// After an answer the next request often comes at once: so long a worker waits for it before the listener takes over.
const LINGER: Duration = Duration::from_millis(100);
/// Somebody who asks one thing after the other needs less.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Serves requests of one connection until it is quiet: given back then; or closed: `None`.
pub fn serve(shared: &Shared, mut client: Client) -> Option<Client> {
    let _gathering = shared.journal.gather();
    // The listener hands over a connection on which something has come.
    let mut quiet = clock::now() + LINGER;
    loop {
        let request = match next(&mut client, quiet) {
            Ok(request) => request,
            Err(NoRequest::Quiet) => return Some(client),
            Err(NoRequest::Gone) => return None,
            Err(NoRequest::Slow) => {
                let _ = client.write_all(&local_answer(408, "timeout", "The request head did not come in time."));
                return None;
            }
            Err(NoRequest::Malformed(bad)) => {
                refuse_malformed(shared, &mut client, bad);
                return None;
            }
        };
        if one(shared, &mut client, &request) == Ended::Close {
            return None;
        }
        quiet = clock::now() + LINGER;
    }
}

/// The next request. Where it follows at once, the last exchange's lines go to the log with its own.
fn next(client: &mut Client, quiet: Instant) -> Result<Request, NoRequest> {
    match client.request(quiet.min(clock::now() + AT_ONCE)) {
        Err(NoRequest::Quiet) => {
            journal::flush();
            client.request(quiet)
        }
        came => came,
    }
}

fn one(shared: &Shared, client: &mut Client, request: &Request) -> Ended {
    let is_upgrade = handshake::is_upgrade(request);
    let route = match route::of(request.target(), &shared.secrets, is_upgrade) {
        Ok(route) => route,
        Err(stray) => return refuse_stray(shared, client, stray),
    };
    if let Err(refusal) = guard::check(request, route.class, &shared.authority, |given| shared.wallet.recognises(given))
    {
        shared.journal.note(Marker::Refused, format_args!("reason={} path={}", refusal.name(), route.path));
        let _ = client.write_all(&local_answer(403, "forbidden", "This port serves the codex that prodex started."));
        return Ended::Close;
    }
    if request.minor_version() == 0 {
        let _ = client.write_all(&local_answer(505, "http_version", "HTTP/1.1 is spoken here."));
        return Ended::Close;
    }
    if is_upgrade {
        return match route.class {
            Class::Model => websocket::serve(shared, client, request, &route),
            Class::Check | Class::Auxiliary => passage::serve(shared, client, request, &route),
        };
    }
    let mut upload = match Upload::new(request) {
        Ok(upload) if route.class == Class::Model => upload,
        Ok(upload) => upload.auxiliary(),
        Err(bad) => {
            refuse_malformed(shared, client, bad);
            return Ended::Close;
        }
    };
    let mut trace = Trace::new(shared.tag(route.lane));
    // What has arrived with the head may be the whole body.
    if !upload.is_done() && upload.pull(client).is_err() {
        return client_fault(shared, client, &upload, &trace);
    }
    if request.headers().has_token("expect", "100-continue")
        && !upload.is_done()
        && client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err()
    {
        return Ended::Close;
    }
    let _slot = match admission::admit(shared, trace.tag, &route.path) {
        Ok(slot) => slot,
        Err(why) => return unavailable(shared, client, &why, &trace),
    };
    let ended = match route.class {
        Class::Model => model::serve(shared, client, request, &route, &mut upload, &mut trace),
        Class::Check if request.method() == "GET" => check::serve(shared, client, request, &route, &mut upload, &trace),
        Class::Check | Class::Auxiliary => auxiliary(shared, client, request, &route, &mut upload, &mut trace),
    };
    // What is left of an unread body would be taken for the next request.
    let keep =
        ended == Ended::Keep && upload.is_done() && head::keeps_alive(request.minor_version(), request.headers());
    Ended::after(keep)
}

/// Codex's own calls: one try, with the credentials that codex sent, everything passed on.
fn auxiliary(
    shared: &Shared,
    client: &mut Client,
    request: &Request,
    route: &Route,
    upload: &mut Upload,
    trace: &mut Trace,
) -> Ended {
    let sender = auxiliary_sender(shared, client, request, route);
    let call = Call { request, route, sender, drop_turn_state: false };
    trace.attempts = 1;
    match attempt::http(shared, &call, upload, client, Allowance::alone(route.lane)) {
        Ok(answer) => relay(shared, client, answer, None, trace),
        Err(error) if error.client_gone() => client_fault(shared, client, upload, trace),
        Err(error) => {
            note_connect_error(shared, trace.tag, route, &error);
            unavailable(shared, client, &format!("prodex: {error}."), trace)
        }
    }
}

/// The MCP of apps and connectors: codex sends its credentials there only when the host is chatgpt.com (`wire.md` 1.2), so
/// they are added here. Not for whoever read the secret in a process list: only for a process of our own user (S-80).
const CREDENTIALS_MISSING: &str = "/ps/mcp";

fn auxiliary_sender(shared: &Shared, client: &Client, request: &Request, route: &Route) -> Sender {
    let needs = route.path == CREDENTIALS_MISSING && !request.headers().contains("authorization");
    if needs
        && client.stream.is_own_user()
        && let Ok(credential) = shared.wallet.credential(shared.launching)
    {
        return Sender::Profile(shared.launching, credential);
    }
    Sender::Codex
}

pub fn note_connect_error(shared: &Shared, tag: Tag, route: &Route, error: &NetError) {
    shared.journal.mark(
        tag,
        Marker::UpstreamConnectError,
        format_args!("path={} phase={} error={error}", route.path, error.phase.name()),
    );
}

fn refuse_malformed(shared: &Shared, client: &mut Client, bad: Malformed) {
    shared.journal.note(Marker::Refused, format_args!("reason=malformed detail={bad}"));
    let status = if matches!(bad, Malformed::HeadTooLarge | Malformed::TooManyHeaders) { 431 } else { 400 };
    let _ = client.write_all(&local_answer(status, "bad_request", &bad.to_string()));
}

/// Whoever lacks the secret learns nothing, and the log keeps no path that may hold somebody's.
fn refuse_stray(shared: &Shared, client: &mut Client, stray: Stray) -> Ended {
    shared.journal.note(Marker::Refused, format_args!("reason={stray:?}"));
    let (status, message) = match stray {
        Stray::NoSecret | Stray::UnknownMount => (404, "Nothing is here."),
        Stray::Climbs => (400, "The path leaves its place."),
    };
    let _ = client.write_all(&local_answer(status, "not_found", message));
    Ended::Close
}
