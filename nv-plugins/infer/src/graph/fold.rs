//! Computes small tensors before anything runs: shapes and indices, with symbols among them, and numbers of the kind that
//! exporters leave about.

use std::sync::Arc;

use super::op::{Binary, Op, Unary};
use super::shapes::Inputs;
use super::shapes::{bounds, ordered_axes, permutation, span};
use super::size::Size;
use crate::ElementType;
use crate::graph::constant::{Constant, range, volume};

/// How many whole numbers a tensor may have that is followed. Shapes have at most eight.
const MAX_INTS: usize = 64;
/// How many other numbers.
const MAX_FLOATS: usize = 4096;

/// The values of a small tensor, in row-major order. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Ints(Arc<[Size]>),
    Floats(Arc<[f32]>),
}

impl Content {
    /// What a constant holds, where it is small.
    pub(super) fn of(constant: &Constant) -> Option<Self> {
        match constant.len() {
            n if n <= MAX_INTS && constant.as_ints().is_some() => {
                Some(Self::Ints(constant.as_ints()?.iter().map(|&v| Size::fixed(v)).collect()))
            }
            n if n <= MAX_FLOATS => Some(Self::Floats(constant.as_floats()?.as_ref().into())),
            _ => None,
        }
    }

    /// As a constant, where no symbol is among the values.
    pub(super) fn to_constant(&self, shape: Vec<usize>, element: ElementType) -> Option<Constant> {
        match self {
            Self::Ints(values) => {
                let values = values.iter().map(Size::as_fixed).collect::<Option<_>>()?;
                Some(Constant::ints(shape, values).of_element(element))
            }
            Self::Floats(values) => Some(Constant::floats(shape, values.to_vec())),
        }
    }

    pub(super) fn as_ints(&self) -> Option<&[Size]> {
        match self {
            Self::Ints(values) => Some(values),
            Self::Floats(_) => None,
        }
    }

