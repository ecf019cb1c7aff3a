/// A dimension that is gone through: how long it is, and from one element to the next in each of `N` operands, the output first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop<const N: usize> {
    pub(super) len: usize,
    pub(super) steps: [isize; N],
}

impl<const N: usize> Loop<N> {
    /// No dimension.
    pub(super) const ONE: Self = Self { len: 1, steps: [0; N] };
}

/// As few dimensions as the first `used` operands allow, the outermost of the output first.
pub(super) fn joined<const N: usize>(mut loops: Vec<Loop<N>>, used: usize) -> Vec<Loop<N>> {
    loops.retain(|l| l.len > 1);
    loops.sort_by_key(|l| std::cmp::Reverse(l.steps[0].unsigned_abs()));
    let mut joined: Vec<Loop<N>> = Vec::new();
    for dim in loops {
        match joined.last_mut() {
            Some(last) if (0..used).all(|i| last.steps[i] == dim.steps[i] * dim.len as isize) => {
                *last = Loop { len: last.len * dim.len, steps: dim.steps };
            }
            _ => joined.push(dim),
        }
    }
    joined
}

/// Where vector `number` of those that lie across `across` begins in each operand, after `begins`; and which element of `across`
/// it begins with. All vectors of `across` come before the next index of `outer`, whose last varies fastest.
pub(super) fn vector_at<const N: usize>(
    number: usize,
    begins: [isize; N],
    outer: &[Loop<N>],
    across: &Loop<N>,
    lanes: usize,
) -> ([isize; N], usize) {
    let count = across.len.div_ceil(lanes);
    let first = number % count * lanes;
    let mut at = begins;
    let mut add = |index: usize, dim: &Loop<N>| {
        at.iter_mut().zip(dim.steps).for_each(|(at, step)| *at += index as isize * step);
    };
    add(first, across);
    let mut rest = number / count;
    for dim in outer.iter().rev() {
        add(rest % dim.len, dim);
        rest /= dim.len;
    }
    (at, first)
}
