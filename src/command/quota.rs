//! `prodex quota`: one account or all of them, as a screen or in the backend's own words. Fetches and prints; what a
//! reading means and how it looks is decided elsewhere.

mod feed;
mod keys;
mod live;

use super::{chart, json};
use crate::cli;
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::{self, Profile, auth};
use crate::quota::pool::{self, Pool};
use crate::quota::probe::{self, Answer, CALL_LIMIT, Usage};
use crate::quota::shelf;
use crate::quota::snapshots::Snapshots;
use crate::screen::Look;
use crate::screen::palette::Palette;
use crate::screen::quota::{self as screen, Row};
use crate::state::State;
use crate::sys::{clock, terminal};
use crate::wire::url::Url;
use crate::wire::value::Value;
use std::io::Write;

pub fn run(config: &Config, args: &cli::Quota, out: &mut dyn Write) -> Outcome {
    let url = probe::usage_url(args.base_url.as_deref().unwrap_or(&config.base_url))?;
    let state = super::load(config)?;
    if args.line {
        return line(config, &state, &url, args, out);
    }
    if !args.all {
        let profile = profile::select(&state, args.profile.as_deref())?;
        if args.json {
            let profiles = [profile];
            let answers = ask_all(config, &url, &profiles);
            let failed = answers.iter().any(|answer| answer.usage.is_err());
            document(config, &state, &profiles, &answers, out)?;
            return Ok(u8::from(failed));
        }
        if stays(args) {
            return live::run(&feed::Feed::new(config, &url, Some(profile.name), &state), live::Kind::One);
        }
        let current = state.active().as_deref() == Some(&profile.name);
        return one(config, &url, &profile, current, args.raw, out);
    }
    let profiles = state.profiles();
    if profiles.is_empty() {
        return Err(Error::new("there is no profile yet").next(
            "Copy your present login with `prodex profile import-current main`, or log in with `prodex login`.",
        ));
    }
    if stays(args) {
        return live::run(&feed::Feed::new(config, &url, None, &state), live::Kind::All { detail: args.detail });
    }
    let answers = ask_all(config, &url, &profiles);
    if args.json {
        return document(config, &state, &profiles, &answers, out);
    }
    if args.raw {
        return all_raw(&profiles, answers, out);
    }
    let active = state.active();
    let pool = answered(&shelf::load(config), &profiles, &answers, clock::unix());
    let texts: Vec<Result<&Usage, String>> =
        answers.iter().zip(&profiles).map(|(a, p)| a.usage.as_ref().map_err(|error| error.words(&p.name))).collect();
    let rotations: Vec<Option<String>> = profiles.iter().map(chart::rotation).collect();
    let rows: Vec<Row> = profiles
        .iter()
        .zip(&answers)
        .zip(&texts)
        .zip(&rotations)
        .map(|(((profile, answer), usage), rotation)| Row {
            rotation: rotation.as_deref(),
            ..row(profile, answer, active.as_deref() == Some(&profile.name), usage)
        })
        .collect();
    let look = look();
    print(out, &screen::overview("Quota Overview", &rows, pool.as_ref(), args.detail, look).text(look.palette))
}

fn one(config: &Config, url: &Url, profile: &Profile, current: bool, raw: bool, out: &mut dyn Write) -> Outcome {
    let answer = probe::fetch_one(url, profile, CALL_LIMIT);
    let _ = shelf::update(config, |known| shelf::note(known, &profile.name, &answer));
    let usage = match answer.usage {
        Ok(usage) => usage,
        Err(error) => return Err(error.into_error(&profile.name)),
    };
    if raw {
        return print(out, &pretty(own_words(&usage)));
    }
    let account = chart::email_of(profile, answer.email.as_deref());
    let rotation = chart::rotation(profile);
    let row = Row {
        name: &profile.name,
        current,
        auth: &answer.auth,
        account,
        quota: Ok(&usage.reading),
        rotation: rotation.as_deref(),
        live: None,
    };
    let look = look();
    print(out, &screen::single(&row, look).text(look.palette))
}

