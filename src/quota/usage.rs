//! The backend's words about quota to a [`Reading`]: the answer of `wham/usage`, the `x-codex-*` headers of a response,
//! the `codex.rate_limits` event (wire.md 5 and 6). All of it is untrusted: what is missing or of the wrong type is
//! unknown, never an error (spec S-40). Knows no network.

use super::{Credits, Limit, Reading, Window};
use crate::wire::json::{Members, Raw};
use crate::wire::value::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Windows of one limit, limits of one answer, characters of one text: far above what the backend sends.
const MAX_WINDOWS: usize = 8;
const MAX_LIMITS: usize = 32;
const MAX_TEXT: usize = 200;
const MAX_HEADERS: usize = 128;
const PREFIX: &str = "x-codex-";
/// The end of the year 9999. No real time or length is beyond it, and sums of such numbers do not overflow.
const MAX_SECONDS: f64 = 253_402_300_799.0;

/// Why a body says nothing about quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    NotJson,
    NotAnObject,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UsageError::NotJson => "the quota backend's answer is not JSON",
            UsageError::NotAnObject => "the quota backend's answer is not a JSON object",
        })
    }
}

impl std::error::Error for UsageError {}

/// The body of `GET wham/usage`.
pub fn parse(body: &[u8], now: u64) -> Result<Reading, UsageError> {
    let usage = Raw::parse(body).map_err(|_| UsageError::NotJson)?;
    if !usage.bytes().trim_ascii_start().starts_with(b"{") {
        return Err(UsageError::NotAnObject);
    }
    let members = usage.opened();
    let limit = members.member("rate_limit");
    Ok(Reading {
        email: text(members.member("email")),
        reached_type: text(usage.at(&["rate_limit_reached_type", "type"])),
        reset_credits: usage
            .at(&["rate_limit_reset_credits", "available_count"])
            .and_then(|count| seconds(count.as_f64())),
        other_limits: other_limits(&members, &["code_review_rate_limit"], now),
        ..common(&members, limit, now)
    })
}

/// The event `codex.rate_limits`, of SSE or WebSocket. `None` for anything else, and when it tells nothing.
pub fn from_event(event: &Raw, now: u64) -> Option<Reading> {
    let event = &event.opened();
    if event.member("type")?.as_str()? != "codex.rate_limits" {
        return None;
    }
    let mut reading = Reading {
        other_limits: other_limits(event, &["code_review_rate_limits", "code_review_rate_limit"], now),
        ..common(event, event.member("rate_limits"), now)
    };
    // The event of another model's limit has the same shape and says whose it is.
    let name = text(event.member("limit_name")).or_else(|| text(event.member("metered_limit_name")));
    if let Some(name) = name.filter(|name| name != "codex") {
        let windows = std::mem::take(&mut reading.windows);
        reading.limit_reached = false;
        reading.other_limits.push(Limit { name, windows });
    }
    told(reading)
}

/// The `x-codex-*` headers of a response. `None` when they tell nothing.
pub fn from_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>, now: u64) -> Option<Reading> {
    let codex: BTreeMap<String, &str> = headers
        .into_iter()
        .filter_map(|(name, value)| {
            // Most answers tell nothing, and then it costs this comparison for each header.
            let (_, name) =
                name.split_at_checked(PREFIX.len()).filter(|(start, _)| start.eq_ignore_ascii_case(PREFIX))?;
            let value = std::str::from_utf8(value).ok()?.trim();
            (!value.is_empty() && value.len() <= MAX_TEXT).then(|| (name.to_ascii_lowercase(), value))
        })
        .take(MAX_HEADERS)
        .collect();
    let told_text = |name: &str| codex.get(name).map(|&value| value.to_owned());
    let told_bool =
        |name: &str| codex.get(name).is_some_and(|&value| value == "1" || value.eq_ignore_ascii_case("true"));

    // `primary-used-percent` is the main limit's; `other-primary-used-percent` that of the family `other`.
    let mut families: BTreeMap<&str, Vec<Window>> = BTreeMap::new();
    for slot in codex.keys().filter_map(|name| name.strip_suffix("-used-percent")) {
        let (family, _) = slot.rsplit_once('-').unwrap_or(("", slot));
        let field = |field: &str| {
            let is_it = |name: &str| name.strip_prefix(slot).is_some_and(|rest| is_dashed(rest, field));
            codex.iter().find(|(name, _)| is_it(name))?.1.parse().ok()
        };
        families.entry(family).or_default().extend(window(field, now));
    }
    for windows in families.values_mut() {
        windows.sort_unstable_by_key(|window| window.length);
    }
    let windows = families.remove("").unwrap_or_default();
    let other_limits = families.into_iter().take(MAX_LIMITS).map(|(family, windows)| {
        let name = told_text(&format!("{family}-limit-name")).unwrap_or_else(|| family.to_owned());
        Limit { name, windows }
    });
    let credits = codex.keys().any(|name| name.starts_with("credits-")).then(|| Credits {
        has_credits: told_bool("credits-has-credits"),
        unlimited: told_bool("credits-unlimited"),
        balance: told_text("credits-balance"),
    });
    let reached_type = told_text("rate-limit-reached-type");
    told(Reading {
        plan: told_text("plan-type"),
        windows,
        other_limits: other_limits.collect(),
        limit_reached: reached_type.is_some(),
        reached_type,
        credits,
        taken_at: now,
        ..Reading::default()
    })
}

/// `-used-percent` is the field `used_percent`.
fn is_dashed(rest: &str, field: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|name| {
        name.len() == field.len() && name.bytes().zip(field.bytes()).all(|(a, b)| a == b || (a, b) == (b'-', b'_'))
    })
}

