use super::*;
use crate::quota::Credits;

const NOW: u64 = 1_795_574_904;
const WEEK: u64 = 604_800;
const FIVE: u64 = 18_000;

fn window(length: u64, used: f64, resets_at: u64) -> Window {
    Window { length, used_percent: Some(used), resets_at: Some(resets_at) }
}

fn reading(taken_at: u64, windows: Vec<Window>) -> Reading {
    Reading { windows, taken_at, ..Reading::default() }
}

fn known(snapshots: &Snapshots) -> &Snapshot {
    snapshots.of("a", "x").unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let full = Reading {
        plan: Some("plus".to_owned()),
        email: Some("a@b \"c\"".to_owned()),
        windows: vec![window(FIVE, 37.5, NOW + 60), Window { length: WEEK, used_percent: None, resets_at: None }],
        other_limits: vec![Limit { name: "Spark".to_owned(), windows: vec![window(WEEK, 100.0, NOW + 99)] }],
        limit_reached: true,
        reached_type: Some("rate_limit_reached".to_owned()),
        credits: Some(Credits { has_credits: true, unlimited: false, balance: Some("12.5".to_owned()) }),
        reset_credits: Some(2),
        taken_at: NOW,
    };
    let mut snapshots = Snapshots::default();
    assert!(snapshots.claim("a", "x", NOW - 40));
    assert!(snapshots.learn("a", "x", &full, Extent::Whole));
    snapshots.failed("b", "y", "no answer in time");
    assert_eq!(Snapshots::parse(snapshots.text().as_bytes(), NOW), snapshots);
    let latest = Snapshots::parse_latest(snapshots.text().as_bytes(), NOW);
    for (name, snapshot) in &snapshots.profiles {
        let known = latest.of(name, &snapshot.account).expect("is there");
        assert_eq!((&known.reading, known.samples.len()), (&snapshot.reading, 0));
    }
    assert_eq!(known(&snapshots).reading.as_ref(), Some(&full));
}

#[test]
fn what_cannot_be_read_is_not_there() {
    let mut snapshots = Snapshots::default();
    snapshots.learn("a", "x", &reading(NOW, vec![window(FIVE, 1.0, NOW)]), Extent::Whole);
    let text = snapshots.text();
    for end in 0..text.len() {
        assert_eq!(Snapshots::parse(&text.as_bytes()[..end], NOW), Snapshots::default(), "{end}");
    }
    assert_eq!(
        Snapshots::parse(text.replacen("\"version\":1", "\"version\":2", 1).as_bytes(), NOW),
        Snapshots::default()
    );
    let odd = br#"{"version":1,"profiles":{"a":{"account":"x","taken_at":-1,"usage":[],"asked_at":"soon","problem":7,
        "samples":[{"at":1e300},{"windows":{}},7,{"at":5,"windows":7}]},"b":7,"c":{}}}"#;
    let odd = Snapshots::parse(odd, NOW);
    assert_eq!((known(&odd).reading.clone(), known(&odd).asked_at, known(&odd).pace(WEEK, NOW)), (None, 0, None));
    assert_eq!(odd.profiles.len(), 1);
}

#[test]
fn a_call_at_most_every_interval_and_none_while_the_traffic_tells() {
    let mut snapshots = Snapshots::default();
    let rows = [(NOW, true), (NOW + 1, false), (NOW + INTERVAL - 1, false), (NOW + INTERVAL, true)];
    for (now, may) in rows {
        assert_eq!(snapshots.claim("a", "x", now), may, "{now}");
    }
    let told = NOW + INTERVAL + 20;
    snapshots.learn("a", "x", &reading(told, vec![window(FIVE, 1.0, NOW + 99)]), Extent::Part);
    assert!(!snapshots.claim("a", "x", NOW + 2 * INTERVAL));
    assert!(snapshots.claim("a", "x", told + INTERVAL));
    // Another login of the same profile is another account.
    assert!(snapshots.claim("a", "y", told + INTERVAL));
    // The clock was far ahead and is right again.
    snapshots.asked("a", "y", NOW + 1_000_000);
    assert!(snapshots.claim("a", "y", NOW));
}

