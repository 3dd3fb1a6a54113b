//! What the backend does with one request: what it says, and every way in which saying it can go wrong. The parts
//! combine freely; `plan.rs` turns one of these into bytes and events for the transport at hand.

use super::gate::Gate;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// What a backend in good health says to this kind of request.
    Default,
    /// A streamed message.
    Answer(String),
    /// A streamed function call `exec_command`, so that codex makes a second request in the same turn.
    ToolCall(String),
    Quota(QuotaForm, Where),
    /// An HTTP status with a body; on an open WebSocket the same as an error event with that status.
    Status(u16, String),
    /// One error event (`status` and the object `error`), whatever the transport.
    Error(StatusKey, u16, String, Stage),
    /// `response.failed` with this code and message.
    Failed(String, String, Stage),
    /// `response.incomplete` with this reason.
    Incomplete(String),
    /// Bytes in place of a response head; on an open WebSocket, in place of frames.
    Garbage(Vec<u8>),
}

/// The ways in which the backend says that an account is used up (wire.md 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaForm {
    /// The real one: by `type`, no `code`, with `resets_at`.
    UsageLimitReached,
    InsufficientQuota,
    RateLimitExceeded,
    UsageNotIncluded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In the body of this HTTP status (on `Kind::Handshake`: the answer to the upgrade).
    Status(u16),
    /// In an error event.
    Event(StatusKey, Stage),
    /// In `response.failed`.
    Failed(Stage),
}

/// How an error event spells its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKey {
    Status,
    StatusCode,
    /// Codex ignores such an event and keeps waiting.
    Absent,
}

/// What was sent before the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    First,
    /// After `response.created` and `response.in_progress`.
    Created,
    /// After the output began and this many deltas.
    Deltas(usize),
}

/// A place in the answer. On a WebSocket everything before the events means: before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    BeforeHead,
    /// After half of the bytes of the response head.
    InsideHead,
    AfterHead,
    /// After `response.created`, before `response.in_progress`.
    AfterCreated,
    AfterDeltas(usize),
    /// In the middle of the chunk or frame of this delta (0 is the first).
    InsideDelta(usize),
    /// After the last event, in place of the proper end.
    AtEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// FIN.
    Drop,
    /// RST.
    Reset,
    /// Silent, but open, until the client goes or the backend stops.
    Hang,
    /// A WebSocket close frame, then FIN. Over HTTP the same as `Drop`.
    Close(u16),
}

/// How an HTTP response says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Chunked,
    /// Chunks with extensions, and trailers after the last.
    ChunkedFancy,
    Length,
    UntilClose,
}

/// How server-sent events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sse {
    Lf,
    CrLf,
    /// A comment before each event.
    Comments,
    /// No `event:` lines.
    DataOnly,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Behave {
    pub say: Say,
    pub cut: Option<(Point, Cut)>,
    pub hold: Option<(Point, Gate)>,
    pub before: Duration,
    /// Between deltas.
    pub pace: Duration,
    pub deltas: usize,
    /// Pads each delta to at least this many bytes.
    pub delta_bytes: usize,
    pub framing: Framing,
    pub sse: Sse,
    /// Cuts an HTTP body into chunks of this size, wherever the events end.
    pub chunk_bytes: Option<usize>,
    /// Frames for each WebSocket message.
    pub frames: usize,
    /// WebSocket pings before each event.
    pub pings: usize,
    /// Interim responses before the head.
    pub interim: Vec<u16>,
    /// Added to the head; a header that is there already is replaced.
    pub headers: Vec<(String, String)>,
    /// Declared minus true `Content-Length`; the connection ends after the body.
    pub length_lie: isize,
    /// `response.completed` is left out and the stream ends cleanly.
    pub without_completed: bool,
    /// Answers before the request body was read, then closes.
    pub early: bool,
    /// Text events that nobody knows, before the answer.
    pub unknown_events: usize,
}

impl Behave {
    pub fn new(say: Say) -> Behave {
        Behave {
            say,
            cut: None,
            hold: None,
            before: Duration::ZERO,
            pace: Duration::ZERO,
            deltas: 3,
            delta_bytes: 0,
            framing: Framing::Chunked,
            sse: Sse::Lf,
            chunk_bytes: None,
            frames: 1,
            pings: 0,
            interim: Vec::new(),
            headers: Vec::new(),
            length_lie: 0,
            without_completed: false,
            early: false,
            unknown_events: 0,
        }
    }

    /// Uses this `times` times, then goes on to the next item of the queue (a last one: to the default).
    pub fn times(self, times: usize) -> Step {
        Step { behave: self, times: Some(times) }
    }

    pub fn cut(mut self, cut: Cut, point: Point) -> Behave {
        self.cut = Some((point, cut));
        self
    }

    /// Waits at `point` until the test opens the gate.
    pub fn hold(mut self, gate: &Gate, point: Point) -> Behave {
        self.hold = Some((point, gate.clone()));
        self
    }

    pub fn before(mut self, wait: Duration) -> Behave {
        self.before = wait;
        self
    }

    /// So many deltas, so long apart, each padded to `bytes`.
    pub fn stream(mut self, deltas: usize, bytes: usize, pace: Duration) -> Behave {
        (self.deltas, self.delta_bytes, self.pace) = (deltas, bytes, pace);
        self
    }

    pub fn framing(mut self, framing: Framing) -> Behave {
        self.framing = framing;
        self
    }

    pub fn sse(mut self, sse: Sse) -> Behave {
        self.sse = sse;
        self
    }

    pub fn chunk_bytes(mut self, bytes: usize) -> Behave {
        self.chunk_bytes = Some(bytes);
        self
    }

    pub fn frames(mut self, frames: usize) -> Behave {
        self.frames = frames;
        self
    }

    pub fn pings(mut self, pings: usize) -> Behave {
        self.pings = pings;
        self
    }

    pub fn interim(mut self, status: u16) -> Behave {
        self.interim.push(status);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Behave {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn lie_length(mut self, declared_minus_true: isize) -> Behave {
        (self.framing, self.length_lie) = (Framing::Length, declared_minus_true);
        self
    }

    pub fn without_completed(mut self) -> Behave {
        self.without_completed = true;
        self
    }

    pub fn early(mut self) -> Behave {
        self.early = true;
        self
    }

    pub fn unknown_events(mut self, count: usize) -> Behave {
        self.unknown_events = count;
        self
    }
}

/// One item of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub behave: Behave,
    /// How often; `None`: once, or for ever when it is the last one.
    pub times: Option<usize>,
}

impl From<Behave> for Step {
    fn from(behave: Behave) -> Step {
        Step { behave, times: None }
    }
}
