//! Answers as the backend gives them, and as it should not.

use super::*;
use crate::quota::Readiness;

const NOW: u64 = 1_783_617_511;

const PLUS: &str = r#"{"user_id":"user-abc","account_id":"user-abc","email":"a@example.com","plan_type":"plus",
 "rate_limit":{"allowed":true,"limit_reached":false,
   "primary_window":{"used_percent":2,"limit_window_seconds":18000,"reset_after_seconds":17478,"reset_at":1783634989},
   "secondary_window":{"used_percent":90,"limit_window_seconds":604800,"reset_after_seconds":80213,"reset_at":1783697724}},
 "code_review_rate_limit":null,"additional_rate_limits":null,
 "credits":{"has_credits":false,"unlimited":false,"overage_limit_reached":false,"balance":"0","approx_local_messages":[0,0]},
 "spend_control":{"reached":false,"individual_limit":null},"rate_limit_reached_type":null,"promo":null,
 "rate_limit_reset_credits":{"available_count":2,"applicable_available_count":0}}"#;

fn read(body: &str) -> Reading {
    parse(body.as_bytes(), NOW).unwrap()
}

fn with_limit(limit: &str) -> Reading {
    read(&format!(r#"{{"rate_limit":{limit}}}"#))
}

fn window(length: u64, used: f64, resets_at: u64) -> Window {
    Window { length, used_percent: Some(used), resets_at: Some(resets_at) }
}

#[test]
fn a_real_answer() {
    let r = read(PLUS);
    assert_eq!(r.windows, [window(18_000, 2.0, 1_783_634_989), window(604_800, 90.0, 1_783_697_724)]);
    assert_eq!((r.plan.as_deref(), r.email.as_deref()), (Some("plus"), Some("a@example.com")));
    assert_eq!((r.reset_credits, r.limit_reached, r.taken_at), (Some(2), false, NOW));
    assert_eq!(r.credits, Some(Credits { has_credits: false, unlimited: false, balance: Some("0".to_owned()) }));
    assert_eq!(r.remaining_words(NOW), "5h 98% left | weekly 10% left");
    assert!(r.other_limits.is_empty());
}

#[test]
fn windows_are_known_by_length_not_by_slot() {
    let r = with_limit(
        r#"{"primary_window":{"used_percent":40.0,"limit_window_seconds":604800.0,"reset_at":"1783697724"},
            "secondary_window":null}"#,
    );
    assert_eq!(r.windows, [window(604_800, 40.0, 1_783_697_724)]);
    assert_eq!(r.readiness(NOW), Readiness::Ready);
    let r = with_limit(
        r#"{"primary_window":{"used_percent":1.5e1,"limit_window_seconds":2592000},
            "tertiary_window":{"used_percent":3,"limit_window_seconds":18000,"reset_after_seconds":60}}"#,
    );
    assert_eq!(r.remaining_words(NOW), "5h 97% left | monthly 85% left");
    assert_eq!(r.windows[0].resets_at, Some(NOW + 60));
}

#[test]
fn other_limits_are_kept_apart() {
    let r = read(
        r#"{"rate_limit":{"primary_window":{"used_percent":5,"limit_window_seconds":18000}},
            "code_review_rate_limit":{"primary_window":{"used_percent":1,"limit_window_seconds":604800}},
            "additional_rate_limits":[{"limit_name":"Spark","metered_feature":"m","rate_limit":{"limit_reached":true,
              "primary_window":{"used_percent":100,"limit_window_seconds":18000}}},
              {"metered_feature":"only-feature","rate_limit":{"secondary_window":{"used_percent":0,"limit_window_seconds":1}}},
              7, {"limit_name":"empty"}]}"#,
    );
    let names: Vec<&str> = r.other_limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["Code review", "Spark", "only-feature"]);
    assert_eq!(r.readiness(NOW), Readiness::Ready);
}

