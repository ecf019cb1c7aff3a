//! Folds BatchNormalization into the convolution before it: y = s·(W∗x + b − mean) + shift is a convolution with the weights
//! s·W and the bias s·(b − mean) + shift, where s = scale / √(variance + ε), channel by channel.

use super::Allowance;
use crate::graph::constant::Constant;
use crate::graph::ir::Graph;
use crate::graph::op::{Epilogue, Op};

pub(super) fn run(graph: &mut Graph) -> usize {
    let (links, mut allowance) = (graph.links(), Allowance::new(graph));
    let mut folded = 0;
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::BatchNormalization { epsilon } = node.op else { continue };
        if node.outputs.len() > 1 {
            continue;
        }
        let Some(conv) = node.input(0).filter(|&x| links.users(x).len() == 1).and_then(|x| links.producer(x)) else {
            continue;
        };
        let Some((weights, bias)) = merged(graph, conv, index, epsilon, &mut allowance) else { continue };
        let name = graph.value(node.outputs[0]).name.clone();
        let weights = graph.add_constant(format!("{name}.weights"), weights);
        let bias = graph.add_constant(format!("{name}.bias"), bias);
        let mut merged = graph.nodes[conv].clone();
        merged.inputs = vec![merged.inputs[0], Some(weights), Some(bias)];
        merged.outputs = vec![graph.nodes[index].outputs[0]];
        graph.nodes[index] = merged;
        folded += 1;
    }
    folded
}

/// The weights and bias of both together; `None` where the first is no plain convolution, or something is not constant.
fn merged(
    graph: &Graph,
    conv: usize,
    norm: usize,
    epsilon: f32,
    allowance: &mut Allowance,
) -> Option<(Constant, Constant)> {
    let (conv, norm) = (&graph.nodes[conv], &graph.nodes[norm]);
    match &conv.op {
        Op::Conv { epilogue, .. } if *epilogue == Epilogue::default() => {}
        _ => return None,
    }
    let weights = graph.constant_input(conv, 1)?;
    let channels = *weights.shape().first().filter(|&&n| n > 0)?;
    let per_channel = |constant: &&Constant| constant.shape() == [channels];
    // Looking at values may copy them: last.
    let parameter = |place: usize| graph.constant_input(norm, place).filter(per_channel);
    let parameters = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    let bias = match conv.input(2) {
        Some(id) => Some(graph.constant(id).filter(per_channel)?),
        None => None,
    };
    allowance.take(weights.len().checked_add(channels)?)?;
    let values = weights.as_floats()?;
    let [scale, shift, mean, variance] = parameters.map(Constant::as_floats);
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    let bias = match bias {
        Some(bias) => bias.as_floats()?.into_owned(),
        None => vec![0.0; channels],
    };
    let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
    let per_channel = values.len() / channels;
    let values = values.iter().enumerate().map(|(i, w)| (f64::from(*w) * factor(i / per_channel)) as f32).collect();
    let shifted = |c: usize| (factor(c) * (f64::from(bias[c]) - f64::from(mean[c])) + f64::from(shift[c])) as f32;
    let bias = (0..channels).map(shifted).collect();
    Some((Constant::floats(weights.shape().to_vec(), values), Constant::floats(vec![channels], bias)))
}
