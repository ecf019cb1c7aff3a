use std::sync::atomic::{AtomicUsize, Ordering};

use nv_core::{Clock as _, DropReason, HealthKind, MonoTime, Name, SystemClock};
use nv_perception::{BatchCapabilities, BatchEntry};

use super::account::Account;
use super::breaker::{Breaker, BreakerChange};
use super::former::{Decision, Former, FormerConfig, LaneSpec, Taken};
use super::metrics::BatchMetrics;
use super::route::{BatchReport, Job, LaneKind, Reply, Verdict, Waiting, empty_perception};
use super::standing::StandingChange;
use super::{BatchConfig, BatchError, EntryKey, LaneKey, Refusal};
use crate::health::HealthHub;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A batch point's shared half: the former under a lock, and what its lanes lead to. There is no coordinator thread: an
/// idle instance takes the lock, takes its batch or waits for the former's next deadline.
pub(crate) struct Point {
    pub(crate) name: Name,
    pub(crate) config: BatchConfig,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) health: HealthHub,
    state: Mutex<State>,
    /// Signalled when something was submitted, or the phase changed. Instances that have a processor wait here.
    wake: Condvar,
    /// The same for instances that have none: else they would take wake-ups from those who could work.
    wake_unable: Condvar,
}

pub(super) struct State {
    former: Former<Job>,
    /// By the index of their keys.
    lanes: Vec<Option<AttachedLane>>,
    pub(super) phase: PointPhase,
    /// Instances that wait on `wake`.
    idle: usize,
    /// The earliest time at which one of them looks again by itself, as far as is known.
    armed: Option<MonoTime>,
    /// Instances that wait on `wake_unable`.
    idle_unable: usize,
    /// Instances that have a processor.
    pub(super) able: usize,
    /// Why the last instance that lost its processor did.
    pub(super) trouble: String,
    breaker: Breaker,
    /// By instance.
    calls: Vec<Call>,
    pub(super) account: Account,
    capabilities: Option<BatchCapabilities>,
}

/// An instance's current call of its processor.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    since: Option<MonoTime>,
    /// Whether it has been reported as wedged.
    wedged: bool,
}

/// Where a point is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PointPhase {
    /// Takes entries.
    Running,
    /// Takes no more; computes what waits.
    Draining,
    /// Computes nothing more.
    Stopped,
}

struct AttachedLane {
    key: LaneKey,
    /// The feed that it belongs to; `None` for the direct API.
    feed: Option<Name>,
    kind: LaneKind,
    /// How many slots the lane has; the point changes it as feeds come and go.
    slots: Arc<AtomicUsize>,
}

/// A batch on its way to a processor.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) taken: Vec<Taken<Job>>,
}

impl Point {
    pub(crate) fn new(name: Name, config: BatchConfig, clock: Arc<SystemClock>, health: HealthHub) -> Self {
        let former = Former::new(FormerConfig {
            max_batch: config.max_batch_size,
            max_latency: config.max_latency,
            max_age: config.max_age,
            max_pending: config.max_pending,
        });
        let state = State {
            former,
            lanes: Vec::new(),
            phase: PointPhase::Running,
            idle: 0,
            armed: None,
            idle_unable: 0,
            able: 0,
            trouble: String::new(),
            breaker: Breaker::default(),
            calls: vec![Call::default(); config.instances],
            account: Account::new(config.max_batch_size, config.instances, clock.now()),
            capabilities: None,
        };
        Self {
            name,
            config,
            clock,
            health,
            state: Mutex::new(state),
            wake: Condvar::new(),
            wake_unable: Condvar::new(),
        }
    }

    // --- The feeds' side.

    /// Adds a lane. `slots` will hold how many slots it has, from now on.
    pub(crate) fn attach(&self, feed: Option<Name>, kind: LaneKind, slots: Arc<AtomicUsize>) -> LaneKey {
        let mut state = self.state.lock();
        let count = match kind {
            LaneKind::Live(_) => self.config.max_in_flight_per_feed,
            LaneKind::File => 1,
            LaneKind::Direct => self.config.file_slots(state.former.max_batch(), 1),
        };
        let live = matches!(kind, LaneKind::Live(_));
        let key = state.former.attach(LaneSpec { live, slots: count, weight: 1 });
        slots.store(count, Ordering::Relaxed);
        let index = key.index();
        if state.lanes.len() <= index {
            state.lanes.resize_with(index + 1, || None);
        }
        state.lanes[index] = Some(AttachedLane { key, feed, kind, slots });
        self.share_file_slots(&mut state);
        key
    }

