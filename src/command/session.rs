//! `session list`: the threads of the shared history store, whoever began them (spec S-17, S-33). Fetches and prints.

use super::json;
use crate::config::Config;
use crate::error::Outcome;
use crate::profile::rollout::Origin;
use crate::profile::threads::{Thread, Threads};
use crate::proxy::bindings::{self, Kind};
use crate::screen::session::{self as screen, Row};
use crate::sys::{clock, terminal};
use crate::wire::value::Value;
use std::collections::HashMap;
use std::io::Write;

/// One thread and what else is known of it.
struct Entry {
    thread: Thread,
    words: Option<String>,
    profile: Option<String>,
}

pub fn list(config: &Config, count: usize, as_json: bool, out: &mut dyn Write) -> Outcome {
    let mut threads = Threads::of(&config.shared_codex_home);
    // What a thread began for itself is no session of a person.
    let shown = threads.by_ref().filter(|thread| thread.origin != Origin::Agent).take(count);
    let known = bindings::read(config).bindings.into_iter().filter(|binding| binding.kind == Kind::Session);
    let mut served: HashMap<String, String> = known.map(|binding| (binding.id, binding.profile)).collect();
    let entries: Vec<Entry> =
        shown.map(|thread| Entry { words: thread.words(), profile: served.remove(&thread.id), thread }).collect();
    let text = if as_json { document(&entries, threads.skipped) } else { page(&entries) };
    out.write_all(text.as_bytes())?;
    if threads.skipped > 0 && !as_json {
        super::warn(&format!("{} of the files under sessions/ cannot be read as transcripts", threads.skipped));
    }
    Ok(0)
}

fn page(entries: &[Entry]) -> String {
    screen::sessions(&entries.iter().map(row).collect::<Vec<_>>(), terminal::width(), &clock::local_offset)
}

fn row(entry: &Entry) -> Row<'_> {
    Row {
        id: &entry.thread.id,
        updated_at: entry.thread.updated_at,
        profile: entry.profile.as_deref(),
        cwd: entry.thread.cwd.as_deref(),
        words: entry.words.as_deref(),
    }
}

fn document(entries: &[Entry], skipped: usize) -> String {
    let entry = |entry: &Entry| {
        let thread = &entry.thread;
        Value::of([
            ("id", thread.id.as_str().into()),
            ("updated_at", thread.updated_at.into()),
            ("directory", json::maybe(thread.cwd.as_deref())),
            ("profile", json::maybe(entry.profile.as_deref())),
            ("first_words", json::maybe(entry.words.as_deref())),
            ("path", json::path(&thread.path)),
        ])
    };
    let sessions = Value::Array(entries.iter().map(entry).collect());
    json::document([("sessions", sessions), ("skipped_files", (skipped as u64).into())])
}
