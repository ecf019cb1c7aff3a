//! Operators that move, repeat and leave out elements, or make tensors of a given shape.

use super::{Inputs, Shape, agree, axes_at, axis_of, known};
use crate::graph::fold::Content;
use crate::graph::op::{AspectRatio, Coordinates, Op, PadMode, Resize};
use crate::graph::size::{Size, shape_text};

/// From here on the end of a slice means "to the end": exporters write the largest 32- or 64-bit number.
const OPEN_END: i64 = i32::MAX as i64;

pub(super) fn infer(op: &Op, inputs: &Inputs<'_>) -> Shape {
    match op {
        Op::Reshape { allow_zero } => reshape(*allow_zero, inputs),
        Op::Flatten { axis } => {
            let shape = known!(inputs.shape(0)?);
            let axis = if *axis == shape.len() as i64 { shape.len() } else { axis_of(*axis, shape.len())? };
            Ok(Some(vec![Size::product(&shape[..axis])?, Size::product(&shape[axis..])?]))
        }
        Op::Transpose { perm } => {
            let shape = known!(inputs.shape(0)?);
            Ok(Some(permutation(perm.as_deref(), shape.len())?.into_iter().map(|axis| shape[axis].clone()).collect()))
        }
        Op::Squeeze => squeeze(inputs),
        Op::Unsqueeze => unsqueeze(inputs),
        Op::Concat { axis } => concat(*axis, inputs),
        Op::Slice => slice(inputs),
        Op::Gather { axis } => {
            let (data, indices) = (known!(inputs.shape(0)?), known!(inputs.shape(1)?));
            let axis = axis_of(*axis, data.len())?;
            if let (Some(n), Some(indices)) = (data[axis].as_fixed(), inputs.ints(1))
                && let Some(index) = indices.iter().find(|i| !(-n..n).contains(i))
            {
                return Err(format!("index {index} along axis {axis} of {}", shape_text(data)));
            }
            Ok(Some([&data[..axis], indices, &data[axis + 1..]].concat()))
        }
        Op::Pad(mode) => pad(*mode, inputs),
        Op::Resize(resize) => resized(resize, inputs),
        Op::Expand => {
            let (shape, to) = (known!(inputs.shape(0)?), known!(inputs.sizes(1)));
            positive(to)?;
            super::broadcast(&[Some(shape), Some(to)])
        }
        Op::Tile => {
            let (shape, repeats) = (known!(inputs.shape(0)?), known!(inputs.sizes(1)));
            if shape.len() != repeats.len() {
                return Err(format!("{} repeats of {}", repeats.len(), shape_text(shape)));
            }
            positive(repeats)?;
            shape.iter().zip(repeats).map(|(d, n)| d.times(n)).collect::<Result<_, _>>().map(Some)
        }
        Op::Shape { start, end } => {
            let rank = known!(inputs.shape(0)?).len();
            let (start, end) = span(*start, *end, rank);
            Ok(Some(vec![end.saturating_sub(start).into()]))
        }
        Op::ConstantOfShape(_) => {
            let shape = known!(inputs.sizes(0));
            positive(shape)?;
            Ok(Some(shape.to_vec()))
        }
        Op::Range => {
            if let (Some(start), Some(limit), Some(delta)) = (inputs.floats(0), inputs.floats(1), inputs.floats(2)) {
                let (&[start], &[limit], &[delta]) = (start, limit, delta) else {
                    return Err("a bound is not one number".into());
                };
                let steps = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil();
                // Of no steps there is no number: NaN.
                return whole(if steps < 0.0 { 0.0 } else { steps }).map(|count| Some(vec![Size::fixed(count)]));
            }
            let (start, limit, delta) = (known!(inputs.sizes(0)), known!(inputs.sizes(1)), known!(inputs.sizes(2)));
            let ([start], [limit], [delta]) = (start, limit, delta) else {
                return Err("a bound is not one number".into());
            };
            match (start.as_fixed(), limit.as_fixed(), delta.as_fixed()) {
                (.., Some(0)) => Err("steps of 0".into()),
                (Some(start), Some(limit), Some(step)) => Ok(Some(vec![Size::fixed(count(start, limit, step))])),
                (_, _, Some(1)) => Ok(Some(vec![limit.minus(start)?]).filter(|shape| shape[0].at_least(0))),
                _ => Ok(None),
            }
        }
        Op::DepthToSpace { block, .. } => {
            let [n, c, h, w] = known!(inputs.shape(0)?) else { return Err("four dimensions are needed".into()) };
            let area = Size::fixed(*block).times(&Size::fixed(*block))?;
            let c = c.divided_evenly(&area).ok_or_else(|| format!("{c} channels in blocks of {block}×{block}"))?;
            let block = Size::fixed(*block);
            Ok(Some(vec![n.clone(), c, h.times(&block)?, w.times(&block)?]))
        }
        Op::SpaceToDepth { block } => {
            let [n, c, h, w] = known!(inputs.shape(0)?) else { return Err("four dimensions are needed".into()) };
            let size = Size::fixed(*block);
            let part = |d: &Size| match (d.divided_evenly(&size), d.as_fixed()) {
                (Some(part), _) => Ok(part),
                (None, Some(d)) => Err(format!("{d} in blocks of {block}")),
                (None, None) => d.divided_down(*block),
            };
            Ok(Some(vec![n.clone(), c.times(&size)?.times(&size)?, part(h)?, part(w)?]))
        }
        _ => Ok(None),
    }
}

