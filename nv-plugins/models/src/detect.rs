use nv_infer::Session;
use nv_plugin_sdk::{
    BatchCapabilities, BatchEntry, BatchProcessor, BuildContext, Capabilities, DataKind, FromConfig, Name, Object,
    ObjectId, ObjectTables, Size, StageError, StageErrorKind, StageOutput, Tensor,
};

use crate::DetectConfig;
use crate::families::{Candidates, Family, Head};
use crate::nms::suppress;
use crate::plan::{Plan, infer_error};
use crate::preprocess::{Placement, Preprocessor};

/// Finds objects with a neural network from an ONNX file: the kind `detect`.
///
/// Takes frames and regions of any size and pixel format in host memory. Objects come best first, with boxes in source
/// pixels of the frame, clipped to it; an object found in a region is clipped to the pixels that the region touches, and has
/// the region's object as its parent. Faces have five keypoints: eyes, nose, corners of the mouth.
///
/// Each entry's result is bit for bit what the entry gets alone.
pub struct Detect {
    session: Session,
    family: &'static Family,
    head: Box<dyn Head>,
    preprocessor: Preprocessor,
    labels: Option<Vec<Name>>,
    wanted: Option<Vec<bool>>,
    threshold: f32,
    nms_iou: f32,
    max_detections: usize,
    /// The size that the network is always given; `None`: it follows the picture.
    fixed_size: Option<Size>,
    /// The name that the runtime replaces by the step's.
    source: Name,
    input: InputBuffer,
    found: Candidates,
}

impl FromConfig for Detect {
    type Config = DetectConfig;
    const KIND: &'static str = "detect";
    const SUMMARY: &'static str = "finds objects with a neural network from an ONNX file";
    const CONFIG_SCHEMA: &'static str = include_str!("detect.schema.json");

    fn from_config(config: DetectConfig, context: &BuildContext) -> Result<Self, StageError> {
        let plan = Plan::new(&config, context)?;
        let session = Session::new(&plan.model, &plan.session).map_err(infer_error)?;
        let head =
            (plan.family.bind)(session.outputs(), plan.input.size).ok_or_else(|| plan.other_task(session.outputs()))?;
        Ok(Self {
            session,
            family: plan.family,
            head,
            fixed_size: plan.input.size,
            preprocessor: Preprocessor::new(plan.input),
            labels: plan.labels,
            wanted: plan.wanted,
            threshold: config.threshold,
            nms_iou: plan.nms_iou,
            max_detections: config.max_detections,
            source: Name::new(Self::KIND),
            input: InputBuffer::default(),
            found: Candidates::default(),
        })
    }
}

impl BatchProcessor for Detect {
    fn capabilities(&self) -> BatchCapabilities {
        BatchCapabilities {
            step: Capabilities { consumes: Vec::new(), produces: vec![DataKind::Objects], host_pixels: true },
            max_batch: None,
            preferred_batch: Some(self.session.preferred_batch()),
            idempotent: true,
            ..BatchCapabilities::default()
        }
    }

