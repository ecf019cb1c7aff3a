use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rten_onnx::onnx;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::InferError;
use crate::wire;

/// An ONNX file that was read and understood, not yet made ready to run: see [`Session`](crate::Session).
///
/// Cheap to clone; clones share the file's bytes.
#[derive(Clone)]
pub struct Model {
    path: PathBuf,
    bytes: Arc<[u8]>,
    facts: Arc<Facts>,
}

/// What the file says of itself.
#[derive(Debug)]
struct Facts {
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
    producer: Option<String>,
    opsets: Vec<Opset>,
    operators: BTreeMap<String, usize>,
    parameters: u64,
}

impl Model {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `NotFound`, `Unreadable`, and those of [`from_bytes`](Self::from_bytes).
    pub fn load(path: impl AsRef<Path>) -> Result<Self, InferError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InferError::NotFound { path: path.into() },
            _ => InferError::Unreadable { path: path.into(), source },
        })?;
        Self::from_bytes(path, bytes)
    }

    /// Reads a file's content; `path` is what errors call it.
    ///
    /// # Errors
    /// `NotOnnx`, `Damaged`, or `Invalid` where the graph has no output, or tensors have no name.
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: impl Into<Arc<[u8]>>) -> Result<Self, InferError> {
        let (path, bytes) = (path.into(), bytes.into());
        let not_onnx = |reason: &str| InferError::NotOnnx { path: path.clone(), reason: reason.into() };
        if bytes.is_empty() {
            return Err(not_onnx("it is empty"));
        }
        wire::check(&bytes).map_err(|e| {
            if e.onnx_so_far {
                let reason = format!("at byte {} of {}, {}: {}", e.offset, bytes.len(), e.message, e.what);
                InferError::Damaged { path: path.clone(), reason }
            } else if is_text(&bytes) {
                not_onnx("it is a text")
            } else {
                not_onnx(&e.what)
            }
        })?;
        let proto = parse(&path, &bytes)?;
        let facts = Facts::read(&proto).map_err(|reason| InferError::Invalid { path: path.clone(), reason })?;
        Ok(Self { path, bytes, facts: Arc::new(facts) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size in bytes.
    pub fn file_size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The SHA-256 of the file in lower-case hexadecimal. Computed anew by each call.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the model takes, in the file's order. Never holds a tensor that the file gives a value to.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.facts.inputs
    }

    /// What the model gives, in the file's order; at least one.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.facts.outputs
    }

    /// The file's own key-value pairs (`metadata_props`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.facts.metadata
    }

    /// The tool that wrote the file, with its version.
    pub fn producer(&self) -> Option<&str> {
        self.facts.producer.as_deref()
    }

    /// The operator sets that the model uses.
    pub fn opsets(&self) -> &[Opset] {
        &self.facts.opsets
    }

    /// How often each operator occurs in the graph, subgraphs not counted. An operator of another domain than ONNX's own
    /// has it in front, as in `"com.microsoft.FusedConv"`.
    pub fn operators(&self) -> &BTreeMap<String, usize> {
        &self.facts.operators
    }

    /// How many values the file gives to tensors: the weights.
    pub fn parameters(&self) -> u64 {
        self.facts.parameters
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path)
            .field("inputs", &self.facts.inputs)
            .field("outputs", &self.facts.outputs)
            .finish_non_exhaustive()
    }
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// The type of its elements.
    pub element: ElementType,
    /// Its dimensions, outermost first; `None` where the file does not say.
    pub shape: Option<Vec<Dim>>,
}

impl TensorInfo {
    /// The dimensions as people write them: `1×3×H×W`, `?` for what is not known.
    pub fn shape_text(&self) -> String {
        match self.shape.as_deref() {
            None => "?".into(),
            Some([]) => "scalar".into(),
            Some(dims) => dims.iter().map(Dim::to_string).collect::<Vec<_>>().join("×"),
        }
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.element, self.shape_text())
    }
}

/// One dimension of an input or output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this many.
    Fixed(usize),
    /// As many as the caller gives, under a name that the file uses; empty where it has none.
    Symbolic(String),
}

