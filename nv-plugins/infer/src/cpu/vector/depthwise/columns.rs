//! The innermost loops of depthwise convolutions.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]
#![expect(clippy::needless_range_loop, reason = "all loops over registers are written alike")]

use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::cpu::vector::region::Run;

/// Pixels of a row, of one block.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Where the window of the first pixel begins; that may be outside of the picture.
    pub(super) input: *const f32,
    /// From the window of a pixel to the next.
    pub(super) input_step: usize,
    pub(super) output: *mut f32,
    pub(super) output_step: usize,
    /// For each tap, the lanes.
    pub(super) weights: *const f32,
    pub(super) bias: *const f32,
    /// Of single taps.
    pub(super) runs: &'a [Run],
    /// What sums are kept within.
    pub(super) limits: Option<[f32; 2]>,
    pub(super) count: usize,
}

impl Columns<'_> {
    /// Computes them.
    ///
    /// # Safety
    /// For each pixel, a vector can be read at each run's offset from its window; each pixel can be written, and nobody else
    /// uses it. Weights are there for all runs.
    pub(super) unsafe fn run(self, instructions: Instructions) {
        let lanes = instructions.lanes();
        let three =
            |runs: &[Run]| runs.len() == 3 && (0..3).all(|k| runs[k].offset == runs[0].offset + (k * lanes) as isize);
        let rows = if self.runs.chunks(3).all(three) { self.runs.len() / 3 } else { 0 };
        macro_rules! kernels {
            ($($stride:literal $step:expr),*) => {
                match (self.input_step, rows) {
                    $(
                        // SAFETY: the caller's promise is all that the kernels ask for, with as many runs and such a step.
                        (step, 2) if step == $step => unsafe { instructions.run(Rows::<2, $stride>(self)) },
                        // SAFETY: as above.
                        (step, 3) if step == $step => unsafe { instructions.run(Rows::<3, $stride>(self)) },
                        // SAFETY: as above.
                        (step, _) if step == $step => unsafe { instructions.run(Taps::<$stride>(self)) },
                    )*
                    // SAFETY: as above.
                    _ => unsafe { instructions.run(Taps::<0>(self)) },
                }
            };
        }
        kernels!(1 lanes, 2 2 * lanes);
    }
}

/// `R` rows of three taps side by side, whose weights stay in registers. Pixels are `STRIDE` vectors apart.
///
/// # Safety
/// As [`Columns::run`]; there are `3·R` runs, those of a row side by side.
struct Rows<'a, const R: usize, const STRIDE: usize>(Columns<'a>);

/// Any taps. Pixels are `STRIDE` vectors apart; 0: as far as is said.
///
/// # Safety
/// As [`Columns::run`].
struct Taps<'a, const STRIDE: usize>(Columns<'a>);

/// How many pixels are summed up at a time.
const PIXELS: usize = 8;
/// Where there are fewer.
const FEW_PIXELS: usize = 4;
/// Of three rows, whose weights are in registers too.
const PIXELS_OF_ROWS: usize = 4;

/// The next tile of so many pixels, after the first ones: where it begins and how many it has. The last one begins so early
/// that it is whole: to compute a pixel twice takes less time than several by themselves.
#[inline(always)]
fn tile(first: usize, count: usize, pixels: usize) -> (usize, usize) {
    if count < pixels { (first, 1) } else { (first.min(count - pixels), pixels) }
}

