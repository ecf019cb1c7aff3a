use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{Clock as _, DropReason, HealthEvent, MonoTime, Name};
use thiserror::Error;

use crate::batch::instance::{Instance, instance_thread};
use crate::batch::{BatchConfig, BatchHandle, BatchStartError, Point, ProcessorFactory};
use crate::decisions::DecisionLog;
use crate::feed::{FeedConfig, FeedConfigError, FeedHandle, FeedShared, FeedThread};
use crate::health::HealthHub;
use crate::permits::ConnectPermits;
use crate::sync::{Arc, Mutex, SystemClock};
use crate::thread::{Abandoned, Worker};

/// Limits of a [`Runtime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The most feeds at a time. Default 1,024.
    pub max_feeds: usize,
    /// Health events that wait for a subscriber; beyond it the subscriber misses some. Default 256.
    pub health_capacity: usize,
    /// How long a thread may take to end after everything that it could wait for is over. Then it is left behind, and named:
    /// nothing else is held up by a call that never returns. Default 5 s.
    pub grace: Duration,
    /// How many sources may be connecting at a time; others wait for their turn, at most 10 s. Default: 16 in all of the
    /// process, whatever the runtime.
    pub connect_permits: ConnectPermits,
    /// Where the runtime's decisions are written down, to be [replayed](crate::replay). It ends with the runtime. Default:
    /// nowhere.
    pub decisions: Option<DecisionLog>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            max_feeds: 1024,
            health_capacity: 256,
            grace: Duration::from_secs(5),
            connect_permits: ConnectPermits::default(),
            decisions: None,
        }
    }
}

/// Owns batch points and feeds, and every thread of theirs.
///
/// Batch points are made first, feeds refer to them. [`shutdown`](Self::shutdown) ends everything in order; dropping the
/// runtime does the same without a drain.
pub struct Runtime {
    config: RuntimeConfig,
    clock: Arc<SystemClock>,
    pub(crate) health: HealthHub,
    abandoned: Abandoned,
    rooms: Mutex<Rooms>,
    /// Tells of health events that were held; `None` once it is joined, or where the system gave no thread.
    health_thread: Mutex<Option<Worker>>,
}

#[derive(Default)]
struct Rooms {
    closed: bool,
    /// Names of batch points, also of those that are being started.
    batch_names: HashSet<Name>,
    batches: Vec<BatchRoom>,
    feeds: HashMap<Name, FeedRoom>,
}

struct BatchRoom {
    handle: BatchHandle,
    instances: Vec<Worker>,
}

struct FeedRoom {
    handle: FeedHandle,
    thread: Worker,
    /// Whether somebody removes it, and waits for its end.
    leaving: bool,
    /// The batch points in its pipeline.
    batches: Vec<Name>,
    /// How long its sinks may take to close.
    sink_limit: Duration,
}

