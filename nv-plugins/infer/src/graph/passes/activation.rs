//! Has the convolution apply the activation that follows it.

use crate::ElementType;
use crate::graph::ir::Graph;
use crate::graph::op::{Activation, Op, Residual, Unary};

pub(super) fn run(graph: &mut Graph) -> usize {
    let links = graph.links();
    let mut fused = 0;
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(activation) = activation(graph, index) else { continue };
        let Some(conv) = node.input(0).filter(|&x| links.users(x).len() == 1).and_then(|x| links.producer(x)) else {
            continue;
        };
        let mut merged = graph.nodes[conv].clone();
        let Op::Conv { epilogue, .. } = &mut merged.op else { continue };
        if epilogue.activation.is_some() || epilogue.residual == Some(Residual::AfterActivation) {
            continue;
        }
        epilogue.activation = Some(activation);
        if activation == Activation::PRelu {
            // Bias and residual keep their places, there or not.
            merged.inputs.resize(4, None);
            merged.inputs.push(node.input(1));
        }
        merged.outputs = node.outputs.clone();
        graph.nodes[index] = merged;
        fused += 1;
    }
    fused
}

/// The activation that a node is, where a convolution can do it.
fn activation(graph: &Graph, index: usize) -> Option<Activation> {
    let node = &graph.nodes[index];
    let output = graph.value(node.outputs[0]);
    match node.op {
        Op::Unary(unary) => {
            let common = matches!(
                unary,
                Unary::Relu
                    | Unary::LeakyRelu { .. }
                    | Unary::Clamp { .. }
                    | Unary::Sigmoid
                    | Unary::HardSigmoid { .. }
                    | Unary::HardSwish
                    | Unary::Silu
                    | Unary::Tanh
            );
            (common && output.element == ElementType::Float).then_some(Activation::Unary(unary))
        }
        Op::PRelu => {
            // One slope per channel, or one for all.
            let slope = graph.constant_input(node, 1)?;
            let out = output.shape.as_ref()?;
            let place = slope.shape().len().checked_sub(out.len().checked_sub(1)?);
            let fits = slope.shape().len() <= out.len()
                && slope.shape().iter().enumerate().all(|(i, &d)| d == 1 || Some(i) == place);
            fits.then_some(Activation::PRelu)
        }
        _ => None,
    }
}
