//! Whether a batch point is fit for work: pure decisions.

use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

use super::LaneKey;

/// Failures in a row that take a point down: of rebuilds, or of batches in which the processor itself was at fault.
const LIMIT: u32 = 5;
/// Waits between probes (and between rebuilds): from the first to the most, doubling.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Waits that double from 1 s to 30 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF.0)
    }
}

impl Backoff {
    /// The wait that is due now; the next is twice as long.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(BACKOFF.1);
        wait
    }
}

/// When a processor that was lost is built anew: at once, and after that as a [`Backoff`] says, however the attempts go, until
/// something was computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RebuildPace(Option<Backoff>);

impl RebuildPace {
    /// The wait before the next attempt.
    pub(crate) fn next_wait(&mut self) -> Duration {
        match &mut self.0 {
            Some(backoff) => backoff.next_wait(),
            None => {
                self.0 = Some(Backoff::default());
                Duration::ZERO
            }
        }
    }

    /// The processor has computed something: it works.
    pub(crate) fn computed(&mut self) {
        self.0 = None;
    }
}

/// Takes a point down after 5 failures in a row, and up again after a probe that succeeds. Failures of one feed's entries alone
/// count once, while there are other feeds: it may be that feed as well as the processor, and the others' entries will tell.
///
/// While it is down, entries fail at once; one entry per back-off is let through as a probe. Whatever comes of a probe, and in
/// however many batches, the next one is as far off as the back-off says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    faults: u32,
    /// The lane that the latest fault was of, if it was of one alone.
    accused: Option<LaneKey>,
    failed_rebuilds: u32,
    down: Option<Down>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    probe_at: MonoTime,
    backoff: Backoff,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BreakerChange {
    /// Nothing.
    None,
    /// The point is down from now on.
    Down,
    /// The point is up again.
    Up,
}

/// A batch of which nothing was computed: every entry of it failed alone, or the processor broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// All of it was one lane's, and others are busy too.
    OfOneLane(LaneKey),
    /// Any other.
    OfAnybody,
}

impl Breaker {
    /// Takes in a batch.
    pub(crate) fn batch_done(&mut self, now: MonoTime, fault: Option<Fault>) -> BreakerChange {
        let Some(fault) = fault else {
            let was_down = self.down.is_some();
            *self = Self::default();
            return if was_down { BreakerChange::Up } else { BreakerChange::None };
        };
        let accused = match fault {
            Fault::OfOneLane(lane) => Some(lane),
            Fault::OfAnybody => None,
        };
        let again = accused.is_some() && accused == self.accused;
        self.accused = accused;
        if again {
            return BreakerChange::None;
        }
        self.faults += 1;
        self.failed(now, self.faults)
    }

    /// Takes in a rebuild that failed.
    pub(crate) fn rebuild_failed(&mut self, now: MonoTime) -> BreakerChange {
        self.failed_rebuilds += 1;
        self.failed(now, self.failed_rebuilds)
    }

    /// Takes in a rebuild that succeeded. Only a batch that is computed shows that the processor works.
    pub(crate) fn rebuilt(&mut self) {
        self.failed_rebuilds = 0;
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Whether an entry is let in at `now`, with `inside` entries at the point.
    pub(crate) fn admits(&self, now: MonoTime, inside: usize) -> bool {
        self.down.is_none_or(|down| down.probe_at <= now && inside == 0)
    }

    /// An entry was let in: while the point is down, that is a probe.
    pub(crate) fn let_in(&mut self, now: MonoTime) {
        if let Some(down) = &mut self.down {
            down.probe_at = now + down.backoff.next_wait();
        }
    }

    fn failed(&mut self, now: MonoTime, in_a_row: u32) -> BreakerChange {
        if self.down.is_some() || in_a_row < LIMIT {
            return BreakerChange::None;
        }
        let mut backoff = Backoff::default();
        self.down = Some(Down { probe_at: now + backoff.next_wait(), backoff });
        BreakerChange::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> MonoTime {
        MonoTime::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn five_in_a_row_take_it_down() {
        fn check(batches: &str, down: bool) {
            let mut breaker = Breaker::default();
            for c in batches.chars() {
                breaker.batch_done(at(0), (c == 'x').then_some(Fault::OfAnybody));
            }
            assert_eq!(breaker.is_down(), down, "{batches}");
        }
        check("xxxx", false);
        check("xxxx.xxxx", false);
        check("xxxxx", true);
        check("xxxxxxx.", false);
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!(breaker.rebuild_failed(at(0)), BreakerChange::None);
        }
        assert_eq!(breaker.rebuild_failed(at(0)), BreakerChange::Down);
    }

    #[test]
    fn one_of_several_feeds_alone_takes_nothing_down() {
        /// Each letter a batch: of one lane that failed (a, b), of several (x), or one that was computed (.).
        fn check(batches: &str, down: bool) {
            let mut breaker = Breaker::default();
            for c in batches.chars() {
                let fault = match c {
                    '.' => None,
                    'x' => Some(Fault::OfAnybody),
                    lane => Some(Fault::OfOneLane(LaneKey::numbered(lane as u32))),
                };
                breaker.batch_done(at(0), fault);
            }
            assert_eq!(breaker.is_down(), down, "{batches}");
        }
        check("aaaaaaaaaaaaaaaaaaaa", false);
        check("aaaaaaaab", false);
        check("ababa", true);
        check("aaaxaaaxa", true);
        check("abab.abab", false);
    }

    #[test]
    fn one_probe_per_back_off_and_one_that_succeeds_brings_it_up() {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.batch_done(at(10), Some(Fault::OfAnybody));
        }
        assert!(!breaker.admits(at(10), 0));
        assert!(breaker.admits(at(11), 0));
        assert!(!breaker.admits(at(11), 1), "one at a time");
        breaker.let_in(at(11));
        for _ in 0..3 {
            // Its batches, and the rebuilds that it leads to.
            assert_eq!(breaker.batch_done(at(11), Some(Fault::OfAnybody)), BreakerChange::None);
            assert_eq!(breaker.rebuild_failed(at(11)), BreakerChange::None);
        }
        assert!(!breaker.admits(at(12), 0));
        assert!(breaker.admits(at(13), 0));
        for _ in 0..9 {
            breaker.let_in(at(13));
        }
        assert!(breaker.admits(at(43), 0) && !breaker.admits(at(42), 0), "never more than 30 s");
        assert_eq!(breaker.batch_done(at(43), None), BreakerChange::Up);
        assert!(breaker.admits(at(43), 100));
    }

    #[test]
    fn the_first_rebuild_is_at_once_and_those_that_change_nothing_are_not() {
        let mut pace = RebuildPace::default();
        let waits: Vec<_> = (0..4).map(|_| pace.next_wait().as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4]);
        pace.computed();
        assert_eq!(pace.next_wait(), Duration::ZERO);
    }
}
