//! What happens in a run, made from a seed: feeds, batch points, what goes wrong and when.

use std::time::Duration;

use fastrand::Rng;
use nv_core::MonoTime;

use super::processor::{Faults, ProcessorPlan};
use crate::batch::BatchConfig;
use crate::feed::{QueuePolicy, StepErrorPolicy};

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) points: Vec<PointPlan>,
    pub(super) feeds: Vec<FeedPlan>,
    /// How late a thread may be that was woken.
    pub(super) lateness: Duration,
    /// When live sources end.
    pub(super) span: Duration,
    /// When everything is shut down and how long the drain may take; `None`: feeds end by themselves.
    pub(super) shutdown: Option<(Duration, Duration)>,
}

/// A batch point.
#[derive(Clone, Debug)]
pub(super) struct PointPlan {
    pub(super) config: BatchConfig,
    /// What its processors say they can take at most.
    pub(super) preferred: Option<usize>,
    pub(super) processor: ProcessorPlan,
    /// The most parts that a frame has there; with 1 it is taken whole.
    pub(super) regions: usize,
}

/// A feed.
#[derive(Clone, Debug)]
pub(super) struct FeedPlan {
    pub(super) live: bool,
    /// Between two frames; for a file, what it takes to decode one.
    pub(super) interval: Duration,
    /// When its first frame comes, after it was added.
    pub(super) phase: Duration,
    /// Frames that come at once.
    pub(super) burst: u32,
    /// How irregular its frames come, in parts of the interval.
    pub(super) jitter: f64,
    /// Frames that a file has.
    pub(super) frames: u64,
    pub(super) queue: usize,
    pub(super) policy: QueuePolicy,
    /// Frames a second that it lets in, at most.
    pub(super) per_second: Option<u32>,
    /// Every so many frames one is suspect, and not wanted.
    pub(super) suspect: Option<u64>,
    pub(super) max_in_pipeline: Option<usize>,
    pub(super) steps: Vec<StepPlan>,
    pub(super) on_step_error: StepErrorPolicy,
    pub(super) weight: u32,
    pub(super) key: u64,
    pub(super) sink: SinkPlan,
    /// When it is added.
    pub(super) comes: Duration,
    /// When it is taken away, and how long it may drain; `None`: it stays.
    pub(super) leaves: Option<(Duration, Duration)>,
    /// Troubles of its source, in order.
    pub(super) troubles: Vec<(Duration, SourceTrouble)>,
}

/// A step of a feed.
#[derive(Clone, Debug)]
pub(super) enum StepPlan {
    /// A stage: how long it takes, every how many frames it fails, and every how many it breaks and so many attempts to
    /// build it anew fail.
    Stage { takes: Duration, fails: Option<u64>, breaks: Option<(u64, u32)> },
    /// A batch point, by number.
    Batch(usize),
}

/// A sink.
#[derive(Clone, Debug)]
pub(super) struct SinkPlan {
    pub(super) capacity: usize,
    /// How long it takes to write an output.
    pub(super) takes: Duration,
    /// When it takes nothing.
    pub(super) stalls: Option<(MonoTime, MonoTime)>,
}

/// What happens to a source.
#[derive(Clone, Copy, Debug)]
pub(super) enum SourceTrouble {
    /// The session is lost, and there is no other for so long.
    Lost(Duration),
    /// It says nothing for so long.
    Silent(Duration),
    /// The feed is paused for so long.
    Paused(Duration),
}

impl Scenario {
    /// The scenario of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut g = Generator { rng: Rng::with_seed(seed) };
        // A few are large; a few are long, since what is down or in quarantine takes its time.
        match seed % 40 {
            0 | 20 => g.scenario(seed, 64..=300, Duration::from_secs(2)),
            1..=3 => g.scenario(seed, 13..=40, Duration::from_secs(4)),
            4..=7 => g.scenario(seed, 1..=3, Duration::from_secs(90)),
            _ => g.scenario(seed, 1..=12, Duration::from_secs(5)),
        }
    }
}

impl PointPlan {
    /// The most answers that may wait for a feed: one for each part that it may have there, and as many again that are on
    /// their way though it has given their entry up, with a batch or two of each instance.
    pub(super) fn most_answers(&self, live: bool) -> usize {
        let BatchConfig { max_in_flight_per_feed, max_batch_size, instances, .. } = self.config;
        let slots = if live { max_in_flight_per_feed } else { 2 * max_batch_size * instances };
        2 * (slots * self.regions + instances * max_batch_size)
    }

    /// Whether nothing is wrong with its processors, and they are fast enough that no answer is late.
    pub(super) fn is_healthy(&self) -> bool {
        let longest = self.processor.longest(self.config.max_batch_size);
        self.processor.faults.is_healthy() && longest < self.config.response_timeout
    }
}

