//! Threads as people read them (spec S-17): when, which, whose, and under that where and about what.

use super::time::{self, Zone};
use super::{NARROWEST, join, text, title};

pub struct Row<'a> {
    pub id: &'a str,
    /// Unix seconds.
    pub updated_at: u64,
    pub profile: Option<&'a str>,
    pub cwd: Option<&'a str>,
    pub words: Option<&'a str>,
}

const INDENT: &str = "   ";

pub fn sessions(rows: &[Row], width: usize, zone: Zone) -> String {
    let width = width.max(NARROWEST);
    let mut lines = vec![title("Sessions", width)];
    if rows.is_empty() {
        lines.push("There is no session yet.".to_owned());
    }
    for row in rows {
        let mut rest = time::local(row.updated_at, zone);
        if let Some(profile) = row.profile {
            rest = rest + "  " + &text::clean(profile);
        }
        let room = width - INDENT.len();
        // The id is there to be copied: on a narrow screen it has its line, and nothing cuts it.
        let line = format!("{}  {rest}", row.id);
        if text::width(&line) <= width {
            lines.push(line);
        } else {
            lines.extend([row.id.to_owned(), INDENT.to_owned() + &text::elide(&rest, room)]);
        }
        let place =
            row.cwd.map(|cwd| from_the_end(&text::clean(cwd), if row.words.is_some() { room / 2 } else { room }));
        let second = match (place, row.words) {
            (Some(place), Some(words)) => format!("{place}: {}", text::clean(words)),
            (place, words) => place.or_else(|| words.map(text::clean)).unwrap_or_default(),
        };
        if !second.is_empty() {
            lines.push(INDENT.to_owned() + &text::elide(&second, room));
        }
    }
    join(&lines)
}

/// A path in at most `width` cells: its last parts say the most.
fn from_the_end(path: &str, width: usize) -> String {
    if text::width(path) <= width {
        return path.to_owned();
    }
    let mut parts = path.match_indices('/').filter(|(at, _)| *at > 0).map(|(at, _)| format!("…{}", &path[at..]));
    parts.find(|part| text::width(part) <= width).unwrap_or_else(|| text::elide(path, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01a212af-92e5-7b53-bd59-357ab4a623d6";

    fn row() -> Row<'static> {
        Row {
            id: ID,
            updated_at: 1_795_587_131,
            profile: Some("main"),
            cwd: Some("/home/u/work/shop"),
            words: Some("add a \x1b[2Jtest for the 日本語 parser and run it"),
        }
    }

    #[test]
    fn a_screen_of_80() {
        let bare = Row { profile: None, words: None, ..row() };
        let nothing = Row { cwd: None, ..Row { words: None, profile: None, ..row() } };
        let expected = "\
[ Sessions ] ===================================================================
01a212af-92e5-7b53-bd59-357ab4a623d6  2026-11-25 06:12 +00:00  main
   /home/u/work/shop: add a \u{fffd}[2Jtest for the 日本語 parser and run it
01a212af-92e5-7b53-bd59-357ab4a623d6  2026-11-25 06:12 +00:00
   /home/u/work/shop
01a212af-92e5-7b53-bd59-357ab4a623d6  2026-11-25 06:12 +00:00
";
        assert_eq!(sessions(&[row(), bare, nothing], 80, &|_| 0), expected);
    }

    #[test]
    fn a_narrow_screen_keeps_the_id_and_the_end_of_the_path() {
        let expected = "\
[ Sessions ] =================
01a212af-92e5-7b53-bd59-357ab4a623d6
   2026-11-25 06:12 +00:00  m…
   …/u/work/shop: add a \u{fffd}[2Jt…
";
        assert_eq!(sessions(&[row()], 30, &|_| 0), expected);
    }

    #[test]
    fn the_end_of_a_path() {
        for (width, expected) in
            [(20, "/home/u/work/shop"), (17, "/home/u/work/shop"), (16, "…/u/work/shop"), (6, "…/shop"), (4, "/ho…")]
        {
            assert_eq!(from_the_end("/home/u/work/shop", width), expected, "{width}");
        }
        assert_eq!(from_the_end("日本/語", 4), "…/語");
        assert_eq!(from_the_end("", 3), "");
        for width in 0..9 {
            assert!(text::width(&from_the_end("a日/本", width)) <= width, "{width}");
        }
    }
}
