use std::sync::atomic::{AtomicUsize, Ordering};

use nv_core::{MonoTime, Name};
use nv_perception::{BatchCapabilities, BatchEntry};

use crate::batch::account::Account;
use crate::batch::core::{GivenUp, PointCore};
use crate::batch::route::{Job, LaneKind, Waiting, empty_perception};
use crate::batch::{EntryKey, LaneKey};
use crate::sync::Arc;

/// What a point keeps under its lock.
pub(super) struct State {
    pub(super) core: PointCore<Job>,
    /// By the index of their keys.
    pub(super) lanes: Vec<Option<AttachedLane>>,
    /// Instances that wait on `wake`.
    pub(super) idle: usize,
    /// The earliest time at which one of them looks again by itself, as far as is known.
    pub(super) armed: Option<MonoTime>,
    /// Why the last instance that lost its processor did.
    pub(super) trouble: String,
    pub(super) account: Account,
    pub(super) capabilities: Option<BatchCapabilities>,
}

pub(super) struct AttachedLane {
    pub(super) key: LaneKey,
    /// The feed that it belongs to; `None` for the direct API.
    pub(super) feed: Option<Name>,
    pub(super) kind: LaneKind,
    /// How many slots the lane has; the point changes it as feeds come and go.
    pub(super) slots: Arc<AtomicUsize>,
}

/// Finds the frame for a claim, at its feed's intake; adds to `superseded` how many were passed over for it.
pub(super) fn bind(
    lanes: &[Option<AttachedLane>],
    now: MonoTime,
    lane: LaneKey,
    entry: EntryKey,
    superseded: &mut u64,
) -> Option<Job> {
    let LaneKind::Live(route) = &lanes.get(lane.index())?.as_ref()?.kind else { return None };
    let queued = route.intake.bind(now, entry, superseded)?;
    let feed = route.intake.feed().clone();
    let entry = BatchEntry::new(feed, queued.session, queued.frame, None, empty_perception());
    Some(Job { entry, reply: route.reply.clone() })
}

impl State {
    /// Tells lanes how many slots they have.
    pub(super) fn tell_slots(&self) {
        for lane in self.lanes.iter().flatten() {
            lane.slots.store(self.core.slots(lane.key), Ordering::Relaxed);
        }
    }

    pub(super) fn lane(&self, key: LaneKey) -> Option<&AttachedLane> {
        self.lanes.get(key.index())?.as_ref().filter(|l| l.key == key)
    }

    /// The feed that a lane belongs to, where the lane knows it.
    pub(super) fn feed_of(&self, key: LaneKey) -> Option<Name> {
        self.lane(key)?.feed.clone()
    }

    /// What was given up, with the intakes that its claims were made by.
    pub(super) fn routes_of(&self, given_up: GivenUp<Job>) -> Waiting {
        let intake = |key: LaneKey| match &self.lane(key)?.kind {
            LaneKind::Live(route) => Some(route.intake.clone()),
            LaneKind::File | LaneKind::Direct => None,
        };
        let claims = given_up.claims.into_iter().filter_map(|(key, n)| Some((intake(key)?, n))).collect();
        Waiting { jobs: given_up.parts, claims }
    }
}
