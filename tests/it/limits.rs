//! What keeps work out, and what keeps an account out of it (spec S-55 to S-57): lanes, the total, and the memories of
//! trouble, as somebody sees them who asks through the proxy and reads its log. And the check before codex starts.

use crate::support::behind::{Behind, PATIENCE, Wire, until};
use crate::support::codex::Fake;
use crate::support::raw::{Client, Response};
use crate::support::scene::Scene;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Point};
use crate::support::standin::gate::Gate;
use crate::support::standin::json::Json;
use crate::support::standin::record::Record;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use std::time::Duration;

const NAMES: [&str; 2] = ["alpha", "beta"];
const FULL: &str = r#"{"type":"response.create","model":"m","input":[]}"#;
/// Long enough that nobody is refused.
const LONG: (&str, &str) = ("PRODEX_RUNTIME_PROXY_ADMISSION_WAIT_BUDGET_MS", "20000");
const SHORT: (&str, &str) = ("PRODEX_RUNTIME_PROXY_ADMISSION_WAIT_BUDGET_MS", "20");

fn backend() -> Backend {
    Backend::start(Script::new(&NAMES))
}

fn posts(backend: &Backend, name: &str) -> usize {
    backend.of(name, &Kind::Post).len()
}

/// An answer that has begun and waits for the gate.
fn held(gate: &Gate) -> Behave {
    Behave::ok().hold(gate, Point::AfterDeltas(1))
}

#[track_caller]
fn whole(answer: &Response, name: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.whole), (200, true), "{text}");
    assert!(text.contains(&format!("Hello from {name}.")) && text.contains("response.completed"), "{text}");
}

/// A local refusal in the shape that codex knows.
#[track_caller]
fn refused(answer: &Response) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(code(&answer.body).as_deref(), Some("service_unavailable"), "{}", answer.text());
}

fn code(body: &[u8]) -> Option<String> {
    Json::parse(body)?.get("error")?.get("code")?.text().map(str::to_owned)
}

/// A stream of `name` that has begun and waits at the gate.
#[track_caller]
fn streaming(behind: &Behind, backend: &Backend, count: usize) -> Client {
    let client = behind.begin("{}");
    begun(backend, &Kind::Post, count);
    client
}

/// So many answers of this kind have begun.
#[track_caller]
fn begun(backend: &Backend, kind: &Kind, count: usize) {
    let wish = |records: &[Record]| {
        records.iter().filter(|record| record.kind == *kind && record.output_began).count() >= count
    };
    backend.wait_for("answers that have begun", PATIENCE, wish);
}

fn models(behind: &Behind) -> Response {
    let mut client = behind.client();
    client.request("GET", &behind.model("/models"), &behind.fresh_headers(), b"");
    client.response().expect("an answer")
}

#[track_caller]
fn turn(client: &mut Client, name: &str) {
    client.text(FULL);
    let events = client.read_events().unwrap_or_else(|error| panic!("no turn: {error}"));
    assert!(events.concat().contains(&format!("Hello from {name}.")), "{events:?}");
}

/// The one line with all these words.
#[track_caller]
fn line(behind: &Behind, words: &[&str]) -> String {
    let all = || behind.space.marked(words[0]).into_iter().filter(|line| words.iter().all(|word| line.contains(word)));
    until(&format!("a line with {words:?}"), || all().next())
}

fn lines(behind: &Behind, words: &str) -> usize {
    behind.space.marked(words).len()
}

/// The number after `key=`.
#[track_caller]
fn number(line: &str, key: &str) -> u64 {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {line}"))
}

/// What selection said of each try of the exchanges on `transport`: `alpha Current`.
fn candidates(behind: &Behind) -> Vec<String> {
    let value = |line: &str, key: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(key)).expect("a field").to_owned()
    };
    let told = behind.space.marked(" candidate profile=");
    told.iter().map(|line| format!("{} {}", value(line, "profile="), value(line, "why="))).collect()
}

// Places

