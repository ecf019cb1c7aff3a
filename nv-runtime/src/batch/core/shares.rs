use super::{LaneRole, PointCore};
use crate::batch::LaneKey;

/// A lane that gets less than its weight when all lanes are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unhonoured {
    pub(crate) lane: LaneKey,
    pub(crate) weight: u32,
    /// Its share of a full batch, rounded up.
    pub(crate) share: usize,
    /// The frames that it may have here at a time, which are less.
    pub(crate) slots: usize,
}

impl<T> PointCore<T> {
    /// Lanes whose share of a full batch has come to be more than they have slots for, each once until that is over: as lanes
    /// come, the others' shares change. It decides nothing.
    pub(crate) fn newly_unhonoured(&mut self) -> Vec<Unhonoured> {
        let (former, max_batch) = (&self.former, self.former.max_batch());
        // The direct API's lane is there whether it is used or not.
        let feeds = self.lanes.iter().flatten().filter(|lane| lane.role != LaneRole::Direct);
        let total = feeds.map(|lane| u64::from(former.weight(lane.key))).sum();
        let mut found = Vec::new();
        for attached in self.lanes.iter_mut().flatten().filter(|lane| lane.role != LaneRole::Direct) {
            let lane = attached.key;
            let (weight, slots) = (former.weight(lane), former.slots(lane));
            let share = unhonoured_share(weight, total, max_batch, slots);
            if let Some(share) = share.filter(|_| !attached.told) {
                found.push(Unhonoured { lane, weight, share, slots });
            }
            attached.told = share.is_some();
        }
        found
    }
}

/// The share of a batch that a lane of `weight` has, rounded up, where it is more than its `slots`. A lane that is alone, or
/// that asks for no more than any other, is not meant.
pub(super) fn unhonoured_share(weight: u32, total_weight: u64, max_batch: usize, slots: usize) -> Option<usize> {
    if weight <= 1 || u64::from(weight) == total_weight {
        return None;
    }
    let share = (u64::from(weight) * max_batch as u64).div_ceil(total_weight.max(1)) as usize;
    (share > slots).then_some(share)
}
