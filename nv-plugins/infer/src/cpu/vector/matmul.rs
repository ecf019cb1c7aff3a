//! Products of matrices.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, ranges};
use crate::cpu::aligned::AlignedFloats;
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::strided::{LANES, load, store};
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::plan::{MatMul, Plan, Span, Values, View};

/// A product made ready. Vectors lie along the columns of the right matrix, wherever they are ([`Right`]).
#[derive(Debug)]
pub(super) struct Multiplying {
    instructions: Instructions,
    output: Span,
    /// Left, right (unless packed), and what is added.
    inputs: [Option<Span>; 3],
    right: Right,
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

/// How the right matrix is read.
#[derive(Debug)]
enum Right {
    /// Where it lies, with its columns side by side.
    InPlace,
    /// Block by block of columns, packed once and for all: a constant, of one product for the whole batch.
    Packed(AlignedFloats),
    /// Packed likewise, but by each piece for the blocks that it is about to multiply: it is turned, as the keys of an attention
    /// are.
    Turned,
}

/// Some rows of some blocks of columns of one product of the batch.
#[derive(Clone, Debug)]
struct Piece {
    batch: usize,
    rows: Range<usize>,
    blocks: Range<usize>,
}

/// Rows that are computed at once, as many as registers allow, and the vectors of each.
const ROWS: [usize; 4] = [8, 6, 4, 1];
const VECTORS: usize = 2;
/// The most rows of a right matrix that is packed by pieces: so much room each of them takes.
const DEEPEST: usize = 1 << 13;

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
        let matrix = match &plan.array(right.array).constant {
            Some(Values::Floats(values)) if shared => Right::Packed(pack(m, values, lanes)),
            _ if m.right.strides[rank + 1] == 1 => Right::InPlace,
            _ if m.depth <= DEEPEST => Right::Turned,
            _ => return None,
        };
        let begin = |view: &View, span: Span| view.offset as isize - span.begin as isize;
        let is_packed = matches!(matrix, Right::Packed(_));
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
        let (most_rows, most_blocks) = (m.rows.div_ceil(ROWS[0]), blocks.div_ceil(VECTORS));
        let (row_parts, block_parts) = match matrix {
            // No block is turned twice.
            Right::Turned => (wanted.div_ceil(wanted.min(most_blocks)), wanted.min(most_blocks)),
            _ => (wanted.min(most_rows), wanted.div_ceil(wanted.min(most_rows))),
        };
        let pieces = (0..products).flat_map(|batch| {
            ranges(m.rows, row_parts).flat_map(move |rows| {
                ranges(blocks, block_parts).map(move |blocks| Piece { batch, rows: rows.clone(), blocks })
            })
        });
        Some(Self {
            instructions,
            output,
            inputs: [Some(left), (!is_packed).then_some(right), add.map(|(_, span)| span)],
            begins,
            batch: batch.collect(),
            depth: m.depth,
            columns: m.columns,
            row_steps: [m.output.strides[rank], m.left.strides[rank], 0, added(rank)],
            column_steps: [m.output.strides[rank + 1], 0, m.right.strides[rank + 1], added(rank + 1)],
            depth_steps: [m.left.strides[rank + 1], m.right.strides[rank]],
            right: matrix,
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
        let room = match self.right {
            Right::Turned => VECTORS * self.depth * self.instructions.lanes(),
            Right::InPlace | Right::Packed(_) => 0,
        };
        let mut turned = AlignedFloats::zeros(room);
        let kernel = PieceKernel { product: self, piece, at, output, inputs, turned: turned.as_mut_ptr() };
        // SAFETY: all elements are inside of their spans, and no other piece writes these of the output; there is room.
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
/// All elements of the piece can be read and written, and nobody else uses what is written. Where the right matrix is turned,
/// there is room for [`VECTORS`] blocks of columns.
struct PieceKernel<'a> {
    product: &'a Multiplying,
    piece: &'a Piece,
    /// Where this product of the batch begins.
    at: [isize; 4],
    output: Target,
    inputs: [Source; 3],
    turned: *mut f32,
}

/// Rows and blocks of columns from here on.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    block: usize,
    /// Columns of the last block.
    lanes: usize,
    columns: Columns,
}

/// Where the columns of a few blocks are.
#[derive(Clone, Copy)]
struct Columns {
    from: *const f32,
    /// From a block to the next.
    next: usize,
    /// From a row to the next.
    step: isize,
    /// Whether all lanes of the last block can be read.
    whole: bool,
}

impl Kernel for PieceKernel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let blocks = self.piece.blocks.clone();
        let mut block = blocks.start;
        while block < blocks.end {
            // What is not whole, a block by itself.
            let two = block + VECTORS <= blocks.end && (block + VECTORS) * S::LANES <= self.product.columns;
            let lanes = S::LANES.min(self.product.columns - block * S::LANES);
            // SAFETY: so many blocks are left of the piece.
            unsafe {
                if two { self.blocks::<S, VECTORS>(s, block, lanes) } else { self.blocks::<S, 1>(s, block, lanes) }
            }
            block += if two { VECTORS } else { 1 };
        }
    }
}

