//! `profile add | import-current | list | remove | use | disable | enable | reserve`, `use` and `current`.
//! Decides what is allowed and says what was done; homes, links and the file are made elsewhere.

use super::chart::{self, Shelf};
use super::{json, load, show, warn};
use crate::cli;
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::{self, Profile, auth, home, husk, links, name};
use crate::proxy::share::Share;
use crate::proxy::{bindings, standing};
use crate::quota::shelf;
use crate::screen::panel::Panel;
use crate::state::{State, file, store};
use crate::sys::clock;
use crate::wire::value::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

pub fn add(config: &Config, args: &cli::ProfileAdd, out: &mut dyn Write) -> Outcome {
    name::validate_new(&args.name)?;
    refuse_taken(&load(config)?, &args.name)?;
    let source = match (&args.copy_from, args.copy_current) {
        (Some(path), _) => Some(PathBuf::from(path)),
        (None, true) => Some(config.default_codex_home.clone()),
        (None, false) => None,
    };
    let added = match (&args.codex_home, &source) {
        (Some(path), _) => register(config, args, Path::new(path))?,
        (None, Some(source)) => copy(config, args, source)?,
        (None, None) => create(config, args)?,
    };
    let Added { profile, active, storage, skipped, aside } = added;
    let auth = auth::read(&profile.codex_home);
    let mut panel = Panel::new("Profile Added")
        .row("Result", format!("Added profile '{}'.", profile.name))
        .row("Profile", profile.name.as_str())
        .row("CODEX_HOME", profile.codex_home.display().to_string())
        .row("Storage", storage)
        .row("Active", active.as_deref().unwrap_or("none"));
    for skipped in skipped {
        panel = panel.row("Not copied", skipped);
    }
    for aside in aside {
        panel = panel.row("Moved aside", aside);
    }
    let note = source.filter(|_| auth.tokens().is_some()).map(|source| one_refresh_token(&source, &profile.name));
    show(out, &[panel.maybe("Note", note).maybe("Next", chart::next(&profile, &auth))])?;
    Ok(0)
}

pub fn import_current(config: &Config, name: &str, out: &mut dyn Write) -> Outcome {
    if !config.default_codex_home.is_dir() {
        let what = format!("there is no login to import: {} does not exist", config.default_codex_home.display());
        return Err(Error::new(what).next("Log in with `codex login` first."));
    }
    if let auth::Auth::Keyring { auto } = auth::read(&config.default_codex_home) {
        let home = config.default_codex_home.display();
        let (place, setting) = if auto { ("may be", "auto") } else { ("is", "keyring") };
        let what = format!(
            "there is no login to copy: that of {home} {place} in the system's keyring \
             (cli_auth_credentials_store = \"{setting}\" in its config.toml)"
        );
        return Err(Error::new(what).next("Log in once more with `prodex login`: it keeps the login in a file."));
    }
    let name = name.to_owned();
    add(config, &cli::ProfileAdd { name, copy_current: true, activate: true, ..cli::ProfileAdd::default() }, out)
}

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
        panels.push(panel.maybe("Next", chart::next(&profile, &auth)));
    }
    show(out, &panels)?;
    Ok(0)
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

pub fn remove(config: &Config, name: &str, delete_home: bool, out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    load(config)?;
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
    let husk = match (&removed, deletable) {
        (Some(profile), true) => home::retire(config, &profile.codex_home)?,
        _ => false,
    };
    // Without it a later profile of this name would be taken for the owner of the old one's chains.
    if let Err(error) = bindings::forget(config, name) {
        warn(&format!("what was bound to '{name}' is not forgotten: {error}"));
    }
    // Void by itself once another account has the name; this is tidiness.
    let _ = shelf::update(config, |known| known.forget(name));
    let path = removed.map(|profile| profile.codex_home.display().to_string()).unwrap_or_default();
    let deleted = match (delete_home, deletable) {
        (true, true) if husk => format!("Yes, but for its links to the history: threads lead through them ({path})"),
        (true, true) => format!("Yes ({path})"),
        (true, false) => "No (it did not exist)".to_owned(),
        (false, _) => format!("No (kept: {path})"),
    };
    let panel = Panel::new("Profile Removed")
        .row("Result", format!("Removed profile '{name}'."))
        .row("Deleted home", deleted)
        .row("Active", active.as_deref().unwrap_or("cleared"));
    show(out, &[panel])?;
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
        .maybe("Next", chart::next(&profile, &auth));
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
    show(out, &[panel.maybe("Next", chart::next(&profile, &auth))])?;
    Ok(0)
}

pub(super) struct Added {
    pub profile: Profile,
    pub active: Option<String>,
    storage: &'static str,
    skipped: Vec<String>,
    aside: Vec<String>,
}

