//! Takes bindings from the threads that serve codex and writes them down from a thread of its own: a request pays for a
//! copy of its id, never for the disk. Knows when to write and what to do when that fails; the file is `log`'s.

use super::log::{self, When};
use super::{Kind, line, read, write_back};
use crate::config::Config;
use crate::error::Error;
use crate::sys::clock;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What comes within this time of the first goes out in one write. A binding must be safe a second after `bind`.
const BATCH: Duration = Duration::from_millis(100);
/// Text that waits for the disk: 10,000 bindings. When it is full the older half goes, the newest matter most.
const MAX_BACKLOG: usize = 1024 * 1024;
/// Kept between batches.
const USUAL_BATCH: usize = 16 * 1024;
/// A disk that is full stays so for a while.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How much the file grows before it is looked at again.
const EXAMINE_AFTER: u64 = 1024 * 1024;

pub struct Recorder {
    desk: Arc<Desk>,
}

/// Where the threads meet.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Default)]
struct Papers {
    /// Lines that nobody has taken yet.
    lines: Vec<u8>,
    dropped: u64,
    closed: bool,
    /// The thread is through.
    done: bool,
    problem: Option<String>,
}

impl Recorder {
    pub fn start(config: Config) -> Recorder {
        let desk = Arc::new(Desk::default());
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("bindings".to_owned());
        if let Err(error) = thread.spawn(move || Writer::new(config, &theirs).run()) {
            let mut papers = desk.lock();
            papers.problem = Some(format!("bindings are not kept: {error}"));
            papers.done = true;
        }
        Recorder { desk }
    }

    /// From now on `id` belongs to `profile`. Waits for no disk; ids and names that no line can hold are not kept.
    pub fn bind(&self, kind: Kind, id: &str, profile: &str) {
        let now = clock::unix();
        let mut papers = self.desk.lock();
        let first = papers.lines.is_empty();
        let kept = line::encode(&mut papers.lines, kind, now, profile, id);
        let dropped = trim(&mut papers.lines);
        papers.dropped += dropped;
        drop(papers);
        // The thread wakes for the first of a batch only.
        if first && kept {
            self.desk.changed.notify_all();
        }
    }

    /// Bindings that were not kept because the disk took none for too long.
    pub fn dropped(&self) -> u64 {
        self.desk.lock().dropped
    }

    /// What stands in the way, once for a run: the first reason.
    pub fn take_problem(&self) -> Option<String> {
        self.desk.lock().problem.take()
    }

    /// The run is over: what waits is written and 0.2.38's maps are brought up, all within `limit`. True when all was done.
    pub fn finish(&self, limit: Duration) -> bool {
        let mut papers = self.desk.lock();
        papers.closed = true;
        self.desk.changed.notify_all();
        let waited = self.desk.changed.wait_timeout_while(papers, limit, |papers| !papers.done);
        papers = waited.unwrap_or_else(PoisonError::into_inner).0;
        papers.done
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_all();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, or `pause` after a failure, and adds what there is to `batch`. True when the run is over.
    fn take(&self, batch: &mut Vec<u8>, pause: Option<Duration>) -> bool {
        let mut papers = self.lock();
        let mut wait = pause;
        if wait.is_none() {
            let idle = |papers: &mut Papers| papers.lines.is_empty() && !papers.closed;
            papers = self.changed.wait_while(papers, idle).unwrap_or_else(PoisonError::into_inner);
            wait = Some(BATCH);
        }
        let open = |papers: &mut Papers| !papers.closed;
        let waited = self.changed.wait_timeout_while(papers, wait.unwrap_or(BATCH), open);
        let mut papers = waited.unwrap_or_else(PoisonError::into_inner).0;
        batch.extend_from_slice(&papers.lines);
        papers.lines.clear();
        papers.lines.shrink_to(USUAL_BATCH);
        papers.dropped += trim(batch);
        papers.closed
    }
}

struct Writer<'a> {
    config: Config,
    desk: &'a Desk,
    /// Begins with a line's end: whatever somebody left torn at the end of the file ends there.
    batch: Vec<u8>,
    pause: Option<Duration>,
    /// Length of the file when it was looked at last.
    examined: u64,
    rewriting: Option<JoinHandle<()>>,
    wrote: bool,
    complained: bool,
}

impl<'a> Writer<'a> {
    fn new(config: Config, desk: &'a Desk) -> Writer<'a> {
        let batch = vec![b'\n'];
        Writer { config, desk, batch, pause: None, examined: 0, rewriting: None, wrote: false, complained: false }
    }

    fn run(mut self) {
        while !self.desk.take(&mut self.batch, self.pause) {
            self.write();
        }
        self.write();
        if self.wrote
            && let Err(error) = write_back(&self.config, &read(&self.config).bindings)
        {
            self.complain(error.to_string());
        }
        // A short run may be the only one that ever comes by.
        if let Some(rewriting) = self.rewriting.take() {
            let _ = rewriting.join();
        }
        self.desk.lock().done = true;
        self.desk.changed.notify_all();
    }

    fn write(&mut self) {
        if self.batch.len() <= 1 {
            return;
        }
        let appended = log::append(&self.config, &self.batch);
        if let Ok(appended) = &appended
            && appended.bytes > 0
        {
            self.wrote = true;
            // What was torn is written again, and again behind a line's end.
            let whole = self.batch.iter().take(appended.bytes).rposition(|&byte| byte == b'\n');
            self.batch.drain(..whole.unwrap_or(0));
        }
        if self.batch.len() <= 1 {
            self.batch.shrink_to(USUAL_BATCH);
            self.pause = None;
            self.examine(appended.map_or(0, |appended| appended.length));
            return;
        }
        self.pause = Some(self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)));
        match appended {
            Err(error) => self.complain(Error::io("write", &log::path(&self.config), &error).to_string()),
            Ok(_) => self.complain(format!("cannot write {}: the disk is full", log::path(&self.config).display())),
        }
    }

    /// Has the file rewritten when it has grown too long, by a thread of its own: syncing may take seconds, and bindings
    /// go on. That it could not is no loss, and the next megabyte asks again.
    fn examine(&mut self, length: u64) {
        if length < self.examined {
            self.examined = length;
        }
        let busy = self.rewriting.as_ref().is_some_and(|thread| !thread.is_finished());
        if busy || length - self.examined < EXAMINE_AFTER {
            return;
        }
        self.examined = length;
        let config = self.config.clone();
        let thread = std::thread::Builder::new().name("compaction".to_owned());
        self.rewriting = thread.spawn(move || drop(log::compact(&config, When::Due, |_| true))).ok();
    }

    fn complain(&mut self, problem: String) {
        if !std::mem::replace(&mut self.complained, true) {
            self.desk.lock().problem = Some(problem);
        }
    }
}

