//! What is found, where, and under which name, on models whose answers are known.

use std::sync::Arc;

use nv_infer::testing::{OnnxBuilder, constant_model};
use nv_models::{Detect, DetectConfig, Labels};
use nv_plugin_sdk::{
    BBox, BatchEntry, BatchProcessor, DataKind, Frame, FrameError, FrameHeader, FrameMemory, HostView, MemoryKind,
    Object, ObjectId, Perception, PixelFormat, Region, Size, StageErrorKind, StageOutput,
};

use super::config;
use crate::{World, entry, plain_frame, run};

/// A YOLOX model of two classes for pictures of 32×32 that always answers the same: a cell's number, and its box, objectness
/// and class scores.
fn yolox(found: &[(usize, [f32; 7])]) -> World {
    let mut output = vec![0.0; 21 * 7];
    for (cell, values) in found {
        output[cell * 7..][..7].copy_from_slice(values);
    }
    let input = [1.into(), 3.into(), 32.into(), 32.into()];
    World::new(constant_model(&input, &[("output", &[1, 21, 7], &output)]))
}

/// A box of 8×8 around the centre of cell 5 (row 1, column 1 of stride 8), in a picture of 32×32: 8 to 16.
const CELL_5: (usize, [f32; 7]) = (5, [0.5, 0.5, 0.0, 0.0, 1.0, 0.0, 0.9]);

fn named() -> DetectConfig {
    DetectConfig { labels: Some(Labels::List(vec!["cat".into(), "dog".into()])), ..config() }
}

fn objects(output: &StageOutput) -> &[Object] {
    output.objects.as_deref().expect("it looked")
}

#[test]
fn boxes_are_in_pixels_of_the_frame() {
    let mut detect = yolox(&[CELL_5]).detect(named()).unwrap();
    for (size, expected) in [((32, 32), [8.0, 8.0, 16.0, 16.0]), ((640, 320), [160.0, 160.0, 320.0, 320.0])] {
        let output = run(&mut detect, &[plain_frame(size, 9)]).remove(0);
        let [dog] = objects(&output) else { panic!("one: {output:?}") };
        assert_eq!((dog.id, dog.parent, dog.class_id, dog.class.as_deref()), (ObjectId(0), None, 1, Some("dog")));
        assert_eq!((dog.score, dog.bbox), (0.9, BBox::from(expected)));
    }
}

#[test]
fn nothing_found_is_not_the_same_as_not_looked() {
    let mut detect = yolox(&[]).detect(named()).unwrap();
    assert_eq!(run(&mut detect, &[plain_frame((40, 30), 0)])[0].objects, Some(Vec::new()));
}

#[test]
fn boxes_are_clipped_and_empty_ones_left_out() {
    let beyond = (20, [0.0, 0.0, 3.0, 0.0, 1.0, 0.9, 0.0]);
    let outside = (0, [-9.0, 0.0, 0.0, 0.0, 1.0, 0.8, 0.0]);
    let mut detect = yolox(&[beyond, outside]).detect(named()).unwrap();
    let output = run(&mut detect, &[plain_frame((32, 32), 0)]).remove(0);
    let boxes: Vec<_> = objects(&output).iter().map(|o| o.bbox).collect();
    assert_eq!(boxes, [BBox::new(0.0, 0.0, 32.0, 16.0)]);
}

#[test]
fn thresholds_classes_and_limits() {
    let found = [
        (0, [0.5, 0.5, 0.0, 0.0, 1.0, 0.9, 0.1]),
        (3, [0.5, 0.5, 0.0, 0.0, 1.0, 0.1, 0.6]),
        (9, [0.5, 0.5, 0.0, 0.0, 1.0, 0.3, 0.2]),
    ];
    let world = yolox(&found);
    let scores = |config: DetectConfig| {
        let output = run(&mut world.detect(config).unwrap(), &[plain_frame((32, 32), 0)]).remove(0);
        objects(&output).iter().map(|o| (o.id.0, o.class_id, o.score)).collect::<Vec<_>>()
    };
    assert_eq!(scores(named()), [(0, 0, 0.9), (1, 1, 0.6), (2, 0, 0.3)], "the best first");
    assert_eq!(scores(DetectConfig { threshold: 0.5, ..named() }), [(0, 0, 0.9), (1, 1, 0.6)]);
    assert_eq!(scores(DetectConfig { classes: vec!["dog".into()], ..named() }), [(0, 1, 0.6)]);
    assert_eq!(scores(DetectConfig { max_detections: 1, ..named() }), [(0, 0, 0.9)]);
}

#[test]
fn a_region_is_looked_at_alone_and_found_in_the_frame() {
    let mut detect = yolox(&[CELL_5]).detect(named()).unwrap();
    let mut before = Perception::default();
    let car = Object {
        id: ObjectId(0),
        parent: None,
        source: "d".into(),
        class_id: 0,
        class: None,
        score: 1.0,
        bbox: BBox::new(100.0, 50.0, 164.0, 114.0),
    };
    let region = Region { object: car.id, bbox: car.bbox };
    before.merge(&"d".into(), ObjectId(0), StageOutput { objects: Some(vec![car]), ..StageOutput::default() });
    let frame = plain_frame((640, 480), 0);
    let mut batch = [BatchEntry::new("gate".into(), 0, frame, Some(region), Arc::new(before))];
    detect.process(&mut batch).unwrap();
    let output = batch[0].take_result().unwrap();
    let [found] = objects(&output) else { panic!("one: {output:?}") };
    assert_eq!((found.id, found.parent), (ObjectId(1), Some(ObjectId(0))));
    assert_eq!(found.bbox, BBox::new(116.0, 66.0, 132.0, 82.0));
}

