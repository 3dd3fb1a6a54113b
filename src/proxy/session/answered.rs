//! The upstream's side of a session: its messages are judged and, until the model speaks, held back. What an event means is
//! `verdict`'s, what becomes of a turn that is refused `trouble`'s.

use super::{Over, Session, ends_its_frame, opcode};
use crate::proxy::journal::Marker;
use crate::proxy::limits::HOLD_BYTES;
use crate::proxy::record;
use crate::proxy::route::Lane;
use crate::proxy::tap::EVENT_PREFIX;
use crate::proxy::turn::Turn;
use crate::proxy::verdict::{self, Event};
use crate::sys::clock;
use crate::wire::frame::{self, Opcode, Part};

/// Protocol error, unacceptable data, bad text, policy, too big (RFC 6455 7.4.1).
const MESSAGE_FAULTS: [u16; 5] = [1002, 1003, 1007, 1008, 1009];

impl Session<'_> {
    pub(super) fn upstream_bytes(&mut self) -> Result<(), Over> {
        let mut bytes = std::mem::take(&mut self.io.upstream_in);
        let mut at = 0;
        loop {
            let Ok(next) = self.from_upstream.next(&bytes[at..]) else { return self.upstream_broke() };
            let Some((used, part)) = next else { break };
            let raw = &bytes[at..at + used];
            at += used;
            if opcode(&part).is_control() {
                let asked = matches!(self.turn, Turn::Waiting(_)) && !self.closing;
                self.upstream_control.extend_from_slice(raw);
                if ends_its_frame(&part) {
                    if opcode(&part) == Opcode::Close && asked && !self.blames_the_message() {
                        return self.upstream_broke();
                    }
                    if opcode(&part) == Opcode::Close {
                        self.give_up_turn();
                    }
                    self.io.to_client.push(&self.upstream_control);
                    self.upstream_control.clear();
                }
                continue;
            }
            if matches!(part, Part::Header(header) if header.opcode != Opcode::Continuation) {
                self.judged = None;
            }
            self.heard.take(&part, raw);
            let generation = self.generation;
            self.message_bytes(raw, self.from_upstream.message_ended())?;
            if self.generation != generation {
                // The turn moved: what is left came from the link before.
                return Ok(());
            }
        }
        bytes.drain(..at);
        self.io.upstream_in = bytes;
        Ok(())
    }

    /// Nothing moves any more: codex hears what there is.
    fn give_up_turn(&mut self) {
        if let Turn::Waiting(waiting) = &mut self.turn {
            let held = waiting.release();
            self.io.to_client.push(&held);
            self.turn = Turn::Idle;
            self.place = None;
        }
    }

    /// The close frame of the upstream says that codex's message is at fault: no other account would take it.
    fn blames_the_message(&self) -> bool {
        // A server's frame has no mask, and a close frame a header of two bytes (RFC 6455 5.2).
        let code = self.upstream_control.get(2..).and_then(|payload| frame::close_code(payload).ok().flatten());
        code.is_some_and(|code| MESSAGE_FAULTS.contains(&code))
    }

    /// The next bytes of a data message, judged as soon as enough of it is there.
    fn message_bytes(&mut self, raw: &[u8], ended: bool) -> Result<(), Over> {
        let enough = ended || self.heard.bytes().len() >= EVENT_PREFIX;
        let mut first_look = self.judged.is_none() && enough;
        if first_look {
            self.judged = Some(verdict::of_event(self.heard.bytes()));
            if ended && self.judged == Some(Event::Preamble) && verdict::tells_quotas(self.heard.bytes()) {
                self.shared.scout.event(self.link.id, self.heard.bytes());
                // It names no response and no turn state.
                first_look = false;
            }
        }
        if let Turn::Waiting(waiting) = &mut self.turn {
            waiting.last = clock::now();
            waiting.heard_since.get_or_insert(waiting.last);
            waiting.message_bytes.extend_from_slice(raw);
            match self.judged.clone() {
                // Pieces without a payload show nothing to judge, and are held no further than others.
                None => {
                    if waiting.message_bytes.len() > HOLD_BYTES {
                        self.commit();
                    }
                    Ok(())
                }
                Some(Event::Preamble) => {
                    self.preamble(first_look);
                    Ok(())
                }
                Some(Event::Trouble(trouble)) => {
                    // An error is short: its end is waited for, so that it can be passed on whole.
                    if !ended && waiting.message_bytes.len() <= HOLD_BYTES {
                        return Ok(());
                    }
                    if !ended {
                        self.commit();
                        return Ok(());
                    }
                    let message = std::mem::take(&mut waiting.message_bytes);
                    self.trouble(&trouble, &message)
                }
                Some(event) => {
                    self.commit();
                    self.spoken(&event, ended);
                    Ok(())
                }
            }
        } else {
            self.io.to_client.push(raw);
            if let Some((_, progress)) = &mut self.lap {
                progress.bytes += raw.len() as u64;
            }
            if let Turn::Open { last } = &mut self.turn {
                *last = clock::now();
                if let Some(event) = self.judged.clone() {
                    self.spoken(&event, ended);
                }
            }
            Ok(())
        }
    }

    /// An event that codex shows nothing of: held back while the turn may still move.
    fn preamble(&mut self, first_look: bool) {
        let Turn::Waiting(waiting) = &mut self.turn else { return };
        if first_look {
            waiting.response_id =
                verdict::response_id(self.heard.bytes()).map(Into::into).or(waiting.response_id.take());
            waiting.turn_state = verdict::turn_state(self.heard.bytes()).map(Into::into).or(waiting.turn_state.take());
        }
        let bytes = std::mem::take(&mut waiting.message_bytes);
        if waiting.holding {
            waiting.held.extend_from_slice(&bytes);
            if waiting.held.len() > HOLD_BYTES {
                let held = waiting.release();
                self.io.to_client.push(&held);
            }
        } else {
            self.io.to_client.push(&bytes);
        }
    }

    /// The model speaks: all that was held goes to codex, and nothing is retried from here on.
    fn commit(&mut self) {
        let Turn::Waiting(waiting) = std::mem::replace(&mut self.turn, Turn::Open { last: clock::now() }) else {
            return;
        };
        let mut waiting = *waiting;
        let held = waiting.release();
        self.io.to_client.push(&held);
        self.io.to_client.push(&waiting.message_bytes);
        if let Some((_, progress)) = &mut self.lap {
            let now = clock::now();
            (progress.committed, progress.first) = (Some(now), Some(now));
            progress.bytes = (held.len() + waiting.message_bytes.len()) as u64;
        }
        let id = self.link.id;
        record::commit(self.shared, self.tag, id, self.opening.session, true);
        if let Some(response) = waiting.response_id {
            record::response(self.shared, &response, id);
        }
        if let Some(turn_state) = waiting.turn_state {
            record::turn_state(self.shared, &turn_state, id);
        }
        if let Some(turn_state) = waiting.repeated_state {
            self.shared.ledger.follow(&turn_state, id);
        }
    }

    /// Follows a turn that codex hears already.
    fn spoken(&mut self, event: &Event, ended: bool) {
        if !ended || !event.is_terminal() {
            return;
        }
        self.shared.journal.mark(
            self.tag,
            Marker::TerminalEvent,
            format_args!("profile={} event={event:?}", self.shared.name(self.link.id)),
        );
        match event {
            Event::Completed => {
                if let Some((_, serving)) = &self.place {
                    self.shared.ledger.succeed(serving, Lane::WebSocket, self.opening.session);
                }
            }
            // Too late for this turn, in time for the next.
            Event::Trouble(trouble) => self.record(trouble),
            _ => {}
        }
        self.link.turns += 1;
        self.lap_ends("whole");
        self.place = None;
        self.turn = Turn::Idle;
    }
}
