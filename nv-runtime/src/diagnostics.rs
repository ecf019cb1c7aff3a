use std::time::Duration;

use nv_core::{Name, serialize_as_ms};
use serde::{Serialize, Serializer};

use crate::batch::{BatchConfig, BatchHandle, BatchMetrics};
use crate::feed::FeedStats;
use crate::runtime::Runtime;

/// How a runtime and all that it owns are doing: for people who look into trouble, and for monitoring.
///
/// Each feed's and each batch point's account is exact in itself; they are taken one after another, while all goes on.
/// Serialises with durations in milliseconds, in keys that end in `_ms`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Diagnostics {
    /// Since the runtime was made.
    #[serde(rename = "uptime_ms", serialize_with = "serialize_as_ms")]
    pub uptime: Duration,
    /// The feeds, in the order of their names; also those that have ended and were not removed.
    pub feeds: Vec<FeedStats>,
    /// The batch points, in the order in which they were made.
    pub batches: Vec<BatchDiagnostics>,
    /// Threads that did not end when they should have and are still running, by name.
    pub abandoned_threads: Vec<String>,
    /// Health events that subscribers have missed, over all of them.
    pub health_events_missed: u64,
}

/// How a batch point is doing.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BatchDiagnostics {
    /// The batch point.
    pub batch: Name,
    /// Whether it is down: entries fail at once, but for a probe now and then.
    pub down: bool,
    /// What was wrong last with a processor; it may be long ago. `None`: nothing yet.
    pub trouble: Option<String>,
    /// Its instances, by their numbers.
    pub instances: Vec<InstanceDiagnostics>,
    /// How it forms and guards its batches.
    pub config: BatchConfig,
    /// What it has done so far.
    pub metrics: BatchMetrics,
}

/// What an instance of a batch point is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InstanceDiagnostics {
    /// How long its processor has been computing a batch; `None`: it does not.
    #[serde(rename = "computing_ms", serialize_with = "optional_ms")]
    pub computing: Option<Duration>,
    /// Whether that is longer than an answer may take.
    pub wedged: bool,
}

impl Runtime {
    /// How everything is doing now.
    pub fn diagnostics(&self) -> Diagnostics {
        Diagnostics {
            uptime: Duration::from_nanos(self.now().as_nanos()),
            feeds: self.feeds().iter().map(|f| f.stats()).collect(),
            batches: self.batches().iter().map(BatchDiagnostics::of).collect(),
            abandoned_threads: self.abandoned(),
            health_events_missed: self.health.missed(),
        }
    }
}

impl BatchDiagnostics {
    fn of(handle: &BatchHandle) -> Self {
        let point = handle.point();
        let metrics = handle.metrics();
        Self {
            batch: handle.processor_id().clone(),
            down: metrics.down,
            trouble: Some(point.trouble()).filter(|trouble| !trouble.is_empty()),
            instances: point
                .calls()
                .into_iter()
                .map(|(computing, wedged)| InstanceDiagnostics { computing, wedged })
                .collect(),
            config: handle.config().clone(),
            metrics,
        }
    }
}

pub(crate) fn optional_ms<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|d| d.as_secs_f64() * 1e3).serialize(serializer)
}
