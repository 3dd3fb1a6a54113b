//! The rule as a table: numbers computed by hand.

use super::*;

const NOW: u64 = 1_800_000_000;
const WEEK: u64 = 604_800;
const FIVE: u64 = 18_000;

fn window(length: u64, left: f64, resets_in: u64) -> Window {
    Window { length, used_percent: Some(100.0 - left), resets_at: Some(NOW + resets_in) }
}

fn reading(windows: &[(u64, f64, u64)]) -> Reading {
    let windows = windows.iter().map(|&(length, left, resets_in)| window(length, left, resets_in)).collect();
    Reading { windows, taken_at: NOW, plan: Some("plus".to_owned()), ..Reading::default() }
}

fn candidate<'a>(name: &'a str, reading: &'a Reading) -> Candidate<'a> {
    Candidate {
        name,
        reading: Some(reading),
        active: 0,
        last_selected: None,
        reserve: 0,
        disabled: false,
        blocked: None,
    }
}

fn unmeasured(name: &str) -> Candidate<'_> {
    Candidate { name, reading: None, active: 0, last_selected: None, reserve: 0, disabled: false, blocked: None }
}

fn order(ranked: &[Ranked]) -> Vec<(&str, Rule)> {
    ranked.iter().map(|r| (r.name.as_str(), r.rule)).collect()
}

#[test]
fn the_example_of_the_rule_by_hand() {
    // ln(0.62 / (273600/604800)) + 0.25 * (0.81 - 7800/18000) - 0.10 = 0.31520 + 0.09417 - 0.1
    let work = reading(&[(FIVE, 81.0, 7_800), (WEEK, 62.0, 273_600)]);
    let ranked = rank(&[Candidate { active: 1, ..candidate("work", &work) }], NOW, None);
    assert!((ranked[0].score.unwrap() - 0.309_36).abs() < 1e-4, "{ranked:?}");
    assert_eq!(ranked[0].numbers, "week 62% left / 3d 4h (pace x1.37), 5h 81% (2h 10m), 1 active -> 0.31");
    assert_eq!(ranked[0].rule, Rule::Pace);
}

#[test]
fn most_left_for_the_time_left_goes_first() {
    // a: ln(0.5 / 0.5) = 0; b: ln(0.3 / 0.25) = 0.1823; c: ln(0.9 / 0.95) = -0.0541
    let a = reading(&[(WEEK, 50.0, 302_400)]);
    let b = reading(&[(WEEK, 30.0, 151_200)]);
    let c = reading(&[(WEEK, 90.0, 574_560)]);
    let ranked = rank(&[candidate("a", &a), candidate("b", &b), candidate("c", &c)], NOW, None);
    assert_eq!(order(&ranked), [("b", Rule::Pace), ("a", Rule::Pace), ("c", Rule::Pace)]);
    assert!((ranked[0].score.unwrap() - 0.182_32).abs() < 1e-4);
    assert!((ranked[2].score.unwrap() + 0.054_07).abs() < 1e-4);
}

#[test]
fn the_last_hundredth_of_the_period_does_not_blow_the_pace_up() {
    // T/P is at least 0.01: ln(0.5 / 0.01) = 3.9120
    let a = reading(&[(WEEK, 50.0, 60)]);
    assert!((rank(&[candidate("a", &a)], NOW, None)[0].score.unwrap() - 3.912_02).abs() < 1e-4);
    // Clipped: ln(0.001 / 1) = -6.9
    let b = Reading { windows: vec![Window { resets_at: None, ..window(WEEK, 0.1, 0) }], ..reading(&[]) };
    assert!((rank(&[candidate("b", &b)], NOW, None)[0].score.unwrap() + 5.0).abs() < 1e-9);
}

#[test]
fn rule_a_starts_an_idle_clock_half_a_share_after_the_newest() {
    let idle = reading(&[(FIVE, 100.0, FIVE), (WEEK, 100.0, WEEK)]);
    // N = 2: the newest running clock may have 3/4 of its period left, 453,600 s.
    let at_limit = reading(&[(WEEK, 90.0, 453_600)]);
    let ranked = rank(&[candidate("a", &at_limit), candidate("b", &idle)], NOW, None);
    assert_eq!(order(&ranked), [("b", Rule::Start), ("a", Rule::Pace)]);
    let newer = reading(&[(WEEK, 90.0, 453_601)]);
    let ranked = rank(&[candidate("a", &newer), candidate("b", &idle)], NOW, None);
    assert_eq!(order(&ranked), [("a", Rule::Pace), ("b", Rule::Spare)]);
    assert!(ranked[1].numbers.contains("week 100% left, not started, 5h 100% (not started)"), "{}", ranked[1].numbers);
}

