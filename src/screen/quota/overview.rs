//! The table of all accounts. Decides what gives way on a narrow screen (spec S-42: never REMAINING).

use super::super::gauge::Gauges;
use super::super::palette::{Palette, Style};
use super::super::table::{Column, GAP, Layout};
use super::super::view::View;
use super::super::{Look, NARROWEST, text, time, title};
use super::{Row, account, foot, place};
use crate::quota::pool::Pool;
use crate::quota::{Readiness, Reading};

const REMAINING: usize = 5;

const COLUMNS: [Column; REMAINING + 1] = [
    Column { title: "PROFILE", least: 8, fair: 24, rank: None },
    Column::whole("CUR", Some(3)),
    Column::whole("AUTH", Some(0)),
    Column { title: "ACCOUNT", least: 14, fair: 20, rank: Some(2) },
    Column::whole("PLAN", Some(1)),
    Column::whole("REMAINING", None),
];

const PROFILE: usize = 0;
const CURRENT: usize = 1;

/// Indent of the lines under a row.
const INDENT: &str = "  ";

/// All accounts, in the order of S-43, and under them the pool, whose indices are those of `rows`. `detail` adds the resets.
pub fn overview(heading: &str, rows: &[Row], pool: Option<&Pool>, detail: bool, look: Look) -> View {
    let look = Look { width: look.width.max(NARROWEST), ..look };
    let foot = pool.filter(|_| rows.len() > 1).map_or(Vec::new(), |pool| foot::pool(pool, rows, look));
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_cached_key(|row| place(row, look.now));
    let (layout, below, cells) = lay_out(&rows, look);

    let faint = |line: &str| look.palette.paint(Style::Faint, line);
    let head = vec![
        look.palette.heading(&title(heading, look.width)),
        faint(&layout.line(COLUMNS.iter().map(|column| column.title))),
        faint(&"-".repeat(look.width)),
    ];
    let windows = rows.iter().filter_map(|row| Some(&row.quota.ok()?.windows[..]));
    let gauges = Gauges::new(windows, look.width - INDENT.len());
    let block =
        |((row, cells), below): ((&&Row, &Vec<String>), bool)| block(row, cells, &layout, below, &gauges, detail, look);
    let blocks = rows.iter().zip(&cells).zip(below).map(block).collect();
    View { head, blocks, foot, unit: "profile" }
}

/// The layout, the rows whose REMAINING has to go below them, and the cells.
fn lay_out(rows: &[&Row], look: Look) -> (Layout, Vec<bool>, Vec<Vec<String>>) {
    let mut cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row, look.now)).collect();
    // What does not fit beside a name cut as short as may be goes below, and does not take the others' along.
    let names = cells.iter().map(|cells| text::width(&cells[PROFILE])).max().unwrap_or(0);
    let beside = names.max(text::width(COLUMNS[PROFILE].title)).min(COLUMNS[PROFILE].least) + GAP;
    let too_long = |cells: &Vec<String>| text::width(&cells[REMAINING]) + beside > look.width;
    let mut below: Vec<bool> = cells.iter().map(too_long).collect();
    if below.contains(&false) {
        for (cells, _) in cells.iter_mut().zip(&below).filter(|(_, below)| **below) {
            cells[REMAINING].clear();
        }
    }
    let fits = |cells: &[Vec<String>], below: &mut [bool]| {
        Layout::new(&COLUMNS, cells, look.width).unwrap_or_else(|| {
            below.fill(true);
            // PROFILE alone always fits.
            Layout::new(&COLUMNS[..REMAINING], cells, look.width).unwrap_or(Layout(vec![Some(look.width)]))
        })
    };
    let mut layout = fits(&cells, &mut below);
    if !layout.shows(CURRENT) {
        for (row, cells) in rows.iter().zip(&mut cells).filter(|(row, _)| row.current) {
            cells[PROFILE] = format!("*{}", text::clean(row.name));
        }
        layout = fits(&cells, &mut below);
    }
    (layout, below, cells)
}

/// One account: its row, its gauges and its status.
fn block(
    row: &Row,
    cells: &[String],
    layout: &Layout,
    below: bool,
    gauges: &Gauges,
    detail: bool,
    look: Look,
) -> Vec<String> {
    let Look { now, width, zone, palette } = look;
    let room = width - INDENT.len();
    let reading = row.quota.ok();
    let mut lines = vec![layout.painted(cells.iter().map(String::as_str), |column, text| match (column, reading) {
        (PROFILE, _) => palette.paint(Style::Strong, text),
        (REMAINING, Some(reading)) if palette.colour && !below && !reading.windows.is_empty() => {
            remaining(reading, now, palette)
        }
        _ => text.to_owned(),
    })];
    let mut under = Vec::new();
    if let Some(reading) = reading {
        if below {
            let words: Vec<String> = reading.windows.iter().map(|window| window.words(now)).collect();
            under.extend(text::wrap_items(words.iter().map(String::as_str), room));
        }
        under.extend(gauges.of(reading, now, palette));
    }
    under.extend(status_lines("status: ", row, room, look));
    if detail {
        under.extend(resets(reading, now, room, zone));
    }
    lines.extend(under.into_iter().map(|line| INDENT.to_owned() + &line));
    lines
}

/// The status behind its label, its first word painted.
fn status_lines(label: &str, row: &Row, room: usize, look: Look) -> Vec<String> {
    let mut lines = text::wrap(&format!("{label}{}", row.words(look.now, look.zone)), room);
    if let (Some(line), (word, style)) = (lines.first_mut(), verdict(row, look.now)) {
        *line = look.palette.word(line, word, style);
    }
    lines
}

/// The word that a status begins with, and how it is painted.
pub(super) fn verdict(row: &Row, now: u64) -> (&'static str, Style) {
    match row.quota.map(|reading| reading.readiness(now)) {
        Ok(Readiness::Ready) => ("Ready", Style::Good),
        Ok(Readiness::Blocked(_)) => ("Blocked", Style::Out),
        Ok(Readiness::Unknown) => ("Unknown", Style::Low),
        Err(_) if row.waits() => ("asking", Style::Faint),
        Err("") => ("Not read yet", Style::Faint),
        Err(_) => ("Error", Style::Out),
    }
}

/// `Reading::remaining_words`, each window in the colour of what it has left.
fn remaining(reading: &Reading, now: u64, palette: Palette) -> String {
    let painted = |window: &crate::quota::Window| palette.paint(Style::of_left(window.left(now)), &window.words(now));
    reading.windows.iter().map(painted).collect::<Vec<_>>().join(" | ")
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

/// `resets: 5h 2026-11-25 05:11 +00:00 | weekly not started`, wrapped between windows.
fn resets(reading: Option<&Reading>, now: u64, room: usize, zone: time::Zone) -> Vec<String> {
    let windows = reading.map_or(&[][..], |reading| &reading.windows);
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
    text::wrap_items(items.iter().map(String::as_str), room)
}
