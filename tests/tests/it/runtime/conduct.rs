//! What others' code may do, and what it is promised: which calls come when, and who is hurt when one goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nv_core::{CancelToken, HealthKind, Name};
use nv_perception::{
    BatchCapabilities, BatchEntry, BatchProcessor, FrameSource, Output, OutputSink, SinkError, SourceError,
    SourceErrorKind, SourceFactory, SourceItem, Stage, StageError, StageInput, StageOutput, StreamContext, StreamInfo,
};
use nv_runtime::{BatchConfig, SinkConfig, StageFactory};
use nv_tests::{fed_source, number_processor, scene_source, stage};

use super::*;

/// Counts what it is called for, and misbehaves as it is told.
#[derive(Clone, Default)]
struct Calls {
    starts: Arc<AtomicU32>,
    stops: Arc<AtomicU32>,
    drops: Arc<AtomicU32>,
}

impl Calls {
    fn seen(&self) -> [u32; 3] {
        [&self.starts, &self.stops, &self.drops].map(|n| n.load(Ordering::SeqCst))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Start,
    PanicAt(u64),
    FatalAt(u64),
    Drop,
}

struct Counted(Calls, Fault);

impl Stage for Counted {
    fn start(&mut self, _: &StreamContext) -> Result<(), StageError> {
        self.0.starts.fetch_add(1, Ordering::SeqCst);
        if self.1 == Fault::Start { Err(StageError::fatal("no licence")) } else { Ok(()) }
    }

    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        match self.1 {
            Fault::PanicAt(seq) if seq == input.frame().seq() => panic!("stumbled"),
            Fault::FatalAt(seq) if seq == input.frame().seq() => Err(StageError::fatal("worn out")),
            _ => Ok(StageOutput::default()),
        }
    }

    fn stop(&mut self) {
        self.0.stops.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, Ordering::SeqCst);
        assert!(self.1 != Fault::Drop, "stumbled on the way out");
    }
}

fn counted(calls: &Calls, fault: Fault) -> StageFactory {
    let calls = calls.clone();
    Arc::new(move || Ok(Box::new(Counted(calls.clone(), fault))))
}

#[test]
fn a_stage_is_stopped_once_if_it_started_and_did_not_break() {
    /// A pipeline of a sound stage, one with `fault`, and another sound one.
    fn check(fault: Fault, end: &str, before: [u32; 3], faulty: [u32; 3], after: [u32; 3]) {
        let runtime = runtime();
        let calls: [Calls; 3] = Default::default();
        let pipeline = FeedPipeline::builder()
            .stage("before", counted(&calls[0], Fault::None))
            .stage("faulty", counted(&calls[1], fault))
            .stage("after", counted(&calls[2], Fault::None))
            .build()
            .unwrap();
        let (feed, _) = feed(&runtime, "file", scene_source(3), pipeline, |_| ());
        check_end(&feed, end);
        assert_eq!(calls.each_ref().map(Calls::seen), [before, faulty, after], "starts, stops, drops");
        shut_down(&runtime);
    }
    let once = [1, 1, 1];
    check(Fault::None, "end_of_stream", once, once, once);
    check(Fault::Start, "stage_failed", once, [1, 0, 1], [0, 0, 1]);
    check(Fault::PanicAt(1), "end_of_stream", once, [2, 1, 2], once);
    check(Fault::FatalAt(1), "end_of_stream", once, [2, 1, 2], once);
    check(Fault::Drop, "end_of_stream", once, once, once);
}

#[test]
fn a_stage_that_broke_and_can_not_be_built_anew_is_not_stopped() {
    let runtime = runtime();
    let calls = Calls::default();
    let builds = AtomicU32::new(0);
    let inner = counted(&calls, Fault::PanicAt(1));
    let once: StageFactory = Arc::new(move || {
        if builds.fetch_add(1, Ordering::SeqCst) == 0 { inner() } else { Err(StageError::fatal("only once")) }
    });
    let pipeline = FeedPipeline::builder().stage("once", once).build().unwrap();
    let (feed, _) = feed(&runtime, "file", scene_source(3), pipeline, |_| ());
    check_end(&feed, "stage_failed");
    assert_eq!(calls.seen(), [1, 0, 1]);
    shut_down(&runtime);
}

#[test]
fn a_stage_that_panics_when_it_is_dropped_leaves_the_rest_of_its_feed_whole() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let pipeline =
        FeedPipeline::builder().stage("drop", counted(&Calls::default(), Fault::Drop)).batch(&detector).build();
    let closed = Arc::new(AtomicU32::new(0));
    let (feed, outputs) = feed(&runtime, "file", scene_source(3), pipeline.unwrap(), |c| {
        c.sinks.push(SinkConfig::new("closing", Box::new(Closing(closed.clone()))));
    });
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 3, &[]);
    assert_eq!(outputs.try_iter().count(), 3);
    assert_eq!(closed.load(Ordering::SeqCst), 1, "its sinks are closed");
    shut_down(&runtime);
}

/// A sink that counts how often it is closed.
struct Closing(Arc<AtomicU32>);

