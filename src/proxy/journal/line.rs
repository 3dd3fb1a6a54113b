//! One line of the log: its time and its text, made in place. Knows no file.

use crate::sys::clock;
use std::fmt::{self, Write};

/// One line, with its time: `[2026-11-25 07:16:03.123 +00:00] text`.
pub fn append(lines: &mut String, stamp: &mut Stamp, text: fmt::Arguments<'_>) {
    stamp.write(clock::unix_millis(), lines);
    let begin = lines.len();
    // To a string nothing fails, but for what the text itself says.
    let _ = Clean(lines).write_fmt(text);
    let end = begin + lines[begin..].trim_end().len();
    lines.truncate(end);
    lines.push('\n');
}

/// A value may hold what a peer said: no line breaks, no escape codes.
struct Clean<'a>(&'a mut String);

impl Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            self.0.push_str(text);
        } else {
            self.0.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        Ok(())
    }
}

/// The time of a line. What does not change within a second is made once in it: the zone is asked for by several calls.
#[derive(Default)]
pub struct Stamp {
    second: u64,
    /// `[2026-11-25 07:16:03.`
    before: String,
    /// ` +00:00] `
    behind: String,
}

impl Stamp {
    fn write(&mut self, unix_millis: u64, out: &mut String) {
        let second = unix_millis / 1000;
        if self.second != second || self.before.is_empty() {
            let t = clock::local(second);
            let sign = if t.offset < 0 { '-' } else { '+' };
            let minutes = t.offset.unsigned_abs() / 60;
            self.second = second;
            self.before.clear();
            self.behind.clear();
            let _ = write!(
                self.before,
                "[{:04}-{:02}-{:02} {:02}:{:02}:{:02}.",
                t.year, t.month, t.day, t.hour, t.minute, t.second
            );
            let _ = write!(self.behind, " {sign}{:02}:{:02}] ", minutes / 60, minutes % 60);
        }
        out.push_str(&self.before);
        let _ = write!(out, "{:03}", unix_millis % 1000);
        out.push_str(&self.behind);
    }
}
