//! A model request over HTTP: select, try, judge, until an answer goes to codex or nobody is left (spec S-56 to S-59).
//! This is the loop; the rules are in `select`, `verdict`, `health` and `budget`.

use super::affinity::Claims;
use super::attempt::{self, Answer, Call, Sender};
use super::budget::Budget;
use super::downstream::{Client, Upload};
use super::exchange::{self, Ended, Trace};
use super::health::Backoff;
use super::journal::{Marker, Tag};
use super::route::{Lane, Route};
use super::select::{Ask, Decision, Why};
use super::tap::CAPTURE;
use super::verdict::{self, Event, Trouble};
use super::{ProfileId, Shared};
use crate::net::{Cause, NetError, Patience};
use crate::sys::clock;
use crate::wire::head::Request;
use crate::wire::json;
use std::time::{Duration, Instant};

/// With somebody else to ask, a silent upstream is left after this; a stream's head comes within a second or two.
const FIRST_BYTE_OF_MANY: Duration = Duration::from_secs(30);
/// Without, it may think as long as codex would wait; a compact call thinks for minutes.
pub const FIRST_BYTE: Duration = Duration::from_secs(330);
/// An error body comes at once.
const ERROR_BODY: Duration = Duration::from_secs(5);
/// Events before the first output are held back so long and so many bytes at most. Codex shows nothing of them, so
/// the hold costs nothing it could see; `response.created` echoes instructions and tools, about 40 KB, twice.
pub const HOLD_TIME: Duration = Duration::from_secs(10);
pub const HOLD_BYTES: usize = 256 * 1024;

/// What one try came to.
enum Tried {
    /// Codex gets this answer.
    Commit(Box<Answer>),
    /// Somebody else may do better. The answer is kept: it may turn out to be the best there is.
    Trouble(Trouble, Option<Box<Answer>>),
    ClientGone,
}

pub fn serve(shared: &Shared, client: &mut Client, request: &Request, route: &Route, upload: &mut Upload, trace: &mut Trace) -> Ended {
    let tag = trace.tag;
    let mut claims = Claims::of_headers(|name| request.headers().value(name));
    claims.previous_response = plain_previous_response(request, client, upload);
    let session = claims.session;
    let mut ask = shared.ledger.ask(&claims, route.lane == Lane::Compact);
    let pinned = ask.owner.is_some() && !ask.movable;
    let turn_state_owner = claims.turn_state.and_then(|id| shared.ledger.owner(super::affinity::Key::TurnState(id)));
    let mut budget = Budget::new(clock::now(), pinned);
    let mut refusals: Option<(Trouble, ProfileId, Box<Answer>)> = None;
    let mut last_error: Option<NetError> = None;
    loop {
        let Decision::Use(id, why) = shared.ledger.select(&ask, &shared.wallet) else {
            shared.journal.mark(tag, Marker::CandidateExhausted, format_args!("tried={}", ask.tried.len()));
            break;
        };
        if !budget.take(clock::now()) {
            let elapsed = budget.elapsed(clock::now()).as_millis();
            shared.journal.mark(tag, Marker::PrecommitBudgetExhausted, format_args!("attempts={} elapsed_ms={elapsed}", budget.attempts()));
            break;
        }
        note_candidate(shared, tag, id, why, &ask);
        trace.attempts = budget.attempts();
        let foreign = turn_state_owner.is_some_and(|owner| owner != id);
        let tried = one(shared, client, request, route, upload, id, foreign, &ask, tag, &mut last_error);
        let (trouble, answer) = match tried {
            Tried::Commit(answer) => return commit(shared, client, *answer, id, session, trace),
            Tried::ClientGone => return exchange::client_fault(client, upload),
            Tried::Trouble(trouble, answer) => (trouble, answer),
        };
        if let Some(answer) = answer
            && refusals.as_ref().is_none_or(|(kept, ..)| better_refusal(&trouble, kept))
        {
            refusals = Some((trouble, id, answer));
        }
        ask.tried.push(id);
    }
    match refusals {
        // Nobody did better: codex gets the backend's own words.
        Some((_, id, answer)) => commit(shared, client, *answer, id, session, trace),
        None => exchange::unavailable(client, &exhausted(last_error.as_ref()), trace),
    }
}

