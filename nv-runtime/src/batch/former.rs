//! What to batch and when to dispatch: a pure state machine. No thread, no channel, no clock; `now` is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

use super::standing::{Standing, StandingChange};

/// Names a lane. A lane that was detached leaves a key that fits no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LaneKey {
    index: u32,
    generation: u32,
}

impl LaneKey {
    /// The lane's place: small, and used again once the lane is gone.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// Names an entry, from submission until its slot is freed. Afterwards it fits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct EntryKey {
    index: u32,
    generation: u32,
}

/// The part of the config that decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormerConfig {
    pub(crate) max_batch: usize,
    pub(crate) max_latency: Duration,
    pub(crate) max_age: Duration,
    pub(crate) max_pending: usize,
}

/// Who a lane belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneSpec {
    /// Whether entries grow too old to be computed, and lanes are waited for by their cadence.
    pub(crate) live: bool,
    /// Frames that it may have here at a time.
    pub(crate) slots: usize,
    /// Its share beside other lanes.
    pub(crate) weight: u32,
}

/// Why a submission was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The lane has no free slot.
    NoSlot,
    /// The point holds `max_pending` entries, and the lane has something here already: its end is what to wait for.
    Full,
    /// The lane is gone.
    NoLane,
    /// The point is down.
    Down,
}

/// What an idle instance should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Take a batch now.
    Dispatch,
    /// Look again at this time, or when something was submitted.
    WaitUntil(MonoTime),
    /// Nothing waits. Look again when something was submitted.
    Idle,
}

/// An entry that leaves the former, to be computed.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) key: EntryKey,
    pub(crate) payload: T,
    /// From submission to now.
    pub(crate) wait: Duration,
}

/// Stride of a lane of weight 1: large, so that the division by the weight loses little.
const STRIDE: u64 = 1 << 20;

/// Forms batches from lanes.
///
/// Invariant: whenever something waits that could be dispatched, [`decide`](Self::decide) says `Dispatch` or names a time.
/// A slot is taken by [`submit`](Self::submit) or [`claim`](Self::claim) and freed exactly once: by
/// [`release`](Self::release), [`abandon`](Self::abandon), [`detach`](Self::detach), or by [`take`](Self::take) for a
/// claim without a frame and for an expired entry.
#[derive(Debug)]
pub(crate) struct Former<T> {
    config: FormerConfig,
    lanes: Vec<LaneSlot<T>>,
    entries: Vec<EntrySlot>,
    free_entries: Vec<u32>,
    /// Entries and claims that wait, over all lanes.
    pending: usize,
    /// Entries that were taken and not released.
    dispatched: usize,
    /// The pass of the lane that was served last; lanes that wake up start from here.
    pass: u64,
}

#[derive(Debug)]
struct LaneSlot<T> {
    generation: u32,
    lane: Option<Lane<T>>,
}

#[derive(Debug)]
struct Lane<T> {
    spec: LaneSpec,
    waiting: VecDeque<Waiting<T>>,
    /// Slots taken: waiting and dispatched.
    used: usize,
    pass: u64,
    /// Whether its source runs.
    running: bool,
    next_due: Option<MonoTime>,
    /// Whether its entries may share batches.
    standing: Standing,
}

#[derive(Debug)]
struct Waiting<T> {
    key: EntryKey,
    submitted: MonoTime,
    /// `None`: a claim.
    bound: Option<BoundEntry<T>>,
}

#[derive(Debug)]
struct BoundEntry<T> {
    payload: T,
    received: MonoTime,
}

#[derive(Clone, Copy, Debug)]
struct EntrySlot {
    generation: u32,
    /// `None`: free.
    lane: Option<LaneKey>,
    dispatched: Option<MonoTime>,
}

impl<T> Former<T> {
    pub(crate) fn new(config: FormerConfig) -> Self {
        Self {
            config,
            lanes: Vec::new(),
            entries: Vec::new(),
            free_entries: Vec::new(),
            pending: 0,
            dispatched: 0,
            pass: 0,
        }
    }

    /// The most entries in a batch.
    pub(crate) fn max_batch(&self) -> usize {
        self.config.max_batch
    }

    /// Lowers the most entries in a batch to what the processor takes.
    pub(crate) fn limit_batch(&mut self, most: usize) {
        self.config.max_batch = self.config.max_batch.min(most.max(1));
    }

