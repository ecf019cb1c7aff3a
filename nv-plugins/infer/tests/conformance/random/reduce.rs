//! Softmax and reductions, along axes of every size.

use nv_infer::Dim;
use nv_infer::testing::OnnxBuilder;
use proptest::prelude::*;

use super::{Expected, tensor, try_cases};
use crate::engines::Subject;

#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    batch: usize,
    sizes: [usize; 3],
    /// Which of the three are gone through.
    axes: [bool; 3],
    keep_dims: bool,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Softmax,
    Mean,
    Sum,
    Max,
}

#[test]
fn reductions_are_what_64_bits_give() {
    let kind = prop::sample::select(vec![Kind::Softmax, Kind::Mean, Kind::Sum, Kind::Max]);
    let axes = prop::sample::select(vec![
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [false, true, true],
        [true, true, true],
        [true, false, true],
    ]);
    let size = || prop_oneof![1usize..=8, 9usize..=40];
    let cases = (kind, 1usize..=3, [size(), size(), size()], axes, any::<bool>(), any::<u64>())
        .prop_map(|(kind, batch, sizes, axes, keep_dims, seed)| Case { kind, batch, sizes, axes, keep_dims, seed })
        .prop_filter("softmax goes along one axis", |case| {
            case.kind != Kind::Softmax || case.axes.iter().filter(|&&is| is).count() == 1
        });
    try_cases("reductions_are_what_64_bits_give", 200, &cases, check);
}

fn check(subject: Subject, case: &Case) -> Result<(), String> {
    let open = |sizes: &[usize]| -> Vec<Dim> {
        [Dim::from("batch")].into_iter().chain(sizes.iter().map(|&n| n.into())).collect()
    };
    let axes: Vec<i64> = (0..3).filter(|&i| case.axes[i]).map(|i| i as i64 + 1).collect();
    let x = tensor(case.seed, &[case.batch, case.sizes[0], case.sizes[1], case.sizes[2]]);
    let mut builder = OnnxBuilder::new().input("x", &open(&case.sizes));
    // Axes are attributes up to operator set 17 (of ReduceSum up to 12).
    builder = match case.kind {
        Kind::Softmax => builder.node("Softmax", &["x"], &["y"]).attribute("axis", axes[0]),
        Kind::Sum => builder.integers("axes", &axes).node("ReduceSum", &["x", "axes"], &["y"]),
        Kind::Mean => builder.node("ReduceMean", &["x"], &["y"]).attribute_list("axes", &axes),
        Kind::Max => builder.node("ReduceMax", &["x"], &["y"]).attribute_list("axes", &axes),
    };
    let kept: Vec<usize> = if case.kind == Kind::Softmax {
        case.sizes.to_vec()
    } else {
        builder = builder.attribute("keepdims", i64::from(case.keep_dims));
        let sizes = (0..3).filter(|&i| case.keep_dims || !case.axes[i]);
        sizes.map(|i| if case.axes[i] { 1 } else { case.sizes[i] }).collect()
    };
    let model = builder.output("y", &open(&kept)).build();

    // The values that go into each result, by the place of the first of them.
    let [a, b, c] = case.sizes;
    let place = |at: usize| [at / (b * c) % a, at / c % b, at % c];
    let first = |at: usize| {
        let kept = |i: usize| if case.axes[i] { 0 } else { place(at)[i] };
        at / (a * b * c) * (a * b * c) + (kept(0) * b + kept(1)) * c + kept(2)
    };
    let mut groups = vec![Vec::new(); x.data().len()];
    x.data().iter().enumerate().for_each(|(at, &v)| groups[first(at)].push(f64::from(v)));
    let numbers = if case.kind == Kind::Softmax {
        let share = |(at, &v): (usize, &f32)| {
            let sum: f64 = groups[first(at)].iter().map(|v| v.exp()).sum();
            (f64::from(v).exp() / sum, 2e-6)
        };
        x.data().iter().enumerate().map(share).collect()
    } else {
        let reduce = |group: &Vec<f64>| {
            let (sum, size) = group.iter().fold((0.0, 0.0), |(sum, size), v| (sum + v, size + v.abs()));
            match case.kind {
                Kind::Max => (group.iter().copied().fold(f64::NEG_INFINITY, f64::max), 0.0),
                Kind::Mean => (sum / group.len() as f64, 4e-6 * size / group.len() as f64 + 1e-6),
                _ => (sum, 4e-6 * size + 1e-6),
            }
        };
        groups.iter().filter(|group| !group.is_empty()).map(reduce).collect()
    };
    Expected { shape: [&[case.batch], &kept[..]].concat(), numbers }.check(subject, model, &[x])
}
