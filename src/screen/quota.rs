//! Quotas as people read them: the table of all accounts and the panel of one. Knows no backend; decides only the order
//! (spec S-43) and what gives way on a narrow screen (S-42: never REMAINING).

use super::panel::{self, Value};
use super::table::{Column, Layout};
use super::time::{self, Zone};
use super::{NARROWEST, join, text, title};
use crate::quota::pool::Pool;
use crate::quota::{Block, Limit, Readiness, Reading, Window, span_words};

/// One account.
pub struct Row<'a> {
    pub name: &'a str,
    /// The active profile.
    pub current: bool,
    pub auth: &'a str,
    /// The e-mail as prodex knows it; the backend's own comes second.
    pub account: Option<&'a str>,
    /// What the backend said, or why it said nothing.
    pub quota: Result<&'a Reading, &'a str>,
}

/// From here on a status bar says how old its numbers are. Seconds.
const OLD: u64 = 900;

const REMAINING: usize = 5;

const COLUMNS: [Column; REMAINING + 1] = [
    Column { title: "PROFILE", least: 8, fair: 24, rank: None },
    Column::whole("CUR", Some(3)),
    Column::whole("AUTH", Some(0)),
    Column { title: "ACCOUNT", least: 14, fair: 20, rank: Some(2) },
    Column::whole("PLAN", Some(1)),
    Column::whole("REMAINING", None),
];

const CURRENT: usize = 1;

/// Indent of the lines under a row.
const INDENT: &str = "  ";

/// All accounts, in the order of S-43. `detail` adds the resets.
pub fn overview(rows: &[Row], now: u64, width: usize, detail: bool, zone: Zone) -> String {
    let width = width.max(NARROWEST);
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_cached_key(|row| place(row, now));

    let mut cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row, now)).collect();
    let fits = |cells: &[Vec<String>]| match Layout::new(&COLUMNS, cells, width) {
        Some(layout) => (layout, false),
        // REMAINING goes below: PROFILE alone always fits.
        None => (Layout::new(&COLUMNS[..REMAINING], cells, width).unwrap_or(Layout(vec![Some(width)])), true),
    };
    let (mut layout, mut below) = fits(&cells);
    if !layout.shows(CURRENT) {
        for (row, cells) in rows.iter().zip(&mut cells).filter(|(row, _)| row.current) {
            cells[0] = format!("*{}", text::clean(row.name));
        }
        (layout, below) = fits(&cells);
    }

    let mut lines = vec![title("Quota Overview", width)];
    lines.push(layout.line(COLUMNS.iter().map(|column| column.title)));
    lines.push("-".repeat(width));
    for (index, (row, cells)) in rows.iter().zip(&cells).enumerate() {
        if index > 0 {
            lines.push(String::new());
        }
        lines.push(layout.line(cells.iter().map(String::as_str)));
        if below && let Ok(reading) = row.quota {
            let words: Vec<String> = reading.windows.iter().map(|window| window.words(now)).collect();
            let wrapped = text::wrap_items(words.iter().map(String::as_str), width - INDENT.len());
            lines.extend(wrapped.into_iter().map(|line| INDENT.to_owned() + &line));
        }
        let status = format!("status: {}", status(row.quota, now, zone));
        lines.extend(text::wrap(&status, width - INDENT.len()).into_iter().map(|line| INDENT.to_owned() + &line));
        if detail {
            lines.extend(resets(row.quota, now, width, zone));
        }
    }
    join(&lines)
}

/// One account in full.
pub fn single(row: &Row, now: u64, width: usize, zone: Zone) -> String {
    let or_dash = |text: Option<&str>| Value::Text(text.unwrap_or("-").to_owned());
    let reading = row.quota.ok();
    let mut rows = vec![
        ("Profile", Value::Text(row.name.to_owned())),
        ("Account", or_dash(account(row))),
        ("Plan", or_dash(reading.and_then(|reading| reading.plan.as_deref()))),
        ("Status", Value::Text(status(row.quota, now, zone))),
    ];
    if let Some(reading) = reading {
        rows.push(("Main", windows_in_full(&reading.windows, now, zone)));
        for limit in &reading.other_limits {
            rows.push((&limit.name, windows_in_full(&limit.windows, now, zone)));
        }
        if let Some(credits) = reading.credits.as_ref().filter(|credits| credits.has_credits || credits.unlimited) {
            let balance = credits.balance.as_deref().unwrap_or("available");
            rows.push(("Credits", Value::Text(if credits.unlimited { "unlimited" } else { balance }.to_owned())));
        }
        if let Some(count) = reading.reset_credits.filter(|&count| count > 0) {
            rows.push(("Early resets", Value::Text(format!("{count} available"))));
        }
    }
    panel::panel(&format!("Quota {}", row.name), &rows, width)
}

