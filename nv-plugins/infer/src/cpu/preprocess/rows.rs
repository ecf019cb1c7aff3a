//! Rows of samples, stretched, mixed and turned into a network's values. Samples that were stretched come 128 times as large,
//! those that were mixed four times; they are rounded to 8 bits as in a stored picture, their low bits being cut, not rounded,
//! which would tint every grey.
//!
//! The loops are plain Rust over whole numbers and floats, compiled for each instruction set, so that every set gives the same.

#![expect(unsafe_code, reason = "loops compiled for an instruction set")]

use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::picture::{Axis, PictureChannel, Tap, YuvToRgb};

/// A loop to be compiled for each instruction set. Implementations are `#[inline(always)]`: closures are not inlined into what is
/// compiled for a set, and would be left with the least that all machines have.
trait Loop {
    fn run(self);
}

struct Compiled<L>(L);

impl<L: Loop> Kernel for Compiled<L> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, _: S) {
        self.0.run();
    }
}

fn run(instructions: Option<Instructions>, body: impl Loop) {
    match instructions {
        // SAFETY: the loop has no pointers of which anything would have to be promised.
        Some(instructions) => unsafe { instructions.run(Compiled(body)) },
        None => body.run(),
    }
}

/// Where the samples of a stretched row come from.
#[derive(Debug)]
pub(super) enum Columns {
    /// Samples side by side, at least two: where each pair begins, and its weights.
    Pairs {
        first: Vec<u32>,
        weights: Vec<[i16; 2]>,
        end: usize,
    },
    Apart(Vec<Tap>),
}

/// Samples that are fetched before they are weighed: a vector instruction can't fetch from all over a row, and weighs many at
/// once.
const FETCHED: usize = 256;

impl Columns {
    /// For stored samples that are `step` apart.
    pub(super) fn new(axis: &Axis, step: usize) -> Self {
        let [begin, end] = axis.stored();
        let taps = axis.taps(step);
        if step != 1 || end - begin < 2 {
            return Self::Apart(taps.collect());
        }
        let last = end as u32 - 2;
        // At the end both samples are the last: the second of the pair that ends there.
        let pair = |Tap { at: [a, b], weight: [of_a, of_b] }: Tap| match a == b {
            true if a > last => (last, [0, of_a + of_b]),
            true => (a, [of_a + of_b, 0]),
            false => (a, [of_a, of_b]),
        };
        let (first, weights) = taps.map(pair).unzip();
        Self::Pairs { first, weights, end }
    }

    /// One row, stretched: sums of two samples by their weights, shifted so that 255 becomes 32,640. `source` begins at the row's
    /// first sample of the channel, and `out` has a sample for each column.
    pub(super) fn stretch(&self, instructions: Option<Instructions>, source: &[u8], out: &mut [i16]) {
        match self {
            Self::Pairs { first, weights, end } => {
                assert!(source.len() >= *end, "a line has all of its samples");
                assert!(out.len() == first.len() && first.len() == weights.len(), "a sample for each column");
                run(instructions, Stretch { first, weights, source, out });
            }
            Self::Apart(taps) => {
                for (out, tap) in out.iter_mut().zip(taps) {
                    *out = weighed(tap.at.map(|at| source[at as usize]), tap.weight);
                }
            }
        }
    }
}

struct Stretch<'a> {
    /// Each with a sample after it that `source` has too.
    first: &'a [u32],
    weights: &'a [[i16; 2]],
    source: &'a [u8],
    out: &'a mut [i16],
}

impl Loop for Stretch<'_> {
    #[inline(always)]
    fn run(self) {
        let columns = self.first.chunks(FETCHED).zip(self.weights.chunks(FETCHED));
        for ((first, weights), out) in columns.zip(self.out.chunks_mut(FETCHED)) {
            let mut pairs = [[0u8; 2]; FETCHED];
            for (pair, &first) in pairs.iter_mut().zip(first) {
                // SAFETY: both samples are there.
                *pair = unsafe { self.source.as_ptr().add(first as usize).cast::<[u8; 2]>().read() };
            }
            for ((out, pair), weight) in out.iter_mut().zip(&pairs).zip(weights) {
                *out = weighed(*pair, *weight);
            }
        }
    }
}

