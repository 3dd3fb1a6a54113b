//! One verb per file: fetch, decide, print. This file only dispatches, and has the few words that all verbs share.

mod chart;
pub mod doctor;
mod json;
pub mod login;
pub mod preflight;
pub mod profile;
pub mod quota;
mod resume;
pub mod run;
pub mod session;
pub mod transfer;
pub mod why;

use crate::cli::{self, Command};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::screen::panel::{self, Panel};
use crate::screen::text::clean;
use crate::state::{State, store};
use crate::sys::{child, terminal};
use crate::wire::url::Url;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

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
        Command::Completions { shell } => {
            return Ok(out.write_all(cli::completions::script(*shell).as_bytes()).map(|()| 0)?);
        }
        Command::Man => {
            return Ok(out.write_all(cli::man::page(env!("CARGO_PKG_VERSION")).as_bytes()).map(|()| 0)?);
        }
        Command::Version => return Ok(writeln!(out, "prodex {}", env!("CARGO_PKG_VERSION")).map(|()| 0)?),
        _ => {}
    }
    let config = Config::from_env()?;
    match command {
        Command::Help(_) | Command::Bare(_) | Command::Version | Command::Completions { .. } | Command::Man => Ok(0),
        Command::Names => profile::names(&config, out),
        Command::ProfileAdd(add) => profile::add::add(&config, &add, out),
        Command::ProfileImportCurrent { name } => profile::add::import_current(&config, &name, out),
        Command::ProfileList { json } => profile::list(&config, json, out),
        Command::ProfileRemove { name, delete_home } => profile::remove::remove(&config, &name, delete_home, out),
        Command::ProfileSwitch { name, disabled } => profile::switch(&config, &name, disabled, out),
        Command::ProfileReserve { name, percent } => profile::reserve(&config, &name, percent, out),
        Command::ProfileExport { file, names } => transfer::export(&config, &file, &names, out),
        Command::ProfileImport(args) => transfer::import(&config, &args, out),
        Command::Use { name } => profile::use_profile(&config, &name, out),
        Command::Current { json } => profile::current(&config, json, out),
        Command::Login { profile, args } => login::login(&config, profile.as_deref(), &args, out),
        Command::Logout { profile } => login::logout(&config, profile.as_deref(), out),
        Command::Quota(args) => quota::run(&config, &args, out),
        Command::Why { base_url } => why::run(&config, base_url.as_deref(), out),
        Command::Doctor(args) => doctor::run(&config, &args, out),
        Command::SessionList { count, json } => session::list(&config, count, json, out),
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
    let _ = io::stderr().write_all(format!("Warning: {}\n", clean(text)).as_bytes());
}

/// The backend: as the flag names it, else as the environment does.
pub fn base(config: &Config, flag: Option<&str>) -> Result<Url, Error> {
    let text = flag.unwrap_or(&config.base_url).trim_end_matches('/');
    Url::parse(text).map_err(|error| {
        Error::new(format!("the base URL '{text}' cannot be used: {error}"))
            .next("Correct --base-url or CODEX_CHATGPT_BASE_URL.")
    })
}

/// The codex to start.
pub fn find_codex(config: &Config) -> Result<PathBuf, Error> {
    child::find(&config.codex_bin).ok_or_else(|| {
        let name = config.codex_bin.to_string_lossy();
        if name.contains('/') {
            return Error::new(format!("'{name}', which PRODEX_CODEX_BIN names, is not an executable program"))
                .next("Correct or unset that variable.");
        }
        Error::new(format!("'{name}' is not an executable program in PATH"))
            .next("Install codex with `npm install -g @openai/codex`, or say where it is with PRODEX_CODEX_BIN.")
    })
}

/// Panels under each other, as wide as the terminal.
pub fn show(out: &mut dyn Write, panels: &[Panel]) -> io::Result<()> {
    out.write_all(panel::page(panels, terminal::columns()).as_bytes())
}
