//! `prodex doctor`: what there is, what is wrong with it and what to type next. Fetches and prints; without --fix it changes
//! nothing, and its exit code says only that it could look (0.2.38's rule).
//! `fix` repairs, `look` reads profiles and `homes` what else is in their directories, `trial` tries the installed codex,
//! `runtime` reads the log, `json` is the document of `--json`.

mod fix;
mod homes;
mod json;
mod look;
mod runtime;
mod toml;
mod trial;

use super::chart;
use crate::cli;
use crate::config::Config;
use crate::error::Outcome;
use crate::quota::probe::{self, Answer, CALL_LIMIT, ProbeError};
use crate::screen::doctor as screen;
use crate::screen::panel::Panel;
use crate::screen::{quota, text};
use crate::sys::bounded::Bounded;
use crate::sys::child::{self, Program};
use crate::sys::{clock, terminal};
use crate::wire::url::Url;
use look::Patient;
use runtime::Runtime;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trial::{Home, Trial};

/// The codex that all of this was last tested with.
const KNOWN_GOOD: &str = "0.169.0";
/// For `codex --version`.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// Something that is wrong, and what to do about it: sentences without their full stops.
struct Finding {
    /// Stable, for programs.
    id: &'static str,
    profile: Option<String>,
    what: String,
    next: String,
}

impl Finding {
    fn new(id: &'static str, what: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { id, profile: None, what: what.into(), next: next.into() }
    }

    fn about(self, profile: &str) -> Finding {
        Finding { profile: Some(profile.to_owned()), ..self }
    }
}

/// The codex that `run` would start.
#[derive(Default)]
struct Codex {
    path: Option<PathBuf>,
    version: Option<String>,
}

/// Everything that was found.
struct Report<'a> {
    config: &'a Config,
    findings: Vec<Finding>,
    state_exists: bool,
    active: Option<String>,
    patients: Vec<Patient>,
    codex: Codex,
    quota_endpoint: String,
    trial: Option<Trial>,
    runtime: Option<Runtime>,
}

