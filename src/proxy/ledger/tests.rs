use super::*;
use crate::state::scratch::Scratch;

const A: ProfileId = ProfileId(0);
const B: ProfileId = ProfileId(1);
const QUOTA: Trouble = Trouble::Quota { resets_at: None, retry_after: None };

fn ledger(scratch: &Scratch) -> Ledger {
    let accounts = ["a".to_owned(), "b".to_owned()];
    Ledger::new(&accounts, A, Share::open(&scratch.config()))
}

#[test]
fn another_profile_becomes_the_current_one_when_the_one_before_cannot_serve() {
    let scratch = Scratch::new("current");
    let ledger = ledger(&scratch);
    assert_eq!(ledger.commit(B, None).before, None, "an owner's chain moves nobody else");
    ledger.record(A, &QUOTA, Lane::Responses, 0);
    assert_eq!(ledger.commit(A, None).before, None, "it serves, whatever was said of it");
    assert_eq!(ledger.commit(B, None).before, Some(A));
    assert_eq!(ledger.commit(B, None).before, None);
    assert_eq!(ledger.commit(A, None).before, None, "the new one still serves");
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
