//! What is known about an account's quota: windows, limits, and whether the account can take work (spec S-41).
//! Pure: the time is an argument. Knows neither where a reading comes from (`usage`, `probe`) nor how it is drawn.

pub mod pool;
pub mod probe;
pub mod schedule;
pub mod shelf;
pub mod snapshots;
pub mod usage;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A window with at most this much used may be one whose clock does not run yet.
const UNTOUCHED_PERCENT: f64 = 1.0;

/// One period in which an account may spend so much.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Seconds; 0 when the backend did not say.
    pub length: u64,
    /// Finite and not negative; `None` when the backend did not say.
    pub used_percent: Option<f64>,
    /// Unix seconds.
    pub resets_at: Option<u64>,
}

impl Window {
    /// What people call it: by length, since the backend moves windows between its slots.
    pub fn label(&self) -> String {
        match self.length {
            0 => "window".to_owned(),
            17_700..=18_300 => "5h".to_owned(),
            601_200..=608_400 => "weekly".to_owned(),
            2_505_600..=2_678_400 => "monthly".to_owned(),
            n if n % DAY == 0 => format!("{}d", n / DAY),
            n if n % HOUR == 0 => format!("{}h", n / HOUR),
            n => format!("{n}s"),
        }
    }

    /// Its end has passed, so it is full again whatever the reading said.
    pub fn has_reset(&self, now: u64) -> bool {
        self.resets_at.is_some_and(|at| at <= now)
    }

    /// What is left, 0 to 100; `None` when unknown.
    pub fn left(&self, now: u64) -> Option<f64> {
        if self.has_reset(now) {
            return Some(100.0);
        }
        self.used_percent.map(|used| (100.0 - used).clamp(0.0, 100.0))
    }

    /// What is left as a whole number for people: rounded down, but 0 only when nothing is left.
    pub fn left_percent(&self, now: u64) -> Option<u32> {
        self.left(now).map(|left| if left > 0.0 { (left.floor() as u32).max(1) } else { 0 })
    }

    pub fn exhausted(&self, now: u64) -> bool {
        self.left(now).is_some_and(|left| left <= 0.0)
    }

    /// Seconds until the reset, at most the length; the whole length when nobody named a reset.
    pub fn time_left(&self, now: u64) -> u64 {
        match self.resets_at {
            Some(at) if at > now => {
                let left = at - now;
                if self.length == 0 { left } else { left.min(self.length) }
            }
            _ => self.length,
        }
    }

    /// Its clock does not run: the first request starts it. The backend reports such a window as 0 or 1 % used with a
    /// reset a full period away.
    pub fn untouched(&self, now: u64) -> bool {
        let slack = (self.length / 100).max(MINUTE);
        self.has_reset(now)
            || self.used_percent.is_some_and(|used| used <= UNTOUCHED_PERCENT)
                && self.time_left(now) >= self.length.saturating_sub(slack)
    }

    /// `5h 63% left`, `weekly not started`, `5h ?`.
    pub fn words(&self, now: u64) -> String {
        let label = self.label();
        match self.left_percent(now) {
            None => format!("{label} ?"),
            // A reset that passed since the reading: full is a fact, not started is a guess.
            Some(_) if self.untouched(now) && !self.has_reset(now) => format!("{label} not started"),
            Some(left) => format!("{label} {left}% left"),
        }
    }
}

/// A limit beside the main one: another model, code review. Shown, and never a reason to refuse the account.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// As the backend calls it: untrusted text.
    pub name: String,
    pub windows: Vec<Window>,
}

/// Paid credits beside the windows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Credits {
    pub has_credits: bool,
    pub unlimited: bool,
    /// As the backend writes it: untrusted text.
    pub balance: Option<String>,
}

/// One answer of the backend about one account. Texts in it are untrusted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    pub plan: Option<String>,
    pub email: Option<String>,
    /// The main limit's windows, shortest first.
    pub windows: Vec<Window>,
    pub other_limits: Vec<Limit>,
    /// The backend said that it refuses work now.
    pub limit_reached: bool,
    /// The kind of limit that was reached: `workspace_member_credits_depleted`, …
    pub reached_type: Option<String>,
    pub credits: Option<Credits>,
    /// Earned early resets that can be spent.
    pub reset_credits: Option<u64>,
    pub taken_at: u64,
}

/// Whether an account can take work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// At least one reason.
    Blocked(Vec<Block>),
    /// No main window is known.
    Unknown,
}

/// Why an account cannot take work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    Exhausted {
        /// The window's label.
        window: String,
        resets_at: Option<u64>,
    },
    /// Refused although no window is exhausted, for the reason that the backend gave.
    Refused(Option<String>),
}

