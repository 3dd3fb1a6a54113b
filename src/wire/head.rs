//! Heads of HTTP/1.1 messages: reading them. Writing them again with some headers changed is in `edit`.
//!
//! Stricter than the RFC allows where a lenient reading lets two parties see two different messages: bare LF, folded
//! lines, white space before the colon and NUL are refused. Knows no URLs, no bodies, and which `Host` is right (or
//! that HTTP/1.1 wants exactly one) is for the caller to say.

mod edit;

pub use edit::{Edit, hop_by_hop, keeps_alive, write_request, write_response};

use super::{Malformed, swar};
use std::fmt;
use std::ops::Range;

/// Bytes of a head, its empty line included. A codex head has 2.6 KB plus a token of about 2 KB.
pub const MAX_HEAD: usize = 64 * 1024;
/// Header lines of a head.
pub const MAX_HEADERS: usize = 128;

const LF: swar::Set = swar::Set::of(b'\n', b'\n');

/// A request head (RFC 9112 3): one block of bytes and where things stand in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    method: Range<usize>,
    target: Range<usize>,
    minor_version: u8,
    headers: Headers,
}

/// A response head (RFC 9112 4), interim ones included.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    reason: Range<usize>,
    minor_version: u8,
    headers: Headers,
}

/// The header lines of a head, in their order and spelling.
#[derive(Clone, PartialEq, Eq)]
pub struct Headers {
    block: Box<[u8]>,
    lines: Vec<Line>,
}

/// Spans into the block: `name` is a token, `value` has no white space around it.
#[derive(Clone, PartialEq, Eq)]
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

/// Reads a request head from the start of `buf`; one empty line before it is taken with it (RFC 9112 2.2).
/// At most [`MAX_HEAD`] bytes and [`MAX_HEADERS`] lines.
pub fn request(buf: &[u8]) -> Result<Option<(usize, Request)>, Malformed> {
    let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    let text = bounded(&buf[skipped..]);
    // httparse would skip any number of empty lines.
    if text.starts_with(b"\n") || text.starts_with(b"\r\n") {
        return Err(Malformed::BadRequestLine);
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut lines);
    let status = parsed.parse(text).map_err(|error| malformed(error, Malformed::BadRequestLine))?;
    let Some(used) = complete(status, text)? else { return Ok(None) };
    let (Some(method), Some(target), Some(minor_version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Malformed::BadRequestLine);
    };
    // A tunnel to a path (RFC 9110 9.3.6): whether HTTP follows its answer, two parties may read differently.
    let tunnels = method == "CONNECT" && target.starts_with('/');
    if target.is_empty() || tunnels || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Malformed::BadRequestLine);
    }
    let block = &text[..used];
    let method = span(block, method.as_bytes()).ok_or(Malformed::BadRequestLine)?;
    let target = span(block, target.as_bytes()).ok_or(Malformed::BadRequestLine)?;
    let headers = Headers::new(block, parsed.headers)?;
    Ok(Some((skipped + used, Request { method, target, minor_version, headers })))
}

/// Reads a response head from the start of `buf`. An interim response (1xx) is returned like any other.
/// Same bounds as [`request`]; a status below 100 is refused.
pub fn response(buf: &[u8]) -> Result<Option<(usize, Response)>, Malformed> {
    let text = bounded(buf);
    if text.starts_with(b"\n") || text.starts_with(b"\r") {
        return Err(Malformed::BadStatusLine);
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut lines);
    let status = parsed.parse(text).map_err(|error| malformed(error, Malformed::BadStatusLine))?;
    let Some(used) = complete(status, text)? else { return Ok(None) };
    let (Some(code @ 100..), Some(minor_version)) = (parsed.code, parsed.version) else {
        return Err(Malformed::BadStatusLine);
    };
    let block = &text[..used];
    let reason = span(block, parsed.reason.unwrap_or("").as_bytes()).ok_or(Malformed::BadStatusLine)?;
    let headers = Headers::new(block, parsed.headers)?;
    Ok(Some((used, Response { status: code, reason, minor_version, headers })))
}

impl Request {
    pub fn method(&self) -> &str {
        self.headers.text(&self.method)
    }

    /// The request target as it stands: visible ASCII, not empty, in any of the four forms of RFC 9112 3.2.
    pub fn target(&self) -> &str {
        self.headers.text(&self.target)
    }

    /// 0 or 1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    pub fn headers(&self) -> &Headers {
        &self.headers
    }
}

