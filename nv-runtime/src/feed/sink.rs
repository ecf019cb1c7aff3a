use std::sync::atomic::{AtomicU64, Ordering};

use nv_core::{HealthKind, Name};
use nv_perception::{Output, OutputSink, SinkError, SinkErrorKind};

use super::{SinkConfig, SinkStats};
use crate::guard::{Foreign, panic_error};
use crate::health::HealthHub;
use crate::mailbox::{OnRoom, Receiver, Refused, Sender, mailbox};
use crate::sync::Arc;
use crate::thread::Worker;

/// A sink's bounded queue, which its own thread empties. The thread ends once the queue is closed by being dropped.
pub(crate) struct SinkQueue {
    queue: Sender<Arc<Output>>,
    pub(crate) wants_frames: bool,
    /// Whether outputs are passing it by at the moment.
    pub(crate) passed_by: bool,
    counts: Arc<SinkCounts>,
}

/// What a sink has taken, shared with those who ask.
#[derive(Debug)]
pub(crate) struct SinkCounts {
    name: Name,
    taken: AtomicU64,
    failed: AtomicU64,
    passed_by: AtomicU64,
}

impl SinkCounts {
    pub(crate) fn snapshot(&self) -> SinkStats {
        SinkStats {
            sink: self.name.clone(),
            taken: self.taken.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            passed_by: self.passed_by.load(Ordering::Relaxed),
        }
    }
}

impl SinkQueue {
    /// Starts the sink's thread. `on_room` is called on it when there is room again after an output was given back.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(
        config: SinkConfig,
        feed: &Name,
        health: &HealthHub,
        on_room: OnRoom,
    ) -> std::io::Result<(Self, Worker)> {
        let SinkConfig { name, sink, queue_capacity } = config;
        let (queue, outputs) = mailbox(queue_capacity, on_room);
        let thread_name = format!("nv-sink {feed} {name}");
        let counts = Arc::new(SinkCounts {
            name,
            taken: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            passed_by: AtomicU64::new(0),
        });
        let mut body = SinkThread {
            sink: Foreign::new(sink),
            counts: counts.clone(),
            feed: feed.clone(),
            health: health.clone(),
            dead: false,
        };
        let mut wants_frames = false;
        if let Err(error) = guarded("wants_frames", || {
            wants_frames = body.sink.wants_frames();
            Ok(())
        }) {
            body.failed(&error);
        }
        let worker = Worker::spawn(thread_name, move || body.run(&outputs))?;
        Ok((Self { queue, wants_frames, passed_by: false, counts }, worker))
    }

    pub(crate) fn counts(&self) -> &Arc<SinkCounts> {
        &self.counts
    }

    /// Offers an output without waiting. A full queue gives it back. With `later` the sink need not be told of it at once, and
    /// is to be [called](Self::call).
    pub(crate) fn offer(&self, output: Arc<Output>, later: bool) -> Result<(), Arc<Output>> {
        match if later { self.queue.leave(output) } else { self.queue.offer(output) } {
            Ok(()) => Ok(()),
            Err(Refused::Full(output)) => Err(output),
            // The thread has died of a bug of its own; nobody will ever take it.
            Err(Refused::Closed(_)) => {
                self.pass_by();
                Ok(())
            }
        }
    }

    /// Has the sink look at what was left for it.
    pub(crate) fn call(&self) {
        self.queue.call();
    }

    /// Counts an output that it did not get.
    pub(crate) fn pass_by(&self) {
        self.counts.passed_by.fetch_add(1, Ordering::Relaxed);
    }
}

struct SinkThread {
    sink: Foreign<Box<dyn OutputSink>>,
    counts: Arc<SinkCounts>,
    feed: Name,
    health: HealthHub,
    /// After a fatal error or a panic. What still comes is counted as failed.
    dead: bool,
}

impl SinkThread {
    fn run(mut self, outputs: &Receiver<Arc<Output>>) {
        while let Some(output) = outputs.take() {
            if !self.dead {
                let result = guarded("emit", || self.sink.emit(&output));
                if let Err(error) = result {
                    self.failed(&error);
                } else {
                    self.counts.taken.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        if !self.dead
            && let Err(error) = guarded("close", || self.sink.close())
        {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &SinkError) {
        self.dead |= error.is_fatal();
        let kind = HealthKind::SinkFailed {
            sink: self.counts.name.clone(),
            error: error.to_string(),
            fatal: error.is_fatal(),
        };
        // A reader who has had enough is no trouble.
        if error.kind() == SinkErrorKind::Closed {
            tracing::info!(feed = %self.feed, sink = %self.counts.name, %error, "sink closed");
        } else {
            self.health.report(Some(&self.feed), kind);
        }
    }
}

fn guarded(call: &str, f: impl FnOnce() -> Result<(), SinkError>) -> Result<(), SinkError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .unwrap_or_else(|panic| Err(SinkError::new(SinkErrorKind::Failed, panic_error(call, panic).to_string())))
}