/// A reading in the backend's own form: [`parse`] reads it again as it is, but for `taken_at`, which is the caller's.
pub fn written(reading: &Reading) -> Value {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let limits = reading.other_limits.iter().map(|limit| {
        Value::of([("limit_name", Value::from(limit.name.as_str())), ("rate_limit", written_windows(&limit.windows))])
    });
    let mut limit = written_windows(&reading.windows);
    limit.set("limit_reached", Value::from(reading.limit_reached));
    let mut usage = Value::of([
        ("plan_type", text(&reading.plan)),
        ("email", text(&reading.email)),
        ("rate_limit", limit),
        ("rate_limit_reached_type", Value::of([("type", text(&reading.reached_type))])),
        ("additional_rate_limits", Value::Array(limits.collect())),
    ]);
    if let Some(credits) = &reading.credits {
        let members = vec![
            ("has_credits", Value::from(credits.has_credits)),
            ("unlimited", Value::from(credits.unlimited)),
            ("balance", text(&credits.balance)),
        ];
        usage.set("credits", Value::of(members));
    }
    if let Some(count) = reading.reset_credits {
        usage.set("rate_limit_reset_credits", Value::of([("available_count", Value::from(count))]));
    }
    usage
}

/// Windows as members of a limit, in their order.
pub fn written_windows(windows: &[Window]) -> Value {
    let members = windows.iter().enumerate().map(|(at, window)| {
        let mut members = vec![("limit_window_seconds", Value::from(window.length))];
        members.extend(window.used_percent.map(|used| ("used_percent", Value::Number(used.to_string()))));
        members.extend(window.resets_at.map(|at| ("reset_at", Value::from(at))));
        (format!("window_{at}"), Value::of(members))
    });
    Value::Object(members.collect())
}

/// What the answer and the event have in common.
fn common(from: &Members, limit: Option<Raw>, now: u64) -> Reading {
    let flag = |name: &str| limit.as_ref()?.member(name)?.as_bool();
    let credits = from
        .member("credits")
        .map(|credits| credits.opened())
        .filter(|credits| credits.member("has_credits").is_some())
        .map(|credits| {
            let flag = |name: &str| credits.member(name).and_then(|value| value.as_bool()).unwrap_or(false);
            let balance = credits.member("balance");
            Credits {
                has_credits: flag("has_credits"),
                unlimited: flag("unlimited"),
                balance: text(balance).or_else(|| Some(balance?.as_f64()?.to_string())),
            }
        });
    Reading {
        plan: text(from.member("plan_type")),
        limit_reached: flag("limit_reached") == Some(true) || flag("allowed") == Some(false),
        windows: windows(limit, now),
        credits,
        taken_at: now,
        ..Reading::default()
    }
}

/// A reading that tells something about quota.
fn told(reading: Reading) -> Option<Reading> {
    let something = !reading.windows.is_empty() || !reading.other_limits.is_empty() || reading.limit_reached;
    something.then_some(reading)
}

fn other_limits(from: &Members, code_review: &[&str], now: u64) -> Vec<Limit> {
    let review = code_review.iter().find_map(|name| from.member(name).filter(|limit| !limit.is_null()));
    let review = review.map(|limit| Limit { name: "Code review".to_owned(), windows: windows(Some(limit), now) });
    let additional = from.member("additional_rate_limits");
    let additional = additional.iter().flat_map(Raw::elements).take(MAX_LIMITS).map(|limit| Limit {
        name: text(limit.member("limit_name"))
            .or_else(|| text(limit.member("metered_feature")))
            .unwrap_or_else(|| "Other limit".to_owned()),
        windows: windows(limit.member("rate_limit"), now),
    });
    review.into_iter().chain(additional).filter(|limit| !limit.windows.is_empty()).collect()
}

/// Every window of a limit, whatever its slot is called (`primary_window`, `secondary`, …), shortest first.
pub fn windows(limit: Option<Raw>, now: u64) -> Vec<Window> {
    let mut windows: Vec<Window> = limit
        .iter()
        .flat_map(Raw::members)
        .filter_map(|(_, slot)| {
            let slot = slot.opened();
            window(|field| slot.member(field)?.as_f64(), now)
        })
        .take(MAX_WINDOWS)
        .collect();
    windows.sort_unstable_by_key(|window| window.length);
    windows
}

/// A window from its numbers; `None` when neither its use nor its length is there.
fn window(field: impl Fn(&str) -> Option<f64>, now: u64) -> Option<Window> {
    let used_percent = field("used_percent").filter(|used| used.is_finite()).map(|used| used.max(0.0));
    let length = seconds(field("limit_window_seconds"))
        .or_else(|| seconds(field("window_minutes").map(|minutes| minutes * 60.0)))
        .unwrap_or(0);
    if used_percent.is_none() && length == 0 {
        return None;
    }
    let resets_at = seconds(field("reset_at"))
        .filter(|&at| at > 0)
        .or_else(|| seconds(field("reset_after_seconds")).map(|after| now.saturating_add(after)));
    Some(Window { length, used_percent, resets_at })
}

/// A time or length in whole seconds, when it can be one.
fn seconds(number: Option<f64>) -> Option<u64> {
    number.filter(|number| (0.0..=MAX_SECONDS).contains(number)).map(|number| number as u64)
}

fn text(value: Option<Raw>) -> Option<String> {
    let text: String = value?.as_str()?.trim().chars().take(MAX_TEXT).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
