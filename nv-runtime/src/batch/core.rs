//! Everything that a batch point decides: a pure state machine. No lock, no thread, no channel, no clock; `now` is passed
//! in, and what is to be told to others is returned.

mod answer;
mod record;

use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

pub(crate) use self::answer::{Abandoned, BreakerEvent, Closed, GivenUp, InstanceStep, Part, Verdict};
use self::record::Input;
use super::BatchConfig;
use super::breaker::{Breaker, BreakerChange, Fault};
use super::former::{BoundPart, Decision, Former, FormerConfig, LaneSpec, Taken};
use super::{EntryKey, LaneKey, Refusal};
use crate::decisions::{At, CoreLog, nanos};

/// The part of a [`BatchConfig`] that decides.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PointLimits {
    pub(crate) max_batch: usize,
    pub(crate) instances: usize,
    #[serde(with = "nanos")]
    pub(crate) max_latency: Duration,
    #[serde(with = "nanos")]
    pub(crate) response_timeout: Duration,
    #[serde(with = "nanos")]
    pub(crate) max_age: Duration,
    pub(crate) live_slots: usize,
    pub(crate) max_pending: usize,
}

impl From<&BatchConfig> for PointLimits {
    fn from(config: &BatchConfig) -> Self {
        Self {
            max_batch: config.max_batch_size,
            instances: config.instances,
            max_latency: config.max_latency,
            response_timeout: config.response_timeout,
            max_age: config.max_age,
            live_slots: config.max_in_flight_per_feed,
            max_pending: config.max_pending,
        }
    }
}

/// What kind of lane it is: that decides how many slots it has, and whether its entries grow too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LaneRole {
    /// A live feed's: `max_in_flight_per_feed` slots.
    Live,
    /// A file feed's. Together file feeds have enough slots for two batches for each instance.
    File,
    /// The direct API's: as a file feed that is alone.
    Direct,
}

/// Where a point is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PointPhase {
    /// Takes entries.
    Running,
    /// Takes no more; computes what waits.
    Draining,
    /// Computes nothing more.
    Stopped,
}

/// The decisions of a batch point: what is taken in, what is batched when and for whom, what is failed, and whether the point
/// is fit for work. Its users hold the lock, read the clock, call the processors and tell the world.
///
/// The same calls at the same times give the same answers: that is what a simulation and a replay rely on.
#[derive(Debug)]
pub(crate) struct PointCore<T> {
    limits: PointLimits,
    former: Former<T>,
    /// By the index of their keys.
    lanes: Vec<Option<(LaneKey, LaneRole)>>,
    phase: PointPhase,
    breaker: Breaker,
    /// Instances that have a processor.
    able: usize,
    /// By instance.
    calls: Vec<Call>,
    log: CoreLog,
}

/// What an instance is at.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    /// Since when it has nothing to do, as far as it has asked.
    free_since: Option<MonoTime>,
    /// Since when its processor computes a batch.
    since: Option<MonoTime>,
    /// Whether it has been reported as wedged.
    wedged: bool,
}

impl<T> PointCore<T> {
    pub(crate) fn new(limits: PointLimits) -> Self {
        let former = Former::new(FormerConfig {
            max_batch: limits.max_batch,
            max_latency: limits.max_latency,
            max_age: limits.max_age,
            max_pending: limits.max_pending,
        });
        Self {
            limits,
            former,
            lanes: Vec::new(),
            phase: PointPhase::Running,
            breaker: Breaker::default(),
            able: 0,
            calls: vec![Call::default(); limits.instances],
            log: CoreLog::default(),
        }
    }

    /// Notes what it is told and what it decides in `log`.
    pub(crate) fn set_log(&mut self, log: CoreLog) {
        self.log = log;
    }

    // --- The feeds' side.

