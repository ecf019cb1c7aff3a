//! Single steps, by example.

use super::{close, run};
use crate::ElementType;
use crate::cpu::{Memory, scalar};
use crate::graph::op::{Binary, Reduction, Unary};
use crate::plan::{
    Action, ArgMax, ArrayId, Function, Gather, Map, MatMul, NonMaxSuppression, Reduce, Resample, Softmax, Span, Taps,
    TopK, Values, View,
};

fn floats(values: &[f32]) -> Values {
    Values::Floats(values.into())
}

fn ints(values: &[i32]) -> Values {
    Values::Ints(values.into())
}

fn view(array: u32, offset: usize, strides: &[isize]) -> View {
    View { array: ArrayId(array), offset, strides: strides.to_vec() }
}

fn all(array: u32, values: &Values) -> Span {
    let len = match values {
        Values::Floats(v) => v.len(),
        Values::Ints(v) => v.len(),
    };
    Span { array: ArrayId(array), begin: 0, end: len }
}

/// Runs a step on arrays and expects the array at `at` to hold something afterwards.
#[track_caller]
fn check(action: Action, arrays: &[Values], at: u32, expected: Values) {
    let memory = run(&action, arrays);
    match &expected {
        Values::Floats(want) => {
            let want: Vec<f64> = want.iter().map(|&v| v.into()).collect();
            close(memory.floats(all(at, &expected)), &want, 1e-6, &action);
        }
        Values::Ints(want) => assert_eq!(memory.ints(all(at, &expected)), &want[..], "{action:?}"),
    }
}

fn map(function: Function, dims: &[usize], inputs: Vec<View>, output: View) -> Action {
    Action::Map(Map { function, dims: dims.to_vec(), inputs, output })
}

#[test]
fn maps_follow_their_views() {
    let one = |function, inputs: &[Values], out: Values| {
        let n = inputs.len() as u32;
        let views = (0..n).map(|i| view(i, 0, &[1])).collect();
        let blank = match &out {
            Values::Floats(v) => floats(&vec![9.0; v.len()]),
            Values::Ints(v) => ints(&vec![9; v.len()]),
        };
        let len = all(0, &out).end;
        check(map(function, &[len], views, view(n, 0, &[1])), &[inputs, &[blank]].concat(), n, out);
    };
    use Function as F;
    let float = ElementType::Float;
    one(F::Copy, &[ints(&[3, -1])], ints(&[3, -1]));
    one(F::Unary(Unary::Neg), &[floats(&[3., -1.])], floats(&[-3., 1.]));
    one(F::Unary(Unary::Abs), &[ints(&[3, -1])], ints(&[3, 1]));
    one(F::Unary(Unary::Not), &[ints(&[0, 1])], ints(&[1, 0]));
    one(F::Binary(Binary::Pow, float), &[floats(&[3., 2.]), floats(&[2., -1.])], floats(&[9., 0.5]));
    one(F::Binary(Binary::Less, float), &[floats(&[3., 2.]), floats(&[2., 3.])], ints(&[0, 1]));
    one(F::Binary(Binary::Mul, ElementType::Uint8), &[ints(&[30, 2]), ints(&[10, 2])], ints(&[44, 4]));
    one(F::Binary(Binary::Xor, ElementType::Bool), &[ints(&[1, 1]), ints(&[0, 1])], ints(&[1, 0]));
    one(F::Clip, &[floats(&[-3., 5.]), floats(&[0., 0.]), floats(&[1., 6.])], floats(&[0., 5.]));
    one(F::PRelu, &[floats(&[-3., 5.]), floats(&[0.5, 0.5])], floats(&[-1.5, 5.]));
    one(F::Where, &[ints(&[0, 2]), floats(&[1., 2.]), floats(&[3., 4.])], floats(&[3., 2.]));
    one(F::Where, &[ints(&[0, 2]), ints(&[1, 2]), ints(&[3, 4])], ints(&[3, 2]));
    one(F::MulAdd, &[floats(&[1., 2.]), floats(&[3., 4.]), floats(&[5., 6.])], floats(&[8., 14.]));
    one(F::Cast(ElementType::Int64), &[floats(&[1.9, -1.9, 3e12])], ints(&[1, -1, i32::MAX]));
    one(F::Cast(ElementType::Float16), &[ints(&[7])], floats(&[7.]));
    one(F::Cast(ElementType::Bool), &[floats(&[0.3, 0.0])], ints(&[1, 0]));

    // A transposition of the first row and the reverse of the second column, and a broadcast.
    let x = floats(&[1., 2., 3., 4., 5., 6.]);
    let blank = floats(&[0.; 6]);
    check(
        map(F::Copy, &[3, 2], vec![view(0, 0, &[1, 3])], view(1, 0, &[2, 1])),
        &[x.clone(), blank.clone()],
        1,
        floats(&[1., 4., 2., 5., 3., 6.]),
    );
    check(
        map(F::Copy, &[6], vec![view(0, 5, &[-1])], view(1, 0, &[1])),
        &[x.clone(), blank.clone()],
        1,
        floats(&[6., 5., 4., 3., 2., 1.]),
    );
    check(
        map(
            F::Binary(Binary::Add, float),
            &[2, 3],
            vec![view(0, 0, &[3, 1]), view(0, 4, &[0, 0])],
            view(1, 0, &[3, 1]),
        ),
        &[x, blank],
        1,
        floats(&[6., 7., 8., 9., 10., 11.]),
    );
}

