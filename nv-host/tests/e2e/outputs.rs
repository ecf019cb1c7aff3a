use serde_json::{Value, json};

use crate::world::{FRAMES, World, json_lines, names};

#[test]
fn lines_of_json_on_standard_output() {
    let world = World::new();
    let ran = world.nv(&["run", "a.mp4", "--model", "m.onnx"]).exits(0);
    let lines = ran.json_lines();
    assert_eq!(lines.len(), FRAMES);
    for (seq, line) in lines.iter().enumerate() {
        assert_eq!((&line["schema"], &line["feed"], &line["seq"]), (&json!("nv.output/1"), &json!("a"), &json!(seq)));
        assert_eq!((&line["width"], &line["height"]), (&json!(96), &json!(96)));
        let [object] = &line["objects"].as_array().unwrap()[..] else { panic!("one object: {line}") };
        assert_eq!((&object["class"], &object["source"]), (&json!("person"), &json!("detector")));
        assert_eq!(object["bbox"], json!([24.0, 24.0, 72.0, 72.0]));
        let [track] = &line["tracks"].as_array().unwrap()[..] else { panic!("one track: {line}") };
        assert_eq!(track["object"], object["id"]);
        assert_eq!(track["state"], if seq == 0 { "tentative" } else { "confirmed" });
        let steps: Vec<_> =
            line["provenance"]["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
        assert_eq!(steps, ["detector", "track"]);
    }
    assert!(ran.stderr.contains("nv: a: 24 frames at "), "{}", ran.stderr);
}

#[test]
fn several_inputs_share_a_batch_point_and_have_a_file_each() {
    let world = World::new();
    world.write("b/a.mp4", crate::world::clip());
    world
        .nv(&[
            "run",
            "a.mp4",
            "b/a.mp4",
            "synthetic:?frames=30&width=96&height=96",
            "--model",
            "m.onnx",
            "--output",
            "out/",
            "--annotated",
            "pics",
            "--summary",
            "sum/summary.json",
            "--limit",
            "20",
        ])
        .exits(0);
    assert_eq!(names(&world.path("out")), ["a-2.jsonl", "a.jsonl", "synthetic.jsonl"]);
    for feed in ["a", "a-2", "synthetic"] {
        let lines = json_lines(&world.read(&format!("out/{feed}.jsonl")));
        assert_eq!(lines.len(), 20);
        assert!(lines.iter().all(|line| line["feed"] == feed));
        let pictures = names(&world.path("pics").join(feed));
        assert_eq!(pictures.len(), 20);
        assert_eq!((pictures[0].as_str(), pictures[19].as_str()), ("000000.jpg", "000019.jpg"));
        let picture = std::fs::read(world.path("pics").join(feed).join("000007.jpg")).unwrap();
        assert_eq!((&picture[..2], &picture[picture.len() - 2..]), (&[0xff, 0xd8][..], &[0xff, 0xd9][..]));
    }
    let summary: Value = serde_json::from_str(&world.read("sum/summary.json")).unwrap();
    assert_eq!(summary["schema"], "nv.summary/1");
    let [batch] = &summary["batches"].as_array().unwrap()[..] else { panic!("one batch point: {summary}") };
    assert_eq!((&batch["batch"], &batch["processed"]), (&json!("detector"), &json!(60)));
    for feed in summary["feeds"].as_array().unwrap() {
        assert_eq!((&feed["received"], &feed["emitted"], &feed["inside"]), (&json!(20), &json!(20), &json!(0)));
        assert_eq!((&feed["dropped"], &feed["end"]), (&json!({}), &json!("limit_reached")));
    }
}

#[test]
fn lines_of_several_feeds_in_one_file_are_whole() {
    let world = World::new();
    let source = "synthetic:?frames=200&width=96&height=96";
    world.nv(&["run", source, source, source, "a.mp4", "--model", "m.onnx", "-o", "all.jsonl"]).exits(0);
    let lines = json_lines(&world.read("all.jsonl"));
    assert_eq!(lines.len(), 3 * 200 + FRAMES);
    for feed in ["synthetic", "synthetic-2", "synthetic-3", "a"] {
        let seqs: Vec<_> = lines.iter().filter(|l| l["feed"] == feed).map(|l| l["seq"].as_u64().unwrap()).collect();
        assert!(seqs.iter().copied().eq(0..seqs.len() as u64), "in order: {feed}");
    }
}

#[test]
fn mot_text_of_one_feed_and_of_several() {
    let world = World::new();
    let ran = world.nv(&["run", "a.mp4", "--model", "m.onnx", "--format", "mot"]).exits(0);
    let lines: Vec<_> = ran.stdout.lines().collect();
    // In the first frame the track is not sure yet.
    assert_eq!(lines.len(), FRAMES - 1);
    assert_eq!(lines[0], "2,1,24.00,24.00,48.00,48.00,0.9000,-1,-1,-1");
    assert!(lines[22].starts_with("24,1,"));

    world.nv(&["run", "a.mp4", "a.mp4", "--model", "m.onnx", "--format", "mot", "--output", "mot"]).exits(0);
    assert_eq!(names(&world.path("mot")), ["a-2.txt", "a.txt"]);
    assert_eq!(world.read("mot/a.txt"), ran.stdout);
    assert_eq!(world.read("mot/a-2.txt"), ran.stdout);
    world
        .nv(&["run", "a.mp4", "a.mp4", "--model", "m.onnx", "--format", "mot"])
        .exits(2)
        .says(&["several feeds can't share standard output", "--output FOLDER"]);
}

#[test]
fn two_runs_give_the_same_bytes() {
    let world = World::new();
    let run = || world.nv(&["run", "a.mp4", "--model", "m.onnx", "--provenance", "off"]).exits(0).stdout;
    let first = run();
    assert_eq!(first, run());
    assert!(json_lines(&first).iter().all(|line| line["provenance"].is_null()));
}

#[test]
fn a_single_picture_is_not_tracked_and_a_folder_is() {
    let world = World::new();
    for name in ["p/1.png", "p/2.png", "p/10.png"] {
        world.write(name, grey_picture());
    }
    let ran = world.nv(&["run", "p/1.png", "--model", "m.onnx"]).exits(0);
    let [line] = &ran.json_lines()[..] else { panic!("one line: {}", ran.stdout) };
    assert_eq!((&line["feed"], &line["tracks"]), (&json!("1"), &Value::Null));
    assert_eq!(line["objects"].as_array().unwrap().len(), 1);
    let ran = world.nv(&["run", "p", "--model", "m.onnx"]).exits(0);
    assert_eq!(ran.json_lines().iter().filter(|l| l["feed"] == "p" && l["tracks"].is_array()).count(), 3);
}

fn grey_picture() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[128; 64 * 48]).unwrap();
    bytes
}

