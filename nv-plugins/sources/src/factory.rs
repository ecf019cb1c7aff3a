use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nv_core::{CancelToken, Clock, SystemClock};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceFactory, SourceSpec};

use crate::image::{self, ImageSource};
use crate::location::{Location, io_error};
use crate::mp4::{Sniffed, sniff};
use crate::options::Options;
use crate::pacing::Paced;
use crate::synthetic::SyntheticSource;
use crate::video::VideoSource;

/// Opens every source that is built in. Cheap to clone; any number of sessions may be open at a time.
#[derive(Clone)]
pub struct EmbeddedSources {
    clock: Arc<dyn Clock>,
}

const SCHEMES: [&str; 2] = ["file", "synthetic"];

impl EmbeddedSources {
    /// Sources whose `live` sessions go by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }

    fn paced<S: FrameSource + 'static>(
        &self,
        source: S,
        spec: &SourceSpec,
        cancel: &CancelToken,
    ) -> Box<dyn FrameSource> {
        if spec.live { Box::new(Paced::new(source, &spec.url, self.clock.clone(), cancel)) } else { Box::new(source) }
    }
}

impl Default for EmbeddedSources {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::new()))
    }
}

impl fmt::Debug for EmbeddedSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedSources").finish_non_exhaustive()
    }
}

impl SourceFactory for EmbeddedSources {
    fn schemes(&self) -> &[&str] {
        &SCHEMES
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        match spec.scheme().as_str() {
            "synthetic" => Ok(self.paced(SyntheticSource::open(spec, cancel)?, spec, cancel)),
            "file" => {
                let source = match Location::find(spec)? {
                    Location::Folder(folder) => Opened::Images(pictures_of(spec, &folder)?),
                    Location::Pattern(pattern) => Opened::Images(pictures_matching(spec, &pattern)?),
                    Location::File { path, file, head } => match sniff(&head) {
                        Sniffed::Mp4 => Opened::Video(file),
                        Sniffed::Jpeg | Sniffed::Png | Sniffed::OtherImage(_) => Opened::Images(vec![path]),
                        other => return Err(not_a_video(spec, other)),
                    },
                };
                match source {
                    Opened::Images(paths) => Ok(self.paced(ImageSource::open(spec, paths, cancel)?, spec, cancel)),
                    Opened::Video(file) => {
                        Options::new(spec, "", &[])?;
                        Ok(self.paced(VideoSource::open(&spec.url, file, cancel)?, spec, cancel))
                    }
                }
            }
            scheme => Err(unknown_scheme(spec, scheme)),
        }
    }
}

enum Opened {
    Images(Vec<PathBuf>),
    Video(std::fs::File),
}

fn pictures_of(spec: &SourceSpec, folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let paths = image::in_folder(folder).map_err(|e| io_error(&spec.url, e))?;
    if paths.is_empty() {
        return Err(SourceError::new(SourceErrorKind::NotFound, &spec.url, "the folder holds no JPEG or PNG pictures")
            .with_remedy(
                "name videos one by one; pictures in folders below it match a pattern such as FOLDER/**/*.png",
            ));
    }
    Ok(paths)
}

fn pictures_matching(spec: &SourceSpec, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
    let paths = image::matching(pattern).map_err(|e| SourceError::new(SourceErrorKind::Config, &spec.url, e))?;
    if paths.is_empty() {
        return Err(SourceError::new(
            SourceErrorKind::NotFound,
            &spec.url,
            "no JPEG or PNG picture matches the pattern",
        )
        .with_remedy("check the path; name videos one by one"));
    }
    Ok(paths)
}

