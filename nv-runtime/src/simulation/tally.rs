//! A batch point's slots, service and use, counted from outside.

use std::collections::{HashMap, HashSet, VecDeque};

use nv_core::MonoTime;

use super::fairness::Fairness;
use super::world::Context;
use crate::batch::EntryKey;

/// What a point has taken and what has come of it.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) point: usize,
    held: HashMap<EntryKey, Held>,
    /// By feed.
    pub(super) lanes: Vec<Lane>,
    fairness: Fairness,
    /// Parts that were computed, and are of use to a feed.
    pub(super) delivered: u64,
    /// Parts that were computed for nothing, though their feed went on.
    pub(super) wasted: u64,
    /// What feeds gave up of their own accord.
    given_up: HashSet<EntryKey>,
}

/// An entry.
#[derive(Clone, Copy, Debug)]
struct Held {
    feed: usize,
    waiting: u32,
    computing: u32,
    computed: u32,
    /// Whether a part was too old: then the others are of no use.
    spoilt: bool,
}

/// A feed's lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub(super) used: usize,
    /// Parts and claims that wait.
    pub(super) parts: usize,
    /// Entries that wait and since when, oldest first.
    waiting: VecDeque<(EntryKey, MonoTime)>,
    claims: VecDeque<MonoTime>,
    quarantined: bool,
}

impl Lane {
    fn backlogged(&self) -> bool {
        self.parts > 0 && !self.quarantined
    }

    fn oldest(&self) -> Option<MonoTime> {
        self.waiting.front().map(|(_, at)| *at).into_iter().chain(self.claims.front().copied()).min()
    }
}

impl Tally {
    pub(super) fn new(point: usize, feeds: usize) -> Self {
        Self {
            point,
            held: HashMap::new(),
            lanes: vec![Lane::default(); feeds],
            fairness: Fairness::new(feeds),
            delivered: 0,
            wasted: 0,
            given_up: HashSet::new(),
        }
    }

    pub(super) fn attached(&mut self, feed: usize, weight: u32, batch_key: u64) {
        self.lanes[feed] = Lane::default();
        self.fairness.attached(feed, weight, batch_key);
    }

    /// A lane goes, with whatever it has here.
    pub(super) fn detached(&mut self, feed: usize) {
        let gone: Vec<EntryKey> = self.held.iter().filter(|(_, h)| h.feed == feed).map(|(key, _)| *key).collect();
        for key in gone {
            self.gave_up(key);
            self.held.remove(&key);
        }
        self.lanes[feed] = Lane::default();
        self.fairness.detached(feed);
    }

    /// Slots were taken for claims.
    pub(super) fn claimed(&mut self, ctx: &mut Context, feed: usize, count: usize, slots: usize) {
        let lane = &mut self.lanes[feed];
        lane.used += count;
        lane.parts += count;
        lane.claims.extend(std::iter::repeat_n(ctx.now, count));
        self.check_slots(ctx, feed, slots);
    }

    /// A claim's time has come: it has become an entry, or there was no frame.
    pub(super) fn bound(&mut self, ctx: &mut Context, feed: usize, key: EntryKey, found: bool) {
        let point = self.point;
        let lane = &mut self.lanes[feed];
        let Some(at) = lane.claims.pop_front() else {
            return ctx.fail(|| format!("point {point}: a claim of feed {feed} is bound that was not made"));
        };
        if found {
            lane.waiting.push_front((key, at));
            self.hold(ctx, feed, key, 1);
        } else {
            lane.used -= 1;
            lane.parts -= 1;
        }
    }

    /// A slot was taken, for a frame in as many parts.
    pub(super) fn took(&mut self, ctx: &mut Context, key: EntryKey, feed: usize, parts: u32, slots: usize) {
        let lane = &mut self.lanes[feed];
        lane.used += 1;
        lane.parts += parts as usize;
        lane.waiting.push_back((key, ctx.now));
        self.hold(ctx, feed, key, parts);
        self.check_slots(ctx, feed, slots);
    }

    fn hold(&mut self, ctx: &mut Context, feed: usize, key: EntryKey, parts: u32) {
        let held = Held { feed, waiting: parts, computing: 0, computed: 0, spoilt: false };
        let (point, new) = (self.point, self.held.insert(key, held).is_none());
        ctx.check(new, || format!("point {point}: {key:?} names two entries at once"));
    }

    fn check_slots(&mut self, ctx: &mut Context, feed: usize, slots: usize) {
        let backlogged = self.lanes[feed].backlogged();
        self.fairness.set_backlogged(feed, backlogged);
        let (point, used) = (self.point, self.lanes[feed].used);
        ctx.check(used <= slots, || format!("point {point}: feed {feed} has {used} slots in use of {slots}"));
    }

