//! Quotas as people read them: the words for one account and the order of all (spec S-43). How they stand on a screen is
//! said by `overview` and `single`. Knows no backend.

mod foot;
pub mod overview;
pub mod single;

pub use overview::overview;
pub use single::single;

use super::text;
use super::time::{self, Zone};
use crate::quota::pool::Pool;
use crate::quota::{Block, Limit, Readiness, Reading, span_words};

/// One account.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub name: &'a str,
    /// The active profile.
    pub current: bool,
    pub auth: &'a str,
    /// The e-mail as prodex knows it; the backend's own comes second.
    pub account: Option<&'a str>,
    /// What the backend said, or why it said nothing: nothing, where nobody asked.
    pub quota: Result<&'a Reading, &'a str>,
    /// How far its owner lets it take part, where not fully: `disabled`.
    pub rotation: Option<&'a str>,
    /// Only in a view that stays.
    pub live: Option<Live<'a>>,
}

/// How it stands with the question for an account in a view that stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live<'a> {
    /// Seconds since the reading.
    pub age: Option<u64>,
    /// An answer is under way.
    pub asking: bool,
    /// What came of the last question, when that was no reading.
    pub problem: Option<&'a str>,
}

impl Row<'_> {
    /// Nothing is known yet.
    fn waits(&self) -> bool {
        self.quota.is_err() && self.live.is_some_and(|live| live.asking && live.problem.is_none())
    }

    /// The status and, in a view that stays, how old it is.
    fn words(&self, now: u64, zone: Zone) -> String {
        let words = if self.waits() { "asking the backend...".to_owned() } else { status(self.quota, now, zone) };
        let live = self.live.unwrap_or_default();
        let problem = live.problem.filter(|_| self.quota.is_ok());
        let problem = problem.map(|problem| format!("not renewed: {}", text::clean(problem)));
        let age = live.age.map(|age| format!("read {}", time::ago(age)));
        let rotation = self.rotation.map(text::clean);
        [Some(words), rotation, problem, age].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// From here on a status bar says how old its numbers are. Seconds.
const OLD: u64 = 900;

/// `work 5h 63% | weekly 88% | 3 of 4 ready`: one line for a status bar, of what is known.
pub fn line(name: &str, reading: Option<&Reading>, disabled: bool, pool: Option<&Pool>, now: u64) -> String {
    let mut parts: Vec<String> = reading
        .map_or(&[][..], |reading| &reading.windows)
        .iter()
        .filter_map(|window| Some(format!("{} {}%", window.label(), window.left_percent(now)?)))
        .collect();
    if parts.is_empty() {
        parts.push(if reading.is_some() { "?" } else { "not read yet" }.to_owned());
    }
    let age = reading.map_or(0, |reading| now.saturating_sub(reading.taken_at));
    parts.extend((age >= OLD).then(|| format!("{} ago", span_words(age))));
    parts.extend(disabled.then(|| "disabled".to_owned()));
    parts.extend(pool.filter(|pool| pool.known > 1).map(|pool| format!("{} of {} ready", pool.ready, pool.known)));
    format!("{} {}\n", text::clean(name), parts.join(" | "))
}

/// `Ready`, `Blocked: 5h exhausted until 2026-11-25 09:46 +00:00`, `Error: …`; clean, on one line.
pub fn status(quota: Result<&Reading, &str>, now: u64, zone: Zone) -> String {
    let words = match quota {
        Err("") => "Not read yet".to_owned(),
        Err(error) => format!("Error: {error}"),
        Ok(reading) => {
            let mut parts = match reading.readiness(now) {
                Readiness::Ready => vec!["Ready".to_owned()],
                Readiness::Unknown => vec!["Unknown: the backend reported no quota window".to_owned()],
                Readiness::Blocked(blocks) => {
                    let blocks: Vec<String> = blocks.iter().map(|block| block_words(block, zone)).collect();
                    vec![format!("Blocked: {}", blocks.join(", "))]
                }
            };
            // Another model's limit does not block the account, but somebody who uses that model wants to know.
            parts.extend(reading.other_limits.iter().flat_map(|limit| limit_words(limit, now, zone)));
            parts.join("; ")
        }
    };
    text::clean(&words)
}

/// `5h exhausted until 2026-11-25 09:46 +00:00`.
pub fn block_words(block: &Block, zone: Zone) -> String {
    match block {
        Block::Exhausted { window, resets_at: Some(at) } => {
            format!("{window} exhausted until {}", time::local(*at, zone))
        }
        Block::Exhausted { window, resets_at: None } => format!("{window} exhausted"),
        Block::Refused(reason) => match reason.as_deref() {
            None | Some("rate_limit_reached") => "the backend says that the limit is reached".to_owned(),
            Some("workspace_owner_credits_depleted" | "workspace_member_credits_depleted") => {
                "the workspace is out of credits".to_owned()
            }
            Some("workspace_owner_usage_limit_reached" | "workspace_member_usage_limit_reached") => {
                "the workspace's spend cap is reached".to_owned()
            }
            Some(other) => format!("the backend says that the limit is reached ({})", text::elide(other, 60)),
        },
    }
}

/// Where a row stands: class, the useful reset of a blocked one, the nearest reset, the name.
fn place<'a>(row: &Row<'a>, now: u64) -> (u8, u64, u64, &'a str) {
    let Ok(reading) = row.quota else { return (if row.waits() { 2 } else { 3 }, u64::MAX, u64::MAX, row.name) };
    let nearest = reading.nearest_reset(now).unwrap_or(u64::MAX);
    match reading.readiness(now) {
        Readiness::Ready => (0, 0, nearest, row.name),
        Readiness::Blocked(_) | Readiness::Unknown => {
            (1, reading.earliest_useful_reset(now).unwrap_or(u64::MAX), nearest, row.name)
        }
    }
}

fn account<'a>(row: &Row<'a>) -> Option<&'a str> {
    row.account.or_else(|| row.quota.ok()?.email.as_deref())
}

/// The exhausted windows of a limit that is not the main one.
fn limit_words(limit: &Limit, now: u64, zone: Zone) -> Vec<String> {
    let exhausted = limit.windows.iter().filter(|window| window.exhausted(now));
    exhausted
        .map(|window| {
            let block = Block::Exhausted { window: window.label(), resets_at: window.resets_at };
            format!("{} {}", text::elide(&text::clean(&limit.name), 40), block_words(&block, zone))
        })
        .collect()
}

#[cfg(test)]
mod tests;
