//! Operators whose attributes and inputs are absurd: what is said names the operator, the node and the shapes.

use nv_infer::testing::OnnxBuilder;
use rten_onnx::onnx;

use crate::table::{Table, edited, one, picture};

const HUGE: i64 = 1_000_000_000;

/// A convolution of `x` 1×4×8×8 by weights of these dimensions, all zero.
fn conv(operator: &str, weights: &[i64]) -> OnnxBuilder {
    let n: i64 = weights.iter().product();
    one(picture().initializer("w", weights, &vec![0.0; n as usize]), operator, &["x", "w"])
}

#[test]
fn convolutions() {
    let mut table = Table::default();
    let of = "node \"Conv_y\" (x float 1×4×8×8, w float 4×4×3×3)";
    let k3 = || conv("Conv", &[4, 4, 3, 3]);
    table.refused(
        "zero strides",
        k3().attribute_list("strides", &[0, 1]),
        &["Conv node \"Conv_y\"", "strides is [0, 1]"],
    );
    table.refused("zero dilations", k3().attribute_list("dilations", &[0, 0]), &["dilations is [0, 0]"]);
    table.refused("a negative kernel", k3().attribute_list("kernel_shape", &[-3, 3]), &["kernel_shape is [-3, 3]"]);
    table.refused("no groups", k3().attribute("group", 0), &["Conv node", "group is 0"]);
    table.refused("negative groups", k3().attribute("group", -4), &["group is -4"]);
    table.refused("groups that do not divide", k3().attribute("group", 3), &[of, "4 channels of input in 3 groups"]);
    table.refused("groups without end", k3().attribute("group", i64::MAX), &[of, "63 bits"]);
    table.refused(
        "groups that do not divide the output",
        conv("Conv", &[3, 2, 3, 3]).attribute("group", 2),
        &["3 channels of output in 2 groups"],
    );
    table.refused("other channels", conv("Conv", &[4, 5, 3, 3]), &["4 channels of input in 1 groups", "4×5×3×3"]);
    table.refused("a larger kernel", conv("Conv", &[1, 4, 9, 9]), &["a window of 9 over 8 with 0+0 of padding"]);
    table.refused("a kernel of other weights", k3().attribute_list("kernel_shape", &[2, 2]), &[of, "[2, 2]", "[3, 3]"]);
    table.refused("five pads", k3().attribute_list("pads", &[1; 5]), &[of, "pads has 5 values, 4 are needed"]);
    table.refused("a negative pad", k3().attribute_list("pads", &[-1, 0, 0, 0]), &[of, "pads is [-1, 0, 0, 0]"]);
    table.refused("a pad without end", k3().attribute_list("pads", &[i64::MAX; 4]), &[of, "pads is"]);
    table.refused("a list of many", k3().attribute_list("strides", &[1; 100_000]), &["strides has 100000 numbers"]);
    table.analysed(
        "pads of 1e9",
        k3().attribute_list("pads", &[HUGE; 4]),
        &["1×4×2000000006×2000000006 takes 64000000384000000576 bytes"],
    );
    let pad = |n| k3().attribute_list("pads", &[n, 0, n, 0]);
    table.analysed("pads of 10 GB", pad(50_000_000), &["1×4×100000006×6 takes 9600000576 bytes"]);
    let no_channels = picture().input("z", &[1.into(), 1.into(), 9.into(), 9.into()]);
    let file = one(no_channels.initializer("w", &[0, 1, 1 << 30, 1 << 30], &[]), "Conv", &["z", "w"]);
    table.refused("a huge kernel of no channels", file, &["weights of 0×1×1073741824×1073741824 without channels"]);
    table.refused("no kernel", conv("Conv", &[4, 4, 0, 3]), &["its weights have a kernel of [0, 3]"]);
    table.refused("a vector for weights", conv("Conv", &[4]), &["an input of 1×4×8×8 and weights of 4"]);
    let bias = |n: usize| {
        let x = picture().initializer("w", &[4, 4, 3, 3], &[0.0; 144]).initializer("b", &[n as i64], &vec![0.0; n]);
        one(x, "Conv", &["x", "w", "b"])
    };
    table.refused("a bias of another size", bias(3), &["its bias: 3 where 4 is needed"]);
    let t = || conv("ConvTranspose", &[4, 2, 3, 3]);
    let of = "ConvTranspose node \"ConvTranspose_y\" (x float 1×4×8×8, w float 4×2×3×3)";
    table.refused("padding beyond", t().attribute_list("output_padding", &[1 << 40, 0]), &[of, "output_padding"]);
    table.refused("negative padding", t().attribute_list("output_padding", &[-1, 0]), &[of, "output_padding"]);
    table.refused("shape beyond", t().attribute_list("output_shape", &[1 << 40, 1]), &[of, "output_shape"]);
    table.refused("negative shape", t().attribute_list("output_shape", &[-1, 1]), &[of, "an output of -1"]);
    table.refused("pads beyond", t().attribute_list("pads", &[30, 0, 30, 0]), &[of, "an output of"]);
    table.analysed(
        "strides of 1e9",
        t().attribute_list("strides", &[HUGE; 2]),
        &["1×2×7000000003×7000000003 takes 392000000336000000072 bytes"],
    );
    table.analysed("padding of 1e9", t().attribute_list("output_padding", &[0, HUGE]), &["10×1000000010"]);
    table.done();
}

