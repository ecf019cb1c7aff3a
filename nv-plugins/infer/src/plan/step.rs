//! The kinds of steps. Each says exactly what it computes: an executor is right when it does that.

use std::sync::Arc;

use super::{Picture, View};
use crate::ElementType;
use crate::graph::op::{Binary, Reduction, Unary};

pub(crate) use crate::graph::op::Residual;

/// One step of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The node that it comes from, for errors and reports: `Conv node "c1"`.
    pub(crate) node: String,
    /// What it does.
    pub(crate) action: Action,
}

/// What a step does. It writes what its output view or picture covers, of that all, and nothing else; it never reads what it
/// writes: the spans are apart.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Conv(Box<Conv>),
    Pool(Pool),
    Map(Map),
    Reduce(Reduce),
    MatMul(MatMul),
    Softmax(Softmax),
    Resample(Resample),
    Gather(Gather),
    ArgMax(ArgMax),
    TopK(TopK),
    NonMaxSuppression(NonMaxSuppression),
    Shuffle(Shuffle),
}

/// A convolution: for output channel `o`, row `y`, column `x`
///
/// `sum = bias[o] + Σ weights[o][i][j][k] · input[i][y·stride₀ − pad₀ + j·dilation₀][x·stride₁ − pad₁ + k·dilation₁]`
///
/// over the input's channels and those `j`, `k` that lie inside it. Depthwise: over the one channel `i = o` only. Then residual
/// and activation, in the order that [`Residual`] says.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// The same for the same weights in every plan of a graph: an executor may keep them packed under it.
    pub(crate) key: usize,
    /// Of any block; depthwise: of the output's.
    pub(crate) input: Picture,
    /// Output channels × input channels × rows × columns; depthwise: channels × rows × columns.
    pub(crate) weights: Arc<[f32]>,
    /// One for each output channel.
    pub(crate) bias: Option<Arc<[f32]>>,
    pub(crate) depthwise: bool,
    /// Rows and columns, as all that follow.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Before the first row and column. What is needed after the last follows from the output's size.
    pub(crate) pad: [usize; 2],
    pub(crate) activation: Option<Activation>,
    /// Of the output's size, and of the plan's block.
    pub(crate) residual: Option<(Picture, Residual)>,
    /// Of the plan's block, and channels beyond the last of a block may be written; or planes that [fit](Self::fits_planes).
    pub(crate) output: Picture,
}

impl Conv {
    /// Whether an executor that takes depthwise convolutions of planes takes this one: there is no residual, steps and dilations
    /// are 1, the window has 25 taps at most and reaches no more than `block` columns to either side, and rows are whole blocks of
    /// pixels that lie side by side and begin where blocks begin.
    pub(crate) fn fits_planes(&self, block: usize) -> bool {
        let fits = |picture: &Picture| {
            let Picture { offset, width, strides: [channel, row, column], .. } = picture;
            picture.block == 1 && *column == 1 && [offset, width, channel, row].iter().all(|n| n.is_multiple_of(block))
        };
        let [rows, columns] = self.kernel;
        let window = rows * columns <= 25 && self.pad[1] <= block && columns <= block + 1 + self.pad[1];
        let even = self.stride == [1, 1] && self.dilation == [1, 1];
        self.depthwise && self.residual.is_none() && even && window && fits(&self.input) && fits(&self.output)
    }
}

/// What is done to each sum of a convolution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Activation {
    Unary(Unary),
    /// `x < 0 ? slope·x : x`, with a slope for each output channel.
    PRelu(Arc<[f32]>),
}

/// The greatest or mean value of a window, channel by channel.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    /// Of the plan's block, as the output.
    pub(crate) input: Picture,
    /// What each output row covers.
    pub(crate) rows: Vec<PoolAxis>,
    /// What each output column covers.
    pub(crate) columns: Vec<PoolAxis>,
    /// Between elements of a window.
    pub(crate) dilation: [usize; 2],
    pub(crate) output: Picture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PoolKind {
    Max,
    /// The sum divided by the row's `divisor` times the column's.
    Average,
}

