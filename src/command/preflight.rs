//! Before codex starts: is the profile ready, and if not, which one is (spec S-50). All profiles are asked at once; the
//! answers that are not needed for the decision are handed to the proxy when they come. Says why on stderr.

use super::warn;
use crate::config::Config;
use crate::error::Error;
use crate::net::fetch;
use crate::profile::refresh::{self, RefreshError};
use crate::profile::{self, Profile, auth};
use crate::proxy::Proxy;
use crate::proxy::share::Share;
use crate::proxy::standing::{self, Standing};
use crate::quota::probe::{self, Answer, ProbeError};
use crate::quota::schedule::Ranked;
use crate::quota::{Readiness, Reading, shelf};
use crate::screen::quota::block_words;
use crate::screen::{text, time};
use crate::state::State;
use crate::sys::clock;
use crate::wire::url::Url;
use std::io::Write;
use std::iter;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// One account's answer; codex does not start before the profile's own is there or this is over.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);

/// With the wanted profile ready, the others' answers are waited for so long: what was known of them lately serves as well.
const GATHER: Duration = Duration::from_millis(300);

/// A refresh; whoever gives up on it may have spent the token.
const REFRESH_LIMIT: Duration = Duration::from_secs(30);

/// The profile that codex starts in, and what is known of all of them.
pub struct Chosen {
    pub profile: Profile,
    /// The wanted one cannot work: this one becomes the active profile.
    pub rotated: bool,
    known: Vec<Known>,
    coming: Option<Receiver<(usize, Answer)>>,
}

/// One profile, as far as it is known.
struct Known {
    profile: Profile,
    standing: Standing,
    answer: Option<Answer>,
    /// Its login was refused, and whether it can be refreshed is not known.
    unsettled: Option<String>,
}

impl Known {
    fn take_in(&mut self, answer: Answer) {
        match &answer.usage {
            Ok(usage) => self.standing.answered(&usage.reading),
            Err(error @ (ProbeError::Status { status: 401, .. } | ProbeError::NoTokens { .. })) => {
                self.standing.blocked.get_or_insert_with(|| error.to_string());
            }
            // What is known from a while ago stands.
            Err(_) => {}
        }
        self.answer = Some(answer);
    }

    /// As of just now.
    fn reading(&self) -> Option<&Reading> {
        self.answer.as_ref().and_then(|answer| answer.usage.as_ref().ok()).map(|usage| &usage.reading)
    }

    /// The user keeps back what is left of it.
    fn held(&self) -> Option<String> {
        let reserve = self.standing.reserve;
        self.reading()?.held_back_until(reserve, clock::unix())?;
        Some(format!("keeps {reserve}% of each window back"))
    }

    fn is_ready(&self) -> bool {
        self.reading().is_some_and(|reading| reading.readiness(clock::unix()) == Readiness::Ready)
    }

    fn has_no_login(&self) -> bool {
        matches!(self.answer.as_ref().map(|answer| &answer.usage), Some(Err(ProbeError::NoTokens { .. })))
    }
}

impl Chosen {
    pub fn unchecked(profile: Profile) -> Chosen {
        Chosen { profile, rotated: false, known: Vec::new(), coming: None }
    }

    /// Remembers what was learned, for the next process. Of the answers that are still to come nobody hears.
    pub fn remember(&self, config: &Config) {
        note(config, &self.known);
    }

    /// Tells the user's other processes and the proxy what was learned, and what the last answers say when they come. The
    /// receiver hears when the first is done, so that a run that ends at once leaves what it asked for.
    pub fn inform(self, config: &Config, proxy: &Proxy) -> Receiver<()> {
        let (said, informed) = mpsc::channel();
        let Some(coming) = self.coming else { return informed };
        let (mut known, briefing, config) = (self.known, proxy.briefing(), config.clone());
        let tell = move || {
            let tell = |known: &[&Known]| {
                note(&config, known.iter().copied());
                for known in known {
                    if let Some(reading) = known.reading() {
                        briefing.told(&known.profile.name, reading);
                    }
                }
            };
            tell(&known.iter().collect::<Vec<_>>());
            let _ = said.send(());
            // What comes together is written together: codex is starting, and each writing reads the whole file.
            while let Ok(first) = coming.recv() {
                let mut news = Vec::new();
                for (index, answer) in iter::once(first).chain(coming.try_iter()) {
                    if let Some(known) = known.get_mut(index) {
                        known.take_in(answer);
                        news.push(index);
                    }
                }
                tell(&news.iter().filter_map(|index| known.get(*index)).collect::<Vec<_>>());
            }
        };
        // Without a thread the proxy finds out by itself.
        let _ = std::thread::Builder::new().name("quota".to_owned()).spawn(tell);
        informed
    }
}

