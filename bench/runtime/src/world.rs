//! What both runtimes are given: sources that follow a script, a processor that sleeps, sinks that note what comes. The
//! adapters to each runtime's traits are in `ours` and `ancestor`; the work is done here, once.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::case::{Case, Load, Model, Phase};

/// The scripted world of one run. All times are nanoseconds since it was made.
pub(crate) struct World {
    origin: Instant,
    load: Load,
    model: Model,
    /// When the sources begin; `u64::MAX`: not yet known.
    begin: AtomicU64,
    off: AtomicBool,
    /// Sources that were asked for a frame.
    ready: AtomicUsize,
    feeds: Vec<FeedLog>,
    batches: Mutex<Vec<BatchDone>>,
}

#[derive(Default)]
struct FeedLog {
    sent: Mutex<Vec<u64>>,
    delivered: Mutex<Vec<Delivery>>,
}

/// A frame that came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// When its source gave it.
    pub(crate) sent: u64,
    /// When the sink was entered.
    pub(crate) at: u64,
}

/// A batch that the processor is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchDone {
    pub(crate) at: u64,
    pub(crate) size: usize,
    /// How long it really slept.
    pub(crate) slept: u64,
}

/// Everything that was noted.
pub(crate) struct Log {
    /// For each feed, when it gave a frame.
    pub(crate) sent: Vec<Vec<u64>>,
    /// For each feed, what came out.
    pub(crate) delivered: Vec<Vec<Delivery>>,
    pub(crate) batches: Vec<BatchDone>,
}

/// A frame that a source is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shot {
    /// The number of it, from 0.
    pub(crate) number: u64,
    /// Now.
    pub(crate) sent: u64,
    /// Whether the processor fails on it.
    pub(crate) poisoned: bool,
}

/// How a frame that the processor fails on is told from others: by its width.
pub(crate) const WIDTH: u32 = 8;
pub(crate) const POISONED_WIDTH: u32 = 16;
pub(crate) const HEIGHT: u32 = 8;

impl Shot {
    pub(crate) fn width(&self) -> u32 {
        if self.poisoned { POISONED_WIDTH } else { WIDTH }
    }
}

impl World {
    pub(crate) fn new(case: &Case) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            load: case.load,
            model: case.model,
            begin: AtomicU64::new(u64::MAX),
            off: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
            feeds: (0..case.load.feeds()).map(|_| FeedLog::default()).collect(),
            batches: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    pub(crate) fn sleep_until(&self, at: u64) {
        std::thread::sleep(Duration::from_nanos(at.saturating_sub(self.now())));
    }

    /// Lets the sources begin, once each has been asked for a frame.
    pub(crate) fn begin(&self) -> Result<(), String> {
        let limit = self.now() + 20_000_000_000;
        while self.ready.load(Ordering::Relaxed) < self.feeds.len() {
            if self.now() > limit {
                let ready = self.ready.load(Ordering::Relaxed);
                return Err(format!("after 20 s only {ready} of {} sources were open", self.feeds.len()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.begin.store(self.now() + 50_000_000, Ordering::Relaxed);
        Ok(())
    }

    /// No source gives another frame.
    pub(crate) fn turn_off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    /// What `feed`'s source follows.
    pub(crate) fn script(self: &Arc<Self>, feed: usize) -> Script {
        Script { world: self.clone(), feed, number: 0, asked: false }
    }

    /// The processor's work on a batch of `size`.
    pub(crate) fn work(&self, size: usize) {
        let started = self.now();
        if !self.model.is_free() {
            std::thread::sleep(self.model.time(size));
        }
        let at = self.now();
        lock(&self.batches).push(BatchDone { at, size, slept: at - started });
    }

    /// A sink's work on entry: a frame of `feed` came out.
    pub(crate) fn delivered(&self, feed: usize, sent: u64) {
        let at = self.now();
        lock(&self.feeds[feed].delivered).push(Delivery { sent, at });
    }

    /// All that was noted so far.
    pub(crate) fn log(&self) -> Log {
        // Deliveries before what was sent, so that nothing comes out that was not given.
        let delivered = self.feeds.iter().map(|f| lock(&f.delivered).clone()).collect();
        let sent = self.feeds.iter().map(|f| lock(&f.sent).clone()).collect();
        Log { sent, delivered, batches: lock(&self.batches).clone() }
    }
}

/// What a source follows: when to give which frame.
pub(crate) struct Script {
    world: Arc<World>,
    feed: usize,
    number: u64,
    asked: bool,
}

/// How long a source waits at most before it looks whether it was stopped.
const PATIENCE: Duration = Duration::from_millis(100);

impl Script {
    /// Waits until the next frame is due. `None`: it is not due for a while; ask again.
    pub(crate) fn next(&mut self) -> Option<Shot> {
        if !std::mem::replace(&mut self.asked, true) {
            self.world.ready.fetch_add(1, Ordering::Relaxed);
        }
        let begin = self.world.begin.load(Ordering::Relaxed);
        if begin == u64::MAX {
            // Short, for the beginning is 50 ms after it is known.
            std::thread::sleep(Duration::from_millis(10));
            return None;
        }
        let due = self.due().map(|due| begin + due);
        let last = self.world.now() + PATIENCE.as_nanos() as u64;
        match due {
            Some(due) if due <= last => self.world.sleep_until(due),
            _ => {
                self.world.sleep_until(last);
                return None;
            }
        }
        if self.world.off.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
            return None;
        }
        let number = self.number;
        self.number += 1;
        let poisoned = self.feed < self.world.load.failing() && number % 3 == 2;
        let sent = self.world.now();
        lock(&self.world.feeds[self.feed].sent).push(sent);
        Some(Shot { number, sent, poisoned })
    }

    /// When the next frame is due, from the beginning; `None`: never.
    fn due(&self) -> Option<u64> {
        match self.world.load {
            Load::Files(_) => Some(0),
            Load::Cameras(c) if self.feed >= c.count => None,
            Load::Cameras(c) => {
                let interval = c.interval.as_nanos() as u64;
                let phase = match c.phase {
                    Phase::Aligned => 0,
                    Phase::Spread => interval * self.feed as u64 / c.count as u64,
                };
                Some(self.number / u64::from(c.burst) * interval + phase)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
