//! The innermost loops of maps.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]
#![expect(clippy::needless_range_loop, reason = "all loops over operands are written alike")]

use super::OPERANDS;
use crate::cpu::simd::math::{Function, WithFunction, with_unary};
use crate::cpu::simd::strided::{gather, scatter};
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::graph::op::Unary;

/// Rows of elements. The output's steps come first, then those of the inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) output: *mut f32,
    pub(super) inputs: [*const f32; OPERANDS - 1],
    pub(super) rows: usize,
    pub(super) row_steps: [isize; OPERANDS],
    pub(super) len: usize,
    /// Along a row. 0: the same element; [`REPEATS`]: as many elements as the period has, again and again.
    pub(super) steps: [isize; OPERANDS],
    pub(super) period: Option<usize>,
}

/// A step that says that an operand repeats.
pub(super) const REPEATS: isize = isize::MIN;
/// So many elements, at most, are written out of what repeats.
pub(super) const TILE: usize = 1024;

/// A function of as many operands.
pub(super) trait Combine<const N: usize>: Copy {
    /// Its value for each lane. Implementations are `#[inline(always)]`.
    fn combine<S: Simd>(self, s: S, x: [S::V; N]) -> S::V;
}

/// A function of one number.
#[derive(Clone, Copy)]
struct One<F>(F);

impl<F: Function> Combine<1> for One<F> {
    #[inline(always)]
    fn combine<S: Simd>(self, s: S, x: [S::V; 1]) -> S::V {
        self.0.apply(s, x[0], x[0])
    }
}

/// # Safety
/// All elements of the lines can be read, and those of the output written, which nobody else uses.
pub(super) struct LinesKernel<F, const N: usize>(pub(super) Lines, pub(super) F);

impl Lines {
    /// Computes a function of one number.
    ///
    /// # Safety
    /// As [`LinesKernel`].
    pub(super) unsafe fn unary(self, instructions: Instructions, unary: Unary) {
        struct Work(Lines, Instructions);
        impl WithFunction for Work {
            type Output = ();
            fn with<F: Function>(self, function: F) {
                // SAFETY: the promise that was made to `unary`.
                unsafe { self.1.run(LinesKernel(self.0, One(function))) }
            }
        }
        with_unary(unary, Work(self, instructions));
    }
}

impl<F: Combine<N>, const N: usize> Kernel for LinesKernel<F, N> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let Self(mut lines, function) = self;
        for _ in 0..lines.rows {
            // SAFETY: it is one of the rows.
            unsafe {
                match lines.period {
                    None => line(s, &lines, function),
                    Some(period) => repeating_line(s, lines, period, function),
                }
            }
            lines.output = lines.output.wrapping_offset(lines.row_steps[0]);
            for i in 0..N {
                lines.inputs[i] = lines.inputs[i].wrapping_offset(lines.row_steps[i + 1]);
            }
        }
    }
}

/// # Safety
/// As [`LinesKernel`], for one row in which no operand repeats.
#[inline(always)]
unsafe fn line<S: Simd, F: Combine<N>, const N: usize>(s: S, lines: &Lines, function: F) {
    let steps = lines.steps;
    let mut vectors = steps[0] == 1;
    let mut same = 0;
    for i in 0..N {
        vectors &= [0, 1].contains(&steps[i + 1]);
        same |= usize::from(steps[i + 1] == 0) << i;
    }
    // SAFETY: the caller's promise.
    unsafe {
        // The usual ones in loops of their own.
        match (vectors, same) {
            (true, 0b000) => side_by_side::<S, F, N, 0b000>(s, lines, function),
            (true, 0b001) => side_by_side::<S, F, N, 0b001>(s, lines, function),
            (true, 0b010) if N > 1 => side_by_side::<S, F, N, 0b010>(s, lines, function),
            (true, 0b110) if N > 2 => side_by_side::<S, F, N, 0b110>(s, lines, function),
            _ => gathered(s, lines, 0, function),
        }
    }
}