/// Why a feed could not be added.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddFeedError {
    /// There is a feed of this name.
    #[error("there is a feed called {0:?} already: give this one another name")]
    Duplicate(Name),
    /// The runtime has as many feeds as it may.
    #[error("there are {0} feeds already, which is the limit")]
    TooMany(usize),
    /// The config makes no sense.
    #[error("feed {feed:?}: {error}")]
    Config {
        /// The feed.
        feed: Name,
        /// The field and the reason.
        error: FeedConfigError,
    },
    /// A batch point in its pipeline is another runtime's, with a clock of its own.
    #[error("feed {feed:?}: batch point {batch:?} belongs to another runtime")]
    ForeignBatch {
        /// The feed.
        feed: Name,
        /// The batch point.
        batch: Name,
    },
    /// A batch point in its pipeline has been removed.
    #[error("feed {feed:?}: batch point {batch:?} has been removed")]
    RemovedBatch {
        /// The feed.
        feed: Name,
        /// The batch point.
        batch: Name,
    },
    /// The runtime has been shut down.
    #[error("the runtime has been shut down")]
    Closed,
    /// The system gave no thread.
    #[error("the system gave no thread for feed {feed:?}: {error}")]
    Thread {
        /// The feed.
        feed: Name,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Why a batch point could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RemoveBatchError {
    /// There is none of this name.
    #[error("there is no batch point called {0:?}")]
    Unknown(Name),
    /// Feeds that have not ended run their frames through it.
    #[error("batch point {batch:?} is in use; remove these feeds first: {}", list(.feeds))]
    InUse {
        /// The batch point.
        batch: Name,
        /// The feeds, in the order of their names.
        feeds: Vec<Name>,
    },
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// What [`Runtime::shutdown`] could not do in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Threads that were left behind, now or earlier, and have not ended yet, by name.
    pub abandoned: Vec<String>,
}

impl Runtime {
    /// A runtime without batch points and feeds.
    #[must_use]
    pub fn new(config: RuntimeConfig) -> Self {
        let clock = Arc::new(SystemClock::new());
        let health = HealthHub::new(clock.clone(), config.health_capacity.max(1));
        let abandoned = Abandoned::new(health.clone());
        let health_thread = health.attend();
        if let Err(error) = &health_thread {
            tracing::warn!(%error, "no thread to hold repeated health events: each is told of alone");
        }
        let health_thread = Mutex::new(health_thread.ok());
        Self { config, clock, health, abandoned, rooms: Mutex::default(), health_thread }
    }

    /// Health events from now on. What repeats within a second comes as one event with a count; what was told of a feed, a
    /// batch point or a sink last is how it is. A subscriber that does not keep up misses events, and learns how many with the
    /// next one ([`HealthEvent::missed`]). The log gets every event too.
    pub fn health(&self) -> Receiver<HealthEvent> {
        self.health.subscribe()
    }

    /// The runtime's clock: what the monotonic times in outputs and events count from.
    pub fn now(&self) -> MonoTime {
        self.clock.now()
    }

    /// Makes a batch point: builds and starts its processors, each on a thread of its own, and waits for them.
    ///
    /// # Errors
    /// The config makes no sense, or a processor can't be built or started within `startup_timeout`.
    pub fn create_batch(
        &self,
        name: impl Into<Name>,
        factory: ProcessorFactory,
        config: BatchConfig,
    ) -> Result<BatchHandle, BatchStartError> {
        let name = name.into();
        config.validate().map_err(|error| BatchStartError::Config { batch: name.clone(), error })?;
        let refused = |reason| BatchStartError::Refused { batch: name.clone(), reason };
        {
            let mut rooms = self.rooms.lock();
            if rooms.closed {
                return Err(refused("the runtime has been shut down"));
            }
            if !rooms.batch_names.insert(name.clone()) {
                return Err(refused("there is a batch point of this name already"));
            }
        }
        // Not under the lock: loading a model may take long.
        let started = self.start_batch(&name, &factory, config);
        let mut rooms = self.rooms.lock();
        match started {
            Ok(room) if !rooms.closed => {
                let handle = room.handle.clone();
                rooms.batches.push(room);
                Ok(handle)
            }
            Ok(room) => {
                drop(rooms);
                room.handle.point().stop();
                self.join(room.instances, self.clock.now());
                Err(refused("the runtime has been shut down"))
            }
            Err(error) => {
                rooms.batch_names.remove(&name);
                Err(error)
            }
        }
    }

    fn start_batch(
        &self,
        name: &Name,
        factory: &ProcessorFactory,
        config: BatchConfig,
    ) -> Result<BatchRoom, BatchStartError> {
        let limit = self.clock.now() + config.startup_timeout;
        let point = Arc::new(Point::new(
            name.clone(),
            config,
            self.clock.clone(),
            self.health.clone(),
            self.config.decisions.as_ref(),
        ));
        let (started, reports) = bounded(point.config.instances);
        let mut instances = Vec::new();
        let mut result = Ok(());
        for index in 0..point.config.instances {
            let instance = Instance::new(point.clone(), factory.clone(), index);
            let started: Sender<_> = started.clone();
            let body = move || instance_thread(&instance, &started);
            match Worker::spawn(format!("nv-batch {name} {index}"), body) {
                Ok(worker) => instances.push(worker),
                Err(error) => {
                    let error = nv_perception::StageError::fatal(format!("no thread: {error}"));
                    result = Err(BatchStartError::Processor { batch: name.clone(), error });
                    break;
                }
            }
        }
        drop(started);
        let mut waiting: Vec<usize> = (0..instances.len()).collect();
        while result.is_ok()
            && let Some(&first) = waiting.first()
        {
            match reports.recv_deadline(self.clock.instant(limit)) {
                Ok((index, Ok(()))) => waiting.retain(|i| *i != index),
                Ok((_, Err(error))) => result = Err(BatchStartError::Processor { batch: name.clone(), error }),
                Err(_) => {
                    let limit = point.config.startup_timeout;
                    result = Err(BatchStartError::Timeout { batch: name.clone(), instance: first, limit });
                }
            }
        }
        if let Err(error) = result {
            point.stop();
            // One that hangs in its start is left behind.
            self.join(instances, self.clock.now());
            return Err(error);
        }
        Ok(BatchRoom { handle: BatchHandle::new(point), instances })
    }

    /// Starts a feed. Its source is opened on a thread of its own: a source that can't be opened is the feed's end, not an
    /// error here. A feed that has ended keeps its name and its account until it is [removed](Self::remove_feed).
    ///
    /// # Errors
    /// See [`AddFeedError`].
    pub fn add_feed(&self, config: FeedConfig) -> Result<FeedHandle, AddFeedError> {
        let name = config.name.clone();
        config.validate().map_err(|error| AddFeedError::Config { feed: name.clone(), error })?;
        let foreign = config.pipeline.points().find(|p| !Arc::ptr_eq(&p.clock, &self.clock));
        if let Some(point) = foreign {
            return Err(AddFeedError::ForeignBatch { feed: name, batch: point.name.clone() });
        }
        let mut rooms = self.rooms.lock();
        if rooms.closed {
            return Err(AddFeedError::Closed);
        }
        let is_here = |point: &Arc<Point>| rooms.batches.iter().any(|b| Arc::ptr_eq(b.handle.point(), point));
        if let Some(point) = config.pipeline.points().find(|point| !is_here(point)) {
            return Err(AddFeedError::RemovedBatch { feed: name, batch: point.name.clone() });
        }
        if rooms.feeds.contains_key(&name) {
            return Err(AddFeedError::Duplicate(name));
        }
        if rooms.feeds.len() >= self.config.max_feeds {
            return Err(AddFeedError::TooMany(self.config.max_feeds));
        }
        let sink_limit = config.sink_close_timeout;
        let batches = config.pipeline.points().map(|point| point.name.clone()).collect();
        let steps = config.pipeline.step_names().cloned();
        let shared = Arc::new(FeedShared::new(
            name.clone(),
            self.clock.clone(),
            steps,
            &config.restart,
            self.config.decisions.clone(),
        ));
        let body = FeedThread {
            config,
            shared: shared.clone(),
            health: self.health.clone(),
            abandoned: self.abandoned.clone(),
            permits: self.config.connect_permits.clone(),
            grace: self.config.grace,
        };
        let thread = Worker::spawn(format!("nv-feed {name}"), move || body.run());
        let thread = thread.map_err(|error| AddFeedError::Thread { feed: name.clone(), error })?;
        let handle = FeedHandle { shared, done: thread.done().clone() };
        rooms.feeds.insert(name, FeedRoom { handle: handle.clone(), thread, leaving: false, batches, sink_limit });
        Ok(handle)
    }

    /// Stops a feed, waits for its end and forgets it: its name is free again. `drain` as in [`FeedHandle::stop`].
    /// Returns its handle, or `None` if there is no such feed, or another call removes it already.
    ///
    /// What hangs is not waited for: a call of a stage or of the source, or a sink that does not close, is
    /// [left behind](Self::abandoned) after the drain and the runtime's grace. So is the feed's own thread if the source does
    /// not let itself be cancelled because a callback of its own blocks; then [`FeedStats::end`](crate::FeedStats::end) is
    /// `None`.
    pub fn remove_feed(&self, name: &str, drain: Duration) -> Option<FeedHandle> {
        let (handle, sink_limit) = {
            let mut rooms = self.rooms.lock();
            let room = rooms.feeds.get_mut(name).filter(|room| !room.leaving)?;
            // Its name and its batch points are in use until it has ended.
            room.leaving = true;
            (room.handle.clone(), room.sink_limit)
        };
        handle.stop(drain);
        let wind_up = sink_limit.max(self.config.grace);
        // Once for its pipeline, once for its other threads, and once for itself.
        let limit = drain.saturating_add(wind_up).saturating_add(self.config.grace.saturating_mul(2));
        // Only ever an error: it has ended, or time is up.
        let _ = handle.done().recv_deadline(self.clock.instant(self.clock.now() + limit));
        let room = self.rooms.lock().feeds.remove(name);
        // A shutdown that came between sees to its thread itself.
        if let Some(FeedRoom { thread, .. }) = room {
            self.abandoned.join_or_add_of(handle.name(), thread);
        }
        Some(handle)
    }

    /// Ends a batch point that no feed uses any more and forgets it: its name is free again. What was submitted to it directly
    /// has up to `drain` to be computed; the rest fails with [`BatchError::CoordinatorShutdown`](crate::BatchError), as does
    /// whatever is submitted through handles that are left. An instance that does not end within the runtime's grace is
    /// [left behind](Self::abandoned). Returns the point's handle, for its metrics.
    ///
    /// A feed that has ended uses it no more, whether it was [removed](Self::remove_feed) or not.
    ///
    /// # Errors
    /// There is no such batch point, or a feed uses it. Then nothing has changed.
    pub fn remove_batch(&self, name: &str, drain: Duration) -> Result<BatchHandle, RemoveBatchError> {
        let BatchRoom { handle, instances } = {
            let mut rooms = self.rooms.lock();
            let is_it = |room: &BatchRoom| room.handle.processor_id().as_str() == name;
            let index = rooms.batches.iter().position(is_it);
            let index = index.ok_or_else(|| RemoveBatchError::Unknown(name.into()))?;
            let uses = |room: &&FeedRoom| !room.thread.is_done() && room.batches.iter().any(|b| b.as_str() == name);
            let mut feeds: Vec<Name> = rooms.feeds.values().filter(uses).map(|f| f.handle.name().clone()).collect();
            if !feeds.is_empty() {
                feeds.sort();
                return Err(RemoveBatchError::InUse { batch: name.into(), feeds });
            }
            rooms.batches.remove(index)
        };
        handle.point().drain();
        let deadline = self.clock.now() + drain;
        if !instances.iter().all(|i| i.wait(deadline, &self.clock)) {
            handle.point().stop();
        }
        self.join(instances, self.clock.now());
        self.rooms.lock().batch_names.remove(name);
        Ok(handle)
    }

    /// The feeds, in the order of their names.
    pub fn feeds(&self) -> Vec<FeedHandle> {
        let rooms = self.rooms.lock();
        let mut feeds: Vec<_> = rooms.feeds.values().map(|f| f.handle.clone()).collect();
        feeds.sort_by(|a, b| a.name().cmp(b.name()));
        feeds
    }

    /// The batch points, in the order in which they were made.
    pub fn batches(&self) -> Vec<BatchHandle> {
        self.rooms.lock().batches.iter().map(|b| b.handle.clone()).collect()
    }

    /// Threads that did not end when they should have and are still running, by name: a pipeline that hangs in a stage,
    /// a source that does not let itself be cancelled, a sink that does not close, a processor that did not start.
    pub fn abandoned(&self) -> Vec<String> {
        self.abandoned.names()
    }

    /// Ends everything: feeds first, which have up to `drain` to finish what is inside them, then batch points. Joins every
    /// thread; one that does not end within the runtime's grace (a feed's own: three times that) is left behind and named in the
    /// report.
    pub fn shutdown(&self, drain: Duration) -> ShutdownReport {
        let (feeds, batches) = {
            let mut rooms = self.rooms.lock();
            rooms.closed = true;
            (std::mem::take(&mut rooms.feeds), std::mem::take(&mut rooms.batches))
        };
        let deadline = self.clock.now() + drain;
        for feed in feeds.values() {
            feed.handle.shared.ask_to_stop(deadline, DropReason::Shutdown);
        }
        // A feed gives its pipeline the grace, and then its source and sinks, before it ends itself.
        let threads = feeds.into_values().map(|f| f.thread).collect();
        self.join(threads, deadline + self.config.grace.saturating_mul(2));
        for batch in &batches {
            batch.handle.point().drain();
        }
        // What waits now comes from the direct API alone; it gets what is left of the drain.
        let deadline = deadline.max(self.clock.now());
        let mut instances = Vec::new();
        for room in batches {
            if !room.instances.iter().all(|i| i.wait(deadline, &self.clock)) {
                room.handle.point().stop();
            }
            instances.extend(room.instances);
        }
        self.join(instances, deadline);
        if let Some(decisions) = &self.config.decisions {
            // A failure was reported when it happened, and is told again to whoever asks the log.
            let _ = decisions.finish();
        }
        self.health.close();
        let thread = self.health_thread.lock().take();
        self.join(thread.into_iter().collect(), self.clock.now());
        ShutdownReport { abandoned: self.abandoned() }
    }

    /// Joins threads that are about to end; those that have not ended the grace after `by` are left behind.
    fn join(&self, threads: Vec<Worker>, by: MonoTime) {
        self.abandoned.join_or_add(threads, by + self.config.grace, &self.clock);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.rooms.lock();
        let mut feeds: Vec<_> = rooms.feeds.keys().collect();
        feeds.sort();
        let batches: Vec<_> = rooms.batches.iter().map(|b| b.handle.processor_id()).collect();
        f.debug_struct("Runtime").field("feeds", &feeds).field("batches", &batches).finish_non_exhaustive()
    }
}
