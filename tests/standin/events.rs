//! The events of a response stream and the bodies of quota errors, as the Responses API spells them. Knows neither
//! HTTP nor WebSocket: the same objects travel on both.

use super::behave::{QuotaForm, StatusKey};
use super::json::quote;
use std::fmt::Write as _;

/// Which part of the stream an event is; cuts and stages refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Rate limits, metadata, unknown events.
    Meta,
    Created,
    InProgress,
    /// Output item or content part added: here the output begins.
    Added,
    Delta(usize),
    Done,
    Completed,
    /// Error, failed, incomplete.
    Broken,
}

/// One event. `pad` bytes stand between `head` and `tail` when it is written, so that a stream of a hundred megabytes
/// need not exist in memory first.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub mark: Mark,
    head: String,
    pad: usize,
    tail: &'static str,
}

impl Event {
    pub fn new(mark: Mark, json: String) -> Event {
        Event { mark, head: json, pad: 0, tail: "" }
    }

    pub fn render(&self) -> String {
        let mut out = String::with_capacity(self.head.len() + self.pad + self.tail.len());
        out.push_str(&self.head);
        out.extend(std::iter::repeat_n('.', self.pad));
        out.push_str(self.tail);
        out
    }

    /// The name in the `event:` line.
    pub fn name(&self) -> &str {
        self.head.split('"').nth(3).unwrap_or("message")
    }
}

/// What the deltas of one answer are.
pub struct Text<'a> {
    pub whole: &'a str,
    pub deltas: usize,
    pub delta_bytes: usize,
}

