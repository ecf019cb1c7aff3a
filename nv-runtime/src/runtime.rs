use std::collections::{HashMap, HashSet};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{Clock as _, HealthEvent, MonoTime, Name, SystemClock};
use thiserror::Error;

use crate::batch::instance::{Instance, instance_thread};
use crate::batch::{BatchConfig, BatchHandle, BatchStartError, Point, ProcessorFactory};
use crate::feed::{Control, FeedConfig, FeedHandle, FeedShared, FeedThread};
use crate::health::HealthHub;
use crate::sync::{Arc, Mutex};

/// Limits of a [`Runtime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The most feeds at a time. Default 1,024.
    pub max_feeds: usize,
    /// Health events that wait for a subscriber; beyond it the subscriber misses some. Default 256.
    pub health_capacity: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { max_feeds: 1024, health_capacity: 256 }
    }
}

/// Owns batch points and feeds, and every thread of theirs.
///
/// Batch points are made first, feeds refer to them. [`shutdown`](Self::shutdown) ends everything in order; dropping the
/// runtime does the same without a drain.
pub struct Runtime {
    config: RuntimeConfig,
    clock: Arc<SystemClock>,
    health: HealthHub,
    rooms: Mutex<Rooms>,
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
}

/// A thread, and a channel that disconnects when its work is done.
struct Worker {
    thread: JoinHandle<()>,
    done: Receiver<std::convert::Infallible>,
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

/// What [`Runtime::shutdown`] could not do in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Threads that did not end and were left behind, by name.
    pub abandoned: Vec<String>,
}

impl Runtime {
    /// A runtime without batch points and feeds.
    pub fn new(config: RuntimeConfig) -> Self {
        let clock = Arc::new(SystemClock::new());
        let health = HealthHub::new(clock.clone(), config.health_capacity.max(1));
        Self { config, clock, health, rooms: Mutex::default() }
    }

