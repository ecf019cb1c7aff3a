use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nv_core::{BBox, DropReason, HealthKind};
use nv_perception::testing::read_frame_number;
use nv_perception::{BatchEntry, ObjectId, Region, StageError, StageErrorKind, StageOutput};
use nv_runtime::{
    AddFeedError, BatchConfig, BatchError, BatchRequest, BatchStartError, PipelineError, RemoveBatchError,
};
use nv_tests::{fed_source, gate, number_processor, processor, scene, scene_source, tally_stage};

use super::*;

#[test]
fn a_processor_that_panics_is_built_anew_and_costs_its_batch() {
    let runtime = runtime();
    let health = runtime.health();
    let panics = processor(|batch: &mut [BatchEntry]| {
        if batch.iter().any(|e| read_frame_number(e.frame()) == Some(5)) {
            panic!("five is too much");
        }
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let detector = batch(&runtime, panics, BatchConfig { max_batch_size: 1, ..BatchConfig::default() });
    let (feed, _) = feed(&runtime, "file", scene_source(10), detect(&detector), |_| ());
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 9, &[(DropReason::ProcessingFailed, 1)]);
    let metrics = detector.metrics();
    assert_eq!((metrics.processed, metrics.failed, metrics.rebuilds), (9, 1, 1));
    shut_down(&runtime);
    let told: Vec<_> = health.try_iter().map(|e| e.to_string()).collect();
    assert!(
        told.contains(
            &"batch point detector: instance 0 is being rebuilt: panic in process: five is too much".to_owned()
        ),
        "{told:?}"
    );
}

#[test]
fn an_answer_that_is_overdue_costs_the_frame_and_comes_too_late() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let first = Arc::new(AtomicU32::new(0));
    let held = processor(move |batch: &mut [BatchEntry]| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            visitor.pass();
        }
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let config =
        BatchConfig { max_batch_size: 1, response_timeout: Duration::from_millis(20), ..BatchConfig::default() };
    let detector = batch(&runtime, held, config);
    let (feeder, source) = fed_source(false);
    let health = runtime.health();
    let (feed, outputs) = feed(&runtime, "file", source, detect(&detector), |_| ());
    feeder.frame(0);
    gate.wait_for_visitor();
    while feed.stats().frames.dropped.is_empty() {
        std::thread::yield_now();
    }
    gate.let_one_pass();
    feeder.frame(1);
    drop(feeder);
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 1, &[(DropReason::Timeout, 1)]);
    assert_eq!(outputs.try_iter().map(|o| o.frame.seq()).collect::<Vec<_>>(), [1]);
    assert_eq!(detector.metrics().timed_out, 1);
    assert!(
        health
            .try_iter()
            .any(|e| e.to_string() == "feed file: batch point detector: no answer within 20ms of dispatch")
    );
    shut_down(&runtime);
}

#[test]
fn direct_submissions_share_the_point_and_end_with_it() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let number = number_processor();
    let held: ProcessorFactory = {
        let inner = std::sync::Mutex::new(number().unwrap());
        let shared = Arc::new(inner);
        processor(move |batch: &mut [BatchEntry]| {
            visitor.pass();
            shared.lock().unwrap().process(batch)
        })
    };
    let detector = batch(&runtime, held, BatchConfig { max_batch_size: 1, ..BatchConfig::default() });
    assert_eq!(detector.processor_id(), "detector");
    assert!(detector.capabilities().step.host_pixels);

    let ask = |n: u64| {
        let (detector, frame) = (detector.clone(), scene().frame(n));
        std::thread::spawn(move || {
            let region = Region { object: ObjectId(0), bbox: BBox::new(0.0, 0.0, 80.0, 40.0) };
            detector.submit_and_wait(BatchRequest { region: Some(region), ..BatchRequest::new("direct", frame) })
        })
    };
    // One is being computed and one waits: the cap of the direct API with batches of one.
    let first = ask(7);
    gate.wait_for_visitor();
    let second = ask(8);
    while detector.metrics().pending < 1 {
        std::thread::yield_now();
    }
    let third = ask(9).join().unwrap();
    assert!(matches!(third, Err(BatchError::InFlightCapReached { limit: 2, .. })), "{third:?}");
    gate.let_one_pass();
    let object = first.join().unwrap().unwrap().objects.unwrap().remove(0);
    assert_eq!((object.class_id, object.parent), (7, Some(ObjectId(0))));
    gate.let_one_pass();
    assert_eq!(second.join().unwrap().unwrap().objects.unwrap()[0].class_id, 8);

    shut_down(&runtime);
    let late = ask(10).join().unwrap();
    assert!(matches!(late, Err(BatchError::CoordinatorShutdown { .. })), "{late:?}");
}