#[test]
fn pools() {
    let mut table = Table::default();
    let pool = |operator: &str, kernel: &[i64]| one(picture(), operator, &["x"]).attribute_list("kernel_shape", kernel);
    let of = "MaxPool node \"MaxPool_y\" (x float 1×4×8×8): ";
    table.refused("no kernel", one(picture(), "MaxPool", &["x"]), &[of, "it has no kernel_shape"]);
    table.refused("a kernel of one number", pool("MaxPool", &[3]), &[of, "kernel_shape has 1 values, 2 are needed"]);
    table.refused("a huge kernel", pool("MaxPool", &[HUGE, 1]), &[of, "a window of 1000000000 over 8"]);
    table.refused("beyond counting", pool("MaxPool", &[i64::MAX, 1]), &[of, "kernel_shape is"]);
    let all_padding = pool("AveragePool", &[2, 2]).attribute_list("pads", &[HUGE; 4]);
    table.refused("windows of padding alone", all_padding, &["a window of 2 lies wholly in a padding"]);
    let wide =
        pool("AveragePool", &[HUGE, HUGE]).attribute_list("pads", &[HUGE - 1; 4]).attribute("count_include_pad", 1);
    table.analysed("a kernel of 1e9 that fits", wide, &["1×4×1000000007×1000000007 takes 16000000224000000784 bytes"]);
    let spread = pool("MaxPool", &[1 << 30, 1]).attribute_list("dilations", &[1 << 30, 1]);
    table.refused("a kernel spread beyond", spread, &["a window of 1152921503533105153 over 8"]);
    let flat = one(OnnxBuilder::new().input("x", &[1.into(), 4.into()]), "MaxPool", &["x"]);
    table.refused("no picture", flat.attribute_list("kernel_shape", &[]), &["a pool over 1×4"]);
    table.done();
}

