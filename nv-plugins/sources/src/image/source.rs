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

#[cfg(test)]
mod tests {
    use super::super::decode::tests::{jpeg, png, rgb};
    use super::*;
    use crate::EmbeddedSources;
    use nv_core::{PixelFormat, Size};
    use nv_perception::SourceFactory;

    /// A folder with pictures: `a1.png` and `a10.png` of 8×6, `a9.jpg` of 16×12.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let small = png((8, 6), png::ColorType::Rgb, png::BitDepth::Eight, &rgb(8, 6));
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("a1.png", &small);
        write("a9.jpg", &jpeg(16, 12, jpeg_encoder::ColorType::Rgb, &rgb(16, 12)));
        write("a10.png", &small);
        write("readme.txt", b"not a picture");
        folder
    }

    /// What a source gives: `WxH@ms` for a frame, `changed`, `gap`; then how it ended.
    fn play(folder: &Path, url: &str, options: &[(&str, &str)]) -> (Vec<String>, Result<(), SourceError>) {
        let mut spec = SourceSpec { base_dir: folder.into(), ..SourceSpec::new(url) };
        spec.options = options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut items = Vec::new();
        let mut source = match EmbeddedSources::default().open(&spec, &CancelToken::new()) {
            Ok(source) => source,
            Err(error) => return (items, Err(error)),
        };
        loop {
            match source.next(Duration::ZERO) {
                Ok(SourceItem::Frame(frame)) => {
                    assert_eq!((frame.format(), frame.size()), (PixelFormat::Rgb8, source.info().size));
                    let Size { width, height } = frame.size();
                    items.push(format!("{width}x{height}@{}", frame.pts().as_nanos() / 1_000_000));
                }
                Ok(SourceItem::Event(SourceEvent::FormatChanged)) => items.push("changed".into()),
                Ok(SourceItem::Event(SourceEvent::Gap { count: 1 })) => items.push("gap".into()),
                Ok(SourceItem::End) => return (items, Ok(())),
                Ok(other) => panic!("{other:?}"),
                Err(error) => return (items, Err(error)),
            }
        }
    }

    #[test]
    fn folders_patterns_and_single_pictures() {
        fn check(url: &str, options: &[(&str, &str)], expected: &[&str]) {
            let (items, end) = play(folder().path(), url, options);
            assert_eq!(items, expected, "{url}");
            assert!(end.is_ok(), "{end:?}");
        }
        check(".", &[], &["8x6@0", "changed", "16x12@40", "changed", "8x6@80"]);
        check("file:.", &[("fps", "0.5")], &["8x6@0", "changed", "16x12@2000", "changed", "8x6@4000"]);
        check("*.png", &[], &["8x6@0", "8x6@40"]);
        check("a[0-9].???", &[], &["8x6@0", "changed", "16x12@40"]);
        check("a9.jpg", &[], &["16x12@0"]);
    }

    #[test]
    fn the_stream_is_described() {
        let folder = folder();
        let spec = SourceSpec { base_dir: folder.path().into(), ..SourceSpec::new(".") };
        let source = EmbeddedSources::default().open(&spec, &CancelToken::new()).unwrap();
        let info = source.info();
        assert_eq!((info.size, info.frame_count), (Size::new(8, 6), Some(3)));
        assert_eq!((info.codec.as_str(), info.decoder.as_str()), ("PNG", "png"));
        assert_eq!(info.frame_interval, Some(Duration::from_millis(40)));
    }

    #[test]
    fn the_others_are_given_when_some_are_damaged() {
        let folder = folder();
        let whole = fs::read(folder.path().join("a9.jpg")).unwrap();
        fs::write(folder.path().join("a9.jpg"), &whole[..whole.len() / 2]).unwrap();
        fs::write(folder.path().join("a99.png"), b"").unwrap();
        let (items, end) = play(folder.path(), ".", &[]);
        assert_eq!(items, ["8x6@0", "gap", "8x6@80", "gap"]);
        let error = end.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Damaged);
        assert_eq!(
            error.to_string(),
            ".: 2 of 4 pictures could not be decoded; the first: a9.jpg: the JPEG is cut off; copy it again, or take it out"
        );
    }

    #[test]
    fn what_gives_no_picture_is_an_error_when_it_is_opened() {
        fn check(name: &str, bytes: &[u8], url: &str, kind: SourceErrorKind, expected: &str) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(name), bytes).unwrap();
            let (_, end) = play(folder.path(), url, &[]);
            let error = end.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, expected));
        }
        use SourceErrorKind::{Damaged, NotFound, Unsupported};
        check(
            "x.png",
            b"\x89PNG\r\n\x1a\n",
            "x.png",
            Damaged,
            "x.png: unexpected end of file; copy it again, or take it out",
        );
        check(
            "x.jpg",
            b"hello",
            "*",
            Damaged,
            "*: it is neither JPEG nor PNG, whatever its name says; copy it again, or take it out",
        );
        check(
            "x.webp",
            b"RIFF\0\0\0\0WEBPVP8 ",
            "x.webp",
            Unsupported,
            "x.webp: it is WebP; JPEG and PNG are read; convert it to JPEG or PNG",
        );
        check(
            "clip.mp4",
            b"",
            ".",
            NotFound,
            ".: the folder holds no JPEG or PNG pictures; name videos one by one; pictures in folders below it match a \
             pattern such as FOLDER/**/*.png",
        );
        check(
            "clip.mp4",
            b"",
            "*.png",
            NotFound,
            "*.png: no JPEG or PNG picture matches the pattern; check the path; name videos one by one",
        );
    }

    #[test]
    fn wrong_options_are_refused() {
        fn check(option: (&str, &str), expected: &str) {
            let (_, end) = play(folder().path(), "a1.png", &[option]);
            assert_eq!(end.unwrap_err().to_string(), format!("a1.png: {expected}"));
        }
        check(("fps", "fast"), "option fps=\"fast\" is not a number of frames per second from 0.001 to 1000");
        check(("speed", "2"), "unknown option \"speed\": it takes fps");
    }
}
