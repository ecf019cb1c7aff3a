use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{Clock, DropReason, Frame, MonoTime, Name};

use super::ledger::{DropRecord, FrameCounts, Ledger};
use super::queue::{Cadence, FrameQueue, Pushed, QueuePolicy, Queued};
use super::source::SourceEnd;
use crate::batch::EntryKey;
use crate::sync::{Arc, Condvar, Mutex};

/// Where a feed's frames come in: the queue and the ledger, shared by the feed's source thread, its executor and the batch
/// point that binds its claims.
pub(crate) struct Intake {
    feed: Name,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Signalled when the queue has room or the intake is closed.
    room: Condvar,
    /// One token: "look at the intake". The executor's end of it is [`Intake::wakeups`].
    wake: Sender<()>,
    wakeups: Receiver<()>,
}

struct State {
    queue: FrameQueue,
    ledger: Ledger,
    cadence: Cadence,
    freshness: Option<Duration>,
    /// Claims at the batch point that no frame was bound to yet.
    claims: usize,
    /// Frames that claims took and that the executor has not heard of yet, in the order of their sequence numbers.
    bound: Vec<Bound>,
    /// Frames that were passed over for them. The executor gives their memory back, since that is others' code and the
    /// batch point binds under its lock.
    superseded: Vec<Frame>,
    /// Whether the source has a session.
    connected: bool,
    /// Whether frames are held back: the feed is paused.
    paused: bool,
    /// Whether frames are dropped: a stage of the feed is to be built anew.
    restarting: bool,
    /// Whether frames were discarded since the last one that was let in: the next one does not continue it.
    skipped: bool,
    /// How often frames were let in again after some were discarded.
    resumed: u32,
    phase: Phase,
    source_end: Option<SourceEnd>,
}

/// A frame that a claim stood for.
pub(crate) struct Bound {
    pub(crate) queued: Queued,
    pub(crate) at: MonoTime,
    /// The entry that it was bound to, or why the claim came to nothing.
    pub(crate) outcome: Result<EntryKey, DropReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Frames come in.
    Open,
    /// No more frames come in; those in the queue go on.
    Ended,
    /// Nothing comes in and the queue was emptied, for this reason.
    Closed(DropReason),
}

/// What became of a frame that a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intaken {
    /// It is inside.
    Taken,
    /// It was dropped, since its feed is paused or restarting.
    Discarded,
    /// The intake takes no more frames.
    Closed,
}

/// Freshness before the interval of a feed's frames is known.
const DEFAULT_FRESHNESS: Duration = Duration::from_millis(40);

/// What the executor finds when it looks.
#[derive(Default)]
pub(crate) struct Glance {
    /// Frames that claims took since it last looked.
    pub(crate) bound: Vec<Bound>,
    /// Frames that were passed over for them, and have been booked as dropped.
    pub(crate) superseded: Vec<Frame>,
    /// Frames in the queue.
    pub(crate) queued: usize,
    /// Claims that wait for a frame to be bound.
    pub(crate) claims: usize,
    /// When the next frame is due; `None` where none is to come.
    pub(crate) next_due: Option<MonoTime>,
    /// Whether no more frames come in.
    pub(crate) ended: bool,
    /// Whether frames come in: it is connected, and has neither ended nor been paused.
    pub(crate) running: bool,
}

impl Intake {
    pub(crate) fn new(
        feed: Name,
        clock: Arc<dyn Clock>,
        capacity: usize,
        policy: QueuePolicy,
        freshness: Option<Duration>,
    ) -> Self {
        let (wake, wakeups) = bounded(1);
        let state = State {
            queue: FrameQueue::new(capacity, policy),
            ledger: Ledger::default(),
            cadence: Cadence::default(),
            freshness,
            claims: 0,
            bound: Vec::new(),
            superseded: Vec::new(),
            connected: true,
            paused: false,
            restarting: false,
            skipped: false,
            resumed: 0,
            phase: Phase::Open,
            source_end: None,
        };
        Self { feed, clock, state: Mutex::new(state), room: Condvar::new(), wake, wakeups }
    }

