//! `doctor --runtime`: what the counts of the runtime log mean, in the order of 0.2.38's diagnosis (`original.md` D.11), and
//! what to do about it. The log itself is `proxy::journal::read`'s.

use super::Finding;
use crate::proxy::journal::find::{self, NoLog};
use crate::proxy::journal::read::{self, Spread, Summary};
use crate::screen::panel::{Panel, Value};
use std::path::{Path, PathBuf};

/// Counts that people want to see, by the markers that make them up. 0.2.38's labels come first, in its order.
pub const COUNTS: &[(&str, &str, &[&str])] = &[
    ("queue_overload", "Queue overload", &["runtime_proxy_queue_overloaded"]),
    ("active_limit", "Active limit", &["runtime_proxy_active_limit_reached"]),
    ("lane_limit", "Lane limit", &["runtime_proxy_lane_limit_reached"]),
    ("overload_backoff", "Overload backoff", &["runtime_proxy_overload_backoff", "profile_overload_backoff"]),
    ("connect_failures", "Connect failures", &["upstream_connect_error", "upstream_connect_timeout"]),
    ("precommit_budget", "Pre-commit budget", &["precommit_budget_exhausted"]),
    ("retry_backoff", "Retry backoff", &["profile_retry_backoff"]),
    ("transport_backoff", "Transport backoff", &["profile_transport_backoff"]),
    ("health_penalties", "Health penalties", &["profile_health"]),
    ("stream_read_errors", "Stream read errors", &["stream_read_error"]),
    ("state_save_errors", "State save errors", &["state_save_error"]),
    ("quota_refusals", "Quota refusals", &["quota_blocked"]),
    ("upstream_overloads", "Upstream overloads", &["overloaded"]),
    ("bounces", "Bounces", &["websocket_bounce"]),
    ("replays", "Replays", &["websocket_replay"]),
    ("logins_refused", "Logins refused", &["unauthorized"]),
    ("logins_needed", "Logins needed", &["profile_login_needed"]),
    ("nobody_left", "Nobody left", &["candidate_exhausted"]),
    ("worker_panics", "Worker panics", &["worker_panic"]),
    ("exchanges", "Exchanges", &["exchange"]),
];

/// The latest log as far as it was read.
pub struct Runtime {
    pub pointer: PathBuf,
    pub log: Option<PathBuf>,
    /// Bytes of the whole log.
    pub size: u64,
    pub summary: Summary,
    pub diagnosis: Diagnosis,
}

/// Sentences without their full stops.
pub struct Diagnosis {
    /// Stable, for programs.
    pub id: &'static str,
    pub what: String,
    pub next: Option<String>,
}

impl Runtime {
    /// Reads the latest log in `dir`.
    pub fn read(dir: &Path) -> Runtime {
        let pointer = find::pointer(dir);
        match find::latest(dir) {
            Ok(sample) => {
                let summary = read::summarize(&sample.text);
                let diagnosis = diagnose(&summary);
                Runtime { pointer, log: Some(sample.log), size: sample.size, summary, diagnosis }
            }
            Err(no_log) => {
                let made = "`prodex run` writes one when at least two profiles have a ChatGPT login";
                let (id, what) = match no_log {
                    NoLog::Never => ("no_log", "there is no runtime log yet".to_owned()),
                    NoLog::Refused(why) => ("log_refused", why),
                };
                let diagnosis = Diagnosis { id, what, next: Some(made.to_owned()) };
                Runtime { pointer, log: None, size: 0, summary: Summary::default(), diagnosis }
            }
        }
    }

    /// What of it belongs among the findings.
    pub fn finding(&self) -> Option<Finding> {
        let next = self.diagnosis.next.as_deref().filter(|_| self.diagnosis.id != "no_log")?;
        let id = if self.log.is_some() { "runtime" } else { "runtime_log" };
        let what = if self.log.is_some() { "the last run: " } else { "" };
        Some(Finding::new(id, format!("{what}{}", self.diagnosis.what), next))
    }

