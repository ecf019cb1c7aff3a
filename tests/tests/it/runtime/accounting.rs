use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nv_core::DropReason;
use nv_perception::{BatchEntry, SourceError, SourceErrorKind, SourceEvent, SourceItem, StageError, StageOutput};
use nv_runtime::{BatchConfig, FeedPipeline, StepErrorPolicy};
use nv_tests::{fed_source, gate, number_processor, processor, scene_source, stage, tally_stage};

use super::*;

#[test]
fn every_frame_of_every_file_leaves_once_in_order_with_its_own_result() {
    for instances in [1, 2] {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig { instances, ..BatchConfig::default() });
        let feeds: Vec<_> = (0..4)
            .map(|i| {
                let pipeline = FeedPipeline::builder().batch(&detector).stage("tally", tally_stage()).build().unwrap();
                feed(&runtime, &format!("file {i}"), scene_source(100), pipeline, |_| ())
            })
            .collect();
        for (feed, outputs) in &feeds {
            check_end(feed, "end_of_stream");
            check_frames(feed, 100, &[]);
            for (i, output) in outputs.try_iter().enumerate() {
                let (seq, perception) = (output.frame.seq(), &output.perception);
                assert_eq!(seq, i as u64, "outputs leave in order");
                assert_eq!(u64::from(perception.objects()[0].class_id), seq, "the result is that frame's own");
                assert_eq!(perception.objects()[0].source, "detector");
                assert_eq!(
                    perception.signals()[0].value,
                    (seq as i64 + 1).into(),
                    "the stage saw all before it, in order"
                );
                let provenance = output.provenance.unwrap();
                let steps: Vec<_> = provenance.steps.iter().map(|s| (s.step.as_str(), s.batch.is_some())).collect();
                assert_eq!(steps, [("detector", true), ("tally", false)]);
                assert!(provenance.received <= provenance.emitted);
            }
        }
        let metrics = detector.metrics();
        assert_eq!((metrics.submitted, metrics.processed, metrics.pending, metrics.in_dispatch), (400, 400, 0, 0));
        assert_eq!(metrics.sizes.iter().sum::<u64>(), metrics.batches);
        shut_down(&runtime);
    }
}

