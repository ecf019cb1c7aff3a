//! From a frame, or a region of it, to a network's input: colour conversion, resize, normalisation and layout in one
//! pass over the rows, straight from the decoder's planes.

mod color;
mod placement;
mod resize;

use nv_infer::Dim;
use nv_plugin_sdk::{BBox, Frame, PixelFormat, PlaneView, Size, StageError};

pub(crate) use color::Affine;
use color::{YuvToRgb, plain_row};
pub(crate) use placement::{Placement, Resize};
use resize::{Axis, Tap, between, stretch_row};

/// What a network takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputSpec {
    /// The input's size where it is always the same.
    pub(crate) size: Option<Size>,
    /// How a picture is brought to that size.
    pub(crate) resize: Resize,
    /// How its values lie.
    pub(crate) layout: Layout,
    /// For red, green and blue: the plane of the input that it goes to, and how.
    pub(crate) channels: [(usize, Affine); 3],
    /// The sample value of what the picture does not cover.
    pub(crate) pad: u8,
}

/// How the values of a network's input lie behind the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A plane for each colour: 3×height×width.
    Planar,
    /// Pixel by pixel: height×width×3.
    Interleaved,
}

impl Layout {
    /// The shape of `n` pictures of this size.
    pub(crate) fn shape(self, n: usize, size: Size) -> [usize; 4] {
        let (width, height) = (size.width as usize, size.height as usize);
        match self {
            Self::Planar => [n, 3, height, width],
            Self::Interleaved => [n, height, width, 3],
        }
    }

    /// The shape of pictures of any number and size.
    pub(crate) fn open_shape(self) -> Vec<Dim> {
        let [batch, height, width] = ["batch", "height", "width"].map(Dim::from);
        match self {
            Self::Planar => vec![batch, Dim::Fixed(3), height, width],
            Self::Interleaved => vec![batch, height, width, Dim::Fixed(3)],
        }
    }
}

/// Fills network inputs. Keeps its tables and rows from frame to frame: for frames of sizes seen before nothing is
/// allocated.
pub(crate) struct Preprocessor {
    spec: InputSpec,
    tables: Vec<Tables>,
    /// Where the next new tables go once there are [`MAX_TABLES`].
    oldest: usize,
    rows: [RowPair; 3],
    mixed: [Vec<i16>; 3],
    /// A row of each plane, where they are put together pixel by pixel.
    planes: [Vec<f32>; 3],
}

/// Feeds of more frame sizes than this, or more regions, make tables anew: some microseconds each.
const MAX_TABLES: usize = 16;

impl Preprocessor {
    pub(crate) fn new(spec: InputSpec) -> Self {
        Self {
            spec,
            tables: Vec::new(),
            oldest: 0,
            rows: Default::default(),
            mixed: Default::default(),
            planes: Default::default(),
        }
    }

    /// Where the frame, or the part of it in `region`, goes in the network's input.
    ///
    /// # Errors
    /// `Input` where the region lies outside the frame.
    pub(crate) fn place(&self, frame: &Frame, region: Option<&BBox>) -> Result<Placement, StageError> {
        let source = placement::whole_pixels(frame.size(), region).ok_or_else(|| {
            StageError::input(format!(
                "the region {:?} lies outside the frame of {}×{} pixels",
                region.copied().unwrap_or_default(),
                frame.size().width,
                frame.size().height
            ))
        })?;
        Ok(self.spec.resize.place(source, self.spec.size))
    }

