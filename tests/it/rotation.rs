//! The matrix of issue 3: the real codex through the built prodex, the first account out of quota in every place and in
//! every spelling, over WebSocket and over HTTP. Each turn ends well on the next account, and codex notices nothing.

use crate::support::run::Output;
use crate::support::scene::Scene;
use crate::support::standin::behave::{Behave, QuotaForm, Stage, StatusKey, Where};
use crate::support::standin::record::Record;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;

const BOTH: [&str; 2] = ["first", "second"];
const FORMS: [QuotaForm; 4] = [
    QuotaForm::UsageLimitReached,
    QuotaForm::InsufficientQuota,
    QuotaForm::RateLimitExceeded,
    QuotaForm::UsageNotIncluded,
];

fn both() -> Script {
    Script::new(&BOTH)
}

/// No account speaks WebSocket.
fn http(names: &[&str]) -> Script {
    let upgrade_required = |script: Script, name: &&str| script.on(name, Kind::Handshake, [Behave::upgrade_required()]);
    names.iter().fold(Script::new(names), upgrade_required)
}

/// One `exec` that must end on the second account, after exactly these model requests.
#[track_caller]
fn rotates(script: Script, asked: &[&str]) -> Scene {
    let scene = Scene::new("rotates", &BOTH, script);
    let output = scene.exec(&["Say hello"]).output().expect(0);
    answered_by_second(&scene, &output);
    assert_eq!(scene.asked(), asked);
    scene
}

#[track_caller]
fn answered_by_second(scene: &Scene, output: &Output) {
    assert_eq!(output.stdout.trim_end(), "Hello from second.");
    assert_quiet(scene, output);
    let log = |marker: &str| {
        assert!(!scene.space.marked(marker).is_empty(), "no `{marker}` in {:#?}", scene.space.runtime_logs());
    };
    log("quota_blocked profile=first");
    log("committed profile=second");
    assert_nothing_foreign(scene);
}

/// Codex told its user of no trouble. A 426 is worth a line to codex whoever sends it:
/// `healthy_accounts_sound_the_same_without_us` holds that against direct codex.
#[track_caller]
fn assert_quiet(scene: &Scene, output: &Output) {
    let falls_back = scene.backend.records().iter().any(|record| record.status == Some(426));
    let ours = |line: &&String| !line.contains(FALLS_BACK) || !falls_back;
    assert_eq!(troubles(output).iter().find(ours), None, "{}", output.stderr);
}

const FALLS_BACK: &str = "ERROR codex_api::endpoint::responses_websocket: failed to connect to Responses WebSocket";

/// What codex says whoever serves it: the stand-in has no apps, and a busy machine now and then lets codex read its cache
/// of models while it writes it.
const OWN: [&str; 2] =
    ["ERROR rmcp::transport::worker: ", "ERROR codex_models_manager::manager: failed to load models cache: EOF"];

/// Lines of trouble, without their time of day.
fn troubles(output: &Output) -> Vec<String> {
    let words = ["ERROR", "Reconnecting", "Falling back", "usage limit", "stream disconnected"];
    let lines = output.stderr.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    let timeless = lines.map(|line| line.split_once("Z ").map_or(line, |(_, rest)| rest).trim().to_owned());
    timeless.filter(|line| OWN.iter().all(|own| !line.starts_with(own))).collect()
}

/// No account got the token, the response id or the turn state of another.
#[track_caller]
fn assert_nothing_foreign(scene: &Scene) {
    let foreign = |record: &&Record| record.mismatch || record.foreign || record.status == Some(401);
    assert_eq!(scene.backend.records().iter().find(foreign).map(Record::line), None);
}

// Over WebSocket

#[test]
fn websocket_out_at_the_handshake() {
    let script = both().on("first", Kind::Handshake, [Behave::quota_status()]);
    rotates(script, &["first handshake", "second handshake", "second prewarm+", "second turn+"]);
}

#[test]
fn websocket_out_at_the_warm_up() {
    let script = both().on("first", Kind::Prewarm, [Behave::quota_event()]);
    rotates(script, &["first handshake", "first prewarm", "second handshake", "second prewarm+", "second turn+"]);
}

