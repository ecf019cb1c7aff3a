//! The innermost loops of convolutions.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]
#![expect(clippy::needless_range_loop, reason = "all loops over registers are written alike")]

use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::cpu::vector::region::Run;

/// Tiles of as many pixels each, side by side: `tiles` of them, for one group of blocks.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a> {
    /// Where the window of the first pixel begins; that may be outside of the picture.
    pub(super) input: *const f32,
    /// From the window of a pixel to the next.
    pub(super) input_step: usize,
    /// The first pixel of the first block.
    pub(super) output: *mut f32,
    /// From pixel to pixel, and from block to block.
    pub(super) output_step: usize,
    pub(super) block_step: usize,
    /// For each term, the weights of all blocks.
    pub(super) weights: *const f32,
    pub(super) bias: *const f32,
    pub(super) runs: &'a [Run],
    /// What sums are kept within.
    pub(super) limits: Option<[f32; 2]>,
    pub(super) tiles: usize,
}

/// From the window of a pixel to the next: the compiler can count with those that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A block: stride 1.
    Block,
    /// Two blocks: stride 2.
    TwoBlocks,
    /// Two floats: stride 2, over single channels.
    Two,
    Other,
}

impl Step {
    pub(super) fn of(step: usize, lanes: usize) -> Self {
        match step {
            _ if step == lanes => Self::Block,
            _ if step == 2 * lanes => Self::TwoBlocks,
            2 => Self::Two,
            _ => Self::Other,
        }
    }
}

/// The most pixels of a tile of so many blocks.
pub(super) fn pixels(instructions: Instructions, blocks: usize, step: Step) -> usize {
    let most = if step == Step::Other { 6 } else { 14 };
    most.min(instructions.registers() / blocks)
}

impl Strip<'_> {
    /// Computes it, in tiles of so many blocks and pixels: at most [`pixels`].
    ///
    /// # Safety
    /// For each pixel, the runs can be read from its window on; each pixel of each block can be written, and nobody else uses
    /// it. Weights are there for all terms of the runs, and bias for all blocks.
    pub(super) unsafe fn run(self, instructions: Instructions, blocks: usize, pixels: usize, step: Step) {
        macro_rules! tiles {
            ($($step:ident $value:literal: $($pixels:literal)*;)*) => {
                match (step, blocks, pixels) {
                    $($(
                        // SAFETY: the caller's promise is all that the kernel asks for.
                        (Step::$step, 1, $pixels) => unsafe { instructions.run(Tiles::<1, $pixels, $value>(self)) },
                        // SAFETY: as above.
                        (Step::$step, 2, $pixels) => unsafe { instructions.run(Tiles::<2, $pixels, $value>(self)) },
                    )*)*
                    _ => unreachable!("no tile of {blocks} blocks and {pixels} pixels"),
                }
            };
        }
        tiles! {
            Block 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
            TwoBlocks 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
            Two 3: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
            Other 0: 1 2 3 4 5 6;
        }
    }
}

/// A strip in tiles of `NB` blocks × `NP` pixels. `STEP` says which [`Step`] it is.
///
/// # Safety
/// As [`Strip::run`].
struct Tiles<'a, const NB: usize, const NP: usize, const STEP: u8>(Strip<'a>);

impl<const NB: usize, const NP: usize, const STEP: u8> Kernel for Tiles<'_, NB, NP, STEP> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let strip = self.0;
        if NB * NP > S::REGISTERS {
            unreachable!("the tile has more vectors than there are registers");
        }
        let step = match STEP {
            1 => S::LANES,
            2 => 2 * S::LANES,
            3 => 2,
            _ => strip.input_step,
        };
        let (mut input, mut output) = (strip.input, strip.output);
        // SAFETY: runs are read from windows of pixels, and pixels are written, both of the strip; weights and bias are there
        // for all terms and blocks.
        unsafe {
            for _ in 0..strip.tiles {
                let mut sums = [[s.splat(0.0); NP]; NB];
                for i in 0..NB {
                    sums[i] = [s.load(strip.bias.add(i * S::LANES)); NP];
                }
                for run in strip.runs {
                    let mut from = input.wrapping_offset(run.offset);
                    let mut weights = strip.weights.add(run.term * NB * S::LANES);
                    for _ in 0..run.len {
                        let mut weight = [s.splat(0.0); NB];
                        for i in 0..NB {
                            weight[i] = s.load(weights.add(i * S::LANES));
                        }
                        for j in 0..NP {
                            let value = s.splat(*from.add(j * step));
                            for i in 0..NB {
                                sums[i][j] = s.fma(weight[i], value, sums[i][j]);
                            }
                        }
                        from = from.wrapping_add(1);
                        weights = weights.add(NB * S::LANES);
                    }
                }
                if let Some([least, greatest]) = strip.limits {
                    let (least, greatest) = (s.splat(least), s.splat(greatest));
                    for i in 0..NB {
                        for j in 0..NP {
                            sums[i][j] = s.min(s.max(sums[i][j], least), greatest);
                        }
                    }
                }
                for i in 0..NB {
                    let block = output.add(i * strip.block_step);
                    for j in 0..NP {
                        s.store(block.add(j * strip.output_step), sums[i][j]);
                    }
                }
                input = input.wrapping_add(NP * step);
                output = output.wrapping_add(NP * strip.output_step);
            }
        }
    }
}
