//! What the files and the environment say, without asking anybody: the state, each profile's home and login, and
//! what is wrong with them. Reads only, within bounds; no token leaves this file.

use super::{Finding, homes};
use crate::config::Config;
use crate::net::way_out;
use crate::profile::auth::{self, Auth, Secret};
use crate::profile::identity::{Identity, Likeness};
use crate::profile::links::{self, Found};
use crate::profile::shared::ENTRIES;
use crate::profile::{Profile, provider, refusal};
use crate::quota::probe::Answer;
use crate::state::{State, file, store};
use crate::sys::access;
use crate::wire::json::Raw;
use crate::wire::url::Url;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Links of one home that are named; a home that lost its shared store has about 14.
const MAX_LINKS: usize = 3;

/// One profile, as found.
pub struct Patient {
    pub profile: Profile,
    pub auth: Auth,
    pub exists: bool,
    /// What the backend says of its quota, if it was asked.
    pub answer: Option<Answer>,
}

/// The state as far as it can be read, and whether its file is there.
pub fn state(config: &Config, findings: &mut Vec<Finding>) -> (State, bool) {
    let path = config.state_file();
    let loaded = store::load(config);
    let state = match loaded {
        Ok(loaded) => {
            let next = "See what is left with `prodex profile list`; the next change writes a whole file again";
            findings.extend(loaded.warning.map(|warning| Finding::new("state_broken", warning, next)));
            loaded.state
        }
        Err(error) => {
            let next = format!("Look at it: `ls -la {}`", config.root.display());
            findings.push(Finding::new("state_unreadable", error.to_string(), next));
            State::default()
        }
    };
    for problem in state.problems() {
        let next = format!("Correct {}, or drop the entry with `prodex profile remove NAME`", path.display());
        findings.push(Finding::new("state_entry", problem, next));
    }
    if let Some(active) = state.active()
        && state.profile(&active).is_none()
    {
        let what = format!("the active profile '{active}' does not exist");
        findings.push(Finding::new("active_missing", what, "Choose one with `prodex use NAME`"));
    }
    if config.root.is_dir() && !access::is_writable(&config.root) {
        let what = format!("{} cannot be written: no profile can be added or chosen", config.root.display());
        findings.push(Finding::new(
            "root_read_only",
            what,
            "Make it writable, or choose another place with PRODEX_HOME",
        ));
    }
    (state, path.symlink_metadata().is_ok())
}

/// All profiles, and what is wrong with each and with all of them together.
pub fn profiles(config: &Config, state: &State, findings: &mut Vec<Finding>) -> Vec<Patient> {
    let mut patients = Vec::new();
    for profile in state.profiles() {
        let (auth, exists) = (auth::read(&profile.codex_home), profile.codex_home.is_dir());
        let patient = Patient { profile, auth, exists, answer: None };
        let before = findings.len();
        examine(config, &patient, findings);
        for finding in &mut findings[before..] {
            finding.profile = Some(patient.profile.name.clone());
        }
        patients.push(patient);
    }
    let logins = patients.iter().filter(|patient| patient.auth.tokens().is_some()).count();
    if patients.is_empty() {
        let next = "Copy your present login with `prodex profile import-current main`, or log in with `prodex login`";
        findings.push(Finding::new("no_profile", "there is no profile yet", next));
    } else if logins < 2 {
        let what = format!(
            "{} with a ChatGPT login: with fewer than two `prodex run` starts codex without the proxy, and nothing moves \
             when a quota is used up",
            if logins == 1 { "there is only one profile" } else { "there is no profile" }
        );
        let next = "Add another account: `prodex login`";
        findings.push(Finding::new("no_rotation", what, next));
    }
    twins(&patients, findings);
    homes::examine(config, state, &patients, findings);
    patients
}

