//! Keeps the scheduler's order and the known quotas up to date while a run lasts, off the request path: takes in what answers
//! tell of quotas, shares it with the user's other processes, and asks the backend where nothing else tells.
//! The rules are `quota::schedule`'s and `quota::snapshots`'s. Without traffic it sleeps.

use super::journal::Marker;
use super::standing::{self, Standing};
use super::{ProfileId, Shared};
use crate::config::Config;
use crate::profile::Profile;
use crate::quota::probe::{self, CALL_LIMIT};
use crate::quota::snapshots::{self, Extent, Snapshots};
use crate::quota::{Readiness, Reading, shelf, usage};
use crate::sys::clock;
use crate::wire::head::Headers;
use crate::wire::url::Url;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// News that wait to be taken in; more than that in a second tell nothing new.
const INBOX: usize = 256;
/// Answers come in bursts: they are taken in together.
const SETTLE: Duration = Duration::from_secs(1);
/// While nothing but the time of a reading changes, it is written this often. Seconds.
const WRITE_EVERY: u64 = 15;
/// With traffic, a profile about which nothing was heard for so long is asked for; after a profile ran out sooner, since the
/// others are about to be chosen from. Seconds.
const STALE: u64 = snapshots::USABLE;
const STALE_IN_TROUBLE: u64 = 60;

/// A profile whose reserve is reached is looked at again after so long where its window names no reset, and at the latest.
/// Seconds.
const HELD_DEFAULT: u64 = 600;
const HELD_LONGEST: u64 = 32 * 86_400;

/// What reaches the scout.
pub enum News {
    /// An answer of that profile told so much.
    Told(ProfileId, Reading, Extent),
    /// That profile ran out of quota.
    Out,
}

/// Where news go. Never waits.
pub struct Scout {
    inbox: SyncSender<News>,
    /// Until the thread takes it.
    outbox: Mutex<Option<Receiver<News>>>,
}

impl Default for Scout {
    fn default() -> Scout {
        let (inbox, outbox) = mpsc::sync_channel(INBOX);
        Scout { inbox, outbox: Mutex::new(Some(outbox)) }
    }
}

impl Scout {
    pub fn tell(&self, news: News) {
        // A full inbox is served by the next answer as well.
        let _ = self.inbox.try_send(news);
    }

    /// The head of an answer of `id`.
    pub fn headers(&self, id: ProfileId, headers: &Headers) {
        if let Some(reading) = usage::from_headers(headers.iter(), clock::unix()) {
            self.tell(News::Told(id, reading, Extent::Part));
        }
    }

    /// The data of an event of `id`; tells nothing unless it is about quotas.
    pub fn event(&self, id: ProfileId, data: &[u8]) {
        if let Ok(event) = crate::wire::json::Raw::parse(data)
            && let Some(reading) = usage::from_event(&event, clock::unix())
        {
            self.tell(News::Told(id, reading, Extent::Part));
        }
    }
}

/// Begins to listen. Without a thread the order stays as it is.
pub fn start(shared: &Arc<Shared>, config: Config) {
    let Some(inbox) = shared.scout.outbox.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let Ok(url) = probe::usage_url(&shared.base.to_string()) else { return };
    let shared = Arc::clone(shared);
    let _ = std::thread::Builder::new().name("scout".to_owned()).spawn(move || {
        let mut field = Field::new(shared, config, url);
        while let Ok(news) = inbox.recv() {
            field.take_in(news, &inbox);
        }
    });
}

struct Field {
    shared: Arc<Shared>,
    config: Config,
    url: Url,
    standings: Vec<Standing>,
    /// Of each profile: until when it was last said to be out, so that it is said once.
    said: Vec<Option<u64>>,
    written_at: u64,
    busy: bool,
    /// That it cannot be written was said.
    complained: bool,
}

