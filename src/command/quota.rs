//! `prodex quota`: one account or all of them, as a screen or in the backend's own words. Fetches and prints; what a
//! reading means and how it looks is decided elsewhere.

mod feed;
mod keys;
mod live;
mod told;

use super::json;
use crate::cli;
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::{self, auth};
use crate::quota::{pool, probe, shelf};
use crate::screen::palette::Palette;
use crate::screen::quota::{self as screen, Row};
use crate::screen::{Look, text};
use crate::state::State;
use crate::sys::{clock, terminal};
use crate::wire::value::Value;
use std::io::Write;
use told::{All, Told};

/// Cells of a status bar that something that is wrong may take.
const LINE: usize = 80;

pub fn run(config: &Config, args: &cli::Quota, out: &mut dyn Write) -> Outcome {
    if args.line {
        // A status bar shows one line whatever is wrong, and no error.
        let said = line(config, args);
        let wrong = |error: Error| format!("prodex: {}\n", text::elide(&text::clean(error.what()), LINE));
        return print(out, &said.unwrap_or_else(wrong));
    }
    let url = probe::usage_url(args.base_url.as_deref().unwrap_or(&config.base_url))?;
    let state = super::load(config)?;
    let profiles = if args.all { state.profiles() } else { vec![profile::select(&state, args.profile.as_deref())?] };
    let Some(first) = profiles.first() else {
        return Err(profile::none());
    };
    let named = !args.all && args.profile.is_some();
    if stays(args) {
        let (whom, kind) = match (args.all, named) {
            (true, _) => (feed::Whom::All, live::Kind::All { detail: args.detail }),
            (false, named) => (feed::Whom::One { name: first.name.clone(), named }, live::Kind::One),
        };
        return live::run(&feed::Feed::new(config, &url, whom, &state), kind);
    }
    let all = told::ask(config, &url, &profiles, named);
    match (args.json, args.raw, args.all) {
        (true, ..) => {
            document(&state, &all, out)?;
            Ok(u8::from(!args.all && all.told.iter().any(|told| told.error.is_some())))
        }
        (false, true, true) => all_raw(all.told, out),
        (false, raw, false) => all.told.into_iter().try_fold(0, |_, told| one(&state, told, raw, out)),
        (false, false, true) => {
            let (look, active) = (look(), state.active());
            let rows: Vec<Row> = all.told.iter().map(|told| told.row(active.as_deref(), look.now)).collect();
            let pool = all.pool(look.now);
            print(out, &screen::overview("Quota Overview", &rows, pool.as_ref(), args.detail, look).text(look.palette))
        }
    }
}

fn one(state: &State, mut told: Told, raw: bool, out: &mut dyn Write) -> Outcome {
    let name = &told.profile.name;
    if let Some(error) = told.error.take() {
        return Err(error.into_error(name));
    }
    if raw {
        let body = told.body.ok_or_else(|| {
            Error::new(format!("profile '{name}' is disabled, so it was not asked"))
                .next(format!("Ask about it by name: `prodex quota -p {name} --raw`."))
        })?;
        return print(out, &pretty(body));
    }
    let look = look();
    print(out, &screen::single(&told.row(state.active().as_deref(), look.now), look).text(look.palette))
}

/// The document of `--json`: each profile with its quota, and all of them together.
fn document(state: &State, all: &All, out: &mut dyn Write) -> Outcome {
    let (active, now) = (state.active(), clock::unix());
    let entries = all.told.iter().map(|told| {
        let profile = &told.profile;
        let mut entry = json::profile(profile, &auth::read(&profile.codex_home), active.as_deref());
        let text = screen::status(told.quota(), now, &clock::local_offset);
        let mut quota = json::quota(told.reading.as_ref(), &text, now);
        if told.left_alone() && told.reading.is_none() {
            quota.set("status", "unknown".into());
        }
        entry.set("quota", quota);
        entry
    });
    let entries = Value::Array(entries.collect());
    let members = [
        ("active_profile", json::maybe(active.as_deref())),
        ("profiles", entries),
        ("pool", json::pool(all.pool(now).as_ref())),
    ];
    print(out, &json::document(members))
}

/// What is known, for a status bar: the active profile's windows, and how many are ready. Asks nobody.
fn line(config: &Config, args: &cli::Quota) -> Result<String, Error> {
    let url = probe::usage_url(args.base_url.as_deref().unwrap_or(&config.base_url))?;
    let state = super::load(config)?;
    let profile = profile::select(&state, args.profile.as_deref())?;
    let (now, known) = (clock::unix(), shelf::load_latest(config));
    let profiles = state.profiles();
    let accounts: Vec<String> = profiles.iter().map(|profile| shelf::account(&profile.codex_home, &url)).collect();
    let accounts = || profiles.iter().zip(accounts.iter().map(String::as_str));
    let pool = pool::of_profiles(&known, accounts().map(|(profile, account)| (profile, Some(account))), now);
    let snapshot =
        accounts().find(|(one, _)| one.name == profile.name).and_then(|(_, key)| known.of(&profile.name, key));
    let reading = snapshot.and_then(|snapshot| snapshot.reading.as_ref());
    Ok(screen::line(&profile.name, reading, profile.disabled, pool.as_ref(), now))
}

/// One object, from the profile's name to the backend's answer or `{"error": …}` (spec S-14).
fn all_raw(all: Vec<Told>, out: &mut dyn Write) -> Outcome {
    let failed = all.iter().any(|told| told.error.is_some());
    let error = |words: &str| Value::of([("error", words.into())]);
    let members = all.into_iter().map(|told| {
        let said = match (told.body.as_ref(), told.quota()) {
            (Some(body), _) => body.clone(),
            _ if told.left_alone() => error("disabled, so it was not asked"),
            (None, quota) => error(quota.err().unwrap_or_default()),
        };
        (told.profile.name, said)
    });
    print(out, &pretty(Value::Object(members.collect())))?;
    Ok(u8::from(failed))
}

fn pretty(mut value: Value) -> String {
    value.sort_keys();
    format!("{}\n", value.pretty().trim_end())
}

/// Whether it is a view that stays: what a file or a pipe gets ends.
fn stays(args: &cli::Quota) -> bool {
    !args.once && !args.raw && !args.json && terminal::can_repaint()
}

/// Now, and this terminal.
fn look() -> Look<'static> {
    let palette = Palette { colour: terminal::colour(), utf8: terminal::utf8() };
    Look { now: clock::unix(), width: terminal::width(), zone: &clock::local_offset, palette }
}

fn print(out: &mut dyn Write, text: &str) -> Outcome {
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}
