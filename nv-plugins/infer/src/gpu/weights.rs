use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::gpu::context::Context;
use crate::gpu::error::GpuError;
use crate::gpu::tuning::Space;
use crate::plan::{Activation, Conv};

/// The weights of a model's convolutions on a device, in the order in which kernels read them. All plans of the model, which
/// differ in the sizes of pictures, share them.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    packed: Mutex<HashMap<Key, wgpu::Buffer>>,
}

/// [`Conv::key`], the order, and where.
type Key = (usize, Packing, Space);

/// An order of weights. Everything is in fours, of which eight lanes may read eight at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packing {
    /// By blocks of `tile` output channels; in one, by the steps of the sum; in one, `inner` input numbers one after another,
    /// each with the weights that it has for the tile. Steps are rounded up to what eight lanes read at once.
    ///
    /// A step is a tap of a block of four input channels (`inner` is 4, taps vary faster than blocks); or of a planar picture
    /// a row of taps of a channel, or with `inner` 1 a single one.
    Tiles { tile: usize, inner: usize, planar: bool },
    /// What goes with the tiles: by blocks of `tile` output channels their bias, or zeros; in another eight or more, where
    /// there are any, their slopes.
    Tails { tile: usize },
    /// By blocks of four channels; in one, by taps, then the bias and the slopes.
    Depthwise,
    /// By channels; in one, the taps, then the bias and the slope, rounded up to fours.
    Planes,
}

impl Packing {
    /// Fours in a step.
    pub(super) fn step_len(tile: usize, inner: usize) -> usize {
        (tile * inner / 4).next_multiple_of(8)
    }

    /// Steps of the sum.
    pub(super) fn steps(conv: &Conv, inner: usize, planar: bool) -> usize {
        let taps = conv.kernel[0] * conv.kernel[1];
        if planar { conv.input.channels * taps / inner } else { conv.input.channels.div_ceil(4) * taps }
    }

    /// How many fours there are in all.
    pub(super) fn len(self, conv: &Conv) -> usize {
        match self {
            Self::Tiles { tile, inner, planar } => {
                let tiles = conv.output.channels.div_ceil(tile);
                tiles * Self::steps(conv, inner, planar) * Self::step_len(tile, inner)
            }
            Self::Tails { tile } => conv.output.channels.div_ceil(tile) * Self::tail_len(conv, tile),
            Self::Depthwise => conv.output.blocks() * Self::depthwise_len(conv) + 8,
            Self::Planes => conv.output.channels * Self::plane_len(conv),
        }
    }

    /// Fours of bias and slopes of a tile.
    pub(super) fn tail_len(conv: &Conv, tile: usize) -> usize {
        Self::slopes_at(tile) * (1 + usize::from(has_slopes(conv)))
    }

    /// Where the slopes of a tile begin.
    pub(super) fn slopes_at(tile: usize) -> usize {
        (tile / 4).next_multiple_of(8)
    }

    /// Fours of a block of channels.
    pub(super) fn depthwise_len(conv: &Conv) -> usize {
        conv.kernel[0] * conv.kernel[1] + 1 + usize::from(has_slopes(conv))
    }

    /// Fours of a channel.
    pub(super) fn plane_len(conv: &Conv) -> usize {
        Self::depthwise_len(conv).div_ceil(4)
    }

