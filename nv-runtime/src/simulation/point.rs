//! The shell of a batch point in virtual time: who is woken when, and where results go. Its instances' side is in
//! [`instance`](super::instance).

use std::time::Duration;

use nv_core::{DropReason, MonoTime};

use super::instance::{InstanceState, SimInstance};
use super::intake::SimIntake;
use super::planted::Planted;
use super::scenario::PointPlan;
use super::tally::Tally;
use super::world::{Context, Event, Note};
use crate::batch::cores::{
    BreakerChange, BreakerEvent, Decision, GivenUp, LaneRole, PointCore, PointLimits, PointPhase, Verdict,
};
use crate::batch::{EntryKey, EntryState, GivenUpFor, LaneKey, Refusal};

/// A part of a frame on its way through a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) feed: usize,
    pub(super) seq: u64,
    pub(super) step: usize,
}

/// A part's end, as its feed sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) feed: usize,
    pub(super) point: usize,
    pub(super) step: usize,
    pub(super) key: EntryKey,
    pub(super) part: u32,
    pub(super) result: Result<(), DropReason>,
}

/// A batch point.
pub(super) struct SimPoint {
    pub(super) id: usize,
    pub(super) plan: PointPlan,
    pub(super) core: PointCore<Job>,
    pub(super) lanes: Vec<Option<Attached>>,
    /// The earliest time at which an idle instance looks by itself, as far as is known.
    pub(super) armed: Option<MonoTime>,
    pub(super) instances: Vec<SimInstance>,
    /// Whether nothing is wrong with its processors, and they are fast enough that no answer is late.
    pub(super) healthy: bool,
    /// Since when some instance has been idle all the time.
    pub(super) idle_since: Option<MonoTime>,
    /// Batches that are closed too late, where that is planted.
    pub(super) unclosed: Vec<(usize, Vec<(EntryKey, Verdict)>)>,
    pub(super) tally: Tally,
}

/// A feed's lane.
#[derive(Clone, Copy)]
pub(super) struct Attached {
    pub(super) key: LaneKey,
    pub(super) feed: usize,
    /// The step that claims are for.
    pub(super) step: usize,
    /// The batch key of its frames.
    pub(super) batch_key: u64,
}

impl SimPoint {
    pub(super) fn new(id: usize, plan: PointPlan, feeds: usize, planted: Option<Planted>) -> Self {
        let mut limits = PointLimits::from(&plan.config);
        if planted == Some(Planted::HoldLong) {
            limits.max_latency = limits.max_latency * 2 + Duration::from_millis(5);
        }
        let mut core = PointCore::new(limits);
        core.limit_batch(None, plan.preferred);
        let instances: Vec<_> = (0..plan.config.instances).map(|_| SimInstance::new(&plan.processor)).collect();
        instances.iter().for_each(|_| core.instance_started());
        Self {
            id,
            healthy: plan.is_healthy(),
            plan,
            core,
            lanes: Vec::new(),
            armed: None,
            instances,
            idle_since: None,
            unclosed: Vec::new(),
            tally: Tally::new(id, feeds),
        }
    }

    pub(super) fn start(&mut self, ctx: &mut Context) {
        for i in 0..self.instances.len() {
            ctx.soon(Event::Instance(self.id, i));
        }
    }

    // --- The feeds' side.

    pub(super) fn attach(
        &mut self,
        ctx: &mut Context,
        (feed, step): (usize, usize),
        role: LaneRole,
        weight: u32,
        batch_key: u64,
    ) -> LaneKey {
        ctx.touched_points.push(self.id);
        let fair = ctx.planted != Some(Planted::IgnoreWeights);
        let key = self.core.attach(role, if fair { weight } else { 1 });
        if self.lanes.len() <= key.index() {
            self.lanes.resize(key.index() + 1, None);
        }
        self.lanes[key.index()] = Some(Attached { key, feed, step, batch_key });
        self.tally.attached(feed, weight, batch_key);
        self.wake_one(ctx);
        key
    }

    pub(super) fn detach(&mut self, ctx: &mut Context, key: LaneKey) {
        self.core.detach(key, |_| ());
        self.inspect(ctx);
        if let Some(lane) = self.lanes[key.index()].take_if(|l| l.key == key) {
            self.tally.detached(lane.feed);
        }
        self.wake_one(ctx);
    }

    pub(super) fn slots(&self, key: LaneKey) -> usize {
        self.core.slots(key)
    }

    /// Submits a frame, in as many parts.
    pub(super) fn submit(
        &mut self,
        ctx: &mut Context,
        lane: LaneKey,
        received: MonoTime,
        (job, parts): (Job, u32),
        next_due: Option<MonoTime>,
    ) -> Result<EntryKey, Refusal> {
        ctx.touched_points.push(self.id);
        let batch_key = self.lanes[lane.index()].map_or(0, |l| l.batch_key);
        let mut jobs = std::iter::repeat_n(job, parts as usize);
        let key = self.core.submit(ctx.now, lane, (received, batch_key), next_due, &mut jobs)?;
        self.tally.took(ctx, key, job.feed, parts, self.core.slots(lane));
        ctx.note(Note::Submitted { feed: job.feed, seq: job.seq, point: self.id });
        self.wake_one(ctx);
        Ok(key)
    }

    pub(super) fn claim(
        &mut self,
        ctx: &mut Context,
        lane: LaneKey,
        count: usize,
        next_due: Option<MonoTime>,
    ) -> (usize, Option<Refusal>) {
        ctx.touched_points.push(self.id);
        let (taken, refusal) = self.core.claim(ctx.now, lane, count, next_due);
        if taken > 0 {
            let feed = self.lanes[lane.index()].map_or(usize::MAX, |l| l.feed);
            self.tally.claimed(ctx, feed, taken, self.core.slots(lane));
            ctx.note(Note::Claimed { feed, point: self.id, count: taken });
            self.wake_one(ctx);
        }
        (taken, refusal)
    }

