//! Where a WebSocket turn stands, and what is kept of it while it may still move. Sans-IO.

use super::ProfileId;
use super::affinity::TURN_STATE_HEADER;
use super::verdict::Trouble;
use crate::wire::frame::{From, Part, Prefix, Reader};
use crate::wire::json::{self, Peek, Raw};
use std::ops::Range;
use std::time::{Duration, Instant};

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

/// With somebody else to ask, an upstream that says nothing at all to a turn is left after this.
const FIRST_EVENT: Duration = Duration::from_secs(30);

/// What helps a turn that its account does not serve, before codex must hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Codex must hear of it.
    None,
    /// Its message is asked again elsewhere.
    AskOthers,
    AskOwner,
    /// It hangs on a previous response: codex comes back with its full input, and that goes elsewhere.
    BackToOthers,
    BackToOwner,
}

/// `replayable`: the message has its full input and codex has heard nothing; `owner`: the session's account is known and
/// was not asked.
pub fn remedy(trouble: &Trouble, closing: bool, replayable: bool, owner: bool) -> Remedy {
    match (trouble == &Trouble::ForeignContent, replayable) {
        _ if closing => Remedy::None,
        (true, _) if !owner => Remedy::None,
        (true, true) => Remedy::AskOwner,
        (true, false) => Remedy::BackToOwner,
        (false, true) => Remedy::AskOthers,
        (false, false) => Remedy::BackToOthers,
    }
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

/// The turn state that a message of codex repeats (`wire.md` 4).
pub fn turn_state(text: &[u8]) -> Option<String> {
    json::peek_str(text, &["client_metadata", TURN_STATE_HEADER]).map(Into::into)
}

/// Takes the turn state out of a message: spaces in its place, in the frames as they stand.
pub fn leave_out_turn_state(frames: &mut [u8]) {
    let (mut text, mut reader, mut at) = (Prefix::new(frames.len()), Reader::new(From::Client), 0);
    while let Ok(Some((used, part))) = reader.next(&frames[at..]) {
        text.take(&part, &frames[at..at + used]);
        at += used;
    }
    let Peek::Found(metadata) = json::peek(text.bytes(), &["client_metadata"]) else { return };
    if let Some(span) = member_span(text.bytes(), &metadata) {
        blank(frames, &span);
    }
}

/// Where the turn state stands among the metadata, with the comma that goes with it.
fn member_span(text: &[u8], metadata: &Raw<'_>) -> Option<Range<usize>> {
    let mut start = metadata.span().start + 1;
    let mut first = true;
    for (name, value) in metadata.members() {
        let end = value.span().end;
        if name == TURN_STATE_HEADER {
            let comma = text[end..].iter().position(|byte| !byte.is_ascii_whitespace());
            let comma = comma.map(|at| end + at).filter(|at| first && text[*at] == b',');
            return Some(start..comma.map_or(end, |at| at + 1));
        }
        (start, first) = (end, false);
    }
    None
}

/// Overwrites a part of a message's text with spaces.
fn blank(frames: &mut [u8], span: &Range<usize>) {
    let mut reader = Reader::new(From::Client);
    let (mut at, mut behind) = (0, 0);
    while let Ok(Some((used, part))) = reader.next(&frames[at..]) {
        if let Part::Payload { frame, offset, len } = part {
            let mask = frame.mask.unwrap_or_default();
            for (index, byte) in frames[at..at + len].iter_mut().enumerate() {
                if span.contains(&(behind + index)) {
                    *byte = b' ' ^ mask[(offset as usize + index) % 4];
                }
            }
            behind += len;
        }
        at += used;
    }
}

pub struct Waiting {
    /// Codex's message as frames, where it carries its full input: it can be sent again elsewhere.
    pub message: Option<Vec<u8>>,
    /// The turn state in it.
    pub repeated_state: Option<String>,
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
    /// Whose login was made good during this turn: once each.
    pub renewed: Vec<ProfileId>,
    pub response_id: Option<String>,
    pub turn_state: Option<String>,
    /// The best of the refusals so far, with what the backend said, as frames.
    pub refusal: Option<(Trouble, Vec<u8>)>,
}

impl Waiting {
    pub fn new(message: Option<Vec<u8>>, now: Instant) -> Waiting {
        Waiting {
            message,
            repeated_state: None,
            held: Vec::new(),
            holding: true,
            message_bytes: Vec::new(),
            since: now,
            last: now,
            patient: false,
            heard_since: None,
            tried: Vec::new(),
            renewed: Vec::new(),
            response_id: None,
            turn_state: None,
            refusal: None,
        }
    }

    /// The turn can be asked elsewhere without codex noticing.
    pub fn may_replay(&self) -> bool {
        self.message.is_some() && self.holding
    }

    /// Until when something must happen: what is held is let go, another account is asked, or the socket ends.
    pub fn until(&self, hold: Duration, idle: Duration) -> Instant {
        match self.heard_since {
            Some(since) if self.holding => since + hold,
            None if self.may_replay() && !self.patient => self.since + FIRST_EVENT,
            _ => self.last + idle,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{self, Opcode};

    const MASK: Option<[u8; 4]> = Some([7, 99, 180, 3]);

    /// The text without its turn state, sent in two frames.
    fn left(text: &str) -> String {
        let (start, end) = text.split_at(text.len() / 2);
        let mut frames = Vec::new();
        frame::write(&mut frames, Opcode::Text, MASK, start.as_bytes());
        frames[0] &= 0x7f;
        frame::write(&mut frames, Opcode::Continuation, MASK, end.as_bytes());
        leave_out_turn_state(&mut frames);
        let (mut reader, mut asking, mut at) = (Reader::new(From::Client), Asking::new(1024), 0);
        while let Some((used, part)) = reader.next(&frames[at..]).unwrap() {
            asking.take(&part, &frames[at..at + used]);
            at += used;
        }
        String::from_utf8(asking.text.bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_helps_a_turn_in_trouble() {
        let quota = Trouble::Quota { resets_at: None, retry_after: None };
        let foreign = Trouble::ForeignContent;
        // Codex closes, the message can be sent again, the owner is known.
        let table = [
            (&quota, false, true, true, Remedy::AskOthers),
            (&quota, false, false, true, Remedy::BackToOthers),
            (&quota, true, true, true, Remedy::None),
            (&Trouble::Transport, false, true, false, Remedy::AskOthers),
            (&Trouble::Unauthorized, false, false, false, Remedy::BackToOthers),
            (&foreign, false, true, true, Remedy::AskOwner),
            (&foreign, false, false, true, Remedy::BackToOwner),
            (&foreign, false, true, false, Remedy::None),
            (&foreign, true, false, true, Remedy::None),
        ];
        for (trouble, closing, replayable, owner, expected) in table {
            let is = remedy(trouble, closing, replayable, owner);
            assert_eq!(is, expected, "{trouble:?} {closing} {replayable} {owner}");
        }
    }

    #[test]
    fn until_when_a_turn_may_wait() {
        let (hold, idle, first) = (Duration::from_secs(10), Duration::from_secs(330), Duration::from_secs(30));
        let t0 = Instant::now();
        let (heard, later) = (t0 + Duration::from_secs(3), t0 + Duration::from_secs(5));
        // The message can be sent again, nobody else can be asked, something was heard, it is held back.
        for (message, patient, is_heard, holding, expected) in [
            (true, false, false, true, t0 + first),
            (false, false, false, true, later + idle),
            (true, true, false, true, later + idle),
            (true, false, true, true, heard + hold),
            (true, true, true, true, heard + hold),
            (true, false, true, false, later + idle),
        ] {
            let mut waiting = Waiting::new(message.then(Vec::new), t0);
            (waiting.patient, waiting.holding, waiting.last) = (patient, holding, later);
            waiting.heard_since = is_heard.then_some(heard);
            assert_eq!(waiting.until(hold, idle), expected, "{message} {patient} {is_heard} {holding}");
        }
    }

    #[test]
    fn a_turn_state_leaves_and_the_rest_stays() {
        let without = |text: &str| left(text).replace(' ', "");
        for (text, rest) in [
            (
                r#"{"a":1,"client_metadata":{"x":"1","x-codex-turn-state":"ts","y":"2"}}"#,
                r#"{"a":1,"client_metadata":{"x":"1","y":"2"}}"#,
            ),
            (
                r#"{"client_metadata":{"x":"1", "x-codex-turn-state" : "ts"} ,"b":[]}"#,
                r#"{"client_metadata":{"x":"1"},"b":[]}"#,
            ),
            (r#"{"client_metadata":{"x-codex-turn-state":"t\"s" , "y":"2"}}"#, r#"{"client_metadata":{"y":"2"}}"#),
            (r#"{"client_metadata":{"x-codex-turn-state":"ts"}}"#, r#"{"client_metadata":{}}"#),
            (r#"{"client_metadata":{"x":"x-codex-turn-state"}}"#, r#"{"client_metadata":{"x":"x-codex-turn-state"}}"#),
            (r#"{"x-codex-turn-state":"ts"}"#, r#"{"x-codex-turn-state":"ts"}"#),
            (r#"{"client_metadata":7}"#, r#"{"client_metadata":7}"#),
        ] {
            assert_eq!(without(text), rest);
            assert_eq!(left(text).len(), text.len(), "no byte more or less");
            assert!(Raw::parse(left(text).as_bytes()).is_ok());
        }
    }
}
