//! Sums, means and greatest values.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, loops, ranges};
use crate::cpu::memory::Memory;
use crate::cpu::pool::Pool;
use crate::cpu::simd::strided::{LANES, load, store};
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::graph::op::Reduction;
use crate::plan::{Kind, Plan, Reduce, Span};

/// A reduction made ready.
///
/// Vectors lie along a dimension that is kept, where its elements are side by side, or along one that is reduced. In either
/// case sums are of several parts, which are added in the end.
#[derive(Debug)]
pub(super) struct Reducing {
    instructions: Instructions,
    kind: Reduction,
    input: Span,
    output: Span,
    /// Where elements begin in the output's span, and in the input's.
    begins: [isize; 2],
    outer: Vec<Kept>,
    /// The kept dimension that vectors lie along; of one element, if they don't.
    across: Kept,
    /// The reduced dimensions: how long, and from one element to the next.
    reduced: [(usize, isize); 2],
    count: usize,
    /// Indices of the outer dimensions and vectors across, counted as one.
    pieces: Vec<Range<usize>>,
}

/// Of output and input: a dimension that is kept.
type Kept = loops::Loop<2>;

/// Sums of so many parts, for instructions to overlap.
const PARTS: usize = 4;

impl Reducing {
    /// Makes a reduction ready; `None` if there is no kernel for it.
    pub(super) fn new(reduce: &Reduce, plan: &Plan, instructions: Instructions, cut: Cut) -> Option<Self> {
        let dims = [&reduce.kept[..], &reduce.reduced].concat();
        let (output, input) = (reduce.output.span(&reduce.kept)?, reduce.input.span(&dims)?);
        if plan.array(output.array).kind != Kind::Float || plan.array(input.array).kind != Kind::Float {
            return None;
        }
        let (kept_strides, reduced_strides) = reduce.input.strides.split_at(reduce.kept.len());
        let strides = reduce.output.strides.iter().zip(kept_strides);
        let kept = reduce.kept.iter().zip(strides).map(|(&len, (&to, &from))| Kept { len, steps: [to, from] });
        let mut outer: Vec<Kept> = kept.filter(|k| k.len > 1).collect();
        let side_by_side = |k: &Kept| k.steps == [1, 1] && k.len * 2 > instructions.lanes();
        let across = outer.iter().position(side_by_side).map_or(Kept::ONE, |i| outer.remove(i));
        let reduced = joined(reduce.reduced.iter().copied().zip(reduced_strides.iter().copied()))?;
        // Along what is reduced, its elements have to be side by side, and some.
        if across.len == 1 && (reduced[1].1 != 1 || reduced[1].0 < instructions.lanes()) {
            return None;
        }
        let count: usize = reduce.reduced.iter().product();
        let vectors = outer.iter().map(|k| k.len).product::<usize>() * across.len.div_ceil(instructions.lanes());
        let pieces = ranges(vectors, cut.pieces(dims.iter().product::<usize>() / instructions.lanes())).collect();
        let begins = [reduce.output.offset - output.begin, reduce.input.offset - input.begin].map(|at| at as isize);
        Some(Self { instructions, kind: reduce.kind, input, output, begins, outer, across, reduced, count, pieces })
    }

    fn piece(&self, vectors: Range<usize>, output: Target, input: Source) {
        let lanes = self.instructions.lanes();
        for vector in vectors {
            let (at, first) = loops::vector_at(vector, self.begins, &self.outer, &self.across, lanes);
            let kernel = VectorKernel {
                output: output.at(at[0]),
                input: input.at(at[1]),
                lanes: (self.across.len > 1).then_some(lanes.min(self.across.len - first)),
                reduced: self.reduced,
                kind: self.kind,
                count: self.count,
            };
            // SAFETY: all elements are inside of the spans, and no other piece writes these of the output.
            unsafe { self.instructions.run(kernel) }
        }
    }
}

/// The reduced dimensions as two; `None` if they are more.
fn joined(dims: impl Iterator<Item = (usize, isize)>) -> Option<[(usize, isize); 2]> {
    let mut dims: Vec<(usize, isize)> = dims.filter(|(len, _)| *len > 1).collect();
    dims.sort_by_key(|(_, step)| std::cmp::Reverse(step.unsigned_abs()));
    let mut all = vec![(1, 0)];
    for (len, step) in dims {
        match all.last_mut() {
            Some(last) if last.0 > 1 && last.1 == step * len as isize => *last = (last.0 * len, step),
            _ => all.push((len, step)),
        }
    }
    match all[..] {
        [one] => Some([one, one]),
        [one, inner] => Some([one, inner]),
        [_, outer, inner] => Some([outer, inner]),
        _ => None,
    }
}

impl Run for Reducing {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let (output, [input]) = places(memory, self.output, [Some(self.input)]);
        pool.run(self.pieces.len(), &|piece| self.piece(self.pieces[piece].clone(), output, input));
    }
}

