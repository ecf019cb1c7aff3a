//! Pictures as a network takes them: what part of a frame, where in the input, and how a colour becomes a number.

mod color;
mod taps;

use nv_core::{Frame, HostView, PixelFormat, Size};

use crate::Dim;

pub(crate) use color::YuvToRgb;
pub(crate) use taps::{Axis, Tap};

/// What a network takes for a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureInput {
    /// How its values lie.
    pub layout: PictureLayout,
    /// For red, green and blue: where it goes and how. Each goes to another plane.
    pub channels: [PictureChannel; 3],
    /// The sample value, 0 to 255, of what the picture does not cover.
    pub pad: u8,
}

/// How the values of a network's input lie behind the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PictureLayout {
    /// A plane for each colour: 3×height×width.
    Planar,
    /// Pixel by pixel: height×width×3.
    Interleaved,
}

impl PictureLayout {
    /// The shape of `n` pictures of this size.
    pub fn shape(self, n: usize, size: Size) -> [usize; 4] {
        let (width, height) = (size.width as usize, size.height as usize);
        match self {
            Self::Planar => [n, 3, height, width],
            Self::Interleaved => [n, height, width, 3],
        }
    }

    /// The shape of pictures of any number and size.
    pub fn open_shape(self) -> Vec<Dim> {
        let [batch, height, width] = ["batch", "height", "width"].map(Dim::from);
        match self {
            Self::Planar => vec![batch, Dim::Fixed(3), height, width],
            Self::Interleaved => vec![batch, height, width, Dim::Fixed(3)],
        }
    }
}

/// How the value of one colour channel, 0 to 255, becomes the network's: `value · mul + add`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureChannel {
    /// The plane of the input that it goes to: 0, 1 or 2.
    pub plane: usize,
    /// What it is multiplied by.
    pub mul: f32,
    /// What is added then.
    pub add: f32,
}

impl PictureChannel {
    /// The network's value.
    #[inline(always)]
    pub fn apply(self, value: f32) -> f32 {
        value * self.mul + self.add
    }
}

/// Pictures for a batch, all of one size.
#[derive(Clone, Copy, Debug)]
pub struct Pictures<'a> {
    /// What the network takes.
    pub input: &'a PictureInput,
    /// The size of its input.
    pub size: Size,
    /// What goes to each entry, at least one.
    pub parts: &'a [PicturePart<'a>],
}

impl Pictures<'_> {
    /// The shape of the input for all of them.
    pub fn shape(&self) -> [usize; 4] {
        self.input.layout.shape(self.parts.len(), self.size)
    }

    /// How many values the input has for one.
    pub(crate) fn values(&self) -> usize {
        self.input.layout.shape(1, self.size).iter().product()
    }

    /// Whether each can be brought to the input.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut planes = self.input.channels.map(|channel| channel.plane);
        planes.sort_unstable();
        if planes != [0, 1, 2] {
            return Err(format!("colours go to planes 0, 1 and 2, each to another, not to {planes:?}"));
        }
        self.parts.iter().try_for_each(|part| part.check(self.size))
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PixelRect {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// At least 1.
    pub width: u32,
    /// At least 1.
    pub height: u32,
}

impl PixelRect {
    /// Whether it has pixels, all of them in a picture of `size`.
    fn is_in(self, size: Size) -> bool {
        let fits = |start: u32, len: u32, side: u32| len > 0 && start.checked_add(len).is_some_and(|end| end <= side);
        fits(self.x, self.width, size.width) && fits(self.y, self.height, size.height)
    }
}

/// A frame, or a part of it, and the rectangle of the network's input that it fills. It is stretched to that as OpenCV's
/// `resize` with `INTER_LINEAR` does it.
#[derive(Clone, Copy, Debug)]
pub struct PicturePart<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// Which of its pixels.
    pub source: PixelRect,
    /// Where they go.
    pub target: PixelRect,
}

impl PicturePart<'_> {
    /// Whether it can be brought to an input of this size.
    ///
    /// # Errors
    /// A sentence that says why not: the pixels are not in this computer's memory, their format is not known, or the
    /// rectangles reach beyond frame or input.
    pub fn check(&self, size: Size) -> Result<(), String> {
        self.view(size).map(drop)
    }

    /// The frame's pixels, and where the samples of its channels are.
    pub(crate) fn view(&self, size: Size) -> Result<(HostView<'_>, &'static [Samples]), String> {
        let Self { frame, source, target } = self;
        if !source.is_in(frame.size()) || !target.is_in(size) {
            return Err(format!("{source:?} of {:?} does not go to {target:?} of {size:?}", frame.size()));
        }
        let samples = Samples::of(frame.format());
        let samples = samples.ok_or_else(|| format!("can't read frames of the format {:?}", frame.format()))?;
        Ok((frame.host().map_err(|error| error.to_string())?, samples))
    }
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

#[cfg(test)]
pub(crate) mod tests;
