//! Writes what a run decides back to state.json, off the request path: which profile is active after a rotation.
//! Knows only names; the rules of the file are `state::store`'s.

use super::journal::{Journal, Marker};
use crate::config::Config;
use crate::state::store;
use crate::sys::clock;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// Codex has ended and the user waits for the prompt: no longer than this for a lock that somebody else holds.
const FINISH_LIMIT: Duration = Duration::from_millis(500);

/// The run moved from one profile to another.
struct Moved {
    from: String,
    to: String,
}

pub struct Saver {
    moves: Mutex<Option<Sender<Moved>>>,
    results: Mutex<Receiver<Result<String, String>>>,
}

impl Saver {
    pub fn start(config: Config) -> Saver {
        let (moves, inbox) = mpsc::channel::<Moved>();
        let (outbox, results) = mpsc::channel();
        // Without a thread nothing is saved, which the log shows; the run goes on.
        let _ = std::thread::Builder::new().name("saver".to_owned()).spawn(move || {
            for moved in inbox {
                let result = save(&config, &moved).map_err(|error| error.to_string());
                if outbox.send(result.map(|()| moved.to)).is_err() {
                    break;
                }
            }
        });
        Saver { moves: Mutex::new(Some(moves)), results: Mutex::new(results) }
    }

    pub fn moved(&self, from: &str, to: &str, journal: &Journal) {
        if let Ok(moves) = self.moves.lock()
            && let Some(moves) = &*moves
        {
            let _ = moves.send(Moved { from: from.to_owned(), to: to.to_owned() });
        }
        self.report(journal, Duration::ZERO);
    }

    /// Waits a moment for what is under way.
    pub fn finish(&self, journal: &Journal) {
        if let Ok(mut moves) = self.moves.lock() {
            moves.take();
        }
        self.report(journal, FINISH_LIMIT);
    }

    fn report(&self, journal: &Journal, wait: Duration) {
        let Ok(results) = self.results.lock() else { return };
        while let Ok(result) = results.recv_timeout(wait) {
            match result {
                Ok(to) => journal.note(Marker::StateSaveOk, format_args!("reason=profile_commit:{to}")),
                Err(error) => journal.note(Marker::StateSaveError, format_args!("error={error}")),
            }
        }
    }
}

/// Only where the profile that we left is still the active one: a `prodex use` in another terminal is not undone.
fn save(config: &Config, moved: &Moved) -> Result<(), crate::error::Error> {
    store::update(config, |state| {
        if state.active().as_deref() == Some(&moved.from) && state.profile(&moved.to).is_some() {
            state.set_active(Some(&moved.to));
        }
        state.set_last_run_selected_at(&moved.to, clock::unix());
        Ok(())
    })
}