#[test]
fn a_point_that_can_not_start_says_why() {
    fn check(factory: ProcessorFactory, config: BatchConfig, expected: &str) {
        let runtime = runtime();
        assert_eq!(runtime.create_batch("detector", factory, config).unwrap_err().to_string(), expected);
        shut_down(&runtime);
    }
    let refuses = || -> ProcessorFactory { Arc::new(|| Err(StageError::config("model x.onnx: no such file"))) };
    check(refuses(), BatchConfig::default(), "batch point detector: model x.onnx: no such file");
    check(
        refuses(),
        BatchConfig { max_batch_size: 0, ..BatchConfig::default() },
        "batch point detector: max_batch_size is 0: it must be at least 1",
    );
    check(Arc::new(|| panic!("no luck")), BatchConfig::default(), "batch point detector: panic in start: no luck");
    let runtime = runtime();
    batch(&runtime, number_processor(), BatchConfig::default());
    let again = runtime.create_batch("detector", number_processor(), BatchConfig::default());
    assert!(matches!(again, Err(BatchStartError::Refused { .. })), "{again:?}");
    shut_down(&runtime);
}

#[test]
fn the_processors_own_limit_bounds_the_batches() {
    use nv_perception::{BatchCapabilities, BatchProcessor};
    struct AtMostThree;
    impl BatchProcessor for AtMostThree {
        fn capabilities(&self) -> BatchCapabilities {
            BatchCapabilities { max_batch: Some(3), ..BatchCapabilities::default() }
        }

        fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
            assert!(batch.len() <= 3);
            batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
            Ok(())
        }
    }
    let runtime = runtime();
    let detector = batch(&runtime, Arc::new(|| Ok(Box::new(AtMostThree))), BatchConfig::default());
    let feeds: Vec<_> =
        (0..3).map(|i| feed(&runtime, &format!("file {i}"), scene_source(40), detect(&detector), |_| ()).0).collect();
    for feed in &feeds {
        check_end(feed, "end_of_stream");
        check_frames(feed, 40, &[]);
    }
    assert!(detector.metrics().sizes[3..].iter().all(|n| *n == 0));
    shut_down(&runtime);
}

#[test]
fn a_pipeline_has_any_number_of_batch_points() {
    let runtime = runtime();
    let first = runtime.create_batch("first", number_processor(), BatchConfig::default()).unwrap();
    let second = runtime
        .create_batch("second", number_processor(), BatchConfig { instances: 2, ..BatchConfig::default() })
        .unwrap();
    let pipeline =
        || FeedPipeline::builder().batch(&first).stage("tally", tally_stage()).batch(&second).build().unwrap();
    let feeds: Vec<_> =
        (0..3).map(|i| feed(&runtime, &format!("file {i}"), scene_source(60), pipeline(), |_| ())).collect();
    for (feed, outputs) in &feeds {
        check_end(feed, "end_of_stream");
        check_frames(feed, 60, &[]);
        for (i, output) in outputs.try_iter().enumerate() {
            let objects: Vec<_> =
                output.perception.objects().iter().map(|o| (o.id.0, o.source.to_string(), o.class_id)).collect();
            assert_eq!(objects, [(0, "first".into(), i as u32), (1, "second".into(), i as u32)]);
        }
    }
    shut_down(&runtime);
}

