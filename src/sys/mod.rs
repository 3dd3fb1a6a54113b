//! The only `unsafe`.
#![allow(unsafe_code)]
