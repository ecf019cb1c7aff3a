//! Feeds that are paused and resumed.

use nv_core::DropReason;
use nv_runtime::BatchConfig;
use nv_tests::{fed_source, number_processor, tally_stage};

use super::*;

#[test]
fn a_paused_live_feed_drops_what_its_camera_goes_on_to_give() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let pipeline = FeedPipeline::builder().batch(&detector).stage("tally", tally_stage()).build().unwrap();
    let (feed, outputs) = feed(&runtime, "gate", source, pipeline, |_| ());
    let mut seen = Vec::new();
    let mut give = |n| {
        feeder.frame(n);
        let output = outputs.recv_timeout(LONG).unwrap();
        seen.push((output.perception.objects()[0].class_id, output.perception.signals()[0].value.clone()));
    };
    give(0);
    give(1);
    feed.pause();
    assert!(feed.is_paused());
    for n in 2..5 {
        feeder.frame(n);
    }
    while feed.stats().frames.received < 5 {
        std::thread::yield_now();
    }
    feed.resume();
    assert!(!feed.is_paused());
    give(5);
    give(6);
    let tally = |n: i64| n.into();
    assert_eq!(seen, [(0, tally(1)), (1, tally(2)), (5, tally(1)), (6, tally(2))], "the stage knows of the gap");
    feed.stop(LONG);
    check_end(&feed, "stopped");
    check_frames(&feed, 4, &[(DropReason::FeedStopped, 3)]);
    shut_down(&runtime);
}

#[test]
fn a_paused_file_is_not_read_on() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(false);
    let (feed, outputs) = feed(&runtime, "file", source, detect(&detector), |c| c.frame_limit = Some(5));
    feeder.frame(0);
    assert!(outputs.recv_timeout(LONG).is_ok());
    feed.pause();
    for n in 1..5 {
        feeder.frame(n);
    }
    assert_eq!(feed.wait_timeout(Duration::from_millis(20)).map(|end| end.to_string()), None);
    assert_eq!(feed.stats().frames.received, 1);
    feed.resume();
    check_end(&feed, "limit_reached");
    check_frames(&feed, 5, &[]);
    assert_eq!(numbers(&outputs), [1, 2, 3, 4]);
    shut_down(&runtime);
}

#[test]
fn a_paused_feed_can_be_stopped_and_is_paused_no_more() {
    for live in [false, true] {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig::default());
        let (feeder, source) = fed_source(live);
        let (feed, _) = feed(&runtime, "gate", source, detect(&detector), |_| ());
        feed.pause();
        feeder.frame(0);
        feed.stop(Duration::ZERO);
        feed.pause();
        check_end(&feed, "stopped");
        assert!(!feed.is_paused());
        assert!(feed.stats().frames.is_balanced());
        assert_eq!(feed.stats().frames.inside, 0);
        shut_down(&runtime);
    }
}
