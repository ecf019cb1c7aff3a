//! Each rewrite on a small graph: what is left, and that rten computes the same from the file.

use crate::graph::tests::{fused, operators, weights};
use crate::testing::OnnxBuilder;
use crate::{GraphOptions, Model};

fn picture() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[1.into(), 4.into(), 6.into(), 6.into()])
}

/// A convolution of `x`, 3×3 from 4 to `channels`, called `to`.
fn conv(builder: OnnxBuilder, from: &str, to: &str, channels: i64) -> OnnxBuilder {
    let (w, b) = (format!("{to}.w"), format!("{to}.b"));
    builder
        .initializer(&w, &[channels, 4, 3, 3], &weights(36 * channels as usize))
        .initializer(&b, &[channels], &weights(channels as usize))
        .node("Conv", &[from, &w, &b], &[to])
        .attribute_list("kernel_shape", &[3, 3])
        .attribute_list("pads", &[1, 1, 1, 1])
}

/// The operators that are left, and each node that is a convolution or rearrangement in full.
fn check(builder: OnnxBuilder, expected: &str, described: &[&str]) {
    let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
    let (graph, rewrites, fixed) = fused(&model, 3, 1e-5);
    assert_eq!(fixed, None);
    let texts: Vec<String> = graph.nodes.iter().map(|n| n.op.to_string()).collect();
    assert_eq!(operators(&graph), expected, "{texts:?} {rewrites:?}");
    for text in described {
        assert!(texts.iter().any(|t| t == text), "{text:?} in {texts:?}");
    }
}

#[test]
fn nodes_that_do_nothing_go() {
    check(
        picture().node("Identity", &["x"], &["a"]).node("Identity", &["a"], &["b"]).node("Relu", &["b"], &["y"]),
        "Relu 1",
        &[],
    );
    check(picture().node("Relu", &["x"], &["a"]).node("Identity", &["a"], &["y"]), "Relu 1", &[]);
    check(
        picture().node("Transpose", &["x"], &["a"]).attribute_list("perm", &[0, 1, 2, 3]).node("Relu", &["a"], &["y"]),
        "Relu 1",
        &[],
    );
    check(
        picture().integers("s", &[1, 4, 6, 6]).node("Reshape", &["x", "s"], &["a"]).node("Tanh", &["a"], &["y"]),
        "Tanh 1",
        &[],
    );
}

