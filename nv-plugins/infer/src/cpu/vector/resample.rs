//! Pictures of another size: nearest neighbours, weighted neighbours, borders.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, ranges};
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::plan::access::resampled;
use crate::plan::{Kind, Plan, Resample, Span, Taps};

/// A resampling made ready.
///
/// Along one dimension, the elements that a tap takes lie side by side, as the lanes of a block do; where there is none, a tap
/// takes one element. The next is that of columns; all others together are rows.
#[derive(Debug)]
pub(super) struct Resampling {
    instructions: Instructions,
    input: Span,
    output: Span,
    /// Where elements begin, in the spans.
    begins: [isize; 2],
    rows: Vec<Axis>,
    columns: Axis,
    /// How many elements a tap takes.
    elements: usize,
    fill: f32,
    pieces: Vec<Range<usize>>,
}

/// What the indices of a dimension take.
#[derive(Clone, Debug)]
struct Axis {
    len: usize,
    /// From one index of the output to the next.
    step: isize,
    /// How many taps an index has.
    width: usize,
    /// For each tap of each index; [`MISSING`] for none.
    offsets: Vec<isize>,
    /// Empty where all are 1.
    weights: Vec<f32>,
}

/// The offset of no tap.
const MISSING: isize = isize::MIN;
/// The most taps of a row that there is a kernel for.
const ROW_TAPS: usize = 16;

impl Resampling {
    /// Makes a resampling ready; `None` if there is no kernel for it.
    pub(super) fn new(resample: &Resample, plan: &Plan, instructions: Instructions, cut: Cut) -> Option<Self> {
        let output = resample.output.span(&resample.dims)?;
        let input = resampled(resample)?;
        let begins = [
            (resample.output.offset - output.begin) as isize,
            (resample.input.offset as isize).wrapping_sub(input.begin as isize),
        ];
        let dims = resample.dims.iter().zip(&resample.taps);
        let mut axes: Vec<Axis> = Vec::new();
        let mut elements = 1;
        for (d, (&len, taps)) in dims.enumerate() {
            let (from, to) = (resample.input.strides[d], resample.output.strides[d]);
            if *taps == Taps::Same && (from, to) == (1, 1) && len > 1 && elements == 1 {
                elements = len;
            } else {
                axes.push(Axis::new(len, taps, from, to)?);
            }
        }
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.step.unsigned_abs()));
        let columns = axes.pop()?;
        let blends = columns.width > 1 || axes.iter().any(|axis| axis.width > 1);
        let taps = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.width))?;
        let int = plan.array(resample.output.array).kind == Kind::Int;
        if taps > ROW_TAPS || blends && (int || !elements.is_multiple_of(instructions.lanes())) {
            return None;
        }
        let rows: usize = axes.iter().map(|axis| axis.len).product();
        let operations = rows * columns.len * elements.div_ceil(instructions.lanes()) * taps * columns.width * 2;
        let fill = if int { f32::from_bits(resample.fill as i32 as u32) } else { resample.fill };
        let pieces = ranges(rows, cut.pieces(operations)).collect();
        Some(Self { instructions, input, output, begins, rows: axes, columns, elements, fill, pieces })
    }

    fn piece(&self, rows: Range<usize>, output: Target, input: Source) {
        for row in rows {
            let (mut to, mut rest) = (self.begins[0], row);
            // One tap, until more come.
            let mut taps = [(self.begins[1], 1.0); ROW_TAPS];
            let (mut count, mut missing) = (1, false);
            for axis in self.rows.iter().rev() {
                let index = rest % axis.len;
                rest /= axis.len;
                to += index as isize * axis.step;
                let before = taps;
                for (k, &offset) in axis.offsets[index * axis.width..][..axis.width].iter().enumerate() {
                    missing |= offset == MISSING;
                    let weight = axis.weights.get(index * axis.width + k).copied().unwrap_or(1.0);
                    for i in 0..count {
                        let (at, so_far) = before[i];
                        taps[k * count + i] = (at.wrapping_add(offset), so_far * weight);
                    }
                }
                count *= axis.width;
            }
            let taps = if missing { &[][..] } else { &taps[..count] };
            let kernel = RowKernel { resampling: self, taps, input, to: output.at(to) };
            // SAFETY: taps that are not missing are inside of the input's span, and no other piece writes this row of the
            // output.
            unsafe { self.instructions.run(kernel) }
        }
    }
}

impl Axis {
    /// `None` if it says less than it has to.
    fn new(len: usize, taps: &Taps, from: isize, step: isize) -> Option<Self> {
        let offset = |i: &i32| if *i < 0 { MISSING } else { *i as isize * from };
        let (width, offsets, weights) = match taps {
            Taps::Same => (1, (0..len as isize).map(|i| i * from).collect(), Vec::new()),
            Taps::Pick(index) => (1, index.iter().map(offset).collect::<Vec<_>>(), Vec::new()),
            Taps::Blend { width, index, weight } => (*width, index.iter().map(offset).collect(), weight.to_vec()),
        };
        let all = width > 0 && offsets.len() == len * width && [0, len * width].contains(&weights.len());
        // Of the taps of an index, all are missing or none is.
        let missing = |taps: &[isize]| taps.iter().filter(|offset| **offset == MISSING).count();
        let all = all && offsets.chunks(width).all(|taps| [0, width].contains(&missing(taps)));
        all.then_some(Self { len, step, width, offsets, weights })
    }
}

impl Run for Resampling {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let (output, [input]) = places(memory, self.output, [Some(self.input)]);
        pool.run(self.pieces.len(), &|piece| self.piece(self.pieces[piece].clone(), output, input));
    }
}

/// # Safety
/// The elements that are taken at each tap of the row and each tap of the columns can be read, and the row written, which
/// nobody else uses.
struct RowKernel<'a> {
    resampling: &'a Resampling,
    /// Where the row's taps begin, and their weights; none where the row is filled.
    taps: &'a [(isize, f32)],
    input: Source,
    to: *mut f32,
}

impl Kernel for RowKernel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let Resampling { columns, elements, fill, .. } = self.resampling;
        let mut to = self.to;
        for (x, offsets) in columns.offsets.chunks_exact(columns.width).enumerate() {
            // SAFETY: the column is one of the row.
            unsafe {
                match (self.taps, offsets) {
                    ([], _) | (_, [MISSING, ..]) => (0..*elements).for_each(|i| *to.add(i) = *fill),
                    (&[(at, _)], &[offset]) => copy(s, self.input.at(at + offset), to, *elements),
                    (taps, offsets) => {
                        let weights = match columns.weights[..] {
                            [] => &[1.0],
                            ref weights => &weights[x * columns.width..],
                        };
                        for first in (0..*elements).step_by(S::LANES) {
                            let mut sum = s.splat(0.0);
                            for &(at, row) in taps {
                                for (offset, column) in offsets.iter().zip(weights) {
                                    let value = s.load(self.input.at(at + offset).add(first));
                                    sum = s.fma(s.splat(row * column), value, sum);
                                }
                            }
                            s.store(to.add(first), sum);
                        }
                    }
                }
            }
            to = to.wrapping_offset(columns.step);
        }
    }
}

/// # Safety
/// So many elements can be read and written, which are apart.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, elements: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if elements == S::LANES {
            s.store(to, s.load(from));
        } else if elements == 1 {
            *to = *from;
        } else {
            to.copy_from_nonoverlapping(from, elements);
        }
    }
}
