//! The one lock over what the run knows of its profiles: affinity, health, who is current. No I/O under it.
//! The rules are `affinity`'s, `health`'s and `select`'s; here they meet.

use super::ProfileId;
use super::affinity::{Affinity, Claims, Key};
use super::credentials::Wallet;
use super::health::{Backoff, Health, Usable};
use super::route::Lane;
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
    /// Exchanges in progress.
    inflight: Vec<u32>,
    /// How often a session's WebSocket was ended to make codex come back, since its last answer.
    bounces: HashMap<Box<str>, u32>,
}

/// What the record of a trouble amounts to, for the log.
pub struct Recorded {
    pub backoff: Option<Backoff>,
    /// Points added, and the sum.
    pub penalty: Option<(u32, u32)>,
}

/// An exchange in progress.
#[must_use]
pub struct InFlight<'a> {
    ledger: &'a Ledger,
    id: ProfileId,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.ledger.lock().inflight.get_mut(usize::from(self.id.0)) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Ledger {
    /// `profiles` in the scheduler's order.
    pub fn new(profiles: usize, current: ProfileId) -> Ledger {
        let facts = Facts {
            affinity: Affinity::default(),
            health: vec![Health::default(); profiles],
            order: (0..u16::try_from(profiles).unwrap_or(u16::MAX)).map(ProfileId).collect(),
            current,
            inflight: vec![0; profiles],
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
        let turn_state = claims.turn_state.and_then(|id| owner(Key::Turn(id)));
        Ask {
            owner: response.or(turn_state).or(session.filter(|_| by_session)),
            movable: claims.previous_response.is_none(),
            session,
            tried: Vec::new(),
        }
    }

    /// `lane` is whose penalties count.
    pub fn select(&self, ask: &Ask, lane: Lane, wallet: &Wallet) -> Decision {
        select::select(&self.snapshot(lane, wallet), ask)
    }

    /// Whether somebody else could serve this now: not just a last resort.
    pub fn has_alternative(&self, ask: &Ask, than: ProfileId, wallet: &Wallet) -> bool {
        self.snapshot(Lane::Standard, wallet).candidates.iter().any(|candidate| {
            candidate.id != than && candidate.usable == Usable::Yes && !ask.tried.contains(&candidate.id)
        })
    }

    fn snapshot(&self, lane: Lane, wallet: &Wallet) -> Snapshot {
        // Reading a credential is I/O: done for the few refused ones, outside the lock.
        let (current, order, health, inflight) = {
            let facts = self.lock();
            (facts.current, facts.order.clone(), facts.health.clone(), facts.inflight.clone())
        };
        let now = clock::now();
        let candidates =
            order.into_iter().filter_map(|id| Some((id, health.get(usize::from(id.0))?))).map(|(id, health)| {
                let token = if health.was_refused() { wallet.fingerprint(id) } else { 0 };
                Candidate {
                    id,
                    usable: health.usable(token, now),
                    penalty: health.penalty(lane, now),
                    inflight: inflight.get(usize::from(id.0)).copied().unwrap_or(0),
                }
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
    pub fn record(&self, id: ProfileId, trouble: &Trouble, lane: Lane, token: u64) -> Option<Recorded> {
        let (now, unix) = (clock::now(), clock::unix());
        let mut facts = self.lock();
        let health = facts.health.get_mut(usize::from(id.0))?;
        let penalty = health.penalise(trouble, lane, now);
        Some(Recorded { backoff: health.record(trouble, token, now, unix), penalty })
    }

    /// One more exchange in progress on `id`, until the guard is dropped.
    pub fn enter(&self, id: ProfileId) -> InFlight<'_> {
        if let Some(count) = self.lock().inflight.get_mut(usize::from(id.0)) {
            *count += 1;
        }
        InFlight { ledger: self, id }
    }

    pub fn inflight(&self, id: ProfileId) -> u32 {
        self.lock().inflight.get(usize::from(id.0)).copied().unwrap_or(0)
    }

    /// That very token of `id` was refused before.
    pub fn refused(&self, id: ProfileId, token: u64) -> bool {
        self.lock().health.get(usize::from(id.0)).is_some_and(|health| health.refused(token))
    }

    /// The model answered in `lane`: backoffs of `id` are over.
    pub fn succeed(&self, id: ProfileId, lane: Lane, session: Option<&str>) {
        let mut facts = self.lock();
        if let Some(health) = facts.health.get_mut(usize::from(id.0)) {
            health.succeed(lane);
        }
        if let Some(session) = session {
            facts.bounces.remove(session);
        }
    }

    /// An answer of `id` goes to codex. It becomes the current profile only where the one before can no longer serve: an
    /// owner's chain, or one of many exchanges at once, moves nobody else. Gives the one before when it changed.
    pub fn commit(&self, id: ProfileId, session: Option<&str>) -> Option<ProfileId> {
        let now = clock::now();
        let mut facts = self.lock();
        if let Some(session) = session {
            facts.affinity.learn(Key::Session(session), id);
        }
        let before = facts.current;
        let still_serves = facts
            .health
            .get(usize::from(before.0))
            .is_some_and(|health| !health.was_refused() && health.usable(0, now) == Usable::Yes);
        if before == id || still_serves {
            return None;
        }
        facts.current = id;
        Some(before)
    }

    /// A turn was served by `id`: where that is not who issued its state, the rest of it follows there.
    pub fn follow(&self, turn_state: &str, id: ProfileId) {
        let mut facts = self.lock();
        if facts.affinity.owner(Key::Turn(turn_state)).is_some_and(|known| known != id) {
            facts.affinity.learn(Key::Turn(turn_state), id);
        }
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