#[test]
fn reductions_keep_what_is_kept() {
    let x = floats(&[1., 2., 3., 4., 5., 9.]);
    let reduce = |kind, input, output| Action::Reduce(Reduce { kind, kept: vec![2], reduced: vec![3], input, output });
    let rows = || (view(0, 0, &[3, 1]), view(1, 1, &[-1]));
    let check_kind = |kind, expected: [f32; 2]| {
        let (input, output) = rows();
        check(reduce(kind, input, output), &[x.clone(), floats(&[0.; 2])], 1, floats(&expected));
    };
    check_kind(Reduction::Sum, [18., 6.]);
    check_kind(Reduction::Mean, [6., 2.]);
    check_kind(Reduction::Max, [9., 3.]);
    let (input, output) = rows();
    check(reduce(Reduction::Mean, input, output), &[ints(&[1, 2, 4, -1, -2, -4]), ints(&[0, 0])], 1, ints(&[-2, 2]));
    let softmax = Softmax { dims: vec![2, 2], input: view(0, 0, &[2, 1]), output: view(1, 0, &[2, 1]) };
    let x = floats(&[0., 3f32.ln(), 1000., 1000.]);
    check(Action::Softmax(softmax), &[x, floats(&[0.; 4])], 1, floats(&[0.25, 0.75, 0.5, 0.5]));
}

#[test]
fn matrices_multiply_through_their_views() {
    let matmul = |rows, depth, columns, add| {
        Action::MatMul(MatMul {
            batch: vec![2],
            rows,
            depth,
            columns,
            alpha: 2.0,
            beta: 0.5,
            // The same on the left for the whole batch; transposed on the right.
            left: view(0, 0, &[0, depth as isize, 1]),
            right: view(1, 0, &[4, 1, depth as isize]),
            add,
            output: view(3, 0, &[2, 2, 1]),
        })
    };
    let arrays = [floats(&[1., 2.]), floats(&[1., 2., 3., 4., 5., 6., 7., 8.]), floats(&[10., 20.]), floats(&[0.; 4])];
    check(matmul(1, 2, 2, None), &arrays, 3, floats(&[10., 22., 34., 46.]));
    check(matmul(1, 2, 2, Some(view(2, 0, &[0, 0, 1]))), &arrays, 3, floats(&[15., 32., 39., 56.]));
    check(matmul(1, 0, 2, Some(view(2, 0, &[0, 0, 1]))), &arrays, 3, floats(&[5., 10., 5., 10.]));
}

#[test]
fn resampling_follows_its_taps() {
    let resample = |taps: Vec<Taps>, dims: &[usize], strides: &[isize]| {
        let output = View::whole(ArrayId(1), dims);
        Action::Resample(Resample { dims: dims.to_vec(), taps, fill: -7.5, input: view(0, 0, strides), output })
    };
    let pick = |index: &[i32]| Taps::Pick(index.into());
    let x = floats(&[1., 2., 3., 4., 5., 6.]);
    let blank = floats(&[0.; 6]);
    check(
        resample(vec![Taps::Same, pick(&[2, -1, 0])], &[2, 3], &[3, 1]),
        &[x.clone(), blank.clone()],
        1,
        floats(&[3., -7.5, 1., 6., -7.5, 4.]),
    );
    let blend = Taps::Blend { width: 2, index: [0, 1, 1, 2].into(), weight: [0.5, 0.5, 0.25, 0.75].into() };
    check(
        resample(vec![pick(&[1, 0]), blend], &[2, 2], &[3, 1]),
        &[x.clone(), floats(&[0.; 4])],
        1,
        floats(&[4.5, 5.75, 1.5, 2.75]),
    );
    check(resample(vec![pick(&[-1, -1])], &[2], &[1]), &[x, floats(&[0.; 2])], 1, floats(&[-7.5, -7.5]));
    check(resample(vec![pick(&[1, -1])], &[2], &[1]), &[ints(&[3, 4]), ints(&[0; 2])], 1, ints(&[4, -7]));
}

