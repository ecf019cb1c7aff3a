//! Stages that don't come back.

use nv_core::{HealthEvent, HealthKind};
use nv_perception::{Stage, StageError, StageInput, StageOutput, StreamContext};
use nv_runtime::{BatchConfig, RestartConfig, StageFactory};
use nv_tests::{Gate, fed_source, gate, number_processor, scene_source, stage};

use super::decisions::recorded;
use super::*;

const LIMIT: Duration = Duration::from_millis(200);

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
            "stage hangs has not returned within 200ms",
            "restarting in 0.0 s (1 of 5): step hangs: a call has lasted for more than 200ms",
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
    let known = [DropReason::StageHung, DropReason::FeedStopped];
    assert!(frames.dropped.keys().all(|reason| known.contains(reason)), "it is not restarted: {frames:?}");
    check_end(&other, "end_of_stream");
    check_frames(&other, 50, &[]);
    assert_eq!(runtime.shutdown(Duration::ZERO).abandoned, ["nv-pipeline hung"]);
    drop(gate);
}

/// A stage of which each instance does something else.
struct Fickle {
    instance: usize,
    visitor: nv_tests::Visitor,
    /// What instance 1 does when it is started.
    start: fn(&nv_tests::Visitor) -> Result<(), StageError>,
}

impl Stage for Fickle {
    fn start(&mut self, _: &StreamContext) -> Result<(), StageError> {
        if self.instance == 1 { (self.start)(&self.visitor) } else { Ok(()) }
    }

    fn process(&mut self, _: &StageInput<'_>) -> Result<StageOutput, StageError> {
        if self.instance == 0 {
            self.visitor.pass();
        }
        Ok(StageOutput::default())
    }
}

/// A camera's feed whose first pipeline hangs at once, and what its second one does when it starts.
fn fickle(
    runtime: &Runtime,
    start: fn(&nv_tests::Visitor) -> Result<(), StageError>,
) -> (Gate, nv_tests::Feeder, FeedHandle, Receiver<Output>) {
    let (gate, visitor) = gate();
    let built = std::sync::atomic::AtomicUsize::new(0);
    let factory: StageFactory = Arc::new(move || {
        let instance = built.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Box::new(Fickle { instance, visitor: visitor.clone(), start }))
    });
    let detector = batch(runtime, number_processor(), BatchConfig::default());
    let pipeline = FeedPipeline::builder().batch(&detector).stage("fickle", factory).build().unwrap();
    let (feeder, source) = fed_source(true);
    let (feed, outputs) = feed(runtime, "gate", source, pipeline, |c| {
        c.stage_timeout = LIMIT;
        let at_once = Duration::from_millis(1);
        c.restart = RestartConfig { backoff: at_once, max_backoff: at_once, ..RestartConfig::default() };
    });
    feeder.frame(0);
    gate.wait_for_visitor();
    (gate, feeder, feed, outputs)
}

#[test]
fn a_pipeline_that_does_not_start_after_a_hang_is_tried_again() {
    let runtime = runtime();
    let health = runtime.health();
    let (gate, feeder, feed, outputs) = fickle(&runtime, |_| Err(StageError::fatal("no licence yet")));
    let mut seen = (1..).map(|n| {
        feeder.frame(n);
        outputs.recv_timeout(Duration::from_millis(20)).ok()
    });
    assert!(seen.find_map(|output| output).is_some());
    drop(gate);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    assert_eq!(
        told(&health),
        [
            "thread \"nv-pipeline gate\" did not end in time and is left behind",
            "stage fickle has not returned within 200ms",
            "restarting in 0.0 s (1 of 5): step fickle: a call has lasted for more than 200ms",
            "restarting in 0.0 s (2 of 5): step fickle: no licence yet",
        ]
    );
    while !runtime.abandoned().is_empty() {
        std::thread::yield_now();
    }
    shut_down(&runtime);
}

#[test]
fn a_stage_that_hangs_when_it_is_started_is_told_of_and_keeps_nothing() {
    let runtime = Runtime::new(RuntimeConfig { grace: LIMIT, ..own_permits() });
    let health = runtime.health();
    let (gate, feeder, feed, _outputs) = fickle(&runtime, |visitor| {
        visitor.pass();
        Ok(())
    });
    // The second pipeline, in its start.
    gate.wait_for_visitor();
    feeder.frame(1);
    let hung = |kind: &HealthKind| matches!(kind, HealthKind::StageHung { .. });
    let mut hangs = std::iter::from_fn(|| health.recv_timeout(LONG).ok()).filter(|e| hung(&e.kind));
    let (_, second) = (hangs.next().unwrap(), hangs.next().unwrap());
    assert_eq!(second.to_string(), "feed gate: stage fickle has not returned within 200ms");
    // Frames are kept out until it has started.
    while feed.stats().frames.received < 2 {
        std::thread::yield_now();
    }
    let frames = feed.stats().frames;
    assert_eq!(frames.inside, 0, "{frames:?}");
    feed.stop(Duration::ZERO);
    check_end(&feed, "stopped");
    check_frames(&feed, 0, &[(DropReason::StageHung, 1), (DropReason::FeedRestarted, 1)]);
    assert_eq!(runtime.abandoned().len(), 2);
    drop(gate);
    while !runtime.abandoned().is_empty() {
        std::thread::yield_now();
    }
    shut_down(&runtime);
}