#[test]
fn steps_that_do_not_fit_together_are_refused() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let error = FeedPipeline::builder().stage("tally", tally_stage()).batch(&detector).build().unwrap_err();
    assert!(matches!(error, PipelineError::Graph(_)));
    assert_eq!(
        error.to_string(),
        r#"step "tally" needs objects, which step "detector" makes only after it: put "detector" before "tally""#
    );
    let factory: nv_runtime::StageFactory = Arc::new(|| Err(StageError::config("bins must be at least 1")));
    let error = FeedPipeline::builder().stage("colour", factory).build().unwrap_err();
    assert_eq!(error.to_string(), r#"step "colour": bins must be at least 1"#);
    shut_down(&runtime);
}

#[test]
fn results_go_to_their_own_entries_however_the_processor_orders_them() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let first = std::sync::Arc::new(AtomicU32::new(0));
    let number = number_processor();
    let inner = Arc::new(std::sync::Mutex::new(number().unwrap()));
    let reversing = processor(move |batch: &mut [BatchEntry]| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            visitor.pass();
        }
        batch.reverse();
        inner.lock().unwrap().process(batch)
    });
    let detector = batch(&runtime, reversing, BatchConfig::default());
    let feeds: Vec<_> =
        (0..3).map(|i| feed(&runtime, &format!("file {i}"), scene_source(40), detect(&detector), |_| ())).collect();
    // While the first batch is held, others come to wait: the next ones are large.
    gate.wait_for_visitor();
    drop(gate);
    for (feed, outputs) in &feeds {
        check_end(feed, "end_of_stream");
        check_frames(feed, 40, &[]);
        assert_eq!(numbers(outputs), (0..40).collect::<Vec<_>>());
    }
    assert!(detector.metrics().mean_size() > 1.0, "{:?}", detector.metrics().sizes);
    shut_down(&runtime);
}

