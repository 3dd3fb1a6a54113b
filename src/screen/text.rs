//! Text in display cells: width, cutting, wrapping. Knows no layout.

pub use crate::foreign::{REPLACEMENT, clean};
use unicode_width::UnicodeWidthStr;

/// Cells that `text` takes on a terminal. The palette's own colours take none; foreign text has no escape left (`clean`).
pub fn width(text: &str) -> usize {
    let mut pieces = text.split('\x1b');
    let first = pieces.next().unwrap_or_default().width();
    pieces.fold(first, |cells, piece| cells + piece.split_once('m').map_or(0, |(_, shown)| shown.width()))
}

/// `text` in at most `width` cells, with `…` where something was cut off. Never cuts a character from its marks.
pub fn elide(text: &str, width: usize) -> String {
    if self::width(text) <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    format!("{}…", prefix(text, width - 1))
}

/// `text` followed by spaces up to `width` cells; cut when it is longer.
pub fn pad(text: &str, width: usize) -> String {
    let mut text = elide(text, width);
    let missing = width.saturating_sub(self::width(&text));
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// Words of `text` on lines of at most `width` cells; a longer word is broken, a path behind a slash, and a command between backticks only where
/// it is longer than a line. At least one line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    // No character is wider than 2 cells, so every line can take one.
    let width = width.max(2);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for unit in units(text, width) {
        let mut word = unit.as_str();
        loop {
            let gap = if line.is_empty() { "" } else { " " };
            if self::width(&line) + gap.len() + self::width(word) <= width {
                line.push_str(gap);
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                let (head, rest) = word.split_at(seam(word, prefix(word, width).len()));
                // Nothing fits: rather a line too wide than a loop without end.
                let (head, rest) = if head.is_empty() { (word, "") } else { (head, rest) };
                line.push_str(head);
                word = rest;
            }
            lines.push(std::mem::take(&mut line));
            if word.is_empty() {
                break;
            }
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Where a word of which `fits` bytes fit is broken: behind its last slash there, unless that is in the first half.
fn seam(word: &str, fits: usize) -> usize {
    let slash = word.get(..fits).filter(|head| head.len() < word.len()).and_then(|head| head.rfind('/'));
    slash.map(|at| at + 1).filter(|at| *at > fits / 2).unwrap_or(fits)
}

/// What `wrap` keeps together: words, and commands between backticks.
fn units(text: &str, width: usize) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    // Where the command that is not closed yet began.
    let mut open = None;
    for word in text.split_whitespace() {
        units.push(word.to_owned());
        if word.matches('`').count() % 2 == 0 {
            continue;
        }
        let Some(start) = open.take() else {
            open = Some(units.len() - 1);
            continue;
        };
        let command = units[start..].join(" ");
        if self::width(&command) <= width {
            units.truncate(start);
            units.push(command);
        }
    }
    units
}

/// Items on lines of at most `width` cells, joined by ` | `, and broken inside only where one is too long by itself.
/// The separator stays at the end of a line that goes on. At least one line.
pub fn wrap_items<'a>(items: impl IntoIterator<Item = &'a str>, width: usize) -> Vec<String> {
    let width = width.max(4);
    let mut lines: Vec<String> = Vec::new();
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let reserve = if items.peek().is_some() { " |".len() } else { 0 };
        match lines.last_mut() {
            Some(line) if self::width(line) + " | ".len() + self::width(item) + reserve <= width => {
                line.push_str(" | ");
                line.push_str(item);
            }
            last => {
                if let Some(line) = last {
                    line.push_str(" |");
                }
                lines.extend(wrap(item, width - reserve));
            }
        }
    }
    if lines.is_empty() { vec![String::new()] } else { lines }
}

/// The longest start of `text` that takes at most `width` cells.
fn prefix(text: &str, width: usize) -> &str {
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        // The width of a string is not the sum of its characters (joined emoji), so ask for the whole start.
        if self::width(&text[..next]) <= width {
            end = next;
        } else if self::width(&text[..at]) > width {
            break;
        }
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_counts_cells() {
        let rows = [("abc", 3), ("日本", 4), ("e\u{301}", 1), ("👩\u{200d}👩\u{200d}👧", 2), ("🇩🇪", 2), ("", 0)];
        for (text, cells) in rows {
            assert_eq!(width(text), cells, "{text}");
        }
    }

    #[test]
    fn elide_keeps_to_the_width_for_any_text() {
        assert_eq!(elide("main_example.com", 8), "main_ex…");
        assert_eq!(elide("日本語アカウント", 8), "日本語…");
        assert_eq!(elide("abc", 3), "abc");
        assert_eq!(elide("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        for text in
            ["日本語アカウント", "👩\u{200d}👩\u{200d}👧👩\u{200d}👩\u{200d}👧x", "🇩🇪🇫🇷🇯🇵", "a\u{301}\u{302}bc", "x"]
        {
            for cells in 0..12 {
                assert!(width(&elide(text, cells)) <= cells, "{text} {cells}");
                assert_eq!(width(&pad(text, cells)), cells, "{text} {cells}");
            }
        }
    }

    #[test]
    fn wrap_breaks_at_spaces_and_inside_long_words_only() {
        assert_eq!(wrap("Blocked: 5h exhausted until", 13), ["Blocked: 5h", "exhausted", "until"]);
        assert_eq!(wrap("a abcdefgh b", 4), ["a", "abcd", "efgh", "b"]);
        assert_eq!(wrap("日本語アカ", 5), ["日本", "語ア", "カ"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("/home/a/.prodex/state.json (exists)", 12), ["/home/a/", ".prodex/", "state.json", "(exists)"]);
        assert_eq!(wrap("/a/quite-long-name", 10), ["/a/quite-l", "ong-name"]);
        assert_eq!(wrap("in with `prodex use a`.", 18), ["in with", "`prodex use a`."]);
        assert_eq!(wrap("in with `prodex use a`.", 13), ["in with", "`prodex use", "a`."]);
        assert_eq!(wrap("a ` b c", 5), ["a ` b", "c"]);
        for cells in 1..30 {
            assert!(
                wrap("日本 e\u{301}abc 👩\u{200d}👩\u{200d}👧 xyz", cells).iter().all(|l| width(l) <= cells.max(2))
            );
        }
    }

    #[test]
    fn items_stay_whole_and_the_separator_stays_behind() {
        let items = ["5h 63% left", "weekly 88% left", "monthly 100% left"];
        assert_eq!(wrap_items(items, 50), ["5h 63% left | weekly 88% left | monthly 100% left"]);
        assert_eq!(wrap_items(items, 40), ["5h 63% left | weekly 88% left |", "monthly 100% left"]);
        assert_eq!(wrap_items(items, 20), ["5h 63% left |", "weekly 88% left |", "monthly 100% left"]);
        assert_eq!(wrap_items(["5h 63% left", "weekly 88% left"], 29), ["5h 63% left | weekly 88% left"]);
        assert_eq!(wrap_items([], 20), [""]);
        for cells in 4..60 {
            assert!(wrap_items(items, cells).iter().all(|line| width(line) <= cells), "{cells}");
        }
    }
}
