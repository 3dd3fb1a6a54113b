//! `login` and `logout`: codex does both, in the home of the profile. Without a profile's name codex logs in to a private
//! home that is nobody's yet, and the account decides which profile it is (spec S-30, S-31).
//! Knows no token and no endpoint.

use super::profile::add::twin;
use super::{find_codex, load, show, warn};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::auth::{self, Auth};
use crate::profile::authfile::{self, Locked};
use crate::profile::home::{self, Staged};
use crate::profile::identity::Identity;
use crate::profile::owner::owner;
use crate::profile::{self, Profile, husk, links, name, refresh};
use crate::screen::panel::Panel;
use crate::state::{State, file, store};
use crate::sys::child::{self, Program};
use crate::sys::clock;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Between two attempts at the lock of a login.
const PAUSE: Duration = Duration::from_millis(20);
/// Each round is lost only to another command that registered or removed the same account meanwhile.
const ROUNDS: usize = 5;
/// Where prodex makes the login, it is in a file, whatever config.toml or the system's configuration says.
const IN_A_FILE: &str = "cli_auth_credentials_store=\"file\"";

pub fn login(config: &Config, wanted: Option<&str>, args: &[OsString], out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    match (wanted, asked(args)) {
        (Some(wanted), asked) => {
            let profile = load(config)?.profile(wanted).ok_or_else(|| no_such(wanted))?;
            login_to(config, &profile, args, asked, out)
        }
        (None, Asked::Status) => {
            let profile = profile::select(&load(config)?, None)?;
            login_to(config, &profile, args, Asked::Status, out)
        }
        (None, Asked::ForKey) => Err(Error::usage("an API key has no e-mail that a profile could be named after")
            .next("Name the profile: `prodex profile add NAME`, then `prodex login -p NAME --with-api-key`.")),
        (None, asked) => login_by_account(config, args, asked, out),
    }
}

/// The e-mail stays known: the next login shows whether it is the same account.
pub fn logout(config: &Config, wanted: Option<&str>, _out: &mut dyn Write) -> Outcome {
    home::sweep_left_over(config);
    let state = load(config)?;
    let profile = profile::select(&state, wanted)?;
    if let Some(twin) = refresh::twin(&profile.codex_home, &profile::homes(config, &state)) {
        let name = &profile.name;
        let what = format!(
            "{} holds the same login as profile '{name}': `codex logout` revokes it at the server, for both",
            twin.display()
        );
        return Err(Error::new(what).next(format!(
            "Log in anew with `prodex login -p {name}` first, or drop this copy: `prodex profile remove {name} --delete-home`."
        )));
    }
    let code = codex(config, &profile.codex_home, "logout", profile.managed, &[])?;
    remember(config, &profile, auth::read(&profile.codex_home).email(), false);
    Ok(code)
}

/// What the arguments for `codex login` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Login,
    /// To take an API key from stdin.
    ForKey,
    /// Who is logged in.
    Status,
    Help,
}

fn asked(args: &[OsString]) -> Asked {
    let mut words = args.iter().map(|arg| arg.to_string_lossy());
    let mut asked = Asked::Login;
    while let Some(word) = words.next() {
        match word.as_ref() {
            "-c" | "--config" | "--enable" | "--disable" => drop(words.next()),
            "-h" | "--help" | "help" => return Asked::Help,
            "status" => asked = Asked::Status,
            "--with-api-key" => asked = Asked::ForKey,
            _ => {}
        }
    }
    asked
}

fn no_such(wanted: &str) -> Error {
    match name::validate(wanted) {
        Err(error) => error,
        Ok(()) => Error::new(format!("profile '{wanted}' does not exist")).next(format!(
            "Create it with `prodex profile add {wanted}`, or run `prodex login` without -p, which makes a profile for a new account."
        )),
    }
}

