//! Steps over strided views.

use proptest::prelude::*;

use super::super::numbers;
use super::{check, check_with_constants};
use crate::ElementType;
use crate::graph::op::{Binary, Reduction, Unary};
use crate::plan::{Action, ArrayId, Function, Kind, Map, MatMul, Reduce, Resample, Softmax, Taps, Values, View};

/// How a view of some dimensions lies in its array.
#[derive(Clone, Debug)]
struct Layout {
    /// Decides which dimension varies fastest, and so on.
    order: [u8; 4],
    /// Between elements of the dimension that varies fastest.
    spread: usize,
    /// After each run of it.
    gap: usize,
    /// Which dimensions repeat one element.
    repeats: [bool; 4],
    /// Which go backwards.
    backwards: [bool; 4],
}

impl Layout {
    /// The view, and how long its array has to be.
    fn view(&self, array: u32, dims: &[usize]) -> (View, usize) {
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|&d| self.order[d]);
        let (mut strides, mut step, mut offset) = (vec![0; dims.len()], self.spread, 0);
        for (n, &d) in order.iter().enumerate() {
            if self.repeats[d] {
                continue;
            }
            strides[d] = if self.backwards[d] { -(step as isize) } else { step as isize };
            if self.backwards[d] {
                offset += step * (dims[d] - 1);
            }
            step = step * dims[d] + if n == 0 { self.gap } else { 0 };
        }
        let view = View { array: ArrayId(array), offset, strides };
        let len = view.span(dims).map_or(0, |span| span.end) + 3;
        (view, len)
    }

    /// One without repetitions: an output.
    fn apart(&self) -> Self {
        Self { repeats: [false; 4], ..self.clone() }
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    let usual = prop::bool::weighted(0.6);
    let fields = (any::<[u8; 4]>(), usual, 1usize..4, 0usize..3, any::<[bool; 4]>(), any::<[bool; 4]>());
    (fields, prop::bool::weighted(0.3), prop::bool::weighted(0.1)).prop_map(
        |((order, usual, spread, gap, repeats, backwards), repeating, turning)| Layout {
            order: if usual { [3, 2, 1, 0] } else { order },
            spread: if usual { 1 } else { spread },
            gap,
            repeats: if repeating { repeats } else { [false; 4] },
            backwards: if turning { backwards } else { [false; 4] },
        },
    )
}

fn dims() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![1usize..6, 1usize..20, Just(16usize), Just(8), 60usize..140];
    prop::collection::vec(size, 1..=4).prop_filter("not too many elements", |d| d.iter().product::<usize>() < 20_000)
}

/// Numbers from −4 to 4, some of them NaN.
fn floats(seed: usize, len: usize, some_nan: bool) -> Values {
    let mut values: Vec<f32> = numbers(seed, len).iter().map(|v| v * 4.0).collect();
    if some_nan {
        values.iter_mut().step_by(37).for_each(|v| *v = f32::NAN);
    }
    Values::Floats(values.into())
}

fn unaries() -> Vec<Unary> {
    vec![
        Unary::Relu,
        Unary::LeakyRelu { alpha: 0.1 },
        Unary::Sigmoid,
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::HardSwish,
        Unary::Silu,
        Unary::Clamp { least: -0.5, greatest: 0.75 },
        Unary::Tanh,
        Unary::Elu { alpha: 0.8 },
        Unary::Gelu { tanh: true },
        Unary::Gelu { tanh: false },
        Unary::Erf,
        Unary::Exp,
        Unary::Sqrt,
        Unary::Abs,
        Unary::Neg,
        Unary::Floor,
        Unary::Ceil,
    ]
}

/// Functions with a kernel, and how many inputs they have.
fn function() -> impl Strategy<Value = (Function, usize)> {
    let binaries = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];
    let binary = prop::sample::select(binaries.to_vec()).prop_map(|b| (Function::Binary(b, ElementType::Float), 2));
    prop_oneof![
        3 => Just((Function::Copy, 1)),
        2 => prop::sample::select(unaries()).prop_map(|u| (Function::Unary(u), 1)),
        4 => binary,
        1 => Just((Function::PRelu, 2)),
        1 => Just((Function::Clip, 3)),
        1 => Just((Function::MulAdd, 3)),
    ]
}

