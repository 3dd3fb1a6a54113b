//! What std lacks: poll(2), signals, terminal size, local time, child processes, socket options.
//! The only place where `unsafe` is allowed; each block says why it is sound. Knows nothing of HTTP, profiles or quotas.
#![allow(unsafe_code)]

pub mod access;
pub mod bounded;
pub mod buffer;
pub mod child;
pub mod clock;
pub mod fault;
pub mod mapping;
pub mod peer;
pub mod poll;
pub mod private;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod tty;
pub mod user;
