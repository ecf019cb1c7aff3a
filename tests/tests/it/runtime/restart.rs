//! Cameras that are lost and come back, and stages that can't be built for a while.

use std::sync::atomic::{AtomicU32, Ordering};

use nv_core::{CancelToken, DropReason, HealthEvent, HealthKind};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceItem, StageError};
use nv_runtime::{BatchConfig, RestartConfig, RestartTrigger, StageFactory};
use nv_tests::{fed_source, number_processor, stage, tally_stage};

use super::decisions::recorded;
use super::*;

/// Restarts without much ado.
fn soon() -> RestartConfig {
    let (short, most) = (Duration::from_millis(1), Duration::from_millis(4));
    RestartConfig {
        backoff: short,
        max_backoff: most,
        reconnect_backoff: short,
        max_reconnect_backoff: most,
        ..RestartConfig::default()
    }
}

fn error(kind: SourceErrorKind) -> SourceError {
    SourceError::new(kind, "test:", "no luck")
}

/// Waits for an event that `wanted` recognises.
fn wait_for(health: &Receiver<HealthEvent>, wanted: impl Fn(&HealthKind) -> bool) -> HealthKind {
    loop {
        let event = health.recv_timeout(LONG).unwrap();
        if wanted(&event.kind) {
            return event.kind;
        }
    }
}

#[test]
fn a_camera_that_is_lost_is_opened_again_as_a_new_session() {
    let (runtime, recording) = recorded();
    let health = runtime.health();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let pipeline = FeedPipeline::builder().batch(&detector).stage("tally", tally_stage()).build().unwrap();
    let (feed, outputs) = feed(&runtime, "gate", source, pipeline, |c| c.restart = soon());
    let mut seen = Vec::new();
    let mut give = |n| {
        feeder.frame(n);
        let output = outputs.recv_timeout(LONG).unwrap();
        let tally = output.perception.signals()[0].value.clone();
        seen.push((output.session, output.frame.seq(), output.perception.objects()[0].class_id, tally));
    };
    give(0);
    give(1);
    feeder.item(SourceItem::End);
    give(2);
    give(3);
    feeder.error(error(SourceErrorKind::Transient));
    give(4);
    let tally = |n: i64| n.into();
    let expected =
        [(0, 0, 0, tally(1)), (0, 1, 1, tally(2)), (1, 2, 2, tally(1)), (1, 3, 3, tally(2)), (2, 4, 4, tally(1))];
    assert_eq!(seen, expected);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    check_frames(&feed, 5, &[]);
    assert_eq!(feed.stats().sessions, 3);
    let told: Vec<String> = health
        .try_iter()
        .filter_map(|e| match e.kind {
            HealthKind::SourceOpened { session, .. } => Some(format!("{} opened {session}", e.count)),
            HealthKind::SourceLost { reason, .. } => Some(format!("{} lost: {reason}", e.count)),
            _ => None,
        })
        .collect();
    // Within a second: what repeats is told of at once, and before the feed's end.
    assert_eq!(told, ["1 opened 0", "1 lost: the stream ended", "1 lost: test:: no luck", "2 opened 2"]);
    shut_down(&runtime);
    recording.check();
}

#[test]
fn a_camera_that_falls_silent_is_opened_again() {
    let runtime = runtime();
    let health = runtime.health();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let restart = RestartConfig { stall_timeout: Duration::from_millis(10), ..soon() };
    let (feed, outputs) = feed(&runtime, "gate", source, detect(&detector), |c| c.restart = restart);
    let lost = wait_for(&health, |k| matches!(k, HealthKind::SourceLost { .. }));
    assert!(matches!(lost, HealthKind::SourceLost { reason, .. } if reason == "no frame for 10ms"));
    wait_for(&health, |k| matches!(k, HealthKind::SourceOpened { session: 1.., .. }));
    feeder.frame(0);
    assert!(outputs.recv_timeout(LONG).unwrap().session >= 1);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    check_frames(&feed, 1, &[]);
    shut_down(&runtime);
}

#[test]
fn a_camera_that_breaks_too_often_ends_its_feed_alone() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let (well, other) = fed_source(true);
    let restart = RestartConfig { max_restarts: 2, ..soon() };
    let (gate, outputs) = feed(&runtime, "gate", source, detect(&detector), |c| c.restart = restart);
    let (yard, _yard_outputs) = feed(&runtime, "yard", other, detect(&detector), |c| c.restart = soon());
    for n in 0..3 {
        feeder.frame(n);
        assert_eq!(outputs.recv_timeout(LONG).map(|o| o.session), Ok(u32::try_from(n).unwrap()));
        feeder.error(error(SourceErrorKind::Damaged));
    }
    check_end(&gate, "restart_limit_exceeded");
    assert_eq!(gate.wait().to_string(), "given up after 2 restarts within 300s: test:: no luck");
    check_frames(&gate, 3, &[]);
    well.frame(0);
    while yard.stats().frames.emitted == 0 {
        std::thread::yield_now();
    }
    assert!(yard.stats().end.is_none());
    shut_down(&runtime);
}

