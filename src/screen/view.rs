//! A screen in parts: what stays at the top, blocks of which some may be hidden, what stays at the bottom. Whole, or as much
//! of it as a height takes. Knows nothing of what is in them.

use super::palette::{Palette, Style};
use super::{Look, join, text};

#[derive(Debug, Clone, Default)]
pub struct View {
    pub head: Vec<String>,
    pub blocks: Vec<Vec<String>>,
    /// Begins with an empty line where there is one.
    pub foot: Vec<String>,
    /// What one block is, for `3 profiles hidden`.
    pub unit: &'static str,
}

/// What is shown of a view.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// At most as many as the height.
    pub lines: Vec<String>,
    /// The first block that is shown; blocks that are shown; and the first block of the last page.
    pub first: usize,
    pub shown: usize,
    pub last: usize,
}

impl View {
    /// All of it.
    pub fn text(&self, palette: Palette) -> String {
        let mut lines = self.head.clone();
        lines.extend(self.body(0, self.blocks.len(), self.spaced()));
        lines.extend_from_slice(&self.foot);
        palette.finish(join(&lines))
    }

    /// From block `from` on, or from the last page; `hint` is the last line, behind what is hidden.
    pub fn fit(&self, height: usize, from: usize, hint: &str, look: Look) -> Frame {
        let all = self.blocks.len();
        let count = |spaced: bool| self.height(0, all, spaced);
        let (mut head, mut foot, mut bottom) = (&self.head[..], &self.foot[..], 1);
        let room =
            |head: &[String], foot: &[String], bottom: usize| height.saturating_sub(head.len() + foot.len() + bottom);
        let tallest = self.blocks.iter().map(Vec::len).max().unwrap_or(0);
        // The blocks are what it is about: everything else gives way, the least needed first.
        if room(head, foot, bottom) < tallest {
            foot = &[];
        }
        if room(head, foot, bottom) < tallest {
            head = &head[..head.len().min(1)];
        }
        if room(head, foot, bottom) < tallest {
            head = &[];
        }
        if height <= 2 {
            bottom = 0;
        }
        let room = room(head, foot, bottom);
        let spaced = self.spaced() && count(true) <= room;
        let fits = |first: usize| {
            let shown = (first..all).take_while(|end| self.height(first, end + 1, spaced) <= room).count();
            shown.max(usize::from(first < all))
        };
        let last = (0..all).find(|&first| first + fits(first) == all).unwrap_or(0);
        let first = from.min(last);
        let shown = fits(first);
        let mut lines = head.to_vec();
        let mut body = self.body(first, first + shown, spaced);
        body.truncate(room);
        lines.extend(body);
        lines.extend_from_slice(foot);
        if bottom == 1 {
            // At the bottom of the screen, wherever the rest ends.
            lines.resize(lines.len().max(height - 1), String::new());
            let hidden = all - shown;
            let plural = if hidden == 1 { "" } else { "s" };
            let hiding = format!("{hidden} {}{plural} hidden", self.unit);
            let range = format!("{hiding} ({}-{} of {all}) | arrows scroll, {hint}", first + 1, first + shown);
            // The keys that show the rest are said whatever else gives way.
            let fallback = || format!("{hidden} hidden | arrows scroll, {hint}");
            let shorter = || [format!("{hiding} | arrows scroll, {hint}"), fallback()];
            let fits = |words: &String| text::width(words) <= look.width;
            let what = match hidden {
                0 => hint.to_owned(),
                _ if fits(&range) => range,
                _ => shorter().into_iter().find(fits).unwrap_or_else(fallback),
            };
            lines.push(look.palette.paint(Style::Faint, &text::elide(&what, look.width)));
        }
        lines.truncate(height);
        let lines = lines.into_iter().map(|line| look.palette.finish(line)).collect();
        Frame { lines, first, shown, last }
    }

    /// Blocks of one line are a text, and stand close.
    fn spaced(&self) -> bool {
        self.blocks.iter().any(|block| block.len() > 1)
    }

    fn height(&self, first: usize, end: usize, spaced: bool) -> usize {
        let gaps = if spaced { (end - first).saturating_sub(1) } else { 0 };
        self.blocks[first..end].iter().map(Vec::len).sum::<usize>() + gaps
    }

    fn body(&self, first: usize, end: usize, spaced: bool) -> Vec<String> {
        let gap: &[String] = if spaced { &[String::new()] } else { &[] };
        let blocks: Vec<&[String]> = self.blocks[first..end].iter().map(Vec::as_slice).collect();
        blocks.join(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { now: 0, width: 80, zone: &|_| 0, palette: Palette::PLAIN };

    fn view(blocks: usize) -> View {
        let line = |text: &str| text.to_owned();
        let block = |n: usize| vec![format!("p{n}"), format!("  status {n}")];
        View {
            head: vec![line("[ T ]"), line("NAME"), line("---")],
            blocks: (1..=blocks).map(block).collect(),
            foot: vec![String::new(), line("Pool")],
            unit: "profile",
        }
    }

    fn lines(height: usize, from: usize) -> Vec<String> {
        view(4).fit(height, from, "q quits", LOOK).lines
    }

    #[test]
    fn what_fits_is_shown_with_air_then_without_then_in_part() {
        assert_eq!(view(2).text(Palette::PLAIN), "[ T ]\nNAME\n---\np1\n  status 1\n\np2\n  status 2\n\nPool\n");
        let airy = lines(20, 0);
        assert_eq!((airy.len(), airy[5].as_str(), airy[19].as_str()), (20, "", "q quits"));
        let close = lines(14, 9);
        assert_eq!((close[5].as_str(), close[13].as_str()), ("p2", "q quits"));
        let part = lines(10, 0);
        assert_eq!(
            part[3..].join("/"),
            "p1/  status 1/p2/  status 2//Pool/2 profiles hidden (1-2 of 4) | arrows scroll, q quits"
        );
        let end = lines(10, 9);
        assert_eq!((end[3].as_str(), end[9].as_str()), ("p3", "2 profiles hidden (3-4 of 4) | arrows scroll, q quits"));
    }

    #[test]
    fn on_a_short_screen_everything_gives_way_to_the_blocks() {
        let hint = "3 profiles hidden (2-2 of 4) | arrows scroll, q quits";
        assert_eq!(lines(6, 1), ["[ T ]", "NAME", "---", "p2", "  status 2", hint]);
        assert_eq!(lines(4, 1), ["[ T ]", "p2", "  status 2", hint]);
        let last = |width| view(4).fit(4, 1, "q quits", Look { width, ..LOOK }).lines[3].clone();
        assert_eq!(last(45), "3 profiles hidden | arrows scroll, q quits");
        assert_eq!(last(40), "3 hidden | arrows scroll, q quits");
        assert_eq!(last(30), "3 hidden | arrows scroll, q q…");
        assert_eq!(lines(2, 3), ["p4", "  status 4"]);
        assert_eq!((lines(1, 0), lines(0, 0)), (vec!["p1".to_owned()], vec![]));
        for (blocks, from) in [(0, 0), (0, 7), (1, 7), (50, 49)] {
            for height in 0..60 {
                let frame = view(blocks).fit(height, from, "q", LOOK);
                assert!(frame.lines.len() <= height && frame.first <= frame.last, "{blocks} {from} {height}");
            }
        }
    }

    #[test]
    fn the_pages_cover_everything() {
        let view = view(9);
        let mut from = 0;
        let end = loop {
            let frame = view.fit(10, from, "", LOOK);
            if frame.first == frame.last {
                break frame.first + frame.shown;
            }
            from += frame.shown;
        };
        assert_eq!(end, 9);
    }
}