    /// Runs the network once on a grey picture: a model whose outputs are not what its file says is refused here.
    fn start(&mut self) -> Result<(), StageError> {
        let stride = self.family.stride.max(32);
        let size = self.fixed_size.unwrap_or(Size::new(2 * stride, 2 * stride));
        let n = self.session.preferred_batch();
        let picture = Tensor::zeros([n, 3, size.height as usize, size.width as usize]);
        let outputs = self.session.run(&[picture]).map_err(infer_error)?;
        self.head.check_blank(&outputs, size).map_err(|what| self.misfit(what, StageErrorKind::Resource))?;
        self.found.clear();
        for entry in 0..n {
            self.head
                .decode(&outputs, entry, size, self.threshold, &mut self.found)
                .map_err(|what| self.misfit(what, StageErrorKind::Resource))?;
        }
        Ok(())
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        let group = self.session.preferred_batch();
        let mut next = 0;
        while next < batch.len() {
            // As many entries as suit one run, all of one input size.
            let mut members: Vec<(usize, Placement)> = Vec::with_capacity(group);
            while next < batch.len() && members.len() < group {
                match self.prepare(&batch[next], members.last().map(|(_, at)| at.input), members.len()) {
                    Ok(Some(at)) => members.push((next, at)),
                    Ok(None) => break,
                    Err(e) => batch[next].finish(Err(e)),
                }
                next += 1;
            }
            let Some((_, first)) = members.first() else { continue };
            let size = first.input;
            let tensor = self.input.take(members.len(), size);
            let inputs = [tensor];
            let outputs = self.session.run(&inputs);
            let [tensor] = inputs;
            self.input.give_back(tensor);
            // What fails a run is the model or the machine, whichever entry it is: the whole batch failed.
            let outputs = outputs.map_err(infer_error)?;
            for (slot, (index, at)) in members.iter().enumerate() {
                let result = self.collect(&outputs, slot, at, &batch[*index]);
                batch[*index].finish(result);
            }
        }
        Ok(())
    }
}

impl Detect {
    /// Writes the entry's picture to `slot` of the input; `None` where it needs another input size than `size`.
    fn prepare(
        &mut self,
        entry: &BatchEntry,
        size: Option<Size>,
        slot: usize,
    ) -> Result<Option<Placement>, StageError> {
        let frame = entry.frame();
        let at = self.preprocessor.place(frame, entry.region().map(|r| &r.bbox))?;
        if size.is_some_and(|size| size != at.input) {
            return Ok(None);
        }
        let (memory, before) = self.input.slot(slot, at.input);
        self.preprocessor.fill(frame, &at, before.as_ref(), memory)?;
        self.input.filled[slot] = Some(at);
        Ok(Some(at))
    }

    /// From the network's outputs to objects.
    fn collect(
        &mut self,
        outputs: &[Tensor],
        slot: usize,
        at: &Placement,
        entry: &BatchEntry,
    ) -> Result<StageOutput, StageError> {
        self.found.clear();
        self.head
            .decode(outputs, slot, at.input, self.threshold, &mut self.found)
            .map_err(|what| self.misfit(what, StageErrorKind::Fatal))?;
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

    fn misfit(&self, what: String, kind: StageErrorKind) -> StageError {
        let path = self.session.model().path().display();
        StageError::new(kind, format!("model {path}: it does not answer as {} does: {what}", self.family.name))
    }
}

/// The memory of the network's input, used again from run to run.
#[derive(Default)]
struct InputBuffer {
    data: Vec<f32>,
    size: Size,
    /// What each slot holds.
    filled: Vec<Option<Placement>>,
}

impl InputBuffer {
    /// The memory of `slot` for inputs of `size`, and what it holds.
    fn slot(&mut self, slot: usize, size: Size) -> (&mut [f32], Option<Placement>) {
        if self.size != size {
            self.size = size;
            self.filled.clear();
        }
        let len = 3 * size.width as usize * size.height as usize;
        if self.filled.len() <= slot {
            self.filled.resize(slot + 1, None);
        }
        if self.data.len() < (slot + 1) * len {
            self.data.resize((slot + 1) * len, 0.0);
        }
        // Until it is filled again it holds nothing that can be relied on.
        let before = self.filled[slot].take();
        (&mut self.data[slot * len..][..len], before)
    }

    /// The first `n` slots as a tensor.
    fn take(&mut self, n: usize, size: Size) -> Tensor {
        let (width, height) = (size.width as usize, size.height as usize);
        let mut data = std::mem::take(&mut self.data);
        data.truncate(n * 3 * width * height);
        self.filled.truncate(n);
        Tensor::new([n, 3, height, width], data).expect("every slot was filled, so the memory has at least this length")
    }

    fn give_back(&mut self, tensor: Tensor) {
        self.data = tensor.into_data();
    }
}
