use std::time::Duration;

use nv_core::serialize_as_ms;
use serde::Serialize;
use thiserror::Error;

/// How a batch point forms and guards its batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchConfig {
    /// The most entries in a batch. Default 16. The processor's own limit, or the size that it prefers, counts where it is lower.
    pub max_batch_size: usize,
    /// Processors, each on a thread of its own. Default 1.
    pub instances: usize,
    /// How long a free instance waits, from an entry's submission, for lanes whose next frame is due. 0: never waits.
    /// Default 2 ms.
    #[serde(rename = "max_latency_ms", serialize_with = "serialize_as_ms")]
    pub max_latency: Duration,
    /// How long an answer may take, from dispatch. Default 5 s.
    #[serde(rename = "response_timeout_ms", serialize_with = "serialize_as_ms")]
    pub response_timeout: Duration,
    /// A live feed's entry older than this (since it was received) is not computed. Default 1 s. File feeds have no limit.
    #[serde(rename = "max_age_ms", serialize_with = "serialize_as_ms")]
    pub max_age: Duration,
    /// How long all instances together may take to start. Default 30 s.
    #[serde(rename = "startup_timeout_ms", serialize_with = "serialize_as_ms")]
    pub startup_timeout: Duration,
    /// Frames that a live feed may have at the point at a time. Default 2. A file feed gets enough to fill the batches:
    /// `ceil(2 · max_batch_size · instances / file feeds)`.
    pub max_in_flight_per_feed: usize,
    /// Regions of one frame that a feed has looked at: they share the frame's slot. Default 64.
    pub max_regions_per_frame: usize,
    /// Entries that wait at the point, over all feeds, each region counted. Default 4,096. Beyond it each feed has one at a
    /// time, and its frames wait in its own queue.
    pub max_pending: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_batch_size: 16,
            instances: 1,
            max_latency: Duration::from_millis(2),
            response_timeout: Duration::from_secs(5),
            max_age: Duration::from_secs(1),
            startup_timeout: Duration::from_secs(30),
            max_in_flight_per_feed: 2,
            max_regions_per_frame: 64,
            max_pending: 4096,
        }
    }
}

/// A [`BatchConfig`] that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} is {value}: {reason}")]
pub struct BatchConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl BatchConfig {
    /// How long after its submission a feed looks what has become of an entry: sooner than that it is neither too old nor
    /// overdue.
    pub(crate) fn look_after(&self, live: bool) -> Duration {
        if live { self.max_age.min(self.response_timeout) } else { self.response_timeout }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), BatchConfigError> {
        let counts = [
            ("max_batch_size", self.max_batch_size, 1024),
            ("instances", self.instances, 256),
            ("max_in_flight_per_feed", self.max_in_flight_per_feed, 1024),
            ("max_regions_per_frame", self.max_regions_per_frame, 4096),
            ("max_pending", self.max_pending, 1 << 20),
        ];
        for (field, value, limit) in counts {
            if value == 0 {
                return Err(BatchConfigError { field, value: "0".into(), reason: "it must be at least 1" });
            }
            if value > limit {
                return Err(BatchConfigError { field, value: value.to_string(), reason: "it is beyond any use" });
            }
        }
        for (field, value) in [
            ("response_timeout", self.response_timeout),
            ("max_age", self.max_age),
            ("startup_timeout", self.startup_timeout),
        ] {
            if value.is_zero() {
                return Err(BatchConfigError { field, value: "0s".into(), reason: "nothing could ever be answered" });
            }
        }
        if self.max_latency >= self.response_timeout {
            return Err(BatchConfigError {
                field: "max_latency",
                value: format!("{:?}", self.max_latency),
                reason: "it must be shorter than response_timeout",
            });
        }
        if self.max_latency >= self.max_age {
            return Err(BatchConfigError {
                field: "max_latency",
                value: format!("{:?}", self.max_latency),
                reason: "it must be shorter than max_age: what is held that long is too old",
            });
        }
        if self.max_pending < self.max_batch_size {
            return Err(BatchConfigError {
                field: "max_pending",
                value: self.max_pending.to_string(),
                reason: "it must hold at least one full batch (max_batch_size)",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_and_the_reason() {
        fn check(change: impl FnOnce(&mut BatchConfig), expected: Option<&str>) {
            let mut config = BatchConfig::default();
            change(&mut config);
            assert_eq!(config.validate().err().map(|e| e.to_string()).as_deref(), expected);
        }
        check(|_| (), None);
        check(|c| c.max_latency = Duration::ZERO, None);
        check(|c| c.max_batch_size = 0, Some("max_batch_size is 0: it must be at least 1"));
        check(|c| c.instances = 1000, Some("instances is 1000: it is beyond any use"));
        check(|c| c.max_regions_per_frame = 0, Some("max_regions_per_frame is 0: it must be at least 1"));
        check(|c| c.max_regions_per_frame = 5000, Some("max_regions_per_frame is 5000: it is beyond any use"));
        check(|c| c.max_age = Duration::ZERO, Some("max_age is 0s: nothing could ever be answered"));
        check(
            |c| c.max_latency = Duration::from_secs(5),
            Some("max_latency is 5s: it must be shorter than response_timeout"),
        );
        check(
            |c| c.max_latency = Duration::from_secs(1),
            Some("max_latency is 1s: it must be shorter than max_age: what is held that long is too old"),
        );
        check(|c| c.max_pending = 8, Some("max_pending is 8: it must hold at least one full batch (max_batch_size)"));
    }
}
