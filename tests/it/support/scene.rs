//! `prodex run` of the real codex before a stand-in: what the tests of rotation and launch have in common. Knows the
//! command line of `run`, and what codex says when something went wrong.

use super::codex;
use super::run::{Output, Run};
use super::space::TestSpace;
use super::standin::backend::Backend;
use super::standin::record::Record;
use super::standin::script::{Kind, Script};
use super::standin::tls::Ca;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes so long, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What happens at once.
pub const SOON: Duration = Duration::from_secs(10);

pub struct Scene {
    // Dropped first: codex is gone before its backend is.
    pub space: TestSpace,
    pub backend: Backend,
}

impl Scene {
    /// Profiles of these names, the first active; the script knows what their accounts do.
    pub fn new(name: &str, profiles: &[&str], script: Script) -> Scene {
        Scene::of(TestSpace::new(name), profiles, Backend::start(script))
    }

    /// The same over TLS, with an authority that nobody trusts yet.
    pub fn over_tls(name: &str, profiles: &[&str], script: Script) -> (Scene, Ca) {
        let space = TestSpace::new(name);
        let ca = Ca::new(space.root());
        let backend = Backend::start_tls(script, &ca);
        (Scene::of(space, profiles, backend), ca)
    }

    fn of(mut space: TestSpace, profiles: &[&str], backend: Backend) -> Scene {
        space.profiles(profiles);
        space.use_backend(&backend);
        let mut scene = Scene { space, backend };
        scene.codex(codex::CURRENT);
        scene
    }

    /// From now on codex is this version.
    pub fn codex(&mut self, version: &str) {
        let path = codex::real(version);
        self.space.env("PRODEX_CODEX_BIN", path.to_str().expect("test paths are UTF-8"));
    }

    /// `prodex run exec ARGS`, ready to run.
    pub fn exec(&self, args: &[&str]) -> Run {
        self.run(&[&["exec", "--skip-git-repo-check"], args].concat())
    }

    /// `prodex run ARGS`, ready to run.
    pub fn run(&self, args: &[&str]) -> Run {
        self.space.prodex(&[&["run"], args].concat()).at_most(PATIENCE)
    }

    /// What direct codex, logged in as this profile, makes of the same backend.
    pub fn direct(&self, profile: &str, args: &[&str]) -> Output {
        self.alone(&self.space.profile_home(profile), args)
    }

    /// The same in any home.
    pub fn alone(&self, home: &Path, args: &[&str]) -> Output {
        let overrides = self.backend.codex_overrides();
        let mut all: Vec<&str> = overrides.iter().map(String::as_str).collect();
        all.extend(["exec", "--skip-git-repo-check"]);
        all.extend(args);
        let run = self.space.run(codex::real(codex::CURRENT), &all);
        run.env("CODEX_HOME", home.to_str().expect("test paths are UTF-8")).at_most(PATIENCE).output()
    }

    /// The model requests that reached the backend, as `account kind`, in order; `+` where output began.
    pub fn asked(&self) -> Vec<String> {
        self.asked_but(|_| false)
    }

    /// The same without those that the test does not care about.
    pub fn asked_but(&self, aside: impl Fn(&Record) -> bool) -> Vec<String> {
        self.model_records().iter().filter(|record| !aside(record)).map(asked).collect()
    }

    /// Panics when something that was started in this world does not end: the programs' names, but for tmux and its shell.
    #[track_caller]
    pub fn nothing_left(&self) {
        let until = Instant::now() + SOON;
        loop {
            let left = processes(&self.space);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "still there: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn model_records(&self) -> Vec<Record> {
        let model =
            |kind: &Kind| matches!(kind, Kind::Handshake | Kind::Prewarm | Kind::Turn | Kind::Post | Kind::Compact);
        self.backend.records().into_iter().filter(|record| model(&record.kind)).collect()
    }
}

fn asked(record: &Record) -> String {
    let account = record.account.as_deref().unwrap_or("-");
    let kind = format!("{:?}", record.kind).to_lowercase();
    format!("{account} {kind}{}", if record.output_began { "+" } else { "" })
}

/// Known by their environment: HOME is the space's. A zombie has none.
fn processes(space: &TestSpace) -> Vec<String> {
    let home = format!("HOME={}", space.home().display());
    let lives_here = |environ: Vec<u8>| environ.split(|byte| *byte == 0).any(|entry| entry == home.as_bytes());
    let all = fs::read_dir("/proc").expect("a Linux /proc").flatten().map(|entry| entry.path());
    let here = all.filter(|path| fs::read(path.join("environ")).is_ok_and(lives_here));
    let names = here.filter_map(|path| Some(fs::read_link(path.join("exe")).ok()?.to_string_lossy().into_owned()));
    names.filter(|name| !name.ends_with("/tmux") && !name.ends_with("sh")).collect()
}
