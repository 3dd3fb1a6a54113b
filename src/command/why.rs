//! `why`: which profile takes fresh work now. Brings together what the selection sees; the rule is `quota::schedule`'s.

use super::{base, load, preflight};
use crate::config::Config;
use crate::error::Outcome;
use crate::profile::{self, Profile};
use crate::proxy::share::Share;
use crate::proxy::standing::{self, Standing};
use crate::quota::{probe, shelf};
use crate::screen::why::{Row, why};
use crate::sys::{clock, terminal};
use std::io::Write;

pub fn run(config: &Config, base_url: Option<&str>, out: &mut dyn Write) -> Outcome {
    let base = base(config, base_url)?;
    let url = probe::usage_url(&base.to_string())?;
    let state = load(config)?;
    let active = state.active().and_then(|active| state.profile(&active));
    let profiles = standing::order(&state, active.as_ref());
    if profiles.is_empty() {
        return Err(profile::none());
    }
    // Who was asked a moment ago, by whichever process, is not asked again (spec S-46).
    let due: Vec<Profile> = shelf::update(config, |known| {
        let account = |profile: &Profile| shelf::account(&profile.codex_home, &url);
        let is_due = |profile: &&Profile| known.claim(&profile.name, &account(profile), clock::unix());
        profiles.iter().filter(|profile| !profile.disabled).filter(is_due).cloned().collect()
    })
    .unwrap_or_default();
    let known = shelf::ask(config, &url, &due, preflight::CALL_LIMIT).unwrap_or_else(|_| shelf::load(config));
    let standings = standing::all(&Share::open(config), &state, &profiles, &base, &url, &known);
    let now = clock::unix();
    let ranked = standing::rank(&standings, now);
    let age = |name: &str| {
        let standing: &Standing = standings.iter().find(|standing| standing.name == name)?;
        Some(now.saturating_sub(standing.reading.as_ref()?.taken_at))
    };
    let rows: Vec<Row> = ranked.iter().map(|ranked| Row { ranked, age: age(&ranked.name) }).collect();
    out.write_all(why(&rows, terminal::width()).as_bytes())?;
    Ok(0)
}
