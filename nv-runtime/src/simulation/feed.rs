//! The shell of a feed in virtual time: its executor. Its source's thread is in [`source`](super::source), its stages in
//! [`stage`](super::stage), and where its outputs go in [`sink`](super::sink).

use std::time::Duration;

use nv_core::{DropReason, MonoTime};

use super::intake::SimIntake;
use super::planted::Planted;
use super::point::{Completion, Job, SimPoint};
use super::scenario::{FeedPlan, StepPlan};
use super::sink::Sink;
use super::source::Source;
use super::stage::Stage;
use super::world::{Context, Event, Note};
use crate::batch::cores::LaneRole;
use crate::batch::{GivenUpFor, LaneKey, Refusal};
use crate::decisions::{CoreLog, Recorded as _};
use crate::feed::RestartConfig;
use crate::feed::cores::{
    Action, Bound, BudgetConfig, Checked, CoreConfig, CoreStep, Failed, FeedCore, Glance, Queued, RestartBudget,
    StepKind, Turn,
};

/// A feed.
pub(super) struct SimFeed {
    pub(super) id: usize,
    pub(super) plan: FeedPlan,
    pub(super) source: Source,
    pub(super) phase: Phase,
    pub(super) core: FeedCore<Work>,
    pub(super) steps: Vec<Step>,
    pub(super) glance: Glance<()>,
    /// Whether frames come in, as the batch points were last told.
    running: bool,
    results: Vec<Completion>,
    /// The most of them that may wait.
    most_answers: usize,
    pub(super) stop: Option<Stop>,
    pub(super) restarts: RestartBudget,
    /// The frame that its stage works on, and the stage.
    pub(super) in_stage: Option<(u64, usize)>,
    /// The earliest timer that is under way.
    timer: Option<MonoTime>,
    waits_until: Option<MonoTime>,
    pub(super) sink: Sink,
    /// From reception to output, frame by frame.
    pub(super) latencies: Vec<Duration>,
    /// The frame that left last, with its session.
    pub(super) left: Option<(u64, u32)>,
    /// An output that is held back, where that is planted.
    pub(super) held_back: Option<(u64, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not come yet.
    Absent,
    /// Its executor runs, or was woken.
    Runs,
    /// Its executor waits.
    Waits,
    /// It is over.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    deadline: MonoTime,
    reason: DropReason,
}

pub(super) enum Step {
    Stage(Stage),
    Batch { point: usize, lane: LaneKey },
}

/// What is kept of a frame inside.
pub(super) struct Work {
    pub(super) session: u32,
    pub(super) received: MonoTime,
}

/// What the executor does after an action.
pub(super) enum Then {
    GoOn,
    /// Look at what has happened first.
    Look,
    /// It is in a stage.
    Busy,
    /// The feed can't go on.
    Fail,
}

impl SimFeed {
    pub(super) fn new(id: usize, plan: FeedPlan, source_end: MonoTime, points: &[SimPoint]) -> Self {
        let steps = plan.steps.iter().enumerate().map(|(index, step)| match *step {
            StepPlan::Stage { .. } => {
                let never = Duration::ZERO;
                CoreStep {
                    kind: StepKind::Stage,
                    gated: false,
                    claims: false,
                    response_timeout: never,
                    look_after: never,
                }
            }
            StepPlan::Batch(point) => {
                let config = &points[point].plan.config;
                let (response_timeout, look_after) = (config.response_timeout, config.look_after(plan.live));
                let gated = points[point].plan.regions > 1;
                let claims = plan.live && index == 0 && !gated;
                CoreStep { kind: StepKind::Batch, gated, claims, response_timeout, look_after }
            }
        });
        let answers = |step: &StepPlan| match *step {
            StepPlan::Stage { .. } => 0,
            StepPlan::Batch(point) => points[point].plan.most_answers(plan.live),
        };
        let most_answers = plan.steps.iter().map(answers).sum();
        let config =
            CoreConfig { live: plan.live, max_in_pipeline: plan.max_in_pipeline, on_step_error: plan.on_step_error };
        Self {
            id,
            source: Source::new(id, &plan, source_end),
            phase: Phase::Absent,
            core: FeedCore::new(config, steps.collect()),
            steps: Vec::new(),
            glance: Glance::default(),
            running: true,
            results: Vec::new(),
            most_answers,
            stop: None,
            restarts: RestartBudget::with_log(
                BudgetConfig::new(&RestartConfig::default(), id as u64),
                CoreLog::default(),
            ),
            in_stage: None,
            timer: None,
            waits_until: None,
            sink: Sink::default(),
            latencies: Vec::new(),
            left: None,
            held_back: None,
            plan,
        }
    }

    pub(super) fn plan(&self) -> &FeedPlan {
        &self.plan
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone | Phase::Absent)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    // --- The owner's side.

