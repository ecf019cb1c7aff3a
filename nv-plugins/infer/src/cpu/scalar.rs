//! Every kind of step in plain, safe Rust, for pictures of any block.

mod conv;
mod elementwise;
mod matmul;
mod movement;
mod pool;
mod reduce;
mod selection;

use super::Memory;
use super::memory::Others;
use crate::plan::{Action, Span, View};

pub(crate) use elementwise::{ERF_DENOMINATOR, ERF_NUMERATOR, unary};

/// Does what the step says.
///
/// # Errors
/// What the data does not allow: an index that is out of range.
pub(crate) fn run(action: &Action, memory: &mut Memory) -> Result<(), String> {
    match action {
        Action::Conv(step) => conv::conv(step, memory),
        Action::Pool(step) => pool::pool(step, memory),
        Action::Map(step) => elementwise::map(step, memory),
        Action::Reduce(step) => reduce::reduce(step, memory),
        Action::MatMul(step) => matmul::matmul(step, memory),
        Action::Softmax(step) => reduce::softmax(step, memory),
        Action::Resample(step) => movement::resample(step, memory),
        Action::Gather(step) => return movement::gather(step, memory),
        Action::ArgMax(step) => selection::arg_max(step, memory),
        Action::TopK(step) => selection::top_k(step, memory),
        Action::NonMaxSuppression(step) => selection::non_max_suppression(step, memory),
        Action::Shuffle(step) => movement::shuffle(step, memory),
    }
    Ok(())
}

/// A number of an array.
trait Element: Copy + PartialOrd + Default + 'static {
    fn read<'a>(others: &Others<'a>, span: Span) -> &'a [Self];
    fn of(value: f32) -> Self;
}

impl Element for f32 {
    fn read<'a>(others: &Others<'a>, span: Span) -> &'a [Self] {
        others.floats(span)
    }

    fn of(value: f32) -> Self {
        value
    }
}

impl Element for i32 {
    fn read<'a>(others: &Others<'a>, span: Span) -> &'a [Self] {
        others.ints(span)
    }

    fn of(value: f32) -> Self {
        value as i32
    }
}

/// The elements that a view covers, and where it begins in them.
#[derive(Clone, Copy)]
struct Seen<'a, T> {
    data: &'a [T],
    from: usize,
    strides: &'a [isize],
}

impl<'a, T: Element> Seen<'a, T> {
    /// `dims` are those of the view. One that covers nothing has no data.
    fn new(others: &Others<'a>, view: &'a View, dims: &[usize]) -> Self {
        match view.span(dims) {
            Some(span) => Self { data: T::read(others, span), from: view.offset - span.begin, strides: &view.strides },
            None => Self { data: &[], from: 0, strides: &view.strides },
        }
    }
}

/// Runs a body with the written elements as what they are.
macro_rules! by_kind {
    ($written:expr, $out:ident => $body:expr) => {
        match $written {
            Written::Floats($out) => $body,
            Written::Ints($out) => $body,
        }
    };
}
use by_kind;
