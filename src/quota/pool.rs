//! All accounts together (spec S-45): how much is left, which reset matters next, and when it runs dry at the pace of the last
//! hour. Pure. Counts by each account's longest window, weighed by what its plan is worth.

use super::snapshots::{Snapshot, Snapshots};
use super::{Readiness, Reading, Window, schedule};
use crate::profile::Profile;

/// Farther ahead nobody plans: a pool that lasts so long lasts.
const HORIZON: u64 = 14 * 86_400;

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Accounts whose quota is known.
    pub known: usize,
    /// Of these, who can take work now.
    pub ready: usize,
    /// Percent of what all accounts have when full.
    pub left: f64,
    /// Percent of the same that was used up in the last hour; `None` while too little is known.
    pub per_hour: Option<f64>,
    /// When nothing is left at that pace, what resets until then counted in. Unix seconds; `None`: it lasts, or nobody knows.
    pub dry_at: Option<u64>,
    /// While some account is out: when the first one is back, and its place in the list. Unix seconds.
    pub next_back: Option<(u64, usize)>,
}

/// Of the profiles that take part in rotation: a disabled one stands in for nobody. Each with the account of which is known
/// what counts, if any does.
pub fn of_profiles<'a>(
    known: &Snapshots,
    profiles: impl Iterator<Item = (&'a Profile, Option<&'a str>)>,
    now: u64,
) -> Option<Pool> {
    let of = |(profile, account): (&Profile, Option<&str>)| {
        Some((known.of(&profile.name, account?).filter(|_| !profile.disabled)?, profile.reserve))
    };
    self::of(&profiles.map(of).collect::<Vec<_>>(), now)
}

/// `None` where no account's quota is known.
fn of(accounts: &[Option<(&Snapshot, u8)>], now: u64) -> Option<Pool> {
    let known: Vec<(usize, (&Snapshot, u8), &Reading, &Window)> = accounts
        .iter()
        .enumerate()
        .filter_map(|(index, snapshot)| {
            let (snapshot, reserve) = (*snapshot)?;
            let reading = snapshot.reading.as_ref()?;
            let longest = reading.windows.iter().filter(|window| window.left(now).is_some());
            Some((index, (snapshot, reserve), reading, longest.max_by_key(|window| window.length)?))
        })
        .collect();
    let worth: f64 = known.iter().map(|(_, _, reading, _)| schedule::capacity(Some(reading))).sum();
    // Who has none left in a shorter window is out for now, and still has what the longest holds.
    let share = |reading: &Reading, percent: f64| percent * schedule::capacity(Some(reading)) / worth;
    let left: f64 = known.iter().map(|(_, _, reading, window)| share(reading, window.left(now).unwrap_or(0.0))).sum();
    let paces: Vec<f64> = known
        .iter()
        .filter_map(|(_, (snapshot, _), reading, window)| Some(share(reading, snapshot.pace(window.length, now)?)))
        .collect();
    let per_hour = (!paces.is_empty()).then(|| paces.iter().sum());
    let refills = known.iter().filter_map(|(_, _, reading, window)| {
        let at = window.resets_at.filter(|at| *at > now)?;
        Some((at, share(reading, 100.0 - window.left(now)?)))
    });
    let back = known.iter().filter_map(|(index, _, reading, _)| Some((reading.earliest_useful_reset(now)?, *index)));
    // What is kept back is not for whoever asks here.
    let is_ready = |reserve: u8, reading: &Reading| {
        reading.readiness(now) == Readiness::Ready && reading.held_back_until(reserve, now).is_none()
    };
    (!known.is_empty()).then(|| Pool {
        known: known.len(),
        ready: known.iter().filter(|(_, (_, reserve), reading, _)| is_ready(*reserve, reading)).count(),
        left,
        per_hour,
        dry_at: per_hour.and_then(|pace| dry_at(left, pace, refills.collect(), now)),
        next_back: back.min(),
    })
}

