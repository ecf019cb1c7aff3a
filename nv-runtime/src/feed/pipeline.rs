use nv_core::Name;
use nv_perception::{Capabilities, GraphError, Stage, StageError, check_graph};
use thiserror::Error;

use crate::batch::{BatchHandle, Point};
use crate::guard::{Foreign, guard};
use crate::sync::Arc;

/// Builds a stage of a pipeline: once when the pipeline is built, again after a panic.
pub type StageFactory = Arc<dyn Fn() -> Result<Box<dyn Stage>, StageError> + Send + Sync>;

/// The steps of one feed, checked: each finds what it needs among what the steps before it make.
pub struct FeedPipeline {
    pub(crate) steps: Vec<PipelineStep>,
}

pub(crate) struct PipelineStep {
    pub(crate) name: Name,
    pub(crate) kind: PipelineStepKind,
}

pub(crate) enum PipelineStepKind {
    Stage { stage: Foreign<Box<dyn Stage>>, factory: StageFactory },
    Batch(BatchHandle),
}

/// Why a pipeline could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A stage could not be built.
    #[error("step {step:?}: {error}")]
    Stage {
        /// The step.
        step: Name,
        /// What its factory reported.
        error: StageError,
    },
    /// The steps don't fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl FeedPipeline {
    /// A pipeline without steps yet.
    pub fn builder() -> FeedPipelineBuilder {
        FeedPipelineBuilder { steps: Vec::new() }
    }

    /// The names of the steps, in order.
    pub fn step_names(&self) -> impl Iterator<Item = &Name> {
        self.steps.iter().map(|s| &s.name)
    }

    pub(crate) fn points(&self) -> impl Iterator<Item = &Arc<Point>> {
        self.steps.iter().filter_map(|s| match &s.kind {
            PipelineStepKind::Batch(handle) => Some(handle.point()),
            PipelineStepKind::Stage { .. } => None,
        })
    }
}

impl std::fmt::Debug for FeedPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.step_names()).finish()
    }
}

/// Puts a [`FeedPipeline`] together, step by step.
#[must_use]
pub struct FeedPipelineBuilder {
    steps: Vec<(Name, StepSpec)>,
}

enum StepSpec {
    Stage(StageFactory),
    Batch(BatchHandle),
}

impl std::fmt::Debug for FeedPipelineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(name, _)| name)).finish()
    }
}

impl FeedPipelineBuilder {
    /// Adds a stage.
    pub fn stage(mut self, name: impl Into<Name>, factory: StageFactory) -> Self {
        self.steps.push((name.into(), StepSpec::Stage(factory)));
        self
    }

    /// Adds a batch point, which gives the step its name. There may be any number of them, each once.
    pub fn batch(mut self, handle: &BatchHandle) -> Self {
        self.steps.push((handle.processor_id().clone(), StepSpec::Batch(handle.clone())));
        self
    }

    /// Builds the stages and checks that the steps fit together.
    ///
    /// # Errors
    /// A stage's config is wrong, or a step needs what none before it makes.
    pub fn build(self) -> Result<FeedPipeline, PipelineError> {
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut graph: Vec<(Name, Capabilities)> = Vec::with_capacity(self.steps.len());
        for (name, spec) in self.steps {
            let kind = match spec {
                StepSpec::Stage(factory) => {
                    let built = guard("build", || {
                        let stage = Foreign::new(factory()?);
                        let capabilities = stage.capabilities();
                        Ok((stage, capabilities))
                    });
                    let (stage, capabilities) =
                        built.map_err(|error| PipelineError::Stage { step: name.clone(), error })?;
                    graph.push((name.clone(), capabilities));
                    PipelineStepKind::Stage { stage, factory }
                }
                StepSpec::Batch(handle) => {
                    graph.push((name.clone(), handle.capabilities().step));
                    PipelineStepKind::Batch(handle)
                }
            };
            steps.push(PipelineStep { name, kind });
        }
        check_graph(&graph)?;
        Ok(FeedPipeline { steps })
    }
}