impl Response {
    /// 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Empty when it is absent or not ASCII.
    pub fn reason(&self) -> &str {
        self.headers.text(&self.reason)
    }

    /// 0 or 1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    pub fn headers(&self) -> &Headers {
        &self.headers
    }
}

impl Headers {
    /// Name and value of each line, in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| (self.text(&line.name), self.bytes(&line.value)))
    }

    /// The first value of `name`, if it is UTF-8.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_it = move |line: &&Line| is_name(self.bytes(&line.name), name);
        self.lines.iter().filter(is_it).map(|line| self.bytes(&line.value))
    }

    /// Whether a comma list (RFC 9110 5.6.1) of any line `name` has `token`, whatever the case of either.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn new(block: &[u8], parsed: &[httparse::Header<'_>]) -> Result<Headers, Malformed> {
        let line = |header: &httparse::Header<'_>| {
            Some(Line { name: span(block, header.name.as_bytes())?, value: span(block, header.value)? })
        };
        let mut lines = Vec::with_capacity(parsed.len());
        for header in parsed {
            lines.push(line(header).ok_or(Malformed::BadHeader)?);
        }
        Ok(Headers { block: block.into(), lines })
    }

    fn bytes(&self, span: &Range<usize>) -> &[u8] {
        self.block.get(span.clone()).unwrap_or_default()
    }

    fn text(&self, span: &Range<usize>) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The target too may hold a secret: the run's own one stands in its path.
        write!(f, "Request({} HTTP/1.{} {:?})", self.method(), self.minor_version, self.headers)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} HTTP/1.{} {:?})", self.status, self.minor_version, self.headers)
    }
}

/// Names only: values are tokens and cookies.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Whether a field has this name, in whatever case (RFC 9110 5.1).
// Names are compared by the hundred for each head, and most differ in length: that much is looked at without a call.
#[allow(clippy::inline_always)]
#[inline(always)]
pub fn is_name(field: &[u8], name: &str) -> bool {
    field.len() == name.len() && field.eq_ignore_ascii_case(name.as_bytes())
}

fn bounded(buf: &[u8]) -> &[u8] {
    &buf[..buf.len().min(MAX_HEAD)]
}

/// Bytes of the head at the start of `text`, once it is all there. Checks the line ends, which httparse lets pass.
fn complete(status: httparse::Status<usize>, text: &[u8]) -> Result<Option<usize>, Malformed> {
    let (used, head) = match status {
        httparse::Status::Complete(used) => (Some(used), text.get(..used).unwrap_or(text)),
        httparse::Status::Partial if text.len() >= MAX_HEAD => return Err(Malformed::HeadTooLarge),
        httparse::Status::Partial => (None, text),
    };
    let mut rest = head;
    loop {
        let (line, from) = rest.split_at(swar::run(rest, &LF));
        match from.split_first() {
            None => return Ok(used),
            Some(_) if line.last() != Some(&b'\r') => return Err(Malformed::BadHeader),
            Some((_, next)) => rest = next,
        }
    }
}

fn malformed(error: httparse::Error, line: Malformed) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Malformed::BadHeader,
        httparse::Error::Version => Malformed::BadVersion,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => line,
    }
}