pub fn metadata(turn_state: &str) -> Event {
    let json = format!(r#"{{"type":"response.metadata","headers":{{"x-codex-turn-state":{}}}}}"#, quote(turn_state));
    Event::new(Mark::Meta, json)
}

pub fn unknown() -> Event {
    Event::new(Mark::Meta, r#"{"type":"standin.unknown","note":"nobody knows this event"}"#.to_owned())
}

pub fn created(id: &str) -> Event {
    envelope(Mark::Created, "response.created", id, r#""status":"in_progress","output":[]"#)
}

pub fn in_progress(id: &str) -> Event {
    envelope(Mark::InProgress, "response.in_progress", id, r#""status":"in_progress","output":[]"#)
}

pub fn completed(id: &str) -> Event {
    let rest = r#""status":"completed","usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15}"#;
    envelope(Mark::Completed, "response.completed", id, rest)
}

pub fn failed(id: &str, code: &str, message: &str) -> Event {
    let rest = format!(r#""status":"failed","error":{{"code":{},"message":{}}}"#, quote(code), quote(message));
    envelope(Mark::Broken, "response.failed", id, &rest)
}

pub fn incomplete(id: &str, reason: &str) -> Event {
    let rest = format!(r#""status":"incomplete","incomplete_details":{{"reason":{}}}"#, quote(reason));
    envelope(Mark::Broken, "response.incomplete", id, &rest)
}

/// `error` is the error object; `headers` a JSON object.
pub fn error(key: StatusKey, status: u16, error: &str, headers: &str) -> Event {
    let status = match key {
        StatusKey::Status => format!(r#""status":{status},"#),
        StatusKey::StatusCode => format!(r#""status_code":{status},"#),
        StatusKey::Absent => String::new(),
    };
    Event::new(Mark::Broken, format!(r#"{{"type":"error",{status}"error":{error},"headers":{headers}}}"#))
}

/// The output of a message: added, part, deltas, done.
pub fn message(id: &str, text: &Text) -> Vec<Event> {
    let item = format!("msg_{id}");
    let mut events = vec![
        Event::new(
            Mark::Added,
            format!(
                r#"{{"type":"response.output_item.added","output_index":0,"item":{{"type":"message","id":"{item}","status":"in_progress","role":"assistant","content":[]}}}}"#
            ),
        ),
        Event::new(
            Mark::Added,
            format!(
                r#"{{"type":"response.content_part.added","item_id":"{item}","output_index":0,"content_index":0,"part":{{"type":"output_text","text":"","annotations":[]}}}}"#
            ),
        ),
    ];
    let mut whole = String::new();
    for (number, piece) in pieces(text.whole, text.deltas).into_iter().enumerate() {
        let pad = text.delta_bytes.saturating_sub(piece.len());
        let quoted = quote(piece);
        // Without its closing quote: the padding belongs to the text.
        let head = format!(
            r#"{{"type":"response.output_text.delta","item_id":"{item}","output_index":0,"content_index":0,"delta":{}"#,
            &quoted[..quoted.len() - 1]
        );
        events.push(Event { mark: Mark::Delta(number), head, pad, tail: "\"}" });
        let _ = write!(whole, "{piece}");
    }
    events.push(Event::new(
        Mark::Done,
        format!(
            r#"{{"type":"response.output_item.done","output_index":0,"item":{{"type":"message","id":"{item}","status":"completed","role":"assistant","content":[{{"type":"output_text","text":{},"annotations":[]}}]}}}}"#,
            quote(&whole)
        ),
    ));
    events
}

/// The output of a function call that runs `command`.
pub fn tool_call(id: &str, command: &str) -> Vec<Event> {
    let item = |status: &str, arguments: &str| {
        format!(
            r#"{{"type":"function_call","id":"fc_{id}","status":"{status}","call_id":"call_{id}","name":"exec_command","arguments":{}}}"#,
            quote(arguments)
        )
    };
    let arguments = format!(r#"{{"cmd":{}}}"#, quote(command));
    let event = |mark, name: &str, item: &str| {
        Event::new(mark, format!(r#"{{"type":"{name}","output_index":0,"item":{item}}}"#))
    };
    vec![
        event(Mark::Added, "response.output_item.added", &item("in_progress", "")),
        event(Mark::Done, "response.output_item.done", &item("completed", &arguments)),
    ]
}

/// The output of a compaction: exactly one item.
pub fn compaction(id: &str) -> Vec<Event> {
    vec![Event::new(
        Mark::Done,
        format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{}}}"#, compaction_item(id)),
    )]
}

pub fn compaction_item(id: &str) -> String {
    format!(r#"{{"type":"compaction","id":"cmp_{id}","encrypted_content":"gAAAA-standin-{id}"}}"#)
}

/// The error object of a used-up account, and its code and message for `response.failed`.
pub fn quota(form: QuotaForm, plan: &str, resets_at: u64, now: u64) -> (String, &'static str, &'static str) {
    match form {
        QuotaForm::UsageLimitReached => (
            format!(
                r#"{{"type":"usage_limit_reached","message":"The usage limit has been reached","plan_type":{},"resets_at":{resets_at},"resets_in_seconds":{},"eligible_promo":null}}"#,
                quote(plan),
                resets_at.saturating_sub(now)
            ),
            "usage_limit_reached",
            "The usage limit has been reached",
        ),
        QuotaForm::InsufficientQuota => (
            r#"{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}"#.to_owned(),
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        QuotaForm::RateLimitExceeded => (
            r#"{"message":"Rate limit reached for gpt-5.5. Please try again in 1.5s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}"#.to_owned(),
            "rate_limit_exceeded",
            "Rate limit reached for gpt-5.5. Please try again in 1.5s.",
        ),
        QuotaForm::UsageNotIncluded => (
            r#"{"type":"usage_not_included","message":"To use Codex with your ChatGPT plan, upgrade to Plus","plan_type":"free"}"#.to_owned(),
            "usage_not_included",
            "To use Codex with your ChatGPT plan, upgrade to Plus",
        ),
    }
}

fn envelope(mark: Mark, name: &str, id: &str, rest: &str) -> Event {
    Event::new(
        mark,
        format!(r#"{{"type":"{name}","response":{{"id":"{id}","object":"response","model":"standin",{rest}}}}}"#),
    )
}

/// `text` in `count` pieces of about the same length; short texts give empty pieces at the end.
fn pieces(text: &str, count: usize) -> Vec<&str> {
    let step = text.chars().count().div_ceil(count.max(1)).max(1);
    let mut rest = text;
    (0..count.max(1))
        .map(|_| {
            let end = rest.char_indices().nth(step).map_or(rest.len(), |(at, _)| at);
            let (piece, after) = rest.split_at(end);
            rest = after;
            piece
        })
        .collect()
}
