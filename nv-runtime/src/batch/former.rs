//! What to batch and when to dispatch: a pure state machine. No thread, no channel, no clock; `now` is passed in.

mod entries;
mod lane;
mod values;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use nv_core::MonoTime;

use self::entries::EntryTable;
use self::lane::{Lane, Waiting};
pub(crate) use self::values::{
    BoundPart, Decision, EntryKey, EntryState, FormerConfig, LaneKey, LaneSpec, Refusal, Released, Taken,
};
use super::core::Verdict;
use super::standing::StandingChange;

/// Forms batches from lanes.
///
/// An entry is a frame, whole or in parts (regions), under one slot. Parts are what batches are made of and what lanes are
/// charged for.
///
/// Invariant: whenever something waits that could be dispatched, [`decide`](Self::decide) says `Dispatch` or names a time.
/// A slot is taken by [`submit`](Self::submit) or [`claim`](Self::claim) and freed exactly once: by
/// [`release`](Self::release) of the entry's last part, by [`abandon`](Self::abandon) or [`detach`](Self::detach), or by
/// [`take`](Self::take) where a claim finds no frame or the last part has expired.
///
/// # Fairness
///
/// Stride scheduling (Waldspurger and Weihl 1995), part by part: next is the lane that has been served least for its weight.
/// Of `n` lanes that weigh `W` together, one of weight `w` that never ran empty over an interval between batches gets, in
/// that interval, at least `w / W` of all parts that are computed, less `1 + (n − 1) · w / W`; nor, if no other lane ran
/// empty either, more than that share plus as many. For: a lane is charged `1 / w` for a part and served only when none is
/// behind it, so at any time no lane is ahead of the one furthest behind by more than its own `1 / w`; and a lane that
/// wakes up starts no further back than the one furthest behind.
///
/// With batch keys a batch is headed by the lane furthest behind, and filled by lanes of its key, in turn, as long as they
/// are not ahead of those that don't fit by more than a full batch of `B` parts of their own. So a lane may be ahead by
/// `(B + 1) / w`, and the bound is `B + 1` times as wide.
#[derive(Debug)]
pub(crate) struct Former<T> {
    config: FormerConfig,
    lanes: Vec<LaneSlot<T>>,
    entries: EntryTable,
    /// Parts and claims that wait, over all lanes.
    pending: usize,
    /// Parts that were taken and not released.
    dispatched: usize,
    /// How far the lanes have come that are furthest behind; lanes that wake up start from here.
    pass: u128,
    /// Lanes that are quarantined.
    quarantined: usize,
    /// How many of the next batches are to be of one part.
    singles: usize,
    /// Whether any part has had a batch key other than 0.
    keyed: bool,
    /// The lanes that have something for a batch, while one is taken; kept for its memory.
    order: Vec<Reverse<(u128, u32)>>,
}

#[derive(Debug)]
struct LaneSlot<T> {
    generation: u32,
    lane: Option<Lane<T>>,
}

/// What became of the part at the front of a lane.
enum Served<T> {
    Taken(Taken<T>, u64),
    /// A claim without a frame, or too old.
    Gone,
    /// It does not go with the batch; it is still there.
    Misfit,
}

impl<T> Former<T> {
    pub(crate) fn new(config: FormerConfig) -> Self {
        Self {
            config,
            lanes: Vec::new(),
            entries: EntryTable::default(),
            pending: 0,
            dispatched: 0,
            pass: 0,
            quarantined: 0,
            singles: 0,
            keyed: false,
            order: Vec::new(),
        }
    }

    /// The most parts in a batch.
    pub(crate) fn max_batch(&self) -> usize {
        self.config.max_batch
    }

    /// Lowers the most parts in a batch to what the processor takes.
    pub(crate) fn limit_batch(&mut self, most: usize) {
        self.config.max_batch = self.config.max_batch.min(most.max(1));
    }

    /// Has at least the next `count` batches be of one part: something that waits may spoil the batch that it is in.
    pub(crate) fn single_out(&mut self, count: usize) {
        self.singles = self.singles.max(count);
    }

    /// Adds a lane.
    pub(crate) fn attach(&mut self, spec: LaneSpec) -> LaneKey {
        let lane = Lane::new(spec, self.pass);
        let index = self.lanes.iter().position(|slot| slot.lane.is_none()).unwrap_or_else(|| {
            self.lanes.push(LaneSlot { generation: 0, lane: None });
            self.lanes.len() - 1
        });
        self.lanes[index].lane = Some(lane);
        self.order.reserve(self.lanes.len());
        LaneKey { index: index as u32, generation: self.lanes[index].generation }
    }

