//! After commit: an upstream's body to codex, watching both sides. All that is kept of a stream, whatever the speeds, is one
//! read of it (spec S-61): the next comes when codex has taken that. Nothing is retried here.
//! Knows no profiles; what passes is looked at by the answer's tap.

use super::Shared;
use super::attempt::Answer;
use super::cookies;
use super::downstream::Client;
use super::journal;
use super::tap::{CAPTURE, Tap};
use crate::net::{Cause, NetError, Patience, Phase, stream};
use crate::sys::buffer::{self, Buffer};
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use crate::wire::head::{self, Edit, Response};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// How a relay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All of the answer went to codex.
    Whole,
    /// The upstream broke off, in these words; codex sees a break.
    Upstream(Cause),
    /// Codex went away.
    Client,
    /// Nothing moved for as long as the limits allow.
    Idle,
}

impl End {
    /// For the log: who ended it.
    pub fn name(&self) -> &'static str {
        match self {
            End::Whole => "whole",
            End::Upstream(_) => "upstream",
            End::Client => "client",
            End::Idle => "idle",
        }
    }
}

pub struct Relayed {
    pub end: End,
    /// Body bytes that codex took, framing included.
    pub bytes: u64,
    /// The connection to codex can carry another request.
    pub keep: bool,
    /// When the first byte went to codex.
    pub first: Option<Instant>,
}

/// Sends `answer` to codex. `seen` is called after each piece that the tap has looked at.
pub fn run(
    shared: &Shared,
    mut answer: Answer,
    client: &mut Client,
    keep: bool,
    mut seen: impl FnMut(&mut Tap),
) -> Relayed {
    // Where the upstream's close ends the body, ours must too.
    let keep = keep && !answer.tap.is_until_close();
    let closing: &[(&str, &[u8])] = if keep { &[] } else { &[("connection", b"close")] };
    let mut pending = head_for_codex(&answer.head, &[], closing);
    let head_len = pending.len() as u64;
    pending.append(&mut answer.early);
    seen(&mut answer.tap);
    let mut relayed = Relayed { end: End::Whole, bytes: 0, keep, first: None };
    let end = pump(&mut answer, client, pending, shared.limits.stream_idle, &mut relayed, seen);
    relayed.bytes = relayed.bytes.saturating_sub(head_len);
    if let End::Upstream(_) | End::Idle = end {
        relayed.keep = false;
        if answer.tap.is_until_close() {
            client.stream.reset_on_close();
        }
    }
    relayed.keep &= end == End::Whole;
    relayed.end = end;
    answer.release(shared);
    relayed
}

fn pump(
    answer: &mut Answer,
    client: &mut Client,
    beginning: Buffer,
    idle: Duration,
    relayed: &mut Relayed,
    mut seen: impl FnMut(&mut Tap),
) -> End {
    // What codex has yet to take.
    let (mut pending, mut sent) = (beginning, 0);
    let mut until = clock::now() + idle;
    // A full read says that more is there: no need to ask poll(2) first.
    let mut eager = answer.stream.buffered();
    loop {
        match relayed.write(client, &pending[sent..]) {
            Ok(taken) => sent += taken,
            Err(_) => return End::Client,
        }
        let drained = sent == pending.len();
        if drained && answer.tap.is_done() {
            return End::Whole;
        }
        if !(drained && eager) {
            journal::flush();
            // An upstream that hung up would end every wait for a slow codex at once: it is not asked meanwhile.
            let upstream = if drained { answer.stream.watch(true, false) } else { Watch::nothing() };
            let mut watches = [upstream, client.stream.watch(false, !drained)];
            match poll::wait(&mut watches, Some(until)) {
                Ok(true) => until = clock::now() + idle,
                Ok(false) => return End::Idle,
                Err(error) => return End::Upstream(Cause::Failed(error.to_string())),
            }
            if watches[1].hung_up() {
                return End::Client;
            }
        }
        if !drained {
            continue;
        }
        pending.clear();
        sent = 0;
        let moved = buffer::with_scratch(|scratch| {
            let taken = match answer.stream.read(scratch) {
                Ok(taken) => taken,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    eager = false;
                    return None;
                }
                Err(error) => return Some(End::Upstream(stream::cause(&error))),
            };
            if taken == 0 {
                return Some(answer.tap.closed().map_or(End::Upstream(Cause::Closed), |()| End::Whole));
            }
            let used = match answer.tap.feed(&scratch[..taken]) {
                Ok(used) => used,
                Err(bad) => return Some(End::Upstream(Cause::Malformed(bad.to_string()))),
            };
            answer.reusable &= used == taken;
            eager = taken == scratch.len() || answer.stream.buffered();
            // Learned before codex can ask for more of it.
            seen(&mut answer.tap);
            match relayed.write(client, &scratch[..used]) {
                // What codex does not take at once is kept.
                Ok(taken) => pending.extend_from_slice(&scratch[taken..used]),
                Err(_) => return Some(End::Client),
            }
            None
        });
        if let Some(end) = moved {
            return end;
        }
    }
}