#[test]
fn refusals_are_seen() {
    let five = r#""primary_window":{"used_percent":50,"limit_window_seconds":18000,"reset_after_seconds":60}"#;
    for (flags, refused) in [
        (r#""allowed":false"#, true),
        (r#""limit_reached":true"#, true),
        (r#""allowed":true,"limit_reached":false"#, false),
        (r#""allowed":null,"limit_reached":"yes""#, false),
    ] {
        assert_eq!(with_limit(&format!("{{{flags},{five}}}")).limit_reached, refused, "{flags}");
    }
    let r = read(
        r#"{"rate_limit":{"allowed":false},"rate_limit_reached_type":{"type":"workspace_owner_usage_limit_reached"}}"#,
    );
    assert_eq!(r.reached_type.as_deref(), Some("workspace_owner_usage_limit_reached"));
    assert!(matches!(r.readiness(NOW), Readiness::Blocked(_)));
}

#[test]
fn wrong_types_are_unknown_and_never_an_error() {
    for body in
        ["{}", r#"{"rate_limit":null}"#, r#"{"rate_limit":[1,2]}"#, r#"{"rate_limit":"x","plan_type":3,"email":{}}"#]
    {
        let r = read(body);
        assert_eq!((r.readiness(NOW), &r.plan, &r.email), (Readiness::Unknown, &None, &None), "{body}");
    }
    let r = with_limit(r#"{"primary_window":{"used_percent":null,"limit_window_seconds":18000,"reset_at":-5}}"#);
    assert_eq!(r.remaining_words(NOW), "5h ?");
    let r = with_limit(r#"{"primary_window":{"used_percent":-3,"limit_window_seconds":18000,"reset_at":1e300}}"#);
    assert_eq!(r.windows, [Window { length: 18_000, used_percent: Some(0.0), resets_at: None }]);
    let r = with_limit(r#"{"primary_window":{"used_percent":1e999,"limit_window_seconds":-1},"x_window":{}}"#);
    assert!(r.windows.iter().all(|w| w.used_percent.is_none_or(f64::is_finite)));
    let r = with_limit(r#"{"primary_window":{"used_percent":100}}"#);
    assert_eq!(r.remaining_words(NOW), "window 0% left");
    assert!(matches!(r.readiness(NOW), Readiness::Blocked(_)));
}

#[test]
fn what_is_no_json_object_is_an_error() {
    for body in ["", "<html>", "{\"rate_limit\":", "not json", "{\"a\":1}x"] {
        assert_eq!(parse(body.as_bytes(), NOW), Err(UsageError::NotJson), "{body}");
    }
    for body in ["[]", "3", "null", "\"{\""] {
        assert_eq!(parse(body.as_bytes(), NOW), Err(UsageError::NotAnObject), "{body}");
    }
    assert_eq!(parse(b"\xff\xfe{}", NOW), Err(UsageError::NotJson));
    // Cut anywhere, changed anywhere: an answer or an error, never a panic.
    for at in 0..PLUS.len() {
        let _ = parse(&PLUS.as_bytes()[..at], NOW);
        for byte in [b'"', b'{', b'9', b'e', 0, 0xff] {
            let mut body = PLUS.as_bytes().to_vec();
            body[at] = byte;
            if let Ok(reading) = parse(&body, NOW) {
                let _ = (reading.readiness(NOW), reading.remaining_words(NOW), reading.earliest_useful_reset(NOW));
            }
        }
    }
}

#[test]
fn large_answers_are_bounded() {
    let limit = r#"{"limit_name":"x","rate_limit":{"w":{"used_percent":1}}},"#.repeat(10_000);
    let many = r#""w":{"used_percent":1},"#.repeat(10_000);
    let body = format!(
        r#"{{"email":"{}","rate_limit":{{{many}"z":1}},"additional_rate_limits":[{limit}1]}}"#,
        "e".repeat(1_000_000)
    );
    let r = read(&body);
    assert_eq!((r.windows.len(), r.other_limits.len()), (MAX_WINDOWS, MAX_LIMITS));
    assert_eq!(r.email.unwrap().len(), MAX_TEXT);
}

#[test]
fn headers_of_a_response() {
    let headers: [(&str, &[u8]); 12] = [
        ("X-Codex-Primary-Used-Percent", b"12.5"),
        ("x-codex-primary-window-minutes", b"300"),
        ("x-codex-primary-reset-at", b"1783634989"),
        ("x-codex-secondary-used-percent", b"40"),
        ("x-codex-secondary-window-minutes", b"10080"),
        ("x-codex-secondary-reset-after-seconds", b"60"),
        ("x-codex-other-primary-used-percent", b"100"),
        ("x-codex-other-primary-window-minutes", b"300"),
        ("x-codex-other-limit-name", b"Spark"),
        ("x-codex-plan-type", b"plus"),
        ("x-codex-credits-has-credits", b"True"),
        ("x-codex-credits-balance", b"\xff"),
    ];
    let r = from_headers(headers, NOW).unwrap();
    assert_eq!(r.windows, [window(18_000, 12.5, 1_783_634_989), window(604_800, 40.0, NOW + 60)]);
    assert_eq!((r.other_limits.len(), r.other_limits[0].name.as_str()), (1, "Spark"));
    assert_eq!(r.plan.as_deref(), Some("plus"));
    assert_eq!(r.credits, Some(Credits { has_credits: true, unlimited: false, balance: None }));
    assert!(!r.limit_reached);

    assert_eq!(from_headers([("content-type", &b"x"[..]), ("x-codex-turn-state", b"ts")], NOW), None);
    let r = from_headers([("x-codex-rate-limit-reached-type", &b"rate_limit_reached"[..])], NOW).unwrap();
    assert!(r.limit_reached);
    let r = from_headers([("x-codex-primary-used-percent", &b"NaN"[..]), ("x-codex--used-percent", b"inf")], NOW);
    assert_eq!(r, None);
}

#[test]
fn the_event_of_a_stream() {
    let event = r#"{"type":"codex.rate_limits","plan_type":"plus","rate_limits":{"allowed":true,"limit_reached":false,
        "primary":{"used_percent":12,"window_minutes":300,"reset_after_seconds":9000,"reset_at":1783634989},
        "secondary":{"used_percent":40,"window_minutes":10080,"reset_at":1783697724}},"code_review_rate_limits":null,
        "additional_rate_limits":null,"credits":null,"promo":null}"#;
    let r = from_event(&Raw::parse(event.as_bytes()).unwrap(), NOW).unwrap();
    assert_eq!(r.windows, [window(18_000, 12.0, 1_783_634_989), window(604_800, 40.0, 1_783_697_724)]);
    assert_eq!((r.plan.as_deref(), r.credits), (Some("plus"), None));

    let other = event.replacen('{', r#"{"metered_limit_name":"codex_other","limit_name":"Spark","#, 1);
    let r = from_event(&Raw::parse(other.as_bytes()).unwrap(), NOW).unwrap();
    assert_eq!((r.windows.len(), r.other_limits[0].name.as_str()), (0, "Spark"));

    for nothing in [r#"{"type":"response.created"}"#, "{}", r#"{"type":"codex.rate_limits"}"#, "[]"] {
        assert_eq!(from_event(&Raw::parse(nothing.as_bytes()).unwrap(), NOW), None, "{nothing}");
    }
}
