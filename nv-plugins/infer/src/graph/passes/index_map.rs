//! Turns rearrangements that take several nodes into one [`IndexMap`]: channel shuffle (Reshape, Transpose, Reshape), focus
//! (strided slices of a picture, put together as channels), DepthToSpace and SpaceToDepth.

use crate::graph::fold::fixed_shape;
use crate::graph::ir::{Graph, Links, ValueId};
use crate::graph::op::{IndexMap, Op};
use crate::graph::shapes::permutation;
use crate::graph::size::Size;

pub(super) fn run(graph: &mut Graph) -> usize {
    let links = graph.links();
    let mut found = 0;
    for index in 0..graph.nodes.len() {
        let map =
            shuffle(graph, &links, index).or_else(|| focus(graph, &links, index)).or_else(|| blocks(graph, index));
        if let Some((input, map)) = map {
            let node = &mut graph.nodes[index];
            node.op = Op::IndexMap(map);
            node.inputs = vec![Some(input)];
            found += 1;
        }
    }
    found
}

/// Reshape, Transpose, Reshape; the last one is at `index`.
fn shuffle(graph: &Graph, links: &Links, index: usize) -> Option<(ValueId, IndexMap)> {
    let alone = |id: ValueId| links.producer(id).filter(|_| links.users(id).len() == 1);
    let last = &graph.nodes[index];
    let transposed = last.input(0).filter(|_| is_view(&last.op))?;
    let transpose = &graph.nodes[alone(transposed)?];
    let Op::Transpose { perm } = &transpose.op else { return None };
    let split = transpose.input(0)?;
    let first = &graph.nodes[alone(split)?];
    let input = first.input(0).filter(|_| is_view(&first.op))?;
    let split = graph.shape(split)?.to_vec();
    let perm = permutation(perm.as_deref(), split.len()).ok()?;
    graph.shape(last.outputs[0])?;
    Some((input, IndexMap { split, perm }))
}

fn is_view(op: &Op) -> bool {
    matches!(op, Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze)
}

/// A Concat of channels of slices of one picture: of every `b`-th row and column, once from each beginning.
fn focus(graph: &Graph, links: &Links, index: usize) -> Option<(ValueId, IndexMap)> {
    let node = &graph.nodes[index];
    let out = graph.shape(node.outputs[0])?;
    let Op::Concat { axis: 1 | -3 } = node.op else { return None };
    let mut begins = Vec::new();
    let mut source: Option<(ValueId, i64)> = None;
    for part in &node.inputs {
        let mut cut = Cut { from: [(0, 1), (0, 1)], of: (*part)? };
        // One slice of rows and one of columns, or both in one.
        for _ in 0..2 {
            if let Some(slice) = links.producer(cut.of).filter(|&p| matches!(graph.nodes[p].op, Op::Slice)) {
                cut = cut.through(graph, slice)?;
            }
        }
        let [(row, step), (column, column_step)] = cut.from;
        if step != column_step || source.is_some_and(|known| known != (cut.of, step)) {
            return None;
        }
        source = Some((cut.of, step));
        begins.push((row, column));
    }
    let (picture, block) = source.filter(|(_, block)| *block > 1)?;
    let shape = graph.shape(picture)?;
    let [n, c, h, w] = shape else { return None };
    let size = Size::fixed(block);
    // Without a remainder every part has the same rows and columns.
    let (rows, columns) = (h.divided_evenly(&size)?, w.divided_evenly(&size)?);
    let all = |f: fn(i64, i64) -> (i64, i64)| {
        let wanted = (0..block).flat_map(|a| (0..block).map(move |b| f(a, b)));
        i64::try_from(begins.len()).ok() == block.checked_mul(block) && begins.iter().copied().eq(wanted)
    };
    // Where the inner of the two offsets that the parts run through lies: axis 3 is the row's, 5 the column's.
    let (outer, inner) = if all(|a, b| (b, a)) {
        (5, 3)
    } else if all(|a, b| (a, b)) {
        (3, 5)
    } else {
        return None;
    };
    let split = vec![n.clone(), c.clone(), rows.clone(), size.clone(), columns.clone(), size];
    let kept = matches!(out, [batch, _, height, width] if batch == n && *height == rows && *width == columns);
    kept.then_some((picture, IndexMap { split, perm: vec![0, outer, inner, 1, 2, 4] }))
}

/// Where rows and columns of a picture begin and how far apart they are, and the value that they are of.
struct Cut {
    from: [(i64, i64); 2],
    of: ValueId,
}

impl Cut {
    /// Of what the slice is of; `None` for slices of anything but rows and columns, to their end.
    fn through(self, graph: &Graph, slice: usize) -> Option<Self> {
        let node = &graph.nodes[slice];
        let of = node.input(0)?;
        // Looking at values may copy them: only a slice's.
        let few = |place: usize| graph.constant_input(node, place).filter(|list| list.len() <= 4);
        let ints = |place: usize| few(place)?.as_ints().map(|v| v.into_owned());
        let (starts, ends) = (ints(1)?, ints(2)?);
        let axes = if node.input(3).is_some() { ints(3)? } else { (0..starts.len() as i64).collect() };
        let steps = if node.input(4).is_some() { ints(4)? } else { vec![1; starts.len()] };
        let size = fixed_shape(graph.shape(of)?.get(2..4)?)?;
        let mut from = self.from;
        for (i, axis) in axes.iter().enumerate() {
            let place = match axis {
                2 | -2 => 0,
                3 | -1 => 1,
                _ => return None,
            };
            let (start, step) = (*starts.get(i)?, *steps.get(i)?);
            let whole = *ends.get(i)? >= i64::try_from(size[place]).ok()?;
            if !whole || step < 1 || start < 0 {
                return None;
            }
            let (begin, by) = from[place];
            from[place] = (start.checked_add(begin.checked_mul(step)?)?, by.checked_mul(step)?);
        }
        Some(Self { from, of })
    }
}

/// DepthToSpace and SpaceToDepth.
fn blocks(graph: &Graph, index: usize) -> Option<(ValueId, IndexMap)> {
    let node = &graph.nodes[index];
    let input = node.input(0)?;
    let [n, c, h, w] = graph.shape(input)? else { return None };
    let of = |size: &Size, by: i64| size.divided_evenly(&Size::fixed(by));
    let (split, perm) = match node.op {
        Op::SpaceToDepth { block } => {
            let b = Size::fixed(block);
            (vec![n.clone(), c.clone(), of(h, block)?, b.clone(), of(w, block)?, b], vec![0, 3, 5, 1, 2, 4])
        }
        Op::DepthToSpace { block, column_first } => {
            let b = Size::fixed(block);
            let depth = of(&of(c, block)?, block)?;
            if column_first {
                (vec![n.clone(), depth, b.clone(), b, h.clone(), w.clone()], vec![0, 1, 4, 2, 5, 3])
            } else {
                (vec![n.clone(), b.clone(), b, depth, h.clone(), w.clone()], vec![0, 3, 4, 1, 5, 2])
            }
        }
        _ => return None,
    };
    Some((input, IndexMap { split, perm }))
}
