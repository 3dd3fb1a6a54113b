//! The way out: names to addresses, TCP, the user's HTTP proxy, TLS, and one non-blocking stream type with deadlines over
//! all of them. Knows no HTTP beyond `fetch`'s one request and `tunnel`'s CONNECT, and nothing of profiles.

pub mod dial;
pub mod fetch;
pub mod stream;
pub mod tls;
mod tunnel;
pub mod way_out;

use std::fmt;
use std::os::fd::RawFd;
use std::time::Instant;

/// How long a blocking step may take, and whose hang-up ends it early.
#[derive(Clone, Copy)]
pub struct Patience {
    pub until: Instant,
    /// The downstream socket: work for a client that left is not worth finishing.
    pub client: Option<RawFd>,
}

impl Patience {
    pub fn until(until: Instant) -> Patience {
        Patience { until, client: None }
    }
}

/// Which step of an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Resolve,
    Connect,
    Tls,
    Send,
    Head,
    Body,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Send => "send",
            Phase::Head => "head",
            Phase::Body => "body",
        }
    }
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The deadline of the step passed.
    Deadline,
    /// The client on whose behalf it was done hung up: nobody's fault upstream.
    ClientGone,
    /// The peer closed the connection before it said all.
    Closed,
    /// The peer broke the protocol, in these words.
    Malformed(String),
    /// The operating system or TLS said so.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetError {
    pub phase: Phase,
    /// Whom we talked to, `host:port`.
    pub peer: String,
    pub cause: Cause,
}

impl NetError {
    pub fn client_gone(&self) -> bool {
        self.cause == Cause::ClientGone
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.peer;
        match self.phase {
            Phase::Resolve => write!(f, "cannot find the address of {peer}"),
            Phase::Connect => write!(f, "cannot connect to {peer}"),
            Phase::Tls => write!(f, "no secure connection to {peer}"),
            Phase::Send => write!(f, "cannot send the request to {peer}"),
            Phase::Head => write!(f, "no answer from {peer}"),
            Phase::Body => write!(f, "the answer of {peer} broke off"),
        }?;
        match &self.cause {
            Cause::Deadline => f.write_str(": it took too long"),
            Cause::ClientGone => f.write_str(": the client hung up"),
            Cause::Closed => f.write_str(": it closed the connection"),
            Cause::Malformed(what) => write!(f, ": not HTTP as it should be: {what}"),
            Cause::Failed(what) => write!(f, ": {what}"),
        }
    }
}

impl std::error::Error for NetError {}
