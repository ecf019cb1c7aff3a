use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a frame that was received was not emitted. A closed list: every frame ends emitted or with exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The feed's frame queue was full, and its policy dropped this frame.
    QueueFull,
    /// A fresher frame of the feed was taken when a batch was formed.
    Superseded,
    /// Older than the batch point's `max_age` when its batch was formed.
    Expired,
    /// A stage returned an error.
    StageError,
    /// A stage panicked.
    StagePanic,
    /// A stage did not return within the feed's `stage_timeout`.
    StageHung,
    /// The batch processor reported an error for it, or for its whole batch, or panicked.
    ProcessingFailed,
    /// The batch point did not answer within `response_timeout` of dispatch.
    Timeout,
    /// The batch point has no processor that is able to work.
    Unavailable,
    /// The feed's rate limit left it out.
    RateLimited,
    /// The decoder called it suspect, and the feed asked for those to be dropped.
    DecodeSuspect,
    /// The feed was stopped while the frame was inside, or was paused when a live source gave it.
    FeedStopped,
    /// The feed was restarted while the frame was inside.
    FeedRestarted,
    /// The runtime was shut down while the frame was inside.
    Shutdown,
}

impl DropReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::QueueFull,
        Self::Superseded,
        Self::Expired,
        Self::StageError,
        Self::StagePanic,
        Self::StageHung,
        Self::ProcessingFailed,
        Self::Timeout,
        Self::Unavailable,
        Self::RateLimited,
        Self::DecodeSuspect,
        Self::FeedStopped,
        Self::FeedRestarted,
        Self::Shutdown,
    ];

    /// The name it has in outputs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::StageError => "stage_error",
            Self::StagePanic => "stage_panic",
            Self::StageHung => "stage_hung",
            Self::ProcessingFailed => "processing_failed",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::DecodeSuspect => "decode_suspect",
            Self::FeedStopped => "feed_stopped",
            Self::FeedRestarted => "feed_restarted",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde_and_are_distinct() {
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i, "ALL is in the order of declaration");
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
