//! Bindings that outlive their process: which response, session and turn state belongs to which profile (spec S-22), in
//! `bindings.log`, to which every process of the user appends, and in the maps that 0.2.38 keeps in `state.json`.
//! Knows profiles by name and no request; what a binding means is `affinity`'s.
//!
//! Losing a binding costs one search over the profiles, so nothing here may cost a request anything, and nothing is
//! synced to the disk for a single one: what was written survives the death of the process, and only a machine that
//! loses power may lose the last seconds.

mod line;
mod log;
mod recorder;

pub use recorder::Recorder;

use super::affinity::{Key, MAX_ID, MAX_RESPONSES, MAX_SESSIONS, MAX_TURN_STATES};
use crate::config::Config;
use crate::error::Error;
use crate::state::bindings::{Map, Owned};
use crate::state::{State, store};
use crate::sys::clock;
use log::When;
use std::collections::HashSet;
use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Response,
    Session,
    TurnState,
}

impl Kind {
    pub fn key(self, id: &str) -> Key<'_> {
        match self {
            Kind::Response => Key::Response(id),
            Kind::Session => Key::Session(id),
            Kind::TurnState => Key::TurnState(id),
        }
    }

    fn limit(self) -> usize {
        match self {
            Kind::Response => MAX_RESPONSES,
            Kind::Session => MAX_SESSIONS,
            Kind::TurnState => MAX_TURN_STATES,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub kind: Kind,
    pub id: String,
    pub profile: String,
    /// Unix seconds; never in the future.
    pub bound_at: u64,
}

#[derive(Debug, Default)]
pub struct Read {
    /// Oldest first, one for each id. Their profiles need not exist any more.
    pub bindings: Vec<Binding>,
    /// What could not be read, for the log.
    pub problems: Vec<String>,
}

/// What is known to this moment. Never fails: what cannot be read is not known.
pub fn read(config: &Config) -> Read {
    let now = clock::unix();
    let mut problems = Vec::new();
    let legacy = match store::load(config) {
        Ok(loaded) => of_state(&loaded.state, now),
        Err(error) => {
            problems.push(error.to_string());
            Vec::new()
        }
    };
    let path = log::path(config);
    let bytes = log::tail(&path).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            problems.push(Error::io("read", &path, &error).to_string());
        }
        Vec::new()
    });
    let scan = log::scan(&bytes);
    if scan.unreadable > 0 {
        problems.push(format!("{}: {} lines cannot be read and are ignored", path.display(), scan.unreadable));
    }
    let logged = scan.kept.iter().filter_map(|kept| {
        let entry = kept.entry.as_ref()?;
        let (id, profile) = (line::decode_id(entry.id)?, entry.profile.to_owned());
        Some(Binding { kind: entry.kind, id, profile, bound_at: entry.bound_at.min(now) })
    });
    // The log alone holds each id once already.
    let bindings = if legacy.is_empty() { logged.collect() } else { newest(merge(legacy, logged.collect())) };
    Read { bindings, problems }
}

/// 0.2.38 continues what we began: its maps take in `bindings`, in one rewrite, to be done at the end of a run. A home
/// whose maps are empty has never served a proxy of 0.2.38, and stays as small as it is: every change of `state.json`
/// rewrites it whole, and full maps make 2.3 MB of it.
pub fn write_back(config: &Config, bindings: &[Binding]) -> Result<(), Error> {
    if bindings.is_empty() || !store::load(config)?.state.has_bindings() {
        return Ok(());
    }
    store::update(config, |state| {
        let known: HashSet<String> = state.profiles().into_iter().map(|profile| profile.name).collect();
        for (kind, map) in [(Kind::Response, Map::Responses), (Kind::Session, Map::Sessions)] {
            // A profile that is gone has no bindings there.
            let ours = bindings.iter().filter(|binding| binding.kind == kind && known.contains(&binding.profile));
            let owned = ours.map(|b| Owned { id: &b.id, profile: &b.profile, bound_at: b.bound_at });
            state.bind(map, owned, kind.limit());
        }
        Ok(())
    })
}

/// A profile was removed: a later one of the same name is another account, to which none of this belongs.
pub fn forget(config: &Config, profile: &str) -> io::Result<()> {
    log::compact(config, When::Now, |owner| owner != profile).map(drop)
}

fn of_state(state: &State, now: u64) -> Vec<Binding> {
    let of = |kind, map| {
        let whole = state.bindings(map).filter(|owned| !owned.id.is_empty() && owned.id.len() <= MAX_ID);
        let binding = move |owned: Owned<'_>| Binding {
            kind,
            id: owned.id.to_owned(),
            profile: owned.profile.to_owned(),
            bound_at: owned.bound_at.min(now),
        };
        whole.map(binding).collect::<Vec<_>>()
    };
    let mut all = of(Kind::Response, Map::Responses);
    all.append(&mut of(Kind::Session, Map::Sessions));
    all.sort_unstable_by_key(|binding| binding.bound_at);
    all
}

/// One sequence, by time between the two; within the log the order of its lines stands, whatever the clock did meanwhile.
fn merge(legacy: Vec<Binding>, logged: Vec<Binding>) -> Vec<Binding> {
    let mut all = Vec::with_capacity(legacy.len() + logged.len());
    let mut legacy = legacy.into_iter().peekable();
    for binding in logged {
        while let Some(older) = legacy.next_if(|older| older.bound_at <= binding.bound_at) {
            all.push(older);
        }
        all.push(binding);
    }
    all.extend(legacy);
    all
}

/// The last of each id, within the bounds, order kept.
fn newest(all: Vec<Binding>) -> Vec<Binding> {
    let mut seen: HashSet<(Kind, &str)> = HashSet::with_capacity(all.len());
    let mut room = [Kind::Response, Kind::Session, Kind::TurnState].map(|kind| (kind, kind.limit()));
    let mut keep: Vec<bool> = all
        .iter()
        .rev()
        .map(|binding| {
            let Some((_, room)) = room.iter_mut().find(|(kind, _)| *kind == binding.kind) else { return false };
            let kept = *room > 0 && seen.insert((binding.kind, &binding.id));
            *room -= usize::from(kept);
            kept
        })
        .collect();
    all.into_iter().filter(|_| keep.pop().unwrap_or(false)).collect()
}

#[cfg(test)]
mod tests;
