//! Makes other files of a model's: changes what its messages say, and now and then the bytes themselves.

use fastrand::Rng;
use rten_onnx::onnx::{
    self, AttributeProto, AttributeType, DataType, GraphProto, NodeProto, TensorProto, ValueInfoProto,
};

/// A changed form of a file, at most `max` bytes long. The same for the same random numbers.
pub(crate) fn mutated(file: &[u8], rng: &mut Rng, max: usize) -> Vec<u8> {
    // The parser trusts lengths: it must not see what has not been checked.
    let checked = nv_infer::Model::from_bytes("m.onnx", file).is_ok();
    let parsed = checked.then(|| onnx::ModelProto::parse_buf(file).ok()).flatten();
    let changed = match parsed {
        // A file that can't be parsed any more stays in the fuzzer's corpus for the bytes' sake alone.
        Some(mut model) if rng.u8(..8) > 0 => {
            for _ in 0..rng.usize(1..=2) {
                change_model(&mut model, rng);
            }
            model.write_buf().unwrap_or_else(|_| file.to_vec())
        }
        _ => changed_bytes(file, rng),
    };
    if changed.len() <= max { changed } else { file[..file.len().min(max)].to_vec() }
}

fn changed_bytes(file: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.usize(1..=8) {
        let at = rng.usize(..=bytes.len());
        let end = bytes.len().min(at + rng.usize(..=16));
        match rng.u8(..5) {
            0 => bytes.insert(at, rng.u8(..)),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copied = bytes[at..end].to_vec();
                let to = rng.usize(..=bytes.len());
                bytes.splice(to..to, copied);
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            _ if at < bytes.len() => bytes[at] = *pick(&[0, 1, 0x7f, 0x80, 0xff], rng),
            _ => {}
        }
    }
    bytes
}

fn change_model(model: &mut onnx::ModelProto, rng: &mut Rng) {
    if rng.u8(..32) == 0 {
        let sets = &mut model.opset_import;
        if let Some(set) = random(sets, rng) {
            set.version = Some(*pick(&[0, 6, 7, 9, 10, 11, 12, 13, 14, 18, 20, 22, -1, i64::MAX], rng));
        }
    } else if let Some(graph) = &mut model.graph {
        change_graph(graph, rng);
    }
}

fn change_graph(graph: &mut GraphProto, rng: &mut Rng) {
    let names = names(graph);
    match rng.u8(..16) {
        0..6 => {
            if let Some(node) = random(&mut graph.node, rng) {
                change_node(node, &names, rng);
            }
        }
        6..9 => {
            if let Some(tensor) = random(&mut graph.initializer, rng) {
                change_tensor(tensor, rng);
            }
        }
        9 => {
            if let Some(value) = random(&mut graph.input, rng) {
                change_value(value, rng);
            }
        }
        10 => {
            if let Some(value) = random(&mut graph.output, rng) {
                change_value(value, rng);
            }
        }
        11 => {
            // One more node like one that is there, behind it.
            if let Some(mut node) = random(&mut graph.node, rng).cloned() {
                for (old, input) in node.output.iter_mut().zip(node.input.iter_mut()) {
                    *input = std::mem::replace(old, format!("m{}", rng.u8(..)));
                }
                let at = rng.usize(..=graph.node.len());
                graph.node.insert(at, node);
            }
        }
        12 => {
            let count = graph.node.len();
            if count > 0 {
                graph.node.remove(rng.usize(..count));
            }
        }
        13 => {
            let count = graph.node.len();
            if count > 1 {
                graph.node.swap(rng.usize(..count), rng.usize(..count));
            }
        }
        14 => {
            let name = pick(&names, rng).clone();
            let like = graph.output.first().cloned().unwrap_or_default();
            graph.output.push(ValueInfoProto { name: Some(name), ..like });
        }
        _ => {
            if let Some(tensor) = random(&mut graph.initializer, rng).cloned() {
                graph.initializer.push(TensorProto { name: Some(format!("m{}", rng.u8(..))), ..tensor });
            }
        }
    }
}

