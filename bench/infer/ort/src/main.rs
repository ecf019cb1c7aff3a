//! Runs a task on ONNX Runtime: the library that `ORT_DYLIB_PATH` names, on its CPU execution provider.

use std::process::ExitCode;

use nv_bench_runner::{Call, Engine, Failure, Outputs, Task};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;

fn main() -> ExitCode {
    nv_bench_runner::main(Ort::new)
}

struct Ort {
    session: Session,
    input: String,
    calls: Vec<Call>,
}

impl Ort {
    fn new(task: &Task) -> Result<Self, Failure> {
        let library = std::env::var_os("ORT_DYLIB_PATH")
            .ok_or_else(|| Failure::Unavailable("ORT_DYLIB_PATH does not name ONNX Runtime's library".to_owned()))?;
        let environment = ort::init_from(std::path::Path::new(&library)).map_err(Failure::failed)?;
        let environment = environment.build().map_err(Failure::failed)?;
        let session = build(&environment, task).map_err(Failure::failed)?;
        let [input] = session.inputs() else { return Err(Failure::failed("the model has more than one input")) };
        let open_batch = input.dtype().tensor_shape().and_then(|s| s.first().copied()).is_none_or(|n| n < 0);
        Ok(Self { input: input.name().to_owned(), calls: task.calls(open_batch), session })
    }

    /// Runs all calls, giving each one's outputs to `take`.
    fn each(&mut self, mut take: impl FnMut(&SessionOutputs) -> ort::Result<()>) -> ort::Result<()> {
        for Call { shape, values } in &self.calls {
            let input = TensorRef::from_array_view((shape.clone(), values.as_slice()))?;
            take(&self.session.run(ort::inputs![self.input.as_str() => input])?)?;
        }
        Ok(())
    }
}

/// Everything that a user would turn on. How threads wait is left as it is: they spin for a while.
fn build(environment: &Environment, task: &Task) -> Result<Session, Box<dyn std::error::Error>> {
    let builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(task.threads)?
        .with_inter_threads(1)?;
    Ok({ builder }.commit_from_file(&task.model)?)
}

impl Engine for Ort {
    fn run(&mut self) -> Result<(), String> {
        let take = |outputs: &SessionOutputs| {
            std::hint::black_box(outputs.len());
            Ok(())
        };
        self.each(take).map_err(|e| e.to_string())
    }

    fn outputs(&mut self) -> Result<Outputs, String> {
        let mut all = Outputs::new();
        let take = |outputs: &SessionOutputs| {
            all.resize(outputs.len(), Vec::new());
            for (all, (_, output)) in all.iter_mut().zip(outputs.iter()) {
                all.extend_from_slice(output.try_extract_tensor::<f32>()?.1);
            }
            Ok(())
        };
        self.each(take).map_err(|e| e.to_string())?;
        Ok(all)
    }
}
