//! One test binary, so one link: everything from outside, through the built program, and the house's own rules.

// Names of protocols and products are words here, not code.
#![allow(clippy::doc_markdown)]

mod cli;
mod layers;
mod persistence;
mod profiles;
mod quota;
mod standin_probe;
mod standin_self;
mod support;
