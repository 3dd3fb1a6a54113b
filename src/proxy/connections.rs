//! Upstream connections: opened, and kept for their next request. One profile's are never given to another.

use super::{ProfileId, journal};
use crate::net::stream::Stream;
use crate::net::tls::Protocol;
use crate::net::{NetError, Patience};
use crate::sys::clock;
use crate::wire::url::Url;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shorter than the idle limits that servers usually have (60 s and more), so that few are found dead.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// So many requests at once on one profile are rare; what is beyond is opened anew.
const MAX_FOR_KEY: usize = 64;

/// `None`: codex's own credentials.
pub type Key = (Option<ProfileId>, String);

#[derive(Default)]
pub struct Connections {
    idle: Mutex<HashMap<Key, Vec<(Stream, Instant)>>>,
    /// Milliseconds that the last one took which was opened.
    pace: AtomicU64,
}

impl Connections {
    pub fn open(&self, url: &Url, protocol: Protocol, patience: Patience) -> Result<Stream, NetError> {
        // It may take seconds: who looks at the log meanwhile sees whom we wait for.
        journal::flush();
        let began = clock::now();
        let stream = Stream::connect(url, protocol, patience)?;
        let took = clock::now().saturating_duration_since(began).as_millis();
        self.pace.store(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(stream)
    }

    /// How long connecting takes on this network; 0 while that is not known.
    pub fn pace(&self) -> Duration {
        Duration::from_millis(self.pace.load(Ordering::Relaxed))
    }

    /// The connection that was used last, if it is still good.
    pub fn take(&self, key: &Key) -> Option<Stream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(key)?;
        while let Some((mut stream, since)) = waiting.pop() {
            if clock::now().saturating_duration_since(since) < MAX_IDLE && stream.is_idle() {
                return Some(stream);
            }
        }
        None
    }

    /// The profile has another account now.
    pub fn forget(&self, owner: ProfileId) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _), _| *id != Some(owner));
    }

    /// Only for a connection whose last answer was read to its end.
    pub fn put(&self, key: Key, stream: Stream) {
        let now = clock::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.entry(key).or_default();
        waiting.retain(|(_, since)| now.saturating_duration_since(*since) < MAX_IDLE);
        if waiting.len() < MAX_FOR_KEY {
            waiting.push((stream, now));
        }
    }
}
