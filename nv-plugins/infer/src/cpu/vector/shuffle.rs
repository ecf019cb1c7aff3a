//! Channels in another order.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, places};
use super::{Cut, Run, ranges};
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::plan::{Picture, Shuffle, Span};

/// A shuffle made ready.
#[derive(Debug)]
pub(super) struct Shuffling {
    instructions: Instructions,
    inputs: [Option<Span>; INPUTS],
    output: Span,
    /// Within the output's span.
    written: Picture,
    /// Where the channels of each block come from.
    blocks: Vec<Vec<Part>>,
    pieces: Vec<(usize, Range<usize>)>,
}

/// Some lanes of a block, which come from one block of an input.
#[derive(Clone, Debug)]
struct Part {
    input: usize,
    /// Of the block's first pixel, from the beginning of the input's span.
    offset: usize,
    /// Between rows and columns.
    steps: [usize; 2],
    /// For each lane: as it is (its own number), or a lane of the input (counted after them).
    picks: Vec<u32>,
}

/// The most inputs that there is a kernel for.
const INPUTS: usize = 4;

impl Shuffling {
    /// Makes a shuffle ready; `None` if there is no kernel for it.
    pub(super) fn new(shuffle: &Shuffle, instructions: Instructions, cut: Cut) -> Option<Self> {
        let lanes = instructions.lanes();
        let out = &shuffle.output;
        let output = out.span()?;
        let same = |p: &Picture| (p.block, p.height, p.width) == (lanes, out.height, out.width);
        if shuffle.inputs.len() > INPUTS || out.block != lanes || !shuffle.inputs.iter().all(same) {
            return None;
        }
        let mut inputs = [None; INPUTS];
        for (to, picture) in inputs.iter_mut().zip(&shuffle.inputs) {
            *to = Some(picture.span()?);
        }
        let blocks = shuffle.channels.chunks(lanes).map(|channels| parts(channels, &shuffle.inputs, lanes));
        let blocks: Vec<Vec<Part>> = blocks.collect::<Option<_>>()?;
        if blocks.len() != out.blocks() {
            return None;
        }
        let operations = 2 * blocks.iter().map(|parts| parts.len() * out.height * out.width).sum::<usize>();
        let rows = cut.pieces(operations).div_ceil(blocks.len());
        let pieces =
            (0..blocks.len()).flat_map(|block| ranges(out.height, rows).map(move |rows| (block, rows))).collect();
        let written = Picture { offset: out.offset - output.begin, ..out.clone() };
        Some(Self { instructions, inputs, output, written, blocks, pieces })
    }
}

/// The parts of a block with these channels; `None` if one of them is not there.
fn parts(channels: &[(u32, u32)], inputs: &[Picture], lanes: usize) -> Option<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for (lane, &(input, channel)) in channels.iter().enumerate() {
        let (input, channel) = (input as usize, channel as usize);
        let picture = inputs.get(input).filter(|p| channel < p.channels)?;
        let begin = picture.span()?.begin;
        let offset = picture.offset - begin + channel / lanes * picture.strides[0];
        let place = parts.iter().position(|part| (part.input, part.offset) == (input, offset));
        let place = place.unwrap_or_else(|| {
            let [_, row, column] = picture.strides;
            parts.push(Part { input, offset, steps: [row, column], picks: (0..lanes as u32).collect() });
            parts.len() - 1
        });
        parts[place].picks[lane] = (lanes + channel % lanes) as u32;
    }
    Some(parts)
}

impl Run for Shuffling {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let (output, inputs) = places(memory, self.output, self.inputs);
        pool.run(self.pieces.len(), &|piece| {
            let (block, rows) = &self.pieces[piece];
            let [block_step, row, column] = self.written.strides;
            for y in rows.clone() {
                let to = output.at((self.written.offset + block * block_step + y * row) as isize);
                let kernel =
                    RowKernel { parts: &self.blocks[*block], inputs, y, to, step: column, width: self.written.width };
                // SAFETY: the row is inside of the output's span and of those of the inputs, which have the same rows and
                // columns; no other piece writes it. Picks are of two vectors.
                unsafe { self.instructions.run(kernel) }
            }
        });
    }
}

/// A row of a block.
///
/// # Safety
/// All parts of the row can be read, and the row written, which nobody else uses. Picks are less than two vectors' lanes.
struct RowKernel<'a> {
    parts: &'a [Part],
    inputs: [Source; INPUTS],
    y: usize,
    to: *mut f32,
    step: usize,
    width: usize,
}

impl Kernel for RowKernel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let from = |part: &Part| self.inputs[part.input].at((part.offset + self.y * part.steps[0]) as isize);
        // SAFETY: pixels of the row are read and written, and picks are there for all lanes.
        unsafe {
            match self.parts {
                [part] => {
                    let (from, picks) = (from(part), s.load_picks(part.picks.as_ptr()));
                    for x in 0..self.width {
                        let value = s.load(from.add(x * part.steps[1]));
                        s.store(self.to.add(x * self.step), s.pick(value, value, picks));
                    }
                }
                [a, b] => {
                    // The first vector's lanes that are not of the second are in their place after the first pick.
                    let (p, q) = (s.load_picks(a.picks.as_ptr()), s.load_picks(b.picks.as_ptr()));
                    let (from_a, from_b) = (from(a), from(b));
                    for x in 0..self.width {
                        let value = s.load(from_a.add(x * a.steps[1]));
                        let value = s.pick(value, value, p);
                        let value = s.pick(value, s.load(from_b.add(x * b.steps[1])), q);
                        s.store(self.to.add(x * self.step), value);
                    }
                }
                parts => {
                    for x in 0..self.width {
                        let mut value = s.splat(0.0);
                        for part in parts {
                            let picks = s.load_picks(part.picks.as_ptr());
                            value = s.pick(value, s.load(from(part).add(x * part.steps[1])), picks);
                        }
                        s.store(self.to.add(x * self.step), value);
                    }
                }
            }
        }
    }
}
