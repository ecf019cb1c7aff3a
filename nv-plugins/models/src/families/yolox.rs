//! YOLOX (Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021"), exported without decoding in the graph, as the authors'
//! `export_onnx.py` does by default.

use nv_infer::{RowGroup, ScoredRows};
use nv_plugin_sdk::{BBox, Point, Size, Tensor};

use super::grid::{Cell, Grids};
use super::rows::{by_rows, columns, scores};
use super::{Candidates, Family, Head, Known, cells_fit, last_dims, published, width};
use crate::labels::COCO;
use crate::settings::{ModelSettings, ResizeMode};

pub(super) static YOLOX: Family = Family {
    name: "yolox",
    outputs: "one output of cells×(5 + classes), with the cells of strides 8, 16 and 32",
    published: |_| ModelSettings {
        pad_value: Some(114),
        color_order: Some(crate::settings::ColorOrder::Bgr),
        ..published(ResizeMode::Letterbox, &COCO)
    },
    opens_input: false,
    stride: 32,
    bind,
    lacks: None,
};

const STRIDES: [u32; 3] = [8, 16, 32];
/// Box and objectness come before the classes.
const BEFORE_CLASSES: usize = 5;

struct Yolox {
    /// Values for each cell, where the file says.
    width: Option<usize>,
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let [output] = known.outputs else { return None };
    let [cells, width] = last_dims(output, 3)?;
    if width.is_some_and(|n| n <= BEFORE_CLASSES) || !cells_fit(known, [cells, width], &STRIDES, 1) {
        return None;
    }
    Some(Box::new(Yolox { width }))
}

/// A raw head puts a box's centre within a few cells of its own. A decoded one has it in pixels: up to the input's width,
/// which is at least one cell of the largest stride.
const FARTHEST_CENTER: f32 = 16.0;

impl Head for Yolox {
    fn classes(&self) -> Option<usize> {
        self.width.map(|n| n - BEFORE_CLASSES)
    }

    fn check_blank(&mut self, outputs: &[Tensor], _: Size) -> Result<(), String> {
        let width = width(self.width, outputs, 2, BEFORE_CLASSES)?;
        self.width = Some(width);
        let mut rows = outputs.iter().flat_map(|output| output.data().chunks_exact(width));
        if rows.any(|row| row[..2].iter().any(|v| v.abs() > FARTHEST_CENTER)) {
            return Err("its boxes are decoded in the graph already, and would be decoded twice: export it without \
                        --decode_in_inference"
                .into());
        }
        Ok(())
    }

    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let (rows, width) = (Grids::new(input, &STRIDES).count(), self.width.unwrap_or(BEFORE_CLASSES + 1));
        vec![RowGroup {
            rows,
            outputs: vec![by_rows(0, rows, width)],
            // Whether there is an object at all, and which.
            score: vec![scores(0, 4..5), scores(0, BEFORE_CLASSES..width)],
            values: vec![columns(0, 0..4)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let grids = Grids::new(input, &STRIDES);
        for (row, values) in rows.iter().flat_map(ScoredRows::iter) {
            let Some(Cell { column, row: line, stride }) = grids.cell(row.index) else { continue };
            let center = Point::new((values[0] + column) * stride, (values[1] + line) * stride);
            let bbox = BBox::from_center(center, values[2].exp() * stride, values[3].exp() * stride);
            found.push(row.class, row.score, bbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode};
    use super::*;

    #[test]
    fn cells_are_decoded_at_their_place() {
        // 64×32: 32 cells of stride 8, 8 of 16, 2 of 32.
        let input = Size::new(64, 32);
        let check = |cell: usize, values: [f32; 7], expected: Option<(usize, f32, [f32; 4])>| {
            let mut data = vec![0.0; 42 * 7];
            data[cell * 7..][..7].copy_from_slice(&values);
            let found = decode(&YOLOX, &[Tensor::new([1, 42, 7], data).unwrap()], input, 0.3);
            assert_eq!(found.items.len(), usize::from(expected.is_some()), "{found:?}");
            if let Some((class, score, bbox)) = expected {
                assert_eq!((found.items[0].class, found.items[0].score), (class, score));
                assert_box(&found.items[0].bbox, bbox);
            }
        };
        check(0, [0.5, 0.5, 0.0, 0.0, 1.0, 0.25, 0.5], Some((1, 0.5, [0.0, 0.0, 8.0, 8.0])));
        // Row 1, column 2 of stride 8.
        check(10, [0.0, 1.0, 0.0, 2f32.ln(), 0.5, 1.0, 0.0], Some((0, 0.5, [12.0, 8.0, 20.0, 24.0])));
        // Row 1, column 1 of stride 16; the second cell of stride 32.
        check(37, [0.5, 0.5, 0.0, 0.0, 1.0, 0.9, 0.0], Some((0, 0.9, [16.0, 16.0, 32.0, 32.0])));
        check(41, [0.5, 0.5, 0.0, 0.0, 1.0, 0.9, 0.0], Some((0, 0.9, [32.0, 0.0, 64.0, 32.0])));
        // Below the threshold, by objectness or by the product; not a number.
        check(3, [0.0, 0.0, 0.0, 0.0, 0.2, 1.0, 1.0], None);
        check(3, [0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5], None);
        check(3, [0.0, 0.0, 0.0, 0.0, f32::NAN, 0.5, 0.5], None);
    }

    #[test]
    fn boxes_that_are_decoded_already_are_refused() {
        fn check(center: [f32; 2], expected: bool) {
            let mut data = vec![0.0; 42 * 7];
            data[41 * 7..][..2].copy_from_slice(&center);
            let outputs = [Tensor::new([1, 42, 7], data).unwrap()];
            let result = Yolox { width: Some(7) }.check_blank(&outputs, Size::new(64, 32));
            assert_eq!(result.is_ok(), expected, "{center:?}: {result:?}");
        }
        check([0.5, -3.0], true);
        check([48.0, 16.0], false);
        check([0.0, 17.0], false);
    }
}
