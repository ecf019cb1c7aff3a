//! Runs a task on `nv-infer`.

use std::process::ExitCode;

use nv_bench_runner::{Device, Engine, Failure, Outputs, Task};
use nv_core::Tensor;
use nv_infer::{Dim, InferErrorKind, Model, Session, SessionOptions};

fn main() -> ExitCode {
    nv_bench_runner::main(Ours::new)
}

struct Ours {
    session: Session,
    /// The whole batch: a session takes any.
    inputs: [Tensor; 1],
}

impl Ours {
    fn new(task: &Task) -> Result<Self, Failure> {
        let model = Model::load(&task.model).map_err(Failure::failed)?;
        let [input] = model.inputs() else { return Err(Failure::failed("the model has more than one input")) };
        let mut options = SessionOptions {
            device: match task.device {
                Device::Cpu => nv_infer::Device::Cpu,
                Device::Gpu => nv_infer::Device::Gpu,
                Device::Software => nv_infer::Device::Software,
            },
            threads: task.threads,
            ..SessionOptions::default()
        };
        if let Some(shape) = &input.shape
            && shape.iter().skip(1).any(|dim| dim.fixed().is_none())
        {
            // The size of the picture is known beforehand.
            let sizes = task.entry.0.iter().map(|&n| Dim::Fixed(n));
            options.input_shapes.insert(input.name.clone(), shape[..1].iter().cloned().chain(sizes).collect());
        }
        let session = Session::new(&model, &options).map_err(|error| match error.kind() {
            InferErrorKind::NoDevice => Failure::Unavailable(error.to_string()),
            _ => Failure::failed(error),
        })?;
        let call = task.calls(true).remove(0);
        let inputs = [Tensor::new(call.shape, call.values).map_err(Failure::failed)?];
        Ok(Self { session, inputs })
    }
}

impl Engine for Ours {
    fn run(&mut self) -> Result<(), String> {
        let outputs = self.session.run(&self.inputs).map_err(|e| e.to_string())?;
        std::hint::black_box(outputs);
        Ok(())
    }

    fn outputs(&mut self) -> Result<Outputs, String> {
        let outputs = self.session.run(&self.inputs).map_err(|e| e.to_string())?;
        Ok(outputs.iter().map(|tensor| tensor.data().to_vec()).collect())
    }
}