#[test]
fn files_and_those_who_ask_for_it_end_with_their_source() {
    let check = |live: bool, change: fn(&mut FeedConfig), lost: Option<SourceErrorKind>, expected: &str| {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig::default());
        let (feeder, source) = fed_source(live);
        let (feed, _) = feed(&runtime, "gate", source, detect(&detector), |c| {
            c.restart = soon();
            change(c);
        });
        match lost {
            Some(kind) => feeder.error(error(kind)),
            None => feeder.item(SourceItem::End),
        }
        check_end(&feed, expected);
        assert_eq!(feed.stats().sessions, 1);
        shut_down(&runtime);
    };
    use SourceErrorKind::*;
    check(false, |_| (), None, "end_of_stream");
    check(false, |_| (), Some(Transient), "source_failed");
    check(false, |_| (), Some(Damaged), "source_failed");
    check(true, |c| c.spec.live = true, None, "end_of_stream");
    check(true, |c| c.restart.on = RestartTrigger::Never, None, "end_of_stream");
    check(true, |c| c.restart.on = RestartTrigger::Stage, Some(Transient), "source_failed");
    check(true, |_| (), Some(Unsupported), "source_failed");
    check(true, |c| c.restart.max_restarts = 0, Some(Io), "restart_limit_exceeded");
}

/// Fails to open `failures` times, then is `source`.
struct Hesitant {
    failures: AtomicU32,
    kind: SourceErrorKind,
    source: Arc<dyn SourceFactory>,
}

impl SourceFactory for Hesitant {
    fn schemes(&self) -> &[&str] {
        &["hesitant"]
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() { Err(error(self.kind)) } else { self.source.open(spec, cancel) }
    }
}

#[test]
fn a_camera_that_is_away_at_first_is_waited_for() {
    let check = |kind, expected: &str, sessions| {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig::default());
        let (feeder, source) = fed_source(true);
        let source = Arc::new(Hesitant { failures: AtomicU32::new(12), kind, source });
        let (feed, outputs) = feed(&runtime, "gate", source, detect(&detector), |c| c.restart = soon());
        feeder.frame(0);
        if sessions > 0 {
            assert_eq!(outputs.recv_timeout(LONG).map(|o| o.session), Ok(0));
            feed.stop(LONG);
        }
        check_end(&feed, expected);
        assert_eq!(feed.stats().sessions, sessions);
        shut_down(&runtime);
    };
    check(SourceErrorKind::Transient, "stopped", 1);
    check(SourceErrorKind::NotFound, "source_failed", 0);
    check(SourceErrorKind::Denied, "source_failed", 0);
}

#[test]
fn a_feed_that_waits_for_its_camera_can_be_stopped() {
    let runtime = runtime();
    let health = runtime.health();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let away = |failures| {
        let (feeder, source) = fed_source(true);
        feeder.item(SourceItem::End);
        let failures = AtomicU32::new(failures);
        (feeder, Arc::new(Hesitant { failures, kind: SourceErrorKind::Transient, source }))
    };
    let patient = RestartConfig { reconnect_backoff: LONG, ..RestartConfig::default() };
    for failures in [0, u32::MAX] {
        let (_feeder, source) = away(failures);
        let (feed, _) = feed(&runtime, "gate", source, detect(&detector), |c| c.restart = patient.clone());
        wait_for(&health, |k| matches!(k, HealthKind::SourceLost { .. }));
        let begun = runtime.now();
        feed.stop(LONG);
        check_end(&feed, "stopped");
        assert!(runtime.now().since(begun) < LONG / 3, "it does not sit out its back-off");
        runtime.remove_feed("gate", LONG);
    }
    shut_down(&runtime);
}

/// A stage that panics on picture 1, and can't be built anew for `failures` times after the first.
fn fragile(failures: u32) -> StageFactory {
    let built = Arc::new(AtomicU32::new(0));
    let fragile = stage(|input| {
        assert_ne!(input.perception().objects()[0].class_id, 1, "not this one");
        Ok(Default::default())
    });
    Arc::new(move || match built.fetch_add(1, Ordering::SeqCst) {
        n if (1..=failures).contains(&n) => Err(StageError::fatal("no device")),
        _ => fragile(),
    })
}

