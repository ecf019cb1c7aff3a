mod core;
mod record;

use nv_core::{Clock, DropReason, Frame, HealthKind, MonoTime, Name};

pub(crate) use self::core::{Arrival, Bound, Given, Glance, IntakeConfig, IntakeCore};
use super::Inbox;
use super::ledger::{DropRecord, FrameCounts};
use super::queue::Queued;
use super::source::SourceEnd;
use crate::batch::{Completion, EntryKey};
use crate::decisions::{DecisionLog, Recorded as _};
use crate::health::HealthHub;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Where a feed's frames come in: an [`IntakeCore`], shared by the feed's source thread, its executor and the batch point that
/// binds its claims.
pub(crate) struct Intake {
    feed: Name,
    clock: Arc<dyn Clock>,
    health: HealthHub,
    state: Mutex<State>,
    /// Signalled when the queue has room or the intake is closed.
    room: Condvar,
    /// Where the executor is told to look here.
    inbox: Arc<Inbox<Completion>>,
}

struct State {
    core: IntakeCore,
    /// Frames that came in.
    arrivals: u64,
    /// Whether the executor wants to hear of the next frame. Else it is not woken for what it can't take yet.
    wanted: bool,
    source_end: Option<SourceEnd>,
    /// Whether the source's thread waits for room, and nobody has woken it yet.
    source_waits: bool,
}

/// What became of a frame that a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intaken {
    /// It is inside.
    Taken,
    /// It was dropped: its feed is paused or restarting, or does not want it.
    Discarded,
    /// The intake takes no more frames.
    Closed,
}

impl Intake {
    pub(crate) fn new(
        feed: Name,
        clock: Arc<dyn Clock>,
        config: IntakeConfig,
        inbox: Arc<Inbox<Completion>>,
        decisions: Option<&DecisionLog>,
        health: HealthHub,
    ) -> Self {
        let mut core = IntakeCore::new(config);
        core.set_log(IntakeCore::<()>::begin(&config, decisions, &feed));
        let state = State { core, arrivals: 0, wanted: false, source_end: None, source_waits: false };
        Self { feed, clock, health, state: Mutex::new(state), room: Condvar::new(), inbox }
    }

    pub(crate) fn feed(&self) -> &Name {
        &self.feed
    }

    // --- The source thread's side.

    /// Takes in a frame. With policy `Block` waits for room. While the feed is paused, a frame of a live source, which goes
    /// on by itself, is dropped at once; any other source waits here.
    pub(crate) fn push(&self, frame: Frame, session: u32, cuts: u32, live: bool) -> Intaken {
        let mut state = self.state.lock();
        while !live && state.core.holds_back() {
            state = self.wait_for_room(state);
        }
        let now = self.clock.now();
        let given = Given { session, cuts, pts: frame.pts().as_nanos(), suspect: frame.is_suspect() };
        let mut arrival = state.core.push(now, given, frame, |frame, seq| frame.stamped(seq, now));
        while let Arrival::Full(queued) = arrival {
            state = self.wait_for_room(state);
            arrival = state.core.retry(self.clock.now(), queued);
        }
        // One that is not let in is none that the executor waits for.
        let taken = matches!(arrival, Arrival::Taken(_));
        state.arrivals += u64::from(taken);
        let wanted = taken && std::mem::take(&mut state.wanted);
        drop(state);
        match arrival {
            Arrival::Taken(dropped) => {
                if wanted {
                    self.notify();
                }
                if let Some(dropped) = dropped {
                    self.log_drop(dropped.seq, DropReason::QueueFull);
                    self.tell_of_drops(DropReason::QueueFull, 1);
                }
                Intaken::Taken
            }
            Arrival::Discarded(queued, reason) => {
                self.log_drop(queued.seq, reason);
                Intaken::Discarded
            }
            Arrival::Closed(queued, reason) => {
                self.log_drop(queued.seq, reason);
                Intaken::Closed
            }
            // `Full` was waited for above.
            Arrival::Refused(_) | Arrival::Full(_) => Intaken::Closed,
        }
    }