#[test]
fn websocket_out_after_the_warm_up() {
    let script = both().on("first", Kind::Turn, [Behave::quota_event()]);
    rotates(script, &["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+"]);
}

#[test]
fn websocket_out_at_the_second_request_of_a_turn() {
    let script = both().on("first", Kind::Turn, [Behave::tool_call("echo standin"), Behave::quota_event()]);
    let asked = ["first handshake", "first prewarm+", "first turn+", "first turn", "second handshake", "second turn+"];
    let scene = rotates(script, &asked);
    let moved = scene.backend.of("second", &Kind::Turn).remove(0);
    assert_eq!((moved.previous_response_id, moved.turn_state), (None, None));
    assert!(String::from_utf8_lossy(&moved.body).contains("function_call_output"), "the full input came along");
}

#[test]
fn websocket_out_at_the_second_turn() {
    let scene = Scene::new("resume", &BOTH, both());
    second_turn(&scene, Kind::Turn, Behave::quota_event());
    let asked = ["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+"];
    assert_eq!(scene.asked()[3..], asked);
}

/// A first turn on the first account, then its quota is over and the thread goes on.
#[track_caller]
fn second_turn(scene: &Scene, kind: Kind, quota: Behave) {
    let begun = scene.exec(&["Remember violet"]).output().expect(0);
    assert_eq!(begun.stdout.trim_end(), "Hello from first.");
    scene.backend.set("first", kind, [quota]);
    let thread = thread_id(&begun.stderr);
    let output = scene.exec(&["resume", &thread, "Say hello"]).output().expect(0);
    answered_by_second(scene, &output);
    let records = scene.model_records();
    let last = records.last().expect("the second turn");
    // Over HTTP the body is compressed.
    if last.kind == Kind::Turn {
        assert!(String::from_utf8_lossy(&last.body).contains("Remember violet"), "the history came along");
    }
}

fn thread_id(stderr: &str) -> String {
    let line = stderr.lines().find_map(|line| line.strip_prefix("session id: "));
    line.unwrap_or_else(|| panic!("no session id in {stderr}")).to_owned()
}

// Over HTTP

#[test]
fn http_out_at_the_handshake() {
    let script = both().on("first", Kind::Handshake, [Behave::quota_status()]).on(
        "second",
        Kind::Handshake,
        [Behave::upgrade_required()],
    );
    rotates(script, &["first handshake", "second handshake", "second post+"]);
}

#[test]
fn http_out_in_the_body_of_a_429() {
    let script = http(&BOTH).on("first", Kind::Post, [Behave::quota_status()]);
    rotates(script, &["first handshake", "first post", "second post+"]);
}

#[test]
fn http_out_in_a_response_failed() {
    let quota = Behave::quota(QuotaForm::UsageLimitReached, Where::Failed(Stage::Created));
    let script = http(&BOTH).on("first", Kind::Post, [quota]);
    rotates(script, &["first handshake", "first post", "second post+"]);
}

#[test]
fn http_out_at_the_second_request_of_a_turn() {
    let script = http(&BOTH).on("first", Kind::Post, [Behave::tool_call("echo standin"), Behave::quota_status()]);
    let scene = rotates(script, &["first handshake", "first post+", "first post", "second post+"]);
    let states: Vec<Option<String>> = scene.model_records().into_iter().map(|record| record.turn_state).collect();
    assert!(states[2].as_deref().is_some_and(|state| state.starts_with("ts-first-")), "{states:?}");
    assert_eq!(states[3], None, "a turn state is its account's own");
}

/// Codex repeats the turn state of the first account to the end of the turn: that must not lead back to it.
#[test]
fn http_a_turn_that_moved_stays_where_it_went() {
    let script = http(&BOTH).on("first", Kind::Post, [Behave::tool_call("echo standin"), Behave::quota_status()]).on(
        "second",
        Kind::Post,
        [Behave::tool_call("echo standin"), Behave::answer("Hello from second.")],
    );
    rotates(script, &["first handshake", "first post+", "first post", "second post+", "second post+"]);
}

