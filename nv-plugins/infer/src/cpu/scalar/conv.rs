use crate::cpu::Memory;
use crate::plan::{Activation, Conv, Picture, Residual};

use super::unary;

/// One row of one block of output channels after the other.
pub(super) fn conv(step: &Conv, memory: &mut Memory) {
    let Some(span) = step.output.span() else { return };
    let ([out], others) = memory.writing([span]);
    let out = out.floats();
    let input = step.input.span().map_or(&[][..], |span| others.floats(span));
    let residual = step.residual.as_ref().map(|(picture, order)| {
        let span = picture.span().expect("it has the output's size");
        (picture, *order, others.floats(span))
    });
    let (block, width) = (step.output.block, step.output.width);
    let mut sums = vec![0.0; width * block];
    for b in 0..step.output.blocks() {
        let lanes = block.min(step.output.channels - b * block);
        for y in 0..step.output.height {
            for pixel in sums.chunks_exact_mut(block) {
                pixel.fill(0.0);
                if let Some(bias) = &step.bias {
                    pixel[..lanes].copy_from_slice(&bias[b * block..][..lanes]);
                }
            }
            if step.depthwise {
                depthwise_row(step, input, b, y, lanes, &mut sums);
            } else {
                dense_row(step, input, b, y, lanes, &mut sums);
            }
            for (x, pixel) in sums.chunks_exact(block).enumerate() {
                let at = place(&step.output, b * block, y, x);
                let added = residual.map(|(picture, order, data)| {
                    let at = place(picture, b * block, y, x);
                    (order, &data[at..at + lanes])
                });
                for (lane, out) in out[at..at + lanes].iter_mut().enumerate() {
                    let mut sum = pixel[lane];
                    if let Some((Residual::BeforeActivation, added)) = added {
                        sum += added[lane];
                    }
                    sum = match &step.activation {
                        Some(Activation::Unary(function)) => unary(*function, sum),
                        Some(Activation::PRelu(slopes)) if sum < 0.0 => sum * slopes[b * block + lane],
                        _ => sum,
                    };
                    if let Some((Residual::AfterActivation, added)) = added {
                        sum += added[lane];
                    }
                    *out = sum;
                }
            }
        }
    }
}

/// Where a picture's element is, from its beginning.
fn place(picture: &Picture, channel: usize, y: usize, x: usize) -> usize {
    let [c, row, column] = picture.strides;
    channel / picture.block * c + y * row + x * column + channel % picture.block
}

/// The input row that output row `y` meets at tap `tap`, if it is inside.
fn source(step: &Conv, axis: usize, y: usize, tap: usize, size: usize) -> Option<usize> {
    (y * step.stride[axis] + tap * step.dilation[axis]).checked_sub(step.pad[axis]).filter(|&y| y < size)
}

/// The output columns whose tap `tap` is inside the picture: from the first up to the second.
fn columns(step: &Conv, tap: usize) -> (usize, usize) {
    let (stride, shift) = (step.stride[1], tap * step.dilation[1]);
    let first = step.pad[1].saturating_sub(shift).div_ceil(stride);
    let end = (step.input.width + step.pad[1]).saturating_sub(shift).div_ceil(stride);
    let end = end.min(step.output.width);
    (first.min(end), end)
}

fn dense_row(step: &Conv, input: &[f32], b: usize, y: usize, lanes: usize, sums: &mut [f32]) {
    let (block, [rows, taps]) = (step.output.block, step.kernel);
    let channels = step.input.channels;
    let mut weights = vec![0.0; lanes];
    for j in 0..rows {
        let Some(row) = source(step, 0, y, j, step.input.height) else { continue };
        for k in 0..taps {
            let (first, end) = columns(step, k);
            for i in 0..channels {
                for (lane, weight) in weights.iter_mut().enumerate() {
                    *weight = step.weights[(((b * block + lane) * channels + i) * rows + j) * taps + k];
                }
                for x in first..end {
                    let column = x * step.stride[1] + k * step.dilation[1] - step.pad[1];
                    let value = input[place(&step.input, i, row, column)];
                    let pixel = &mut sums[x * block..][..lanes];
                    pixel.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight * value);
                }
            }
        }
    }
}

fn depthwise_row(step: &Conv, input: &[f32], b: usize, y: usize, lanes: usize, sums: &mut [f32]) {
    let (block, [rows, taps]) = (step.output.block, step.kernel);
    for j in 0..rows {
        let Some(row) = source(step, 0, y, j, step.input.height) else { continue };
        for k in 0..taps {
            let (first, end) = columns(step, k);
            for x in first..end {
                let column = x * step.stride[1] + k * step.dilation[1] - step.pad[1];
                for lane in 0..lanes {
                    let channel = b * block + lane;
                    let value = input[place(&step.input, channel, row, column)];
                    sums[x * block + lane] += step.weights[(channel * rows + j) * taps + k] * value;
                }
            }
        }
    }
}
