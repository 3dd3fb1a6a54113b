//! `prodex quota`: one account or all of them, as a screen or in the backend's own words. Fetches and prints; what a
//! reading means and how it looks is decided elsewhere.

use crate::cli;
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::{self, Profile};
use crate::quota::probe::{self, Answer, CALL_LIMIT, Usage};
use crate::screen::quota::{self as screen, Row};
use crate::sys::{clock, terminal};
use crate::wire::url::Url;
use crate::wire::value::Value;
use std::io::Write;

pub fn run(config: &Config, args: &cli::Quota, out: &mut dyn Write) -> Outcome {
    let url = probe::usage_url(args.base_url.as_deref().unwrap_or(&config.base_url))?;
    let state = super::load(config)?;
    if !args.all {
        let profile = profile::select(&state, args.profile.as_deref())?;
        let current = state.active().as_deref() == Some(&profile.name);
        return one(&url, &profile, current, args.raw, out);
    }
    let profiles = state.profiles();
    if profiles.is_empty() {
        return Err(Error::new("there is no profile yet").next(
            "Copy your present login with `prodex profile import-current main`, or log in with `prodex login`.",
        ));
    }
    let answers = ask_all(&url, &profiles);
    if args.raw {
        return all_raw(&profiles, answers, out);
    }
    let active = state.active();
    let texts: Vec<Result<&Usage, String>> =
        answers.iter().zip(&profiles).map(|(a, p)| a.usage.as_ref().map_err(|error| error.words(&p.name))).collect();
    let rows: Vec<Row> = profiles
        .iter()
        .zip(&answers)
        .zip(&texts)
        .map(|((profile, answer), usage)| row(profile, answer, active.as_deref() == Some(&profile.name), usage))
        .collect();
    print(out, &screen::overview(&rows, clock::unix(), terminal::width(), args.detail, &clock::local_offset))
}

fn one(url: &Url, profile: &Profile, current: bool, raw: bool, out: &mut dyn Write) -> Outcome {
    let answer = probe::fetch_one(url, profile, CALL_LIMIT);
    let usage = match answer.usage {
        Ok(usage) => usage,
        Err(error) => return Err(error.into_error(&profile.name)),
    };
    if raw {
        return print(out, &pretty(own_words(&usage)));
    }
    let account = profile.email.as_deref().or(answer.email.as_deref());
    let row = Row { name: &profile.name, current, auth: &answer.auth, account, quota: Ok(&usage.reading) };
    print(out, &screen::single(&row, clock::unix(), terminal::width(), &clock::local_offset))
}

fn ask_all(url: &Url, profiles: &[Profile]) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = profiles.iter().map(|_| None).collect();
    probe::fetch_all(url, profiles, CALL_LIMIT, |index, answer| answers[index] = Some(answer));
    // Every index came exactly once, so nothing is lost here.
    answers.into_iter().flatten().collect()
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
        account: profile.email.as_deref().or(answer.email.as_deref()),
        quota: usage.as_ref().map(|usage| &usage.reading).map_err(String::as_str),
    }
}

fn print(out: &mut dyn Write, text: &str) -> Outcome {
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}