/// Functions with a kernel whose operands are not all floats, with the kinds of inputs and output; and powers.
fn mixed_function() -> impl Strategy<Value = (Function, Vec<Kind>)> {
    use Kind::{Float, Int};
    let (float, int) = (ElementType::Float, ElementType::Int64);
    let of_two = |binaries: &[Binary], element, kind, result| {
        let functions: Vec<_> =
            binaries.iter().map(|b| (Function::Binary(*b, element), vec![kind, kind, result])).collect();
        prop::sample::select(functions)
    };
    let comparisons = [Binary::Equal, Binary::Less, Binary::LessOrEqual, Binary::Greater, Binary::GreaterOrEqual];
    let casts = [
        (ElementType::Float, vec![Int, Float]),
        (ElementType::Float, vec![Float, Float]),
        (ElementType::Int64, vec![Float, Int]),
        (ElementType::Int32, vec![Int, Int]),
        (ElementType::Bool, vec![Float, Int]),
        (ElementType::Bool, vec![Int, Int]),
    ];
    prop_oneof![
        prop::sample::select(vec![vec![Int, Float, Float, Float], vec![Int; 4]]).prop_map(|k| (Function::Where, k)),
        of_two(&comparisons, float, Float, Int),
        of_two(&comparisons, int, Int, Int),
        of_two(&[Binary::And, Binary::Or, Binary::Xor], ElementType::Bool, Int, Int),
        of_two(&[Binary::Pow], float, Float, Float),
        Just((Function::Unary(Unary::Not), vec![Int, Int])),
        prop::sample::select(casts.to_vec()).prop_map(|(to, kinds)| (Function::Cast(to), kinds)),
    ]
}

/// Numbers of which some are equal, and all that are special among them.
fn telling(seed: usize, len: usize) -> Vec<f32> {
    let special = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        3e9,
        -3e9,
        2_147_483_648.0,
        -2_147_483_648.0,
        0.5,
        -0.99,
    ];
    let number = |v: f32| {
        let place = ((v + 1.0) * 50.0) as usize;
        special.get(place).copied().unwrap_or((v * 8.0).round() / 2.0)
    };
    numbers(seed, len).into_iter().map(number).collect()
}

