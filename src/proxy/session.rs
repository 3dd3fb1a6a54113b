//! An open WebSocket session: one loop that moves frames both ways through bounded buffers, one turn after the other. Before
//! the model speaks a turn may still move: its message is kept and sent again elsewhere, or, where it hangs on a previous
//! response, the socket is ended so that codex comes back with its full input (`wire.md` 0.6, 3.5). The loop is here;
//! what each side says is for `asked` and `answered`, a turn that is refused for `trouble`.

mod answered;
mod asked;
mod outbox;
mod trouble;

use super::Shared;
use super::dial::{Link, Opening};
use super::downstream::Client;
use super::journal::{Marker, Tag};
use super::lane::Slot;
use super::ledger::Serving;
use super::select::Ask;
use super::tap::EVENT_PREFIX;
use super::turn::Turn;
use super::verdict::{Event, Trouble};
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use crate::wire::Malformed;
use crate::wire::frame::{self, From, Opcode, Part, Prefix, Reader};
use outbox::{BUFFER, Outbox, Read, read};
use std::time::{Duration, Instant};

/// A small turn needs little.
const FIRST_PIECE: usize = 4 * 1024;
/// With somebody else to ask, an upstream that says nothing at all to a turn is left after this.
const FIRST_EVENT: Duration = Duration::from_secs(30);
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
    to_client: Outbox,
    to_upstream: Outbox,
    /// Bytes of codex that no part was made of yet.
    client_in: Vec<u8>,
    upstream_in: Vec<u8>,
    /// A control frame under way: it is passed on whole, because the link may change between two reads.
    client_control: Vec<u8>,
    upstream_control: Vec<u8>,
    /// Codex said that it closes: nothing is asked elsewhere for it.
    closing: bool,
    /// The beginning of the upstream's message under way.
    heard: Prefix,
    /// How much is read at once.
    piece: usize,
    /// A turn's place in its lane, and on its profile.
    place: Option<(Slot<'a>, Serving)>,
    /// That message was judged already.
    judged: Option<Event>,
    turn: Turn,
}

pub fn run(shared: &Shared, client: &mut Client, opening: &Opening<'_>, mut link: Link, tag: Tag) {
    let client_in = std::mem::take(&mut client.unread);
    let upstream_in = std::mem::take(&mut link.early);
    let mut session = Session {
        shared,
        client,
        opening,
        tag,
        link,
        generation: 0,
        from_client: Reader::new(From::Client),
        from_upstream: Reader::new(From::Server),
        to_client: Outbox::default(),
        to_upstream: Outbox::default(),
        client_in,
        upstream_in,
        client_control: Vec::new(),
        upstream_control: Vec::new(),
        closing: false,
        heard: Prefix::new(EVENT_PREFIX),
        piece: FIRST_PIECE,
        place: None,
        judged: None,
        turn: Turn::Idle,
    };
    let over = session.pump();
    if matches!(over, Over::Upstream | Over::Bounced | Over::NoPlace) {
        // What codex was to hear before the end, it still hears.
        let _ = session.client.write_all(session.to_client.rest());
    }
    session.tell_why(over);
    let name = shared.name(session.link.id);
    let fields = format_args!("profile={name} turns={} end={over:?}", session.link.turns);
    shared.journal.mark(session.tag, Marker::Exchange, fields);
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
            let mut rest = self.to_client.rest().to_vec();
            frame::write(&mut rest, Opcode::Close, None, &frame::close_payload(code, ""));
            let _ = self.client.write_all(&rest);
        }
    }

    /// Writes what can be written, waits, reads what has come.
    fn step(&mut self) -> Result<(), Over> {
        self.to_client.send(&mut self.client.stream).map_err(|()| Over::Client)?;
        if self.to_upstream.send(&mut self.link.stream).is_err() {
            // It may have said why before it went: that is still to be read, and its end after it.
            self.to_upstream = Outbox::default();
        }
        let read_client = self.to_upstream.len() < BUFFER;
        let read_upstream = self.to_client.len() < BUFFER;
        let send_upstream = !self.to_upstream.is_empty();
        let upstream = if read_upstream || send_upstream {
            self.link.stream.watch(read_upstream, send_upstream)
        } else {
            // A hang-up that cannot be read yet would end every wait at once.
            Watch::nothing()
        };
        let mut watches = [self.client.stream.watch(read_client, !self.to_client.is_empty()), upstream];
        let buffered = read_upstream && self.link.stream.buffered();
        let deadline = if buffered { Some(clock::now()) } else { self.deadline() };
        let told = poll::wait(&mut watches, deadline).map_err(|_| Over::Idle)?;
        if !told && !buffered {
            return self.late();
        }
        if watches[0].hung_up() && !(read_client && watches[0].readable()) {
            return Err(Over::Client);
        }
        if watches[0].readable() && read_client {
            match read(&mut self.client.stream, &mut self.client_in, &mut self.piece) {
                Read::Some => self.client_bytes()?,
                Read::None => {}
                Read::End => return Err(Over::Client),
            }
        }
        if (watches[1].readable() || buffered) && read_upstream {
            match read(&mut self.link.stream, &mut self.upstream_in, &mut self.piece) {
                Read::Some => self.upstream_bytes()?,
                Read::None => {}
                Read::End => self.upstream_broke()?,
            }
        } else if watches[1].hung_up() && !read_upstream {
            // It hung up while codex is slow: what it said is read first.
            self.to_client.send_all(self.client)?;
        }
        Ok(())
    }

    /// Until when something must happen in this turn.
    fn deadline(&self) -> Option<Instant> {
        match &self.turn {
            Turn::Idle | Turn::Asking(_) => None,
            Turn::Waiting(waiting) => Some(match waiting.heard_since {
                Some(since) if waiting.holding => since + self.shared.limits.hold,
                None if waiting.may_replay() && !waiting.patient => waiting.since + FIRST_EVENT,
                _ => waiting.last + self.shared.limits.stream_idle,
            }),
            Turn::Open { last } => Some(*last + self.shared.limits.stream_idle),
        }
    }

    fn late(&mut self) -> Result<(), Over> {
        match &mut self.turn {
            Turn::Waiting(waiting) if waiting.heard_since.is_some() && waiting.holding => {
                let bytes = waiting.held.len();
                self.shared.journal.mark(self.tag, Marker::LookaheadTimeout, format_args!("bytes={bytes}"));
                self.to_client.push(&waiting.release());
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

    fn switch(&mut self, mut link: Link) {
        self.upstream_in = std::mem::take(&mut link.early);
        self.link = link;
        if let Some((_, busy)) = &mut self.place {
            *busy = self.shared.ledger.enter(self.link.id);
        }
        self.generation += 1;
        self.from_upstream = Reader::new(From::Server);
        self.upstream_control.clear();
        self.heard = Prefix::new(EVENT_PREFIX);
        self.judged = None;
        self.to_upstream = Outbox::default();
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
