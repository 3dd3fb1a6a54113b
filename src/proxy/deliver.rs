//! An answer on its way to codex, and what the log tells of the exchange when it is over. Learns from what passes.

use super::attempt::Answer;
use super::downstream::{Client, Upload, UploadError, local_answer};
use super::journal::{Marker, Tag};
use super::ledger::Serving;
use super::relay::{self, End};
use super::route::Lane;
use super::verdict::{Event, Trouble};
use super::{ProfileId, Shared, journal, record};
use crate::sys::clock;
use std::fmt;
use std::time::Instant;

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

    /// The exchange is over without an upstream's answer on its way to codex; `end` says why.
    pub fn over(&self, shared: &Shared, status: u16, end: &str) {
        self.line(shared, status, format_args!(""), end, "wait");
    }

    /// The exchange is over; `end` says who ended it, `phase` what it had come to.
    pub fn ended(&self, shared: &Shared, status: u16, progress: &Progress, end: &str, phase: &str) {
        let ms = |at: Option<Instant>| at.map_or(0, |at| at.saturating_duration_since(self.began).as_millis());
        let (commit, first, bytes) = (ms(progress.committed), ms(progress.first), progress.bytes);
        let fields = format_args!(" commit_ms={commit} first_ms={first} bytes={bytes}");
        self.line(shared, status, fields, end, phase);
    }

    fn line(&self, shared: &Shared, status: u16, fields: fmt::Arguments<'_>, end: &str, phase: &str) {
        let (profile, attempts) = (self.profile.map_or("-", |id| shared.name(id)), self.attempts);
        let total = clock::now().saturating_duration_since(self.began).as_millis();
        shared.journal.mark(
            self.tag,
            Marker::Exchange,
            format_args!(
                "profile={profile} status={status} attempts={attempts}{fields} total_ms={total} end={end} phase={phase}"
            ),
        );
    }
}

/// How far an exchange has come.
#[derive(Debug, Default)]
pub struct Progress {
    pub committed: Option<Instant>,
    /// The first byte for codex.
    pub first: Option<Instant>,
    pub bytes: u64,
}

/// Sends an answer to codex and learns from it for the profile that serves it and its session.
pub fn relay(
    shared: &Shared,
    client: &mut Client,
    answer: Answer,
    owner: Option<(&Serving, Option<&str>)>,
    trace: &mut Trace,
) -> Ended {
    let tag = trace.tag;
    let status = answer.head.status();
    let committed = clock::now();
    let is_stream = answer.tap.is_event_stream();
    // A trouble that decided before commit was recorded then; one that came with the first output was not.
    let known_before = matches!(answer.tap.decided, Some(Event::Trouble(_)));
    if let (Some((serving, _)), true) = (owner, is_stream) {
        let fields = format_args!("profile={} bytes={}", shared.name(serving.id), answer.early.len());
        shared.journal.mark(tag, Marker::FirstUpstreamChunk, fields);
    }
    let (mut terminal, mut chunks) = (None, 0_u64);
    let relayed = relay::run(shared, answer, client, true, |tap| {
        chunks += 1;
        let Some((Serving { id, .. }, _)) = owner else { return };
        for response in tap.response_ids.drain(..) {
            record::response(shared, &response, *id);
        }
        if let Some(event) = tap.quotas.take() {
            shared.scout.event(*id, &event);
        }
        terminal = tap.terminal.take().or(terminal.take());
    });
    if let Some((serving, session)) = owner {
        let id = serving.id;
        let name = shared.name(id);
        match &terminal {
            Some(Event::Completed) => shared.ledger.succeed(serving, tag.lane, session),
            // Too late for this turn, in time for the next.
            Some(Event::Trouble(trouble)) if !known_before => {
                record::trouble(shared, tag, serving, trouble, shared.wallet.fingerprint(id));
            }
            // Of the answers that are no stream only this one costs quota: a catalogue of models tells nothing.
            None if tag.lane == Lane::Compact && status < 300 && relayed.end == End::Whole => {
                shared.ledger.succeed(serving, tag.lane, session)
            }
            _ => {}
        }
        if let (Some(first), true) = (relayed.first, is_stream) {
            let elapsed = first.saturating_duration_since(committed).as_millis();
            let fields = format_args!("profile={name} bytes={} elapsed_ms={elapsed}", relayed.bytes);
            shared.journal.mark(tag, Marker::FirstLocalChunk, fields);
        }
        match &relayed.end {
            End::Upstream(cause) => {
                let (bytes, elapsed) = (relayed.bytes, clock::now().saturating_duration_since(committed).as_millis());
                let fields =
                    format_args!("profile={name} chunks={chunks} bytes={bytes} elapsed_ms={elapsed} error={cause:?}");
                shared.journal.mark(tag, Marker::StreamReadError, fields);
                record::trouble(shared, tag, serving, &Trouble::Transport, 0);
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
    let progress = Progress { committed: Some(committed), first: relayed.first, bytes: relayed.bytes };
    let phase = match (&relayed.end, relayed.first) {
        (End::Whole, _) => "end",
        (_, None) => "head",
        (_, Some(_)) => "body",
    };
    trace.ended(shared, status, &progress, relayed.end.name(), phase);
    Ended::after(relayed.keep)
}

/// Nobody can serve: said in words that codex shows (spec S-56).
pub fn unavailable(shared: &Shared, client: &mut Client, message: &str, trace: &Trace) -> Ended {
    trace.over(shared, 503, "unavailable");
    // Why comes before the answer: nobody is in a hurry for it.
    journal::flush();
    let _ = client.write_all(&local_answer(503, "service_unavailable", message));
    Ended::Close
}

/// Codex left, or sent a body that cannot be taken: the latter is told.
pub fn client_fault(shared: &Shared, client: &mut Client, upload: &Upload, trace: &Trace) -> Ended {
    let (status, answer) = match upload.fault {
        Some(UploadError::TooLarge) => {
            (413, local_answer(413, "too_large", "The request body is larger than is taken here."))
        }
        Some(UploadError::Malformed(bad)) => (400, local_answer(400, "bad_request", &bad.to_string())),
        Some(UploadError::Gone) | None => {
            trace.over(shared, 0, "client_gone");
            return Ended::Close;
        }
    };
    trace.over(shared, status, "bad_request");
    let _ = client.write_all(&answer);
    Ended::Close
}
