//! YOLOv8 and what has its head: YOLOv9, YOLO11, YOLO12 (<https://github.com/ultralytics/ultralytics>, `Detect` in
//! `ultralytics/nn/modules/head.py`). Two forms: as `yolo export` writes it, decoded in the graph; and as the head's
//! convolutions leave it, a grid for each stride, where edges are distributions (DFL) and classes are logits. The second is what
//! exports for accelerators have, with boxes and classes in one output or apart, as in Rockchip's, whose classes are scores
//! and which adds their sum. Pre-processing: `LetterBox` of `ultralytics/data/augment.py`; the IoU is `iou` of
//! `ultralytics/cfg/default.yaml`.

use nv_infer::{RowGroup, RowLayout, RowOutput, ScoreFactor, ScoredRows, TensorInfo};
use nv_plugin_sdk::{BBox, Point, Size, Tensor, tracing};

use super::grid::{Grids, grid};
use super::rows::{activation, by_planes, columns, scores};
use super::yolov5::ultralytics;
use super::{Candidates, Family, Head, Known, are_relative, dim, distribution, first_entry, fits, last_dims, width};
use crate::activation::{Activation, are_scores};

pub(super) static YOLOV8: Family = Family {
    name: "yolov8",
    outputs: "one output of (4 + classes)×cells, or (64 + classes)×rows×columns for each of strides 8, 16 and 32, or those as \
              64×… and classes×… apart",
    published: |_| ultralytics(0.7),
    opens_input: false,
    stride: 32,
    bind,
    lacks: Some(lacks),
};

/// The usual ones, and those of the P6 and P2 models, of which nothing is published but the plan: they must be named.
const STRIDES: [&[u32]; 3] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32]];
/// Those of the undecoded form.
const RAW_STRIDES: [u32; 3] = [8, 16, 32];
/// The box comes before the classes.
const BEFORE_CLASSES: usize = 4;
/// `reg_max` of the published models: distances of 0 to 15 strides.
const BINS: usize = 16;
/// Classes of the published models.
const COCO_CLASSES: usize = 80;

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    match known.outputs {
        [output] => Decoded::bind(known, output),
        _ if reads_otherwise(known).is_some() => None,
        _ => Some(Box::new(Raw::bind(known)?)),
    }
}

/// Decoded in the graph: x, y, width and height of boxes in pixels, then the classes' scores, a plane each.
struct Decoded {
    /// Planes, where the file says.
    planes: Option<usize>,
    strides: &'static [u32],
}

impl Decoded {
    fn bind(known: &Known<'_>, output: &TensorInfo) -> Option<Box<dyn Head>> {
        let [planes, cells] = last_dims(output, 3)?;
        // A model that takes any size has as many cells as the size has, and planes that are its own.
        let strides = if known.named { &STRIDES[..] } else { &STRIDES[..1] };
        let fit = |strides: &[u32]| match (known.input, cells) {
            (Some(input), _) => fits(cells, Grids::new(input, strides).count()),
            (None, Some(cells)) => planes.is_some() && cells.is_multiple_of(21),
            (None, None) => true,
        };
        let strides = strides.iter().copied().find(|strides| fit(strides))?;
        planes.is_none_or(|n| n > BEFORE_CLASSES).then(|| Box::new(Self { planes, strides }) as Box<dyn Head>)
    }
}

impl Head for Decoded {
    fn classes(&self) -> Option<usize> {
        self.planes.map(|n| n - BEFORE_CLASSES)
    }

