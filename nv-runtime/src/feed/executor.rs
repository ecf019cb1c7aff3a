use std::time::Duration;

use crossbeam_channel::{Receiver, Select};
use nv_core::{Clock as _, DropReason, Frame, HealthKind, MonoTime, Name, SystemClock};
use nv_perception::{BatchEntry, ObjectId, Perception, Provenance, StageErrorKind, StageOutput, StepTrace};

use super::flow::{Action, Flow};
use super::intake::{Bound, Glance};
use super::outlet::Outlet;
use super::queue::Queued;
use super::steps::{Step, attach, breaks_stage};
use super::stop::Stop;
use super::{FeedEnd, FeedPipeline, FeedShared, Intake, RestartConfig, StepErrorPolicy};
use crate::batch::{Completion, EntryKey, Refusal, empty_perception};
use crate::health::HealthHub;
use crate::sync::Arc;

/// The event loop of a feed: frames, completions and a stop in; stage calls, submissions and outputs out. What may happen
/// next to which frame is [`Flow`]'s to say.
pub(crate) struct Executor {
    name: Name,
    clock: Arc<SystemClock>,
    shared: Arc<FeedShared>,
    health: HealthHub,
    intake: Arc<Intake>,
    steps: Vec<Step>,
    completions: Receiver<Completion>,
    flow: Flow<Work>,
    outlet: Outlet,
    live: bool,
    max_in_pipeline: Option<usize>,
    on_step_error: StepErrorPolicy,
    glance: Glance,
    /// Whether frames come in, as the batch points were last told.
    running: bool,
    restart: RestartConfig,
    /// When a broken stage is built anew; frames are kept out until then.
    restart_at: Option<MonoTime>,
    stop: Option<Stop>,
}

/// How an executor's run came to its end. Whatever it was, every frame has ended.
#[derive(Debug)]
pub(crate) enum Finish {
    /// The source has ended and what it gave has left.
    Ended,
    /// It was stopped, and what was left after the drain was dropped.
    Stopped,
    /// The feed can't go on.
    Failed(FeedEnd),
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
    /// While it is at a batch point.
    at_point: Option<AtPoint>,
}

struct AtPoint {
    step: usize,
    key: EntryKey,
    /// The id that the entry's first object was to have.
    first_id: ObjectId,
    /// When to look whether the answer is overdue.
    check_at: MonoTime,
}

/// What an executor is made of.
pub(crate) struct ExecutorParts {
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) health: HealthHub,
    pub(crate) intake: Arc<Intake>,
    pub(crate) pipeline: FeedPipeline,
    pub(crate) outlet: Outlet,
    pub(crate) live: bool,
    pub(crate) max_in_pipeline: Option<usize>,
    pub(crate) weight: u32,
    pub(crate) on_step_error: StepErrorPolicy,
    pub(crate) restart: RestartConfig,
}

impl Executor {
    /// Attaches the pipeline to its batch points. It leaves them when the executor is dropped.
    pub(crate) fn new(parts: ExecutorParts) -> Self {
        let ExecutorParts {
            shared,
            health,
            intake,
            pipeline,
            outlet,
            live,
            max_in_pipeline,
            weight,
            on_step_error,
            restart,
        } = parts;
        let (steps, completions) = attach(pipeline, &intake, live, weight);
        Self {
            name: shared.name.clone(),
            clock: shared.clock.clone(),
            flow: Flow::new(steps.iter().map(Step::kind).collect()),
            shared,
            health,
            intake,
            steps,
            completions,
            outlet,
            live,
            max_in_pipeline,
            on_step_error,
            glance: Glance::default(),
            running: true,
            restart,
            restart_at: None,
            stop: None,
        }
    }

    /// Starts the stages.
    pub(crate) fn start(&mut self) -> Result<(), FeedEnd> {
        for step in &mut self.steps {
            if let Step::Stage(stage) = step {
                stage.start().map_err(|error| FeedEnd::StageFailed { step: stage.name.clone(), error })?;
            }
        }
        Ok(())
    }