    /// Counts frames that the source lost.
    pub(crate) fn lost_upstream(&self, count: u64) {
        self.state.lock().core.lost_upstream(count);
    }

    /// The source has lost its session. There is another one once it gives a frame.
    pub(crate) fn disconnected(&self) {
        self.state.lock().core.disconnected();
        self.notify();
    }

    /// No more frames come in: the source has ended.
    pub(crate) fn end(&self, end: SourceEnd) {
        let mut state = self.state.lock();
        state.core.end();
        state.source_end = Some(end);
        drop(state);
        self.notify();
    }

    // --- The executor's side.

    /// Looks: what was bound, what waits, whether it has ended. The lists of `glance` are to be empty; their memory is used
    /// again. Returns how many frames have come in so far.
    pub(crate) fn glance(&self, glance: &mut Glance) -> u64 {
        let mut state = self.state.lock();
        state.core.glance(glance);
        let arrivals = state.arrivals;
        drop(state);
        if !glance.superseded.is_empty() {
            self.tell_of_drops(DropReason::Superseded, glance.superseded.len());
        }
        arrivals
    }

    /// Has the executor called when a frame comes in. False: one has since the glance that showed so many `arrivals`, even if
    /// no more wait than then.
    pub(crate) fn await_frame(&self, arrivals: u64) -> bool {
        let mut state = self.state.lock();
        state.wanted = state.arrivals == arrivals;
        state.wanted
    }

    /// Takes the oldest frame out of the queue.
    pub(crate) fn pop(&self) -> Option<Queued> {
        let mut state = self.state.lock();
        let queued = state.core.pop()?;
        self.make_room(state);
        Some(queued)
    }

    /// Notes that `count` claims are on their way to the batch point.
    pub(crate) fn add_claims(&self, count: usize) {
        self.state.lock().core.add_claims(count);
    }

    /// Notes that `count` claims were not taken after all.
    pub(crate) fn return_claims(&self, count: usize) {
        self.state.lock().core.return_claims(count);
    }

    /// Ends a frame as emitted. False if it has ended before.
    pub(crate) fn emit(&self, seq: u64) -> bool {
        self.state.lock().core.emit(seq)
    }

    /// Ends a frame as dropped at `step`. False if it has ended before.
    pub(crate) fn drop_frame(&self, seq: u64, reason: DropReason, step: Option<&Name>) -> bool {
        let dropped = self.state.lock().core.drop_frame(self.clock.now(), seq, reason, step);
        if dropped {
            let step = step.map_or("", Name::as_str);
            tracing::debug!(feed = %self.feed, seq, %reason, step, "frame dropped");
            if reason == DropReason::Expired {
                self.tell_of_drops(reason, 1);
            }
        }
        dropped
    }

    /// Takes no more frames and drops those that wait.
    pub(crate) fn close(&self, reason: DropReason) {
        let dropped = self.state.lock().core.close(self.clock.now(), reason);
        self.let_go(&dropped, reason);
    }

    /// Closes it and ends every frame that has not ended yet: nobody is left who could.
    pub(crate) fn abandon(&self, reason: DropReason) {
        self.close(reason);
        let frames = self.state.lock().core.abandon(self.clock.now(), reason);
        // Not under the lock.
        drop(frames);
    }

    /// Ends every frame that was taken out of the queue, as [`IntakeCore::take_back`] does.
    pub(crate) fn take_back(&self, hung: Option<(u64, &Name)>, reason: DropReason) {
        let frames = self.state.lock().core.take_back(self.clock.now(), hung, reason);
        // Not under the lock.
        drop(frames);
    }

    /// Drops the frames that wait and those that come in, until it is told otherwise; stages are told of the gap. For live
    /// feeds.
    pub(crate) fn set_restarting(&self, restarting: bool) {
        let dropped = self.state.lock().core.set_restarting(self.clock.now(), restarting);
        self.let_go(&dropped, DropReason::FeedRestarted);
    }

    /// Tells everybody that the queue was emptied, or that what was held back is not any more.
    fn let_go(&self, dropped: &[Queued], reason: DropReason) {
        self.room.notify_all();
        self.notify();
        dropped.iter().for_each(|q| self.log_drop(q.seq, reason));
    }

