//! Convolutions and pools.

use super::{Inputs, Shape, agree, known};
use crate::graph::op::{AutoPad, Window};
use crate::graph::size::{Size, shape_text};

/// The largest number in a window's attributes: far beyond any model, and small enough to compute with.
const MAX: i64 = 1 << 30;

/// A window with every number filled in.
struct Resolved {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    begins: Vec<i64>,
    ends: Vec<i64>,
}

impl Resolved {
    /// From the attributes and, where those leave it out, the kernel of the weights.
    fn new(window: &Window, rank: usize, of_weights: Option<&[Size]>) -> Result<Self, String> {
        let filled = |what: &str, values: &[i64], len: usize, default: i64| match values.len() {
            _ if values.iter().any(|v| !(0..=MAX).contains(v)) => Err(format!("{what} is {values:?}")),
            0 => Ok(vec![default; len]),
            n if n == len => Ok(values.to_vec()),
            n => Err(format!("{what} has {n} values, {len} are needed")),
        };
        let mut kernel = window.kernel.clone();
        if let Some(weights) = of_weights {
            let sizes = weights.iter().map(Size::as_fixed).collect::<Option<Vec<_>>>();
            let sizes = sizes.ok_or("its weights' shape is not known")?;
            if !kernel.is_empty() && kernel != sizes {
                return Err(format!("kernel_shape is {kernel:?}, the weights have {sizes:?}"));
            }
            if sizes.iter().any(|size| *size < 1) {
                return Err(format!("its weights have a kernel of {sizes:?}"));
            }
            kernel = sizes;
        }
        if kernel.is_empty() {
            return Err("it has no kernel_shape".into());
        }
        let pads = match window.auto_pad {
            AutoPad::Explicit => filled("pads", &window.pads, 2 * rank, 0)?,
            _ => vec![0; 2 * rank],
        };
        Ok(Self {
            kernel: filled("kernel_shape", &kernel, rank, 1)?,
            strides: filled("strides", &window.strides, rank, 1)?,
            dilations: filled("dilations", &window.dilations, rank, 1)?,
            begins: pads[..rank].to_vec(),
            ends: pads[rank..].to_vec(),
        })
    }

