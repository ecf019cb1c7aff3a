//! Cheap cameras: what is measured is to be the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nv_core::{CancelToken, Frame, FrameError, FrameHeader, FrameMemory, HostView, MemoryKind, PixelFormat, Size};
use nv_core::{PlaneView, Pts};
use nv_perception::{FrameSource, SourceError, SourceFactory, SourceItem, SourceSpec, StageOutput, StreamInfo};
use nv_runtime::ProcessorFactory;

/// What the sources of a test have given, and what of it is held.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) frames: AtomicU64,
    pub(crate) held: AtomicU64,
}

/// Opens sources that give a small frame at every interval.
pub(crate) struct Cameras {
    pub(crate) live: bool,
    /// From one frame to the next; `None`: there never is one.
    pub(crate) interval: Option<Duration>,
    /// When the source ends.
    pub(crate) frames: u64,
    pub(crate) given: Arc<Given>,
}

impl Cameras {
    /// Live, with so many frames a second.
    pub(crate) fn live(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second);
        Self { live: true, interval, frames: u64::MAX, given: Arc::default() }
    }
}

struct Camera {
    info: StreamInfo,
    interval: Option<Duration>,
    left: u64,
    due: Instant,
    given: Arc<Given>,
    cancel: CancelToken,
}

impl SourceFactory for Cameras {
    fn schemes(&self) -> &[&str] {
        &["cheap"]
    }

    fn open(&self, _: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        let info = StreamInfo {
            size: Size::new(2, 2),
            frame_interval: None,
            frame_count: None,
            live: self.live,
            codec: "none".into(),
            decoder: "none".into(),
            max_outstanding: None,
        };
        let (given, cancel) = (self.given.clone(), cancel.clone());
        let camera = Camera { info, interval: self.interval, left: self.frames, due: Instant::now(), given, cancel };
        Ok(Box::new(camera))
    }
}

impl FrameSource for Camera {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError> {
        if self.left == 0 {
            return Ok(SourceItem::End);
        }
        let wait = self.interval.map_or(timeout, |_| self.due.saturating_duration_since(Instant::now()));
        if self.cancel.wait_timeout(wait.min(timeout)) || wait > timeout {
            return Ok(SourceItem::TimedOut);
        }
        let Some(interval) = self.interval else { return Ok(SourceItem::TimedOut) };
        // One that is late does not catch up.
        self.due = (self.due + interval).max(Instant::now());
        self.left -= 1;
        Ok(SourceItem::Frame(frame(&self.given)))
    }
}

/// A frame that is counted as given, and as held until it is dropped.
pub(crate) fn frame(given: &Arc<Given>) -> Frame {
    let number = given.frames.fetch_add(1, Ordering::SeqCst);
    given.held.fetch_add(1, Ordering::SeqCst);
    let pts = Pts::from_nanos(i64::try_from(number).unwrap_or(i64::MAX));
    let header = FrameHeader { pts, ..FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8) };
    Frame::new(header, Arc::new(Memory(given.clone()))).expect("the memory has what the header says")
}

struct Memory(Arc<Given>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FrameMemory for Memory {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Host
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        Ok(HostView::new([PlaneView { data: &[0; 4], stride: 2 }]))
    }
}

/// A processor that finds nothing, at once.
pub(crate) fn free_processor() -> ProcessorFactory {
    nv_tests::processor(|batch| {
        batch.iter_mut().for_each(|entry| entry.finish(Ok(StageOutput::default())));
        Ok(())
    })
}
