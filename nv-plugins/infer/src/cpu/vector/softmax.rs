//! Softmax.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, loops, ranges};
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::math::exp_of_negative;
use crate::cpu::simd::strided::{LANES, load, store};
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::plan::{Softmax, Span};

/// A softmax made ready: as many at once as a vector has lanes, or, where elements are many or side by side, one after another.
#[derive(Debug)]
pub(super) struct Softmaxing {
    instructions: Instructions,
    input: Span,
    output: Span,
    /// Where elements begin in the output's span, and in the input's.
    begins: [isize; 2],
    outer: Vec<Loop>,
    /// What lanes lie along.
    across: Loop,
    along: Loop,
    /// Whether vectors lie along the elements of one softmax.
    alone: bool,
    /// Indices of the outer dimensions and vectors of lanes, counted as one.
    pieces: Vec<Range<usize>>,
}

/// Of output and input.
type Loop = loops::Loop<2>;

/// The longest dimension whose elements are gathered.
const GATHERED: usize = 128;
/// As many classes as faces and persons have: room for these takes no time to clear.
const FEW: usize = 8;

impl Softmaxing {
    /// Makes a softmax ready; `None` if there is no kernel for it.
    pub(super) fn new(softmax: &Softmax, instructions: Instructions, cut: Cut) -> Option<Self> {
        let (input, output) = (softmax.input.span(&softmax.dims)?, softmax.output.span(&softmax.dims)?);
        let begins = [softmax.output.offset - output.begin, softmax.input.offset - input.begin].map(|at| at as isize);
        let strides = softmax.output.strides.iter().zip(&softmax.input.strides);
        let mut loops: Vec<Loop> =
            softmax.dims.iter().zip(strides).map(|(&len, (&to, &from))| Loop { len, steps: [to, from] }).collect();
        let along = loops.pop()?;
        let mut outer = loops::joined(loops, 2);
        let best = (0..outer.len()).max_by_key(|&i| (outer[i].steps == [1, 1], outer[i].len));
        let across = best.map_or(Loop::ONE, |i| outer.remove(i));
        let lanes = instructions.lanes();
        let long = along.len > GATHERED || along.steps == [1, 1] && along.len >= 2 * lanes;
        let alone = long && across.steps != [1, 1];
        let vectors = outer.iter().map(|l| l.len).product::<usize>() * across.len.div_ceil(lanes);
        let pieces = ranges(vectors, cut.pieces(vectors * along.len * 20)).collect();
        Some(Self { instructions, input, output, begins, outer, across, along, alone, pieces })
    }

    fn piece(&self, vectors: Range<usize>, output: Target, input: Source) {
        let lanes = self.instructions.lanes();
        for vector in vectors {
            let (at, first) = loops::vector_at(vector, self.begins, &self.outer, &self.across, lanes);
            let lanes = lanes.min(self.across.len - first);
            let kernel = VectorKernel {
                output: output.at(at[0]),
                input: input.at(at[1]),
                lanes,
                across: self.across.steps,
                along: self.along,
                alone: self.alone,
            };
            // SAFETY: all elements are inside of the spans, and no other piece writes them.
            unsafe { self.instructions.run(kernel) }
        }
    }
}

impl Run for Softmaxing {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let (output, [input]) = places(memory, self.output, [Some(self.input)]);
        pool.run(self.pieces.len(), &|piece| self.piece(self.pieces[piece].clone(), output, input));
    }
}

/// One softmax in each of so many lanes.
///
/// # Safety
/// The elements of each lane can be read and written, and nobody else uses what is written. Where lanes are not side by side,
/// there are at most [`GATHERED`] elements along the dimension, or each is a softmax by itself.
struct VectorKernel {
    output: *mut f32,
    input: *const f32,
    lanes: usize,
    across: [isize; 2],
    along: Loop,
    /// Whether vectors lie along the elements of one softmax after another.
    alone: bool,
}

impl Kernel for VectorKernel {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let [to, from] = self.along.steps;
        let (len, output, input) = (self.along.len, self.output, self.input);
        if self.across == [1, 1] && self.lanes == S::LANES {
            // SAFETY: all lanes are there, side by side.
            unsafe { softmax(s, len, input, from, output, to) };
            return;
        }
        if self.alone || len > GATHERED {
            for lane in 0..self.lanes as isize {
                let (input, output) =
                    (input.wrapping_offset(lane * self.across[1]), output.wrapping_offset(lane * self.across[0]));
                // SAFETY: it is one of the lanes.
                unsafe {
                    match (from, to) {
                        (1, 1) => single(s, len, input, 1, output, 1),
                        _ => single(s, len, input, from, output, to),
                    }
                }
            }
            return;
        }
        // SAFETY: the caller's promise, and there are no more along the dimension.
        unsafe { if len <= FEW { self.gathered::<S, FEW>(s) } else { self.gathered::<S, GATHERED>(s) } }
    }
}

