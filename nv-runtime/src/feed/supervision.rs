use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use nv_core::{Clock as _, DropReason, HealthKind, MonoTime, Name};

use super::executor::{Executor, ExecutorParts, Finish};
use super::outlet::Outlet;
use super::pipeline::PipelineRecipe;
use super::source_watch::SourceLook;
use super::steps::Lane;
use super::watch::{Retired, StageCall, StageWatch, Watch};
use super::{FeedEnd, FeedPipeline, FeedShared, Intake, PipelineError, RestartConfig, StepErrorPolicy};
use crate::guard::panic_error;
use crate::health::HealthHub;
use crate::sync::Arc;
use crate::thread::{Abandoned, Worker};

/// Runs a feed's pipeline on a thread of its own, and watches over it: when a call of a stage hangs, the thread is left
/// behind, and where the feed is one that is restarted, another pipeline goes on in its stead.
pub(crate) struct Supervision<'a> {
    pub(crate) shared: &'a Arc<FeedShared>,
    pub(crate) health: &'a HealthHub,
    pub(crate) abandoned: &'a Abandoned,
    pub(crate) intake: &'a Arc<Intake>,
    pub(crate) outlet: &'a Arc<Outlet>,
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

/// How a pipeline comes to be.
enum Make {
    Built(FeedPipeline),
    /// It is built on its own thread: factories are others' code, which may hang.
    Anew(PipelineRecipe),
}

/// What a pipeline's thread says.
enum Report {
    /// The pipeline has these lanes at batch points.
    Attached(Vec<Lane>),
    /// The stages have started.
    Started,
    /// Its work is done. Stages are still to be stopped.
    Finished(Finish),
}

