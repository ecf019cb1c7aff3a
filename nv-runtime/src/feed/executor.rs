use std::time::Duration;

use nv_core::{Clock as _, DropReason, HealthKind, Name};
use nv_perception::{BatchEntry, Provenance, Region, StageErrorKind, StepTrace};

use super::core::{Action, Checked, CoreConfig, Failed, FeedCore, FeedPlan};
use super::flow::Turn;
use super::gate::Gate;
use super::intake::{Bound, Glance};
use super::outlet::Outlet;
use super::steps::{BatchStep, Lane, Step, attach, breaks_stage};
use super::stop::Stop;
use super::watch::{Retired, StageCall, StageWatch};
use super::work::{AtPoint, Work};
use super::{FeedEnd, FeedPipeline, FeedShared, Intake, RestartConfig, StepErrorPolicy};
use crate::batch::{BatchError, Completion, EntryKey, GivenUpFor, Refusal};
use crate::decisions::Recorded as _;
use crate::health::HealthHub;
use crate::sync::{Arc, SystemClock};

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
    outlet: Arc<Outlet>,
    watch: Arc<StageWatch>,
    live: bool,
    glance: Glance,
    /// Frames that had come in by then.
    arrivals: u64,
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

/// What an executor is made of.
pub(crate) struct ExecutorParts {
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) health: HealthHub,
    pub(crate) intake: Arc<Intake>,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) watch: Arc<StageWatch>,
    pub(crate) live: bool,
    pub(crate) max_in_pipeline: Option<usize>,
    pub(crate) weight: u32,
    pub(crate) on_step_error: StepErrorPolicy,
    pub(crate) restart: RestartConfig,
}

impl Executor {
    /// Attaches the pipeline to its batch points. It leaves them when the executor is dropped.
    pub(crate) fn new(pipeline: FeedPipeline, parts: ExecutorParts) -> Self {
        let ExecutorParts { shared, health, intake, outlet, watch, live, restart, .. } = parts;
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
            arrivals: 0,
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
                let (may_emit, call_at) = self.outlet.look(now);
                let action = self.core.next(now, may_emit);
                match action {
                    Action::Wait(deadline) => {
                        if self.core.awaits_frames().is_some() && !self.intake.await_frame(self.arrivals) {
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
        self.outlet.flush(self.clock.now());
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
        self.arrivals = self.intake.glance(&mut self.glance);
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
        let took = work.at_point.took(trace);
        work.at_point.answered += 1;
        work.at_point.failed |= result.is_err();
        let (last, any_failed) = (work.at_point.is_whole(), work.at_point.failed);
        match result {
            Ok(output) => {
                if work.at_point.regions.is_empty() {
                    work.at_point.whole = Some(output);
                } else {
                    work.at_point.found.push((part, output));
                }
                self.core.answered(seq);
                self.count(step, u64::from(last && !any_failed), u64::from(last && any_failed), took);
            }
            Err(error) => {
                tracing::debug!(feed = %self.name, seq, %error, "a batch point failed a frame");
                let dropped = self.answered_badly(seq, step, &error);
                self.count(step, 0, u64::from(dropped || last), took);
            }
        }
    }

    /// Whether the frame is dropped for it.
    fn answered_badly(&mut self, seq: u64, step: usize, error: &BatchError) -> bool {
        let Failed::Dropped { abandon } = self.core.answered_badly(seq) else { return false };
        if let (Some(key), Some(Step::Batch(batch))) = (abandon, self.steps.get(step)) {
            batch.point.abandon(key, GivenUpFor::NoUse);
        }
        self.lost(seq, step);
        self.intake.drop_frame(seq, error.drop_reason(), self.steps.get(step).map(Step::name));
        true
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
            Action::Inspect { step } => self.steps.get(step).into_iter().for_each(Step::inspect),
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

    /// Gives a frame up that its batch point has not answered in time, or never will.
    fn check(&mut self, seq: u64, step: usize, key: EntryKey) {
        let Some(Step::Batch(batch)) = self.steps.get(step) else { return };
        let entry = batch.point.state_of(key);
        let (why, reason) = match self.core.checked(self.clock.now(), seq, entry) {
            Checked::Fine => return,
            Checked::Overdue => (GivenUpFor::Timeout, DropReason::Timeout),
            Checked::TooOld => (GivenUpFor::Age, DropReason::Expired),
            Checked::Lost => (GivenUpFor::NoUse, DropReason::ProcessingFailed),
        };
        batch.point.abandon(key, why);
        if why == GivenUpFor::Timeout {
            let (batch, limit) = (batch.point.name.clone(), batch.point.config.response_timeout);
            self.health.report(Some(&self.name), HealthKind::BatchTimeout { batch, limit });
        }
        self.step_failed(seq, step, reason);
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
            Ok(mut output) => {
                // Not within the call: a pipeline that was given up meanwhile numbers no tracks.
                stage.number_tracks(&mut output);
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
                self.count(step, 0, 0, took);
                // Before the stage is built anew, which may take as long as it takes.
                self.step_failed(seq, step, if panicked { DropReason::StagePanic } else { DropReason::StageError });
                if !breaks_stage(&error) {
                    return Ok(());
                }
                let Some(Step::Stage(stage)) = self.steps.get_mut(step) else { return Ok(()) };
                let call = StageCall { step, name: name.clone(), seq: None, since: self.clock.now() };
                let rebuilt = self.watch.during(call, || stage.rebuild())?;
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
        } else if !run {
            // There is nothing in it to look at, which is a result too.
            self.count(step, 1, 0, Duration::ZERO);
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
        let AtPoint { first_id, regions, whole, mut found, trace, .. } = std::mem::take(&mut work.at_point);
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
        let told = self.shared.progress.lock().emitted(received, emitted);
        if let Some(told) = told {
            self.health.report(Some(&self.name), told);
        }
        let provenance = Provenance { received, emitted, queue, steps: traces };
        self.outlet.send(session, frame, Arc::unwrap_or_clone(perception), provenance);
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
                batch.point.abandon(key, GivenUpFor::NoUse);
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
    pub(crate) fn retire(&mut self) -> Finish {
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
