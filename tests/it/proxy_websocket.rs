//! The proxy over WebSocket, hostile on both sides: frames byte for byte, turns that move before the model speaks and
//! never after, and sockets that end in every way a socket can end.

use super::support::behind::{Behind, PATIENCE, Peer, Wire, until};
use super::support::raw::{Client, Frame};
use super::support::standin::backend::Backend;
use super::support::standin::behave::{Behave, Cut, Point, QuotaForm, Say, Stage, StatusKey, Where};
use super::support::standin::frame::{accept_key, close, frame};
use super::support::standin::gate::Gate;
use super::support::standin::record::{Finished, Record};
use super::support::standin::script::{Kind, Script};
use std::time::{Duration, Instant};

const NAMES: [&str; 2] = ["alpha", "beta"];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const FULL: &str = r#"{"type":"response.create","model":"m","input":[{"role":"user","content":"all of it"}]}"#;
pub const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"x"}"#;
pub const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1"}}"#;
const QUOTA: &str = r#"{"type":"error","status":429,"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","resets_in_seconds":7200}}"#;

fn backend() -> Backend {
    Backend::start(Script::new(&NAMES))
}

fn chained(id: &str) -> String {
    format!(r#"{{"type":"response.create","model":"m","previous_response_id":"{id}","input":[]}}"#)
}

fn turns(backend: &Backend, name: &str) -> Vec<Record> {
    backend.of(name, &Kind::Turn)
}

fn last_id(backend: &Backend, name: &str) -> String {
    turns(backend, name).pop().and_then(|record| record.response_id).expect("an answered turn")
}

/// The types of the events of a turn.
fn types(events: &[String]) -> Vec<String> {
    events.iter().map(|event| event.split('"').nth(3).unwrap_or(event).to_owned()).collect()
}

/// What a turn looks like that went well at the first try.
const CLEAN: [&str; 11] = [
    "response.metadata",
    "codex.rate_limits",
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_item.done",
    "response.completed",
];

/// Asks, and gets one clean stream of this account and nothing of another.
#[track_caller]
fn clean_turn(client: &mut Client, message: &str, name: &str) {
    client.text(message);
    let events = client.read_events().unwrap_or_else(|error| panic!("no turn from {name}: {error}"));
    assert_eq!(types(&events), CLEAN);
    assert!(events.concat().contains(&format!("Hello from {name}.")), "{events:?}");
    let all = events.concat();
    assert!(NAMES.iter().all(|other| *other == name || !all.contains(&format!("resp_{other}_"))), "{events:?}");
}

/// The socket ended, and nothing came before that.
#[track_caller]
fn ends_at_once(client: &mut Client) {
    match client.rest() {
        Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), "", "something came before the end"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "still open"),
    }
}

// By hand

pub fn upgrade_head(behind: &Behind, lines: &str) -> String {
    let fixed = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nsession-id: s-1\r\n{lines}"
    );
    behind.head("GET", &behind.model("/responses"), &fixed)
}

pub fn switching(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{lines}\r\n",
        accept_key(KEY)
    )
}

/// The upstream's side of the next handshake, accepted.
#[track_caller]
pub fn accept(wire: &Wire) -> Peer {
    let mut upstream = wire.next();
    upstream.head();
    upstream.send(switching(""));
    upstream
}

/// Both ends of an open socket.
#[track_caller]
pub fn pair(behind: &Behind, wire: &Wire) -> (Peer, Peer) {
    let mut client = behind.peer();
    client.send(upgrade_head(behind, ""));
    let upstream = accept(wire);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    (client, upstream)
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// A client's frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0xef, 0x5a, 0x81];
    let mut out = frame(first, payload);
    let at = out.len() - payload.len();
    out[1] |= 0x80;
    for (offset, byte) in out[at..].iter_mut().enumerate() {
        *byte ^= mask[offset % 4];
    }
    out.splice(at..at, mask);
    out
}

#[track_caller]
pub fn passes(from: &mut Peer, to: &mut Peer, bytes: &[u8]) {
    let sending = from.send_aside(bytes.to_vec());
    let got = to.exactly(bytes.len());
    assert!(got == bytes, "{} bytes came otherwise", bytes.len());
    sending.join().expect("no panic").expect("all is taken");
}

/// Asks a full turn by hand; the upstream has read it.
#[track_caller]
pub fn asked(behind: &Behind, wire: &Wire) -> (Peer, Peer) {
    let (mut client, mut upstream) = pair(behind, wire);
    passes(&mut client, &mut upstream, &masked(0x81, FULL.as_bytes()));
    (client, upstream)
}

/// The turn was moved: the same message reaches another upstream, whose answer is all that the client sees.
#[track_caller]
fn answered_elsewhere(client: &mut Peer, wire: &Wire) -> Peer {
    let mut upstream = accept(wire);
    let message = masked(0x81, FULL.as_bytes());
    assert!(upstream.exactly(message.len()) == message, "another message for the other account");
    passes(&mut upstream, client, &[text(DELTA), text(COMPLETED)].concat());
    upstream
}

// Handshakes

