//! What real codex makes of each failure, as a table to hold against wire.md: slow, so only on demand.
//! `cargo test --test it -- --ignored --nocapture probe`; `PROBE_CODEX=0.155.0` asks another version, `PROBE_CASE=cloudflare`
//! only the cases with that in their name.

use crate::support::codex;
use crate::support::space::{TestSpace, write_private};
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Cut, Point, QuotaForm, Stage, StatusKey, Where};
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use std::sync::Mutex;
use std::time::Duration;

type Case = (&'static str, Vec<(Kind, Behave)>);

fn cases() -> Vec<Case> {
    let http = |name, behave| (name, vec![(Kind::Handshake, Behave::upgrade_required()), (Kind::Post, behave)]);
    let turn = |name, behave| (name, vec![(Kind::Turn, behave)]);
    let failed = |code| Behave::failed(code, "stand-in message, try again in 0.1s", Stage::Created);
    vec![
        http("http 400 encrypted", Behave::encrypted_content_400()),
        http("http 403 cloudflare", Behave::cloudflare_403()),
        http("http 403 usage_limit_reached", Behave::quota(QuotaForm::UsageLimitReached, Where::Status(403))),
        http("http 404", Behave::plain_error(404)),
        http("http 429 plain", Behave::plain_429(None)),
        http("http 429 retry-after 1", Behave::plain_429(Some(1))),
        http("http 429 rate_limit_exceeded", Behave::quota(QuotaForm::RateLimitExceeded, Where::Status(429))),
        http("http 500", Behave::plain_error(500)),
        http("http 503 server_is_overloaded", Behave::overloaded("server_is_overloaded")),
        http("http 529", Behave::plain_error(529)),
        http("http drop before head", Behave::drop_at(Point::BeforeHead)),
        http("http drop mid chunk", Behave::drop_at(Point::InsideDelta(1))),
        http("http reset after created", Behave::reset_at(Point::AfterCreated)),
        http("http without completed", Behave::completed_without()),
        http("http short length", Behave::ok().lie_length(50)),
        http("http garbage", Behave::garbage(b"nonsense\r\n\r\n")),
        http("http failed usage_limit_reached", failed("usage_limit_reached")),
        http("http failed rate_limit_exceeded", failed("rate_limit_exceeded")),
        http("http incomplete", Behave::incomplete()),
        http("http error event", Behave::quota_event()),
        turn(
            "ws event status_code",
            Behave::quota(QuotaForm::UsageLimitReached, Where::Event(StatusKey::StatusCode, Stage::Created)),
        ),
        turn(
            "ws event no status",
            Behave::quota(QuotaForm::UsageLimitReached, Where::Event(StatusKey::Absent, Stage::First)),
        ),
        turn("ws 401", Behave::unauthorized()),
        turn("ws 500", Behave::plain_error(500)),
        turn("ws overloaded", Behave::overloaded("server_is_overloaded")),
        turn("ws close 1012", Behave::ok().cut(Cut::Close(1012), Point::AfterDeltas(1))),
        turn("ws previous not found", Behave::previous_response_not_found()),
        turn("ws failed usage_limit_reached", failed("usage_limit_reached")),
        turn("ws 10 MiB event", Behave::big_event(10 << 20)),
        turn("ws garbage", Behave::garbage(&[0xff; 32])),
        ("handshake 403", vec![(Kind::Handshake, Behave::plain_error(403))]),
        ("handshake 429 quota", vec![(Kind::Handshake, Behave::quota_status())]),
        ("handshake drop", vec![(Kind::Handshake, Behave::drop_at(Point::BeforeHead))]),
        (
            "handshake unasked extension",
            vec![(Kind::Handshake, Behave::ok().header("Sec-WebSocket-Extensions", "x-standin"))],
        ),
        ("prewarm quota", vec![(Kind::Prewarm, Behave::quota_event())]),
        ("prewarm close", vec![(Kind::Prewarm, Behave::close_frame(1011))]),
        ("prewarm hang", vec![(Kind::Prewarm, Behave::hang(Point::BeforeHead))]),
    ]
}

#[test]
#[ignore = "takes minutes; a table for people"]
fn probe() {
    let version = std::env::var("PROBE_CODEX").unwrap_or_else(|_| codex::CURRENT.to_owned());
    let binary = codex::real(&version);
    let only = std::env::var("PROBE_CASE").unwrap_or_default();
    let todo = Mutex::new(cases().into_iter().filter(|(name, _)| name.contains(&only)).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, behaviours)) = todo.lock().unwrap().pop() else { return };
                    println!("{name:34} {}", one(&binary, behaviours));
                }
            });
        }
    });
}

fn one(binary: &std::path::Path, behaviours: Vec<(Kind, Behave)>) -> String {
    let mut script = Script::new(&["first"]);
    for (kind, behave) in behaviours {
        script.set("first", kind, [behave]);
    }
    let space = TestSpace::new("probe");
    let backend = Backend::start(script);
    write_private(&space.codex_home().join("auth.json"), &token::auth_json("first"));
    let overrides = backend.codex_overrides();
    let mut args: Vec<&str> = vec!["60", binary.to_str().unwrap()];
    args.extend(overrides.iter().map(String::as_str));
    args.extend(["exec", "--skip-git-repo-check", "Say hello"]);
    // A hanging codex is a result here (124), not a failure.
    let output = space.run("timeout", &args).at_most(Duration::from_secs(90)).output();
    let count = |kind: &Kind| backend.of("first", kind).len();
    let last = output.stderr.lines().rfind(|line| line.starts_with("ERROR:")).unwrap_or(output.stdout.trim());
    let last: String = last.chars().take(110).collect();
    format!(
        "exit {:3} {:5.1}s  handshakes {:2} prewarm {} turns {:2} posts {:2}  {last}",
        output.code(),
        output.took.as_secs_f32(),
        count(&Kind::Handshake),
        count(&Kind::Prewarm),
        count(&Kind::Turn),
        count(&Kind::Post),
    )
}
