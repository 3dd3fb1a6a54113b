//! The rules of the proxy, each with its home, the table test in it and the test through the built program; and the
//! markers of the runtime log, each with the rule that writes it. Held against the source: what is named here is there.

use std::fs;
use std::path::Path;

/// A clause of the contract, and what it is about; the file below `src` where it is decided; the test of that decision, in
/// that file or its `tests`; the test through the program. One of the two asserts that the markers are written.
struct Rule {
    clause: &'static str,
    what: &'static str,
    home: &'static str,
    table: (&'static str, &'static str),
    outside: (&'static str, &'static str),
    markers: &'static [&'static str],
}

const fn rule(
    (clause, what): (&'static str, &'static str),
    home: &'static str,
    table: (&'static str, &'static str),
    outside: (&'static str, &'static str),
    markers: &'static [&'static str],
) -> Rule {
    Rule { clause, what, home, table, outside, markers }
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    rule(("S-53", "which requests rotate and which keep their credentials"), "proxy/route.rs",
        ("proxy/route.rs", "routes"), ("proxy_http", "codexs_own_calls_keep_their_credentials"), &[]),
    rule(("S-53", "a socket that is not for the model passes as it is"), "proxy/passage.rs",
        ("proxy/passage.rs", "whatever_it_looks_like_it_passes"), ("passage", "bytes_pass_both_ways_as_they_are"), &["exchange"]),
    rule(("S-53", "no more than so many of them"), "proxy/sockets.rs",
        ("proxy/sockets.rs", "no_more_than_so_many"), ("passage", "no_more_than_so_many_are_open"), &["runtime_proxy_active_limit_reached"]),
    rule(("S-53", "a full lane keeps its own out and nobody else"), "proxy/lane.rs",
        ("proxy/lane.rs", "a_full_lane_keeps_its_own_out_and_nobody_else"), ("limits", "a_full_lane_refuses_its_own_and_nobody_else"),
        &["runtime_proxy_lane_limit_reached", "runtime_proxy_admission_wait_exhausted", "runtime_proxy_overload_backoff"]),

    rule(("S-54", "a response belongs to who created it, whatever is wrong there"), "proxy/affinity.rs",
        ("proxy/affinity.rs", "remembers_who_created_what"), ("proxy_http", "a_previous_response_stays_with_its_account_come_what_may"), &[]),
    rule(("S-54", "what of a request decides, and what is a preference"), "proxy/ledger.rs",
        ("proxy/ledger/tests.rs", "what_claims_ask_for"), ("proxy_websocket", "a_turn_goes_to_the_owner_of_its_previous_response"), &[]),
    rule(("S-54", "a turn state stays with its account, a turn may move without it"), "proxy/affinity.rs",
        ("proxy/affinity.rs", "a_turn_moves_and_its_state_stays_its_issuers"), ("proxy_http", "a_turn_state_stays_with_its_account_and_moves_without_it"), &[]),
    rule(("S-54", "sessions in every spelling"), "proxy/affinity.rs",
        ("proxy/affinity.rs", "sessions_in_every_spelling"), ("markers", "a_session_in_every_spelling_goes_where_it_was"), &[]),
    rule(("S-54", "ids are learned from what passes"), "proxy/tap.rs",
        ("proxy/tap.rs", "the_first_deciding_event_counts_and_ids_are_gathered"), ("markers", "an_exchange_from_its_place_to_its_end"), &["binding"]),
    rule(("S-54", "an owner is used beyond every cap, fresh work is not"), "proxy/select.rs",
        ("proxy/select.rs", "load_and_penalties_move_fresh_work_only"), ("markers", "an_owner_is_used_beyond_its_cap_and_fresh_work_is_not"),
        &["profile_inflight", "profile_inflight_saturated"]),
    rule(("S-22", "bindings outlive the run, however it ends"), "proxy/bindings.rs",
        ("proxy/bindings/tests.rs", "logs_of_every_sort"), ("memory", "a_chain_goes_on_with_its_owner_after_a_kill"), &[]),
    rule(("S-22", "what cannot be written is told once, and ends nothing"), "proxy/bindings/recorder.rs",
        ("proxy/bindings/recorder.rs", "what_cannot_be_written_is_told_once_and_written_later"), ("memory", "a_full_disk_ends_no_stream"), &["state_save_error"]),

    rule(("S-55", "the current profile first, else the best"), "proxy/select.rs",
        ("proxy/select.rs", "decisions"), ("markers", "an_exchange_from_its_place_to_its_end"), &["candidate"]),
    rule(("S-55", "the order is the scheduler's"), "quota/schedule.rs",
        ("quota/schedule/tests.rs", "most_left_for_the_time_left_goes_first"), ("choice", "a_fresh_run_begins_where_the_rule_says_and_says_why"), &[]),
    rule(("S-55", "what other runs have in flight counts"), "proxy/share.rs",
        ("proxy/share/tests.rs", "two_see_each_other"), ("memory", "what_one_run_has_in_flight_makes_a_profile_busy_for_the_other"), &[]),
    rule(("S-55", "who takes over from one that cannot serve is the current and the active one"), "proxy/ledger.rs",
        ("proxy/ledger/tests.rs", "another_profile_becomes_the_current_one_when_the_one_before_cannot_serve"), ("memory", "a_rotation_makes_the_other_profile_the_active_one"),
        &["profile_commit", "state_save_ok"]),

    rule(("S-56", "a cap for all lanes together"), "proxy/lane.rs",
        ("proxy/lane.rs", "the_total_is_a_cap_of_its_own"), ("limits", "the_total_refuses_whatever_comes"), &["runtime_proxy_active_limit_reached"]),
    rule(("S-56", "a short wait for a place"), "proxy/lane.rs",
        ("proxy/lane.rs", "who_waits_gets_the_place_that_is_freed"), ("limits", "a_stream_waits_for_the_place_of_another"), &["runtime_proxy_admission_recovered"]),
    rule(("S-56", "what a user sets is validated"), "proxy/limits.rs",
        ("proxy/limits.rs", "nonsense_is_the_default_and_giants_are_clamped"), ("limits", "nonsense_is_as_if_it_were_not_said"), &[]),
    rule(("S-56", "more than all workers and the queue take is refused"), "proxy/listener.rs",
        ("proxy/listener.rs", "one_more_connection"), ("markers", "more_than_all_workers_and_the_queue_take_is_refused"), &["runtime_proxy_queue_overloaded"]),
    rule(("S-56", "who waits for a worker as long as others for a place is refused"), "proxy/listener.rs",
        ("proxy/listener.rs", "one_more_connection"), ("markers", "who_waits_for_a_worker_as_long_as_others_for_a_place_is_refused"), &["runtime_proxy_queue_wait_exhausted"]),
    rule(("S-56", "idle sockets keep nobody out"), "proxy/sockets.rs",
        ("proxy/sockets.rs", "no_more_than_so_many"), ("markers", "idle_sockets_of_the_model_keep_no_request_out"), &["runtime_proxy_active_limit_reached"]),
    rule(("S-56", "so many attempts, none begun after so long"), "proxy/budget.rs",
        ("proxy/budget.rs", "ends_by_count_and_by_time"), ("markers", "twelve_attempts_are_enough"), &["precommit_budget_exhausted"]),
    rule(("S-56", "one attempt leaves time for the next"), "proxy/budget.rs",
        ("proxy/budget.rs", "one_attempt_leaves_time_for_the_next"), ("proxy_tls", "a_black_hole_leaves_time_for_another_account"), &["upstream_connect_error"]),
    rule(("S-56", "one direct try when only backoffs stood against everybody"), "proxy/select.rs",
        ("proxy/select.rs", "decisions"), ("markers", "nobody_is_left"), &["direct_current_profile_fallback"]),
    rule(("S-56", "of all refusals codex sees the most helpful one"), "proxy/verdict.rs",
        ("proxy/verdict.rs", "the_most_helpful_refusal_is_shown"), ("markers", "nobody_is_left"), &["candidate_exhausted"]),
    rule(("S-56", "a local 503 over HTTP"), "proxy/downstream.rs",
        ("proxy/downstream.rs", "a_local_answer"), ("proxy_http", "an_upstream_that_nobody_listens_on_is_503_in_clear_words"), &[]),
    rule(("S-56", "a local 503 over a WebSocket"), "proxy/session/asked.rs",
        ("proxy/session/asked.rs", "a_refusal_in_the_words_of_a_websocket"), ("limits", "a_turn_beyond_the_limit_is_refused_in_the_words_of_a_websocket"), &[]),

    rule(("S-57", "out of quota until the reset that is named"), "proxy/health.rs",
        ("proxy/health.rs", "quota_lasts_until_the_named_reset"), ("limits", "the_wait_that_an_account_asks_for_is_kept"), &["profile_retry_backoff", "quota_blocked"]),
    rule(("S-57", "an overload is short"), "proxy/health.rs",
        ("proxy/health.rs", "an_overload_is_short_whatever_it_asks_for"), ("limits", "the_wait_that_an_account_asks_for_is_kept"), &["profile_overload_backoff", "overloaded"]),
    rule(("S-57", "transport failures double the wait"), "proxy/health.rs",
        ("proxy/health.rs", "transport_doubles_while_it_lasts_and_starts_anew_after"), ("limits", "failures_that_follow_each_other_double_the_wait"), &["profile_transport_backoff"]),
    rule(("S-57", "penalties are a lane's own, and fade"), "proxy/health.rs",
        ("proxy/health.rs", "penalties_are_a_lane_s_own_and_fade"), ("limits", "a_transport_failure_sends_fresh_work_elsewhere"), &["profile_health"]),
    rule(("S-57", "only real success clears"), "proxy/health.rs",
        ("proxy/health.rs", "memories_do_not_mix_and_success_clears"), ("limits", "a_list_of_models_is_no_proof_of_quota"), &[]),

    rule(("S-58", "what commits, over HTTP"), "proxy/tap.rs",
        ("proxy/tap.rs", "the_first_deciding_event_counts_and_ids_are_gathered"), ("markers", "an_exchange_from_its_place_to_its_end"),
        &["committed", "first_upstream_chunk", "first_local_chunk"]),
    rule(("S-58", "what an event means"), "proxy/verdict.rs",
        ("proxy/verdict.rs", "events"), ("markers", "a_turn_on_a_socket_from_its_place_to_its_end"), &["terminal_event"]),
    rule(("S-58", "the hold is bounded in time"), "proxy/turn.rs",
        ("proxy/turn.rs", "until_when_a_turn_may_wait"), ("markers", "a_beginning_that_is_held_too_long_is_let_go"), &["lookahead_timeout"]),
    rule(("S-58", "after commit nothing is moved"), "proxy/tap.rs",
        ("proxy/tap.rs", "the_first_deciding_event_counts_and_ids_are_gathered"), ("proxy_http", "quota_after_the_output_began_is_passed_on"), &[]),

    rule(("S-59", "which answers rotate and which are passed on"), "proxy/verdict.rs",
        ("proxy/verdict.rs", "statuses"), ("proxy_http", "other_errors_pass_untouched_and_are_asked_once"), &[]),
    rule(("S-59", "quota by every name"), "proxy/verdict.rs",
        ("proxy/verdict.rs", "statuses"), ("proxy_http", "every_spelling_of_no_room_goes_to_the_other_account"), &[]),
    rule(("S-59", "a connection that fails names its step"), "net/dial.rs",
        ("net/dial.rs", "says_which_step_failed"), ("limits", "a_transport_failure_sends_fresh_work_elsewhere"), &["upstream_connect_error"]),
    rule(("S-59", "a handshake that is refused"), "proxy/verdict.rs",
        ("proxy/verdict.rs", "statuses"), ("rotation", "a_401_of_the_launching_profile_is_told_once"), &["upstream_handshake_refused"]),
    rule(("S-59", "a turn in trouble is asked again, or comes back"), "proxy/turn.rs",
        ("proxy/turn.rs", "what_helps_a_turn_in_trouble"), ("markers", "a_turn_that_meets_its_quota_is_asked_again_or_comes_back"), &["websocket_bounce", "websocket_replay"]),
    rule(("S-59", "no thread loses its WebSocket by us"), "proxy/ledger.rs",
        ("proxy/ledger/tests.rs", "a_session_bounces_four_times_until_it_is_answered"), ("markers", "a_session_comes_back_four_times_and_is_told_then"), &["websocket_bounce"]),
    rule(("S-32", "a refused login is renewed or given up"), "profile/refresh.rs",
        ("profile/refresh/tests.rs", "refusals_by_status_and_code"), ("markers", "a_login_that_is_refused_is_renewed_or_given_up"),
        &["login_refreshed", "login_refresh_failed", "unauthorized", "profile_login_needed"]),

    rule(("S-60", "what is changed of a request"), "proxy/target.rs",
        ("proxy/target.rs", "what_is_changed_and_what_is_kept"), ("proxy_http", "heads_keep_their_order_spelling_and_doubles"), &[]),
    rule(("S-60", "Cloudflare's cookies are kept here"), "proxy/cookies.rs",
        ("proxy/cookies.rs", "keeps_cloudflares_for_one_profile_and_https_only"), ("proxy_http", "heads_keep_their_order_spelling_and_doubles"), &[]),
    rule(("S-60", "another account's 401 never reaches codex"), "proxy/rotate.rs",
        ("proxy/rotate.rs", "which_refusal_codex_is_told"), ("proxy_http", "a_refused_login_of_another_account_never_reaches_codex"), &[]),
    rule(("S-60", "each account where it belongs, and codex told what keeps it here"), "proxy/workspace.rs",
        ("proxy/workspace.rs", "placements"), ("markers", "where_an_account_belongs"), &["workspace"]),

    rule(("S-60", "nobody is served before that is known, and nobody waits twice"), "proxy/placement.rs",
        ("proxy/placement.rs", "only_who_knows_nothing_waits_and_one_asks"), ("markers", "nobody_is_served_before_it_is_known_where_and_who_leaves_does_not_wait"), &[]),

    rule(("S-61", "who ended an answer, and what codex sees of it"), "proxy/relay.rs",
        ("proxy/relay.rs", "who_ended_it"), ("markers", "a_stream_that_breaks_after_its_output_began"), &["stream_read_error"]),
    rule(("S-61", "one line for each exchange"), "proxy/relay.rs",
        ("proxy/relay.rs", "who_ended_it"), ("markers", "an_exchange_from_its_place_to_its_end"), &["exchange", "stream_complete"]),
    rule(("S-61", "a stream takes 64 KiB, whatever the speeds"), "proxy/relay.rs",
        ("proxy/relay.rs", "one_read_of_a_stream_is_held"), ("proxy_http", "a_slow_client_holds_the_stream_up_and_costs_no_memory"), &[]),

    rule(("S-80", "only our codex"), "proxy/guard.rs",
        ("proxy/guard.rs", "only_our_codex"), ("markers", "strangers_are_counted"), &["runtime_proxy_refused"]),
    rule(("S-83", "a panic ends its own exchange"), "proxy/listener.rs",
        ("proxy/listener.rs", "a_panic_ends_its_own_exchange"), ("memory", "a_full_disk_ends_no_stream"), &["worker_panic"]),
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of a test function, at any indentation.
fn test(code: &str, name: &str) -> Option<String> {
    let head = format!("fn {name}() {{");
    let at = code.find(&head)?;
    let line = code[..at].rfind('\n')? + 1;
    let indent = &code[line..at];
    // Its attributes stand right above it.
    let above = code[..line].trim_end().rsplit("\n\n").next()?;
    if !indent.trim().is_empty() || !above.lines().any(|line| line.trim() == "#[test]") {
        return None;
    }
    let end = code[at..].find(&format!("\n{indent}}}\n"))?;
    Some(code[at..at + end].to_owned())
}

/// As a word of its own: `binding` is not `bindings`.
fn says(text: &str, marker: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(marker)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + marker.len()..].chars().next()))
}