/// What one output row or column covers: `count` rows or columns from `begin` on, `dilation` apart, all inside the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolAxis {
    pub(crate) begin: usize,
    /// At least 1.
    pub(crate) count: usize,
    /// At least 1.
    pub(crate) divisor: usize,
}

/// `output[i] = function(inputs[0][i], …)` for every index `i` below `dims`. Views have a stride for each of `dims`.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) function: Function,
    pub(crate) dims: Vec<usize>,
    pub(crate) inputs: Vec<View>,
    pub(crate) output: View,
}

/// A function of the elements at one index. What kinds of arrays it takes and gives is said with each; "same" is one kind for
/// all its inputs and the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// The element itself. Same.
    Copy,
    /// Of floats; of whole numbers only `Abs`, `Neg`, `Relu` and `Not`. Same.
    Unary(Unary),
    /// Two inputs of one kind. Comparisons and logic give whole numbers, 0 or 1; all else the same kind. Whole numbers wrap to
    /// the given type; they divide towards zero, and anything divided by zero is 0.
    Binary(Binary, ElementType),
    /// The element, not below the second input, then not above the third. Same.
    Clip,
    /// `x < 0 ? slope·x : x` for `x, slope`. Same.
    PRelu,
    /// `c ≠ 0 ? a : b` for `c, a, b`: `c` a whole number, the rest of one kind.
    Where,
    /// `x·factor + term` for `x, factor, term`. Floats.
    MulAdd,
    /// To another type: between kinds, or a whole number cut to a narrower type, as C does. To truth values: whether it is not
    /// zero. From floats: towards zero, and beyond what fits the nearest that does; NaN is 0.
    Cast(ElementType),
}

/// A reduction of `dims.len() = kept + reduced` dimensions to the first `kept` of them.
#[derive(Clone, Debug)]
pub(crate) struct Reduce {
    pub(crate) kind: Reduction,
    pub(crate) kept: Vec<usize>,
    /// At least one element.
    pub(crate) reduced: Vec<usize>,
    /// Over `kept`, then `reduced`.
    pub(crate) input: View,
    /// Over `kept`. Of the input's kind.
    pub(crate) output: View,
}

/// `output[b][r][c] = alpha · Σ left[b][r][d] · right[b][d][c] + beta · add[b][r][c]`. Floats.
#[derive(Clone, Debug)]
pub(crate) struct MatMul {
    pub(crate) batch: Vec<usize>,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    /// Over the batch, rows, depth.
    pub(crate) left: View,
    /// Over the batch, depth, columns.
    pub(crate) right: View,
    /// Over the batch, rows, columns.
    pub(crate) add: Option<View>,
    /// Over the batch, rows, columns.
    pub(crate) output: View,
}

/// `exp(x − max) / Σ exp(x − max)` along the last dimension. Floats.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    /// The last is the one along which.
    pub(crate) dims: Vec<usize>,
    pub(crate) input: View,
    pub(crate) output: View,
}

/// `output[i₀, i₁, …] = Σ weights · input[t₀(i₀), t₁(i₁), …]` over the taps of each dimension; `fill` where a tap of any of
/// them is −1.
#[derive(Clone, Debug)]
pub(crate) struct Resample {
    /// Of the output.
    pub(crate) dims: Vec<usize>,
    /// For each dimension.
    pub(crate) taps: Vec<Taps>,
    /// For floats; whole numbers are filled with it cut to one.
    pub(crate) fill: f32,
    pub(crate) input: View,
    /// Of the input's kind.
    pub(crate) output: View,
}