/// The permutation, checked; reversed where none is given.
pub(in crate::graph) fn permutation(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, String> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let axes = perm.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if sorted.into_iter().eq(0..rank) { Ok(axes) } else { Err(format!("{perm:?} permutes {rank} dimensions")) }
}

/// The dimensions that Shape gives, of a tensor with `rank` of them.
pub(in crate::graph) fn span(start: i64, end: Option<i64>, rank: usize) -> (usize, usize) {
    let signed = rank as i64;
    let clamp = |n: i64| (if n < 0 { n.saturating_add(signed) } else { n }).clamp(0, signed) as usize;
    (clamp(start), end.map_or(rank, clamp))
}

pub(super) fn split(axis: i64, inputs: &Inputs<'_>, count: usize) -> Result<Vec<Option<Vec<Size>>>, String> {
    let Some(shape) = inputs.shape(0)? else { return Ok(vec![None; count]) };
    let axis = axis_of(axis, shape.len())?;
    let sizes: Vec<Size> = match (inputs.optional(1).is_some(), inputs.sizes(1)) {
        (true, None) => return Ok(vec![None; count]),
        (_, Some(sizes)) => {
            let sum = sizes.iter().try_fold(Size::fixed(0), |sum, n| sum.plus(n))?;
            agree(&sum, &shape[axis])?;
            sizes.to_vec()
        }
        (false, None) => {
            // Equal parts, the last one smaller where they don't come out even.
            let n = i64::try_from(count.max(1)).unwrap_or(i64::MAX);
            let part = shape[axis].offset(n - 1)?.divided_down(n)?;
            let last = shape[axis].minus(&part.times(&Size::fixed(n - 1))?)?;
            std::iter::repeat_n(part, count.saturating_sub(1)).chain([last]).collect()
        }
    };
    if sizes.len() != count || sizes.iter().any(|s| s.as_fixed().is_some_and(|n| n < 0)) {
        return Err(format!("{} into {count} parts of {}", shape_text(shape), shape_text(&sizes)));
    }
    let part = |size: &Size| {
        let mut part = shape.to_vec();
        part[axis] = size.clone();
        Some(part)
    };
    Ok(sizes.iter().map(part).collect())
}

fn positive(sizes: &[Size]) -> Result<(), String> {
    match sizes.iter().find(|s| s.as_fixed().is_some_and(|n| n < 0)) {
        Some(size) => Err(format!("a shape with {size}")),
        None => Ok(()),
    }
}

