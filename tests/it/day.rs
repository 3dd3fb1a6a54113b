//! A day with the real codex: two logins, threads under both, resumed across, logout, login again, a profile removed with
//! its home. Each step is looked at on disk. Only the login itself is made up: the browser's part has no stand-in.

use crate::support::codex;
use crate::support::run::{Output, Run};
use crate::support::scene::{PATIENCE, Scene};
use crate::support::space::{TestSpace, write_private};
use crate::support::standin::backend::Backend;
use crate::support::standin::script::Script;
use crate::support::standin::token;
use crate::support::tmux::Tmux;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const ACCOUNTS: [&str; 3] = ["first", "second", "third"];
/// What prodex calls their profiles.
const FIRST: &str = "first_example.com";
const SECOND: &str = "second_example.com";

struct Day {
    scene: Scene,
}

impl Day {
    /// No profile yet, and a codex that is the real one but for `login`.
    fn new() -> Day {
        let (mut space, backend) = (TestSpace::new("day"), Backend::start(Script::new(&ACCOUNTS)));
        space.use_backend(&backend);
        let mut scene = Scene { space, backend };
        let (root, real) = (scene.space.root().to_owned(), codex::real(codex::CURRENT));
        let wrapper = root.join("codex");
        let next = root.join("next");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = login ]; then umask 077; cp '{}' \"$CODEX_HOME/auth.json\"; else exec '{}' \"$@\"; fi\n",
            next.display(),
            real.display()
        );
        fs::write(&wrapper, script).expect("the wrapper is written");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("it can be run");
        scene.space.env("PRODEX_CODEX_BIN", wrapper.to_str().expect("UTF-8"));
        // `codex logout` tells the server; this one does not know the path, which is no matter.
        let revoke = format!("{}/revoke", scene.backend.base_url());
        scene.space.env("CODEX_REVOKE_TOKEN_URL_OVERRIDE", &revoke);
        Day { scene }
    }

    #[track_caller]
    fn login(&self, account: &str) -> String {
        let (space, auth_json) = (&self.scene.space, token::auth_json(account));
        write_private(&space.root().join("next"), &auth_json);
        let said = self.prodex(&["login"]).stdout;
        let stored = space.profile_home(&format!("{account}_example.com")).join("auth.json");
        assert_eq!(fs::read_to_string(stored).expect("a login"), auth_json);
        said
    }

    #[track_caller]
    fn prodex(&self, args: &[&str]) -> Output {
        self.scene.space.prodex(args).at_most(PATIENCE).output().expect(0)
    }

    fn exec(&self, profile: &str, args: &[&str]) -> Run {
        self.scene.space.prodex(&[&["run", "-p", profile, "exec", "--skip-git-repo-check"], args].concat())
    }

    /// The id of the thread in which that was said.
    #[track_caller]
    fn say(&self, profile: &str, args: &[&str]) -> String {
        let output = self.exec(profile, args).at_most(PATIENCE).output().expect(0);
        let id = output.stderr.lines().find_map(|line| line.strip_prefix("session id: "));
        id.unwrap_or_else(|| panic!("{}", output.stderr)).to_owned()
    }

    /// The ids of `session list`, and the profiles that it names.
    #[track_caller]
    fn listed(&self) -> Vec<(String, String)> {
        let text = self.prodex(&["session", "list"]).stdout;
        let line = |line: &str| {
            let mut words = line.split("  ");
            let id = words.next().filter(|id| id.len() == 36)?.to_owned();
            Some((id, words.nth(1).unwrap_or_default().to_owned()))
        };
        text.lines().filter_map(line).collect()
    }

    fn transcript(&self, id: &str) -> String {
        let files = files(&self.scene.space.codex_home().join("sessions"));
        let mut found = files.into_iter().filter(|(path, _)| path.to_string_lossy().contains(id));
        let (_, bytes) = found.next().expect("a transcript of this id");
        assert!(found.next().is_none(), "two transcripts of {id}");
        String::from_utf8(bytes).expect("a transcript is text")
    }
}

/// Everything below, links not followed.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            all.append(&mut files(&path));
        } else if kind.is_file() {
            all.insert(path.clone(), fs::read(&path).expect("a file that is there"));
        }
    }
    all
}

