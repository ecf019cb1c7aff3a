//! Runs a model's graph by plans of our own, one for each set of input shapes.

mod backend;
mod job;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend::{Backend, Executor, Failure};
use job::Collected;
pub(crate) use job::{Job, Output, Results, Source};

use crate::gpu::{Context, GpuError};
use crate::graph::concrete::concrete;
use crate::graph::import::import;
use crate::graph::ir::Graph;
use crate::graph::op::Op;
use crate::host::Host;
use crate::plan::{Plan, Refusal, lower};
use crate::rows::RowSelection;
use crate::text::short_name;
use crate::{Device, ElementType, Engine, InferError, LackingOperator, Model, SessionOptions, TensorInfo, model};

/// Plans of so many sets of input shapes are kept; the one that was not used for longest goes first.
const MAX_PLANS: usize = 8;

/// What an open dimension is tried with when a session is made, to find out whether there are operators that no plan has.
const PROBE: usize = 64;

/// A device that is lost more often than this is not asked for again.
const MAX_LOSSES: usize = 2;

/// A model's graph, and executors of its plans.
pub(crate) struct Planned {
    graph: Graph,
    device: Device,
    threads: usize,
    /// Numbers in memory that one plan may take.
    memory_limit: usize,
    state: Mutex<State>,
}

struct State {
    backend: Backend,
    /// How often a device was lost.
    losses: usize,
    /// What happened to the device that nobody has been told yet.
    notices: Vec<String>,
    /// Used last, the last.
    ready: Vec<Ready>,
}

/// A plan for inputs of these shapes.
struct Ready {
    shapes: Vec<Vec<usize>>,
    plan: Arc<Plan>,
    executor: Executor,
}

/// Why a graph is not run by a plan.
pub(crate) enum Unplanned {
    /// Operators, or forms of them, that plans don't have.
    Lacking(Vec<LackingOperator>),
    /// Something is wrong with the model.
    Error(InferError),
}

impl From<InferError> for Unplanned {
    fn from(error: InferError) -> Self {
        Self::Error(error)
    }
}