    /// Runs until every frame has ended.
    pub(crate) fn run(&mut self) -> Finish {
        self.stop = self.shared.stop.get();
        loop {
            if self.shared.stop.wakeups().try_recv().is_ok() {
                self.stop = self.shared.stop.get();
            }
            while let Ok(completion) = self.completions.try_recv() {
                self.completed(completion);
            }
            self.look();
            if self.stop.is_some_and(|s| s.deadline <= self.clock.now()) && !self.is_finished() {
                self.abandon_all();
                return Finish::Stopped;
            }
            if let Err(end) = self.restart_if_due() {
                self.abandon_all();
                return Finish::Failed(end);
            }
            self.outlet.flush();
            let filled = self.fill();
            match self.next_action() {
                Some(action) => {
                    if let Err(end) = self.act(action).or_else(|end| self.restart_after(end)) {
                        self.abandon_all();
                        return Finish::Failed(end);
                    }
                }
                None if filled => {}
                None if self.is_finished() => return Finish::Ended,
                None => self.wait(),
            }
        }
    }

    // --- Events in.

    /// Looks at the intake, and takes in frames that claims stood for.
    fn look(&mut self) {
        self.intake.glance(&mut self.glance);
        for frame in self.glance.superseded.drain(..) {
            tracing::debug!(feed = %self.name, seq = frame.seq(), reason = %DropReason::Superseded, "frame dropped");
        }
        let mut bound = std::mem::take(&mut self.glance.bound);
        for bound in bound.drain(..) {
            self.take_bound(bound);
        }
        self.glance.bound = bound;
        if self.running && !self.glance.running {
            for step in &mut self.steps {
                if let Step::Batch(batch) = step {
                    batch.point.source_ended(batch.lane);
                }
            }
        }
        self.running = self.glance.running;
        self.check_overdue();
    }

    /// Takes in a frame that is at work at the first step already, or that the batch point could not take.
    fn take_bound(&mut self, Bound { queued, at, outcome }: Bound) {
        let seq = queued.frame.seq();
        let mut work = Work::new(queued, at);
        if let (Ok(key), Some(batch)) = (outcome, self.steps.first_mut().and_then(Step::as_batch)) {
            batch.used += 1;
            batch.full = false;
            let check_at = at + batch.point.config.response_timeout;
            work.at_point = Some(AtPoint { step: 0, key, first_id: ObjectId(0), check_at });
        }
        self.flow.enter_submitted(seq, work);
        if let Err(reason) = outcome {
            self.count(0, false, Duration::ZERO);
            self.step_failed(seq, 0, reason);
        }
    }

    /// Takes a result in. One whose frame was given up is discarded.
    fn completed(&mut self, completion: Completion) {
        // A claim's frame is known before its result can be here; make sure that it has been looked at.
        self.look();
        let Completion { step, key, part: _, result, trace } = completion;
        let is_it = |w: &Work| w.at_point.as_ref().is_some_and(|p| p.key == key && p.step == step);
        let Some(seq) = self.flow.iter_mut().find(|(_, w)| is_it(w)).map(|(seq, _)| seq) else { return };
        if let Some(batch) = self.steps.get_mut(step).and_then(Step::as_batch) {
            batch.left();
        }
        let Some(work) = self.flow.get_mut(seq) else { return };
        let first_id = work.at_point.take().map_or(ObjectId(0), |p| p.first_id);
        if let Some((batch, took)) = trace {
            work.traces.push(StepTrace { step: self.steps[step].name().clone(), duration: took, batch: Some(batch) });
        }
        let took = trace.map_or(Duration::ZERO, |t| t.1);
        self.count(step, result.is_ok(), took);
        match result {
            Ok(output) => {
                self.merge(seq, step, first_id, output);
                self.flow.computed(seq);
            }
            Err(error) => {
                tracing::debug!(feed = %self.name, seq, %error, "a batch point failed a frame");
                self.step_failed(seq, step, error.drop_reason());
            }
        }
    }

