mod state;

use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use nv_core::{Clock as _, DropReason, Frame, HealthKind, MonoTime, Name};
use nv_perception::{BatchCapabilities, BatchEntry, BatchKey};

use self::state::{AttachedLane, State, bind};
use super::account::Account;
use super::breaker::BreakerChange;
use super::core::{
    BreakerEvent, InstanceStep, LaneRole, Part, PointCore, PointLimits, PointPhase, Unhonoured, Verdict,
};
use super::former::{BoundPart, Decision, Taken};
use super::metrics::BatchMetrics;
use super::route::{BatchReport, Job, LaneKind, Reply};
use super::standing::StandingChange;
use super::{BatchConfig, BatchError, EntryKey, EntryState, LaneKey, Refusal};
use crate::decisions::{DecisionLog, Recorded as _};
use crate::health::HealthHub;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, SystemClock};

/// A batch point's shared half: what it decides, under a lock, and what its lanes lead to. There is no coordinator thread:
/// an idle instance takes the lock, takes its batch or waits for the next deadline.
pub(crate) struct Point {
    pub(crate) name: Name,
    pub(crate) config: BatchConfig,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) health: HealthHub,
    /// Where what is decided is noted.
    pub(super) decisions: Option<DecisionLog>,
    state: Mutex<State>,
    /// Signalled when something was submitted, or the phase changed. Instances that have a processor wait here.
    wake: Condvar,
    /// Signalled when the phase changed: instances that have none wait here. They would take wake-ups from those who can work.
    wake_unable: Condvar,
    /// What the processors want entries of a batch to have in common; known once one of them is ready.
    batch_key: OnceLock<BatchKey>,
}

/// Why an entry is given up before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUpFor {
    /// Its answer is overdue.
    Timeout,
    /// It waits, and is too old to be computed.
    Age,
    /// Nobody wants its results any more.
    NoUse,
}

/// A batch on its way to a processor.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// Whether its entries may be given to the processor again.
    pub(super) idempotent: bool,
    pub(super) taken: Vec<Taken<Job>>,
    /// What was too old to go with it; here for its memory.
    expired: Vec<Part<Job>>,
}

impl Point {
    pub(crate) fn new(
        name: Name,
        config: BatchConfig,
        clock: Arc<SystemClock>,
        health: HealthHub,
        decisions: Option<&DecisionLog>,
    ) -> Self {
        let limits = PointLimits::from(&config);
        let mut core = PointCore::new(limits);
        core.set_log(PointCore::<()>::begin(&limits, decisions, &name));
        let state = State {
            core,
            lanes: Vec::new(),
            idle: 0,
            armed: None,
            trouble: String::new(),
            account: Account::new(config.max_batch_size, config.instances, clock.now()),
            capabilities: None,
        };
        Self {
            name,
            config,
            clock,
            health,
            decisions: decisions.cloned(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            wake_unable: Condvar::new(),
            batch_key: OnceLock::new(),
        }
    }

    // --- The feeds' side.

    /// Adds a lane. `slots` will hold how many slots it has, from now on.
    pub(crate) fn attach(&self, feed: Option<Name>, kind: LaneKind, weight: u32, slots: Arc<AtomicUsize>) -> LaneKey {
        let role = match kind {
            LaneKind::Live(_) => LaneRole::Live,
            LaneKind::File => LaneRole::File,
            LaneKind::Direct => LaneRole::Direct,
        };
        let mut state = self.state.lock();
        let key = state.core.attach(role, weight);
        let index = key.index();
        if state.lanes.len() <= index {
            state.lanes.resize_with(index + 1, || None);
        }
        state.lanes[index] = Some(AttachedLane { key, feed, kind, slots });
        state.tell_slots();
        let found = state.core.newly_unhonoured();
        let unhonoured: Vec<_> = found.into_iter().filter_map(|lane| Some((state.feed_of(lane.lane)?, lane))).collect();
        // Other file feeds may have fewer slots by it, and one without a free slot is not waited for.
        self.wake_one(state);
        for (feed, Unhonoured { weight, share, slots, .. }) in unhonoured {
            tracing::warn!(
                %feed, batch = %self.name, weight, slots, share,
                "the feed's share of a batch is more than it has slots for (max_in_flight_per_feed): it gets less than its weight"
            );
        }
        key
    }

    /// Takes a lane away: what waits in it is gone, what is being computed will be discarded.
    pub(crate) fn detach(&self, key: LaneKey) {
        let mut state = self.state.lock();
        let mut gone = Vec::new();
        state.account.counts.abandoned += state.core.detach(key, |job| gone.push(job)) as u64;
        let wedged = state.core.find_wedged(self.clock.now());
        let lane = state.lanes.get_mut(key.index()).and_then(|lane| lane.take_if(|l| l.key == key));
        state.tell_slots();
        self.wake_one(state);
        // Frames and channels are given back without the lock.
        drop((gone, lane));
        self.report_wedged(&wedged);
    }

    /// Submits an entry for a whole frame. `next_due`: when the lane's next frame is due, as far as is known.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn submit(
        &self,
        key: LaneKey,
        entry: BatchEntry,
        reply: Reply,
        next_due: Option<MonoTime>,
    ) -> Result<EntryKey, Refusal> {
        let frame = self.facts_of(entry.frame());
        self.submit_parts(key, frame, &mut std::iter::once(Job { entry, reply }), next_due)
    }