    /// Removes a lane. What waits in it goes to `dropped`; what is being computed finds its key void when it comes back.
    /// Returns how many frames were given up by it; a claim is none yet.
    pub(crate) fn detach(&mut self, key: LaneKey, dropped: impl FnMut(T)) -> usize {
        let Some(slot) = self.lanes.get_mut(key.index()).filter(|slot| slot.generation == key.generation) else {
            return 0;
        };
        let Some(lane) = slot.lane.take() else { return 0 };
        slot.generation = slot.generation.wrapping_add(1);
        self.quarantined -= usize::from(lane.standing.is_quarantined());
        self.pending -= lane.waiting.len();
        self.dispatched -= self.entries.remove_lane(key);
        let claims = lane.waiting.iter().filter(|w| w.bound.is_none()).count();
        lane.waiting.into_iter().filter_map(|w| w.bound).map(|b| b.payload).for_each(dropped);
        lane.used - claims
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

    /// Notes that a part of a lane's was computed.
    pub(crate) fn note_computed(&mut self, key: LaneKey, now: MonoTime) {
        if let Some(lane) = self.lane_mut(key) {
            lane.computed_at = Some(now);
        }
    }

    /// Whether the lane has something here, or something of its was computed at `since` or later.
    pub(crate) fn is_active(&self, key: LaneKey, since: MonoTime) -> bool {
        self.lane(key).is_some_and(|lane| lane.used > 0 || lane.computed_at.is_some_and(|at| at >= since))
    }

    /// The lane of an entry that is here.
    pub(crate) fn lane_of(&self, key: EntryKey) -> Option<LaneKey> {
        self.entries.get(key).map(|entry| entry.lane)
    }

    /// Submits an entry whose frame was received at `received`, of one part or more; takes `parts` only if it is taken.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn submit(
        &mut self,
        now: MonoTime,
        key: LaneKey,
        (received, batch_key): (MonoTime, u64),
        parts: &mut impl ExactSizeIterator<Item = T>,
    ) -> Result<EntryKey, Refusal> {
        debug_assert!(parts.len() > 0, "an entry has at least one part");
        let entry = self.admit(key, parts.len())?;
        self.keyed |= batch_key != 0;
        for (part, payload) in parts.enumerate() {
            let bound = Some(BoundPart { payload, received, batch_key });
            self.push(key, Waiting { key: entry, part: part as u32, submitted: now, bound });
        }
        Ok(entry)
    }

