//! Drops nodes that give what they are given, and replaces Clip by an activation where its bounds are constants.

use std::collections::HashMap;

use crate::graph::ir::{Graph, ValueId};
use crate::graph::op::{Op, Unary};
use crate::graph::shapes::permutation;

pub(super) fn run(graph: &mut Graph) -> usize {
    let links = graph.links();
    // What stands in for what is dropped.
    let mut names: HashMap<ValueId, ValueId> = HashMap::new();
    for index in 0..graph.nodes.len() {
        if let Some(clamp) = clamp(graph, index) {
            let node = &mut graph.nodes[index];
            node.op = Op::Unary(clamp);
            node.inputs.truncate(1);
        }
        let node = &graph.nodes[index];
        let Some(input) = node.input(0) else { continue };
        let output = node.outputs[0];
        let (from, to) = (graph.value(input), graph.value(output));
        let same_shape = from.shape.is_some() && from.shape == to.shape;
        let nothing = match &node.op {
            Op::Identity => true,
            // The mask is all ones; who wants it needs the node.
            Op::Dropout => node.outputs[1..].iter().all(|id| links.users(*id).is_empty()),
            Op::Cast(to) => from.element == *to,
            Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze | Op::Expand => same_shape,
            Op::Transpose { perm } => from
                .shape
                .as_ref()
                .and_then(|shape| permutation(perm.as_deref(), shape.len()).ok())
                .is_some_and(|perm| perm.iter().copied().eq(0..perm.len())),
            Op::Concat { .. } => node.inputs.len() == 1,
            _ => false,
        };
        if nothing {
            names.insert(output, *names.get(&input).unwrap_or(&input));
        }
    }
    graph.replace(&names);
    names.len()
}

/// The activation that a Clip between constants is.
fn clamp(graph: &Graph, index: usize) -> Option<Unary> {
    let node = &graph.nodes[index];
    if !matches!(node.op, Op::Clip) {
        return None;
    }
    let bound = |index: usize, open: f32| match node.input(index) {
        Some(id) => graph.constant(id)?.scalar(),
        None => Some(open),
    };
    let (least, greatest) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
    let is_float = graph.value(node.outputs[0]).element == crate::ElementType::Float;
    // What a Clip gives with bounds the wrong way round, or with none at all, is for whoever runs it to say.
    (is_float && least <= greatest).then_some(Unary::Clamp { least, greatest })
}
