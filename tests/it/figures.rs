//! What the proxy costs a request, measured, not asserted: machines differ. By hand, in a release build:
//! `cargo test --release --test it -- --ignored --nocapture figures_of`

use crate::support::behind::{Behind, until};
use crate::support::raw::Client;
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::script::{Kind as Asked, Script};
use crate::support::standin::token;
use prodex::config::Config;
use prodex::proxy::bindings::{Kind, Recorder};
use std::time::{Duration, Instant};

const NAMES: [&str; 2] = ["alpha", "beta"];
const REQUESTS: usize = 3_000;

/// A run that remembers as much as it may from runs before.
fn remembers(backend: &Backend) -> Behind {
    let space = TestSpace::with_profiles("full", &NAMES, backend);
    let config = Config {
        root: space.prodex_home(),
        shared_codex_home: space.codex_home(),
        default_codex_home: space.codex_home(),
        codex_bin: "codex".into(),
        base_url: backend.base_url(),
    };
    let recorder = Recorder::start(config);
    let turn_state = "t".repeat(300);
    for n in 0..16_384 {
        recorder.bind(Kind::Response, &format!("resp_{n:040x}"), NAMES[n % 2]);
        if n < 4_096 {
            recorder.bind(Kind::Session, &format!("session-{n:028x}"), NAMES[n % 2]);
            recorder.bind(Kind::TurnState, &format!("{turn_state}{n:x}"), NAMES[n % 2]);
        }
        if n % 500 == 499 {
            // It takes a bounded number at once.
            std::thread::sleep(Duration::from_millis(150));
        }
    }
    assert!(recorder.finish(Duration::from_secs(10)) && recorder.dropped() == 0, "it did not take them all");
    let behind = Behind::inside(space, NAMES[0], backend);
    let told = until("it has read them", || behind.space.marked("bindings recalled").pop());
    assert!(told.ends_with("count=24576"), "{told}");
    behind
}

fn median(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

#[test]
#[ignore = "measures; run by hand in a release build"]
fn figures_of_a_request() {
    let backend = Backend::start(Script::new(&NAMES));
    let full = remembers(&backend);
    let empty = Behind::start("empty", &NAMES, &backend);
    let direct = Client::connect(backend.address());
    let bearer = format!("Bearer {}", token::access_token("alpha", token::unix_now() + 9_000, 1));
    let mut ways = [
        ("direct", direct, None),
        ("no bindings", empty.client(), Some(&empty)),
        ("24,576 bindings", full.client(), Some(&full)),
    ];
    let mut took = [const { Vec::new() }; 3];
    // In turn, so that the machine's moods fall on all.
    for round in 0..REQUESTS + 100 {
        for ((_, client, behind), took) in ways.iter_mut().zip(&mut took) {
            let began = Instant::now();
            match behind {
                Some(behind) => client.request("GET", &behind.model("/models"), &behind.headers(), b""),
                None => client.request("GET", "/backend-api/codex/models", &[("Authorization", &bearer)], b""),
            }
            let answer = client.response().expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            if round >= 100 {
                took.push(began.elapsed());
            }
        }
    }
    assert!(backend.of("alpha", &Asked::Models).len() > REQUESTS);
    for ((name, ..), took) in ways.iter().zip(took) {
        let (half, most) = median(took);
        println!("{name}: p50 {half:?}, p99 {most:?}");
    }
}

/// The same for a turn of a new session: what is bound for it drives the oldest out.
#[test]
#[ignore = "measures; run by hand in a release build"]
fn figures_of_a_turn() {
    let backend = Backend::start(Script::new(&NAMES));
    let full = remembers(&backend);
    let empty = Behind::start("empty", &NAMES, &backend);
    let mut ways = [("no bindings", empty.client(), &empty), ("24,576 bindings", full.client(), &full)];
    let mut took = [const { Vec::new() }; 2];
    for round in 0..REQUESTS / 3 + 50 {
        let session = format!("new-{round}");
        for ((_, client, behind), took) in ways.iter_mut().zip(&mut took) {
            let headers = [behind.fresh_headers(), vec![("session-id", session.as_str())]].concat();
            let began = Instant::now();
            client.request("POST", &behind.model("/responses"), &headers, b"{}");
            let answer = client.response().expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            if round >= 50 {
                took.push(began.elapsed());
            }
        }
    }
    for ((name, ..), took) in ways.iter().zip(took) {
        let (half, most) = median(took);
        println!("{name}: p50 {half:?}, p99 {most:?}");
    }
}