    /// It is added.
    pub(super) fn comes(&mut self, ctx: &mut Context, points: &mut [SimPoint]) {
        if self.stop.is_some() {
            return;
        }
        let role = if self.plan.live { LaneRole::Live } else { LaneRole::File };
        for (index, step) in self.plan.steps.iter().enumerate() {
            self.steps.push(match *step {
                StepPlan::Stage { takes, fails, breaks } => Step::Stage(Stage::new(takes, fails, breaks)),
                StepPlan::Batch(point) => {
                    let FeedPlan { weight, key, .. } = self.plan;
                    Step::Batch { point, lane: points[point].attach(ctx, (self.id, index), role, weight, key) }
                }
            });
        }
        self.phase = Phase::Runs;
        ctx.at(self.source.due, Event::Source(self.id));
        ctx.wake_feed(self.id);
    }

    /// It is told to stop; its source is closed.
    pub(super) fn stop(&mut self, ctx: &mut Context, intake: &mut SimIntake, drain: Duration, reason: DropReason) {
        let deadline = ctx.now + drain;
        let stop = self.stop.get_or_insert(Stop { deadline, reason });
        stop.deadline = stop.deadline.min(deadline);
        if reason == DropReason::Shutdown {
            stop.reason = reason;
        }
        if !self.is_gone() {
            self.close_source(ctx, intake);
            ctx.wake_feed(self.id);
        }
    }

    // --- The executor's thread.

    pub(super) fn result(&mut self, ctx: &mut Context, completion: Completion) {
        // Nobody is there to take it once the feed is gone.
        if !self.is_gone() {
            self.results.push(completion);
            ctx.wake_feed(self.id);
            let (waiting, most) = (self.results.len(), self.most_answers);
            ctx.check(waiting <= most, || format!("feed {}: {waiting} answers wait, of at most {most}", self.id));
        }
    }

    pub(super) fn timer(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        if self.timer.is_some_and(|at| at <= ctx.now) {
            self.timer = None;
        }
        match self.waits_until {
            Some(at) if self.phase == Phase::Waits && at <= ctx.now => self.run(ctx, intake, points),
            Some(at) if self.phase == Phase::Waits => self.arm(ctx, at),
            _ => {}
        }
    }

    fn arm(&mut self, ctx: &mut Context, at: MonoTime) {
        if self.timer.is_none_or(|under_way| under_way > at) {
            self.timer = Some(at);
            let late = ctx.late();
            ctx.at(at + late, Event::FeedTimer(self.id));
        }
    }

    /// Runs until it waits, or is in a stage.
    pub(super) fn run(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        if self.is_gone() || self.in_stage.is_some() {
            return;
        }
        ctx.touched_feeds.push(self.id);
        self.phase = Phase::Runs;
        loop {
            self.look(ctx, intake, points);
            loop {
                let then = match self.core.next(ctx.now, !self.sink.pending) {
                    Action::Wait(deadline) => {
                        if let Some(seen) = self.core.awaits_frames()
                            && !intake.await_frame(seen)
                        {
                            break;
                        }
                        return self.wait(ctx, deadline);
                    }
                    Action::Finish => return self.end(ctx, intake, points),
                    Action::Abandon => {
                        self.abandon_all(ctx, intake, points);
                        return self.end(ctx, intake, points);
                    }
                    action => self.act(ctx, intake, points, action),
                };
                match then {
                    Then::GoOn => {}
                    Then::Look => break,
                    Then::Busy => return,
                    Then::Fail => {
                        self.abandon_all(ctx, intake, points);
                        return self.end(ctx, intake, points);
                    }
                }
            }
        }
    }

    fn wait(&mut self, ctx: &mut Context, deadline: Option<MonoTime>) {
        self.phase = Phase::Waits;
        self.waits_until = deadline;
        if let Some(at) = deadline {
            self.arm(ctx, at);
        }
    }

    /// Takes in what has happened.
    fn look(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        if let Some(stop) = self.stop {
            self.core.stop_at(stop.deadline);
        }
        for (index, step) in self.steps.iter().enumerate() {
            if let Step::Batch { point, lane } = *step {
                self.core.set_slots(index, points[point].slots(lane));
            }
        }
        let results = std::mem::take(&mut self.results);
        self.look_at_intake(ctx, intake, points);
        for completion in results {
            self.completed(ctx, intake, points, completion);
        }
    }

