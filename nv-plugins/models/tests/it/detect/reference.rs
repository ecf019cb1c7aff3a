//! Detections made from a model's outputs against those made from what onnxruntime gives for the same input.

use std::path::{Path, PathBuf};

use nv_infer::{Device, Dim, InferErrorKind, Model, Session, SessionOptions, testing};
use nv_models::{Detect, DetectConfig};
use nv_plugin_sdk::serde_json::{self, Value};
use nv_plugin_sdk::{BatchProcessor, BuildContext, Frame, FrameHeader, FramePool, FromConfig, PixelFormat, Size};

use crate::{World, assets, run, skipped};

/// The detectors, each with what its input was divided by and what was added to that to make pixels, and whether the first
/// channel is red.
const DETECTORS: [(&str, f32, f32, bool); 4] = [
    ("fastestdet_coco_352", 255.0, 0.0, false),
    ("ultraface_rfb_320", 128.0, 127.0, true),
    ("yolox_nano_coco_416", 1.0, 0.0, false),
    ("yunet_s_dynamic", 1.0, 0.0, false),
];

/// Detections below are left out: one that differs in the last digit may fall on either side of it.
const THRESHOLD: f32 = 0.3;

#[test]
fn detections_are_those_of_onnxruntimes_outputs() {
    let test = "detections_are_those_of_onnxruntimes_outputs";
    let Some(assets) = assets(test) else { return };
    let Some(folder) = reference_outputs(test) else { return };
    let list: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    for (name, deviation, mean, is_rgb) in DETECTORS {
        let file = assets.join(format!("models/{name}.onnx"));
        let cases: Vec<_> = list["cases"].as_array().unwrap().iter().filter(|case| case["model"] == name).collect();
        let case = cases.iter().find(|case| case["content"] == "picture").expect("a picture for each model");
        let (shape, input) = tensor(&folder, &case["input"]);
        let pixels: Vec<u8> = input.iter().map(|v| (v * deviation + mean).round() as u8).collect();
        let frame = frame([shape[3], shape[2]], &pixels, is_rgb);
        let reference = World::new(answering(&folder, case, &shape));
        let config = |model: &str, device: Device| {
            // Whatever the families leave to the input's shape is the same for both.
            DetectConfig { device, threshold: THRESHOLD, ..DetectConfig::new(model) }
        };
        let expected = run(&mut reference.detect(config("m.onnx", Device::Cpu)).unwrap(), std::slice::from_ref(&frame));
        let expected = expected[0].objects.as_ref().unwrap();
        assert!(!expected.is_empty(), "{name}: there is something in the picture");
        for device in devices(test, &file) {
            let model = file.to_str().expect("a path in Unicode");
            let mut detect = Detect::from_config(config(model, device), &BuildContext::new(&assets)).unwrap();
            detect.start().unwrap();
            let found = run(&mut detect, std::slice::from_ref(&frame)).remove(0).objects.unwrap();
            assert_eq!(found.len(), expected.len(), "{name} on {device}: {found:#?} for {expected:#?}");
            for e in expected {
                let alike = found.iter().filter(|f| f.class_id == e.class_id && (f.score - e.score).abs() < 1e-3);
                let iou = alike.map(|f| f.bbox.iou(&e.bbox)).fold(0.0, f32::max);
                assert!(iou >= 0.999, "{name} on {device}: {e:?} among {found:#?}");
            }
        }
    }
}

/// The folder with what onnxruntime gives, as `cargo xtask test` makes it; `None` after saying that `test` is skipped.
fn reference_outputs(test: &str) -> Option<PathBuf> {
    let variable = "NV_REFERENCE_OUTPUTS";
    let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
        let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
        assert!(!ci, "{variable} is not set: `cargo xtask test` makes the outputs and sets it");
        skipped(test, &format!("no {variable} (`cargo xtask test` sets it)"));
        return None;
    };
    let shown = folder.display();
    assert!(folder.is_dir(), "{variable} names {shown}, which is no folder: `cargo xtask test --only setup` fills it");
    Some(folder)
}

/// The devices that are here.
fn devices(test: &str, file: &Path) -> Vec<Device> {
    let model = Model::load(file).unwrap();
    let is_here = |device: &Device| {
        let options = SessionOptions { device: *device, ..SessionOptions::default() };
        match Session::new(&model, &options) {
            Err(error) if error.kind() == InferErrorKind::NoDevice => {
                skipped(test, &format!("on {device}: {error}"));
                false
            }
            _ => true,
        }
    };
    [Device::Cpu, Device::Software].into_iter().filter(is_here).collect()
}

/// A model that answers with the case's outputs whatever it is given.
fn answering(folder: &Path, case: &Value, input: &[usize]) -> Vec<u8> {
    let outputs: Vec<_> = case["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| {
            let (shape, data) = tensor(folder, output);
            let shape: Vec<i64> = shape.into_iter().map(|n| n as i64).collect();
            (output["name"].as_str().unwrap(), shape, data)
        })
        .collect();
    let outputs: Vec<_> = outputs.iter().map(|(name, shape, data)| (*name, &shape[..], &data[..])).collect();
    let dims: Vec<Dim> = input.iter().map(|&n| n.into()).collect();
    testing::constant_model(&dims, &outputs)
}

fn tensor(folder: &Path, entry: &Value) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(folder.join(entry["file"].as_str().unwrap())).unwrap();
    let shape = entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    (shape, bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// A picture of which there are the planes of the channels.
fn frame([width, height]: [usize; 2], planes: &[u8], is_rgb: bool) -> Frame {
    let header = FrameHeader::new(Size::new(width as u32, height as u32), PixelFormat::Rgb8);
    let mut buffer = FramePool::new(0).take(header).unwrap();
    for (i, pixel) in buffer.plane_mut(0).chunks_exact_mut(3).enumerate() {
        for (channel, value) in pixel.iter_mut().enumerate() {
            let plane = if is_rgb { channel } else { 2 - channel };
            *value = planes[plane * width * height + i];
        }
    }
    buffer.freeze()
}
