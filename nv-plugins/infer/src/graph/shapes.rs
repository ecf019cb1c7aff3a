//! From the shapes of a node's inputs to those of its outputs.

mod movement;
mod window;

use super::fold::Content;
use super::op::{Binary, Op};
use super::size::{Size, shape_text};
use crate::ElementType;

/// What is known of a value.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) element: ElementType,
    /// `None` where not even the number of dimensions is known.
    pub(crate) shape: Option<Vec<Size>>,
    /// The values of a small tensor, where they are known.
    pub(crate) content: Option<Content>,
}

/// A shape that may not be known, or an input that does not fit.
type Shape = Result<Option<Vec<Size>>, String>;

/// The value of an `Option`, or the return of "not known".
macro_rules! known {
    ($option:expr) => {
        match $option {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}
use known;

pub(crate) use movement::{bounds, permutation};
pub(super) use movement::{ordered_axes, span};

/// The inputs of a node whose outputs are wanted.
pub(super) struct Inputs<'a>(pub(super) &'a [Option<Fact>]);

impl Inputs<'_> {
    /// The input at `index`, which the operator can't do without.
    fn get(&self, index: usize) -> Result<&Fact, String> {
        self.optional(index).ok_or_else(|| format!("input {} is missing", index + 1))
    }

    fn optional(&self, index: usize) -> Option<&Fact> {
        self.0.get(index)?.as_ref()
    }

    fn shape(&self, index: usize) -> Result<Option<&[Size]>, String> {
        Ok(self.get(index)?.shape.as_deref())
    }

    /// The whole numbers that the input holds, symbols among them.
    fn sizes(&self, index: usize) -> Option<&[Size]> {
        self.optional(index)?.content.as_ref()?.as_ints()
    }

    /// The numbers that the input holds, where they are known and of the type `float`.
    fn floats(&self, index: usize) -> Option<&[f32]> {
        self.optional(index)?.content.as_ref()?.as_floats()
    }

    /// The whole numbers that the input holds, where all are known.
    fn ints(&self, index: usize) -> Option<Vec<i64>> {
        self.sizes(index)?.iter().map(Size::as_fixed).collect()
    }
}

/// What is known of the `count` outputs of `op`. Contents are left to [`fold`](super::fold).
///
/// Sizes that can't be compared are taken to be equal where the operator needs them to be: were they not, the model would
/// fail when it runs.
pub(super) fn infer(op: &Op, inputs: &Inputs<'_>, count: usize) -> Result<Vec<Fact>, String> {
    alike(op, inputs)?;
    let shapes = match op {
        Op::Split { axis } => movement::split(*axis, inputs, count)?,
        op => {
            // TopK and Dropout have outputs of the same shape; no other has more than one that is used here.
            let shape = first(op, inputs)?;
            vec![shape; count]
        }
    };
    let element = |index: usize| match op {
        Op::Shape { .. } | Op::ArgMax { .. } | Op::NonMaxSuppression { .. } => ElementType::Int64,
        // Of a pool and of TopK: where the values were.
        Op::TopK { .. } | Op::MaxPool(_) if index == 1 => ElementType::Int64,
        Op::Dropout if index == 1 => ElementType::Bool,
        Op::Binary(binary) if binary.is_truth() => ElementType::Bool,
        Op::Cast(to) => *to,
        Op::ConstantOfShape(value) => value.element(),
        Op::Where => inputs.optional(1).map_or(ElementType::Other, |f| f.element),
        _ => inputs.optional(0).map_or(ElementType::Other, |f| f.element),
    };
    Ok(shapes.into_iter().enumerate().map(|(i, shape)| Fact { element: element(i), shape, content: None }).collect())
}

/// That the inputs which an operator computes with together are of one type, as far as types are known.
fn alike(op: &Op, inputs: &Inputs<'_>) -> Result<(), String> {
    let computed_with = match op {
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Gemm { .. } | Op::Clip => 0..3,
        Op::MatMul | Op::PRelu => 0..2,
        // ONNX lets the exponent be of another type.
        Op::Binary(Binary::Pow) => 0..1,
        Op::Binary(_) | Op::Concat { .. } => 0..inputs.0.len(),
        Op::Where => 1..3,
        _ => 0..1,
    };
    let mut elements = computed_with.filter_map(|index| Some((index, inputs.optional(index)?.element)));
    let mut known = elements.by_ref().filter(|(_, element)| *element != ElementType::Other);
    let Some((_, first)) = known.next() else { return Ok(()) };
    match known.find(|(_, element)| *element != first) {
        Some((index, element)) => Err(format!("input {} is of the type {element}, not {first}", index + 1)),
        None => Ok(()),
    }
}

