//! The runtime log: 0.2.38's line format and markers (`original.md` D.10), one file for a run, readable by its user alone.
//! Holds ids, names and numbers; callers give it no token, prompt, output or e-mail. Errors of the disk end nothing: the
//! run matters more than its log. `find` finds it again and `read` reads it.

pub mod find;
mod line;
pub mod read;

use super::route::Lane;
use crate::sys::clock;
use line::{Stamp, append};
use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is kept of earlier runs (spec S-70).
const KEEP_LOGS: usize = 20;
const KEEP_BYTES: u64 = 64 * 1024 * 1024;
/// One run writes no more than this.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

const PREFIX: &str = "prodex-runtime-";
const POINTER: &str = "prodex-runtime-latest.path";

/// Everything that the log can say, by the names that 0.2.38 gave it where it had one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Candidate,
    CandidateExhausted,
    Committed,
    ProfileCommit,
    QuotaBlocked,
    Overloaded,
    Unauthorized,
    UpstreamConnectError,
    UpstreamHandshakeRefused,
    RetryBackoff,
    TransportBackoff,
    OverloadBackoff,
    Health,
    Inflight,
    InflightSaturated,
    LaneLimit,
    ActiveLimit,
    LocalOverload,
    AdmissionExhausted,
    AdmissionRecovered,
    LoginNeeded,
    Refreshed,
    RefreshFailed,
    PrecommitBudgetExhausted,
    DirectCurrentProfileFallback,
    LookaheadTimeout,
    FirstUpstreamChunk,
    FirstLocalChunk,
    StreamReadError,
    StreamComplete,
    TerminalEvent,
    Binding,
    WebsocketBounce,
    WebsocketReplay,
    QueueOverloaded,
    QueueWaitExhausted,
    Refused,
    WorkerPanic,
    StateSaveOk,
    StateSaveError,
    Workspace,
    Exchange,
}

impl Marker {
    pub fn name(self) -> &'static str {
        match self {
            Marker::Candidate => "candidate",
            Marker::CandidateExhausted => "candidate_exhausted",
            Marker::Committed => "committed",
            Marker::ProfileCommit => "profile_commit",
            Marker::QuotaBlocked => "quota_blocked",
            Marker::Overloaded => "overloaded",
            Marker::Unauthorized => "unauthorized",
            Marker::UpstreamConnectError => "upstream_connect_error",
            Marker::UpstreamHandshakeRefused => "upstream_handshake_refused",
            Marker::RetryBackoff => "profile_retry_backoff",
            Marker::TransportBackoff => "profile_transport_backoff",
            Marker::OverloadBackoff => "profile_overload_backoff",
            Marker::Health => "profile_health",
            Marker::Inflight => "profile_inflight",
            Marker::InflightSaturated => "profile_inflight_saturated",
            Marker::LaneLimit => "runtime_proxy_lane_limit_reached",
            Marker::ActiveLimit => "runtime_proxy_active_limit_reached",
            Marker::LocalOverload => "runtime_proxy_overload_backoff",
            Marker::AdmissionExhausted => "runtime_proxy_admission_wait_exhausted",
            Marker::AdmissionRecovered => "runtime_proxy_admission_recovered",
            Marker::Refreshed => "login_refreshed",
            Marker::RefreshFailed => "login_refresh_failed",
            Marker::LoginNeeded => "profile_login_needed",
            Marker::PrecommitBudgetExhausted => "precommit_budget_exhausted",
            Marker::DirectCurrentProfileFallback => "direct_current_profile_fallback",
            Marker::LookaheadTimeout => "lookahead_timeout",
            Marker::FirstUpstreamChunk => "first_upstream_chunk",
            Marker::FirstLocalChunk => "first_local_chunk",
            Marker::StreamReadError => "stream_read_error",
            Marker::StreamComplete => "stream_complete",
            Marker::TerminalEvent => "terminal_event",
            Marker::Binding => "binding",
            Marker::WebsocketBounce => "websocket_bounce",
            Marker::WebsocketReplay => "websocket_replay",
            Marker::QueueOverloaded => "runtime_proxy_queue_overloaded",
            Marker::QueueWaitExhausted => "runtime_proxy_queue_wait_exhausted",
            Marker::Refused => "runtime_proxy_refused",
            Marker::WorkerPanic => "worker_panic",
            Marker::StateSaveOk => "state_save_ok",
            Marker::StateSaveError => "state_save_error",
            Marker::Workspace => "workspace",
            Marker::Exchange => "exchange",
        }
    }
}

/// Which exchange a line belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    pub request: u64,
    pub lane: Lane,
}

impl Tag {
    /// 0.2.38 knows two.
    pub fn transport(self) -> &'static str {
        if self.lane == Lane::WebSocket { "websocket" } else { "http" }
    }
}

pub struct Journal {
    sink: Sink,
    path: PathBuf,
}

type Sink = Arc<Mutex<Option<Log>>>;

struct Log {
    file: File,
    written: u64,
}

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// Lines that a thread keeps back, and where they go.
struct Kept {
    sink: Sink,
    lines: String,
    stamp: Stamp,
}

/// Lines of an exchange longer than this go out at once.
const MAX_KEPT: usize = 8 * 1024;

/// The lines of this thread are kept back until [`flush`], or until this is dropped: an exchange writes its log while it
/// waits for somebody, not while codex waits for it.
#[must_use]
pub struct Gathering(());

impl Drop for Gathering {
    fn drop(&mut self) {
        flush();
        KEPT.take();
    }
}

/// What this thread has kept back is written; costs nothing when there is nothing.
pub fn flush() {
    KEPT.with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut()
            && let Some(Kept { sink, lines, .. }) = kept.as_mut().filter(|kept| !kept.lines.is_empty())
        {
            write(sink, lines);
            lines.clear();
        }
    });
}

