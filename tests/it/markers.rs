//! The lines of the runtime log that no other test needs: each marker is brought about once, from outside, and its line is
//! what `original.md` D.10 and `doctor --runtime` take it for. `rules` says which marker belongs to which rule.

use crate::support::behind::{Behind, PATIENCE, until};
use crate::support::raw::{Client, Response};
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Point};
use crate::support::standin::gate::Gate;
use crate::support::standin::record::Record;
use crate::support::standin::script::{Kind, Script};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const NAMES: [&str; 2] = ["alpha", "beta"];
const FULL: &str = r#"{"type":"response.create","model":"m","input":[]}"#;

fn backend() -> Backend {
    Backend::start(Script::new(&NAMES))
}

/// The lines of the log with one of these words, in order, without what stands before the word.
#[track_caller]
fn told(behind: &Behind, words: &[&str]) -> Vec<String> {
    let logs = behind.space.runtime_logs();
    let found = logs.iter().flat_map(|log| log.lines()).filter_map(|line| {
        let at = words.iter().filter_map(|word| line.find(&format!(" {word} "))).min()?;
        Some(line[at + 1..].to_owned())
    });
    found.collect()
}

/// The one line that begins with `marker` and has these words.
#[track_caller]
fn line(behind: &Behind, marker: &str, words: &[&str]) -> String {
    let fits = |line: &String| words.iter().all(|word| line.contains(word));
    until(&format!("{marker} with {words:?}"), || told(behind, &[marker]).into_iter().find(fits))
}

#[track_caller]
fn answered(answer: &Response, name: &str) {
    let text = answer.text();
    assert!(answer.whole && text.contains(&format!("Hello from {name}.")), "{} {text}", answer.status);
}

fn last_response(backend: &Backend, name: &str, kind: &Kind) -> String {
    backend.of(name, kind).pop().and_then(|record| record.response_id).expect("an answered request")
}

