//! One verb per file: fetch, decide, print. This file only dispatches, and has the few words that all verbs share.

pub mod login;
pub mod preflight;
pub mod profile;
pub mod quota;
pub mod run;

use crate::cli::{self, Command};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::state::{State, store};
use std::ffi::OsString;
use std::io::{self, Write};

pub fn main(args: impl IntoIterator<Item = OsString>) -> Outcome {
    let command = cli::parse(args)?;
    let mut out = io::stdout().lock();
    let code = dispatch(command, &mut out)?;
    out.flush()?;
    Ok(code)
}

fn dispatch(command: Command, out: &mut dyn Write) -> Outcome {
    // Help needs no configuration: it must work where HOME is not set.
    match &command {
        Command::Help(text) => return Ok(out.write_all(text.as_bytes()).map(|()| 0)?),
        Command::Bare(text) => return Ok(io::stderr().write_all(text.as_bytes()).map(|()| 2)?),
        Command::Version => return Ok(writeln!(out, "prodex {}", env!("CARGO_PKG_VERSION")).map(|()| 0)?),
        _ => {}
    }
    let config = Config::from_env()?;
    match command {
        Command::Help(_) | Command::Bare(_) | Command::Version => Ok(0),
        Command::ProfileAdd(add) => profile::add(&config, &add, out),
        Command::ProfileImportCurrent { name } => profile::import_current(&config, &name, out),
        Command::ProfileList => profile::list(&config, out),
        Command::ProfileRemove { name, delete_home } => profile::remove(&config, &name, delete_home, out),
        Command::Use { name } => profile::use_profile(&config, &name, out),
        Command::Current => profile::current(&config, out),
        Command::Login { profile, args } => login::login(&config, profile.as_deref(), &args, out),
        Command::Logout { profile } => login::logout(&config, profile.as_deref(), out),
        Command::Quota(args) => quota::run(&config, &args, out),
        Command::Run(args) => run::run(&config, &args),
    }
}

/// The state as it is, and on stderr what is wrong with it.
pub fn load(config: &Config) -> Result<State, Error> {
    let loaded = store::load(config)?;
    for problem in loaded.warning.into_iter().chain(loaded.state.problems()) {
        warn(&problem);
    }
    Ok(loaded.state)
}

/// One line on stderr that stops nothing.
pub fn warn(text: &str) {
    let _ = io::stderr().write_all(format!("Warning: {}\n", shown(text)).as_bytes());
}

/// Text from a file or a token, safe for a terminal: no control characters, none that reorder what is around them.
pub fn shown(text: &str) -> String {
    let unsafe_ = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if unsafe_(c) { '?' } else { c }).collect()
}

/// `Label:  value` lines under each other. Screens take their place later.
pub fn rows(out: &mut dyn Write, rows: &[(&str, String)]) -> io::Result<()> {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 1;
    for (label, value) in rows {
        writeln!(out, "{:width$}  {}", format!("{label}:"), shown(value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_steers_it() {
        assert_eq!(shown("a\x1b[2J\r\n\u{9b}b\u{202e}ü日"), "a?[2J???b?ü日");
        let mut text = Vec::new();
        rows(&mut text, &[("A", "x\ny".into()), ("Long", String::new())]).unwrap();
        assert_eq!(text, b"A:     x?y\nLong:  \n");
    }
}
