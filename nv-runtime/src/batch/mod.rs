//! The batch point: gathers entries of all feeds into batches and has them computed.

mod account;
mod attempt;
mod bisect;
mod breaker;
mod config;
mod core;
mod former;
mod handle;
pub(crate) mod instance;
pub(crate) mod metrics;
#[cfg(all(test, feature = "model-check"))]
mod model;
mod outcome;
mod point;
mod route;
mod standing;

pub(crate) use self::attempt::Attempt;
pub(crate) use self::core::PointCore;
pub use config::{BatchConfig, BatchConfigError};
pub(crate) use former::{EntryKey, EntryState, LaneKey, Refusal};
pub use handle::{BatchHandle, BatchRequest};
pub use metrics::{BatchMetrics, Quantiles, TIME_BUCKETS_MS};
pub use outcome::{BatchError, BatchStartError};
pub(crate) use point::{GivenUpFor, Point};
pub(crate) use route::{ClaimRoute, Completion, LaneKind, Reply, empty_perception};

use std::time::Duration;

use nv_perception::{BatchProcessor, StageError};

use crate::sync::Arc;

/// An entry is gone from its point before its result is handed over. So long later there is none.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(100);

/// Builds one processor of a batch point. Called on the instance's thread, once for each instance and again after a panic or
/// a lost device.
pub type ProcessorFactory = Arc<dyn Fn() -> Result<Box<dyn BatchProcessor>, StageError> + Send + Sync>;

/// The state machines that decide for a batch point.
#[cfg(test)]
pub(crate) mod cores {
    pub(crate) use super::{
        attempt::{Attempt, CallResult},
        breaker::{BreakerChange, RebuildPace},
        core::{BreakerEvent, GivenUp, InstanceStep, LaneRole, PointCore, PointLimits, PointPhase, Verdict},
        former::{BoundPart, Decision, Taken},
        standing::StandingChange,
    };
}