/// `work 5h 63% | weekly 88% | 3 of 4 ready`: one line for a status bar, of what is known.
pub fn line(name: &str, reading: Option<&Reading>, pool: Option<&Pool>, now: u64) -> String {
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
    parts.extend(pool.filter(|pool| pool.known > 1).map(|pool| format!("{} of {} ready", pool.ready, pool.known)));
    format!("{} {}\n", text::clean(name), parts.join(" | "))
}

/// `Ready`, `Blocked: 5h exhausted until 2026-11-25 09:46 +00:00`, `Error: …`; clean, on one line.
pub fn status(quota: Result<&Reading, &str>, now: u64, zone: Zone) -> String {
    let words = match quota {
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
    let Ok(reading) = row.quota else { return (2, u64::MAX, u64::MAX, row.name) };
    let nearest = reading.nearest_reset(now).unwrap_or(u64::MAX);
    match reading.readiness(now) {
        Readiness::Ready => (0, 0, nearest, row.name),
        Readiness::Blocked(_) | Readiness::Unknown => {
            (1, reading.earliest_useful_reset(now).unwrap_or(u64::MAX), nearest, row.name)
        }
    }
}

fn cells(row: &Row, now: u64) -> Vec<String> {
    let reading = row.quota.ok();
    let or_dash = |text: Option<&str>| text::clean(text.filter(|text| !text.is_empty()).unwrap_or("-"));
    vec![
        text::clean(row.name),
        if row.current { "*" } else { "" }.to_owned(),
        // Both come from outside and must not push the others off the screen.
        text::elide(&text::clean(row.auth), 15),
        or_dash(account(row)),
        text::elide(&or_dash(reading.and_then(|reading| reading.plan.as_deref())), 12),
        reading.map_or("-".to_owned(), |reading| reading.remaining_words(now)),
    ]
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

/// `resets: 5h 2026-11-25 05:11 +00:00 | weekly not started`, wrapped between windows.
fn resets(quota: Result<&Reading, &str>, now: u64, width: usize, zone: Zone) -> Vec<String> {
    let windows = quota.map_or(&[][..], |reading| &reading.windows);
    let mut items: Vec<String> = windows
        .iter()
        .map(|window| match window.resets_at {
            _ if window.untouched(now) => format!("{} not started", window.label()),
            Some(at) => format!("{} {}", window.label(), time::local(at, zone)),
            None => format!("{} unknown", window.label()),
        })
        .collect();
    match items.first_mut() {
        Some(first) => first.insert_str(0, "resets: "),
        None => items.push("resets: unavailable".to_owned()),
    }
    let wrapped = text::wrap_items(items.iter().map(String::as_str), width - INDENT.len());
    wrapped.into_iter().map(|line| INDENT.to_owned() + &line).collect()
}

/// `5h: 63% left (37% used), resets 2026-11-25 05:12 +00:00`, one item for each window.
fn windows_in_full(windows: &[Window], now: u64, zone: Zone) -> Value {
    if windows.is_empty() {
        return Value::Text("unknown".to_owned());
    }
    let in_full = |window: &Window| {
        let label = window.label();
        let Some(left) = window.left_percent(now) else { return format!("{label}: unknown") };
        let used = 100 - left.min(100);
        match window.resets_at {
            _ if window.has_reset(now) => format!("{label}: {left}% left (has reset)"),
            _ if window.untouched(now) => format!("{label}: {left}% left (not started)"),
            Some(at) => format!("{label}: {left}% left ({used}% used), resets {}", time::local(at, zone)),
            None => format!("{label}: {left}% left ({used}% used)"),
        }
    };
    Value::Items(windows.iter().map(in_full).collect())
}

#[cfg(test)]
mod tests;
