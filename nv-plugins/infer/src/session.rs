mod run;

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::executor::{Executor, MemoryCheck};
use crate::host::Host;
use crate::planned::{Planned, Unplanned};
use crate::{Batching, Device, Dim, Engine, InferError, LackingOperator, Model, TensorInfo};

/// How a [`Session`] is to run its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// What to run on.
    pub device: Device,
    /// Threads that one run may use, at least 1. Default 1: work in parallel comes from several sessions.
    pub threads: usize,
    /// Shapes to use in place of what the file declares for these inputs, by name. For files whose declared shape is
    /// narrower than what the graph can compute. Default none.
    pub input_shapes: BTreeMap<String, Vec<Dim>>,
    /// What the outermost dimension is. Default [`Batching::Entries`].
    pub batching: Batching,
    /// The most entries that a GPU computes at once. Default 8.
    pub max_batch: usize,
    /// Bytes that what lies between inputs and outputs may take, for one entry of a batch. A model that calls for more is
    /// refused. Default 2 GiB.
    pub memory_limit: u64,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            device: Device::Auto,
            threads: 1,
            input_shapes: BTreeMap::new(),
            batching: Batching::Entries,
            max_batch: 8,
            memory_limit: 2 << 30,
        }
    }
}

/// A model made ready to run.
///
/// # Batches
/// The outermost dimension of every input and output is the batch. Any number of entries can be given to
/// [`run`](Self::run): each gets bit for bit the result that it would get alone. Where the model's own batch is 1 or
/// open, the CPU computes entries one after the other, since its kernels gain nothing from a batch. A GPU computes up to
/// [`max_batch`](SessionOptions::max_batch) at once, and of more the next are on their way meanwhile. Where the file fixes a
/// batch of n > 1, entries go in groups of n, the last one filled up with zeros whose results are thrown away.
///
/// With [`Batching::Whole`] none of this holds: the graph is computed once, as the file declares it.
///
/// # Threads
/// Runs take `&self` and block; a session can be shared, but one call then waits for the other.
pub struct Session {
    model: Model,
    runner: Runner,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    batching: Batching,
    asked: Device,
    /// Entries in one call of the executor; 1 where there is no batch.
    group: usize,
    host: Mutex<Host>,
}

/// What computes the graph.
enum Runner {
    Planned(Box<Planned>),
    Rten { executor: Box<Executor>, lacking: Vec<LackingOperator>, memory: MemoryCheck },
}

impl Session {
    /// Makes `model` ready.
    ///
    /// # Errors
    /// `NoDevice` for a device that is not there, `TooLarge`, `UnsupportedOperator`, `Invalid` for a graph that
    /// contradicts itself, `ShapeMismatch` for an `input_shapes` entry of an input that is not there or has another
    /// number of dimensions.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self, InferError> {
        let mut inputs = model.inputs().to_vec();
        for (name, shape) in &options.input_shapes {
            let input = inputs.iter_mut().find(|i| i.name == *name);
            let declared = input.as_ref().and_then(|i| i.shape.as_ref().map(Vec::len));
            match input {
                Some(input) if declared.is_none_or(|n| n == shape.len()) => {
                    input.shape = Some(shape.clone());
                }
                input => {
                    return Err(InferError::ShapeMismatch {
                        path: model.path().into(),
                        name: format!("input {name:?}"),
                        found: input.map_or("nowhere in the model".into(), |i| i.shape_text()),
                        needed: format!("one of {} dimensions", shape.len()),
                    });
                }
            }
        }
        let reshape = inputs != model.inputs();
        let mut outputs = model.outputs().to_vec();
        if reshape {
            // Their declared sizes followed from the old input's.
            for dim in outputs.iter_mut().filter_map(|o| o.shape.as_mut()).flatten() {
                *dim = Dim::Symbolic(String::new());
            }
        }
        let runner = match Planned::new(model, &inputs, options) {
            Ok(planned) => Runner::Planned(Box::new(planned)),
            Err(Unplanned::Lacking(lacking)) => {
                let memory = MemoryCheck::new(model, &inputs, options.memory_limit)?;
                let executor = Executor::new(model, &inputs, reshape, options.threads.max(1));
                Runner::Rten { executor: Box::new(executor.map_err(|e| with_reasons(e, &lacking))?), lacking, memory }
            }
            Err(Unplanned::Error(error)) => return Err(error),
        };
        let batch = match options.batching {
            Batching::Entries => inputs.first().and_then(|i| i.shape.as_ref()?.first()?.fixed()),
            Batching::Whole => None,
        };
        let group = batch.unwrap_or(1).max(1);
        Ok(Self {
            model: model.clone(),
            runner,
            inputs,
            outputs,
            batching: options.batching,
            asked: options.device,
            group,
            host: Mutex::new(Host::new()),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What it runs on now: a GPU, which may be emulated, or the CPU.
    pub fn device(&self) -> Device {
        match (self.engine(), self.asked) {
            (Engine::Gpu, Device::Software) => Device::Software,
            (Engine::Gpu, _) => Device::Gpu,
            _ => Device::Cpu,
        }
    }

    /// What happened to the device since the last call, in sentences for a log: that it was lost and is there again, that the
    /// CPU computes from now on. A run that it happened to was done again: nothing is lost but time.
    pub fn take_notices(&self) -> Vec<String> {
        match &self.runner {
            Runner::Planned(planned) => planned.take_notices(),
            Runner::Rten { .. } => Vec::new(),
        }
    }

    /// What computes the graph.
    pub fn engine(&self) -> Engine {
        match &self.runner {
            Runner::Planned(planned) => planned.engine(),
            Runner::Rten { .. } => Engine::Rten,
        }
    }

    /// Why the graph is computed by [`Engine::Rten`]: the operators that our own engine lacks. Empty where it lacks none.
    pub fn lacking(&self) -> &[LackingOperator] {
        match &self.runner {
            Runner::Planned(_) => &[],
            Runner::Rten { lacking, .. } => lacking,
        }
    }

    /// What [`run`](Self::run) takes, in its order.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// What [`run`](Self::run) gives, in its order.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// How many entries in one call of [`run`](Self::run) suit it best; 1 with [`Batching::Whole`].
    pub fn preferred_batch(&self) -> usize {
        match (&self.runner, self.batching) {
            (Runner::Planned(planned), Batching::Entries) => planned.preferred_batch() * self.group,
            _ => self.group,
        }
    }

    fn mismatch(&self, name: String, found: &[usize], needed: String) -> InferError {
        let found: Vec<_> = found.iter().map(usize::to_string).collect();
        InferError::ShapeMismatch {
            path: self.model.path().into(),
            name,
            found: if found.is_empty() { "scalar".into() } else { found.join("×") },
            needed,
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("path", &self.model.path())
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// The error of the engine that was to stand in, with what our own lacks: either would do.
fn with_reasons(error: InferError, lacking: &[LackingOperator]) -> InferError {
    // A few are enough to go by.
    let own: Vec<String> = lacking.iter().take(8).map(ToString::to_string).collect();
    match error {
        InferError::UnsupportedOperator { path, operator, node, reason } => {
            let reason = format!("{reason} (our own engine lacks {})", own.join("; "));
            InferError::UnsupportedOperator { path, operator, node, reason }
        }
        other => other,
    }
}

#[cfg(test)]
mod pictures_tests;
#[cfg(test)]
mod tests;
