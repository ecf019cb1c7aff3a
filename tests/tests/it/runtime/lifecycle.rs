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
            panic!("lost the thread of rtsp://joe:s3cret@cam/1")
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
    let url = SourceSpec::new("rtsp://joe:s3cret@cam/1");
    let (feed, _) = feed(&runtime, "bad", Arc::new(Factory), detect(&detector), |c| c.spec = url);
    check_end(&feed, "source_failed");
    assert_eq!(
        feed.wait().to_string(),
        "rtsp://***@cam/1: the source failed: panic in next: lost the thread of rtsp://***@cam/1"
    );
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
fn a_name_is_in_use_until_its_feed_has_ended() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (gate, visitor) = gate();
    let held = stage(move |_| {
        visitor.pass();
        Ok(StageOutput::default())
    });
    let pipeline = FeedPipeline::builder().batch(&detector).stage("held", held).build().unwrap();
    let (going, _) = feed(&runtime, "gate", scene_source(1), pipeline, |_| ());
    gate.wait_for_visitor();
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| runtime.remove_feed("gate", LONG));
        while going.stats().state != nv_runtime::FeedState::Stopping {
            std::thread::yield_now();
        }
        let config = FeedConfig::new("gate", scene_source(1), SourceSpec::new("test:"), detect(&detector));
        assert!(matches!(runtime.add_feed(config), Err(AddFeedError::Duplicate(_))));
        assert!(runtime.remove_feed("gate", LONG).is_none(), "another call does so");
        let in_use = runtime.remove_batch("detector", Duration::ZERO).unwrap_err();
        assert_eq!(in_use.to_string(), "batch point \"detector\" is in use; remove these feeds first: gate");
        drop(gate);
        assert!(removing.join().unwrap().is_some());
    });
    check_frames(&going, 1, &[]);
    runtime.remove_batch("detector", Duration::ZERO).unwrap();
    shut_down(&runtime);
}

#[test]
fn a_grace_without_end_is_one() {
    let runtime = Runtime::new(RuntimeConfig { grace: Duration::MAX, ..own_permits() });
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (_feeder, source) = fed_source(true);
    let (removed, _) = feed(&runtime, "gate", source, detect(&detector), |_| ());
    runtime.remove_feed("gate", Duration::MAX).unwrap();
    check_end(&removed, "stopped");
    shut_down(&runtime);
}

#[test]
fn one_interrupter_that_blocks_holds_up_no_other_feed() {
    struct Factory(nv_tests::Visitor);
    impl SourceFactory for Factory {
        fn schemes(&self) -> &[&str] {
            &["blocks"]
        }

        fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
            let visitor = self.0.clone();
            cancel.on_cancel(move || visitor.pass());
            scene_source(u64::MAX).open(spec, cancel)
        }
    }
    let (gate, visitor) = gate();
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let blocks = |name| feed(&runtime, name, Arc::new(Factory(visitor.clone())), detect(&detector), |_| ());
    let feeds: Vec<_> = ["a", "b", "c"].into_iter().map(blocks).collect();
    for (feed, outputs) in &feeds {
        outputs.recv().unwrap();
        feed.stop(LONG);
    }
    // Each of them is in its own, at the same time.
    feeds.iter().for_each(|_| gate.wait_for_visitor());
    drop(gate);
    for (feed, _) in &feeds {
        check_end(feed, "stopped");
    }
    shut_down(&runtime);
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

