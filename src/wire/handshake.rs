//! The opening handshake of WebSocket (RFC 6455 4), both ends of it.
//!
//! Knows no `Host`, no `Origin` and no credentials: whether a client may connect is not decided here.

use super::Malformed;
use super::body::{self, Framing};
use super::head::{Headers, Request, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// RFC 6455 1.3: what the key is joined with before it is hashed.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for WebSocket at all; [`key`] says whether it asks rightly.
pub fn is_upgrade(request: &Request) -> bool {
    request.headers().has_token("upgrade", "websocket")
}

/// Checks a client's handshake (RFC 6455 4.2.1) and gives its key.
pub fn key(request: &Request) -> Result<&str, Malformed> {
    let headers = request.headers();
    if request.method() != "GET" || request.minor_version() != 1 || !switches(headers) {
        return Err(Malformed::NotAnUpgrade);
    }
    // The bytes of a body could be read as frames by one of two parties.
    if !matches!(body::request_framing(request)?, Framing::Empty | Framing::Length(0)) {
        return Err(Malformed::NotAnUpgrade);
    }
    if single(headers, "sec-websocket-version") != Some("13") {
        return Err(Malformed::BadWebSocketVersion);
    }
    let key = single(headers, "sec-websocket-key").ok_or(Malformed::BadKey)?;
    match STANDARD.decode(key) {
        Ok(nonce) if nonce.len() == 16 => Ok(key),
        _ => Err(Malformed::BadKey),
    }
}

/// The value of `Sec-WebSocket-Accept` for a key (RFC 6455 4.2.2).
pub fn accept(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    STANDARD.encode(hash.digest().bytes())
}

/// Checks a server's answer (RFC 6455 4.1) to a handshake that offered `key`; [`agrees_on_nothing`] looks at the rest.
pub fn check(response: &Response, key: &str) -> Result<(), Malformed> {
    let headers = response.headers();
    if response.status() != 101 || response.minor_version() != 1 || !switches(headers) {
        return Err(Malformed::NotSwitched);
    }
    if single(headers, "sec-websocket-accept") != Some(accept(key).as_str()) {
        return Err(Malformed::BadAccept);
    }
    Ok(())
}

/// Checks a server's answer to a handshake that offered no extension and no subprotocol (RFC 6455 4.1).
pub fn agrees_on_nothing(response: &Response) -> Result<(), Malformed> {
    let agreed = ["sec-websocket-extensions", "sec-websocket-protocol"];
    if agreed.iter().any(|name| response.headers().contains(name)) { Err(Malformed::Unasked) } else { Ok(()) }
}

fn switches(headers: &Headers) -> bool {
    headers.has_token("upgrade", "websocket") && headers.has_token("connection", "upgrade")
}

/// The value of a header that stands there exactly once.
fn single<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    if headers.values(name).count() == 1 { headers.value(name) } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::head::{request, response};
    use super::super::hostile::{Rng, mutate};
    use super::*;

    const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    /// The example of RFC 6455 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn the_clients_side() {
        let rows = [
            ("", "", Ok(KEY)),
            ("GET", "POST", Err(Malformed::NotAnUpgrade)),
            ("HTTP/1.1", "HTTP/1.0", Err(Malformed::NotAnUpgrade)),
            ("Upgrade: WebSocket", "Upgrade: h2c", Err(Malformed::NotAnUpgrade)),
            ("keep-alive, Upgrade", "keep-alive", Err(Malformed::NotAnUpgrade)),
            ("Version: 13", "Version: 8", Err(Malformed::BadWebSocketVersion)),
            ("Host: a", "Sec-WebSocket-Version: 13", Err(Malformed::BadWebSocketVersion)),
            ("Host: a", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", Err(Malformed::BadKey)),
            ("Host: a", "Content-Length: 0", Ok(KEY)),
            ("Host: a", "Content-Length: 1", Err(Malformed::NotAnUpgrade)),
            ("Host: a", "Transfer-Encoding: chunked", Err(Malformed::NotAnUpgrade)),
            ("dGhl", "", Err(Malformed::BadKey)),
            ("==", "", Err(Malformed::BadKey)),
            ("dGhl", "*Ghl", Err(Malformed::BadKey)),
            ("Sec-WebSocket-Key", "Key", Err(Malformed::BadKey)),
        ];
        for (old, new, want) in rows {
            let head = request(ASK.replacen(old, new, 1).as_bytes()).unwrap().unwrap().1;
            assert_eq!(key(&head), want, "{old} -> {new}");
            assert_eq!(is_upgrade(&head), new != "Upgrade: h2c");
        }
    }

    #[test]
    fn the_servers_side() {
        assert_eq!(accept(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let rows = [
            ("", "", Ok(())),
            ("101", "200", Err(Malformed::NotSwitched)),
            ("HTTP/1.1", "HTTP/1.0", Err(Malformed::NotSwitched)),
            ("Upgrade: websocket\r\n", "", Err(Malformed::NotSwitched)),
            ("Connection: Upgrade\r\n", "", Err(Malformed::NotSwitched)),
            ("s3pP", "S3pP", Err(Malformed::BadAccept)),
            ("Sec-WebSocket-Accept", "X", Err(Malformed::BadAccept)),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", Err(Malformed::Unasked)),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", Err(Malformed::Unasked)),
        ];
        for (old, new, want) in rows {
            let head = response(ANSWER.replacen(old, new, 1).as_bytes()).unwrap().unwrap().1;
            assert_eq!(check(&head, KEY).and_then(|()| agrees_on_nothing(&head)), want, "{old} -> {new}");
        }
    }

    #[test]
    fn mutated() {
        const WORDS: [&[u8]; 6] = [b"\r\n", b"=", b"\xff", b", ", b"Upgrade", b"13"];
        let mut rng = Rng::new(5);
        for _ in 0..5000 {
            if let Ok(Some((_, head))) = request(&mutate(&mut rng, ASK.as_bytes(), &WORDS))
                && let Ok(key) = key(&head)
            {
                assert_eq!(key.len(), 24);
            }
            if let Ok(Some((_, head))) = response(&mutate(&mut rng, ANSWER.as_bytes(), &WORDS))
                && check(&head, KEY).is_ok()
            {
                assert_eq!(head.status(), 101);
            }
        }
    }
}
