use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use nv_core::{Clock as _, Name, SystemClock};
use nv_perception::{Perception, Stage, StageError, StageErrorKind, StageInput, StageOutput, StreamContext};

use super::flow::StepKind;
use super::pipeline::{PipelineStep, PipelineStepKind, StageFactory};
use super::{FeedPipeline, Intake};
use crate::batch::{ClaimRoute, Completion, LaneKey, LaneKind, Point, Reply};
use crate::guard::{Foreign, guard};
use crate::sync::Arc;

/// A step of a running feed.
pub(crate) enum Step {
    Stage(StageStep),
    Batch(BatchStep),
}

/// A stage and what it has been told of the stream.
pub(crate) struct StageStep {
    pub(crate) name: Name,
    stage: Foreign<Box<dyn Stage>>,
    /// Whether it was started, and has not broken since.
    running: bool,
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

/// The feed's lane at a batch point, which it leaves when this is dropped.
pub(crate) struct BatchStep {
    pub(crate) point: Arc<Point>,
    pub(crate) lane: LaneKey,
    pub(crate) reply: Reply,
    /// Slots that the lane has.
    slots: Arc<AtomicUsize>,
    /// Slots that this feed has in use: entries at the point. Claims are counted at the intake.
    pub(crate) used: usize,
    /// Whether the point has refused a frame for want of room. It has room again when something of this feed's has left.
    pub(crate) full: bool,
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
pub(crate) fn attach(
    pipeline: FeedPipeline,
    intake: &Arc<Intake>,
    live: bool,
    weight: u32,
) -> (Vec<Step>, Receiver<Completion>) {
    // Room for each slot's result, twice: once more for results that were given up while they were on their way.
    let most_slots =
        |p: &Arc<Point>| p.config.max_in_flight_per_feed.max(p.config.file_slots(p.config.max_batch_size, 1));
    let (completions, results) = bounded(2 * pipeline.points().map(most_slots).sum::<usize>() + 1);
    let feed = intake.feed().clone();
    let attach = |(index, PipelineStep { name, kind }): (usize, PipelineStep)| match kind {
        PipelineStepKind::Stage { stage, factory } => {
            let stream = StreamContext::new(feed.clone(), name.clone(), 0);
            let tracks = TrackNumbers::default();
            Step::Stage(StageStep { name, stage, running: false, factory, stream, cuts: 0, tracks })
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
            let lane = point.attach(Some(feed.clone()), kind, weight, slots.clone());
            Step::Batch(BatchStep { point, lane, reply, slots, used: 0, full: false, claims: live && index == 0 })
        }
    };
    let steps: Vec<Step> = pipeline.steps.into_iter().enumerate().map(attach).collect();
    // Without a batch point nobody is there to send anything. That is not to look as if everybody had gone: a channel
    // without senders is always ready, and waiting for it would never wait.
    let has_points = steps.iter().any(|s| matches!(s, Step::Batch(_)));
    (steps, if has_points { results } else { crossbeam_channel::never() })
}

impl StageStep {
    /// Calls the stage's `start`.
    pub(crate) fn start(&mut self) -> Result<(), StageError> {
        guard("start", || self.stage.start(&self.stream))?;
        self.running = true;
        Ok(())
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

    /// Whether it was started, and has not broken since.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Builds the stage anew after an error that breaks it.
    pub(crate) fn rebuild(&mut self) -> Result<(), StageError> {
        self.running = false;
        self.stage = Foreign::new(guard("build", || (self.factory)())?);
        self.tracks.restart();
        self.start()
    }
}

impl Drop for StageStep {
    /// Calls the stage's `stop` if it is due.
    fn drop(&mut self) {
        if !self.running {
            return;
        }
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
        !self.full && self.used < self.slots()
    }

    /// Notes that something of this feed's has left the point.
    pub(crate) fn left(&mut self) {
        self.used -= 1;
        self.full = false;
    }
}

impl Drop for BatchStep {
    fn drop(&mut self) {
        self.point.detach(self.lane);
    }
}

/// Whether the stage is to be built anew after this error.
pub(crate) fn breaks_stage(error: &StageError) -> bool {
    matches!(error.kind(), StageErrorKind::Panic | StageErrorKind::DeviceLost | StageErrorKind::Fatal)
}

#[cfg(test)]
mod tests {
    use super::super::QueuePolicy;
    use super::super::intake::IntakeConfig;
    use super::*;

    #[test]
    fn waiting_for_results_waits_where_there_is_no_batch_point() {
        let clock = Arc::new(SystemClock::new());
        let config = IntakeConfig { capacity: 1, policy: QueuePolicy::Block, freshness: None };
        let intake = Arc::new(Intake::new("gate".into(), clock, config, None));
        let (_steps, completions) = attach(FeedPipeline { steps: Vec::new() }, &intake, true, 1);
        assert!(matches!(completions.try_recv(), Err(crossbeam_channel::TryRecvError::Empty)));
    }
}
