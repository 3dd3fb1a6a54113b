//! What an upstream answer means: an error status with its body, or one event of a stream (spec S-58, S-59). Pure.
//! Knows no transport: SSE data, WebSocket messages and HTTP bodies carry the same JSON (`wire.md` 3.4, 5).

use super::limits::LONGEST_QUOTA;
use super::route::Lane;
use crate::wire::json::{self, Peek, Raw};
use std::time::Duration;

/// Why an account did not serve a request: what rotates before commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Out of quota until `resets_at` (Unix seconds), where the backend says so.
    Quota { resets_at: Option<u64>, retry_after: Option<Duration> },
    /// The account's plan has no codex.
    NotIncluded,
    /// The backend has no room, for this account or at all.
    Overload { retry_after: Option<Duration> },
    /// The credential was refused, and no other is to be had.
    Unauthorized,
    /// The credential was refused; whether there will be another one is not settled.
    LoginUnsettled,
    /// No usable answer came at all.
    Transport,
    /// The input holds reasoning that another account encrypted (`wire.md` 2): only its owner can read it.
    ForeignContent,
    /// The previous response is another account's, or nobody's.
    UnknownResponse,
}

impl Trouble {
    /// As the log says it.
    pub fn name(&self) -> &'static str {
        match self {
            Trouble::Quota { .. } => "quota",
            Trouble::NotIncluded => "usage_not_included",
            Trouble::Overload { .. } => "overload",
            Trouble::Unauthorized => "unauthorized",
            Trouble::LoginUnsettled => "login_unsettled",
            Trouble::Transport => "transport",
            Trouble::ForeignContent => "invalid_encrypted_content",
            Trouble::UnknownResponse => "previous_response_not_found",
        }
    }

    /// Of two refusals, which codex should see: one that passes soon before one that lasts, the earliest reset first.
    pub fn better_than(&self, other: &Trouble) -> bool {
        let rank = |trouble: &Trouble| match trouble {
            Trouble::Overload { .. } => (0, 0),
            Trouble::Quota { resets_at, .. } => (1, resets_at.unwrap_or(u64::MAX)),
            Trouble::NotIncluded => (2, 0),
            Trouble::ForeignContent | Trouble::UnknownResponse => (3, 0),
            Trouble::Transport | Trouble::Unauthorized | Trouble::LoginUnsettled => (4, 0),
        };
        rank(self) < rank(other)
    }
}

/// An HTTP error answer (status 400 and above) with its body. `None`: codex must see it, whatever account we take.
/// A plain 429 without a known code is passed on, its `Retry-After` with it: codex waits by itself.
pub fn of_status(status: u16, retry_after: Option<&str>, body: &[u8], lane: Lane) -> Option<Trouble> {
    let retry_after = retry_after.and_then(seconds);
    let error = Raw::parse(body).ok().and_then(|body| body.member("error"));
    if let Some(trouble) = error.and_then(|error| of_error(error, retry_after)) {
        // A 2xx or 3xx never comes here; a 5xx that speaks of quota means it.
        return Some(trouble);
    }
    match status {
        401 => Some(Trouble::Unauthorized),
        503 | 529 => Some(Trouble::Overload { retry_after }),
        // A compact call has no stream that codex could retry cheaply: 0.2.38 moves it on any server error.
        500..=599 if lane == Lane::Compact => Some(Trouble::Overload { retry_after }),
        _ => None,
    }
}

/// The `error` object of a body or event, by its `type` or its `code`.
fn of_error(error: Raw<'_>, retry_after: Option<Duration>) -> Option<Trouble> {
    ["code", "type"].into_iter().find_map(|name| {
        let word = error.member(name)?.as_str()?;
        match word.as_ref() {
            "usage_limit_reached" | "insufficient_quota" | "rate_limit_exceeded" => {
                Some(Trouble::Quota { resets_at: resets_at(error), retry_after: retry_after.or(resets_in(error)) })
            }
            "usage_not_included" => Some(Trouble::NotIncluded),
            "server_is_overloaded" | "slow_down" | "overloaded_error" => Some(Trouble::Overload { retry_after }),
            "invalid_encrypted_content" => Some(Trouble::ForeignContent),
            "previous_response_not_found" => Some(Trouble::UnknownResponse),
            _ => None,
        }
    })
}