/// # Safety
/// As [`LinesKernel`], for one row in which all operands are side by side, but for those that are one number: those whose
/// bits are set in `SAME`.
#[inline(always)]
unsafe fn side_by_side<S: Simd, F: Combine<N>, const N: usize, const SAME: usize>(s: S, lines: &Lines, function: F) {
    let Lines { output, inputs, len, .. } = *lines;
    let mut x = [s.splat(0.0); N];
    for i in 0..N {
        // SAFETY: a row has at least one element.
        x[i] = s.splat(unsafe { *inputs[i] });
    }
    let mut at = 0;
    while at + S::LANES <= len {
        for i in 0..N {
            if SAME >> i & 1 == 0 {
                // SAFETY: so many elements are left of the row.
                x[i] = unsafe { s.load(inputs[i].add(at)) };
            }
        }
        // SAFETY: as above.
        unsafe { s.store(output.add(at), function.combine(s, x)) };
        at += S::LANES;
    }
    if at < len {
        // SAFETY: as above.
        unsafe { gathered(s, lines, at, function) };
    }
}

/// Operands of any steps, from an element on.
///
/// # Safety
/// As [`LinesKernel`], for one row in which no operand repeats.
#[inline(always)]
unsafe fn gathered<S: Simd, F: Combine<N>, const N: usize>(s: S, lines: &Lines, first: usize, function: F) {
    let Lines { output, inputs, len, steps, .. } = *lines;
    let mut at = first;
    while at < len {
        let whole = at + S::LANES <= len;
        let mut x = [s.splat(0.0); N];
        // SAFETY: so many elements are left of the row.
        unsafe {
            for i in 0..N {
                let step = steps[i + 1];
                let from = inputs[i].wrapping_offset(at as isize * step);
                x[i] = match step {
                    0 => s.splat(*from),
                    1 if whole => s.load(from),
                    step if whole => gather(s, from, step, S::LANES, 0.0),
                    step => gather(s, from, step, len - at, 0.0),
                };
            }
            let result = function.combine(s, x);
            let to = output.wrapping_offset(at as isize * steps[0]);
            match steps[0] {
                1 if whole => s.store(to, result),
                step if whole => scatter(s, result, to, step, S::LANES),
                step => scatter(s, result, to, step, len - at),
            }
        }
        at += S::LANES;
    }
}

/// Writes out what repeats, until it is long enough for many vectors.
///
/// # Safety
/// As [`LinesKernel`], for one row.
#[inline(always)]
unsafe fn repeating_line<S: Simd, F: Combine<N>, const N: usize>(s: S, lines: Lines, period: usize, function: F) {
    let mut tiles = [[0.0; TILE]; N];
    let whole = TILE / period * period;
    for i in 0..N {
        if lines.steps[i + 1] == REPEATS {
            let tile = &mut tiles[i][..whole.min(lines.len.next_multiple_of(period))];
            for (at, to) in tile[..period].iter_mut().enumerate() {
                // SAFETY: it has as many elements as the period.
                *to = unsafe { *lines.inputs[i].add(at) };
            }
            // Twice as many each time.
            let mut done = period;
            while done < tile.len() {
                let more = done.min(tile.len() - done);
                tile.copy_within(..more, done);
                done += more;
            }
        }
    }
    let mut part = Lines { period: None, ..lines };
    let mut done = 0;
    while done < lines.len {
        part.len = whole.min(lines.len - done);
        for i in 0..N {
            (part.inputs[i], part.steps[i + 1]) = match lines.steps[i + 1] {
                REPEATS => (tiles[i].as_ptr(), 1),
                step => (lines.inputs[i].wrapping_offset(done as isize * step), step),
            };
        }
        part.output = lines.output.wrapping_add(done);
        // SAFETY: it is a part of the row, and of tiles that are as long.
        unsafe { line(s, &part, function) };
        done += part.len;
    }
}
