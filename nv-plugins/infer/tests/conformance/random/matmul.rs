//! MatMul and Gemm.

use nv_core::Tensor;
use nv_infer::Dim;
use nv_infer::testing::OnnxBuilder;
use proptest::prelude::*;

use super::{Expected, numbers, tensor, try_cases};
use crate::engines::Subject;

#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    batch: usize,
    /// Rows, terms, columns.
    sizes: [usize; 3],
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// By a matrix of weights, with what is added to each row.
    Weights { bias: bool },
    /// By another input; each has this many matrices in an entry.
    Input { matrices: usize },
    /// The rows are the batch's entries.
    Gemm { transposed: bool, scaled: bool, bias: bool },
}

#[test]
fn products_of_matrices_are_what_64_bits_give() {
    let kind = prop_oneof![
        any::<bool>().prop_map(|bias| Kind::Weights { bias }),
        (1usize..=3).prop_map(|matrices| Kind::Input { matrices }),
        any::<[bool; 3]>().prop_map(|[transposed, scaled, bias]| Kind::Gemm { transposed, scaled, bias }),
    ];
    let cases = (kind, 1usize..=3, [1usize..=40, 1usize..=70, 1usize..=70], any::<u64>())
        .prop_map(|(kind, batch, sizes, seed)| Case { kind, batch, sizes, seed });
    try_cases("products_of_matrices_are_what_64_bits_give", 200, &cases, check);
}

fn check(subject: Subject, case: &Case) -> Result<(), String> {
    let [rows, terms, columns] = case.sizes;
    let open = |sizes: &[usize]| -> Vec<Dim> {
        [Dim::from("batch")].into_iter().chain(sizes.iter().map(|&n| n.into())).collect()
    };
    let whole = |sizes: &[usize]| [&[case.batch], sizes].concat();
    let weights = numbers(case.seed ^ 1, terms * columns);
    let bias = numbers(case.seed ^ 2, columns);
    let mut builder = OnnxBuilder::new();
    let mut alpha = 1.0;
    let mut beta = 0.0;
    let x;
    let mut y: Option<Tensor> = None;
    let result: Vec<usize>;
    match case.kind {
        Kind::Weights { bias: is_added } => {
            let dims = [terms as i64, columns as i64];
            x = tensor(case.seed, &whole(&[rows, terms]));
            result = vec![rows, columns];
            builder = builder.input("x", &open(&[rows, terms])).initializer("w", &dims, &weights);
            builder = builder.node("MatMul", &["x", "w"], &[if is_added { "product" } else { "y" }]);
            if is_added {
                beta = 1.0;
                builder =
                    builder.initializer("bias", &[columns as i64], &bias).node("Add", &["product", "bias"], &["y"]);
            }
        }
        Kind::Input { matrices } => {
            x = tensor(case.seed, &whole(&[matrices, rows, terms]));
            y = Some(tensor(case.seed ^ 1, &whole(&[matrices, terms, columns])));
            result = vec![matrices, rows, columns];
            builder =
                builder.input("x", &open(&[matrices, rows, terms])).input("w", &open(&[matrices, terms, columns]));
            builder = builder.node("MatMul", &["x", "w"], &["y"]);
        }
        Kind::Gemm { transposed, scaled, bias: is_added } => {
            x = tensor(case.seed, &whole(&[terms]));
            result = vec![columns];
            let columns = columns as i64;
            // As the file has them; below they are read as terms × columns.
            let (dims, stored) = if transposed {
                ([columns, terms as i64], flipped(&weights, terms))
            } else {
                ([terms as i64, columns], weights.clone())
            };
            builder = builder.input("x", &open(&[terms])).initializer("w", &dims, &stored);
            builder = if is_added {
                builder.initializer("bias", &[columns], &bias).node("Gemm", &["x", "w", "bias"], &["y"])
            } else {
                builder.node("Gemm", &["x", "w"], &["y"])
            };
            builder = builder.attribute("transB", i64::from(transposed));
            beta = if is_added { 1.0 } else { 0.0 };
            if scaled {
                alpha = 0.75;
                beta *= 1.5;
                builder = builder.attribute_float("alpha", 0.75).attribute_float("beta", 1.5);
            }
        }
    }
    let model = builder.output("y", &open(&result)).build();
    let (rows, weights) = match (case.kind, &y) {
        (Kind::Gemm { .. }, _) => (1, &weights[..]),
        (_, Some(y)) => (rows, y.data()),
        (_, None) => (rows, &weights[..]),
    };
    let numbers = (0..case.batch * result.iter().product::<usize>()).map(|at| {
        let (column, line) = (at % columns, at / columns);
        let matrix = if y.is_some() { line / rows * terms * columns } else { 0 };
        let products = (0..terms)
            .map(|k| f64::from(x.data()[line * terms + k]) * f64::from(weights[matrix + k * columns + column]));
        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p: f64| (sum + p, size + p.abs()));
        (alpha * sum + beta * f64::from(bias[column]), 4e-6 * size + 1e-6)
    });
    let numbers = numbers.collect();
    let inputs: Vec<Tensor> = [x.clone()].into_iter().chain(y.clone()).collect();
    Expected { shape: whole(&result), numbers }.check(subject, model, &inputs)
}

/// A matrix of `rows` rows, mirrored.
fn flipped(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows;
    (0..matrix.len()).map(|i| matrix[i % rows * columns + i / rows]).collect()
}
