//! The front end of the inference engine: from a file to a graph that an executor could run.
//!
//! [`import`] reads the file's nodes; [`infer`] finds every value's shape, with symbols for what is open, and computes what
//! can be computed beforehand; [`batch`] does so for any number of entries where each is computed by itself; [`passes`] fuse
//! nodes; [`memory`] shares buffers between values; [`report`] is what a person sees of it all.

mod batch;
mod constant;
mod cost;
mod fold;
mod import;
mod infer;
mod ir;
mod memory;
mod op;
mod passes;
mod report;
mod shapes;
mod size;
#[cfg(test)]
mod tests;
mod text;

pub use passes::Rewrites;
pub use report::{EntryCost, GraphOptions, GraphReport, GraphSummary, LackingOperator, MemoryUse};
