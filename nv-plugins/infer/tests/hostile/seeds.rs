//! Small models, together with every operator that is understood: what mutations and the fuzzer begin with.

use nv_infer::testing::OnnxBuilder;

/// The models, by name.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = operators();
    let named = [
        ("detector", detector()),
        ("shuffle", shuffle()),
        ("focus", focus()),
        ("open_sizes", open_sizes()),
        ("blocks_depthwise", blocks(&[19, 1, 3, 3], 19, 2)),
        ("blocks_depthwise_wide", blocks(&[38, 1, 5, 5], 19, 1)),
        ("blocks_dense", blocks(&[7, 19, 3, 3], 1, 2)),
        ("blocks_1x1", blocks(&[35, 19, 1, 1], 1, 1)),
        ("blocks_grouped", blocks(&[38, 19, 1, 1], 2, 1)),
        ("rows", rows()),
    ];
    seeds.extend(named.map(|(name, builder)| (name.to_owned(), builder.build())));
    seeds
}

/// One node each.
fn operators() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |name: &str, builder: OnnxBuilder| seeds.push((name.to_owned(), builder.build()));
    for name in [
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Elu",
        "Gelu",
        "Erf",
        "Exp",
        "Log",
        "Sqrt",
        "Abs",
        "Neg",
        "Floor",
        "Ceil",
        "Not",
        "Identity",
        "Dropout",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Shape",
        "Flatten",
        "Transpose",
        "Softmax",
        "ArgMax",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "Squeeze",
        "Clip",
    ] {
        add(name, one(picture().opset(20), name, &["x"]));
    }
    for name in ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Less", "And", "PRelu", "MatMul", "Where"] {
        let inputs: &[&str] = if name == "Where" { &["x", "w", "x"] } else { &["x", "w"] };
        add(name, one(picture().initializer("w", &[8, 8], &[0.5; 64]), name, inputs));
    }
    for (name, values) in [
        ("Reshape", &[1i64, 2, -1][..]),
        ("Expand", &[2, 4, 8, 8]),
        ("Tile", &[1, 1, 2, 2]),
        ("Gather", &[0, 0]),
        ("Unsqueeze", &[1]),
        ("Pad", &[0, 0, 1, 1, 0, 0, 1, 1]),
        ("TopK", &[3]),
        ("ReduceMean", &[2, 3]),
        ("Split", &[1]),
    ] {
        add(&format!("{name}_values"), one(picture().opset(18).integers("v", values), name, &["x", "v"]));
    }
    add("ConstantOfShape", one(picture().integers("v", &[1, 3, 4]), "ConstantOfShape", &["v"]));
    add("Range", one(picture().scalar("a", 0).scalar("b", 9).scalar("c", 2), "Range", &["a", "b", "c"]));
    add("Cast", one(picture(), "Cast", &["x"]).attribute("to", 7));
    add("Concat", one(picture(), "Concat", &["x", "x"]).attribute("axis", 1));
    let slice = [("s", 1), ("e", 7), ("a", 2), ("t", 2)].iter().fold(picture(), |x, (name, v)| x.integers(name, &[*v]));
    add("Slice", one(slice, "Slice", &["x", "s", "e", "a", "t"]));
    for name in ["MaxPool", "AveragePool"] {
        let pool = one(picture(), name, &["x"]).attribute_list("kernel_shape", &[3, 3]);
        add(name, pool.attribute_list("strides", &[2, 2]).attribute_list("pads", &[1; 4]).attribute("ceil_mode", 1));
    }
    for name in ["Conv", "ConvTranspose"] {
        let x = picture().initializer("w", &[4, 2, 3, 3], &[0.1; 72]).initializer("b", &[4], &[0.1; 4]);
        let conv = one(x, name, &["x", "w", "b"]).attribute("group", 2).attribute_list("pads", &[1; 4]);
        add(name, conv.attribute_list("strides", &[2, 2]).attribute_list("dilations", &[1, 1]));
    }
    let matrix = OnnxBuilder::new().input("x", &[1.into(), 2.into()]).initializer("w", &[3, 2], &[0.5; 6]);
    let gemm = one(matrix.initializer("c", &[3], &[0.5; 3]), "Gemm", &["x", "w", "c"]);
    add("Gemm", gemm.attribute("transB", 1).attribute_float("alpha", 0.5));
    let norm = || ["s", "b", "m", "v"].iter().fold(picture(), |x, name| x.initializer(name, &[4], &[1.0; 4]));
    add("InstanceNormalization", one(norm(), "InstanceNormalization", &["x", "s", "b"]));
    let norm = one(norm(), "BatchNormalization", &["x", "s", "b", "m", "v"]);
    add("BatchNormalization", norm.attribute_float("epsilon", 0.1));
    for mode in ["nearest", "linear", "cubic"] {
        let x = picture().opset(18).initializer("s", &[2], &[2.0, 2.0]);
        let resize = one(x, "Resize", &["x", "", "s"]).attribute_text("mode", mode).attribute_list("axes", &[2, 3]);
        add(&format!("Resize_{mode}"), resize.attribute_text("coordinate_transformation_mode", "align_corners"));
    }
    let sizes = one(picture().opset(18).integers("s", &[1, 4, 5, 7]), "Resize", &["x", "", "", "s"]);
    add("Resize_sizes", sizes.attribute_text("keep_aspect_ratio_policy", "not_larger"));
    add("Upsample", one(picture().opset(7), "Upsample", &["x"]).attribute_floats("scales", &[1.0, 1.0, 2.0, 2.0]));
    for name in ["DepthToSpace", "SpaceToDepth"] {
        add(name, one(picture(), name, &["x"]).attribute("blocksize", 2));
    }
    let boxes = OnnxBuilder::new().input("x", &[1.into(), 6.into(), 4.into()]);
    let boxes = boxes.input("s", &[1.into(), 2.into(), 6.into()]).scalar("n", 3);
    add("NonMaxSuppression", one(boxes, "NonMaxSuppression", &["x", "s", "n"]));
    seeds
}

