use std::collections::BTreeMap;
use std::time::Duration;

use nv_core::{DropReason, Name};
use nv_runtime::{BatchHandle, BatchMetrics, FeedStats, Quantiles};
use serde::Serialize;

/// The account of a run, as `--summary` writes it: `nv.summary/1`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    schema: &'static str,
    wall_s: f64,
    feeds: Vec<FeedSummary>,
    batches: Vec<BatchSummary>,
}

#[derive(Debug, Serialize)]
struct FeedSummary {
    feed: Name,
    received: u64,
    emitted: u64,
    inside: u64,
    dropped: BTreeMap<DropReason, u64>,
    lost_upstream: u64,
    fps: f64,
    latency_ms: LatencySummary,
    sessions: u32,
    /// How it ended; `null` while it runs.
    end: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct LatencySummary {
    p50: f64,
    p95: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct BatchSummary {
    batch: Name,
    submitted: u64,
    processed: u64,
    batches: u64,
    mean_size: f64,
    busy: f64,
    wait_ms: TimeSummary,
    process_ms: TimeSummary,
}

#[derive(Debug, Serialize)]
struct TimeSummary {
    p50: f64,
    p99: f64,
}

impl Summary {
    /// The account of these feeds and batch points, after `wall` of work.
    pub(crate) fn new<'a>(
        wall: Duration,
        feeds: &[FeedStats],
        batches: impl IntoIterator<Item = &'a BatchHandle>,
    ) -> Self {
        Self {
            schema: "nv.summary/1",
            wall_s: rounded(wall.as_secs_f64()),
            feeds: feeds.iter().map(FeedSummary::new).collect(),
            batches: batches.into_iter().map(|b| BatchSummary::new(b.processor_id().clone(), &b.metrics())).collect(),
        }
    }

    /// As a file: one object, indented for people.
    pub(crate) fn to_text(&self) -> String {
        // Numbers, names and keys of our own: there is nothing that could not be written.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        text + "\n"
    }
}

impl FeedSummary {
    fn new(stats: &FeedStats) -> Self {
        let frames = &stats.frames;
        let Quantiles { p50, p95, p99 } = stats.latency;
        Self {
            feed: stats.feed.clone(),
            received: frames.received,
            emitted: frames.emitted,
            inside: frames.inside,
            dropped: frames.dropped.clone(),
            lost_upstream: frames.lost_upstream,
            fps: rounded(stats.fps),
            latency_ms: LatencySummary { p50: rounded(p50), p95: rounded(p95), p99: rounded(p99) },
            sessions: stats.sessions,
            end: stats.end.as_ref().map(|end| end.as_str()),
        }
    }
}

impl BatchSummary {
    fn new(batch: Name, metrics: &BatchMetrics) -> Self {
        let time = |q: Quantiles| TimeSummary { p50: rounded(q.p50), p99: rounded(q.p99) };
        Self {
            batch,
            submitted: metrics.submitted,
            processed: metrics.processed,
            batches: metrics.batches,
            mean_size: rounded(metrics.mean_size()),
            busy: rounded(metrics.busy),
            wait_ms: time(metrics.wait),
            process_ms: time(metrics.process),
        }
    }
}

/// To three digits after the point: more would only be noise to read.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use nv_runtime::FeedEnd;

    use super::*;

    #[test]
    fn it_has_the_keys_of_its_schema() {
        let mut stats = FeedStats::new("gate");
        (stats.frames.received, stats.frames.emitted, stats.frames.lost_upstream) = (795, 793, 1);
        stats.frames.dropped = BTreeMap::from([(DropReason::QueueFull, 2)]);
        stats.fps = 64.600_04;
        stats.latency = Quantiles { p50: 18.0, p95: 25.1, p99: 31.0 };
        stats.sessions = 1;
        stats.end = Some(Arc::new(FeedEnd::EndOfStream));
        let mut metrics = BatchMetrics::default();
        (metrics.submitted, metrics.processed, metrics.batches) = (795, 795, 102);
        metrics.sizes = vec![0, 0, 0, 0, 0, 0, 21, 81];
        metrics.busy = 0.97;
        metrics.wait = Quantiles { p50: 1.2, p95: 3.0, p99: 4.0 };
        metrics.process = Quantiles { p50: 118.0, p95: 125.0, p99: 131.0 };
        let summary = Summary {
            batches: vec![BatchSummary::new("detector".into(), &metrics)],
            ..Summary::new(Duration::from_millis(12_300), &[stats], [])
        };
        expect![[r#"{"schema":"nv.summary/1","wall_s":12.3,"feeds":[{"feed":"gate","received":795,"emitted":793,"inside":0,"dropped":{"queue_full":2},"lost_upstream":1,"fps":64.6,"latency_ms":{"p50":18.0,"p95":25.1,"p99":31.0},"sessions":1,"end":"end_of_stream"}],"batches":[{"batch":"detector","submitted":795,"processed":795,"batches":102,"mean_size":7.794,"busy":0.97,"wait_ms":{"p50":1.2,"p99":4.0},"process_ms":{"p50":118.0,"p99":131.0}}]}"#]]
        .assert_eq(&serde_json::to_string(&summary).unwrap());
    }
}
