//! What the runtime says of itself: events, states, diagnostics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::yield_now;

use nv_core::{CancelToken, HealthKind};
use nv_perception::{FrameSource, OutputSink, SinkError, SourceError, SourceItem, StageOutput};
use nv_runtime::{FeedState, SinkConfig};
use nv_tests::{fed_source, gate, number_processor, processor, scene_source, stage};
use serde_json::json;

use super::*;

/// Does something before a source is opened.
struct Before<F>(F, Arc<dyn SourceFactory>);

impl<F: Fn() + Send + Sync> SourceFactory for Before<F> {
    fn schemes(&self) -> &[&str] {
        &["test"]
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        (self.0)();
        self.1.open(spec, cancel)
    }
}

fn pass_through() -> FeedPipeline {
    FeedPipeline::builder().stage("nothing", stage(|_| Ok(StageOutput::default()))).build().unwrap()
}

fn wait_for_state(feed: &FeedHandle, state: FeedState) {
    while feed.stats().state != state {
        yield_now();
    }
}

#[test]
fn a_feed_says_what_it_is_doing() {
    let runtime = runtime();
    let (door, visitor) = gate();
    let (feeder, source) = fed_source(true);
    let source = Arc::new(Before(move || visitor.pass(), source));
    let (feed, outputs) = feed(&runtime, "gate", source, pass_through(), |c| {
        c.restart = RestartConfig { reconnect_backoff: LONG, ..RestartConfig::default() };
    });
    door.wait_for_visitor();
    let stats = feed.stats();
    assert_eq!((stats.state, stats.sessions, stats.retry_in), (FeedState::Connecting, 0, None));
    door.let_one_pass();
    feeder.frame(0);
    outputs.recv_timeout(LONG).unwrap();
    assert_eq!(feed.stats().state, FeedState::Running);
    feed.pause();
    assert_eq!(feed.stats().state, FeedState::Paused);
    feed.resume();
    assert_eq!(feed.stats().state, FeedState::Running);
    feeder.item(SourceItem::End);
    wait_for_state(&feed, FeedState::Connecting);
    let stats = feed.stats();
    assert_eq!((stats.sessions, stats.restarts, stats.lagging), (1, 0, false));
    assert!(stats.retry_in.is_some_and(|left| left > LONG / 3 && left <= LONG), "{:?}", stats.retry_in);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    assert_eq!(feed.stats().state, FeedState::Ended);
    shut_down(&runtime);
}

#[test]
fn diagnostics_show_what_hangs_and_what_has_ended() {
    let runtime = runtime();
    let health = runtime.health();
    let (door, visitor) = gate();
    let stuck = processor(move |batch: &mut [nv_perception::BatchEntry]| {
        visitor.pass();
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    });
    let limit = Duration::from_millis(20);
    let config = BatchConfig { max_batch_size: 1, instances: 2, response_timeout: limit, ..BatchConfig::default() };
    let detector = batch(&runtime, stuck, config);
    let quick = runtime.create_batch("quick", number_processor(), BatchConfig::default()).unwrap();
    let (file, _) = feed(&runtime, "file", scene_source(1), detect(&detector), |_| ());
    let (other, _) = feed(&runtime, "other", scene_source(3), detect(&quick), |_| ());
    check_end(&other, "end_of_stream");
    check_end(&file, "end_of_stream");
    let wedged = |kind: &HealthKind| matches!(kind, HealthKind::InstanceWedged { .. });
    while !wedged(&health.recv_timeout(LONG).unwrap().kind) {}

    let told = runtime.diagnostics();
    assert!(told.uptime >= limit);
    assert_eq!(told.batches.iter().map(|b| b.batch.as_str()).collect::<Vec<_>>(), ["detector", "quick"]);
    let instances = &told.batches[0].instances;
    assert_eq!(instances.iter().filter(|i| i.wedged && i.computing.is_some_and(|t| t >= limit)).count(), 1);
    assert_eq!(instances.iter().filter(|i| !i.wedged && i.computing.is_none()).count(), 1, "{instances:?}");
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["feeds"][0]["feed"], "file");
    assert_eq!(json["feeds"][0]["frames"]["dropped"], json!({"timeout": 1}));
    assert_eq!(json["feeds"][0]["end"], json!({"reason": "end_of_stream", "ok": true, "message": "end of stream"}));
    assert_eq!(json["feeds"][1]["state"], "ended");
    assert_eq!(json["batches"][0]["config"]["response_timeout_ms"], 20.0);
    assert_eq!(json["batches"][1]["metrics"]["processed"], 3);
    assert_eq!((&json["batches"][0]["down"], &json["batches"][0]["trouble"]), (&json!(false), &json!(null)));
    assert_eq!((&json["abandoned_threads"], &json["health_events_missed"]), (&json!([]), &json!(0)));
    drop(door);
    shut_down(&runtime);
    assert!(runtime.diagnostics().feeds.is_empty());
    assert!(health.try_iter().any(|e| matches!(e.kind, HealthKind::InstanceFreed { took, .. } if took >= limit)));
}

