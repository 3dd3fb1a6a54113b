//! Several runs of one user (spec S-22, S-55, S-57): what one of them does, finds out and binds, the others go by, however
//! it ends; and what they leave in state.json.

use crate::support::behind::{Behind, PATIENCE, until};
use crate::support::raw::{Client, Response};
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::{Behave, Point};
use crate::support::standin::gate::Gate;
use crate::support::standin::json::Json;
use crate::support::standin::record::Record;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const NAMES: [&str; 2] = ["alpha", "beta"];
/// So many streams make a profile a busy one.
const BUSY: usize = 8;

fn backend() -> Backend {
    Backend::start(Script::new(&NAMES))
}

fn posts(backend: &Backend, name: &str) -> Vec<Record> {
    backend.of(name, &Kind::Post)
}

/// Who answered.
#[track_caller]
fn served(answer: &Response) -> String {
    let text = answer.text();
    assert_eq!((answer.status, answer.whole), (200, true), "{text}");
    let name = text.split("Hello from ").nth(1).and_then(|rest| rest.split('.').next());
    name.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// The last thing that selection said in a run: `alpha Current None`.
fn chosen(run: &Behind) -> String {
    let told = run.space.marked(" candidate profile=").pop().expect("a candidate");
    let value =
        |key: &str| told.split_whitespace().find_map(|word| word.strip_prefix(key)).expect("a field").to_owned();
    format!("{} {} {}", value("profile="), value("why="), value("pinned="))
}

/// No quota for hours.
fn out() -> Behave {
    let at = token::unix_now() + 9_000;
    Behave::status(
        429,
        &format!(r#"{{"error":{{"type":"usage_limit_reached","message":"no more","resets_at":{at}}}}}"#),
    )
}

/// As many streams of alpha as make it busy have begun, and wait at the gate; what comes later is answered.
fn busy(run: &Behind, backend: &Backend, gate: &Gate) -> Vec<Client> {
    backend.set("alpha", Kind::Post, [Behave::ok().hold(gate, Point::AfterDeltas(1)).times(BUSY)]);
    let begun = |count: usize| {
        let wish = |records: &[Record]| {
            records.iter().filter(|record| record.is("alpha", &Kind::Post) && record.output_began).count() == count
        };
        backend.wait_for("streams that have begun", PATIENCE, wish);
    };
    let begin = |count| {
        let client = run.begin("{}");
        begun(count);
        client
    };
    (1..=BUSY).map(begin).collect()
}

// In flight

#[test]
fn what_one_run_has_in_flight_makes_a_profile_busy_for_the_other() {
    let (backend, gate) = (backend(), Gate::new());
    let first = Behind::start("inflight", &NAMES, &backend);
    let second = first.beside("alpha", false);
    let mut streams = busy(&first, &backend, &gate);
    assert_eq!(served(&second.ask_fresh("{}")), "beta");
    assert_eq!(chosen(&second), "beta Best None");
    gate.open();
    for stream in &mut streams {
        assert_eq!(served(&stream.response().expect("an answer")), "alpha");
    }
    until("nothing is in flight", || (served(&second.ask_fresh("{}")) == "alpha").then_some(()));
    assert_eq!(chosen(&second), "alpha Current None");
    assert_eq!(first.space.marked("worker_panic").len() + second.space.marked("state_save_error").len(), 0);
}

#[test]
fn what_a_killed_run_had_in_flight_is_forgotten() {
    let (backend, gate) = (backend(), Gate::new());
    let mut first = Behind::start("killed", &NAMES, &backend);
    let second = first.beside("alpha", false);
    let streams = busy(&first, &backend, &gate);
    assert_eq!(served(&second.ask_fresh("{}")), "beta");
    assert_eq!(chosen(&second), "beta Best None");
    first.kill();
    drop(streams);
    // Nobody told: the next housekeeping finds out.
    until("its share disappears", || (served(&second.ask_fresh("{}")) == "alpha").then_some(()));
    assert_eq!(chosen(&second), "alpha Current None");
}

// Marks

#[test]
fn a_profile_that_one_run_found_out_of_quota_is_left_by_the_other() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [out(), Behave::ok()]);
    let mut first = Behind::start("mark", &NAMES, &backend);
    let second = first.beside("alpha", false);
    assert_eq!(served(&first.ask_fresh("{}")), "beta");
    assert_eq!(first.space.marked("profile_retry_backoff profile=alpha").len(), 1);
    assert_eq!(served(&second.ask_fresh("{}")), "beta");
    assert_eq!(chosen(&second), "beta Best None");
    // It stands when the run that found it out is gone.
    first.end();
    let third = first.beside("alpha", false);
    assert_eq!(served(&third.ask_fresh("{}")), "beta");
    assert_eq!(chosen(&third), "beta Best None");
    assert_eq!(posts(&backend, "alpha").len(), 1, "it was asked again");
}