impl Field {
    fn new(shared: Arc<Shared>, config: Config, url: Url) -> Field {
        let standings: Vec<Standing> = shared
            .ids()
            .zip(&shared.members)
            .map(|(id, member)| Standing {
                name: member.profile.name.clone(),
                account: snapshots::account(shared.wallet.account_id(id).as_deref(), &url),
                reading: None,
                active: 0,
                last_selected: member.last_selected,
                picked_at: None,
                reserve: member.profile.reserve,
                disabled: false,
                blocked: None,
                out: None,
            })
            .collect();
        let said = vec![None; standings.len()];
        Field { shared, config, url, standings, said, written_at: 0, busy: false, complained: false }
    }

    fn take_in(&mut self, first: News, inbox: &Receiver<News>) {
        let mut news = vec![first];
        if self.busy && !matches!(news[0], News::Out) {
            std::thread::sleep(SETTLE);
        }
        self.busy = true;
        self.reread();
        news.extend(inbox.try_iter().take(INBOX));
        let now = clock::unix();
        let out = news.iter().any(|news| matches!(news, News::Out));
        let told = news.into_iter().filter_map(|news| match news {
            News::Told(id, reading, extent) => Some((usize::from(id.0), reading, extent)),
            News::Out => None,
        });
        let mut known = shelf::load(&self.config);
        let mut changed = self.written_at.saturating_add(WRITE_EVERY) <= now;
        let told: Vec<_> = told.collect();
        for (index, reading, extent) in &told {
            if let Some(standing) = self.standings.get(*index) {
                changed |= known.learn(&standing.name, &standing.account, reading, *extent);
            }
        }
        self.look(&known, now);
        let stale = if out { STALE_IN_TROUBLE } else { STALE };
        let wanted = self.wanted(&known, now, stale);
        if changed || !wanted.is_empty() {
            self.written_at = now;
            let due: Option<Vec<usize>> = self.update(|standings, known| {
                for (index, reading, extent) in &told {
                    if let Some(standing) = standings.get(*index) {
                        known.learn(&standing.name, &standing.account, reading, *extent);
                    }
                }
                let claim =
                    |index: &usize| standings.get(*index).is_some_and(|one| known.claim(&one.name, &one.account, now));
                wanted.into_iter().filter(claim).collect()
            });
            self.ask(&due.unwrap_or_default());
        }
    }

    /// Somebody may have logged in with another account meanwhile.
    fn reread(&mut self) {
        for (id, (standing, said)) in self.shared.ids().zip(self.standings.iter_mut().zip(&mut self.said)) {
            let holder = self.shared.wallet.account_id(id);
            let now = snapshots::account(holder.as_deref(), &self.url);
            if standing.account != now {
                (standing.account, *said) = (now, None);
            }
            self.shared.seat(id, holder.as_deref());
        }
    }

    /// Changes the shared document.
    fn update<T>(&mut self, change: impl FnOnce(&[Standing], &mut Snapshots) -> T) -> Option<T> {
        let standings = &self.standings;
        let result = shelf::update(&self.config, |known| change(standings, known));
        self.noted(result)
    }

