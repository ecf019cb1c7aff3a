//! The device side of the GPU executor: which adapter, one device for the process, what it fails with, compiled kernels.
//!
//! Nothing here knows a model. wgpu's own log goes to the `log` crate under the targets `wgpu_core`, `wgpu_hal` and
//! `naga`; on a machine without a driver it calls that an error there, which here is an ordinary answer.

mod adapter;

pub use adapter::{AdapterDescription, AdapterFamily, AdapterKind};
pub(crate) use adapter::{choose, descriptions, looked_for};

/// Whether this build can run a model on a GPU. As long as it can't, `auto` is the CPU whatever is there.
pub(crate) const HAS_EXECUTOR: bool = false;
