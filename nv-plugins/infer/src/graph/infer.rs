//! Shapes and small values, node by node.

use std::collections::HashMap;

use super::constant::Constant;
use super::fold::{self, Content};
use super::ir::{Graph, Node, ValueId};
use super::op::{AspectRatio, Coordinates, Op};
use super::shapes::{self, Fact, Inputs};
use super::size::Size;
use crate::text::{printable, short_name};

/// The most dimensions that a tensor may have. Models have up to six.
pub(super) const MAX_RANK: usize = 16;

/// How much the shapes of a graph may hold in open sizes, by [`Size::weight`]. Models need a few tens for each thousand nodes
/// with fixed sizes, and ten thousand with open ones.
pub(super) const MAX_OPEN: usize = 1 << 18;

/// How much is kept of small tensors' values, by [`Content::weight`]: some tens of megabytes. Models need a thousandth.
const MAX_KEPT: usize = 1 << 22;

/// Gives every value its shape, as far as that is known; turns what can be computed beforehand into constants, and shapes
/// that are computed into shapes that are known.
///
/// The error names the node whose inputs do not fit, with their shapes.
pub(crate) fn infer(graph: &mut Graph) -> Result<(), String> {
    graph.sweep();
    disbelieve(graph);
    let mut inference = Inference::default();
    for index in 0..graph.nodes.len() {
        inference.step(graph, index)?;
    }
    finish(graph);
    Ok(())
}

/// Forgets what the file declares of the shapes that operators give which are understood: they follow from those of the
/// inputs, or are known to nobody before the model runs.
pub(super) fn disbelieve(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        if matches!(graph.nodes[index].op, Op::Other { .. }) {
            continue;
        }
        for output in graph.nodes[index].outputs.clone() {
            if graph.constant(output).is_none() {
                graph.value_mut(output).shape = None;
            }
        }
    }
}

/// Drops the nodes whose outputs have become constants, and what nobody uses any more.
pub(super) fn finish(graph: &mut Graph) {
    let mut nodes = std::mem::take(&mut graph.nodes);
    nodes.retain(|node| node.outputs.iter().any(|&id| graph.constant(id).is_none()));
    graph.nodes = nodes;
    graph.sweep();
}

/// Node by node in their order.
#[derive(Default)]
pub(super) struct Inference {
    /// The values of small tensors, where they are known.
    contents: HashMap<ValueId, Content>,
    /// What those take, by [`Content::weight`].
    kept: usize,
    /// What the shapes take that were inferred, by [`Size::weight`].
    open: usize,
}

impl Inference {
    /// Infers one node's outputs. Those of the nodes before it must be done.
    pub(super) fn step(&mut self, graph: &mut Graph, index: usize) -> Result<(), String> {
        let node = &graph.nodes[index];
        let inputs = self.facts(graph, node);
        let facts = shapes::infer(&node.op, &Inputs(&inputs), node.outputs.len());
        let mut facts = facts.map_err(|reason| describe(graph, node, &reason))?;
        for shape in facts.iter().filter_map(|f| f.shape.as_ref()) {
            if shape.len() > MAX_RANK {
                let reason = format!("a result of {} dimensions; {MAX_RANK} are the most", shape.len());
                return Err(describe(graph, node, &reason));
            }
            self.open += shape.iter().map(Size::weight).sum::<usize>();
            if self.open > MAX_OPEN {
                return Err(describe(graph, node, "the sizes of the graph get too complicated"));
            }
        }
        if let Some(fact) = facts.first_mut()
            && let Some(shape) = &fact.shape
            && self.kept < MAX_KEPT
        {
            fact.content = fold::evaluate(&node.op, &Inputs(&inputs), fact.element, shape);
        }
        for (id, fact) in graph.nodes[index].outputs.clone().into_iter().zip(facts) {
            self.note(graph, id, fact);
        }
        reshape_constant(graph, index);
        settle(graph, index);
        Ok(())
    }

    /// What is known of a node's inputs.
    pub(super) fn facts(&mut self, graph: &Graph, node: &Node) -> Vec<Option<Fact>> {
        node.inputs.iter().map(|id| id.map(|id| self.fact(graph, id))).collect()
    }

    /// The whole numbers of a small tensor, where they are known and have been asked for.
    pub(super) fn sizes(&self, id: ValueId) -> Option<&[Size]> {
        self.contents.get(&id)?.as_ints()
    }

    fn fact(&mut self, graph: &Graph, id: ValueId) -> Fact {
        let value = graph.value(id);
        if let (None, Some(constant)) = (self.contents.get(&id), &value.constant)
            && let Some(content) = Content::of(constant)
        {
            self.keep(id, content);
        }
        Fact { element: value.element, shape: value.shape.clone(), content: self.contents.get(&id).cloned() }
    }

    /// Keeps the values of a tensor, unless all that are kept would take too much.
    fn keep(&mut self, id: ValueId, content: Content) -> bool {
        let kept = self.kept + content.weight();
        if kept > MAX_KEPT {
            return false;
        }
        self.kept = kept;
        self.contents.insert(id, content);
        true
    }

    fn note(&mut self, graph: &mut Graph, id: ValueId, fact: Fact) {
        let constant = fact
            .content
            .as_ref()
            .zip(fact.shape.as_ref())
            .and_then(|(content, shape)| content.to_constant(fold::fixed_shape(shape)?, fact.element));
        let kept = fact.content.is_some_and(|content| self.keep(id, content));
        if let Some(constant) = constant.filter(|_| kept) {
            return graph.fix(id, constant);
        }
        let value = graph.value_mut(id);
        if fact.element != crate::ElementType::Other {
            value.element = fact.element;
        }
        // What the file declares stands where nothing can be inferred.
        if fact.shape.is_some() {
            value.shape = fact.shape;
        }
    }
}

/// A constant of any size that is only seen in another shape stays one.
fn reshape_constant(graph: &mut Graph, index: usize) {
    let node = &graph.nodes[index];
    let reshapes = matches!(
        node.op,
        Op::Identity | Op::Dropout | Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze
    );
    let output = node.outputs[0];
    if let (true, Some(constant), None, Some(shape)) =
        (reshapes, graph.constant_input(node, 0), graph.constant(output), graph.shape(output))
        && let Some(shape) = fold::fixed_shape(shape)
    {
        let constant: Constant = constant.reshaped(shape);
        graph.fix(output, constant);
    }
}

/// Where the output's shape is known, the input that holds it is not needed.
fn settle(graph: &mut Graph, index: usize) {
    let node = &graph.nodes[index];
    let known = graph.shape(node.outputs[0]).is_some();
    let needed = match &node.op {
        Op::Reshape { .. } | Op::Expand if known => 1,
        Op::Resize(resize)
            if known
                && node.input(3).is_some()
                && resize.coordinates != Coordinates::TfCropAndResize
                && resize.aspect == AspectRatio::Stretch =>
        {
            1
        }
        _ => return,
    };
    graph.nodes[index].inputs.truncate(needed);
}

/// How many inputs a text about a node shows.
const MAX_SHOWN: usize = 8;

/// `Conv node "c1" (x float 1×3×8×8, w float 4×4×3×3): reason`
pub(super) fn describe(graph: &Graph, node: &Node, reason: &str) -> String {
    let inputs: Vec<_> = node.used().take(MAX_SHOWN).map(|id| graph.value(id).text()).collect();
    let more = if node.used().nth(MAX_SHOWN).is_some() { ", …" } else { "" };
    format!("{} node {:?} ({}{more}): {}", node.op.name(), short_name(&node.name), inputs.join(", "), printable(reason))
}
