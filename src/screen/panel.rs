//! Panels of labels and values: `[ Title ] ====`, then `Label:   value`, the values wrapped under their column.

use super::{NARROWEST, join, text, title};

/// The label column is at least this wide, so that panels with short labels line up with each other.
const LABEL: usize = 10;

/// A value, already as items of which none should be broken (joined by ` | `), or as running text.
pub enum Value {
    Text(String),
    Items(Vec<String>),
}

/// Rows of a label without its colon, and a value. Foreign text in either is cleaned here.
pub fn panel(heading: &str, rows: &[(&str, Value)], width: usize) -> String {
    let width = width.max(NARROWEST);
    let labels: Vec<String> = rows.iter().map(|(label, _)| format!("{}:", text::clean(label))).collect();
    let longest = labels.iter().map(|label| text::width(label)).max().unwrap_or(0);
    // At most a quarter of the screen for labels; a longer one gets a line of its own.
    let column = longest.max(LABEL).min((width / 4).max(LABEL)) + 1;
    let mut lines = vec![title(heading, width)];
    for (label, (_, value)) in labels.iter().zip(rows) {
        let room = width - column;
        let mut wrapped = match value {
            Value::Text(value) => text::wrap(&text::clean(value), room),
            Value::Items(items) => {
                let items: Vec<String> = items.iter().map(|item| text::clean(item)).collect();
                text::wrap_items(items.iter().map(String::as_str), room)
            }
        }
        .into_iter();
        if text::width(label) < column {
            lines.push(text::pad(label, column) + &wrapped.next().unwrap_or_default());
        } else {
            lines.push(text::elide(label, width));
        }
        lines.extend(wrapped.map(|line| " ".repeat(column) + &line));
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
             GPT-5.3-Codex-Spark weekly:\n                1% left\n"
        );
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
