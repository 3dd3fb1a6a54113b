//! What a run learns of its profiles: into the ledger, and into the log. The rules are `health`'s and `affinity`'s.

use super::affinity::Key;
use super::bindings::Kind;
use super::health::Backoff;
use super::journal::{Marker, Tag};
use super::ledger::Serving;
use super::scout::News;
use super::verdict::Trouble;
use super::{ProfileId, Shared};
use crate::sys::clock;
use std::time::Duration;

/// Remembers a trouble of an exchange, and says so in the log.
pub fn trouble(shared: &Shared, tag: Tag, serving: &Serving, trouble: &Trouble, token: u64) {
    let name = shared.name(serving.id);
    let marker = match trouble {
        Trouble::Quota { .. } | Trouble::NotIncluded => Some(Marker::QuotaBlocked),
        Trouble::Overload { .. } => Some(Marker::Overloaded),
        Trouble::Unauthorized | Trouble::LoginUnsettled => Some(Marker::Unauthorized),
        Trouble::Transport | Trouble::ForeignContent | Trouble::UnknownResponse => None,
    };
    if let Some(marker) = marker {
        shared.journal.mark(tag, marker, format_args!("profile={name} reason={}", trouble.name()));
    }
    if marker == Some(Marker::QuotaBlocked) {
        shared.scout.tell(News::Out);
    }
    let until = |wait: Duration| clock::unix() + wait.as_secs();
    let recorded = shared.ledger.record(serving, trouble, tag.lane, token);
    if let Some((delta, score)) = recorded.as_ref().and_then(|recorded| recorded.penalty) {
        let route = tag.lane.name();
        shared.journal.note(
            Marker::Health,
            format_args!("profile={name} route={route} score={score} delta={delta} reason={route}_{}", trouble.name()),
        );
    }
    match recorded.and_then(|recorded| recorded.backoff) {
        Some(Backoff::Quota(wait)) => {
            shared.journal.note(Marker::RetryBackoff, format_args!("profile={name} until={}", until(wait)));
        }
        Some(Backoff::Transport(wait)) => shared.journal.note(
            Marker::TransportBackoff,
            format_args!(
                "profile={name} until={} seconds={} context={}_upstream",
                until(wait),
                wait.as_secs(),
                tag.transport()
            ),
        ),
        Some(Backoff::Overload(wait)) => {
            shared.journal.note(Marker::OverloadBackoff, format_args!("profile={name} until={}", until(wait)));
        }
        Some(Backoff::LoginLater(wait)) => {
            shared
                .journal
                .note(Marker::RetryBackoff, format_args!("profile={name} until={} reason=login", until(wait)));
        }
        Some(Backoff::Login) => shared.journal.note(Marker::LoginNeeded, format_args!("profile={name}")),
        None => {}
    }
}

/// The current profile changes with a commit, but not by an error that is passed on.
pub fn commit(shared: &Shared, tag: Tag, id: ProfileId, session: Option<&str>, serves: bool) {
    shared.journal.mark(tag, Marker::Committed, format_args!("profile={}", shared.name(id)));
    if !serves {
        return;
    }
    let committed = shared.ledger.commit(id, session);
    if let Some(session) = session.filter(|_| committed.session_is_news) {
        shared.recorder.bind(Kind::Session, session, shared.name(id));
        shared.journal.note(Marker::Binding, format_args!("session_id profile={} value={session}", shared.name(id)));
    }
    if let Some(before) = committed.before {
        shared.journal.note(Marker::ProfileCommit, format_args!("profile={} switched=true", shared.name(id)));
        shared.saver.moved(shared.name(before), shared.name(id), &shared.journal);
    }
}

pub fn response(shared: &Shared, response: &str, id: ProfileId) {
    if shared.ledger.learn(Key::Response(response), id) {
        shared.recorder.bind(Kind::Response, response, shared.name(id));
        shared.journal.note(
            Marker::Binding,
            format_args!("response_ids profile={} count=1 first=Some({response:?})", shared.name(id)),
        );
    }
}

pub fn turn_state(shared: &Shared, turn_state: &str, id: ProfileId) {
    if shared.ledger.learn(Key::TurnState(turn_state), id) {
        shared.recorder.bind(Kind::TurnState, turn_state, shared.name(id));
    }
}
