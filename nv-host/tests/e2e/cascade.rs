//! Cascades from a config file: a second detector on what the first one found, and steps that run on some frames only.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::world::{FRAMES, World};

/// A site whose second detector looks at what the first one finds. `options` are those of the second step.
fn site(options: &str) -> World {
    let world = World::new();
    // The model tells 80 classes apart and always sees the first.
    world.write(
        "faces.txt",
        (0..80).map(|i| if i == 0 { "face\n".into() } else { format!("class {i}\n") }).collect::<String>(),
    );
    world.write(
        "site.toml",
        format!(
            "[defaults]\nsteps = ['detector', 'track', {{ step = 'faces', {options} }}]\n\
             [batch.detector]\nuse = 'models/detect'\nconfig = {{ model = 'm.onnx', labels = 'coco' }}\n\
             [batch.faces]\nuse = 'models/detect'\nconfig = {{ model = 'm.onnx', labels = 'faces.txt' }}\n\
             [stage.track]\nuse = 'track/bytetrack'\n\
             [[feed]]\nname = 'gate'\nsource = 'a.mp4'\n"
        ),
    );
    world
}

/// The objects of a line that this step found.
fn found<'a>(line: &'a Value, step: &str) -> Vec<&'a Value> {
    line["objects"].as_array().expect("objects").iter().filter(|o| o["source"] == step).collect()
}

/// The frames in which the second step found something.
fn frames_with_faces(lines: &[Value]) -> Vec<usize> {
    (0..lines.len()).filter(|i| !found(&lines[*i], "faces").is_empty()).collect()
}

#[test]
fn faces_are_looked_for_in_persons() {
    let world = site("regions = { from = 'detector', classes = ['person'], min_score = 0.5 }");
    let lines = world.nv(&["run", "site.toml"]).exits(0).json_lines();
    assert_eq!(lines.len(), FRAMES);
    for line in &lines {
        let (persons, faces) = (found(line, "detector"), found(line, "faces"));
        let ([person], [face]) = (&persons[..], &faces[..]) else { panic!("a person and a face: {line}") };
        assert_eq!((&face["class"], &face["parent"]), (&json!("face"), &person["id"]));
        assert_ne!(face["id"], person["id"]);
        // The model sees something of half the side in the middle of whatever it is shown.
        assert_eq!(
            (&person["bbox"], &face["bbox"]),
            (&json!([24.0, 24.0, 72.0, 72.0]), &json!([36.0, 36.0, 60.0, 60.0]))
        );
    }
}

#[test]
fn what_is_asked_for_is_looked_at() {
    fn check(regions: &str, expected: bool) {
        let world = site(&format!("regions = {{ {regions} }}"));
        let lines = world.nv(&["run", "site.toml", "--limit", "2"]).exits(0).json_lines();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| found(line, "detector").len() == 1));
        assert!(lines.iter().all(|line| found(line, "faces").len() == usize::from(expected)), "{regions}");
    }
    check("", true);
    check("min_width = 48, min_height = 48", true);
    check("min_width = 49", false);
    check("classes = ['car']", false);
    check("min_score = 0.95", false);
}

#[test]
fn every_so_many_frames_and_so_often_for_one_track() {
    let run = |options: &str| site(options).nv(&["run", "site.toml"]).exits(0).json_lines();
    let every = run("every = 5, regions = { from = 'detector' }");
    assert_eq!(frames_with_faces(&every), (0..FRAMES).step_by(5).collect::<Vec<_>>());
    // All of it is shorter than a second.
    let span = every[FRAMES - 1]["pts_ms"].as_f64().unwrap() - every[0]["pts_ms"].as_f64().unwrap();
    assert!(span < 1000.0, "{span}");
    assert_eq!(frames_with_faces(&run("regions = { refresh = '1s' }")), [0]);
    assert_eq!(frames_with_faces(&run("max_rate = 1.0")), [0]);
}

