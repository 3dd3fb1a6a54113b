//! One test binary: one link, and tests that share their support.

// Names of protocols and products are words here, not code.
#![allow(clippy::doc_markdown)]

mod standin_probe;
mod standin_self;
mod support;
