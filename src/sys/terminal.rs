//! What the terminal is: how large, whether it has colours, whether it shows more than ASCII. Draws nothing.

use std::io::IsTerminal;
use std::os::fd::AsRawFd;

/// Columns when nobody can say: 0.2.38's default.
const DEFAULT_COLUMNS: usize = 110;
/// Rows when nobody can say.
const DEFAULT_ROWS: usize = 40;
/// Columns or rows. No screen has so many, and a picture of as many of both is a few megabytes: a larger number is a mistake,
/// whoever says it.
const MOST: usize = 1_000;

/// Columns of the screen that stdout is: `PRODEX_TERM_COLUMNS`, else the terminal's own answer, else 110. At least 1.
pub fn width() -> usize {
    columns().unwrap_or(DEFAULT_COLUMNS)
}

/// The same; `None` when nobody can say, as in a pipe.
pub fn columns() -> Option<usize> {
    from_env("PRODEX_TERM_COLUMNS").or_else(|| size().map(|(columns, _)| columns))
}

/// Rows, from `PRODEX_TERM_LINES`, else the terminal, else 40. At least 1.
pub fn height() -> usize {
    from_env("PRODEX_TERM_LINES").or_else(|| size().map(|(_, rows)| rows)).unwrap_or(DEFAULT_ROWS)
}

/// Whether to use colours: `NO_COLOR` says no, `CLICOLOR_FORCE` yes, else a terminal that is not `dumb` has them.
pub fn colour() -> bool {
    wants_colour(&|name| std::env::var(name).unwrap_or_default(), is_terminal())
}

/// Whether the locale's characters are UTF-8, by the first of LC_ALL, LC_CTYPE and LANG that says something.
pub fn utf8() -> bool {
    speaks_utf8(&|name| std::env::var(name).unwrap_or_default())
}

/// Stdout is a terminal on which the cursor can be moved.
pub fn can_repaint() -> bool {
    is_terminal() && !is_dumb(&|name| std::env::var(name).unwrap_or_default())
}

fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

type Variable<'a> = &'a dyn Fn(&str) -> String;

fn is_dumb(variable: Variable) -> bool {
    matches!(variable("TERM").as_str(), "" | "dumb")
}

fn wants_colour(variable: Variable, terminal: bool) -> bool {
    if !variable("NO_COLOR").is_empty() {
        return false;
    }
    let forced = variable("CLICOLOR_FORCE");
    if !forced.is_empty() && forced != "0" {
        return true;
    }
    terminal && !is_dumb(variable) && variable("CLICOLOR") != "0"
}

fn speaks_utf8(variable: Variable) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().map(variable).find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

fn from_env(name: &str) -> Option<usize> {
    sensible(std::env::var(name).ok()?.trim().parse().ok()?)
}

fn sensible(number: usize) -> Option<usize> {
    (number > 0).then(|| number.min(MOST))
}

fn size() -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize through the pointer, which is to a live one; it fails harmlessly elsewhere.
    let answer = unsafe { libc::ioctl(std::io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    sensible(size.ws_col.into()).zip(sensible(size.ws_row.into())).filter(|_| answer == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> String + 'a {
        |name| set.iter().find(|(key, _)| *key == name).map_or(String::new(), |(_, value)| (*value).to_owned())
    }

    #[test]
    fn colour_by_terminal_and_wish() {
        let xterm = ("TERM", "xterm");
        let rows: [(&[_], bool, bool); 10] = [
            (&[xterm], true, true),
            (&[xterm], false, false),
            (&[], true, false),
            (&[("TERM", "dumb")], true, false),
            (&[xterm, ("NO_COLOR", "1")], true, false),
            (&[xterm, ("NO_COLOR", "")], true, true),
            (&[xterm, ("CLICOLOR", "0")], true, false),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
        ];
        for (set, terminal, expected) in rows {
            assert_eq!(wants_colour(&world(set), terminal), expected, "{set:?} {terminal}");
        }
    }

    #[test]
    fn the_first_locale_that_says_something_counts() {
        let rows: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[("LANG", "en_US.UTF-8")], true),
            (&[("LANG", "de_DE.utf8")], true),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")], false),
            (&[("LANG", "C"), ("LC_CTYPE", "C.UTF-8")], true),
            (&[("LC_ALL", ""), ("LANG", "C.UTF-8")], true),
        ];
        for (set, expected) in rows {
            assert_eq!(speaks_utf8(&world(set)), *expected, "{set:?}");
        }
    }
}