impl<const R: usize, const STRIDE: usize> Kernel for Rows<'_, R, STRIDE> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let columns = self.0;
        // SAFETY: there are weights for all runs, and a bias.
        let (weights, bias) = unsafe {
            let mut weights = [[s.splat(0.0); 3]; R];
            for r in 0..R {
                for k in 0..3 {
                    weights[r][k] = s.load(columns.weights.add(columns.runs[3 * r + k].term * S::LANES));
                }
            }
            (weights, s.load(columns.bias))
        };
        let mut rows = [columns.input; R];
        for r in 0..R {
            rows[r] = columns.input.wrapping_offset(columns.runs[3 * r].offset);
        }
        let (mut first, count) = (0, columns.count);
        while first < count {
            let (at, pixels) = tile(first, count, PIXELS_OF_ROWS);
            let rows = rows.map(|row| row.wrapping_add(at * STRIDE * S::LANES));
            let output = columns.output.wrapping_add(at * columns.output_step);
            // SAFETY: so many pixels are there from that one on.
            unsafe {
                match pixels {
                    PIXELS_OF_ROWS => {
                        rows_of::<S, R, STRIDE, PIXELS_OF_ROWS>(s, &weights, bias, &rows, output, &columns)
                    }
                    _ => rows_of::<S, R, STRIDE, 1>(s, &weights, bias, &rows, output, &columns),
                }
            }
            first = at + pixels;
        }
    }
}

/// # Safety
/// `NP` pixels are there, whose first taps are at `rows`.
#[inline(always)]
unsafe fn rows_of<S: Simd, const R: usize, const STRIDE: usize, const NP: usize>(
    s: S,
    weights: &[[S::V; 3]; R],
    bias: S::V,
    rows: &[*const f32; R],
    output: *mut f32,
    columns: &Columns<'_>,
) {
    let mut sums = [bias; NP];
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..R {
            for k in 0..3 {
                for j in 0..NP {
                    sums[j] = s.fma(weights[r][k], s.load(rows[r].add((j * STRIDE + k) * S::LANES)), sums[j]);
                }
            }
        }
        finish(s, sums, output, columns);
    }
}

impl<const STRIDE: usize> Kernel for Taps<'_, STRIDE> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let columns = self.0;
        let step = if STRIDE == 0 { columns.input_step } else { STRIDE * S::LANES };
        let (mut first, count) = (0, columns.count);
        while first < count {
            let (at, pixels) = tile(first, count, if count < PIXELS { FEW_PIXELS } else { PIXELS });
            let (input, output) =
                (columns.input.wrapping_add(at * step), columns.output.wrapping_add(at * columns.output_step));
            // SAFETY: so many pixels are there from that one on.
            unsafe {
                match pixels {
                    PIXELS => taps_of::<S, PIXELS>(s, input, step, output, &columns),
                    FEW_PIXELS => taps_of::<S, FEW_PIXELS>(s, input, step, output, &columns),
                    _ => taps_of::<S, 1>(s, input, step, output, &columns),
                }
            }
            first = at + pixels;
        }
    }
}

/// # Safety
/// `NP` pixels are there, whose windows begin `step` apart at `input`.
#[inline(always)]
unsafe fn taps_of<S: Simd, const NP: usize>(
    s: S,
    input: *const f32,
    step: usize,
    output: *mut f32,
    columns: &Columns<'_>,
) {
    // SAFETY: the caller's promise; there are weights for all runs.
    unsafe {
        let mut sums = [s.load(columns.bias); NP];
        for run in columns.runs {
            let weight = s.load(columns.weights.add(run.term * S::LANES));
            let from = input.wrapping_offset(run.offset);
            for j in 0..NP {
                sums[j] = s.fma(weight, s.load(from.add(j * step)), sums[j]);
            }
        }
        finish(s, sums, output, columns);
    }
}

/// # Safety
/// `NP` pixels can be written.
#[inline(always)]
unsafe fn finish<S: Simd, const NP: usize>(s: S, mut sums: [S::V; NP], output: *mut f32, columns: &Columns<'_>) {
    if let Some([least, greatest]) = columns.limits {
        for j in 0..NP {
            sums[j] = s.min(s.max(sums[j], s.splat(least)), s.splat(greatest));
        }
    }
    for j in 0..NP {
        // SAFETY: the caller's promise.
        unsafe { s.store(output.add(j * columns.output_step), sums[j]) };
    }
}
