//! What feeds cost that have little to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nv_core::CancelToken;
use nv_perception::{Output, OutputSink, SinkError, SourceSpec};
use nv_runtime::{BatchConfig, FeedConfig, FeedHandle, FeedPipeline, Runtime, RuntimeConfig, SinkConfig};

use crate::world::{Cameras, free_processor};
use crate::{alone, process, say};

struct Nowhere;

impl OutputSink for Nowhere {
    fn emit(&mut self, _: &Output) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A runtime with a batch point, and live feeds at it with a sink each, all of which are open.
fn feeds(count: usize, per_second: u32) -> (Runtime, Vec<FeedHandle>) {
    let runtime = Runtime::new(RuntimeConfig::default());
    let point = runtime.create_batch("detector", free_processor(), BatchConfig::default()).unwrap();
    let cameras = Arc::new(Cameras::live(per_second));
    let add = |number: usize| {
        let pipeline = FeedPipeline::builder().batch(&point).build().unwrap();
        let name = format!("feed {number}");
        let mut config = FeedConfig::new(name, cameras.clone(), SourceSpec::new("cheap:"), pipeline);
        config.sinks.push(SinkConfig::new("nowhere", Box::new(Nowhere)));
        runtime.add_feed(config).unwrap()
    };
    let feeds: Vec<_> = (0..count).map(add).collect();
    let limit = Instant::now() + Duration::from_secs(30);
    while feeds.iter().any(|f| f.stats().sessions == 0) {
        assert!(Instant::now() < limit, "the feeds' sources are not open");
        pass(Duration::from_millis(10));
    }
    (runtime, feeds)
}

/// Lets real time pass: what is measured here is what the feeds do by themselves meanwhile.
fn pass(time: Duration) {
    CancelToken::new().wait_timeout(time);
}

#[test]
fn an_idle_feed_takes_little_memory() {
    const FEEDS: usize = 128;
    let _alone = alone();
    // What a first feed costs once, such as code that is read in, is no cost of each.
    let first = feeds(1, 0);
    let before = process::resident();
    let (runtime, idle) = feeds(FEEDS, 0);
    // Two rounds of whatever they do periodically.
    pass(Duration::from_secs(2));
    let each = process::resident().saturating_sub(before) / FEEDS as u64;
    say(&format!("{} KiB for each of {FEEDS} idle feeds", each / 1024));
    assert!(idle.iter().all(|f| f.stats().frames.received == 0));
    assert!(each <= 256 * 1024, "{each} bytes for each idle feed");
    drop((first, runtime));
}

#[test]
fn many_slow_feeds_take_little_time() {
    const FEEDS: usize = 256;
    let _alone = alone();
    let (runtime, feeds) = feeds(FEEDS, 2);
    let outputs = || feeds.iter().map(|f| f.stats().frames.emitted).sum::<u64>();
    // Not the opening of the sources.
    pass(Duration::from_secs(1));
    let (begun, cpu, emitted) = (Instant::now(), process::cpu_time(), outputs());
    pass(Duration::from_secs(5));
    let (time, cpu, emitted) = (begun.elapsed(), process::cpu_time() - cpu, outputs() - emitted);
    let share = cpu.as_secs_f64() / time.as_secs_f64();
    say(&format!("{emitted} frames of {FEEDS} feeds in {time:.1?}: {:.1} % of a core", share * 100.0));
    assert!(emitted >= FEEDS as u64 * 9, "only {emitted} frames came out of {FEEDS} feeds");
    assert!(share < 0.1, "{:.1} % of a core for {FEEDS} feeds at 2 frames/s", share * 100.0);
    drop(runtime);
}