/// rten is built without Dropout here, so that only what is left can be looked at.
#[test]
fn dropout_goes_unless_its_mask_is_wanted() {
    let left = |builder: OnnxBuilder| {
        let builder = builder.node("Dropout", &["x"], &["d", "mask"]).node("Relu", &["d"], &["y"]);
        let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
        let fused = model.analyse(&GraphOptions::default()).unwrap().fused.unwrap();
        fused.operators.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(left(picture()), "Relu 1");
    assert_eq!(left(picture().output_of_any_shape("mask")), "Dropout 1, Relu 1");
}

#[test]
fn batch_normalization_folds_into_the_convolution() {
    let norm = |from: &str, to: &str, builder: OnnxBuilder| {
        builder
            .initializer("scale", &[5], &[0.5, 1.0, -1.5, 2.0, 0.1])
            .initializer("shift", &[5], &weights(5))
            .initializer("mean", &[5], &[0.3, -0.2, 0.1, 0.0, 1.0])
            .initializer("variance", &[5], &[0.2, 1.0, 3.0, 0.5, 0.9])
            .node("BatchNormalization", &[from, "scale", "shift", "mean", "variance"], &[to])
            .attribute_float("epsilon", 1e-3)
    };
    check(norm("c", "y", conv(picture(), "x", "c", 5)), "Conv 1", &["Conv 3×3 pad 1"]);
    check(
        norm("c", "n", conv(picture(), "x", "c", 5)).node("Relu", &["n"], &["y"]),
        "Conv 1",
        &["Conv 3×3 pad 1 + Relu"],
    );
    // Somebody else wants the sums as they are.
    let shared = norm("c", "n", conv(picture(), "x", "c", 5)).node("Mul", &["n", "c"], &["y"]);
    check(shared, "BatchNormalization 1, Conv 1, Mul 1", &[]);
}

#[test]
fn a_constant_per_channel_becomes_the_bias() {
    let add = |dims: &[i64], swapped: bool| {
        let len = dims.iter().product::<i64>() as usize;
        let inputs = if swapped { ["b", "c"] } else { ["c", "b"] };
        conv(picture(), "x", "c", 6).initializer("b", dims, &weights(len)).node("Add", &inputs, &["y"])
    };
    check(add(&[6, 1, 1], false), "Conv 1", &[]);
    check(add(&[1, 6, 1, 1], true), "Conv 1", &[]);
    check(add(&[1], false), "Conv 1", &[]);
    // Along the columns, which are as many as the channels.
    check(add(&[6], false), "Add 1, Conv 1", &[]);
}

#[test]
fn activations_go_into_the_convolution() {
    let unary = |name: &str| conv(picture(), "x", "c", 4).node(name, &["c"], &["y"]);
    check(unary("Relu"), "Conv 1", &["Conv 3×3 pad 1 + Relu"]);
    check(unary("Sigmoid"), "Conv 1", &["Conv 3×3 pad 1 + Sigmoid"]);
    check(unary("Tanh"), "Conv 1", &["Conv 3×3 pad 1 + Tanh"]);
    check(unary("HardSigmoid"), "Conv 1", &["Conv 3×3 pad 1 + HardSigmoid 0.2 0.5"]);
    check(unary("LeakyRelu").attribute_float("alpha", 0.1), "Conv 1", &["Conv 3×3 pad 1 + LeakyRelu 0.1"]);
    check(unary("Exp"), "Conv 1, Exp 1", &[]);
    let clip = conv(picture(), "x", "c", 4).initializer("a", &[], &[-0.5]).initializer("b", &[], &[0.75]);
    check(clip.node("Clip", &["c", "a", "b"], &["y"]), "Conv 1", &["Conv 3×3 pad 1 + Clip -0.5..0.75"]);
    let prelu = |dims: &[i64]| {
        let len = dims.iter().product::<i64>() as usize;
        conv(picture(), "x", "c", 6).initializer("s", dims, &weights(len)).node("PRelu", &["c", "s"], &["y"])
    };
    check(prelu(&[6, 1, 1]), "Conv 1", &["Conv 3×3 pad 1 + PRelu"]);
    check(prelu(&[6]), "Conv 1, PRelu 1", &[]);
    // The sums are asked for too.
    check(
        conv(picture(), "x", "c", 4).node("Relu", &["c"], &["r"]).node("Mul", &["r", "c"], &["y"]),
        "Conv 1, Mul 1, Relu 1",
        &[],
    );
}

#[test]
fn silu_and_hard_swish_are_found_however_they_are_written() {
    let silu = conv(picture(), "x", "c", 4).node("Sigmoid", &["c"], &["s"]);
    check(silu.node("Mul", &["c", "s"], &["y"]), "Conv 1", &["Conv 3×3 pad 1 + Silu"]);
    check(picture().node("Sigmoid", &["x"], &["s"]).node("Mul", &["s", "x"], &["y"]), "Silu 1", &[]);
    let gate = picture().node("HardSigmoid", &["x"], &["g"]).attribute_float("alpha", 1.0 / 6.0);
    check(gate.attribute_float("beta", 0.5).node("Mul", &["x", "g"], &["y"]), "HardSwish 1", &[]);
    let clipped = || {
        picture()
            .initializer("three", &[], &[3.0])
            .initializer("zero", &[], &[0.0])
            .initializer("six", &[], &[6.0])
            .node("Add", &["x", "three"], &["a"])
            .node("Clip", &["a", "zero", "six"], &["b"])
    };
    check(clipped().node("Mul", &["x", "b"], &["c"]).node("Div", &["c", "six"], &["y"]), "HardSwish 1", &[]);
    check(clipped().node("Div", &["b", "six"], &["c"]).node("Mul", &["c", "x"], &["y"]), "HardSwish 1", &[]);
    // A gate of something else is no SiLU.
    let other = picture().node("Tanh", &["x"], &["t"]).node("Sigmoid", &["t"], &["s"]);
    check(other.node("Mul", &["x", "s"], &["y"]), "Mul 1, Sigmoid 1, Tanh 1", &[]);
}

#[test]
fn residuals_are_added_before_or_after_the_activation() {
    let block = || conv(picture(), "x", "c", 4);
    check(block().node("Add", &["c", "x"], &["y"]), "Conv 1", &["Conv 3×3 pad 1 + Add"]);
    check(
        block().node("Add", &["x", "c"], &["a"]).node("Relu", &["a"], &["y"]),
        "Conv 1",
        &["Conv 3×3 pad 1 + Add + Relu"],
    );
    check(
        block().node("Relu", &["c"], &["r"]).node("Add", &["x", "r"], &["y"]),
        "Conv 1",
        &["Conv 3×3 pad 1 + Relu + Add"],
    );
    let two = conv(block(), "x", "d", 4).node("Add", &["c", "d"], &["y"]);
    check(two, "Conv 2", &["Conv 3×3 pad 1", "Conv 3×3 pad 1 + Add"]);
    // Not of the output's shape.
    let broadcast = block().node("GlobalAveragePool", &["x"], &["g"]).node("Add", &["c", "g"], &["y"]);
    check(broadcast, "Add 1, Conv 1, GlobalAveragePool 1", &[]);
    let slopes = block().initializer("s", &[4, 1, 1], &weights(4)).node("PRelu", &["c", "s"], &["p"]);
    check(slopes.node("Add", &["p", "x"], &["y"]), "Conv 1", &["Conv 3×3 pad 1 + PRelu + Add"]);
}

#[test]
fn rearrangements_become_index_maps() {
    let shuffle = picture()
        .integers("split", &[1, 2, 2, 6, 6])
        .integers("join", &[1, 4, 6, 6])
        .node("Reshape", &["x", "split"], &["a"])
        .node("Transpose", &["a"], &["b"])
        .attribute_list("perm", &[0, 2, 1, 3, 4])
        .node("Reshape", &["b", "join"], &["y"]);
    check(shuffle, "IndexMap 1", &["IndexMap N×2×2×6×6 by [0, 2, 1, 3, 4]"]);
    check(picture().node("DepthToSpace", &["x"], &["y"]).attribute("blocksize", 2), "IndexMap 1", &[]);
    let column = picture().node("DepthToSpace", &["x"], &["y"]).attribute("blocksize", 2).attribute_text("mode", "CRD");
    check(column, "IndexMap 1", &[]);
}

/// YOLOX's and YOLOv5's, which differ in the order of the parts, and one that leaves a part out.
#[test]
fn focus_is_an_index_map() {
    let focus = |parts: &[(i64, i64)]| {
        let mut builder = picture()
            .integers("end", &[i64::MAX])
            .integers("rows", &[2])
            .integers("columns", &[3])
            .integers("two", &[2])
            .integers("0", &[0])
            .integers("1", &[1]);
        let mut names = Vec::new();
        for (row, column) in parts {
            let (rows, part) = (format!("rows {row}{column}"), format!("part {row}{column}"));
            builder = builder.node("Slice", &["x", &row.to_string(), "end", "rows", "two"], &[&rows]).node(
                "Slice",
                &[&rows, &column.to_string(), "end", "columns", "two"],
                &[&part],
            );
            names.push(part);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        builder.node("Concat", &names, &["y"]).attribute("axis", 1)
    };
    let columns_outside = "IndexMap N×4×3×2×3×2 by [0, 5, 3, 1, 2, 4]";
    check(focus(&[(0, 0), (1, 0), (0, 1), (1, 1)]), "IndexMap 1", &[columns_outside]);
    check(focus(&[(0, 0), (0, 1), (1, 0), (1, 1)]), "IndexMap 1", &["IndexMap N×4×3×2×3×2 by [0, 3, 5, 1, 2, 4]"]);
    check(focus(&[(0, 0), (1, 1), (0, 1), (1, 0)]), "Concat 1, Slice 8", &[]);
    check(focus(&[(0, 0), (1, 0), (0, 1)]), "Concat 1, Slice 6", &[]);
}
