//! Which account takes fresh work: the one deterministic rule of the program, for `run`, the proxy and `why` alike.
//! Pure. Knows nothing of continuations: those go to their owner before anybody asks here.
//!
//! The idea: an idle account's clock does not run, so its next refill does not come closer. Rule A starts idle clocks,
//! half staggered; rule B spends where most is left for the time that is left.

use super::{Readiness, Reading, Window, span_words};
use std::cmp::Ordering;

/// Windows longer than this are long ones (weekly, monthly); the rest are short ones (5 h).
const LONG: u64 = 86_400;
/// A fresh session wants this share of the short window, or it will soon have to move. Halves moves.
const ROOMY: f64 = 0.20;
/// Weight of the short window's pace against the long one's: a tie-break.
const SHORT_WEIGHT: f64 = 0.25;
/// Cost of one active session on an account of the largest capacity.
const LOAD_WEIGHT: f64 = 0.10;
/// No score is below this.
const WORST: f64 = -5.0;
/// Fresh sessions this close together stay on one account: free, and kinder to the accounts. Seconds.
const GUARD: u64 = 60;

/// What the rule looks at. The order of the slice is the profile order.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub name: &'a str,
    pub reading: Option<&'a Reading>,
    /// Runs that were at work on it in the last 10 minutes, plus requests in flight.
    pub active: u32,
    /// Unix seconds.
    pub last_selected: Option<u64>,
    /// Kept back: fresh work leaves this many percent of each window.
    pub reserve: u8,
    /// The user took it out: its clock counts for nothing.
    pub disabled: bool,
    /// Why it cannot be used whatever its quota says: backoff, login.
    pub blocked: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    pub name: String,
    pub eligible: bool,
    /// Rule B's score; none without a reading.
    pub score: Option<f64>,
    /// Every number that was used: `week 62% left / 3d 4h (pace x1.37), 5h 81% (2h 10m), 1 active -> 0.31`.
    pub numbers: String,
    /// What gave it its place.
    pub rule: Rule,
}

/// What gave a candidate its place in the ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The last fresh pick was less than a minute ago.
    Guard,
    /// Rule A: its long clock is to be started.
    Start,
    /// Rule B, with room in the short window.
    Pace,
    /// Rule B, with little room in the short window.
    Thin,
    /// Its long clock does not run, and it is not time to start it.
    Spare,
    /// Nothing is known about its quota.
    Unmeasured,
    Ineligible,
}

impl Rule {
    pub fn words(self) -> &'static str {
        match self {
            Rule::Guard => "picked less than a minute ago",
            Rule::Start => "starts an idle clock",
            Rule::Pace => "best pace",
            Rule::Thin => "little left in the short window",
            Rule::Spare => "clock kept for later",
            Rule::Unmeasured => "quota unknown",
            Rule::Ineligible => "cannot be used",
        }
    }
}

/// Every candidate, best first; those that cannot be used come last. The first one, when it is eligible, is the pick.
/// `last_pick` is the last fresh pick and its unix time.
pub fn rank(candidates: &[Candidate], now: u64, last_pick: Option<(&str, u64)>) -> Vec<Ranked> {
    // An account that cannot be used and was never measured has no clock that matters (no login, for example).
    let enabled = |c: &&Candidate| !c.disabled && (c.reading.is_some() || c.blocked.is_none());
    let cap_max = candidates.iter().filter(enabled).map(|c| capacity(c.reading)).fold(0.0, f64::max);
    let mut facts: Vec<Facts> = candidates.iter().map(|c| Facts::of(c, cap_max, now)).collect();

    let start = to_start(&facts, candidates.iter().filter(enabled).count());
    let guarded = last_pick.filter(|(_, at)| now.abs_diff(*at) <= GUARD).map(|(name, _)| name);
    let spare_room = facts.iter().any(|f| f.eligible() && f.untouched() && f.roomy());
    for (index, f) in facts.iter_mut().enumerate() {
        f.rule = match (&f.long, f.eligible()) {
            (_, false) => Rule::Ineligible,
            (Some(_), true) if f.roomy() && guarded == Some(f.candidate.name) => Rule::Guard,
            (Some(_), true) if start == Some(index) => Rule::Start,
            (Some(_), true) if f.untouched() => Rule::Spare,
            (Some(_), true) if f.roomy() => Rule::Pace,
            (Some(_), true) => Rule::Thin,
            (None, true) => Rule::Unmeasured,
        };
    }
    facts.sort_by(|a, b| compare(a, b, spare_room));
    facts.iter().map(Facts::ranked).collect()
}

