//! Where a picture goes in a network's input, and how points come back.

use nv_infer::{PictureInput, PixelRect};
use nv_plugin_sdk::{BBox, Frame, Point, Size, StageError};

/// What a network takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputSpec {
    /// The input's size where it is always the same.
    pub(crate) size: Option<Size>,
    /// How a picture is brought to that size.
    pub(crate) resize: Resize,
    /// What becomes of its samples.
    pub(crate) picture: PictureInput,
}

impl InputSpec {
    /// Where the frame, or the part of it in `region`, goes in the network's input.
    ///
    /// # Errors
    /// `Input` where the region lies outside the frame.
    pub(crate) fn place(&self, frame: &Frame, region: Option<&BBox>) -> Result<Placement, StageError> {
        let source = whole_pixels(frame.size(), region).ok_or_else(|| {
            StageError::input(format!(
                "the region {:?} lies outside the frame of {}×{} pixels",
                region.copied().unwrap_or_default(),
                frame.size().width,
                frame.size().height
            ))
        })?;
        Ok(self.resize.place(source, self.size))
    }
}

/// How a picture is brought to the size of a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resize {
    /// Aspect kept, at the top left; the rest is padding.
    Letterbox,
    /// Aspect kept, in the middle; the rest is padding.
    LetterboxCenter,
    /// Both sides to the input's, whatever becomes of the aspect.
    Stretch,
    /// Not resized; padded right and below to a multiple of this.
    PadToMultiple(u32),
    /// Each side stretched to the next multiple of this.
    StretchToMultiple(u32),
}

/// A part of a picture, and the rectangle of the network's input that it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The network's input.
    pub(crate) input: Size,
    /// The part of the picture.
    pub(crate) source: PixelRect,
    /// Where it goes.
    pub(crate) target: PixelRect,
}

impl Resize {
    /// Where `source` goes. `size` is the input's where it is always the same; without it the picture's own size is what
    /// letterbox and stretch bring it to.
    fn place(self, source: PixelRect, size: Option<Size>) -> Placement {
        let own = Size::new(source.width, source.height);
        let input = match self {
            Self::PadToMultiple(n) | Self::StretchToMultiple(n) => {
                Size::new(own.width.next_multiple_of(n), own.height.next_multiple_of(n))
            }
            _ => size.unwrap_or(own),
        };
        let Size { width, height } = match self {
            Self::Letterbox | Self::LetterboxCenter => self.fit(own, input),
            Self::Stretch | Self::StretchToMultiple(_) => input,
            Self::PadToMultiple(_) => own,
        };
        let (x, y) = match self {
            Self::LetterboxCenter => ((input.width - width) / 2, (input.height - height) / 2),
            _ => (0, 0),
        };
        Placement { input, source, target: PixelRect { x, y, width, height } }
    }

    /// The largest size of the picture's aspect that fits.
    fn fit(self, own: Size, input: Size) -> Size {
        let by_width = f64::from(input.width) / f64::from(own.width);
        let by_height = f64::from(input.height) / f64::from(own.height);
        let ratio = by_width.min(by_height);
        let side = |own: u32, limit: u32| {
            let scaled = f64::from(own) * ratio;
            // YOLOX's own pre-processing truncates, and loses a row where the product falls a hair short of a whole number;
            // so must this, because which of two like boxes wins depends on it. Ultralytics', which is centred, rounds.
            let whole = if self == Self::Letterbox { scaled.trunc() } else { scaled.round() };
            (whole as u32).clamp(1, limit)
        };
        Size::new(side(own.width, input.width), side(own.height, input.height))
    }
}

impl Placement {
    /// The part of the picture that the network sees, in its pixels.
    pub(crate) fn seen(&self) -> BBox {
        let edge = |start: u32, len: u32| (start as f32, (start + len) as f32);
        let ((x1, x2), (y1, y2)) = (edge(self.source.x, self.source.width), edge(self.source.y, self.source.height));
        BBox::new(x1, y1, x2, y2)
    }

    /// The way back from the input to the picture.
    pub(crate) fn mapping(&self) -> Mapping {
        let Self { source, target, .. } = self;
        let scale_x = source.width as f32 / target.width as f32;
        let scale_y = source.height as f32 / target.height as f32;
        Mapping {
            scale_x,
            scale_y,
            add_x: source.x as f32 - target.x as f32 * scale_x,
            add_y: source.y as f32 - target.y as f32 * scale_y,
        }
    }
}

/// From the network's input to source pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mapping {
    scale_x: f32,
    scale_y: f32,
    add_x: f32,
    add_y: f32,
}

impl Mapping {
    pub(crate) fn point(&self, x: f32, y: f32) -> Point {
        Point::new(x * self.scale_x + self.add_x, y * self.scale_y + self.add_y)
    }

    pub(crate) fn bbox(&self, b: &BBox) -> BBox {
        let (p, q) = (self.point(b.x1, b.y1), self.point(b.x2, b.y2));
        BBox::new(p.x, p.y, q.x, q.y)
    }
}

/// The pixels that `region` touches; `None` where it touches none.
fn whole_pixels(frame: Size, region: Option<&BBox>) -> Option<PixelRect> {
    let Some(region) = region else {
        return Some(PixelRect { x: 0, y: 0, width: frame.width, height: frame.height });
    };
    let inside = region.clip(frame);
    if inside.is_empty() {
        return None;
    }
    let (x, y) = (inside.x1.floor() as u32, inside.y1.floor() as u32);
    Some(PixelRect { x, y, width: inside.x2.ceil() as u32 - x, height: inside.y2.ceil() as u32 - y })
}

