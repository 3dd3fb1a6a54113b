//! What the stand-in saw, for tests to look at. Knows no behaviour; a record is opened when a request was recognised
//! and filled in as it goes.

use super::script::Kind;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Http,
    Ws,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    Running,
    /// The behaviour ran to its end.
    Done,
    /// The script ended the connection.
    Cut,
    /// The client went away first.
    ClientGone,
    /// The client broke the protocol.
    Malformed(String),
    /// The backend was stopped first.
    Stopped,
}

/// One request: an HTTP exchange, an upgrade, or one message on an open WebSocket.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its place in the list; arrival order.
    pub at: usize,
    /// Which TCP connection it came on, to prove reuse.
    pub connection: u64,
    /// By bearer token.
    pub account: Option<String>,
    pub transport: Transport,
    pub kind: Kind,
    pub method: String,
    pub target: String,
    /// In wire order, names as they were written. For a message: those of its upgrade.
    pub headers: Vec<(String, String)>,
    /// The first mebibyte, not decoded.
    pub body: Vec<u8>,
    pub body_length: u64,
    pub previous_response_id: Option<String>,
    /// The turn state that the request carried, in a header or in `client_metadata`.
    pub turn_state: Option<String>,
    /// `chatgpt-account-id` named another account than the token.
    pub mismatch: bool,
    /// The turn state, or the previous response id, was issued to another account (or to nobody).
    pub foreign: bool,
    /// The response id that was issued.
    pub response_id: Option<String>,
    /// HTTP status of the answer, once one was sent.
    pub status: Option<u16>,
    /// An output item or later was handed to the socket.
    pub output_began: bool,
    /// Bytes handed to the socket for this answer.
    pub sent: u64,
    pub finished: Finished,
    pub began: Instant,
    pub ended: Option<Instant>,
    /// The behaviour, for people.
    pub did: String,
}

pub const BODY_STORED: usize = 1 << 20;

impl Record {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn is(&self, account: &str, kind: &Kind) -> bool {
        self.account.as_deref() == Some(account) && self.kind == *kind
    }

    /// One line for people; no header, no body.
    pub fn line(&self) -> String {
        let account = self.account.as_deref().unwrap_or("-");
        let status = self.status.map_or(String::new(), |status| format!(" {status}"));
        let output = if self.output_began { " output" } else { "" };
        let kind = format!("{:?}", self.kind).to_lowercase();
        format!(
            "#{} connection={} account={account} {:?} {kind}{status}{output} {} -> {:?}",
            self.at, self.connection, self.transport, self.did, self.finished
        )
    }
}

pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
