//! Functions of the elements at one index, and copies.
//!
//! The dimensions of a [`Map`] may be gone through in any order. One of them is the inner one: vectors lie along it. Where an
//! operand's elements are not side by side there, they are gathered one by one.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

mod formula;
mod lines;

use std::ops::Range;

use super::places::{Source, Target, places};
use super::{Cut, Run, loops, ranges};
use crate::cpu::Memory;
use crate::cpu::aligned;
use crate::cpu::pool::Pool;
use crate::cpu::simd::Instructions;
use crate::plan::{Map, Plan, Span};
use formula::Formula;
use lines::Lines;

/// The output and at most three inputs.
const OPERANDS: usize = 4;

/// A map made ready.
#[derive(Debug)]
pub(crate) struct Mapping {
    instructions: Instructions,
    formula: Formula,
    output: Span,
    inputs: [Option<Span>; OPERANDS - 1],
    /// Where each operand's elements begin, in its span.
    begins: [isize; OPERANDS],
    outer: Vec<Loop>,
    rows: Loop,
    inner: Loop,
    /// The elements of some operands that repeat along the inner dimension.
    period: Option<usize>,
    pieces: Vec<Piece>,
}

type Loop = loops::Loop<OPERANDS>;

#[derive(Clone, Debug)]
struct Piece {
    /// Indices of all outer dimensions, counted as one.
    outer: Range<usize>,
    rows: Range<usize>,
    inner: Range<usize>,
}

/// With elements gathered, so many columns of a few rows are read while they are in the first level cache.
const COLUMNS: usize = 128;
/// Elements in a cache line.
const LINE: usize = aligned::LINE / size_of::<f32>();

impl Mapping {
    /// Makes a map ready; `None` if there is no kernel for it.
    pub(crate) fn new(map: &Map, plan: &Plan, instructions: Instructions, cut: Cut) -> Option<Self> {
        let formula = Formula::of(map, plan)?;
        let output = map.output.span(&map.dims)?;
        // The exponent is a part of the formula.
        let views = &map.inputs[..formula.inputs()];
        let mut inputs = [None; OPERANDS - 1];
        let mut begins = [(map.output.offset - output.begin) as isize; OPERANDS];
        for (i, view) in views.iter().enumerate() {
            let span = view.span(&map.dims)?;
            begins[i + 1] = (view.offset - span.begin) as isize;
            inputs[i] = Some(span);
        }
        let operands = || [&map.output].into_iter().chain(views);
        let mut loops: Vec<Loop> = Vec::new();
        for (axis, &len) in map.dims.iter().enumerate() {
            let mut steps = [0; OPERANDS];
            operands().enumerate().for_each(|(i, view)| steps[i] = view.strides[axis]);
            loops.push(Loop { len, steps });
        }
        let (loops, period) = arrange(loops, 1 + views.len(), instructions.lanes());
        let (outer, [rows, inner]) = split(loops, instructions.lanes());
        let mut mapping =
            Self { instructions, formula, output, inputs, begins, outer, rows, inner, period, pieces: Vec::new() };
        mapping.pieces = mapping.cut(cut);
        Some(mapping)
    }

    fn cut(&self, cut: Cut) -> Vec<Piece> {
        let outer: usize = self.outer.iter().map(|l| l.len).product();
        let (rows, inner) = (self.rows.len, self.inner.len);
        // In bytes that go through memory, or in elements that are gathered one by one.
        let operations = if self.gathers() { 4 } else { 1 } * outer * rows * inner / 2;
        let wanted = cut.pieces(operations);
        let unit = self.period.map_or(self.instructions.lanes(), |period| lines::TILE / period * period);
        // What threads write in turn into one cache line goes from core to core each time, which takes far longer than the
        // work. So only dimensions are cut whose elements are lines apart; outer ones come with the closest last.
        let apart = |l: &Loop| l.steps[0].unsigned_abs() >= LINE;
        let together: usize = self.outer.iter().rev().take_while(|l| !apart(l)).map(|l| l.len).product();
        let cuttable = if apart(&self.rows) { rows } else { 1 };
        let whole = Piece { outer: 0..outer, rows: 0..rows, inner: 0..inner };
        if outer / together >= wanted {
            let outers = ranges(outer / together, wanted);
            outers.map(|o| Piece { outer: o.start * together..o.end * together, ..whole.clone() }).collect()
        } else if cuttable >= wanted {
            ranges(rows, wanted).map(|rows| Piece { rows, ..whole.clone() }).collect()
        } else {
            let units = ranges(inner.div_ceil(unit), wanted);
            units.map(|u| Piece { inner: u.start * unit..inner.min(u.end * unit), ..whole.clone() }).collect()
        }
    }

