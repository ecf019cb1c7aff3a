//! Where arrays lie while a plan runs: those that are never needed at the same time share memory.

use super::{ArrayId, Kind};

/// Arrays begin at multiples of so many elements: 256 bytes, what GPUs ask of a binding's offset.
const ALIGNMENT: usize = 64;

/// How many pairs of arrays are compared at most. Placing takes time that grows with the square of their number; beyond some
/// twenty thousand the rest lies end to end.
const MAX_COMPARED: usize = 300_000_000;

/// Buffers, and which array lies where. All lengths are in elements, for one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryPlan {
    pub(crate) buffers: Vec<Buffer>,
}

/// A stretch of memory that arrays of one kind share.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) kind: Kind,
    pub(crate) len: usize,
    /// In the order of offsets.
    pub(crate) slots: Vec<Slot>,
}

/// Where an array lies in its buffer, and from when to when.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) array: ArrayId,
    pub(crate) kind: Kind,
    /// A multiple of the alignment.
    pub(crate) offset: usize,
    /// Rounded up to the alignment; at least that.
    pub(crate) len: usize,
    /// The step that first writes it, counted from 1; 0 for an input.
    pub(crate) first: usize,
    /// The step that last reads it; one more than there are steps for an output.
    pub(crate) last: usize,
}

impl Slot {
    /// An array of `len` elements that is not placed yet; `None` where the length can't be counted.
    pub(crate) fn new(array: ArrayId, kind: Kind, len: usize, first: usize, last: usize) -> Option<Self> {
        let len = len.max(1).checked_next_multiple_of(ALIGNMENT)?;
        Some(Self { array, kind, offset: 0, len, first, last })
    }
}

impl MemoryPlan {
    /// Places the slots in buffers of at most `limit` elements.
    ///
    /// Greedy by size: the largest are placed first, each into the smallest gap between those that live at the same time
    /// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, §5.2).
    ///
    /// # Errors
    /// The first slot that is longer than a buffer may be.
    pub(crate) fn pack(slots: Vec<Slot>, limit: usize) -> Result<Self, Slot> {
        if let Some(long) = slots.iter().find(|slot| slot.len > limit) {
            return Err(long.clone());
        }
        Ok(Self::placed(slots, limit, MAX_COMPARED))
    }

    /// Places slots, none of which is longer than `limit`. Those that come after `comparisons` pairs have been compared lie end
    /// to end.
    fn placed(mut slots: Vec<Slot>, limit: usize, comparisons: usize) -> Self {
        slots.sort_by(|a, b| b.len.cmp(&a.len).then(a.first.cmp(&b.first)));
        let mut plan = Self::default();
        let mut compared: usize = 0;
        for (done, mut slot) in slots.into_iter().enumerate() {
            compared = compared.saturating_add(done);
            let mut buffers = plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.kind == slot.kind);
            let place = if compared <= comparisons {
                let places = buffers.filter_map(|(index, buffer)| {
                    let (offset, slack) = buffer.gap(&slot, limit)?;
                    let grown = (offset + slot.len).saturating_sub(buffer.len);
                    Some((grown, slack, index, offset))
                });
                places.min().map(|(_, _, index, offset)| (index, offset))
            } else {
                // At the end of the newest buffer.
                buffers
                    .next_back()
                    .map(|(index, buffer)| (index, buffer.len))
                    .filter(|(_, end)| slot.len <= limit - end)
            };
            let (index, offset) = place.unwrap_or_else(|| {
                plan.buffers.push(Buffer { kind: slot.kind, len: 0, slots: Vec::new() });
                (plan.buffers.len() - 1, 0)
            });
            slot.offset = offset;
            let buffer = &mut plan.buffers[index];
            buffer.len = buffer.len.max(offset + slot.len);
            let place = buffer.slots.partition_point(|other| other.offset <= offset);
            buffer.slots.insert(place, slot);
        }
        plan
    }

    /// Buffer and offset of every array, by its place in the plan; `None` for constants.
    pub(crate) fn places(&self, arrays: usize) -> Vec<Option<(usize, usize)>> {
        let mut places = vec![None; arrays];
        for (index, buffer) in self.buffers.iter().enumerate() {
            for slot in &buffer.slots {
                places[slot.array.index()] = Some((index, slot.offset));
            }
        }
        places
    }

    /// What all buffers take together, in elements.
    pub(crate) fn total(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.len).sum()
    }

    /// What the arrays would take if each had memory of its own, in elements.
    pub(crate) fn without_reuse(&self) -> usize {
        self.buffers.iter().flat_map(|b| &b.slots).map(|slot| slot.len).sum()
    }
}