    fn check_blank(&mut self, outputs: &[Tensor], input: Size) -> Result<(), String> {
        let planes = width(self.planes, outputs, 1, BEFORE_CLASSES)?;
        self.planes = Some(planes);
        let cells = dim(outputs, 0, 2).filter(|&n| n > 0).ok_or("the output is none of (4 + classes)×cells")?;
        let strides = STRIDES.into_iter().find(|strides| Grids::new(input, strides).count() == cells);
        self.strides = strides.unwrap_or(self.strides);
        for entry in outputs.iter().flat_map(|t| t.data().chunks_exact(planes * cells)) {
            let (boxes, scores) = entry.split_at(BEFORE_CLASSES * cells);
            if !are_scores(scores) {
                return Err("its class scores are not from 0 to 1: it has more than boxes and scores (a pose, an angle), or lacks \
                            the sigmoid"
                    .into());
            }
            if are_relative(boxes.iter().copied()) {
                return Err("its boxes are relative to the picture, and those of this family are in pixels".into());
            }
        }
        Ok(())
    }

    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let (rows, planes) = (Grids::new(input, self.strides).count(), self.planes.unwrap_or(BEFORE_CLASSES + 1));
        vec![RowGroup {
            rows,
            outputs: vec![RowOutput {
                output: 0,
                shape: vec![planes, rows],
                columns: planes,
                layout: RowLayout::Columns,
            }],
            score: vec![scores(0, BEFORE_CLASSES..planes)],
            values: vec![columns(0, 0..BEFORE_CLASSES)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], _: Size, found: &mut Candidates) {
        for (row, values) in rows.iter().flat_map(ScoredRows::iter) {
            found.push(row.class, row.score, BBox::from_center(Point::new(values[0], values[1]), values[2], values[3]));
        }
    }
}

/// As the head's convolutions leave it.
struct Raw {
    levels: [Level; 3],
    classes: usize,
    /// Whether the sigmoid is still to be taken; `None`: by what a blank picture gives.
    logits: Option<bool>,
}

/// The outputs of one stride.
#[derive(Clone, Copy)]
struct Level {
    stride: u32,
    boxes: usize,
    /// The same as `boxes` where they share one.
    classes: usize,
}

impl Raw {
    fn bind(known: &Known<'_>) -> Option<Self> {
        let dims: Vec<[Option<usize>; 3]> = known.outputs.iter().map(|o| last_dims(o, 4)).collect::<Option<_>>()?;
        let mut levels = [Level { stride: 0, boxes: 0, classes: 0 }; 3];
        let mut classes = None;
        for (i, stride) in RAW_STRIDES.into_iter().enumerate() {
            let fit = |output: &usize| {
                let [_, rows, columns] = dims[*output];
                let fit = |dim, side: u32| fits(dim, (side / stride) as usize);
                known.input.is_none_or(|input| fit(rows, input.height) && fit(columns, input.width))
            };
            let (level, found) = match dims.len() {
                3 => Self::joint(stride, i, dims[i][0]?).filter(|_| fit(&i))?,
                // Which output is of which stride and kind is told by sizes alone, so they must be there.
                6 | 9 if known.input.is_some() && dims.iter().flatten().all(Option::is_some) => {
                    let here: Vec<usize> = (0..dims.len()).filter(fit).collect();
                    Self::apart(stride, &here, |output| dims[output][0], dims.len() / 3)?
                }
                _ => return None,
            };
            if *classes.get_or_insert(found) != found {
                return None;
            }
            levels[i] = level;
        }
        let logits = known.activation.map(|activation| activation != Activation::None);
        Some(Self { levels, classes: classes?, logits })
    }

    /// A level of one output with so many planes, and how many classes it has.
    fn joint(stride: u32, output: usize, planes: usize) -> Option<(Level, usize)> {
        let classes = planes.checked_sub(4 * BINS).filter(|&n| n > 0)?;
        Some((Level { stride, boxes: output, classes: output }, classes))
    }

    /// A level of two outputs, or of three with the sum of scores, and how many classes it has.
    fn apart(
        stride: u32,
        outputs: &[usize],
        planes: impl Fn(usize) -> Option<usize>,
        parts: usize,
    ) -> Option<(Level, usize)> {
        let boxes = outputs.iter().copied().find(|&i| planes(i) == Some(4 * BINS))?;
        let rest: Vec<usize> = outputs.iter().copied().filter(|&i| i != boxes).collect();
        let (&classes, sum) = rest.split_first()?;
        let fit = outputs.len() == parts && sum.iter().all(|&i| planes(i) == Some(1));
        fit.then_some((Level { stride, boxes, classes }, planes(classes)?))
    }

    /// The values of classes that the first of blank pictures gave.
    fn class_values<'a>(&self, level: Level, outputs: &'a [Tensor], input: Size) -> &'a [f32] {
        let cells: usize = grid(input, level.stride).iter().product();
        let before = if level.boxes == level.classes { 4 * BINS * cells } else { 0 };
        first_entry(outputs, level.classes).get(before..).unwrap_or_default()
    }
}

impl Head for Raw {
    fn classes(&self) -> Option<usize> {
        Some(self.classes)
    }

    /// Logits of a network that works lie far below zero where there is nothing.
    fn check_blank(&mut self, outputs: &[Tensor], input: Size) -> Result<(), String> {
        if self.logits.is_none() {
            let mut logits = false;
            for level in self.levels {
                logits |= !are_scores(self.class_values(level, outputs, input));
            }
            self.logits = Some(logits);
            tracing::info!(logits, "how class values are read, by what a blank picture gives");
        }
        Ok(())
    }