impl Relayed {
    /// As much of it as codex takes now.
    fn write(&mut self, client: &mut Client, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match client.stream.write(&bytes[sent..]) {
                Ok(taken) => {
                    sent += taken;
                    self.bytes += taken as u64;
                    self.first.get_or_insert_with(clock::now);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// The response head as codex gets it, with `add` behind it: hop-by-hop headers and Cloudflare's cookies are ours, and what
/// `without` names.
pub fn head_for_codex(response: &Response, without: &[&str], add: &[(&str, &[u8])]) -> Buffer {
    let is_hop_by_hop = head::hop_by_hop(response.headers());
    let edit = |name: &str, value: &[u8]| {
        let kept = name.eq_ignore_ascii_case("set-cookie") && cookies::is_kept(value);
        let is_left_out = kept || is_hop_by_hop(name) || without.iter().any(|n| n.eq_ignore_ascii_case(name));
        if is_left_out { Edit::Drop } else { Edit::Keep }
    };
    let mut out = Buffer::new();
    out.reserve(4096);
    head::write_response(&mut out, response, edit, add);
    out
}

/// An answer that was read to its end.
pub struct Collected {
    pub head: Response,
    /// Without its framing.
    pub body: Vec<u8>,
}

/// Reads all of a short answer. Longer than [`CAPTURE`] bytes or later than `limit` is an error.
pub fn collect(mut answer: Answer, shared: &Shared, limit: Duration) -> Result<Collected, NetError> {
    let peer = answer.url.authority();
    let failed = |cause| NetError { phase: Phase::Body, peer: peer.clone(), cause };
    let patience = Patience::until(clock::now() + limit);
    while answer.read_more(patience).map_err(failed)? {
        if answer.tap.captured.len() >= CAPTURE {
            return Err(failed(Cause::Malformed(format!("its body is larger than {CAPTURE} bytes"))));
        }
    }
    let body = std::mem::take(&mut answer.tap.captured);
    let head = answer.head.clone();
    answer.release(shared);
    Ok(Collected { head, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body::Framing;
    use crate::wire::url::Url;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Our end as the proxy has it, and the other one.
    fn pair() -> (crate::net::stream::Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (crate::net::stream::Stream::plain(ours).unwrap(), listener.accept().unwrap().0)
    }

    /// What a relay comes to where the upstream says `said` and ends or stays silent, and codex stays or leaves.
    fn ended(framing: Framing, said: &[u8], upstream_ends: bool, codex_leaves: bool) -> (End, String) {
        let (stream, mut upstream) = pair();
        let (downstream, codex) = pair();
        let (_, response) = head::response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
        let mut answer = Answer {
            head: response,
            tap: Tap::new(framing, false),
            early: Buffer::new(),
            stream,
            key: (None, String::new()),
            reusable: true,
            url: Url::parse("http://h").unwrap(),
        };
        upstream.write_all(said).unwrap();
        let kept = (!upstream_ends).then_some(upstream);
        let mut client = Client::new(downstream);
        let codex = (!codex_leaves).then_some(codex);
        let mut relayed = Relayed { end: End::Whole, bytes: 0, keep: true, first: None };
        // Nothing but silence takes longer.
        let idle = Duration::from_millis(if kept.is_some() && !codex_leaves { 50 } else { 20_000 });
        let mut head = Buffer::new();
        head.extend_from_slice(b"head ");
        let end = pump(&mut answer, &mut client, head, idle, &mut relayed, |_| ());
        drop((client, kept));
        let mut heard = String::new();
        if let Some(mut codex) = codex {
            codex.read_to_string(&mut heard).unwrap();
            assert_eq!(relayed.bytes, heard.len() as u64);
        }
        (end, heard)
    }

    #[test]
    fn who_ended_it() {
        let closed = || End::Upstream(Cause::Closed);
        let table = [
            ("all there", Framing::Length(2), "ok", false, End::Whole, "head ok"),
            ("more than there should be", Framing::Length(2), "okay", false, End::Whole, "head ok"),
            ("until it closes", Framing::UntilClose, "ok", true, End::Whole, "head ok"),
            ("too short", Framing::Length(3), "ok", true, closed(), "head ok"),
            ("chunks without their end", Framing::Chunked, "2\r\nok\r\n", true, closed(), "head 2\r\nok\r\n"),
            ("silence", Framing::Length(3), "ok", false, End::Idle, "head ok"),
        ];
        for (name, framing, said, upstream_ends, end, heard) in table {
            assert_eq!(ended(framing, said.as_bytes(), upstream_ends, false), (end, heard.to_owned()), "{name}");
        }
        assert_eq!(ended(Framing::Length(3), b"ok", false, true).0, End::Client);
        let (end, _) = ended(Framing::Chunked, b"zz\r\n", false, false);
        assert!(matches!(end, End::Upstream(Cause::Malformed(_))), "{end:?}");
        assert_eq!(
            [End::Whole, closed(), End::Client, End::Idle].map(|end| end.name()),
            ["whole", "upstream", "client", "idle"]
        );
    }

    /// Codex takes nothing, the upstream has much to say: what is neither with codex nor left in the upstream's socket is
    /// what we hold.
    #[test]
    fn one_read_of_a_stream_is_held() {
        const MUCH: usize = 32 << 20;
        let ((stream, mut upstream), (downstream, _codex)) = (pair(), pair());
        let (_, response) = head::response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
        let mut answer = Answer {
            head: response,
            tap: Tap::new(Framing::UntilClose, false),
            early: Buffer::new(),
            stream,
            key: (None, String::new()),
            reusable: true,
            url: Url::parse("http://h").unwrap(),
        };
        let sending = std::thread::spawn(move || upstream.write_all(&vec![b'x'; MUCH]));
        let mut relayed = Relayed { end: End::Whole, bytes: 0, keep: true, first: None };
        let idle = Duration::from_millis(200);
        let end = pump(&mut answer, &mut Client::new(downstream), Buffer::new(), idle, &mut relayed, |_| ());
        assert_eq!(end, End::Idle);
        let (mut left, mut scratch) = (0, vec![0; 1 << 20]);
        let patience = Patience::until(clock::now() + Duration::from_secs(20));
        loop {
            match answer.stream.read_some(&mut scratch, patience).unwrap() {
                0 => break,
                taken => left += taken,
            }
        }
        sending.join().unwrap().unwrap();
        let held = MUCH - left - relayed.bytes as usize;
        assert!((1..=64 * 1024).contains(&held), "{held} bytes");
    }
}
