//! A directory that is the whole world of one test: HOME, PRODEX_HOME, codex homes and TMPDIR inside, an environment
//! with nothing else of ours. Knows no command line.

use super::run::Run;
use super::standin::backend::Backend;
use super::standin::json::quote;
use super::standin::token;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub struct TestSpace {
    root: PathBuf,
    keep: AtomicBool,
    /// `CODEX_CHATGPT_BASE_URL` and the rest of what `env` adds.
    extra: Vec<(String, String)>,
    removed: Vec<String>,
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

impl TestSpace {
    /// Empty: no profile, no login. Gone when dropped, kept when the test fails.
    pub fn new(name: &str) -> TestSpace {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Short: a tmux or codex socket below it must fit into 108 bytes.
        let root = std::env::temp_dir().join(format!("prodex-{name}-{}-{serial}", std::process::id()));
        for dir in ["home/.codex", "tmp", "work"] {
            fs::create_dir_all(root.join(dir)).expect("the test's directory is made");
        }
        let root = root.canonicalize().expect("the directory was just made");
        TestSpace { root, keep: AtomicBool::new(false), extra: Vec::new(), removed: Vec::new() }
    }

    /// With profiles of these names, logged in, the first active, and `backend` for a ChatGPT.
    pub fn with_profiles(name: &str, profiles: &[&str], backend: &Backend) -> TestSpace {
        let mut space = TestSpace::new(name);
        space.profiles(profiles);
        space.use_backend(backend);
        space
    }

    pub fn use_backend(&mut self, backend: &Backend) {
        self.env("CODEX_CHATGPT_BASE_URL", &backend.base_url());
        self.env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", &backend.token_url());
    }

    /// Adds to the environment of everything that runs here.
    pub fn env(&mut self, name: &str, value: &str) {
        self.extra.retain(|(known, _)| known != name);
        self.removed.retain(|known| known != name);
        self.extra.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable out of that environment, `HTTPS_PROXY` for one.
    pub fn unset(&mut self, name: &str) {
        self.extra.retain(|(known, _)| known != name);
        self.removed.push(name.to_owned());
    }

    /// Keeps the directory and says where it is.
    pub fn eject(&self) -> &Path {
        if !self.keep.swap(true, Ordering::Relaxed) {
            eprintln!("kept for you: {}", self.root.display());
        }
        &self.root
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The user's own codex home.
    pub fn codex_home(&self) -> PathBuf {
        self.home().join(".codex")
    }

    pub fn prodex_home(&self) -> PathBuf {
        self.home().join(".prodex")
    }

    pub fn profile_home(&self, name: &str) -> PathBuf {
        self.prodex_home().join("profiles").join(name)
    }

    pub fn state_file(&self) -> PathBuf {
        self.prodex_home().join("state.json")
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where commands run.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Managed profiles as 0.2.38 leaves them, and its `state.json`; the first is active.
    pub fn profiles(&self, names: &[&str]) {
        let mut entries: Vec<String> = Vec::new();
        // 0.2.38 writes its maps sorted by key.
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        for name in sorted {
            self.login(name, &token::auth_json(name));
            let home = quote(&self.profile_home(name).to_string_lossy());
            let email = quote(&token::email(name));
            entries.push(format!(
                "    {}: {{\n      \"codex_home\": {home},\n      \"managed\": true,\n      \"email\": {email}\n    }}",
                quote(name)
            ));
        }
        let active = names.first().map_or("null".to_owned(), |name| quote(name));
        let state = format!(
            "{{\n  \"active_profile\": {active},\n  \"profiles\": {{\n{}\n  }},\n  \"last_run_selected_at\": {{}},\n  \"response_profile_bindings\": {{}},\n  \"session_profile_bindings\": {{}}\n}}",
            entries.join(",\n")
        );
        fs::write(self.state_file(), state).expect("state.json is written");
    }

    /// Writes `auth.json` of a managed profile; makes its home when it is missing.
    pub fn login(&self, name: &str, auth_json: &str) {
        let home = self.profile_home(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).expect("the profile's home is made");
        write_private(&home.join("auth.json"), auth_json);
    }

    /// A command in this world: working directory, environment, nothing inherited but PATH.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("PRODEX_HOME", self.prodex_home())
            .env("TMPDIR", self.tmp())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            // Whatever tries to leave the machine meets a closed port.
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .envs(self.extra.iter().map(|(name, value)| (name, value)));
        for name in &self.removed {
            command.env_remove(name);
        }
        command
    }

    /// `prodex` with these arguments, ready to run.
    pub fn prodex(&self, args: &[&str]) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_prodex"));
        command.args(args);
        Run::new(command)
    }

    /// Any other program.
    pub fn run(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Run {
        let mut command = self.command(program);
        command.args(args);
        Run::new(command)
    }

    /// The runtime logs of every prodex that ran here, oldest first.
    pub fn runtime_logs(&self) -> Vec<String> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.tmp())
            .expect("TMPDIR is there")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.starts_with("prodex-runtime-") && path.extension().is_some_and(|end| end == "log")
            })
            .collect();
        paths.sort_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
        paths.iter().map(|path| fs::read_to_string(path).expect("a runtime log is text")).collect()
    }

    /// Runtime log lines that contain `marker`.
    pub fn marked(&self, marker: &str) -> Vec<String> {
        let lines = |log: &String| log.lines().filter(|line| line.contains(marker)).map(str::to_owned).collect();
        self.runtime_logs().iter().flat_map(|log| -> Vec<String> { lines(log) }).collect()
    }
}

pub fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file of the test is written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode is set");
}

impl Drop for TestSpace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.eject();
        }
        if !self.keep.load(Ordering::Relaxed) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}