    pub(super) fn look_at_intake(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        intake.core.glance(&mut self.glance);
        self.check_superseded(ctx, points);
        self.glance.superseded.clear();
        let mut bound = std::mem::take(&mut self.glance.bound);
        for Bound { queued, at, outcome } in bound.drain(..) {
            let work = Work { session: queued.session, received: queued.received };
            match outcome {
                Ok(key) => self.core.bound(queued.seq, at, key, work),
                Err(reason) => {
                    self.core.claim_voided(queued.seq, work);
                    self.step_failed(ctx, intake, queued.seq, reason);
                }
            }
        }
        self.glance.bound = bound;
        self.core.look(self.glance.queued, self.glance.claims, self.glance.ended);
        if self.running && !self.glance.running {
            for step in &self.steps {
                if let Step::Batch { point, lane } = *step {
                    points[point].source_ended(ctx, lane);
                }
            }
        }
        self.running = self.glance.running;
    }

    fn completed(
        &mut self,
        ctx: &mut Context,
        intake: &mut SimIntake,
        points: &mut [SimPoint],
        completion: Completion,
    ) {
        let Completion { point, step, key, result, .. } = completion;
        points[point].check_result(ctx, key);
        let Some(seq) = self.core.find(step, key) else { return };
        match result {
            Ok(()) => {
                self.core.answered(seq);
            }
            Err(reason) => {
                if let Failed::Dropped { abandon } = self.core.answered_badly(seq) {
                    if let Some(key) = abandon {
                        points[point].abandon(ctx, key, GivenUpFor::NoUse);
                    }
                    self.drop_frame(ctx, intake, seq, reason);
                }
            }
        }
    }

    fn act(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint], action: Action) -> Then {
        match action {
            Action::Take => match intake.pop(ctx) {
                Some(Queued { seq, session, received, .. }) => self.core.enter(seq, Work { session, received }),
                None => self.core.nothing_queued(),
            },
            Action::Claim { count } => {
                self.claim(ctx, intake, points, count);
                return Then::Look;
            }
            Action::Check { seq, step, key } => {
                let Step::Batch { point, .. } = self.steps[step] else { return Then::GoOn };
                let entry = points[point].core.state_of(ctx.now, key);
                points[point].inspect(ctx);
                let (why, reason) = match self.core.checked(ctx.now, seq, entry) {
                    Checked::Fine => return Then::GoOn,
                    Checked::Overdue => (GivenUpFor::Timeout, DropReason::Timeout),
                    Checked::TooOld => (GivenUpFor::Age, DropReason::Expired),
                    Checked::Lost => (GivenUpFor::NoUse, DropReason::ProcessingFailed),
                };
                let lost = why == GivenUpFor::NoUse;
                ctx.check(!lost, || format!("feed {}: frame {seq} has left point {point} and has no answer", self.id));
                points[point].abandon(ctx, key, why);
                self.step_failed(ctx, intake, seq, reason);
            }
            Action::Inspect { step } => {
                if let Step::Batch { point, .. } = self.steps[step] {
                    points[point].inspect(ctx);
                }
            }
            Action::Rebuild => return self.rebuild(ctx, intake, points),
            Action::Turn(Turn::RunStage { seq, step }) => {
                if let Step::Stage(stage) = &self.steps[step] {
                    self.in_stage = Some((seq, step));
                    ctx.after(stage.takes, Event::Stage(self.id));
                    return Then::Busy;
                }
            }
            Action::Turn(Turn::Gate { seq, step }) => {
                let run = self.parts(points, seq, step) > 0;
                self.core.gated(seq, run);
            }
            Action::Turn(Turn::Submit { seq, step }) => self.submit(ctx, intake, points, seq, step),
            Action::Turn(Turn::Merge { seq, .. }) => self.core.passed(seq),
            Action::Turn(Turn::Emit { seq }) => self.emit(ctx, intake, seq),
            Action::Abandon | Action::Finish | Action::Wait(_) => {}
        }
        Then::GoOn
    }