/// The same over WebSocket, where the chain of responses leads.
#[test]
fn websocket_a_turn_that_moved_stays_where_it_went() {
    let script = both().on("first", Kind::Turn, [Behave::tool_call("echo standin"), Behave::quota_event()]).on(
        "second",
        Kind::Turn,
        [Behave::tool_call("echo standin"), Behave::answer("Hello from second.")],
    );
    let asked = [
        "first handshake",
        "first prewarm+",
        "first turn+",
        "first turn",
        "second handshake",
        "second turn+",
        "second turn+",
    ];
    rotates(script, &asked);
}

#[test]
fn http_out_at_the_second_turn() {
    let scene = Scene::new("resume", &BOTH, http(&BOTH));
    second_turn(&scene, Kind::Post, Behave::quota_status());
    assert_eq!(scene.asked()[2..], ["first handshake", "first post", "second post+"]);
}

// Every spelling

#[test]
fn every_form_in_a_handshake_answer() {
    for form in FORMS {
        let script = both().on("first", Kind::Handshake, [Behave::quota(form, Where::Status(429))]);
        rotates(script, &["first handshake", "second handshake", "second prewarm+", "second turn+"]);
    }
}

#[test]
fn every_form_in_a_websocket_error_event() {
    for form in FORMS {
        for place in
            [Where::Event(StatusKey::Status, Stage::First), Where::Event(StatusKey::StatusCode, Stage::Created)]
        {
            let script = both().on("first", Kind::Turn, [Behave::quota(form, place)]);
            rotates(script, &["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+"]);
        }
    }
}

#[test]
fn every_form_in_a_websocket_response_failed() {
    for form in FORMS {
        let script = both().on("first", Kind::Turn, [Behave::quota(form, Where::Failed(Stage::Created))]);
        rotates(script, &["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+"]);
    }
}

#[test]
fn every_form_in_an_http_body() {
    for form in FORMS {
        let script = http(&BOTH).on("first", Kind::Post, [Behave::quota(form, Where::Status(429))]);
        rotates(script, &["first handshake", "first post", "second post+"]);
    }
}

#[test]
fn every_form_in_an_sse_response_failed() {
    for form in FORMS {
        for stage in [Stage::First, Stage::Created] {
            let script = http(&BOTH).on("first", Kind::Post, [Behave::quota(form, Where::Failed(stage))]);
            rotates(script, &["first handshake", "first post", "second post+"]);
        }
    }
}

// More and fewer accounts

#[test]
fn the_third_account_answers_when_two_are_out() {
    let names = ["first", "second", "third"];
    let websocket = Script::new(&names).on("first", Kind::Turn, [Behave::quota_event()]).on(
        "second",
        Kind::Turn,
        [Behave::quota_event()],
    );
    let http = http(&names).on("first", Kind::Post, [Behave::quota_status()]).on(
        "second",
        Kind::Post,
        [Behave::quota_status()],
    );
    let over_websocket = [
        "first handshake",
        "first prewarm+",
        "first turn",
        "second handshake",
        "second turn",
        "third handshake",
        "third turn+",
    ];
    let over_http = ["first handshake", "first post", "second post", "third post+"];
    for (script, asked) in [(websocket, &over_websocket[..]), (http, &over_http[..])] {
        let scene = Scene::new("three", &names, script);
        let output = scene.exec(&["Say hello"]).output().expect(0);
        assert_eq!(output.stdout.trim_end(), "Hello from third.");
        assert_quiet(&scene, &output);
        assert_eq!(scene.asked(), asked);
        assert_nothing_foreign(&scene);
    }
}

/// The real quota answer with a reset of its own.
fn out_until(resets_at: u64) -> Behave {
    Behave::status(
        429,
        &format!(
            r#"{{"error":{{"type":"usage_limit_reached","message":"The usage limit has been reached","plan_type":"plus","resets_at":{resets_at}}}}}"#
        ),
    )
}

/// What codex tells its user in the end.
fn last_words(output: &Output) -> Vec<String> {
    let lines = output.stderr.lines().filter(|line| line.starts_with("ERROR: "));
    lines.map(str::to_owned).collect()
}