#[test]
fn a_part_adds_to_what_is_known_and_an_older_reading_to_nothing() {
    let mut snapshots = Snapshots::default();
    let usage = Reading {
        email: Some("a@b".to_owned()),
        other_limits: vec![Limit { name: "Spark".to_owned(), windows: vec![window(WEEK, 3.0, NOW + 9)] }],
        ..reading(NOW, vec![window(FIVE, 10.0, NOW + 600), window(WEEK, 20.0, NOW + 90_000)])
    };
    snapshots.learn("a", "x", &usage, Extent::Whole);
    let part = Reading { plan: Some("pro".to_owned()), ..reading(NOW + 5, vec![window(FIVE, 11.0, NOW + 600)]) };
    assert!(snapshots.learn("a", "x", &part, Extent::Part));
    let merged = known(&snapshots).reading.clone().unwrap();
    assert_eq!(merged.windows, [window(FIVE, 11.0, NOW + 600), window(WEEK, 20.0, NOW + 90_000)]);
    assert_eq!((merged.email.as_deref(), merged.plan.as_deref()), (Some("a@b"), Some("pro")));
    assert_eq!((merged.other_limits.len(), merged.taken_at), (1, NOW + 5));
    // Another model's limit says nothing of the main one.
    let mut reached = reading(NOW + 6, vec![]);
    (reached.limit_reached, reached.reached_type) = (true, Some("rate_limit_reached".to_owned()));
    snapshots.learn("a", "x", &reached, Extent::Part);
    let other = Reading {
        other_limits: vec![Limit { name: "Spark".to_owned(), windows: vec![window(WEEK, 4.0, NOW + 9)] }],
        ..reading(NOW + 7, vec![])
    };
    snapshots.learn("a", "x", &other, Extent::Part);
    let merged = known(&snapshots).reading.clone().unwrap();
    assert!(merged.limit_reached && merged.other_limits == other.other_limits);
    assert!(!snapshots.learn("a", "x", &usage, Extent::Whole), "older");
    assert!(!snapshots.learn("a", "x", &reading(NOW + 7, vec![]), Extent::Part), "no news");
    // And makes it no younger: the main windows are as old as they were.
    assert_eq!(known(&snapshots).reading.as_ref().unwrap().taken_at, NOW + 6);
    assert!(!snapshots.learn("b", "x", &other, Extent::Part), "alone it would pass for a reading");
    assert_eq!(snapshots.of("b", "x").unwrap().reading, None);
}

#[test]
fn the_pace_is_what_was_used_up_in_the_last_hour() {
    let at = |minutes: u64| NOW - 3_600 + 60 * minutes;
    let of = |points: &[(u64, f64, u64)], now: u64| {
        let mut snapshots = Snapshots::default();
        for (minute, used, resets_at) in points {
            snapshots.learn("a", "x", &reading(at(*minute), vec![window(WEEK, *used, *resets_at)]), Extent::Part);
        }
        let again = Snapshots::parse(snapshots.text().as_bytes(), NOW);
        known(&again).pace(WEEK, now).map(|pace| (pace * 100.0).round() / 100.0)
    };
    let far = NOW + 500_000;
    assert_eq!(of(&[(0, 10.0, far), (30, 14.0, far), (60, 16.0, far)], NOW), Some(6.0));
    assert_eq!(of(&[(55, 10.0, far), (60, 16.0, far)], NOW), None, "too little is known");
    assert_eq!(of(&[(30, 10.0, far), (60, 13.0, far)], NOW), Some(6.0), "half an hour, doubled");
    assert_eq!(of(&[(0, 90.0, at(30)), (40, 2.0, far), (60, 4.0, far)], NOW), Some(4.0), "a reset in between");
    assert_eq!(of(&[(0, 10.0, far), (20, 10.0, far)], NOW), Some(0.0), "nobody worked");
    assert_eq!(of(&[(0, 10.0, far), (60, 16.0, far)], NOW + 1_800), Some(3.0), "half of it is longer ago");
    assert_eq!(
        known(&{
            let mut snapshots = Snapshots::default();
            for minute in 0..10_000 {
                let used = (minute % 100) as f64;
                snapshots.learn("a", "x", &reading(NOW + 60 * minute, vec![window(WEEK, used, far)]), Extent::Part);
            }
            snapshots
        })
        .samples
        .len(),
        62,
        "an hour, and one before it"
    );
}

#[test]
fn samples_out_of_order_are_put_in_order() {
    let sample = |at: u64, used: f64| {
        let windows = usage::written_windows(&[window(WEEK, used, NOW + 9_999)]).compact();
        format!(r#"{{"at":{at},"windows":{windows}}}"#)
    };
    let samples = [sample(NOW - 60, 12.0), sample(NOW - 1_860, 10.0), sample(NOW - 960, 11.0)].join(",");
    let text = format!(
        r#"{{"version":1,"profiles":{{"a":{{"account":"x","asked_at":0,"taken_at":{NOW},"usage":null,"samples":[{samples}]}}}}}}"#
    );
    let pace = known(&Snapshots::parse(text.as_bytes(), NOW)).pace(WEEK, NOW).expect("a pace");
    assert!((pace - 2.0 * 3_600.0 / 1_860.0).abs() < 1e-9, "{pace}");
}
