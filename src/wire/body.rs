//! Where the body of an HTTP/1.1 message ends (RFC 9112 6 and 7).
//!
//! The framing is kept: bytes are relayed as they came, this only finds their end and shows the payload within. Knows
//! nothing of content codings and stores no payload.

use super::Malformed;
use super::head::{Headers, Request, Response};

/// Bytes of a chunk-size line with its extensions.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// Bytes of all trailer lines together.
const MAX_TRAILERS: usize = 16 * 1024;
/// Hexadecimal digits of a chunk size: as many as fit into 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// How the length of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Empty,
    /// Bytes.
    Length(u64),
    Chunked,
    /// A response only: it ends with the connection.
    UntilClose,
}

/// RFC 9112 6.3 for a request. Whatever two parties might read differently is an error.
pub fn request_framing(request: &Request) -> Result<Framing, Malformed> {
    Ok(declared(request.minor_version(), request.headers())?.unwrap_or(Framing::Empty))
}

/// RFC 9112 6.3 for the response to a request of this method.
pub fn response_framing(response: &Response, request_method: &str) -> Result<Framing, Malformed> {
    let status = response.status();
    let tunnel = request_method == "CONNECT" && (200..300).contains(&status);
    if request_method == "HEAD" || matches!(status, 100..=199 | 204 | 304) || tunnel {
        return Ok(Framing::Empty);
    }
    Ok(declared(response.minor_version(), response.headers())?.unwrap_or(Framing::UntilClose))
}

