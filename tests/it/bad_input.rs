//! What nobody should leave behind or send, around a run: a home that takes no file, files in it that are torn, foreign or of
//! a later version, moments that cannot be, ids without end. Codex starts, streams go on, nothing panics.

use crate::support::behind::{Behind, until};
use crate::support::codex::Fake;
use crate::support::raw::Response;
use crate::support::space::TestSpace;
use crate::support::standin::backend::Backend;
use crate::support::standin::behave::Behave;
use crate::support::standin::script::{Kind, Script};
use crate::support::standin::token;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

const NAMES: [&str; 2] = ["alpha", "beta"];
/// A superuser writes everywhere, unless he gives that up.
const NO_SUPERUSER: &str = "[ $(id -u) != 0 ] || set -- setpriv --bounding-set=-dac_override,-dac_read_search \"$@\"";

fn backend() -> Backend {
    Backend::start(Script::new(&NAMES))
}

#[track_caller]
fn answered(answer: &Response, name: &str) {
    let text = answer.text();
    assert!(answer.whole && text.contains(&format!("Hello from {name}.")), "{} {text}", answer.status);
}

#[track_caller]
fn no_panic(behind: &Behind) {
    assert_eq!(behind.space.marked("worker_panic"), Vec::<String>::new());
}

fn writable(below: &Path, mode: u32) {
    for entry in fs::read_dir(below).expect("a directory").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            writable(&entry.path(), mode);
        }
    }
    fs::set_permissions(below, Permissions::from_mode(mode)).expect("its mode is set");
}

// Where nothing can be written

#[test]
fn codex_starts_from_a_home_that_takes_no_file() {
    let backend = backend();
    let space = TestSpace::with_profiles("readonly", &NAMES, &backend);
    let root = space.prodex_home();
    writable(&root, 0o555);
    backend.set("alpha", Kind::Post, [Behave::ok(), Behave::quota_status()]);
    let mut run = Behind::under(space, "alpha", &backend, NO_SUPERUSER);
    answered(&run.ask_fresh("{}"), "alpha");
    answered(&run.ask_fresh("{}"), "beta");
    no_panic(&run);
    run.end();
    let mut left: Vec<String> = fs::read_dir(&root)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["profiles", "state.json"]);
    writable(&root, 0o755);
}

/// With the quota check, and from the command line's side: a warning, and codex's own exit code.
#[test]
fn a_home_that_takes_no_file_is_worth_a_warning() {
    let backend = backend();
    let mut space = TestSpace::with_profiles("warned", &NAMES, &backend);
    let fake = Fake::new(&space, "exit 7");
    space.env("PRODEX_CODEX_BIN", fake.path());
    let root = space.prodex_home();
    writable(&root, 0o555);
    let line = format!("{NO_SUPERUSER}; exec \"$@\"");
    let args = ["-c", &line, "sh", env!("CARGO_BIN_EXE_prodex"), "run", "exec", "hello"];
    let output = space.run("sh", &args).output().expect(7);
    assert_eq!(fake.calls().len(), 1);
    let warnings: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("Warning: ")).collect();
    assert!(!warnings.is_empty() && warnings.iter().all(|line| line.contains("denied")), "{}", output.stderr);
    assert_eq!(warnings.len(), output.stderr.lines().count(), "{}", output.stderr);
    writable(&root, 0o755);
}

/// Not a byte can be written to any file, the runtime log included.
#[test]
fn codex_starts_on_a_full_disk() {
    let backend = backend();
    let mut space = TestSpace::with_profiles("full", &NAMES, &backend);
    // It writes to its terminal alone.
    let codex = space.work().join("codex");
    fs::write(&codex, "#!/bin/sh\necho started\nexit 7\n").expect("a program");
    fs::set_permissions(&codex, Permissions::from_mode(0o755)).expect("its mode is set");
    space.env("PRODEX_CODEX_BIN", codex.to_str().expect("test paths are UTF-8"));
    let line = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let args = ["-c", line, "sh", env!("CARGO_BIN_EXE_prodex"), "run", "exec", "hello"];
    let before = fs::read(space.state_file()).expect("a state");
    let output = space.run("sh", &args).output().expect(7);
    assert_eq!(output.stdout, "started\n");
    assert!(output.stderr.lines().all(|line| line.starts_with("Warning: ")), "{}", output.stderr);
    assert_eq!(fs::read(space.state_file()).expect("a state"), before);
}

// Files of others

#[test]
fn what_stands_in_the_files_of_a_home_ends_nothing() {
    let torn = b"{\"schema\":1,\"profiles\":{\"alpha\":".to_vec();
    let future = b"prodex-bindings 99\nR 1 alpha x\n{\"schema_version\":99}\n".to_vec();
    let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let contents = [("torn", torn), ("later", future), ("noise", noise), ("empty", Vec::new())];
    let files =
        ["bindings.log", "bindings.lock", "proxy-secret", "quota.json", "state.json.lock", "state.json.last-good"];
    for (name, bytes) in contents {
        let backend = backend();
        let space = TestSpace::with_profiles(name, &NAMES, &backend);
        for file in files {
            fs::write(space.prodex_home().join(file), &bytes).expect("a file is written");
        }
        serves(space, &backend, name);
    }
}

