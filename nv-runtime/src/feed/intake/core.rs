use std::time::Duration;

use nv_core::{DropReason, Frame, MonoTime, Name};
use serde::{Deserialize, Serialize};

use super::super::ledger::{DropRecord, FrameCounts, Ledger};
use super::super::queue::{Cadence, FrameQueue, Pushed, QueuePolicy, Queued};
use super::super::rate::Rate;
use super::record::Input;
use crate::batch::EntryKey;
use crate::decisions::{At, CoreLog, nanos};

/// What becomes of a feed's frames before their first step, and the account of all of them: a pure state machine. No thread, no
/// channel, no clock; `now` is passed in.
///
/// `T` is what travels with a frame's number and times: the frame itself, or nothing where only the decisions matter.
///
/// Invariant: every frame that [`push`](Self::push) received is in the ledger, and ends there once.
#[derive(Debug)]
pub(crate) struct IntakeCore<T = Frame> {
    queue: FrameQueue<T>,
    ledger: Ledger,
    cadence: Cadence,
    freshness: Option<Duration>,
    rate: Option<Rate>,
    drop_suspect: bool,
    /// The session of the latest frame.
    session: u32,
    /// Claims at the batch point that no frame was bound to yet.
    claims: usize,
    /// Frames that claims took and that the executor has not heard of yet, in the order of their sequence numbers.
    bound: Vec<Bound<T>>,
    /// Frames that were passed over for them. The executor gives their memory back, since that is others' code and the
    /// batch point binds under its lock.
    superseded: Vec<T>,
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
    log: CoreLog,
}

/// What an intake is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IntakeConfig {
    /// Frames that may wait.
    pub(crate) capacity: usize,
    /// What happens when they are more.
    pub(crate) policy: QueuePolicy,
    /// The oldest a frame may be to be bound before the newest one; `None`: one measured frame interval.
    #[serde(with = "nanos")]
    pub(crate) freshness: Option<Duration>,
    /// Nanoseconds of stream time from one frame to the next that is let in, on average; `None`: each is.
    pub(crate) period: Option<i64>,
    /// Whether frames are dropped that the decoder calls suspect.
    pub(crate) drop_suspect: bool,
}

impl IntakeConfig {
    /// The default, but for what has none.
    pub(crate) fn new(capacity: usize, policy: QueuePolicy) -> Self {
        Self { capacity, policy, freshness: None, period: None, drop_suspect: false }
    }
}

/// A frame as its source gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    /// The feed's session with its source.
    pub(crate) session: u32,
    /// Cuts of the stream so far, as far as the source says.
    pub(crate) cuts: u32,
    /// Its time in the stream, in nanoseconds.
    pub(crate) pts: i64,
    /// Whether the decoder calls it suspect.
    pub(crate) suspect: bool,
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

/// What became of a frame that came in. Those that did not get in come back: giving their memory back is others' code, and
/// the intake is under a lock.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", bound = "")]
pub(crate) enum Arrival<T> {
    /// It was received, and this one dropped as `QueueFull` for want of room: an older one, or itself.
    Taken(Option<Queued<T>>),
    /// It was received, and dropped for this reason.
    Discarded(Queued<T>, DropReason),
    /// It was received, and there is no room: the caller waits for some and calls [`IntakeCore::retry`].
    Full(Queued<T>),
    /// It had been received, and was dropped for this reason: no more frames come in.
    Closed(Queued<T>, DropReason),
    /// It was not received: no more frames come in.
    Refused(#[serde(skip)] T),
}

/// A frame that a claim stood for.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Bound<T = Frame> {
    pub(crate) queued: Queued<T>,
    #[serde(with = "nanos")]
    pub(crate) at: MonoTime,
    /// The entry that it was bound to, or why the claim came to nothing.
    pub(crate) outcome: Result<EntryKey, DropReason>,
}

/// What the executor finds when it looks.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Glance<T = Frame> {
    /// Frames that claims took since it last looked.
    pub(crate) bound: Vec<Bound<T>>,
    /// Frames that were passed over for them, and have been booked as dropped.
    #[serde(skip)]
    pub(crate) superseded: Vec<T>,
    /// Frames in the queue.
    pub(crate) queued: usize,
    /// Claims that wait for a frame to be bound.
    pub(crate) claims: usize,
    /// When the next frame is due; `None` where none is to come.
    #[serde(with = "nanos")]
    pub(crate) next_due: Option<MonoTime>,
    /// Whether no more frames come in.
    pub(crate) ended: bool,
    /// Whether frames come in: it is connected, and has neither ended nor been paused.
    pub(crate) running: bool,
}

