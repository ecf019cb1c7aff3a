//! The graph for inputs of given shapes.

use super::infer::infer;
use super::ir::Graph;
use super::passes::{self, Rewrites};
use super::size::Size;

/// An imported graph for inputs of these shapes, in their order: every size a number, constants folded, nodes fused.
///
/// # Errors
/// The node whose inputs do not fit, with their shapes.
pub(crate) fn concrete(imported: &Graph, shapes: &[Vec<usize>]) -> Result<(Graph, Vec<Rewrites>), String> {
    let mut graph = imported.clone();
    for node in &imported.nodes {
        for &output in node.outputs.iter().filter(|id| imported.constant(**id).is_none()) {
            // What the file declares was true of the shapes that it was exported with.
            graph.value_mut(output).shape = None;
        }
    }
    for (&input, shape) in imported.inputs.iter().zip(shapes) {
        graph.value_mut(input).shape = Some(shape.iter().map(|&d| Size::from(d)).collect());
    }
    infer(&mut graph)?;
    let rewrites = passes::run(&mut graph);
    Ok((graph, rewrites))
}
