use serde_json::json;

use crate::world::{FRAMES, Ran, World, json_lines, names};

const SITE: &str = r#"
[defaults]
steps = ["detector", "track"]
provenance = false

[batch.detector]
use = "models/detect"
max_batch_size = 4
max_latency = "1ms"
config = { model = "../m.onnx", labels = "coco", classes = ["person"] }

[stage.track]
use = "track/bytetrack"
config = { buffer = "2s" }

[[feed]]
name = "gate"
source = "file:../${CLIP}"

[[feed]]
name = "yard"
source = "synthetic:?frames=10"
options = { width = 96, height = 96 }
steps = ["detector"]

[[output]]
path = "out/{feed}.jsonl"

[[output]]
format = "mot"
path = "out/gate.txt"
feeds = ["gate"]
"#;

fn site(text: &str) -> World {
    let world = World::new();
    world.write("cfg/site.toml", text);
    world
}

fn run(world: &World, args: &[&str]) -> Ran {
    let mut command = world.command(&[&["run", "cfg/site.toml"], args].concat());
    Ran::from(command.env("CLIP", "a.mp4").output().expect("nv was built for this test"))
}

#[test]
fn a_site_with_two_feeds() {
    let world = site(SITE);
    let ran = run(&world, &[]).exits(0);
    assert!(ran.stdout.is_empty(), "its outputs are files");
    assert_eq!(names(&world.path("cfg/out")), ["gate.jsonl", "gate.txt", "yard.jsonl"]);
    let gate = json_lines(&world.read("cfg/out/gate.jsonl"));
    assert_eq!(gate.len(), FRAMES);
    assert!(gate.iter().all(|line| line["tracks"].is_array() && line["provenance"].is_null()));
    let yard = json_lines(&world.read("cfg/out/yard.jsonl"));
    assert_eq!(yard.len(), 10);
    assert!(yard.iter().all(|line| line["tracks"].is_null() && line["width"] == 96));
    assert_eq!(world.read("cfg/out/gate.txt").lines().count(), FRAMES - 1);
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let world = site(SITE);
    let count = |args: &[&str], limit: Option<&str>| {
        let mut command = world.command(&[&["run", "cfg/site.toml", "--output", "-"], args].concat());
        command.env("CLIP", "a.mp4").env("NV_PROVENANCE", "on");
        if let Some(limit) = limit {
            command.env("NV_LIMIT", limit);
        }
        let lines = Ran::from(command.output().unwrap()).exits(0).json_lines();
        assert!(lines.iter().all(|line| line["provenance"].is_object()), "the environment goes before the file");
        lines.len()
    };
    assert_eq!(count(&[], None), FRAMES + 10);
    assert_eq!(count(&[], Some("3")), 6);
    assert_eq!(count(&["--limit", "2"], Some("3")), 4);
    assert!(!world.path("cfg/out").exists(), "--output replaces the file's outputs");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    fn check(from: &str, to: &str, code: i32, parts: &[&str]) {
        assert!(SITE.contains(from));
        let world = site(&SITE.replace(from, to));
        run(&world, &[]).exits(code).says(parts);
        assert!(!world.path("cfg/out/gate.jsonl").exists());
    }
    check("max_batch_size", "max_batchsize", 2, &["cfg/site.toml:8:1: unknown key", "did you mean `max_batch_size`?"]);
    check("= 4", "= 'four'", 2, &["cfg/site.toml:8:18:", "must be a whole number"]);
    check("\"1ms\"", "1", 2, &["cfg/site.toml:9:15:", "a duration with a unit"]);
    check(
        "\"detector\", \"track\"",
        "\"detektor\"",
        2,
        &["cfg/site.toml:3:10: there is no step \"detektor\"", "`detector`"],
    );
}

#[test]
fn what_plugins_refuse_is_told_with_its_place() {
    fn check(from: &str, to: &str, code: i32, parts: &[&str]) {
        assert!(SITE.contains(from));
        let world = site(&SITE.replace(from, to));
        run(&world, &[]).exits(code).says(parts);
    }
    check("../m.onnx", "nope.onnx", 3, &["cfg/site.toml:6:8: [batch.detector]", "cfg/nope.onnx", "no such file"]);
    check("classes =", "clases =", 2, &["cfg/site.toml:6:8: [batch.detector]", "clases", "classes"]);
    check("\"2s\"", "\"2\"", 2, &["cfg/site.toml:12:8: [stage.track]", "a duration with its unit"]);
    check("models/detect", "models/detct", 3, &["cfg/site.toml:6:8", "no kind \"detct\"", "detect"]);
    check("models/detect", "model/detect", 3, &["cfg/site.toml:6:8", "no plugin \"model\"", "did you mean `models`?"]);
    check("[\"detector\", \"track\"]", "[\"track\", \"detector\"]", 2, &["put \"detector\" before \"track\""]);
    check(
        "[batch.detector]\nuse = \"models/detect\"",
        "[batch.detector]\nuse = \"track/bytetrack\"",
        2,
        &["make it [stage.detector]"],
    );
    check("use = \"track/bytetrack\"", "use = \"models/detect\"", 2, &["make it [batch.track]"]);
}

#[test]
fn a_variable_that_is_not_set() {
    let world = site(SITE);
    world.nv(&["run", "cfg/site.toml"]).exits(2).says(&["cfg/site.toml:18:10", "CLIP is not set"]);
}

#[test]
fn a_config_runs_alone() {
    let world = site(SITE);
    world.nv(&["run", "cfg/site.toml", "a.mp4"]).exits(2).says(&["cfg/site.toml is a config file"]);
    world.nv(&["run", "nope.toml"]).exits(2).says(&["nope.toml: there is no such file"]);
}

#[test]
fn validate_checks_everything_and_runs_nothing() {
    let world = site(SITE);
    let validate = |world: &World| {
        let mut command = world.command(&["validate", "cfg/site.toml"]);
        Ran::from(command.env("CLIP", "a.mp4").output().unwrap())
    };
    let ran = validate(&world).exits(0);
    assert!(ran.stdout.contains("feed gate: H.264"), "{}", ran.stdout);
    assert!(ran.stdout.contains("cfg/site.toml is valid: 2 feeds, 1 batch point, 2 outputs"), "{}", ran.stdout);
    assert!(!world.path("cfg/out").exists(), "what it made to see whether it can is gone again");

    // Everything that is wrong is told, not only the first thing.
    let text = SITE.replace("../m.onnx", "nope.onnx").replace("synthetic:?frames=10", "nope.mp4");
    let world = site(&text.replace("options = { width = 96, height = 96 }\n", ""));
    let ran = validate(&world).exits(3);
    ran.says(&["nope.onnx", "no such file"]).says(&["feed yard", "nope.mp4"]);
}

#[test]
fn what_no_feed_uses_is_not_built() {
    let world =
        site(&format!("{SITE}\n[batch.faces]\nuse = \"models/detect\"\nconfig = {{ model = \"nope.onnx\" }}\n"));
    let ran = run(&world, &["--limit", "1"]).exits(0);
    assert!(
        ran.stderr.contains("nv: warning: cfg/site.toml:34:8: [batch.faces] is in no feed's steps"),
        "{}",
        ran.stderr
    );
    assert_eq!(json_lines(&world.read("cfg/out/yard.jsonl"))[0]["seq"], json!(0));
}
