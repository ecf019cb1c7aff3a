//! Runs a convolution, line by line.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use super::tile::{self, Step, Strip};
use super::{Dense, GROUP, Piece};
use crate::cpu::vector::Run;
use crate::cpu::vector::finish::Line;
use crate::cpu::vector::places::{Source, Target, places};
use crate::cpu::vector::region::Region;
use crate::cpu::{Memory, Pool};
use crate::plan::Picture;

/// After so many tiles, at most, comes the pass over what they have written, as long as it is in the first level cache.
const TILES_A_PASS: usize = 8;

impl Run for Dense {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let added = self.finish.residual.as_ref().map(|added| added.span);
        let (output, [input, added]) = places(memory, self.output, [Some(self.input), added]);
        let places = Places { input, output, added };
        pool.run(self.pieces.len(), &|piece| self.piece(&self.pieces[piece], &places));
    }
}

/// Where all of it is.
struct Places {
    input: Source,
    output: Target,
    /// What is added, where something is.
    added: Source,
}

impl Dense {
    fn piece(&self, piece: &Piece, places: &Places) {
        for group in piece.groups.clone() {
            for region in &self.regions[piece.regions.clone()] {
                let columns = piece.columns.clone().unwrap_or_else(|| region.columns.clone());
                // Columns at the edges are few, and have many pixels.
                if columns.len() < 4 && columns.len() < piece.rows.len() {
                    for x in columns {
                        self.line(region, group, [piece.rows.start, x], piece.rows.len(), 0, places);
                    }
                } else {
                    for y in piece.rows.clone() {
                        self.line(region, group, [y, columns.start], columns.len(), 1, places);
                    }
                }
            }
        }
    }

    /// Computes `count` pixels from one on, along rows (axis 1) or columns (axis 0), for a group of blocks.
    fn line(&self, region: &Region, group: usize, [y, x]: [usize; 2], count: usize, axis: usize, places: &Places) {
        let lanes = self.instructions.lanes();
        let first = group * GROUP;
        let blocks = GROUP.min(self.written.blocks() - first);
        let [block_step, row, column] = self.written.strides;
        let window = self.window + (y * self.window_steps[0] + x * self.window_steps[1]) as isize;
        let step = self.window_steps[axis];
        let output_step = [row, column][axis];
        let to = self.written.offset + first * block_step + y * row + x * column;
        let kind = Step::of(step, lanes);
        let most = tile::pixels(self.instructions, blocks, kind);
        let tiles_at_once = if self.finish.is_a_pass() { TILES_A_PASS } else { usize::MAX };
        // As even as can be: a small tile takes nearly as long as a large one.
        let tiles = count.div_ceil(most);
        let (least, larger) = (count / tiles, count % tiles);
        let mut strip = Strip {
            input: places.input.at(window),
            input_step: step,
            output: places.output.at(to as isize),
            output_step,
            block_step,
            weights: self.weights[first * lanes * self.terms..].as_ptr(),
            bias: self.bias[first * lanes..].as_ptr(),
            runs: &region.runs,
            limits: self.finish.limits(),
            tiles: 0,
        };
        let mut done = 0;
        for (pixels, tiles) in [(least + 1, larger), (least, tiles - larger)] {
            let mut left = tiles;
            while left > 0 {
                strip.tiles = left.min(tiles_at_once);
                left -= strip.tiles;
                // SAFETY: the pixels are some of the region, for all of which the taps of its runs are inside of the
                // input's span; what is written is inside of the output's, and no other piece writes it. Weights and
                // bias are there for all terms of all blocks.
                unsafe { strip.run(self.instructions, blocks, pixels, kind) };
                let some = strip.tiles * pixels;
                if self.finish.is_a_pass() {
                    self.pass([first, blocks], [y, x], done, some, axis, places);
                }
                done += some;
                strip.input = strip.input.wrapping_add(some * step);
                strip.output = strip.output.wrapping_add(some * output_step);
            }
        }
    }

    /// Ends the sums of `count` pixels of a line, after the first `done`.
    fn pass(
        &self,
        [first, blocks]: [usize; 2],
        [y, x]: [usize; 2],
        done: usize,
        count: usize,
        axis: usize,
        places: &Places,
    ) {
        for block in first..first + blocks {
            let place = |picture: &Picture| {
                let [b, row, column] = picture.strides;
                let step = [row, column][axis];
                (picture.offset + block * b + y * row + x * column + done * step, step)
            };
            let (to, step) = place(&self.written);
            let (from, added_step) = self.finish.residual.as_ref().map_or((0, 0), |added| place(&added.picture));
            let line = Line {
                output: places.output.at(to as isize),
                added: places.added.at(from as isize),
                count,
                steps: [step, added_step],
                block,
            };
            // SAFETY: the pixels are inside of the output's span, which is this piece's here, and of the residual's, which
            // is of the same size.
            unsafe { self.finish.pass(line) };
        }
    }
}
