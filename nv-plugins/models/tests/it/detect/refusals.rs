//! What is refused before any frame, and in which words.

use nv_infer::testing::{OnnxBuilder, classifier, constant_model};
use nv_models::{DetectConfig, Labels, ResizeMode};
use nv_plugin_sdk::{BatchProcessor, StageErrorKind};

use super::config;
use crate::{World, entry, plain_frame, run};

/// A YOLOX model of `classes` classes for pictures of 32×32 that finds nothing.
fn yolox(classes: usize) -> Vec<u8> {
    let width = 5 + classes;
    let input = [1.into(), 3.into(), 32.into(), 32.into()];
    constant_model(&input, &[("output", &[1, 21, width as i64], &vec![0.0; 21 * width])])
}

#[track_caller]
fn check(world: &World, config: DetectConfig, kind: StageErrorKind, texts: &[&str]) {
    let error = world.detect(config).err().expect("it is refused");
    assert_eq!(error.kind(), kind, "{error}");
    for text in texts {
        assert!(error.to_string().contains(text), "{text:?} in: {error}");
    }
}

#[test]
fn files_that_are_no_model() {
    let world = World::new(yolox(80));
    let whole = yolox(80);
    world.write("text.onnx", "not a model\n");
    std::fs::write(world.folder.path().join("empty.onnx"), b"").unwrap();
    std::fs::write(world.folder.path().join("cut.onnx"), &whole[..whole.len() / 2]).unwrap();
    let refused = |file: &str, text: &str| {
        check(&world, DetectConfig::new(file), StageErrorKind::Resource, &[file, text]);
    };
    refused("missing.onnx", "no such file");
    refused("text.onnx", "is not an ONNX model: it is a text");
    refused("empty.onnx", "it is empty");
    refused("cut.onnx", "is a damaged ONNX model");
}

#[test]
fn models_of_another_task() {
    check(
        &World::new(classifier(32, 10)),
        config(),
        StageErrorKind::Resource,
        &[
            "m.onnx",
            "it has scores 1×10",
            "yolox (one output of cells×(5 + classes)",
            "centerface",
            "a classifier is for the kind classify",
        ],
    );
    // A network that looks at something else than a colour picture.
    let series = constant_model(&[1.into(), 64.into()], &[("y", &[1, 2], &[0.0, 0.0])]);
    check(&World::new(series), config(), StageErrorKind::Resource, &["this model's is input 1×64"]);
    let two = OnnxBuilder::new()
        .input("a", &[1.into(), 3.into(), 8.into(), 8.into()])
        .input("b", &[1.into()])
        .node("Identity", &["a"], &["y"])
        .output("y", &[1.into(), 3.into(), 8.into(), 8.into()])
        .build();
    check(&World::new(two), config(), StageErrorKind::Resource, &["has 2: a 1×3×8×8, b 1"]);
}

#[test]
fn models_that_may_be_of_several_families() {
    let vague = OnnxBuilder::new()
        .input("x", &[1.into(), 3.into(), "h".into(), "w".into()])
        .node("Relu", &["x"], &["y"])
        .output_of_any_shape("y")
        .build();
    let world = World::new(vague);
    check(
        &world,
        config(),
        StageErrorKind::Resource,
        &["(y ?) may be those of yolox, yolov5, yolov8, nanodet, fastestdet", "say which with the key family"],
    );
    // Told which, it is tried, and its answer does not fit.
    let told = DetectConfig { family: Some("yolox".into()), input_size: Some([32, 32]), ..config() };
    check(
        &world,
        told,
        StageErrorKind::Resource,
        &["does not answer as yolox does: output \"y\" has the shape 1×3×32×32, 1×21×32 is needed"],
    );
}

#[test]
fn answers_that_fit_one_size_alone() {
    // Of 64×64, in which it is tried.
    let input = [1.into(), 3.into(), "h".into(), "w".into()];
    let maps = [("heat", 1), ("sizes", 2), ("offsets", 2), ("points", 10)];
    let shapes = maps.map(|(_, channels)| [1, channels, 16, 16]);
    let zeros = [0.0; 10 * 256];
    let outputs: Vec<_> =
        maps.iter().zip(&shapes).map(|((name, n), shape)| (*name, &shape[..], &zeros[..*n as usize * 256])).collect();
    let mut detect = World::new(constant_model(&input, &outputs)).detect(config()).unwrap();
    assert_eq!(run(&mut detect, &[plain_frame((60, 50), 0)])[0].objects, Some(Vec::new()));
    let error = detect.process(&mut [entry(plain_frame((90, 40), 0))]).unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Fatal);
    let text = "does not answer as centerface does: output \"heat\" has the shape 1×1×16×16, 1×1×16×24 is needed";
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn families_by_name() {
    let world = World::new(yolox(80));
    let named = |name: &str| DetectConfig { family: Some(name.into()), ..config() };
    check(&world, named("yolo99"), StageErrorKind::Config, &["no family \"yolo99\"", "yolox, yolov5, yolov8"]);
    check(&world, named("yunet"), StageErrorKind::Resource, &["(output 1×21×85) are not those of yunet"]);
    assert!(world.detect(named("yolox")).is_ok());
}

