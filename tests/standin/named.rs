//! The behaviours that wire.md names, by name. Only constructors: what they do is put together from `behave.rs`.

use super::behave::{Behave, Cut, Framing, Point, QuotaForm, Say, Stage, StatusKey, Where};
use super::json::quote;
use std::time::Duration;

impl Behave {
    pub fn ok() -> Behave {
        Behave::new(Say::Default)
    }

    pub fn answer(text: &str) -> Behave {
        Behave::new(Say::Answer(text.to_owned()))
    }

    pub fn tool_call(command: &str) -> Behave {
        Behave::new(Say::ToolCall(command.to_owned()))
    }

    pub fn quota(form: QuotaForm, place: Where) -> Behave {
        Behave::new(Say::Quota(form, place))
    }

    /// The real quota answer of an HTTP request or a handshake.
    pub fn quota_status() -> Behave {
        Behave::quota(QuotaForm::UsageLimitReached, Where::Status(429))
    }

    /// The real quota answer on an open WebSocket.
    pub fn quota_event() -> Behave {
        Behave::quota(QuotaForm::UsageLimitReached, Where::Event(StatusKey::Status, Stage::First))
    }

    pub fn status(status: u16, body: &str) -> Behave {
        Behave::new(Say::Status(status, body.to_owned()))
    }

    /// 200 with this JSON, for the routes that are no stream.
    pub fn json(body: &str) -> Behave {
        Behave::status(200, body)
    }

    /// A JSON error without meaning of its own.
    pub fn plain_error(status: u16) -> Behave {
        Behave::status(status, r#"{"error":{"message":"stand-in says no","type":"standin_error"}}"#)
    }

    /// Codex falls back to HTTP at once (Kind::Handshake).
    pub fn upgrade_required() -> Behave {
        Behave::plain_error(426)
    }

    pub fn unauthorized() -> Behave {
        Behave::status(
            401,
            r#"{"error":{"message":"Provided authentication token is expired.","code":"token_expired"}}"#,
        )
    }

    pub fn cloudflare_403() -> Behave {
        let page = "<html><head><title>Attention Required! | Cloudflare</title></head><body>Sorry, you have been blocked</body></html>";
        Behave::status(403, page)
            .header("Content-Type", "text/html; charset=UTF-8")
            .header("server", "cloudflare")
            .header("cf-ray", "8f0000000000standin-FRA")
    }

    /// A 429 that names no quota.
    pub fn plain_429(retry_after: Option<u64>) -> Behave {
        let behave = Behave::plain_error(429);
        match retry_after {
            Some(seconds) => behave.header("Retry-After", &seconds.to_string()),
            None => behave,
        }
    }

    /// 503 with `server_is_overloaded` or `slow_down`.
    pub fn overloaded(code: &str) -> Behave {
        Behave::status(
            503,
            &format!(r#"{{"error":{{"message":"busy","type":"server_error","code":{}}}}}"#, quote(code)),
        )
    }

    pub fn failed(code: &str, message: &str, stage: Stage) -> Behave {
        Behave::new(Say::Failed(code.to_owned(), message.to_owned(), stage))
    }

    pub fn error_event(key: StatusKey, status: u16, error: &str, stage: Stage) -> Behave {
        Behave::new(Say::Error(key, status, error.to_owned(), stage))
    }

    pub fn previous_response_not_found() -> Behave {
        Behave::error_event(StatusKey::Status, 400, &previous_not_found("resp_standin"), Stage::First)
    }

    pub fn connection_limit() -> Behave {
        let error = r#"{"type":"invalid_request_error","code":"websocket_connection_limit_reached","message":"Responses websocket connection limit reached (60 minutes). Create a new websocket connection to continue."}"#;
        Behave::error_event(StatusKey::Status, 400, error, Stage::First)
    }

    pub fn encrypted_content_400() -> Behave {
        Behave::status(
            400,
            r#"{"error":{"type":"invalid_request_error","code":"invalid_encrypted_content","message":"The encrypted content gAAA could not be verified. Reason: Encrypted content organization_id did not match the target organization."}}"#,
        )
    }

    pub fn incomplete() -> Behave {
        Behave::new(Say::Incomplete("max_output_tokens".to_owned()))
    }

    pub fn close_frame(code: u16) -> Behave {
        Behave::ok().cut(Cut::Close(code), Point::BeforeHead)
    }

    pub fn drop_at(point: Point) -> Behave {
        Behave::ok().cut(Cut::Drop, point)
    }

    pub fn reset_at(point: Point) -> Behave {
        Behave::ok().cut(Cut::Reset, point)
    }

    pub fn hang(point: Point) -> Behave {
        Behave::ok().cut(Cut::Hang, point)
    }

    pub fn completed_without() -> Behave {
        Behave::ok().without_completed()
    }

    pub fn garbage(bytes: &[u8]) -> Behave {
        Behave::new(Say::Garbage(bytes.to_owned()))
    }

    pub fn huge_headers(bytes: usize) -> Behave {
        Behave::ok().header("x-standin-padding", &"h".repeat(bytes))
    }

    /// One event of at least this size.
    pub fn big_event(bytes: usize) -> Behave {
        Behave::answer("big").stream(1, bytes, Duration::ZERO)
    }

    pub fn until_close() -> Behave {
        Behave::ok().framing(Framing::UntilClose)
    }
}

/// The `error` object for an id that the account does not know.
pub fn previous_not_found(id: &str) -> String {
    format!(
        r#"{{"type":"invalid_request_error","code":"previous_response_not_found","message":{},"param":"previous_response_id"}}"#,
        quote(&format!("Previous response with id '{id}' not found."))
    )
}
