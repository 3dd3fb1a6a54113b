//! An open WebSocket session: frames both ways through bounded buffers, one turn after the other. Before the model speaks
//! a turn may still move: its message is kept and sent again elsewhere, or, where it hangs on a previous response, the
//! socket is ended so that codex comes back with its full input (`wire.md` 0.6, 3.5). What events mean is `verdict`'s.

use super::affinity::Key;
use super::dial::{self, Dialled, Link, Opening};
use super::downstream::Client;
use super::journal::{Marker, Tag};
use super::lane::Slot;
use super::ledger::Serving;
use super::limits::HOLD_BYTES;
use super::renew::{self, Renewed};
use super::rotate::Outcome;
use super::route::Lane;
use super::select::{Ask, Decision, Why};
use super::tap::EVENT_PREFIX;
use super::turn::{self, Asking, Turn, Waiting};
use super::verdict::{self, Event, Trouble};
use super::{ProfileId, Shared, admission, record};
use crate::net::stream::Stream;
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use crate::wire::Malformed;
use crate::wire::frame::{self, From, Opcode, Part, Prefix, Reader};
use crate::wire::json;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Protocol error, unacceptable data, bad text, policy, too big (RFC 6455 7.4.1).
const MESSAGE_FAULTS: [u16; 5] = [1002, 1003, 1007, 1008, 1009];
/// What waits for one side; the other is not read while there is more.
const BUFFER: usize = 64 * 1024;
/// A small turn needs little.
const FIRST_PIECE: usize = 4 * 1024;
/// With somebody else to ask, an upstream that says nothing at all to a turn is left after this.
const FIRST_EVENT: Duration = Duration::from_secs(30);
/// The sixth failure of a turn ends WebSocket for its thread in codex (`wire.md` 3.7): it must not be us.
const MAX_BOUNCES: u32 = 4;
/// Codex's own limit for a message (`wire.md` 3.2).
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
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

/// What the search for another profile came to.
enum Another {
    Link(Box<Link>),
    /// Somebody who is not out, and answers a handshake with something else than a socket (426).
    NoSocket,
    Nobody,
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

    // Codex's side

    fn client_bytes(&mut self) -> Result<(), Over> {
        let mut bytes = std::mem::take(&mut self.client_in);
        let mut at = 0;
        while let Some((used, part)) = self.from_client.next(&bytes[at..]).map_err(Over::from_client)? {
            let raw = &bytes[at..at + used];
            at += used;
            if opcode(&part).is_control() {
                self.closing |= opcode(&part) == Opcode::Close;
                self.client_control.extend_from_slice(raw);
                if ends_its_frame(&part) {
                    self.to_upstream.push(&self.client_control);
                    self.client_control.clear();
                }
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
                _ => self.to_upstream.push(raw),
            }
        }
        bytes.drain(..at);
        self.client_in = bytes;
        Ok(())
    }