fn resets_at(error: Raw<'_>) -> Option<u64> {
    error.member("resets_at")?.as_u64()
}

fn resets_in(error: Raw<'_>) -> Option<Duration> {
    error.member("resets_in_seconds")?.as_f64().and_then(bounded)
}

/// `Retry-After` in seconds (RFC 9110 10.2.3). A date is not used by this backend and is ignored.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse::<f64>().ok().and_then(bounded)
}

fn bounded(seconds: f64) -> Option<Duration> {
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_QUOTA).min(LONGEST_QUOTA))
}

/// One event of a model stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing that codex shows: may be held back until we know whether this account answers.
    Preamble,
    /// The model speaks: commit.
    Output,
    /// The end of a turn that went well.
    Completed,
    /// The end of a turn that did not, for a reason that another account does not have.
    Trouble(Trouble),
    /// The end of a turn that did not, and would not elsewhere.
    Failed,
}

impl Event {
    /// Nothing more follows in this turn.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Event::Completed | Event::Trouble(_) | Event::Failed)
    }
}

/// `data` is the event's JSON, or the first bytes of it when it is long.
pub fn of_event(data: &[u8]) -> Event {
    let Some(kind) = json::peek_str(data, &["type"]) else { return Event::Output };
    match kind.as_ref() {
        "response.created"
        | "response.in_progress"
        | "response.queued"
        | "response.metadata"
        | "ping"
        | "keepalive" => Event::Preamble,
        kind if kind.starts_with("codex.") => Event::Preamble,
        "response.completed" | "response.done" => Event::Completed,
        "response.incomplete" => Event::Failed,
        "response.failed" => of_path(data, &["response", "error"], None).map_or(Event::Failed, Event::Trouble),
        "error" => {
            let retry_after = json::peek_str(data, &["headers", "retry-after"]).and_then(|text| seconds(&text));
            let unauthorized = || (status(data) == Some(401)).then_some(Trouble::Unauthorized);
            match of_path(data, &["error"], retry_after).or_else(unauthorized) {
                // Codex comes back with its full input by itself (`wire.md` 0.6).
                Some(Trouble::UnknownResponse) | None => Event::Failed,
                Some(trouble) => Event::Trouble(trouble),
            }
        }
        _ => Event::Output,
    }
}

fn of_path(data: &[u8], path: &[&str], retry_after: Option<Duration>) -> Option<Trouble> {
    match json::peek(data, path) {
        Peek::Found(error) => of_error(error, retry_after),
        _ => None,
    }
}

/// A WebSocket error event's `status`, or `status_code` (`wire.md` 3.5).
fn status(data: &[u8]) -> Option<u64> {
    ["status", "status_code"].into_iter().find_map(|name| match json::peek(data, &[name]) {
        Peek::Found(value) => value.as_u64(),
        _ => None,
    })
}

/// The event tells what is left of the account's quotas (`wire.md` 5).
pub fn tells_quotas(data: &[u8]) -> bool {
    json::peek_str(data, &["type"]).is_some_and(|kind| kind == "codex.rate_limits")
}

/// The id that an event gives its response, and the turn state that a metadata event issues (`wire.md` 4).
pub fn response_id(data: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    json::peek_str(data, &["response", "id"])
}

