//! A model request over HTTP: select, try, judge, until an answer goes to codex or nobody is left (spec S-56 to S-59).
//! This is the loop; the rules are in `select`, `verdict`, `health` and `budget`.

use super::affinity::{Claims, Key, TURN_STATE_HEADER};
use super::attempt::{self, Answer, Call, Sender};
use super::budget::Budget;
use super::credentials::Credential;
use super::downstream::{Client, Upload};
use super::exchange::{self, Ended, Trace};
use super::health::Backoff;
use super::journal::{Marker, Tag};
use super::route::{Lane, Route};
use super::select::{Ask, Decision, Why};
use super::tap::CAPTURE;
use super::verdict::{self, Event, Trouble};
use super::{ProfileId, Shared};
use crate::net::{Cause, NetError, Patience, Phase};
use crate::sys::clock;
use crate::wire::head::Request;
use crate::wire::json;
use std::sync::Arc;
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
pub enum Tried<T> {
    /// Codex gets this.
    Commit(T),
    /// Somebody else may do better. What came is kept: it may turn out to be the best there is.
    Trouble(Trouble, T),
    Failed(NetError),
    ClientGone,
}

/// What all tries together came to.
pub enum Outcome<T> {
    Won(ProfileId, T),
    /// Nobody did better than this: the backend's own words.
    Refused(ProfileId, T),
    /// No answer at all, with the last reason.
    Nobody(Option<NetError>),
    ClientGone,
}

/// Selects and tries until something goes to codex or nobody is left. `one` makes one try with a credential.
pub fn run<T>(
    shared: &Shared,
    tag: Tag,
    ask: &mut Ask,
    attempts: &mut u32,
    mut one: impl FnMut(ProfileId, Arc<Credential>, &Ask) -> Tried<T>,
) -> Outcome<T> {
    let mut budget = Budget::new(clock::now(), ask.owner.is_some() && !ask.movable);
    let mut refusal: Option<(Trouble, ProfileId, T)> = None;
    let mut last_error = None;
    while let Decision::Use(id, why) = shared.ledger.select(ask, &shared.wallet) {
        if !budget.take(clock::now()) {
            let elapsed = budget.elapsed(clock::now()).as_millis();
            let fields = format_args!("attempts={} elapsed_ms={elapsed}", budget.attempts());
            shared.journal.mark(tag, Marker::PrecommitBudgetExhausted, fields);
            break;
        }
        *attempts += 1;
        note_candidate(shared, tag, id, why, ask);
        ask.tried.push(id);
        let Ok(credential) = shared.wallet.credential(id) else {
            record(shared, tag, id, &Trouble::Unauthorized, 0);
            continue;
        };
        let token = credential.fingerprint;
        match one(id, credential, ask) {
            Tried::Commit(answer) => return Outcome::Won(id, answer),
            Tried::ClientGone => return Outcome::ClientGone,
            Tried::Failed(error) if error.client_gone() => return Outcome::ClientGone,
            Tried::Failed(error) => {
                let fields = format_args!("profile={} phase={} error={error}", shared.name(id), error.phase.name());
                shared.journal.mark(tag, Marker::UpstreamConnectError, fields);
                record(shared, tag, id, &Trouble::Transport, token);
                last_error = Some(error);
            }
            Tried::Trouble(Trouble::Unauthorized, answer) => {
                // Codex runs under the launching login and knows how to refresh it: it sees the refusal of a token once.
                // Another login's refusal is not for codex: it would refresh the wrong one (spec S-60).
                let codex_can_refresh = id == shared.launching && !shared.ledger.refused(id, token);
                record(shared, tag, id, &Trouble::Unauthorized, token);
                if codex_can_refresh {
                    return Outcome::Won(id, answer);
                }
            }
            Tried::Trouble(trouble, answer) => {
                record(shared, tag, id, &trouble, token);
                if refusal.as_ref().is_none_or(|(kept, ..)| trouble.better_than(kept)) {
                    refusal = Some((trouble, id, answer));
                }
            }
        }
    }
    shared.journal.mark(tag, Marker::CandidateExhausted, format_args!("tried={}", ask.tried.len()));
    match refusal {
        Some((_, id, answer)) => Outcome::Refused(id, answer),
        None => Outcome::Nobody(last_error),
    }
}

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
    let outcome = run(shared, tag, &mut ask, &mut trace.attempts, |id, credential, ask| {
        let drop_turn_state = turn_state_owner.is_some_and(|owner| owner != id);
        let call = Call { request, route, sender: Sender::Profile(id, credential), drop_turn_state };
        let others = (ask.owner.is_none() || ask.movable) && shared.ledger.has_alternative(ask, id, &shared.wallet);
        let first_byte = if others && route.lane == Lane::Responses { FIRST_BYTE_OF_MANY } else { FIRST_BYTE };
        let answer = match attempt::http(shared, &call, upload, client, first_byte) {
            Ok(answer) => answer,
            Err(error) => return Tried::Failed(error),
        };
        let peer = answer.url.authority();
        match judge(shared, client, answer, route.lane, tag) {
            Ok((answer, None)) => Tried::Commit(answer),
            Ok((answer, Some(trouble))) => Tried::Trouble(trouble, answer),
            Err(cause) => Tried::Failed(NetError { phase: Phase::Body, peer, cause }),
        }
    });
    match outcome {
        Outcome::Won(id, answer) | Outcome::Refused(id, answer) => commit(shared, client, answer, id, session, trace),
        Outcome::Nobody(error) => exchange::unavailable(client, &exhausted(error.as_ref())),
        Outcome::ClientGone => exchange::client_fault(client, upload),
    }
}

/// Reads as much of an answer as is needed to tell whether this account serves. Nothing of it has gone to codex.
fn judge(
    shared: &Shared,
    client: &Client,
    mut answer: Answer,
    lane: Lane,
    tag: Tag,
) -> Result<(Answer, Option<Trouble>), Cause> {
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
fn commit(
    shared: &Shared,
    client: &mut Client,
    answer: Answer,
    id: ProfileId,
    session: Option<&str>,
    trace: &mut Trace,
) -> Ended {
    let status = answer.head.status();
    note_commit(shared, trace.tag, id, session, status < 400 && !matches!(answer.tap.decided, Some(Event::Trouble(_))));
    if let Some(turn_state) = answer.head.headers().value(TURN_STATE_HEADER) {
        shared.ledger.learn(Key::TurnState(turn_state), id);
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

fn note_candidate(shared: &Shared, tag: Tag, id: ProfileId, why: Why, ask: &Ask) {
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
        Some(Backoff::Quota(wait)) => {
            shared.journal.note(Marker::RetryBackoff, format_args!("profile={name} until={}", until(wait)));
        }
        Some(Backoff::Transport(wait)) => shared.journal.note(
            Marker::TransportBackoff,
            format_args!(
                "profile={name} until={} seconds={} context={}_upstream",
                until(wait),
                wait.as_secs(),
                tag.transport
            ),
        ),
        Some(Backoff::Overload(wait)) => {
            shared.journal.note(Marker::OverloadBackoff, format_args!("profile={name} until={}", until(wait)));
        }
        Some(Backoff::Login) => shared.journal.note(Marker::LoginNeeded, format_args!("profile={name}")),
        None => {}
    }
}

pub fn exhausted(last: Option<&NetError>) -> String {
    match last {
        Some(error) => format!("prodex: {error}."),
        None => "prodex: no profile can serve this request: the logins were refused. Run `codex login` again in one of them.".to_owned(),
    }
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