#[cfg(test)]
mod tests {
    use nv_infer::{PictureChannel, PictureLayout};
    use nv_plugin_sdk::{FrameHeader, FramePool, PixelFormat};
    use proptest::prelude::*;

    use super::*;

    fn rect([x, y, width, height]: [u32; 4]) -> PixelRect {
        PixelRect { x, y, width, height }
    }

    #[test]
    fn pictures_are_placed_as_their_models_were_trained() {
        fn check(resize: Resize, (w, h): (u32, u32), size: Option<(u32, u32)>, expected: [u32; 6]) {
            let size = size.map(|(w, h)| Size::new(w, h));
            let Placement { input, target, .. } = resize.place(rect([0, 0, w, h]), size);
            let found = [input.width, input.height, target.x, target.y, target.width, target.height];
            assert_eq!(found, expected, "{resize:?} {w}×{h}");
        }
        let square = Some((416, 416));
        check(Resize::Letterbox, (768, 576), square, [416, 416, 0, 0, 416, 312]);
        check(Resize::Letterbox, (768, 432), square, [416, 416, 0, 0, 416, 233]);
        check(Resize::Letterbox, (451, 300), square, [416, 416, 0, 0, 416, 276]);
        check(Resize::Letterbox, (300, 451), square, [416, 416, 0, 0, 276, 416]);
        check(Resize::Letterbox, (10_000, 3), square, [416, 416, 0, 0, 416, 1]);
        check(Resize::LetterboxCenter, (768, 576), square, [416, 416, 0, 52, 416, 312]);
        check(Resize::LetterboxCenter, (451, 300), square, [416, 416, 0, 69, 416, 277]);
        check(Resize::Stretch, (768, 576), Some((320, 240)), [320, 240, 0, 0, 320, 240]);
        check(Resize::PadToMultiple(32), (451, 300), None, [480, 320, 0, 0, 451, 300]);
        check(Resize::PadToMultiple(32), (512, 64), None, [512, 64, 0, 0, 512, 64]);
        check(Resize::StretchToMultiple(32), (451, 300), None, [480, 320, 0, 0, 480, 320]);
    }

    #[test]
    fn a_region_is_the_pixels_that_it_touches() {
        let frame = Size::new(100, 50);
        let check = |region: [f32; 4], expected: Option<[u32; 4]>| {
            assert_eq!(whole_pixels(frame, Some(&BBox::from(region))), expected.map(rect), "{region:?}");
        };
        check([10.2, 5.0, 20.7, 9.0], Some([10, 5, 11, 4]));
        check([-5.0, -5.0, 300.0, 300.0], Some([0, 0, 100, 50]));
        check([99.9, 49.9, 120.0, 60.0], Some([99, 49, 1, 1]));
        check([100.0, 0.0, 120.0, 10.0], None);
        check([20.0, 5.0, 10.0, 9.0], None);
        check([f32::NAN, 0.0, 1.0, 1.0], None);
    }

    #[test]
    fn a_region_outside_the_frame_is_named() {
        let header = FrameHeader::new(Size::new(60, 50), PixelFormat::Gray8);
        let frame = FramePool::new(0).take(header).unwrap().freeze();
        let same = |plane| PictureChannel { plane, mul: 1.0, add: 0.0 };
        let picture = PictureInput { layout: PictureLayout::Planar, channels: [same(0), same(1), same(2)], pad: 0 };
        let spec = InputSpec { size: Some(Size::new(32, 24)), resize: Resize::Stretch, picture };
        let placed = spec.place(&frame, Some(&BBox::new(13.4, 7.0, 33.9, 24.2))).unwrap();
        assert_eq!((placed.source, placed.target), (rect([13, 7, 21, 18]), rect([0, 0, 32, 24])));
        let outside = spec.place(&frame, Some(&BBox::new(70.0, 0.0, 80.0, 10.0))).unwrap_err();
        assert!(outside.to_string().contains("outside the frame of 60×50"), "{outside}");
    }

    proptest! {
        #[test]
        fn corners_of_the_picture_come_back_to_themselves(
            x in 0u32..500, y in 0u32..500, w in 1u32..3000, h in 1u32..3000, side in 1u32..40, which in 0usize..5
        ) {
            let resize = [
                Resize::Letterbox, Resize::LetterboxCenter, Resize::Stretch,
                Resize::PadToMultiple(side), Resize::StretchToMultiple(side),
            ][which];
            let p = resize.place(rect([x, y, w, h]), Some(Size::new(side * 16, side * 12)));
            let target = p.target;
            let [right, bottom] = [target.x + target.width, target.y + target.height];
            prop_assert!(right <= p.input.width && bottom <= p.input.height);
            let b = BBox::new(target.x as f32, target.y as f32, right as f32, bottom as f32);
            let back = p.mapping().bbox(&b);
            for (found, expected) in
                [back.x1, back.y1, back.x2, back.y2].into_iter().zip([x, y, x + w, y + h])
            {
                prop_assert!((found - expected as f32).abs() < 0.02, "{:?} {:?}", back, p);
            }
        }
    }
}
