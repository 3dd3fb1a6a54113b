//! What the documents of `--json` have in common (spec S-14): `schema_version` 1, and how a profile and its quota look in them.
//! Members are only added within a version; a reader ignores what it does not know.
//!
//! | of a profile | what |
//! |---|---|
//! | `name`, `current`, `kind` | `kind`: `managed`, `external` |
//! | `auth`, `email`, `login_needed` | `auth`: `chatgpt`, `api-key`, `no-auth`, …; `login_needed`: it works when somebody has logged in (again) |
//! | `path`, `exists` | its `CODEX_HOME` |
//! | `disabled`, `reserve_percent` | out of rotation; kept back of each window |
//!
//! | of a quota | what |
//! |---|---|
//! | `status`, `text` | `ready`, `blocked`, `unknown`, `error`; the same in words |
//! | `plan`, `windows[]`, `other_limits[]` | a window: `label`, `length_seconds`, `left_percent`, `resets_at` (Unix seconds), `started`; a limit: `name`, `windows[]` |
//! | `credits` | null, or `has_credits`, `unlimited`, `balance` |
//! | `reset_credits`, `read_at` | early resets to spend; Unix seconds |

use super::chart;
use crate::profile::Profile;
use crate::profile::auth::Auth;
use crate::quota::pool::Pool;
use crate::quota::{Readiness, Reading, Window};
use crate::wire::value::Value;
use std::path::Path;

const SCHEMA_VERSION: u64 = 1;

/// One document, as it goes to stdout.
pub fn document<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> String {
    Value::of([("schema_version", SCHEMA_VERSION.into())].into_iter().chain(members)).pretty() + "\n"
}

/// `email` as the login tells, or as it was when the profile was made.
pub fn profile(profile: &Profile, auth: &Auth, active: Option<&str>) -> Value {
    Value::of([
        ("name", profile.name.as_str().into()),
        ("current", (active == Some(profile.name.as_str())).into()),
        ("kind", profile.kind().into()),
        ("auth", auth.label().into()),
        ("email", maybe(chart::email(profile, auth))),
        ("login_needed", chart::next(profile, auth).is_some().into()),
        ("path", path(&profile.codex_home)),
        ("exists", profile.codex_home.is_dir().into()),
        ("disabled", profile.disabled.into()),
        ("reserve_percent", u64::from(profile.reserve).into()),
    ])
}

/// What the backend said, or why it said nothing; `text` is the same for people.
pub fn quota(reading: Option<&Reading>, text: &str, now: u64) -> Value {
    let status = match reading.map(|reading| reading.readiness(now)) {
        None => "error",
        Some(Readiness::Ready) => "ready",
        Some(Readiness::Blocked(_)) => "blocked",
        Some(Readiness::Unknown) => "unknown",
    };
    let none = Reading::default();
    let told = reading.unwrap_or(&none);
    let limits = told
        .other_limits
        .iter()
        .map(|limit| Value::of([("name", limit.name.as_str().into()), ("windows", windows(&limit.windows, now))]));
    let credits = told.credits.as_ref().map_or(Value::Null, |credits| {
        Value::of([
            ("has_credits", credits.has_credits.into()),
            ("unlimited", credits.unlimited.into()),
            ("balance", maybe(credits.balance.as_deref())),
        ])
    });
    Value::of([
        ("status", status.into()),
        ("text", text.into()),
        ("plan", maybe(told.plan.as_deref())),
        ("windows", windows(&told.windows, now)),
        ("other_limits", Value::Array(limits.collect())),
        ("credits", credits),
        ("reset_credits", number(told.reset_credits)),
        ("read_at", number(reading.map(|reading| reading.taken_at))),
    ])
}

fn windows(windows: &[Window], now: u64) -> Value {
    let window = |window: &Window| {
        Value::of([
            ("label", window.label().as_str().into()),
            ("length_seconds", window.length.into()),
            ("left_percent", number(window.left_percent(now).map(u64::from))),
            ("resets_at", number(window.resets_at)),
            ("started", (!window.untouched(now)).into()),
        ])
    };
    Value::Array(windows.iter().map(window).collect())
}

/// All accounts together.
pub fn pool(pool: Option<&Pool>) -> Value {
    let tenths = |number: f64| Value::Number(((number * 10.0).round() / 10.0).to_string());
    pool.map_or(Value::Null, |pool| {
        Value::of([
            ("known", (pool.known as u64).into()),
            ("ready", (pool.ready as u64).into()),
            ("left_percent", tenths(pool.left)),
            ("used_percent_last_hour", pool.per_hour.map_or(Value::Null, tenths)),
            ("dry_at", number(pool.dry_at)),
            ("next_back_at", number(pool.next_back.map(|(at, _)| at))),
        ])
    })
}

pub fn maybe(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

pub fn number(number: Option<u64>) -> Value {
    number.map_or(Value::Null, Value::from)
}

/// What is no UTF-8 in it becomes U+FFFD.
pub fn path(path: &Path) -> Value {
    path.to_string_lossy().as_ref().into()
}
