//! Where each profile's model requests go: asked of the backend once, for those that codex does not ask for itself.
//! What an answer means is `workspace`'s.

use super::journal::{self, Marker};
use super::route::upstream_target;
use super::workspace::{self, Placement};
use super::{ProfileId, Shared};
use crate::net::Cause;
use crate::net::fetch::get;
use crate::sys::clock;
use crate::sys::poll::{self, Watch};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

const CHECK_PATH: &str = "/wham/accounts/check";
/// Codex gives up after 15 s; a profile that is asked for in the middle of a rotation must not wait so long.
const OWN_LIMIT: Duration = Duration::from_secs(3);
/// A backend that could not be asked is asked again after this.
const RETRY: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 1024 * 1024;

/// What is known of each profile. No lock is held while anybody is asked: a question runs on a thread of its own, one at a
/// time for a profile, and only who knows nothing yet waits for it.
pub struct Placements {
    slots: Vec<Mutex<Slot>>,
    /// For the threads that ask. Set once the proxy stands.
    shared: OnceLock<Weak<Shared>>,
}

#[derive(Default)]
struct Slot {
    known: Option<Known>,
    asking: bool,
    /// Counts the accounts that the profile has had: an answer about an earlier one is not kept.
    epoch: u32,
    /// The other ends of what the waiting requests poll: they are closed when there is an answer, or will be none.
    waiting: Vec<UnixStream>,
}

struct Known {
    placement: Placement,
    /// When to ask again, since the backend could not be asked.
    again: Option<Instant>,
}

/// What a request does.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// `None`: it waits.
    go: Option<Placement>,
    /// The question is this one's to begin.
    ask: bool,
}

impl Slot {
    fn step(&mut self, now: Instant) -> Step {
        let go = self.known.as_ref().map(|known| known.placement.clone());
        let due = self.known.as_ref().is_none_or(|known| known.again.is_some_and(|again| again <= now));
        let ask = due && !self.asking;
        self.asking |= ask;
        Step { go, ask }
    }

    /// A question ends. `None`: it could not be asked, and what was known stands.
    fn answered(&mut self, answer: Option<Placement>, now: Instant) {
        (self.asking, self.waiting) = (false, Vec::new());
        match (answer, &mut self.known) {
            (Some(placement), _) => self.known = Some(Known { placement, again: None }),
            // Codex has asked meanwhile.
            (None, Some(Known { again: None, .. })) => {}
            (None, Some(known)) => known.again = Some(now + RETRY),
            (None, None) => self.known = Some(Known { placement: Placement::default(), again: Some(now + RETRY) }),
        }
    }
}

impl Placements {
    pub fn new(profiles: usize) -> Placements {
        Placements { slots: (0..profiles).map(|_| Mutex::default()).collect(), shared: OnceLock::new() }
    }

    /// The profile has another account now.
    pub fn forget(&self, id: ProfileId) {
        if let Some(mut slot) = self.slot(id) {
            *slot = Slot { epoch: slot.epoch.wrapping_add(1), ..Slot::default() };
        }
    }

    /// Codex asked, and this was the answer.
    pub fn learn(&self, id: ProfileId, placement: Placement) {
        if let Some(mut slot) = self.slot(id) {
            slot.known = Some(Known { placement, again: None });
            slot.waiting.clear();
        }
    }

    fn slot(&self, id: ProfileId) -> Option<MutexGuard<'_, Slot>> {
        Some(self.slots.get(usize::from(id.0))?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, id: ProfileId) -> Placement {
        self.slot(id).and_then(|slot| Some(slot.known.as_ref()?.placement.clone())).unwrap_or_default()
    }
}

/// Where `id`'s model requests go. Only while nothing at all is known the answer of the backend is waited for, since an
/// account that belongs elsewhere must not be served here; not beyond `OWN_LIMIT`, and not for a client that has left.
pub fn of(shared: &Shared, id: ProfileId, client: RawFd) -> Result<Placement, Cause> {
    let Some(mut slot) = shared.placements.slot(id) else { return Ok(Placement::default()) };
    let step = slot.step(clock::now());
    let bell = match step.go {
        Some(_) => None,
        None => UnixStream::pair().ok().map(|(near, far)| {
            slot.waiting.push(far);
            near
        }),
    };
    drop(slot);
    if step.ask && !ask_aside(shared, id) {
        if step.go.is_some() {
            // No thread: another time.
            if let Some(mut slot) = shared.placements.slot(id) {
                slot.answered(None, clock::now());
            }
        } else {
            ask(shared, id);
        }
    }
    if let Some(placement) = step.go {
        return Ok(placement);
    }
    let until = clock::now() + OWN_LIMIT;
    if let Some(bell) = bell {
        journal::flush();
        let mut watches = [Watch::new(&bell), Watch::raw(client)];
        let told = poll::wait(&mut watches, Some(until)).map_err(|error| Cause::Failed(error.to_string()))?;
        if told && !watches[0].hung_up() && watches[1].hung_up() {
            return Err(Cause::ClientGone);
        }
    }
    Ok(shared.placements.known(id))
}

