//! Runs a stage or a batch processor without a host: built from config as a host would, given frames, asked for results.
//!
//! Frames come from [`solid_frame`], from [`nv_perception::testing::SyntheticScene`] (moving objects with exact ground truth),
//! or from anywhere else.
//!
//! ```
//! use nv_plugin_sdk::testing::{StageRunner, solid_frame};
//! use nv_plugin_sdk::{BuildContext, FromConfig, SceneFeature, Stage, StageError, StageInput, StageOutput, serde, serde_json};
//!
//! /// Mean luma of the picture.
//! struct Brightness;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
//! struct NoConfig {}
//!
//! impl FromConfig for Brightness {
//!     type Config = NoConfig;
//!     const KIND: &'static str = "brightness";
//!     const SUMMARY: &'static str = "mean luma";
//!     fn from_config(_: NoConfig, _: &BuildContext) -> Result<Self, StageError> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Stage for Brightness {
//!     fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
//!         let view = input.frame().host().map_err(|e| StageError::input(e.to_string()))?;
//!         let luma = view.plane(0).data;
//!         let mean = luma.iter().map(|&b| f64::from(b)).sum::<f64>() / luma.len() as f64;
//!         let scene = vec![SceneFeature { name: "brightness".into(), value: mean.into() }];
//!         Ok(StageOutput { scene, ..StageOutput::default() })
//!     }
//! }
//!
//! let mut runner = StageRunner::<Brightness>::start(serde_json::json!({}))?;
//! let found = runner.process(solid_frame(64, 48, [200, 200, 200]))?;
//! assert_eq!(found.scene[0].name, "brightness");
//! # Ok::<(), StageError>(())
//! ```

use std::sync::Arc;

use nv_core::{ColorInfo, ColorRange, Frame, FrameHeader, FramePool, MonoTime, Name, PixelFormat, Size};
use nv_perception::{
    BatchEntry, BatchProcessor, BuildContext, FromConfig, Perception, Region, Stage, StageError, StageInput,
    StageOutput, StreamContext,
};
use serde::Deserialize as _;
use serde_json::Value;

/// Time between the frames that are made or numbered here: 25 a second.
const INTERVAL_NS: u64 = 40_000_000;

/// A picture of one colour, as decoders make them: I420, full range.
///
/// # Panics
/// Where it has no pixels.
pub fn solid_frame(width: u32, height: u32, [r, g, b]: [u8; 3]) -> Frame {
    let (r, g, b) = (f32::from(r), f32::from(g), f32::from(b));
    // ITU-R BT.601, full range, as in JPEG (JFIF 1.02).
    let planes = [
        0.299 * r + 0.587 * g + 0.114 * b,
        128.0 - 0.168_736 * r - 0.331_264 * g + 0.5 * b,
        128.0 + 0.5 * r - 0.418_688 * g - 0.081_312 * b,
    ];
    let header = FrameHeader {
        color: ColorInfo { range: ColorRange::Full, ..ColorInfo::default() },
        ..FrameHeader::new(Size::new(width, height), PixelFormat::I420)
    };
    let mut buffer = FramePool::new(0).take(header).expect("a picture with pixels");
    for (i, value) in planes.into_iter().enumerate() {
        buffer.plane_mut(i).fill(value.round() as u8);
    }
    buffer.freeze()
}

/// A started stage and the stream that it sees.
#[derive(Debug)]
pub struct StageRunner<S> {
    stage: S,
    stream: StreamContext,
    frames: u64,
}

impl<S: Stage + FromConfig> StageRunner<S> {
    /// Builds the stage from its section of config, with the current folder for relative paths, and starts it on a feed `test`.
    ///
    /// # Errors
    /// What the stage says of its config.
    pub fn start(config: Value) -> Result<Self, StageError> {
        let mut stage = build::<S>(config)?;
        let stream = StreamContext::new(Name::new("test"), Name::new(S::KIND), 0);
        stage.start(&stream)?;
        Ok(Self { stage, stream, frames: 0 })
    }

    /// Gives it the next frame, in which no earlier step found anything.
    ///
    /// # Errors
    /// What the stage reports.
    pub fn process(&mut self, frame: Frame) -> Result<StageOutput, StageError> {
        self.process_with(frame, &Perception::default())
    }

    /// Gives it the next frame and what earlier steps found in it. Frames are numbered from 0 and received 40 ms apart.
    ///
    /// # Errors
    /// What the stage reports.
    pub fn process_with(&mut self, frame: Frame, perception: &Perception) -> Result<StageOutput, StageError> {
        let frame = frame.stamped(self.frames, MonoTime::from_nanos(self.frames * INTERVAL_NS));
        self.frames += 1;
        self.stage.process(&StageInput::new(&self.stream, &frame, perception))
    }

    /// Gives it frames one after the other and returns what the whole pipeline (this one step) knows after each.
    ///
    /// # Errors
    /// What the stage reports of the first frame that it can't process.
    pub fn sequence(&mut self, frames: impl IntoIterator<Item = Frame>) -> Result<Vec<Perception>, StageError> {
        let step = self.stream.step.clone();
        frames
            .into_iter()
            .map(|frame| {
                let mut perception = Perception::default();
                let first = perception.next_object_id();
                perception.merge(&step, first, self.process(frame)?);
                Ok(perception)
            })
            .collect()
    }

    /// Begins the next session: the stage is told that the stream was cut.
    pub fn reconnect(&mut self) {
        self.stream.session += 1;
        self.stage.discontinuity(&self.stream);
    }

    /// The stage.
    pub fn stage(&self) -> &S {
        &self.stage
    }

    /// Stops the stage.
    pub fn stop(mut self) {
        self.stage.stop();
    }
}

