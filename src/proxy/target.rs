//! Where a request of codex goes upstream, and its head as it arrives there: what the proxy changes of it and what it keeps
//! (spec S-60). Knows no connections.

use super::attempt::{Call, Sender};
use super::cookies::Jar;
use super::route::{Class, Lane, upstream_target};
use super::workspace::{self, OVERRIDE_HEADER, OVERRIDE_US};
use super::{Shared, affinity, placement};
use crate::net::{Cause, NetError, Phase};
use crate::sys::buffer::Buffer;
use crate::wire::head::{self, Edit};
use crate::wire::url::Url;
use std::os::fd::RawFd;

/// Where a call goes: an origin, the request target there, and what workspace routing adds.
pub struct Target {
    pub url: Url,
    /// Of the URL.
    pub origin: String,
    path: String,
    us: bool,
}

impl Target {
    /// Waits only where a profile was never placed, and as long as `client` is there (`placement`).
    pub fn of(shared: &Shared, call: &Call<'_>, client: RawFd) -> Result<Target, NetError> {
        let placement = match (call.route.class, call.sender.id()) {
            (Class::Model, Some(id)) => placement::of(shared, id, client).map_err(|cause| NetError {
                phase: Phase::Connect,
                peer: shared.base.authority(),
                cause,
            })?,
            _ => workspace::Placement::default(),
        };
        let url = workspace::model_base(&shared.base, &placement);
        Ok(Target { path: upstream_target(&url, &call.route.path), origin: url.origin(), url, us: placement.us })
    }

