//! An open WebSocket: reads `response.create` messages one after the other and has each answered. Knows nothing of
//! the upgrade before it.

use super::frame::{self, Message};
use super::http::Request;
use super::json::Json;
use super::play;
use super::record::{BODY_STORED, Transport};
use super::script::Kind;
use super::serve::{Issue, Line, close, open};
use super::stream::End;

pub fn session(line: &mut Line, request: &Request, name: &str) {
    loop {
        match frame::read_message(&mut line.stream) {
            Ok(Message::Text(payload)) => {
                if !message(line, request, name, &payload) {
                    return;
                }
            }
            Ok(Message::Close(code)) => {
                let _ = line.stream.write(&frame::close(code.unwrap_or(1000)));
                line.stream.finish();
                return;
            }
            Err(End::Malformed(what)) => {
                let at = open(line, request, Kind::Other("?".to_owned()), Transport::Ws);
                close(line, at, line.stream.sent, &Err(End::Malformed(what)));
                let _ = line.stream.write(&frame::close(1002));
                line.stream.finish();
                return;
            }
            Err(_) => return,
        }
    }
}

/// False when the connection is over.
fn message(line: &mut Line, request: &Request, name: &str, payload: &[u8]) -> bool {
    let json = Json::parse(payload);
    let json = json.as_ref();
    let member = |key: &str| json.and_then(|json| json.get(key));
    let metadata = |key: &str| member("client_metadata").and_then(|list| list.get(key)).and_then(Json::text);
    let compaction = metadata("x-codex-turn-metadata")
        .and_then(|text| Json::parse(text.as_bytes()))
        .is_some_and(|json| json.get("request_kind").and_then(Json::text) == Some("compaction"));
    let kind = match member("type").and_then(Json::text) {
        Some("response.create") if compaction => Kind::Compact,
        Some("response.create") if member("generate") == Some(&Json::Bool(false)) => Kind::Prewarm,
        Some("response.create") => Kind::Turn,
        other => Kind::Other(other.unwrap_or("not JSON").to_owned()),
    };
    let previous = member("previous_response_id").and_then(Json::text);
    let turn_state = metadata("x-codex-turn-state");
    let at = open(line, request, kind.clone(), Transport::Ws);
    let sent_before = line.stream.sent;
    let mut behave = line.shared.state().script.next(name, &kind);
    let issue = Issue { name, kind: &kind, path: request.path(), transport: Transport::Ws };
    let issued = issue.make(line, &mut behave, previous, turn_state);
    line.shared.update(at, |record| {
        record.account = Some(name.to_owned());
        record.body.extend_from_slice(&payload[..payload.len().min(BODY_STORED)]);
        record.body_length = payload.len() as u64;
        record.previous_response_id = previous.map(str::to_owned);
        record.turn_state = turn_state.map(str::to_owned);
        record.foreign = issued.foreign;
        record.response_id = Some(issued.id);
        record.did = format!("{:?}", behave.say).chars().take(80).collect();
    });
    let result = play::frames(line, at, &behave, &issued.reply);
    close(line, at, sent_before, &result)
}
