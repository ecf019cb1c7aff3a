use std::time::Duration;

use nv_core::{DropReason, Frame, MonoTime, Name};

use super::super::ledger::{DropRecord, FrameCounts, Ledger};
use super::super::queue::{Cadence, FrameQueue, Pushed, QueuePolicy, Queued};
use crate::batch::EntryKey;

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
}

/// What an intake is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IntakeConfig {
    /// Frames that may wait.
    pub(crate) capacity: usize,
    /// What happens when they are more.
    pub(crate) policy: QueuePolicy,
    /// The oldest a frame may be to be bound before the newest one; `None`: one measured frame interval.
    pub(crate) freshness: Option<Duration>,
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
#[derive(Debug)]
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
    Refused(T),
}

/// A frame that a claim stood for.
#[derive(Debug)]
pub(crate) struct Bound<T = Frame> {
    pub(crate) queued: Queued<T>,
    pub(crate) at: MonoTime,
    /// The entry that it was bound to, or why the claim came to nothing.
    pub(crate) outcome: Result<EntryKey, DropReason>,
}

/// What the executor finds when it looks.
#[derive(Debug)]
pub(crate) struct Glance<T = Frame> {
    /// Frames that claims took since it last looked.
    pub(crate) bound: Vec<Bound<T>>,
    /// Frames that were passed over for them, and have been booked as dropped.
    pub(crate) superseded: Vec<T>,
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
            claims: 0,
            bound: Vec::new(),
            superseded: Vec::new(),
            connected: true,
            paused: false,
            restarting: false,
            skipped: false,
            resumed: 0,
            phase: Phase::Open,
        }
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
        session: u32,
        cuts: u32,
        frame: T,
        stamp: impl FnOnce(T, u64) -> T,
    ) -> Arrival<T> {
        if self.phase != Phase::Open {
            return Arrival::Refused(frame);
        }
        let seq = self.ledger.receive();
        let mut queued = Queued { seq, received: now, frame: stamp(frame, seq), session, cuts };
        self.connected = true;
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
        if let Phase::Closed(reason) = self.phase {
            self.ledger.drop(queued.seq, reason, None, now);
            return Arrival::Closed(queued, reason);
        }
        self.queue_up(now, queued)
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
    }

    /// The source has lost its session. There is another one once it gives a frame.
    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.cadence.interrupt();
    }

    /// No more frames come in: the source has ended.
    pub(crate) fn end(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
        }
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
    }

    /// Takes the oldest frame out of the queue.
    pub(crate) fn pop(&mut self) -> Option<Queued<T>> {
        self.queue.pop()
    }

    /// Whether it is time to wake a source that waits for room.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.is_half_empty()
    }

    /// Notes that `count` claims are on their way to the batch point.
    pub(crate) fn add_claims(&mut self, count: usize) {
        self.claims += count;
    }

    /// Notes that `count` claims were not taken after all.
    pub(crate) fn return_claims(&mut self, count: usize) {
        self.claims = self.claims.saturating_sub(count);
    }

    /// Ends a frame as emitted. False if it has ended before.
    pub(crate) fn emit(&mut self, seq: u64) -> bool {
        self.ledger.emit(seq)
    }

    /// Ends a frame as dropped at `step`. False if it has ended before.
    pub(crate) fn drop_frame(&mut self, now: MonoTime, seq: u64, reason: DropReason, step: Option<&Name>) -> bool {
        self.ledger.drop(seq, reason, step.cloned(), now)
    }

    /// Takes no more frames and drops those that wait.
    pub(crate) fn close(&mut self, now: MonoTime, reason: DropReason) -> Vec<Queued<T>> {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(reason);
        }
        self.drop_queued(now, reason)
    }

    /// Ends every frame that has not ended yet, nobody being left who could, and forgets what the executor was to hear.
    pub(crate) fn abandon(&mut self, now: MonoTime, reason: DropReason) -> (Vec<Bound<T>>, Vec<T>) {
        self.ledger.drop_all(reason, now);
        (std::mem::take(&mut self.bound), std::mem::take(&mut self.superseded))
    }

    /// Drops the frames that wait and those that come in, until it is told otherwise; stages are told of the gap. For live
    /// feeds.
    pub(crate) fn set_restarting(&mut self, now: MonoTime, restarting: bool) -> Vec<Queued<T>> {
        self.restarting = restarting;
        if !restarting {
            return Vec::new();
        }
        self.skipped = true;
        self.drop_queued(now, DropReason::FeedRestarted)
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
        let queued = self.queue.bind(now, freshness, |q| {
            *superseded += 1;
            self.ledger.drop(q.seq, DropReason::Superseded, None, now);
            self.superseded.push(q.frame);
        })?;
        self.bound.push(Bound { queued: queued.clone(), at: now, outcome: Ok(key) });
        Some(queued)
    }

    /// Gives up `count` claims: the executor learns that the frames they would have been bound to could not be taken.
    pub(crate) fn void_claims(&mut self, now: MonoTime, count: usize, reason: DropReason) {
        self.claims = self.claims.saturating_sub(count);
        for _ in 0..count {
            let Some(queued) = self.queue.pop() else { break };
            self.bound.push(Bound { queued, at: now, outcome: Err(reason) });
        }
    }

    // --- The owner's side.

    /// Holds frames back, or lets them in again. Those that are inside go on.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) && !paused {
            // How long it was paused says nothing of the source's rhythm.
            self.cadence.interrupt();
        }
    }

    // --- Everybody's.

    pub(crate) fn counts(&self) -> FrameCounts {
        self.ledger.counts()
    }

    pub(crate) fn last_drops(&self) -> impl Iterator<Item = &DropRecord> {
        self.ledger.last_drops()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::queue::tests::ms;
    use super::*;

    fn core(capacity: usize, policy: QueuePolicy) -> IntakeCore<()> {
        IntakeCore::new(IntakeConfig { capacity, policy, freshness: None })
    }

    fn push(core: &mut IntakeCore<()>, at: u64) -> Arrival<()> {
        core.push(ms(at), 0, 0, (), |(), _| ())
    }

    fn look(core: &mut IntakeCore<()>) -> Glance<()> {
        let mut glance = Glance::default();
        core.glance(&mut glance);
        glance
    }

    fn popped<A>(core: &mut IntakeCore<()>, what: impl Fn(Queued<()>) -> A) -> Vec<A> {
        std::iter::from_fn(|| core.pop()).map(what).collect()
    }

    #[test]
    fn a_paused_live_feed_takes_nothing_and_is_not_waited_for() {
        let mut core = core(16, QueuePolicy::DropOldest);
        for n in 0..9 {
            assert!(matches!(push(&mut core, n * 40), Arrival::Taken(None)));
        }
        let glance = look(&mut core);
        assert_eq!((glance.running, glance.next_due), (true, Some(ms(360))));
        core.set_paused(true);
        let glance = look(&mut core);
        assert_eq!((glance.running, glance.next_due), (false, None));
        for at in [360, 400] {
            assert!(matches!(push(&mut core, at), Arrival::Discarded(_, DropReason::FeedStopped)));
        }
        assert_eq!(look(&mut core).queued, 9, "what was inside goes on");
        core.set_paused(false);
        push(&mut core, 50_000);
        push(&mut core, 50_040);
        assert_eq!(look(&mut core).next_due, Some(ms(50_080)), "the pause is no interval");
        let cuts = popped(&mut core, |q| q.cuts);
        assert_eq!(cuts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], "the stages are told of the gap");
        let counts = core.counts();
        assert_eq!((counts.received, counts.dropped.get(&DropReason::FeedStopped)), (13, Some(&2)));
        assert!(counts.is_balanced());
    }

    #[test]
    fn a_lost_source_is_not_waited_for() {
        let mut core = core(16, QueuePolicy::DropOldest);
        for n in 0..9 {
            push(&mut core, n * 40);
        }
        core.disconnected();
        let glance = look(&mut core);
        assert_eq!((glance.running, glance.next_due), (false, None));
        assert!(matches!(core.push(ms(9_000), 1, 0, (), |(), _| ()), Arrival::Taken(None)));
        let glance = look(&mut core);
        assert_eq!((glance.running, glance.next_due), (true, Some(ms(9_040))));
        assert_eq!(popped(&mut core, |q| q.session), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_pause_without_frames_cuts_nothing() {
        let mut core = core(8, QueuePolicy::DropOldest);
        core.set_paused(true);
        core.set_paused(false);
        push(&mut core, 0);
        assert_eq!(popped(&mut core, |q| q.cuts), [0]);
    }

    #[test]
    fn a_frame_that_waits_for_room_is_received_once() {
        let mut core = core(1, QueuePolicy::Block);
        push(&mut core, 0);
        let Arrival::Full(waiting) = push(&mut core, 1) else { panic!("there is no room") };
        let Arrival::Full(waiting) = core.retry(ms(2), waiting) else { panic!("there still is none") };
        assert_eq!(core.pop().map(|q| q.seq), Some(0));
        assert!(matches!(core.retry(ms(3), waiting), Arrival::Taken(None)));
        let Arrival::Full(waiting) = push(&mut core, 4) else { panic!("there is no room") };
        assert_eq!(core.close(ms(5), DropReason::Shutdown).len(), 1);
        assert!(matches!(core.retry(ms(5), waiting), Arrival::Closed(Queued { seq: 2, .. }, DropReason::Shutdown)));
        assert!(matches!(push(&mut core, 6), Arrival::Refused(())));
        let counts = core.counts();
        assert_eq!((counts.received, counts.inside), (3, 1), "what was taken out of the queue is with the executor");
        assert!(counts.is_balanced());
    }

    proptest! {
        /// Whatever comes when: the account balances, and at the end nothing is left inside.
        #[test]
        fn every_frame_ends_once(
            policy in prop_oneof![
                Just(QueuePolicy::DropOldest),
                Just(QueuePolicy::DropNewest),
                Just(QueuePolicy::Block)
            ],
            events in prop::collection::vec((0u8..12, 0u64..50), 0..200),
        ) {
            let mut core = core(3, policy);
            let (mut now, mut waiting) = (0, None);
            let key = crate::batch::EntryKey::default();
            for (event, ms_later) in events {
                now += ms_later;
                match event {
                    0..4 if waiting.is_none() => {
                        if let Arrival::Full(queued) = push(&mut core, now) {
                            waiting = Some(queued);
                        }
                    }
                    4 => if let Some(queued) = waiting.take()
                        && let Arrival::Full(queued) = core.retry(ms(now), queued)
                    {
                        waiting = Some(queued);
                    }
                    5 => { let _ = core.pop().map(|q| core.emit(q.seq)); }
                    6 => core.add_claims(1),
                    7 => { let _ = core.bind(ms(now), key, &mut 0); }
                    8 => core.void_claims(ms(now), 1, DropReason::Unavailable),
                    9 => core.set_paused(ms_later % 2 == 0),
                    10 => { core.set_restarting(ms(now), ms_later % 2 == 0); }
                    _ => for bound in look(&mut core).bound {
                        prop_assert!(core.drop_frame(ms(now), bound.queued.seq, DropReason::Expired, None));
                    }
                }
                prop_assert!(core.counts().is_balanced());
                prop_assert!(core.queue.len() <= 3);
            }
            core.close(ms(now), DropReason::Shutdown);
            core.abandon(ms(now), DropReason::Shutdown);
            prop_assert_eq!(core.counts().inside, 0);
            prop_assert!(core.counts().is_balanced());
        }
    }
}
