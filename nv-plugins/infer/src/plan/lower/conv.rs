//! Convolutions: groups, transposed ones, and rearrangements before them.

use std::sync::Arc;

use super::{Action, Lowering, Picture, Pictures, Reason, Result, View, volume};
use crate::graph::fold::fixed_shape;
use crate::graph::ir::{Node, User, ValueId};
use crate::graph::op::{Activation as OpActivation, AutoPad, Epilogue, IndexMap, Op, Window};
use crate::plan::{Activation, Conv, Resample, Taps};

/// A window in two dimensions with every number filled in.
pub(super) struct Resolved {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) begin: [usize; 2],
    pub(super) end: [usize; 2],
}

/// Weights of a convolution in two dimensions: output channels × input channels of a group × rows × columns.
struct Weights {
    values: Arc<[f32]>,
    dims: [usize; 4],
}

impl Lowering<'_> {
    /// The window over rows and columns of `size`, `out` of it. Shape inference has checked the numbers.
    pub(super) fn window(window: &Window, kernel: &[usize], size: [usize; 2], out: [usize; 2]) -> Result<Resolved> {
        let rank = kernel.len();
        let two = |values: &[i64], default: usize| -> Result<[usize; 2]> {
            let at = |i: usize| match values.get(i) {
                Some(&v) => usize::try_from(v).map_err(|_| Reason::from(format!("a window of {values:?}"))),
                None => Ok(default),
            };
            // One dimension is a picture of one row.
            if rank == 1 { Ok([if default == 0 { 0 } else { 1 }, at(0)?]) } else { Ok([at(0)?, at(1)?]) }
        };
        let kernel: Vec<i64> = kernel.iter().map(|&k| k as i64).collect();
        let mut resolved = Resolved {
            kernel: two(&kernel, 1)?,
            stride: two(&window.strides, 1)?,
            dilation: two(&window.dilations, 1)?,
            begin: [0; 2],
            end: [0; 2],
        };
        match window.auto_pad {
            AutoPad::Explicit => {
                resolved.begin = two(window.pads.get(..rank).unwrap_or_default(), 0)?;
                resolved.end = two(window.pads.get(rank..).unwrap_or_default(), 0)?;
            }
            AutoPad::Valid => {}
            AutoPad::SameUpper | AutoPad::SameLower => {
                for axis in 0..2 {
                    let extent = resolved.kernel[axis].saturating_sub(1).saturating_mul(resolved.dilation[axis]);
                    let steps = out[axis].saturating_sub(1).saturating_mul(resolved.stride[axis]);
                    let total = steps.saturating_add(extent).saturating_add(1).saturating_sub(size[axis]);
                    let less = total / 2;
                    resolved.begin[axis] = if window.auto_pad == AutoPad::SameUpper { less } else { total - less };
                    resolved.end[axis] = total - resolved.begin[axis];
                }
            }
        }
        Ok(resolved)
    }

    fn weights(&mut self, node: &Node) -> Result<Weights> {
        let id = self.input(node, 1)?;
        let values = match self.weights.get(&id) {
            Some(values) => values.clone(),
            None => {
                let values: Arc<[f32]> = self.constant_floats(node, 1)?.into();
                self.weights.insert(id, values.clone());
                values
            }
        };
        self.packed = self.packed.saturating_add(values.len());
        if self.packed > self.limit.saturating_add(self.numbers) {
            return Err(super::too_large("its weights with those before", self.packed as u128 * 4));
        }
        let dims = match self.dims(id)?[..] {
            [o, i, h, w] => [o, i, h, w],
            [o, i, w] => [o, i, 1, w],
            ref dims => return Err(format!("weights of {} dimensions", dims.len()).into()),
        };
        Ok(Weights { values, dims })
    }

    pub(super) fn conv(&mut self, node: &Node) -> Result<()> {
        let Op::Conv { window, group, epilogue } = &node.op else { return Err("it is no convolution".into()) };
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (size, out) = (self.dims4(input)?, self.dims4(output)?);
        if size.contains(&0) || out.contains(&0) {
            return Err("a convolution of nothing".into());
        }
        let mut weights = self.weights(node)?;
        let rank = self.dims(input)?.len() - 2;
        let mut resolved = Self::window(window, &weights.dims[4 - rank..], [size[2], size[3]], [out[2], out[3]])?;
        let bias = node.input(2).map(|_| self.constant_floats(node, 2)).transpose()?;
        let groups = usize::try_from(*group).map_err(|_| "its groups can't be counted")?;
        if groups == 1
            && resolved.dilation == [1, 1]
            && let Some((picture, blocks)) = self.space_to_depth_before(input)
        {
            self.make_up(weights.values.len())?;
            widen(&mut weights, &mut resolved, blocks);
            let from = self.dims4(picture)?;
            return self.convolve(node, picture, from, weights, resolved, bias, 1, epilogue);
        }
        self.convolve(node, input, size, weights, resolved, bias, groups, epilogue)
    }

    #[expect(clippy::too_many_arguments, reason = "a convolution has as many parts")]
    fn convolve(
        &mut self,
        node: &Node,
        input: ValueId,
        size: [usize; 4],
        weights: Weights,
        window: Resolved,
        bias: Option<Vec<f32>>,
        groups: usize,
        epilogue: &Epilogue,
    ) -> Result<()> {
        let output = node.outputs[0];
        let dims = self.dims4(output)?;
        let [channels_out, per_group, ..] = weights.dims;
        if bias.as_ref().is_some_and(|bias| bias.len() != channels_out) || dims[1] != channels_out {
            return Err(format!("its weights, bias and result have not {channels_out} channels alike").into());
        }
        let depthwise = groups > 1 && per_group == 1 && channels_out == groups;
        let activation = match epilogue.activation {
            Some(OpActivation::Unary(unary)) => Some(Activation::Unary(unary)),
            Some(OpActivation::PRelu) => {
                let slopes = self.constant_floats(node, 4)?;
                let slopes = if slopes.len() == 1 { vec![slopes[0]; channels_out] } else { slopes };
                if slopes.len() != channels_out {
                    return Err(format!("{} slopes for {channels_out} channels", slopes.len()).into());
                }
                Some(Activation::PRelu(slopes.into()))
            }
            None => None,
        };
        let bias = bias.map(Arc::from);
        let conv_of = |from: &Pictures, to: &Pictures| Conv {
            // The first value of the node is its own, so its number is a key that is the same in every plan.
            key: output.index(),
            input: from.first.clone(),
            weights: Arc::new([]),
            bias: bias.clone(),
            depthwise,
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            pad: window.begin,
            activation: activation.clone(),
            residual: None,
            output: to.first.clone(),
        };
        if self.planes && depthwise && epilogue.residual.is_none() && !self.are_pictures(input, output) {
            let (from, view) = (self.as_it_lies(input, size)?, self.plain_output(output)?);
            let to = self.planes(&view, dims);
            let conv = Conv { weights: weights.values.clone(), ..conv_of(&from, &to) };
            if conv.fits_planes(self.block) && self.are_whole(&from) && self.are_whole(&to) {
                self.push_images(&conv, &from, None, &to)?;
                self.plains.insert(output, view);
                return Ok(());
            }
        }
        let from = if depthwise || groups > 1 || size[1] >= self.block || self.prefers.contains(&input) {
            self.blocked(input)?
        } else {
            self.as_it_lies(input, size)?
        };
        let residual = match epilogue.residual {
            Some(when) => Some((self.blocked(self.input(node, 3)?)?, when)),
            None => None,
        };
        let to = self.blocked_output(output, dims)?;
        let conv = conv_of(&from, &to);
        if depthwise || groups == 1 {
            let conv = Conv { weights: weights.values, ..conv };
            self.push_images(&conv, &from, residual.as_ref(), &to)?;
        } else {
            self.grouped(conv, weights, groups, &from, residual.as_ref(), &to)?;
        }
        self.is_at(output, to);
        Ok(())
    }

    /// Groups as convolutions of their own. Where a group's channels are no whole blocks, several go together, with zeros
    /// where one does not see the channels of another.
    fn grouped(
        &mut self,
        conv: Conv,
        weights: Weights,
        groups: usize,
        from: &Pictures,
        residual: Option<&(Pictures, crate::plan::Residual)>,
        to: &Pictures,
    ) -> Result<()> {
        let [channels_out, channels_in, rows, columns] = weights.dims;
        let (outs, taps) = (channels_out / groups, rows * columns);
        let whole = |together: &usize| {
            groups.is_multiple_of(*together)
                && (together * outs).is_multiple_of(self.block)
                && (together * channels_in).is_multiple_of(self.block)
        };
        let together = (1..groups).find(whole).unwrap_or(groups);
        let dense = volume(&[channels_out, channels_in * together, taps])?;
        self.make_up(dense)?;
        self.packed = self.packed.saturating_add(dense);
        for first in (0..groups).step_by(together) {
            let (ins, outs_together) = (channels_in * together, outs * together);
            let mut values = vec![0.0; outs_together * ins * taps];
            for group in 0..together {
                for o in 0..outs {
                    let source = ((first + group) * outs + o) * channels_in * taps;
                    let target = ((group * outs + o) * ins + group * channels_in) * taps;
                    values[target..][..channels_in * taps]
                        .copy_from_slice(&weights.values[source..][..channels_in * taps]);
                }
            }
            let range = first * outs..first * outs + outs_together;
            let activation = match &conv.activation {
                Some(Activation::PRelu(slopes)) => Some(Activation::PRelu(slopes[range.clone()].into())),
                other => other.clone(),
            };
            let part = Conv {
                // No other node's key: those are numbers of values.
                key: conv.key + (first / together) * self.graph.len(),
                weights: values.into(),
                bias: conv.bias.as_ref().map(|bias| bias[range.clone()].into()),
                activation,
                ..conv.clone()
            };
            let residual = residual.map(|(p, when)| (p.part(range.start, range.len()), *when));
            let from = from.part(first * channels_in, ins);
            self.push_images(&part, &from, residual.as_ref(), &to.part(range.start, range.len()))?;
        }
        Ok(())
    }

    fn push_images(
        &mut self,
        conv: &Conv,
        from: &Pictures,
        residual: Option<&(Pictures, crate::plan::Residual)>,
        to: &Pictures,
    ) -> Result<()> {
        for (image, (input, output)) in from.iter().zip(to.iter()).enumerate() {
            let residual = residual.map(|(pictures, when)| (pictures.image(image), *when));
            self.push(Action::Conv(Box::new(Conv { input, output, residual, ..conv.clone() })))?;
        }
        Ok(())
    }

    /// The value as pictures of single channels: as a convolution of few channels reads it best.
    fn as_it_lies(&mut self, id: ValueId, [images, channels, height, width]: [usize; 4]) -> Result<Pictures> {
        let view = self.plain(id)?;
        let forward = |view: &View| self.strides4(view).iter().all(|s| *s >= 0);
        let view = if forward(&view) {
            view
        } else {
            let dims = self.dims(id)?;
            let aside = self.allocate_temporary(self.kind(id)?, &dims)?;
            self.copy(&dims, view, aside.clone())?;
            aside
        };
        Ok(self.planes(&view, [images, channels, height, width]))
    }

    /// A view without backward strides as pictures of single channels.
    fn planes(&self, view: &View, [images, channels, height, width]: [usize; 4]) -> Pictures {
        let [image, channel, row, column] = self.strides4(view).map(|s| s as usize);
        let strides = [channel, row, column];
        let first = Picture { array: view.array, offset: view.offset, channels, height, width, block: 1, strides };
        Pictures { first, images, stride: image }
    }

    /// Whether pictures, and entries of their array, are whole blocks apart.
    fn are_whole(&self, pictures: &Pictures) -> bool {
        let len = self.arrays[pictures.first.array.index()].len;
        [len, pictures.stride].iter().all(|n| n.is_multiple_of(self.block))
    }

    /// Whether the input of a convolution is blocked pictures, or its output is wanted as such.
    fn are_pictures(&self, input: ValueId, output: ValueId) -> bool {
        let wants = |user: &User| match user {
            User::Output => false,
            User::Node(index) => self.graph.nodes[*index].outputs.iter().any(|id| self.prefers.contains(id)),
        };
        self.prefers.contains(&input)
            || self.pictures.contains_key(&input)
            || self.links.users(output).iter().any(wants)
    }

    /// The picture whose blocks of pixels the value has as channels, and where each channel is from.
    fn space_to_depth_before(&self, id: ValueId) -> Option<(ValueId, Blocks)> {
        let node = &self.graph.nodes[self.links.producer(id)?];
        let Op::IndexMap(IndexMap { split, perm }) = &node.op else { return None };
        let picture = node.input(0)?;
        // Images, channels, rows, rows of a block, columns, columns of a block.
        let &[n, c, h, a, w, b] = &fixed_shape(split)?[..] else { return None };
        let &[0, x, y, z, 2, 4] = &perm[..] else { return None };
        let (from, to) = (self.dims4(picture).ok()?, self.dims4(id).ok()?);
        let fits = a == b && from == [n, c, h * a, w * a] && to == [n, c * a * a, h, w];
        fits.then_some((picture, Blocks { side: a, channels: c, order: [x, y, z] }))
    }

    /// A transposed convolution is a convolution of the picture with zeros between its pixels, with the weights turned round
    /// (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, §4.6).
    pub(super) fn conv_transpose(&mut self, node: &Node) -> Result<()> {
        let Op::ConvTranspose { window, group, output_padding, .. } = &node.op else {
            return Err("it is no convolution".into());
        };
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (size, out) = (self.dims4(input)?, self.dims4(output)?);
        if size.contains(&0) || out.contains(&0) {
            return Err("a convolution of nothing".into());
        }
        let given = self.weights(node)?;
        let rank = self.dims(input)?.len() - 2;
        let plain = Window { auto_pad: AutoPad::Valid, ..window.clone() };
        let mut w = Self::window(&plain, &given.dims[4 - rank..], [1, 1], [1, 1])?;
        let groups = usize::try_from(*group).map_err(|_| "its groups can't be counted")?;
        let bias = node.input(2).map(|_| self.constant_floats(node, 2)).transpose()?;
        let spread = [0, 1].map(|axis| (size[axis + 2] - 1).saturating_mul(w.stride[axis]).saturating_add(1));
        let reach = [0, 1].map(|axis| w.kernel[axis].saturating_sub(1).saturating_mul(w.dilation[axis]));
        let before = match window.auto_pad {
            AutoPad::Explicit if node_has_no_shape(node) => {
                let pads = window.pads.get(..rank).unwrap_or_default();
                let at = |i: usize| pads.get(i).copied().unwrap_or(0) as usize;
                if rank == 1 { [0, at(0)] } else { [at(0), at(1)] }
            }
            _ => {
                // What the output lacks of the whole was taken away at both ends.
                let mut before = [0; 2];
                for axis in 0..2 {
                    // One dimension is a picture of one row.
                    let place = (axis + rank).checked_sub(2);
                    let extra = place.and_then(|i| output_padding.get(i)).copied().unwrap_or(0) as usize;
                    let whole = spread[axis].saturating_add(reach[axis]).saturating_add(extra);
                    let total = whole.saturating_sub(out[axis + 2]);
                    before[axis] = if window.auto_pad == AutoPad::SameUpper { total / 2 } else { total - total / 2 };
                }
                before
            }
        };
        let widened = [0, 1].map(|axis| out[axis + 2].saturating_add(reach[axis]));
        let widened = [size[0], size[1], widened[0], widened[1]];
        self.check_extent(&widened).map_err(|bytes| super::too_large("the picture with zeros between", bytes))?;
        self.make_up(widened[2] + widened[3] + given.values.len())?;
        // Zeros between pixels, and around them as the turned window needs.
        let mut picks = Vec::new();
        for axis in 0..2 {
            let lead = reach[axis] as isize - before[axis] as isize;
            let len = out[axis + 2] + reach[axis];
            let pick = |i: usize| {
                let at = i as isize - lead;
                let stride = w.stride[axis] as isize;
                let inside = at >= 0 && at % stride == 0 && at < spread[axis] as isize;
                if inside { (at / stride) as i32 } else { -1 }
            };
            picks.push(Taps::Pick((0..len).map(pick).collect()));
        }
        let [columns, rows] = [picks.pop(), picks.pop()];
        let (rows, columns) = (rows.ok_or("it has no rows")?, columns.ok_or("it has no columns")?);
        let from = self.blocked(input)?;
        let stuffed = self.new_pictures(input, widened)?;
        self.push(Action::Resample(Resample {
            dims: stuffed.dims().to_vec(),
            taps: vec![Taps::Same, Taps::Same, rows, columns, Taps::Same],
            fill: 0.0,
            input: from.view(),
            output: stuffed.view(),
        }))?;
        let weights = turned(&given, groups);
        (w.stride, w.begin) = ([1, 1], [0, 0]);
        let to = self.blocked_output(output, out)?;
        let [_, per_group, ..] = weights.dims;
        let depthwise = groups > 1 && per_group == 1 && weights.dims[0] == groups;
        let conv = Conv {
            key: output.index(),
            input: stuffed.first.clone(),
            weights: Arc::new([]),
            bias: bias.map(Into::into),
            depthwise,
            kernel: w.kernel,
            stride: w.stride,
            dilation: w.dilation,
            pad: w.begin,
            activation: None,
            residual: None,
            output: to.first.clone(),
        };
        if depthwise || groups == 1 {
            let conv = Conv { weights: weights.values, ..conv };
            self.push_images(&conv, &stuffed, None, &to)?;
        } else {
            self.grouped(conv, weights, groups, &stuffed, None, &to)?;
        }
        self.is_at(output, to);
        Ok(())
    }
}