#[test]
fn an_instance_without_a_processor_takes_no_wake_up_from_one_that_has() {
    let runtime = runtime();
    let builds = AtomicU32::new(0);
    let loses = processor(|batch: &mut [BatchEntry]| {
        if read_frame_number(batch[0].frame()) == Some(0) {
            return Err(StageError::new(StageErrorKind::DeviceLost, "the device is gone"));
        }
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let twice: ProcessorFactory =
        Arc::new(
            move || {
                if builds.fetch_add(1, Ordering::SeqCst) < 2 { loses() } else { Err(StageError::fatal("no device")) }
            },
        );
    let detector = batch(&runtime, twice, BatchConfig { instances: 2, ..BatchConfig::default() });
    let (answers, answered) = crossbeam_channel::bounded(64);
    let asking = {
        let detector = detector.clone();
        std::thread::spawn(move || {
            for n in 0..40 {
                let answer = detector.submit_and_wait(BatchRequest::new("direct", scene().frame(n)));
                let _ = answers.send(answer.is_ok());
            }
        })
    };
    assert_eq!(answered.recv_timeout(LONG), Ok(false), "it cost one instance its processor");
    for n in 1..40 {
        assert_eq!(answered.recv_timeout(LONG), Ok(true), "request {n}");
    }
    asking.join().unwrap();
    shut_down(&runtime);
}

#[test]
fn a_file_loses_nothing_however_small_the_points_bound_is() {
    let runtime = runtime();
    let config = BatchConfig { max_batch_size: 4, max_pending: 4, ..BatchConfig::default() };
    let detector = batch(&runtime, number_processor(), config);
    let feeds: Vec<_> =
        (0..3).map(|i| feed(&runtime, &format!("file {i}"), scene_source(60), detect(&detector), |_| ()).0).collect();
    for feed in &feeds {
        check_end(feed, "end_of_stream");
        check_frames(feed, 60, &[]);
    }
    shut_down(&runtime);
}

#[test]
fn feeds_that_the_point_has_no_room_for_wait_their_turn() {
    for live in [false, true] {
        let runtime = runtime();
        let health = runtime.health();
        let (gate, visitor) = gate();
        let held = processor(move |batch: &mut [BatchEntry]| {
            visitor.pass();
            batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
            Ok(())
        });
        let config = BatchConfig { max_batch_size: 1, max_pending: 1, ..BatchConfig::default() };
        let detector = batch(&runtime, held, config);
        let feeds = [0, 1, 2].map(|i| {
            let (feeder, source) = fed_source(live);
            (feed(&runtime, &format!("feed {i}"), source, detect(&detector), |c| c.freshness = Some(LONG)).0, feeder)
        });
        feeds[0].1.frame(0);
        gate.wait_for_visitor();
        // With one in the works the point is full as soon as one waits. Each feed may have one there, and keeps the others.
        for (_, feeder) in &feeds {
            for n in 1..4 {
                feeder.frame(n);
            }
        }
        while detector.metrics().pending < 2 || feeds.iter().any(|(f, _)| f.stats().frames.received < 3) {
            std::thread::yield_now();
        }
        // The last to be fed ends before it is its turn: nothing new will come that could wake it.
        let [first, second, (third, feeder)] = feeds;
        drop(feeder);
        drop(gate);
        check_end(&third, "end_of_stream");
        check_frames(&third, 3, &[]);
        for ((feed, feeder), frames) in [(first, 4), (second, 3)] {
            drop(feeder);
            check_end(&feed, "end_of_stream");
            check_frames(&feed, frames, &[]);
        }
        assert_eq!(detector.metrics().rejected, 0);
        shut_down(&runtime);
        let told = health.try_iter().any(|e| matches!(e.kind, HealthKind::BatchFull { limit: 1, .. }));
        // A file feed has one slot here, and asks for no more than that.
        assert_eq!(told, live);
    }
}

#[test]
fn frames_that_a_point_could_not_take_are_passed_on_where_the_feed_says_so() {
    let runtime = runtime();
    // After five of these the point is down, and takes nothing.
    let broken = processor(|_: &mut [BatchEntry]| Err(StageError::new(StageErrorKind::Transient, "too hot")));
    let detector = batch(&runtime, broken, BatchConfig { max_batch_size: 1, ..BatchConfig::default() });
    for live in [false, true] {
        let (feeder, source) = fed_source(live);
        let (feed, outputs) = feed(&runtime, &format!("live {live}"), source, detect(&detector), |c| {
            c.on_step_error = nv_runtime::StepErrorPolicy::Pass;
            c.queue_capacity = 10;
            // Another feed's frame is let in as a probe: it is not to be a fresher one than those that wait with it.
            c.freshness = Some(LONG);
        });
        for n in 0..10 {
            feeder.frame(n);
        }
        drop(feeder);
        check_end(&feed, "end_of_stream");
        check_frames(&feed, 10, &[]);
        let seen: Vec<_> = outputs.try_iter().map(|o| (o.frame.seq(), o.perception.has_objects())).collect();
        assert_eq!(seen, (0..10).map(|n| (n, false)).collect::<Vec<_>>());
    }
    shut_down(&runtime);
}

#[test]
fn the_instance_that_did_not_start_is_the_one_that_is_named() {
    let (gate, visitor) = gate();
    let builds = AtomicU32::new(0);
    let number = number_processor();
    let runtime = impatient();
    let (told, tell) = crossbeam_channel::bounded(1);
    let second_hangs: ProcessorFactory = Arc::new(move || {
        let build = builds.fetch_add(1, Ordering::SeqCst);
        if build == 1 {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let _ = told.send(name.rsplit(' ').next().unwrap_or_default().to_owned());
            visitor.pass();
        }
        number()
    });
    let config = BatchConfig { instances: 2, startup_timeout: Duration::from_millis(200), ..BatchConfig::default() };
    let error = runtime.create_batch("detector", second_hangs, config).unwrap_err();
    let hung = tell.recv().unwrap();
    assert_eq!(error.to_string(), format!("batch point detector: instance {hung} did not start within 200ms"));
    assert_eq!(runtime.abandoned(), [format!("nv-batch detector {hung}")]);
    drop(gate);
    while !runtime.abandoned().is_empty() {
        std::thread::yield_now();
    }
    // The name is free again.
    batch(&runtime, number_processor(), BatchConfig::default());
    shut_down(&runtime);
}

#[test]
fn a_point_is_a_step_of_a_pipeline_once() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let error = FeedPipeline::builder().batch(&detector).batch(&detector).build().unwrap_err();
    assert_eq!(error.to_string(), r#"two steps are called "detector": give one of them another name"#);
    shut_down(&runtime);
}

#[test]
fn a_live_feed_uses_all_the_slots_that_it_is_given() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let held = processor(move |batch: &mut [BatchEntry]| {
        visitor.pass();
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    // More slots than the queue is long: frames are taken as they come.
    let config = BatchConfig { max_in_flight_per_feed: 9, ..BatchConfig::default() };
    let detector = batch(&runtime, held, config);
    let (feeder, source) = fed_source(true);
    let (feed, _) = feed(&runtime, "camera", source, detect(&detector), |c| {
        c.freshness = Some(LONG);
        c.queue_capacity = 8;
    });
    feeder.frame(0);
    gate.wait_for_visitor();
    for n in 1..9 {
        feeder.frame(n);
    }
    while detector.metrics().pending < 8 {
        std::thread::yield_now();
    }
    drop(gate);
    drop(feeder);
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 9, &[]);
    assert_eq!(detector.metrics().sizes[7], 1, "one alone, then all that had come");
    shut_down(&runtime);
}

#[test]
fn a_point_is_removed_once_no_feed_uses_it() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(false);
    let (yard, _outputs) = feed(&runtime, "yard", source, detect(&detector), |_| ());
    let (gate_feeder, source) = fed_source(true);
    let (gate, _outputs) = feed(&runtime, "gate", source, detect(&detector), |_| ());
    let refused = runtime.remove_batch("detector", LONG).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"batch point "detector" is in use; remove these feeds first: gate, yard"#,
        "and nothing has changed"
    );
    feeder.frame(0);
    drop(feeder);
    check_end(&yard, "end_of_stream");
    check_frames(&yard, 1, &[]);
    assert!(
        matches!(runtime.remove_batch("detector", LONG), Err(RemoveBatchError::InUse { feeds, .. }) if feeds == ["gate"])
    );
    drop(gate_feeder);
    gate.wait();

    // A feed that has ended uses it no more.
    let removed = runtime.remove_batch("detector", LONG).unwrap();
    assert_eq!(removed.metrics().processed, 1);
    assert_eq!(
        runtime.remove_batch("detector", LONG).unwrap_err().to_string(),
        r#"there is no batch point called "detector""#
    );
    let late = removed.submit_and_wait(BatchRequest::new("direct", scene().frame(0)));
    assert!(matches!(late, Err(BatchError::CoordinatorShutdown { .. })), "{late:?}");
    let config = FeedConfig::new("late", scene_source(1), SourceSpec::new("test:"), detect(&removed));
    assert!(matches!(runtime.add_feed(config), Err(AddFeedError::RemovedBatch { .. })));

    let again = batch(&runtime, number_processor(), BatchConfig::default());
    let (late, _outputs) = feed(&runtime, "late", scene_source(3), detect(&again), |_| ());
    check_end(&late, "end_of_stream");
    assert_eq!(runtime.batches().len(), 1);
    shut_down(&runtime);
}

