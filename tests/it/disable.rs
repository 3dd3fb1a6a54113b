//! `profile disable | enable | reserve`: what they write and show, and what a run makes of it. The rule of the reserve has its
//! tables in `quota/schedule/tests.rs`.

use crate::support::space::TestSpace;
use crate::support::standin::json::Json;
use std::fs;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn ok(space: &TestSpace, args: &[&str]) -> String {
    space.prodex(args).output().expect(0).stdout
}

/// The members of a profile's entry in `state.json`.
fn member(space: &TestSpace, profile: &str, name: &str) -> Option<String> {
    let state = Json::parse(&fs::read(space.state_file()).expect("state.json")).expect("JSON");
    state.get("profiles")?.get(profile)?.get(name).map(|value| format!("{value:?}"))
}

#[test]
fn what_is_set_is_shown_and_gone_when_it_is_taken_back() {
    let space = TestSpace::new("disable");
    space.profiles(&NAMES);
    let before = fs::read_to_string(space.state_file()).expect("state.json");
    let said = ok(&space, &["profile", "disable", "alpha"]);
    assert!(
        said.contains("Disabled profile 'alpha'.") && said.contains("Next:      It is the active profile"),
        "{said}"
    );
    let said = ok(&space, &["profile", "reserve", "beta", "20%"]);
    assert!(said.contains("20% of each window of profile 'beta' is kept back."), "{said}");
    let list = ok(&space, &["profile", "list"]);
    assert!(
        list.contains("Rotation:  disabled\n") && list.contains("Rotation:  20% of each window kept back\n"),
        "{list}"
    );
    let json = ok(&space, &["profile", "list", "--json"]);
    assert!(json.contains("\"disabled\": true") && json.contains("\"reserve_percent\": 20"), "{json}");
    assert_eq!((member(&space, "gamma", "disabled"), member(&space, "gamma", "reserve_percent")), (None, None));
    let used = space.prodex(&["use", "alpha"]).output().expect(0);
    assert!(used.stderr.contains("'alpha' is disabled") && used.stderr.lines().count() == 1, "{}", used.stderr);
    ok(&space, &["profile", "enable", "alpha"]);
    ok(&space, &["profile", "reserve", "beta", "0"]);
    let after = fs::read_to_string(space.state_file()).expect("state.json");
    assert_eq!(Json::parse(after.as_bytes()), Json::parse(before.as_bytes()), "0.2.38's file again");
}

#[test]
fn a_wrong_word_changes_nothing() {
    let space = TestSpace::new("disable-wrong");
    space.profiles(&NAMES);
    let before = fs::read(space.state_file()).expect("state.json");
    for (args, code, what) in [
        (&["profile", "disable", "nobody"][..], 1, "profile 'nobody' does not exist"),
        (&["profile", "enable", "nobody"], 1, "profile 'nobody' does not exist"),
        (&["profile", "reserve", "nobody", "5"], 1, "profile 'nobody' does not exist"),
        (&["profile", "reserve", "alpha", "100"], 2, "'100' is not a percentage from 0 to 99"),
        (&["profile", "reserve", "alpha", "1.5"], 2, "'1.5' is not a percentage"),
        (&["profile", "reserve", "alpha"], 2, "PERCENT is missing"),
        (&["profile", "disable"], 2, "NAME is missing"),
    ] {
        let output = space.prodex(args).output().expect(code);
        assert!(output.stderr.contains(what), "{args:?}: {}", output.stderr);
    }
    assert_eq!(fs::read(space.state_file()).expect("state.json"), before);
}
