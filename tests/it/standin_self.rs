//! The stand-in against a raw client and, without prodex between, against the real codex: what other tests build on
//! must itself be true.

use crate::support::codex;
use crate::support::raw::{Client, Response};
use crate::support::run::Output;
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{
    Behave, Cut, Framing, Point, QuotaForm, Say, Sse, Stage, StatusKey, Step, Where,
};
use crate::support::standin::gate::Gate;
use crate::support::standin::record::{Finished, Record, Transport};
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::tls::Ca;
use crate::support::standin::token;
use crate::support::standin::usage::Usage;
use crate::support::tmux::Tmux;
use std::time::Duration;

const FIRST: [(&str, &str); 2] = [("authorization", "Bearer tok-first"), ("chatgpt-account-id", "acct-first")];
const SECOND: [(&str, &str); 2] = [("authorization", "Bearer tok-second"), ("chatgpt-account-id", "acct-second")];
const RESPONSES: &str = "/backend-api/codex/responses";
const SOON: Duration = Duration::from_secs(5);

fn first_does<S: Into<Step>>(kind: Kind, steps: impl IntoIterator<Item = S>) -> Backend {
    Backend::start(Script::new(&["first", "second"]).on("first", kind, steps))
}

fn post(client: &mut Client) -> std::io::Result<Response> {
    client.request("POST", RESPONSES, &FIRST, b"{\"input\":[]}");
    client.response()
}

fn get(backend: &Backend, target: &str, headers: &[(&str, &str)]) -> Response {
    let mut client = Client::connect(backend.address());
    client.request("GET", target, headers, b"");
    client.response().expect("a whole response")
}

