//! `profile add` and `import-current`, and how a profile comes into being for whoever makes one: home and registry entry
//! together. Decides what is allowed and says what was done; homes and links are made elsewhere.

use crate::cli;
use crate::command::{chart, load, show, warn};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::identity::Identity;
use crate::profile::{self, Profile, auth, home, husk, links, name, owner};
use crate::screen::panel::Panel;
use crate::state::{State, file, store};
use std::fs;
use std::io::{self, Write};
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
    if let Some(twin) = twin(config, &profile, &auth) {
        let name = &profile.name;
        warn(&format!(
            "profile '{twin}' is this account already: the two have one quota, and if '{name}' is a copy of that login, the \
             first of them that refreshes logs the other out. Log in to another account with `prodex login -p {name}`, or \
             undo it with `prodex profile remove {name}`."
        ));
    }
    Ok(0)
}

/// Another profile that is the same account.
pub(in crate::command) fn twin(config: &Config, profile: &Profile, auth: &auth::Auth) -> Option<String> {
    let mut others = store::load(config).ok()?.state;
    others.remove(&profile.name);
    owner::holder(&others, &Identity::of(auth, None)).map(|twin| twin.name)
}

pub fn import_current(config: &Config, name: &str, out: &mut dyn Write) -> Outcome {
    let login = auth::read(&config.default_codex_home);
    if login == auth::Auth::Missing {
        let missing = config.default_codex_home.join("auth.json");
        return Err(Error::new(format!("there is no login to import: {} does not exist", missing.display()))
            .next("Log in with `codex login` first, or begin with a login of its own: `prodex login`."));
    }
    if let auth::Auth::Keyring { auto } = login {
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

pub(in crate::command) struct Added {
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
    let is_home = || fs::symlink_metadata(&codex_home).is_ok_and(|meta| meta.is_dir()) && !husk::is_free(&codex_home);
    if is_home() {
        let profile = profile_of(&args.name, codex_home.clone(), true);
        let active = store::update(config, |state| {
            // A `remove` may have been about to delete it.
            if !is_home() {
                let next = format!("Once more: `prodex profile add {}`.", args.name);
                return Err(Error::new(format!("{} has just been deleted", codex_home.display())).next(next));
            }
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&codex_home, private).map_err(|error| Error::io("protect", &codex_home, &error))?;
            insert(state, &profile, args.activate)
        })?;
        let aside = profile::ensure_links(&profile, config)?;
        let storage = "Managed profile home found and registered again.";
        return Ok(Added { profile, active, storage, skipped: Vec::new(), aside });
    }
    let staged = home::Staged::configured(config)?;
    let profile = Profile { codex_home, ..profile_of(&args.name, staged.path().to_owned(), true) };
    publish(config, profile, args.activate, staged, "Managed profile home created.", &|_| Ok(()))
}

fn copy(config: &Config, args: &cli::ProfileAdd, source: &Path) -> Result<Added, Error> {
    let codex_home = config.profiles_dir().join(&args.name);
    if !husk::is_free(&codex_home) {
        let next = format!("Register it as it is with `prodex profile add {}`, or move it away.", args.name);
        return Err(Error::new(format!("{} exists already", codex_home.display())).next(next));
    }
    if fs::metadata(source).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let next = "Name a CODEX_HOME that is there, or begin without a copy: `prodex profile add NAME`.";
        return Err(Error::new(format!("there is nothing to copy: {} does not exist", source.display())).next(next));
    }
    let staged = home::Staged::copy_of(config, source)?;
    let profile = Profile { codex_home, ..profile_of(&args.name, staged.path().to_owned(), true) };
    publish(config, profile, args.activate, staged, "Source copied into managed profile home.", &|_| Ok(()))
}

/// Home and registry entry come into being together, or not at all; not at all also when `check` has something against it,
/// which sees the registry that nobody else can change meanwhile.
pub(in crate::command) fn publish(
    config: &Config,
    profile: Profile,
    activate: bool,
    mut staged: home::Staged,
    storage: &'static str,
    check: &dyn Fn(&State) -> Result<(), Error>,
) -> Result<Added, Error> {
    let aside = links::link_all(staged.path(), &config.shared_codex_home)?;
    let skipped = std::mem::take(&mut staged.skipped);
    let mut published = false;
    let result = store::update(config, |state| {
        check(state)?;
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

/// A refresh token works once: the copy that refreshes second is logged out.
fn one_refresh_token(source: &Path, name: &str) -> String {
    format!(
        "{source} and profile '{name}' now hold the same refresh token, which works only once: as soon as one of them \
         refreshes, the other one is logged out. From now on start codex with `prodex run`, not from {source}; or give \
         the profile a login of its own with `prodex login -p {name}`. Do not run `codex logout`: it would end both.",
        source = source.display(),
    )
}
