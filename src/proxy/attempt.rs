//! One try of one request with one profile's credentials: connect or reuse, send, and read the head of the answer.
//! Knows nothing of other tries; what the answer means is for the caller.

use super::budget::Allowance;
use super::connections::Key;
use super::credentials::Credential;
use super::downstream::{Client, Upload};
use super::route::{Class, Route};
use super::tap::{CAPTURE, Tap};
use super::target::Target;
use super::{ProfileId, Shared, journal, relay};
use crate::net::stream::{self, Stream};
use crate::net::tls::Protocol;
use crate::net::{Cause, NetError, Patience, Phase};
use crate::sys::buffer::{self, Buffer};
use crate::sys::clock;
use crate::sys::poll;
use crate::wire::Malformed;
use crate::wire::body;
use crate::wire::head::{self, Request, Response};
use crate::wire::url::Url;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// A TLS handshake, beyond what connecting may take.
const TLS_LIMIT: Duration = Duration::from_secs(5);
/// An upstream that takes no more of a request for so long.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// An error body comes at once.
const ERROR_BODY: Duration = Duration::from_secs(5);
/// How far a body may be read ahead of what was sent of it.
const READ_AHEAD: usize = 256 * 1024;

/// Whose credentials a request travels with.
#[derive(Clone)]
pub enum Sender {
    /// Those that codex sent, whatever they are.
    Codex,
    Profile(ProfileId, Arc<Credential>),
}

impl Sender {
    pub fn id(&self) -> Option<ProfileId> {
        match self {
            Sender::Codex => None,
            Sender::Profile(id, _) => Some(*id),
        }
    }
}

pub struct Call<'a> {
    pub request: &'a Request,
    pub route: &'a Route,
    pub sender: Sender,
    /// The turn state in the request was issued by another profile than this one.
    pub drop_turn_state: bool,
}

impl Call<'_> {
    /// Sent twice it does no harm: a question, or a turn of which codex has heard nothing.
    fn may_repeat(&self) -> bool {
        self.route.class == Class::Model || ["GET", "HEAD"].contains(&self.request.method())
    }
}

/// An upstream's answer: its head, what has come of its body, and the connection that the rest comes from.
pub struct Answer {
    pub head: Response,
    pub tap: Tap,
    /// Body bytes that were read already, framing included. The tap has seen them; codex has not.
    pub early: Buffer,
    pub stream: Stream,
    pub key: Key,
    /// The connection can carry another request once the body was read to its end.
    pub reusable: bool,
    pub url: Url,
}

/// Sends a request and waits for the head of the answer as long as is allowed once the body is sent. A kept connection that
/// closes without a byte costs no attempt: a fresh one is used. A call that must not happen twice gets a fresh one at once,
/// as codex itself does (`wire.md` 11).
pub fn http(
    shared: &Shared,
    call: &Call<'_>,
    upload: &mut Upload,
    client: &mut Client,
    allowance: Allowance,
) -> Result<Answer, NetError> {
    let target = Target::of(shared, call, client.fd())?;
    let key: Key = (call.sender.id(), target.origin.clone());
    let mut head = target.head(&shared.jar, call);
    if let Some(stream) = Some(&key).filter(|_| call.may_repeat()).and_then(|key| shared.connections.take(key)) {
        match talk(stream, &mut head, upload, client, allowance.answer) {
            Ok(spoken) => return finish(shared, call, target, key, spoken),
            Err(Silence { cause: Cause::Closed, heard: false, .. }) => {}
            Err(silence) => return Err(target.failed(silence.phase, silence.cause)),
        }
    }
    let connect = allowance.connecting(shared.limits.connect + TLS_LIMIT);
    let patience = Patience { until: clock::now() + connect, client: Some(client.fd()) };
    let stream = shared.connections.open(&target.url, Protocol::Http, patience)?;
    match talk(stream, &mut head, upload, client, allowance.answer) {
        Ok(spoken) => finish(shared, call, target, key, spoken),
        Err(silence) => Err(target.failed(silence.phase, silence.cause)),
    }
}

