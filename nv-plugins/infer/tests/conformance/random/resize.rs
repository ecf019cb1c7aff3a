//! Resize of pictures, to the nearest and linearly.

use nv_infer::Dim;
use nv_infer::testing::OnnxBuilder;
use proptest::prelude::*;

use super::{Expected, tensor, try_cases};
use crate::engines::Subject;

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    channels: usize,
    sizes: [usize; 2],
    /// The result's sides in eighths of the input's, or outright.
    target: Target,
    coordinates: &'static str,
    /// How `nearest` rounds; linear where there is none.
    rounding: Option<&'static str>,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Eighths([usize; 2]),
    Sizes([usize; 2]),
}

#[test]
fn resized_pictures_are_what_64_bits_give() {
    let target = prop_oneof![
        [2usize..=32, 2usize..=32].prop_map(Target::Eighths),
        // What networks do: twice, four times, half.
        prop::sample::select(vec![4usize, 16, 32]).prop_map(|n| Target::Eighths([n; 2])),
        [1usize..=40, 1usize..=40].prop_map(Target::Sizes),
    ];
    let coordinates = prop::sample::select(vec![
        "half_pixel",
        "half_pixel_symmetric",
        "asymmetric",
        "align_corners",
        "pytorch_half_pixel",
    ]);
    let rounding = prop::sample::select(vec![
        None,
        Some("floor"),
        Some("ceil"),
        Some("round_prefer_floor"),
        Some("round_prefer_ceil"),
    ]);
    let cases = (1usize..=2, 1usize..=9, [1usize..=14, 1usize..=14], target, coordinates, rounding, any::<u64>())
        .prop_map(|(batch, channels, sizes, target, coordinates, rounding, seed)| Case {
            batch,
            channels,
            sizes,
            target,
            coordinates,
            rounding,
            seed,
        })
        .prop_filter("something is left", |case| case.result().iter().all(|&n| n > 0))
        // Of a side that is no whole number, ONNX aligns the corners as if it were one, others those of the picture.
        .prop_filter("corners that all align alike", |case| case.coordinates != "align_corners" || case.is_whole());
    try_cases("resized_pictures_are_what_64_bits_give", 200, &cases, check);
}

impl Case {
    fn result(&self) -> [usize; 2] {
        match self.target {
            Target::Eighths(eighths) => [0, 1].map(|axis| self.sizes[axis] * eighths[axis] / 8),
            Target::Sizes(sizes) => sizes,
        }
    }

    /// Whether the result's sides are what the scales say, without rounding.
    fn is_whole(&self) -> bool {
        match self.target {
            Target::Eighths(eighths) => [0, 1].iter().all(|&axis| (self.sizes[axis] * eighths[axis]).is_multiple_of(8)),
            Target::Sizes(_) => true,
        }
    }

    /// Where in the input a place of the result lies (ONNX's operators, Resize).
    fn source(&self, axis: usize, at: usize) -> f64 {
        let (size, result) = (self.sizes[axis] as f64, self.result()[axis] as f64);
        let scale = match self.target {
            Target::Eighths(eighths) => eighths[axis] as f64 / 8.0,
            Target::Sizes(_) => result / size,
        };
        let at = at as f64;
        match self.coordinates {
            "asymmetric" => at / scale,
            "align_corners" if result == 1.0 => 0.0,
            // By the length that was asked for, before it is rounded down: as ONNX's own tests have it.
            "align_corners" => at * (size - 1.0) / (size * scale - 1.0),
            "pytorch_half_pixel" if result == 1.0 => 0.0,
            // As `half_pixel`, with the centres of both pictures on each other.
            "half_pixel_symmetric" => size / 2.0 * (1.0 - result / (size * scale)) + (at + 0.5) / scale - 0.5,
            _ => (at + 0.5) / scale - 0.5,
        }
    }

