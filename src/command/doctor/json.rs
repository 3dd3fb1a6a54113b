//! The document of `doctor --json`, `schema_version` 1. Members are only added within a version; a reader ignores what it
//! does not know. What was not asked for (quota, overrides, runtime) is null.
//!
//! | member | what |
//! |---|---|
//! | `schema_version` | 1 |
//! | `prodex_version` | e.g. `0.3.0` |
//! | `findings[]` | `id` (a stable word), `profile` (name or null), `what`, `next`: sentences |
//! | `environment` | `prodex_root`, `state_file` {`path`, `exists`}, `profiles_root`, `default_codex_home`, `shared_codex_home`, `quota_endpoint`, `codex` {`command`, `path`, `version`} (null: not found, not told) |
//! | `active_profile` | name or null |
//! | `profiles[]` | as every document has them (`command::json`), and `quota`: null, or as every document has it |
//! | `overrides` | null, or `works`, `transport` (`websocket`, `http`, null), `text`, `took_ms` |
//! | `runtime` | null, or `pointer`, `log`, `log_bytes`, `lines`, `foreign_lines`, `counts` (by name, zeros included), `moves`, `refused` (by reason), `markers` (by name), `commit_ms` and `first_ms` (null, or `p50`, `p99`, `count`), `last_marker`, `diagnosis` {`id`, `text`, `next`} |

use super::Report;
use super::look::Patient;
use super::runtime::{COUNTS, Runtime, total};
use crate::command::json::{self, maybe, path};
use crate::proxy::journal::read::Spread;
use crate::sys::clock;
use crate::wire::value::Value;

pub fn document(report: &Report) -> String {
    let config = report.config;
    let findings = report.findings.iter().map(|finding| {
        Value::of([
            ("id", finding.id.into()),
            ("profile", maybe(finding.profile.as_deref())),
            ("what", finding.what.as_str().into()),
            ("next", finding.next.as_str().into()),
        ])
    });
    let codex = Value::of([
        ("command", config.codex_bin.to_string_lossy().as_ref().into()),
        ("path", report.codex.path.as_deref().map_or(Value::Null, path)),
        ("version", maybe(report.codex.version.as_deref())),
    ]);
    let state_file = Value::of([("path", path(&config.state_file())), ("exists", report.state_exists.into())]);
    let environment = Value::of([
        ("prodex_root", path(&config.root)),
        ("state_file", state_file),
        ("profiles_root", path(&config.profiles_dir())),
        ("default_codex_home", path(&config.default_codex_home)),
        ("shared_codex_home", path(&config.shared_codex_home)),
        ("quota_endpoint", report.quota_endpoint.as_str().into()),
        ("codex", codex),
    ]);
    let overrides = report.trial.as_ref().map_or(Value::Null, |trial| {
        Value::of([
            ("works", trial.transport.is_some().into()),
            ("transport", maybe(trial.transport)),
            ("text", trial.words.as_str().into()),
            ("took_ms", u64::try_from(trial.took.as_millis()).unwrap_or(u64::MAX).into()),
        ])
    });
    let profiles = report.patients.iter().map(|patient| profile(patient, report.active.as_deref()));
    json::document([
        ("prodex_version", env!("CARGO_PKG_VERSION").into()),
        ("findings", Value::Array(findings.collect())),
        ("environment", environment),
        ("active_profile", maybe(report.active.as_deref())),
        ("profiles", Value::Array(profiles.collect())),
        ("overrides", overrides),
        ("runtime", report.runtime.as_ref().map_or(Value::Null, runtime)),
    ])
}

fn profile(patient: &Patient, active: Option<&str>) -> Value {
    let quota = patient.answer.as_ref().map_or(Value::Null, |answer| {
        let reading = answer.usage.as_ref().ok().map(|usage| &usage.reading);
        json::quota(reading, &patient.quota(answer), clock::unix())
    });
    let mut profile = json::profile(&patient.profile, &patient.auth, active);
    profile.set("quota", quota);
    profile
}

fn runtime(runtime: &Runtime) -> Value {
    let summary = &runtime.summary;
    let named = |counts: &mut dyn Iterator<Item = (&str, u64)>| {
        Value::Object(counts.map(|(name, count)| (name.to_owned(), count.into())).collect())
    };
    let spread = |spread: Option<Spread>| {
        spread.map_or(Value::Null, |spread| {
            Value::of([("p50", spread.p50.into()), ("p99", spread.p99.into()), ("count", spread.count.into())])
        })
    };
    let diagnosis = Value::of([
        ("id", runtime.diagnosis.id.into()),
        ("text", runtime.diagnosis.what.as_str().into()),
        ("next", maybe(runtime.diagnosis.next.as_deref())),
    ]);
    Value::of([
        ("pointer", path(&runtime.pointer)),
        ("log", runtime.log.as_deref().map_or(Value::Null, path)),
        ("log_bytes", runtime.size.into()),
        ("lines", summary.lines.into()),
        ("foreign_lines", summary.foreign.into()),
        ("counts", named(&mut COUNTS.iter().map(|(id, _, markers)| (*id, total(summary, markers))))),
        ("moves", summary.moves.into()),
        ("refused", named(&mut summary.refused.iter().map(|(reason, count)| (reason.as_str(), *count)))),
        ("markers", named(&mut summary.markers())),
        ("commit_ms", spread(summary.commit_ms)),
        ("first_ms", spread(summary.first_ms)),
        ("last_marker", maybe(summary.last.as_deref())),
        ("diagnosis", diagnosis),
    ])
}
