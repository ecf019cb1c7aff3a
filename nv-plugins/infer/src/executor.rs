//! The CPU executor: the one place that knows `rten`.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use nv_core::Tensor;
use rten::{LoadErrorKind, NodeId, RunErrorKind, RunOptions, ThreadPool, Value, ValueOrView, ValueView};
use rten_onnx::onnx;

use crate::graph::concrete::concrete;
use crate::graph::import::import;
use crate::graph::infer::infer;
use crate::graph::peak::{beyond, unbounded};
use crate::model::operator_name;
use crate::text::{short_name, shortened};
use crate::{ElementType, InferError, Model, TensorInfo, model};

/// A model made ready to run on the CPU.
pub(crate) struct Executor {
    graph: rten::Model,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    pool: Arc<ThreadPool>,
}

impl Executor {
    /// Makes `model` ready for inputs of the shapes in `inputs`, which replace what the file says where `reshape` is set.
    pub(crate) fn new(model: &Model, inputs: &[TensorInfo], reshape: bool, threads: usize) -> Result<Self, InferError> {
        let bytes = if reshape { redeclare(model, inputs)? } else { model.bytes().to_vec() };
        let loaded = guarded(|| rten::ModelOptions::with_all_ops().load(bytes));
        let graph = match loaded {
            Ok(Ok(graph)) => graph,
            Ok(Err(e)) => return Err(load_error(model, &e)),
            Err(panicked) => {
                return Err(InferError::Invalid { path: model.path().into(), reason: said(panicked) });
            }
        };
        let ids = |tensors: &[TensorInfo]| -> Result<Vec<NodeId>, InferError> {
            let id = |t: &TensorInfo| graph.node_id(&t.name);
            tensors
                .iter()
                .map(id)
                .collect::<Result<_, _>>()
                .map_err(|e| InferError::Invalid { path: model.path().into(), reason: said(e) })
        };
        let (input_ids, output_ids) = (ids(inputs)?, ids(model.outputs())?);
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        Ok(Self { graph, inputs: input_ids, outputs: output_ids, pool })
    }

    /// Computes the outputs for one set of inputs, each a shape and its values in the type that `infos` names.
    pub(crate) fn run(
        &self,
        model: &Model,
        infos: &[TensorInfo],
        inputs: &[(&[usize], &[f32])],
    ) -> Result<Vec<Tensor>, InferError> {
        let failed = |reason: String| InferError::Run { path: model.path().into(), reason: said(reason) };
        let mut values = Vec::with_capacity(inputs.len());
        for ((&id, info), (shape, data)) in self.inputs.iter().zip(infos).zip(inputs) {
            values.push((id, to_value(info.element, shape, data).map_err(failed)?));
        }
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let outputs =
            guarded(|| self.graph.run(values, &self.outputs, Some(options))).map_err(failed)?.map_err(|e| {
                match e.kind() {
                    RunErrorKind::InvalidInput => InferError::Invalid { path: model.path().into(), reason: said(e) },
                    _ => failed(e.to_string()),
                }
            })?;
        outputs.into_iter().map(|value| from_value(value).map_err(failed)).collect()
    }
}

/// What an input's open dimension is taken for, beside the first.
const PROBE: usize = 64;

/// Refuses what takes more memory than it may: rten trusts what a file declares, and the process ends where there is no memory.
#[derive(Debug)]
pub(crate) struct MemoryCheck {
    limit: u64,
    /// The inputs' shapes that were found to stay within.
    known: Mutex<Vec<Vec<usize>>>,
}

