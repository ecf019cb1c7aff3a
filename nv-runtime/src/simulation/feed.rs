//! The shell of a feed in virtual time: its executor and its sink. Its source's thread is in [`source`](super::source).

use std::time::Duration;

use nv_core::{DropReason, MonoTime};

use super::intake::SimIntake;
use super::planted::Planted;
use super::point::{Completion, Job, SimPoint};
use super::scenario::{FeedPlan, StepPlan};
use super::source::Source;
use super::world::{Context, Event, Note};
use crate::batch::cores::LaneRole;
use crate::batch::{LaneKey, Refusal};
use crate::decisions::{CoreLog, Recorded as _};
use crate::feed::RestartConfig;
use crate::feed::cores::{
    Action, Bound, BudgetConfig, CoreConfig, CoreStep, Failed, FeedCore, Glance, Queued, RestartBudget, StepKind, Turn,
};

/// A feed.
pub(super) struct SimFeed {
    pub(super) id: usize,
    plan: FeedPlan,
    pub(super) source: Source,
    phase: Phase,
    core: FeedCore<Work>,
    steps: Vec<Step>,
    glance: Glance<()>,
    /// Whether frames come in, as the batch points were last told.
    running: bool,
    results: Vec<Completion>,
    stop: Option<Stop>,
    restarts: RestartBudget,
    /// The frame that its stage works on, and the stage.
    in_stage: Option<(u64, usize)>,
    /// The earliest timer that is under way.
    timer: Option<MonoTime>,
    waits_until: Option<MonoTime>,
    sink: Sink,
    /// The frame that left last, with its session.
    left: Option<(u64, u32)>,
    /// An output that is held back, where that is planted.
    held_back: Option<(u64, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
struct Stop {
    deadline: MonoTime,
    reason: DropReason,
}

enum Step {
    Stage(Stage),
    Batch { point: usize, lane: LaneKey },
}

struct Stage {
    takes: Duration,
    fails: Option<u64>,
    breaks: Option<(u64, u32)>,
    /// Frames that it has seen.
    seen: u64,
    /// How often it can't be built anew; it is broken until then.
    broken: Option<u32>,
}

/// What is kept of a frame inside.
struct Work {
    session: u32,
    received: MonoTime,
}

#[derive(Default)]
struct Sink {
    queued: usize,
    writes: bool,
    /// Whether an output waits for room.
    pending: bool,
}

/// What the executor does after an action.
enum Then {
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
                CoreStep { kind: StepKind::Stage, gated: false, claims: false, response_timeout: Duration::ZERO }
            }
            StepPlan::Batch(point) => {
                let response_timeout = points[point].plan.config.response_timeout;
                let gated = points[point].plan.regions > 1;
                CoreStep { kind: StepKind::Batch, gated, claims: plan.live && index == 0 && !gated, response_timeout }
            }
        });
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
            stop: None,
            restarts: RestartBudget::with_log(
                BudgetConfig::new(&RestartConfig::default(), id as u64),
                CoreLog::default(),
            ),
            in_stage: None,
            timer: None,
            waits_until: None,
            sink: Sink::default(),
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
                StepPlan::Stage { takes, fails, breaks } => {
                    Step::Stage(Stage { takes, fails, breaks, seen: 0, broken: None })
                }
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
                    Action::Wait(deadline) => return self.wait(ctx, deadline),
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

    fn look_at_intake(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
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
                        points[point].abandon(ctx, key, false);
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
                let dispatched = points[point].core.dispatched_at(key);
                if self.core.checked(ctx.now, seq, dispatched) {
                    points[point].abandon(ctx, key, true);
                    self.step_failed(ctx, intake, seq, DropReason::Timeout);
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

    // --- Stages.

    pub(super) fn stage_returns(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        let Some((seq, step)) = self.in_stage.take() else { return };
        let Step::Stage(stage) = &mut self.steps[step] else { return };
        stage.seen += 1;
        let seen = stage.seen;
        if let Some((every, rebuilds)) = stage.breaks
            && seen.is_multiple_of(every)
        {
            stage.broken = (rebuilds > 0).then_some(rebuilds);
            let broken = stage.broken.is_some();
            self.step_failed(ctx, intake, seq, DropReason::StagePanic);
            if broken && !self.restart_after(ctx, intake, points) {
                self.abandon_all(ctx, intake, points);
                return self.end(ctx, intake, points);
            }
        } else if stage.fails.is_some_and(|every| seen.is_multiple_of(every)) {
            self.step_failed(ctx, intake, seq, DropReason::StageError);
        } else {
            self.core.passed(seq);
        }
        self.run(ctx, intake, points);
    }

    /// Prepares a restart after a stage broke for good. False if there is none.
    fn restart_after(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) -> bool {
        let next = if self.plan.live { self.restarts.failed(ctx.now) } else { None };
        let Some((_, delay)) = next else { return false };
        self.core.restart_at(ctx.now + delay);
        intake.set_restarting(ctx, true);
        self.look_at_intake(ctx, intake, points);
        self.drop_inside(ctx, intake, points, DropReason::FeedRestarted);
        true
    }

    fn rebuild(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) -> Then {
        for step in &mut self.steps {
            if let Step::Stage(Stage { broken: Some(left), .. }) = step {
                *left -= 1;
                if *left > 0 {
                    return if self.restart_after(ctx, intake, points) { Then::Look } else { Then::Fail };
                }
            }
        }
        for step in &mut self.steps {
            if let Step::Stage(stage) = step {
                stage.broken = None;
            }
        }
        self.core.rebuilt();
        intake.set_restarting(ctx, false);
        Then::Look
    }

    // --- Outputs.

    fn emit(&mut self, ctx: &mut Context, intake: &mut SimIntake, seq: u64) {
        let Some(work) = self.core.emitted(seq) else { return };
        let mut ended = intake.emit(ctx, seq);
        if ctx.planted == Some(Planted::EmitTwice) && ctx.rng.u8(0..16) == 0 {
            ended = intake.emit(ctx, seq);
        }
        ctx.check(ended, || format!("feed {}: frame {seq} has ended before", self.id));
        if ctx.planted == Some(Planted::Reorder) && self.held_back.is_none() && ctx.rng.u8(0..16) == 0 {
            self.held_back = Some((seq, work.session));
            return;
        }
        self.leaves(ctx, seq, work.session);
        if let Some((seq, session)) = self.held_back.take() {
            self.leaves(ctx, seq, session);
        }
    }

    /// An output leaves.
    fn leaves(&mut self, ctx: &mut Context, seq: u64, session: u32) {
        let in_order = self.left.is_none_or(|(last, before)| last < seq && before <= session);
        ctx.check(in_order, || format!("feed {}: frame {seq} leaves after {:?}", self.id, self.left));
        self.left = Some((seq, session));
        if self.sink.queued < self.plan.sink.capacity {
            self.sink.queued += 1;
        } else {
            // A file feed waits for its sink; a live one passes it by.
            self.sink.pending = !self.plan.live;
        }
        if !std::mem::replace(&mut self.sink.writes, true) {
            ctx.after(self.plan.sink.takes, Event::Sink(self.id));
        }
    }

    /// Its sink has written an output.
    pub(super) fn sink(&mut self, ctx: &mut Context) {
        if let Some((from, to)) = self.plan.sink.stalls
            && (from..to).contains(&ctx.now)
        {
            return ctx.at(to, Event::Sink(self.id));
        }
        self.sink.queued -= 1;
        if std::mem::take(&mut self.sink.pending) {
            self.sink.queued += 1;
            ctx.wake_feed(self.id);
        }
        self.sink.writes = self.sink.queued > 0;
        if self.sink.writes {
            ctx.after(self.plan.sink.takes, Event::Sink(self.id));
        }
    }

    // --- Ends.

    fn step_failed(&mut self, ctx: &mut Context, intake: &mut SimIntake, seq: u64, reason: DropReason) {
        if let Failed::Dropped { .. } = self.core.failed(seq) {
            self.drop_frame(ctx, intake, seq, reason);
        }
    }

    fn drop_frame(&mut self, ctx: &mut Context, intake: &mut SimIntake, seq: u64, reason: DropReason) {
        if ctx.planted == Some(Planted::ForgetFrame) && ctx.rng.u8(0..4) == 0 {
            return;
        }
        let ended = intake.drop_frame(ctx, seq, reason, None);
        ctx.check(ended, || format!("feed {}: frame {seq} has ended before", self.id));
    }

    fn abandon_all(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
        let reason = self.stop.map_or(DropReason::FeedStopped, |s| s.reason);
        intake.close(ctx, reason);
        self.look_at_intake(ctx, intake, points);
        self.drop_inside(ctx, intake, points, reason);
    }

    fn drop_inside(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint], reason: DropReason) {
        while let Some((seq, step, key, _)) = self.core.evict() {
            if let (Some(key), Step::Batch { point, .. }) = (key, &self.steps[step.min(self.steps.len() - 1)]) {
                points[*point].abandon(ctx, key, false);
            }
            self.drop_frame(ctx, intake, seq, reason);
        }
    }

    fn end(&mut self, ctx: &mut Context, intake: &mut SimIntake, points: &mut [SimPoint]) {
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
        // A file's limit changes as other files come and go.
        let limit = self.core.limit();
        ctx.check(!self.plan.live || self.core.len() + bound <= limit, || {
            format!("feed {id}: {} and {bound} in a pipeline of {limit}", self.core.len())
        });
    }
}
