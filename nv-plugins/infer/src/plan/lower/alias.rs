//! Operators whose result is another view of their input.

use super::elementwise::Operand;
use super::{Function, Lowering, Pictures, Result, View, volume};
use crate::graph::fold::fixed_shape;
use crate::graph::ir::{Node, ValueId};
use crate::graph::op::{IndexMap, Op};
use crate::graph::shapes::{axis_of, bounds, permutation};
use crate::plan::view::row_major;

/// What becomes of a view.
pub(super) enum Rearranged {
    /// The result is a view of the same memory.
    View(View),
    /// The result is a row-major copy of this view of these dimensions, seen in the result's shape.
    Copy { dims: Vec<usize>, from: View },
}

/// Whether the operator may be a view of its first input; Gather is one where it picks a single element of a dimension.
pub(super) fn is_alias(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape { .. }
            | Op::Flatten { .. }
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::Identity
            | Op::Dropout
            | Op::Transpose { .. }
            | Op::Slice
            | Op::Split { .. }
            | Op::Expand
            | Op::IndexMap(_)
    )
}

/// What the node makes of a view of its first input, for its output `id`.
pub(super) fn rearrange(
    lowering: &Lowering<'_>,
    node: &Node,
    id: ValueId,
    from: &View,
    dims_in: &[usize],
) -> Result<Rearranged> {
    let dims = lowering.dims(id)?;
    let view = match &node.op {
        Op::Transpose { perm } => {
            let perm = permutation(perm.as_deref(), dims_in.len())?;
            View { strides: perm.iter().map(|&axis| from.strides[axis]).collect(), ..from.clone() }
        }
        Op::Slice => slice(lowering, node, from, dims_in)?,
        Op::Split { axis } => {
            let axis = axis_of(*axis, dims_in.len())?;
            let first = lowering.part_at(lowering.input(node, 0)?, id)?;
            moved(from, axis, first as isize)
        }
        Op::Expand => broadcast(from, dims_in, &dims)?,
        Op::Gather { axis } => {
            let axis = axis_of(*axis, dims_in.len())?;
            let index = *lowering.constant_ints(node, 1)?.first().ok_or("it has no index")?;
            let index = if index < 0 { index.saturating_add(dims_in[axis] as i64) } else { index };
            if !(0..dims_in[axis] as i64).contains(&index) {
                return Err(format!("the index {index} of {}", dims_in[axis]).into());
            }
            let mut picked = moved(from, axis, index as isize);
            picked.strides.remove(axis);
            let rest = [&dims_in[..axis], &dims_in[axis + 1..]].concat();
            return reshaped(picked, &rest, &dims);
        }
        Op::IndexMap(map) => return index_map(map, from, dims_in, &dims),
        _ => return reshaped(from.clone(), dims_in, &dims),
    };
    Ok(Rearranged::View(view))
}

/// A view of `dims` in the shape `to`, of as many elements.
fn reshaped(view: View, dims: &[usize], to: &[usize]) -> Result<Rearranged> {
    if volume(dims)? != volume(to)? {
        return Err(format!("{dims:?} does not become {to:?}").into());
    }
    Ok(match reshape(&view, dims, to) {
        Some(view) => Rearranged::View(view),
        None => Rearranged::Copy { dims: dims.to_vec(), from: view },
    })
}

/// The view in another shape, where strides can express it.
///
/// Dimensions of both shapes are matched in groups of equal volume, from the outermost on; a group can be seen otherwise where
/// its dimensions lie one in another without gaps (as numpy's `reshape` finds out whether it must copy).
pub(super) fn reshape(view: &View, dims: &[usize], to: &[usize]) -> Option<View> {
    if to.contains(&0) || view.is_contiguous(dims) {
        return Some(View { strides: row_major(to), ..view.clone() });
    }
    let kept = dims.iter().zip(&view.strides).filter(|(dim, _)| **dim != 1);
    let (old, strides): (Vec<usize>, Vec<isize>) = kept.map(|(&d, &s)| (d, s)).unzip();
    let mut new_strides = vec![0; to.len()];
    let (mut i, mut j) = (0, 0);
    while j < to.len() {
        if to[j] == 1 {
            j += 1;
            continue;
        }
        let (first, begin) = (i, j);
        let (mut have, mut want) = (*old.get(i)?, to[j]);
        i += 1;
        j += 1;
        while have != want {
            if have < want {
                have *= *old.get(i)?;
                i += 1;
            } else {
                want *= *to.get(j)?;
                j += 1;
            }
        }
        let nested = (first..i - 1).all(|k| strides[k] == strides[k + 1] * old[k + 1] as isize);
        if !nested {
            return None;
        }
        let mut stride = strides[i - 1];
        for k in (begin..j).rev() {
            new_strides[k] = stride;
            stride *= to[k] as isize;
        }
    }
    Some(View { strides: new_strides, ..view.clone() })
}

