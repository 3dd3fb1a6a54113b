//! A model request over HTTP: each try is judged by the beginning of its answer, and the first that serves goes to codex
//! (spec S-58, S-59). The loop over profiles is `rotate`'s, the judgement `verdict`'s.

use super::affinity::{Claims, Key, TURN_STATE_HEADER};
use super::attempt::{self, Answer, Call, Sender};
use super::deliver::{self, Ended, Trace};
use super::downstream::{Client, Upload};
use super::journal::{Marker, Tag};
use super::ledger::Serving;
use super::limits::HOLD_BYTES;
use super::rotate::{self, Outcome, Tried};
use super::route::{Lane, Route};
use super::verdict::{self, Event, Trouble};
use super::{Shared, record};
use crate::net::{Cause, NetError, Patience, Phase};
use crate::sys::clock;
use crate::wire::head::Request;
use crate::wire::json;
use std::time::{Duration, Instant};

/// A client that names one writes it before its input, or sends a short body.
const PEEK_BYTES: usize = 256 * 1024;
const PEEK_LIMIT: Duration = Duration::from_secs(5);

/// A model request over HTTP.
pub fn serve(
    shared: &Shared,
    client: &mut Client,
    request: &Request,
    route: &Route,
    upload: &mut Upload,
    trace: &mut Trace,
) -> Ended {
    let tag = trace.tag;
    let mut claims = Claims::of_headers(|name| request.headers().value(name));
    claims.previous_response = plain_previous_response(request, client, upload);
    let session = claims.session;
    let mut ask = shared.ledger.ask(&claims, route.lane == Lane::Compact);
    let turn_state_owner = claims.turn_state.and_then(|id| shared.ledger.owner(Key::TurnState(id)));
    // Nobody is known to own the response that is named: it may be anybody's.
    let unowned = claims.previous_response.is_some() && ask.owner.is_none();
    let outcome = rotate::run(shared, tag, &mut ask, &mut trace.attempts, |id, credential, allowance| {
        let serving = shared.ledger.enter(id);
        let lane = route.lane.name();
        let fields = format_args!(
            "profile={} count={} context={lane}_http event=acquire",
            shared.name(id),
            shared.ledger.inflight(id)
        );
        shared.journal.note(Marker::Inflight, fields);
        let drop_turn_state = turn_state_owner.is_some_and(|owner| owner != id);
        let call = Call { request, route, sender: Sender::Profile(id, credential), drop_turn_state };
        let answer = match attempt::http(shared, &call, upload, client, *allowance) {
            Ok(answer) => answer,
            Err(error) => return Tried::Failed(error),
        };
        match judge(shared, client, answer, route.lane, tag) {
            Ok((answer, Some(trouble))) if trouble != Trouble::UnknownResponse || unowned => {
                Tried::Trouble(trouble, (answer, serving))
            }
            Ok((answer, _)) => Tried::Commit((answer, serving)),
            Err(error) => Tried::Failed(error),
        }
    });
    if let (Outcome::Won(id, (answer, _)), Some(turn_state)) = (&outcome, claims.turn_state)
        && answer.head.status() < 400
    {
        shared.ledger.follow(turn_state, *id);
    }
    match outcome {
        Outcome::Won(_, (answer, serving)) | Outcome::Refused(_, (answer, serving)) => {
            // It is never sent again.
            upload.forget();
            commit(shared, client, answer, &serving, session, trace)
        }
        Outcome::Nobody(error) => deliver::unavailable(shared, client, &rotate::exhausted(error.as_ref()), trace),
        Outcome::ClientGone => deliver::client_fault(shared, client, upload, trace),
    }
}

/// Reads as much of an answer as is needed to tell whether this account serves. Nothing of it has gone to codex.
fn judge(
    shared: &Shared,
    client: &Client,
    mut answer: Answer,
    lane: Lane,
    tag: Tag,
) -> Result<(Answer, Option<Trouble>), NetError> {
    let failed = |answer: &Answer, cause| Err(NetError { phase: Phase::Body, peer: answer.url.authority(), cause });
    let status = answer.head.status();
    if status >= 400 {
        if let Err(cause) = answer.read_error(client) {
            return failed(&answer, cause);
        }
        let retry_after = answer.head.headers().value("retry-after");
        let trouble = verdict::of_status(status, retry_after, &answer.tap.captured, lane);
        return Ok((answer, trouble));
    }
    if lane != Lane::Responses || !answer.tap.is_event_stream() {
        return Ok((answer, None));
    }
    let until = clock::now() + shared.limits.hold;
    let patience = Patience { until, client: Some(client.fd()) };
    while answer.tap.decided.is_none() && answer.early.len() < HOLD_BYTES {
        match answer.read_more(patience) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Cause::Deadline) => {
                shared.journal.mark(tag, Marker::LookaheadTimeout, format_args!("bytes={}", answer.early.len()));
                break;
            }
            Err(cause) => return failed(&answer, cause),
        }
    }
    let trouble = match &answer.tap.decided {
        Some(Event::Trouble(trouble)) => Some(trouble.clone()),
        _ => None,
    };
    Ok((answer, trouble))
}

/// The point of no return: from here on this answer, and no other, goes to codex.
fn commit(
    shared: &Shared,
    client: &mut Client,
    answer: Answer,
    serving: &Serving,
    session: Option<&str>,
    trace: &mut Trace,
) -> Ended {
    let id = serving.id;
    let status = answer.head.status();
    record::commit(
        shared,
        trace.tag,
        id,
        session,
        status < 400 && !matches!(answer.tap.decided, Some(Event::Trouble(_))),
    );
    if let Some(turn_state) = answer.head.headers().value(TURN_STATE_HEADER) {
        record::turn_state(shared, turn_state, id);
    }
    trace.profile = Some(id);
    deliver::relay(shared, client, answer, Some((serving, session)), trace)
}

/// Codex 0.169 names no previous response over HTTP; an older or other client may, in a plain JSON body. What has come of
/// the body by now is looked at.
fn plain_previous_response(
    request: &Request,
    client: &mut Client,
    upload: &mut Upload,
) -> Option<std::borrow::Cow<'static, str>> {
    if request.headers().contains("content-encoding") || upload.is_done() && upload.bytes.is_empty() {
        return None;
    }
    let until = clock::now() + PEEK_LIMIT;
    loop {
        match json::peek_str(&upload.payload(), &["previous_response_id"]) {
            Some(id) => return Some(id.into_owned().into()),
            None if upload.is_done() || upload.bytes.len() >= PEEK_BYTES => return None,
            None => wait_for_more(client, upload, until)?,
        }
    }
}

fn wait_for_more(client: &mut Client, upload: &mut Upload, until: Instant) -> Option<()> {
    use crate::sys::poll;
    if upload.pull(client).ok()? {
        return Some(());
    }
    let mut watch = [client.stream.watch(true, false)];
    (poll::wait(&mut watch, Some(until)).ok()? && !watch[0].hung_up()).then_some(())
}
