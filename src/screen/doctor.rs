//! What doctor found, as people read it: the findings first, each with the command to type, then panels. Knows no file and
//! no profile.

use super::panel::{self, Panel};
use super::{NARROWEST, join, text, title};

/// Something that is wrong.
pub struct Finding<'a> {
    /// A sentence without its full stop.
    pub what: &'a str,
    /// The next step, the same way.
    pub next: &'a str,
}

/// Columns before the text of a finding.
const BULLET: &str = "- ";
const INDENT: &str = "  ";

/// All of it. Foreign text is cleaned here.
pub fn page(findings: &[Finding], panels: &[Panel], width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut screen = self::findings(findings, width);
    for panel in panels {
        screen.push('\n');
        screen.push_str(&panel::panel(&panel.heading, &panel.rows, width));
    }
    screen
}

fn findings(findings: &[Finding], width: usize) -> String {
    let mut lines = vec![title("Findings", width)];
    for finding in findings {
        let mut start = BULLET;
        for sentence in [finding.what, finding.next] {
            for line in text::wrap(&format!("{}.", text::clean(sentence)), width - INDENT.len()) {
                lines.push(format!("{start}{line}"));
                start = INDENT;
            }
        }
    }
    if findings.is_empty() {
        lines.push("Nothing is wrong.".to_owned());
    }
    join(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINDINGS: [Finding; 2] = [
        Finding { what: "profile 'b' has no login (no-auth)", next: "Log in: `prodex login -p b`" },
        Finding { what: "a\u{1b}[2J\nb", next: "chmod 600 /a/very/long/path/that/does/not/fit/anywhere/auth.json" },
    ];

    fn panels() -> Vec<Panel> {
        let doctor = Panel::new("Doctor").row("Prodex root", "/home/a/.prodex");
        vec![
            doctor.row("Default CODEX_HOME", "/home/a/.codex"),
            Panel::new("Profile 日本\u{1b}").row("Email", "a@b\u{202e}"),
        ]
    }

    #[test]
    fn at_80_columns() {
        let expected = "\
[ Findings ] ===================================================================
- profile 'b' has no login (no-auth).
  Log in: `prodex login -p b`.
- a\u{fffd}[2J\u{fffd}b.
  chmod 600 /a/very/long/path/that/does/not/fit/anywhere/auth.json.

[ Doctor ] =====================================================================
Prodex root:        /home/a/.prodex
Default CODEX_HOME: /home/a/.codex

[ Profile 日本\u{fffd} ] ==============================================================
Email:     a@b\u{fffd}
";
        assert_eq!(page(&FINDINGS, &panels(), 80), expected);
    }

    #[test]
    fn at_40_columns() {
        let expected = "\
[ Findings ] ===========================
- profile 'b' has no login (no-auth).
  Log in: `prodex login -p b`.
- a\u{fffd}[2J\u{fffd}b.
  chmod 600
  /a/very/long/path/that/does/not/fit/
  anywhere/auth.json.
";
        assert_eq!(page(&FINDINGS, &[], 40), expected);
    }

    #[test]
    fn nothing_wrong_and_no_width_exceeded() {
        assert!(page(&[], &[], 120).ends_with("\nNothing is wrong.\n"));
        for width in [1, 20, 40, 80, 120, 300] {
            for line in page(&FINDINGS, &panels(), width).lines() {
                assert!(text::width(line) <= width.max(NARROWEST), "{width}: {line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }
}