fn change_node(node: &mut NodeProto, names: &[String], rng: &mut Rng) {
    match rng.u8(..8) {
        0 => node.op_type = Some((*pick(OPERATORS, rng)).into()),
        1 => {
            if let Some(input) = random(&mut node.input, rng) {
                input.clone_from(pick(names, rng));
            }
        }
        2 => node.input.push(pick(names, rng).clone()),
        3 => drop(node.input.pop()),
        4 => node.output.push(format!("m{}", rng.u8(..))),
        5 => node.attribute.push(attribute(rng)),
        _ => {
            if let Some(attribute) = random(&mut node.attribute, rng) {
                change_attribute(attribute, rng);
            }
        }
    }
}

fn attribute(rng: &mut Rng) -> AttributeProto {
    let kinds =
        [AttributeType::INT, AttributeType::INTS, AttributeType::FLOAT, AttributeType::FLOATS, AttributeType::STRING];
    let kind = *pick(&kinds, rng);
    AttributeProto {
        name: Some((*pick(ATTRIBUTES, rng)).into()),
        r#type: Some(kind),
        i: Some(number(rng)),
        f: Some(fraction(rng)),
        s: Some((*pick(WORDS, rng)).into()),
        ints: (0..rng.usize(..5)).map(|_| number(rng)).collect(),
        floats: (0..rng.usize(..5)).map(|_| fraction(rng)).collect(),
        ..Default::default()
    }
}

fn change_attribute(attribute: &mut AttributeProto, rng: &mut Rng) {
    match rng.u8(..8) {
        0 => attribute.name = Some((*pick(ATTRIBUTES, rng)).into()),
        1 => attribute.s = Some((*pick(WORDS, rng)).into()),
        2 => attribute.f = Some(fraction(rng)),
        3 => attribute.r#type = Some(AttributeType(rng.i32(..12))),
        4 => attribute.ints.push(number(rng)),
        5 => drop(attribute.ints.pop()),
        _ => match random(&mut attribute.ints, rng) {
            Some(value) => *value = number(rng),
            None => attribute.i = Some(number(rng)),
        },
    }
}

fn change_tensor(tensor: &mut TensorProto, rng: &mut Rng) {
    match rng.u8(..6) {
        0 => {
            if let Some(value) = random(&mut tensor.dims, rng) {
                *value = number(rng);
            }
        }
        1 => tensor.dims.push(*pick(&[0, 1, 1, 1, 2], rng)),
        2 => {
            // A list of another length that is still one.
            tensor.int64_data.push(number(rng));
            if let [n] = &mut tensor.dims[..] {
                *n = tensor.int64_data.len() as i64;
            }
        }
        3 => tensor.data_type = Some(DataType(rng.i32(..25))),
        4 => {
            if let Some(value) = random(&mut tensor.float_data, rng) {
                *value = fraction(rng);
            }
        }
        _ => {
            if let Some(value) = random(&mut tensor.int64_data, rng) {
                *value = number(rng);
            }
        }
    }
}

fn change_value(value: &mut ValueInfoProto, rng: &mut Rng) {
    let Some(tensor) = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) else { return };
    let Some(shape) = &mut tensor.shape else { return };
    match rng.u8(..6) {
        0 => tensor.elem_type = Some(DataType(rng.i32(..25))),
        1 => shape.dim.push(onnx::Dimension { dim_value: Some(number(rng)), dim_param: None }),
        2 => drop(shape.dim.pop()),
        3 => {
            if let Some(dim) = random(&mut shape.dim, rng) {
                *dim =
                    onnx::Dimension { dim_value: None, dim_param: Some((*pick(&["n", "h", "w", "x.0"], rng)).into()) };
            }
        }
        _ => {
            if let Some(dim) = random(&mut shape.dim, rng) {
                *dim = onnx::Dimension { dim_value: Some(number(rng)), dim_param: None };
            }
        }
    }
}