#[test]
fn shapes_that_constants_name() {
    let mut table = Table::default();
    let by = |operator: &str, values: &[i64]| one(picture().integers("v", values), operator, &["x", "v"]);
    let made = |values: &[i64]| one(picture().integers("v", values), "ConstantOfShape", &["v"]);
    table.refused("a negative size", made(&[1, -4]), &["ConstantOfShape node", "a shape with -4"]);
    table.analysed("10 GB of zeros", made(&[1, 50_000, 50_000]), &["float 1×50000×50000", "takes 10000000000 bytes"]);
    table.analysed("zeros beyond counting", made(&[i64::MAX; 4]), &["9223372036854775807×9223372036854775807"]);
    table.refused("zeros of forty dimensions", made(&[1; 40]), &["a result of 40 dimensions; 16 are the most"]);
    table.analysed("zeros of a shape of thousands", made(&[1; 4000]), &["of unknown shape"]);
    let of = "Reshape node \"Reshape_y\" (x float 1×4×8×8, v int64 ";
    table.refused("another number", by("Reshape", &[7, -1]), &[of, "1×4×8×8 to 7×-1"]);
    table.refused("two open sizes", by("Reshape", &[-1, -1]), &[of, "1×4×8×8 to -1×-1"]);
    table.refused("a product beyond", by("Reshape", &[1 << 40, 1 << 40]), &[of, "63 bits"]);
    table.refused("a product that comes round", by("Reshape", &[1 << 32, 1 << 32, 256]), &[of, "63 bits"]);
    table.refused("a least number", by("Reshape", &[i64::MIN]), &[of, "1×4×8×8 to -9223372036854775808"]);
    table.refused("a size to copy that is not there", by("Reshape", &[1, 4, 64, 1, 0]), &[of, "to 1×4×64×1×0"]);
    let nothing = by("Reshape", &[0, -1]).attribute("allowzero", 1);
    table.refused("nothing by anything", nothing, &[of, "1×4×8×8 to 0×-1"]);
    table.refused("an expansion below zero", by("Expand", &[-1, 4, 8, 8]), &["Expand node", "a shape with -1"]);
    table.refused("an expansion of 4 to 5", by("Expand", &[1, 5, 8, 8]), &["1×4×8×8 and 1×5×8×8 do not go together"]);
    table.analysed("an expansion to 10 GB", by("Expand", &[50_000, 200, 1, 1, 1]), &[]);
    table.refused("three repeats", by("Tile", &[1, 2, 3]), &["Tile node", "3 repeats of 1×4×8×8"]);
    table.refused("repeats below zero", by("Tile", &[1, 1, 1, -1]), &["a shape with -1"]);
    table.refused("repeats beyond", by("Tile", &[1, 1, 1, i64::MAX]), &["Tile node", "63 bits"]);
    table.analysed("repeats to 10 GB", by("Tile", &[1, 1, 10_000, 4000]), &["1×4×80000×32000 takes 40960000000"]);
    table.refused("pads for two axes", by("Pad", &[1, 1, 1, 1]), &["Pad node", "4 pads for 4 axes"]);
    table.refused("pads that leave nothing", by("Pad", &[0, 0, -5, 0, 0, 0, -5, 0]), &["axis 2 padded to -2"]);
    table.refused(
        "a cut of what is not there",
        by("Pad", &[0, 0, -9, 0, 0, 0, 20, 0]),
        &["axis 2 of 1×4×8×8", "-9 and 20"],
    );
    table.refused("pads beyond", by("Pad", &[i64::MAX; 8]), &["Pad node", "63 bits"]);
    table.refused("pads of the least number", by("Pad", &[i64::MIN; 8]), &["Pad node", "axis 0 of 1×4×8×8"]);
    table.analysed(
        "pads to 10 GB",
        by("Pad", &[0, 0, 10_000, 0, 0, 0, 10_000, 30_000]),
        &["1×4×20008×30008 takes 9606401024"],
    );
    let reflected = by("Pad", &[0, 0, 8, 0, 0, 0, 0, 0]).attribute_text("mode", "reflect");
    table.refused("a reflection of more than there is", reflected, &["Reflect pads of 8 and 0"]);
    let range = |start: i64, end: i64, step: i64| {
        let x = [("a", start), ("b", end), ("c", step)].iter().fold(picture(), |x, (name, v)| x.scalar(name, *v));
        one(x, "Range", &["a", "b", "c"])
    };
    table.refused("steps of nothing", range(0, 9, 0), &["Range node \"Range_y\"", "steps of 0"]);
    table.analysed("a range of 80 GB", range(0, 10_000_000_000, 1), &["y int64 10000000000"]);
    table.analysed("a range of everything", range(i64::MIN, i64::MAX, 1), &["y int64 9223372036854775807"]);
    table.analysed("a range of nothing", range(0, i64::MAX, i64::MIN), &["Range 1"]);
    table.refused(
        "a range of lists",
        one(picture().integers("v", &[1, 2]), "Range", &["v", "v", "v"]),
        &["not one number"],
    );
    table.done();
}

