//! The command line from outside: streams, exit codes, one line of error.

use std::process::{Command, Output, Stdio};

fn prodex(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prodex"));
    // No HOME: help, version and bad command lines need none.
    command.args(args).env_clear().stdin(Stdio::null()).output().expect("prodex runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in [&["--help"][..], &["help"], &["-h"], &["run", "-h"], &["profile", "add", "--help"], &["help", "quota"]]
    {
        let output = prodex(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains("Usage: prodex"), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
    for flag in ["-V", "--version"] {
        assert_eq!(text(&prodex(&[flag]).stdout), format!("prodex {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn no_command_is_help_on_stderr_and_exit_2() {
    for args in [&[][..], &["profile"]] {
        let output = prodex(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
        assert!(text(&output.stderr).contains("Commands:"), "{args:?}");
    }
}

#[test]
fn a_bad_command_line_is_one_line_on_stderr_and_exit_2() {
    let rows = [
        (&["quoat"][..], "Did you mean `prodex quota`?"),
        (&["quota", "--al"], "Did you mean `--all`?"),
        (&["use"], "NAME is missing"),
        (&["login", "--with-api-key"], "prodex login -p NAME"),
        (&["run", "--auto-rotate", "--no-auto-rotate"], "exclude each other"),
        (&["a\nb\u{1b}[2J"], "unknown command 'a b [2J'"),
    ];
    for (args, expected) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prodex"));
        let output = command.args(args).env_clear().env("HOME", "/dev/null/nowhere").output().expect("prodex runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}

#[test]
fn without_a_home_the_error_says_what_to_set() {
    let output = prodex(&["profile", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("HOME is not set"));
}
