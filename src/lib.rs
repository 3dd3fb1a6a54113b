//! prodex: map to be written.

pub mod cli;
pub mod command;
pub mod config;
pub mod error;
pub mod net;
pub mod profile;
pub mod proxy;
pub mod quota;
pub mod screen;
pub mod state;
pub mod sys;
pub mod wire;
