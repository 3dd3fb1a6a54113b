//! `why`: which profile takes fresh work now. Brings together what the selection sees; the rule is `quota::schedule`'s.

use super::{base, load};
use crate::config::Config;
use crate::error::{Error, Outcome};
use crate::profile::Profile;
use crate::proxy::standing::{self, Standing};
use crate::quota::{probe, shelf};
use crate::screen::why::{Row, why};
use crate::sys::{clock, terminal};
use std::io::Write;
use std::time::Duration;

/// As long as the check before codex starts waits.
const CALL_LIMIT: Duration = Duration::from_secs(5);

pub fn run(config: &Config, base_url: Option<&str>, out: &mut dyn Write) -> Outcome {
    let base = base(config, base_url)?;
    let url = probe::usage_url(&base.to_string())?;
    let state = load(config)?;
    let profiles = standing::order(&state, state.active().as_deref());
    if profiles.is_empty() {
        return Err(Error::new("there is no profile yet").next(
            "Copy your present login with `prodex profile import-current main`, or log in with `prodex login`.",
        ));
    }
    // Who was asked a moment ago, by whichever process, is not asked again (spec S-46).
    let due: Vec<Profile> = shelf::update(config, |known| {
        let account = |profile: &Profile| shelf::account(&profile.codex_home, &url);
        let is_due = |profile: &&Profile| known.claim(&profile.name, &account(profile), clock::unix());
        profiles.iter().filter(is_due).cloned().collect()
    })
    .unwrap_or_default();
    let known = shelf::ask(config, &url, &due, CALL_LIMIT).unwrap_or_else(|_| shelf::load(config));
    let standings = standing::all(config, &state, &profiles, &base, &url, &known);
    let now = clock::unix();
    let ranked = standing::rank(&standings, now, standing::last_pick(&standings));
    let age = |name: &str| {
        let standing: &Standing = standings.iter().find(|standing| standing.name == name)?;
        Some(now.saturating_sub(standing.reading.as_ref()?.taken_at))
    };
    let rows: Vec<Row> = ranked.iter().map(|ranked| Row { ranked, age: age(&ranked.name) }).collect();
    out.write_all(why(&rows, terminal::width()).as_bytes())?;
    Ok(0)
}
