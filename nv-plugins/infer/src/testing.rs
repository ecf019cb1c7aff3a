//! For the tests of crates that use models: builders of small ONNX files, and selection of rows without a model. Behind the
//! feature `testing`.

use nv_core::Tensor;
use rten_onnx::onnx;

use crate::executor::dimension;
use crate::host::Host;
use crate::{Dim, RowSelection, ScoredRows};

/// Selects rows of the outputs of a batch as a [`Session`](crate::Session) does: for each entry, of each group of rows those
/// whose score is high enough.
///
/// # Errors
/// A sentence, for outputs that are not those of the selection, and for a selection that contradicts itself.
pub fn select_rows(outputs: &[Tensor], selection: &RowSelection) -> Result<Vec<Vec<ScoredRows>>, String> {
    selection.check()?;
    let shapes: Vec<&[usize]> = outputs.iter().map(Tensor::shape).collect();
    let entries = shapes.first().and_then(|shape| shape.first().copied()).unwrap_or(0);
    match selection.misfit(&shapes, entries) {
        Some((output, needed)) => {
            Err(format!("output {output} has the shape {:?}, not {needed:?}", shapes.get(output)))
        }
        None => Ok(Host::new().select_all(selection, outputs, entries)),
    }
}

/// Writes an ONNX file, part by part. Methods take `self` and give it back.
///
/// What is built is encoded faithfully, sound or not: a test of bad input may build a graph that contradicts itself.
pub struct OnnxBuilder {
    proto: onnx::ModelProto,
    graph: onnx::GraphProto,
}

impl OnnxBuilder {
    /// A model of operator set 13 with an empty graph.
    pub fn new() -> Self {
        let opset = onnx::OperatorSetIdProto { domain: Some(String::new()), version: Some(13) };
        let proto = onnx::ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset],
            producer_name: Some("nv-infer".into()),
            ..Default::default()
        };
        Self { proto, graph: onnx::GraphProto::default() }
    }

    /// Has the model use another version of ONNX's operator set.
    pub fn opset(mut self, version: i64) -> Self {
        for set in &mut self.proto.opset_import {
            set.version = Some(version);
        }
        self
    }

    /// Adds a `float` input.
    pub fn input(mut self, name: &str, shape: &[Dim]) -> Self {
        self.graph.input.push(value(name, onnx::DataType::FLOAT, shape));
        self
    }

    /// Adds a `uint8` input.
    pub fn input_u8(mut self, name: &str, shape: &[Dim]) -> Self {
        self.graph.input.push(value(name, onnx::DataType::UINT8, shape));
        self
    }

    /// Adds a `float` output.
    pub fn output(mut self, name: &str, shape: &[Dim]) -> Self {
        self.graph.output.push(value(name, onnx::DataType::FLOAT, shape));
        self
    }

    /// Adds a `float` output of which the file says no shape.
    pub fn output_of_any_shape(mut self, name: &str) -> Self {
        let mut value = value(name, onnx::DataType::FLOAT, &[]);
        if let Some(tensor) = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) {
            tensor.shape = None;
        }
        self.graph.output.push(value);
        self
    }

    /// Adds a `float` tensor with its values: a weight.
    pub fn initializer(mut self, name: &str, shape: &[i64], data: &[f32]) -> Self {
        self.graph.initializer.push(onnx::TensorProto {
            name: Some(name.into()),
            dims: shape.into(),
            data_type: Some(onnx::DataType::FLOAT),
            float_data: data.into(),
            ..Default::default()
        });
        self
    }

    /// Adds an `int64` tensor with its values: a shape, axes, indices.
    pub fn integers(mut self, name: &str, data: &[i64]) -> Self {
        self.graph.initializer.push(onnx::TensorProto {
            name: Some(name.into()),
            dims: vec![data.len() as i64],
            data_type: Some(onnx::DataType::INT64),
            int64_data: data.into(),
            ..Default::default()
        });
        self
    }

    /// Adds an `int64` tensor of one value and no dimensions: a bound, a count.
    pub fn scalar(mut self, name: &str, value: i64) -> Self {
        self.graph.initializer.push(onnx::TensorProto {
            name: Some(name.into()),
            data_type: Some(onnx::DataType::INT64),
            int64_data: vec![value],
            ..Default::default()
        });
        self
    }

    /// Adds a node without attributes, named after its first output.
    pub fn node(mut self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.graph.node.push(onnx::NodeProto {
            name: outputs.first().map(|name| format!("{operator}_{name}")),
            op_type: Some(operator.into()),
            input: inputs.iter().map(|&s| s.into()).collect(),
            output: outputs.iter().map(|&s| s.into()).collect(),
            ..Default::default()
        });
        self
    }

    /// Gives the last node an integer attribute.
    pub fn attribute(mut self, name: &str, value: i64) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(onnx::AttributeProto {
                name: Some(name.into()),
                i: Some(value),
                r#type: Some(onnx::AttributeType::INT),
                ..Default::default()
            });
        }
        self
    }

    /// Gives the last node an attribute that is a number.
    pub fn attribute_float(mut self, name: &str, value: f32) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(onnx::AttributeProto {
                name: Some(name.into()),
                f: Some(value),
                r#type: Some(onnx::AttributeType::FLOAT),
                ..Default::default()
            });
        }
        self
    }

    /// Gives the last node an attribute that is a text.
    pub fn attribute_text(mut self, name: &str, value: &str) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(onnx::AttributeProto {
                name: Some(name.into()),
                s: Some(value.into()),
                r#type: Some(onnx::AttributeType::STRING),
                ..Default::default()
            });
        }
        self
    }

    /// Gives the last node an attribute of several integers.
    pub fn attribute_list(mut self, name: &str, values: &[i64]) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(onnx::AttributeProto {
                name: Some(name.into()),
                ints: values.into(),
                r#type: Some(onnx::AttributeType::INTS),
                ..Default::default()
            });
        }
        self
    }

    /// Gives the last node an attribute of several numbers.
    pub fn attribute_floats(mut self, name: &str, values: &[f32]) -> Self {
        if let Some(node) = self.graph.node.last_mut() {
            node.attribute.push(onnx::AttributeProto {
                name: Some(name.into()),
                floats: values.into(),
                r#type: Some(onnx::AttributeType::FLOATS),
                ..Default::default()
            });
        }
        self
    }

    /// Adds a key-value pair.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        let (key, value) = (Some(key.into()), Some(value.into()));
        self.proto.metadata_props.push(onnx::StringStringEntryProto { key, value });
        self
    }

    /// The file's bytes.
    pub fn build(mut self) -> Vec<u8> {
        self.proto.graph = Some(self.graph);
        self.proto.write_buf().expect("writing to memory does not fail")
    }
}

