//! The shell of a batch point's instances in virtual time.

use nv_core::{DropReason, MonoTime};

use super::intake::SimIntake;
use super::planted::Planted;
use super::point::{Job, SimPoint};
use super::processor::{CallOutcome, ProcessorPlan, SimProcessor, Subject};
use super::world::{Context, Event, Note};
use crate::batch::cores::{
    Attempt, BoundPart, CallResult, InstanceStep, PointPhase, RebuildPace, StandingChange, Taken, Verdict,
};
use crate::batch::{EntryKey, LaneKey};

pub(super) struct SimInstance {
    processor: SimProcessor,
    pub(super) state: InstanceState,
    pace: RebuildPace,
    /// The number of its latest call.
    call: u64,
    attempt: Attempt,
    batch: Vec<Taken<Job>>,
    /// The part of the batch that the call is for, and what will come of it.
    calling: (std::ops::Range<usize>, CallOutcome),
    /// By place in the batch: whether there is a result.
    succeeded: Vec<bool>,
    /// The earliest timer that is under way.
    timer: Option<MonoTime>,
}

/// What an instance's thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstanceState {
    /// It was woken, or has just begun, and will look.
    Woken,
    /// It waits for work, until then.
    Idle(Option<MonoTime>),
    /// It is in its processor, which will return, or never.
    Computes { returns: bool },
    /// It has no processor, and waits to build one.
    Unable(MonoTime),
    /// It is gone.
    Gone,
}

impl SimInstance {
    pub(super) fn new(processor: &ProcessorPlan) -> Self {
        Self {
            processor: SimProcessor::new(processor.clone()),
            state: InstanceState::Woken,
            pace: RebuildPace::default(),
            call: 0,
            attempt: Attempt::default(),
            batch: Vec::new(),
            calling: (0..0, CallOutcome::Done),
            succeeded: Vec::new(),
            timer: None,
        }
    }
}

impl SimPoint {
    pub(super) fn timer(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) {
        let instance = &mut self.instances[i];
        if instance.timer.is_some_and(|at| at <= ctx.now) {
            instance.timer = None;
        }
        match instance.state {
            InstanceState::Idle(Some(at)) | InstanceState::Unable(at) if at <= ctx.now => self.run(ctx, intakes, i),
            InstanceState::Idle(Some(at)) | InstanceState::Unable(at) => self.arm(ctx, i, at),
            _ => {}
        }
    }

    fn arm(&mut self, ctx: &mut Context, i: usize, at: MonoTime) {
        let timer = &mut self.instances[i].timer;
        if timer.is_none_or(|under_way| under_way > at) {
            *timer = Some(at);
            let late = ctx.late();
            ctx.at(at + late, Event::InstanceTimer(self.id, i));
        }
    }

    /// The instance's thread, which was woken, or whose time has come.
    pub(super) fn run(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) {
        match self.instances[i].state {
            InstanceState::Unable(until) => self.run_unable(ctx, intakes, i, until),
            InstanceState::Woken | InstanceState::Idle(_) => {
                self.armed = None;
                self.next_batch(ctx, intakes, i);
            }
            InstanceState::Computes { .. } | InstanceState::Gone => {}
        }
    }

    /// Looks for a batch until there is one, or nothing to look for.
    fn next_batch(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) {
        ctx.touched_points.push(self.id);
        self.instances[i].state = InstanceState::Woken;
        loop {
            let step = self.ask(ctx, intakes, i);
            let until = match step {
                InstanceStep::Done => {
                    self.instances[i].state = InstanceState::Gone;
                    return;
                }
                InstanceStep::WaitUntil(at) => Some(at),
                InstanceStep::Wait => None,
                InstanceStep::Compute { .. } | InstanceStep::Again => {
                    if self.core.pending() > 0 {
                        self.wake_idle(ctx);
                    }
                    if matches!(step, InstanceStep::Compute { .. }) {
                        return self.begin(ctx, i);
                    }
                    continue;
                }
            };
            self.instances[i].state = InstanceState::Idle(until);
            if let Some(at) = until {
                self.armed = Some(self.armed.map_or(at, |armed| armed.min(at)));
                self.arm(ctx, i, at);
            }
            return;
        }
    }

