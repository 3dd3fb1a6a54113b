//! What the runs of one user tell each other: how much is in flight on each profile, and what is wrong with it, in words
//! that all of them have in memory. No operation makes a system call or takes a lock.
//! Knows profiles by name and no rule: what the numbers mean for a choice is `health`'s and `select`'s.
//!
//! Everything in there is a hint. Whatever a torn, foreign or half-written word says, it is a number within bounds or it
//! is not believed, and where nothing can be shared each run sees itself alone.

mod process;
mod region;

use super::limits::LONGEST_QUOTA;
use crate::config::Config;
use crate::wire::hash::fnv1a;
use region::Region;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// First word of the file. The layout has its number in the name of the file as well.
const MAGIC: u64 = 0x3178_6564_6f72_702e;
/// Processes that can be seen at once. Those beyond see all others and are not seen.
const SLOTS: usize = 64;
/// Profiles of one home that can be seen. Those beyond are seen by their own run only.
const PROFILES: usize = 64;
/// When nobody is there and more of the table is used up than this, it begins anew: profiles come and go.
const CROWDED: usize = 48;
/// One process has no more exchanges in flight on one profile; a greater number is damage.
const MAX_COUNT: u64 = 4_096;
/// No transport backoff is longer than a few minutes: a moment farther away comes from damage, or from a clock that was
/// wrong.
const MAX_TRANSPORT: u64 = 3_600;
const MAX_QUOTA: u64 = LONGEST_QUOTA.as_secs();

/// A run that asked for something so lately is at work. Seconds (`scheduling.md` 3).
const AT_WORK: u64 = 600;

// The words: the magic, the last pick, who has which slot, a table of profiles, and for each profile the counts of all slots
// side by side; then in the same way when each slot was last seen at work on each profile.
const PICKED: usize = 1;
const PICKED_AT: usize = 2;
const OWNERS: usize = 8;
const TABLE: usize = OWNERS + SLOTS;
const COUNTS: usize = TABLE + PROFILES * FIELDS;
const SEEN: usize = COUNTS + PROFILES * SLOTS;
const WORDS: usize = SEEN + PROFILES * SLOTS;
/// Of an entry of the table: the profile's hash, then these.
const FIELDS: usize = 5;
const QUOTA: usize = 1;
const TRANSPORT: usize = 2;
const REFUSED: usize = 3;
/// When `QUOTA` was set.
const QUOTA_AT: usize = 4;
const CLEARED: [usize; 3] = [QUOTA, TRANSPORT, REFUSED];

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Share {
    inner: Arc<Inner>,
}

struct Inner {
    region: Region,
    /// The same layout for what found no place: in its first column profiles of the region, in the second its own.
    spare: Region,
    /// Ours in the region.
    slot: Option<usize>,
    me: u64,
    problem: Option<String>,
    sweeping: Mutex<()>,
}

/// Where a profile is, looked up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    place: Place,
    index: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Shared,
    Spare,
    /// More than 128 profiles: nothing is counted.
    Nowhere,
}

/// What is known to be wrong with a profile; each as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// Unix seconds, in the future.
    pub quota_until: Option<u64>,
    /// Unix seconds, in the future.
    pub transport_until: Option<u64>,
    /// Fingerprint of the token that was refused.
    pub refused: Option<u64>,
}

/// The marks as they stand in the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marked([u64; CLEARED.len()]);

/// Counts as in flight until it is dropped.
pub struct InFlight {
    inner: Arc<Inner>,
    seat: Seat,
}

impl Share {
    /// Never fails; [`Share::problem`] tells why nothing is shared.
    pub fn open(config: &Config) -> Share {
        Share::of(Region::shared(&config.root, WORDS, begin))
    }

    fn of(region: std::io::Result<Region>) -> Share {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let me = process::own(SERIAL.fetch_add(1, Ordering::Relaxed));
        let found = region.map_err(|error| error.to_string()).and_then(|region| match (me, region.words().first()) {
            (Some(_), Some(magic)) if magic.load(Ordering::Acquire) == MAGIC => Ok(region),
            (None, _) => Err("/proc does not tell who we are".to_owned()),
            _ => Err("the shared file is not understood".to_owned()),
        });
        let (region, problem) = match found {
            Ok(region) => (region, None),
            Err(problem) => (Region::own(WORDS), Some(problem)),
        };
        let me = me.unwrap_or(1);
        let mut inner = Inner { region, spare: Region::own(WORDS), slot: None, me, problem, sweeping: Mutex::new(()) };
        inner.sweep();
        inner.slot = inner.claim();
        if inner.slot.is_none() {
            inner.problem = Some(format!("{SLOTS} other processes are there already"));
        }
        Share { inner: Arc::new(inner) }
    }

    /// Why others do not see us, or we not them.
    pub fn problem(&self) -> Option<&str> {
        self.inner.problem.as_deref()
    }

    pub fn seat(&self, profile: &str) -> Seat {
        let hash = hash(profile.as_bytes());
        let find = |region: &Region, place| lookup(region.words(), hash).map(|index| Seat { place, index });
        find(&self.inner.region, Place::Shared)
            .or_else(|| find(&self.inner.spare, Place::Spare))
            .unwrap_or(Seat { place: Place::Nowhere, index: 0 })
    }