#[test]
fn a_stream_waits_for_the_place_of_another() {
    let (backend, gate) = (backend(), Gate::new());
    backend.set("alpha", Kind::Post, [held(&gate), Behave::ok()]);
    let one = ("PRODEX_RUNTIME_PROXY_RESPONSES_ACTIVE_LIMIT", "1");
    let behind = Behind::with_env("waits", &NAMES, &backend, &[one, LONG]);
    let mut first = streaming(&behind, &backend, 1);
    let mut second = behind.begin("{}");
    // What comes after it is served: so it has been looked at, and no other kind of work waits with it.
    assert_eq!(models(&behind).status, 200);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(posts(&backend, "alpha"), 1, "it did not wait");
    gate.open();
    whole(&first.response().expect("an answer"), "alpha");
    whole(&second.response().expect("an answer"), "alpha");
    let told = line(&behind, &["runtime_proxy_admission_recovered", "reason=lane_limit:responses"]);
    assert!(told.contains("transport=http path=/codex/responses") && number(&told, "waited_ms") > 0, "{told}");
    assert_eq!(lines(&behind, "runtime_proxy_lane_limit_reached"), 0);
}

#[test]
fn a_full_lane_refuses_its_own_and_nobody_else() {
    let (backend, gate) = (backend(), Gate::new());
    backend.set("alpha", Kind::Post, [held(&gate), Behave::ok()]);
    let one = ("PRODEX_RUNTIME_PROXY_RESPONSES_ACTIVE_LIMIT", "1");
    let behind = Behind::with_env("lane", &NAMES, &backend, &[one, SHORT]);
    let mut first = streaming(&behind, &backend, 1);
    refused(&behind.ask_fresh("{}"));
    line(&behind, &["runtime_proxy_lane_limit_reached", "transport=http", "lane=responses active=1 limit=1"]);
    line(&behind, &["runtime_proxy_admission_wait_exhausted", "waited_ms=20 reason=lane_limit:responses"]);
    let told = line(&behind, &["runtime_proxy_overload_backoff", "reason=lane_limit:responses"]);
    assert!(number(&told, "until") + 60 > token::unix_now(), "{told}");
    assert_eq!(models(&behind).status, 200);
    turn(&mut behind.socket(), "alpha");
    gate.open();
    whole(&first.response().expect("an answer"), "alpha");
    // The place is given back when the answer is through, which codex may see first.
    until("the place is free", || (behind.ask_fresh("{}").status == 200).then_some(()));
    assert!(posts(&backend, "alpha") == 2 && posts(&backend, "beta") == 0, "a refusal here reached the backend");
}

#[test]
fn the_total_refuses_whatever_comes() {
    let (backend, gate) = (backend(), Gate::new());
    backend.set("alpha", Kind::Post, [held(&gate), Behave::ok()]);
    let one = ("PRODEX_RUNTIME_PROXY_ACTIVE_REQUEST_LIMIT", "1");
    let behind = Behind::with_env("total", &NAMES, &backend, &[one, SHORT]);
    let mut first = streaming(&behind, &backend, 1);
    refused(&behind.ask_fresh("{}"));
    refused(&models(&behind));
    refused(&behind.client().upgrade(&behind.model("/responses"), &behind.headers()).expect("an answer"));
    for (lane, transport) in [("responses", "http"), ("standard", "http"), ("websocket", "websocket")] {
        let lane = format!("lane={lane} active=1 limit=1");
        line(&behind, &["runtime_proxy_active_limit_reached", &format!("transport={transport}"), &lane]);
    }
    line(&behind, &["runtime_proxy_admission_wait_exhausted", "reason=active_request_limit"]);
    gate.open();
    whole(&first.response().expect("an answer"), "alpha");
    until("the place is free", || (models(&behind).status == 200).then_some(()));
}

#[test]
fn nonsense_is_as_if_it_were_not_said() {
    for nonsense in ["0", "-1", "many", "", "1e9", "99999999999999999999999"] {
        let (backend, gate) = (backend(), Gate::new());
        backend.set("alpha", Kind::Post, [held(&gate)]);
        let names =
            ["RESPONSES_ACTIVE_LIMIT", "ACTIVE_REQUEST_LIMIT", "WEBSOCKET_ACTIVE_LIMIT", "STANDARD_ACTIVE_LIMIT"];
        let names = names.map(|name| format!("PRODEX_RUNTIME_PROXY_{name}"));
        let set: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), nonsense)).collect();
        let behind = Behind::with_env("nonsense", &NAMES, &backend, &set);
        let mut streams: Vec<Client> = (1..=3).map(|n| streaming(&behind, &backend, n)).collect();
        assert_eq!(models(&behind).status, 200, "{nonsense}");
        turn(&mut behind.socket(), "alpha");
        gate.open();
        for stream in &mut streams {
            whole(&stream.response().expect("an answer"), "alpha");
        }
        assert_eq!(lines(&behind, "limit_reached"), 0, "{nonsense}");
        line(&behind, &["runtime proxy started"]);
    }
}