    /// The weights of a convolution in this order.
    pub(super) fn pack(self, conv: &Conv) -> Vec<f32> {
        let mut packed = vec![0.0; self.len(conv) * 4];
        let (outs, ins) = (conv.output.channels, conv.input.channels);
        let taps = conv.kernel[0] * conv.kernel[1];
        let slopes = match &conv.activation {
            Some(Activation::PRelu(slopes)) => &slopes[..],
            _ => &[],
        };
        let bias = conv.bias.as_deref().unwrap_or_default();
        match self {
            Self::Tiles { tile, inner, planar } => {
                let (steps, step_len) = (Self::steps(conv, inner, planar), Self::step_len(tile, inner) * 4);
                for o in 0..outs {
                    for i in 0..ins {
                        for t in 0..taps {
                            let (step, within) =
                                if planar { ((i * taps + t) / inner, t % inner) } else { (i / 4 * taps + t, i % 4) };
                            let at = (o / tile * steps + step) * step_len + within * tile + o % tile;
                            packed[at] = conv.weights[(o * ins + i) * taps + t];
                        }
                    }
                }
            }
            Self::Tails { tile } => {
                let (len, slopes_at) = (Self::tail_len(conv, tile) * 4, Self::slopes_at(tile) * 4);
                for (values, start) in [(bias, 0), (slopes, slopes_at)] {
                    for (o, value) in values.iter().enumerate() {
                        packed[o / tile * len + start + o % tile] = *value;
                    }
                }
            }
            Self::Depthwise | Self::Planes => {
                let len = Self::depthwise_len(conv);
                for c in 0..outs {
                    let place = |t: usize| match self {
                        Self::Planes => c * Self::plane_len(conv) * 4 + t,
                        _ => (c / 4 * len + t) * 4 + c % 4,
                    };
                    let mut put = |t: usize, value: f32| packed[place(t)] = value;
                    (0..taps).for_each(|t| put(t, conv.weights[c * taps + t]));
                    bias.get(c).into_iter().for_each(|b| put(taps, *b));
                    slopes.get(c).into_iter().for_each(|s| put(taps + 1, *s));
                }
            }
        }
        packed
    }
}

fn has_slopes(conv: &Conv) -> bool {
    matches!(conv.activation, Some(Activation::PRelu(_)))
}

impl Weights {
    /// The buffer with the weights of `conv` in this order.
    ///
    /// # Errors
    /// `OutOfMemory`, `Invalid` beyond the adapter's limits, `Lost`.
    pub(super) fn buffer(
        &self,
        context: &Context,
        conv: &Conv,
        packing: Packing,
        space: Space,
    ) -> Result<wgpu::Buffer, GpuError> {
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (conv.key, packing, space);
        if let Some(buffer) = packed.get(&key) {
            return Ok(buffer.clone());
        }
        let mut values = packing.pack(conv);
        let usage = match space {
            Space::Storage => wgpu::BufferUsages::STORAGE,
            Space::Uniform { len } => {
                values.resize(len * 4, 0.0);
                wgpu::BufferUsages::UNIFORM
            }
        };
        let buffer = context.upload("weights", bytemuck::cast_slice(&values), usage)?;
        packed.insert(key, buffer.clone());
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ArrayId, Picture};

    fn conv(outs: usize, ins: usize, kernel: [usize; 2]) -> Conv {
        let count = outs * ins * kernel[0] * kernel[1];
        Conv {
            key: 0,
            input: Picture::blocked(ArrayId(0), 0, [ins, 4, 4], 4),
            weights: (1..=count).map(|n| n as f32).collect(),
            bias: Some((0..outs).map(|o| -1.0 - o as f32).collect()),
            depthwise: false,
            kernel,
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            activation: None,
            residual: None,
            output: Picture::blocked(ArrayId(1), 0, [outs, 4, 4], 4),
        }
    }

    #[test]
    fn tiles_have_what_an_input_number_needs_side_by_side() {
        // Two input channels, one tap: of each step four inputs, each with its weights for eight outputs.
        let packing = Packing::Tiles { tile: 8, inner: 4, planar: false };
        let packed = packing.pack(&conv(3, 2, [1, 1]));
        assert_eq!(packed.len(), packing.len(&conv(3, 2, [1, 1])) * 4);
        assert_eq!(packed[..16], [1., 3., 5., 0., 0., 0., 0., 0., 2., 4., 6., 0., 0., 0., 0., 0.]);
        assert_eq!(packed[16..], [0.0; 16]);
        let tails = Packing::Tails { tile: 8 }.pack(&conv(9, 2, [1, 1]));
        assert_eq!(tails[..8], [-1., -2., -3., -4., -5., -6., -7., -8.]);
        assert_eq!((tails.len(), tails[32], tails[33]), (64, -9., 0.));
        // A row of three taps of a planar picture; rounded up to eight lanes.
        let packing = Packing::Tiles { tile: 4, inner: 3, planar: true };
        let packed = packing.pack(&conv(2, 1, [2, 3]));
        assert_eq!(packed[..12], [1., 7., 0., 0., 2., 8., 0., 0., 3., 9., 0., 0.]);
        assert_eq!(packed[32..36], [4., 10., 0., 0.]);
    }
}
