//! WebSocket (RFC 6455) through the built program, by the case families of the Autobahn test suite, in both roles: a row is
//! what a client says to us, and what an upstream says. Framing is ours to judge. What a message or a close says, its UTF-8
//! and its codes, is for the ends: it passes as it is, bad or good (spec S-3), masks kept.

use super::proxy_websocket::{DELTA, FULL, asked, masked, pair, passes, text};
use super::support::behind::{Behind, Peer, Wire};
use super::support::standin::frame::{close, frame};

const NAMES: [&str; 2] = ["alpha", "beta"];

/// The frames of a row: first byte and payload; and how many of them are right. What is right passes, the first that is not
/// ends the socket.
struct Row {
    name: &'static str,
    frames: Vec<(u8, Vec<u8>)>,
    right: usize,
}

fn right(name: &'static str, frames: &[(u8, &[u8])]) -> Row {
    wrong(name, frames, frames.len())
}

fn wrong(name: &'static str, frames: &[(u8, &[u8])], right: usize) -> Row {
    Row { name, frames: frames.iter().map(|(first, payload)| (*first, payload.to_vec())).collect(), right }
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// A message that more follows of, what is in its middle, and its end.
const BEGIN: u8 = 0x01;
const MORE: u8 = 0x00;
const END: u8 = 0x80;

fn families() -> Vec<Row> {
    let fill = |count: usize| (0..=255_u8).cycle().take(count).collect::<Vec<u8>>();
    let stars = |count: usize| vec![b'*'; count];
    let mut rows = Vec::new();
    // 1: frames of every length of a length, and in pieces.
    for count in [0, 1, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537] {
        rows.push(right("1.1 text", &[(TEXT, &stars(count))]));
        rows.push(right("1.2 binary", &[(BINARY, &fill(count))]));
    }
    // 2: pings and pongs.
    rows.extend([
        right("2.1 empty ping", &[(PING, b"")]),
        right("2.2 ping with text", &[(PING, b"Hello, world!")]),
        right("2.3 binary ping", &[(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]),
        right("2.4 ping of 125", &[(PING, &fill(125))]),
        wrong("2.5 ping of 126", &[(PING, &fill(126))], 0),
        wrong("2.5 ping of 65536", &[(PING, &fill(65_536))], 0),
        wrong("2.5 pong of 126", &[(PONG, &fill(126))], 0),
        right("2.7 unasked pong", &[(PONG, b"")]),
        right("2.8 unasked pong with text", &[(PONG, b"unsolicited pong payload")]),
        right("2.9 unasked pong, ping", &[(PONG, b"unsolicited"), (PING, b"ping payload")]),
    ]);
    let ten: Vec<Vec<u8>> = (0..10).map(|at| format!("payload-{at}").into_bytes()).collect();
    let ten: Vec<(u8, &[u8])> = ten.iter().map(|payload| (PING, payload.as_slice())).collect();
    rows.push(right("2.10 ten pings", &ten));
    // 3: reserved bits, each and all, in every kind of frame, alone and after what is right.
    for bits in 1..=7_u8 {
        let bits = bits << 4;
        rows.push(wrong("3 text", &[(TEXT | bits, b"Hello")], 0));
        rows.push(wrong("3 after a text", &[(TEXT, b"Hello"), (TEXT | bits, b"Hello"), (PING, b"")], 1));
        rows.push(wrong("3 binary", &[(BINARY | bits, &fill(8))], 0));
        rows.push(wrong("3 ping", &[(PING | bits, b"")], 0));
        rows.push(wrong("3 close", &[(CLOSE | bits, b"\x03\xe8")], 0));
        rows.push(wrong("3 in a message", &[(BEGIN, b"a"), (END | bits, b"b")], 1));
    }
    // 4: opcodes that are none, alone and after what is right.
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let opcode = 0x80 | opcode;
        rows.push(wrong("4 empty", &[(opcode, b"")], 0));
        rows.push(wrong("4 with a payload", &[(opcode, b"reserved")], 0));
        rows.push(wrong("4 after a text", &[(TEXT, b"Hello"), (opcode, b""), (PING, b"")], 1));
        rows.push(wrong("4 in a message", &[(BEGIN, b"a"), (opcode, b"x")], 1));
        rows.push(wrong("4 in pieces", &[(opcode & 0x0f, b"x")], 0));
    }
    // 5: pieces.
    rows.extend([
        wrong("5.1 ping in pieces", &[(0x09, b"frag"), (END, b"ment")], 0),
        wrong("5.2 pong in pieces", &[(0x0a, b"frag"), (END, b"ment")], 0),
        wrong("5.2 close in pieces", &[(0x08, b"\x03\xe8"), (END, b"")], 0),
        right("5.3 two pieces", &[(BEGIN, b"fragment1"), (END, b"fragment2")]),
        right("5.3 of nothing", &[(BEGIN, b""), (MORE, b""), (END, b"")]),
        right("5.3 something in the middle", &[(BEGIN, b""), (MORE, b"middle"), (END, b"")]),
        right("5.3 binary", &[(0x02, b"\xff"), (MORE, b"\xfe"), (END, b"")]),
        right("5.6 a ping between", &[(BEGIN, b"fragment1"), (PING, b"ping"), (END, b"fragment2")]),
        right("5.6 a pong between", &[(BEGIN, b"fragment1"), (PONG, b"pong"), (END, b"fragment2")]),
        wrong("5.9 the end of nothing", &[(END, b"non-continuation"), (TEXT, b"Hello")], 0),
        wrong("5.12 the middle of nothing", &[(MORE, b"non-continuation"), (TEXT, b"Hello")], 0),
        wrong("5.15 more after the end", &[(BEGIN, b"1"), (END, b"2"), (MORE, b"3"), (TEXT, b"4")], 2),
        wrong("5.16 the middle of nothing, then a message", &[(MORE, b"1"), (BEGIN, b"2"), (END, b"3")], 0),
        wrong("5.18 a text in a message", &[(BEGIN, b"fragment1"), (TEXT, b"fragment2")], 1),
        wrong("5.18 a binary in a message", &[(BEGIN, b"fragment1"), (BINARY, b"fragment2")], 1),
        wrong("5.18 a beginning in a message", &[(BEGIN, b"fragment1"), (BEGIN, b"fragment2"), (END, b"")], 1),
        right(
            "5.19 pings between all pieces",
            &[(BEGIN, b"1"), (MORE, b"2"), (PING, b"a"), (MORE, b"3"), (MORE, b"4"), (PING, b"b"), (END, b"5")],
        ),
    ]);
    // 6: UTF-8, right and wrong, whole and in pieces.
    let letters: [&[u8]; 16] = [
        "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!".as_bytes(),
        "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes(),
        "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xbf\xbf",
        b"\x80",
        b"\xfe\xff",
        b"\xe2\x82",
        b"{\"type\":\"\xff",
    ];
    for text in letters {
        let (one, two) = text.split_at(text.len() / 2);
        rows.push(right("6 whole", &[(TEXT, text)]));
        rows.push(right("6 in pieces", &[(BEGIN, one), (PING, b""), (END, two)]));
    }
    // 9: many pieces.
    for (first, size) in [(BEGIN, 64), (0x02, 1000), (BEGIN, 65_536)] {
        let mut frames = vec![(MORE, fill(size)); 32];
        frames[0].0 = first;
        frames[31].0 = END;
        rows.push(Row { name: "9 in pieces", frames, right: 32 });
    }
    rows
}

/// 7: what ends a socket. What stands behind it is not for anybody.
fn closes() -> Vec<Row> {
    let mut rows = vec![
        right("7.3.1 empty", &[(CLOSE, b"")]),
        right("7.3.2 of one byte", &[(CLOSE, b"\x03")]),
        right("7.3.4 with a reason", &[(CLOSE, b"\x03\xe8Hello World!")]),
        right("7.3.5 of 125", &[(CLOSE, &[b"\x03\xe8".as_slice(), &[b'*'; 123]].concat())]),
        wrong("7.3.6 of 126", &[(CLOSE, &[b"\x03\xe8".as_slice(), &[b'*'; 124]].concat())], 0),
        right("7.5.1 with a reason that is no UTF-8", &[(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80")]),
        right("7.1.2 in a message", &[(BEGIN, b"fragment1"), (CLOSE, b"\x03\xe8")]),
    ];
    // 7.7 those that may be sent; 7.9 and 7.13 those that may not.
    for code in [
        1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 0, 999, 1004, 1005, 1006,
        1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        rows.push(right("7.7 with a code", &[(CLOSE, &code.to_be_bytes())]));
    }
    rows
}

fn of_client(row: &Row) -> Vec<Vec<u8>> {
    row.frames.iter().map(|(first, payload)| masked(*first, payload)).collect()
}

fn of_upstream(row: &Row) -> Vec<Vec<u8>> {
    row.frames.iter().map(|(first, payload)| frame(*first, payload)).collect()
}

/// In single bytes where that is not too many.
fn dribble(peer: &mut Peer, bytes: &[u8]) {
    if bytes.len() > 200 {
        return peer.send(bytes);
    }
    for byte in bytes {
        peer.send([*byte]);
    }
}

/// An open socket on which nothing is asked, or the model speaks.
#[track_caller]
fn open(behind: &Behind, wire: &Wire, speaks: bool) -> (Peer, Peer) {
    if !speaks {
        return pair(behind, wire);
    }
    let (mut client, mut upstream) = asked(behind, wire);
    passes(&mut upstream, &mut client, &text(DELTA));
    (client, upstream)
}

#[test]
fn what_is_right_passes_in_both_roles() {
    let wire = Wire::start();
    let behind = Behind::wire("wsright", &NAMES, &wire);
    for speaks in [false, true] {
        let (mut client, mut upstream) = open(&behind, &wire, speaks);
        for row in families().iter().filter(|row| row.right == row.frames.len()) {
            let (name, said, heard) = (row.name, of_client(row).concat(), of_upstream(row).concat());
            passes(&mut upstream, &mut client, &heard);
            dribble(&mut upstream, &heard);
            assert!(client.exactly(heard.len()) == heard, "{name}: the upstream's");
            // Of a message that may be a turn the pieces wait for their end, and what is between them does not.
            let waits = !speaks && row.frames.len() > 1 && row.frames[0].0 & 0x80 == 0;
            let said = if waits { between_first(row) } else { said };
            for at_once in [true, false] {
                let bytes = of_client(row).concat();
                if at_once && bytes.len() < 65_536 {
                    client.send(&bytes)
                } else {
                    dribble_large(&mut client, &bytes)
                }
                assert!(upstream.exactly(said.len()) == said, "{name}: the client's");
            }
        }
        drop((client, upstream));
    }
    behind.assert_well_by_hand(&wire);
}

/// More than the sockets hold may be under way: from another thread.
fn dribble_large(peer: &mut Peer, bytes: &[u8]) {
    if bytes.len() < 65_536 {
        return dribble(peer, bytes);
    }
    drop(peer.send_aside(bytes.to_vec()));
}

/// The control frames of a row, then its message.
fn between_first(row: &Row) -> Vec<u8> {
    let all = of_client(row);
    let is_control = |at: usize| row.frames[at].0 & 0x08 != 0;
    let control = (0..all.len()).filter(|at| is_control(*at));
    let message = (0..all.len()).filter(|at| !is_control(*at));
    control.chain(message).flat_map(|at| all[at].clone()).collect()
}

#[test]
fn what_is_wrong_ends_the_socket_in_both_roles() {
    let wire = Wire::start();
    let behind = Behind::wire("wswrong", &NAMES, &wire);
    let rows: Vec<Row> = [families(), closes()].into_iter().flatten().collect();
    for row in rows.iter().filter(|row| row.right < row.frames.len()) {
        for speaks in [false, true] {
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            let all = of_client(row);
            client.send(all.concat());
            assert_eq!(client.rest().0, close(1002), "{}, the model speaks: {speaks}", row.name);
            let (got, _) = upstream.rest();
            assert!(all[..row.right].concat().starts_with(&got), "{}: the upstream got {got:?}", row.name);
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            let all = of_upstream(row);
            upstream.send(all.concat());
            let (got, _) = client.rest();
            assert!(all[..row.right].concat().starts_with(&got), "{}: the client got {got:?}", row.name);
            upstream.gone();
            wire.assert_no_more();
        }
    }
    // Lengths: longer than they need be, with the top bit, beyond every bound; a mask where none may be, and none where one must.
    let mask = [0x5a, 0, 0, 0x81];
    let headers: [(&[u8], u16); 7] = [
        (&[0x81, 126, 0, 0], 1002),
        (&[0x81, 126, 0, 125], 1002),
        (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 125], 1002),
        (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
        (&[0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], 1002),
        (&[0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1002),
        (&[0x81, 127, 0, 0, 0, 0, 4, 0, 0, 1], 1009),
    ];
    for (header, code) in headers {
        for speaks in [false, true] {
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            let mut bytes = [header, &mask].concat();
            bytes[1] |= 0x80;
            client.send(bytes);
            assert_eq!(client.rest().0, close(code), "{header:?}");
            assert_eq!(upstream.rest().0, b"");
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            upstream.send(header);
            assert_eq!(client.rest().0, b"", "{header:?}");
            upstream.gone();
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            upstream.send(masked(0x81, b"masked"));
            assert_eq!(client.rest().0, b"");
            upstream.gone();
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            client.send(frame(0x81, b"not masked"));
            assert_eq!(client.rest().0, close(1002));
            upstream.gone();
        }
    }
    behind.assert_well_by_hand(&wire);
}

#[test]
fn whatever_a_close_says_it_passes_and_nothing_is_asked_after_it() {
    let wire = Wire::start();
    let behind = Behind::wire("wsclose", &NAMES, &wire);
    for row in closes().iter().filter(|row| row.right == row.frames.len()) {
        for speaks in [false, true] {
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            let all = of_client(row);
            // A turn after it is for nobody: no account is asked, least of all another one.
            let first = if all.len() > 1 { END } else { TEXT };
            client.send([all.concat(), masked(first, FULL.as_bytes()), masked(PING, b"after")].concat());
            let close = all.last().expect("a frame");
            let passed = if speaks { all.concat() } else { close.clone() };
            assert_eq!(upstream.exactly(passed.len()), passed, "{}", row.name);
            assert_eq!(upstream.exactly(11), masked(0x89, b"after"), "{}", row.name);
            upstream.send(frame(0x88, b"\x03\xe8"));
            drop(upstream);
            assert_eq!(client.rest().0, frame(0x88, b"\x03\xe8"), "{}", row.name);
            wire.assert_no_more();
            let (mut client, mut upstream) = open(&behind, &wire, speaks);
            let all = of_upstream(row);
            passes(&mut upstream, &mut client, &all.concat());
            passes(&mut client, &mut upstream, &masked(0x88, b"\x03\xe8"));
            drop(upstream);
            assert_eq!(client.rest().0, b"", "{}", row.name);
            wire.assert_no_more();
        }
    }
    behind.assert_well_by_hand(&wire);
}

/// 9: one frame of 16 MiB each way, as much as codex takes in one.
#[test]
fn a_frame_of_16_mib_passes_both_ways() {
    let wire = Wire::start();
    let behind = Behind::wire("ws16m", &NAMES, &wire);
    let large = vec![b'x'; 16 << 20];
    let (mut client, mut upstream) = open(&behind, &wire, true);
    passes(&mut upstream, &mut client, &frame(0x82, &large));
    passes(&mut client, &mut upstream, &masked(0x81, &large));
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}

/// Pieces that hold nothing say nothing: they are held like everything before the model speaks, and no longer than that.
#[test]
fn of_empty_pieces_no_more_is_held_than_of_others() {
    let wire = Wire::start();
    let behind = Behind::wire("wsempty", &NAMES, &wire);
    let (mut client, mut upstream) = asked(&behind, &wire);
    let pieces = [frame(0x01, b"{"), frame(0x00, b"").repeat(200_000)].concat();
    passes(&mut upstream, &mut client, &pieces);
    drop((client, upstream));
    behind.assert_well_by_hand(&wire);
}