fn not_a_video(spec: &SourceSpec, found: Sniffed) -> SourceError {
    let error = |kind, message: String| SourceError::new(kind, &spec.url, message);
    const GIVE: &str = "give an MP4 with H.264 video, a JPEG or PNG picture, or a folder of those";
    match found {
        Sniffed::Empty => error(SourceErrorKind::NotVideo, "the file is empty (0 bytes)".into())
            .with_remedy("copy or record it again"),
        Sniffed::Text => error(SourceErrorKind::NotVideo, "it is a text file, not a video".into()).with_remedy(GIVE),
        Sniffed::OtherVideo(name) => {
            error(SourceErrorKind::Unsupported, format!("it is {name}; this source reads MP4")).with_remedy(
                "the GStreamer source plugin reads it, or put it into an MP4: ffmpeg -i INPUT -c copy OUTPUT.mp4",
            )
        }
        _ => error(SourceErrorKind::NotVideo, "it is not a video or picture that is known".into()).with_remedy(GIVE),
    }
}

fn unknown_scheme(spec: &SourceSpec, scheme: &str) -> SourceError {
    let message = format!("no built-in source opens {scheme}: URLs; there are file: (or a plain path) and synthetic:");
    let error = SourceError::new(SourceErrorKind::Unsupported, &spec.url, message);
    match scheme {
        "rtsp" | "rtsps" | "rtp" | "udp" | "srt" | "http" | "https" | "v4l2" => {
            error.with_remedy("cameras and network streams need the GStreamer source plugin")
        }
        _ => error.with_remedy("if it is a file with a colon in its name, write ./NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use nv_core::ManualClock;
    use nv_perception::SourceItem;

    use crate::testing::{Clip, ClipConfig};

    #[test]
    fn unknown_schemes_are_refused_without_credentials() {
        fn check(url: &str, expected: &str) {
            let error = EmbeddedSources::default().open(&SourceSpec::new(url), &CancelToken::new()).err().unwrap();
            assert_eq!((error.kind(), error.to_string().as_str()), (SourceErrorKind::Unsupported, expected));
        }
        check(
            "rtsp://joe:s3cret@10.0.0.7/stream1",
            "rtsp://***@10.0.0.7/stream1: no built-in source opens rtsp: URLs; there are file: (or a plain path) and \
             synthetic:; cameras and network streams need the GStreamer source plugin",
        );
        check(
            "take:2.mp4",
            "take:2.mp4: no built-in source opens take: URLs; there are file: (or a plain path) and synthetic:; if it is a \
             file with a colon in its name, write ./NAME",
        );
    }

    #[test]
    fn a_video_takes_no_options() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clip.mp4"), Clip::encode(&ClipConfig::default()).to_mp4().to_bytes())
            .unwrap();
        let mut spec = SourceSpec { base_dir: folder.path().into(), ..SourceSpec::new("clip.mp4") };
        spec.options.insert("fps".into(), "25".into());
        let error = EmbeddedSources::default().open(&spec, &CancelToken::new()).err().unwrap();
        assert_eq!(error.to_string(), "clip.mp4: unknown option \"fps\": it takes none");
    }

    #[test]
    fn a_live_file_keeps_its_own_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clip.mp4"), Clip::encode(&ClipConfig::default()).to_mp4().to_bytes())
            .unwrap();
        let clock = Arc::new(ManualClock::new());
        let spec = SourceSpec { base_dir: folder.path().into(), live: true, ..SourceSpec::new("clip.mp4") };
        let mut source = EmbeddedSources::new(clock.clone()).open(&spec, &CancelToken::new()).unwrap();
        assert!(source.info().live);
        for due in [1, 2, 0, 3] {
            for _ in 0..due {
                assert!(matches!(source.next(Duration::ZERO), Ok(SourceItem::Frame(_))));
            }
            assert!(matches!(source.next(Duration::ZERO), Ok(SourceItem::TimedOut)));
            // 40 ms from frame to frame.
            clock.advance(Duration::from_millis(if due == 1 {
                80
            } else if due == 2 {
                39
            } else {
                81
            }));
        }
    }

    #[test]
    fn a_cancelled_session_says_so() {
        let cancel = CancelToken::new();
        let mut source = EmbeddedSources::default().open(&SourceSpec::new("synthetic:"), &cancel).unwrap();
        cancel.cancel();
        assert_eq!(source.next(Duration::ZERO).unwrap_err().kind(), SourceErrorKind::Cancelled);
    }
}
