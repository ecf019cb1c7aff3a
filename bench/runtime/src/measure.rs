//! One run of one case on one runtime, and what was seen in it.

use std::collections::BTreeMap;
use std::time::Duration;

use nv_bench_harness::CpuTime;
use nv_bench_harness::statistics::{jain, mean, quantile};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Load, Phase};
use crate::engine::{self, Kind};
use crate::world::{Log, World};

/// What was seen in a run: within the window, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// How long the window was.
    pub(crate) seconds: f64,
    /// Frames that the sources gave.
    pub(crate) sent: usize,
    /// Frames that were given from the beginning on, the warm-up too, and never came out. Of file feeds only those that a
    /// later frame overtook, and all of a feed of which nothing came out in the window.
    pub(crate) lost: usize,
    /// Frames that came out.
    pub(crate) delivered: usize,
    /// The same by feed: the least, and the most.
    pub(crate) feed_least: usize,
    pub(crate) feed_most: usize,
    /// The same by feed: Jain's index.
    pub(crate) jain: f64,
    /// Of frames given within the window: from then to the sink's being entered, in milliseconds.
    pub(crate) latency: Spread,
    /// Share of the frames of feeds that do not fail that came out; counted as those that were lost.
    pub(crate) others: f64,
    /// Batches done within the window, and the entries in them.
    pub(crate) batches: usize,
    pub(crate) computed: usize,
    /// Those batches by size; index 0 is size 1.
    pub(crate) sizes: Vec<usize>,
    /// How much longer than asked for the processor slept, in milliseconds.
    pub(crate) oversleep: Spread,
    /// Share of the window that the processor slept.
    pub(crate) busy: f64,
    /// For aligned cameras: from the first to the last of the frames of one instant, in milliseconds.
    pub(crate) misalignment: Spread,
    /// Cores that this process used, and others.
    pub(crate) cores_used: f64,
    pub(crate) cores_others: f64,
    /// CPU time of this process for each frame that came out, in microseconds.
    pub(crate) cpu_per_frame: f64,
    /// What the runtime said of itself, from its start.
    pub(crate) counts: BTreeMap<String, u64>,
}

/// A set of values, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        let mean = mean(&values);
        let [p50, p95, p99, max] = [0.50, 0.95, 0.99, 1.0].map(|q| quantile(&mut values, q));
        Self { mean, p50, p95, p99, max }
    }
}

/// How long cameras' frames that are inside get to come out once the cameras are off.
const SETTLE: Duration = Duration::from_millis(1500);

/// Runs a case. `report` gets the sample before the runtime is stopped.
pub(crate) fn run(case: &Case, kind: Kind, window: Duration, report: impl FnOnce(&Sample)) -> Result<(), String> {
    let world = World::new(case);
    let engine = engine::start(kind, case, &world)?;
    world.begin()?;
    std::thread::sleep(case.warm_up);

    let (from, cpu_before) = (world.now(), CpuTime::now());
    world.sleep_until(from + window.as_nanos() as u64);
    let (to, cpu_after) = (world.now(), CpuTime::now());
    if case.load.is_live() {
        world.turn_off();
        std::thread::sleep(SETTLE);
    }
    let log = world.log();
    let mut sample = look(case, &log, from, to);
    sample.counts = engine.counts();
    let process = (cpu_after.process - cpu_before.process).as_secs_f64();
    sample.cores_used = process / sample.seconds;
    sample.cpu_per_frame = process * 1e6 / sample.delivered.max(1) as f64;
    if let (Some(before), Some(after)) = (cpu_before.everybody, cpu_after.everybody) {
        sample.cores_others = ((after.saturating_sub(before)).as_secs_f64() - process).max(0.0) / sample.seconds;
    }
    report(&sample);
    world.turn_off();
    engine.stop()
}

