//! Where a WebSocket turn stands, and what is kept of it while it may still move. Sans-IO.

use super::ProfileId;
use super::verdict::Trouble;
use crate::wire::frame::{Part, Prefix};
use std::time::Instant;

pub enum Turn {
    /// Nothing is asked.
    Idle,
    /// A message of codex is coming.
    Asking(Asking),
    /// Asked; the model has not spoken.
    Waiting(Box<Waiting>),
    /// The model speaks. Since when the last of it came.
    Open { last: Instant },
}

/// A message of codex as it comes: its frames, and its text.
pub struct Asking {
    pub raw: Vec<u8>,
    pub text: Prefix,
}

impl Asking {
    pub fn new(max: usize) -> Asking {
        Asking { raw: Vec::new(), text: Prefix::new(max) }
    }

    pub fn take(&mut self, part: &Part, raw: &[u8]) {
        self.raw.extend_from_slice(raw);
        self.text.take(part, raw);
    }
}

pub struct Waiting {
    /// Codex's message as frames, where it carries its full input: it can be sent again elsewhere.
    pub message: Option<Vec<u8>>,
    /// Frames that codex has not heard yet.
    pub held: Vec<u8>,
    /// Codex has heard nothing of this turn.
    pub holding: bool,
    /// The upstream's message under way.
    pub message_bytes: Vec<u8>,
    /// When it was sent to this upstream.
    pub since: Instant,
    /// When the upstream last said something, or else was asked.
    pub last: Instant,
    /// Nobody else can be asked: the upstream may take its time.
    pub patient: bool,
    /// When the upstream first said something.
    pub heard_since: Option<Instant>,
    pub tried: Vec<ProfileId>,
    pub response_id: Option<String>,
    pub turn_state: Option<String>,
    /// The best of the refusals so far, with what the backend said, as frames.
    pub refusal: Option<(Trouble, Vec<u8>)>,
}

impl Waiting {
    pub fn new(message: Option<Vec<u8>>, now: Instant) -> Waiting {
        Waiting {
            message,
            held: Vec::new(),
            holding: true,
            message_bytes: Vec::new(),
            since: now,
            last: now,
            patient: false,
            heard_since: None,
            tried: Vec::new(),
            response_id: None,
            turn_state: None,
            refusal: None,
        }
    }

    /// The turn can be asked elsewhere without codex noticing.
    pub fn may_replay(&self) -> bool {
        self.message.is_some() && self.holding
    }

    /// What was held; from here on nothing is.
    pub fn release(&mut self) -> Vec<u8> {
        self.holding = false;
        std::mem::take(&mut self.held)
    }

    /// Keeps the better of two refusals. A break has no words worth keeping.
    pub fn keep_refusal(&mut self, trouble: &Trouble, said: Vec<u8>) {
        let better = self.refusal.as_ref().is_none_or(|(kept, _)| trouble.better_than(kept));
        if better && *trouble != Trouble::Transport {
            self.refusal = Some((trouble.clone(), said));
        }
    }

    /// The same message goes to another upstream.
    pub fn start_over(&mut self, id: ProfileId, now: Instant) {
        self.held.clear();
        self.message_bytes.clear();
        self.since = now;
        self.last = now;
        self.patient = false;
        self.heard_since = None;
        self.response_id = None;
        self.turn_state = None;
        self.tried.retain(|tried| *tried != id);
    }
}