impl Default for OnnxBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A model of one input and fixed outputs: whatever it is given, it answers with these values. Shapes include the batch.
pub fn constant_model(input: &[Dim], outputs: &[(&str, &[i64], &[f32])]) -> Vec<u8> {
    let mut builder = OnnxBuilder::new().input("input", input);
    for (name, shape, data) in outputs {
        let dims: Vec<Dim> = shape.iter().map(|&n| Dim::Fixed(n as usize)).collect();
        let constant = format!("{name}.value");
        builder =
            builder.initializer(&constant, shape, data).node("Identity", &[&constant], &[name]).output(name, &dims);
    }
    builder.build()
}

/// An image classifier: `input` 1×3×`side`×`side`, `scores` 1×`classes`, each the mean of the picture times the class's
/// number.
pub fn classifier(side: usize, classes: usize) -> Vec<u8> {
    let weights: Vec<f32> = (0..3).flat_map(|_| (0..classes).map(|c| c as f32 / 3.0)).collect();
    OnnxBuilder::new()
        .input("input", &[1.into(), 3.into(), side.into(), side.into()])
        .initializer("weights", &[3, classes as i64], &weights)
        .node("GlobalAveragePool", &["input"], &["pooled"])
        .node("Flatten", &["pooled"], &["flat"])
        .node("MatMul", &["flat", "weights"], &["scores"])
        .output("scores", &[1.into(), classes.into()])
        .build()
}

fn value(name: &str, element: onnx::DataType, shape: &[Dim]) -> onnx::ValueInfoProto {
    let shape = onnx::TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = onnx::TypeProtoTensor { elem_type: Some(element), shape: Some(shape) };
    onnx::ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(onnx::TypeProto { tensor_type: Some(tensor), sequence: None }),
    }
}
