use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use nv_core::{HealthEvent, HealthKind, HealthTopic, Name, Severity};

/// How many lines of one kind about one thing are told; the rest is counted.
const LINES: u64 = 2;

/// What of the runtime's health events is told on the console: trouble while it lasts, and that it is over. Whatever makes the
/// command fail is told by itself, with the rest of the story.
#[derive(Debug, Default)]
pub(crate) struct HealthLines {
    /// What was told and what was not, of each kind of event about each thing.
    told: HashMap<(Option<Name>, HealthTopic, Discriminant<HealthKind>), Told>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    lines: u64,
    /// How often it happened after that.
    untold: u64,
}

/// A line for the console.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HealthLine {
    Warning(String),
    Note(String),
}

impl HealthLines {
    /// The line for an event, if it is to have one.
    pub(crate) fn tell(&mut self, event: &HealthEvent) -> Option<HealthLine> {
        let make: fn(String) -> HealthLine = match &event.kind {
            // Told when the feed has ended, when an output has failed and when all is over.
            HealthKind::FeedEnded { .. }
            | HealthKind::SourceFailed { .. }
            | HealthKind::SinkFailed { fatal: true, .. }
            | HealthKind::ThreadAbandoned { .. } => return None,
            HealthKind::SourceOpened { session: 1.., .. }
            | HealthKind::BatchUp { .. }
            | HealthKind::InstanceFreed { .. }
            | HealthKind::FeedReleased { .. }
            | HealthKind::FeedCaughtUp
            | HealthKind::SinkCaughtUp { .. } => HealthLine::Note,
            kind if kind.severity() == Severity::Info => return None,
            _ => HealthLine::Warning,
        };
        let key = (event.feed.clone(), event.kind.topic(), discriminant(&event.kind));
        let told = self.told.entry(key).or_default();
        if told.lines == LINES {
            told.untold += event.count;
            return None;
        }
        told.lines += 1;
        Some(make(event.to_string()))
    }

    /// For each kind of which not all was told: how much was not.
    pub(crate) fn rest(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .told
            .iter()
            .filter(|(_, told)| told.untold > 0)
            .map(|((feed, topic, _), told)| {
                let of = feed.as_ref().map(|feed| format!("feed {feed}: ")).unwrap_or_default();
                let about = match topic {
                    HealthTopic::Step(name) => format!(" about step {name}"),
                    HealthTopic::Batch(name) => format!(" about batch point {name}"),
                    HealthTopic::Sink(name) => format!(" about sink {name}"),
                    HealthTopic::Drops(reason) => format!(" about frames dropped: {reason}"),
                    _ => String::new(),
                };
                format!("{of}… and {} more of that kind{about}", told.untold)
            })
            .collect();
        lines.sort();
        lines
    }
}

#[cfg(test)]
mod tests {
    use nv_core::{DropReason, MonoTime};

    use super::*;

    fn event(kind: HealthKind, count: u64) -> HealthEvent {
        let mut event = HealthEvent::new(MonoTime::ZERO, Some("gate".into()), kind);
        event.count = count;
        event
    }

    #[test]
    fn trouble_is_a_warning_and_its_end_a_note() {
        fn check(kind: HealthKind, expected: Option<HealthLine>) {
            assert_eq!(HealthLines::default().tell(&event(kind, 1)), expected);
        }
        let warning = |text: &str| Some(HealthLine::Warning(format!("feed gate: {text}")));
        let note = |text: &str| Some(HealthLine::Note(format!("feed gate: {text}")));
        let opened = |session| HealthKind::SourceOpened { session, description: "H.264".into() };
        check(opened(0), None);
        check(opened(3), note("source opened again (session 3): H.264"));
        check(HealthKind::FeedCaughtUp, note("no longer lagging"));
        check(
            HealthKind::BatchDown { batch: "d".into(), error: "lost".into() },
            warning("batch point d is down: lost"),
        );
        check(HealthKind::SinkFull { sink: "s".into() }, warning("sink s is too slow: outputs are passed over"));
        check(HealthKind::FramesDropped { reason: DropReason::Superseded, frames: 1 }, None);
        check(HealthKind::FeedEnded { reason: "end of stream".into(), ok: true }, None);
        check(HealthKind::FeedEnded { reason: "no such file".into(), ok: false }, None);
    }

    #[test]
    fn what_goes_on_is_counted() {
        let mut lines = HealthLines::default();
        let failed = |count| {
            event(HealthKind::StageFailed { step: "track".into(), panicked: false, error: "no luck".into() }, count)
        };
        let warning = |text: &str| Some(HealthLine::Warning(text.into()));
        assert_eq!(lines.tell(&failed(1)), warning("feed gate: stage track failed: no luck"));
        let many = "feed gate: stage track failed: no luck (12 times in the last second)";
        assert_eq!(lines.tell(&failed(12)), warning(many));
        assert!(lines.rest().is_empty());
        assert_eq!([lines.tell(&failed(30)), lines.tell(&failed(5))], [None, None]);
        assert_eq!(lines.rest(), ["feed gate: … and 35 more of that kind about step track"]);
    }
}