/// An external profile: the home stays the user's, gets no links and is never deleted.
fn register(config: &Config, args: &cli::ProfileAdd, path: &Path) -> Result<Added, Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::usage("--codex-home needs a path"));
    }
    let absolute = std::path::absolute(path).map_err(|error| Error::io("resolve", path, &error))?;
    let existed = absolute.is_dir();
    file::create_private_dir(&absolute).map_err(|error| Error::io("create", &absolute, &error))?;
    // The user's own spelling, unless it leads through a parent: that is only right from here.
    let codex_home = if absolute.components().any(|part| part == Component::ParentDir) {
        absolute.canonicalize().map_err(|error| Error::io("resolve", &absolute, &error))?
    } else {
        absolute
    };
    let profile = profile_of(&args.name, codex_home, false);
    let active = store::update(config, |state| insert(state, &profile, args.activate))?;
    let storage = if existed { "Existing CODEX_HOME registered." } else { "New CODEX_HOME created and registered." };
    Ok(Added { profile, active, storage, skipped: Vec::new(), aside: Vec::new() })
}

/// A managed profile with an empty home, or with the one that `remove` (or a crash) left under its name.
fn create(config: &Config, args: &cli::ProfileAdd) -> Result<Added, Error> {
    let codex_home = config.profiles_dir().join(&args.name);
    if fs::symlink_metadata(&codex_home).is_ok_and(|meta| meta.is_dir()) && !husk::is_free(&codex_home) {
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&codex_home, private).map_err(|error| Error::io("protect", &codex_home, &error))?;
        let profile = profile_of(&args.name, codex_home, true);
        let active = store::update(config, |state| insert(state, &profile, args.activate))?;
        let aside = profile::ensure_links(&profile, config)?;
        let storage = "Managed profile home found and registered again.";
        return Ok(Added { profile, active, storage, skipped: Vec::new(), aside });
    }
    let staged = home::Staged::configured(config)?;
    let profile = Profile { codex_home, ..profile_of(&args.name, staged.path().to_owned(), true) };
    publish(config, profile, args.activate, staged, "Managed profile home created.")
}

fn copy(config: &Config, args: &cli::ProfileAdd, source: &Path) -> Result<Added, Error> {
    let codex_home = config.profiles_dir().join(&args.name);
    if !husk::is_free(&codex_home) {
        let next = format!("Register it as it is with `prodex profile add {}`, or move it away.", args.name);
        return Err(Error::new(format!("{} exists already", codex_home.display())).next(next));
    }
    let staged = home::Staged::copy_of(config, source)?;
    let profile = Profile { codex_home, ..profile_of(&args.name, staged.path().to_owned(), true) };
    publish(config, profile, args.activate, staged, "Source copied into managed profile home.")
}

/// Home and registry entry come into being together, or not at all.
pub(super) fn publish(
    config: &Config,
    profile: Profile,
    activate: bool,
    mut staged: home::Staged,
    storage: &'static str,
) -> Result<Added, Error> {
    let aside = links::link_all(staged.path(), &config.shared_codex_home)?;
    let skipped = std::mem::take(&mut staged.skipped);
    let mut published = false;
    let result = store::update(config, |state| {
        let active = insert(state, &profile, activate)?;
        staged.publish(&profile.codex_home)?;
        published = true;
        Ok(active)
    });
    if result.is_err() && published {
        home::delete(config, &profile.codex_home).unwrap_or_else(|error| warn(&error.to_string()));
    }
    Ok(Added { profile, active: result?, storage, skipped, aside })
}

/// The active profile afterwards.
fn insert(state: &mut State, profile: &Profile, activate: bool) -> Result<Option<String>, Error> {
    refuse_taken(state, &profile.name)?;
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = place(&profile.codex_home);
    if let Some(user) = state.profiles().iter().find(|known| place(&known.codex_home) == here) {
        let what = format!("path {} is already used by profile '{}'", profile.codex_home.display(), user.name);
        return Err(Error::new(what));
    }
    let first = state.profiles().is_empty();
    state.insert(profile)?;
    if activate || first {
        state.set_active(Some(&profile.name));
    }
    Ok(state.active())
}

fn refuse_taken(state: &State, name: &str) -> Result<(), Error> {
    if state.has_entry(name) {
        let next = format!("Choose another name, or see `prodex profile remove {name}`.");
        return Err(Error::new(format!("profile '{name}' already exists")).next(next));
    }
    Ok(())
}

fn profile_of(name: &str, codex_home: PathBuf, managed: bool) -> Profile {
    let email = auth::read(&codex_home).email().map(ToOwned::to_owned);
    Profile { name: name.to_owned(), codex_home, managed, email, ..Profile::default() }
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
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = place(&profile.codex_home);
    let others = state.profiles();
    match others.iter().find(|other| other.name != name && place(&other.codex_home).starts_with(&here)) {
        Some(other) => {
            let what = format!("{} is also the home of profile '{}'", profile.codex_home.display(), other.name);
            Err(Error::new(what).next(format!("Run `prodex profile remove {name}` without --delete-home.")))
        }
        None => Ok(true),
    }
}

fn rotation_words(profile: &Profile) -> String {
    chart::rotation(profile).unwrap_or_else(|| "takes part".to_owned())
}

/// A refresh token works once: the copy that refreshes second is logged out.
fn one_refresh_token(source: &Path, name: &str) -> String {
    format!(
        "{source} and profile '{name}' now hold the same refresh token, which works only once: as soon as one of them \
         refreshes, the other one is logged out. From now on start codex with `prodex run`, not from {source}; or give \
         the profile a login of its own with `prodex login -p {name}`. Do not run `codex logout`: it would end both.",
        source = source.display(),
    )
}
