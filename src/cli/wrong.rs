//! What to say of a command line that is wrong: what was typed, what was probably meant, what would be right (spec S-13).
//! Knows the table's words and no parser.

use super::table::Spec;
use crate::error::Error;

/// Commands of codex that people type here.
const CODEX: [&str; 6] = ["exec", "resume", "fork", "review", "mcp", "apply"];

/// What other programs call what is here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("rm", "remove"),
    ("delete", "remove"),
    ("ls", "list"),
    ("new", "add"),
    ("create", "add"),
    ("switch", "use"),
    ("status", "current"),
];

pub fn unknown_command(typed: &str, candidates: &[(&str, String)]) -> Error {
    let error = Error::usage(format!("unknown command '{}'", shown(typed)));
    let last = typed.rsplit(' ').next().unwrap_or(typed);
    if CODEX.contains(&typed) {
        return error.next(format!("Codex's own commands go behind `run`: `prodex run {typed}`."));
    }
    if typed == "version" {
        return error.next("Did you mean `prodex --version`?");
    }
    let last = ELSEWHERE.iter().find(|(word, _)| *word == last).map_or(last, |(_, here)| here);
    match closest(last, candidates.iter().map(|(word, full)| (*word, full.as_str()))) {
        Some(full) => error.next(format!("Did you mean `prodex {full}`?")),
        None => error.next("See `prodex help`."),
    }
}

pub fn unknown_flag(spec: &'static Spec, typed: &str) -> Error {
    let error = Error::usage(format!("unknown option '{}' of `{}`", shown(typed), spec.line()));
    let word = typed.trim_start_matches('-');
    let flags = spec.all_flags().filter(|flag| !flag.hidden).map(|flag| (flag.long, flag.long));
    match closest(word, flags).filter(|_| typed.starts_with("--")) {
        Some(long) => error.next(format!("Did you mean `--{long}`?")),
        None => error.next(format!("See `{} --help`.", spec.line())),
    }
}

/// An error about a command line with known words, and the usage that would be right.
pub fn wrong(what: &str, spec: &Spec) -> Error {
    Error::usage(what).next(format!("Usage: `{}`", spec.usage()))
}

/// What was typed, short enough for one line.
pub fn shown(word: &str) -> String {
    let mut chars = word.chars();
    let short: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() { short + "…" } else { short }
}

/// The candidate that was probably meant: at most a third of the letters wrong, or an unfinished word.
fn closest<'a>(typed: &str, candidates: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    if typed.is_empty() || typed.len() > 40 {
        return None;
    }
    let scored = candidates.filter_map(|(word, full)| {
        let unfinished = typed.len() > 1 && word.starts_with(typed);
        let distance = if unfinished { 0 } else { edits(typed, word) };
        (distance <= typed.chars().count().max(3) / 3).then_some((distance, full))
    });
    scored.min_by_key(|(distance, _)| *distance).map(|(_, full)| full)
}

/// Letters to insert, drop, replace or swap with their neighbour.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
