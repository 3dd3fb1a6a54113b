//! Bytes on their way through a session: what waits for one side, and what was read from one. Knows no frames.

use super::Over;
use crate::net::stream::Stream;
use crate::proxy::downstream::Client;
use std::io::ErrorKind;

/// What waits for one side; the other is not read while there is more.
pub(super) const BUFFER: usize = 64 * 1024;

pub(super) enum Read {
    Some,
    None,
    End,
}

/// Reads what is there behind what is in `into`, in pieces that grow with the stream.
pub(super) fn read(stream: &mut Stream, into: &mut Vec<u8>, piece: &mut usize) -> Read {
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
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what the socket takes; an error when it is closed.
    pub(super) fn send(&mut self, stream: &mut Stream) -> Result<(), ()> {
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

    pub(super) fn send_all(&mut self, client: &mut Client) -> Result<(), Over> {
        let sent = client.write_all(self.rest()).map_err(|_| Over::Client);
        *self = Outbox::default();
        sent
    }
}
