//! Functions of one element or of several at the same index, as WGSL expressions.
//!
//! They are written for the types `F`, `I` and `U`, which are single numbers or four of them ([`aliases`]).

use crate::ElementType;
use crate::cpu::{ERF_DENOMINATOR, ERF_NUMERATOR};
use crate::graph::op::{Binary, Unary};
use crate::plan::{Function, Kind};

use super::number;

/// The names of the types, for so many numbers at once.
pub(super) fn aliases(lanes: usize) -> String {
    match lanes {
        1 => "alias F = f32;\nalias I = i32;\nalias U = u32;\n".into(),
        n => format!("alias F = vec{n}<f32>;\nalias I = vec{n}<i32>;\nalias U = vec{n}<u32>;\n"),
    }
}

/// Declares what the function needs, and gives the expression that computes it of `a`, `b`, `c`. `from` is what the first of
/// them is.
pub(super) fn of(function: Function, from: Kind) -> (String, String) {
    let plain = |expression: &str| (String::new(), expression.to_owned());
    match function {
        Function::Copy => plain("a"),
        Function::Unary(function) if from == Kind::Float => unary(function, "a"),
        Function::Unary(function) => plain(match function {
            Unary::Abs => "abs(a)",
            Unary::Neg => "-a",
            Unary::Relu => "max(a, I(0))",
            Unary::Not => "select(I(0), I(1), a == I(0))",
            other => panic!("{other:?} is not computed of whole numbers"),
        }),
        Function::Binary(function, _) if function.is_truth() => truth(function, from),
        Function::Binary(function, _) if from == Kind::Float => of_two(function),
        Function::Binary(function, element) => {
            let (declarations, expression) = of_two_ints(function);
            (declarations, wrapped(element, &expression))
        }
        Function::Clip => plain("min(max(a, b), c)"),
        Function::PRelu if from == Kind::Float => plain("select(a, b * a, a < F(0.0))"),
        Function::PRelu => plain("select(a, b * a, a < I(0))"),
        Function::Where => plain("select(c, b, a != I(0))"),
        Function::MulAdd => plain("fma(a, b, c)"),
        Function::Cast(element) => match (from, Kind::of(element)) {
            (Kind::Float, Some(Kind::Int)) => truncated(element),
            (Kind::Int, Some(Kind::Int)) => (String::new(), wrapped(element, "a")),
            (Kind::Int, _) => plain("F(a)"),
            (Kind::Float, _) => plain("a"),
        },
    }
}

/// A function of one float: declarations, and the expression of the variable `x`.
pub(super) fn unary(function: Unary, x: &str) -> (String, String) {
    let n = number;
    let expression = match function {
        Unary::Relu => format!("max({x}, F(0.0))"),
        Unary::LeakyRelu { alpha } => format!("select({x}, {} * {x}, {x} < F(0.0))", n(alpha)),
        Unary::Sigmoid => format!("F(1.0) / (F(1.0) + exp(-{x}))"),
        Unary::HardSigmoid { alpha, beta } => {
            format!("clamp({} * {x} + F({}), F(0.0), F(1.0))", n(alpha), n(beta))
        }
        Unary::HardSwish => format!("{x} * clamp({x} / F(6.0) + F(0.5), F(0.0), F(1.0))"),
        Unary::Silu => format!("{x} / (F(1.0) + exp(-{x}))"),
        Unary::Clamp { least, greatest } => {
            let above = if least == f32::NEG_INFINITY { x.to_owned() } else { format!("max({x}, F({}))", n(least)) };
            if greatest == f32::INFINITY { above } else { format!("min({above}, F({}))", n(greatest)) }
        }
        // Drivers may compute it from exponentials that overflow.
        Unary::Tanh => format!("tanh(clamp({x}, F(-10.0), F(10.0)))"),
        Unary::Elu { alpha } => format!("select({x}, {} * (exp({x}) - F(1.0)), {x} < F(0.0))", n(alpha)),
        Unary::Gelu { tanh: false } => {
            let half = n(std::f32::consts::FRAC_1_SQRT_2);
            return (erf(), format!("F(0.5) * {x} * (F(1.0) + error_function({x} * {half}))"));
        }
        Unary::Gelu { tanh: true } => {
            let scale = n((2.0 / std::f32::consts::PI).sqrt());
            let inner = format!("{scale} * ({x} + 0.044715f * {x} * {x} * {x})");
            format!("F(0.5) * {x} * (F(1.0) + tanh(clamp({inner}, F(-10.0), F(10.0))))")
        }
        Unary::Erf => return (erf(), format!("error_function({x})")),
        Unary::Exp => format!("exp({x})"),
        Unary::Log => format!("log({x})"),
        Unary::Sqrt => format!("sqrt({x})"),
        Unary::Abs => format!("abs({x})"),
        Unary::Neg => format!("-{x}"),
        Unary::Floor => format!("floor({x})"),
        Unary::Ceil => format!("ceil({x})"),
        Unary::Not => format!("select(F(0.0), F(1.0), {x} == F(0.0))"),
    };
    (String::new(), expression)
}

/// The same rational function as the CPU's.
fn erf() -> String {
    let polynomial = |coefficients: &[f32]| {
        let (first, rest) = coefficients.split_first().expect("a polynomial has coefficients");
        rest.iter().fold(format!("F({})", number(*first)), |sum, c| format!("fma({sum}, s, F({}))", number(*c)))
    };
    format!(
        "fn error_function(value: F) -> F {{
    let x = clamp(value, F(-4.0), F(4.0));
    let s = x * x;
    return clamp(x * {} / {}, F(-1.0), F(1.0));
}}
",
        polynomial(&ERF_NUMERATOR),
        polynomial(&ERF_DENOMINATOR)
    )
}