impl Reading {
    /// Spec S-41: ready when no known main window is exhausted and at least one is known.
    pub fn readiness(&self, now: u64) -> Readiness {
        let mut blocks: Vec<Block> = self
            .windows
            .iter()
            .filter(|window| window.exhausted(now))
            .map(|window| Block::Exhausted { window: window.label(), resets_at: window.resets_at })
            .collect();
        // A window at 100 % explains the refusal, and a reset since then may have lifted it: believe it only otherwise.
        let explained = self.windows.iter().any(|w| w.has_reset(now) || w.used_percent.is_some_and(|u| u >= 100.0));
        if self.limit_reached && !explained {
            blocks.push(Block::Refused(self.reached_type.clone()));
        }
        if !blocks.is_empty() {
            Readiness::Blocked(blocks)
        } else if self.windows.iter().any(|window| window.left(now).is_some()) {
            Readiness::Ready
        } else {
            Readiness::Unknown
        }
    }

    /// `5h 63% left | weekly 88% left`; `-` without windows.
    pub fn remaining_words(&self, now: u64) -> String {
        if self.windows.is_empty() {
            return "-".to_owned();
        }
        self.windows.iter().map(|window| window.words(now)).collect::<Vec<_>>().join(" | ")
    }

    /// When a blocked account can work again: the last reset among its exhausted windows. `None` when it is not
    /// blocked, or nobody knows.
    pub fn earliest_useful_reset(&self, now: u64) -> Option<u64> {
        match self.readiness(now) {
            Readiness::Blocked(blocks) => blocks
                .iter()
                .map(|block| match block {
                    Block::Exhausted { resets_at, .. } => *resets_at,
                    Block::Refused(_) => None,
                })
                .try_fold(0, |latest, at| Some(at?.max(latest))),
            Readiness::Ready | Readiness::Unknown => None,
        }
    }

    /// Until when this account is kept back, that is, some window has no more than `reserve` percent left; 0 when nobody
    /// knows. `None`: it is not.
    pub fn held_back_until(&self, reserve: u8, now: u64) -> Option<u64> {
        let thin = |window: &&Window| reserve > 0 && window.left(now).is_some_and(|left| left <= f64::from(reserve));
        let thin = self.windows.iter().filter(thin).map(|window| window.resets_at);
        thin.reduce(|one, other| Some(one?.max(other?))).map(|until| until.unwrap_or(0))
    }

    /// The main window that stops the account first, as its place: the one with the least left, of exhausted ones the last to
    /// come back. `None` with fewer than two to choose from.
    pub fn binding(&self, now: u64) -> Option<usize> {
        let rank = |(index, window): (usize, &Window)| {
            let back = if window.exhausted(now) { window.resets_at.unwrap_or(u64::MAX) } else { 0 };
            Some((window.left(now)?, std::cmp::Reverse(back), index))
        };
        let known: Vec<_> = self.windows.iter().enumerate().filter_map(rank).collect();
        let first = known.iter().min_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))))?;
        (known.len() > 1).then_some(first.2)
    }

    /// The nearest reset of a main window that is still to come.
    pub fn nearest_reset(&self, now: u64) -> Option<u64> {
        self.windows.iter().filter_map(|window| window.resets_at).filter(|&at| at > now).min()
    }
}

