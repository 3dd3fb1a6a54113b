//! What the terminal can show: colours, and more than ASCII. Paints text that is already cut and padded: what was painted is
//! measured by `text::width`, and never cut again.

use super::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    pub colour: bool,
    pub utf8: bool,
}

/// What a piece of text means. The colours are the terminal's own eight, which its theme makes readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Low,
    Out,
}

/// Above this much left, percent, all is well.
const GOOD_ABOVE: f64 = 30.0;
/// Above this much left, percent, there is still some.
const LOW_ABOVE: f64 = 10.0;

impl Style {
    /// By what is left, percent.
    pub fn of_left(left: Option<f64>) -> Style {
        match left {
            None => Style::Faint,
            Some(left) if left > GOOD_ABOVE => Style::Good,
            Some(left) if left > LOW_ABOVE => Style::Low,
            Some(_) => Style::Out,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Strong => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Low => "33",
            Style::Out => "31",
        }
    }
}

impl Palette {
    /// As a file gets it.
    pub const PLAIN: Palette = Palette { colour: false, utf8: true };

    pub fn paint(self, style: Style, text: &str) -> String {
        match style.code() {
            "" => text.to_owned(),
            _ if !self.colour || text.is_empty() => text.to_owned(),
            code => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// A line of `title`: the words stand out, the rest steps back.
    pub fn heading(self, line: &str) -> String {
        let (words, rest) = line.split_at(line.rfind("] ").map_or(line.len(), |at| at + 1));
        self.paint(Style::Strong, words) + &self.paint(Style::Faint, rest)
    }

    /// The first `word` of `line`, painted.
    pub fn word(self, line: &str, word: &str, style: Style) -> String {
        match line.split_once(word) {
            Some((before, after)) if self.colour => format!("{before}{}{after}", self.paint(style, word)),
            _ => line.to_owned(),
        }
    }

    /// A finished screen as this terminal can show it. Names stay as their owners wrote them.
    pub fn finish(self, screen: String) -> String {
        if self.utf8 { screen } else { screen.replace('…', "~").replace(text::REPLACEMENT, "?") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOUR: Palette = Palette { colour: true, utf8: true };

    #[test]
    fn colour_only_where_it_is_wanted() {
        assert_eq!(COLOUR.paint(Style::Good, "ok"), "\x1b[32mok\x1b[0m");
        assert_eq!((COLOUR.paint(Style::Plain, "ok"), COLOUR.paint(Style::Out, "")), ("ok".to_owned(), String::new()));
        assert_eq!(Palette::PLAIN.paint(Style::Good, "ok"), "ok");
        assert_eq!(COLOUR.heading("[ A ] ==="), "\x1b[1m[ A ]\x1b[0m\x1b[2m ===\x1b[0m");
        assert_eq!(COLOUR.word("status: Ready; Ready", "Ready", Style::Good), "status: \x1b[32mReady\x1b[0m; Ready");
        assert_eq!(Palette::PLAIN.word("status: Ready", "Ready", Style::Good), "status: Ready");
    }

    #[test]
    fn what_is_painted_is_as_wide_as_before() {
        for text in ["", "ok", "日本", "█▌░"] {
            assert_eq!(text::width(&COLOUR.paint(Style::Low, text)), text::width(text), "{text}");
        }
    }

    #[test]
    fn a_terminal_of_ascii_gets_ascii() {
        let ascii = Palette { colour: false, utf8: false };
        assert_eq!(ascii.finish("main_…  a\u{fffd}b".to_owned()), "main_~  a?b");
        assert_eq!(Palette::PLAIN.finish("main_…".to_owned()), "main_…");
    }

    #[test]
    fn the_colour_says_how_much_is_left() {
        let rows = [(None, Style::Faint), (Some(100.0), Style::Good), (Some(30.0), Style::Low)];
        for (left, style) in rows.into_iter().chain([(Some(10.0), Style::Out), (Some(0.0), Style::Out)]) {
            assert_eq!(Style::of_left(left), style, "{left:?}");
        }
    }
}
