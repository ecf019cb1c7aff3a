//! What a node costs to compute.

use super::ir::{Graph, Node};
use super::op::{Op, Window};
use super::size::Size;

/// Multiplications with an addition each, and all operations on numbers: two for each of those, one for any other function
/// of an element. Moving elements costs nothing here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) macs: Size,
    pub(crate) flops: Size,
}

/// The cost of one node; `None` where its shapes are not known.
pub(crate) fn cost(graph: &Graph, node: &Node) -> Option<Cost> {
    let shape = |index: usize| graph.shape(node.input(index)?);
    let out = graph.shape(*node.outputs.first()?);
    let volume = |shape: &[Size]| Size::product(shape).ok();
    let (mut macs, mut extra) = (Size::default(), Size::default());
    match &node.op {
        Op::Conv { epilogue, .. } => {
            macs = volume(out?)?.times(&volume(shape(1)?.get(1..)?)?).ok()?;
            let steps = usize::from(epilogue.activation.is_some()) + usize::from(epilogue.residual.is_some());
            extra = volume(out?)?.times(&steps.into()).ok()?;
        }
        Op::ConvTranspose { .. } => macs = volume(shape(0)?)?.times(&volume(shape(1)?.get(1..)?)?).ok()?,
        Op::MatMul => macs = volume(out?)?.times(shape(0)?.last()?).ok()?,
        Op::Gemm { trans_a, .. } => macs = volume(out?)?.times(shape(0)?.get(usize::from(!trans_a))?).ok()?,
        Op::MaxPool(window) | Op::AveragePool { window, .. } => {
            extra = volume(out?)?.times(&area(window)?).ok()?;
        }
        Op::GlobalAveragePool | Op::GlobalMaxPool | Op::Reduce { .. } | Op::ArgMax { .. } | Op::TopK { .. } => {
            extra = volume(shape(0)?)?;
        }
        // A largest, a difference, a power, a sum, a quotient; a mean, a variance, a quotient, a scale, a shift.
        Op::Softmax { .. } | Op::InstanceNormalization { .. } => extra = volume(out?)?.times(&5.into()).ok()?,
        Op::BatchNormalization { .. } => extra = volume(out?)?.times(&2.into()).ok()?,
        Op::Unary(_) | Op::PRelu | Op::Clip | Op::Binary(_) | Op::Where | Op::Cast(_) | Op::Resize(_) => {
            extra = volume(out?)?;
        }
        _ => {}
    }
    let flops = macs.times(&2.into()).and_then(|flops| flops.plus(&extra)).ok()?;
    Some(Cost { macs, flops })
}

fn area(window: &Window) -> Option<Size> {
    let kernel: Vec<Size> = window.kernel.iter().map(|&k| Size::fixed(k)).collect();
    Size::product(&kernel).ok()
}
