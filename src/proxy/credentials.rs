//! What each profile's auth.json holds right now: codex owns and rewrites those files, so they are looked at again and
//! again, and read again when they changed. Nothing of it is ever printed.

use super::ProfileId;
use crate::profile::auth::{self, Auth, same};
use crate::sys::clock;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ready for the wire.
pub struct Credential {
    /// `Bearer …`
    pub authorization: String,
    pub account_id: Option<String>,
    /// Tells one token from the next without holding it. Never 0.
    pub fingerprint: u64,
}

pub struct Wallet {
    slots: Vec<Slot>,
    /// Every credential that was current during this run, newest last: codex goes on with the one that it has read.
    known: Mutex<Vec<Arc<Credential>>>,
}

/// Refreshes come every few days; far more than a run sees.
const MAX_KNOWN: usize = 64;

/// So long a file is not looked at again: requests come in bursts. A token that codex has renewed meanwhile comes with its
/// next request, and is looked for then.
const TRUST: Duration = Duration::from_millis(100);

struct Slot {
    home: PathBuf,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    stamp: Stamp,
    /// When the file was last looked at.
    seen: Instant,
    credential: Arc<Credential>,
}

/// Changes whenever the file is replaced or written.
type Stamp = (u64, u64, i64, i64);

impl Wallet {
    /// One home for each [`ProfileId`], in their order.
    pub fn new(homes: impl IntoIterator<Item = PathBuf>) -> Wallet {
        let slots = homes.into_iter().map(|home| Slot { home, cached: Mutex::new(None) }).collect();
        Wallet { slots, known: Mutex::default() }
    }

    /// The error is what the auth.json is instead (`no-auth`, `api-key`, …).
    pub fn credential(&self, id: ProfileId) -> Result<Arc<Credential>, String> {
        self.look(id, TRUST)
    }

    /// The same, of this very moment.
    pub fn credential_now(&self, id: ProfileId) -> Result<Arc<Credential>, String> {
        self.look(id, Duration::ZERO)
    }

    fn look(&self, id: ProfileId, trust: Duration) -> Result<Arc<Credential>, String> {
        let slot = self.slots.get(usize::from(id.0)).ok_or("unknown profile")?;
        let seen = clock::now();
        let mut cached = slot.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cached.as_ref().filter(|known| seen.saturating_duration_since(known.seen) < trust) {
            return Ok(Arc::clone(&known.credential));
        }
        let stamp = stamp(&slot.home);
        if let (Some(known), Some(stamp)) = (cached.as_mut(), stamp)
            && known.stamp == stamp
        {
            known.seen = seen;
            return Ok(Arc::clone(&known.credential));
        }
        *cached = None;
        let read = auth::read(&slot.home);
        let Auth::ChatGpt(tokens) = read else { return Err(read.label().to_owned()) };
        let authorization = format!("Bearer {}", tokens.access_token.expose());
        let mut hasher = DefaultHasher::new();
        authorization.hash(&mut hasher);
        let fingerprint = hasher.finish().max(1);
        let credential = Arc::new(Credential { authorization, account_id: tokens.account_id, fingerprint });
        self.remember(&credential);
        // The stamp is from before the reading: a change in between is seen next time.
        if let Some(stamp) = stamp {
            *cached = Some(Cached { stamp, seen, credential: Arc::clone(&credential) });
        }
        Ok(credential)
    }

    /// Whose login the profile holds, where that is known.
    pub fn account_id(&self, id: ProfileId) -> Option<String> {
        self.credential(id).ok()?.account_id.clone()
    }

    /// The token that `id` would use, by fingerprint; 0 when it has none.
    pub fn fingerprint(&self, id: ProfileId) -> u64 {
        self.credential(id).map_or(0, |credential| credential.fingerprint)
    }

    /// Whether this `Authorization` is one that our codex may send: a token of any profile of ours, as of now or of some time
    /// during this run.
    pub fn recognises(&self, authorization: &str) -> bool {
        let is_it = |known: &Credential| same(known.authorization.as_bytes(), authorization.as_bytes());
        let known = |wallet: &Wallet| {
            wallet.known.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| is_it(known))
        };
        known(self) || self.ids().any(|id| self.credential_now(id).is_ok_and(|current| is_it(&current)))
    }

    fn remember(&self, credential: &Arc<Credential>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.fingerprint != credential.fingerprint);
        if known.len() == MAX_KNOWN {
            known.remove(0);
        }
        known.push(Arc::clone(credential));
    }

    fn ids(&self) -> impl Iterator<Item = ProfileId> {
        (0..u16::try_from(self.slots.len()).unwrap_or(u16::MAX)).map(ProfileId)
    }
}

fn stamp(home: &Path) -> Option<Stamp> {
    let meta = home.join("auth.json").metadata().ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}
