//! Heads on their way to the next hop: what is written again, and which headers belong to one connection only.
//!
//! Knows no credentials: which header is replaced by what is for the caller's `edit` to say.

use super::super::swar::{self, Set};
use super::{Headers, Response, is_name};
use std::io::Write;

/// What becomes of a header line when a head is written again.
pub enum Edit<'a> {
    Keep,
    Drop,
    /// The name as it stands, with this value.
    Set(&'a [u8]),
}

/// Writes the request line (always HTTP/1.1) and the headers in their order and spelling, each passed through `edit`,
/// then `add`, then the empty line. `method` and `target` must come from [`super::request`] or [`crate::wire::url`]: they are
/// written as they are. CR, LF and NUL in a value become spaces (RFC 9110 5.5), so that no value can add a line.
pub fn write_request<'a>(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    headers: &Headers,
    edit: impl FnMut(&str, &[u8]) -> Edit<'a>,
    add: &[(&str, &[u8])],
) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_headers(out, headers, edit, add);
}

/// The same for a response: its status and reason, always HTTP/1.1.
pub fn write_response<'a>(
    out: &mut Vec<u8>,
    response: &Response,
    edit: impl FnMut(&str, &[u8]) -> Edit<'a>,
    add: &[(&str, &[u8])],
) {
    // To a vector nothing fails.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", response.status(), response.reason());
    write_headers(out, response.headers(), edit, add);
}

/// Tells of a name whether it belongs to this connection only (RFC 9110 7.6.1): the known ones, and what a `Connection` header
/// nominates. `Transfer-Encoding` is not one of them because bodies are relayed in their framing; for the same reason
/// a nomination of what frames or addresses the message is not obeyed, it would let a peer move the body's end.
pub fn hop_by_hop(headers: &Headers) -> impl Fn(&str) -> bool {
    const ALWAYS: [&str; 7] =
        ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "proxy-authenticate", "proxy-authorization"];
    const NEVER: [&str; 4] = ["content-length", "transfer-encoding", "trailer", "host"];
    // Codex sends none, and then nothing needs to be looked for in it.
    let nominates = headers.contains("connection");
    move |name| {
        let is_in = |list: &[&str]| list.iter().any(|known| is_name(name.as_bytes(), known));
        is_in(&ALWAYS) || (nominates && !is_in(&NEVER) && headers.has_token("connection", name))
    }
}

/// Whether the connection stays open after this message (RFC 9112 9.3), as far as its head can say.
pub fn keeps_alive(minor_version: u8, headers: &Headers) -> bool {
    !headers.has_token("connection", "close") && (minor_version >= 1 || headers.has_token("connection", "keep-alive"))
}

fn write_headers<'a>(
    out: &mut Vec<u8>,
    headers: &Headers,
    mut edit: impl FnMut(&str, &[u8]) -> Edit<'a>,
    add: &[(&str, &[u8])],
) {
    for (name, value) in headers.iter() {
        match edit(name, value) {
            // It came in a head, where no such byte can be.
            Edit::Keep => write_line(out, name, value),
            Edit::Drop => {}
            Edit::Set(value) => write_clean(out, name, value),
        }
    }
    for (name, value) in add {
        write_clean(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_clean(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    const BREAKS: Set = swar::LINE_END.and_below(1);
    let mut at = out.len() + name.len();
    write_line(out, name, value);
    let end = out.len() - 2;
    loop {
        at += swar::run(&out[at..end], &BREAKS);
        if at == end {
            return;
        }
        out[at] = b' ';
    }
}

fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Request, request, response};
    use super::*;

    fn ask(text: &[u8]) -> Request {
        request(text).unwrap().unwrap().1
    }

    #[test]
    fn writing_keeps_order_and_spelling() {
        let mut out = Vec::new();
        let head = ask(b"\r\nPOST /a HTTP/1.0\r\nB:1\r\nA: 2\r\nb: 3\r\n\r\n");
        let edit = |name: &str, value: &[u8]| match (name, value) {
            ("A", _) => Edit::Set(b"x\r\ny: z"),
            (_, b"3") => Edit::Drop,
            _ => Edit::Keep,
        };
        write_request(&mut out, head.method(), "/b", head.headers(), edit, &[("C", b"4")]);
        assert_eq!(String::from_utf8_lossy(&out), "POST /b HTTP/1.1\r\nB: 1\r\nA: x  y: z\r\nC: 4\r\n\r\n");
        out.clear();
        let head = response(b"HTTP/1.0 404 Not Found\r\na: 1\r\n\r\n").unwrap().unwrap().1;
        write_response(&mut out, &head, |_, _| Edit::Keep, &[]);
        assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 404 Not Found\r\na: 1\r\n\r\n");
    }

    #[test]
    fn hop_by_hop_and_persistence() {
        let head = ask(b"GET / HTTP/1.1\r\nConnection: X-a, content-length\r\nconnection: ,host , y\r\n\r\n");
        let rows = [
            "TE",
            "Upgrade",
            "x-A",
            "Y",
            "keep-alive",
            "!transfer-encoding",
            "!content-length",
            "!Host",
            "!trailer",
            "!z",
        ];
        for row in rows {
            let (name, want) = row.strip_prefix('!').map_or((row, true), |name| (name, false));
            assert_eq!(hop_by_hop(head.headers())(name), want, "{name}");
        }
        for (version, connection, want) in [
            (1, "x", true),
            (1, "a, Close", false),
            (0, "x", false),
            (0, "Keep-Alive", true),
            (0, "keep-alive, close", false),
        ] {
            let head = ask(format!("GET / HTTP/1.{version}\r\nConnection: {connection}\r\n\r\n").as_bytes());
            assert_eq!(keeps_alive(head.minor_version(), head.headers()), want, "1.{version} {connection}");
        }
    }
}