#[test]
fn a_day() {
    let day = Day::new();
    let space = &day.scene.space;
    assert!(day.login("first").contains(&format!("Created profile '{FIRST}'.")));
    assert!(day.login("second").contains(&format!("Created profile '{SECOND}'.")));

    // So that a proxy stands in between when one is gone: alone, codex would ask its own backend.
    day.login("third");

    // A thread under each; both lie in the one store, each with its creator.
    let one = day.say(FIRST, &["Plan the garden"]);
    let two = day.say(SECOND, &["Paint the fence"]);
    assert!(day.transcript(&one).lines().next().unwrap().contains("\"creator_account_id\":\"acct-first\""));
    assert!(day.transcript(&two).lines().next().unwrap().contains("\"creator_account_id\":\"acct-second\""));
    let of = |id: &str, profile: &str| (id.to_owned(), profile.to_owned());
    assert_eq!(day.listed(), [of(&two, SECOND), of(&one, FIRST)]);

    // The last one is the other account's.
    assert_eq!(day.say(FIRST, &["resume", "--last", "In green"]), two);
    assert!(day.transcript(&two).contains("In green"));
    // By its id, the other way round, and now it is the last.
    assert_eq!(day.say(SECOND, &["resume", &one, "With roses"]), one);
    assert!(day.transcript(&one).contains("With roses"));
    assert_eq!(day.say(SECOND, &["resume", "--last", "And a pond"]), one);
    assert_eq!(day.listed().iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [one.as_str(), &two]);

    // In another directory there is no last one, so codex begins; everywhere there is.
    fs::create_dir(space.work().join("elsewhere")).unwrap();
    let begun = day.say(FIRST, &["-C", "elsewhere", "resume", "--last", "Count the bees"]);
    assert!(begun != one && begun != two);
    assert_eq!(day.say(SECOND, &["-C", "elsewhere", "resume", "--last", "Again"]), begun);
    assert_eq!(day.say(SECOND, &["resume", "--last", "Is it green"]), one);
    assert_eq!(day.say(FIRST, &["-C", "elsewhere", "resume", "--last", "--all", "And blue"]), one);

    // Logged out: the login is gone, and nothing else.
    let before = files(&space.codex_home().join("sessions"));
    day.prodex(&["logout", SECOND]);
    assert!(!space.profile_home(SECOND).join("auth.json").exists());
    assert_eq!(files(&space.codex_home().join("sessions")), before);
    assert_eq!(day.listed().len(), 3);
    assert!(day.login("second").contains(&format!("Reusing profile '{SECOND}'.")));
    assert_eq!(day.say(SECOND, &["resume", &two, "Once more"]), two);

    // Removed with its home: the home is gone, the history is not.
    let before = files(&space.codex_home());
    day.prodex(&["profile", "remove", SECOND, "--delete-home"]);
    // But for the links through which codex reaches its threads.
    let mut left = fs::read_dir(space.profile_home(SECOND)).expect("its links").flatten();
    assert!(left.all(|entry| entry.path().is_symlink()));
    assert_eq!(files(&space.codex_home()), before);
    assert_eq!(day.listed().len(), 3);
    assert_eq!(day.say(FIRST, &["resume", &two, "Without you"]), two);
    assert!(!space.codex_home().join("auth.json").exists());
    day.scene.nothing_left();
}