#[test]
fn feeds_share_batches() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let (sizes, seen) = crossbeam_channel::bounded(64);
    let held = processor(move |batch: &mut [BatchEntry]| {
        visitor.pass();
        let mut feeds: Vec<_> = batch.iter().map(|e| e.feed().to_string()).collect();
        feeds.sort();
        feeds.dedup();
        let _ = sizes.send((batch.len(), feeds));
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let detector = batch(&runtime, held, BatchConfig::default());
    let (feeds, feeders): (Vec<_>, Vec<_>) = ["a", "b", "c"]
        .map(|name| {
            let (feeder, source) = fed_source(false);
            (feed(&runtime, name, source, detect(&detector), |_| ()), feeder)
        })
        .into_iter()
        .unzip();
    feeders[0].frame(0);
    gate.wait_for_visitor();
    // While the first batch is being computed, one frame of each feed comes to wait.
    for feeder in &feeders {
        feeder.frame(1);
    }
    while detector.metrics().pending < 3 {
        std::thread::yield_now();
    }
    drop(gate);
    drop(feeders);
    for (feed, _) in &feeds {
        check_end(feed, "end_of_stream");
    }
    shut_down(&runtime);
    let batches: Vec<_> = seen.try_iter().collect();
    let all = vec!["a".to_owned(), "b".into(), "c".into()];
    assert_eq!(batches, [(1, vec!["a".to_owned()]), (3, all)]);
}

#[test]
fn one_bad_entry_costs_one_frame() {
    /// Every third frame of a feed of nine fails in the way that `fail` does it.
    fn check(fail: fn(&mut BatchEntry), policy: StepErrorPolicy, emitted: u64, dropped: &[(DropReason, u64)]) {
        let runtime = runtime();
        let picky = processor(move |batch: &mut [BatchEntry]| {
            for entry in batch {
                entry.finish(Ok(StageOutput { objects: Some(vec![]), ..StageOutput::default() }));
                if entry.frame().seq() % 3 == 2 {
                    fail(entry);
                }
            }
            Ok(())
        });
        let detector = batch(&runtime, picky, BatchConfig::default());
        let (feed, outputs) = feed(&runtime, "file", scene_source(9), detect(&detector), |c| c.on_step_error = policy);
        check_end(&feed, "end_of_stream");
        check_frames(&feed, emitted, dropped);
        for output in outputs.try_iter() {
            let failed = output.frame.seq() % 3 == 2;
            assert_eq!(output.perception.has_objects(), !failed, "a failed step's results are null, not empty");
        }
        assert!(feed.stats().last_drops.iter().all(|d| d.step.as_deref() == Some("detector")));
        shut_down(&runtime);
    }
    let failed = [(DropReason::ProcessingFailed, 3)];
    check(|e| e.finish(Err(StageError::input("no"))), StepErrorPolicy::Drop, 6, &failed);
    check(|e| drop(e.take_result()), StepErrorPolicy::Drop, 6, &failed);
    check(|e| e.finish(Err(StageError::input("no"))), StepErrorPolicy::Pass, 9, &[]);
}

#[test]
fn a_stage_that_fails_or_panics_costs_that_frame_and_comes_back_new() {
    let runtime = runtime();
    let health = runtime.health();
    let clumsy = || {
        let mut seen = 0i64;
        stage(move |input| {
            seen += 1;
            match input.frame().seq() {
                2 => Err(StageError::input("can't read this one")),
                4 => panic!("stumbled"),
                _ => Ok(StageOutput {
                    signals: vec![nv_perception::Signal::new("seen", seen)],
                    ..StageOutput::default()
                }),
            }
        })
    };
    let pipeline = FeedPipeline::builder().stage("clumsy", clumsy()).build().unwrap();
    let (feed, outputs) = feed(&runtime, "file", scene_source(7), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    check_frames(&feed, 5, &[(DropReason::StageError, 1), (DropReason::StagePanic, 1)]);
    let seen: Vec<_> = outputs.try_iter().map(|o| (o.frame.seq(), o.perception.signals()[0].value.clone())).collect();
    // The stage keeps its state over an error and loses it in a panic.
    assert_eq!(seen, [(0, 1i64), (1, 2), (3, 4), (5, 1), (6, 2)].map(|(s, n)| (s, n.into())));
    shut_down(&runtime);
    let told: Vec<_> = health.try_iter().map(|e| e.to_string()).filter(|e| e.contains("clumsy")).collect();
    assert_eq!(
        told,
        [
            "feed file: stage clumsy failed: can't read this one",
            "feed file: stage clumsy panicked: panic in process: stumbled"
        ]
    );
}

#[test]
fn a_tracker_that_was_built_anew_uses_no_number_again() {
    use nv_perception::{Signal, Track, TrackId, TrackState};
    let mut next = 0;
    let tracker = stage(move |input| {
        assert!(input.frame().seq() != 2, "stumbled");
        next += 1;
        let track = Track {
            id: TrackId(next),
            state: TrackState::Confirmed,
            object: None,
            class_id: 0,
            class: None,
            score: 1.0,
            bbox: nv_core::BBox::default(),
            age: Duration::ZERO,
        };
        let signal = Signal { track: Some(track.id), ..Signal::new("born", true) };
        Ok(StageOutput { tracks: Some(vec![track]), signals: vec![signal], ..StageOutput::default() })
    });
    let runtime = runtime();
    let pipeline = FeedPipeline::builder().stage("track", tracker).build().unwrap();
    let (feed, outputs) = feed(&runtime, "file", scene_source(5), pipeline, |_| ());
    check_end(&feed, "end_of_stream");
    let ids: Vec<_> = outputs
        .try_iter()
        .map(|o| (o.perception.tracks()[0].id.0, o.perception.signals()[0].track.map(|t| t.0)))
        .collect();
    assert_eq!(ids, [1, 2, 4, 5].map(|id| (id, Some(id))));
    shut_down(&runtime);
}

#[test]
fn a_stage_that_can_not_be_built_anew_ends_its_feed_alone() {
    let runtime = runtime();
    let built = Arc::new(AtomicBool::new(false));
    let once = {
        let built = built.clone();
        let inner = stage(|_| panic!("stumbled"));
        Arc::new(move || if built.swap(true, Ordering::SeqCst) { Err(StageError::fatal("only once")) } else { inner() })
    };
    let pipeline = FeedPipeline::builder().stage("once", once).build().unwrap();
    let (broken, _) = feed(&runtime, "broken", scene_source(5), pipeline, |_| ());
    let fine = stage(|_| Ok(StageOutput::default()));
    let pipeline = FeedPipeline::builder().stage("fine", fine).build().unwrap();
    let (whole, _) = feed(&runtime, "whole", scene_source(5), pipeline, |_| ());
    check_end(&broken, "stage_failed");
    check_end(&whole, "end_of_stream");
    check_frames(&whole, 5, &[]);
    let frames = broken.stats().frames;
    assert!(frames.is_balanced() && frames.inside == 0 && frames.emitted == 0, "{frames:?}");
    assert_eq!(frames.dropped[&DropReason::StagePanic], 1);
    shut_down(&runtime);
}

#[test]
fn frames_before_a_break_leave_and_the_end_says_what_broke() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(false);
    let (feed, outputs) = feed(&runtime, "file", source, detect(&detector), |_| ());
    for n in 0..3 {
        feeder.frame(n);
    }
    feeder.item(SourceItem::Event(SourceEvent::Gap { count: 2 }));
    feeder.fail(SourceError::new(SourceErrorKind::Damaged, "a.mp4", "the file ends in mid-frame"));
    check_end(&feed, "source_failed");
    assert_eq!(feed.wait().to_string(), "a.mp4: the file ends in mid-frame");
    check_frames(&feed, 3, &[]);
    assert_eq!(feed.stats().frames.lost_upstream, 2);
    assert_eq!(numbers(&outputs), [0, 1, 2]);
    shut_down(&runtime);
}

#[test]
fn a_stage_is_told_of_a_cut_even_if_the_frame_after_it_is_lost() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let pipeline = FeedPipeline::builder().batch(&detector).stage("tally", tally_stage()).build().unwrap();
    let (feeder, source) = fed_source(false);
    let (feed, outputs) = feed(&runtime, "file", source, pipeline, |_| ());
    feeder.frame(0);
    feeder.frame(1);
    feeder.item(SourceItem::Event(SourceEvent::Discontinuity));
    // A picture without a number: the detector fails it.
    let blank = nv_core::FrameHeader::new(nv_core::Size::new(160, 96), nv_core::PixelFormat::Gray8);
    feeder.item(SourceItem::Frame(nv_core::FramePool::new(0).take(blank).unwrap().freeze()));
    feeder.frame(3);
    drop(feeder);
    check_end(&feed, "end_of_stream");
    let tallies: Vec<_> = outputs.try_iter().map(|o| o.perception.signals()[0].value.clone()).collect();
    assert_eq!(tallies, [1i64, 2, 1].map(Into::into));
    check_frames(&feed, 3, &[(DropReason::ProcessingFailed, 1)]);
    shut_down(&runtime);
}

