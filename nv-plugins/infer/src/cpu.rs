//! Runs a [`Plan`](crate::plan::Plan) on the CPU.
//!
//! [`scalar`] computes every kind of step in safe Rust: it is what a step means, what other kernels are tested against, and
//! what computes steps that have no kernel. [`Executor`] runs whole plans, [`Tail`] their last steps.

mod aligned;
mod executor;
mod level;
mod memory;
mod pool;
mod preprocess;
mod scalar;
mod simd;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod vector;
mod walk;

pub(crate) use executor::{Executor, RunError, rounded};
pub use level::SimdLevel;
pub(crate) use memory::Memory;
pub(crate) use pool::Pool;
pub(crate) use preprocess::Preprocessor;
#[cfg(test)]
pub(crate) use scalar::run as run_scalar;
pub(crate) use scalar::{ERF_DENOMINATOR, ERF_NUMERATOR};
pub(crate) use tail::Tail;
pub(crate) use vector::Packed;
pub(crate) use walk::walk;
