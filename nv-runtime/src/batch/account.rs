use std::time::Duration;

use nv_core::MonoTime;

use super::metrics::{BatchMetrics, Times};
use super::route::BatchReport;

/// Weight of the newest time in the moving average of times by size.
const TIME_SMOOTHING: f64 = 0.2;

/// What a batch point has done, counted and timed.
pub(super) struct Account {
    /// The plain counts; what is derived is filled in by [`metrics`](Self::metrics).
    pub(super) counts: BatchMetrics,
    wait: Times,
    formation: Times,
    process: Times,
    busy: Duration,
    /// Moving average of a batch's computation in milliseconds, by size; index 0 is size 1.
    time_by_size: Vec<Option<f64>>,
    instances: usize,
    /// When the instances were ready.
    since: MonoTime,
    next_batch: u64,
}

impl Account {
    pub(super) fn new(max_batch: usize, instances: usize, now: MonoTime) -> Self {
        Self {
            counts: BatchMetrics { sizes: vec![0; max_batch], ..BatchMetrics::default() },
            wait: Times::new(),
            formation: Times::new(),
            process: Times::new(),
            busy: Duration::ZERO,
            time_by_size: vec![None; max_batch],
            instances,
            since: now,
            next_batch: 0,
        }
    }

    /// The instances are ready: time before that is none that they could have worked in.
    pub(super) fn restart(&mut self, now: MonoTime) {
        self.since = now;
    }

    /// Counts a batch, by how long it was in the making and how long each of its entries has waited; returns its number.
    pub(super) fn dispatched(&mut self, formation: Duration, waits: impl ExactSizeIterator<Item = Duration>) -> u64 {
        self.counts.batches += 1;
        if let Some(count) = waits.len().checked_sub(1).and_then(|i| self.counts.sizes.get_mut(i)) {
            *count += 1;
        }
        self.formation.record(formation);
        waits.for_each(|wait| self.wait.record(wait));
        self.next_batch += 1;
        self.next_batch - 1
    }

    /// Takes in how a batch of `size` entries went, and whether `any` of them was computed.
    pub(super) fn computed(&mut self, size: usize, any: bool, report: &BatchReport<'_>) {
        let errors = &mut self.counts.consecutive_errors;
        *errors = if any { 0 } else { *errors + 1 };
        self.process.record(report.took);
        self.busy += report.took;
        // With retries it says nothing of one call.
        if !report.retried
            && let Some(time) = size.checked_sub(1).and_then(|i| self.time_by_size.get_mut(i))
        {
            let latest = report.took.as_secs_f64() * 1e3;
            *time = Some(time.map_or(latest, |mean| mean + (latest - mean) * TIME_SMOOTHING));
        }
    }

    /// The counts, with what follows from the times.
    pub(super) fn metrics(&self, now: MonoTime) -> BatchMetrics {
        let span = now.since(self.since).as_secs_f64() * self.instances as f64;
        BatchMetrics {
            busy: if span > 0.0 { (self.busy.as_secs_f64() / span).min(1.0) } else { 0.0 },
            wait: self.wait.quantiles(),
            wait_histogram: self.wait.histogram(),
            formation: self.formation.quantiles(),
            formation_histogram: self.formation.histogram(),
            process: self.process.quantiles(),
            process_histogram: self.process.histogram(),
            time_by_size_ms: self.time_by_size.clone(),
            ..self.counts.clone()
        }
    }
}
