//! What a live view knows, kept up to date behind its back: profiles come and go, answers arrive one by one, other processes
//! learn something. Asks politely (spec S-46); draws nothing.

use crate::command::chart;
use crate::config::Config;
use crate::profile::{Profile, auth};
use crate::quota::pool::{self, Pool};
use crate::quota::probe::{self, AT_ONCE, Answer, CALL_LIMIT};
use crate::quota::snapshots::{self, Snapshots};
use crate::quota::{Reading, shelf};
use crate::screen::quota::{Live, Row};
use crate::state::{State, store};
use crate::sys::clock;
use crate::sys::tty::Bell;
use crate::wire::url::Url;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Between two looks at what others wrote, and at who is due.
const PERIOD: Duration = Duration::from_secs(5);
/// After so long an answer is not under way any more, whatever became of its thread. Seconds.
const LOST: u64 = 15;

/// Who is looked at.
pub enum Whom {
    All,
    /// `named`: by the user, who means a disabled one, too.
    One {
        name: String,
        named: bool,
    },
}

impl Whom {
    fn includes(&self, profile: &Profile) -> bool {
        match self {
            Whom::All => true,
            Whom::One { name, .. } => *name == profile.name,
        }
    }

    fn may_ask(&self, profile: &Profile) -> bool {
        !profile.disabled || matches!(self, Whom::One { named: true, .. })
    }
}

/// Shared by the screen, the thread that looks around, and those that ask.
pub struct Feed {
    config: Config,
    url: Url,
    whom: Whom,
    bell: Mutex<Option<Bell>>,
    board: Mutex<Board>,
}

/// What there is to draw.
#[derive(Default)]
pub struct Board {
    accounts: Vec<Account>,
    known: Snapshots,
    /// What we learn cannot be written: from here on we only know what we asked ourselves.
    alone: bool,
}

struct Account {
    profile: Profile,
    current: bool,
    auth: String,
    email: Option<String>,
    rotation: Option<String>,
    /// Whose login it is: [`snapshots::account`].
    key: String,
    /// Somebody can be asked, which needs a login with tokens, and may be.
    to_ask: bool,
    asked_at: Option<u64>,
    trouble: Option<Trouble>,
}

/// What came of our last question, when that was no reading.
struct Trouble {
    at: u64,
    words: String,
    /// There is something to do about it: an older reading is no consolation.
    grave: bool,
}

impl Feed {
    pub fn new(config: &Config, url: &Url, whom: Whom, state: &State) -> Arc<Feed> {
        let feed =
            Feed { config: config.clone(), url: url.clone(), whom, bell: Mutex::default(), board: Mutex::default() };
        feed.take_in(state);
        Arc::new(feed)
    }

