//! Where the values of a graph lie in memory while it runs: those that are never needed at the same time share.

use std::collections::{BTreeMap, HashMap};

use super::ir::{Graph, User, ValueId};

/// Values begin at multiples of this: what GPUs ask of a binding's offset.
const ALIGNMENT: u64 = 256;

/// How many pairs of values are compared at most. Planning takes time that grows with the square of their number; beyond some
/// twenty thousand the rest lies end to end.
const MAX_COMPARED: usize = 300_000_000;

/// A plan for one choice of the open sizes.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryPlan {
    pub(crate) buffers: Vec<Buffer>,
}

/// A stretch of memory that values share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    /// In bytes.
    pub(crate) size: u64,
    /// What lies in it, in the order of offsets; not the values that are part of another.
    pub(crate) slots: Vec<Slot>,
}

/// Where a value lies, and from when to when.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) value: ValueId,
    pub(crate) offset: u64,
    /// Bytes, rounded up to the alignment.
    pub(crate) size: u64,
    /// The node that first writes it, counted from 1; 0 for an input.
    pub(crate) first: usize,
    /// The node that last reads it.
    pub(crate) last: usize,
}

impl MemoryPlan {
    /// What all buffers take together.
    pub(crate) fn total(&self) -> u64 {
        self.buffers.iter().fold(0, |sum, buffer| sum.saturating_add(buffer.size))
    }

    /// What the values would take if each had a buffer of its own.
    pub(crate) fn without_reuse(&self) -> u64 {
        self.buffers.iter().flat_map(|b| &b.slots).fold(0, |sum, slot| sum.saturating_add(slot.size))
    }
}

/// Plans the memory of a graph whose open sizes have these values, in buffers of at most `limit` bytes.
///
/// Greedy by size: the largest values are placed first, each into the smallest gap between those that live at the same time
/// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, §5.2). The error names a value
/// whose size is not known or that is larger than a buffer may be.
pub(crate) fn plan(graph: &Graph, sizes: &BTreeMap<String, i64>, limit: u64) -> Result<MemoryPlan, String> {
    let slots = lives(graph, sizes)?;
    if let Some(slot) = slots.iter().find(|slot| slot.size > limit) {
        let value = graph.value(slot.value).text();
        return Err(format!("{value} takes {} bytes, a buffer has at most {limit}", slot.size));
    }
    Ok(placed(slots, limit, MAX_COMPARED))
}

/// Places values, none of which is larger than `limit`. Those that come after `comparisons` pairs have been compared lie end to
/// end.
fn placed(mut slots: Vec<Slot>, limit: u64, comparisons: usize) -> MemoryPlan {
    slots.sort_by(|a, b| b.size.cmp(&a.size).then(a.first.cmp(&b.first)));
    let mut plan = MemoryPlan::default();
    let mut compared: usize = 0;
    for (done, mut slot) in slots.into_iter().enumerate() {
        compared = compared.saturating_add(done);
        let place = if compared <= comparisons {
            let places = plan.buffers.iter().enumerate().filter_map(|(index, buffer)| {
                let (offset, slack) = buffer.gap(&slot, limit)?;
                let grown = (offset + slot.size).saturating_sub(buffer.size);
                Some((grown, slack, index, offset))
            });
            places.min()
        } else {
            // At the end of the newest buffer.
            let last = plan.buffers.len().checked_sub(1);
            last.map(|index| (0, 0, index, plan.buffers[index].size)).filter(|(.., end)| slot.size <= limit - end)
        };
        if place.is_none() {
            plan.buffers.push(Buffer::default());
        }
        let (index, offset) = place.map_or((plan.buffers.len() - 1, 0), |(_, _, index, offset)| (index, offset));
        slot.offset = offset;
        let buffer = &mut plan.buffers[index];
        buffer.size = buffer.size.max(offset + slot.size);
        let place = buffer.slots.partition_point(|other| other.offset <= offset);
        buffer.slots.insert(place, slot);
    }
    plan
}