    /// Gives up frames that a batch point has not answered in time.
    fn check_overdue(&mut self) {
        let now = self.clock.now();
        let mut overdue = Vec::new();
        for (seq, work) in self.flow.iter_mut() {
            let Some(at) = work.at_point.as_mut().filter(|p| p.check_at <= now) else { continue };
            let Some(Step::Batch(batch)) = self.steps.get(at.step) else { continue };
            let limit = batch.point.config.response_timeout;
            match batch.point.dispatched_at(at.key) {
                Some(dispatched) if dispatched + limit <= now => overdue.push((seq, at.step, at.key)),
                Some(dispatched) => at.check_at = dispatched + limit,
                // The limit runs from dispatch.
                None => at.check_at = now + limit,
            }
        }
        for (seq, step, key) in overdue {
            if let Some(work) = self.flow.get_mut(seq) {
                work.at_point = None;
            }
            if let Some(batch) = self.steps.get_mut(step).and_then(Step::as_batch) {
                batch.left();
                batch.point.abandon(key, true);
                let (name, limit) = (batch.point.name.clone(), batch.point.config.response_timeout);
                self.health.report(Some(&self.name), HealthKind::BatchTimeout { batch: name, limit });
            }
            self.count(step, false, Duration::ZERO);
            self.step_failed(seq, step, DropReason::Timeout);
        }
    }

    // --- Actions out.

    /// Takes frames in as far as there is room. True if something was taken or given up.
    fn fill(&mut self) -> bool {
        let room = self.limit().saturating_sub(self.flow.len() + self.glance.claims);
        if let Some(Step::Batch(batch)) = self.steps.first_mut()
            && batch.claims
        {
            let at_point = batch.used + self.glance.claims;
            batch.full &= at_point > 0;
            let free = if batch.full { 0 } else { batch.slots().saturating_sub(at_point) };
            let wanted = self.glance.queued.saturating_sub(self.glance.claims).min(room).min(free);
            if wanted == 0 {
                return false;
            }
            // Counted before they are made, since they may be bound the moment they are.
            self.intake.add_claims(wanted);
            let (made, refusal) = batch.point.claim(batch.lane, wanted, self.glance.next_due);
            match refusal {
                None => {}
                Some(Refusal::NoLane) => self.intake.void_claims(wanted - made, DropReason::Shutdown),
                Some(Refusal::Down) => self.intake.void_claims(wanted - made, DropReason::Unavailable),
                Some(Refusal::Full | Refusal::NoSlot) => {
                    batch.full = true;
                    self.intake.return_claims(wanted - made);
                }
            }
            return true;
        }
        if room == 0 || self.glance.queued == 0 {
            return false;
        }
        let Some(queued) = self.intake.pop() else { return false };
        self.glance.queued -= 1;
        self.flow.enter(queued.frame.seq(), Work::new(queued, self.clock.now()));
        true
    }

    fn next_action(&self) -> Option<Action> {
        let has_slot = |step: usize| matches!(self.steps.get(step), Some(Step::Batch(b)) if b.has_slot());
        self.flow.next_action(has_slot, self.outlet.is_free())
    }

    fn act(&mut self, action: Action) -> Result<(), FeedEnd> {
        match action {
            Action::RunStage { seq, step } => self.run_stage(seq, step),
            Action::Submit { seq, step } => {
                self.submit(seq, step);
                Ok(())
            }
            Action::Emit { seq } => {
                self.emit(seq);
                Ok(())
            }
        }
    }

    fn run_stage(&mut self, seq: u64, step: usize) -> Result<(), FeedEnd> {
        let Some(Step::Stage(stage)) = self.steps.get_mut(step) else { return Ok(()) };
        let Some(work) = self.flow.get_mut(seq) else { return Ok(()) };
        let first_id = work.perception.next_object_id();
        let span = tracing::debug_span!("stage", feed = %self.name, step = %stage.name, seq);
        let (result, took) =
            span.in_scope(|| stage.process(&work.frame, (work.session, work.cuts), &work.perception, &self.clock));
        work.traces.push(StepTrace { step: stage.name.clone(), duration: took, batch: None });
        match result {
            Ok(output) => {
                self.count(step, true, took);
                self.merge(seq, step, first_id, output);
                self.flow.passed(seq);
                Ok(())
            }
            Err(error) => {
                let panicked = error.kind() == StageErrorKind::Panic;
                let name = stage.name.clone();
                tracing::debug!(feed = %self.name, step = %name, seq, %error, detail = error.detail(), "stage failed");
                let kind = HealthKind::StageFailed { step: name.clone(), panicked, error: error.to_string() };
                self.health.report(Some(&self.name), kind);
                let rebuilt = if breaks_stage(&error) { stage.rebuild() } else { Ok(()) };
                self.count(step, false, took);
                self.step_failed(seq, step, if panicked { DropReason::StagePanic } else { DropReason::StageError });
                rebuilt.map_err(|error| FeedEnd::StageFailed { step: name, error })
            }
        }
    }

