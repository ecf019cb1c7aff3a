//! The device side of the GPU executor: which adapter, one device for the process, what it fails with, compiled kernels,
//! results on their way back.
//!
//! Nothing here knows a model. wgpu's own log goes to the `log` crate under the targets `wgpu_core`, `wgpu_hal` and
//! `naga`; on a machine without a driver it calls that an error there, which here is an ordinary answer.

#![allow(dead_code, reason = "the executor that drives it is the next step")]

mod adapter;
mod cache;
mod context;
mod error;
mod pipeline;
mod preprocess;
mod readback;
#[cfg(test)]
mod testing;

pub use adapter::{AdapterDescription, AdapterFamily, AdapterKind};
pub(crate) use adapter::{choose, descriptions, looked_for};

/// Whether this build can run a model on a GPU. As long as it can't, `auto` is the CPU whatever is there.
pub(crate) const HAS_EXECUTOR: bool = false;