#[test]
fn an_instance_that_hangs_holds_up_no_removal() {
    let runtime = impatient();
    let (gate, visitor) = gate();
    let held = processor(move |_: &mut [BatchEntry]| {
        visitor.pass();
        Ok(())
    });
    let detector = batch(&runtime, held, BatchConfig { max_batch_size: 1, ..BatchConfig::default() });
    let ask = |n| {
        let detector = detector.clone();
        std::thread::spawn(move || detector.submit_and_wait(BatchRequest::new("direct", scene().frame(n))))
    };
    let first = ask(0);
    gate.wait_for_visitor();
    let second = ask(1);
    while detector.metrics().pending < 1 {
        std::thread::yield_now();
    }
    runtime.remove_batch("detector", Duration::ZERO).unwrap();
    let second = second.join().unwrap();
    assert!(matches!(second, Err(BatchError::CoordinatorShutdown { .. })), "{second:?}");
    assert_eq!(runtime.abandoned(), ["nv-batch detector 0"]);
    // The name is free even so.
    batch(&runtime, number_processor(), BatchConfig::default());
    gate.let_one_pass();
    assert!(matches!(first.join().unwrap(), Err(BatchError::ProcessingFailed { .. })), "it gave no result");
    while !runtime.abandoned().is_empty() {
        std::thread::yield_now();
    }
    shut_down(&runtime);
}
