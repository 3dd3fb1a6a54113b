//! The one lock over what the run knows of its profiles: affinity, health, who is current; and what the user's other runs
//! tell of them. No I/O under it. The rules are `affinity`'s, `health`'s and `select`'s; here they meet.

use super::ProfileId;
use super::affinity::{Affinity, Claims, Key};
use super::credentials::Wallet;
use super::health::{Backoff, Health, Usable};
use super::route::Lane;
use super::select::{self, Ask, Candidate, Decision, Snapshot};
use super::share::{InFlight, Marked, Marks, Seat, Share};
use super::standing;
use super::verdict::Trouble;
use crate::quota::Reading;
use crate::sys::clock;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Sessions whose bounces are counted at the same time; far more than a person has.
const MAX_BOUNCING: usize = 1_024;

pub struct Ledger {
    facts: Mutex<Facts>,
    /// The profile that codex runs under.
    launching: ProfileId,
    share: Share,
    /// Each profile's place in it. Changes only when a profile is given another account.
    seats: RwLock<Vec<Seated>>,
}

struct Seated {
    seat: Seat,
    account_id: Option<String>,
}

/// A profile's account, and what tells it from another one for other runs (`standing::seat`).
pub struct Account {
    pub id: Option<String>,
    pub seat: String,
}

struct Facts {
    affinity: Affinity,
    health: Vec<Health>,
    /// Until when the user keeps back what is left of a profile. This run's alone: another may be told to use it.
    held: Vec<Option<Instant>>,
    /// All profiles, best first for the scheduler.
    order: Vec<ProfileId>,
    current: ProfileId,
    /// How often a session's WebSocket was ended to make codex come back, since its last answer.
    bounces: HashMap<Box<str>, u32>,
}

/// What the record of a trouble amounts to, for the log.
pub struct Recorded {
    pub backoff: Option<Backoff>,
    /// Points added, and the sum.
    pub penalty: Option<(u32, u32)>,
}

/// Something in progress on a profile, with what stood against the profile at its start. An exchange is counted for as
/// long as this lives.
#[must_use]
pub struct Serving {
    pub id: ProfileId,
    since: Instant,
    seat: Option<Seat>,
    marked: Marked,
    _counted: Option<InFlight>,
}

/// What a commit changed.
pub struct Committed {
    /// The session was another profile's, or nobody's.
    pub session_is_news: bool,
    /// The current profile before, when it is another one now.
    pub before: Option<ProfileId>,
}

/// What other runs tell of a profile, for selection.
fn told(marks: Marks, token: u64, now: Instant, unix: u64) -> Usable {
    if token != 0 && marks.refused == Some(token) {
        return Usable::LoginNeeded;
    }
    match marks.quota_until.max(marks.transport_until) {
        Some(until) => Usable::After(now + Duration::from_secs(until.saturating_sub(unix))),
        None => Usable::Yes,
    }
}

impl Facts {
    fn is_held(&self, id: ProfileId, now: Instant) -> bool {
        self.held.get(usize::from(id.0)).is_some_and(|until| until.is_some_and(|until| until > now))
    }
}

impl Account {
    fn seated(self, share: &Share) -> Seated {
        Seated { seat: share.seat(&self.seat), account_id: self.id }
    }
}

impl Ledger {
    /// `accounts` are the profiles', in the order of their ids; what other runs know of them comes by `share`.
    pub fn new(accounts: Vec<Account>, current: ProfileId, share: Share) -> Ledger {
        let profiles = accounts.len();
        let facts = Facts {
            affinity: Affinity::default(),
            health: vec![Health::default(); profiles],
            held: vec![None; profiles],
            order: (0..u16::try_from(profiles).unwrap_or(u16::MAX)).map(ProfileId).collect(),
            current,
            bounces: HashMap::new(),
        };
        let seats = accounts.into_iter().map(|account| account.seated(&share)).collect();
        Ledger { facts: Mutex::new(facts), launching: current, share, seats: RwLock::new(seats) }
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
        select::has_alternative(&self.snapshot(Lane::Standard, wallet), ask, than)
    }