/// So that a rotation pays no question. The launching profile's is asked by codex itself.
pub fn learn_in_background(shared: &Arc<Shared>) {
    let _ = shared.placements.shared.set(Arc::downgrade(shared));
    let shared = Arc::clone(shared);
    // Without the thread each is asked when it is first needed.
    let _ = std::thread::Builder::new().name("workspaces".to_owned()).spawn(move || {
        for id in shared.ids().filter(|id| *id != shared.launching) {
            let first = shared.placements.slot(id).is_some_and(|mut slot| slot.step(clock::now()).ask);
            if first {
                ask(&shared, id);
            }
        }
    });
}

/// False: there is no thread for it.
fn ask_aside(shared: &Shared, id: ProfileId) -> bool {
    let Some(shared) = shared.placements.shared.get().and_then(Weak::upgrade) else { return false };
    std::thread::Builder::new().name("workspace".to_owned()).spawn(move || ask(&shared, id)).is_ok()
}

/// Asks for `id`, which [`Slot::step`] said to do, and keeps the answer.
fn ask(shared: &Shared, id: ProfileId) {
    let asked = shared.placements.slot(id).map(|slot| slot.epoch);
    let answer = fetch(shared, id);
    if let Some(placement) = answer.as_ref().filter(|placement| **placement != Placement::default()) {
        let origin = placement.origin.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        shared
            .journal
            .note(Marker::Workspace, format_args!("profile={} origin={origin} us={}", shared.name(id), placement.us));
    }
    if let Some(mut slot) = shared.placements.slot(id).filter(|slot| Some(slot.epoch) == asked) {
        slot.answered(answer, clock::now());
    }
}

/// `None`: no answer that says anything, ask again later.
fn fetch(shared: &Shared, id: ProfileId) -> Option<Placement> {
    let credential = shared.wallet.credential(id).ok()?;
    let mut url = shared.base.clone();
    url.path = upstream_target(&shared.base, CHECK_PATH);
    let mut headers = vec![("Authorization", credential.authorization.as_str()), ("User-Agent", "codex-cli")];
    if let Some(account) = &credential.account_id {
        headers.push(("ChatGPT-Account-Id", account));
    }
    let answer = get(&url, &headers, clock::now() + OWN_LIMIT, MAX_ANSWER).ok()?;
    match answer.status {
        200 => Some(workspace::placement(&answer.body, credential.account_id.as_deref())),
        // A backend without the route has no constraint; a refused login or a bad moment says nothing.
        404 => Some(Placement::default()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_nothing_waits_and_one_asks() {
        let mut slot = Slot::default();
        let t0 = Instant::now();
        let waits = |ask| Step { go: None, ask };
        let goes = |us, ask| Step { go: Some(Placement { origin: None, us }), ask };
        assert_eq!([slot.step(t0), slot.step(t0)], [waits(true), waits(false)], "one asks, two wait");
        slot.answered(None, t0);
        assert_eq!(slot.step(t0), goes(false, false), "it could not be asked: not again so soon");
        let later = t0 + RETRY;
        assert_eq!([slot.step(later), slot.step(later)], [goes(false, true), goes(false, false)], "nobody waits again");
        slot.answered(None, later);
        assert_eq!(slot.step(later), goes(false, false));
        assert_eq!(slot.step(later + RETRY), goes(false, true));
        slot.answered(Some(Placement { origin: None, us: true }), later + RETRY);
        assert_eq!(slot.step(later + 9 * RETRY), goes(true, false), "what the backend says is asked once");
    }

    #[test]
    fn what_codex_heard_meanwhile_stands() {
        let placements = Placements::new(1);
        let id = ProfileId(0);
        assert!(placements.slot(id).unwrap().step(Instant::now()).ask);
        placements.learn(id, Placement { origin: None, us: true });
        placements.slot(id).unwrap().answered(None, Instant::now());
        assert!(placements.known(id).us);
    }
}