/// In the home of a profile, whatever the account.
fn login_to(config: &Config, profile: &Profile, args: &[OsString], asked: Asked, out: &mut dyn Write) -> Outcome {
    if profile.managed && !profile.codex_home.is_dir() && matches!(asked, Asked::Login | Asked::ForKey) {
        // Made again for the login that is to come.
        drop(lock(config, profile)?.ok_or_else(|| no_such(&profile.name))?);
        profile::ensure_links(profile, config)?;
    }
    let before = auth::read(&profile.codex_home);
    // So that nobody removes the home in which codex is about to write a login, or refreshes the old one.
    let _mark = profile::mark(&profile.codex_home);
    let code = codex(config, &profile.codex_home, "login", profile.managed, args)?;
    if code != 0 || matches!(asked, Asked::Status | Asked::Help) {
        return Ok(code);
    }
    let auth = auth::read(&profile.codex_home);
    remember(config, profile, auth.email(), true);
    let (was, is) = (Identity::of(&before, None), Identity::of(&auth, None));
    if before.tokens().is_some() && auth.tokens().is_some() && was.likeness(&is).is_none() {
        warn(&format!("profile '{}' is another account now: {}, not {}", profile.name, is.name(), was.name()));
    }
    if let Some(twin) = twin(config, profile, &auth) {
        let name = &profile.name;
        warn(&format!(
            "profile '{twin}' is this account already: the two have one quota. Log in to another account with \
             `prodex login -p {name}`: the browser offers the one that it knows."
        ));
    }
    report(out, format!("Logged in successfully for profile '{}'.", profile.name), &auth, profile)
}

/// Which profile it is depends on who logs in. Whatever fails, the private home goes, and what codex wrote there with it.
fn login_by_account(config: &Config, args: &[OsString], asked: Asked, out: &mut dyn Write) -> Outcome {
    let staged = Staged::configured(config)?;
    let code = codex(config, staged.path(), "login", true, args)?;
    if code != 0 || asked == Asked::Help {
        return Ok(code);
    }
    let auth = auth::read(staged.path());
    if auth.tokens().is_none() {
        let what = format!("codex made no ChatGPT login, so no profile was made ({})", auth.label());
        return Err(Error::new(what).next("For a login of another kind name a profile: `prodex login -p NAME`."));
    }
    let identity = Identity::of(&auth, None);
    let who = if identity.name().is_empty() { auth.label() } else { identity.name() };
    let (profile, words) = match settle(config, &identity, staged)? {
        Settled::Created(profile) => (profile, "Created"),
        Settled::Reused(profile) => (profile, "Reusing"),
    };
    report(out, format!("Logged in as {who}. {words} profile '{}'.", profile.name), &auth, &profile)
}

enum Settled {
    Created(Profile),
    Reused(Profile),
}

/// Updates the profile that has this account, or makes one.
fn settle(config: &Config, identity: &Identity, staged: Staged) -> Result<Settled, Error> {
    let path = staged.path().join("auth.json");
    let login = file::read_bounded(&path, auth::MAX_BYTES).map_err(|error| Error::io("read", &path, &error))?;
    for aside in links::link_all(staged.path(), &config.shared_codex_home)? {
        warn(&format!("moved aside: {aside}"));
    }
    let mut staged = Some(staged);
    for _ in 0..ROUNDS {
        if let Some(profile) = owner(&store::load(config)?.state, identity) {
            if update(config, &profile, identity, &login)? {
                return Ok(Settled::Reused(profile));
            }
        } else if let Some(profile) = create(config, identity, &mut staged)? {
            return Ok(Settled::Created(profile));
        }
    }
    Err(Error::new("the profiles change all the time").next("Wait for the other prodex commands, and log in again."))
}

/// The new login in the place of the old one. False when the profile was removed meanwhile; then nothing was written.
fn update(config: &Config, profile: &Profile, identity: &Identity, login: &[u8]) -> Result<bool, Error> {
    let home = &profile.codex_home;
    let Some(locked) = lock(config, profile)? else { return Ok(false) };
    for aside in profile::ensure_links(profile, config)? {
        warn(&format!("moved aside: {aside}"));
    }
    locked.recover();
    store::update(config, |state| {
        let Some(mut now) = still(state, profile) else { return Ok(false) };
        locked.replace(login).map_err(|error| Error::io("write", &home.join("auth.json"), &error))?;
        now.email = identity.email.clone().or(now.email);
        state.insert(&now)?;
        state.set_active(Some(&now.name));
        Ok(true)
    })
}

/// The lock of its login. Tried under the lock of the registry, so that the home is the profile's when we have it, and
/// `remove` waits for us; waited for without, as a codex may hold it for as long as a request takes. `None`: it was removed.
fn lock(config: &Config, profile: &Profile) -> Result<Option<Locked>, Error> {
    let home = &profile.codex_home;
    let until = clock::now() + authfile::PATIENCE;
    loop {
        let tried = store::update(config, |state| {
            if still(state, profile).is_none() {
                return Ok(None);
            }
            // A home that is gone is made again: the login is too dear to lose.
            file::create_private_dir(home).map_err(|error| store::cannot("create", home, &error))?;
            Ok(Some(Locked::take(home, clock::now())))
        })?;
        match tried {
            None => return Ok(None),
            Some(Ok(locked)) => return Ok(Some(locked)),
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock && clock::now() < until => {}
            Some(Err(error)) => return Err(authfile::not_locked(home, &error)),
        }
        std::thread::sleep(PAUSE);
    }
}

