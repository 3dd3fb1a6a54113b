//! Whole messages, as friend and foe send them: what is taken of each, fed at once and cut at every byte. The families are
//! those of the known collections of request smuggling; the rows are ours. Compiled for tests only.

use super::Malformed::{
    self, BadChunk, BadContentLength, BadHeader, BadRequestLine, BadStatusLine, BadTransferEncoding, BadVersion,
    LengthAndChunked,
};
use super::body::{Body, request_framing, response_framing};
use super::head;

/// Bytes taken, and the payload of the body; `None`: more is needed.
type Taken = Result<Option<(usize, Vec<u8>)>, Malformed>;

/// Bytes that are left, and the payload.
type Left<'a> = Result<(usize, &'a str), Malformed>;

#[derive(Clone, Copy)]
enum Side {
    /// Of codex.
    Ask,
    /// Of an upstream, to this method.
    Answer(&'static str),
}

/// Reads one message as the proxy does: head, framing, body.
fn take(side: Side, bytes: &[u8]) -> Taken {
    let head = match side {
        Side::Ask => head::request(bytes)?.map(|(used, request)| (used, request_framing(&request))),
        Side::Answer(method) => {
            head::response(bytes)?.map(|(used, response)| (used, response_framing(&response, method)))
        }
    };
    let Some((used, framing)) = head else { return Ok(None) };
    let (mut body, mut payload) = (Body::new(framing?), Vec::new());
    let rest = bytes.get(used..).unwrap_or_default();
    let taken = body.feed(rest, |piece| payload.extend_from_slice(piece))?;
    Ok(body.is_done().then_some((used + taken, payload)))
}

/// The same with the body in two pieces: whatever of it came behind the head, and the rest.
fn take_cut(side: Side, bytes: &[u8], cut: usize) -> Taken {
    match take(side, bytes.get(..cut).unwrap_or(bytes)) {
        Ok(None) => take(side, bytes),
        early => early,
    }
}

#[track_caller]
fn judge(side: Side, text: &str, want: Left<'_>) {
    let bytes: Vec<u8> = text.chars().map(|letter| letter as u8).collect();
    let want = want.map(|(left, payload)| Some((bytes.len() - left, payload.as_bytes().to_vec())));
    assert_eq!(take(side, &bytes), want, "{text:?}");
    for cut in 0..bytes.len() {
        match (take_cut(side, &bytes, cut), &want) {
            // Which of two faults is seen first may depend on the cut, whether one is seen may not.
            (Err(_), Err(_)) => {}
            (got, want) => assert_eq!(&got, want, "{text:?} cut at {cut}"),
        }
    }
}

/// What stands behind the message is the next one's: so many bytes are left.
const NEXT: &str = "GET /next HTTP/1.1\r\n\r\n";

#[test]
fn requests() {
    let lines: [(&str, &str, Result<&str, Malformed>); 58] = [
        // Lengths.
        ("Content-Length: 5\r\n", "hello", Ok("hello")),
        ("Content-Length:5\r\n", "hello", Ok("hello")),
        ("Content-Length: \t5 \t\r\n", "hello", Ok("hello")),
        ("CONTENT-length: 5\r\nContent-Length: 5\r\n", "hello", Ok("hello")),
        ("Content-Length: 0000000000000000000000005\r\n", "hello", Ok("hello")),
        ("Content-Length: 0\r\n", "", Ok("")),
        ("", "", Ok("")),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5\r\nX: y\r\nContent-Length: 0\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5,5\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5,\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5 5\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5;a=b\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5.0\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 5e0\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 0x5\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: \"5\"\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: +5\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: -5\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: 1_0\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: \u{b2}\r\n", "hello", Err(BadContentLength)),
        ("Content-Length: \r\n", "", Err(BadContentLength)),
        ("Content-Length: 18446744073709551616\r\n", "", Err(BadContentLength)),
        ("Content-Length: 99999999999999999999999999999999999999\r\n", "", Err(BadContentLength)),
        // Codings.
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
        ("transfer-encoding:CHUNKED\t\r\n", "5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", Err(LengthAndChunked)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", Err(LengthAndChunked)),
        ("Content-Length: 5\r\nTransfer-Encoding: x\r\n", "hello", Err(LengthAndChunked)),
        ("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello", Err(LengthAndChunked)),
        ("Transfer-Encoding: x\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: cow, chunked\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: 'chunked'\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: chunked \u{a0}\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        ("Transfer-Encoding: \u{1e}chunked\r\n", "0\r\n\r\n", Err(BadHeader)),
        ("Transfer-Encoding: chunked\u{7f}\r\n", "0\r\n\r\n", Err(BadHeader)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "0\r\n\r\n", Err(BadTransferEncoding)),
        // Names that are nearly one of these: read as the others they are, so nothing is framed by them.
        ("Transfer_Encoding: chunked\r\n", "", Ok("")),
        ("X-Transfer-Encoding: chunked\r\n", "", Ok("")),
        ("Content_Length: 5\r\n", "", Ok("")),
        // Lines.
        ("Transfer-Encoding : chunked\r\n", "", Err(BadHeader)),
        ("Transfer-Encoding\t: chunked\r\n", "", Err(BadHeader)),
        ("Transfer-Encoding\u{b}: chunked\r\n", "", Err(BadHeader)),
        ("Transfer-Encoding\0: chunked\r\n", "", Err(BadHeader)),
        (" Transfer-Encoding: chunked\r\n", "", Err(BadHeader)),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", "", Err(BadHeader)),
        ("X: y\r\n\tz\r\n", "", Err(BadHeader)),
        ("X:\r\n y\r\n", "", Err(BadHeader)),
        ("X: y\rTransfer-Encoding: chunked\r\n", "", Err(BadHeader)),
        ("X: y\nTransfer-Encoding: chunked\r\n", "", Err(BadHeader)),
        ("X: y\r\r\nTransfer-Encoding: chunked\r\n", "", Err(BadHeader)),
        ("X: y\r\n\nTransfer-Encoding: chunked\r\n", "", Err(BadHeader)),
        ("\u{e9}: y\r\n", "", Err(BadHeader)),
        ("X: \u{e9}\u{ff}\t\r\n", "", Ok("")),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\nX: \u{e9}\r\n\r\n", Ok("hello")),
    ];
    for (lines, body, want) in lines {
        let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}");
        judge(Side::Ask, &(text + NEXT), want.map(|payload| (NEXT.len(), payload)));
    }
    let whole: [(&str, Left<'_>); 19] = [
        ("\r\nGET / HTTP/1.1\r\n\r\n", Ok((0, ""))),
        ("GET / HTTP/1.0\r\n\r\nleft", Ok((4, ""))),
        ("get / HTTP/1.1\r\n\r\n", Ok((0, ""))),
        ("M-SEARCH * HTTP/1.1\r\n\r\n", Ok((0, ""))),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
        ("\rGET / HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
        ("\nGET / HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
        (" GET / HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
        ("GET / HTTP/1.1\r\r\n\r\n", Err(BadRequestLine)),
        ("GET / HTTP/1.1\n\n", Err(BadHeader)),
        ("GET / HTTP/1.2\r\n\r\n", Err(BadVersion)),
        ("GET / HTTP/1.10\r\n\r\n", Err(BadRequestLine)),
        ("GET / http/1.1\r\n\r\n", Err(BadVersion)),
        ("GET / HTTP/01.1\r\n\r\n", Err(BadVersion)),
        ("GET / HTTPS/1.1\r\n\r\n", Err(BadVersion)),
        ("GET / x HTTP/1.1\r\n\r\n", Err(BadVersion)),
        ("GET\u{b}/ HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
        ("G\u{e9}T / HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
        ("GET /\u{7f} HTTP/1.1\r\n\r\n", Err(BadRequestLine)),
    ];
    for (text, want) in whole {
        judge(Side::Ask, text, want);
    }
}

#[test]
fn chunks() {
    let rows: [(&str, Result<&str, Malformed>); 50] = [
        ("5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
        ("05\r\nhello\r\n000\r\n\r\n", Ok("hello")),
        ("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", Ok("hello")),
        ("a\r\n0\r\n\r\nGET /\r\n0\r\n\r\n", Ok("0\r\n\r\nGET /")),
        ("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", Ok("hello")),
        ("5;a\r\nhello\r\n0;b=c;d=\"e f\"\r\n\r\n", Ok("hello")),
        ("5 ;a\r\nhello\r\n0\t\r\n\r\n", Ok("hello")),
        ("5;\r\nhello\r\n0;;\r\n\r\n", Ok("hello")),
        ("5;\u{e9}\r\nhello\r\n0\r\n\r\n", Ok("hello")),
        ("0\r\nX: y\r\nZ:\r\n\r\n", Ok("")),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", Ok("")),
        // Sizes.
        ("\r\n", Err(BadChunk)),
        (";\r\n", Err(BadChunk)),
        (" 5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("+5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("-5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("-0\r\n\r\n", Err(BadChunk)),
        ("0x5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5h\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5_\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5.0\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5,5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5 5\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("\u{b2}\r\nhi\r\n0\r\n\r\n", Err(BadChunk)),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        // Line ends.
        ("5\nhello\n0\n\n", Err(BadChunk)),
        ("5\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5\rhello\r0\r\r", Err(BadChunk)),
        ("5\r\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5;a\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5;a\0\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5\r\nhello0\r\n\r\n", Err(BadChunk)),
        ("5\r\nhello\n0\r\n\r\n", Err(BadChunk)),
        ("5\r\nhello\r0\r\n\r\n", Err(BadChunk)),
        ("5\r\nhello\r\n\r\n0\r\n\r\n", Err(BadChunk)),
        ("4\r\nhello\r\n0\r\n\r\n", Err(BadChunk)),
        ("5\r\nhelloXX0\r\n\r\n", Err(BadChunk)),
        // Trailers.
        ("0\r\n\n", Err(BadChunk)),
        ("0\r\n\r\r\n", Err(BadChunk)),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Err(BadChunk)),
        ("0\r\n X: y\r\n\r\n", Err(BadChunk)),
        ("0\r\nX : y\r\n\r\n", Err(BadChunk)),
        ("0\r\n: y\r\n\r\n", Err(BadChunk)),
        ("0\r\nX: y\n\r\n", Err(BadChunk)),
        ("0\r\nX: y\r\n z\r\n\r\n", Err(BadChunk)),
        ("0\r\nX: y\0\r\n\r\n", Err(BadChunk)),
        ("0\r\nX\r\n\r\n", Err(BadChunk)),
        ("0\r\n\u{e9}: y\r\n\r\n", Err(BadChunk)),
    ];
    for (body, want) in rows {
        for (side, line) in [(Side::Ask, "POST / HTTP/1.1"), (Side::Answer("GET"), "HTTP/1.1 200 OK")] {
            let text = format!("{line}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{NEXT}");
            judge(side, &text, want.map(|payload| (NEXT.len(), payload)));
        }
    }
}

#[test]
fn answers() {
    let rows: [(&str, &str, Left<'_>); 34] = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok((0, "hi"))),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n", Ok((19, "hi"))),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok((0, "hi"))),
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi", Ok((0, "hi"))),
        ("GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", Ok((0, "hi"))),
        ("GET", "HTTP/1.1 299 caf\u{e9} \t ok\r\nContent-Length: 2\r\n\r\nhi", Ok((0, "hi"))),
        ("GET", "HTTP/1.1 999 x\r\nContent-Length: 2\r\n\r\nhi", Ok((0, "hi"))),
        // No body, whatever is declared.
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Ok((0, ""))),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((0, ""))),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok((2, ""))),
        ("HEAD", "HTTP/1.1 404 x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((0, ""))),
        ("GET", "HTTP/1.1 204 x\r\nContent-Length: 2\r\n\r\n", Ok((0, ""))),
        ("GET", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Ok((5, ""))),
        ("GET", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", Ok((0, ""))),
        ("GET", "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok((19, ""))),
        ("GET", "HTTP/1.1 103 x\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n", Ok((0, ""))),
        ("GET", "HTTP/1.1 205 x\r\nContent-Length: 0\r\n\r\n", Ok((0, ""))),
        // What two would read differently.
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", Err(BadContentLength)),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", Err(BadContentLength)),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Err(BadContentLength)),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", Err(LengthAndChunked)),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Err(BadTransferEncoding)),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", Err(BadTransferEncoding)),
        ("GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(BadTransferEncoding)),
        // Status lines and headers.
        ("GET", "\r\nHTTP/1.1 200 OK\r\n\r\n", Err(BadStatusLine)),
        ("GET", "HTTP/1.1 000 x\r\n\r\n", Err(BadStatusLine)),
        ("GET", "HTTP/1.1 2000 x\r\n\r\n", Err(BadStatusLine)),
        ("GET", "HTTP/1.1 -20 x\r\n\r\n", Err(BadStatusLine)),
        ("GET", "HTTP/1.1  200 x\r\n\r\n", Err(BadStatusLine)),
        ("GET", "HTTP/1.1\t200 x\r\n\r\n", Err(BadVersion)),
        ("GET", "HTTP/2 200\r\n\r\n", Err(BadVersion)),
        ("GET", "ICY 200 OK\r\n\r\n", Err(BadVersion)),
        ("GET", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Err(BadHeader)),
        ("GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", Err(BadHeader)),
    ];
    for (method, text, want) in rows {
        judge(Side::Answer(method), text, want);
    }
}