impl MemoryCheck {
    /// Looks at the model before inputs are there: open dimensions are taken for small ones.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn new(model: &Model, inputs: &[TensorInfo], limit: u64) -> Result<Self, InferError> {
        check_memory(model, inputs, limit)?;
        let fixed = |info: &TensorInfo| info.shape.as_ref()?.iter().map(crate::Dim::fixed).collect();
        let known = inputs.iter().map(fixed).collect::<Option<_>>().unwrap_or_default();
        Ok(Self { limit, known: Mutex::new(known) })
    }

    /// Looks at the model with inputs of these shapes.
    ///
    /// # Errors
    /// `TooLarge`, and `Invalid` for shapes that contradict each other.
    pub(crate) fn check(&self, model: &Model, inputs: &[TensorInfo], shapes: &[Vec<usize>]) -> Result<(), InferError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == shapes {
            return Ok(());
        }
        let fixed = |shape: &Vec<usize>| Some(shape.iter().map(|&n| crate::Dim::Fixed(n)).collect());
        let given = |(info, shape): (&TensorInfo, &Vec<usize>)| TensorInfo { shape: fixed(shape), ..info.clone() };
        let given: Vec<_> = inputs.iter().zip(shapes).map(given).collect();
        check_memory(model, &given, self.limit)?;
        *known = shapes.to_vec();
        Ok(())
    }
}

/// Refuses what takes more memory than it may as far as that shows in the shapes of a graph, and what may take any amount for
/// all that its shapes tell. Open dimensions are taken for small ones.
///
/// # Errors
/// `TooLarge`, and `Invalid` for shapes that contradict each other.
fn check_memory(model: &Model, inputs: &[TensorInfo], limit: u64) -> Result<(), InferError> {
    let invalid = |reason: String| InferError::Invalid { path: model.path().into(), reason };
    let imported = import(model::parse(model.path(), model.bytes())?).map_err(invalid)?;
    let mut open = false;
    let mut size = |(axis, dim): (usize, &crate::Dim)| {
        dim.fixed().unwrap_or_else(|| {
            open = true;
            if axis == 0 { 1 } else { PROBE }
        })
    };
    let shape = |info: &TensorInfo| Some(info.shape.as_ref()?.iter().enumerate().map(&mut size).collect());
    let shapes = inputs.iter().map(shape).collect::<Option<Vec<Vec<usize>>>>();
    let (graph, symbols) = match shapes.map(|shapes| concrete(&imported, &shapes)) {
        Some(Ok((graph, _))) => (graph, false),
        Some(Err(reason)) if !open => return Err(invalid(reason)),
        // Sizes that were made up need not go together; inputs may be of any shape.
        Some(Err(_)) | None => {
            let mut graph = imported;
            infer(&mut graph).map_err(invalid)?;
            (graph, true)
        }
    };
    if let Some(node) = unbounded(&graph, symbols) {
        let (operator, name) = (short_name(&node.op.name()), short_name(&node.name));
        let reason = format!("how much {operator} node {name:?} gives does not show before a run");
        return Err(InferError::TooLarge { path: model.path().into(), reason });
    }
    match beyond(&graph, limit) {
        Some((id, bytes)) => {
            let reason = format!("with {} it takes {bytes} bytes, {limit} are the most", graph.value(id).text());
            Err(InferError::TooLarge { path: model.path().into(), reason })
        }
        None => Ok(()),
    }
}

/// The values as the type that the model wants, borrowed where they are that already. Integers round to the nearest and
/// saturate.
fn to_value<'a>(element: ElementType, shape: &[usize], data: &'a [f32]) -> Result<ValueOrView<'a>, String> {
    match element {
        ElementType::Uint8 => {
            let data = data.iter().map(|v| v.round_ties_even() as u8).collect();
            Value::from_shape(shape, data).map(Into::into).map_err(|e| e.to_string())
        }
        ElementType::Int8 => {
            let data = data.iter().map(|v| v.round_ties_even() as i8).collect();
            Value::from_shape(shape, data).map(Into::into).map_err(|e| e.to_string())
        }
        // The executor widens no integer: it computes 64-bit integers and truth values in 32 bits.
        ElementType::Int32 | ElementType::Int64 | ElementType::Bool => {
            let data = data.iter().map(|v| v.round_ties_even() as i32).collect();
            Value::from_shape(shape, data).map(Into::into).map_err(|e| e.to_string())
        }
        _ => ValueView::from_shape(shape, data).map(Into::into).map_err(|e| e.to_string()),
    }
}

