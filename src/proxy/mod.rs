//! The loopback proxy: what it is made of, how it starts, and where codex finds it.
//! The core (`route`, `guard`, `affinity`, `health`, `select`, `budget`, `verdict`, `workspace`, `limits`, `tap`, `turn`) is
//! pure; the rest moves bytes. The map of it all is in `lib.rs`.

pub mod admission;
pub mod affinity;
pub mod attempt;
pub mod bindings;
pub mod budget;
pub mod check;
pub mod connections;
pub mod cookies;
pub mod credentials;
pub mod deliver;
pub mod dial;
pub mod downstream;
pub mod duplex;
pub mod exchange;
pub mod guard;
pub mod health;
pub mod journal;
pub mod lane;
pub mod launch;
pub mod ledger;
pub mod limits;
pub mod listener;
pub mod model;
pub mod passage;
pub mod placement;
pub mod record;
pub mod relay;
pub mod renew;
pub mod rotate;
pub mod route;
pub mod saver;
pub mod scout;
pub mod secret;
pub mod select;
pub mod session;
pub mod share;
pub mod sockets;
pub mod standing;
pub mod tap;
pub mod target;
pub mod turn;
pub mod verdict;
pub mod websocket;
pub mod workspace;

use crate::config::Config;
use crate::error::Error;
use crate::net::tls;
use crate::profile::Profile;
use crate::quota::Reading;
use crate::quota::snapshots::Extent;
use crate::sys::clock;
use crate::wire::url::{Scheme, Url};
use bindings::Recorder;
use connections::Connections;
use cookies::Jar;
use credentials::Wallet;
use journal::{Journal, Marker, Tag};
use lane::Lanes;
use ledger::{Account, Ledger, Serving};
use limits::Limits;
use placement::Placements;
use renew::Renewals;
use route::{Lane, Secrets};
use scout::{News, Scout};
use secret::Home;
use share::Share;
use sockets::{PASSAGES, Sockets};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

/// Codex has ended and the user waits for the prompt: what is still to be written has so long.
const FINISH_LIMIT: Duration = Duration::from_millis(500);
/// Exchanges that codex left behind are over in a millisecond. What it left running itself may go on.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How long a run that died may still count: its exchanges only make others look less busy.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A profile of this run, by its place in the scheduler's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub u16);

/// One profile that may serve.
#[derive(Debug, Clone)]
pub struct Member {
    pub profile: Profile,
    /// When it was last chosen; Unix seconds.
    pub last_selected: Option<u64>,
}

pub struct Settings {
    /// Profiles with ChatGPT credentials, best first for the scheduler. At most `u16::MAX`.
    pub members: Vec<Member>,
    /// Index of the profile that codex is started under.
    pub launching: usize,
    /// The backend, `…/backend-api`.
    pub base: Url,
}

/// What all threads of a run share.
pub struct Shared {
    /// First path segments of everything that codex asks us.
    pub secrets: Secrets,
    /// Our own `Host`.
    pub authority: String,
    pub base: Url,
    pub limits: Limits,
    pub lanes: Lanes,
    pub members: Vec<Member>,
    pub launching: ProfileId,
    pub ledger: Ledger,
    pub wallet: Wallet,
    pub journal: Journal,
    pub connections: Connections,
    pub jar: Jar,
    pub placements: Placements,
    pub renewals: Renewals,
    /// Where logins may lie on this machine: those of all members, and codex's own home.
    pub homes: Vec<PathBuf>,
    pub saver: saver::Saver,
    pub recorder: Recorder,
    pub scout: Scout,
    /// Open ones of the model, and others.
    pub sockets: Sockets,
    pub passages: Sockets,
    /// Workers that serve somebody.
    pub at_work: AtomicUsize,
    requests: AtomicU64,
    /// Works for as long as something is asked.
    housekeeper: OnceLock<Thread>,
}

impl Shared {
    pub fn name(&self, id: ProfileId) -> &str {
        self.members.get(usize::from(id.0)).map_or("?", |member| &member.profile.name)
    }

    pub fn ids(&self) -> impl Iterator<Item = ProfileId> {
        (0..u16::try_from(self.members.len()).unwrap_or(u16::MAX)).map(ProfileId)
    }

