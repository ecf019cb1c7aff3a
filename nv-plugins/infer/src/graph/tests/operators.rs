//! What the operators' definitions say and their common form does not: their older and newer forms, and where they end.

use super::*;
use crate::graph::size::shape_text;
use crate::testing::OnnxBuilder;

fn picture() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[2.into(), 4.into(), 6.into(), 9.into()])
}

/// The shapes of the outputs `y`, `z` and so on, or what is wrong with them, or why they are not understood.
fn shapes(builder: OnnxBuilder) -> String {
    let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
    let mut graph = match imported(&model) {
        Ok(graph) => graph,
        Err(error) => return error,
    };
    if let Some(why) = graph.nodes.iter().find_map(|n| if let Op::Other { why, .. } = n.op { Some(why) } else { None })
    {
        return why.into();
    }
    if let Err(error) = infer(&mut graph) {
        return error;
    }
    let node = graph.nodes.iter().find(|node| node.outputs.contains(&graph.outputs[0].1));
    let outputs = node.map_or(vec![graph.outputs[0].1], |node| node.outputs.clone());
    let texts = outputs.iter().map(|&id| graph.shape(id).map_or("unknown".into(), shape_text));
    texts.collect::<Vec<_>>().join(" ")
}

fn check(builder: OnnxBuilder, expected: &str) {
    let found = shapes(builder);
    assert!(found == expected || expected.starts_with('…') && found.ends_with(&expected['…'.len_utf8()..]), "{found}");
}

#[test]
fn resize_keeps_the_aspect_ratio_if_it_is_to() {
    let to = |sizes: &[i64], policy: &str, axes: &[i64]| {
        let resize = picture().opset(18).integers("s", sizes).node("Resize", &["x", "", "", "s"], &["y"]);
        resize.attribute_text("keep_aspect_ratio_policy", policy).attribute_list("axes", axes)
    };
    check(to(&[2, 4, 12, 12], "stretch", &[]), "2×4×12×12");
    check(to(&[12, 12], "not_larger", &[2, 3]), "2×4×8×12");
    check(to(&[12, 12], "not_smaller", &[2, 3]), "2×4×12×18");
    // 9·5/6 = 7.5, which rounds up.
    check(to(&[5, 9], "not_larger", &[2, 3]), "2×4×5×8");
    check(to(&[9, 5], "not_larger", &[3, 2]), "2×4×5×8");
    let open = OnnxBuilder::new().input("x", &[1.into(), 1.into(), "h".into(), 9.into()]).integers("s", &[5, 9]);
    let open = open.opset(18).node("Resize", &["x", "", "", "s"], &["y"]).attribute_list("axes", &[2, 3]);
    check(open.attribute_text("keep_aspect_ratio_policy", "not_larger"), "unknown");
}

#[test]
fn resize_in_every_operator_set() {
    let scales = || picture().initializer("s", &[4], &[1.0, 1.0, 2.0, 0.5]).initializer("none", &[0], &[]);
    check(scales().opset(9).node("Upsample", &["x", "s"], &["y"]), "2×4×12×4");
    check(scales().opset(10).node("Resize", &["x", "s"], &["y"]), "2×4×12×4");
    check(scales().opset(11).node("Resize", &["x", "none", "s"], &["y"]), "2×4×12×4");
    check(scales().opset(13).node("Resize", &["x", "", "s"], &["y"]), "2×4×12×4");
    let attribute = picture().opset(7).node("Upsample", &["x"], &["y"]);
    check(attribute.attribute_floats("scales", &[1.0, 1.0, 2.0, 2.0]), "2×4×12×18");
    // Left out by having no values.
    let sizes = || scales().integers("to", &[2, 4, 3, 3]).integers("nowhere", &[]);
    check(sizes().opset(11).node("Resize", &["x", "none", "none", "to"], &["y"]), "2×4×3×3");
    check(sizes().opset(11).node("Resize", &["x", "none", "s", "nowhere"], &["y"]), "2×4×12×4");
}

