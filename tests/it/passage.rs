//! WebSockets that codex opens for something else than the model: what goes up and comes back, byte for byte, and how they
//! end. The upstream is played by hand.

use crate::support::behind::{Behind, Peer, Wire, until};
use crate::support::standin::frame::{accept_key, frame};

use std::time::Duration;

const NAMES: [&str; 2] = ["alpha", "beta"];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn start(name: &str) -> (Wire, Behind) {
    let wire = Wire::start();
    let behind = Behind::wire(name, &NAMES, &wire);
    (wire, behind)
}

fn asks(behind: &Behind, lines: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    behind.head("GET", &behind.backend("/some/socket?x=1"), &format!("{upgrade}Sec-WebSocket-Key: {KEY}\r\n{lines}"))
}

fn switching() -> String {
    let accept = accept_key(KEY);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nX-Its: own\r\n\r\n"
    )
}

/// Both ends of an open socket.
#[track_caller]
fn pair(behind: &Behind, wire: &Wire) -> (Peer, Peer) {
    let mut client = behind.peer();
    client.send(asks(behind, ""));
    let mut upstream = wire.next();
    upstream.head();
    upstream.send(switching());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("X-Its: own\r\n"), "{head}");
    (client, upstream)
}

#[track_caller]
fn passes(from: &mut Peer, to: &mut Peer, bytes: &[u8]) {
    let sending = from.send_aside(bytes.to_vec());
    assert!(to.exactly(bytes.len()) == bytes, "{} bytes did not come as they are", bytes.len());
    sending.join().expect("a thread").expect("all is taken");
}