impl PieceKernel<'_> {
    /// All rows of the piece.
    ///
    /// # Safety
    /// `NV` blocks of columns, the last of so many lanes, are some of the piece.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const NV: usize>(&self, s: S, block: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        let columns = unsafe { self.columns::<S, NV>(s, block, lanes) };
        let Range { start: mut row, end } = self.piece.rows;
        while row < end {
            let corner = Corner { row, block, lanes, columns };
            // SAFETY: so many rows are left of the piece.
            row += unsafe {
                match end - row {
                    left if left >= ROWS[0] && S::REGISTERS >= ROWS[0] * VECTORS => {
                        self.tile::<S, { ROWS[0] }, NV>(s, corner)
                    }
                    left if left >= ROWS[1] => self.tile::<S, { ROWS[1] }, NV>(s, corner),
                    left if left >= ROWS[2] => self.tile::<S, { ROWS[2] }, NV>(s, corner),
                    _ => self.tile::<S, { ROWS[3] }, NV>(s, corner),
                }
            };
        }
    }

    /// Where blocks of columns are; turned now, if they have to be.
    ///
    /// # Safety
    /// As [`blocks`](Self::blocks).
    #[inline(always)]
    unsafe fn columns<S: Simd, const NV: usize>(&self, s: S, block: usize, lanes: usize) -> Columns {
        let m = self.product;
        let panel = m.depth * S::LANES;
        let packed = Columns { from: self.turned, next: panel, step: S::LANES as isize, whole: true };
        let at = self.at[2] + (block * S::LANES) as isize * m.column_steps[2];
        match &m.right {
            Right::Packed(all) => Columns { from: all[block * panel..].as_ptr(), ..packed },
            Right::InPlace => Columns {
                from: self.inputs[1].at(at),
                next: S::LANES,
                step: m.depth_steps[1],
                whole: lanes == S::LANES,
            },
            Right::Turned => {
                for v in 0..NV {
                    let lanes = if v + 1 == NV { lanes } else { S::LANES };
                    let from = self.inputs[1].at(at + (v * S::LANES) as isize * m.column_steps[2]);
                    let steps = [m.column_steps[2], m.depth_steps[1]];
                    // SAFETY: so many columns are left of the piece; there is room for so many blocks.
                    unsafe { turn(s, from, steps, lanes, self.turned.add(v * panel), m.depth) };
                }
                packed
            }
        }
    }

    /// Gives how many rows it has.
    ///
    /// # Safety
    /// `NR` rows and `NV` blocks of columns, the last of so many lanes, can be read and written from the corner on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const NR: usize, const NV: usize>(&self, s: S, corner: Corner) -> usize {
        let m = self.product;
        let Columns { mut from, next, step, whole } = corner.columns;
        let row = corner.row as isize;
        let left = self.at[1] + row * m.row_steps[1];
        let lefts: [*const f32; NR] = std::array::from_fn(|r| self.inputs[0].at(left + r as isize * m.row_steps[1]));
        let mut along = 0;
        let mut sums = [[s.splat(0.0); NV]; NR];
        for _ in 0..m.depth {
            let mut columns = [s.splat(0.0); NV];
            for (v, column) in columns.iter_mut().enumerate() {
                let from = from.wrapping_add(v * next);
                // SAFETY: a packed block is whole; of others so many lanes are there.
                *column = unsafe { if whole { s.load(from) } else { load(s, from, 1, corner.lanes, 0.0) } };
            }
            for r in 0..NR {
                // SAFETY: it is an element of a row.
                let value = s.splat(unsafe { *lefts[r].wrapping_offset(along) });
                for v in 0..NV {
                    sums[r][v] = s.fma(value, columns[v], sums[r][v]);
                }
            }
            along += m.depth_steps[0];
            from = from.wrapping_offset(step);
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
                        let added = load(s, self.inputs[2].at(at(3)), m.column_steps[3], lanes, 0.0);
                        result = s.add(result, s.mul(s.splat(m.beta), added));
                    }
                    store(s, result, self.output.at(at(0)), m.column_steps[0], lanes);
                }
            }
        }
        NR
    }
}