struct Generator {
    rng: Rng,
}

impl Generator {
    fn scenario(&mut self, seed: u64, feeds: std::ops::RangeInclusive<usize>, span: Duration) -> Scenario {
        let count = self.rng.usize(feeds);
        let two = self.chance(0.4);
        let slow = span > Duration::from_secs(10) || count > 40;
        let intervals: &[u64] = if slow { &[66, 100, 200, 500] } else { &[16, 33, 40, 66, 100, 200] };
        let (aligned, common) = (self.chance(0.4), self.chance(0.5).then(|| self.one_of(intervals)));
        let with_files = self.chance(0.4);
        let mut plans = Vec::new();
        for _ in 0..count {
            let interval = Duration::from_millis(common.unwrap_or_else(|| self.one_of(intervals)));
            let live = !(with_files && self.chance(0.5));
            let mut feed = self.feed(live, interval, span, two);
            if aligned {
                feed.phase = Duration::from_micros(self.rng.u64(0..500));
            }
            plans.push(feed);
        }
        let points = (0..1 + usize::from(two)).map(|p| self.point(p, &plans, span)).collect();
        let shutdown = self.chance(0.3).then(|| {
            let drain = self.one_of(&[0, 5, 50, 1_000, 10_000]);
            (self.up_to(span), Duration::from_millis(drain))
        });
        let lateness = Duration::from_micros(self.one_of(&[0, 1, 30, 500]));
        Scenario { seed, points, feeds: plans, lateness, span, shutdown }
    }

    fn feed(&mut self, live: bool, interval: Duration, span: Duration, two: bool) -> FeedPlan {
        let mut steps = Vec::new();
        if self.chance(0.3) {
            steps.push(self.stage());
        }
        if self.chance(0.95) {
            steps.push(StepPlan::Batch(0));
        }
        if self.chance(0.3) {
            steps.push(self.stage());
        }
        if two && self.chance(0.6) {
            steps.push(StepPlan::Batch(1));
        }
        let comes = if self.chance(0.2) { self.up_to(span) } else { Duration::ZERO };
        let leaves = self.chance(0.15).then(|| {
            let drain = self.one_of(&[0, 1, 20, 1_000]);
            (comes + self.up_to(span), Duration::from_millis(drain))
        });
        let mut troubles = Vec::new();
        let mut at = comes;
        while live && troubles.len() < 4 && self.chance(0.2) {
            at += self.up_to(span);
            let lasts = self.up_to(Duration::from_secs(2));
            troubles.push((
                at,
                match self.rng.u8(0..3) {
                    0 => SourceTrouble::Lost(lasts),
                    1 => SourceTrouble::Silent(lasts),
                    _ => SourceTrouble::Paused(lasts),
                },
            ));
            at += lasts;
        }
        let policies = [QueuePolicy::DropOldest, QueuePolicy::DropOldest, QueuePolicy::DropNewest, QueuePolicy::Block];
        FeedPlan {
            live,
            interval: if live { interval } else { Duration::from_micros(self.one_of(&[50, 1_000, 5_000])) },
            phase: self.up_to(interval),
            burst: if live && self.chance(0.15) { 3 } else { 1 },
            jitter: self.one_of(&[0.0, 0.02, 0.3]),
            frames: self.rng.u64(1..150),
            queue: self.one_of(&[1, 2, 4, 4, 8]),
            policy: if live { self.one_of(&policies) } else { QueuePolicy::Block },
            per_second: (live && self.chance(0.15)).then(|| self.rng.u32(1..30)),
            suspect: self.chance(0.1).then(|| self.rng.u64(1..20)),
            max_in_pipeline: self.chance(0.1).then(|| self.rng.usize(1..8)),
            steps,
            on_step_error: if self.chance(0.8) { StepErrorPolicy::Drop } else { StepErrorPolicy::Pass },
            weight: self.one_of(&[1, 1, 1, 2, 3, 8]),
            key: if self.chance(0.2) { self.rng.u64(0..3) } else { 0 },
            sink: self.sink(span),
            comes,
            leaves,
            troubles,
        }
    }

    fn stage(&mut self) -> StepPlan {
        let takes = Duration::from_micros(self.one_of(&[0, 10, 300, 3_000]));
        let fails = self.chance(0.2).then(|| self.rng.u64(2..30));
        let breaks = self.chance(0.1).then(|| (self.rng.u64(5..60), self.rng.u32(0..3)));
        StepPlan::Stage { takes, fails, breaks }
    }

