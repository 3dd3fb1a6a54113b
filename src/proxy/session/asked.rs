//! Codex's side of a session: its frames, and the turn that begins with a whole message of it. Knows nothing of answers.

use super::trouble::Another;
use super::{Over, Session, ends_its_frame, opcode};
use crate::proxy::admission;
use crate::proxy::affinity::Key;
use crate::proxy::deliver::{Progress, Trace};
use crate::proxy::journal::Marker;
use crate::proxy::route::Lane;
use crate::proxy::select::{Ask, Decision, HARD_CAP, Why};
use crate::proxy::turn::{self, Asking, Turn, Waiting};
use crate::sys::clock;
use crate::wire::frame::{self, Opcode};
use crate::wire::json;

/// Codex's own limit for a message (`wire.md` 3.2).
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

impl Session<'_> {
    pub(super) fn client_bytes(&mut self) -> Result<(), Over> {
        let mut bytes = std::mem::take(&mut self.io.client_in);
        let mut at = 0;
        while let Some((used, part)) = self.from_client.next(&bytes[at..]).map_err(Over::from_client)? {
            let raw = &bytes[at..at + used];
            at += used;
            if opcode(&part).is_control() {
                self.closing |= opcode(&part) == Opcode::Close;
                self.client_control.extend_from_slice(raw);
                if ends_its_frame(&part) {
                    self.io.to_upstream.push(&self.client_control);
                    self.client_control.clear();
                }
                continue;
            }
            // RFC 6455 5.5.1: data after a close is for nobody.
            if self.closing {
                continue;
            }
            if matches!(self.turn, Turn::Idle) {
                self.turn = Turn::Asking(Asking::new(MAX_MESSAGE));
            }
            match &mut self.turn {
                Turn::Asking(asking) => {
                    asking.take(&part, raw);
                    if asking.raw.len() > MAX_MESSAGE {
                        return Err(Over::TooLarge);
                    }
                    if self.from_client.message_ended() {
                        self.begin()?;
                    }
                }
                // Codex asks one thing at a time; what else it says in a turn is passed on as it comes.
                _ => self.io.to_upstream.push(raw),
            }
        }
        bytes.drain(..at);
        self.io.client_in = bytes;
        Ok(())
    }

    /// A whole message of codex is here: a turn begins, on this link or a better one.
    fn begin(&mut self) -> Result<(), Over> {
        let Turn::Asking(asking) = std::mem::replace(&mut self.turn, Turn::Idle) else { return Ok(()) };
        let text = asking.text.bytes();
        if json::peek_str(text, &["type"]).as_deref() != Some("response.create") {
            self.io.to_upstream.push(&asking.raw);
            return Ok(());
        }
        let previous = json::peek_str(text, &["previous_response_id"]);
        let owner = previous.as_deref().and_then(|id| self.shared.ledger.owner(Key::Response(id)));
        let waiting = Waiting::new(previous.is_none().then(|| asking.raw.clone()), clock::now());
        self.turn = Turn::Waiting(Box::new(waiting));
        self.tag = self.shared.tag(Lane::WebSocket);
        let mut trace = Trace::new(self.tag);
        trace.attempts = 1;
        self.lap = Some((trace, Progress::default()));
        // Before its own work counts.
        let is_elsewhere = owner.is_none() && previous.is_none() && (self.is_out() || self.is_better_elsewhere());
        match admission::admit(self.shared, self.tag, &self.opening.route.path) {
            Ok(slot) => {
                let id = self.link.id;
                self.place = Some((slot, self.shared.ledger.enter(id)));
                let (name, count) = (self.shared.name(id), self.shared.ledger.inflight(id));
                let fields = format_args!("profile={name} count={count} context=websocket_session event=acquire");
                self.shared.journal.note(Marker::Inflight, fields);
                if count > HARD_CAP {
                    let fields = format_args!("profile={name} hard_limit={HARD_CAP}");
                    self.shared.journal.mark(self.tag, Marker::InflightSaturated, fields);
                }
            }
            Err(why) => {
                self.io.to_client.push(&refusal(&why));
                return Err(Over::NoPlace);
            }
        }
        let better = match owner {
            Some(owner) if owner != self.link.id => Some(Ask { owner: Some(owner), ..Ask::default() }),
            None if is_elsewhere => Some(Ask { movable: true, ..Ask::default() }),
            _ => None,
        };
        if let Some(mut ask) = better {
            match self.another(&mut ask)? {
                Another::Link(link) => self.switch(*link),
                // Nobody but its owner knows what it goes on from: codex comes back with its full input. Sent away often
                // enough, it hears what the backend says to that.
                Another::NoSocket | Another::Nobody if owner.is_some() && self.bounces("owner") => {
                    return Err(Over::Bounced);
                }
                Another::NoSocket | Another::Nobody => {}
            }
        }
        let repeated = turn::turn_state(asking.text.bytes());
        if let Turn::Waiting(waiting) = &mut self.turn {
            waiting.repeated_state.clone_from(&repeated);
        }
        self.send(asking.raw, repeated.as_deref());
        Ok(())
    }

    /// Sends a message of codex on this link, without a turn state that another account issued (`wire.md` 4).
    pub(super) fn send(&mut self, mut message: Vec<u8>, turn_state: Option<&str>) {
        let owner = turn_state.and_then(|state| self.shared.ledger.owner(Key::TurnState(state)));
        if owner.is_some_and(|owner| owner != self.link.id) {
            turn::leave_out_turn_state(&mut message);
        }
        self.io.to_upstream.push(&message);
    }

    /// The first turn of a session that is nobody's yet is fresh work, whoever was free when its socket was opened.
    fn is_better_elsewhere(&self) -> bool {
        let is_bound = |session| self.shared.ledger.owner(Key::Session(session)).is_some();
        if self.link.turns > 0 || self.opening.session.is_some_and(is_bound) {
            return false;
        }
        let ask = Ask { movable: true, ..Ask::default() };
        match self.shared.ledger.select(&ask, Lane::WebSocket, &self.shared.wallet) {
            Decision::Use(id, why) => id != self.link.id && why != Why::LastResort,
            Decision::Refuse => false,
        }
    }

    /// This link's profile has become unusable since it was opened, and somebody else is there.
    fn is_out(&self) -> bool {
        let ask = Ask { session: Some(self.link.id), movable: true, ..Ask::default() };
        match self.shared.ledger.select(&ask, Lane::WebSocket, &self.shared.wallet) {
            Decision::Use(id, why) => id != self.link.id && why != Why::LastResort,
            Decision::Refuse => false,
        }
    }
}

/// A local 503 as a WebSocket has it (`wire.md` 3.5): codex tries again a little later.
fn refusal(why: &str) -> Vec<u8> {
    let mut event =
        "{\"type\":\"error\",\"status\":503,\"error\":{\"code\":\"service_unavailable\",\"message\":".to_owned();
    json::write_string(&mut event, why);
    event.push_str("}}");
    let mut bytes = Vec::new();
    frame::write(&mut bytes, Opcode::Text, None, event.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_the_words_of_a_websocket() {
        let bytes = refusal("no \"place\"");
        let text = "{\"type\":\"error\",\"status\":503,\"error\":{\"code\":\"service_unavailable\",\"message\":\"no \\\"place\\\"\"}}";
        // One whole text frame without a mask.
        assert_eq!(bytes, [&[0x81, text.len() as u8], text.as_bytes()].concat());
    }
}