    /// Takes a lane away: what waits in it is gone, what is being computed will be discarded.
    pub(crate) fn detach(&self, key: LaneKey) {
        let mut state = self.state.lock();
        let mut gone = Vec::new();
        state.former.detach(key, |job| gone.push(job));
        let lane = state.lanes.get_mut(key.index()).and_then(|lane| lane.take_if(|l| l.key == key));
        self.share_file_slots(&mut state);
        self.wake_one(state);
        // Frames and channels are given back without the lock.
        drop((gone, lane));
    }

    fn share_file_slots(&self, state: &mut State) {
        let is_file = |l: &&AttachedLane| matches!(l.kind, LaneKind::File);
        let files = state.lanes.iter().flatten().filter(is_file).count();
        let slots = self.config.file_slots(state.former.max_batch(), files);
        for lane in state.lanes.iter().flatten().filter(is_file) {
            state.former.set_slots(lane.key, slots);
            lane.slots.store(slots, Ordering::Relaxed);
        }
    }

    /// Submits an entry. `next_due`: when the lane's next frame is due, as far as is known.
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
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.phase != PointPhase::Running {
            return Err(Refusal::NoLane);
        }
        if !state.admits(now) {
            return Err(Refusal::Down);
        }
        state.former.set_cadence(key, true, next_due);
        let received = entry.frame().received();
        match state.former.submit(now, key, received, Job { entry, reply }) {
            Ok(entry) => {
                state.account.counts.submitted += 1;
                self.wake_one(state);
                Ok(entry)
            }
            Err((refusal, _)) => {
                // A feed waits until there is room, and loses nothing.
                let direct =
                    matches!(state.lanes.get(key.index()), Some(Some(l)) if matches!(l.kind, LaneKind::Direct));
                state.account.counts.rejected += u64::from(direct);
                Err(refusal)
            }
        }
    }

    /// Submits up to `count` claims; returns how many were taken, and why the next one was not.
    pub(crate) fn claim(&self, key: LaneKey, count: usize, next_due: Option<MonoTime>) -> (usize, Option<Refusal>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.phase != PointPhase::Running {
            return (0, Some(Refusal::NoLane));
        }
        state.former.set_cadence(key, true, next_due);
        let mut taken = 0;
        let mut refusal = None;
        while taken < count && refusal.is_none() {
            let claimed = if state.admits(now) { state.former.claim(now, key) } else { Err(Refusal::Down) };
            match claimed {
                Ok(_) => taken += 1,
                Err(why) => refusal = Some(why),
            }
        }
        if taken > 0 {
            self.wake_one(state);
        }
        (taken, refusal)
    }

    /// Notes that no more frames come from a lane's feed, so that nobody waits for them.
    pub(crate) fn source_ended(&self, key: LaneKey) {
        let mut state = self.state.lock();
        state.former.set_cadence(key, false, None);
        self.wake_one(state);
    }

    /// Gives an entry up. It is not computed, or its result is discarded. If it got no answer in time, an instance whose
    /// call has lasted that long is named as wedged.
    pub(crate) fn abandon(&self, key: EntryKey, timed_out: bool) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let job = state.former.abandon(key);
        state.account.counts.timed_out += u64::from(timed_out);
        let limit = self.config.response_timeout;
        let mut wedged = Vec::new();
        for (instance, call) in state.calls.iter_mut().enumerate().filter(|_| timed_out) {
            if !call.wedged && call.since.is_some_and(|since| since + limit <= now) {
                call.wedged = true;
                wedged.push(instance);
            }
        }
        drop(state);
        drop(job);
        for instance in wedged {
            self.health.report(None, HealthKind::InstanceWedged { batch: self.name.clone(), instance, limit });
        }
    }

    /// When an entry was dispatched, if it was.
    pub(crate) fn dispatched_at(&self, key: EntryKey) -> Option<MonoTime> {
        self.state.lock().former.dispatched_at(key)
    }

    pub(crate) fn metrics(&self) -> BatchMetrics {
        let now = self.clock.now();
        let state = self.state.lock();
        BatchMetrics {
            pending: state.former.pending(),
            in_dispatch: state.former.in_dispatch(),
            down: state.breaker.is_down(),
            ..state.account.metrics(now)
        }
    }

    pub(crate) fn capabilities(&self) -> BatchCapabilities {
        self.state.lock().capabilities.clone().unwrap_or_default()
    }

    pub(super) fn set_capabilities(&self, capabilities: BatchCapabilities) {
        let mut state = self.state.lock();
        for most in [capabilities.max_batch, capabilities.preferred_batch].into_iter().flatten() {
            state.former.limit_batch(most);
        }
        state.capabilities = Some(capabilities);
        state.account.restart(self.clock.now());
    }

    // --- The owner's side.

    /// Takes no more entries; what waits is still computed.
    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        if state.phase == PointPhase::Running {
            state.phase = PointPhase::Draining;
        }
        drop(state);
        self.wake.notify_all();
        self.wake_unable.notify_all();
    }

    /// Fails what waits with `CoordinatorShutdown`; nothing more is computed.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.phase = PointPhase::Stopped;
        let failed = state.take_waiting();
        drop(state);
        self.wake.notify_all();
        self.wake_unable.notify_all();
        failed.fail(DropReason::Shutdown, || BatchError::CoordinatorShutdown { batch: self.name.clone() });
    }

    // --- The instances' side.

    /// Waits for a batch. `None`: the point is done.
    pub(super) fn next_batch(&self, instance: usize, batch: &mut Batch) -> Option<()> {
        let mut state = self.state.lock();
        loop {
            let now = self.clock.now();
            match (state.phase, state.former.decide(now)) {
                (PointPhase::Stopped, _) | (PointPhase::Draining, Decision::Idle) => return None,
                // What is still to come is not waited for any more.
                (_, decision @ Decision::Dispatch) | (PointPhase::Draining, decision @ Decision::WaitUntil(_)) => {
                    let expired = self.take(&mut state, now, batch);
                    let more = state.former.pending() > 0 && state.idle > 0;
                    if !batch.taken.is_empty() {
                        state.calls[instance].since = Some(now);
                    } else if let (Decision::WaitUntil(at), true) = (decision, expired.is_empty()) {
                        // Only what has to go by itself, later, is left.
                        state = self.wait(state, Some(at));
                        continue;
                    }
                    drop(state);
                    if more {
                        self.wake.notify_one();
                    }
                    for (key, job) in expired {
                        job.fail(key, BatchError::Expired { batch: self.name.clone(), limit: self.config.max_age });
                    }
                    if !batch.taken.is_empty() {
                        return Some(());
                    }
                    state = self.state.lock();
                }
                (_, Decision::WaitUntil(at)) => state = self.wait(state, Some(at)),
                (_, Decision::Idle) => state = self.wait(state, None),
            }
        }
    }

    /// While this instance has no processor. Returns at `until`, or false when the point is done.
    pub(super) fn wait_unable(&self, until: MonoTime) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.phase != PointPhase::Running {
                let nobody_can = state.able == 0;
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
            state.idle_unable += 1;
            state = self.wake_unable.wait_until(state, self.clock.instant(until));
            state.idle_unable -= 1;
        }
    }

    /// Frees the slots of a batch and counts it, before any of its results can be seen. Marks in `valid` whose results
    /// are still wanted.
    pub(super) fn close_batch(
        &self,
        entries: impl ExactSizeIterator<Item = (EntryKey, Verdict)>,
        report: &BatchReport<'_>,
        valid: &mut Vec<bool>,
    ) {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let size = entries.len();
        let mut changes = Vec::new();
        valid.clear();
        for (key, verdict) in entries {
            if verdict != Verdict::Unlucky {
                let judged = state.former.judge(key, verdict == Verdict::Guilty);
                changes.extend(judged.filter(|(_, change)| *change != StandingChange::None));
            }
            valid.push(state.former.release(key));
            state.account.counts.processed += u64::from(verdict == Verdict::Computed);
            state.account.counts.failed += u64::from(verdict != Verdict::Computed);
        }
        state.account.computed(size, report);
        let call = std::mem::take(&mut state.calls[report.instance]);
        let feeds: Vec<_> =
            changes.iter().filter_map(|(lane, change)| Some((state.feed_of(*lane)?, *change))).collect();
        let change = state.breaker.batch_done(now, report.at_fault);
        let waiting = (change == BreakerChange::Down).then(|| {
            state.trouble = report.error.unwrap_or_default().to_owned();
            state.take_waiting()
        });
        drop(guard);
        if call.wedged {
            tracing::info!(batch = %self.name, instance = report.instance, took = ?report.took, "an instance that was wedged goes on");
        }
        for (feed, change) in feeds {
            let batch = self.name.clone();
            let quarantined = change == StandingChange::Quarantined;
            let kind =
                if quarantined { HealthKind::FeedQuarantined { batch } } else { HealthKind::FeedReleased { batch } };
            self.health.report(Some(&feed), kind);
        }
        self.changed(change, waiting);
    }

    /// Takes in a rebuild that failed. While the point is down, what waits fails with it: a probe, which nobody can compute.
    pub(super) fn rebuild_failed(&self, trouble: String) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.trouble = trouble;
        // While another instance works, the point does.
        let change = if state.able == 0 { state.breaker.rebuild_failed(now) } else { BreakerChange::None };
        let waiting = (state.able == 0 && state.breaker.is_down()).then(|| state.take_waiting());
        drop(state);
        self.changed(change, waiting);
    }

    /// Takes in a rebuild that succeeded.
    pub(super) fn rebuilt(&self) {
        let mut state = self.state.lock();
        state.able += 1;
        state.account.counts.rebuilds += 1;
        state.breaker.rebuilt();
    }

    /// Tells of a change of the breaker, and fails what waited when it opened.
    fn changed(&self, change: BreakerChange, waiting: Option<Waiting>) {
        let batch = || self.name.clone();
        match change {
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

    /// What was wrong last with a processor.
    pub(crate) fn trouble(&self) -> String {
        self.state.lock().trouble.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes a batch, binding claims; returns what was too old.
    fn take(&self, state: &mut State, now: MonoTime, batch: &mut Batch) -> Vec<(EntryKey, Job)> {
        let mut expired = Vec::new();
        let (former, lanes, counts) = (&mut state.former, &state.lanes, &mut state.account.counts);
        let bind = |key: LaneKey, entry: EntryKey| {
            let LaneKind::Live(route) = &lanes.get(key.index())?.as_ref()?.kind else { return None };
            let queued = route.intake.bind(now, entry, &mut counts.superseded)?;
            counts.submitted += 1;
            let received = queued.frame.received();
            let feed = route.intake.feed().clone();
            let entry = BatchEntry::new(feed, queued.session, queued.frame, None, empty_perception());
            Some((Job { entry, reply: route.reply.clone() }, received))
        };
        former.take(now, &mut batch.taken, bind, |key, job| expired.push((key, job)));
        state.account.counts.expired += expired.len() as u64;
        if !batch.taken.is_empty() {
            batch.number = state.account.dispatched(batch.taken.iter().map(|t| t.wait));
        }
        expired
    }

    /// Wakes an instance, if there is something for it to do: a batch to take, or an earlier time to look again at.
    fn wake_one(&self, state: MutexGuard<'_, State>) {
        let idle = state.idle > 0
            && match state.former.decide(self.clock.now()) {
                Decision::Dispatch => true,
                Decision::WaitUntil(at) => state.armed.is_none_or(|armed| armed > at),
                Decision::Idle => false,
            };
        let unable = state.able == 0 && state.idle_unable > 0;
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        if unable {
            self.wake_unable.notify_one();
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

impl State {
    /// Whether the breaker lets an entry in.
    fn admits(&self, now: MonoTime) -> bool {
        !self.breaker.is_down() || self.breaker.admits(now, self.former.pending() + self.former.in_dispatch())
    }

    /// The feed that a lane belongs to, where the lane knows it.
    fn feed_of(&self, key: LaneKey) -> Option<Name> {
        self.lanes.get(key.index())?.as_ref().filter(|l| l.key == key)?.feed.clone()
    }

    fn take_waiting(&mut self) -> Waiting {
        let mut jobs = Vec::new();
        let claims = self.former.drain(|key, job| jobs.push((key, job)));
        let intake = |key: LaneKey| match &self.lanes.get(key.index())?.as_ref()?.kind {
            LaneKind::Live(route) => Some(route.intake.clone()),
            LaneKind::File | LaneKind::Direct => None,
        };
        Waiting { jobs, claims: claims.into_iter().filter_map(|(key, n)| Some((intake(key)?, n))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use nv_core::{FrameHeader, FramePool, PixelFormat, Size};

    use super::*;

    #[test]
    fn nothing_waits_for_a_processor_that_can_not_be_built_anew() {
        let clock = Arc::new(SystemClock::new());
        let health = HealthHub::new(clock.clone(), 8);
        let point = Point::new("detector".into(), BatchConfig::default(), clock, health);
        let lane = point.attach(None, LaneKind::Direct, Arc::default());
        let (completions, results) = bounded(8);
        let picture = || {
            let header = FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8);
            FramePool::new(0).take(header).unwrap().freeze()
        };
        let submit = || {
            let entry = BatchEntry::new("direct".into(), 0, picture(), None, empty_perception());
            point.submit(lane, entry, Reply { completions: completions.clone(), step: 0 }, None)
        };
        let failed = || results.try_iter().filter(|c| matches!(c.result, Err(BatchError::Unavailable { .. }))).count();
        submit().unwrap();
        for _ in 0..4 {
            point.rebuild_failed("no device".into());
        }
        assert_eq!(failed(), 0, "it may come back");
        point.rebuild_failed("no device".into());
        assert_eq!(failed(), 1, "it is down");
        assert_eq!(submit(), Err(Refusal::Down));
        // The probe that is let in some time later ends with the next rebuild that fails.
        let probe = Job {
            entry: BatchEntry::new("direct".into(), 0, picture(), None, empty_perception()),
            reply: Reply { completions: completions.clone(), step: 0 },
        };
        assert!(point.state().former.submit(MonoTime::ZERO, lane, MonoTime::ZERO, probe).is_ok());
        point.rebuild_failed("no device".into());
        assert_eq!(failed(), 1, "so does its probe");
        assert_eq!(point.metrics().pending, 0);
    }
}