fn socket(backend: &Backend, headers: &[(&str, &str)]) -> Client {
    let mut client = Client::connect(backend.address());
    let response = client.upgrade(RESPONSES, headers).expect("an answer to the upgrade");
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

const CREATE: &str = r#"{"type":"response.create","input":[]}"#;

#[test]
fn an_answer_is_the_same_however_it_is_framed() {
    let text = "héllo wörld";
    for framing in [Framing::Chunked, Framing::ChunkedFancy, Framing::Length, Framing::UntilClose] {
        for sse in [Sse::Lf, Sse::CrLf, Sse::Comments, Sse::DataOnly] {
            for bytes in [None, Some(1), Some(7)] {
                let mut behave = Behave::answer(text).framing(framing).sse(sse);
                behave.chunk_bytes = bytes;
                let backend = first_does(Kind::Post, [behave]);
                let mut client = Client::connect(backend.address());
                let response = post(&mut client).unwrap();
                assert!(response.whole && response.text().contains(text), "{framing:?} {sse:?} {bytes:?}");
                assert!(response.text().contains("response.completed"));
                assert!(response.header("x-codex-primary-used-percent").is_some());
                assert!(response.header("x-codex-turn-state").unwrap().starts_with("ts-first-"));
            }
        }
    }
}

#[test]
fn keep_alive_reuses_the_connection_and_records_say_so() {
    let backend = Backend::start(Script::new(&["first"]));
    let mut client = Client::connect(backend.address());
    for _ in 0..2 {
        assert_eq!(post(&mut client).unwrap().status, 200);
    }
    let records = backend.of("first", &Kind::Post);
    assert_eq!((records.len(), records[0].connection), (2, records[1].connection));
    assert_eq!((records[0].body.as_slice(), records[0].body_length), (b"{\"input\":[]}".as_slice(), 12));
    assert_eq!(records[0].headers[1], ("authorization".to_owned(), "Bearer tok-first".to_owned()));
    assert!(records[0].output_began && records[0].finished == Finished::Done && records[0].sent > 500);
}

#[test]
fn accounts_are_told_apart_and_mixtures_refused() {
    let backend = Backend::start(Script::new(&["first", "second"]).check("second", "https://eu.example", "us"));
    assert_eq!(get(&backend, "/backend-api/codex/models", &[]).status, 401);
    let mixed = [FIRST[0], SECOND[1]];
    assert_eq!(get(&backend, "/backend-api/wham/usage", &mixed).status, 401);
    assert!(backend.records().last().unwrap().mismatch);
    let check = get(&backend, "/backend-api/wham/accounts/check", &SECOND).text();
    assert!(check.contains("acct-second") && check.contains("https://eu.example") && check.contains(r#""us""#));
    let bearer = format!("Bearer {}", token::access_token("first", token::unix_now() + 600, 3));
    assert_eq!(get(&backend, "/backend-api/wham/usage", &[("authorization", &bearer)]).status, 200);
    let old = format!("Bearer {}", token::access_token("first", token::unix_now() - 1, 3));
    assert_eq!(get(&backend, "/backend-api/wham/usage", &[("authorization", &old)]).status, 401);
    assert_eq!(get(&backend, "/backend-api/ps/mcp", &[]).status, 404);
}

#[test]
fn usage_has_the_shapes_that_real_accounts_have() {
    let backend = Backend::start(Script::new(&["first", "second"]).usage("second", Usage::weekly_only(41.5)));
    assert!(get(&backend, "/backend-api/wham/usage", &FIRST).text().contains(r#""used_percent":12,"#));
    let weekly = get(&backend, "/backend-api/wham/usage", &SECOND).text();
    assert!(weekly.contains(r#""used_percent":41.5,"limit_window_seconds":604800"#));
    assert!(weekly.contains(r#""secondary_window":null"#));
    backend.set_usage("first", Usage::both(100.0, 3.0));
    assert!(get(&backend, "/backend-api/wham/usage", &FIRST).text().contains(r#""limit_reached":true"#));
}

#[test]
fn a_queue_runs_down_and_its_last_item_stays() {
    let backend = first_does(Kind::Post, [Behave::quota_status().times(2), Behave::plain_error(500).times(1)]);
    let mut client = Client::connect(backend.address());
    let mut status = || post(&mut client).unwrap().status;
    assert_eq!([status(), status(), status(), status()], [429, 429, 500, 200]);
    backend.set("first", Kind::Post, [Behave::ok(), Behave::plain_429(Some(3))]);
    assert_eq!([status(), status(), status()], [200, 429, 429]);
}

#[test]
fn broken_http_breaks_where_it_should() {
    let cases = [
        (Behave::drop_at(Point::BeforeHead), false),
        (Behave::drop_at(Point::InsideHead), false),
        (Behave::reset_at(Point::BeforeHead), false),
        (Behave::drop_at(Point::AfterHead), true),
        (Behave::drop_at(Point::AfterDeltas(2)), true),
        (Behave::reset_at(Point::AfterDeltas(1)), true),
        (Behave::drop_at(Point::InsideDelta(1)), true),
        (Behave::drop_at(Point::AtEnd), true),
        (Behave::ok().lie_length(50), true),
    ];
    for (behave, has_head) in cases {
        let backend = first_does(Kind::Post, [behave.clone()]);
        let mut client = Client::connect(backend.address());
        let response = post(&mut client);
        assert_eq!(response.is_ok(), has_head, "{behave:?}");
        if let Ok(response) = response {
            assert!(!response.whole, "{behave:?}");
            let deltas = response.text().matches("output_text.delta\",").count();
            let expected = match behave.cut {
                // The half of a chunk does not count: the raw client leaves it out.
                Some((Point::AfterDeltas(count) | Point::InsideDelta(count), _)) => count,
                Some((Point::AfterHead, _)) => 0,
                _ => 3,
            };
            assert_eq!(deltas, expected, "{behave:?}");
        }
        let wanted = if behave.cut.is_some() { Finished::Cut } else { Finished::Done };
        backend.wait_for("the end", SOON, |records| records[0].finished == wanted);
    }
    let backend = first_does(Kind::Post, [Behave::ok().lie_length(-50)]);
    let mut client = Client::connect(backend.address());
    assert!(post(&mut client).unwrap().whole && client.rest().unwrap().len() == 50);
}

#[test]
fn odd_heads_arrive() {
    let backend = first_does(Kind::Post, [Behave::ok().interim(103).interim(100), Behave::huge_headers(100_000)]);
    let mut client = Client::connect(backend.address());
    client.request("POST", RESPONSES, &FIRST, b"{}");
    assert_eq!([client.head().unwrap().status, client.head().unwrap().status], [103, 100]);
    assert_eq!(client.response().unwrap().status, 200);
    assert_eq!(post(&mut client).unwrap().header("x-standin-padding").unwrap().len(), 100_000);
    backend.set("first", Kind::Post, [Behave::garbage(b"SSH-2.0-nonsense\r\n")]);
    client.request("POST", RESPONSES, &FIRST, b"{}");
    assert_eq!(client.rest().unwrap(), b"SSH-2.0-nonsense\r\n");
    backend.set("first", Kind::Post, [Behave::plain_error(413).early()]);
    let mut client = Client::connect(backend.address());
    client.send(b"POST /backend-api/codex/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tok-first\r\nContent-Length: 9999\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 413);
}

#[test]
fn a_client_that_leaves_is_noticed_while_the_backend_is_silent() {
    let backend = first_does(Kind::Post, [Behave::hang(Point::AfterDeltas(1))]);
    let mut client = Client::connect(backend.address());
    client.request("POST", RESPONSES, &FIRST, b"{}");
    backend.wait_for("output", SOON, |records| records.iter().any(|record| record.output_began));
    client.leave();
    backend.wait_for("the leave", SOON, |records| records[0].finished == Finished::ClientGone);
}

#[test]
fn a_gate_holds_and_a_stopped_backend_ends_everything() {
    let gate = Gate::new();
    let backend =
        first_does(Kind::Post, [Behave::ok().hold(&gate, Point::BeforeHead), Behave::hang(Point::BeforeHead)]);
    let mut client = Client::connect(backend.address());
    client.request("POST", RESPONSES, &FIRST, b"{}");
    backend.wait_for("the request", SOON, |records| !records.is_empty());
    assert_eq!(backend.records()[0].status, None);
    gate.open();
    assert_eq!(client.response().unwrap().status, 200);
    client.request("POST", RESPONSES, &FIRST, b"{}");
    backend.wait_for("the second", SOON, |records| records.len() == 2);
    drop(backend);
    assert!(client.response().is_err());
}

#[test]
fn a_websocket_answers_and_checks_who_issued_an_id() {
    let backend = Backend::start(Script::new(&["first", "second"]));
    let mut client = socket(&backend, &FIRST);
    client.text(r#"{"type":"response.create","generate":false,"input":[]}"#);
    let warm = client.read_events().unwrap();
    assert!(warm.last().unwrap().contains("response.completed") && !warm.iter().any(|event| event.contains("delta")));
    let issued = backend.of("first", &Kind::Prewarm)[0].response_id.clone().unwrap();
    let chained = format!(r#"{{"type":"response.create","previous_response_id":"{issued}","input":[]}}"#);
    client.text(&chained);
    let turn = client.read_events().unwrap();
    assert!(turn[0].contains("x-codex-turn-state") && turn[1].contains("codex.rate_limits"));
    assert!(turn.iter().any(|event| event.contains("Hello from first.")));
    let state = turn[0].split('"').rev().nth(1).unwrap().to_owned();

    let mut other = socket(&backend, &SECOND);
    other.text(&chained);
    let refused = other.read_events().unwrap();
    assert!(refused[0].contains("previous_response_not_found") && refused[0].contains(r#""status":400"#));
    assert!(backend.of("second", &Kind::Turn)[0].foreign);
    other.text(&format!(r#"{{"type":"response.create","client_metadata":{{"x-codex-turn-state":"{state}"}}}}"#));
    other.read_events().unwrap();
    let record = backend.of("second", &Kind::Turn)[1].clone();
    assert!(record.foreign && record.turn_state.as_deref() == Some(state.as_str()));
}

#[test]
fn websocket_failures_look_as_the_fact_sheet_says() {
    let event = |key| Behave::quota(QuotaForm::InsufficientQuota, Where::Event(key, Stage::Deltas(1)));
    let cases = [
        (Behave::quota_event(), r#""status":429,"error":{"type":"usage_limit_reached""#),
        (event(StatusKey::StatusCode), r#""status_code":429"#),
        (event(StatusKey::Absent), r#"{"type":"error","error":{"message":"You exceeded"#),
        (Behave::plain_429(Some(9)), r#""headers":{"retry-after":"9"}"#),
        (
            Behave::overloaded("slow_down"),
            r#""status":503,"error":{"message":"busy","type":"server_error","code":"slow_down"}"#,
        ),
        (Behave::connection_limit(), "websocket_connection_limit_reached"),
        (Behave::quota(QuotaForm::RateLimitExceeded, Where::Failed(Stage::Created)), r#""code":"rate_limit_exceeded""#),
        (Behave::encrypted_content_400(), "invalid_encrypted_content"),
        (Behave::incomplete(), "max_output_tokens"),
        (Behave::big_event(3_000_000).frames(5).pings(2), "response.completed"),
    ];
    for (behave, wanted) in cases {
        let backend = first_does(Kind::Turn, [behave]);
        let mut client = socket(&backend, &FIRST);
        client.text(CREATE);
        let events = client.read_events().unwrap();
        assert!(events.last().unwrap().contains(wanted), "{:?}", events.last());
    }
    for (behave, code) in [
        (Behave::close_frame(1011), Some(1011)),
        (Behave::ok().cut(Cut::Close(1012), Point::AfterCreated), Some(1012)),
        (Behave::drop_at(Point::InsideDelta(0)), None),
        (Behave::reset_at(Point::AfterCreated), None),
    ] {
        let backend = first_does(Kind::Turn, [behave]);
        let mut client = socket(&backend, &FIRST);
        client.text(CREATE);
        let error = client.read_events().unwrap_err().to_string();
        assert_eq!(error.contains("closed with"), code.is_some(), "{error}");
        assert!(code.is_none_or(|code| error.contains(&code.to_string())), "{error}");
    }
    let backend = first_does(Kind::Turn, [Behave::ok()]);
    let mut client = socket(&backend, &FIRST);
    client.send(&[0x81, 2, b'{', b'}']);
    assert_eq!(client.read_frame().unwrap().code(), Some(1002));
}

#[test]
fn refresh_tokens_are_good_once() {
    let backend = Backend::start(Script::new(&["first"]));
    let refresh = |token: &str| {
        let mut client = Client::connect(backend.address());
        let body = format!(r#"{{"grant_type":"refresh_token","refresh_token":"{token}"}}"#);
        client.request("POST", "/oauth/token", &[], body.as_bytes());
        client.response().unwrap()
    };
    assert!(refresh("rt-first-0").text().contains("access_token"));
    let again = refresh("rt-first-0");
    assert_eq!((again.status, again.text().contains("refresh_token_reused")), (401, true));
}

#[test]
fn tls_is_trusted_by_its_own_ca_only() {
    let space = TestSpace::new("tls");
    let ca = Ca::new(space.root());
    let backend = Backend::start_tls(Script::new(&["first"]), &ca);
    let output = real_codex(&space, &backend, &[("CODEX_CA_CERTIFICATE", ca.pem.to_str().unwrap())]);
    assert_eq!(output.expect(0).stdout.trim(), "Hello from first.");
    let output = space.run("curl", &["-sS", &backend.base_url()]).output();
    assert_eq!(output.code(), 60, "curl does not know this CA: {}", output.stderr);
}

#[test]
fn the_terminal_shows_what_a_command_prints() {
    let space = TestSpace::new("tmux");
    let screen = Tmux::start(&space, 60, 10, &[], &["sh", "-c", "echo ready; read word; echo got $word; exit 7"]);
    screen.wait_for("ready", SOON);
    screen.send_keys(&["hello", "Enter"]);
    screen.wait_for("got hello", SOON);
    assert_eq!(screen.wait_exit(SOON), 7);
}

#[test]
fn the_false_codex_records_its_calls() {
    let space = TestSpace::new("fake");
    let fake = codex::Fake::new(&space, "exit 9");
    let args = ["exec", "two\nlines", ""];
    space.run(&fake.path, &args).env("CODEX_HOME", "/h").output().expect(9);
    let call = fake.calls().remove(0);
    assert_eq!((call.args, call.env["CODEX_HOME"].as_str()), (args.map(str::to_owned).to_vec(), "/h"));
}

/// `codex exec` straight against the backend, logged in as `first`.
fn real_codex(space: &TestSpace, backend: &Backend, env: &[(&str, &str)]) -> Output {
    real_codex_version(codex::CURRENT, space, backend, env)
}

fn real_codex_version(version: &str, space: &TestSpace, backend: &Backend, env: &[(&str, &str)]) -> Output {
    crate::support::space::write_private(&space.codex_home().join("auth.json"), &token::auth_json("first"));
    let overrides = backend.codex_overrides();
    let mut args: Vec<&str> = overrides.iter().map(String::as_str).collect();
    args.extend(["exec", "--skip-git-repo-check", "Say hello"]);
    let mut run = space.run(codex::real(version), &args).at_most(Duration::from_secs(90));
    for (name, value) in env {
        run = run.env(name, value);
    }
    run.output()
}

fn codex_with(script: Script) -> (Output, Vec<Record>) {
    let space = TestSpace::new("codex");
    let backend = Backend::start(script);
    let output = real_codex(&space, &backend, &[]);
    (output, backend.records())
}

#[test]
fn real_codex_is_answered_over_a_websocket() {
    let (output, records) = codex_with(Script::new(&["first"]));
    assert_eq!(output.expect(0).stdout.trim(), "Hello from first.");
    let kinds: Vec<&Kind> = records.iter().filter(|r| r.transport == Transport::Ws).map(|r| &r.kind).collect();
    assert_eq!(kinds, [&Kind::Prewarm, &Kind::Turn]);
    assert!(records.iter().all(|record| !record.mismatch && !record.foreign));
}

#[test]
fn real_codex_makes_a_second_request_after_a_tool_call() {
    let turn = [Behave::tool_call("echo standin-$((40+2))"), Behave::answer("Done.")];
    let (output, records) = codex_with(Script::new(&["first"]).on("first", Kind::Turn, turn));
    assert_eq!(output.expect(0).stdout.trim(), "Done.");
    let turns: Vec<&Record> = records.iter().filter(|record| record.kind == Kind::Turn).collect();
    assert_eq!(turns.len(), 2);
    assert_eq!(turns[1].previous_response_id, turns[0].response_id);
    assert!(turns[1].turn_state.as_deref().unwrap().starts_with("ts-first-") && !turns[1].foreign);
    assert!(String::from_utf8_lossy(&turns[1].body).contains("function_call_output"));
}

#[test]
fn real_codex_falls_back_to_http_on_426() {
    let (output, records) =
        codex_with(Script::new(&["first"]).on("first", Kind::Handshake, [Behave::upgrade_required()]));
    assert_eq!(output.expect(0).stdout.trim(), "Hello from first.");
    let posts: Vec<&Record> = records.iter().filter(|record| record.kind == Kind::Post).collect();
    assert_eq!((posts.len(), posts[0].header("content-encoding")), (1, Some("zstd")));
}

#[test]
fn real_codex_stops_at_a_quota() {
    let script = || Script::new(&["first"]);
    let http = || script().on("first", Kind::Handshake, [Behave::upgrade_required()]);
    let limit = "You’ve hit your usage limit.";
    for (script, wanted) in [
        (script().on("first", Kind::Turn, [Behave::quota_event()]), limit),
        (http().on("first", Kind::Post, [Behave::quota_status()]), limit),
        (
            http().on("first", Kind::Post, [Behave::quota(QuotaForm::InsufficientQuota, Where::Status(429))]),
            "Quota exceeded. Check your plan and billing details.",
        ),
        (
            script().on(
                "first",
                Kind::Turn,
                [Behave::quota(QuotaForm::UsageNotIncluded, Where::Failed(Stage::Created))],
            ),
            "upgrade to Plus",
        ),
    ] {
        let (output, _) = codex_with(script);
        let output = output.expect(1);
        assert!(output.stderr.contains(wanted), "{}", output.stderr);
    }
}

#[test]
fn real_codex_comes_back_after_a_bounce() {
    for bounce in [
        Behave::previous_response_not_found(),
        Behave::connection_limit(),
        Behave::close_frame(1011),
        Behave::drop_at(Point::BeforeHead),
        Behave::reset_at(Point::AfterDeltas(1)),
        Behave::completed_without().cut(Cut::Drop, Point::AtEnd),
    ] {
        let script = Script::new(&["first"]).on("first", Kind::Turn, [bounce.clone().times(1)]);
        let (output, records) = codex_with(script);
        assert_eq!(output.expect(0).stdout.trim(), "Hello from first.", "{bounce:?}");
        let turns: Vec<&Record> = records.iter().filter(|record| record.kind == Kind::Turn).collect();
        assert_eq!((turns.len(), &turns[1].previous_response_id), (2, &None), "{bounce:?}");
        assert_ne!(turns[0].connection, turns[1].connection);
    }
}

#[test]
fn real_codex_reads_every_spelling_of_a_good_answer() {
    let say = || Behave::new(Say::Answer("All well.".to_owned())).stream(20, 200, Duration::from_millis(1));
    let http = |behave: Behave| {
        Script::new(&["first"]).on("first", Kind::Handshake, [Behave::upgrade_required()]).on(
            "first",
            Kind::Post,
            [behave],
        )
    };
    for script in [
        http(say().framing(Framing::ChunkedFancy).sse(Sse::CrLf)),
        http(say().framing(Framing::UntilClose).sse(Sse::DataOnly)),
        http(say().sse(Sse::Comments).chunk_bytes(5).interim(103)),
        Script::new(&["first"]).on("first", Kind::Turn, [say().frames(4).pings(2).unknown_events(2)]),
    ] {
        let (output, _) = codex_with(script);
        assert_eq!(output.expect(0).stdout.trim(), "All well.");
    }
}

#[test]
fn older_codex_versions_are_answered_too() {
    for version in ["0.155.0", "0.118.0"] {
        let space = TestSpace::new("older");
        let backend = Backend::start(Script::new(&["first"]));
        let output = real_codex_version(version, &space, &backend, &[]);
        assert_eq!(output.expect(0).stdout.trim(), "Hello from first.", "{version}");
    }
}