    /// Adds a lane.
    pub(crate) fn attach(&mut self, spec: LaneSpec) -> LaneKey {
        let lane = Lane {
            spec,
            waiting: VecDeque::with_capacity(spec.slots),
            used: 0,
            pass: self.pass,
            running: true,
            next_due: None,
            standing: Standing::default(),
        };
        let index = self.lanes.iter().position(|slot| slot.lane.is_none()).unwrap_or_else(|| {
            self.lanes.push(LaneSlot { generation: 0, lane: None });
            self.lanes.len() - 1
        });
        self.lanes[index].lane = Some(lane);
        LaneKey { index: index as u32, generation: self.lanes[index].generation }
    }

    /// Removes a lane. What waits in it goes to `dropped`; what is being computed finds its key void when it comes back.
    pub(crate) fn detach(&mut self, key: LaneKey, mut dropped: impl FnMut(T)) {
        let Some(lane) = self.lane_mut(key) else { return };
        let waiting = std::mem::take(&mut lane.waiting);
        for w in waiting {
            self.free_entry(w.key);
            self.pending -= 1;
            w.bound.map(|b| b.payload).map(&mut dropped);
        }
        for index in 0..self.entries.len() {
            if self.entries[index].lane == Some(key) {
                self.dispatched -= 1;
                self.free_entry(EntryKey { index: index as u32, generation: self.entries[index].generation });
            }
        }
        let slot = &mut self.lanes[key.index as usize];
        slot.lane = None;
        slot.generation = slot.generation.wrapping_add(1);
    }

    /// Changes how many slots a lane has. Slots in use beyond it are freed as usual.
    pub(crate) fn set_slots(&mut self, key: LaneKey, slots: usize) {
        if let Some(lane) = self.lane_mut(key) {
            lane.spec.slots = slots;
        }
    }

    /// Notes when the lane's next frame is due, and whether its source runs at all.
    pub(crate) fn set_cadence(&mut self, key: LaneKey, running: bool, next_due: Option<MonoTime>) {
        if let Some(lane) = self.lane_mut(key) {
            lane.running = running;
            lane.next_due = next_due;
        }
    }

    /// Submits an entry whose frame was received at `received`.
    ///
    /// # Errors
    /// It was not taken; `payload` comes back with the reason.
    pub(crate) fn submit(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        received: MonoTime,
        payload: T,
    ) -> Result<EntryKey, (Refusal, T)> {
        match self.admit(key) {
            Ok(entry) => {
                let waiting = Waiting { key: entry, submitted: now, bound: Some(BoundEntry { payload, received }) };
                self.push(key, waiting);
                Ok(entry)
            }
            Err(refusal) => Err((refusal, payload)),
        }
    }

