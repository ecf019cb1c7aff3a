//! Which taps of a convolution's window are inside of the picture, and where they are.

use std::ops::Range;

use crate::plan::Conv;

/// In which order a convolution sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    /// Depthwise: rows and columns of the window.
    Taps,
    /// Blocks of channels, rows, columns, lanes.
    Blocks,
    /// Channels, rows, columns: of pictures of single channels.
    Planes,
    /// Rows, columns, channels: of pictures whose channels lie side by side.
    Pixels,
}

/// Terms of a sum that lie side by side in the input: channels, or columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Atom {
    /// Of the first, from where the window begins.
    offset: isize,
    /// How many.
    pub(super) len: usize,
    /// The first one's place in the sum.
    pub(super) term: usize,
    /// Its input channel; the others have the ones that follow.
    pub(super) channel: usize,
    /// Its row and column of the window.
    pub(super) tap: [usize; 2],
}

/// Terms of a sum that lie side by side both in the input and in the packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Of the first, from where the window begins.
    pub(super) offset: isize,
    /// Its place in the sum.
    pub(super) term: usize,
    /// How many.
    pub(super) len: usize,
}

/// Output pixels whose windows have the same taps inside of the picture.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    /// What is summed up for each pixel, in order.
    pub(super) runs: Vec<Run>,
}

/// The order in which a convolution sums up.
pub(super) fn order(conv: &Conv) -> Order {
    match () {
        () if conv.depthwise => Order::Taps,
        () if conv.input.block > 1 => Order::Blocks,
        () if conv.input.strides[0] == 1 && conv.input.channels > 1 => Order::Pixels,
        () => Order::Planes,
    }
}

/// More terms, or runs in all regions together, are not listed: no real network has them.
const LIMIT: usize = 1 << 20;

/// All terms of the sum, in that order; `None` if there are too many.
pub(super) fn atoms(conv: &Conv, order: Order) -> Option<Vec<Atom>> {
    let [rows, columns] = conv.kernel;
    let ([block_stride, row, column], channels, block) = (conv.input.strides, conv.input.channels, conv.input.block);
    [rows, columns, channels].iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= LIMIT)?;
    let mut atoms: Vec<Atom> = Vec::new();
    let mut push = |channel: usize, len: usize, j: usize, k: usize| {
        let at = channel / block * block_stride + j * conv.dilation[0] * row + k * conv.dilation[1] * column;
        let term = atoms.last().map_or(0, |last| last.term + last.len);
        atoms.push(Atom { offset: at as isize, len, term, channel, tap: [j, k] });
    };
    let taps = || (0..rows).flat_map(|j| (0..columns).map(move |k| (j, k)));
    match order {
        Order::Taps => taps().for_each(|(j, k)| push(0, 1, j, k)),
        Order::Pixels => taps().for_each(|(j, k)| push(0, channels, j, k)),
        Order::Blocks | Order::Planes => {
            for first in (0..channels).step_by(block) {
                taps().for_each(|(j, k)| push(first, block.min(channels - first), j, k));
            }
        }
    }
    Some(atoms)
}

/// How many terms a sum has.
pub(super) fn terms(atoms: &[Atom]) -> usize {
    atoms.last().map_or(0, |last| last.term + last.len)
}

/// The output in parts, from the upper left to the lower right; `None` if there are too many.
pub(super) fn regions(conv: &Conv, atoms: &[Atom]) -> Option<Vec<Region>> {
    let columns = classes(conv, 1, conv.output.width, conv.input.width);
    let rows = classes(conv, 0, conv.output.height, conv.input.height);
    (rows.len() * columns.len()).checked_mul(atoms.len()).filter(|n| *n <= LIMIT)?;
    let mut regions = Vec::new();
    for (rows, row_taps) in rows {
        for (columns, column_taps) in &columns {
            let mut runs: Vec<Run> = Vec::new();
            for atom in atoms {
                if !(row_taps.contains(&atom.tap[0]) && column_taps.contains(&atom.tap[1])) {
                    continue;
                }
                match runs.last_mut() {
                    Some(run) if (run.offset + run.len as isize, run.term + run.len) == (atom.offset, atom.term) => {
                        run.len += atom.len;
                    }
                    _ => runs.push(Run { offset: atom.offset, term: atom.term, len: atom.len }),
                }
            }
            regions.push(Region { rows: rows.clone(), columns: columns.clone(), runs });
        }
    }
    Some(regions)
}

