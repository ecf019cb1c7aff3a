//! Feeds: where frames come in, pass through the steps of their pipeline and leave as outputs.

mod cascade;
mod config;
mod core;
mod executor;
mod flow;
mod gate;
mod handle;
mod inbox;
mod intake;
mod lag;
mod ledger;
mod outlet;
mod pipeline;
mod queue;
mod rate;
mod restart;
mod sink;
mod source;
mod source_watch;
mod stats;
mod steps;
mod stop;
mod supervision;
mod supervisor;
mod thread;
mod watch;
mod work;

pub use cascade::RegionOptions;
pub use config::{FeedConfig, FeedConfigError, SinkConfig, StepErrorPolicy};
pub use gate::{SkipCondition, StepOptions, StepOptionsError};
pub(crate) use handle::FeedShared;
pub use handle::{FeedEnd, FeedHandle};
pub(crate) use inbox::Inbox;
pub(crate) use intake::Intake;
pub use ledger::{DropRecord, FrameCounts};
pub use pipeline::{BatchTarget, FeedPipeline, FeedPipelineBuilder, PipelineError, StageFactory};
pub use queue::QueuePolicy;
pub use restart::{RestartConfig, RestartTrigger};
pub use stats::{FeedState, FeedStats, SinkStats, StepStats};
pub(crate) use thread::FeedThread;

/// The state machines that decide for a feed.
pub(crate) mod cores {
    pub(crate) use super::cascade::Selection;
    pub(crate) use super::core::FeedCore;
    pub(crate) use super::gate::StepGate;
    pub(crate) use super::intake::IntakeCore;
    pub(crate) use super::supervisor::{Reconnect, RestartBudget};
    #[cfg(test)]
    pub(crate) use super::{
        core::{Action, Checked, CoreConfig, CoreStep, Failed, FeedPlan},
        flow::{StepKind, Turn},
        intake::{Arrival, Bound, Given, Glance, IntakeConfig},
        queue::Queued,
        supervisor::{BudgetConfig, ReconnectConfig},
    };
}
