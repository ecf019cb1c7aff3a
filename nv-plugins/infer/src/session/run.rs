//! Runs.

use std::borrow::Cow;
use std::sync::PoisonError;

use nv_core::Tensor;

use super::{Runner, Session};
use crate::executor::Executor;
use crate::planned::{Job, Output, Results, Source, wrong_output};
use crate::{Batching, InferError, Pictures, RowSelection, ScoredRows, TensorInfo};

impl Session {
    /// Computes the outputs for `inputs`, which come in the order of [`inputs`](Self::inputs) and all have the same
    /// outermost dimension, the batch (with [`Batching::Whole`] whatever shapes the graph declares, scalars too). Outputs come
    /// in the order of [`outputs`](Self::outputs).
    ///
    /// Values are `f32` on both sides; for a model that takes integers they are rounded to the nearest.
    ///
    /// # Errors
    /// `ShapeMismatch` where an input does not fit, `Run` where the computation fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
        let entries = match self.batching {
            Batching::Entries => self.check_inputs(&shapes)?,
            Batching::Whole => self.check_whole(&shapes)?,
        };
        let Some(entries) = entries else {
            let shapes: Vec<_> = inputs.iter().map(|t| t.shape().to_vec()).collect();
            let data: Vec<_> = inputs.iter().map(Tensor::data).collect();
            let outputs = self.compute(&shapes, &data, 1)?;
            return outputs.into_iter().map(|(shape, values)| self.tensor(shape, values)).collect();
        };
        let groups = entries.div_ceil(self.group);
        let shapes: Vec<Vec<usize>> = shapes.iter().map(|shape| [&[self.group], &shape[1..]].concat()).collect();
        let data: Vec<Cow<'_, [f32]>> = inputs.iter().map(|t| self.filled(t, entries, groups)).collect();
        let data: Vec<&[f32]> = data.iter().map(|data| &**data).collect();
        let outputs = self.compute(&shapes, &data, groups)?;
        self.batched_all(outputs, entries)
    }

    /// As [`run`](Self::run), and of the outputs only what `selection` selects: for each entry, of each group of rows those
    /// whose score is high enough. On a GPU nothing else is read back.
    ///
    /// # Errors
    /// As `run`; `ShapeMismatch` where the outputs are not those of the selection, `Selection` for one that contradicts
    /// itself.
    pub fn select(&self, inputs: &[Tensor], selection: &RowSelection) -> Result<Vec<Vec<ScoredRows>>, InferError> {
        self.check_selection(selection)?;
        let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
        let entries = match (&self.runner, self.batching, self.group) {
            (Runner::Planned(_), Batching::Entries, 1) => self.check_inputs(&shapes)?,
            _ => None,
        };
        let Some(entries) = entries else { return self.select_from(&self.run(inputs)?, selection) };
        let shapes: Vec<Vec<usize>> = shapes.iter().map(|shape| [&[1], &shape[1..]].concat()).collect();
        let data: Vec<&[f32]> = inputs.iter().map(Tensor::data).collect();
        let source = Source::Values(&data);
        self.rows(&Job { shapes: &shapes, source, groups: entries, selection: Some(selection) })
    }

    /// Computes the outputs for pictures, of which each is an entry of the only input. On a GPU frames go up as they are and are
    /// made ready there, which gives values within one level of 255 of the CPU's.
    ///
    /// # Errors
    /// As [`run`](Self::run); `Picture` where one can't be taken ([`PicturePart::check`](crate::PicturePart::check)).
    pub fn run_pictures(&self, pictures: &Pictures<'_>) -> Result<Vec<Tensor>, InferError> {
        match self.picture_shapes(pictures)? {
            Some(shapes) => {
                let (source, groups) = (Source::Pictures(*pictures), pictures.parts.len());
                match self.work(&Job { shapes: &shapes, source, groups, selection: None })? {
                    Results::Outputs(outputs) => self.batched_all(outputs, groups),
                    Results::Rows(_) => Err(self.failed("rows were not asked for".into())),
                }
            }
            None => self.run(&[self.made_ready(pictures)?]),
        }
    }

    /// As [`run_pictures`](Self::run_pictures), and of the outputs only what `selection` selects, as [`select`](Self::select)
    /// does it.
    ///
    /// # Errors
    /// Those of the two.
    pub fn select_in_pictures(
        &self,
        pictures: &Pictures<'_>,
        selection: &RowSelection,
    ) -> Result<Vec<Vec<ScoredRows>>, InferError> {
        self.check_selection(selection)?;
        match self.picture_shapes(pictures)? {
            Some(shapes) => {
                let (source, groups) = (Source::Pictures(*pictures), pictures.parts.len());
                self.rows(&Job { shapes: &shapes, source, groups, selection: Some(selection) })
            }
            None => self.select_from(&self.run(&[self.made_ready(pictures)?])?, selection),
        }
    }

    /// Checks the pictures. The shape of one as the input, where a plan takes them one by one.
    fn picture_shapes(&self, pictures: &Pictures<'_>) -> Result<Option<[Vec<usize>; 1]>, InferError> {
        let refused = |reason: String| InferError::Picture { path: self.model.path().into(), reason };
        pictures.check().map_err(refused)?;
        let shape = pictures.shape();
        match self.batching {
            Batching::Entries => self.check_inputs(&[&shape])?,
            Batching::Whole => self.check_whole(&[&shape])?,
        };
        let one_by_one =
            matches!(self.runner, Runner::Planned(_)) && (self.batching, self.group) == (Batching::Entries, 1);
        Ok(one_by_one.then(|| [[&[1], &shape[1..]].concat()]))
    }

    /// The pictures as the input.
    pub(super) fn made_ready(&self, pictures: &Pictures<'_>) -> Result<Tensor, InferError> {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        let input = host.input(pictures);
        let input = input.map_err(|reason| InferError::Picture { path: self.model.path().into(), reason })?;
        self.tensor(pictures.shape().to_vec(), input.to_vec())
    }

    fn check_selection(&self, selection: &RowSelection) -> Result<(), InferError> {
        let invalid = |reason: String| InferError::Selection { path: self.model.path().into(), reason };
        selection.check().map_err(invalid)
    }

    /// Selects from outputs that are there.
    fn select_from(&self, outputs: &[Tensor], selection: &RowSelection) -> Result<Vec<Vec<ScoredRows>>, InferError> {
        let shapes: Vec<&[usize]> = outputs.iter().map(Tensor::shape).collect();
        let entries = shapes.first().and_then(|shape| shape.first().copied()).unwrap_or(0);
        if let Some((output, needed)) = selection.misfit(&shapes, entries) {
            return Err(wrong_output(&self.model, output, shapes.get(output).copied(), &needed));
        }
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(host.select_all(selection, outputs, entries))
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
            Runner::Planned(_) => {
                match self.work(&Job { shapes, source: Source::Values(inputs), groups, selection: None })? {
                    Results::Outputs(outputs) => Ok(outputs),
                    Results::Rows(_) => Err(self.failed("rows were not asked for".into())),
                }
            }
            Runner::Rten { executor, memory, .. } => {
                memory.check(&self.model, &self.inputs, shapes)?;
                self.compute_by_rten(executor, shapes, inputs, groups)
            }
        }
    }

    fn compute_by_rten(
        &self,
        executor: &Executor,
        shapes: &[Vec<usize>],
        inputs: &[&[f32]],
        groups: usize,
    ) -> Result<Vec<Output>, InferError> {
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

    /// Does a job by plan.
    fn work(&self, job: &Job<'_>) -> Result<Results, InferError> {
        match &self.runner {
            Runner::Planned(planned) => {
                let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
                planned.run(&self.model, job, &mut host)
            }
            Runner::Rten { .. } => Err(self.failed("there is no plan".into())),
        }
    }

    fn rows(&self, job: &Job<'_>) -> Result<Vec<Vec<ScoredRows>>, InferError> {
        match self.work(job)? {
            Results::Rows(rows) => Ok(rows),
            Results::Outputs(_) => Err(self.failed("rows were asked for".into())),
        }
    }

    fn batched_all(&self, outputs: Vec<Output>, entries: usize) -> Result<Vec<Tensor>, InferError> {
        outputs.into_iter().zip(&self.outputs).map(|(output, info)| self.batched(output, info, entries)).collect()
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
        Tensor::new(shape, values).map_err(|e| self.failed(e.to_string()))
    }

    fn failed(&self, reason: String) -> InferError {
        InferError::Run { path: self.model.path().into(), reason }
    }

    /// The number of entries that inputs of these shapes hold; `None` for a model without inputs, or with scalars alone.
    fn check_inputs(&self, shapes: &[&[usize]]) -> Result<Option<usize>, InferError> {
        self.check_count(shapes)?;
        let entries = shapes.first().and_then(|shape| shape.first().copied());
        for (shape, info) in shapes.iter().zip(&self.inputs) {
            let fits = info.shape.as_ref().is_none_or(|dims| {
                dims.len() == shape.len()
                    // The batch may be any number; it is split up.
                    && dims.iter().zip(*shape).skip(1).all(|(d, &n)| d.fixed().is_none_or(|d| d == n))
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
    fn check_whole(&self, shapes: &[&[usize]]) -> Result<Option<usize>, InferError> {
        self.check_count(shapes)?;
        for (shape, info) in shapes.iter().zip(&self.inputs) {
            let fits = info.shape.as_ref().is_none_or(|dims| {
                dims.len() == shape.len() && dims.iter().zip(*shape).all(|(d, &n)| d.fixed().is_none_or(|d| d == n))
            });
            if !fits {
                return Err(self.mismatch(format!("input {:?}", info.name), shape, info.shape_text()));
            }
        }
        Ok(None)
    }

    fn check_count(&self, shapes: &[&[usize]]) -> Result<(), InferError> {
        let (found, needed) = (shapes.len(), self.inputs.len());
        if found == needed {
            return Ok(());
        }
        Err(InferError::InputCount { path: self.model.path().into(), found, needed })
    }
}
