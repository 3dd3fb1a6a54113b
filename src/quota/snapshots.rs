//! What the user's processes know together of each account's quota (spec S-46): the last reading, when the backend was
//! last asked, and how the windows went during the last hour. Pure; on disk it is `shelf`'s.
//!
//! A reading comes from a usage call, or for free from an answer that passed through the proxy. One document holds all, so
//! that no process asks for what another one knows already.

use super::{Limit, Reading, Window, usage};
use crate::wire::hash::fnv1a;
use crate::wire::json::Raw;
use crate::wire::url::Url;
use crate::wire::value::Value;
use std::collections::BTreeMap;

/// Of one account no usage call begins sooner after the last one, by whichever process (spec S-46). Seconds.
pub const INTERVAL: u64 = 30;
/// A reading this old still serves to choose an account where nothing newer comes in time. Seconds.
pub const USABLE: u64 = 600;
/// What the pace is taken over. Seconds.
const HOUR: u64 = 3_600;
/// Samples are taken this far apart, or when a window moved; kept for an hour and one more before it.
const SAMPLE_EVERY: u64 = 300;
const MAX_SAMPLES: usize = 128;
/// Profiles in one document, windows of one sample: far above what a person has.
const MAX_PROFILES: usize = 512;
const MAX_WINDOWS: usize = 8;
/// Clocks of two machines, or before and after a correction, differ by less. Seconds.
const SKEW: u64 = 60;
const VERSION: u64 = 1;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshots {
    profiles: BTreeMap<String, Snapshot>,
}

/// One profile's account as it is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Whose it is: another login in the same profile makes it void. See [`account`].
    account: String,
    /// The newest; parts of it may be older than `taken_at` where an answer told of some windows only.
    pub reading: Option<Reading>,
    /// When the last usage call began; Unix seconds, 0 for never.
    pub asked_at: u64,
    /// Why the last usage call gave no reading: one line for people.
    pub problem: Option<String>,
    samples: Vec<Sample>,
}

/// The main windows at one moment.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    at: u64,
    windows: Vec<Window>,
}

/// How much a reading tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A usage call's: what it does not name is not there.
    Whole,
    /// From headers or an event of one answer: what it does not name is as before.
    Part,
}

/// Tells one account from another without naming it, by where its `usage` is asked for.
pub fn account(account_id: Option<&str>, usage: &Url) -> String {
    format!("{:016x}", fnv1a(format!("{}\n{usage}", account_id.unwrap_or_default()).as_bytes()))
}

impl Snapshots {
    /// Whatever of it cannot be read is as if it were not there: the next calls bring it back.
    pub fn parse(text: &[u8], now: u64) -> Snapshots {
        Snapshots::read(text, now, true)
    }

    /// Without how the windows went, which is nearly all of the text: for who only shows how they stand.
    pub fn parse_latest(text: &[u8], now: u64) -> Snapshots {
        Snapshots::read(text, now, false)
    }

    fn read(text: &[u8], now: u64, history: bool) -> Snapshots {
        let mut snapshots = Snapshots::default();
        let Ok(document) = Raw::parse(text) else { return snapshots };
        if document.member("version").and_then(|version| version.as_u64()) != Some(VERSION) {
            return snapshots;
        }
        let profiles = document.member("profiles");
        for (name, entry) in profiles.iter().flat_map(Raw::members).take(MAX_PROFILES) {
            if let Some(snapshot) = Snapshot::read(&entry, now, history) {
                snapshots.profiles.insert(name.into_owned(), snapshot);
            }
        }
        snapshots
    }

    pub fn text(&self) -> String {
        let profiles = self.profiles.iter().map(|(name, snapshot)| (name.clone(), snapshot.written())).collect();
        Value::of([("version", Value::from(VERSION)), ("profiles", Value::Object(profiles))]).compact()
    }

    /// What is known of that account under that profile.
    pub fn of(&self, profile: &str, account: &str) -> Option<&Snapshot> {
        self.profiles.get(profile).filter(|snapshot| snapshot.account == account)
    }

    /// Takes a reading in, unless a newer one is known. True when something changed.
    pub fn learn(&mut self, profile: &str, account: &str, reading: &Reading, extent: Extent) -> bool {
        self.entry(profile, account).is_some_and(|snapshot| snapshot.learn(reading, extent))
    }

