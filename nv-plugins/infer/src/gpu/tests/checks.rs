//! Kernels with checks, without, and of other families.

use super::*;
use crate::gpu::testing::tuning;
use crate::gpu::tuning::ConvFamily;

/// What trusted kernels give, kernels with checks give, bit for bit: the checks never have anything to do.
#[test]
fn checked_and_trusted_kernels_agree() {
    let test = "checked_and_trusted_kernels_agree";
    let Some(context) = context(test) else { return };
    for file in MODELS {
        let Some(model) = load(test, file) else { continue };
        let plan = plan(&model, &context, 2);
        let inputs = inputs(&plan, 2);
        let [trusted, checked] = [Checks::Trusted, Checks::Added].map(|checks| {
            let options = ExecutorOptions { checks, max_batch: 2, ..ExecutorOptions::default() };
            computed(&context, &plan, options, &inputs)
        });
        assert!(same_bits(&trusted, &checked), "{file}");
    }
}

/// Every family of convolutions in a whole model, with checks and without.
#[test]
fn families_agree() {
    let test = "families_agree";
    let Some(context) = context(test) else { return };
    let Some(model) = load(test, "yunet_s_dynamic.onnx") else { return };
    let plan = plan(&model, &context, 1);
    let inputs = inputs(&plan, 1);
    let [first, rest @ ..] = [ConvFamily::Broadcast, ConvFamily::Shared, ConvFamily::Uniform].map(|family| {
        let [trusted, checked] = [Checks::Trusted, Checks::Added].map(|checks| {
            let (weights, tuning) = (Weights::default(), tuning(&context, Some(family)));
            let options = ExecutorOptions { checks, ..ExecutorOptions::default() };
            let executor = Executor::tuned(Arc::clone(&context), Arc::clone(&plan), &weights, options, &tuning);
            run(&mut executor.unwrap(), &plan, 1, &slices(&inputs))
        });
        assert!(same_bits(&trusted, &checked), "{family:?}");
        trusted.concat()
    });
    for other in rest {
        let largest = first.iter().fold(1e-6, |m: f32, v| m.max(v.abs()));
        let far = first.iter().zip(&other).fold(0.0, |far: f32, (a, b)| far.max((a - b).abs()));
        assert!(first.len() == other.len() && far <= 1e-4 * largest, "{far} of {largest}");
    }
}