    /// Adds a lane. This changes how many [`slots`](Self::slots) file feeds' lanes have.
    pub(crate) fn attach(&mut self, role: LaneRole, weight: u32) -> LaneKey {
        let slots = match role {
            LaneRole::Live => self.limits.live_slots,
            LaneRole::File | LaneRole::Direct => self.file_slots(1),
        };
        let key = self.former.attach(LaneSpec { live: role == LaneRole::Live, slots, weight });
        let index = key.index();
        if self.lanes.len() <= index {
            self.lanes.resize(index + 1, None);
        }
        self.lanes[index] = Some((key, role));
        self.share_file_slots();
        self.log.note(|| (Input::Attach { role, weight }, key));
        key
    }

    /// Takes a lane away: what waits in it goes to `dropped`, what is being computed will be discarded. This changes how many
    /// [`slots`](Self::slots) file feeds' lanes have.
    pub(crate) fn detach(&mut self, key: LaneKey, mut dropped: impl FnMut(T)) {
        let mut count = 0;
        self.former.detach(key, |payload| {
            count += 1;
            dropped(payload);
        });
        if let Some(lane) = self.lanes.get_mut(key.index()) {
            lane.take_if(|(k, _)| *k == key);
        }
        self.share_file_slots();
        self.log.note(|| (Input::Detach { lane: key }, count));
    }

    /// How many slots a lane has.
    pub(crate) fn slots(&self, key: LaneKey) -> usize {
        self.former.slots(key)
    }

    /// What a lane's share of a full batch would be, rounded up, if that is more than the lane has slots for: then it gets
    /// less than its weight when all lanes are busy.
    pub(crate) fn unhonoured_share(&self, key: LaneKey) -> Option<usize> {
        let (weight, total) = (self.former.weight(key), self.former.total_weight());
        unhonoured_share(weight, total, self.former.max_batch(), self.former.slots(key))
    }

