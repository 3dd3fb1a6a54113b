//! How each profile stands for fresh work: what the scheduler's rule looks at, gathered in one place for the preflight, the
//! proxy and `why` alike. The rule is `quota::schedule`'s; what makes a profile unusable is known here.

use super::share::Share;
use crate::config::Config;
use crate::profile::{self, Profile, auth};
use crate::quota::schedule::{self, Candidate, Ranked};
use crate::quota::snapshots::{self, Snapshots};
use crate::quota::{Reading, span_words};
use crate::state::State;
use crate::sys::clock;
use crate::wire::url::Url;

/// Why a profile cannot be used that the user took out.
pub const DISABLED: &str = "disabled";

/// One profile, and all that a choice depends on.
#[derive(Debug, Clone)]
pub struct Standing {
    pub name: String,
    /// Whose login it is: see [`snapshots::account`].
    pub account: String,
    /// As fresh as it is worth believing.
    pub reading: Option<Reading>,
    /// Exchanges in progress over all runs; one at least for a home in which a codex runs.
    pub active: u32,
    /// Unix seconds.
    pub last_selected: Option<u64>,
    /// Kept back: percent of each window.
    pub reserve: u8,
    /// Why it cannot be used whatever its quota says.
    pub blocked: Option<String>,
}

/// What tells one account from another for other runs: a profile may be given another login, and another backend has other
/// quotas.
pub fn seat(name: &str, account_id: Option<&str>, base: &Url) -> String {
    format!("{name}\n{}\n{base}", account_id.unwrap_or_default())
}

/// The order in which profiles that are as good come: the wanted one, then by name.
pub fn order(state: &State, wanted: Option<&str>) -> Vec<Profile> {
    let mut profiles = state.profiles();
    profiles.sort_by_key(|profile| Some(profile.name.as_str()) != wanted);
    profiles
}

/// How these profiles stand now. `usage` is where their quotas are asked for.
pub fn all(
    config: &Config,
    state: &State,
    profiles: &[Profile],
    base: &Url,
    usage: &Url,
    known: &Snapshots,
) -> Vec<Standing> {
    let (share, now) = (Share::open(config), clock::unix());
    profiles.iter().map(|profile| one(profile, state, base, usage, known, &share, now)).collect()
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
    let blocked = if profile.disabled {
        Some(DISABLED.to_owned())
    } else if login.tokens().is_none() {
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
        active: share.inflight(seat).max(u32::from(in_use)),
        last_selected: state.last_run_selected_at(&profile.name),
        reserve: profile.reserve,
        blocked,
    }
}

/// By the scheduler's rule, best first. `last_pick` is the last fresh pick and its Unix time.
pub fn rank(standings: &[Standing], now: u64, last_pick: Option<(&str, u64)>) -> Vec<Ranked> {
    let candidates: Vec<Candidate<'_>> = standings
        .iter()
        .map(|standing| Candidate {
            name: &standing.name,
            reading: standing.reading.as_ref(),
            active_sessions: standing.active,
            last_selected: standing.last_selected,
            reserve: standing.reserve,
            blocked: standing.blocked.clone(),
        })
        .collect();
    schedule::rank(&candidates, now, last_pick)
}

/// Who was chosen last, and when.
pub fn last_pick(standings: &[Standing]) -> Option<(&str, u64)> {
    let picked = standings.iter().filter_map(|standing| Some((standing.last_selected?, standing.name.as_str())));
    picked.max().map(|(at, name)| (name, at))
}
