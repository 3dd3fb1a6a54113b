//! The shared history from outside: a launch looks at its entries and never into them, whatever stands in their place, on
//! whichever file system; and `session list` over what no codex wrote.

use crate::support::codex::Fake;
use crate::support::space::{TestSpace, write_private};
use crate::support::standin::json::{Json, quote};
use crate::support::standin::token;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

const ID: &str = "01a212af-92e5-7b53-bd59-357ab4a623d6";

fn space(name: &str) -> (TestSpace, Fake) {
    let mut space = TestSpace::new(name);
    space.profiles(&["main"]);
    let fake = Fake::new(&space, "exit 0");
    space.env("PRODEX_CODEX_BIN", fake.path());
    (space, fake)
}

/// A transcript in the shared store.
fn transcript(space: &TestSpace, id: &str, words: &str) -> PathBuf {
    let day = space.codex_home().join("sessions/2026/11/25");
    fs::create_dir_all(&day).unwrap();
    let path = day.join(format!("rollout-2026-11-25T12-30-26-{id}.jsonl"));
    let (cwd, words) = (quote(&space.work().to_string_lossy()), quote(words));
    let text = format!(
        "{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\"cwd\":{cwd},\"source\":\"cli\"}}}}\n{{\"type\":\"event_msg\",\"payload\":{{\"type\":\"user_message\",\"message\":{words}}}}}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Forgets that it was ever read: the next reading is seen in its atime, where the file system keeps one.
fn unread(path: &Path) {
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(path).unwrap().set_times(fs::FileTimes::new().set_accessed(long_ago)).unwrap();
}

fn was_read(path: &Path) -> bool {
    fs::metadata(path).unwrap().atime() != 1_000_000_000
}

#[test]
fn a_launch_does_not_look_into_the_history() {
    let (space, fake) = space("history-launch");
    let file = transcript(&space, ID, "hello");
    let sessions = space.codex_home().join("sessions");
    let below = [sessions.join("2026/11/25"), sessions.join("2026/11"), sessions.join("2026"), sessions, file];
    // The first one makes the links, the second finds them.
    for _ in 0..2 {
        for path in &below {
            unread(path);
        }
        space.prodex(&["run", "--skip-quota-check"]).output().expect(0);
        let read: Vec<_> = below.iter().filter(|path| was_read(path)).collect();
        assert!(read.is_empty(), "{read:?}");
    }
    assert_eq!(fake.calls().len(), 2);
    write_private(&space.codex_home().join("auth.json"), &token::auth_json("copy"));
    space.prodex(&["profile", "import-current", "copy"]).output().expect(0);
    assert!(!below.iter().any(|path| was_read(path)));
    // That reading would have been seen.
    space.prodex(&["session", "list"]).output().expect(0);
    if !was_read(&below[0]) {
        eprintln!("this file system keeps no times of access: nothing was shown");
    }
}

/// 200,000 threads and 5 GB of them (in a file with holes). By hand, built with --release: the figures are its output.
#[test]
#[ignore = "200,000 files, by hand: cargo test --release --test it history:: -- --ignored --nocapture"]
fn figures_of_a_large_history() {
    let (space, fake) = space("history-large");
    write_private(&space.codex_home().join("auth.json"), &token::auth_json("copy"));
    let time = |args: &[&str]| {
        let mut times: Vec<_> = (0..11).map(|_| space.prodex(args).output().expect(0).took).collect();
        times.sort();
        times[5]
    };
    let (run, list) = (["run", "--skip-quota-check"], ["session", "list"]);
    let before = (time(&run), time(&list));
    for number in 0..200_000 {
        let day = space.codex_home().join(format!("sessions/2026/{:02}/{:02}", number / 28 % 12 + 1, number % 28 + 1));
        if number < 12 * 28 {
            fs::create_dir_all(&day).unwrap();
        }
        let name = format!("rollout-2026-01-01T12-30-26-01a212af-92e5-7b53-bd59-{number:012x}.jsonl");
        fs::write(day.join(name), "{}").unwrap();
    }
    fs::File::options().write(true).open(transcript(&space, ID, "hello")).unwrap().set_len(5 << 30).unwrap();
    let after = (time(&run), time(&list));
    let import = space.prodex(&["profile", "import-current", "copy"]).output().expect(0).took;
    assert_eq!(fake.calls().len(), 22);
    assert!(space.profile_home("copy").join("sessions").is_symlink());
    println!("run, session list: {before:?} without, {after:?} with 200,000 threads; import-current {import:?}");
}

#[test]
fn on_another_file_system_than_the_history() {
    let Ok(other) = fs::metadata("/dev/shm") else { return eprintln!("no /dev/shm: nothing was shown") };
    let (mut space, fake) = space("history-device");
    if other.dev() == fs::metadata(space.root()).unwrap().dev() {
        return eprintln!("one file system: nothing was shown");
    }
    let root = Path::new("/dev/shm").join(format!("prodex-test-{}", std::process::id()));
    space.env("PRODEX_HOME", root.to_str().unwrap());
    let cleared = Cleared(root.clone());
    space.prodex(&["profile", "add", "far"]).output().expect(0);
    let home = root.join("profiles/far");
    let linked = || fs::read_link(home.join("sessions")).unwrap() == space.codex_home().join("sessions");
    assert!(linked());
    // What codex made of its own there cannot be moved over: it stays, under another name that is said.
    fs::remove_file(home.join("sessions")).unwrap();
    fs::create_dir(home.join("sessions")).unwrap();
    fs::write(home.join("sessions/mine"), "m").unwrap();
    fs::remove_file(home.join("history.jsonl")).unwrap();
    fs::write(home.join("history.jsonl"), "h").unwrap();
    let said = space.prodex(&["run", "-p", "far"]).output().expect(0).stderr;
    assert!(linked() && home.join("history.jsonl").is_symlink());
    assert_eq!(said.matches(".aside-").count(), 2, "{said}");
    let aside: Vec<PathBuf> = fs::read_dir(&home).unwrap().flatten().map(|entry| entry.path()).collect();
    let aside = |name: &str| aside.iter().find(|path| path.to_string_lossy().contains(name)).cloned().unwrap();
    assert_eq!(fs::read_to_string(aside("sessions.aside-").join("mine")).unwrap(), "m");
    assert_eq!(fs::read_to_string(aside("history.jsonl.aside-")).unwrap(), "h");
    assert_eq!(fake.calls().len(), 1);
    drop(cleared);
}

struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_loop_in_the_history_stops_nobody() {
    let (space, fake) = space("history-loop");
    fs::remove_dir_all(space.codex_home()).unwrap();
    fs::create_dir(space.codex_home()).unwrap();
    symlink("archived_sessions", space.codex_home().join("sessions")).unwrap();
    symlink("sessions", space.codex_home().join("archived_sessions")).unwrap();
    let said = space.prodex(&["run"]).output().expect(0).stderr;
    assert!(said.contains("sessions") && said.contains("Warning: "), "{said}");
    assert_eq!(fake.calls().len(), 1, "codex can work, or say itself that it cannot");
    let listed = space.prodex(&["session", "list"]).output().expect(0);
    assert!(listed.stdout.contains("There is no session yet."));
    assert!(fs::read_link(space.codex_home().join("sessions")).is_ok());
}

#[test]
fn nothing_that_a_transcript_says_reaches_the_terminal_as_it_is() {
    let (space, _fake) = space("history-hostile");
    let hostile = transcript(&space, ID, "PLACE");
    let text = fs::read_to_string(&hostile).unwrap().replace("PLACE", "a\\u001b]0;title\\u0007b\\u202ec\\nsecond line");
    fs::write(&hostile, text).unwrap();
    let other = "01a212af-92e5-7b53-bd59-000000000000";
    fs::write(transcript(&space, other, ""), b"\xff\xfe{\"type\":\"session_meta\"").unwrap();
    let output = space.prodex(&["session", "list"]).output().expect(0);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[2].ends_with("a\u{fffd}]0;title\u{fffd}b\u{fffd}c second line"), "{lines:?}");
    assert!(output.stderr.contains("1 of the files under sessions/"), "{}", output.stderr);
    let document = space.prodex(&["session", "list", "--json", "-n", "1"]).output().expect(0).stdout;
    let document = Json::parse(document.as_bytes()).expect("JSON");
    let session = &document.get("sessions").expect("sessions").items()[0];
    assert_eq!(session.get("id").and_then(Json::text), Some(ID));
    assert_eq!(session.get("directory").and_then(Json::text), space.work().to_str());
    assert_eq!(session.get("profile"), Some(&Json::Null));
    assert_eq!(session.get("first_words").and_then(Json::text), Some("a\u{1b}]0;title\u{7}b\u{202e}c second line"));
}
