//! From a behaviour to what will be sent: a whole response, a list of events, or raw bytes. Pure; knows no socket.

use super::behave::{Behave, QuotaForm, Say, Stage, StatusKey, Where};
use super::events::{self, Event, Mark, Text};
use super::json::{Json, quote};
use super::record::Transport;
use super::script::{Account, Kind};
use super::token;

/// What the plan depends on besides the behaviour.
pub struct Context<'a> {
    pub name: &'a str,
    pub account: &'a Account,
    pub kind: &'a Kind,
    pub transport: Transport,
    pub path: &'a str,
    /// Of the response that will be made.
    pub id: &'a str,
    /// A turn state to issue.
    pub turn_state: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Whole {
        status: u16,
        content_type: &'static str,
        body: Vec<u8>,
    },
    Events(Vec<Event>),
    Raw(Vec<u8>),
    /// 101 and then frames.
    Upgrade,
}

pub fn make(behave: &Behave, at: &Context) -> Reply {
    match &behave.say {
        Say::Default if *at.kind == Kind::Handshake => Reply::Upgrade,
        Say::Default if !streams(at) => unary(at),
        Say::Default if *at.kind == Kind::Prewarm => Reply::Events(around(behave, at, Vec::new())),
        Say::Default if *at.kind == Kind::Compact => Reply::Events(around(behave, at, events::compaction(at.id))),
        Say::Default => answer(behave, at, &format!("Hello from {}.", at.name)),
        Say::Answer(text) if !streams(at) => whole(200, text.clone()),
        Say::Answer(text) => answer(behave, at, text),
        Say::ToolCall(command) => Reply::Events(around(behave, at, events::tool_call(at.id, command))),
        Say::Quota(form, place) => quota(behave, at, *form, *place),
        Say::Status(status, body) => status_reply(behave, at, *status, body.clone()),
        Say::Error(key, status, error, stage) => {
            staged(behave, at, *stage, events::error(*key, *status, error, &headers_object(behave)))
        }
        Say::Failed(code, message, stage) => staged(behave, at, *stage, events::failed(at.id, code, message)),
        Say::Incomplete(reason) => staged(behave, at, Stage::Created, events::incomplete(at.id, reason)),
        Say::Garbage(bytes) => Reply::Raw(bytes.clone()),
    }
}

fn streams(at: &Context) -> bool {
    match at.kind {
        Kind::Prewarm | Kind::Turn | Kind::Post => true,
        Kind::Compact => !at.path.ends_with("/compact"),
        _ => false,
    }
}

fn whole(status: u16, body: String) -> Reply {
    let content_type = if body.starts_with('<') { "text/html" } else { "application/json" };
    Reply::Whole { status, content_type, body: body.into_bytes() }
}

