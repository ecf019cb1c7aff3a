//! Behaviour across crates.

mod runtime;