/// A length of time in at most two units: `3d 4h`, `2h 10m`, `5m`, `0m`.
pub fn span_words(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / DAY, seconds % DAY / HOUR, seconds % HOUR / MINUTE);
    match (days, hours, minutes) {
        (0, 0, m) => format!("{m}m"),
        (0, h, 0) => format!("{h}h"),
        (0, h, m) => format!("{h}h {m}m"),
        (d, 0, _) => format!("{d}d"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn window(length: u64, used: f64, resets_in: u64) -> Window {
        Window { length, used_percent: Some(used), resets_at: Some(NOW + resets_in) }
    }

    fn reading(windows: Vec<Window>) -> Reading {
        Reading { windows, taken_at: NOW, ..Reading::default() }
    }

    fn exhausted(window: &str, resets_at: u64) -> Block {
        Block::Exhausted { window: window.to_owned(), resets_at: Some(resets_at) }
    }

    #[test]
    fn a_window_is_named_by_its_length() {
        let rows = [
            (17_699, "17699s"),
            (17_700, "5h"),
            (18_300, "5h"),
            (18_301, "18301s"),
            (604_800, "weekly"),
            (2_592_000, "monthly"),
            (86_400, "1d"),
            (7_200, "2h"),
            (0, "window"),
            (u64::MAX, "18446744073709551615s"),
        ];
        for (length, label) in rows {
            assert_eq!(window(length, 0.0, 1).label(), label);
        }
    }

    #[test]
    fn what_is_left_is_rounded_down_and_zero_means_zero() {
        let rows = [(37.0, 63), (36.5, 63), (99.9, 1), (100.0, 0), (250.0, 0), (0.0, 100), (0.4, 99)];
        for (used, left) in rows {
            assert_eq!(window(18_000, used, 60).left_percent(NOW), Some(left), "{used}");
        }
        let past = Window { length: 18_000, used_percent: Some(100.0), resets_at: Some(NOW) };
        assert_eq!(past.left_percent(NOW), Some(100));
        assert_eq!(past.words(NOW), "5h 100% left");
        let unknown = Window { used_percent: None, resets_at: None, length: 18_000 };
        assert_eq!((unknown.left_percent(NOW), unknown.words(NOW)), (None, "5h ?".to_owned()));
    }

    #[test]
    fn an_unstarted_window_is_little_used_and_a_full_period_from_its_reset() {
        assert!(window(18_000, 1.0, 17_820).untouched(NOW));
        assert!(!window(18_000, 1.0, 17_819).untouched(NOW));
        assert!(!window(18_000, 1.5, 18_000).untouched(NOW));
        assert!(window(604_800, 0.0, 700_000).untouched(NOW), "a reset beyond the period counts as the period");
        assert!(Window { length: 604_800, used_percent: Some(80.0), resets_at: Some(NOW - 1) }.untouched(NOW));
        let words = reading(vec![window(18_000, 0.0, 18_000), window(604_800, 12.0, 90_000)]).remaining_words(NOW);
        assert_eq!(words, "5h not started | weekly 88% left");
    }

    #[test]
    fn readiness_judges_the_windows_that_are_there() {
        let five = |used| window(18_000, used, 600);
        let week = |used| window(604_800, used, 90_000);
        let rows = [
            (vec![five(37.0), week(12.0)], Readiness::Ready),
            (vec![week(99.4)], Readiness::Ready),
            (vec![window(2_592_000, 3.0, 90_000)], Readiness::Ready),
            (vec![], Readiness::Unknown),
            (vec![Window { length: 18_000, used_percent: None, resets_at: None }], Readiness::Unknown),
            (vec![Window { length: 18_000, used_percent: None, resets_at: None }, week(3.0)], Readiness::Ready),
            (vec![five(100.0), week(12.0)], Readiness::Blocked(vec![exhausted("5h", NOW + 600)])),
            (
                vec![five(100.0), week(101.0)],
                Readiness::Blocked(vec![exhausted("5h", NOW + 600), exhausted("weekly", NOW + 90_000)]),
            ),
        ];
        for (windows, expected) in rows {
            assert_eq!(reading(windows.clone()).readiness(NOW), expected, "{windows:?}");
        }
        assert_eq!(reading(vec![five(100.0), week(12.0)]).readiness(NOW + 600), Readiness::Ready);
    }

    #[test]
    fn a_refusal_without_an_exhausted_window_blocks_until_a_reset() {
        let mut r = reading(vec![window(18_000, 40.0, 600), window(604_800, 10.0, 90_000)]);
        r.limit_reached = true;
        r.reached_type = Some("workspace_owner_credits_depleted".to_owned());
        assert_eq!(r.readiness(NOW), Readiness::Blocked(vec![Block::Refused(r.reached_type.clone())]));
        assert_eq!(r.earliest_useful_reset(NOW), None);
        assert_eq!(r.readiness(NOW + 600), Readiness::Ready);
        r.windows.clear();
        assert_eq!(r.readiness(NOW), Readiness::Blocked(vec![Block::Refused(r.reached_type.clone())]));
        r.windows = vec![window(18_000, 100.0, 600)];
        assert_eq!(r.readiness(NOW), Readiness::Blocked(vec![exhausted("5h", NOW + 600)]));
    }

    #[test]
    fn the_useful_reset_is_the_last_of_the_exhausted_windows() {
        let r = reading(vec![window(18_000, 100.0, 600), window(604_800, 100.0, 90_000)]);
        assert_eq!(r.earliest_useful_reset(NOW), Some(NOW + 90_000));
        assert_eq!(r.nearest_reset(NOW), Some(NOW + 600));
        let r = reading(vec![window(18_000, 100.0, 600), window(604_800, 50.0, 90_000)]);
        assert_eq!(r.earliest_useful_reset(NOW), Some(NOW + 600));
        assert_eq!(reading(vec![window(18_000, 50.0, 600)]).earliest_useful_reset(NOW), None);
    }

    #[test]
    fn the_window_with_the_least_left_binds() {
        let binding = |windows: Vec<Window>| reading(windows).binding(NOW);
        assert_eq!(binding(vec![window(18_000, 40.0, 600), window(604_800, 90.0, 90_000)]), Some(1));
        assert_eq!(binding(vec![window(18_000, 100.0, 600), window(604_800, 90.0, 90_000)]), Some(0));
        assert_eq!(binding(vec![window(18_000, 100.0, 600), window(604_800, 100.0, 90_000)]), Some(1));
        assert_eq!(binding(vec![window(18_000, 40.0, 600)]), None);
        assert_eq!(binding(vec![]), None);
    }

    #[test]
    fn spans_have_two_units() {
        let rows = [(0, "0m"), (59, "0m"), (300, "5m"), (7_800, "2h 10m"), (7_200, "2h"), (273_600, "3d 4h")];
        for (seconds, words) in rows {
            assert_eq!(span_words(seconds), words);
        }
    }
}
