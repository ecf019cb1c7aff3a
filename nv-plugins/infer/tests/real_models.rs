//! Real model files: they load, run and describe themselves; cut short or changed, they are refused without a panic.

use std::path::PathBuf;

use nv_core::Tensor;
use nv_infer::{Dim, InferErrorKind, Model, Session, SessionOptions};

/// The folder of test models, or `None` after saying that `test` is skipped.
fn models(test: &str) -> Option<PathBuf> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let assets =
        std::env::var_os("NV_ASSETS").map_or_else(|| PathBuf::from(workspace).join("../shared/assets"), PathBuf::from);
    let models = assets.join("models");
    if !models.is_dir() {
        announce(&format!("skipped: {test}: no assets at {}", assets.display()));
        return None;
    }
    Some(models)
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn announce(text: &str) {
    println!("{text}");
}

#[test]
fn every_model_runs_on_zeros_and_gives_what_it_declares() {
    let Some(folder) = models("every_model_runs_on_zeros_and_gives_what_it_declares") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "onnx")) {
        let model = Model::load(file).unwrap();
        let session = Session::new(&model, &SessionOptions::default()).unwrap();
        let inputs: Vec<_> = session
            .inputs()
            .iter()
            .map(|input| {
                let dims = input.shape.as_ref().expect("these models declare their inputs' shapes");
                let sizes = dims.iter().enumerate().map(|(i, d)| d.fixed().unwrap_or(if i == 0 { 1 } else { 64 }));
                Tensor::zeros(sizes.collect::<Vec<_>>())
            })
            .collect();
        let outputs = session.run(&inputs).unwrap();
        assert_eq!(outputs.len(), model.outputs().len());
        for (output, info) in outputs.iter().zip(model.outputs()) {
            let declared = info.shape.as_ref().expect("these models declare their outputs' shapes");
            assert_eq!(output.shape().len(), declared.len(), "{}: {info}", file.display());
            for (n, dim) in output.shape().iter().zip(declared) {
                assert!(dim.fixed().is_none_or(|d| d == *n), "{}: {info}: {:?}", file.display(), output.shape());
            }
        }
        assert!(model.describe().parameters > 1000);
    }
}

#[test]
fn an_open_batch_gives_each_entry_its_own_result() {
    let Some(folder) = models("an_open_batch_gives_each_entry_its_own_result") else { return };
    let model = Model::load(folder.join("yunet_s_dynamic.onnx")).unwrap();
    assert!(matches!(model.inputs()[0].shape.as_deref(), Some([Dim::Symbolic(_), ..])));
    let session = Session::new(&model, &SessionOptions::default()).unwrap();
    let data: Vec<f32> = (0..3 * 3 * 64 * 96).map(|i| (i % 251) as f32).collect();
    let batch = Tensor::new([3, 3, 64, 96], data).unwrap();
    let all = session.run(std::slice::from_ref(&batch)).unwrap();
    for i in 0..3 {
        let single = Tensor::new([1, 3, 64, 96], batch.outer(i).unwrap().to_vec()).unwrap();
        for (all, one) in all.iter().zip(session.run(&[single]).unwrap()) {
            assert_eq!(all.outer(i).unwrap(), one.data());
        }
    }
}

#[test]
fn cut_or_changed_files_never_panic() {
    let Some(folder) = models("cut_or_changed_files_never_panic") else { return };
    let whole = std::fs::read(folder.join("yunet_s_dynamic.onnx")).unwrap();
    for end in (0..whole.len()).step_by(whole.len() / 97) {
        let error = Model::from_bytes("cut.onnx", &whole[..end]).expect_err("a cut file is refused");
        let kinds = [InferErrorKind::NotOnnx, InferErrorKind::Damaged];
        assert!(kinds.contains(&error.kind()), "{end}: {error}");
    }
    for start in (0..whole.len()).step_by(whole.len() / 61) {
        let mut changed = whole.clone();
        for (i, byte) in changed[start..].iter_mut().take(24).enumerate() {
            *byte = byte.wrapping_mul(37).wrapping_add((start + i) as u8);
        }
        if let Ok(model) = Model::from_bytes("changed.onnx", changed)
            && let Ok(session) = Session::new(&model, &SessionOptions::default())
        {
            // Weights that changed give other numbers, nothing more.
            let _ = session.run(&[Tensor::zeros([1, 3, 32, 32])]);
        }
    }
}
