//! Files of every kind, sound and not.

use proptest::prelude::*;

use super::*;
use crate::graph::size::shape_text;
use crate::testing::{OnnxBuilder, classifier};
use crate::{Dim, GraphOptions, InferErrorKind};

fn small() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[1.into(), 4.into(), 8.into(), 8.into()])
}

fn analyse(builder: OnnxBuilder) -> Result<crate::GraphReport, crate::InferError> {
    Model::from_bytes("m.onnx", builder.build()).unwrap().analyse(&GraphOptions::default())
}

#[test]
fn a_graph_that_contradicts_itself_is_an_error_that_says_where() {
    fn check(builder: OnnxBuilder, expected: &[&str]) {
        let error = analyse(builder.output_of_any_shape("y")).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::Invalid);
        for part in expected {
            assert!(error.to_string().contains(part), "{part:?} in {error}");
        }
    }
    check(small().node("Relu", &["nothing"], &["y"]), &["Relu node \"Relu_y\"", "\"nothing\""]);
    check(small(), &["nothing computes the output \"y\""]);
    check(
        small().node("Add", &["x", "b"], &["a"]).node("Relu", &["a"], &["b"]).node("Relu", &["b"], &["y"]),
        &["depends on itself", "Add_a"],
    );
    check(small().node("Relu", &["x"], &["y"]).node("Relu", &["x"], &["y"]), &["two things are called \"y\""]);
    check(
        small().initializer("w", &[100_000, 30_000], &[]).node("Add", &["x", "w"], &["y"]),
        &["tensor \"w\"", "3000000000 values, 0 are there"],
    );
    check(small().initializer("w", &[-4], &[]).node("Add", &["x", "w"], &["y"]), &["tensor \"w\"", "[-4]"]);
    check(small().node("Concat", &["x", "x"], &["y"]), &["Concat node", "no axis"]);
    check(
        small().node("Relu", &["x"], &["y"]).node("MaxPool", &["x"], &["z"]).attribute_list("strides", &[0, 1]),
        &["MaxPool node", "strides is [0, 1]"],
    );
}

#[test]
fn shapes_that_do_not_fit_are_named_with_the_node() {
    fn check(builder: OnnxBuilder, expected: &[&str]) {
        let report = analyse(builder.output_of_any_shape("y")).unwrap();
        let problem = report.problem.unwrap_or_else(|| panic!("{:?}", report.batch_fixed));
        for part in expected {
            assert!(problem.contains(part), "{part:?} in {problem}");
        }
    }
    let conv = |dims: &[i64]| {
        let len = dims.iter().product::<i64>() as usize;
        small().initializer("w", dims, &weights(len)).node("Conv", &["x", "w"], &["y"])
    };
    check(conv(&[2, 3, 3, 3]), &["Conv node \"Conv_y\"", "x float 1×4×8×8", "4 channels", "w float 2×3×3×3"]);
    check(conv(&[2, 4, 9, 9]), &["a window of 9 over 8"]);
    check(conv(&[2, 4, 3]), &["weights of 2×4×3"]);
    check(small().integers("s", &[3, -1]).node("Reshape", &["x", "s"], &["y"]), &["1×4×8×8 to 3×-1"]);
    check(small().integers("s", &[5]).node("Reshape", &["x", "s"], &["y"]), &["1×4×8×8 to 5"]);
    check(small().initializer("b", &[3], &[0.0; 3]).node("Add", &["x", "b"], &["y"]), &["Add", "do not go together"]);
    check(small().node("Transpose", &["x"], &["y"]).attribute_list("perm", &[0, 0, 1, 2]), &["[0, 0, 1, 2]"]);
    check(small().node("Concat", &["x", "x"], &["y"]).attribute("axis", 7), &["axis 7 of a tensor of 4 dimensions"]);
    check(small().integers("i", &[4]).node("Gather", &["x", "i"], &["y"]).attribute("axis", 1), &["index 4"]);
    check(
        small()
            .integers("s", &[i64::MAX, i64::MAX])
            .node("ConstantOfShape", &["s"], &["h"])
            .node("Flatten", &["h"], &["y"])
            .attribute("axis", 2),
        &["63 bits"],
    );
}

#[test]
fn what_is_not_known_is_kept_and_named() {
    let report =
        analyse(small().node("Relu", &["x"], &["h"]).node("Frobnicate", &["h"], &["y"]).output_of_any_shape("y"))
            .unwrap();
    let lacking = &report.lacking[0];
    assert_eq!((lacking.operator.as_str(), lacking.node.as_str()), ("Frobnicate", "Frobnicate_y"));
    assert_eq!(report.fused.as_ref().unwrap().operators["Frobnicate"], 1);
    assert!(report.batch_fixed.as_deref().unwrap().contains("what it does is not known"));
    assert!(report.cost.is_some() && report.memory.is_none(), "{report:?}");
    assert!(
        report.to_string().contains("lacking     Frobnicate (node \"Frobnicate_y\"): an operator that is not known")
    );
}

