//! Convolutions and pools against plain loops in 64 bits.

use proptest::prelude::*;

use super::{close, numbers, picture, planar, run};
use crate::graph::op::Unary;
use crate::plan::{Action, Activation, Conv, Pool, PoolAxis, PoolKind, Residual, Values};

/// A convolution as a person would give it.
#[derive(Clone, Debug)]
pub(crate) struct ConvCase {
    pub(crate) depthwise: bool,
    pub(crate) channels: usize,
    /// Ignored where depthwise.
    pub(crate) outputs: usize,
    pub(crate) size: [usize; 2],
    pub(crate) out: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) pad: [usize; 2],
    pub(crate) bias: bool,
    pub(crate) activation: Option<Activation>,
    pub(crate) residual: Option<Residual>,
    /// Whether the input is not blocked.
    pub(crate) plain: bool,
    pub(crate) gap: usize,
}

impl ConvCase {
    pub(crate) fn outputs(&self) -> usize {
        if self.depthwise { self.channels } else { self.outputs }
    }

    fn input(&self) -> Vec<f32> {
        numbers(1, self.channels * self.size[0] * self.size[1])
    }

    fn weights(&self) -> Vec<f32> {
        let each = if self.depthwise { 1 } else { self.channels };
        numbers(2, self.outputs() * each * self.kernel[0] * self.kernel[1])
    }

    fn added(&self) -> Vec<f32> {
        numbers(4, self.outputs() * self.out[0] * self.out[1])
    }

    /// The step, and the arrays: input, what is added, output.
    pub(crate) fn build(&self, block: usize) -> (Conv, Vec<Values>) {
        let shape = [self.channels, self.size[0], self.size[1]];
        let out_shape = [self.outputs(), self.out[0], self.out[1]];
        let plain = self.plain && !self.depthwise;
        let (input, first) = picture(0, &self.input(), shape, if plain { 1 } else { block }, self.gap);
        let (added, second) = picture(1, &self.added(), out_shape, block, 0);
        let (output, third) = picture(2, &[], out_shape, block, self.gap);
        let conv = Conv {
            key: 0,
            input,
            weights: self.weights().into(),
            bias: self.bias.then(|| numbers(3, self.outputs()).into()),
            depthwise: self.depthwise,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            pad: self.pad,
            activation: self.activation.clone(),
            residual: self.residual.map(|order| (added, order)),
            output,
        };
        (conv, vec![first, second, third])
    }

    /// What it gives, channel by channel, in 64 bits.
    pub(crate) fn reference(&self) -> Vec<f64> {
        let (input, weights, bias, added) = (self.input(), self.weights(), numbers(3, self.outputs()), self.added());
        let ([h, w], [rows, columns]) = (self.size, self.kernel);
        let mut out = Vec::new();
        for o in 0..self.outputs() {
            for y in 0..self.out[0] {
                for x in 0..self.out[1] {
                    let mut sum = if self.bias { f64::from(bias[o]) } else { 0.0 };
                    let (first, each) = if self.depthwise { (o, 1) } else { (0, self.channels) };
                    for (n, j, k) in
                        (0..each * rows * columns).map(|t| (t / (rows * columns), t / columns % rows, t % columns))
                    {
                        let row = (y * self.stride[0] + j * self.dilation[0]).wrapping_sub(self.pad[0]);
                        let column = (x * self.stride[1] + k * self.dilation[1]).wrapping_sub(self.pad[1]);
                        if row < h && column < w {
                            let weight = weights[((o * each + n) * rows + j) * columns + k];
                            sum += f64::from(weight) * f64::from(input[((first + n) * h + row) * w + column]);
                        }
                    }
                    let added = f64::from(added[out.len()]);
                    if self.residual == Some(Residual::BeforeActivation) {
                        sum += added;
                    }
                    sum = match &self.activation {
                        None => sum,
                        Some(Activation::Unary(function)) => exact(*function, sum),
                        Some(Activation::PRelu(slopes)) => {
                            if sum < 0.0 {
                                sum * f64::from(slopes[o])
                            } else {
                                sum
                            }
                        }
                    };
                    if self.residual == Some(Residual::AfterActivation) {
                        sum += added;
                    }
                    out.push(sum);
                }
            }
        }
        out
    }
}

/// The functions that convolutions end with, in 64 bits.
pub(crate) fn exact(function: Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Unary::Relu => x.max(0.0),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x
            } else {
                x
            }
        }
        Unary::Sigmoid => sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Silu => x * sigmoid(x),
        Unary::Clamp { least, greatest } => x.clamp(f64::from(least), f64::from(greatest)),
        Unary::Tanh => x.tanh(),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x.exp_m1()
            } else {
                x
            }
        }
        Unary::Gelu { tanh: true } => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Unary::Exp => x.exp(),
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        other => panic!("{other:?} is no activation of the tests"),
    }
}

/// Activations of all kinds, for this many channels.
pub(crate) fn activation(channels: usize) -> impl Strategy<Value = Option<Activation>> {
    let unary = prop::sample::select(vec![
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
        Unary::Exp,
        Unary::Abs,
    ]);
    prop_oneof![
        Just(None),
        unary.prop_map(|function| Some(Activation::Unary(function))),
        Just(Some(Activation::PRelu(numbers(5, channels).into()))),
    ]
}

