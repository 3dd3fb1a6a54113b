//! How much may be tried before something goes to codex, and how long one try may take (spec S-56). Pure; `now` is an
//! argument.

use super::route::Lane;
use std::time::{Duration, Instant};

/// Fresh work: so many attempts, none begun after so long. A continuation has more of both: it cannot go elsewhere
/// cheaply (0.2.38's figures).
const ATTEMPTS: u32 = 12;
const TIME: Duration = Duration::from_secs(3);
const PINNED_ATTEMPTS: u32 = 24;
const PINNED_TIME: Duration = Duration::from_secs(12);

/// An attempt at an account that is silent takes longer than all the time there is: one move after it.
const ALWAYS: u32 = 2;

/// Connecting is cut short for the sake of others, but not below this: one lost SYN is sent again after 1 s.
const LEAST_CONNECT: Duration = Duration::from_secs(1);

/// A network is slow for all: so many times what the last connection took is no sign of a black hole.
const PATIENT: u32 = 2;

/// A silent upstream that is connected has the request: it may be at work on it, and what it does is paid for. Somebody else
/// would do it again, without the prompt cache. So what is left of the budget does not count here: it is left once, after
/// what no stream's head takes (a second or two is usual), and the next may be as slow as the backend is.
const ANSWER_OF_MANY: Duration = Duration::from_secs(30);
/// With nobody else to ask it may think as long as codex would wait; a compact call thinks for minutes.
const ANSWER: Duration = Duration::from_secs(330);
/// A WebSocket's handshake asks for no work, so that leaving it costs nothing. Codex gives it 15 s in all (`wire.md` 11).
const HANDSHAKE_OF_MANY: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long one attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Name, address and TLS, when others wait for their turn.
    pub connect: Option<Duration>,
    /// From the request to the head of its answer.
    pub answer: Duration,
}

impl Allowance {
    /// Where nobody else could be asked.
    pub fn alone(lane: Lane) -> Allowance {
        Allowance { connect: None, answer: if lane == Lane::WebSocket { HANDSHAKE } else { ANSWER } }
    }

    /// How long connecting may take that has `usual` for it.
    pub fn connecting(&self, usual: Duration) -> Duration {
        self.connect.map_or(usual, |most| most.min(usual))
    }
}

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

    /// For the attempt that was just taken; `others`: somebody else could serve as well. Connecting may take half of what
    /// is left, so that a black hole leaves time for the next, and that one for a third. Whoever is the last that the time
    /// allows has all of it: a slow network still works. `pace` is what connecting takes here (codex's own calls come
    /// before its first turn): who is no slower than that is not left for it.
    pub fn allowance(&self, now: Instant, lane: Lane, others: bool, pace: Duration) -> Allowance {
        let alone = Allowance::alone(lane);
        if !others {
            return alone;
        }
        let left = self.max_time.saturating_sub(self.elapsed(now));
        let share = LEAST_CONNECT.max(left / 2).max(pace.saturating_mul(PATIENT));
        let is_last = self.attempts >= self.max_attempts || self.attempts >= ALWAYS && share >= left;
        let answer = match lane {
            Lane::Responses if self.attempts == 1 => ANSWER_OF_MANY,
            Lane::WebSocket if !is_last => HANDSHAKE_OF_MANY,
            _ => alone.answer,
        };
        Allowance { connect: (!is_last).then_some(share), answer }
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
    #[test]
    fn one_attempt_leaves_time_for_the_next() {
        let t0 = Instant::now();
        let ms = Duration::from_millis;
        let secs = Duration::from_secs;
        // Attempts taken, milliseconds gone, somebody else there: connecting, an answer, a handshake's.
        let table = [
            ("nobody else: the steps' own limits", 1, 0, false, None, 330, 10),
            ("half of what is left", 1, 0, true, Some(1500), 30, 5),
            ("half of the rest, but a second", 2, 1500, true, Some(1000), 330, 5),
            ("the last that the time allows has all of it", 3, 2500, true, None, 330, 10),
            ("quick refusals take nothing away", 5, 100, true, Some(1450), 330, 5),
            ("who waited long for a lane may still move once", 1, 9000, true, Some(1000), 30, 5),
            ("but once", 2, 9000, true, None, 330, 10),
            ("the last of all attempts", 12, 100, true, None, 330, 10),
        ];
        for (name, attempts, gone, others, connect, answer, handshake) in table {
            let mut budget = Budget::new(t0, false);
            assert_eq!((0..attempts).filter(|_| budget.take(t0)).count(), attempts, "{name}");
            let now = t0 + ms(gone);
            let expected = |answer| Allowance { connect: connect.map(ms), answer: secs(answer) };
            let allowed = |lane| budget.allowance(now, lane, others, ms(40));
            assert_eq!(allowed(Lane::Responses), expected(answer), "{name}");
            assert_eq!(allowed(Lane::WebSocket), expected(handshake), "{name}");
            assert_eq!(allowed(Lane::Compact), expected(330), "{name}: it thinks for minutes");
        }
        let mut budget = Budget::new(t0, false);
        budget.take(t0);
        for (pace, connect) in [(0, 1500), (700, 1500), (1200, 2400), (20_000, 40_000)] {
            let allowed = budget.allowance(t0, Lane::Responses, true, ms(pace));
            assert_eq!(allowed.connect, Some(ms(connect)), "where connecting takes {pace} ms");
        }
    }
}
