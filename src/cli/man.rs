//! The manual page in roff (man(7)), made from the table of commands, and what stands beside it: environment, files, exit
//! codes. Pure.

use super::help::wrap;
use super::table::{COMMANDS, Spec, find};
use std::fmt::Write as _;

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PRODEX_HOME", "Where profiles live; default ~/.prodex."),
    ("PRODEX_CODEX_BIN", "The codex to start; default codex in PATH."),
    ("PRODEX_SHARED_CODEX_HOME", "Whose history the profiles share; default ~/.codex."),
    ("CODEX_CHATGPT_BASE_URL", "The backend; --base-url wins."),
    ("PRODEX_TERM_COLUMNS, PRODEX_TERM_LINES", "The size of the screen, instead of asking the terminal."),
    ("CODEX_CA_CERTIFICATE, SSL_CERT_FILE, SSL_CERT_DIR", "CA certificates on top of the bundled ones."),
    ("HTTPS_PROXY, http_proxy, ALL_PROXY, NO_PROXY", "The way out to the backend, by CONNECT."),
    ("PRODEX_RUNTIME_PROXY_*", "Limits of the proxy; the README lists them."),
];

const FILES: &[(&str, &str)] = &[
    ("~/.prodex/state.json", "Profiles, and which one is active."),
    ("~/.prodex/profiles/NAME/", "One CODEX_HOME."),
    ("~/.prodex/quota.json", "What is known of each account's quota."),
    ("~/.prodex/bindings.log", "Which response and session belongs to which profile."),
    ("$TMPDIR/prodex-runtime-PID-MILLIS.log", "What the proxy of one run did, and why."),
];

const EXIT: &[(&str, &str)] = &[
    ("0", "All is well; also of run, login and logout when codex returned it."),
    ("1", "It failed; what happened and what to do stands on stderr."),
    ("2", "A bad command line, or a run that the quota check stopped."),
    ("128+N", "Signal N ended codex."),
];

pub fn page(version: &str) -> String {
    let mut text = format!(".TH PRODEX 1 \"\" \"prodex {}\" \"User Commands\"\n", escaped(version));
    text.push_str(
        ".SH NAME\nprodex \\- several ChatGPT logins for codex, and work that goes on when one of them runs out\n",
    );
    text.push_str(".SH SYNOPSIS\n.B prodex\n.I COMMAND\n[OPTIONS] [ARGUMENTS]\n.SH EXAMPLES\n");
    for (line, what) in find(&[]).map_or(&[][..], |spec| spec.examples) {
        entry(&mut text, line, what);
    }
    text.push_str(".SH COMMANDS\n");
    for spec in COMMANDS.iter().filter(|spec| !spec.hidden && !spec.path.is_empty()) {
        command(&mut text, spec);
    }
    for (title, rows) in [("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXIT STATUS", EXIT)] {
        let _ = writeln!(text, ".SH {title}");
        for (name, about) in rows {
            entry(&mut text, name, about);
        }
    }
    text.push_str(".SH SEE ALSO\nThe README of prodex; \\fBcodex \\-\\-help\\fR.\n");
    text
}

fn command(text: &mut String, spec: &Spec) {
    let _ = writeln!(text, ".SS {}", escaped(&spec.usage()));
    let _ = writeln!(text, "{}.", escaped(spec.about.trim_end_matches('.')));
    for argument in spec.arguments {
        entry(text, argument.name, argument.about);
    }
    for flag in spec.flags.iter().filter(|flag| !flag.hidden) {
        entry(text, flag.shown().trim_start(), flag.about);
    }
    for paragraph in spec.paragraphs() {
        text.push_str(".PP\n");
        filled(text, &paragraph);
    }
    for (index, (line, what)) in spec.examples.iter().enumerate() {
        text.push_str(if index == 0 { ".PP\nExamples:\n" } else { "" });
        entry(text, line, what);
    }
}

fn entry(text: &mut String, name: &str, about: &str) {
    let _ = writeln!(text, ".TP\n\\fB{}\\fR", escaped(name));
    filled(text, about);
}

/// On lines that a reader of the source likes, each safe from roff.
fn filled(text: &mut String, words: &str) {
    let mut lines = String::new();
    wrap(&mut lines, words, 0);
    for line in lines.lines() {
        let _ = writeln!(text, "{}", escaped(line));
    }
}

/// Nothing in it steers roff: a backslash, a hyphen that must stay one, a line that begins like a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shown_command_and_flag_is_in_it() {
        let page = page("0.0.0");
        for spec in COMMANDS.iter().filter(|spec| !spec.path.is_empty()) {
            let heading = format!(".SS {}\n", escaped(&spec.usage()));
            assert_eq!(page.contains(&heading), !spec.hidden, "{heading}");
            for flag in spec.flags {
                assert!(flag.hidden || page.contains(&escaped(&format!("--{}", flag.long))), "{}", flag.long);
            }
        }
        assert!(page.is_ascii() && !page.lines().any(str::is_empty));
        assert_eq!(escaped(".a\\b-c'"), "\\&.a\\eb\\-c\\(aq");
    }
}
