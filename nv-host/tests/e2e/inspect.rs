use nv_infer::testing::OnnxBuilder;
use serde_json::Value;

use crate::world::World;

#[test]
fn the_shipped_plugins_are_listed() {
    let world = World::empty();
    let ran = world.nv(&["plugin", "list"]).exits(0);
    for kind in ["models/classify", "models/detect", "models/embed", "track/bytetrack"] {
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
    for part in [
        "plugin   models",
        "models/detect (batch)",
        "models/classify (batch)",
        "models/embed (batch)",
        "  model ",
        "(must be given)",
        "(default 0.1)",
    ] {
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

#[test]
fn a_model_s_graph_is_followed() {
    let world = World::empty();
    let weights: Vec<f32> = (0..8 * 27).map(|i| (i as f32).sin()).collect();
    let model = || {
        OnnxBuilder::new()
            .input("x", &["n".into(), 3.into(), "height".into(), 16.into()])
            .initializer("w", &[8, 3, 3, 3], &weights)
            .node("Conv", &["x", "w"], &["c"])
            .attribute_list("pads", &[1, 1, 1, 1])
            .node("Sigmoid", &["c"], &["s"])
            .node("Mul", &["c", "s"], &["y"])
    };
    world.write("open.onnx", model().output_of_any_shape("y").build());
    let ran = world.nv(&["model", "inspect", "open.onnx", "--graph"]).exits(0);
    for line in [
        "graph       3 nodes: Conv 1, Mul 1, Sigmoid 1",
        "fused       1 nodes: Conv 1",
        "rewrite     activation done by the convolution: 1",
        "batch       free (n): each entry is computed by itself",
        "unknown     cost and memory: depends on the size of height",
        "  y float n×8×height×16 = Conv pad 1 + Silu (x float n×3×height×16, w float 8×3×3×3)",
    ] {
        assert!(ran.stdout.lines().any(|l| l == line), "{line:?} in\n{}", ran.stdout);
    }
    let figures = ["model", "inspect", "open.onnx", "--dim", "height=32", "--batch", "4", "--json"];
    let report: Value = serde_json::from_str(&world.nv(&figures).exits(0).stdout).unwrap();
    let graph = &report["graph"];
    assert_eq!(graph["cost"]["macs"], 8 * 27 * 32 * 16);
    // Input and output at the least; how wide blocks of channels are is the machine's.
    let values = 4 * 4 * (3 + 8) * 32 * 16;
    let reused = graph["memory"]["reused"].as_u64().unwrap();
    assert!(graph["memory"]["batch"] == 4 && (values..4 * values).contains(&reused), "{graph:#}");
    assert_eq!((&graph["plan"]["kinds"]["convolution"], &graph["plan"]["host_only"]), (&1.into(), &0.into()));
    assert_eq!((&graph["batch"], &graph["fused"]["nodes"]), (&"n".into(), &1.into()));
    world.nv(&["model", "inspect", "open.onnx", "--dim", "height"]).exits(2).says(&["NAME=SIZE"]);
    world.nv(&["model", "inspect", "open.onnx", "--dim", "height=0"]).exits(2).says(&["at least 1"]);

    let mixed = model().node("Softmax", &["y"], &["z"]).attribute("axis", 0).output_of_any_shape("z");
    world.write("mixed.onnx", mixed.node("Frobnicate", &["x"], &["q"]).build());
    let ran = world.nv(&["model", "inspect", "mixed.onnx"]).exits(0);
    for part in ["batch       fixed: Softmax node \"Softmax_z\"", "lacking     Frobnicate (node \"Frobnicate_q\")"] {
        assert!(ran.stdout.contains(part), "{part:?} in\n{}", ran.stdout);
    }
    let cycle = OnnxBuilder::new().node("Relu", &["b"], &["a"]).node("Relu", &["a"], &["b"]).output_of_any_shape("b");
    world.write("cycle.onnx", cycle.build());
    world.nv(&["model", "inspect", "cycle.onnx"]).exits(3).says(&["cycle.onnx", "Relu_a", "depends on itself"]);
}