fn reshape(allow_zero: bool, inputs: &Inputs<'_>) -> Shape {
    let (shape, to) = (known!(inputs.shape(0)?), known!(inputs.sizes(1)));
    let mismatch = || format!("{} to {}", shape_text(shape), shape_text(to));
    let mut out = Vec::with_capacity(to.len());
    let mut open = None;
    for (axis, size) in to.iter().enumerate() {
        out.push(match size.as_fixed() {
            Some(0) if !allow_zero => shape.get(axis).ok_or_else(mismatch)?.clone(),
            Some(-1) if open.is_none() => {
                open = Some(axis);
                Size::fixed(1)
            }
            Some(n) if n < 0 => return Err(mismatch()),
            _ => size.clone(),
        });
    }
    let (have, named) = (Size::product(shape)?, Size::product(&out)?);
    if open.is_some() && named.is(0) {
        // What -1 stands for could be anything.
        return Err(mismatch());
    }
    match open {
        Some(axis) => match (have.divided_evenly(&named), have.as_fixed(), named.as_fixed()) {
            (Some(rest), ..) => out[axis] = rest,
            (None, Some(_), Some(_)) => return Err(mismatch()),
            _ => return Ok(None),
        },
        None if have.as_fixed().is_some() && named.as_fixed().is_some() && have != named => return Err(mismatch()),
        None => {}
    }
    Ok(Some(out))
}

fn squeeze(inputs: &Inputs<'_>) -> Shape {
    let shape = known!(inputs.shape(0)?);
    if inputs.optional(1).is_none() {
        // A size that is open could turn out to be 1; models that leave the axes out fix their sizes.
        return Ok(Some(shape.iter().filter(|d| !d.is(1)).cloned().collect()));
    }
    let axes = known!(axes_at(inputs, 1, shape.len())?);
    if let Some(axis) = axes.iter().find(|&&a| shape[a].as_fixed().is_some_and(|n| n != 1)) {
        return Err(format!("axis {axis} of {} is not 1", shape_text(shape)));
    }
    Ok(Some(super::without(shape, &axes, false)))
}

fn unsqueeze(inputs: &Inputs<'_>) -> Shape {
    let shape = known!(inputs.shape(0)?);
    let count = known!(inputs.get(1)?.content.as_ref()).len();
    let axes = known!(axes_at(inputs, 1, shape.len() + count)?);
    if axes.len() != count {
        return Err("an axis is named twice".into());
    }
    let mut old = shape.iter().cloned();
    let dims = (0..shape.len() + count).map(|i| if axes.contains(&i) { Some(1.into()) } else { old.next() });
    Ok(dims.collect())
}

fn concat(axis: i64, inputs: &Inputs<'_>) -> Shape {
    let mut out = known!(inputs.shape(0)?).to_vec();
    let axis = axis_of(axis, out.len())?;
    for index in 1..inputs.0.len() {
        let shape = known!(inputs.shape(index)?);
        let mismatch =
            |e: String| format!("input {} of {} after {}: {e}", index + 1, shape_text(shape), shape_text(&out));
        if shape.len() != out.len() {
            return Err(mismatch("another number of dimensions".into()));
        }
        let mut next = Vec::with_capacity(out.len());
        for (i, (a, b)) in out.iter().zip(shape).enumerate() {
            next.push(if i == axis { a.plus(b)? } else { agree(a, b).map_err(mismatch)? });
        }
        out = next;
    }
    Ok(Some(out))
}

