//! Functions of the elements at one index.

use crate::ElementType;
use crate::cpu::Memory;
use crate::cpu::memory::{Others, Written};
use crate::cpu::walk::walk;
use crate::graph::op::{Binary, Unary};
use crate::plan::{Function, Kind, Map};

use super::{Element, Seen, by_kind};

pub(super) fn map(step: &Map, memory: &mut Memory) {
    let Some(span) = step.output.span(&step.dims) else { return };
    let ([out], others) = memory.writing([span]);
    let map = Mapped { step, begin: step.output.offset - span.begin, others: &others };
    use Written::{Floats, Ints};
    let from = others.kind(step.inputs[0].array);
    match (step.function, from, out) {
        (Function::Copy, _, out) => by_kind!(out, out => map.one(out, |x| x)),
        (Function::Unary(function), _, Floats(out)) => map.one(out, |x| unary(function, x)),
        (Function::Unary(function), _, Ints(out)) => map.one(out, |x| unary_int(function, x)),
        (Function::Binary(function, _), Kind::Float, Floats(out)) => map.two(out, |a, b| binary(function, a, b)),
        (Function::Binary(function, _), Kind::Float, Ints(out)) => {
            map.two(out, |a: f32, b: f32| i32::from(truth(function, a, b)));
        }
        (Function::Binary(function, element), Kind::Int, Ints(out)) => {
            map.two(out, |a: i32, b: i32| {
                if function.is_truth() { i32::from(truth(function, a, b)) } else { binary_int(function, element, a, b) }
            });
        }
        (Function::Clip, _, Floats(out)) => map.three(out, |x: f32, least: f32, most: f32| x.max(least).min(most)),
        (Function::Clip, _, Ints(out)) => map.three(out, |x: i32, least: i32, most: i32| x.max(least).min(most)),
        (Function::PRelu, _, Floats(out)) => map.two(out, |x: f32, slope: f32| if x < 0.0 { slope * x } else { x }),
        (Function::PRelu, _, Ints(out)) => {
            map.two(out, |x: i32, slope: i32| if x < 0 { slope.wrapping_mul(x) } else { x });
        }
        (Function::Where, _, out) => {
            by_kind!(out, out => map.three(out, |c: i32, a, b| if c != 0 { a } else { b }));
        }
        (Function::MulAdd, _, Floats(out)) => map.three(out, |x: f32, factor: f32, term: f32| x * factor + term),
        (Function::Cast(_), Kind::Float, Floats(out)) => map.one(out, |x: f32| x),
        (Function::Cast(_), Kind::Int, Floats(out)) => map.one(out, |x: i32| x as f32),
        (Function::Cast(element), Kind::Float, Ints(out)) => map.one(out, |x: f32| truncated(element, x)),
        (Function::Cast(element), Kind::Int, Ints(out)) => map.one(out, |x: i32| wrapped(element, x)),
        (function @ (Function::Binary(..) | Function::MulAdd), from, _) => {
            panic!("{function:?} of {from:?} does not give what is to be written")
        }
    }
}

struct Mapped<'a> {
    step: &'a Map,
    begin: usize,
    others: &'a Others<'a>,
}

impl<'a> Mapped<'a> {
    fn input<T: Element>(&self, i: usize) -> Seen<'a, T> {
        Seen::new(self.others, &self.step.inputs[i], &self.step.dims)
    }

    fn one<A: Element, R: Element>(&self, out: &mut [R], f: impl Fn(A) -> R) {
        let a = self.input::<A>(0);
        let strides = [&self.step.output.strides[..], a.strides];
        walk(&self.step.dims, [self.begin, a.from], strides, |[to, at]| out[to] = f(a.data[at]));
    }

    fn two<A: Element, B: Element, R: Element>(&self, out: &mut [R], f: impl Fn(A, B) -> R) {
        let (a, b) = (self.input::<A>(0), self.input::<B>(1));
        let strides = [&self.step.output.strides[..], a.strides, b.strides];
        let begins = [self.begin, a.from, b.from];
        walk(&self.step.dims, begins, strides, |[to, i, j]| out[to] = f(a.data[i], b.data[j]));
    }

    fn three<A: Element, B: Element, C: Element, R: Element>(&self, out: &mut [R], f: impl Fn(A, B, C) -> R) {
        let (a, b, c) = (self.input::<A>(0), self.input::<B>(1), self.input::<C>(2));
        let strides = [&self.step.output.strides[..], a.strides, b.strides, c.strides];
        let begins = [self.begin, a.from, b.from, c.from];
        walk(&self.step.dims, begins, strides, |[to, i, j, k]| out[to] = f(a.data[i], b.data[j], c.data[k]));
    }
}

/// A function of one float.
pub(crate) fn unary(function: Unary, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match function {
        Unary::Relu => x.max(0.0),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        Unary::Sigmoid => sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Silu => x * sigmoid(x),
        Unary::Clamp { least, greatest } => x.max(least).min(greatest),
        Unary::Tanh => x.tanh(),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                alpha * x.exp_m1()
            } else {
                x
            }
        }
        Unary::Gelu { tanh: false } => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Unary::Gelu { tanh: true } => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Unary::Erf => erf(x),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Not => f32::from(u8::from(x == 0.0)),
    }
}

