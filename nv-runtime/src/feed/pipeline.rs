use nv_core::Name;
use nv_perception::{Capabilities, DataKind, GraphError, Stage, StageError, check_graph};
use thiserror::Error;

use super::{SkipCondition, StepOptions, StepOptionsError};
use crate::batch::{BatchHandle, Point};
use crate::guard::{Foreign, guard};
use crate::sync::Arc;

/// Builds a stage of a pipeline: once when the pipeline is built, again after a panic.
pub type StageFactory = Arc<dyn Fn() -> Result<Box<dyn Stage>, StageError> + Send + Sync>;

/// The steps of one feed, checked: each finds what it needs among what the steps before it make.
pub struct FeedPipeline {
    pub(crate) steps: Vec<PipelineStep>,
    pub(crate) recipe: PipelineRecipe,
}

pub(crate) struct PipelineStep {
    pub(crate) name: Name,
    pub(crate) kind: PipelineStepKind,
    pub(crate) options: StepOptions,
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
    /// A step's options make no sense.
    #[error("step {step:?}: {error}")]
    Options {
        /// The step.
        step: Name,
        /// The field and the reason.
        error: StepOptionsError,
    },
    /// A step looks at objects of a step that is none of those before it.
    #[error("step {step:?} looks at the objects of {from:?}, and that is none of the steps before it ({})", listed(.before))]
    NoSuchStep {
        /// The step.
        step: Name,
        /// The one that it names.
        from: Name,
        /// The steps before it.
        before: Vec<Name>,
    },
    /// A step looks at objects of a step that makes none.
    #[error("step {step:?} looks at the objects of {from:?}, which makes none")]
    NoObjects {
        /// The step.
        step: Name,
        /// The one that it names.
        from: Name,
    },
    /// The steps don't fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl FeedPipeline {
    /// A pipeline without steps yet.
    pub fn builder() -> FeedPipelineBuilder {
        FeedPipelineBuilder { recipe: PipelineRecipe::default() }
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

/// How a pipeline is made, and may be made again.
#[derive(Clone, Default)]
pub(crate) struct PipelineRecipe {
    steps: Vec<StepRecipe>,
}

#[derive(Clone)]
struct StepRecipe {
    name: Name,
    spec: StepSpec,
    options: StepOptions,
}

#[derive(Clone)]
enum StepSpec {
    Stage(StageFactory),
    Batch(BatchTarget),
}

/// The batch point that a step sends frames to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BatchTarget {
    /// Every frame goes to this one.
    Point(BatchHandle),
}

impl From<&BatchHandle> for BatchTarget {
    fn from(handle: &BatchHandle) -> Self {
        Self::Point(handle.clone())
    }
}

impl BatchTarget {
    /// The step's name.
    fn name(&self) -> Name {
        match self {
            Self::Point(handle) => handle.processor_id().clone(),
        }
    }
}

impl PipelineRecipe {
    /// Builds the stages and checks that the steps fit together.
    pub(crate) fn build(self) -> Result<FeedPipeline, PipelineError> {
        self.build_told(|_, _| ())
    }

    /// The same. `building` is told of each stage, by its place and name, before its factory is called.
    pub(crate) fn build_told(self, mut building: impl FnMut(usize, &Name)) -> Result<FeedPipeline, PipelineError> {
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut graph: Vec<(Name, Capabilities)> = Vec::with_capacity(self.steps.len());
        for StepRecipe { name, spec, options } in self.steps.iter().cloned() {
            options.validate().map_err(|error| PipelineError::Options { step: name.clone(), error })?;
            let kind = match spec {
                StepSpec::Stage(factory) => {
                    building(steps.len(), &name);
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
                StepSpec::Batch(BatchTarget::Point(handle)) => {
                    graph.push((name.clone(), handle.capabilities().step));
                    PipelineStepKind::Batch(handle)
                }
            };
            if let Some((_, capabilities)) = graph.last_mut() {
                capabilities.consumes.extend(needs(&options));
            }
            if let Some(from) = options.regions.as_ref().and_then(|r| r.from.clone()) {
                // The last one is the step itself.
                let before = &graph[..graph.len() - 1];
                match before.iter().find(|(earlier, _)| *earlier == from) {
                    None => {
                        let before = before.iter().map(|(earlier, _)| earlier.clone()).collect();
                        return Err(PipelineError::NoSuchStep { step: name, from, before });
                    }
                    Some((_, it)) if !it.produces.contains(&DataKind::Objects) => {
                        return Err(PipelineError::NoObjects { step: name, from });
                    }
                    Some(_) => {}
                }
            }
            steps.push(PipelineStep { name, kind, options });
        }
        check_graph(&graph)?;
        Ok(FeedPipeline { steps, recipe: self })
    }
}

/// What earlier steps have to make for these options to mean anything.
fn needs(options: &StepOptions) -> impl Iterator<Item = DataKind> {
    let told = options.skip_while.iter().map(|condition| match condition {
        SkipCondition::SignalIs { signal, .. }
        | SkipCondition::SignalBelow { signal, .. }
        | SkipCondition::SignalAbove { signal, .. } => DataKind::Signal(signal.clone()),
        SkipCondition::Artifact { schema } => DataKind::Artifact(schema.clone()),
    });
    told.chain(options.regions.as_ref().map(|_| DataKind::Objects))
}

fn listed(steps: &[Name]) -> String {
    if steps.is_empty() { "there are none".into() } else { steps.join(", ") }
}

/// Puts a [`FeedPipeline`] together, step by step.
#[must_use]
pub struct FeedPipelineBuilder {
    recipe: PipelineRecipe,
}

impl std::fmt::Debug for FeedPipelineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.recipe.steps.iter().map(|s| &s.name)).finish()
    }
}

impl FeedPipelineBuilder {
    /// Adds a stage.
    pub fn stage(self, name: impl Into<Name>, factory: StageFactory) -> Self {
        self.step(name.into(), StepSpec::Stage(factory), StepOptions::default())
    }

    /// Adds a batch point that runs on every frame, which gives the step its name. There may be any number of them, each once.
    pub fn batch(self, handle: &BatchHandle) -> Self {
        self.batch_with(handle, StepOptions::default())
    }

    /// Adds a batch point that runs on some frames, or on what an earlier step has found in them.
    pub fn batch_with(self, target: impl Into<BatchTarget>, options: StepOptions) -> Self {
        let target = target.into();
        self.step(target.name(), StepSpec::Batch(target), options)
    }

    fn step(mut self, name: Name, spec: StepSpec, options: StepOptions) -> Self {
        self.recipe.steps.push(StepRecipe { name, spec, options });
        self
    }

    /// Builds the stages and checks that the steps fit together.
    ///
    /// # Errors
    /// A stage's config is wrong, or a step needs what none before it makes.
    pub fn build(self) -> Result<FeedPipeline, PipelineError> {
        self.recipe.build()
    }
}
