//! Finds activations that exporters write as several nodes: SiLU as x·Sigmoid(x); hard-swish as x·HardSigmoid(x) with the
//! slope 1/6 and the offset 1/2, as x·Clip(x + 3, 0, 6) / 6, or with the division first.

use crate::graph::ir::{Graph, Links, ValueId};
use crate::graph::op::{Binary, Op, Unary};

pub(super) fn run(graph: &mut Graph) -> usize {
    let links = graph.links();
    let mut found = 0;
    for index in 0..graph.nodes.len() {
        let Some((input, unary)) = product(graph, &links, index).or_else(|| sixth(graph, &links, index)) else {
            continue;
        };
        let node = &mut graph.nodes[index];
        node.op = Op::Unary(unary);
        node.inputs = vec![Some(input)];
        found += 1;
    }
    found
}

/// x·gate(x), where the gate is used for nothing else.
fn product(graph: &Graph, links: &Links, index: usize) -> Option<(ValueId, Unary)> {
    let (a, b) = operands(graph, index, Binary::Mul)?;
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let gate = alone(links, gate)?;
        let unary = match graph.nodes[gate].op {
            Op::Unary(Unary::Sigmoid) => Unary::Silu,
            Op::Unary(Unary::HardSigmoid { alpha, beta }) if close(alpha, 1.0 / 6.0) && close(beta, 0.5) => {
                Unary::HardSwish
            }
            // Clip(x + 3, 0, 6) / 6
            _ if divided_by_six(graph, gate).is_some_and(|clipped| is_gate(graph, links, clipped, x)) => {
                return Some((x, Unary::HardSwish));
            }
            _ => return None,
        };
        (graph.nodes[gate].input(0) == Some(x)).then_some((x, unary))
    })
}

/// x·Clip(x + 3, 0, 6) / 6
fn sixth(graph: &Graph, links: &Links, index: usize) -> Option<(ValueId, Unary)> {
    let product = alone(links, divided_by_six(graph, index)?)?;
    let (a, b) = operands(graph, product, Binary::Mul)?;
    let (x, _) = [(a, b), (b, a)].into_iter().find(|&(x, gate)| is_gate(graph, links, gate, x))?;
    Some((x, Unary::HardSwish))
}

/// Whether `gate` is Clip(x + 3, 0, 6).
fn is_gate(graph: &Graph, links: &Links, gate: ValueId, x: ValueId) -> bool {
    let shifted = || {
        let clip = &graph.nodes[alone(links, gate)?];
        let Op::Unary(Unary::Clamp { least: 0.0, greatest: 6.0 }) = clip.op else { return None };
        let (a, b) = operands(graph, alone(links, clip.input(0)?)?, Binary::Add)?;
        [(a, b), (b, a)].into_iter().find(|&(of, three)| of == x && is_number(graph, three, 3.0))
    };
    shifted().is_some()
}

/// What a node divides by six, be it by multiplication.
fn divided_by_six(graph: &Graph, index: usize) -> Option<ValueId> {
    if let Some((a, b)) = operands(graph, index, Binary::Div) {
        return is_number(graph, b, 6.0).then_some(a);
    }
    let (a, b) = operands(graph, index, Binary::Mul)?;
    [(a, b), (b, a)].into_iter().find(|&(_, by)| is_number(graph, by, 1.0 / 6.0)).map(|(of, _)| of)
}

fn operands(graph: &Graph, index: usize, binary: Binary) -> Option<(ValueId, ValueId)> {
    let node = &graph.nodes[index];
    match (&node.op, &node.inputs[..]) {
        (Op::Binary(found), [Some(a), Some(b)]) if *found == binary => Some((*a, *b)),
        _ => None,
    }
}

fn is_number(graph: &Graph, id: ValueId, number: f32) -> bool {
    let scalar = graph.constant(id).filter(|c| c.shape().iter().all(|&d| d == 1)).and_then(|c| c.scalar());
    scalar.is_some_and(|value| close(value, number))
}

/// Files write 1/6 with six digits.
fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-6
}

/// The node that computes a value that is used once.
fn alone(links: &Links, id: ValueId) -> Option<usize> {
    links.producer(id).filter(|_| links.users(id).len() == 1)
}