    /// How the source ended, if it has; once.
    pub(crate) fn take_source_end(&self) -> Option<SourceEnd> {
        self.state.lock().source_end.take()
    }

    // --- The batch point's side.

    /// Binds the oldest claim to a frame, as [`IntakeCore::bind`] does.
    pub(crate) fn bind(&self, now: MonoTime, key: EntryKey, superseded: &mut u64) -> Option<Queued> {
        let mut state = self.state.lock();
        let queued = state.core.bind(now, key, superseded);
        self.make_room(state);
        if queued.is_none() {
            // A slot is free that the executor believes to be in use.
            self.notify();
            return None;
        }
        // The executor is not told: it has nothing to do before there is a result, and looks by itself when that is overdue.
        queued
    }

    /// Gives up `count` claims: the executor learns that the frames they would have been bound to could not be taken.
    pub(crate) fn void_claims(&self, count: usize, reason: DropReason) {
        self.state.lock().core.void_claims(self.clock.now(), count, reason);
        self.let_go(&[], reason);
    }

    // --- The owner's side.

    /// Holds frames back, or lets them in again. Those that are inside go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.state.lock().core.set_paused(paused);
        self.let_go(&[], DropReason::FeedStopped);
    }

    // --- Everybody's.

    /// Whether frames are dropped until the stages are built anew.
    pub(crate) fn is_restarting(&self) -> bool {
        self.state.lock().core.is_restarting()
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        self.state.lock().core.counts()
    }

    pub(crate) fn last_drops(&self) -> Vec<DropRecord> {
        self.state.lock().core.last_drops().cloned().collect()
    }

    fn log_drop(&self, seq: u64, reason: DropReason) {
        tracing::debug!(feed = %self.feed, seq, %reason, "frame dropped");
    }

    /// Tells of frames that there was no time for. Whatever else frames are dropped for is told by whoever is to blame.
    fn tell_of_drops(&self, reason: DropReason, frames: usize) {
        let frames = u64::try_from(frames).unwrap_or(u64::MAX);
        self.health.report(Some(&self.feed), HealthKind::FramesDropped { reason, frames });
    }

    fn notify(&self) {
        self.inbox.call();
    }

    fn wait_for_room<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.source_waits = true;
        let mut state = self.room.wait(state);
        state.source_waits = false;
        state
    }

    /// Wakes the source's thread if it waits for room and there is enough.
    fn make_room(&self, mut state: MutexGuard<'_, State>) {
        let wake = state.source_waits && state.core.has_room();
        state.source_waits &= !wake;
        drop(state);
        if wake {
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use nv_core::{FrameHeader, FramePool, PixelFormat, Size};

    use super::super::QueuePolicy;
    use super::*;
    use crate::sync::SystemClock;

    #[test]
    fn a_frame_that_is_not_let_in_is_not_the_one_that_is_waited_for() {
        let clock = Arc::new(SystemClock::new());
        let health = HealthHub::new(clock.clone(), 8);
        let config = IntakeConfig { drop_suspect: true, ..IntakeConfig::new(4, QueuePolicy::DropOldest) };
        let intake = Intake::new("gate".into(), clock, config, Arc::new(Inbox::new()), None, health);
        let push = |suspect| {
            let header = FrameHeader { suspect, ..FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8) };
            intake.push(FramePool::new(0).take(header).unwrap().freeze(), 0, 0, true)
        };
        assert!(intake.await_frame(0));
        assert_eq!(push(true), Intaken::Discarded);
        assert!(intake.state.lock().wanted, "the executor still waits");
        assert_eq!(push(false), Intaken::Taken);
        assert!(!intake.state.lock().wanted, "it was called");

        // As many wait as were seen, but one of them is another.
        let arrivals = intake.glance(&mut Glance::default());
        intake.add_claims(1);
        assert!(intake.bind(MonoTime::ZERO, EntryKey::default(), &mut 0).is_some());
        push(false);
        assert!(!intake.await_frame(arrivals), "it has to look");
    }
}