/// Which indices of the input an index of the output takes along one dimension.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Taps {
    /// The same one.
    Same,
    /// The one at its place; −1 for none.
    Pick(Arc<[i32]>),
    /// `width` of them for each index, one after another, with their weights. None is −1, unless all of an index are. Floats
    /// only.
    Blend { width: usize, index: Arc<[i32]>, weight: Arc<[f32]> },
}

/// `output[o][p][n] = data[o][indices[p]][n]`. An index from −`len` counts from the end; one beyond is an error of the run.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    pub(crate) outer: Vec<usize>,
    pub(crate) picked: Vec<usize>,
    pub(crate) inner: Vec<usize>,
    /// Of the dimension that indices count in.
    pub(crate) len: usize,
    /// Over `outer`, that dimension, `inner`.
    pub(crate) data: View,
    /// Over `picked`. Whole numbers.
    pub(crate) indices: View,
    /// Over `outer`, `picked`, `inner`. Of the data's kind.
    pub(crate) output: View,
}

impl Gather {
    /// What is said of a run that has such an index.
    pub(crate) fn out_of_range(&self, index: i32) -> String {
        format!("the index {index} is out of range: there are {} elements", self.len)
    }
}

/// The index of the greatest element along the last dimension; of equals the first, or the last. NaN is never the greatest.
#[derive(Clone, Debug)]
pub(crate) struct ArgMax {
    pub(crate) kept: Vec<usize>,
    pub(crate) len: usize,
    pub(crate) last: bool,
    /// Over `kept`, then the dimension of `len`.
    pub(crate) input: View,
    /// Over `kept`. Whole numbers.
    pub(crate) output: View,
}

/// The `k` greatest or least elements along the last dimension, the best first; of equals the one with the lower index first.
#[derive(Clone, Debug)]
pub(crate) struct TopK {
    pub(crate) kept: Vec<usize>,
    pub(crate) len: usize,
    /// At most `len`.
    pub(crate) k: usize,
    pub(crate) largest: bool,
    /// Over `kept`, then the dimension of `len`.
    pub(crate) input: View,
    /// Over `kept`, then `k`. Of the input's kind.
    pub(crate) values: View,
    /// Over `kept`, then `k`. Whole numbers.
    pub(crate) indices: View,
}

/// ONNX's NonMaxSuppression. The rows `[batch, class, box]` that are selected come first, in ONNX's order; the rest of the
/// output is 0.
#[derive(Clone, Debug)]
pub(crate) struct NonMaxSuppression {
    pub(crate) batches: usize,
    pub(crate) classes: usize,
    pub(crate) boxes: usize,
    /// At most so many for each batch and class.
    pub(crate) limit: usize,
    pub(crate) iou: f32,
    /// Scores not above it are left out; `None`: none are.
    pub(crate) threshold: Option<f32>,
    /// Boxes are centre x, centre y, width, height; else two opposite corners, y before x.
    pub(crate) center_point: bool,
    /// Over batches, boxes, 4.
    pub(crate) corners: View,
    /// Over batches, classes, boxes.
    pub(crate) scores: View,
    /// Over `batches · classes · min(limit, boxes)`, 3. Whole numbers.
    pub(crate) output: View,
    /// One whole number, of no dimension: how many rows were selected.
    pub(crate) count: View,
}

/// Each channel of the output is a channel of one of the inputs: which one, and which of its channels. All are of the plan's
/// block and of the same rows and columns.
#[derive(Clone, Debug)]
pub(crate) struct Shuffle {
    pub(crate) inputs: Vec<Picture>,
    /// For each channel of the output.
    pub(crate) channels: Arc<[(u32, u32)]>,
    pub(crate) output: Picture,
}

