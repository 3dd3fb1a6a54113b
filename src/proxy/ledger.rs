//! The one lock over what the run knows of its profiles: affinity, health, who is current. No I/O under it.
//! The rules are `affinity`'s, `health`'s and `select`'s; here they meet.

use super::ProfileId;
use super::affinity::{Affinity, Claims, Key};
use super::credentials::Wallet;
use super::health::{Backoff, Health, Usable};
use super::select::{self, Ask, Candidate, Decision, Snapshot};
use super::verdict::Trouble;
use crate::sys::clock;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sessions whose bounces are counted at the same time; far more than a person has.
const MAX_BOUNCING: usize = 1_024;

pub struct Ledger {
    facts: Mutex<Facts>,
}

struct Facts {
    affinity: Affinity,
    health: Vec<Health>,
    /// All profiles, best first for the scheduler.
    order: Vec<ProfileId>,
    current: ProfileId,
    /// How often a session's WebSocket was ended to make codex come back, since its last answer.
    bounces: HashMap<Box<str>, u32>,
}

impl Ledger {
    /// `profiles` in the scheduler's order.
    pub fn new(profiles: usize, current: ProfileId) -> Ledger {
        let facts = Facts {
            affinity: Affinity::default(),
            health: vec![Health::default(); profiles],
            order: (0..u16::try_from(profiles).unwrap_or(u16::MAX)).map(ProfileId).collect(),
            current,
            bounces: HashMap::new(),
        };
        Ledger { facts: Mutex::new(facts) }
    }

    /// What a request's claims mean for selection. `by_session`: the session decides like an owner does (unary routes of
    /// older codex); else it is a preference. A known owner may be left when the request carries its full input, that
    /// is, when it names no previous response.
    pub fn ask(&self, claims: &Claims<'_>, by_session: bool) -> Ask {
        let facts = self.lock();
        let owner = |key| facts.affinity.owner(key);
        let session = claims.session.and_then(|id| owner(Key::Session(id)));
        let response = claims.previous_response.as_deref().and_then(|id| owner(Key::Response(id)));
        let turn_state = claims.turn_state.and_then(|id| owner(Key::TurnState(id)));
        // Codex repeats its first turn state to the end of the turn (`wire.md` 4). Where the session was served elsewhere
        // since, the turn has moved, and does not go back to who refused it.
        let turn_state = turn_state.filter(|issuer| session.is_none_or(|last| last == *issuer));
        Ask {
            owner: response.or(turn_state).or(session.filter(|_| by_session)),
            movable: claims.previous_response.is_none(),
            session,
            tried: Vec::new(),
        }
    }

    pub fn select(&self, ask: &Ask, wallet: &Wallet) -> Decision {
        select::select(&self.snapshot(wallet), ask)
    }

    /// Whether somebody else could serve this now: not just a last resort.
    pub fn has_alternative(&self, ask: &Ask, than: ProfileId, wallet: &Wallet) -> bool {
        self.snapshot(wallet).candidates.iter().any(|candidate| {
            candidate.id != than && candidate.usable == Usable::Yes && !ask.tried.contains(&candidate.id)
        })
    }

    fn snapshot(&self, wallet: &Wallet) -> Snapshot {
        // Reading a credential is I/O: done for the few refused ones, outside the lock.
        let (current, order, health) = {
            let facts = self.lock();
            (facts.current, facts.order.clone(), facts.health.clone())
        };
        let now = clock::now();
        let candidates =
            order.into_iter().filter_map(|id| Some((id, health.get(usize::from(id.0))?))).map(|(id, health)| {
                let token = if health.was_refused() { wallet.fingerprint(id) } else { 0 };
                Candidate { id, usable: health.usable(token, now), penalty: 0, inflight: 0 }
            });
        Snapshot { current, candidates: candidates.collect() }
    }

    /// Best first; profiles that are left out keep their place behind.
    pub fn set_order(&self, order: Vec<ProfileId>) {
        let mut facts = self.lock();
        let mut all = order;
        let behind: Vec<ProfileId> = facts.order.iter().filter(|id| !all.contains(id)).copied().collect();
        all.extend(behind);
        facts.order = all;
    }

    /// Remembers that `id` did not serve, with the credential of that fingerprint.
    pub fn record(&self, id: ProfileId, trouble: &Trouble, token: u64) -> Option<Backoff> {
        let (now, unix) = (clock::now(), clock::unix());
        let mut facts = self.lock();
        facts.health.get_mut(usize::from(id.0)).map(|health| health.record(trouble, token, now, unix))
    }

    /// That very token of `id` was refused before.
    pub fn refused(&self, id: ProfileId, token: u64) -> bool {
        self.lock().health.get(usize::from(id.0)).is_some_and(|health| health.refused(token))
    }

    /// The model answered: backoffs of `id` are over.
    pub fn succeed(&self, id: ProfileId, session: Option<&str>) {
        let mut facts = self.lock();
        if let Some(health) = facts.health.get_mut(usize::from(id.0)) {
            health.succeed(super::route::Lane::Responses);
        }
        if let Some(session) = session {
            facts.bounces.remove(session);
        }
    }

    /// An answer of `id` goes to codex: it is current from here on. Gives the one before when that was another.
    pub fn commit(&self, id: ProfileId, session: Option<&str>) -> Option<ProfileId> {
        let mut facts = self.lock();
        if let Some(session) = session {
            facts.affinity.learn(Key::Session(session), id);
        }
        let before = std::mem::replace(&mut facts.current, id);
        (before != id).then_some(before)
    }

    pub fn learn(&self, key: Key<'_>, id: ProfileId) -> bool {
        self.lock().affinity.learn(key, id)
    }

    pub fn owner(&self, key: Key<'_>) -> Option<ProfileId> {
        self.lock().affinity.owner(key)
    }

    pub fn current(&self) -> ProfileId {
        self.lock().current
    }

    /// Counts one more bounce of `session`; false when it had `limit` of them since its last answer.
    pub fn bounce(&self, session: &str, limit: u32) -> bool {
        let mut facts = self.lock();
        if facts.bounces.len() >= MAX_BOUNCING && !facts.bounces.contains_key(session) {
            facts.bounces.clear();
        }
        let count = facts.bounces.entry(session.into()).or_default();
        *count += 1;
        *count <= limit
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
