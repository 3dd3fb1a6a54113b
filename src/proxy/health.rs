//! What is wrong with a profile and until when: quota, transport, login. Three separate memories, each with its own clock
//! (spec S-57). Pure; `now` is an argument. Knows nothing of requests.

use super::limits::LONGEST_QUOTA;
use super::route::Lane;
use super::verdict::Trouble;
use std::time::{Duration, Instant};

/// A quota answer that names no reset is believed this long (0.2.38's figure).
const QUOTA_DEFAULT: Duration = Duration::from_secs(20);
/// An account whose plan has no codex is left out for a day, by all of the user's runs, unless nobody else is left.
const NOT_INCLUDED: Duration = Duration::from_secs(24 * 3600);
/// A refresh that failed for a reason that may pass, or a login that somebody else refreshes: not asked again so soon.
const LOGIN_PAUSE: Duration = Duration::from_secs(60);
/// An overloaded answer says little about the account; long enough to try another one first. Other runs are not told: it
/// would be over before it helped them.
const OVERLOAD: Duration = Duration::from_secs(10);
/// Penalties, for one kind of work each: a transport failure weighs more than an overloaded answer; one point is forgotten
/// in a minute; beyond the cap more failures tell nothing new (0.2.38's figures).
const TRANSPORT_PENALTY: u32 = 4;
const OVERLOAD_PENALTY: u32 = 2;
const MAX_PENALTY: u32 = 16;
const FORGET_POINT: Duration = Duration::from_secs(60);
/// Transport backoff: doubles while failures follow each other (0.2.38's figures).
const TRANSPORT_FIRST: Duration = Duration::from_secs(15);
const TRANSPORT_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Default)]
pub struct Health {
    quota_until: Option<Instant>,
    transport_until: Option<Instant>,
    transport_step: Option<Duration>,
    /// When the last failure to reach it was recorded.
    transport_at: Option<Instant>,
    overload_until: Option<Instant>,
    /// The token that was refused, by fingerprint: until auth.json holds another one, nothing has changed.
    refused_token: Option<u64>,
    /// Until when a login that could not be settled is not tried again.
    login_until: Option<Instant>,
    /// When the last trouble was recorded.
    troubled: Option<Instant>,
    penalties: [Penalty; 4],
}

/// Points as of a moment; they decay.
#[derive(Debug, Clone, Copy, Default)]
struct Penalty {
    points: u32,
    since: Option<Instant>,
}

impl Penalty {
    fn at(self, now: Instant) -> u32 {
        let Some(since) = self.since else { return 0 };
        let forgotten = now.saturating_duration_since(since).as_secs() / FORGET_POINT.as_secs();
        self.points.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    fn add(&mut self, points: u32, now: Instant) -> u32 {
        *self = Penalty { points: (self.at(now) + points).min(MAX_PENALTY), since: Some(now) };
        self.points
    }
}

/// One profile's state for selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    Yes,
    /// Not before that moment.
    After(Instant),
    /// Its login was refused: only a new one helps.
    LoginNeeded,
}

impl Usable {
    /// The worse of two opinions.
    #[must_use]
    pub fn and(self, other: Usable) -> Usable {
        match (self, other) {
            (Usable::LoginNeeded, _) | (_, Usable::LoginNeeded) => Usable::LoginNeeded,
            (Usable::After(one), Usable::After(two)) => Usable::After(one.max(two)),
            (Usable::After(until), Usable::Yes) | (Usable::Yes, Usable::After(until)) => Usable::After(until),
            (Usable::Yes, Usable::Yes) => Usable::Yes,
        }
    }
}

/// What the record of a trouble amounts to, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    Quota(Duration),
    Transport(Duration),
    Overload(Duration),
    Login,
    LoginLater(Duration),
}

