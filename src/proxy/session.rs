//! An open WebSocket session: one loop that moves frames both ways through bounded buffers, one turn after the other. Before
//! the model speaks a turn may still move: its message is kept and sent again elsewhere, or, where it hangs on a previous
//! response, the socket is ended so that codex comes back with its full input (`wire.md` 0.6, 3.5). The loop is here;
//! what each side says is for `asked` and `answered`, a turn that is refused for `trouble`.

mod answered;
mod asked;
mod trouble;

use super::Shared;
use super::deliver::{Progress, Trace};
use super::dial::{Link, Opening};
use super::downstream::Client;
use super::duplex::{Duplex, Moved, Outbox, Read};
use super::journal::{Marker, Tag};
use super::lane::Slot;
use super::ledger::Serving;
use super::select::Ask;
use super::tap::EVENT_PREFIX;
use super::turn::Turn;
use super::verdict::{Event, Trouble};
use crate::wire::Malformed;
use crate::wire::frame::{self, From, Opcode, Part, Prefix, Reader};
use std::time::Instant;

/// Close codes of RFC 6455 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const TOO_BIG: u16 = 1009;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Client,
    Upstream,
    /// Ended by us, so that codex resends its full input.
    Bounced,
    Idle,
    Malformed,
    TooLarge,
    /// The lane is full.
    NoPlace,
}

impl Over {
    /// For the log: who ended it, or what.
    fn name(self) -> &'static str {
        match self {
            Over::Client => "client",
            Over::Upstream => "upstream",
            Over::Bounced => "bounced",
            Over::Idle => "idle",
            Over::Malformed => "malformed",
            Over::TooLarge => "too_large",
            Over::NoPlace => "unavailable",
        }
    }

    fn from_client(bad: Malformed) -> Over {
        if bad == Malformed::FrameTooLarge { Over::TooLarge } else { Over::Malformed }
    }
}

struct Session<'a> {
    shared: &'a Shared,
    client: &'a mut Client,
    opening: &'a Opening<'a>,
    tag: Tag,
    link: Link,
    /// Counts links: bytes of an earlier one must not be taken for this one's.
    generation: u32,
    from_client: Reader,
    from_upstream: Reader,
    /// What stays in it as read are bytes that no part was made of yet.
    io: Duplex,
    /// A control frame under way: it is passed on whole, because the link may change between two reads.
    client_control: Vec<u8>,
    upstream_control: Vec<u8>,
    /// Codex said that it closes: nothing is asked elsewhere for it.
    closing: bool,
    /// The beginning of the upstream's message under way.
    heard: Prefix,
    /// A turn's place in its lane, and on its profile.
    place: Option<(Slot<'a>, Serving)>,
    /// That message was judged already.
    judged: Option<Event>,
    turn: Turn,
    /// What the log will tell of the turn in progress.
    lap: Option<(Trace, Progress)>,
}

/// `trace` is that of the socket; each turn has one of its own.
pub fn run(shared: &Shared, client: &mut Client, opening: &Opening<'_>, mut link: Link, trace: &Trace) {
    let client_in = std::mem::take(&mut client.unread);
    let upstream_in = std::mem::take(&mut link.early);
    let mut session = Session {
        shared,
        client,
        opening,
        tag: trace.tag,
        link,
        generation: 0,
        from_client: Reader::new(From::Client),
        from_upstream: Reader::new(From::Server),
        io: Duplex::new(client_in, upstream_in),
        client_control: Vec::new(),
        upstream_control: Vec::new(),
        closing: false,
        heard: Prefix::new(EVENT_PREFIX),
        place: None,
        judged: None,
        turn: Turn::Idle,
        lap: None,
    };
    let over = session.pump();
    if matches!(over, Over::Upstream | Over::Bounced | Over::NoPlace) {
        // What codex was to hear before the end, it still hears.
        let _ = session.client.write_all(session.io.to_client.rest());
    }
    session.tell_why(over);
    session.lap_ends(over.name());
    trace.over(shared, 101, over.name());
}