/// Convolutions with all that passes fuse into them, a residual, two branches put together, a head.
fn detector() -> OnnxBuilder {
    let mut builder = picture().initializer("w", &[4, 4, 3, 3], &[0.1; 144]).initializer("k", &[4, 1, 1], &[0.5; 4]);
    for name in ["s", "b", "m", "v"] {
        builder = builder.initializer(name, &[4], &[1.0; 4]);
    }
    for i in 0..3 {
        let name = |part: &str| format!("{part}{i}");
        let from = if i == 0 { "x".to_owned() } else { format!("sum{}", i - 1) };
        builder = builder
            .node("Conv", &[&from, "w"], &[&name("conv")])
            .attribute_list("pads", &[1; 4])
            .node("BatchNormalization", &[&name("conv"), "s", "b", "m", "v"], &[&name("norm")])
            .node("Sigmoid", &[&name("norm")], &[&name("gate")])
            .node("Mul", &[&name("norm"), &name("gate")], &[&name("silu")])
            .node("Add", &[&name("silu"), &from], &[&name("sum")]);
    }
    builder
        .node("Conv", &["sum2", "w"], &["left"])
        .attribute_list("pads", &[1; 4])
        .node("Add", &["left", "k"], &["biased"])
        .node("Relu", &["biased"], &["right"])
        .node("Concat", &["right", "sum1"], &["all"])
        .attribute("axis", 1)
        .integers("rows", &[1, 8, -1])
        .node("Reshape", &["all", "rows"], &["flat"])
        .node("Transpose", &["flat"], &["y"])
        .attribute_list("perm", &[0, 2, 1])
        .output("y", &[1.into(), 64.into(), 8.into()])
}

/// Pictures of more channels than a vector has lanes, none of them in whole vectors, through all that works on such: a
/// convolution, another one that all before it goes into, pools, a resampling, a mean.
fn blocks(weights: &[i64; 4], groups: i64, stride: i64) -> OnnxBuilder {
    let values = |len: i64| (0..len).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect::<Vec<f32>>();
    let inputs = weights[1] * groups;
    let pad = weights[2] / 2;
    OnnxBuilder::new()
        .opset(13)
        .input("x", &["n".into(), 3.into(), 13.into(), 11.into()])
        .initializer("first", &[inputs, 3, 3, 3], &values(inputs * 27))
        .initializer("second", weights, &values(weights.iter().product()))
        .initializer("scales", &[4], &[1.0, 1.0, 2.0, 2.0])
        .node("Conv", &["x", "first"], &["a"])
        .attribute_list("pads", &[1; 4])
        .node("Relu", &["a"], &["b"])
        .node("Conv", &["b", "second"], &["c"])
        .attribute("group", groups)
        .attribute_list("strides", &[stride; 2])
        .attribute_list("pads", &[pad; 4])
        .node("HardSigmoid", &["c"], &["d"])
        .node("MaxPool", &["d"], &["e"])
        .attribute_list("kernel_shape", &[2, 2])
        .attribute_list("strides", &[2, 2])
        .node("Resize", &["e", "", "scales"], &["f"])
        .attribute_text("mode", "linear")
        .node("AveragePool", &["f"], &["g"])
        .attribute_list("kernel_shape", &[3, 3])
        .attribute_list("pads", &[1; 4])
        .node("GlobalAveragePool", &["g"], &["mean"])
        .node("Mul", &["g", "mean"], &["y"])
        .output_of_any_shape("y")
}

