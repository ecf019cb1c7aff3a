//! How steps see arrays.

use super::ArrayId;

/// Elements of an array: the one at `index` is at `offset + Σ index[d]·strides[d]`, counted in elements. What the dimensions
/// are, the step says that has the view. A stride of 0 repeats; a negative one goes backwards.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) array: ArrayId,
    pub(crate) offset: usize,
    pub(crate) strides: Vec<isize>,
}

impl View {
    /// All of an array that is row-major in `dims`.
    pub(crate) fn whole(array: ArrayId, dims: &[usize]) -> Self {
        Self { array, offset: 0, strides: row_major(dims) }
    }

    /// The least and greatest element that it touches for these dimensions; `None` where one of them is 0.
    pub(crate) fn span(&self, dims: &[usize]) -> Option<Span> {
        debug_assert_eq!(self.strides.len(), dims.len());
        if dims.contains(&0) {
            return None;
        }
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for (&dim, &stride) in dims.iter().zip(&self.strides) {
            let reach = stride * (dim as isize - 1);
            low += reach.min(0);
            high += reach.max(0);
        }
        Some(Span { array: self.array, begin: low as usize, end: high as usize + 1 })
    }

    /// Whether its dimensions lie in one another, each beginning anew beyond all that those with smaller strides reach: then no
    /// two indices have the same element. Views of parts of a dense array do, however they are turned, cut and thinned out. One
    /// whose dimensions reach into each other may yet have each element once, but nothing makes such, and to tell takes long.
    pub(crate) fn nests(&self, dims: &[usize]) -> bool {
        let steps = self.strides.iter().map(|stride| stride.unsigned_abs()).zip(dims.iter().copied());
        let mut steps: Vec<(usize, usize)> = steps.filter(|(_, dim)| *dim > 1).collect();
        steps.sort_unstable();
        let mut reach = 0usize;
        dims.contains(&0)
            || steps.into_iter().all(|(stride, dim)| {
                let beyond = stride > reach;
                reach = reach.saturating_add(stride.saturating_mul(dim - 1));
                beyond
            })
    }

    /// Whether the other view has the same elements at the same indices.
    pub(crate) fn is_same(&self, other: &Self, dims: &[usize]) -> bool {
        let strides = self.strides.iter().zip(&other.strides).zip(dims);
        self.array == other.array
            && self.offset == other.offset
            && strides.clone().all(|((a, b), &dim)| dim == 1 || a == b)
    }

    /// Whether elements lie one after another, row-major, with nothing between.
    pub(crate) fn is_contiguous(&self, dims: &[usize]) -> bool {
        let expected = row_major(dims);
        dims.iter().zip(self.strides.iter().zip(&expected)).all(|(&dim, (a, b))| dim == 1 || a == b)
    }
}

/// Elements from `begin` up to `end` of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) array: ArrayId,
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

impl Span {
    /// Whether the two have an element in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.array == other.array && self.begin < other.end && other.begin < self.end
    }
}

/// The strides of a dense array, the last dimension varying fastest.
pub(crate) fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d] * dims[d].max(1) as isize;
    }
    strides
}

/// Channels × rows × columns.
///
/// The channel `c` of the pixel in row `y` and column `x` is at
/// `offset + (c / block)·strides[0] + y·strides[1] + x·strides[2] + c % block`.
/// Where `block` is 1, channels lie anywhere (`strides[0]` apart). Where it is the plan's, a pixel has the channels of a block
/// side by side; those of the last block that go beyond `channels` hold anything, NaN included, and nobody's result depends on
/// them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) array: ArrayId,
    pub(crate) offset: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// 1, or the plan's.
    pub(crate) block: usize,
    /// From one block of channels to the next, one row to the next, one column to the next.
    pub(crate) strides: [usize; 3],
}

