//! The panel of one profile, the same wherever one is shown (`profile list`, `current`, `doctor`), and the words in it.
//! Puts together what others read: the login, and what is known of the quota. Asks nobody.

use crate::config::Config;
use crate::profile::auth::Auth;
use crate::profile::{self, Profile};
use crate::quota::snapshots::{self, Snapshots};
use crate::quota::{Reading, probe, shelf};
use crate::screen::panel::{Panel, Value};
use crate::screen::{quota, time};
use crate::sys::clock;
use crate::wire::url::Url;

/// Kind, login, home and rotation, in 0.2.38's order with what it did not have behind.
pub fn of(panel: Panel, profile: &Profile, auth: &Auth) -> Panel {
    panel
        .row("Kind", profile.kind())
        .row("Auth", login(profile, auth))
        .row("Email", email(profile, auth).unwrap_or("-"))
        .row("Path", profile.codex_home.display().to_string())
        .maybe("Rotation", rotation(profile))
}

pub fn yes(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

/// The one that the login says, else the one that is remembered.
pub fn email<'a>(profile: &'a Profile, auth: &'a Auth) -> Option<&'a str> {
    email_of(profile, auth.email())
}

/// The same, where of the login no more is at hand.
pub fn email_of<'a>(profile: &'a Profile, login: Option<&'a str>) -> Option<&'a str> {
    login.or(profile.email.as_deref())
}

/// Whose login this is, as [`Snapshots`] tell accounts apart.
pub fn account(auth: &Auth, url: &Url) -> String {
    snapshots::account(auth.tokens().and_then(|tokens| tokens.account_id.as_deref()), url)
}

/// What kind of login this is, and what is wrong with it.
pub fn login(profile: &Profile, auth: &Auth) -> String {
    let label = auth.label();
    match auth {
        Auth::Keyring { .. } => {
            let name = &profile.name;
            format!(
                "{label}: prodex needs the login in a file, which `prodex login -p {name}` makes in a managed profile"
            )
        }
        _ => match profile::login_needed(&profile.codex_home) {
            Some(reason) => format!("{label}, log in again: {reason}"),
            None => label.to_owned(),
        },
    }
}

/// What to type where the login cannot be used.
pub fn next(profile: &Profile, auth: &Auth) -> Option<String> {
    let log_in = || format!("`prodex login -p {}`", profile.name);
    match auth {
        Auth::Missing => Some(format!("Log in with {}.", log_in())),
        Auth::Unreadable(_) | Auth::Invalid(_) => Some(format!("Log in again with {}.", log_in())),
        Auth::ChatGpt(_) => {
            profile::login_needed(&profile.codex_home).map(|_| format!("Log in again with {}.", log_in()))
        }
        // A keyring's next step stands with the login; the others are as their owner wants them.
        Auth::Keyring { .. } | Auth::ApiKey | Auth::Other(_) => None,
    }
}

/// How far the profile takes part; `None` where nothing was said.
pub fn rotation(profile: &Profile) -> Option<String> {
    let kept = || format!("{}% of each window kept back", profile.reserve);
    match (profile.disabled, profile.reserve) {
        (false, 0) => None,
        (false, _) => Some(kept()),
        (true, 0) => Some("disabled".to_owned()),
        (true, _) => Some(format!("disabled, {}", kept())),
    }
}

/// What the backend said of the quota, or why it said nothing. `age`: seconds, where it was not asked just now.
pub fn quota(panel: Panel, reading: Result<&Reading, &str>, age: Option<u64>) -> Panel {
    let now = clock::unix();
    let status = quota::status(reading, now, &clock::local_offset);
    let status = age.map_or_else(|| status.clone(), |age| format!("{status}; read {}", time::ago(age)));
    let windows = |reading: &Reading| Value::Items(reading.windows.iter().map(|window| window.words(now)).collect());
    panel.row("Quota", status).maybe("Main", reading.ok().map(windows))
}

/// What all runs and screens learnt of quotas, and where they are asked for.
pub struct Shelf {
    known: Snapshots,
    url: Option<Url>,
}

impl Shelf {
    pub fn load(config: &Config) -> Shelf {
        Shelf { known: shelf::load_latest(config), url: probe::usage_url(&config.base_url).ok() }
    }

    /// The same rows as `quota`, of what is known. Nothing where the login has no quota.
    pub fn quota(&self, panel: Panel, profile: &Profile, auth: &Auth) -> Panel {
        let (Some(url), Some(_)) = (&self.url, auth.tokens()) else { return panel };
        let snapshot = self.known.of(&profile.name, &account(auth, url));
        match snapshot.and_then(|snapshot| snapshot.reading.as_ref()) {
            Some(reading) => quota(panel, Ok(reading), Some(clock::unix().saturating_sub(reading.taken_at))),
            None => panel.row("Quota", format!("not read yet: `prodex quota -p {}`", profile.name)),
        }
    }
}