#[test]
fn thresholds_and_classes() {
    let world = World::new();
    let objects = |args: &[&str]| {
        let args = [&["run", "a.mp4", "--model", "m.onnx", "--limit", "3"], args].concat();
        let lines = world.nv(&args).exits(0).json_lines();
        (lines[2]["objects"].as_array().unwrap().len(), lines[2]["tracks"].as_array().unwrap().len())
    };
    assert_eq!(objects(&[]), (1, 1));
    // Not reported, but the tracker saw it.
    assert_eq!(objects(&["--threshold", "0.95"]), (0, 1));
    assert_eq!(objects(&["--classes", "dog,cat"]), (0, 0));
    assert_eq!(objects(&["--classes", "person"]), (1, 1));
    world.nv(&["run", "a.mp4", "--model", "m.onnx", "--classes", "persom"]).exits(2).says(&["persom", "person"]);
}

#[test]
fn an_input_is_not_overwritten() {
    let world = World::new();
    let before = std::fs::read(world.path("a.mp4")).unwrap();
    world
        .nv(&["run", "a.mp4", "--model", "m.onnx", "--output", "./a.mp4"])
        .exits(2)
        .says(&["a.mp4 is one of the inputs"]);
    assert_eq!(std::fs::read(world.path("a.mp4")).unwrap(), before);
}

#[test]
fn a_run_that_does_not_begin_leaves_results_alone() {
    let world = World::new();
    world.write("old.jsonl", "old\n");
    world.nv(&["run", "a.mp4", "--model", "nope.onnx", "-o", "old.jsonl"]).exits(3);
    assert_eq!(world.read("old.jsonl"), "old\n");
    world.nv(&["run", "a.mp4", "--model", "nope.onnx", "-o", "new/x/y.jsonl"]).exits(3);
    assert!(!world.path("new").exists());
    world.nv(&["run", "a.mp4", "--model", "m.onnx", "-o", "old.jsonl"]).exits(0);
    assert_eq!(json_lines(&world.read("old.jsonl")).len(), FRAMES);
}