    /// How far the window reaches along an axis.
    fn extent(&self, axis: usize) -> i64 {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    fn slid_over(&self, window: &Window, axis: usize, size: &Size) -> Result<Size, String> {
        let stride = self.strides[axis];
        if matches!(window.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            return size.offset(stride - 1)?.divided_down(stride);
        }
        let (begin, end, extent) = (self.begins[axis], self.ends[axis], self.extent(axis));
        let room = begin + end - extent;
        let mut slid = size.offset(room + if window.ceil { 2 * stride - 1 } else { stride })?.divided_down(stride)?;
        // Rounded up, a last window may begin behind the picture: it is left out.
        if window.ceil && end + stride > extent {
            let (Some(count), Some(n)) = (slid.as_fixed(), size.as_fixed()) else {
                return Err("sizes that round up over an open dimension can't be followed".into());
            };
            if (count - 1).saturating_mul(stride) >= n.saturating_add(begin) {
                slid = Size::fixed(count - 1);
            }
        }
        match slid.as_fixed() {
            Some(n) if n < 1 => Err(format!("a window of {extent} over {size} with {begin}+{end} of padding")),
            _ => Ok(slid),
        }
    }
}

pub(super) fn conv(window: &Window, group: i64, inputs: &Inputs<'_>) -> Shape {
    let (x, w) = (known!(inputs.shape(0)?), known!(inputs.shape(1)?));
    let rank = spatial(x, w)?;
    let resolved = Resolved::new(window, rank, Some(&w[2..]))?;
    let takes = w[1].times(&Size::fixed(group))?;
    agree(&x[1], &takes)
        .map_err(|e| format!("{} channels of input in {group} groups, weights {}: {e}", x[1], shape_text(w)))?;
    some_channels(w)?;
    if w[0].as_fixed().is_some_and(|n| n % group != 0) {
        return Err(format!("{} channels of output in {group} groups", w[0]));
    }
    bias(inputs, &w[0])?;
    let mut shape = vec![x[0].clone(), w[0].clone()];
    for (axis, size) in x[2..].iter().enumerate() {
        shape.push(resolved.slid_over(window, axis, size)?);
    }
    Ok(Some(shape))
}

pub(super) fn pool(window: &Window, inputs: &Inputs<'_>) -> Shape {
    let x = known!(inputs.shape(0)?);
    let rank = x.len().checked_sub(2).filter(|rank| *rank > 0);
    let rank = rank.ok_or_else(|| format!("a pool over {}", shape_text(x)))?;
    let resolved = Resolved::new(window, rank, None)?;
    let mut shape = x[..2].to_vec();
    for (axis, size) in x[2..].iter().enumerate() {
        let (begin, end, extent) = (resolved.begins[axis], resolved.ends[axis], resolved.extent(axis));
        if begin.max(end) >= extent {
            // There is nothing to take the largest or the mean of.
            return Err(format!("a window of {extent} lies wholly in a padding of {begin}+{end}"));
        }
        shape.push(resolved.slid_over(window, axis, size)?);
    }
    Ok(Some(shape))
}

pub(super) fn conv_transpose(
    window: &Window,
    group: i64,
    output_padding: &[i64],
    output_shape: &[i64],
    inputs: &Inputs<'_>,
) -> Shape {
    let (x, w) = (known!(inputs.shape(0)?), known!(inputs.shape(1)?));
    let rank = spatial(x, w)?;
    let resolved = Resolved::new(window, rank, Some(&w[2..]))?;
    agree(&x[1], &w[0]).map_err(|e| format!("{} channels of input, weights {}: {e}", x[1], shape_text(w)))?;
    some_channels(w)?;
    if w[0].as_fixed().is_some_and(|n| n % group != 0) {
        return Err(format!("{} channels of input in {group} groups", w[0]));
    }
    let channels = w[1].times(&Size::fixed(group))?;
    bias(inputs, &channels)?;
    let mut shape = vec![x[0].clone(), channels];
    // Some files give the whole shape, some what follows the channels.
    let given = output_shape.get(output_shape.len().saturating_sub(rank)..).filter(|s| s.len() == rank && rank > 0);
    for (axis, size) in x[2..].iter().enumerate() {
        let stride = resolved.strides[axis];
        let extra = output_padding.get(axis).copied().unwrap_or(0);
        if !(0..=MAX).contains(&extra) {
            return Err(format!("output_padding is {output_padding:?}"));
        }
        let same = matches!(window.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        let out = match given {
            Some(sizes) if sizes[axis] > MAX => return Err(format!("output_shape is {output_shape:?}")),
            Some(sizes) => Size::fixed(sizes[axis]),
            None if same => size.times(&Size::fixed(stride))?,
            None => {
                let rest = resolved.extent(axis) + extra - resolved.begins[axis] - resolved.ends[axis] - stride;
                size.times(&Size::fixed(stride))?.offset(rest)?
            }
        };
        match out.as_fixed() {
            Some(n) if n < 1 => return Err(format!("an output of {n} along spatial axis {axis}")),
            _ => shape.push(out),
        }
    }
    Ok(Some(shape))
}

/// That weights are there to be summed over: without any, a kernel could have every size.
fn some_channels(weights: &[Size]) -> Result<(), String> {
    match weights[..2].iter().any(|channels| channels.is(0)) {
        true => Err(format!("weights of {} without channels", shape_text(weights))),
        false => Ok(()),
    }
}

/// That the bias, if there is one, has a number for each channel of the output.
fn bias(inputs: &Inputs<'_>, channels: &Size) -> Result<(), String> {
    if inputs.optional(2).is_none() {
        return Ok(());
    }
    match inputs.shape(2)? {
        Some([found]) => agree(found, channels).map(drop).map_err(|e| format!("its bias: {e}")),
        Some(bias) => Err(format!("a bias of {}, {channels} is needed", shape_text(bias))),
        None => Ok(()),
    }
}

/// How many spatial axes input and weights have.
fn spatial(x: &[Size], w: &[Size]) -> Result<usize, String> {
    match x.len().checked_sub(2) {
        Some(rank) if rank > 0 && w.len() == x.len() => Ok(rank),
        _ => Err(format!("an input of {} and weights of {}", shape_text(x), shape_text(w))),
    }
}
