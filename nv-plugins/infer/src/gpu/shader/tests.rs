//! Every kind of kernel against the same step in plain Rust.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::ElementType;
use crate::cpu::tests::convs::{conv_case, pool_case};
use crate::cpu::tests::numbers;
use crate::gpu::context::Context;
use crate::gpu::testing::{check_step, check_with_constants, context, tuning};
use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::graph::op::{Binary, Reduction, Unary};
use crate::plan::{
    Action, Activation, ArgMax, ArrayId, Conv, Function, Gather, Kind, Map, MatMul, Picture, Reduce, Resample, Shuffle,
    Softmax, Taps, Values, View,
};

fn floats(seed: usize, len: usize) -> Values {
    Values::Floats(numbers(seed, len).iter().map(|n| n * 3.0).collect())
}

fn ints(seed: usize, len: usize) -> Values {
    Values::Ints(numbers(seed, len).iter().map(|n| (n * 300.0) as i32).collect())
}

fn blank(kind: Kind, len: usize) -> Values {
    match kind {
        Kind::Float => Values::Floats(vec![7.0; len].into()),
        Kind::Int => Values::Ints(vec![7; len].into()),
    }
}

fn view(array: u32, offset: usize, strides: &[isize]) -> View {
    View { array: ArrayId(array), offset, strides: strides.to_vec() }
}

/// Checks a step by the adapter's own rules.
#[track_caller]
fn check(context: &Arc<Context>, action: Action, arrays: &[Values]) {
    check_step(context, &tuning(context, None), &action, arrays, 1e-5);
}

/// Random cases, the same each time: each takes a driver some tenths of a second to compile.
fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let seed = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, seed)
}

