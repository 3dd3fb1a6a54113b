//! One test binary.

mod quota;