fn gather(picks: usize) -> Action {
    Action::Gather(Gather {
        outer: vec![2],
        picked: vec![picks],
        inner: vec![2],
        len: 3,
        data: view(0, 0, &[6, 2, 1]),
        indices: view(1, 0, &[1]),
        output: view(2, 0, &[picks as isize * 2, 2, 1]),
    })
}

#[test]
fn gather_picks_and_refuses() {
    let x = ints(&[0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]);
    let blank = ints(&[0; 8]);
    check(gather(2), &[x.clone(), ints(&[2, -3]), blank.clone()], 2, ints(&[20, 21, 0, 1, 120, 121, 100, 101]));
    let mut memory = Memory::of_arrays(&[x, ints(&[2, 3]), blank]);
    let error = scalar::run(&gather(2), &mut memory).unwrap_err();
    assert_eq!(error, "the index 3 is out of range: there are 3 elements");
}

#[test]
fn selections_prefer_the_first() {
    let arg_max = |last, input: Values, expected: &[i32]| {
        let step = ArgMax { kept: vec![2], len: 3, last, input: view(0, 0, &[3, 1]), output: view(1, 0, &[1]) };
        check(Action::ArgMax(step), &[input, ints(&[9; 2])], 1, ints(expected));
    };
    let nan = f32::NAN;
    arg_max(false, floats(&[1., 5., 5., nan, f32::NEG_INFINITY, nan]), &[1, 1]);
    arg_max(true, floats(&[1., 5., 5., nan, nan, nan]), &[2, 0]);
    arg_max(false, ints(&[1, 2, 3, 7, 7, 2]), &[2, 0]);

    let top_k = |largest, input: Values, values: Values, indices: &[i32]| {
        let step = TopK {
            kept: vec![],
            len: 5,
            k: 3,
            largest,
            input: view(0, 0, &[1]),
            values: view(1, 0, &[1]),
            indices: view(2, 2, &[-1]),
        };
        let blank = match &values {
            Values::Floats(_) => floats(&[0.; 3]),
            Values::Ints(_) => ints(&[0; 3]),
        };
        let arrays = [input, blank, ints(&[0; 3])];
        check(Action::TopK(step.clone()), &arrays, 1, values);
        check(Action::TopK(step), &arrays, 2, ints(indices));
    };
    top_k(true, floats(&[1., 4., 2., 4., nan]), floats(&[4., 4., 2.]), &[2, 3, 1]);
    top_k(false, ints(&[1, 4, 2, 4, 0]), ints(&[0, 1, 2]), &[2, 0, 4]);
}

#[test]
fn boxes_that_overlap_a_better_one_are_left_out() {
    let step = |limit, threshold, center_point| {
        Action::NonMaxSuppression(NonMaxSuppression {
            batches: 1,
            classes: 2,
            boxes: 4,
            limit,
            iou: 0.5,
            threshold,
            center_point,
            corners: view(0, 0, &[16, 4, 1]),
            scores: view(1, 0, &[8, 4, 1]),
            output: view(2, 0, &[3, 1]),
            count: view(3, 0, &[]),
        })
    };
    // The second overlaps the first, the third has its corners swapped, the fourth is empty.
    let corners = floats(&[0., 0., 10., 10., 0., 1., 10., 11., 30., 30., 20., 20., 5., 5., 5., 5.]);
    let scores = floats(&[0.6, 0.9, 0.3, 0.1, 0.2, 0.2, 0.8, 0.05]);
    let arrays = |rows: usize| [corners.clone(), scores.clone(), ints(&vec![9; rows * 3]), ints(&[9])];
    let expected = ints(&[0, 0, 1, 0, 0, 2, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    check(step(3, Some(0.15), false), &arrays(6), 2, expected.clone());
    check(step(3, Some(0.15), false), &arrays(6), 3, ints(&[4]));
    check(step(1, None, false), &arrays(2), 2, ints(&[0, 0, 1, 0, 1, 2]));
    check(step(0, None, false), &arrays(2), 3, ints(&[0]));
    // As centres with width and height the same numbers are other boxes: the third contains the first two.
    check(step(4, Some(0.5), true), &arrays(8), 3, ints(&[2]));
}
