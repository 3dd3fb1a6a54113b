//! Two sockets side by side: what was read from each, what waits for each, and one wait for both. The buffers are bounded:
//! one side is not read while much waits for the other. Knows no frames and no turns.

use super::downstream::Client;
use super::journal;
use crate::net::Cause;
use crate::net::stream::Stream;
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use std::io::ErrorKind;
use std::time::Instant;

/// What waits for one side; the other is not read while there is more.
const BUFFER: usize = 64 * 1024;

pub struct Duplex {
    pub to_client: Outbox,
    pub to_upstream: Outbox,
    /// Bytes that were read and are still to be taken from here.
    pub client_in: Vec<u8>,
    pub upstream_in: Vec<u8>,
}

/// What one wait brought.
pub enum Moved {
    /// The deadline passed.
    Late,
    ClientGone,
    /// There is something in `client_in`; what became of the upstream.
    Read {
        client: bool,
        upstream: Read,
    },
    /// The system would not wait.
    Failed,
}

impl Duplex {
    /// With what came from each before.
    pub fn new(client_in: Vec<u8>, upstream_in: Vec<u8>) -> Duplex {
        Duplex { to_client: Outbox::default(), to_upstream: Outbox::default(), client_in, upstream_in }
    }

    /// Writes what can be written, waits, reads what has come.
    pub fn turn(&mut self, client: &mut Client, upstream: &mut Stream, deadline: Option<Instant>) -> Moved {
        if self.to_client.send(&mut client.stream).is_err() {
            return Moved::ClientGone;
        }
        if self.to_upstream.send(upstream).is_err() {
            // It may have said why before it went: that is still to be read, and its end after it.
            self.to_upstream = Outbox::default();
        }
        let read_client = self.to_upstream.len() < BUFFER;
        let read_upstream = self.to_client.len() < BUFFER;
        let send_upstream = !self.to_upstream.is_empty();
        let watch = if read_upstream || send_upstream {
            upstream.watch(read_upstream, send_upstream)
        } else {
            // A hang-up that cannot be read yet would end every wait at once.
            Watch::nothing()
        };
        let mut watches = [client.stream.watch(read_client, !self.to_client.is_empty()), watch];
        let buffered = read_upstream && upstream.buffered();
        let deadline = if buffered { Some(clock::now()) } else { deadline };
        if !buffered {
            journal::flush();
        }
        match poll::wait(&mut watches, deadline) {
            Ok(told) if told || buffered => {}
            Ok(_) => return Moved::Late,
            Err(_) => return Moved::Failed,
        }
        if watches[0].hung_up() && !(read_client && watches[0].readable()) {
            return Moved::ClientGone;
        }
        let mut from_client = false;
        if watches[0].readable() && read_client {
            match read(&mut client.stream, &mut self.client_in) {
                Read::Some => from_client = true,
                Read::None => {}
                Read::End => return Moved::ClientGone,
            }
        }
        let mut from_upstream = Read::None;
        if (watches[1].readable() || buffered) && read_upstream {
            from_upstream = read(upstream, &mut self.upstream_in);
        } else if watches[1].hung_up() && !read_upstream && self.to_client.send_all(client).is_err() {
            // It hung up while codex is slow: what it said is read first.
            return Moved::ClientGone;
        }
        Moved::Read { client: from_client, upstream: from_upstream }
    }
}

pub enum Read {
    Some,
    None,
    End,
}

/// Reads what is there behind what is in `into`.
fn read(stream: &mut Stream, into: &mut Vec<u8>) -> Read {
    match stream.read_into(into) {
        Ok(0) => Read::End,
        Ok(_) => Read::Some,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Read::None,
        Err(_) => Read::End,
    }
}

/// Bytes on their way to one side.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn rest(&self) -> &[u8] {
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

    fn send_all(&mut self, client: &mut Client) -> Result<(), Cause> {
        let sent = client.write_all(self.rest());
        *self = Outbox::default();
        sent
    }
}
