//! Plans of real files: whole, in order, within memory.

use super::*;
use crate::Model;
use crate::graph::concrete::concrete;
use crate::graph::import::import;
use crate::testing::OnnxBuilder;

fn target(block: usize) -> Target {
    Target { block, planes: true, buffer_limit: usize::MAX, memory_limit: 1 << 28 }
}

/// A plan for inputs of these shapes.
fn planned(model: &Model, shapes: &[Vec<usize>], block: usize) -> Plan {
    let imported = import(crate::model::parse(model.path(), model.bytes()).unwrap()).unwrap();
    let (graph, _) = concrete(&imported, shapes).unwrap();
    lower(&graph, &target(block)).unwrap()
}

/// What must hold of every plan: nothing is read before it is written, no step reads what it writes, no array that lives is
/// where another one is.
fn check(plan: &Plan) {
    let mut written: Vec<bool> = plan.arrays.iter().map(|array| array.constant.is_some()).collect();
    plan.inputs.iter().for_each(|port| written[port.array.index()] = true);
    assert_eq!(access::check(plan), Ok(()));
    for step in &plan.steps {
        let accesses = access::Accesses::of(&step.action);
        for (read, _) in &accesses.reads {
            assert!(written[read.array.index()], "{step:?} reads what nobody wrote");
        }
        accesses.writes.iter().for_each(|(span, _)| written[span.array.index()] = true);
    }
    for port in plan.inputs.iter().chain(&plan.outputs) {
        assert!(written[port.array.index()], "{port:?}");
        assert_eq!(plan.array(port.array).len, port.dims.iter().product::<usize>(), "{port:?}");
    }
}

#[test]
fn real_models_have_whole_plans() {
    for (file, shape) in [
        ("yolox_nano_coco_416.onnx", vec![1, 3, 416, 416]),
        ("ultraface_rfb_320.onnx", vec![1, 3, 240, 320]),
        ("fastestdet_coco_352.onnx", vec![1, 3, 352, 352]),
        ("yunet_s_dynamic.onnx", vec![1, 3, 320, 320]),
        ("yunet_s_dynamic.onnx", vec![2, 3, 192, 256]),
        ("person-reidentification-retail-0248.onnx", vec![1, 256, 128, 3]),
    ] {
        let Some(model) = crate::graph::tests::models::load("real_models_have_whole_plans", file) else { continue };
        for block in [4, 8, 16] {
            let plan = planned(&model, std::slice::from_ref(&shape), block);
            check(&plan);
        }
    }
}

/// How many copies a plan of the graph makes, for blocks of four channels.
fn copies(builder: OnnxBuilder) -> usize {
    copies_at(builder, [6, 6])
}

fn copies_at(builder: OnnxBuilder, [height, width]: [usize; 2]) -> usize {
    let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
    let plan = planned(&model, &[vec![1, 4, height, width]], 4);
    check(&plan);
    plan.steps.iter().filter(|step| matches!(step.action.kind(), "copy" | "shuffle")).count()
}

#[test]
fn inputs_of_a_concat_are_computed_where_they_go() {
    let picture = || OnnxBuilder::new().input("x", &[1.into(), 4.into(), 6.into(), 6.into()]);
    let two = || picture().node("Relu", &["x"], &["a"]).node("Tanh", &["x"], &["b"]);
    let concat =
        |builder: OnnxBuilder, from: &[&str], to: &str| builder.node("Concat", from, &[to]).attribute("axis", 1);
    assert_eq!(copies(concat(two(), &["a", "b"], "y")), 0);
    // The input lies where the caller writes it.
    assert_eq!(copies(concat(two(), &["a", "x", "b"], "y")), 1);
    // What one value is part of may itself be a part.
    assert_eq!(copies(concat(concat(two(), &["a", "b"], "c"), &["x", "c"], "y")), 1);
    // Twice in one, in two, or asked for by the caller: it can't be in both places.
    assert_eq!(copies(concat(two(), &["a", "a", "b"], "y")), 1);
    assert_eq!(copies(concat(concat(two(), &["a", "b"], "c"), &["a", "c"], "y")), 1);
    assert_eq!(copies(concat(two(), &["a", "b"], "y").output_of_any_shape("a")), 1);
    // Another view of it on the way changes nothing.
    let turned = two().node("Transpose", &["a"], &["t"]).attribute_list("perm", &[0, 1, 3, 2]);
    assert_eq!(copies(concat(turned, &["t", "b"], "y")), 0);
}

#[test]
fn pictures_are_put_together_without_copies() {
    let conv = |builder: OnnxBuilder, to: &str| {
        let weights: Vec<f32> = (0..16).map(|i| i as f32 * 0.1).collect();
        let w = format!("{to}.w");
        builder.initializer(&w, &[4, 4, 1, 1], &weights).node("Conv", &["x", &w], &[to])
    };
    let picture = || OnnxBuilder::new().input("x", &[1.into(), 4.into(), 6.into(), 6.into()]);
    let both = conv(conv(picture(), "a"), "b").node("Concat", &["a", "b"], &["c"]).attribute("axis", 1);
    let end = |builder: OnnxBuilder| {
        let weights: Vec<f32> = (0..32).map(|i| i as f32 * 0.1).collect();
        builder.initializer("e.w", &[4, 8, 1, 1], &weights).node("Conv", &["c", "e.w"], &["y"])
    };
    // Into blocks at the beginning, out of them at the end, and nothing between.
    assert_eq!(copies(end(both)), 2);
}

#[test]
fn a_depthwise_convolution_between_planes_stays_with_them() {
    let conv = |builder: OnnxBuilder, from: &str, to: &str| {
        let w = format!("{to}.w");
        let builder = builder.initializer(&w, &[4, 1, 3, 3], &[0.1; 36]).node("Conv", &[from, &w], &[to]);
        builder.attribute_list("pads", &[1; 4]).attribute("group", 4)
    };
    let start = |width: usize| OnnxBuilder::new().input("x", &[1.into(), 4.into(), 6.into(), width.into()]);
    assert_eq!(copies_at(conv(start(8), "x", "y"), [6, 8]), 0);
    // Rows of no whole blocks; steps; what comes next works on blocks.
    assert_eq!(copies_at(conv(start(6), "x", "y"), [6, 6]), 2);
    let strided = conv(start(8), "x", "y").attribute_list("strides", &[2, 2]);
    assert_eq!(copies_at(strided, [6, 8]), 2);
    assert_eq!(copies_at(conv(conv(start(8), "x", "z"), "z", "y"), [6, 8]), 2);
}
