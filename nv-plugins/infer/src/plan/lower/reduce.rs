//! Operators that go over whole dimensions: reductions, products of matrices, selections.

use super::alias::broadcast;
use super::elementwise::Operand;
use super::{Action, Function, Kind, Lowering, Result, View, volume};
use crate::graph::ir::{Node, ValueId};
use crate::graph::op::{Op, Reduction};
use crate::graph::shapes::axis_of;
use crate::plan::{ArgMax, MatMul, NonMaxSuppression, Reduce, Softmax, TopK};

impl Lowering<'_> {
    /// The axes that a node reduces, sorted.
    pub(super) fn reduced_axes(&self, node: &Node) -> Result<Vec<usize>> {
        let rank = self.dims(self.input(node, 0)?)?.len();
        let Op::Reduce { empty_is_noop, .. } = &node.op else { return Ok((2..rank).collect()) };
        let axes = match node.input(1) {
            Some(_) => self.constant_ints(node, 1)?,
            None => Vec::new(),
        };
        if axes.is_empty() {
            return Ok(if *empty_is_noop { Vec::new() } else { (0..rank).collect() });
        }
        let mut axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<std::result::Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    pub(super) fn reduce(&mut self, node: &Node) -> Result<()> {
        let kind = match &node.op {
            Op::Reduce { kind, .. } => *kind,
            Op::GlobalMaxPool => Reduction::Max,
            _ => Reduction::Mean,
        };
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (dims, axes) = (self.dims(input)?, self.reduced_axes(node)?);
        if axes.is_empty() {
            return self.apply(Function::Copy, output, &[Operand::Value(input)]);
        }
        let whole = self.kind(input)? == Kind::Int;
        if axes.iter().any(|&axis| dims[axis] == 0) {
            // Of nothing.
            let value = match (kind, whole) {
                (Reduction::Sum, false) => Operand::Number(0.0),
                (Reduction::Sum, true) => Operand::Whole(0),
                (Reduction::Max, false) => Operand::Number(f32::NEG_INFINITY),
                _ => return Err("it reduces nothing".into()),
            };
            return self.apply(Function::Copy, output, &[value]);
        }
        if kind == Reduction::Mean && whole {
            return Err("a mean of whole numbers".into());
        }
        if self.prefers.contains(&output) {
            let (from, place) = (self.blocked(input)?, self.blocked_output(output, self.dims4(output)?)?);
            let [images, blocks, height, width, lanes] = from.dims();
            let [from, to] = [from.view(), place.view()].map(|v| (v.array, v.offset, v.strides));
            let pick = |(array, offset, strides): (_, _, Vec<isize>), order: &[usize]| View {
                array,
                offset,
                strides: order.iter().map(|&i| strides[i]).collect(),
            };
            self.push(Action::Reduce(Reduce {
                kind,
                kept: vec![images, blocks, lanes],
                reduced: vec![height, width],
                input: pick(from, &[0, 1, 4, 2, 3]),
                output: pick(to, &[0, 1, 4]),
            }))?;
            self.is_at(output, place);
            return Ok(());
        }
        let view = self.plain(input)?;
        let (kept, order) = apart(&dims, &axes);
        let from = reordered(&view, &order);
        let place = self.plain_output(output)?;
        // The dimensions that stay, whether those that go are kept as ones or not.
        let strides = if place.strides.len() == dims.len() {
            order[..kept.len()].iter().map(|&axis| place.strides[axis]).collect()
        } else {
            place.strides.clone()
        };
        let reduced = axes.iter().map(|&axis| dims[axis]).collect();
        let to = View { strides, ..place.clone() };
        self.push(Action::Reduce(Reduce { kind, kept, reduced, input: from, output: to }))?;
        self.plains.insert(output, place);
        Ok(())
    }

    pub(super) fn softmax(&mut self, node: &Node, axis: i64, flat: bool) -> Result<()> {
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let dims = self.dims(input)?;
        if volume(&dims)? == 0 {
            let place = self.plain_output(output)?;
            self.plains.insert(output, place);
            return Ok(());
        }
        let axis = axis_of(axis, dims.len())?;
        if flat && axis + 1 < dims.len() {
            // As one dimension, which the memory of both must be able to show.
            let to = [volume(&dims[..axis])?, volume(&dims[axis..])?];
            let from = self.contiguous(input)?;
            let kind = self.kind(output)?;
            let aside = self.allocate_temporary(kind, &dims)?;
            let whole = |view: &View| View { offset: view.offset, ..View::whole(view.array, &to) };
            let (input, result) = (whole(&from), whole(&aside));
            self.push(Action::Softmax(Softmax { dims: to.to_vec(), input, output: result }))?;
            let place = self.plain_output(output)?;
            self.copy(&dims, aside, place.clone())?;
            self.plains.insert(output, place);
            return Ok(());
        }
        let view = self.plain(input)?;
        let (mut inner, order) = apart(&dims, &[axis]);
        inner.push(dims[axis]);
        let place = self.plain_output(output)?;
        let (input, to) = (reordered(&view, &order), reordered(&place, &order));
        self.push(Action::Softmax(Softmax { dims: inner, input, output: to }))?;
        self.plains.insert(output, place);
        Ok(())
    }

    pub(super) fn arg_max(&mut self, node: &Node, axis: i64, last: bool) -> Result<()> {
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let dims = self.dims(input)?;
        let axis = axis_of(axis, dims.len())?;
        if dims[axis] == 0 {
            return Err("it has nothing to choose from".into());
        }
        let view = self.plain(input)?;
        let (kept, order) = apart(&dims, &[axis]);
        let place = self.plain_output(output)?;
        let mut strides = place.strides.clone();
        if strides.len() == dims.len() {
            strides.remove(axis);
        }
        let to = View { strides, ..place.clone() };
        let from = reordered(&view, &order);
        self.push(Action::ArgMax(ArgMax { kept, len: dims[axis], last, input: from, output: to }))?;
        self.plains.insert(output, place);
        Ok(())
    }

    pub(super) fn top_k(&mut self, node: &Node, axis: i64, largest: bool) -> Result<()> {
        let input = self.input(node, 0)?;
        let dims = self.dims(input)?;
        let axis = axis_of(axis, dims.len())?;
        let &[values, ref rest @ ..] = &node.outputs[..] else { return Err("it has no output".into()) };
        let out = self.dims(values)?;
        let (k, len) = (out[axis], dims[axis]);
        if k > len {
            return Err(format!("the {k} best of {len}").into());
        }
        let view = self.plain(input)?;
        let (kept, order) = apart(&dims, &[axis]);
        let place = self.plain_output(values)?;
        let indices = match rest.first() {
            Some(&id) => {
                let place = self.plain_output(id)?;
                self.plains.insert(id, place.clone());
                place
            }
            None => self.allocate_temporary(Kind::Int, &out)?,
        };
        self.push(Action::TopK(TopK {
            kept,
            len,
            k,
            largest,
            input: reordered(&view, &order),
            values: reordered(&place, &order),
            indices: reordered(&indices, &order),
        }))?;
        self.plains.insert(values, place);
        Ok(())
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Result<()> {
        let (a, b, output) = (self.input(node, 0)?, self.input(node, 1)?, node.outputs[0]);
        let (mut left_dims, mut right_dims) = (self.dims(a)?, self.dims(b)?);
        let (mut left, mut right) = (self.plain(a)?, self.plain(b)?);
        let mut out = self.dims(output)?;
        let place = self.plain_output(output)?;
        let mut to = place.clone();
        // Vectors are matrices of one row or column.
        if right_dims.len() == 1 {
            right_dims.push(1);
            right.strides.push(0);
            out.push(1);
            to.strides.push(0);
        }
        if left_dims.len() == 1 {
            left_dims.insert(0, 1);
            left.strides.insert(0, 0);
            let at = out.len() - 1;
            out.insert(at, 1);
            to.strides.insert(at, 0);
        }
        let (batch, rows, columns) = (out[..out.len() - 2].to_vec(), out[out.len() - 2], out[out.len() - 1]);
        let depth = left_dims[left_dims.len() - 1];
        let left = broadcast(&left, &left_dims, &[&batch[..], &[rows, depth]].concat())?;
        let right = broadcast(&right, &right_dims, &[&batch[..], &[depth, columns]].concat())?;
        self.multiply(MatMul {
            batch,
            rows,
            depth,
            columns,
            alpha: 1.0,
            beta: 0.0,
            left,
            right,
            add: None,
            output: to,
        })?;
        self.plains.insert(output, place);
        Ok(())
    }

    pub(super) fn gemm(&mut self, node: &Node) -> Result<()> {
        let &Op::Gemm { alpha, beta, trans_a, trans_b } = &node.op else { return Err("it is no Gemm".into()) };
        let (a, b, output) = (self.input(node, 0)?, self.input(node, 1)?, node.outputs[0]);
        let (mut left, mut right) = (self.plain(a)?, self.plain(b)?);
        let depth = self.dims(a)?[usize::from(!trans_a)];
        if trans_a {
            left.strides.reverse();
        }
        if trans_b {
            right.strides.reverse();
        }
        let dims = self.dims(output)?;
        let &[rows, columns] = &dims[..] else { return Err("its result is no matrix".into()) };
        let add = node.input(2).map(|c| self.spread(c, &dims)).transpose()?;
        let place = self.plain_output(output)?;
        let to = place.clone();
        self.multiply(MatMul { batch: Vec::new(), rows, depth, columns, alpha, beta, left, right, add, output: to })?;
        self.plains.insert(output, place);
        Ok(())
    }

    fn multiply(&mut self, product: MatMul) -> Result<()> {
        let whole = |view: &View| self.arrays[view.array.index()].kind == Kind::Int;
        if whole(&product.left) || whole(&product.right) {
            return Err("a product of whole numbers".into());
        }
        self.push(Action::MatMul(product))
    }

    pub(super) fn non_max_suppression(&mut self, node: &Node, center_point: bool) -> Result<()> {
        let (boxes, scores, output) = (self.input(node, 0)?, self.input(node, 1)?, node.outputs[0]);
        let (&[batches, count, 4], &[batches_too, classes, count_too]) =
            (&self.dims(boxes)?[..], &self.dims(scores)?[..])
        else {
            return Err("its boxes and scores are no lists of boxes and of scores".into());
        };
        if (batches, count) != (batches_too, count_too) {
            return Err(format!("{batches}×{count} boxes and the scores of {batches_too}×{count_too}").into());
        }
        let users = self.links.users(output);
        if users.iter().any(|user| *user != crate::graph::ir::User::Output) {
            return Err("other nodes go on with what it selects, and how much that is depends on data".into());
        }
        let number = |index: usize| node.input(index).map(|_| self.constant_floats(node, index)).transpose();
        let one = |values: Option<Vec<f32>>| values.and_then(|v| v.first().copied());
        let limit = match node.input(2) {
            Some(_) => self.constant_ints(node, 2)?.first().copied().unwrap_or(0).max(0) as usize,
            None => 0,
        };
        let (iou, threshold) = (one(number(3)?).unwrap_or(0.0), one(number(4)?));
        let limit = limit.min(count);
        let rows = volume(&[batches, classes, limit])?;
        let (corners, scores) = (self.plain(boxes)?, self.plain(scores)?);
        let place = self.allocate_temporary(Kind::Int, &[rows, 3])?;
        let selected = self.allocate_temporary(Kind::Int, &[])?;
        self.rows.insert(output, selected.array);
        self.selected.insert(output, vec![rows, 3]);
        self.plains.insert(output, place.clone());
        let output = place;
        self.push(Action::NonMaxSuppression(NonMaxSuppression {
            batches,
            classes,
            boxes: count,
            limit,
            iou,
            threshold,
            center_point,
            corners,
            scores,
            output,
            count: selected,
        }))
    }

    /// The value as a view that is row-major without gaps.
    pub(super) fn contiguous(&mut self, id: ValueId) -> Result<View> {
        let (view, dims) = (self.plain(id)?, self.dims(id)?);
        if view.is_contiguous(&dims) {
            return Ok(view);
        }
        let aside = self.allocate_temporary(self.kind(id)?, &dims)?;
        self.copy(&dims, view, aside.clone())?;
        Ok(aside)
    }
}

/// The dimensions that are not among the axes, and the order in which these come first.
fn apart(dims: &[usize], axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let kept: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
    (kept.iter().map(|&axis| dims[axis]).collect(), [&kept[..], axes].concat())
}

fn reordered(view: &View, order: &[usize]) -> View {
    View { strides: order.iter().map(|&axis| view.strides[axis]).collect(), ..view.clone() }
}
