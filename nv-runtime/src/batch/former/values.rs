use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

use crate::batch::standing::StandingChange;
use crate::decisions::nanos;

/// Names a lane. A lane that was detached leaves a key that fits no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct LaneKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

#[cfg(test)]
impl LaneKey {
    /// A key for tests of what only compares keys.
    pub(crate) fn numbered(index: u32) -> Self {
        Self { index, generation: 0 }
    }
}

impl LaneKey {
    /// The lane's place: small, and used again once the lane is gone.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// Names an entry, from submission until its slot is freed. Afterwards it fits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct EntryKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

#[cfg(test)]
impl EntryKey {
    /// A key for tests of what only compares keys.
    pub(crate) fn numbered(index: u32) -> Self {
        Self { index, generation: 0 }
    }
}

/// The part of the config that decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormerConfig {
    pub(crate) max_batch: usize,
    pub(crate) max_latency: Duration,
    pub(crate) max_age: Duration,
    pub(crate) max_pending: usize,
}

/// Who a lane belongs to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LaneSpec {
    /// Whether entries grow too old to be computed, and lanes are waited for by their cadence.
    pub(crate) live: bool,
    /// Frames that it may have here at a time.
    pub(crate) slots: usize,
    /// Its share beside other lanes.
    pub(crate) weight: u32,
}

/// Why a submission was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// The lane has no free slot.
    NoSlot,
    /// The point holds `max_pending` parts, and the lane has something here already: its end is what to wait for.
    Full,
    /// The lane is gone.
    NoLane,
    /// The point is down.
    Down,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryState {
    /// It waits its turn, all of it or what is left.
    Waiting,
    /// It is being computed; the latest of its parts since then.
    Dispatched(#[serde(with = "nanos")] MonoTime),
    /// It waits, and is too old to be computed.
    TooOld,
    /// It is not here: it was answered, or will never be.
    Gone,
}

/// What an idle instance should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// Take a batch now.
    Dispatch,
    /// Look again at this time, or when something was submitted.
    WaitUntil(#[serde(with = "nanos")] MonoTime),
    /// Nothing waits. Look again when something was submitted.
    Idle,
}

/// A part that is there to be computed.
#[derive(Debug)]
pub(crate) struct BoundPart<T> {
    pub(crate) payload: T,
    /// When its frame was received.
    pub(crate) received: MonoTime,
    /// Only parts of equal key share a batch.
    pub(crate) batch_key: u64,
}

/// A part that leaves the former, to be computed.
#[derive(Debug, Serialize)]
#[serde(bound = "")]
pub(crate) struct Taken<T> {
    pub(crate) key: EntryKey,
    /// Which part of the entry it is.
    pub(crate) part: u32,
    #[serde(skip)]
    pub(crate) payload: T,
    /// From submission to now.
    #[serde(with = "nanos")]
    pub(crate) wait: Duration,
}

/// What came of a part that was computed, or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// Whether its result is still wanted: its entry has not been given up.
    pub(crate) wanted: bool,
    /// What it changed for its lane.
    pub(crate) standing: Option<(LaneKey, StandingChange)>,
}