    /// One more in flight, until the result is dropped. `now`: Unix seconds.
    pub fn enter(&self, seat: Seat, now: u64) -> InFlight {
        if let Some(count) = self.inner.of_ours(COUNTS, seat) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(seen) = self.inner.of_ours(SEEN, seat) {
            seen.store(now, Ordering::Relaxed);
        }
        InFlight { inner: Arc::clone(&self.inner), seat }
    }

    /// Of all processes, this one included.
    pub fn inflight(&self, seat: Seat) -> u32 {
        self.inner.sum(COUNTS, seat, believed_count)
    }

    /// What is in flight, and the runs that were at work there a moment ago.
    pub fn active(&self, seat: Seat, now: u64) -> u32 {
        let at_work = |seen: &AtomicU64| u64::from(now.abs_diff(seen.load(Ordering::Relaxed)) <= AT_WORK);
        self.inflight(seat).saturating_add(self.inner.sum(SEEN, seat, at_work))
    }

    /// Fresh work was given to that profile.
    pub fn pick(&self, seat: Seat, now: u64) {
        let words = self.inner.region.words();
        if let (Some(hash), Some(picked), Some(at)) = (self.inner.hash(seat), words.get(PICKED), words.get(PICKED_AT)) {
            picked.store(hash, Ordering::Relaxed);
            at.store(now, Ordering::Relaxed);
        }
    }

    /// When fresh work was given to that profile, if it was the last one; Unix seconds.
    pub fn picked_at(&self, seat: Seat) -> Option<u64> {
        let words = self.inner.region.words();
        let picked = words.get(PICKED)?.load(Ordering::Relaxed);
        (self.inner.hash(seat) == Some(picked)).then(|| words.get(PICKED_AT).map(|at| at.load(Ordering::Relaxed)))?
    }