fn slice(inputs: &Inputs<'_>) -> Shape {
    let mut shape = known!(inputs.shape(0)?).to_vec();
    let (starts, ends) = (known!(inputs.ints(1)), known!(inputs.sizes(2)));
    let axes = match inputs.optional(3) {
        Some(_) => known!(inputs.ints(3)),
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match inputs.optional(4) {
        Some(_) => known!(inputs.ints(4)),
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in number".into());
    }
    let axes = axes.iter().map(|&axis| axis_of(axis, shape.len())).collect::<Result<Vec<_>, _>>()?;
    distinct(&axes)?;
    for (i, axis) in axes.into_iter().enumerate() {
        shape[axis] = known!(sliced(&shape[axis], starts[i], &ends[i], steps[i])?);
    }
    Ok(Some(shape))
}

/// How much of a dimension a slice leaves.
fn sliced(size: &Size, start: i64, end: &Size, step: i64) -> Result<Option<Size>, String> {
    if step == 0 {
        return Err("a slice in steps of 0".into());
    }
    if let (Some(n), Some(end)) = (size.as_fixed(), end.as_fixed()) {
        let (start, end) = bounds(n, start, end, step);
        return Ok(Some(Size::fixed(count(start, end, step))));
    }
    // Of an open dimension: what begins at either end of it and is surely inside.
    if step < 1 || !size.at_least(start.checked_abs().ok_or("a slice from the least number there is")?) {
        return Ok(None);
    }
    let from = if start < 0 { size.offset(start)? } else { Size::fixed(start) };
    let to = match end.as_fixed() {
        Some(n) if n >= OPEN_END => size.clone(),
        Some(n) if n < 0 && size.at_least(n.saturating_neg()) => size.offset(n)?,
        Some(n) if n >= 0 && size.at_least(n) => Size::fixed(n),
        None if end == size => size.clone(),
        _ => return Ok(None),
    };
    let left = to.minus(&from)?;
    if !left.at_least(0) {
        return Ok(None);
    }
    left.offset(step - 1)?.divided_down(step).map(Some)
}

/// Where a slice of `n` elements begins and ends, as ONNX clamps it.
pub(in crate::graph) fn bounds(n: i64, start: i64, end: i64, step: i64) -> (i64, i64) {
    let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    if step > 0 {
        (wrap(start).clamp(0, n), wrap(end).clamp(0, n))
    } else {
        (wrap(start).clamp(-1, n - 1), wrap(end).clamp(-1, n - 1))
    }
}

/// How many elements lie between the bounds.
fn count(start: i64, end: i64, step: i64) -> i64 {
    let (span, step) = (i128::from(end) - i128::from(start), i128::from(step));
    let count = if step > 0 { (span + step - 1).div_euclid(step) } else { (-span - step - 1).div_euclid(-step) };
    i64::try_from(count.max(0)).unwrap_or(i64::MAX)
}

fn pad(mode: PadMode, inputs: &Inputs<'_>) -> Shape {
    let mut shape = known!(inputs.shape(0)?).to_vec();
    let pads = known!(inputs.ints(1));
    let axes = known!(ordered_axes(inputs, 3, shape.len())?);
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    distinct(&axes)?;
    for (i, &axis) in axes.iter().enumerate() {
        let (begin, end) = (pads[i], pads[i + axes.len()]);
        if let Some(n) = shape[axis].as_fixed() {
            let refused = || format!("axis {axis} of {}: {mode:?} pads of {begin} and {end}", shape_text(&shape));
            // What is cut off at an end must be there, and what is repeated too.
            let most = match mode {
                PadMode::Constant => i64::MAX,
                PadMode::Reflect => n.saturating_sub(1),
                PadMode::Edge if n > 0 => i64::MAX,
                PadMode::Edge => 0,
                PadMode::Wrap => n,
            };
            if [begin, end].iter().any(|pad| !(n.saturating_neg()..=most).contains(pad)) {
                return Err(refused());
            }
        }
        shape[axis] = shape[axis].offset(begin)?.offset(end)?;
        if shape[axis].as_fixed().is_some_and(|n| n < 0) {
            return Err(format!("axis {axis} padded to {}", shape[axis]));
        }
    }
    Ok(Some(shape))
}

/// That no axis is named twice.
fn distinct(axes: &[usize]) -> Result<(), String> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("axis {} is named twice", pair[0])),
        None => Ok(()),
    }
}