fn truth(function: Binary, from: Kind) -> (String, String) {
    let zero = if from == Kind::Float { "F(0.0)" } else { "I(0)" };
    let condition = match function {
        Binary::Equal => "a == b".into(),
        Binary::Less => "a < b".into(),
        Binary::LessOrEqual => "a <= b".into(),
        Binary::Greater => "a > b".into(),
        Binary::GreaterOrEqual => "a >= b".into(),
        Binary::And => format!("(a != {zero}) & (b != {zero})"),
        Binary::Or => format!("(a != {zero}) | (b != {zero})"),
        Binary::Xor => format!("(a != {zero}) != (b != {zero})"),
        other => panic!("{other:?} does not give a truth value"),
    };
    (String::new(), format!("select(I(0), I(1), {condition})"))
}

fn of_two(function: Binary) -> (String, String) {
    let expression = match function {
        Binary::Add => "a + b",
        Binary::Sub => "a - b",
        Binary::Mul => "a * b",
        Binary::Div => "a / b",
        Binary::Min => "min(a, b)",
        Binary::Max => "max(a, b)",
        Binary::Pow => return (POWER.into(), "power(a, b)".into()),
        truth => panic!("{truth:?} gives truth values"),
    };
    (String::new(), expression.into())
}

/// WGSL's own has no negative bases, and drivers compute it by logarithms, which is off for the usual exponents.
const POWER: &str = "fn power(a: F, b: F) -> F {
    let whole = floor(b) == b;
    let odd = abs(b - 2.0 * floor(b * 0.5)) == F(1.0);
    let size = pow(abs(a), b);
    var result = select(size, -size, odd & (a < F(0.0)));
    result = select(result, pow(a, b), (a < F(0.0)) & (floor(b) != b));
    result = select(result, F(1.0), b == F(0.0));
    result = select(result, a, b == F(1.0));
    result = select(result, a * a, b == F(2.0));
    result = select(result, a * a * a, b == F(3.0));
    result = select(result, sqrt(a), b == F(0.5));
    return select(result, F(1.0) / a, b == F(-1.0));
}
";

fn of_two_ints(function: Binary) -> (String, String) {
    let (declarations, expression) = match function {
        Binary::Add => ("", "a + b"),
        Binary::Sub => ("", "a - b"),
        Binary::Mul => ("", "a * b"),
        Binary::Min => ("", "min(a, b)"),
        Binary::Max => ("", "max(a, b)"),
        Binary::Div => (DIVIDE_INTS, "divide(a, b)"),
        Binary::Pow => (POWER_OF_INTS, "power(a, b)"),
        truth => panic!("{truth:?} gives truth values"),
    };
    (declarations.into(), expression.into())
}

/// What a processor can't divide is divided by 1: the least number by −1, which is itself again, and anything by 0.
const DIVIDE_INTS: &str = "fn divide(a: I, b: I) -> I {
    let none = b == I(0);
    let over = (b == I(-1)) & (a == I(-2147483648));
    return select(a / select(b, I(1), none | over), I(0), none);
}
";

/// By squaring. A negative exponent gives what is left of the fraction without its digits.
const POWER_OF_INTS: &str = "fn power(a: I, b: I) -> I {
    var result = I(1);
    var square = a;
    for (var bit = 0u; bit < 31u; bit++) {
        result *= select(I(1), square, ((b >> U(bit)) & I(1)) != I(0));
        square *= square;
    }
    let sign = select(I(1), I(-1), (b & I(1)) != I(0));
    let inverse = select(select(I(0), sign, a == I(-1)), I(1), a == I(1));
    return select(result, inverse, b < I(0));
}
";

/// A whole number cut to a type, as C does.
fn wrapped(element: ElementType, x: &str) -> String {
    match element {
        ElementType::Uint8 => format!("({x}) & I(255)"),
        ElementType::Int8 => format!("(({x}) << U(24u)) >> U(24u)"),
        ElementType::Bool => format!("select(I(0), I(1), ({x}) != I(0))"),
        _ => x.to_owned(),
    }
}

/// The float `a` cut to a type: the nearest towards zero that the type has; NaN is 0.
fn truncated(element: ElementType) -> (String, String) {
    let (least, most, beyond) = match element {
        // As bits: drivers differ on whether NaN is not zero.
        ElementType::Bool => {
            return (String::new(), "select(I(0), I(1), (bitcast<U>(a) & U(0x7fffffffu)) != U(0u))".into());
        }
        ElementType::Uint8 => ("0.0", "255.0", 255),
        ElementType::Int8 => ("-128.0", "127.0", 127),
        // The greatest float below 2³¹.
        _ => ("-2147483648.0", "2147483520.0", i32::MAX),
    };
    let function = format!(
        "fn truncated(a: F) -> I {{
    let inside = I(clamp(a, F({least}), F({most})));
    let is_nan = (bitcast<U>(a) & U(0x7fffffffu)) > U(0x7f800000u);
    return select(select(inside, I({beyond}), a > F({most})), I(0), is_nan);
}}
"
    );
    (function, "truncated(a)".into())
}