fn chained(id: &str) -> String {
    format!(r#"{{"type":"response.create","model":"m","previous_response_id":"{id}","input":[]}}"#)
}

#[test]
fn an_exchange_from_its_place_to_its_end() {
    let backend = backend();
    let behind = Behind::start("steps", &NAMES, &backend);
    let mut client = behind.client();
    answered(&behind.ask(&mut client, b"{}"), "alpha");
    until("it is over", || told(&behind, &["exchange"]).pop());
    let id = last_response(&backend, "alpha", &Kind::Post);
    let steps = [
        "candidate profile=alpha why=Current candidate=alpha pinned=None excluded_count=0".to_owned(),
        "profile_inflight profile=alpha count=1 context=responses_http event=acquire".to_owned(),
        "committed profile=alpha".to_owned(),
        "binding session_id profile=alpha value=s-1".to_owned(),
        "first_upstream_chunk profile=alpha bytes=".to_owned(),
        format!("binding response_ids profile=alpha count=1 first=Some({id:?})"),
        "first_local_chunk profile=alpha bytes=".to_owned(),
        "stream_complete profile=alpha bytes=".to_owned(),
        "exchange profile=alpha status=200 attempts=1 commit_ms=".to_owned(),
    ];
    let mut words: Vec<&str> = steps.iter().filter_map(|step| step.split(' ').next()).collect();
    words.dedup();
    let seen = told(&behind, &words);
    assert_eq!(seen.len(), steps.len(), "{seen:#?}");
    for (seen, step) in seen.iter().zip(&steps) {
        assert!(seen.starts_with(step.as_str()), "{seen} is not {step}");
    }
    assert!(seen[8].ends_with(" end=whole phase=end"), "{}", seen[8]);
    let logs = behind.space.runtime_logs();
    let form = |line: &&str| line.contains(" committed ") && line.contains("] request=");
    assert!(logs.iter().flat_map(|log| log.lines()).any(|line| form(&line) && line.contains(" transport=http ")));
}

#[test]
fn a_session_in_every_spelling_goes_where_it_was() {
    let backend = backend();
    let behind = Behind::start("spelling", &NAMES, &backend);
    let ask = |name: &str| {
        let mut client = behind.client();
        let headers = [behind.fresh_headers(), vec![(name, "s-1"), ("Connection", "close")]].concat();
        client.request("POST", &behind.model("/responses"), &headers, b"{}");
        answered(&client.response().expect("an answer"), "alpha");
        told(&behind, &["candidate"]).pop().expect("a candidate")
    };
    assert!(ask("session-id").contains("profile=alpha why=Current"));
    for name in ["session-id", "thread-id", "session_id", "Conversation_ID", "x-client-request-id"] {
        let told = ask(name);
        assert!(told.contains("profile=alpha why=Session"), "{name}: {told}");
    }
    assert!(ask("x-something-else").contains("why=Current"));
}

#[test]
fn a_turn_on_a_socket_from_its_place_to_its_end() {
    let backend = backend();
    let behind = Behind::start("turn", &NAMES, &backend);
    let mut client = behind.socket();
    client.text(FULL);
    client.read_events().expect("a turn");
    client.leave();
    let turn = line(&behind, "exchange", &["profile=alpha status=101 attempts=1 commit_ms=", "end=whole phase=end"]);
    assert!(!turn.contains("bytes=0 "), "{turn}");
    // The socket has a line as well.
    line(&behind, "exchange", &["profile=alpha status=101 attempts=1 total_ms=", "end=client phase=wait"]);
    let seen = told(&behind, &["profile_inflight", "committed", "terminal_event", "exchange"]);
    let steps = [
        "profile_inflight profile=alpha count=1 context=websocket_session event=acquire",
        "committed profile=alpha",
        "terminal_event profile=alpha event=Completed",
        "exchange profile=alpha status=101 attempts=1 commit_ms=",
        "exchange profile=alpha status=101 attempts=1 total_ms=",
    ];
    assert_eq!(seen.len(), steps.len(), "{seen:#?}");
    for (seen, step) in seen.iter().zip(steps) {
        assert!(seen.starts_with(step), "{seen} is not {step}");
    }
}

#[test]
fn a_stream_that_breaks_after_its_output_began() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::drop_at(Point::AfterDeltas(1))]);
    let behind = Behind::start("breaks", &NAMES, &backend);
    let answer = behind.ask(&mut behind.client(), b"{}");
    assert!(!answer.whole);
    line(&behind, "stream_read_error", &["profile=alpha chunks=", " bytes=", " elapsed_ms=", " error=Closed"]);
    line(&behind, "exchange", &["profile=alpha status=200", "end=upstream"]);
    assert_eq!(told(&behind, &["stream_complete"]).len(), 0);
    // Over a socket.
    backend.set("beta", Kind::Turn, [Behave::drop_at(Point::AfterDeltas(1))]);
    let mut client = behind.socket();
    client.text(FULL);
    assert!(client.read_events().is_err());
    line(&behind, "stream_read_error", &["profile=beta"]);
}

#[test]
fn a_beginning_that_is_held_too_long_is_let_go() {
    let (backend, gate) = (backend(), Gate::new());
    backend.set("alpha", Kind::Post, [Behave::ok().hold(&gate, Point::AfterCreated)]);
    backend.set("alpha", Kind::Turn, [Behave::ok().hold(&gate, Point::AfterCreated)]);
    let soon = ("PRODEX_RUNTIME_PROXY_SSE_LOOKAHEAD_TIMEOUT_MS", "50");
    let behind = Behind::with_env("hold", &NAMES, &backend, &[soon]);
    let mut stream = behind.client();
    let headers = [behind.fresh_headers(), vec![("Connection", "close")]].concat();
    stream.request("POST", &behind.model("/responses"), &headers, b"{}");
    let head = stream.head().expect("a head, while the model is still to speak");
    assert_eq!(head.status, 200);
    line(&behind, "lookahead_timeout", &["bytes="]);
    let mut socket = behind.socket();
    socket.text(FULL);
    let first = socket.read_frame().expect("what was held");
    assert!(first.text().contains("response."), "{}", first.text());
    until("both are told", || (told(&behind, &["lookahead_timeout"]).len() == 2).then_some(()));
    gate.open();
    assert!(String::from_utf8_lossy(&stream.rest().expect("the rest")).contains("Hello from alpha."));
}