proptest! {
    #[test]
    fn maps_are_as_in_plain_rust(
        (function, inputs) in function(), dims in dims(), layouts in [layout(), layout(), layout(), layout()],
        some_nan in any::<bool>(),
    ) {
        let mut arrays = Vec::new();
        let mut views = Vec::new();
        for (i, layout) in layouts.iter().take(inputs).enumerate() {
            let (view, len) = layout.view(i as u32, &dims);
            views.push(view);
            arrays.push(floats(i, len, some_nan));
        }
        let (output, len) = layouts[3].apart().view(inputs as u32, &dims);
        arrays.push(floats(9, len, false));
        check(&Action::Map(Map { function, dims, inputs: views, output }), &arrays, inputs, 1e-6, true);
    }

    #[test]
    fn maps_between_kinds_are_as_in_plain_rust(
        (function, kinds) in mixed_function(), dims in dims(), layouts in [layout(), layout(), layout(), layout()],
        seed in any::<usize>(), exponent in prop::sample::select(vec![2.0f32, 3.0, 0.5]),
    ) {
        let (&result, operands) = kinds.split_last().unwrap();
        let values = |i: usize, kind: Kind, len: usize| match kind {
            Kind::Float => Values::Floats(telling(seed ^ i, len).into()),
            // Few, so that some are equal, and some are 0.
            Kind::Int => Values::Ints(numbers(seed ^ i, len).iter().map(|v| (v * 3.0) as i32 * 0x0100_0001).collect()),
        };
        let mut arrays = Vec::new();
        let mut views = Vec::new();
        for (i, (&kind, layout)) in operands.iter().zip(&layouts).enumerate() {
            let (view, len) = layout.view(i as u32, &dims);
            views.push(view);
            arrays.push(values(i, kind, len));
        }
        let power = matches!(function, Function::Binary(Binary::Pow, _));
        if power {
            views[1] = View { array: ArrayId(1), offset: 0, strides: vec![0; dims.len()] };
            arrays[1] = Values::Floats([exponent].into());
        }
        let (output, len) = layouts[3].apart().view(operands.len() as u32, &dims);
        arrays.push(values(9, result, len));
        let constants: &[usize] = if power { &[1] } else { &[] };
        let place = operands.len();
        let map = Map { function, dims, inputs: views, output };
        check_with_constants(&Action::Map(map), &arrays, constants, place, 1e-6, true);
    }

    #[test]
    fn copies_of_whole_numbers_are_as_in_plain_rust(dims in dims(), from in layout(), to in layout()) {
        let (view, len) = from.view(0, &dims);
        let (output, out) = to.apart().view(1, &dims);
        // Among them the bits of NaNs.
        let values = (0..len).map(|i| (i as i32).wrapping_mul(0x0123_4567) | 0x7F80_0000).collect();
        let arrays = [Values::Ints(values), Values::Ints(vec![5; out].into())];
        check(&Action::Map(Map { function: Function::Copy, dims, inputs: vec![view], output }), &arrays, 1, 0.0, true);
    }

    #[test]
    fn reductions_are_as_in_plain_rust(
        kind in prop::sample::select(vec![Reduction::Sum, Reduction::Mean, Reduction::Max]),
        dims in dims(), kept in 0usize..4, from in layout(), to in layout(),
    ) {
        let kept = kept.min(dims.len() - 1);
        let (input, len) = from.view(0, &dims);
        let (kept, reduced) = (dims[..kept].to_vec(), dims[kept..].to_vec());
        let (output, out) = to.apart().view(1, &kept);
        let arrays = [floats(1, len, false), floats(2, out, false)];
        check(&Action::Reduce(Reduce { kind, kept, reduced, input, output }), &arrays, 1, 1e-4, false);
    }

    #[test]
    fn products_are_as_in_plain_rust(
        batch in prop::collection::vec(1usize..4, 0..3), rows in 1usize..21, depth in 0usize..20, columns in 1usize..50,
        layouts in [layout(), layout(), layout(), layout()], added in any::<bool>(), packed in any::<bool>(),
        beta in prop::sample::select(vec![1.0f32, 0.5]),
    ) {
        let dims = |r: usize, c: usize| [&batch[..], &[r, c]].concat();
        let views = [dims(rows, depth.max(1)), dims(depth.max(1), columns), dims(rows, columns), dims(rows, columns)];
        let layouts = [layouts[0].clone(), layouts[1].clone(), layouts[2].clone(), layouts[3].apart()];
        let (mut made, mut arrays) = (Vec::new(), Vec::new());
        for (i, (dims, layout)) in views.iter().zip(&layouts).enumerate() {
            let (view, len) = layout.view(i as u32, dims);
            made.push(view);
            arrays.push(floats(i, len, false));
        }
        let [left, right, add, output] = made.try_into().unwrap();
        let add = added.then_some(add);
        let action = Action::MatMul(MatMul { batch, rows, depth, columns, alpha: 1.5, beta, left, right, add, output });
        check_with_constants(&action, &arrays, if packed { &[1] } else { &[] }, 3, 1e-4, depth > 0);
    }

    #[test]
    fn softmaxes_are_as_in_plain_rust(dims in dims(), from in layout(), to in layout()) {
        let (input, len) = from.view(0, &dims);
        let (output, out) = to.apart().view(1, &dims);
        let arrays = [floats(1, len, false), floats(2, out, false)];
        check(&Action::Softmax(Softmax { dims, input, output }), &arrays, 1, 1e-6, true);
    }

    #[test]
    fn resamplings_are_as_in_plain_rust(
        dims in dims(), from in layout(), to in layout(), kinds in any::<[u8; 4]>(), seed in any::<usize>(),
        ints in prop::bool::weighted(0.2),
    ) {
        let source = Layout { backwards: [false; 4], ..from.apart() };
        let (input, len) = source.view(0, &dims);
        let mut random = numbers(seed, 4000).into_iter().map(|v| (v + 1.0) / 2.0).cycle();
        let mut next = move |below: usize| ((random.next().unwrap_or(0.0) * below as f32) as usize).min(below - 1);
        let mut out_dims = dims.clone();
        let taps = dims.iter().zip(kinds).enumerate().map(|(d, (&dim, kind))| match kind % 4 {
            0 | 1 => Taps::Same,
            kind => {
                let out = 1 + next(12);
                out_dims[d] = out;
                let width = if kind == 2 || ints { 1 } else { 2 + next(2) };
                // Some of them are filled; at least one is not.
                let index: Vec<i32> = (0..out)
                    .flat_map(|i| {
                        let missing = i > 0 && next(6) == 0;
                        (0..width).map(|_| if missing { -1 } else { next(dim) as i32 }).collect::<Vec<_>>()
                    })
                    .collect();
                let weight: Vec<f32> = (0..out * width).map(|_| next(100) as f32 / 50.0).collect();
                match width {
                    1 => Taps::Pick(index.into()),
                    width => Taps::Blend { width, index: index.into(), weight: weight.into() },
                }
            }
        });
        let taps: Vec<Taps> = taps.collect();
        let (output, out) = to.apart().view(1, &out_dims);
        let arrays = if ints {
            [Values::Ints((0..len as i32).collect()), Values::Ints(vec![-1; out].into())]
        } else {
            [floats(1, len, false), floats(2, out, false)]
        };
        let action = Action::Resample(Resample { dims: out_dims, taps, fill: -7.5, input, output });
        check(&action, &arrays, 1, 1e-5, false);
    }
}