    /// The first failure is for the log.
    fn noted<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(result) => Some(result),
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    self.shared.journal.note(Marker::StateSaveError, format_args!("error=quota.json: {error}"));
                }
                None
            }
        }
    }

    /// Profiles of which too little is known, and that can be asked for.
    fn wanted(&self, known: &Snapshots, now: u64, stale: u64) -> Vec<usize> {
        let is_wanted = |(_, standing): &(usize, &Standing)| {
            let known = known.of(&standing.name, &standing.account);
            known.is_none_or(|known| known.fresh(now, stale).is_none() && known.asked_at.saturating_add(stale) <= now)
        };
        self.standings.iter().enumerate().filter(is_wanted).map(|(index, _)| index).collect()
    }

    fn ask(&mut self, due: &[usize]) {
        let profiles: Vec<Profile> = due
            .iter()
            .filter_map(|index| self.shared.members.get(*index))
            .map(|member| member.profile.clone())
            .collect();
        if profiles.is_empty() {
            return;
        }
        let result = shelf::ask(&self.config, &self.url, &profiles, CALL_LIMIT);
        let known = self.noted(result);
        self.shared.journal.line(format_args!("quota asked profiles={}", profiles.len()));
        if let Some(known) = known {
            self.look(&known, clock::unix());
        }
    }

    /// What is known now decides the order, and who is out.
    fn look(&mut self, known: &Snapshots, now: u64) {
        for (id, standing) in self.shared.ids().zip(&mut self.standings) {
            let fresh = known.of(&standing.name, &standing.account).and_then(|one| one.fresh(now, STALE));
            standing.reading = fresh.cloned();
            standing.active = self.shared.ledger.active(id);
        }
        let place = |name: &str| {
            let index = self.standings.iter().position(|standing| standing.name == name)?;
            u16::try_from(index).ok().map(ProfileId)
        };
        let ranked = standing::rank(&self.standings, now);
        self.shared.ledger.set_order(ranked.iter().filter_map(|ranked| place(&ranked.name)).collect());
        for (id, standing) in self.shared.ids().zip(&self.standings) {
            // Where nothing is known any more, what was kept back stays so until the reset that was named.
            let Some(reading) = &standing.reading else { continue };
            let wait = held_for(reading, standing.reserve, now);
            if self.shared.ledger.hold(id, wait.map(|wait| clock::now() + wait)) {
                let (name, percent) = (&standing.name, standing.reserve);
                self.shared.journal.line(format_args!("held back profile={name} reserve_percent={percent}"));
            }
        }
        for (id, (standing, said)) in self.shared.ids().zip(self.standings.iter().zip(&mut self.said)) {
            if standing.reading.is_none() {
                continue;
            }
            let until = out_until(standing, now);
            if let Some(until) = until.filter(|_| *said != until) {
                super::exhausted(&self.shared, id, until);
            }
            *said = until;
        }
    }
}

/// How long what is left of a profile is kept back. `None`: there is more than that.
fn held_for(reading: &Reading, reserve: u8, now: u64) -> Option<Duration> {
    let until = reading.held_back_until(reserve, now)?;
    let wait = if until > now { until - now } else { HELD_DEFAULT };
    Some(Duration::from_secs(wait.min(HELD_LONGEST)))
}

/// Until when a profile is out by what is known of it; 0 when nobody knows. `None`: it is not.
fn out_until(standing: &Standing, now: u64) -> Option<u64> {
    let reading = standing.reading.as_ref()?;
    if let Readiness::Blocked(_) = reading.readiness(now) {
        return Some(reading.earliest_useful_reset(now).unwrap_or(0));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Window;

    fn standing(used: f64, resets_at: Option<u64>, reserve: u8, now: u64) -> Standing {
        let windows = vec![Window { length: 18_000, used_percent: Some(used), resets_at }];
        Standing {
            name: String::new(),
            account: String::new(),
            reading: Some(Reading { windows, taken_at: now, ..Reading::default() }),
            active: 0,
            last_selected: None,
            picked_at: None,
            reserve,
            disabled: false,
            blocked: None,
            out: None,
        }
    }

    #[test]
    fn out_by_its_windows() {
        let now = 1_000_000;
        for (used, until) in [(100.0, Some(now + 60)), (99.0, None)] {
            assert_eq!(out_until(&standing(used, Some(now + 60), 90, now), now), until, "{used}");
        }
        let mut refused = standing(10.0, Some(now + 60), 90, now);
        refused.reading.as_mut().unwrap().limit_reached = true;
        assert_eq!(out_until(&refused, now), Some(0));
        assert_eq!(out_until(&Standing { reading: None, ..refused }, now), None);
    }

    #[test]
    fn kept_back_until_the_reset() {
        let now = 1_000_000;
        let secs = |n| Some(Duration::from_secs(n));
        for (used, resets_at, reserve, expected) in [
            (90.0, Some(now + 60), 10, secs(60)),
            (90.0, Some(now + 99 * 86_400), 10, secs(HELD_LONGEST)),
            (90.0, None, 10, secs(HELD_DEFAULT)),
            (89.0, Some(now + 60), 10, None),
            (90.0, Some(now + 60), 0, None),
        ] {
            let reading = standing(used, resets_at, reserve, now).reading.unwrap();
            assert_eq!(held_for(&reading, reserve, now), expected, "{used} {resets_at:?} {reserve}");
        }
    }
}
