//! What a batch point does about entries, feeds and processors that fail.

use std::sync::atomic::{AtomicU32, Ordering};

use nv_core::{DropReason, HealthKind};
use nv_perception::testing::read_frame_number;
use nv_perception::{BatchEntry, StageError, StageErrorKind, StageOutput};
use nv_runtime::{BatchConfig, BatchError, BatchRequest};
use nv_tests::{Gate, fed_source, gate, idempotent_processor, processor, scene, scene_source};

use super::*;

fn number(entry: &BatchEntry) -> u16 {
    read_frame_number(entry.frame()).unwrap()
}

fn finish_all(batch: &mut [BatchEntry]) {
    batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
}

/// Runs a file feed of 9 frames: the first by itself, then the other eight as one batch, which waits for the first. The
/// processor's `process` sees them after the gate.
fn nine_frames(runtime: &Runtime, detector: &BatchHandle, gate: Gate) -> (FeedHandle, Receiver<Output>) {
    let (feeder, source) = fed_source(false);
    let (feed, outputs) = feed(runtime, "file", source, detect(detector), |_| ());
    feeder.frame(0);
    gate.wait_for_visitor();
    for n in 1..9 {
        feeder.frame(n);
    }
    drop(feeder);
    while detector.metrics().pending < 8 {
        std::thread::yield_now();
    }
    drop(gate);
    check_end(&feed, "end_of_stream");
    (feed, outputs)
}

#[test]
fn a_batch_that_fails_as_a_whole_is_bisected_if_that_does_no_harm() {
    fn check(idempotent: bool, dropped: u64, calls: u32) {
        let runtime = runtime();
        let (gate, visitor) = gate();
        let called = Arc::new(AtomicU32::new(0));
        let process = {
            let called = called.clone();
            move |batch: &mut [BatchEntry]| {
                called.fetch_add(1, Ordering::SeqCst);
                visitor.pass();
                finish_all(batch);
                if batch.iter().any(|e| number(e) == 5) {
                    return Err(StageError::new(StageErrorKind::Transient, "something in here is bad"));
                }
                Ok(())
            }
        };
        let factory = if idempotent { idempotent_processor(process) } else { processor(process) };
        let detector = batch(&runtime, factory, BatchConfig::default());
        let (feed, outputs) = nine_frames(&runtime, &detector, gate);
        check_frames(&feed, 9 - dropped, &[(DropReason::ProcessingFailed, dropped)]);
        assert_eq!(called.load(Ordering::SeqCst), calls);
        assert_eq!(detector.metrics().batches, 2, "retries are part of their batch");
        assert!(outputs.try_iter().all(|o| o.frame.seq() != 5));
        shut_down(&runtime);
    }
    // The first frame's batch, the eight, then two halves, two quarters, two eighths.
    check(true, 1, 1 + 1 + 6);
    check(false, 8, 2);
}

#[test]
fn after_a_panic_the_suspects_run_alone_on_a_new_processor() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let (sizes, seen) = crossbeam_channel::bounded(64);
    let process = move |batch: &mut [BatchEntry]| {
        visitor.pass();
        let _ = sizes.send(batch.len());
        assert!(batch.iter().all(|e| number(e) != 5), "five is too much");
        finish_all(batch);
        Ok(())
    };
    let detector = batch(&runtime, idempotent_processor(process), BatchConfig::default());
    let (feed, _) = nine_frames(&runtime, &detector, gate);
    check_frames(&feed, 8, &[(DropReason::ProcessingFailed, 1)]);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 8, 1, 1, 1, 1, 1, 1, 1, 1]);
    let metrics = detector.metrics();
    assert_eq!((metrics.processed, metrics.failed, metrics.rebuilds), (8, 1, 2));
    shut_down(&runtime);
}

#[test]
fn five_failures_in_a_row_take_a_point_down_and_entries_fail_at_once() {
    let runtime = runtime();
    let health = runtime.health();
    let called = Arc::new(AtomicU32::new(0));
    let broken = {
        let called = called.clone();
        processor(move |_: &mut [BatchEntry]| {
            called.fetch_add(1, Ordering::SeqCst);
            Err(StageError::new(StageErrorKind::Transient, "the card is too hot"))
        })
    };
    let detector = batch(&runtime, broken, BatchConfig { max_batch_size: 1, ..BatchConfig::default() });
    let (feed, _) = feed(&runtime, "file", scene_source(40), detect(&detector), |_| ());
    check_end(&feed, "end_of_stream");
    let frames = feed.stats().frames;
    assert!(frames.is_balanced() && frames.inside == 0 && frames.emitted == 0, "{frames:?}");
    // A probe is let through after a second; on a slow machine there may have been one.
    let failed = frames.dropped[&DropReason::ProcessingFailed];
    assert_eq!(u64::from(called.load(Ordering::SeqCst)), failed);
    assert!((5..8).contains(&failed), "{frames:?}");
    assert_eq!(frames.dropped[&DropReason::Unavailable], 40 - failed);
    assert!(detector.metrics().down);
    let direct = detector.submit_and_wait(BatchRequest::new("direct", scene().frame(0)));
    assert!(matches!(direct, Err(BatchError::Unavailable { .. } | BatchError::ProcessingFailed { .. })), "{direct:?}");
    shut_down(&runtime);
    assert!(health.try_iter().any(|e| e.to_string() == "batch point detector is down: the card is too hot"));
}

