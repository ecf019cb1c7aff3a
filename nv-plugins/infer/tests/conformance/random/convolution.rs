//! Conv with what is fused into it.

use nv_core::Tensor;
use nv_infer::Dim;
use nv_infer::testing::OnnxBuilder;
use proptest::prelude::*;

use super::window::{self, Axis};
use super::{Expected, numbers, tensor, try_cases};
use crate::engines::Subject;

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    group: usize,
    /// In a group.
    channels_in: usize,
    channels_out: usize,
    axes: [Axis; 2],
    bias: bool,
    activation: Activation,
    residual: Option<Residual>,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Activation {
    None,
    Relu,
    LeakyRelu,
    PRelu,
    Clip,
    Sigmoid,
    Silu,
    HardSigmoid,
    HardSwish,
    Tanh,
}

/// Another tensor that is added.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Residual {
    BeforeActivation,
    AfterActivation,
}

#[test]
fn convolutions_are_what_64_bits_give() {
    try_cases("convolutions_are_what_64_bits_give", 400, &cases(), check);
}

/// Channels in many numbers that fill no vector, and some that do.
fn cases() -> impl Strategy<Value = Case> {
    let few = || prop_oneof![1usize..=9, Just(16usize), Just(17), Just(32)];
    let channels = prop_oneof![
        // One group.
        3 => (Just(1usize), prop_oneof![few(), 1usize..=70], prop_oneof![few(), 1usize..=70]),
        // A convolution of each channel by itself, and with several outputs of each.
        2 => (1usize..=70, Just(1usize), 1usize..=2),
        2 => (2usize..=5, few(), few()),
    ];
    let axes = prop_oneof![
        1 => [window::axis(1..24, 1, 1), window::axis(1..24, 1, 1)].boxed(),
        3 => [window::axis(3..20, 3, 1), window::axis(3..20, 3, 1)].boxed(),
        2 => [window::axis(1..24, 7, 3), window::axis(1..24, 7, 3)].boxed(),
    ];
    use Activation as A;
    let activation = prop::sample::select(vec![
        A::None,
        A::Relu,
        A::LeakyRelu,
        A::PRelu,
        A::Clip,
        A::Sigmoid,
        A::Silu,
        A::HardSigmoid,
        A::HardSwish,
        A::Tanh,
    ]);
    let residual =
        prop::sample::select(vec![None, None, None, Some(Residual::BeforeActivation), Some(Residual::AfterActivation)]);
    (1usize..=3, channels, axes, any::<bool>(), activation, residual, any::<u64>()).prop_map(
        |(batch, (group, channels_in, channels_out), axes, bias, activation, residual, seed)| Case {
            batch,
            group,
            channels_in,
            channels_out,
            axes,
            bias,
            activation,
            residual,
            seed,
        },
    )
}

fn check(subject: Subject, case: &Case) -> Result<(), String> {
    let [height, width] = case.axes.map(|axis| axis.windows().expect("a window fits"));
    let (inputs, outputs) = (case.group * case.channels_in, case.group * case.channels_out);
    let x = tensor(case.seed, &[case.batch, inputs, case.axes[0].size, case.axes[1].size]);
    let shape = [case.batch, outputs, height, width];
    let added = case.residual.map(|_| tensor(case.seed ^ 1, &shape));
    let kernel = case.axes.map(|axis| axis.kernel);
    let weights = numbers(case.seed ^ 2, outputs * case.channels_in * kernel[0] * kernel[1]);
    let bias = case.bias.then(|| numbers(case.seed ^ 3, outputs));
    let slopes = numbers(case.seed ^ 4, outputs);

    let model = model(case, shape, &weights, bias.as_deref(), &slopes);
    let expected = expected(case, shape, &x, &weights, bias.as_deref(), &slopes, added.as_ref());
    let inputs: Vec<Tensor> = [x].into_iter().chain(added).collect();
    expected.check(subject, model, &inputs)
}

fn model(case: &Case, shape: [usize; 4], weights: &[f32], bias: Option<&[f32]>, slopes: &[f32]) -> Vec<u8> {
    let [outputs, channels, height, width] =
        [shape[1], case.channels_in, case.axes[0].kernel, case.axes[1].kernel].map(|n| n as i64);
    let open =
        |sizes: [usize; 3]| -> Vec<Dim> { [Dim::from("batch")].into_iter().chain(sizes.map(Dim::from)).collect() };
    let mut builder = OnnxBuilder::new()
        .input("x", &open([case.group * case.channels_in, case.axes[0].size, case.axes[1].size]))
        .initializer("weights", &[outputs, channels, height, width], weights);
    if case.residual.is_some() {
        builder = builder.input("added", &open([shape[1], shape[2], shape[3]]));
    }
    let mut operands = vec!["x", "weights"];
    if let Some(bias) = bias {
        builder = builder.initializer("bias", &[outputs], bias);
        operands.push("bias");
    }
    builder = builder.node("Conv", &operands, &["sums"]).attribute("group", case.group as i64);
    builder = window::dilations(window::attributes(builder, &case.axes), &case.axes);
    let mut last = "sums";
    if case.residual == Some(Residual::BeforeActivation) {
        builder = builder.node("Add", &[last, "added"], &["more"]);
        last = "more";
    }
    if case.activation != Activation::None {
        builder = activate(builder, case.activation, last, slopes);
        last = "active";
    }
    if case.residual == Some(Residual::AfterActivation) {
        builder = builder.node("Add", &["added", last], &["both"]);
        last = "both";
    }
    builder.output(last, &open([shape[1], shape[2], shape[3]])).build()
}

