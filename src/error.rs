//! Errors for people: what happened, where, and what to type next; one line on stderr, one exit code.
//! Knows nothing of protocols: a layer that can fail in ways a program cares about has an enum of its own.

use crate::foreign::steers;
use std::fmt;
use std::io;
use std::path::Path;

/// What a command gives back: the exit code, or an error.
pub type Outcome = Result<u8, Error>;

/// Exit code of a failure that is nobody's command line (spec S-11).
const FAILURE: u8 = 1;
/// Exit code of a bad command line, or of a run that the quota check stopped (spec S-11).
const USAGE: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    what: String,
    next: Option<String>,
    code: u8,
}

impl Error {
    /// Something failed: exit code 1. `what` is a sentence without its full stop.
    pub fn new(what: impl Into<String>) -> Error {
        Error { what: what.into(), next: None, code: FAILURE }
    }

    /// The command line is wrong: exit code 2.
    pub fn usage(what: impl Into<String>) -> Error {
        Error { what: what.into(), next: None, code: USAGE }
    }

    /// An I/O error with what was being done to which path: `cannot read /x/state.json: permission denied`.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Error {
        Error::new(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// What the user can type or do next: a sentence, with its command in backquotes.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Error {
        self.next = Some(next.into());
        self
    }

    /// What happened, without what to do about it; not cleaned.
    pub fn what(&self) -> &str {
        &self.what
    }

    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// Writes the one line on stderr; nothing for a closed pipe. A failing stderr is not worth a second error.
    pub fn report(&self) {
        if self.code != 0 {
            let _ = io::Write::write_all(&mut io::stderr(), format!("Error: {self}\n").as_bytes());
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line whatever is inside: a path or a server's text may hold line breaks or escape codes.
        let clean = |text: &str| text.chars().map(|c| if steers(c) { ' ' } else { c }).collect::<String>();
        f.write_str(&clean(&self.what))?;
        if let Some(next) = &self.next {
            write!(f, ". {}", clean(next))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Errors of writing our own output. A reader that closed the pipe has what it wanted: exit 0, silently.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Error { what: String::new(), next: None, code: 0 };
        }
        Error::new(format!("cannot write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_the_next_step_and_no_control_characters() {
        let error = Error::new("profile 'a\x1b[2J\nb\u{202e}' does not exist").next("See `prodex profile list`.");
        assert_eq!(error.to_string(), "profile 'a [2J b ' does not exist. See `prodex profile list`.");
        assert_eq!(error.exit_code(), 1);
        assert_eq!(Error::usage("x").exit_code(), 2);
    }

    #[test]
    fn a_closed_pipe_is_success() {
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit_code(), 0);
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::StorageFull)).exit_code(), 1);
    }
}
