//! What plans run on: the CPU, or a GPU.

use std::collections::VecDeque;
use std::sync::Arc;

use super::job::{Collected, Job, Part};
use crate::cpu::{self, Packed, Pool, RunError, SimdLevel};
use crate::gpu::{self, Context, ExecutorOptions, GpuError, Selected};
use crate::host::Host;
use crate::picture::Pictures;
use crate::plan::{Plan, Target};
use crate::rows::RowSelection;

/// How many batches are submitted to a GPU before the first of them is waited for.
const IN_FLIGHT: usize = 2;

/// What plans of one model run on, with what they share there.
pub(super) enum Backend {
    Cpu { level: SimdLevel, pool: Arc<Pool>, packed: Packed },
    Gpu { context: Arc<Context>, weights: gpu::Weights, max_batch: usize, threads: usize },
}

/// A plan made ready.
pub(super) enum Executor {
    Cpu(cpu::Executor),
    Gpu(Box<gpu::Executor>),
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

    /// A GPU, for at most `max_batch` entries at once, with `threads` threads for what it can't do.
    pub(super) fn gpu(context: Arc<Context>, max_batch: usize, threads: usize) -> Self {
        Self::Gpu { context, weights: gpu::Weights::default(), max_batch, threads }
    }

    /// What plans must be lowered for.
    pub(super) fn target(&self, memory_limit: usize) -> Target {
        match self {
            Self::Cpu { level, .. } => {
                Target { block: level.block(), planes: false, buffer_limit: usize::MAX, memory_limit }
            }
            Self::Gpu { context, max_batch, .. } => gpu::Executor::target(context, *max_batch, memory_limit),
        }
    }

    /// Makes a plan ready. On a GPU everything is compiled before this returns.
    pub(super) fn ready(&self, plan: Arc<Plan>) -> Result<Executor, Failure> {
        match self {
            Self::Cpu { level, pool, packed } => {
                Ok(Executor::Cpu(cpu::Executor::new(plan, packed, Arc::clone(pool), *level)?))
            }
            Self::Gpu { context, weights, max_batch, threads } => {
                let (max_batch, threads) = (*max_batch, *threads);
                let options =
                    ExecutorOptions { max_batch, in_flight: IN_FLIGHT, threads, ..ExecutorOptions::default() };
                let mut executor = gpu::Executor::new(Arc::clone(context), plan, weights, options)?;
                executor.warm_up()?;
                Ok(Executor::Gpu(Box::new(executor)))
            }
        }
    }

    /// How many entries are computed at once, at the most; on the CPU a batch gains nothing.
    pub(super) fn max_batch(&self) -> usize {
        match self {
            Self::Cpu { .. } => 1,
            Self::Gpu { max_batch, .. } => *max_batch,
        }
    }

    /// How many entries of one run suit it best: so many that the next are on their way to a GPU while it computes.
    pub(super) fn preferred_batch(&self) -> usize {
        match self {
            Self::Cpu { .. } => 1,
            Self::Gpu { max_batch, .. } => max_batch * IN_FLIGHT,
        }
    }
}

impl Executor {
    /// Does a job, at most `max_batch` groups at once, and adds what comes of it to `collected`.
    pub(super) fn run(
        &mut self,
        job: &Job<'_>,
        max_batch: usize,
        host: &mut Host,
        collected: &mut Collected<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Cpu(executor) => {
                for group in 0..job.groups {
                    match &job.part(group, 1) {
                        Part::Values(inputs) => executor.write(inputs)?,
                        Part::Pictures(pictures) => write_picture(executor, pictures, host)?,
                    }
                    executor.compute()?;
                    match collected {
                        Collected::Outputs(outputs) => executor.read(outputs),
                        Collected::Rows(selection, rows) => {
                            let outputs = executor.outputs();
                            let outputs: Vec<&[f32]> = outputs.iter().map(|output| &**output).collect();
                            rows.push(host.select(selection, &outputs));
                        }
                    }
                }
            }
            Self::Gpu(executor) => {
                // The next batch is on its way while the one before it is waited for.
                let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
                for first in (0..job.groups).step_by(max_batch) {
                    if in_flight.len() == IN_FLIGHT
                        && let Some((oldest, part)) = in_flight.pop_front()
                    {
                        finish(executor, oldest, &part, host, collected)?;
                    }
                    let count = max_batch.min(job.groups - first);
                    let part = job.part(first, count);
                    in_flight.push_back((submit(executor, count, &part, job.selection, host)?, part));
                }
                for (oldest, part) in in_flight {
                    finish(executor, oldest, &part, host, collected)?;
                }
            }
        }
        Ok(())
    }
}

fn write_picture(executor: &mut cpu::Executor, pictures: &Pictures<'_>, host: &mut Host) -> Result<(), RunError> {
    let unnamed = |reason: String| RunError { node: String::new(), reason };
    match executor.floats_of_input() {
        Some(input) if input.len() == pictures.values() => host.fill(pictures, 0, input).map_err(unnamed),
        _ => executor.write(&[host.input(pictures).map_err(unnamed)?]),
    }
}

fn submit(
    executor: &mut gpu::Executor,
    entries: usize,
    part: &Part<'_>,
    selection: Option<&RowSelection>,
    host: &mut Host,
) -> Result<gpu::InFlight, Failure> {
    match part {
        Part::Values(inputs) => Ok(executor.submit(entries, inputs, selection)?),
        Part::Pictures(pictures) => match executor.submit_pictures(pictures, selection) {
            // Not on the device: the network takes bytes, or the frames are more than it takes at once.
            Err(GpuError::Input { .. }) => {
                let input = host.input(pictures);
                let input = input.map_err(|reason| RunError { node: String::new(), reason })?;
                Ok(executor.submit(entries, &[input], selection)?)
            }
            submitted => Ok(submitted?),
        },
    }
}

/// Waits for the run of a part of a job, the oldest in flight, and adds what comes of it.
fn finish(
    executor: &mut gpu::Executor,
    in_flight: gpu::InFlight,
    part: &Part<'_>,
    host: &mut Host,
    collected: &mut Collected<'_>,
) -> Result<(), Failure> {
    match collected {
        Collected::Outputs(outputs) => in_flight.finish(outputs)?,
        Collected::Rows(selection, rows) => {
            let entries = in_flight.entries();
            let whole = if in_flight.selects() {
                match in_flight.finish_rows()? {
                    Selected::Rows(found) => {
                        rows.extend(found);
                        return Ok(());
                    }
                    // Once more, and all outputs are read. It comes after what is in flight, which has its results in
                    // places of its own and stays as it is.
                    Selected::Overflow { rows } => {
                        executor.expect_rows(rows);
                        submit(executor, entries, part, None, host)?
                    }
                }
            } else {
                in_flight
            };
            let mut outputs = vec![Vec::new(); whole.outputs()];
            whole.finish(&mut outputs)?;
            for entry in 0..entries {
                let part = |output: &Vec<f32>| entry * output.len() / entries..(entry + 1) * output.len() / entries;
                let outputs: Vec<&[f32]> = outputs.iter().map(|output| &output[part(output)]).collect();
                rows.push(host.select(selection, &outputs));
            }
        }
    }
    Ok(())
}
