use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Width and height of a picture, in whole pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// A size of `width` × `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
}

/// A point in continuous source pixels. The origin is the corner of the top-left pixel, so that pixel's centre is
/// (0.5, 0.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Pixels to the right.
    pub x: f32,
    /// Pixels down.
    pub y: f32,
}

impl Point {
    /// The point (`x`, `y`).
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }
}

/// An axis-aligned box in continuous source pixels: left, top, right, bottom, with the origin at the corner of the
/// top-left pixel. Serialises as `[x1, y1, x2, y2]`.
///
/// Nothing forces `x1 <= x2`: a box with a negative side has area 0 and overlaps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl BBox {
    /// A box from its edges.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// A box from its centre and its sides.
    pub fn from_center(center: Point, width: f32, height: f32) -> Self {
        Self::new(center.x - width / 2.0, center.y - height / 2.0, center.x + width / 2.0, center.y + height / 2.0)
    }

    /// Right edge minus left edge; negative for an inverted box.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// Bottom edge minus top edge; negative for an inverted box.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// The centre.
    pub fn center(&self) -> Point {
        Point::new((self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0)
    }

    /// The area in square pixels; 0 for an empty or inverted box.
    pub fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// True where the box has no area or an edge that is not a number.
    pub fn is_empty(&self) -> bool {
        // Written so that a NaN edge makes the box empty.
        !(self.width() > 0.0 && self.height() > 0.0)
    }

    /// The part that both boxes cover; empty where they don't meet.
    pub fn intersection(&self, other: &Self) -> Self {
        Self::new(self.x1.max(other.x1), self.y1.max(other.y1), self.x2.min(other.x2), self.y2.min(other.y2))
    }

    /// Intersection over union, 0 to 1; 0 where either box is empty.
    pub fn iou(&self, other: &Self) -> f32 {
        let inter = self.intersection(other).area();
        let union = self.area() + other.area() - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }

    /// The part inside a picture of `size`.
    pub fn clip(&self, size: Size) -> Self {
        let (w, h) = (size.width as f32, size.height as f32);
        Self::new(self.x1.clamp(0.0, w), self.y1.clamp(0.0, h), self.x2.clamp(0.0, w), self.y2.clamp(0.0, h))
    }
}

impl From<[f32; 4]> for BBox {
    fn from([x1, y1, x2, y2]: [f32; 4]) -> Self {
        Self { x1, y1, x2, y2 }
    }
}

impl From<BBox> for [f32; 4] {
    fn from(b: BBox) -> Self {
        [b.x1, b.y1, b.x2, b.y2]
    }
}

impl Serialize for BBox {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        <[f32; 4]>::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BBox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[f32; 4]>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_box() -> impl Strategy<Value = BBox> {
        [-50.0f32..700.0, -50.0f32..700.0, 0.0f32..300.0, 0.0f32..300.0]
            .prop_map(|[x, y, w, h]| BBox::new(x, y, x + w, y + h))
    }

    #[test]
    fn iou_of_known_boxes() {
        fn check(a: [f32; 4], b: [f32; 4], expected: f32) {
            let iou = BBox::from(a).iou(&BBox::from(b));
            assert!((iou - expected).abs() < 1e-6, "{a:?} {b:?}: {iou}");
        }
        check([0., 0., 10., 10.], [0., 0., 10., 10.], 1.0);
        check([0., 0., 10., 10.], [5., 0., 15., 10.], 1.0 / 3.0);
        check([0., 0., 10., 10.], [10., 0., 20., 10.], 0.0);
        check([0., 0., 10., 10.], [20., 20., 30., 30.], 0.0);
        check([0., 0., 0., 0.], [0., 0., 0., 0.], 0.0);
        check([10., 10., 0., 0.], [0., 0., 10., 10.], 0.0);
    }

    #[test]
    fn a_box_with_nan_is_empty() {
        assert!(BBox::new(f32::NAN, 0.0, 1.0, 1.0).is_empty());
        assert!(BBox::new(0.0, 0.0, 1.0, f32::NAN).is_empty());
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(a in any_box(), b in any_box()) {
            let iou = a.iou(&b);
            prop_assert!((0.0..=1.0 + 1e-5).contains(&iou));
            prop_assert_eq!(iou, b.iou(&a));
        }

        #[test]
        fn a_clipped_box_lies_in_the_picture(b in any_box(), w in 1u32..800, h in 1u32..800) {
            let c = b.clip(Size::new(w, h));
            prop_assert!(c.x1 >= 0.0 && c.y1 >= 0.0 && c.x2 <= w as f32 && c.y2 <= h as f32);
            prop_assert!(c.area() <= b.area() + 1e-3);
        }
    }
}
