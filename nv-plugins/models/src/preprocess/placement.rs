//! Where a picture goes in a network's input, and how points come back.

use nv_plugin_sdk::{BBox, Point, Size};

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

/// A part of a picture, in whole pixels, and the rectangle of the network's input that it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The network's input.
    pub(crate) input: Size,
    pub(super) source_x: usize,
    pub(super) source_y: usize,
    pub(super) source_width: usize,
    pub(super) source_height: usize,
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Resize {
    /// Where `source` (left, top, width, height) goes. `size` is the input's where it is always the same; without it the
    /// picture's own size is what letterbox and stretch bring it to.
    pub(super) fn place(self, source: [usize; 4], size: Option<Size>) -> Placement {
        let [source_x, source_y, source_width, source_height] = source;
        let own = Size::new(source_width as u32, source_height as u32);
        let input = match self {
            Self::PadToMultiple(n) | Self::StretchToMultiple(n) => {
                Size::new(own.width.next_multiple_of(n), own.height.next_multiple_of(n))
            }
            _ => size.unwrap_or(own),
        };
        let (width, height) = match self {
            Self::Letterbox | Self::LetterboxCenter => self.fit(own, input),
            Self::Stretch | Self::StretchToMultiple(_) => (input.width as usize, input.height as usize),
            Self::PadToMultiple(_) => (source_width, source_height),
        };
        let (x, y) = match self {
            Self::LetterboxCenter => ((input.width as usize - width) / 2, (input.height as usize - height) / 2),
            _ => (0, 0),
        };
        Placement { input, source_x, source_y, source_width, source_height, x, y, width, height }
    }

    /// The largest size of the picture's aspect that fits.
    fn fit(self, own: Size, input: Size) -> (usize, usize) {
        let by_width = f64::from(input.width) / f64::from(own.width);
        let by_height = f64::from(input.height) / f64::from(own.height);
        let ratio = by_width.min(by_height);
        let side = |own: u32, limit: u32| {
            let scaled = f64::from(own) * ratio;
            // YOLOX's own pre-processing truncates, and loses a row where the product falls a hair short of a whole number;
            // so must this, because which of two like boxes wins depends on it. Ultralytics', which is centred, rounds.
            let whole = if self == Self::Letterbox { scaled.trunc() } else { scaled.round() };
            (whole as usize).clamp(1, limit as usize)
        };
        (side(own.width, input.width), side(own.height, input.height))
    }
}

impl Placement {
    /// Whether `other` covers the same part of an input of the same size.
    pub(super) fn covers_like(&self, other: &Self) -> bool {
        self.input == other.input
            && [self.x, self.y, self.width, self.height] == [other.x, other.y, other.width, other.height]
    }

    /// The part of the picture that the network sees, in its pixels.
    pub(crate) fn seen(&self) -> BBox {
        let edge = |start: usize, len: usize| (start as f32, (start + len) as f32);
        let ((x1, x2), (y1, y2)) = (edge(self.source_x, self.source_width), edge(self.source_y, self.source_height));
        BBox::new(x1, y1, x2, y2)
    }

    /// The way back from the input to the picture.
    pub(crate) fn mapping(&self) -> Mapping {
        let scale_x = self.source_width as f32 / self.width as f32;
        let scale_y = self.source_height as f32 / self.height as f32;
        Mapping {
            scale_x,
            scale_y,
            add_x: self.source_x as f32 - self.x as f32 * scale_x,
            add_y: self.source_y as f32 - self.y as f32 * scale_y,
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

/// Left, top, width and height of the pixels that `region` touches; `None` where it touches none.
pub(super) fn whole_pixels(frame: Size, region: Option<&BBox>) -> Option<[usize; 4]> {
    let Some(region) = region else {
        return Some([0, 0, frame.width as usize, frame.height as usize]);
    };
    let inside = region.clip(frame);
    if inside.is_empty() {
        return None;
    }
    let (x, y) = (inside.x1.floor() as usize, inside.y1.floor() as usize);
    Some([x, y, inside.x2.ceil() as usize - x, inside.y2.ceil() as usize - y])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pictures_are_placed_as_their_models_were_trained() {
        fn check(resize: Resize, (w, h): (usize, usize), size: Option<(u32, u32)>, expected: [usize; 6]) {
            let size = size.map(|(w, h)| Size::new(w, h));
            let p = resize.place([0, 0, w, h], size);
            let found = [p.input.width as usize, p.input.height as usize, p.x, p.y, p.width, p.height];
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
        let check = |region: [f32; 4], expected: Option<[usize; 4]>| {
            assert_eq!(whole_pixels(frame, Some(&BBox::from(region))), expected, "{region:?}");
        };
        check([10.2, 5.0, 20.7, 9.0], Some([10, 5, 11, 4]));
        check([-5.0, -5.0, 300.0, 300.0], Some([0, 0, 100, 50]));
        check([99.9, 49.9, 120.0, 60.0], Some([99, 49, 1, 1]));
        check([100.0, 0.0, 120.0, 10.0], None);
        check([20.0, 5.0, 10.0, 9.0], None);
        check([f32::NAN, 0.0, 1.0, 1.0], None);
    }

    proptest! {
        #[test]
        fn corners_of_the_picture_come_back_to_themselves(
            x in 0usize..500, y in 0usize..500, w in 1usize..3000, h in 1usize..3000, side in 1u32..40, which in 0usize..5
        ) {
            let resize = [
                Resize::Letterbox, Resize::LetterboxCenter, Resize::Stretch,
                Resize::PadToMultiple(side), Resize::StretchToMultiple(side),
            ][which];
            let p = resize.place([x, y, w, h], Some(Size::new(side * 16, side * 12)));
            prop_assert!(p.x + p.width <= p.input.width as usize && p.y + p.height <= p.input.height as usize);
            let b = BBox::new(p.x as f32, p.y as f32, (p.x + p.width) as f32, (p.y + p.height) as f32);
            let back = p.mapping().bbox(&b);
            for (found, expected) in
                [back.x1, back.y1, back.x2, back.y2].into_iter().zip([x, y, x + w, y + h])
            {
                prop_assert!((found - expected as f32).abs() < 0.02, "{:?} {:?}", back, p);
            }
        }
    }
}
