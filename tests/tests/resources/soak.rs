//! A long run with faults: nothing grows, nothing is lost, no thread is left.
//!
//! It takes real time by its nature: half a minute as a rule, ten minutes where `NV_TEST_DEEP` is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nv_core::CancelToken;
use nv_perception::{Output, OutputSink, SinkError, SourceSpec, StageOutput};
use nv_runtime::{BatchConfig, BatchHandle, FeedConfig, FeedHandle, FeedPipeline, Runtime, RuntimeConfig, SinkConfig};

use crate::world::{Cameras, Given};
use crate::{alone, process, say};

/// How long it runs, and how much more memory may be in use at its end than after its first fifth, by a line through what
/// was seen.
struct Form {
    length: Duration,
    most_growth: f64,
}

const MIB: f64 = 1024.0 * 1024.0;

/// In the short form memory still grows to what the process needs (measured: 1.3 MiB of it): it tells a leak of some hundred
/// bytes a frame. The long one is held to what is promised.
const SHORT: Form = Form { length: Duration::from_secs(30), most_growth: 3.0 * MIB };
const LONG: Form = Form { length: Duration::from_secs(600), most_growth: MIB };

const TICK: Duration = Duration::from_secs(1);
const PANIC_EVERY: Duration = Duration::from_secs(5);
const STALL_EVERY: Duration = Duration::from_secs(3);
const STALL: Duration = Duration::from_millis(1200);

/// Cameras that are there from the beginning to the end.
const STEADY: usize = 8;
/// Feeds that came last and are still there.
const PASSING: usize = 4;

/// Something that comes round every so often, for whoever asks first.
struct Every {
    begun: Instant,
    interval: Duration,
    /// When it is due for the first time.
    first: Duration,
    rounds: AtomicU64,
}

impl Every {
    fn new(interval: Duration) -> Arc<Self> {
        Self::starting(interval, interval)
    }

    fn starting(first: Duration, interval: Duration) -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), interval, first, rounds: AtomicU64::new(0) })
    }

    /// True once in every interval.
    fn is_due(&self) -> bool {
        let Some(since) = self.begun.elapsed().checked_sub(self.first) else { return false };
        let round = (since.as_millis() / self.interval.as_millis()) as u64 + 1;
        self.rounds.fetch_max(round, Ordering::SeqCst) < round
    }

    fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }
}

/// Ends the call as a panic does, without the noise.
fn stumble() -> ! {
    std::panic::resume_unwind(Box::new("stumbled"))
}

/// A sink that stalls now and then.
struct Stalling(Arc<Every>);

impl OutputSink for Stalling {
    fn emit(&mut self, _: &Output) -> Result<(), SinkError> {
        if self.0.is_due() {
            CancelToken::new().wait_timeout(STALL);
        }
        Ok(())
    }
}

struct World {
    runtime: Runtime,
    point: BatchHandle,
    given: Arc<Given>,
    /// Of processors and of stages.
    panics: [Arc<Every>; 2],
    stalls: Arc<Every>,
    feeds: u64,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new(RuntimeConfig::default());
        // By turns: one of the two panics every 5 s.
        let panics = [1, 2].map(|turn| Every::starting(turn * PANIC_EVERY, 2 * PANIC_EVERY));
        let panic = panics[0].clone();
        let processor = nv_tests::idempotent_processor(move |batch| {
            if panic.is_due() {
                stumble();
            }
            batch.iter_mut().for_each(|entry| entry.finish(Ok(StageOutput::default())));
            Ok(())
        });
        let config = BatchConfig { instances: 2, ..BatchConfig::default() };
        let point = runtime.create_batch("detector", processor, config).unwrap();
        let stalls = Every::new(STALL_EVERY);
        Self { runtime, point, given: Arc::default(), panics, stalls, feeds: 0 }
    }

    /// Adds a camera, or by turns a camera and a file.
    fn add(&mut self, steady: bool) -> FeedHandle {
        let number = self.feeds;
        self.feeds += 1;
        let panic = self.panics[1].clone();
        let stage = nv_tests::stage(move |_| if panic.is_due() { stumble() } else { Ok(StageOutput::default()) });
        let pipeline = FeedPipeline::builder().batch(&self.point).stage("stage", stage).build().unwrap();
        let live = steady || number.is_multiple_of(2);
        let interval = Duration::from_secs(1) / if live { 30 } else { 1000 };
        let frames = if live { u64::MAX } else { 100 };
        let cameras = Cameras { live, interval: Some(interval), frames, given: self.given.clone() };
        let spec = SourceSpec::new("cheap:");
        let mut config = FeedConfig::new(format!("feed {number}"), Arc::new(cameras), spec, pipeline);
        // A stage that panics is built anew at once; no panic ends a feed.
        config.sinks.push(SinkConfig::new("stalling", Box::new(Stalling(self.stalls.clone()))));
        self.runtime.add_feed(config).unwrap()
    }

    /// Removes a feed, which is to end as it should and to account for each of its frames. Returns how many it received.
    fn remove(&self, feed: &FeedHandle) -> u64 {
        let removed = self.runtime.remove_feed(feed.name(), Duration::from_secs(10)).expect("it is there");
        let stats = removed.stats();
        let end = stats.end.clone().unwrap_or_else(|| panic!("it has not ended: {stats:?}"));
        assert!(end.is_ok(), "{end}");
        let frames = &stats.frames;
        assert!(frames.is_balanced() && frames.inside == 0, "{frames:?}");
        for sink in &stats.sinks {
            assert_eq!(sink.taken + sink.failed + sink.passed_by, frames.emitted, "{sink:?}");
        }
        frames.received
    }
}