/// The statements of a test without those which say that something is not there.
fn present(text: &str) -> String {
    const ABSENT: [&str; 4] = ["[\"\"; 0]", "len(), 0)", "(0, 0)", "Vec::<String>::new()"];
    let statements = text.split_inclusive(";\n");
    statements.filter(|statement| !ABSENT.iter().any(|word| statement.contains(word))).collect()
}

#[test]
fn each_rule_has_its_home_its_table_and_its_test_from_outside() {
    let mut wrong = Vec::new();
    for Rule { clause, what, home, table, outside, markers } in RULES {
        let mut is_wrong = |fault: String| wrong.push(format!("{clause} {what}: {fault}"));
        read(&format!("src/{home}"));
        if table.0 != *home && table.0 != home.replace(".rs", "/tests.rs") {
            is_wrong(format!("{} is no test of src/{home}", table.1));
        }
        let Some(text) = test(&read(&format!("src/{}", table.0)), table.1) else {
            is_wrong(format!("no test {} in src/{}", table.1, table.0));
            continue;
        };
        let mut asserted = present(&text);
        let Some(text) = test(&read(&format!("tests/it/{}.rs", outside.0)), outside.1) else {
            is_wrong(format!("no test {}::{}", outside.0, outside.1));
            continue;
        };
        asserted += &present(&text);
        for marker in markers.iter().filter(|marker| !says(&asserted, marker)) {
            is_wrong(format!("{}::{} does not assert {marker}", outside.0, outside.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_clause_and_no_marker_is_forgotten() {
    let mut missing: Vec<String> = (53..=61).map(|n| format!("S-{n}")).collect();
    missing.retain(|clause| RULES.iter().all(|rule| rule.clause != clause));
    assert!(missing.is_empty(), "{missing:?}");

    let journal = read("src/proxy/journal.rs");
    let names = journal.split("pub fn name(self)").nth(1).and_then(|rest| rest.split("\n    }\n").next());
    let names = names.expect("the names of the markers");
    let all: Vec<&str> = names.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(all.len() > 35, "{all:?}");
    let told = |marker: &&str| RULES.iter().any(|rule| rule.markers.contains(marker));
    let forgotten: Vec<&str> = all.iter().filter(|marker| !told(marker)).copied().collect();
    assert!(forgotten.is_empty(), "markers of no rule: {forgotten:?}");
    let unknown = RULES.iter().flat_map(|rule| rule.markers).filter(|marker| !all.contains(marker));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&str>::new(), "rules name markers that are none");
}

/// The lines that 0.2.38 wrote and people look for, by its own names.
#[test]
fn the_lines_of_0_2_38_are_still_written() {
    let journal = read("src/proxy/journal.rs");
    let known = [
        "runtime_proxy_queue_overloaded",
        "runtime_proxy_queue_wait_exhausted",
        "runtime_proxy_active_limit_reached",
        "runtime_proxy_lane_limit_reached",
        "runtime_proxy_overload_backoff",
        "runtime_proxy_admission_wait_exhausted",
        "runtime_proxy_admission_recovered",
        "profile_inflight",
        "profile_inflight_saturated",
        "profile_retry_backoff",
        "profile_transport_backoff",
        "profile_health",
        "precommit_budget_exhausted",
        "first_upstream_chunk",
        "first_local_chunk",
        "stream_read_error",
        "candidate",
        "candidate_exhausted",
        "quota_blocked",
        "committed",
        "profile_commit",
        "binding",
        "state_save_ok",
        "state_save_error",
        "lookahead_timeout",
        "terminal_event",
        "stream_complete",
        "direct_current_profile_fallback",
    ];
    let missing: Vec<&&str> = known.iter().filter(|name| !journal.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