#[test]
fn a_feed_whose_entries_fail_by_themselves_is_quarantined_and_the_others_go_on() {
    let runtime = runtime();
    let health = runtime.health();
    let picky = processor(|batch: &mut [BatchEntry]| {
        for entry in batch {
            let bad = *entry.feed() == *"bad";
            entry.finish(if bad { Err(StageError::input("no")) } else { Ok(StageOutput::default()) });
        }
        Ok(())
    });
    let detector = batch(&runtime, picky, BatchConfig::default());
    // Alone, it could as well be the processor.
    let (other, _) = feed(&runtime, "other", scene_source(1_000_000), detect(&detector), |_| ());
    let (bad, _) = feed(&runtime, "bad", scene_source(1_000_000), detect(&detector), |_| ());
    let told = std::iter::from_fn(|| health.recv().ok())
        .find(|e| matches!(e.kind, HealthKind::FeedQuarantined { .. }))
        .unwrap();
    assert_eq!(told.feed.as_deref(), Some("bad"));
    let (good, _) = feed(&runtime, "good", scene_source(200), detect(&detector), |_| ());
    check_end(&good, "end_of_stream");
    check_frames(&good, 200, &[]);
    for feed in [&other, &bad] {
        feed.stop(Duration::ZERO);
        feed.wait();
    }
    let frames = bad.stats().frames;
    assert!(frames.is_balanced() && frames.inside == 0 && frames.emitted == 0, "{frames:?}");
    shut_down(&runtime);
}

#[test]
fn an_instance_that_does_not_answer_is_named_and_the_others_go_on() {
    let runtime = runtime();
    let health = runtime.health();
    let (gate, visitor) = gate();
    let stuck = processor(move |batch: &mut [BatchEntry]| {
        if batch.iter().any(|e| number(e) == 0) {
            visitor.pass();
        }
        finish_all(batch);
        Ok(())
    });
    let config = BatchConfig {
        max_batch_size: 1,
        instances: 2,
        response_timeout: Duration::from_millis(20),
        ..BatchConfig::default()
    };
    let detector = batch(&runtime, stuck, config);
    let (feed, _) = feed(&runtime, "file", scene_source(30), detect(&detector), |_| ());
    gate.wait_for_visitor();
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 29, &[(DropReason::Timeout, 1)]);
    let told: Vec<_> = health.try_iter().filter(|e| matches!(e.kind, HealthKind::InstanceWedged { .. })).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    drop(gate);
    shut_down(&runtime);
}

#[test]
fn a_feed_that_spoils_whole_batches_is_found_out_though_nothing_may_be_tried_again() {
    let runtime = runtime();
    let health = runtime.health();
    let (gate, visitor) = gate();
    let fragile = processor(move |batch: &mut [BatchEntry]| {
        visitor.pass();
        if batch.iter().any(|entry| *entry.feed() == *"bad") {
            return Err(StageError::input("there is something in here"));
        }
        finish_all(batch);
        Ok(())
    });
    let detector = batch(&runtime, fragile, BatchConfig::default());
    let good: Vec<_> =
        (0..3).map(|i| feed(&runtime, &format!("good {i}"), scene_source(500), detect(&detector), |_| ()).0).collect();
    gate.wait_for_visitor();
    let (bad, _) = feed(&runtime, "bad", scene_source(100_000), detect(&detector), |_| ());
    // From now on all of them share batches.
    while detector.metrics().pending < 8 {
        std::thread::yield_now();
    }
    drop(gate);
    for feed in &good {
        check_end(feed, "end_of_stream");
        let frames = feed.stats().frames;
        assert!(frames.is_balanced() && frames.emitted >= 400, "{frames:?}");
    }
    bad.stop(Duration::ZERO);
    bad.wait();
    assert_eq!(bad.stats().frames.emitted, 0);
    shut_down(&runtime);
    let told: Vec<_> = health.try_iter().map(|e| e.kind).collect();
    assert!(told.iter().any(|kind| matches!(kind, HealthKind::FeedQuarantined { .. })), "{told:?}");
}