    /// Begins to ask. It ends when nobody holds the feed any more.
    pub fn start(self: &Arc<Feed>, bell: Bell) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(bell);
        let feed = Arc::downgrade(self);
        let look_around = move || {
            while let Some(feed) = Weak::upgrade(&feed) {
                if let Ok(loaded) = store::load(&feed.config) {
                    feed.take_in(&loaded.state);
                }
                feed.ask();
                feed.ring();
                drop(feed);
                std::thread::sleep(PERIOD);
            }
        };
        // Without a thread the screen still shows what is known.
        let _ = std::thread::Builder::new().name("feed".to_owned()).spawn(look_around);
    }

    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        if let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner) {
            bell.ring();
        }
    }

    /// The profiles as they are, and what others wrote.
    fn take_in(&self, state: &State) {
        let active = state.active();
        let accounts: Vec<Account> = state
            .profiles()
            .into_iter()
            .filter(|profile| self.whom.includes(profile))
            .map(|profile| self.account(profile, active.as_deref()))
            .collect();
        let known = shelf::load(&self.config);
        let mut board = self.board();
        let mut before = std::mem::take(&mut board.accounts);
        board.accounts = accounts;
        for account in &mut board.accounts {
            let same = |old: &Account| old.profile.name == account.profile.name && old.key == account.key;
            if let Some(at) = before.iter().position(same) {
                let old = before.swap_remove(at);
                account.asked_at = old.asked_at;
                account.trouble = account.trouble.take().or(old.trouble);
            }
        }
        if !board.alone {
            board.known = known;
        }
    }

    fn account(&self, profile: Profile, active: Option<&str>) -> Account {
        let auth = auth::read(&profile.codex_home);
        let key = chart::account(&auth, &self.url);
        let tokens = auth.tokens().is_some();
        let mut account = Account {
            current: active == Some(&profile.name),
            auth: auth.label().to_owned(),
            email: chart::email(&profile, &auth).map(str::to_owned),
            rotation: chart::rotation(&profile),
            to_ask: tokens && self.whom.may_ask(&profile),
            profile,
            key,
            asked_at: None,
            trouble: None,
        };
        if !tokens {
            // Says so without asking anybody.
            account.settle(&probe::fetch_one(&self.url, &account.profile, CALL_LIMIT));
        }
        account
    }

    /// Asks about those that are due, each on its own: a slow one keeps no other waiting.
    fn ask(self: &Arc<Feed>) {
        let now = clock::unix();
        for (profile, key) in self.due(now) {
            if let Some(account) = self.board().find(&profile.name, &key) {
                account.asked_at = Some(now);
            }
            let feed = Arc::clone(self);
            let name = profile.name.clone();
            probe::fetch_apart(self.url.clone(), profile, CALL_LIMIT, move |answer| feed.arrived(&name, &answer));
        }
    }

    /// Who is asked now: nobody who was asked by any process a moment ago. They count as asked from here on.
    fn due(&self, now: u64) -> Vec<(Profile, String)> {
        let mut board = self.board();
        let under_way = board.accounts.iter().filter(|account| account.is_asked(now)).count();
        let is_due = |account: &&Account| {
            let known = board.known.of(&account.profile.name, &account.key);
            account.to_ask && !account.is_asked(now) && known.is_none_or(|known| known.due_at(now) <= now)
        };
        let due = board.accounts.iter().filter(is_due).take(AT_ONCE.saturating_sub(under_way));
        let due: Vec<(Profile, String)> = due.map(|account| (account.profile.clone(), account.key.clone())).collect();
        if due.is_empty() {
            return due;
        }
        // The lock of the file can take a while; the screen must not wait for it.
        drop(board);
        let claim = |known: &mut Snapshots| -> Vec<(Profile, String)> {
            due.iter().filter(|(profile, key)| known.claim(&profile.name, key, now)).cloned().collect()
        };
        let claimed = shelf::update(&self.config, claim);
        board = self.board();
        board.alone = claimed.is_err();
        claimed.unwrap_or_else(|_| claim(&mut board.known))
    }

    fn arrived(&self, name: &str, answer: &Answer) {
        let noted = shelf::update(&self.config, |known| {
            shelf::note(known, name, answer);
            known.clone()
        });
        let mut board = self.board();
        match noted {
            Ok(known) => board.known = known,
            Err(_) => shelf::note(&mut board.known, name, answer),
        }
        if let Some(account) = board.find(name, &answer.account) {
            account.settle(answer);
        }
        drop(board);
        self.ring();
    }
}

impl Account {
    fn is_asked(&self, now: u64) -> bool {
        self.asked_at.is_some_and(|at| now.saturating_sub(at) < LOST)
    }

    fn settle(&mut self, answer: &Answer) {
        self.asked_at = None;
        let name = &self.profile.name;
        self.trouble = answer.usage.as_ref().err().map(|error| Trouble {
            at: clock::unix(),
            words: error.words(name),
            grave: error.next(name).is_some(),
        });
    }
}