#[test]
fn a_live_feed_that_is_late_says_so_until_it_is_not() {
    let runtime = runtime();
    let health = runtime.health();
    let (door, visitor) = gate();
    let slow = stage(move |_| {
        visitor.pass();
        Ok(StageOutput::default())
    });
    let pipeline = FeedPipeline::builder().stage("slow", slow).build().unwrap();
    let (feeder, source) = fed_source(true);
    let (feed, outputs) = feed(&runtime, "gate", source, pipeline, |_| ());
    let pass = |n| {
        feeder.frame(n);
        door.wait_for_visitor();
        // Nothing happens until the frame is late.
        while n == 0 && health.recv_timeout(Duration::from_millis(2_050)).is_ok() {}
        door.let_one_pass();
        outputs.recv_timeout(LONG).unwrap();
        health
            .try_iter()
            .map(|e| e.kind)
            .find(|k| matches!(k, HealthKind::FeedLagging { .. } | HealthKind::FeedCaughtUp))
    };
    let late = Duration::from_secs(2);
    assert!(matches!(pass(0), Some(HealthKind::FeedLagging { age }) if age > late));
    let stats = feed.stats();
    assert!(stats.state == FeedState::Lagging && stats.lagging);
    assert_eq!(pass(1), Some(HealthKind::FeedCaughtUp));
    assert_eq!(feed.stats().state, FeedState::Running);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    shut_down(&runtime);
}

#[test]
fn frames_that_there_is_no_time_for_are_told_of_with_their_number() {
    let runtime = runtime();
    let health = runtime.health();
    let (door, visitor) = gate();
    let slow = stage(move |_| {
        visitor.pass();
        Ok(StageOutput::default())
    });
    let pipeline = FeedPipeline::builder().stage("slow", slow).build().unwrap();
    let (feeder, source) = fed_source(true);
    let (feed, _) = feed(&runtime, "gate", source, pipeline, |c| c.queue_capacity = 2);
    feeder.frame(0);
    door.wait_for_visitor();
    (1..20).for_each(|n| feeder.frame(n));
    while feed.stats().frames.received < 20 {
        yield_now();
    }
    drop((door, feeder));
    check_end(&feed, "end_of_stream");
    let dropped = feed.stats().frames.dropped[&DropReason::QueueFull];
    assert!(dropped > 0);
    let frames = |kind| match kind {
        HealthKind::FramesDropped { reason: DropReason::QueueFull, frames } => Some(frames),
        _ => None,
    };
    let told: Vec<u64> = health.try_iter().filter_map(|e| frames(e.kind)).collect();
    assert_eq!(told.iter().sum::<u64>(), dropped, "{told:?}");
    shut_down(&runtime);
}

#[test]
fn a_sink_that_takes_outputs_again_says_so() {
    struct Slow(nv_tests::Visitor);
    impl OutputSink for Slow {
        fn emit(&mut self, _: &Output) -> Result<(), SinkError> {
            self.0.pass();
            Ok(())
        }
    }
    let runtime = runtime();
    let health = runtime.health();
    let (door, visitor) = gate();
    let (feeder, source) = fed_source(true);
    let (feed, outputs) = feed(&runtime, "gate", source, pass_through(), |c| {
        c.sinks.push(SinkConfig { queue_capacity: 1, ..SinkConfig::new("slow", Box::new(Slow(visitor))) });
    });
    let mut give = |n| {
        feeder.frame(n);
        outputs.recv_timeout(LONG).unwrap();
    };
    // One in its hands, one in its queue, one too many.
    (0..3).for_each(&mut give);
    let full = |kind: &HealthKind| matches!(kind, HealthKind::SinkFull { .. });
    while !full(&health.recv_timeout(LONG).unwrap().kind) {}
    drop(door);
    let again = (3..).find_map(|n| {
        give(n);
        health.try_iter().find(|e| matches!(e.kind, HealthKind::SinkCaughtUp { .. }))
    });
    assert_eq!(again.unwrap().to_string(), "feed gate: sink slow takes outputs again");
    feed.stop(LONG);
    check_end(&feed, "stopped");
    shut_down(&runtime);
}

#[test]
fn runtimes_may_share_permits_to_connect() {
    let connect_permits = ConnectPermits::new(1);
    let config = || RuntimeConfig { connect_permits: connect_permits.clone(), ..RuntimeConfig::default() };
    let (first, second) = (Runtime::new(config()), Runtime::new(config()));
    let (door, visitor) = gate();
    let connected = Arc::new(AtomicBool::new(false));
    let connects = {
        let connected = connected.clone();
        move || {
            visitor.pass();
            connected.store(true, Ordering::SeqCst);
        }
    };
    let (gate, _) = feed(&first, "gate", Arc::new(Before(connects, scene_source(1))), pass_through(), |_| ());
    door.wait_for_visitor();
    let alone = move || assert!(connected.load(Ordering::SeqCst), "not before the other one");
    let (yard, _) = feed(&second, "yard", Arc::new(Before(alone, scene_source(1))), pass_through(), |_| ());
    door.let_one_pass();
    check_end(&yard, "end_of_stream");
    check_end(&gate, "end_of_stream");
    shut_down(&first);
    shut_down(&second);
}
