//! Node tests give an operator all its inputs at run time. A plan fixes every shape beforehand, so what the shape of a result
//! follows from is made a constant, as it is in every file that an exporter writes.

use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::{GraphProto, ModelProto, TensorProto};

/// Inputs, by operator and place, whose values decide what shape the result has.
const SHAPES: &[(&str, &[usize])] = &[
    ("ConstantOfShape", &[0]),
    ("Expand", &[1]),
    // The most boxes of a class, and the thresholds.
    ("NonMaxSuppression", &[2, 3, 4]),
    // Sizes and axes; the value is a parameter, see below.
    ("Pad", &[1, 3]),
    ("Range", &[0, 1, 2]),
    ("ReduceMax", &[1]),
    ("ReduceMean", &[1]),
    ("ReduceSum", &[1]),
    ("Reshape", &[1]),
    // Region, scales, sizes.
    ("Resize", &[1, 2, 3]),
    // Starts, ends, axes, steps.
    ("Slice", &[1, 2, 3, 4]),
    ("Split", &[1]),
    ("Squeeze", &[1]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Unsqueeze", &[1]),
    ("Upsample", &[1]),
];

/// Inputs whose values a plan may want beforehand: weights, to be packed, and parameters of kernels. They are inputs only so
/// that node tests can give them; no exporter leaves them open.
const PARAMETERS: &[(&str, &[usize])] = &[
    ("BatchNormalization", &[1, 2, 3, 4]),
    ("Clip", &[1, 2]),
    ("Conv", &[1, 2]),
    ("ConvTranspose", &[1, 2]),
    // Ratio, and whether it drops anything.
    ("Dropout", &[1, 2]),
    ("InstanceNormalization", &[1, 2]),
    ("Pad", &[2]),
    ("PRelu", &[1]),
];

/// Makes constants of the inputs that [`SHAPES`] and [`PARAMETERS`] name, and of those from which such an input is computed.
/// `values` are the inputs in the graph's order; those that stay inputs are given back.
pub(super) fn bake<'a>(model: &mut ModelProto, values: &'a [TensorProto]) -> Vec<&'a TensorProto> {
    let Some(graph) = &mut model.graph else { return Vec::new() };
    let fixed = decided_beforehand(graph);
    let (baked, open): (Vec<_>, Vec<_>) = std::mem::take(&mut graph.input)
        .into_iter()
        .zip(values)
        .partition(|(input, _)| input.name.as_deref().is_some_and(|name| fixed.contains(name)));
    for (input, value) in baked {
        graph.initializer.push(TensorProto { name: input.name, ..value.clone() });
    }
    let (inputs, values) = open.into_iter().unzip();
    graph.input = inputs;
    values
}

/// The names of values that must be known, back to the inputs of the graph.
fn decided_beforehand(graph: &GraphProto) -> HashSet<String> {
    let producers: HashMap<_, _> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    let places = |operator: &str| {
        let both = SHAPES.iter().chain(PARAMETERS).filter(move |(name, _)| *name == operator);
        both.flat_map(|(_, places)| places.iter().copied()).collect::<Vec<_>>()
    };
    let mut ahead: Vec<&str> = Vec::new();
    for node in &graph.node {
        let places = places(node.op_type.as_deref().unwrap_or_default());
        ahead.extend(places.iter().filter_map(|&place| node.input.get(place)).map(String::as_str));
    }
    let mut names = HashSet::new();
    while let Some(name) = ahead.pop() {
        if !name.is_empty() && names.insert(name.to_owned()) {
            // A shape is known without the values that have it.
            let computed = producers.get(name).filter(|node| node.op_type.as_deref() != Some("Shape"));
            ahead.extend(computed.iter().flat_map(|node| &node.input).map(String::as_str));
        }
    }
    names
}