    /// Writes the picture into `input`, which has three values for each pixel of the placement's size. `before` says what the
    /// same memory holds from an earlier call: what neither picture covers is not painted again.
    ///
    /// # Errors
    /// `Input` where the frame's pixels can't be read.
    pub(crate) fn fill(
        &mut self,
        frame: &Frame,
        at: &Placement,
        before: Option<&Placement>,
        input: &mut [f32],
    ) -> Result<(), StageError> {
        let view = frame.host().map_err(|e| StageError::input(e.to_string()).with_source(e))?;
        let plane_len = at.input.width as usize * at.input.height as usize;
        debug_assert_eq!(input.len(), 3 * plane_len);
        if !before.is_some_and(|before| before.covers_like(at)) {
            for (plane, affine) in self.spec.channels {
                let pad = affine.apply(f32::from(self.spec.pad));
                match self.spec.layout {
                    Layout::Planar => input[plane * plane_len..][..plane_len].fill(pad),
                    Layout::Interleaved => input.iter_mut().skip(plane).step_by(3).for_each(|value| *value = pad),
                }
            }
        }
        let source = channels(frame.format())?;
        let tables = self.tables_for(frame.format(), source, at);
        let Self { rows, mixed, planes, .. } = self;
        let tables = &self.tables[tables];
        for row in rows.iter_mut() {
            row.forget();
        }
        let width = at.width;
        for buffer in mixed.iter_mut() {
            buffer.resize(width, 0);
        }
        for plane in planes.iter_mut() {
            plane.resize(width, 0.0);
        }
        let yuv = YuvToRgb::new(frame.color());
        for y in 0..at.height {
            for ((channel, pair), mixed) in source.iter().zip(rows.iter_mut()).zip(mixed.iter_mut()) {
                let (columns, lines) = tables.of(channel);
                pair.mix(view.plane(channel.plane), channel, columns, lines[y], mixed);
            }
            let row = (at.y + y) * at.input.width as usize + at.x;
            let order = self.spec.channels.map(|(plane, _)| plane);
            let out = match self.spec.layout {
                Layout::Planar => three_rows(input, plane_len, row, width, order),
                Layout::Interleaved => in_order(planes.each_mut().map(|plane| &mut plane[..]), order),
            };
            let affines = self.spec.channels.map(|(_, affine)| affine);
            match frame.format() {
                PixelFormat::I420 | PixelFormat::Nv12 => {
                    let [y, cb, cr] = &*mixed;
                    yuv.row([y, cb, cr], affines, out);
                }
                _ => {
                    // Grey goes to all three.
                    for (i, out) in out.into_iter().enumerate() {
                        plain_row(&mixed[i.min(source.len() - 1)], affines[i], out);
                    }
                }
            }
            if self.spec.layout == Layout::Interleaved {
                let pixels = input[3 * row..][..3 * width].chunks_exact_mut(3);
                for (i, pixel) in pixels.enumerate() {
                    pixel.copy_from_slice(&[planes[0][i], planes[1][i], planes[2][i]]);
                }
            }
        }
        Ok(())
    }

    /// The index of the tables for pictures of this format and placement.
    fn tables_for(&mut self, format: PixelFormat, source: &[Channel], at: &Placement) -> usize {
        let key = (format, *at);
        if let Some(i) = self.tables.iter().position(|t| t.key == key) {
            return i;
        }
        let tables = Tables::new(key, source);
        if self.tables.len() < MAX_TABLES {
            self.tables.push(tables);
            return self.tables.len() - 1;
        }
        self.oldest = (self.oldest + 1) % MAX_TABLES;
        self.tables[self.oldest] = tables;
        self.oldest
    }
}

/// Where a colour channel's samples are.
#[derive(Clone, Copy, Debug)]
struct Channel {
    plane: usize,
    /// Bytes from one sample to the next.
    step: usize,
    /// Byte of the first one.
    offset: usize,
    /// Whether it has half as many columns and rows.
    subsampled: bool,
}

/// The format's channels: red, green, blue; or Y, Cb, Cr; or luma alone.
fn channels(format: PixelFormat) -> Result<&'static [Channel], StageError> {
    const fn packed(step: usize, offset: usize) -> Channel {
        Channel { plane: 0, step, offset, subsampled: false }
    }
    const fn chroma(plane: usize, step: usize, offset: usize) -> Channel {
        Channel { plane, step, offset, subsampled: true }
    }
    Ok(match format {
        PixelFormat::Rgb8 => &const { [packed(3, 0), packed(3, 1), packed(3, 2)] },
        PixelFormat::Bgr8 => &const { [packed(3, 2), packed(3, 1), packed(3, 0)] },
        PixelFormat::Rgba8 => &const { [packed(4, 0), packed(4, 1), packed(4, 2)] },
        PixelFormat::Gray8 => &const { [packed(1, 0)] },
        PixelFormat::I420 => &const { [packed(1, 0), chroma(1, 1, 0), chroma(2, 1, 0)] },
        PixelFormat::Nv12 => &const { [packed(1, 0), chroma(1, 2, 0), chroma(1, 2, 1)] },
        other => return Err(StageError::input(format!("can't read frames of the format {other:?}"))),
    })
}

