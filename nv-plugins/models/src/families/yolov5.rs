//! YOLOv5 as Ultralytics' `export.py` writes it (<https://github.com/ultralytics/yolov5>): boxes in pixels and scores, decoded
//! in the graph. YOLOv7's `export.py --grid` gives the same. Pre-processing: `letterbox` of `utils/augmentations.py` and
//! `detect.py`; the IoU is `detect.py`'s `--iou-thres`.

use nv_infer::{RowGroup, ScoredRows};
use nv_plugin_sdk::{BBox, Point, Size, Tensor};

use super::grid::Grids;
use super::rows::{by_rows, columns, scores};
use super::{Candidates, Family, Head, Known, are_relative, cells_fit, dim, last_dims, published, width};
use crate::activation::are_scores;
use crate::labels::COCO;
use crate::settings::{ColorOrder, ModelSettings, ResizeMode};

pub(super) static YOLOV5: Family = Family {
    name: "yolov5",
    outputs: "one output of boxes×(5 + classes), with three boxes to each cell of strides 8, 16, 32, or to 64",
    published: |_| ultralytics(0.45),
    opens_input: false,
    stride: 32,
    bind,
    lacks: None,
};

/// What Ultralytics' models have in common.
pub(super) fn ultralytics(nms_iou: f32) -> ModelSettings {
    ModelSettings {
        pad_value: Some(114),
        color_order: Some(ColorOrder::Rgb),
        scale: Some(1.0 / 255.0),
        nms_iou: Some(nms_iou),
        ..published(ResizeMode::LetterboxCenter, &COCO)
    }
}

/// The usual ones, and those of the P6 models.
const STRIDES: [&[u32]; 2] = [&[8, 16, 32], &[8, 16, 32, 64]];
const BOXES_PER_CELL: usize = 3;
/// Box and objectness come before the classes.
const BEFORE_CLASSES: usize = 5;

struct YoloV5 {
    /// Values for each box, where the file says.
    width: Option<usize>,
    strides: &'static [u32],
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let [output] = known.outputs else { return None };
    let [boxes, width] = last_dims(output, 3)?;
    let strides = STRIDES.into_iter().find(|strides| cells_fit(known, [boxes, width], strides, BOXES_PER_CELL))?;
    width.is_none_or(|n| n > BEFORE_CLASSES).then(|| Box::new(YoloV5 { width, strides }) as Box<dyn Head>)
}

/// How many boxes there are.
fn box_count(input: Size, strides: &[u32]) -> usize {
    BOXES_PER_CELL * Grids::new(input, strides).count()
}

impl Head for YoloV5 {
    fn classes(&self) -> Option<usize> {
        self.width.map(|n| n - BEFORE_CLASSES)
    }

    fn check_blank(&mut self, outputs: &[Tensor], input: Size) -> Result<(), String> {
        let width = width(self.width, outputs, 2, BEFORE_CLASSES)?;
        self.width = Some(width);
        let strides = STRIDES.into_iter().find(|strides| dim(outputs, 0, 1) == Some(box_count(input, strides)));
        self.strides = strides.unwrap_or(self.strides);
        let rows = || outputs.iter().flat_map(|t| t.data().chunks_exact(width));
        if rows().any(|row| !are_scores(&row[4..])) {
            return Err(
                "its scores are not from 0 to 1: export it as `export.py` does, with the sigmoid in the graph".into()
            );
        }
        if are_relative(rows().flat_map(|row| row[..4].iter().copied())) {
            return Err("its boxes are relative to the picture, and those of this family are in pixels".into());
        }
        Ok(())
    }

    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let (rows, width) = (box_count(input, self.strides), self.width.unwrap_or(BEFORE_CLASSES + 1));
        vec![RowGroup {
            rows,
            outputs: vec![by_rows(0, rows, width)],
            // Whether there is an object at all, and which.
            score: vec![scores(0, 4..5), scores(0, BEFORE_CLASSES..width)],
            values: vec![columns(0, 0..4)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], _: Size, found: &mut Candidates) {
        for (row, values) in rows.iter().flat_map(ScoredRows::iter) {
            found.push(row.class, row.score, BBox::from_center(Point::new(values[0], values[1]), values[2], values[3]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode, known, output};
    use super::*;

    #[test]
    fn boxes_are_in_pixels_of_the_input() {
        // 64×32: 42 cells of three boxes; 64×64 with a fourth stride: 85 cells.
        for (input, boxes) in [(Size::new(64, 32), 126), (Size::new(64, 64), 255)] {
            let check = |row: usize, values: [f32; 7], expected: Option<(usize, f32, [f32; 4])>| {
                let mut data = vec![0.0; boxes * 7];
                data[row * 7..][..7].copy_from_slice(&values);
                let found = decode(&YOLOV5, &[Tensor::new([1, boxes, 7], data).unwrap()], input, 0.3);
                assert_eq!(found.items.len(), usize::from(expected.is_some()), "{found:?}");
                if let Some((class, score, bbox)) = expected {
                    assert_eq!((found.items[0].class, found.items[0].score), (class, score));
                    assert_box(&found.items[0].bbox, bbox);
                }
            };
            check(0, [20.0, 10.0, 8.0, 6.0, 1.0, 0.25, 0.5], Some((1, 0.5, [16.0, 7.0, 24.0, 13.0])));
            check(boxes - 1, [60.0, 30.0, 4.0, 2.0, 0.5, 0.9, 0.0], Some((0, 0.45, [58.0, 29.0, 62.0, 31.0])));
            check(3, [20.0, 10.0, 8.0, 6.0, 0.2, 1.0, 1.0], None);
            check(3, [20.0, 10.0, 8.0, 6.0, 0.5, 0.5, 0.5], None);
            check(3, [20.0, 10.0, 8.0, 6.0, f32::NAN, 1.0, 1.0], None);
        }
    }

    #[test]
    fn other_exports_are_refused_by_what_a_blank_picture_gives() {
        let infos = [output("o", &[1, 126, 7])];
        let check = |values: [f32; 7], expected: Result<(), &str>| {
            let mut data = vec![0.0; 126 * 7];
            data[..7].copy_from_slice(&values);
            let mut head = bind(&known(&infos, Some(Size::new(64, 32)))).unwrap();
            let result = head.check_blank(&[Tensor::new([1, 126, 7], data).unwrap()], Size::new(64, 32));
            match (result, expected) {
                (Ok(()), Ok(())) => {}
                (Err(found), Err(text)) => assert!(found.contains(text), "{found}"),
                (found, _) => panic!("{values:?}: {found:?}"),
            }
        };
        check([20.0, 10.0, 8.0, 6.0, 1.0, 0.25, 0.5], Ok(()));
        check([0.5, 0.3, 0.1, 0.2, 1.0, 0.25, 0.5], Err("relative"));
        check([20.0, 10.0, 8.0, 6.0, -4.0, 0.25, 0.5], Err("sigmoid in the graph"));
    }
}