impl OutputSink for Closing {
    fn emit(&mut self, _: &Output) -> Result<(), SinkError> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// What a scripted source does wrong.
#[derive(Clone, Copy, PartialEq)]
enum SourceFault {
    Open,
    OpenPanic,
    Info,
    CancelPanic,
    DropPanic,
    BreaksWhenCancelled,
}

struct Faulty(SourceFault);

struct FaultySource {
    inner: Box<dyn FrameSource>,
    fault: SourceFault,
    cancel: CancelToken,
}

impl SourceFactory for Faulty {
    fn schemes(&self) -> &[&str] {
        &["test"]
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        match self.0 {
            SourceFault::Open => Err(SourceError::new(SourceErrorKind::NotFound, &spec.url, "there is no such file")),
            SourceFault::OpenPanic => panic!("stumbled"),
            fault => {
                let inner = scene_source(3).open(spec, cancel)?;
                if fault == SourceFault::CancelPanic {
                    cancel.on_cancel(|| panic!("stumbled"));
                }
                Ok(Box::new(FaultySource { inner, fault, cancel: cancel.clone() }))
            }
        }
    }
}

impl FrameSource for FaultySource {
    fn info(&self) -> &StreamInfo {
        assert!(self.fault != SourceFault::Info, "stumbled");
        self.inner.info()
    }

    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError> {
        match self.inner.next(timeout)? {
            SourceItem::End if self.fault == SourceFault::BreaksWhenCancelled => {
                self.cancel.wait_timeout(LONG);
                Err(SourceError::new(SourceErrorKind::Io, "test:", "the connection was closed"))
            }
            item => Ok(item),
        }
    }
}

impl Drop for FaultySource {
    fn drop(&mut self) {
        assert!(self.fault != SourceFault::DropPanic, "stumbled on the way out");
    }
}

#[test]
fn whatever_a_source_does_its_feed_ends_and_its_sinks_are_closed() {
    fn check(fault: SourceFault, end: &str, text: &str, emitted: u64) {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig::default());
        let closed = Arc::new(AtomicU32::new(0));
        let (feed, _) = feed(&runtime, "file", Arc::new(Faulty(fault)), detect(&detector), |c| {
            c.sinks.push(SinkConfig::new("closing", Box::new(Closing(closed.clone()))));
        });
        if fault == SourceFault::BreaksWhenCancelled {
            while feed.stats().frames.emitted < 3 {
                std::thread::yield_now();
            }
            feed.stop(LONG);
        }
        check_end(&feed, end);
        assert_eq!(feed.wait().to_string(), text);
        check_frames(&feed, emitted, &[]);
        assert_eq!(closed.load(Ordering::SeqCst), 1);
        shut_down(&runtime);
    }
    check(SourceFault::Open, "source_failed", "test:: there is no such file", 0);
    check(SourceFault::OpenPanic, "source_failed", "test:: the source failed: panic in open: stumbled", 0);
    check(SourceFault::Info, "source_failed", "test:: the source failed: panic in info: stumbled", 0);
    check(SourceFault::CancelPanic, "end_of_stream", "end of stream", 3);
    check(SourceFault::DropPanic, "end_of_stream", "end of stream", 3);
    check(SourceFault::BreaksWhenCancelled, "stopped", "stopped", 3);
}

#[test]
fn a_processor_that_panics_at_the_end_takes_nothing_with_it() {
    struct Bad;
    impl BatchProcessor for Bad {
        fn capabilities(&self) -> BatchCapabilities {
            BatchCapabilities::default()
        }

        fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
            batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
            Ok(())
        }

        fn stop(&mut self) {
            panic!("stumbled")
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("stumbled again")
        }
    }
    let runtime = runtime();
    let detector = batch(&runtime, Arc::new(|| Ok(Box::new(Bad))), BatchConfig::default());
    let (feed, _) = feed(&runtime, "file", scene_source(3), detect(&detector), |_| ());
    check_end(&feed, "end_of_stream");
    shut_down(&runtime);
}

#[test]
fn the_end_that_is_told_can_be_read() {
    let runtime = runtime();
    let health = runtime.health();
    for n in 0..20 {
        let pipeline = FeedPipeline::builder().stage("nothing", stage(|_| Ok(StageOutput::default()))).build();
        let (feed, _) = feed(&runtime, &format!("file {n}"), scene_source(1), pipeline.unwrap(), |_| ());
        let ended = |kind: &HealthKind| matches!(kind, HealthKind::FeedEnded { .. });
        let event = health.iter().find(|event| ended(&event.kind)).unwrap();
        assert_eq!(event.feed.as_ref().map(Name::as_str), Some(&**feed.name()));
        assert_eq!(feed.stats().end.map(|end| end.as_str()), Some("end_of_stream"));
    }
    shut_down(&runtime);
}

#[test]
fn what_a_stopped_feed_could_not_hand_over_is_counted_at_the_sink() {
    struct Held(nv_tests::Visitor);
    impl OutputSink for Held {
        fn emit(&mut self, _: &Output) -> Result<(), SinkError> {
            self.0.pass();
            Ok(())
        }
    }
    let runtime = runtime();
    let (gate, visitor) = nv_tests::gate();
    let (feeder, source) = fed_source(false);
    let pipeline = FeedPipeline::builder().stage("nothing", stage(|_| Ok(StageOutput::default()))).build();
    let (feed, outputs) = feed(&runtime, "file", source, pipeline.unwrap(), |c| {
        c.sinks.insert(0, SinkConfig { queue_capacity: 1, ..SinkConfig::new("held", Box::new(Held(visitor))) });
    });
    feeder.frame(0);
    gate.wait_for_visitor();
    // One waits in the sink's queue; the third finds it full, and the feed waits.
    feeder.frame(1);
    feeder.frame(2);
    while feed.stats().frames.emitted < 3 {
        std::thread::yield_now();
    }
    feed.stop(Duration::ZERO);
    // The feed gives the third one up, then the sink is let go.
    while feed.stats().sinks[0].passed_by == 0 && feed.stats().end.is_none() {
        std::thread::yield_now();
    }
    drop(gate);
    check_end(&feed, "stopped");
    let held = &feed.stats().sinks[0];
    assert_eq!((held.taken, held.failed, held.passed_by), (2, 0, 1));
    assert_eq!(outputs.try_iter().count(), 3, "the other sink has room for it");
    shut_down(&runtime);
}