/// Where `part` stands in `block`; `None` if it does not. An empty part may stand anywhere.
fn span(block: &[u8], part: &[u8]) -> Option<Range<usize>> {
    if part.is_empty() {
        return Some(0..0);
    }
    let start = part.as_ptr().addr().checked_sub(block.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= block.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::super::hostile::{Rng, mutate, same_when_cut};
    use super::*;

    const REQUEST: &[u8] =
        b"POST /backend-api/codex/responses?x=1 HTTP/1.1\r\nversion: 0.169.0\r\nAuthorization:Bearer s3cret \r\n\
        host: localhost:18080\r\nConnection: close, X-Gone\r\nx-gone: 1\r\nempty:\r\n\r\nrest\n";
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=\xff\r\nX: \t y \t\r\n\r\nrest";

    #[test]
    fn request_gives_line_and_headers() {
        let (used, head) = request(REQUEST).unwrap().unwrap();
        assert_eq!(&REQUEST[used..], b"rest\n");
        assert_eq!((head.method(), head.minor_version()), ("POST", 1));
        assert_eq!(head.target(), "/backend-api/codex/responses?x=1");
        assert_eq!(head.headers().value("authorization"), Some("Bearer s3cret"));
        assert_eq!(head.headers().value("EMPTY"), Some(""));
        assert!(head.headers().has_token("connection", "Close") && head.headers().has_token("Connection", "x-gone"));
        assert!(!head.headers().has_token("connection", "x") && !head.headers().contains("x"));
        assert!(!format!("{head:?}").contains("s3cret"));
    }

    #[test]
    fn response_gives_status_and_headers() {
        let (used, head) = response(RESPONSE).unwrap().unwrap();
        assert_eq!((&RESPONSE[used..], head.status(), head.reason()), (&b"rest"[..], 200, "OK"));
        assert_eq!(head.headers().values("Set-Cookie").collect::<Vec<_>>(), [&b"a=1"[..], b"b=\xff"]);
        assert_eq!(head.headers().value("x"), Some("y"));
        for (text, status, reason) in [("HTTP/1.0 100\r\n\r\n", 100, ""), ("HTTP/1.1 999 a b \r\n\r\n", 999, "a b ")] {
            let head = response(text.as_bytes()).unwrap().unwrap().1;
            assert_eq!((head.status(), head.reason()), (status, reason));
        }
    }

    #[test]
    fn what_is_refused() {
        let rows: [(&[u8], Malformed); 18] = [
            (b"CONNECT /x HTTP/1.1\r\n\r\n", Malformed::BadRequestLine),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Malformed::BadRequestLine),
            (b"\nGET / HTTP/1.1\r\n\r\n", Malformed::BadRequestLine),
            (b"GET  / HTTP/1.1\r\n\r\n", Malformed::BadRequestLine),
            (b"GET / HTTP/1.1 \r\n\r\n", Malformed::BadRequestLine),
            (b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", Malformed::BadRequestLine),
            (b"GET /\r\n\r\n", Malformed::BadRequestLine),
            (b"GET / HTTP/2.0\r\n\r\n", Malformed::BadVersion),
            (b"\x16\x03\x01\x02\x00\x01", Malformed::BadRequestLine),
            (b"GET / HTTP/1.1\nA: b\r\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA: b\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\n: b\r\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA\r\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", Malformed::BadHeader),
            (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Malformed::BadHeader),
        ];
        for (text, wrong) in rows {
            assert_eq!(request(text), Err(wrong), "{:?}", String::from_utf8_lossy(text));
        }
        for text in
            ["\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1 20 x\r\n\r\n", "HTTP/1.1 200 a\0\r\n"]
        {
            assert_eq!(response(text.as_bytes()), Err(Malformed::BadStatusLine), "{text:?}");
        }
        assert_eq!(response(b"HTTP/2 200\r\n\r\n"), Err(Malformed::BadVersion));
    }

    #[test]
    fn bounds() {
        let lines = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
        assert!(request(lines(MAX_HEADERS).as_bytes()).unwrap().is_some());
        assert_eq!(request(lines(MAX_HEADERS + 1).as_bytes()), Err(Malformed::TooManyHeaders));
        let long = |n: usize| format!("GET / HTTP/1.1\r\na: {}", "b".repeat(n - 19)).into_bytes();
        assert_eq!(request(&long(MAX_HEAD - 1)), Ok(None));
        assert_eq!(request(&long(MAX_HEAD)), Err(Malformed::HeadTooLarge));
        let mut whole = long(MAX_HEAD - 4);
        whole.extend_from_slice(b"\r\n\r\n");
        assert_eq!(request(&whole).unwrap().unwrap().0, MAX_HEAD);
    }

    #[test]
    fn cut_and_mutated() {
        const WORDS: [&[u8]; 11] =
            [b"\r\n", b"\n", b"\r", b":", b" ", b"\t", b"\0", b"HTTP/1.1", b"\r\n\r\n", b"\xff", b"Host: a\r\n"];
        let mut rng = Rng::new(1);
        for round in 0..3000 {
            let (ask, answer) = match round {
                0 => (REQUEST.to_vec(), RESPONSE.to_vec()),
                _ => (mutate(&mut rng, REQUEST, &WORDS), mutate(&mut rng, RESPONSE, &WORDS)),
            };
            same_when_cut(&ask, request);
            same_when_cut(&answer, response);
            if let Ok(Some((_, head))) = request(&ask) {
                // What we write, we must read as the same message.
                let mut out = Vec::new();
                write_request(&mut out, head.method(), head.target(), head.headers(), |_, _| Edit::Keep, &[]);
                let (used, again) = request(&out).unwrap().unwrap();
                assert_eq!((used, again.target()), (out.len(), head.target()));
                assert!(again.headers().iter().eq(head.headers().iter()));
            }
        }
    }
}
