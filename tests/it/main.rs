//! One test binary.

mod cli;
mod profiles;