/// Reduces in each of so many lanes, or (without) to one number.
///
/// # Safety
/// All elements can be read, and as many written as there are lanes, side by side, which nobody else uses.
struct VectorKernel {
    output: *mut f32,
    input: *const f32,
    lanes: Option<usize>,
    reduced: [(usize, isize); 2],
    kind: Reduction,
    count: usize,
}

impl Kernel for VectorKernel {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's promise.
        let parts = unsafe {
            match (self.kind, self.lanes) {
                (Reduction::Max, Some(lanes)) => self.across::<S, Max>(s, lanes),
                (Reduction::Max, None) => self.along::<S, Max>(s),
                (Reduction::Sum | Reduction::Mean, Some(lanes)) => self.across::<S, Sum>(s, lanes),
                (Reduction::Sum | Reduction::Mean, None) => self.along::<S, Sum>(s),
            }
        };
        let divisor = if self.kind == Reduction::Mean { self.count as f32 } else { 1.0 };
        if let Some(lanes) = self.lanes {
            // SAFETY: so many can be written.
            unsafe { store(s, s.div(parts, s.splat(divisor)), self.output, 1, lanes) };
            return;
        }
        let mut lanes = [0.0f32; LANES];
        // SAFETY: no vector has more lanes.
        unsafe { s.store(lanes.as_mut_ptr(), parts) };
        let all = lanes[..S::LANES].iter();
        let result = match self.kind {
            Reduction::Max => all.fold(f32::NEG_INFINITY, |a, b| a.max(*b)),
            Reduction::Sum | Reduction::Mean => all.sum::<f32>() / divisor,
        };
        // SAFETY: the caller's promise.
        unsafe { *self.output = result };
    }
}

impl VectorKernel {
    /// # Safety
    /// So many elements can be read side by side for each reduced index.
    #[inline(always)]
    unsafe fn across<S: Simd, R: Reducer>(&self, s: S, lanes: usize) -> S::V {
        let [(rows, row_step), (columns, step)] = self.reduced;
        let mut parts = [s.splat(R::NEUTRAL); PARTS];
        for row in 0..rows as isize {
            let row = self.input.wrapping_offset(row * row_step);
            let value = |column: usize| row.wrapping_offset(column as isize * step);
            let mut at = 0;
            while at + PARTS <= columns {
                for (i, part) in parts.iter_mut().enumerate() {
                    // SAFETY: it is a reduced index.
                    *part = R::of(s, unsafe { load(s, value(at + i), 1, lanes, R::NEUTRAL) }, *part);
                }
                at += PARTS;
            }
            for at in at..columns {
                // SAFETY: as above.
                parts[0] = R::of(s, unsafe { load(s, value(at), 1, lanes, R::NEUTRAL) }, parts[0]);
            }
        }
        together::<S, R>(s, parts)
    }

    /// # Safety
    /// The reduced elements can be read, and those of a row are side by side.
    #[inline(always)]
    unsafe fn along<S: Simd, R: Reducer>(&self, s: S) -> S::V {
        let [(rows, row_step), (columns, _)] = self.reduced;
        let mut parts = [s.splat(R::NEUTRAL); PARTS];
        for row in 0..rows as isize {
            let row = self.input.wrapping_offset(row * row_step);
            let mut at = 0;
            while at + PARTS * S::LANES <= columns {
                for (i, part) in parts.iter_mut().enumerate() {
                    // SAFETY: so many elements are left of the row.
                    *part = R::of(s, unsafe { s.load(row.add(at + i * S::LANES)) }, *part);
                }
                at += PARTS * S::LANES;
            }
            while at < columns {
                // SAFETY: as above.
                let value = unsafe { load(s, row.add(at), 1, S::LANES.min(columns - at), R::NEUTRAL) };
                parts[0] = R::of(s, value, parts[0]);
                at += S::LANES;
            }
        }
        together::<S, R>(s, parts)
    }
}

/// What is done to two numbers.
trait Reducer {
    /// What changes no number.
    const NEUTRAL: f32;
    /// Implementations are `#[inline(always)]`.
    fn of<S: Simd>(s: S, value: S::V, so_far: S::V) -> S::V;
}

struct Sum;
struct Max;

impl Reducer for Sum {
    const NEUTRAL: f32 = 0.0;
    #[inline(always)]
    fn of<S: Simd>(s: S, value: S::V, so_far: S::V) -> S::V {
        s.add(so_far, value)
    }
}

impl Reducer for Max {
    const NEUTRAL: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn of<S: Simd>(s: S, value: S::V, so_far: S::V) -> S::V {
        s.max(value, so_far)
    }
}

#[inline(always)]
fn together<S: Simd, R: Reducer>(s: S, [a, b, c, d]: [S::V; PARTS]) -> S::V {
    R::of(s, R::of(s, a, b), R::of(s, c, d))
}
