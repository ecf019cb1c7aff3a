//! Products of matrices.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, ranges};
use crate::cpu::aligned::AlignedFloats;
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::strided::{gather, scatter};
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::plan::{MatMul, Plan, Span, Values, View};

/// A product made ready. Vectors lie along the columns of the right matrix: as it is, where they lie side by side, or packed
/// block by block of columns, where it is a constant.
#[derive(Debug)]
pub(super) struct Multiplying {
    instructions: Instructions,
    output: Span,
    /// Left, right (unless packed), and what is added.
    inputs: [Option<Span>; 3],
    packed: Option<AlignedFloats>,
    /// Where the output, left, right, and what is added begin, in their spans.
    begins: [isize; 4],
    /// The batch's dimensions, with the steps of the same four.
    batch: Vec<(usize, [isize; 4])>,
    depth: usize,
    columns: usize,
    /// From row to row, and from column to column, of the same four; those of the left and right matrix along the depth.
    row_steps: [isize; 4],
    column_steps: [isize; 4],
    depth_steps: [isize; 2],
    alpha: f32,
    beta: f32,
    pieces: Vec<Piece>,
}

/// Some rows of some blocks of columns of one product of the batch.
#[derive(Clone, Debug)]
struct Piece {
    batch: usize,
    rows: Range<usize>,
    blocks: Range<usize>,
}

/// Rows that are computed at once, and the vectors of each.
const ROWS: usize = 4;
const VECTORS: usize = 2;

impl Multiplying {
    /// Makes a product ready; `None` if there is no kernel for it.
    pub(super) fn new(m: &MatMul, plan: &Plan, instructions: Instructions, cut: Cut) -> Option<Self> {
        let (lanes, rank) = (instructions.lanes(), m.batch.len());
        let dims = |rows: usize, columns: usize| [&m.batch[..], &[rows, columns]].concat();
        let out_dims = dims(m.rows, m.columns);
        let output = m.output.span(&out_dims)?;
        let (left, right) = (m.left.span(&dims(m.rows, m.depth))?, m.right.span(&dims(m.depth, m.columns))?);
        let add = match &m.add {
            Some(add) => Some((add, add.span(&out_dims)?)),
            None => None,
        };
        let shared = m.right.strides[..rank].iter().zip(&m.batch).all(|(stride, len)| *stride == 0 || *len == 1);
        let packed = match &plan.array(right.array).constant {
            Some(Values::Floats(values)) if shared => Some(pack(m, values, lanes)),
            _ if m.right.strides[rank + 1] == 1 => None,
            _ => return None,
        };
        let begin = |view: &View, span: Span| view.offset as isize - span.begin as isize;
        let is_packed = packed.is_some();
        let begins = [
            begin(&m.output, output),
            begin(&m.left, left),
            if is_packed { 0 } else { begin(&m.right, right) },
            add.map_or(0, |(view, span)| begin(view, span)),
        ];
        let added = |d: usize| add.map_or(0, |(view, _)| view.strides[d]);
        let batch = (0..rank).map(|d| {
            let right = if is_packed { 0 } else { m.right.strides[d] };
            (m.batch[d], [m.output.strides[d], m.left.strides[d], right, added(d)])
        });
        let blocks = m.columns.div_ceil(lanes);
        let products: usize = m.batch.iter().product();
        let operations = (products * m.rows * blocks).saturating_mul(m.depth);
        let wanted = cut.pieces(operations).div_ceil(products);
        let row_parts = wanted.min(m.rows.div_ceil(ROWS));
        let block_parts = wanted.div_ceil(row_parts);
        let pieces = (0..products).flat_map(|batch| {
            ranges(m.rows, row_parts).flat_map(move |rows| {
                ranges(blocks, block_parts).map(move |blocks| Piece { batch, rows: rows.clone(), blocks })
            })
        });
        Some(Self {
            instructions,
            output,
            inputs: [Some(left), (!is_packed).then_some(right), add.map(|(_, span)| span)],
            packed,
            begins,
            batch: batch.collect(),

            depth: m.depth,
            columns: m.columns,
            row_steps: [m.output.strides[rank], m.left.strides[rank], 0, added(rank)],
            column_steps: [m.output.strides[rank + 1], 0, 1, added(rank + 1)],
            depth_steps: [m.left.strides[rank + 1], if is_packed { lanes as isize } else { m.right.strides[rank] }],
            alpha: m.alpha,
            beta: if add.is_some() { m.beta } else { 0.0 },
            pieces: pieces.collect(),
        })
    }

    fn piece(&self, piece: &Piece, output: Target, inputs: [Source; 3]) {
        let mut at = self.begins;
        let mut rest = piece.batch;
        for (len, steps) in self.batch.iter().rev() {
            let index = (rest % len) as isize;
            rest /= len;
            at.iter_mut().zip(steps).for_each(|(at, step)| *at += index * step);
        }
        let kernel = PieceKernel { product: self, piece, at, output, inputs };
        // SAFETY: all elements are inside of their spans, and no other piece writes these of the output.
        unsafe { self.instructions.run(kernel) }
    }
}