pub fn run(config: &Config, args: &cli::Doctor, out: &mut dyn Write) -> Outcome {
    if args.fix {
        return fix::run(config, out);
    }
    let mut findings = Vec::new();
    let home = Home::new();
    let codex = codex(config, home.as_ref().ok(), &mut findings);
    let no_home = home.err();
    if let Some(error) = &no_home {
        let what =
            format!("nothing can be written in {}, where temporary files go: {error}", std::env::temp_dir().display());
        findings.push(Finding::new(
            "no_tmpdir",
            what,
            "Make that directory, or let TMPDIR name one that can be written",
        ));
    }
    let (state, state_exists) = look::state(config, &mut findings);
    let mut patients = look::profiles(config, &state, &mut findings);
    look::environment(config, &mut findings);
    let quota_endpoint = match probe::usage_url(&config.base_url) {
        Ok(url) => {
            if args.quota {
                ask(&url, &mut patients, &mut findings);
            }
            url.to_string()
        }
        Err(error) => {
            findings.push(Finding::new("base_url", error.to_string(), "Correct CODEX_CHATGPT_BASE_URL"));
            config.base_url.clone()
        }
    };
    // Who asks for quotas or for the log wants them now.
    let trial = if args.quota || args.runtime || no_home.is_some() { None } else { try_codex(&codex) };
    if let Some(trial) = trial.as_ref().filter(|trial| trial.transport.is_none()) {
        findings.push(Finding::new("overrides", trial.words.clone(), trial::advice()));
    }
    let runtime = args.runtime.then(|| Runtime::read(&std::env::temp_dir()));
    findings.extend(runtime.as_ref().and_then(Runtime::finding));
    let active = state.active();
    let report = Report { config, findings, state_exists, active, patients, codex, quota_endpoint, trial, runtime };
    let text = if args.json { json::document(&report) } else { page(&report, terminal::width()) };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

/// `home`: a throw-away one to ask for the version in.
fn codex(config: &Config, home: Option<&Home>, findings: &mut Vec<Finding>) -> Codex {
    let Ok(path) = super::find_codex(config) else {
        findings.push(Finding::new(
            "codex_missing",
            format!("'{}' is not an executable program in PATH", config.codex_bin.to_string_lossy()),
            "Install codex with `npm install -g @openai/codex`, or say where it is with PRODEX_CODEX_BIN",
        ));
        return Codex::default();
    };
    // A relative one would mean another file in another directory.
    let path = std::path::absolute(&path).unwrap_or(path);
    let version = home.map(|home| version(&path, home));
    if let Some(Err(reason)) = &version {
        let what = format!("`{} --version` {reason}", path.display());
        findings.push(Finding::new("codex_version", what, "Install it anew: `npm install -g @openai/codex`"));
    }
    Codex { path: Some(path), version: version.and_then(Result::ok) }
}

/// `0.169.0`, or why there is none.
fn version(codex: &Path, home: &Home) -> Result<String, String> {
    let env = vec![("CODEX_HOME".into(), home.0.clone().into_os_string())];
    let program = Program { path: codex.to_owned(), args: vec!["--version".into()], env };
    // Version managers choose by the present directory.
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let running = Bounded::start(&program, &here, &[]).map_err(|error| format!("cannot be run: {error}"))?;
    let said = running.finish_by(clock::now() + VERSION_LIMIT);
    match said.status {
        None => Err(format!("did not end within {} s", VERSION_LIMIT.as_secs())),
        Some(status) if !status.success() => Err(format!("failed with exit code {}", child::exit_code(status))),
        Some(_) => {
            // `codex-cli 0.169.0`
            let word = said.stdout.lines().find_map(|line| line.split_whitespace().last()).map(text::clean);
            word.map(|word| text::elide(&word, 40)).ok_or_else(|| "said nothing".to_owned())
        }
    }
}

fn try_codex(codex: &Codex) -> Option<Trial> {
    let path = codex.path.as_deref()?;
    let mut stderr = std::io::stderr();
    let shown = stderr.is_terminal();
    if shown {
        let limit = trial::LIMIT.as_secs();
        let _ = write!(stderr, "Trying whether codex sends its model traffic through prodex (at most {limit} s) …");
    }
    let trial = trial::run(path, codex.version.as_deref());
    if shown {
        let _ = stderr.write_all(b"\r\x1b[K");
    }
    Some(trial)
}

/// Asks for the quotas of all profiles but those that are disabled, and what that says about their logins.
fn ask(url: &Url, patients: &mut [Patient], findings: &mut Vec<Finding>) {
    let mut patients: Vec<&mut Patient> = patients.iter_mut().filter(|patient| !patient.profile.disabled).collect();
    let profiles: Vec<_> = patients.iter().map(|patient| patient.profile.clone()).collect();
    probe::fetch_all(url, &profiles, CALL_LIMIT, |index, answer| patients[index].answer = Some(answer));
    for patient in patients {
        let name = &patient.profile.name;
        // No tokens is a finding already.
        if let Some(Answer { usage: Err(error), .. }) = &patient.answer
            && !matches!(error, ProbeError::NoTokens { .. })
        {
            let refused = matches!(error, ProbeError::Status { status: 401, .. });
            let next = error.next(name).unwrap_or_else(|| format!("Try again: `prodex quota -p {name}`"));
            let id = if refused { "login_refused" } else { "quota_unknown" };
            if findings.iter().any(|known| known.id == id && known.profile.as_deref() == Some(name)) {
                continue;
            }
            findings.push(Finding::new(id, format!("the quota of profile '{name}': {error}"), next).about(name));
        }
    }
}

fn page(report: &Report, width: usize) -> String {
    let findings: Vec<_> =
        report.findings.iter().map(|finding| screen::Finding { what: &finding.what, next: &finding.next }).collect();
    let mut panels = vec![overview(report)];
    panels.extend(report.patients.iter().map(|patient| panel(patient, report.active.as_deref())));
    panels.extend(report.runtime.as_ref().map(Runtime::panel));
    screen::page(&findings, &panels, width)
}

fn overview(report: &Report) -> Panel {
    let path = |path: &Path| path.display().to_string();
    let with = |path: &Path, more: &str| format!("{} ({more})", path.display());
    let config = report.config;
    let name = config.codex_bin.to_string_lossy();
    let codex = match (&report.codex.path, report.codex.version.as_deref().unwrap_or("version unknown")) {
        (None, _) => format!("{name} (not found)"),
        (Some(path), version) if path.as_os_str() == config.codex_bin => format!("{name} ({version})"),
        (Some(path), version) => format!("{name} {version} ({})", path.display()),
    };
    Panel::new("Doctor")
        .row("Prodex root", path(&config.root))
        .row("State file", with(&config.state_file(), if report.state_exists { "exists" } else { "missing" }))
        .row("Profiles root", path(&config.profiles_dir()))
        .row("Default CODEX_HOME", path(&config.default_codex_home))
        .row("Codex binary", codex)
        .row("Quota endpoint", report.quota_endpoint.as_str())
        .row("Profiles", report.patients.len().to_string())
        .row("Active profile", report.active.as_deref().unwrap_or("none"))
        .maybe("Overrides", report.trial.as_ref().map(|trial| trial.words.as_str()))
}

fn panel(patient: &Patient, active: Option<&str>) -> Panel {
    let Patient { profile, auth, exists, answer } = patient;
    let panel = Panel::new(format!("Profile {}", profile.name));
    let panel = panel.row("Current", chart::yes(active == Some(&profile.name)));
    let panel = chart::of(panel, profile, auth).row("Exists", chart::yes(*exists));
    let Some(answer) = answer else { return panel };
    let words = answer.usage.as_ref().map_err(|error| error.words(&profile.name));
    let reading = words.as_ref().map(|usage| &usage.reading).map_err(String::as_str);
    chart::quota(panel, reading, None)
}

impl Patient {
    /// `Ready`, `Blocked: …`, `Error: …`
    fn quota(&self, answer: &Answer) -> String {
        let words = answer.usage.as_ref().map_err(|error| error.words(&self.profile.name));
        let reading = words.as_ref().map(|usage| &usage.reading).map_err(String::as_str);
        quota::status(reading, clock::unix(), &clock::local_offset)
    }
}
