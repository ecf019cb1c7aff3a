use nv_core::{CancelToken, DropReason};
use nv_perception::{
    BatchEntry, FrameSource, SourceError, SourceErrorKind, SourceFactory, SourceItem, StageError, StageOutput,
    StreamInfo,
};
use nv_runtime::{AddFeedError, BatchConfig};
use nv_tests::{fed_source, gate, number_processor, processor, scene_source, stage};

use super::*;

#[test]
fn stopping_lets_what_is_inside_leave() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let held = processor(move |batch: &mut [BatchEntry]| {
        visitor.pass();
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let detector = batch(&runtime, held, BatchConfig::default());
    let (feeder, source) = fed_source(false);
    let (feed, outputs) = feed(&runtime, "file", source, detect(&detector), |_| ());
    for n in 0..3 {
        feeder.frame(n);
    }
    gate.wait_for_visitor();
    while feed.stats().frames.received < 3 {
        std::thread::yield_now();
    }
    feed.stop(LONG);
    drop(gate);
    check_end(&feed, "stopped");
    check_frames(&feed, 3, &[]);
    assert_eq!(outputs.try_iter().count(), 3);
    shut_down(&runtime);
}

#[test]
fn when_the_drain_is_over_what_is_left_is_dropped_by_name() {
    for (whole, reason) in [(false, DropReason::FeedStopped), (true, DropReason::Shutdown)] {
        let runtime = runtime();
        let (gate, visitor) = gate();
        let held = processor(move |batch: &mut [BatchEntry]| {
            visitor.pass();
            batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
            Ok(())
        });
        let detector = batch(&runtime, held, BatchConfig { max_batch_size: 1, ..BatchConfig::default() });
        let (feeder, source) = fed_source(false);
        let (feed, _) = feed(&runtime, "file", source, detect(&detector), |_| ());
        for n in 0..5 {
            feeder.frame(n);
        }
        gate.wait_for_visitor();
        while feed.stats().frames.received < 5 {
            std::thread::yield_now();
        }
        if whole {
            std::thread::scope(|scope| {
                let report = scope.spawn(|| runtime.shutdown(Duration::ZERO));
                feed.wait();
                drop(gate);
                assert!(report.join().unwrap().abandoned.is_empty());
            });
        } else {
            feed.stop(Duration::ZERO);
            feed.wait();
            drop(gate);
        }
        check_end(&feed, "stopped");
        check_frames(&feed, 0, &[(reason, 5)]);
        shut_down(&runtime);
    }
}

#[test]
fn a_frame_limit_ends_the_feed() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feed, outputs) = feed(&runtime, "file", scene_source(100), detect(&detector), |c| c.frame_limit = Some(7));
    check_end(&feed, "limit_reached");
    check_frames(&feed, 7, &[]);
    assert_eq!(numbers(&outputs), (0..7).collect::<Vec<_>>());
    shut_down(&runtime);
}

#[test]
fn a_source_that_can_not_be_opened_ends_its_feed_alone() {
    struct Missing;
    impl SourceFactory for Missing {
        fn schemes(&self) -> &[&str] {
            &["missing"]
        }

        fn open(&self, spec: &SourceSpec, _: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
            Err(SourceError::new(SourceErrorKind::NotFound, &spec.url, "there is no such file"))
        }
    }
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (missing, _) = feed(&runtime, "missing", Arc::new(Missing), detect(&detector), |_| ());
    let (whole, _) = feed(&runtime, "whole", scene_source(5), detect(&detector), |_| ());
    check_end(&missing, "source_failed");
    assert_eq!(missing.wait().to_string(), "test:: there is no such file");
    check_end(&whole, "end_of_stream");
    check_frames(&whole, 5, &[]);
    assert_eq!(missing.stats().sessions, 0);
    shut_down(&runtime);
}

#[test]
fn a_source_that_panics_ends_its_feed_with_an_error() {
    struct Bad(StreamInfo);
    impl FrameSource for Bad {
        fn info(&self) -> &StreamInfo {
            &self.0
        }

        fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
            panic!("lost the thread")
        }
    }
    struct Factory;
    impl SourceFactory for Factory {
        fn schemes(&self) -> &[&str] {
            &["bad"]
        }

        fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
            let good = scene_source(1).open(spec, cancel)?;
            Ok(Box::new(Bad(good.info().clone())))
        }
    }
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feed, _) = feed(&runtime, "bad", Arc::new(Factory), detect(&detector), |_| ());
    check_end(&feed, "source_failed");
    assert_eq!(feed.wait().to_string(), "test:: the source failed: panic in next: lost the thread");
    shut_down(&runtime);
}

#[test]
fn a_stage_that_does_not_start_ends_its_feed() {
    use nv_perception::{Stage, StageInput, StreamContext};
    struct Late;
    impl Stage for Late {
        fn start(&mut self, stream: &StreamContext) -> Result<(), StageError> {
            Err(StageError::fatal(format!("{} of {} has no licence", stream.step, stream.feed)))
        }

        fn process(&mut self, _: &StageInput<'_>) -> Result<StageOutput, StageError> {
            unreachable!("it never starts")
        }
    }
    let runtime = runtime();
    let pipeline = FeedPipeline::builder().stage("late", Arc::new(|| Ok(Box::new(Late)))).build().unwrap();
    let (feed, _) = feed(&runtime, "file", scene_source(5), pipeline, |_| ());
    check_end(&feed, "stage_failed");
    assert_eq!(feed.wait().to_string(), "step late: late of file has no licence");
    check_frames(&feed, 0, &[]);
    shut_down(&runtime);
}

#[test]
fn names_are_free_again_when_a_feed_is_removed() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let (first, _) = feed(&runtime, "gate", source, detect(&detector), |_| ());
    let config = FeedConfig::new("gate", scene_source(1), SourceSpec::new("test:"), detect(&detector));
    assert!(matches!(runtime.add_feed(config), Err(AddFeedError::Duplicate(name)) if name == "gate"));
    assert_eq!(runtime.feeds().len(), 1);
    runtime.remove_feed("gate", LONG).unwrap();
    check_end(&first, "stopped");
    assert!(runtime.remove_feed("gate", LONG).is_none());
    drop(feeder);
    let (second, _) = feed(&runtime, "gate", scene_source(3), detect(&detector), |_| ());
    check_end(&second, "end_of_stream");
    shut_down(&runtime);
    let config = FeedConfig::new("late", scene_source(1), SourceSpec::new("test:"), detect(&detector));
    assert!(matches!(runtime.add_feed(config), Err(AddFeedError::Closed)));
}

#[test]
fn a_slow_stage_slows_its_own_feed_only() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (gate, visitor) = gate();
    let slow = stage(move |_| {
        visitor.pass();
        Ok(StageOutput::default())
    });
    let pipeline = FeedPipeline::builder().batch(&detector).stage("slow", slow).build().unwrap();
    let (slow, _) = feed(&runtime, "slow", scene_source(20), pipeline, |_| ());
    gate.wait_for_visitor();
    let (quick, _) = feed(&runtime, "quick", scene_source(200), detect(&detector), |_| ());
    check_end(&quick, "end_of_stream");
    check_frames(&quick, 200, &[]);
    assert_eq!(slow.stats().frames.emitted, 0);
    drop(gate);
    check_end(&slow, "end_of_stream");
    check_frames(&slow, 20, &[]);
    shut_down(&runtime);
}
