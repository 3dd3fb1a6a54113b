//! What was done under a profile outlives it: its threads, and the checkouts that codex made for them.

use crate::support::scene::{PATIENCE, Scene};
use crate::support::space::write_private;
use crate::support::standin::script::Script;
use crate::support::standin::token;
use std::fs;

#[test]
fn threads_and_worktrees_outlive_their_profile() {
    let accounts = ["first", "second", "third"];
    let scene = Scene::new("worktree", &accounts, Script::new(&accounts));
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let output = scene.space.run("git", &[&who, args].concat()).output();
        output.expect(0).stdout
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    let output = scene.run(&["exec", "--worktree", "Hello"]).output().expect(0);
    let id = output.stderr.lines().find_map(|line| line.strip_prefix("session id: ")).expect("an id");
    let list = git(&["worktree", "list", "--porcelain"]);
    let checkout = list.lines().filter_map(|line| line.strip_prefix("worktree ")).nth(1).expect("a second one");
    let place = scene.space.codex_home().join("worktrees");
    assert!(checkout.starts_with(place.to_str().expect("test paths are UTF-8")), "{checkout}");
    fs::write(format!("{checkout}/unfinished"), "work").expect("the checkout is there");

    scene.space.prodex(&["profile", "remove", "first", "--delete-home"]).output().expect(0);
    assert_eq!(fs::read_to_string(format!("{checkout}/unfinished")).expect("it is kept"), "work");
    let args = ["run", "-p", "second", "exec", "-C", checkout, "resume", id, "Go on"];
    let output = scene.space.prodex(&args).at_most(PATIENCE).output().expect(0);
    assert!(output.stderr.contains(&format!("workdir: {checkout}")), "{}", output.stderr);
    // Of the home nothing stays but the links through which codex reaches the thread; the name is free again.
    let home = scene.space.profile_home("first");
    let mut left = fs::read_dir(&home).expect("its links").flatten();
    assert!(left.all(|entry| entry.path().is_symlink()));
    scene.space.prodex(&["profile", "add", "first"]).output().expect(0);
    assert!(home.join("history.jsonl").is_symlink() && !home.join("auth.json").exists());
}

/// As QUICKSTART.md says it under "Out again": no profile, of prodex's directory only the links, and codex by itself.
#[test]
fn codex_alone_goes_on_with_what_was_begun_under_prodex() {
    let accounts = ["first", "second"];
    let scene = Scene::new("alone", &accounts, Script::new(&accounts));
    let begin = |words| {
        let output = scene.exec(&[words]).output().expect(0);
        let id = output.stderr.lines().find_map(|line| line.strip_prefix("session id: "));
        id.unwrap_or_else(|| panic!("{}", output.stderr)).to_owned()
    };
    let (one, two) = (begin("One"), begin("Two"));
    for name in accounts {
        scene.space.prodex(&["profile", "remove", name, "--delete-home"]).output().expect(0);
    }
    for entry in fs::read_dir(scene.space.prodex_home()).expect("its files").flatten() {
        if entry.file_name() != "profiles" {
            fs::remove_file(entry.path()).expect("a file");
        }
    }
    write_private(&scene.space.codex_home().join("auth.json"), &token::auth_json("first"));
    let resume = |id: &str| scene.alone(&scene.space.codex_home(), &["resume", id, "Go on"]);
    assert!(resume(&one).expect(0).stderr.contains(&format!("session id: {one}")));
    // Why they are to stay.
    fs::remove_dir_all(scene.space.prodex_home()).expect("the links");
    assert!(resume(&two).expect(1).stderr.contains("no rollout found"));
}
