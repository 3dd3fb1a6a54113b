//! A WebSocket handshake with an upstream, for one profile or by the rules for all (spec S-59). Knows no frames.

use super::attempt::{Answer, Call, Sender};
use super::budget::Allowance;
use super::credentials::Credential;
use super::downstream::Client;
use super::journal::Tag;
use super::rotate::{self, Outcome, Tried};
use super::route::{Class, Lane, Route};
use super::select::Ask;
use super::tap::Tap;
use super::target::Target;
use super::{ProfileId, Shared, verdict};
use crate::net::fetch;
use crate::net::stream::Stream;
use crate::net::tls::Protocol;
use crate::net::{Cause, NetError, Patience, Phase};
use crate::sys::buffer::Buffer;
use crate::sys::clock;
use crate::wire::head::{Request, Response};
use crate::wire::{body, handshake};
use std::sync::Arc;

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

/// A socket with some profile, by the rules of every request.
pub fn open(
    shared: &Shared,
    client: &Client,
    opening: &Opening<'_>,
    ask: &mut Ask,
    tag: Tag,
    attempts: &mut u32,
) -> Outcome<Dialled> {
    rotate::run(shared, tag, ask, attempts, |id, credential, allowance| {
        one(shared, client, opening, id, credential, allowance)
    })
}

/// A socket with the credentials that the request itself brings.
pub fn direct(shared: &Shared, client: &Client, call: &Call<'_>, key: &str) -> Result<Dialled, NetError> {
    let target = Target::of(shared, call, client.fd())?;
    handshake(shared, client, call, &target, key, 0, &Allowance::alone(Lane::WebSocket))
}

/// One handshake with one profile.
fn one(
    shared: &Shared,
    client: &Client,
    opening: &Opening<'_>,
    id: ProfileId,
    credential: Arc<Credential>,
    allowance: &Allowance,
) -> Tried<Dialled> {
    let token = credential.fingerprint;
    let call = Call {
        request: opening.request,
        route: opening.route,
        sender: Sender::Profile(id, credential),
        drop_turn_state: false,
    };
    let target = match Target::of(shared, &call, client.fd()) {
        Ok(target) => target,
        Err(error) => return Tried::Failed(error),
    };
    match handshake(shared, client, &call, &target, opening.key, token, allowance) {
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
    allowance: &Allowance,
) -> Result<Dialled, NetError> {
    let patience = |limit| Patience { until: clock::now() + limit, client: Some(client.fd()) };
    let failed = |phase| move |cause| target.failed(phase, cause);
    let connect = allowance.connecting(shared.limits.websocket_connect);
    let mut stream = shared.connections.open(&target.url, Protocol::WebSocket, patience(connect))?;
    let head = target.head(&shared.jar, call);
    stream.write_all(&head, patience(allowance.answer)).map_err(failed(Phase::Send))?;
    let (response, rest) =
        fetch::read_head(&mut stream, patience(allowance.answer), |status| status == 101 || fetch::is_answer(status))
            .map_err(failed(Phase::Head))?;
    shared.jar.keep(call.sender.id(), &target.url, response.headers());
    if let Some(id) = call.sender.id() {
        shared.scout.headers(id, response.headers());
    }
    let malformed = |bad: crate::wire::Malformed| target.failed(Phase::Head, Cause::Malformed(bad.to_string()));
    if response.status() == 101 {
        handshake::check(&response, key).map_err(malformed)?;
        if call.route.class == Class::Model {
            // Nothing was offered (`target`): in frames of another make no turn could be read.
            handshake::agrees_on_nothing(&response).map_err(malformed)?;
        }
        let id = call.sender.id().unwrap_or(shared.launching);
        let link = Link { stream, id, token, early: rest, turns: 0 };
        return Ok(Dialled::Open(Box::new(link), response));
    }
    let mut tap = Tap::new(body::response_framing(&response, "GET").map_err(malformed)?, false);
    let used = tap.feed(&rest).map_err(malformed)?;
    let key = (call.sender.id(), target.origin.clone());
    let mut early = Buffer::new();
    early.extend_from_slice(&rest[..used]);
    let mut answer = Answer { head: response, tap, early, stream, key, reusable: false, url: target.url.clone() };
    answer.read_error(client).map_err(failed(Phase::Body))?;
    Ok(Dialled::Answer(Box::new(answer)))
}