/// A whole number: small, or one at which arithmetic goes wrong.
fn number(rng: &mut Rng) -> i64 {
    const EDGES: [i64; 16] = [
        i64::MIN,
        i64::MIN + 1,
        i64::MAX,
        i64::MAX - 1,
        i32::MIN as i64,
        i32::MAX as i64,
        1 << 31,
        1 << 32,
        1 << 40,
        1 << 62,
        65_536,
        65_537,
        1000,
        255,
        -1,
        1 << 30,
    ];
    if rng.u8(..4) > 0 { rng.i64(-2..10) } else { *pick(&EDGES, rng) }
}

fn fraction(rng: &mut Rng) -> f32 {
    const EDGES: [f32; 10] =
        [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 1e-30, 65_536.0, f32::MIN_POSITIVE];
    if rng.bool() { rng.f32() * 4.0 - 1.0 } else { *pick(&EDGES, rng) }
}

/// Whatever can be an input, nothing among it.
fn names(graph: &GraphProto) -> Vec<String> {
    let values = graph.input.iter().filter_map(|input| input.name.clone());
    let constants = graph.initializer.iter().filter_map(|tensor| tensor.name.clone());
    let computed = graph.node.iter().flat_map(|node| node.output.iter().cloned());
    values.chain(constants).chain(computed).chain([String::new()]).collect()
}

fn pick<'a, T>(choices: &'a [T], rng: &mut Rng) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

fn random<'a, T>(all: &'a mut [T], rng: &mut Rng) -> Option<&'a mut T> {
    if all.is_empty() { None } else { Some(&mut all[rng.usize(..all.len())]) }
}

/// Operators that are understood, and a few that are not.
pub(crate) const OPERATORS: &[&str] = &[
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "BatchNormalization",
    "InstanceNormalization",
    "Gemm",
    "MatMul",
    "Softmax",
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Clip",
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
    "Pow",
    "Abs",
    "Neg",
    "Floor",
    "Ceil",
    "Not",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Min",
    "Max",
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "Pad",
    "Resize",
    "Upsample",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Shape",
    "Constant",
    "ConstantOfShape",
    "Cast",
    "Range",
    "Expand",
    "Tile",
    "Where",
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "And",
    "Or",
    "Xor",
    "Identity",
    "Dropout",
    "DepthToSpace",
    "SpaceToDepth",
    "ArgMax",
    "TopK",
    "NonMaxSuppression",
    "If",
    "Loop",
    "LSTM",
];

/// The names of attributes.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "storage_order",
    "output_padding",
    "output_shape",
    "epsilon",
    "training_mode",
    "spatial",
    "alpha",
    "beta",
    "transA",
    "transB",
    "axis",
    "axes",
    "keepdims",
    "noop_with_empty_axes",
    "select_last_index",
    "k",
    "largest",
    "sorted",
    "center_point_box",
    "split",
    "num_outputs",
    "starts",
    "ends",
    "mode",
    "value",
    "value_int",
    "value_ints",
    "value_float",
    "value_floats",
    "scales",
    "coordinate_transformation_mode",
    "nearest_mode",
    "antialias",
    "keep_aspect_ratio_policy",
    "extrapolation_value",
    "cubic_coeff_a",
    "exclude_outside",
    "shape",
    "allowzero",
    "perm",
    "start",
    "end",
    "to",
    "blocksize",
    "approximate",
    "min",
    "max",
];

/// What attributes that are texts may say.
pub(crate) const WORDS: &[&str] = &[
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "nearest",
    "linear",
    "cubic",
    "bilinear",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "round_prefer_floor",
    "round_prefer_ceil",
    "floor",
    "ceil",
    "stretch",
    "not_larger",
    "not_smaller",
    "DCR",
    "CRD",
    "none",
    "tanh",
    "",
];
