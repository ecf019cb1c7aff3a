//! YOLOv5 as Ultralytics' `export.py` writes it (<https://github.com/ultralytics/yolov5>): boxes in pixels and scores, decoded
//! in the graph. YOLOv7's `export.py --grid` gives the same. Pre-processing: `letterbox` of `utils/augmentations.py` and
//! `detect.py`; the IoU is `detect.py`'s `--iou-thres`.

use nv_plugin_sdk::{BBox, Point, Size, Tensor};

use super::{
    Candidates, Family, Head, Known, are_relative, best, cell_count, cells_fit, entry_of, last_dims, published,
};
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
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let [output] = known.outputs else { return None };
    let [boxes, width] = last_dims(output, 3)?;
    let fit = STRIDES.iter().any(|strides| cells_fit(known, [boxes, width], strides, BOXES_PER_CELL));
    if width.is_some_and(|n| n <= BEFORE_CLASSES) || !fit {
        return None;
    }
    Some(Box::new(YoloV5 { width }))
}

impl YoloV5 {
    fn width(&self, outputs: &[Tensor]) -> Result<usize, String> {
        let found = outputs.first().and_then(|t| t.shape().last().copied());
        self.width.or(found).filter(|&n| n > BEFORE_CLASSES).ok_or_else(|| "the output has no classes".into())
    }
}

impl Head for YoloV5 {
    fn classes(&self) -> Option<usize> {
        self.width.map(|n| n - BEFORE_CLASSES)
    }

    fn check_blank(&mut self, outputs: &[Tensor], _: Size) -> Result<(), String> {
        let width = self.width(outputs)?;
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

    fn decode(
        &self,
        outputs: &[Tensor],
        entry: usize,
        input: Size,
        threshold: f32,
        found: &mut Candidates,
    ) -> Result<(), String> {
        let width = self.width(outputs)?;
        let count = |strides: &[u32]| BOXES_PER_CELL * cell_count(input, strides);
        let rows = outputs.first().and_then(|t| t.shape().get(1).copied());
        let boxes =
            STRIDES.iter().map(|strides| count(strides)).find(|&n| Some(n) == rows).unwrap_or(count(STRIDES[0]));
        for row in entry_of(outputs, 0, entry, &[boxes, width])?.chunks_exact(width) {
            let objectness = row[4];
            // No class is more likely than that there is an object at all.
            if objectness < threshold || objectness.is_nan() {
                continue;
            }
            let Some((class, likelihood)) = best(row[BEFORE_CLASSES..].iter().copied()) else { continue };
            let score = objectness * likelihood;
            if score >= threshold {
                found.push(class, score, BBox::from_center(Point::new(row[0], row[1]), row[2], row[3]));
            }
        }
        Ok(())
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
