//! HTTP/1.1 (RFC 9110, 9112) through the built program, one table for each side: what comes of whatever an upstream says,
//! and what goes out for whatever a client says. The parsers alone have `src/wire/corpus.rs`.

use super::support::behind::{Behind, Peer, Wire};

const NAMES: [&str; 2] = ["alpha", "beta"];

/// What a client gets for what its upstream said.
enum Gets {
    /// Exactly that, and an orderly end.
    Same,
    Other(&'static str),
    /// A 503 of our own.
    Refused,
    /// A 503, or an answer that breaks off: nothing that looks whole.
    NothingWhole,
}
use Gets::{NothingWhole, Other, Refused, Same};

/// One request with this method, and its upstream.
#[track_caller]
fn asked(behind: &Behind, wire: &Wire, method: &str) -> (Peer, Peer) {
    let mut client = behind.peer();
    client.send(behind.head(method, &behind.backend("/wham/x"), "Connection: close\r\n"));
    let mut upstream = wire.next();
    upstream.head();
    (client, upstream)
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).expect("a byte")).collect()
}

#[test]
fn what_comes_of_an_answer() {
    let wire = Wire::start();
    let behind = Behind::wire("answers", &NAMES, &wire);
    let rows = [
        // Where it ends.
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Same),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nhi", Same),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX: forged\r\n\r\n",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n00;c\r\nX: y\r\n\r\n", Same),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n000000000000000A \r\n0\r\n\r\nHTTP/\r\n0\r\n\r\nforged",
            Other(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n000000000000000A \r\n0\r\n\r\nHTTP/\r\n0\r\n\r\n",
            ),
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            Other("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end"),
        ),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nold", Other("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nold")),
        (
            "GET",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"),
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Same),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Same),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi",
            Other("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n"),
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n", Same),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Other("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        // Heads that are strange and right.
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Same),
        ("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Other("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n")),
        ("GET", "HTTP/1.1 799 What Is This\r\nContent-Length: 0\r\nX: \u{e9}\u{ff}\r\n\r\n", Same),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX:y\r\nX: \t z \t\r\nEmpty:\r\n\r\n",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: y\r\nX: z\r\nEmpty: \r\n\r\n"),
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Gone, content-length\r\nX-Gone: 1\r\nKeep-Alive: 9\r\nContent-Length: 2\r\n\r\nhi",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ),
        // Interim answers.
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Other("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ),
        (
            "GET",
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Same,
        ),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nSet-Cookie: __cf_bm=secret\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Other("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nhi", NothingWhole),
        // Heads that are wrong.
        ("GET", "", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2", Refused),
        ("GET", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 1000 x\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 +20 x\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1  200 x\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", Refused),
        ("GET", "HTTP/1.1 200 OK\rContent-Length: 0\r\r", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nA\r\nContent-Length: 0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhi", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi", Refused),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused,
        ),
        ("GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
        // Bodies that are wrong.
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhi", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi0\r\n\r\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\n0\n\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", NothingWhole),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nhi\r\n0\r\n\r\n",
            NothingWhole,
        ),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", NothingWhole),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", NothingWhole),
    ];
    for (method, said, gets) in rows {
        let (mut client, mut upstream) = asked(&behind, &wire, method);
        upstream.send(bytes(said));
        upstream.finish();
        let (got, orderly) = client.rest();
        let want = match gets {
            Same => said,
            Other(text) => text,
            Refused => {
                assert!(got.starts_with(b"HTTP/1.1 503 "), "{said:?}: {:?}", String::from_utf8_lossy(&got));
                continue;
            }
            NothingWhole => {
                let refused = String::from_utf8_lossy(&got).contains("HTTP/1.1 503 ");
                let begun = bytes(said).starts_with(&got) && !got.ends_with(b"\r\n0\r\n\r\n");
                assert!(refused || begun, "{said:?}: {:?}", String::from_utf8_lossy(&got));
                continue;
            }
        };
        assert!(got == bytes(want) && orderly, "{said:?} gave {:?}", String::from_utf8_lossy(&got));
    }
    wire.assert_no_more();
    behind.assert_well_by_hand(&wire);
}