    pub fn panel(&self) -> Panel {
        let text = |text: String| Value::Text(text);
        let mut rows = vec![("Log pointer", text(self.pointer.display().to_string()))];
        if let Some(log) = &self.log {
            rows.push(("Latest log", text(log.display().to_string())));
            let foreign = match self.summary.foreign {
                0 => String::new(),
                count => format!(", {count} torn or foreign"),
            };
            rows.push(("Log sample", text(format!("{} lines{foreign}", self.summary.lines))));
        }
        let summary = &self.summary;
        for (id, label, markers) in COUNTS {
            let count = total(summary, markers);
            if count > 0 && *id != "exchanges" {
                rows.push((label, text(count.to_string())));
            }
        }
        if summary.moves > 0 {
            rows.push(("Moves", text(summary.moves.to_string())));
        }
        if !summary.refused.is_empty() {
            let items = summary.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            rows.push(("Refused requests", Value::Items(items)));
        }
        let exchanges = summary.count("exchange");
        if exchanges > 0 {
            let mut items = vec![exchanges.to_string()];
            items.extend(summary.commit_ms.map(|spread| spread_words("commit", spread)));
            items.extend(summary.first_ms.map(|spread| spread_words("first byte", spread)));
            rows.push(("Exchanges", Value::Items(items)));
        }
        rows.extend(summary.last.clone().map(|last| ("Last marker", text(last))));
        rows.push(("Diagnosis", text(format!("{}.", self.diagnosis.what))));
        rows.extend(self.diagnosis.next.as_ref().map(|next| ("Next step", text(format!("{next}.")))));
        Panel { heading: "Runtime".to_owned(), rows }
    }
}

pub fn total(summary: &Summary, markers: &[&str]) -> u64 {
    markers.iter().map(|name| summary.count(name)).sum()
}

fn spread_words(what: &str, spread: Spread) -> String {
    format!("{what} p50 {} ms, p99 {} ms", spread.p50, spread.p99)
}