    /// Whether the elements of some operand are not side by side along the inner dimension.
    fn gathers(&self) -> bool {
        self.inner.steps.iter().any(|step| ![0, 1, lines::REPEATS].contains(step))
    }

    fn piece(&self, piece: &Piece, places: (Target, [Source; OPERANDS - 1])) {
        let columns = if self.gathers() && self.rows.len > 1 { COLUMNS } else { usize::MAX };
        for outer in piece.outer.clone() {
            let mut at = self.begins;
            let mut rest = outer;
            for dim in self.outer.iter().rev() {
                let index = (rest % dim.len) as isize;
                rest /= dim.len;
                at.iter_mut().zip(dim.steps).for_each(|(at, step)| *at += index * step);
            }
            let mut first = piece.inner.start;
            while first < piece.inner.end {
                let len = columns.min(piece.inner.end - first);
                let mut begins = at;
                for (i, begin) in begins.iter_mut().enumerate() {
                    *begin += piece.rows.start as isize * self.rows.steps[i];
                    // What repeats begins anew with each piece.
                    *begin += match self.inner.steps[i] {
                        lines::REPEATS => 0,
                        step => first as isize * step,
                    };
                }
                let [to, from @ ..] = begins;
                let inputs: [*const f32; OPERANDS - 1] = std::array::from_fn(|i| places.1[i].at(from[i]));
                let lines = Lines {
                    output: places.0.at(to),
                    inputs,
                    rows: piece.rows.len(),
                    row_steps: self.rows.steps,
                    len,
                    steps: self.inner.steps,
                    period: self.period,
                };
                // SAFETY: all of it is inside of the spans, and no other piece writes what this one does.
                unsafe { self.formula.run(self.instructions, lines) };
                first += len;
            }
        }
    }
}

impl Run for Mapping {
    fn run(&self, memory: &mut Memory, pool: &Pool) {
        let places = places(memory, self.output, self.inputs);
        pool.run(self.pieces.len(), &|piece| self.piece(&self.pieces[piece], places));
    }
}

/// As few dimensions as the operands allow; so many of them are used. Gives also how many elements repeat, where the last two
/// dimensions were joined although some operands have only the last.
fn arrange(loops: Vec<Loop>, used: usize, lanes: usize) -> (Vec<Loop>, Option<usize>) {
    let mut joined = loops::joined(loops, used);
    if let [.., outer, inner] = joined[..] {
        let d = inner.len;
        // Rows as long as a few vectors take longer to begin than to go through.
        // What is joined must be long enough to become the inner dimension: nothing else knows how to repeat.
        let small = d <= 4 * lanes && outer.len > 1 && outer.len * d >= lanes;
        let nested = |i: usize| inner.steps[i] == 1 && outer.steps[i] == d as isize;
        let repeats = |i: usize| outer.steps[i] == 0 && [0, 1].contains(&inner.steps[i]);
        if small && nested(0) && (1..used).all(|i| nested(i) || repeats(i)) {
            let mut steps = inner.steps;
            // The inner loop knows by this that an operand repeats.
            for i in (1..used).filter(|&i| repeats(i) && inner.steps[i] == 1) {
                steps[i] = lines::REPEATS;
            }
            joined.truncate(joined.len() - 2);
            joined.push(Loop { len: outer.len * d, steps });
            return (joined, Some(d));
        }
    }
    (joined, None)
}