    fn ask(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) -> InstanceStep {
        let now = ctx.now;
        let (core, lanes, tally) = (&mut self.core, &self.lanes, &mut self.tally);
        let (mut expired, mut superseded) = (Vec::new(), 0);
        // In the order in which claims are asked for.
        let mut claims = Vec::new();
        let bind = |lane: LaneKey, key: EntryKey| {
            let lane = lanes[lane.index()].as_ref()?;
            let queued = intakes[lane.feed].bind(ctx, key, &mut superseded);
            claims.push((lane.feed, key, queued.is_some()));
            let queued = queued?;
            let payload = Job { feed: lane.feed, seq: queued.seq, step: lane.step };
            Some(BoundPart { payload, received: queued.received, batch_key: lane.batch_key })
        };
        let batch = &mut self.instances[i].batch;
        let step = core.next_batch(now, i, batch, &mut expired, bind);
        for (feed, key, found) in claims {
            tally.bound(ctx, feed, key, found);
        }
        for part in &expired {
            tally.expired(part.key);
        }
        tally.dispatched(ctx, batch.iter().map(|t| (t.key, t.payload.feed)), self.plan.config.max_batch_size);
        if !batch.is_empty() {
            ctx.note(Note::Dispatched { point: self.id, instance: i, size: batch.len() });
        }
        for part in expired {
            self.send(ctx, (part.key, part.part, part.payload), Err(DropReason::Expired));
        }
        step
    }

    // --- Computing.

    fn begin(&mut self, ctx: &mut Context, i: usize) {
        let SimInstance { attempt, batch, succeeded, .. } = &mut self.instances[i];
        attempt.begin(batch.len(), self.plan.processor.idempotent, ctx.now + self.plan.config.response_timeout);
        succeeded.clear();
        succeeded.resize(batch.len(), false);
        self.call(ctx, i, true);
    }

    /// Calls the processor for what comes next. False if the batch is done.
    fn call(&mut self, ctx: &mut Context, i: usize, able: bool) -> bool {
        let SimInstance { attempt, batch, processor, call, state, calling, .. } = &mut self.instances[i];
        let Some(part) = attempt.next_call(ctx.now, able) else { return false };
        let subjects = batch[part.clone()].iter().map(|t| subject(t.payload));
        let (outcome, took) = processor.call(&mut ctx.rng, ctx.now, subjects);
        *calling = (part, outcome);
        *call += 1;
        *state = InstanceState::Computes { returns: took.is_some() };
        if let Some(took) = took {
            ctx.after(took, Event::Call(self.id, i, *call));
        }
        true
    }

    /// A call returns: what has failed is tried again, or the batch is done.
    pub(super) fn call_returns(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize, call: u64) {
        ctx.touched_points.push(self.id);
        if self.instances[i].call != call {
            return;
        }
        for (instance, parts) in std::mem::take(&mut self.unclosed) {
            self.core.close_batch(ctx.now, instance, parts.into_iter(), |_| ());
        }
        let SimInstance { batch, processor, calling, succeeded, .. } = &mut self.instances[i];
        let (part, outcome) = calling.clone();
        for place in part {
            succeeded[place] =
                outcome == CallOutcome::Done && processor.succeeds(ctx.now, subject(batch[place].payload));
        }
        let lost = outcome == CallOutcome::Panicked;
        if lost {
            self.core.instance_lost(i);
        }
        let attempt = &mut self.instances[i].attempt;
        attempt.called(match outcome {
            CallOutcome::Done => CallResult::Ok,
            CallOutcome::Failed => CallResult::Failed,
            CallOutcome::Panicked => CallResult::Broke,
        });
        let able = if lost { attempt.has_more(ctx.now) && self.rebuild(ctx, intakes, i) } else { true };
        if self.call(ctx, i, able) {
            self.core.calls_again(ctx.now, i);
            return;
        }
        if self.close(ctx, intakes, i) {
            self.instances[i].pace.computed();
        }
        if able { self.next_batch(ctx, intakes, i) } else { self.build_anew(ctx, intakes, i) }
    }

