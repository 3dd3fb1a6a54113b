//! What is told of profiles at once: what the backend answers now; of one that its owner disabled, and that nobody named, what was
//! known before. Keeps the answers for everybody. Knows no screen but its row.

use crate::command::chart;
use crate::config::Config;
use crate::profile::{Profile, auth};
use crate::quota::pool::{self, Pool};
use crate::quota::probe::{self, Answer, CALL_LIMIT, ProbeError};
use crate::quota::snapshots::Snapshots;
use crate::quota::{Reading, shelf};
use crate::screen::quota::{Live, Row};
use crate::wire::url::Url;
use crate::wire::value::Value;

/// What is told of one profile.
pub struct Told {
    pub profile: Profile,
    /// Read now, or what was known where it was not asked.
    pub reading: Option<Reading>,
    /// The backend's own words.
    pub body: Option<Value>,
    /// Why it said nothing.
    pub error: Option<ProbeError>,
    words: String,
    auth: String,
    email: Option<String>,
    account: String,
    rotation: Option<String>,
    asked: bool,
}

/// Of all that were wanted, in their order, and what is known then.
pub struct All {
    pub told: Vec<Told>,
    known: Snapshots,
}

/// Asks about these profiles. `named`: by the user, who means a disabled one, too.
pub fn ask(config: &Config, url: &Url, profiles: &[Profile], named: bool) -> All {
    let before =
        if profiles.iter().any(|profile| profile.disabled) { shelf::load_latest(config) } else { Snapshots::default() };
    let mut told: Vec<Option<Told>> = profiles
        .iter()
        .map(|profile| if profile.disabled && !named { Told::unasked(profile, url, &before) } else { None })
        .collect();
    let asked: Vec<usize> = (0..profiles.len()).filter(|&index| told[index].is_none()).collect();
    let list: Vec<Profile> = asked.iter().map(|&index| profiles[index].clone()).collect();
    shelf::begin(config, url, &list);
    let mut answers: Vec<(usize, Answer)> = Vec::new();
    probe::fetch_all(url, &list, CALL_LIMIT, |index, answer| answers.push((asked[index], answer)));
    let noted = shelf::update(config, |known| {
        for (index, answer) in &answers {
            shelf::note(known, &profiles[*index].name, answer);
        }
        known.clone()
    });
    // That it cannot be kept costs the next process a question.
    let known = noted.unwrap_or_else(|_| shelf::load(config));
    for (index, answer) in answers {
        told[index] = Some(Told::answered(&profiles[index], answer));
    }
    // Every index came exactly once, so nothing is lost here.
    All { told: told.into_iter().flatten().collect(), known }
}

impl Told {
    fn answered(profile: &Profile, answer: Answer) -> Told {
        let (usage, error) = match answer.usage {
            Ok(usage) => (Some(usage), None),
            Err(error) => (None, Some(error)),
        };
        Told {
            words: error.as_ref().map(|error| error.words(&profile.name)).unwrap_or_default(),
            // It was read as JSON before, so there is no other case.
            body: usage.as_ref().map(|usage| Value::parse(&usage.body).unwrap_or(Value::Null)),
            reading: usage.map(|usage| usage.reading),
            error,
            auth: answer.auth,
            email: chart::email_of(profile, answer.email.as_deref()).map(str::to_owned),
            account: answer.account,
            rotation: chart::rotation(profile),
            asked: true,
            profile: profile.clone(),
        }
    }

    /// `None` where there is nobody to be asked: the answer says what is wrong with the login.
    fn unasked(profile: &Profile, url: &Url, known: &Snapshots) -> Option<Told> {
        let auth = auth::read(&profile.codex_home);
        auth.tokens()?;
        let account = chart::account(&auth, url);
        Some(Told {
            reading: known.of(&profile.name, &account).and_then(|known| known.reading.clone()),
            body: None,
            error: None,
            words: String::new(),
            auth: auth.label().to_owned(),
            email: chart::email(profile, &auth).map(str::to_owned),
            account,
            rotation: chart::rotation(profile),
            asked: false,
            profile: profile.clone(),
        })
    }

    /// Nobody was to ask.
    pub fn left_alone(&self) -> bool {
        !self.asked
    }

    /// The reading, or in words why there is none.
    pub fn quota(&self) -> Result<&Reading, &str> {
        self.reading.as_ref().ok_or(&self.words)
    }

    pub fn row(&self, active: Option<&str>, now: u64) -> Row<'_> {
        let age = self.reading.as_ref().map(|reading| now.saturating_sub(reading.taken_at));
        Row {
            name: &self.profile.name,
            current: active == Some(&self.profile.name),
            auth: &self.auth,
            account: self.email.as_deref(),
            quota: self.quota(),
            rotation: self.rotation.as_deref(),
            live: self.left_alone().then_some(Live { age, ..Live::default() }),
        }
    }
}

impl All {
    /// All accounts together. Where there was no answer nothing is known, whatever was read before: a job relies on it.
    pub fn pool(&self, now: u64) -> Option<Pool> {
        let accounts = self.told.iter().map(|told| {
            let answered = told.asked && told.error.is_none();
            (&told.profile, answered.then_some(told.account.as_str()))
        });
        pool::of_profiles(&self.known, accounts, now)
    }
}