/// The axes at an input in its order; all where they are left out.
pub(in crate::graph) fn ordered_axes(
    inputs: &Inputs<'_>,
    index: usize,
    rank: usize,
) -> Result<Option<Vec<usize>>, String> {
    if inputs.optional(index).is_none() {
        return Ok(Some((0..rank).collect()));
    }
    known!(inputs.ints(index)).iter().map(|&a| axis_of(a, rank)).collect::<Result<_, _>>().map(Some)
}

fn resized(resize: &Resize, inputs: &Inputs<'_>) -> Shape {
    let mut shape = known!(inputs.shape(0)?).to_vec();
    let axes = match &resize.axes[..] {
        [] => (0..shape.len()).collect(),
        axes => axes.iter().map(|&a| axis_of(a, shape.len())).collect::<Result<Vec<_>, _>>()?,
    };
    distinct(&axes)?;
    let fits = |n: usize| {
        if n == axes.len() { Ok(()) } else { Err(format!("{n} scales or sizes for {} axes", axes.len())) }
    };
    if inputs.optional(3).is_some() {
        let sizes = known!(inputs.sizes(3));
        fits(sizes.len())?;
        positive(sizes)?;
        if resize.aspect != AspectRatio::Stretch {
            return one_scale(resize.aspect, shape, &axes, sizes);
        }
        axes.iter().zip(sizes).for_each(|(&axis, size)| shape[axis] = size.clone());
        return Ok(Some(shape));
    }
    if resize.coordinates == Coordinates::TfCropAndResize {
        return Ok(None);
    }
    let Some(scales) = inputs.optional(2) else { return Err("neither scales nor sizes are there".into()) };
    let scales = known!(scales.content.as_ref().and_then(Content::as_floats));
    fits(scales.len())?;
    for (&axis, &scale) in axes.iter().zip(scales) {
        shape[axis] = known!(scaled(&shape[axis], scale)?);
    }
    Ok(Some(shape))
}

/// The shape that one scale for every axis gives.
fn one_scale(aspect: AspectRatio, mut shape: Vec<Size>, axes: &[usize], sizes: &[Size]) -> Shape {
    let mut scale: Option<f64> = None;
    for (&axis, size) in axes.iter().zip(sizes) {
        let (from, to) = (known!(shape[axis].as_fixed()), known!(size.as_fixed()));
        let own = to as f64 / from as f64;
        let keeps = |best: f64| if aspect == AspectRatio::NotLarger { best <= own } else { best >= own };
        scale = Some(scale.filter(|&best| keeps(best)).unwrap_or(own));
    }
    let Some(scale) = scale else { return Ok(Some(shape)) };
    if !(scale > 0.0 && scale <= MAX_SCALE) {
        return Err(format!("a scale of {scale}"));
    }
    for &axis in axes {
        let from = known!(shape[axis].as_fixed());
        shape[axis] = Size::fixed(whole((scale * from as f64 + 0.5).floor())?);
    }
    Ok(Some(shape))
}

/// The largest scale of a Resize: far beyond any model.
const MAX_SCALE: f64 = 65_536.0;

/// A size that was computed with fractions.
fn whole(size: f64) -> Result<i64, String> {
    // Up to there every whole number is a double.
    if (0.0..=9_007_199_254_740_992.0).contains(&size) { Ok(size as i64) } else { Err(format!("a size of {size}")) }
}

fn scaled(size: &Size, scale: f32) -> Result<Option<Size>, String> {
    if !(scale > 0.0 && f64::from(scale) <= MAX_SCALE) {
        return Err(format!("a scale of {scale}"));
    }
    let inverse = scale.recip();
    match size.as_fixed() {
        _ if scale.fract() == 0.0 => size.times(&Size::fixed(scale as i64)).map(Some),
        Some(n) => Ok(Some(Size::fixed(whole(f64::from((n as f32 * scale).floor()))?))),
        None if inverse.fract() == 0.0 && f64::from(inverse) <= MAX_SCALE => {
            size.divided_down(inverse as i64).map(Some)
        }
        None => Ok(None),
    }
}