    /// Submits a claim: a frame is bound to it at dispatch.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn claim(&mut self, now: MonoTime, key: LaneKey) -> Result<EntryKey, Refusal> {
        let entry = self.admit(key, 1)?;
        self.push(key, Waiting { key: entry, part: 0, submitted: now, bound: None });
        Ok(entry)
    }

    /// What an instance that is idle at `now` should do.
    pub(crate) fn decide(&self, now: MonoTime) -> Decision {
        if self.pending == 0 {
            return Decision::Idle;
        }
        // The busy case, without a look at the lanes.
        if self.pending >= self.full_batch() && self.quarantined == 0 && !self.keyed {
            return Decision::Dispatch;
        }
        // When an entry of a quarantined lane may go, by itself.
        let alone = if self.quarantined == 0 { None } else { self.lanes().filter_map(|l| l.alone_at(now)).min() };
        if alone.is_some_and(|at| at <= now) {
            return Decision::Dispatch;
        }
        let sharing = || self.lanes().filter(|l| !l.standing.is_quarantined());
        let oldest = sharing().filter_map(|l| l.waiting.front()).map(|w| w.submitted).min();
        let Some(oldest) = oldest else { return alone.map_or(Decision::Idle, Decision::WaitUntil) };
        let hold_end = oldest + self.config.max_latency;
        if hold_end <= now || self.fills_a_batch() {
            return Decision::Dispatch;
        }
        // When nobody is worth waiting for any more, should none of them come.
        let expected = sharing().filter_map(|l| l.expected_until(now, hold_end, self.config.max_latency)).max();
        let Some(stalled) = expected else { return Decision::Dispatch };
        let until = hold_end.min(stalled);
        Decision::WaitUntil(alone.map_or(until, |at| at.min(until)))
    }

    /// Takes a batch of at most `max_batch` parts of one key, by stride scheduling over the lanes. An entry of a quarantined
    /// lane makes a batch of its own.
    ///
    /// `bind` finds the frame for a claim, or nothing, in which case the claim is gone; one that does not go with the batch
    /// stays where it is, bound. A part of a live lane that is older than `max_age` goes to `expired` instead, unless another
    /// part of its frame has been dispatched.
    pub(crate) fn take(
        &mut self,
        now: MonoTime,
        batch: &mut Vec<Taken<T>>,
        mut bind: impl FnMut(LaneKey, EntryKey) -> Option<BoundPart<T>>,
        mut expired: impl FnMut(EntryKey, u32, T),
    ) {
        let full = self.full_batch();
        while let Some(index) = self.next_alone(now) {
            if let Served::Taken(first, _) = self.serve(index, now, None, &mut bind, &mut expired) {
                let entry = first.key;
                batch.push(first);
                // The rest of the frame, as far as it goes.
                while batch.len() < full
                    && self.lanes[index]
                        .lane
                        .as_ref()
                        .is_some_and(|l| l.waiting.front().is_some_and(|w| w.key == entry))
                    && let Served::Taken(part, _) = self.serve(index, now, None, &mut bind, &mut expired)
                {
                    batch.push(part);
                }
                return;
            }
        }
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let waiting = |(i, slot): (usize, &LaneSlot<T>)| {
            slot.lane.as_ref().filter(|l| l.shares()).map(|l| Reverse((l.pass, i as u32)))
        };
        order.extend(self.lanes.iter().enumerate().filter_map(waiting));
        // The lane that is furthest behind its share first; of equals the one that was attached first.
        let mut order = BinaryHeap::from(order);
        let mut batch_key = None;
        // How far the lanes have come that had to be passed over for their key.
        let mut passed_over = u128::MAX;
        while batch.len() < full
            && let Some(Reverse((pass, index))) = order.pop()
        {
            if self.is_far_ahead(index as usize, pass, passed_over) {
                continue;
            }
            match self.serve(index as usize, now, batch_key, &mut bind, &mut expired) {
                Served::Taken(taken, key) => {
                    batch.push(taken);
                    batch_key = Some(key);
                    self.pass = self.pass.max(pass.min(passed_over));
                }
                Served::Gone => {}
                Served::Misfit => {
                    passed_over = passed_over.min(pass);
                    continue;
                }
            }
            if let Some(lane) = self.lanes[index as usize].lane.as_ref().filter(|l| l.shares()) {
                order.push(Reverse((lane.pass, index)));
            }
        }
        self.order = order.into_vec();
        self.singles = self.singles.saturating_sub(batch.len());
    }

    /// Ends a part that was being computed; with the entry's last one its slot is free, and its lane is judged by it.
    pub(crate) fn release(&mut self, key: EntryKey, verdict: Verdict) -> Released {
        let Some(entry) = self.entries.get_mut(key).filter(|e| e.computing > 0) else { return Released::default() };
        entry.computing -= 1;
        entry.computed |= verdict == Verdict::Computed;
        entry.guilty |= verdict == Verdict::Guilty;
        let entry = *entry;
        self.dispatched -= 1;
        if let Some(lane) = self.lane_mut(entry.lane) {
            lane.served += u64::from(verdict == Verdict::Computed);
        }
        if !entry.is_done() {
            return Released { wanted: true, standing: None };
        }
        self.free(key);
        // What failed along with its batch says nothing of its feed.
        let change =
            if entry.computed || entry.guilty { self.judge(entry.lane, !entry.computed) } else { StandingChange::None };
        Released { wanted: true, standing: (change != StandingChange::None).then_some((entry.lane, change)) }
    }

    /// Takes in what became of an entry of a lane: some of it was computed, or it failed by itself.
    fn judge(&mut self, key: LaneKey, failed: bool) -> StandingChange {
        let pass = self.pass;
        let Some(lane) = self.lane_mut(key) else { return StandingChange::None };
        let change = lane.standing.record(failed);
        match change {
            StandingChange::None => {}
            StandingChange::Quarantined => self.quarantined += 1,
            StandingChange::Released => {
                // What it missed is no claim on the others.
                lane.pass = lane.pass.max(pass);
                self.quarantined -= 1;
            }
        }
        change
    }

    /// Forgets what is held against lanes; returns those that were quarantined.
    pub(crate) fn forgive(&mut self) -> Vec<LaneKey> {
        let pass = self.pass;
        let mut released = Vec::new();
        for (index, slot) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = &mut slot.lane else { continue };
            if std::mem::take(&mut lane.standing).is_quarantined() {
                lane.pass = lane.pass.max(pass);
                released.push(LaneKey { index: index as u32, generation: slot.generation });
            }
        }
        self.quarantined = 0;
        released
    }

    /// Gives an entry up, wherever its parts are: frees its slot, so that their results are discarded or they are never
    /// computed. Those that were still waiting go to `dropped`. False if it was here no more.
    pub(crate) fn abandon(&mut self, key: EntryKey, dropped: impl FnMut(T)) -> bool {
        let Some(entry) = self.entries.get(key).copied() else { return false };
        self.dispatched -= entry.computing as usize;
        self.pending -= entry.waiting as usize;
        if let Some(lane) = self.lane_mut(entry.lane)
            && let Some(at) = lane.waiting.iter().position(|w| w.key == key)
        {
            // An entry's parts lie side by side.
            let parts = lane.waiting.drain(at..at + entry.waiting as usize);
            parts.filter_map(|w| w.bound).map(|b| b.payload).for_each(dropped);
        }
        self.free(key);
        true
    }

    /// Takes out everything that waits. Returns the lanes that lost claims by it, and how many.
    pub(crate) fn drain(&mut self, mut dropped: impl FnMut(EntryKey, u32, T)) -> Vec<(LaneKey, usize)> {
        let mut claims = Vec::new();
        for index in 0..self.lanes.len() {
            let generation = self.lanes[index].generation;
            let Some(lane) = &mut self.lanes[index].lane else { continue };
            let mut lost = 0;
            for waiting in std::mem::take(&mut lane.waiting) {
                self.pending -= 1;
                self.end_waiting(waiting.key);
                match waiting.bound {
                    Some(bound) => dropped(waiting.key, waiting.part, bound.payload),
                    None => lost += 1,
                }
            }
            if lost > 0 {
                claims.push((LaneKey { index: index as u32, generation }, lost));
            }
        }
        claims
    }

    /// What becomes of an entry. One of a live lane that waits is too old once it would not be computed any more, should its
    /// turn ever come; what was begun, if it gets no further for `answer_limit` beyond that.
    pub(crate) fn state_of(&self, now: MonoTime, key: EntryKey, answer_limit: Duration) -> EntryState {
        let Some(entry) = self.entries.get(key) else { return EntryState::Gone };
        if let Some(at) = entry.dispatched.filter(|_| entry.computing > 0) {
            return EntryState::Dispatched(at);
        }
        let Some(lane) = self.lane(entry.lane).filter(|lane| lane.spec.live) else { return EntryState::Waiting };
        let max_age = self.config.max_age;
        let too_old = match entry.dispatched {
            Some(begun) => now.since(begun) > max_age + answer_limit,
            None => {
                let waiting = lane.waiting.iter().find(|w| w.key == key);
                let received = waiting.and_then(|w| w.bound.as_ref()).map(|bound| bound.received);
                received.is_some_and(|received| now.since(received) > max_age)
            }
        };
        if too_old { EntryState::TooOld } else { EntryState::Waiting }
    }

    /// Parts and claims that wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Parts that are being computed.
    pub(crate) fn in_dispatch(&self) -> usize {
        self.dispatched
    }

    /// How many slots a lane has; 0 if it has gone.
    pub(crate) fn slots(&self, key: LaneKey) -> usize {
        self.lane(key).map_or(0, |l| l.spec.slots)
    }

    /// Slots that a lane has in use.
    #[cfg(test)]
    pub(crate) fn used(&self, key: LaneKey) -> usize {
        self.lane(key).map_or(0, |l| l.used)
    }

    /// Parts that were computed for a lane.
    pub(crate) fn served(&self, key: LaneKey) -> u64 {
        self.lane(key).map_or(0, |l| l.served)
    }

    /// A lane's weight; 0 if it has gone.
    pub(crate) fn weight(&self, key: LaneKey) -> u32 {
        self.lane(key).map_or(0, |l| l.spec.weight)
    }

    // --- Inside.

    fn lanes(&self) -> impl Iterator<Item = &Lane<T>> {
        self.lanes.iter().filter_map(|slot| slot.lane.as_ref())
    }

    fn lane(&self, key: LaneKey) -> Option<&Lane<T>> {
        let slot = self.lanes.get(key.index())?;
        if slot.generation == key.generation { slot.lane.as_ref() } else { None }
    }

    fn lane_mut(&mut self, key: LaneKey) -> Option<&mut Lane<T>> {
        let slot = self.lanes.get_mut(key.index())?;
        if slot.generation == key.generation { slot.lane.as_mut() } else { None }
    }

    fn admit(&mut self, key: LaneKey, parts: usize) -> Result<EntryKey, Refusal> {
        let (pass, full) = (self.pass, self.pending + parts > self.config.max_pending);
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
        Ok(self.entries.insert(key, parts as u32))
    }

    fn push(&mut self, key: LaneKey, waiting: Waiting<T>) {
        if let Some(lane) = self.lane_mut(key) {
            lane.waiting.push_back(waiting);
            self.pending += 1;
        }
    }

    /// Ends a part that waited; with the entry's last one its slot is free.
    fn end_waiting(&mut self, key: EntryKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.waiting -= 1;
        if entry.is_done() {
            self.free(key);
        }
    }

    fn free(&mut self, key: EntryKey) {
        let removed = self.entries.remove(key);
        debug_assert!(removed.is_some(), "an entry's slot is freed once");
        if let Some(lane) = removed.and_then(|entry| self.lane_mut(entry.lane)) {
            lane.used -= 1;
        }
    }

    /// The most parts in the next batch.
    fn full_batch(&self) -> usize {
        if self.singles > 0 { 1 } else { self.config.max_batch }
    }

    /// The quarantined lane whose turn it is by now; the one that has waited longest.
    fn next_alone(&self, now: MonoTime) -> Option<usize> {
        if self.quarantined == 0 {
            return None;
        }
        let due = |slot: &LaneSlot<T>| slot.lane.as_ref()?.alone_at(now).filter(|at| *at <= now);
        self.lanes.iter().enumerate().filter_map(|(i, slot)| Some((due(slot)?, i))).min().map(|(_, i)| i)
    }

    /// Whether there is enough for a full batch that the lane that is furthest behind would head.
    fn fills_a_batch(&self) -> bool {
        if self.pending < self.full_batch() {
            return false;
        }
        let sharing = || self.lanes().filter(|l| l.shares());
        let head = sharing().min_by_key(|l| l.pass).and_then(Lane::front_key);
        // A claim's key is not known yet; it may go with any. A feed's frames are mostly alike.
        let fits = |l: &&Lane<T>| head.is_none_or(|head| l.front_key().is_none_or(|key| key == head));
        sharing().filter(fits).map(|l| l.waiting.len()).sum::<usize>() >= self.full_batch()
    }

    /// Whether a lane is ahead of those that were `passed_over` by more than a batch: it is not to get further at their cost.
    fn is_far_ahead(&self, index: usize, pass: u128, passed_over: u128) -> bool {
        let stride = self.lanes[index].lane.as_ref().map_or(0, Lane::stride);
        pass > passed_over.saturating_add(stride * self.config.max_batch as u128)
    }

    /// Takes the part at the front of a lane, if it goes with a batch of key `batch_key`.
    fn serve(
        &mut self,
        index: usize,
        now: MonoTime,
        batch_key: Option<u64>,
        bind: &mut impl FnMut(LaneKey, EntryKey) -> Option<BoundPart<T>>,
        expired: &mut impl FnMut(EntryKey, u32, T),
    ) -> Served<T> {
        let slot = &mut self.lanes[index];
        let lane_key = LaneKey { index: index as u32, generation: slot.generation };
        let Some(lane) = &mut slot.lane else { return Served::Gone };
        let Some(Waiting { key, part, submitted, bound }) = lane.waiting.pop_front() else { return Served::Gone };
        let bound = bound.or_else(|| bind(lane_key, key));
        if let Some(bound) = bound {
            self.keyed |= bound.batch_key != 0;
            // What was computed of a frame would be of no use without the rest.
            let begun = self.entries.get(key).is_some_and(|e| e.dispatched.is_some());
            if lane.spec.live && !begun && now.since(bound.received) > self.config.max_age {
                expired(key, part, bound.payload);
            } else if batch_key.is_some_and(|batch| batch != bound.batch_key) {
                lane.waiting.push_front(Waiting { key, part, submitted, bound: Some(bound) });
                return Served::Misfit;
            } else {
                self.pending -= 1;
                self.dispatched += 1;
                lane.pass += lane.stride();
                if part == 0 {
                    lane.standing.dispatched(now);
                }
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.waiting -= 1;
                    entry.computing += 1;
                    entry.dispatched = Some(now);
                }
                let wait = now.since(submitted);
                return Served::Taken(Taken { key, part, payload: bound.payload, wait }, bound.batch_key);
            }
        }
        self.pending -= 1;
        self.end_waiting(key);
        Served::Gone
    }
}

#[cfg(test)]
mod fairness;
#[cfg(test)]
mod tests;
