//! Pre-processing on the CPU: from a frame, or a part of it, to a network's input. Colour conversion, resize, normalisation and
//! layout in one pass over the rows, straight from the decoder's planes.

mod rows;

use nv_core::{PixelFormat, PlaneView, Size};

use super::SimdLevel;
use super::simd::Instructions;
use crate::picture::{Axis, PictureInput, PictureLayout, PicturePart, PixelRect, Samples, Tap, YuvToRgb};

use rows::{Columns, between_rows, color_row, interleave, plain_row};

/// Fills network inputs. Keeps its tables and rows from picture to picture: for geometries seen before nothing is
/// allocated.
#[derive(Debug)]
pub(crate) struct Preprocessor {
    instructions: Option<Instructions>,
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
    /// With the instructions of a level. Whichever it is, values are the same to the bit.
    pub(crate) fn new(level: SimdLevel) -> Self {
        let (rows, mixed, planes) = Default::default();
        Self { instructions: Instructions::of(level), tables: Vec::new(), oldest: 0, rows, mixed, planes }
    }

    /// Writes the picture into `out`, which has three values for each pixel of `size`.
    ///
    /// # Errors
    /// Where [`PicturePart::check`] has one.
    pub(crate) fn fill(
        &mut self,
        input: &PictureInput,
        part: &PicturePart<'_>,
        size: Size,
        out: &mut [f32],
    ) -> Result<(), String> {
        let (view, samples) = part.view(size)?;
        let frame = part.frame;
        let (row_len, area) = (size.width as usize, size.width as usize * size.height as usize);
        assert_eq!(out.len(), 3 * area, "an input has three values for each pixel");
        paint_around(input, part.target, size, out);
        let tables = self.tables_for(samples, frame.format(), part);
        let Self { instructions, rows, mixed, planes, .. } = self;
        let (instructions, tables) = (*instructions, &self.tables[tables]);
        for row in rows.iter_mut() {
            row.forget();
        }
        let [x, y, width, height] =
            [part.target.x, part.target.y, part.target.width, part.target.height].map(|n| n as usize);
        for buffer in mixed.iter_mut() {
            buffer.resize(width, 0);
        }
        if input.layout == PictureLayout::Interleaved {
            for plane in planes.iter_mut() {
                plane.resize(width, 0.0);
            }
        }
        let yuv = YuvToRgb::new(frame.color());
        for line in 0..height {
            for ((channel, pair), mixed) in samples.iter().zip(rows.iter_mut()).zip(mixed.iter_mut()) {
                pair.mix(instructions, view.plane(channel.plane), channel, tables.of(channel), line, mixed);
            }
            let begin = (y + line) * row_len + x;
            let to: [&mut [f32]; 3] = match input.layout {
                PictureLayout::Planar => {
                    let mut planes = out.chunks_exact_mut(area);
                    std::array::from_fn(|_| &mut planes.next().expect("there are three")[begin..begin + width])
                }
                PictureLayout::Interleaved => planes.each_mut().map(|plane| &mut plane[..]),
            };
            let to = by_color(to, input.channels.map(|channel| channel.plane));
            match samples {
                [_, chroma, _] if chroma.subsampling > 1 => {
                    let [luma, cb, cr] = &*mixed;
                    color_row(instructions, &yuv, [luma, cb, cr], input.channels, to);
                }
                _ => {
                    // Grey goes to all three.
                    for (i, to) in to.into_iter().enumerate() {
                        plain_row(instructions, &mixed[i.min(samples.len() - 1)], input.channels[i], to);
                    }
                }
            }
            if input.layout == PictureLayout::Interleaved {
                interleave(planes.each_ref().map(|plane| &plane[..]), &mut out[3 * begin..][..3 * width]);
            }
        }
        Ok(())
    }

    /// The index of the tables for this part of pictures of the format.
    fn tables_for(&mut self, samples: &[Samples], format: PixelFormat, part: &PicturePart<'_>) -> usize {
        let key = (format, part.source, [part.target.width, part.target.height]);
        if let Some(i) = self.tables.iter().position(|t| t.key == key) {
            return i;
        }
        let tables = Tables::new(key, samples);
        if self.tables.len() < MAX_TABLES {
            self.tables.push(tables);
            return self.tables.len() - 1;
        }
        self.oldest = (self.oldest + 1) % MAX_TABLES;
        self.tables[self.oldest] = tables;
        self.oldest
    }
}

