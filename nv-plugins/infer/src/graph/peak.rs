//! How much memory the values of a graph take, run by whoever keeps each from its node to its last user.

use super::fold::fixed_shape;
use super::ir::{Graph, Node, ValueId};

/// The value that brings the values alive at one time beyond `limit` bytes, and how many bytes they are then; `None` where they
/// stay within. Every element counts four bytes, constants and values of unknown shape none.
pub(crate) fn beyond(graph: &Graph, limit: u64) -> Option<(ValueId, u128)> {
    let mut last = vec![None; graph.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        node.used().for_each(|id| last[id.index()] = Some(at));
    }
    for (_, id) in &graph.outputs {
        last[id.index()] = Some(graph.nodes.len());
    }
    let bytes = |id: ValueId| -> u128 {
        let dims = graph.value(id).shape.as_deref().and_then(fixed_shape);
        let known = dims.filter(|_| graph.constant(id).is_none());
        known.map_or(0, |dims| dims.iter().fold(4, |n: u128, &d| n.saturating_mul(d as u128)))
    };
    let mut alive: u128 = 0;
    let add = |alive: &mut u128, id: ValueId| {
        *alive = alive.saturating_add(bytes(id));
        (*alive > u128::from(limit)).then_some((id, *alive))
    };
    if let Some(found) = graph.inputs.iter().find_map(|&id| add(&mut alive, id)) {
        return Some(found);
    }
    let mut done = vec![false; graph.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        if let Some(found) = node.outputs.iter().find_map(|&id| add(&mut alive, id)) {
            return Some(found);
        }
        for id in node.used().chain(node.outputs.iter().copied()) {
            // Used for the last time, or by nobody.
            if last[id.index()].is_none_or(|last| last == at) && !std::mem::replace(&mut done[id.index()], true) {
                alive = alive.saturating_sub(bytes(id));
            }
        }
    }
    None
}

/// Operators whose attributes, or the numbers in what they are given, say how much they give, whatever the size of that is; and
/// those that have graphs of their own.
const GROWING: [&str; 27] = [
    "AveragePool",
    "BlackmanWindow",
    "CenterCropPad",
    "Col2Im",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "DFT",
    "Expand",
    "EyeLike",
    "HammingWindow",
    "HannWindow",
    "If",
    "Loop",
    "LpPool",
    "MaxPool",
    "MaxUnpool",
    "MelWeightMatrix",
    "OneHot",
    "Pad",
    "RandomNormal",
    "RandomUniform",
    "Range",
    "Resize",
    "Scan",
    "Tile",
    "Upsample",
];

/// A node that may give any amount, as far as the graph knows: one of [`GROWING`], of whose outputs not every shape is known.
/// Symbols count as known where `open` says that the graph's inputs have them.
pub(crate) fn unbounded(graph: &Graph, open: bool) -> Option<&Node> {
    let known = |id: &ValueId| graph.shape(*id).is_some_and(|shape| open || fixed_shape(shape).is_some());
    graph.nodes.iter().find(|node| GROWING.contains(&&*node.op.name()) && !node.outputs.iter().all(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::infer::infer;
    use crate::testing::OnnxBuilder;

    #[test]
    fn values_count_while_somebody_needs_them() {
        let check = |builder: OnnxBuilder, limit: u64, expected: Option<(&str, u128)>| {
            let bytes = builder.build();
            let proto = crate::model::parse("m.onnx".as_ref(), &bytes).unwrap();
            let mut graph = crate::graph::import::import(proto).unwrap();
            infer(&mut graph).unwrap();
            let found = beyond(&graph, limit);
            assert_eq!(found.map(|(id, bytes)| (graph.value(id).name.as_str(), bytes)), expected);
        };
        let x = || OnnxBuilder::new().input("x", &[1.into(), 8.into()]).output_of_any_shape("c");
        let chain = || x().node("Relu", &["x"], &["a"]).node("Relu", &["a"], &["b"]).node("Relu", &["b"], &["c"]);
        check(chain(), 64, None);
        check(chain(), 63, Some(("a", 64)));
        check(chain(), 31, Some(("x", 32)));
        let kept = x().node("Relu", &["x"], &["a"]).node("Relu", &["a"], &["b"]).node("Add", &["b", "x"], &["c"]);
        check(kept, 95, Some(("b", 96)));
    }
}
