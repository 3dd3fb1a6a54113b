//! One connection from its first request to its last: who asks, for what, and which behaviour that meets. Knows
//! nothing of how an answer is written (`play.rs`) nor of open WebSockets (`turn.rs`).

use super::backend::{Shared, refresh};
use super::behave::{Behave, Say};
use super::frame;
use super::http::{self, Request};
use super::json::Json;
use super::named::previous_not_found;
use super::plan::{self, Context, Reply};
use super::play;
use super::record::{Finished, Record, Transport};
use super::script::Kind;
use super::stream::{End, Stream};
use super::turn;
use super::who::{Caller, Refused, authenticate, route};
use std::time::Instant;

/// Who a connection belongs to, and what it keeps between its exchanges.
pub struct Line<'a> {
    pub shared: &'a Shared,
    pub stream: Stream,
    pub connection: u64,
}

pub fn connection(shared: &Shared, stream: Stream, connection: u64) {
    let mut line = Line { shared, stream, connection };
    loop {
        match http::read_request(&mut line.stream) {
            Ok(Some(request)) => {
                if !exchange(&mut line, &request) {
                    return;
                }
            }
            Ok(None) | Err(End::ClientGone | End::Cut | End::Stopped) => return,
            Err(End::Malformed(what)) => {
                let request = Request { method: "?".to_owned(), target: "?".to_owned(), headers: Vec::new() };
                let at = open(&line, &request, Kind::Other("?".to_owned()), Transport::Http);
                shared.update(at, |record| record.finished = Finished::Malformed(what));
                let _ =
                    line.stream.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                return;
            }
        }
    }
}

/// Opens a record for what just came.
pub fn open(line: &Line, request: &Request, kind: Kind, transport: Transport) -> usize {
    line.shared.open(|at| Record {
        at,
        connection: line.connection,
        account: None,
        transport,
        kind,
        method: request.method.clone(),
        target: request.target.clone(),
        headers: request.headers.clone(),
        body: Vec::new(),
        body_length: 0,
        previous_response_id: None,
        turn_state: None,
        mismatch: false,
        foreign: false,
        response_id: None,
        status: None,
        output_began: false,
        sent: 0,
        finished: Finished::Running,
        began: Instant::now(),
        ended: None,
        did: String::new(),
    })
}

/// Closes a record with how the exchange went; true when the connection can go on.
pub fn close(line: &Line, at: usize, sent_before: u64, result: &Result<(), End>) -> bool {
    let finished = match result {
        Ok(()) => Finished::Done,
        Err(End::Cut) => Finished::Cut,
        Err(End::ClientGone) => Finished::ClientGone,
        Err(End::Stopped) => Finished::Stopped,
        Err(End::Malformed(what)) => Finished::Malformed(what.clone()),
    };
    let sent = line.stream.sent - sent_before;
    line.shared.update(at, |record| {
        record.finished = finished;
        record.sent = sent;
        record.ended = Some(Instant::now());
    });
    result.is_ok()
}

/// False when the connection is over.
fn exchange(line: &mut Line, request: &Request) -> bool {
    let (path, kind) = route(request);
    let at = open(line, request, kind.clone(), Transport::Http);
    let sent_before = line.stream.sent;
    let caller = authenticate(&line.shared.state(), request, &kind);
    if let Ok(Caller { name: Some(name), .. }) = &caller {
        line.shared.update(at, |record| record.account = Some(name.clone()));
    }
    let result = answer(line, request, at, &path, &kind, &caller);
    if !close(line, at, sent_before, &result.as_ref().map(|_| ()).map_err(Clone::clone)) {
        return false;
    }
    match result {
        Ok(After::Frames(name)) => {
            turn::session(line, request, &name);
            false
        }
        Ok(After::Keep) if !request.closes() => true,
        _ => {
            line.stream.finish();
            false
        }
    }
}

enum After {
    Keep,
    Close,
    /// The connection speaks frames from here, for this account.
    Frames(String),
}