#[test]
fn with_every_account_out_codex_shows_the_backends_own_words() {
    let now = token::unix_now();
    // The account that is free again first is the one whose words help.
    let (first, second) = (out_until(now + 8 * 3600), out_until(now + 2 * 3600));
    let out = |script: Script, kind: &Kind| {
        script.on("first", kind.clone(), [first.clone()]).on("second", kind.clone(), [second.clone()])
    };
    for (script, kind) in
        [(both(), Kind::Handshake), (both(), Kind::Prewarm), (both(), Kind::Turn), (http(&BOTH), Kind::Post)]
    {
        let mut script = out(script, &kind);
        if kind == Kind::Prewarm {
            script = out(script, &Kind::Turn);
        }
        let scene = Scene::new("all-out", &BOTH, script);
        let output = scene.exec(&["Say hello"]).output().expect(1);
        let direct = scene.direct("second", &["Say hello"]).expect(1);
        assert!(last_words(&direct)[0].contains("usage limit"), "{}", direct.stderr);
        assert_eq!(last_words(&output), last_words(&direct), "{kind:?}");
        assert_eq!(output.stdout, direct.stdout);
    }
}

#[test]
fn healthy_accounts_sound_the_same_without_us() {
    for script in [both(), http(&BOTH)] {
        let scene = Scene::new("sound", &BOTH, script);
        let through = scene.exec(&["Say hello"]).output().expect(0);
        let asked = scene.asked();
        let direct = scene.direct("first", &["Say hello"]).expect(0);
        assert_eq!((through.stdout.as_str(), troubles(&through)), (direct.stdout.as_str(), troubles(&direct)));
        assert_eq!(scene.asked()[asked.len()..], asked, "and asks the same");
    }
}

// What must not move

#[test]
fn a_quota_after_output_began_is_passed_on_over_websocket() {
    let quota = Behave::quota(QuotaForm::UsageLimitReached, Where::Event(StatusKey::Status, Stage::Deltas(2)));
    let scene = Scene::new("mid", &BOTH, both().on("first", Kind::Turn, [quota]));
    let output = scene.exec(&["Say hello"]).output().expect(1);
    assert!(last_words(&output)[0].contains("hit your usage limit"), "{}", output.stderr);
    assert_eq!(scene.asked(), ["first handshake", "first prewarm+", "first turn+"]);
}

#[test]
fn a_quota_after_output_began_is_passed_on_over_http() {
    let quota = Behave::quota(QuotaForm::InsufficientQuota, Where::Failed(Stage::Deltas(2)));
    let scene = Scene::new("mid", &BOTH, http(&BOTH).on("first", Kind::Post, [quota]));
    let output = scene.exec(&["Say hello"]).output().expect(1);
    assert!(last_words(&output)[0].contains("Quota exceeded"), "{}", output.stderr);
    assert_eq!(scene.asked(), ["first handshake", "first post+"]);
}

/// Codex itself asks again after some failures in the middle. That is its own new request: it may go elsewhere.
#[test]
fn what_codex_itself_repeats_may_go_to_the_next_account() {
    let midway = Behave::quota(QuotaForm::UsageLimitReached, Where::Failed(Stage::Deltas(2)));
    let script = http(&BOTH).on("first", Kind::Post, [midway, Behave::quota_status()]);
    let scene = Scene::new("repeat", &BOTH, script);
    let output = scene.exec(&["Say hello"]).output().expect(0);
    assert_eq!(output.stdout.trim_end(), "Hello from second.");
    assert!(output.stderr.contains("Reconnecting... 1/5"), "{}", output.stderr);
    assert_eq!(scene.asked(), ["first handshake", "first post+", "first post", "second post+"]);
}

