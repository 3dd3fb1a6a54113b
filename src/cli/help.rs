//! The help text of a command, and its usage, from the table. Pure.

use super::table::{Flag, Spec, children};
use std::fmt::Write as _;

/// What fits into the terminals that people have; nothing of it depends on the one at hand. Columns.
const WIDTH: usize = 80;
/// An explanation is never narrower than this. Columns.
const NARROWEST: usize = 30;

impl Spec {
    pub fn usage(&self) -> String {
        let mut usage = self.line();
        if self.flags.iter().any(|flag| !flag.hidden) {
            usage.push_str(" [OPTIONS]");
        }
        if self.is_group() {
            usage.push_str(" COMMAND");
        }
        for argument in self.arguments {
            let _ = write!(usage, " {}", argument.name);
        }
        usage
    }

    pub fn help(&self) -> String {
        let mut text = format!("{}\n\nUsage: {}\n", self.about, self.usage());
        let commands = children(self.path)
            .filter(|spec| !spec.hidden)
            .map(|spec| (spec.path.last().map_or("", |word| word).to_owned(), spec.about));
        section(&mut text, "Commands", &commands.collect::<Vec<_>>());
        let arguments = self.arguments.iter().map(|argument| (argument.name.to_owned(), argument.about));
        section(&mut text, "Arguments", &arguments.collect::<Vec<_>>());
        let flags = self.all_flags().filter(|flag| !flag.hidden).map(|flag| (flag.shown(), flag.about));
        section(&mut text, "Options", &flags.collect::<Vec<_>>());
        for paragraph in self.paragraphs() {
            text.push('\n');
            wrap(&mut text, &paragraph, 0);
        }
        for (index, (line, what)) in self.examples.iter().enumerate() {
            let title = if index == 0 { "\nExamples:\n" } else { "" };
            let _ = write!(text, "{title}  {line}\n      {what}\n");
        }
        if self.is_group() {
            let _ = write!(text, "\nSee `{} COMMAND --help` for one command.\n", self.line());
        }
        text
    }

    /// Of `more`, each on one line.
    pub fn paragraphs(&self) -> impl Iterator<Item = String> {
        self.more.split("\n\n").filter(|text| !text.is_empty()).map(|text| text.replace('\n', " "))
    }
}

impl Flag {
    /// `-p, --profile NAME`.
    pub fn shown(&self) -> String {
        let short = self.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = self.value.map(|value| format!(" {value}")).unwrap_or_default();
        format!("{short}--{}{value}", self.long)
    }
}

fn section(text: &mut String, title: &str, rows: &[(String, &str)]) {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (index, (left, about)) in rows.iter().enumerate() {
        if index == 0 {
            let _ = write!(text, "\n{title}:\n");
        }
        let _ = write!(text, "  {left:width$}  ");
        wrap(text, about, width + 4);
    }
}

/// Words of the table, which are ASCII, from column `indent` on.
pub fn wrap(text: &mut String, words: &str, indent: usize) {
    let room = WIDTH.saturating_sub(indent).max(NARROWEST);
    let mut used = 0;
    for word in words.split(' ') {
        if used > 0 && used + 1 + word.len() > room {
            let _ = write!(text, "\n{:indent$}", "");
            used = 0;
        }
        if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::table::{COMMANDS, find};
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for spec in COMMANDS {
            for line in spec.help().lines() {
                assert!(line.len() <= WIDTH && line.is_ascii() && line.trim_end() == line, "{}: {line}", spec.line());
                assert!(line.matches('`').count() % 2 == 0, "{}: a command that is broken: {line}", spec.line());
            }
        }
    }

    #[test]
    fn what_is_long_goes_on_in_its_column() {
        let help = find(&["quota"]).expect("quota").help();
        assert!(help.contains("\n      --base-url URL  Backend to talk to, instead of"), "{help}");
        let lines: Vec<&str> = help.lines().collect();
        let at = lines.iter().position(|line| line.contains("--base-url")).expect("a line");
        assert!(lines[at + 1].starts_with("                      ") && !lines[at + 1].contains("--"), "{help}");
    }
}