/// A status that is meant for HTTP becomes an error event once the socket speaks frames.
fn status_reply(behave: &Behave, at: &Context, status: u16, body: String) -> Reply {
    if at.transport == Transport::Http {
        return whole(status, body);
    }
    let marker = "\"error\":";
    let object = Json::parse(body.as_bytes()).and_then(|json| json.get("error").cloned());
    let error = match (object, body.find(marker)) {
        // The text between the marker and the closing brace of the outer object, as it stands.
        (Some(Json::Map(_)), Some(start)) => {
            body[start + marker.len()..body.rfind('}').unwrap_or(body.len())].to_owned()
        }
        _ => format!(r#"{{"type":"standin_error","message":{}}}"#, quote(&body)),
    };
    Reply::Events(vec![events::error(StatusKey::Status, status, &error, &headers_object(behave))])
}

fn quota(behave: &Behave, at: &Context, form: QuotaForm, place: Where) -> Reply {
    let usage = &at.account.usage;
    let (error, code, message) = events::quota(form, &usage.plan, usage.resets_at(), token::unix_now());
    match place {
        Where::Status(status) => status_reply(behave, at, status, format!(r#"{{"error":{error}}}"#)),
        Where::Event(key, stage) => staged(behave, at, stage, events::error(key, 429, &error, &headers_object(behave))),
        Where::Failed(stage) => staged(behave, at, stage, events::failed(at.id, code, message)),
    }
}

fn answer(behave: &Behave, at: &Context, text: &str) -> Reply {
    let text = Text { whole: text, deltas: behave.deltas, delta_bytes: behave.delta_bytes };
    Reply::Events(around(behave, at, events::message(at.id, &text)))
}

/// The output with what comes before and after it.
fn around(behave: &Behave, at: &Context, output: Vec<Event>) -> Vec<Event> {
    let mut list: Vec<Event> = (0..behave.unknown_events).map(|_| events::unknown()).collect();
    if at.transport == Transport::Ws {
        list.extend(at.turn_state.map(events::metadata));
        list.push(Event::new(Mark::Meta, at.account.usage.event()));
    }
    list.push(events::created(at.id));
    list.push(events::in_progress(at.id));
    list.extend(output);
    if !behave.without_completed {
        list.push(events::completed(at.id));
    }
    list
}

/// An answer that breaks with `last` at this stage.
fn staged(behave: &Behave, at: &Context, stage: Stage, last: Event) -> Reply {
    let keep = |event: &Event| match (stage, event.mark) {
        (Stage::First, _) => false,
        (Stage::Created, mark) => matches!(mark, Mark::Meta | Mark::Created | Mark::InProgress),
        (Stage::Deltas(count), Mark::Delta(number)) => number < count,
        (Stage::Deltas(_), mark) => !matches!(mark, Mark::Done | Mark::Completed),
    };
    let Reply::Events(mut list) = answer(behave, at, "partial output that must not appear twice") else {
        unreachable!("an answer is a list of events")
    };
    list.retain(keep);
    list.push(last);
    Reply::Events(list)
}

fn headers_object(behave: &Behave) -> String {
    let members: Vec<String> = behave
        .headers
        .iter()
        .map(|(name, value)| format!("{}:{}", quote(&name.to_ascii_lowercase()), quote(value)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// What the routes that are no stream say when all is well.
fn unary(at: &Context) -> Reply {
    match at.kind {
        Kind::Usage => whole(200, at.account.usage.body(at.name)),
        Kind::Check => whole(200, check(at)),
        Kind::Models => whole(200, r#"{"models":[]}"#.to_owned()),
        Kind::Compact => whole(200, format!(r#"{{"output":[{}]}}"#, events::compaction_item(at.id))),
        Kind::Other(path) if path.starts_with("/codex/analytics-events") => whole(200, "{}".to_owned()),
        Kind::Other(path) if path.starts_with("/wham/settings/user") => whole(200, "{}".to_owned()),
        Kind::Other(path) if path.starts_with("/wham/rate-limit-reset-credits") => {
            whole(200, r#"{"available_count":0,"applicable_available_count":0}"#.to_owned())
        }
        Kind::Other(path) if path.starts_with("/ps/plugins") => whole(200, r#"{"plugins":[]}"#.to_owned()),
        _ => whole(404, r#"{"detail":"Not Found"}"#.to_owned()),
    }
}

fn check(at: &Context) -> String {
    let id = quote(&token::account_id(at.name));
    let check = &at.account.check;
    format!(
        concat!(
            r#"{{"accounts":[{{"id":{id},"workspace_backend_origin":{origin},"account_routing_override":{routing},"#,
            r#""name":null,"structure":"personal","plan_type":{plan},"can_access_with_session":true,"#,
            r#""is_deactivated":false,"profile_picture_url":null}}],"account_ordering":[{id}],"default_account_id":{id}}}"#
        ),
        id = id,
        origin = quote(&check.origin),
        routing = quote(&check.routing),
        plan = quote(&at.account.usage.plan),
    )
}