/// What came back over which connection.
struct Spoken {
    stream: Stream,
    response: Response,
    rest: Buffer,
    /// The request was sent to its end.
    whole: bool,
}

/// Why there is no answer, and whether anything was heard of one.
struct Silence {
    cause: Cause,
    phase: Phase,
    heard: bool,
}

/// Sends head and body while the body still comes, and reads until the final head of an answer is there, which may be
/// before the body is sent. Interim answers go to codex as they come. `head` is as before at the end.
fn talk(
    stream: Stream,
    head: &mut Buffer,
    upload: &mut Upload,
    client: &mut Client,
    first_byte: Duration,
) -> Result<Spoken, Silence> {
    // A short body travels in one packet with its head.
    let joined = if upload.bytes.len() <= READ_AHEAD { upload.bytes.len() } else { 0 };
    let length = head.len();
    head.extend_from_slice(&upload.bytes[..joined]);
    let spoken = speak(stream, head, joined, upload, client, first_byte);
    head.truncate(length);
    spoken
}

/// Sends `first`, which has the first `joined` bytes of the body behind the head, and the rest.
fn speak(
    mut stream: Stream,
    first: &[u8],
    joined: usize,
    upload: &mut Upload,
    client: &mut Client,
    first_byte: Duration,
) -> Result<Spoken, Silence> {
    let (mut sent_first, mut sent_body) = (0, joined);
    let mut input = Buffer::new();
    let mut until = clock::now() + SEND_LIMIT;
    let (mut was_whole, mut heard) = (false, false);
    loop {
        let mut broken = None;
        loop {
            let pending = if sent_first < first.len() { &first[sent_first..] } else { &upload.bytes[sent_body..] };
            if pending.is_empty() {
                break;
            }
            match stream.write(pending) {
                Ok(taken) if sent_first < first.len() => sent_first += taken,
                Ok(taken) => sent_body += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    broken = Some(stream::cause(&error));
                    break;
                }
            }
            until = clock::now() + SEND_LIMIT;
        }
        let unsent = sent_first < first.len() || sent_body < upload.bytes.len();
        let whole = upload.is_done() && !unsent && !stream.unsent();
        if whole && !was_whole {
            was_whole = true;
            until = clock::now() + first_byte;
        }
        let failed = |cause| Err(Silence { cause, phase: if whole { Phase::Head } else { Phase::Send }, heard });
        let wants_body = !upload.is_done() && upload.bytes.len() - sent_body < READ_AHEAD;
        if wants_body && pull(upload, client)? {
            continue;
        }
        if broken.is_none() {
            let mut watches = [stream.watch(true, unsent), client.stream.watch(wants_body, false)];
            if !stream.buffered() {
                journal::flush();
            }
            let ready = stream.buffered()
                || match poll::wait(&mut watches, Some(until)) {
                    Ok(ready) => ready,
                    Err(error) => return failed(Cause::Failed(error.to_string())),
                };
            if watches[1].hung_up() && !watches[1].readable() || watches[1].hung_up() && !wants_body {
                return failed(Cause::ClientGone);
            }
            if !ready {
                return failed(Cause::Deadline);
            }
            if !watches[0].readable() && !stream.buffered() {
                continue;
            }
        }
        match stream.read_into(&mut input) {
            Ok(0) => return failed(broken.unwrap_or(Cause::Closed)),
            Ok(_) => heard = true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if let Some(cause) = broken {
                    return failed(cause);
                }
            }
            Err(error) => return failed(stream::cause(&error)),
        }
        let head = final_head(&mut input, client);
        if let Some(response) = head.map_err(|cause| Silence { cause, phase: Phase::Head, heard })? {
            return Ok(Spoken { stream, response, rest: input, whole: was_whole });
        }
    }
}