    /// A group for each stride.
    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let activation = activation(self.logits.unwrap_or(true));
        let group = |level: &Level| {
            let grid = grid(input, level.stride);
            let (outputs, of_classes) = if level.boxes == level.classes {
                let joint = by_planes(level.boxes, 4 * BINS + self.classes, grid);
                (vec![joint], scores(0, 4 * BINS..4 * BINS + self.classes))
            } else {
                let apart = [(level.boxes, 4 * BINS), (level.classes, self.classes)];
                (apart.map(|(output, planes)| by_planes(output, planes, grid)).into(), scores(1, 0..self.classes))
            };
            RowGroup {
                rows: grid.iter().product(),
                outputs,
                score: vec![ScoreFactor { activation, ..of_classes }],
                values: vec![columns(0, 0..4 * BINS)],
            }
        };
        self.levels.iter().map(group).collect()
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        for (rows, level) in rows.iter().zip(&self.levels) {
            let (columns, stride) = (grid(input, level.stride)[0], level.stride as f32);
            for (row, values) in rows.iter() {
                let [x, y] = [row.index % columns, row.index / columns].map(|n| (n as f32 + 0.5) * stride);
                found.push(row.class, row.score, distribution::bbox(Point::new(x, y), stride, values));
            }
        }
    }
}

/// Three grids whose channels may as well be those of three anchors, as YOLOv3, v4, v5 and v7 have them undecoded: 255 are
/// 3·(5 + 80). How many, if nobody says which it is.
fn reads_otherwise(known: &Known<'_>) -> Option<usize> {
    let raw = Raw::bind(known).filter(|_| known.outputs.len() == 3 && !known.named && known.classes.is_none())?;
    Some(raw.classes).filter(|n| *n != COCO_CLASSES && (4 * BINS + n).is_multiple_of(3))
}