/// Packs a block of columns, of so many lanes: row by row. What is beyond the last column is 0.
///
/// # Safety
/// So many columns of `depth` elements can be read, `steps` apart, and `depth` vectors written.
#[inline(always)]
unsafe fn turn<S: Simd>(s: S, from: *const f32, steps: [isize; 2], lanes: usize, to: *mut f32, depth: usize) {
    let mut done = 0;
    if lanes == S::LANES && steps[1] == 1 {
        let square = Square::new(s);
        while done + S::LANES <= depth {
            // SAFETY: so many elements are left of each column, and vectors to be written.
            unsafe { square.turn(s, from.wrapping_add(done), steps[0], to.add(done * S::LANES)) };
            done += S::LANES;
        }
    }
    for d in done..depth {
        let from = from.wrapping_offset(d as isize * steps[1]);
        // SAFETY: the caller's promise.
        unsafe { s.store(to.add(d * S::LANES), load(s, from, steps[0], lanes, 0.0)) };
    }
}

/// Turns squares of as many vectors as a vector has lanes: the upper right quarter and the lower left one change places, then
/// those of each quarter, and so on.
struct Square<S: Simd> {
    /// For quarters of 1, 2, 4, … lanes, where lanes of the upper and of the lower vector come from.
    picks: [[S::Picks; 2]; LANES.ilog2() as usize],
}

impl<S: Simd> Square<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        let picks = |size: usize, lower: bool| {
            let mut picks = [0; LANES];
            for (lane, pick) in picks.iter_mut().enumerate() {
                let from = match (lane & size == 0, lower) {
                    (true, false) => lane,
                    (false, false) => S::LANES + lane - size,
                    (true, true) => lane + size,
                    (false, true) => S::LANES + lane,
                };
                // Beyond the last lane, and for squares that are larger than vectors, it is not used.
                *pick = (from % (2 * S::LANES)) as u32;
            }
            // SAFETY: no vector has more lanes, and each is less than twice as many.
            unsafe { s.load_picks(picks.as_ptr()) }
        };
        Self { picks: std::array::from_fn(|i| [picks(1 << i, false), picks(1 << i, true)]) }
    }

    /// # Safety
    /// So many vectors can be read, `step` apart, and written, one after another.
    #[inline(always)]
    unsafe fn turn(&self, s: S, from: *const f32, step: isize, to: *mut f32) {
        let mut rows = [s.splat(0.0); LANES];
        for (i, row) in rows[..S::LANES].iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *row = unsafe { s.load(from.wrapping_offset(i as isize * step)) };
        }
        for (i, [upper, lower]) in self.picks.iter().enumerate().take(S::LANES.ilog2() as usize) {
            let size = 1 << i;
            for row in (0..S::LANES).filter(|row| row & size == 0) {
                let (a, b) = (rows[row], rows[row | size]);
                rows[row] = s.pick(a, b, *upper);
                rows[row | size] = s.pick(a, b, *lower);
            }
        }
        for (i, row) in rows[..S::LANES].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { s.store(to.add(i * S::LANES), *row) };
        }
    }
}
