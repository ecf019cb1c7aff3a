use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::Receiver;
use nv_core::{DropReason, HealthKind};
use nv_perception::{SourceError, SourceErrorKind, redact_url};

use super::executor::{Control, Executor, ExecutorParts};
use super::outlet::Outlet;
use super::sink::SinkWorker;
use super::source::{Session, SourceEnd};
use super::{FeedConfig, FeedEnd, FeedShared, Intake, QueuePolicy};
use crate::guard::panic_error;
use crate::health::HealthHub;
use crate::sync::Arc;

/// A feed, from its first thread's point of view.
pub(crate) struct FeedThread {
    pub(crate) config: FeedConfig,
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) control: Receiver<Control>,
    pub(crate) health: HealthHub,
}

impl FeedThread {
    /// The body of the feed's thread: runs the feed from its source's opening to its end.
    pub(crate) fn run(self) {
        let (shared, health) = (self.shared.clone(), self.health.clone());
        let end = self.live().unwrap_or_else(|end| end);
        health.report(Some(&shared.name), HealthKind::FeedEnded { reason: end.to_string(), ok: end.is_ok() });
        let _ = shared.end.set(Arc::new(end));
    }

    /// Runs it; either way, how it ended.
    fn live(self) -> Result<FeedEnd, FeedEnd> {
        let Self { config, shared, control, health } = self;
        let FeedConfig { name, source, spec, pipeline, sinks, .. } = config;
        let internal = |e: std::io::Error| FeedEnd::Internal(format!("no thread for the feed: {e}"));

        let url = redact_url(&spec.url);
        let opened = catch_unwind(AssertUnwindSafe(|| source.open(&spec, &shared.cancel))).unwrap_or_else(|panic| {
            let error = panic_error("open", panic);
            Err(SourceError::new(SourceErrorKind::Damaged, &spec.url, format!("the source failed: {error}")))
        });
        let source = match opened {
            Ok(source) => source,
            Err(error) if error.kind() == SourceErrorKind::Cancelled => return Ok(FeedEnd::Stopped),
            Err(error) => {
                health.report(Some(&name), HealthKind::SourceFailed { error: error.to_string() });
                return Err(FeedEnd::SourceFailed(error));
            }
        };
        let info = source.info().clone();
        let description = format!("{} {}×{}, {}", info.codec, info.size.width, info.size.height, info.decoder);
        health.report(Some(&name), HealthKind::SourceOpened { session: 0, description });

        let policy =
            config.queue_policy.unwrap_or(if info.live { QueuePolicy::DropOldest } else { QueuePolicy::Block });
        let clock = shared.clock.clone();
        let intake =
            Arc::new(Intake::new(name.clone(), clock.clone(), config.queue_capacity.max(1), policy, config.freshness));
        let _ = shared.intake.set(intake.clone());
        let workers = sinks.into_iter().map(|s| SinkWorker::start(s, &name, &health));
        let workers = workers.collect::<Result<Vec<_>, _>>().map_err(internal)?;
        {
            let mut progress = shared.progress.lock();
            progress.sessions = 1;
            progress.sinks = workers.iter().map(|w| w.counts().clone()).collect();
            progress.source = Some(info.clone());
        }

        let mut executor = Executor::new(ExecutorParts {
            shared: shared.clone(),
            health: health.clone(),
            intake: intake.clone(),
            pipeline,
            control,
            outlet: Outlet::new(
                name.clone(),
                health.clone(),
                workers,
                !info.live,
                config.report_threshold,
                config.provenance,
            ),
            live: info.live,
            max_in_pipeline: config.max_in_pipeline,
            on_step_error: config.on_step_error,
        });
        let started = executor.start();
        let session = Session {
            source,
            intake: intake.clone(),
            cancel: shared.cancel.clone(),
            health: health.clone(),
            number: 0,
            frame_limit: config.frame_limit,
            url,
        };
        let end = match started {
            Err(end) => {
                intake.close(DropReason::FeedStopped);
                drop(session);
                end
            }
            Ok(()) => {
                let source = thread::Builder::new().name(format!("nv-source {name}")).spawn(move || session.run());
                let source = source.map_err(internal)?;
                let failed = executor.run();
                shared.cancel.cancel();
                intake.close(executor.stop_reason());
                // The source was cancelled and nobody blocks it: it ends by itself.
                let source_end = source.join().unwrap_or(SourceEnd::Cancelled);
                failed.unwrap_or_else(|| executor.end_of(source_end))
            }
        };
        executor.close(config.sink_close_timeout);
        Ok(end)
    }
}
