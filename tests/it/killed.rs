//! `kill -9` at any instant of every command that writes: whatever was under way, all files read afterwards, the next
//! command works, and no login lies anywhere but in an `auth.json` of the user's.

use super::crowd::files;
use super::support::codex::Fake;
use super::support::space::{TestSpace, write_private};
use super::support::standin::backend::Backend;
use super::support::standin::json::Json;
use super::support::standin::script::Script;
use super::support::standin::token;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// In every login of this test, and in nothing else.
const SECRET: &str = "rt-";

/// Between the quickest machine and a very busy one.
const SPANS: (Duration, Duration) = (Duration::from_millis(4), Duration::from_secs(1));

/// `NEW` is a name of its own for each instant, `OLD` a profile that is there.
const COMMANDS: [&str; 20] = [
    "profile add NEW --copy-current",
    "profile remove OLD --delete-home",
    "profile import-current NEW",
    "login",
    "profile add NEW",
    "login -p OLD",
    "use OLD",
    "logout -p OLD",
    "login --device-auth",
    "profile disable OLD",
    "profile enable OLD",
    "run -p OLD --no-auto-rotate exec hi",
    "profile reserve OLD 20",
    "run -p OLD exec hi",
    "profile remove OLD",
    "profile import IMPORT --as NEW",
    "profile export EXPORT",
    "doctor --fix",
    "quota --all --once",
    "why",
];

#[test]
fn at_a_hundred_instants_all_files_read() {
    kill_at(100);
}

#[test]
#[ignore = "500 instants, by hand: cargo test --test it killed:: -- --ignored"]
fn at_five_hundred_instants_all_files_read() {
    kill_at(500);
}

#[test]
fn a_login_that_was_cut_off_goes_unless_somebody_is_at_it() {
    let space = TestSpace::new("cut-off");
    space.profiles(&["main"]);
    let home = space.profile_home("main");
    let torn = home.join(".auth-aBcDeF");
    write_private(&torn, &token::auth_json("main")[..200]);
    let lock = fs::File::create(home.join("auth.lock")).expect("codex's lock");
    lock.lock().expect("a codex that refreshes");
    space.prodex(&["profile", "list"]).output().expect(0);
    assert!(torn.exists(), "it may be the codex's");
    drop(lock);
    space.prodex(&["profile", "list"]).output().expect(0);
    assert!(!torn.exists());
    assert!(home.join("auth.json").is_file());
}

