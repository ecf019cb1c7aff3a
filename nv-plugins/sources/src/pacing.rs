use std::sync::Arc;
use std::time::Duration;

use nv_core::{CancelToken, Clock, Frame, MonoTime, Pts};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceItem, StreamInfo};

/// Plays a source at its own speed, as if it were a camera: each frame is given when its `pts` comes up, counted from the
/// first frame. A consumer that comes late gets the next frames at once; what to drop then is for the frame queue to say.
pub(crate) struct Paced<S> {
    inner: S,
    url: String,
    clock: Arc<dyn Clock>,
    cancel: CancelToken,
    info: StreamInfo,
    /// When the first frame was given, and its `pts`.
    origin: Option<(MonoTime, Pts)>,
    /// A frame whose time has not come.
    early: Option<Frame>,
}

impl<S: FrameSource> Paced<S> {
    pub(crate) fn new(inner: S, url: &str, clock: Arc<dyn Clock>, cancel: &CancelToken) -> Self {
        let info = live(inner.info());
        Self { inner, url: url.into(), clock, cancel: cancel.clone(), info, origin: None, early: None }
    }

    /// Waits for `time`; `Err` where that was cancelled.
    fn wait(&self, time: Duration) -> Result<(), SourceError> {
        if self.cancel.wait_timeout(time) {
            return Err(SourceError::new(SourceErrorKind::Cancelled, &self.url, "cancelled"));
        }
        Ok(())
    }
}

impl<S: FrameSource> FrameSource for Paced<S> {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError> {
        let frame = match self.early.take() {
            Some(frame) => frame,
            None => match self.inner.next(timeout)? {
                SourceItem::Frame(frame) => frame,
                other => {
                    self.info = live(self.inner.info());
                    return Ok(other);
                }
            },
        };
        let now = self.clock.now();
        let (start, first) = *self.origin.get_or_insert((now, frame.pts()));
        let left = (start + frame.pts().since(first)).since(now);
        if left > timeout {
            self.early = Some(frame);
            self.wait(timeout)?;
            return Ok(SourceItem::TimedOut);
        }
        self.wait(left)?;
        Ok(SourceItem::Frame(frame))
    }
}

fn live(info: &StreamInfo) -> StreamInfo {
    StreamInfo { live: true, ..info.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::SyntheticSource;
    use nv_core::ManualClock;
    use nv_perception::SourceSpec;

    fn paced(url: &str) -> (Paced<SyntheticSource>, Arc<ManualClock>, CancelToken) {
        let (clock, cancel) = (Arc::new(ManualClock::new()), CancelToken::new());
        clock.set(MonoTime::from_nanos(5_000_000));
        let inner = SyntheticSource::open(&SourceSpec::new(url), &cancel).unwrap();
        (Paced::new(inner, url, clock.clone(), &cancel), clock, cancel)
    }

    /// The times of the frames that can be had now, without waiting.
    fn due(source: &mut impl FrameSource) -> Vec<i64> {
        let mut times = Vec::new();
        while let SourceItem::Frame(frame) = source.next(Duration::ZERO).unwrap() {
            times.push(frame.pts().as_nanos() / 1_000_000);
        }
        times
    }

    #[test]
    fn frames_come_when_their_time_comes() {
        let (mut source, clock, _) = paced("synthetic:?width=96&height=64&fps=10&frames=6");
        assert!(source.info().live);
        assert_eq!(due(&mut source), [0]);
        clock.advance(Duration::from_millis(99));
        assert!(due(&mut source).is_empty());
        clock.advance(Duration::from_millis(1));
        assert_eq!(due(&mut source), [100]);
        // Late: all that is due comes at once, and what follows keeps its own time.
        clock.advance(Duration::from_millis(350));
        assert_eq!(due(&mut source), [200, 300, 400]);
        clock.advance(Duration::from_millis(50));
        assert_eq!(due(&mut source), [500]);
        assert!(matches!(source.next(Duration::ZERO), Ok(SourceItem::End)));
    }

    #[test]
    fn cancelling_ends_the_wait() {
        let (mut source, _, cancel) = paced("synthetic:?width=96&height=64&fps=1");
        assert_eq!(due(&mut source), [0]);
        cancel.cancel();
        let error = source.next(Duration::from_secs(3600)).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Cancelled);
    }
}
