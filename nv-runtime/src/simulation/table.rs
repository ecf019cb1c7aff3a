//! Loads whose outcome is promised, in virtual time: exact, whatever else the machine does.

use std::time::Duration;

use super::processor::{Faults, ProcessorPlan};
use super::scenario::{FeedPlan, PointPlan, Scenario, SinkPlan, StepPlan};
use super::world::World;
use crate::batch::BatchConfig;
use crate::feed::{QueuePolicy, StepErrorPolicy};

/// What came of a load.
struct Outcome {
    /// Outputs of each feed.
    emitted: Vec<u64>,
    dropped: u64,
    /// From reception to output, sorted.
    latencies: Vec<Duration>,
}

impl Outcome {
    fn median(&self) -> Duration {
        self.latencies[self.latencies.len() / 2]
    }

    /// How evenly the feeds were served (R. Jain et al., "A Quantitative Measure of Fairness", 1984): 1 is evenly.
    fn jain(&self) -> f64 {
        let sum: f64 = self.emitted.iter().map(|n| *n as f64).sum();
        let squares: f64 = self.emitted.iter().map(|n| (*n as f64).powi(2)).sum();
        sum * sum / (self.emitted.len() as f64 * squares)
    }
}

fn camera(fps: f64) -> FeedPlan {
    FeedPlan {
        live: true,
        interval: Duration::from_secs_f64(1.0 / fps),
        phase: Duration::ZERO,
        burst: 1,
        jitter: 0.0,
        frames: 0,
        queue: 4,
        policy: QueuePolicy::DropOldest,
        per_second: None,
        suspect: None,
        max_in_pipeline: None,
        steps: vec![StepPlan::Batch(0)],
        on_step_error: StepErrorPolicy::Drop,
        weight: 1,
        key: 0,
        sink: SinkPlan { capacity: 16, takes: Duration::ZERO, stalls: None },
        comes: Duration::ZERO,
        leaves: None,
        troubles: Vec::new(),
    }
}

fn file(frames: u64) -> FeedPlan {
    let interval = Duration::from_micros(50);
    FeedPlan { live: false, interval, frames, policy: QueuePolicy::Block, ..camera(30.0) }
}

/// Runs feeds that share a processor which takes `base + per_entry · n` milliseconds for `span` seconds.
fn run(feeds: Vec<FeedPlan>, (base, per_entry): (f64, f64), max_batch_size: usize, span: u64) -> Outcome {
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    let processor = ProcessorPlan {
        base: ms(base),
        per_entry: ms(per_entry),
        jitter: 0.0,
        idempotent: false,
        faults: Faults::default(),
    };
    let config = BatchConfig { max_batch_size, ..BatchConfig::default() };
    let scenario = Scenario {
        seed: 0,
        points: vec![PointPlan { config, preferred: None, processor, regions: 1 }],
        feeds,
        lateness: Duration::from_micros(50),
        span: Duration::from_secs(span),
        shutdown: None,
    };
    let mut world = World::new(scenario, None, false);
    if let Err(violation) = world.run() {
        panic!("{}: {}\n{}", violation.at.as_millis_f64(), violation.what, world.story());
    }
    let counts: Vec<_> = world.intakes.iter().map(|i| i.core.counts()).collect();
    let mut latencies: Vec<_> = world.feeds.iter().flat_map(|f| f.latencies.iter().copied()).collect();
    latencies.sort_unstable();
    Outcome {
        emitted: counts.iter().map(|c| c.emitted).collect(),
        dropped: counts.iter().map(|c| c.dropped_total()).sum(),
        latencies,
    }
}

#[test]
fn few_cameras_wait_for_little_beyond_their_computation() {
    fn check(cameras: usize, dead: usize, most_ms: f64) {
        let mut feeds = vec![camera(30.0); cameras];
        // One that gives a few frames and then nothing more.
        let silent = super::scenario::SourceTrouble::Silent(Duration::from_secs(60));
        feeds.extend(vec![FeedPlan { troubles: vec![(Duration::from_secs(1), silent)], ..camera(30.0) }; dead]);
        let outcome = run(feeds, (4.0, 0.5), 16, 5);
        let median = outcome.median().as_secs_f64() * 1e3;
        assert!(median <= most_ms, "{cameras} cameras and {dead} dead: {median:.2} ms");
        assert_eq!(outcome.dropped, 0);
    }
    check(1, 0, 4.5 + 0.7);
    check(8, 0, 8.0 + 1.5);
    check(8, 1, 8.0 + 2.0);
}

#[test]
fn bursts_at_a_quarter_of_the_load_lose_nothing() {
    let bursty = FeedPlan { burst: 3, ..camera(30.0) };
    let outcome = run(vec![bursty; 8], (4.0, 0.5), 16, 10);
    assert_eq!(outcome.dropped, 0);
    assert!(outcome.emitted.iter().all(|n| *n >= 290), "{:?}", outcome.emitted);
}

#[test]
fn many_slow_cameras_that_are_aligned_lose_nothing() {
    let outcome = run(vec![camera(5.0); 64], (4.0, 1.0), 4, 10);
    assert_eq!(outcome.dropped, 0);
}

#[test]
fn an_overload_of_cameras_is_fresh_and_even() {
    let spread = |i: u64| FeedPlan { phase: Duration::from_micros(i * 521), ..camera(30.0) };
    let outcome = run((0..64).map(spread).collect(), (4.0, 0.5), 16, 10);
    let (median, jain) = (outcome.median(), outcome.jain());
    assert!(median <= Duration::from_millis(40), "{median:?}");
    assert!(jain >= 0.99, "{jain}");
    let sum: u64 = outcome.emitted.iter().sum();
    assert!(sum >= 12_800, "{sum} of at most 13,333 in 10 s");
}

#[test]
fn many_files_at_a_slow_processor_lose_nothing() {
    let outcome = run(vec![file(10); 64], (0.0, 100.0), 16, 1);
    assert_eq!((outcome.dropped, outcome.emitted), (0, vec![10; 64]));
}