/// What the log says of the time between `from` and `to`.
fn look(case: &Case, log: &Log, from: u64, to: u64) -> Sample {
    let inside = |at: u64| (from..to).contains(&at);
    let ms = |ns: u64| ns as f64 / 1e6;
    let seconds = (to - from) as f64 / 1e9;

    let mut sample = Sample { seconds, sizes: vec![0; case.batch.max_size], ..Sample::default() };
    let mut latencies = Vec::new();
    let mut by_feed = Vec::new();
    let mut others = (0, 0);
    for (feed, (sent, delivered)) in log.sent.iter().zip(&log.delivered).enumerate().take(case.load.giving()) {
        // The last frames of a file are still inside; those before the last one that came out are not.
        let horizon = match case.load {
            Load::Files(_) if delivered.iter().any(|d| inside(d.at)) => {
                delivered.iter().map(|d| d.sent + 1).max().unwrap_or(to)
            }
            _ => to,
        };
        let given = sent.iter().filter(|at| **at < horizon).count();
        let came = delivered.iter().filter(|d| d.sent < horizon).count();
        sample.sent += sent.iter().filter(|at| inside(**at)).count();
        sample.lost += given.saturating_sub(came);
        latencies.extend(delivered.iter().filter(|d| inside(d.sent)).map(|d| ms(d.at.saturating_sub(d.sent))));
        by_feed.push(delivered.iter().filter(|d| inside(d.at)).count());
        if feed >= case.load.failing() {
            others = (others.0 + given, others.1 + came);
        }
    }
    sample.others = if others.0 == 0 { 1.0 } else { others.1 as f64 / others.0 as f64 };
    sample.latency = Spread::of(latencies);
    sample.delivered = by_feed.iter().sum();
    sample.feed_least = by_feed.iter().min().copied().unwrap_or(0);
    sample.feed_most = by_feed.iter().max().copied().unwrap_or(0);
    sample.jain = jain(&by_feed.iter().map(|n| *n as f64).collect::<Vec<_>>());

    let mut oversleep = Vec::new();
    for batch in log.batches.iter().filter(|b| inside(b.at)) {
        sample.batches += 1;
        sample.computed += batch.size;
        if let Some(n) = batch.size.checked_sub(1).and_then(|index| sample.sizes.get_mut(index)) {
            *n += 1;
        }
        sample.busy += batch.slept as f64 / (to - from) as f64;
        oversleep.push(ms(batch.slept) - case.model.time(batch.size).as_secs_f64() * 1e3);
    }
    sample.oversleep = Spread::of(oversleep);
    sample.misalignment = Spread::of(misalignments(case, log, inside));
    sample
}

/// For each instant at which aligned cameras give a frame, how far apart the frames came, in milliseconds.
fn misalignments(case: &Case, log: &Log, inside: impl Fn(u64) -> bool) -> Vec<f64> {
    let Load::Cameras(cameras) = case.load else { return Vec::new() };
    if cameras.phase != Phase::Aligned {
        return Vec::new();
    }
    let giving = &log.sent[..cameras.count];
    let instants = giving.iter().map(Vec::len).min().unwrap_or(0);
    let spans = (0..instants).step_by(cameras.burst as usize).filter_map(|n| {
        let times = || giving.iter().map(move |sent| sent[n]);
        let (first, last) = (times().min()?, times().max()?);
        inside(first).then(|| (last - first) as f64 / 1e6)
    });
    spans.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case;
    use crate::world::{BatchDone, Delivery};

    fn case(name: &str) -> Case {
        case::all().into_iter().find(|c| c.name == name).expect("a case of that name")
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn cameras_lose_what_never_comes_out() {
        let mut case = case("cameras-8");
        let Load::Cameras(cameras) = &mut case.load else { panic!("cameras") };
        (cameras.count, cameras.failing) = (2, 1);
        let log = Log {
            sent: vec![vec![5 * MS, 40 * MS, 80 * MS], vec![5 * MS, 41 * MS, 82 * MS]],
            delivered: vec![
                vec![Delivery { sent: 40 * MS, at: 48 * MS }],
                vec![
                    Delivery { sent: 5 * MS, at: 9 * MS },
                    Delivery { sent: 41 * MS, at: 47 * MS },
                    Delivery { sent: 82 * MS, at: 130 * MS },
                ],
            ],
            batches: vec![BatchDone { at: 47 * MS, size: 2, slept: 6 * MS }],
        };
        let sample = look(&case, &log, 30 * MS, 130 * MS);
        assert_eq!((sample.sent, sample.delivered), (4, 2), "of the window");
        assert_eq!(sample.lost, 2, "the warm-up counts");
        assert_eq!((sample.latency.p50, sample.latency.max), (8.0, 48.0));
        assert_eq!(sample.others, 1.0, "only the failing one lost frames");
        assert_eq!((sample.batches, sample.computed, sample.sizes[1]), (1, 2, 1));
        assert!((sample.oversleep.p50 - 1.0).abs() < 1e-9);
        assert!((sample.busy - 0.06).abs() < 1e-9);
        assert_eq!(sample.misalignment.max, 2.0);
    }

    #[test]
    fn files_lose_what_was_overtaken() {
        fn check(delivered: &[u64], expected: usize) {
            let mut case = case("files-1");
            case.load = Load::Files(1);
            let delivered = delivered.iter().map(|sent| Delivery { sent: *sent, at: sent + 1 }).collect();
            let log = Log { sent: vec![vec![10, 20, 30, 40]], delivered: vec![delivered], batches: vec![] };
            assert_eq!(look(&case, &log, 0, 100).lost, expected);
        }
        check(&[10, 20, 30, 40], 0);
        check(&[10, 20], 0);
        check(&[10, 30], 1);
        check(&[40], 3);
        check(&[], 4);
    }
}
