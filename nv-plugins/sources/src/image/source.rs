use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nv_core::{CancelToken, Frame, FramePool};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceEvent, SourceItem, SourceSpec, StreamInfo};

use super::decode::{self, ImageError};
use crate::location::io_error;
use crate::options::{FrameRate, Options};

/// Pictures, one frame each, in the order of their names.
///
/// A picture that can't be read is a gap; the others are given, and after the last comes an error that names the first that
/// failed.
pub(crate) struct ImageSource {
    url: String,
    cancel: CancelToken,
    info: StreamInfo,
    paths: Vec<PathBuf>,
    rate: FrameRate,
    pool: FramePool,
    /// The picture to decode next.
    at: usize,
    /// Decoded, and not yet given.
    ready: Option<Frame>,
    /// How many failed, and the first of them.
    failed: usize,
    first_failure: Option<(PathBuf, Failure)>,
}

#[derive(Debug)]
struct Failure {
    kind: SourceErrorKind,
    message: String,
}

const DEFAULT_RATE: FrameRate = FrameRate::per_second(25);

impl ImageSource {
    /// Opens the pictures at `paths` and decodes the first.
    pub(crate) fn open(spec: &SourceSpec, paths: Vec<PathBuf>, cancel: &CancelToken) -> Result<Self, SourceError> {
        let options = Options::new(spec, "", &["fps"])?;
        let rate = options.get("fps", FrameRate::EXPECTED)?.unwrap_or(DEFAULT_RATE);
        let info = StreamInfo {
            size: nv_core::Size::default(),
            frame_interval: (paths.len() > 1).then(|| Duration::from_nanos(rate.pts(1).as_nanos().unsigned_abs())),
            frame_count: Some(paths.len() as u64),
            live: false,
            codec: String::new(),
            decoder: String::new(),
            max_outstanding: None,
        };
        let mut source = Self {
            url: spec.url.clone(),
            cancel: cancel.clone(),
            info,
            paths,
            rate,
            pool: FramePool::new(4),
            at: 0,
            ready: None,
            failed: 0,
            first_failure: None,
        };
        while source.ready.is_none() && source.at < source.paths.len() {
            source.check_cancelled()?;
            source.ready = source.decode_next();
        }
        match &source.ready {
            Some(frame) => source.info.size = frame.size(),
            None => return Err(source.end().expect_err("no picture was decoded")),
        }
        Ok(source)
    }

    /// Decodes the next picture; `None` where it failed.
    fn decode_next(&mut self) -> Option<Frame> {
        let path = &self.paths[self.at];
        let pts = self.rate.pts(self.at as u64);
        self.at += 1;
        let decoded = fs::read(path).map_err(|e| Failure::io(&self.url, e)).and_then(|bytes| {
            self.info.codec = decode::codec(&bytes).map_err(Failure::from)?.into();
            self.info.decoder = if self.info.codec == "JPEG" { "zune-jpeg" } else { "png" }.into();
            decode::decode(&bytes, pts, &self.pool).map_err(Failure::from)
        });
        match decoded {
            Ok(frame) => Some(frame),
            Err(failure) => {
                self.failed += 1;
                if self.first_failure.is_none() {
                    self.first_failure = Some((path.clone(), failure));
                }
                None
            }
        }
    }

    fn check_cancelled(&self) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::new(SourceErrorKind::Cancelled, &self.url, "cancelled"));
        }
        Ok(())
    }

    /// How the session ends, after its last frame.
    fn end(&self) -> Result<SourceItem, SourceError> {
        let Some((path, Failure { kind, message })) = &self.first_failure else { return Ok(SourceItem::End) };
        let what = match self.paths.as_slice() {
            [_] => message.clone(),
            all => format!(
                "{} of {} pictures could not be decoded; the first: {}: {message}",
                self.failed,
                all.len(),
                file_name(path)
            ),
        };
        let remedy = match kind {
            SourceErrorKind::Unsupported => "convert it to JPEG or PNG",
            SourceErrorKind::Damaged => "copy it again, or take it out",
            _ => "check its permissions and the disk",
        };
        Err(SourceError::new(*kind, &self.url, what).with_remedy(remedy))
    }
}

impl FrameSource for ImageSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
        self.check_cancelled()?;
        let frame = match self.ready.take() {
            Some(frame) => frame,
            None if self.at == self.paths.len() => return self.end(),
            None => match self.decode_next() {
                Some(frame) => frame,
                None => return Ok(SourceItem::Event(SourceEvent::Gap { count: 1 })),
            },
        };
        if frame.size() != self.info.size {
            self.info.size = frame.size();
            self.ready = Some(frame);
            return Ok(SourceItem::Event(SourceEvent::FormatChanged));
        }
        Ok(SourceItem::Frame(frame))
    }
}

impl Failure {
    fn io(url: &str, error: std::io::Error) -> Self {
        let error = io_error(url, error);
        Self { kind: error.kind(), message: error.message().to_owned() }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Damaged(message) => Self { kind: SourceErrorKind::Damaged, message },
            ImageError::Unsupported(message) => Self { kind: SourceErrorKind::Unsupported, message },
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
