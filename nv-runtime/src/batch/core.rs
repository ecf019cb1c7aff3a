//! Everything that a batch point decides: a pure state machine. No lock, no thread, no channel, no clock; `now` is passed
//! in, and what is to be told to others is returned.

mod answer;
mod record;
mod shares;

use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

pub(crate) use self::answer::{BreakerEvent, Closed, GivenUp, InstanceStep, Part, Verdict};
use self::record::Input;
pub(crate) use self::shares::Unhonoured;
use super::BatchConfig;
use super::breaker::{Breaker, BreakerChange, Fault};
use super::former::{BoundPart, Decision, EntryState, Former, FormerConfig, LaneSpec, Taken};
use super::standing::StandingChange;
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
    lanes: Vec<Option<Attached>>,
    phase: PointPhase,
    breaker: Breaker,
    /// The lane that took the point down, if it was one alone: anybody else's entry is a probe at once.
    down_by: Option<LaneKey>,
    /// Instances that have a processor.
    able: usize,
    /// By instance.
    calls: Vec<Call>,
    /// The parts of the batch that is being closed; kept for its memory.
    ending: Vec<(EntryKey, Verdict)>,
    log: CoreLog,
}

/// A feed lately had something computed if it was within this time: one that is seldom heard of is a feed all the same.
const LATELY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Attached {
    key: LaneKey,
    role: LaneRole,
    /// Whether it was told that its weight is not honoured, and that has not changed since.
    told: bool,
}

/// What an instance is at.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    /// Since when it has nothing to do, as far as it has asked.
    free_since: Option<MonoTime>,
    /// Since when its processor is in a call.
    since: Option<MonoTime>,
    /// Whether that call has been reported as wedged.
    wedged: bool,
    /// Whether any call for its batch has.
    was_wedged: bool,
    /// Whose its batch is: the lane of its first part, and whether others have a part in it.
    whose: Option<LaneKey>,
    several: bool,
}