#[test]
fn sockets_without_a_turn_take_no_place() {
    let (backend, one) = (backend(), ("PRODEX_RUNTIME_PROXY_WEBSOCKET_ACTIVE_LIMIT", "1"));
    let behind = Behind::with_env("idle", &NAMES, &backend, &[one, LONG]);
    let mut sockets: Vec<Client> = (0..5).map(|_| behind.socket()).collect();
    for socket in &mut sockets {
        turn(socket, "alpha");
        turn(socket, "alpha");
    }
    assert_eq!(lines(&behind, "limit_reached"), 0);
}

/// Two sockets of which one has a turn in progress, and the other has asked for one.
fn second_turn(name: &str) -> (Backend, Gate, Behind, Client, Client) {
    let (backend, gate) = (backend(), Gate::new());
    backend.set("alpha", Kind::Turn, [held(&gate), Behave::ok()]);
    let one = ("PRODEX_RUNTIME_PROXY_WEBSOCKET_ACTIVE_LIMIT", "1");
    let behind =
        Behind::with_env(name, &NAMES, &backend, &[one, ("PRODEX_RUNTIME_PROXY_ADMISSION_WAIT_BUDGET_MS", "300")]);
    let (mut first, mut second) = (behind.socket(), behind.socket());
    first.text(FULL);
    begun(&backend, &Kind::Turn, 1);
    second.text(FULL);
    (backend, gate, behind, first, second)
}

#[test]
fn a_turn_beyond_the_limit_is_refused_and_hurts_no_other() {
    let (backend, gate, behind, mut first, _second) = second_turn("turns");
    line(&behind, &["runtime_proxy_lane_limit_reached", "transport=websocket", "lane=websocket active=1 limit=1"]);
    line(&behind, &["runtime_proxy_admission_wait_exhausted", "reason=lane_limit:websocket"]);
    line(&behind, &["runtime_proxy_overload_backoff", "reason=lane_limit:websocket"]);
    assert_eq!(backend.of("alpha", &Kind::Turn).len() + backend.of("beta", &Kind::Turn).len(), 1);
    whole(&behind.ask_fresh("{}"), "alpha");
    gate.open();
    let events = first.read_events().expect("the turn in progress");
    assert!(events.concat().contains("Hello from alpha."), "{events:?}");
}

#[test]
fn a_turn_beyond_the_limit_is_refused_in_the_words_of_a_websocket() {
    let (_backend, gate, behind, mut first, mut second) = second_turn("words");
    let events = second.read_events().expect("an event");
    let [event] = &events[..] else { panic!("{events:?}") };
    let json = Json::parse(event.as_bytes()).expect("JSON");
    assert_eq!(json.get("type").and_then(Json::text), Some("error"), "{event}");
    assert_eq!(json.get("status").and_then(Json::number), Some(503.0), "{event}");
    assert_eq!(code(event.as_bytes()).as_deref(), Some("service_unavailable"), "{event}");
    line(&behind, &["runtime_proxy_lane_limit_reached", "transport=websocket"]);
    gate.open();
    first.read_events().expect("the turn in progress");
}

#[test]
fn two_hundred_streams_and_two_hundred_turns_at_once() {
    const EACH: usize = 200;
    // KiB, of a debug build with glibc's threads; the release build has half of it.
    const MOST: u64 = 64_000;
    let (backend, gate) = (backend(), Gate::new());
    for (name, kind) in [("alpha", Kind::Post), ("beta", Kind::Post), ("alpha", Kind::Turn), ("beta", Kind::Turn)] {
        let answer = Behave::ok().stream(20, 500, Duration::ZERO).hold(&gate, Point::AfterDeltas(3));
        backend.set(name, kind, [answer]);
    }
    let behind = Behind::start("crowd", &NAMES, &backend);
    let mut streams: Vec<Client> = (0..EACH).map(|_| behind.begin("{}")).collect();
    begun(&backend, &Kind::Post, EACH);
    let mut sockets: Vec<Client> = (0..EACH).map(|_| behind.socket()).collect();
    for socket in &mut sockets {
        socket.text(FULL);
    }
    begun(&backend, &Kind::Turn, EACH);
    let memory = behind.memory();
    assert!(memory < MOST, "{memory} KiB");
    gate.open();
    let delta = "\"type\":\"response.output_text.delta\"";
    for stream in &mut streams {
        let answer = stream.response().expect("an answer");
        assert_eq!((answer.status, answer.whole), (200, true));
        assert_eq!(answer.text().matches(delta).count(), 20, "{}", answer.text());
    }
    for socket in &mut sockets {
        let events = socket.read_events().expect("a whole turn");
        assert_eq!(events.iter().filter(|event| event.contains(delta)).count(), 20, "{events:?}");
        assert!(events.last().is_some_and(|event| event.contains("response.completed")), "{events:?}");
    }
    let peak = behind.memory();
    assert!(peak < MOST, "{peak} KiB");
    eprintln!("200 streams and 200 turns at once: {memory} KiB, then {peak} KiB");
    until("all are told as complete", || (lines(&behind, "stream_complete") == EACH).then_some(()));
    assert_eq!((lines(&behind, "limit_reached"), lines(&behind, "worker_panic")), (0, 0));
}

