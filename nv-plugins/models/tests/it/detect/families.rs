//! Families whose models are not among the assets, from a model's file to objects of a frame.

use nv_infer::testing::{OnnxBuilder, constant_model};
use nv_models::{Detect, DetectConfig, Labels};
use nv_plugin_sdk::{BBox, Object, StageErrorKind};

use super::config;
use crate::{World, plain_frame, run};

/// What a model of one output finds in a picture of 640×320, and the names of classes.
fn found(world: &World, config: DetectConfig) -> Vec<Object> {
    let mut detect: Detect = world.start(config).unwrap();
    run(&mut detect, &[plain_frame((640, 320), 90)]).remove(0).objects.unwrap()
}

fn assert_object(found: &[Object], class: &str, score: f32, bbox: [f32; 4]) {
    let [object] = found else { panic!("one: {found:?}") };
    assert_eq!(object.class.as_deref(), Some(class));
    assert!((object.score - score).abs() < 1e-4, "{object:?}");
    let expected = BBox::from(bbox);
    for (a, b) in <[f32; 4]>::from(object.bbox).into_iter().zip(<[f32; 4]>::from(expected)) {
        assert!((a - b).abs() < 0.05, "{object:?} for {expected:?}");
    }
}

/// The dimensions of an input of one colour picture.
fn input(width: usize, height: usize) -> [nv_infer::Dim; 4] {
    [1.into(), 3.into(), height.into(), width.into()]
}

#[test]
fn ultralytics_pictures_lie_in_the_middle() {
    // 64×64 with 16 pixels of padding above and below: a tenth of the frame's size. 84 cells; 63·4 boxes.
    let bbox = [20.0, 26.0, 8.0, 4.0];
    let mut planes = vec![0.0; 6 * 84];
    for (plane, value) in bbox.into_iter().chain([0.2, 0.7]).enumerate() {
        planes[plane * 84 + 30] = value;
    }
    let mut rows = vec![0.0; 252 * 7];
    rows[700..707].copy_from_slice(&[20.0, 26.0, 8.0, 4.0, 0.875, 0.8, 0.2]);
    for (shape, data, class, score) in [([1, 6, 84], planes, "dog", 0.7), ([1, 252, 7], rows, "cat", 0.7)] {
        let dims = shape.map(|n: i64| (n as usize).into());
        // As the exporter writes them: names in the metadata.
        let model = OnnxBuilder::new()
            .input("images", &input(64, 64))
            .initializer("values", &shape, &data)
            .node("Identity", &["values"], &["output0"])
            .output("output0", &dims)
            .metadata("names", "{0: 'cat', 1: 'dog'}")
            .metadata("task", "detect");
        let found = found(&World::new(model.build()), config());
        assert_object(&found, class, score, [160.0, 80.0, 240.0, 120.0]);
    }
}

#[test]
fn a_pose_is_not_taken_for_more_classes() {
    let model = OnnxBuilder::new()
        .input("images", &input(64, 64))
        .initializer("values", &[1, 56, 84], &[0.0; 56 * 84])
        .node("Identity", &["values"], &["output0"])
        .output("output0", &[1.into(), 56.into(), 84.into()])
        .metadata("task", "pose");
    let error = World::new(model.build()).start::<Detect>(config()).err().expect("it is refused");
    assert_eq!(error.kind(), StageErrorKind::Resource);
    assert!(error.to_string().contains("its task is \"pose\""), "{error}");
}

#[test]
fn an_ssd_is_read_with_the_priors_of_its_numbers_or_those_given() {
    // The network moves no prior: the third of 1,917 stands, 1:2 about the first cell's middle.
    let (boxes, mut values) = (vec![0.0; 1917 * 4], vec![0.0; 1917 * 21]);
    values.chunks_exact_mut(21).for_each(|row| row[0] = 12.0);
    values[42] = 0.0;
    values[42 + 15] = 9.0;
    let model = constant_model(&input(300, 300), &[("loc", &[1, 1917, 4], &boxes), ("conf", &[1, 1917, 21], &values)]);
    let world = World::new(model);
    let (width, height) = (60.0 / 2f32.sqrt() / 300.0 * 640.0, 60.0 * 2f32.sqrt() / 300.0 * 320.0);
    let [x, y] = [0.5 / 19.0 * 640.0, 0.5 / 19.0 * 320.0];
    let edges = [0.0, 0.0, x + width / 2.0, y + height / 2.0];
    assert_object(&found(&world, config()), "person", 0.9975, edges);

    world.write("m.toml", "priors = { levels = [{ grid = [71, 27], min_size = 30 }] }\nlabels = \"voc\"");
    let own = found(&world, DetectConfig { nms_iou: Some(1.0), ..config() });
    let [x, y] = [2.5 / 71.0 * 640.0, 0.5 / 27.0 * 320.0];
    assert_object(&own, "person", 0.9975, [0.0, 0.0, x + 32.0, y + 16.0]);
}

#[test]
fn an_ssd_of_unknown_priors_asks_for_them() {
    let (boxes, values) = (vec![0.0; 1000 * 4], vec![0.0; 1000 * 3]);
    let outputs: [(&str, &[i64], &[f32]); 2] = [("loc", &[1, 1000, 4], &boxes), ("conf", &[1, 1000, 3], &values)];
    let world = World::new(constant_model(&input(300, 300), &outputs));
    for family in [None, Some("ssd".to_owned())] {
        let error = world.start::<Detect>(DetectConfig { family, ..config() }).err().expect("it is refused");
        assert_eq!(error.kind(), StageErrorKind::Resource);
        let text = error.to_string();
        assert!(text.contains("an SSD with 1000 boxes and 3 classes") && text.contains("key priors"), "{text}");
    }
}

#[test]
fn nanodet_and_centernet_are_stretched_and_centred_as_they_were_trained() {
    // NanoDet-Plus: 64×64 has 85 cells. Row 2, column 3 of stride 8; distances of one stride each.
    let mut rows = vec![0.0; 85 * 33];
    let cell = &mut rows[(2 * 8 + 3) * 33..][..33];
    cell[0] = 0.6;
    for side in 0..4 {
        cell[1 + side * 8 + 1] = 99.0;
    }
    let world = World::new(constant_model(&input(64, 64), &[("output", &[1, 85, 33], &rows)]));
    let named = DetectConfig { labels: Some(Labels::List(vec!["bolt".into()])), ..config() };
    assert_object(&found(&world, named.clone()), "bolt", 0.6, [160.0, 40.0, 320.0, 120.0]);

    // CenterNet: 16×16 cells of 4 pixels, of which 4 above and below are padding.
    let (mut heat, mut sizes, offsets) = (vec![-5.0; 256], vec![0.0; 512], vec![0.5; 512]);
    heat[6 * 16 + 5] = 0.0;
    (sizes[6 * 16 + 5], sizes[256 + 6 * 16 + 5]) = (2.0, 1.0);
    let outputs: [(&str, &[i64], &[f32]); 3] =
        [("hm", &[1, 1, 16, 16], &heat), ("wh", &[1, 2, 16, 16], &sizes), ("reg", &[1, 2, 16, 16], &offsets)];
    let world = World::new(constant_model(&input(64, 64), &outputs));
    assert_object(&found(&world, named), "bolt", 0.5, [180.0, 80.0, 260.0, 120.0]);
}
