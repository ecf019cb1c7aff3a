use std::sync::atomic::AtomicUsize;

use nv_core::{Clock as _, Frame, Name};
use nv_perception::{BatchCapabilities, BatchEntry, Perception, Region, StageOutput};

use super::point::{GivenUpFor, Point};
use super::route::{LaneKind, Reply, empty_perception};
use super::{ANSWER_GRACE, BatchConfig, BatchError, BatchMetrics, EntryState, LaneKey, Refusal};
use crate::feed::Inbox;
use crate::sync::Arc;

/// A batch point, as its users hold it: cheap to clone, shared by feeds. The [`Runtime`](crate::Runtime) owns its threads.
///
/// A pipeline names it as a step; other code may submit single entries with [`submit_and_wait`](Self::submit_and_wait).
#[derive(Clone)]
pub struct BatchHandle {
    point: Arc<Point>,
    /// The lane that all direct submissions share.
    direct: LaneKey,
    direct_slots: Arc<AtomicUsize>,
}

/// One entry, submitted directly.
#[derive(Clone, Debug)]
pub struct BatchRequest {
    /// The feed that the frame belongs to.
    pub feed: Name,
    /// The feed's session.
    pub session: u32,
    /// The frame.
    pub frame: Frame,
    /// The part of the frame to look at; `None`: all of it.
    pub region: Option<Region>,
    /// What earlier steps found in it.
    pub perception: Arc<Perception>,
}

impl BatchRequest {
    /// A request for all of `frame` of `feed`, of which nothing is known.
    pub fn new(feed: impl Into<Name>, frame: Frame) -> Self {
        Self { feed: feed.into(), session: 0, frame, region: None, perception: empty_perception() }
    }
}

impl BatchHandle {
    pub(crate) fn new(point: Arc<Point>) -> Self {
        let direct_slots = Arc::default();
        let direct = point.attach(None, LaneKind::Direct, 1, Arc::clone(&direct_slots));
        Self { point, direct, direct_slots }
    }

    pub(crate) fn point(&self) -> &Arc<Point> {
        &self.point
    }

    /// The batch point's name.
    pub fn processor_id(&self) -> &Name {
        &self.point.name
    }

    /// What its processors need, make and prefer.
    pub fn capabilities(&self) -> BatchCapabilities {
        self.point.capabilities()
    }

    /// How it forms and guards its batches.
    pub fn config(&self) -> &BatchConfig {
        &self.point.config
    }

    /// What it has done so far.
    pub fn metrics(&self) -> BatchMetrics {
        self.point.metrics()
    }

    /// Submits one entry, which shares batches with those of the feeds, and waits for its result: at most
    /// `response_timeout` from its dispatch.
    ///
    /// # Errors
    /// See [`BatchError`]. After [`BatchError::InFlightCapReached`] and [`BatchError::QueueFull`] nothing was taken.
    pub fn submit_and_wait(&self, request: BatchRequest) -> Result<StageOutput, BatchError> {
        let point = &self.point;
        let batch = || point.name.clone();
        let BatchRequest { feed, session, frame, region, perception } = request;
        let entry = BatchEntry::new(feed, session, frame, region, perception);
        let inbox = Arc::new(Inbox::new());
        let key =
            point.submit(self.direct, entry, Reply { inbox: inbox.clone(), step: 0 }, None).map_err(|refusal| {
                match refusal {
                    Refusal::NoSlot => BatchError::InFlightCapReached {
                        batch: batch(),
                        limit: self.direct_slots.load(std::sync::atomic::Ordering::Relaxed),
                    },
                    Refusal::Full => BatchError::QueueFull { batch: batch(), limit: point.config.max_pending },
                    Refusal::Down => BatchError::Unavailable { batch: batch(), reason: point.trouble() },
                    Refusal::NoLane => BatchError::CoordinatorShutdown { batch: batch() },
                }
            })?;
        let limit = point.config.response_timeout;
        let mut results = Vec::with_capacity(1);
        let mut until = point.clock.now() + limit;
        let mut was_gone = false;
        loop {
            inbox.wait(Some(point.clock.instant(until)));
            inbox.take(&mut results);
            if let Some(completion) = results.pop() {
                return completion.result;
            }
            let now = point.clock.now();
            let state = point.state_of(key);
            until = match state {
                // The limit runs from dispatch; while the entry waits its turn it starts over.
                EntryState::Waiting | EntryState::TooOld => now + limit,
                EntryState::Dispatched(at) => at + limit,
                // Its result is on its way, if there is one.
                EntryState::Gone if !was_gone => now + ANSWER_GRACE,
                EntryState::Gone => now,
            };
            was_gone = state == EntryState::Gone;
            if until <= now {
                point.abandon(key, GivenUpFor::Timeout);
                // The result may have come in between.
                inbox.take(&mut results);
                return results.pop().map_or_else(|| Err(BatchError::Timeout { batch: batch(), limit }), |c| c.result);
            }
        }
    }
}

impl std::fmt::Debug for BatchHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BatchHandle").field(&self.point.name).finish()
    }
}
