//! `prodex doctor --fix`: puts right what can be put right without a decision of the user: modes, links, leftovers, a torn
//! state.json. Says each step, and what it left alone and why. Deletes nothing of the user's, and moves only what a run would
//! move: what stands in the place of a link goes where the link leads, or aside.

use crate::config::Config;
use crate::error::Outcome;
use crate::profile::{self, Profile, authfile, home, links};
use crate::proxy::bindings;
use crate::quota::shelf;
use crate::screen::text::clean;
use crate::state::store::{self, Lock};
use crate::state::{State, file};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Steps {
    lines: Vec<String>,
}

impl Steps {
    fn fixed(&mut self, what: impl std::fmt::Display) {
        self.lines.push(format!("fixed: {what}"));
    }

    fn left(&mut self, what: impl std::fmt::Display, why: impl std::fmt::Display) {
        self.lines.push(format!("left alone: {what}, because {why}"));
    }
}

pub fn run(config: &Config, out: &mut dyn Write) -> Outcome {
    let mut steps = Steps::default();
    if !config.root.is_dir() {
        writeln!(out, "Nothing to fix: {} does not exist.", clean(&config.root.display().to_string()))?;
        return Ok(0);
    }
    let state = state(config, &mut steps);
    root(config, &mut steps);
    leftovers(config, &state, &mut steps);
    for profile in state.profiles() {
        home(config, &profile, &mut steps);
    }
    for line in &steps.lines {
        writeln!(out, "{}", clean(line))?;
    }
    if steps.lines.is_empty() {
        writeln!(out, "Nothing to fix. What needs a decision is named by `prodex doctor`.")?;
    }
    Ok(0)
}

fn state(config: &Config, steps: &mut Steps) -> State {
    let path = config.state_file();
    let loaded = match store::load(config) {
        Ok(loaded) => loaded,
        Err(error) => {
            steps.left(path.display(), error);
            return State::default();
        }
    };
    if loaded.warning.is_some() {
        if loaded.state.profiles().is_empty() {
            let next =
                "it is torn and there is no good copy; `prodex profile add NAME` takes in a home that is still there";
            steps.left(path.display(), next);
        } else {
            // Any change writes a whole file; this one changes nothing else.
            match store::update(config, |_| Ok(())) {
                Ok(()) => steps.fixed(format!(
                    "{} is the last good one again; the torn file is kept beside it as state.json.broken-*",
                    path.display()
                )),
                Err(error) => steps.left(path.display(), error),
            }
        }
    }
    loaded.state
}

/// How the names of prodex's own files begin, with their locks, copies and temporaries.
const OURS: [&str; 5] = ["state.json", "quota.json", "bindings.log", "bindings.lock", "proxy-secret"];

/// The root, prodex's own files in it, and the directory of homes.
fn root(config: &Config, steps: &mut Steps) {
    let root = &config.root;
    if config.default_codex_home.starts_with(root) || config.shared_codex_home.starts_with(root) {
        steps.left(root.display(), "more than prodex's own lies in it");
        return;
    }
    private(root, steps);
    private(&config.profiles_dir(), steps);
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| OURS.iter().any(|begin| name.starts_with(begin)));
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            private(&entry.path(), steps);
        }
    }
}

/// Takes from others what they may do with it. Follows no link.
fn private(path: &Path, steps: &mut Steps) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let mode = meta.permissions().mode() & 0o777;
    let is_open = mode & 0o077 != 0;
    if meta.is_symlink() || !is_open {
        return;
    }
    let wanted = mode & 0o700;
    match fs::set_permissions(path, fs::Permissions::from_mode(wanted)) {
        Ok(()) => steps.fixed(format!("{} is private (mode {wanted:04o}, was {mode:04o})", path.display())),
        Err(error) => steps.left(format!("{} (mode {mode:04o})", path.display()), error),
    }
}

/// Each kind goes by the code that makes it, under its lock.
fn leftovers(config: &Config, state: &State, steps: &mut Steps) {
    let entries = fs::read_dir(&config.root).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.contains(".tmp-")));
    let mut before: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    before.extend(home::left_over(config));
    // A login that was cut off in a home of the user's own.
    for profile in state.profiles().iter().filter(|profile| !profile.managed) {
        before.extend(authfile::left_over(&profile.codex_home));
        authfile::recover_left_over(&profile.codex_home);
    }
    if before.is_empty() {
        return;
    }
    home::sweep_left_over(config);
    // Nothing is changed but what is swept on the way: no profile has that name.
    let swept = store::update(config, |_| Ok(())).err();
    let _ = shelf::update(config, |_| ());
    let _ = bindings::forget(config, "");
    if let Ok(_lock) = Lock::take(config) {
        file::sweep(&config.root, "proxy-secret.tmp-");
    }
    for path in before {
        if path.symlink_metadata().is_err() {
            steps.fixed(format!("{} is gone, which an interrupted command left", path.display()));
        } else if let Some(error) = &swept {
            steps.left(path.display(), error);
        } else {
            steps.left(path.display(), "a command is at work on it, or it cannot be deleted");
        }
    }
}

fn home(config: &Config, profile: &Profile, steps: &mut Steps) {
    let Profile { name, codex_home: home, managed, .. } = profile;
    if !home.is_dir() {
        steps.left(format!("profile '{name}'"), format!("its home {} is missing", home.display()));
        return;
    }
    let login = home.join("auth.json");
    if !managed {
        let open = login.symlink_metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0 && meta.is_file());
        if open {
            steps.left(login.display(), format!("that home is yours: `chmod 600 '{}'`", login.display()));
        }
        return;
    }
    private(home, steps);
    private(&login, steps);
    let faults = || -> Vec<String> {
        let faults = links::faults(home, &config.shared_codex_home).unwrap_or_default();
        faults.into_iter().map(|fault| fault.name).collect()
    };
    let mut fixed = faults();
    match profile::ensure_links(profile, config) {
        Ok(aside) => {
            let still = faults();
            fixed.retain(|name| !still.contains(name));
            if !fixed.is_empty() {
                steps.fixed(format!("links of profile '{name}' to the shared history: {}", fixed.join(", ")));
            }
            for aside in aside {
                steps.fixed(format!("moved aside, and kept: {aside}"));
            }
        }
        Err(error) => steps.left(format!("the links of profile '{name}'"), error),
    }
}