/// That it cannot be written costs the next process a question.
fn note<'a>(config: &Config, known: impl IntoIterator<Item = &'a Known>) {
    let _ = shelf::update(config, |snapshots| {
        for known in known {
            if let Some(answer) = &known.answer {
                shelf::note(snapshots, &known.profile.name, answer);
            }
        }
    });
}

/// What a run leaves to the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The wanted profile, or no start.
    Fixed,
    /// The wanted profile while it is ready, else the best.
    Rotate,
    /// Nobody asked for a profile or a session: the best for fresh work (`scheduling.md`).
    Free,
}

/// Checks `wanted`, and takes another profile as far as `choice` allows.
pub fn check(config: &Config, state: &State, wanted: &Profile, base: &Url, choice: Choice) -> Result<Chosen, Error> {
    let url = probe::usage_url(&base.to_string())?;
    // The wanted one is asked first: with many accounts not all can be asked at once.
    let profiles = standing::order(state, Some(wanted));
    let is_asked = |profile: &Profile| !profile.disabled || choice == Choice::Fixed && profile.name == wanted.name;
    let coming = ask(config, &url, &profiles, is_asked);
    let share = Share::open(config);
    let standings = standing::all(&share, state, &profiles, base, &url, &shelf::load(config));
    let known = profiles.into_iter().zip(standings);
    let known = known.map(|(profile, standing)| Known { profile, standing, answer: None, unsettled: None });
    let homes = profile::homes(config, state);
    let mut check = Check { known: known.collect(), coming, choice, url, homes };
    match check.decide(wanted) {
        Ok((profile, rotated)) => {
            if choice == Choice::Free {
                standing::pick(&share, &profile, base);
            }
            Ok(Chosen { profile, rotated, known: check.known, coming: Some(check.coming) })
        }
        Err(error) => {
            // What was asked was asked, also for a run that does not begin (spec S-46).
            note(config, &check.known);
            Err(error)
        }
    }
}

/// All profiles, the wanted one first, and their answers as they come.
struct Check {
    known: Vec<Known>,
    coming: Receiver<(usize, Answer)>,
    choice: Choice,
    url: Url,
    /// Where logins may lie on this machine.
    homes: Vec<PathBuf>,
}

impl Check {
    /// The profile to start in, and whether it becomes the active one.
    fn decide(&mut self, wanted: &Profile) -> Result<(Profile, bool), Error> {
        let may_move = self.choice != Choice::Fixed;
        if may_move && wanted.disabled {
            return self.elsewhere(&wanted.name, "is disabled");
        }
        while self.own().answer.is_none() {
            let Ok((index, answer)) = self.coming.recv() else { break };
            self.known[index].take_in(answer);
        }
        // The others' answers go on coming meanwhile.
        renew(&mut self.known[0], &self.url, &self.homes);
        if self.own().is_ready() {
            let held = self.own().held().filter(|_| self.choice == Choice::Free);
            return match held {
                Some(why) => self.elsewhere(&wanted.name, &why),
                None if self.choice == Choice::Free => Ok((self.pick().unwrap_or_else(|| wanted.clone()), false)),
                None => Ok((wanted.clone(), false)),
            };
        }
        let problem = problem(self.own());
        if let Problem::Unreadable(why) = &problem {
            warn(&format!("quota preflight failed for '{}': {why}", wanted.name));
            warn("continuing without the quota gate");
            return Ok((wanted.clone(), false));
        }
        say(&format!("Quota preflight blocked profile '{}': {}.", wanted.name, problem.words()));
        self.wait_for_all();
        let ready: Vec<&Known> =
            self.ranked().into_iter().map(|(known, _)| known).filter(|one| one.is_ready()).collect();
        match ready.first() {
            Some(best) if may_move => {
                let left = best.reading().map(|reading| reading.remaining_words(clock::unix())).unwrap_or_default();
                say(&format!("Auto-rotating to profile '{}' ({left}).", best.profile.name));
                Ok((best.profile.clone(), true))
            }
            // Codex itself says how to log in, and may be started for just that.
            _ if self.own().has_no_login() => Ok((wanted.clone(), false)),
            _ => {
                let ready: Vec<&str> = ready.iter().map(|known| known.profile.name.as_str()).collect();
                Err(blocked(&wanted.name, &ready, may_move, self.first_free()))
            }
        }
    }