    /// Submits regions of one frame, at least one, under one slot and one key. Each gets an answer of its own, in any order;
    /// they may be spread over batches and instances. How many there may be is the caller's to observe
    /// (`max_regions_per_frame`).
    ///
    /// # Errors
    /// None of them was taken.
    pub(crate) fn submit_regions(
        &self,
        key: LaneKey,
        entries: impl IntoIterator<Item = BatchEntry, IntoIter: ExactSizeIterator>,
        reply: &Reply,
        next_due: Option<MonoTime>,
    ) -> Result<EntryKey, Refusal> {
        let entries = entries.into_iter();
        debug_assert!(entries.len() <= self.config.max_regions_per_frame, "the caller cuts what is beyond");
        let mut jobs = entries.map(|entry| Job { entry, reply: reply.clone() }).peekable();
        let Some(first) = jobs.peek() else { return Err(Refusal::NoLane) };
        let frame = self.facts_of(first.entry.frame());
        self.submit_parts(key, frame, &mut jobs, next_due)
    }

    fn submit_parts(
        &self,
        key: LaneKey,
        frame: (MonoTime, u64),
        parts: &mut impl ExactSizeIterator<Item = Job>,
        next_due: Option<MonoTime>,
    ) -> Result<EntryKey, Refusal> {
        let now = self.clock.now();
        let count = parts.len() as u64;
        let mut state = self.state.lock();
        let submitted = state.core.submit(now, key, frame, next_due, parts);
        let wedged = state.core.find_wedged(now);
        match submitted {
            Ok(_) => {
                state.account.counts.submitted += count;
                self.wake_one(state);
            }
            // A feed waits until there is room, and loses nothing; or it counts the frame as dropped.
            Err(refusal) => {
                let lane = state.lane(key);
                let direct = lane.is_some_and(|l| matches!(l.kind, LaneKind::Direct));
                let feed = lane.and_then(|l| l.feed.clone());
                state.account.counts.rejected += u64::from(direct);
                drop(state);
                self.refused(feed.as_ref(), refusal);
            }
        }
        self.report_wedged(&wedged);
        submitted
    }

    /// Tells of a point that has no room. Whoever has no slot has had its share, and expects no more.
    fn refused(&self, feed: Option<&Name>, refusal: Refusal) {
        if refusal == Refusal::Full {
            let (batch, limit) = (self.name.clone(), self.config.max_pending);
            self.health.report(feed, HealthKind::BatchFull { batch, limit });
        }
    }