#[test]
fn a_profile_that_one_run_cannot_reach_is_left_by_the_other() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::drop_at(Point::BeforeHead).times(1)]);
    let first = Behind::start("reach", &NAMES, &backend);
    let second = first.beside("alpha", false);
    assert_eq!(served(&first.ask_fresh("{}")), "beta");
    assert_eq!(first.space.marked("profile_transport_backoff profile=alpha").len(), 1);
    assert_eq!(served(&second.ask_fresh("{}")), "beta");
    assert_eq!((chosen(&second).as_str(), posts(&backend, "alpha").len()), ("beta Best None", 1));
}

#[test]
fn a_success_of_one_run_ends_a_mark_for_all() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::ok(), out(), Behave::ok()]);
    let first = Behind::start("clears", &NAMES, &backend);
    let second = first.beside("alpha", false);
    assert_eq!(served(&first.ask_fresh("{}")), "alpha");
    let id = posts(&backend, "alpha").pop().and_then(|record| record.response_id).expect("an id");
    assert_eq!(served(&first.ask_fresh("{}")), "beta");
    assert_eq!(served(&second.ask_fresh("{}")), "beta");
    // A chain goes to its owner whatever is wrong with it, and is answered.
    assert_eq!(served(&first.ask_fresh(&chained(&id))), "alpha");
    let third = first.beside("alpha", false);
    until("the others see it", || (served(&third.ask_fresh("{}")) == "alpha").then_some(()));
    assert_eq!(chosen(&third), "alpha Current None");
    // Whoever moved meanwhile stays where it is.
    assert_eq!((served(&second.ask_fresh("{}")).as_str(), chosen(&second).as_str()), ("beta", "beta Current None"));
}

#[test]
fn a_reading_just_after_a_refusal_does_not_end_it() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [out(), Behave::ok()]);
    let mut first = Behind::start("stale", &NAMES, &backend);
    // While somebody is there, no run of another home can take what is shared for a leftover.
    let _bystander = first.beside("alpha", false);
    assert_eq!(served(&first.ask_fresh("{}")), "beta");
    first.end();
    let second = first.beside("alpha", true);
    // What is counted comes later than what is refused; `ledger` has the table.
    assert_eq!(served(&second.ask_fresh("{}")), "beta");
    assert_eq!(posts(&backend, "alpha").len(), 1, "it was asked again");
}

/// A run in which beta, the launching profile, answered once and was then found out of quota; then beta is removed and the
/// account gamma is logged in under its name. Gives both runs, of which the first has ended, and the id of beta's answer.
fn replaced(name: &str) -> (Backend, [Behind; 2], String) {
    let backend = Backend::start(Script::new(&["alpha", "beta", "gamma"]));
    backend.set("beta", Kind::Post, [Behave::ok(), out()]);
    let mut first = Behind::start(name, &["beta", "alpha"], &backend);
    // While somebody is there, no run of another home can take what is shared for a leftover.
    let bystander = first.beside("alpha", false);
    assert_eq!(served(&first.ask_fresh("{}")), "beta");
    let id = posts(&backend, "beta").pop().and_then(|record| record.response_id).expect("an id");
    assert_eq!(served(&first.ask_fresh("{}")), "alpha");
    first.end();
    assert_eq!(first.space.marked("state_save_error"), [""; 0]);
    first.space.prodex(&["profile", "remove", "beta", "--delete-home"]).output().expect(0);
    first.space.prodex(&["profile", "add", "beta"]).output().expect(0);
    first.space.login("beta", &token::auth_json("gamma"));
    (backend, [first, bystander], id)
}