#[test]
fn a_continuation_stays_with_its_account() {
    let scene =
        Scene::new("chain", &BOTH, both().on("first", Kind::Turn, [Behave::tool_call("echo standin"), Behave::ok()]));
    let output = scene.exec(&["Say hello"]).output().expect(0);
    assert_eq!(output.stdout.trim_end(), "Hello from first.");
    assert_eq!(scene.asked(), ["first handshake", "first prewarm+", "first turn+", "first turn+"]);
    let turns = scene.backend.of("first", &Kind::Turn);
    assert!(turns[1].previous_response_id.is_some() && turns[1].previous_response_id == turns[0].response_id);
    assert_nothing_foreign(&scene);
}

#[test]
fn a_failure_that_is_no_quota_does_not_move_a_chain() {
    let script =
        both().on("first", Kind::Turn, [Behave::tool_call("echo standin"), Behave::plain_error(500), Behave::ok()]);
    let scene = Scene::new("chain", &BOTH, script);
    let output = scene.exec(&["Say hello"]).output().expect(0);
    assert_eq!(output.stdout.trim_end(), "Hello from first.");
    let asked = ["first handshake", "first prewarm+", "first turn+", "first turn", "first handshake", "first turn+"];
    assert_eq!(scene.asked(), asked, "codex came back, to the same account");
}

