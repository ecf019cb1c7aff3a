use std::panic::{AssertUnwindSafe, catch_unwind};

use nv_core::{OwnedPlane, Pts, Size};

use super::{Sps, UnitKind};

/// What goes into a decoder with an access unit and comes out with its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) pts: Pts,
    /// Whether it rests on data that was damaged or lost.
    pub(crate) suspect: bool,
}

/// A decoded picture, cropped, as I420.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) stamp: Stamp,
    pub(crate) size: Size,
    pub(crate) planes: Vec<OwnedPlane>,
}

/// Why an access unit gave no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The data is damaged. The next access unit may be decoded.
    Damaged(String),
    /// It uses a tool of H.264 that the decoder lacks (or damage that looks so).
    Unsupported(String),
}

/// The seam to an H.264 decoder. `push` access units in decoding order, then take what `next` has.
pub(crate) trait H264Decoder: Send {
    /// A sequence parameter set is in force from the next access unit on. (It is in the unit, too.)
    fn configure(&mut self, sps: &Sps);
    /// Decodes one access unit in Annex B form.
    fn push(&mut self, unit: &[u8], kind: UnitKind, stamp: Stamp) -> Result<(), DecodeError>;
    /// A picture, in decoding or display order, as the decoder likes.
    fn next(&mut self) -> Option<Picture>;
    /// No more units come: whatever the decoder holds back can be taken with `next`.
    fn flush(&mut self);
}

/// `rusty_h264-decoder`: pure Rust; bit-exact with ffmpeg on progressive 8-bit 4:2:0.
///
/// It gives each picture at once, in decoding order, and moves it out without a copy.
pub(crate) struct RustyDecoder {
    decoder: rusty_h264_decoder::Decoder,
    picture: Option<Picture>,
    /// Annex B; kept in order to start anew after a panic.
    parameter_sets: Vec<u8>,
    /// The decoder only crops at the right and bottom.
    crop_offset: (u32, u32),
    /// Whether the last unit failed.
    failed: bool,
}

impl RustyDecoder {
    /// A decoder for a stream that begins with `parameter_sets` (Annex B; empty where they come in-band).
    pub(crate) fn new(parameter_sets: Vec<u8>) -> Result<Self, DecodeError> {
        let mut decoder = Self {
            decoder: rusty_h264_decoder::Decoder::new(),
            picture: None,
            parameter_sets: Vec::new(),
            crop_offset: (0, 0),
            failed: false,
        };
        decoder.decode(&parameter_sets)?;
        decoder.parameter_sets = parameter_sets;
        Ok(decoder)
    }

    fn decode(&mut self, unit: &[u8]) -> Result<Option<Decoded>, DecodeError> {
        use rusty_h264_decoder::DecodeError as E;
        let decoder = &mut self.decoder;
        let decode = || {
            let frame = decoder.decode(unit)?;
            Ok(frame.map(|f| Decoded { width: f.width, height: f.height, planes: [f.y, f.u, f.v] }))
        };
        // It promises not to panic. Should it, the state it leaves behind is thrown away.
        match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(Ok(decoded)) => Ok(decoded),
            Ok(Err(E::Unsupported(what))) => Err(DecodeError::Unsupported(what.into())),
            Ok(Err(error)) => Err(DecodeError::Damaged(error.to_string())),
            Err(_) => {
                self.decoder = rusty_h264_decoder::Decoder::new();
                let (decoder, sets) = (&mut self.decoder, &self.parameter_sets);
                // The sets passed before; should they not, the units that follow are errors of their own.
                let _ = catch_unwind(AssertUnwindSafe(|| decoder.decode(sets)));
                Err(DecodeError::Damaged("the decoder panicked and was started anew".into()))
            }
        }
    }
}

impl H264Decoder for RustyDecoder {
    fn configure(&mut self, sps: &Sps) {
        self.crop_offset = sps.crop_offset;
    }

    fn push(&mut self, unit: &[u8], kind: UnitKind, stamp: Stamp) -> Result<(), DecodeError> {
        let mut result = self.decode(unit);
        // A picture that was left unfinished makes the decoder refuse the first slice of the next one, and forget it then.
        if self.failed && matches!(result, Err(DecodeError::Damaged(_))) {
            result = self.decode(unit);
        }
        self.failed = !matches!(result, Ok(Some(_)));
        match result? {
            Some(decoded) => self.picture = decoded.into_picture(self.crop_offset, stamp),
            None if kind.has_picture => return Err(DecodeError::Damaged("a part of the picture is missing".into())),
            None => self.failed = false,
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Picture> {
        self.picture.take()
    }

    fn flush(&mut self) {}
}

/// A frame as the decoder gives it: planes without padding.
struct Decoded {
    width: usize,
    height: usize,
    planes: [Vec<u8>; 3],
}

impl Decoded {
    fn into_picture(self, (left, top): (u32, u32), stamp: Stamp) -> Option<Picture> {
        let (left, top) = (left as usize, top as usize);
        let (width, height) = (self.width.checked_sub(left)?, self.height.checked_sub(top)?);
        let size = Size::new(u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let plane = |(i, mut data): (usize, Vec<u8>)| {
            let shift = u32::from(i > 0);
            let (stride, skip_rows, skip_columns) = (self.width >> shift, top >> shift, left >> shift);
            // Rare enough to move the samples: nearly all streams crop at the right and bottom only.
            if (left, top) != (0, 0) {
                data.drain(..(skip_rows * stride + skip_columns).min(data.len()));
            }
            OwnedPlane { data, stride }
        };
        Some(Picture { stamp, size, planes: self.planes.into_iter().enumerate().map(plane).collect() })
    }
}