#[test]
fn another_account_under_a_name_inherits_no_binding() {
    let (backend, [first, _bystander], id) = replaced("heir");
    let second = first.beside("alpha", false);
    second.ask_fresh(&chained(&id));
    let told = second.space.marked(" candidate profile=");
    assert!(!told.is_empty() && told.iter().all(|line| line.contains("pinned=None")), "{told:?}");
    assert_eq!(posts(&backend, "alpha").len(), 2, "the current profile is asked first: {told:?}");
}

#[test]
fn another_account_under_a_name_inherits_no_mark() {
    let (_backend, [first, _bystander], _) = replaced("heir-mark");
    let second = first.beside("beta", false);
    assert_eq!(served(&second.ask_fresh("{}")), "gamma");
    assert_eq!(chosen(&second), "beta Current None");
}

// Bindings

fn chained(id: &str) -> String {
    format!(r#"{{"model":"m","previous_response_id":"{id}","input":[]}}"#)
}

/// A chain that beta began in a run that ends thus goes on with beta in the next one, which would rather use alpha.
#[track_caller]
fn goes_on(name: &str, end: impl FnOnce(&mut Behind)) {
    let backend = backend();
    let mut first = Behind::start(name, &["beta", "alpha"], &backend);
    assert_eq!(served(&first.ask_fresh("{}")), "beta");
    let id = posts(&backend, "beta").pop().and_then(|record| record.response_id).expect("an id");
    until("it is bound", || first.space.marked("binding response_ids profile=beta").pop());
    end(&mut first);
    let second = first.beside("alpha", false);
    assert_eq!(served(&second.ask_fresh("{}")), "alpha");
    assert_eq!(served(&second.ask_fresh(&chained(&id))), "beta");
    assert_eq!(chosen(&second), "beta Owner beta");
    // And with the answer to that as well.
    let next = posts(&backend, "beta").pop().and_then(|record| record.response_id).expect("an id");
    assert!(next != id && served(&second.ask_fresh(&chained(&next))) == "beta");
    assert!(posts(&backend, "beta").iter().all(|record| !record.foreign));
}

#[test]
fn a_chain_goes_on_with_its_owner_in_the_next_run() {
    goes_on("chain", Behind::end);
}

#[test]
fn a_chain_goes_on_with_its_owner_after_a_kill() {
    goes_on("chain-kill", |run| {
        // What is promised: safe after a second.
        std::thread::sleep(Duration::from_millis(1_200));
        run.kill();
    });
}

// What cannot be written

#[test]
fn a_full_disk_ends_no_stream() {
    let backend = backend();
    let long = |n: usize| Behave::ok().header("x-codex-turn-state", &format!("{n:04}").repeat(1_000));
    backend.set("alpha", Kind::Post, (0..50).map(long));
    let space = TestSpace::with_profiles("full", &NAMES, &backend);
    // Room for the runtime log and what the runs share, not for the bindings: 80 or 160 KiB, as the shell has it.
    let mut run = Behind::under(space, "alpha", &backend, "trap '' XFSZ; ulimit -f 160");
    for _ in 0..50 {
        assert_eq!(served(&run.ask_fresh("{}")), "alpha");
    }
    let told = until("it is told", || run.space.marked("state_save_error").pop());
    assert!(told.contains("bindings.log"), "{told}");
    for _ in 0..5 {
        assert_eq!(served(&run.ask_fresh("{}")), "alpha");
    }
    assert_eq!(run.space.marked("state_save_error").len(), 1);
    assert_eq!(run.space.marked("worker_panic").len(), 0);
    // At its end it tries again, and says no more of it.
    run.end();
    assert_eq!(run.space.marked("bindings.log").len(), 1);
}

#[test]
fn a_home_that_cannot_be_written_ends_no_stream() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::ok(), out()]);
    let space = TestSpace::with_profiles("readonly", &NAMES, &backend);
    let root = space.prodex_home();
    // A superuser writes everywhere, unless he gives that up.
    let line = "[ $(id -u) != 0 ] || set -- setpriv --bounding-set=-dac_override,-dac_read_search \"$@\"";
    let mut run = Behind::under(space, "alpha", &backend, line);
    until("the launch is saved", || state(&run.space, "alpha").1.then_some(()));
    let before = fs::read(run.space.state_file()).expect("a state");
    fs::set_permissions(&root, Permissions::from_mode(0o555)).expect("its mode is set");
    assert_eq!(served(&run.ask_fresh("{}")), "alpha");
    assert_eq!(served(&run.ask_fresh("{}")), "beta");
    let told = |what: &str| run.space.marked("state_save_error").iter().filter(|line| line.contains(what)).count();
    until("it is told", || (told("bindings.") > 0).then_some(()));
    assert_eq!(served(&run.ask_fresh("{}")), "beta");
    assert_eq!(run.space.marked("worker_panic").len(), 0);
    run.end();
    let told = |what: &str| run.space.marked("state_save_error").iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("bindings."), 1);
    assert_eq!(fs::read(run.space.state_file()).expect("a state"), before);
    fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("its mode is set");
}