impl Board {
    fn find(&mut self, name: &str, key: &str) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.profile.name == name && account.key == key)
    }

    pub fn rows(&self, now: u64) -> Vec<Row<'_>> {
        self.accounts.iter().map(|account| self.row(account, now)).collect()
    }

    fn row<'a>(&'a self, account: &'a Account, now: u64) -> Row<'a> {
        let known = self.known.of(&account.profile.name, &account.key);
        let reading: Option<&Reading> = known.and_then(|known| known.reading.as_ref());
        let taken_at = reading.map_or(0, |reading| reading.taken_at);
        // Another process may have had more luck since.
        let own = account.trouble.as_ref().filter(|trouble| trouble.at > taken_at);
        let problem = own.map(|trouble| trouble.words.as_str()).or(known.and_then(|known| known.problem.as_deref()));
        let age = now.saturating_sub(taken_at);
        let quota = match (reading, problem) {
            (_, Some(problem)) if own.is_some_and(|trouble| trouble.grave) => Err(problem),
            (Some(_), Some(problem)) if age > snapshots::USABLE => Err(problem),
            (Some(reading), _) => Ok(reading),
            (None, problem) => Err(problem.unwrap_or_default()),
        };
        let asking = account.is_asked(now) || (account.to_ask && reading.is_none() && problem.is_none());
        Row {
            name: &account.profile.name,
            current: account.current,
            auth: &account.auth,
            account: account.email.as_deref(),
            quota,
            rotation: account.rotation.as_deref(),
            live: Some(Live { age: quota.is_ok().then_some(age), asking, problem }),
        }
    }

    pub fn pool(&self, now: u64) -> Option<Pool> {
        let accounts = self.accounts.iter().map(|account| (&account.profile, Some(account.key.as_str())));
        pool::of_profiles(&self.known, accounts, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::snapshots::Extent;

    const NOW: u64 = 1_800_000_000;

    /// A board of one account, of which something was read so long ago, and what came of our last question just now.
    fn board(read: Option<u64>, trouble: Option<(u64, bool)>) -> Board {
        let mut board = Board::default();
        if let Some(age) = read {
            let reading = Reading { taken_at: NOW - age, ..Reading::default() };
            board.known.learn("a", "x", &reading, Extent::Whole);
        }
        board.accounts.push(Account {
            profile: Profile {
                name: "a".to_owned(),
                codex_home: "/a".into(),
                managed: true,
                email: None,
                disabled: false,
                reserve: 0,
            },
            current: false,
            auth: "chatgpt".to_owned(),
            email: Some("a@example.com".to_owned()),
            rotation: None,
            key: "x".to_owned(),
            to_ask: true,
            asked_at: None,
            trouble: trouble.map(|(ago, grave)| Trouble { at: NOW - ago, words: "no".to_owned(), grave }),
        });
        board
    }

    #[test]
    fn an_older_reading_stays_until_it_is_too_old_or_there_is_something_to_do() {
        // Read so long ago, trouble so long ago and whether it is grave: the reading is shown, its age, what is said.
        let rows = [
            (Some(5), None, true, Some(5), None),
            (Some(5_000), None, true, Some(5_000), None),
            (Some(60), Some((1, false)), true, Some(60), Some("no")),
            (Some(601), Some((1, false)), false, None, Some("no")),
            (Some(60), Some((1, true)), false, None, Some("no")),
            (Some(60), Some((90, true)), true, Some(60), None),
            (None, Some((1, false)), false, None, Some("no")),
            (None, None, false, None, None),
        ];
        for (read, trouble, shown, age, problem) in rows {
            let board = board(read, trouble);
            let row = board.rows(NOW)[0];
            let live = row.live.unwrap();
            assert_eq!((row.quota.is_ok(), live.age, live.problem), (shown, age, problem), "{read:?} {trouble:?}");
            assert_eq!(live.asking, read.is_none() && trouble.is_none(), "{read:?} {trouble:?}");
        }
        assert_eq!(board(None, None).rows(NOW)[0].account, Some("a@example.com"));
    }

    #[test]
    fn a_thread_that_is_lost_is_not_waited_for() {
        let mut board = board(Some(60), None);
        board.accounts[0].asked_at = Some(NOW);
        assert!(board.accounts[0].is_asked(NOW + LOST - 1) && !board.accounts[0].is_asked(NOW + LOST));
    }
}