fn ask_all(config: &Config, url: &Url, profiles: &[Profile]) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = profiles.iter().map(|_| None).collect();
    probe::fetch_all(url, profiles, CALL_LIMIT, |index, answer| answers[index] = Some(answer));
    // Every index came exactly once, so nothing is lost here.
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    // That it cannot be kept costs the next process a question.
    let _ = shelf::update(config, |known| {
        for (profile, answer) in profiles.iter().zip(&answers) {
            shelf::note(known, &profile.name, answer);
        }
    });
    answers
}

/// The document of `--json`: each profile with its quota, and all of them together.
fn document(config: &Config, state: &State, profiles: &[Profile], answers: &[Answer], out: &mut dyn Write) -> Outcome {
    let (active, now, known) = (state.active(), clock::unix(), shelf::load(config));
    let entries = profiles.iter().zip(answers).map(|(profile, answer)| {
        let mut entry = json::profile(profile, &auth::read(&profile.codex_home), active.as_deref());
        let usage = answer.usage.as_ref().map_err(|error| error.words(&profile.name));
        let reading = usage.as_ref().map(|usage| &usage.reading).map_err(String::as_str);
        let text = screen::status(reading, now, &clock::local_offset);
        entry.set("quota", json::quota(reading.ok(), &text, now));
        entry
    });
    let entries = Value::Array(entries.collect());
    let members = [
        ("active_profile", json::maybe(active.as_deref())),
        ("profiles", entries),
        ("pool", json::pool(answered(&known, profiles, answers, now).as_ref())),
    ];
    print(out, &json::document(members))
}

/// All accounts together. Where there was no answer nothing is known, whatever was read before: a job relies on it.
fn answered(known: &Snapshots, profiles: &[Profile], answers: &[Answer], now: u64) -> Option<Pool> {
    let accounts = answers.iter().map(|answer| answer.usage.is_ok().then_some(answer.account.as_str()));
    pool::of_profiles(known, profiles.iter().zip(accounts), now)
}

/// What is known, for a status bar: the active profile's windows, and how many are ready. Asks nobody.
fn line(config: &Config, state: &State, url: &Url, args: &cli::Quota, out: &mut dyn Write) -> Outcome {
    let (now, known) = (clock::unix(), shelf::load_latest(config));
    let account = |profile: &Profile| shelf::account(&profile.codex_home, url);
    let profile = profile::select(state, args.profile.as_deref())?;
    let profiles = state.profiles();
    let accounts: Vec<String> = profiles.iter().map(account).collect();
    let pool =
        pool::of_profiles(&known, profiles.iter().zip(accounts.iter().map(|account| Some(account.as_str()))), now);
    let snapshot = known.of(&profile.name, &account(&profile));
    let reading = snapshot.and_then(|snapshot| snapshot.reading.as_ref());
    print(out, &screen::line(&profile.name, reading, pool.as_ref(), now))
}

/// One object, from the profile's name to the backend's answer or `{"error": …}` (spec S-14).
fn all_raw(profiles: &[Profile], answers: Vec<Answer>, out: &mut dyn Write) -> Outcome {
    let mut failed = false;
    let mut members = Vec::new();
    for (profile, answer) in profiles.iter().zip(answers) {
        let value = match answer.usage {
            Ok(usage) => own_words(&usage),
            Err(error) => {
                failed = true;
                Value::Object(vec![("error".to_owned(), Value::from(error.words(&profile.name).as_str()))])
            }
        };
        members.push((profile.name.clone(), value));
    }
    print(out, &pretty(Value::Object(members)))?;
    Ok(u8::from(failed))
}

fn own_words(usage: &Usage) -> Value {
    // It was read as JSON before, so there is no other case.
    Value::parse(&usage.body).unwrap_or(Value::Null)
}

fn pretty(mut value: Value) -> String {
    value.sort_keys();
    format!("{}\n", value.pretty().trim_end())
}

fn row<'a>(profile: &'a Profile, answer: &'a Answer, current: bool, usage: &'a Result<&Usage, String>) -> Row<'a> {
    Row {
        name: &profile.name,
        current,
        auth: &answer.auth,
        account: chart::email_of(profile, answer.email.as_deref()),
        quota: usage.as_ref().map(|usage| &usage.reading).map_err(String::as_str),
        rotation: None,
        live: None,
    }
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