#[test]
fn split_by_number_has_a_smaller_last_part() {
    let split = |outputs: &[&str], parts: i64, axis: i64| {
        let split = picture().opset(18).node("Split", &["x"], outputs).attribute("axis", axis);
        split.attribute("num_outputs", parts)
    };
    check(split(&["y", "z"], 2, 3), "2×4×6×5 2×4×6×4");
    check(split(&["y", "z", "w"], 3, -1), "2×4×6×3 2×4×6×3 2×4×6×3");
    check(split(&["y", "z", "w", "v"], 4, 2), "2×4×2×9 2×4×2×9 2×4×2×9 2×4×0×9");
    let named = picture().opset(11).node("Split", &["x"], &["y", "z"]).attribute("axis", 1);
    check(named.attribute_list("split", &[1, 3]), "2×1×6×9 2×3×6×9");
}

#[test]
fn reductions_over_named_and_over_no_axes() {
    let over = |builder: OnnxBuilder| builder.node("ReduceSum", &["x", "a"], &["y"]);
    check(over(picture().integers("a", &[-1, 1])), "2×1×6×1");
    check(over(picture().integers("a", &[1])).attribute("keepdims", 0), "2×6×9");
    check(over(picture().integers("a", &[])), "1×1×1×1");
    check(over(picture().integers("a", &[])).attribute("noop_with_empty_axes", 1), "2×4×6×9");
    let max = picture().opset(11).node("ReduceMax", &["x"], &["y"]).attribute_list("axes", &[2, 3]);
    check(max.attribute("keepdims", 0), "2×4");
    check(picture().opset(18).node("ReduceMean", &["x"], &["y"]).attribute("keepdims", 0), "scalar");
}

#[test]
fn pools_of_every_kind() {
    let pool = |name: &str| picture().node(name, &["x"], &["y"]).attribute_list("kernel_shape", &[3, 3]);
    check(pool("AveragePool").opset(19).attribute_list("dilations", &[2, 4]), "2×4×2×1");
    check(pool("MaxPool").attribute_list("strides", &[2, 2]), "2×4×2×4");
    check(pool("MaxPool").attribute_list("strides", &[2, 2]).attribute("ceil_mode", 1), "2×4×3×4");
    // The last window would begin in the padding at the end: it is none.
    let end = pool("AveragePool").attribute_list("strides", &[4, 4]).attribute_list("pads", &[0, 1, 2, 2]);
    check(end.attribute("ceil_mode", 1), "2×4×2×3");
    check(pool("MaxPool").attribute_text("auto_pad", "SAME_LOWER").attribute_list("strides", &[4, 4]), "2×4×2×3");
    check(pool("MaxPool").attribute_text("auto_pad", "VALID"), "2×4×4×7");
    let places = picture().node("MaxPool", &["x"], &["y", "z"]).attribute_list("kernel_shape", &[2, 2]);
    check(places.attribute("storage_order", 1), "it gives places in column-major order");
}

#[test]
fn what_trains_is_not_understood() {
    let norm = |opset: i64| {
        let x = ["s", "b", "m", "v"].iter().fold(picture(), |x, name| x.initializer(name, &[4], &[1.0; 4]));
        x.opset(opset).node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"])
    };
    check(norm(15), "2×4×6×9");
    check(norm(15).attribute("training_mode", 1), "it is in training");
    check(norm(7).attribute("spatial", 0), "it normalises every place by itself");
    let drop = |training: bool| {
        let x = picture().opset(12).initializer("r", &[], &[0.5]).scalar("t", i64::from(training));
        x.node("Dropout", &["x", "r", "t"], &["y", "z"])
    };
    check(drop(false), "2×4×6×9 2×4×6×9");
    check(drop(true), "it may be in training");
    check(picture().opset(7).node("Dropout", &["x"], &["y"]).attribute_float("ratio", 0.5), "2×4×6×9");
}

#[test]
fn ranges_of_fractions_and_of_open_sizes() {
    let range = |start: f32, limit: f32, delta: f32| {
        let all = [("a", start), ("b", limit), ("c", delta)];
        let x = all.iter().fold(picture(), |x, (name, value)| x.initializer(name, &[], &[*value]));
        x.node("Range", &["a", "b", "c"], &["y"])
    };
    check(range(1.0, 2.0, 0.3), "4");
    check(range(5.0, 1.0, -2.0), "2");
    check(range(5.0, 1.0, 2.0), "0");
    check(range(0.0, 1.0, 0.0), "…a size of inf");
    check(range(0.0, f32::NAN, 1.0), "…a size of NaN");
    let open = |less: i64| {
        let x =
            OnnxBuilder::new().input("x", &["n".into()]).scalar("zero", 0).scalar("one", 1).integers("less", &[less]);
        let x = x.integers("first", &[0]).node("Shape", &["x"], &["s"]).node("Sub", &["s", "less"], &["d"]);
        x.node("Squeeze", &["d", "first"], &["limit"]).node("Range", &["zero", "limit", "one"], &["y"])
    };
    check(open(0), "n");
    check(open(1), "n-1");
    // It may be less than nothing.
    check(open(2), "unknown");
}

