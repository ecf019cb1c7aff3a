use serde_json::Value;

use crate::world::World;

#[test]
fn the_shipped_plugins_are_listed() {
    let world = World::empty();
    let ran = world.nv(&["plugin", "list"]).exits(0);
    for kind in ["models/detect", "track/bytetrack"] {
        assert!(ran.stdout.lines().any(|line| line.starts_with(kind)), "run `cargo xtask plugins`?\n{}", ran.stdout);
    }
    let ran = world.nv(&["plugin", "list", "--json"]).exits(0);
    let plugins: Value = serde_json::from_str(&ran.stdout).unwrap();
    let track = plugins.as_array().unwrap().iter().find(|p| p["name"] == "track").unwrap();
    assert_eq!(
        (track["kinds"][0]["kind"].as_str(), track["kinds"][0]["is"].as_str()),
        (Some("bytetrack"), Some("stage"))
    );
    assert_eq!(track["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn one_plugin_in_full_by_name_and_by_path() {
    let world = World::empty();
    let by_name = world.nv(&["plugin", "info", "models"]).exits(0);
    for part in ["plugin   models", "models/detect (batch)", "  model ", "(must be given)", "(default 0.1)"] {
        assert!(by_name.stdout.contains(part), "{part}\n{}", by_name.stdout);
    }
    let path = by_name.stdout.lines().find_map(|line| line.strip_prefix("file     ")).unwrap();
    let by_path = world.nv(&["plugin", "info", path]).exits(0);
    assert_eq!(by_path.stdout, by_name.stdout);
    world.nv(&["plugin", "info", "modles"]).exits(3).says(&["no plugin \"modles\"", "did you mean `models`?"]);
    world.nv(&["plugin", "info", "./nope.so"]).exits(3).says(&["nope.so: there is no such file"]);
}

#[test]
fn a_model_is_looked_into() {
    let world = World::new();
    let ran = world.nv(&["model", "inspect", "m.onnx"]).exits(0);
    assert!(ran.stdout.lines().any(|line| line == "input       input float 1×3×32×32"), "{}", ran.stdout);
    let ran = world.nv(&["model", "inspect", "m.onnx", "--json"]).exits(0);
    let description: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(description["outputs"][0]["shape"], serde_json::json!([1, 21, 85]));
    world.nv(&["model", "inspect", "nope.onnx"]).exits(3).says(&["nope.onnx", "no such file"]);
    world.write("text.onnx", "hello");
    world.nv(&["model", "inspect", "text.onnx"]).exits(3).says(&["text.onnx"]);
}