    pub(crate) fn feed(&self) -> &Name {
        &self.feed
    }

    /// The executor's wake-up tokens.
    pub(crate) fn wakeups(&self) -> &Receiver<()> {
        &self.wakeups
    }

    // --- The source thread's side.

    /// Takes in a frame. With policy `Block` waits for room. While the feed is paused, a frame of a live source, which goes
    /// on by itself, is dropped at once; any other source waits here.
    pub(crate) fn push(&self, frame: Frame, session: u32, cuts: u32, live: bool) -> Intaken {
        let mut state = self.state.lock();
        while state.paused && !live && state.phase == Phase::Open {
            state = self.room.wait(state);
        }
        if state.phase != Phase::Open {
            return Intaken::Closed;
        }
        let now = self.clock.now();
        let seq = state.ledger.receive();
        state.connected = true;
        state.cadence.arrival(now);
        let kept_out = match (state.paused, state.restarting) {
            (true, _) => Some(DropReason::FeedStopped),
            (_, true) => Some(DropReason::FeedRestarted),
            _ => None,
        };
        if let Some(reason) = kept_out {
            state.skipped = true;
            state.ledger.drop(seq, reason, None, now);
            drop(state);
            self.log_drop(seq, reason);
            return Intaken::Discarded;
        }
        state.resumed += u32::from(std::mem::take(&mut state.skipped));
        let cuts = cuts + state.resumed;
        let mut queued = Queued { frame: frame.stamped(seq, now), session, cuts };
        let full = loop {
            match state.queue.push(queued) {
                Pushed::Queued => break None,
                Pushed::Evicted(old) => break Some(old),
                Pushed::Full(new) if state.queue.policy() == QueuePolicy::DropNewest => break Some(new),
                Pushed::Full(new) => {
                    queued = new;
                    state = self.room.wait(state);
                    if let Phase::Closed(reason) = state.phase {
                        state.ledger.drop(seq, reason, None, self.clock.now());
                        drop(state);
                        self.log_drop(seq, reason);
                        return Intaken::Closed;
                    }
                }
            }
        };
        if let Some(dropped) = &full {
            state.ledger.drop(dropped.frame.seq(), DropReason::QueueFull, None, now);
        }
        drop(state);
        self.notify();
        if let Some(dropped) = full {
            self.log_drop(dropped.frame.seq(), DropReason::QueueFull);
        }
        Intaken::Taken
    }

    /// Counts frames that the source lost.
    pub(crate) fn lost_upstream(&self, count: u64) {
        self.state.lock().ledger.lost_upstream(count);
    }

    /// The source has lost its session. There is another one once it gives a frame.
    pub(crate) fn disconnected(&self) {
        let mut state = self.state.lock();
        state.connected = false;
        state.cadence.interrupt();
        drop(state);
        self.notify();
    }