/// Every operator that only moves elements, by the shape that it gives and by what rten computes.
#[test]
fn shapes_are_those_that_rten_computes() {
    fn check(builder: OnnxBuilder, expected: &str) {
        let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
        let (graph, _, fixed) = fused(&model, 3, 1e-5);
        assert_eq!(fixed, None);
        assert_eq!(shape_text(graph.shape(graph.outputs[0].1).unwrap()), expected);
    }
    let pool = |name: &str| {
        small().node(name, &["x"], &["y"]).attribute_list("kernel_shape", &[3, 3]).attribute_list("strides", &[2, 2])
    };
    check(pool("MaxPool"), "N×4×3×3");
    check(pool("MaxPool").attribute_list("pads", &[1, 1, 1, 1]), "N×4×4×4");
    check(pool("AveragePool").attribute_list("pads", &[1, 1, 1, 1]), "N×4×4×4");
    check(pool("MaxPool").attribute_text("auto_pad", "SAME_UPPER"), "N×4×4×4");
    check(small().node("GlobalAveragePool", &["x"], &["y"]), "N×4×1×1");
    check(small().node("Flatten", &["x"], &["y"]), "N×256");
    check(small().node("Transpose", &["x"], &["y"]).attribute_list("perm", &[0, 2, 3, 1]), "N×8×8×4");
    check(
        small().integers("a", &[1]).integers("b", &[7]).integers("c", &[3]).integers("d", &[2]).node(
            "Slice",
            &["x", "a", "b", "c", "d"],
            &["y"],
        ),
        "N×4×8×3",
    );
    check(
        small().integers("a", &[-1]).integers("b", &[-100]).integers("c", &[2]).integers("d", &[-3]).node(
            "Slice",
            &["x", "a", "b", "c", "d"],
            &["y"],
        ),
        "N×4×3×8",
    );
    check(small().integers("i", &[3, -4]).node("Gather", &["x", "i"], &["y"]).attribute("axis", 1), "N×2×8×8");
    check(small().integers("a", &[2]).node("Unsqueeze", &["x", "a"], &["y"]), "N×4×1×8×8");
    check(small().integers("p", &[0, 0, 1, 0, 0, 0, 2, 3]).node("Pad", &["x", "p"], &["y"]), "N×4×11×11");
    check(
        small()
            .initializer("r", &[0], &[])
            .initializer("s", &[4], &[1.0, 1.0, 2.0, 2.0])
            .node("Resize", &["x", "r", "s"], &["y"])
            .attribute_text("mode", "linear"),
        "N×4×16×16",
    );
    check(small().integers("t", &[0, 2, -1]).node("Reshape", &["x", "t"], &["y"]), "N×2×128");
    check(small().node("ReduceMean", &["x"], &["y"]).attribute_list("axes", &[2, -1]), "N×4×1×1");
    check(small().initializer("w", &[8, 5], &weights(40)).node("MatMul", &["x", "w"], &["y"]), "N×4×8×5");
    check(small().node("Softmax", &["x"], &["y"]).attribute("axis", 1), "N×4×8×8");
    check(small().opset(11).node("Softmax", &["x"], &["y"]).attribute("axis", 3), "N×4×8×8");
    check(
        small()
            .initializer("w", &[6, 2, 3, 3], &weights(108))
            .node("Conv", &["x", "w"], &["y"])
            .attribute("group", 2)
            .attribute_list("kernel_shape", &[3, 3])
            .attribute_list("dilations", &[2, 2]),
        "N×6×4×4",
    );
}

/// What exporters write around a Reshape is computed beforehand, the batch and all.
#[test]
fn shapes_that_are_computed_become_known() {
    let model = OnnxBuilder::new()
        .input("x", &[Dim::from("n"), 4.into(), 6.into(), 6.into()])
        .integers("zero", &[0])
        .integers("rest", &[-1, 9])
        .node("Shape", &["x"], &["shape"])
        .node("Gather", &["shape", "zero"], &["batch"])
        .node("Concat", &["batch", "rest"], &["target"])
        .attribute("axis", 0)
        .node("Reshape", &["x", "target"], &["y"])
        .output_of_any_shape("y")
        .build();
    let (graph, _, fixed) = fused(&Model::from_bytes("m.onnx", model).unwrap(), 4, 1e-6);
    assert_eq!((operators(&graph).as_str(), fixed), ("Reshape 1", None));
    assert_eq!(shape_text(graph.shape(graph.outputs[0].1).unwrap()), "n×16×9");
}