/// Under one account codex's own `--last` and prodex's are the same thread.
#[test]
fn codexs_own_last() {
    let scene = Scene::new("last", &["first", "second"], Script::new(&["first", "second"]));
    let said = |output: Output| {
        let output = output.expect(0);
        let id = output.stderr.lines().find_map(|line| line.strip_prefix("session id: "));
        id.unwrap_or_else(|| panic!("{}", output.stderr)).to_owned()
    };
    fs::create_dir(scene.space.work().join("below")).unwrap();
    let one = said(scene.exec(&["One"]).output());
    let two = said(scene.exec(&["Two"]).output());
    // The last one that was gone on with, not the last begun.
    said(scene.direct("first", &["resume", &one, "Again"]));
    assert_eq!(said(scene.direct("first", &["resume", "--last", "And"])), one);
    assert_eq!(said(scene.exec(&["resume", "--last", "And"]).output()), one);
    // Where its last turn ran, not where it began.
    said(scene.direct("first", &["-C", "below", "resume", &two, "Below"]));
    assert_eq!(said(scene.direct("first", &["resume", "--last", "And"])), one);
    assert_eq!(said(scene.exec(&["resume", "--last", "And"]).output()), one);
    assert_eq!(said(scene.direct("first", &["-C", "below", "resume", "--last", "And"])), two);
    assert_eq!(said(scene.exec(&["-C", "below", "resume", "--last", "And"]).output()), two);
    assert_eq!(said(scene.direct("first", &["resume", "--last", "--all", "And"])), two);
}

/// On codex's own screen: the last thread of a person, begun under the other account; `fork` likewise.
#[test]
fn resume_last_on_the_screen() {
    let scene = Scene::new("last-screen", &["first", "second"], Script::new(&["first", "second"]));
    let space = &scene.space;
    let trusted = format!(
        "check_for_update_on_startup = false\n[projects.\"{}\"]\ntrust_level = \"trusted\"\n",
        space.work().display()
    );
    for name in ["first", "second"] {
        fs::write(space.profile_home(name).join("config.toml"), &trusted).expect("a config.toml");
    }
    let open = |args: &[&str], shows: &str| {
        let tmux = Tmux::start(space, 100, 30, &[], &[&[env!("CARGO_BIN_EXE_prodex"), "run"], args].concat());
        tmux.wait_until("prompt", PATIENCE, |screen| screen.contains("\n›") && screen.contains(shows));
        tmux
    };
    let quit = |tmux: &Tmux| {
        tmux.wait_until("end", PATIENCE, |_| {
            tmux.send_keys(&["C-c"]);
            tmux.exit_status().is_some()
        });
    };
    let tmux = open(&["-p", "first"], "");
    tmux.send_keys(&["-l", "Plan the garden"]);
    tmux.wait_for("› Plan the garden", PATIENCE);
    tmux.wait_until("answer", PATIENCE, |screen| {
        if !screen.contains("Hello from first.") {
            tmux.send_keys(&["Enter"]);
        }
        screen.contains("Hello from first.")
    });
    quit(&tmux);
    // Later, and no thread of the screen's kind.
    scene.exec(&["Count the bees"]).output().expect(0);
    for verb in ["resume", "fork"] {
        let tmux = open(&["-p", "second", verb, "--last"], "Hello from first.");
        assert!(tmux.capture().contains("Plan the garden"), "{verb}:\n{}", tmux.capture());
        quit(&tmux);
    }
    scene.nothing_left();
}

/// Both profiles' first runs at once, over a history that is not there yet, with others that come while those write.
#[test]
fn eight_at_once_over_one_history() {
    let scene = Scene::new("at-once", &["first", "second"], Script::new(&["first", "second"]));
    let begin = |number: usize| {
        let profile = ["first", "second"][number % 2];
        let words = format!("Job number {number}");
        let args = ["run", "-p", profile, "--skip-quota-check", "exec", "--skip-git-repo-check", &words];
        scene.space.prodex(&args).start()
    };
    let mut running: Vec<_> = (0..4).map(begin).collect();
    for number in 4..8 {
        running.remove(0).wait(PATIENCE).expect(0);
        running.push(begin(number));
    }
    for run in running {
        let output = run.wait(PATIENCE).expect(0);
        assert!(!output.stderr.contains(".aside-"), "{}", output.stderr);
    }
    let listed = scene.space.prodex(&["session", "list"]).output().expect(0);
    for number in 0..8 {
        assert!(listed.stdout.contains(&format!("Job number {number}")), "{}", listed.stdout);
    }
    assert_eq!(listed.stderr, "");
    for name in ["first", "second"] {
        let home = scene.space.profile_home(name);
        let real = files(&home).into_keys().filter(|path| path.to_string_lossy().contains(".sqlite"));
        assert_eq!(real.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "databases of its own");
    }
}