    /// Health events from now on. A subscriber that does not keep up misses some.
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
                Worker::join_all(room.instances, self.clock.now() + GRACE, &self.clock);
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
        let point = Arc::new(Point::new(name.clone(), config, self.clock.clone(), self.health.clone()));
        let (started, reports) = bounded(point.config.instances);
        let mut instances = Vec::new();
        for index in 0..point.config.instances {
            let instance = Instance::new(point.clone(), factory.clone(), index);
            let started: Sender<_> = started.clone();
            let thread = Worker::spawn(format!("nv-batch {name} {index}"), move || instance_thread(instance, &started));
            match thread {
                Ok(worker) => instances.push(worker),
                Err(error) => {
                    point.stop();
                    Worker::join_all(instances, self.clock.now() + Duration::from_secs(5), &self.clock);
                    let error = nv_perception::StageError::fatal(format!("no thread: {error}"));
                    return Err(BatchStartError::Processor { batch: name.clone(), error });
                }
            }
        }
        drop(started);
        let mut result = Ok(());
        for _ in 0..instances.len() {
            match reports.recv_deadline(self.clock.instant(limit)) {
                Ok((_, Ok(_))) => {}
                Ok((_, Err(error))) => result = Err(BatchStartError::Processor { batch: name.clone(), error }),
                Err(_) => {
                    let instance = instances.iter().position(|w| !w.is_done()).unwrap_or(0);
                    let limit = point.config.startup_timeout;
                    result = Err(BatchStartError::Timeout { batch: name.clone(), instance, limit });
                }
            }
            if result.is_err() {
                break;
            }
        }
        if let Err(error) = result {
            point.stop();
            // One that hangs in its start is left behind; the error names it.
            Worker::join_all(instances, self.clock.now() + Duration::from_secs(1), &self.clock);
            return Err(error);
        }
        Ok(BatchRoom { handle: BatchHandle::new(point), instances })
    }

    /// Starts a feed. Its source is opened on the feed's own thread: a source that can't be opened is the feed's end, not an
    /// error here.
    ///
    /// # Errors
    /// See [`AddFeedError`].
    pub fn add_feed(&self, config: FeedConfig) -> Result<FeedHandle, AddFeedError> {
        let name = config.name.clone();
        let mut rooms = self.rooms.lock();
        if rooms.closed {
            return Err(AddFeedError::Closed);
        }
        if rooms.feeds.contains_key(&name) {
            return Err(AddFeedError::Duplicate(name));
        }
        if rooms.feeds.len() >= self.config.max_feeds {
            return Err(AddFeedError::TooMany(self.config.max_feeds));
        }
        let steps = config.pipeline.step_names().cloned();
        let shared = Arc::new(FeedShared::new(name.clone(), self.clock.clone(), steps));
        let (control, controls) = bounded(4);
        let body = FeedThread { config, shared: shared.clone(), control: controls, health: self.health.clone() };
        let thread = Worker::spawn(format!("nv-feed {name}"), move || body.run());
        let thread = thread.map_err(|error| AddFeedError::Thread { feed: name.clone(), error })?;
        let handle = FeedHandle { shared, control, done: thread.done.clone() };
        rooms.feeds.insert(name, FeedRoom { handle: handle.clone(), thread });
        Ok(handle)
    }

    /// Stops a feed, waits for its end and forgets it: its name is free again. `drain` as in [`FeedHandle::stop`].
    /// Returns its handle, or `None` if there is no such feed.
    pub fn remove_feed(&self, name: &str, drain: Duration) -> Option<FeedHandle> {
        let room = self.rooms.lock().feeds.remove(name)?;
        room.handle.stop(drain);
        // A feed that never ends (a hung stage) would hang this call too; shutdown's limit is where such a one is left.
        room.handle.wait();
        let _ = room.thread.thread.join();
        Some(room.handle)
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

    /// Ends everything: feeds first, which have up to `drain` to finish what is inside them, then batch points. Joins every
    /// thread; one that does not end within a further 5 s is left behind and named in the report.
    pub fn shutdown(&self, drain: Duration) -> ShutdownReport {
        let (feeds, batches) = {
            let mut rooms = self.rooms.lock();
            rooms.closed = true;
            (std::mem::take(&mut rooms.feeds), std::mem::take(&mut rooms.batches))
        };
        let deadline = self.clock.now() + drain;
        for feed in feeds.values() {
            feed.handle.shared.cancel.cancel();
            let _ = feed.handle.control.try_send(Control::Stop { deadline, shutdown: true });
        }
        let threads = feeds.into_values().map(|f| f.thread).collect();
        let mut abandoned = Worker::join_all(threads, deadline + GRACE, &self.clock);
        for batch in &batches {
            batch.handle.point().drain();
        }
        for BatchRoom { handle, instances } in batches {
            // What waits now comes from the direct API alone; it gets what is left of the drain.
            let left = Worker::wait_all(&instances, deadline.max(self.clock.now()), &self.clock);
            if !left {
                handle.point().stop();
            }
            abandoned.extend(Worker::join_all(instances, self.clock.now() + GRACE, &self.clock));
        }
        for name in &abandoned {
            tracing::error!(thread = %name, "a thread did not end and is left behind");
        }
        ShutdownReport { abandoned }
    }
}

/// How long a thread may take to end after everything that it could wait for is over.
const GRACE: Duration = Duration::from_secs(5);

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl Worker {
    fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (token, done) = bounded(0);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Dropped last, also when the body panics.
            let _token = token;
            body();
        })?;
        Ok(Self { thread, done })
    }

    fn is_done(&self) -> bool {
        matches!(self.done.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    /// Waits for all of them. False if one is not done by `deadline`.
    fn wait_all(workers: &[Self], deadline: MonoTime, clock: &SystemClock) -> bool {
        workers.iter().all(|worker| {
            let result = worker.done.recv_deadline(clock.instant(deadline));
            matches!(result, Err(crossbeam_channel::RecvTimeoutError::Disconnected))
        })
    }

    /// Joins all of them; those that are not done by `deadline` are left behind. Returns their names.
    fn join_all(workers: Vec<Self>, deadline: MonoTime, clock: &SystemClock) -> Vec<String> {
        let mut abandoned = Vec::new();
        for worker in workers {
            if Self::wait_all(std::slice::from_ref(&worker), deadline, clock) {
                // A panic in it has been logged by the hook, and its feed's end says so.
                let _ = worker.thread.join();
            } else {
                abandoned.push(worker.thread.thread().name().unwrap_or("unnamed").to_owned());
            }
        }
        abandoned
    }
}