impl Map {
    /// A map over as few dimensions as its views allow: those of one go, and those that lie in one another in every view become
    /// one. The order of elements stays.
    pub(crate) fn new(function: Function, dims: &[usize], inputs: Vec<View>, output: View) -> Self {
        let mut map = Self { function, dims: Vec::new(), inputs, output };
        let old: Vec<Vec<isize>> = map.views().map(|view| view.strides.clone()).collect();
        let mut new: Vec<Vec<isize>> = vec![Vec::new(); old.len()];
        for (axis, &dim) in dims.iter().enumerate().filter(|(_, dim)| **dim != 1) {
            let nested = !map.dims.is_empty()
                && dim > 0
                && old.iter().zip(&new).all(|(old, new)| new.last() == Some(&(old[axis] * dim as isize)));
            if let (true, Some(last)) = (nested, map.dims.last_mut()) {
                *last *= dim;
                new.iter_mut().zip(&old).for_each(|(new, old)| {
                    new.pop();
                    new.push(old[axis]);
                });
            } else {
                map.dims.push(dim);
                new.iter_mut().zip(&old).for_each(|(new, old)| new.push(old[axis]));
            }
        }
        map.inputs.iter_mut().chain([&mut map.output]).zip(new).for_each(|(view, strides)| view.strides = strides);
        map
    }

    fn views(&self) -> impl Iterator<Item = &View> {
        self.inputs.iter().chain([&self.output])
    }
}

impl Action {
    /// The view that it writes with the view's dimensions, where it is one view that it writes.
    pub(crate) fn output_view(&self) -> Option<(Vec<usize>, View)> {
        match self {
            Self::Map(a) => Some((a.dims.clone(), a.output.clone())),
            Self::Reduce(a) => Some((a.kept.clone(), a.output.clone())),
            Self::MatMul(a) => Some((joined(&[&a.batch, &[a.rows, a.columns]]), a.output.clone())),
            Self::Softmax(a) => Some((a.dims.clone(), a.output.clone())),
            Self::Resample(a) => Some((a.dims.clone(), a.output.clone())),
            Self::Gather(a) => Some((joined(&[&a.outer, &a.picked, &a.inner]), a.output.clone())),
            Self::ArgMax(a) => Some((a.kept.clone(), a.output.clone())),
            _ => None,
        }
    }

    /// Has it write another view of the same dimensions.
    pub(crate) fn set_output(&mut self, view: View) {
        match self {
            Self::Map(a) => a.output = view,
            Self::Reduce(a) => a.output = view,
            Self::MatMul(a) => a.output = view,
            Self::Softmax(a) => a.output = view,
            Self::Resample(a) => a.output = view,
            Self::Gather(a) => a.output = view,
            Self::ArgMax(a) => a.output = view,
            _ => {}
        }
    }
}

fn joined(parts: &[&[usize]]) -> Vec<usize> {
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ArrayId;

    #[test]
    fn maps_have_as_few_dimensions_as_their_views_allow() {
        let check = |dims: &[usize], input: &[isize], output: &[isize], expected: &[(usize, isize, isize)]| {
            let view = |strides: &[isize]| View { array: ArrayId(0), offset: 0, strides: strides.to_vec() };
            let map = Map::new(Function::Copy, dims, vec![view(input)], view(output));
            let found = map.dims.iter().zip(&map.inputs[0].strides).zip(&map.output.strides);
            assert_eq!(found.map(|((d, i), o)| (*d, *i, *o)).collect::<Vec<_>>(), expected, "{dims:?}");
        };
        check(&[2, 3, 4], &[12, 4, 1], &[12, 4, 1], &[(24, 1, 1)]);
        check(&[2, 3, 4], &[12, 4, 1], &[24, 4, 1], &[(2, 12, 24), (12, 1, 1)]);
        check(&[2, 1, 4], &[0, 7, 0], &[4, 4, 1], &[(8, 0, 1)]);
        check(&[5, 2, 3], &[0, 0, 0], &[6, 3, 1], &[(30, 0, 1)]);
        check(&[1, 1], &[0, 0], &[1, 1], &[]);
        check(&[3, 0], &[1, 1], &[0, 1], &[(3, 1, 0), (0, 1, 1)]);
    }
}