/// The taps of one format and placement.
struct Tables {
    key: (PixelFormat, Placement),
    /// Columns and lines at full resolution, and at half of it where the format has such channels.
    full: (Vec<Tap>, Vec<Tap>),
    half: (Vec<Tap>, Vec<Tap>),
}

impl Tables {
    fn new(key: (PixelFormat, Placement), source: &[Channel]) -> Self {
        let at = key.1;
        let taps = |subsampling: usize, step: usize| {
            let column =
                Axis { start: at.source_x, len: at.source_width, output: at.width, subsampling, drop_beyond: true };
            let line =
                Axis { start: at.source_y, len: at.source_height, output: at.height, subsampling, drop_beyond: false };
            (column.taps(step), line.taps(1))
        };
        let step = |subsampled: bool| source.iter().find(|c| c.subsampled == subsampled).map(|c| c.step);
        let full = step(false).map(|step| taps(1, step)).unwrap_or_default();
        let half = step(true).map(|step| taps(2, step)).unwrap_or_default();
        Self { key, full, half }
    }

    fn of(&self, channel: &Channel) -> (&[Tap], &[Tap]) {
        let (columns, lines) = if channel.subsampled { &self.half } else { &self.full };
        (columns, lines)
    }
}

/// The two stretched rows of a channel that the current output row lies between.
#[derive(Default)]
struct RowPair {
    rows: [Vec<i16>; 2],
    /// The source line that each holds.
    lines: [Option<u32>; 2],
}

impl RowPair {
    fn forget(&mut self) {
        self.lines = [None; 2];
    }

    /// Writes the row between lines `tap.at` to `out`, stretching those that are not at hand.
    fn mix(&mut self, plane: PlaneView<'_>, channel: &Channel, columns: &[Tap], tap: Tap, out: &mut [i16]) {
        let [upper, lower] = tap.at;
        // Going down, the lower line becomes the upper one.
        if self.lines[1] == Some(upper) {
            self.rows.swap(0, 1);
            self.lines.swap(0, 1);
        }
        for (i, line) in [upper, lower].into_iter().enumerate() {
            if self.lines[i] != Some(line) {
                let row = &mut self.rows[i];
                row.resize(columns.len(), 0);
                let start = line as usize * plane.stride + channel.offset;
                stretch_row(&plane.data[start..], columns, row);
                self.lines[i] = Some(line);
            }
        }
        let [upper, lower] = &self.rows;
        for ((out, &u), &l) in out.iter_mut().zip(upper).zip(lower) {
            *out = between(u, l, tap.weight);
        }
    }
}

/// The same `width` samples from `row` on in each of three planes, in the order of `planes`, which are 0, 1 and 2.
fn three_rows(input: &mut [f32], plane_len: usize, row: usize, width: usize, planes: [usize; 3]) -> [&mut [f32]; 3] {
    let (first, rest) = input.split_at_mut(plane_len);
    let (second, third) = rest.split_at_mut(plane_len);
    in_order([first, second, third].map(|plane| &mut plane[row..row + width]), planes)
}

/// Rows of three planes in the order of `planes`, which are 0, 1 and 2 or the other way round.
fn in_order([a, b, c]: [&mut [f32]; 3], planes: [usize; 3]) -> [&mut [f32]; 3] {
    match planes {
        [2, ..] => [c, b, a],
        _ => [a, b, c],
    }
}

#[cfg(test)]
mod tests;