    fn submit(&mut self, seq: u64, step: usize) {
        let (Some(batch), Some(work)) = (self.steps.get_mut(step).and_then(Step::as_batch), self.flow.get_mut(seq))
        else {
            return;
        };
        let first_id = work.perception.next_object_id();
        let entry =
            BatchEntry::new(self.name.clone(), work.session, work.frame.clone(), None, Arc::clone(&work.perception));
        match batch.point.submit(batch.lane, entry, batch.reply.clone(), self.glance.next_due) {
            Ok(key) => {
                batch.used += 1;
                let check_at = self.clock.now() + batch.point.config.response_timeout;
                work.at_point = Some(AtPoint { step, key, first_id, check_at });
                self.flow.submitted(seq);
            }
            // The frame waits its turn: the point is full, or the lane has got fewer slots since it was looked at, since
            // another file feed has come.
            Err(Refusal::Full | Refusal::NoSlot) => batch.full = true,
            Err(refusal @ (Refusal::NoLane | Refusal::Down)) => {
                let reason = if refusal == Refusal::Down { DropReason::Unavailable } else { DropReason::Shutdown };
                self.count(step, false, Duration::ZERO);
                self.step_failed(seq, step, reason);
            }
        }
    }

    fn emit(&mut self, seq: u64) {
        let Some(work) = self.flow.remove(seq) else { return };
        // Refused where a watchdog has given the frame up.
        if !self.intake.emit(seq) {
            return;
        }
        let Work { frame, session, queue, perception, traces, .. } = work;
        let (received, emitted) = (frame.received(), self.clock.now());
        self.shared.progress.lock().emitted(received, emitted);
        let provenance = Provenance { received, emitted, queue, steps: traces };
        self.outlet.send(session, frame, Arc::unwrap_or_clone(perception), provenance);
    }

    /// Waits for the next event.
    fn wait(&self) {
        let mut select = Select::new();
        select.recv(self.shared.stop.wakeups());
        select.recv(&self.completions);
        let wakeups = select.recv(self.intake.wakeups());
        if let Some(room) = self.outlet.room() {
            select.recv(room);
        }
        let deadline = self.next_deadline();
        let ready = match deadline {
            Some(at) => select.ready_deadline(self.clock.instant(at)).ok(),
            None => Some(select.ready()),
        };
        if ready == Some(wakeups) {
            // The token is spent; the loop looks at the intake in any case.
            let _ = self.intake.wakeups().try_recv();
        }
    }

    fn next_deadline(&self) -> Option<MonoTime> {
        let overdue = self.flow.iter().filter_map(|w| w.at_point.as_ref()).map(|p| p.check_at);
        overdue.chain(self.stop.map(|s| s.deadline)).chain(self.restart_at).min()
    }

    // --- Restarts.

    /// Prepares a restart after a stage broke for good: what is inside is dropped, and frames are kept out until the stage
    /// is built anew.
    ///
    /// # Errors
    /// There is none: the feed ends so.
    fn restart_after(&mut self, end: FeedEnd) -> Result<(), FeedEnd> {
        // A file would lose what is dropped; it does better to end.
        if !self.live || !self.restart.covers_stages() || !matches!(end, FeedEnd::StageFailed { .. }) {
            return Err(end);
        }
        let now = self.clock.now();
        let next = self.shared.restarts.lock().failed(now);
        let (restarts, window) = (self.restart.max_restarts, self.restart.window);
        let Some((number, delay)) = next else {
            return Err(FeedEnd::RestartLimitExceeded { restarts, window, last: Box::new(end) });
        };
        let limit = self.restart.max_restarts as usize;
        let kind = HealthKind::FeedRestarting { reason: end.to_string(), number, limit, delay };
        self.health.report(Some(&self.name), kind);
        self.restart_at = Some(now + delay);
        self.intake.set_restarting(true);
        self.look();
        self.drop_inside(DropReason::FeedRestarted);
        Ok(())
    }

