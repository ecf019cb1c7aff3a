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
    ForgetEnd,
    /// Now and then an executor is not woken for a frame.
    ForgetFrame,
    /// Every lane waits for a while longer than it may.
    HoldLong,
    /// Now and then something panics.
    Panic,
}

impl Planted {
    pub(super) const ALL: [Self; 11] = [
        Self::ForgetWakeUp,
        Self::LeakSlot,
        Self::FreeLate,
        Self::LoseResult,
        Self::IgnoreWeights,
        Self::Reorder,
        Self::EmitTwice,
        Self::ForgetEnd,
        Self::ForgetFrame,
        Self::HoldLong,
        Self::Panic,
    ];

    /// What is said of it by the check that is there to find it.
    pub(super) fn is_found_by(self, what: &str) -> bool {
        let checks: &[&str] = match self {
            Self::ForgetWakeUp => &["nobody looks before", "an instance is idle"],
            Self::LeakSlot => &["is seen before its slot is free", "by its own count"],
            Self::FreeLate => &["is seen before its slot is free", "by its own count"],
            Self::LoseResult => &["and has no answer"],
            Self::IgnoreWeights => &["parts apart by weight", "parts behind its share"],
            Self::Reorder => &["leaves after"],
            Self::EmitTwice => &["has ended before"],
            Self::ForgetEnd => &["are inside by the ledger"],
            Self::ForgetFrame => &["there is room for one, and nobody is woken"],
            Self::HoldLong => &["an instance is idle"],
            Self::Panic => &["a planted panic"],
        };
        checks.iter().any(|check| what.contains(check))
    }
}