fn answer(
    line: &mut Line,
    request: &Request,
    at: usize,
    path: &str,
    kind: &Kind,
    caller: &Result<Caller, Refused>,
) -> Result<After, End> {
    let (name, mut behave) = match caller {
        Ok(Caller { name, .. }) => {
            let name = name.clone().unwrap_or_default();
            let behave = line.shared.state().script.next(&name, kind);
            (name, behave)
        }
        Err(refused) => (String::new(), refused.behave()),
    };
    let mismatch = matches!(caller, Err(Refused { mismatch: true, .. }));
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        line.stream.write(http::head(100, &[]).as_bytes())?;
    }
    let (body, length) = if behave.early { (Vec::new(), 0) } else { http::read_body(&mut line.stream, request)? };
    let json = if matches!(kind, Kind::Post | Kind::Token) { Json::parse(&body) } else { None };
    let previous = json.as_ref().and_then(|json| json.get("previous_response_id")?.text().map(str::to_owned));
    let turn_state = request.header("x-codex-turn-state").map(str::to_owned);
    if *kind == Kind::Token && behave.say == Say::Default {
        let token = json.as_ref().and_then(|json| json.get("refresh_token")?.text()).unwrap_or_default();
        let (status, body) = refresh(&mut line.shared.state(), token);
        behave.say = Say::Status(status, body);
    }
    let issue = Issue { name: &name, kind, path, transport: Transport::Http };
    let issued = issue.make(line, &mut behave, previous.as_deref(), turn_state.as_deref());
    line.shared.update(at, |record| {
        record.body = body;
        record.body_length = length;
        record.previous_response_id = previous;
        record.turn_state = turn_state;
        record.mismatch = mismatch;
        record.foreign = issued.foreign;
        record.response_id = Some(issued.id);
        record.did = format!("{:?}", behave.say).chars().take(80).collect();
    });
    let mut headers = match (kind, &issued.reply) {
        (Kind::Post, Reply::Events(_)) => issued.usage_headers,
        _ => Vec::new(),
    };
    headers.extend(issued.turn_state.map(|value| ("x-codex-turn-state".to_owned(), value)));
    if issued.reply == Reply::Upgrade {
        let key = request.header("sec-websocket-key").unwrap_or_default();
        headers.push(("Upgrade".to_owned(), "websocket".to_owned()));
        headers.push(("Connection".to_owned(), "Upgrade".to_owned()));
        headers.push(("Sec-WebSocket-Accept".to_owned(), frame::accept_key(key)));
        play::upgrade(line, at, &behave, headers)?;
        return Ok(After::Frames(name));
    }
    let keep = play::respond(line, at, &behave, &issued.reply, headers)?;
    Ok(if keep { After::Keep } else { After::Close })
}

/// What a behaviour becomes for one request, with the ids that go with it.
pub struct Issued {
    pub reply: Reply,
    pub id: String,
    pub turn_state: Option<String>,
    pub foreign: bool,
    pub usage_headers: Vec<(String, String)>,
}

pub struct Issue<'a> {
    pub name: &'a str,
    pub kind: &'a Kind,
    pub path: &'a str,
    pub transport: Transport,
}

impl Issue<'_> {
    /// Checks the ids that the request carried, and makes new ones.
    pub fn make(&self, line: &Line, behave: &mut Behave, previous: Option<&str>, turn_state: Option<&str>) -> Issued {
        let mut state = line.shared.state();
        let mut foreign = false;
        if let Some(id) = previous {
            let known = state.responses.get(id).is_some_and(|(owner, connection)| {
                owner == self.name && (!state.script.ids_live_with_connection || *connection == line.connection)
            });
            // A scripted failure comes first: a quota is checked before ids are.
            if !known && matches!(behave.say, Say::Default | Say::Answer(_) | Say::ToolCall(_)) {
                let body = format!(r#"{{"error":{}}}"#, previous_not_found(id));
                behave.say = Say::Status(400, body);
            }
            foreign |= !known;
        }
        if let Some(value) = turn_state {
            foreign |= state.turn_states.get(value).is_none_or(|owner| owner != self.name);
        }
        state.serial += 1;
        let serial = state.serial;
        let id = format!("resp_{}_{serial}", self.name);
        // The real backend names one state for the turn; codex keeps the first it gets.
        let issues = turn_state.is_none() && matches!(self.kind, Kind::Post | Kind::Turn);
        let issued_state = issues.then(|| format!("ts-{}-{serial}", self.name));
        let account = state.script.accounts.get(self.name).cloned().unwrap_or_default();
        let context = Context {
            name: self.name,
            account: &account,
            kind: self.kind,
            transport: self.transport,
            path: self.path,
            id: &id,
            turn_state: issued_state.as_deref(),
        };
        let reply = plan::make(behave, &context);
        if matches!(reply, Reply::Events(_)) {
            state.responses.insert(id.clone(), (self.name.to_owned(), line.connection));
        }
        // A state that the answer has no place for is not issued.
        let issued_state = issued_state.filter(|_| matches!(reply, Reply::Events(_)));
        state.turn_states.extend(issued_state.iter().map(|value| (value.clone(), self.name.to_owned())));
        Issued { reply, id, turn_state: issued_state, foreign, usage_headers: account.usage.headers() }
    }
}