fn lacks(known: &Known<'_>) -> Option<String> {
    let classes = reads_otherwise(known)?;
    Some(format!(
        "its outputs may be those of yolov8 with {classes} classes, or those of a detector with three anchors to a cell, which can \
         only be used decoded in the graph: say family = \"yolov8\" or name the classes with the key labels if it is the former"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode, decode_with, known, output};
    use super::*;
    use crate::activation::sigmoid;

    const INPUT: Size = Size::new(64, 32);

    #[test]
    fn decoded_boxes_are_in_pixels_of_the_input() {
        // 64×32: 42 cells, two classes.
        let mut data = vec![0.0; 6 * 42];
        for (plane, value) in [20.0, 10.0, 8.0, 6.0, 0.3, 0.7].into_iter().enumerate() {
            data[plane * 42 + 17] = value;
        }
        data[4 * 42 + 40] = 0.2;
        let outputs = [Tensor::new([1, 6, 42], data).unwrap()];
        let found = decode(&YOLOV8, &outputs, INPUT, 0.25);
        assert_eq!(found.items.len(), 1);
        assert_eq!((found.items[0].class, found.items[0].score), (1, 0.7));
        assert_box(&found.items[0].bbox, [16.0, 7.0, 24.0, 13.0]);
        assert_eq!(decode(&YOLOV8, &outputs, INPUT, 0.2).items.len(), 2);
    }

    /// Values of one level: a box of these edges and a value for one class at a cell, and this value for all other classes.
    fn level(stride: u32, cell: usize, edges: [f32; 4], class: usize, value: f32, else_: f32) -> [Vec<f32>; 2] {
        let (columns, rows) = ((INPUT.width / stride) as usize, (INPUT.height / stride) as usize);
        let cells = columns * rows;
        let (mut boxes, mut classes) = (vec![0.0; 4 * BINS * cells], vec![else_; 3 * cells]);
        let center = [cell % columns, cell / columns].map(|n| n as f32 + 0.5);
        let [x1, y1, x2, y2] = edges.map(|e| e / stride as f32);
        let sides = [center[0] - x1, center[1] - y1, x2 - center[0], y2 - center[1]];
        for (side, distance) in sides.into_iter().enumerate() {
            for (bin, value) in distribution::encoded(distance, BINS).into_iter().enumerate() {
                boxes[(side * BINS + bin) * cells + cell] = value;
            }
        }
        classes[class * cells + cell] = value;
        [boxes, classes]
    }

    const BOXES: [(u32, usize, [f32; 4], usize); 3] =
        [(8, 10, [10.0, 5.5, 31.0, 20.0], 0), (16, 5, [8.0, 16.0, 60.0, 31.25], 2), (32, 1, [1.0, 2.0, 63.0, 30.0], 1)];

    fn assert_found(found: &Candidates, scores: [f32; 3]) {
        assert_eq!(found.items.len(), 3, "{found:?}");
        for ((item, score), (_, _, bbox, class)) in found.items.iter().zip(scores).zip(BOXES) {
            assert_eq!(item.class, class);
            assert!((item.score - score).abs() < 1e-5, "{item:?}");
            assert_box(&item.bbox, bbox);
        }
    }

    #[test]
    fn known_boxes_come_back_from_grids_of_distributions() {
        let joint = BOXES.map(|(stride, cell, edges, class)| {
            let data = level(stride, cell, edges, class, 2.0, -9.0).concat();
            Tensor::new([1, 67, (INPUT.height / stride) as usize, (INPUT.width / stride) as usize], data).unwrap()
        });
        assert_found(&decode(&YOLOV8, &joint, INPUT, 0.5), [sigmoid(2.0); 3]);
        assert!(decode(&YOLOV8, &joint, INPUT, 0.9).items.is_empty(), "sigmoid(2) is 0.88");
    }

    #[test]
    fn boxes_and_classes_may_be_apart_and_classes_be_scores() {
        let tensor = |stride: u32, planes: usize, data: Vec<f32>| {
            Tensor::new([1, planes, (INPUT.height / stride) as usize, (INPUT.width / stride) as usize], data).unwrap()
        };
        let parts = |value: f32, else_: f32| {
            BOXES.map(|(stride, cell, edges, class)| {
                let [boxes, classes] = level(stride, cell, edges, class, value, else_);
                [tensor(stride, 64, boxes), tensor(stride, 3, classes)]
            })
        };
        let check = |outputs: &[Tensor], score: f32| {
            let infos: Vec<_> = outputs.iter().map(|t| output("o", t.shape())).collect();
            let mut head = bind(&known(&infos, Some(INPUT))).expect("it is of the family");
            head.check_blank(outputs, INPUT).unwrap();
            assert_eq!(head.classes(), Some(3));
            assert_found(&decode_with(&*head, outputs, INPUT, 0.3), [score; 3]);
        };
        let logits = parts(1.0, -7.0);
        check(&logits.concat(), sigmoid(1.0));
        let by_kind = [0, 1].map(|kind| logits.each_ref().map(|level| level[kind].clone())).concat();
        check(&by_kind, sigmoid(1.0));
        let scores = parts(0.6, 0.0);
        check(&scores.concat(), 0.6);
        let with_sums: Vec<_> = scores
            .into_iter()
            .zip(BOXES)
            .flat_map(|(level, (stride, ..))| {
                let sum = Tensor::zeros([1, 1, (INPUT.height / stride) as usize, (INPUT.width / stride) as usize]);
                level.into_iter().chain([sum])
            })
            .collect();
        check(&with_sums, 0.6);
    }

    #[test]
    fn three_anchors_to_a_cell_are_not_taken_for_it() {
        let grids = |channels: usize| [80, 40, 20].map(|n| output("o", &[1, channels, n, n]));
        let check = |channels: usize, classes: Option<usize>, named: bool, expected: bool| {
            let outputs = grids(channels);
            let known = Known { classes, named, ..known(&outputs, Some(Size::new(640, 640))) };
            assert_eq!(bind(&known).is_some(), expected, "{channels} {classes:?} {named}");
            let text = lacks(&known);
            assert_eq!(text.is_none(), expected, "{channels} {classes:?}: {text:?}");
        };
        check(144, None, false, true);
        check(65, None, false, true);
        check(255, None, false, false);
        check(255, Some(191), false, true);
        check(255, None, true, true);
        check(66, None, false, false);
    }

    #[test]
    fn other_exports_are_refused_by_what_a_blank_picture_gives() {
        let infos = [output("o", &[1, 6, 42])];
        let check = |values: [f32; 6], expected: &str| {
            let mut data = vec![0.0; 6 * 42];
            for (plane, value) in values.into_iter().enumerate() {
                data[plane * 42 + 3] = value;
            }
            let mut head = bind(&known(&infos, Some(INPUT))).unwrap();
            let result = head.check_blank(&[Tensor::new([1, 6, 42], data).unwrap()], INPUT);
            assert!(result.err().unwrap_or_default().contains(expected), "{values:?}");
        };
        check([20.0, 10.0, 8.0, 6.0, 0.2, 0.7], "");
        check([0.4, 0.3, 0.1, 0.1, 0.2, 0.7], "relative");
        check([20.0, 10.0, 8.0, 6.0, 0.2, 31.0], "not from 0 to 1");
    }
}
