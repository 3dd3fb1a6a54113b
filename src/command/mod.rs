//! One verb per file: fetch, decide, print. This file only dispatches.

use crate::cli;
use crate::config::Config;
use crate::error::Outcome;
use std::ffi::OsString;

pub fn main(args: impl IntoIterator<Item = OsString>) -> Outcome {
    let _ = (cli::parse(args)?, Config::from_env()?);
    Ok(0)
}