/// A window as the rule sees it.
struct Clock {
    label: String,
    /// Share left, 0 to 1.
    left: f64,
    /// Share of the period that is still to come, 0 to 1.
    time: f64,
    seconds: u64,
    untouched: bool,
}

impl Clock {
    fn of(window: &Window, now: u64) -> Option<Clock> {
        let left = window.left(now)? / 100.0;
        let seconds = window.time_left(now);
        let time = if window.length == 0 { 1.0 } else { seconds as f64 / window.length as f64 };
        Some(Clock { label: window.label(), left, time, seconds, untouched: window.untouched(now) })
    }

    /// Above 1: more is left than time to spend it in.
    fn pace(&self) -> f64 {
        self.left / self.time.max(0.01)
    }
}

struct Facts<'a> {
    candidate: &'a Candidate<'a>,
    /// The long window; the short one where it is the only one.
    long: Option<Clock>,
    short: Option<Clock>,
    /// The least left in any short window, also where it stands in for the long one.
    short_left: f64,
    refused: Option<String>,
    score: Option<f64>,
    rule: Rule,
}

impl<'a> Facts<'a> {
    fn of(candidate: &'a Candidate<'a>, cap_max: f64, now: u64) -> Facts<'a> {
        let windows = candidate.reading.map_or(&[][..], |reading| &reading.windows);
        // Where the backend reports several of a kind, the tightest one that runs decides.
        let tightest = |wanted: &dyn Fn(&Window) -> bool| {
            let clocks = windows.iter().filter(|w| wanted(w)).filter_map(|w| Clock::of(w, now));
            clocks.min_by(|a, b| a.untouched.cmp(&b.untouched).then(a.pace().total_cmp(&b.pace())))
        };
        let mut short = tightest(&|w| w.length <= LONG);
        let long = tightest(&|w| w.length > LONG).or_else(|| short.take());
        let short_left = windows.iter().filter(|w| w.length <= LONG).filter_map(|w| w.left(now)).fold(100.0, f64::min);
        let disabled = candidate.disabled.then(|| "disabled".to_owned());
        let refused =
            disabled.or_else(|| candidate.blocked.clone()).or_else(|| match candidate.reading?.readiness(now) {
                Readiness::Blocked(_) if windows.iter().any(|w| w.exhausted(now)) => Some("exhausted".to_owned()),
                Readiness::Blocked(_) => Some("refused by the backend".to_owned()),
                Readiness::Ready | Readiness::Unknown => candidate
                    .reading?
                    .held_back_until(candidate.reserve, now)
                    .map(|_| format!("{}% kept back", candidate.reserve)),
            });
        let load = f64::from(candidate.active) * (cap_max / capacity(candidate.reading));
        let score = long.as_ref().map(|long| {
            let short = short.as_ref().map_or(0.0, |short| short.left - short.time);
            long.pace().ln().max(WORST) + SHORT_WEIGHT * short - LOAD_WEIGHT * load
        });
        let rule = Rule::Ineligible;
        Facts { candidate, long, short, short_left: short_left / 100.0, refused, score, rule }
    }

    fn eligible(&self) -> bool {
        self.refused.is_none()
    }

    fn roomy(&self) -> bool {
        self.short_left >= ROOMY
    }

    fn untouched(&self) -> bool {
        self.long.as_ref().is_some_and(|long| long.untouched)
    }

    fn running(&self) -> bool {
        !self.candidate.disabled && self.long.as_ref().is_some_and(|long| !long.untouched)
    }

    fn ranked(&self) -> Ranked {
        Ranked {
            name: self.candidate.name.to_owned(),
            eligible: self.eligible(),
            score: self.score,
            numbers: self.numbers(),
            rule: self.rule,
        }
    }

    fn numbers(&self) -> String {
        let percent = |share: f64| (share * 100.0).round() as u32;
        let mut parts = Vec::new();
        if let Some(long) = &self.long {
            let name = match long.label.as_str() {
                "weekly" => "week",
                "monthly" => "month",
                other => other,
            };
            let left = percent(long.left);
            if long.untouched {
                parts.push(format!("{name} {left}% left, not started"));
            } else {
                parts.push(format!("{name} {left}% left / {} (pace x{:.2})", span_words(long.seconds), long.pace()));
            }
        } else {
            parts.push("quota unknown".to_owned());
        }
        if let Some(short) = &self.short {
            let time = if short.untouched { "not started".to_owned() } else { span_words(short.seconds) };
            parts.push(format!("{} {}% ({time})", short.label, percent(short.left)));
        }
        parts.push(format!("{} active", self.candidate.active));
        let verdict = match (&self.refused, self.score) {
            (Some(reason), _) => format!(" -> no: {reason}"),
            (None, Some(score)) => format!(" -> {score:.2}"),
            (None, None) => String::new(),
        };
        format!("{}{verdict}", parts.join(", "))
    }
}

