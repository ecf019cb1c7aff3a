use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use nv_core::{Clock as _, DropReason, HealthKind, MonoTime};
use nv_perception::StreamInfo;

use super::executor::Finish;
use super::intake::IntakeConfig;
use super::outlet::Outlet;
use super::rate::Rate;
use super::sink::SinkQueue;
use super::source::{Connector, Pulls, SourceEnd, source_thread};
use super::supervision::Supervision;
use super::{FeedConfig, FeedEnd, FeedShared, Intake, QueuePolicy, SinkConfig};
use crate::guard::panic_error;
use crate::health::HealthHub;
use crate::permits::ConnectPermits;
use crate::sync::Arc;
use crate::thread::{Abandoned, Worker};

/// A feed, from its first thread's point of view: it starts the other threads, watches over the source's and the pipeline's,
/// and joins them all. Of others' code it calls nothing that may take long.
pub(crate) struct FeedThread {
    pub(crate) config: FeedConfig,
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) health: HealthHub,
    pub(crate) abandoned: Abandoned,
    pub(crate) permits: ConnectPermits,
    pub(crate) grace: Duration,
}

/// The feed's other threads. They end by themselves once the source is cancelled and the sinks' queues are closed.
#[derive(Default)]
struct Threads {
    source: Option<Worker>,
    sinks: Vec<Worker>,
}

impl FeedThread {
    /// The body of the feed's thread: runs the feed from its source's opening to its end.
    pub(crate) fn run(self) {
        let Self { config, shared, health, abandoned, permits, grace } = self;
        let sink_limit = config.sink_close_timeout;
        let mut threads = Threads::default();
        let live =
            Live { shared: &shared, health: &health, abandoned: &abandoned, permits, grace, threads: &mut threads };
        let end = catch_unwind(AssertUnwindSafe(|| live.run(config))).unwrap_or_else(|panic| {
            // A bug of ours, or of others' code that nobody calls on purpose. Whatever it was about to do, the feed ends.
            Err(FeedEnd::Internal(panic_error("the feed's thread", panic).to_string()))
        });
        // On every way out: the source has been told to end, nobody blocks it, and no frame is left without a fate.
        shared.cancel();
        if let Some(intake) = shared.intake.get() {
            intake.abandon(shared.stop.get().map_or(DropReason::FeedStopped, |s| s.reason));
        }
        threads.join(&shared, sink_limit, grace, &abandoned);
        let end = Arc::new(end.unwrap_or_else(|end| end));
        let _ = shared.end.set(Arc::clone(&end));
        health.report(Some(&shared.name), HealthKind::FeedEnded { reason: end.to_string(), ok: end.is_ok() });
    }
}

struct Live<'a> {
    shared: &'a Arc<FeedShared>,
    health: &'a HealthHub,
    abandoned: &'a Abandoned,
    permits: ConnectPermits,
    grace: Duration,
    threads: &'a mut Threads,
}

