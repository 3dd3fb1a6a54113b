//! Writes what a run decides to state.json, off the request path: which profile was launched, and which is active after a
//! rotation. Knows only names; the rules of the file are `state::store`'s.

use super::journal::{Journal, Marker};
use crate::config::Config;
use crate::state::{State, store};
use crate::sys::clock;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// Codex has ended and the user waits for the prompt: no longer than this for a lock that somebody else holds.
const FINISH_LIMIT: Duration = Duration::from_millis(500);

/// Codex starts in well under a second.
const SETTLED: Duration = Duration::from_secs(3);

enum Change {
    Launched {
        name: String,
        activate: bool,
    },
    /// The run moved from one profile to another.
    Moved {
        from: String,
        to: String,
    },
}

pub struct Saver {
    changes: Mutex<Option<Sender<Change>>>,
    results: Mutex<Receiver<Result<String, String>>>,
}

impl Saver {
    pub fn start(config: Config) -> Saver {
        let (changes, inbox) = mpsc::channel::<Change>();
        let (outbox, results) = mpsc::channel();
        // Without a thread nothing is saved, which the log shows; the run goes on.
        let _ = std::thread::Builder::new().name("saver".to_owned()).spawn(move || {
            while let Some(change) = next(&inbox) {
                let reason = change.reason();
                let result = store::update(&config, |state| {
                    change.apply(state);
                    Ok(())
                });
                if outbox.send(result.map(|()| reason).map_err(|error| error.to_string())).is_err() {
                    break;
                }
            }
        });
        Saver { changes: Mutex::new(Some(changes)), results: Mutex::new(results) }
    }

    pub fn launched(&self, name: &str, activate: bool) {
        self.send(Change::Launched { name: name.to_owned(), activate });
    }

    pub fn moved(&self, from: &str, to: &str, journal: &Journal) {
        self.send(Change::Moved { from: from.to_owned(), to: to.to_owned() });
        self.report(journal, Duration::ZERO);
    }

    /// Waits a moment for what is under way.
    pub fn finish(&self, journal: &Journal) {
        if let Ok(mut changes) = self.changes.lock() {
            changes.take();
        }
        self.report(journal, FINISH_LIMIT);
    }

    fn send(&self, change: Change) {
        if let Ok(changes) = self.changes.lock()
            && let Some(changes) = &*changes
        {
            let _ = changes.send(change);
        }
    }

    fn report(&self, journal: &Journal, wait: Duration) {
        let Ok(results) = self.results.lock() else { return };
        while let Ok(result) = results.recv_timeout(wait) {
            match result {
                Ok(reason) => journal.note(Marker::StateSaveOk, format_args!("reason={reason}")),
                Err(error) => journal.note(Marker::StateSaveError, format_args!("error={error}")),
            }
        }
    }
}

/// The next change that is worth writing. That a profile was launched is written once codex has settled, and not at all
/// for a run that is over by then: the writes would compete with those of codex's own databases.
fn next(inbox: &Receiver<Change>) -> Option<Change> {
    let change = inbox.recv().ok()?;
    if !matches!(change, Change::Launched { activate: false, .. }) {
        return Some(change);
    }
    match inbox.recv_timeout(SETTLED) {
        // Whatever else is written says that a profile was selected.
        Ok(next) => Some(next),
        Err(RecvTimeoutError::Timeout) => Some(change),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

impl Change {
    fn reason(&self) -> String {
        match self {
            Change::Launched { name, .. } => format!("launch:{name}"),
            Change::Moved { to, .. } => format!("profile_commit:{to}"),
        }
    }

    fn apply(&self, state: &mut State) {
        match self {
            Change::Launched { name, activate } => launched(state, name, *activate),
            Change::Moved { from, to } => {
                // Only where the profile that we left is still the active one: a `prodex use` elsewhere is not undone.
                let activate = state.active().as_deref() == Some(from);
                launched(state, to, activate);
            }
        }
    }
}

/// `name` was chosen just now, unless it was removed meanwhile.
pub fn launched(state: &mut State, name: &str, activate: bool) {
    if state.profile(name).is_some() {
        state.set_last_run_selected_at(name, clock::unix());
        if activate {
            state.set_active(Some(name));
        }
    }
}
