//! The panel of one account: every window, the limits beside them, credits and early resets, and a gauge for each window.

use super::super::gauge::Gauges;
use super::super::panel::{self, Value};
use super::super::view::View;
use super::super::{Look, NARROWEST, text, time};
use super::overview::verdict;
use super::{Row, account};
use crate::quota::{Reading, Window};

/// One account in full.
pub fn single(row: &Row, look: Look) -> View {
    let look = Look { width: look.width.max(NARROWEST), ..look };
    let Look { now, width, zone, palette } = look;
    let or_dash = |text: Option<&str>| Value::Text(text.unwrap_or("-").to_owned());
    let reading = row.quota.ok();
    let mut rows = vec![
        ("Profile", Value::Text(row.name.to_owned())),
        ("Account", or_dash(account(row))),
        ("Plan", or_dash(reading.and_then(|reading| reading.plan.as_deref()))),
        ("Status", Value::Text(row.words(now, zone))),
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
    let mut lines: Vec<String> =
        panel::panel(&format!("Quota {}", row.name), &rows, width).lines().map(str::to_owned).collect();
    let head = lines.drain(..1).map(|line| palette.heading(&line)).collect();
    let (word, style) = verdict(row, now);
    for line in lines.iter_mut().filter(|line| line.starts_with("Status:")) {
        *line = palette.word(line, word, style);
    }
    lines.extend(reading.map_or(Vec::new(), |reading| gauges(reading, look)));
    View { head, blocks: lines.into_iter().map(|line| vec![line]).collect(), foot: Vec::new(), unit: "line" }
}

/// Under the panel: the main windows, then each other limit under its name.
fn gauges(reading: &Reading, look: Look) -> Vec<String> {
    let Look { now, width, palette, .. } = look;
    let others = reading.other_limits.iter();
    let lists = std::iter::once(&reading.windows[..]).chain(others.clone().map(|limit| &limit.windows[..]));
    // One below the other: nothing stands beside them.
    let gauges = Gauges::new(lists.flat_map(|windows| windows.chunks(1)), width);
    let mut lines = gauges.of(reading, now, palette);
    for limit in others {
        let bars = gauges.lines(&limit.windows, None, now, palette);
        if !bars.is_empty() {
            lines.push(text::elide(&text::clean(&limit.name), width));
            lines.extend(bars);
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// `5h: 63% left (37% used), resets 2026-11-25 05:12 +00:00`, one item for each window.
fn windows_in_full(windows: &[Window], now: u64, zone: time::Zone) -> Value {
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
