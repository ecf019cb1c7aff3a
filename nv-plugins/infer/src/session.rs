use std::borrow::Cow;
use std::collections::BTreeMap;

use nv_core::Tensor;

use crate::executor::{Executor, check_memory};
use crate::planned::{Output, Planned, Unplanned};
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
/// open, entries are computed one after the other, because CPU kernels gain nothing from a batch and choose other
/// summation orders for it. Where the file fixes a batch of n > 1, entries go in groups of n, the last one filled up with
/// zeros whose results are thrown away.
///
/// With [`Batching::Whole`] none of this holds: the graph is computed once, as the file declares it.
///
/// # Threads
/// `run` takes `&self` and blocks; a session can be shared, but calls then compete for its threads.
pub struct Session {
    model: Model,
    runner: Runner,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    batching: Batching,
    asked: Device,
    /// Entries in one call of the executor; 1 where there is no batch.
    group: usize,
}

/// What computes the graph.
enum Runner {
    Planned(Box<Planned>),
    Rten { executor: Box<Executor>, lacking: Vec<LackingOperator> },
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
                check_memory(model, &inputs, options.memory_limit)?;
                let executor = Executor::new(model, &inputs, reshape, options.threads.max(1));
                Runner::Rten { executor: Box::new(executor.map_err(|e| with_reasons(e, &lacking))?), lacking }
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

