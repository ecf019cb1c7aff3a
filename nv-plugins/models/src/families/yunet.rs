//! YuNet (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector"), as `libfacedetection.train` exports it: four
//! outputs (class, objectness, box, landmarks) at each of three strides.

use nv_infer::{RowGroup, ScoreFactor, ScoredRows};
use nv_plugin_sdk::{BBox, Keypoint, Point, Size};

use super::grid::{Cell, Grids};
use super::rows::{by_rows, columns, scores};
use super::{Candidates, Family, Head, Known, fits, last_dims, published};
use crate::settings::{ColorOrder, ModelSettings, ResizeMode};

pub(super) static YUNET: Family = Family {
    name: "yunet",
    outputs: "twelve outputs, cells×1 (class), ×1 (objectness), ×4 (box) and ×10 (landmarks), each at strides 8, 16 and 32",
    published: |_| ModelSettings {
        pad_value: Some(0),
        color_order: Some(ColorOrder::Bgr),
        ..published(ResizeMode::PadToMultiple, &["face"])
    },
    opens_input: false,
    stride: 32,
    bind,
    lacks: None,
};

const STRIDES: [u32; 3] = [8, 16, 32];
/// What each output has for a cell, in the order of the outputs: each kind at all strides.
const WIDTHS: [usize; 4] = [1, 1, 4, 10];

struct YuNet;

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let Known { outputs, input, .. } = *known;
    if outputs.len() != WIDTHS.len() * STRIDES.len() {
        return None;
    }
    for (i, output) in outputs.iter().enumerate() {
        let [cells, width] = last_dims(output, 3)?;
        let stride = [STRIDES[i % STRIDES.len()]];
        let cells_fit = |input| fits(cells, Grids::new(input, &stride).count());
        if !fits(width, WIDTHS[i / STRIDES.len()]) || !input.is_none_or(cells_fit) {
            return None;
        }
    }
    Some(Box::new(YuNet))
}

impl Head for YuNet {
    fn classes(&self) -> Option<usize> {
        Some(1)
    }

    /// A group for each stride. The score is the geometric mean of class and objectness.
    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let root = |output: usize| ScoreFactor { power: 0.5, ..scores(output, 0..1) };
        let group = |(level, stride): (usize, &u32)| {
            let rows = Grids::new(input, &[*stride]).count();
            let part = |(kind, width): (usize, usize)| by_rows(kind * STRIDES.len() + level, rows, width);
            RowGroup {
                rows,
                outputs: WIDTHS.into_iter().enumerate().map(part).collect(),
                score: vec![root(0), root(1)],
                values: vec![columns(2, 0..4), columns(3, 0..10)],
            }
        };
        STRIDES.iter().enumerate().map(group).collect()
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        for (rows, stride) in rows.iter().zip(&STRIDES) {
            let grids = Grids::new(input, std::slice::from_ref(stride));
            for (row, values) in rows.iter() {
                let Some(Cell { column, row: line, stride }) = grids.cell(row.index) else { continue };
                let (b, points) = values.split_at(4);
                let center = Point::new((column + b[0]) * stride, (line + b[1]) * stride);
                found.push_with_keypoints(
                    0,
                    row.score,
                    BBox::from_center(center, b[2].exp() * stride, b[3].exp() * stride),
                    std::array::from_fn(|i| Keypoint {
                        x: (column + points[2 * i]) * stride,
                        y: (line + points[2 * i + 1]) * stride,
                        score: row.score,
                    }),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nv_plugin_sdk::Tensor;

    use super::super::tests::{assert_box, decode};
    use super::*;

    #[test]
    fn cells_are_decoded_at_their_place() {
        let input = Size::new(64, 32);
        let mut outputs = Vec::new();
        for width in WIDTHS {
            for cells in [32, 8, 2] {
                outputs.push(Tensor::zeros([1, cells, width]));
            }
        }
        // Stride 16, row 1, column 3: cell 7.
        outputs[1].data_mut()[7] = 0.25;
        // More than there is of it counts as all.
        outputs[4].data_mut()[7] = 1.25;
        outputs[7].data_mut()[28..32].copy_from_slice(&[0.5, -0.5, 0.0, 2f32.ln()]);
        outputs[10].data_mut()[70..72].copy_from_slice(&[1.0, 0.25]);
        let found = decode(&YUNET, &outputs, input, 0.4);
        assert_eq!(found.items.len(), 1);
        assert_eq!(found.items[0].score, 0.5);
        // The centre counts from the cell's corner (48, 16).
        assert_box(&found.items[0].bbox, [48.0, -8.0, 64.0, 24.0]);
        let points = found.keypoints[found.items[0].keypoints.unwrap()];
        assert_eq!((points[0].x, points[0].y), (64.0, 20.0));
        assert_eq!((points[4].x, points[4].y), (48.0, 16.0));
        assert!(decode(&YUNET, &outputs, input, 0.51).items.is_empty());
    }
}