impl<T> Default for Glance<T> {
    fn default() -> Self {
        Self {
            bound: Vec::new(),
            superseded: Vec::new(),
            queued: 0,
            claims: 0,
            next_due: None,
            ended: false,
            running: false,
        }
    }
}

impl<T> IntakeCore<T> {
    pub(crate) fn new(config: IntakeConfig) -> Self {
        Self {
            queue: FrameQueue::new(config.capacity, config.policy),
            ledger: Ledger::default(),
            cadence: Cadence::default(),
            freshness: config.freshness,
            rate: config.period.map(Rate::new),
            drop_suspect: config.drop_suspect,
            session: 0,
            claims: 0,
            bound: Vec::new(),
            superseded: Vec::new(),
            connected: true,
            paused: false,
            restarting: false,
            skipped: false,
            resumed: 0,
            phase: Phase::Open,
            log: CoreLog::default(),
        }
    }

    /// Notes what it is told and what it decides in `log`.
    pub(crate) fn set_log(&mut self, log: CoreLog) {
        self.log = log;
    }

    // --- The source's side.

    /// Whether a source that is not live is to wait with its frame: the feed is paused.
    pub(crate) fn holds_back(&self) -> bool {
        self.paused && self.phase == Phase::Open
    }

    /// Takes in a frame, to which `stamp` gives its number. While the feed is paused or restarting it is dropped at once.
    pub(crate) fn push(
        &mut self,
        now: MonoTime,
        given: Given,
        frame: T,
        stamp: impl FnOnce(T, u64) -> T,
    ) -> Arrival<T> {
        let arrival = self.receive(now, given, frame, stamp);
        self.log.note(|| (Input::Push { now: At(now), given }, &arrival));
        arrival
    }

    fn receive(&mut self, now: MonoTime, given: Given, frame: T, stamp: impl FnOnce(T, u64) -> T) -> Arrival<T> {
        let Given { session, cuts, pts, suspect } = given;
        if self.phase != Phase::Open {
            return Arrival::Refused(frame);
        }
        let seq = self.ledger.receive();
        let mut queued = Queued { seq, received: now, frame: stamp(frame, seq), session, cuts };
        self.connected = true;
        if suspect && self.drop_suspect {
            self.ledger.drop(seq, DropReason::DecodeSuspect, None, now);
            return Arrival::Discarded(queued, DropReason::DecodeSuspect);
        }
        if self.session != session {
            self.session = session;
            self.rate.as_mut().map(Rate::start_over);
        }
        if self.rate.as_mut().is_some_and(|rate| !rate.take(pts)) {
            self.ledger.drop(seq, DropReason::RateLimited, None, now);
            return Arrival::Discarded(queued, DropReason::RateLimited);
        }
        // The rhythm of those that come in: others are not waited for.
        self.cadence.arrival(now);
        let kept_out = match (self.paused, self.restarting) {
            (true, _) => Some(DropReason::FeedStopped),
            (_, true) => Some(DropReason::FeedRestarted),
            _ => None,
        };
        if let Some(reason) = kept_out {
            self.skipped = true;
            self.ledger.drop(seq, reason, None, now);
            return Arrival::Discarded(queued, reason);
        }
        self.resumed += u32::from(std::mem::take(&mut self.skipped));
        queued.cuts += self.resumed;
        self.queue_up(now, queued)
    }

    /// Takes in a frame for which there was no room.
    pub(crate) fn retry(&mut self, now: MonoTime, queued: Queued<T>) -> Arrival<T> {
        let again = queued.without_frame();
        let arrival = if let Phase::Closed(reason) = self.phase {
            self.ledger.drop(queued.seq, reason, None, now);
            Arrival::Closed(queued, reason)
        } else if self.restarting {
            self.skipped = true;
            self.ledger.drop(queued.seq, DropReason::FeedRestarted, None, now);
            Arrival::Discarded(queued, DropReason::FeedRestarted)
        } else {
            self.queue_up(now, queued)
        };
        self.log.note(|| (Input::Retry { now: At(now), queued: again }, &arrival));
        arrival
    }