#[test]
fn shapes_of_nothing() {
    let empty = |to: &[i64]| {
        let x = OnnxBuilder::new().integers("zeros", &[0, 3]).integers("to", to);
        x.node("ConstantOfShape", &["zeros"], &["x"]).node("Reshape", &["x", "to"], &["y"])
    };
    check(empty(&[0, 3]), "0×3");
    check(empty(&[3, 0]).attribute("allowzero", 1), "3×0");
    check(empty(&[0, -1]), "…0×3 to 0×-1");
    check(empty(&[2, 0]).attribute("allowzero", 1), "2×0");
    check(empty(&[2, 1]), "…0×3 to 2×1");
}

#[test]
fn softmax_flatten_and_gemm() {
    check(picture().opset(11).node("Softmax", &["x"], &["y"]).attribute("axis", -4), "2×4×6×9");
    check(picture().node("Flatten", &["x"], &["y"]).attribute("axis", -1), "48×9");
    check(picture().node("Flatten", &["x"], &["y"]).attribute("axis", 4), "432×1");
    check(picture().node("Flatten", &["x"], &["y"]).attribute("axis", 0), "1×432");
    let matrix = || OnnxBuilder::new().input("x", &[5.into(), 2.into()]).initializer("w", &[5, 3], &[0.0; 15]);
    let gemm = |c: &[i64]| {
        let n = c.iter().product::<i64>() as usize;
        let x = matrix().initializer("c", c, &vec![0.0; n]).node("Gemm", &["x", "w", "c"], &["y"]);
        x.attribute("transA", 1)
    };
    check(gemm(&[3]), "2×3");
    check(gemm(&[2, 1]), "2×3");
    check(gemm(&[]), "2×3");
    check(gemm(&[2]), "…C: 2 to 2×3: 2 where 3 is needed");
}

/// Bounds the wrong way round are for the executor to make something of: a Clamp is between two numbers in order.
#[test]
fn a_clip_between_no_bounds_stays_one() {
    let fused = |least: f32, greatest: f32| {
        let x = picture().initializer("a", &[], &[least]).initializer("b", &[], &[greatest]);
        let file = x.node("Clip", &["x", "a", "b"], &["y"]).output_of_any_shape("y").build();
        let mut graph = imported(&Model::from_bytes("m.onnx", file).unwrap()).unwrap();
        infer(&mut graph).unwrap();
        passes::run(&mut graph);
        graph.nodes[0].op.to_string()
    };
    assert_eq!(fused(0.0, 6.0), "Clip 0..6");
    assert_eq!(fused(f32::NEG_INFINITY, 6.0), "Clip -inf..6");
    assert_eq!([fused(6.0, 0.0), fused(f32::NAN, 6.0)], ["Clip"; 2]);
}

/// What is beyond a type's range comes round when a model runs; beforehand it is left alone.
#[test]
fn small_numbers_are_not_folded_beyond_their_type() {
    let sum = |to: i64| {
        let x = picture().integers("a", &[200]).integers("b", &[100]);
        let x = x.node("Cast", &["a"], &["c"]).attribute("to", to).node("Cast", &["b"], &["d"]).attribute("to", to);
        let file = x.node("Add", &["c", "d"], &["y"]).output_of_any_shape("y").build();
        let mut graph = imported(&Model::from_bytes("m.onnx", file).unwrap()).unwrap();
        infer(&mut graph).unwrap();
        operators(&graph)
    };
    let [uint8, int8, int32, int64] = [2, 3, 6, 7].map(sum);
    assert_eq!([uint8, int32, int64], ["Add 1", "", ""]);
    assert_eq!(int8, "Add 1, Cast 1");
}
