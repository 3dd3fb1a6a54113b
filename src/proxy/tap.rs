//! What a response body says while it passes: where it ends, the ids it gives, and whether the model has spoken.
//! Sans-IO; keeps no bytes but the beginning of the event under way.

use super::verdict::{self, Event};
use crate::wire::Malformed;
use crate::wire::body::{Body, Framing};
use crate::wire::sse::Events;

/// Of each event so much is looked at: types, ids and errors stand at the beginning of one.
pub const EVENT_PREFIX: usize = 16 * 1024;

/// Enough for every error body, and for the accounts of `accounts/check`.
pub const CAPTURE: usize = 64 * 1024;

pub struct Tap {
    body: Body,
    /// Absent for a body that is no event stream.
    events: Option<Events>,
    /// Response ids that were given since the last look.
    pub response_ids: Vec<String>,
    /// The first event that decides: the model spoke, or the turn ended.
    pub decided: Option<Event>,
    /// The event that ended the turn.
    pub terminal: Option<Event>,
    /// The last event that told of quotas, as it came.
    pub quotas: Option<Vec<u8>>,
    /// The first [`CAPTURE`] bytes of a body that is no event stream, without its framing: errors are read from it.
    pub captured: Vec<u8>,
}

impl Tap {
    pub fn new(framing: Framing, is_event_stream: bool) -> Tap {
        let events = is_event_stream.then(|| Events::new(EVENT_PREFIX));
        Tap {
            body: Body::new(framing),
            events,
            response_ids: Vec::new(),
            decided: None,
            terminal: None,
            quotas: None,
            captured: Vec::new(),
        }
    }

    pub fn is_event_stream(&self) -> bool {
        self.events.is_some()
    }

    /// Looks at the next bytes; gives how many of them belong to this body.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let Tap { body, events, response_ids, decided, terminal, quotas, captured } = self;
        body.feed(bytes, |payload| {
            let Some(events) = events else {
                let room = CAPTURE.saturating_sub(captured.len());
                captured.extend_from_slice(&payload[..payload.len().min(room)]);
                return;
            };
            events.feed(payload, |event| {
                let meaning = verdict::of_event(event.data);
                if meaning == Event::Preamble && verdict::tells_quotas(event.data) {
                    *quotas = Some(event.data.to_vec());
                } else if meaning == Event::Preamble
                    && let Some(id) = verdict::response_id(event.data)
                    && response_ids.last().is_none_or(|last| *last != id)
                {
                    response_ids.push(id.into_owned());
                }
                if decided.is_none() && meaning != Event::Preamble {
                    *decided = Some(meaning.clone());
                }
                if meaning.is_terminal() {
                    *terminal = Some(meaning);
                }
            });
        })
    }

    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    pub fn is_until_close(&self) -> bool {
        self.body.is_until_close()
    }

    /// The upstream closed: fine where the close marks the end.
    pub fn closed(&mut self) -> Result<(), Malformed> {
        self.body.closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_deciding_event_counts_and_ids_are_gathered() {
        let text = b"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\"}}\n\n\
            data: {\"type\":\"response.in_progress\",\"response\":{\"id\":\"r1\"}}\n\n\
            data: {\"type\":\"response.output_text.delta\"}\n\n\
            data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"usage_limit_reached\"}}}\n\n";
        for cut in 0..text.len() {
            let mut tap = Tap::new(Framing::Length(text.len() as u64), true);
            assert_eq!(tap.feed(&text[..cut]).unwrap() + tap.feed(&text[cut..]).unwrap(), text.len());
            assert!(tap.is_done());
            assert_eq!(tap.response_ids, ["r1"]);
            assert_eq!(tap.decided, Some(Event::Output));
            assert!(matches!(tap.terminal, Some(Event::Trouble(_))));
        }
    }

    #[test]
    fn another_body_is_only_measured() {
        let mut tap = Tap::new(Framing::Length(4), false);
        assert_eq!(tap.feed(b"data: x\n\n").unwrap(), 4);
        assert!(tap.is_done() && tap.decided.is_none());
    }
}
