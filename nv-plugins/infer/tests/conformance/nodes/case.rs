//! One of ONNX's backend node tests: a model of one operator, or of the few that an operator is a shorthand for, with what
//! it must give for some inputs.

use std::collections::BTreeSet;
use std::path::Path;

use rten_onnx::onnx::{DataType, ModelProto, TensorProto};
use rten_onnx::protobuf::{DecodeMessage, ValueReader};

use super::values::TYPES;

/// The operators that our executors must have.
const OPERATORS: &str = "
    Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization InstanceNormalization Gemm
    MatMul Softmax Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Gelu Erf Exp Log Sqrt Pow Abs Neg Floor
    Ceil Add Sub Mul Div Min Max ReduceMean ReduceSum ReduceMax Concat Split Slice Gather Pad Resize Upsample Reshape Flatten
    Transpose Squeeze Unsqueeze Shape Constant ConstantOfShape Cast Range Expand Tile Where Equal Less LessOrEqual Greater
    GreaterOrEqual And Or Xor Not Identity Dropout DepthToSpace SpaceToDepth ArgMax TopK NonMaxSuppression
";

pub(super) struct Case {
    pub(super) name: String,
    /// The operators in its graph.
    pub(super) operators: BTreeSet<String>,
    pub(super) sets: Vec<DataSet>,
    file: Vec<u8>,
}

/// Inputs in the graph's order, and what the model must give for them.
pub(super) struct DataSet {
    pub(super) inputs: Vec<TensorProto>,
    pub(super) outputs: Vec<TensorProto>,
}

impl Case {
    /// The case in `folder`; `None` for one with an operator, or a type of elements, that is not among ours.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let read = |file: &Path| std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = folder.file_name()?.to_string_lossy().into_owned();
        let file = read(&folder.join("model.onnx"));
        let model = parse(&name, &file);
        let operators = operators(&model);
        let are_ours = operators.iter().all(|op| OPERATORS.split_whitespace().any(|ours| ours == op));
        if !are_ours || !types_are_ours(&model) {
            return None;
        }
        let tensors = |folder: &Path, kind: &str| -> Vec<TensorProto> {
            let files = (0..).map(|i| folder.join(format!("{kind}_{i}.pb"))).take_while(|file| file.is_file());
            let parse = |file: &Path| {
                TensorProto::decode(ValueReader::from_buf(read(file).as_slice()))
                    .unwrap_or_else(|e| panic!("{} can't be parsed: {e}", file.display()))
            };
            files.map(|file| parse(&file)).collect()
        };
        let folders = (0..).map(|i| folder.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir());
        let sets = folders.map(|set| DataSet { inputs: tensors(&set, "input"), outputs: tensors(&set, "output") });
        let sets = sets.collect();
        Some(Self { name, operators, sets, file })
    }

    /// Its model.
    pub(super) fn model(&self) -> ModelProto {
        parse(&self.name, &self.file)
    }
}

fn parse(name: &str, file: &[u8]) -> ModelProto {
    ModelProto::parse_buf(file).unwrap_or_else(|error| panic!("{name}: its model can't be parsed: {error}"))
}

/// Those of another domain than ONNX's own have it in front.
fn operators(model: &ModelProto) -> BTreeSet<String> {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    nodes
        .map(|node| {
            let name = node.op_type.as_deref().unwrap_or_default();
            match node.domain.as_deref() {
                None | Some("" | "ai.onnx") => name.into(),
                Some(domain) => format!("{domain}.{name}"),
            }
        })
        .collect()
}

/// Whether inputs, outputs, constants and casts are of the types that are ours.
fn types_are_ours(model: &ModelProto) -> bool {
    let Some(graph) = &model.graph else { return false };
    let declared =
        graph.input.iter().chain(&graph.output).map(|value| value.r#type.as_ref()?.tensor_type.as_ref()?.elem_type);
    let attributes =
        graph.node.iter().flat_map(|node| node.attribute.iter().map(move |a| (node.op_type.as_deref(), a)));
    let literal = attributes.filter_map(|(operator, attribute)| match (operator, attribute.name.as_deref()) {
        (Some("Cast"), Some("to")) => Some(attribute.i.and_then(|i| i32::try_from(i).ok()).map(DataType)),
        _ => attribute.t.as_ref().map(|tensor| tensor.data_type),
    });
    declared.chain(literal).all(|element| element.is_some_and(|element| TYPES.contains(&element)))
}
