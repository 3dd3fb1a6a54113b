//! One test binary: everything from outside, through the built program.

mod cli;
mod layers;
mod profiles;
mod quota;
