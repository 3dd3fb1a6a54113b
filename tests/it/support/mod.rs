//! What tests stand on: a home of their own, the real codex and a false one, a terminal, a raw client, and the
//! stand-in backend. Nothing here uses the product's library: tests see the binary, as people do.

// Every test file uses another part.
#![allow(dead_code)]

pub mod behind;
pub mod codex;
pub mod issuer;
pub mod raw;
pub mod run;
pub mod scene;
pub mod space;
pub mod tmux;

#[path = "../../standin/mod.rs"]
pub mod standin;
