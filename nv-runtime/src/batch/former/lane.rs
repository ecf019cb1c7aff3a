use std::collections::VecDeque;
use std::time::Duration;

use nv_core::MonoTime;

use super::{BoundPart, EntryKey, LaneSpec};
use crate::batch::standing::Standing;

/// Stride of a lane of weight 1: large, so that the division by a weight loses nothing that would ever show.
const STRIDE: u128 = 1 << 64;

/// A feed's place at the point.
#[derive(Debug)]
pub(super) struct Lane<T> {
    pub(super) spec: LaneSpec,
    pub(super) waiting: VecDeque<Waiting<T>>,
    /// Slots taken, by entries that wait or are being computed.
    pub(super) used: usize,
    /// How much it has been served, over its weight.
    pub(super) pass: u128,
    /// Whether its source runs.
    pub(super) running: bool,
    pub(super) next_due: Option<MonoTime>,
    /// Whether its entries may share batches.
    pub(super) standing: Standing,
    /// Parts that were computed for it.
    pub(super) served: u64,
    /// When the last of them was.
    pub(super) computed_at: Option<MonoTime>,
}

/// A part that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) key: EntryKey,
    pub(super) part: u32,
    pub(super) submitted: MonoTime,
    /// `None`: a claim.
    pub(super) bound: Option<BoundPart<T>>,
}

impl<T> Lane<T> {
    pub(super) fn new(spec: LaneSpec, pass: u128) -> Self {
        Self {
            spec,
            waiting: VecDeque::with_capacity(spec.slots.min(64)),
            used: 0,
            pass,
            running: true,
            next_due: None,
            standing: Standing::default(),
            served: 0,
            computed_at: None,
        }
    }

    /// What a part costs it.
    pub(super) fn stride(&self) -> u128 {
        STRIDE / u128::from(self.spec.weight.max(1))
    }

    /// Whether it has something that may go into a batch with others'.
    pub(super) fn shares(&self) -> bool {
        !self.waiting.is_empty() && !self.standing.is_quarantined()
    }

    /// The batch key of its first part, where that is known.
    pub(super) fn front_key(&self) -> Option<u64> {
        Some(self.waiting.front()?.bound.as_ref()?.batch_key)
    }

    /// When its next entry may go by itself, if it is quarantined and has one waiting. May be past.
    pub(super) fn alone_at(&self, now: MonoTime) -> Option<MonoTime> {
        let next = self.waiting.front().filter(|_| self.standing.is_quarantined())?;
        // What is left of a frame goes as soon as it can.
        let not_before = if next.part > 0 { None } else { self.standing.not_before() };
        Some(not_before.unwrap_or(now))
    }

    /// Until when it is worth waiting for, if it is: its source runs, it has a free slot, and its next frame is due before
    /// the hold ends. One that is overdue by the hold has stalled.
    pub(super) fn expected_until(&self, now: MonoTime, hold_end: MonoTime, hold: Duration) -> Option<MonoTime> {
        let free = self.running && self.waiting.is_empty() && self.used < self.spec.slots;
        let due = self.next_due.filter(|due| free && *due <= hold_end)?;
        Some(due + hold).filter(|until| now < *until)
    }
}
