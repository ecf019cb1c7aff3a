use std::collections::VecDeque;
use std::time::Duration;

use nv_core::{Frame, MonoTime};
use serde::{Deserialize, Serialize};

use crate::decisions::nanos;

/// What a feed's frame queue does when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueuePolicy {
    /// Drops the oldest frame: the feed stays close to now. Default of live feeds.
    DropOldest,
    /// Drops the frame that comes in.
    DropNewest,
    /// Makes the source wait: nothing is lost. Default of files.
    Block,
}

/// A frame that waits for its first step. What decides knows its number and its time alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "", deserialize = "T: Default"))]
pub(crate) struct Queued<T = Frame> {
    pub(crate) seq: u64,
    #[serde(with = "nanos")]
    pub(crate) received: MonoTime,
    #[serde(skip)]
    pub(crate) frame: T,
    pub(crate) session: u32,
    /// How often the stream was cut before this frame; stages are told when it changes.
    pub(crate) cuts: u32,
}

impl<T> Queued<T> {
    /// What decides about it.
    pub(crate) fn without_frame(&self) -> Queued<()> {
        let Self { seq, received, session, cuts, .. } = *self;
        Queued { seq, received, frame: (), session, cuts }
    }
}

/// What became of a frame that was pushed.
#[derive(Debug)]
pub(crate) enum Pushed<T> {
    /// It waits in the queue.
    Queued,
    /// It waits, and this one had to go.
    Evicted(Queued<T>),
    /// It could not be taken; the caller waits for room (policy `Block`) or drops it (`DropNewest`).
    Full(Queued<T>),
}

/// A feed's bounded queue of frames, oldest first. Sans-IO: it neither waits nor keeps an account.
#[derive(Debug)]
pub(crate) struct FrameQueue<T> {
    frames: VecDeque<Queued<T>>,
    capacity: usize,
    policy: QueuePolicy,
}

impl<T> FrameQueue<T> {
    pub(crate) fn new(capacity: usize, policy: QueuePolicy) -> Self {
        Self { frames: VecDeque::with_capacity(capacity), capacity, policy }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The number of the oldest frame.
    pub(crate) fn first(&self) -> Option<u64> {
        self.frames.front().map(|q| q.seq)
    }

    pub(crate) fn policy(&self) -> QueuePolicy {
        self.policy
    }

    /// Whether it is time to wake a source that waits for room: when most of the queue is free, so that it is not woken for
    /// each frame.
    pub(crate) fn is_mostly_free(&self) -> bool {
        self.frames.len() * 4 <= self.capacity
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= self.capacity
    }

    pub(crate) fn push(&mut self, frame: Queued<T>) -> Pushed<T> {
        if !self.is_full() {
            self.frames.push_back(frame);
            return Pushed::Queued;
        }
        if self.policy != QueuePolicy::DropOldest {
            return Pushed::Full(frame);
        }
        let oldest = self.frames.pop_front();
        self.frames.push_back(frame);
        oldest.map_or(Pushed::Queued, Pushed::Evicted)
    }

    /// The oldest frame.
    pub(crate) fn pop(&mut self) -> Option<Queued<T>> {
        self.frames.pop_front()
    }

    /// The frame that a claim is bound to: the oldest that is no older than `freshness`, else the newest. Those passed over
    /// go to `superseded`.
    pub(crate) fn bind(
        &mut self,
        now: MonoTime,
        freshness: Duration,
        mut superseded: impl FnMut(Queued<T>),
    ) -> Option<Queued<T>> {
        while self.frames.len() > 1 {
            let oldest = self.frames.front()?;
            if now.since(oldest.received) <= freshness {
                break;
            }
            self.frames.pop_front().map(&mut superseded);
        }
        self.frames.pop_front()
    }
}

/// The measured rhythm of a feed's arrivals: the mean interval of the latest ones.
///
/// A plain mean over a window rather than a moving average: cameras whose frames come in bursts have intervals of nearly
/// nothing and of a whole burst by turns, and what is asked for is the rate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cadence {
    /// The latest arrivals, oldest first.
    arrivals: VecDeque<MonoTime>,
    /// The mean interval before the last interruption.
    before: Option<Duration>,
}

/// Arrivals that the mean is taken over.
const WINDOW: usize = 17;
/// Arrivals before a rhythm is known.
const ENOUGH: usize = 9;