#[test]
fn nothing_is_found_beyond_the_region() {
    // One reaches beyond the region's left edge, one lies in the padding below its picture.
    let wide = (5, [0.5, 0.5, 1.2, 0.0, 1.0, 0.9, 0.0]);
    let in_padding = (15, [0.5, 0.5, 0.0, 0.0, 1.0, 0.8, 0.0]);
    let mut detect = yolox(&[wide, in_padding]).detect(named()).unwrap();
    let region = Region { object: ObjectId(0), bbox: BBox::new(100.0, 50.0, 164.0, 82.0) };
    let frame = plain_frame((640, 480), 0);
    let mut batch = [BatchEntry::new("gate".into(), 0, frame, Some(region), Arc::new(Perception::default()))];
    detect.process(&mut batch).unwrap();
    let output = batch[0].take_result().unwrap();
    let [found] = objects(&output) else { panic!("one: {output:?}") };
    // The network's input has half as many pixels: 12 ± 13 there is -2 to 50 here, and the region begins at 0.
    assert_eq!((found.bbox.x1, found.bbox.y1, found.bbox.y2), (100.0, 66.0, 82.0));
    assert!((found.bbox.x2 - 150.56).abs() < 0.1, "{found:?}");
}

#[test]
fn an_entry_that_can_not_be_read_fails_alone() {
    struct OnDevice;
    impl FrameMemory for OnDevice {
        fn kind(&self) -> MemoryKind {
            MemoryKind::Device
        }
        fn host(&self) -> Result<HostView<'_>, FrameError> {
            Err(FrameError::NotOnHost(MemoryKind::Device))
        }
    }
    let mut detect = yolox(&[CELL_5]).detect(named()).unwrap();
    let header = FrameHeader::new(Size::new(32, 32), PixelFormat::Nv12);
    let unreadable = Frame::new(header, Arc::new(OnDevice)).unwrap();
    let region = Region { object: ObjectId(0), bbox: BBox::new(90.0, 0.0, 99.0, 9.0) };
    let outside =
        BatchEntry::new("gate".into(), 0, plain_frame((32, 32), 0), Some(region), Arc::new(Perception::default()));
    let mut batch = [entry(plain_frame((32, 32), 0)), entry(unreadable), outside, entry(plain_frame((64, 64), 0))];
    detect.process(&mut batch).unwrap();
    let results: Vec<_> = batch.iter_mut().map(BatchEntry::take_result).collect();
    for (i, text) in [(1, "Device"), (2, "outside the frame of 32×32")] {
        let error = results[i].as_ref().unwrap_err();
        assert_eq!(error.kind(), StageErrorKind::Input);
        assert!(error.to_string().contains(text), "{error}");
    }
    for i in [0, 3] {
        assert_eq!(objects(results[i].as_ref().unwrap()).len(), 1, "entry {i}");
    }
}

#[test]
fn a_model_of_a_fixed_batch_gives_each_entry_its_own() {
    // Every value of every cell is a sum over the picture's mean colour, so the score tells the picture.
    let weights: Vec<f32> =
        (0..3 * 21 * 6).map(|i| if (i % 6) >= 4 && i % 126 < 6 { 1.0 / 3.0 } else { 0.0 }).collect();
    let model = OnnxBuilder::new()
        .input("x", &[2.into(), 3.into(), 32.into(), 32.into()])
        .initializer("w", &[3, 126], &weights)
        .integers("shape", &[2, 21, 6])
        .node("GlobalAveragePool", &["x"], &["p"])
        .node("Flatten", &["p"], &["f"])
        .node("MatMul", &["f", "w"], &["m"])
        .node("Reshape", &["m", "shape"], &["y"])
        .output("y", &[2.into(), 21.into(), 6.into()])
        .build();
    let world = World::new(model);
    let config = DetectConfig { scale: Some(1.0 / 255.0), ..config() };
    let mut detect = world.detect(config.clone()).unwrap();
    assert_eq!(detect.capabilities().preferred_batch, Some(2));
    let frames: Vec<_> = [250, 100, 180, 220, 240].map(|v| plain_frame((32, 32), v)).to_vec();
    let together = run(&mut detect, &frames);
    for (frame, together) in frames.iter().zip(&together) {
        let [alone] = &run(&mut world.detect(config.clone()).unwrap(), std::slice::from_ref(frame))[..] else {
            panic!("one entry, one result");
        };
        assert_eq!(alone, together);
    }
    let scores: Vec<_> = together.iter().map(|o| (objects(o)[0].score * 100.0).round()).collect();
    assert_eq!(scores, [96.0, 15.0, 50.0, 74.0, 89.0]);
}

#[test]
fn a_file_beside_the_model_speaks_for_it_unless_config_does() {
    let world = yolox(&[CELL_5]);
    world.write("m.toml", "labels = ['bolt', 'nut']\nnms_iou = 0.6");
    let class = |config: DetectConfig| {
        let output = run(&mut world.detect(config).unwrap(), &[plain_frame((32, 32), 0)]).remove(0);
        objects(&output)[0].class.clone().unwrap().to_string()
    };
    assert_eq!(class(config()), "nut");
    assert_eq!(class(named()), "dog");
}

#[test]
fn capabilities_say_what_it_is() {
    let detect: Detect = yolox(&[]).detect(named()).unwrap();
    let capabilities = detect.capabilities();
    assert_eq!(capabilities.step.produces, [DataKind::Objects]);
    assert!(capabilities.step.consumes.is_empty() && capabilities.step.host_pixels);
    assert!(capabilities.idempotent);
    assert_eq!((capabilities.preferred_batch, capabilities.max_batch), (Some(1), None));
}