impl Session<'_> {
    fn pump(&mut self) -> Over {
        if let Err(over) = self.client_bytes().and_then(|()| self.upstream_bytes()) {
            return over;
        }
        loop {
            if let Err(over) = self.step() {
                return over;
            }
        }
    }

    /// A client that broke the protocol hears which rule (RFC 6455 7.4.1), where a frame may stand.
    fn tell_why(&mut self, over: Over) {
        let code = match over {
            Over::Malformed => PROTOCOL_ERROR,
            Over::TooLarge => TOO_BIG,
            _ => return,
        };
        if self.from_upstream.at_boundary() {
            let mut rest = self.io.to_client.rest().to_vec();
            frame::write(&mut rest, Opcode::Close, None, &frame::close_payload(code, ""));
            let _ = self.client.write_all(&rest);
        }
    }

    fn step(&mut self) -> Result<(), Over> {
        let deadline = self.deadline();
        let (client, upstream) = match self.io.turn(self.client, &mut self.link.stream, deadline) {
            Moved::Read { client, upstream } => (client, upstream),
            Moved::Late => return self.late(),
            Moved::ClientGone => return Err(Over::Client),
            Moved::Failed => return Err(Over::Idle),
        };
        let generation = self.generation;
        if client {
            self.client_bytes()?;
        }
        match upstream {
            // What was read, and whatever became of it, was another link's.
            _ if self.generation != generation => self.upstream_bytes(),
            Read::Some => self.upstream_bytes(),
            Read::None => Ok(()),
            Read::End => self.upstream_broke(),
        }
    }

    /// Until when something must happen in this turn.
    fn deadline(&self) -> Option<Instant> {
        match &self.turn {
            Turn::Idle | Turn::Asking(_) => None,
            Turn::Waiting(waiting) => Some(waiting.until(self.shared.limits.hold, self.shared.limits.stream_idle)),
            Turn::Open { last } => Some(*last + self.shared.limits.stream_idle),
        }
    }

    fn late(&mut self) -> Result<(), Over> {
        match &mut self.turn {
            Turn::Waiting(waiting) if waiting.heard_since.is_some() && waiting.holding => {
                let bytes = waiting.held.len();
                self.shared.journal.mark(self.tag, Marker::LookaheadTimeout, format_args!("bytes={bytes}"));
                self.io.to_client.push(&waiting.release());
                Ok(())
            }
            Turn::Waiting(waiting) if waiting.heard_since.is_none() && waiting.may_replay() && !waiting.patient => {
                let ask = Ask { tried: waiting.tried.clone(), ..Ask::default() };
                if self.shared.ledger.has_alternative(&ask, self.link.id, &self.shared.wallet) {
                    return self.trouble(&Trouble::Transport, &[]);
                }
                waiting.patient = true;
                Ok(())
            }
            _ => Err(Over::Idle),
        }
    }

    /// The turn in progress is over: its line for the log.
    fn lap_ends(&mut self, end: &str) {
        let Some((mut trace, progress)) = self.lap.take() else { return };
        trace.profile = Some(self.link.id);
        let phase = match (end, progress.committed) {
            ("whole", _) => "end",
            (_, None) => "wait",
            (_, Some(_)) => "body",
        };
        trace.ended(self.shared, 101, &progress, end, phase);
    }

    fn switch(&mut self, mut link: Link) {
        self.io.upstream_in = std::mem::take(&mut link.early);
        self.link = link;
        if let Some((_, busy)) = &mut self.place {
            *busy = self.shared.ledger.enter(self.link.id);
        }
        self.generation += 1;
        self.from_upstream = Reader::new(From::Server);
        self.upstream_control.clear();
        self.heard = Prefix::new(EVENT_PREFIX);
        self.judged = None;
        self.io.to_upstream = Outbox::default();
    }
}

fn opcode(part: &Part) -> Opcode {
    match part {
        Part::Header(header) | Part::Payload { frame: header, .. } => header.opcode,
    }
}

/// The last byte of a frame was in this part.
fn ends_its_frame(part: &Part) -> bool {
    match part {
        Part::Header(header) => header.len == 0,
        Part::Payload { frame, offset, len } => offset + *len as u64 == frame.len,
    }
}