/// Takes heads off `input` until a final one; interim ones go to codex.
fn final_head(input: &mut Vec<u8>, client: &mut Client) -> Result<Option<Response>, Cause> {
    while let Some((used, response)) = head::response(input).map_err(|bad| Cause::Malformed(bad.to_string()))? {
        input.drain(..used);
        match response.status() {
            // Asked for no upgrade, so none can be accepted (RFC 9110 15.2.2).
            101 => return Err(Cause::Malformed("it switched protocols unasked".to_owned())),
            // `100 Continue` we said ourselves when codex asked.
            102..=199 => {
                client.write_all(&relay::head_for_codex(&response, &[], &[])).map_err(|_| Cause::ClientGone)?
            }
            100..=199 => {}
            _ => return Ok(Some(response)),
        }
    }
    Ok(None)
}

/// What went wrong with the body is codex's doing and stays in `upload.fault`.
fn pull(upload: &mut Upload, client: &mut Client) -> Result<bool, Silence> {
    upload.pull(client).map_err(|_| Silence { cause: Cause::ClientGone, phase: Phase::Send, heard: false })
}

fn finish(shared: &Shared, call: &Call<'_>, target: Target, key: Key, spoken: Spoken) -> Result<Answer, NetError> {
    let Spoken { stream, response, rest, whole } = spoken;
    let malformed = |bad: Malformed| target.failed(Phase::Head, Cause::Malformed(bad.to_string()));
    shared.jar.keep(call.sender.id(), &target.url, response.headers());
    if let Some(id) = call.sender.id() {
        shared.scout.headers(id, response.headers());
    }
    let framing = body::response_framing(&response, call.request.method()).map_err(malformed)?;
    let headers = response.headers();
    let is_event_stream = headers.value("content-type").is_some_and(|kind| {
        kind.trim_start().get(..17).is_some_and(|start| start.eq_ignore_ascii_case("text/event-stream"))
    }) && !headers.contains("content-encoding");
    let mut tap = Tap::new(framing, is_event_stream);
    let used = tap.feed(&rest).map_err(malformed)?;
    // A connection that only such a call would use again is not kept.
    let clean = whole && used == rest.len() && call.may_repeat();
    let reusable = clean && head::keeps_alive(response.minor_version(), headers) && !tap.is_until_close();
    let mut early = rest;
    early.truncate(used);
    Ok(Answer { head: response, tap, early, stream, key, reusable, url: target.url })
}

impl Answer {
    /// Reads some more of the body into `early`, waiting as `patience` says; false at its end.
    pub fn read_more(&mut self, patience: Patience) -> Result<bool, Cause> {
        if self.tap.is_done() {
            return Ok(false);
        }
        buffer::with_scratch(|scratch| {
            let taken = self.stream.read_some(scratch, patience)?;
            if taken == 0 {
                return self.tap.closed().map(|()| false).map_err(|_| Cause::Closed);
            }
            let used = self.tap.feed(&scratch[..taken]).map_err(|bad| Cause::Malformed(bad.to_string()))?;
            self.reusable &= used == taken;
            self.early.extend_from_slice(&scratch[..used]);
            Ok(true)
        })
    }

    /// Reads as much of an error's body as is needed to judge it. What a slow one has said by then decides, and the rest is
    /// passed on as it comes.
    pub fn read_error(&mut self, client: &Client) -> Result<(), Cause> {
        let patience = Patience { until: clock::now() + ERROR_BODY, client: Some(client.fd()) };
        loop {
            match self.read_more(patience) {
                Ok(true) if self.early.len() < CAPTURE => {}
                Ok(_) | Err(Cause::Deadline) => return Ok(()),
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Gives the connection back when it can carry another request, else closes it.
    pub fn release(self, shared: &Shared) {
        if self.reusable && self.tap.is_done() {
            shared.connections.put(self.key, self.stream);
        }
    }
}
