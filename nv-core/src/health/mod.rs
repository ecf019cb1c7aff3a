//! What an operator would want to know of, as the runtime saw it.

mod kind;
mod topic;

use std::fmt;

use serde::Serialize;

pub use kind::HealthKind;
pub use topic::HealthTopic;

use crate::{MonoTime, Name};

/// Something that an operator of the system would want to know, as the runtime saw it.
///
/// Serialises as one flat map: `at_ms`, `severity`, `feed`, `count`, `missed`, and those of its [`HealthKind`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HealthEvent {
    /// When it was seen; of several, the last.
    pub at: MonoTime,
    /// The feed it concerns; `None` for a batch point or the whole process.
    pub feed: Option<Name>,
    /// What happened; of several, what the last one said.
    pub kind: HealthKind,
    /// How often it happened: 1, or more where repeats within a second are told of at once.
    pub count: u64,
    /// Events before this one that whoever gets it has missed, since there was no room for them.
    pub missed: u64,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The normal course of things.
    Info,
    /// Some results are lost, the rest goes on.
    Warning,
    /// A feed, a sink or a batch point has stopped doing its work.
    Error,
}

impl HealthEvent {
    /// An event that happened once.
    pub fn new(at: MonoTime, feed: Option<Name>, kind: HealthKind) -> Self {
        Self { at, feed, kind, count: 1, missed: 0 }
    }

    /// Takes in a later event that [repeats](HealthKind::repeats) this one.
    pub fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.count += later.count;
        self.missed += later.missed;
        self.kind.absorb(later.kind);
    }
}

impl fmt::Display for HealthEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(feed) = &self.feed {
            write!(f, "feed {feed}: ")?;
        }
        self.kind.fmt(f)?;
        // Frames have been added up: how many reports there were of them says nothing more.
        if self.count > 1 && !self.kind.counts_frames() {
            write!(f, " ({} times in the last second)", self.count)?;
        }
        match self.missed {
            0 => Ok(()),
            1 => f.write_str(" (1 event before this one was missed)"),
            n => write!(f, " ({n} events before this one were missed)"),
        }
    }
}

impl Serialize for HealthEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            at_ms: MonoTime,
            severity: Severity,
            feed: &'a Option<Name>,
            count: u64,
            missed: u64,
            #[serde(flatten)]
            kind: &'a HealthKind,
        }

        let Self { at, feed, kind, count, missed } = self;
        let severity = kind.severity();
        Shape { at_ms: *at, severity, feed, count: *count, missed: *missed, kind }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::DropReason;

    fn event(kind: HealthKind) -> HealthEvent {
        HealthEvent::new(MonoTime::from_nanos(1_500_000), Some("gate".into()), kind)
    }

    #[test]
    fn texts() {
        fn check(kind: HealthKind, count: u64, missed: u64, expected: &str) {
            assert_eq!(HealthEvent { count, missed, ..event(kind) }.to_string(), expected);
        }
        let full = || HealthKind::SinkFull { sink: "a.jsonl".into() };
        check(full(), 1, 0, "feed gate: sink a.jsonl is too slow: outputs are passed over");
        check(
            full(),
            12,
            3,
            "feed gate: sink a.jsonl is too slow: outputs are passed over (12 times in the last second) (3 events before \
             this one were missed)",
        );
        let dropped = |frames| HealthKind::FramesDropped { reason: DropReason::QueueFull, frames };
        check(dropped(1), 1, 0, "feed gate: 1 frame dropped: queue_full");
        check(dropped(12), 9, 0, "feed gate: 12 frames dropped: queue_full");
        let age = Duration::from_millis(2_340);
        check(
            HealthKind::FeedLagging { age },
            1,
            0,
            "feed gate: lagging: outputs leave 2.3 s after their frames came in",
        );
    }

    #[test]
    fn they_serialise_flat() {
        fn check(kind: HealthKind, expected: &str) {
            assert_eq!(serde_json::to_string(&event(kind)).unwrap(), expected);
        }
        check(
            HealthKind::SourceLost { reason: "refused".into(), retry_in: Duration::from_millis(200) },
            r#"{"at_ms":1.5,"severity":"warning","feed":"gate","count":1,"missed":0,"kind":"source_lost","reason":"refused","retry_in_ms":200.0}"#,
        );
        check(
            HealthKind::FeedCaughtUp,
            r#"{"at_ms":1.5,"severity":"info","feed":"gate","count":1,"missed":0,"kind":"feed_caught_up"}"#,
        );
        check(
            HealthKind::FramesDropped { reason: DropReason::Superseded, frames: 4 },
            r#"{"at_ms":1.5,"severity":"info","feed":"gate","count":1,"missed":0,"kind":"frames_dropped","reason":"superseded","frames":4}"#,
        );
    }
}