#[inline(always)]
fn weighed(samples: [u8; 2], weights: [i16; 2]) -> i16 {
    let [a, b] = samples.map(i32::from);
    let [of_a, of_b] = weights.map(i32::from);
    ((a * of_a + b * of_b) >> 4) as i16
}

/// The row between two stretched ones, four times as large as samples are: 0 to 1,020 and up to 1 above for rounding.
pub(super) fn between_rows(
    instructions: Option<Instructions>,
    [upper, lower]: [&[i16]; 2],
    weights: [i16; 2],
    out: &mut [i16],
) {
    run(instructions, Between { upper, lower, weights, out });
}

struct Between<'a> {
    upper: &'a [i16],
    lower: &'a [i16],
    weights: [i16; 2],
    out: &'a mut [i16],
}

impl Loop for Between<'_> {
    #[inline(always)]
    fn run(self) {
        let [of_upper, of_lower] = self.weights;
        for ((out, &upper), &lower) in self.out.iter_mut().zip(self.upper).zip(self.lower) {
            *out = (part(upper, of_upper) + part(lower, of_lower)) as i16;
        }
    }
}

#[inline(always)]
fn part(sample: i16, weight: i16) -> i32 {
    (i32::from(sample) * i32::from(weight)) >> 16
}

/// The stored sample that this one rounds to.
#[inline(always)]
fn rounded(sample: i16) -> f32 {
    f32::from((sample + 2) >> 2)
}

/// A row of one colour channel.
pub(super) fn plain_row(instructions: Option<Instructions>, samples: &[i16], channel: PictureChannel, out: &mut [f32]) {
    run(instructions, Plain { samples, channel, out });
}

struct Plain<'a> {
    samples: &'a [i16],
    channel: PictureChannel,
    out: &'a mut [f32],
}

impl Loop for Plain<'_> {
    #[inline(always)]
    fn run(self) {
        for (out, &sample) in self.out.iter_mut().zip(self.samples) {
            *out = self.channel.apply(rounded(sample));
        }
    }
}

/// A row of red, green and blue from one of Y, Cb and Cr.
pub(super) fn color_row(
    instructions: Option<Instructions>,
    yuv: &YuvToRgb,
    samples: [&[i16]; 3],
    channels: [PictureChannel; 3],
    out: [&mut [f32]; 3],
) {
    run(instructions, Color { yuv: *yuv, samples, channels, out });
}

struct Color<'a> {
    yuv: YuvToRgb,
    samples: [&'a [i16]; 3],
    channels: [PictureChannel; 3],
    out: [&'a mut [f32]; 3],
}

impl Loop for Color<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { yuv, samples: [y, cb, cr], channels: [to_r, to_g, to_b], out: [r, g, b] } = self;
        let n = r.len();
        // Slices of one length, so that the compiler sees that all are there.
        let (g, b, y, cb, cr) = (&mut g[..n], &mut b[..n], &y[..n], &cb[..n], &cr[..n]);
        for i in 0..n {
            let [red, green, blue] = yuv.rgb([rounded(y[i]), rounded(cb[i]), rounded(cr[i])]);
            r[i] = to_r.apply(red);
            g[i] = to_g.apply(green);
            b[i] = to_b.apply(blue);
        }
    }
}

/// Rows of three planes as pixels.
pub(super) fn interleave(planes: [&[f32]; 3], out: &mut [f32]) {
    let [a, b, c] = planes;
    for (((pixel, &a), &b), &c) in out.chunks_exact_mut(3).zip(a).zip(b).zip(c) {
        pixel.copy_from_slice(&[a, b, c]);
    }
}
