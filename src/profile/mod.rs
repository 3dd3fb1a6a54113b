//! A profile: a name for one `CODEX_HOME`. Which one is meant when nobody says so.
//! The list of profiles is `state`'s; what is in a home is `auth`'s, `home`'s and `links`'s;
//! a login is changed by `refresh` and through `authfile` only.

pub mod auth;
pub mod authfile;
pub mod bundle;
pub mod copy;
pub mod home;
pub mod husk;
pub mod identity;
pub mod in_use;
pub mod links;
pub mod name;
pub mod owner;
pub mod pack;
pub mod provider;
pub mod refresh;
pub mod refusal;
pub mod rollout;
pub mod shared;
pub mod threads;

pub use in_use::{InUse, in_use, mark};
pub use links::ensure_links;
pub use refusal::login_needed;

use crate::config::Config;
use crate::error::Error;
use crate::state::State;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Valid by `name::validate`.
    pub name: String,
    /// Absolute.
    pub codex_home: PathBuf,
    /// Ours, under `<root>/profiles`, with links to the shared history; else the user's own `CODEX_HOME`.
    pub managed: bool,
    /// As of the last login that we saw; not cleaned, not for the terminal as it is.
    pub email: Option<String>,
    /// Out of rotation: works only where it is named.
    pub disabled: bool,
    /// Kept back: fresh work leaves this many percent of each window. Below 100.
    pub reserve: u8,
}

impl Profile {
    /// `managed`, `external`: for people and documents.
    pub fn kind(&self) -> &'static str {
        if self.managed { "managed" } else { "external" }
    }
}

/// The profile that a command is about: the wanted one, else the active one, else the only one.
pub fn select(state: &State, wanted: Option<&str>) -> Result<Profile, Error> {
    if let Some(name) = wanted {
        return state.profile(name).ok_or_else(|| unknown(name));
    }
    let mut profiles = state.profiles();
    if let Some(active) = state.active() {
        return profiles.into_iter().find(|profile| profile.name == active).ok_or_else(|| {
            Error::new(format!("active profile '{active}' no longer exists")).next("Choose one with `prodex use NAME`.")
        });
    }
    match (profiles.pop(), profiles.first()) {
        (Some(only), None) => Ok(only),
        (Some(last), Some(_)) => {
            let next =
                format!("Choose one with `prodex use NAME`, e.g. `prodex use {}`, or pass `-p NAME`.", last.name);
            Err(Error::new("no active profile selected").next(next))
        }
        (None, _) => Err(none()),
    }
}

/// Where logins may lie: codex's own home, and those of all profiles.
pub fn homes(config: &Config, state: &State) -> Vec<PathBuf> {
    let homes = state.profiles().into_iter().map(|profile| profile.codex_home);
    [config.default_codex_home.clone()].into_iter().chain(homes).collect()
}

/// A new user's first step.
pub fn none() -> Error {
    Error::new("there is no profile yet")
        .next("Copy your present login with `prodex profile import-current main`, or log in with `prodex login`.")
}

/// No profile of this name.
pub fn unknown(name: &str) -> Error {
    Error::new(format!("profile '{name}' does not exist")).next("See `prodex profile list`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_then_active_then_the_only_one() {
        let mut state = State::default();
        let text = |result: Result<Profile, Error>| match result {
            Ok(profile) => profile.name,
            Err(error) => error.to_string(),
        };
        assert!(text(select(&state, None)).contains("`prodex profile import-current main`"));
        let profile = |name: &str| Profile {
            name: name.into(),
            codex_home: format!("/h/{name}").into(),
            managed: true,
            ..Profile::default()
        };
        state.insert(&profile("a")).unwrap();
        assert_eq!(text(select(&state, None)), "a");
        state.insert(&profile("b")).unwrap();
        assert!(text(select(&state, None)).contains("`prodex use NAME`"));
        assert_eq!(text(select(&state, Some("b"))), "b");
        assert!(text(select(&state, Some("c"))).starts_with("profile 'c' does not exist"));
        state.set_active(Some("b"));
        assert_eq!(text(select(&state, None)), "b");
        assert_eq!(text(select(&state, Some("a"))), "a");
        state.remove("b");
        assert!(text(select(&state, None)).starts_with("active profile 'b' no longer exists"));
    }
}