    /// The last usage call gave no reading.
    pub fn failed(&mut self, profile: &str, account: &str, problem: &str) {
        if let Some(snapshot) = self.entry(profile, account) {
            snapshot.problem = Some(problem.to_owned());
        }
    }

    /// Whether the caller may ask the backend about that account now; if so it is noted that it does.
    pub fn claim(&mut self, profile: &str, account: &str, now: u64) -> bool {
        // Beyond the bound nobody's calls are counted, and nobody is kept from asking.
        let Some(snapshot) = self.entry(profile, account) else { return true };
        let due = snapshot.due_at(now) <= now;
        if due {
            snapshot.asked_at = now;
        }
        due
    }

    /// Somebody asks in any case.
    pub fn asked(&mut self, profile: &str, account: &str, now: u64) {
        if let Some(snapshot) = self.entry(profile, account) {
            snapshot.asked_at = now;
        }
    }

    /// A profile is no more.
    pub fn forget(&mut self, profile: &str) {
        self.profiles.remove(profile);
    }

    fn entry(&mut self, profile: &str, account: &str) -> Option<&mut Snapshot> {
        if !self.profiles.contains_key(profile) && self.profiles.len() >= MAX_PROFILES {
            return None;
        }
        let snapshot = self.profiles.entry(profile.to_owned()).or_default();
        if snapshot.account != account {
            *snapshot = Snapshot { account: account.to_owned(), ..Snapshot::default() };
        }
        Some(snapshot)
    }
}

impl Snapshot {
    /// When the next usage call may begin. Unix seconds.
    pub fn due_at(&self, now: u64) -> u64 {
        // A moment in the future is a clock that was wrong: it must not keep everybody from asking.
        let asked = if self.asked_at > now + SKEW { 0 } else { self.asked_at };
        let told = self.reading.as_ref().map_or(0, |reading| reading.taken_at).min(now);
        asked.max(told) + INTERVAL
    }

    /// The reading, while it is no older than `seconds`.
    pub fn fresh(&self, now: u64, seconds: u64) -> Option<&Reading> {
        self.reading.as_ref().filter(|reading| now.saturating_sub(reading.taken_at) <= seconds)
    }

    /// Percent points of the window of `length` that were used up during the last hour; `None` while less than ten
    /// minutes are known.
    pub fn pace(&self, length: u64, now: u64) -> Option<f64> {
        let points = self.samples.iter().filter(|sample| sample.at <= now).filter_map(|sample| {
            let window = sample.windows.iter().find(|window| window.length == length)?;
            Some((sample.at, window.used_percent?, window.resets_at))
        });
        let points: Vec<_> = points.collect();
        let begin = now.saturating_sub(HOUR);
        let mut spent = 0.0;
        let mut since = None;
        for pair in points.windows(2) {
            let [(from, before, ends), (to, after, _)] = [pair[0], pair[1]];
            if to <= begin {
                continue;
            }
            since = since.or(Some(from.max(begin)));
            // A window that was reset in between begins at 0; what was used up before its end is not known.
            let used = if ends.is_some_and(|at| at <= to) { after } else { (after - before).max(0.0) };
            // Of a stretch that began before the hour only its part counts.
            let part = (to - from.max(begin)) as f64 / (to - from).max(1) as f64;
            spent += used * part;
        }
        let known = now.saturating_sub(since?);
        (known >= 600).then(|| spent * HOUR as f64 / known as f64)
    }

    fn learn(&mut self, reading: &Reading, extent: Extent) -> bool {
        let known = self.reading.as_ref();
        // A reading from the future is a clock that was wrong since.
        let newer = |known: &Reading| known.taken_at > reading.taken_at && known.taken_at <= reading.taken_at + SKEW;
        if known.is_some_and(newer) {
            return false;
        }
        let merged = match (known, extent) {
            (Some(known), Extent::Part) => merge(known, reading),
            // A reading without a window would pass for a fresh one.
            (None, Extent::Part) if !tells_of_main(reading) => return false,
            _ => reading.clone(),
        };
        if extent == Extent::Whole {
            self.problem = None;
        }
        let changed = known
            .is_none_or(|known| Reading { taken_at: 0, ..known.clone() } != Reading { taken_at: 0, ..merged.clone() });
        self.sample(&merged);
        self.reading = Some(merged);
        changed || extent == Extent::Whole
    }