/// The outer dimensions, rows, and the inner dimension.
fn split(mut loops: Vec<Loop>, lanes: usize) -> (Vec<Loop>, [Loop; 2]) {
    let side_by_side = |l: &Loop| l.steps[0] == 1 && l.steps[1..].iter().all(|s| [0, 1, lines::REPEATS].contains(s));
    let take = |loops: &mut Vec<Loop>, value: &dyn Fn(&Loop) -> (bool, bool, usize)| {
        let best = (0..loops.len()).max_by_key(|&i| value(&loops[i]));
        best.map_or(Loop::ONE, |i| loops.remove(i))
    };
    let enough = |l: &Loop| l.len >= lanes;
    // If one operand can be loaded or stored by vectors, it is the longer dimension that makes fewer of them go to waste.
    let inner = take(&mut loops, &|l| (enough(l) && side_by_side(l), enough(l) && l.steps.contains(&1), l.len));
    let rows = take(&mut loops, &|l| (false, false, l.len));
    (loops, [rows, inner])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::SimdLevel;
    use crate::plan::{Array, ArrayId, Function, Kind, MemoryPlan, View};

    /// Which pieces write to each cache line of the output, for a copy of a whole array of these dimensions to one of these
    /// strides.
    fn writers(dims: &[usize], strides: &[isize], level: SimdLevel) -> Option<Vec<Vec<usize>>> {
        let len = dims.iter().product();
        let array = || Array { name: String::new(), kind: Kind::Float, len, constant: None };
        let plan = Plan {
            block: level.block(),
            arrays: vec![array(), array()],
            steps: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            memory: MemoryPlan::default(),
        };
        let output = View { array: ArrayId(1), offset: 0, strides: strides.into() };
        let inputs = vec![View::whole(ArrayId(0), dims)];
        let map = Map { function: Function::Copy, dims: dims.into(), inputs, output };
        let mapping =
            Mapping::new(&map, &plan, Instructions::of(level)?, Cut::new(2)).expect("there is a kernel for copies");
        assert!(mapping.pieces.len() >= 2, "{:?}", mapping.pieces);
        let mut lines = vec![Vec::new(); len.div_ceil(LINE)];
        for (n, piece) in mapping.pieces.iter().enumerate() {
            for outer in piece.outer.clone() {
                let (mut begin, mut rest) = (0, outer);
                for dim in mapping.outer.iter().rev() {
                    begin += (rest % dim.len) as isize * dim.steps[0];
                    rest /= dim.len;
                }
                for row in piece.rows.clone() {
                    for at in piece.inner.clone() {
                        let to = begin + row as isize * mapping.rows.steps[0] + at as isize * mapping.inner.steps[0];
                        let line = &mut lines[to as usize / LINE];
                        if line.last() != Some(&n) {
                            line.push(n);
                        }
                    }
                }
            }
        }
        Some(lines)
    }

    #[test]
    fn no_two_threads_write_to_the_same_lines() {
        for level in SimdLevel::available().filter(|level| *level != SimdLevel::Scalar) {
            let block = level.block();
            let b = block as isize;
            // Channels of planes side by side in blocks: of many blocks, of one, and with rows that can't be joined.
            let cases: [(&[usize], &[isize]); 3] = [
                (&[4, block, 2704], &[b * 2704, 1, b]),
                (&[block, 2704], &[1, b]),
                (&[4, block, 50, 52], &[b * 2600, 1, b, 50 * b]),
            ];
            for (dims, strides) in cases {
                let lines = writers(dims, strides, level).expect("it has vectors");
                let shared = lines.iter().filter(|pieces| pieces.iter().any(|p| *p != pieces[0])).count();
                // Only where one piece ends and the next begins.
                assert!(shared <= 8 * 52, "{level}: {shared} of {} lines for {dims:?}", lines.len());
            }
        }
    }
}
