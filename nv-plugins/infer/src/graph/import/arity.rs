//! How many inputs and outputs an operator has.

use crate::graph::ir::ValueId;
use crate::graph::op::{Binary, Op};

/// Checks a node's inputs and outputs against what its operator takes and gives, once attributes have become inputs. What
/// follows can rely on it: a Reshape with one input means something else within the graph.
pub(super) fn check(op: &Op, inputs: &[Option<ValueId>], outputs: usize) -> Result<(), String> {
    let (required, most, gives) = arity(op);
    if let Some(missing) = (0..required).find(|&place| inputs.get(place).is_none_or(Option::is_none)) {
        return Err(format!("input {} is missing", missing + 1));
    }
    if inputs.len() > most {
        return Err(format!("it has {} inputs, {most} are the most", inputs.len()));
    }
    if outputs > gives {
        return Err(format!("it has {outputs} outputs, {gives} are the most"));
    }
    if matches!(op, Op::Concat { .. }) && inputs.iter().any(Option::is_none) {
        return Err("an input is left out".into());
    }
    if matches!(op, Op::Resize(_)) && ![2, 3].iter().any(|&place| inputs.get(place).is_some_and(Option::is_some)) {
        return Err("neither scales nor sizes are there".into());
    }
    Ok(())
}

/// The inputs that must be there, the most that there may be, the most outputs.
fn arity(op: &Op) -> (usize, usize, usize) {
    const ANY: usize = usize::MAX;
    match op {
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Gemm { .. } => (2, 3, 1),
        Op::MaxPool(_) => (1, 1, 2),
        Op::BatchNormalization { .. } => (5, 5, 1),
        Op::InstanceNormalization { .. } | Op::Where | Op::Range => (3, 3, 1),
        Op::Concat { .. } | Op::Binary(Binary::Min | Binary::Max) => (1, ANY, 1),
        Op::MatMul
        | Op::PRelu
        | Op::Binary(_)
        | Op::Gather { .. }
        | Op::Reshape { .. }
        | Op::Expand
        | Op::Tile
        | Op::Unsqueeze => (2, 2, 1),
        Op::Clip => (1, 3, 1),
        Op::Reduce { .. } | Op::Squeeze => (1, 2, 1),
        Op::TopK { .. } => (2, 2, 2),
        Op::NonMaxSuppression { .. } => (2, 5, 1),
        Op::Split { .. } => (1, 2, ANY),
        Op::Slice => (3, 5, 1),
        Op::Pad(_) => (2, 4, 1),
        Op::Resize(_) => (1, 4, 1),
        Op::Dropout => (1, 3, 2),
        Op::AveragePool { .. }
        | Op::GlobalAveragePool
        | Op::GlobalMaxPool
        | Op::Softmax { .. }
        | Op::Unary(_)
        | Op::ArgMax { .. }
        | Op::Flatten { .. }
        | Op::Transpose { .. }
        | Op::Shape { .. }
        | Op::ConstantOfShape(_)
        | Op::Cast(_)
        | Op::Identity
        | Op::DepthToSpace { .. }
        | Op::SpaceToDepth { .. }
        | Op::IndexMap(_) => (1, 1, 1),
        Op::Other { .. } => (0, ANY, ANY),
    }
}