// What is wrong with an account

#[test]
fn a_transport_failure_sends_fresh_work_elsewhere() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::drop_at(Point::BeforeHead)]);
    let behind = Behind::start("transport", &NAMES, &backend);
    whole(&behind.ask_fresh("{}"), "beta");
    line(&behind, &["upstream_connect_error", "profile=alpha phase=head"]);
    line(&behind, &["profile_health", "profile=alpha route=responses score=4 delta=4 reason=responses_transport"]);
    let told = line(&behind, &["profile_transport_backoff", "profile=alpha", "seconds=15 context=http_upstream"]);
    assert!(number(&told, "until") <= token::unix_now() + 15, "{told}");
    let asked = posts(&backend, "alpha");
    whole(&behind.ask_fresh("{}"), "beta");
    assert_eq!(posts(&backend, "alpha"), asked, "it was asked again");
    assert_eq!(candidates(&behind), ["alpha Current", "beta Best", "beta Current"]);
}

#[test]
fn failures_that_follow_each_other_double_the_wait() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::ok(), Behave::drop_at(Point::BeforeHead)]);
    let behind = Behind::start("double", &NAMES, &backend);
    whole(&behind.ask_fresh("{}"), "alpha");
    let id = backend.of("alpha", &Kind::Post).pop().and_then(|record| record.response_id).expect("an id");
    let chained = format!(r#"{{"previous_response_id":"{id}"}}"#);
    for (seconds, score) in [(15, 4), (30, 8), (60, 12), (120, 16), (120, 16)] {
        refused(&behind.ask_fresh(&chained));
        let all = until("the next step", || behind.space.marked("profile_transport_backoff").pop());
        assert!(all.contains("profile=alpha") && number(&all, "seconds") == seconds, "{all}");
        let health = behind.space.marked("profile_health").pop().expect("a line");
        assert_eq!(number(&health, "score"), score, "{health}");
    }
    assert_eq!(posts(&backend, "beta"), 0, "a chain that cannot move did");
    // What is wrong there binds fresh work all the same.
    whole(&behind.ask_fresh("{}"), "beta");
}

#[test]
fn the_wait_that_an_account_asks_for_is_kept() {
    let quota = r#"{"error":{"type":"usage_limit_reached","message":"no more"}}"#;
    for (marker, word, answer) in [
        (
            "profile_overload_backoff",
            "overloaded",
            Behave::overloaded("server_is_overloaded").header("Retry-After", "77"),
        ),
        ("profile_retry_backoff", "quota_blocked", Behave::status(429, quota).header("Retry-After", "77")),
        // A long one would outlast the trouble; what names no end is believed for a little while.
        ("profile_overload_backoff", "overloaded", Behave::overloaded("slow_down").header("Retry-After", "7000")),
        ("profile_retry_backoff", "quota_blocked", Behave::status(429, quota)),
        ("profile_overload_backoff", "overloaded", Behave::overloaded("slow_down")),
    ] {
        let seconds = match (answer.headers.first().map(|(_, value)| value.as_str()), marker) {
            (Some("77"), _) => 77,
            (Some(_), _) => 120,
            (None, "profile_retry_backoff") => 20,
            (None, _) => 10,
        };
        let backend = backend();
        backend.set("alpha", Kind::Post, [answer, Behave::ok()]);
        let behind = Behind::start("retry", &NAMES, &backend);
        let before = token::unix_now();
        whole(&behind.ask_fresh("{}"), "beta");
        let until = number(&line(&behind, &[marker, "profile=alpha"]), "until");
        assert!((before + seconds..=token::unix_now() + seconds).contains(&until), "{marker} {seconds}");
        line(&behind, &[word, "profile=alpha"]);
        whole(&behind.ask_fresh("{}"), "beta");
        assert_eq!(posts(&backend, "alpha"), 1, "{marker}");
    }
}

