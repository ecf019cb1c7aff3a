use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nv_core::{Clock as _, HealthKind};
use nv_perception::{BatchEntry, BatchProcessor, BatchTrace, StageError, StageErrorKind, StageOutput};

use super::attempt::{Attempt, AttemptConfig, CallResult};
use super::breaker::RebuildPace;
use super::core::Verdict;
use super::point::{Batch, Point};
use super::route::{BatchReport, Job, Reply};
use super::{BatchError, EntryKey, ProcessorFactory};
use crate::decisions::Recorded as _;
use crate::guard::{Foreign, guard, panic_error};
use crate::sync::Arc;

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
    part: u32,
    reply: Reply,
    wait: Duration,
}

/// Buffers that live as long as the instance, so that a batch allocates nothing.
#[derive(Default)]
struct Buffers {
    batch: Batch,
    routes: Vec<Route>,
    entries: Vec<BatchEntry>,
    /// By slot: the error of the last call that the entry was part of, if that call failed as a whole.
    failed: Vec<Option<Arc<StageError>>>,
    attempt: Attempt,
    outcomes: Vec<Outcome>,
    verdicts: Vec<Verdict>,
    wanted: Vec<bool>,
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
        let name = format!("{} {}", self.point.name, self.index);
        let attempt = Attempt::recorded(AttemptConfig { instance: self.index }, self.point.decisions.as_ref(), &name);
        let mut buffers = Buffers { attempt, ..Buffers::default() };
        let mut pace = RebuildPace::default();
        loop {
            if processor.is_some() {
                if self.point.next_batch(self.index, &mut buffers.batch).is_none() {
                    return;
                }
                if self.compute(processor, &mut buffers) {
                    pace.computed();
                }
            } else {
                let wait = pace.next_wait();
                if !wait.is_zero() && !self.point.wait_unable(self.point.clock.now() + wait) {
                    return;
                }
                *processor = self.rebuild();
            }
        }
    }

    /// Computes one batch and routes its results. What is called again after a failure is [`Attempt`]'s to say; a processor
    /// that was lost is built anew only for that. Returns whether anything was computed.
    fn compute(&self, processor: &mut Option<Processor>, buffers: &mut Buffers) -> bool {
        let Buffers { batch, routes, entries, failed, attempt, outcomes, verdicts, wanted } = buffers;
        for (slot, taken) in batch.taken.drain(..).enumerate() {
            let Job { entry, reply } = taken.payload;
            routes.push(Route { key: taken.key, part: taken.part, reply, wait: taken.wait });
            entries.push(entry.at_slot(slot));
        }
        let size = entries.len();
        failed.clear();
        failed.resize(size, None);
        let clock = &self.point.clock;
        let mut took = Duration::ZERO;
        attempt.begin(size, batch.idempotent, clock.now() + self.point.config.response_timeout);
        loop {
            if processor.is_none() && attempt.has_more(clock.now()) {
                *processor = self.rebuild();
            }
            let Some(part) = attempt.next_call(clock.now(), processor.is_some()) else { break };
            if attempt.retries() {
                self.point.calls_again(self.index);
            }
            // The processor may have left them in another order.
            entries.sort_unstable_by_key(BatchEntry::slot);
            let called = clock.now();
            attempt.called(self.call(processor, &mut entries[part.clone()], &mut failed[part]));
            took += clock.now().since(called);
        }

        take_outcomes(entries, failed, outcomes);
        verdicts.clear();
        verdicts.extend(outcomes.iter().enumerate().map(|(slot, outcome)| attempt.verdict(slot, outcome.is_ok())));
        let error = failed.iter().flatten().next().map(|e| e.to_string());
        let report = BatchReport { instance: self.index, took, retried: attempt.retried(), error: error.as_deref() };
        let parts = routes.iter().map(|route| route.key).zip(verdicts.iter().copied());
        self.point.close_batch(parts, &report, wanted);

        let mut failure: Option<(usize, Arc<StageError>)> = None;
        for (slot, (route, outcome)) in routes.drain(..).zip(outcomes.drain(..)).enumerate() {
            if let Err(error) = &outcome {
                failure.get_or_insert_with(|| (0, Arc::clone(error))).0 += 1;
            }
            if !wanted[slot] {
                continue;
            }
            let trace = BatchTrace { batch: batch.number, slot, size, wait: route.wait };
            let result =
                outcome.map_err(|error| BatchError::ProcessingFailed { batch: self.point.name.clone(), error });
            route.reply.send((route.key, route.part), result, Some((trace, took)));
        }
        if let Some((failed, error)) = failure {
            self.report_failure(failed, &error);
        }
        verdicts.contains(&Verdict::Computed)
    }

    /// Calls the processor for `entries` and marks in `failed` whether the call failed. A processor that is of no more use is
    /// thrown away.
    fn call(
        &self,
        processor: &mut Option<Processor>,
        entries: &mut [BatchEntry],
        failed: &mut [Option<Arc<StageError>>],
    ) -> CallResult {
        let Some(p) = processor else { return CallResult::Broke };
        // What an earlier call that failed has left in them.
        entries.iter_mut().filter(|e| e.is_finished()).for_each(|e| drop(e.take_result()));
        match guard("process", || p.process(entries)) {
            Ok(()) => {
                failed.fill(None);
                CallResult::Ok
            }
            Err(error) => {
                let error = Arc::new(error);
                failed.fill(Some(Arc::clone(&error)));
                if !breaks(&error) {
                    return CallResult::Failed;
                }
                *processor = None;
                self.point.instance_lost(self.index, error.to_string());
                CallResult::Broke
            }
        }
    }

    /// Tells that so many entries of a batch have failed, and of the first why.
    fn report_failure(&self, failed: usize, error: &StageError) {
        let batch = self.point.name.clone();
        tracing::debug!(%batch, failed, %error, detail = error.detail(), "entries failed");
        self.point.health.report(None, HealthKind::BatchFailed { batch, entries: failed, error: error.to_string() });
    }

    fn rebuild(&self) -> Option<Processor> {
        match self.build() {
            Ok(processor) => {
                self.point.instance_rebuilt();
                Some(processor)
            }
            Err(error) => {
                tracing::warn!(batch = %self.point.name, instance = self.index, %error, "the processor could not be rebuilt");
                self.point.rebuild_failed(format!("it could not be built anew: {error}"));
                None
            }
        }
    }
}