impl Buffer {
    /// The smallest gap that the slot fits into while it lives: its offset, and what would be left of it.
    fn gap(&self, slot: &Slot, limit: u64) -> Option<(u64, u64)> {
        let alive = |s: &&Slot| s.first <= slot.last && slot.first <= s.last;
        let taken = self.slots.iter().filter(alive).map(|s| (s.offset, s.offset + s.size));
        let mut best: Option<(u64, u64)> = None;
        let mut free_from = 0;
        for (begin, end) in taken {
            let fits = begin.checked_sub(free_from).and_then(|room| room.checked_sub(slot.size));
            if let Some(slack) = fits.filter(|slack| best.is_none_or(|(_, least)| *slack < least)) {
                best = Some((free_from, slack));
            }
            free_from = free_from.max(end);
        }
        let room = limit.checked_sub(free_from).and_then(|room| room.checked_sub(slot.size));
        best.or(room.map(|_| (free_from, u64::MAX)))
    }
}

/// The values that need memory, with their sizes and the times at which they are needed.
fn lives(graph: &Graph, sizes: &BTreeMap<String, i64>) -> Result<Vec<Slot>, String> {
    let (links, wholes) = (graph.links(), outermost(graph));
    let end = graph.nodes.len() + 1;
    let computed = graph.nodes.iter().enumerate().flat_map(|(i, node)| node.outputs.iter().map(move |&id| (id, i + 1)));
    let all = graph.inputs.iter().map(|&id| (id, 0)).chain(computed);
    let mut slots: Vec<Slot> = Vec::new();
    let mut known: HashMap<ValueId, usize> = HashMap::new();
    for (id, first) in all.filter(|(id, _)| graph.constant(*id).is_none()) {
        let users = links.users(id).iter().map(|user| match user {
            User::Node(index) => index + 1,
            User::Output => end,
        });
        let last = users.max().unwrap_or(first);
        // A part lives in the whole, and the whole as long as any part.
        let whole = *wholes.get(&id).unwrap_or(&id);
        if let Some(&slot) = known.get(&whole) {
            let slot = &mut slots[slot];
            (slot.first, slot.last) = (slot.first.min(first), slot.last.max(last));
            continue;
        }
        let value = graph.value(whole);
        let bytes = value.bytes().and_then(|bytes| u64::try_from(bytes.at(sizes)?).ok());
        let size = bytes.and_then(|bytes| bytes.checked_next_multiple_of(ALIGNMENT));
        let size = size.ok_or_else(|| format!("the size of {} is not known or beyond counting", value.text()))?;
        known.insert(whole, slots.len());
        slots.push(Slot { value: whole, offset: 0, size, first, last });
    }
    Ok(slots)
}