    /// Submits up to `count` claims; returns how many were taken, and why the next one was not.
    pub(crate) fn claim(&self, key: LaneKey, count: usize, next_due: Option<MonoTime>) -> (usize, Option<Refusal>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let (taken, refusal) = state.core.claim(now, key, count, next_due);
        let wedged = state.core.find_wedged(now);
        let feed = state.lanes.get(key.index()).and_then(Option::as_ref).and_then(|l| l.feed.clone());
        if taken > 0 {
            self.wake_one(state);
        } else {
            drop(state);
        }
        refusal.iter().for_each(|refusal| self.refused(feed.as_ref(), *refusal));
        self.report_wedged(&wedged);
        (taken, refusal)
    }

    /// Notes that no more frames come from a lane's feed, so that nobody waits for them.
    pub(crate) fn source_ended(&self, key: LaneKey) {
        let mut state = self.state.lock();
        state.core.source_ended(key);
        self.wake_one(state);
    }

    /// Gives an entry up. It is not computed, or its results are discarded.
    pub(crate) fn abandon(&self, key: EntryKey, why: GivenUpFor) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        let was_here = state.core.abandon(key, |job| gone.push(job));
        let wedged = state.core.find_wedged(self.clock.now());
        let counts = &mut state.account.counts;
        match why {
            _ if !was_here => {}
            GivenUpFor::Timeout => counts.timed_out += 1,
            GivenUpFor::Age => counts.expired += gone.len() as u64,
            GivenUpFor::NoUse => counts.abandoned += 1,
        }
        // What is left may be a batch of its own, once this stands in its way no more.
        self.wake_one(state);
        drop(gone);
        self.report_wedged(&wedged);
    }

    /// What becomes of an entry.
    pub(crate) fn state_of(&self, key: EntryKey) -> EntryState {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let (entry, wedged) = (state.core.state_of(now, key), state.core.find_wedged(now));
        drop(state);
        self.report_wedged(&wedged);
        entry
    }

    /// Names instances that are wedged. For those whose claims wait, and who have no entry to ask for.
    pub(crate) fn inspect(&self) {
        let wedged = self.state.lock().core.find_wedged(self.clock.now());
        self.report_wedged(&wedged);
    }

    fn report_wedged(&self, instances: &[usize]) {
        for &instance in instances {
            let (batch, limit) = (self.name.clone(), self.config.response_timeout);
            self.health.report(None, HealthKind::InstanceWedged { batch, instance, limit });
        }
    }

    pub(crate) fn metrics(&self) -> BatchMetrics {
        let now = self.clock.now();
        let state = self.state.lock();
        let served = |lane: &AttachedLane| Some((lane.feed.clone()?, state.core.served(lane.key)));
        let metrics = state.account.metrics(now);
        let max_batch = state.core.max_batch();
        BatchMetrics {
            max_batch,
            fill: metrics.mean_size() / max_batch as f64,
            pending: state.core.pending(),
            in_dispatch: state.core.in_dispatch(),
            served: state.lanes.iter().flatten().filter_map(served).collect(),
            down: state.core.is_down(),
            ..metrics
        }
    }

    /// Of each instance, how long it has been computing a batch, if it does, and whether it is wedged.
    pub(crate) fn calls(&self) -> Vec<(Option<Duration>, bool)> {
        let (now, state) = (self.clock.now(), self.state.lock());
        state.core.calls(now).map(|(since, wedged)| (since.map(|since| now.since(since)), wedged)).collect()
    }

    pub(crate) fn capabilities(&self) -> BatchCapabilities {
        self.state.lock().capabilities.clone().unwrap_or_default()
    }

    // --- The owner's side.

    /// Takes no more entries; what waits is still computed.
    pub(crate) fn drain(&self) {
        self.state.lock().core.drain();
        self.wake.notify_all();
        self.wake_unable.notify_all();
    }

    /// Fails what waits with `CoordinatorShutdown`; nothing more is computed.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        let given_up = state.core.stop();
        let waiting = state.routes_of(given_up);
        drop(state);
        self.wake.notify_all();
        self.wake_unable.notify_all();
        waiting.fail(DropReason::Shutdown, || BatchError::CoordinatorShutdown { batch: self.name.clone() });
    }

    // --- The instances' side.

    /// An instance's first processor is ready, and can do this.
    pub(super) fn instance_started(&self, capabilities: BatchCapabilities) {
        self.batch_key.get_or_init(|| capabilities.batch_key);
        let mut state = self.state.lock();
        state.core.limit_batch(capabilities.max_batch, capabilities.preferred_batch);
        state.core.instance_started();
        state.capabilities = Some(capabilities);
        state.account.restart(self.clock.now());
        state.tell_slots();
    }

    /// An instance's processor is gone.
    pub(super) fn instance_lost(&self, instance: usize, error: String) {
        let mut state = self.state.lock();
        state.core.instance_lost(instance);
        state.trouble.clone_from(&error);
        drop(state);
        self.health.report(None, HealthKind::ProcessorRebuilding { batch: self.name.clone(), instance, error });
    }

    /// An instance calls its processor once more for its batch.
    pub(super) fn calls_again(&self, instance: usize) {
        let now = self.clock.now();
        self.state.lock().core.calls_again(now, instance);
    }

    /// Takes in a rebuild that succeeded.
    pub(super) fn instance_rebuilt(&self) {
        let mut state = self.state.lock();
        state.core.instance_rebuilt();
        state.account.counts.rebuilds += 1;
    }

    /// Takes in a rebuild that failed.
    pub(super) fn rebuild_failed(&self, trouble: String) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.trouble = trouble;
        let event = state.core.rebuild_failed(now);
        self.breaker_changed(state, event);
    }

    /// Waits for a batch. `None`: the point is done.
    pub(super) fn next_batch(&self, instance: usize, batch: &mut Batch) -> Option<()> {
        let mut guard = self.state.lock();
        loop {
            let now = self.clock.now();
            let state = &mut *guard;
            let (lanes, counts) = (&state.lanes, &mut state.account.counts);
            let bind = |lane, entry| {
                let payload = bind(lanes, now, lane, entry, &mut counts.superseded)?;
                counts.submitted += 1;
                let (received, batch_key) = self.facts_of(payload.entry.frame());
                Some(BoundPart { payload, received, batch_key })
            };
            let step = state.core.next_batch(now, instance, &mut batch.taken, &mut batch.expired, bind);
            counts.expired += batch.expired.len() as u64;
            let until = match step {
                InstanceStep::Done => return None,
                InstanceStep::WaitUntil(at) => Some(at),
                InstanceStep::Wait => None,
                InstanceStep::Compute { .. } | InstanceStep::Again => {
                    if let InstanceStep::Compute { formation } = step {
                        batch.idempotent = state.capabilities.as_ref().is_some_and(|c| c.idempotent);
                        batch.number = state.account.dispatched(formation, batch.taken.iter().map(|t| t.wait));
                    }
                    let more = state.core.pending() > 0 && state.idle > 0;
                    drop(guard);
                    if more {
                        self.wake.notify_one();
                    }
                    for part in batch.expired.drain(..) {
                        part.fail(BatchError::Expired { batch: self.name.clone(), limit: self.config.max_age });
                    }
                    if matches!(step, InstanceStep::Compute { .. }) {
                        return Some(());
                    }
                    guard = self.state.lock();
                    continue;
                }
            };
            guard = self.wait(guard, until);
        }
    }

    /// While this instance has no processor. Returns at `until`, or false when the point is done.
    pub(super) fn wait_unable(&self, until: MonoTime) -> bool {
        // What this one has left, and would have looked at next, is for another.
        self.wake_one(self.state.lock());
        let mut state = self.state.lock();
        loop {
            if state.core.phase() != PointPhase::Running {
                let nobody_can = state.core.able() == 0;
                drop(state);
                // What waits is for those who can compute it, or for nobody.
                if nobody_can {
                    self.stop();
                }
                return false;
            }
            if self.clock.now() >= until {
                return true;
            }
            state = self.wake_unable.wait_until(state, self.clock.instant(until));
        }
    }

    /// Frees the slots of a batch and counts it, before any of its results can be seen. Marks in `wanted` whose results
    /// are still wanted.
    pub(super) fn close_batch(
        &self,
        parts: impl ExactSizeIterator<Item = (EntryKey, Verdict)> + Clone,
        report: &BatchReport<'_>,
        wanted: &mut Vec<bool>,
    ) {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let size = parts.len();
        wanted.clear();
        let closed = state.core.close_batch(now, report.instance, parts.clone(), |is| wanted.push(is));
        let mut any = false;
        for ((_, verdict), wanted) in parts.zip(&*wanted) {
            let counts = &mut state.account.counts;
            let computed = verdict == Verdict::Computed;
            any |= computed;
            *(if computed { &mut counts.processed } else { &mut counts.failed }) += u64::from(*wanted);
        }
        state.account.computed(size, any, report);
        let feeds: Vec<_> =
            closed.standings.iter().filter_map(|(lane, change)| Some((state.feed_of(*lane)?, *change))).collect();
        if closed.breaker.change == BreakerChange::Down {
            report.error.unwrap_or_default().clone_into(&mut state.trouble);
        }
        self.breaker_changed(guard, closed.breaker);
        if closed.was_wedged {
            let (batch, instance, took) = (self.name.clone(), report.instance, report.took);
            self.health.report(None, HealthKind::InstanceFreed { batch, instance, took });
        }
        for (feed, change) in feeds {
            let batch = self.name.clone();
            let quarantined = change == StandingChange::Quarantined;
            let kind =
                if quarantined { HealthKind::FeedQuarantined { batch } } else { HealthKind::FeedReleased { batch } };
            self.health.report(Some(&feed), kind);
        }
    }

    /// What was wrong last with a processor.
    pub(crate) fn trouble(&self) -> String {
        self.state.lock().trouble.clone()
    }

    // --- Inside.

    /// When a frame was received, and its batch key.
    fn facts_of(&self, frame: &Frame) -> (MonoTime, u64) {
        (frame.received(), self.batch_key.get().map_or(0, |key| key.of(frame)))
    }

    /// Tells of a change of the breaker, and fails what waited when it opened.
    fn breaker_changed(&self, state: MutexGuard<'_, State>, event: BreakerEvent<Job>) {
        let waiting = event.given_up.map(|given_up| state.routes_of(given_up));
        drop(state);
        let batch = || self.name.clone();
        match event.change {
            BreakerChange::None => {}
            BreakerChange::Up => self.health.report(None, HealthKind::BatchUp { batch: batch() }),
            BreakerChange::Down => {
                self.health.report(None, HealthKind::BatchDown { batch: batch(), error: self.trouble() });
            }
        }
        if let Some(waiting) = waiting {
            let reason = self.trouble();
            waiting
                .fail(DropReason::Unavailable, || BatchError::Unavailable { batch: batch(), reason: reason.clone() });
        }
    }

    /// Wakes an instance, if there is something for it to do: a batch to take, or an earlier time to look again at.
    fn wake_one(&self, state: MutexGuard<'_, State>) {
        let idle = state.idle > 0
            && match state.core.decide(self.clock.now()) {
                Decision::Dispatch => true,
                Decision::WaitUntil(at) => state.armed.is_none_or(|armed| armed > at),
                Decision::Idle => false,
            };
        drop(state);
        if idle {
            self.wake.notify_one();
        }
    }

    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, until: Option<MonoTime>) -> MutexGuard<'a, State> {
        state.idle += 1;
        let mut state = match until {
            Some(at) => {
                state.armed = Some(state.armed.map_or(at, |armed| armed.min(at)));
                self.wake.wait_until(state, self.clock.instant(at))
            }
            None => self.wake.wait(state),
        };
        state.idle -= 1;
        // Another may still look again by itself; that it is not known costs a wake-up, not a frame.
        state.armed = None;
        state
    }
}

#[cfg(test)]
mod tests;
