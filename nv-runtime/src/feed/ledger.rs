use std::collections::{BTreeMap, VecDeque};

use nv_core::{DropReason, MonoTime, Name};
use serde::Serialize;

/// How many of the latest drops a feed remembers one by one; all are counted.
const REMEMBERED_DROPS: usize = 64;

/// The account of a feed's frames: each is received once and ends once, emitted or dropped for a reason.
///
/// Keyed by sequence number. A second end of the same frame is refused, so that a result which comes back after its frame
/// was given up changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    received: u64,
    emitted: u64,
    dropped: BTreeMap<DropReason, u64>,
    lost_upstream: u64,
    /// In ascending order: they come in so, and mostly end so. Where a set would allocate for each, this keeps its memory.
    inside: VecDeque<u64>,
    last_drops: VecDeque<DropRecord>,
}

/// One dropped frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DropRecord {
    /// The frame.
    pub seq: u64,
    /// Why.
    pub reason: DropReason,
    /// The step it was at; `None`: before the first.
    pub step: Option<Name>,
    /// When.
    #[serde(rename = "at_ms")]
    pub at: MonoTime,
}

/// A feed's frames, counted. `received` is always the sum of the others but `lost_upstream`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FrameCounts {
    /// Frames that came in.
    pub received: u64,
    /// Frames that left as outputs.
    pub emitted: u64,
    /// Frames that are neither yet.
    pub inside: u64,
    /// Frames that were dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Frames that the source knows it lost before they came in.
    pub lost_upstream: u64,
}

impl FrameCounts {
    /// Frames dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether every received frame is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.received == self.emitted + self.dropped_total() + self.inside
    }
}

impl Ledger {
    /// Takes in the next frame and returns its sequence number.
    pub(crate) fn receive(&mut self) -> u64 {
        let seq = self.received;
        self.received += 1;
        self.inside.push_back(seq);
        seq
    }

    /// Counts frames that were lost before they came in.
    pub(crate) fn lost_upstream(&mut self, count: u64) {
        self.lost_upstream = self.lost_upstream.saturating_add(count);
    }

    /// Ends a frame as emitted. False if it has ended before.
    pub(crate) fn emit(&mut self, seq: u64) -> bool {
        let ended = self.end(seq);
        self.emitted += u64::from(ended);
        ended
    }

    /// Ends a frame as dropped. False if it has ended before.
    pub(crate) fn drop(&mut self, seq: u64, reason: DropReason, step: Option<Name>, at: MonoTime) -> bool {
        let ended = self.end(seq);
        if ended {
            *self.dropped.entry(reason).or_default() += 1;
            if self.last_drops.len() == REMEMBERED_DROPS {
                self.last_drops.pop_front();
            }
            self.last_drops.push_back(DropRecord { seq, reason, step, at });
        }
        ended
    }

    /// Ends every frame that is inside as dropped.
    pub(crate) fn drop_all(&mut self, reason: DropReason, at: MonoTime) {
        self.drop_before(u64::MAX, reason, at);
    }

    /// Ends every frame that is inside and came before `seq` as dropped.
    pub(crate) fn drop_before(&mut self, seq: u64, reason: DropReason, at: MonoTime) {
        while let Some(&first) = self.inside.front()
            && first < seq
        {
            self.drop(first, reason, None, at);
        }
    }

    /// Takes a frame out of those inside. False if it is not among them.
    fn end(&mut self, seq: u64) -> bool {
        self.inside.binary_search(&seq).is_ok_and(|place| self.inside.remove(place).is_some())
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        FrameCounts {
            received: self.received,
            emitted: self.emitted,
            inside: self.inside.len() as u64,
            dropped: self.dropped.clone(),
            lost_upstream: self.lost_upstream,
        }
    }

    pub(crate) fn last_drops(&self) -> impl Iterator<Item = &DropRecord> {
        self.last_drops.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_ends_once() {
        let mut ledger = Ledger::default();
        let seq = ledger.receive();
        assert!(ledger.drop(seq, DropReason::Timeout, Some("detect".into()), MonoTime::ZERO));
        assert!(!ledger.emit(seq), "the late result changes nothing");
        assert!(!ledger.drop(seq, DropReason::Shutdown, None, MonoTime::ZERO));
        assert!(!ledger.emit(99), "a frame that was never received can't end");
        let counts = ledger.counts();
        assert_eq!((counts.received, counts.emitted, counts.inside, counts.dropped_total()), (1, 0, 0, 1));
        assert_eq!(ledger.last_drops().next().unwrap().step.as_deref(), Some("detect"));
    }

    #[test]
    fn all_that_are_inside_end_at_once() {
        let mut ledger = Ledger::default();
        for _ in 0..3 {
            ledger.receive();
        }
        ledger.emit(1);
        ledger.drop_before(1, DropReason::FeedRestarted, MonoTime::ZERO);
        assert_eq!((ledger.counts().inside, ledger.counts().dropped_total()), (1, 1));
        ledger.drop_all(DropReason::FeedStopped, MonoTime::ZERO);
        let counts = ledger.counts();
        assert_eq!((counts.emitted, counts.inside, counts.dropped_total()), (1, 0, 2));
        assert!(counts.is_balanced());
    }

    proptest! {
        #[test]
        fn balances_after_every_event(events in prop::collection::vec((0u8..3, 0u64..40), 0..200)) {
            let mut ledger = Ledger::default();
            for (what, seq) in events {
                match what {
                    0 => { ledger.receive(); }
                    1 => { ledger.emit(seq); }
                    _ => { ledger.drop(seq, DropReason::Expired, None, MonoTime::ZERO); }
                }
                prop_assert!(ledger.counts().is_balanced());
            }
            prop_assert!(ledger.last_drops().count() <= REMEMBERED_DROPS);
        }
    }
}