#[test]
fn nobody_is_left() {
    let backend = backend();
    for name in NAMES {
        backend.set(name, Kind::Post, [Behave::quota_status()]);
    }
    let behind = Behind::start("nobody", &NAMES, &backend);
    assert_eq!(behind.ask_fresh("{}").status, 429);
    line(&behind, "candidate_exhausted", &["tried=2"]);
    assert_eq!(behind.ask_fresh("{}").status, 429);
    // Only backoffs stood against everybody: one direct try.
    line(&behind, "direct_current_profile_fallback", &["profile="]);
    line(&behind, "candidate_exhausted", &["tried=1"]);
}

#[test]
fn twelve_attempts_are_enough() {
    let names: Vec<String> = (0..14).map(|n| format!("p{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let backend = Backend::start(Script::new(&names));
    for name in &names {
        backend.set(name, Kind::Post, [Behave::quota_status()]);
    }
    let behind = Behind::start("twelve", &names, &backend);
    assert_eq!(behind.ask_fresh("{}").status, 429, "the backend's own words");
    let told = line(&behind, "precommit_budget_exhausted", &["elapsed_ms="]);
    assert!(told.contains("attempts=12 "), "{told}");
    let asked = backend.records().iter().filter(|record| record.kind == Kind::Post).count();
    assert_eq!(asked, 12);
}

#[test]
fn an_owner_is_used_beyond_its_cap_and_fresh_work_is_not() {
    let (backend, gate) = (backend(), Gate::new());
    let behind = Behind::start("cap", &NAMES, &backend);
    answered(&behind.ask_fresh("{}"), "alpha");
    let chain = chained(&last_response(&backend, "alpha", &Kind::Post));
    backend.set("alpha", Kind::Post, [Behave::ok().hold(&gate, Point::AfterDeltas(1))]);
    let begun = |count: usize| {
        let wish = |records: &[Record]| {
            records.iter().filter(|record| record.is("alpha", &Kind::Post) && record.output_began).count() > count
        };
        backend.wait_for("streams that have begun", PATIENCE, wish);
    };
    let mut streams: Vec<Client> = (0..64).map(|_| behind.begin(&chain)).collect();
    begun(64);
    assert_eq!(told(&behind, &["profile_inflight_saturated"]).len(), 0);
    line(&behind, "profile_inflight", &["profile=alpha count=64 "]);
    streams.push(behind.begin(&chain));
    begun(65);
    line(&behind, "profile_inflight_saturated", &["profile=alpha hard_limit=64"]);
    answered(&behind.ask_fresh("{}"), "beta");
    gate.open();
    for stream in &mut streams {
        answered(&stream.response().expect("an answer"), "alpha");
    }
}

#[test]
fn a_turn_that_meets_its_quota_is_asked_again_or_comes_back() {
    let backend = backend();
    backend.set("alpha", Kind::Turn, [Behave::ok(), Behave::quota_event()]);
    let behind = Behind::start("moves", &NAMES, &backend);
    let mut client = behind.socket();
    client.text(FULL);
    client.read_events().expect("a turn");
    // It hangs on what only alpha has: the socket ends.
    client.text(&chained(&last_response(&backend, "alpha", &Kind::Turn)));
    assert!(client.read_events().is_err());
    line(&behind, "websocket_bounce", &["profile=alpha reason=quota"]);
    assert_eq!(told(&behind, &["websocket_replay"]).len(), 0);

    // It has its full input: beta is asked, over the same socket.
    backend.set("alpha", Kind::Turn, [Behave::quota_event()]);
    let behind = Behind::start("moves", &NAMES, &backend);
    let mut client = behind.socket();
    client.text(FULL);
    let events = client.read_events().expect("a turn");
    assert!(events.concat().contains("Hello from beta."), "{events:?}");
    line(&behind, "websocket_replay", &["profile=beta"]);
    assert_eq!(told(&behind, &["websocket_bounce"]).len(), 0);
}

/// The sixth failure of a turn ends WebSocket for its thread in codex (`wire.md` 3.7).
#[test]
fn a_session_comes_back_four_times_and_is_told_then() {
    let names = ["p0", "p1", "p2", "p3", "p4", "p5", "p6"];
    let backend = Backend::start(Script::new(&names));
    for name in names {
        backend.set(name, Kind::Turn, [Behave::quota_event()]);
    }
    let behind = Behind::start("bounces", &names, &backend);
    for _ in 0..4 {
        let mut client = behind.socket();
        client.text(&chained("resp_nobody"));
        assert!(client.read_events().is_err());
    }
    let mut client = behind.socket();
    client.text(&chained("resp_nobody"));
    let told_so = client.read_frame().expect("the backend's words").text();
    assert!(told_so.contains("usage_limit_reached"), "{told_so}");
    assert_eq!(told(&behind, &["websocket_bounce"]).len(), 4);
}

#[test]
fn strangers_are_counted() {
    let backend = backend();
    let behind = Behind::start("strangers", &NAMES, &backend);
    let ask = |target: &str, headers: &[(&str, &str)]| {
        let mut client = behind.client();
        client.request("GET", target, headers, b"");
        client.response().expect("an answer").status
    };
    assert_eq!(ask("/", &[]), 404);
    line(&behind, "runtime_proxy_refused", &["reason=NoSecret"]);
    assert_eq!(ask(&behind.model("/models"), &[]), 403);
    let told = line(&behind, "runtime_proxy_refused", &["path=/"]);
    assert!(told.contains("reason=") && !told.contains("NoSecret"), "{told}");
    let mut peer = behind.peer();
    peer.send("GARBAGE\r\n\r\n");
    peer.gone();
    line(&behind, "runtime_proxy_refused", &["reason=malformed"]);
}

#[test]
fn a_login_that_is_refused_is_renewed_or_given_up() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::quota_status()]);
    backend.set("beta", Kind::Post, [Behave::unauthorized().times(1)]);
    let behind = Behind::start("renewed", &NAMES, &backend);
    answered(&behind.ask_fresh("{}"), "beta");
    line(&behind, "login_refreshed", &["profile=beta how="]);
    assert_eq!(told(&behind, &["profile_login_needed"]).len(), 0);

    backend.set("beta", Kind::Post, [Behave::unauthorized()]);
    backend.revoke("rt-beta-0");
    let behind = Behind::start("givenup", &NAMES, &backend);
    assert_eq!(behind.ask_fresh("{}").status, 429, "alpha's words");
    line(&behind, "login_refresh_failed", &["profile=beta error="]);
    line(&behind, "unauthorized", &["profile=beta reason=unauthorized"]);
    line(&behind, "profile_login_needed", &["profile=beta"]);
    let text = behind.space.runtime_logs().concat();
    assert!(!text.contains("rt-beta") && !text.contains("Bearer"), "a token is in the log");
}

