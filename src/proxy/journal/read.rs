//! The runtime log read back: the end of it (`find` has it), counted. The log is untrusted text: anybody may have appended
//! to it, it may be torn, and it may be 0.2.38's. Knows the form of a line, not what to think of the counts.

use super::Marker;
use std::collections::BTreeMap;

/// What is shown of the last marker (0.2.38's number).
const LAST_CHARS: usize = 160;
/// Different names that are counted, of markers and of reasons: today there are about 40, and foreign text may invent more.
const MAX_NAMES: usize = 128;
/// Our longest marker has 31 characters.
const MAX_NAME: usize = 48;
/// `[2026-11-25 07:16:03.123 +00:00]`
const STAMP: usize = 32;

/// Markers of one word: a line of plain words must not look like one.
const WORDS: [Marker; 7] = [
    Marker::Candidate,
    Marker::Committed,
    Marker::Overloaded,
    Marker::Unauthorized,
    Marker::Binding,
    Marker::Workspace,
    Marker::Exchange,
];

/// What happened, as far as the sample reaches.
#[derive(Debug, Default, PartialEq)]
pub struct Summary {
    /// Lines of the log's own form.
    pub lines: u64,
    /// Lines of any other form, torn ones included.
    pub foreign: u64,
    markers: BTreeMap<String, u64>,
    /// Requests that we refused ourselves, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Times that work moved to another profile.
    pub moves: u64,
    /// From the request to the decision for an answer.
    pub commit_ms: Option<Spread>,
    /// From the request to its first byte.
    pub first_ms: Option<Spread>,
    /// The last line with a marker, its time included; no control characters.
    pub last: Option<String>,
}

/// Milliseconds of so many exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub p50: u64,
    pub p99: u64,
    pub count: u64,
}

impl Summary {
    pub fn count(&self, name: &str) -> u64 {
        self.markers.get(name).copied().unwrap_or(0)
    }

    /// Every marker that was seen, by name.
    pub fn markers(&self) -> impl Iterator<Item = (&str, u64)> {
        self.markers.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

/// Counts the lines of a sample.
pub fn summarize(sample: &[u8]) -> Summary {
    let mut summary = Summary::default();
    let (mut commit, mut first) = (Vec::new(), Vec::new());
    let mut newest = "";
    for line in sample.split_inclusive(|byte| *byte == b'\n') {
        // One without its end is being written, or was torn: its last number may not be whole.
        let line = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        let Some(text) = line.and_then(said) else {
            summary.foreign += 1;
            continue;
        };
        summary.lines += 1;
        let Some((name, fields)) = marker(text) else { continue };
        count(&mut summary.markers, name);
        // An exchange writes its lines together, when it waits: the last line need not be the newest.
        let line = line.unwrap_or_default();
        let at = line.get(..STAMP).unwrap_or_default();
        if at >= newest {
            newest = at;
            summary.last = Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LAST_CHARS).collect());
        }
        if name == Marker::Refused.name() {
            let reason = value(fields, "reason").filter(|reason| is_name(reason)).unwrap_or("other");
            count(&mut summary.refused, reason);
        } else if name == Marker::ProfileCommit.name() {
            summary.moves += u64::from(value(fields, "switched") == Some("true"));
        } else if name == Marker::Exchange.name() {
            let number = |name| value(fields, name).and_then(|value| value.parse::<u64>().ok());
            commit.extend(number("commit_ms"));
            // Without a byte there was no first one.
            first.extend(number("first_ms").filter(|_| number("bytes") != Some(0)));
        }
    }
    summary.commit_ms = spread(commit);
    summary.first_ms = spread(first);
    summary
}

/// What stands behind the time of a line; `None` for a line that has none.
fn said(line: &str) -> Option<&str> {
    let stamp = line.get(..STAMP)?.strip_prefix('[')?.strip_suffix(']')?;
    let fits = stamp.bytes().all(|byte| byte.is_ascii_digit() || b"-: .+".contains(&byte));
    line.get(STAMP..)?.strip_prefix(' ').filter(|_| fits)
}

/// The marker of a line and what follows it: `request=3 transport=http quota_blocked profile=main`, in 0.2.38 also
/// `candidate=main …`.
fn marker(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        if word.starts_with("request=") || word.starts_with("transport=") {
            rest = after;
            continue;
        }
        let name = word.split('=').next().unwrap_or(word);
        let known = || WORDS.iter().any(|word| word.name() == name);
        return (is_name(name) && (name.contains('_') || known())).then_some((name, after));
    }
}

