//! What this computer's own processor does before and after a run, whatever the run is done on: it makes pictures ready and
//! selects rows where a device does not.

use nv_core::Tensor;

use crate::cpu::{Preprocessor, SimdLevel};
use crate::picture::Pictures;
use crate::rows::{RowSelection, ScoredRows, Selector};

/// Tables and memory for that, kept from run to run.
#[derive(Debug)]
pub(crate) struct Host {
    preprocessor: Preprocessor,
    selector: Selector,
    input: Vec<f32>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let preprocessor = Preprocessor::new(SimdLevel::detect());
        Self { preprocessor, selector: Selector::default(), input: Vec::new() }
    }

    /// Writes a network's input for one of the pictures.
    pub(crate) fn fill(&mut self, pictures: &Pictures<'_>, index: usize, out: &mut [f32]) -> Result<(), String> {
        self.preprocessor.fill(pictures.input, &pictures.parts[index], pictures.size, out)
    }

    /// The input for all of the pictures, one after another.
    pub(crate) fn input(&mut self, pictures: &Pictures<'_>) -> Result<&[f32], String> {
        let mut input = std::mem::take(&mut self.input);
        input.resize(pictures.parts.len() * pictures.values(), 0.0);
        let mut slots = input.chunks_exact_mut(pictures.values());
        let filled = (0..pictures.parts.len()).zip(&mut slots).try_for_each(|(i, slot)| self.fill(pictures, i, slot));
        self.input = input;
        filled.map(|()| &self.input[..])
    }

    /// Selects rows of one entry's outputs.
    pub(crate) fn select(&mut self, selection: &RowSelection, outputs: &[&[f32]]) -> Vec<ScoredRows> {
        self.selector.select(selection, outputs)
    }

    /// Selects rows of outputs that have `entries` entries.
    pub(crate) fn select_all(
        &mut self,
        selection: &RowSelection,
        outputs: &[Tensor],
        entries: usize,
    ) -> Vec<Vec<ScoredRows>> {
        let entry = |i: usize| outputs.iter().map(|output| output.outer(i).unwrap_or_default()).collect::<Vec<_>>();
        (0..entries).map(|i| self.select(selection, &entry(i))).collect()
    }
}