#[test]
fn a_refresh_that_failed_is_not_tried_again_at_once() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::quota_status()]);
    backend.set("", Kind::Token, [Behave::plain_error(500)]);
    let behind = Behind::start("pause", &NAMES, &backend);
    answered(&behind.ask_fresh("{}"), "beta");
    let id = backend.of("beta", &Kind::Post)[0].response_id.clone().expect("an id");
    backend.set("beta", Kind::Post, [Behave::unauthorized()]);
    // Whatever is wrong with beta, it is asked for what belongs to it.
    for _ in 0..3 {
        behind.ask_fresh(&format!(r#"{{"previous_response_id":"{id}"}}"#));
    }
    assert_eq!(backend.of("beta", &Kind::Post).len(), 4);
    let tokens = backend.records().iter().filter(|record| record.kind == Kind::Token).count();
    assert_eq!(tokens, 1, "{:?}", told(&behind, &["login_refresh_failed", "unauthorized"]));
}

#[test]
fn where_an_account_belongs() {
    let backend = Backend::start(Script::new(&NAMES).check("beta", "NO_CONSTRAINT", "us"));
    let behind = Behind::start("belongs", &NAMES, &backend);
    line(&behind, "workspace", &["profile=beta origin=- us=true"]);
    let mut client = behind.client();
    backend.set("alpha", Kind::Check, [Behave::plain_error(500)]);
    client.request("GET", &behind.backend("/wham/accounts/check"), &behind.headers(), b"");
    assert_eq!(client.response().expect("an answer").status, 200);
    line(&behind, "workspace", &["accounts_check=made_up"]);
}

/// The backend takes its time to say where the account belongs.
#[test]
fn nobody_is_served_before_it_is_known_where_and_who_leaves_does_not_wait() {
    let gate = Gate::new();
    let backend = Backend::start(Script::new(&NAMES).check("alpha", "NO_CONSTRAINT", "us"));
    backend.set("alpha", Kind::Check, [Behave::ok().hold(&gate, Point::BeforeHead)]);
    let behind = Behind::start("leaves", &NAMES, &backend);
    let begin = || {
        let mut client = behind.client();
        client.request("POST", &behind.model("/responses"), &behind.fresh_headers(), b"{}");
        client
    };
    let client = begin();
    until("alpha's question", || (!backend.of("alpha", &Kind::Check).is_empty()).then_some(()));
    drop(client);
    line(&behind, "exchange", &["end=client_gone"]);
    let mut client = begin();
    assert_eq!(backend.of("alpha", &Kind::Post).len(), 0);
    gate.open();
    assert_eq!(client.response().expect("an answer").status, 200);
    let sent = backend.of("alpha", &Kind::Post).pop().expect("it was served");
    assert_eq!(sent.header("x-openai-account-routing-override"), Some("us"));
    assert_eq!(backend.of("alpha", &Kind::Check).len(), 1, "one question for all");
}

/// Every worker reads a head that does not come, and as many connections wait as may.
#[test]
#[ignore = "needs 3,000 open files"]
fn more_than_all_workers_and_the_queue_take_is_refused() {
    let backend = backend();
    let behind = Behind::with_descriptors("queue", &NAMES, &backend, 3_000);
    let marked = || told(&behind, &["runtime_proxy_queue_overloaded"]).pop();
    // Quickly, within the time that one may wait in the queue. One that was refused is closed and takes nothing.
    let speak = || {
        let tcp = TcpStream::connect(behind.address).expect("it listens");
        let _ = (&tcp).write_all(b"G");
        tcp
    };
    let silent: Vec<TcpStream> = (0..WORKERS).map(|_| speak()).collect();
    // A burst that comes while all are busy is more than may wait; the first may come too early.
    let mut more = Vec::new();
    let line = until("a refusal", || {
        more = (0..300).map(|_| speak()).collect();
        marked()
    });
    assert!(line.contains("transport=http reason=queue_full workers="), "{line}");
    drop((silent, more));
    until("it serves again", || (behind.ask_fresh("{}").status == 200).then_some(()));
}

/// Threads with default limits: for every lane, 512 sockets of the model, 128 others, and 64 to spare.
const WORKERS: usize = 256 + 64 + 64 + 512 + 128 + 64;

#[test]
fn who_waits_for_a_worker_as_long_as_others_for_a_place_is_refused() {
    let backend = backend();
    let behind = Behind::with_descriptors("wait", &NAMES, &backend, 3_000);
    let speak = || {
        let tcp = TcpStream::connect(behind.address).expect("it listens");
        (&tcp).write_all(b"G").expect("it reads");
        tcp
    };
    let silent: Vec<TcpStream> = (0..WORKERS).map(|_| speak()).collect();
    let mut late = speak();
    let mut words = String::new();
    let _ = late.read_to_string(&mut words);
    assert!(words.starts_with("HTTP/1.1 503 "), "{words}");
    let line = line(&behind, "runtime_proxy_queue_wait_exhausted", &["transport=http waited_ms="]);
    assert!(line.contains(&format!("reason=workers_busy workers={WORKERS}")), "{line}");
    drop(silent);
    until("it serves again", || (behind.ask_fresh("{}").status == 200).then_some(()));
}

#[test]
fn idle_sockets_of_the_model_keep_no_request_out() {
    let backend = backend();
    let behind = Behind::with_descriptors("idle", &NAMES, &backend, 3_000);
    let open: Vec<Client> = (0..512).map(|_| behind.socket()).collect();
    let answer = behind.client().upgrade(&behind.model("/responses"), &behind.headers()).expect("an answer");
    assert_eq!(answer.status, 503);
    line(&behind, "runtime_proxy_active_limit_reached", &["transport=websocket", "limit=512"]);
    answered(&behind.ask_fresh("{}"), "alpha");
    drop(open);
}