impl Picture {
    /// A dense blocked picture that begins at `offset` of an array.
    pub(crate) fn blocked(array: ArrayId, offset: usize, [channels, height, width]: [usize; 3], block: usize) -> Self {
        let strides = [height * width * block, width * block, block];
        Self { array, offset, channels, height, width, block, strides }
    }

    /// How many blocks of channels it has.
    pub(crate) fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    /// The elements that it touches, those beyond the last channel included; `None` for an empty one.
    pub(crate) fn span(&self) -> Option<Span> {
        self.view().span(&self.dims())
    }

    /// Blocks × rows × columns × block.
    pub(crate) fn dims(&self) -> [usize; 4] {
        [self.blocks(), self.height, self.width, self.block]
    }

    /// All that it touches, over its [`dims`](Self::dims).
    pub(crate) fn view(&self) -> View {
        let [c, y, x] = self.strides.map(|s| s as isize);
        View { array: self.array, offset: self.offset, strides: vec![c, y, x, 1] }
    }

    /// The same pixels of `channels` channels from `first` on, which is a multiple of the block.
    pub(crate) fn part(&self, first: usize, channels: usize) -> Self {
        debug_assert!(first.is_multiple_of(self.block) && first + channels <= self.channels);
        Self { offset: self.offset + first / self.block * self.strides[0], channels, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_from_the_least_to_the_greatest_element() {
        let check = |offset: usize, strides: &[isize], dims: &[usize], expected: Option<(usize, usize)>| {
            let view = View { array: ArrayId(0), offset, strides: strides.to_vec() };
            assert_eq!(view.span(dims).map(|s| (s.begin, s.end)), expected, "{view:?} {dims:?}");
        };
        check(0, &[6, 2, 1], &[2, 3, 2], Some((0, 12)));
        check(5, &[-1], &[6], Some((0, 6)));
        check(3, &[0, 1], &[9, 2], Some((3, 5)));
        check(7, &[], &[], Some((7, 8)));
        check(0, &[1, 1], &[0, 3], None);
        let picture = Picture::blocked(ArrayId(1), 64, [20, 2, 3], 16);
        assert_eq!(picture.span(), Some(Span { array: ArrayId(1), begin: 64, end: 64 + 2 * 96 }));
        assert_eq!(picture.part(16, 4).span(), Some(Span { array: ArrayId(1), begin: 160, end: 256 }));
    }

    #[test]
    fn views_that_nest_have_no_element_twice() {
        let check = |strides: &[isize], dims: &[usize], expected: bool| {
            let view = View { array: ArrayId(0), offset: 100, strides: strides.to_vec() };
            assert_eq!(view.nests(dims), expected, "{strides:?} {dims:?}");
            // Here all elements can be counted.
            let mut seen = Vec::new();
            crate::cpu::walk(dims, [100], [strides], |[at]| seen.push(at));
            let all = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert!(!expected || seen.len() == all, "{strides:?} {dims:?}");
        };
        check(&[6, 2, 1], &[2, 3, 2], true);
        check(&[1, -8, 2], &[2, 3, 4], true);
        check(&[12, 3], &[2, 3], true);
        check(&[0, 5, 0], &[1, 2, 1], true);
        check(&[], &[], true);
        check(&[0, 0], &[3, 0], true);
        check(&[0, 1], &[2, 3], false);
        check(&[2, 1], &[2, 3], false);
        check(&[-1, 1], &[2, 2], false);
        check(&[4, 3, 1], &[2, 2, 3], false);
        // Each once, but one in another.
        check(&[2, 3], &[3, 2], false);
        assert!(View::nests(&Picture::blocked(ArrayId(1), 64, [20, 2, 3], 16).view(), &[2, 2, 3, 16]));
    }

    #[test]
    fn dimensions_of_one_do_not_break_contiguity() {
        let view = View { array: ArrayId(0), offset: 0, strides: vec![99, 3, 1] };
        assert!(view.is_contiguous(&[1, 2, 3]));
        assert!(!view.is_contiguous(&[2, 2, 3]));
    }
}
