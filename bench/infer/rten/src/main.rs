//! Runs a task on rten.

use std::process::ExitCode;
use std::sync::Arc;

use nv_bench_runner::{Engine, Failure, Outputs, Task};
use rten::{Dimension, Model, ModelOptions, RunOptions, ThreadPool, Value};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

fn main() -> ExitCode {
    nv_bench_runner::main(Rten::new)
}

struct Rten {
    model: Model,
    pool: Arc<ThreadPool>,
    inputs: Vec<Tensor<f32>>,
}

impl Rten {
    fn new(task: &Task) -> Result<Self, Failure> {
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(true).prepack_weights(true);
        let model = options.load_file(&task.model).map_err(Failure::failed)?;
        let &[input] = model.input_ids() else { return Err(Failure::failed("the model has more than one input")) };
        let shape = model.node_info(input).and_then(|info| info.shape());
        let open_batch = !matches!(shape.as_deref(), Some([Dimension::Fixed(_), ..]));
        let inputs = task.calls(open_batch).into_iter().map(|call| Tensor::from_data(&call.shape, call.values));
        Ok(Self { inputs: inputs.collect(), pool: Arc::new(ThreadPool::with_num_threads(task.threads)), model })
    }

    /// Runs all calls, giving each one's outputs to `take`.
    fn each(&mut self, mut take: impl FnMut(Vec<Value>) -> Result<(), String>) -> Result<(), String> {
        for input in &self.inputs {
            let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
            let inputs = vec![(self.model.input_ids()[0], input.view().into())];
            take(self.model.run(inputs, self.model.output_ids(), Some(options)).map_err(|e| e.to_string())?)?;
        }
        Ok(())
    }
}

impl Engine for Rten {
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
            for (all, output) in all.iter_mut().zip(outputs) {
                let Value::FloatTensor(tensor) = output else { return Err("an output holds no f32".to_owned()) };
                all.extend(tensor.to_vec());
            }
            Ok(())
        })?;
        Ok(all)
    }
}
