//! How much may be tried before something goes to codex (spec S-56). Pure; `now` is an argument.

use std::time::{Duration, Instant};

/// Fresh work: so many attempts, none begun after so long. A continuation has more of both: it cannot go elsewhere
/// cheaply (0.2.38's figures).
const ATTEMPTS: u32 = 12;
const TIME: Duration = Duration::from_secs(3);
const PINNED_ATTEMPTS: u32 = 24;
const PINNED_TIME: Duration = Duration::from_secs(12);

/// An attempt at an account that is silent takes longer than all the time there is: one move after it.
const ALWAYS: u32 = 2;

#[derive(Debug, Clone)]
pub struct Budget {
    began: Instant,
    attempts: u32,
    max_attempts: u32,
    max_time: Duration,
}

impl Budget {
    pub fn new(now: Instant, pinned: bool) -> Budget {
        let (max_attempts, max_time) = if pinned { (PINNED_ATTEMPTS, PINNED_TIME) } else { (ATTEMPTS, TIME) };
        Budget { began: now, attempts: 0, max_attempts, max_time }
    }

    /// Takes one attempt; false when none is left. Two are always allowed: whoever waited long for a lane still gets one,
    /// and who is left because it is silent is left for somebody.
    pub fn take(&mut self, now: Instant) -> bool {
        let allowed = self.attempts < ALWAYS
            || (self.attempts < self.max_attempts && now.saturating_duration_since(self.began) < self.max_time);
        self.attempts += u32::from(allowed);
        allowed
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_by_count_and_by_time() {
        let t0 = Instant::now();
        let mut by_count = Budget::new(t0, false);
        assert_eq!((0..100).filter(|_| by_count.take(t0)).count(), 12);
        let mut by_time = Budget::new(t0, false);
        assert!(by_time.take(t0), "the first always");
        assert!(by_time.take(t0 + Duration::from_secs(60)), "and one move");
        assert!(!by_time.take(t0 + Duration::from_secs(3)));
        let mut pinned = Budget::new(t0, true);
        assert!(pinned.take(t0) && pinned.take(t0 + Duration::from_secs(11)));
        assert!(!pinned.take(t0 + Duration::from_secs(12)));
    }
}
