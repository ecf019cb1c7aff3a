//! Where a step's memory is, for the time of one run.

#![expect(unsafe_code, reason = "threads share pointers")]

use crate::cpu::memory::{Memory, Others, Written};
use crate::plan::{Kind, Span};

/// The beginning of elements that a step reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source(*const f32);

/// The beginning of elements that a step writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target(*mut f32);

// SAFETY: a pointer can do nothing by itself. Who reads through it says there that nobody writes what is read.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}
// SAFETY: as above; who writes says that nobody else uses what is written.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Source {
    pub(super) fn none() -> Self {
        Self(std::ptr::null())
    }

    /// The address of an element, which may be outside of what may be read.
    pub(super) fn at(self, element: isize) -> *const f32 {
        self.0.wrapping_offset(element)
    }
}

impl Target {
    /// The address of an element.
    pub(super) fn at(self, element: isize) -> *mut f32 {
        self.0.wrapping_offset(element)
    }
}

/// What a step writes and what it reads, by spans that are apart. Elements of either kind are seen as floats.
pub(super) fn places<const N: usize>(
    memory: &mut Memory,
    output: Span,
    inputs: [Option<Span>; N],
) -> (Target, [Source; N]) {
    let ([written], others) = memory.writing([output]);
    let target = match written {
        Written::Floats(floats) => floats.as_mut_ptr(),
        Written::Ints(ints) => ints.as_mut_ptr().cast(),
    };
    (Target(target), inputs.map(|span| span.map_or(Source::none(), |span| source(&others, span))))
}

fn source(others: &Others<'_>, span: Span) -> Source {
    Source(match others.kind(span.array) {
        Kind::Float => others.floats(span).as_ptr(),
        Kind::Int => others.ints(span).as_ptr().cast(),
    })
}
