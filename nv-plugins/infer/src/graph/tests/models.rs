//! Real files: what is fused in them, what they cost, and that the fused graphs compute what the files do.

use std::path::PathBuf;

use super::*;
use crate::GraphOptions;

/// A model by its file's name, or `None` after saying that `test` is skipped without it.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn load(test: &str, file: &str) -> Option<Model> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let assets =
        std::env::var_os("NV_ASSETS").map_or_else(|| PathBuf::from(workspace).join("../shared/assets"), PathBuf::from);
    let path = assets.join("models").join(file);
    if !path.is_file() {
        println!("skipped: {test}: no {}", path.display());
        return None;
    }
    Some(Model::load(path).unwrap())
}

#[test]
fn real_models_cost_what_their_papers_say_and_their_batch_is_free() {
    let check = |file: &str, conv_mmacs: Option<f64>, batch: Option<&str>, nodes: (usize, usize)| {
        let Some(model) = load("real_models_cost_what_their_papers_say_and_their_batch_is_free", file) else { return };
        let mut options = GraphOptions::default();
        options.sizes.extend([("height".to_owned(), 320), ("width".to_owned(), 320)]);
        let report = model.analyse(&options).unwrap();
        assert_eq!(report.problem, None, "{file}");
        assert_eq!(report.batch.as_deref(), batch, "{file}: {:?}", report.batch_fixed);
        assert_eq!(report.lacking, [], "{file}");
        if let Some(expected) = conv_mmacs {
            let found = report.cost.as_ref().unwrap().conv_macs as f64 / 1e6;
            assert!((found - expected).abs() < 0.06, "{file}: {found} MMAC, not {expected}");
        }
        let fused = report.fused.as_ref().unwrap();
        assert_eq!((report.file.nodes, fused.nodes), nodes, "{file}\n{report}");
        let memory = report.memory.as_ref().unwrap();
        assert!(memory.reused * 2 < memory.without_reuse, "{file}: {memory:?}");
    };
    check("yolox_nano_coco_416.onnx", Some(522.6), Some("N"), (369, 140));
    check("ultraface_rfb_320.onnx", Some(100.4), Some("N"), (211, 90));
    check("fastestdet_coco_352.onnx", Some(121.5), Some("N"), (211, 135));
    check("yunet_s_dynamic.onnx", Some(86.1), Some("batch"), (154, 91));
    check("person-reidentification-retail-0248.onnx", Some(82.3), Some("N"), (426, 296));
}

#[test]
fn real_models_compute_the_same_when_fused_and_batched() {
    for file in [
        "yolox_nano_coco_416.onnx",
        "ultraface_rfb_320.onnx",
        "fastestdet_coco_352.onnx",
        "yunet_s_dynamic.onnx",
        "person-reidentification-retail-0248.onnx",
    ] {
        if let Some(model) = load("real_models_compute_the_same_when_fused_and_batched", file) {
            // rten computes in 32 bits, over a hundred layers, and approximates exp; the reference has 64.
            fused(&model, 2, 1e-3);
        }
    }
}
