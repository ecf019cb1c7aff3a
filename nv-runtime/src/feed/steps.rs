use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use nv_core::{Clock as _, Name, SystemClock};
use nv_perception::{Perception, Stage, StageError, StageErrorKind, StageInput, StageOutput, StreamContext};

use super::flow::StepKind;
use super::pipeline::{PipelineStep, PipelineStepKind, StageFactory};
use super::{FeedPipeline, Intake};
use crate::batch::{ClaimRoute, Completion, LaneKey, LaneKind, Point, Reply};
use crate::guard::guard;
use crate::sync::Arc;

/// A step of a running feed.
pub(crate) enum Step {
    Stage(StageStep),
    Batch(BatchStep),
}

/// A stage and what it has been told of the stream.
pub(crate) struct StageStep {
    pub(crate) name: Name,
    stage: Box<dyn Stage>,
    factory: StageFactory,
    stream: StreamContext,
    cuts: u32,
    tracks: TrackNumbers,
}

/// Keeps the numbers of a feed's tracks from being used again by a tracker that was built anew, which counts from its start.
#[derive(Debug, Default)]
struct TrackNumbers {
    /// Added to each number of the stage's.
    base: u64,
    /// The first number that no track has had.
    next: u64,
}

impl TrackNumbers {
    /// The stage was built anew.
    fn restart(&mut self) {
        self.base = self.next;
    }

    fn apply(&mut self, output: &mut StageOutput) {
        let Some(tracks) = &mut output.tracks else { return };
        // What the stage says of tracks in its signals, it says of its own.
        for id in tracks.iter_mut().map(|t| &mut t.id).chain(output.signals.iter_mut().filter_map(|s| s.track.as_mut()))
        {
            id.0 = id.0.saturating_add(self.base);
            self.next = self.next.max(id.0.saturating_add(1));
        }
    }
}

/// The feed's lane at a batch point.
pub(crate) struct BatchStep {
    pub(crate) point: Arc<Point>,
    pub(crate) lane: LaneKey,
    pub(crate) reply: Reply,
    /// Slots that the lane has.
    slots: Arc<AtomicUsize>,
    /// Slots that this feed has in use: entries at the point. Claims are counted at the intake.
    pub(crate) used: usize,
    /// Whether frames are bound at dispatch.
    pub(crate) claims: bool,
}

impl Step {
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Stage(s) => &s.name,
            Self::Batch(b) => &b.point.name,
        }
    }

    pub(crate) fn kind(&self) -> StepKind {
        match self {
            Self::Stage(_) => StepKind::Stage,
            Self::Batch(_) => StepKind::Batch,
        }
    }

    /// The batch point's half, if it is one.
    pub(crate) fn as_batch(&mut self) -> Option<&mut BatchStep> {
        match self {
            Self::Batch(b) => Some(b),
            Self::Stage(_) => None,
        }
    }
}

/// Attaches a pipeline to its batch points. Results of all of them come by one channel.
///
/// Frames are bound at dispatch where a live feed's first step is a batch point: no stage has seen them before.
pub(crate) fn attach(pipeline: FeedPipeline, intake: &Arc<Intake>, live: bool) -> (Vec<Step>, Receiver<Completion>) {
    let points = pipeline.steps.iter().filter_map(|s| match &s.kind {
        PipelineStepKind::Batch(handle) => Some(handle.point()),
        PipelineStepKind::Stage { .. } => None,
    });
    // Room for each slot's result, twice: once more for results that were given up while they were on their way.
    let most_slots =
        |p: &Arc<Point>| p.config.max_in_flight_per_feed.max(p.config.file_slots(p.config.max_batch_size, 1));
    let (completions, results) = bounded(2 * points.map(most_slots).sum::<usize>() + 1);
    let feed = intake.feed().clone();
    let attach = |(index, PipelineStep { name, kind }): (usize, PipelineStep)| match kind {
        PipelineStepKind::Stage { stage, factory } => {
            let stream = StreamContext::new(feed.clone(), name.clone(), 0);
            Step::Stage(StageStep { name, stage, factory, stream, cuts: 0, tracks: TrackNumbers::default() })
        }
        PipelineStepKind::Batch(handle) => {
            let point = handle.point().clone();
            let reply = Reply { completions: completions.clone(), step: index };
            let kind = if live {
                LaneKind::Live(ClaimRoute { intake: intake.clone(), reply: reply.clone() })
            } else {
                LaneKind::File
            };
            let slots = Arc::new(AtomicUsize::new(0));
            let lane = point.attach(kind, slots.clone());
            Step::Batch(BatchStep { point, lane, reply, slots, used: 0, claims: live && index == 0 })
        }
    };
    (pipeline.steps.into_iter().enumerate().map(attach).collect(), results)
}

impl StageStep {
    /// Calls the stage's `start`.
    pub(crate) fn start(&mut self) -> Result<(), StageError> {
        guard("start", || self.stage.start(&self.stream))
    }

    /// Runs the stage on a frame, telling it first of a cut in the stream since the frame before. Returns how long the
    /// stage's `process` took.
    pub(crate) fn process(
        &mut self,
        frame: &nv_core::Frame,
        (session, cuts): (u32, u32),
        perception: &Perception,
        clock: &SystemClock,
    ) -> (Result<StageOutput, StageError>, Duration) {
        if (session, cuts) != (self.stream.session, self.cuts) {
            (self.stream.session, self.cuts) = (session, cuts);
            let told = guard("discontinuity", || {
                self.stage.discontinuity(&self.stream);
                Ok(())
            });
            if let Err(error) = told {
                return (Err(error), Duration::ZERO);
            }
        }
        let started = clock.now();
        let mut result = guard("process", || self.stage.process(&StageInput::new(&self.stream, frame, perception)));
        let took = clock.now().since(started);
        if let Ok(output) = &mut result {
            self.tracks.apply(output);
        }
        (result, took)
    }

    /// Builds the stage anew after a panic.
    pub(crate) fn rebuild(&mut self) -> Result<(), StageError> {
        let stage = guard("build", || (self.factory)())?;
        let broken = std::mem::replace(&mut self.stage, stage);
        self.tracks.restart();
        let dropped = guard("drop", || {
            drop(broken);
            Ok(())
        });
        if let Err(error) = dropped {
            tracing::warn!(feed = %self.stream.feed, step = %self.name, %error, "the broken stage panicked again");
        }
        self.start()
    }

    /// Calls the stage's `stop`.
    pub(crate) fn stop(&mut self) {
        let stopped = guard("stop", || {
            self.stage.stop();
            Ok(())
        });
        if let Err(error) = stopped {
            tracing::warn!(feed = %self.stream.feed, step = %self.name, %error, "the stage failed to stop");
        }
    }
}

impl BatchStep {
    pub(crate) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    pub(crate) fn has_slot(&self) -> bool {
        self.used < self.slots()
    }
}

/// Whether the stage is to be built anew after this error.
pub(crate) fn breaks_stage(error: &StageError) -> bool {
    matches!(error.kind(), StageErrorKind::Panic | StageErrorKind::DeviceLost | StageErrorKind::Fatal)
}
