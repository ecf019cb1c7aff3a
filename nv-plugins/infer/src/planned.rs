//! Runs a model's graph by plans of our own, one for each set of input shapes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cpu::{self, Packed, Pool, RunError, SimdLevel};
use crate::graph::concrete::concrete;
use crate::graph::import::import;
use crate::graph::ir::Graph;
use crate::graph::op::Op;
use crate::plan::{Plan, Refusal, Target, lower};
use crate::text::short_name;
use crate::{ElementType, InferError, LackingOperator, Model, SessionOptions, TensorInfo, model};

/// Plans of so many sets of input shapes are kept; the one that was not used for longest goes first.
const MAX_PLANS: usize = 8;

/// What an open dimension is tried with when a session is made, to find out whether there are operators that no plan has.
const PROBE: usize = 64;

/// A model's graph, and executors of its plans.
pub(crate) struct Planned {
    graph: Graph,
    level: SimdLevel,
    pool: Arc<Pool>,
    packed: Packed,
    /// Numbers in memory that one plan may take.
    memory_limit: usize,
    /// Used last, the last.
    ready: Mutex<Vec<Ready>>,
}

/// A plan for inputs of these shapes.
struct Ready {
    shapes: Vec<Vec<usize>>,
    plan: Arc<Plan>,
    executor: cpu::Executor,
}

/// What a run gives for one output: its shape for one group of entries, and the values of all groups, one after another.
pub(crate) type Output = (Vec<usize>, Vec<f32>);

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
        let planned = Self {
            graph,
            level: SimdLevel::detect(),
            pool: Arc::new(Pool::new(options.threads.max(1))),
            packed: Packed::default(),
            memory_limit: usize::try_from(options.memory_limit / 4).unwrap_or(usize::MAX),
            ready: Mutex::default(),
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
        match shapes.map(|shapes| planned.plan(model, &shapes).map(|ready| (shapes, ready))) {
            Some(Ok((_, ready))) if !open => planned.lock().push(ready),
            // Sizes that were made up need not go together.
            Some(Err(Unplanned::Error(_))) if open => {}
            Some(Err(error)) => return Err(error),
            _ => {}
        }
        Ok(planned)
    }

    /// Computes `groups` times, each time from the next part of every input, of these shapes.
    pub(crate) fn run(
        &self,
        model: &Model,
        shapes: &[Vec<usize>],
        inputs: &[&[f32]],
        groups: usize,
    ) -> Result<Vec<Output>, InferError> {
        let mut ready = self.lock();
        let place = match ready.iter().position(|r| r.shapes == shapes) {
            Some(place) => place,
            None => {
                let new = self.plan(model, shapes).map_err(|unplanned| match unplanned {
                    // It is these inputs that don't go together, or do with the graph.
                    Unplanned::Error(InferError::Invalid { path, reason }) => InferError::Run { path, reason },
                    Unplanned::Error(error) => error,
                    Unplanned::Lacking(lacking) => {
                        let reasons: Vec<String> = lacking.iter().map(ToString::to_string).collect();
                        InferError::Run { path: model.path().into(), reason: reasons.join("; ") }
                    }
                })?;
                if ready.len() == MAX_PLANS {
                    ready.remove(0);
                }
                ready.push(new);
                ready.len() - 1
            }
        };
        ready[place..].rotate_left(1);
        let Some(Ready { plan, executor, .. }) = ready.last_mut() else {
            return Err(InferError::Run { path: model.path().into(), reason: "there is no plan".into() });
        };
        let mut outputs: Vec<Vec<f32>> =
            plan.outputs.iter().map(|port| Vec::with_capacity(groups * port.dims.iter().product::<usize>())).collect();
        for group in 0..groups {
            let part = |data: &&[f32]| -> std::ops::Range<usize> {
                let len = data.len() / groups;
                group * len..(group + 1) * len
            };
            let parts: Vec<&[f32]> = inputs.iter().map(|data| &data[part(data)]).collect();
            let failed = |e: RunError| InferError::Run { path: model.path().into(), reason: e.to_string() };
            executor.run(&parts, &mut outputs).map_err(failed)?;
        }
        let shaped = plan.outputs.iter().zip(outputs).map(|(port, values)| {
            let mut shape = port.dims.clone();
            if port.rows.is_some() {
                // Of a whole graph: there is one group.
                shape[0] = values.len() / shape[1..].iter().product::<usize>().max(1);
            }
            (shape, values)
        });
        Ok(shaped.collect())
    }

    fn plan(&self, model: &Model, shapes: &[Vec<usize>]) -> Result<Ready, Unplanned> {
        let path = || model.path().to_path_buf();
        let (graph, _) =
            concrete(&self.graph, shapes).map_err(|reason| InferError::Invalid { path: path(), reason })?;
        let block = self.level.block();
        let target = Target { block, buffer_limit: usize::MAX, memory_limit: self.memory_limit };
        let plan = lower(&graph, &target).map_err(|refusal| match refusal {
            Refusal { too_large: true, operator, node, reason } => {
                let (operator, node) = (short_name(&operator), short_name(&node));
                let reason = if operator.is_empty() { reason } else { format!("{operator} node {node:?}: {reason}") };
                Unplanned::Error(InferError::TooLarge { path: path(), reason })
            }
            Refusal { operator, node, reason, .. } => {
                Unplanned::Lacking(vec![LackingOperator { operator, node, why: reason }])
            }
        })?;
        let plan = Arc::new(plan);
        let executor = cpu::Executor::new(Arc::clone(&plan), &self.packed, Arc::clone(&self.pool), self.level);
        let executor = executor.map_err(|e| InferError::Run { path: path(), reason: e.to_string() })?;
        Ok(Ready { shapes: shapes.to_vec(), plan, executor })
    }

    /// A run that panicked leaves at worst memory that the next run writes anew.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
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