    /// A whole message of codex is here: a turn begins, on this link or a better one.
    fn begin(&mut self) -> Result<(), Over> {
        let Turn::Asking(asking) = std::mem::replace(&mut self.turn, Turn::Idle) else { return Ok(()) };
        let text = asking.text.bytes();
        if json::peek_str(text, &["type"]).as_deref() != Some("response.create") {
            self.to_upstream.push(&asking.raw);
            return Ok(());
        }
        let previous = json::peek_str(text, &["previous_response_id"]);
        let owner = previous.as_deref().and_then(|id| self.shared.ledger.owner(Key::Response(id)));
        let waiting = Waiting::new(previous.is_none().then(|| asking.raw.clone()), clock::now());
        self.turn = Turn::Waiting(Box::new(waiting));
        self.tag = self.shared.tag(Lane::WebSocket);
        match admission::admit(self.shared, self.tag, &self.opening.route.path) {
            Ok(slot) => self.place = Some((slot, self.shared.ledger.enter(self.link.id))),
            Err(why) => {
                self.to_client.push(&refusal(&why));
                return Err(Over::NoPlace);
            }
        }
        let better = match owner {
            Some(owner) if owner != self.link.id => Some(Ask { owner: Some(owner), ..Ask::default() }),
            None if previous.is_none() && self.is_out() => Some(Ask { movable: true, ..Ask::default() }),
            _ => None,
        };
        if let Some(mut ask) = better {
            match self.another(&mut ask)? {
                Another::Link(link) => self.switch(*link),
                // Nobody but its owner knows what it goes on from: codex comes back with its full input.
                Another::NoSocket | Another::Nobody if owner.is_some() => return Err(Over::Bounced),
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
    fn send(&mut self, mut message: Vec<u8>, turn_state: Option<&str>) {
        let owner = turn_state.and_then(|state| self.shared.ledger.owner(Key::TurnState(state)));
        if owner.is_some_and(|owner| owner != self.link.id) {
            turn::leave_out_turn_state(&mut message);
        }
        self.to_upstream.push(&message);
    }

    /// This link's profile has become unusable since it was opened, and somebody else is there.
    fn is_out(&self) -> bool {
        let ask = Ask { session: Some(self.link.id), movable: true, ..Ask::default() };
        match self.shared.ledger.select(&ask, Lane::WebSocket, &self.shared.wallet) {
            Decision::Use(id, why) => id != self.link.id && why != Why::LastResort,
            Decision::Refuse => false,
        }
    }

    // The upstream's side

    fn upstream_bytes(&mut self) -> Result<(), Over> {
        let mut bytes = std::mem::take(&mut self.upstream_in);
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
                    self.to_client.push(&self.upstream_control);
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
        self.upstream_in = bytes;
        Ok(())
    }

    /// Nothing moves any more: codex hears what there is.
    fn give_up_turn(&mut self) {
        if let Turn::Waiting(waiting) = &mut self.turn {
            let held = waiting.release();
            self.to_client.push(&held);
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
        let first_look = self.judged.is_none() && enough;
        if first_look {
            self.judged = Some(verdict::of_event(self.heard.bytes()));
        }
        if let Turn::Waiting(waiting) = &mut self.turn {
            waiting.last = clock::now();
            waiting.heard_since.get_or_insert(waiting.last);
            waiting.message_bytes.extend_from_slice(raw);
            match self.judged.clone() {
                None => Ok(()),
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
            self.to_client.push(raw);
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
                self.to_client.push(&held);
            }
        } else {
            self.to_client.push(&bytes);
        }
    }

    /// The model speaks: all that was held goes to codex, and nothing is retried from here on.
    fn commit(&mut self) {
        let Turn::Waiting(waiting) = std::mem::replace(&mut self.turn, Turn::Open { last: clock::now() }) else {
            return;
        };
        let mut waiting = *waiting;
        self.to_client.push(&waiting.release());
        self.to_client.push(&waiting.message_bytes);
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
            Event::Trouble(trouble) => record::trouble(self.shared, self.tag, self.link.id, trouble, self.link.token),
            _ => {}
        }
        self.link.turns += 1;
        self.place = None;
        self.turn = Turn::Idle;
    }

    /// The upstream is gone or talks nonsense.
    fn upstream_broke(&mut self) -> Result<(), Over> {
        match &mut self.turn {
            _ if self.closing => Err(Over::Upstream),
            Turn::Waiting(waiting) if self.link.turns > 0 && waiting.heard_since.is_none() => {
                // An old connection that ended while it was idle: nobody's fault, the same profile is asked anew.
                if !waiting.may_replay() {
                    return Err(Over::Upstream);
                }
                let mut ask =
                    Ask { session: Some(self.link.id), movable: true, tried: waiting.tried.clone(), owner: None };
                match self.another(&mut ask)? {
                    Another::Link(link) => {
                        self.replay(*link);
                        Ok(())
                    }
                    Another::NoSocket | Another::Nobody => Err(Over::Upstream),
                }
            }
            Turn::Waiting(_) => self.trouble(&Trouble::Transport, &[]),
            Turn::Open { .. } => {
                let name = self.shared.name(self.link.id);
                self.shared.journal.mark(self.tag, Marker::StreamReadError, format_args!("profile={name}"));
                record::trouble(self.shared, self.tag, self.link.id, &Trouble::Transport, self.link.token);
                Err(Over::Upstream)
            }
            Turn::Idle | Turn::Asking(_) => Err(Over::Upstream),
        }
    }

    /// This account does not serve the turn, and codex has heard no output: the turn moves if it can. `message` is what
    /// the upstream said of it, as frames.
    fn trouble(&mut self, trouble: &Trouble, message: &[u8]) -> Result<(), Over> {
        let id = self.link.id;
        let (trouble, renewed) = self.settled(trouble);
        if !renewed {
            record::trouble(self.shared, self.tag, id, &trouble, self.link.token);
        }
        let trouble = &trouble;
        let Turn::Waiting(waiting) = &mut self.turn else { return Ok(()) };
        if !renewed {
            waiting.tried.push(id);
        }
        let said = [waiting.held.as_slice(), message].concat();
        // Another login's refusal is not for codex (spec S-60).
        if !matches!(trouble, Trouble::Unauthorized | Trouble::LoginUnsettled) || id == self.shared.launching {
            waiting.keep_refusal(trouble, said);
        }
        if self.closing {
            return self.pass_on(trouble);
        }
        let mut ask = Ask { movable: true, tried: waiting.tried.clone(), ..Ask::default() };
        if *trouble == Trouble::ForeignContent {
            // Only the account that encrypted it can help, if it was not asked already.
            let owner = self.opening.session.and_then(|session| self.shared.ledger.owner(Key::Session(session)));
            let Some(owner) = owner.filter(|owner| !waiting.tried.contains(owner)) else {
                return self.pass_on(trouble);
            };
            ask = Ask { owner: Some(owner), tried: waiting.tried.clone(), ..Ask::default() };
        }
        let elsewhere = if waiting.may_replay() {
            match self.another(&mut ask)? {
                Another::Link(link) => {
                    self.replay(*link);
                    return Ok(());
                }
                // Codex comes back, hears that answer to its handshake, and goes on over HTTP.
                Another::NoSocket => true,
                Another::Nobody => false,
            }
        } else {
            self.shared.ledger.has_alternative(&ask, id, &self.shared.wallet)
        };
        if elsewhere && self.may_bounce() {
            self.shared.journal.mark(
                self.tag,
                Marker::WebsocketBounce,
                format_args!("profile={} reason={}", self.shared.name(id), trouble.name()),
            );
            return Err(Over::Bounced);
        }
        self.pass_on(trouble)
    }

    /// A refused login is refreshed, where that is ours to do; true when the same account can be asked again.
    fn settled(&self, trouble: &Trouble) -> (Trouble, bool) {
        let credential = self.shared.wallet.credential(self.link.id);
        let (Trouble::Unauthorized, Ok(credential)) = (trouble, credential) else { return (trouble.clone(), false) };
        if credential.fingerprint != self.link.token {
            return (Trouble::LoginUnsettled, true);
        }
        match renew::renew(self.shared, self.tag, self.link.id, &credential) {
            Renewed::Yes => (Trouble::LoginUnsettled, true),
            Renewed::Later => (Trouble::LoginUnsettled, false),
            Renewed::Never => (Trouble::Unauthorized, false),
        }
    }

    /// Nobody does better: codex gets the backend's own words, or the break that it was.
    fn pass_on(&mut self, trouble: &Trouble) -> Result<(), Over> {
        self.place = None;
        let id = self.link.id;
        let Turn::Waiting(waiting) = std::mem::replace(&mut self.turn, Turn::Idle) else { return Ok(()) };
        match waiting.refusal {
            Some((_, said)) => {
                self.shared.journal.mark(
                    self.tag,
                    Marker::Committed,
                    format_args!("profile={} refusal=true", self.shared.name(id)),
                );
                self.to_client.push(&said);
                if *trouble == Trouble::Transport { Err(Over::Upstream) } else { Ok(()) }
            }
            None => Err(Over::Upstream),
        }
    }

    fn may_bounce(&self) -> bool {
        // Without a session the count has nowhere to stay: one socket, one bounce, and codex's own limit.
        self.opening.session.is_none_or(|session| self.shared.ledger.bounce(session, MAX_BOUNCES))
    }

    /// A link with another profile, by the rules of `ask`.
    fn another(&mut self, ask: &mut Ask) -> Result<Another, Over> {
        let mut attempts = 0;
        let outcome = dial::open(self.shared, self.client, self.opening, ask, self.tag, &mut attempts);
        if let Turn::Waiting(waiting) = &mut self.turn {
            waiting
                .tried
                .extend(ask.tried.iter().filter(|id| !waiting.tried.contains(id)).copied().collect::<Vec<ProfileId>>());
        }
        match outcome {
            Outcome::Won(_, Dialled::Open(link, _)) => Ok(Another::Link(link)),
            Outcome::Won(_, Dialled::Answer(_)) => Ok(Another::NoSocket),
            Outcome::ClientGone => Err(Over::Client),
            Outcome::Refused(..) | Outcome::Nobody(_) => Ok(Another::Nobody),
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

    fn replay(&mut self, link: Link) {
        let name = self.shared.name(link.id).to_owned();
        self.switch(link);
        let Turn::Waiting(waiting) = &mut self.turn else { return };
        waiting.start_over(self.link.id, clock::now());
        if let Some(message) = waiting.message.clone() {
            let repeated = waiting.repeated_state.clone();
            self.send(message, repeated.as_deref());
        }
        self.shared.journal.mark(self.tag, Marker::WebsocketReplay, format_args!("profile={name}"));
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

enum Read {
    Some,
    None,
    End,
}

/// Reads what is there behind what is in `into`, in pieces that grow with the stream.
fn read(stream: &mut Stream, into: &mut Vec<u8>, piece: &mut usize) -> Read {
    let at = into.len();
    into.resize(at + *piece, 0);
    let result = stream.read(&mut into[at..]);
    let taken = result.as_ref().map_or(0, |taken| *taken);
    into.truncate(at + taken);
    if taken == *piece {
        *piece = (*piece * 2).min(BUFFER);
    }
    match result {
        Ok(0) => Read::End,
        Ok(_) => Read::Some,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Read::None,
        Err(_) => Read::End,
    }
}

/// Bytes on their way to one side.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    fn push(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what the socket takes; an error when it is closed.
    fn send(&mut self, stream: &mut Stream) -> Result<(), ()> {
        while !self.is_empty() || stream.unsent() {
            let result = if self.is_empty() { stream.flush().map(|()| 0) } else { stream.write(self.rest()) };
            match result {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
        }
        if self.is_empty() && self.bytes.capacity() > BUFFER * 2 {
            *self = Outbox::default();
        }
        Ok(())
    }

    fn send_all(&mut self, client: &mut Client) -> Result<(), Over> {
        let sent = client.write_all(self.rest()).map_err(|_| Over::Client);
        *self = Outbox::default();
        sent
    }
}