impl Buffer {
    /// The smallest gap that the slot fits into while it lives: its offset, and what would be left of it.
    fn gap(&self, slot: &Slot, limit: usize) -> Option<(usize, usize)> {
        let alive = |s: &&Slot| s.first <= slot.last && slot.first <= s.last;
        let taken = self.slots.iter().filter(alive).map(|s| (s.offset, s.offset + s.len));
        let mut best: Option<(usize, usize)> = None;
        let mut free_from = 0;
        for (begin, end) in taken {
            let fits = begin.checked_sub(free_from).and_then(|room| room.checked_sub(slot.len));
            if let Some(slack) = fits.filter(|slack| best.is_none_or(|(_, least)| *slack < least)) {
                best = Some((free_from, slack));
            }
            free_from = free_from.max(end);
        }
        let room = limit.checked_sub(free_from).and_then(|room| room.checked_sub(slot.len));
        best.or(room.map(|_| (free_from, usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Slots of these lengths in alignments, alive from and to these steps.
    fn slots(lives: &[(usize, usize, usize)]) -> Vec<Slot> {
        let slot = |(i, &(len, first, last)): (usize, &(usize, usize, usize))| {
            Slot::new(ArrayId(i as u32), Kind::Float, len * ALIGNMENT, first, last).expect("small")
        };
        lives.iter().enumerate().map(slot).collect()
    }

    #[test]
    fn a_chain_takes_what_its_two_largest_neighbours_take() {
        let chain = [(1, 0, 1), (4, 1, 2), (2, 2, 3), (3, 3, 4), (1, 4, 5)];
        let plan = MemoryPlan::pack(slots(&chain), usize::MAX).unwrap();
        assert_eq!((plan.total(), plan.without_reuse()), (6 * ALIGNMENT, 11 * ALIGNMENT));
        assert_eq!(plan.buffers.len(), 1);
    }

    #[test]
    fn buffers_stay_within_the_limit_and_hold_one_kind() {
        let mut fan = slots(&[(3, 0, 2), (3, 1, 3), (3, 2, 3), (3, 3, 4)]);
        assert_eq!(MemoryPlan::pack(fan.clone(), usize::MAX).unwrap().buffers.len(), 1);
        let split = MemoryPlan::pack(fan.clone(), 4 * ALIGNMENT).unwrap();
        assert!(split.buffers.iter().all(|b| b.len <= 4 * ALIGNMENT) && split.buffers.len() == 3, "{split:?}");
        assert_eq!(MemoryPlan::pack(fan.clone(), ALIGNMENT).unwrap_err().array, ArrayId(0));
        fan[3].kind = Kind::Int;
        let kinds = MemoryPlan::pack(fan, usize::MAX).unwrap();
        assert_eq!(kinds.buffers.len(), 2);
        assert_eq!(kinds.places(5)[3], Some((1, 0)));
        assert_eq!(kinds.places(5)[4], None);
    }

    proptest! {
        #[test]
        fn no_two_living_arrays_overlap(
            lives in prop::collection::vec((1usize..40, 0usize..40, 0usize..10), 1..60), limit in 40usize..120,
            comparisons in prop_oneof![Just(0usize), 1usize..200, Just(MAX_COMPARED)],
        ) {
            let lives: Vec<_> = lives.into_iter().map(|(len, first, more)| (len, first, first + more)).collect();
            let plan = MemoryPlan::placed(slots(&lives), limit * ALIGNMENT, comparisons);
            for buffer in &plan.buffers {
                prop_assert!(buffer.len <= limit * ALIGNMENT && buffer.slots.is_sorted_by_key(|slot| slot.offset));
                for (i, a) in buffer.slots.iter().enumerate() {
                    prop_assert!(a.offset + a.len <= buffer.len && a.offset % ALIGNMENT == 0);
                    for b in &buffer.slots[i + 1..] {
                        let together = a.first <= b.last && b.first <= a.last;
                        let overlap = a.offset < b.offset + b.len && b.offset < a.offset + a.len;
                        prop_assert!(!(together && overlap), "{a:?} {b:?}");
                    }
                }
            }
            prop_assert_eq!(plan.places(lives.len()).iter().flatten().count(), lives.len());
        }
    }
}
