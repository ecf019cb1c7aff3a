use std::sync::Once;

use nv_infer::{Device, Session, SimdLevel};
use nv_plugin_sdk::tracing;
use nv_plugin_sdk::{
    BatchCapabilities, BatchEntry, Capabilities, DataKind, Size, StageError, StageErrorKind, StageOutput, Tensor,
};

use crate::plan::{NetworkPlan, infer_error};
use crate::preprocess::{Layout, Placement, Preprocessor};

/// A neural network that looks at pictures: what the kinds have in common when they run.
///
/// Takes frames and regions of any size and pixel format in host memory. Each entry's result is bit for bit what the entry gets
/// alone.
pub(crate) struct Network {
    session: Session,
    preprocessor: Preprocessor,
    layout: Layout,
    /// The size that the network is always given; `None`: it follows the picture.
    fixed_size: Option<Size>,
    input: InputBuffer,
}

impl Network {
    /// Makes the network ready.
    ///
    /// # Errors
    /// Those of [`Session::new`].
    pub(crate) fn new(plan: NetworkPlan) -> Result<Self, StageError> {
        let session = Session::new(&plan.model, &plan.options).map_err(infer_error)?;
        say_what_computes(&session);
        Ok(Self {
            session,
            layout: plan.input.layout,
            fixed_size: plan.input.size,
            preprocessor: Preprocessor::new(plan.input),
            input: InputBuffer::default(),
        })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// What a step is that makes `produces` with this network.
    pub(crate) fn capabilities(&self, produces: Vec<DataKind>) -> BatchCapabilities {
        BatchCapabilities {
            step: Capabilities { consumes: Vec::new(), produces, host_pixels: true },
            max_batch: None,
            preferred_batch: Some(self.session.preferred_batch()),
            idempotent: true,
            ..BatchCapabilities::default()
        }
    }

    /// Runs the network on blank pictures, as many as suit it, and has `check` look at the outputs; it is told how many entries
    /// they have, and the size. That is the network's own, or `size` where it takes any; every value of the input is `value`.
    ///
    /// # Errors
    /// The run failed, or `Resource` where the check did.
    pub(crate) fn try_blank(
        &self,
        size: Size,
        value: f32,
        check: impl FnOnce(&[Tensor], usize, Size) -> Result<(), Misfit>,
    ) -> Result<(), StageError> {
        let size = self.fixed_size.unwrap_or(size);
        let entries = self.session.preferred_batch();
        let mut pictures = Tensor::zeros(self.layout.shape(entries, size));
        pictures.data_mut().fill(value);
        let outputs = self.session.run(&[pictures]).map_err(infer_error)?;
        // At the start it is the file that is wrong, whatever the same would mean later.
        check(&outputs, entries, size).map_err(|m| Misfit { kind: StageErrorKind::Resource, ..m }.error(&self.session))
    }

    /// Runs the network on the entries and finishes each with what `read` makes of the outputs; it is told the entry's place in
    /// them, and where the picture was put.
    ///
    /// # Errors
    /// A run failed. What is wrong with one entry is its result.
    pub(crate) fn process(
        &mut self,
        batch: &mut [BatchEntry],
        mut read: impl FnMut(&[Tensor], usize, &Placement, &BatchEntry) -> Result<StageOutput, Misfit>,
    ) -> Result<(), StageError> {
        let group = self.session.preferred_batch();
        let mut next = 0;
        while next < batch.len() {
            // As many entries as suit one run, all of one input size.
            let mut members: Vec<(usize, Placement)> = Vec::with_capacity(group);
            while next < batch.len() && members.len() < group {
                match self.prepare(&batch[next], members.last().map(|(_, at)| at.input), members.len()) {
                    Ok(Some(at)) => members.push((next, at)),
                    Ok(None) => break,
                    Err(e) => batch[next].finish(Err(e)),
                }
                next += 1;
            }
            let Some((_, first)) = members.first() else { continue };
            let tensor = self.input.take(members.len(), self.layout, first.input);
            let inputs = [tensor];
            let outputs = self.session.run(&inputs);
            for notice in self.session.take_notices() {
                tracing::warn!(model = %self.session.model().path().display(), "{notice}");
            }
            let [tensor] = inputs;
            self.input.give_back(tensor);
            // What fails a run is the model or the machine, whichever entry it is: the whole batch failed.
            let outputs = outputs.map_err(infer_error)?;
            for (slot, (index, at)) in members.iter().enumerate() {
                let result = read(&outputs, slot, at, &batch[*index]);
                batch[*index].finish(result.map_err(|misfit| misfit.error(&self.session)));
            }
        }
        Ok(())
    }

    /// Writes the entry's picture to `slot` of the input; `None` where it needs another input size than `size`.
    fn prepare(
        &mut self,
        entry: &BatchEntry,
        size: Option<Size>,
        slot: usize,
    ) -> Result<Option<Placement>, StageError> {
        let frame = entry.frame();
        let at = self.preprocessor.place(frame, entry.region().map(|r| &r.bbox))?;
        if size.is_some_and(|size| size != at.input) {
            return Ok(None);
        }
        let (memory, before) = self.input.slot(slot, at.input);
        self.preprocessor.fill(frame, &at, before.as_ref(), memory)?;
        self.input.filled[slot] = Some(at);
        Ok(Some(at))
    }
}

/// Logs what a model is computed by; of one that our own engine lacks operators for, which.
fn say_what_computes(session: &Session) {
    let model = session.model().path().display();
    let lacking: Vec<String> = session.lacking().iter().map(ToString::to_string).collect();
    if lacking.is_empty() {
        tracing::info!(%model, engine = %session.engine(), device = %session.device(), "computed by our own engine");
    } else {
        tracing::warn!(
            %model,
            "computed by rten on the CPU, which takes several times as long: our own engine lacks {}",
            lacking.join("; ")
        );
    }
    static ONCE: Once = Once::new();
    if session.device() == Device::Cpu {
        ONCE.call_once(
            || tracing::info!(simd = %SimdLevel::detect(), "no GPU is used: models are computed on the CPU"),
        );
    }
}

/// That a network's answer is not what it must be.
pub(crate) struct Misfit {
    kind: StageErrorKind,
    what: String,
}

impl Misfit {
    /// The model answers otherwise than it must: it always will.
    pub(crate) fn model(what: String) -> Self {
        Self { kind: StageErrorKind::Fatal, what }
    }