#[test]
fn what_stands_in_the_place_of_a_file_ends_nothing() {
    let files = ["bindings.log", "bindings.lock", "proxy-secret", "quota.json", "state.json.last-good"];
    for name in ["directory", "loop", "nowhere", "endless"] {
        let backend = backend();
        let space = TestSpace::with_profiles(name, &NAMES, &backend);
        for path in files.map(|file| space.prodex_home().join(file)) {
            let made = match name {
                "directory" => fs::create_dir_all(path.join("x")),
                "loop" => symlink(&path, &path),
                "nowhere" => symlink("/no/such/place", &path),
                _ => symlink("/dev/zero", &path),
            };
            made.expect("it is made");
        }
        serves(space, &backend, name);
    }
}

/// A run serves, moves work, and ends.
#[track_caller]
fn serves(space: TestSpace, backend: &Backend, what: &str) {
    backend.set("alpha", Kind::Post, [Behave::ok(), Behave::quota_status()]);
    let mut run = Behind::inside(space, "alpha", backend);
    answered(&run.ask_fresh("{}"), "alpha");
    answered(&run.ask_fresh("{}"), "beta");
    no_panic(&run);
    run.end();
    assert!(fs::read_to_string(run.space.state_file()).is_ok_and(|state| state.contains("alpha")), "{what}");
    run.space.prodex(&["profile", "list"]).output().expect(0);
}

// Moments and ids

#[test]
fn a_reset_that_cannot_be_moves_work_all_the_same() {
    let now = token::unix_now();
    let month = 32 * 24 * 3600;
    let absurd = [
        // In the past: it may be asked again soon.
        ("1", 1),
        ("-5", 20),
        ("18446744073709551615", month),
        ("99999999999999999999999999", 20),
        ("1e300", 20),
        ("1795575061000000", month),
        ("\"tomorrow\"", 20),
        ("null", 20),
        ("{}", 20),
        ("[[[[[[]]]]]]", 20),
    ];
    for (at, longest) in absurd {
        let backend = backend();
        let body = format!(r#"{{"error":{{"type":"usage_limit_reached","message":"no more","resets_at":{at}}}}}"#);
        backend.set("alpha", Kind::Post, [Behave::status(429, &body)]);
        let run = Behind::start("absurd", &NAMES, &backend);
        answered(&run.ask_fresh("{}"), "beta");
        let told = until("it is told", || run.space.marked(" profile_retry_backoff profile=alpha").pop());
        let until = told.split("until=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        let until = until.unwrap_or_else(|| panic!("{at}: {told}"));
        // A test on a busy machine has a minute.
        assert!((now..=now + longest + 60).contains(&until), "{at}: {told}");
        no_panic(&run);
    }
}

#[test]
fn ids_without_end_are_nobodys() {
    let backend = backend();
    let run = Behind::start("ids", &NAMES, &backend);
    let huge = "x".repeat(1024 * 1024);
    let chained = format!(r#"{{"type":"response.create","previous_response_id":"{huge}","input":[]}}"#);
    answered(&run.ask_fresh(&chained), "alpha");
    let mut socket = run.socket();
    socket.text(&chained);
    let told = socket.read_frame().expect("the backend's own words").text();
    assert!(told.contains("previous_response_not_found"), "{}", &told[..told.len().min(200)]);
    // A header has less room: what fits is served, and beyond what is kept it is not remembered.
    let ask = |name: &str, value: &str| {
        let mut client = run.client();
        let headers = [run.fresh_headers(), vec![(name, value)]].concat();
        client.request("POST", &run.model("/responses"), &headers, b"{}");
        client.response().expect("an answer")
    };
    let long = &huge[..5_000];
    for name in ["session-id", "x-codex-turn-state"] {
        answered(&ask(name, long), "alpha");
        assert_eq!(ask(name, &huge).status, 431, "{name}");
    }
    // Of the backend's: it is the answer that is odd, not the account's fault.
    backend.set("alpha", Kind::Post, [Behave::ok().header("x-codex-turn-state", long)]);
    answered(&run.ask_fresh("{}"), "alpha");
    no_panic(&run);
    let log = run.space.runtime_logs().concat();
    assert!(!log.contains(&huge[..4_097]), "an id without end is in the log");
}

#[test]
fn two_runs_in_one_profile_do_not_disturb_each_other() {
    let backend = backend();
    let mut one = Behind::start("both", &NAMES, &backend);
    let mut two = one.beside("alpha", false);
    for _ in 0..3 {
        answered(&one.ask_fresh("{}"), "alpha");
        answered(&two.ask_fresh("{}"), "alpha");
    }
    let mut socket = two.socket();
    one.end();
    socket.text(r#"{"type":"response.create","model":"m","input":[]}"#);
    assert!(socket.read_events().expect("a turn").concat().contains("Hello from alpha."));
    drop(socket);
    no_panic(&two);
    two.end();
}
