//! The front end as a whole, against rten on the file as it is.

mod batches;
pub(super) mod evaluator;
mod files;
pub(crate) mod models;
mod operators;

use std::collections::BTreeMap;
use std::sync::Arc;

use nv_core::Tensor;

use super::batch;
use super::concrete::concrete;
use super::import::import;
use super::infer::infer;
use super::ir::Graph;
use super::op::Op;
use super::passes::{self, Rewrites};
use crate::cpu::{Executor, Packed, Pool, SimdLevel};
use crate::plan::{Target, lower};
use crate::{Model, Session, SessionOptions, model};
use evaluator::{Array, evaluate};

/// The graph of a file, as import leaves it.
pub(super) fn imported(model: &Model) -> Result<Graph, String> {
    import(model::parse(model.path(), model.bytes()).unwrap())
}

/// Fuses a model's graph and checks that it computes what rten computes on the file: on `entries` at once where the batch is
/// free. Gives the fused graph, what was rewritten, and why the batch is not free.
pub(super) fn fused(model: &Model, entries: usize, tolerance: f64) -> (Graph, Vec<Rewrites>, Option<String>) {
    let imported = imported(model).unwrap();
    let imported_again = imported.clone();
    let mut sizes = BTreeMap::new();
    let (mut graph, fixed) = match batch::free(&imported) {
        Ok(batched) => {
            sizes.insert(batched.symbol, entries as i64);
            (batched.graph, None)
        }
        Err(reason) => {
            let mut graph = imported;
            infer(&mut graph).unwrap();
            (graph, Some(reason))
        }
    };
    let rewrites = passes::run(&mut graph);
    let entries = if fixed.is_some() { 1 } else { entries };
    let inputs: Vec<Tensor> = graph
        .inputs
        .iter()
        .map(|&id| {
            let shape =
                graph.shape(id).unwrap().iter().map(|d| d.at(&sizes).unwrap_or(64) as usize).collect::<Vec<_>>();
            let len: usize = shape.iter().product();
            Tensor::new(shape, (0..len).map(|i| (i as f32 * 0.37).sin() * 2.0).collect()).unwrap()
        })
        .collect();
    for (&id, tensor) in graph.inputs.iter().zip(&inputs) {
        for (size, n) in graph.shape(id).unwrap().iter().zip(tensor.shape()) {
            if size.at(&sizes).is_none() {
                sizes.insert(size.to_string(), *n as i64);
            }
        }
    }
    let session = Session::new(model, &SessionOptions::default()).unwrap();
    let expected = session.run(&inputs).unwrap();
    let arrays: Vec<Array> = inputs
        .iter()
        .map(|t| Array { shape: t.shape().to_vec(), data: t.data().iter().map(|&v| f64::from(v)).collect() })
        .collect();
    let found = evaluate(&graph, &sizes, &arrays);
    assert_eq!(found.len(), expected.len());
    for ((found, expected), (name, _)) in found.iter().zip(&expected).zip(&graph.outputs) {
        assert_eq!(found.shape, expected.shape(), "{name} for {entries} entries");
        let largest = expected.data().iter().fold(1e-6, |m: f64, v| m.max(f64::from(v.abs())));
        for (i, (a, b)) in found.data.iter().zip(expected.data()).enumerate() {
            let error = (a - f64::from(*b)).abs() / largest;
            assert!(error <= tolerance, "{name}[{i}]: {a} for {b}, {error:e}");
        }
    }
    plans_compute(&imported_again, fixed.is_none(), &inputs, &expected, tolerance);
    (graph, rewrites, fixed)
}

/// Checks that plans of every block, and every level of this machine, compute what is expected, in memory that spoils what should not be read. Where the batch
/// is free, a plan computes one entry of it.
fn plans_compute(imported: &Graph, free: bool, inputs: &[Tensor], expected: &[Tensor], tolerance: f64) {
    let entries = if free { inputs[0].shape()[0] } else { 1 };
    let shape = |t: &Tensor| if free { [&[1], &t.shape()[1..]].concat() } else { t.shape().to_vec() };
    let (graph, _) = concrete(imported, &inputs.iter().map(shape).collect::<Vec<_>>()).unwrap();
    let scalar = [4, 8, 16].map(|block| (SimdLevel::Scalar, block));
    let vectors = SimdLevel::available().filter(|level| *level != SimdLevel::Scalar);
    for (level, block) in scalar.into_iter().chain(vectors.map(|level| (level, level.block()))) {
        let target = Target { block, planes: false, buffer_limit: usize::MAX, memory_limit: 1 << 28 };
        let plan = lower(&graph, &target).unwrap();
        let pool = Arc::new(Pool::new(1));
        let executor = Executor::new(Arc::new(plan), &Packed::default(), pool, level);
        let mut executor = executor.unwrap().poisoned();
        let mut outputs = vec![Vec::new(); expected.len()];
        for entry in 0..entries {
            let row = |t| if free { Tensor::outer(t, entry).unwrap() } else { Tensor::data(t) };
            let data: Vec<_> = inputs.iter().map(row).collect();
            executor.run(&data, &mut outputs).unwrap();
        }
        for ((found, expected), (name, _)) in outputs.iter().zip(expected).zip(&graph.outputs) {
            assert_eq!(found.len(), expected.data().len(), "{name}");
            let largest = expected.data().iter().fold(1e-6, |m: f32, v| m.max(v.abs()));
            for (i, (a, b)) in found.iter().zip(expected.data()).enumerate() {
                let error = f64::from((a - b).abs() / largest);
                assert!(error <= tolerance, "{name}[{i}], {level} in blocks of {block}: {a} for {b}, {error:e}");
            }
        }
    }
}

/// The operators of a graph, with how often they occur: `Conv 2, Relu 1`.
pub(super) fn operators(graph: &Graph) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    graph.nodes.iter().for_each(|node| *counts.entry(node.op.name()).or_default() += 1);
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// Weights that differ from one another.
pub(super) fn weights(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + 1.0) * 1.7).cos() * 0.4).collect()
}