fn out_until(at: u64) -> Behave {
    Behave::status(
        429,
        &format!(r#"{{"error":{{"type":"usage_limit_reached","message":"no more","resets_at":{at}}}}}"#),
    )
}

#[test]
fn an_account_that_is_out_is_left_until_its_reset() {
    let backend = backend();
    let (late, soon) = (token::unix_now() + 9_000, token::unix_now() + 500);
    backend.set("alpha", Kind::Post, [out_until(late)]);
    backend.set("beta", Kind::Post, [Behave::ok(), out_until(soon), Behave::ok()]);
    let behind = Behind::start("reset", &NAMES, &backend);
    whole(&behind.ask_fresh("{}"), "beta");
    let told = line(&behind, &["profile_retry_backoff", "profile=alpha"]);
    assert!(number(&told, "until").abs_diff(late) <= 1, "{told}");
    line(&behind, &["quota_blocked", "profile=alpha reason=quota"]);
    // Nobody is left: the backend's own words.
    let answer = behind.ask_fresh("{}");
    assert!(answer.status == 429 && answer.text().contains(&soon.to_string()), "{}", answer.text());
    assert_eq!(posts(&backend, "alpha"), 1);
    assert_eq!(lines(&behind, "direct_current_profile_fallback"), 0);
    // Only memories stand against everybody: one try, where it ends first.
    whole(&behind.ask_fresh("{}"), "beta");
    line(&behind, &["direct_current_profile_fallback", "profile=beta"]);
    assert_eq!(candidates(&behind), ["alpha Current", "beta Best", "beta Current", "beta LastResort"]);
    // That was a success, and what it clears is gone.
    whole(&behind.ask_fresh("{}"), "beta");
    assert_eq!(candidates(&behind).pop().as_deref(), Some("beta Current"));
}

#[test]
fn a_success_says_nothing_of_another_account() {
    let names = ["alpha", "beta", "gamma"];
    let backend = Backend::start(Script::new(&names));
    let at = token::unix_now() + 9_000;
    backend.set("alpha", Kind::Post, [out_until(at).times(1)]);
    backend.set("beta", Kind::Post, [Behave::ok(), out_until(at)]);
    let behind = Behind::start("own", &names, &backend);
    whole(&behind.ask_fresh("{}"), "beta");
    whole(&behind.ask_fresh("{}"), "gamma");
    assert_eq!(candidates(&behind), ["alpha Current", "beta Best", "beta Current", "gamma Best"]);
    assert_eq!(lines(&behind, "profile_commit profile=gamma"), 1);
}

#[test]
fn a_list_of_models_is_no_proof_of_quota() {
    let backend = backend();
    let now = token::unix_now();
    backend.set("alpha", Kind::Post, [out_until(now + 500)]);
    backend.set("beta", Kind::Post, [out_until(now + 9_000)]);
    let behind = Behind::start("models", &NAMES, &backend);
    assert_eq!(behind.ask_fresh("{}").status, 429);
    assert_eq!(models(&behind).status, 200);
    assert_eq!(backend.of("alpha", &Kind::Models).len(), 1, "the one that is back first was asked");
    assert_eq!(behind.ask_fresh("{}").status, 429);
    let chosen = candidates(&behind);
    assert_eq!(chosen.last().map(String::as_str), Some("alpha LastResort"), "{chosen:?}");
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_twice() {
    let wire = Wire::start();
    let behind = Behind::wire("once", &NAMES, &wire);
    let mut client = behind.peer();
    client.send(behind.head("GET", &behind.backend("/wham/settings/user"), ""));
    let mut upstream = wire.next();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    client.head();
    client.exactly(2);
    let consume = behind.backend("/wham/rate-limit-reset-credits/consume");
    client.send(behind.head("POST", &consume, "Content-Length: 2\r\n") + "{}");
    // Not over the kept connection, which may be closing just now.
    let mut upstream = wire.next();
    assert!(upstream.head().starts_with("POST /backend-api/wham/rate-limit-reset-credits/consume "));
    upstream.exactly(2);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Le");
    drop(upstream);
    until("an answer, or a second request", || (client.is_told() || wire.is_waiting()).then_some(()));
    wire.assert_no_more();
    assert!(client.head().starts_with("HTTP/1.1 50"));
    line(&behind, &["upstream_connect_error", "path=/wham/rate-limit-reset-credits/consume phase=head"]);
}

#[test]
#[ignore = "takes a minute"]
fn slow_accounts_are_better_than_none() {
    let names = ["alpha", "beta", "gamma"];
    let backend = Backend::start(Script::new(&names));
    for name in names {
        backend.set(name, Kind::Post, [Behave::ok().before(Duration::from_secs(35))]);
    }
    let behind = Behind::start("slow", &names, &backend);
    let mut client = behind.begin("{}");
    client.tcp.set_read_timeout(Some(Duration::from_secs(180))).expect("a timeout can be set");
    let answer = client.response().expect("an answer");
    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
    line(&behind, &[" candidate ", "profile=alpha"]);
}

// The check before codex starts

fn checked(name: &str) -> (Scene, Fake) {
    let mut scene = Scene::new(name, &NAMES, Script::new(&NAMES));
    let fake = Fake::new(&scene.space, "");
    scene.space.env("PRODEX_CODEX_BIN", fake.path());
    let auth = std::fs::read(scene.space.profile_home("alpha").join("auth.json")).expect("a login");
    let token = Json::parse(&auth).and_then(|auth| auth.get("tokens")?.get("access_token")?.text().map(str::to_owned));
    scene.backend.revoke(&token.expect("a token"));
    (scene, fake)
}

fn refreshes(scene: &Scene) -> usize {
    scene.backend.records().iter().filter(|record| record.kind == Kind::Token).count()
}

#[track_caller]
fn started_in(scene: &Scene, fake: &Fake, name: &str) {
    let calls = fake.calls();
    let homes: Vec<&str> = calls.iter().map(|call| call.env["CODEX_HOME"].as_str()).collect();
    assert_eq!(homes, [scene.space.profile_home(name).to_str().expect("UTF-8")]);
}

#[test]
fn the_check_renews_a_token_that_is_refused() {
    let (scene, fake) = checked("renews");
    let output = scene.run(&["exec"]).output().expect(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    started_in(&scene, &fake, "alpha");
    assert_eq!(refreshes(&scene), 1);
    assert_eq!(scene.backend.of("alpha", &Kind::Usage).len(), 1, "once with the new token");
    assert!(scene.space.prodex(&["current"]).output().expect(0).stdout.contains("alpha"));
}

/// A copied login is good for one refresh: prodex does not spend it, whoever has the copy.
#[test]
fn the_check_spends_no_token_that_another_home_holds() {
    for copy in [".codex", ".prodex/profiles/beta"] {
        let (scene, fake) = checked("copied");
        let copy = scene.space.home().join(copy).join("auth.json");
        std::fs::copy(scene.space.profile_home("alpha").join("auth.json"), copy).expect("a copy");
        let output = scene.run(&["-p", "alpha", "exec"]).output().expect(0);
        assert!(output.stderr.contains("another home's too"), "{}", output.stderr);
        assert_eq!(refreshes(&scene), 0);
        started_in(&scene, &fake, "alpha");
    }
}

#[test]
fn the_check_leaves_an_account_that_must_log_in_again() {
    let (scene, fake) = checked("again");
    scene.backend.revoke("rt-alpha-0");
    let output = scene.run(&["exec"]).output().expect(0);
    let (first, second) = output.stderr.split_once('\n').expect("two lines");
    assert!(first.contains("'alpha'") && first.contains("prodex login -p alpha"), "{}", output.stderr);
    assert!(second.starts_with("Auto-rotating to profile 'beta'"), "{}", output.stderr);
    started_in(&scene, &fake, "beta");
    assert!(refreshes(&scene) <= 1, "a refusal for good is not asked for again");
    let stopped = scene.run(&["-p", "alpha", "--no-auto-rotate", "exec"]).output().expect(2);
    assert!(stopped.stderr.contains("prodex login -p alpha"), "{}", stopped.stderr);
    assert_eq!(fake.calls().len(), 1);
}