/// What was used up before a reset comes back with it; what is used up until then does not count in, so the moment is rather
/// too early than too late.
fn dry_at(mut left: f64, per_hour: f64, mut refills: Vec<(u64, f64)>, now: u64) -> Option<u64> {
    refills.sort_unstable_by_key(|(at, _)| *at);
    let mut from = now;
    for (at, back) in refills.into_iter().chain([(now + HORIZON, 0.0)]) {
        let spent = per_hour * at.saturating_sub(from) as f64 / 3_600.0;
        if spent >= left {
            let until = if per_hour > 0.0 { left / per_hour * 3_600.0 } else { 0.0 };
            return (per_hour > 0.0).then(|| from + until as u64);
        }
        left += back - spent;
        from = at;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::snapshots::{Extent, Snapshots};

    const NOW: u64 = 1_795_574_904;
    const HOUR: u64 = 3_600;
    const WEEK: u64 = 604_800;

    /// Used so much of the week an hour ago, and now.
    fn snapshots(rows: &[(f64, f64, u64, &str)]) -> Snapshots {
        let mut known = Snapshots::default();
        for (index, (before, after, resets_in, plan)) in rows.iter().enumerate() {
            for (at, used) in [(NOW - HOUR, *before), (NOW, *after)] {
                let window = Window { length: WEEK, used_percent: Some(used), resets_at: Some(NOW + resets_in) };
                let reading = Reading {
                    windows: vec![window],
                    plan: Some((*plan).to_owned()),
                    taken_at: at,
                    ..Reading::default()
                };
                known.learn(&index.to_string(), "x", &reading, Extent::Whole);
            }
        }
        known
    }

    fn pool(rows: &[(f64, f64, u64, &str)]) -> Option<Pool> {
        let known = snapshots(rows);
        let names: Vec<String> = (0..=rows.len()).map(|index| index.to_string()).collect();
        of(&names.iter().map(|name| Some((known.of(name, "x")?, 0))).collect::<Vec<_>>(), NOW)
    }

    #[test]
    fn what_is_left_is_weighed_by_the_plans() {
        let two = pool(&[(50.0, 60.0, WEEK / 2, "plus"), (20.0, 20.0, WEEK / 2, "plus")]).unwrap();
        assert_eq!((two.known, two.ready, two.left, two.per_hour), (2, 2, 60.0, Some(5.0)));
        assert_eq!((two.dry_at, two.next_back), (Some(NOW + 12 * HOUR), None));
        let uneven = pool(&[(0.0, 0.0, WEEK / 2, "free"), (90.0, 90.0, WEEK / 2, "plus")]).unwrap();
        assert_eq!(uneven.left as u32, 21, "a free account's whole week is little");
        assert_eq!(pool(&[]), None);
        let known = snapshots(&[(50.0, 60.0, WEEK / 2, "plus")]);
        let ready = |reserve| of(&[Some((known.of("0", "x").unwrap(), reserve))], NOW).unwrap().ready;
        assert_eq!([ready(0), ready(39), ready(40)], [1, 1, 0], "what is kept back is not ready");
    }

    #[test]
    fn resets_until_then_count_in() {
        // 10 % an hour of 10 % left, and in half an hour half of all is back: five hours more.
        let soon = pool(&[(80.0, 100.0, HOUR / 2, "plus"), (80.0, 80.0, WEEK / 2, "plus")]).unwrap();
        assert_eq!((soon.left, soon.per_hour, soon.ready), (10.0, Some(10.0), 1));
        assert_eq!(soon.dry_at, Some(NOW + 6 * HOUR));
        assert_eq!(soon.next_back, Some((NOW + HOUR / 2, 0)));
        let idle = pool(&[(80.0, 80.0, WEEK / 2, "plus")]).unwrap();
        assert_eq!((idle.per_hour, idle.dry_at), (Some(0.0), None));
        let empty = pool(&[(99.0, 100.0, WEEK / 2, "plus")]).unwrap();
        assert_eq!((empty.left, empty.dry_at), (0.0, Some(NOW)));
        assert_eq!(dry_at(100.0, 0.01, Vec::new(), NOW), None, "beyond what anybody plans");
        assert_eq!(dry_at(0.0, 0.0, Vec::new(), NOW), None);
    }
}
