//! Fifty processes that do everything at once to one home: every change is there afterwards, no file is torn at any moment,
//! nobody waits for ever. The commands are chosen so that each one's result is known whatever the order.

use super::support::codex::Fake;
use super::support::space::{TestSpace, write_private};
use super::support::standin::backend::Backend;
use super::support::standin::json::Json;
use super::support::standin::script::Script;
use super::support::standin::token;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Profiles that nobody takes out; the runs go over them.
const KEPT: [&str; 4] = ["kept0", "kept1", "kept2", "kept3"];
/// Far beyond what fifty processes take on a loaded machine; only a deadlock lasts longer.
const PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn fifty_processes_lose_no_change() {
    (0..2).for_each(round);
}

#[test]
#[ignore = "20 rounds, by hand: cargo test --test it crowd -- --ignored"]
fn fifty_processes_lose_no_change_in_twenty_rounds() {
    (0..20).for_each(round);
}

fn round(number: u32) {
    let group = |letter: &str, count: u32| -> Vec<String> { (0..count).map(|i| format!("{letter}{i}")).collect() };
    let [added, removed, disabled, enabled, left] =
        [("a", 10), ("r", 6), ("d", 4), ("e", 3), ("o", 3)].map(|(letter, count)| group(letter, count));
    // Of one entry two commands change a member each.
    let reserved = disabled.clone();
    let newcomers = ["new0", "new1", "new2"];
    let known: Vec<&str> = KEPT
        .into_iter()
        .chain([&removed, &disabled, &enabled, &left].into_iter().flatten().map(String::as_str))
        .collect();
    let logged_in: Vec<&str> = newcomers.into_iter().chain(known.iter().copied()).collect();
    let backend = Backend::start(Script::new(&logged_in));
    let mut space = TestSpace::with_profiles("crowd", &known, &backend);
    let codex = Fake::new(
        &space,
        "cd \"$CODEX_HOME\"\ncase $1 in login) (umask 077; printf '%s' \"$LOGIN\" > next.$$; mv next.$$ auth.json);; logout) rm auth.json;; esac\nexit 0",
    );
    space.env("PRODEX_CODEX_BIN", codex.path());
    write_private(&space.codex_home().join("auth.json"), &token::auth_json("own"));
    for name in &enabled {
        space.prodex(&["profile", "disable", name]).output().expect(0);
    }
    // What other versions wrote, at the top, in an entry, and in the map of 0.2.38 that grows.
    let text = fs::read_to_string(space.state_file()).expect("state.json");
    let text = text.replacen("{\n", "{\n  \"unknown\": {\"keep\": [1.50]},\n", 1);
    let text = text.replacen(
        "\"managed\": true",
        "\"provider\": {\"provider_kind\": \"openai\"},\n      \"managed\": true",
        1,
    );
    let text = text.replace(
        "\"response_profile_bindings\": {}",
        "\"response_profile_bindings\": {\"resp_1\": {\"profile_name\": \"kept0\", \"bound_at\": 1795574904}}",
    );
    write_private(&space.state_file(), &text);

    // A command line, and the login that codex makes meanwhile.
    let mut commands: Vec<(String, Option<String>)> = Vec::new();
    for (names, line) in [
        (&added[..5], "profile add NAME"),
        (&added[5..], "profile add NAME --copy-current"),
        (&removed[..3], "profile remove NAME"),
        (&removed[3..], "profile remove NAME --delete-home"),
        (&disabled[..], "profile disable NAME"),
        (&enabled[..], "profile enable NAME"),
        (&reserved[..], "profile reserve NAME 20"),
        (&left[..], "logout -p NAME"),
    ] {
        commands.extend(names.iter().map(|name| (line.replace("NAME", name), None)));
    }
    for name in newcomers.into_iter().chain(newcomers) {
        commands.push(("login --device-auth".to_owned(), Some(token::auth_json(name))));
    }
    for name in KEPT {
        commands.push((format!("login -p {name}"), Some(token::auth_json(name))));
        commands.push((format!("use {name}"), None));
        commands.push((format!("run -p {name} --no-auto-rotate exec hi"), None));
    }
    commands.push(("run --skip-quota-check exec hi".to_owned(), None));
    commands.push(("run exec hi".to_owned(), None));
    assert_eq!(commands.len(), 50);
    // Another order in each round.
    let by = usize::try_from(number * 7 % 50).expect("small");
    commands.rotate_left(by);
    if number % 2 == 1 {
        commands.reverse();
    }

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut seen = 0_u32;
            while !over.load(Ordering::Relaxed) {
                for file in ["state.json", "state.json.last-good", "quota.json"] {
                    let Ok(bytes) = fs::read(space.prodex_home().join(file)) else { continue };
                    assert!(Json::parse(&bytes).is_some(), "{file} is torn: {}", String::from_utf8_lossy(&bytes));
                    seen += 1;
                }
            }
            seen
        });
        let running: Vec<_> = commands
            .iter()
            .map(|(line, login)| {
                let run = space.prodex(&line.split(' ').collect::<Vec<_>>());
                (line, login.iter().fold(run, |run, login| run.env("LOGIN", login)).start())
            })
            .collect();
        let outputs: Vec<_> = running.into_iter().map(|(line, running)| (line, running.wait(PATIENCE))).collect();
        over.store(true, Ordering::Relaxed);
        assert!(reading.join().expect("no file was torn") > 0);
        for (line, output) in outputs {
            assert_eq!(output.code(), 0, "round {number}: {line}: {}{}", output.stdout, output.stderr);
        }
    });

    let state = Json::parse(&fs::read(space.state_file()).expect("state.json")).expect("JSON");
    let profiles = state.get("profiles").expect("profiles");
    let entry = |name: &str| profiles.get(name).unwrap_or_else(|| panic!("round {number}: {name} is lost: {state:?}"));
    let shown = |name: &str, member: &str| entry(name).get(member).map(|value| format!("{value:?}"));
    for name in added.iter().chain(&left) {
        entry(name);
    }
    for name in &removed {
        assert!(profiles.get(name).is_none(), "round {number}: {name} is back");
    }
    removed[3..].iter().for_each(|name| assert!(!space.profile_home(name).exists(), "{name}"));
    for name in &disabled {
        assert!(shown(name, "disabled").is_some(), "{name}");
    }
    for name in &enabled {
        assert_eq!(shown(name, "disabled"), None, "{name}");
    }
    for name in &reserved {
        assert_eq!(entry(name).get("reserve_percent").and_then(Json::number), Some(20.0));
    }
    for name in newcomers {
        let name = format!("{name}_example.com");
        entry(&name);
        assert!(fs::symlink_metadata(space.profile_home(&format!("{name}-2"))).is_err(), "one account, one profile");
    }
    let active = state.get("active_profile").and_then(Json::text).expect("an active profile");
    entry(active);
    assert!(state.get("unknown").and_then(|unknown| unknown.get("keep")).is_some());
    assert!(state.get("response_profile_bindings").and_then(|map| map.get("resp_1")).is_some());
    assert!(
        known
            .iter()
            .filter(|name| !removed.iter().any(|gone| gone == *name))
            .any(|name| shown(name, "provider").is_some())
    );
    let ran = state.get("last_run_selected_at").expect("a map");
    for name in KEPT {
        assert!(ran.get(name).is_some(), "round {number}: the run of {name} is forgotten");
    }

    // A run ends without waiting for the note of its quota: what that left goes with the next one.
    space.prodex(&["run", "-p", "kept0", "--no-auto-rotate", "exec"]).output().expect(0);
    nothing_left_over(&space);
    for name in KEPT.into_iter().chain(added[5..].iter().map(String::as_str)) {
        let path = space.profile_home(name).join("auth.json");
        assert!(Json::parse(&fs::read(&path).expect("a login")).is_some(), "{name}");
        assert_eq!(fs::metadata(&path).expect("a login").permissions().mode() & 0o777, 0o600);
    }
    for name in &left {
        assert!(!space.profile_home(name).join("auth.json").exists());
    }
}

/// No staging home, no temporary, nothing set aside.
fn nothing_left_over(space: &TestSpace) {
    let odd: Vec<PathBuf> = files(&space.prodex_home())
        .into_iter()
        .filter(|path| {
            let path = path.to_string_lossy();
            [".new+", ".gone+", ".tmp-", "/.auth-", ".broken-", ".aside-"].iter().any(|part| path.contains(part))
        })
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// All files below, links not followed.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
