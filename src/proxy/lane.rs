//! Lanes and admission: so many exchanges of a kind at once, and a short wait for a place (spec S-53, S-56).
//! Knows no requests and no profiles.

use super::limits::Limits;
use super::route::Lane;
use crate::sys::clock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub struct Lanes {
    limits: Limits,
    live: Mutex<Live>,
    freed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct Live {
    responses: usize,
    compact: usize,
    websocket: usize,
    standard: usize,
    /// Who waits for a place.
    waiting: usize,
}

impl Live {
    fn of(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Responses => &mut self.responses,
            Lane::Compact => &mut self.compact,
            Lane::WebSocket => &mut self.websocket,
            Lane::Standard => &mut self.standard,
        }
    }

    fn all(&self) -> usize {
        self.responses + self.compact + self.websocket + self.standard
    }
}

/// Which cap is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The lane's own.
    Lane { active: usize, limit: usize },
    /// That of all lanes together.
    All { active: usize, limit: usize },
}

/// A place in a lane; given back when it is dropped.
#[must_use]
pub struct Slot<'a> {
    lanes: &'a Lanes,
    lane: Lane,
}

/// How a place was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    No,
    /// Somebody left in time.
    For(Duration, Full),
}

impl Lanes {
    pub fn new(limits: Limits) -> Lanes {
        Lanes { limits, live: Mutex::default(), freed: Condvar::new() }
    }

    /// A place in `lane`, waiting for one within the limits; the error tells what was full, after that wait.
    pub fn admit(&self, lane: Lane) -> Result<(Slot<'_>, Waited), Full> {
        let mut live = self.lock();
        let Some(full) = self.full(&mut live, lane) else {
            *live.of(lane) += 1;
            return Ok((Slot { lanes: self, lane }, Waited::No));
        };
        let began = clock::now();
        let until = began + self.limits.admission_wait;
        loop {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(self.full(&mut live, lane).unwrap_or(full));
            }
            live.waiting += 1;
            live = self.freed.wait_timeout(live, left).unwrap_or_else(PoisonError::into_inner).0;
            live.waiting -= 1;
            if self.full(&mut live, lane).is_none() {
                *live.of(lane) += 1;
                let waited = clock::now().saturating_duration_since(began);
                return Ok((Slot { lanes: self, lane }, Waited::For(waited, full)));
            }
        }
    }

    fn full(&self, live: &mut Live, lane: Lane) -> Option<Full> {
        let (all, own, limit) = (live.all(), *live.of(lane), self.limits.of(lane));
        if own >= limit {
            Some(Full::Lane { active: own, limit })
        } else if all >= self.limits.active {
            Some(Full::All { active: all, limit: self.limits.active })
        } else {
            None
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut live = self.lanes.lock();
        *live.of(self.lane) -= 1;
        // All: who waits may wait for another lane, or for the total. To wake nobody costs a system call.
        if live.waiting > 0 {
            self.lanes.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(responses: usize, standard: usize, active: usize, wait: u64) -> Lanes {
        let admission_wait = Duration::from_millis(wait);
        Lanes::new(Limits { active, responses, standard, admission_wait, ..Limits::default() })
    }

    #[test]
    fn a_full_lane_keeps_its_own_out_and_nobody_else() {
        let lanes = lanes(1, 1, 10, 1);
        let (first, waited) = lanes.admit(Lane::Responses).unwrap();
        assert_eq!(waited, Waited::No);
        assert_eq!(lanes.admit(Lane::Responses).err(), Some(Full::Lane { active: 1, limit: 1 }));
        let (_other, _) = lanes.admit(Lane::Standard).unwrap();
        drop(first);
        assert!(lanes.admit(Lane::Responses).is_ok());
    }

    #[test]
    fn the_total_is_a_cap_of_its_own() {
        let lanes = lanes(5, 5, 2, 1);
        let _held = [lanes.admit(Lane::Responses).unwrap(), lanes.admit(Lane::Standard).unwrap()];
        assert_eq!(lanes.admit(Lane::Standard).err(), Some(Full::All { active: 2, limit: 2 }));
    }

    #[test]
    fn who_waits_gets_the_place_that_is_freed() {
        let lanes = lanes(1, 1, 10, 60_000);
        let (first, _) = lanes.admit(Lane::Responses).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lanes.admit(Lane::Responses).map(|(_slot, waited)| waited));
            drop(first);
            // It came before or after the drop: either way it is in.
            assert!(waiting.join().unwrap().is_ok());
        });
    }
}
