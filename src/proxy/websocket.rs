//! A WebSocket's beginning: the upstream is asked first, and its answer, whatever it is, is codex's (spec S-59, S-60).
//! What follows an accepted handshake is `session`'s.

use super::affinity::Claims;
use super::attempt::{Answer, CONNECT_LIMIT, Call, Sender, Target};
use super::credentials::Credential;
use super::downstream::{Client, local_answer};
use super::exchange::{self, Ended, Trace};
use super::journal::{Marker, Tag};
use super::rotate::{self, Outcome, Tried};
use super::route::{Lane, Route};
use super::select::Ask;
use super::tap::{CAPTURE, Tap};
use super::{ProfileId, Shared, session, verdict};
use crate::net::stream::Stream;
use crate::net::tls::Protocol;
use crate::net::{Cause, NetError, Patience, Phase};
use crate::sys::clock;
use crate::wire::head::{self, Edit, Request, Response};
use crate::wire::{body, handshake};
use std::sync::Arc;
use std::time::Duration;

/// Codex gives a handshake 15 s in all (`wire.md` 11).
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const ERROR_BODY: Duration = Duration::from_secs(5);

/// How codex asked for the socket: the same question is put to every upstream of the session.
pub struct Opening<'a> {
    pub request: &'a Request,
    pub route: &'a Route,
    pub key: &'a str,
    /// The session of its headers.
    pub session: Option<&'a str>,
}

/// An upstream's side of a session.
pub struct Link {
    pub stream: Stream,
    pub id: ProfileId,
    /// Fingerprint of the credential that it was opened with.
    pub token: u64,
    /// Bytes that came with the answer to the handshake.
    pub early: Vec<u8>,
    /// Turns that were answered over it.
    pub turns: u32,
}

/// What a handshake came to.
pub enum Dialled {
    Open(Box<Link>, Response),
    /// Another answer than 101.
    Answer(Box<Answer>),
}

pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route) -> Ended {
    let key = match handshake::key(request) {
        Ok(key) => key,
        Err(bad) => {
            let _ = client.write_all(&local_answer(400, "bad_request", &bad.to_string()));
            return Ended::Close;
        }
    };
    let mut trace = Trace::new(shared.tag("websocket"));
    let claims = Claims::of_headers(|name| request.headers().value(name));
    let opening = Opening { request, route, key, session: claims.session };
    // No turn is asked yet, so nothing pins the socket; the session's own profile has its cache.
    let mut ask = Ask { owner: None, movable: true, ..shared.ledger.ask(&claims, false) };
    match open(shared, client, &opening, &mut ask, trace.tag, &mut trace.attempts) {
        Outcome::Won(id, Dialled::Open(link, response)) => {
            if client.write_all(&switching(&response)).is_err() {
                return Ended::Close;
            }
            trace.profile = Some(id);
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
            exchange::relay(shared, client, *answer, None, &mut trace)
        }
        // An open link is never a refusal.
        Outcome::Refused(_, Dialled::Open(..)) | Outcome::ClientGone => Ended::Close,
        Outcome::Nobody(error) => exchange::unavailable(client, &rotate::exhausted(error.as_ref())),
    }
}

/// A socket with some profile, by the rules of every request.
pub fn open(
    shared: &Shared,
    client: &Client,
    opening: &Opening<'_>,
    ask: &mut Ask,
    tag: Tag,
    attempts: &mut u32,
) -> Outcome<Dialled> {
    rotate::run(shared, tag, ask, attempts, |id, credential, _| dial(shared, client, opening, id, credential))
}

/// One handshake with one profile.
pub fn dial(
    shared: &Shared,
    client: &Client,
    opening: &Opening<'_>,
    id: ProfileId,
    credential: Arc<Credential>,
) -> Tried<Dialled> {
    let token = credential.fingerprint;
    let call = Call {
        request: opening.request,
        route: opening.route,
        sender: Sender::Profile(id, credential),
        drop_turn_state: false,
    };
    let target = Target::of(shared, &call);
    match handshake(shared, client, &call, &target, opening.key, token) {
        Ok(Dialled::Answer(answer)) => {
            let retry_after = answer.head.headers().value("retry-after");
            match verdict::of_status(answer.head.status(), retry_after, &answer.tap.captured, Lane::WebSocket) {
                Some(trouble) => Tried::Trouble(trouble, Dialled::Answer(answer)),
                None => Tried::Commit(Dialled::Answer(answer)),
            }
        }
        Ok(open) => Tried::Commit(open),
        Err(error) => Tried::Failed(error),
    }
}

fn handshake(
    shared: &Shared,
    client: &Client,
    call: &Call<'_>,
    target: &Target,
    key: &str,
    token: u64,
) -> Result<Dialled, NetError> {
    let patience = |limit| Patience { until: clock::now() + limit, client: Some(client.fd()) };
    let failed = |phase| move |cause| target.failed(phase, cause);
    let mut stream = Stream::connect(&target.url, Protocol::WebSocket, patience(CONNECT_LIMIT))?;
    let head = target.head(shared, call);
    stream.write_all(&head, patience(ANSWER_LIMIT)).map_err(failed(Phase::Send))?;
    let (response, rest) = answer_head(&mut stream, patience(ANSWER_LIMIT)).map_err(failed(Phase::Head))?;
    shared.jar.keep(call.sender.id(), &target.url, response.headers());
    let malformed = |bad: crate::wire::Malformed| target.failed(Phase::Head, Cause::Malformed(bad.to_string()));
    if response.status() == 101 {
        handshake::check(&response, key).map_err(malformed)?;
        let id = call.sender.id().unwrap_or(shared.launching);
        let link = Link { stream, id, token, early: rest, turns: 0 };
        return Ok(Dialled::Open(Box::new(link), response));
    }
    let mut tap = Tap::new(body::response_framing(&response, "GET").map_err(malformed)?, false);
    let used = tap.feed(&rest).map_err(malformed)?;
    let key = (call.sender.id(), target.url.origin());
    let mut answer = Answer { head: response, tap, early: rest, stream, key, reusable: false, url: target.url.clone() };
    answer.early.truncate(used);
    while answer.early.len() < CAPTURE && answer.read_more(patience(ERROR_BODY)).map_err(failed(Phase::Body))? {}
    Ok(Dialled::Answer(Box::new(answer)))
}

/// The final head and what came after it.
fn answer_head(stream: &mut Stream, patience: Patience) -> Result<(Response, Vec<u8>), Cause> {
    let mut input = Vec::new();
    loop {
        let mut buf = [0; 16 * 1024];
        match stream.read_some(&mut buf, patience)? {
            0 => return Err(Cause::Closed),
            taken => input.extend_from_slice(&buf[..taken]),
        }
        while let Some((used, response)) = head::response(&input).map_err(|bad| Cause::Malformed(bad.to_string()))? {
            input.drain(..used);
            if response.status() == 101 || response.status() >= 200 {
                return Ok((response, input));
            }
        }
    }
}

/// The upstream's 101 for codex. Its key was codex's own, so its accept value is right.
fn switching(response: &Response) -> Vec<u8> {
    let headers = response.headers();
    let edit = |name: &str, value: &[u8]| {
        let kept = name.eq_ignore_ascii_case("set-cookie") && super::cookies::is_kept(value);
        if kept || head::is_hop_by_hop(headers, name) { Edit::Drop } else { Edit::Keep }
    };
    let mut out = Vec::new();
    head::write_response(&mut out, response, edit, &[("connection", b"Upgrade"), ("upgrade", b"websocket")]);
    out
}