    fn own(&self) -> &Known {
        &self.known[0]
    }

    fn wait_for_all(&mut self) {
        for (index, answer) in &self.coming {
            self.known[index].take_in(answer);
        }
    }

    /// The user keeps the wanted profile out: the best of the others, which does not become the active one.
    fn elsewhere(&mut self, wanted: &str, why: &str) -> Result<(Profile, bool), Error> {
        self.wait_for_all();
        let order = self.ranked();
        // One that could not be asked may well work.
        let best = order.iter().find(|(known, _)| known.is_ready()).or(order.first());
        let Some((best, _)) = best else {
            let first = self.first_free().map(|first| format!("; {first}")).unwrap_or_default();
            let what = format!("profile '{wanted}' {why}, and no other one is ready{first}");
            return Err(Error::usage(what).next(format!("Use it all the same with `prodex run -p {wanted}`.")));
        };
        let profile = best.profile.clone();
        say(&format!("Profile '{wanted}' {why}: running with '{}'. `-p {wanted}` insists.", profile.name));
        Ok((profile, false))
    }

    /// The best profile for fresh work, when it is another one than the wanted, which is ready. Says why.
    fn pick(&mut self) -> Option<Profile> {
        let until = clock::now() + GATHER;
        while self.known.iter().any(|known| known.answer.is_none() && !known.profile.disabled) {
            let left = until.saturating_duration_since(clock::now());
            let Ok((index, answer)) = self.coming.recv_timeout(left) else { break };
            self.known[index].take_in(answer);
        }
        // One of which nothing is known has just not answered.
        let (best, ranked) = self.ranked().into_iter().find(|(known, _)| known.standing.reading.is_some())?;
        let own = &self.own().profile.name;
        if best.profile.name == *own {
            return None;
        }
        let (name, numbers, rule) = (&ranked.name, &ranked.numbers, ranked.rule.words());
        say(&format!("Picked profile {name}: {numbers} ({rule}). `-p {own}` insists on '{own}'."));
        Some(best.profile.clone())
    }

    /// Those that can take fresh work, best first, by the scheduler's rule.
    fn ranked(&self) -> Vec<(&Known, Ranked)> {
        let standings: Vec<Standing> = self.known.iter().map(|known| known.standing.clone()).collect();
        let order = standing::rank(&standings, clock::unix());
        let find = |name: &str| self.known.iter().find(|known| known.profile.name == name);
        let eligible = order.into_iter().filter(|ranked| ranked.eligible);
        eligible.filter_map(|ranked| Some((find(&ranked.name)?, ranked))).collect()
    }

    /// Who is ready first, and when, among those that the backend knows.
    fn first_free(&self) -> Option<String> {
        let now = clock::unix();
        let free = self.known.iter().filter(|known| !known.profile.disabled);
        let at = |known: &Known| Some((known.reading()?.earliest_useful_reset(now)?, known.profile.name.clone()));
        let (at, name) = free.filter_map(at).min()?;
        Some(format!("'{name}' is ready first, at {}", time::local(at, &clock::local_offset)))
    }
}

