//! Pools.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, ranges};
use crate::cpu::memory::Memory;
use crate::cpu::simd::strided::LANES;
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::plan::{Picture, Pool, PoolAxis, PoolKind, Span};

/// A pool made ready.
#[derive(Debug)]
pub(super) struct Pooling {
    instructions: Instructions,
    pool: Pool,
    input: Span,
    output: Span,
    /// Whether windows are so large that the greatest of each column is found first.
    by_columns: bool,
    pieces: Vec<Piece>,
}

/// What one thread does at a time: some rows of a block.
#[derive(Clone, Debug)]
struct Piece {
    block: usize,
    rows: Range<usize>,
}

/// The most input columns whose greatest values are kept at a time.
const COLUMNS: usize = 96;

impl Pooling {
    /// Makes a pool ready; `None` if there is no kernel for it.
    pub(super) fn new(pool: &Pool, instructions: Instructions, cut: Cut) -> Option<Self> {
        let (input, output) = (pool.input.span()?, pool.output.span()?);
        let [p, q] = [&pool.input, &pool.output];
        if p.block != instructions.lanes() || q.block != p.block || p.channels != q.channels || !fits(pool) {
            return None;
        }
        let greatest = |axis: &[PoolAxis]| axis.iter().map(|a| a.count).max().unwrap_or(0);
        let (rows, columns) = (greatest(&pool.rows), greatest(&pool.columns));
        let reach = columns.saturating_mul(pool.dilation[1]);
        let by_columns = pool.kind == PoolKind::Max && rows * columns > 9 && reach <= COLUMNS / 2;
        let operations = q.blocks() * q.height * q.width * (rows * columns).min(2 * (rows + columns));
        let parts = cut.pieces(operations).div_ceil(q.blocks());
        let pieces = (0..q.blocks())
            .flat_map(|block| ranges(pool.rows.len(), parts).map(move |rows| Piece { block, rows }))
            .collect();
        let within = |p: &Picture, span: Span| Picture { offset: p.offset - span.begin, ..p.clone() };
        let pool = Pool { input: within(p, input), output: within(q, output), ..pool.clone() };
        Some(Self { instructions, pool, input, output, by_columns, pieces })
    }
}

/// Whether all that the windows cover is inside of the picture, and there are as many as output rows and columns.
fn fits(pool: &Pool) -> bool {
    let axis = |axis: &[PoolAxis], dilation: usize, size: usize, out: usize| {
        let inside = |a: &PoolAxis| {
            let last = a.count.checked_sub(1).and_then(|n| n.checked_mul(dilation)?.checked_add(a.begin));
            last.is_some_and(|last| last < size)
        };
        axis.len() == out && axis.iter().all(inside)
    };
    axis(&pool.rows, pool.dilation[0], pool.input.height, pool.output.height)
        && axis(&pool.columns, pool.dilation[1], pool.input.width, pool.output.width)
}

impl Run for Pooling {
    fn run(&self, memory: &mut Memory, threads: &crate::cpu::Pool) {
        let (output, [input]) = places(memory, self.output, [Some(self.input)]);
        threads.run(self.pieces.len(), &|piece| {
            let piece = &self.pieces[piece];
            let kernel = PoolKernel { pooling: self, piece, input, output };
            // SAFETY: what windows cover is inside of the input's span (`fits`), and no other piece writes these rows of this
            // block of the output.
            unsafe { self.instructions.run(kernel) }
        });
    }
}

/// # Safety
/// The windows of the piece's rows can be read, and these rows written, which nobody else uses.
struct PoolKernel<'a> {
    pooling: &'a Pooling,
    piece: &'a Piece,
    input: Source,
    output: Target,
}

impl Kernel for PoolKernel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let Pool { kind, input, rows, columns, dilation, output } = &self.pooling.pool;
        let from = input.offset + self.piece.block * input.strides[0];
        let to = output.offset + self.piece.block * output.strides[0];
        let steps = [dilation[0] * input.strides[1], dilation[1] * input.strides[2]];
        for y in self.piece.rows.clone() {
            let window = &rows[y];
            let from = self.input.at((from + window.begin * input.strides[1]) as isize);
            let to = self.output.at((to + y * output.strides[1]) as isize);
            let row = Row { from, to, window, columns, steps, input_step: input.strides[2], step: output.strides[2] };
            // SAFETY: it is one of the piece's rows.
            unsafe {
                match kind {
                    PoolKind::Max if self.pooling.by_columns => row.greatest_by_columns(s, dilation[1]),
                    PoolKind::Max => row.greatest(s),
                    PoolKind::Average => row.mean(s),
                }
            }
        }
    }
}

