//! `run`: which profile, is it ready, and codex on its way: behind the proxy when there is somebody to rotate to, else in
//! our place. Knows no wire format.

use super::preflight::{self, Choice, Chosen};
use super::{find_codex, load, resume, warn};
use crate::cli;
use crate::config::{Config, DEFAULT_BASE_URL};
use crate::error::{Error, Outcome};
use crate::profile::auth::{self, Auth};
use crate::profile::in_use::InUse;
use crate::profile::{self, Profile, provider};
use crate::proxy::standing;
use crate::proxy::{Member, Proxy, Settings, launch, saver};
use crate::state::{State, store};
use crate::sys::child::{self, Program};
use crate::wire::url::Url;
use std::time::Duration;

/// A run that ended before its quota check was noted waits for one small file; a disk that is stuck keeps nobody.
const INFORM_PATIENCE: Duration = Duration::from_secs(1);

pub fn run(config: &Config, args: &cli::Run) -> Outcome {
    let state = load(config)?;
    let mut wanted = profile::select(&state, args.profile.as_deref())?;
    if args.profile.is_some() {
        // Who names it wants it, whole.
        (wanted.disabled, wanted.reserve) = (false, 0);
    }
    let base_url = args.base_url.as_deref().unwrap_or(&config.base_url).trim_end_matches('/');
    let base = super::base(config, args.base_url.as_deref())?;
    let binary = find_codex(config)?;
    let login = auth::read(&wanted.codex_home);
    // Named by the user, a profile without a login may be meant to be logged in to; else it is left like one out of quota.
    let is_left =
        unusable(&login).is_some() && args.profile.is_none() && !args.no_auto_rotate && !args.skip_quota_check;
    if let Some(problem) = unusable(&login).filter(|_| !is_left) {
        // Codex starts all the same: logging in is its business.
        warn(&format!("{problem} in profile '{0}'. Log in with `prodex login -p {0}`.", wanted.name));
    }
    if let (Auth::Keyring { .. }, false) = (&login, args.no_auto_rotate) {
        warn(&format!(
            "the login of profile '{}' is kept in the system's keyring (cli_auth_credentials_store in its config.toml), where \
             prodex cannot use it: codex runs without the proxy, and nothing moves when its quota is used up",
            wanted.name
        ));
    }
    let chosen = if args.skip_quota_check || login.tokens().is_none() && !is_left {
        if wanted.disabled {
            warn(&format!(
                "profile '{0}' is disabled. Take it in again with `prodex profile enable {0}`.",
                wanted.name
            ));
        }
        Chosen::unchecked(wanted)
    } else {
        preflight::check(config, &state, &wanted, &base, choice(args))?
    };
    let profile = chosen.profile.clone();
    if !profile.codex_home.is_dir() {
        let error = Error::new(format!(
            "the CODEX_HOME {} of profile '{}' does not exist",
            profile.codex_home.display(),
            profile.name
        ));
        return Err(error.next(format!("Remove it with `prodex profile remove {}`.", profile.name)));
    }
    match profile::ensure_links(&profile, config) {
        Ok(moved) => moved.iter().for_each(|moved| warn(&format!("moved aside: {moved}"))),
        // Codex can work without a shared history; the user can not without codex.
        Err(error) => warn(&error.to_string()),
    }
    let mut program = Program {
        path: binary,
        args: args.args.clone(),
        env: vec![("CODEX_HOME".into(), profile.codex_home.clone().into_os_string())],
    };
    if !provider::is_foreign(&profile.codex_home, &program.args) {
        resume::resolve(&mut program.args, &profile.codex_home);
    }
    // So that no other prodex refreshes this login under the codex that uses it. Without the mark codex's own lock remains.
    let mark = profile::in_use::mark(&profile.codex_home).ok();
    let members = members(&state, &profile, args);
    if members.len() < 2 {
        remember(config, &profile, chosen.rotated);
        chosen.remember(config);
        if base_url != DEFAULT_BASE_URL {
            warn(&format!("without the proxy codex does not know of {base_url}: it asks its own backend"));
        }
        // Nothing in between is the most transparent proxy (spec S-52).
        return Err(cannot_run(&program, &child::replace(&program, mark.as_ref().map(InUse::file))));
    }
    let code = behind_proxy(config, &state, &mut program, &profile, members, base, chosen);
    drop(mark);
    code
}

fn behind_proxy(
    config: &Config,
    state: &State,
    program: &mut Program,
    profile: &Profile,
    profiles: Vec<Profile>,
    base: Url,
    chosen: Chosen,
) -> Outcome {
    let launching = profiles.iter().position(|member| member.name == profile.name).unwrap_or(0);
    let member = |profile: Profile| Member { last_selected: state.last_run_selected_at(&profile.name), profile };
    let members = profiles.into_iter().map(member).collect();
    let proxy = Proxy::start(config, Settings { members, launching, base })?;
    // Codex starts while these two go on.
    proxy.remember_launch(chosen.rotated);
    let informed = chosen.inform(config, &proxy);
    program.args.splice(0..0, proxy.overrides());
    // Programs look at one of the two spellings: what the user set in only one must not vanish behind ours in the other.
    for (name, other) in [("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")] {
        let list = std::env::var(name).or_else(|_| std::env::var(other)).ok();
        program.env.push((name.into(), launch::with_loopback(list.as_deref()).into()));
    }
    let status = child::run(program).map_err(|error| cannot_run(program, &error))?;
    proxy.finish();
    let _ = informed.recv_timeout(INFORM_PATIENCE);
    Ok(child::exit_code(status))
}

/// How far the quota check may choose the profile.
fn choice(args: &cli::Run) -> Choice {
    let goes_on = args.args.iter().any(|arg| arg == "resume" || arg == "fork");
    match (args.no_auto_rotate, &args.profile) {
        (true, _) => Choice::Fixed,
        (false, None) if !goes_on => Choice::Free,
        _ => Choice::Rotate,
    }
}

/// What is wrong with a login that codex will not complain of before it has failed for a minute.
fn unusable(login: &Auth) -> Option<String> {
    match login {
        Auth::Missing => Some("nobody is logged in".to_owned()),
        Auth::Unreadable(why) => Some(format!("auth.json cannot be read ({why})")),
        Auth::Invalid(why) => Some(why.clone()),
        _ => None,
    }
}

/// The profiles that the proxy may use, the launching one among them and none that is disabled; fewer than two: no proxy.
fn members(state: &State, launching: &Profile, args: &cli::Run) -> Vec<Profile> {
    let has_tokens = |profile: &Profile| auth::read(&profile.codex_home).tokens().is_some();
    if args.no_auto_rotate || !has_tokens(launching) || provider::is_foreign(&launching.codex_home, &args.args) {
        return Vec::new();
    }
    let mut profiles = standing::order(state, Some(launching));
    profiles.retain(|profile| profile.name == launching.name || !profile.disabled && has_tokens(profile));
    profiles.truncate(usize::from(u16::MAX));
    profiles
}

/// What the next run should know. That it cannot be written is no reason not to run.
fn remember(config: &Config, profile: &Profile, activate: bool) {
    let saved = store::update(config, |state| {
        saver::launched(state, &profile.name, activate);
        Ok(())
    });
    if let Err(error) = saved {
        warn(&error.to_string());
    }
}

fn cannot_run(program: &Program, error: &std::io::Error) -> Error {
    Error::io("run", &program.path, error)
}
