use std::fmt;
use std::time::Duration;

use crate::{MonoTime, Name};

/// Something that an operator of the system would want to know, as the runtime saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthEvent {
    /// When it was seen.
    pub at: MonoTime,
    /// The feed it concerns; `None` for a batch point or the whole process.
    pub feed: Option<Name>,
    /// What happened.
    pub kind: HealthKind,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The normal course of things.
    Info,
    /// Some results are lost, the rest goes on.
    Warning,
    /// A feed, a sink or a batch point has stopped doing its work.
    Error,
}

/// What a [`HealthEvent`] reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HealthKind {
    /// A session with the source began.
    SourceOpened {
        /// Number of the session, from 0.
        session: u32,
        /// Codec and size, for people.
        description: String,
    },
    /// The source could not be opened, or broke.
    SourceFailed {
        /// The error, credentials removed.
        error: String,
    },
    /// The source was lost, or could not be reached yet; it is tried again.
    SourceLost {
        /// Why, credentials removed.
        reason: String,
        /// How long until the next try.
        retry_in: Duration,
    },
    /// Something of the feed failed, and is made anew.
    FeedRestarting {
        /// What failed.
        reason: String,
        /// The number of this restart within the time that they are counted over, from 1.
        number: usize,
        /// How many there may be.
        limit: usize,
        /// How long until it.
        delay: Duration,
    },
    /// The source lost frames before they reached us.
    FramesLostUpstream {
        /// How many, as far as the source knows.
        count: u64,
    },
    /// A stage returned an error or panicked.
    StageFailed {
        /// The step's name.
        step: Name,
        /// Whether it panicked.
        panicked: bool,
        /// The error.
        error: String,
    },
    /// A batch, or a part of it, failed.
    BatchFailed {
        /// The batch point's name.
        batch: Name,
        /// Number of entries that failed.
        entries: usize,
        /// The error.
        error: String,
    },
    /// An entry got no answer in time.
    BatchTimeout {
        /// The batch point's name.
        batch: Name,
        /// The limit that passed.
        limit: Duration,
    },
    /// A batch processor panicked or lost its device, and is built anew.
    ProcessorRebuilding {
        /// The batch point's name.
        batch: Name,
        /// Which of its instances.
        instance: usize,
        /// Why.
        error: String,
    },
    /// A call of a batch processor has lasted longer than an answer may take. If it returns, the instance goes on.
    InstanceWedged {
        /// The batch point's name.
        batch: Name,
        /// Which of its instances.
        instance: usize,
        /// The limit that passed.
        limit: Duration,
    },
    /// A batch point is down: its processors fail time after time. Entries fail at once, but for a probe now and then.
    BatchDown {
        /// The batch point's name.
        batch: Name,
        /// The last error.
        error: String,
    },
    /// A batch point that was down works again.
    BatchUp {
        /// The batch point's name.
        batch: Name,
    },
    /// Most of the feed's entries fail by themselves: they go one per batch, at most one a second.
    FeedQuarantined {
        /// The batch point's name.
        batch: Name,
    },
    /// The feed's entries share batches again.
    FeedReleased {
        /// The batch point's name.
        batch: Name,
    },
    /// A sink returned an error or panicked.
    SinkFailed {
        /// The sink's name.
        sink: Name,
        /// The error.
        error: String,
        /// Whether the sink is done for: it gets no further output.
        fatal: bool,
    },
    /// A sink's queue is full; outputs of a live feed pass it by.
    SinkFull {
        /// The sink's name.
        sink: Name,
    },
    /// A thread did not end when it should have, and is left behind.
    ThreadAbandoned {
        /// The thread's name, which says whose it is.
        thread: String,
    },
    /// The feed has ended.
    FeedEnded {
        /// Why, for people.
        reason: String,
        /// Whether it ended as it should.
        ok: bool,
    },
}

impl HealthKind {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::SourceOpened { .. }
            | Self::BatchUp { .. }
            | Self::FeedReleased { .. }
            | Self::FeedEnded { ok: true, .. } => Severity::Info,
            Self::FramesLostUpstream { .. }
            | Self::SourceLost { .. }
            | Self::FeedRestarting { .. }
            | Self::StageFailed { .. }
            | Self::BatchFailed { .. }
            | Self::BatchTimeout { .. }
            | Self::ProcessorRebuilding { .. }
            | Self::InstanceWedged { .. }
            | Self::FeedQuarantined { .. }
            | Self::SinkFailed { fatal: false, .. }
            | Self::SinkFull { .. } => Severity::Warning,
            Self::SourceFailed { .. }
            | Self::BatchDown { .. }
            | Self::SinkFailed { fatal: true, .. }
            | Self::ThreadAbandoned { .. }
            | Self::FeedEnded { ok: false, .. } => Severity::Error,
        }
    }
}

impl fmt::Display for HealthEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(feed) = &self.feed {
            write!(f, "feed {feed}: ")?;
        }
        self.kind.fmt(f)
    }
}

impl fmt::Display for HealthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceOpened { session: 0, description } => {
                write!(f, "source opened: {description}")
            }
            Self::SourceOpened { session, description } => {
                write!(f, "source opened again (session {session}): {description}")
            }
            Self::SourceFailed { error } => write!(f, "source failed: {error}"),
            Self::SourceLost { reason, retry_in } => {
                write!(f, "source lost: {reason}; trying again in {:.1} s", retry_in.as_secs_f64())
            }
            Self::FeedRestarting { reason, number, limit, delay } => {
                write!(f, "restarting in {:.1} s ({number} of {limit}): {reason}", delay.as_secs_f64())
            }
            Self::FramesLostUpstream { count } => {
                write!(f, "{count} frames lost before they reached us")
            }
            Self::StageFailed { step, panicked: false, error } => {
                write!(f, "stage {step} failed: {error}")
            }
            Self::StageFailed { step, panicked: true, error } => {
                write!(f, "stage {step} panicked: {error}")
            }
            Self::BatchFailed { batch, entries, error } => {
                write!(f, "batch point {batch}: {entries} entries failed: {error}")
            }
            Self::BatchTimeout { batch, limit } => {
                write!(f, "batch point {batch}: no answer within {limit:?} of dispatch")
            }
            Self::ProcessorRebuilding { batch, instance, error } => {
                write!(f, "batch point {batch}: instance {instance} is being rebuilt: {error}")
            }
            Self::InstanceWedged { batch, instance, limit } => {
                write!(f, "batch point {batch}: instance {instance} has not answered for more than {limit:?}")
            }
            Self::BatchDown { batch, error } => write!(f, "batch point {batch} is down: {error}"),
            Self::BatchUp { batch } => write!(f, "batch point {batch} works again"),
            Self::FeedQuarantined { batch } => write!(
                f,
                "batch point {batch}: most of this feed's entries fail by themselves; they go alone, at most one a second"
            ),
            Self::FeedReleased { batch } => write!(f, "batch point {batch}: this feed's entries share batches again"),
            Self::SinkFailed { sink, error, .. } => write!(f, "sink {sink} failed: {error}"),
            Self::SinkFull { sink } => {
                write!(f, "sink {sink} is too slow: outputs are passed over")
            }
            Self::ThreadAbandoned { thread } => {
                write!(f, "thread {thread:?} did not end in time and is left behind")
            }
            Self::FeedEnded { reason, .. } => write!(f, "ended: {reason}"),
        }
    }
}