#[test]
fn labels_and_classes_that_do_not_fit() {
    let world = World::new(yolox(2));
    let list = |names: &[&str]| Some(Labels::List(names.iter().map(|&n| n.into()).collect()));
    let labels = |labels: Option<Labels>| DetectConfig { labels, ..config() };
    check(
        &world,
        labels(list(&["a"])),
        StageErrorKind::Config,
        &["labels by config are 1 names", "tells 2 classes apart"],
    );
    check(&world, labels(Some(Labels::Named("none.txt".into()))), StageErrorKind::Resource, &["none.txt"]);
    let classes = |classes: &str| DetectConfig { classes: vec![classes.into()], ..labels(list(&["cat", "dog"])) };
    check(&world, classes("dgo"), StageErrorKind::Config, &["no class \"dgo\"; did you mean \"dog\"?"]);
    assert!(world.detect(classes("dog")).is_ok());
    // Two classes are not COCO's 80, so nobody knows their names.
    let nameless = DetectConfig { classes: vec!["dog".into()], ..config() };
    check(&world, nameless, StageErrorKind::Config, &["give labels too"]);
}

#[test]
fn sizes_that_do_not_fit() {
    let world = World::new(yolox(80));
    let size = |size| DetectConfig { input_size: Some(size), ..config() };
    check(&world, size([64, 64]), StageErrorKind::Config, &["input_size is 64×64 by config", "nothing but 32×32"]);
    let pad = DetectConfig { resize: Some(ResizeMode::PadToMultiple), ..config() };
    check(&world, pad, StageErrorKind::Config, &["this one is 32×32: use letterbox or stretch"]);

    let open = [1.into(), 3.into(), "h".into(), "w".into()];
    let open = World::new(constant_model(&open, &[("output", &[1, 21, 85], &[0.0; 21 * 85])]));
    check(&open, config(), StageErrorKind::Config, &["takes pictures of any size: set the key input_size"]);
    check(&open, size([33, 32]), StageErrorKind::Config, &["yolox takes multiples of 32"]);
    assert!(open.detect(size([32, 32])).is_ok());
    check(
        &open,
        size([64, 64]),
        StageErrorKind::Resource,
        &["(output 1×21×85) are not those of yolox for an input of 64×64"],
    );
}

#[test]
fn numbers_that_make_no_sense() {
    let world = World::new(yolox(80));
    let scale = DetectConfig { scale: Some(0.0), ..config() };
    check(&world, scale, StageErrorKind::Config, &["scale and std must not be 0"]);
    let iou = DetectConfig { nms_iou: Some(2.0), ..config() };
    check(&world, iou, StageErrorKind::Config, &["nms_iou is 2, and must be from 0 to 1"]);
}

/// What a session says of a device that is not there is told as that. Which are there is the machine's: the end-to-end tests of
/// the command see to it that none is.
#[test]
fn devices_that_are_not_there() {
    let world = World::new(yolox(80));
    for device in [nv_infer::Device::Gpu, nv_infer::Device::Software] {
        let model = nv_infer::Model::from_bytes("m.onnx", yolox(80)).unwrap();
        let options = nv_infer::SessionOptions { device, ..nv_infer::SessionOptions::default() };
        let demanded = DetectConfig { device, ..config() };
        match nv_infer::Session::new(&model, &options) {
            Ok(_) => assert!(world.start::<nv_models::Detect>(demanded).is_ok(), "{device} is there"),
            Err(_) => check(&world, demanded, StageErrorKind::NoDevice, &["was demanded, but", "auto or cpu"]),
        }
    }
}

#[test]
fn operators_that_nobody_computes() {
    let model = OnnxBuilder::new()
        .input("x", &[1.into(), 3.into(), 32.into(), 32.into()])
        .node("Frobnicate", &["x"], &["y"])
        .output("y", &[1.into(), 21.into(), 85.into()])
        .build();
    check(&World::new(model), config(), StageErrorKind::Resource, &["m.onnx", "operator Frobnicate"]);
}
