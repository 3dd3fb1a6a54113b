//! The stand-in of ChatGPT's backend: scripted accounts, every failure that wire.md names, and a record of what came.
//! Used as a module by the tests and as the example program `standin`. It shares no code with the product, so that a
//! mistake in a parser of the product cannot agree with itself here.
//!
//! `Script` (who, and what each does next) -> `Backend` (listens) -> `serve`/`turn` (one request) -> `plan` (pure: what
//! to say) -> `play` (how it is written, and where it breaks) -> `Record` (what the test looks at).

// Each of the two users needs another part of it.
#![allow(dead_code)]
// Names of protocols and products are words here, not code.
#![allow(clippy::doc_markdown)]

pub mod backend;
pub mod behave;
pub mod events;
pub mod frame;
pub mod gate;
pub mod http;
pub mod json;
pub mod named;
pub mod plan;
pub mod play;
pub mod record;
pub mod script;
pub mod serve;
pub mod stream;
pub mod tls;
pub mod token;
pub mod turn;
pub mod usage;
pub mod who;
