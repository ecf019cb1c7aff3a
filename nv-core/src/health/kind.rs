use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Severity;
use crate::{DropReason, Name, serialize_as_ms};

/// What a [`HealthEvent`](super::HealthEvent) reports.
///
/// Serialises as a map with the name in `kind`; durations are in milliseconds, in keys that say so.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
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
        #[serde(rename = "retry_in_ms", serialize_with = "serialize_as_ms")]
        retry_in: Duration,
    },
    /// A call of the source has lasted longer than it may, and did not end when it was cancelled. No frame comes before it
    /// does.
    SourceHung {
        /// How long nothing was heard of the source.
        #[serde(rename = "limit_ms", serialize_with = "serialize_as_ms")]
        limit: Duration,
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
        #[serde(rename = "delay_ms", serialize_with = "serialize_as_ms")]
        delay: Duration,
    },
    /// The source lost frames before they reached us.
    FramesLostUpstream {
        /// How many, as far as the source knows.
        frames: u64,
    },
    /// The feed gave up frames that it had no time for.
    FramesDropped {
        /// What for.
        reason: DropReason,
        /// How many.
        frames: u64,
    },
    /// A live feed is late: its outputs are of frames that were received more than 2 s before.
    FeedLagging {
        /// The age of the frame, when its output left; the highest where several are told of at once.
        #[serde(rename = "age_ms", serialize_with = "serialize_as_ms")]
        age: Duration,
    },
    /// A feed that was late is so no more.
    FeedCaughtUp,
    /// A stage returned an error or panicked.
    StageFailed {
        /// The step's name.
        step: Name,
        /// Whether it panicked.
        panicked: bool,
        /// The error.
        error: String,
    },
    /// A call of a stage lasts too long. One about a frame is given up with it, and its thread left behind, after the limit
    /// for it or when the time that a stopped feed has is over; one that starts the stage is told of once and goes on.
    StageHung {
        /// The step's name.
        step: Name,
        /// How long it has lasted at least.
        #[serde(rename = "limit_ms", serialize_with = "serialize_as_ms")]
        limit: Duration,
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
        #[serde(rename = "limit_ms", serialize_with = "serialize_as_ms")]
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
        #[serde(rename = "limit_ms", serialize_with = "serialize_as_ms")]
        limit: Duration,
    },
    /// A call of a batch processor that had lasted too long has returned; the instance goes on.
    InstanceFreed {
        /// The batch point's name.
        batch: Name,
        /// Which of its instances.
        instance: usize,
        /// How long the call lasted.
        #[serde(rename = "took_ms", serialize_with = "serialize_as_ms")]
        took: Duration,
    },
    /// As many entries wait at a batch point as may: frames wait with their feeds.
    BatchFull {
        /// The batch point's name.
        batch: Name,
        /// How many may wait.
        limit: usize,
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
    /// A sink's queue has been full for long. The feed of a file, which loses no output, waits for it.
    SinkStalled {
        /// The sink's name.
        sink: Name,
        /// How long it has taken nothing.
        #[serde(rename = "limit_ms", serialize_with = "serialize_as_ms")]
        limit: Duration,
    },
    /// A sink that outputs passed by, or waited for, takes them again.
    SinkCaughtUp {
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
            | Self::InstanceFreed { .. }
            | Self::FeedCaughtUp
            | Self::SinkCaughtUp { .. }
            // Freshness at work: a live feed's newest frames go first.
            | Self::FramesDropped { reason: DropReason::Superseded, .. }
            | Self::FeedEnded { ok: true, .. } => Severity::Info,
            Self::FramesLostUpstream { .. }
            | Self::FramesDropped { .. }
            | Self::FeedLagging { .. }
            | Self::StageHung { .. }
            | Self::SourceLost { .. }
            | Self::FeedRestarting { .. }
            | Self::StageFailed { .. }
            | Self::BatchFailed { .. }
            | Self::BatchTimeout { .. }
            | Self::ProcessorRebuilding { .. }
            | Self::InstanceWedged { .. }
            | Self::BatchFull { .. }
            | Self::FeedQuarantined { .. }
            | Self::SinkFailed { fatal: false, .. }
            | Self::SinkFull { .. }
            | Self::SinkStalled { .. } => Severity::Warning,
            Self::SourceFailed { .. }
            | Self::SourceHung { .. }
            | Self::BatchDown { .. }
            | Self::SinkFailed { fatal: true, .. }
            | Self::ThreadAbandoned { .. }
            | Self::FeedEnded { ok: false, .. } => Severity::Error,
        }
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
            Self::SourceHung { limit } => {
                write!(f, "the source has not been heard of for {limit:?}, and does not let itself be cancelled")
            }
            Self::FeedRestarting { reason, number, limit, delay } => {
                write!(f, "restarting in {:.1} s ({number} of {limit}): {reason}", delay.as_secs_f64())
            }
            Self::FramesLostUpstream { frames } => {
                write!(f, "{frames} {} lost before they reached us", plural(*frames, "frame"))
            }
            Self::FramesDropped { reason, frames } => {
                write!(f, "{frames} {} dropped: {reason}", plural(*frames, "frame"))
            }
            Self::FeedLagging { age } => {
                write!(f, "lagging: outputs leave {:.1} s after their frames came in", age.as_secs_f64())
            }
            Self::FeedCaughtUp => f.write_str("no longer lagging"),
            Self::StageHung { step, limit } => write!(f, "stage {step} has not returned within {limit:?}"),
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
            Self::InstanceFreed { batch, instance, took } => {
                write!(f, "batch point {batch}: instance {instance} has answered after {took:?} and goes on")
            }
            Self::BatchFull { batch, limit } => {
                write!(f, "batch point {batch}: {limit} entries wait, which is the limit; frames wait with their feeds")
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
            Self::SinkStalled { sink, limit } => {
                write!(f, "sink {sink} has taken nothing for {limit:?}: its feed waits for it")
            }
            Self::SinkCaughtUp { sink } => write!(f, "sink {sink} takes outputs again"),
            Self::ThreadAbandoned { thread } => {
                write!(f, "thread {thread:?} did not end in time and is left behind")
            }
            Self::FeedEnded { reason, .. } => write!(f, "ended: {reason}"),
        }
    }
}

fn plural(count: u64, one: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{one}s") }
}