fn is_name(text: &str) -> bool {
    (2..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The first field of this name.
fn value<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if counts.len() < MAX_NAMES {
        counts.insert(name.to_owned(), 1);
    }
}

/// By nearest rank.
fn spread(mut values: Vec<u64>) -> Option<Spread> {
    values.sort_unstable();
    let at = |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(Spread { p50: at(50)?, p99: at(99)?, count: values.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::super::find::{NoLog, latest};
    use super::super::{Journal, Tag};
    use super::*;
    use crate::proxy::route::Lane;
    use crate::state::scratch::Scratch;

    const STAMPED: &str = "[2026-11-25 07:16:03.123 +00:00] ";

    fn log(lines: &[&str]) -> Vec<u8> {
        lines.iter().flat_map(|line| format!("{STAMPED}{line}\n").into_bytes()).collect()
    }

    #[test]
    fn reads_what_the_journal_writes() {
        let scratch = Scratch::new("own");
        let dir = scratch.root();
        assert!(matches!(latest(dir), Err(NoLog::Never)));
        let journal = Journal::open(dir);
        let tag = Tag { request: 1, lane: Lane::Responses };
        journal.line(format_args!("runtime proxy started listen_addr=127.0.0.1:1"));
        journal.mark(tag, Marker::QuotaBlocked, format_args!("profile=main reason=quota"));
        journal.note(Marker::ProfileCommit, format_args!("profile=second switched=true"));
        journal.note(Marker::Refused, format_args!("reason=origin path=/x"));
        journal.mark(tag, Marker::Exchange, format_args!("profile=second commit_ms=40 first_ms=41 bytes=9 end=whole"));
        let sample = latest(dir).ok().unwrap();
        assert_eq!((sample.log.as_path(), sample.size), (journal.path(), sample.text.len() as u64));
        let summary = summarize(&sample.text);
        assert_eq!((summary.lines, summary.foreign, summary.moves), (5, 0, 1));
        assert_eq!(summary.markers().count(), 4);
        assert_eq!(summary.refused.get("origin"), Some(&1));
        assert_eq!(summary.commit_ms, Some(Spread { p50: 40, p99: 40, count: 1 }));
        assert_eq!(summary.first_ms, Some(Spread { p50: 41, p99: 41, count: 1 }));
        assert!(summary.last.unwrap().ends_with("end=whole"));
    }

    #[test]
    fn lines_of_038_and_lines_that_are_none() {
        let summary = summarize(&log(&[
            "runtime proxy log initialized pid=5011 cwd=/x",
            "request=1 transport=http candidate=second pinned=None",
            "binding response_ids profile=second count=1",
            "runtime_proxy_lane_limit_reached transport=http path=/x lane=standard active=4 limit=4",
            "runtime_proxy_refused detail=x",
            "runtime_proxy_refused reason=\u{9b}2J",
            "profile_commit profile=a switched=false",
            "exchange commit_ms=-3 first_ms=99999999999999999999999 bytes=1",
            "exchange profile=a turns=3 end=Client",
            "committed\u{1b}[2J profile=x",
            "Überraschung_x",
        ]));
        let markers: Vec<(&str, u64)> = summary.markers().collect();
        let expected = [
            ("binding", 1),
            ("candidate", 1),
            ("exchange", 2),
            ("profile_commit", 1),
            ("runtime_proxy_lane_limit_reached", 1),
            ("runtime_proxy_refused", 2),
        ];
        assert_eq!(markers, expected);
        assert_eq!((summary.moves, summary.commit_ms, summary.first_ms), (0, None, None));
        assert_eq!(summary.refused.into_iter().collect::<Vec<_>>(), [("other".to_owned(), 2)]);

        let foreign =
            b"hello\n\n[2026] x_y\n[2026-11-25 07:16:03.123 +00:00]x_y\n\xff\xfe\n[2026-11-25 07:16:03.123 +00:00] a_b";
        let summary = summarize(foreign);
        assert_eq!((summary.lines, summary.foreign, summary.last), (0, 6, None));
    }

    #[test]
    fn the_last_marker_is_short_and_steers_nothing() {
        let long = format!("quota_blocked profile=\u{1b}[2J\u{7}{}", "é".repeat(500));
        let last = summarize(&log(&[&long, "runtime proxy ended"])).last.unwrap();
        assert_eq!(last.chars().count(), LAST_CHARS);
        assert!(last.contains("quota_blocked profile= [2J ") && !last.contains(char::is_control), "{last}");
    }

    #[test]
    fn foreign_text_invents_no_more_names_than_are_kept() {
        let lines: Vec<String> = (0..1000).map(|n| format!("made_up_{n} x=1")).collect();
        let summary = summarize(&log(&lines.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!((summary.markers().count(), summary.lines), (MAX_NAMES, 1000));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let spread = spread((1..=200).rev().collect()).unwrap();
        assert_eq!((spread.p50, spread.p99, spread.count), (100, 198, 200));
        assert_eq!(super::spread(vec![]), None);
    }

    #[test]
    fn torn_logs_are_read_or_skipped() {
        let text = log(&[
            "request=1 transport=http exchange profile=a commit_ms=1 first_ms=2 bytes=3",
            "runtime_proxy_refused reason=NoSecret",
        ]);
        let bytes = [b'\n', b'=', b' ', b'[', b'9', 0, 0x1b, 0xff];
        for at in 0..text.len() {
            let cut = summarize(&text[..at]);
            assert_eq!(
                cut.lines + cut.foreign,
                u64::from(at > 0) + u64::from(at > text.iter().position(|b| *b == b'\n').unwrap() + 1)
            );
            for byte in bytes {
                let mut torn = text.clone();
                torn[at] = byte;
                assert!(summarize(&torn).last.is_none_or(|last| !last.contains(char::is_control)));
            }
        }
    }
}
