//! What plans run on: the CPU, or a GPU.

use std::sync::Arc;

use crate::cpu::{self, Packed, Pool, RunError, SimdLevel};
use crate::gpu::{self, Context, ExecutorOptions, GpuError};
use crate::plan::{Plan, Target};

/// What plans of one model run on, with what they share there.
pub(super) enum Backend {
    Cpu { level: SimdLevel, pool: Arc<Pool>, packed: Packed },
    Gpu { context: Arc<Context>, weights: gpu::Weights, max_batch: usize },
}

/// A plan made ready.
pub(super) enum Executor {
    Cpu(cpu::Executor),
    Gpu(gpu::Executor),
}

/// Why a run failed, or could not be made ready.
pub(super) enum Failure {
    /// The data, or the plan.
    Run(RunError),
    /// The GPU.
    Gpu(GpuError),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::Step { node, reason } | GpuError::Plan { node, reason } => Self::Run(RunError { node, reason }),
            error => Self::Gpu(error),
        }
    }
}

impl Backend {
    /// The CPU's best instructions, with `threads` threads.
    pub(super) fn cpu(threads: usize) -> Self {
        Self::Cpu { level: SimdLevel::detect(), pool: Arc::new(Pool::new(threads)), packed: Packed::default() }
    }

    /// A GPU, for at most `max_batch` entries at once.
    pub(super) fn gpu(context: Arc<Context>, max_batch: usize) -> Self {
        Self::Gpu { context, weights: gpu::Weights::default(), max_batch }
    }

    /// What plans must be lowered for.
    pub(super) fn target(&self, memory_limit: usize) -> Target {
        match self {
            Self::Cpu { level, .. } => Target { block: level.block(), buffer_limit: usize::MAX, memory_limit },
            Self::Gpu { context, max_batch, .. } => gpu::Executor::target(context, *max_batch, memory_limit),
        }
    }

    /// Makes a plan ready. On a GPU everything is compiled before this returns.
    pub(super) fn ready(&self, plan: Arc<Plan>) -> Result<Executor, Failure> {
        match self {
            Self::Cpu { level, pool, packed } => {
                Ok(Executor::Cpu(cpu::Executor::new(plan, packed, Arc::clone(pool), *level)?))
            }
            Self::Gpu { context, weights, max_batch } => {
                let options = ExecutorOptions { max_batch: *max_batch, ..ExecutorOptions::default() };
                let mut executor = gpu::Executor::new(Arc::clone(context), plan, weights, options)?;
                executor.warm_up()?;
                Ok(Executor::Gpu(executor))
            }
        }
    }

    /// How many entries at once suit it best; on the CPU a batch gains nothing.
    pub(super) fn preferred_batch(&self) -> usize {
        match self {
            Self::Cpu { .. } => 1,
            Self::Gpu { max_batch, .. } => *max_batch,
        }
    }
}

impl Executor {
    /// Computes `groups` times, each time from the next part of every input; appends to the outputs.
    pub(super) fn run(
        &mut self,
        groups: usize,
        max_batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [Vec<f32>],
    ) -> Result<(), Failure> {
        let parts = |first: usize, count: usize| -> Vec<&[f32]> {
            let part = |data: &&'_ [f32]| {
                let len = data.len() / groups;
                first * len..(first + count) * len
            };
            inputs.iter().map(|data| &data[part(data)]).collect()
        };
        match self {
            Self::Cpu(executor) => {
                for group in 0..groups {
                    executor.run(&parts(group, 1), outputs)?;
                }
            }
            Self::Gpu(executor) => {
                // The next batch is on its way while the one before it is waited for.
                let mut before = None;
                for first in (0..groups).step_by(max_batch) {
                    let count = max_batch.min(groups - first);
                    let next = executor.submit(count, &parts(first, count))?;
                    if let Some(in_flight) = before.replace(next) {
                        gpu::InFlight::finish(in_flight, outputs)?;
                    }
                }
                if let Some(in_flight) = before {
                    in_flight.finish(outputs)?;
                }
            }
        }
        Ok(())
    }
}
