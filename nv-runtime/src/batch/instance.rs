use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nv_core::{Clock as _, HealthKind};
use nv_perception::{BatchEntry, BatchProcessor, BatchTrace, StageError, StageErrorKind, StageOutput};

use super::point::{Batch, Point, Reply};
use super::{BatchError, EntryKey, ProcessorFactory};
use crate::guard::{Foreign, guard, panic_error};
use crate::sync::Arc;

/// Waits after a failed rebuild: from the first to the most, doubling.
const REBUILD_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

type Processor = Foreign<Box<dyn BatchProcessor>>;

/// What became of an entry. An error may be shared, by a batch that failed as a whole.
type Outcome = Result<StageOutput, Arc<StageError>>;

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
    outcomes: Vec<Outcome>,
    valid: Vec<bool>,
}

impl Instance {
    pub(crate) fn new(point: Arc<Point>, factory: ProcessorFactory, index: usize) -> Self {
        Self { point, factory, index }
    }

    /// Builds and starts the processor.
    fn build(&self) -> Result<Processor, StageError> {
        guard("start", || {
            let mut processor = Foreign::new((self.factory)()?);
            processor.start()?;
            Ok(processor)
        })
    }

    /// Computes batches until the point is done. `processor` is `None` while it is lost.
    fn run(&self, processor: &mut Option<Processor>) {
        let mut buffers = Buffers::default();
        let mut backoff = REBUILD_BACKOFF.0;
        loop {
            match processor {
                Some(p) => {
                    if self.point.next_batch(&mut buffers.batch).is_none() {
                        return;
                    }
                    if let Err(error) = self.compute(&mut ***p, &mut buffers) {
                        *processor = None;
                        self.lost(&error);
                        // The first try is at once: what waits need not fail for it.
                        *processor = self.rebuild();
                        backoff = REBUILD_BACKOFF.0;
                    }
                }
                None => {
                    if !self.point.wait_unable(self.point.clock.now() + backoff) {
                        return;
                    }
                    *processor = self.rebuild();
                    backoff = (backoff * 2).min(REBUILD_BACKOFF.1);
                }
            }
        }
    }

    /// Computes one batch and routes its results.
    ///
    /// # Errors
    /// The processor panicked or lost its device: it is of no more use. Its entries have been failed.
    fn compute(&self, processor: &mut dyn BatchProcessor, buffers: &mut Buffers) -> Result<(), StageError> {
        let Buffers { batch, routes, entries, outcomes, valid } = buffers;
        for (slot, taken) in batch.taken.drain(..).enumerate() {
            routes.push(Route { key: taken.key, reply: taken.payload.reply, wait: taken.wait });
            entries.push(taken.payload.entry.at_slot(slot));
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
        match &whole {
            Some(error) => {
                entries.clear();
                outcomes.extend((0..size).map(|_| Err(Arc::clone(error))));
            }
            None => take_outcomes(entries, outcomes),
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

    fn report_failures(&self, outcomes: &[Outcome], whole: Option<&StageError>) {
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

    fn rebuild(&self) -> Option<Processor> {
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

/// Takes the results out of a batch, in the order in which it was made. A processor may have put its entries into another,
/// and one that is no more among them has no result.
fn take_outcomes(entries: &mut Vec<BatchEntry>, outcomes: &mut Vec<Outcome>) {
    let size = entries.len();
    entries.sort_unstable_by_key(BatchEntry::slot);
    let mut entries = entries.drain(..).peekable();
    for slot in 0..size {
        while entries.next_if(|e| e.slot() < slot).is_some() {}
        let result = match entries.next_if(|e| e.slot() == slot) {
            Some(mut entry) => entry.take_result(),
            None => Err(StageError::input("the batch processor lost this entry")),
        };
        outcomes.push(result.map_err(Arc::new));
    }
}

/// When instances are started, what each reports.
pub(crate) type Started = (usize, Result<(), StageError>);

/// The body of an instance's thread: builds the processor, reports, computes.
pub(crate) fn instance_thread(instance: &Instance, started: &crossbeam_channel::Sender<Started>) {
    let built = instance.build().and_then(|p| guard("capabilities", || Ok(p.capabilities())).map(|c| (p, c)));
    let mut processor = match built {
        Ok((processor, capabilities)) => {
            instance.point.set_capabilities(capabilities);
            Some(processor)
        }
        Err(error) => {
            // Nobody waits for it any more where another instance failed.
            let _ = started.send((instance.index, Err(error)));
            return;
        }
    };
    instance.point.state().able += 1;
    let _ = started.send((instance.index, Ok(())));
    // A panic here is none of a call that is guarded: memory of a frame, say, that panics when it is given back. The instance
    // must not be lost by it, or its point would answer nobody any more.
    while let Err(panic) = catch_unwind(AssertUnwindSafe(|| instance.run(&mut processor))) {
        let error = panic_error("the instance's thread", panic);
        if processor.take().is_some() {
            instance.lost(&error);
        }
    }
    if let Some(mut processor) = processor
        && let Err(error) = guard("stop", || {
            processor.stop();
            Ok(())
        })
    {
        tracing::warn!(batch = %instance.point.name, instance = instance.index, %error, "the processor panicked on stop");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nv_core::{FrameHeader, FramePool, PixelFormat, Size};
    use nv_perception::Perception;

    use super::*;

    #[test]
    fn outcomes_are_in_the_batchs_order() {
        fn check(change: fn(&mut [BatchEntry]), expected: [Option<&str>; 3]) {
            let header = FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8);
            let frame = FramePool::new(0).take(header).unwrap().freeze();
            let entry = |slot| {
                let mut entry =
                    BatchEntry::new("a".into(), 0, frame.clone(), None, Arc::new(Perception::default())).at_slot(slot);
                entry.finish(Err(StageError::input(format!("result {slot}"))));
                entry
            };
            let mut entries: Vec<_> = (0..3).map(entry).collect();
            change(&mut entries);
            let mut outcomes = Vec::new();
            take_outcomes(&mut entries, &mut outcomes);
            let lost = "the batch processor lost this entry";
            let texts: Vec<_> = outcomes.into_iter().map(|o| o.unwrap_err().message().to_owned()).collect();
            assert_eq!(texts, expected.map(|e| e.unwrap_or(lost)));
        }
        let all = [Some("result 0"), Some("result 1"), Some("result 2")];
        check(|_| (), all);
        check(|batch| batch.reverse(), all);
        check(|batch| batch.swap(1, 2), all);
        check(
            |batch| {
                batch[1] = BatchEntry::new("b".into(), 0, batch[1].frame().clone(), None, Arc::default()).at_slot(2);
                batch[1].finish(Err(StageError::input("result 2")));
            },
            [Some("result 0"), None, Some("result 2")],
        );
    }
}
