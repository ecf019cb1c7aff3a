//! Classifiers and networks that tell likeness, from a config file: on what a detector found, and on whole pictures.

use nv_infer::testing::constant_model;
use serde_json::{Value, json};

use crate::cascade::assets;
use crate::world::{FRAMES, World};

/// A site with a detector that always sees a person, a tracker, a classifier that always says green and a network that always
/// gives the same vector; and a feed of these steps.
fn site(steps: &str) -> World {
    let world = World::new();
    let input = [1.into(), 3.into(), 16.into(), 8.into()];
    world.write("colour.onnx", constant_model(&input, &[("values", &[1, 3], &[0.0, 3.0, 1.0])]));
    world.write("likeness.onnx", constant_model(&input, &[("vector", &[1, 2], &[3.0, -4.0])]));
    world.write(
        "site.toml",
        format!(
            "[batch.detector]\nuse = 'models/detect'\nconfig = {{ model = 'm.onnx' }}\n\
             [stage.track]\nuse = 'track/bytetrack'\n\
             [batch.colour]\nuse = 'models/classify'\nconfig = {{ model = 'colour.onnx', attribute = 'colour', \
             labels = ['red', 'green', 'blue'] }}\n\
             [batch.likeness]\nuse = 'models/embed'\nconfig = {{ model = 'likeness.onnx' }}\n\
             [[feed]]\nname = 'gate'\nsource = 'a.mp4'\nsteps = [{steps}]\n"
        ),
    );
    world
}

#[test]
fn an_object_keeps_its_colour_and_its_vector() {
    let world = site(
        "'detector', 'track', { step = 'colour', regions = { refresh = '1s' } }, { step = 'likeness', regions = {} }",
    );
    let lines = world.nv(&["run", "site.toml"]).exits(0).json_lines();
    assert_eq!(lines.len(), FRAMES);
    for line in &lines {
        let [person] = &line["objects"].as_array().expect("objects")[..] else { panic!("one object: {line}") };
        assert_eq!(person["attributes"], json!({ "colour": "green", "colour_score": 0.8438 }), "{line}");
        assert_eq!(person["embedding"], json!([0.6, -0.8]), "{line}");
        assert_eq!((&line["signals"], &line["scene"]), (&json!([]), &json!([])));
    }
    // The clip is shorter than a second: the classifier has run once, and the object has kept what it said.
    let ran = |step: &str| {
        let steps = |line: &Value| line["provenance"]["steps"].as_array().expect("steps").clone();
        lines.iter().flat_map(steps).filter(|s| s["step"] == step && s["size"].as_u64().is_some()).count()
    };
    assert_eq!((ran("colour"), ran("likeness")), (1, FRAMES));
}

#[test]
fn a_step_waits_for_what_a_classifier_says_of_the_picture() {
    let whole = |colour: &str| {
        let steps =
            format!("'colour', {{ step = 'detector', skip_while = [{{ signal = 'colour', is = '{colour}' }}] }}");
        site(&steps).nv(&["run", "site.toml"]).exits(0).json_lines()
    };
    for (colour, looked) in [("green", false), ("red", true)] {
        let lines = whole(colour);
        assert_eq!(lines.len(), FRAMES);
        for line in &lines {
            assert_eq!(line["objects"].is_array(), looked, "{line}");
            assert_eq!(line["signals"], json!([{ "name": "colour", "value": "green", "object": null, "track": null }]));
            let scene = json!([{ "name": "colour", "value": "green" }, { "name": "colour_score", "value": 0.8438 }]);
            assert_eq!(line["scene"], scene);
        }
    }
}

#[test]
fn a_picture_has_a_vector_too() {
    let lines = site("'likeness'").nv(&["run", "site.toml", "--limit", "2"]).exits(0).json_lines();
    for line in &lines {
        assert_eq!(line["artifacts"], json!([{ "schema": "nv.embedding/1", "encoding": "f32le", "bytes": 8 }]));
    }
}

/// Which track each object of a line has, with its vector.
fn tracked(line: &Value) -> Vec<(u64, Vec<f64>)> {
    let vector = |object: &Value| {
        let found = line["objects"].as_array()?.iter().find(|o| o["id"] == *object)?;
        found["embedding"].as_array().map(|v| v.iter().map(|n| n.as_f64().expect("a number")).collect())
    };
    let tracks = line["tracks"].as_array().expect("tracks").iter();
    tracks.filter_map(|t| Some((t["id"].as_u64()?, vector(&t["object"])?))).collect()
}

#[test]
fn people_are_more_like_themselves_in_the_next_frame_than_like_others() {
    let Some(assets) = assets("people_are_more_like_themselves_in_the_next_frame_than_like_others") else { return };
    let assets = assets.display();
    let world = World::empty();
    world.write(
        "site.toml",
        format!(
            "[batch.detector]\nuse = 'models/detect'\nconfig = {{ model = '{assets}/models/yolox_nano_coco_416.onnx', \
             classes = ['person'] }}\n\
             [stage.track]\nuse = 'track/bytetrack'\n\
             [batch.likeness]\nuse = 'models/embed'\nconfig = {{ model = \
             '{assets}/models/person-reidentification-retail-0248.onnx', color_order = 'bgr', scale = 1.0, mean = 0.0, \
             std = 1.0 }}\n\
             [[feed]]\nsource = '{assets}/video/vtest_h264_high.mp4'\nlimit = 40\n\
             steps = ['detector', 'track', {{ step = 'likeness', every = 4, regions = {{ from = 'detector', \
             min_score = 0.5, min_height = 40 }} }}]\n"
        ),
    );
    let lines = world.nv(&["run", "site.toml"]).exits(0).json_lines();
    let looks: Vec<_> = lines.iter().step_by(4).map(tracked).collect();
    let (mut pairs, mut nearest) = (0, 0);
    for (before, after) in looks.iter().zip(&looks[1..]) {
        for (id, a) in before {
            let likeness = |b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let of =
                |same: bool| after.iter().filter(move |(other, _)| (other == id) == same).map(|(_, b)| likeness(b));
            let Some(own) = of(true).next() else { continue };
            pairs += 1;
            nearest += usize::from(of(false).all(|other| other < own));
        }
    }
    assert!(pairs >= 20, "{pairs}");
    assert!(nearest * 10 >= pairs * 9, "{nearest} of {pairs}");
}
