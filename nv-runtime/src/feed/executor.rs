use std::time::Duration;

use nv_core::{Clock as _, DropReason, Frame, HealthKind, MonoTime, Name};
use nv_perception::{
    BatchEntry, BatchTrace, ObjectId, Perception, Provenance, Region, StageErrorKind, StageOutput, StepTrace,
};

use super::core::{Action, CoreConfig, Failed, FeedCore, FeedPlan};
use super::flow::Turn;
use super::gate::{Gate, StreamPosition};
use super::intake::{Bound, Glance};
use super::outlet::Outlet;
use super::queue::Queued;
use super::steps::{BatchStep, Lane, Step, attach, breaks_stage};
use super::stop::Stop;
use super::watch::{Retired, StageCall, StageWatch};
use super::{FeedEnd, FeedPipeline, FeedShared, Intake, RestartConfig, StepErrorPolicy};
use crate::batch::{BatchError, Completion, EntryKey, Refusal, empty_perception};
use crate::decisions::Recorded as _;
use crate::health::HealthHub;
use crate::sync::{Arc, Mutex, SystemClock};

/// The event loop of a feed: frames, completions and a stop in; stage calls, submissions and outputs out. What is to be done
/// next is [`FeedCore`]'s to say.
pub(crate) struct Executor {
    name: Name,
    clock: Arc<SystemClock>,
    shared: Arc<FeedShared>,
    health: HealthHub,
    intake: Arc<Intake>,
    steps: Vec<Step>,
    core: FeedCore<Work>,
    outlet: Arc<Mutex<Outlet>>,
    watch: Arc<StageWatch>,
    live: bool,
    glance: Glance,
    completions: Vec<Completion>,
    /// Whether frames come in, as the batch points were last told.
    running: bool,
    restart: RestartConfig,
    stop: Option<Stop>,
}

/// How an executor's run came to its end.
#[derive(Debug)]
pub(crate) enum Finish {
    /// The source has ended and what it gave has left.
    Ended,
    /// It was stopped, and what was left after the drain was dropped.
    Stopped,
    /// The feed can't go on. Every frame has ended.
    Failed(FeedEnd),
    /// A call of a stage lasted so long that the pipeline was given up meanwhile: its frames are others' by now.
    Retired,
}

/// Why the event loop is left.
enum Leave {
    Failed(FeedEnd),
    Retired,
}

impl From<Retired> for Leave {
    fn from(_: Retired) -> Self {
        Self::Retired
    }
}

/// A frame inside the pipeline.
struct Work {
    frame: Frame,
    session: u32,
    cuts: u32,
    /// How long it was held in the queue.
    queue: Duration,
    perception: Arc<Perception>,
    traces: Vec<StepTrace>,
    /// What the batch point that it is at is to look at, and has found so far.
    at_point: AtPoint,
}

/// A frame's part in a batch point.
#[derive(Default)]
struct AtPoint {
    /// The id that the entry's first object was to have.
    first_id: ObjectId,
    /// What was picked to be looked at, in the order of the parts; empty for the whole frame.
    regions: Vec<Region>,
    /// What was found in the whole frame.
    whole: Option<StageOutput>,
    /// What was found in its regions, part by part.
    found: Vec<(u32, StageOutput)>,
    /// Its batch, or for several parts that of the last, and the longest of their computations.
    trace: Option<(BatchTrace, Duration)>,
}

/// What an executor is made of.
pub(crate) struct ExecutorParts {
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) health: HealthHub,
    pub(crate) intake: Arc<Intake>,
    pub(crate) pipeline: FeedPipeline,
    pub(crate) outlet: Arc<Mutex<Outlet>>,
    pub(crate) watch: Arc<StageWatch>,
    pub(crate) live: bool,
    pub(crate) max_in_pipeline: Option<usize>,
    pub(crate) weight: u32,
    pub(crate) on_step_error: StepErrorPolicy,
    pub(crate) restart: RestartConfig,
}

impl Executor {
    /// Attaches the pipeline to its batch points. It leaves them when the executor is dropped.
    pub(crate) fn new(parts: ExecutorParts) -> Self {
        let ExecutorParts { shared, health, intake, pipeline, outlet, watch, live, restart, .. } = parts;
        let steps =
            attach(pipeline, &intake, &shared.inbox, &shared.next_track, live, parts.weight, shared.decisions.as_ref());
        let config = CoreConfig { live, max_in_pipeline: parts.max_in_pipeline, on_step_error: parts.on_step_error };
        let plan = FeedPlan { config, steps: steps.iter().map(Step::plan).collect() };
        let log = FeedCore::<()>::begin(&plan, shared.decisions.as_ref(), &shared.name);
        let mut core = FeedCore::new(plan.config, plan.steps);
        core.set_log(log);
        Self {
            name: shared.name.clone(),
            clock: shared.clock.clone(),
            core,
            shared,
            health,
            intake,
            steps,
            outlet,
            watch,
            live,
            glance: Glance::default(),
            completions: Vec::new(),
            running: true,
            restart,
            stop: None,
        }
    }