/// A space to depth: how large its blocks are, and which of channel (1), row (3) and column (5) of a block varies slowest in
/// its channels.
struct Blocks {
    side: usize,
    channels: usize,
    order: [usize; 3],
}

/// Has the convolution read the picture before the space to depth: the same sums with windows and steps that are larger by the
/// side of a block.
fn widen(weights: &mut Weights, window: &mut Resolved, blocks: Blocks) {
    let Blocks { side, channels, order } = blocks;
    if window.dilation != [1, 1] {
        return;
    }
    let [outs, _, rows, columns] = weights.dims;
    let (wide_rows, wide_columns) = (rows * side, columns * side);
    let sizes = order.map(|axis| if axis == 1 { channels } else { side });
    let mut values = vec![0.0; weights.values.len()];
    for o in 0..outs {
        for folded in 0..channels * side * side {
            let index = [folded / (sizes[1] * sizes[2]), folded / sizes[2] % sizes[1], folded % sizes[2]];
            let at = |axis: usize| order.iter().position(|&a| a == axis).map_or(0, |i| index[i]);
            let (c, dy, dx) = (at(1), at(3), at(5));
            for y in 0..rows {
                for x in 0..columns {
                    let from = ((o * channels * side * side + folded) * rows + y) * columns + x;
                    let to = ((o * channels + c) * wide_rows + y * side + dy) * wide_columns + x * side + dx;
                    values[to] = weights.values[from];
                }
            }
        }
    }
    *weights = Weights { values: values.into(), dims: [outs, channels, wide_rows, wide_columns] };
    window.kernel = [wide_rows, wide_columns];
    window.stride = window.stride.map(|s| s * side);
    window.begin = window.begin.map(|p| p * side);
}

/// From input channels × output channels of a group to output × input channels of a group, rows and columns backwards.
fn turned(weights: &Weights, groups: usize) -> Weights {
    let [ins, outs, rows, columns] = weights.dims;
    let per_group = ins / groups;
    let mut values = vec![0.0; weights.values.len()];
    for i in 0..ins {
        for o in 0..outs {
            for y in 0..rows {
                for x in 0..columns {
                    let from = ((i * outs + o) * rows + y) * columns + x;
                    let out = i / per_group * outs + o;
                    let to = ((out * per_group + i % per_group) * rows + rows - 1 - y) * columns + columns - 1 - x;
                    values[to] = weights.values[from];
                }
            }
        }
    }
    Weights { values: values.into(), dims: [outs * groups, per_group, rows, columns] }
}

fn node_has_no_shape(node: &Node) -> bool {
    matches!(&node.op, Op::ConvTranspose { output_shape, .. } if output_shape.is_empty())
}
