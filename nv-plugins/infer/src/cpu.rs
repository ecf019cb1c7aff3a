//! Runs a [`Plan`](crate::plan::Plan) on the CPU.
//!
//! [`scalar`] computes every kind of step in safe Rust: it is what a step means, what other kernels are tested against, and
//! what computes single steps for other executors. [`Executor`] runs whole plans.

mod aligned;
mod executor;
mod level;
mod memory;
mod pool;
mod preprocess;
mod scalar;
mod simd;
#[cfg(test)]
pub(crate) mod tests;
mod vector;
mod walk;

pub(crate) use executor::{Executor, RunError, rounded};
pub use level::SimdLevel;
pub(crate) use memory::Memory;
pub(crate) use pool::Pool;
pub(crate) use preprocess::Preprocessor;
pub(crate) use scalar::{ERF_DENOMINATOR, ERF_NUMERATOR, run as run_scalar};
pub(crate) use vector::Packed;
pub(crate) use walk::walk;