pub fn turn_state(data: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    json::peek_str(data, &["headers", super::affinity::TURN_STATE_HEADER])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(resets_at: Option<u64>, retry_after: Option<u64>) -> Trouble {
        Trouble::Quota { resets_at, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn statuses() {
        let overload = || Some(Trouble::Overload { retry_after: None });
        let table: [(u16, Option<&str>, &str, Option<Trouble>); 16] = [
            (
                429,
                None,
                r#"{"error":{"type":"usage_limit_reached","resets_at":1795588333,"resets_in_seconds":7200}}"#,
                Some(quota(Some(1_795_588_333), Some(7200))),
            ),
            (429, Some("30"), r#"{"error":{"type":"usage_limit_reached"}}"#, Some(quota(None, Some(30)))),
            (
                429,
                None,
                r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
                Some(quota(None, None)),
            ),
            (429, None, r#"{"error":{"type":"tokens","code":"rate_limit_exceeded"}}"#, Some(quota(None, None))),
            (403, None, r#"{"error":{"code":"insufficient_quota"}}"#, Some(quota(None, None))),
            (429, None, r#"{"error":{"type":"usage_not_included","plan_type":"free"}}"#, Some(Trouble::NotIncluded)),
            (429, Some("5"), r#"{"error":{"message":"slow"}}"#, None),
            (429, None, "", None),
            (400, None, r#"{"error":{"type":"invalid_request_error"}}"#, None),
            (403, None, "<html>cloudflare</html>", None),
            (401, None, "", Some(Trouble::Unauthorized)),
            (500, None, r#"{"error":{"message":"x"}}"#, None),
            (503, None, r#"{"error":{"code":"server_is_overloaded"}}"#, overload()),
            (503, Some("2"), "busy", Some(Trouble::Overload { retry_after: Some(Duration::from_secs(2)) })),
            (529, None, "", overload()),
            (404, None, r#"{"error":"usage_limit_reached"}"#, None),
        ];
        for (status, retry_after, body, trouble) in table {
            assert_eq!(of_status(status, retry_after, body.as_bytes(), Lane::Responses), trouble, "{status} {body}");
        }
        assert_eq!(of_status(500, None, b"", Lane::Compact), overload());
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("NaN"), None);
        assert_eq!(seconds("1e300"), Some(LONGEST_QUOTA));
    }

    #[test]
    fn the_most_helpful_refusal_is_shown() {
        let overload = Trouble::Overload { retry_after: None };
        assert!(quota(Some(5), None).better_than(&quota(Some(9), None)));
        assert!(quota(Some(5), None).better_than(&quota(None, None)));
        assert!(!quota(Some(9), None).better_than(&quota(Some(5), None)));
        assert!(overload.better_than(&quota(Some(1), None)), "an account with quota left recovers sooner");
        assert!(quota(None, None).better_than(&Trouble::NotIncluded));
    }

    #[test]
    fn events() {
        use Event::{Completed, Failed, Output, Preamble};
        let limit = || Event::Trouble(quota(None, None));
        let table: [(&str, Event); 16] = [
            (r#"{"type":"response.created","response":{"id":"r"}}"#, Preamble),
            (r#"{"type":"response.in_progress"}"#, Preamble),
            (r#"{"type":"codex.rate_limits"}"#, Preamble),
            (r#"{"type":"response.metadata","headers":{}}"#, Preamble),
            (r#"{"type":"response.output_item.added"}"#, Output),
            (r#"{"type":"response.output_text.delta","delta":"x"}"#, Output),
            (r#"{"type":"response.completed"}"#, Completed),
            (r#"{"type":"response.incomplete"}"#, Failed),
            (r#"{"type":"response.failed","response":{"error":{"code":"usage_limit_reached"}}}"#, limit()),
            (r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}"#, limit()),
            (r#"{"type":"response.failed","response":{"error":{"code":"context_length_exceeded"}}}"#, Failed),
            (r#"{"type":"error","status":429,"error":{"type":"usage_limit_reached"}}"#, limit()),
            (r#"{"type":"error","status_code":401,"error":{}}"#, Event::Trouble(Trouble::Unauthorized)),
            (r#"{"type":"error","status":400,"error":{"code":"previous_response_not_found"}}"#, Failed),
            ("[DONE]", Output),
            ("", Output),
        ];
        for (data, event) in table {
            assert_eq!(of_event(data.as_bytes()), event, "{data}");
        }
        let waits = of_event(
            br#"{"type":"error","status":429,"error":{"type":"usage_limit_reached"},"headers":{"retry-after":"9"}}"#,
        );
        assert_eq!(waits, Event::Trouble(quota(None, Some(9))));
    }

    #[test]
    fn ids_from_the_beginning_of_a_long_event() {
        let cut =
            br#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","instructions":"very lo"#;
        assert_eq!(of_event(cut), Event::Preamble);
        assert_eq!(response_id(cut).as_deref(), Some("resp_1"));
        let metadata = br#"{"type":"response.metadata","headers":{"x-codex-turn-state":"ts"}}"#;
        assert_eq!(turn_state(metadata).as_deref(), Some("ts"));
    }
}