    /// It has no answer for this picture.
    pub(crate) fn picture(what: String) -> Self {
        Self { kind: StageErrorKind::Input, what }
    }

    fn error(self, session: &Session) -> StageError {
        StageError::new(self.kind, format!("model {}: {}", session.model().path().display(), self.what))
    }
}

/// The memory of the network's input, used again from run to run.
#[derive(Default)]
struct InputBuffer {
    data: Vec<f32>,
    size: Size,
    /// What each slot holds.
    filled: Vec<Option<Placement>>,
}

impl InputBuffer {
    /// The memory of `slot` for inputs of `size`, and what it holds.
    fn slot(&mut self, slot: usize, size: Size) -> (&mut [f32], Option<Placement>) {
        if self.size != size {
            self.size = size;
            self.filled.clear();
        }
        let len = 3 * size.width as usize * size.height as usize;
        if self.filled.len() <= slot {
            self.filled.resize(slot + 1, None);
        }
        if self.data.len() < (slot + 1) * len {
            self.data.resize((slot + 1) * len, 0.0);
        }
        // Until it is filled again it holds nothing that can be relied on.
        let before = self.filled[slot].take();
        (&mut self.data[slot * len..][..len], before)
    }

    /// The first `n` slots as a tensor.
    fn take(&mut self, n: usize, layout: Layout, size: Size) -> Tensor {
        let shape = layout.shape(n, size);
        let mut data = std::mem::take(&mut self.data);
        data.truncate(shape.iter().product());
        self.filled.truncate(n);
        Tensor::new(shape, data).expect("every slot was filled, so the memory has at least this length")
    }

    fn give_back(&mut self, tensor: Tensor) {
        self.data = tensor.into_data();
    }
}