fn from_value(value: Value) -> Result<Tensor, String> {
    use rten_tensor::prelude::*;
    let (shape, data) = match value {
        Value::FloatTensor(t) => (t.shape().to_vec(), t.into_data()),
        Value::Int32Tensor(t) => (t.shape().to_vec(), t.into_data().into_iter().map(|v| v as f32).collect()),
        Value::UInt8Tensor(t) => (t.shape().to_vec(), t.into_data().into_iter().map(f32::from).collect()),
        Value::Int8Tensor(t) => (t.shape().to_vec(), t.into_data().into_iter().map(f32::from).collect()),
        _ => return Err("an output is a sequence, not a tensor".into()),
    };
    Tensor::new(shape, data).map_err(|e| e.to_string())
}

/// The file again, with the inputs' shapes as `inputs` has them. What the file says of the shapes of other tensors was
/// derived from the old ones, so it is left out.
fn redeclare(model: &Model, inputs: &[TensorInfo]) -> Result<Vec<u8>, InferError> {
    let mut proto = model::parse(model.path(), model.bytes())?;
    if let Some(graph) = &mut proto.graph {
        graph.value_info.clear();
        for value in &mut graph.output {
            if let Some(tensor) = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) {
                tensor.shape = None;
            }
        }
        for value in &mut graph.input {
            let info = inputs.iter().find(|i| Some(i.name.as_str()) == value.name.as_deref());
            let tensor = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
            if let (Some(info), Some(tensor)) = (info, tensor) {
                tensor.shape = info
                    .shape
                    .as_ref()
                    .map(|dims| onnx::TensorShapeProto { dim: dims.iter().map(dimension).collect() });
            }
        }
    }
    proto.write_buf().map_err(|e| InferError::Invalid { path: model.path().into(), reason: said(e) })
}

pub(crate) fn dimension(dim: &crate::Dim) -> onnx::Dimension {
    match dim {
        crate::Dim::Fixed(n) => {
            onnx::Dimension { dim_value: Some(i64::try_from(*n).unwrap_or(i64::MAX)), dim_param: None }
        }
        crate::Dim::Symbolic(name) => {
            onnx::Dimension { dim_value: None, dim_param: Some(name.clone()).filter(|n| !n.is_empty()) }
        }
    }
}

fn load_error(model: &Model, error: &rten::LoadError) -> InferError {
    let path = model.path().to_path_buf();
    match error.kind() {
        LoadErrorKind::OperatorInvalid => {
            let reason = said(std::error::Error::source(error).unwrap_or(error));
            let node = error.node().unwrap_or_default();
            let operator = operator_of(model, node)
                .or_else(|| reason.strip_suffix(NOT_SUPPORTED).map(Into::into))
                .unwrap_or_else(|| "?".into());
            InferError::UnsupportedOperator { path, operator: short_name(&operator), node: short_name(node), reason }
        }
        LoadErrorKind::IoError | LoadErrorKind::ParseError => InferError::Damaged { path, reason: said(error) },
        _ => InferError::Invalid { path, reason: said(error) },
    }
}

/// What rten says, which quotes names of the file.
fn said(what: impl std::fmt::Display) -> String {
    shortened(what, 2000)
}

/// How rten ends its text about an operator that it does not know.
const NOT_SUPPORTED: &str = " operator not supported or not enabled";

fn operator_of(model: &Model, node: &str) -> Option<String> {
    let proto = model::parse(model.path(), model.bytes()).ok()?;
    let nodes = proto.graph?.node;
    nodes.iter().find(|n| !node.is_empty() && n.name.as_deref() == Some(node)).map(operator_name)
}

/// Calls rten, which asserts what it takes for granted: a hostile model must not take the process with it.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(call))
        .map_err(|payload| format!("the executor panicked: {}", panic_text(payload.as_ref())))
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
