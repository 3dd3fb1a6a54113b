//! Before codex starts: is the profile ready, and if not, which one is (spec S-50). All profiles are asked at once; the
//! answers that are not needed for the decision are handed to the proxy when they come. Says why on stderr.

use super::warn;
use crate::config::Config;
use crate::error::Error;
use crate::net::fetch;
use crate::profile::refresh::{self, RefreshError};
use crate::profile::{Profile, auth};
use crate::proxy::{ProfileId, Proxy};
use crate::quota::probe::{self, Answer, ProbeError};
use crate::quota::schedule::{self, Candidate};
use crate::quota::{Readiness, Reading};
use crate::screen::quota::block_words;
use crate::screen::{text, time};
use crate::state::State;
use crate::sys::clock;
use crate::wire::url::Url;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// One account's answer; codex does not start before the profile's own is there or this is over.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// A refresh; whoever gives up on it may have spent the token.
const REFRESH_LIMIT: Duration = Duration::from_secs(30);

/// The profile that codex starts in, and what is known of all of them.
pub struct Chosen {
    pub profile: Profile,
    /// Another one than was asked for: it becomes the active profile.
    pub rotated: bool,
    known: Vec<Known>,
    coming: Option<Receiver<(usize, Answer)>>,
}

/// One profile's quota, as far as it is known.
struct Known {
    profile: Profile,
    last_selected: Option<u64>,
    answer: Option<Answer>,
    /// Its login was refused, and whether it can be refreshed is not known.
    unsettled: Option<String>,
}

impl Known {
    fn reading(&self) -> Option<&Reading> {
        self.answer.as_ref().and_then(|answer| answer.usage.as_ref().ok()).map(|usage| &usage.reading)
    }

    fn is_ready(&self) -> bool {
        self.reading().is_some_and(|reading| reading.readiness(clock::unix()) == Readiness::Ready)
    }
}

impl Chosen {
    pub fn unchecked(profile: Profile) -> Chosen {
        Chosen { profile, rotated: false, known: Vec::new(), coming: None }
    }

    /// Tells the proxy the scheduler's order and who is exhausted, now or when the last answers have come. `members` in
    /// the proxy's order.
    pub fn inform(self, proxy: &Proxy, members: Vec<Profile>) {
        let Some(coming) = self.coming else { return };
        let (mut known, ledger) = (self.known, proxy.briefing());
        let tell = move || {
            for (index, answer) in coming {
                if let Some(known) = known.get_mut(index) {
                    known.answer = Some(answer);
                }
            }
            let id = |name: &str| {
                let index = members.iter().position(|member| member.name == name)?;
                u16::try_from(index).ok().map(ProfileId)
            };
            let now = clock::unix();
            ledger.set_order(ranked(&known).iter().filter_map(|name| id(name)).collect());
            for known in &known {
                if let (Some(id), true) = (id(&known.profile.name), known.is_ready()) {
                    ledger.set_ready(id);
                }
                let blocked = known.reading().filter(|reading| matches!(reading.readiness(now), Readiness::Blocked(_)));
                if let (Some(id), Some(reading)) = (id(&known.profile.name), blocked) {
                    ledger.set_exhausted(id, reading.earliest_useful_reset(now));
                }
            }
        };
        // Without a thread the proxy finds out by itself.
        let _ = std::thread::Builder::new().name("quota".to_owned()).spawn(tell);
    }
}

