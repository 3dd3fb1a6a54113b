//! A bar for each window, and how long until it is full again: `▸5h ██████▌░░░ 1h 40m 12s`. All bars of a screen stand under
//! each other. Knows no account; which window binds is the reading's to say.

use super::palette::{Palette, Style};
use super::{text, time};
use crate::quota::{Reading, Window};

/// Between two gauges on one line.
const GAP: usize = 3;
/// Cells of a bar: below the least it tells nothing, above the most it tells no more.
const LEAST: usize = 6;
const MOST: usize = 24;
/// With so many cells for the bar there is room for words as well.
const COMFORTABLE: usize = 12;
/// `23h 59m 59s`, `not started`.
const COUNTDOWN: usize = 11;
const WORDS: &str = "resets in ";
/// `weekly` has six; a window of unheard-of length may take a little more.
const MAX_LABEL: usize = 8;

/// How the gauges of one screen are laid out.
pub struct Gauges {
    label: usize,
    bar: usize,
    per_line: usize,
    words: bool,
}

impl Gauges {
    /// For these lists of windows in `width` cells.
    pub fn new<'a>(lists: impl Iterator<Item = &'a [Window]>, width: usize) -> Gauges {
        let (mut label, mut most) = (0, 1);
        for windows in lists {
            most = most.max(windows.len());
            label = windows.iter().map(|window| text::width(&window.label())).fold(label, usize::max);
        }
        let label = label.min(MAX_LABEL);
        let fits = |per_line: usize, words: bool, least: usize| {
            let countdown = COUNTDOWN + if words { WORDS.len() } else { 0 };
            // The mark, the label, the bar, the countdown, and a space between them.
            let own = (width + GAP) / per_line;
            let bar = own.checked_sub(GAP + 1 + label + 1 + 1 + countdown)?.min(MOST);
            (bar >= least).then_some(Gauges { label, bar, per_line, words })
        };
        let tight = (1..=most).rev().find_map(|n| fits(n, true, COMFORTABLE).or_else(|| fits(n, false, LEAST)));
        tight.unwrap_or(Gauges { label, bar: 0, per_line: 1, words: false })
    }

    /// The main windows of `reading`; nothing where there is no room for a bar.
    pub fn of(&self, reading: &Reading, now: u64, palette: Palette) -> Vec<String> {
        self.lines(&reading.windows, reading.binding(now), now, palette)
    }

    pub fn lines(&self, windows: &[Window], binding: Option<usize>, now: u64, palette: Palette) -> Vec<String> {
        if self.bar == 0 {
            return Vec::new();
        }
        let gauges: Vec<String> = windows
            .iter()
            .enumerate()
            .map(|(index, window)| self.gauge(window, binding == Some(index), now, palette))
            .collect();
        let lines = gauges.chunks(self.per_line).map(|line| line.join(&" ".repeat(GAP)).trim_end().to_owned());
        lines.collect()
    }

    fn gauge(&self, window: &Window, binds: bool, now: u64, palette: Palette) -> String {
        let mark = match binds {
            true if palette.utf8 => "▸",
            true => ">",
            false => " ",
        };
        let label = text::pad(&window.label(), self.label);
        let (words, countdown) = countdown(window, now);
        let countdown = if self.words && words { format!("{WORDS}{countdown}") } else { countdown };
        let room = COUNTDOWN + if self.words { WORDS.len() } else { 0 };
        let countdown = text::pad(&countdown, room);
        let style = if binds { Style::Strong } else { Style::Plain };
        let name = palette.paint(style, &format!("{mark}{label}"));
        format!("{name} {} {countdown}", bar(window.left(now), self.bar, palette))
    }
}

