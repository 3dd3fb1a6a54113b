//! What is wrong with homes beyond their logins: a `config.toml` that codex cannot read, and homes that no profile has. Reads
//! only.

use super::look::Patient;
use super::{Finding, toml};
use crate::config::Config;
use crate::profile::{home, husk, name};
use crate::state::{State, file};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// People write a few KB.
const MAX_CONFIG: u64 = 1024 * 1024;
/// Homes of nobody that are named.
const MAX_NAMED: usize = 5;

pub fn examine(config: &Config, state: &State, patients: &[Patient], findings: &mut Vec<Finding>) {
    for patient in patients.iter().filter(|patient| patient.exists) {
        let name = &patient.profile.name;
        let path = patient.profile.codex_home.join("config.toml");
        if let Some(why) = unreadable(&path) {
            let what = format!("{} cannot be read: {why}; codex does not start in profile '{name}'", path.display());
            findings.push(Finding::new("config_broken", what, "Correct it, or move it away").about(name));
        }
    }
    findings.extend(nobodys(config, state));
}

/// Why codex could not read its configuration.
fn unreadable(path: &Path) -> Option<String> {
    match file::read_bounded(path, MAX_CONFIG) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => toml::fault(&text),
            Err(_) => Some("it is not UTF-8".to_owned()),
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Homes below `profiles` that have lost their entry.
fn nobodys(config: &Config, state: &State) -> Option<Finding> {
    let profiles = config.profiles_dir();
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let known: BTreeSet<PathBuf> = state.profiles().into_iter().map(|profile| real(profile.codex_home)).collect();
    let entries = fs::read_dir(&profiles).into_iter().flatten().flatten();
    let mut homes: Vec<(String, bool)> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)))
        .filter(|(path, name)| !home::is_unfinished(name) && !husk::is_free(path))
        .filter(|(path, name)| !state.has_entry(name) && !known.contains(&real(path.clone())))
        .map(|(path, name)| (name, path.join("auth.json").exists()))
        .collect();
    homes.sort_unstable();
    let (first, _) = homes.iter().find(|(name, _)| name::validate_new(name).is_ok()).or(homes.first())?;
    let next = if name::validate_new(first).is_ok() {
        format!("Take it in again with `prodex profile add {first}`, or look at it and delete it")
    } else {
        "Look at it, and delete it".to_owned()
    };
    let word = |(name, login): &(String, bool)| if *login { format!("{name} (with a login)") } else { name.clone() };
    let named: Vec<String> = homes.iter().take(MAX_NAMED).map(word).collect();
    let more = homes.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("no profile has what is in {}: {}{more}", profiles.display(), named.join(", "));
    Some(Finding::new("home_of_nobody", what, next))
}