impl Health {
    /// The trouble of an exchange that began at `since`. `unix` is the wall clock in seconds: the backend names resets by it.
    /// `token` is the fingerprint of the credential that was used.
    pub fn record(
        &mut self,
        trouble: &Trouble,
        token: u64,
        since: Instant,
        now: Instant,
        unix: u64,
    ) -> Option<Backoff> {
        if matches!(trouble, Trouble::ForeignContent | Trouble::UnknownResponse) {
            // About the request, not the account.
            return None;
        }
        let is_news = self.is_news(since);
        self.troubled = Some(now);
        Some(match trouble {
            Trouble::ForeignContent | Trouble::UnknownResponse => return None,
            Trouble::Quota { resets_at, retry_after } => {
                let named = resets_at.map(|at| Duration::from_secs(at.saturating_sub(unix)));
                let wait = named.or(*retry_after).unwrap_or(QUOTA_DEFAULT).clamp(Duration::from_secs(1), LONGEST_QUOTA);
                self.quota_until = Some(later(self.quota_until, now + wait));
                Backoff::Quota(wait)
            }
            Trouble::NotIncluded => {
                self.quota_until = Some(later(self.quota_until, now + NOT_INCLUDED));
                Backoff::Quota(NOT_INCLUDED)
            }
            Trouble::Overload { retry_after } => {
                let wait = retry_after.unwrap_or(OVERLOAD).clamp(Duration::from_secs(1), TRANSPORT_MAX);
                self.overload_until = Some(later(self.overload_until, now + wait));
                Backoff::Overload(wait)
            }
            Trouble::Transport => {
                let active = self.transport_until.is_some_and(|until| until > now);
                let step = match self.transport_step {
                    Some(step) if active && is_news => (step * 2).min(TRANSPORT_MAX),
                    Some(step) if active => step,
                    _ => TRANSPORT_FIRST,
                };
                self.transport_step = Some(step);
                self.transport_at = Some(now);
                self.transport_until = Some(now + step);
                Backoff::Transport(step)
            }
            Trouble::Unauthorized => {
                self.refused_token = Some(token);
                Backoff::Login
            }
            Trouble::LoginUnsettled => {
                self.login_until = Some(now + LOGIN_PAUSE);
                Backoff::LoginLater(LOGIN_PAUSE)
            }
        })
    }

    /// One break of the network ends many exchanges at once: it counts as one, so only what began after the last failure is
    /// another one.
    fn is_news(&self, since: Instant) -> bool {
        self.transport_at.is_none_or(|at| at <= since)
    }

    /// A failure, of an exchange that began at `since`, counts against `lane` for a while. Gives the points added and the sum;
    /// `None` for a trouble that has a memory of its own.
    pub fn penalise(&mut self, trouble: &Trouble, lane: Lane, since: Instant, now: Instant) -> Option<(u32, u32)> {
        let points = match trouble {
            Trouble::Transport if !self.is_news(since) => return None,
            Trouble::Transport => TRANSPORT_PENALTY,
            Trouble::Overload { .. } => OVERLOAD_PENALTY,
            _ => return None,
        };
        Some((points, self.penalties[lane as usize].add(points, now)))
    }

    pub fn penalty(&self, lane: Lane, now: Instant) -> u32 {
        self.penalties[lane as usize].at(now)
    }

    /// Real success in `lane`, of an exchange that began at `since`: the model answered. An error that was passed on, or an
    /// answer that costs no quota, never comes here. What went wrong meanwhile is not undone by what was begun before.
    /// True when it was all cleared.
    pub fn succeed(&mut self, lane: Lane, since: Instant) -> bool {
        let mut penalties = self.penalties;
        penalties[lane as usize] = Penalty::default();
        if self.troubled.is_some_and(|at| at > since) {
            self.penalties = penalties;
            return false;
        }
        *self = Health { penalties, ..Health::default() };
        true
    }

    /// The backend, asked at `since`, says itself that there is quota left. True when nothing went wrong meanwhile.
    pub fn has_quota(&mut self, since: Instant) -> bool {
        let stands = self.troubled.is_none_or(|at| at <= since);
        if stands {
            self.quota_until = None;
        }
        stands
    }

    /// Some token was refused: whether it still stands is for [`Health::usable`] to say.
    pub fn was_refused(&self) -> bool {
        self.refused_token.is_some()
    }

    /// That very token was refused before.
    pub fn refused(&self, token: u64) -> bool {
        self.refused_token == Some(token)
    }

    /// `token` is the fingerprint of the credential that would be used.
    pub fn usable(&self, token: u64, now: Instant) -> Usable {
        if self.refused(token) {
            return Usable::LoginNeeded;
        }
        let until =
            [self.quota_until, self.transport_until, self.overload_until, self.login_until].into_iter().flatten().max();
        match until {
            Some(until) if until > now => Usable::After(until),
            _ => Usable::Yes,
        }
    }
}