    pub(super) fn as_floats(&self) -> Option<&[f32]> {
        match self {
            Self::Floats(values) => Some(values),
            Self::Ints(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// What it takes to keep, in the space of a float.
    pub(super) fn weight(&self) -> usize {
        match self {
            // A number that may have symbols in it is a tree.
            Self::Ints(values) => values.len() * 16,
            Self::Floats(values) => values.len(),
        }
    }

    fn fixed(&self) -> Option<Vec<i64>> {
        self.as_ints()?.iter().map(Size::as_fixed).collect()
    }

    fn pick(&self, places: &[usize]) -> Option<Self> {
        Some(match self {
            Self::Ints(values) => Self::Ints(places.iter().map(|&i| values.get(i).cloned()).collect::<Option<_>>()?),
            Self::Floats(values) => {
                Self::Floats(places.iter().map(|&i| values.get(i).copied()).collect::<Option<_>>()?)
            }
        })
    }
}

/// What `op` computes from `inputs` as its first output, a tensor of the type `element` and of `shape`; `None` where that
/// can't be told or is not exact.
pub(super) fn evaluate(op: &Op, inputs: &Inputs<'_>, element: ElementType, shape: &[Size]) -> Option<Content> {
    let out: Vec<usize> = fixed_shape(shape)?;
    let most = if is_whole(element) { MAX_INTS } else { MAX_FLOATS };
    let len = volume(&out).filter(|&n| n <= most)?;
    let content = |index: usize| inputs.0.get(index)?.as_ref()?.content.as_ref();
    let content = match op {
        Op::Shape { start, end } => {
            let shape = inputs.0.first()?.as_ref()?.shape.as_ref()?;
            let (start, end) = span(*start, *end, shape.len());
            Some(Content::Ints(shape.get(start..end)?.into()))
        }
        Op::Identity | Op::Dropout | Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze => {
            content(0).cloned()
        }
        Op::Cast(to) => cast(content(0)?, *to),
        Op::ConstantOfShape(value) => content_of_one(value)?.pick(&vec![0; len]),
        Op::Range => {
            let [start, _, step] = [0, 1, 2].map(|i| content(i)?.fixed()?.first().copied());
            let (start, step) = (start?, step?);
            let value = |i: usize| start.checked_add(step.checked_mul(i64::try_from(i).ok()?)?).map(Size::fixed);
            Some(Content::Ints((0..len).map(value).collect::<Option<_>>()?))
        }
        Op::Concat { axis } => concat(*axis, inputs, &out),
        Op::Gather { .. } | Op::Slice | Op::Transpose { .. } | Op::Expand | Op::Tile => {
            content(0)?.pick(&sources(op, inputs, &out)?)
        }
        Op::Unary(unary) => apply(*unary, content(0)?),
        Op::Binary(binary) if inputs.0.len() == 2 => {
            // What can't be computed must show before the work of spreading is done.
            let alike = match (content(0)?, content(1)?) {
                (Content::Ints(_), Content::Ints(_)) => true,
                (Content::Floats(_), Content::Floats(_)) => of_floats(*binary).is_some(),
                _ => false,
            };
            alike.then_some(())?;
            let a = spread(content(0)?, inputs.0[0].as_ref()?.shape.as_ref()?, &out)?;
            let b = spread(content(1)?, inputs.0[1].as_ref()?.shape.as_ref()?, &out)?;
            combine(*binary, &a, &b)
        }
        Op::Where => {
            is_whole(element).then_some(())?;
            let parts = [0, 1, 2].map(|i| spread(content(i)?, inputs.0[i].as_ref()?.shape.as_ref()?, &out));
            let [condition, yes, no] = parts;
            let (condition, yes, no) = (condition?.fixed()?, yes?, no?);
            match (yes, no) {
                (Content::Ints(a), Content::Ints(b)) => {
                    let either = |(c, (a, b)): (&i64, (&Size, &Size))| if *c != 0 { a.clone() } else { b.clone() };
                    Some(Content::Ints(condition.iter().zip(a.iter().zip(&*b)).map(either).collect()))
                }
                _ => None,
            }
        }
        _ => None,
    }?;
    let fits = match &content {
        // What is beyond the type's range would have come round.
        Content::Ints(values) => {
            let range = range(element);
            let held = |value: &Size| value.as_fixed().is_none_or(|value| range.contains(&value));
            values.len() <= MAX_INTS && is_whole(element) && values.iter().all(held)
        }
        Content::Floats(_) => element == ElementType::Float,
    };
    (fits && content.len() == len).then_some(content)
}

/// The numbers of a shape, where no symbol is among them.
pub(super) fn fixed_shape(shape: &[Size]) -> Option<Vec<usize>> {
    shape.iter().map(|d| usize::try_from(d.as_fixed()?).ok()).collect()
}

fn is_whole(element: ElementType) -> bool {
    use ElementType as E;
    matches!(element, E::Int64 | E::Int32 | E::Int8 | E::Uint8 | E::Bool)
}

fn content_of_one(value: &Constant) -> Option<Content> {
    Content::of(value).filter(|content| content.len() == 1)
}

fn cast(content: &Content, to: ElementType) -> Option<Content> {
    let range = match to {
        to if is_whole(to) => range(to),
        ElementType::Float => {
            // Up to 2²⁴ every whole number is a float.
            let exact = |v: i64| (v.unsigned_abs() <= 1 << 24).then_some(v as f32);
            return match content {
                Content::Floats(_) => Some(content.clone()),
                Content::Ints(_) => {
                    Some(Content::Floats(content.fixed()?.into_iter().map(exact).collect::<Option<_>>()?))
                }
            };
        }
        _ => return None,
    };
    let whole = |v: &f32| (v.abs() < (1u64 << 52) as f32).then(|| v.trunc() as i64).filter(|v| range.contains(v));
    match content {
        // A symbol stands for the size of a tensor in memory, which any of these types but the shortest can hold.
        Content::Ints(values) => values
            .iter()
            .all(|v| v.as_fixed().map_or(*range.end() >= i64::from(i32::MAX), |v| range.contains(&v)))
            .then(|| content.clone()),
        Content::Floats(values) => {
            Some(Content::Ints(values.iter().map(|v| whole(v).map(Size::fixed)).collect::<Option<_>>()?))
        }
    }
}

fn apply(unary: Unary, content: &Content) -> Option<Content> {
    match content {
        Content::Ints(values) => {
            let each = |value: &Size| match unary {
                Unary::Neg => Size::fixed(0).minus(value).ok(),
                Unary::Not => value.as_fixed().map(|v| Size::fixed(i64::from(v == 0))),
                _ => None,
            };
            Some(Content::Ints(values.iter().map(each).collect::<Option<_>>()?))
        }
        Content::Floats(values) => {
            // Only what every implementation rounds alike.
            let each: fn(f32) -> f32 = match unary {
                Unary::Neg => |v| -v,
                Unary::Abs => f32::abs,
                Unary::Floor => f32::floor,
                Unary::Ceil => f32::ceil,
                Unary::Sqrt => f32::sqrt,
                Unary::Relu => |v| v.max(0.0),
                _ => return None,
            };
            Some(Content::Floats(values.iter().map(|&v| each(v)).collect()))
        }
    }
}

fn combine(binary: Binary, a: &Content, b: &Content) -> Option<Content> {
    match (a, b) {
        (Content::Ints(a), Content::Ints(b)) => {
            let each = |(a, b): (&Size, &Size)| {
                let fixed = a.as_fixed().zip(b.as_fixed());
                let truth = |of: fn(i64, i64) -> bool| fixed.map(|(a, b)| Size::fixed(i64::from(of(a, b))));
                match (binary, fixed) {
                    (Binary::Add, _) => a.plus(b).ok(),
                    (Binary::Sub, _) => a.minus(b).ok(),
                    (Binary::Mul, _) => a.times(b).ok(),
                    (Binary::Div, Some((a, b))) => a.checked_div(b).map(Size::fixed),
                    // Rounding down is rounding to zero where nothing is below zero.
                    (Binary::Div, None) => {
                        let by = b.as_fixed().filter(|&b| b > 0 && a.at_least(0));
                        by.and_then(|by| a.divided_down(by).ok()).or_else(|| a.divided_evenly(b))
                    }
                    (Binary::Min, Some((a, b))) => Some(Size::fixed(a.min(b))),
                    (Binary::Max, Some((a, b))) => Some(Size::fixed(a.max(b))),
                    (Binary::Equal, _) => truth(|a, b| a == b).or_else(|| unequal(a, b)),
                    (Binary::Less, _) => truth(|a, b| a < b),
                    (Binary::LessOrEqual, _) => truth(|a, b| a <= b),
                    (Binary::Greater, _) => truth(|a, b| a > b),
                    (Binary::GreaterOrEqual, _) => truth(|a, b| a >= b),
                    (Binary::And, _) => truth(|a, b| a != 0 && b != 0),
                    (Binary::Or, _) => truth(|a, b| a != 0 || b != 0),
                    (Binary::Xor, _) => truth(|a, b| (a != 0) != (b != 0)),
                    _ => None,
                }
            };
            Some(Content::Ints(a.iter().zip(&**b).map(each).collect::<Option<_>>()?))
        }
        (Content::Floats(a), Content::Floats(b)) => {
            let each = of_floats(binary)?;
            Some(Content::Floats(a.iter().zip(&**b).map(|(&a, &b)| each(a, b)).collect()))
        }
        _ => None,
    }
}

/// What every implementation rounds alike.
fn of_floats(binary: Binary) -> Option<fn(f32, f32) -> f32> {
    match binary {
        Binary::Add => Some(|a, b| a + b),
        Binary::Sub => Some(|a, b| a - b),
        Binary::Mul => Some(|a, b| a * b),
        Binary::Div => Some(|a, b| a / b),
        _ => None,
    }
}

/// 0 where a size, being positive, is surely not the number that it is compared with, such as the -1 of a shape.
fn unequal(a: &Size, b: &Size) -> Option<Size> {
    let apart = |a: &Size, b: &Size| a.as_fixed().is_some_and(|n| b.at_least(n.saturating_add(1)));
    (apart(a, b) || apart(b, a)).then(|| Size::fixed(0))
}

fn concat(axis: i64, inputs: &Inputs<'_>, out: &[usize]) -> Option<Content> {
    let axis = super::shapes::axis_of(axis, out.len()).ok()?;
    let outer: usize = out[..axis].iter().product();
    let mut parts = Vec::new();
    for input in inputs.0 {
        let content = input.as_ref()?.content.as_ref()?;
        // Of what has no elements a file may have any number.
        if content.len() > 0 {
            parts.push((content, content.len().checked_div(outer)?));
        }
    }
    if parts.is_empty() {
        return None;
    }
    if parts.iter().all(|(c, _)| c.as_ints().is_some()) {
        let row = |i: usize| {
            parts.iter().flat_map(move |(c, n)| c.as_ints().unwrap_or_default()[i * n..(i + 1) * n].to_vec())
        };
        return Some(Content::Ints((0..outer).flat_map(row).collect()));
    }
    if parts.iter().all(|(c, _)| c.as_floats().is_some()) {
        let row = |i: usize| {
            parts.iter().flat_map(move |(c, n)| c.as_floats().unwrap_or_default()[i * n..(i + 1) * n].to_vec())
        };
        return Some(Content::Floats((0..outer).flat_map(row).collect()));
    }
    None
}

/// A content repeated to the shape that it broadcasts to.
fn spread(content: &Content, from: &[Size], to: &[usize]) -> Option<Content> {
    content.pick(&broadcast_sources(&fixed_shape(from)?, to))
}

fn broadcast_sources(from: &[usize], to: &[usize]) -> Vec<usize> {
    let skip = to.len().saturating_sub(from.len());
    each_index(to, |index| from.iter().zip(&index[skip..]).fold(0, |at, (&d, &i)| at * d + if d == 1 { 0 } else { i }))
}

/// For each element of the output, which element of the first input it is.
fn sources(op: &Op, inputs: &Inputs<'_>, out: &[usize]) -> Option<Vec<usize>> {
    let from = fixed_shape(inputs.0.first()?.as_ref()?.shape.as_ref()?)?;
    let flat = |index: &mut dyn Iterator<Item = usize>| from.iter().zip(index).fold(0, |at, (&d, i)| at * d + i);
    let ints = |index: usize| inputs.0.get(index)?.as_ref()?.content.as_ref()?.fixed();
    Some(match op {
        Op::Gather { axis } => {
            let axis = super::shapes::axis_of(*axis, from.len()).ok()?;
            let indices = ints(1)?;
            let signed = from[axis] as i64;
            let indices: Vec<usize> = indices.iter().map(|&i| (if i < 0 { i + signed } else { i }) as usize).collect();
            let rank = out.len() + 1 - from.len();
            let shape = &out[axis..axis + rank];
            each_index(out, |index| {
                let at = index[axis..axis + rank].iter().zip(shape).fold(0, |at, (&i, &d)| at * d + i);
                // Shape inference has refused indices out of range.
                let picked = indices.get(at).copied().unwrap_or(0);
                let mut source =
                    index[..axis].iter().copied().chain([picked]).chain(index[axis + rank..].iter().copied());
                flat(&mut source)
            })
        }
        Op::Slice => {
            let (mut first, mut steps) = (vec![0i64; from.len()], vec![1i64; from.len()]);
            let axes = ordered_axes(inputs, 3, from.len()).ok()??;
            let (starts, ends) = (ints(1)?, ints(2)?);
            let by = if inputs.0.get(4).is_some_and(Option::is_some) { ints(4)? } else { vec![1; starts.len()] };
            for (i, axis) in axes.into_iter().enumerate().take(starts.len()) {
                first[axis] = bounds(from[axis] as i64, starts[i], *ends.get(i)?, *by.get(i)?).0;
                steps[axis] = by[i];
            }
            each_index(out, |index| {
                flat(&mut index.iter().enumerate().map(|(axis, &i)| (first[axis] + steps[axis] * i as i64) as usize))
            })
        }
        Op::Transpose { perm } => {
            let perm = permutation(perm.as_deref(), from.len()).ok()?;
            let mut place = vec![0; perm.len()];
            perm.iter().enumerate().for_each(|(i, &axis)| place[axis] = i);
            each_index(out, |index| flat(&mut place.iter().map(|&i| index[i])))
        }
        Op::Expand => broadcast_sources(&from, out),
        Op::Tile => each_index(out, |index| flat(&mut index.iter().zip(&from).map(|(i, d)| i % d))),
        _ => return None,
    })
}

/// What `f` gives for each index into a tensor of this shape, in row-major order.
fn each_index(shape: &[usize], mut f: impl FnMut(&[usize]) -> usize) -> Vec<usize> {
    let len: usize = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut all = Vec::with_capacity(len);
    for _ in 0..len {
        all.push(f(&index));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    all
}
