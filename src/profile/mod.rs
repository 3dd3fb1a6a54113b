//! profile
pub mod name;