#[test]
fn folding_stops_at_what_is_small() {
    let report = analyse(
        small()
            .integers("s", &[1, 40_000, 40_000])
            .node("ConstantOfShape", &["s"], &["zeros"])
            .node("Relu", &["zeros"], &["h"])
            .node("ReduceMax", &["h"], &["z"])
            .node("Add", &["x", "z"], &["y"])
            .output_of_any_shape("y"),
    )
    .unwrap();
    assert_eq!(report.fused.unwrap().operators["ConstantOfShape"], 1);
    assert!(report.unknown.unwrap().contains("takes 6400000000 bytes"));
}

#[test]
fn deep_and_wide_graphs_end_soon() {
    // Sizes of open dimensions that get more complicated with every node.
    let mut builder = OnnxBuilder::new().input("v0", &["n".into(), 1.into(), "h".into(), "w".into()]);
    for i in 0..400 {
        builder = builder
            .node("MaxPool", &[&format!("v{i}")], &[&format!("v{}", i + 1)])
            .attribute_list("kernel_shape", &[2, 2])
            .attribute_list("pads", &[1, 1, 0, 1])
            .attribute_list("strides", &[1 + i % 3, 2]);
    }
    let report = analyse(builder.output_of_any_shape("v400")).unwrap();
    assert!(report.fused.is_some() || report.problem.is_some());

    let mut builder = small().node("Relu", &["x"], &["v0"]);
    for i in 0..3000 {
        builder = builder.node("Add", &[&format!("v{i}"), "x"], &[&format!("v{}", i + 1)]);
    }
    let report = analyse(builder.output_of_any_shape("v3000")).unwrap();
    assert_eq!(report.fused.unwrap().nodes, 3001);
    assert_eq!(report.memory.unwrap().reused, 3 * 1024);
}

#[test]
fn what_is_followed_beforehand_is_bounded() {
    let values: Vec<i64> = (0..64).collect();
    let mut builder = small().integers("v0", &values).node("Shape", &["x"], &["s"]).integers("0", &[0]);
    builder = builder.node("Gather", &["s", "0"], &["n"]);
    for i in 0..6000 {
        builder = builder.node("Add", &[&format!("v{i}"), "n"], &[&format!("v{}", i + 1)]);
    }
    let report = analyse(builder.output_of_any_shape("v6000")).unwrap();
    // The first four thousand are computed, the rest is left to whoever runs it.
    let left = report.fused.unwrap().operators["Add"];
    assert!((1900..2000).contains(&left), "{left}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut bytes = classifier(8, 4);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(model) = Model::from_bytes("m.onnx", bytes) {
            let _ = model.analyse(&GraphOptions::default()).map(|report| report.to_string());
        }
    }

    /// Attributes and shapes of any size: an answer or an error, never a panic.
    #[test]
    fn absurd_numbers_never_panic(
        operator in 0usize..17,
        dims in prop::collection::vec(prop_oneof![1i64..6, Just(i64::MAX), Just(-1), Just(0)], 0..6),
        values in prop::collection::vec(prop_oneof![-4i64..6, Just(i64::MAX), Just(i64::MIN), Just(1 << 40)], 0..6),
        number in prop_oneof![-5i64..6, Just(i64::MAX), Just(i64::MIN)],
    ) {
        let name = [
            "Conv", "ConvTranspose", "MaxPool", "AveragePool", "Reshape", "Transpose", "Slice", "Gather", "Concat", "Split",
            "Pad", "Unsqueeze", "Tile", "Expand", "ConstantOfShape", "Range", "DepthToSpace",
        ][operator];
        let dims: Vec<Dim> = dims.iter().map(|&d| usize::try_from(d).map_or("open".into(), Dim::from)).collect();
        let mut builder = OnnxBuilder::new().input("x", &dims).integers("v", &values);
        for (inputs, output) in [(vec!["x", "v", "v"], "a"), (vec!["x", "v"], "b"), (vec!["v"], "c"), (vec!["v", "v", "v"], "d")] {
            builder = builder.node(name, &inputs, &[output]);
            for list in ["kernel_shape", "strides", "pads", "dilations", "perm", "output_shape", "axes"] {
                builder = builder.attribute_list(list, &values);
            }
            for single in ["axis", "group", "blocksize"] {
                builder = builder.attribute(single, number);
            }
            builder = builder.output_of_any_shape(output);
        }
        let _ = analyse(builder).map(|report| report.to_string());
    }
}
