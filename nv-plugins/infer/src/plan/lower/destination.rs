//! Where values are computed, so that nothing needs to be copied later.

use super::alias::reshape;
use super::{Lowering, MAX_NESTING, Pictures, Result, View, volume};
use crate::graph::ir::{User, ValueId};
use crate::graph::op::Op;
use crate::graph::shapes::permutation;

/// Values with more users are computed by themselves.
const MAX_USERS: usize = 64;

impl Lowering<'_> {
    /// The view that a value is to be computed into.
    pub(super) fn plain_output(&mut self, id: ValueId) -> Result<View> {
        if let Some(view) = self.places.get(&id) {
            return Ok(view.clone());
        }
        self.nesting += 1;
        let destination = self.plain_destination(id);
        self.nesting -= 1;
        let view = match destination? {
            Some(view) => view,
            None => {
                let dims = self.dims(id)?;
                let array = self.allocate(id, self.kind(id)?, volume(&dims)?)?;
                View::whole(array, &dims)
            }
        };
        self.places.insert(id, view.clone());
        Ok(view)
    }

    /// The part of something larger that the value goes to.
    pub(super) fn plain_destination(&mut self, id: ValueId) -> Result<Option<View>> {
        let users = self.links.users(id);
        if users.len() > MAX_USERS || users.contains(&User::Output) || self.nesting > MAX_NESTING {
            return Ok(None);
        }
        let users = users.to_vec();
        for user in &users {
            let User::Node(index) = user else { continue };
            let node = &self.graph.nodes[*index];
            let (Op::Concat { axis }, output) = (&node.op, node.outputs[0]) else { continue };
            if self.prefers.contains(&output) {
                continue;
            }
            let (axis, first) = (self.concat_axis(node, *axis)?, self.part_at(output, id)?);
            let whole = self.plain_output(output)?;
            let offset = whole.offset as isize + first as isize * whole.strides[axis];
            return Ok(Some(View { offset: offset as usize, ..whole }));
        }
        let [User::Node(index)] = users[..] else { return Ok(None) };
        let node = &self.graph.nodes[index];
        let (op, output) = (node.op.clone(), node.outputs[0]);
        if !self.leads_somewhere(output, 0) {
            return Ok(None);
        }
        let (dims, outer) = (self.dims(id)?, self.dims(output)?);
        match op {
            Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze => {
                let whole = self.plain_output(output)?;
                Ok(reshape(&whole, &outer, &dims))
            }
            Op::Transpose { perm } => {
                let whole = self.plain_output(output)?;
                let perm = permutation(perm.as_deref(), dims.len())?;
                let mut strides = vec![0; dims.len()];
                perm.iter().zip(&whole.strides).for_each(|(&axis, &stride)| strides[axis] = stride);
                Ok(Some(View { strides, ..whole }))
            }
            _ => Ok(None),
        }
    }

    /// Whether a value, or what is only another view of it, ends in an output or a Concat.
    fn leads_somewhere(&self, id: ValueId, depth: usize) -> bool {
        let users = self.links.users(id);
        let ends = |user: &User| match user {
            User::Output => true,
            User::Node(index) => {
                let node = &self.graph.nodes[*index];
                matches!(node.op, Op::Concat { .. }) && !self.prefers.contains(&node.outputs[0])
            }
        };
        if users.iter().take(MAX_USERS).any(ends) {
            return true;
        }
        let [User::Node(index)] = users else { return false };
        let node = &self.graph.nodes[*index];
        let view = matches!(
            node.op,
            Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze | Op::Transpose { .. }
        );
        view && depth < 16 && self.leads_somewhere(node.outputs[0], depth + 1)
    }

    /// The channels of a Concat that the value goes to.
    pub(super) fn blocked_destination(&mut self, id: ValueId) -> Result<Option<Pictures>> {
        if self.links.users(id).len() > MAX_USERS || self.nesting > MAX_NESTING {
            return Ok(None);
        }
        for user in self.links.users(id).to_vec() {
            let User::Node(index) = user else { continue };
            let node = &self.graph.nodes[index];
            let output = node.outputs[0];
            let is_concat = matches!(node.op, Op::Concat { .. }) && self.prefers.contains(&output);
            if !is_concat || self.even.get(&output) != Some(&true) {
                continue;
            }
            let (first, channels) = (self.part_at(output, id)?, self.dims4(id)?[1]);
            self.nesting += 1;
            let whole = self.blocked_whole(output);
            self.nesting -= 1;
            return Ok(Some(whole?.part(first, channels)));
        }
        Ok(None)
    }

    /// The memory of a Concat whose parts are computed where they go.
    pub(super) fn blocked_whole(&mut self, id: ValueId) -> Result<Pictures> {
        if let Some(whole) = self.wholes.get(&id) {
            return Ok(whole.clone());
        }
        let dims = self.dims4(id)?;
        let whole = self.blocked_output(id, dims)?;
        self.wholes.insert(id, whole.clone());
        Ok(whole)
    }
}