#[test]
fn rule_a_counts_exhausted_clocks_and_takes_the_lowest_order() {
    let idle = reading(&[(WEEK, 100.0, WEEK)]);
    let spent = reading(&[(WEEK, 0.0, 574_560)]); // T/P 0.95
    let running = reading(&[(WEEK, 10.0, 60_480)]); // T/P 0.10
    // N = 4: 1 - 0.125 = 0.875 < 0.95, so no start.
    let all = [candidate("a", &spent), candidate("b", &running), candidate("c", &idle), candidate("d", &idle)];
    let expected = [("b", Rule::Pace), ("c", Rule::Spare), ("d", Rule::Spare), ("a", Rule::Ineligible)];
    assert_eq!(order(&rank(&all, NOW, None)), expected);
    // Nobody eligible runs: start, whatever the exhausted clock says.
    let ranked = rank(&[all[0].clone(), all[2].clone(), all[3].clone()], NOW, None);
    assert_eq!(order(&ranked), [("c", Rule::Start), ("d", Rule::Spare), ("a", Rule::Ineligible)]);
    assert!(ranked[2].numbers.ends_with("-> no: exhausted"), "{}", ranked[2].numbers);
    // A reset that passed is an idle clock.
    let past = Reading { windows: vec![Window { resets_at: Some(NOW), ..window(WEEK, 0.0, 0) }], ..reading(&[]) };
    assert_eq!(order(&rank(&[candidate("a", &past)], NOW, None)), [("a", Rule::Start)]);
}

#[test]
fn accounts_without_login_do_not_count_as_enabled() {
    let idle = reading(&[(WEEK, 100.0, WEEK)]);
    let running = reading(&[(WEEK, 90.0, 483_840)]); // T/P 0.80: more than 0.75 (N = 2), less than 0.833 (N = 3)
    let out = Candidate { blocked: Some("no-auth".to_owned()), ..unmeasured("out") };
    let two = [candidate("a", &running), candidate("b", &idle), out];
    assert_eq!(order(&rank(&two, NOW, None))[0], ("a", Rule::Pace));
    let three = [candidate("a", &running), candidate("b", &idle), unmeasured("c")];
    assert_eq!(order(&rank(&three, NOW, None))[0], ("b", Rule::Start));
}

#[test]
fn a_disabled_accounts_clock_counts_for_nothing() {
    let idle = reading(&[(WEEK, 100.0, WEEK)]);
    let running = reading(&[(WEEK, 90.0, 453_600)]); // T/P 0.75: N = 2 starts
    let newest = reading(&[(WEEK, 90.0, 600_000)]);
    let all = |disabled| {
        let off = Candidate { disabled, ..candidate("off", &newest) };
        [candidate("a", &running), candidate("b", &idle), off]
    };
    assert_eq!(order(&rank(&all(false), NOW, None))[0].1, Rule::Pace);
    let all = all(true);
    let ranked = rank(&all, NOW, None);
    assert_eq!(order(&ranked), [("b", Rule::Start), ("a", Rule::Pace), ("off", Rule::Ineligible)]);
    assert!(ranked[2].numbers.ends_with("0 active -> no: disabled"), "{}", ranked[2].numbers);
}

#[test]
fn room_in_the_short_window_goes_before_the_score() {
    // a: ln(0.9/0.5) = 0.588 but 19 % of 5 h; b: ln(0.4/0.5) = -0.223 and exactly 20 %.
    let a = reading(&[(FIVE, 19.0, 9_000), (WEEK, 90.0, 302_400)]);
    let b = reading(&[(FIVE, 20.0, 9_000), (WEEK, 40.0, 302_400)]);
    let both = [candidate("a", &a), candidate("b", &b)];
    assert_eq!(order(&rank(&both, NOW, None)), [("b", Rule::Pace), ("a", Rule::Thin)]);
    // A short window alone stands in for the long one and still has to have room.
    let only_short = reading(&[(FIVE, 19.0, 9_000)]);
    let ranked = rank(&[candidate("s", &only_short), candidate("b", &b)], NOW, None);
    assert_eq!(order(&ranked), [("b", Rule::Pace), ("s", Rule::Thin)]);
    // ln(0.19 / 0.5), no term for the short window.
    assert!((ranked[1].score.unwrap() + 0.967_58).abs() < 1e-4);
}