    fn queue_up(&mut self, now: MonoTime, queued: Queued<T>) -> Arrival<T> {
        let dropped = match self.queue.push(queued) {
            Pushed::Queued => return Arrival::Taken(None),
            Pushed::Full(new) if self.queue.policy() == QueuePolicy::Block => return Arrival::Full(new),
            Pushed::Evicted(dropped) | Pushed::Full(dropped) => dropped,
        };
        self.ledger.drop(dropped.seq, DropReason::QueueFull, None, now);
        Arrival::Taken(Some(dropped))
    }

    /// Counts frames that the source lost.
    pub(crate) fn lost_upstream(&mut self, count: u64) {
        self.ledger.lost_upstream(count);
        self.log.note(|| (Input::LostUpstream { count }, ()));
    }

    /// The source has lost its session. There is another one once it gives a frame.
    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.cadence.interrupt();
        self.log.note(|| (Input::Disconnected, ()));
    }

    /// No more frames come in: the source has ended.
    pub(crate) fn end(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
        }
        self.log.note(|| (Input::End, ()));
    }

    // --- The executor's side.

    /// Says what was bound, what waits, whether it has ended. The lists of `glance` are to be empty; their memory is used
    /// again.
    pub(crate) fn glance(&mut self, glance: &mut Glance<T>) {
        debug_assert!(glance.bound.is_empty() && glance.superseded.is_empty(), "what was seen before was taken in");
        std::mem::swap(&mut glance.bound, &mut self.bound);
        std::mem::swap(&mut glance.superseded, &mut self.superseded);
        glance.queued = self.queue.len();
        glance.claims = self.claims;
        glance.ended = self.phase != Phase::Open;
        glance.running = self.phase == Phase::Open && self.connected && !self.paused && !self.restarting;
        glance.next_due = if glance.running { self.cadence.next_due() } else { None };
        self.log.note(|| (Input::Glance, &*glance));
    }

    /// Frames that wait.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Takes the oldest frame out of the queue.
    pub(crate) fn pop(&mut self) -> Option<Queued<T>> {
        let queued = self.queue.pop();
        self.log.note(|| (Input::Pop, &queued));
        queued
    }

    /// Whether it is time to wake a source that waits for room.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.is_mostly_free()
    }

    /// Notes that `count` claims are on their way to the batch point.
    pub(crate) fn add_claims(&mut self, count: usize) {
        self.claims += count;
        self.log.note(|| (Input::AddClaims { count }, ()));
    }

    /// Notes that `count` claims were not taken after all.
    pub(crate) fn return_claims(&mut self, count: usize) {
        self.claims = self.claims.saturating_sub(count);
        self.log.note(|| (Input::ReturnClaims { count }, ()));
    }

    /// Ends a frame as emitted. False if it has ended before.
    pub(crate) fn emit(&mut self, seq: u64) -> bool {
        let ended = self.ledger.emit(seq);
        self.log.note(|| (Input::Emit { seq }, ended));
        ended
    }

    /// Ends a frame as dropped at `step`. False if it has ended before.
    pub(crate) fn drop_frame(&mut self, now: MonoTime, seq: u64, reason: DropReason, step: Option<&Name>) -> bool {
        let ended = self.ledger.drop(seq, reason, step.cloned(), now);
        self.log.note(|| (Input::Drop { now: At(now), seq, reason, step: step.cloned() }, ended));
        ended
    }

    /// Takes no more frames and drops those that wait.
    pub(crate) fn close(&mut self, now: MonoTime, reason: DropReason) -> Vec<Queued<T>> {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(reason);
        }
        let dropped = self.drop_queued(now, reason);
        self.log.note(|| (Input::Close { now: At(now), reason }, &dropped));
        dropped
    }

    /// Ends every frame that has not ended yet, nobody being left who could, and forgets what the executor was to hear.
    pub(crate) fn abandon(&mut self, now: MonoTime, reason: DropReason) -> (Vec<Bound<T>>, Vec<T>) {
        self.ledger.drop_all(reason, now);
        self.log.note(|| (Input::Abandon { now: At(now), reason }, self.counts()));
        (std::mem::take(&mut self.bound), std::mem::take(&mut self.superseded))
    }

    /// Ends every frame that was taken out of the queue: nobody is left who could. `hung` is the one that hung a step, and
    /// which; the others are dropped for `reason`. No claim may be at a batch point any more.
    pub(crate) fn take_back(
        &mut self,
        now: MonoTime,
        hung: Option<(u64, &Name)>,
        reason: DropReason,
    ) -> (Vec<Bound<T>>, Vec<T>) {
        if let Some((seq, step)) = hung {
            self.ledger.drop(seq, DropReason::StageHung, Some(step.clone()), now);
        }
        self.ledger.drop_before(self.queue.first().unwrap_or(u64::MAX), reason, now);
        self.claims = 0;
        self.log.note(|| {
            let hung = hung.map(|(seq, step)| (seq, step.clone()));
            (Input::TakeBack { now: At(now), hung, reason }, self.counts())
        });
        (std::mem::take(&mut self.bound), std::mem::take(&mut self.superseded))
    }

    /// Drops the frames that wait and those that come in, until it is told otherwise; stages are told of the gap. For live
    /// feeds.
    pub(crate) fn set_restarting(&mut self, now: MonoTime, restarting: bool) -> Vec<Queued<T>> {
        self.restarting = restarting;
        let mut dropped = Vec::new();
        if restarting {
            self.skipped = true;
            dropped = self.drop_queued(now, DropReason::FeedRestarted);
        }
        self.log.note(|| (Input::Restarting { now: At(now), restarting }, &dropped));
        dropped
    }

    fn drop_queued(&mut self, now: MonoTime, reason: DropReason) -> Vec<Queued<T>> {
        let dropped: Vec<_> = std::iter::from_fn(|| self.queue.pop()).collect();
        for queued in &dropped {
            self.ledger.drop(queued.seq, reason, None, now);
        }
        dropped
    }

    // --- The batch point's side.

    /// Binds the oldest claim to a frame, as [`FrameQueue::bind`] picks it; adds to `superseded` how many it passed over.
    /// `None`: no frame waits, and the claim is gone.
    pub(crate) fn bind(&mut self, now: MonoTime, key: EntryKey, superseded: &mut u64) -> Option<Queued<T>>
    where
        T: Clone,
    {
        self.claims = self.claims.saturating_sub(1);
        let freshness = self.freshness.or(self.cadence.interval()).unwrap_or(DEFAULT_FRESHNESS);
        let mut passed_over = 0;
        let queued = self.queue.bind(now, freshness, |q| {
            passed_over += 1;
            self.ledger.drop(q.seq, DropReason::Superseded, None, now);
            self.superseded.push(q.frame);
        });
        self.bound.extend(queued.clone().map(|queued| Bound { queued, at: now, outcome: Ok(key) }));
        *superseded += passed_over;
        self.log.note(|| (Input::Bind { now: At(now), key }, (passed_over, &queued)));
        queued
    }

    /// Gives up `count` claims: the executor learns that the frames they would have been bound to could not be taken.
    pub(crate) fn void_claims(&mut self, now: MonoTime, count: usize, reason: DropReason) {
        self.claims = self.claims.saturating_sub(count);
        for _ in 0..count {
            let Some(queued) = self.queue.pop() else { break };
            self.bound.push(Bound { queued, at: now, outcome: Err(reason) });
        }
        self.log.note(|| (Input::VoidClaims { now: At(now), count, reason }, ()));
    }

    // --- The owner's side.

    /// Holds frames back, or lets them in again. Those that are inside go on.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) && !paused {
            // How long it was paused says nothing of the source's rhythm.
            self.cadence.interrupt();
        }
        self.log.note(|| (Input::Paused { paused }, ()));
    }

    // --- Everybody's.

    pub(crate) fn is_restarting(&self) -> bool {
        self.restarting
    }

    /// Frames that are held here: in the queue, and bound without the executor having heard of it.
    #[cfg(test)]
    pub(crate) fn holds(&self) -> (usize, usize) {
        (self.queue.len(), self.bound.len())
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        self.ledger.counts()
    }

    pub(crate) fn last_drops(&self) -> impl Iterator<Item = &DropRecord> {
        self.ledger.last_drops()
    }
}

#[cfg(test)]
mod tests;
