//! What executors run: a list of steps over arrays whose sizes are numbers, for one entry of a batch.
//!
//! [`lower`] makes it from a fused graph. Some seventy operators become about a dozen kinds of steps
//! ([`Action`]): whatever only moves or picks elements is a copy between strided views or nothing at all, whatever has modes
//! and coordinate systems is a table of taps. So an executor is small, and two of them agree.
//!
//! An executor that is given several entries runs the same steps for each: array by array, an entry's elements lie one after
//! another, and constants are shared. Nothing in a plan depends on how many entries there are.

pub(crate) mod access;
mod lower;
mod memory;
mod step;
mod text;
mod view;

pub(crate) use lower::{Refusal, Target, lower};
pub(crate) use memory::MemoryPlan;
#[cfg(test)]
pub(crate) use memory::Slot;
pub(crate) use step::{
    Action, Activation, ArgMax, Conv, Function, Gather, Map, MatMul, NonMaxSuppression, Pool, PoolAxis, PoolKind,
    Reduce, Resample, Residual, Shuffle, Softmax, Step, Taps, TopK,
};
pub(crate) use view::{Picture, Span, View, row_major};

use std::sync::Arc;

use crate::ElementType;

/// Steps, and the memory they work in.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many channels lie side by side in a blocked picture: what the executor asked for.
    pub(crate) block: usize,
    /// All memory, constants included.
    pub(crate) arrays: Vec<Array>,
    /// In the order in which they are run.
    pub(crate) steps: Vec<Step>,
    /// Where inputs are written before the first step, in the order of the graph's inputs.
    pub(crate) inputs: Vec<Port>,
    /// Where outputs are read after the last step, in the order of the graph's outputs.
    pub(crate) outputs: Vec<Port>,
    /// Where the arrays that are no constants lie, for one entry.
    pub(crate) memory: MemoryPlan,
}

impl Plan {
    /// The array.
    pub(crate) fn array(&self, id: ArrayId) -> &Array {
        &self.arrays[id.0 as usize]
    }
}

/// An array of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ArrayId(pub(crate) u32);

impl ArrayId {
    /// Its place in [`Plan::arrays`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A stretch of memory: one for each entry, or a constant that all share.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    /// The value of the graph that it was made for.
    pub(crate) name: String,
    /// What its elements are.
    pub(crate) kind: Kind,
    /// How many elements it has, for one entry.
    pub(crate) len: usize,
    /// What it holds before the first step; `None`: nothing that may be read.
    pub(crate) constant: Option<Values>,
}

/// How a number is held. Every element takes four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// `f32`: for ONNX's `float`, and for `double` and `float16`, which are computed as such.
    Float,
    /// `i32`: for whole numbers of any width, and for truth values, which are 0 or 1.
    Int,
}

impl Kind {
    /// How elements of this type are held; `None` for those that are not computed with.
    pub(crate) fn of(element: ElementType) -> Option<Self> {
        use ElementType as E;
        match element {
            E::Float | E::Double | E::Float16 => Some(Self::Float),
            E::Int64 | E::Int32 | E::Int8 | E::Uint8 | E::Bool => Some(Self::Int),
            E::Other => None,
        }
    }
}

/// The numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// Of the kind `Float`.
    Floats(Arc<[f32]>),
    /// Of the kind `Int`.
    Ints(Arc<[i32]>),
}

/// An input or output of a plan: all of an array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    /// The name that the caller knows it by.
    pub(crate) name: String,
    /// Its elements; as many as `dims` has.
    pub(crate) array: ArrayId,
    /// Its shape.
    pub(crate) dims: Vec<usize>,
    /// The type that the file gives it.
    pub(crate) element: ElementType,
    /// An array of one whole number: how many of the outermost dimension are there, where that is known only after a run.
    pub(crate) rows: Option<ArrayId>,
}

#[cfg(test)]
mod tests;