#[allow(clippy::too_many_arguments)] // one try needs what the loop holds
fn one(
    shared: &Shared,
    client: &mut Client,
    request: &Request,
    route: &Route,
    upload: &mut Upload,
    id: ProfileId,
    drop_turn_state: bool,
    ask: &Ask,
    tag: Tag,
    last_error: &mut Option<NetError>,
) -> Tried {
    let credential = match shared.wallet.credential(id) {
        Ok(credential) => credential,
        Err(_) => {
            record(shared, tag, id, &Trouble::Unauthorized, 0);
            return Tried::Trouble(Trouble::Unauthorized, None);
        }
    };
    let token = credential.fingerprint;
    let call = Call { request, route, sender: Sender::Profile(id, credential), drop_turn_state };
    let others = shared.ledger.has_alternative(ask, id, &shared.wallet) && (ask.owner.is_none() || ask.movable);
    let first_byte = if others && route.lane == Lane::Responses { FIRST_BYTE_OF_MANY } else { FIRST_BYTE };
    let answered = attempt::http(shared, &call, upload, client, first_byte);
    let judged = answered.and_then(|answer| {
        let peer = answer.url.authority();
        judge(shared, client, answer, route.lane, tag).map_err(|cause| NetError { phase: crate::net::Phase::Body, peer, cause })
    });
    match judged {
        Err(error) if error.client_gone() => Tried::ClientGone,
        Err(error) => {
            shared.journal.mark(tag, Marker::UpstreamConnectError, format_args!("profile={} phase={} error={error}", shared.name(id), error.phase.name()));
            record(shared, tag, id, &Trouble::Transport, token);
            *last_error = Some(error);
            Tried::Trouble(Trouble::Transport, None)
        }
        Ok((answer, None)) => Tried::Commit(Box::new(answer)),
        Ok((answer, Some(trouble))) => {
            // Codex runs under this login and knows how to refresh it: it sees the refusal of a token once.
            let codex_can_refresh = trouble == Trouble::Unauthorized && id == shared.launching && !shared.ledger.refused(id, token);
            record(shared, tag, id, &trouble, token);
            match trouble {
                Trouble::Unauthorized if codex_can_refresh => Tried::Commit(Box::new(answer)),
                // Another login's refusal is not for codex: it would refresh the wrong one.
                Trouble::Unauthorized => Tried::Trouble(trouble, None),
                _ => Tried::Trouble(trouble, Some(Box::new(answer))),
            }
        }
    }
}

/// Reads as much of an answer as is needed to tell whether this account serves. Nothing of it has gone to codex.
fn judge(shared: &Shared, client: &Client, mut answer: Answer, lane: Lane, tag: Tag) -> Result<(Answer, Option<Trouble>), Cause> {
    let status = answer.head.status();
    if status >= 400 {
        let patience = Patience { until: clock::now() + ERROR_BODY, client: Some(client.fd()) };
        while answer.early.len() < CAPTURE && answer.read_more(patience)? {}
        let retry_after = answer.head.headers().value("retry-after");
        let trouble = verdict::of_status(status, retry_after, &answer.tap.captured, lane);
        return Ok((answer, trouble));
    }
    if lane != Lane::Responses || !answer.tap.is_event_stream() {
        return Ok((answer, None));
    }
    let until = clock::now() + HOLD_TIME;
    let patience = Patience { until, client: Some(client.fd()) };
    while answer.tap.decided.is_none() && answer.early.len() < HOLD_BYTES {
        match answer.read_more(patience) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Cause::Deadline) => {
                shared.journal.mark(tag, Marker::LookaheadTimeout, format_args!("bytes={}", answer.early.len()));
                break;
            }
            Err(cause) => return Err(cause),
        }
    }
    let trouble = match &answer.tap.decided {
        Some(Event::Trouble(trouble)) => Some(trouble.clone()),
        _ => None,
    };
    Ok((answer, trouble))
}

/// The point of no return: from here on this answer, and no other, goes to codex.
fn commit(shared: &Shared, client: &mut Client, answer: Answer, id: ProfileId, session: Option<&str>, trace: &mut Trace) -> Ended {
    let status = answer.head.status();
    note_commit(shared, trace.tag, id, session, status < 400 && !matches!(answer.tap.decided, Some(Event::Trouble(_))));
    if let Some(turn_state) = answer.head.headers().value(super::affinity::TURN_STATE_HEADER) {
        shared.ledger.learn(super::affinity::Key::TurnState(turn_state), id);
    }
    trace.profile = Some(id);
    exchange::relay(shared, client, answer, Some((id, session)), trace)
}

/// The current profile changes with a commit, but not by an error that is passed on.
pub fn note_commit(shared: &Shared, tag: Tag, id: ProfileId, session: Option<&str>, serves: bool) {
    shared.journal.mark(tag, Marker::Committed, format_args!("profile={}", shared.name(id)));
    if !serves {
        return;
    }
    if let Some(before) = shared.ledger.commit(id, session) {
        shared.journal.note(Marker::ProfileCommit, format_args!("profile={} switched=true", shared.name(id)));
        shared.saver.moved(shared.name(before), shared.name(id), &shared.journal);
    }
}