#[test]
fn answers_to_the_handshake_reach_the_client_byte_for_byte() {
    let wire = Wire::start();
    let behind = Behind::wire("refuse", &NAMES, &wire);
    let json = r#"{"error":{"message":"stand-in says no","type":"standin_error"}}"#;
    let large = "x".repeat(300_000);
    let rows = [
        ("426 Upgrade Required", json),
        ("403 Forbidden\r\ncf-ray: 8f-FRA\r\nserver: cloudflare", "<html>no</html>"),
        ("429 Too Many Requests\r\nRetry-After: 7", json),
        ("500 Internal Server Error", json),
        ("404 Not Found", ""),
        ("400 Bad Request", &large),
        ("200 OK", "{}"),
        ("302 Found\r\nLocation: https://example.com/", ""),
        // The launching profile's own: codex refreshes its login on that.
        ("401 Unauthorized\r\nx-error-json: e30=", r#"{"error":{"code":"token_expired"}}"#),
    ];
    for (status, body) in rows {
        let mut client = behind.peer();
        client.send(upgrade_head(&behind, ""));
        let mut upstream = wire.next();
        assert!(upstream.head().contains("acct-alpha"));
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        upstream.send(&answer);
        assert!(client.exactly(answer.len()) == answer.as_bytes(), "{status}");
        wire.assert_no_more();
        // Codex goes on over HTTP, on the same connection if it likes.
        client.send(behind.head("GET", &behind.backend("/wham/x"), ""));
        let mut upstream = wire.next();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"), "after {status}");
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn an_account_without_room_is_left_at_the_handshake() {
    let backend = backend();
    let rows = [
        Behave::quota_status(),
        Behave::quota(QuotaForm::UsageNotIncluded, Where::Status(403)),
        Behave::overloaded("server_is_overloaded"),
        Behave::plain_error(503),
        Behave::drop_at(Point::BeforeHead),
        Behave::reset_at(Point::InsideHead),
        Behave::garbage(b"\x16\x03\x01 no HTTP\r\n\r\n"),
    ];
    for behave in rows {
        backend.set("alpha", Kind::Handshake, [behave.clone()]);
        let behind = Behind::start("room", &NAMES, &backend);
        let mut client = behind.socket();
        clean_turn(&mut client, FULL, "beta");
        client.leave();
        behind.assert_well(1);
    }
    // Nobody has any: the backend's own words.
    for name in NAMES {
        backend.set(name, Kind::Handshake, [Behave::quota_status()]);
    }
    let behind = Behind::start("room", &NAMES, &backend);
    let mut client = behind.client();
    let answer = client.upgrade(&behind.model("/responses"), &behind.headers()).expect("an answer");
    assert_eq!(answer.status, 429);
    assert!(answer.whole && answer.text().contains("usage_limit_reached"), "{}", answer.text());
    drop(client);
    behind.assert_well(1);
}

#[test]
fn no_extension_is_offered_and_heads_are_kept() {
    let wire = Wire::start();
    let behind = Behind::wire("offer", &NAMES, &wire);
    let mut client = behind.peer();
    let offers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: a, b\r\nOpenAI-Beta: x\r\n";
    client.send(upgrade_head(&behind, offers));
    let mut upstream = wire.next();
    let head = upstream.head();
    let expected = upgrade_head(&behind, "OpenAI-Beta: x\r\n")
        .replace(&behind.model("/responses"), "/backend-api/codex/responses")
        .replace(&behind.address.to_string(), &wire.address.to_string());
    assert_eq!(head, expected);
    let kept = "X-Codex-Turn-State: ts\r\nset-cookie: oai=1\r\nx-Models-Etag: e\r\n";
    upstream.send(switching(&format!("{kept}Set-Cookie: __cf_bm=secret\r\nKeep-Alive: timeout=5\r\n")));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && head.contains(kept), "{head}");
    assert!(head.contains(&format!("Sec-WebSocket-Accept: {}\r\n", accept_key(KEY))), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("upgrade: websocket\r\n") && lower.contains("connection: upgrade\r\n"), "{head}");
    assert!(["extensions", "protocol:", "__cf_bm", "keep-alive"].iter().all(|word| !lower.contains(word)), "{head}");
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

#[test]
fn a_101_that_is_none_is_refused() {
    let wire = Wire::start();
    let good = switching("");
    let rows = [
        ("another key's accept", good.replace(&accept_key(KEY), &accept_key("AAAAAAAAAAAAAAAAAAAAAA=="))),
        ("no accept", good.replace("Sec-WebSocket-Accept", "X-Accept")),
        ("two accepts", switching(&format!("Sec-WebSocket-Accept: {}\r\n", accept_key(KEY)))),
        ("an extension", switching("Sec-WebSocket-Extensions: permessage-deflate\r\n")),
        ("a protocol", switching("Sec-WebSocket-Protocol: a\r\n")),
        ("another upgrade", good.replace("websocket", "h2c")),
        ("no connection", good.replace("Connection: Upgrade\r\n", "")),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0")),
    ];
    for (name, answer) in rows {
        let behind = Behind::wire("bad101", &NAMES, &wire);
        let mut client = behind.peer();
        client.send(upgrade_head(&behind, ""));
        for account in ["acct-alpha", "acct-beta"] {
            let mut upstream = wire.next();
            assert!(upstream.head().contains(account), "{name}");
            upstream.send(&answer);
            upstream.gone();
        }
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 503 "), "{name}: {head}");
        assert!(client.until("}}").contains("not HTTP as it should be"), "{name}");
        client.gone();
        drop(client);
        behind.assert_well_by_hand(&wire);
    }
}

#[test]
fn upgrades_that_are_none_are_400() {
    let wire = Wire::start();
    let behind = Behind::wire("badupgrade", &NAMES, &wire);
    let good = upgrade_head(&behind, "");
    let rows = [
        good.replace("Version: 13", "Version: 8"),
        good.replace("Sec-WebSocket-Version: 13\r\n", ""),
        good.replace(KEY, "c2hvcnQ="),
        good.replace(KEY, "not base64 at all!!!!!!!"),
        good.replace("Sec-WebSocket-Key", "X-Key"),
        good.replace("\r\nsession-id", &format!("\r\nSec-WebSocket-Key: {KEY}\r\nsession-id")),
        good.replace("GET ", "POST "),
        good.replace("Connection: Upgrade", "Connection: close"),
    ];
    for bad in rows {
        assert_ne!(bad, good);
        let mut client = behind.peer();
        client.send(&bad);
        assert!(client.head().starts_with("HTTP/1.1 400 "), "{bad}");
        client.gone();
    }
    behind.assert_well_by_hand(&wire);
}

// Frames

#[test]
fn frames_pass_byte_for_byte_both_ways() {
    let wire = Wire::start();
    let behind = Behind::wire("frames", &NAMES, &wire);
    let (mut client, mut upstream) = pair(&behind, &wire);
    let words: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    // The client's: what is no turn, fragments with a ping inside, every length of a length, binary, empty.
    let begun = FULL.as_bytes().split_at(20);
    let from_client = [
        masked(0x81, b"{}"),
        masked(0x81, b""),
        masked(0x82, &words),
        masked(0x82, &words[..125]),
        masked(0x82, &words[..126]),
        masked(0x82, &words[..65_536]),
        masked(0x89, b"are you there"),
        masked(0x8a, b""),
    ];
    for bytes in &from_client {
        passes(&mut client, &mut upstream, bytes);
    }
    // In one go, and in single bytes.
    passes(&mut client, &mut upstream, &from_client.concat());
    for byte in masked(0x81, b"{\"type\":\"x\"}").iter().chain(&masked(0x89, b"p")) {
        client.send([*byte]);
    }
    let expected = [masked(0x81, b"{\"type\":\"x\"}"), masked(0x89, b"p")].concat();
    assert_eq!(upstream.exactly(expected.len()), expected);
    // A turn in fragments: the ping in between does not wait for the rest of the message.
    client.send(masked(0x01, begun.0));
    client.send(masked(0x89, b"between"));
    assert_eq!(upstream.exactly(17 - 4), masked(0x89, b"between"));
    client.send([masked(0x00, b""), masked(0x80, begun.1)].concat());
    let message = [masked(0x01, begun.0), masked(0x00, b""), masked(0x80, begun.1)].concat();
    assert_eq!(upstream.exactly(message.len()), message);
    // The upstream's, while the model speaks.
    let from_upstream = [
        text(DELTA),
        frame(0x01, b"{\"type\":\"response.output_te"),
        frame(0x89, b"ping inside"),
        frame(0x00, b"xt.delta\",\"delta\":\""),
        frame(0x8a, b""),
        frame(0x80, b"y\"}"),
        frame(0x82, &words),
        frame(0x82, b""),
        frame(0x81, &[b'.'; 126]),
        frame(0x81, &vec![b'.'; 65_536]),
        text(COMPLETED),
        // And when nothing is asked.
        frame(0x89, b"idle"),
        text(r#"{"type":"codex.rate_limits"}"#),
        frame(0x82, &words),
    ];
    for bytes in &from_upstream[..11] {
        passes(&mut upstream, &mut client, bytes);
    }
    passes(&mut upstream, &mut client, &from_upstream[11..].concat());
    // Once more in single bytes, for a second turn.
    passes(&mut client, &mut upstream, &message);
    let all = from_upstream.iter().filter(|bytes| bytes.len() < 1000).flatten().copied().collect::<Vec<u8>>();
    for byte in &all {
        upstream.send([*byte]);
    }
    assert!(client.exactly(all.len()) == all);
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

#[test]
fn large_messages_pass_both_ways() {
    let wire = Wire::start();
    let behind = Behind::wire("large", &NAMES, &wire);
    let (mut client, mut upstream) = pair(&behind, &wire);
    let question = format!(r#"{{"type":"response.create","input":["{}"]}}"#, "q".repeat(1024 * 1024));
    passes(&mut client, &mut upstream, &masked(0x81, question.as_bytes()));
    let answer = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "a".repeat(8 * 1024 * 1024));
    passes(&mut upstream, &mut client, &[text(&answer), text(COMPLETED)].concat());
    // In fragments, more than are looked at, and binary.
    let pieces: Vec<&[u8]> = question.as_bytes().chunks(1000).collect();
    let last = pieces.len() - 1;
    let fragment = |at: usize| u8::from(at == 0) | if at == last { 0x80 } else { 0 };
    let fragments = pieces.iter().enumerate().flat_map(|(at, piece)| masked(fragment(at), piece)).collect::<Vec<u8>>();
    passes(&mut client, &mut upstream, &fragments);
    passes(&mut upstream, &mut client, &[frame(0x82, answer.as_bytes()), text(COMPLETED)].concat());
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

#[test]
fn a_close_passes_both_ways() {
    let wire = Wire::start();
    let behind = Behind::wire("close", &NAMES, &wire);
    let payloads: [&[u8]; 4] = [b"", b"\x03\xe8", b"\x03\xe9going away", b"\x0f\xa0own code"];
    for payload in payloads {
        // The upstream's, when idle.
        let (mut client, mut upstream) = pair(&behind, &wire);
        passes(&mut upstream, &mut client, &frame(0x88, payload));
        passes(&mut client, &mut upstream, &masked(0x88, payload));
        drop(upstream);
        assert_eq!(client.rest().0, b"");
        // The upstream's, when the model speaks.
        let (mut client, mut upstream) = asked(&behind, &wire);
        passes(&mut upstream, &mut client, &[text(DELTA), frame(0x88, payload)].concat());
        drop(upstream);
        assert_eq!(client.rest().0, b"");
        // The client's, when idle and in the middle of a turn.
        for begun in [false, true] {
            let (mut client, mut upstream) = if begun { asked(&behind, &wire) } else { pair(&behind, &wire) };
            passes(&mut client, &mut upstream, &masked(0x88, payload));
            upstream.send(frame(0x88, payload));
            drop(upstream);
            assert_eq!(client.rest().0, frame(0x88, payload), "in a turn: {begun}");
            // Whoever closes wants no answer from another account.
            wire.assert_no_more();
        }
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn pings_pass_while_a_turn_waits() {
    let wire = Wire::start();
    let behind = Behind::wire("pings", &NAMES, &wire);
    let (mut client, mut upstream) = asked(&behind, &wire);
    passes(&mut upstream, &mut client, &frame(0x89, b"1"));
    passes(&mut client, &mut upstream, &masked(0x8a, b"1"));
    let held = text(r#"{"type":"response.created","response":{"id":"resp_1"}}"#);
    upstream.send(&held);
    passes(&mut upstream, &mut client, &frame(0x89, b"2"));
    passes(&mut client, &mut upstream, &masked(0x89, b"3"));
    passes(&mut upstream, &mut client, &frame(0x8a, b"3"));
    upstream.send(text(DELTA));
    let rest = [held, text(DELTA)].concat();
    assert_eq!(client.exactly(rest.len()), rest);
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

#[test]
fn of_a_beginning_256_kib_are_held_and_no_more() {
    let wire = Wire::start();
    let behind = Behind::wire("much", &NAMES, &wire);
    let (mut client, mut upstream) = asked(&behind, &wire);
    let preamble = |bytes: usize| text(&format!(r#"{{"type":"response.in_progress","pad":"{}"}}"#, "x".repeat(bytes)));
    upstream.send([preamble(250_000), text(QUOTA)].concat());
    // Codex has heard nothing of it. The other one says more than is held.
    let mut upstream = accept(&wire);
    let much = [preamble(150_000), preamble(150_000)].concat();
    upstream.send(&much);
    assert!(client.exactly(much.len()) == much);
    assert_eq!(behind.space.marked("lookahead_timeout"), [""; 0], "it was not the time");
}

// Turns

#[test]
fn turns_follow_each_other_on_one_socket() {
    let backend = backend();
    let behind = Behind::start("turns", &NAMES, &backend);
    let mut client = behind.socket();
    clean_turn(&mut client, FULL, "alpha");
    for _ in 0..5 {
        let message = chained(&last_id(&backend, "alpha"));
        clean_turn(&mut client, &message, "alpha");
    }
    let seen = turns(&backend, "alpha");
    assert!(seen.len() == 6 && seen.iter().all(|turn| turn.connection == seen[0].connection && !turn.foreign));
    client.leave();
    backend.wait_for("the end of the socket", PATIENCE, |_| behind.open_files() > 0);
    behind.assert_well(1);
}

/// The ways to say that there is no room, before the model speaks.
fn no_room() -> Vec<Behave> {
    let event = |form, key, stage| Behave::quota(form, Where::Event(key, stage));
    vec![
        Behave::quota_event(),
        event(QuotaForm::UsageLimitReached, StatusKey::Status, Stage::Created),
        event(QuotaForm::UsageLimitReached, StatusKey::StatusCode, Stage::Created),
        event(QuotaForm::UsageLimitReached, StatusKey::Absent, Stage::First),
        event(QuotaForm::InsufficientQuota, StatusKey::Status, Stage::Created),
        event(QuotaForm::RateLimitExceeded, StatusKey::Status, Stage::First),
        event(QuotaForm::UsageNotIncluded, StatusKey::Status, Stage::First),
        Behave::quota(QuotaForm::UsageLimitReached, Where::Failed(Stage::Created)),
        Behave::quota(QuotaForm::InsufficientQuota, Where::Failed(Stage::First)),
        Behave::failed("server_is_overloaded", "busy", Stage::Created),
        Behave::quota_event().pings(2),
        Behave { frames: 7, ..event(QuotaForm::UsageLimitReached, StatusKey::Status, Stage::Created) },
    ]
}

#[test]
fn a_full_turn_without_room_is_answered_by_another_account_on_the_same_socket() {
    let backend = backend();
    for behave in no_room() {
        backend.set("alpha", Kind::Turn, [behave.clone()]);
        let behind = Behind::start("full", &NAMES, &backend);
        let mut client = behind.socket();
        clean_turn(&mut client, FULL, "beta");
        // And goes on there.
        let message = chained(&last_id(&backend, "beta"));
        clean_turn(&mut client, &message, "beta");
        client.leave();
        behind.assert_well(1);
    }
    assert!(backend.records().iter().all(|record| !record.mismatch && !record.foreign));
}

#[test]
fn a_chained_turn_without_room_ends_the_socket_without_a_byte() {
    let backend = backend();
    for behave in no_room() {
        let pings = behave.pings > 0;
        backend.set("alpha", Kind::Turn, [Behave::ok(), behave.clone()]);
        let behind = Behind::start("chain", &NAMES, &backend);
        let mut client = behind.socket();
        clean_turn(&mut client, FULL, "alpha");
        let before = turns(&backend, "beta").len();
        client.text(&chained(&last_id(&backend, "alpha")));
        if pings {
            while client
                .read_frame()
                .is_ok_and(|ping| ping == Frame { last: true, opcode: 9, payload: b"standin".to_vec() })
            {}
        }
        ends_at_once(&mut client);
        assert_eq!(turns(&backend, "beta").len(), before, "a chained turn moved");
        // Codex comes back with all of it.
        let mut client = behind.socket();
        clean_turn(&mut client, FULL, "beta");
        client.leave();
        behind.assert_well(1);
    }
    assert!(backend.records().iter().all(|record| !record.mismatch && !record.foreign));
}

#[test]
fn with_all_exhausted_the_error_arrives_once() {
    let backend = backend();
    let forms = [
        (Behave::quota_event(), "error"),
        (Behave::quota(QuotaForm::UsageLimitReached, Where::Event(StatusKey::Status, Stage::Created)), "error"),
        (Behave::quota(QuotaForm::UsageLimitReached, Where::Failed(Stage::Created)), "response.failed"),
    ];
    for (behave, last) in forms {
        for name in NAMES {
            backend.set(name, Kind::Turn, [behave.clone()]);
        }
        let behind = Behind::start("exhausted", &NAMES, &backend);
        let mut client = behind.socket();
        client.text(FULL);
        let events = client.read_events().expect("the backend's words");
        assert_eq!(types(&events).last().map(String::as_str), Some(last));
        assert!(events.concat().matches("usage_limit_reached").count() == 1, "{events:?}");
        assert!(types(&events).iter().filter(|name| *name == "response.created").count() <= 1, "{events:?}");
        // Nothing more of it, and the socket is good: somebody has room again.
        for name in NAMES {
            backend.set(name, Kind::Turn, [Behave::ok()]);
        }
        client.text(FULL);
        assert_eq!(types(&client.read_events().expect("a turn")), CLEAN);
        client.leave();
        behind.assert_well(2);
    }
}

#[test]
fn quota_after_the_output_began_is_passed_on() {
    let backend = backend();
    let late = |place| Behave::quota(QuotaForm::UsageLimitReached, place);
    let rows = [
        late(Where::Event(StatusKey::Status, Stage::Deltas(0))),
        late(Where::Event(StatusKey::Status, Stage::Deltas(2))),
        late(Where::Failed(Stage::Deltas(1))),
    ];
    for behave in rows {
        backend.set("alpha", Kind::Turn, [behave.clone()]);
        let before = turns(&backend, "beta").len();
        let behind = Behind::start("late", &NAMES, &backend);
        let mut client = behind.socket();
        client.text(FULL);
        let events = client.read_events().expect("a turn with an error");
        assert!(events.concat().contains("usage_limit_reached"), "{events:?}");
        assert!(types(&events).contains(&"response.output_item.added".to_owned()));
        assert_eq!(turns(&backend, "beta").len(), before, "a turn moved after its output began");
        // In time for the next: full input goes elsewhere at once.
        clean_turn(&mut client, FULL, "beta");
        client.leave();
        behind.assert_well(1);
    }
}

#[test]
fn errors_that_another_account_does_not_mend_are_passed_on() {
    let backend = backend();
    let rows = [
        Behave::previous_response_not_found(),
        Behave::connection_limit(),
        Behave::encrypted_content_400(),
        Behave::failed("context_length_exceeded", "too long", Stage::Created),
        Behave::error_event(StatusKey::Status, 429, r#"{"message":"slow down a bit"}"#, Stage::First)
            .header("retry-after", "7"),
        Behave::error_event(StatusKey::Status, 500, r#"{"message":"oops"}"#, Stage::Created),
        Behave::incomplete(),
    ];
    let behind = Behind::start("errors", &NAMES, &backend);
    for behave in rows {
        backend.set("alpha", Kind::Turn, [behave.clone()]);
        let mut client = behind.socket();
        for _ in 0..2 {
            client.text(FULL);
            let events = client.read_events().expect("an error");
            assert_ne!(types(&events).last().map(String::as_str), Some("response.completed"), "{behave:?}");
        }
        client.leave();
    }
    assert!(turns(&backend, "beta").is_empty());
    backend.set("alpha", Kind::Turn, [Behave::ok()]);
    behind.assert_well(1);
}

#[test]
fn a_turn_goes_to_the_owner_of_its_previous_response() {
    let backend = backend();
    let behind = Behind::start("owner", &NAMES, &backend);
    let mut client = behind.socket();
    clean_turn(&mut client, FULL, "alpha");
    let id = last_id(&backend, "alpha");
    client.leave();
    backend.set("alpha", Kind::Post, [Behave::quota_status().times(1)]);
    assert!(behind.ask(&mut behind.client(), b"{}").text().contains("Hello from beta."));
    let mut client = behind.socket();
    clean_turn(&mut client, FULL, "beta");
    clean_turn(&mut client, &chained(&id), "alpha");
    let message = chained(&last_id(&backend, "alpha"));
    clean_turn(&mut client, &message, "alpha");
    assert!(backend.records().iter().all(|record| !record.foreign));
    client.leave();
    behind.assert_well(2);
}

#[test]
fn a_turn_whose_owner_opens_no_socket_is_sent_away_four_times() {
    let backend = backend();
    let behind = Behind::start("no-owner", &NAMES, &backend);
    let mut client = behind.socket();
    clean_turn(&mut client, FULL, "alpha");
    let id = last_id(&backend, "alpha");
    client.leave();
    for kind in [Kind::Handshake, Kind::Post] {
        backend.set("alpha", kind, [Behave::quota_status()]);
    }
    for round in 1..=5 {
        let mut client = behind.socket();
        client.text(&chained(&id));
        if round <= 4 {
            ends_at_once(&mut client);
        } else {
            // Codex would give WebSockets up: it hears the backend's own words.
            let events = client.read_events().expect("words");
            assert!(events.iter().any(|event| event.contains("previous_response_not_found")), "{events:?}");
        }
    }
    assert_eq!(behind.space.marked("websocket_bounce profile=beta reason=owner").len(), 4);
}

#[test]
fn a_login_that_is_refused_again_after_a_refresh_is_not_refreshed_again() {
    let backend = backend();
    backend.set("alpha", Kind::Turn, [Behave::quota_event()]);
    backend.set("beta", Kind::Turn, [Behave::unauthorized()]);
    let behind = Behind::start("storm", &NAMES, &backend);
    let mut client = behind.socket();
    client.text(FULL);
    let events = client.read_events().expect("the backend's own words");
    assert!(events.iter().any(|event| event.contains("usage_limit_reached")), "{events:?}");
    let refreshes = backend.records().iter().filter(|record| record.kind == Kind::Token).count();
    assert_eq!((refreshes, turns(&backend, "beta").len()), (1, 2));
}

#[test]
fn first_turns_of_new_sessions_spread_whenever_their_sockets_were_opened() {
    let (backend, gate) = (backend(), Gate::new());
    for name in NAMES {
        backend.set(name, Kind::Turn, [Behave::ok().hold(&gate, Point::AfterDeltas(1))]);
    }
    let behind = Behind::start("spread", &NAMES, &backend);
    let mut sockets: Vec<Client> = (0..24)
        .map(|n| {
            let mut client = behind.client();
            let session = format!("session-{n}");
            let headers = [behind.fresh_headers(), vec![("session-id", session.as_str())]].concat();
            assert_eq!(client.upgrade(&behind.model("/responses"), &headers).expect("an answer").status, 101);
            client
        })
        .collect();
    for (n, client) in sockets.iter_mut().enumerate() {
        client.text(FULL);
        backend.wait_for("a turn", PATIENCE, |records| {
            records.iter().filter(|record| record.kind == Kind::Turn && record.output_began).count() > n
        });
    }
    // Eight each, before one has more than eight.
    assert_eq!(NAMES.map(|name| turns(&backend, name).len()), [16, 8]);
    gate.open();
    for client in &mut sockets {
        assert!(client.read_events().is_ok());
    }
}

// Breaks

const CUTS: [Cut; 4] = [Cut::Drop, Cut::Reset, Cut::Close(1011), Cut::Close(1000)];

#[test]
fn a_break_before_the_output_moves_a_full_turn() {
    let backend = backend();
    for cut in CUTS {
        for point in [Point::BeforeHead, Point::AfterCreated] {
            backend.set("alpha", Kind::Turn, [Behave::ok().cut(cut, point)]);
            let behind = Behind::start("moves", &NAMES, &backend);
            let mut client = behind.socket();
            clean_turn(&mut client, FULL, "beta");
            client.leave();
            behind.assert_well(1);
        }
    }
}

#[test]
fn a_break_before_the_output_ends_the_socket_of_a_chained_turn() {
    let backend = backend();
    for cut in CUTS {
        for point in [Point::BeforeHead, Point::AfterCreated] {
            backend.set("alpha", Kind::Turn, [Behave::ok(), Behave::ok().cut(cut, point)]);
            let before = turns(&backend, "beta").len();
            let behind = Behind::start("breaks", &NAMES, &backend);
            let mut client = behind.socket();
            clean_turn(&mut client, FULL, "alpha");
            client.text(&chained(&last_id(&backend, "alpha")));
            ends_at_once(&mut client);
            assert_eq!(turns(&backend, "beta").len(), before);
            backend.set("alpha", Kind::Turn, [Behave::ok()]);
            let mut client = behind.socket();
            client.text(FULL);
            assert_eq!(types(&client.read_events().expect("a turn")), CLEAN);
            client.leave();
            behind.assert_well(1);
        }
    }
}

#[test]
fn a_break_after_the_output_began_is_a_break() {
    let backend = backend();
    for cut in CUTS {
        for point in [Point::AfterDeltas(0), Point::AfterDeltas(2), Point::InsideDelta(1)] {
            backend.set("alpha", Kind::Turn, [Behave::ok().cut(cut, point)]);
            let before = turns(&backend, "beta").len();
            let behind = Behind::start("after", &NAMES, &backend);
            let mut client = behind.socket();
            client.text(FULL);
            let error = client.read_events().expect_err("a whole turn");
            let closed = matches!(cut, Cut::Close(_)) && !matches!(point, Point::InsideDelta(_));
            assert_eq!(error.to_string().starts_with("closed with "), closed, "{cut:?} {point:?}: {error}");
            drop(client);
            assert_eq!(turns(&backend, "beta").len(), before, "a turn moved after its output began");
            backend.set("alpha", Kind::Turn, [Behave::ok()]);
            behind.assert_well(1);
        }
    }
}

#[test]
fn an_idle_socket_that_ends_is_nobodys_fault() {
    let backend = backend();
    for cut in CUTS {
        backend.set("alpha", Kind::Turn, [Behave::ok().cut(cut, Point::AtEnd)]);
        let behind = Behind::start("idle", &NAMES, &backend);
        let mut client = behind.socket();
        clean_turn(&mut client, FULL, "alpha");
        match cut {
            Cut::Close(code) => assert_eq!(client.read_frame().expect("a close").code(), Some(code)),
            _ => ends_at_once(&mut client),
        }
        backend.set("alpha", Kind::Turn, [Behave::ok()]);
        let mut client = behind.socket();
        clean_turn(&mut client, FULL, "alpha");
        client.leave();
        behind.assert_well(1);
    }
}

#[test]
fn an_old_socket_that_ends_on_the_next_turn_is_asked_anew() {
    let wire = Wire::start();
    let behind = Behind::wire("old", &NAMES, &wire);
    for how in ["end", "reset", "close"] {
        let (mut client, mut upstream) = asked(&behind, &wire);
        passes(&mut upstream, &mut client, &[text(DELTA), text(COMPLETED)].concat());
        passes(&mut client, &mut upstream, &masked(0x81, FULL.as_bytes()));
        match how {
            "end" => drop(upstream),
            "reset" => upstream.reset(),
            _ => upstream.send(close(1001)),
        }
        let mut again = wire.next();
        assert!(again.head().contains("acct-alpha"), "{how}: another account");
        again.send(switching(""));
        let message = masked(0x81, FULL.as_bytes());
        assert_eq!(again.exactly(message.len()), message, "{how}");
        passes(&mut again, &mut client, &[text(DELTA), text(COMPLETED)].concat());
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn nonsense_of_an_upstream_moves_a_turn_before_its_output_and_ends_it_after() {
    let wire = Wire::start();
    let mut rsv = text(DELTA);
    rsv[0] |= 0x40;
    let created = text(r#"{"type":"response.created","response":{"id":"resp_other"}}"#);
    let rows: [(&str, Vec<u8>); 11] = [
        ("a masked frame", masked(0x81, DELTA.as_bytes())),
        ("a reserved bit", rsv),
        ("an unknown opcode", frame(0x83, b"{}")),
        ("garbage", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("a long ping", frame(0x89, &[b'x'; 126])),
        ("a ping in pieces", frame(0x09, b"x")),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a message within a message", [frame(0x01, b"x"), text("y")].concat()),
        ("a frame without end", vec![0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("half a frame", created[..created.len() / 2].to_vec()),
        ("half a ping", frame(0x89, b"whole")[..4].to_vec()),
    ];
    for (at, (name, nonsense)) in rows.into_iter().enumerate() {
        let behind = Behind::wire("nonsense", &NAMES, &wire);
        let (mut client, mut upstream) = asked(&behind, &wire);
        // First of all, or after something that is held back.
        let before = if at % 2 == 0 { vec![] } else { created.clone() };
        upstream.send([before, nonsense.clone()].concat());
        // Half of something says nothing until it ends.
        upstream.finish();
        let other = answered_elsewhere(&mut client, &wire);
        upstream.gone();
        drop((client, other));
        behind.assert_well_by_hand(&wire);
        let behind = Behind::wire("nonsense", &NAMES, &wire);
        let (mut client, mut upstream) = asked(&behind, &wire);
        passes(&mut upstream, &mut client, &text(DELTA));
        upstream.send(&nonsense);
        upstream.finish();
        let (rest, _) = client.rest();
        assert!(nonsense.starts_with(&rest), "{name}: {:?}", String::from_utf8_lossy(&rest));
        upstream.gone();
        behind.assert_well_by_hand(&wire);
    }
}

#[test]
fn a_ping_that_a_move_cuts_in_two_reaches_the_other_account_whole() {
    let wire = Wire::start();
    let behind = Behind::wire("halfping", &NAMES, &wire);
    let (mut client, mut upstream) = asked(&behind, &wire);
    let ping = masked(0x89, b"in the middle");
    client.send(&ping[..9]);
    // So that it was surely read.
    passes(&mut upstream, &mut client, &frame(0x89, b"x"));
    upstream.send(text(QUOTA));
    let mut other = accept(&wire);
    let message = masked(0x81, FULL.as_bytes());
    assert!(other.exactly(message.len()) == message);
    client.send(&ping[9..]);
    assert_eq!(other.exactly(ping.len()), ping);
    passes(&mut other, &mut client, &[text(DELTA), text(COMPLETED)].concat());
    drop((client, upstream, other));
    behind.assert_well_by_hand(&wire);
}

#[test]
fn a_long_preamble_moves_too() {
    let wire = Wire::start();
    let behind = Behind::wire("preamble", &NAMES, &wire);
    let (mut client, mut upstream) = asked(&behind, &wire);
    let long = |name: &str| {
        text(&format!(r#"{{"type":"{name}","response":{{"id":"resp_old","instructions":"{}"}}}}"#, "i".repeat(60_000)))
    };
    upstream.send([long("response.created"), long("response.in_progress"), text(QUOTA)].concat());
    let other = answered_elsewhere(&mut client, &wire);
    upstream.gone();
    drop((client, other));
    behind.assert_well_by_hand(&wire);
}

#[test]
fn a_message_that_is_refused_before_it_is_sent_is_told_so() {
    let wire = Wire::start();
    let behind = Behind::wire("toolarge", &NAMES, &wire);
    let (mut client, mut upstream) = pair(&behind, &wire);
    let question = format!(r#"{{"type":"response.create","input":["{}"]}}"#, "q".repeat(16 * 1024 * 1024));
    let sending = client.send_aside(masked(0x81, question.as_bytes()));
    upstream.exactly(10);
    let refusal = text(r#"{"type":"error","status":413,"error":{"message":"too large"}}"#);
    upstream.send(&refusal);
    // With most of the message unread the end is a reset.
    drop(upstream);
    let _ = sending.join().expect("no panic");
    assert_eq!(client.exactly(refusal.len()), refusal);
    client.gone();
    wire.assert_no_more();
    behind.assert_well_by_hand(&wire);
}

// Clients

#[test]
fn a_client_that_breaks_the_protocol_is_told_so_and_ends_alone() {
    let wire = Wire::start();
    let behind = Behind::wire("badclient", &NAMES, &wire);
    let with = |at: usize, bits: u8| {
        let mut bytes = masked(0x81, FULL.as_bytes());
        bytes[at] |= bits;
        bytes
    };
    let rows: [(&str, Vec<u8>); 9] = [
        ("not masked", text(FULL)),
        ("a reserved bit", with(0, 0x40)),
        ("all reserved bits", with(0, 0x70)),
        ("an unknown opcode", masked(0x83, b"{}")),
        ("a long ping", masked(0x89, &[b'x'; 126])),
        ("a ping in pieces", masked(0x09, b"x")),
        ("a continuation of nothing", masked(0x80, b"x")),
        ("a message within a message", [masked(0x01, b"x"), masked(0x81, b"y")].concat()),
        ("garbage", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
    ];
    for (name, bytes) in rows {
        for begun in [false, true] {
            let (mut client, mut upstream) = if begun { asked(&behind, &wire) } else { pair(&behind, &wire) };
            client.send(&bytes);
            let (rest, _) = client.rest();
            assert_eq!(rest, close(1002), "{name}, in a turn: {begun}");
            let (got, _) = upstream.rest();
            assert!(got.is_empty(), "{name}: the upstream got {:?}", String::from_utf8_lossy(&got));
        }
    }
    // Longer than codex itself would write.
    let (mut client, mut upstream) = pair(&behind, &wire);
    client.send([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(client.rest().0, close(1009));
    upstream.gone();
    behind.assert_well_by_hand(&wire);
}

#[test]
fn a_client_that_leaves_frees_its_upstream() {
    let wire = Wire::start();
    let behind = Behind::wire("leaves", &NAMES, &wire);
    let half = masked(0x81, FULL.as_bytes());
    for reset in [false, true] {
        for stage in ["idle", "half a message", "silence", "preamble", "stream", "much unread"] {
            let (mut client, mut upstream) = match stage {
                "idle" | "half a message" => pair(&behind, &wire),
                _ => asked(&behind, &wire),
            };
            let mut sending = None;
            match stage {
                "half a message" => client.send(&half[..half.len() / 2]),
                "preamble" => upstream.send(text(r#"{"type":"response.created"}"#)),
                "stream" => passes(&mut upstream, &mut client, &text(DELTA)),
                "much unread" => {
                    sending = Some(upstream.send_aside(text(DELTA).repeat(600_000)));
                    client.exactly(1);
                }
                _ => {}
            }
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            match sending {
                Some(sending) => assert!(sending.join().expect("no panic").is_err(), "{stage}: all was taken"),
                None => upstream.gone(),
            }
            wire.assert_no_more();
        }
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn the_stand_in_sees_a_client_that_left_during_a_silence() {
    let backend = backend();
    let points = [Point::BeforeHead, Point::AfterCreated, Point::AfterDeltas(1)];
    backend.set("alpha", Kind::Turn, points.map(|point| Behave::hang(point).times(1)));
    let behind = Behind::start("silence", &NAMES, &backend);
    for at in 0..points.len() {
        let mut client = behind.socket();
        client.text(FULL);
        backend.wait_for("the turn", PATIENCE, |records| records.iter().filter(|r| r.kind == Kind::Turn).count() > at);
        client.leave();
        backend.wait_for("its end", PATIENCE, |records| {
            records.iter().filter(|r| r.kind == Kind::Turn && r.finished == Finished::ClientGone).count() > at
        });
    }
    assert!(turns(&backend, "beta").is_empty());
    behind.assert_well(1);
}

#[test]
fn a_slow_client_holds_the_frames_up_and_costs_no_memory() {
    let wire = Wire::start();
    let behind = Behind::wire("slowsocket", &NAMES, &wire);
    let (mut client, upstream) = asked(&behind, &wire);
    let delta = text(&format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "x".repeat(65_000)));
    let body = [delta.repeat(64 * 1024 * 1024 / delta.len()), text(COMPLETED)].concat();
    let before = behind.memory();
    let sending = upstream.send_aside(body.clone());
    client.exactly(1);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        let grown = behind.memory().saturating_sub(before);
        assert!(grown < 4 * 1024, "{grown} KiB more for frames that nobody reads");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!sending.is_finished(), "64 MiB went somewhere");
    assert!(client.exactly(body.len() - 1) == body[1..]);
    sending.join().expect("no panic").expect("all is taken");
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

// Many

#[test]
fn eighty_idle_sockets_keep_no_request_out() {
    let backend = backend();
    let behind = Behind::start("eighty", &NAMES, &backend);
    let mut sockets: Vec<Client> = (0..80).map(|_| behind.socket()).collect();
    assert!(behind.ask(&mut behind.client(), b"{}").text().contains("Hello from alpha."));
    for socket in &mut sockets {
        socket.text(FULL);
    }
    for socket in &mut sockets {
        assert_eq!(types(&socket.read_events().expect("a turn")), CLEAN);
    }
    assert!(behind.ask(&mut behind.client(), b"{}").text().contains("Hello from "));
    drop(sockets);
    until("all are gone", || (behind.open_files() < 30).then_some(()));
    behind.assert_well(3);
}

#[test]
fn seventy_streams_at_once_all_complete() {
    let backend = backend();
    for name in NAMES {
        backend.set(name, Kind::Post, [Behave::answer("seventy").stream(40, 500, Duration::from_millis(2))]);
    }
    let behind = Behind::start("seventy", &NAMES, &backend);
    let mut clients: Vec<Client> = (0..70).map(|_| behind.client()).collect();
    for client in &mut clients {
        client.request("POST", &behind.model("/responses"), &behind.headers(), b"{}");
    }
    for client in &mut clients {
        let answer = client.response().expect("an answer");
        assert!(answer.whole && answer.text().contains("response.completed"), "{}", answer.text());
    }
    drop(clients);
    // However they are spread, each was asked once.
    assert_eq!(NAMES.map(|name| backend.of(name, &Kind::Post).len()).iter().sum::<usize>(), 70);
    behind.assert_well(70);
}

#[test]
fn a_flood_of_small_frames_both_ways() {
    let wire = Wire::start();
    let behind = Behind::wire("flood", &NAMES, &wire);
    let (mut client, mut upstream) = asked(&behind, &wire);
    let (pings, pongs) = (frame(0x89, b"p").repeat(50_000), masked(0x8a, b"p").repeat(50_000));
    let both = (upstream.send_aside(pings.clone()), client.send_aside(pongs.clone()));
    assert!(client.exactly(pings.len()) == pings);
    assert!(upstream.exactly(pongs.len()) == pongs);
    for sending in [both.0, both.1] {
        sending.join().expect("no panic").expect("all is taken");
    }
    passes(&mut upstream, &mut client, &[text(DELTA), text(COMPLETED)].concat());
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

/// The limit is 30 s: `cargo test -- --ignored silent_socket`.
#[test]
#[ignore = "takes 30 s"]
fn a_silent_socket_is_left_for_another_account() {
    let backend = backend();
    backend.set("alpha", Kind::Turn, [Behave { say: Say::Default, ..Behave::hang(Point::BeforeHead) }]);
    let behind = Behind::start("quiet", &NAMES, &backend);
    let mut client = behind.socket();
    client.tcp.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    clean_turn(&mut client, FULL, "beta");
    client.leave();
    behind.assert_well(1);
}
