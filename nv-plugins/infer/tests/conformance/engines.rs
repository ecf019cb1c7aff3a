//! What the tests run on.

use nv_core::Tensor;
use nv_infer::{Batching, Device, Engine, InferErrorKind, Model, Session, SessionOptions, testing};

use crate::announce;

/// Our executors that sessions use. On the device of any other a session is computed by rten, or can't be had.
const OURS: &[Engine] = &[Engine::Cpu, Engine::Gpu];

/// A device, and what must compute a session on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) device: Device,
    engine: Engine,
}

const SUBJECTS: [Subject; 2] =
    [Subject { device: Device::Cpu, engine: Engine::Cpu }, Subject { device: Device::Software, engine: Engine::Gpu }];

/// What is here to be tested; says by name what is skipped.
pub(crate) fn engines(test: &str) -> Vec<Subject> {
    let model = Model::from_bytes("probe.onnx", testing::classifier(8, 2)).expect("a sound model");
    let is_here = |subject: &Subject| {
        let options = SessionOptions { device: subject.device, ..SessionOptions::default() };
        match Session::new(&model, &options) {
            Ok(_) => true,
            Err(error) if error.kind() == InferErrorKind::NoDevice => {
                announce(&format!("skipped: {test} on {}: {error}", subject.device));
                false
            }
            Err(error) => panic!("{}: {error}", subject.device),
        }
    };
    SUBJECTS.into_iter().filter(is_here).collect()
}

impl Subject {
    /// Whether our own executor computes here, as it must in the end.
    pub(crate) fn is_ours(self) -> bool {
        OURS.contains(&self.engine)
    }

    /// Whether what it computes must be compiled first.
    pub(crate) fn has_shaders(self) -> bool {
        self.engine == Engine::Gpu
    }

    /// A session; a fall-back to another engine counts as a failure where the executor is ours.
    pub(crate) fn session(self, model: &Model, batching: Batching) -> Result<Session, String> {
        let options = SessionOptions { device: self.device, batching, ..SessionOptions::default() };
        let session = Session::new(model, &options).map_err(|error| error.to_string())?;
        if self.is_ours() && session.engine() != self.engine {
            let lacking: Vec<_> = session.lacking().iter().map(ToString::to_string).collect();
            return Err(format!("it fell back to {}: {}", session.engine(), lacking.join("; ")));
        }
        Ok(session)
    }

    /// What a session gives that computes on no other engine in the end: where kernels fail it goes on with the CPU.
    pub(crate) fn run(self, session: &Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let outputs = session.run(inputs).map_err(|error| error.to_string())?;
        match &session.take_notices()[..] {
            [] => Ok(outputs),
            notices => Err(format!("it did not stay on {}: {}", self.device, notices.join("; "))),
        }
    }
}