#[test]
fn bytes_pass_both_ways_as_they_are() {
    let (wire, behind) = start("passes");
    let mut client = behind.peer();
    // With its credentials and all that the two may agree on: nobody in between reads it. The first frame comes with the
    // head.
    let first = frame(0x81, b"at once");
    let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: voice\r\nX-Odd: 1\r\n";
    let mut bytes = asks(&behind, offers).into_bytes();
    bytes.extend(&first);
    client.send(bytes);
    let mut upstream = wire.next();
    let expected = asks(&behind, offers)
        .replace(&behind.backend(""), "/backend-api")
        .replace(&behind.address.to_string(), &wire.address.to_string());
    assert_eq!(upstream.head(), expected);
    let agreed = switching().replace("X-Its: own", "Sec-WebSocket-Protocol: voice");
    upstream.send([agreed.as_bytes(), &frame(0x82, b"early")].concat());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Sec-WebSocket-Protocol: voice\r\n"), "{head}");
    assert_eq!(client.exactly(7), frame(0x82, b"early"));
    assert_eq!(upstream.exactly(first.len()), first);
    // What looks like a turn, a quota, nonsense: nothing is looked at.
    let quota = frame(0x81, br#"{"type":"error","status":429,"error":{"type":"usage_limit_reached"}}"#);
    passes(&mut client, &mut upstream, &frame(0x81, br#"{"type":"response.create"}"#));
    passes(&mut upstream, &mut client, &quota);
    passes(&mut client, &mut upstream, &[0xff; 300]);
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    passes(&mut client, &mut upstream, &large);
    passes(&mut upstream, &mut client, &large);
    upstream.send("last");
    drop(upstream);
    let (rest, _) = client.rest();
    assert_eq!(rest, b"last");
    let told = until("it is told", || behind.space.marked(" end=upstream").pop());
    assert!(told.contains("transport=websocket exchange profile=- status=101 attempts=1 "), "{told}");
    wire.assert_no_more();
    behind.assert_nothing_left(0);
}

#[test]
fn who_leaves_takes_the_other_along() {
    let (wire, behind) = start("leaves");
    let (client, mut upstream) = pair(&behind, &wire);
    drop(client);
    upstream.gone();
    let (client, mut upstream) = pair(&behind, &wire);
    client.reset();
    upstream.gone();
    let (mut client, upstream) = pair(&behind, &wire);
    upstream.reset();
    client.gone();
    // In the middle of much that nobody reads: more than the buffers on the way can take.
    let (client, mut upstream) = pair(&behind, &wire);
    let sending = client.send_aside(vec![b'x'; 64 << 20]);
    upstream.exactly(100_000);
    drop(upstream);
    assert!(sending.join().expect("a thread").is_err(), "somebody took it all");
    drop(client);
    behind.assert_nothing_left(0);
}

#[test]
fn who_reads_slowly_holds_the_other_up_and_costs_no_memory() {
    let (wire, behind) = start("slowly");
    for from_upstream in [true, false] {
        let (mut client, mut upstream) = pair(&behind, &wire);
        let (from, to) = if from_upstream { (&mut upstream, &mut client) } else { (&mut client, &mut upstream) };
        let bytes = vec![b'x'; 64 << 20];
        let before = behind.memory();
        let sending = from.send_aside(bytes.clone());
        // The whole would have passed in a fraction of this.
        for _ in 0..40 {
            let grown = behind.memory().saturating_sub(before);
            assert!(grown < 4 * 1024, "{grown} KiB more for what nobody reads");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!sending.is_finished(), "64 MiB went somewhere");
        assert!(to.exactly(bytes.len()) == bytes);
        sending.join().expect("no panic").expect("all is taken");
    }
}

#[test]
fn another_answer_is_codexs() {
    let (wire, behind) = start("answers");
    for status in ["401 Unauthorized", "403 Forbidden", "426 Upgrade Required", "500 Oops"] {
        let mut client = behind.peer();
        client.send(asks(&behind, ""));
        let mut upstream = wire.next();
        upstream.head();
        upstream.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
        assert!(client.head().starts_with(&format!("HTTP/1.1 {status}\r\n")));
        assert_eq!(client.exactly(2), b"no");
        wire.assert_no_more();
    }
    // No upgrade at all, and nobody there.
    let mut client = behind.peer();
    client.send(behind.head("GET", &behind.backend("/some/socket"), "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    let nowhere = Behind::toward("nowhere", &NAMES, Wire::nowhere());
    let mut client = nowhere.peer();
    client.send(asks(&nowhere, ""));
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    assert_eq!(nowhere.space.marked("upstream_connect_error").len(), 1);
    assert_eq!(nowhere.space.marked(" exchange profile=- status=503 attempts=1 ").len(), 1);
    assert_eq!(behind.space.marked("quota_blocked").len() + behind.space.marked("unauthorized").len(), 0);
}

#[test]
fn no_more_than_so_many_are_open() {
    let (wire, behind) = start("many");
    let mut pairs: Vec<(Peer, Peer)> = (0..128).map(|_| pair(&behind, &wire)).collect();
    let mut client = behind.peer();
    client.send(asks(&behind, ""));
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    assert_eq!(behind.space.marked("end=unavailable").len(), 1);
    let told = behind.space.marked("runtime_proxy_active_limit_reached").concat();
    let fields = "transport=websocket path=/some/socket lane=websocket active=128 limit=128";
    assert!(told.ends_with(fields), "{told}");
    pairs.pop();
    until("there is a place again", || {
        let mut client = behind.peer();
        client.send(asks(&behind, ""));
        wire.is_waiting().then_some(())
    });
    drop(pairs);
}

#[test]
fn open_ones_keep_no_place() {
    let wire = Wire::start();
    let mut space = crate::support::space::TestSpace::new("places");
    space.profiles(&NAMES);
    for lane in ["WEBSOCKET", "STANDARD"] {
        space.env(&format!("PRODEX_RUNTIME_PROXY_{lane}_ACTIVE_LIMIT"), "1");
    }
    space.env("CODEX_CHATGPT_BASE_URL", &format!("http://{}/backend-api", wire.address));
    let behind = Behind::over(space, NAMES[0], &wire);
    let pairs: Vec<(Peer, Peer)> = (0..3).map(|_| pair(&behind, &wire)).collect();
    assert_eq!(behind.space.marked("limit_reached").len(), 0);
    drop(pairs);
}
