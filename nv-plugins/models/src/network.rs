use std::sync::Once;

use nv_infer::{Device, PicturePart, Pictures, Session, SimdLevel};
use nv_plugin_sdk::tracing;
use nv_plugin_sdk::{
    BatchCapabilities, BatchEntry, Capabilities, DataKind, Size, StageError, StageErrorKind, StageOutput, Tensor,
};

use crate::plan::{NetworkPlan, infer_error};
use crate::preprocess::{InputSpec, Placement};

/// A neural network that looks at pictures: what the kinds have in common when they run.
///
/// Takes frames and regions of any size and pixel format in host memory. Each entry's result is bit for bit what the entry gets
/// alone.
pub(crate) struct Network {
    session: Session,
    input: InputSpec,
    /// The entries of the next run and where their pictures go: kept for its memory.
    members: Vec<(usize, Placement)>,
}

/// Makes results of what a network gives.
pub(crate) trait Reader {
    /// What it takes of the outputs of one run.
    type Answer;

    /// Runs the network on pictures.
    ///
    /// # Errors
    /// The run failed, or the outputs are not what they must be: it is all entries' error.
    fn ask(&mut self, session: &Session, pictures: &Pictures<'_>) -> Result<Self::Answer, StageError>;

    /// What the answer's entry `slot` says of `entry`, whose picture was put where `at` says.
    fn read(
        &mut self,
        answer: &Self::Answer,
        slot: usize,
        at: &Placement,
        entry: &BatchEntry,
    ) -> Result<StageOutput, Misfit>;
}

/// What a network gave for blank pictures.
pub(crate) struct Trial {
    /// How many there were.
    pub(crate) entries: usize,
    /// Their size.
    pub(crate) size: Size,
    /// They, as the input.
    pub(crate) pictures: [Tensor; 1],
    pub(crate) outputs: Vec<Tensor>,
}

impl Network {
    /// Makes the network ready.
    ///
    /// # Errors
    /// Those of [`Session::new`].
    pub(crate) fn new(plan: NetworkPlan) -> Result<Self, StageError> {
        let session = Session::new(&plan.model, &plan.options).map_err(infer_error)?;
        say_what_computes(&session);
        Ok(Self { session, input: plan.input, members: Vec::new() })
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

    /// Runs the network on blank pictures, as many as suit it. Their size is the network's own, or `size` where it takes any;
    /// every value of the input is `value`.
    ///
    /// # Errors
    /// The run failed.
    pub(crate) fn try_blank(&self, size: Size, value: f32) -> Result<Trial, StageError> {
        let size = self.input.size.unwrap_or(size);
        let entries = self.session.preferred_batch();
        let mut picture = Tensor::zeros(self.input.picture.layout.shape(entries, size));
        picture.data_mut().fill(value);
        let pictures = [picture];
        let outputs = self.session.run(&pictures).map_err(infer_error)?;
        Ok(Trial { entries, size, pictures, outputs })
    }

    /// The error for an answer to blank pictures that is not what it must be.
    pub(crate) fn refused(&self, misfit: Misfit) -> StageError {
        // At the start it is the file that is wrong, whatever the same would mean later.
        Misfit { kind: StageErrorKind::Resource, ..misfit }.error(&self.session)
    }

    /// Runs the network on the entries and finishes each with what `reader` makes of the answer.
    ///
    /// # Errors
    /// A run failed. What is wrong with one entry is its result.
    pub(crate) fn process(&mut self, batch: &mut [BatchEntry], reader: &mut impl Reader) -> Result<(), StageError> {
        let Self { session, input, members } = self;
        let group = session.preferred_batch();
        let mut next = 0;
        while next < batch.len() {
            // As many entries as suit one run, all of one input size.
            members.clear();
            while next < batch.len() && members.len() < group {
                match place(input, &batch[next]) {
                    Ok(at) if members.first().is_some_and(|(_, first)| first.input != at.input) => break,
                    Ok(at) => members.push((next, at)),
                    Err(e) => batch[next].finish(Err(e)),
                }
                next += 1;
            }
            let Some(&(_, Placement { input: size, .. })) = members.first() else { continue };
            let part = |(index, at): &(usize, Placement)| PicturePart {
                frame: batch[*index].frame(),
                source: at.source,
                target: at.target,
            };
            let parts: Vec<PicturePart<'_>> = members.iter().map(part).collect();
            let answer = reader.ask(session, &Pictures { input: &input.picture, size, parts: &parts });
            for notice in session.take_notices() {
                tracing::warn!(model = %session.model().path().display(), "{notice}");
            }
            // What fails a run is the model or the machine, whichever entry it is: the whole batch failed.
            let answer = answer?;
            for (slot, (index, at)) in members.iter().enumerate() {
                let result = reader.read(&answer, slot, at, &batch[*index]);
                batch[*index].finish(result.map_err(|misfit| misfit.error(session)));
            }
        }
        Ok(())
    }
}

/// Where the entry's picture goes.
///
/// # Errors
/// `Input` where its region lies outside the frame, or its pixels can't be read.
fn place(input: &InputSpec, entry: &BatchEntry) -> Result<Placement, StageError> {
    let frame = entry.frame();
    let at = input.place(frame, entry.region().map(|region| &region.bbox))?;
    let part = PicturePart { frame, source: at.source, target: at.target };
    part.check(at.input).map_err(StageError::input)?;
    Ok(at)
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

    /// The same as a step's error.
    pub(crate) fn error(self, session: &Session) -> StageError {
        StageError::new(self.kind, format!("model {}: {}", session.model().path().display(), self.what))
    }
}