#[test]
fn parts_and_places() {
    let mut table = Table::default();
    let by = |operator: &str, values: &[i64]| one(picture().integers("v", values), operator, &["x", "v"]);
    table.refused("an index beyond", by("Gather", &[4]).attribute("axis", 1), &["index 4 along axis 1 of 1×4×8×8"]);
    table.refused("an index below", by("Gather", &[-5]).attribute("axis", 1), &["index -5 along axis 1"]);
    table.refused("the least index", by("Gather", &[i64::MIN]), &["index -9223372036854775808 along axis 0"]);
    table.refused("an axis beyond", by("Gather", &[0]).attribute("axis", 4), &["axis 4 of a tensor of 4 dimensions"]);
    let parts = |values: &[i64]| {
        let x = picture().integers("v", values).output_of_any_shape("a");
        x.node("Split", &["x", "v"], &["a", "b"]).attribute("axis", 2)
    };
    let of = "Split node \"Split_a\" (x float 1×4×8×8, v int64 2): ";
    table.refused("parts that do not add up", parts(&[3, 4]), &[of, "7 where 8 is needed"]);
    table.refused("parts below zero", parts(&[-1, 9]), &[of, "into 2 parts of -1×9"]);
    table.refused("a part too many", parts(&[3, 3, 2]), &["into 2 parts of 3×3×2"]);
    table.refused("parts beyond", parts(&[i64::MAX, i64::MAX]), &[of, "63 bits"]);
    let counted = picture().node("Split", &["x"], &["a", "b"]).attribute("axis", 2).attribute("num_outputs", 3);
    table.refused(
        "parts of another number",
        counted.opset(18).output_of_any_shape("a"),
        &["num_outputs is 3, it has 2"],
    );
    let nothing = picture().node("Split", &["x"], &["a", "b", "c", "d", "e"]).attribute("axis", 0);
    table.refused("one in five", nothing.output_of_any_shape("a"), &["1×4×8×8 into 5 parts of"]);
    let slice = |start: i64, end: i64, axis: i64, step: i64| {
        let all = [("s", start), ("e", end), ("a", axis), ("t", step)];
        let x = all.iter().fold(picture(), |x, (name, v)| x.integers(name, &[*v]));
        one(x, "Slice", &["x", "s", "e", "a", "t"])
    };
    table.refused("steps of nothing", slice(0, 8, 2, 0), &["Slice node \"Slice_y\"", "a slice in steps of 0"]);
    table.refused("an axis beyond", slice(0, 8, 4, 1), &["axis 4 of a tensor of 4 dimensions"]);
    table.refused("the least axis", slice(0, 8, i64::MIN, 1), &["axis -9223372036854775808"]);
    table.analysed("the least step", slice(i64::MAX, i64::MIN, 2, i64::MIN), &["y float N×4×1×8"]);
    table.analysed("the greatest step", slice(i64::MIN, i64::MAX, 2, i64::MAX), &["y float N×4×1×8"]);
    table.analysed("a slice of nothing", slice(5, 5, 2, 1), &["y float N×4×0×8"]);
    let twice = picture().integers("s", &[0, 0]).integers("e", &[4, 4]).integers("a", &[2, -2]);
    table.refused("an axis twice", one(twice, "Slice", &["x", "s", "e", "a"]), &["axis 2 is named twice"]);
    let top = |k: i64| one(picture().integers("k", &[k]), "TopK", &["x", "k"]);
    table.refused("more than there are", top(9), &["TopK node \"TopK_y\"", "the 9 foremost along axis 3 of 1×4×8×8"]);
    table.refused("fewer than none", top(-1), &["the -1 foremost"]);
    table.refused("ten thousand million", top(10_000_000_000), &["the 10000000000 foremost"]);
    let axis = |operator: &str, axis: i64| one(picture(), operator, &["x"]).attribute("axis", axis);
    for operator in ["Softmax", "ArgMax", "Flatten"] {
        for beyond in [7, -7, i64::MAX, i64::MIN] {
            let expected =
                format!("{operator} node \"{operator}_y\" (x float 1×4×8×8): axis {beyond} of a tensor of 4");
            table.refused(operator, axis(operator, beyond), &[&expected]);
        }
    }
    table.refused("an axis beyond", by("Unsqueeze", &[9]), &["axis 9 of a tensor of 5"]);
    table.refused("an axis twice", by("Unsqueeze", &[1, -5]), &["an axis is named twice"]);
    table.refused("sixty axes", by("Unsqueeze", &(0..60).collect::<Vec<_>>()), &["64 dimensions; 16 are the most"]);
    table.refused("an axis that is not 1", by("Squeeze", &[1]), &["axis 1 of 1×4×8×8 is not 1"]);
    table.refused("an axis beyond", by("ReduceMean", &[5]), &["ReduceMean node", "axis 5"]);
    let perm = |perm: &[i64]| one(picture(), "Transpose", &["x"]).attribute_list("perm", perm);
    table.refused("axes twice", perm(&[0, 1, 1, 2]), &["[0, 1, 1, 2] permutes 4 dimensions"]);
    table.refused("too few axes", perm(&[0, 1]), &["[0, 1] permutes 4 dimensions"]);
    table.refused("too many axes", perm(&[0; 1_000_000]), &["perm has 1000000 numbers"]);
    let blocks = |operator: &str, n: i64| one(picture(), operator, &["x"]).attribute("blocksize", n);
    table.refused("blocks of 3", blocks("DepthToSpace", 3), &["4 channels in blocks of 3×3"]);
    table.refused("blocks of 3", blocks("SpaceToDepth", 3), &["8 in blocks of 3"]);
    table.refused("blocks of none", blocks("DepthToSpace", 0), &["blocksize is 0"]);
    table.refused("blocks beyond", blocks("SpaceToDepth", i64::MAX), &["SpaceToDepth node"]);
    table.done();
}