pub fn note_candidate(shared: &Shared, tag: Tag, id: ProfileId, why: Why, ask: &Ask) {
    let pinned = ask.owner.map_or("None", |owner| shared.name(owner));
    shared.journal.mark(
        tag,
        Marker::Candidate,
        format_args!("profile={} why={why:?} pinned={pinned} excluded_count={}", shared.name(id), ask.tried.len()),
    );
    if why == Why::LastResort {
        shared.journal.mark(tag, Marker::DirectCurrentProfileFallback, format_args!("profile={}", shared.name(id)));
    }
}

/// Remembers a trouble, and says so in the log.
pub fn record(shared: &Shared, tag: Tag, id: ProfileId, trouble: &Trouble, token: u64) {
    let name = shared.name(id);
    let marker = match trouble {
        Trouble::Quota { .. } | Trouble::NotIncluded => Some(Marker::QuotaBlocked),
        Trouble::Overload { .. } => Some(Marker::Overloaded),
        Trouble::Unauthorized => Some(Marker::Unauthorized),
        Trouble::Transport => None,
    };
    if let Some(marker) = marker {
        shared.journal.mark(tag, marker, format_args!("profile={name} reason={}", trouble.name()));
    }
    let until = |wait: Duration| clock::unix() + wait.as_secs();
    match shared.ledger.record(id, trouble, token) {
        Some(Backoff::Quota(wait)) => shared.journal.note(Marker::RetryBackoff, format_args!("profile={name} until={}", until(wait))),
        Some(Backoff::Transport(wait)) => shared.journal.note(
            Marker::TransportBackoff,
            format_args!("profile={name} until={} seconds={} context={}_upstream", until(wait), wait.as_secs(), tag.transport),
        ),
        Some(Backoff::Overload(wait)) => shared.journal.note(Marker::OverloadBackoff, format_args!("profile={name} until={}", until(wait))),
        Some(Backoff::Login) => shared.journal.note(Marker::LoginNeeded, format_args!("profile={name}")),
        None => {}
    }
}

/// Of two refusals, which codex should see: one that passes soon before one that lasts, the earliest reset first.
pub fn better_refusal(new: &Trouble, kept: &Trouble) -> bool {
    let rank = |trouble: &Trouble| match trouble {
        Trouble::Overload { .. } => (0, 0),
        Trouble::Quota { resets_at, .. } => (1, resets_at.unwrap_or(u64::MAX)),
        Trouble::NotIncluded => (2, 0),
        Trouble::Transport | Trouble::Unauthorized => (3, 0),
    };
    rank(new) < rank(kept)
}

fn exhausted(last: Option<&NetError>) -> String {
    match last {
        Some(error) => format!("prodex: {error}."),
        None => "prodex: no profile can serve this request: the logins were refused. Run `codex login` again in one of them.".to_owned(),
    }
}

/// Codex 0.169 names no previous response over HTTP; an older or other client may, in a plain JSON body. What has come of
/// the body by now is looked at.
fn plain_previous_response(request: &Request, client: &mut Client, upload: &mut Upload) -> Option<std::borrow::Cow<'static, str>> {
    if request.headers().contains("content-encoding") || upload.is_done() && upload.bytes.is_empty() {
        return None;
    }
    let until = clock::now() + PEEK_LIMIT;
    loop {
        match json::peek_str(&upload.bytes, &["previous_response_id"]) {
            Some(id) => return Some(id.into_owned().into()),
            None if upload.is_done() || upload.bytes.len() >= PEEK_BYTES => return None,
            None => wait_for_more(client, upload, until)?,
        }
    }
}

/// A client that names one writes it before its input, or sends a short body.
const PEEK_BYTES: usize = 256 * 1024;
const PEEK_LIMIT: Duration = Duration::from_secs(5);

fn wait_for_more(client: &mut Client, upload: &mut Upload, until: Instant) -> Option<()> {
    use crate::sys::poll;
    if upload.pull(client).ok()? {
        return Some(());
    }
    let mut watch = [client.stream.watch(true, false)];
    (poll::wait(&mut watch, Some(until)).ok()? && !watch[0].hung_up()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_helpful_refusal_is_kept() {
        let quota = |resets_at| Trouble::Quota { resets_at, retry_after: None };
        let overload = Trouble::Overload { retry_after: None };
        assert!(better_refusal(&quota(Some(5)), &quota(Some(9))));
        assert!(better_refusal(&quota(Some(5)), &quota(None)));
        assert!(!better_refusal(&quota(Some(9)), &quota(Some(5))));
        assert!(better_refusal(&overload, &quota(Some(1))), "an account with quota left will recover sooner");
        assert!(better_refusal(&quota(None), &Trouble::NotIncluded));
    }
}
