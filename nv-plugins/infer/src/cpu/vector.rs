//! Steps made ready for vectors.
//!
//! [`Prepared`] is a step with everything decided: which kernel, in which pieces, with weights packed as the kernel reads
//! them. Steps, or forms of them, that have no kernel are computed by [`scalar`](super::scalar).

mod dense;
mod depthwise;
mod finish;
mod loops;
mod map;
mod matmul;
mod packed;
mod places;
mod pool;
mod reduce;
mod region;
mod resample;
mod shuffle;
mod softmax;

use std::fmt;
use std::ops::Range;

use super::Memory;
use super::pool::Pool;
use super::scalar;
use super::simd::Instructions;
use crate::plan::{Action, Plan, Step};

use dense::Dense;
use depthwise::Depthwise;
use map::Mapping;
use matmul::Multiplying;
pub(crate) use packed::Packed;
use pool::Pooling;
use reduce::Reducing;
use resample::Resampling;
use shuffle::Shuffling;
use softmax::Softmaxing;

/// A step made ready.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// In plain Rust.
    Scalar,
    Kernel(Box<dyn Run>),
}

/// A step that a kernel computes. It depends on what it reads alone, not on the number of threads.
pub(crate) trait Run: fmt::Debug + Send + Sync {
    /// Does the step, with the threads of the pool.
    fn run(&self, memory: &mut Memory, pool: &Pool);
}

impl Prepared {
    /// Makes a step of a plan ready, which [`check`](crate::plan::access::check) has found sound, cut for threads as said.
    pub(crate) fn new(step: &Step, plan: &Plan, packed: &Packed, instructions: Option<Instructions>, cut: Cut) -> Self {
        fn boxed<R: Run + 'static>(step: Option<R>) -> Option<Box<dyn Run>> {
            step.map(|step| Box::new(step) as Box<dyn Run>)
        }
        let Some(instructions) = instructions else { return Self::Scalar };
        // Kernels for pictures are for blocks that are a vector each; for any others there is none.
        let kernel = match &step.action {
            Action::Conv(conv) if conv.depthwise => boxed(Depthwise::new(conv, packed, instructions, cut)),
            Action::Conv(conv) => boxed(Dense::new(conv, packed, instructions, cut)),
            Action::Pool(pool) => boxed(Pooling::new(pool, instructions, cut)),
            Action::Map(map) => boxed(Mapping::new(map, plan, instructions, cut)),
            Action::Reduce(reduce) => boxed(Reducing::new(reduce, plan, instructions, cut)),
            Action::Softmax(softmax) => boxed(Softmaxing::new(softmax, instructions, cut)),
            Action::Resample(resample) => boxed(Resampling::new(resample, plan, instructions, cut)),
            Action::Shuffle(shuffle) => boxed(Shuffling::new(shuffle, instructions, cut)),
            Action::MatMul(matmul) => boxed(Multiplying::new(matmul, plan, instructions, cut)),
            Action::Gather(_) | Action::ArgMax(_) | Action::TopK(_) | Action::NonMaxSuppression(_) => None,
        };
        kernel.map_or(Self::Scalar, Self::Kernel)
    }

    /// Does the step that it was made of.
    ///
    /// # Errors
    /// What the data does not allow.
    pub(crate) fn run(&self, action: &Action, memory: &mut Memory, pool: &Pool) -> Result<(), String> {
        match self {
            Self::Scalar => scalar::run(action, memory),
            Self::Kernel(kernel) => {
                kernel.run(memory, pool);
                Ok(())
            }
        }
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
        // About a microsecond: what it takes to hand a piece to another thread.
        Self { threads, worth: 8_000 }
    }

    /// How many pieces there should be of work that takes so many vector operations: as many for each thread, and some more
    /// than one where there is enough to do, for threads that are interrupted.
    fn pieces(self, operations: usize) -> usize {
        let worth = operations / self.worth;
        if worth < 2 || self.threads < 2 { 1 } else { worth.min(4 * self.threads).next_multiple_of(self.threads) }
    }
}

/// `len` things in at most so many ranges, as even as can be.
fn ranges(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let parts = parts.clamp(1, len.max(1));
    (0..parts).map(move |i| len * i / parts..len * (i + 1) / parts)
}
