//! Behaviour across crates.

mod job;
mod plugins;
mod runtime;
mod support;