#[test]
fn a_frame_that_has_no_room_yet_is_dropped_for_the_reason_of_the_others() {
    for (whole, reason) in [(false, DropReason::FeedStopped), (true, DropReason::Shutdown)] {
        let runtime = runtime();
        let (gate, visitor) = gate();
        let held = stage(move |_| {
            visitor.pass();
            Ok(StageOutput::default())
        });
        let pipeline = FeedPipeline::builder().stage("held", held).build().unwrap();
        let (feeder, source) = fed_source(false);
        let (feed, _) = feed(&runtime, "file", source, pipeline, |c| {
            c.queue_capacity = 1;
            c.max_in_pipeline = Some(1);
        });
        // One in the stage, one in the queue, one that the source can't put down.
        for n in 0..3 {
            feeder.frame(n);
        }
        gate.wait_for_visitor();
        while feed.stats().frames.received < 3 {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            let ending = scope.spawn(|| match whole {
                true => drop(runtime.shutdown(Duration::ZERO)),
                false => feed.stop(Duration::ZERO),
            });
            if !whole {
                ending.join().unwrap();
            } else {
                // The feed has been told once its source was.
                while runtime.feeds().len() == 1 {
                    std::thread::yield_now();
                }
            }
            gate.let_one_pass();
            feed.wait();
        });
        check_end(&feed, "stopped");
        let frames = feed.stats().frames;
        assert!(frames.is_balanced() && frames.inside == 0, "{frames:?}");
        assert_eq!(frames.dropped.keys().collect::<Vec<_>>(), [&reason], "{frames:?}");
        shut_down(&runtime);
    }
}

#[test]
fn a_feed_that_was_cut_short_was_stopped_even_if_its_source_had_ended() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let held = processor(move |batch: &mut [BatchEntry]| {
        visitor.pass();
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let detector = batch(&runtime, held, BatchConfig::default());
    let (feed, _) = feed(&runtime, "file", scene_source(2), detect(&detector), |_| ());
    gate.wait_for_visitor();
    while feed.stats().frames.received < 2 {
        std::thread::yield_now();
    }
    feed.stop(Duration::ZERO);
    check_end(&feed, "stopped");
    check_frames(&feed, 0, &[(DropReason::FeedStopped, 2)]);
    drop(gate);
    shut_down(&runtime);
}

#[test]
fn what_hangs_is_left_behind_by_name_and_holds_nothing_else_up() {
    /// A source that hears of no cancelling.
    struct Deaf(nv_tests::Visitor, StreamInfo);
    impl FrameSource for Deaf {
        fn info(&self) -> &StreamInfo {
            &self.1
        }

        fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
            self.0.pass();
            Ok(SourceItem::End)
        }
    }
    struct Factory(nv_tests::Visitor, bool);
    impl SourceFactory for Factory {
        fn schemes(&self) -> &[&str] {
            &["deaf"]
        }

        fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
            if self.1 {
                self.0.pass();
            }
            let info = scene_source(1).open(spec, cancel)?.info().clone();
            Ok(Box::new(Deaf(self.0.clone(), info)))
        }
    }
    struct Hangs(nv_tests::Visitor);
    impl nv_perception::OutputSink for Hangs {
        fn emit(&mut self, _: &Output) -> Result<(), nv_perception::SinkError> {
            Ok(())
        }

        fn close(&mut self) -> Result<(), nv_perception::SinkError> {
            self.0.pass();
            Ok(())
        }
    }
    let (gate, visitor) = gate();
    let runtime = impatient();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let at_once = |c: &mut nv_runtime::FeedConfig| c.sink_close_timeout = Duration::from_millis(20);

    let deaf = Arc::new(Factory(visitor.clone(), false));
    let (next, _) = feed(&runtime, "next", deaf, detect(&detector), at_once);
    let deaf = Arc::new(Factory(visitor.clone(), true));
    let (open, opened_by) = feed(&runtime, "open", deaf, detect(&detector), at_once);
    let hangs = {
        let visitor = visitor.clone();
        stage(move |_| {
            visitor.pass();
            Ok(StageOutput::default())
        })
    };
    let pipeline = FeedPipeline::builder().stage("hangs", hangs).build().unwrap();
    let (stage, _) = feed(&runtime, "stage", scene_source(1), pipeline, at_once);
    let sink = nv_runtime::SinkConfig::new("hangs", Box::new(Hangs(visitor)));
    let (sink, _) = feed(&runtime, "sink", scene_source(1), detect(&detector), |c| {
        at_once(c);
        c.sinks.push(sink);
    });
    for _ in 0..4 {
        gate.wait_for_visitor();
    }

    // A source that hangs, and a sink, are not waited for: their feeds end.
    next.stop(Duration::ZERO);
    check_end(&next, "stopped");
    check_end(&sink, "end_of_stream");
    check_frames(&sink, 1, &[]);
    // Nor is a stage when its feed is removed.
    assert!(stage.wait_timeout(Duration::ZERO).is_none());
    runtime.remove_feed("stage", Duration::ZERO).unwrap();
    check_end(&stage, "stopped");
    // It was out of time; the stage had a while left.
    check_frames(&stage, 0, &[(DropReason::FeedStopped, 1)]);
    // Nor is a source that hangs while it is opened; the feed's sinks are closed all the same.
    assert!(open.wait_timeout(Duration::ZERO).is_none());
    runtime.remove_feed("open", Duration::ZERO).unwrap();
    check_end(&open, "stopped");
    assert!(matches!(opened_by.recv(), Err(crossbeam_channel::RecvError)), "its sink has gone");
    let mut left = runtime.abandoned();
    left.sort();
    assert_eq!(left, ["nv-pipeline stage", "nv-sink sink hangs", "nv-source next", "nv-source open"]);
    let (again, _) = feed(&runtime, "stage", scene_source(3), detect(&detector), |_| ());
    check_end(&again, "end_of_stream");
    check_frames(&again, 3, &[]);
    assert_eq!(runtime.shutdown(Duration::ZERO).abandoned.len(), 4);

    // Whoever comes back ends as it should have.
    drop(gate);
    check_frames(&stage, 0, &[(DropReason::FeedStopped, 1)]);
    while !runtime.abandoned().is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn a_shutdown_waits_for_sinks_no_longer_than_it_was_told() {
    struct Slow(nv_tests::Visitor);
    impl nv_perception::OutputSink for Slow {
        fn emit(&mut self, _: &Output) -> Result<(), nv_perception::SinkError> {
            Ok(())
        }

        fn close(&mut self) -> Result<(), nv_perception::SinkError> {
            self.0.pass();
            Ok(())
        }
    }
    let (gate, visitor) = gate();
    let runtime = impatient();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feed, _) = feed(&runtime, "file", scene_source(1), detect(&detector), |c| {
        c.sinks.push(nv_runtime::SinkConfig::new("slow", Box::new(Slow(visitor))));
        c.sink_close_timeout = LONG;
    });
    gate.wait_for_visitor();
    // The feed waits for its sink already when it hears of the shutdown.
    assert_eq!(runtime.shutdown(Duration::ZERO).abandoned, ["nv-sink file slow"]);
    check_end(&feed, "end_of_stream");
    drop(gate);
}

