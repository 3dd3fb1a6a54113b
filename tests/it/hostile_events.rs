//! Event streams (WHATWG HTML 9.2) through the built program, in every spelling that the rules allow and some that they do
//! not: judged as a browser would read them, and relayed byte for byte. The reader alone is tested in `src/wire/sse.rs`.

use super::support::behind::{Behind, Peer, Wire};

const NAMES: [&str; 2] = ["alpha", "beta"];
const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1"}}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"x"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1"}}"#;
const QUOTA: &str =
    r#"{"type":"response.failed","response":{"id":"resp_1","error":{"code":"usage_limit_reached","message":"no"}}}"#;

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n")
}

#[track_caller]
fn asked(behind: &Behind, wire: &Wire) -> (Peer, Peer) {
    let mut client = behind.peer();
    client.send(behind.head("POST", &behind.model("/responses"), "Content-Length: 2\r\nConnection: close\r\n") + "{}");
    (client, next(wire))
}

#[track_caller]
fn next(wire: &Wire) -> Peer {
    let mut upstream = wire.next();
    upstream.head();
    upstream.exactly(2);
    upstream
}

/// Events with this data, in each of these spellings of a whole stream.
fn spelled(data: &[&str]) -> Vec<(&'static str, String)> {
    let with = |before: &str, name: &str, end: &str| {
        data.iter().fold(String::new(), |text, data| text + before + name + data + end)
    };
    // JSON may be broken after a comma: the lines of an event are joined with one line end.
    let lines = |end: &str| with("", "data: ", &format!("{end}{end}")).replace(",\"", &format!(",{end}data:\""));
    vec![
        ("LF", with("", "data: ", "\n\n")),
        ("CRLF", with("", "data: ", "\r\n\r\n")),
        ("CR", with("", "data: ", "\r\r")),
        ("LF, then CR", with("", "data: ", "\n\r")),
        ("CR, then CRLF", with("", "data: ", "\r\r\n")),
        ("a byte order mark", format!("\u{feff}{}", with("", "data:", "\n\n"))),
        ("no space, and two", with("", "data:", "\n\n") + &with("", "data:  ", "\n\n")),
        ("comments", format!(":\r\n: a\n\n{}", with(":data: {}\n", "data: ", "\n: b\n\n"))),
        ("other fields", with("id: 1\nevent: data\nretry: 9\nx\n", "data: ", "\ndata-x: {}\n\n\n\n")),
        ("an event that says otherwise", with("event: response.output_text.delta\r", "data: ", "\r\n\r")),
        ("lines, LF", lines("\n")),
        ("lines, CRLF", lines("\r\n")),
        ("lines, CR", lines("\r")),
    ]
}

/// What the reader must not take for events of a refusal.
fn no_refusals() -> Vec<(&'static str, String)> {
    vec![
        ("a comment", format!(": data: {QUOTA}\n\ndata: {DELTA}\n\n")),
        ("a space before", format!(" data: {QUOTA}\n\ndata: {DELTA}\n\n")),
        ("a space behind the name", format!("data : {QUOTA}\n\ndata: {DELTA}\n\n")),
        ("capitals", format!("DATA: {QUOTA}\n\ndata: {DELTA}\n\n")),
        ("another field", format!("datas: {QUOTA}\n\ndata: {DELTA}\n\n")),
        ("a second mark", format!("\u{feff}\u{feff}data: {QUOTA}\n\ndata: {DELTA}\n\n")),
        ("a mark within", format!("data: {DELTA}\n\n\u{feff}data: {QUOTA}\n\n")),
        ("in an event of more", format!("data: {DELTA}\ndata: {QUOTA}\n\n")),
        ("broken within a word", format!("data: {}\n\n", QUOTA.replace("failed", "fai\ndata: led"))),
        ("without its empty line", format!("data: {CREATED}\n\ndata: {QUOTA}\n")),
        ("without its line end", format!("data: {CREATED}\n\ndata: {QUOTA}")),
        ("half an event", format!("data: {CREATED}\n\ndata: {}", &QUOTA[..40])),
        ("other line ends", format!("data: {DELTA}\u{85}\u{2028}\u{b}\u{c}data: {QUOTA}\n\n")),
        ("no event at all", String::from("\n\r\r\n:\n\n")),
    ]
}