#[test]
fn unmeasured_accounts_come_after_the_roomy_ones() {
    let roomy = reading(&[(FIVE, 50.0, 9_000), (WEEK, 1.5, 302_400)]);
    let thin = reading(&[(FIVE, 10.0, 9_000), (WEEK, 90.0, 302_400)]);
    let empty = reading(&[]);
    let ranked =
        rank(&[candidate("e", &empty), candidate("t", &thin), unmeasured("u"), candidate("r", &roomy)], NOW, None);
    let expected = [("r", Rule::Pace), ("e", Rule::Unmeasured), ("u", Rule::Unmeasured), ("t", Rule::Thin)];
    assert_eq!(order(&ranked), expected);
    assert_eq!((ranked[2].score, ranked[2].numbers.as_str()), (None, "quota unknown, 0 active"));
    let idle = reading(&[(WEEK, 100.0, WEEK)]);
    let fresh = reading(&[(FIVE, 10.0, 9_000), (WEEK, 90.0, 590_000)]);
    let ranked = rank(&[unmeasured("u"), candidate("i", &idle), candidate("t", &fresh)], NOW, None);
    assert_eq!(order(&ranked), [("t", Rule::Thin), ("i", Rule::Spare), ("u", Rule::Unmeasured)]);
}

#[test]
fn load_weighs_more_on_small_plans() {
    let plus = reading(&[(WEEK, 50.0, 302_400)]);
    let pro = Reading { plan: Some("Pro".to_owned()), ..plus.clone() };
    let busy = |c: Candidate<'static>| Candidate { active: 2, ..c };
    let (plus, pro) = (Box::leak(Box::new(plus)), Box::leak(Box::new(pro)));
    let ranked = rank(&[busy(candidate("plus", plus)), busy(candidate("pro", pro))], NOW, None);
    assert_eq!(ranked[0].name, "pro");
    // 0.10 * 2 * 6.67/6.67 and 0.10 * 2 * 6.67/1
    assert!((ranked[0].score.unwrap() + 0.2).abs() < 1e-9);
    assert!((ranked[1].score.unwrap() + 1.334).abs() < 1e-9);
}

#[test]
fn ties_go_to_the_least_recently_selected_then_to_profile_order() {
    let r = reading(&[(WEEK, 50.0, 302_400)]);
    let used = |name, at| Candidate { last_selected: at, ..candidate(name, &r) };
    let ranked = rank(&[used("a", Some(20)), used("b", Some(10)), used("c", None), used("d", None)], NOW, None);
    assert_eq!(ranked.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["c", "d", "b", "a"]);
}

#[test]
fn a_fresh_session_soon_after_the_last_one_stays_if_there_is_room() {
    let good = reading(&[(WEEK, 90.0, 302_400)]);
    let fair = reading(&[(FIVE, 40.0, 9_000), (WEEK, 40.0, 302_400)]);
    let thin = reading(&[(FIVE, 10.0, 9_000), (WEEK, 40.0, 302_400)]);
    let pick = |second: &Reading, blocked: Option<&str>, at| {
        let second = Candidate { blocked: blocked.map(str::to_owned), ..candidate("b", second) };
        let ranked = rank(&[candidate("a", &good), second], NOW, Some(("b", at)));
        (ranked[0].name.clone(), ranked[0].rule)
    };
    assert_eq!(pick(&fair, None, NOW - 60), ("b".to_owned(), Rule::Guard));
    assert_eq!(pick(&fair, None, NOW - 61), ("a".to_owned(), Rule::Pace));
    assert_eq!(pick(&thin, None, NOW), ("a".to_owned(), Rule::Pace));
    assert_eq!(pick(&fair, Some("backoff"), NOW), ("a".to_owned(), Rule::Pace));
    assert_eq!(pick(&fair, None, NOW + 3_600), ("a".to_owned(), Rule::Pace), "a pick in the future is a bad clock");
}

#[test]
fn nobody_and_nobody_eligible() {
    assert!(rank(&[], NOW, Some(("a", NOW))).is_empty());
    let r = reading(&[(WEEK, 50.0, 302_400)]);
    let ranked = rank(&[Candidate { blocked: Some("backoff 20s".to_owned()), ..candidate("a", &r) }], NOW, None);
    assert!(!ranked[0].eligible);
    assert!(ranked[0].numbers.ends_with("-> no: backoff 20s"), "{}", ranked[0].numbers);
}
