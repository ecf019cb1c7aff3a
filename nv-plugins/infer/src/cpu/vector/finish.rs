//! What is done to the sums of a convolution after they are summed up.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use super::packed::by_channel;
use crate::cpu::aligned::AlignedFloats;
use crate::cpu::simd::math::{Function, Identity, PRelu, WithFunction, with_unary};
use crate::cpu::simd::{Instructions, Kernel, Simd};
use crate::graph::op::Unary;
use crate::plan::{Activation, Conv, Picture, Residual, Span};

/// The end of a convolution: activation and residual.
///
/// The simplest ones, [`limits`](Self::limits), a convolution's own kernel does in registers; for the rest there is a pass
/// over what was just written.
#[derive(Debug)]
pub(super) struct Finish {
    instructions: Instructions,
    ending: Ending,
    /// For each output channel.
    slopes: Option<AlignedFloats>,
    pub(super) residual: Option<Added>,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Nothing,
    Limits([f32; 2]),
    Unary(Unary),
    PRelu,
}

/// A residual, and where it is.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) span: Span,
    /// Of the first element, from the span's beginning.
    pub(super) picture: Picture,
    when: Residual,
}

/// Vectors of one block, one after another: `steps` apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) output: *mut f32,
    /// What is added, where something is.
    pub(super) added: *const f32,
    pub(super) count: usize,
    /// Between vectors of the output, and of what is added.
    pub(super) steps: [usize; 2],
    /// Which block of output channels it is of.
    pub(super) block: usize,
}

impl Finish {
    /// The end of a convolution; `None` if there is no kernel for it.
    pub(super) fn new(conv: &Conv, instructions: Instructions) -> Option<Self> {
        struct Known;
        impl WithFunction for Known {
            type Output = ();
            fn with<F: Function>(self, _: F) {}
        }
        let residual = match &conv.residual {
            Some((picture, when)) => {
                let span = picture.span()?;
                let picture = Picture { offset: picture.offset - span.begin, ..picture.clone() };
                let size = |p: &Picture| (p.block, p.channels, p.height, p.width);
                (size(&picture) == size(&conv.output)).then_some(())?;
                Some(Added { span, picture, when: *when })
            }
            None => None,
        };
        let channels = conv.output.channels;
        if conv.bias.as_ref().is_some_and(|bias| bias.len() < channels) {
            return None;
        }
        let (ending, slopes) = match &conv.activation {
            None => (Ending::Nothing, None),
            Some(Activation::Unary(Unary::Relu)) => (Ending::Limits([0.0, f32::INFINITY]), None),
            Some(Activation::Unary(Unary::Clamp { least, greatest })) => (Ending::Limits([*least, *greatest]), None),
            Some(Activation::Unary(unary)) => {
                with_unary(*unary, Known)?;
                (Ending::Unary(*unary), None)
            }
            Some(Activation::PRelu(slopes)) if slopes.len() < channels => return None,
            Some(Activation::PRelu(slopes)) => (Ending::PRelu, Some(by_channel(Some(slopes), conv))),
        };
        Some(Self { instructions, ending, slopes, residual })
    }

    /// What the kernel of the convolution keeps its sums within; a pass has nothing to do then.
    pub(super) fn limits(&self) -> Option<[f32; 2]> {
        match (self.ending, &self.residual) {
            (Ending::Limits(limits), None) => Some(limits),
            _ => None,
        }
    }

    /// Whether a pass has something to do.
    pub(super) fn is_a_pass(&self) -> bool {
        self.limits().is_none() && (self.residual.is_some() || !matches!(self.ending, Ending::Nothing))
    }

    /// Ends the sums of a line.
    ///
    /// # Safety
    /// The line's vectors may be read and written, and what is added read, where this has a residual; its block is one of
    /// the output's.
    pub(super) unsafe fn pass(&self, line: Line) {
        let slopes = self.slopes.as_ref().map(|slopes| slopes[line.block * self.instructions.lanes()..].as_ptr());
        let work = Pass { finish: self, line, slope: slopes.unwrap_or(line.output) };
        match self.ending {
            Ending::Nothing => work.with(Identity()),
            Ending::Limits([least, greatest]) => {
                with_unary(Unary::Clamp { least, greatest }, work);
            }
            Ending::Unary(unary) => {
                with_unary(unary, work);
            }
            Ending::PRelu => work.with(PRelu()),
        }
    }
}

struct Pass<'a> {
    finish: &'a Finish,
    line: Line,
    /// A slope for each lane; where there are none, anything that can be read.
    slope: *const f32,
}

impl WithFunction for Pass<'_> {
    type Output = ();

    fn with<F: Function>(self, function: F) {
        let when = self.finish.residual.as_ref().map(|added| added.when);
        let kernel = PassKernel { line: self.line, slope: self.slope, when, function };
        // SAFETY: `Finish::pass` was promised what the kernel asks for.
        unsafe { self.finish.instructions.run(kernel) }
    }
}

/// # Safety
/// As [`Finish::pass`]; a vector can be read at `slope`.
struct PassKernel<F> {
    line: Line,
    slope: *const f32,
    when: Option<Residual>,
    function: F,
}

impl<F: Function> Kernel for PassKernel<F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let Line { mut output, mut added, count, steps, .. } = self.line;
        // SAFETY: each vector is one of the line's, and one of what is added only where something is.
        unsafe {
            let slope = s.load(self.slope);
            match self.when {
                None => {
                    for _ in 0..count {
                        s.store(output, self.function.apply(s, s.load(output), slope));
                        output = output.wrapping_add(steps[0]);
                    }
                }
                Some(Residual::BeforeActivation) => {
                    for _ in 0..count {
                        let sum = s.add(s.load(output), s.load(added));
                        s.store(output, self.function.apply(s, sum, slope));
                        output = output.wrapping_add(steps[0]);
                        added = added.wrapping_add(steps[1]);
                    }
                }
                Some(Residual::AfterActivation) => {
                    for _ in 0..count {
                        let value = self.function.apply(s, s.load(output), slope);
                        s.store(output, s.add(value, s.load(added)));
                        output = output.wrapping_add(steps[0]);
                        added = added.wrapping_add(steps[1]);
                    }
                }
            }
        }
    }
}
