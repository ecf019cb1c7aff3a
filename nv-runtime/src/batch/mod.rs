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
pub(crate) use former::EntryKey;
pub(crate) use former::{LaneKey, Refusal};
pub use handle::{BatchHandle, BatchRequest};
pub use metrics::{BatchMetrics, Quantiles};
pub use outcome::{BatchError, BatchStartError};
pub(crate) use point::Point;
pub(crate) use route::{ClaimRoute, Completion, LaneKind, Reply, empty_perception};

use nv_perception::{BatchProcessor, StageError};

use crate::sync::Arc;

/// Builds one processor of a batch point. Called on the instance's thread, once for each instance and again after a panic or
/// a lost device.
pub type ProcessorFactory = Arc<dyn Fn() -> Result<Box<dyn BatchProcessor>, StageError> + Send + Sync>;

/// The state machines that decide for a batch point.
#[cfg(test)]
pub(crate) mod cores {
    pub(crate) use super::{
        attempt::{Attempt, CallResult},
        breaker::{Backoff, BreakerChange},
        core::{BreakerEvent, GivenUp, InstanceStep, LaneRole, PointCore, PointLimits, PointPhase, Verdict},
        former::{BoundPart, Decision, Taken},
        standing::StandingChange,
    };
}