    pub(super) fn source_ended(&mut self, ctx: &mut Context, lane: LaneKey) {
        self.core.source_ended(lane);
        self.wake_one(ctx);
    }

    /// Gives an entry up: it got no answer in time, or its feed was stopped.
    pub(super) fn abandon(&mut self, ctx: &mut Context, key: EntryKey, why: GivenUpFor) {
        ctx.touched_points.push(self.id);
        if why == GivenUpFor::Timeout {
            let (id, healthy) = (self.id, self.healthy);
            ctx.check(!healthy, || format!("point {id}: {key:?} got no answer, though nothing is wrong with it"));
        } else {
            self.tally.gave_up(key);
        }
        self.core.abandon(key, |_| ());
        self.inspect(ctx);
        self.tally.ended(key);
        self.wake_one(ctx);
    }

    /// Finds instances that are wedged.
    pub(super) fn inspect(&mut self, ctx: &mut Context) {
        ctx.seen.wedged += self.core.find_wedged(ctx.now).len() as u32;
    }

    // --- The owner's side.

    /// Takes no more entries; what waits is still computed.
    pub(super) fn drain(&mut self, ctx: &mut Context) {
        if self.core.phase() != PointPhase::Running {
            return;
        }
        self.core.drain();
        for i in 0..self.instances.len() {
            match self.instances[i].state {
                InstanceState::Idle(_) => self.wake(ctx, i),
                InstanceState::Unable(_) => ctx.soon(Event::Instance(self.id, i)),
                _ => {}
            }
        }
    }

    // --- Wake-ups.

    /// Wakes an instance, if there is something for it to do.
    pub(super) fn wake_one(&mut self, ctx: &mut Context) {
        ctx.touched_points.push(self.id);
        let needed = match self.core.decide(ctx.now) {
            Decision::Dispatch => true,
            Decision::WaitUntil(at) => self.armed.is_none_or(|armed| armed > at),
            Decision::Idle => false,
        };
        if needed && !(ctx.planted == Some(Planted::ForgetWakeUp) && ctx.rng.u8(0..8) == 0) {
            self.wake_idle(ctx);
        }
    }

    /// Wakes any of those that wait for work.
    pub(super) fn wake_idle(&mut self, ctx: &mut Context) {
        let waits = |(_, i): &(usize, &SimInstance)| matches!(i.state, InstanceState::Idle(_));
        let count = self.instances.iter().enumerate().filter(waits).count();
        if count > 0 {
            let nth = ctx.rng.usize(0..count);
            if let Some((i, _)) = self.instances.iter().enumerate().filter(waits).nth(nth) {
                self.wake(ctx, i);
            }
        }
    }

    fn wake(&mut self, ctx: &mut Context, i: usize) {
        self.instances[i].state = InstanceState::Woken;
        ctx.soon(Event::Instance(self.id, i));
    }

    // --- Ends.

    pub(super) fn send(&self, ctx: &mut Context, to: (EntryKey, u32, Job), result: Result<(), DropReason>) {
        self.send_at(ctx, ctx.now, to, result);
    }

    pub(super) fn send_at(
        &self,
        ctx: &mut Context,
        at: MonoTime,
        (key, part, job): (EntryKey, u32, Job),
        result: Result<(), DropReason>,
    ) {
        let Job { feed, step, .. } = job;
        ctx.at(at, Event::Result(Completion { feed, point: self.id, step, key, part, result }));
    }

    pub(super) fn breaker_changed(&mut self, ctx: &mut Context, intakes: &mut [SimIntake], event: BreakerEvent<Job>) {
        match event.change {
            BreakerChange::None => {}
            BreakerChange::Up => ctx.seen.up += 1,
            BreakerChange::Down => {
                ctx.seen.down += 1;
                ctx.note(Note::Down { point: self.id });
            }
        }
        if let Some(given_up) = event.given_up {
            self.fail(ctx, intakes, given_up, DropReason::Unavailable);
        }
    }

    pub(super) fn fail(
        &mut self,
        ctx: &mut Context,
        intakes: &mut [SimIntake],
        given_up: GivenUp<Job>,
        reason: DropReason,
    ) {
        self.tally.drained();
        for (lane, count) in given_up.claims {
            if let Some(lane) = self.lanes[lane.index()] {
                intakes[lane.feed].void_claims(ctx, count, reason);
            }
        }
        for part in given_up.parts {
            self.send(ctx, (part.key, part.part, part.payload), Err(reason));
        }
    }

    // --- For the checks.

    /// A result is seen: its slot must be free, unless other parts of its frame still need it.
    pub(super) fn check_result(&self, ctx: &mut Context, key: EntryKey) {
        if self.plan.regions == 1 {
            let held = matches!(self.core.state_of(ctx.now, key), EntryState::Dispatched(_));
            ctx.check(!held, || format!("point {}: the result of {key:?} is seen before its slot is free", self.id));
        }
    }

    /// Whether its instances are all at rest, or in a call that never returns.
    pub(super) fn is_at_rest(&self) -> bool {
        let rests = |i: &SimInstance| match i.state {
            InstanceState::Gone | InstanceState::Idle(_) => true,
            InstanceState::Computes { returns } => !returns,
            InstanceState::Woken | InstanceState::Unable(_) => false,
        };
        self.instances.iter().all(rests)
    }
}