/// A token that was refused may only be old: refreshed as codex would, where no codex uses the login, and asked again.
fn renew(known: &mut Known, url: &Url, homes: &[PathBuf]) {
    let refused =
        matches!(known.answer.as_ref().map(|answer| &answer.usage), Some(Err(ProbeError::Status { status: 401, .. })));
    let home = &known.profile.codex_home;
    let login = auth::read(home);
    let Some(tokens) = login.tokens().filter(|_| refused) else { return };
    if refresh::twin(home, homes).is_some() {
        known.unsettled =
            Some("its login was refused, and is another home's too, so codex is left to refresh it".to_owned());
        return;
    }
    let until = clock::now() + REFRESH_LIMIT;
    match refresh::refresh(home, tokens.access_token.expose(), clock::unix(), until, &fetch::post_or_words) {
        Ok(_) => known.take_in(probe::fetch_one(url, &known.profile, CALL_LIMIT)),
        // Refused for good: what the backend said stands.
        Err(RefreshError::Permanent(_) | RefreshError::NoRefreshToken) => {}
        // Codex will try for itself.
        Err(error) => known.unsettled = Some(error.to_string()),
    }
}

/// Asks for the profiles on threads of their own; the answers come as they arrive.
fn ask(config: &Config, url: &Url, all: &[Profile], is_asked: impl Fn(&Profile) -> bool) -> Receiver<(usize, Answer)> {
    let (tell, answers) = mpsc::channel();
    let (config, url) = (config.clone(), url.clone());
    let (places, profiles): (Vec<usize>, Vec<Profile>) =
        all.iter().cloned().enumerate().filter(|(_, profile)| is_asked(profile)).unzip();
    // Without a thread there is no answer, and the check says so.
    let _ = std::thread::Builder::new().name("preflight".to_owned()).spawn(move || {
        shelf::begin(&config, &url, &profiles);
        probe::fetch_all(&url, &profiles, CALL_LIMIT, |index, answer| {
            if let Some(place) = places.get(index) {
                let _ = tell.send((*place, answer));
            }
        });
    });
    answers
}

/// Why the wanted profile cannot simply be started.
enum Problem {
    Blocked(String),
    /// The backend refused its login.
    Login(String),
    /// Nobody knows: no reason to stop.
    Unreadable(String),
}

impl Problem {
    fn words(&self) -> &str {
        match self {
            Problem::Blocked(words) | Problem::Login(words) | Problem::Unreadable(words) => words,
        }
    }
}

fn problem(known: &Known) -> Problem {
    let name = &known.profile.name;
    if let Some(why) = &known.unsettled {
        return Problem::Unreadable(why.clone());
    }
    match known.answer.as_ref().map(|answer| &answer.usage) {
        Some(Ok(usage)) => match usage.reading.readiness(clock::unix()) {
            Readiness::Blocked(blocks) => {
                let words: Vec<String> = blocks.iter().map(|block| block_words(block, &clock::local_offset)).collect();
                Problem::Blocked(words.join(", "))
            }
            Readiness::Ready | Readiness::Unknown => {
                Problem::Unreadable("the backend reports no quota window".to_owned())
            }
        },
        Some(Err(error @ (ProbeError::Status { status: 401, .. } | ProbeError::NoTokens { .. }))) => {
            Problem::Login(error.words(name))
        }
        Some(Err(error)) => Problem::Unreadable(error.words(name)),
        None => Problem::Unreadable("no answer in time".to_owned()),
    }
}

/// Exit code 2: a run that the quota check stopped (spec S-11).
fn blocked(wanted: &str, ready: &[&str], rotate: bool, first: Option<String>) -> Error {
    let bypass = format!("Inspect with `prodex quota -p {wanted}`, or bypass with `prodex run --skip-quota-check`.");
    match (ready.first(), rotate) {
        (Some(_), false) => {
            let what = format!("profile '{wanted}' is not ready; other profiles that look ready: {}", ready.join(", "));
            Error::usage(what).next(format!("Rerun without `--no-auto-rotate` to allow fallback. {bypass}"))
        }
        _ => Error::usage(format!(
            "no ready profile was found{}",
            first.map(|first| format!("; {first}")).unwrap_or_default()
        ))
        .next(format!("See `prodex quota --all --once`. {bypass}")),
    }
}

fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", text::clean(text)).as_bytes());
}