/// What was heard of a pipeline.
#[derive(Default)]
struct Heard {
    lanes: Vec<Lane>,
    started: bool,
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
        let mut next = Make::Built(pipeline);
        let mut on_started = Some(on_started);
        loop {
            let running = match self.start(next) {
                Ok(running) => running,
                Err(end) => return Finish::Failed(end),
            };
            let is_first = on_started.is_some();
            let mut heard = Heard::default();
            let outcome = self.watch(&running, &mut heard, || match on_started.take() {
                Some(f) => f(),
                None => {
                    // It works again. Not before: a pipeline that is being built takes no frames.
                    self.intake.set_restarting(false);
                    Ok(())
                }
            });
            let again = match outcome {
                // As if its stage had hung or broken once more.
                Outcome::Finished(Finish::Failed(end @ FeedEnd::StageFailed { .. })) if !is_first && !heard.started => {
                    self.join(running.worker);
                    self.restart_at(end).map_err(Finish::Failed)
                }
                Outcome::Finished(finish) => {
                    self.outlet.close(self.shared.clock.now());
                    self.join(running.worker);
                    return finish;
                }
                Outcome::Hung(call) => {
                    // Nothing of the feed's is at work any more when its frames are taken back.
                    heard.lanes.iter().for_each(Lane::leave);
                    self.abandoned.add(Some(&self.shared.name), running.worker);
                    self.after_hang(call)
                }
            };
            match again.and_then(|at| self.wait_until(at)) {
                Ok(()) => next = Make::Anew(recipe.clone()),
                Err(finish) => {
                    self.outlet.close(self.shared.clock.now());
                    return finish;
                }
            }
        }
    }

    fn start(&self, make: Make) -> Result<Running, FeedEnd> {
        let watch = Arc::new(StageWatch::default());
        let parts = ExecutorParts {
            shared: self.shared.clone(),
            health: self.health.clone(),
            intake: self.intake.clone(),
            outlet: self.outlet.clone(),
            watch: watch.clone(),
            live: self.live,
            max_in_pipeline: self.max_in_pipeline,
            weight: self.weight,
            on_step_error: self.on_step_error,
            restart: self.restart.clone(),
        };
        let (report, reports) = bounded(3);
        let worker = Worker::spawn(format!("nv-pipeline {}", self.shared.name), move || run(make, parts, &report));
        let worker = worker.map_err(|error| FeedEnd::Internal(format!("no thread for the feed: {error}")))?;
        Ok(Running { worker, reports, watch })
    }

    /// Waits for the pipeline's end, or for a call of a stage to last too long.
    fn watch(
        &self,
        running: &Running,
        heard: &mut Heard,
        mut on_started: impl FnMut() -> Result<(), FeedEnd>,
    ) -> Outcome {
        let outcome = self.watch_reports(running, heard, &mut on_started);
        if let Outcome::Hung(_) = outcome {
            // What it said last.
            for report in running.reports.try_iter() {
                if let Report::Attached(lanes) = report {
                    heard.lanes = lanes;
                }
            }
        }
        outcome
    }

    fn watch_reports(
        &self,
        running: &Running,
        heard: &mut Heard,
        on_started: &mut dyn FnMut() -> Result<(), FeedEnd>,
    ) -> Outcome {
        let clock = &self.shared.clock;
        loop {
            let now = clock.now();
            self.heed_stop();
            let overdue = self.shared.stop.get().map(|stop| stop.deadline + self.grace);
            if overdue.is_some_and(|at| at <= now) {
                return Outcome::Hung(running.watch.retire());
            }
            let look_at = match running.watch.look(now, self.stage_timeout) {
                Watch::Hung(call) => return Outcome::Hung(Some(call)),
                Watch::Slow(StageCall { name: step, .. }) => {
                    self.tell_of_hang(step, self.stage_timeout);
                    continue;
                }
                Watch::LookAgain(at) => overdue.map_or(at, |overdue| overdue.min(at)).min(self.watch_source(now)),
            };
            let left = clock.instant(look_at).saturating_duration_since(std::time::Instant::now());
            select! {
                recv(running.reports) -> report => match report {
                    Ok(Report::Attached(lanes)) => heard.lanes = lanes,
                    Ok(Report::Started) => {
                        heard.started = true;
                        if let Err(end) = on_started() {
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

    /// Cancels the source of a feed that was told to stop. Whether it was.
    fn heed_stop(&self) -> bool {
        let stopped = self.shared.stop.get().is_some();
        if stopped {
            self.shared.cancel();
        }
        stopped
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

    fn tell_of_hang(&self, step: Name, limit: Duration) {
        self.health.report(Some(&self.shared.name), HealthKind::StageHung { step, limit });
    }

    /// Gives up what a pipeline held that hangs. Returns when there is to be another one.
    ///
    /// # Errors
    /// There is none: the feed ends so.
    fn after_hang(&self, call: Option<StageCall>) -> Result<MonoTime, Finish> {
        let now = self.shared.clock.now();
        // Where a stop ran out of time, it has not hung for as long as a call may last.
        let hung = call.as_ref().and_then(|call| Some((call.seq?, call, now.since(call.since))));
        if let Some((_, call, lasted)) = hung {
            // By the limit where that has passed: the time of the watcher's own look says nothing.
            self.tell_of_hang(call.name.clone(), lasted.min(self.stage_timeout));
        }
        let hung = hung.filter(|(_, _, lasted)| *lasted >= self.stage_timeout);
        if let Some((_, call, _)) = hung {
            self.shared.progress.lock().stage_hung(call.step);
        }
        let (reason, again) = match (self.shared.stop.get(), &call) {
            (Some(stop), _) => (stop.reason, Err(Finish::Stopped)),
            (None, None) => (DropReason::FeedStopped, Err(Finish::Stopped)),
            (None, Some(StageCall { name, .. })) => {
                let end = FeedEnd::StageHung { step: name.clone(), limit: self.stage_timeout };
                match self.restart_at(end) {
                    Ok(at) => (DropReason::FeedRestarted, Ok(at)),
                    Err(end) => (DropReason::FeedStopped, Err(Finish::Failed(end))),
                }
            }
        };
        match again {
            Ok(_) => self.intake.set_restarting(true),
            Err(_) => self.intake.close(reason),
        }
        self.intake.take_back(hung.map(|(seq, call, _)| (seq, &call.name)), reason);
        again
    }

    /// When there is to be another pipeline after one that ended so.
    fn restart_at(&self, end: FeedEnd) -> Result<MonoTime, FeedEnd> {
        self.shared.restart_after(self.health, self.restart, self.live, end)
    }

    /// Waits until then.
    ///
    /// # Errors
    /// The feed is told to stop before.
    fn wait_until(&self, at: MonoTime) -> Result<(), Finish> {
        let clock = &self.shared.clock;
        loop {
            let now = clock.now();
            if self.heed_stop() {
                return Err(Finish::Stopped);
            }
            if at <= now {
                return Ok(());
            }
            let look_at = at.min(self.watch_source(now));
            let left = clock.instant(look_at).saturating_duration_since(std::time::Instant::now());
            select! {
                recv(self.shared.stop.wakeups()) -> _ => {}
                default(left) => {}
            }
        }
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
fn run(make: Make, parts: ExecutorParts, report: &Sender<Report>) {
    let mut executor = None;
    let finish = catch_unwind(AssertUnwindSafe(|| {
        let pipeline = match make {
            Make::Built(pipeline) => pipeline,
            Make::Anew(recipe) => match build(recipe, &parts) {
                Ok(pipeline) => pipeline,
                Err(finish) => return finish,
            },
        };
        let executor = executor.insert(Executor::new(pipeline, parts));
        // A feed's thread that is gone, or that has given this one up, wants nothing more of it.
        if report.send(Report::Attached(executor.lanes())).is_err() {
            return executor.retire();
        }
        if let Err(finish) = executor.start() {
            return finish;
        }
        let _ = report.send(Report::Started);
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

/// Builds a pipeline, watched over.
fn build(recipe: PipelineRecipe, parts: &ExecutorParts) -> Result<FeedPipeline, Finish> {
    let clock = &parts.shared.clock;
    let built = recipe.build_told(|step, name| {
        parts.watch.begin(StageCall { step, name: name.clone(), seq: None, since: clock.now() });
    });
    parts.watch.end().map_err(|Retired| Finish::Retired)?;
    built.map_err(|error| {
        Finish::Failed(match error {
            PipelineError::Stage { step, error } => FeedEnd::StageFailed { step, error },
            error => FeedEnd::Internal(error.to_string()),
        })
    })
}
