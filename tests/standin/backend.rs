//! The listener and what all its connections share: script, records, issued ids. Knows no protocol.

use super::behave::Step;
use super::record::{Finished, Record};
use super::script::{Kind, Script};
use super::serve;
use super::stream::Stream;
use super::tls::Ca;
use super::token;
use super::usage::Usage;
use rustls::ServerConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pub stop: Arc<AtomicBool>,
}

#[derive(Default)]
pub struct State {
    pub script: Script,
    pub records: Vec<Record>,
    /// Response id -> who issued it, on which connection.
    pub responses: BTreeMap<String, (String, u64)>,
    /// Turn state -> who issued it.
    pub turn_states: BTreeMap<String, String>,
    /// Refresh tokens that were used up, and access tokens that were taken back.
    pub revoked: BTreeSet<String>,
    pub serial: u64,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one record and wakes who waits for records.
    pub fn update(&self, at: usize, change: impl FnOnce(&mut Record)) {
        let mut state = self.state();
        change(&mut state.records[at]);
        if state.script.verbose && state.records[at].finished != Finished::Running {
            eprintln!("standin: {}", state.records[at].line());
        }
        drop(state);
        self.changed.notify_all();
    }

    pub fn open(&self, record: impl FnOnce(usize) -> Record) -> usize {
        let mut state = self.state();
        let at = state.records.len();
        let record = record(at);
        state.records.push(record);
        drop(state);
        self.changed.notify_all();
        at
    }
}

impl Backend {
    /// Plain HTTP on a free loopback port.
    pub fn start(script: Script) -> Backend {
        Backend::listen(script, 0, None).expect("a free loopback port")
    }

    pub fn start_tls(script: Script, ca: &Ca) -> Backend {
        Backend::listen(script, 0, Some(ca.config())).expect("a free loopback port")
    }

    pub fn listen(script: Script, port: u16, tls: Option<Arc<ServerConfig>>) -> std::io::Result<Backend> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared::default());
        shared.state().script = script;
        let acceptor = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared, tls.as_ref())
        });
        Ok(Backend { shared, address, scheme, acceptor: Some(acceptor) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// What takes the place of `https://chatgpt.com/backend-api`.
    pub fn base_url(&self) -> String {
        format!("{}/backend-api", self.origin())
    }

    /// For `CODEX_REFRESH_TOKEN_URL_OVERRIDE`.
    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.origin())
    }

    /// Points codex straight at this backend, without a proxy: its arguments (wire.md 0.2, scheme F).
    pub fn codex_overrides(&self) -> Vec<String> {
        let origin = self.origin();
        let url = |key: &str, path: &str| ["-c".to_owned(), format!("{key}=\"{origin}{path}\"")];
        [url("chatgpt_base_url", "/direct/backend-api"), url("openai_base_url", "/direct/m")].concat()
    }

    /// From now on `name` does this with requests of `kind`.
    pub fn set<S: Into<Step>>(&self, name: &str, kind: Kind, steps: impl IntoIterator<Item = S>) {
        self.shared.state().script.set(name, kind, steps);
    }

    pub fn set_usage(&self, name: &str, usage: Usage) {
        self.shared.state().script.account(name).usage = usage;
    }

    /// An access or refresh token is good no longer.
    pub fn revoke(&self, token: &str) {
        self.shared.state().revoked.insert(token.to_owned());
    }

    /// Forgets every response id and turn state that was issued, as a backend does with time.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.responses.clear();
        state.turn_states.clear();
    }

    pub fn records(&self) -> Vec<Record> {
        self.shared.state().records.clone()
    }

    /// Those of one account and kind.
    pub fn of(&self, account: &str, kind: &Kind) -> Vec<Record> {
        self.shared.state().records.iter().filter(|record| record.is(account, kind)).cloned().collect()
    }

    /// Waits until the records are as wished and returns them; panics with what came instead.
    pub fn wait_for(&self, what: &str, at_most: Duration, wish: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let until = Instant::now() + at_most;
        let mut state = self.shared.state();
        while !wish(&state.records) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let lines: Vec<String> = state.records.iter().map(Record::line).collect();
                drop(state);
                panic!("waited {at_most:?} for {what}; the backend saw:\n{}", lines.join("\n"));
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.records.clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which then ends every connection and its thread.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, tls: Option<&Arc<ServerConfig>>) {
    let mut open: Vec<(Weak<TcpStream>, JoinHandle<()>)> = Vec::new();
    for connection in 0.. {
        let Ok((tcp, _)) = listener.accept() else {
            // Out of file descriptors, or the client was faster to go than we to accept.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let tcp = Arc::new(tcp);
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let _ = tcp.set_nodelay(true);
        open.retain(|(_, thread)| !thread.is_finished());
        let weak = Arc::downgrade(&tcp);
        let (shared, tls) = (shared.clone(), tls.cloned());
        let thread = std::thread::spawn(move || {
            if let Some(stream) = Stream::new(tcp, tls, shared.stop.clone()) {
                serve::connection(&shared, stream, connection);
            }
        });
        open.push((weak, thread));
    }
    for (tcp, thread) in open {
        if let Some(tcp) = tcp.upgrade() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
        let _ = thread.join();
    }
}

/// New tokens for a refresh token, which is used up by that (wire.md 7).
pub fn refresh(state: &mut State, refresh_token: &str) -> (u16, String) {
    let name =
        refresh_token.strip_prefix("rt-").and_then(|rest| rest.rsplit_once('-')).map(|(name, _)| name.to_owned());
    let Some(name) = name.filter(|name| state.script.accounts.contains_key(name)) else {
        return (
            401,
            r#"{"error":{"code":"refresh_token_invalidated","message":"Unknown refresh token."}}"#.to_owned(),
        );
    };
    if !state.revoked.insert(refresh_token.to_owned()) {
        return (
            401,
            r#"{"error":{"code":"refresh_token_reused","message":"Refresh token was already used."}}"#.to_owned(),
        );
    }
    state.serial += 1;
    let access = token::access_token(&name, token::unix_now() + 24 * 3600, state.serial as u32);
    let body = format!(
        r#"{{"id_token":"{}","access_token":"{access}","refresh_token":"rt-{name}-{}"}}"#,
        token::id_token(&name, "plus"),
        state.serial
    );
    (200, body)
}