#[test]
fn what_is_no_quota_is_passed_on_untouched() {
    for (behave, words) in [
        (Behave::plain_error(400), r#"{"error":{"message":"stand-in says no","type":"standin_error"}}"#),
        (Behave::plain_429(None), "exceeded retry limit, last status: 429 Too Many Requests"),
        (Behave::encrypted_content_400(), "invalid_encrypted_content"),
    ] {
        let scene = Scene::new("pass", &BOTH, http(&BOTH).on("first", Kind::Post, [behave.clone()]));
        let output = scene.exec(&["Say hello"]).output().expect(1);
        let asked = scene.asked();
        assert!(asked.iter().all(|line| line.starts_with("first ")), "{behave:?} {asked:?}");
        let direct = scene.direct("first", &["Say hello"]).expect(1);
        assert!(last_words(&output)[0].contains(words), "{}", output.stderr);
        assert_eq!(last_words(&output), last_words(&direct));
        assert_eq!(scene.asked()[asked.len()..], asked);
    }
}

// Logins

#[test]
fn a_401_of_another_profile_never_reaches_codex() {
    let names = ["first", "second", "third"];
    for (script, asked) in [
        (
            Script::new(&names).on("first", Kind::Handshake, [Behave::quota_status()]).on(
                "second",
                Kind::Handshake,
                [Behave::unauthorized()],
            ),
            &[
                "first handshake",
                "second handshake",
                "second handshake",
                "third handshake",
                "third prewarm+",
                "third turn+",
            ][..],
        ),
        (
            http(&names).on("first", Kind::Post, [Behave::quota_status()]).on(
                "second",
                Kind::Post,
                [Behave::unauthorized()],
            ),
            &["first handshake", "first post", "second post", "second post", "third post+"][..],
        ),
    ] {
        let scene = Scene::new("401", &names, script);
        let output = scene.exec(&["Say hello"]).output().expect(0);
        assert_eq!(output.stdout.trim_end(), "Hello from third.");
        assert_quiet(&scene, &output);
        assert_eq!(scene.asked(), asked);
        assert_eq!(refreshes(&scene), 1, "by prodex, once");
    }
}

/// A copied login is good for one refresh, which is left to whoever uses the copy.
#[test]
fn a_refused_login_of_which_there_is_a_copy_is_not_refreshed() {
    let names = [BOTH[0], BOTH[1], "third"];
    let script = Script::new(&names).on("first", Kind::Handshake, [Behave::quota_status()]).on(
        "second",
        Kind::Handshake,
        [Behave::unauthorized()],
    );
    let scene = Scene::new("401", &names, script);
    let copy = scene.space.codex_home().join("auth.json");
    std::fs::copy(scene.space.profile_home("second").join("auth.json"), copy).expect("a copy");
    let output = scene.exec(&["Say hello"]).output().expect(0);
    assert_eq!(output.stdout.trim_end(), "Hello from third.");
    assert_eq!(refreshes(&scene), 0);
    assert_eq!(scene.space.marked("another home holds the same login").len(), 1);
}

#[test]
fn a_401_of_another_profile_does_not_hide_the_quota() {
    let script = both().on("first", Kind::Handshake, [Behave::quota_status()]).on(
        "second",
        Kind::Handshake,
        [Behave::unauthorized()],
    );
    let scene = Scene::new("401", &BOTH, script);
    let output = scene.exec(&["Say hello"]).output().expect(1);
    assert!(last_words(&output)[0].contains("hit your usage limit"), "{}", output.stderr);
    assert_eq!(refreshes(&scene), 1, "by prodex, once");
}

fn refreshes(scene: &Scene) -> usize {
    scene.backend.records().iter().filter(|record| record.kind == Kind::Token).count()
}

/// Codex runs under the first login and refreshes it; the second never comes near the token endpoint.
#[test]
fn a_401_of_the_launching_profile_reaches_codex_which_refreshes_its_login() {
    for script in [both(), http(&BOTH)] {
        let scene = Scene::new("401", &BOTH, script);
        scene.backend.revoke(&access_token(&scene, "first"));
        let run = scene.run(&["--skip-quota-check", "exec", "--skip-git-repo-check", "Say hello"]);
        let output = run.output().expect(0);
        // Whether the model was asked before or after the refresh decides who answers.
        assert!(output.stdout.starts_with("Hello from "), "{}", output.stdout);
        let records = scene.backend.records();
        let tokens: Vec<&Record> = records.iter().filter(|record| record.kind == Kind::Token).collect();
        assert_eq!(tokens.len(), 1, "one refresh");
        assert!(String::from_utf8_lossy(&tokens[0].body).contains("rt-first-0"));
        assert!(!tokens[0].headers.iter().any(|(_, value)| value.contains("prodex")), "it was codex");
        let renewed = access_token(&scene, "first");
        assert!(
            scene.backend.records().iter().any(|r| r.header("authorization") == Some(&format!("Bearer {renewed}")))
        );
    }
}

/// It sees the refusal of a token once, in case that it knows a newer one; then others serve.
#[test]
fn a_401_of_the_launching_profile_is_told_once() {
    for (script, kind, told, asked) in [
        (
            both(),
            Kind::Handshake,
            "upstream_handshake_refused profile=first status=401",
            &["first handshake", "second handshake", "second prewarm+", "second turn+"][..],
        ),
        (
            http(&BOTH),
            Kind::Post,
            "exchange profile=first status=401",
            &["first handshake", "first post", "second post+"],
        ),
    ] {
        let scene = Scene::new("401", &BOTH, script.on("first", kind, [Behave::unauthorized()]));
        let output = scene.exec(&["Say hello"]).output().expect(0);
        assert_eq!(output.stdout.trim_end(), "Hello from second.");
        assert_eq!(scene.space.marked(told).len(), 1, "{:#?}", scene.space.runtime_logs());
        assert_eq!(scene.asked(), asked);
    }
}

fn access_token(scene: &Scene, name: &str) -> String {
    let auth = std::fs::read_to_string(scene.space.profile_home(name).join("auth.json")).expect("a login");
    let value = auth.split("\"access_token\":").nth(1).expect("an access token");
    value.split('"').nth(1).expect("a string").to_owned()
}

// Workspace routing

#[test]
fn a_workspace_is_routed_for_its_own_profile_only() {
    const HEADER: &str = "x-openai-account-routing-override";
    for (script, kind) in [
        (both().on("first", Kind::Turn, [Behave::quota_event()]), Kind::Handshake),
        (http(&BOTH).on("first", Kind::Post, [Behave::quota_status()]), Kind::Post),
    ] {
        for routed in BOTH {
            let scene = Scene::new("us", &BOTH, script.clone().check(routed, "NO_CONSTRAINT", "us"));
            let output = scene.exec(&["Say hello"]).output().expect(0);
            answered_by_second(&scene, &output);
            for name in BOTH {
                let routing = scene.backend.of(name, &kind)[0].header(HEADER).map(str::to_owned);
                assert_eq!(routing.as_deref(), (name == routed).then_some("us"), "{name} {kind:?}");
            }
        }
    }
}