impl VectorKernel {
    /// # Safety
    /// As the kernel; there are at most `MOST` along the dimension.
    #[inline(always)]
    unsafe fn gathered<S: Simd, const MOST: usize>(&self, s: S) {
        let [to, from] = self.along.steps;
        let len = self.along.len;
        let mut values = [[0.0f32; LANES]; MOST];
        for (i, value) in values[..len].iter_mut().enumerate() {
            for (lane, value) in value[..self.lanes].iter_mut().enumerate() {
                // SAFETY: it is an element of one of the lanes.
                *value = unsafe { *self.input.wrapping_offset(i as isize * from + lane as isize * self.across[1]) };
            }
        }
        let values_at = values.as_mut_ptr().cast::<f32>();
        // SAFETY: there are as many, each with at least as many lanes.
        unsafe { softmax(s, len, values_at, LANES as isize, values_at, LANES as isize) };
        for (i, value) in values[..len].iter().enumerate() {
            for (lane, value) in value[..self.lanes].iter().enumerate() {
                // SAFETY: as above.
                unsafe { *self.output.wrapping_offset(i as isize * to + lane as isize * self.across[0]) = *value };
            }
        }
    }
}

/// # Safety
/// `len` vectors can be read, `from` apart, and written, `to` apart: the same, or others.
#[inline(always)]
unsafe fn softmax<S: Simd>(s: S, len: usize, input: *const f32, from: isize, output: *mut f32, to: isize) {
    let mut greatest = s.splat(f32::NEG_INFINITY);
    let mut sum = s.splat(0.0);
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..len as isize {
            greatest = s.max(s.load(input.wrapping_offset(i * from)), greatest);
        }
        for i in 0..len as isize {
            let value = exp_of_negative(s, s.sub(s.load(input.wrapping_offset(i * from)), greatest));
            s.store(output.wrapping_offset(i * to), value);
            sum = s.add(sum, value);
        }
        for i in 0..len as isize {
            let at = output.wrapping_offset(i * to);
            s.store(at, s.div(s.load(at), sum));
        }
    }
}

/// One softmax, with vectors along it.
///
/// # Safety
/// `len` elements can be read, `from` apart, and written, `to` apart.
#[inline(always)]
unsafe fn single<S: Simd>(s: S, len: usize, input: *const f32, from: isize, output: *mut f32, to: isize) {
    let rest = len % S::LANES;
    let vectors = (0..(len - rest) as isize).step_by(S::LANES);
    let mut lanes = [0.0f32; LANES];
    // SAFETY: the caller's promise; no vector has more lanes.
    unsafe {
        let value = |at: isize| load(s, input.wrapping_offset(at * from), from, S::LANES, 0.0);
        // Beyond the last element it is −∞, whose power is 0.
        let end = (len - rest) as isize;
        let last = load(s, input.wrapping_offset(end * from), from, rest, f32::NEG_INFINITY);
        let mut greatest = s.max(last, s.splat(f32::NEG_INFINITY));
        for at in vectors.clone() {
            greatest = s.max(value(at), greatest);
        }
        s.store(lanes.as_mut_ptr(), greatest);
        let greatest = s.splat(fold::<S>(&mut lanes, |a, b| if a > b { a } else { b }));
        let last = exp_of_negative(s, s.sub(last, greatest));
        let mut sum = last;
        for at in vectors.clone() {
            let value = exp_of_negative(s, s.sub(value(at), greatest));
            store(s, value, output.wrapping_offset(at * to), to, S::LANES);
            sum = s.add(sum, value);
        }
        s.store(lanes.as_mut_ptr(), sum);
        // The sum is at least 1.
        let factor = s.splat(1.0 / fold::<S>(&mut lanes, |a, b| a + b));
        for at in vectors {
            let at = output.wrapping_offset(at * to);
            store(s, s.mul(load(s, at, to, S::LANES, 0.0), factor), at, to, S::LANES);
        }
        store(s, s.mul(last, factor), output.wrapping_offset(end * to), to, rest);
    }
}

/// All lanes together, the one half with the other: a chain of them would take as long as many vectors.
#[inline(always)]
fn fold<S: Simd>(lanes: &mut [f32; LANES], together: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = together(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
