//! HTTP/1.1 as a server reads and writes it: request heads, request bodies, response heads, chunks. Knows no route.

use super::record::{BODY_STORED, header};
use super::stream::{End, Stream};
use std::fmt::Write as _;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }
}

const HEAD_LIMIT: usize = 512 * 1024;

/// `None` when the client ended the connection between two requests.
pub fn read_request(stream: &mut Stream) -> Result<Option<Request>, End> {
    let mut searched = 0;
    let end = loop {
        if let Some(at) = find(&stream.ahead[searched..], b"\r\n\r\n") {
            break searched + at;
        }
        searched = stream.ahead.len().saturating_sub(3);
        if stream.ahead.len() > HEAD_LIMIT {
            return Err(End::Malformed("request head over 512 KiB".to_owned()));
        }
        match stream.fill() {
            Ok(true) => {}
            Ok(false) | Err(_) if stream.ahead.is_empty() => return Ok(None),
            Ok(false) | Err(_) => return Err(End::ClientGone),
        }
    };
    let head = stream.take(end + 4)?;
    parse(&head[..end]).map(Some)
}

fn parse(head: &[u8]) -> Result<Request, End> {
    let malformed = |what: &str| End::Malformed(what.to_owned());
    let text = std::str::from_utf8(head).map_err(|_| malformed("request head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("request line"));
    };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header without a colon"))?;
        if name.is_empty() || name.contains([' ', '\t']) || line.contains(['\r', '\n']) {
            return Err(malformed("header name or line end"));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    if headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count() != 1 {
        return Err(malformed("not exactly one Host"));
    }
    Ok(Request { method: method.to_owned(), target: target.to_owned(), headers })
}

/// The body: its first mebibyte, and how long it was.
pub fn read_body(stream: &mut Stream, request: &Request) -> Result<(Vec<u8>, u64), End> {
    let malformed = |what: &str| End::Malformed(what.to_owned());
    let (length, encoding) = (request.header("content-length"), request.header("transfer-encoding"));
    let mut stored = Vec::new();
    match (length, encoding) {
        (Some(_), Some(_)) => Err(malformed("both Content-Length and Transfer-Encoding")),
        (None, None) => Ok((stored, 0)),
        (Some(length), None) => {
            let length = length.parse().map_err(|_| malformed("Content-Length"))?;
            swallow(stream, length, &mut stored)?;
            Ok((stored, length))
        }
        (None, Some(_)) => {
            let mut total = 0;
            loop {
                let line = read_line(stream)?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
                if size == 0 {
                    while !read_line(stream)?.is_empty() {}
                    return Ok((stored, total));
                }
                total += size;
                swallow(stream, size, &mut stored)?;
                if stream.take(2)? != b"\r\n" {
                    return Err(malformed("chunk end"));
                }
            }
        }
    }
}

fn swallow(stream: &mut Stream, length: u64, stored: &mut Vec<u8>) -> Result<(), End> {
    let mut left = length;
    while left > 0 {
        let piece = stream.take(usize::try_from(left).unwrap_or(usize::MAX).min(64 * 1024))?;
        left -= piece.len() as u64;
        let room = BODY_STORED.saturating_sub(stored.len());
        stored.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    Ok(())
}

fn read_line(stream: &mut Stream) -> Result<String, End> {
    loop {
        if let Some(at) = find(&stream.ahead, b"\r\n") {
            let mut line = stream.take(at + 2)?;
            line.truncate(at);
            return String::from_utf8(line).map_err(|_| End::Malformed("chunk line".to_owned()));
        }
        if stream.ahead.len() > HEAD_LIMIT || !stream.fill()? {
            return Err(End::ClientGone);
        }
    }
}

/// A response head. A header that comes again replaces the earlier one; one with an empty value is left out.
pub fn head(status: u16, headers: &[(String, String)]) -> String {
    let mut out = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (at, (name, value)) in headers.iter().enumerate() {
        let again = headers[at + 1..].iter().any(|(later, _)| later.eq_ignore_ascii_case(name));
        // Set-Cookie is the one header that real backends repeat.
        if value.is_empty() || (again && !name.eq_ignore_ascii_case("set-cookie")) {
            continue;
        }
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.push_str("\r\n");
    out
}

pub fn chunk(bytes: &[u8], extension: &str) -> Vec<u8> {
    let mut out = format!("{:x}{extension}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
