//! How near the functions of vectors are to what they should be.

use super::super::convs::exact;
use super::{Cut, levels, run_with};
use crate::graph::op::Unary;
use crate::plan::{Action, ArrayId, Function, Map, Span, Values, View};

/// What the function gives for these numbers, at each level.
fn computed(function: Unary, x: &[f32]) -> Vec<Vec<f32>> {
    let whole = |array| View { array: ArrayId(array), offset: 0, strides: vec![1] };
    let map =
        Map { function: Function::Unary(function), dims: vec![x.len()], inputs: vec![whole(0)], output: whole(1) };
    let arrays = [Values::Floats(x.into()), Values::Floats(vec![0.0; x.len()].into())];
    let of = |level| {
        let (memory, has_kernel) = run_with(level, Cut::new(1), &Action::Map(map.clone()), &arrays, &[]);
        assert!(has_kernel, "{level}: {function:?}");
        memory.floats(Span { array: ArrayId(1), begin: 0, end: x.len() }).to_vec()
    };
    levels().map(of).collect()
}

#[test]
fn functions_are_right_to_a_few_units_in_the_last_place() {
    let spread =
        |from: f32, to: f32| -> Vec<f32> { (0..=20_000).map(|i| from + (to - from) * i as f32 / 20_000.0).collect() };
    // Units in the last place are 2⁻²³ of the value, or less.
    let check = |function: Unary, from: f32, to: f32, units: f64, below: f64| {
        let x = spread(from, to);
        for got in computed(function, &x) {
            for (&x, &got) in x.iter().zip(&got) {
                let want = exact(function, x.into());
                let error = (f64::from(got) - want).abs();
                let allowed = units * 2f64.powi(-23) * want.abs() + below;
                assert!(error <= allowed, "{function:?} of {x} is {got}, not {want}");
            }
        }
    };
    check(Unary::Exp, -87.0, 88.0, 2.5, 0.0);
    check(Unary::Exp, -1.0, 1.0, 2.5, 0.0);
    check(Unary::Exp, 87.9, 88.7, 5.0, 0.0);
    check(Unary::Sigmoid, -80.0, 40.0, 4.0, 0.0);
    check(Unary::Sigmoid, -8.0, 8.0, 4.0, 0.0);
    check(Unary::Silu, -80.0, 40.0, 4.0, 0.0);
    check(Unary::Silu, -8.0, 8.0, 4.0, 0.0);
    check(Unary::Tanh, -20.0, 20.0, 4.0, 0.0);
    check(Unary::Tanh, -1.0, 1.0, 4.0, 0.0);
    check(Unary::Elu { alpha: 1.0 }, -20.0, 2.0, 4.0, 0.0);
    check(Unary::Elu { alpha: 1.0 }, -1.0, 0.1, 4.0, 0.0);
    check(Unary::HardSwish, -5.0, 5.0, 2.0, 1e-6);
    // Where it is near 0, it is a small difference of large numbers.
    check(Unary::Gelu { tanh: true }, -10.0, 10.0, 4.0, 1e-6);
}

#[test]
fn functions_have_the_limits_that_they_should() {
    let inf = f32::INFINITY;
    let check = |function: Unary, x: f32, expected: f32| {
        for got in computed(function, &[x; 20]) {
            let same = |got: &f32| *got == expected || got.is_nan() && expected.is_nan();
            assert!(got.iter().all(same), "{function:?} of {x} is {got:?}");
        }
    };
    check(Unary::Exp, inf, inf);
    check(Unary::Exp, 89.0, inf);
    check(Unary::Exp, -inf, 0.0);
    check(Unary::Exp, f32::NAN, f32::NAN);
    check(Unary::Sigmoid, inf, 1.0);
    check(Unary::Sigmoid, f32::NAN, f32::NAN);
    check(Unary::Silu, f32::NAN, f32::NAN);
    check(Unary::Tanh, inf, 1.0);
    check(Unary::Tanh, -inf, -1.0);
    check(Unary::Tanh, f32::NAN, f32::NAN);
    check(Unary::Erf, f32::NAN, f32::NAN);
    check(Unary::Relu, f32::NAN, 0.0);
    check(Unary::Elu { alpha: 1.0 }, -inf, -1.0);
    check(Unary::Sqrt, -1.0, f32::NAN);
    let tiny = |got: Vec<f32>| got.iter().all(|v| (0.0..1e-36).contains(v));
    assert!(computed(Unary::Sigmoid, &[-inf; 16]).into_iter().all(tiny));
}
