use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nv_core::{CancelToken, HealthKind};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceEvent, SourceItem};

use super::intake::Intaken;
use super::{FeedShared, Intake};
use crate::guard::{Foreign, panic_error};
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
    pub(crate) source: Foreign<Box<dyn FrameSource>>,
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) health: HealthHub,
    pub(crate) number: u32,
    pub(crate) live: bool,
    pub(crate) frame_limit: Option<u64>,
    pub(crate) url: String,
}

impl Session {
    pub(crate) fn run(mut self) {
        let url = std::mem::take(&mut self.url);
        let pulled = guarded(&url, "next", || self.pull());
        let end = pulled.unwrap_or_else(|error| ended(error, &self.shared.cancel));
        self.intake.end(end);
    }

    fn pull(&mut self) -> Result<SourceEnd, SourceError> {
        let mut cuts = 0;
        let mut frames = 0;
        while !self.shared.cancel.is_cancelled() {
            if self.frame_limit.is_some_and(|limit| frames >= limit) {
                return Ok(SourceEnd::LimitReached);
            }
            match self.source.next(ASK)? {
                SourceItem::Frame(frame) => match self.intake.push(frame, self.number, cuts, self.live) {
                    Intaken::Taken => frames += 1,
                    Intaken::Discarded => {}
                    Intaken::Closed => return Ok(SourceEnd::Cancelled),
                },
                SourceItem::Event(event) => {
                    tracing::debug!(feed = %self.intake.feed(), ?event, "source event");
                    match event {
                        SourceEvent::Gap { count } => {
                            self.intake.lost_upstream(count);
                            self.health.report(Some(self.intake.feed()), HealthKind::FramesLostUpstream { count });
                        }
                        SourceEvent::FormatChanged => {
                            cuts += 1;
                            self.shared.progress.lock().source = Some(self.source.info().clone());
                        }
                        SourceEvent::Discontinuity => cuts += 1,
                        // A suspect frame says so itself.
                        _ => {}
                    }
                }
                SourceItem::TimedOut => {}
                SourceItem::End => return Ok(SourceEnd::EndOfStream),
                // An item of a later version of the trait, which this one has no use for.
                _ => {}
            }
        }
        Ok(SourceEnd::Cancelled)
    }
}

/// What an error means for the session. What breaks when it is cancelled has not failed, whatever it calls that.
pub(crate) fn ended(error: SourceError, cancel: &CancelToken) -> SourceEnd {
    if error.kind() == SourceErrorKind::Cancelled || cancel.is_cancelled() {
        tracing::debug!(%error, "the source was cancelled");
        return SourceEnd::Cancelled;
    }
    SourceEnd::Failed(error)
}

/// Calls a source's code: a panic in it becomes an error.
pub(crate) fn guarded<T>(url: &str, call: &str, f: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let error = panic_error(call, panic);
        Err(SourceError::new(SourceErrorKind::Damaged, url, format!("the source failed: {error}")))
    })
}