    /// A batch was taken.
    pub(super) fn dispatched(
        &mut self,
        ctx: &mut Context,
        batch: impl ExactSizeIterator<Item = (EntryKey, usize)> + Clone,
        max_batch: usize,
    ) {
        let (point, size) = (self.point, batch.len());
        ctx.check(size <= max_batch, || format!("point {point}: a batch of {size}, of at most {max_batch}"));
        for (key, feed) in batch.clone() {
            match self.held.get_mut(&key).filter(|h| h.feed == feed && h.waiting > 0) {
                Some(held) => held.computing += 1,
                None => ctx.fail(|| format!("point {point}: {key:?} of feed {feed} is computed, and did not wait")),
            }
            self.left_lane(key, 1);
        }
        // A frame of a quarantined feed goes by itself, in all its parts.
        if let Some((key, feed)) = batch.clone().next()
            && self.lanes[feed].quarantined
            && batch.clone().all(|(k, _)| k == key)
        {
            return;
        }
        // Lanes that ran empty by it are not compared.
        for lane in 0..self.lanes.len() {
            self.fairness.set_backlogged(lane, self.lanes[lane].backlogged());
        }
        for (_, feed) in batch {
            let quarantined = self.lanes[feed].quarantined;
            ctx.check(!quarantined, || format!("point {point}: feed {feed} is quarantined, and shares a batch"));
            if let Err(unfair) = self.fairness.serve(feed, max_batch) {
                ctx.fail(|| format!("point {point}: {unfair}"));
            }
        }
    }

    /// A part was too old to be computed.
    pub(super) fn expired(&mut self, key: EntryKey) {
        if let Some(held) = self.held.get_mut(&key) {
            held.spoilt = true;
        }
        self.left_lane(key, 1);
        self.end_if_done(key);
    }

    /// A part was computed, or failed. `wanted`: what the point says of its result.
    pub(super) fn done(&mut self, ctx: &mut Context, key: EntryKey, computed: bool, wanted: bool) {
        let (point, held) = (self.point, self.held.get_mut(&key));
        let is_held = held.is_some();
        ctx.check(is_held == wanted, || format!("point {point}: the result of {key:?} is wanted: {wanted}"));
        match held {
            Some(held) => {
                held.computing -= 1;
                held.computed += u32::from(computed);
                self.end_if_done(key);
            }
            None => self.wasted += u64::from(computed && !self.given_up.contains(&key)),
        }
    }

    fn end_if_done(&mut self, key: EntryKey) {
        if self.held.get(&key).is_some_and(|h| h.waiting == 0 && h.computing == 0) {
            self.ended(key);
        }
    }

    /// A feed gave an entry up since it was stopped, or since a part of it failed: what is computed of it is nobody's fault.
    pub(super) fn gave_up(&mut self, key: EntryKey) {
        if self.held.get(&key).is_some_and(|h| h.computing > 0) {
            self.given_up.insert(key);
        }
    }

    /// An entry is gone, and its slot free.
    pub(super) fn ended(&mut self, key: EntryKey) {
        let Some(held) = self.held.get(&key).copied() else { return };
        self.left_lane(key, held.waiting);
        self.held.remove(&key);
        self.lanes[held.feed].used -= 1;
        if held.spoilt {
            self.wasted += u64::from(held.computed);
        } else {
            self.delivered += u64::from(held.computed);
        }
    }

    /// Whatever waited was taken out.
    pub(super) fn drained(&mut self) {
        let waiting: Vec<EntryKey> = self.held.iter().filter(|(_, h)| h.waiting > 0).map(|(key, _)| *key).collect();
        for key in waiting {
            let parts = self.held.get(&key).map_or(0, |h| h.waiting);
            self.left_lane(key, parts);
            self.end_if_done(key);
        }
        for feed in 0..self.lanes.len() {
            let lane = &mut self.lanes[feed];
            let claims = std::mem::take(&mut lane.claims).len();
            lane.used -= claims;
            lane.parts -= claims;
            self.fairness.set_backlogged(feed, lane.backlogged());
        }
    }

    pub(super) fn quarantined(&mut self, feed: usize, quarantined: bool) {
        self.lanes[feed].quarantined = quarantined;
        self.fairness.set_backlogged(feed, self.lanes[feed].backlogged());
    }

    /// When the oldest was submitted of what waits and may share a batch.
    pub(super) fn oldest(&self) -> Option<MonoTime> {
        self.lanes.iter().filter(|l| !l.quarantined).filter_map(Lane::oldest).min()
    }

    /// Parts and claims that wait, and parts that are being computed.
    pub(super) fn count(&self) -> (usize, usize) {
        let computing = self.held.values().map(|h| h.computing as usize).sum();
        (self.lanes.iter().map(|l| l.parts).sum(), computing)
    }

    /// Slots in use.
    pub(super) fn used(&self) -> usize {
        self.lanes.iter().map(|l| l.used).sum()
    }

    fn left_lane(&mut self, key: EntryKey, parts: u32) {
        let Some(held) = self.held.get_mut(&key) else { return };
        held.waiting -= parts;
        let lane = &mut self.lanes[held.feed];
        lane.parts -= parts as usize;
        if held.waiting == 0 {
            lane.waiting.retain(|(k, _)| *k != key);
        }
        let (feed, backlogged) = (held.feed, lane.backlogged());
        self.fairness.set_backlogged(feed, backlogged);
    }
}