prop_compose! {
    /// Convolutions of all kinds: odd channels, one pixel, windows that hang out on every side.
    pub(crate) fn conv_case()(
        depthwise in any::<bool>(),
        channels in 1usize..40,
        outputs in 1usize..70,
        size in [1usize..16, 1usize..24],
        kernel in [1usize..6, 1usize..6],
        stride in [1usize..3, 1usize..4],
        dilation in [1usize..3, 1usize..3],
    )(
        pad in [0..kernel[0], 0..kernel[1]],
        out in [1..size[0] / stride[0] + 3, 1..size[1] / stride[1] + 3],
        activation in activation(outputs.max(channels)),
        residual in prop::sample::select(vec![
            None, None, Some(Residual::BeforeActivation), Some(Residual::AfterActivation),
        ]),
        bias in any::<bool>(),
        plain in any::<bool>(),
        gap in prop::sample::select(vec![0usize, 0, 5]),
        // A kernel of one with stride one and no padding has ways of its own.
        pointwise in prop::bool::weighted(0.3),
        fixed in Just((depthwise, channels, outputs, size, kernel, stride, dilation)),
    ) -> ConvCase {
        let (depthwise, channels, outputs, size, kernel, stride, dilation) = fixed;
        let case = ConvCase {
            depthwise, channels, outputs, size, out, kernel, stride, dilation, pad, bias, activation, residual, plain, gap,
        };
        if pointwise {
            ConvCase { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0, 0], out: size, ..case }
        } else {
            case
        }
    }
}

proptest! {
    #[test]
    fn plain_convolutions_are_their_definition(case in conv_case(), block in prop::sample::select(vec![1usize, 4, 8, 16])) {
        let (conv, arrays) = case.build(block);
        let output = conv.output.clone();
        let memory = run(&Action::Conv(Box::new(conv)), &arrays);
        close(&planar(&output, &memory), &case.reference(), 1e-4, &case);
    }

    #[test]
    fn plain_pools_are_their_definition(case in pool_case(), block in prop::sample::select(vec![1usize, 4, 8, 16])) {
        let (pool, arrays) = case.build(block);
        let output = pool.output.clone();
        let memory = run(&Action::Pool(pool), &arrays);
        close(&planar(&output, &memory), &case.reference(), 1e-5, &case);
    }
}

/// A pool as a person would give it.
#[derive(Clone, Debug)]
pub(crate) struct PoolCase {
    pub(crate) average: bool,
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) pad: [usize; 2],
    /// Whether padding counts in a mean.
    pub(crate) count_pad: bool,
}

impl PoolCase {
    /// What each row (or column) of the output covers.
    fn axis(&self, axis: usize) -> Vec<PoolAxis> {
        let (kernel, dilation, size) = (self.kernel[axis], self.dilation[axis], self.size[axis]);
        let windows = (0..size.div_ceil(self.stride[axis])).filter_map(|i| {
            let taps = (0..kernel).map(|t| (i * self.stride[axis] + t * dilation).wrapping_sub(self.pad[axis]));
            let inside: Vec<_> = taps.filter(|&at| at < size).collect();
            let count = inside.len();
            let divisor = if self.count_pad { kernel } else { count };
            inside.first().map(|&begin| PoolAxis { begin, count, divisor })
        });
        windows.collect()
    }

    fn input(&self) -> Vec<f32> {
        numbers(6, self.channels * self.size[0] * self.size[1])
    }

    pub(crate) fn build(&self, block: usize) -> (Pool, Vec<Values>) {
        let (rows, columns) = (self.axis(0), self.axis(1));
        let (input, first) = picture(0, &self.input(), [self.channels, self.size[0], self.size[1]], block, 0);
        let (output, second) = picture(1, &[], [self.channels, rows.len(), columns.len()], block, 7);
        let kind = if self.average { PoolKind::Average } else { PoolKind::Max };
        (Pool { kind, input, rows, columns, dilation: self.dilation, output }, vec![first, second])
    }

    pub(crate) fn reference(&self) -> Vec<f64> {
        let (input, [h, w]) = (self.input(), self.size);
        let mut out = Vec::new();
        for c in 0..self.channels {
            for rows in self.axis(0) {
                for columns in self.axis(1) {
                    let values = (0..rows.count * columns.count).map(|t| {
                        let row = rows.begin + t / columns.count * self.dilation[0];
                        let column = columns.begin + t % columns.count * self.dilation[1];
                        f64::from(input[(c * h + row) * w + column])
                    });
                    out.push(if self.average {
                        values.sum::<f64>() / (rows.divisor * columns.divisor) as f64
                    } else {
                        values.fold(f64::MIN, f64::max)
                    });
                }
            }
        }
        out
    }
}

prop_compose! {
    pub(crate) fn pool_case()(
        average in any::<bool>(),
        channels in 1usize..40,
        size in [1usize..20, 1usize..20],
        kernel in [1usize..14, 1usize..14],
        stride in [1usize..3, 1usize..3],
        dilation in [1usize..3, 1usize..3],
        count_pad in any::<bool>(),
    )(
        pad in [0..kernel[0], 0..kernel[1]],
        // Those that detectors use, more often than chance has them.
        usual in prop::sample::select(vec![None, None, Some((2, 2)), Some((3, 2)), Some((5, 1)), Some((9, 1)), Some((13, 1))]),
        fixed in Just((average, channels, size, kernel, stride, dilation, count_pad)),
    ) -> PoolCase {
        let (average, channels, size, kernel, stride, dilation, count_pad) = fixed;
        let case = PoolCase { average, channels, size, kernel, stride, dilation, pad, count_pad };
        match usual {
            Some((k, s)) => PoolCase { kernel: [k; 2], stride: [s; 2], dilation: [1; 2], pad: [k / 2; 2], ..case },
            None => case,
        }
    }
}
