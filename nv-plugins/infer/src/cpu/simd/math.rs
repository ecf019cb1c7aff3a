//! Functions of vectors of floats.
//!
//! NaN gives what [`scalar::unary`](crate::cpu::scalar::unary) gives, which is NaN for all but `Relu`, `Clamp` and `Not`.

use super::Simd;
use crate::cpu::scalar::{ERF_DENOMINATOR, ERF_NUMERATOR};
use crate::graph::op::Unary;

/// A function of one float. `slope` is a number of each lane, for those that have one.
pub(crate) trait Function: Copy + Send + Sync {
    /// Its value for each lane. Implementations are `#[inline(always)]`.
    fn apply<S: Simd>(self, s: S, x: S::V, slope: S::V) -> S::V;
}

/// Something that is done with a function, whichever it is.
pub(crate) trait WithFunction {
    type Output;
    fn with<F: Function>(self, function: F) -> Self::Output;
}

/// Does something with the function that is meant; `None` for those that are no [`Function`] here.
pub(crate) fn with_unary<W: WithFunction>(unary: Unary, work: W) -> Option<W::Output> {
    Some(match unary {
        Unary::Relu => work.with(Relu()),
        Unary::LeakyRelu { alpha } => work.with(LeakyRelu(alpha)),
        Unary::Sigmoid => work.with(Sigmoid()),
        Unary::HardSigmoid { alpha, beta } => work.with(HardSigmoid(alpha, beta)),
        Unary::HardSwish => work.with(HardSwish()),
        Unary::Silu => work.with(Silu()),
        Unary::Clamp { least, greatest } => work.with(Clamp(least, greatest)),
        Unary::Tanh => work.with(Tanh()),
        Unary::Elu { alpha } => work.with(Elu(alpha)),
        Unary::Gelu { tanh: false } => work.with(Gelu()),
        Unary::Gelu { tanh: true } => work.with(GeluTanh()),
        Unary::Erf => work.with(Erf()),
        Unary::Exp => work.with(Exp()),
        Unary::Sqrt => work.with(Sqrt()),
        Unary::Abs => work.with(Abs()),
        Unary::Neg => work.with(Neg()),
        Unary::Floor => work.with(Floor()),
        Unary::Ceil => work.with(Ceil()),
        Unary::Log | Unary::Not => return None,
    })
}

/// Declares functions as types.
macro_rules! functions {
    ($($(#[$meta:meta])* $name:ident($($field:ident),*) = |$s:ident, $x:ident, $slope:ident| $body:expr;)*) => {
        $($(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name($(functions!(@float $field)),*);

        impl Function for $name {
            #[inline(always)]
            fn apply<S: Simd>(self, $s: S, $x: S::V, $slope: S::V) -> S::V {
                let Self($($field),*) = self;
                $body
            }
        })*
    };
    (@float $field:ident) => { f32 };
}

functions! {
    Identity() = |_s, x, _slope| x;
    Relu() = |s, x, _slope| s.max(x, s.splat(0.0));
    LeakyRelu(alpha) = |s, x, _slope| s.if_less(x, s.splat(0.0), s.mul(s.splat(alpha), x), x);
    /// With the slope of each lane.
    PRelu() = |s, x, slope| s.if_less(x, s.splat(0.0), s.mul(slope, x), x);
    Sigmoid() = |s, x, _slope| s.div(s.splat(1.0), sigmoid_divisor(s, x));
    HardSigmoid(alpha, beta) = |s, x, _slope| {
        between(s, s.add(s.mul(s.splat(alpha), x), s.splat(beta)), 0.0, 1.0)
    };
    HardSwish() = |s, x, _slope| s.mul(x, between(s, s.add(s.div(x, s.splat(6.0)), s.splat(0.5)), 0.0, 1.0));
    Silu() = |s, x, _slope| s.div(x, sigmoid_divisor(s, x));
    Clamp(least, greatest) = |s, x, _slope| s.min(s.max(x, s.splat(least)), s.splat(greatest));
    Tanh() = |s, x, _slope| tanh(s, x);
    Elu(alpha) = |s, x, _slope| s.if_less(x, s.splat(0.0), s.mul(s.splat(alpha), exp_minus_1(s, x)), x);
    Gelu() = |s, x, _slope| {
        let inner = s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2));
        s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), erf(s, inner)))
    };
    GeluTanh() = |s, x, _slope| {
        let cube = s.mul(s.mul(s.mul(s.splat(0.044_715), x), x), x);
        // √(2/π).
        let inner = s.mul(s.splat(0.797_884_6), s.add(x, cube));
        s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), tanh(s, inner)))
    };
    Erf() = |s, x, _slope| erf(s, x);
    Exp() = |s, x, _slope| exp(s, x);
    Sqrt() = |s, x, _slope| s.sqrt(x);
    Abs() = |s, x, _slope| s.max(s.sub(s.splat(0.0), x), x);
    Neg() = |s, x, _slope| s.mul(s.splat(-1.0), x);
    Floor() = |s, x, _slope| s.floor(x);
    Ceil() = |s, x, _slope| s.ceil(x);
}

