use std::io;
use std::path::PathBuf;

use jpeg_encoder::{ColorType, Encoder, EncodingError};
use nv_perception::{Output, OutputSink, SinkError, SinkErrorKind};

use super::TroubleSender;
use crate::draw::{Canvas, draw};

/// Quality of the pictures, 1 to 100: letters stay crisp, a picture of 768×576 takes about 100 kB.
const QUALITY: u8 = 88;

/// Writes a picture of each output, `000041.jpg` for frame 41, with what was found drawn in.
pub(super) struct AnnotateSink {
    folder: PathBuf,
    canvas: Canvas,
    jpeg: Vec<u8>,
    trouble: TroubleSender,
}

impl AnnotateSink {
    pub(super) fn new(folder: PathBuf, trouble: TroubleSender) -> Self {
        Self { folder, canvas: Canvas::default(), jpeg: Vec::new(), trouble }
    }
}

impl OutputSink for AnnotateSink {
    fn wants_frames(&self) -> bool {
        true
    }

    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        let transient = |error: &dyn std::fmt::Display| {
            SinkError::new(SinkErrorKind::Transient, format!("frame {}: {error}", output.frame.seq()))
        };
        self.canvas.load(&output.frame).map_err(|error| transient(&error))?;
        draw(&mut self.canvas, output);
        self.jpeg.clear();
        encode(&self.canvas, &mut self.jpeg).map_err(|error| transient(&error))?;
        let path = self.folder.join(format!("{:06}.jpg", output.frame.seq()));
        std::fs::write(&path, &self.jpeg).map_err(|error| {
            // Not a pipe: whatever is wrong with it, nobody "had enough".
            let error = if error.kind() == io::ErrorKind::BrokenPipe { io::Error::other(error) } else { error };
            self.trouble.report(&path.display().to_string(), error)
        })
    }
}

fn encode(canvas: &Canvas, jpeg: &mut Vec<u8>) -> Result<(), String> {
    let side = |n: usize| u16::try_from(n).map_err(|_| format!("{n} pixels are too many for a JPEG"));
    let (width, height) = (side(canvas.width())?, side(canvas.height())?);
    let encoder = Encoder::new(jpeg, QUALITY);
    encoder.encode(canvas.rgb(), width, height, ColorType::Rgb).map_err(|error: EncodingError| error.to_string())
}
