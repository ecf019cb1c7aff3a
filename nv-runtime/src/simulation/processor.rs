//! Processors that take their time and fail as they are told to.

use std::time::Duration;

use fastrand::Rng;
use nv_core::MonoTime;

/// How a batch point's processors behave.
#[derive(Clone, Debug)]
pub(super) struct ProcessorPlan {
    /// A call takes `base + per_entry · n`, give or take `jitter` of it.
    pub(super) base: Duration,
    pub(super) per_entry: Duration,
    pub(super) jitter: f64,
    /// Whether a batch that failed may be tried again.
    pub(super) idempotent: bool,
    pub(super) faults: Faults,
}

/// What goes wrong, and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Every so many calls one takes so many times as long.
    pub(super) slow: Option<(u64, u32)>,
    /// Every so many frames of this feed its entry fails, alone.
    pub(super) bad_entries: Option<(usize, u64)>,
    /// Every so many frames of this feed its entry takes its whole batch along.
    pub(super) bad_batches: Option<(usize, u64)>,
    /// Every so many calls one fails as a whole, whatever is in it.
    pub(super) bad_calls: Option<u64>,
    /// Every so many calls one panics.
    pub(super) panics: Option<u64>,
    /// Every so many calls one hangs: for so long, or for good.
    pub(super) hangs: Option<(u64, Option<Duration>)>,
    /// When all of this is over, if it is.
    pub(super) until: Option<MonoTime>,
    /// Between these times every call panics, and nothing can be built anew.
    pub(super) broken: Option<(MonoTime, MonoTime)>,
}

impl Faults {
    /// Whether nothing is wrong with the processor itself, nor with what it is given.
    pub(super) fn is_healthy(&self) -> bool {
        let Self { slow: _, until: _, bad_entries, bad_batches, bad_calls, panics, hangs, broken } = self;
        bad_entries.is_none()
            && bad_batches.is_none()
            && bad_calls.is_none()
            && panics.is_none()
            && hangs.is_none()
            && broken.is_none()
    }
}

impl ProcessorPlan {
    /// The longest that a call of `n` entries takes that does not hang.
    pub(super) fn longest(&self, n: usize) -> Duration {
        let slow = self.faults.slow.map_or(1, |(_, factor)| factor);
        (self.base + self.per_entry * n as u32).mul_f64(1.0 + self.jitter) * slow
    }
}

/// One instance's processor.
#[derive(Debug)]
pub(super) struct SimProcessor {
    plan: ProcessorPlan,
    calls: u64,
}

/// What an entry is, to a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) feed: usize,
    pub(super) seq: u64,
}

/// What comes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// It returns; each entry has a result or an error of its own.
    Done,
    /// It fails for all of its entries.
    Failed,
    /// It panics.
    Panicked,
}

impl SimProcessor {
    pub(super) fn new(plan: ProcessorPlan) -> Self {
        Self { plan, calls: 0 }
    }

    /// Calls it: what will come of it, and after how long; `None`: never.
    pub(super) fn call(
        &mut self,
        rng: &mut Rng,
        now: MonoTime,
        mut entries: impl ExactSizeIterator<Item = Subject>,
    ) -> (CallOutcome, Option<Duration>) {
        self.calls += 1;
        let faults = &self.plan.faults;
        let faulty = faults.until.is_none_or(|until| now < until);
        let nth = |every: u64| faulty && self.calls.is_multiple_of(every);
        let full = self.plan.base + self.plan.per_entry * entries.len() as u32;
        let spread = 1.0 + self.plan.jitter * (2.0 * rng.f64() - 1.0);
        let mut took = Some(full.mul_f64(spread));
        if let Some((every, factor)) = faults.slow
            && nth(every)
        {
            took = took.map(|t| t * factor);
        }
        if let Some((every, lasts)) = faults.hangs
            && nth(every)
        {
            took = lasts;
        }
        let broken = faults.broken.is_some_and(|(from, to)| (from..to).contains(&now));
        let outcome = if broken || faults.panics.is_some_and(nth) {
            CallOutcome::Panicked
        } else if faults.bad_calls.is_some_and(nth) || (faulty && entries.any(|e| is_nth(faults.bad_batches, e))) {
            CallOutcome::Failed
        } else {
            CallOutcome::Done
        };
        (outcome, took)
    }

    /// Whether an entry of a call that returned has a result.
    pub(super) fn succeeds(&self, now: MonoTime, entry: Subject) -> bool {
        let over = self.plan.faults.until.is_some_and(|until| until <= now);
        over || !is_nth(self.plan.faults.bad_entries, entry)
    }

    /// Whether it can be built anew.
    pub(super) fn rebuilds(&self, now: MonoTime) -> bool {
        !self.plan.faults.broken.is_some_and(|(from, to)| (from..to).contains(&now))
    }
}

fn is_nth(fault: Option<(usize, u64)>, entry: Subject) -> bool {
    fault.is_some_and(|(feed, every)| entry.feed == feed && entry.seq.is_multiple_of(every))
}
