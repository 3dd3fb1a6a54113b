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
const LIMIT: Duration = Duration::from_secs(30);
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

/// What became of a refused login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The profile has another credential than the refused one now.
    Yes,
    /// It may have one later: codex refreshes its own, somebody else is at it, the server did not answer.
    Later,
    /// Only a new login helps.
    Never,
}

/// The profile that codex runs under is codex's to refresh.
pub fn renew(shared: &Shared, tag: Tag, id: ProfileId, refused: &Credential) -> Renewed {
    let Some(slot) = shared.renewals.slots.get(usize::from(id.0)) else { return Renewed::Never };
    let mut pause = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever held the lock before may have done it.
    let changed =
        || shared.wallet.credential_now(id).is_ok_and(|credential| credential.fingerprint != refused.fingerprint);
    if changed() {
        return Renewed::Yes;
    }
    if id == shared.launching || pause.is_some_and(|until| until > clock::now()) {
        return Renewed::Later;
    }
    let Some(member) = shared.members.get(usize::from(id.0)) else { return Renewed::Never };
    if refresh::twin(&member.profile.codex_home, &shared.homes).is_some() {
        let fields = format_args!("profile={} error=another home holds the same login", member.profile.name);
        shared.journal.mark(tag, Marker::RefreshFailed, fields);
        *pause = Some(clock::now() + PAUSE);
        return Renewed::Later;
    }
    let rejected = refused.authorization.strip_prefix("Bearer ").unwrap_or_default();
    let until = clock::now() + LIMIT;
    let result = refresh::refresh(&member.profile.codex_home, rejected, clock::unix(), until, &fetch::post_or_words);
    match result {
        Ok(how) => {
            shared.journal.mark(tag, Marker::Refreshed, format_args!("profile={} how={how:?}", member.profile.name));
            if changed() { Renewed::Yes } else { Renewed::Later }
        }
        Err(error) => {
            shared.journal.mark(
                tag,
                Marker::RefreshFailed,
                format_args!("profile={} error={error}", member.profile.name),
            );
            // A refusal for good is remembered beside the login; the rest may pass.
            if matches!(error, RefreshError::Permanent(_) | RefreshError::NoRefreshToken) {
                shared.ledger.refused_for_good(id, refused.fingerprint);
                return Renewed::Never;
            }
            *pause = Some(clock::now() + PAUSE);
            Renewed::Later
        }
    }
}
