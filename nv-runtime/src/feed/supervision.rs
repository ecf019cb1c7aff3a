use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use nv_core::{Clock as _, DropReason, HealthKind, MonoTime};

use super::executor::{Executor, ExecutorParts, Finish};
use super::outlet::Outlet;
use super::pipeline::PipelineRecipe;
use super::source_watch::SourceLook;
use super::steps::Lane;
use super::watch::{StageCall, StageWatch, Watch};
use super::{FeedEnd, FeedPipeline, FeedShared, Intake, RestartConfig, StepErrorPolicy};
use crate::guard::panic_error;
use crate::health::HealthHub;
use crate::sync::{Arc, Mutex};
use crate::thread::{Abandoned, Worker};

/// Runs a feed's pipeline on a thread of its own, and watches over it: when a call of a stage hangs, the thread is left
/// behind, and where the feed is one that is restarted, another pipeline goes on in its stead.
pub(crate) struct Supervision<'a> {
    pub(crate) shared: &'a Arc<FeedShared>,
    pub(crate) health: &'a HealthHub,
    pub(crate) abandoned: &'a Abandoned,
    pub(crate) intake: &'a Arc<Intake>,
    pub(crate) outlet: &'a Arc<Mutex<Outlet>>,
    pub(crate) live: bool,
    pub(crate) max_in_pipeline: Option<usize>,
    pub(crate) weight: u32,
    pub(crate) on_step_error: StepErrorPolicy,
    pub(crate) restart: &'a RestartConfig,
    pub(crate) stage_timeout: Duration,
    /// How long a pipeline may take to end after everything that it could wait for is over.
    pub(crate) grace: Duration,
}

/// A pipeline on its thread.
struct Running {
    worker: Worker,
    reports: Receiver<Report>,
    watch: Arc<StageWatch>,
}

/// What a pipeline's thread says.
enum Report {
    /// The stages have started.
    Started(Vec<Lane>),
    /// Its work is done. Stages are still to be stopped.
    Finished(Finish),
}

/// What became of a pipeline.
enum Outcome {
    Finished(Finish),
    /// It hangs, in this call as far as is known. The thread knows that it is not to go on.
    Hung(Option<StageCall>),
}