    /// Frees the slots of a batch, before any of its results can be seen, and routes the results. Returns whether anything was
    /// computed.
    fn close(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) -> bool {
        let SimInstance { attempt, batch, succeeded, .. } = &mut self.instances[i];
        let batch = std::mem::take(batch);
        let verdicts: Vec<_> = (0..batch.len()).map(|place| attempt.verdict(place, succeeded[place])).collect();
        let mut parts: Vec<_> = batch.iter().map(|t| t.key).zip(verdicts.iter().copied()).collect();
        match ctx.planted {
            Some(Planted::FreeLate) => self.unclosed.push((i, std::mem::take(&mut parts))),
            Some(Planted::LeakSlot) => parts.retain(|_| ctx.rng.u8(0..16) != 0),
            _ => {}
        }
        let mut wanted = Vec::new();
        ctx.seen.retried += u32::from(attempt.retried());
        let closed = self.core.close_batch(ctx.now, i, parts.into_iter(), |is| wanted.push(is));
        // What is not closed, since that is planted, is thought to be wanted.
        wanted.resize(batch.len(), true);
        for (lane, change) in closed.standings {
            let quarantined = change == StandingChange::Quarantined;
            *(if quarantined { &mut ctx.seen.quarantined } else { &mut ctx.seen.released }) += 1;
            if let Some(lane) = self.lanes[lane.index()] {
                self.tally.quarantined(lane.feed, quarantined);
            }
        }
        let failed = verdicts.iter().filter(|v| **v != Verdict::Computed).count();
        ctx.note(Note::Closed { point: self.id, instance: i, failed });
        let mut at = ctx.now;
        for (place, (taken, verdict)) in batch.iter().zip(&verdicts).enumerate() {
            let computed = *verdict == Verdict::Computed;
            self.tally.done(ctx, taken.key, computed, wanted[place]);
            if !wanted[place] || (ctx.planted == Some(Planted::LoseResult) && ctx.rng.u8(0..16) == 0) {
                continue;
            }
            at = at + ctx.late() / 8;
            let result = if computed { Ok(()) } else { Err(DropReason::ProcessingFailed) };
            self.send_at(ctx, at, (taken.key, taken.part, taken.payload), result);
        }
        self.breaker_changed(ctx, intakes, closed.breaker);
        failed < verdicts.len()
    }

    // --- Rebuilds.

    /// Builds the processor anew, or waits until it is time to.
    fn build_anew(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) {
        let wait = self.instances[i].pace.next_wait();
        if wait.is_zero() {
            if self.rebuild(ctx, intakes, i) {
                return self.next_batch(ctx, intakes, i);
            }
            return self.build_anew(ctx, intakes, i);
        }
        let until = ctx.now + wait;
        self.instances[i].state = InstanceState::Unable(until);
        self.wake_one(ctx);
        self.run_unable(ctx, intakes, i, until);
    }

    fn rebuild(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize) -> bool {
        let ok = self.instances[i].processor.rebuilds(ctx.now);
        ctx.note(Note::Rebuilt { point: self.id, instance: i, ok });
        if ok {
            self.core.instance_rebuilt();
        } else {
            ctx.seen.failed_rebuilds += 1;
            let event = self.core.rebuild_failed(ctx.now);
            self.breaker_changed(ctx, intakes, event);
        }
        ok
    }

    fn run_unable(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], i: usize, until: MonoTime) {
        ctx.touched_points.push(self.id);
        if self.core.phase() != PointPhase::Running {
            if self.core.able() == 0 {
                let given_up = self.core.stop();
                self.fail(ctx, intakes, given_up, DropReason::Shutdown);
            }
            self.instances[i].state = InstanceState::Gone;
            return;
        }
        if ctx.now < until {
            return self.arm(ctx, i, until);
        }
        if self.rebuild(ctx, intakes, i) {
            return self.next_batch(ctx, intakes, i);
        }
        self.build_anew(ctx, intakes, i);
    }
}

fn subject(job: Job) -> Subject {
    Subject { feed: job.feed, seq: job.seq }
}
