use std::sync::Arc;

use nv_perception::{Output, OutputSink, SinkError, SinkErrorKind};

use super::lines::LineWriter;

/// Writes a line of `nv.output/1` for each output.
pub(super) struct JsonlSink {
    lines: Arc<LineWriter>,
    line: Vec<u8>,
}

impl JsonlSink {
    pub(super) fn new(lines: Arc<LineWriter>) -> Self {
        Self { lines, line: Vec::new() }
    }
}

impl OutputSink for JsonlSink {
    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, output).map_err(|error| {
            SinkError::new(SinkErrorKind::Transient, format!("frame {}: {error}", output.frame.seq()))
        })?;
        self.line.push(b'\n');
        self.lines.write(&self.line)
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.lines.flush()
    }
}