#[test]
fn a_login_under_way_is_left_alone() {
    let mut space = TestSpace::new("under-way");
    // An older codex, which holds no lock.
    let body = "cd \"$CODEX_HOME\"; printf '%s' \"$LOGIN\" > .auth-aBcDeF; touch \"$HOME/written\"; while [ -e \"$HOME/written\" ]; do sleep 0.01; done; mv .auth-aBcDeF auth.json";
    let codex = Fake::new(&space, body);
    space.env("PRODEX_CODEX_BIN", codex.path());
    let written = space.home().join("written");
    let running = space.prodex(&["login"]).env("LOGIN", &token::auth_json("new")).start();
    let until = Instant::now() + PATIENCE;
    while !written.exists() {
        assert!(Instant::now() < until, "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    space.prodex(&["profile", "list"]).output().expect(0);
    fs::remove_file(&written).expect("it goes on");
    let output = running.wait(PATIENCE).expect(0);
    assert!(output.stdout.contains("new_example.com"), "{}", output.stdout);
}

fn kill_at(instants: u32) {
    let known = ["old0", "old1", "old2", "known"];
    let backend = Backend::start(Script::new(&known));
    let mut space = TestSpace::with_profiles("killed", &known, &backend);
    let codex = Fake::new(
        &space,
        "cd \"$CODEX_HOME\"\nNEXT=.auth-$(printf %06d $(($$ % 1000000)))\ncase $1 in login) (umask 077; printf '%s' \"$LOGIN\" > $NEXT; mv $NEXT auth.json);; logout) rm -f auth.json;; esac\nexit 0",
    );
    space.env("PRODEX_CODEX_BIN", codex.path());
    let own = token::auth_json("own");
    write_private(&space.codex_home().join("auth.json"), &own);
    fs::write(space.codex_home().join("AGENTS.md"), "mine").expect("a file of the user's");

    // Finds by itself what a command takes on this machine: half of them are to be cut off.
    let (mut cut, mut span) = (0, Duration::from_millis(30));
    for instant in 0..instants {
        let at = usize::try_from(instant).expect("small");
        let old = ["old0", "old1", "old2"][at % 3];
        // What an earlier instant took out or logged out is there again.
        space.login(old, &token::auth_json(old));
        space.prodex(&["profile", "add", old]).output();
        let line = COMMANDS[at % COMMANDS.len()].replace("OLD", old).replace("NEW", &format!("new{instant}"));
        // By turns an account that has a profile, and one that has none.
        let account = if line == "login" { "known".to_owned() } else { format!("n{instant}") };
        let (import, export) = (space.work().join(format!("in{instant}")), space.work().join(format!("out{instant}")));
        let line =
            line.replace("IMPORT", &import.display().to_string()).replace("EXPORT", &export.display().to_string());
        let login = STANDARD.encode(token::auth_json(&account));
        let entry = format!(r#"{{"name":"x","files":[{{"path":"auth.json","base64":"{login}"}}]}}"#);
        write_private(&import, &format!(r#"{{"prodex_export":1,"profiles":[{entry}]}}"#));
        let run = space.prodex(&line.split(' ').collect::<Vec<_>>()).env("LOGIN", &token::auth_json(&account));
        let running = run.start();
        // The result depends on no instant; they are only meant to differ. Spread over what a command takes: the golden
        // ratio leaves no gap.
        let share = (f64::from(instant) * 0.618_033_988_75).fract();
        std::thread::sleep(span.mul_f64(share));
        running.signal_group("KILL");
        let code = running.wait(PATIENCE).code();
        cut += u32::from(code == 137);
        span = span.mul_f64(if code == 137 { 1.05 } else { 0.95 }).clamp(SPANS.0, SPANS.1);
        let here = format!("instant {instant}, {line}");
        if ["port ", "--fix"].iter().any(|word| line.contains(word)) {
            assert!(code == 137 || code == 0, "{here}: it is refused, so it writes nothing");
        }

        for path in files(&space.home()) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap_or_default();
            // A home that is being built is nobody's yet.
            let is_published = !path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".new+"));
            if is_published
                && ["state.json", "state.json.last-good", "quota.json", "auth.json"].contains(&name.as_str())
            {
                assert!(Json::parse(&bytes).is_some(), "{here}: {} is torn", path.display());
            }
            if holds_a_login(&bytes) {
                let mode = fs::symlink_metadata(&path).expect("is there").permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{here}: {}", path.display());
            }
        }
        let list = space.prodex(&["profile", "list"]).output().expect(0);
        assert_eq!(list.stderr, "", "{here}");
        nothing_strays(&space, &here);
    }
    assert!(cut * 3 > instants, "only {cut} of {instants} were still running: the test cuts nothing off");
    eprintln!("{cut} of {instants} commands were cut off");
    assert_eq!(fs::read(space.codex_home().join("AGENTS.md")).expect("still there"), b"mine");
    assert_eq!(fs::read_to_string(space.codex_home().join("auth.json")).expect("still there"), own);
    // What an instant left goes with the next writer of the same file.
    for line in ["run -p known exec hi", "run -p known --no-auto-rotate exec hi", "profile add last"] {
        space.prodex(&line.split(' ').collect::<Vec<_>>()).output().expect(0);
    }
    let left = fs::read_dir(space.prodex_home()).expect("the root").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains(".tmp-")), "{left:?}");
}

fn holds_a_login(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// Logins are in `auth.json` of the user's own home and of homes with a profile's name, and nowhere else.
fn nothing_strays(space: &TestSpace, here: &str) {
    let profiles = space.prodex_home().join("profiles");
    let is_home = |directory: &Path| {
        directory == space.codex_home()
            || directory.parent() == Some(&profiles)
                && !directory.file_name().is_some_and(|name| name.to_string_lossy().contains('+'))
    };
    for path in files(&space.home()).into_iter().chain(files(&space.tmp())) {
        if holds_a_login(&fs::read(&path).unwrap_or_default()) {
            let at_home =
                path.file_name().is_some_and(|name| name == "auth.json") && path.parent().is_some_and(is_home);
            assert!(at_home, "{here}: a login in {}", path.display());
        }
    }
}