/// What is left, percent, as `cells` cells: anything is at least the smallest step, and only everything is full.
pub fn bar(left: Option<f64>, cells: usize, palette: Palette) -> String {
    let (full, half, empty) = if palette.utf8 { ("█", "▌", "░") } else { ("#", "", "-") };
    let Some(left) = left else { return palette.paint(Style::Faint, &empty.repeat(cells)) };
    // In half cells where they can be drawn.
    let per_cell = if half.is_empty() { 1 } else { 2 };
    let all = cells * per_cell;
    let steps = (left / 100.0 * all as f64).round() as usize;
    let steps = match left {
        left if left <= 0.0 => 0,
        left if left < 100.0 => steps.clamp(1, all.saturating_sub(1).max(1)),
        _ => all,
    }
    .min(all);
    let filled = full.repeat(steps / per_cell) + if steps % per_cell == 1 { half } else { "" };
    let rest = empty.repeat(cells - text::width(&filled).min(cells));
    // An empty bar would have no colour at all where it matters most.
    let behind = if steps == 0 { Style::Out } else { Style::Faint };
    palette.paint(Style::of_left(Some(left)), &filled) + &palette.paint(behind, &rest)
}

/// Whether it is a length of time, and the words.
fn countdown(window: &Window, now: u64) -> (bool, String) {
    match window.resets_at {
        _ if window.has_reset(now) => (false, "has reset".to_owned()),
        _ if window.untouched(now) => (false, "not started".to_owned()),
        Some(at) => (true, time::countdown(at - now.min(at))),
        None => (false, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const ASCII: Palette = Palette { colour: false, utf8: false };

    fn window(length: u64, used: f64, resets_in: u64) -> Window {
        Window { length, used_percent: Some(used), resets_at: Some(NOW + resets_in) }
    }

    #[test]
    fn a_bar_is_honest_at_both_ends() {
        let rows = [
            (Some(100.0), "██████████", "##########"),
            (Some(99.9), "█████████▌", "#########-"),
            (Some(63.0), "██████▌░░░", "######----"),
            (Some(50.0), "█████░░░░░", "#####-----"),
            (Some(0.1), "▌░░░░░░░░░", "#---------"),
            (Some(0.0), "░░░░░░░░░░", "----------"),
            (None, "░░░░░░░░░░", "----------"),
        ];
        for (left, utf8, ascii) in rows {
            assert_eq!((bar(left, 10, Palette::PLAIN), bar(left, 10, ASCII)), (utf8.to_owned(), ascii.to_owned()));
        }
        for cells in 0..4 {
            assert_eq!(text::width(&bar(Some(50.0), cells, Palette::PLAIN)), cells, "{cells}");
        }
        let colour = Palette { colour: true, utf8: true };
        assert_eq!(bar(Some(50.0), 2, colour), "\x1b[32m█\x1b[0m\x1b[2m░\x1b[0m");
        assert_eq!(bar(Some(0.0), 2, colour), "\x1b[31m░░\x1b[0m");
    }

    #[test]
    fn gauges_stand_side_by_side_where_there_is_room() {
        let windows = vec![window(18_000, 37.0, 6_012), window(604_800, 88.0, 400_000)];
        let reading = Reading { windows, ..Reading::default() };
        let at = |width| Gauges::new([&reading.windows[..]].into_iter(), width).of(&reading, NOW, Palette::PLAIN);
        assert_eq!(at(78), [" 5h     ██████████▌░░░░░░ 1h 40m 12s    ▸weekly ██░░░░░░░░░░░░░░░ 4d 15h"]);
        assert_eq!(at(38), [" 5h     ███████████▌░░░░░░ 1h 40m 12s", "▸weekly ██░░░░░░░░░░░░░░░░ 4d 15h"]);
        assert!(at(130)[0].contains("░ resets in 1h 40m 12s    ▸weekly"), "{:?}", at(130));
        assert!(at(20).is_empty());
        for width in 0..200 {
            assert!(at(width).iter().all(|line| text::width(line) <= width), "{width}");
        }
    }

    #[test]
    fn what_there_is_to_wait_for() {
        let rows = [
            (window(18_000, 10.0, 61), (true, "1m 01s")),
            (window(18_000, 0.0, 18_000), (false, "not started")),
            (Window { resets_at: Some(NOW), ..window(18_000, 100.0, 0) }, (false, "has reset")),
            (Window { resets_at: None, ..window(18_000, 50.0, 0) }, (false, "")),
        ];
        for (window, (words, text)) in rows {
            assert_eq!(countdown(&window, NOW), (words, text.to_owned()), "{window:?}");
        }
    }
}
