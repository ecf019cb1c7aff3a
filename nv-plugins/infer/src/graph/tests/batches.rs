//! Which batches are free, and what is said of the others.

use super::*;
use crate::graph::size::shape_text;
use crate::testing::OnnxBuilder;

fn picture() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[1.into(), 4.into(), 6.into(), 6.into()])
}

/// The shape of the output, with the batch free, after it was computed for three entries at once.
fn free(builder: OnnxBuilder) -> String {
    let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
    let (graph, _, fixed) = fused(&model, 3, 1e-5);
    assert_eq!(fixed, None);
    shape_text(graph.shape(graph.outputs[0].1).unwrap())
}

#[test]
fn a_batch_of_one_becomes_any() {
    let reshape = |to: &[i64]| picture().integers("s", to).node("Reshape", &["x", "s"], &["y"]);
    assert_eq!(free(reshape(&[1, 4, 36])), "N×4×36");
    assert_eq!(free(reshape(&[1, -1, 9])), "N×16×9");
    assert_eq!(free(reshape(&[-1, 2, 72])), "N×2×72");
    assert_eq!(free(reshape(&[0, 0, -1])), "N×4×36");
    assert_eq!(free(reshape(&[1, 1, 144])), "N×1×144");
    assert_eq!(free(picture().node("Flatten", &["x"], &["y"])), "N×144");
    assert_eq!(
        free(
            picture()
                .node("Transpose", &["x"], &["t"])
                .attribute_list("perm", &[2, 0, 1, 3])
                .node("Transpose", &["t"], &["y"])
                .attribute_list("perm", &[1, 0, 2, 3])
        ),
        "N×6×4×6"
    );
    assert_eq!(
        free(
            picture()
                .integers("s", &[1, 2, 6, 12])
                .node("Reshape", &["x", "s"], &["h"])
                .initializer("b", &[2, 1, 12], &weights(24))
                .node("Mul", &["h", "b"], &["y"])
        ),
        "N×2×6×12"
    );
}

/// TensorFlow's means over everything, of a picture by itself.
#[test]
fn a_reduction_over_the_one_entry_leaves_it_out() {
    let mean = |from: OnnxBuilder, axes: &[i64]| {
        from.node("ReduceMean", &["x"], &["m"]).attribute_list("axes", axes).node("Sub", &["x", "m"], &["y"])
    };
    assert_eq!(free(mean(picture(), &[0, 1, -2, 3])), "N×4×6×6");
    // Where the file has any number of entries, it means all of them.
    let open = OnnxBuilder::new().input("x", &["n".into(), 4.into()]);
    let model = Model::from_bytes("m.onnx", mean(open, &[0, 1]).output_of_any_shape("y").build()).unwrap();
    let reason = batch::free(&imported(&model).unwrap()).err().unwrap();
    assert!(reason.contains("ReduceMean node") && reason.contains("mixes entries"), "{reason}");
}

/// ShuffleNet's: the batch and the channels share a dimension on the way.
#[test]
fn a_shuffle_across_the_batch_is_followed() {
    let shuffle = picture()
        .integers("split", &[2, 2, 36])
        .integers("join", &[2, -1, 2, 6, 6])
        .initializer("unused", &[1], &[0.0])
        .integers("zero", &[0])
        .node("Reshape", &["x", "split"], &["a"])
        .node("Transpose", &["a"], &["b"])
        .attribute_list("perm", &[1, 0, 2])
        .node("Reshape", &["b", "join"], &["c"])
        .node("Gather", &["c", "zero"], &["d"])
        .attribute("axis", 0)
        .integers("last", &[1, 2, 6, 6])
        .node("Reshape", &["d", "last"], &["y"]);
    assert_eq!(free(shuffle), "N×2×6×6");
}

#[test]
fn what_mixes_entries_is_named() {
    fn check(builder: OnnxBuilder, expected: &[&str]) {
        let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
        let reason = batch::free(&imported(&model).unwrap()).err().expect("it mixes entries");
        for part in expected {
            assert!(reason.contains(part), "{part:?} in {reason}");
        }
    }
    check(picture().node("Softmax", &["x"], &["y"]).attribute("axis", 0), &["Softmax node \"Softmax_y\"", "axis 0"]);
    check(picture().node("ReduceMean", &["x"], &["y"]), &["ReduceMean node", "mixes entries"]);
    check(picture().integers("i", &[0]).node("Gather", &["x", "i"], &["y"]).attribute("axis", 0), &["Gather node"]);
    check(picture().node("Concat", &["x", "x"], &["y"]).attribute("axis", 0), &["Concat node"]);
    check(picture().node("Squeeze", &["x"], &["y"]), &["Squeeze node", "drops the batch"]);
    check(picture().integers("s", &[4, 1, 6, 6]).node("Reshape", &["x", "s"], &["y"]), &["output \"y\"", "N·4×1×6×6"]);
    check(picture().node("Transpose", &["x"], &["y"]), &["output \"y\"", "axis 3"]);
    check(
        picture()
            .initializer("w", &[1, 2, 6, 6], &weights(72))
            .node("Concat", &["x", "w"], &["y"])
            .attribute("axis", 1),
        &["Concat node", "would have to be repeated"],
    );
    check(
        picture().node("Shape", &["x"], &["s"]).node("Cast", &["s"], &["y"]).attribute("to", 1),
        &["number of entries"],
    );
    check(picture().node("Shape", &["x"], &["y"]), &["output \"y\" is the same for every entry"]);
    let places = picture().node("MaxPool", &["x"], &["m", "y"]).attribute_list("kernel_shape", &[2, 2]);
    check(places, &["MaxPool node", "depend on the entries before"]);
    let crop = |axes: &[i64]| {
        let n = axes.len() as i64;
        let x = picture()
            .opset(18)
            .initializer("roi", &[2 * n], &vec![0.5; 2 * axes.len()])
            .integers("to", &vec![6; axes.len()]);
        let resize = x.node("Resize", &["x", "roi", "", "to"], &["y"]).attribute_list("axes", axes);
        resize.attribute_text("coordinate_transformation_mode", "tf_crop_and_resize")
    };
    check(crop(&[0, 2, 3]), &["Resize node", "crops along the batch"]);
    let model = Model::from_bytes("m.onnx", crop(&[2, 3]).output_of_any_shape("y").build()).unwrap();
    assert!(batch::free(&imported(&model).unwrap()).is_ok());
    let fixed = OnnxBuilder::new().input("x", &[4.into(), 2.into()]).node("Relu", &["x"], &["y"]);
    check(fixed, &["the file fixes a batch of 4"]);
    let twice = OnnxBuilder::new().input("x", &["n".into(), "n".into()]).node("Relu", &["x"], &["y"]);
    check(twice, &["n is the batch and another dimension too"]);
    check(OnnxBuilder::new().input("x", &[]).node("Relu", &["x"], &["y"]), &["has no batch dimension"]);
}