impl Live<'_> {
    /// Runs the feed; either way, how it ended.
    fn run(mut self, config: FeedConfig) -> Result<FeedEnd, FeedEnd> {
        let FeedConfig { source, spec, pipeline, sinks, restart, .. } = config;
        let (shared, health) = (self.shared, self.health);
        // Sinks are opened and closed whatever becomes of the source: they may have something to say about nothing.
        let sinks = self.start_sinks(sinks)?;
        let limits = (restart.max_restarts, restart.window);
        let permits = self.permits.clone();
        let connector = Connector::new(source, spec, shared.clone(), health.clone(), permits, restart.clone());
        let ((opened, opening), (start, pulls)) = (bounded(1), bounded(1));
        let body = move || source_thread(connector, &opened, &pulls);
        let thread = Worker::spawn(format!("nv-source {}", shared.name), body);
        self.threads.source = Some(thread.map_err(no_thread)?);
        let info = match self.wait_for_source(&opening)? {
            Ok(info) => info,
            Err(end) => return Ok(self.end_of(end, limits)),
        };
        let live = info.live;
        let by_default = if live { QueuePolicy::DropOldest } else { QueuePolicy::Block };
        let intake = self.intake(IntakeConfig {
            freshness: config.freshness,
            period: config.max_rate.map(Rate::period_of),
            drop_suspect: config.drop_suspect,
            ..IntakeConfig::new(config.queue_capacity, config.queue_policy.unwrap_or(by_default))
        });
        let name = shared.name.clone();
        let outlet = Outlet::new(name, health.clone(), sinks, !live, config.report_threshold, config.provenance);
        let outlet = Arc::new(outlet);
        let pulls = Pulls {
            shared: shared.clone(),
            intake: intake.clone(),
            health: health.clone(),
            live,
            frame_limit: config.frame_limit,
        };
        let supervision = Supervision {
            shared,
            health,
            abandoned: self.abandoned,
            intake: &intake,
            outlet: &outlet,
            live,
            max_in_pipeline: config.max_in_pipeline,
            weight: config.weight,
            on_step_error: config.on_step_error,
            restart: &restart,
            stage_timeout: config.stage_timeout,
            grace: self.grace,
        };
        let finish = supervision.run(pipeline, move || {
            // One that is gone has panicked.
            start.send(pulls).map_err(|_| source_died())
        });
        Ok(match finish {
            Finish::Ended => self.end_of(intake.take_source_end().unwrap_or(SourceEnd::Cancelled), limits),
            Finish::Stopped | Finish::Retired => FeedEnd::Stopped,
            Finish::Failed(end) => end,
        })
    }

    /// Waits until the source is open. Whatever it does, a feed that is stopped ends.
    fn wait_for_source(
        &self,
        opening: &Receiver<Result<StreamInfo, SourceEnd>>,
    ) -> Result<Result<StreamInfo, SourceEnd>, FeedEnd> {
        while self.shared.stop.get().is_none() {
            select! {
                recv(opening) -> opened => return opened.map_err(|_| source_died()),
                recv(self.shared.stop.wakeups()) -> _ => {}
            }
        }
        self.shared.cancel();
        Ok(Err(SourceEnd::Cancelled))
    }

    fn start_sinks(&mut self, sinks: Vec<SinkConfig>) -> Result<Vec<SinkQueue>, FeedEnd> {
        let mut queues = Vec::with_capacity(sinks.len());
        for sink in sinks {
            let inbox = self.shared.inbox.clone();
            let on_room = Box::new(move || inbox.call());
            let started = SinkQueue::start(sink, &self.shared.name, self.health, on_room);
            let (queue, thread) = started.map_err(no_thread)?;
            self.threads.sinks.push(thread);
            queues.push(queue);
        }
        self.shared.progress.lock().sinks = queues.iter().map(|q| q.counts().clone()).collect();
        Ok(queues)
    }

    fn intake(&self, config: IntakeConfig) -> Arc<Intake> {
        let (name, clock) = (self.shared.name.clone(), self.shared.clock.clone());
        let decisions = self.shared.decisions.as_ref();
        let (inbox, health) = (self.shared.inbox.clone(), self.health.clone());
        let intake = Arc::new(Intake::new(name, clock, config, inbox, decisions, health));
        self.shared.begin(intake)
    }

    /// How a feed ends that ends with its source; `limits`: of its restarts.
    fn end_of(&self, source: SourceEnd, limits: (u32, Duration)) -> FeedEnd {
        match source {
            SourceEnd::EndOfStream => FeedEnd::EndOfStream,
            SourceEnd::LimitReached => FeedEnd::LimitReached,
            SourceEnd::Cancelled => FeedEnd::Stopped,
            SourceEnd::Failed(error) => {
                let kind = HealthKind::SourceFailed { error: error.to_string() };
                self.health.report(Some(&self.shared.name), kind);
                FeedEnd::SourceFailed(error)
            }
            SourceEnd::RestartLimit(last) => {
                let (restarts, window) = limits;
                let last = Box::new(self.end_of(*last, limits));
                FeedEnd::RestartLimitExceeded { restarts, window, last }
            }
        }
    }
}

fn source_died() -> FeedEnd {
    FeedEnd::Internal("the source's thread ended without a word".into())
}

fn no_thread(error: std::io::Error) -> FeedEnd {
    FeedEnd::Internal(format!("no thread for the feed: {error}"))
}

impl Threads {
    /// Waits for the source to notice that it was cancelled, and for the sinks to write out what they hold; joins their
    /// threads. Those that take too long are left behind: a source after `grace`, a sink after `sink_limit`, and in a
    /// shutdown no later than `grace` after its deadline.
    fn join(self, shared: &FeedShared, sink_limit: Duration, grace: Duration, abandoned: &Abandoned) {
        let begun = shared.clock.now();
        let limit = |is_source: bool| {
            let limit = begun + if is_source { grace } else { sink_limit };
            match shared.stop.get() {
                Some(stop) if stop.reason == DropReason::Shutdown => limit.min(stop.deadline.max(begun) + grace),
                _ => limit,
            }
        };
        let sources = self.source.into_iter().map(|w| (true, w));
        for (is_source, worker) in sources.chain(self.sinks.into_iter().map(|w| (false, w))) {
            if wait(&worker, || limit(is_source), shared) {
                worker.join();
            } else {
                abandoned.add(Some(&shared.name), worker);
            }
        }
    }
}

/// Waits for a thread's work to be done, until a limit that a shutdown may bring nearer. False if it is not done by then.
fn wait(worker: &Worker, limit: impl Fn() -> MonoTime, shared: &FeedShared) -> bool {
    loop {
        let deadline = shared.clock.instant(limit());
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        select! {
            recv(worker.done()) -> _ => return true,
            recv(shared.stop.wakeups()) -> _ => {}
            default(left) => return worker.is_done(),
        }
    }
}
