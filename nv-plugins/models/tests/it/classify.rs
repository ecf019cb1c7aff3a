//! The kind `classify`.

use nv_infer::testing::{OnnxBuilder, classifier, constant_model};
use nv_models::{Activation, Classify, ClassifyConfig, Labels};
use nv_plugin_sdk::{
    BatchEntry, BatchProcessor, DataKind, Frame, FrameHeader, FramePool, PixelFormat, Size, StageErrorKind,
    StageOutput, Value,
};

use crate::{World, entry, plain_frame, run, run_regions};

/// A network whose values are the means of red, green and blue, ten times, from planes or pixel by pixel, and then `last`.
fn colours(interleaved: bool, last: Option<&str>) -> World {
    let shape: [usize; 4] = if interleaved { [1, 8, 16, 3] } else { [1, 3, 8, 16] };
    let ten = [10.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0];
    let mut builder = OnnxBuilder::new()
        .input("picture", &shape.map(Into::into))
        .initializer("ten", &[3, 3], &ten)
        .node("Transpose", &["picture"], &["planes"])
        .attribute_list("perm", if interleaved { &[0, 3, 1, 2] } else { &[0, 1, 2, 3] })
        .node("GlobalAveragePool", &["planes"], &["means"])
        .node("Flatten", &["means"], &["flat"])
        .node("MatMul", &["flat", "ten"], &["values"]);
    if let Some(last) = last {
        builder = builder.node(last, &["values"], &["scores"]);
    }
    World::new(builder.output(if last.is_some() { "scores" } else { "values" }, &[1.into(), 3.into()]).build())
}

fn config() -> ClassifyConfig {
    ClassifyConfig {
        labels: Some(Labels::List(["red", "green", "blue"].map(String::from).to_vec())),
        attribute: "colour".into(),
        // Values of 0 to 10.
        scale: Some(1.0 / 255.0),
        mean: Some(nv_models::PerChannel::One(0.0)),
        std: Some(nv_models::PerChannel::One(1.0)),
        ..ClassifyConfig::new("m.onnx")
    }
}

/// A picture whose left half is red and whose right half is of this blue.
fn halves(blue: u8) -> Frame {
    let mut buffer = FramePool::new(0).take(FrameHeader::new(Size::new(64, 32), PixelFormat::Rgb8)).unwrap();
    for (i, pixel) in buffer.plane_mut(0).chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&if i % 64 < 32 { [255, 0, 0] } else { [0, 0, blue] });
    }
    buffer.freeze()
}

/// Name and value of everything that is said of the object.
fn said(output: &StageOutput, object: u32) -> Vec<(String, Value)> {
    assert!(output.attributes.iter().all(|a| a.object.0 == object), "{output:?}");
    output.attributes.iter().map(|a| (a.name.to_string(), a.value.clone())).collect()
}

fn pair(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.into(), value.into())
}

#[test]
fn an_object_is_told_by_its_part_of_the_picture() {
    let (left, right) = ([0.0, 0.0, 32.0, 32.0], [32.0, 0.0, 64.0, 32.0]);
    for interleaved in [false, true] {
        for last in [None, Some("Softmax")] {
            let mut classify: Classify = colours(interleaved, last).start(config()).unwrap();
            let found = run_regions(&mut classify, &halves(255), &[left, right]);
            // Of 10, 0 and 0: 1 / (1 + 2·e^−10).
            assert_eq!(said(&found[0], 0), [pair("colour", "red"), pair("colour_score", 0.9999)], "{last:?}");
            assert_eq!(said(&found[1], 1), [pair("colour", "blue"), pair("colour_score", 0.9999)], "{last:?}");
            assert!(found.iter().all(|o| o.objects.is_none() && o.scene.is_empty() && o.signals.is_empty()));
        }
    }
}

#[test]
fn a_whole_picture_has_scene_features_and_a_signal() {
    let mut classify: Classify = colours(false, None).start(ClassifyConfig { top: 2, ..config() }).unwrap();
    let found = run(&mut classify, &[halves(51)]).remove(0);
    // Means of 0.5 and 0.1: values of 5, 0 and 1.
    let sum = 5f64.exp() + 1.0 + 1f64.exp();
    let score = |value: f64| (value.exp() / sum * 1e4).round() / 1e4;
    let scene: Vec<_> = found.scene.iter().map(|f| (f.name.to_string(), f.value.clone())).collect();
    let expected = [
        pair("colour", "red"),
        pair("colour_score", score(5.0)),
        pair("colour_2", "blue"),
        pair("colour_2_score", score(1.0)),
    ];
    assert_eq!(scene, expected);
    let [signal] = &found.signals[..] else { panic!("one signal: {found:?}") };
    assert_eq!((signal.name.as_str(), &signal.value, signal.object), ("colour", &Value::from("red"), None));
    assert!(found.attributes.is_empty());
    assert_eq!(classify.capabilities().step.produces, [DataKind::Signal("colour".into())]);
}

