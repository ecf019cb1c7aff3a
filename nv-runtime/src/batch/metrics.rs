use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use nv_core::Name;
use serde::Serialize;

/// Upper bounds in milliseconds of what the histograms of [`BatchMetrics`] count.
pub const TIME_BUCKETS_MS: [f64; 14] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];

/// What a batch point has done so far. Where a frame is looked at in regions, each of them counts as an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchMetrics {
    /// Entries that were taken in (claims count once a frame was bound to them).
    pub submitted: u64,
    /// Entries that were computed and got a result, which their feed still wanted.
    pub processed: u64,
    /// Entries that were computed and got an error, of which their feed still wanted to hear.
    pub failed: u64,
    /// Direct submissions that were not taken in.
    pub rejected: u64,
    /// Frames that their feed gave up for want of an answer.
    pub timed_out: u64,
    /// Frames that their feed gave up for another reason: it was stopped, or a part of the frame has failed.
    pub abandoned: u64,
    /// Entries that were too old when their turn came, or before it did.
    pub expired: u64,
    /// Frames of live feeds that fresher ones were taken before.
    pub superseded: u64,
    /// Batches computed.
    pub batches: u64,
    /// Batches by size; index 0 is size 1.
    pub sizes: Vec<u64>,
    /// The most entries in a batch: as configured, or as the processor will have it where that is less.
    pub max_batch: usize,
    /// How full batches are: the mean size over `max_batch`, 0 to 1.
    pub fill: f64,
    /// Batches in a row, up to the last one, of which nothing was computed.
    pub consecutive_errors: u64,
    /// Processors that were built anew.
    pub rebuilds: u64,
    /// Entries and claims that wait.
    pub pending: usize,
    /// Entries that are being computed.
    pub in_dispatch: usize,
    /// Share of the instances' time spent computing, 0 to 1.
    pub busy: f64,
    /// From an entry's submission to its dispatch.
    pub wait: Quantiles,
    /// The same, counted: how many were at most as long as each of [`TIME_BUCKETS_MS`] and longer than the one before; the
    /// last: how many were longer than all of them.
    pub wait_histogram: Vec<u64>,
    /// How long batches were in the making: while both an instance was free and an entry waited. What holding back for other
    /// feeds' frames costs.
    pub formation: Quantiles,
    /// The same, counted, as for `wait_histogram`.
    pub formation_histogram: Vec<u64>,
    /// A batch's computation.
    pub process: Quantiles,
    /// The same, counted, as for `wait_histogram`.
    pub process_histogram: Vec<u64>,
    /// Moving average of a batch's computation in milliseconds, by size; index 0 is size 1, `None`: none of that size yet.
    pub time_by_size_ms: Vec<Option<f64>>,
    /// Entries that were computed for each feed that is attached now.
    pub served: BTreeMap<Name, u64>,
    /// Whether the point is down: entries fail at once, but for a probe now and then.
    pub down: bool,
}

impl BatchMetrics {
    /// Entries in the average batch; 0 before the first.
    pub fn mean_size(&self) -> f64 {
        if self.batches == 0 {
            return 0.0;
        }
        let entries: u64 = self.sizes.iter().enumerate().map(|(i, n)| (i as u64 + 1) * n).sum();
        entries as f64 / self.batches as f64
    }
}

/// Quantiles of a set of times, in milliseconds; all 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// 95 of 100 were at most this.
    pub p95: f64,
    /// 99 of 100 were at most this.
    pub p99: f64,
}

/// A set of times, in bounded memory: two significant digits, 1 µs to an hour; and how many fall into each of
/// [`TIME_BUCKETS_MS`].
#[derive(Debug)]
pub(crate) struct Times {
    times: Histogram<u64>,
    buckets: [u64; TIME_BUCKETS_MS.len() + 1],
}

impl Times {
    pub(crate) fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1, 3_600_000_000, 2);
        let times = bounds.expect("1 µs to an hour at two digits is a valid range");
        Self { times, buckets: [0; TIME_BUCKETS_MS.len() + 1] }
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
        let ms = time.as_secs_f64() * 1e3;
        self.buckets[TIME_BUCKETS_MS.partition_point(|bound| *bound < ms)] += 1;
    }

    pub(crate) fn histogram(&self) -> Vec<u64> {
        self.buckets.to_vec()
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        if self.times.is_empty() {
            return Quantiles::default();
        }
        let ms = |q| self.times.value_at_quantile(q) as f64 / 1e3;
        Quantiles { p50: ms(0.50), p95: ms(0.95), p99: ms(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_known_times() {
        let mut times = Times::new();
        assert_eq!(times.quantiles(), Quantiles::default());
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        let q = times.quantiles();
        for (got, expected) in [(q.p50, 50.0), (q.p95, 95.0), (q.p99, 99.0)] {
            assert!((got - expected).abs() <= expected * 0.01 + 0.01, "{q:?}");
        }
        times.record(Duration::MAX);
        // Up to 1, 2, 5, 10, 20, 50 and 100 ms, and beyond.
        assert_eq!(times.histogram(), [0, 0, 0, 1, 1, 3, 5, 10, 30, 50, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn mean_size_weighs_the_sizes() {
        let metrics = BatchMetrics { batches: 4, sizes: vec![1, 0, 3], ..BatchMetrics::default() };
        assert_eq!(metrics.mean_size(), 2.5);
        assert_eq!(BatchMetrics::default().mean_size(), 0.0);
    }
}
