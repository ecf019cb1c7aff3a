//! Which values are computed as blocked pictures.

use super::Lowering;
use crate::ElementType;
use crate::graph::ir::{Node, ValueId};
use crate::graph::op::{Binary, Op};
use crate::graph::shapes::axis_of;

impl Lowering<'_> {
    /// Goes through the nodes in their order: convolutions and pools give pictures, and whatever can work on pictures channel
    /// by channel goes on with them.
    pub(super) fn find_preferences(&mut self) {
        for node in &self.graph.nodes {
            for &id in &node.outputs {
                if self.is_picture(id) && self.works_on_pictures(node, id) {
                    self.prefers.insert(id);
                }
            }
        }
    }

    fn is_picture(&self, id: ValueId) -> bool {
        let float = matches!(self.element(id), ElementType::Float | ElementType::Double | ElementType::Float16);
        float && self.dims4(id).is_ok_and(|dims| dims.iter().all(|&d| d > 0))
    }

    fn works_on_pictures(&self, node: &Node, id: ValueId) -> bool {
        let prefers = |index: usize| node.input(index).is_some_and(|id| self.prefers.contains(&id));
        match &node.op {
            Op::Conv { .. } | Op::ConvTranspose { .. } => true,
            Op::MaxPool(_) | Op::AveragePool { .. } | Op::GlobalAveragePool | Op::GlobalMaxPool => {
                node.input(0).is_some_and(|id| self.is_picture(id))
            }
            Op::Unary(_) | Op::BatchNormalization { .. } => prefers(0),
            Op::Binary(binary) if binary.is_truth() || node.inputs.len() != 2 => false,
            Op::Binary(_) | Op::PRelu | Op::Clip => {
                let mut pictures = node.used().filter(|id| self.prefers.contains(id));
                let float = |id: ValueId| crate::plan::Kind::of(self.element(id)) == Some(crate::plan::Kind::Float);
                pictures.any(|from| self.dims(from).ok() == self.dims(id).ok())
                    && node.used().all(float)
                    && self.dims(id).is_ok_and(|dims| dims.len() == 4)
                    && !matches!(node.op, Op::Binary(Binary::And | Binary::Or | Binary::Xor))
            }
            Op::Reduce { keep_dims, .. } => {
                let axes = self.reduced_axes(node).unwrap_or_default();
                *keep_dims && prefers(0) && axes == [2, 3]
            }
            Op::Resize(_) | Op::Pad(_) => {
                let spatial = |from: ValueId| {
                    let (from, to) = (self.dims(from).unwrap_or_default(), self.dims(id).unwrap_or_default());
                    from.len() == 4 && to.len() == 4 && from[..2] == to[..2]
                };
                prefers(0) && node.input(0).is_some_and(spatial)
            }
            Op::Concat { axis } => {
                let along_channels = self.dims(id).is_ok_and(|d| axis_of(*axis, d.len()) == Ok(1));
                along_channels && node.used().count() > 0 && node.used().all(|part| self.prefers.contains(&part))
            }
            _ if self.is_alias_node(node) => self.channel_pick(id).is_some(),
            _ => false,
        }
    }
}
