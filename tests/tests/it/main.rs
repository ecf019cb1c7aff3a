//! Behaviour across crates.

mod job;
mod runtime;
mod support;