/// Writes what the picture does not cover.
fn paint_around(input: &PictureInput, target: PixelRect, size: Size, out: &mut [f32]) {
    let [x, y, width, height] = [target.x, target.y, target.width, target.height].map(|n| n as usize);
    let (columns, lines) = (size.width as usize, size.height as usize);
    // In one go where whole lines are not covered: before the first, after the last, and between one and the next.
    let gaps = [0..y * columns + x, ((y + height - 1) * columns + x + width)..lines * columns];
    let between = (y + 1..y + height).map(|line| (line - 1) * columns + x + width..line * columns + x);
    for gap in gaps.into_iter().chain(between).filter(|gap| !gap.is_empty()) {
        let pads = input.channels.map(|channel| (channel.plane, channel.apply(f32::from(input.pad))));
        match input.layout {
            PictureLayout::Planar => {
                let area = columns * lines;
                pads.into_iter().for_each(|(plane, pad)| out[plane * area..][gap.clone()].fill(pad));
            }
            PictureLayout::Interleaved => {
                for pixel in out[3 * gap.start..3 * gap.end].chunks_exact_mut(3) {
                    pads.into_iter().for_each(|(plane, pad)| pixel[plane] = pad);
                }
            }
        }
    }
}

/// Three planes in the order of red, green and blue, each being the one that `planes` says; they are all different.
fn by_color(planes: [&mut [f32]; 3], order: [usize; 3]) -> [&mut [f32]; 3] {
    let mut planes = planes.map(Some);
    order.map(|plane| planes[plane].take().expect("colours go to different planes"))
}

/// What tables depend on: format, source, size of the target.
type Key = (PixelFormat, PixelRect, [u32; 2]);

/// The taps of one geometry.
#[derive(Debug)]
struct Tables {
    key: Key,
    /// Columns and lines at full resolution, and at half of it where the format has such channels.
    full: Option<Grid>,
    half: Option<Grid>,
}

/// The taps of a channel.
#[derive(Debug)]
struct Grid {
    columns: Columns,
    lines: Vec<Tap>,
}

impl Tables {
    fn new(key: Key, samples: &[Samples]) -> Self {
        let (_, source, target) = key;
        let grid = |subsampling: usize| {
            let step = samples.iter().find(|channel| channel.subsampling == subsampling)?.step;
            let [columns, lines] = Axis::of(source, target, subsampling);
            Some(Grid { columns: Columns::new(&columns, step), lines: lines.taps(1).collect() })
        };
        Self { key, full: grid(1), half: grid(2) }
    }

    fn of(&self, channel: &Samples) -> &Grid {
        let grid = if channel.subsampling > 1 { &self.half } else { &self.full };
        grid.as_ref().expect("there is one for each kind of channel")
    }
}

/// The two stretched rows of a channel that the current output row lies between.
#[derive(Debug, Default)]
struct RowPair {
    rows: [Vec<i16>; 2],
    /// The source line that each holds.
    lines: [Option<u32>; 2],
}

impl RowPair {
    fn forget(&mut self) {
        self.lines = [None; 2];
    }

    /// Writes the row that `line` of the output lies at to `out`, stretching source lines that are not at hand.
    fn mix(
        &mut self,
        instructions: Option<Instructions>,
        plane: PlaneView<'_>,
        channel: &Samples,
        grid: &Grid,
        line: usize,
        out: &mut [i16],
    ) {
        let tap = grid.lines[line];
        let [upper, lower] = tap.at;
        // Going down, the lower line becomes the upper one.
        if self.lines[1] == Some(upper) {
            self.rows.swap(0, 1);
            self.lines.swap(0, 1);
        }
        for (i, line) in [upper, lower].into_iter().enumerate() {
            if self.lines[i] != Some(line) {
                let row = &mut self.rows[i];
                row.resize(out.len(), 0);
                let start = line as usize * plane.stride + channel.offset;
                grid.columns.stretch(instructions, &plane.data[start..], row);
                self.lines[i] = Some(line);
            }
        }
        let [upper, lower] = &self.rows;
        between_rows(instructions, [upper, lower], tap.weight, out);
    }
}

#[cfg(test)]
mod tests;
