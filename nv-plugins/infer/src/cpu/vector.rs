//! Steps made ready for vectors.
//!
//! [`Prepared`] is a step with everything decided: which kernel, in which pieces, with weights packed as the kernel reads
//! them. Steps, or forms of them, that have no kernel are computed by [`scalar`](super::scalar).

mod dense;
mod depthwise;
mod finish;
mod packed;
mod region;

use std::ops::Range;

use super::Memory;
use super::pool::Pool;
use super::scalar;
use super::simd::Instructions;
use crate::plan::{Action, Plan, Step};

pub(crate) use packed::Packed;

/// A step made ready.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// In plain Rust.
    Scalar,
    Dense(Box<dense::Dense>),
    Depthwise(Box<depthwise::Depthwise>),
}

impl Prepared {
    /// Makes a step of a plan ready, which [`check`](crate::plan::access::check) has found sound, cut for threads as said.
    pub(crate) fn new(step: &Step, plan: &Plan, packed: &Packed, instructions: Option<Instructions>, cut: Cut) -> Self {
        let Some(instructions) = instructions.filter(|i| i.lanes() == plan.block) else { return Self::Scalar };
        let prepared = match &step.action {
            Action::Conv(conv) if conv.depthwise => {
                depthwise::Depthwise::new(conv, packed, instructions, cut).map(|d| Self::Depthwise(Box::new(d)))
            }
            Action::Conv(conv) => dense::Dense::new(conv, packed, instructions, cut).map(|d| Self::Dense(Box::new(d))),
            _ => None,
        };
        prepared.unwrap_or(Self::Scalar)
    }

    /// Does the step that it was made of.
    ///
    /// # Errors
    /// What the data does not allow.
    pub(crate) fn run(&self, action: &Action, memory: &mut Memory, pool: &Pool) -> Result<(), String> {
        match self {
            Self::Scalar => return scalar::run(action, memory),
            Self::Dense(dense) => dense.run(memory, pool),
            Self::Depthwise(depthwise) => depthwise.run(memory, pool),
        }
        Ok(())
    }
}

/// In how many pieces the work of a step is cut, for as many threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) threads: usize,
    /// Vector operations that are worth a piece of their own.
    pub(crate) worth: usize,
}

impl Cut {
    /// For so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        // Handing a piece to another thread takes a microsecond or two: a piece should take ten.
        Self { threads, worth: 40_000 }
    }

    /// How many pieces there should be of work that takes so many vector operations.
    fn pieces(self, operations: usize) -> usize {
        // Some more than there are threads, for threads that are interrupted.
        let most = if self.threads > 1 { 4 * self.threads } else { 1 };
        (operations / self.worth).clamp(1, most)
    }
}

/// `len` things in at most so many ranges, as even as can be.
fn ranges(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let parts = parts.clamp(1, len.max(1));
    (0..parts).map(move |i| len * i / parts..len * (i + 1) / parts)
}