fn first(op: &Op, inputs: &Inputs<'_>) -> Shape {
    let same = |index| inputs.shape(index).map(|shape| shape.map(<[Size]>::to_vec));
    match op {
        Op::Conv { window, group, .. } => window::conv(window, *group, inputs),
        Op::ConvTranspose { window, group, output_padding, output_shape } => {
            window::conv_transpose(window, *group, output_padding, output_shape, inputs)
        }
        Op::MaxPool(window) | Op::AveragePool { window, .. } => window::pool(window, inputs),
        Op::GlobalAveragePool | Op::GlobalMaxPool => {
            let shape = known!(inputs.shape(0)?);
            Ok(Some(shape.iter().enumerate().map(|(i, d)| if i < 2 { d.clone() } else { 1.into() }).collect()))
        }
        Op::BatchNormalization { .. } | Op::InstanceNormalization { .. } => {
            let shape = known!(inputs.shape(0)?);
            let channels = shape.get(1).ok_or_else(|| format!("{} has no channels", shape_text(shape)))?;
            for place in 1..inputs.0.len() {
                match known!(inputs.shape(place)?) {
                    [found] => agree(found, channels).map(drop),
                    found => Err(shape_text(found)),
                }
                .map_err(|e| format!("input {}: {e}, {channels} channels", place + 1))?;
            }
            same(0)
        }
        Op::Softmax { axis, .. } => {
            let shape = known!(inputs.shape(0)?);
            axis_of(*axis, shape.len())?;
            same(0)
        }
        Op::Unary(_) | Op::Clip | Op::Cast(_) | Op::Identity | Op::Dropout => same(0),
        Op::PRelu => {
            let (shape, slope) = (known!(inputs.shape(0)?), known!(inputs.shape(1)?));
            one_way(shape, slope).map_err(|e| format!("slopes: {e}"))?;
            same(0)
        }
        Op::Binary(Binary::Min | Binary::Max) => {
            // Import has seen to it that there is one.
            broadcast(&(0..inputs.0.len()).map(|i| inputs.shape(i)).collect::<Result<Vec<_>, _>>()?)
        }
        Op::Binary(_) => broadcast(&[inputs.shape(0)?, inputs.shape(1)?]),
        Op::Where => broadcast(&[inputs.shape(0)?, inputs.shape(1)?, inputs.shape(2)?]),
        Op::MatMul => matmul(inputs),
        Op::Gemm { trans_a, trans_b, .. } => gemm(*trans_a, *trans_b, inputs),
        Op::Reduce { keep_dims, empty_is_noop, .. } => reduce(*keep_dims, *empty_is_noop, inputs),
        Op::ArgMax { axis, keep_dims, .. } => {
            let shape = known!(inputs.shape(0)?);
            let axis = axis_of(*axis, shape.len())?;
            Ok(Some(without(shape, &[axis], *keep_dims)))
        }
        Op::TopK { axis, .. } => {
            let mut shape = known!(inputs.shape(0)?).to_vec();
            let axis = axis_of(*axis, shape.len())?;
            let k = match known!(inputs.sizes(1)) {
                [k] => k.clone(),
                k => return Err(format!("k has {} values, one is needed", k.len())),
            };
            if let Some(k) = k.as_fixed()
                && (k < 0 || shape[axis].as_fixed().is_some_and(|n| n < k))
            {
                return Err(format!("the {k} foremost along axis {axis} of {}", shape_text(&shape)));
            }
            shape[axis] = k;
            Ok(Some(shape))
        }
        Op::NonMaxSuppression { .. } | Op::IndexMap(_) | Op::Other { .. } | Op::Split { .. } => Ok(None),
        movement => movement::infer(movement, inputs),
    }
}

/// The axis that a possibly negative number means.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let place = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    let place = place.filter(|a| (0..signed).contains(a)).and_then(|a| usize::try_from(a).ok());
    place.ok_or_else(|| format!("axis {axis} of a tensor of {rank} dimensions"))
}

/// The axes at an input, sorted; `None` where they are not known, all where they are left out.
pub(super) fn axes_at(inputs: &Inputs<'_>, index: usize, rank: usize) -> Result<Option<Vec<usize>>, String> {
    if inputs.optional(index).is_none() {
        return Ok(Some((0..rank).collect()));
    }
    let axes = known!(inputs.ints(index));
    let mut axes = axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(Some(axes))
}

