//! Convolutions over all input channels.
//!
//! A tile of output, some blocks of channels × some pixels, is summed up in registers: for each term of the sum (a channel of
//! a tap) the weights of the blocks are loaded, and each pixel's number is spread over a vector and multiplied with them.
//! Weights are packed in the order in which they are loaded. Nothing is copied or padded: where taps are outside of the
//! picture, their terms are left out ([`region`](super::region)). The order of a sum depends on nothing but the
//! convolution, so results are the same for any tile and any number of threads.

mod run;
mod tile;

use std::ops::Range;
use std::sync::Arc;

use super::finish::Finish;
use super::packed::{Key, Packed, by_channel};
use super::region::{self, Atom, Region};
use super::{Cut, ranges};
use crate::cpu::aligned::AlignedFloats;
use crate::cpu::simd::Instructions;
use crate::plan::{Conv, Picture, Span};
use tile::Step;

/// A convolution made ready.
#[derive(Debug)]
pub(super) struct Dense {
    instructions: Instructions,
    input: Span,
    output: Span,
    weights: Arc<AlignedFloats>,
    bias: AlignedFloats,
    finish: Finish,
    /// Where the window of the first output pixel begins, from the input span's beginning.
    window: isize,
    /// From the window of a pixel to that of the next row's or column's.
    window_steps: [usize; 2],
    /// Within the output's span.
    written: Picture,
    /// How many terms a sum has.
    terms: usize,
    regions: Vec<Region>,
    pieces: Vec<Piece>,
}

/// What one thread does at a time: some rows of some regions, for some blocks of output channels.
#[derive(Clone, Debug)]
struct Piece {
    regions: Range<usize>,
    rows: Range<usize>,
    /// `None`: all of each region.
    columns: Option<Range<usize>>,
    /// In groups of [`GROUP`] blocks.
    groups: Range<usize>,
}

/// How many blocks of output channels are summed up together.
const GROUP: usize = 2;
/// The input that a piece reads should stay in the second level cache while all of the weights go by.
const INPUT_BYTES: usize = 128 << 10;

impl Dense {
    /// Makes a convolution ready; `None` if it is not one for this kernel.
    pub(super) fn new(conv: &Conv, packed: &Packed, instructions: Instructions, cut: Cut) -> Option<Self> {
        let lanes = instructions.lanes();
        let (input, output) = (conv.input.span()?, conv.output.span()?);
        if conv.output.block != lanes || ![1, lanes].contains(&conv.input.block) {
            return None;
        }
        let finish = Finish::new(conv, instructions)?;
        let order = region::order(conv);
        let atoms = region::atoms(conv, order)?;
        let terms = region::terms(&atoms);
        if conv.weights.len() != conv.output.channels * terms {
            return None;
        }
        let key = Key { conv: conv.key, lanes, order };
        let weights = packed.get(key, || pack(conv, &atoms, terms, lanes));
        let [_, row, column] = conv.input.strides;
        let begin = conv.pad[0] * row + conv.pad[1] * column;
        let mut dense = Self {
            instructions,
            input,
            output,
            weights,
            bias: by_channel(conv.bias.as_deref(), conv),
            window: (conv.input.offset - input.begin) as isize - begin as isize,
            window_steps: [conv.stride[0] * row, conv.stride[1] * column],
            written: Picture { offset: conv.output.offset - output.begin, ..conv.output.clone() },
            terms,
            regions: region::regions(conv, &atoms)?,
            pieces: Vec::new(),
            finish,
        };
        let flat = dense.flatten(conv);
        dense.cut(conv, flat, cut);
        Some(dense)
    }

    /// Makes one long row of a picture whose rows follow one another, where pixels are computed by themselves.
    fn flatten(&mut self, conv: &Conv) -> bool {
        let follow = |p: &Picture| p.strides[1] == p.width * p.strides[2];
        let added = self.finish.residual.as_ref();
        let flat = (conv.kernel, conv.stride, conv.pad) == ([1, 1], [1, 1], [0, 0])
            && (conv.input.width, conv.input.height) == (conv.output.width, conv.output.height)
            && follow(&conv.input)
            && follow(&conv.output)
            && added.is_none_or(|added| follow(&added.picture));
        if let (true, [region]) = (flat, &mut self.regions[..]) {
            (region.rows, region.columns) = (0..1, 0..conv.output.height * conv.output.width);
            return true;
        }
        false
    }

    fn cut(&mut self, conv: &Conv, flat: bool, cut: Cut) {
        let groups = conv.output.blocks().div_ceil(GROUP);
        let pixels = conv.output.height * conv.output.width;
        let wanted = cut.pieces(pixels * self.terms * conv.output.blocks());
        if flat {
            let bytes = pixels * conv.input.channels * size_of::<f32>();
            // A piece has some tiles.
            let most = pixels.div_ceil(2 * tile::pixels(self.instructions, GROUP, Step::Block));
            let parts = bytes.div_ceil(INPUT_BYTES).max(wanted.min(most));
            let parts = if wanted > 1 { parts.next_multiple_of(cut.threads).min(most) } else { parts.min(pixels) };
            let group_parts = wanted.div_ceil(parts).min(groups);
            for columns in ranges(pixels, parts) {
                for groups in ranges(groups, group_parts) {
                    self.pieces.push(Piece { regions: 0..1, rows: 0..1, columns: Some(columns.clone()), groups });
                }
            }
            return;
        }
        let row_bytes = conv.stride[0] * conv.input.width * conv.input.channels * size_of::<f32>();
        let mut first = 0;
        while let Some(region) = self.regions.get(first) {
            let same = self.regions[first..].iter().take_while(|r| r.rows == region.rows).count();
            let rows = region.rows.clone();
            let parts = (row_bytes * rows.len()).div_ceil(INPUT_BYTES);
            let share = (wanted * rows.len()).div_ceil(conv.output.height);
            let parts = parts.max(share).clamp(1, rows.len());
            let group_parts = share.div_ceil(parts).clamp(1, groups);
            for part in ranges(rows.len(), parts) {
                for groups in ranges(groups, group_parts) {
                    let rows = rows.start + part.start..rows.start + part.end;
                    self.pieces.push(Piece { regions: first..first + same, rows, columns: None, groups });
                }
            }
            first += same;
        }
    }
}

/// Weights in the order of the sum: for each group of blocks, for each term, the blocks side by side.
fn pack(conv: &Conv, atoms: &[Atom], terms: usize, lanes: usize) -> AlignedFloats {
    let blocks = conv.output.blocks();
    let mut packed = AlignedFloats::zeros(blocks * lanes * terms);
    let [rows, columns] = conv.kernel;
    for o in 0..conv.output.channels {
        let (block, lane) = (o / lanes, o % lanes);
        let group = block / GROUP;
        let width = GROUP.min(blocks - group * GROUP) * lanes;
        let begin = group * GROUP * lanes * terms + block % GROUP * lanes + lane;
        for atom in atoms {
            let [j, k] = atom.tap;
            for i in 0..atom.len {
                let from = ((o * conv.input.channels + atom.channel + i) * rows + j) * columns + k;
                packed[begin + (atom.term + i) * width] = conv.weights[from];
            }
        }
    }
    packed
}
