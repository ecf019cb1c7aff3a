//! Small models, and files made of them at random, on the software GPU: it gives what the CPU gives, or fails where that fails.

use fastrand::Rng;
use nv_core::Tensor;
use nv_infer::{Device, Engine, InferError, InferErrorKind, Model, Session, SessionOptions};

use crate::mutate::mutated;
use crate::seeds::seeds;

/// How many files are made; more in a deep run. Each has kernels to compile.
const FILES: usize = 250;
const DEEP_FILES: usize = 6000;
/// How large a file may be that grows from one to the next.
const MAX_FILE: usize = 1 << 15;

/// What a session may take.
const MEMORY_LIMIT: u64 = 1 << 20;
/// The most numbers that a model is given.
const MAX_GIVEN: usize = 1 << 13;

/// How far numbers may be apart, of the largest or of 1: what is fused differs, and so does the order of sums.
const TOLERANCE: f32 = 1e-3;
/// Numbers beyond are not compared, nor are outputs with a number that is none: sums of such are anything.
const LARGE: f32 = 1e6;

#[test]
#[expect(clippy::print_stdout, reason = "a test says what it skipped and what it compared")]
fn a_device_gives_what_the_cpu_gives() {
    let test = "a_device_gives_what_the_cpu_gives";
    let probe = Model::from_bytes("probe.onnx", nv_infer::testing::classifier(8, 2)).unwrap();
    match session(&probe, Device::Software) {
        Err(error) if error.kind() == InferErrorKind::NoDevice => return println!("skipped: {test}: {error}"),
        probed => drop(probed.unwrap()),
    }
    let seeds = seeds();
    let mut failures = Vec::new();
    let mut compared = 0;
    for (name, file) in &seeds {
        match compare(file) {
            Ok(alike) => compared += usize::from(alike),
            Err(what) => failures.push(format!("{name}: {what}")),
        }
    }
    assert!(compared * 10 > seeds.len() * 9, "{compared} of {} seeds", seeds.len());
    let mut rng = Rng::with_seed(5);
    let files = if std::env::var_os("NV_TEST_DEEP").is_some() { DEEP_FILES } else { FILES };
    let (mut parent, mut name) = (Vec::new(), "");
    for i in 0..files {
        if i % 8 == 0 {
            let (of, seed) = &seeds[rng.usize(..seeds.len())];
            (name, parent) = (of, seed.clone());
        }
        let file = mutated(&parent, &mut rng, MAX_FILE);
        match compare(&file) {
            Ok(true) => {
                compared += 1;
                parent = file;
            }
            Ok(false) => {}
            Err(what) => {
                let bytes: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
                failures.push(format!("mutation {i} of {name}: {what}: {bytes}"));
            }
        }
    }
    println!("{test}: {compared} files computed the same");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(compared * 4 > files, "{compared} of {files} files");
}

/// Whether the file's outputs were compared: those of a file that no executor of ours takes are not.
fn compare(file: &[u8]) -> Result<bool, String> {
    let Ok(model) = Model::from_bytes("hostile.onnx", file) else { return Ok(false) };
    let Ok(cpu) = session(&model, Device::Cpu) else { return Ok(false) };
    let Some(inputs) = inputs(&cpu).filter(|_| cpu.engine() == Engine::Cpu) else { return Ok(false) };
    let device = session(&model, Device::Software).map_err(|error| format!("only the CPU takes it: {error}"))?;
    let expected = cpu.run(&inputs);
    let found = device.run(&inputs);
    if let [notice, ..] = &device.take_notices()[..] {
        return Err(format!("the device gave up: {notice}"));
    }
    match (found, expected) {
        (Ok(found), Ok(expected)) => {
            for ((found, expected), info) in found.iter().zip(&expected).zip(cpu.outputs()) {
                alike(found, expected).map_err(|what| format!("{info}: {what}"))?;
            }
            Ok(true)
        }
        (Err(_), Err(_)) => Ok(false),
        (Ok(_), Err(error)) => Err(format!("only the CPU fails: {error}")),
        (Err(error), Ok(_)) => Err(format!("only the device fails: {error}")),
    }
}

fn session(model: &Model, device: Device) -> Result<Session, InferError> {
    let options = SessionOptions { device, memory_limit: MEMORY_LIMIT, max_batch: 2, ..SessionOptions::default() };
    Session::new(model, &options)
}

/// Three entries where the batch is open, so that one batch is full and one is not.
fn inputs(session: &Session) -> Option<Vec<Tensor>> {
    let input = |info: &nv_infer::TensorInfo| {
        let dims = info.shape.iter().flatten().enumerate();
        let sizes: Vec<usize> = dims.map(|(i, d)| d.fixed().unwrap_or(if i == 0 { 3 } else { 6 })).collect();
        let n = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= MAX_GIVEN)?;
        Tensor::new(sizes, (0..n).map(|i| 3.0 * (i as f32 * 0.37).sin()).collect()).ok()
    };
    session.inputs().iter().map(input).collect()
}

fn alike(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if found.shape() != expected.shape() {
        return Err(format!("the shape {:?} for {:?}", found.shape(), expected.shape()));
    }
    let all = || found.data().iter().zip(expected.data());
    if all().any(|(a, b)| !a.is_finite() || !b.is_finite()) {
        return Ok(());
    }
    let largest = expected.data().iter().fold(1.0, |most: f32, v| most.max(v.abs()));
    match all().position(|(a, b)| (a - b).abs() > TOLERANCE * largest) {
        Some(i) if largest < LARGE => Err(format!("[{i}] is {} for {}", found.data()[i], expected.data()[i])),
        _ => Ok(()),
    }
}
