//! Resize: which samples of the input each output takes, with which weights. All modes and coordinate systems of ONNX (operator
//! set 19, <https://onnx.ai/onnx/operators/onnx__Resize.html>) come down to such tables.

use super::{Lowering, Result};
use crate::graph::ir::Node;
use crate::graph::op::{Coordinates, Resize, ResizeMode, Rounding};
use crate::graph::shapes::axis_of;
use crate::plan::Taps;

impl Lowering<'_> {
    pub(super) fn resize(&mut self, node: &Node, resize: &Resize) -> Result<()> {
        let (input, output) = (self.input(node, 0)?, node.outputs[0]);
        let (dims, out) = (self.dims(input)?, self.dims(output)?);
        let axes: Vec<usize> = match &resize.axes[..] {
            [] => (0..dims.len()).collect(),
            axes => axes.iter().map(|&a| axis_of(a, dims.len())).collect::<std::result::Result<_, _>>()?,
        };
        // Where the file gives sizes, scales follow from them.
        let scales = match node.input(2).and_then(|id| self.graph.constant(id)).and_then(|c| c.to_floats()) {
            Some(scales) if !scales.is_empty() && node.input(3).is_none() => Some(scales),
            _ => None,
        };
        let crop = match resize.coordinates {
            Coordinates::TfCropAndResize => Some(self.constant_floats(node, 1)?),
            _ => None,
        };
        let mut taps = vec![Taps::Same; dims.len()];
        for (place, &axis) in axes.iter().enumerate() {
            let (from, to) = (dims[axis], out[axis]);
            let scale = scales.as_ref().and_then(|s| s.get(place).copied()).unwrap_or(to as f32 / from as f32);
            let roi = crop.as_ref().map(|roi| {
                let at = |i: usize| roi.get(i).copied().unwrap_or(if i < axes.len() { 0.0 } else { 1.0 });
                (at(place), at(place + axes.len()))
            });
            let line = Line { from, to, scale, roi };
            if !(from == to && scale == 1.0 && roi.is_none_or(|roi| roi == (0.0, 1.0))) {
                taps[axis] = self.taps(&line, resize)?;
            }
        }
        self.resample(input, output, taps, resize.extrapolation)
    }
}

impl Lowering<'_> {
    fn taps(&mut self, line: &Line, resize: &Resize) -> Result<Taps> {
        let width = line.width(resize);
        self.make_up(line.to.saturating_mul(width).saturating_mul(2))?;
        line.taps(width, resize)
    }
}

/// One dimension that is resized.
struct Line {
    from: usize,
    to: usize,
    scale: f32,
    /// Beginning and end of what is cropped, as parts of the whole.
    roi: Option<(f32, f32)>,
}

impl Line {
    /// How many samples of the input each output takes.
    fn width(&self, resize: &Resize) -> usize {
        match resize.mode {
            ResizeMode::Nearest => 1,
            ResizeMode::Linear => self.reach(1.0, resize.antialias).saturating_mul(2),
            ResizeMode::Cubic => self.reach(2.0, resize.antialias).saturating_mul(2),
        }
    }

    fn taps(&self, width: usize, resize: &Resize) -> Result<Taps> {
        if self.from == 0 {
            return Err("it resizes what has no elements".into());
        }
        if width > 4096 {
            return Err(format!("a resize of {} to {} takes {width} samples for each", self.from, self.to).into());
        }
        let (mut index, mut weight) = (Vec::with_capacity(width * self.to), Vec::with_capacity(width * self.to));
        for i in 0..self.to {
            let at = self.source(i, resize.coordinates);
            let outside = self.roi.is_some() && !(0.0..=(self.from - 1) as f64).contains(&at);
            if outside {
                index.extend(std::iter::repeat_n(-1, width));
                weight.extend(std::iter::repeat_n(0.0, width));
            } else if resize.mode == ResizeMode::Nearest {
                index.push(self.inside(nearest(at, resize.rounding)));
            } else {
                self.blend(at, width, resize, &mut index, &mut weight);
            }
        }
        Ok(match resize.mode {
            ResizeMode::Nearest => Taps::Pick(index.into()),
            _ => Taps::Blend { width, index: index.into(), weight: weight.into() },
        })
    }

    /// How many samples on each side a filter of this radius covers: more, where it is stretched against aliasing.
    fn reach(&self, radius: f64, antialias: bool) -> usize {
        if antialias && self.scale < 1.0 {
            (1.0 - ((-radius / f64::from(self.scale)).floor() + 1.0)) as usize
        } else {
            radius as usize
        }
    }

    /// Where in the input the output's index lies.
    fn source(&self, i: usize, coordinates: Coordinates) -> f64 {
        let (x, scale) = (i as f64, f64::from(self.scale));
        let (from, to) = (self.from as f64, self.to as f64);
        match coordinates {
            Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = to / (scale * from);
                from / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if self.to > 1 => (x + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::AlignCorners if self.to > 1 => {
                // By the size that was asked for, before it was rounded down.
                let wanted = if self.roi.is_none() { scale * from } else { to };
                if wanted > 1.0 { x * (from - 1.0) / (wanted - 1.0) } else { 0.0 }
            }
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => x / scale,
            Coordinates::TfCropAndResize => {
                let (start, end) = self.roi.map_or((0.0, 1.0), |(a, b)| (f64::from(a), f64::from(b)));
                if self.to > 1 {
                    start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0)
                } else {
                    0.5 * (start + end) * (from - 1.0)
                }
            }
        }
    }

    fn inside(&self, at: f64) -> i32 {
        at.clamp(0.0, (self.from - 1) as f64) as i32
    }

    /// The samples around `at`, half of them at or before it, with weights whose sum is 1.
    fn blend(&self, at: f64, width: usize, resize: &Resize, index: &mut Vec<i32>, weight: &mut Vec<f32>) {
        // A whole number is the end of the interval before it: its own sample has all the weight either way.
        let base = at.ceil() - 1.0;
        let squeeze = if resize.antialias { f64::from(self.scale).min(1.0) } else { 1.0 };
        let first = base - (width / 2 - 1) as f64;
        let mut weights: Vec<f64> = (0..width)
            .map(|k| {
                let distance = (first + k as f64 - at).abs() * squeeze;
                match resize.mode {
                    ResizeMode::Cubic => cubic(distance, f64::from(resize.cubic)),
                    _ => (1.0 - distance).max(0.0),
                }
            })
            .collect();
        if resize.exclude_outside {
            for (k, w) in weights.iter_mut().enumerate() {
                if !(0.0..self.from as f64).contains(&(first + k as f64)) {
                    *w = 0.0;
                }
            }
        }
        let sum: f64 = weights.iter().sum();
        for (k, w) in weights.iter().enumerate() {
            index.push(self.inside(first + k as f64));
            weight.push((w / sum) as f32);
        }
    }
}

fn nearest(at: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::PreferFloor => (at - 0.5).ceil(),
        Rounding::PreferCeil => (at + 0.5).floor(),
        Rounding::Floor => at.floor(),
        Rounding::Ceil => at.ceil(),
    }
}

/// Keys, "Cubic convolution interpolation for digital image processing", 1981, equation 4, with the parameter `a`.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