/// The entry as it is now, unless another profile has the name.
fn still(state: &State, profile: &Profile) -> Option<Profile> {
    state.profile(&profile.name).filter(|now| now.codex_home == profile.codex_home)
}

/// The private home becomes the home of a new profile, unless somebody has the account by now.
fn create(config: &Config, identity: &Identity, staged: &mut Option<Staged>) -> Result<Option<Profile>, Error> {
    let mut published = None;
    let created = store::update(config, |state| {
        if owner(state, identity).is_some() {
            return Ok(None);
        }
        let home = |name: &str| config.profiles_dir().join(name);
        let taken = |name: &str| state.has_entry(name) || !husk::is_free(&home(name));
        let name = name::first_free(&name::from_email(identity.name()), taken);
        let email = identity.email.clone();
        let profile = Profile { codex_home: home(&name), managed: true, email, name, ..Profile::default() };
        state.insert(&profile)?;
        state.set_active(Some(&profile.name));
        let Some(staged) = staged.take() else { return Ok(None) };
        staged.publish(&profile.codex_home)?;
        published = Some(profile.codex_home.clone());
        Ok(Some(profile))
    });
    if let (Err(_), Some(home)) = (&created, &published) {
        home::delete(config, home).unwrap_or_else(|error| warn(&error.to_string()));
    }
    created
}

fn report(out: &mut dyn Write, result: String, auth: &Auth, profile: &Profile) -> Outcome {
    let panel = Panel::new("Login")
        .row("Result", result)
        .row("Account", auth.email().unwrap_or(auth.label()))
        .row("Profile", profile.name.as_str())
        .row("CODEX_HOME", profile.codex_home.display().to_string());
    show(out, &[panel])?;
    if matches!(auth, Auth::Keyring { .. }) {
        warn(
            "codex keeps this login in the system's keyring, where prodex cannot use it; see cli_auth_credentials_store",
        );
    }
    Ok(0)
}

/// Runs `codex VERB` in a home on our terminal, to its end. `ours`: the login belongs into a file there.
fn codex(config: &Config, codex_home: &Path, verb: &str, ours: bool, args: &[OsString]) -> Outcome {
    if !codex_home.is_dir() {
        return Err(Error::new(format!("the CODEX_HOME {} does not exist", codex_home.display()))
            .next("Put it back, or forget the profile: `prodex profile remove NAME`."));
    }
    let mut words = vec![OsString::from(verb)];
    if ours {
        words.extend(["-c".into(), IN_A_FILE.into()]);
    }
    words.extend_from_slice(args);
    let program =
        Program { path: find_codex(config)?, args: words, env: vec![("CODEX_HOME".into(), codex_home.into())] };
    let status = child::run(&program).map_err(|error| Error::io("run", &program.path, &error))?;
    Ok(child::exit_code(status))
}

/// The login is done whatever becomes of this, so a failure is a warning.
fn remember(config: &Config, profile: &Profile, email: Option<&str>, activate: bool) {
    let updated = store::update(config, |state| {
        // It may have been removed while codex ran.
        let Some(mut now) = still(state, profile) else { return Ok(()) };
        if let Some(email) = email {
            now.email = Some(email.to_owned());
            state.insert(&now)?;
        }
        if activate {
            state.set_active(Some(&profile.name));
        }
        Ok(())
    });
    updated.unwrap_or_else(|error| warn(&error.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let rows: [(&[&str], Asked); 8] = [
            (&[], Asked::Login),
            (&["--device-auth"], Asked::Login),
            (&["status"], Asked::Status),
            (&["-c", "status", "--device-auth"], Asked::Login),
            (&["-c", "a=b", "status"], Asked::Status),
            (&["--with-api-key"], Asked::ForKey),
            (&["--device-auth", "--help"], Asked::Help),
            (&["-c"], Asked::Login),
        ];
        for (args, expected) in rows {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert_eq!(asked(&args), expected, "{args:?}");
        }
    }
}
