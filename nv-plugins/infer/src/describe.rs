use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::text::printable;
use crate::{Model, Opset, TensorInfo};

/// All that a model's file says of itself, to be shown or serialised. `Display` gives several lines for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelDescription {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub file_size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// The tool that wrote it.
    pub producer: Option<String>,
    /// The operator sets it uses.
    pub opsets: Vec<Opset>,
    /// What it takes.
    pub inputs: Vec<TensorInfo>,
    /// What it gives.
    pub outputs: Vec<TensorInfo>,
    /// How often each operator occurs.
    pub operators: BTreeMap<String, usize>,
    /// How many weights it has.
    pub parameters: u64,
    /// The file's own key-value pairs.
    pub metadata: BTreeMap<String, String>,
}

impl Model {
    /// All that the file says of itself.
    pub fn describe(&self) -> ModelDescription {
        ModelDescription {
            path: self.path().into(),
            file_size: self.file_size(),
            sha256: self.sha256(),
            producer: self.producer().map(Into::into),
            opsets: self.opsets().into(),
            inputs: self.inputs().into(),
            outputs: self.outputs().into(),
            operators: self.operators().clone(),
            parameters: self.parameters(),
            metadata: self.metadata().clone(),
        }
    }
}

impl fmt::Display for ModelDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "file        {} ({} bytes)", self.path.display(), self.file_size)?;
        writeln!(f, "sha256      {}", self.sha256)?;
        writeln!(f, "producer    {}", printable(self.producer.as_deref().unwrap_or("not given")))?;
        let opsets: Vec<_> = self.opsets.iter().map(|s| format!("{} {}", printable(&s.domain), s.version)).collect();
        writeln!(f, "opset       {}", opsets.join(", "))?;
        writeln!(f, "parameters  {}", self.parameters)?;
        for (role, tensors) in [("input", &self.inputs), ("output", &self.outputs)] {
            for tensor in tensors {
                writeln!(f, "{role:<11} {}", printable(&tensor.to_string()))?;
            }
        }
        let mut operators: Vec<_> = self.operators.iter().collect();
        operators.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let operators: Vec<_> = operators.iter().map(|(name, n)| format!("{} {n}", printable(name))).collect();
        writeln!(f, "operators   {}", operators.join(", "))?;
        for (key, value) in &self.metadata {
            writeln!(f, "metadata    {} = {}", printable(key), printable(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Model;
    use crate::testing::OnnxBuilder;

    #[test]
    fn a_file_sends_no_commands_to_a_terminal() {
        let clear = "\u{1b}[2J";
        let bytes = OnnxBuilder::new()
            .input(clear, &[clear.into()])
            .node("Relu", &[clear], &["y"])
            .node(clear, &["y"], &["z"])
            .output("z", &[])
            .metadata(clear, "one\ntwo")
            .build();
        let model = Model::from_bytes("m.onnx", bytes).unwrap();
        let report = model.analyse(&crate::GraphOptions { nodes: true, ..Default::default() }).unwrap();
        let text = format!("{}{report}", model.describe());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("metadata    \\u{1b}[2J = one\\ntwo"), "{text}");
    }

    #[test]
    fn a_description_has_all_that_the_file_says() {
        let bytes = OnnxBuilder::new()
            .input("x", &["batch".into(), 2.into()])
            .initializer("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0])
            .node("MatMul", &["x", "w"], &["h"])
            .node("Relu", &["h"], &["h2"])
            .node("Relu", &["h2"], &["y"])
            .output("y", &["batch".into(), 2.into()])
            .metadata("names", "a,b")
            .build();
        let size = bytes.len();
        let model = Model::from_bytes("small.onnx", bytes).unwrap();
        let description = model.describe();
        assert_eq!(description.parameters, 4);
        assert_eq!(description.operators["Relu"], 2);
        assert_eq!(description.metadata["names"], "a,b");
        let text = description.to_string();
        for line in [
            format!("file        small.onnx ({size} bytes)"),
            "opset       ai.onnx 13".into(),
            "input       x float batch×2".into(),
            "output      y float batch×2".into(),
            "operators   Relu 2, MatMul 1".into(),
            "metadata    names = a,b".into(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
        }
        let json = serde_json::to_value(&description).unwrap();
        assert_eq!(json["inputs"][0]["shape"], serde_json::json!(["batch", 2]));
        assert_eq!(json["inputs"][0]["element"], "float");
    }
}