    /// Somebody may have logged in with another account in the profile's home meanwhile: nothing that belongs to the one
    /// before is used for it, be it its place in memory, where its requests go, its cookies or its connections.
    pub fn seat(&self, id: ProfileId, account_id: Option<&str>) {
        if self.ledger.has_account(id, account_id) {
            return;
        }
        self.ledger.reseat(id, account(self.name(id), account_id.map(str::to_owned), &self.base));
        self.placements.forget(id);
        self.jar.forget(id);
        self.connections.forget(id);
    }

    pub fn tag(&self, lane: Lane) -> Tag {
        if let Some(housekeeper) = self.housekeeper.get() {
            housekeeper.unpark();
        }
        Tag { request: self.requests.fetch_add(1, Ordering::Relaxed) + 1, lane }
    }
}

/// A running proxy. It ends with the process: codex is gone by then, and a refused port would make it hang
/// (`wire.md` 13.6).
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// Binds a free loopback port and serves it from threads of its own.
    pub fn start(config: &Config, settings: Settings) -> Result<Proxy, Error> {
        let cannot = |error: std::io::Error| Error::new(format!("cannot start the proxy on 127.0.0.1: {error}"));
        let home = Home::of(config)?;
        // The port of last time where it is free, so that codex finds its catalogue of models (`route::Secrets`).
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = bind(home.port).or_else(|_| bind(0)).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        if settings.base.scheme == Scheme::Https {
            tls::check_named_files()
                .map_err(|error| Error::new(error).next("Correct or unset the variable that names it."))?;
        }
        let launching = ProfileId(u16::try_from(settings.launching).unwrap_or(0));
        let limits = Limits::from_env(|name| std::env::var(name).ok());
        let journal = Journal::open(&std::env::temp_dir());
        let wallet = Wallet::new(settings.members.iter().map(|member| member.profile.codex_home.clone()));
        let accounts = accounts(&settings, &wallet);
        let shared = Arc::new(Shared {
            secrets: Secrets { run: secret::random()?, home: home.secret },
            authority: address.to_string(),
            base: settings.base,
            lanes: Lanes::new(limits.clone()),
            launching,
            ledger: Ledger::new(accounts, launching, Share::open(config)),
            recorder: Recorder::start(config.clone()),
            wallet,
            connections: Connections::default(),
            jar: Jar::default(),
            placements: Placements::new(settings.members.len()),
            renewals: Renewals::new(settings.members.len()),
            homes: settings
                .members
                .iter()
                .map(|member| member.profile.codex_home.clone())
                .chain([config.default_codex_home.clone()])
                .collect(),
            saver: saver::Saver::start(config.clone()),
            members: settings.members,
            journal,
            scout: Scout::default(),
            sockets: Sockets::new(limits.sockets()),
            passages: Sockets::new(PASSAGES),
            limits,
            at_work: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            housekeeper: OnceLock::new(),
        });
        shared.journal.line(format_args!("runtime proxy log initialized pid={}", std::process::id()));
        shared.journal.line(format_args!(
            "runtime proxy started listen_addr={address} current_profile={} profiles={} upstream_base_url={}",
            shared.name(launching),
            shared.members.len(),
            shared.base
        ));
        log_panics(&shared);
        listener::start(Arc::clone(&shared), listener).map_err(cannot)?;
        placement::learn_in_background(&shared);
        scout::start(&shared, config.clone());
        recall_in_background(&shared, config.clone());
        Ok(Proxy { shared })
    }

    /// Arguments that lead codex here.
    pub fn overrides(&self) -> [OsString; 4] {
        launch::overrides(&self.shared.authority, &self.shared.secrets)
    }

    /// Writes to state.json, while codex starts, that this run chose the launching profile; `activate`: and that it is the
    /// active one from now on.
    pub fn remember_launch(&self, activate: bool) {
        self.shared.saver.launched(self.shared.name(self.shared.launching), activate);
    }

    /// For what is learned of the profiles elsewhere.
    pub fn briefing(&self) -> Briefing {
        let asked = self.shared.ids().map(|id| self.shared.ledger.ask_about(id)).collect();
        Briefing { shared: Arc::clone(&self.shared), asked }
    }

    /// Codex has ended: what is left to write is written.
    pub fn finish(&self) {
        // Its connections ended with it, and each exchange has its last words.
        let until = clock::now() + LAST_WORDS;
        while self.shared.at_work.load(Ordering::Relaxed) > 0 && clock::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        self.shared.saver.finish(&self.shared.journal);
        if !self.shared.recorder.finish(FINISH_LIMIT) {
            self.shared.journal.note(Marker::StateSaveError, format_args!("error=bindings were not all written"));
        }
        report_recorder(&self.shared);
        self.shared.journal.line(format_args!("runtime proxy ended"));
    }
}