/// One body on its way through. Wrong once, it stays wrong.
#[derive(Debug)]
pub struct Body {
    state: State,
    until_close: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Failed(Malformed),
    UntilClose,
    /// Bytes to come of a body with a length.
    Length(u64),
    /// In a chunk-size line, `read` bytes of it behind us.
    Size {
        part: SizePart,
        digits: u8,
        size: u64,
        read: usize,
    },
    /// Bytes to come of a chunk's data.
    Data(u64),
    /// Before the CR, then before the LF, after a chunk's data.
    DataCr,
    DataLf,
    /// After the last chunk, so many bytes of trailers behind us.
    Trailer(TrailerPart, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizePart {
    Digits,
    /// White space between the digits and `;` or the line's end.
    Space,
    Extension,
    Lf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrailerPart {
    Start,
    Name,
    Value,
    /// Before the LF of a trailer line.
    Lf,
    /// Before the LF of the empty line that ends the body.
    LastLf,
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => SIZE,
            Framing::UntilClose => State::UntilClose,
        };
        Body { state, until_close: framing == Framing::UntilClose }
    }

    /// Takes as many of `bytes` as belong to this body and says how many; the rest is the next message's. Every piece
    /// of payload, without the chunked coding, goes to `payload`, never an empty one.
    ///
    /// Bounds: size lines 4 KiB with their extensions (ignored), sizes 16 digits, trailers 16 KiB in all.
    pub fn feed(&mut self, bytes: &[u8], mut payload: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let rest = &bytes[at..];
            match self.state {
                State::Done => break,
                State::Failed(wrong) => return Err(wrong),
                State::UntilClose => {
                    payload(rest);
                    at = bytes.len();
                }
                State::Length(left) => {
                    let (piece, left) = split(rest, left);
                    payload(piece);
                    at += piece.len();
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                }
                State::Data(left) => {
                    let (piece, left) = split(rest, left);
                    payload(piece);
                    at += piece.len();
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                }
                state => {
                    self.state = step(state, byte).unwrap_or(State::Failed(Malformed::BadChunk));
                    at += 1;
                }
            }
        }
        match self.state {
            State::Failed(wrong) => Err(wrong),
            _ => Ok(at),
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The peer closed the connection: right only for a body that ends so, or one that is already done.
    pub fn closed(&mut self) -> Result<(), Malformed> {
        self.state = match self.state {
            State::Done | State::UntilClose => State::Done,
            State::Failed(wrong) => State::Failed(wrong),
            _ => State::Failed(Malformed::CutBody),
        };
        if let State::Failed(wrong) = self.state { Err(wrong) } else { Ok(()) }
    }

    /// Whether this body ends, or ended, with its connection.
    pub fn is_until_close(&self) -> bool {
        self.until_close
    }
}

const SIZE: State = State::Size { part: SizePart::Digits, digits: 0, size: 0, read: 0 };

/// What the headers declare; `None` when they are silent.
fn declared(minor_version: u8, headers: &Headers) -> Result<Option<Framing>, Malformed> {
    let length = content_length(headers)?;
    let mut codings = headers.values("transfer-encoding");
    let Some(coding) = codings.next() else { return Ok(length.map(Framing::Length)) };
    if length.is_some() {
        return Err(Malformed::LengthAndChunked);
    }
    if minor_version == 0 || codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(Malformed::BadTransferEncoding);
    }
    Ok(Some(Framing::Chunked))
}

/// The number that every `Content-Length` line gives; a list, even of equal numbers, is refused.
fn content_length(headers: &Headers) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for value in headers.values("content-length") {
        // `parse` alone would take a plus sign.
        let digits = Some(value).filter(|value| value.iter().all(u8::is_ascii_digit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(Malformed::BadContentLength)?;
        if length.is_some_and(|length| length != number) {
            return Err(Malformed::BadContentLength);
        }
        length = Some(number);
    }
    Ok(length)
}

/// The first `left` bytes of `bytes`, and how many are still to come after them.
fn split(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (&bytes[..len], left - len as u64)
}

/// One byte of the chunked coding outside the data; `None` when it must not stand there.
fn step(state: State, byte: u8) -> Option<State> {
    match state {
        State::Size { part, digits, size, read } => {
            if read >= MAX_SIZE_LINE {
                return None;
            }
            let go = |part| Some(State::Size { part, digits, size, read: read + 1 });
            match (part, byte) {
                (SizePart::Digits, _) if byte.is_ascii_hexdigit() => {
                    let digit = char::from(byte).to_digit(16)?;
                    (digits < MAX_SIZE_DIGITS).then_some(State::Size {
                        part,
                        digits: digits + 1,
                        size: size << 4 | u64::from(digit),
                        read: read + 1,
                    })
                }
                _ if digits == 0 => None,
                (SizePart::Lf, b'\n') if size == 0 => Some(State::Trailer(TrailerPart::Start, 0)),
                (SizePart::Lf, b'\n') => Some(State::Data(size)),
                (SizePart::Lf, _) => None,
                (_, b'\r') => go(SizePart::Lf),
                (SizePart::Extension, _) if is_text(byte) => go(SizePart::Extension),
                (SizePart::Digits | SizePart::Space, b' ' | b'\t') => go(SizePart::Space),
                (SizePart::Digits | SizePart::Space, b';') => go(SizePart::Extension),
                _ => None,
            }
        }
        State::DataCr => (byte == b'\r').then_some(State::DataLf),
        State::DataLf => (byte == b'\n').then_some(SIZE),
        State::Trailer(part, read) => {
            let part = match (part, byte) {
                (TrailerPart::LastLf, b'\n') => return Some(State::Done),
                _ if read >= MAX_TRAILERS => return None,
                (TrailerPart::Start, b'\r') => TrailerPart::LastLf,
                (TrailerPart::Start | TrailerPart::Name, _) if is_name(byte) => TrailerPart::Name,
                (TrailerPart::Name, b':') => TrailerPart::Value,
                (TrailerPart::Value, b'\r') => TrailerPart::Lf,
                (TrailerPart::Value, _) if is_text(byte) => TrailerPart::Value,
                (TrailerPart::Lf, b'\n') => TrailerPart::Start,
                _ => return None,
            };
            Some(State::Trailer(part, read + 1))
        }
        other => Some(other),
    }
}

/// What may stand in a field value (RFC 9110 5.5): no control character but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// tchar of RFC 9110 5.6.2.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::super::head::{request, response};
    use super::super::hostile::{Rng, mutate, pieces};
    use super::*;

    fn asked(version: u8, lines: &str) -> Result<Framing, Malformed> {
        request_framing(&request(format!("POST / HTTP/1.{version}\r\n{lines}\r\n").as_bytes()).unwrap().unwrap().1)
    }

    fn answered(status: u16, method: &str, lines: &str) -> Result<Framing, Malformed> {
        let head = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        response_framing(&response(head.as_bytes()).unwrap().unwrap().1, method)
    }

    #[test]
    fn framing_of_requests() {
        let rows = [
            (1, "", Ok(Framing::Empty)),
            (1, "Content-Length: 12\r\n", Ok(Framing::Length(12))),
            (0, "Content-Length: 12\r\ncontent-length: 12\r\n", Ok(Framing::Length(12))),
            (1, "Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
            (1, "Content-Length: 18446744073709551616\r\n", Err(Malformed::BadContentLength)),
            (1, "Content-Length: 1\r\nContent-Length: 2\r\n", Err(Malformed::BadContentLength)),
            (1, "Content-Length: 1, 1\r\n", Err(Malformed::BadContentLength)),
            (1, "Content-Length: +1\r\n", Err(Malformed::BadContentLength)),
            (1, "Content-Length:\r\n", Err(Malformed::BadContentLength)),
            (1, "Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            (0, "Transfer-Encoding: chunked\r\n", Err(Malformed::BadTransferEncoding)),
            (1, "Transfer-Encoding: gzip, chunked\r\n", Err(Malformed::BadTransferEncoding)),
            (1, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Malformed::BadTransferEncoding)),
            (1, "Transfer-Encoding: chunked;\r\n", Err(Malformed::BadTransferEncoding)),
            (1, "Transfer-Encoding:\r\n", Err(Malformed::BadTransferEncoding)),
            (1, "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Err(Malformed::LengthAndChunked)),
        ];
        for (version, lines, want) in rows {
            assert_eq!(asked(version, lines), want, "{lines:?}");
        }
    }

    #[test]
    fn framing_of_responses() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
        let rows = [
            (200, "GET", "", Ok(Framing::UntilClose)),
            (200, "GET", chunked, Ok(Framing::Chunked)),
            (200, "GET", both, Err(Malformed::LengthAndChunked)),
            (200, "HEAD", chunked, Ok(Framing::Empty)),
            (101, "GET", "", Ok(Framing::Empty)),
            (304, "GET", "Content-Length: 3\r\n", Ok(Framing::Empty)),
            (200, "CONNECT", chunked, Ok(Framing::Empty)),
            (407, "CONNECT", "Content-Length: 3\r\n", Ok(Framing::Length(3))),
        ];
        for (status, method, lines, want) in rows {
            assert_eq!(answered(status, method, lines), want, "{status} {method} {lines:?}");
        }
    }

    /// What comes of `pieces` in turn: bytes taken, payload, whether it is done.
    fn run(framing: Framing, pieces: &[&[u8]]) -> Result<(usize, Vec<u8>, bool), Malformed> {
        let mut body = Body::new(framing);
        let (mut taken, mut seen) = (0, Vec::new());
        for piece in pieces {
            let used = body.feed(piece, |bytes| {
                assert!(!bytes.is_empty());
                seen.extend_from_slice(bytes);
            })?;
            taken += used;
            if used < piece.len() {
                break;
            }
        }
        Ok((taken, seen, body.is_done()))
    }

    #[test]
    fn finds_the_end_and_shows_the_payload() {
        let chunks: &[u8] = b"00A \t;x=\"y\"\r\n0123456789\r\n1\r\nZ\r\n0;a\r\nT: 1\r\nU:\r\n\r\n";
        let rows: [(Framing, &[u8], &str, &str, bool); 7] = [
            (Framing::Empty, b"", "next", "", true),
            (Framing::Length(3), b"abc", "next", "abc", true),
            (Framing::Length(9), b"abc", "", "abc", false),
            (Framing::UntilClose, b"abc", "", "abc", false),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\n", "next", "abc", true),
            (Framing::Chunked, chunks, "GET", "0123456789Z", true),
            (Framing::Chunked, b"ffffffffffffffff\r\nabc", "", "abc", false),
        ];
        for (framing, body, next, payload, done) in rows {
            let want = Ok((body.len(), payload.as_bytes().to_vec(), done));
            let text = [body, next.as_bytes()].concat();
            assert_eq!(run(framing, &[&text]), want, "{:?}", String::from_utf8_lossy(&text));
            for cut in 0..text.len() {
                assert_eq!(run(framing, &[&text[..cut], &text[cut..]]), want, "cut at {cut}");
            }
        }
    }

    #[test]
    fn refuses_bad_chunks() {
        let sizes = ["", ";x", "-1", "+1", "0x1", " 1", "1\n", "1\rX", "1 x", "1;\0", "g", "00000000000000001"];
        let rest =
            ["1\r\nab", "1\r\na\n", "0\r\n\n", "0\r\n T: 1", "0\r\nT", "0\r\nT : 1", "0\r\nT: a\nb", "0\r\nT: a\0"];
        let rows = sizes.iter().chain(&rest).map(|text| format!("{text}\r\n"));
        for text in rows {
            assert_eq!(run(Framing::Chunked, &[text.as_bytes()]), Err(Malformed::BadChunk), "{text:?}");
        }
        let fits = format!("1;{}\r\na\r\n", "x".repeat(MAX_SIZE_LINE - 4));
        assert!(run(Framing::Chunked, &[fits.as_bytes()]).is_ok());
        for long in
            [format!("1;{}\r\n", "x".repeat(MAX_SIZE_LINE - 3)), format!("0\r\n{}\r\n", "T: 1\r\n".repeat(2731))]
        {
            assert_eq!(run(Framing::Chunked, &[long.as_bytes()]), Err(Malformed::BadChunk));
        }
    }

    #[test]
    fn a_close_ends_only_what_may_end_so() {
        let mut body = Body::new(Framing::UntilClose);
        assert!(body.is_until_close() && body.closed().is_ok() && body.is_done() && body.is_until_close());
        assert_eq!(Body::new(Framing::Empty).closed(), Ok(()));
        for framing in [Framing::Length(1), Framing::Chunked] {
            let mut body = Body::new(framing);
            assert_eq!(body.closed(), Err(Malformed::CutBody));
            assert_eq!(body.feed(b"1", |_| {}), Err(Malformed::CutBody));
            assert!(!body.is_done());
        }
    }

    #[test]
    fn cut_and_mutated() {
        const SEED: &[u8] = b"5;a=b\r\nhello\r\n1F\r\n0123456789012345678901234567890\r\n0\r\nT: 1\r\n\r\nnext";
        const WORDS: [&[u8]; 9] = [b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"0", b";", b" ", b"FFFFFFFFFFFFFFFF", b"\0"];
        let mut rng = Rng::new(2);
        for _ in 0..20_000 {
            let text = mutate(&mut rng, SEED, &WORDS);
            let whole = run(Framing::Chunked, &[&text]);
            assert_eq!(run(Framing::Chunked, &pieces(&mut rng, &text)), whole, "{:?}", String::from_utf8_lossy(&text));
        }
    }
}
