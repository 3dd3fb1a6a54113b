use super::*;
use crate::quota::Window;
use crate::state::scratch::Scratch;

const A: ProfileId = ProfileId(0);
const B: ProfileId = ProfileId(1);
const QUOTA: Trouble = Trouble::Quota { resets_at: None, retry_after: None };

fn account(name: &str) -> Account {
    Account { id: Some(name.to_owned()), seat: name.to_owned() }
}

fn ledger(scratch: &Scratch) -> Ledger {
    Ledger::new(vec![account("a"), account("b")], A, Share::open(&scratch.config()))
}

/// What all runs know to be wrong with it.
fn marks(ledger: &Ledger, id: ProfileId) -> Marks {
    ledger.share.marks(ledger.seat(id).unwrap(), clock::unix())
}

/// A usage call that says ready, so many seconds from now.
fn ready(seconds: u64) -> Reading {
    let windows = vec![Window { length: 18_000, used_percent: Some(10.0), resets_at: None }];
    Reading { windows, taken_at: clock::unix() + seconds, ..Reading::default() }
}

const MOMENT: Duration = Duration::from_millis(2);

#[test]
fn another_profile_becomes_the_current_one_when_the_one_before_cannot_serve() {
    let scratch = Scratch::new("current");
    let ledger = ledger(&scratch);
    assert_eq!(ledger.commit(B, None).before, None, "an owner's chain moves nobody else");
    ledger.record(&ledger.ask_about(A), &QUOTA, Lane::Responses, 0);
    assert_eq!(ledger.commit(A, None).before, None, "it serves, whatever was said of it");
    assert_eq!(ledger.commit(B, None).before, Some(A));
    assert_eq!(ledger.commit(B, None).before, None);
    assert_eq!(ledger.commit(A, None).before, None, "the new one still serves");
}

#[test]
fn what_the_backend_says_of_a_quota_ends_older_marks_only() {
    let scratch = Scratch::new("has-quota");
    let ledger = ledger(&scratch);
    let marks = || marks(&ledger, A);
    let usable = || ledger.lock().health[0].usable(0, clock::now());
    ledger.record(&ledger.ask_about(A), &QUOTA, Lane::Responses, 0);
    std::thread::sleep(Duration::from_millis(2));
    let asked = ledger.ask_about(A);
    // What is counted comes later than what is refused.
    ledger.has_quota(&asked, &ready(59));
    assert!(marks().quota_until.is_some() && usable() != Usable::Yes);
    ledger.has_quota(&asked, &ready(61));
    assert_eq!((marks(), usable()), (Marks::default(), Usable::Yes));
    std::thread::sleep(Duration::from_millis(2));
    // A refusal came while the question was on its way.
    ledger.record(&ledger.ask_about(A), &QUOTA, Lane::Responses, 0);
    ledger.has_quota(&asked, &ready(61));
    assert!(marks().quota_until.is_some() && usable() != Usable::Yes);
}

#[test]
fn another_account_in_a_profile_inherits_nothing() {
    let scratch = Scratch::new("reseat");
    let ledger = ledger(&scratch);
    ledger.record(&ledger.ask_about(A), &QUOTA, Lane::Responses, 0);
    ledger.hold(A, Some(clock::now() + Duration::from_secs(60)));
    let old = ledger.enter(A);
    ledger.reseat(A, account("another"));
    assert_eq!((marks(&ledger, A), ledger.inflight(A)), (Marks::default(), 0));
    assert!(ledger.hold(A, Some(clock::now() + Duration::from_secs(60))), "it was not held any more");
    // What was in progress under the old one ends there.
    let new = ledger.enter(A);
    drop(old);
    assert_eq!(ledger.inflight(A), 1);
    drop(new);
    ledger.reseat(A, account("a"));
    assert!(marks(&ledger, A).quota_until.is_some(), "the old one is still out");
    assert_eq!(ledger.inflight(A), 0);
}

#[test]
fn what_befalls_the_account_before_says_nothing_of_the_present_one() {
    let scratch = Scratch::new("before");
    let ledger = ledger(&scratch);
    let old = ledger.enter(A);
    ledger.reseat(A, account("another"));
    ledger.record(&old, &QUOTA, Lane::Responses, 7);
    assert_eq!(marks(&ledger, A), Marks::default());
    ledger.record(&ledger.ask_about(A), &QUOTA, Lane::Responses, 7);
    std::thread::sleep(MOMENT);
    ledger.succeed(&old, Lane::Responses, None);
    assert!(marks(&ledger, A).quota_until.is_some(), "nor does its success");
}

