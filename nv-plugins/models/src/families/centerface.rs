//! CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point"), decoded as the
//! authors' code does it (<https://github.com/Star-Clouds/CenterFace>): a heat map, sizes, offsets and landmarks at a
//! quarter of the input's size.

use nv_infer::{RowGroup, ScoredRows};
use nv_plugin_sdk::{BBox, Keypoint, Point, Size};

use super::grid::grid;
use super::heatmap::channels;
use super::rows::{by_planes, columns, scores};
use super::{Candidates, Family, Head, Known, fits, published};
use crate::settings::{ColorOrder, ModelSettings, ResizeMode};

pub(super) static CENTERFACE: Family = Family {
    name: "centerface",
    outputs: "heat map 1×rows×columns, sizes 2×…, offsets 2×… and landmarks 10×…, a cell for every 4 pixels",
    published: |_| ModelSettings {
        color_order: Some(ColorOrder::Rgb),
        nms_iou: Some(0.3),
        ..published(ResizeMode::StretchToMultiple, &["face"])
    },
    // The published file declares 10×3×32×32.
    opens_input: true,
    stride: 32,
    bind,
    lacks: None,
};

const STRIDE: u32 = 4;
/// Channels of the outputs, in their order.
const CHANNELS: [usize; 4] = [1, 2, 2, 10];

struct CenterFace;

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let channels: [_; CHANNELS.len()] = channels(known.outputs, known.input, STRIDE)?;
    let fit = channels.into_iter().zip(CHANNELS).all(|(found, expected)| fits(found, expected));
    fit.then(|| Box::new(CenterFace) as Box<dyn Head>)
}

impl Head for CenterFace {
    fn classes(&self) -> Option<usize> {
        Some(1)
    }

    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let grid = grid(input, STRIDE);
        vec![RowGroup {
            rows: grid.iter().product(),
            outputs: CHANNELS.into_iter().enumerate().map(|(i, channels)| by_planes(i, channels, grid)).collect(),
            score: vec![scores(0, 0..1)],
            values: vec![columns(1, 0..2), columns(2, 0..2), columns(3, 0..10)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let [columns, _] = grid(input, STRIDE);
        let stride = STRIDE as f32;
        for (row, values) in rows.iter().flat_map(ScoredRows::iter) {
            let (column, line) = ((row.index % columns) as f32, (row.index / columns) as f32);
            // Every pair comes with y before x.
            let (sizes, offsets, landmarks) = (&values[..2], &values[2..4], &values[4..]);
            let [height, width] = [0, 1].map(|i| sizes[i].exp() * stride);
            let center = Point::new((column + offsets[1] + 0.5) * stride, (line + offsets[0] + 0.5) * stride);
            let bbox = BBox::from_center(center, width, height);
            let keypoints = std::array::from_fn(|i| Keypoint {
                x: landmarks[2 * i + 1] * width + bbox.x1,
                y: landmarks[2 * i] * height + bbox.y1,
                score: row.score,
            });
            found.push_with_keypoints(0, row.score, bbox, keypoints);
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
        let (rows, columns) = (8, 16);
        let mut outputs: Vec<_> = CHANNELS.iter().map(|&c| Tensor::zeros([1, c, rows, columns])).collect();
        let (cells, cell) = (rows * columns, 2 * columns + 3);
        let mut set = |output: usize, channel: usize, value: f32| {
            outputs[output].data_mut()[channel * cells + cell] = value;
        };
        set(0, 0, 0.75);
        set(1, 0, 2f32.ln());
        set(1, 1, 0.0);
        set(2, 0, 0.5);
        set(2, 1, -0.5);
        set(3, 0, 0.25);
        set(3, 1, 0.5);
        let found = decode(&CENTERFACE, &outputs, input, 0.5);
        assert_eq!(found.items.len(), 1);
        assert_eq!(found.items[0].score, 0.75);
        // Centre (3, 3) cells of 4 pixels, 4 wide and 8 high.
        assert_box(&found.items[0].bbox, [10.0, 8.0, 14.0, 16.0]);
        let points = found.keypoints[0];
        assert_eq!((points[0].x, points[0].y), (12.0, 10.0));
        assert_eq!((points[1].x, points[1].y), (10.0, 8.0));
    }
}