fn later(known: Option<Instant>, new: Instant) -> Instant {
    known.map_or(new, |known| known.max(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: u64 = 7;
    const UNIX: u64 = 1_000_000;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn quota_lasts_until_the_named_reset() {
        let t0 = Instant::now();
        let table = [
            (Some(UNIX + 7200), None, 7200),
            (None, Some(secs(30)), 30),
            (None, None, 20),
            (Some(UNIX - 5), None, 1),
            (Some(u64::MAX), None, 32 * 24 * 3600),
        ];
        for (resets_at, retry_after, wait) in table {
            let mut health = Health::default();
            let backoff = health.record(&Trouble::Quota { resets_at, retry_after }, TOKEN, t0, t0, UNIX);
            assert_eq!(backoff, Some(Backoff::Quota(secs(wait))));
            assert_eq!(health.usable(TOKEN, t0), Usable::After(t0 + secs(wait)));
            assert_eq!(health.usable(TOKEN, t0 + secs(wait)), Usable::Yes);
        }
    }

    #[test]
    fn transport_doubles_while_it_lasts_and_starts_anew_after() {
        let t0 = Instant::now();
        let mut health = Health::default();
        let steps: Vec<Option<Backoff>> =
            (0..5).map(|_| health.record(&Trouble::Transport, TOKEN, t0, t0, UNIX)).collect();
        assert_eq!(steps, [15, 30, 60, 120, 120].map(|s| Some(Backoff::Transport(secs(s)))));
        let later = t0 + secs(500);
        assert_eq!(health.record(&Trouble::Transport, TOKEN, later, later, UNIX), Some(Backoff::Transport(secs(15))));
    }

    #[test]
    fn an_overload_is_short_whatever_it_asks_for() {
        let t0 = Instant::now();
        for (retry_after, wait) in [(None, 10), (Some(secs(77)), 77), (Some(secs(7_000)), 120), (Some(secs(0)), 1)] {
            let mut health = Health::default();
            let backoff = health.record(&Trouble::Overload { retry_after }, TOKEN, t0, t0, UNIX);
            assert_eq!(backoff, Some(Backoff::Overload(secs(wait))));
            assert_eq!(health.usable(TOKEN, t0 + secs(wait)), Usable::Yes);
        }
    }

    #[test]
    fn a_clock_that_is_wrong_keeps_nobody_out_for_ever() {
        let t0 = Instant::now();
        // The wall clock at the answer; the reset is an hour after `UNIX`.
        for (unix, wait) in [(UNIX, 3_600), (0, UNIX + 3_600), (UNIX * 1_000, 1), (u64::MAX, 1)] {
            let mut health = Health::default();
            let quota = Trouble::Quota { resets_at: Some(UNIX + 3_600), retry_after: None };
            health.record(&quota, TOKEN, t0, t0, unix);
            let wait = secs(wait).min(LONGEST_QUOTA);
            // Once it is taken in, the wall clock may jump as it likes.
            assert_eq!(health.usable(TOKEN, t0), Usable::After(t0 + wait), "{unix}");
            assert!(health.has_quota(t0));
            assert_eq!(health.usable(TOKEN, t0), Usable::Yes, "the backend's own word ends it");
        }
    }

    #[test]
    fn a_refused_login_ends_with_another_token() {
        let t0 = Instant::now();
        let mut health = Health::default();
        health.record(&Trouble::Unauthorized, TOKEN, t0, t0, UNIX);
        assert_eq!(health.usable(TOKEN, t0 + secs(1_000_000)), Usable::LoginNeeded);
        assert_eq!(health.usable(TOKEN + 1, t0), Usable::Yes);
    }

    #[test]
    fn memories_do_not_mix_and_success_clears() {
        let t0 = Instant::now();
        let mut health = Health::default();
        health.record(&Trouble::Quota { resets_at: Some(UNIX + 100), retry_after: None }, TOKEN, t0, t0, UNIX);
        health.record(&Trouble::Transport, TOKEN, t0, t0, UNIX);
        assert_eq!(
            health.usable(TOKEN, t0 + secs(20)),
            Usable::After(t0 + secs(100)),
            "a short backoff hides no long one"
        );
        assert!(
            !health.succeed(Lane::Responses, t0.checked_sub(secs(1)).unwrap()),
            "what was begun before undoes nothing"
        );
        assert_eq!(health.usable(TOKEN, t0 + secs(20)), Usable::After(t0 + secs(100)));
        assert!(health.succeed(Lane::Responses, t0));
        assert_eq!(health.usable(TOKEN, t0), Usable::Yes);
    }

    #[test]
    fn penalties_are_a_lane_s_own_and_fade() {
        let t0 = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.penalise(&Trouble::Transport, Lane::Responses, t0, t0), Some((4, 4)));
        assert_eq!(health.penalise(&Trouble::Overload { retry_after: None }, Lane::Responses, t0, t0), Some((2, 6)));
        assert_eq!(health.penalise(&Trouble::Unauthorized, Lane::Responses, t0, t0), None);
        assert_eq!(health.penalty(Lane::Compact, t0), 0);
        assert_eq!(health.penalty(Lane::Responses, t0 + secs(59)), 6);
        assert_eq!(health.penalty(Lane::Responses, t0 + secs(120)), 4);
        assert_eq!(health.penalty(Lane::Responses, t0 + secs(100_000)), 0);
        for _ in 0..9 {
            health.penalise(&Trouble::Transport, Lane::Compact, t0, t0);
        }
        assert_eq!(health.penalty(Lane::Compact, t0), 16);
        health.succeed(Lane::Compact, t0);
        assert_eq!((health.penalty(Lane::Compact, t0), health.penalty(Lane::Responses, t0)), (0, 6));
    }
}