fn said(upstream: &mut Peer, text: &str, dribbled: bool) {
    upstream.send(head(text.len()));
    if dribbled {
        for byte in text.as_bytes() {
            upstream.send([*byte]);
        }
    } else {
        upstream.send(text);
    }
    upstream.finish();
}

#[test]
fn a_refusal_in_every_spelling_moves_the_turn() {
    let wire = Wire::start();
    for (at, (name, refusal)) in spelled(&[CREATED, QUOTA]).into_iter().enumerate() {
        let behind = Behind::wire("refusal", &NAMES, &wire);
        let (mut client, mut upstream) = asked(&behind, &wire);
        said(&mut upstream, &refusal, at % 2 == 0);
        let mut other = next(&wire);
        let (_, whole) = spelled(&[CREATED, DELTA, COMPLETED]).swap_remove(at);
        said(&mut other, &whole, at % 2 == 1);
        assert_eq!(String::from_utf8_lossy(&client.rest().0), head(whole.len()) + &whole, "{name}");
        assert_eq!(behind.space.marked("worker_panic"), [""; 0]);
    }
    wire.assert_no_more();
}

#[test]
fn what_is_no_refusal_passes_byte_for_byte() {
    let wire = Wire::start();
    let behind = Behind::wire("events", &NAMES, &wire);
    // Last, as these are recorded: a refusal behind the output is for the next turn.
    let late = [format!("data: {DELTA}\n\ndata: {QUOTA}\n\n"), format!("data\n\ndata: [DONE]\n\ndata: {QUOTA}\n\n")];
    let late = late.map(|text| ("after the output", text));
    let whole = spelled(&[CREATED, DELTA, COMPLETED]);
    for (name, text) in no_refusals().into_iter().chain(whole).chain(late) {
        for dribbled in [false, true] {
            let (mut client, mut upstream) = asked(&behind, &wire);
            said(&mut upstream, &text, dribbled);
            assert_eq!(String::from_utf8_lossy(&client.rest().0), head(text.len()) + &text, "{name}");
            wire.assert_no_more();
        }
    }
    behind.assert_nothing_left(1);
}

/// Of an event of 16 MiB only the beginning is looked at, and no more of it is kept than of others.
#[test]
fn events_of_16_mib_pass_and_cost_no_memory() {
    let wire = Wire::start();
    let behind = Behind::wire("large-events", &NAMES, &wire);
    let pad = "p".repeat(16 << 20);
    let rows = [
        format!("data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{pad}\"}}\n\n"),
        format!("data: {{\"type\":\"response.in_progress\",\"pad\":\"{pad}\"}}\r\n\r\n"),
        format!("data: {{\"type\":\"response.in_progress\",\"pad\":\"{}\"}}\r\r", "p\rdata: ".repeat(2 << 20)),
        format!(": {pad}\n\n"),
        pad.clone(),
        format!("data: {DELTA}\n\ndata: {{\"type\":\"response.completed\",\"pad\":\"{pad}\"}}\n\n"),
    ];
    let before = behind.memory();
    for text in rows {
        let (mut client, mut upstream) = asked(&behind, &wire);
        upstream.send(head(text.len()));
        let sending = upstream.send_aside(text.clone().into_bytes());
        let length = head(text.len()).len() + text.len();
        let got = client.exactly(length);
        assert!(got.ends_with(text.as_bytes()), "{} came otherwise", &text[..60]);
        sending.join().expect("no panic").expect("all is taken");
        let grown = behind.memory().saturating_sub(before);
        assert!(grown < 6 * 1024, "{grown} KiB more after {}", &text[..60]);
    }
    wire.assert_no_more();
}