#[test]
fn scales() {
    let mut table = Table::default();
    let resize = |scales: &[f32]| {
        let x = picture().initializer("s", &[scales.len() as i64], scales);
        one(x, "Resize", &["x", "", "s"])
    };
    for scale in [0.0, -1.0, 1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0] {
        let expected = format!("a scale of {scale}");
        table.refused("a scale", resize(&[1.0, 1.0, scale, 1.0]), &["Resize node \"Resize_y\" (x float", &expected]);
    }
    table.refused("two scales", resize(&[1.0, 1.0]), &["2 scales or sizes for 4 axes"]);
    table.analysed("scales to 10 GB", resize(&[1.0, 1.0, 6000.0, 6000.0]), &["1×4×48000×48000 takes 36864000000"]);
    table.analysed("scales to nothing", resize(&[1.0, 1.0, 1e-30, 1.0]), &["N×4×0×8"]);
    let sizes = |sizes: &[i64]| one(picture().integers("s", sizes), "Resize", &["x", "", "", "s"]);
    table.refused("a size below zero", sizes(&[1, 4, -8, 8]), &["a shape with -8"]);
    table.analysed("sizes beyond", sizes(&[1, 4, i64::MAX, i64::MAX]), &["N×4×9223372036854775807"]);
    let kept = sizes(&[i64::MAX; 4]).attribute_text("keep_aspect_ratio_policy", "not_larger").opset(18);
    table.refused("a scale that follows", kept, &["a scale of 1152921504606847000"]);
    let axes = sizes(&[8, 8]).attribute_list("axes", &[2, 2]).opset(18);
    table.refused("an axis twice", axes, &["axis 2 is named twice"]);
    let upsampled = one(picture(), "Upsample", &["x"]).opset(7).attribute_floats("scales", &[1.0, 1.0, f32::NAN, 2.0]);
    table.refused("an old scale", upsampled, &["Resize node \"Upsample_y\"", "a scale of NaN"]);
    table.done();
}

#[test]
fn attributes_of_the_wrong_kind() {
    let mut table = Table::default();
    let of = |operator: &str| one(picture().integers("v", &[1]), operator, &["x"]);
    table.refused(
        "a number for a list",
        conv("Conv", &[4, 4, 3, 3]).attribute("strides", 1),
        &["strides is not a list"],
    );
    table.refused("a list for a number", of("Softmax").attribute_list("axis", &[1]), &["axis is not a whole number"]);
    table.refused(
        "a fraction for a number",
        of("Flatten").attribute_float("axis", 1.0),
        &["axis is not a whole number"],
    );
    table.refused("a text for a number", of("LeakyRelu").attribute_text("alpha", "x"), &["alpha is not a number"]);
    table.refused(
        "a number for a text",
        of("Gelu").opset(20).attribute("approximate", 1),
        &["approximate is not a text"],
    );
    table.refused("no such text", of("Gelu").opset(20).attribute_text("approximate", "x"), &["known are none, tanh"]);
    let long = "x".repeat(1 << 20);
    table.refused("a text of megabytes", of("Gelu").opset(20).attribute_text("approximate", &long), &["xxx…"]);
    table.refused("a type for nothing", of("Cast"), &["Cast node \"Cast_y\"", "no type to cast to"]);
    table.refused(
        "a type that is not there",
        of("Cast").attribute("to", 99),
        &["the type 99, which ONNX does not have"],
    );
    table.refused("the greatest type", of("Cast").attribute("to", i64::MAX), &["which ONNX does not have"]);
    table.analysed("texts", of("Cast").attribute("to", 8), &["lacking     Cast", "a type that is not known"]);
    let norm = |epsilon: f32| {
        let ones = ["s", "b", "m", "v2"].iter().fold(picture(), |x, name| x.initializer(name, &[4], &[1.0; 4]));
        one(ones, "BatchNormalization", &["x", "s", "b", "m", "v2"]).attribute_float("epsilon", epsilon)
    };
    table.refused("no number", norm(f32::NAN), &["BatchNormalization node", "epsilon is NaN"]);
    table.refused("below zero", norm(-1.0), &["epsilon is -1, at least 0"]);
    table.refused("infinite", of("LeakyRelu").attribute_float("alpha", f32::INFINITY), &["alpha is inf"]);
    table.refused("no number", of("HardSigmoid").attribute_float("beta", f32::NAN), &["beta is NaN"]);
    let clip = one(picture(), "Clip", &["x"]).opset(6 + 1);
    table.analysed("open bounds", clip.attribute_float("max", f32::INFINITY), &["Clip 1"]);
    let empty = edited(of("Softmax").attribute("axis", 1), |graph| graph.node[0].attribute[0].i = None);
    table.analysed("an attribute without a value", empty, &["Softmax axis 0"]);
    let many = edited(of("Relu"), |graph| {
        let attribute = onnx::AttributeProto { name: Some("a".into()), i: Some(1), ..Default::default() };
        graph.node[0].attribute = vec![attribute; 10_000];
    });
    table.analysed("ten thousand attributes", many, &["Relu 1"]);
    table.done();
}

