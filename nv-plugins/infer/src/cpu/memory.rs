//! The memory that a plan works in: one stretch of floats, one of whole numbers, and the constants.

use super::aligned::AlignedFloats;
use crate::plan::{ArrayId, Kind, Plan, Span, Values};

/// Where all arrays of a plan are.
///
/// A step borrows what it writes and everything else at once ([`Memory::writing`]): the spans that it writes are cut out of
/// the memory, and what it reads lies in one of the pieces that are left.
#[derive(Debug)]
pub(crate) struct Memory {
    floats: AlignedFloats,
    ints: Vec<i32>,
    places: Vec<Place>,
    /// Where the buffers of the memory plan begin, in the memory of their kind.
    buffers: Vec<(Kind, usize)>,
}

/// Where an array is.
#[derive(Clone, Debug)]
enum Place {
    /// From here on, in the memory of its kind.
    At(Kind, usize),
    Constant(Values),
    /// Nowhere: no step uses it.
    Unused,
}

/// Elements that a step writes.
#[derive(Debug)]
pub(crate) enum Written<'a> {
    Floats(&'a mut [f32]),
    Ints(&'a mut [i32]),
}

/// Everything that a step doesn't write.
#[derive(Debug)]
pub(crate) struct Others<'a> {
    floats: Pieces<'a, f32>,
    ints: Pieces<'a, i32>,
    places: &'a [Place],
}

/// At most so many spans can be written at once.
const WRITTEN: usize = 2;

/// What is left of a stretch of memory: where each piece began, and the piece.
#[derive(Debug)]
struct Pieces<'a, T>([(usize, &'a [T]); WRITTEN + 1]);

impl Memory {
    /// Memory for a plan, as its memory plan has it.
    pub(crate) fn of(plan: &Plan) -> Self {
        let (mut floats, mut ints) = (0, 0);
        let mut buffers = Vec::with_capacity(plan.memory.buffers.len());
        for buffer in &plan.memory.buffers {
            let end = match buffer.kind {
                Kind::Float => &mut floats,
                Kind::Int => &mut ints,
            };
            buffers.push((buffer.kind, *end));
            *end += buffer.len;
        }
        let places = plan.memory.places(plan.arrays.len());
        let places = plan.arrays.iter().zip(places).map(|(array, place)| match (&array.constant, place) {
            (Some(values), _) => Place::Constant(values.clone()),
            (None, Some((buffer, offset))) => Place::At(array.kind, buffers[buffer].1 + offset),
            (None, None) => Place::Unused,
        });
        let places = places.collect();
        Self { floats: AlignedFloats::zeros(floats), ints: vec![0; ints], places, buffers }
    }

    /// Memory of a few arrays, with what they hold: for a step by itself.
    #[cfg(test)]
    pub(crate) fn of_arrays(arrays: &[Values]) -> Self {
        let (mut floats, mut ints, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for values in arrays {
            places.push(match values {
                Values::Floats(v) => {
                    floats.extend_from_slice(v);
                    Place::At(Kind::Float, floats.len() - v.len())
                }
                Values::Ints(v) => {
                    ints.extend_from_slice(v);
                    Place::At(Kind::Int, ints.len() - v.len())
                }
            });
        }
        let mut aligned = AlignedFloats::zeros(floats.len());
        aligned.copy_from_slice(&floats);
        Self { floats: aligned, ints, places, buffers: Vec::new() }
    }

    /// Fills part of a buffer of the memory plan with what spoils any result that depends on it.
    pub(crate) fn poison(&mut self, buffer: usize, begin: usize, end: usize) {
        match self.buffers[buffer] {
            (Kind::Float, at) => self.floats[at + begin..at + end].fill(f32::NAN),
            (Kind::Int, at) => self.ints[at + begin..at + end].fill(POISON),
        }
    }

    /// What the span holds, if it is of floats.
    pub(crate) fn floats(&self, span: Span) -> &[f32] {
        match &self.places[span.array.index()] {
            Place::At(Kind::Float, at) => &self.floats[at + span.begin..at + span.end],
            Place::Constant(Values::Floats(values)) => &values[span.begin..span.end],
            place => panic!("no floats are at {place:?}"),
        }
    }

    /// What the span holds, if it is of whole numbers.
    pub(crate) fn ints(&self, span: Span) -> &[i32] {
        match &self.places[span.array.index()] {
            Place::At(Kind::Int, at) => &self.ints[at + span.begin..at + span.end],
            Place::Constant(Values::Ints(values)) => &values[span.begin..span.end],
            place => panic!("no whole numbers are at {place:?}"),
        }
    }

    /// The spans to be written, in the order given, and everything else. The spans are apart, and in no constant.
    pub(crate) fn writing<const N: usize>(&mut self, spans: [Span; N]) -> ([Written<'_>; N], Others<'_>) {
        const { assert!(N <= WRITTEN) };
        let ranges = spans.map(|span| match self.places[span.array.index()] {
            Place::At(kind, at) => (kind, at + span.begin, at + span.end),
            ref place => panic!("nothing can be written to {place:?}"),
        });
        let mut order: [usize; N] = std::array::from_fn(|i| i);
        order.sort_unstable_by_key(|&i| ranges[i].1);
        let mut written = [const { None }; N];
        let (mut floats, mut ints) = (Cutter::new(&mut self.floats), Cutter::new(&mut self.ints));
        for i in order {
            let (kind, begin, end) = ranges[i];
            written[i] = Some(match kind {
                Kind::Float => Written::Floats(floats.cut(begin, end)),
                Kind::Int => Written::Ints(ints.cut(begin, end)),
            });
        }
        let others = Others { floats: floats.rest(), ints: ints.rest(), places: &self.places };
        (written.map(|w| w.expect("each was cut")), others)
    }
}

/// What memory of whole numbers is poisoned with.
const POISON: i32 = 0x5EAF_00D5;

/// Cuts spans out of a stretch of memory, from its beginning to its end.
struct Cutter<'a, T> {
    pieces: [(usize, &'a [T]); WRITTEN + 1],
    count: usize,
    begin: usize,
    rest: &'a mut [T],
}

impl<'a, T> Cutter<'a, T> {
    fn new(all: &'a mut [T]) -> Self {
        Self { pieces: [(0, &[]); WRITTEN + 1], count: 0, begin: 0, rest: all }
    }

    fn cut(&mut self, begin: usize, end: usize) -> &'a mut [T] {
        let rest = std::mem::take(&mut self.rest);
        let (piece, rest) = rest.split_at_mut(begin - self.begin);
        let (cut, rest) = rest.split_at_mut(end - begin);
        self.pieces[self.count] = (self.begin, piece);
        self.count += 1;
        (self.begin, self.rest) = (end, rest);
        cut
    }

    fn rest(mut self) -> Pieces<'a, T> {
        self.pieces[self.count] = (self.begin, self.rest);
        Pieces(self.pieces)
    }
}

impl<'a, T> Pieces<'a, T> {
    fn get(&self, begin: usize, end: usize) -> &'a [T] {
        let holds = |(from, piece): &&(usize, &[T])| *from <= begin && end <= from + piece.len();
        let (from, piece) = self.0.iter().find(holds).expect("a step reads nothing that it writes");
        &piece[begin - from..end - from]
    }
}

