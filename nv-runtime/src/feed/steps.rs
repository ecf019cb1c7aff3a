use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nv_core::{Clock as _, Name};
use nv_perception::{Perception, Stage, StageError, StageErrorKind, StageInput, StageOutput, StreamContext};

use super::cascade::Cascade;
use super::core::CoreStep;
use super::flow::StepKind;
use super::gate::{GateConfig, StepGate};
use super::pipeline::{PipelineStep, PipelineStepKind, StageFactory};
use super::{FeedPipeline, Inbox, Intake};
use crate::batch::{ClaimRoute, Completion, LaneKey, LaneKind, Point, Reply};
use crate::decisions::{DecisionLog, Recorded as _};
use crate::guard::{Foreign, guard};
use crate::sync::{Arc, SystemClock};

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
#[derive(Debug)]
struct TrackNumbers {
    /// Added to each number of the stage's.
    base: u64,
    /// The first number that no track of the feed has had. It outlives the pipeline.
    next: Arc<AtomicU64>,
}

impl TrackNumbers {
    /// For a stage that was just built.
    fn new(next: Arc<AtomicU64>) -> Self {
        Self { base: next.load(Ordering::Relaxed), next }
    }

    /// The stage was built anew.
    fn restart(&mut self) {
        self.base = self.next.load(Ordering::Relaxed);
    }

    fn apply(&mut self, output: &mut StageOutput) {
        let Some(tracks) = &mut output.tracks else { return };
        // What the stage says of tracks in its signals, it says of its own.
        for id in tracks.iter_mut().map(|t| &mut t.id).chain(output.signals.iter_mut().filter_map(|s| s.track.as_mut()))
        {
            // Around the end, where a tracker's numbers are hashes rather than counts: what it tells apart stays apart.
            id.0 = id.0.wrapping_add(self.base);
            self.next.fetch_max(id.0.wrapping_add(1), Ordering::Relaxed);
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
    /// Whether it is a live feed's.
    live: bool,
    /// Whether frames are bound at dispatch.
    claims: bool,
    /// Decides on which frames it runs; `None`: on all.
    pub(crate) gate: Option<Box<StepGate>>,
    /// Picks the regions that it looks at; `None`: it looks at whole frames.
    pub(crate) cascade: Option<Box<Cascade>>,
}

impl Step {
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Stage(s) => &s.name,
            Self::Batch(b) => &b.point.name,
        }
    }

    /// What decides about it.
    pub(crate) fn plan(&self) -> CoreStep {
        match self {
            Self::Stage(_) => {
                let never = Duration::ZERO;
                CoreStep {
                    kind: StepKind::Stage,
                    gated: false,
                    claims: false,
                    response_timeout: never,
                    look_after: never,
                }
            }
            Self::Batch(b) => CoreStep {
                kind: StepKind::Batch,
                gated: b.gate.is_some() || b.cascade.is_some(),
                claims: b.claims,
                response_timeout: b.point.config.response_timeout,
                look_after: b.point.config.look_after(b.live),
            },
        }
    }

    /// Has instances named that are wedged, if it is a batch point.
    pub(crate) fn inspect(&self) {
        if let Self::Batch(b) = self {
            b.point.inspect();
        }
    }

    /// The feed's lane, if it is a batch point.
    pub(crate) fn lane(&self) -> Option<Lane> {
        match self {
            Self::Batch(b) => Some(Lane { point: b.point.clone(), key: b.lane }),
            Self::Stage(_) => None,
        }
    }
}

/// A feed's lane at a batch point.
pub(crate) struct Lane {
    point: Arc<Point>,
    key: LaneKey,
}

impl Lane {
    /// Leaves the batch point. What is there is given up.
    pub(crate) fn leave(&self) {
        self.point.detach(self.key);
    }
}

/// Attaches a pipeline to its batch points. Results of all of them come to `inbox`.
///
/// Frames are bound at dispatch where a live feed's first step is a batch point that runs on every frame: nothing is to be
/// decided about them before.
pub(crate) fn attach(
    pipeline: FeedPipeline,
    intake: &Arc<Intake>,
    inbox: &Arc<Inbox<Completion>>,
    next_track: &Arc<AtomicU64>,
    live: bool,
    weight: u32,
    decisions: Option<&DecisionLog>,
) -> Vec<Step> {
    let feed = intake.feed().clone();
    let attach = |(index, PipelineStep { name, kind, options }): (usize, PipelineStep)| match kind {
        PipelineStepKind::Stage { stage, factory } => {
            let stream = StreamContext::new(feed.clone(), name.clone(), 0);
            let tracks = TrackNumbers::new(next_track.clone());
            Step::Stage(StageStep { name, stage, running: false, factory, stream, cuts: 0, tracks })
        }
        PipelineStepKind::Batch(handle) => {
            let point = handle.point().clone();
            let reply = Reply { inbox: inbox.clone(), step: index };
            let kind = if live {
                LaneKind::Live(ClaimRoute { intake: intake.clone(), reply: reply.clone() })
            } else {
                LaneKind::File
            };
            let slots = Arc::new(AtomicUsize::new(0));
            let lane = point.attach(Some(feed.clone()), kind, weight, slots.clone());
            let called = format!("{feed} {name}");
            let gate = options.has_conditions().then(|| {
                let log = StepGate::begin(&GateConfig::from(&options), decisions, &called);
                Box::new(StepGate::new(&options, log))
            });
            let cascade = options.regions.map(|regions| Box::new(Cascade::new(&feed, name, regions, decisions)));
            let claims = live && index == 0 && gate.is_none() && cascade.is_none();
            Step::Batch(BatchStep { point, lane, reply, slots, live, claims, gate, cascade })
        }
    };
    pipeline.steps.into_iter().enumerate().map(attach).collect()
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
        let result = guard("process", || self.stage.process(&StageInput::new(&self.stream, frame, perception)));
        let took = clock.now().since(started);
        (result, took)
    }

    /// Gives the tracks in an output the numbers that they have in the feed.
    pub(crate) fn number_tracks(&mut self, output: &mut StageOutput) {
        self.tracks.apply(output);
    }

    /// Whether it was started, and has not broken since.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Has its `stop` not called: its feed goes on without it.
    pub(crate) fn disown(&mut self) {
        self.running = false;
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
    use nv_core::BBox;
    use nv_perception::{Track, TrackId, TrackState};

    use super::*;

    #[test]
    fn a_tracker_that_is_built_anew_counts_on_and_hashes_stay_apart() {
        let next = Arc::new(AtomicU64::new(0));
        let mut tracks = TrackNumbers::new(next.clone());
        let mut check = |restart, ids: &[u64], expected: &[u64]| {
            if restart {
                tracks.restart();
            }
            let track = |id: &u64| Track {
                id: TrackId(*id),
                state: TrackState::Confirmed,
                object: None,
                class_id: 0,
                class: None,
                score: 1.0,
                bbox: BBox::new(0.0, 0.0, 1.0, 1.0),
                age: Duration::ZERO,
            };
            let tracked = Some(ids.iter().map(track).collect());
            let mut output = StageOutput { tracks: tracked, ..StageOutput::default() };
            tracks.apply(&mut output);
            assert_eq!(output.tracks.unwrap().iter().map(|t| t.id.0).collect::<Vec<_>>(), expected);
        };
        check(false, &[0, 4], &[0, 4]);
        check(true, &[0, 1], &[5, 6]);
        // Hashes: large, and far apart.
        check(false, &[u64::MAX - 9], &[u64::MAX - 4]);
        check(true, &[u64::MAX - 9, 7], &[u64::MAX - 13, 3]);
    }
}
