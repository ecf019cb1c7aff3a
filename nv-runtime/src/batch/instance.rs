use std::time::Duration;

use nv_core::{Clock as _, HealthKind};
use nv_perception::{BatchEntry, BatchProcessor, BatchTrace, StageError, StageErrorKind};

use super::point::{Batch, Point, Reply};
use super::{BatchError, EntryKey, ProcessorFactory};
use crate::guard::{guard, panic_error};
use crate::sync::Arc;

/// Waits after a failed rebuild: from the first to the most, doubling.
const REBUILD_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One processor of a batch point, on its own thread.
pub(crate) struct Instance {
    point: Arc<Point>,
    factory: ProcessorFactory,
    index: usize,
}

/// What is kept of an entry while the processor has it.
struct Route {
    key: EntryKey,
    reply: Reply,
    wait: Duration,
}

/// Buffers that live as long as the instance, so that a batch allocates nothing.
#[derive(Default)]
struct Buffers {
    batch: Batch,
    routes: Vec<Route>,
    entries: Vec<BatchEntry>,
    outcomes: Vec<Result<nv_perception::StageOutput, Arc<StageError>>>,
    valid: Vec<bool>,
}

impl Instance {
    pub(crate) fn new(point: Arc<Point>, factory: ProcessorFactory, index: usize) -> Self {
        Self { point, factory, index }
    }

    /// Builds and starts the processor.
    pub(crate) fn build(&self) -> Result<Box<dyn BatchProcessor>, StageError> {
        guard("start", || {
            let mut processor = (self.factory)()?;
            processor.start()?;
            Ok(processor)
        })
    }

    /// Computes batches until the point is done.
    pub(crate) fn run(self, processor: Box<dyn BatchProcessor>) {
        let mut processor = Some(processor);
        let mut buffers = Buffers::default();
        let mut backoff = REBUILD_BACKOFF.0;
        loop {
            match &mut processor {
                Some(p) => {
                    if self.point.next_batch(&mut buffers.batch).is_none() {
                        break;
                    }
                    if let Err(error) = self.compute(p.as_mut(), &mut buffers) {
                        if let Some(broken) = processor.take() {
                            discard(broken);
                        }
                        self.lost(&error);
                        // The first try is at once: what waits need not fail for it.
                        processor = self.rebuild();
                        backoff = REBUILD_BACKOFF.0;
                    }
                }
                None => {
                    if !self.point.wait_unable(self.point.clock.now() + backoff) {
                        break;
                    }
                    processor = self.rebuild();
                    backoff = (backoff * 2).min(REBUILD_BACKOFF.1);
                }
            }
        }
        drop(buffers);
        if let Some(mut p) = processor
            && let Err(error) = guard("stop", || {
                p.stop();
                Ok(())
            })
        {
            tracing::warn!(batch = %self.point.name, instance = self.index, %error, "the processor panicked on stop");
        }
    }

    /// Computes one batch and routes its results.
    ///
    /// # Errors
    /// The processor panicked or lost its device: it is of no more use. Its entries have been failed.
    fn compute(&self, processor: &mut dyn BatchProcessor, buffers: &mut Buffers) -> Result<(), StageError> {
        let Buffers { batch, routes, entries, outcomes, valid } = buffers;
        for taken in batch.taken.drain(..) {
            routes.push(Route { key: taken.key, reply: taken.payload.reply, wait: taken.wait });
            entries.push(taken.payload.entry);
        }
        let size = entries.len();
        let started = self.point.clock.now();
        let result = guard("process", || processor.process(entries));
        let took = self.point.clock.now().since(started);

        let (broken, whole) = match result {
            Ok(()) => (None, None),
            Err(error) => {
                let error = Arc::new(error);
                (self.breaks(&error), Some(error))
            }
        };
        // The entries go first, so that whoever sees a result sees the frame's memory given back too.
        for mut entry in entries.drain(..) {
            outcomes.push(match &whole {
                Some(error) => Err(Arc::clone(error)),
                None => entry.take_result().map_err(Arc::new),
            });
        }
        let keys = routes.iter().zip(&*outcomes).map(|(route, outcome)| (route.key, outcome.is_ok()));
        self.point.close_batch(keys, took, whole.is_some(), valid);
        self.report_failures(outcomes, whole.as_deref());

        for (slot, (route, outcome)) in routes.drain(..).zip(outcomes.drain(..)).enumerate() {
            if !valid[slot] {
                continue;
            }
            let trace = BatchTrace { batch: batch.number, slot, size, wait: route.wait };
            let result =
                outcome.map_err(|error| BatchError::ProcessingFailed { batch: self.point.name.clone(), error });
            route.reply.send(route.key, result, Some((trace, took)));
        }
        match broken {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether the processor is of no more use after this error.
    fn breaks(&self, error: &StageError) -> Option<StageError> {
        matches!(error.kind(), StageErrorKind::Panic | StageErrorKind::DeviceLost | StageErrorKind::Fatal)
            .then(|| StageError::new(error.kind(), error.message()).with_detail(error.detail()))
    }

    fn report_failures(
        &self,
        outcomes: &[Result<nv_perception::StageOutput, Arc<StageError>>],
        whole: Option<&StageError>,
    ) {
        let failed = outcomes.iter().filter(|o| o.is_err()).count();
        let first = whole.or_else(|| outcomes.iter().find_map(|o| o.as_ref().err()).map(Arc::as_ref));
        if let Some(error) = first {
            let batch = self.point.name.clone();
            tracing::debug!(%batch, failed, %error, detail = error.detail(), "entries failed");
            self.point
                .health
                .report(None, HealthKind::BatchFailed { batch, entries: failed, error: error.to_string() });
        }
    }

    /// Notes that the processor is gone.
    fn lost(&self, error: &StageError) {
        let mut state = self.point.state();
        state.able -= 1;
        state.trouble = error.to_string();
        drop(state);
        let batch = self.point.name.clone();
        let kind = HealthKind::ProcessorRebuilding { batch, instance: self.index, error: error.to_string() };
        self.point.health.report(None, kind);
    }

    fn rebuild(&self) -> Option<Box<dyn BatchProcessor>> {
        let built = self.build();
        let mut state = self.point.state();
        match built {
            Ok(processor) => {
                state.able += 1;
                state.counts.rebuilds += 1;
                Some(processor)
            }
            Err(error) => {
                state.trouble = format!("it could not be built anew: {error}");
                drop(state);
                tracing::warn!(batch = %self.point.name, instance = self.index, %error, "the processor could not be rebuilt");
                None
            }
        }
    }
}

/// Drops a processor that may panic in doing so.
fn discard(processor: Box<dyn BatchProcessor>) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(processor))) {
        let error = panic_error("drop", panic);
        tracing::warn!(%error, "a processor panicked when it was dropped");
    }
}

/// When instances are started, what each reports.
pub(crate) type Started = (usize, Result<nv_perception::BatchCapabilities, StageError>);

/// The body of an instance's thread: builds the processor, reports, computes.
pub(crate) fn instance_thread(instance: Instance, started: &crossbeam_channel::Sender<Started>) {
    let index = instance.index;
    let built = instance.build().and_then(|p| guard("capabilities", || Ok(p.capabilities())).map(|c| (p, c)));
    match built {
        Ok((processor, capabilities)) => {
            instance.point.set_capabilities(capabilities.clone());
            instance.point.state().able += 1;
            // Nobody waits for it any more where another instance failed.
            let _ = started.send((index, Ok(capabilities)));
            instance.run(processor);
        }
        Err(error) => {
            let _ = started.send((index, Err(error)));
        }
    }
}
