//! What maps compute.

#![expect(unsafe_code, reason = "kernels work on memory through pointers")]

use super::lines::{Combine, Lines, LinesKernel};
use crate::ElementType;
use crate::cpu::simd::math::{Function as _, PRelu as Slope, WithFunction, with_unary};
use crate::cpu::simd::{Instructions, Simd};
use crate::graph::op::{Binary, Unary};
use crate::plan::{Function, Kind, Map, Plan, Values};

/// Declares the formulas, each with how many operands it has.
macro_rules! formulas {
    ($($(#[$meta:meta])* $name:ident: $n:literal = |$s:ident, $x:ident| $body:expr;)*) => {
        /// What a map computes, where there is a kernel for it. Whole numbers are seen as floats with the same bits.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(super) enum Formula {
            Unary(Unary),
            $($(#[$meta])* $name,)*
        }

        impl Formula {
            /// How many inputs it has.
            pub(super) fn inputs(self) -> usize {
                match self {
                    Self::Unary(_) => 1,
                    $(Self::$name => $n,)*
                }
            }

            /// Computes lines.
            ///
            /// # Safety
            /// All elements of the lines can be read, and those of the output written, which nobody else uses.
            pub(super) unsafe fn run(self, instructions: Instructions, lines: Lines) {
                match self {
                    // SAFETY: the caller's promise.
                    Self::Unary(unary) => unsafe { lines.unary(instructions, unary) },
                    // SAFETY: the caller's promise is all that the kernel asks for.
                    $(Self::$name => unsafe { instructions.run(LinesKernel(lines, $name)) },)*
                }
            }
        }

        $(#[derive(Clone, Copy)]
        struct $name;

        impl Combine<$n> for $name {
            #[inline(always)]
            fn combine<S: Simd>(self, $s: S, $x: [S::V; $n]) -> S::V {
                $body
            }
        })*
    };
}

formulas! {
    Copy: 1 = |_s, x| x[0];
    Add: 2 = |s, x| s.add(x[0], x[1]);
    Sub: 2 = |s, x| s.sub(x[0], x[1]);
    Mul: 2 = |s, x| s.mul(x[0], x[1]);
    Div: 2 = |s, x| s.div(x[0], x[1]);
    /// Of a number and NaN, the number.
    Min: 2 = |s, x| s.if_nan(x[1], x[0], s.min(x[0], x[1]));
    /// As the least.
    Max: 2 = |s, x| s.if_nan(x[1], x[0], s.max(x[0], x[1]));
    Clip: 3 = |s, x| Min.combine(s, [Max.combine(s, [x[0], x[1]]), x[2]]);
    PRelu: 2 = |s, x| Slope().apply(s, x[0], x[1]);
    MulAdd: 3 = |s, x| s.add(s.mul(x[0], x[1]), x[2]);
    Square: 1 = |s, x| s.mul(x[0], x[0]);
    Cube: 1 = |s, x| s.mul(s.mul(x[0], x[0]), x[0]);
    /// As a power: of −∞ it is ∞, of −0 it is 0.
    Root: 1 = |s, x| {
        let root = s.sqrt(s.add(x[0], s.splat(0.0)));
        s.if_equal(x[0], s.splat(f32::NEG_INFINITY), s.splat(f32::INFINITY), root)
    };
    Where: 3 = |s, x| s.if_some(x[0], x[1], x[2]);
    Equal: 2 = |s, x| s.if_equal(x[0], x[1], truth(s, true), truth(s, false));
    Less: 2 = |s, x| s.if_less(x[0], x[1], truth(s, true), truth(s, false));
    LessOrEqual: 2 = |s, x| s.if_less(x[0], x[1], truth(s, true), Equal.combine(s, x));
    Greater: 2 = |s, x| Less.combine(s, [x[1], x[0]]);
    GreaterOrEqual: 2 = |s, x| LessOrEqual.combine(s, [x[1], x[0]]);
    /// Of whole numbers, as all down to `IntsToFloats`.
    IntsEqual: 2 = |s, x| s.if_some(s.xor(x[0], x[1]), truth(s, false), truth(s, true));
    IntsLess: 2 = |s, x| s.if_less_ints(x[0], x[1], truth(s, true), truth(s, false));
    IntsLessOrEqual: 2 = |s, x| s.if_less_ints(x[1], x[0], truth(s, false), truth(s, true));
    IntsGreater: 2 = |s, x| IntsLess.combine(s, [x[1], x[0]]);
    IntsGreaterOrEqual: 2 = |s, x| IntsLessOrEqual.combine(s, [x[1], x[0]]);
    And: 2 = |s, x| s.if_some(x[0], IntsToTruth.combine(s, [x[1]]), truth(s, false));
    Or: 2 = |s, x| s.if_some(x[0], truth(s, true), IntsToTruth.combine(s, [x[1]]));
    Xor: 2 = |s, x| s.xor(IntsToTruth.combine(s, [x[0]]), IntsToTruth.combine(s, [x[1]]));
    Not: 1 = |s, x| s.if_some(x[0], truth(s, false), truth(s, true));
    IntsToTruth: 1 = |s, x| s.if_some(x[0], truth(s, true), truth(s, false));
    IntsToFloats: 1 = |s, x| s.ints_to_floats(x[0]);
    FloatsToInts: 1 = |s, x| s.floats_to_ints(x[0]);
    FloatsToTruth: 1 = |s, x| s.if_equal(x[0], s.splat(0.0), truth(s, false), truth(s, true));
}

/// A truth value in each lane.
#[inline(always)]
fn truth<S: Simd>(s: S, value: bool) -> S::V {
    s.splat(f32::from_bits(value.into()))
}

impl Formula {
    /// What a map computes; `None` if there is no kernel for it.
    pub(super) fn of(map: &Map, plan: &Plan) -> Option<Self> {
        use Kind::{Float, Int};
        let kind_of = |input: &crate::plan::View| plan.array(input.array).kind;
        let (from, to) = (kind_of(map.inputs.first()?), kind_of(&map.output));
        let formula = match (map.function, from, to) {
            (Function::Copy, ..) if from == to => Self::Copy,
            (Function::Unary(unary), Float, Float) => with_unary(unary, Known).map(|()| Self::Unary(unary))?,
            (Function::Unary(Unary::Not), Int, Int) => Self::Not,
            (Function::Binary(Binary::Pow, _), Float, Float) => Self::power(map, plan)?,
            (Function::Binary(binary, _), ..) => Self::binary(binary, from, to)?,
            (Function::Clip, Float, Float) => Self::Clip,
            (Function::PRelu, Float, Float) => Self::PRelu,
            (Function::MulAdd, Float, Float) => Self::MulAdd,
            (Function::Where, Int, _) => Self::Where,
            (Function::Cast(element), ..) => Self::cast(element, from, to)?,
            _ => return None,
        };
        let fits = |(i, input)| kind_of(input) == if formula == Self::Where && i > 0 { to } else { from };
        let enough = map.inputs.len() >= formula.inputs();
        (enough && map.inputs.iter().enumerate().all(fits)).then_some(formula)
    }

    fn binary(binary: Binary, from: Kind, to: Kind) -> Option<Self> {
        use Kind::{Float, Int};
        Some(match (binary, from, to) {
            (Binary::Add, Float, Float) => Self::Add,
            (Binary::Sub, Float, Float) => Self::Sub,
            (Binary::Mul, Float, Float) => Self::Mul,
            (Binary::Div, Float, Float) => Self::Div,
            (Binary::Min, Float, Float) => Self::Min,
            (Binary::Max, Float, Float) => Self::Max,
            (Binary::Equal, Float, Int) => Self::Equal,
            (Binary::Less, Float, Int) => Self::Less,
            (Binary::LessOrEqual, Float, Int) => Self::LessOrEqual,
            (Binary::Greater, Float, Int) => Self::Greater,
            (Binary::GreaterOrEqual, Float, Int) => Self::GreaterOrEqual,
            (Binary::Equal, Int, Int) => Self::IntsEqual,
            (Binary::Less, Int, Int) => Self::IntsLess,
            (Binary::LessOrEqual, Int, Int) => Self::IntsLessOrEqual,
            (Binary::Greater, Int, Int) => Self::IntsGreater,
            (Binary::GreaterOrEqual, Int, Int) => Self::IntsGreaterOrEqual,
            (Binary::And, Int, Int) => Self::And,
            (Binary::Or, Int, Int) => Self::Or,
            (Binary::Xor, Int, Int) => Self::Xor,
            _ => return None,
        })
    }

    fn cast(to: ElementType, from: Kind, kind: Kind) -> Option<Self> {
        use Kind::{Float, Int};
        let wide = matches!(to, ElementType::Int32 | ElementType::Int64);
        let truth = to == ElementType::Bool;
        Some(match (from, kind) {
            (Float, Float) => Self::Copy,
            (Int, Float) => Self::IntsToFloats,
            (Int, Int) if wide => Self::Copy,
            (Int, Int) if truth => Self::IntsToTruth,
            (Float, Int) if wide => Self::FloatsToInts,
            (Float, Int) if truth => Self::FloatsToTruth,
            _ => return None,
        })
    }

    /// Powers with one constant exponent, of those that normalisations and GELU have.
    fn power(map: &Map, plan: &Plan) -> Option<Self> {
        let exponent = map.inputs.get(1)?;
        let one = exponent.strides.iter().zip(&map.dims).all(|(stride, dim)| *stride == 0 || *dim == 1);
        let Some(Values::Floats(values)) = &plan.array(exponent.array).constant else { return None };
        match values.get(exponent.offset) {
            Some(0.5) if one => Some(Self::Root),
            Some(2.0) if one => Some(Self::Square),
            Some(3.0) if one => Some(Self::Cube),
            _ => None,
        }
    }
}

/// Asks whether a function is known.
struct Known;

impl WithFunction for Known {
    type Output = ();
    fn with<F: crate::cpu::simd::math::Function>(self, _: F) {}
}