/// Takes in what others have found out about the profiles.
pub struct Briefing {
    shared: Arc<Shared>,
    /// Of each profile.
    asked: Vec<Serving>,
}

impl Briefing {
    /// What a usage call was answered that asked about that profile because a run begins. Where it says that there is
    /// quota left, older marks are over: the user may have paid for more. What is asked in the background ends none: a
    /// refusal is nearer to the truth than a count (spec S-57).
    pub fn told(&self, profile: &str, reading: &Reading) {
        let Some(asked) = self.asked.iter().find(|asked| self.shared.name(asked.id) == profile) else { return };
        self.shared.ledger.has_quota(asked, reading);
        self.shared.scout.tell(News::Told(asked.id, reading.clone(), Extent::Whole));
    }
}

/// Out of quota until then (Unix seconds; 0: nobody knows) by what the backend reports.
fn exhausted(shared: &Shared, id: ProfileId, until: u64) {
    let resets_at = Some(until).filter(|&at| at > 0);
    let asked = shared.ledger.ask_about(id);
    shared.ledger.record(&asked, &verdict::Trouble::Quota { resets_at, retry_after: None }, Lane::Standard, 0);
    shared.journal.note(
        Marker::RetryBackoff,
        format_args!(
            "profile={} until={} source=usage",
            shared.name(id),
            resets_at.map_or("unknown".to_owned(), |at| at.to_string())
        ),
    );
}

/// Each member's account, and its place among the user's runs.
fn accounts(settings: &Settings, wallet: &Wallet) -> Vec<Account> {
    let holder = |index: usize| wallet.account_id(ProfileId(u16::try_from(index).unwrap_or(u16::MAX)));
    let members = settings.members.iter().enumerate();
    members.map(|(index, member)| account(&member.profile.name, holder(index), &settings.base)).collect()
}

fn account(name: &str, id: Option<String>, base: &Url) -> Account {
    Account { seat: standing::seat(name, id.as_deref(), base), id }
}

/// A panic must not write over codex's screen (spec S-4): it goes to the log, without what it says.
fn log_panics(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        shared.journal.note(Marker::WorkerPanic, format_args!("at={place}"));
    }));
}

/// What earlier runs bound is read while codex starts; then, while something is asked, dead runs' shares are taken back.
fn recall_in_background(shared: &Arc<Shared>, config: Config) {
    let shared = Arc::clone(shared);
    // Without the thread this run knows what it learns itself.
    let _ = thread::Builder::new().name("memory".to_owned()).spawn(move || {
        let _ = shared.housekeeper.set(thread::current());
        let read = bindings::read(&config);
        for problem in read.problems {
            shared.journal.note(Marker::StateSaveError, format_args!("error={problem}"));
        }
        if let Some(problem) = shared.ledger.share_problem() {
            shared.journal.note(Marker::StateSaveError, format_args!("error=other runs are not seen: {problem}"));
        }
        for binding in &read.bindings {
            let Some(place) = shared.members.iter().position(|member| member.profile.name == binding.profile) else {
                continue;
            };
            let Ok(id) = u16::try_from(place).map(ProfileId) else { continue };
            shared.ledger.recall(binding.kind.key(&binding.id), id);
        }
        shared.journal.line(format_args!("bindings recalled count={}", read.bindings.len()));
        drop(read.bindings);
        loop {
            // An idle run wakes for nothing.
            thread::park();
            shared.ledger.sweep();
            thread::sleep(HOUSEKEEPING);
            report_recorder(&shared);
        }
    });
}

fn report_recorder(shared: &Shared) {
    if let Some(problem) = shared.recorder.take_problem() {
        shared.journal.note(Marker::StateSaveError, format_args!("error={problem}"));
    }
}
