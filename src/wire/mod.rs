//! The protocols as bytes: HTTP/1.1 heads and bodies, event streams, WebSocket frames, JSON, URLs.
//!
//! Nothing here reads, writes, waits, logs or knows what codex or its backend mean. Every reader of network bytes keeps
//! one contract: `Ok(Some((used, item)))` takes `used` bytes; `Ok(None)` takes nothing, more bytes are needed;
//! `Err(Malformed)` is final. Where the input was cut never changes what is accepted. Every length that a peer names is
//! bounded before anything is allocated or counted for it.

pub mod body;
pub mod frame;
pub mod handshake;
pub mod hash;
pub mod head;
pub mod json;
pub mod sse;
pub mod swar;
pub mod url;
pub mod value;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod hostile;

use std::fmt;

/// What a peer did wrong. Each variant is one sentence of an RFC, and never carries the bytes: they may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The head is larger than [`head::MAX_HEAD`] (RFC 9112 3, RFC 6585 5: 431).
    HeadTooLarge,
    /// More than [`head::MAX_HEADERS`] header lines.
    TooManyHeaders,
    /// RFC 9112 3: `method SP request-target SP HTTP-version CRLF`.
    BadRequestLine,
    /// RFC 9112 4: `HTTP-version SP status-code SP [ reason-phrase ] CRLF`.
    BadStatusLine,
    /// RFC 9112 2.3: not HTTP/1.0 or HTTP/1.1.
    BadVersion,
    /// RFC 9112 5: `field-name ":" OWS field-value OWS CRLF`, no folding.
    BadHeader,
    /// RFC 9110 8.6: `Content-Length` is one decimal number, and the same one if repeated.
    BadContentLength,
    /// RFC 9112 6.1: a transfer coding other than one `chunked`, or one in HTTP/1.0.
    BadTransferEncoding,
    /// RFC 9112 6.3 point 3: `Content-Length` next to `Transfer-Encoding`.
    LengthAndChunked,
    /// RFC 9112 7.1: the size line, the line end after the data, or a trailer is wrong or too long.
    BadChunk,
    /// RFC 9112 8: the connection closed before the body was complete.
    CutBody,
    /// RFC 6455 5.2: a reserved bit without a negotiated extension.
    ReservedBits,
    /// RFC 6455 5.2: a reserved opcode.
    BadOpcode,
    /// RFC 6455 5.5: a control frame that is fragmented or longer than 125 bytes.
    BadControlFrame,
    /// RFC 6455 5.2: a length that is not in its shortest form or has its top bit set.
    BadFrameLength,
    /// A frame larger than [`frame::MAX_FRAME`].
    FrameTooLarge,
    /// RFC 6455 5.1: a client's frame without a mask.
    NotMasked,
    /// RFC 6455 5.1: a server's frame with a mask.
    Masked,
    /// RFC 6455 5.4: a continuation without a start, or a new message inside a fragmented one.
    BadFragment,
    /// RFC 6455 5.5.1, 7.4: a close payload of one byte, with a code that must not be sent, or with a bad reason.
    BadClose,
    /// RFC 6455 4.2.1: not a GET of HTTP/1.1 with the upgrade fields and without a body.
    NotAnUpgrade,
    /// RFC 6455 4.2.2 point 4: another protocol version than 13 (426).
    BadWebSocketVersion,
    /// RFC 6455 4.2.1 point 5: the key is not 16 bytes in base64, or not there once.
    BadKey,
    /// RFC 6455 4.2.2: the answer is not a 101 with the upgrade fields.
    NotSwitched,
    /// RFC 6455 4.1: the answer's `Sec-WebSocket-Accept` does not belong to our key.
    BadAccept,
    /// RFC 6455 4.1: the answer names an extension or a subprotocol that nobody asked for.
    Unasked,
}

impl Malformed {
    fn sentence(self) -> &'static str {
        match self {
            Malformed::HeadTooLarge => "the message head is too large",
            Malformed::TooManyHeaders => "the message head has too many header lines",
            Malformed::BadRequestLine => "the request line is not valid",
            Malformed::BadStatusLine => "the status line is not valid",
            Malformed::BadVersion => "the HTTP version is neither 1.0 nor 1.1",
            Malformed::BadHeader => "a header line is not valid",
            Malformed::BadContentLength => "Content-Length is not one number",
            Malformed::BadTransferEncoding => "Transfer-Encoding is not chunked",
            Malformed::LengthAndChunked => "Content-Length and Transfer-Encoding stand in one message",
            Malformed::BadChunk => "the chunked coding is not valid",
            Malformed::CutBody => "the connection closed before the body was complete",
            Malformed::ReservedBits => "a WebSocket frame has a reserved bit set",
            Malformed::BadOpcode => "a WebSocket frame has a reserved opcode",
            Malformed::BadControlFrame => "a WebSocket control frame is fragmented or too long",
            Malformed::BadFrameLength => "a WebSocket frame length is not in its shortest form",
            Malformed::FrameTooLarge => "a WebSocket frame is too large",
            Malformed::NotMasked => "a WebSocket frame of the client is not masked",
            Malformed::Masked => "a WebSocket frame of the server is masked",
            Malformed::BadFragment => "WebSocket fragments are out of order",
            Malformed::BadClose => "a WebSocket close payload is not valid",
            Malformed::NotAnUpgrade => "the request is not a valid WebSocket upgrade",
            Malformed::BadWebSocketVersion => "the WebSocket version is not 13",
            Malformed::BadKey => "Sec-WebSocket-Key is not valid",
            Malformed::NotSwitched => "the answer does not switch to WebSocket",
            Malformed::BadAccept => "Sec-WebSocket-Accept does not belong to the key",
            Malformed::Unasked => "the answer has a WebSocket extension or subprotocol that was not asked for",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Malformed {}