#[test]
fn a_feed_that_makes_no_sense_is_refused() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let check = |change: fn(&mut FeedConfig), expected: &str| {
        let mut config = FeedConfig::new("gate", scene_source(1), SourceSpec::new("test:"), detect(&detector));
        change(&mut config);
        assert_eq!(runtime.add_feed(config).unwrap_err().to_string(), format!("feed \"gate\": {expected}"));
    };
    check(|c| c.queue_capacity = 0, "queue_capacity is 0: it must be at least 1");
    check(|c| c.max_in_pipeline = Some(0), "max_in_pipeline is 0: it must be at least 1");
    check(|c| c.max_in_pipeline = Some(1 << 40), "max_in_pipeline is 1099511627776: it is beyond any use");
    check(|c| c.report_threshold = f32::NAN, "report_threshold is NaN: it must be a number");
    let no_queue = |c: &mut FeedConfig| {
        let (_, sink) = nv_tests::recording_sink();
        c.sinks.push(nv_runtime::SinkConfig { queue_capacity: 0, ..sink });
    };
    check(no_queue, "sinks.queue_capacity is 0: it must be at least 1");

    let other = Runtime::new(RuntimeConfig::default());
    let config = FeedConfig::new("gate", scene_source(1), SourceSpec::new("test:"), detect(&detector));
    let error = other.add_feed(config).unwrap_err();
    assert_eq!(error.to_string(), r#"feed "gate": batch point "detector" belongs to another runtime"#);
    assert_eq!(format!("{runtime:?}"), r#"Runtime { feeds: [], batches: ["detector"], .. }"#);
    shut_down(&runtime);
}
