//! The proxy in front of an upstream that speaks TLS: records are buffered where poll(2) does not see them, and an end
//! may come unannounced. And the proxy when descriptors run out.

use super::support::behind::{Behind, PATIENCE, until};
use super::support::raw::Client;
use super::support::space::TestSpace;
use super::support::standin::backend::Backend;
use super::support::standin::behave::{Behave, Cut, Framing, Point};
use super::support::standin::record::Finished;
use super::support::standin::script::{Kind, Script};
use super::support::standin::tls::Ca;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const NAMES: [&str; 2] = ["alpha", "beta"];
const FULL: &str = r#"{"type":"response.create","model":"m","input":[]}"#;

/// A backend with TLS, and a proxy that trusts it.
fn start(name: &str) -> (Backend, Behind) {
    start_with(name, Script::new(&NAMES))
}

fn start_with(name: &str, script: Script) -> (Backend, Behind) {
    let mut space = TestSpace::new(name);
    let ca = Ca::new(space.root());
    let backend = Backend::start_tls(script, &ca);
    space.profiles(&NAMES);
    space.use_backend(&backend);
    for kind in ["HTTP", "WEBSOCKET"] {
        space.env(&format!("PRODEX_RUNTIME_PROXY_{kind}_CONNECT_TIMEOUT_MS"), "600000");
    }
    space.env("CODEX_CA_CERTIFICATE", ca.pem.to_str().expect("test paths are UTF-8"));
    let behind = Behind::inside(space, NAMES[0], &backend);
    Behind::wait_checked(&NAMES, &backend);
    (backend, behind)
}

#[track_caller]
fn ends_with(events: &[String], kind: &str) {
    let last = events.last().map_or("", String::as_str);
    assert!(last.starts_with(&format!("{{\"type\":\"{kind}\"")), "{last}");
}

#[test]
fn large_bodies_pass_both_ways() {
    let (backend, behind) = start("tlslarge");
    let (size, deltas) = (2 * 1024 * 1024, 4);
    let large = |framing| Behave::answer("x").stream(deltas, 1024 * 1024, Duration::ZERO).framing(framing);
    let framings = [Framing::Chunked, Framing::Length, Framing::ChunkedFancy];
    backend.set("alpha", Kind::Post, framings.map(large));
    let mut client = behind.client();
    for _ in framings {
        let answer = behind.ask(&mut client, &vec![b'u'; size]);
        assert!(answer.whole && answer.text().contains("response.completed"));
        // The padding of the deltas is dots.
        let dots = answer.text().matches('.').count();
        assert!(dots >= deltas * 1024 * 1024 - deltas, "{dots} bytes came");
    }
    let seen = backend.of("alpha", &Kind::Post);
    assert!(seen.iter().all(|record| record.body_length == size as u64 && record.connection == seen[0].connection));
    drop(client);
    backend.set("alpha", Kind::Post, [Behave::ok()]);
    behind.assert_well(1);
}

