//! Whole models on the software adapter.

mod checks;
mod memory;
mod runs;
mod sessions;

use std::sync::Arc;

use super::testing::context;
use super::*;
use crate::cpu::{self, Packed, Pool, SimdLevel};
use crate::graph::concrete::concrete;
use crate::graph::import::import;
use crate::graph::tests::models::load;
use crate::plan::{Plan, Target, lower};
use crate::{Model, model};

const MODELS: [&str; 5] = [
    "yolox_nano_coco_416.onnx",
    "ultraface_rfb_320.onnx",
    "fastestdet_coco_352.onnx",
    "yunet_s_dynamic.onnx",
    "person-reidentification-retail-0248.onnx",
];

/// The plan of a model for one entry on a device, open sizes being 96.
pub(crate) fn plan(model: &Model, context: &Context, max_batch: usize) -> Arc<Plan> {
    lowered(model, &Executor::target(context, max_batch, 1 << 28))
}

fn lowered(model: &Model, target: &Target) -> Arc<Plan> {
    let graph = import(model::parse(model.path(), model.bytes()).unwrap()).unwrap();
    let shape = |info: &crate::TensorInfo| {
        let dims = info.shape.as_ref().expect("a detector's input has a shape");
        dims.iter().enumerate().map(|(axis, dim)| if axis == 0 { 1 } else { dim.fixed().unwrap_or(96) }).collect()
    };
    let shapes: Vec<Vec<usize>> = model.inputs().iter().map(shape).collect();
    let (graph, _) = concrete(&graph, &shapes).unwrap();
    Arc::new(lower(&graph, target).unwrap())
}

/// Numbers for the inputs of so many entries, which differ.
pub(crate) fn inputs(plan: &Plan, entries: usize) -> Vec<Vec<f32>> {
    let input = |port: &crate::plan::Port| {
        let len = plan.array(port.array).len * entries;
        (0..len).map(|i| (i as f32 * 0.37).sin() * 2.0).collect()
    };
    plan.inputs.iter().map(input).collect()
}

/// One entry of several.
fn entry(inputs: &[Vec<f32>], entries: usize, n: usize) -> Vec<&[f32]> {
    inputs.iter().map(|all| &all[all.len() / entries * n..][..all.len() / entries]).collect()
}

pub(crate) fn run(executor: &mut Executor, plan: &Plan, entries: usize, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut outputs = vec![Vec::new(); plan.outputs.len()];
    executor.run(entries, inputs, &mut outputs).unwrap();
    outputs
}

pub(crate) fn slices(inputs: &[Vec<f32>]) -> Vec<&[f32]> {
    inputs.iter().map(Vec::as_slice).collect()
}

/// What a run of all entries gives in a new executor.
fn computed(context: &Arc<Context>, plan: &Arc<Plan>, options: ExecutorOptions, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let executor = Executor::new(Arc::clone(context), Arc::clone(plan), &Weights::default(), options);
    run(&mut executor.unwrap_or_else(|error| panic!("{error}")), plan, options.max_batch, &slices(inputs))
}

/// NaN is the same as NaN of the same bits, and 0 is not −0.
fn same_bits(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    let bits = |all: &[Vec<f32>]| all.iter().map(|v| v.iter().map(|v| v.to_bits()).collect()).collect::<Vec<Vec<_>>>();
    bits(a) == bits(b)
}

#[test]
fn whole_models_compute_what_the_cpu_does() {
    let test = "whole_models_compute_what_the_cpu_does";
    let Some(context) = context(test) else { return };
    for file in MODELS {
        let Some(model) = load(test, file) else { continue };
        let plan = plan(&model, &context, 2);
        let inputs = inputs(&plan, 2);
        let options = ExecutorOptions { max_batch: 2, ..ExecutorOptions::default() };
        let executor = Executor::new(Arc::clone(&context), Arc::clone(&plan), &Weights::default(), options);
        let mut executor = executor.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(executor.placement().all(|place| place == Placement::Device), "{file}");
        let found = run(&mut executor, &plan, 2, &slices(&inputs));

        let pool = Arc::new(Pool::new(1));
        let cpu = cpu::Executor::new(Arc::clone(&plan), &Packed::default(), pool, SimdLevel::Scalar);
        let mut expected = vec![Vec::new(); plan.outputs.len()];
        cpu.unwrap().run(&entry(&inputs, 2, 0), &mut expected).unwrap();
        for ((found, expected), port) in found.iter().zip(&expected).zip(&plan.outputs) {
            let largest = expected.iter().fold(1e-6, |m: f32, v| m.max(v.abs()));
            for (i, (a, b)) in found.iter().zip(expected).enumerate() {
                let error = (a - b).abs() / largest;
                assert!(error <= 1e-4, "{file}: {}[{i}]: {a} for {b}, {error:e}", port.name);
            }
        }
        // Bit for bit what each entry gives by itself.
        for n in 0..2 {
            let alone = run(&mut executor, &plan, 1, &entry(&inputs, 2, n));
            for (alone, together) in alone.iter().zip(&found) {
                assert!(alone[..] == together[alone.len() * n..][..alone.len()], "{file}: entry {n}");
            }
        }
    }
}