/// How fast `values` grow, from one to the next, by least squares.
fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean_x = (n - 1.0) / 2.0;
    let mean_y = values.iter().sum::<f64>() / n;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let x = x as f64 - mean_x;
        xy += x * (y - mean_y);
        xx += x * x;
    }
    if xx == 0.0 { 0.0 } else { xy / xx }
}

fn soak(form: &Form) {
    let threads_before = process::threads();
    let mut world = World::new();
    // One that listens, and one that never does.
    let (health, _deaf) = (world.runtime.health(), world.runtime.health());
    let steady: Vec<_> = (0..STEADY).map(|_| world.add(true)).collect();
    let mut passing = std::collections::VecDeque::new();
    let (mut received, mut events) = (0, 0u64);
    let ticks = form.length.as_secs();
    let mut memory = Vec::with_capacity(ticks as usize);
    let begun = Instant::now();
    for tick in 1..=ticks as u32 {
        passing.push_back(world.add(false));
        if passing.len() > PASSING
            && let Some(feed) = passing.pop_front()
        {
            received += world.remove(&feed);
        }
        events += health.try_iter().count() as u64;
        for feed in steady.iter().chain(&passing) {
            let frames = feed.stats().frames;
            assert!(frames.is_balanced(), "{frames:?}");
        }
        memory.push(process::resident() as f64);
        CancelToken::new().wait_timeout((begun + TICK * tick).saturating_duration_since(Instant::now()));
    }
    assert!(process::threads() > threads_before, "they are counted");
    let metrics = world.point.metrics();
    let passed_by: u64 = steady.iter().flat_map(|f| f.stats().sinks).map(|s| s.passed_by).sum();
    for feed in steady.iter().chain(&passing) {
        received += world.remove(feed);
    }
    let panics: u64 = world.panics.iter().map(|p| p.rounds()).sum();
    let (given, stalls) = (world.given.clone(), world.stalls.rounds());
    assert_eq!(world.runtime.shutdown(Duration::from_secs(10)).abandoned, Vec::<String>::new());
    drop((world, steady, passing));

    // The first fifth is for everything to have been used once.
    let later = &memory[memory.len() / 5..];
    let growth = slope(later) * later.len() as f64;
    let peak = memory.iter().copied().fold(0.0, f64::max);
    say(&format!(
        "{ticks} s: {received} frames, {panics} panics, {stalls} stalls, {passed_by} outputs passed by, {events} events; memory grew by {:.2} MiB in the last {} s (at most {:.1} MiB in use)",
        growth / MIB,
        later.len(),
        peak / MIB
    ));
    assert_eq!(given.frames.load(Ordering::SeqCst), received, "every frame that was given was received");
    assert_eq!(given.held.load(Ordering::SeqCst), 0, "frames are still held");
    assert_eq!(process::threads(), threads_before, "threads are left");
    let due = ticks / PANIC_EVERY.as_secs();
    assert!(panics + 2 >= due, "{panics} panics, not the {due} that the run is about");
    assert!(metrics.rebuilds > 0 && stalls > 0 && passed_by > 0 && events > 0, "{metrics:?}");
    assert!(growth <= form.most_growth, "memory grew by {:.2} MiB", growth / MIB);
}

#[test]
fn nothing_grows_and_nothing_is_lost() {
    let _alone = alone();
    soak(if std::env::var_os("NV_TEST_DEEP").is_some() { &LONG } else { &SHORT });
}

#[test]
fn the_slope_is_that_of_the_line() {
    fn check(values: &[f64], expected: f64) {
        assert!((slope(values) - expected).abs() < 1e-9, "{values:?}: {}", slope(values));
    }
    check(&[3.0], 0.0);
    check(&[1.0, 3.0, 5.0], 2.0);
    check(&[5.0, 5.0, 5.0, 5.0], 0.0);
    check(&[0.0, 2.0, 1.0, 3.0], 0.8);
}