    /// What selection sees now.
    pub fn snapshot(&self, lane: Lane, wallet: &Wallet) -> Snapshot {
        // Reading a credential is I/O: done for the few refused ones, outside the lock.
        let (now, unix) = (clock::now(), clock::unix());
        let (current, order, health, held) = {
            let facts = self.lock();
            let held: Vec<ProfileId> = facts.order.iter().copied().filter(|id| facts.is_held(*id, now)).collect();
            (facts.current, facts.order.clone(), facts.health.clone(), held)
        };
        let candidates =
            order.into_iter().filter_map(|id| Some((id, health.get(usize::from(id.0))?))).map(|(id, health)| {
                let marks = self.seat(id).map(|seat| self.share.marks(seat, unix)).unwrap_or_default();
                let token = if health.was_refused() || marks.refused.is_some() { wallet.fingerprint(id) } else { 0 };
                let told = told(marks, token, now, unix);
                let own = health.usable(token, now);
                Candidate {
                    id,
                    usable: own.and(told),
                    // Codex may be about to refresh its own login, or has done so.
                    doubtful: own == Usable::Yes && told != Usable::Yes
                        || id == self.launching && own == Usable::LoginNeeded,
                    held: held.contains(&id),
                    penalty: health.penalty(lane, now),
                    inflight: self.inflight(id),
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

    /// Until when the user keeps back what is left of `id`; `None`: there is more than that. True when it begins now.
    pub fn hold(&self, id: ProfileId, until: Option<Instant>) -> bool {
        let mut facts = self.lock();
        let began = until.is_some() && !facts.is_held(id, clock::now());
        if let Some(held) = facts.held.get_mut(usize::from(id.0)) {
            *held = until;
        }
        began
    }

    /// Remembers that an exchange was not served, with the credential of that fingerprint. What became of an account that
    /// the profile had before says nothing of the present one.
    pub fn record(&self, serving: &Serving, trouble: &Trouble, lane: Lane, token: u64) -> Option<Recorded> {
        if !self.is_seated(serving) {
            return None;
        }
        let (now, unix) = (clock::now(), clock::unix());
        let mut facts = self.lock();
        let health = facts.health.get_mut(usize::from(serving.id.0))?;
        let penalty = health.penalise(trouble, lane, serving.since, now);
        let backoff = health.record(trouble, token, serving.since, now, unix);
        drop(facts);
        if let Some(seat) = serving.seat {
            match backoff {
                Some(Backoff::Quota(wait)) => self.share.mark_quota(seat, unix + wait.as_secs(), unix),
                Some(Backoff::Transport(wait)) => self.share.mark_transport(seat, unix + wait.as_secs(), unix),
                _ => {}
            }
        }
        Some(Recorded { backoff, penalty })
    }

    /// The login behind that token is refused for good: no run needs to try it.
    pub fn refused_for_good(&self, id: ProfileId, token: u64) {
        if let Some(seat) = self.seat(id).filter(|_| token != 0) {
            self.share.mark_refused(seat, token);
        }
    }

    /// The backend was asked and answered so: where that ends older refusals (`standing`), those of this run and of others
    /// are void.
    pub fn has_quota(&self, asked: &Serving, reading: &Reading) {
        let refused_at = asked.seat.map_or(0, |seat| self.share.quota_marked_at(seat));
        if !standing::ends_refusal(reading, refused_at, clock::unix()) {
            return;
        }
        let since = asked.since;
        let health = |facts: &mut Facts| Some(facts.health.get_mut(usize::from(asked.id.0))?.has_quota(since));
        if health(&mut self.lock()) == Some(true) {
            self.clear_shared(asked);
        }
    }

    /// One more exchange in progress on `id`, until the result is dropped.
    pub fn enter(&self, id: ProfileId) -> Serving {
        let counted = self.seat(id).map(|seat| self.share.enter(seat, clock::unix()));
        Serving { _counted: counted, ..self.ask_about(id) }
    }

    /// The backend is about to be asked about `id`; that is no work on it.
    pub fn ask_about(&self, id: ProfileId) -> Serving {
        let seat = self.seat(id);
        let marked = seat.map(|seat| self.share.marked(seat)).unwrap_or_default();
        Serving { id, since: clock::now(), seat, marked, _counted: None }
    }

    /// Whether that is the account which `id` had when it was last looked at.
    pub fn has_account(&self, id: ProfileId, account_id: Option<&str>) -> bool {
        let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(usize::from(id.0)).is_none_or(|seated| seated.account_id.as_deref() == account_id)
    }

    /// `id` has another account now: what is known of the one before is not about it.
    pub fn reseat(&self, id: ProfileId, account: Account) {
        let index = usize::from(id.0);
        if let Some(seated) = self.seats.write().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *seated = account.seated(&self.share);
        }
        let mut facts = self.lock();
        if let Some(health) = facts.health.get_mut(index) {
            *health = Health::default();
        }
        if let Some(held) = facts.held.get_mut(index) {
            *held = None;
        }
    }

    /// Shares of runs that died are taken back. Asks the system about each: not for the path of a request.
    pub fn sweep(&self) {
        self.share.sweep();
    }

    /// Why other runs are not seen.
    pub fn share_problem(&self) -> Option<&str> {
        self.share.problem()
    }

    /// Work on `id` as the scheduler counts it, over all of the user's runs.
    pub fn active(&self, id: ProfileId) -> u32 {
        self.seat(id).map_or(0, |seat| self.share.active(seat, clock::unix()))
    }

    /// Exchanges in progress on `id`, over all of the user's runs.
    pub fn inflight(&self, id: ProfileId) -> u32 {
        self.seat(id).map_or(0, |seat| self.share.inflight(seat))
    }

    fn seat(&self, id: ProfileId) -> Option<Seat> {
        let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(usize::from(id.0)).map(|seated| seated.seat)
    }

    /// That very token of `id` was refused before.
    pub fn refused(&self, id: ProfileId, token: u64) -> bool {
        self.lock().health.get(usize::from(id.0)).is_some_and(|health| health.refused(token))
    }

    /// The model answered in `lane`: backoffs of the profile are over, unless they are newer than the exchange.
    pub fn succeed(&self, serving: &Serving, lane: Lane, session: Option<&str>) {
        let seated = self.is_seated(serving);
        let mut facts = self.lock();
        let health = facts.health.get_mut(usize::from(serving.id.0)).filter(|_| seated);
        let cleared = health.is_some_and(|health| health.succeed(lane, serving.since));
        if let Some(session) = session {
            facts.bounces.remove(session);
        }
        drop(facts);
        if cleared {
            self.clear_shared(serving);
        }
    }

    /// What other runs were told is over, unless it is newer than `serving`.
    fn clear_shared(&self, serving: &Serving) {
        if let Some(seat) = serving.seat {
            self.share.clear(seat, serving.marked);
        }
    }

    /// The profile still has the account with which `serving` began.
    fn is_seated(&self, serving: &Serving) -> bool {
        self.seat(serving.id) == serving.seat
    }

    /// An answer of `id` goes to codex. It becomes the current profile only where the one before can no longer serve: an
    /// owner's chain, or one of many exchanges at once, moves nobody else.
    pub fn commit(&self, id: ProfileId, session: Option<&str>) -> Committed {
        let (now, unix) = (clock::now(), clock::unix());
        let mut facts = self.lock();
        let session_is_news = session.is_some_and(|session| facts.affinity.learn(Key::Session(session), id));
        let before = facts.current;
        let told = self.seat(before).map_or(Usable::Yes, |seat| told(self.share.marks(seat, unix), 0, now, unix));
        let still_serves = facts
            .health
            .get(usize::from(before.0))
            .is_some_and(|health| !health.was_refused() && health.usable(0, now).and(told) == Usable::Yes);
        if before == id || still_serves && !facts.is_held(before, now) {
            return Committed { session_is_news, before: None };
        }
        facts.current = id;
        Committed { session_is_news, before: Some(before) }
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

    /// From an earlier run: what this one has learned by now stands.
    pub fn recall(&self, key: Key<'_>, id: ProfileId) {
        let mut facts = self.lock();
        if facts.affinity.owner(key).is_none() {
            facts.affinity.learn(key, id);
        }
    }

    pub fn owner(&self, key: Key<'_>) -> Option<ProfileId> {
        self.lock().affinity.owner(key)
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

#[cfg(test)]
mod tests;
