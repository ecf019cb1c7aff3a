mod nms;
mod plan;

use nv_plugin_sdk::{
    BatchCapabilities, BatchEntry, BatchProcessor, BuildContext, DataKind, FromConfig, Name, Object, ObjectId,
    ObjectTables, Size, StageError, StageOutput, Tensor,
};

use crate::config::DetectConfig;
use crate::families::{Candidates, Family, Head};
use crate::network::{Misfit, Network};
use crate::preprocess::Placement;
use nms::suppress;
use plan::Plan;

/// Finds objects with a neural network from an ONNX file: the kind `detect`.
///
/// Takes frames and regions of any size and pixel format in host memory. Objects come best first, with boxes in source
/// pixels of the frame, clipped to it; an object found in a region is clipped to the pixels that the region touches, and has
/// the region's object as its parent. Faces have five keypoints: eyes, nose, corners of the mouth.
///
/// Each entry's result is bit for bit what the entry gets alone.
pub struct Detect {
    network: Network,
    reader: Reader,
}

impl FromConfig for Detect {
    type Config = DetectConfig;
    const KIND: &'static str = "detect";
    const SUMMARY: &'static str = "finds objects with a neural network from an ONNX file";
    const CONFIG_SCHEMA: &'static str = DetectConfig::SCHEMA;

    fn from_config(config: DetectConfig, context: &BuildContext) -> Result<Self, StageError> {
        let Plan { network, detector } = Plan::new(&config, context)?;
        let network = Network::new(network)?;
        let reader = Reader {
            family: detector.family,
            head: detector.bind(network.session())?,
            labels: detector.labels,
            wanted: detector.wanted,
            threshold: config.threshold,
            nms_iou: detector.nms_iou,
            max_detections: config.max_detections,
            source: Name::new(Self::KIND),
            found: Candidates::default(),
        };
        Ok(Self { network, reader })
    }
}

impl BatchProcessor for Detect {
    fn capabilities(&self) -> BatchCapabilities {
        self.network.capabilities(vec![DataKind::Objects])
    }

    /// Runs the network once on a grey picture: a model whose outputs are not what its file says is refused here.
    fn start(&mut self) -> Result<(), StageError> {
        let Self { network, reader } = self;
        let side = 2 * reader.family.stride.max(32);
        network.try_blank(Size::new(side, side), 0.0, |outputs, entries, size| {
            reader.head.check_blank(outputs, size).map_err(|what| reader.misfit(&what))?;
            (0..entries).try_for_each(|entry| reader.decode(outputs, entry, size))
        })
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        let Self { network, reader } = self;
        network.process(batch, |outputs, slot, at, entry| reader.collect(outputs, slot, at, entry))
    }
}

/// Makes objects of the network's outputs.
struct Reader {
    family: &'static Family,
    head: Box<dyn Head>,
    labels: Option<Vec<Name>>,
    wanted: Option<Vec<bool>>,
    threshold: f32,
    nms_iou: f32,
    max_detections: usize,
    /// The name that the runtime replaces by the step's.
    source: Name,
    found: Candidates,
}

impl Reader {
    /// From the network's outputs to objects.
    fn collect(
        &mut self,
        outputs: &[Tensor],
        slot: usize,
        at: &Placement,
        entry: &BatchEntry,
    ) -> Result<StageOutput, Misfit> {
        self.decode(outputs, slot, at.input)?;
        if let Some(wanted) = &self.wanted {
            self.found.items.retain(|c| wanted.get(c.class).copied().unwrap_or(false));
        }
        suppress(&mut self.found, self.nms_iou, self.max_detections);

        let mapping = at.mapping();
        let seen = at.seen();
        let mut objects = Vec::with_capacity(self.found.items.len());
        let mut tables = ObjectTables::default();
        let mut id = entry.next_object_id();
        for candidate in &self.found.items {
            let bbox = mapping.bbox(&candidate.bbox).intersection(&seen);
            if bbox.is_empty() {
                continue;
            }
            if let Some(i) = candidate.keypoints {
                let points = self.found.keypoints[i].map(|mut point| {
                    let place = mapping.point(point.x, point.y);
                    (point.x, point.y) = (place.x, place.y);
                    point
                });
                tables.keypoints.push(id, &points);
            }
            objects.push(Object {
                id,
                parent: entry.region().map(|r| r.object),
                source: self.source.clone(),
                class_id: candidate.class as u32,
                class: self.labels.as_ref().and_then(|names| names.get(candidate.class)).cloned(),
                score: candidate.score,
                bbox,
            });
            id = ObjectId(id.0 + 1);
        }
        Ok(StageOutput { objects: Some(objects), tables, ..StageOutput::default() })
    }

    /// Leaves in `found` what the entry has.
    fn decode(&mut self, outputs: &[Tensor], entry: usize, input: Size) -> Result<(), Misfit> {
        self.found.clear();
        let decoded = self.head.decode(outputs, entry, input, self.threshold, &mut self.found);
        decoded.map_err(|what| self.misfit(&what))
    }

    fn misfit(&self, what: &str) -> Misfit {
        Misfit::model(format!("it does not answer as {} does: {what}", self.family.name))
    }
}
