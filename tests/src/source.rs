use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use nv_core::{CancelToken, Size};
use nv_perception::testing::{SceneConfig, SyntheticScene};
use nv_perception::{FrameSource, SourceError, SourceFactory, SourceItem, SourceSpec, StreamInfo};

/// A small scene: every frame carries its number.
pub fn scene() -> SyntheticScene {
    let config = SceneConfig { size: Size::new(160, 96), objects: 2, ..SceneConfig::default() };
    SyntheticScene::new(config).expect("the config is valid")
}

fn info(live: bool) -> StreamInfo {
    StreamInfo {
        size: Size::new(160, 96),
        frame_interval: None,
        frame_count: None,
        live,
        codec: "synthetic".into(),
        decoder: "the scripted world".into(),
        max_outstanding: None,
    }
}

/// A file of `frames` frames of [`scene`].
pub fn scene_source(frames: u64) -> Arc<dyn SourceFactory> {
    Arc::new(SceneFactory { frames })
}

struct SceneFactory {
    frames: u64,
}

struct SceneSource {
    scene: SyntheticScene,
    info: StreamInfo,
    next: u64,
    frames: u64,
}

impl SourceFactory for SceneFactory {
    fn schemes(&self) -> &[&str] {
        &["scene"]
    }

    fn open(&self, _: &SourceSpec, _: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        Ok(Box::new(SceneSource { scene: scene(), info: info(false), next: 0, frames: self.frames }))
    }
}

impl FrameSource for SceneSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
        if self.next == self.frames {
            return Ok(SourceItem::End);
        }
        self.next += 1;
        Ok(SourceItem::Frame(self.scene.frame(self.next - 1)))
    }
}

/// A test's end of a source: what it sends comes out of the source. Dropping it ends the stream.
#[derive(Debug)]
pub struct Feeder(Sender<Result<SourceItem, SourceError>>);

impl Feeder {
    /// Sends frame `n` of [`scene`].
    pub fn frame(&self, n: u64) {
        self.item(SourceItem::Frame(scene().frame(n)));
    }

    /// Sends an item.
    pub fn item(&self, item: SourceItem) {
        // The source may be gone; what the test checks next will say so.
        let _ = self.0.send(Ok(item));
    }

    /// Breaks the session; what is sent after it belongs to the next one.
    pub fn error(&self, error: SourceError) {
        let _ = self.0.send(Err(error));
    }

    /// Breaks the source.
    pub fn fail(self, error: SourceError) {
        let _ = self.0.send(Err(error));
    }
}

/// A source that gives what its feeder sends, live or like a file.
pub fn fed_source(live: bool) -> (Feeder, Arc<dyn SourceFactory>) {
    let (items, received) = bounded(1024);
    (Feeder(items), Arc::new(FedFactory { received, live }))
}

struct FedFactory {
    received: Receiver<Result<SourceItem, SourceError>>,
    live: bool,
}

struct FedSource {
    received: Receiver<Result<SourceItem, SourceError>>,
    cancelled: Receiver<()>,
    info: StreamInfo,
}

impl SourceFactory for FedFactory {
    fn schemes(&self) -> &[&str] {
        &["fed"]
    }

    fn open(&self, _: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        let (token, cancelled) = bounded(0);
        cancel.on_cancel(move || drop::<Sender<()>>(token));
        Ok(Box::new(FedSource { received: self.received.clone(), cancelled, info: info(self.live) }))
    }
}

impl FrameSource for FedSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError> {
        // Cancelled before all else: a stopped camera gives nothing more.
        if matches!(self.cancelled.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected)) {
            return Ok(SourceItem::TimedOut);
        }
        select! {
            recv(self.received) -> item => item.unwrap_or(Ok(SourceItem::End)),
            recv(self.cancelled) -> _ => Ok(SourceItem::TimedOut),
            default(timeout) => Ok(SourceItem::TimedOut),
        }
    }
}