/// The first that applies. 0.2.38's order up to the missing first bytes, then what only we log.
fn diagnose(summary: &Summary) -> Diagnosis {
    let upstream = summary.count("first_upstream_chunk");
    let (lane, active) =
        (summary.count("runtime_proxy_lane_limit_reached"), summary.count("runtime_proxy_active_limit_reached"));
    // A limit that is reached writes one of these, too, and says more.
    let local = if lane + active == 0 { summary.count("runtime_proxy_overload_backoff") } else { 0 };
    let rules: [(&str, u64, &str, &str); 17] = [
        (
            "overload",
            local + total(summary, &["profile_overload_backoff", "overloaded"]),
            "the backend or the proxy was overloaded, and fresh work was kept away for a while",
            "Wait a minute; if it stays, see https://status.openai.com",
        ),
        (
            "lane_limit",
            lane,
            "one kind of work reached its limit of requests at once",
            "Start fewer agents at the same time",
        ),
        ("active_limit", active, "the limit of requests at once was reached", "Start fewer agents at the same time"),
        (
            "queue_overload",
            summary.count("runtime_proxy_queue_overloaded"),
            "more requests came at once than the proxy serves",
            "Start fewer agents at the same time",
        ),
        (
            "in_flight",
            summary.count("profile_inflight_saturated"),
            "one profile had as many requests at once as it may have",
            "Add another account: `prodex profile add NAME`, then `prodex login -p NAME`",
        ),
        (
            "precommit_budget",
            summary.count("precommit_budget_exhausted"),
            "no profile answered within the time or the attempts that a request has",
            "See which are ready: `prodex quota --all --once`",
        ),
        (
            "stream_read_errors",
            summary.count("stream_read_error"),
            "answers broke off on their way from the backend",
            "Check the network; codex has tried again by itself",
        ),
        (
            "connect_failures",
            total(summary, &["upstream_connect_error", "upstream_connect_timeout"]),
            "the backend could not be reached",
            "Check the network, and the endpoint that `prodex doctor` shows",
        ),
        (
            "state_save_errors",
            summary.count("state_save_error"),
            "the active profile could not be written to state.json",
            "Look at the disk and at the permissions of the prodex root: `prodex doctor`",
        ),
        (
            "missing_local_chunk",
            if summary.count("first_local_chunk") < upstream { upstream } else { 0 },
            "the backend began answers that codex did not get",
            "Say so in an issue, with the log",
        ),
        ("worker_panics", summary.count("worker_panic"), "a bug ended an exchange", "Say so in an issue, with the log"),
        (
            "logins_needed",
            summary.count("profile_login_needed"),
            "the backend refused the login of a profile",
            "See which: `prodex doctor --quota`, then log in again with `prodex login -p NAME`",
        ),
        (
            "nobody_left",
            summary.count("candidate_exhausted"),
            "no profile could take the work",
            "See which are ready: `prodex quota --all --once`",
        ),
        (
            "refused",
            summary.refused.values().sum(),
            "requests that did not come from this run's codex were refused",
            "If you did not send them, look for the program that does; nothing was spent",
        ),
        ("moves", summary.moves, "work moved to another profile, as it should when a quota is used up", ""),
        (
            "quota",
            summary.count("quota_blocked"),
            "a profile was out of quota",
            "See which: `prodex quota --all --once`",
        ),
        ("logins_refused", summary.count("unauthorized"), "the backend refused an access token once", ""),
    ];
    for (id, count, what, next) in rules {
        if count > 0 {
            let next = (!next.is_empty()).then(|| next.to_owned());
            return Diagnosis { id, what: what.to_owned(), next };
        }
    }
    let what = "No recent overload or stream-failure markers were detected in the sampled runtime tail";
    Diagnosis { id: "ok", what: what.to_owned(), next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Summary {
        let stamped = |line: &&str| format!("[2026-11-25 07:16:03.123 +00:00] {line}\n").into_bytes();
        read::summarize(&lines.iter().flat_map(stamped).collect::<Vec<u8>>())
    }

    #[test]
    fn the_first_that_applies_is_the_diagnosis() {
        let rows: [(&[&str], &str); 16] = [
            (&[], "ok"),
            (&["binding session_id profile=a", "profile_commit profile=a switched=false"], "ok"),
            (&["request=1 transport=http unauthorized profile=a"], "logins_refused"),
            (&["quota_blocked profile=a", "unauthorized profile=a"], "quota"),
            (&["quota_blocked profile=a", "profile_commit profile=b switched=true"], "moves"),
            (&["runtime_proxy_refused reason=origin path=/x", "profile_commit profile=b switched=true"], "refused"),
            (&["worker_panic the exchange was dropped", "profile_login_needed profile=a"], "worker_panics"),
            (&["first_upstream_chunk bytes=1", "first_local_chunk bytes=1"], "ok"),
            (&["first_upstream_chunk bytes=1", "worker_panic x"], "missing_local_chunk"),
            (&["state_save_error error=x", "upstream_connect_error phase=tls"], "connect_failures"),
            (&["stream_read_error profile=a", "upstream_connect_error phase=tls"], "stream_read_errors"),
            (&["precommit_budget_exhausted attempts=3", "stream_read_error x"], "precommit_budget"),
            (&["runtime_proxy_queue_overloaded reason=x", "profile_inflight_saturated x"], "queue_overload"),
            (&["runtime_proxy_overload_backoff until=1"], "overload"),
            (&["runtime_proxy_lane_limit_reached x", "runtime_proxy_overload_backoff until=1"], "lane_limit"),
            (&["runtime_proxy_lane_limit_reached x", "overloaded profile=a reason=overload"], "overload"),
        ];
        for (lines, id) in rows {
            assert_eq!(diagnose(&of(lines)).id, id, "{lines:?}");
        }
    }

    #[test]
    fn the_panel_shows_only_what_happened() {
        let summary = of(&[
            "quota_blocked profile=a",
            "profile_commit profile=b switched=true",
            "runtime_proxy_refused reason=NoSecret",
            "exchange profile=b commit_ms=5 first_ms=6 bytes=7",
        ]);
        let diagnosis = diagnose(&summary);
        let runtime = Runtime { pointer: "/p".into(), log: Some("/l".into()), size: 9, summary, diagnosis };
        let text = crate::screen::doctor::page(&[], &[runtime.panel()], 80);
        for row in ["\nQuota refusals:   1\n", "\nMoves:            1\n", "\nRefused requests: NoSecret 1\n"] {
            assert!(text.contains(row), "{text}");
        }
        assert!(text.contains("1 | commit p50 5 ms, p99 5 ms | first byte p50 6 ms, p99 6 ms"), "{text}");
        assert!(!text.contains(" 0\n") && !text.contains("Bounces"), "{text}");
    }
}