fn write(sink: &Sink, lines: &str) {
    let mut file = sink.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(log) = file.as_mut() {
        log.written += lines.len() as u64;
        if log.written > MAX_BYTES {
            let mut line = String::new();
            let words = format_args!("runtime proxy log is full: {MAX_BYTES} bytes, nothing more is kept");
            append(&mut line, &mut Stamp::default(), words);
            let _ = log.file.write_all(line.as_bytes());
            *file = None;
        } else {
            let _ = log.file.write_all(lines.as_bytes());
        }
    }
}

impl Journal {
    /// Opens this run's log in `dir`, writes the pointer beside it, sweeps old logs of ours. A directory that takes no
    /// file gives a journal that keeps nothing.
    pub fn open(dir: &Path) -> Journal {
        let path = dir.join(format!("{PREFIX}{}-{}.log", std::process::id(), clock::unix_millis()));
        let file = create(&path).ok();
        if file.is_some() {
            sweep(dir, &path);
            // The pointer is a convenience: in a shared directory somebody else may hold the name.
            let _ = point(dir, &path);
        }
        Journal { sink: Arc::new(Mutex::new(file.map(|file| Log { file, written: 0 }))), path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A line about one exchange: `request=1 transport=http quota_blocked profile=main`.
    pub fn mark(&self, tag: Tag, marker: Marker, fields: fmt::Arguments<'_>) {
        self.line(format_args!("request={} transport={} {} {fields}", tag.request, tag.transport(), marker.name()));
    }

    /// A line about the run or a profile: `profile_retry_backoff profile=main until=1795575061`.
    pub fn note(&self, marker: Marker, fields: fmt::Arguments<'_>) {
        self.line(format_args!("{} {fields}", marker.name()));
    }

    pub fn line(&self, text: fmt::Arguments<'_>) {
        let kept = KEPT.with(|kept| {
            // A panic in the middle of this writes its own line.
            let mut kept = kept.try_borrow_mut().ok()?;
            let Kept { lines, stamp, .. } = kept.as_mut()?;
            append(lines, stamp, text);
            Some(lines.len())
        });
        match kept {
            None => {
                let mut line = String::new();
                append(&mut line, &mut Stamp::default(), text);
                write(&self.sink, &line);
            }
            Some(MAX_KEPT..) => flush(),
            Some(_) => {}
        }
    }

    /// From here on.
    pub fn gather(&self) -> Gathering {
        let sink = Arc::clone(&self.sink);
        KEPT.replace(Some(Kept { sink, lines: String::new(), stamp: Stamp::default() }));
        Gathering(())
    }
}

/// A new file of ours, never one that stands there already, never through a link.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

fn point(dir: &Path, log: &Path) -> io::Result<()> {
    let temporary = dir.join(format!("{POINTER}.{}.tmp", std::process::id()));
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(log.as_os_str().as_encoded_bytes())?;
        file.write_all(b"\n")
    });
    let done = written.and_then(|()| std::fs::rename(&temporary, dir.join(POINTER)));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

/// Removes our own oldest logs beyond what is kept.
fn sweep(dir: &Path, current: &Path) {
    let Ok(own) = current.metadata().map(|meta| meta.uid()) else { return };
    let mut logs = find::own_logs(dir, own);
    logs.retain(|log| log.path != current);
    let mut bytes = 0;
    for (index, log) in logs.iter().enumerate() {
        bytes += log.len;
        if index + 1 >= KEEP_LOGS || bytes > KEEP_BYTES {
            let _ = std::fs::remove_file(&log.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("prodex-journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn writes_lines_of_the_known_form_for_its_user_alone() {
        let dir = dir("lines");
        let journal = Journal::open(&dir);
        journal.mark(Tag { request: 3, lane: Lane::Responses }, Marker::QuotaBlocked, format_args!("profile=main"));
        journal.note(Marker::RetryBackoff, format_args!("profile=a\n[2026] forged until=1"));
        let text = std::fs::read_to_string(journal.path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "a value cannot begin a line");
        assert!(
            lines[0].starts_with("[20") && lines[0].ends_with("] request=3 transport=http quota_blocked profile=main")
        );
        assert_eq!(lines[0].find(']'), Some(31), "{}", lines[0]);
        assert_eq!(journal.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let pointer = std::fs::read_to_string(dir.join(POINTER)).unwrap();
        assert_eq!(pointer, format!("{}\n", journal.path().display()));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn keeps_the_last_logs_and_follows_no_link() {
        let dir = dir("sweep");
        for n in 0..30 {
            std::fs::write(dir.join(format!("{PREFIX}1-{n}.log")), "x").unwrap();
        }
        let precious = dir.join("precious");
        std::fs::write(&precious, "mine").unwrap();
        std::os::unix::fs::symlink(&precious, dir.join(POINTER)).unwrap();
        let journal = Journal::open(&dir);
        journal.line(format_args!("x"));
        let logs =
            std::fs::read_dir(&dir).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".log"));
        assert_eq!(logs.count(), KEEP_LOGS);
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine", "the pointer was replaced, not followed");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_log_says_so_and_takes_no_more() {
        let dir = dir("full");
        let journal = Journal::open(&dir);
        let line = "x".repeat(1 << 20);
        for _ in 0..40 {
            journal.line(format_args!("{line}"));
        }
        let text = std::fs::read_to_string(journal.path()).unwrap();
        assert!((text.len() as u64) < MAX_BYTES + 1_000, "{}", text.len());
        assert!(text.ends_with("runtime proxy log is full: 33554432 bytes, nothing more is kept\n"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_that_takes_nothing_ends_nothing() {
        Journal::open(Path::new("/no/such/dir")).line(format_args!("x"));
    }
}