/// The output's rows (or columns) in ranges that have the same taps inside, and these taps.
fn classes(conv: &Conv, axis: usize, out: usize, size: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let (kernel, stride, dilation, pad) = (conv.kernel[axis], conv.stride[axis], conv.dilation[axis], conv.pad[axis]);
    let mut classes: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for i in 0..out {
        let inside = |tap: &usize| (i * stride + tap * dilation).checked_sub(pad).is_some_and(|at| at < size);
        let first = (0..kernel).find(inside).unwrap_or(0);
        let count = (first..kernel).take_while(inside).count();
        let taps = first..first + count;
        match classes.last_mut() {
            Some((range, same)) if *same == taps => range.end = i + 1,
            _ => classes.push((i..i + 1, taps)),
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::{ArrayId, Picture};

    fn conv(input: Picture, output: [usize; 3], kernel: usize, stride: usize, pad: usize) -> Conv {
        Conv {
            key: 0,
            weights: Arc::new([]),
            bias: None,
            depthwise: false,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [pad; 2],
            activation: None,
            residual: None,
            output: Picture::blocked(ArrayId(1), 0, output, 16),
            input,
        }
    }

    #[test]
    fn taps_side_by_side_are_one_run() {
        let check = |conv: &Conv, expected: &[(isize, usize, usize)]| {
            let atoms = atoms(conv, order(conv)).unwrap();
            let inner =
                regions(conv, &atoms).unwrap().into_iter().find(|r| r.rows.contains(&1) && r.columns.contains(&1));
            let found: Vec<_> = inner.unwrap().runs.iter().map(|r| (r.offset, r.term, r.len)).collect();
            assert_eq!(found, expected);
        };
        let blocked = |channels| Picture::blocked(ArrayId(0), 0, [channels, 5, 8], 16);
        check(&conv(blocked(16), [16, 5, 8], 3, 1, 1), &[(0, 0, 48), (128, 48, 48), (256, 96, 48)]);
        check(&conv(blocked(20), [16, 5, 8], 1, 1, 0), &[(0, 0, 16), (640, 16, 4)]);
        // Lanes beyond the last channel are not read.
        check(&conv(blocked(5), [16, 4, 7], 2, 1, 0), &[(0, 0, 5), (16, 5, 5), (128, 10, 5), (144, 15, 5)]);
        let planes = Picture { block: 1, strides: [40, 8, 1], ..blocked(2) };
        check(&conv(planes.clone(), [16, 4, 7], 2, 1, 0), &[(0, 0, 2), (8, 2, 2), (40, 4, 2), (48, 6, 2)]);
        let pixels = Picture { strides: [1, 16, 2], ..planes };
        check(&conv(pixels, [16, 4, 7], 2, 1, 0), &[(0, 0, 4), (16, 4, 4)]);
    }

    #[test]
    fn regions_cover_the_output_once() {
        let input = Picture::blocked(ArrayId(0), 0, [16, 5, 8], 16);
        for (kernel, stride, pad, out) in [(3, 1, 1, [5, 8]), (3, 2, 1, [3, 4]), (5, 1, 4, [9, 12]), (1, 1, 0, [5, 8])]
        {
            let conv = conv(input.clone(), [16, out[0], out[1]], kernel, stride, pad);
            let atoms = atoms(&conv, order(&conv)).unwrap();
            let mut seen = vec![0; out[0] * out[1]];
            for region in regions(&conv, &atoms).unwrap() {
                for y in region.rows.clone() {
                    for x in region.columns.clone() {
                        seen[y * out[1] + x] += 1;
                        let inside = |at: usize, size: usize| {
                            let taps = (0..kernel).filter(|t| (at * stride + t).wrapping_sub(pad) < size);
                            taps.count()
                        };
                        let sum: usize = region.runs.iter().map(|run| run.len).sum();
                        assert_eq!(sum, 16 * inside(y, 5) * inside(x, 8));
                    }
                }
            }
            assert!(seen.iter().all(|n| *n == 1));
        }
    }
}