/// A row of the output.
struct Row<'a> {
    /// The first input row of the windows.
    from: *const f32,
    to: *mut f32,
    window: &'a PoolAxis,
    columns: &'a [PoolAxis],
    /// Between rows and columns of a window.
    steps: [usize; 2],
    /// Between columns of the input, and of the output.
    input_step: usize,
    step: usize,
}

impl Row<'_> {
    /// # Safety
    /// As [`PoolKernel`].
    #[inline(always)]
    unsafe fn greatest<S: Simd>(&self, s: S) {
        for (x, column) in self.columns.iter().enumerate() {
            let mut greatest = s.splat(f32::NEG_INFINITY);
            for j in 0..self.window.count {
                for k in 0..column.count {
                    let at = column.begin * self.input_step + j * self.steps[0] + k * self.steps[1];
                    // SAFETY: it is in the window.
                    greatest = s.max(unsafe { s.load(self.from.add(at)) }, greatest);
                }
            }
            // SAFETY: it is a column of the row.
            unsafe { s.store(self.to.add(x * self.step), greatest) };
        }
    }

    /// The greatest value of a window is the greatest of those of its columns, which several windows share.
    ///
    /// # Safety
    /// As [`PoolKernel`]; a window reaches over at most half of [`COLUMNS`].
    #[inline(always)]
    unsafe fn greatest_by_columns<S: Simd>(&self, s: S, dilation: usize) {
        let mut kept = [[0.0f32; LANES]; COLUMNS];
        let mut x = 0;
        while let Some(first) = self.columns.get(x) {
            // As many windows as have all of their columns among those that are kept.
            let end = |c: &PoolAxis| c.begin + (c.count - 1) * dilation + 1;
            let inside = |c: &&PoolAxis| c.begin >= first.begin && end(c) <= first.begin + COLUMNS;
            let count = self.columns[x..].iter().take_while(inside).count();
            let windows = &self.columns[x..x + count];
            let last = windows.iter().map(end).max().unwrap_or(first.begin);
            for column in first.begin..last {
                let mut greatest = s.splat(f32::NEG_INFINITY);
                for j in 0..self.window.count {
                    // SAFETY: it is between columns of windows, so it is in the picture.
                    let value = unsafe { s.load(self.from.add(column * self.input_step + j * self.steps[0])) };
                    greatest = s.max(value, greatest);
                }
                // SAFETY: it has as many lanes, or more.
                unsafe { s.store(kept[column - first.begin].as_mut_ptr(), greatest) };
            }
            for (i, column) in windows.iter().enumerate() {
                let mut greatest = s.splat(f32::NEG_INFINITY);
                for k in 0..column.count {
                    let at = column.begin - first.begin + k * dilation;
                    // SAFETY: as above.
                    greatest = s.max(unsafe { s.load(kept[at].as_ptr()) }, greatest);
                }
                // SAFETY: it is a column of the row.
                unsafe { s.store(self.to.add((x + i) * self.step), greatest) };
            }
            x += count;
        }
    }

    /// # Safety
    /// As [`PoolKernel`].
    #[inline(always)]
    unsafe fn mean<S: Simd>(&self, s: S) {
        for (x, column) in self.columns.iter().enumerate() {
            let mut sum = s.splat(0.0);
            for j in 0..self.window.count {
                for k in 0..column.count {
                    let at = column.begin * self.input_step + j * self.steps[0] + k * self.steps[1];
                    // SAFETY: it is in the window.
                    sum = s.add(unsafe { s.load(self.from.add(at)) }, sum);
                }
            }
            let divisor = s.splat((self.window.divisor * column.divisor) as f32);
            // SAFETY: it is a column of the row.
            unsafe { s.store(self.to.add(x * self.step), s.div(sum, divisor)) };
        }
    }
}
