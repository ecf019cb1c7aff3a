//! ConvTranspose.

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
    axes: [Side; 2],
    bias: bool,
    seed: u64,
}

/// One axis: the input is as large as a convolution's output, the result as its input.
#[derive(Clone, Copy, Debug)]
struct Side {
    axis: Axis,
    /// How much is appended to the result.
    appended: usize,
}

impl Side {
    /// The size of the result; `None` where padding takes all of it.
    fn result(&self) -> Option<usize> {
        let all = (self.axis.size - 1) * self.axis.stride + self.axis.extent() + self.appended;
        all.checked_sub(self.axis.pads[0] + self.axis.pads[1]).filter(|&n| n > 0)
    }
}

#[test]
fn transposed_convolutions_are_what_64_bits_give() {
    try_cases("transposed_convolutions_are_what_64_bits_give", 200, &cases(), check);
}

fn cases() -> impl Strategy<Value = Case> {
    let side = || {
        (window::axis(1..12, 4, 2), any::<prop::sample::Index>())
            .prop_map(|(axis, appended)| Side { axis, appended: appended.index(axis.stride) })
            .prop_filter("something is left", |side| side.result().is_some())
    };
    let channels = prop_oneof![
        (Just(1usize), 1usize..=20, 1usize..=20),
        (2usize..=12, Just(1usize), Just(1usize)),
        (2usize..=3, 1usize..=6, 1usize..=6)
    ];
    (1usize..=2, channels, [side(), side()], any::<bool>(), any::<u64>()).prop_map(
        |(batch, (group, channels_in, channels_out), axes, bias, seed)| Case {
            batch,
            group,
            channels_in,
            channels_out,
            axes,
            bias,
            seed,
        },
    )
}

fn check(subject: Subject, case: &Case) -> Result<(), String> {
    let [height, width] = case.axes.map(|side| side.result().expect("something is left"));
    let [rows, columns] = case.axes.map(|side| side.axis);
    let (inputs, outputs) = (case.group * case.channels_in, case.group * case.channels_out);
    let x = tensor(case.seed, &[case.batch, inputs, rows.size, columns.size]);
    let weights = numbers(case.seed ^ 1, inputs * case.channels_out * rows.kernel * columns.kernel);
    let bias = case.bias.then(|| numbers(case.seed ^ 2, outputs));

    let open =
        |sizes: [usize; 3]| -> Vec<Dim> { [Dim::from("batch")].into_iter().chain(sizes.map(Dim::from)).collect() };
    let dims = [inputs, case.channels_out, rows.kernel, columns.kernel].map(|n| n as i64);
    let mut builder =
        OnnxBuilder::new().input("x", &open([inputs, rows.size, columns.size])).initializer("weights", &dims, &weights);
    let mut operands = vec!["x", "weights"];
    if let Some(bias) = &bias {
        builder = builder.initializer("bias", &[outputs as i64], bias);
        operands.push("bias");
    }
    builder = builder.node("ConvTranspose", &operands, &["y"]).attribute("group", case.group as i64);
    builder = window::dilations(window::attributes(builder, &[rows, columns]), &[rows, columns])
        .attribute_list("output_padding", &case.axes.map(|side| side.appended as i64));
    let model = builder.output("y", &open([outputs, height, width])).build();

    let shape = vec![case.batch, outputs, height, width];
    let mut sums = vec![(0.0, 0.0); shape.iter().product()];
    for (at, sum) in sums.iter_mut().enumerate() {
        let start = bias.as_ref().map_or(0.0, |bias| f64::from(bias[at / (height * width) % outputs]));
        *sum = (start, start.abs());
    }
    // Each value is spread over the window that a convolution would have gathered it from.
    for (at, &value) in x.data().iter().enumerate() {
        let (column, row) = (at % columns.size, at / columns.size % rows.size);
        let (n, input) = (at / (columns.size * rows.size * inputs), at / (columns.size * rows.size) % inputs);
        for output in 0..case.channels_out {
            for i in 0..rows.kernel {
                for j in 0..columns.kernel {
                    let place = |axis: &Axis, at: usize, tap: usize, size: usize| {
                        (at * axis.stride + tap * axis.dilation).checked_sub(axis.pads[0]).filter(|&p| p < size)
                    };
                    let (Some(y), Some(z)) = (place(&rows, row, i, height), place(&columns, column, j, width)) else {
                        continue;
                    };
                    let weight = weights[((input * case.channels_out + output) * rows.kernel + i) * columns.kernel + j];
                    let channel = input / case.channels_in * case.channels_out + output;
                    let product = f64::from(value) * f64::from(weight);
                    let (sum, size) = &mut sums[((n * outputs + channel) * height + y) * width + z];
                    *sum += product;
                    *size += product.abs();
                }
            }
        }
    }
    let numbers = sums.into_iter().map(|(sum, size)| (sum, 4e-6 * size + 1e-6)).collect();
    Expected { shape, numbers }.check(subject, model, &[x])
}