impl<'a> Others<'a> {
    /// What the span holds, if it is of floats.
    pub(crate) fn floats(&self, span: Span) -> &'a [f32] {
        match &self.places[span.array.index()] {
            Place::At(Kind::Float, at) => self.floats.get(at + span.begin, at + span.end),
            Place::Constant(Values::Floats(values)) => &values[span.begin..span.end],
            place => panic!("no floats are at {place:?}"),
        }
    }

    /// What the span holds, if it is of whole numbers.
    pub(crate) fn ints(&self, span: Span) -> &'a [i32] {
        match &self.places[span.array.index()] {
            Place::At(Kind::Int, at) => self.ints.get(at + span.begin, at + span.end),
            Place::Constant(Values::Ints(values)) => &values[span.begin..span.end],
            place => panic!("no whole numbers are at {place:?}"),
        }
    }

    /// How elements of the array are held.
    pub(crate) fn kind(&self, array: ArrayId) -> Kind {
        match &self.places[array.index()] {
            Place::At(kind, _) => *kind,
            Place::Constant(Values::Ints(_)) => Kind::Int,
            Place::Constant(Values::Floats(_)) | Place::Unused => Kind::Float,
        }
    }
}

impl<'a> Written<'a> {
    /// The floats that it has to be.
    pub(crate) fn floats(self) -> &'a mut [f32] {
        match self {
            Self::Floats(values) => values,
            Self::Ints(_) => panic!("a step that writes floats was given whole numbers"),
        }
    }

    /// The whole numbers that it has to be.
    pub(crate) fn ints(self) -> &'a mut [i32] {
        match self {
            Self::Ints(values) => values,
            Self::Floats(_) => panic!("a step that writes whole numbers was given floats"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_apart_from_what_is_read() {
        let floats = |v: &[f32]| Values::Floats(v.into());
        let mut memory = Memory::of_arrays(&[floats(&[1., 2., 3., 4.]), Values::Ints([5, 6].into()), floats(&[7.])]);
        let span = |array, begin, end| Span { array: ArrayId(array), begin, end };
        let ([b, a], others) = memory.writing([span(2, 0, 1), span(0, 1, 3)]);
        (a.floats()[0], b.floats()[0]) = (20., 70.);
        assert_eq!((others.floats(span(0, 0, 1)), others.floats(span(0, 3, 4))), (&[1.][..], &[4.][..]));
        assert_eq!((others.ints(span(1, 1, 2)), others.kind(ArrayId(1))), (&[6][..], Kind::Int));
        assert_eq!(memory.floats(span(0, 0, 4)), [1., 20., 3., 4.]);
        assert_eq!(memory.floats(span(2, 0, 1)), [70.]);
        let ([out], others) = memory.writing([span(1, 0, 1)]);
        out.ints()[0] = 9;
        assert_eq!(others.ints(span(1, 1, 2)), [6]);
    }

    #[test]
    #[should_panic(expected = "reads nothing that it writes")]
    fn overlap_is_found() {
        let mut memory = Memory::of_arrays(&[Values::Floats([1., 2.].into())]);
        let span = Span { array: ArrayId(0), begin: 0, end: 2 };
        let (_, others) = memory.writing([span]);
        others.floats(Span { end: 1, ..span });
    }
}