fn activate(builder: OnnxBuilder, activation: Activation, x: &str, slopes: &[f32]) -> OnnxBuilder {
    match activation {
        Activation::None => builder,
        Activation::Relu => builder.node("Relu", &[x], &["active"]),
        Activation::LeakyRelu => builder.node("LeakyRelu", &[x], &["active"]).attribute_float("alpha", 0.1),
        Activation::PRelu => builder.initializer("slopes", &[slopes.len() as i64, 1, 1], slopes).node(
            "PRelu",
            &[x, "slopes"],
            &["active"],
        ),
        Activation::Clip => builder.initializer("least", &[], &[-0.5]).initializer("greatest", &[], &[6.0]).node(
            "Clip",
            &[x, "least", "greatest"],
            &["active"],
        ),
        Activation::Sigmoid => builder.node("Sigmoid", &[x], &["active"]),
        Activation::Silu => builder.node("Sigmoid", &[x], &["gate"]).node("Mul", &[x, "gate"], &["active"]),
        Activation::HardSigmoid => builder.node("HardSigmoid", &[x], &["active"]).attribute_float("alpha", 0.25),
        Activation::HardSwish => builder.opset(14).node("HardSwish", &[x], &["active"]),
        Activation::Tanh => builder.node("Tanh", &[x], &["active"]),
    }
}

fn apply(activation: Activation, v: f64, slope: f32) -> f64 {
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    match activation {
        Activation::None => v,
        Activation::Relu => v.max(0.0),
        Activation::LeakyRelu => {
            if v < 0.0 {
                v * f64::from(0.1f32)
            } else {
                v
            }
        }
        Activation::PRelu => {
            if v < 0.0 {
                v * f64::from(slope)
            } else {
                v
            }
        }
        Activation::Clip => v.clamp(-0.5, 6.0),
        Activation::Sigmoid => sigmoid(v),
        Activation::Silu => v * sigmoid(v),
        Activation::HardSigmoid => (0.25 * v + 0.5).clamp(0.0, 1.0),
        Activation::HardSwish => v * (v / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Tanh => v.tanh(),
    }
}

fn expected(
    case: &Case,
    shape: [usize; 4],
    x: &Tensor,
    weights: &[f32],
    bias: Option<&[f32]>,
    slopes: &[f32],
    added: Option<&Tensor>,
) -> Expected {
    let [rows, columns] = &case.axes;
    let [batch, outputs, height, width] = shape;
    let inputs = case.group * case.channels_in;
    let mut numbers = Vec::with_capacity(shape.iter().product());
    for (n, output, y, column) in places([batch, outputs, height, width]) {
        let first = output / case.channels_out * case.channels_in;
        let mut sum = bias.map_or(0.0, |bias| f64::from(bias[output]));
        let mut size = sum.abs();
        for (c, _, i, j) in places([case.channels_in, 1, rows.kernel, columns.kernel]) {
            let (Some(row), Some(col)) = (rows.source(y, i), columns.source(column, j)) else { continue };
            let value = x.data()[((n * inputs + first + c) * rows.size + row) * columns.size + col];
            let weight = weights[((output * case.channels_in + c) * rows.kernel + i) * columns.kernel + j];
            sum += f64::from(value) * f64::from(weight);
            size += (f64::from(value) * f64::from(weight)).abs();
        }
        let more = added.map_or(0.0, |added| f64::from(added.data()[numbers.len()]));
        let (before, after) = match case.residual {
            Some(Residual::BeforeActivation) => (more, 0.0),
            _ => (0.0, more),
        };
        let result = apply(case.activation, sum + before, slopes[output]) + after;
        // No activation is steeper than 1.13. A sum's error grows with its terms, not with what is left of them.
        numbers.push((result, 4e-6 * (size + more.abs()) + 1e-6));
    }
    Expected { shape: shape.to_vec(), numbers }
}

/// Every place in a tensor of four dimensions, the last varying fastest.
fn places([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d))
}