    fn sink(&mut self, span: Duration) -> SinkPlan {
        let stalls = self.chance(0.15).then(|| {
            let from = self.up_to(span);
            (time(from), time(from + self.up_to(span)))
        });
        SinkPlan {
            capacity: self.one_of(&[1, 2, 16]),
            takes: Duration::from_micros(self.one_of(&[0, 20, 1_000])),
            stalls,
        }
    }

    fn point(&mut self, number: usize, feeds: &[FeedPlan], span: Duration) -> PointPlan {
        let second = number == 1;
        let regions = if second { self.one_of(&[1, 20, 20]) } else { 1 };
        let config = BatchConfig {
            max_batch_size: self.one_of(&[1, 2, 3, 4, 8, 16, 16, 64]),
            instances: self.one_of(&[1, 1, 1, 2, 3]),
            max_latency: Duration::from_micros(self.one_of(&[0, 500, 2_000, 2_000, 20_000])),
            response_timeout: Duration::from_millis(self.one_of(&[50, 200, 1_000, 5_000, 5_000])),
            max_age: Duration::from_millis(self.one_of(&[50, 300, 1_000, 1_000])),
            max_regions_per_frame: regions,
            max_in_flight_per_feed: if second { 1 } else { self.one_of(&[1, 2, 2, 2, 4]) },
            max_pending: self.one_of(&[64, 4_096]),
            ..BatchConfig::default()
        };
        debug_assert_eq!(config.validate(), Ok(()));
        let preferred = self.chance(0.15).then(|| self.rng.usize(1..=16));
        let processor = self.processor(number, &config, regions, preferred, feeds, span);
        PointPlan { config, preferred, processor, regions }
    }

    /// A processor that can do a part of what its feeds ask for, or more than that.
    fn processor(
        &mut self,
        point: usize,
        config: &BatchConfig,
        regions: usize,
        preferred: Option<usize>,
        feeds: &[FeedPlan],
        span: Duration,
    ) -> ProcessorPlan {
        let comes_here = |f: &&FeedPlan| f.steps.iter().any(|s| matches!(s, StepPlan::Batch(p) if *p == point));
        let rate = |f: &FeedPlan| if f.live { 1.0 / f.interval.as_secs_f64() } else { 100.0 };
        let asked: f64 = feeds.iter().filter(comes_here).map(rate).sum::<f64>().max(1.0) * regions as f64;
        let load = self.one_of(&[0.1, 0.3, 0.6, 0.9, 1.4, 3.0]);
        let most = config.max_batch_size.min(preferred.unwrap_or(usize::MAX)) as f64;
        let full = (most * config.instances as f64 * load / asked).clamp(20e-6, 0.3);
        let fixed = self.one_of(&[0.0, 0.3, 0.8, 1.0]);
        let base = Duration::from_secs_f64(full * fixed);
        let per_entry = Duration::from_secs_f64(full * (1.0 - fixed) / most);
        // Long runs are there for what is down or in quarantine.
        let faulty = if span > Duration::from_secs(10) { 0.9 } else { 0.5 };
        let faults = if self.chance(faulty) { self.faults(feeds.len(), config, span) } else { Faults::default() };
        ProcessorPlan { base, per_entry, jitter: self.one_of(&[0.0, 0.1, 0.5]), idempotent: self.chance(0.6), faults }
    }

    fn faults(&mut self, feeds: usize, config: &BatchConfig, span: Duration) -> Faults {
        let until = self.chance(0.5).then(|| time(self.up_to(span / 2)));
        let mut faults = Faults { until, ..Faults::default() };
        for _ in 0..self.rng.u8(1..=2) {
            match self.rng.u8(0..7) {
                0 => faults.slow = Some((self.rng.u64(2..20), self.rng.u32(2..10))),
                1 => faults.bad_entries = Some((self.rng.usize(0..feeds), self.rng.u64(1..6))),
                2 => faults.bad_batches = Some((self.rng.usize(0..feeds), self.rng.u64(1..10))),
                3 => faults.bad_calls = Some(self.rng.u64(1..30)),
                4 => faults.panics = Some(self.rng.u64(1..40)),
                5 => {
                    let lasts = self.chance(0.7).then(|| config.response_timeout + self.up_to(config.response_timeout));
                    faults.hangs = Some((self.rng.u64(5..60), lasts));
                }
                _ => {
                    // Mostly there is time for it to come up again.
                    let from = self.up_to(span / 4);
                    faults.broken = Some((time(from), time(from + self.up_to(span / 2))));
                }
            }
        }
        faults
    }

    // --- Luck.

    fn chance(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(0..choices.len())]
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.rng.u64(0..most.as_nanos() as u64))
    }
}

/// A time so long after the start.
pub(super) fn time(since_start: Duration) -> MonoTime {
    MonoTime::from_nanos(since_start.as_nanos() as u64)
}