/// What a client says after the credentials of its head, and what comes of it upstream.
#[test]
fn what_goes_out_for_a_request() {
    let wire = Wire::start();
    let behind = Behind::wire("requests", &NAMES, &wire);
    let target = behind.backend("/wham/x");
    // Method, lines, body, and whether the upstream's head has this line.
    let rows = [
        ("GET", "", "", ("Upgrade", false)),
        ("get", "", "", ("Upgrade", false)),
        ("DELETE", "Content-Length: 2\r\n", "hi", ("Content-Length: 2", true)),
        ("TRACE", "Max-Forwards: 0\r\n", "", ("Max-Forwards: 0", true)),
        ("PROPFIND", "Depth: 1\r\n", "", ("Depth: 1", true)),
        ("POST", "Content-Length: 2\r\nContent-Length: 2\r\n", "hi", ("Content-Length: 2", true)),
        (
            "POST",
            "Transfer-Encoding: chunked\r\n",
            "2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n",
            ("Transfer-Encoding: chunked", true),
        ),
        (
            "POST",
            "Transfer-Encoding: chunked\r\nTrailer: X\r\nTE: trailers\r\n",
            "0\r\nX: y\r\n\r\n",
            ("Trailer: X", true),
        ),
        ("POST", "Transfer-Encoding: chunked\r\nTE: trailers\r\n", "0\r\n\r\n", ("TE", false)),
        // An upgrade that we do not offer is left out, and the request goes on as one of HTTP/1.1.
        (
            "GET",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
            "",
            ("Upgrade", false),
        ),
        (
            "GET",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
            "",
            ("HTTP2-Settings", false),
        ),
        ("GET", "Connection: host, authorization\r\n", "", ("Host", true)),
        ("GET", "Proxy-Authorization: Basic eDp5\r\nProxy-Connection: close\r\n", "", ("Proxy-Authorization", false)),
        ("POST", "Expect: 100-continue\r\nContent-Length: 2\r\n", "hi", ("Expect", false)),
    ];
    // All of them behind one another on one connection, before the first is answered.
    let text: String =
        rows.iter().map(|(method, lines, body, _)| behind.head(method, &target, lines) + body + "\r\n").collect();
    let mut client = behind.peer();
    client.send(&text);
    for (at, (method, lines, body, (line, there))) in rows.iter().enumerate() {
        let mut upstream = wire.next();
        let head = upstream.head();
        assert!(head.starts_with(&format!("{method} /backend-api/wham/x HTTP/1.1\r\n")), "{head}");
        assert_eq!(head.contains(&format!("\r\n{line}")), *there, "{lines:?}: {head}");
        assert_eq!(head.matches("\r\nHost: ").count(), 1, "{head}");
        assert_eq!(String::from_utf8_lossy(&upstream.exactly(body.len())), *body);
        assert!(!upstream.is_told(), "{lines:?}: the next request went with it");
        upstream.send(format!("HTTP/1.1 200 OK\r\nX-At: {at}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        let head = client.head();
        let head = if head.starts_with("HTTP/1.1 100 ") { client.head() } else { head };
        assert_eq!(head, format!("HTTP/1.1 200 OK\r\nX-At: {at}\r\nContent-Length: 0\r\n\r\n"));
    }
    drop(client);
    // These are refused, and nothing that follows them is taken for a request.
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let with_length = format!("{websocket}Content-Length: 2\r\n");
    let with_chunks = format!("{websocket}Transfer-Encoding: chunked\r\n");
    let with_two = format!("{websocket}Content-Length: 2\r\nContent-Length: 3\r\n");
    let model = behind.model("/responses");
    let inner = behind.head("GET", &target, "");
    let refused = [
        // A socket that begins with a body: whether its bytes are frames, two parties may read differently.
        ("GET", &target, with_length.as_str(), "hi"),
        ("GET", &model, with_length.as_str(), "hi"),
        ("GET", &target, with_chunks.as_str(), "0\r\n\r\n"),
        ("GET", &model, with_chunks.as_str(), "0\r\n\r\n"),
        ("GET", &model, with_two.as_str(), "hi"),
        // A tunnel: what would follow its answer is no HTTP.
        ("CONNECT", &target, "", ""),
        ("CONNECT", &model, "", ""),
    ];
    for (method, target, lines, body) in refused {
        let mut client = behind.peer();
        client.send(behind.head(method, target, lines) + body + &inner);
        let (got, _) = client.rest();
        let got = String::from_utf8_lossy(&got);
        assert!(got.starts_with("HTTP/1.1 400 ") && got.matches("HTTP/1.1 ").count() == 1, "{method} {lines:?}: {got}");
        wire.assert_no_more();
    }
    wire.assert_no_more();
    behind.assert_well_by_hand(&wire);
}

/// A client that ends its side has left (spec S-61), even where its request was whole: nothing of it stays open.
#[test]
fn a_client_that_ends_its_side_has_left() {
    let wire = Wire::start();
    let behind = Behind::wire("halfclose", &NAMES, &wire);
    for target in [behind.backend("/wham/x"), behind.model("/responses")] {
        let mut client = behind.peer();
        client.send(behind.head("POST", &target, "Content-Length: 2\r\n") + "{}");
        let mut upstream = wire.next();
        upstream.head();
        client.finish();
        upstream.exactly(2);
        upstream.gone();
        client.gone();
        wire.assert_no_more();
    }
    wire.assert_no_more();
    behind.assert_well_by_hand(&wire);
}