/// The shape that several broadcast to, numpy's way.
fn broadcast(shapes: &[Option<&[Size]>]) -> Shape {
    let mut out: Vec<Size> = Vec::new();
    for shape in shapes {
        let shape = known!(*shape);
        if shape.len() > out.len() {
            let missing = shape.len() - out.len();
            out.splice(0..0, std::iter::repeat_n(Size::fixed(1), missing));
        }
        let skip = out.len() - shape.len();
        for (into, from) in out[skip..].iter_mut().zip(shape) {
            if into.is(1) {
                *into = from.clone();
            } else if !from.is(1) {
                *into = agree(into, from).map_err(|e| {
                    let texts: Vec<_> = shapes.iter().flatten().take(MAX_SHOWN).map(|s| shape_text(s)).collect();
                    format!("{} do not go together: {e}", texts.join(" and "))
                })?;
            }
        }
    }
    Ok(Some(out))
}

/// How many shapes a text shows.
const MAX_SHOWN: usize = 4;

/// That the second broadcasts to the first, which stays as it is.
fn one_way(shape: &[Size], other: &[Size]) -> Result<(), String> {
    let mismatch = |e: &str| format!("{} to {}{e}", shape_text(other), shape_text(shape));
    let skip = shape.len().checked_sub(other.len()).ok_or_else(|| mismatch(": it has more dimensions"))?;
    for (into, from) in shape[skip..].iter().zip(other).filter(|(_, from)| !from.is(1)) {
        agree(from, into).map_err(|e| mismatch(&format!(": {e}")))?;
    }
    Ok(())
}

/// One size for two that must be equal: the more definite one.
fn agree(a: &Size, b: &Size) -> Result<Size, String> {
    match (a.as_fixed(), b.as_fixed()) {
        (Some(x), Some(y)) if x != y => Err(format!("{x} where {y} is needed")),
        (None, Some(_)) => Ok(b.clone()),
        _ => Ok(a.clone()),
    }
}

fn matmul(inputs: &Inputs<'_>) -> Shape {
    let (a, b) = (known!(inputs.shape(0)?), known!(inputs.shape(1)?));
    let mismatch = |e: String| format!("{} times {}: {e}", shape_text(a), shape_text(b));
    let (Some(inner), true) = (a.last(), !b.is_empty()) else { return Err(mismatch("a scalar".into())) };
    agree(inner, if b.len() == 1 { &b[0] } else { &b[b.len() - 2] }).map_err(mismatch)?;
    let (lead_a, lead_b) = (&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)]);
    let mut shape = known!(broadcast(&[Some(lead_a), Some(lead_b)])?);
    shape.extend((a.len() > 1).then(|| a[a.len() - 2].clone()));
    shape.extend((b.len() > 1).then(|| b[b.len() - 1].clone()));
    Ok(Some(shape))
}

fn gemm(trans_a: bool, trans_b: bool, inputs: &Inputs<'_>) -> Shape {
    let (a, b) = (known!(inputs.shape(0)?), known!(inputs.shape(1)?));
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return Err(format!("{} times {}: both must be matrices", shape_text(a), shape_text(b)));
    };
    let (rows, inner) = if trans_a { (a1, a0) } else { (a0, a1) };
    let (needed, columns) = if trans_b { (b1, b0) } else { (b0, b1) };
    agree(inner, needed).map_err(|e| format!("{} times {}: {e}", shape_text(a), shape_text(b)))?;
    let shape = vec![rows.clone(), columns.clone()];
    if inputs.optional(2).is_some() {
        one_way(&shape, known!(inputs.shape(2)?)).map_err(|e| format!("C: {e}"))?;
    }
    Ok(Some(shape))
}

fn reduce(keep_dims: bool, empty_is_noop: bool, inputs: &Inputs<'_>) -> Shape {
    let shape = known!(inputs.shape(0)?);
    let mut axes = known!(axes_at(inputs, 1, shape.len())?);
    if inputs.sizes(1).is_some_and(<[Size]>::is_empty) {
        axes = (0..shape.len()).collect();
    }
    if empty_is_noop && inputs.sizes(1).is_none_or(<[Size]>::is_empty) {
        axes.clear();
    }
    Ok(Some(without(shape, &axes, keep_dims)))
}

/// The shape without `axes`, or with 1 in their place.
fn without(shape: &[Size], axes: &[usize], keep: bool) -> Vec<Size> {
    let dims = shape.iter().enumerate().filter(|(i, _)| keep || !axes.contains(i));
    dims.map(|(i, d)| if axes.contains(&i) { 1.into() } else { d.clone() }).collect()
}
