//! One GET or POST on a connection of its own, for quota, routing and logins. Blocking, bounded in time and size; follows no
//! redirect.

use super::stream::Stream;
use super::tls::Protocol;
use super::{Cause, NetError, Patience, Phase};
use crate::wire::body::{self, Body};
use crate::wire::head;
use crate::wire::url::Url;
use std::time::Instant;

/// The largest answer of [`post_or_words`]: three tokens of a few KB each.
const MAX_WORDS: usize = 256 * 1024;

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

pub type FetchError = NetError;

/// Fetches `url` with `headers` (Host, Accept and Connection are added). A body over `max_body` bytes is an error.
pub fn get(url: &Url, headers: &[(&str, &str)], deadline: Instant, max_body: usize) -> Result<Answer, FetchError> {
    exchange("GET", url, headers, None, deadline, max_body)
}

/// Sends `body` to `url` with `headers` (Content-Length too is added). Sent at most once, whatever happens.
pub fn post(
    url: &Url,
    headers: &[(&str, &str)],
    body: &[u8],
    deadline: Instant,
    max_body: usize,
) -> Result<Answer, FetchError> {
    exchange("POST", url, headers, Some(body), deadline, max_body)
}

/// The same for a caller that knows no network: status and body, or why there is none.
pub fn post_or_words(
    url: &Url,
    headers: &[(&str, &str)],
    body: &[u8],
    deadline: Instant,
) -> Result<(u16, Vec<u8>), String> {
    let answer = post(url, headers, body, deadline, MAX_WORDS).map_err(|error| error.to_string())?;
    Ok((answer.status, answer.body))
}

fn exchange(
    method: &str,
    url: &Url,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
    deadline: Instant,
    max_body: usize,
) -> Result<Answer, FetchError> {
    let patience = Patience::until(deadline);
    let mut stream = Stream::connect(url, Protocol::Http, patience)?;
    let failed = |phase, cause| NetError { phase, peer: url.authority(), cause };
    let mut request = head_of(method, url, headers, body.map(<[u8]>::len)).into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    stream.write_all(&request, patience).map_err(|cause| failed(Phase::Send, cause))?;
    let (response, rest) = read_head(&mut stream, patience, is_answer).map_err(|cause| failed(Phase::Head, cause))?;
    let body = read_body(&mut stream, method, &response, &rest, patience, max_body)
        .map_err(|cause| failed(Phase::Body, cause))?;
    Ok(Answer { status: response.status(), body })
}

fn head_of(method: &str, url: &Url, headers: &[(&str, &str)], length: Option<usize>) -> String {
    use std::fmt::Write;
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", url.join(""), url.authority());
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if let Some(length) = length {
        let _ = write!(text, "Content-Length: {length}\r\n");
    }
    text.push_str("Accept: */*\r\nConnection: close\r\n\r\n");
    text
}

/// To a request that asks for no other protocol.
pub fn is_answer(status: u16) -> bool {
    status >= 200
}

/// The final head, and what was read beyond it. Interim answers are skipped.
pub fn read_head(
    stream: &mut Stream,
    patience: Patience,
    is_final: impl Fn(u16) -> bool,
) -> Result<(head::Response, Vec<u8>), Cause> {
    let mut bytes = Vec::new();
    loop {
        while let Some((used, response)) = head::response(&bytes).map_err(|bad| Cause::Malformed(bad.to_string()))? {
            bytes.drain(..used);
            if is_final(response.status()) {
                return Ok((response, bytes));
            }
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read_some(&mut chunk, patience)? {
            0 => return Err(Cause::Closed),
            taken => bytes.extend_from_slice(&chunk[..taken]),
        }
    }
}

fn read_body(
    stream: &mut Stream,
    method: &str,
    response: &head::Response,
    rest: &[u8],
    patience: Patience,
    max_body: usize,
) -> Result<Vec<u8>, Cause> {
    let malformed = |bad: crate::wire::Malformed| Cause::Malformed(bad.to_string());
    let mut body = Body::new(body::response_framing(response, method).map_err(malformed)?);
    let mut payload = Vec::new();
    body.feed(rest, |bytes| payload.extend_from_slice(bytes)).map_err(malformed)?;
    let mut chunk = [0; 16 * 1024];
    while !body.is_done() {
        if payload.len() > max_body {
            return Err(Cause::Malformed(format!("its body is larger than {max_body} bytes")));
        }
        let taken = match stream.read_some(&mut chunk, patience) {
            // Many servers end TLS without a goodbye after a body whose end the connection marks.
            Err(Cause::Closed) if body.is_until_close() => 0,
            other => other?,
        };
        if taken == 0 {
            body.closed().map_err(|_| Cause::Closed)?;
            break;
        }
        body.feed(&chunk[..taken], |bytes| payload.extend_from_slice(bytes)).map_err(malformed)?;
    }
    Ok(payload)
}
