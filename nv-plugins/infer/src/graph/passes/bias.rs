//! Makes the addition of a constant per channel, after a convolution, that convolution's bias.

use super::Allowance;
use crate::graph::constant::Constant;
use crate::graph::fold::fixed_shape;
use crate::graph::ir::Graph;
use crate::graph::op::{Binary, Epilogue, Op};

pub(super) fn run(graph: &mut Graph) -> usize {
    let (links, mut allowance) = (graph.links(), Allowance::new(graph));
    let mut fused = 0;
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Binary(Binary::Add), Some(a), Some(b)) = (&node.op, node.input(0), node.input(1)) else { continue };
        let found = [(a, b), (b, a)].into_iter().find_map(|(x, added)| {
            let conv = links.producer(x).filter(|_| links.users(x).len() == 1)?;
            Some((conv, sum(graph, conv, graph.constant(added)?, &mut allowance)?))
        });
        let Some((conv, bias)) = found else { continue };
        let name = format!("{}.bias", graph.value(node.outputs[0]).name);
        let bias = graph.add_constant(name, bias);
        let mut merged = graph.nodes[conv].clone();
        merged.inputs = vec![merged.inputs[0], merged.inputs[1], Some(bias)];
        merged.outputs = vec![graph.nodes[index].outputs[0]];
        graph.nodes[index] = merged;
        fused += 1;
    }
    fused
}

/// The convolution's bias with `added`; `None` where that is not one number per channel.
fn sum(graph: &Graph, conv: usize, added: &Constant, allowance: &mut Allowance) -> Option<Constant> {
    let node = &graph.nodes[conv];
    if !matches!(&node.op, Op::Conv { epilogue, .. } if *epilogue == Epilogue::default()) {
        return None;
    }
    let out = graph.shape(node.outputs[0])?;
    let channels = fixed_shape(out.get(1..2)?)?[0];
    let shape = added.shape();
    // [C, 1, 1], with or without a 1 in front; a single number goes to every channel.
    let place = shape.len().checked_sub(out.len() - 1);
    let fits = shape.len() <= out.len()
        && shape.iter().enumerate().all(|(i, &d)| d == 1 || (Some(i) == place && d == channels));
    let bias = match node.input(2) {
        Some(id) => Some(graph.constant(id).filter(|bias| bias.shape() == [channels])?),
        None => None,
    };
    // Looking at values may copy them: last.
    fits.then(|| allowance.take(channels))??;
    let added = added.as_floats()?;
    let bias = match bias {
        Some(bias) => bias.as_floats()?.into_owned(),
        None => vec![0.0; channels],
    };
    let at = |c: usize| if added.len() == 1 { added[0] } else { added[c] };
    let values = bias.iter().enumerate().map(|(c, b)| b + at(c)).collect();
    Some(Constant::floats(vec![channels], values))
}