/// Rule A: the index of the account whose clock is to be started now. `enabled` is N of the rule.
fn to_start(facts: &[Facts], enabled: usize) -> Option<usize> {
    let idle = facts.iter().position(|f| f.eligible() && f.untouched())?;
    // Exhausted accounts count: their clocks run as well. Shares make weekly and monthly clocks comparable.
    let newest = facts.iter().filter(|f| f.running()).filter_map(|f| f.long.as_ref()).map(|long| long.time);
    let newest = newest.fold(0.0, f64::max);
    let nobody_runs = !facts.iter().any(|f| f.eligible() && f.running());
    // The clocks are spread by half a period divided by their number: a full spread is too strict by day and night.
    (nobody_runs || newest <= 1.0 - 0.5 / enabled.max(1) as f64).then_some(idle)
}

/// Best first. `spare_room`: an idle account with room exists, which the unmeasured ones must come after.
fn compare(a: &Facts, b: &Facts, spare_room: bool) -> Ordering {
    let tier = |f: &Facts| match f.rule {
        Rule::Guard => 0,
        Rule::Start => 1,
        Rule::Pace => 2,
        Rule::Unmeasured if !spare_room => 3,
        Rule::Thin => 4,
        Rule::Spare => 5,
        Rule::Unmeasured => 6,
        Rule::Ineligible => 7,
    };
    // As precise as it is shown: a second between two answers must not choose an account.
    let score = |f: &Facts| (f.score.unwrap_or(WORST) * 100.0).round();
    tier(a).cmp(&tier(b)).then_with(|| match a.rule {
        Rule::Pace | Rule::Thin | Rule::Unmeasured => {
            score(b).total_cmp(&score(a)).then_with(|| a.candidate.last_selected.cmp(&b.candidate.last_selected))
        }
        // The sort is stable: profile order.
        Rule::Guard | Rule::Start | Rule::Spare | Rule::Ineligible => Ordering::Equal,
    })
}

/// What a plan's window is worth, a Plus account being 1.
pub fn capacity(reading: Option<&Reading>) -> f64 {
    let plan = reading.and_then(|r| r.plan.as_deref()).unwrap_or_default().to_ascii_lowercase();
    match plan.as_str() {
        "free" => 0.15,
        "prolite" => 5.0,
        "pro" | "enterprise" => 6.67,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests;