#[test]
fn classes_that_are_not_sure_enough_are_left_out() {
    let said = |threshold: f32, top: usize| {
        let config = ClassifyConfig { threshold, top, ..config() };
        let mut classify: Classify = colours(false, None).start(config).unwrap();
        let found = run_regions(&mut classify, &halves(51), &[[0.0, 0.0, 64.0, 32.0]]).remove(0);
        said(&found, 0).iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(said(0.0, 9).len(), 6, "there are three classes");
    assert_eq!(said(0.5, 3), ["colour", "colour_score"]);
    assert!(said(0.99, 3).is_empty());
}

#[test]
fn classes_without_names_are_numbers() {
    let mut classify: Classify = colours(false, None).start(ClassifyConfig { labels: None, ..config() }).unwrap();
    let found = run_regions(&mut classify, &halves(255), &[[40.0, 0.0, 60.0, 32.0]]).remove(0);
    assert_eq!(said(&found, 0)[0], pair("colour", 2));
}

#[test]
fn scores_of_their_own_are_taken_as_they_are() {
    let said = |last: Option<&str>, activation: Option<Activation>| {
        let mut classify: Classify = colours(false, last).start(ClassifyConfig { activation, ..config() }).unwrap();
        let found = run_regions(&mut classify, &halves(51), &[[32.0, 0.0, 64.0, 32.0]]).remove(0);
        said(&found, 0)[1].1.clone()
    };
    // The mean of blue is 0.2, the value 2.
    let sigmoid = (1e4 / (1.0 + (-2f64).exp())).round() / 1e4;
    assert_eq!(said(Some("Sigmoid"), None), Value::Float(sigmoid));
    assert_eq!(said(None, Some(Activation::Sigmoid)), Value::Float(sigmoid));
    assert_eq!(said(None, Some(Activation::None)), Value::Float(2.0));
}

#[test]
fn a_batch_is_bit_for_bit_its_entries() {
    let mut classify: Classify = colours(false, None).start(ClassifyConfig { top: 3, ..config() }).unwrap();
    let frames: Vec<_> = [0, 50, 100, 200].map(halves).into();
    let together = run(&mut classify, &frames);
    for (frame, together) in frames.iter().zip(&together) {
        assert_eq!(run(&mut classify, std::slice::from_ref(frame))[0], *together);
    }
    assert_ne!(together[0], together[1]);
}

#[test]
fn what_can_not_be_told_is_asked_for() {
    let check = |world: &World, config: ClassifyConfig, kind: StageErrorKind, text: &str| {
        let error = world.start::<Classify>(config).err().expect("it is refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{text:?} in: {error}");
    };
    let plain = || ClassifyConfig::new("m.onnx");
    let input = [1.into(), 3.into(), 8.into(), 8.into()];
    // Always the same, and scores by their looks.
    let unsure = World::new(constant_model(&input, &[("y", &[1, 3], &[0.5, 0.9, 0.1])]));
    check(&unsure, plain(), StageErrorKind::Resource, "say with the key activation");
    assert!(unsure.start::<Classify>(ClassifyConfig { activation: Some(Activation::None), ..plain() }).is_ok());
    let two = World::new(constant_model(&input, &[("a", &[1, 2], &[3.0, 4.0]), ("b", &[1, 2], &[5.0, 6.0])]));
    check(&two, plain(), StageErrorKind::Resource, "it has 2 outputs: a 1×2, b 1×2: say which with the key output");
    check(&two, ClassifyConfig { output: Some("c".into()), ..plain() }, StageErrorKind::Resource, "no output \"c\"");
    assert!(two.start::<Classify>(ClassifyConfig { output: Some("b".into()), ..plain() }).is_ok());
    let detector = World::new(constant_model(&input, &[("y", &[1, 84, 21], &[0.0; 84 * 21])]));
    check(&detector, plain(), StageErrorKind::Resource, "y 1×84×21 is no list of numbers");
    let labels = Some(Labels::List(vec!["a".into()]));
    let ten = World::new(classifier(8, 10));
    check(&ten, ClassifyConfig { labels, ..plain() }, StageErrorKind::Config, "tells 10 classes apart");
    check(&ten, ClassifyConfig { top: 0, ..plain() }, StageErrorKind::Config, "top is 0");
}

#[test]
fn an_answer_that_is_no_number_is_that_entrys_alone() {
    // The logarithm of what is negative for a dark picture.
    let model = OnnxBuilder::new()
        .input("x", &[1.into(), 3.into(), 4.into(), 4.into()])
        .node("GlobalAveragePool", &["x"], &["p"])
        .node("Flatten", &["p"], &["f"])
        .node("Sqrt", &["f"], &["y"])
        .output("y", &[1.into(), 3.into()])
        .build();
    let world = World::new(model);
    let config = ClassifyConfig { activation: Some(Activation::Softmax), ..ClassifyConfig::new("m.onnx") };
    let mut classify: Classify = world.start(config).unwrap();
    let mut batch = [entry(plain_frame((8, 8), 250)), entry(plain_frame((8, 8), 0))];
    classify.process(&mut batch).unwrap();
    let [bright, dark] = batch.each_mut().map(BatchEntry::take_result);
    assert!(bright.is_ok());
    let error = dark.unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Input);
    assert!(error.to_string().contains("no number"), "{error}");
}