/// Of each value that is a part of another: the outermost one, of which nothing else is the whole.
fn outermost(graph: &Graph) -> HashMap<ValueId, ValueId> {
    let mut whole: HashMap<ValueId, ValueId> = HashMap::new();
    // Wholes are computed after their parts.
    for &id in graph.nodes.iter().rev().flat_map(|node| &node.outputs) {
        if let Some(placement) = &graph.value(id).placement {
            whole.insert(id, *whole.get(&placement.into).unwrap_or(&placement.into));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ElementType;
    use crate::graph::ir::{Node, Placement};
    use crate::graph::op::{Op, Unary};
    use crate::graph::size::Size;

    /// A graph of values with these sizes in kilobytes; node `i` computes value `i` from those named.
    fn graph(nodes: &[(u16, Vec<usize>)]) -> Graph {
        let mut graph = Graph::default();
        let mut values = Vec::new();
        for (i, (size, from)) in nodes.iter().enumerate() {
            let id = graph.add(format!("v{i}"));
            let value = graph.value_mut(id);
            value.element = ElementType::Float;
            value.shape = Some(vec![Size::symbol("N"), Size::fixed(i64::from(*size) * 256)]);
            let inputs: Vec<_> = from.iter().filter(|f| **f < i).map(|&f| Some(values[f])).collect();
            values.push(id);
            if inputs.is_empty() {
                graph.inputs.push(id);
            } else {
                graph.nodes.push(Node { name: String::new(), op: Op::Unary(Unary::Relu), inputs, outputs: vec![id] });
            }
        }
        graph.outputs.push(("y".into(), values[values.len() - 1]));
        graph
    }

    fn one() -> BTreeMap<String, i64> {
        BTreeMap::from([("N".to_owned(), 1)])
    }

    #[test]
    fn a_chain_takes_what_its_two_largest_neighbours_take() {
        let chain = [(1, vec![]), (4, vec![0]), (2, vec![1]), (3, vec![2]), (1, vec![3])];
        let plan = plan(&graph(&chain), &one(), 1 << 20).unwrap();
        assert_eq!((plan.total(), plan.without_reuse()), (6 << 10, 11 << 10));
        assert_eq!(plan.buffers.len(), 1);
    }

    #[test]
    fn buffers_stay_within_the_limit_and_what_is_larger_is_named() {
        let fan = [(3, vec![]), (3, vec![0]), (3, vec![0]), (3, vec![1, 2])];
        let plan = |limit| plan(&graph(&fan), &one(), limit);
        assert_eq!(plan(1 << 20).unwrap().buffers.len(), 1);
        let split = plan(4 << 10).unwrap();
        assert!(split.buffers.iter().all(|b| b.size <= 4 << 10) && split.buffers.len() == 3, "{split:?}");
        assert!(plan(1 << 10).unwrap_err().contains("v0 float N×768 takes 3072 bytes, a buffer has at most 1024"));
        let unknown = super::plan(&graph(&fan), &BTreeMap::new(), 1 << 20).unwrap_err();
        assert!(unknown.contains("the size of v0 float N×768 is not known"), "{unknown}");
    }

    #[test]
    fn a_part_lives_in_its_whole() {
        let mut graph = graph(&[(1, vec![]), (2, vec![0]), (1, vec![0]), (3, vec![1, 2])]);
        let [a, b, whole] = [0, 1, 2].map(|i| graph.nodes[i].outputs[0]);
        graph.value_mut(a).placement = Some(Placement { into: whole, axis: 1, offset: 0.into() });
        graph.value_mut(b).placement = Some(Placement { into: whole, axis: 1, offset: 512.into() });
        let plan = plan(&graph, &one(), 1 << 20).unwrap();
        // The input and the whole, from the first part on.
        assert_eq!(plan.total(), 4 << 10);
        let slots: Vec<_> = plan.buffers[0].slots.iter().map(|s| (s.value, s.first, s.last)).collect();
        assert_eq!(slots, [(whole, 1, 4), (graph.inputs[0], 0, 2)]);
    }

    proptest! {
        #[test]
        fn no_two_living_values_overlap(
            nodes in prop::collection::vec((1u16..40, prop::collection::vec(0usize..40, 0..4)), 1..40),
            limit in 40u64..120,
            comparisons in prop_oneof![Just(0usize), 1usize..200, Just(MAX_COMPARED)],
        ) {
            let plan = placed(lives(&graph(&nodes), &one()).unwrap(), limit << 10, comparisons);
            for buffer in &plan.buffers {
                prop_assert!(buffer.size <= limit << 10);
                prop_assert!(buffer.slots.is_sorted_by_key(|slot| slot.offset));
                for (i, a) in buffer.slots.iter().enumerate() {
                    prop_assert!(a.offset + a.size <= buffer.size);
                    for b in &buffer.slots[i + 1..] {
                        let together = a.first <= b.last && b.first <= a.last;
                        let overlap = a.offset < b.offset + b.size && b.offset < a.offset + a.size;
                        prop_assert!(!(together && overlap), "{a:?} {b:?}");
                    }
                }
            }
            prop_assert!(plan.total() <= plan.without_reuse());
        }
    }
}