// state.json

/// The active profile, and whether `name` was chosen by a run.
fn state(space: &TestSpace, name: &str) -> (Option<String>, bool) {
    let state = fs::read(space.state_file()).ok().and_then(|text| Json::parse(&text)).expect("JSON");
    let selected = state.get("last_run_selected_at").and_then(|all| all.get(name)).is_some();
    (state.get("active_profile").and_then(Json::text).map(str::to_owned), selected)
}

#[test]
fn a_rotation_makes_the_other_profile_the_active_one() {
    let backend = backend();
    backend.set("alpha", Kind::Post, [Behave::ok(), out()]);
    let mut run = Behind::start("active", &NAMES, &backend);
    assert_eq!(served(&run.ask_fresh("{}")), "alpha");
    until("the launch is saved", || state(&run.space, "alpha").1.then_some(()));
    assert_eq!(state(&run.space, "beta"), (Some("alpha".to_owned()), false));
    assert_eq!(served(&run.ask_fresh("{}")), "beta");
    assert_eq!(run.space.marked("profile_commit profile=beta switched=true").len(), 1);
    until("the move is saved", || state(&run.space, "beta").1.then_some(()));
    assert_eq!(state(&run.space, "beta").0.as_deref(), Some("beta"));
    run.end();
    assert_eq!(run.space.marked("state_save_ok reason=profile_commit:beta").len(), 1);
}

#[test]
fn a_rotation_does_not_undo_what_the_user_chose_meanwhile() {
    let names = ["alpha", "beta", "gamma"];
    let backend = Backend::start(Script::new(&names));
    backend.set("alpha", Kind::Post, [out()]);
    let mut run = Behind::start("chose", &names, &backend);
    until("the launch is saved", || state(&run.space, "alpha").1.then_some(()));
    run.space.prodex(&["use", "gamma"]).output().expect(0);
    assert_eq!(served(&run.ask_fresh("{}")), "beta");
    until("the move is saved", || state(&run.space, "beta").1.then_some(()));
    assert_eq!(state(&run.space, "beta").0.as_deref(), Some("gamma"));
    run.end();
    assert_eq!(run.space.marked("state_save_ok reason=profile_commit:beta").len(), 1);
    assert_eq!(state(&run.space, "beta").0.as_deref(), Some("gamma"));
}

#[test]
fn a_shared_file_that_is_cut_short_ends_nobody() {
    let backend = backend();
    let behind = Behind::start("cut", &NAMES, &backend);
    let path = behind.shared_file();
    fs::OpenOptions::new().write(true).open(&path).expect("it is ours").set_len(0).expect("it is cut");
    let answers: Vec<u16> = (0..3).map(|_| behind.ask_fresh("{}").status).collect();
    let _ = std::fs::remove_file(path);
    assert_eq!(answers, [200, 200, 200]);
    behind.assert_nothing_left(1);
}
