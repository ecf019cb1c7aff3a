//! Pictures as a network takes them: what part of a frame, where in the input, and how a colour becomes a number.

mod color;
mod taps;

use nv_core::{Frame, PixelFormat, Size};

pub(crate) use color::YuvToRgb;
pub(crate) use taps::{Axis, Tap};

/// What a network takes for a picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PictureInput {
    /// For red, green and blue: where it goes and how.
    pub(crate) channels: [PictureChannel; 3],
    /// The sample value, 0 to 255, of what the picture does not cover.
    pub(crate) pad: u8,
}

/// How the value of one colour channel, 0 to 255, becomes the network's: `value · mul + add`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PictureChannel {
    /// The plane of the input that it goes to: 0, 1 or 2.
    pub(crate) plane: u32,
    /// What it is multiplied by.
    pub(crate) mul: f32,
    /// What is added then.
    pub(crate) add: f32,
}

impl PictureChannel {
    /// The network's value.
    pub(crate) fn apply(self, value: f32) -> f32 {
        value * self.mul + self.add
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rect {
    /// Left edge.
    pub(crate) x: u32,
    /// Upper edge.
    pub(crate) y: u32,
    /// At least 1.
    pub(crate) width: u32,
    /// At least 1.
    pub(crate) height: u32,
}

impl Rect {
    /// Whether it has pixels, all of them in a picture of `size`.
    pub(crate) fn is_in(self, size: Size) -> bool {
        let fits = |start: u32, len: u32, side: u32| len > 0 && start.checked_add(len).is_some_and(|end| end <= side);
        fits(self.x, self.width, size.width) && fits(self.y, self.height, size.height)
    }
}

/// A frame, or a part of it, and the rectangle of the network's input that it fills.
#[derive(Clone, Debug)]
pub(crate) struct PicturePart<'a> {
    /// The frame.
    pub(crate) frame: &'a Frame,
    /// Which of its pixels.
    pub(crate) source: Rect,
    /// Where they go, stretched or shrunk to that size.
    pub(crate) target: Rect,
}

/// Where the samples of a channel are: red, green or blue; or Y, Cb or Cr; or luma alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Samples {
    /// The plane that they are in.
    pub(crate) plane: usize,
    /// Bytes from one to the next.
    pub(crate) step: usize,
    /// Byte of the first.
    pub(crate) offset: usize,
    /// How many columns, and rows, of pixels share one: 2 for chroma at half resolution, else 1.
    pub(crate) subsampling: usize,
}

impl Samples {
    /// The channels of a format; `None` for one that is not known here.
    pub(crate) fn of(format: PixelFormat) -> Option<&'static [Self]> {
        const fn packed(step: usize, offset: usize) -> Samples {
            Samples { plane: 0, step, offset, subsampling: 1 }
        }
        const fn chroma(plane: usize, step: usize, offset: usize) -> Samples {
            Samples { plane, step, offset, subsampling: 2 }
        }
        Some(match format {
            PixelFormat::Rgb8 => &const { [packed(3, 0), packed(3, 1), packed(3, 2)] },
            PixelFormat::Bgr8 => &const { [packed(3, 2), packed(3, 1), packed(3, 0)] },
            PixelFormat::Rgba8 => &const { [packed(4, 0), packed(4, 1), packed(4, 2)] },
            PixelFormat::Gray8 => &const { [packed(1, 0)] },
            PixelFormat::I420 => &const { [packed(1, 0), chroma(1, 1, 0), chroma(2, 1, 0)] },
            PixelFormat::Nv12 => &const { [packed(1, 0), chroma(1, 2, 0), chroma(1, 2, 1)] },
            _ => return None,
        })
    }
}
