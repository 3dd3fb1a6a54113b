//! Codex's side of a connection: request heads, the body as it comes, local answers. Knows no upstream.

use crate::net::stream::Stream;
use crate::net::{Cause, Patience};
use crate::sys::buffer::{self, Buffer};
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use crate::wire::Malformed;
use crate::wire::body::{self, Body, Framing};
use crate::wire::head::{self, Request};
use std::borrow::Cow;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// From the first byte of a head to its end. Codex writes a head at once.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A local answer, or one chunk of an upstream's, that the client does not take for so long.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A request body is kept whole, to be sent again elsewhere. History and images grow it to tens of MB.
const MAX_BODY: usize = 128 * 1024 * 1024;
/// One of codex's other calls: they are small, and whoever reads the run's secret in a process list may make them.
const MAX_AUXILIARY: usize = 8 * 1024 * 1024;

pub struct Client {
    pub stream: Stream,
    /// What was read beyond the last message.
    pub unread: Vec<u8>,
    /// Since when it is quiet: for the listener, which keeps quiet connections.
    pub since: Instant,
}

/// Why no request came.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// Closed, as it may be between two requests; or broken, or too slow.
    Gone,
    /// Nothing came for as long as the caller would wait: the connection is good.
    Quiet,
    Malformed(Malformed),
    Slow,
}

impl Client {
    pub fn new(stream: Stream) -> Client {
        Client { stream, unread: Vec::new(), since: clock::now() }
    }

    /// The next request head. Waits for its first byte until `quiet`.
    pub fn request(&mut self, quiet: Instant) -> Result<Request, NoRequest> {
        let mut until = None;
        loop {
            if !self.unread.is_empty() {
                if let Some((used, request)) = head::request(&self.unread).map_err(NoRequest::Malformed)? {
                    self.unread.drain(..used);
                    return Ok(request);
                }
                until.get_or_insert_with(|| clock::now() + HEAD_LIMIT);
            }
            let patience = Patience::until(until.unwrap_or(quiet));
            let read = buffer::with_scratch(|scratch| {
                let taken = self.stream.read_some(scratch, patience)?;
                self.unread.extend_from_slice(&scratch[..taken]);
                Ok(taken)
            });
            match read {
                Ok(0) => return Err(NoRequest::Gone),
                Ok(_) => {}
                Err(Cause::Deadline) if until.is_none() => return Err(NoRequest::Quiet),
                Err(Cause::Deadline) => return Err(NoRequest::Slow),
                Err(_) => return Err(NoRequest::Gone),
            }
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        self.stream.write_all(bytes, Patience::until(clock::now() + WRITE_LIMIT))
    }

    /// The client closed its side, as far as can be seen now.
    pub fn is_gone(&self) -> bool {
        let mut watch = [Watch::new(&self.stream)];
        poll::wait(&mut watch, Some(clock::now())).is_ok_and(|told| told) && watch[0].hung_up()
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// A request body, with its framing, as far as it has come: kept, so that it can be sent again.
pub struct Upload {
    /// With its framing.
    pub bytes: Buffer,
    framing: Framing,
    /// Why no more can be had: ours to answer, no upstream's fault.
    pub fault: Option<UploadError>,
    body: Body,
    most: usize,
}

/// Why no more of a body can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadError {
    Gone,
    TooLarge,
    Malformed(Malformed),
}

impl Upload {
    pub fn new(request: &Request) -> Result<Upload, Malformed> {
        let framing = body::request_framing(request)?;
        Ok(Upload { bytes: Buffer::new(), framing, fault: None, body: Body::new(framing), most: MAX_BODY })
    }

    /// What has come, without its framing.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        if self.framing != Framing::Chunked {
            return Cow::Borrowed(&self.bytes);
        }
        let mut payload = Vec::new();
        // What is wrong with it was said when it came.
        let _ = Body::new(self.framing).feed(&self.bytes, |piece| payload.extend_from_slice(piece));
        Cow::Owned(payload)
    }

    /// What was kept to be sent again: tens of MB for as long as a stream lasts.
    pub fn forget(&mut self) {
        self.bytes = Buffer::default();
    }

    /// Of a call that is none to the model.
    #[must_use]
    pub fn auxiliary(self) -> Upload {
        Upload { most: MAX_AUXILIARY, ..self }
    }

    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Takes what the client has sent by now; false when nothing was there. An error stays in `fault`.
    pub fn pull(&mut self, client: &mut Client) -> Result<bool, UploadError> {
        let pulled = self.take_from(client);
        if let Err(error) = pulled {
            self.fault = Some(error);
        }
        pulled
    }

    fn take_from(&mut self, client: &mut Client) -> Result<bool, UploadError> {
        if client.unread.is_empty() {
            match client.stream.read_into(&mut client.unread) {
                Ok(0) => return Err(UploadError::Gone),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(false);
                }
                Err(_) => return Err(UploadError::Gone),
            }
        }
        let used = self.body.feed(&client.unread, |_| {}).map_err(UploadError::Malformed)?;
        self.bytes.extend_from_slice(&client.unread[..used]);
        client.unread.drain(..used);
        if self.bytes.len() > self.most { Err(UploadError::TooLarge) } else { Ok(true) }
    }
}

/// Our own answer, in the form that the backend's errors have. `message` is for the person in front of codex.
pub fn local_answer(status: u16, code: &str, message: &str) -> Vec<u8> {
    let reason = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "Service Unavailable",
    };
    let mut body = String::from("{\"error\":{\"code\":");
    crate::wire::json::write_string(&mut body, code);
    body.push_str(",\"message\":");
    crate::wire::json::write_string(&mut body, message);
    body.push_str("}}");
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    #[test]
    fn a_local_answer() {
        for (status, reason) in [(503, "Service Unavailable"), (413, "Content Too Large"), (599, "Service Unavailable")]
        {
            let bytes = local_answer(status, "service_unavailable", "no \"room\"\n");
            let (used, answer) = head::response(&bytes).unwrap().unwrap();
            assert_eq!((answer.status(), answer.reason()), (status, reason));
            let body = "{\"error\":{\"code\":\"service_unavailable\",\"message\":\"no \\\"room\\\"\\n\"}}";
            assert_eq!(std::str::from_utf8(&bytes[used..]), Ok(body));
            assert_eq!(answer.headers().value("content-length"), Some(body.len().to_string().as_str()));
            assert!(!head::keeps_alive(1, answer.headers()));
        }
    }
}
