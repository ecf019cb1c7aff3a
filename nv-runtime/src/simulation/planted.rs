//! Faults that are planted on purpose, to see that the checks find them.

/// A fault in the glue between the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// Now and then nobody is woken for what was submitted.
    ForgetWakeUp,
    /// Now and then a slot is not freed.
    LeakSlot,
    /// Slots are freed after their results were sent.
    FreeLate,
    /// Now and then a result gets lost on its way.
    LoseResult,
    /// Every lane has the same weight.
    IgnoreWeights,
    /// Now and then an output waits for the one after it.
    Reorder,
    /// Now and then an output leaves twice.
    EmitTwice,
    /// Now and then a frame that failed is not booked.
    ForgetFrame,
}

impl Planted {
    pub(super) const ALL: [Self; 8] = [
        Self::ForgetWakeUp,
        Self::LeakSlot,
        Self::FreeLate,
        Self::LoseResult,
        Self::IgnoreWeights,
        Self::Reorder,
        Self::EmitTwice,
        Self::ForgetFrame,
    ];
}