/// The view of a shape that the dimensions broadcast to, numpy's way.
pub(super) fn broadcast(view: &View, dims: &[usize], to: &[usize]) -> Result<View> {
    let missing = to.len().checked_sub(dims.len()).ok_or("it has more dimensions than it is spread to")?;
    let mut strides = vec![0; missing];
    for ((&dim, &stride), &wanted) in dims.iter().zip(&view.strides).zip(&to[missing..]) {
        if dim != wanted && dim != 1 {
            return Err(format!("{dims:?} is not spread to {to:?}").into());
        }
        strides.push(if dim == wanted { stride } else { 0 });
    }
    Ok(View { strides, ..view.clone() })
}

/// The view that begins `by` elements later along a dimension.
fn moved(view: &View, axis: usize, by: isize) -> View {
    View { offset: (view.offset as isize + by * view.strides[axis]) as usize, ..view.clone() }
}

fn slice(lowering: &Lowering<'_>, node: &Node, from: &View, dims: &[usize]) -> Result<View> {
    let (starts, ends) = (lowering.constant_ints(node, 1)?, lowering.constant_ints(node, 2)?);
    let axes = match node.input(3) {
        Some(_) => lowering.constant_ints(node, 3)?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match node.input(4) {
        Some(_) => lowering.constant_ints(node, 4)?,
        None => vec![1; starts.len()],
    };
    let mut view = from.clone();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(axis, dims.len())?;
        let (first, _) = bounds(dims[axis] as i64, start, end, step);
        // Of nothing the first element may lie behind the last.
        let first = first.clamp(0, (dims[axis] as i64 - 1).max(0));
        view = moved(&view, axis, first as isize);
        // A step beyond the dimension picks one element.
        view.strides[axis] =
            view.strides[axis].saturating_mul(step.clamp(-(dims[axis] as i64), dims[axis] as i64) as isize);
    }
    Ok(view)
}

fn index_map(map: &IndexMap, from: &View, dims_in: &[usize], dims: &[usize]) -> Result<Rearranged> {
    let split = fixed_shape(&map.split).ok_or("its shape depends on data")?;
    if volume(dims_in)? != volume(&split)? {
        return Err(format!("{dims_in:?} does not become {split:?}").into());
    }
    let Some(seen) = reshape(from, dims_in, &split) else {
        return Err("a rearrangement of what is rearranged already".into());
    };
    let permuted = View { strides: map.perm.iter().map(|&axis| seen.strides[axis]).collect(), ..seen };
    let between: Vec<usize> = map.perm.iter().map(|&axis| split[axis]).collect();
    reshaped(permuted, &between, dims)
}

/// A value of which each channel is a channel of another, the rows and columns in steps.
pub(super) struct ChannelPick {
    pub(super) base: ValueId,
    pub(super) first: usize,
    pub(super) step: usize,
    row: (usize, usize),
    column: (usize, usize),
}

impl ChannelPick {
    /// What is picked of the rows and columns of channels from the first on, which begins a block.
    pub(super) fn seen(&self, from: &Pictures, [channels, height, width]: [usize; 3]) -> Pictures {
        let first = if self.step == 1 && self.first.is_multiple_of(from.first.block) { self.first } else { 0 };
        let mut part = from.part(first, channels);
        let [_, y, x] = part.first.strides;
        part.first.offset += self.row.0 * y + self.column.0 * x;
        part.first.strides[1] *= self.row.1;
        part.first.strides[2] *= self.column.1;
        (part.first.height, part.first.width) = (height, width);
        part
    }
}