fn convolutions(test: &str, family: Option<ConvFamily>, cases: u32) {
    let Some(context) = context(test) else { return };
    let tuning = tuning(&context, family);
    let run = runner(cases).run(&conv_case(), |case| {
        let (conv, arrays) = case.build(4);
        check_step(&context, &tuning, &Action::Conv(Box::new(conv)), &arrays, 1e-4);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn convolutions_by_the_adapters_rules_are_their_definition() {
    convolutions("convolutions_by_the_adapters_rules_are_their_definition", None, 24);
}

#[test]
fn convolutions_by_broadcasts_are_their_definition() {
    convolutions("convolutions_by_broadcasts_are_their_definition", Some(ConvFamily::Broadcast), 16);
}

#[test]
fn convolutions_by_shared_memory_are_their_definition() {
    convolutions("convolutions_by_shared_memory_are_their_definition", Some(ConvFamily::Shared), 24);
}

#[test]
fn convolutions_without_anything_shared_are_their_definition() {
    convolutions("convolutions_without_anything_shared_are_their_definition", Some(ConvFamily::Uniform), 16);
}

/// Of three channels in a gap, by whole rows and by stretches of eight pixels: windows that reach to all sides or to one, less
/// rows than an invocation has, an output that is wider than the input.
#[test]
fn depthwise_convolutions_of_planes_are_their_definition() {
    let Some(context) = context("depthwise_convolutions_of_planes_are_their_definition") else { return };
    let check_planes = |size: [usize; 2], out: [usize; 2], kernel: [usize; 2], pad: [usize; 2], activation| {
        let planes = |array, [height, width]: [usize; 2], gap: usize| Picture {
            array: ArrayId(array),
            offset: 8,
            channels: 3,
            height,
            width,
            block: 1,
            strides: [height * (width + gap) + 4, width + gap, 1],
        };
        let (input, output) = (planes(0, size, 4), planes(1, out, 0));
        let bias = matches!(activation, Some(Activation::Unary(_)));
        let conv = Conv {
            key: 0,
            weights: numbers(2, 3 * kernel[0] * kernel[1]).into(),
            bias: bias.then(|| numbers(3, 3).into()),
            depthwise: true,
            kernel,
            stride: [1, 1],
            dilation: [1, 1],
            pad,
            activation,
            residual: None,
            input,
            output,
        };
        assert!(conv.fits_planes(4), "{conv:?}");
        let len = |picture: &Picture| 8 + 3 * picture.strides[0];
        let arrays = [floats(1, len(&conv.input)), blank(Kind::Float, len(&conv.output))];
        let own = tuning(&context, None);
        for tuning in [own.clone(), Tuning { stretch: 2, ..own.clone().with(ConvFamily::Uniform) }] {
            check_step(&context, &tuning, &Action::Conv(Box::new(conv.clone())), &arrays, 1e-5);
        }
    };
    let silu = || Some(Activation::Unary(Unary::Silu));
    let slopes = || Some(Activation::PRelu(numbers(4, 3).into()));
    check_planes([12, 20], [12, 20], [3, 3], [1, 1], None);
    check_planes([7, 8], [7, 8], [5, 5], [2, 2], silu());
    check_planes([3, 24], [1, 24], [3, 5], [0, 4], slopes());
    check_planes([9, 4], [8, 8], [2, 5], [0, 4], None);
    check_planes([9, 12], [9, 8], [3, 5], [1, 0], slopes());
    check_planes([5, 8], [5, 8], [1, 1], [0, 0], silu());
    check_planes([30, 4], [32, 4], [3, 3], [2, 1], None);
}

#[test]
fn pools_are_their_definition() {
    let Some(context) = context("pools_are_their_definition") else { return };
    let run = runner(12).run(&pool_case(), |case| {
        let (pool, arrays) = case.build(4);
        check(&context, Action::Pool(pool), &arrays);
        Ok(())
    });
    run.unwrap();
}

/// Two blocks of four planes of 8, to where a pixel's four lie side by side and back; also with rows backward, from places that
/// are no multiples of four, and with a row too many for squares.
#[test]
fn planes_become_blocks_and_blocks_planes() {
    let Some(context) = context("planes_become_blocks_and_blocks_planes") else { return };
    let check_copy = |rows: usize, input: View, output: View| {
        for arrays in [[floats(1, 80), blank(Kind::Float, 80)], [ints(1, 80), blank(Kind::Int, 80)]] {
            let (inputs, output) = (vec![input.clone()], output.clone());
            check(
                &context,
                Action::Map(Map { function: Function::Copy, dims: vec![2, rows, 4], inputs, output }),
                &arrays,
            );
        }
    };
    let (planes, blocks) = ([32, 1, 8], [32, 4, 1]);
    check_copy(8, view(0, 0, &planes), view(1, 0, &blocks));
    check_copy(8, view(0, 0, &blocks), view(1, 0, &planes));
    check_copy(8, view(0, 4, &planes), view(1, 12, &blocks));
    check_copy(8, view(0, 36, &[-32, 1, 8]), view(1, 28, &[32, -4, 1]));
    check_copy(8, view(0, 3, &planes), view(1, 0, &blocks));
    check_copy(7, view(0, 0, &blocks), view(1, 0, &planes));
}

/// Each function on 24 elements that lie one after another, which go by fours, and on 7 that are apart.
#[test]
fn functions_are_those_of_the_cpu() {
    let Some(context) = context("functions_are_those_of_the_cpu") else { return };
    let check_function = |function: Function, kinds: &[Kind], output: Kind| {
        let mut arrays: Vec<Values> = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| if *kind == Kind::Float { floats(i, 24) } else { ints(i, 24) })
            .collect();
        arrays.push(blank(output, 24));
        for (dims, stride) in [(24, 1), (7, 3)] {
            let inputs = (0..kinds.len() as u32).map(|i| view(i, 0, &[stride])).collect();
            let output = view(kinds.len() as u32, 0, &[stride]);
            check(&context, Action::Map(Map { function, dims: vec![dims], inputs, output }), &arrays);
        }
    };
    use Function as F;
    use Kind::{Float, Int};
    let unary = [
        Unary::Relu,
        Unary::LeakyRelu { alpha: 0.1 },
        Unary::Sigmoid,
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::HardSwish,
        Unary::Silu,
        Unary::Clamp { least: -0.5, greatest: f32::INFINITY },
        Unary::Tanh,
        Unary::Elu { alpha: 0.8 },
        Unary::Gelu { tanh: false },
        Unary::Gelu { tanh: true },
        Unary::Erf,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Abs,
        Unary::Neg,
        Unary::Floor,
        Unary::Ceil,
        Unary::Not,
    ];
    unary.into_iter().for_each(|function| check_function(F::Unary(function), &[Float], Float));
    [Unary::Abs, Unary::Neg, Unary::Relu, Unary::Not]
        .into_iter()
        .for_each(|function| check_function(F::Unary(function), &[Int], Int));
    use Binary as B;
    for function in [B::Add, B::Sub, B::Mul, B::Div, B::Pow, B::Min, B::Max] {
        check_function(F::Binary(function, ElementType::Float), &[Float, Float], Float);
        check_function(F::Binary(function, ElementType::Int8), &[Int, Int], Int);
    }
    for function in [B::Equal, B::Less, B::LessOrEqual, B::Greater, B::GreaterOrEqual, B::And, B::Or, B::Xor] {
        check_function(F::Binary(function, ElementType::Float), &[Float, Float], Int);
    }
    check_function(F::Binary(B::Mul, ElementType::Uint8), &[Int, Int], Int);
    check_function(F::Binary(B::Xor, ElementType::Bool), &[Int, Int], Int);
    check_function(F::Clip, &[Float, Float, Float], Float);
    check_function(F::Clip, &[Int, Int, Int], Int);
    check_function(F::PRelu, &[Float, Float], Float);
    check_function(F::PRelu, &[Int, Int], Int);
    check_function(F::Where, &[Int, Float, Float], Float);
    check_function(F::MulAdd, &[Float, Float, Float], Float);
    check_function(F::Copy, &[Int], Int);
    for element in [ElementType::Int64, ElementType::Uint8, ElementType::Int8, ElementType::Bool] {
        check_function(F::Cast(element), &[Float], Int);
        check_function(F::Cast(element), &[Int], Int);
    }
    check_function(F::Cast(ElementType::Float16), &[Int], Float);
}

#[test]
fn what_has_no_ordinary_result_has_that_of_the_cpu() {
    let Some(context) = context("what_has_no_ordinary_result_has_that_of_the_cpu") else { return };
    let check_all = |function, inputs: &[Values], output: Kind| {
        let len = match &inputs[0] {
            Values::Floats(values) => values.len(),
            Values::Ints(values) => values.len(),
        };
        let n = inputs.len() as u32;
        let map = Map {
            function,
            dims: vec![len],
            inputs: (0..n).map(|i| view(i, 0, &[1])).collect(),
            output: view(n, 0, &[1]),
        };
        check(&context, Action::Map(map), &[inputs, &[blank(output, len)]].concat());
    };
    let f = |values: &[f32]| Values::Floats(values.into());
    let i = |values: &[i32]| Values::Ints(values.into());
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let odd = f(&[nan, inf, -inf, 3e9, -3e9, 1e20, 254.9, -128.9]);
    for element in [ElementType::Int64, ElementType::Uint8, ElementType::Int8, ElementType::Bool] {
        check_all(Function::Cast(element), std::slice::from_ref(&odd), Kind::Int);
    }
    let divide = Function::Binary(Binary::Div, ElementType::Int32);
    check_all(divide, &[i(&[7, -7, 5, i32::MIN, 0]), i(&[2, 2, 0, -1, 0])], Kind::Int);
    let power = Function::Binary(Binary::Pow, ElementType::Float);
    let bases = f(&[-2.0, -2.0, 0.0, 0.0, -1.5, 2.0, 10.0, 5.0]);
    check_all(power, &[bases, f(&[3.0, 4.0, 0.0, 2.0, 1.0, -1.0, 3.0, 0.5])], Kind::Float);
    let large = f(&[90.0, -90.0, 200.0, -200.0]);
    for function in [Unary::Sigmoid, Unary::Silu, Unary::Tanh, Unary::Gelu { tanh: true }, Unary::Elu { alpha: 1.0 }] {
        check_all(Function::Unary(function), std::slice::from_ref(&large), Kind::Float);
    }
}

#[test]
fn maps_follow_their_views() {
    let Some(context) = context("maps_follow_their_views") else { return };
    let check_map = |dims: &[usize], inputs: Vec<View>, output: View| {
        let arrays = [floats(1, 48), floats(2, 48), blank(Kind::Float, 48)];
        let function = Function::Binary(Binary::Add, ElementType::Float);
        check(&context, Action::Map(Map { function, dims: dims.to_vec(), inputs, output }), &arrays);
    };
    // Transposed, and backwards.
    check_map(&[3, 2], vec![view(0, 0, &[1, 3]), view(1, 5, &[-2, -1])], view(2, 1, &[2, 1]));
    // By fours: in rows with gaps; one of the inputs is a number for each row; one is the same row again and again.
    check_map(&[3, 8], vec![view(0, 4, &[12, 1]), view(1, 3, &[1, 0])], view(2, 8, &[12, 1]));
    check_map(&[3, 8], vec![view(0, 4, &[12, 1]), view(1, 8, &[0, 1])], view(2, 8, &[12, 1]));
    // Not by fours, for where they begin.
    check_map(&[2, 8], vec![view(0, 2, &[8, 1]), view(1, 0, &[8, 1])], view(2, 0, &[8, 1]));
    // A single element, and a constant that all entries share.
    check_map(&[], vec![view(0, 3, &[]), view(1, 4, &[])], view(2, 5, &[]));
    let arrays = [floats(1, 8), floats(2, 6), blank(Kind::Float, 8)];
    let inputs = vec![view(0, 0, &[1]), view(1, 2, &[0])];
    let map = Map { function: Function::PRelu, dims: vec![8], inputs, output: view(2, 0, &[1]) };
    check_with_constants(&context, &tuning(&context, None), &Action::Map(map), &arrays, &[1], 1e-6);
}

#[test]
fn rows_are_reduced() {
    let Some(context) = context("rows_are_reduced") else { return };
    let reduce = |kind, kept: &[usize], reduced: &[usize], input, output, arrays: &[Values]| {
        let step = Reduce { kind, kept: kept.to_vec(), reduced: reduced.to_vec(), input, output };
        check(&context, Action::Reduce(step), arrays);
    };
    for kind in [Reduction::Sum, Reduction::Mean, Reduction::Max] {
        let arrays = [floats(1, 60), blank(Kind::Float, 6)];
        reduce(kind, &[2, 3], &[2, 5], view(0, 0, &[30, 5, 15, 1]), view(1, 5, &[-3, -1]), &arrays);
        // The lanes of blocks.
        let arrays = [floats(1, 96), blank(Kind::Float, 8)];
        reduce(kind, &[2, 4], &[12], view(0, 0, &[48, 1, 4]), view(1, 0, &[4, 1]), &arrays);
        let arrays = [ints(1, 60), blank(Kind::Int, 1)];
        reduce(kind, &[], &[60], view(0, 0, &[1]), view(1, 0, &[]), &arrays);
    }
    let softmax = Softmax { dims: vec![3, 5], input: view(0, 0, &[1, 3]), output: view(1, 0, &[5, 1]) };
    check(&context, Action::Softmax(softmax), &[floats(3, 15), blank(Kind::Float, 15)]);
    for (last, input) in [(false, floats(4, 24)), (true, floats(4, 24)), (false, ints(5, 24))] {
        let step = ArgMax { kept: vec![4], len: 6, last, input: view(0, 0, &[6, 1]), output: view(1, 0, &[1]) };
        check(&context, Action::ArgMax(step), &[input, blank(Kind::Int, 4)]);
    }
    let nan = f32::NAN;
    for last in [false, true] {
        let input = Values::Floats([1., 5., 5., nan, -9., nan, nan, nan, nan].into());
        let step = ArgMax { kept: vec![3], len: 3, last, input: view(0, 0, &[3, 1]), output: view(1, 0, &[1]) };
        check(&context, Action::ArgMax(step), &[input, blank(Kind::Int, 3)]);
    }
}

#[test]
fn matrices_multiply_through_their_views() {
    let Some(context) = context("matrices_multiply_through_their_views") else { return };
    let matmul = |[rows, depth, columns]: [usize; 3], left: View, right: View, add: Option<View>| {
        let output = view(3, 0, &[(rows * columns) as isize, columns as isize, 1]);
        let step = MatMul { batch: vec![2], rows, depth, columns, alpha: 2.0, beta: -0.5, left, right, add, output };
        let arrays = [floats(1, 160), floats(2, 160), floats(3, 160), blank(Kind::Float, 2 * rows * columns)];
        check(&context, Action::MatMul(step), &arrays);
    };
    matmul([5, 7, 6], view(0, 0, &[35, 7, 1]), view(1, 0, &[42, 6, 1]), None);
    // Transposed; the same on the right for all; a row is added to each.
    matmul([8, 3, 4], view(0, 0, &[24, 1, 8]), view(1, 0, &[0, 4, 1]), Some(view(2, 3, &[0, 0, 1])));
    matmul([1, 9, 3], view(0, 0, &[9, 9, 1]), view(1, 0, &[27, 1, 9]), Some(view(2, 0, &[3, 3, 1])));
    matmul([2, 0, 2], view(0, 0, &[0, 0, 1]), view(1, 0, &[0, 2, 1]), Some(view(2, 0, &[0, 2, 1])));
}

#[test]
fn elements_are_moved() {
    let Some(context) = context("elements_are_moved") else { return };
    let pick = |index: &[i32]| Taps::Pick(index.into());
    let blend =
        Taps::Blend { width: 2, index: [0, 1, 1, 2, -1, -1].into(), weight: [0.5, 0.5, 0.25, 0.75, 0., 0.].into() };
    let resample = |taps: Vec<Taps>, dims: &[usize], input: View, fill: f32, arrays: &[Values]| {
        let output = View::whole(ArrayId(1), dims);
        let step = Resample { dims: dims.to_vec(), taps, fill, input, output };
        check(&context, Action::Resample(step), arrays);
    };
    let all = || [floats(1, 72), blank(Kind::Float, 72)];
    resample(vec![Taps::Same, pick(&[2, -1, 0])], &[2, 3], view(0, 0, &[3, 1]), -7.5, &all());
    resample(vec![pick(&[1, 0]), blend.clone()], &[2, 3], view(0, 0, &[3, 1]), f32::NEG_INFINITY, &all());
    resample(vec![blend.clone(), blend.clone()], &[3, 3], view(0, 0, &[3, 1]), 0.0, &all());
    // Of a blocked picture, by fours.
    let lanes = vec![Taps::Same, blend.clone(), pick(&[1, 1, 0]), Taps::Same];
    resample(lanes, &[2, 3, 3, 4], view(0, 0, &[36, 12, 4, 1]), 0.0, &all());
    let arrays = [ints(1, 6), blank(Kind::Int, 4)];
    resample(vec![pick(&[1, -1, 5, 0])], &[4], view(0, 0, &[1]), -7.5, &arrays);

    // What is picked is known: constants.
    let arrays = [floats(1, 24), Values::Ints([2, -3, 1].into()), blank(Kind::Float, 24)];
    let gather = Gather {
        outer: vec![2],
        picked: vec![3],
        inner: vec![4],
        len: 3,
        data: view(0, 0, &[12, 4, 1]),
        indices: view(1, 0, &[1]),
        output: view(2, 0, &[12, 4, 1]),
    };
    check_with_constants(&context, &tuning(&context, None), &Action::Gather(gather), &arrays, &[1], 0.0);

    let picture = |array, channels| Picture::blocked(ArrayId(array), 4, [channels, 2, 3], 4);
    let shuffle = Shuffle {
        inputs: vec![picture(0, 6), picture(1, 4)],
        channels: [(0, 5), (1, 0), (0, 0), (1, 3), (1, 1), (0, 2), (0, 3)].into(),
        output: picture(2, 7),
    };
    check(&context, Action::Shuffle(shuffle), &[floats(1, 52), floats(2, 52), blank_lanes()]);
}

/// Indices from −`len` on, which are others for the second entry.
#[test]
fn elements_are_picked_by_indices_of_a_run() {
    let Some(context) = context("elements_are_picked_by_indices_of_a_run") else { return };
    let check_gather = |[outer, picked, inner]: [&[usize]; 3], data: View, indices: View, output: View| {
        let len = 5;
        let picks = |i: usize| (i * i + 3 * i) as i32 % (2 * len) - len;
        let picks = Values::Ints((0..400).map(picks).collect());
        let [outer, picked, inner] = [outer, picked, inner].map(<[usize]>::to_vec);
        let gather = Gather { outer, picked, inner, len: len as usize, data, indices, output };
        for [data, out] in [[floats(1, 400), blank(Kind::Float, 400)], [ints(1, 400), blank(Kind::Int, 400)]] {
            let arrays = [data, picks.clone(), out];
            check(&context, Action::Gather(gather.clone()), &arrays);
        }
    };
    // Of each of two matrices three rows; one number; more than a workgroup has invocations.
    check_gather([&[2], &[3], &[4]], view(0, 0, &[20, 4, 1]), view(1, 0, &[1]), view(2, 0, &[12, 4, 1]));
    check_gather([&[], &[], &[]], view(0, 7, &[3]), view(1, 11, &[]), view(2, 9, &[]));
    check_gather([&[], &[390], &[]], view(0, 0, &[1]), view(1, 2, &[1]), view(2, 0, &[1]));
    check_gather([&[3], &[20, 2], &[3]], view(0, 2, &[1, 3, 15]), view(1, 0, &[2, 1]), view(2, 0, &[120, 6, 3, 1]));
    // Backward and with gaps, all three.
    check_gather(
        [&[2], &[3, 2], &[2]],
        view(0, 99, &[-40, -8, 2]),
        view(1, 50, &[-7, 3]),
        view(2, 60, &[24, -8, 4, 2]),
    );
    // The same index for all columns.
    check_gather([&[], &[3, 4], &[2]], view(0, 0, &[2, 1]), view(1, 1, &[5, 0]), view(2, 0, &[8, 2, 1]));
    // Of a constant, which all entries share.
    let gather = Gather {
        outer: vec![],
        picked: vec![2],
        inner: vec![],
        len: 3,
        data: view(0, 0, &[1]),
        indices: view(1, 0, &[1]),
        output: view(2, 0, &[1]),
    };
    let arrays = [floats(1, 3), Values::Ints([-1, 2].into()), Values::Floats([7.0; 2].into())];
    check_with_constants(&context, &tuning(&context, None), &Action::Gather(gather), &arrays, &[0], 0.0);
}

/// A picture of seven channels before it is written: what is beyond the last channel may become anything.
fn blank_lanes() -> Values {
    Values::Floats((0..52).map(|n| if n >= 28 && n % 4 == 3 { f32::NAN } else { 7.0 }).collect())
}
