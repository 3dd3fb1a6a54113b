//! `profile list | use | disable | enable | reserve`, `use` and `current`: what the registry says, and what changes nothing
//! but the registry.

pub mod add;
pub mod remove;

use super::chart::{self, Shelf};
use super::{json, load, show, warn};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::auth::{self, Auth};
use crate::profile::{self, Profile, home};
use crate::proxy::share::Share;
use crate::proxy::standing;
use crate::screen::panel::Panel;
use crate::state::store;
use crate::sys::clock;
use crate::wire::value::Value;
use std::io::Write;

pub fn list(config: &Config, as_json: bool, out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    let state = load(config)?;
    let profiles = state.profiles();
    if as_json {
        let active = state.active();
        let entry = |profile: &Profile| json::profile(profile, &auth::read(&profile.codex_home), active.as_deref());
        let members = [
            ("active_profile", json::maybe(active.as_deref())),
            ("profiles", Value::Array(profiles.iter().map(entry).collect())),
        ];
        out.write_all(json::document(members).as_bytes())?;
        return Ok(0);
    }
    let active = state.active();
    let panel = Panel::new("Profiles");
    if profiles.is_empty() {
        show(out, &[first_steps(panel.row("Status", "No profiles configured."))])?;
        return Ok(0);
    }
    let shelf = Shelf::load(config);
    let count = profiles.len().to_string();
    let mut panels = vec![panel.row("Count", count).row("Active", active.as_deref().unwrap_or("none"))];
    for profile in profiles {
        let auth = auth::read(&profile.codex_home);
        let panel = Panel::new(format!("Profile {}", profile.name));
        let panel = panel.row("Current", chart::yes(active.as_deref() == Some(&profile.name)));
        let panel = shelf.quota(chart::of(panel, &profile, &auth), &profile, &auth);
        panels.push(panel.maybe("Next", next(&profile, &auth)));
    }
    show(out, &panels)?;
    Ok(0)
}

/// What to type where the login cannot be used, or there is no home to hold one.
fn next(profile: &Profile, auth: &Auth) -> Option<String> {
    if profile.codex_home.is_dir() {
        return chart::next(profile, auth);
    }
    let name = &profile.name;
    let anew = if profile.managed { format!(", log in anew with `prodex login -p {name}`") } else { String::new() };
    Some(format!("Its home is missing: put it back{anew}, or forget it with `prodex profile remove {name}`."))
}

/// What to type where there is no profile.
fn first_steps(panel: Panel) -> Panel {
    panel
        .row("Create", "prodex profile add NAME")
        .row("Import", "prodex profile import-current NAME")
        .row("Log in", "prodex login")
}

/// A line each, and nothing else whatever is wrong: a shell is waiting for words.
pub fn names(config: &Config, out: &mut dyn Write) -> Outcome {
    for profile in store::load(config).map(|loaded| loaded.state.profiles()).unwrap_or_default() {
        writeln!(out, "{}", profile.name)?;
    }
    Ok(0)
}

pub fn use_profile(config: &Config, name: &str, out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    load(config)?;
    let profile = store::update(config, |state| {
        let profile = profile::select(state, Some(name))?;
        state.set_active(Some(name));
        state.set_last_run_selected_at(name, clock::unix());
        Ok(profile)
    })?;
    // A choice like that of a run: what is started within a minute begins there.
    if let Ok(base) = super::base(config, None) {
        standing::pick(&Share::open(config), &profile, &base);
    }
    let auth = auth::read(&profile.codex_home);
    let panel = Panel::new("Active Profile")
        .row("Result", format!("Active profile: {}", profile.name))
        .row("CODEX_HOME", profile.codex_home.display().to_string())
        .maybe("Next", next(&profile, &auth));
    show(out, &[panel])?;
    if profile.disabled {
        warn(&format!(
            "'{name}' is disabled: without -p a run takes another profile while one is ready. \
             Take it in again with `prodex profile enable {name}`."
        ));
    }
    Ok(0)
}

/// `disable` and `enable`.
pub fn switch(config: &Config, name: &str, disabled: bool, out: &mut dyn Write) -> Outcome {
    let (profile, active) = change(config, name, |profile| profile.disabled = disabled)?;
    let done = if disabled { "Disabled" } else { "Enabled" };
    let panel = Panel::new(format!("Profile {done}"))
        .row("Result", format!("{done} profile '{name}'."))
        .row("Rotation", rotation_words(&profile));
    let next = (disabled && active).then_some("It is the active profile; choose another one with `prodex use NAME`.");
    show(out, &[panel.maybe("Next", next)])?;
    Ok(0)
}

pub fn reserve(config: &Config, name: &str, percent: u8, out: &mut dyn Write) -> Outcome {
    let (profile, _) = change(config, name, |profile| profile.reserve = percent)?;
    let result = match percent {
        0 => format!("Nothing of profile '{name}' is kept back."),
        _ => format!("{percent}% of each window of profile '{name}' is kept back."),
    };
    show(out, &[Panel::new("Profile Reserve").row("Result", result).row("Rotation", rotation_words(&profile))])?;
    Ok(0)
}

/// The profile afterwards, and whether it is the active one.
fn change(config: &Config, name: &str, change: impl FnOnce(&mut Profile)) -> Result<(Profile, bool), Error> {
    home::sweep_left_over(config);
    load(config)?;
    store::update(config, |state| {
        let mut profile = profile::select(state, Some(name))?;
        change(&mut profile);
        state.insert(&profile)?;
        Ok((profile, state.active().as_deref() == Some(name)))
    })
}

pub fn current(config: &Config, as_json: bool, out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    let state = load(config)?;
    if as_json {
        let active = state.active();
        let profile = active.as_deref().and_then(|name| state.profile(name));
        let profile =
            profile.map(|profile| json::profile(&profile, &auth::read(&profile.codex_home), active.as_deref()));
        let members = [("active_profile", json::maybe(active.as_deref())), ("profile", profile.unwrap_or(Value::Null))];
        out.write_all(json::document(members).as_bytes())?;
        return Ok(0);
    }
    let panel = Panel::new("Current Profile");
    if state.active().is_none() {
        let panel = panel.row("Status", "No active profile.");
        let panel = match state.profiles().as_slice() {
            [] => first_steps(panel),
            [only] => {
                let panel = panel.row("Only profile", only.name.as_str());
                panel.row("CODEX_HOME", only.codex_home.display().to_string())
            }
            _ => panel.row("Next", "Choose one with `prodex use NAME`."),
        };
        show(out, &[panel])?;
        return Ok(0);
    }
    let profile = profile::select(&state, None)?;
    let auth = auth::read(&profile.codex_home);
    let panel = panel
        .row("Profile", profile.name.as_str())
        .row("CODEX_HOME", profile.codex_home.display().to_string())
        .row("Managed", chart::yes(profile.managed))
        .row("Email", chart::email(&profile, &auth).unwrap_or("-"))
        .row("Auth", chart::login(&profile, &auth))
        .maybe("Rotation", chart::rotation(&profile));
    let panel = Shelf::load(config).quota(panel, &profile, &auth);
    show(out, &[panel.maybe("Next", next(&profile, &auth))])?;
    Ok(0)
}

fn rotation_words(profile: &Profile) -> String {
    chart::rotation(profile).unwrap_or_else(|| "takes part".to_owned())
}