impl Cadence {
    pub(crate) fn arrival(&mut self, now: MonoTime) {
        if self.arrivals.len() == WINDOW {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(now);
    }

    /// The rhythm is interrupted: the time until the next arrival is no interval.
    pub(crate) fn interrupt(&mut self) {
        self.before = self.interval();
        self.arrivals.clear();
    }

    /// The mean interval, where it is known.
    pub(crate) fn interval(&self) -> Option<Duration> {
        match (self.arrivals.front(), self.arrivals.back()) {
            (Some(first), Some(last)) if self.arrivals.len() >= ENOUGH => {
                let intervals = u32::try_from(self.arrivals.len() - 1).ok()?;
                Some(last.since(*first) / intervals)
            }
            _ => self.before,
        }
    }

    /// When the next frame is due, as far as is known.
    pub(crate) fn next_due(&self) -> Option<MonoTime> {
        Some(*self.arrivals.back()? + self.interval()?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn ms(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    fn queued(seq: u64, received: MonoTime) -> Queued<()> {
        Queued { seq, received, frame: (), session: 0, cuts: 0 }
    }

    #[test]
    fn a_full_queue_follows_its_policy() {
        fn check(policy: QueuePolicy, expected: &str) {
            let mut queue = FrameQueue::new(2, policy);
            for seq in 0..2 {
                assert!(matches!(queue.push(queued(seq, ms(seq))), Pushed::Queued));
            }
            let outcome = match queue.push(queued(2, ms(2))) {
                Pushed::Queued => "queued".to_owned(),
                Pushed::Evicted(q) => format!("evicted {}", q.seq),
                Pushed::Full(q) => format!("full {}", q.seq),
            };
            assert_eq!(outcome, expected, "{policy:?}");
            assert_eq!(queue.len(), 2);
        }
        check(QueuePolicy::DropOldest, "evicted 0");
        check(QueuePolicy::DropNewest, "full 2");
        check(QueuePolicy::Block, "full 2");
    }

    #[test]
    fn a_claim_takes_the_oldest_fresh_frame_else_the_newest() {
        fn check(received: &[u64], now: u64, bound: Option<u64>, passed_over: &[u64]) {
            let mut queue = FrameQueue::new(8, QueuePolicy::DropOldest);
            for (seq, at) in received.iter().enumerate() {
                queue.push(queued(seq as u64, ms(*at)));
            }
            let mut superseded = Vec::new();
            let got = queue.bind(ms(now), Duration::from_millis(40), |q| superseded.push(q.seq));
            assert_eq!(got.map(|q| q.seq), bound, "{received:?} at {now}");
            assert_eq!(superseded, passed_over);
        }
        check(&[], 100, None, &[]);
        check(&[0], 100, Some(0), &[]);
        check(&[60, 93], 100, Some(0), &[]);
        check(&[59, 93], 100, Some(1), &[0]);
        check(&[0, 20, 40], 100, Some(2), &[0, 1]);
        // A burst of three is within the bound: nothing of it is lost.
        check(&[99, 99, 99], 100, Some(0), &[]);
    }

    #[test]
    fn the_rhythm_of_bursts_is_their_rate() {
        let mut cadence = Cadence::default();
        for burst in 0..20 {
            for _ in 0..3 {
                cadence.arrival(ms(burst * 100));
                let known = cadence.interval();
                assert!(known.is_none_or(|i| i >= Duration::from_millis(25)), "{known:?}");
            }
        }
        let interval = cadence.interval().unwrap();
        assert!((31..=38).contains(&interval.as_millis()), "{interval:?}");
    }

    #[test]
    fn cadence_follows_the_arrivals() {
        let mut cadence = Cadence::default();
        assert_eq!(cadence.next_due(), None);
        for i in 0..30 {
            cadence.arrival(ms(i * 40));
        }
        let due = cadence.next_due().unwrap();
        assert!(due >= ms(1199) && due <= ms(1201), "{due:?}");
        cadence.interrupt();
        assert_eq!(cadence.next_due(), None);
        cadence.arrival(ms(90_000));
        let due = cadence.next_due().unwrap();
        assert!(due >= ms(90_039) && due <= ms(90_041), "an interruption is no interval: {due:?}");
    }

    proptest! {
        #[test]
        fn binding_keeps_order_and_loses_none(ages in prop::collection::vec(0u64..200, 0..8), freshness in 0u64..100) {
            let mut sorted = ages;
            sorted.sort_unstable();
            let mut queue = FrameQueue::new(8, QueuePolicy::DropOldest);
            for (seq, at) in sorted.iter().enumerate() {
                queue.push(queued(seq as u64, ms(*at)));
            }
            let mut seen = Vec::new();
            while queue.len() > 0 {
                let mut passed = Vec::new();
                let got = queue.bind(ms(200), Duration::from_millis(freshness), |q| passed.push(q.seq));
                seen.extend(passed);
                seen.push(got.unwrap().seq);
            }
            prop_assert_eq!(seen, (0..sorted.len() as u64).collect::<Vec<_>>());
        }
    }
}