impl Dim {
    /// The size, where it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Symbolic(_) => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::Symbolic(name.into())
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbolic(name) if name.is_empty() => f.write_str("?"),
            Self::Symbolic(name) => f.write_str(name),
        }
    }
}

/// A fixed dimension is a number, any other a string.
impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(n) => serializer.serialize_u64(*n as u64),
            Self::Symbolic(name) => serializer.serialize_str(name),
        }
    }
}

/// The type of a tensor's elements, as ONNX names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit floating point.
    Float,
    /// 64-bit floating point.
    Double,
    /// 16-bit floating point.
    Float16,
    /// Unsigned 8-bit integer.
    Uint8,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// True or false.
    Bool,
    /// Any other type, or none given.
    Other,
}

impl ElementType {
    /// The type that ONNX gives this number.
    pub(crate) fn of_number(number: i64) -> Self {
        Self::read(i32::try_from(number).ok().map(onnx::DataType))
    }

    pub(crate) fn read(element: Option<onnx::DataType>) -> Self {
        match element {
            Some(onnx::DataType::FLOAT) => Self::Float,
            Some(onnx::DataType::DOUBLE) => Self::Double,
            Some(onnx::DataType::FLOAT16) => Self::Float16,
            Some(onnx::DataType::UINT8) => Self::Uint8,
            Some(onnx::DataType::INT8) => Self::Int8,
            Some(onnx::DataType::INT32) => Self::Int32,
            Some(onnx::DataType::INT64) => Self::Int64,
            Some(onnx::DataType::BOOL) => Self::Bool,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Float => "float",
            Self::Double => "double",
            Self::Float16 => "float16",
            Self::Uint8 => "uint8",
            Self::Int8 => "int8",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Bool => "bool",
            Self::Other => "other",
        })
    }
}

/// A set of operators, by domain and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opset {
    /// Whose operators; `"ai.onnx"` for ONNX's own.
    pub domain: String,
    /// The set's version.
    pub version: i64,
}

/// Parses bytes that [`wire::check`] has passed.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<onnx::ModelProto, InferError> {
    onnx::ModelProto::parse_buf(bytes).map_err(|e| InferError::Damaged { path: path.into(), reason: e.to_string() })
}

impl Facts {
    fn read(proto: &onnx::ModelProto) -> Result<Self, String> {
        let graph = proto.graph.as_ref().ok_or("it has no graph")?;
        // Up to IR version 3 tensors with a value had to be listed as inputs too.
        let valued: HashSet<_> = graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
        let inputs = graph
            .input
            .iter()
            .filter(|v| !v.name.as_deref().is_some_and(|name| valued.contains(name)))
            .map(|v| tensor_info(v, "input"))
            .collect::<Result<_, _>>()?;
        let outputs: Vec<_> = graph.output.iter().map(|v| tensor_info(v, "output")).collect::<Result<_, _>>()?;
        if outputs.is_empty() {
            return Err("its graph has no output".into());
        }
        let mut operators = BTreeMap::new();
        for node in &graph.node {
            *operators.entry(operator_name(node)).or_default() += 1;
        }
        let metadata = proto
            .metadata_props
            .iter()
            .filter_map(|entry| Some((entry.key.clone()?, entry.value.clone().unwrap_or_default())));
        let parameters = graph
            .initializer
            .iter()
            .map(|t| t.dims.iter().fold(1u64, |n, &d| n.saturating_mul(u64::try_from(d).unwrap_or(0))));
        let opsets = proto.opset_import.iter().map(|set| Opset {
            domain: domain_name(set.domain.as_deref()).into(),
            version: set.version.unwrap_or_default(),
        });
        let producer = [&proto.producer_name, &proto.producer_version]
            .into_iter()
            .filter_map(|part| part.as_deref().filter(|text| !text.is_empty()))
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Self {
            inputs,
            outputs,
            metadata: metadata.collect(),
            producer: Some(producer).filter(|text| !text.is_empty()),
            opsets: opsets.collect(),
            operators,
            parameters: parameters.fold(0, u64::saturating_add),
        })
    }
}

