//! The front end of the inference engine: from a file to a graph that an executor could run.
//!
//! [`import`] reads the file's nodes; [`infer`] finds every value's shape, with symbols for what is open, and computes what
//! can be computed beforehand; [`batch`] does so for any number of entries where each is computed by itself; [`passes`] fuse
//! nodes; [`concrete`] does all of this for inputs of given shapes.

pub(crate) mod batch;
pub(crate) mod concrete;
pub(crate) mod constant;
pub(crate) mod cost;
pub(crate) mod fold;
pub(crate) mod import;
pub(crate) mod infer;
pub(crate) mod ir;
pub(crate) mod op;
pub(crate) mod passes;
pub(crate) mod peak;
pub(crate) mod shapes;
pub(crate) mod size;
#[cfg(test)]
pub(crate) mod tests;

pub use passes::Rewrites;
