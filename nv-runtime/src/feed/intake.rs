use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{Clock, DropReason, Frame, MonoTime, Name};

use super::ledger::{DropRecord, FrameCounts, Ledger};
use super::queue::{Cadence, FrameQueue, Pushed, QueuePolicy, Queued};
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
    /// Frames that were bound to claims and that the executor has not heard of yet, in the order of their sequence numbers.
    bound: Vec<Bound>,
    phase: Phase,
}

/// A frame that a batch point took for a claim.
pub(crate) struct Bound {
    pub(crate) queued: Queued,
    pub(crate) key: EntryKey,
    pub(crate) at: MonoTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Frames come in.
    Open,
    /// No more frames come in; those in the queue go on.
    Ended,
    /// Nothing comes in and the queue was emptied.
    Closed,
}

/// Freshness before the interval of a feed's frames is known.
const DEFAULT_FRESHNESS: Duration = Duration::from_millis(40);

/// What the executor finds when it looks.
pub(crate) struct Glance {
    /// Frames that claims were bound to since it last looked.
    pub(crate) bound: Vec<Bound>,
    /// Frames in the queue.
    pub(crate) queued: usize,
    /// Claims that wait for a frame to be bound.
    pub(crate) claims: usize,
    /// When the next frame is due.
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
            phase: Phase::Open,
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
        loop {
            match state.queue.push(queued) {
                Pushed::Queued => break,
                Pushed::Evicted(old) => {
                    self.drop_in(&mut state, old.frame.seq(), DropReason::QueueFull);
                    break;
                }
                Pushed::Full(new) if state.queue.policy() == QueuePolicy::DropNewest => {
                    self.drop_in(&mut state, new.frame.seq(), DropReason::QueueFull);
                    break;
                }
                Pushed::Full(new) => {
                    queued = new;
                    state = self.room.wait(state);
                    if state.phase != Phase::Open {
                        self.drop_in(&mut state, queued.frame.seq(), DropReason::FeedStopped);
                        return false;
                    }
                }
            }
        }
        drop(state);
        self.notify();
        true
    }

    /// Counts frames that the source lost.
    pub(crate) fn lost_upstream(&self, count: u64) {
        self.state.lock().ledger.lost_upstream(count);
    }

    /// No more frames come in.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Ended;
        }
        drop(state);
        self.room.notify_all();
        self.notify();
    }

    // --- The executor's side.

    /// Looks: what was bound, what waits, whether it has ended.
    pub(crate) fn glance(&self) -> Glance {
        let mut state = self.state.lock();
        Glance {
            bound: std::mem::take(&mut state.bound),
            queued: state.queue.len(),
            claims: state.claims,
            next_due: state.cadence.next_due(),
            ended: state.phase != Phase::Open,
        }
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
        state.phase = Phase::Closed;
        while let Some(queued) = state.queue.pop() {
            self.drop_in(&mut state, queued.frame.seq(), reason);
        }
        drop(state);
        self.room.notify_all();
        self.notify();
    }

    // --- The batch point's side.

    /// Binds the oldest claim to a frame, as [`FrameQueue::bind`] picks it. `None`: no frame waits, and the claim is gone.
    pub(crate) fn bind(&self, now: MonoTime, key: EntryKey) -> Option<Queued> {
        let mut state = self.state.lock();
        state.claims = state.claims.saturating_sub(1);
        let freshness = state.freshness.or(state.cadence.interval()).unwrap_or(DEFAULT_FRESHNESS);
        let mut superseded = Vec::new();
        let queued = state.queue.bind(now, freshness, |q| superseded.push(q.frame.seq()));
        for seq in superseded {
            self.drop_in(&mut state, seq, DropReason::Superseded);
        }
        let queued = queued?;
        state.bound.push(Bound { queued: queued.clone(), key, at: now });
        drop(state);
        self.room.notify_one();
        self.notify();
        Some(queued)
    }

    /// Gives up `count` claims, and with each the frame that it would have been bound to.
    pub(crate) fn void_claims(&self, count: usize, reason: DropReason) {
        let mut state = self.state.lock();
        state.claims = state.claims.saturating_sub(count);
        for _ in 0..count {
            let Some(queued) = state.queue.pop() else { break };
            self.drop_in(&mut state, queued.frame.seq(), reason);
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

    fn drop_in(&self, state: &mut State, seq: u64, reason: DropReason) {
        state.ledger.drop(seq, reason, None, self.clock.now());
        tracing::debug!(feed = %self.feed, seq, %reason, "frame dropped");
    }

    fn notify(&self) {
        // A full channel holds a token already.
        let _ = self.wake.try_send(());
    }
}
