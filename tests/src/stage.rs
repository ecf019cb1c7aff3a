use std::sync::Arc;

use nv_perception::{Capabilities, DataKind, Signal, Stage, StageError, StageInput, StageOutput, StreamContext};
use nv_runtime::StageFactory;

struct Scripted<F>(F);

impl<F: FnMut(&StageInput<'_>) -> Result<StageOutput, StageError> + Send> Stage for Scripted<F> {
    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        (self.0)(input)
    }
}

/// Stages that do what `process` says. Each one built gets a clone.
pub fn stage<F>(process: F) -> StageFactory
where
    F: FnMut(&StageInput<'_>) -> Result<StageOutput, StageError> + Send + Sync + Clone + 'static,
{
    Arc::new(move || Ok(Box::new(Scripted(process.clone()))))
}

/// A stage with state: a signal with the number of frames it has seen since it was built or since the stream was cut. It
/// needs objects.
pub fn tally_stage() -> StageFactory {
    Arc::new(|| Ok(Box::new(Tally(0))))
}

struct Tally(i64);

impl Stage for Tally {
    fn capabilities(&self) -> Capabilities {
        Capabilities { consumes: vec![DataKind::Objects], ..Capabilities::default() }
    }

    fn process(&mut self, _: &StageInput<'_>) -> Result<StageOutput, StageError> {
        self.0 += 1;
        Ok(StageOutput { signals: vec![Signal::new("seen", self.0)], ..StageOutput::default() })
    }

    fn discontinuity(&mut self, _: &StreamContext) {
        self.0 = 0;
    }
}
