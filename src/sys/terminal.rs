//! How large the terminal is. Draws nothing.

use std::os::fd::AsRawFd;

/// Columns when nobody can say: 0.2.38's default.
const DEFAULT_COLUMNS: usize = 110;
/// Rows when nobody can say.
const DEFAULT_ROWS: usize = 40;

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

fn from_env(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.trim().parse().ok().filter(|&n| n > 0)
}

fn size() -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize through the pointer, which is to a live one; it fails harmlessly elsewhere.
    let answer = unsafe { libc::ioctl(std::io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0 && size.ws_row > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}