/// Cuts the older half of too much text off, at a line's end. Gives the number of lines that went.
fn trim(lines: &mut Vec<u8>) -> u64 {
    if lines.len() <= MAX_BACKLOG {
        return 0;
    }
    let half = MAX_BACKLOG / 2;
    let end = lines.iter().skip(half).position(|&byte| byte == b'\n').map_or(lines.len(), |at| half + at);
    // A batch begins with a line's end, and so does what is left of it.
    let cut = if lines.first() == Some(&b'\n') { end } else { (end + 1).min(lines.len()) };
    lines.drain(..cut).filter(|&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::bindings::Binding;
    use crate::state::scratch::Scratch;
    use std::fs;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn ids(config: &Config) -> Vec<String> {
        read(config).bindings.into_iter().map(|Binding { id, .. }| id).collect()
    }

    #[test]
    fn writes_soon_and_at_the_end() {
        let dir = Scratch::new("recorder");
        let recorder = Recorder::start(dir.config());
        recorder.bind(Kind::Response, "r1", "main");
        recorder.bind(Kind::Response, "", "main");
        recorder.bind(Kind::Response, "r2", "no name");
        std::thread::sleep(BATCH * 8);
        assert_eq!(ids(&dir.config()), ["r1"]);
        recorder.bind(Kind::Session, "s1", "main");
        assert!(recorder.finish(PATIENCE));
        assert_eq!(ids(&dir.config()), ["r1", "s1"]);
        assert_eq!((recorder.dropped(), recorder.take_problem()), (0, None));
    }

    #[test]
    fn nothing_bound_touches_nothing() {
        let dir = Scratch::new("recorder-idle");
        assert!(Recorder::start(dir.config()).finish(PATIENCE));
        assert!(!dir.config().root.exists());
    }

    #[test]
    fn what_cannot_be_written_is_told_once_and_written_later() {
        let dir = Scratch::new("recorder-stuck");
        let config = dir.config();
        fs::create_dir_all(log::path(&config)).unwrap();
        let recorder = Recorder::start(config.clone());
        recorder.bind(Kind::Response, "r1", "main");
        std::thread::sleep(BATCH * 4);
        let problem = recorder.take_problem().unwrap();
        assert!(problem.contains("bindings.log"), "{problem}");
        for n in 0..30_000 {
            recorder.bind(Kind::Response, &format!("resp_{n:050}"), "main");
        }
        assert!(recorder.dropped() > 1_000, "the backlog has a bound");
        fs::remove_dir(log::path(&config)).unwrap();
        assert!(recorder.finish(PATIENCE));
        assert_eq!(recorder.take_problem(), None);
        let ids = ids(&config);
        assert_eq!(ids.last().unwrap(), &format!("resp_{:050}", 29_999));
        assert_eq!(ids.len() as u64 + recorder.dropped(), 30_001, "the oldest went, and each was counted");
    }

    #[test]
    fn a_torn_end_costs_nobody_a_line() {
        let dir = Scratch::new("recorder-torn");
        let config = dir.config();
        fs::create_dir_all(&config.root).unwrap();
        let mut torn = Vec::new();
        line::encode(&mut torn, Kind::Response, 5, "main", "r0");
        fs::write(log::path(&config), &torn[..torn.len() - 3]).unwrap();
        let recorder = Recorder::start(config.clone());
        recorder.bind(Kind::Response, "r1", "main");
        recorder.finish(PATIENCE);
        assert_eq!(ids(&config), ["r1"]);
        assert_eq!(read(&config).problems.len(), 1);
    }

    #[test]
    fn a_log_that_grew_is_rewritten() {
        let dir = Scratch::new("recorder-compact");
        let config = dir.config();
        fs::create_dir_all(&config.root).unwrap();
        let mut text = Vec::new();
        for n in 0..60_000 {
            line::encode(&mut text, Kind::Session, 5, "main", &format!("session-{}", n % 100));
        }
        fs::write(log::path(&config), &text).unwrap();
        let recorder = Recorder::start(config.clone());
        recorder.bind(Kind::Response, "r1", "main");
        assert!(recorder.finish(PATIENCE));
        assert!(fs::metadata(log::path(&config)).unwrap().len() < 10_000);
        assert_eq!(ids(&config).len(), 101);
    }
}