/// Not below the least, not above the greatest; NaN for NaN.
#[inline(always)]
fn between<S: Simd>(s: S, x: S::V, least: f32, greatest: f32) -> S::V {
    s.min(s.splat(greatest), s.max(s.splat(least), x))
}

/// `eˣ` to two units in the last place, for x from −87 to 88: less is as −87, more as 88.
#[inline(always)]
fn bounded_exp<S: Simd>(s: S, x: S::V) -> S::V {
    exp_of_product(s, between(s, x, -87.0, 88.0), 1.0)
}

/// `eˢˣ` to two units in the last place, where the sign is 1 or −1 and the product is from −87 to 88.
///
/// `2ⁿ·2ᶠ` with n the nearest whole number to sx·log₂e: for f from −½ to ½ a polynomial of degree 5 with the least relative
/// error, 9·10⁻⁸. log₂e is in two parts, as Cody and Waite ("Software Manual for the Elementary Functions", 1980) reduce.
#[inline(always)]
#[expect(clippy::approx_constant, reason = "the polynomial's coefficient is near ln 2, not ln 2")]
fn exp_of_product<S: Simd>(s: S, x: S::V, sign: f32) -> S::V {
    let high = s.splat(sign * std::f32::consts::LOG2_E);
    let n = s.round(s.mul(x, high));
    let f = s.fma(x, s.splat(sign * 1.925_963e-8), s.fms(x, high, n));
    let mut p = s.splat(0.001_326_472_7);
    p = s.fma(p, f, s.splat(0.009_671_513));
    p = s.fma(p, f, s.splat(0.055_507_336));
    p = s.fma(p, f, s.splat(0.240_222_42));
    p = s.fma(p, f, s.splat(0.693_147));
    s.scale(s.fma(p, f, s.splat(1.0)), n)
}

/// `eˣ`; infinite beyond what floats have, 0 where it is less than 10⁻³⁸.
#[inline(always)]
fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let inside = bounded_exp(s, x);
    let small = s.if_less(x, s.splat(-87.0), s.splat(0.0), inside);
    s.if_less(s.splat(88.72), x, s.splat(f32::INFINITY), beyond(s, x, small))
}

/// `eˣ` for x up to 0; 0 where it is less than 10⁻³⁸.
#[inline(always)]
pub(crate) fn exp_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    s.if_less(x, s.splat(-87.0), s.splat(0.0), bounded_exp(s, x))
}

/// From 88 to the greatest x that has a finite eˣ, 2ⁿ is not a float of its own.
#[inline(always)]
fn beyond<S: Simd>(s: S, x: S::V, otherwise: S::V) -> S::V {
    let half = bounded_exp(s, s.mul(x, s.splat(0.5)));
    s.if_less(s.splat(88.0), x, s.mul(half, half), otherwise)
}

/// `1 + e⁻ˣ`: what x is divided by in SiLU, and 1 in the sigmoid.
#[inline(always)]
fn sigmoid_divisor<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond, it is 1 for floats, or so large that nothing is left.
    let x = between(s, x, -87.0, 87.0);
    s.add(s.splat(1.0), exp_of_product(s, x, -1.0))
}

/// Near 0 a polynomial (Moshier, Cephes, `tanhf`), elsewhere by eˣ.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let z = s.mul(x, x);
    let mut p = s.splat(-5.704_988_7e-3);
    p = s.fma(p, z, s.splat(2.063_909e-2));
    p = s.fma(p, z, s.splat(-5.373_971_6e-2));
    p = s.fma(p, z, s.splat(1.333_144_2e-1));
    p = s.fma(p, z, s.splat(-3.333_328e-1));
    let near = s.fma(s.mul(p, z), x, x);
    let far = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(s.splat(1.0), bounded_exp(s, s.add(x, x)))));
    s.if_less(z, s.splat(0.625 * 0.625), near, far)
}

/// `eˣ − 1` for x up to 0: near 0 by its series.
#[inline(always)]
fn exp_minus_1<S: Simd>(s: S, x: S::V) -> S::V {
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = s.fma(p, x, s.splat(c));
    }
    let near = s.fma(s.mul(p, x), x, x);
    s.if_less(x, s.splat(-0.4), s.sub(bounded_exp(s, x), s.splat(1.0)), near)
}

/// As [`scalar::erf`](crate::cpu::scalar::erf).
#[inline(always)]
fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let x = between(s, x, -4.0, 4.0);
    let z = s.mul(x, x);
    let mut numerator = s.splat(0.0);
    for c in ERF_NUMERATOR {
        numerator = s.fma(numerator, z, s.splat(c));
    }
    let mut denominator = s.splat(0.0);
    for c in ERF_DENOMINATOR {
        denominator = s.fma(denominator, z, s.splat(c));
    }
    between(s, s.div(s.mul(x, numerator), denominator), -1.0, 1.0)
}
