//! Runs a [`Plan`](crate::plan::Plan) on a GPU: which adapter, one device for the process, what it fails with, compiled
//! kernels, results on their way back; and [`Executor`], which has a kernel written for each step and dispatches them.
//!
//! wgpu's own log goes to the `log` crate under the targets `wgpu_core`, `wgpu_hal` and
//! `naga`; on a machine without a driver it calls that an error there, which here is an ordinary answer.

mod adapter;
mod arena;
mod cache;
mod context;
mod error;
mod executor;
mod faults;
mod in_flight;
mod pipeline;
mod preprocess;
mod readback;
mod select;
mod shader;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tuning;
mod weights;

pub use adapter::{AdapterDescription, AdapterFamily, AdapterKind};
pub(crate) use adapter::{choose, descriptions, looked_for};
pub(crate) use context::Context;
pub(crate) use error::GpuError;
#[cfg(test)]
pub(crate) use executor::Placement;
pub(crate) use executor::{Executor, ExecutorOptions};
pub(crate) use in_flight::InFlight;
#[cfg(test)]
pub(crate) use pipeline::Checks;
#[cfg(test)]
pub(crate) use pipeline::Shader;
pub(crate) use select::Selected;
pub(crate) use weights::Weights;