/// The error function, to a few units in the last place: a rational function of x², the odd numerator of degree 13 and the
/// even denominator of degree 8, minimax on [−4, 4], as in Eigen's `generic_fast_erf_float`.
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let at = |coefficients: &[f32]| coefficients.iter().fold(0.0, |sum: f32, c| sum.mul_add(square, *c));
    (x * at(&ERF_NUMERATOR) / at(&ERF_DENOMINATOR)).clamp(-1.0, 1.0)
}

pub(crate) const ERF_NUMERATOR: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
pub(crate) const ERF_DENOMINATOR: [f32; 5] =
    [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];

fn unary_int(function: Unary, x: i32) -> i32 {
    match function {
        Unary::Relu => x.max(0),
        Unary::Abs => x.wrapping_abs(),
        Unary::Neg => x.wrapping_neg(),
        Unary::Not => i32::from(x == 0),
        other => panic!("{other:?} is not a function of whole numbers"),
    }
}

fn binary(function: Binary, a: f32, b: f32) -> f32 {
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        truth => panic!("{truth:?} gives whole numbers"),
    }
}

fn truth<T: Element>(function: Binary, a: T, b: T) -> bool {
    let (is_a, is_b) = (a != T::default(), b != T::default());
    match function {
        Binary::Equal => a == b,
        Binary::Less => a < b,
        Binary::LessOrEqual => a <= b,
        Binary::Greater => a > b,
        Binary::GreaterOrEqual => a >= b,
        Binary::And => is_a && is_b,
        Binary::Or => is_a || is_b,
        Binary::Xor => is_a != is_b,
        other => panic!("{other:?} does not give a truth value"),
    }
}

fn binary_int(function: Binary, element: ElementType, a: i32, b: i32) -> i32 {
    let result = match function {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div if b == 0 => 0,
        Binary::Div => a.wrapping_div(b),
        Binary::Pow => power(a, b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        truth => panic!("{truth:?} gives truth values"),
    };
    wrapped(element, result)
}

/// A negative exponent gives what is left of the fraction without its digits.
fn power(base: i32, exponent: i32) -> i32 {
    match (base, u32::try_from(exponent)) {
        (_, Ok(exponent)) => base.wrapping_pow(exponent),
        (1, Err(_)) => 1,
        (-1, Err(_)) => {
            if exponent % 2 == 0 {
                1
            } else {
                -1
            }
        }
        _ => 0,
    }
}

/// A whole number cut to a type, as C does.
fn wrapped(element: ElementType, x: i32) -> i32 {
    match element {
        ElementType::Uint8 => i32::from(x as u8),
        ElementType::Int8 => i32::from(x as i8),
        ElementType::Bool => i32::from(x != 0),
        _ => x,
    }
}

/// A float cut to a type: the nearest towards zero that the type has.
fn truncated(element: ElementType, x: f32) -> i32 {
    match element {
        ElementType::Uint8 => i32::from(x as u8),
        ElementType::Int8 => i32::from(x as i8),
        ElementType::Bool => i32::from(x != 0.0),
        _ => x as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its series, in 64 bits.
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn erf_is_within_a_few_units_of_the_last_place() {
        for i in -400..=400 {
            let x = i as f32 / 100.0;
            let (got, want) = (f64::from(erf(x)), exact_erf(f64::from(x)));
            assert!((got - want).abs() <= 5e-7 * want.abs().max(1e-3), "erf({x}) = {got}, not {want}");
        }
        assert!((erf(f32::INFINITY) - 1.0).abs() < 2e-7 && (erf(-9.0) + 1.0).abs() < 2e-7);
    }

    #[test]
    fn whole_numbers_wrap_to_their_type() {
        assert_eq!(binary_int(Binary::Add, ElementType::Uint8, 250, 10), 4);
        assert_eq!(binary_int(Binary::Sub, ElementType::Int8, -100, 100), 56);
        assert_eq!(binary_int(Binary::Div, ElementType::Int64, -7, 2), -3);
        assert_eq!(binary_int(Binary::Div, ElementType::Int64, 7, 0), 0);
        assert_eq!(binary_int(Binary::Div, ElementType::Int32, i32::MIN, -1), i32::MIN);
        assert_eq!(binary_int(Binary::Pow, ElementType::Int64, 3, 4), 81);
        assert_eq!((power(2, -1), power(-1, -3), power(1, -9)), (0, -1, 1));
        assert_eq!((truncated(ElementType::Uint8, 300.7), truncated(ElementType::Int8, -200.0)), (255, -128));
        assert_eq!((truncated(ElementType::Int64, f32::NAN), truncated(ElementType::Bool, 0.2)), (0, 1));
        assert_eq!((wrapped(ElementType::Uint8, -1), wrapped(ElementType::Bool, 7)), (255, 1));
    }
}
