//! Windows of convolutions and pools, along one axis: how ONNX counts them.

use nv_infer::testing::OnnxBuilder;
use proptest::prelude::*;

/// What lies where along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) pads: [usize; 2],
}

impl Axis {
    /// What the window covers, gaps and all.
    pub(super) fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    /// How many windows fit; `None` where not even one does.
    pub(super) fn windows(&self) -> Option<usize> {
        Some((self.size + self.pads[0] + self.pads[1]).checked_sub(self.extent())? / self.stride + 1)
    }

    /// Whether every window has something of the input. Of one that has not there is no largest and no mean.
    pub(super) fn all_see(&self) -> bool {
        (0..self.windows().unwrap_or(0)).all(|at| (0..self.kernel).any(|tap| self.source(at, tap).is_some()))
    }

    /// Where in the input the place `tap` of the window at `at` lies; `None` in the padding.
    pub(super) fn source(&self, at: usize, tap: usize) -> Option<usize> {
        let place = (at * self.stride + tap * self.dilation).checked_sub(self.pads[0])?;
        (place < self.size).then_some(place)
    }
}

/// Axes of which a window of at most `kernel` fits in. Padding stays below what the window covers, as pools ask for it.
pub(super) fn axis(size: std::ops::Range<usize>, kernel: usize, dilation: usize) -> impl Strategy<Value = Axis> {
    let parts = (size, 1..=kernel, 1..=3usize, 1..=dilation, any::<[prop::sample::Index; 2]>());
    parts
        .prop_map(|(size, kernel, stride, dilation, pads)| {
            let axis = Axis { size, kernel, stride, dilation, pads: [0; 2] };
            // At most half of it, so that no window lies wholly outside, and the larger pads are rare.
            Axis { pads: pads.map(|pad| pad.index(axis.extent() / 2 + 1)), ..axis }
        })
        .prop_filter("a window fits", |axis| axis.windows().is_some())
}

/// Gives the last node the attributes that say all this. They are optional in ONNX; exporters write them.
pub(super) fn attributes(builder: OnnxBuilder, axes: &[Axis; 2]) -> OnnxBuilder {
    let list = |part: fn(&Axis) -> usize| axes.iter().map(|axis| part(axis) as i64).collect::<Vec<_>>();
    builder
        .attribute_list("kernel_shape", &list(|a| a.kernel))
        .attribute_list("strides", &list(|a| a.stride))
        .attribute_list("pads", &[list(|a| a.pads[0]), list(|a| a.pads[1])].concat())
}

/// Gives the last node the dilations.
pub(super) fn dilations(builder: OnnxBuilder, axes: &[Axis; 2]) -> OnnxBuilder {
    builder.attribute_list("dilations", &axes.map(|axis| axis.dilation as i64))
}