impl Planned {
    /// Makes a model ready for inputs as `inputs` has them.
    pub(crate) fn new(model: &Model, inputs: &[TensorInfo], options: &SessionOptions) -> Result<Self, Unplanned> {
        let invalid = |reason: String| InferError::Invalid { path: model.path().into(), reason };
        let graph = import(model::parse(model.path(), model.bytes())?).map_err(invalid)?;
        let lacking = lacking(&graph);
        if !lacking.is_empty() {
            return Err(Unplanned::Lacking(lacking));
        }
        let threads = options.threads.max(1);
        let no_device = |reason| InferError::NoDevice { device: options.device, reason };
        let backend = match Context::open(options.device).map_err(no_device)? {
            Some(context) => Backend::gpu(context, options.max_batch.max(1), threads),
            None => Backend::cpu(threads),
        };
        let planned = Self {
            graph,
            device: options.device,
            threads,
            memory_limit: usize::try_from(options.memory_limit / 4).unwrap_or(usize::MAX),
            state: Mutex::new(State { backend, losses: 0, notices: Vec::new(), ready: Vec::new() }),
        };
        let mut open = false;
        let shapes: Option<Vec<Vec<usize>>> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let dims = input.shape.as_ref()?;
                let batch = |axis: usize| axis == 0 && options.batching == crate::Batching::Entries;
                let size = |(axis, dim): (usize, &crate::Dim)| {
                    dim.fixed().unwrap_or_else(|| {
                        open |= !batch(axis) || i > 0;
                        if batch(axis) { 1 } else { PROBE }
                    })
                };
                Some(dims.iter().enumerate().map(size).collect())
            })
            .collect();
        if let Some(shapes) = shapes {
            let found = match open {
                // For sizes that were made up nothing needs to be compiled.
                true => planned.plan(model, &shapes, &planned.lock().backend).map(drop),
                false => planned.prepare(model, &shapes, &mut planned.lock()),
            };
            match found {
                // Sizes that were made up need not go together.
                Err(Unplanned::Error(_)) if open => {}
                found => found?,
            }
        }
        Ok(planned)
    }

    /// Does a job.
    pub(crate) fn run(&self, model: &Model, job: &Job<'_>, host: &mut Host) -> Result<Results, InferError> {
        let failed = |reason: String| InferError::Run { path: model.path().into(), reason };
        let state = &mut *self.lock();
        loop {
            self.prepare(model, job.shapes, state).map_err(|unplanned| match unplanned {
                // It is these inputs that don't go together, or do with the graph.
                Unplanned::Error(InferError::Invalid { reason, .. }) => failed(reason),
                Unplanned::Error(error) => error,
                Unplanned::Lacking(lacking) => {
                    failed(lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
                }
            })?;
            let max_batch = state.backend.max_batch();
            let Some(Ready { plan, executor, .. }) = state.ready.last_mut() else {
                return Err(failed("there is no plan".into()));
            };
            if let Some(selection) = job.selection {
                check_outputs(model, plan, selection)?;
            }
            let mut collected = Collected::new(job, plan);
            match executor.run(job, max_batch, host, &mut collected) {
                Ok(()) => return Ok(collected.finish(plan)),
                Err(Failure::Run(error)) => return Err(failed(error.to_string())),
                // Once more, from the beginning, on what takes its place: nothing is lost but time.
                Err(Failure::Gpu(error)) => self.replace(&error, state),
            }
        }
    }

    /// What computes.
    pub(crate) fn engine(&self) -> Engine {
        match self.lock().backend {
            Backend::Cpu { .. } => Engine::Cpu,
            Backend::Gpu { .. } => Engine::Gpu,
        }
    }

    /// How many groups at once suit it best.
    pub(crate) fn preferred_batch(&self) -> usize {
        self.lock().backend.preferred_batch()
    }

    /// What happened to the device since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().notices)
    }

    /// Sees to it that the last of what is ready is for these shapes.
    fn prepare(&self, model: &Model, shapes: &[Vec<usize>], state: &mut State) -> Result<(), Unplanned> {
        loop {
            if let Some(place) = state.ready.iter().position(|r| r.shapes == shapes) {
                state.ready[place..].rotate_left(1);
                return Ok(());
            }
            let plan = Arc::new(self.plan(model, shapes, &state.backend)?);
            match state.backend.ready(Arc::clone(&plan)) {
                Ok(executor) => {
                    if state.ready.len() == MAX_PLANS {
                        state.ready.remove(0);
                    }
                    state.ready.push(Ready { shapes: shapes.to_vec(), plan, executor });
                    return Ok(());
                }
                Err(Failure::Run(error)) => {
                    let reason = error.to_string();
                    return Err(Unplanned::Error(InferError::Run { path: model.path().into(), reason }));
                }
                Err(Failure::Gpu(error)) => self.replace(&error, state),
            }
        }
    }

    /// Puts something else in the place of a GPU that failed: the device anew where it was lost, else the CPU.
    fn replace(&self, error: &GpuError, state: &mut State) {
        state.ready.clear();
        let max_batch = state.backend.max_batch();
        if error.is_lost() {
            state.losses += 1;
            if state.losses <= MAX_LOSSES
                && let Ok(Some(context)) = Context::open(self.device)
            {
                let name = context.description().name.clone();
                state.notices.push(format!("{error}; it is set up anew on {name}"));
                state.backend = Backend::gpu(context, max_batch, self.threads);
                return;
            }
        }
        state.notices.push(format!("{error}; from now on the CPU computes"));
        state.backend = Backend::cpu(self.threads);
    }

    fn plan(&self, model: &Model, shapes: &[Vec<usize>], backend: &Backend) -> Result<Plan, Unplanned> {
        let path = || model.path().to_path_buf();
        let (graph, _) =
            concrete(&self.graph, shapes).map_err(|reason| InferError::Invalid { path: path(), reason })?;
        lower(&graph, &backend.target(self.memory_limit)).map_err(|refusal| match refusal {
            Refusal { too_large: true, operator, node, reason } => {
                let (operator, node) = (short_name(&operator), short_name(&node));
                let reason = if operator.is_empty() { reason } else { format!("{operator} node {node:?}: {reason}") };
                Unplanned::Error(InferError::TooLarge { path: path(), reason })
            }
            Refusal { operator, node, reason, .. } => {
                Unplanned::Lacking(vec![LackingOperator { operator, node, why: reason }])
            }
        })
    }

    /// A run that panicked leaves at worst memory that the next run writes anew.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That the outputs of a plan are those that rows are selected from.
fn check_outputs(model: &Model, plan: &Plan, selection: &RowSelection) -> Result<(), InferError> {
    let shapes: Vec<&[usize]> = plan.outputs.iter().map(|port| &port.dims[..]).collect();
    match selection.misfit(&shapes, 1) {
        Some((output, needed)) => Err(wrong_output(model, output, shapes.get(output).copied(), &needed)),
        None => Ok(()),
    }
}

/// The error for an output that does not have the shape that is needed, or is not there.
pub(crate) fn wrong_output(model: &Model, output: usize, found: Option<&[usize]>, needed: &[usize]) -> InferError {
    let text = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    InferError::ShapeMismatch {
        path: model.path().into(),
        name: match model.outputs().get(output) {
            Some(info) => format!("output {:?}", info.name),
            None => format!("output {output}"),
        },
        found: found.map_or("of one that is not there".into(), text),
        needed: text(needed),
    }
}

/// Operators that the graph does not understand, and inputs of types that nothing is computed with.
fn lacking(graph: &Graph) -> Vec<LackingOperator> {
    let operators = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Other { name, why } => {
            Some(LackingOperator { operator: name.clone(), node: node.name.clone(), why: (*why).into() })
        }
        _ => None,
    });
    let unknown = graph.inputs.iter().filter(|&&id| graph.value(id).element == ElementType::Other);
    let inputs = unknown.map(|&id| LackingOperator {
        operator: "input".into(),
        node: graph.value(id).name.clone(),
        why: "elements of a type that is not computed with".into(),
    });
    operators.chain(inputs).collect()
}

#[cfg(test)]
mod tests;
