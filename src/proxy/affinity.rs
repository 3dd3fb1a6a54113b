//! What belongs to whom: response ids, turn states and sessions to the profile that created them (spec S-54). Pure.
//! Knows neither requests nor the disk, where `bindings` keeps it.

use super::ProfileId;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

/// Bounds of 0.2.38 (spec S-22), here and on disk; the oldest goes first.
pub const MAX_RESPONSES: usize = 16_384;
pub const MAX_SESSIONS: usize = 4_096;
pub const MAX_TURN_STATES: usize = 4_096;
/// An id longer than this many bytes is not remembered, here or on disk: real ones have about 60, a turn state a few hundred.
pub const MAX_ID: usize = 4_096;

/// Header names that carry the session, newest spelling first (0.169 sends the first two, 0.118 the third).
pub const SESSION_HEADERS: [&str; 5] =
    ["session-id", "thread-id", "session_id", "conversation_id", "x-client-request-id"];
pub const TURN_STATE_HEADER: &str = "x-codex-turn-state";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    Response(&'a str),
    Session(&'a str),
    /// Who issued it.
    TurnState(&'a str),
    /// Where the turn that carries it went since: codex repeats its first turn state to the end of the turn.
    Turn(&'a str),
}

pub struct Affinity {
    responses: Owners,
    sessions: Owners,
    turn_states: Owners,
    turns: Owners,
}

impl Default for Affinity {
    fn default() -> Affinity {
        Affinity {
            responses: Owners::new(MAX_RESPONSES),
            sessions: Owners::new(MAX_SESSIONS),
            turn_states: Owners::new(MAX_TURN_STATES),
            turns: Owners::new(MAX_TURN_STATES),
        }
    }
}

impl Affinity {
    /// From here on `key` belongs to `owner`. True when that is news.
    pub fn learn(&mut self, key: Key<'_>, owner: ProfileId) -> bool {
        match key {
            Key::Response(id) => self.responses.learn(id, owner),
            Key::Session(id) => self.sessions.learn(id, owner),
            Key::TurnState(id) => self.turn_states.learn(id, owner),
            Key::Turn(id) => self.turns.learn(id, owner),
        }
    }

    pub fn owner(&self, key: Key<'_>) -> Option<ProfileId> {
        match key {
            Key::Response(id) => self.responses.owner(id),
            Key::Session(id) => self.sessions.owner(id),
            Key::TurnState(id) => self.turn_states.owner(id),
            Key::Turn(id) => self.turns.owner(id).or_else(|| self.turn_states.owner(id)),
        }
    }
}

/// What a request says about where it belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims<'a> {
    pub previous_response: Option<Cow<'a, str>>,
    pub turn_state: Option<&'a str>,
    pub session: Option<&'a str>,
}

impl<'a> Claims<'a> {
    /// From the headers, by `value` of a name.
    pub fn of_headers(value: impl Fn(&str) -> Option<&'a str>) -> Claims<'a> {
        Claims {
            previous_response: None,
            turn_state: value(TURN_STATE_HEADER).filter(|text| !text.is_empty()),
            session: SESSION_HEADERS.iter().find_map(|name| value(name).filter(|text| !text.is_empty())),
        }
    }
}

/// A bounded map that forgets the oldest.
struct Owners {
    by_id: HashMap<Box<str>, ProfileId>,
    order: VecDeque<Box<str>>,
    capacity: usize,
}

impl Owners {
    fn new(capacity: usize) -> Owners {
        Owners { by_id: HashMap::new(), order: VecDeque::new(), capacity }
    }

    fn owner(&self, id: &str) -> Option<ProfileId> {
        self.by_id.get(id).copied()
    }

    fn learn(&mut self, id: &str, owner: ProfileId) -> bool {
        if id.is_empty() || id.len() > MAX_ID {
            return false;
        }
        if let Some(known) = self.by_id.get_mut(id) {
            return std::mem::replace(known, owner) != owner;
        }
        if self.order.len() == self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        self.order.push_back(id.into());
        self.by_id.insert(id.into(), owner);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProfileId = ProfileId(0);
    const B: ProfileId = ProfileId(1);

    #[test]
    fn remembers_who_created_what() {
        let mut affinity = Affinity::default();
        assert!(affinity.learn(Key::Response("r"), A));
        assert!(!affinity.learn(Key::Response("r"), A), "no news");
        assert!(affinity.learn(Key::Session("r"), B), "the same text is another key");
        assert_eq!(affinity.owner(Key::Response("r")), Some(A));
        assert_eq!(affinity.owner(Key::Session("r")), Some(B));
        assert_eq!(affinity.owner(Key::TurnState("r")), None);
        assert!(affinity.learn(Key::Session("r"), A), "a session moves");
        assert_eq!(affinity.owner(Key::Session("r")), Some(A));
    }

    #[test]
    fn a_turn_moves_and_its_state_stays_its_issuers() {
        let mut affinity = Affinity::default();
        assert_eq!(affinity.owner(Key::Turn("ts")), None);
        affinity.learn(Key::TurnState("ts"), A);
        assert_eq!(affinity.owner(Key::Turn("ts")), Some(A));
        affinity.learn(Key::Turn("ts"), B);
        assert_eq!([Key::Turn("ts"), Key::TurnState("ts")].map(|key| affinity.owner(key)), [Some(B), Some(A)]);
    }

    #[test]
    fn forgets_the_oldest_and_ignores_monsters() {
        let mut owners = Owners::new(2);
        for id in ["1", "2", "3"] {
            owners.learn(id, A);
        }
        assert_eq!([owners.owner("1"), owners.owner("2"), owners.owner("3")], [None, Some(A), Some(A)]);
        assert!(!owners.learn(&"x".repeat(MAX_ID + 1), A));
        assert!(!owners.learn("", A));
        assert_eq!(owners.order.len(), 2);
    }

    #[test]
    fn sessions_in_every_spelling() {
        for name in SESSION_HEADERS {
            let claims = Claims::of_headers(|asked| (asked == name).then_some("s"));
            assert_eq!(claims.session, Some("s"), "{name}");
        }
        let both = Claims::of_headers(|name| match name {
            "session_id" => Some("old"),
            "session-id" => Some("new"),
            TURN_STATE_HEADER => Some(""),
            _ => None,
        });
        assert_eq!(both, Claims { session: Some("new"), ..Claims::default() });
    }
}