    fn authority(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The request head as the upstream gets it: credentials, Host, cookies and hop-by-hop headers are ours, everything
    /// else is codex's, in its order and spelling (spec S-60).
    pub fn head(&self, jar: &Jar, call: &Call<'_>) -> Buffer {
        let request = call.request;
        let is_upgrade = call.route.lane == Lane::WebSocket;
        let is_model = call.route.class == Class::Model;
        let headers = request.headers();
        let authority = self.authority();
        let cookie = jar.header(call.sender.id(), &self.url);
        let (authorization, account) = match &call.sender {
            Sender::Codex => (None, None),
            Sender::Profile(_, credential) => (Some(&credential.authorization), credential.account_id.as_deref()),
        };
        let mut add: Vec<(&str, &[u8])> = Vec::new();
        if !headers.contains("host") {
            add.push(("host", authority.as_bytes()));
        }
        if let Some(authorization) = authorization.filter(|_| !headers.contains("authorization")) {
            add.push(("authorization", authorization.as_bytes()));
        }
        if let Some(account) = account.filter(|_| !headers.contains("chatgpt-account-id")) {
            add.push(("chatgpt-account-id", account.as_bytes()));
        }
        if let Some(cookie) = cookie.as_ref().filter(|_| !headers.contains("cookie")) {
            add.push(("cookie", cookie.as_bytes()));
        }
        if self.us {
            add.push((OVERRIDE_HEADER, OVERRIDE_US.as_bytes()));
        }
        let ours = matches!(call.sender, Sender::Profile(..));
        let is_hop_by_hop = head::hop_by_hop(headers);
        let edit = |name: &str, _: &[u8]| {
            let is = |other: &str| head::is_name(name.as_bytes(), other);
            if is("host") {
                Edit::Set(authority.as_bytes())
            } else if is_upgrade && is("connection") {
                Edit::Set(b"Upgrade")
            } else if is_upgrade && is("upgrade") {
                Edit::Keep
            // What is compressed or re-framed by agreement could not be read here.
            } else if is_upgrade && is_model && (is("sec-websocket-extensions") || is("sec-websocket-protocol")) {
                Edit::Drop
            } else if is("authorization") && ours {
                authorization.map_or(Edit::Drop, |value| Edit::Set(value.as_bytes()))
            } else if is("chatgpt-account-id") && ours {
                account.map_or(Edit::Drop, |value| Edit::Set(value.as_bytes()))
            } else if is("cookie") {
                cookie.as_ref().map_or(Edit::Keep, |value| Edit::Set(value.as_bytes()))
            } else if is(OVERRIDE_HEADER) && self.us || is(affinity::TURN_STATE_HEADER) && call.drop_turn_state
                // The body is here or on its way: `100 Continue` was ours to say.
                || is("expect")
                || is_hop_by_hop(name)
            {
                Edit::Drop
            } else {
                Edit::Keep
            }
        };
        let mut out = Buffer::new();
        out.reserve(4096);
        head::write_request(&mut out, request.method(), &self.path, headers, edit, &add);
        out
    }

    pub fn failed(&self, phase: Phase, cause: Cause) -> NetError {
        NetError { phase, peer: self.authority().to_owned(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProfileId;
    use super::super::credentials::Credential;
    use super::super::route::Route;
    use super::*;
    use std::sync::Arc;

    /// What becomes of the header lines that codex sends, with these credentials.
    fn lines(sent: &str, lane: Lane, ours: bool, us: bool, drop_turn_state: bool) -> String {
        let text = format!("POST /x HTTP/1.1\r\n{sent}\r\n");
        let (_, request) = head::request(text.as_bytes()).unwrap().unwrap();
        let route = Route { class: Class::Model, lane, path: "/codex/responses".to_owned() };
        let credential =
            Credential { authorization: "Bearer B".to_owned(), account_id: Some("acct-b".to_owned()), fingerprint: 1 };
        let sender = if ours { Sender::Profile(ProfileId(1), Arc::new(credential)) } else { Sender::Codex };
        let call = Call { request: &request, route: &route, sender, drop_turn_state };
        let url = Url::parse("https://chatgpt.com/backend-api").unwrap();
        let path = "/backend-api/codex/responses".to_owned();
        let target = Target { origin: url.origin(), url, path, us };
        let head = String::from_utf8(target.head(&Jar::default(), &call).to_vec()).unwrap();
        let lines = head.strip_prefix("POST /backend-api/codex/responses HTTP/1.1\r\n").unwrap();
        lines.strip_suffix("\r\n").unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn what_is_changed_and_what_is_kept() {
        const WHOLE: &str = "Host: 127.0.0.1:1\r\nAUTHORIZATION: Bearer A\r\nChatGPT-Account-Id: acct-a\r\nX-Odd:  a b \r\nx-odd: c\r\n";
        let table = [
            (
                "credentials and Host are ours; order, spelling and doubles are codex's",
                lines(WHOLE, Lane::Responses, true, false, false),
                "Host: chatgpt.com\nAUTHORIZATION: Bearer B\nChatGPT-Account-Id: acct-b\nX-Odd: a b\nx-odd: c\n",
            ),
            (
                "codex's own calls keep what they bring",
                lines(WHOLE, Lane::Standard, false, false, false),
                "Host: chatgpt.com\nAUTHORIZATION: Bearer A\nChatGPT-Account-Id: acct-a\nX-Odd: a b\nx-odd: c\n",
            ),
            (
                "what is missing is added",
                lines("Host: h\r\n", Lane::Responses, true, true, false),
                "Host: chatgpt.com\nauthorization: Bearer B\nchatgpt-account-id: acct-b\nx-openai-account-routing-override: us\n",
            ),
            (
                "but not to codex's own calls",
                lines("Host: h\r\n", Lane::Standard, false, false, false),
                "Host: chatgpt.com\n",
            ),
            (
                "hop by hop, and what was answered here",
                lines(
                    "Host: h\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nExpect: 100-continue\r\nContent-Length: 0\r\n",
                    Lane::Responses,
                    false,
                    false,
                    false,
                ),
                "Host: chatgpt.com\nContent-Length: 0\n",
            ),
            (
                "another account's turn state is left out",
                lines("Host: h\r\nx-codex-turn-state: t\r\nA: 1\r\n", Lane::Responses, false, false, true),
                "Host: chatgpt.com\nA: 1\n",
            ),
            (
                "its own stays",
                lines("Host: h\r\nx-codex-turn-state: t\r\nA: 1\r\n", Lane::Responses, false, false, false),
                "Host: chatgpt.com\nx-codex-turn-state: t\nA: 1\n",
            ),
            (
                "an upgrade without what could not be read here",
                lines(
                    "Host: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: k\r\n",
                    Lane::WebSocket,
                    false,
                    false,
                    false,
                ),
                "Host: chatgpt.com\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: k\n",
            ),
        ];
        for (name, is, expected) in table {
            assert_eq!(is, expected, "{name}");
        }
    }
}
