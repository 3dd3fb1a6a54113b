//! How each profile stands for fresh work: what the scheduler's rule looks at, gathered in one place for the preflight, the
//! proxy and `why` alike. The rule is `quota::schedule`'s; what makes a profile unusable is known here.

use super::share::Share;
use crate::profile::{self, Profile, auth};
use crate::quota::schedule::{self, Candidate, Ranked};
use crate::quota::snapshots::{self, Snapshots};
use crate::quota::{Reading, span_words};
use crate::state::State;
use crate::sys::clock;
use crate::wire::url::Url;

/// One profile, and all that a choice depends on.
#[derive(Debug, Clone)]
pub struct Standing {
    pub name: String,
    /// Whose login it is: see [`snapshots::account`].
    pub account: String,
    /// As fresh as it is worth believing.
    pub reading: Option<Reading>,
    /// Work on it over all runs; one at least for a home in which a codex runs, which need not run behind a proxy.
    pub active: u32,
    /// Unix seconds.
    pub last_selected: Option<u64>,
    /// When it was given fresh work, if it was the last one to be given any; Unix seconds.
    pub picked_at: Option<u64>,
    /// Kept back: percent of each window.
    pub reserve: u8,
    /// The user took it out.
    pub disabled: bool,
    /// Why it cannot be used whatever its quota says.
    pub blocked: Option<String>,
}

/// What tells one account from another for other runs: a profile may be given another login, and another backend has other
/// quotas.
pub fn seat(name: &str, account_id: Option<&str>, base: &Url) -> String {
    format!("{name}\n{}\n{base}", account_id.unwrap_or_default())
}

/// The order in which profiles that are as good come: the wanted one, as it was said on the command line, then by name.
pub fn order(state: &State, wanted: Option<&Profile>) -> Vec<Profile> {
    let mut profiles = state.profiles();
    if let Some(wanted) = wanted {
        profiles.retain(|profile| profile.name != wanted.name);
        profiles.insert(0, wanted.clone());
    }
    profiles
}

/// Notes that fresh work goes to that profile.
pub fn pick(share: &Share, profile: &Profile, base: &Url) {
    let login = auth::read(&profile.codex_home);
    let account_id = login.tokens().and_then(|tokens| tokens.account_id.as_deref());
    share.pick(share.seat(&seat(&profile.name, account_id, base)), clock::unix());
}

/// How these profiles stand now. `usage` is where their quotas are asked for.
pub fn all(
    share: &Share,
    state: &State,
    profiles: &[Profile],
    base: &Url,
    usage: &Url,
    known: &Snapshots,
) -> Vec<Standing> {
    let now = clock::unix();
    profiles.iter().map(|profile| one(profile, state, base, usage, known, share, now)).collect()
}

fn one(
    profile: &Profile,
    state: &State,
    base: &Url,
    usage: &Url,
    known: &Snapshots,
    share: &Share,
    now: u64,
) -> Standing {
    let login = auth::read(&profile.codex_home);
    let account_id = login.tokens().and_then(|tokens| tokens.account_id.as_deref());
    let account = snapshots::account(account_id, usage);
    let seat = share.seat(&seat(&profile.name, account_id, base));
    let marks = share.marks(seat, now);
    let until = |at: u64| span_words(at.saturating_sub(now) + 59);
    let blocked = if login.tokens().is_none() {
        Some(format!("no ChatGPT login ({})", login.label()))
    } else if profile::login_needed(&profile.codex_home).is_some() {
        Some("log in again".to_owned())
    } else if let Some(at) = marks.quota_until {
        Some(format!("out of quota for {}", until(at)))
    } else {
        marks.transport_until.map(|at| format!("not reachable; again in {}", until(at)))
    };
    let in_use = profile::in_use(&profile.codex_home).is_some();
    Standing {
        name: profile.name.clone(),
        reading: known.of(&profile.name, &account).and_then(|known| known.fresh(now, snapshots::USABLE)).cloned(),
        account,
        active: share.active(seat, now).max(u32::from(in_use)),
        last_selected: state.last_run_selected_at(&profile.name),
        picked_at: share.picked_at(seat),
        reserve: profile.reserve,
        disabled: profile.disabled,
        blocked,
    }
}

/// By the scheduler's rule, best first.
pub fn rank(standings: &[Standing], now: u64) -> Vec<Ranked> {
    let candidates: Vec<Candidate<'_>> = standings
        .iter()
        .map(|standing| Candidate {
            name: &standing.name,
            reading: standing.reading.as_ref(),
            active: standing.active,
            last_selected: standing.last_selected,
            reserve: standing.reserve,
            disabled: standing.disabled,
            blocked: standing.blocked.clone(),
        })
        .collect();
    let last_pick = standings.iter().find_map(|standing| Some((standing.name.as_str(), standing.picked_at?)));
    schedule::rank(&candidates, now, last_pick)
}
