//! Marks the inputs of a Concat that whoever computes them can write where they go, so that nothing is copied.

use crate::graph::ir::{Graph, Placement, User};
use crate::graph::op::Op;
use crate::graph::shapes::axis_of;
use crate::graph::size::Size;

/// Values with more users are left where they are.
const MAX_USERS: usize = 64;

/// The last pass: a placement says where a value lies, and later rewrites would have to keep that true.
pub(super) fn run(graph: &mut Graph) -> usize {
    let links = graph.links();
    let mut placed = 0;
    // From the end: the outermost of nested concatenations is placed first, and what goes into it follows.
    for index in (0..graph.nodes.len()).rev() {
        let node = graph.nodes[index].clone();
        let Op::Concat { axis } = node.op else { continue };
        let into = node.outputs[0];
        let Some(axis) = graph.shape(into).and_then(|shape| axis_of(axis, shape.len()).ok()) else { continue };
        let mut offset = Size::fixed(0);
        for part in node.used() {
            let Some(size) = graph.shape(part).and_then(|shape| shape.get(axis)).cloned() else { break };
            // In one place only: not twice in this Concat, not in another, not where the caller looks for it.
            let users = links.users(part);
            let places = users.iter().take(MAX_USERS).filter(|user| match user {
                User::Output => true,
                User::Node(user) => matches!(graph.nodes[*user].op, Op::Concat { .. }),
            });
            let computed = links.producer(part).is_some_and(|p| graph.nodes[p].outputs.len() == 1);
            if computed && places.count() == 1 && users.len() <= MAX_USERS {
                graph.value_mut(part).placement = Some(Placement { into, axis, offset: offset.clone() });
                placed += 1;
            }
            match offset.plus(&size) {
                Ok(next) => offset = next,
                Err(_) => break,
            }
        }
    }
    placed
}