    /// No more frames come in: the source has ended.
    pub(crate) fn end(&self, end: SourceEnd) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Ended;
        }
        state.source_end = Some(end);
        drop(state);
        self.notify();
    }

    // --- The executor's side.

    /// Looks: what was bound, what waits, whether it has ended. The lists of `glance` are to be empty; their memory is used
    /// again.
    pub(crate) fn glance(&self, glance: &mut Glance) {
        debug_assert!(glance.bound.is_empty() && glance.superseded.is_empty(), "what was seen before was taken in");
        let mut state = self.state.lock();
        std::mem::swap(&mut glance.bound, &mut state.bound);
        std::mem::swap(&mut glance.superseded, &mut state.superseded);
        glance.queued = state.queue.len();
        glance.claims = state.claims;
        glance.ended = state.phase != Phase::Open;
        glance.running = state.phase == Phase::Open && state.connected && !state.paused && !state.restarting;
        glance.next_due = if glance.running { state.cadence.next_due() } else { None };
    }

    /// Takes the oldest frame out of the queue.
    pub(crate) fn pop(&self) -> Option<Queued> {
        let mut state = self.state.lock();
        let queued = state.queue.pop();
        let has_room = queued.is_some() && state.queue.is_half_empty();
        drop(state);
        if has_room {
            self.room.notify_one();
        }
        queued
    }

    /// Notes that `count` claims are on their way to the batch point.
    pub(crate) fn add_claims(&self, count: usize) {
        self.state.lock().claims += count;
    }

    /// Notes that `count` claims were not taken after all.
    pub(crate) fn return_claims(&self, count: usize) {
        let mut state = self.state.lock();
        state.claims = state.claims.saturating_sub(count);
    }

    /// Ends a frame as emitted. False if it has ended before.
    pub(crate) fn emit(&self, seq: u64) -> bool {
        self.state.lock().ledger.emit(seq)
    }

    /// Ends a frame as dropped at `step`. False if it has ended before.
    pub(crate) fn drop_frame(&self, seq: u64, reason: DropReason, step: Option<&Name>) -> bool {
        let dropped = self.state.lock().ledger.drop(seq, reason, step.cloned(), self.clock.now());
        if dropped {
            let step = step.map_or("", Name::as_str);
            tracing::debug!(feed = %self.feed, seq, %reason, step, "frame dropped");
        }
        dropped
    }

    /// Takes no more frames and drops those that wait.
    pub(crate) fn close(&self, reason: DropReason) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Closed(_)) {
            state.phase = Phase::Closed(reason);
        }
        let dropped: Vec<Queued> = std::iter::from_fn(|| state.queue.pop()).collect();
        for queued in &dropped {
            state.ledger.drop(queued.frame.seq(), reason, None, self.clock.now());
        }
        drop(state);
        self.room.notify_all();
        self.notify();
        dropped.iter().for_each(|q| self.log_drop(q.frame.seq(), reason));
    }

    /// Closes it and ends every frame that has not ended yet: nobody is left who could.
    pub(crate) fn abandon(&self, reason: DropReason) {
        self.close(reason);
        let mut state = self.state.lock();
        state.ledger.drop_all(reason, self.clock.now());
        let frames = (std::mem::take(&mut state.bound), std::mem::take(&mut state.superseded));
        drop(state);
        drop(frames);
    }

    /// Drops the frames that wait and those that come in, until it is told otherwise; stages are told of the gap. For live
    /// feeds.
    pub(crate) fn set_restarting(&self, restarting: bool) {
        let mut state = self.state.lock();
        state.restarting = restarting;
        let mut dropped = Vec::new();
        if restarting {
            state.skipped = true;
            dropped.extend(std::iter::from_fn(|| state.queue.pop()));
        }
        for queued in &dropped {
            state.ledger.drop(queued.frame.seq(), DropReason::FeedRestarted, None, self.clock.now());
        }
        drop(state);
        self.room.notify_all();
        self.notify();
        dropped.iter().for_each(|q| self.log_drop(q.frame.seq(), DropReason::FeedRestarted));
    }

    /// How the source ended, if it has; once.
    pub(crate) fn take_source_end(&self) -> Option<SourceEnd> {
        self.state.lock().source_end.take()
    }

    // --- The batch point's side.

    /// Binds the oldest claim to a frame, as [`FrameQueue::bind`] picks it; adds to `superseded` how many it passed over.
    /// `None`: no frame waits, and the claim is gone.
    pub(crate) fn bind(&self, now: MonoTime, key: EntryKey, superseded: &mut u64) -> Option<Queued> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.claims = state.claims.saturating_sub(1);
        let freshness = state.freshness.or(state.cadence.interval()).unwrap_or(DEFAULT_FRESHNESS);
        let queued = state.queue.bind(now, freshness, |q| {
            *superseded += 1;
            state.ledger.drop(q.frame.seq(), DropReason::Superseded, None, now);
            state.superseded.push(q.frame);
        })?;
        state.bound.push(Bound { queued: queued.clone(), at: now, outcome: Ok(key) });
        let has_room = state.queue.is_half_empty();
        drop(guard);
        if has_room {
            self.room.notify_one();
        }
        self.notify();
        Some(queued)
    }

    /// Gives up `count` claims: the executor learns that the frames they would have been bound to could not be taken.
    pub(crate) fn void_claims(&self, count: usize, reason: DropReason) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.claims = state.claims.saturating_sub(count);
        let at = self.clock.now();
        for _ in 0..count {
            let Some(queued) = state.queue.pop() else { break };
            state.bound.push(Bound { queued, at, outcome: Err(reason) });
        }
        drop(guard);
        self.room.notify_all();
        self.notify();
    }

    // --- The owner's side.

    /// Holds frames back, or lets them in again. Those that are inside go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.paused, paused) && !paused {
            // How long it was paused says nothing of the source's rhythm.
            state.cadence.interrupt();
        }
        drop(state);
        self.room.notify_all();
        self.notify();
    }

    // --- Everybody's.

    pub(crate) fn counts(&self) -> FrameCounts {
        self.state.lock().ledger.counts()
    }

    pub(crate) fn last_drops(&self) -> Vec<DropRecord> {
        self.state.lock().ledger.last_drops().cloned().collect()
    }

    fn log_drop(&self, seq: u64, reason: DropReason) {
        tracing::debug!(feed = %self.feed, seq, %reason, "frame dropped");
    }

    fn notify(&self) {
        // A full channel holds a token already.
        let _ = self.wake.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use nv_core::ManualClock;

    use super::super::queue::tests::{ms, queued};
    use super::*;

    fn frame() -> Frame {
        queued(0, MonoTime::ZERO).frame
    }

    fn look(intake: &Intake) -> Glance {
        let mut glance = Glance::default();
        intake.glance(&mut glance);
        glance
    }

    #[test]
    fn a_paused_live_feed_takes_nothing_and_is_not_waited_for() {
        let clock = Arc::new(ManualClock::new());
        let intake = Intake::new("gate".into(), clock.clone(), 16, QueuePolicy::DropOldest, None);
        let push = |at| {
            clock.set(ms(at));
            intake.push(frame(), 0, 0, true)
        };
        for n in 0..9 {
            assert_eq!(push(n * 40), Intaken::Taken);
        }
        assert_eq!((look(&intake).running, look(&intake).next_due), (true, Some(ms(360))));
        intake.set_paused(true);
        assert_eq!((look(&intake).running, look(&intake).next_due), (false, None));
        assert_eq!((push(360), push(400)), (Intaken::Discarded, Intaken::Discarded));
        assert_eq!(look(&intake).queued, 9, "what was inside goes on");
        intake.set_paused(false);
        assert_eq!((push(50_000), push(50_040)), (Intaken::Taken, Intaken::Taken));
        assert_eq!(look(&intake).next_due, Some(ms(50_080)), "the pause is no interval");
        let cuts: Vec<u32> = std::iter::from_fn(|| intake.pop()).map(|q| q.cuts).collect();
        assert_eq!(cuts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], "the stages are told of the gap");
        let counts = intake.counts();
        assert_eq!((counts.received, counts.dropped.get(&DropReason::FeedStopped)), (13, Some(&2)));
        assert!(counts.is_balanced());
    }

    #[test]
    fn a_lost_source_is_not_waited_for() {
        let clock = Arc::new(ManualClock::new());
        let intake = Intake::new("gate".into(), clock.clone(), 16, QueuePolicy::DropOldest, None);
        let push = |at, session| {
            clock.set(ms(at));
            assert_eq!(intake.push(frame(), session, 0, true), Intaken::Taken);
        };
        (0..9).for_each(|n| push(n * 40, 0));
        intake.disconnected();
        assert_eq!((look(&intake).running, look(&intake).next_due), (false, None));
        push(9_000, 1);
        assert_eq!((look(&intake).running, look(&intake).next_due), (true, Some(ms(9_040))));
        let sessions: Vec<u32> = std::iter::from_fn(|| intake.pop()).map(|q| q.session).collect();
        assert_eq!(sessions, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_pause_without_frames_cuts_nothing() {
        let clock = Arc::new(ManualClock::new());
        let intake = Intake::new("gate".into(), clock, 8, QueuePolicy::DropOldest, None);
        intake.set_paused(true);
        intake.set_paused(false);
        assert_eq!(intake.push(frame(), 0, 0, true), Intaken::Taken);
        assert_eq!(intake.pop().map(|q| q.cuts), Some(0));
    }
}
