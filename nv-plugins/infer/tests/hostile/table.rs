//! A table of files: what must be said of each, in how little memory and how soon.

use std::time::Duration;

use nv_infer::testing::OnnxBuilder;
use rten_onnx::onnx;

use crate::limits::measured;
use crate::walk::{Refusal, walk};

/// What a file may take, and as much again as it has for each of `PER_BYTE`.
const MEMORY: usize = 96 << 20;
const PER_BYTE: usize = 8;
const TIME: Duration = Duration::from_secs(2);

/// Goes through a table of cases and tells of all that failed.
#[derive(Default)]
pub(crate) struct Table {
    failures: Vec<String>,
}

impl Table {
    /// The file is refused, with every one of `parts` in what is said of it.
    pub(crate) fn refused(&mut self, case: &str, file: impl IntoFile, parts: &[&str]) {
        match self.walked(case, &file.into_file()) {
            Ok(_) => self.failures.push(format!("{case}: is taken for a model")),
            Err(Refusal(text)) => self.said(case, &text, parts),
        }
    }

    /// The file is merely unusual: it is analysed, with every one of `parts` in what is shown.
    pub(crate) fn analysed(&mut self, case: &str, file: impl IntoFile, parts: &[&str]) {
        match self.walked(case, &file.into_file()) {
            Ok(text) => self.said(case, &text, parts),
            Err(Refusal(text)) => self.failures.push(format!("{case}: is refused: {text}")),
        }
    }

    /// The file ends in either.
    pub(crate) fn ends(&mut self, case: &str, file: impl IntoFile) {
        let _ = self.walked(case, &file.into_file());
    }

    pub(crate) fn done(self) {
        assert!(self.failures.is_empty(), "{} failures:\n{}", self.failures.len(), self.failures.join("\n"));
    }

    fn walked(&mut self, case: &str, file: &[u8]) -> Result<String, Refusal> {
        let (result, taken) = measured(|| walk(file));
        if taken.bytes > MEMORY + PER_BYTE * file.len() {
            let (mb, of) = (taken.bytes >> 20, file.len());
            self.failures.push(format!("{case}: takes {mb} MiB for a file of {of} bytes"));
        }
        if taken.time > TIME {
            self.failures.push(format!("{case}: takes {:?}", taken.time));
        }
        let text = match &result {
            Ok(text) | Err(Refusal(text)) => text,
        };
        if text.len() > MAX_TEXT + PER_BYTE * file.len() {
            self.failures.push(format!("{case}: has a text of {} bytes", text.len()));
        }
        result
    }

    fn said(&mut self, case: &str, text: &str, parts: &[&str]) {
        for part in parts.iter().filter(|part| !text.contains(**part)) {
            self.failures.push(format!("{case}: no {part:?} in {}", &text[..text.floor_char_boundary(2000)]));
        }
    }
}

/// How long a text may be beyond what a file gives it to say. A list of nodes has its own limit.
const MAX_TEXT: usize = 16 << 20;

/// What a case may be given as.
pub(crate) trait IntoFile {
    fn into_file(self) -> Vec<u8>;
}

impl IntoFile for Vec<u8> {
    fn into_file(self) -> Vec<u8> {
        self
    }
}

impl IntoFile for OnnxBuilder {
    fn into_file(self) -> Vec<u8> {
        self.build()
    }
}

/// A file with something in it that the builder would not write.
pub(crate) fn edited(builder: OnnxBuilder, edit: impl FnOnce(&mut onnx::GraphProto)) -> Vec<u8> {
    let mut proto = onnx::ModelProto::parse_buf(&builder.build()).expect("the builder writes what can be parsed");
    edit(proto.graph.as_mut().expect("the builder writes a graph"));
    proto.write_buf().expect("writing to memory does not fail")
}

/// The input `x` 1×4×8×8.
pub(crate) fn picture() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[1.into(), 4.into(), 8.into(), 8.into()])
}

/// One node from `x` and whatever else `inputs` names to the output `y`.
pub(crate) fn one(builder: OnnxBuilder, operator: &str, inputs: &[&str]) -> OnnxBuilder {
    builder.output_of_any_shape("y").node(operator, inputs, &["y"])
}