impl Call {
    fn is_wedged(&self, now: MonoTime, limit: Duration) -> bool {
        self.since.is_some_and(|since| since + limit <= now)
    }
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
            down_by: None,
            able: 0,
            calls: vec![Call::default(); limits.instances],
            ending: Vec::new(),
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
        self.lanes[index] = Some(Attached { key, role, told: false });
        self.share_file_slots();
        self.log.note(|| (Input::Attach { role, weight }, key));
        key
    }

    /// Takes a lane away: what waits in it goes to `dropped`, what is being computed will be discarded. Returns how many
    /// frames were given up by it. This changes how many [`slots`](Self::slots) file feeds' lanes have.
    pub(crate) fn detach(&mut self, key: LaneKey, dropped: impl FnMut(T)) -> usize {
        let count = self.former.detach(key, dropped);
        if let Some(lane) = self.lanes.get_mut(key.index()) {
            lane.take_if(|lane| lane.key == key);
        }
        self.share_file_slots();
        self.log.note(|| (Input::Detach { lane: key }, count));
        count
    }

    /// How many slots a lane has.
    pub(crate) fn slots(&self, key: LaneKey) -> usize {
        self.former.slots(key)
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
        if !self.admits(now, lane) {
            return Err(Refusal::Down);
        }
        let entry = self.former.submit(now, lane, frame, parts)?;
        self.breaker.let_in(now);
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
            match if self.admits(now, lane) { self.former.claim(now, lane) } else { Err(Refusal::Down) } {
                Ok(_) => {
                    self.breaker.let_in(now);
                    taken += 1;
                }
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

    /// Gives an entry up. It is not computed, or its results are discarded; what still waited of it goes to `dropped`. False if
    /// it was here no more.
    pub(crate) fn abandon(&mut self, key: EntryKey, dropped: impl FnMut(T)) -> bool {
        let was_here = self.former.abandon(key, dropped);
        self.log.note(|| (Input::Abandon { key }, was_here));
        was_here
    }

    /// What becomes of an entry. Whoever has submitted one has to ask, now and then: an answer may never come.
    pub(crate) fn state_of(&self, now: MonoTime, key: EntryKey) -> EntryState {
        self.former.state_of(now, key, self.limits.response_timeout)
    }

    /// Instances that are seen to be wedged by now, each once in a call. To be asked by whoever asks for anything else: of
    /// those who wait, somebody will.
    pub(crate) fn find_wedged(&mut self, now: MonoTime) -> Vec<usize> {
        let mut found = Vec::new();
        for (instance, call) in self.calls.iter_mut().enumerate() {
            if !call.wedged && call.is_wedged(now, self.limits.response_timeout) {
                (call.wedged, call.was_wedged) = (true, true);
                found.push(instance);
            }
        }
        if !found.is_empty() {
            self.log.note(|| (Input::FindWedged { now: At(now) }, &found));
        }
        found
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

    /// An instance has lost its processor, and is in no call of it.
    pub(crate) fn instance_lost(&mut self, instance: usize) {
        self.able -= 1;
        let call = &mut self.calls[instance];
        (call.since, call.wedged) = (None, false);
        self.log.note(|| (Input::InstanceLost { instance }, ()));
    }

    /// An instance calls its processor once more for its batch.
    pub(crate) fn calls_again(&mut self, now: MonoTime, instance: usize) {
        let call = &mut self.calls[instance];
        (call.since, call.wedged) = (Some(now), false);
        self.log.note(|| (Input::CallsAgain { now: At(now), instance }, ()));
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
            let mut whose = batch.iter().filter_map(|taken| self.former.lane_of(taken.key));
            let first = whose.next();
            let several = whose.any(|lane| Some(lane) != first);
            self.calls[instance] = Call { since: Some(now), whose: first, several, ..Call::default() };
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
    /// `wanted` is told for each part, in order, whether its result is still wanted.
    ///
    /// The processor was at fault, for all that is known, if no part was computed. Where it is not known which part spoilt the
    /// batch, it may as well have been one feed's as the processor: that is found out by as many batches of one. What is booked
    /// against the processor is not held against the feeds.
    pub(crate) fn close_batch(
        &mut self,
        now: MonoTime,
        instance: usize,
        parts: impl Iterator<Item = (EntryKey, Verdict)>,
        mut wanted: impl FnMut(bool),
    ) -> Closed<T> {
        let mut ending = std::mem::take(&mut self.ending);
        ending.extend(parts);
        let call = std::mem::take(&mut self.calls[instance]);
        let count = |verdict| ending.iter().filter(|(_, v)| *v == verdict).count();
        let (computed, unlucky) = (count(Verdict::Computed), count(Verdict::Unlucky));
        let fault = (computed == 0 && !ending.is_empty()).then(|| match call.whose {
            Some(lane) if !call.several && self.has_others(now, lane) => Fault::OfOneLane(lane),
            _ => Fault::OfAnybody,
        });
        let mut standings = Vec::new();
        let mut results = self.log.list();
        for (key, verdict) in &ending {
            if *verdict == Verdict::Computed
                && let Some(lane) = self.former.lane_of(*key)
            {
                self.former.note_computed(lane, now);
            }
            let spared = fault == Some(Fault::OfAnybody) && *verdict == Verdict::Guilty;
            let released = self.former.release(*key, if spared { Verdict::Unlucky } else { *verdict });
            standings.extend(released.standing);
            results.push(|| released.wanted);
            wanted(released.wanted);
        }
        self.former.single_out(unlucky);
        let change = match fault {
            None if computed > 0 => self.breaker.batch_done(now, None),
            Some(fault) if unlucky == 0 || self.breaker.is_down() => self.breaker.batch_done(now, Some(fault)),
            _ => BreakerChange::None,
        };
        if change != BreakerChange::None || call.several || call.whose != self.down_by {
            self.down_by = call.whose.filter(|_| change == BreakerChange::Down && !call.several);
        }
        if change == BreakerChange::Up {
            // Most of it was while the processor was failing.
            standings.retain(|(_, change)| *change == StandingChange::Released);
            standings.extend(self.former.forgive().into_iter().map(|lane| (lane, StandingChange::Released)));
        }
        let given_up = (change == BreakerChange::Down).then(|| self.give_up());
        let closed = Closed { standings, was_wedged: call.was_wedged, breaker: BreakerEvent { change, given_up } };
        self.log.note(|| {
            let input = Input::CloseBatch { now: At(now), instance, parts: ending.clone() };
            (input, (results.take(), &closed))
        });
        ending.clear();
        self.ending = ending;
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

    /// Of each instance, since when its processor is in a call, if it is, and whether it is wedged.
    pub(crate) fn calls(&self, now: MonoTime) -> impl Iterator<Item = (Option<MonoTime>, bool)> {
        let limit = self.limits.response_timeout;
        self.calls.iter().map(move |call| (call.since, call.is_wedged(now, limit)))
    }

    /// The most parts in a batch, as the processor will have it.
    pub(crate) fn max_batch(&self) -> usize {
        self.former.max_batch()
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

    /// Whether the breaker lets an entry in. A probe that nobody could compute would show nothing.
    fn admits(&self, now: MonoTime, lane: LaneKey) -> bool {
        let inside = self.former.pending() + self.former.in_dispatch();
        let another = self.down_by.is_some_and(|by| by != lane) && inside == 0;
        !self.breaker.is_down() || (self.able > 0 && (another || self.breaker.admits(now, inside)))
    }

    /// Whether anybody but the feed of `lane` has something here, or had something computed lately: then it will show whether
    /// it is that feed or the processor.
    fn has_others(&self, now: MonoTime, lane: LaneKey) -> bool {
        let since = MonoTime::from_nanos(now.as_nanos().saturating_sub(LATELY.as_nanos() as u64));
        self.lanes.iter().flatten().any(|other| other.key != lane && self.former.is_active(other.key, since))
    }

    /// Slots that each of `feeds` file feeds may have.
    fn file_slots(&self, feeds: usize) -> usize {
        (2 * self.former.max_batch() * self.limits.instances).div_ceil(feeds.max(1))
    }

    fn share_file_slots(&mut self) {
        let files = self.lanes.iter().flatten().filter(|lane| lane.role == LaneRole::File).count();
        for lane in self.lanes.iter().flatten() {
            let feeds = match lane.role {
                LaneRole::Live => continue,
                LaneRole::File => files,
                LaneRole::Direct => 1,
            };
            self.former.set_slots(lane.key, self.file_slots(feeds));
        }
    }

    fn give_up(&mut self) -> GivenUp<T> {
        let mut parts = Vec::new();
        let claims = self.former.drain(|key, part, payload| parts.push(Part { key, part, payload }));
        GivenUp { parts, claims }
    }
}

#[cfg(test)]
mod tests;