/// Shapes that detectors have.
#[test]
fn usual_maps_and_reductions_have_kernels() {
    let view = |array: u32, offset: usize, strides: &[isize]| View {
        array: ArrayId(array),
        offset,
        strides: strides.to_vec(),
    };
    let copy = |dims: &[usize], from: &[isize], to: &[isize]| {
        let (input, output) = (view(0, 3, from), view(1, 5, to));
        let len = |view: &View| view.span(dims).map_or(0, |span| span.end);
        let arrays = [floats(1, len(&input), false), floats(2, len(&output), false)];
        let map = Map { function: Function::Copy, dims: dims.to_vec(), inputs: vec![input], output };
        check(&Action::Map(map), &arrays, 1, 0.0, true);
    };
    copy(&[270, 4], &[16, 1], &[85, 1]);
    copy(&[270], &[16], &[85]);
    copy(&[5, 270, 16], &[4320, 16, 1], &[16, 85, 1]);
    copy(&[3, 200, 16], &[3200, 16, 1], &[3200, 1, 200]);
    copy(&[3, 200, 16], &[3200, 1, 200], &[3200, 16, 1]);
    copy(&[2, 3, 50, 7], &[1050, 350, 7, 1], &[1050, 1, 21, 3]);
    let add = |dims: &[usize], a: &[isize], b: &[isize], to: &[isize]| {
        let views = [view(0, 0, a), view(1, 0, b), view(2, 0, to)];
        let arrays: Vec<Values> = views.iter().map(|v| floats(1, v.span(dims).map_or(0, |s| s.end), false)).collect();
        let [a, b, output] = views;
        let function = Function::Binary(Binary::Add, ElementType::Float);
        let map = Map { function, dims: dims.to_vec(), inputs: vec![a, b], output };
        check(&Action::Map(map), &arrays, 2, 0.0, true);
    };
    add(&[2000], &[1], &[0], &[1]);
    add(&[1000, 3], &[3, 1], &[0, 1], &[3, 1]);
    add(&[1000, 3], &[3, 1], &[0, 0], &[3, 1]);
    add(&[2, 100, 16], &[1600, 16, 1], &[16, 0, 1], &[1600, 16, 1]);
    add(&[1000, 2], &[4, 1], &[2, 1], &[4, 1]);
    let reduce = |kept: &[usize], reduced: &[usize], from: &[isize], to: &[isize]| {
        let dims = [kept, reduced].concat();
        let (input, output) = (view(0, 0, from), view(1, 0, to));
        let arrays = [
            floats(1, input.span(&dims).map_or(0, |s| s.end), false),
            floats(2, output.span(kept).map_or(0, |s| s.end), false),
        ];
        let (kept, reduced) = (kept.to_vec(), reduced.to_vec());
        check(&Action::Reduce(Reduce { kind: Reduction::Mean, kept, reduced, input, output }), &arrays, 1, 1e-5, true);
    };
    reduce(&[1, 2, 16], &[12, 8], &[3072, 1536, 1, 128, 16], &[32, 16, 1]);
    reduce(&[], &[10, 7, 33], &[231, 33, 1], &[]);
    // Tokens.
    reduce(&[197], &[192], &[192, 1], &[1]);
}