#[test]
fn a_stage_that_can_not_be_built_is_tried_again() {
    let runtime = runtime();
    let health = runtime.health();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let pipeline = FeedPipeline::builder()
        .batch(&detector)
        .stage("fragile", fragile(3))
        .stage("tally", tally_stage())
        .build()
        .unwrap();
    let (feed, outputs) = feed(&runtime, "gate", source, pipeline, |c| c.restart = soon());
    feeder.frame(0);
    assert!(outputs.recv_timeout(LONG).is_ok());
    feeder.frame(1);
    let first = wait_for(&health, |k| matches!(k, HealthKind::FeedRestarting { .. }));
    assert!(matches!(first, HealthKind::FeedRestarting { number: 1, limit: 5, .. }));
    wait_for(&health, |k| matches!(k, HealthKind::FeedRestarting { number: 3, .. }));
    // While it restarts, frames are dropped; then they pass again.
    let output = (2..).find_map(|_| {
        feeder.frame(2);
        outputs.recv_timeout(Duration::from_millis(5)).ok()
    });
    let output = output.unwrap();
    assert_eq!(output.session, 0, "the camera is none the worse for it");
    assert_eq!(output.perception.signals()[0].value, 1i64.into(), "the other stages are told of the gap");
    feed.stop(LONG);
    check_end(&feed, "stopped");
    let frames = feed.stats().frames;
    assert!(frames.is_balanced() && frames.inside == 0, "{frames:?}");
    assert_eq!(frames.dropped.get(&DropReason::StagePanic), Some(&1));
    assert!(frames.dropped.keys().all(|r| matches!(r, DropReason::StagePanic | DropReason::FeedRestarted)));
    shut_down(&runtime);
}

#[test]
fn a_stage_that_can_not_be_built_too_often_ends_the_feed() {
    let check = |live, change: fn(&mut FeedConfig), expected: &str| {
        let runtime = runtime();
        let detector = batch(&runtime, number_processor(), BatchConfig::default());
        let (feeder, source) = fed_source(live);
        let pipeline = FeedPipeline::builder().batch(&detector).stage("fragile", fragile(u32::MAX)).build().unwrap();
        let (feed, _) = feed(&runtime, "gate", source, pipeline, |c| {
            c.restart = soon();
            change(c);
        });
        feeder.frame(1);
        assert_eq!(feed.wait().to_string(), expected);
        check_frames(&feed, 0, &[(DropReason::StagePanic, 1)]);
        shut_down(&runtime);
    };
    let plain = "step fragile: no device";
    check(true, |_| (), "given up after 5 restarts within 300s: step fragile: no device");
    check(true, |c| c.restart.on = RestartTrigger::Source, plain);
    check(true, |c| c.restart.on = RestartTrigger::Never, plain);
    check(false, |_| (), plain);
}

/// A camera whose first session does not keep to the time that it is given. It comes back when it is cancelled, if it `minds`.
struct Deaf {
    minds: bool,
    sessions: AtomicU32,
    source: Arc<dyn SourceFactory>,
    release: Receiver<()>,
}

struct DeafSource {
    info: nv_perception::StreamInfo,
    cancel: Option<CancelToken>,
    release: Receiver<()>,
}

impl SourceFactory for Deaf {
    fn schemes(&self) -> &[&str] {
        &["test"]
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        let source = self.source.open(spec, cancel)?;
        if self.sessions.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(source);
        }
        let (info, cancel) = (source.info().clone(), self.minds.then(|| cancel.clone()));
        Ok(Box::new(DeafSource { info, cancel, release: self.release.clone() }))
    }
}

impl FrameSource for DeafSource {
    fn info(&self) -> &nv_perception::StreamInfo {
        &self.info
    }

    fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
        match &self.cancel {
            Some(cancel) => drop(cancel.wait_timeout(LONG)),
            None => drop(self.release.recv_timeout(LONG)),
        }
        Err(error(SourceErrorKind::Cancelled))
    }
}

#[test]
fn a_camera_that_does_not_come_back_from_a_call_is_cancelled_and_opened_again() {
    let runtime = runtime();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let (_never, release) = crossbeam_channel::bounded(1);
    let source = Arc::new(Deaf { minds: true, sessions: AtomicU32::new(0), source, release });
    let restart = RestartConfig { stall_timeout: Duration::from_millis(10), ..soon() };
    let (feed, outputs) = feed(&runtime, "gate", source, detect(&detector), |c| c.restart = restart);
    feeder.frame(0);
    assert!(outputs.recv_timeout(LONG / 3).unwrap().session >= 1);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    shut_down(&runtime);
}

#[test]
fn a_camera_that_does_not_let_itself_be_cancelled_is_named() {
    let runtime = impatient();
    let health = runtime.health();
    let detector = batch(&runtime, number_processor(), BatchConfig::default());
    let (feeder, source) = fed_source(true);
    let (releases, release) = crossbeam_channel::bounded(1);
    let source = Arc::new(Deaf { minds: false, sessions: AtomicU32::new(0), source, release });
    let restart = RestartConfig { stall_timeout: Duration::from_millis(10), ..soon() };
    let (feed, outputs) = feed(&runtime, "gate", source, detect(&detector), |c| c.restart = restart);
    let hung = wait_for(&health, |k| matches!(k, HealthKind::SourceHung { .. }));
    assert_eq!(hung, HealthKind::SourceHung { limit: Duration::from_millis(2010) });
    // When it comes back after all, it is none the worse for it.
    releases.send(()).unwrap();
    feeder.frame(0);
    assert!(outputs.recv_timeout(LONG).unwrap().session >= 1);
    feed.stop(LONG);
    check_end(&feed, "stopped");
    shut_down(&runtime);
}
