use std::mem::{discriminant, swap};

use super::HealthKind;
use crate::{DropReason, Name};

/// What an event is about, within its feed or the process: events of one topic bear on each other, as a lost source and one
/// that was opened again do, and are told in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthTopic {
    /// The feed's source, and the feed's restarts.
    Source,
    /// Frames that the source lost.
    LostUpstream,
    /// Frames that were dropped, for this reason.
    Drops(DropReason),
    /// Whether the feed keeps up.
    Lag,
    /// A stage.
    Step(Name),
    /// A batch point.
    Batch(Name),
    /// A sink.
    Sink(Name),
    /// A thread that was left behind.
    Thread(String),
    /// The feed's end.
    End,
}

impl HealthKind {
    /// What it is about.
    pub fn topic(&self) -> HealthTopic {
        match self {
            Self::SourceOpened { .. }
            | Self::SourceFailed { .. }
            | Self::SourceLost { .. }
            | Self::SourceHung { .. }
            | Self::FeedRestarting { .. } => HealthTopic::Source,
            Self::FramesLostUpstream { .. } => HealthTopic::LostUpstream,
            Self::FramesDropped { reason, .. } => HealthTopic::Drops(*reason),
            Self::FeedLagging { .. } | Self::FeedCaughtUp => HealthTopic::Lag,
            Self::StageFailed { step, .. } | Self::StageHung { step, .. } => HealthTopic::Step(step.clone()),
            Self::BatchFailed { batch, .. }
            | Self::BatchTimeout { batch, .. }
            | Self::ProcessorRebuilding { batch, .. }
            | Self::InstanceWedged { batch, .. }
            | Self::InstanceFreed { batch, .. }
            | Self::BatchFull { batch, .. }
            | Self::BatchDown { batch, .. }
            | Self::BatchUp { batch }
            | Self::FeedQuarantined { batch }
            | Self::FeedReleased { batch } => HealthTopic::Batch(batch.clone()),
            Self::SinkFailed { sink, .. }
            | Self::SinkFull { sink }
            | Self::SinkStalled { sink, .. }
            | Self::SinkCaughtUp { sink } => HealthTopic::Sink(sink.clone()),
            Self::ThreadAbandoned { thread } => HealthTopic::Thread(thread.clone()),
            Self::FeedEnded { .. } => HealthTopic::End,
        }
    }

    /// Whether it tells once more what `earlier`, an event of the same feed, told: the same happened to the same thing, be
    /// it in other words.
    pub fn repeats(&self, earlier: &Self) -> bool {
        discriminant(self) == discriminant(earlier)
            && self.variant() == earlier.variant()
            && self.topic() == earlier.topic()
    }

    /// Takes in a later event that [repeats](Self::repeats) this one: frames and entries add up, the highest age stays, and
    /// for the rest the later one counts.
    pub fn absorb(&mut self, mut later: Self) {
        swap(self, &mut later);
        match (self, later) {
            (Self::FramesLostUpstream { frames }, Self::FramesLostUpstream { frames: before })
            | (Self::FramesDropped { frames, .. }, Self::FramesDropped { frames: before, .. }) => {
                *frames = frames.saturating_add(before);
            }
            (Self::BatchFailed { entries, .. }, Self::BatchFailed { entries: before, .. }) => {
                *entries = entries.saturating_add(before);
            }
            (Self::FeedLagging { age }, Self::FeedLagging { age: before }) => *age = before.max(*age),
            _ => {}
        }
    }

    /// What tells events of one sort about one thing apart: the instance of a batch point, how a stage or a sink failed.
    fn variant(&self) -> usize {
        match self {
            Self::ProcessorRebuilding { instance, .. }
            | Self::InstanceWedged { instance, .. }
            | Self::InstanceFreed { instance, .. } => *instance,
            Self::StageFailed { panicked, .. } => usize::from(*panicked),
            Self::SinkFailed { fatal, .. } => usize::from(*fatal),
            _ => 0,
        }
    }

    /// Whether it says itself how many frames it is about.
    pub(super) fn counts_frames(&self) -> bool {
        matches!(self, Self::FramesLostUpstream { .. } | Self::FramesDropped { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_repeats_what() {
        fn check(later: HealthKind, earlier: HealthKind, expected: bool) {
            assert_eq!(later.repeats(&earlier), expected, "{later:?} after {earlier:?}");
        }
        let failed = |step: &str, panicked, error: &str| HealthKind::StageFailed {
            step: step.into(),
            panicked,
            error: error.into(),
        };
        check(failed("a", false, "x"), failed("a", false, "y"), true);
        check(failed("a", false, "x"), failed("b", false, "x"), false);
        check(failed("a", false, "x"), failed("a", true, "x"), false);
        let dropped = |reason| HealthKind::FramesDropped { reason, frames: 1 };
        check(dropped(DropReason::QueueFull), dropped(DropReason::QueueFull), true);
        check(dropped(DropReason::QueueFull), dropped(DropReason::Expired), false);
        let wedged = |instance| HealthKind::InstanceWedged { batch: "d".into(), instance, limit: Duration::ZERO };
        check(wedged(0), wedged(0), true);
        check(wedged(0), wedged(1), false);
        check(HealthKind::BatchUp { batch: "d".into() }, wedged(0), false);
    }

    #[test]
    fn repeats_add_up() {
        fn check(mut earlier: HealthKind, later: HealthKind, expected: HealthKind) {
            earlier.absorb(later);
            assert_eq!(earlier, expected);
        }
        let lost = |frames| HealthKind::FramesLostUpstream { frames };
        check(lost(3), lost(4), lost(7));
        check(lost(3), lost(u64::MAX), lost(u64::MAX));
        let failed = |entries, error: &str| HealthKind::BatchFailed { batch: "d".into(), entries, error: error.into() };
        check(failed(8, "first"), failed(1, "last"), failed(9, "last"));
        let lagging = |s| HealthKind::FeedLagging { age: Duration::from_secs(s) };
        check(lagging(5), lagging(3), lagging(5));
        check(lagging(3), lagging(5), lagging(5));
        let opened = |session| HealthKind::SourceOpened { session, description: String::new() };
        check(opened(1), opened(2), opened(2));
    }
}
