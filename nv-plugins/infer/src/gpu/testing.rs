//! What tests of the device side share: the software adapter, or word that there is none; single steps on it.

use std::sync::Arc;

use crate::cpu::{Memory, run_scalar};
use crate::gpu::context::Context;
use crate::gpu::executor::{Executor, ExecutorOptions};
use crate::gpu::pipeline::Checks;
use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::gpu::weights::Weights;
use crate::plan::{Action, Array, ArrayId, Kind, MemoryPlan, Plan, Port, Slot, Span, Step, Values};
use crate::{Device, ElementType};

/// The software adapter. Where there is none the test can't look: `None`, and it is printed by name as skipped.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn context(test: &str) -> Option<Arc<Context>> {
    Context::open(Device::Software).unwrap_or_else(|reason| {
        println!("skipped: {test}: {reason}");
        None
    })
}

/// The adapter's own rules, with another family of convolutions.
pub(crate) fn tuning(context: &Context, family: Option<ConvFamily>) -> Tuning {
    let own = Tuning::of(context.description(), context.device());
    match family {
        Some(family) => own.with(family),
        None => own,
    }
}

/// A plan of one step, whose arrays are all inputs and all outputs.
pub(crate) fn single(action: Action, arrays: &[Values]) -> Plan {
    let len = |values: &Values| match values {
        Values::Floats(values) => (Kind::Float, values.len()),
        Values::Ints(values) => (Kind::Int, values.len()),
    };
    let ids = || (0u32..).map(ArrayId);
    let slots = ids().zip(arrays).map(|(id, values)| {
        let (kind, len) = len(values);
        Slot::new(id, kind, len, 0, 2).expect("small")
    });
    let memory = MemoryPlan::pack(slots.collect(), usize::MAX).expect("there is no limit");
    let port = |(id, values): (ArrayId, &Values)| {
        let (kind, len) = len(values);
        let element = if kind == Kind::Float { ElementType::Float } else { ElementType::Int32 };
        Port { name: format!("a{}", id.0), array: id, dims: vec![len], element, rows: None }
    };
    let ports: Vec<Port> = ids().zip(arrays).map(port).collect();
    let array = |values: &Values| {
        let (kind, len) = len(values);
        Array { name: String::new(), kind, len, constant: None }
    };
    Plan {
        block: 4,
        arrays: arrays.iter().map(array).collect(),
        steps: vec![Step { node: "the step".into(), action }],
        inputs: ports.clone(),
        outputs: ports,
        memory,
    }
}

/// Computes a step on the device for two entries that differ, and expects of both what plain Rust makes of them: whole numbers
/// exactly, floats up to a tolerance relative to 1 or to the value. What is NaN there is nothing that anyone may look at.
#[track_caller]
pub(crate) fn check_step(context: &Arc<Context>, tuning: &Tuning, action: &Action, arrays: &[Values], tolerance: f32) {
    check_with_constants(context, tuning, action, arrays, &[], tolerance);
}

/// The same where some of the arrays are constants, which the entries share.
#[track_caller]
pub(crate) fn check_with_constants(
    context: &Arc<Context>,
    tuning: &Tuning,
    action: &Action,
    arrays: &[Values],
    constants: &[u32],
    tolerance: f32,
) {
    let mut plan = single(action.clone(), arrays);
    let is_constant = |id: ArrayId| constants.contains(&id.0);
    plan.memory.buffers.iter_mut().for_each(|buffer| buffer.slots.retain(|slot| !is_constant(slot.array)));
    plan.inputs.retain(|port| !is_constant(port.array));
    plan.outputs.retain(|port| !is_constant(port.array));
    for &id in constants {
        plan.arrays[id as usize].constant = Some(arrays[id as usize].clone());
    }
    check_plan(context, tuning, plan, arrays, tolerance);
}

#[track_caller]
fn check_plan(context: &Arc<Context>, tuning: &Tuning, plan: Plan, arrays: &[Values], tolerance: f32) {
    let action = plan.steps[0].action.clone();
    let other = |(values, array): (&Values, &Array)| match values {
        Values::Floats(values) if array.constant.is_none() => {
            Values::Floats(values.iter().map(|value| value * -0.5).collect())
        }
        Values::Ints(values) if array.constant.is_none() => Values::Ints(values.iter().rev().copied().collect()),
        values => values.clone(),
    };
    let entries = [arrays.to_vec(), arrays.iter().zip(&plan.arrays).map(other).collect::<Vec<_>>()];
    let ports = plan.outputs.clone();
    let inputs: Vec<Vec<f32>> = plan
        .inputs
        .iter()
        .map(|port| entries.iter().flat_map(|entry| floats(&entry[port.array.index()])).collect())
        .collect();
    let options = ExecutorOptions { max_batch: 2, checks: Checks::Added, ..ExecutorOptions::default() };
    let executor = Executor::tuned(Arc::clone(context), Arc::new(plan), &Weights::default(), options, tuning);
    let mut executor = executor.unwrap_or_else(|error| panic!("{error}: {action:?}"));
    let mut outputs = vec![Vec::new(); ports.len()];
    executor.run(2, &inputs.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut outputs).unwrap();
    for (n, arrays) in entries.iter().enumerate() {
        let mut memory = Memory::of_arrays(arrays);
        run_scalar(&action, &mut memory).unwrap();
        for (port, output) in ports.iter().zip(&outputs) {
            let len = output.len() / 2;
            let found = &output[n * len..][..len];
            let span = Span { array: port.array, begin: 0, end: len };
            let (exact, expected) = match &arrays[port.array.index()] {
                Values::Floats(_) => (false, memory.floats(span).to_vec()),
                Values::Ints(_) => (true, memory.ints(span).iter().map(|&value| value as f32).collect()),
            };
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let far = (found - expected).abs() / expected.abs().max(1.0);
                // Of nothing but NaN plain Rust finds the greatest to be less than everything.
                let unseen = expected.is_nan() || (found.is_nan() && *expected == f32::NEG_INFINITY);
                let same = found == expected || unseen || (!exact && far <= tolerance);
                assert!(same, "array {} [{i}] of entry {n} is {found}, not {expected}: {action:?}", port.array.0);
            }
        }
    }
}

fn floats(values: &Values) -> Vec<f32> {
    match values {
        Values::Floats(values) => values.to_vec(),
        Values::Ints(values) => values.iter().map(|&value| value as f32).collect(),
    }
}
