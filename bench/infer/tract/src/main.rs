//! Runs a task on tract, which computes with one thread.

use std::process::ExitCode;
use std::sync::Arc;

use nv_bench_runner::{Engine, Failure, Outputs, Task};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

fn main() -> ExitCode {
    nv_bench_runner::main(|task| {
        if task.threads != 1 {
            return Err(Failure::Unavailable("it computes with one thread".to_owned()));
        }
        Tract::new(task).map_err(|error| Failure::Failed(format!("{error:#}")))
    })
}

struct Tract {
    model: Arc<TypedRunnableModel>,
    inputs: Vec<TValue>,
}

impl Tract {
    fn new(task: &Task) -> TractResult<Self> {
        // Some files call different sizes by one name, and none knows the batch that is wanted.
        let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let model = onnx.model_for_path(&task.model)?;
        let declared = model.input_fact(0)?.shape.concretize();
        let open_batch = declared.is_none_or(|dims| dims.first().is_none_or(|n| n.to_i64().is_err()));
        let calls = task.calls(open_batch);
        // It optimises best for sizes that it knows.
        let fact = f32::fact(&calls[0].shape);
        let model = model.with_input_fact(0, fact.into())?.into_optimized()?.into_runnable()?;
        let inputs = calls.iter().map(|call| Ok(Tensor::from_shape(&call.shape, &call.values)?.into_tvalue()));
        Ok(Self { model, inputs: inputs.collect::<TractResult<_>>()? })
    }

    /// Runs all calls, giving each one's outputs to `take`.
    fn each(&mut self, mut take: impl FnMut(TVec<TValue>) -> TractResult<()>) -> Result<(), String> {
        let mut all = || -> TractResult<()> {
            for input in &self.inputs {
                take(self.model.run(tvec!(input.clone()))?)?;
            }
            Ok(())
        };
        all().map_err(|error| format!("{error:#}"))
    }
}

impl Engine for Tract {
    fn run(&mut self) -> Result<(), String> {
        self.each(|outputs| {
            std::hint::black_box(outputs);
            Ok(())
        })
    }

    fn outputs(&mut self) -> Result<Outputs, String> {
        let mut all = Outputs::new();
        self.each(|outputs| {
            all.resize(outputs.len(), Vec::new());
            for (all, output) in all.iter_mut().zip(&outputs) {
                all.extend(output.to_plain_array_view::<f32>()?.iter());
            }
            Ok(())
        })?;
        Ok(all)
    }
}