    /// Submits a claim: a frame is bound to it at dispatch.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn claim(&mut self, now: MonoTime, key: LaneKey) -> Result<EntryKey, Refusal> {
        let entry = self.admit(key)?;
        self.push(key, Waiting { key: entry, submitted: now, bound: None });
        Ok(entry)
    }

    /// What an instance that is idle at `now` should do.
    pub(crate) fn decide(&self, now: MonoTime) -> Decision {
        if self.pending == 0 {
            return Decision::Idle;
        }
        // When an entry of a quarantined lane may go, by itself.
        let alone = self.lanes().filter_map(|l| l.alone_at(now)).min();
        if alone.is_some_and(|at| at <= now) {
            return Decision::Dispatch;
        }
        let sharing = || self.lanes().filter(|l| !l.standing.is_quarantined());
        let ready: usize = sharing().map(|l| l.waiting.len()).sum();
        let oldest = sharing().filter_map(|l| l.waiting.front()).map(|w| w.submitted).min();
        let Some(oldest) = oldest else { return alone.map_or(Decision::Idle, Decision::WaitUntil) };
        let hold_end = oldest + self.config.max_latency;
        if ready >= self.config.max_batch
            || hold_end <= now
            || !sharing().any(|lane| lane.is_expected(now, hold_end, self.config.max_latency))
        {
            return Decision::Dispatch;
        }
        Decision::WaitUntil(alone.map_or(hold_end, |at| at.min(hold_end)))
    }

    /// Takes a batch of at most `max_batch` entries, by weighted round robin over the lanes. An entry of a quarantined lane
    /// makes a batch of its own.
    ///
    /// `bind` finds the frame for a claim and says when it was received, or nothing, in which case the claim is gone. An
    /// entry of a live lane that is older than `max_age` goes to `expired` instead.
    pub(crate) fn take(
        &mut self,
        now: MonoTime,
        batch: &mut Vec<Taken<T>>,
        mut bind: impl FnMut(LaneKey, EntryKey) -> Option<(T, MonoTime)>,
        mut expired: impl FnMut(EntryKey, T),
    ) {
        while batch.len() < self.config.max_batch {
            let alone = if batch.is_empty() { self.next_alone(now) } else { None };
            let Some(index) = alone.or_else(|| self.next_lane()) else { break };
            let slot = &mut self.lanes[index];
            let lane_key = LaneKey { index: index as u32, generation: slot.generation };
            let Some(lane) = &mut slot.lane else { break };
            let Some(waiting) = lane.waiting.pop_front() else { break };
            let live = lane.spec.live;
            lane.standing.dispatched(now);
            self.pending -= 1;
            let wait = now.since(waiting.submitted);
            let bound = waiting.bound.map(|b| (b.payload, b.received)).or_else(|| bind(lane_key, waiting.key));
            let Some((payload, received)) = bound else {
                self.free_entry(waiting.key);
                continue;
            };
            if live && now.since(received) > self.config.max_age {
                self.free_entry(waiting.key);
                expired(waiting.key, payload);
                continue;
            }
            self.charge(index);
            self.entries[waiting.key.index as usize].dispatched = Some(now);
            self.dispatched += 1;
            batch.push(Taken { key: waiting.key, payload, wait });
            if alone.is_some() {
                break;
            }
        }
    }

    /// Takes in what became of an entry that is being computed: it succeeded, or failed by itself and not along with its
    /// batch. Call before its slot is freed.
    pub(crate) fn judge(&mut self, key: EntryKey, failed: bool) -> Option<(LaneKey, StandingChange)> {
        let lane_key = self.entry(key)?.lane?;
        let change = self.lane_mut(lane_key)?.standing.record(failed);
        Some((lane_key, change))
    }

    /// Frees the slot of an entry that was computed. False if that has happened before: its result is to be discarded.
    pub(crate) fn release(&mut self, key: EntryKey) -> bool {
        if self.entry(key).is_none_or(|e| e.dispatched.is_none()) {
            return false;
        }
        self.dispatched -= 1;
        self.free_entry(key);
        true
    }

    /// Gives an entry up, wherever it is: frees its slot, so that its result is discarded or it is never computed.
    /// Returns the payload if it was still waiting.
    pub(crate) fn abandon(&mut self, key: EntryKey) -> Option<T> {
        let entry = *self.entry(key)?;
        if entry.dispatched.is_some() {
            self.dispatched -= 1;
            self.free_entry(key);
            return None;
        }
        let lane = self.lane_mut(entry.lane?)?;
        let at = lane.waiting.iter().position(|w| w.key == key)?;
        let waiting = lane.waiting.remove(at)?;
        self.pending -= 1;
        self.free_entry(key);
        waiting.bound.map(|b| b.payload)
    }

    /// Takes out everything that waits. Returns the lanes that lost claims by it, and how many.
    pub(crate) fn drain(&mut self, mut dropped: impl FnMut(EntryKey, T)) -> Vec<(LaneKey, usize)> {
        let mut claims = Vec::new();
        for index in 0..self.lanes.len() {
            let generation = self.lanes[index].generation;
            let Some(lane) = &mut self.lanes[index].lane else { continue };
            let mut lost = 0;
            for waiting in std::mem::take(&mut lane.waiting) {
                self.pending -= 1;
                self.free_entry(waiting.key);
                match waiting.bound {
                    Some(bound) => dropped(waiting.key, bound.payload),
                    None => lost += 1,
                }
            }
            if lost > 0 {
                claims.push((LaneKey { index: index as u32, generation }, lost));
            }
        }
        claims
    }

    /// When an entry was dispatched; `None` if it waits or is gone.
    pub(crate) fn dispatched_at(&self, key: EntryKey) -> Option<MonoTime> {
        self.entry(key)?.dispatched
    }

    /// Entries and claims that wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Entries that are being computed.
    pub(crate) fn in_dispatch(&self) -> usize {
        self.dispatched
    }

    // --- Inside.

    fn lanes(&self) -> impl Iterator<Item = &Lane<T>> {
        self.lanes.iter().filter_map(|slot| slot.lane.as_ref())
    }

    fn lane_mut(&mut self, key: LaneKey) -> Option<&mut Lane<T>> {
        let slot = self.lanes.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.lane.as_mut() } else { None }
    }

    fn entry(&self, key: EntryKey) -> Option<&EntrySlot> {
        let slot = self.entries.get(key.index as usize)?;
        (slot.generation == key.generation && slot.lane.is_some()).then_some(slot)
    }

    fn admit(&mut self, key: LaneKey) -> Result<EntryKey, Refusal> {
        let (pass, full) = (self.pass, self.pending >= self.config.max_pending);
        let lane = self.lane_mut(key).ok_or(Refusal::NoLane)?;
        if lane.used >= lane.spec.slots {
            return Err(Refusal::NoSlot);
        }
        // A lane may always have one: then nobody is refused without something to wait for.
        if full && lane.used > 0 {
            return Err(Refusal::Full);
        }
        if lane.waiting.is_empty() {
            // A lane that had nothing to do gains no claim on the past by it.
            lane.pass = lane.pass.max(pass);
        }
        lane.used += 1;
        let index = self.free_entries.pop().unwrap_or_else(|| {
            self.entries.push(EntrySlot { generation: 0, lane: None, dispatched: None });
            (self.entries.len() - 1) as u32
        });
        let slot = &mut self.entries[index as usize];
        slot.lane = Some(key);
        Ok(EntryKey { index, generation: slot.generation })
    }

    fn push(&mut self, key: LaneKey, waiting: Waiting<T>) {
        if let Some(lane) = self.lane_mut(key) {
            lane.waiting.push_back(waiting);
            self.pending += 1;
        }
    }

    fn free_entry(&mut self, key: EntryKey) {
        let slot = &mut self.entries[key.index as usize];
        debug_assert_eq!(slot.generation, key.generation, "an entry's slot is freed once");
        slot.generation = slot.generation.wrapping_add(1);
        slot.dispatched = None;
        let lane = slot.lane.take();
        self.free_entries.push(key.index);
        if let Some(lane) = lane.and_then(|lane| self.lane_mut(lane)) {
            lane.used -= 1;
        }
    }

    /// The quarantined lane whose turn it is by now; the one that has waited longest.
    fn next_alone(&self, now: MonoTime) -> Option<usize> {
        let due = |slot: &LaneSlot<T>| slot.lane.as_ref()?.alone_at(now).filter(|at| *at <= now);
        self.lanes.iter().enumerate().filter_map(|(i, slot)| Some((due(slot)?, i))).min().map(|(_, i)| i)
    }

    /// The lane with something waiting that is furthest behind its share; the first of equals.
    fn next_lane(&self) -> Option<usize> {
        let shares = |l: &&Lane<T>| !l.waiting.is_empty() && !l.standing.is_quarantined();
        let waiting = |slot: &LaneSlot<T>| slot.lane.as_ref().filter(shares).map(|l| l.pass);
        self.lanes.iter().enumerate().filter_map(|(i, slot)| Some((waiting(slot)?, i))).min().map(|(_, i)| i)
    }

    fn charge(&mut self, index: usize) {
        if let Some(lane) = &mut self.lanes[index].lane {
            self.pass = self.pass.max(lane.pass);
            lane.pass += STRIDE / u64::from(lane.spec.weight.max(1));
        }
    }
}

impl<T> Lane<T> {
    /// When its next entry may go by itself, if it is quarantined and has one waiting. May be past.
    fn alone_at(&self, now: MonoTime) -> Option<MonoTime> {
        let waits = self.standing.is_quarantined() && !self.waiting.is_empty();
        waits.then(|| self.standing.not_before().unwrap_or(now))
    }

    /// Whether it is worth waiting for: its source runs, it has a free slot, and its next frame is due before the hold
    /// ends. One that is overdue by more than the hold has stalled.
    fn is_expected(&self, now: MonoTime, hold_end: MonoTime, hold: Duration) -> bool {
        self.running
            && self.waiting.is_empty()
            && self.used < self.spec.slots
            && self.next_due.is_some_and(|due| due <= hold_end && now <= due + hold)
    }
}

#[cfg(test)]
mod tests;