/// One profile.
fn examine(config: &Config, patient: &Patient, findings: &mut Vec<Finding>) {
    let Profile { name, codex_home: home, .. } = &patient.profile;
    let mut find = |id, what: String, next: String| findings.push(Finding::new(id, what, next));
    if !patient.exists {
        let what = format!("the home of profile '{name}' is missing: {}", home.display());
        return find("home_missing", what, format!("Put it back, or forget it: `prodex profile remove {name}`"));
    }
    let login = format!("Log in: `prodex login -p {name}`");
    match &patient.auth {
        Auth::Missing => find("login_missing", format!("nobody is logged in to profile '{name}'"), login),
        Auth::Unreadable(why) | Auth::Invalid(why) => {
            find("login_unusable", format!("the login of profile '{name}' cannot be used: {why}"), login);
        }
        // The keyring has a finding of its own below.
        Auth::ApiKey | Auth::Keyring { .. } | Auth::Other(_) => {}
        Auth::ChatGpt(_) => {
            if let Some(why) = refusal::login_needed(home) {
                let what = format!("the backend refused the login of profile '{name}': {}", why.trim_end_matches('.'));
                find("login_refused", what, format!("Log in again: `prodex login -p {name}`"));
            }
        }
    }
    let file = home.join("auth.json");
    if let Ok(meta) = file.symlink_metadata() {
        let mode = meta.permissions().mode() & 0o777;
        if meta.is_symlink() {
            let what = format!("{} is a link: codex replaces it by a file when it refreshes the login", file.display());
            find("auth_link", what, format!("Give the profile a login of its own: `prodex login -p {name}`"));
        } else if mode & 0o077 != 0 {
            let what = format!("others can read {} (mode {mode:04o})", file.display());
            find("auth_mode", what, format!("Make it private: `chmod 600 '{}'`", file.display()));
        }
    }
    if let Ok(meta) = home.metadata()
        && patient.profile.managed
        && meta.permissions().mode() & 0o077 != 0
    {
        let mode = meta.permissions().mode() & 0o777;
        let what = format!("the home of profile '{name}' is open to others (mode {mode:04o})");
        find("home_mode", what, "Make it private: `prodex doctor --fix`".to_owned());
    }
    let toml = home.join("config.toml");
    if auth::store(home).as_deref() == Some("keyring") || matches!(patient.auth, Auth::Keyring { .. }) {
        let what = format!("{} keeps the login in a keyring, where prodex cannot read it", toml.display());
        let next = format!("Set `cli_auth_credentials_store = \"file\"` there, then `prodex login -p {name}`");
        find("keyring", what, next);
    }
    if provider::is_foreign(home, &[]) {
        let what = format!("{} chooses another model_provider: codex runs without the proxy there", toml.display());
        let next = "Remove that line, or leave it out once: `prodex run -c model_provider=openai`".to_owned();
        find("foreign_provider", what, next);
    }
    if patient.profile.managed {
        let links = wrong_links(home, &config.shared_codex_home);
        if !links.is_empty() {
            let named = links[..links.len().min(MAX_LINKS)].join(", ");
            let more = links.len().saturating_sub(MAX_LINKS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what =
                format!("links in the home of profile '{name}' do not lead to the shared history: {named}{more}");
            find(
                "links",
                what,
                format!("`prodex run -p {name}` puts them right before codex starts, `prodex doctor --fix` now"),
            );
        }
    }
}

/// Shared entries without their link. A home that has none at all gets them with its first run, which is no fault.
fn wrong_links(home: &Path, shared: &Path) -> Vec<String> {
    let had_links = ENTRIES.iter().any(|(name, _)| home.join(name).is_symlink());
    let faults = links::faults(home, shared).unwrap_or_default().into_iter();
    faults.filter(|fault| had_links || fault.found != Found::Nothing).map(|fault| fault.name).collect()
}

/// Profiles that are the same login, or the same account.
fn twins(patients: &[Patient], findings: &mut Vec<Finding>) {
    let refresh: Vec<Option<Secret>> = patients.iter().map(|p| refresh_token(&p.profile.codex_home)).collect();
    for (index, (patient, own)) in patients.iter().zip(&refresh).enumerate() {
        let Some(tokens) = patient.auth.tokens() else { continue };
        let name = &patient.profile.name;
        for (other, others) in patients[..index].iter().zip(&refresh) {
            let Some(first) = other.auth.tokens() else { continue };
            let first_name = &other.profile.name;
            let same_login = tokens.access_token == first.access_token || (own.is_some() && own == others);
            let identity = |patient: &Patient| Identity::of(&patient.auth, None);
            let same_account = identity(patient).likeness(&identity(other)) == Some(Likeness::Account);
            let finding = if same_login {
                let what = format!(
                    "profiles '{first_name}' and '{name}' hold the same login: as soon as one of them refreshes it, the \
                     other one is logged out"
                );
                Finding::new("same_login", what, format!("Give one its own login: `prodex login -p {name}`"))
            } else if same_account {
                let what = format!("profiles '{first_name}' and '{name}' are the same account, with one quota");
                let next = format!(
                    "Log in to another account with `prodex login -p {name}`, or `prodex profile remove {name}`"
                );
                Finding::new("same_account", what, next)
            } else {
                continue;
            };
            findings.push(finding.about(name));
            break;
        }
    }
}

fn refresh_token(home: &Path) -> Option<Secret> {
    let bytes = file::read_bounded(&home.join("auth.json"), auth::MAX_BYTES).ok()?;
    let token = Raw::parse(&bytes).ok()?.at(&["tokens", "refresh_token"])?.as_str()?.into_owned();
    (!token.is_empty()).then(|| Secret::new(token))
}

/// What the environment does to every run.
pub fn environment(config: &Config, findings: &mut Vec<Finding>) {
    if let Ok(url) = Url::parse(&config.base_url)
        && let Err(what) = way_out::of_environment(&url)
    {
        let next = "Set it to http://HOST:PORT, or leave the backend out of it with NO_PROXY";
        findings.push(Finding::new("http_proxy", what, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::scratch::Scratch;
    use std::fs;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::symlink;

    fn patient(dir: &Scratch, name: &str, auth: &str) -> Patient {
        let home = dir.path(name);
        file::create_private_dir(&home).unwrap();
        file::write_new(&home.join("auth.json"), auth.as_bytes()).unwrap();
        let auth = auth::read(&home);
        let profile = Profile { name: name.to_owned(), codex_home: home, managed: true, ..Profile::default() };
        Patient { profile, auth, exists: true, answer: None }
    }

    fn login(access: &str, refresh: &str, account: &str) -> String {
        format!(
            r#"{{"tokens":{{"access_token":"{access}","refresh_token":"{refresh}","account_id":"{account}","id_token":"x"}}}}"#
        )
    }

    #[test]
    fn twins_are_found_once_each_and_no_token_is_shown() {
        let dir = Scratch::new("doctor-twins");
        let rows = [
            ("a", login("at-1", "rt-1", "x")),
            ("b", login("at-2", "rt-1", "y")),
            ("c", login("at-1", "rt-3", "z")),
            ("d", login("at-4", "rt-4", "z")),
            ("e", login("at-5", "", "w")),
            ("f", login("at-6", "", "v")),
            ("g", "{}".to_owned()),
        ];
        let patients: Vec<Patient> = rows.iter().map(|(name, auth)| patient(&dir, name, auth)).collect();
        let mut findings = Vec::new();
        twins(&patients, &mut findings);
        let found: Vec<_> = findings.iter().map(|f| (f.id, f.profile.as_deref().unwrap())).collect();
        assert_eq!(found, [("same_login", "b"), ("same_login", "c"), ("same_account", "d")]);
        assert!(findings.iter().all(|f| !f.what.contains("rt-") && !f.what.contains("at-")));
    }

    #[test]
    fn a_login_that_was_refused_for_good_is_a_finding() {
        let dir = Scratch::new("doctor-refused");
        let patient = patient(&dir, "a", &login("at-1", "rt-1", "x"));
        let config = dir.config();
        let ids = || {
            let mut findings = Vec::new();
            examine(&config, &patient, &mut findings);
            findings.iter().map(|finding| finding.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(), [""; 0]);
        // A note about another token, as `refresh` leaves it, is void.
        let note = r#"{"token":"0","reason":"used twice."}"#;
        file::write_new(&patient.profile.codex_home.join(".prodex-refusal.json"), note.as_bytes()).unwrap();
        assert_eq!(ids(), [""; 0]);
        let mut hasher = DefaultHasher::new();
        "rt-1".hash(&mut hasher);
        let note = format!("{{\"token\":\"{:016x}\",\"reason\":\"used twice.\"}}", hasher.finish());
        fs::write(patient.profile.codex_home.join(".prodex-refusal.json"), note).unwrap();
        assert_eq!(ids(), ["login_refused"]);
    }

    #[test]
    fn links_that_are_right_in_any_spelling_are_no_finding() {
        let dir = Scratch::new("doctor-links");
        let (home, shared) = (dir.path("home"), dir.path("shared"));
        for made in [&home, &shared, &dir.path("elsewhere")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::create_dir(shared.join("sessions")).unwrap();
        symlink(shared.join("sessions"), home.join("sessions")).unwrap();
        symlink("/nowhere", home.join("my-own-link")).unwrap();
        assert!(wrong_links(&dir.path("elsewhere"), &shared).is_empty(), "its first run is to come");
        links::link_all(&home, &shared).unwrap();
        assert!(wrong_links(&home, &shared).is_empty());
        fs::remove_file(home.join("history.jsonl")).unwrap();
        fs::remove_file(home.join("worktrees")).unwrap();
        assert_eq!(wrong_links(&home, &shared), ["history.jsonl", "worktrees"]);
        links::link_all(&home, &shared).unwrap();
        for name in ["attachments", "archived_sessions", "worktrees"] {
            fs::remove_file(home.join(name)).unwrap();
        }
        fs::remove_dir(shared.join("attachments")).unwrap();
        symlink(shared.join("attachments"), home.join("attachments")).unwrap();
        symlink(dir.path("elsewhere"), home.join("archived_sessions")).unwrap();
        symlink("/nowhere", home.join("state_9.sqlite")).unwrap();
        fs::create_dir(home.join("worktrees")).unwrap();
        assert_eq!(wrong_links(&home, &shared), ["archived_sessions", "attachments", "state_9.sqlite", "worktrees"]);
        assert!(wrong_links(&dir.path("no-home"), &shared).is_empty());
    }
}