/// Whether the processor is of no more use after this error.
fn breaks(error: &StageError) -> bool {
    matches!(error.kind(), StageErrorKind::Panic | StageErrorKind::DeviceLost | StageErrorKind::Fatal)
}

/// Takes the results out of a batch, in the order in which it was made; for entries of a failed call, its error. A processor
/// may have put its entries into another order, and one that is no more among them has no result. The entries go here, so
/// that whoever sees a result sees the frame's memory given back too.
fn take_outcomes(entries: &mut Vec<BatchEntry>, failed: &[Option<Arc<StageError>>], outcomes: &mut Vec<Outcome>) {
    entries.sort_unstable_by_key(BatchEntry::slot);
    let mut entries = entries.drain(..).peekable();
    for (slot, failed) in failed.iter().enumerate() {
        while entries.next_if(|e| e.slot() < slot).is_some() {}
        let entry = entries.next_if(|e| e.slot() == slot);
        if let Some(error) = failed {
            outcomes.push(Err(Arc::clone(error)));
            continue;
        }
        let result = match entry {
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
            instance.point.instance_started(capabilities);
            Some(processor)
        }
        Err(error) => {
            // Nobody waits for it any more where another instance failed.
            let _ = started.send((instance.index, Err(error)));
            return;
        }
    };
    let _ = started.send((instance.index, Ok(())));
    // A panic here is none of a call that is guarded: memory of a frame, say, that panics when it is given back. The instance
    // must not be lost by it, or its point would answer nobody any more.
    while let Err(panic) = catch_unwind(AssertUnwindSafe(|| instance.run(&mut processor))) {
        let error = panic_error("the instance's thread", panic);
        if processor.take().is_some() {
            instance.point.instance_lost(instance.index, error.to_string());
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
            take_outcomes(&mut entries, &[None, None, None], &mut outcomes);
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