    fn claim(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint], count: usize) {
        let Some(&Step::Batch { point, lane }) = self.steps.first() else { return };
        intake.core.add_claims(count);
        let (made, refusal) = points[point].claim(ctx, lane, count, self.glance.next_due);
        match refusal {
            None => {}
            Some(Refusal::NoLane) => intake.void_claims(ctx, count - made, DropReason::Shutdown),
            Some(Refusal::Down) => intake.void_claims(ctx, count - made, DropReason::Unavailable),
            Some(Refusal::Full | Refusal::NoSlot) => intake.core.return_claims(count - made),
        }
        self.core.claimed(ctx.now, made, refusal);
    }

    /// Parts that a frame has at a step: all of it, or its regions, of which there may be none.
    fn parts(&self, points: &[SimPoint], seq: u64, step: usize) -> u32 {
        let Step::Batch { point, .. } = self.steps[step] else { return 0 };
        match points[point].plan.regions as u64 {
            0 | 1 => 1,
            // As many as there may be, mostly.
            most => ((seq.wrapping_mul(7).wrapping_add(self.id as u64) % (most + most / 2)).min(most)) as u32,
        }
    }

    fn submit(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint], seq: u64, step: usize) {
        let parts = self.parts(points, seq, step);
        let (Step::Batch { point, lane }, Some(work)) = (&self.steps[step], self.core.get_mut(seq)) else { return };
        let job = Job { feed: self.id, seq, step };
        match points[*point].submit(ctx, *lane, work.received, (job, parts), self.glance.next_due) {
            Ok(key) => self.core.submitted(ctx.now, seq, key, parts),
            Err(Refusal::Full | Refusal::NoSlot) => self.core.no_room(step),
            Err(Refusal::Down) => self.step_failed(ctx, intake, seq, DropReason::Unavailable),
            Err(Refusal::NoLane) => self.step_failed(ctx, intake, seq, DropReason::Shutdown),
        }
    }

    // --- Ends.

    pub(super) fn step_failed(&mut self, ctx: &mut Context, intake: &mut SimIntake, seq: u64, reason: DropReason) {
        if let Failed::Dropped { .. } = self.core.failed(seq) {
            self.drop_frame(ctx, intake, seq, reason);
        }
    }

    fn drop_frame(&mut self, ctx: &mut Context, intake: &mut SimIntake, seq: u64, reason: DropReason) {
        if ctx.planted == Some(Planted::ForgetEnd) && ctx.rng.u8(0..4) == 0 {
            return;
        }
        let ended = intake.drop_frame(ctx, seq, reason, None);
        ctx.check(ended, || format!("feed {}: frame {seq} has ended before", self.id));
    }

    pub(super) fn abandon_all(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        let reason = self.stop.map_or(DropReason::FeedStopped, |s| s.reason);
        intake.close(ctx, reason);
        self.look_at_intake(ctx, intake, points);
        self.drop_inside(ctx, intake, points, reason);
    }

    pub(super) fn drop_inside(
        &mut self,
        ctx: &mut Context,
        intake: &mut SimIntake,
        points: &mut [SimPoint],
        reason: DropReason,
    ) {
        while let Some((seq, step, key, _)) = self.core.evict() {
            if let (Some(key), Some(Step::Batch { point, .. })) = (key, self.steps.get(step)) {
                points[*point].abandon(ctx, key, GivenUpFor::NoUse);
            }
            self.drop_frame(ctx, intake, seq, reason);
        }
    }

    pub(super) fn end(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        for step in self.steps.drain(..) {
            if let Step::Batch { point, lane } = step {
                points[point].detach(ctx, lane);
            }
        }
        intake.abandon(ctx, self.stop.map_or(DropReason::FeedStopped, |s| s.reason));
        self.phase = Phase::Gone;
        self.results.clear();
        ctx.note(Note::Ended { feed: self.id });
        // A source that waits for room finds that there is nobody.
        if let Some(waiting) = self.source.waiting.take() {
            intake.retry(ctx, waiting);
        }
    }

    // --- Checks.

    /// Frames that were passed over, whose memory the executor gives back.
    fn check_superseded(&self, ctx: &mut Context, points: &[SimPoint]) {
        let slots = points.iter().map(|p| p.plan.config.max_in_flight_per_feed).max().unwrap_or(1);
        let (waiting, limit) = (self.glance.superseded.len(), self.plan.queue * slots);
        ctx.check(waiting <= limit, || format!("feed {}: {waiting} frames that were passed over are held", self.id));
    }

    /// What must hold of it whenever nobody is at work in it.
    pub(super) fn check(&self, ctx: &mut Context, intake: &SimIntake) {
        let (id, counts) = (self.id, intake.core.counts());
        ctx.check(counts.is_balanced(), || format!("feed {id}: the ledger does not balance: {counts:?}"));
        let (queued, bound) = intake.core.holds();
        let at_source = usize::from(self.source.waiting.is_some());
        let inside = queued + bound + self.core.len() + at_source;
        ctx.check(counts.inside == inside as u64, || {
            format!("feed {id}: {} are inside by the ledger, {inside} by our own count", counts.inside)
        });
        ctx.check(queued <= self.plan.queue, || format!("feed {id}: {queued} in a queue of {}", self.plan.queue));
        let asleep = self.phase == Phase::Waits && !ctx.woken[id] && self.waits_until.is_none_or(|at| at > ctx.now);
        let could_take = self.core.awaits_frames().is_some() && queued > self.glance.claims;
        ctx.check(!(asleep && could_take), || {
            format!("feed {id}: {queued} frames are queued, there is room for one, and nobody is woken")
        });
        // A file's limit changes as other files come and go.
        let limit = self.core.limit();
        ctx.check(!self.plan.live || self.core.len() + bound <= limit, || {
            format!("feed {id}: {} and {bound} in a pipeline of {limit}", self.core.len())
        });
    }
}