#[test]
fn a_success_clears_each_mark_that_is_older() {
    let scratch = Scratch::new("clears");
    let ledger = ledger(&scratch);
    let (unix, seat) = (clock::unix(), ledger.seat(A).unwrap());
    ledger.share.mark_quota(seat, unix + 500_000, unix);
    ledger.share.mark_transport(seat, unix + 15, unix);
    let serving = ledger.enter(A);
    // One of them grew meanwhile.
    ledger.share.mark_transport(seat, unix + 30, unix);
    ledger.succeed(&serving, Lane::Responses, None);
    assert_eq!(marks(&ledger, A), Marks { transport_until: Some(unix + 30), ..Marks::default() });
    // Marks that ran out in the middle keep the others no longer.
    ledger.share.mark_quota(seat, unix + 500_000, unix);
    let ended = ledger.share.marks(seat, unix + 31);
    assert_eq!(ended, Marks { quota_until: Some(unix + 500_000), ..Marks::default() });
    ledger.succeed(&ledger.enter(A), Lane::Responses, None);
    assert_eq!(marks(&ledger, A), Marks::default());
}

#[test]
fn what_is_about_a_request_says_nothing_of_the_account() {
    let scratch = Scratch::new("request");
    let ledger = ledger(&scratch);
    for trouble in [Trouble::ForeignContent, Trouble::UnknownResponse] {
        ledger.record(&ledger.ask_about(A), &Trouble::Transport, Lane::Responses, 0);
        std::thread::sleep(MOMENT);
        let serving = ledger.enter(A);
        std::thread::sleep(MOMENT);
        ledger.record(&ledger.ask_about(A), &trouble, Lane::Responses, 0);
        ledger.succeed(&serving, Lane::Responses, None);
        assert_eq!(marks(&ledger, A), Marks::default(), "{trouble:?}");
    }
}

#[test]
fn one_break_that_ends_many_exchanges_counts_once() {
    let scratch = Scratch::new("break");
    let ledger = ledger(&scratch);
    let five: Vec<Serving> = (0..5).map(|_| ledger.enter(A)).collect();
    let waits: Vec<_> = five
        .iter()
        .map(|serving| {
            std::thread::sleep(MOMENT);
            ledger.record(serving, &Trouble::Transport, Lane::Responses, 0).unwrap().backoff
        })
        .collect();
    assert_eq!(waits, [Some(Backoff::Transport(Duration::from_secs(15))); 5]);
    assert_eq!(ledger.lock().health[0].penalty(Lane::Responses, clock::now()), 4);
    let next = ledger.enter(A);
    let recorded = ledger.record(&next, &Trouble::Transport, Lane::Responses, 0).unwrap();
    assert_eq!(
        recorded.backoff,
        Some(Backoff::Transport(Duration::from_secs(30))),
        "what began after it is another one"
    );
}

#[test]
fn who_is_out_by_what_others_say_is_no_longer_the_current_one() {
    let scratch = Scratch::new("others-say");
    let (one, two) = (ledger(&scratch), ledger(&scratch));
    two.record(&two.ask_about(A), &QUOTA, Lane::Responses, 0);
    assert_eq!(one.commit(B, None).before, Some(A));
}

#[test]
fn who_is_at_its_cap_is_no_alternative() {
    let scratch = Scratch::new("cap");
    let ledger = ledger(&scratch);
    let wallet = Wallet::new((0..2).map(|n| scratch.path(&n.to_string())));
    let ask = Ask { tried: vec![A], ..Ask::default() };
    let busy: Vec<Serving> = (1..select::HARD_CAP).map(|_| ledger.enter(B)).collect();
    assert!(ledger.has_alternative(&ask, A, &wallet));
    let last = ledger.enter(B);
    assert!(!ledger.has_alternative(&ask, A, &wallet));
    assert_eq!(ledger.select(&ask, Lane::Responses, &wallet), Decision::Refuse);
    drop((busy, last));
}

#[test]
fn what_claims_ask_for() {
    let scratch = Scratch::new("claims");
    let ledger = ledger(&scratch);
    ledger.learn(Key::Response("r"), B);
    ledger.learn(Key::TurnState("t"), A);
    ledger.learn(Key::Session("s"), B);
    let claims = |response: &'static str, turn_state: &'static str, session: &'static str| Claims {
        previous_response: (!response.is_empty()).then(|| response.into()),
        turn_state: (!turn_state.is_empty()).then_some(turn_state),
        session: (!session.is_empty()).then_some(session),
    };
    // Response, turn state, session, session-scoped; owner, movable, session.
    let table = [
        ("nothing: fresh work", claims("", "", ""), false, None, true, None),
        ("a session is a preference", claims("", "", "s"), false, None, true, Some(B)),
        ("on a session-scoped route it decides", claims("", "", "s"), true, Some(B), true, Some(B)),
        ("a turn state decides, with full input", claims("", "t", "s"), false, Some(A), true, Some(B)),
        ("a response decides above all", claims("r", "t", ""), false, Some(B), false, None),
        ("one that nobody owns may be anybody's", claims("x", "", ""), false, None, false, None),
        ("or the turn state's", claims("x", "t", ""), true, Some(A), false, None),
    ];
    for (name, claims, by_session, owner, movable, session) in table {
        let expected = Ask { owner, movable, session, tried: Vec::new() };
        assert_eq!(ledger.ask(&claims, by_session), expected, "{name}");
    }
}

