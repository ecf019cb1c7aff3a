//! Operators of random shapes and parameters against what 64 bits give.

mod convolution;
mod matmul;
mod pool;
mod reduce;
mod resize;
mod transposed;
mod window;

use std::fmt::Debug;

use nv_core::Tensor;
use nv_infer::{Batching, Model};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::engines::{Subject, engines};

/// Tries `check` on cases of the strategy, on every engine: the same cases every time. `NV_TEST_DEEP` asks for many more.
fn try_cases<S: Strategy>(
    test: &str,
    cases: u32,
    strategy: &S,
    check: impl Fn(Subject, &S::Value) -> Result<(), String>,
) where
    S::Value: Debug,
{
    for subject in engines(test) {
        let deep = if std::env::var_os("NV_TEST_DEEP").is_some() { 20 } else { 1 };
        // Every case is a shader of its own, and compiling it costs more than running it.
        let share = if subject.has_shaders() { 4 } else { 1 };
        let config = Config { cases: cases * deep / share, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let ran = runner.run(strategy, |case| check(subject, &case).map_err(TestCaseError::fail));
        ran.unwrap_or_else(|error| panic!("on {}: {error}", subject.device));
    }
}

/// What a computation must give: each number with how far from it one of 32 bits may be.
struct Expected {
    shape: Vec<usize>,
    numbers: Vec<(f64, f64)>,
}

impl Expected {
    /// What is wrong with the only output that the model gives for these inputs, all of them batches.
    fn check(&self, subject: Subject, model: Vec<u8>, inputs: &[Tensor]) -> Result<(), String> {
        let model = Model::from_bytes("random.onnx", model).map_err(|error| error.to_string())?;
        let session = subject.session(&model, Batching::Entries)?;
        let outputs = subject.run(&session, inputs)?;
        let [output] = &outputs[..] else { return Err(format!("{} outputs", outputs.len())) };
        if output.shape() != self.shape {
            return Err(format!("the shape {:?} instead of {:?}", output.shape(), self.shape));
        }
        for (at, (&found, &(expected, slack))) in output.data().iter().zip(&self.numbers).enumerate() {
            // Written so that NaN is not close to anything.
            let close = (f64::from(found) - expected).abs() <= slack;
            if !close {
                return Err(format!("at {at} of {:?}: {found} instead of {expected} ± {slack:e}", self.shape));
            }
        }
        Ok(())
    }
}

/// Numbers between −1 and 1 with all of `f32`'s digits, the same for the same seed.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    // splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len).map(|_| ((next() >> 40) as f32 / (1 << 23) as f32) - 1.0).collect()
}

fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::new(shape, numbers(seed, shape.iter().product())).expect("as many values")
}
