//! One downstream request from top to bottom: head, guard, route, then the way that its class takes.
//! Read this file first: it calls down to everything else in the proxy.

use super::affinity::Key;
use super::attempt::{self, Answer, Call, Sender};
use super::downstream::{Client, NoRequest, Upload, UploadError, local_answer};
use super::journal::{Marker, Tag};
use super::relay::{self, End};
use super::rotate::{self, FIRST_BYTE};
use super::route::{self, Class, Route, Stray};
use super::verdict::Event;
use super::{ProfileId, Shared, check, guard, websocket};
use crate::net::NetError;
use crate::sys::clock;
use crate::wire::head::{self, Request};
use crate::wire::{Malformed, handshake};
use std::time::{Duration, Instant};

/// After an answer the next request often comes at once: so long a worker waits for it before the listener takes over.
const LINGER: Duration = Duration::from_millis(100);

/// What becomes of the connection to codex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Keep,
    Close,
}

impl Ended {
    pub fn after(fine: bool) -> Ended {
        if fine { Ended::Keep } else { Ended::Close }
    }
}

/// What the log tells of an exchange when it is over.
pub struct Trace {
    pub tag: Tag,
    pub profile: Option<ProfileId>,
    pub attempts: u32,
    began: Instant,
}

impl Trace {
    pub fn new(tag: Tag) -> Trace {
        Trace { tag, profile: None, attempts: 0, began: clock::now() }
    }
}

/// Serves requests of one connection until it is quiet: given back then; or closed: `None`.
pub fn serve(shared: &Shared, mut client: Client) -> Option<Client> {
    // The listener hands over a connection on which something has come.
    let mut quiet = clock::now() + LINGER;
    loop {
        let request = match client.request(quiet) {
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

fn one(shared: &Shared, client: &mut Client, request: &Request) -> Ended {
    let is_upgrade = handshake::is_upgrade(request);
    let route = match route::of(request.target(), &shared.secret, is_upgrade) {
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
    if is_upgrade && route.class == Class::Model {
        return websocket::serve(shared, client, request, &route);
    }
    let mut upload = match Upload::new(request) {
        Ok(upload) => upload,
        Err(bad) => {
            refuse_malformed(shared, client, bad);
            return Ended::Close;
        }
    };
    // What has arrived with the head may be the whole body.
    if !upload.is_done() && upload.pull(client).is_err() {
        return client_fault(client, &upload);
    }
    if request.headers().has_token("expect", "100-continue")
        && !upload.is_done()
        && client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err()
    {
        return Ended::Close;
    }
    let mut trace = Trace::new(shared.tag("http"));
    let ended = match route.class {
        Class::Model => rotate::serve(shared, client, request, &route, &mut upload, &mut trace),
        Class::Check => check::serve(shared, client, request, &route, trace.tag),
        Class::Auxiliary => auxiliary(shared, client, request, &route, &mut upload, &mut trace),
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
    match attempt::http(shared, &call, upload, client, FIRST_BYTE) {
        Ok(answer) => relay(shared, client, answer, None, trace),
        Err(error) if error.client_gone() => client_fault(client, upload),
        Err(error) => {
            note_connect_error(shared, trace.tag, route, &error);
            unavailable(client, &format!("prodex: {error}."))
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

/// Sends an answer to codex and learns from it for `owner`, the profile and session that it belongs to.
pub fn relay(
    shared: &Shared,
    client: &mut Client,
    answer: Answer,
    owner: Option<(ProfileId, Option<&str>)>,
    trace: &mut Trace,
) -> Ended {
    let tag = trace.tag;
    let status = answer.head.status();
    let committed = clock::now();
    let is_stream = answer.tap.is_event_stream();
    // A trouble that decided before commit was recorded then; one that came with the first output was not.
    let known_before = matches!(answer.tap.decided, Some(Event::Trouble(_)));
    let mut terminal = None;
    let relayed = relay::run(shared, answer, client, true, |tap| {
        let Some((id, _)) = owner else { return };
        for response in tap.response_ids.drain(..) {
            learn_response(shared, &response, id);
        }
        terminal = tap.terminal.take().or(terminal.take());
    });
    if let Some((id, session)) = owner {
        let name = shared.name(id);
        match &terminal {
            Some(Event::Completed) => shared.ledger.succeed(id, session),
            // Too late for this turn, in time for the next.
            Some(Event::Trouble(trouble)) if !known_before => {
                rotate::record(shared, tag, id, trouble, shared.wallet.fingerprint(id));
            }
            None if !is_stream && status < 300 && relayed.end == End::Whole => shared.ledger.succeed(id, session),
            _ => {}
        }
        match &relayed.end {
            End::Upstream(cause) => {
                shared.journal.mark(
                    tag,
                    Marker::StreamReadError,
                    format_args!("profile={name} bytes={} error={cause:?}", relayed.bytes),
                );
                rotate::record(shared, tag, id, &super::verdict::Trouble::Transport, 0);
            }
            End::Whole if is_stream => {
                shared.journal.mark(
                    tag,
                    Marker::StreamComplete,
                    format_args!("profile={name} bytes={}", relayed.bytes),
                );
            }
            _ => {}
        }
    }
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis();
    let now = clock::now();
    shared.journal.mark(
        tag,
        Marker::Exchange,
        format_args!(
            "profile={} status={status} attempts={} commit_ms={} first_ms={} total_ms={} bytes={} end={}",
            trace.profile.map_or("-", |id| shared.name(id)),
            trace.attempts,
            ms(trace.began, committed),
            relayed.first.map_or(0, |first| ms(trace.began, first)),
            ms(trace.began, now),
            relayed.bytes,
            relayed.end.name(),
        ),
    );
    Ended::after(relayed.keep)
}

pub fn learn_response(shared: &Shared, response: &str, id: ProfileId) {
    if shared.ledger.learn(Key::Response(response), id) {
        shared.journal.note(
            Marker::Binding,
            format_args!("response_ids profile={} count=1 first=Some({response:?})", shared.name(id)),
        );
    }
}

/// Nobody can serve: said in words that codex shows (spec S-56).
pub fn unavailable(client: &mut Client, message: &str) -> Ended {
    let _ = client.write_all(&local_answer(503, "service_unavailable", message));
    Ended::Close
}

/// Codex left, or sent a body that cannot be taken: the latter is told.
pub fn client_fault(client: &mut Client, upload: &Upload) -> Ended {
    let answer = match upload.fault {
        Some(UploadError::TooLarge) => local_answer(413, "too_large", "The request body is larger than 128 MiB."),
        Some(UploadError::Malformed(bad)) => local_answer(400, "bad_request", &bad.to_string()),
        Some(UploadError::Gone) | None => return Ended::Close,
    };
    let _ = client.write_all(&answer);
    Ended::Close
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