    /// Submits an entry, whose frame was `received` then and has this batch key, in one part or more, which are taken only if
    /// it is. `next_due`: when the lane's next frame is due, as far as is known.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn submit(
        &mut self,
        now: MonoTime,
        lane: LaneKey,
        (received, batch_key): (MonoTime, u64),
        next_due: Option<MonoTime>,
        parts: &mut impl ExactSizeIterator<Item = T>,
    ) -> Result<EntryKey, Refusal> {
        let count = parts.len();
        let submitted = self.try_submit(now, lane, (received, batch_key), next_due, parts);
        self.log.note(|| {
            let (now, received, next_due) = (At(now), At(received), next_due.map(At));
            (Input::Submit { now, lane, received, batch_key, next_due, parts: count }, submitted)
        });
        submitted
    }

    fn try_submit(
        &mut self,
        now: MonoTime,
        lane: LaneKey,
        frame: (MonoTime, u64),
        next_due: Option<MonoTime>,
        parts: &mut impl ExactSizeIterator<Item = T>,
    ) -> Result<EntryKey, Refusal> {
        if self.phase != PointPhase::Running {
            return Err(Refusal::NoLane);
        }
        if !self.admits(now) {
            return Err(Refusal::Down);
        }
        let entry = self.former.submit(now, lane, frame, parts)?;
        // Only along with what an instance is woken for: it might be that lane that was waited for.
        self.former.set_cadence(lane, true, next_due);
        Ok(entry)
    }

    /// Submits up to `count` claims; returns how many were taken, and why the next one was not.
    pub(crate) fn claim(
        &mut self,
        now: MonoTime,
        lane: LaneKey,
        count: usize,
        next_due: Option<MonoTime>,
    ) -> (usize, Option<Refusal>) {
        let claimed = self.try_claim(now, lane, count, next_due);
        self.log.note(|| (Input::Claim { now: At(now), lane, count, next_due: next_due.map(At) }, claimed));
        claimed
    }

    fn try_claim(
        &mut self,
        now: MonoTime,
        lane: LaneKey,
        count: usize,
        next_due: Option<MonoTime>,
    ) -> (usize, Option<Refusal>) {
        if self.phase != PointPhase::Running {
            return (0, Some(Refusal::NoLane));
        }
        let (mut taken, mut refusal) = (0, None);
        while taken < count && refusal.is_none() {
            match if self.admits(now) { self.former.claim(now, lane) } else { Err(Refusal::Down) } {
                Ok(_) => taken += 1,
                Err(why) => refusal = Some(why),
            }
        }
        if taken > 0 {
            self.former.set_cadence(lane, true, next_due);
        }
        (taken, refusal)
    }

    /// Notes that no more frames come from a lane's feed, so that nobody waits for them.
    pub(crate) fn source_ended(&mut self, lane: LaneKey) {
        self.former.set_cadence(lane, false, None);
        self.log.note(|| (Input::SourceEnded { lane }, ()));
    }

    /// Gives an entry up. It is not computed, or its results are discarded. If it got no answer in time, an instance whose
    /// call has lasted that long is wedged.
    pub(crate) fn abandon(&mut self, now: MonoTime, key: EntryKey, timed_out: bool) -> Abandoned<T> {
        let mut abandoned = Abandoned { payloads: Vec::new(), wedged: Vec::new() };
        self.former.abandon(key, |payload| abandoned.payloads.push(payload));
        for (instance, call) in self.calls.iter_mut().enumerate().filter(|_| timed_out) {
            if !call.wedged && call.since.is_some_and(|since| since + self.limits.response_timeout <= now) {
                call.wedged = true;
                abandoned.wedged.push(instance);
            }
        }
        self.log
            .note(|| (Input::Abandon { now: At(now), key, timed_out }, (abandoned.payloads.len(), &abandoned.wedged)));
        abandoned
    }

    /// When the latest of an entry's parts was dispatched; `None` if none is being computed: those that are left wait their
    /// turn, or the entry has gone.
    pub(crate) fn dispatched_at(&self, key: EntryKey) -> Option<MonoTime> {
        self.former.dispatched_at(key)
    }

    // --- The owner's side.

    /// Lowers the size of batches to what the processor takes, and to what it prefers.
    pub(crate) fn limit_batch(&mut self, max_batch: Option<usize>, preferred_batch: Option<usize>) {
        for most in [max_batch, preferred_batch].into_iter().flatten() {
            self.former.limit_batch(most);
        }
        self.share_file_slots();
        self.log.note(|| (Input::LimitBatch { max_batch, preferred_batch }, self.former.max_batch()));
    }

    /// Takes no more entries; what waits is still computed.
    pub(crate) fn drain(&mut self) {
        if self.phase == PointPhase::Running {
            self.phase = PointPhase::Draining;
        }
        self.log.note(|| (Input::Drain, ()));
    }

    /// Nothing more is computed. Returns what waited.
    pub(crate) fn stop(&mut self) -> GivenUp<T> {
        self.phase = PointPhase::Stopped;
        let given_up = self.give_up();
        self.log.note(|| (Input::Stop, &given_up));
        given_up
    }

    // --- The instances' side.

    /// An instance has a processor, its first.
    pub(crate) fn instance_started(&mut self) {
        self.able += 1;
        self.log.note(|| (Input::InstanceStarted, ()));
    }

    /// An instance has lost its processor.
    pub(crate) fn instance_lost(&mut self) {
        self.able -= 1;
        self.log.note(|| (Input::InstanceLost, ()));
    }

    /// An instance has a processor again.
    pub(crate) fn instance_rebuilt(&mut self) {
        self.able += 1;
        self.breaker.rebuilt();
        self.log.note(|| (Input::InstanceRebuilt, ()));
    }

    /// Takes in a rebuild that failed. While the point is down, what waits is given up with it: a probe, which nobody can
    /// compute.
    pub(crate) fn rebuild_failed(&mut self, now: MonoTime) -> BreakerEvent<T> {
        // While another instance works, the point does.
        let change = if self.able == 0 { self.breaker.rebuild_failed(now) } else { BreakerChange::None };
        let nobody = self.able == 0 && self.breaker.is_down();
        let event = BreakerEvent { change, given_up: nobody.then(|| self.give_up()) };
        self.log.note(|| (Input::RebuildFailed { now: At(now) }, &event));
        event
    }

    /// Gives an instance its next batch, if it is time for one. `bind` finds the frame for a claim, or nothing. What is too
    /// old goes to `expired`, whatever is returned.
    pub(crate) fn next_batch(
        &mut self,
        now: MonoTime,
        instance: usize,
        batch: &mut Vec<Taken<T>>,
        expired: &mut Vec<Part<T>>,
        mut bind: impl FnMut(LaneKey, EntryKey) -> Option<BoundPart<T>>,
    ) -> InstanceStep {
        let mut bound = self.log.list();
        let bind = |lane, key| {
            let part = bind(lane, key);
            bound.push(|| part.as_ref().map(|part| (At(part.received), part.batch_key)));
            part
        };
        let step = self.try_next(now, instance, batch, expired, bind);
        self.log
            .note(|| (Input::NextBatch { now: At(now), instance, bound: bound.take() }, (step, &*batch, &*expired)));
        step
    }

    fn try_next(
        &mut self,
        now: MonoTime,
        instance: usize,
        batch: &mut Vec<Taken<T>>,
        expired: &mut Vec<Part<T>>,
        bind: impl FnMut(LaneKey, EntryKey) -> Option<BoundPart<T>>,
    ) -> InstanceStep {
        let free_since = *self.calls[instance].free_since.get_or_insert(now);
        let decision = self.former.decide(now);
        match (self.phase, decision) {
            (PointPhase::Stopped, _) | (PointPhase::Draining, Decision::Idle) => return InstanceStep::Done,
            (PointPhase::Running, Decision::WaitUntil(at)) => return InstanceStep::WaitUntil(at),
            (PointPhase::Running, Decision::Idle) => return InstanceStep::Wait,
            // What is still to come is not waited for any more.
            (_, Decision::Dispatch) | (PointPhase::Draining, Decision::WaitUntil(_)) => {}
        }
        let expire = |key, part, payload| expired.push(Part { key, part, payload });
        self.former.take(now, batch, bind, expire);
        if let Some(oldest) = batch.iter().map(|t| t.wait).max() {
            self.calls[instance] = Call { free_since: None, since: Some(now), wedged: false };
            return InstanceStep::Compute { formation: oldest.min(now.since(free_since)) };
        }
        match decision {
            // Only what has to go by itself, later, is left.
            Decision::WaitUntil(at) if expired.is_empty() => InstanceStep::WaitUntil(at),
            _ => InstanceStep::Again,
        }
    }

    /// What an instance that is idle at `now` should do, without doing it: whether to wake one.
    pub(crate) fn decide(&self, now: MonoTime) -> Decision {
        let decision = self.former.decide(now);
        self.log.note(|| (Input::Decide { now: At(now) }, decision));
        decision
    }

    /// Ends the parts of a batch, and frees the slots of entries that are done by it, before any of its results can be seen.
    /// `at_fault`: no part was computed. `wanted` is told for each part, in order, whether its result is still wanted.
    ///
    /// Where it is not known which part spoilt the batch, it may as well have been one feed's as the processor: that is found
    /// out by as many batches of one.
    pub(crate) fn close_batch(
        &mut self,
        now: MonoTime,
        instance: usize,
        at_fault: bool,
        parts: impl Iterator<Item = (EntryKey, Verdict)>,
        mut wanted: impl FnMut(bool),
    ) -> Closed<T> {
        let mut standings = Vec::new();
        let (mut ended, mut results) = (self.log.list(), self.log.list());
        let mut unlucky = 0;
        // Whose they were, as far as they are here; and whether they were several lanes'.
        let (mut whose, mut several) = (None, false);
        for (key, verdict) in parts {
            if let Some(lane) = self.former.lane_of(key) {
                several |= whose.replace(lane).is_some_and(|other| other != lane);
            }
            unlucky += usize::from(verdict == Verdict::Unlucky);
            let released = self.former.release(key, verdict);
            standings.extend(released.standing);
            ended.push(|| (key, verdict));
            results.push(|| released.wanted);
            wanted(released.wanted);
        }
        let call = std::mem::take(&mut self.calls[instance]);
        self.former.single_out(unlucky);
        let proves_something = unlucky == 0 || self.breaker.is_down();
        let fault = at_fault.then(|| match whose {
            Some(lane) if !several && self.has_others(lane) => Fault::OfOneLane(lane),
            _ => Fault::OfAnybody,
        });
        let change = if proves_something { self.breaker.batch_done(now, fault) } else { BreakerChange::None };
        let given_up = (change == BreakerChange::Down).then(|| self.give_up());
        let closed = Closed { standings, was_wedged: call.wedged, breaker: BreakerEvent { change, given_up } };
        self.log.note(|| {
            let input = Input::CloseBatch { now: At(now), instance, at_fault, parts: ended.take() };
            (input, (results.take(), &closed))
        });
        closed
    }

    // --- What it looks like.

    pub(crate) fn phase(&self) -> PointPhase {
        self.phase
    }

    /// Instances that have a processor.
    pub(crate) fn able(&self) -> usize {
        self.able
    }

    pub(crate) fn is_down(&self) -> bool {
        self.breaker.is_down()
    }

    /// Parts and claims that wait.
    pub(crate) fn pending(&self) -> usize {
        self.former.pending()
    }

    /// Of each instance, since when it computes a batch, if it does, and whether it was seen to be wedged.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (Option<MonoTime>, bool)> {
        self.calls.iter().map(|call| (call.since, call.wedged))
    }

    /// Parts that are being computed.
    pub(crate) fn in_dispatch(&self) -> usize {
        self.former.in_dispatch()
    }

    /// Slots that a lane has in use.
    #[cfg(test)]
    pub(crate) fn used(&self, key: LaneKey) -> usize {
        self.former.used(key)
    }

    /// Parts that were computed for a lane.
    pub(crate) fn served(&self, key: LaneKey) -> u64 {
        self.former.served(key)
    }

    // --- Inside.

    /// Whether the breaker lets an entry in.
    fn admits(&self, now: MonoTime) -> bool {
        !self.breaker.is_down() || self.breaker.admits(now, self.former.pending() + self.former.in_dispatch())
    }

    /// Whether a feed but the one of `lane` is there whose source runs.
    fn has_others(&self, lane: LaneKey) -> bool {
        let runs = |(key, role): &(LaneKey, LaneRole)| *role != LaneRole::Direct && self.former.is_running(*key);
        self.lanes.iter().flatten().any(|other| other.0 != lane && runs(other))
    }

    /// Slots that each of `feeds` file feeds may have.
    fn file_slots(&self, feeds: usize) -> usize {
        (2 * self.former.max_batch() * self.limits.instances).div_ceil(feeds.max(1))
    }

    fn share_file_slots(&mut self) {
        let files = self.lanes.iter().flatten().filter(|(_, role)| *role == LaneRole::File).count();
        for (key, role) in self.lanes.iter().flatten() {
            let feeds = match role {
                LaneRole::Live => continue,
                LaneRole::File => files,
                LaneRole::Direct => 1,
            };
            self.former.set_slots(*key, self.file_slots(feeds));
        }
    }

    fn give_up(&mut self) -> GivenUp<T> {
        let mut parts = Vec::new();
        let claims = self.former.drain(|key, part, payload| parts.push(Part { key, part, payload }));
        GivenUp { parts, claims }
    }
}

/// The share of a batch that a lane of `weight` has, rounded up, where it is more than its `slots`. A lane that is alone, or
/// that asks for no more than any other, is not meant.
fn unhonoured_share(weight: u32, total_weight: u64, max_batch: usize, slots: usize) -> Option<usize> {
    if weight <= 1 || u64::from(weight) == total_weight {
        return None;
    }
    let share = (u64::from(weight) * max_batch as u64).div_ceil(total_weight.max(1)) as usize;
    (share > slots).then_some(share)
}

#[cfg(test)]
mod tests;
