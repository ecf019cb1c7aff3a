//! The kind `embed`.

use nv_infer::testing::{OnnxBuilder, constant_model};
use nv_models::{ColorOrder, Detect, DetectConfig, EMBEDDING_SCHEMA, Embed, EmbedConfig, PerChannel};
use nv_plugin_sdk::{BatchProcessor, DataKind, ObjectId, StageErrorKind, StageOutput};

use crate::{World, assets, picture, plain_frame, run, run_regions, start};

/// The network that tells persons apart, with what its authors say of it.
fn persons() -> EmbedConfig {
    EmbedConfig {
        color_order: Some(ColorOrder::Bgr),
        scale: Some(1.0),
        mean: Some(PerChannel::One(0.0)),
        std: Some(PerChannel::One(1.0)),
        ..EmbedConfig::new("models/person-reidentification-retail-0248.onnx")
    }
}

/// The vector of object `i`.
fn vector(output: &StageOutput, i: u32) -> &[f32] {
    output.tables.embeddings.get(ObjectId(i)).expect("it has one")
}

fn likeness(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn a_person_has_the_vector_that_the_reference_gives() {
    let Some(assets) = assets("a_person_has_the_vector_that_the_reference_gives") else { return };
    let mut embed: Embed = start(&assets, persons()).unwrap();
    let frame = picture(&assets.join("images/person_frame300.png"));
    let found = run_regions(&mut embed, &frame, &[[381.0, 3.0, 544.0, 372.0]]).remove(0);
    let vector = vector(&found, 0);
    assert_eq!(vector.len(), 256);
    assert!((likeness(vector, vector) - 1.0).abs() < 1e-5);
    // onnxruntime on the crop, resized by OpenCV, as BGR.
    let expected = [0.0465, -0.0383, -0.0537, 0.0669, 0.0497, -0.013, 0.0687, 0.079, 0.0764, 0.0209, 0.0042, 0.0789];
    for (a, b) in vector.iter().zip(expected) {
        assert!((a - b).abs() < 2e-4, "{vector:?}");
    }
}

#[test]
fn one_person_is_more_like_itself_than_like_others() {
    let Some(assets) = assets("one_person_is_more_like_itself_than_like_others") else { return };
    let frame = picture(&assets.join("images/vtest_frame100.png"));
    let config = DetectConfig {
        threshold: 0.5,
        classes: vec!["person".into()],
        ..DetectConfig::new("models/yolox_nano_coco_416.onnx")
    };
    let found = run(&mut start::<Detect>(&assets, config).unwrap(), std::slice::from_ref(&frame)).remove(0);
    let boxes: Vec<[f32; 4]> = found.objects.unwrap().iter().map(|o| o.bbox.into()).collect();
    assert!(boxes.len() >= 6, "{boxes:?}");
    // As the next frame's detector might see them: moved by a tenth, and taller.
    let moved = |[x1, y1, x2, y2]: [f32; 4]| {
        let (w, h) = (x2 - x1, y2 - y1);
        [x1 - 0.1 * w, y1 - 0.05 * h, x2 - 0.05 * w, y2 + 0.05 * h]
    };
    let again: Vec<_> = boxes.iter().copied().map(moved).collect();
    let mut embed: Embed = start(&assets, persons()).unwrap();
    let (first, second) = (run_regions(&mut embed, &frame, &boxes), run_regions(&mut embed, &frame, &again));
    for (i, a) in first.iter().enumerate() {
        for (j, b) in second.iter().enumerate() {
            let likeness = likeness(vector(a, i as u32), vector(b, j as u32));
            if i == j {
                assert!(likeness > 0.85, "person {i} is {likeness} like itself");
            } else {
                assert!(likeness < 0.65, "persons {i} and {j} are {likeness} alike");
            }
        }
    }
    let alone = run_regions(&mut embed, &frame, &boxes[..1]).remove(0);
    assert_eq!(alone, first[0], "a batch is bit for bit its entries");
}

#[test]
fn a_whole_picture_has_its_vector_as_an_artifact() {
    let input = [1.into(), 3.into(), 8.into(), 8.into()];
    let world = World::new(constant_model(&input, &[("y", &[1, 2, 1, 1], &[3.0, -4.0])]));
    let mut embed: Embed = world.start(EmbedConfig::new("m.onnx")).unwrap();
    let found = run(&mut embed, &[plain_frame((20, 10), 7)]).remove(0);
    let [artifact] = &found.artifacts[..] else { panic!("one artifact: {found:?}") };
    assert_eq!((artifact.schema.as_str(), artifact.encoding.as_str()), (EMBEDDING_SCHEMA, "f32le"));
    assert_eq!(artifact.bytes[..], [0.6f32.to_le_bytes(), (-0.8f32).to_le_bytes()].concat());
    assert!(found.objects.is_none() && found.tables.is_empty());
    let produces = embed.capabilities().step.produces;
    assert_eq!(produces, [DataKind::Embeddings, DataKind::Artifact(EMBEDDING_SCHEMA.into())]);
}

#[test]
fn a_network_that_takes_bytes_is_given_bytes_and_others_imagenets_normalisation() {
    let means = |bytes: bool| {
        let (shape, builder) = ([1.into(), 3.into(), 4.into(), 4.into()], OnnxBuilder::new());
        let builder = if bytes {
            builder.input_u8("bytes", &shape).node("Cast", &["bytes"], &["x"]).attribute("to", 1)
        } else {
            builder.input("x", &shape)
        };
        let model = builder
            .node("GlobalAveragePool", &["x"], &["p"])
            .node("Flatten", &["p"], &["y"])
            .output("y", &[1.into(), 3.into()])
            .build();
        let mut embed: Embed = World::new(model).start(EmbedConfig::new("m.onnx")).unwrap();
        let found = run_regions(&mut embed, &plain_frame((9, 9), 200), &[[0.0, 0.0, 9.0, 9.0]]).remove(0);
        vector(&found, 0).to_vec()
    };
    let normalised = |values: [f32; 3]| {
        let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.map(|v| v / length)
    };
    let imagenet = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)].map(|(mean, std)| (200.0 / 255.0 - mean) / std);
    for (found, expected) in [(means(true), [1.0; 3]), (means(false), imagenet)] {
        for (a, b) in found.iter().zip(normalised(expected)) {
            assert!((a - b).abs() < 1e-5, "{found:?} for {expected:?}");
        }
    }
}

#[test]
fn vectors_without_a_direction_and_models_without_a_vector() {
    let input = [1.into(), 3.into(), 8.into(), 8.into()];
    let nothing = World::new(constant_model(&input, &[("y", &[1, 2], &[0.0, 0.0])]));
    let mut embed: Embed = nothing.start(EmbedConfig::new("m.onnx")).unwrap();
    let mut batch = [crate::entry(plain_frame((8, 8), 1))];
    embed.process(&mut batch).unwrap();
    let error = batch[0].take_result().unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Input);
    assert!(error.to_string().contains("no direction"), "{error}");

    let maps = World::new(constant_model(&input, &[("y", &[1, 2, 2], &[0.0; 4])]));
    let error = maps.start::<Embed>(EmbedConfig::new("m.onnx")).err().expect("it is refused");
    assert!(error.to_string().contains("y 1×2×2 is no list of numbers"), "{error}");
    let grey = World::new(constant_model(&[1.into(), 1.into(), 8.into(), 8.into()], &[("y", &[1, 2], &[1.0; 2])]));
    let error = grey.start::<Embed>(EmbedConfig::new("m.onnx")).err().expect("it is refused");
    assert!(error.to_string().contains("this model's is input 1×1×8×8"), "{error}");
}
