//! The completions in the three real shells, in a real terminal, and the manual page as man reads it. A shell that is not
//! installed is told and passed over; `scripts/test` installs them.

use crate::support::scene::SOON;
use crate::support::space::TestSpace;
use crate::support::tmux::Tmux;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("{program} is not installed: not tried");
    }
    found
}

/// Types each line's beginning and Tab, and sees the rest come.
fn completes(shell: &[&str], ready: &[&str]) {
    if !is_installed(shell[0]) {
        return;
    }
    let space = TestSpace::new("completions");
    for name in ["alpha", "beta"] {
        space.prodex(&["profile", "add", name]).output().expect(0);
    }
    fs::write(space.work().join("notes.txt"), "").expect("a file");
    let binary = Path::new(env!("CARGO_BIN_EXE_prodex")).parent().expect("a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let work = space.work().display().to_string();
    let env = [("PATH", path.as_str()), ("TERM", "xterm"), ("PS1", "$ ")];
    let tmux = Tmux::start(&space, 100, 30, &env, shell);
    for line in ready.iter().copied().chain([format!("cd {work}; clear; echo re''ady").as_str()]) {
        tmux.send_keys(&["-l", line]);
        tmux.send_keys(&["Enter"]);
    }
    tmux.wait_until("a shell that is ready", SOON, |screen| screen.lines().any(|line| line.trim() == "ready"));
    for (typed, whole) in [
        ("prodex profile rem", "prodex profile remove"),
        ("prodex profile remove al", "prodex profile remove alpha"),
        ("prodex use -p be", "prodex use -p beta"),
        ("prodex quota --profile=al", "prodex quota --profile=alpha"),
        ("prodex run --profile=be", "prodex run --profile=beta"),
        ("prodex help profile import-", "prodex help profile import-current"),
        ("prodex quota --deta", "prodex quota --detail"),
        ("prodex run --skip", "prodex run --skip-quota-check"),
        ("prodex run -p alpha exec no", "prodex run -p alpha exec notes.txt"),
        ("prodex completions zs", "prodex completions zsh"),
    ] {
        tmux.send_keys(&["-l", typed]);
        tmux.send_keys(&["Tab"]);
        // Shells show what they suggest: only what Enter would take counts.
        tmux.wait_for(whole, SOON);
        tmux.send_keys(&["-l", " #done"]);
        tmux.wait_until(whole, SOON, |screen| {
            let line = screen.lines().rfind(|line| line.contains("#done")).unwrap_or_default();
            line.contains(&format!("{whole} ")) && line.trim_end().ends_with("#done")
        });
        tmux.send_keys(&["C-u"]);
        tmux.wait_until("an empty line", SOON, |screen| !screen.contains("#done"));
    }
}

#[test]
fn in_bash() {
    completes(&["bash", "--norc", "-i"], &["source <(prodex completions bash)"]);
}

#[test]
fn in_zsh() {
    let ready = ["autoload -Uz compinit; compinit -u -D", "source <(prodex completions zsh)"];
    completes(&["zsh", "-f", "-i"], &ready);
}

#[test]
fn in_fish() {
    completes(&["fish", "--no-config", "-i"], &["prodex completions fish | source"]);
}

#[test]
fn a_shell_that_is_not_known_is_an_error() {
    let space = TestSpace::new("no-shell");
    let output = space.prodex(&["completions", "tcsh"]).output().expect(2);
    assert!(output.stderr.contains("'tcsh' is not one of bash, zsh and fish"), "{}", output.stderr);
}

#[test]
fn man_has_nothing_to_complain_of() {
    let space = TestSpace::new("man");
    let page = space.prodex(&["man"]).output().expect(0).stdout;
    if !is_installed("man") {
        return;
    }
    let mut man = Command::new("man")
        .args(["--warnings", "-E", "UTF-8", "-l", "-"])
        .env("MANWIDTH", "80")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("man runs");
    man.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("it reads");
    let output = man.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("prodex quota [OPTIONS]") && text.contains("PRODEX_HOME"), "{text}");
}
