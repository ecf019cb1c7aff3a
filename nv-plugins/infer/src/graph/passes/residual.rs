//! Has the convolution add what is added to its result: the shortcut of a residual block.

use crate::graph::ir::Graph;
use crate::graph::op::{Binary, Op, Residual};

pub(super) fn run(graph: &mut Graph) -> usize {
    let links = graph.links();
    let mut fused = 0;
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Binary(Binary::Add), Some(a), Some(b)) = (&node.op, node.input(0), node.input(1)) else { continue };
        if a == b || graph.shape(a).is_none() || graph.shape(a) != graph.shape(b) {
            continue;
        }
        // Of two convolutions the later one: the other's result is there by then.
        let found = [(a, b), (b, a)].into_iter().filter_map(|(x, other)| {
            let conv = links.producer(x).filter(|_| links.users(x).len() == 1)?;
            let plain = matches!(&graph.nodes[conv].op, Op::Conv { epilogue, .. } if epilogue.residual.is_none());
            (plain && graph.constant(other).is_none()).then_some((conv, other))
        });
        let Some((conv, other)) = found.max_by_key(|(conv, _)| *conv) else { continue };
        let mut merged = graph.nodes[conv].clone();
        let Op::Conv { epilogue, .. } = &mut merged.op else { continue };
        let after = epilogue.activation.is_some();
        epilogue.residual = Some(if after { Residual::AfterActivation } else { Residual::BeforeActivation });
        merged.inputs.resize(merged.inputs.len().max(4), None);
        merged.inputs[3] = Some(other);
        merged.outputs = node.outputs.clone();
        graph.nodes[index] = merged;
        fused += 1;
    }
    fused
}