#[test]
fn turns_move_and_messages_pass() {
    let (backend, behind) = start("tlsturns");
    backend.set("alpha", Kind::Turn, [Behave::big_event(2 * 1024 * 1024), Behave::quota_event()]);
    let mut client = behind.socket();
    client.text(&format!(r#"{{"type":"response.create","input":["{}"]}}"#, "q".repeat(1024 * 1024)));
    let events = client.read_events().expect("a turn");
    ends_with(&events, "response.completed");
    assert!(events.iter().any(|event| event.len() > 2 * 1024 * 1024));
    client.text(FULL);
    let events = client.read_events().expect("a turn");
    ends_with(&events, "response.completed");
    assert!(events.concat().contains("Hello from beta."), "{events:?}");
    client.leave();
    backend.set("alpha", Kind::Post, [Behave::quota_status()]);
    let answer = behind.ask(&mut behind.client(), &vec![b'u'; 2 * 1024 * 1024]);
    assert!(answer.whole && answer.text().contains("Hello from beta."), "{}", answer.text());
    behind.assert_well(2);
}

#[test]
fn an_end_that_is_not_announced_is_a_break() {
    let (backend, behind) = start("tlsbreak");
    let after = Point::AfterDeltas(1);
    let rows = [
        Behave::ok().cut(Cut::Drop, after),
        Behave::ok().cut(Cut::Reset, after),
        // Here the end of the connection would be the end of the body.
        Behave::until_close().cut(Cut::Drop, after),
        Behave::ok().cut(Cut::Drop, Point::InsideDelta(1)),
    ];
    for behave in rows {
        // Whoever is asked: an account whose stream broke is spared for a while.
        for name in NAMES {
            backend.set(name, Kind::Post, [behave.clone()]);
        }
        let mut client = behind.client();
        client.request("POST", &behind.model("/responses"), &behind.headers(), b"{}");
        let head = client.head().expect("a head");
        let rest = client.rest();
        let whole = head.header("transfer-encoding").is_some()
            && rest.as_ref().is_ok_and(|all| all.ends_with(b"\r\n0\r\n\r\n"));
        assert!(!whole, "{behave:?}");
        if head.header("transfer-encoding").is_none() {
            assert!(rest.is_err(), "a break looks like the proper end");
        }
    }
    let asked = || NAMES.map(|name| backend.of(name, &Kind::Post).len()).iter().sum::<usize>();
    assert_eq!(asked(), 4, "a stream was asked for again after its output began");
    // Announced, it is an end.
    for name in NAMES {
        backend.set(name, Kind::Post, [Behave::until_close().times(1)]);
    }
    assert!(behind.ask(&mut behind.client(), b"{}").whole);
    behind.assert_well(2);
}

#[test]
fn a_slow_client_costs_no_memory_and_one_that_leaves_frees_its_upstream() {
    let (backend, behind) = start("tlsslow");
    let large = || Behave::answer("x").stream(384, 64 * 1024, Duration::ZERO);
    backend.set("alpha", Kind::Post, [Behave::ok(), large(), large()]);
    behind.ask(&mut behind.client(), b"{}");
    let before = behind.memory();
    let mut client = behind.client();
    client.request("POST", &behind.model("/responses"), &behind.headers(), b"{}");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        let grown = behind.memory().saturating_sub(before);
        assert!(grown < 4 * 1024, "{grown} KiB more for a stream that nobody reads");
        std::thread::sleep(Duration::from_millis(10));
    }
    let answer = client.response().expect("an answer");
    assert!(answer.whole && answer.body.len() > 384 * 64 * 1024);
    client.request("POST", &behind.model("/responses"), &behind.headers(), b"{}");
    client.head().expect("a head");
    client.leave();
    backend.wait_for("the end of the stream", PATIENCE, |records| {
        records.iter().any(|record| record.kind == Kind::Post && record.finished == Finished::ClientGone)
    });
    backend.set("alpha", Kind::Post, [Behave::ok()]);
    behind.assert_well(1);
}

#[test]
fn an_upstream_with_a_strange_certificate_is_503_in_clear_words() {
    let mut space = TestSpace::new("tlsstrange");
    let backend = Backend::start_tls(Script::new(&NAMES), &Ca::new(&space.tmp()));
    space.profiles(&NAMES);
    space.use_backend(&backend);
    let behind = Behind::inside(space, NAMES[0], &backend);
    let answer = behind.ask(&mut behind.client(), b"{}");
    assert_eq!((answer.status, answer.whole), (503, true));
    let words = format!("prodex: no secure connection to {}: ", backend.address());
    assert!(answer.text().contains(&words), "{}", answer.text());
    assert!(backend.of("alpha", &Kind::Post).is_empty() && backend.of("beta", &Kind::Post).is_empty());
    behind.assert_nothing_left(0);
}

/// Alpha's account belongs to an address that takes a connection and says nothing; beta's to the backend. By the limits of
/// one step alone nobody who asks would wait so long.
#[test]
fn a_black_hole_leaves_time_for_another_account() {
    let hole = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let origin = format!("https://{}", hole.local_addr().expect("it is bound"));
    let (backend, behind) = start_with("hole", Script::new(&NAMES).check("alpha", &origin, "NO_CONSTRAINT"));
    let answer = behind.ask(&mut behind.client(), b"{}");
    assert!(answer.whole && answer.text().contains("Hello from beta."), "{}", answer.text());
    let log = behind.space.marked("upstream_connect_error");
    assert!(log.len() == 1 && log[0].contains("profile=alpha phase=tls"), "{log:?}");
    assert_eq!(backend.of("alpha", &Kind::Post).len(), 0);

    // The same for a WebSocket.
    let (_backend, behind) = start_with("holews", Script::new(&NAMES).check("alpha", &origin, "NO_CONSTRAINT"));
    let mut client = behind.socket();
    client.text(FULL);
    let events = client.read_events().expect("a turn");
    assert!(events.concat().contains("Hello from beta."), "{events:?}");
}

#[test]
fn descriptors_that_run_out_come_back() {
    let backend = Backend::start(Script::new(&NAMES));
    let behind = Behind::with_descriptors("descriptors", &NAMES, &backend, 40);
    // More than there is room for: some wait to be accepted.
    let silent: Vec<Client> = (0..60).map(|_| behind.client()).collect();
    until("all descriptors are taken", || (behind.open_files() >= 40).then_some(()));
    drop(silent);
    behind.assert_well(1);
    // With room for the client and none for its upstream: told, and over.
    let mut held: Vec<Client> = Vec::new();
    while behind.open_files() < 39 {
        let before = behind.open_files();
        held.push(behind.client());
        // Accepted; or something of before has ended meanwhile, and the number stays.
        for _ in 0..100 {
            if behind.open_files() > before {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    backend.set("alpha", Kind::Post, [Behave::ok()]);
    let mut client = held.pop().expect("one of them");
    client.request("POST", &behind.backend("/wham/x"), &behind.headers(), b"{}");
    assert!(client.response().is_ok());
    drop((held, client));
    behind.assert_well(2);
}