/// Rows longer than a vector, through products, a softmax, reductions and comparisons.
fn rows() -> OnnxBuilder {
    let values: Vec<f32> = (0..37 * 21).map(|i| (i % 5) as f32 * 0.1 - 0.2).collect();
    OnnxBuilder::new()
        .opset(13)
        .input("x", &["n".into(), 9.into(), 37.into()])
        .initializer("w", &[37, 21], &values)
        .initializer("half", &[], &[0.5])
        .integers("most", &[3])
        .node("MatMul", &["x", "w"], &["a"])
        .node("Transpose", &["a"], &["b"])
        .attribute_list("perm", &[0, 2, 1])
        .node("MatMul", &["a", "b"], &["c"])
        .node("Softmax", &["c"], &["d"])
        .attribute("axis", -1)
        .node("ReduceMax", &["b"], &["e"])
        .attribute_list("axes", &[2])
        .node("Less", &["d", "half"], &["f"])
        .node("Where", &["f", "c", "d"], &["g"])
        .node("TopK", &["g", "most"], &["y", "places"])
        .output_of_any_shape("y")
        .output_of_any_shape("e")
}

/// ShuffleNet's rearrangement of channels.
fn shuffle() -> OnnxBuilder {
    picture()
        .integers("split", &[1, 2, 2, 8, 8])
        .integers("join", &[1, -1, 8, 8])
        .node("Reshape", &["x", "split"], &["a"])
        .node("Transpose", &["a"], &["b"])
        .attribute_list("perm", &[0, 2, 1, 3, 4])
        .node("Reshape", &["b", "join"], &["y"])
        .output("y", &[1.into(), 4.into(), 8.into(), 8.into()])
}

/// Every other row and column, put together as channels.
fn focus() -> OnnxBuilder {
    let mut builder = picture().integers("end", &[100, 100]).integers("axes", &[2, 3]).integers("steps", &[2, 2]);
    let mut parts = Vec::new();
    for (i, begin) in [[0, 0], [1, 0], [0, 1], [1, 1]].iter().enumerate() {
        let (from, part) = (format!("from{i}"), format!("part{i}"));
        builder = builder.integers(&from, begin).node("Slice", &["x", &from, "end", "axes", "steps"], &[&part]);
        parts.push(part);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    builder.node("Concat", &parts, &["y"]).attribute("axis", 1).output_of_any_shape("y")
}

/// Sizes that are computed from those of an input, the way exporters write it.
fn open_sizes() -> OnnxBuilder {
    OnnxBuilder::new()
        .input("x", &["n".into(), 4.into(), "h".into(), "w".into()])
        .integers("two", &[2])
        .integers("zero", &[0])
        .integers("rest", &[-1, 4])
        .node("Shape", &["x"], &["shape"])
        .node("Gather", &["shape", "zero"], &["batch"])
        .node("Mul", &["batch", "two"], &["double"])
        .node("Div", &["double", "two"], &["half"])
        .node("Concat", &["half", "rest"], &["target"])
        .attribute("axis", 0)
        .node("MaxPool", &["x"], &["pooled"])
        .attribute_list("kernel_shape", &[2, 2])
        .attribute_list("strides", &[2, 2])
        .node("Reshape", &["pooled", "target"], &["y"])
        .output_of_any_shape("y")
}

fn picture() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[1.into(), 4.into(), 8.into(), 8.into()])
}

fn one(builder: OnnxBuilder, operator: &str, inputs: &[&str]) -> OnnxBuilder {
    builder.output_of_any_shape("y").node(operator, inputs, &["y"])
}