    /// Computes the outputs for `inputs`, which come in the order of [`inputs`](Self::inputs) and all have the same
    /// outermost dimension, the batch (with [`Batching::Whole`] whatever shapes the graph declares, scalars too). Outputs come
    /// in the order of [`outputs`](Self::outputs).
    ///
    /// Values are `f32` on both sides; for a model that takes integers they are rounded to the nearest.
    ///
    /// # Errors
    /// `ShapeMismatch` where an input does not fit, `Run` where the computation fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let entries = match self.batching {
            Batching::Entries => self.check_inputs(inputs)?,
            Batching::Whole => self.check_whole(inputs)?,
        };
        let Some(entries) = entries else {
            let shapes: Vec<_> = inputs.iter().map(|t| t.shape().to_vec()).collect();
            let data: Vec<_> = inputs.iter().map(Tensor::data).collect();
            let outputs = self.compute(&shapes, &data, 1)?;
            return outputs.into_iter().map(|(shape, values)| self.tensor(shape, values)).collect();
        };
        let groups = entries.div_ceil(self.group);
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| [&[self.group], &t.shape()[1..]].concat()).collect();
        let data: Vec<Cow<'_, [f32]>> = inputs.iter().map(|t| self.filled(t, entries, groups)).collect();
        let data: Vec<&[f32]> = data.iter().map(|data| &**data).collect();
        let outputs = self.compute(&shapes, &data, groups)?;
        outputs.into_iter().zip(&self.outputs).map(|(output, info)| self.batched(output, info, entries)).collect()
    }

    /// The values of an input with as many entries as whole groups have: zeros after the last.
    fn filled<'a>(&self, tensor: &'a Tensor, entries: usize, groups: usize) -> Cow<'a, [f32]> {
        let all = groups * self.group;
        if all == entries {
            return Cow::Borrowed(tensor.data());
        }
        let mut data = tensor.data().to_vec();
        data.resize(data.len() / entries * all, 0.0);
        Cow::Owned(data)
    }

    /// Computes the graph for each of `groups` parts of the inputs.
    fn compute(&self, shapes: &[Vec<usize>], inputs: &[&[f32]], groups: usize) -> Result<Vec<Output>, InferError> {
        match &self.runner {
            Runner::Planned(planned) => planned.run(&self.model, shapes, inputs, groups),
            Runner::Rten { executor, .. } => {
                let mut all: Vec<Output> = Vec::new();
                for group in 0..groups {
                    let part = |(shape, data): (&'_ Vec<usize>, &&'_ [f32])| {
                        let len = data.len() / groups;
                        (shape.clone(), data[group * len..(group + 1) * len].to_vec())
                    };
                    let parts: Vec<_> = shapes.iter().zip(inputs).map(part).collect();
                    let parts: Vec<_> = parts.iter().map(|(shape, data)| (&shape[..], &data[..])).collect();
                    let outputs = executor.run(&self.model, &self.inputs, &parts)?;
                    all.resize_with(outputs.len(), Output::default);
                    for (((shape, values), output), info) in all.iter_mut().zip(outputs).zip(&self.outputs) {
                        if group > 0 && shape != output.shape() {
                            return Err(self.no_batch(info, output.shape()));
                        }
                        *shape = output.shape().to_vec();
                        values.extend_from_slice(output.data());
                    }
                }
                Ok(all)
            }
        }
    }

    /// An output of all entries, without those that filled up the last group.
    fn batched(&self, (shape, mut values): Output, info: &TensorInfo, entries: usize) -> Result<Tensor, InferError> {
        match shape[..] {
            // Of a single group nothing needs to be cut.
            _ if entries == self.group => self.tensor(shape, values),
            [n, ref entry @ ..] if n == self.group => {
                values.truncate(entries * entry.iter().product::<usize>());
                self.tensor([&[entries], entry].concat(), values)
            }
            _ => Err(self.no_batch(info, &shape)),
        }
    }

    fn no_batch(&self, info: &TensorInfo, found: &[usize]) -> InferError {
        let needed = format!("a batch of {} in front, alike for every entry,", self.group);
        self.mismatch(format!("output {:?}", info.name), found, needed)
    }

    fn tensor(&self, shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor, InferError> {
        let failed = |reason: String| InferError::Run { path: self.model.path().into(), reason };
        Tensor::new(shape, values).map_err(|e| failed(e.to_string()))
    }

    /// The number of entries that the inputs hold; `None` for a model without inputs, or with scalars alone.
    fn check_inputs(&self, inputs: &[Tensor]) -> Result<Option<usize>, InferError> {
        self.check_count(inputs)?;
        let entries = inputs.first().and_then(|t| t.shape().first().copied());
        for (tensor, info) in inputs.iter().zip(&self.inputs) {
            let shape = tensor.shape();
            let fits = info.shape.as_ref().is_none_or(|dims| {
                dims.len() == shape.len()
                    // The batch may be any number; it is split up.
                    && dims.iter().zip(shape).skip(1).all(|(d, &n)| d.fixed().is_none_or(|d| d == n))
            });
            let same_batch = shape.first().copied() == entries && entries != Some(0);
            if !(fits && same_batch) {
                let needed = match (fits, entries) {
                    (true, Some(n)) if n > 0 => format!("a batch of {n}"),
                    (true, _) => "at least one entry".into(),
                    (false, _) => info.shape_text(),
                };
                return Err(self.mismatch(format!("input {:?}", info.name), shape, needed));
            }
        }
        Ok(entries)
    }

    /// As [`check_inputs`](Self::check_inputs), where there is no batch that could be split up.
    fn check_whole(&self, inputs: &[Tensor]) -> Result<Option<usize>, InferError> {
        self.check_count(inputs)?;
        for (tensor, info) in inputs.iter().zip(&self.inputs) {
            let shape = tensor.shape();
            let fits = info.shape.as_ref().is_none_or(|dims| {
                dims.len() == shape.len() && dims.iter().zip(shape).all(|(d, &n)| d.fixed().is_none_or(|d| d == n))
            });
            if !fits {
                return Err(self.mismatch(format!("input {:?}", info.name), shape, info.shape_text()));
            }
        }
        Ok(None)
    }

    fn check_count(&self, inputs: &[Tensor]) -> Result<(), InferError> {
        let (found, needed) = (inputs.len(), self.inputs.len());
        if found == needed {
            return Ok(());
        }
        Err(InferError::InputCount { path: self.model.path().into(), found, needed })
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
mod tests {
    use super::*;
    use crate::InferErrorKind;
    use crate::testing::{OnnxBuilder, classifier, constant_model};

    fn session(bytes: Vec<u8>) -> Session {
        Session::new(&Model::from_bytes("m.onnx", bytes).unwrap(), &SessionOptions::default()).unwrap()
    }

    /// Values that don't add up to round numbers, so that another order of summation shows.
    fn picture(entries: usize, side: usize) -> Tensor {
        let data = (0..entries * 3 * side * side).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::new([entries, 3, side, side], data).unwrap()
    }

    fn entry(batch: &Tensor, i: usize) -> Tensor {
        let shape = [&[1], &batch.shape()[1..]].concat();
        Tensor::new(shape, batch.outer(i).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_batch_is_bit_for_bit_its_entries() {
        fn check(batch: Dim) {
            let bytes = OnnxBuilder::new()
                .input("x", &[batch.clone(), 3.into(), 8.into(), 8.into()])
                .initializer("w", &[5, 3, 3, 3], &(0..135).map(|i| (i as f32).cos()).collect::<Vec<_>>())
                .node("Conv", &["x", "w"], &["h"])
                // Optional in ONNX; exporters write it and the executor relies on it.
                .attribute_list("kernel_shape", &[3, 3])
                .node("Sigmoid", &["h"], &["y"])
                .node("GlobalAveragePool", &["y"], &["z"])
                .output("y", &[batch.clone(), 5.into(), 6.into(), 6.into()])
                .output("z", &[batch.clone(), 5.into(), 1.into(), 1.into()])
                .build();
            let session = session(bytes);
            for n in 1..=5 {
                let input = picture(n, 8);
                let outputs = session.run(std::slice::from_ref(&input)).unwrap();
                assert_eq!(outputs[0].shape(), [n, 5, 6, 6], "{batch}");
                for i in 0..n {
                    let single = session.run(&[entry(&input, i)]).unwrap();
                    for (all, one) in outputs.iter().zip(&single) {
                        assert_eq!(all.outer(i).unwrap(), one.data(), "{batch}: entry {i} of {n}");
                    }
                }
            }
        }
        check(1.into());
        check("batch".into());
        check(2.into());
    }

    #[test]
    fn inputs_that_do_not_fit_are_named() {
        let session = session(classifier(8, 4));
        let check = |inputs: &[Tensor], expected: &str| {
            let error = session.run(inputs).unwrap_err();
            assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
            assert!(error.to_string().ends_with(expected), "{error}");
        };
        check(&[], "has 1 inputs, 0 were given");
        check(&[picture(1, 9)], "input \"input\" has the shape 1×3×9×9, 1×3×8×8 is needed");
        check(&[Tensor::zeros([3, 8, 8])], "has the shape 3×8×8, 1×3×8×8 is needed");
        check(&[Tensor::zeros([0, 3, 8, 8])], "at least one entry is needed");
    }

    #[test]
    fn an_open_or_overridden_size_takes_any() {
        // The declared 10×3×32×32 says less than the graph can do.
        let bytes = OnnxBuilder::new()
            .input("x", &[10.into(), 3.into(), 32.into(), 32.into()])
            .node("Relu", &["x"], &["y"])
            .output("y", &[10.into(), 3.into(), 32.into(), 32.into()])
            .build();
        let model = Model::from_bytes("m.onnx", bytes).unwrap();
        let mut options = SessionOptions::default();
        let open = vec!["n".into(), 3.into(), "h".into(), "w".into()];
        options.input_shapes.insert("x".into(), open);
        let session = Session::new(&model, &options).unwrap();
        assert_eq!(session.outputs()[0].shape_text(), "?×?×?×?");
        let outputs = session.run(&[Tensor::zeros([2, 3, 5, 7])]).unwrap();
        assert_eq!(outputs[0].shape(), [2, 3, 5, 7]);

        for (name, shape) in [("x", vec![1.into()]), ("y", vec![1.into()])] {
            let mut options = SessionOptions::default();
            options.input_shapes.insert(name.into(), shape);
            let error = Session::new(&model, &options).unwrap_err();
            assert_eq!(error.kind(), InferErrorKind::ShapeMismatch, "{error}");
        }
    }

    #[test]
    fn integer_inputs_are_rounded_and_saturate() {
        let bytes = OnnxBuilder::new()
            .input_u8("x", &[1.into(), 4.into()])
            .node("Identity", &["x"], &["y"])
            .output("y", &[1.into(), 4.into()])
            .build();
        let input = Tensor::new([1, 4], vec![-3.0, 2.6, 254.5, 900.0]).unwrap();
        assert_eq!(session(bytes).run(&[input]).unwrap()[0].data(), [0.0, 3.0, 254.0, 255.0]);
    }

    #[test]
    fn an_unknown_operator_is_named_with_its_node() {
        let bytes = OnnxBuilder::new()
            .input("x", &[1.into()])
            .node("Frobnicate", &["x"], &["y"])
            .output("y", &[1.into()])
            .build();
        let model = Model::from_bytes("m.onnx", bytes).unwrap();
        let error = Session::new(&model, &SessionOptions::default()).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::UnsupportedOperator);
        let text = error.to_string();
        assert!(text.contains("operator Frobnicate (node \"Frobnicate_y\")"), "{text}");
    }

    #[test]
    fn a_gpu_is_not_pretended() {
        let model = Model::from_bytes("m.onnx", classifier(8, 4)).unwrap();
        for device in [Device::Gpu, Device::Software] {
            let options = SessionOptions { device, ..SessionOptions::default() };
            match Session::new(&model, &options) {
                Ok(session) => assert_eq!((session.device(), session.engine()), (device, Engine::Gpu)),
                Err(error) => {
                    assert_eq!(error.kind(), InferErrorKind::NoDevice);
                    let text = error.to_string();
                    assert!(text.contains(&format!("device {device} was demanded, but there is no")), "{text}");
                    assert!(text.contains("use auto or cpu") || text.contains("or use auto"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_graph_that_fails_when_run_is_an_error() {
        let bytes = OnnxBuilder::new()
            .input("x", &["n".into(), "c".into()])
            .integers("shape", &[7, 11])
            .node("Reshape", &["x", "shape"], &["y"])
            .output("y", &[7.into(), 11.into()])
            .build();
        let error = session(bytes).run(&[Tensor::zeros([1, 3])]).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::Run);
        assert!(error.to_string().contains("Reshape"), "{error}");
    }

    #[test]
    fn a_whole_graph_is_computed_as_declared() {
        // The mean over what would else be the batch, and an input that has no batch.
        let bytes = OnnxBuilder::new()
            .input("x", &[3.into(), "w".into()])
            .input("scale", &[])
            .node("ReduceMean", &["x"], &["mean"])
            .attribute_list("axes", &[0])
            .attribute("keepdims", 0)
            .node("Mul", &["mean", "scale"], &["y"])
            .node("ReduceMean", &["y"], &["z"])
            .attribute("keepdims", 0)
            .output("y", &["w".into()])
            .output("z", &[])
            .build();
        let model = Model::from_bytes("m.onnx", bytes).unwrap();
        let options = SessionOptions { batching: Batching::Whole, ..SessionOptions::default() };
        let session = Session::new(&model, &options).unwrap();
        assert_eq!(session.preferred_batch(), 1);
        let tensor = |shape: &[usize], data: &[f32]| Tensor::new(shape, data.to_vec()).unwrap();
        let (x, scale) = (tensor(&[3, 2], &[1., 2., 3., 4., 8., 9.]), tensor(&[], &[10.0]));
        let outputs = session.run(&[x.clone(), scale.clone()]).unwrap();
        assert_eq!(outputs, [tensor(&[2], &[40.0, 50.0]), tensor(&[], &[45.0])]);

        let check = |inputs: &[Tensor], expected: &str| {
            let error = session.run(inputs).unwrap_err();
            assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
            assert!(error.to_string().ends_with(expected), "{error}");
        };
        check(std::slice::from_ref(&x), "has 2 inputs, 1 were given");
        check(&[tensor(&[1, 2], &[0.0; 2]), scale], "input \"x\" has the shape 1×2, 3×w is needed");
        check(&[x, tensor(&[1], &[0.0])], "input \"scale\" has the shape 1, scalar is needed");
    }

    #[test]
    fn an_output_without_a_batch_can_not_be_split() {
        let session = session(constant_model(&[1.into(), 2.into()], &[("y", &[3], &[1., 2., 3.])]));
        assert_eq!(session.run(&[Tensor::zeros([1, 2])]).unwrap()[0].data(), [1., 2., 3.]);
        let error = session.run(&[Tensor::zeros([2, 2])]).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
        assert!(error.to_string().contains("output \"y\" has the shape 3"), "{error}");
    }
}