#[test]
fn a_busy_live_feed_keeps_to_now() {
    let runtime = runtime();
    let (gate, visitor) = gate();
    let held = processor(move |batch: &mut [BatchEntry]| {
        visitor.pass();
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let detector = batch(&runtime, held, BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let (feed, outputs) = feed(&runtime, "camera", source, detect(&detector), |c| {
        c.freshness = Some(Duration::ZERO);
    });
    feeder.frame(0);
    gate.wait_for_visitor();
    // Nine frames come while the first is being computed: the queue keeps four, a claim takes the newest of them.
    for n in 1..10 {
        feeder.frame(n);
    }
    while feed.stats().frames.received < 10 {
        std::thread::yield_now();
    }
    drop(gate);
    drop(feeder);
    check_end(&feed, "end_of_stream");
    let leaving: Vec<_> = outputs.try_iter().map(|o| o.frame.seq()).collect();
    assert_eq!(leaving, [0, 9]);
    check_frames(&feed, 2, &[(DropReason::QueueFull, 5), (DropReason::Superseded, 3)]);
    shut_down(&runtime);
}

#[test]
fn a_file_may_be_looked_at_a_few_times_a_second_only() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feed, outputs) = feed(&runtime, "file", scene_source(50), detect(&detector), |c| c.max_rate = Some(5.0));
    check_end(&feed, "end_of_stream");
    // The scene has 30 frames a second.
    let seen = numbers(&outputs);
    assert_eq!(seen, (0..50).step_by(6).collect::<Vec<_>>());
    check_frames(&feed, 9, &[(DropReason::RateLimited, 41)]);
    shut_down(&runtime);
}
