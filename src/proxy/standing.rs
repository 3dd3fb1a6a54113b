//! How each profile stands for fresh work: what the scheduler's rule looks at, gathered in one place for the preflight and
//! `why` alike. The rule is `quota::schedule`'s; what makes a profile unusable before a run is known here. Inside a run that is
//! the `ledger`'s, and the `scout` only keeps what orders the rest.

use super::share::Share;
use crate::profile::{self, Profile, auth};
use crate::quota::schedule::{self, Candidate, Ranked};
use crate::quota::snapshots::{self, Snapshots};
use crate::quota::{Readiness, Reading, span_words};
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
    /// An answer said that it is out of quota: when, and until when it is believed.
    pub out: Option<Out>,
}

/// Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    pub at: u64,
    pub until: u64,
}

impl Standing {
    /// A usage call was answered: the login works, and the backend is there.
    pub fn answered(&mut self, reading: &Reading) {
        self.reading = Some(reading.clone());
        self.blocked = None;
    }

    fn refused(&self, now: u64) -> Option<String> {
        let stands = |out: &Out| !self.reading.as_ref().is_some_and(|reading| ends_refusal(reading, out.at, now));
        let out = self.out.filter(stands).map(|out| format!("out of quota for {}", minutes_until(out.until, now)));
        self.blocked.clone().or(out)
    }
}

/// A usage call that says ready ends a refusal that is older than it by this: what is counted comes later than what is
/// refused. The user may have paid for more since. Seconds.
const COUNTING: u64 = 60;

/// Whether `reading` ends what an answer said at `refused_at`.
pub fn ends_refusal(reading: &Reading, refused_at: u64, now: u64) -> bool {
    reading.taken_at >= refused_at.saturating_add(COUNTING) && reading.readiness(now) == Readiness::Ready
}

fn minutes_until(at: u64, now: u64) -> String {
    span_words(at.saturating_sub(now) + 59)
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
    let blocked = if login.tokens().is_none() {
        Some(format!("no ChatGPT login ({})", login.label()))
    } else if profile::login_needed(&profile.codex_home).is_some() {
        Some("log in again".to_owned())
    } else {
        marks.transport_until.map(|at| format!("not reachable; again in {}", minutes_until(at, now)))
    };
    let out = marks.quota_until.map(|until| Out { at: share.quota_marked_at(seat), until });
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
        out,
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
            blocked: standing.refused(now),
        })
        .collect();
    let last_pick = standings.iter().find_map(|standing| Some((standing.name.as_str(), standing.picked_at?)));
    schedule::rank(&candidates, now, last_pick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Window;

    #[test]
    fn a_refusal_stands_until_a_later_count_says_ready() {
        let now = 1_000_000;
        let reading = |used, taken_at| {
            let windows = vec![Window { length: 18_000, used_percent: Some(used), resets_at: Some(now + 9_000) }];
            Some(Reading { windows, taken_at, ..Reading::default() })
        };
        let out = Some(Out { at: now - 100, until: now + 120 });
        let table = [
            ("nothing is known", None, out, false),
            ("counted before it was refused", reading(10.0, now - 200), out, false),
            ("counted just after", reading(10.0, now - 41), out, false),
            ("counted a minute later", reading(10.0, now - 40), out, true),
            ("counted later, and out as well", reading(100.0, now), out, false),
            ("never refused", reading(10.0, now - 200), None, true),
        ];
        for (name, reading, out, eligible) in table {
            let standing = Standing {
                name: "a".to_owned(),
                account: String::new(),
                reading,
                active: 0,
                last_selected: None,
                picked_at: None,
                reserve: 0,
                disabled: false,
                blocked: None,
                out,
            };
            let ranked = rank(&[standing], now);
            assert_eq!(ranked[0].eligible, eligible, "{name}: {}", ranked[0].numbers);
        }
    }
}