#[test]
fn a_session_bounces_four_times_until_it_is_answered() {
    let scratch = Scratch::new("bounces");
    let ledger = ledger(&scratch);
    assert_eq!([1, 2, 3, 4, 5].map(|_| ledger.bounce("s", 4)), [true, true, true, true, false]);
    assert!(ledger.bounce("t", 4), "another one's count");
    let serving = ledger.enter(A);
    ledger.succeed(&serving, Lane::WebSocket, Some("s"));
    assert!(ledger.bounce("s", 4));
    for n in 0..2 * MAX_BOUNCING {
        assert!(ledger.bounce(&n.to_string(), 4));
    }
    assert!(ledger.lock().bounces.len() <= MAX_BOUNCING);
}

#[test]
fn an_old_success_clears_no_newer_mark_of_another_run() {
    let scratch = Scratch::new("older");
    let (one, other) = (ledger(&scratch), ledger(&scratch));
    let serving = one.enter(A);
    other.record(&other.ask_about(A), &QUOTA, Lane::Responses, 7);
    one.succeed(&serving, Lane::Responses, None);
    assert!(marks(&one, A).quota_until.is_some());
    let serving = one.enter(A);
    one.succeed(&serving, Lane::Responses, None);
    assert_eq!(marks(&one, A), Marks::default(), "a newer one does");
}

#[test]
fn who_is_out_or_kept_back_is_no_alternative() {
    let scratch = Scratch::new("alternative");
    let ledger = ledger(&scratch);
    let wallet = Wallet::new((0..2).map(|n| scratch.path(&n.to_string())));
    let other = || ledger.has_alternative(&Ask::default(), A, &wallet);
    assert!(other());
    ledger.hold(B, Some(clock::now() + Duration::from_secs(60)));
    assert!(!other(), "kept back");
    ledger.hold(B, None);
    assert!(other());
    ledger.record(&ledger.ask_about(B), &QUOTA, Lane::Responses, 7);
    assert!(!other(), "out");
}

/// `cargo test --release --lib -- --ignored --nocapture figures_of_selection`
#[test]
#[ignore = "measures; run by hand in a release build"]
fn figures_of_selection() {
    use crate::proxy::affinity::{MAX_RESPONSES, MAX_SESSIONS, MAX_TURN_STATES};
    let scratch = Scratch::new("figures");
    let accounts = (0..10).map(|n| account(&format!("account-{n}"))).collect();
    let ledger = Ledger::new(accounts, A, Share::open(&scratch.config()));
    let wallet = Wallet::new((0..10).map(|n| scratch.path(&n.to_string())));
    let inside: Vec<Serving> = (0..40).map(|n| ledger.enter(ProfileId(n % 10))).collect();
    ledger.record(&ledger.ask_about(A), &QUOTA, Lane::Responses, 0);
    ledger.record(&ledger.ask_about(B), &Trouble::Transport, Lane::Responses, 0);
    let rounds = 100_000_u32;
    let measure = |what: &str, work: &dyn Fn(u32)| {
        let best = (0..5).map(|_| {
            let began = clock::now();
            (0..rounds).for_each(work);
            began.elapsed() / rounds
        });
        println!("{what}: {:?}", best.min().unwrap_or_default());
    };
    let claims = |n: u32| Claims {
        previous_response: Some(format!("resp_{:032}", n as usize % MAX_RESPONSES).into()),
        ..Claims::default()
    };
    for filled in [false, true] {
        if filled {
            for n in 0..MAX_RESPONSES {
                ledger.learn(Key::Response(&format!("resp_{n:032}")), B);
            }
            for n in 0..MAX_SESSIONS.max(MAX_TURN_STATES) {
                ledger.learn(Key::Session(&format!("session-{n:032}")), B);
                ledger.learn(Key::TurnState(&format!("{n:0400}")), B);
            }
        }
        println!("{} bindings", if filled { "16,384 + 4,096 + 4,096" } else { "no" });
        measure("  fresh work, 10 profiles", &|_| {
            let Decision::Use(id, _) = ledger.select(&Ask::default(), Lane::Responses, &wallet) else {
                panic!("nobody")
            };
            assert_ne!(id, A);
        });
        measure("  a chain: whose it is, and selection", &|n| {
            let ask = ledger.ask(&claims(n), false);
            assert_eq!(ask.owner.is_some(), filled);
            ledger.select(&ask, Lane::Responses, &wallet);
        });
    }
    drop(inside);
}
