//! # prodex: the map
//!
//! One binary. It keeps profiles (a profile is a `CODEX_HOME`), shows their quotas, and starts `codex` behind a proxy on
//! loopback that moves work to another profile when the present one is out of quota or unwell.
//!
//! ## Layers
//! Each may use those below it, and what its line names; `tests/it/layers.rs` holds the code to this table.
//!
//! | layer | what it is for | may use |
//! |---|---|---|
//! | [`command`] | one verb per file: fetch, decide, print | everything |
//! | [`cli`] | argv to a `Command`; the one table of commands | `error` |
//! | [`screen`] | data to text; width, zone and time are arguments | types of `quota`, `foreign` |
//! | [`proxy`] | the loopback proxy: a pure core, and a shell that moves bytes | `profile`, `quota`, `state`, `net`, `wire`, `sys` |
//! | [`quota`] | windows, readiness, who is next; asking the backend, and what all processes know | `profile`, `state`, `net`, `wire`, `sys` |
//! | [`profile`] | names, logins, homes, links to the shared history | `state`, `wire`, `sys` |
//! | [`state`] | `state.json`: the document, its lock, its safety | `profile` types, `wire`, `sys` |
//! | [`net`] | addresses, TCP, TLS, one non-blocking stream with deadlines | `wire`, `sys` |
//! | [`wire`] | HTTP heads and bodies, events, frames, JSON, URLs; sans-IO | nothing of ours |
//! | [`sys`] | poll, signals, child processes, clocks, terminal; the only `unsafe` | nothing of ours |
//! | [`config`], [`error`] | environment and paths; words for people and exit codes | `foreign` |
//! | [`foreign`] | what a line for people may keep of a foreign text | nothing of ours |
//!
//! ## Life of one request
//! 1. [`command::run`] reads the state, [`command::preflight`] asks for the quotas, [`proxy::Proxy::start`] binds a port,
//!    and codex starts with base URLs that lead there (`wire.md` 0.2 F).
//! 2. [`proxy::listener`] polls the socket and all quiet connections; one on which something comes goes to a worker.
//! 3. [`proxy::exchange`] reads the head. [`proxy::route`] says what it is, [`proxy::guard`] whether it may,
//!    [`proxy::admission`] whether its [`proxy::lane`] has a place within the [`proxy::limits`].
//! 4. Codex's own calls go out as they came. `accounts/check` is answered by [`proxy::check`]; where a profile's requests
//!    belong is asked by [`proxy::placement`] and judged by [`proxy::workspace`].
//! 5. A model request goes through [`proxy::model`] to [`proxy::rotate`], the loop over profiles: [`proxy::ledger`] takes a
//!    snapshot, [`proxy::select`] picks one, [`proxy::attempt`] sends the request (its [`proxy::target`]) with its [`proxy::credentials`] over one of
//!    its [`proxy::connections`], with its [`proxy::cookies`], and reads the head of the answer.
//! 6. The beginning of the answer is held back while [`proxy::tap`] and [`proxy::verdict`] read it. A refusal for which
//!    another account has a remedy goes by [`proxy::record`] to [`proxy::health`], a refused login first to
//!    [`proxy::renew`], and the loop turns again within its [`proxy::budget`].
//! 7. Otherwise it is committed: from here on nothing is retried. [`proxy::deliver`] hands it to [`proxy::relay`], which
//!    moves the rest through one bounded buffer, watching both sides; [`proxy::affinity`] learns whose response it is.
//! 8. A WebSocket begins in [`proxy::websocket`]: [`proxy::dial`] opens the upstream's by the same loop, [`proxy::session`]
//!    relays the frames ([`proxy::duplex`] waits for both sides, [`proxy::sockets`] counts those that are open), and a [`proxy::turn`] that is refused before the model speaks is asked again elsewhere, or its
//!    socket ends so that codex comes back with its full input. One that is not for the model is [`proxy::passage`]'s.
//! 9. [`proxy::journal`] has a line for each of these steps. [`proxy::bindings`] keeps what was learned for the next run,
//!    [`proxy::share`] tells the user's other runs what is in flight and out, [`proxy::saver`] writes `state.json`.
//!    [`proxy::scout`] takes in what answers tell of quotas, and [`proxy::standing`] gathers what the choice depends on.
//!
//! Each rule of it, with its home, its table and its test from outside, stands in `tests/it/rules.rs`.
//!
//! ## Invariants
//! - Nothing is retried or moved once a byte of model output, or of an answer of another kind, went to codex.
//! - A request that names a previous response goes to that response's profile, whatever is wrong with it.
//! - Selection makes no network call; the lock of the ledger is held over no I/O.
//! - One profile's connection, cookies and credentials are never used for another.
//! - Whatever a peer fills has a bound that is a named constant beside the code that checks it.
//! - Only [`sys::clock`] asks for the time; everything pure takes it as an argument.
//! - No token, prompt or output reaches a log or an error.
//!
//! ## Words
//! *downstream* is codex, *upstream* the backend; an *exchange* is one request and its answer; a *lane* is a kind of work;
//! *affinity* ties a request to a profile; an *attempt* is one try on one profile; a *verdict* is what an answer means for
//! us; to *commit* is to let an answer go downstream; a *backoff* keeps a profile out of fresh selection; a *bounce* ends
//! a WebSocket so that codex comes back; the *journal* is the runtime log and a *marker* a kind of line in it.

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod command;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod foreign;
#[forbid(unsafe_code)]
pub mod net;
#[forbid(unsafe_code)]
pub mod profile;
#[forbid(unsafe_code)]
pub mod proxy;
#[forbid(unsafe_code)]
pub mod quota;
#[forbid(unsafe_code)]
pub mod screen;
#[forbid(unsafe_code)]
pub mod state;
pub mod sys;
#[forbid(unsafe_code)]
pub mod wire;
