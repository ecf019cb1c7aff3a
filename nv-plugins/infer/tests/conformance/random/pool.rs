//! MaxPool and AveragePool.

use nv_infer::Dim;
use nv_infer::testing::OnnxBuilder;
use proptest::prelude::*;

use super::window::{self, Axis};
use super::{Expected, tensor, try_cases};
use crate::engines::Subject;

#[derive(Clone, Copy, Debug)]
enum Pool {
    Max,
    Average { count_include_pad: bool },
}

#[derive(Clone, Debug)]
struct Case {
    pool: Pool,
    batch: usize,
    channels: usize,
    axes: [Axis; 2],
    seed: u64,
}

#[test]
fn pools_are_what_64_bits_give() {
    let pool = prop::sample::select(vec![
        Pool::Max,
        Pool::Average { count_include_pad: false },
        Pool::Average { count_include_pad: true },
    ]);
    let axes = || prop_oneof![window::axis(1..20, 5, 1), window::axis(1..20, 3, 3)];
    let axis = || axes().prop_filter("every window sees something", Axis::all_see);
    let cases = (pool, 1usize..=3, 1usize..=35, [axis(), axis()], any::<u64>())
        .prop_map(|(pool, batch, channels, axes, seed)| Case { pool, batch, channels, axes, seed })
        .prop_filter("the greatest of nothing is not defined", |case| case.axes.iter().all(covers_something));
    try_cases("pools_are_what_64_bits_give", 200, &cases, check);
}

/// Whether no window lies in the padding as a whole.
fn covers_something(axis: &Axis) -> bool {
    let windows = axis.windows().unwrap_or_default();
    (0..windows).all(|at| (0..axis.kernel).any(|tap| axis.source(at, tap).is_some()))
}

fn check(subject: Subject, case: &Case) -> Result<(), String> {
    let is_dilated = case.axes.iter().any(|axis| axis.dilation > 1);
    if is_dilated && !subject.is_ours() {
        // rten has none of these.
        return Ok(());
    }
    let [rows, columns] = &case.axes;
    let [height, width] = case.axes.map(|axis| axis.windows().expect("a window fits"));
    let x = tensor(case.seed, &[case.batch, case.channels, rows.size, columns.size]);
    let open = |height: usize, width: usize| -> [Dim; 4] {
        [Dim::from("batch"), case.channels.into(), height.into(), width.into()]
    };
    let operator = if matches!(case.pool, Pool::Max) { "MaxPool" } else { "AveragePool" };
    let mut builder = OnnxBuilder::new().input("x", &open(rows.size, columns.size)).node(operator, &["x"], &["y"]);
    builder = window::attributes(builder, &case.axes);
    if is_dilated {
        // Of AveragePool since then.
        builder = window::dilations(builder.opset(19), &case.axes);
    }
    if let Pool::Average { count_include_pad } = case.pool {
        builder = builder.attribute("count_include_pad", i64::from(count_include_pad));
    }
    let model = builder.output("y", &open(height, width)).build();

    let numbers = (0..case.batch * case.channels * height * width).map(|at| {
        let (column, row, plane) = (at % width, at / width % height, at / (width * height));
        let taps = (0..rows.kernel * columns.kernel).filter_map(|tap| {
            let row = rows.source(row, tap / columns.kernel)?;
            Some(f64::from(
                x.data()[(plane * rows.size + row) * columns.size + columns.source(column, tap % columns.kernel)?],
            ))
        });
        let taps: Vec<f64> = taps.collect();
        match case.pool {
            Pool::Max => (taps.iter().copied().fold(f64::NEG_INFINITY, f64::max), 0.0),
            Pool::Average { count_include_pad } => {
                let count = if count_include_pad { rows.kernel * columns.kernel } else { taps.len() };
                (taps.iter().sum::<f64>() / count as f64, 1e-6)
            }
        }
    });
    let shape = vec![case.batch, case.channels, height, width];
    Expected { shape, numbers: numbers.collect() }.check(subject, model, &[x])
}
