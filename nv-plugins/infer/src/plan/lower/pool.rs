//! Pools: what each output row and column covers.

use super::conv::Resolved;
use super::{Action, Function, Kind, Lowering, Result};
use crate::ElementType;
use crate::graph::ir::Node;
use crate::graph::op::Op;
use crate::plan::{Pool, PoolAxis, PoolKind};

impl Lowering<'_> {
    pub(super) fn pool(&mut self, node: &Node) -> Result<()> {
        let (window, kind, counts_padding) = match &node.op {
            Op::MaxPool(window) => (window, PoolKind::Max, false),
            Op::AveragePool { window, count_include_pad } => (window, PoolKind::Average, *count_include_pad),
            _ => return Err("it is no pool".into()),
        };
        if node.outputs.iter().skip(1).any(|id| !self.links.users(*id).is_empty()) {
            return Err("somebody wants the places of its greatest values".into());
        }
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (size, out) = (self.dims4(input)?, self.dims4(output)?);
        let kernel: Vec<usize> = window.kernel.iter().map(|&k| k as usize).collect();
        if size.contains(&0) || out.contains(&0) {
            return Err("a pool of nothing".into());
        }
        let resolved = Self::window(window, &kernel, [size[2], size[3]], [out[2], out[3]])?;
        self.make_up(PoolAxis::NUMBERS * (out[2] + out[3]))?;
        let axes = [0, 1].map(|axis| covered(&resolved, axis, size[axis + 2], out[axis + 2], counts_padding));
        let [Some(rows), Some(columns)] = axes else { return Err("a window covers nothing but padding".into()) };
        let whole = self.kind(input)? == Kind::Int;
        let (from, to) = if whole {
            // As floats, which hold these numbers exactly up to 2²⁴.
            let dims = self.dims(input)?;
            let (view, floats) = (self.plain(input)?, self.allocate_temporary(Kind::Float, &dims)?);
            self.map(Function::Cast(ElementType::Float), &dims, vec![view], floats.clone())?;
            let pictures = self.new_pictures(input, size)?;
            self.block_up(&floats, size, &pictures)?;
            (pictures, self.new_pictures(output, out)?)
        } else {
            (self.blocked(input)?, self.blocked_output(output, out)?)
        };
        for (input, output) in from.iter().zip(to.iter()) {
            self.make_up(PoolAxis::NUMBERS * (rows.len() + columns.len()))?;
            let (rows, columns) = (rows.clone(), columns.clone());
            self.push(Action::Pool(Pool { kind, input, rows, columns, dilation: resolved.dilation, output }))?;
        }
        if whole {
            let dims = self.dims(output)?;
            let (floats, place) = (self.allocate_temporary(Kind::Float, &dims)?, self.plain_output(output)?);
            self.unblock(output, &to, &floats)?;
            self.map(Function::Cast(self.element(output)), &dims, vec![floats], place.clone())?;
            self.plains.insert(output, place);
        } else {
            self.is_at(output, to);
        }
        Ok(())
    }
}

impl PoolAxis {
    /// How many numbers of a plan it is as large as.
    const NUMBERS: usize = size_of::<Self>() / 4;
}

/// What the windows of an axis cover of `size`; `None` where one covers nothing.
fn covered(window: &Resolved, axis: usize, size: usize, out: usize, counts_padding: bool) -> Option<Vec<PoolAxis>> {
    let (kernel, step) = (window.kernel[axis], window.dilation[axis]);
    let (begin, end) = (window.begin[axis], window.end[axis]);
    (0..out)
        .map(|i| {
            let first = i as i128 * window.stride[axis] as i128 - begin as i128;
            // How many places of the window come before this one.
            let before = |at: i128| (at - first + step as i128 - 1).div_euclid(step as i128).clamp(0, kernel as i128);
            let (skipped, inside) = (before(0), before(size as i128));
            // Rounded up, a window may reach beyond the padding.
            let counted = before(size as i128 + end as i128);
            let count = usize::try_from(inside - skipped).ok().filter(|count| *count > 0)?;
            let divisor = if counts_padding { usize::try_from(counted).ok()? } else { count };
            let begin = usize::try_from(first + skipped * step as i128).ok()?;
            Some(PoolAxis { begin, count, divisor })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_what_lies_inside() {
        let check =
            |kernel: usize, stride: usize, dilation: usize, pads: [usize; 2], expected: &[(usize, usize, usize)]| {
                let window = Resolved {
                    kernel: [kernel; 2],
                    stride: [stride; 2],
                    dilation: [dilation; 2],
                    begin: [pads[0]; 2],
                    end: [pads[1]; 2],
                };
                let found = covered(&window, 0, 5, expected.len(), true).unwrap();
                let found: Vec<_> = found.iter().map(|a| (a.begin, a.count, a.divisor)).collect();
                assert_eq!(found, expected, "{kernel} {stride} {dilation} {pads:?}");
            };
        check(3, 1, 1, [1, 1], &[(0, 2, 3), (0, 3, 3), (1, 3, 3), (2, 3, 3), (3, 2, 3)]);
        // Rounded up: the last window reaches beyond the padding, which does not count.
        check(2, 2, 1, [0, 0], &[(0, 2, 2), (2, 2, 2), (4, 1, 1)]);
        check(2, 1, 3, [3, 0], &[(0, 1, 2), (1, 1, 2), (2, 1, 2), (0, 2, 2)]);
    }
}