    /// Out of quota until then (Unix seconds), or longer when that is known already.
    pub fn mark_quota(&self, seat: Seat, until: u64, now: u64) {
        self.inner.extend(seat, QUOTA, until, now, MAX_QUOTA);
        if let Some(at) = self.inner.mark(seat, QUOTA_AT) {
            at.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last said that the profile is out of quota (Unix seconds), whether or not that still stands.
    pub fn quota_marked_at(&self, seat: Seat) -> u64 {
        self.inner.mark(seat, QUOTA_AT).map_or(0, |at| at.load(Ordering::Relaxed))
    }

    /// Not reachable until then (Unix seconds), or longer when that is known already.
    pub fn mark_transport(&self, seat: Seat, until: u64, now: u64) {
        self.inner.extend(seat, TRANSPORT, until, now, MAX_TRANSPORT);
    }

    /// The token of that fingerprint was refused.
    pub fn mark_refused(&self, seat: Seat, fingerprint: u64) {
        if let Some(word) = self.inner.mark(seat, REFUSED) {
            word.store(fingerprint, Ordering::Relaxed);
        }
    }

    /// What is marked now, for [`Share::clear`].
    pub fn marked(&self, seat: Seat) -> Marked {
        Marked(CLEARED.map(|field| self.inner.mark(seat, field).map_or(0, |word| word.load(Ordering::Relaxed))))
    }

    /// Real success: what was wrong `before` it began is over; each mark that was set since stands.
    pub fn clear(&self, seat: Seat, before: Marked) {
        for (field, before) in CLEARED.into_iter().zip(before.0) {
            // Most successes find nothing, and then take the line of no other processor away.
            if let Some(word) = self.inner.mark(seat, field).filter(|_| before != 0) {
                let _ = word.compare_exchange(before, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    pub fn marks(&self, seat: Seat, now: u64) -> Marks {
        let read = |field| self.inner.mark(seat, field).map_or(0, |word| word.load(Ordering::Relaxed));
        Marks {
            quota_until: believed_until(read(QUOTA), now, MAX_QUOTA),
            transport_until: believed_until(read(TRANSPORT), now, MAX_TRANSPORT),
            refused: Some(read(REFUSED)).filter(|fingerprint| *fingerprint != 0),
        }
    }

    /// Takes the shares of dead processes back. Asks /proc about each process: not for the path of a request.
    pub fn sweep(&self) {
        self.inner.sweep();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(count) = self.inner.of_ours(COUNTS, self.seat) {
            // Whatever damage put there, it does not go below zero.
            let less = |count: u64| Some(count.saturating_sub(1));
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

impl Inner {
    /// This process's word about the profile, in the columns that begin at `base`.
    fn of_ours(&self, base: usize, seat: Seat) -> Option<&AtomicU64> {
        match (seat.place, self.slot) {
            (Place::Shared, Some(slot)) => self.region.words().get(base + seat.index * SLOTS + slot),
            (Place::Shared, None) => self.spare.words().get(base + seat.index * SLOTS),
            (Place::Spare, _) => self.spare.words().get(base + seat.index * SLOTS + 1),
            (Place::Nowhere, _) => None,
        }
    }

    /// What all processes say about the profile, in the columns that begin at `base`.
    fn sum(&self, base: usize, seat: Seat, value: impl Fn(&AtomicU64) -> u64) -> u32 {
        let words = self.region.words();
        let row = base + seat.index * SLOTS..base + (seat.index + 1) * SLOTS;
        let mut sum = 0;
        if let (Place::Shared, Some(owners), Some(row)) = (seat.place, words.get(OWNERS..TABLE), words.get(row)) {
            let taken = owners.iter().zip(row).filter(|(owner, _)| owner.load(Ordering::Relaxed) != 0);
            sum += taken.map(|(_, word)| value(word)).sum::<u64>();
        }
        if self.slot.is_none() || seat.place == Place::Spare {
            sum += self.of_ours(base, seat).map_or(0, value);
        }
        u32::try_from(sum).unwrap_or(u32::MAX)
    }

    /// Of the profile that sits there.
    fn hash(&self, seat: Seat) -> Option<u64> {
        let table = self.region.words().get(TABLE + seat.index * FIELDS).filter(|_| seat.place == Place::Shared);
        table.map(|hash| hash.load(Ordering::Relaxed))
    }

    fn mark(&self, seat: Seat, field: usize) -> Option<&AtomicU64> {
        let region = match seat.place {
            Place::Shared => &self.region,
            Place::Spare => &self.spare,
            Place::Nowhere => return None,
        };
        region.words().get(TABLE + seat.index * FIELDS + field)
    }

    fn extend(&self, seat: Seat, field: usize, until: u64, now: u64, most: u64) {
        if let Some(word) = self.mark(seat, field) {
            let known = believed_until(word.load(Ordering::Relaxed), now, most).unwrap_or(0);
            // Two that write at once lose the shorter or the longer: a hint.
            word.store(until.min(now.saturating_add(most)).max(known), Ordering::Relaxed);
        }
    }

    fn claim(&self) -> Option<usize> {
        let owners = self.region.words().get(OWNERS..TABLE)?;
        owners.iter().position(|owner| owner.compare_exchange(0, self.me, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    fn sweep(&self) {
        let Ok(_alone) = self.sweeping.try_lock() else { return };
        let owners = self.region.words().get(OWNERS..TABLE).unwrap_or_default();
        for (slot, owner) in owners.iter().enumerate().filter(|(slot, _)| Some(*slot) != self.slot) {
            let found = owner.load(Ordering::Acquire);
            // A slot that is being emptied is ours meanwhile: two that sweep at once must not empty what a third has
            // taken since, and should we die over it, the next one finds us dead.
            let dead = found != 0 && (found == self.me || !process::is_alive(found));
            if dead && owner.compare_exchange(found, self.me, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.empty(slot);
                owner.store(0, Ordering::Release);
            }
        }
    }

    fn empty(&self, slot: usize) {
        let counts = self.region.words().get(COUNTS..).unwrap_or_default();
        counts.iter().skip(slot).step_by(SLOTS).for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let Some(owner) = self.region.words().get(OWNERS + slot) else { return };
        if owner.load(Ordering::Acquire) == self.me {
            self.empty(slot);
            owner.store(0, Ordering::Release);
        }
    }
}

/// Nobody else has the words: counts of the dead go; marks and the last pick stay when the words are ours.
fn begin(words: &[AtomicU64]) {
    let table = words.get(TABLE..COUNTS).unwrap_or_default();
    let used = table.iter().step_by(FIELDS).filter(|hash| hash.load(Ordering::Relaxed) != 0).count();
    let ours = words.first().is_some_and(|magic| magic.load(Ordering::Relaxed) == MAGIC);
    for (at, word) in words.iter().enumerate() {
        let stays = (PICKED..=PICKED_AT).contains(&at) || (TABLE..COUNTS).contains(&at);
        if !ours || used > CROWDED || !stays {
            word.store(0, Ordering::Relaxed);
        }
    }
    if let Some(magic) = words.first() {
        magic.store(MAGIC, Ordering::Release);
    }
}

/// The profile's entry in the table, made when it is new. `None`: the table is full.
fn lookup(words: &[AtomicU64], hash: u64) -> Option<usize> {
    let first = (hash % PROFILES as u64) as usize;
    (0..PROFILES).map(|step| (first + step) % PROFILES).find(|index| {
        words.get(TABLE + index * FIELDS).is_some_and(|word| {
            let known = word.load(Ordering::Relaxed);
            known == hash
                || known == 0
                    && match word.compare_exchange(0, hash, Ordering::AcqRel, Ordering::Relaxed) {
                        Ok(_) => true,
                        Err(taken) => taken == hash,
                    }
        })
    })
}

fn believed_count(word: &AtomicU64) -> u64 {
    Some(word.load(Ordering::Relaxed)).filter(|count| *count <= MAX_COUNT).unwrap_or(0)
}

fn believed_until(until: u64, now: u64, most: u64) -> Option<u64> {
    (until > now && until - now <= most).then_some(until)
}

/// Never 0, which is an empty place.
fn hash(text: &[u8]) -> u64 {
    fnv1a(text).max(1)
}

#[cfg(test)]
mod tests;
