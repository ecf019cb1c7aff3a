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

    /// Takes in a frame. With policy `Block` waits for room. False once the intake takes no more.
    pub(crate) fn push(&self, frame: Frame, session: u32, cuts: u32) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return false;
        }
        let now = self.clock.now();
        let seq = state.ledger.receive();
        state.cadence.arrival(now);
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
                        return false;
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
        true
    }

    /// Counts frames that the source lost.
    pub(crate) fn lost_upstream(&self, count: u64) {
        self.state.lock().ledger.lost_upstream(count);
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
        glance.next_due = if glance.ended { None } else { state.cadence.next_due() };
    }

    /// Takes the oldest frame out of the queue.
    pub(crate) fn pop(&self) -> Option<Queued> {
        let queued = self.state.lock().queue.pop();
        if queued.is_some() {
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
        drop(guard);
        self.room.notify_one();
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