    /// The places of the input that make a place of the result, with their weights; where 32 bits can't tell which of two
    /// places is the nearest, both, as alternatives.
    fn taps(&self, axis: usize, at: usize) -> Taps {
        let last = self.sizes[axis] as f64 - 1.0;
        let x = self.source(axis, at);
        let inside = |place: f64| place.clamp(0.0, last) as usize;
        let Some(rounding) = self.rounding else {
            let x = x.clamp(0.0, last);
            return Taps::Blend([(inside(x.floor()), 1.0 - x.fract()), (inside(x.floor() + 1.0), x.fract())]);
        };
        let round = |x: f64| match rounding {
            "floor" => x.floor(),
            "ceil" => x.ceil(),
            "round_prefer_floor" => (x - 0.5).ceil(),
            _ => (x + 0.5).floor(),
        };
        // Halves and quarters are the same in every arithmetic.
        let exact = (x * 16.0).fract() == 0.0 && self.is_dyadic(axis);
        let blur = if exact { 0.0 } else { 1e-4 };
        Taps::Either([inside(round(x - blur)), inside(round(x + blur))])
    }

    /// Whether the step from place to place is a number of few binary digits.
    fn is_dyadic(&self, axis: usize) -> bool {
        let [size, result] = [self.sizes[axis], self.result()[axis]];
        match (self.coordinates, self.target) {
            ("align_corners", Target::Eighths(_)) => false,
            ("align_corners", _) => size == 1 || result == 1 || (result - 1).is_power_of_two(),
            ("half_pixel_symmetric", _) if !self.is_whole() => false,
            (_, Target::Eighths(eighths)) => eighths[axis].is_power_of_two(),
            (_, Target::Sizes(_)) => result % size == 0 && (result / size).is_power_of_two(),
        }
    }
}

enum Taps {
    Blend([(usize, f64); 2]),
    Either([usize; 2]),
}

fn check(subject: Subject, case: &Case) -> Result<(), String> {
    if case.coordinates == "half_pixel_symmetric" && !subject.is_ours() {
        // rten has none of these.
        return Ok(());
    }
    let [height, width] = case.sizes;
    let result = case.result();
    let x = tensor(case.seed, &[case.batch, case.channels, height, width]);
    let open = |[h, w]: [usize; 2]| -> [Dim; 4] { [Dim::from("batch"), case.channels.into(), h.into(), w.into()] };
    let mut builder = OnnxBuilder::new().opset(19).input("x", &open(case.sizes)).initializer("region", &[0], &[]);
    builder = match case.target {
        Target::Eighths([h, w]) => builder
            .initializer("scales", &[4], &[1.0, 1.0, h as f32 / 8.0, w as f32 / 8.0])
            .node("Resize", &["x", "region", "scales"], &["y"]),
        // The batch is given as one, so it stays one.
        Target::Sizes([h, w]) => builder
            .initializer("scales", &[0], &[])
            .integers("sizes", &[1, case.channels as i64, h as i64, w as i64])
            .node("Resize", &["x", "region", "scales", "sizes"], &["y"]),
    };
    builder = builder
        .attribute_text("mode", if case.rounding.is_some() { "nearest" } else { "linear" })
        .attribute_text("coordinate_transformation_mode", case.coordinates);
    if let Some(rounding) = case.rounding {
        builder = builder.attribute_text("nearest_mode", rounding);
    }
    let model = builder.output("y", &open(result)).build();

    let numbers = (0..case.batch * case.channels * result[0] * result[1]).map(|at| {
        let (column, row, plane) = (at % result[1], at / result[1] % result[0], at / (result[0] * result[1]));
        let value = |row: usize, column: usize| f64::from(x.data()[(plane * height + row) * width + column]);
        match (case.taps(0, row), case.taps(1, column)) {
            (Taps::Blend(rows), Taps::Blend(columns)) => {
                let sum = rows
                    .iter()
                    .flat_map(|&(row, a)| columns.iter().map(move |&(column, b)| value(row, column) * a * b));
                // The weights are those of coordinates up to 40, in 32 bits.
                (sum.sum::<f64>(), 3e-5)
            }
            (Taps::Either(rows), Taps::Either(columns)) => {
                let values = rows.iter().flat_map(|&row| columns.iter().map(move |&column| value(row, column)));
                let (least, most) = values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
                ((least + most) / 2.0, (most - least) / 2.0)
            }
            _ => unreachable!("both axes are of one mode"),
        }
    });
    let shape = vec![case.batch, case.channels, result[0], result[1]];
    Expected { shape, numbers: numbers.collect() }.check(subject, model, &[x])
}
