//! Data to text. Pure: the width, the time zone and the palette are arguments. Knows no terminal and opens nothing.

pub mod doctor;
pub mod gauge;
pub mod palette;
pub mod panel;
pub mod quota;
pub mod table;
pub mod text;
pub mod time;
pub mod why;

/// No screen is laid out for less than this; a narrower terminal wraps by itself.
const NARROWEST: usize = 20;

/// `[ Title ] =====` across the screen.
fn title(title: &str, width: usize) -> String {
    let title = format!("[ {} ]", text::elide(&text::clean(title), width.saturating_sub(6)));
    let rest = width.saturating_sub(text::width(&title) + 1);
    if rest == 0 { title } else { format!("{title} {}", "=".repeat(rest)) }
}

/// Lines as they go to the terminal: without spaces at their ends, each with a line break.
fn join(lines: &[String]) -> String {
    let mut screen = String::new();
    for line in lines {
        screen.push_str(line.trim_end());
        screen.push('\n');
    }
    screen
}
