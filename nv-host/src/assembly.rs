use std::fmt;

use nv_perception::StageError;
use nv_runtime::{BatchHandle, BatchStartError, DecisionLog, FeedPipeline, PipelineError, Runtime, RuntimeConfig};

use crate::config::{Plan, StepPlan, StepRef};
use crate::exit::{Exit, Failure, Result};
use crate::plugins::{Plugins, exit_of, placed, with_causes};

/// A plan put together, ready for feeds to start: batch points run, pipelines are built and fit.
pub(crate) struct Assembly {
    pub(crate) runtime: Runtime,
    /// In the plan's order; those that no feed uses are not there.
    pub(crate) batches: Vec<Option<BatchHandle>>,
    /// One for each feed, in the plan's order.
    pub(crate) pipelines: Vec<FeedPipeline>,
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembly").field("batches", &self.batches).finish_non_exhaustive()
    }
}

impl Assembly {
    /// Builds everything: loads models, starts processors, makes each feed's stages, checks what steps need of each other. What the runtime
    /// decides goes to `decisions`.
    pub(crate) fn build(plan: &Plan, plugins: &Plugins, decisions: Option<DecisionLog>) -> Result<Self> {
        let runtime = Runtime::new(RuntimeConfig { decisions, ..RuntimeConfig::default() });
        let mut batches = Vec::with_capacity(plan.batches.len());
        let mut failures = Vec::new();
        for (index, batch) in plan.batches.iter().enumerate() {
            let used = plan.uses(StepRef::Batch(index));
            let handle = used.then(|| {
                let factory = plugins.processor(batch, &plan.base_dir)?;
                let created = runtime.create_batch(batch.name.as_str(), factory, batch.settings.clone());
                created.map_err(|error| batch_failure(&error, &batch.name, batch.at.as_deref()))
            });
            batches.push(match handle.transpose() {
                Ok(handle) => handle,
                Err(failure) => {
                    failures.push(failure);
                    None
                }
            });
        }
        // Pipelines would only repeat what is wrong with their batch points.
        Failure::gather(failures)?;

        let mut pipelines = Vec::with_capacity(plan.feeds.len());
        let mut failures: Vec<Failure> = Vec::new();
        for feed in &plan.feeds {
            match Self::pipeline(plan, plugins, &batches, &feed.steps, feed.at.as_deref()) {
                Ok(pipeline) => pipelines.push(pipeline),
                // What is wrong with a stage is wrong in every feed that has it.
                Err(failure) if failures.contains(&failure) => {}
                Err(failure) => failures.push(failure),
            }
        }
        Failure::gather(failures)?;
        Ok(Self { runtime, batches, pipelines })
    }

    fn pipeline(
        plan: &Plan,
        plugins: &Plugins,
        batches: &[Option<BatchHandle>],
        steps: &[StepPlan],
        at: Option<&str>,
    ) -> Result<FeedPipeline> {
        let mut builder = FeedPipeline::builder();
        for StepPlan { step, options } in steps {
            builder = match *step {
                // Every batch point that a feed uses was made.
                StepRef::Batch(index) => match &batches[index] {
                    Some(handle) => builder.batch_with(handle, options.clone()),
                    None => builder,
                },
                StepRef::Stage(index) => {
                    let stage = &plan.stages[index];
                    builder.stage(stage.name.as_str(), plugins.stage(stage, &plan.base_dir)?)
                }
            };
        }
        builder.build().map_err(|error| match error {
            PipelineError::Stage { step, error } => {
                let stage = plan.stages.iter().find(|stage| step == stage.name.as_str());
                step_failure("stage", &step, &error, stage.and_then(|s| s.at.as_deref()))
            }
            error => Failure::usage(placed(at, &error.to_string())),
        })
    }
}

fn batch_failure(error: &BatchStartError, name: &str, at: Option<&str>) -> Failure {
    match error {
        BatchStartError::Processor { error, .. } => step_failure("batch", name, error, at),
        BatchStartError::Config { .. } => Failure::usage(placed(at, &error.to_string())),
        BatchStartError::Timeout { .. } => Failure::new(Exit::Plugin, placed(at, &error.to_string())),
        _ => Failure::runtime(placed(at, &error.to_string())),
    }
}

/// A step that can't be built. Where a file says what it is, the message says which; the command line has no steps.
fn step_failure(table: &str, name: &str, error: &StageError, at: Option<&str>) -> Failure {
    let message = with_causes(error);
    let message = at.map_or_else(|| message.clone(), |at| format!("{at}: [{table}.{name}]: {message}"));
    Failure::new(exit_of(error), message)
}