    /// Starts the stages.
    ///
    /// # Errors
    /// One could not be started.
    pub(crate) fn start(&mut self) -> Result<(), Finish> {
        for (index, step) in self.steps.iter_mut().enumerate() {
            let Step::Stage(stage) = step else { continue };
            let call = StageCall { step: index, name: stage.name.clone(), seq: None, since: self.clock.now() };
            match self.watch.during(call, || stage.start()) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(Finish::Failed(FeedEnd::StageFailed { step: stage.name.clone(), error }));
                }
                Err(Retired) => return Err(self.retire()),
            }
        }
        Ok(())
    }

    /// The lanes that it has at batch points, for whoever has to leave them in its stead.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        self.steps.iter().filter_map(Step::lane).collect()
    }

    /// Runs until every frame has ended.
    pub(crate) fn run(&mut self) -> Finish {
        loop {
            self.look();
            loop {
                let now = self.clock.now();
                let (may_emit, call_at) = {
                    let mut outlet = self.outlet.lock();
                    outlet.call(now);
                    (outlet.is_free(), outlet.call_at())
                };
                let action = self.core.next(now, may_emit);
                match action {
                    Action::Wait(deadline) => {
                        if let Some(seen) = self.core.awaits_frames()
                            && !self.intake.await_frame(seen)
                        {
                            break;
                        }
                        let until = deadline.into_iter().chain(call_at).min();
                        self.shared.inbox.wait(until.map(|at| self.clock.instant(at)));
                        break;
                    }
                    Action::Finish => return Finish::Ended,
                    Action::Abandon => {
                        self.abandon_all();
                        return Finish::Stopped;
                    }
                    _ => {}
                }
                match self.act(action) {
                    Ok(Then::GoOn) => {}
                    // It may have taken long.
                    Ok(Then::Look) => break,
                    Err(Leave::Retired) => return self.retire(),
                    Err(Leave::Failed(end)) => {
                        self.abandon_all();
                        return Finish::Failed(end);
                    }
                }
            }
        }
    }

    // --- Events in.

    /// Takes in what has happened: a stop, results, frames that claims stood for, what waits.
    fn look(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.shared.inbox.take(&mut completions);
        self.stop = self.shared.stop.get();
        if let Some(stop) = self.stop {
            self.core.stop_at(stop.deadline);
        }
        self.outlet.lock().flush();
        for (index, step) in self.steps.iter().enumerate() {
            if let Step::Batch(batch) = step {
                self.core.set_slots(index, batch.slots());
            }
        }
        // Before the results: a claim's frame is known before its result can be there.
        self.look_at_intake();
        for completion in completions.drain(..) {
            self.completed(completion);
        }
        self.completions = completions;
    }

    fn look_at_intake(&mut self) {
        self.intake.glance(&mut self.glance);
        for frame in self.glance.superseded.drain(..) {
            tracing::debug!(feed = %self.name, seq = frame.seq(), reason = %DropReason::Superseded, "frame dropped");
        }
        let mut bound = std::mem::take(&mut self.glance.bound);
        for bound in bound.drain(..) {
            self.take_bound(bound);
        }
        self.glance.bound = bound;
        self.core.look(self.glance.queued, self.glance.claims, self.glance.ended);
        if self.running && !self.glance.running {
            for step in &self.steps {
                if let Step::Batch(batch) = step {
                    batch.point.source_ended(batch.lane);
                }
            }
        }
        self.running = self.glance.running;
    }

    /// Takes in a frame that is at work at the first step already, or that the batch point could not take.
    fn take_bound(&mut self, Bound { queued, at, outcome }: Bound) {
        let seq = queued.frame.seq();
        let work = Work::new(queued, at);
        match outcome {
            Ok(key) => self.core.bound(seq, at, key, work),
            Err(reason) => {
                self.core.claim_voided(seq, work);
                self.step_failed(seq, 0, reason);
            }
        }
    }

    /// Takes a result in. One whose frame was given up is discarded.
    fn completed(&mut self, completion: Completion) {
        let Completion { step, key, part, result, trace } = completion;
        let Some(seq) = self.core.find(step, key) else { return };
        let Some(work) = self.core.get_mut(seq) else { return };
        if let Some((batch, took)) = trace {
            let longest = work.at_point.trace.map_or(took, |(_, longest)| longest.max(took));
            work.at_point.trace = Some((batch, longest));
        }
        let took = trace.map_or(Duration::ZERO, |t| t.1);
        match result {
            Ok(output) => {
                if work.at_point.regions.is_empty() {
                    work.at_point.whole = Some(output);
                } else {
                    work.at_point.found.push((part, output));
                }
                let last = self.core.answered(seq);
                self.count(step, u64::from(last), 0, took);
            }
            Err(error) => {
                tracing::debug!(feed = %self.name, seq, %error, "a batch point failed a frame");
                self.count(step, 0, 1, took);
                self.answered_badly(seq, step, &error);
            }
        }
    }

    fn answered_badly(&mut self, seq: u64, step: usize, error: &BatchError) {
        if let Failed::Dropped { abandon } = self.core.answered_badly(seq) {
            if let (Some(key), Some(Step::Batch(batch))) = (abandon, self.steps.get(step)) {
                batch.point.abandon(key, false);
            }
            self.lost(seq, step);
            self.intake.drop_frame(seq, error.drop_reason(), self.steps.get(step).map(Step::name));
        }
    }

    // --- Actions out.

    fn act(&mut self, action: Action) -> Result<Then, Leave> {
        match action {
            Action::Take => match self.intake.pop() {
                Some(queued) => self.core.enter(queued.frame.seq(), Work::new(queued, self.clock.now())),
                None => self.core.nothing_queued(),
            },
            Action::Claim { count } => {
                self.claim(count);
                // What was claimed may be bound by now.
                return Ok(Then::Look);
            }
            Action::Check { seq, step, key } => self.check(seq, step, key),
            Action::Rebuild => return self.rebuild().map(|()| Then::Look),
            Action::Turn(Turn::RunStage { seq, step }) => return self.run_stage(seq, step).map(|()| Then::Look),
            Action::Turn(Turn::Gate { seq, step }) => self.gate(seq, step),
            Action::Turn(Turn::Submit { seq, step }) => self.submit(seq, step),
            Action::Turn(Turn::Merge { seq, step }) => self.merge_found(seq, step),
            Action::Turn(Turn::Emit { seq }) => self.emit(seq),
            // The loop's own.
            Action::Abandon | Action::Finish | Action::Wait(_) => {}
        }
        Ok(Then::GoOn)
    }

    fn claim(&mut self, count: usize) {
        let Some(Step::Batch(batch)) = self.steps.first() else { return };
        // Counted before they are made, since they may be bound the moment they are.
        self.intake.add_claims(count);
        let (made, refusal) = batch.point.claim(batch.lane, count, self.glance.next_due);
        match refusal {
            None => {}
            Some(Refusal::NoLane) => self.intake.void_claims(count - made, DropReason::Shutdown),
            Some(Refusal::Down) => self.intake.void_claims(count - made, DropReason::Unavailable),
            Some(Refusal::Full | Refusal::NoSlot) => self.intake.return_claims(count - made),
        }
        self.core.claimed(self.clock.now(), made, refusal);
    }

    /// Gives a frame up that its batch point has not answered in time.
    fn check(&mut self, seq: u64, step: usize, key: EntryKey) {
        let Some(Step::Batch(batch)) = self.steps.get(step) else { return };
        let dispatched = batch.point.dispatched_at(key);
        if !self.core.checked(self.clock.now(), seq, dispatched) {
            return;
        }
        batch.point.abandon(key, true);
        let (name, limit) = (batch.point.name.clone(), batch.point.config.response_timeout);
        self.health.report(Some(&self.name), HealthKind::BatchTimeout { batch: name, limit });
        self.step_failed(seq, step, DropReason::Timeout);
    }

    fn run_stage(&mut self, seq: u64, step: usize) -> Result<(), Leave> {
        let Some(Step::Stage(stage)) = self.steps.get_mut(step) else { return Ok(()) };
        let Some(work) = self.core.get_mut(seq) else { return Ok(()) };
        let first_id = work.perception.next_object_id();
        let span = tracing::debug_span!("stage", feed = %self.name, step = %stage.name, seq);
        let call = StageCall { step, name: stage.name.clone(), seq: Some(seq), since: self.clock.now() };
        let (result, took) = self.watch.during(call, || {
            span.in_scope(|| stage.process(&work.frame, (work.session, work.cuts), &work.perception, &self.clock))
        })?;
        work.traces.push(StepTrace { step: stage.name.clone(), duration: took, batch: None });
        match result {
            Ok(output) => {
                Arc::make_mut(&mut work.perception).merge(&stage.name, first_id, output);
                self.count(step, 1, 0, took);
                self.core.passed(seq);
                Ok(())
            }
            Err(error) => {
                let panicked = error.kind() == StageErrorKind::Panic;
                let name = stage.name.clone();
                tracing::debug!(feed = %self.name, step = %name, seq, %error, detail = error.detail(), "stage failed");
                let kind = HealthKind::StageFailed { step: name.clone(), panicked, error: error.to_string() };
                self.health.report(Some(&self.name), kind);
                let rebuilt = if breaks_stage(&error) {
                    let call = StageCall { step, name: name.clone(), seq: None, since: self.clock.now() };
                    self.watch.during(call, || stage.rebuild())?
                } else {
                    Ok(())
                };
                self.count(step, 0, 0, took);
                self.step_failed(seq, step, if panicked { DropReason::StagePanic } else { DropReason::StageError });
                rebuilt.or_else(|error| self.restart_after(FeedEnd::StageFailed { step: name, error }))
            }
        }
    }

    /// Decides whether a batch point runs on a frame, and on what of it.
    fn gate(&mut self, seq: u64, step: usize) {
        let (Some(Step::Batch(batch)), Some(work)) = (self.steps.get_mut(step), self.core.get_mut(seq)) else { return };
        let at = work.position();
        let gate = batch.gate.as_mut().map_or(Gate::Run, |gate| gate.decide(at, &work.perception));
        let mut run = gate == Gate::Run;
        if let Some(cascade) = batch.cascade.as_mut().filter(|_| run) {
            let limit = batch.point.config.max_regions_per_frame;
            work.at_point.regions = cascade.select(at, &work.perception, work.frame.size(), limit);
            run = !work.at_point.regions.is_empty();
        }
        self.core.gated(seq, run);
        if gate == Gate::Skip {
            self.shared.progress.lock().skipped(step);
        }
    }

    fn submit(&mut self, seq: u64, step: usize) {
        let (Some(Step::Batch(batch)), Some(work)) = (self.steps.get(step), self.core.get_mut(seq)) else { return };
        work.at_point.first_id = work.perception.next_object_id();
        let entry = |region: Option<Region>| {
            let perception = Arc::clone(&work.perception);
            BatchEntry::new(self.name.clone(), work.session, work.frame.clone(), region, perception)
        };
        let (point, lane, next_due) = (&batch.point, batch.lane, self.glance.next_due);
        let parts = work.at_point.regions.len().max(1);
        let submitted = if work.at_point.regions.is_empty() {
            point.submit(lane, entry(None), batch.reply.clone(), next_due)
        } else {
            let entries = work.at_point.regions.iter().cloned().map(|region| entry(Some(region)));
            point.submit_regions(lane, entries, &batch.reply, next_due)
        };
        match submitted {
            Ok(key) => self.core.submitted(self.clock.now(), seq, key, parts as u32),
            Err(Refusal::Full | Refusal::NoSlot) => self.core.no_room(step),
            Err(refusal @ (Refusal::NoLane | Refusal::Down)) => {
                let reason = if refusal == Refusal::Down { DropReason::Unavailable } else { DropReason::Shutdown };
                self.step_failed(seq, step, reason);
            }
        }
    }

    /// Takes in what a batch point found in a frame, now that it is the frame's turn.
    fn merge_found(&mut self, seq: u64, step: usize) {
        let (Some(step), Some(work)) = (self.steps.get_mut(step), self.core.get_mut(seq)) else { return };
        let AtPoint { first_id, regions, whole, mut found, trace } = std::mem::take(&mut work.at_point);
        if let Some((batch, duration)) = trace {
            work.traces.push(StepTrace { step: step.name().clone(), duration, batch: Some(batch) });
        }
        let at = work.position();
        if let Step::Batch(BatchStep { cascade: Some(cascade), .. }) = step {
            found.sort_unstable_by_key(|(part, _)| *part);
            let mut found = found.into_iter().peekable();
            let result = |(part, region)| (region, found.next_if(|f| f.0 as usize == part).map(|f| f.1));
            let results = regions.into_iter().enumerate().map(result).collect();
            cascade.attach(at, Arc::make_mut(&mut work.perception), results);
        } else if let Some(output) = whole {
            Arc::make_mut(&mut work.perception).merge(step.name(), first_id, output);
        }
        self.core.passed(seq);
    }

    fn emit(&mut self, seq: u64) {
        let Some(work) = self.core.emitted(seq) else { return };
        // Refused where a watchdog has given the frame up.
        if !self.intake.emit(seq) {
            return;
        }
        let Work { frame, session, queue, perception, traces, .. } = work;
        let (received, emitted) = (frame.received(), self.clock.now());
        self.shared.progress.lock().emitted(received, emitted);
        let provenance = Provenance { received, emitted, queue, steps: traces };
        self.outlet.lock().send(session, frame, Arc::unwrap_or_clone(perception), provenance);
    }

    // --- Restarts.

    /// Prepares a restart after a stage broke for good: what is inside is dropped, and frames are kept out until the stage
    /// is built anew.
    ///
    /// # Errors
    /// There is none: the feed ends so.
    fn restart_after(&mut self, end: FeedEnd) -> Result<(), Leave> {
        let at = self.shared.restart_after(&self.health, &self.restart, self.live, end).map_err(Leave::Failed)?;
        self.core.restart_at(at);
        self.intake.set_restarting(true);
        self.look_at_intake();
        self.drop_inside(DropReason::FeedRestarted);
        Ok(())
    }

    /// Builds broken stages anew.
    ///
    /// # Errors
    /// One can't be, and there is no further restart: the feed ends so.
    fn rebuild(&mut self) -> Result<(), Leave> {
        for (index, step) in self.steps.iter_mut().enumerate() {
            let Step::Stage(stage) = step else { continue };
            if stage.is_running() {
                continue;
            }
            let call = StageCall { step: index, name: stage.name.clone(), seq: None, since: self.clock.now() };
            if let Err(error) = self.watch.during(call, || stage.rebuild())? {
                let step = stage.name.clone();
                return self.restart_after(FeedEnd::StageFailed { step, error });
            }
        }
        self.core.rebuilt();
        self.intake.set_restarting(false);
        Ok(())
    }

    // --- Ends.

    /// Ends a frame whose step failed, or passes it on without that step's results.
    fn step_failed(&mut self, seq: u64, step: usize, reason: DropReason) {
        self.count(step, 0, 1, Duration::ZERO);
        if let Failed::Dropped { .. } = self.core.failed(seq) {
            self.lost(seq, step);
            self.intake.drop_frame(seq, reason, self.steps.get(step).map(Step::name));
        }
    }

    /// Drops whatever is inside: time is up, or the feed failed.
    fn abandon_all(&mut self) {
        let reason = self.stop.map_or(DropReason::FeedStopped, |s| s.reason);
        self.intake.close(reason);
        self.look_at_intake();
        self.drop_inside(reason);
    }

    /// Drops the frames in the pipeline.
    fn drop_inside(&mut self, reason: DropReason) {
        while let Some((seq, step, key, _work)) = self.core.evict() {
            if let (Some(key), Some(Step::Batch(batch))) = (key, self.steps.get(step)) {
                batch.point.abandon(key, false);
            }
            self.lost(seq, step);
            let step = self.steps.get(step);
            self.intake.drop_frame(seq, reason, step.map(Step::name));
        }
    }

    /// Notes that a frame ends at a step that it has not passed.
    fn lost(&mut self, seq: u64, step: usize) {
        if let Some(Step::Batch(BatchStep { cascade: Some(cascade), .. })) = self.steps.get_mut(step) {
            cascade.lost(seq);
        }
    }

    /// Ends without touching anything that others share.
    fn retire(&mut self) -> Finish {
        for step in &mut self.steps {
            if let Step::Stage(stage) = step {
                stage.disown();
            }
        }
        Finish::Retired
    }

    // --- Small things.

    fn count(&self, step: usize, processed: u64, failed: u64, took: Duration) {
        let mut progress = self.shared.progress.lock();
        if let Some(stats) = progress.steps.get_mut(step) {
            stats.processed += processed;
            stats.failed += failed;
            stats.busy += took;
        }
    }
}

/// What the event loop does after an action.
enum Then {
    GoOn,
    /// Look what has happened meanwhile.
    Look,
}

impl Work {
    fn position(&self) -> StreamPosition {
        let Self { session, cuts, .. } = *self;
        StreamPosition { seq: self.frame.seq(), pts: self.frame.pts(), session, cuts }
    }

    fn new(queued: Queued, taken: MonoTime) -> Self {
        let Queued { frame, session, cuts, .. } = queued;
        Self {
            queue: taken.since(frame.received()),
            frame,
            session,
            cuts,
            perception: empty_perception(),
            traces: Vec::new(),
            at_point: AtPoint::default(),
        }
    }
}