/// The folder of real models and clips; `None`, and a line that says so, where there is none.
pub(crate) fn assets(test: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/assets");
    let folder = std::env::var_os("NV_ASSETS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    #[expect(clippy::print_stdout, reason = "a skipped test is to be named")]
    {
        println!("skipped: {test}: no assets at {}", folder.display());
    }
    None
}

/// The detectors of real sites: persons, and faces in them.
fn points(assets: &str, faces: &str) -> String {
    format!(
        "[batch.detector]\nuse = 'models/detect'\n\
         config = {{ model = '{assets}/models/yolox_nano_coco_416.onnx', labels = 'coco', classes = ['person'] }}\n\
         [batch.faces]\nuse = 'models/detect'\nconfig = {{ model = '{assets}/models/{faces}.onnx' }}\n\
         [stage.track]\nuse = 'track/bytetrack'\n"
    )
}

/// Each face with its person, both as edges of their boxes.
fn faces_and_persons(line: &Value) -> Vec<[[f64; 4]; 2]> {
    let edges = |o: &Value| [0, 1, 2, 3].map(|i| o["bbox"][i].as_f64().expect("a number"));
    let persons = found(line, "detector");
    let person = |face: &Value| {
        let person = persons.iter().find(|p| p["id"] == face["parent"]);
        edges(person.unwrap_or_else(|| panic!("its parent is a person of the frame: {line}")))
    };
    found(line, "faces").into_iter().map(|face| [edges(face), person(face)]).collect()
}

#[test]
fn the_face_of_a_real_person() {
    let Some(assets) = assets("the_face_of_a_real_person") else { return };
    let assets = assets.display().to_string();
    let world = World::empty();
    world.write(
        "site.toml",
        points(&assets, "yunet_s_dynamic")
            + &format!(
                "[[feed]]\nsource = '{assets}/images/astronaut.png'\n\
                 steps = ['detector', 'track', {{ step = 'faces', every = 1, max_rate = 5.0, regions = {{ \
                 from = 'detector', classes = ['person'], min_score = 0.5, min_width = 16, min_height = 32, max = 20, \
                 refresh = '1s' }} }}]\n"
            ),
    );
    let lines = world.nv(&["run", "site.toml"]).exits(0).json_lines();
    let [line] = &lines[..] else { panic!("one picture: {lines:?}") };
    let faces = faces_and_persons(line);
    let [[face, _]] = &faces[..] else { panic!("one face: {line}") };
    // What the same model finds in the whole picture.
    for (edge, expected) in face.iter().zip([180.5, 63.4, 267.3, 175.7]) {
        assert!((edge - expected).abs() < 5.0, "{face:?}");
    }
    let points = found(line, "faces")[0]["keypoints"].as_array().expect("keypoints");
    assert_eq!(points.len(), 5);
}

#[test]
fn faces_of_people_who_walk_by() {
    let Some(assets) = assets("faces_of_people_who_walk_by") else { return };
    let assets = assets.display().to_string();
    let world = World::empty();
    world.write(
        "site.toml",
        points(&assets, "ultraface_rfb_320")
            + &format!(
                "[[feed]]\nname = 'hall'\nsource = '{assets}/video/one-by-one-person-detection.mp4'\nlimit = 100\n\
                 [[feed.steps]]\nstep = 'detector'\nmax_rate = 5.0\n\
                 [[feed.steps]]\nstep = 'track'\n\
                 [[feed.steps]]\nstep = 'faces'\nregions = {{ from = 'detector', min_score = 0.5 }}\n"
            ),
    );
    let lines = world.nv(&["run", "site.toml"]).exits(0).json_lines();
    assert_eq!(lines.len(), 100);
    let mut faces = 0;
    for (seq, line) in lines.iter().enumerate() {
        // Ten frames a second, so the detector sees every other one.
        assert_eq!(line["objects"].is_null(), seq % 2 == 1, "{line}");
        if line["objects"].is_null() {
            continue;
        }
        for [face, person] in faces_and_persons(line) {
            faces += 1;
            // To the pixel that the person's box touches.
            assert!(face[0] > person[0] - 1.0 && face[1] > person[1] - 1.0, "{line}");
            assert!(face[2] < person[2] + 1.0 && face[3] < person[3] + 1.0, "{line}");
        }
    }
    assert!(faces >= 10, "{faces}");
}
