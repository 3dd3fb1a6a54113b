//! Where each profile's model requests go: asked of the backend once, for those that codex does not ask for itself.
//! What an answer means is `workspace`'s.

use super::journal::Marker;
use super::route::upstream_target;
use super::workspace::{self, Placement};
use super::{ProfileId, Shared};
use crate::net::fetch;
use crate::sys::clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CHECK_PATH: &str = "/wham/accounts/check";
/// Codex gives up after 15 s; a profile that is asked for in the middle of a rotation must not wait so long.
const OWN_LIMIT: Duration = Duration::from_secs(3);
/// A backend that could not be asked is asked again after this.
const RETRY: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 1024 * 1024;

/// What is known of each profile. The lock of one is held while it is asked for: one question at a time.
pub struct Placements {
    slots: Vec<Mutex<Option<Known>>>,
}

/// A placement, and when to ask again if the backend could not be asked.
type Known = (Placement, Option<Instant>);

impl Placements {
    pub fn new(profiles: usize) -> Placements {
        Placements { slots: (0..profiles).map(|_| Mutex::new(None)).collect() }
    }

    /// The profile has another account now.
    pub fn forget(&self, id: ProfileId) {
        if let Some(slot) = self.slots.get(usize::from(id.0)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub fn learn(&self, id: ProfileId, placement: Placement) {
        if let Some(slot) = self.slots.get(usize::from(id.0)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((placement, None));
        }
    }
}

/// Where `id`'s model requests go; asks the backend when that is not known yet.
pub fn of(shared: &Shared, id: ProfileId) -> Placement {
    let Some(slot) = shared.placements.slots.get(usize::from(id.0)) else { return Placement::default() };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match &*slot {
        Some((placement, None)) => return placement.clone(),
        Some((placement, Some(until))) if *until > clock::now() => return placement.clone(),
        _ => {}
    }
    let asked = ask(shared, id);
    let known = match asked {
        Some(placement) => (placement, None),
        None => (Placement::default(), Some(clock::now() + RETRY)),
    };
    if known.0 != Placement::default() {
        let origin = known.0.origin.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        shared
            .journal
            .note(Marker::Workspace, format_args!("profile={} origin={origin} us={}", shared.name(id), known.0.us));
    }
    slot.insert(known).0.clone()
}

/// So that a rotation pays no question. The launching profile's is asked by codex itself.
pub fn learn_in_background(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    // Without the thread each is asked when it is first needed.
    let _ = std::thread::Builder::new().name("workspaces".to_owned()).spawn(move || {
        for id in shared.ids().filter(|id| *id != shared.launching) {
            of(&shared, id);
        }
    });
}

/// `None`: no answer that says anything, ask again later.
fn ask(shared: &Shared, id: ProfileId) -> Option<Placement> {
    let credential = shared.wallet.credential(id).ok()?;
    let mut url = shared.base.clone();
    url.path = upstream_target(&shared.base, CHECK_PATH);
    let mut headers = vec![("Authorization", credential.authorization.as_str()), ("User-Agent", "codex-cli")];
    if let Some(account) = &credential.account_id {
        headers.push(("ChatGPT-Account-Id", account));
    }
    let answer = fetch::get(&url, &headers, clock::now() + OWN_LIMIT, MAX_ANSWER).ok()?;
    match answer.status {
        200 => Some(workspace::placement(&answer.body, credential.account_id.as_deref())),
        // A backend without the route has no constraint; a refused login or a bad moment says nothing.
        404 => Some(Placement::default()),
        _ => None,
    }
}