    fn sample(&mut self, reading: &Reading) {
        let at = reading.taken_at;
        let windows: Vec<Window> = reading.windows.iter().take(MAX_WINDOWS).cloned().collect();
        self.samples.retain(|sample| sample.at <= at);
        if self.samples.last().is_some_and(|last| last.windows == windows && at < last.at + SAMPLE_EVERY) {
            return;
        }
        self.samples.push(Sample { at, windows });
        // One from before the hour is what its first minutes are measured against.
        let old = self.samples.iter().filter(|sample| sample.at + HOUR < at).count();
        self.samples.drain(..old.saturating_sub(1));
        let many = self.samples.len().saturating_sub(MAX_SAMPLES);
        self.samples.drain(..many);
    }

    fn read(entry: &Raw, now: u64, history: bool) -> Option<Snapshot> {
        let number = |name: &str| entry.member(name)?.as_u64();
        let taken_at = number("taken_at").unwrap_or(0).min(now + SKEW);
        let reading = entry.member("usage").and_then(|usage| usage::parse(usage.bytes(), taken_at).ok());
        let samples = entry.member("samples").filter(|_| history);
        let samples = samples.iter().flat_map(Raw::elements).take(MAX_SAMPLES).filter_map(|sample| {
            let at = sample.member("at")?.as_u64().filter(|&at| at <= now + SKEW)?;
            Some(Sample { at, windows: usage::windows(sample.member("windows"), at) })
        });
        let mut samples: Vec<Sample> = samples.collect();
        samples.sort_by_key(|sample| sample.at);
        Some(Snapshot {
            account: entry.member("account")?.as_str()?.into_owned(),
            reading: reading.filter(|_| taken_at > 0),
            asked_at: number("asked_at").unwrap_or(0),
            problem: entry.member("problem").and_then(|problem| Some(problem.as_str()?.chars().take(300).collect())),
            samples,
        })
    }

    fn written(&self) -> Value {
        let samples = self.samples.iter().map(|sample| {
            Value::of([("at", Value::from(sample.at)), ("windows", usage::written_windows(&sample.windows))])
        });
        Value::of([
            ("account", Value::from(self.account.as_str())),
            ("asked_at", Value::from(self.asked_at)),
            ("taken_at", self.reading.as_ref().map_or(Value::Null, |reading| Value::from(reading.taken_at))),
            ("usage", self.reading.as_ref().map_or(Value::Null, usage::written)),
            ("problem", self.problem.as_deref().map_or(Value::Null, Value::from)),
            ("samples", Value::Array(samples.collect())),
        ])
    }
}

/// The event of another model's limit says nothing of the main one.
fn tells_of_main(part: &Reading) -> bool {
    !part.windows.is_empty() || part.limit_reached
}

/// `part` on top of what is known.
fn merge(known: &Reading, part: &Reading) -> Reading {
    let windows = if part.windows.is_empty() {
        known.windows.clone()
    } else {
        let mut windows = part.windows.clone();
        let named = |window: &&Window| !part.windows.iter().any(|new| new.label() == window.label());
        windows.extend(known.windows.iter().filter(named).cloned());
        windows.sort_unstable_by_key(|window| window.length);
        windows
    };
    let mut other_limits: Vec<Limit> = part.other_limits.clone();
    let named = |limit: &&Limit| !part.other_limits.iter().any(|new| new.name == limit.name);
    other_limits.extend(known.other_limits.iter().filter(named).cloned());
    let main = tells_of_main(part);
    Reading {
        plan: part.plan.clone().or_else(|| known.plan.clone()),
        email: part.email.clone().or_else(|| known.email.clone()),
        windows,
        other_limits,
        limit_reached: if main { part.limit_reached } else { known.limit_reached },
        reached_type: if main { part.reached_type.clone() } else { known.reached_type.clone() },
        credits: part.credits.clone().or_else(|| known.credits.clone()),
        reset_credits: part.reset_credits.or(known.reset_credits),
        // Of the main windows nothing newer is known.
        taken_at: if main { part.taken_at } else { known.taken_at },
    }
}

#[cfg(test)]
mod tests;