fn tensor_info(value: &onnx::ValueInfoProto, role: &str) -> Result<TensorInfo, String> {
    let name = value.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("an {role} of its graph has no name"))?;
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let shape = tensor.and_then(|t| t.shape.as_ref()).map(|shape| {
        shape.dim.iter().map(|dim| match dim.dim_value.map(usize::try_from) {
            Some(Ok(n)) => Dim::Fixed(n),
            _ => Dim::Symbolic(dim.dim_param.clone().unwrap_or_default()),
        })
    });
    Ok(TensorInfo {
        name,
        element: ElementType::read(tensor.and_then(|t| t.elem_type)),
        shape: shape.map(Iterator::collect),
    })
}

pub(crate) fn operator_name(node: &onnx::NodeProto) -> String {
    let operator = node.op_type.as_deref().unwrap_or("?");
    match domain_name(node.domain.as_deref()) {
        ONNX_DOMAIN => operator.into(),
        domain => format!("{domain}.{operator}"),
    }
}

const ONNX_DOMAIN: &str = "ai.onnx";

/// ONNX's own domain may be written as nothing at all.
fn domain_name(domain: Option<&str>) -> &str {
    domain.filter(|d| !d.is_empty()).unwrap_or(ONNX_DOMAIN)
}

fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(512)];
    head.iter().all(|&b| b >= 0x20 || matches!(b, b'\n' | b'\r' | b'\t'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{OnnxBuilder, classifier};
    use crate::{InferErrorKind, Session, SessionOptions};

    fn kind_and_text(bytes: &[u8]) -> (InferErrorKind, String) {
        let error = Model::from_bytes("m.onnx", bytes).expect_err("these bytes are no model");
        (error.kind(), error.to_string())
    }

    #[test]
    fn bad_files_are_told_apart() {
        fn check(bytes: &[u8], kind: InferErrorKind, text: &str) {
            let (found, message) = kind_and_text(bytes);
            assert_eq!(found, kind, "{message}");
            assert!(message.contains("m.onnx") && message.contains(text), "{message}");
        }
        check(b"", InferErrorKind::NotOnnx, "it is empty");
        check(b"camera,fps\ngate,25\n", InferErrorKind::NotOnnx, "it is a text");
        check(&[0; 64], InferErrorKind::NotOnnx, "not an ONNX model");
        check(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", InferErrorKind::NotOnnx, "not an ONNX model");
        let whole = classifier(8, 4);
        check(&whole[..whole.len() / 2], InferErrorKind::Damaged, "are left");
        let no_output = OnnxBuilder::new().input("x", &[1.into()]).build();
        check(&no_output, InferErrorKind::Invalid, "no output");
        let nameless = OnnxBuilder::new().output("", &[]).build();
        check(&nameless, InferErrorKind::Invalid, "has no name");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.onnx");
        let error = Model::load(&missing).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::NotFound);
        assert!(error.to_string().contains("none.onnx: no such file"), "{error}");
        assert_eq!(Model::load(folder.path()).unwrap_err().kind(), InferErrorKind::Unreadable);
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = classifier(8, 4);
        for end in 0..whole.len() {
            let (kind, text) = kind_and_text(&whole[..end]);
            assert!(matches!(kind, InferErrorKind::NotOnnx | InferErrorKind::Damaged), "{end}: {text}");
        }
    }

    #[test]
    fn tensors_with_values_are_no_inputs() {
        let bytes = OnnxBuilder::new()
            .input("x", &[1.into()])
            .input("w", &[1.into()])
            .initializer("w", &[1], &[2.0])
            .node("Mul", &["x", "w"], &["y"])
            .output("y", &[1.into()])
            .build();
        let model = Model::from_bytes("m.onnx", bytes).unwrap();
        assert_eq!(model.inputs().iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        let bytes = classifier(4, 2);
        let model = Model::from_bytes("m.onnx", bytes.clone()).unwrap();
        assert_eq!(model.sha256().len(), 64);
        assert_eq!(model.file_size(), bytes.len() as u64);
        let mut other = bytes;
        other.extend_from_slice(&[0x30, 1]);
        let other = Model::from_bytes("m.onnx", other).unwrap();
        assert_ne!(model.sha256(), other.sha256());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn changed_bytes_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut bytes = classifier(8, 4);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(model) = Model::from_bytes("m.onnx", bytes) {
                let _ = Session::new(&model, &SessionOptions::default());
            }
        }
    }
}