/// Checks `wanted`, and rotates to the best ready profile when it is not ready and `rotate` allows it.
pub fn check(config: &Config, state: &State, wanted: Profile, base_url: &str, rotate: bool) -> Result<Chosen, Error> {
    let url = probe::usage_url(base_url)?;
    let mut profiles = state.profiles();
    // The own one is asked first: with many accounts not all can be asked at once.
    profiles.sort_by_key(|profile| profile.name != wanted.name);
    let Some(own) = profiles.iter().position(|profile| profile.name == wanted.name) else {
        return Ok(Chosen::unchecked(wanted));
    };
    let mut known: Vec<Known> = profiles
        .iter()
        .map(|profile| Known {
            profile: profile.clone(),
            last_selected: state.last_run_selected_at(&profile.name),
            answer: None,
            unsettled: None,
        })
        .collect();
    let homes: Vec<PathBuf> =
        profiles.iter().map(|profile| profile.codex_home.clone()).chain([config.default_codex_home.clone()]).collect();
    let coming = ask(url.clone(), profiles);
    while known[own].answer.is_none() {
        let Ok((index, answer)) = coming.recv() else { break };
        known[index].answer = Some(answer);
    }
    // The others' answers go on coming meanwhile.
    renew(&mut known[own], &url, &homes);
    if known[own].is_ready() {
        return Ok(Chosen { profile: wanted, rotated: false, known, coming: Some(coming) });
    }
    let problem = problem(&known[own]);
    if let Problem::Unreadable(why) = &problem {
        warn(&format!("quota preflight failed for '{}': {why}", wanted.name));
        warn("continuing without the quota gate");
        return Ok(Chosen { profile: wanted, rotated: false, known, coming: Some(coming) });
    }
    say(&format!("Quota preflight blocked profile '{}': {}.", wanted.name, problem.words()));
    for (index, answer) in coming {
        known[index].answer = Some(answer);
    }
    let ready: Vec<String> = ranked(&known).into_iter().filter(|name| *name != wanted.name).collect();
    let best = ready.first().and_then(|name| known.iter().find(|known| known.profile.name == *name));
    match best {
        Some(best) if rotate => {
            let left = best.reading().map(|reading| reading.remaining_words(clock::unix())).unwrap_or_default();
            say(&format!("Auto-rotating to profile '{}' ({left}).", best.profile.name));
            let (_, none) = mpsc::channel();
            Ok(Chosen { profile: best.profile.clone(), rotated: true, known, coming: Some(none) })
        }
        // Codex itself says how to log in, and may be started for just that.
        _ if matches!(
            known[own].answer.as_ref().map(|answer| &answer.usage),
            Some(Err(ProbeError::NoTokens { .. }))
        ) =>
        {
            Ok(Chosen::unchecked(wanted))
        }
        _ => Err(blocked(&wanted.name, &ready, rotate, first_free(&known))),
    }
}

/// Who is ready first, and when, among those that the backend knows.
fn first_free(known: &[Known]) -> Option<String> {
    let now = clock::unix();
    let free = |known: &Known| Some((known.reading()?.earliest_useful_reset(now)?, known.profile.name.clone()));
    let (at, name) = known.iter().filter_map(free).min()?;
    Some(format!("'{name}' is ready first, at {}", time::local(at, &clock::local_offset)))
}

/// A token that was refused may only be old: refreshed as codex would, where no codex uses the login, and asked again.
fn renew(known: &mut Known, url: &Url, homes: &[PathBuf]) {
    let refused =
        matches!(known.answer.as_ref().map(|answer| &answer.usage), Some(Err(ProbeError::Status { status: 401, .. })));
    let home = &known.profile.codex_home;
    let login = auth::read(home);
    let Some(tokens) = login.tokens().filter(|_| refused) else { return };
    if refresh::is_shared(home, homes.iter().map(PathBuf::as_path)) {
        known.unsettled =
            Some("its login was refused, and is another home's too, so codex is left to refresh it".to_owned());
        return;
    }
    let until = clock::now() + REFRESH_LIMIT;
    match refresh::refresh(home, tokens.access_token.expose(), clock::unix(), until, &fetch::post_or_words) {
        Ok(_) => known.answer = Some(probe::fetch_one(url, &known.profile, CALL_LIMIT)),
        // Refused for good: what the backend said stands.
        Err(RefreshError::Permanent(_) | RefreshError::NoRefreshToken) => {}
        // Codex will try for itself.
        Err(error) => known.unsettled = Some(error.to_string()),
    }
}

/// Asks for all profiles on threads of their own; the answers come as they arrive.
fn ask(url: Url, profiles: Vec<Profile>) -> Receiver<(usize, Answer)> {
    let (tell, answers) = mpsc::channel();
    // Without a thread there is no answer, and the check says so.
    let _ = std::thread::Builder::new().name("preflight".to_owned()).spawn(move || {
        probe::fetch_all(&url, &profiles, CALL_LIMIT, |index, answer| {
            let _ = tell.send((index, answer));
        });
    });
    answers
}

/// Names of the ready profiles, best first, by the scheduler's rule.
fn ranked(known: &[Known]) -> Vec<String> {
    let candidates: Vec<Candidate<'_>> = known
        .iter()
        .map(|known| Candidate {
            name: &known.profile.name,
            reading: known.reading(),
            active_sessions: 0,
            last_selected: known.last_selected,
            blocked: (!known.is_ready()).then(|| "not ready".to_owned()),
        })
        .collect();
    let order = schedule::rank(&candidates, clock::unix(), None);
    order.into_iter().filter(|ranked| ranked.eligible).map(|ranked| ranked.name).collect()
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
fn blocked(wanted: &str, ready: &[String], rotate: bool, first: Option<String>) -> Error {
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