#[test]
fn operands_that_do_not_go_together() {
    let mut table = Table::default();
    let with = |operator: &str, shape: &[i64]| {
        let n: i64 = shape.iter().product();
        one(picture().initializer("w", shape, &vec![0.0; n as usize]), operator, &["x", "w"])
    };
    table.refused("a sum", with("Add", &[3]), &["Add node \"Add_y\"", "1×4×8×8 and 3 do not go together"]);
    let counts = one(picture().integers("i", &[1]), "Add", &["x", "i"]);
    table.refused("floats and counts", counts, &["Add node \"Add_y\"", "input 2 is of the type int64, not float"]);
    let chosen = one(picture().integers("i", &[1]), "Where", &["i", "x", "i"]);
    table.refused("one or the other", chosen, &["Where node \"Where_y\"", "input 3 is of the type int64, not float"]);
    let weights = picture().integers("w", &[1]).integers("s", &[4, 4, 1, 1]).node("Expand", &["w", "s"], &["e"]);
    let bias = one(weights, "Conv", &["x", "e"]);
    table.refused("weights of counts", bias, &["Conv node \"Conv_y\"", "input 2 is of the type int64, not float"]);
    table.refused("a product", with("MatMul", &[7, 2]), &["1×4×8×8 times 7×2: 8 where 7 is needed"]);
    table.refused("with a scalar", with("MatMul", &[]), &["1×4×8×8 times scalar"]);
    table.refused("slopes", with("PRelu", &[2, 4, 8, 8]), &["slopes: 2×4×8×8 to 1×4×8×8: 2 where 1 is needed"]);
    table.refused("more slopes", with("PRelu", &[1, 1, 4, 8, 8]), &["it has more dimensions"]);
    let concat = with("Concat", &[1, 4, 8, 7]).attribute("axis", 1);
    table.refused("parts", concat, &["input 2 of 1×4×8×7 after 1×4×8×8"]);
    let matrix = |c: &[i64]| {
        let x = OnnxBuilder::new().input("x", &[1.into(), 2.into()]).initializer("w", &[2, 3], &[0.0; 6]);
        let n: i64 = c.iter().product();
        one(x.initializer("c", c, &vec![0.0; n as usize]), "Gemm", &["x", "w", "c"])
    };
    table.refused("a bias of another size", matrix(&[4]), &["C: 4 to 1×3"]);
    table.refused("a bias of many rows", matrix(&[5, 3]), &["C: 5×3 to 1×3"]);
    let norm = ["s", "b", "m"].iter().fold(picture(), |x, name| x.initializer(name, &[4], &[1.0; 4]));
    let norm = one(norm.initializer("v", &[3], &[1.0; 3]), "BatchNormalization", &["x", "s", "b", "m", "v"]);
    table.refused("a variance too few", norm, &["input 5: 3 where 4 is needed"]);
    table.done();
}
