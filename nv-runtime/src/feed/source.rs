use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nv_core::{CancelToken, HealthKind};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceEvent, SourceItem};

use super::Intake;
use crate::guard::panic_error;
use crate::health::HealthHub;
use crate::sync::Arc;

/// How long a source is asked to wait for a frame before it is asked again. A source that is cancelled answers at once, so
/// this only bounds how long a call may last.
const ASK: Duration = Duration::from_secs(1);

/// How a session with a source ended.
#[derive(Debug)]
pub(crate) enum SourceEnd {
    /// The stream is over.
    EndOfStream,
    /// The feed's frame limit was reached.
    LimitReached,
    /// It was cancelled, or nobody takes its frames any more.
    Cancelled,
    /// It broke.
    Failed(SourceError),
}

/// One session: pulls frames from a source and puts them into the feed's intake. The body of the source's thread.
pub(crate) struct Session {
    pub(crate) source: Box<dyn FrameSource>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) cancel: CancelToken,
    pub(crate) health: HealthHub,
    pub(crate) number: u32,
    pub(crate) frame_limit: Option<u64>,
    pub(crate) url: String,
}

impl Session {
    pub(crate) fn run(mut self) -> SourceEnd {
        let pulled = catch_unwind(AssertUnwindSafe(|| self.pull()));
        let end = pulled.unwrap_or_else(|panic| {
            let error = panic_error("next", panic);
            SourceEnd::Failed(SourceError::new(
                SourceErrorKind::Damaged,
                &self.url,
                format!("the source failed: {error}"),
            ))
        });
        self.intake.end();
        end
    }

    fn pull(&mut self) -> SourceEnd {
        let mut cuts = 0;
        let mut frames = 0;
        while !self.cancel.is_cancelled() {
            if self.frame_limit.is_some_and(|limit| frames >= limit) {
                return SourceEnd::LimitReached;
            }
            match self.source.next(ASK) {
                Ok(SourceItem::Frame(frame)) => {
                    frames += 1;
                    if !self.intake.push(frame, self.number, cuts) {
                        return SourceEnd::Cancelled;
                    }
                }
                Ok(SourceItem::Event(event)) => {
                    tracing::debug!(feed = %self.intake.feed(), ?event, "source event");
                    match event {
                        SourceEvent::Gap { count } => {
                            self.intake.lost_upstream(count);
                            self.health.report(Some(self.intake.feed()), HealthKind::FramesLostUpstream { count });
                        }
                        SourceEvent::Discontinuity | SourceEvent::FormatChanged => cuts += 1,
                        // A suspect frame says so itself.
                        _ => {}
                    }
                }
                Ok(SourceItem::TimedOut) => {}
                Ok(SourceItem::End) => return SourceEnd::EndOfStream,
                // An item of a later version of the trait, which this one has no use for.
                Ok(_) => {}
                Err(error) if error.kind() == SourceErrorKind::Cancelled => return SourceEnd::Cancelled,
                Err(error) => return SourceEnd::Failed(error),
            }
        }
        SourceEnd::Cancelled
    }
}
