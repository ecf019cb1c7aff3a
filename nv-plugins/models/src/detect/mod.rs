mod nms;
mod plan;

use nv_infer::{InferError, Pictures, RowSelection, ScoredRows, Session};
use nv_plugin_sdk::{
    BatchCapabilities, BatchEntry, BatchProcessor, BuildContext, DataKind, FromConfig, Name, Object, ObjectId,
    ObjectTables, Size, StageError, StageOutput,
};

use crate::config::DetectConfig;
use crate::families::{Candidates, Family, Head};
use crate::network::{self, Misfit, Network, Trial};
use crate::plan::infer_error;
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
            selections: Vec::new(),
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
        let trial = network.try_blank(Size::new(side, side), 0.0)?;
        reader.check(network.session(), &trial).map_err(|unread| unread.error(|misfit| network.refused(misfit)))
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        self.network.process(batch, &mut self.reader)
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
    /// Which rows are read, by the input's size.
    selections: Vec<(Size, RowSelection)>,
    found: Candidates,
}

/// Feeds of more frame sizes than this, for a network that takes any, make selections anew: some small lists each.
const MAX_SELECTIONS: usize = 16;

/// Why rows of a network's outputs could not be read.
enum Unread {
    /// The run failed.
    Failed(InferError),
    /// The outputs are not the family's.
    Misfit(Misfit),
}

impl Unread {
    fn error(self, of_misfit: impl FnOnce(Misfit) -> StageError) -> StageError {
        match self {
            Self::Failed(error) => infer_error(error),
            Self::Misfit(misfit) => of_misfit(misfit),
        }
    }
}

impl Reader {
    /// Has the family look at what blank pictures gave, and reads rows of it.
    fn check(&mut self, session: &Session, trial: &Trial) -> Result<(), Unread> {
        let checked = self.head.check_blank(&trial.outputs, trial.size);
        self.selections.clear();
        // Where the shapes are others than they must be, that says more than what the values look like.
        self.select(trial.size, |selection| session.select(&trial.pictures, selection))?;
        checked.map_err(|what| Unread::Misfit(self.misfit(&what)))
    }

    /// The rows that `select` selects for an input of this size.
    fn select(
        &mut self,
        input: Size,
        select: impl FnOnce(&RowSelection) -> Result<Vec<Vec<ScoredRows>>, InferError>,
    ) -> Result<Vec<Vec<ScoredRows>>, Unread> {
        let known = self.selections.iter().position(|(size, _)| *size == input);
        let index = known.unwrap_or_else(|| {
            if self.selections.len() == MAX_SELECTIONS {
                self.selections.clear();
            }
            let selection = RowSelection { groups: self.head.groups(input), threshold: self.threshold };
            self.selections.push((input, selection));
            self.selections.len() - 1
        });
        select(&self.selections[index].1).map_err(|error| match error {
            InferError::ShapeMismatch { name, found, needed, .. } => {
                Unread::Misfit(self.misfit(&format!("{name} has the shape {found}, {needed} is needed")))
            }
            error => Unread::Failed(error),
        })
    }

    fn misfit(&self, what: &str) -> Misfit {
        Misfit::model(format!("it does not answer as {} does: {what}", self.family.name))
    }
}

impl network::Reader for Reader {
    /// By entry and group of rows.
    type Answer = Vec<Vec<ScoredRows>>;

    fn ask(&mut self, session: &Session, pictures: &Pictures<'_>) -> Result<Self::Answer, StageError> {
        let rows = self.select(pictures.size, |selection| session.select_in_pictures(pictures, selection));
        rows.map_err(|unread| unread.error(|misfit| misfit.error(session)))
    }

    fn read(
        &mut self,
        rows: &Self::Answer,
        slot: usize,
        at: &Placement,
        entry: &BatchEntry,
    ) -> Result<StageOutput, Misfit> {
        self.found.clear();
        self.head.decode(&rows[slot], at.input, &mut self.found);
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
}