/// What an attention does to so many heads of so many tokens: random shapes are too small for its products and rows.
#[test]
fn attentions_have_kernels() {
    let (heads, tokens, size) = (2, 197, 24);
    let view = |array: u32, strides: &[isize]| View { array: ArrayId(array), offset: 0, strides: strides.to_vec() };
    let (head, token) = (size as isize, (heads * size) as isize);
    let row = tokens as isize;
    // Heads side by side in each token, the keys turned.
    let scores = MatMul {
        batch: vec![heads],
        rows: tokens,
        depth: size,
        columns: tokens,
        alpha: 0.2,
        beta: 0.0,
        left: view(0, &[head, token, 1]),
        right: view(1, &[head, 1, token]),
        add: None,
        output: view(2, &[row * row, row, 1]),
    };
    let width = heads * size;
    let arrays =
        [floats(1, tokens * width, false), floats(2, tokens * width, false), floats(3, heads * tokens * tokens, false)];
    check(&Action::MatMul(scores), &arrays, 2, 1e-5, true);
    let dims = vec![heads, tokens, tokens];
    let rows = [row * row, row, 1];
    let softmax = Softmax { dims: dims.clone(), input: view(0, &rows), output: view(1, &rows) };
    let arrays = [floats(4, heads * tokens * tokens, false), floats(5, heads * tokens * tokens, false)];
    check(&Action::Softmax(softmax), &arrays, 1, 1e-6, true);
    // Along another dimension, neither side by side nor short.
    let turned =
        Softmax { dims, input: view(0, &[row * row, 1, row]), output: view(1, &[row, 1, row * heads as isize]) };
    check(&Action::Softmax(turned), &arrays, 1, 1e-6, true);
}

/// A mask that leaves nothing gives NaN in that row alone, one that leaves something no NaN at all.
#[test]
fn softmaxes_of_masked_rows_are_as_in_plain_rust() {
    let (rows, len) = (3, 200);
    let mut values = numbers(1, rows * len);
    values[..len - 1].fill(f32::NEG_INFINITY);
    values[len..2 * len].fill(f32::NEG_INFINITY);
    let arrays = [Values::Floats(values.into()), floats(2, rows * len, false)];
    let whole = |array| View { array: ArrayId(array), offset: 0, strides: vec![len as isize, 1] };
    let softmax = Softmax { dims: vec![rows, len], input: whole(0), output: whole(1) };
    check(&Action::Softmax(softmax), &arrays, 1, 1e-6, true);
}

#[test]
fn what_repeats_may_be_shorter_than_a_vector() {
    // Rows of 5 elements three times each: 15 side by side, of 132 rows of which the input's go backwards.
    let dims = vec![2, 132, 3, 5];
    let input = View { array: ArrayId(0), offset: 655, strides: vec![660, -5, 0, 1] };
    let output = View::whole(ArrayId(1), &dims);
    let arrays = [Values::Floats(numbers(1, 1320).into()), Values::Floats(vec![0.0; 3960].into())];
    check(&Action::Map(Map { function: Function::Copy, dims, inputs: vec![input], output }), &arrays, 1, 0.0, true);
}
