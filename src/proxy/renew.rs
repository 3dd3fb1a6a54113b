//! New tokens for a profile whose credential was refused (spec S-32): read again, then refreshed once, one at a time for each
//! profile of this run. The rules of a refresh, and its locks over all processes, are `profile::refresh`'s.

use super::credentials::Credential;
use super::journal::{Marker, Tag};
use super::{ProfileId, Shared};
use crate::net::fetch;
use crate::profile::refresh::{self, RefreshError};
use crate::sys::clock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request waits for this; whoever gives up on an answer may have spent the token, so it is generous.
const LIMIT: Duration = Duration::from_secs(20);
/// After a failure that may pass, nobody asks again so soon.
const PAUSE: Duration = Duration::from_secs(60);

/// One lock for each profile, and until when it is not asked again.
pub struct Renewals {
    slots: Vec<Mutex<Option<Instant>>>,
}

impl Renewals {
    pub fn new(profiles: usize) -> Renewals {
        Renewals { slots: (0..profiles).map(|_| Mutex::new(None)).collect() }
    }
}

/// True when `id` has another credential than the refused one now. The profile that codex runs under is codex's to
/// refresh.
pub fn renew(shared: &Shared, tag: Tag, id: ProfileId, refused: &Credential) -> bool {
    let Some(slot) = shared.renewals.slots.get(usize::from(id.0)) else { return false };
    let mut pause = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever held the lock before may have done it.
    let changed = || shared.wallet.fingerprint(id) != refused.fingerprint && shared.wallet.credential(id).is_ok();
    if changed() {
        return true;
    }
    if id == shared.launching || pause.is_some_and(|until| until > clock::now()) {
        return false;
    }
    let Some(member) = shared.members.get(usize::from(id.0)) else { return false };
    let rejected = refused.authorization.strip_prefix("Bearer ").unwrap_or_default();
    let result = refresh::refresh(
        &member.codex_home,
        rejected,
        clock::unix(),
        clock::now() + LIMIT,
        &|url, headers, body, until| {
            fetch::post(url, headers, body, until, refresh::MAX_ANSWER)
                .map(|answer| (answer.status, answer.body))
                .map_err(|error| error.to_string())
        },
    );
    match result {
        Ok(how) => {
            shared.journal.mark(tag, Marker::Refreshed, format_args!("profile={} how={how:?}", member.name));
            changed()
        }
        Err(error) => {
            shared.journal.mark(tag, Marker::RefreshFailed, format_args!("profile={} error={error}", member.name));
            // A permanent refusal is remembered beside the login; the rest may pass.
            if !matches!(error, RefreshError::Permanent(_)) {
                *pause = Some(clock::now() + PAUSE);
            }
            false
        }
    }
}
