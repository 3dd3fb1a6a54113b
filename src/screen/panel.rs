//! Panels of labels and values: `[ Title ] ====`, then `Label:   value`, the values wrapped under their column. In a pipe
//! each value stays on its line, for scripts that read lines.

use super::{NARROWEST, join, text, title};

/// The label column is at least this wide, so that panels with short labels line up with each other.
const LABEL: usize = 10;
/// Before a value that stands under its label.
const INDENT: &str = "  ";

/// The heading's width in a pipe: 0.2.38's.
const PIPE: usize = 110;

/// A value, already as items of which none should be broken (joined by ` | `), or as running text.
pub enum Value {
    Text(String),
    Items(Vec<String>),
}

impl<T: Into<String>> From<T> for Value {
    fn from(text: T) -> Value {
        Value::Text(text.into())
    }
}

/// A heading and its rows.
pub struct Panel {
    pub heading: String,
    pub rows: Vec<(&'static str, Value)>,
}

impl Panel {
    pub fn new(heading: impl Into<String>) -> Panel {
        Panel { heading: heading.into(), rows: Vec::new() }
    }

    #[must_use]
    pub fn row(mut self, label: &'static str, value: impl Into<Value>) -> Panel {
        self.rows.push((label, value.into()));
        self
    }

    /// Nothing where there is nothing to say.
    #[must_use]
    pub fn maybe(self, label: &'static str, value: Option<impl Into<Value>>) -> Panel {
        match value {
            Some(value) => self.row(label, value),
            None => self,
        }
    }
}

/// Panels with an empty line between two. `columns`: of the terminal; `None` in a pipe.
pub fn page(panels: &[Panel], columns: Option<usize>) -> String {
    let texts = panels.iter().map(|Panel { heading, rows }| match columns {
        Some(width) => panel(heading, rows, width),
        None => draw(heading, rows, PIPE, usize::MAX),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Rows of a label without its colon, and a value. Foreign text in either is cleaned here.
pub fn panel(heading: &str, rows: &[(&str, Value)], width: usize) -> String {
    let width = width.max(NARROWEST);
    draw(heading, rows, width, width)
}

/// The heading fills `width`, and values are wrapped to `limit`.
fn draw(heading: &str, rows: &[(&str, Value)], width: usize, limit: usize) -> String {
    let labels: Vec<String> = rows.iter().map(|(label, _)| format!("{}:", text::clean(label))).collect();
    let longest = labels.iter().map(|label| text::width(label)).max().unwrap_or(0);
    // At most a quarter of the screen for labels; a longer one has its value beside it where that fits, else below.
    let column = longest.max(LABEL).min((width / 4).max(LABEL)) + 1;
    let mut lines = vec![title(heading, width)];
    for (label, (_, value)) in labels.iter().zip(rows) {
        let stands_out = text::width(label) >= column;
        let room = limit - if stands_out { INDENT.len() } else { column };
        let wrapped = match value {
            // As it is: wrapping would make one of several spaces in a path.
            Value::Text(value) if limit == usize::MAX => vec![text::clean(value)],
            Value::Text(value) => text::wrap(&text::clean(value), room),
            Value::Items(items) => {
                let items: Vec<String> = items.iter().map(|item| text::clean(item)).collect();
                text::wrap_items(items.iter().map(String::as_str), room)
            }
        };
        let beside = |value: &String| text::width(label) + 1 + text::width(value) <= limit;
        match wrapped.as_slice() {
            [value] if stands_out && beside(value) => lines.push(format!("{label} {value}")),
            _ if stands_out => {
                lines.push(text::elide(label, width));
                lines.extend(wrapped.iter().map(|line| format!("{INDENT}{line}")));
            }
            _ => {
                let indents = std::iter::once(text::pad(label, column)).chain(std::iter::repeat(" ".repeat(column)));
                lines.extend(wrapped.iter().zip(indents).map(|(line, indent)| indent + line));
            }
        }
    }
    join(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(&'static str, Value)> {
        let items = ["5h: 63% left (37% used), resets 05:12", "weekly: 88% left"].map(str::to_owned).to_vec();
        vec![
            ("Profile", Value::Text("日本\x1b[2J".to_owned())),
            ("Main", Value::Items(items)),
            ("GPT-5.3-Codex-Spark weekly", Value::Text("1% left".to_owned())),
        ]
    }

    #[test]
    fn values_stand_under_each_other() {
        assert_eq!(
            panel("Quota a", &rows(), 60),
            "[ Quota a ] ================================================\n\
             Profile:        日本\u{fffd}[2J\n\
             Main:           5h: 63% left (37% used), resets 05:12 |\n                weekly: 88% left\n\
             GPT-5.3-Codex-Spark weekly: 1% left\n"
        );
        let root = Panel::new("A").row("Prodex root", "/home/somebody/long/.prodex").row("Profiles", "2");
        assert_eq!(
            page(&[root], Some(30)),
            "[ A ] ========================\nProdex root:\n  /home/somebody/long/.prodex\nProfiles:  2\n"
        );
    }

    #[test]
    fn in_a_pipe_a_value_is_one_line() {
        let path = format!("/home/a  b/{}", "long/".repeat(40));
        let panels = [Panel { heading: "A".to_owned(), rows: rows() }, Panel::new("B").row("Path", path.as_str())];
        let text = page(&panels, None);
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            text.contains("\nMain:                       5h: 63% left (37% used), resets 05:12 | weekly: 88% left\n")
        );
        assert!(text.contains("1% left\n\n[ B ] ==="), "{text}");
        assert!(text.ends_with(&format!("\nPath:      {path}\n")), "{text}");
        assert!(text.lines().all(|line| line.len() > PIPE || !line.starts_with('[') || line.len() == PIPE));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for width in NARROWEST..200 {
            for line in panel("Quota 日本語 👩\u{200d}👩\u{200d}👧", &rows(), width).lines() {
                assert!(text::width(line) <= width, "{width}: {line}");
            }
        }
    }
}
