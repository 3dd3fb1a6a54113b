//! `profile remove`: the entry, and with `--delete-home` the home as far as it is ours.

use crate::command::{load, show, warn};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::authfile::{self, Locked};
use crate::profile::home::Retired;
use crate::profile::{self, Profile, auth, home, links};
use crate::proxy::bindings;
use crate::quota::shelf;
use crate::screen::panel::Panel;
use crate::state::{State, store};
use crate::sys::clock;
use std::io::{self, Write};

pub fn remove(config: &Config, name: &str, delete_home: bool, out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    let state = load(config)?;
    // To the end: whoever is about to write a login there has done so before, or finds the profile gone.
    let _locked = match state.profile(name) {
        Some(profile) if delete_home && may_delete(config, &state, name, Some(&profile))? => {
            hand_over(config, &profile)?;
            lock(&profile)?
        }
        _ => None,
    };
    let (removed, active, deletable) = store::update(config, |state| {
        let profile = match state.profile(name) {
            Some(profile) => Some(profile),
            // An entry that cannot be used can be removed.
            None if state.has_entry(name) => None,
            None => return Err(profile::unknown(name)),
        };
        let deletable = delete_home && may_delete(config, state, name, profile.as_ref())?;
        state.remove(name);
        let gone = state.active().is_none_or(|active| active == name || state.profile(&active).is_none());
        if gone {
            let profiles = state.profiles();
            let works = |profile: &&Profile| !profile.disabled && auth::read(&profile.codex_home).tokens().is_some();
            let first = profiles.iter().find(works).or(profiles.first());
            state.set_active(first.map(|profile| profile.name.as_str()));
        }
        Ok((profile, state.active(), deletable))
    })?;
    // After the registry: when this fails or the process dies, a directory is left over, not a profile without a home.
    let retired = match &removed {
        Some(profile) if deletable => Some(home::retire(config, &profile.codex_home)?),
        _ => None,
    };
    // Without it a later profile of this name would be taken for the owner of the old one's chains.
    if let Err(error) = bindings::forget(config, name) {
        warn(&format!("what was bound to '{name}' is not forgotten: {error}"));
    }
    // Void by itself once another account has the name; this is tidiness.
    let _ = shelf::update(config, |known| known.forget(name));
    let path = removed.map(|profile| profile.codex_home.display().to_string()).unwrap_or_default();
    let deleted = match retired {
        Some(Retired::Deleted) => format!("Yes ({path})"),
        Some(Retired::Husk) => format!("Yes, but for its links to the history: threads lead through them ({path})"),
        Some(Retired::Kept) => format!("No (kept: {path}, which has become the home of another profile)"),
        None if delete_home => "No (it did not exist)".to_owned(),
        None => format!("No (kept: {path})"),
    };
    let panel = Panel::new("Profile Removed")
        .row("Result", format!("Removed profile '{name}'."))
        .row("Deleted home", deleted)
        .row("Active", active.as_deref().unwrap_or("cleared"));
    show(out, &[panel])?;
    Ok(0)
}

/// What the home has of the history goes where all profiles have it, as before a run. What does not get there keeps the home.
fn hand_over(config: &Config, profile: &Profile) -> Result<(), Error> {
    let next = "Move it away, or remove the profile without --delete-home.";
    profile::ensure_links(profile, config).map_err(|error| error.next(next))?;
    let Some(own) = links::history_in(&profile.codex_home, &config.shared_codex_home) else { return Ok(()) };
    Err(Error::new(format!("nothing was removed: {} is history that is nowhere else", own.display())).next(next))
}

/// `None`: another `remove` was quicker.
fn lock(profile: &Profile) -> Result<Option<Locked>, Error> {
    let home = &profile.codex_home;
    match Locked::take(home, clock::now() + authfile::PATIENCE) {
        Ok(locked) => Ok(Some(locked)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(authfile::not_locked(home, &error)),
        Err(error) => Err(authfile::not_locked(home, &error)
            .next("Remove the profile without --delete-home, and the directory by hand.")),
    }
}

/// False when there is nothing to delete.
fn may_delete(config: &Config, state: &State, name: &str, profile: Option<&Profile>) -> Result<bool, Error> {
    let Some(profile) = profile else { return Ok(false) };
    if !profile.managed {
        let what = format!("{} is an external home, which is not ours to delete", profile.codex_home.display());
        return Err(Error::new(what).next(format!("Run `prodex profile remove {name}` without --delete-home.")));
    }
    if !home::deletable(config, &profile.codex_home)? {
        return Ok(false);
    }
    if let Some(pid) = profile::in_use(&profile.codex_home) {
        // Its next refresh would write a login into what is left there.
        let pid = if pid == 0 { String::new() } else { format!(" (process {pid})") };
        let what = format!("codex runs in the home of profile '{name}'{pid}, so nothing was removed");
        return Err(Error::new(what).next("End it first, or remove the profile without --delete-home."));
    }
    match home::resident(state, &profile.codex_home, name) {
        Some(other) => {
            let what = format!("{} is also the home of profile '{}'", profile.codex_home.display(), other.name);
            Err(Error::new(what).next(format!("Run `prodex profile remove {name}` without --delete-home.")))
        }
        None => Ok(true),
    }
}
