//! Convolutions of each channel by itself.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

mod columns;

use std::ops::Range;
use std::sync::Arc;

use super::finish::{Finish, Line};
use super::packed::{Key, Packed, by_channel};
use super::places::{Source, Target, places};
use super::region::{self, Order, Region};
use super::{Cut, Run, ranges};
use crate::cpu::aligned::AlignedFloats;
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::Instructions;
use crate::plan::{Conv, Picture, Span};
use columns::Columns;

/// A depthwise convolution made ready.
#[derive(Debug)]
pub(super) struct Depthwise {
    instructions: Instructions,
    input: Span,
    output: Span,
    /// For each block, for each tap, the lanes.
    weights: Arc<AlignedFloats>,
    bias: AlignedFloats,
    finish: Finish,
    /// Where the window of the first output pixel of the first block begins, from the input span's beginning.
    window: isize,
    /// From the window of a pixel to that of the next block's, row's, or column's.
    window_steps: [usize; 3],
    /// Within the output's span.
    written: Picture,
    taps: usize,
    regions: Vec<Region>,
    pieces: Vec<Piece>,
}

/// What one thread does at a time: some rows of a block.
#[derive(Clone, Debug)]
struct Piece {
    block: usize,
    rows: Range<usize>,
}

/// Where all of it is.
struct Places {
    input: Source,
    output: Target,
    /// What is added, where something is.
    added: Source,
}

impl Depthwise {
    /// Makes a convolution ready; `None` if it is not one for this kernel.
    pub(super) fn new(conv: &Conv, packed: &Packed, instructions: Instructions, cut: Cut) -> Option<Self> {
        let lanes = instructions.lanes();
        let (input, output) = (conv.input.span()?, conv.output.span()?);
        if conv.output.block != lanes || conv.input.block != lanes || conv.input.channels != conv.output.channels {
            return None;
        }
        let finish = Finish::new(conv, instructions)?;
        let atoms = region::atoms(conv, Order::Taps)?;
        let taps = region::terms(&atoms);
        if conv.weights.len() != conv.output.channels * taps {
            return None;
        }
        let key = Key { conv: conv.key, lanes, order: Order::Taps };
        let weights = packed.get(key, || pack(conv, taps, lanes));
        let [block, row, column] = conv.input.strides;
        let begin = conv.pad[0] * row + conv.pad[1] * column;
        let wanted = cut.pieces(conv.output.height * conv.output.width * taps * conv.output.blocks());
        let parts = wanted.div_ceil(conv.output.blocks()).min(conv.output.height);
        let pieces = (0..conv.output.blocks())
            .flat_map(|block| ranges(conv.output.height, parts).map(move |rows| Piece { block, rows }))
            .collect();
        Some(Self {
            instructions,
            input,
            output,
            weights,
            bias: by_channel(conv.bias.as_deref(), conv),
            finish,
            window: (conv.input.offset - input.begin) as isize - begin as isize,
            window_steps: [block, conv.stride[0] * row, conv.stride[1] * column],
            written: Picture { offset: conv.output.offset - output.begin, ..conv.output.clone() },
            taps,
            regions: region::regions(conv, &atoms)?,
            pieces,
        })
    }

    fn piece(&self, piece: &Piece, places: &Places) {
        let columns = self.regions.iter().take_while(|r| r.rows == self.regions[0].rows).count();
        for same_rows in self.regions.chunks(columns) {
            let rows = &same_rows[0].rows;
            let rows = rows.start.max(piece.rows.start)..rows.end.min(piece.rows.end);
            // Columns at the edges are few, and have many pixels.
            let narrow = |region: &&Region| region.columns.len() < 4 && region.columns.len() < rows.len();
            for region in same_rows.iter().filter(narrow) {
                for x in region.columns.clone() {
                    self.line(region, piece.block, [rows.start, x], rows.len(), 0, places);
                }
            }
            for y in rows.clone() {
                for region in same_rows.iter().filter(|region| !narrow(region)) {
                    self.line(region, piece.block, [y, region.columns.start], region.columns.len(), 1, places);
                }
                if self.finish.is_a_pass() {
                    self.pass(piece.block, y, places);
                }
            }
        }
    }

    /// Computes `count` pixels from one on, along rows (axis 1) or columns (axis 0), of a block.
    fn line(&self, region: &Region, block: usize, [y, x]: [usize; 2], count: usize, axis: usize, places: &Places) {
        let lanes = self.instructions.lanes();
        let steps = self.window_steps;
        let window = self.window + (block * steps[0] + y * steps[1] + x * steps[2]) as isize;
        let [block_step, row, column] = self.written.strides;
        let to = self.written.offset + block * block_step + y * row + x * column;
        let columns = Columns {
            input: places.input.at(window),
            input_step: steps[1 + axis],
            output: places.output.at(to as isize),
            output_step: [row, column][axis],
            weights: self.weights[block * self.taps * lanes..].as_ptr(),
            bias: self.bias[block * lanes..].as_ptr(),
            runs: &region.runs,
            limits: self.finish.limits(),
            count,
        };
        // SAFETY: for the pixels of a region the taps of its runs are inside of the input's span; what is written is inside of
        // the output's, and no other piece writes it. Weights and bias are there for all taps and blocks.
        unsafe { columns.run(self.instructions) }
    }

    /// Ends the sums of a row of a block.
    fn pass(&self, block: usize, y: usize, places: &Places) {
        let place = |picture: &Picture| {
            let [b, row, column] = picture.strides;
            (picture.offset + block * b + y * row, column)
        };
        let (to, step) = place(&self.written);
        let (from, added_step) = self.finish.residual.as_ref().map_or((0, 0), |added| place(&added.picture));
        let line = Line {
            output: places.output.at(to as isize),
            added: places.added.at(from as isize),
            count: self.written.width,
            steps: [step, added_step],
            block,
        };
        // SAFETY: the row is inside of the output's span, where it is this piece's, and of the residual's, which is of the same
        // size.
        unsafe { self.finish.pass(line) }
    }
}

impl Run for Depthwise {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let added = self.finish.residual.as_ref().map(|added| added.span);
        let (output, [input, added]) = places(memory, self.output, [Some(self.input), added]);
        let places = Places { input, output, added };
        pool.run(self.pieces.len(), &|piece| self.piece(&self.pieces[piece], &places));
    }
}

fn pack(conv: &Conv, taps: usize, lanes: usize) -> AlignedFloats {
    let mut packed = AlignedFloats::zeros(conv.output.blocks() * lanes * taps);
    for c in 0..conv.output.channels {
        for tap in 0..taps {
            packed[(c / lanes * taps + tap) * lanes + c % lanes] = conv.weights[c * taps + tap];
        }
    }
    packed
}
