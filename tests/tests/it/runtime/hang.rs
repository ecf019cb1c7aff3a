//! Stages that don't come back.

use nv_core::{HealthEvent, HealthKind};
use nv_perception::StageOutput;
use nv_runtime::{BatchConfig, RestartConfig, StageFactory};
use nv_tests::{Gate, fed_source, gate, number_processor, scene_source, stage};

use super::decisions::recorded;
use super::*;

const LIMIT: Duration = Duration::from_millis(50);

/// A stage that hangs at frame `at` of its feed, until its gate is opened.
fn hangs_at(at: u64) -> (Gate, StageFactory) {
    let (gate, visitor) = gate();
    let hangs = stage(move |input| {
        if input.frame().seq() == at {
            visitor.pass();
        }
        Ok(StageOutput::default())
    });
    (gate, hangs)
}

fn told(health: &Receiver<HealthEvent>) -> Vec<String> {
    let told = |e: HealthEvent| match e.kind {
        HealthKind::StageHung { .. } | HealthKind::FeedRestarting { .. } | HealthKind::ThreadAbandoned { .. } => {
            Some(e.kind.to_string())
        }
        _ => None,
    };
    health.try_iter().filter_map(told).collect()
}

#[test]
fn a_camera_goes_on_with_a_new_pipeline_when_a_stage_hangs() {
    let (runtime, recording) = recorded();
    let health = runtime.health();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (gate, hangs) = hangs_at(2);
    let pipeline = FeedPipeline::builder().batch(&detector).stage("hangs", hangs).build().unwrap();
    let (feeder, source) = fed_source(true);
    let (feed, outputs) = feed(&runtime, "gate", source, pipeline, |c| {
        c.stage_timeout = LIMIT;
        let at_once = Duration::from_millis(1);
        c.restart = RestartConfig { backoff: at_once, max_backoff: at_once, ..RestartConfig::default() };
    });
    let mut seen = Vec::new();
    let mut give = |n| {
        feeder.frame(n);
        let output = outputs.recv_timeout(LONG).unwrap();
        seen.push((output.frame.seq(), output.perception.objects()[0].class_id));
    };
    give(0);
    give(1);
    feeder.frame(2);
    gate.wait_for_visitor();
    // What comes while it hangs and until the restart is lost; the first one after it is not.
    while feed.stats().frames.dropped.is_empty() || feed.stats().end.is_some() {
        std::thread::yield_now();
    }
    let mut n = 3;
    let after = loop {
        feeder.frame(n);
        n += 1;
        if let Ok(output) = outputs.recv_timeout(Duration::from_millis(20)) {
            break output;
        }
    };
    assert_eq!(after.perception.objects()[0].class_id as u64, after.frame.seq(), "results are of their own frames");
    assert_eq!(runtime.abandoned(), ["nv-pipeline gate"]);
    // It comes back, and finds that it is not wanted any more.
    let lost = feed.stats().frames.dropped_total();
    drop(gate);
    while !runtime.abandoned().is_empty() {
        std::thread::yield_now();
    }
    give(n);
    assert_eq!(seen[..2], [(0, 0), (1, 1)]);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    let stats = feed.stats();
    assert!(stats.frames.is_balanced() && stats.frames.inside == 0, "{:?}", stats.frames);
    assert_eq!(stats.frames.dropped[&DropReason::StageHung], 1);
    assert_eq!(stats.frames.dropped_total(), lost, "{:?}", stats.frames);
    assert_eq!(stats.steps[1].failed, 1);
    assert_eq!(
        told(&health),
        [
            "thread \"nv-pipeline gate\" did not end in time and is left behind",
            "stage hangs has not returned within 50ms",
            "restarting in 0.0 s (1 of 5): step hangs: a call has lasted for more than 50ms",
        ]
    );
    shut_down(&runtime);
    recording.check();
}

#[test]
fn a_file_ends_when_a_stage_hangs_and_others_go_on() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (gate, hangs) = hangs_at(3);
    let pipeline = FeedPipeline::builder().stage("hangs", hangs).batch(&detector).build().unwrap();
    let (hung, _) = feed(&runtime, "hung", scene_source(100), pipeline, |c| c.stage_timeout = LIMIT);
    let (other, _) = feed(&runtime, "other", scene_source(50), detect(&detector), |_| ());
    check_end(&hung, "stage_hung");
    let frames = hung.stats().frames;
    assert!(frames.is_balanced() && frames.inside == 0, "{frames:?}");
    assert_eq!((frames.emitted <= 3, frames.dropped[&DropReason::StageHung]), (true, 1));
    check_end(&other, "end_of_stream");
    check_frames(&other, 50, &[]);
    assert_eq!(runtime.shutdown(Duration::ZERO).abandoned, ["nv-pipeline hung"]);
    drop(gate);
}
