//! The way of a file through all that is public. The fuzz target takes it too.

use nv_infer::{Dim, GraphOptions, InferError, Model};

/// Reads a file and looks at it from all sides. Gives what a person would be shown; the error is the first that there is, be it
/// of shapes that do not fit, which is part of an analysis.
pub(crate) fn walk(bytes: &[u8]) -> Result<String, Refusal> {
    let model = Model::from_bytes("hostile.onnx", bytes)?;
    let mut options = GraphOptions { batch: 3, nodes: true, ..GraphOptions::default() };
    for dim in model.inputs().iter().filter_map(|input| input.shape.as_ref()).flatten() {
        if let Dim::Symbolic(name) = dim {
            options.sizes.insert(name.clone(), 16);
        }
    }
    let report = model.analyse(&options)?;
    let text = format!("{}{report}", model.describe());
    // What a session says of a model that is analysed is an error of its own, and not compared.
    let ran = run(&model);
    match report.problem {
        Some(problem) => Err(Refusal(problem)),
        None => Ok(match ran {
            Ok(()) => text,
            Err(error) => format!("{text}session     {error}\n"),
        }),
    }
}

/// What a session may take.
const MEMORY_LIMIT: u64 = 16 << 20;

/// The most numbers that a model is given.
const MAX_GIVEN: usize = 1 << 16;

/// Makes a session and runs it once, where the model's inputs are small.
fn run(model: &Model) -> Result<(), InferError> {
    use nv_core::Tensor;
    use nv_infer::{Device, Session, SessionOptions};
    let options = SessionOptions { device: Device::Cpu, memory_limit: MEMORY_LIMIT, ..SessionOptions::default() };
    let session = Session::new(model, &options)?;
    let mut inputs = Vec::new();
    for input in session.inputs() {
        let dims = input.shape.iter().flatten().enumerate();
        let sizes: Vec<usize> = dims.map(|(i, d)| d.fixed().unwrap_or(if i == 0 { 1 } else { 16 })).collect();
        match sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(n) if n <= MAX_GIVEN => {
                // Of both signs and more than one whole number, so that steps that look at what they are given choose.
                let values = (0..n).map(|i| 3.0 * (i as f32 * 0.37).sin()).collect();
                inputs.extend(Tensor::new(sizes, values));
            }
            _ => return Ok(()),
        }
    }
    session.run(&inputs).map(drop)
}

/// Checks a text about a file, whichever way its walk ended: it has none of the file's control characters, which a terminal
/// would take for commands.
pub(crate) fn check_text(result: &Result<String, Refusal>) {
    let (Ok(text) | Err(Refusal(text))) = result;
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

/// What is said of a file that is refused.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl From<InferError> for Refusal {
    fn from(error: InferError) -> Self {
        Self(error.to_string())
    }
}
