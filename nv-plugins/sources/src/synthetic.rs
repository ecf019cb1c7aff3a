use std::time::Duration;

use nv_core::CancelToken;
use nv_perception::testing::{SceneConfig, SyntheticScene};
use nv_perception::{FrameSource, SourceError, SourceErrorKind, SourceItem, SourceSpec, StreamInfo};

use crate::options::Options;

/// `synthetic:` – moving shapes whose every box is known, for demos, benchmarks and tests without files.
pub(crate) struct SyntheticSource {
    url: String,
    scene: SyntheticScene,
    info: StreamInfo,
    cancel: CancelToken,
    next: u64,
    /// `None`: it never ends.
    count: Option<u64>,
}

const OPTIONS: [&str; 6] = ["width", "height", "fps", "frames", "objects", "seed"];
/// Frames of a scene that is not live, unless it is told.
const DEFAULT_FRAMES: u64 = 300;

impl SyntheticSource {
    pub(crate) fn open(spec: &SourceSpec, cancel: &CancelToken) -> Result<Self, SourceError> {
        let (_, rest) = spec.url.split_once(':').unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.trim_matches('/').is_empty() {
            return Err(SourceError::new(SourceErrorKind::Config, &spec.url, "a synthetic source has no path")
                .with_remedy("write it as in synthetic:?width=640&height=480&frames=300"));
        }
        let options = Options::new(spec, query, &OPTIONS)?;
        let mut config = SceneConfig::default();
        let set =
            |field: &mut u32, name| options.get(name, "a whole number").map(|value| *field = value.unwrap_or(*field));
        set(&mut config.size.width, "width")?;
        set(&mut config.size.height, "height")?;
        set(&mut config.fps, "fps")?;
        set(&mut config.objects, "objects")?;
        config.seed = options.get("seed", "a whole number")?.unwrap_or(config.seed);
        let count = options.get("frames", "a whole number")?.or((!spec.live).then_some(DEFAULT_FRAMES));
        let scene = SyntheticScene::new(config).map_err(|error| options.error(error.to_string()))?;
        let info = StreamInfo {
            size: config.size,
            frame_interval: Some(Duration::from_nanos(scene.pts(1).as_nanos().unsigned_abs())),
            frame_count: count,
            live: false,
            codec: "synthetic".into(),
            decoder: "nv-sources".into(),
            max_outstanding: None,
        };
        Ok(Self { url: spec.url.clone(), scene, info, cancel: cancel.clone(), next: 0, count })
    }
}

impl FrameSource for SyntheticSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::new(SourceErrorKind::Cancelled, &self.url, "cancelled"));
        }
        if self.count.is_some_and(|count| self.next >= count) {
            return Ok(SourceItem::End);
        }
        let frame = self.scene.frame(self.next);
        self.next += 1;
        Ok(SourceItem::Frame(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nv_core::Size;
    use nv_perception::testing::read_frame_number;

    fn open(url: &str) -> Result<SyntheticSource, SourceError> {
        SyntheticSource::open(&SourceSpec::new(url), &CancelToken::new())
    }

    #[test]
    fn options_make_the_scene() {
        let mut source = open("synthetic:?width=160&height=120&fps=50&frames=3&objects=2&seed=9").unwrap();
        let config = SceneConfig { size: Size::new(160, 120), fps: 50, objects: 2, seed: 9 };
        assert_eq!(source.scene.config(), &config);
        assert_eq!(source.info().frame_interval, Some(Duration::from_millis(20)));
        assert_eq!(source.info().frame_count, Some(3));
        for n in 0..3 {
            let SourceItem::Frame(frame) = source.next(Duration::ZERO).unwrap() else { panic!("frame {n}") };
            assert_eq!(read_frame_number(&frame), Some(n));
        }
        assert!(matches!(source.next(Duration::ZERO), Ok(SourceItem::End)));
    }

    #[test]
    fn it_ends_unless_it_is_live() {
        assert_eq!(open("synthetic:").unwrap().info().frame_count, Some(300));
        let live = SourceSpec { live: true, ..SourceSpec::new("synthetic://") };
        assert_eq!(SyntheticSource::open(&live, &CancelToken::new()).unwrap().info().frame_count, None);
    }

    #[test]
    fn wrong_urls_are_refused() {
        fn check(url: &str, expected: &str) {
            let error = open(url).err().unwrap();
            assert_eq!(error.kind(), SourceErrorKind::Config);
            assert_eq!(error.to_string(), format!("{url}: {expected}"));
        }
        check("synthetic:?width=10", "a synthetic scene's width must be 96 to 8192");
        check("synthetic:?frames=-1", "option frames=\"-1\" is not a whole number");
        check("synthetic:?heigth=10", "unknown option \"heigth\": it takes width, height, fps, frames, objects, seed");
        check(
            "synthetic:cars",
            "a synthetic source has no path; write it as in synthetic:?width=640&height=480&frames=300",
        );
    }
}