impl Supervision<'_> {
    /// Runs the pipeline until the feed is done. `on_started` is called once its stages have started: frames may come in.
    pub(crate) fn run(&self, pipeline: FeedPipeline, on_started: impl FnOnce() -> Result<(), FeedEnd>) -> Finish {
        let recipe = pipeline.recipe.clone();
        let mut next = pipeline;
        let mut on_started = Some(on_started);
        loop {
            let running = match self.start(next) {
                Ok(running) => running,
                Err(end) => return Finish::Failed(end),
            };
            let mut lanes = Vec::new();
            let outcome = self.watch(&running, |started| {
                lanes = started;
                on_started.take().map_or(Ok(()), |f| f())
            });
            let call = match outcome {
                Outcome::Finished(finish) => {
                    self.outlet.lock().close();
                    self.join(running.worker);
                    return finish;
                }
                Outcome::Hung(call) => call,
            };
            // Nothing of the feed's is at work any more when its frames are taken back.
            lanes.iter().for_each(Lane::leave);
            self.abandoned.add(Some(&self.shared.name), running.worker);
            match self.after_hang(call, &recipe) {
                Ok(pipeline) => next = pipeline,
                Err(finish) => {
                    self.outlet.lock().close();
                    return finish;
                }
            }
        }
    }

    fn start(&self, pipeline: FeedPipeline) -> Result<Running, FeedEnd> {
        let watch = Arc::new(StageWatch::default());
        let parts = ExecutorParts {
            shared: self.shared.clone(),
            health: self.health.clone(),
            intake: self.intake.clone(),
            pipeline,
            outlet: self.outlet.clone(),
            watch: watch.clone(),
            live: self.live,
            max_in_pipeline: self.max_in_pipeline,
            weight: self.weight,
            on_step_error: self.on_step_error,
            restart: self.restart.clone(),
        };
        let (report, reports) = bounded(2);
        let worker = Worker::spawn(format!("nv-pipeline {}", self.shared.name), move || run(parts, &report));
        let worker = worker.map_err(|error| FeedEnd::Internal(format!("no thread for the feed: {error}")))?;
        Ok(Running { worker, reports, watch })
    }

    /// Waits for the pipeline's end, or for a call of a stage to last too long.
    fn watch(&self, running: &Running, on_started: impl FnOnce(Vec<Lane>) -> Result<(), FeedEnd>) -> Outcome {
        let clock = &self.shared.clock;
        let mut on_started = Some(on_started);
        loop {
            let now = clock.now();
            let overdue = self.shared.stop.get().map(|stop| stop.deadline + self.grace);
            if overdue.is_some_and(|at| at <= now) {
                return Outcome::Hung(running.watch.retire());
            }
            let look_at = match running.watch.look(now, self.stage_timeout) {
                Watch::Hung(call) => return Outcome::Hung(Some(call)),
                Watch::LookAgain(at) => overdue.map_or(at, |overdue| overdue.min(at)).min(self.watch_source(now)),
            };
            let left = clock.instant(look_at).saturating_duration_since(std::time::Instant::now());
            select! {
                recv(running.reports) -> report => match report {
                    Ok(Report::Started(lanes)) => {
                        if let Some(Err(end)) = on_started.take().map(|f| f(lanes)) {
                            // The pipeline has nobody to give it frames.
                            self.shared.ask_to_stop(now, DropReason::FeedStopped);
                            let _ = running.reports.recv();
                            return Outcome::Finished(Finish::Failed(end));
                        }
                    }
                    Ok(Report::Finished(finish)) => return Outcome::Finished(finish),
                    Err(_) => {
                        let end = FeedEnd::Internal("the pipeline's thread ended without a word".into());
                        return Outcome::Finished(Finish::Failed(end));
                    }
                },
                recv(self.shared.stop.wakeups()) -> _ => {}
                default(left) => {}
            }
        }
    }

    /// Cancels a session with a camera whose source does not come back from a call, and tells of one that does not care.
    /// Returns when to look again.
    fn watch_source(&self, now: MonoTime) -> MonoTime {
        loop {
            match self.shared.source.look(now) {
                SourceLook::LookAgain(at) => return at,
                SourceLook::Cancel(session) => self.shared.cancel_session(&session),
                SourceLook::Tell(limit) => {
                    self.health.report(Some(&self.shared.name), HealthKind::SourceHung { limit })
                }
            }
        }
    }

    /// Gives up what a pipeline held that hangs, and makes another one.
    ///
    /// # Errors
    /// There is none: the feed ends so.
    fn after_hang(&self, call: Option<StageCall>, recipe: &PipelineRecipe) -> Result<FeedPipeline, Finish> {
        let limit = self.stage_timeout;
        let stop = self.shared.stop.get();
        let hung = call.as_ref().and_then(|call| Some((call.seq?, call)));
        if let Some((_, call)) = hung {
            self.shared.progress.lock().stage_hung(call.step);
            let kind = HealthKind::StageHung { step: call.name.clone(), limit };
            self.health.report(Some(&self.shared.name), kind);
        }
        let reason = stop.map_or(DropReason::FeedRestarted, |stop| stop.reason);
        self.intake.take_back(hung.map(|(seq, call)| (seq, &call.name)), reason);
        let (None, Some(StageCall { name: step, .. })) = (stop, call) else { return Err(Finish::Stopped) };
        let mut end = FeedEnd::StageHung { step, limit };
        self.intake.set_restarting(true);
        loop {
            let restart_at = self.shared.restart_after(self.health, self.restart, self.live, end);
            let restart_at = restart_at.map_err(Finish::Failed)?;
            if !self.wait_until(restart_at) {
                return Err(Finish::Stopped);
            }
            match recipe.clone().build() {
                Ok(pipeline) => {
                    self.intake.set_restarting(false);
                    return Ok(pipeline);
                }
                Err(super::PipelineError::Stage { step, error }) => end = FeedEnd::StageFailed { step, error },
                Err(error) => return Err(Finish::Failed(FeedEnd::Internal(error.to_string()))),
            }
        }
    }

    /// Waits until then. False if the feed is told to stop before.
    fn wait_until(&self, at: MonoTime) -> bool {
        let deadline = self.shared.clock.instant(at);
        matches!(self.shared.cancelled.recv_deadline(deadline), Err(RecvTimeoutError::Timeout))
    }

    /// Waits for the stages to stop.
    fn join(&self, worker: Worker) {
        let deadline = self.shared.clock.now() + self.grace;
        if worker.wait(deadline, &self.shared.clock) {
            worker.join();
        } else {
            self.abandoned.add(Some(&self.shared.name), worker);
        }
    }
}

/// The body of a pipeline's thread.
fn run(parts: ExecutorParts, report: &Sender<Report>) {
    let mut executor = None;
    let finish = catch_unwind(AssertUnwindSafe(|| {
        let executor = executor.insert(Executor::new(parts));
        if let Err(finish) = executor.start() {
            return finish;
        }
        // A feed's thread that is gone wants nothing more of it.
        let _ = report.send(Report::Started(executor.lanes()));
        executor.run()
    }));
    // A bug of ours, or of others' code that nobody calls on purpose. Whatever it was about to do, the feed ends.
    let finish = finish.unwrap_or_else(|panic| {
        Finish::Failed(FeedEnd::Internal(panic_error("the pipeline's thread", panic).to_string()))
    });
    let _ = report.send(Report::Finished(finish));
    // Only now: a stage that takes its time to stop keeps nobody waiting.
    drop(executor);
}