impl Lowering<'_> {
    /// Whether the node gives a view of its first input.
    pub(super) fn is_alias_node(&self, node: &Node) -> bool {
        is_alias(&node.op)
            || matches!(node.op, Op::Gather { .. })
                && node.input(1).and_then(|id| self.graph.constant(id)).is_some_and(|c| c.len() == 1)
    }

    /// What the value picks of one that is computed as pictures.
    pub(super) fn channel_pick(&self, id: ValueId) -> Option<ChannelPick> {
        let (base, view) = self.seen_from(id, 0)?;
        let ([images, channels, height, width], [n, from_channels, h, w]) =
            (self.dims4(id).ok()?, self.dims4(base).ok()?);
        if base == id || images != n || !self.prefers.contains(&base) {
            return None;
        }
        let [image, channel, row, column] = self.strides4(&view).map(|s| usize::try_from(s).ok());
        let plane = h * w;
        // A dimension of one has any stride.
        let step = |count: usize, stride: Option<usize>, unit: usize| match (count, stride) {
            (1, _) => Some(1),
            (_, Some(stride)) if stride > 0 && stride.is_multiple_of(unit) => Some(stride / unit),
            _ => None,
        };
        let (channel, row, column) = (step(channels, channel, plane)?, step(height, row, w)?, step(width, column, 1)?);
        let first = (view.offset / plane, view.offset % plane / w, view.offset % w);
        let inside = |first: usize, step: usize, count: usize, of: usize| first + step * (count.max(1) - 1) < of;
        let fits = inside(first.0, channel, channels, from_channels)
            && inside(first.1, row, height, h)
            && inside(first.2, column, width, w)
            && (images == 1 || image == Some(from_channels * plane));
        fits.then_some(ChannelPick {
            base,
            first: first.0,
            step: channel,
            row: (first.1, row),
            column: (first.2, column),
        })
    }

    /// The value that is no view of another, and the view of it, as if it lay row-major.
    fn seen_from(&self, id: ValueId, depth: usize) -> Option<(ValueId, View)> {
        let node = self.links.producer(id).map(|index| &self.graph.nodes[index]);
        let dims = self.dims(id).ok()?;
        volume(&dims).ok().filter(|n| *n > 0)?;
        match node.filter(|node| self.is_alias_node(node)) {
            Some(node) if depth < 16 => {
                let input = node.input(0)?;
                let (base, view) = self.seen_from(input, depth + 1)?;
                match rearrange(self, node, id, &view, &self.dims(input).ok()?).ok()? {
                    Rearranged::View(view) => Some((base, view)),
                    Rearranged::Copy { .. } => None,
                }
            }
            // Whatever array: it is only counted in.
            _ => Some((id, View::whole(crate::plan::ArrayId(u32::MAX), &dims))),
        }
    }

    /// The mask of a Dropout: all there.
    pub(super) fn mask(&mut self, node: &Node) -> Result<()> {
        match node.outputs.get(1) {
            Some(&mask) if matches!(node.op, Op::Dropout) && !self.links.users(mask).is_empty() => {
                self.apply(Function::Copy, mask, &[Operand::Whole(1)])
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ArrayId;

    #[test]
    fn shapes_are_seen_otherwise_where_strides_can_say_so() {
        let check = |dims: &[usize], strides: &[isize], to: &[usize], expected: Option<&[isize]>| {
            let view = View { array: ArrayId(0), offset: 3, strides: strides.to_vec() };
            let found = reshape(&view, dims, to);
            assert_eq!(found.as_ref().map(|v| v.strides.as_slice()), expected, "{dims:?} {strides:?} to {to:?}");
            assert!(found.is_none_or(|v| v.offset == 3));
        };
        check(&[2, 6], &[6, 1], &[3, 4], Some(&[4, 1]));
        // Transposed: the outer can be split, both together can't be one.
        check(&[6, 2], &[1, 6], &[2, 3, 2], Some(&[3, 1, 6]));
        check(&[6, 2], &[1, 6], &[12], None);
        check(&[6, 2], &[1, 6], &[4, 3], None);
        check(&[4, 3, 5], &[60, 5, 1], &[4, 15], Some(&[60, 1]));
        check(&[1, 4, 1, 3], &[9, 10, 9, 1], &[4, 3, 1], Some(&[10, 1, 0]));
        check(&[8], &[0], &[2, 4], Some(&[0, 0]));
    }
}
