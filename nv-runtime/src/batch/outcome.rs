use std::time::Duration;

use nv_core::{DropReason, Name};
use nv_perception::StageError;
use thiserror::Error;

/// Why an entry got no result. Each kind says something different about what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The point holds as many waiting entries as it may. Nothing was taken.
    #[error("batch point {batch}: {limit} entries wait already")]
    QueueFull {
        /// The batch point.
        batch: Name,
        /// `max_pending`.
        limit: usize,
    },
    /// The caller has as many entries in flight as it may. Nothing was taken.
    #[error("batch point {batch}: {limit} direct submissions are in flight already")]
    InFlightCapReached {
        /// The batch point.
        batch: Name,
        /// The cap.
        limit: usize,
    },
    /// The processor reported an error for this entry or for its whole batch, or panicked.
    #[error("batch point {batch}: {error}")]
    ProcessingFailed {
        /// The batch point.
        batch: Name,
        /// What it reported. Shared, for a batch that failed as a whole.
        error: std::sync::Arc<StageError>,
    },
    /// No answer within the limit, from dispatch.
    #[error("batch point {batch}: no answer within {limit:?} of dispatch")]
    Timeout {
        /// The batch point.
        batch: Name,
        /// `response_timeout`.
        limit: Duration,
    },
    /// Too old to be worth computing when its turn came.
    #[error("batch point {batch}: older than {limit:?} when its turn came")]
    Expired {
        /// The batch point.
        batch: Name,
        /// `max_age`.
        limit: Duration,
    },
    /// No instance of the point is able to work.
    #[error("batch point {batch}: no processor is able to work ({reason})")]
    Unavailable {
        /// The batch point.
        batch: Name,
        /// Why.
        reason: String,
    },
    /// The point is shutting down.
    #[error("batch point {batch} is shutting down")]
    CoordinatorShutdown {
        /// The batch point.
        batch: Name,
    },
}

impl BatchError {
    /// What a frame is dropped for when this happens to it.
    pub fn drop_reason(&self) -> DropReason {
        match self {
            Self::QueueFull { .. } | Self::InFlightCapReached { .. } | Self::Unavailable { .. } => {
                DropReason::Unavailable
            }
            Self::ProcessingFailed { .. } => DropReason::ProcessingFailed,
            Self::Timeout { .. } => DropReason::Timeout,
            Self::Expired { .. } => DropReason::Expired,
            Self::CoordinatorShutdown { .. } => DropReason::Shutdown,
        }
    }
}

/// Why a batch point could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BatchStartError {
    /// The config makes no sense.
    #[error("batch point {batch}: {error}")]
    Config {
        /// The batch point.
        batch: Name,
        /// The field and the reason.
        error: super::BatchConfigError,
    },
    /// A processor could not be built or started.
    #[error("batch point {batch}: {error}")]
    Processor {
        /// The batch point.
        batch: Name,
        /// What it reported.
        error: StageError,
    },
    /// A processor did not start in time.
    #[error("batch point {batch}: instance {instance} did not start within {limit:?}")]
    Timeout {
        /// The batch point.
        batch: Name,
        /// Which instance.
        instance: usize,
        /// `startup_timeout`.
        limit: Duration,
    },
    /// There is a batch point of this name already, or the runtime is shutting down.
    #[error("batch point {batch}: {reason}")]
    Refused {
        /// The batch point.
        batch: Name,
        /// Why.
        reason: &'static str,
    },
}
