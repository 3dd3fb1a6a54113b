//! What a request head tells: whose it is and what it asks for. Knows no answer but the 401.

use super::backend::State;
use super::behave::Behave;
use super::http::Request;
use super::json::Json;
use super::script::Kind;
use super::token;

pub struct Caller {
    /// `None` on a route that needs no credentials, when none came.
    pub name: Option<String>,
}

pub struct Refused {
    pub why: &'static str,
    pub mismatch: bool,
}

impl Refused {
    pub fn behave(&self) -> Behave {
        Behave::status(401, &format!(r#"{{"error":{{"message":"{}","code":"token_invalid"}}}}"#, self.why))
    }
}

pub fn authenticate(state: &State, request: &Request, kind: &Kind) -> Result<Caller, Refused> {
    let refused = |why| Refused { why, mismatch: false };
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(bearer) = bearer else {
        let open = matches!(kind, Kind::Other(_) | Kind::Token);
        return if open { Ok(Caller { name: None }) } else { Err(refused("no token")) };
    };
    if state.revoked.contains(bearer) {
        return Err(refused("revoked token"));
    }
    let name = state.script.owner(bearer).map_err(refused)?;
    match request.header("chatgpt-account-id") {
        Some(id) if id != token::account_id(&name) => Err(Refused { why: "token of another account", mismatch: true }),
        _ => Ok(Caller { name: Some(name) }),
    }
}

/// The path below the base URL, and what it asks for. `/direct/m` is the model mount of a codex without proxy.
pub fn route(request: &Request) -> (String, Kind) {
    let path = request.path();
    let below = path.split_once("/backend-api").map_or(path, |(_, rest)| rest);
    let below = below.strip_prefix("/direct/m").map_or(below.to_owned(), |rest| format!("/codex{rest}"));
    let upgrade = request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let compaction = request
        .header("x-codex-turn-metadata")
        .and_then(|value| Json::parse(value.as_bytes()))
        .is_some_and(|json| json.get("request_kind").and_then(Json::text) == Some("compaction"));
    let kind = match (request.method.as_str(), below.as_str()) {
        ("GET", "/codex/responses") if upgrade => Kind::Handshake,
        ("POST", "/codex/responses") if compaction => Kind::Compact,
        ("POST", "/codex/responses") => Kind::Post,
        ("POST", "/codex/responses/compact") => Kind::Compact,
        ("GET", "/codex/models") => Kind::Models,
        ("GET", "/wham/usage" | "/api/codex/usage") => Kind::Usage,
        ("GET", "/wham/accounts/check" | "/api/codex/accounts/check") => Kind::Check,
        ("POST", "/oauth/token") => Kind::Token,
        _ => Kind::Other(below.clone()),
    };
    (below, kind)
}