/// A started batch processor.
#[derive(Debug)]
pub struct BatchRunner<B> {
    processor: B,
}

impl<B: BatchProcessor + FromConfig> BatchRunner<B> {
    /// Builds the processor from its section of config, with the current folder for relative paths, and starts it.
    ///
    /// # Errors
    /// What the processor says of its config.
    pub fn start(config: Value) -> Result<Self, StageError> {
        let mut processor = build::<B>(config)?;
        processor.start()?;
        Ok(Self { processor })
    }

    /// Processes whole frames as one batch and returns a result for each.
    ///
    /// # Errors
    /// What the processor reports of the batch as a whole.
    pub fn process(
        &mut self,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<Vec<Result<StageOutput, StageError>>, StageError> {
        let nothing = Arc::new(Perception::default());
        let mut entries: Vec<_> = frames
            .into_iter()
            .enumerate()
            .map(|(i, frame)| {
                let frame = frame.stamped(i as u64, MonoTime::from_nanos(i as u64 * INTERVAL_NS));
                BatchEntry::new(Name::new("test"), 0, frame, None, nothing.clone()).at_slot(i)
            })
            .collect();
        self.process_entries(&mut entries)
    }

    /// Processes regions of one frame as one batch and returns a result for each; `perception` holds the objects whose boxes
    /// they are.
    ///
    /// # Errors
    /// What the processor reports of the batch as a whole.
    pub fn process_regions(
        &mut self,
        frame: &Frame,
        perception: Perception,
        regions: impl IntoIterator<Item = Region>,
    ) -> Result<Vec<Result<StageOutput, StageError>>, StageError> {
        let perception = Arc::new(perception);
        let entry = |(i, region)| {
            BatchEntry::new(Name::new("test"), 0, frame.clone(), Some(region), perception.clone()).at_slot(i)
        };
        let mut entries: Vec<_> = regions.into_iter().enumerate().map(entry).collect();
        self.process_entries(&mut entries)
    }

    fn process_entries(
        &mut self,
        entries: &mut [BatchEntry],
    ) -> Result<Vec<Result<StageOutput, StageError>>, StageError> {
        self.processor.process(entries)?;
        // The processor may have put them into another order.
        entries.sort_by_key(BatchEntry::slot);
        Ok(entries.iter_mut().map(BatchEntry::take_result).collect())
    }

    /// The processor.
    pub fn processor(&self) -> &B {
        &self.processor
    }

    /// Stops the processor.
    pub fn stop(mut self) {
        self.processor.stop();
    }
}

fn build<T: FromConfig>(config: Value) -> Result<T, StageError> {
    let config =
        T::Config::deserialize(config).map_err(|e| StageError::config(format!("config of {:?}: {e}", T::KIND)))?;
    T::from_config(config, &BuildContext::default())
}

#[cfg(test)]
mod tests {
    use nv_core::BBox;
    use nv_perception::{Attribute, BatchCapabilities, Object, ObjectId};

    use super::*;

    /// Says how many pixels an entry has: of its region's object, or of an object that it makes. The largest first.
    struct Area;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoConfig {}

    impl FromConfig for Area {
        type Config = NoConfig;
        const KIND: &'static str = "area";
        const SUMMARY: &'static str = "pixels";

        fn from_config(_: NoConfig, _: &BuildContext) -> Result<Self, StageError> {
            Ok(Self)
        }
    }

    fn part(entry: &BatchEntry) -> BBox {
        let Size { width, height } = entry.frame().size();
        entry.region().map_or(BBox::new(0.0, 0.0, width as f32, height as f32), |r| r.bbox)
    }

    impl BatchProcessor for Area {
        fn capabilities(&self) -> BatchCapabilities {
            BatchCapabilities::default()
        }

        fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
            batch.sort_by(|a, b| part(b).area().total_cmp(&part(a).area()));
            for entry in batch {
                let bbox = part(entry);
                let id = entry.region().map_or(entry.next_object_id(), |r| r.object);
                let made = entry.region().is_none().then(|| vec![Object::new(id, 0, 1.0, bbox)]);
                let area = Attribute { object: id, name: "area".into(), value: f64::from(bbox.area()).into() };
                entry.finish(Ok(StageOutput { objects: made, attributes: vec![area], ..StageOutput::default() }));
            }
            Ok(())
        }
    }

    fn areas(results: Vec<Result<StageOutput, StageError>>) -> Vec<(u32, nv_perception::Value)> {
        results
            .into_iter()
            .map(|result| {
                let Attribute { object, value, .. } = result.unwrap().attributes.remove(0);
                (object.0, value)
            })
            .collect()
    }

    #[test]
    fn results_are_in_the_order_of_the_entries() {
        let mut runner = BatchRunner::<Area>::start(serde_json::json!({})).unwrap();
        let frames = [2, 8, 4].map(|side| solid_frame(side, side, [0, 0, 0]));
        let whole = areas(runner.process(frames).unwrap());
        assert_eq!(whole, [(0, 4.0.into()), (0, 64.0.into()), (0, 16.0.into())]);

        let region = |id, side| Region { object: ObjectId(id), bbox: BBox::new(0.0, 0.0, side, side) };
        let objects = [1.0, 3.0].map(|side| region(0, side).bbox).into_iter().enumerate();
        let objects = objects.map(|(id, bbox)| Object::new(ObjectId(id as u32), 0, 1.0, bbox)).collect();
        let found = Perception::from(StageOutput { objects: Some(objects), ..StageOutput::default() });
        let regions = [region(0, 1.0), region(1, 3.0)];
        let parts = areas(runner.process_regions(&solid_frame(8, 8, [0, 0, 0]), found, regions).unwrap());
        assert_eq!(parts, [(0, 1.0.into()), (1, 9.0.into())]);
    }
}