    /// Builds broken stages anew when it is time for it.
    ///
    /// # Errors
    /// One can't be, and there is no further restart: the feed ends so.
    fn restart_if_due(&mut self) -> Result<(), FeedEnd> {
        if self.restart_at.is_none_or(|at| at > self.clock.now()) {
            return Ok(());
        }
        for step in &mut self.steps {
            if let Step::Stage(stage) = step
                && !stage.is_running()
                && let Err(error) = stage.rebuild()
            {
                let step = stage.name.clone();
                return self.restart_after(FeedEnd::StageFailed { step, error });
            }
        }
        self.restart_at = None;
        self.intake.set_restarting(false);
        Ok(())
    }

    // --- Ends.

    fn is_finished(&self) -> bool {
        self.glance.ended && self.glance.queued == 0 && self.flow.is_empty() && self.outlet.is_free()
    }

    /// Ends a frame whose step failed, or passes it on without that step's results.
    fn step_failed(&mut self, seq: u64, step: usize, reason: DropReason) {
        if self.on_step_error == StepErrorPolicy::Pass {
            self.flow.passed_after_failure(seq);
        } else if self.flow.remove(seq).is_some() {
            self.intake.drop_frame(seq, reason, self.steps.get(step).map(Step::name));
        }
    }

    /// Drops whatever is inside: time is up, or the feed failed.
    fn abandon_all(&mut self) {
        let reason = self.stop_reason();
        self.intake.close(reason);
        self.look();
        self.drop_inside(reason);
    }

    /// Drops the frames in the pipeline.
    fn drop_inside(&mut self, reason: DropReason) {
        let inside: Vec<u64> = self.flow.iter_mut().map(|(seq, _)| seq).collect();
        for seq in inside {
            let Some(work) = self.flow.remove(seq) else { continue };
            let at = work.at_point.as_ref();
            if let Some((at, Step::Batch(batch))) = at.and_then(|at| Some((at, self.steps.get_mut(at.step)?))) {
                batch.left();
                batch.point.abandon(at.key, false);
            }
            let step = at.and_then(|at| self.steps.get(at.step)).map(Step::name).cloned();
            self.intake.drop_frame(seq, reason, step.as_ref());
        }
    }

    fn stop_reason(&self) -> DropReason {
        self.stop.map_or(DropReason::FeedStopped, |s| s.reason)
    }

    /// Stops the stages, leaves the batch points and closes the sinks' queues.
    pub(crate) fn close(self) {
        drop(self.steps);
        self.outlet.close();
    }

    // --- Small things.

    /// Frames that may be inside at a time.
    fn limit(&self) -> usize {
        self.max_in_pipeline.unwrap_or_else(|| {
            let points = self.steps.iter().filter_map(|s| match s {
                // By default a lane has two slots: one frame beyond what is taken in anyway.
                Step::Batch(b) => Some(if self.live { b.slots().saturating_sub(1).max(1) } else { b.slots() }),
                Step::Stage(_) => None,
            });
            2 + points.sum::<usize>()
        })
    }

    fn merge(&mut self, seq: u64, step: usize, first_id: ObjectId, output: StageOutput) {
        if let (Some(work), Some(step)) = (self.flow.get_mut(seq), self.steps.get(step)) {
            Arc::make_mut(&mut work.perception).merge(step.name(), first_id, output);
        }
    }

    fn count(&self, step: usize, ok: bool, took: Duration) {
        let mut progress = self.shared.progress.lock();
        if let Some(stats) = progress.steps.get_mut(step) {
            stats.processed += u64::from(ok);
            stats.failed += u64::from(!ok);
            stats.busy += took;
        }
    }
}

impl Work {
    fn new(queued: Queued, taken: MonoTime) -> Self {
        let Queued { frame, session, cuts, .. } = queued;
        Self {
            queue: taken.since(frame.received()),
            frame,
            session,
            cuts,
            perception: empty_perception(),
            traces: Vec::new(),
            at_point: None,
        }
    }
}
