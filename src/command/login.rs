//! `login` and `logout`: codex does both, in the home of the profile. Afterwards the registry learns whose login it is.
//! Knows no token and no endpoint.

use super::{find_codex, load, rows, warn};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::{self, Profile, auth};
use crate::state::store;
use crate::sys::child::{self, Program};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

pub fn login(config: &Config, wanted: Option<&str>, args: &[OsString], out: &mut dyn Write) -> Outcome {
    let Some(wanted) = wanted else {
        return Err(Error::usage("login needs a profile").next("Name one: `prodex login -p NAME`."));
    };
    let profile = profile::select(&load(config)?, Some(wanted))?;
    let code = codex(config, &profile.codex_home, &[&["login".into()], args].concat())?;
    let asked_only = args.first().is_some_and(|arg| arg == "status");
    if code != 0 || asked_only {
        return Ok(code);
    }
    let auth = auth::read(&profile.codex_home);
    remember(config, &profile, auth.email(), true);
    rows(
        out,
        &[
            ("Result", format!("Logged in successfully for profile '{}'.", profile.name)),
            ("Account", auth.email().unwrap_or(auth.label()).to_owned()),
            ("Profile", profile.name.clone()),
            ("CODEX_HOME", profile.codex_home.display().to_string()),
        ],
    )?;
    Ok(code)
}

/// The e-mail stays known: the next login shows whether it is the same account.
pub fn logout(config: &Config, wanted: Option<&str>, _out: &mut dyn Write) -> Outcome {
    let profile = profile::select(&load(config)?, wanted)?;
    let code = codex(config, &profile.codex_home, &["logout".into()])?;
    remember(config, &profile, auth::read(&profile.codex_home).email(), false);
    Ok(code)
}

/// Runs codex in a home on our terminal, to its end.
fn codex(config: &Config, codex_home: &Path, args: &[OsString]) -> Outcome {
    if !codex_home.is_dir() {
        return Err(Error::new(format!("the CODEX_HOME {} does not exist", codex_home.display())));
    }
    let program =
        Program { path: find_codex(config)?, args: args.to_vec(), env: vec![("CODEX_HOME".into(), codex_home.into())] };
    let status = child::run(&program).map_err(|error| Error::io("run", &program.path, &error))?;
    Ok(child::exit_code(status))
}

/// The login is done whatever becomes of this, so a failure is a warning.
fn remember(config: &Config, profile: &Profile, email: Option<&str>, activate: bool) {
    let updated = store::update(config, |state| {
        // It may have been removed while codex ran.
        let Some(mut now) = state.profile(&profile.name) else { return Ok(()) };
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
