//! Weights in the order in which kernels read them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::region::Order;
use crate::cpu::aligned::AlignedFloats;
use crate::plan::Conv;

/// Weights in the order in which kernels read them, shared between the plans of one graph.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    convs: Mutex<HashMap<Key, Arc<AlignedFloats>>>,
}

/// What the order depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// [`Conv::key`].
    pub(super) conv: usize,
    pub(super) lanes: usize,
    pub(super) order: Order,
}

impl Packed {
    /// The weights under a key; packed now, if nobody has yet.
    pub(super) fn get(&self, key: Key, pack: impl FnOnce() -> AlignedFloats) -> Arc<AlignedFloats> {
        // A panic while packing leaves the map as it was.
        let mut convs = self.convs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(convs.entry(key).or_insert_with(|| Arc::new(pack())))
    }
}

/// A number for each output channel, for whole blocks of them: those beyond the last channel are 0.
pub(super) fn by_channel(values: Option<&[f32]>, conv: &Conv) -> AlignedFloats {
    let mut all = AlignedFloats::zeros(conv.output.blocks() * conv.output.block);
    if let Some(values) = values {
        all[..conv.output.channels].copy_from_slice(&values[..conv.output.channels]);
    }
    all
}