/// The columns in blocks: for each, row by row. Columns beyond the last are 0.
fn pack(m: &MatMul, values: &[f32], lanes: usize) -> AlignedFloats {
    let rank = m.batch.len();
    let mut packed = AlignedFloats::zeros(m.columns.div_ceil(lanes) * lanes * m.depth);
    for d in 0..m.depth {
        for c in 0..m.columns {
            let steps = d as isize * m.right.strides[rank] + c as isize * m.right.strides[rank + 1];
            packed[(c / lanes * m.depth + d) * lanes + c % lanes] = values[(m.right.offset as isize + steps) as usize];
        }
    }
    packed
}

impl Run for Multiplying {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let (output, inputs) = places(memory, self.output, self.inputs);
        pool.run(self.pieces.len(), &|piece| self.piece(&self.pieces[piece], output, inputs));
    }
}

/// # Safety
/// All elements of the piece can be read and written, and nobody else uses what is written.
struct PieceKernel<'a> {
    product: &'a Multiplying,
    piece: &'a Piece,
    /// Where this product of the batch begins.
    at: [isize; 4],
    output: Target,
    inputs: [Source; 3],
}

/// Rows and blocks of columns from here on.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    block: usize,
    /// Columns of the last block.
    lanes: usize,
}

impl Kernel for PieceKernel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let Piece { rows, blocks, .. } = self.piece;
        let mut block = blocks.start;
        while block < blocks.end {
            // What is not whole, a block by itself.
            let two = block + VECTORS <= blocks.end && (block + VECTORS) * S::LANES <= self.product.columns;
            let lanes = S::LANES.min(self.product.columns - block * S::LANES);
            let mut row = rows.start;
            while row < rows.end {
                let corner = Corner { row, block, lanes };
                // SAFETY: so many rows and columns are left of the piece.
                unsafe {
                    match (rows.end - row >= ROWS, two) {
                        (true, true) => self.tile::<S, ROWS, VECTORS>(s, corner),
                        (true, false) => self.tile::<S, ROWS, 1>(s, corner),
                        (false, true) => self.tile::<S, 1, VECTORS>(s, corner),
                        (false, false) => self.tile::<S, 1, 1>(s, corner),
                    }
                }
                row += if rows.end - row >= ROWS { ROWS } else { 1 };
            }
            block += if two { VECTORS } else { 1 };
        }
    }
}

impl PieceKernel<'_> {
    /// # Safety
    /// `NR` rows and `NV` blocks of columns, the last of so many lanes, can be read and written from the corner on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const NR: usize, const NV: usize>(&self, s: S, corner: Corner) {
        let m = self.product;
        let [_, left, right, _] = self.at;
        let row = corner.row as isize;
        let whole = corner.lanes == S::LANES || m.packed.is_some();
        let mut lefts = [self.inputs[0].at(left + row * m.row_steps[1]); NR];
        for (r, from) in lefts.iter_mut().enumerate() {
            *from = from.wrapping_offset(r as isize * m.row_steps[1]);
        }
        // A block of columns and the next one.
        let (mut from, next) = match &m.packed {
            Some(packed) => (packed[corner.block * m.depth * S::LANES..].as_ptr(), m.depth * S::LANES),
            None => (self.inputs[1].at(right + (corner.block * S::LANES) as isize), S::LANES),
        };
        let mut sums = [[s.splat(0.0); NV]; NR];
        for _ in 0..m.depth {
            let mut columns = [s.splat(0.0); NV];
            for (v, column) in columns.iter_mut().enumerate() {
                let from = from.wrapping_add(v * next);
                // SAFETY: a packed block is whole; of others so many lanes are there.
                *column = unsafe { if whole { s.load(from) } else { load(s, from, 1, corner.lanes) } };
            }
            for r in 0..NR {
                // SAFETY: it is an element of a row.
                let value = s.splat(unsafe { *lefts[r] });
                lefts[r] = lefts[r].wrapping_offset(m.depth_steps[0]);
                for v in 0..NV {
                    sums[r][v] = s.fma(value, columns[v], sums[r][v]);
                }
            }
            from = from.wrapping_offset(m.depth_steps[1]);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let lanes = if v + 1 == NV { corner.lanes } else { S::LANES };
                let column = ((corner.block + v) * S::LANES) as isize;
                let at = |operand: usize| {
                    let row = (row + r as isize) * m.row_steps[operand];
                    self.at[operand] + row + column * m.column_steps[operand]
                };
                let mut result = s.mul(s.splat(m.alpha), *sum);
                // SAFETY: so many columns of the row can be read and written.
                unsafe {
                    if m.inputs[2].is_some() {
                        let added = load(s, self.inputs[2].at(at(3)), m.column_steps[3], lanes);
                        result = s.add(result, s.mul(s.splat(m.beta), added));
                    }
                    store(s, result, self.output.at(at(0)), m.column_steps[0], lanes);
                }
            }
        }
    }
}

/// The first `count` lanes; the others are 0.
///
/// # Safety
/// So many elements can be read, `step` apart.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, from: *const f32, step: isize, count: usize) -> S::V {
    let whole = step == 1 && count == S::LANES;
    // SAFETY: the caller's promise.
    unsafe { if whole { s.load(from) } else { gather(s, from, step, count, 0.0) } }
}

/// # Safety
/// So many elements can be written, `step` apart.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, value: S::V, to: *mut f32, step: isize, count: usize) {
    let whole = step == 1 && count == S::LANES;
    // SAFETY: the caller's promise.
    unsafe { if whole { s.store(to, value) } else { scatter(s, value, to, step, count) } }
}
