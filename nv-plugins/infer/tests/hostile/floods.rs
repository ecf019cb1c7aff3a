//! Files of very many very small parts: two bytes each in the file, hundreds once they are parsed.

use nv_infer::testing::OnnxBuilder;
use rten_onnx::onnx::{self, DataType, TensorProto};

use crate::table::{Table, edited, one, picture};

/// A field that holds a message or a text.
pub(crate) fn message(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    let mut n = content.len();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes.extend(content);
    bytes
}

/// A model whose graph begins with one more part.
pub(crate) fn with_part(builder: OnnxBuilder, part: &[u8]) -> Vec<u8> {
    let whole = onnx::ModelProto::parse_buf(&builder.build()).expect("what is built can be parsed");
    let graph = onnx::ModelProto { graph: whole.graph, ..Default::default() }.write_buf();
    let graph = graph.expect("writing to memory does not fail");
    // Behind its tag and its length.
    let header = 2 + graph[1..].iter().take_while(|byte| **byte >= 0x80).count();
    let mut file = vec![0x08, 8];
    file.extend(message(8, &[0x10, 13]));
    file.extend(message(7, &[part, &graph[header..]].concat()));
    file
}

/// `n` times `part`, before what makes a graph of it.
fn flood(part: &[u8], n: usize) -> Vec<u8> {
    with_part(one(picture(), "Relu", &["x"]), &part.repeat(n))
}

#[test]
fn floods_of_empty_parts_are_refused_or_small() {
    let mut table = Table::default();
    const NODE: u8 = 1;
    const INITIALIZER: u8 = 5;
    const INPUT: u8 = 11;
    const VALUE_INFO: u8 = 13;
    for n in [1000, 100_000, 1_000_000] {
        for (what, field) in [("nodes", NODE), ("tensors", INITIALIZER), ("inputs", INPUT), ("values", VALUE_INFO)] {
            table.ends(&format!("{n} empty {what}"), flood(&message(field, &[]), n));
        }
        let nested = |fields: &[u8], parts: usize| {
            let mut part = message(fields[fields.len() - 1], &[]).repeat(parts);
            for field in fields.iter().rev().skip(1) {
                part = message(*field, &part);
            }
            part
        };
        table.ends(&format!("{n} nodes of an empty attribute"), flood(&nested(&[NODE, 5], 1), n));
        table.ends(&format!("{n} empty attributes"), flood(&nested(&[NODE, 5], n), 1));
        table.ends(&format!("{n} empty inputs of a node"), flood(&nested(&[NODE, 1], n), 1));
        table.ends(&format!("{n} empty outputs of a node"), flood(&nested(&[NODE, 2], n), 1));
        table.ends(&format!("{n} empty dimensions"), flood(&nested(&[INPUT, 2, 1, 2, 1], n), 1));
        table.ends(&format!("{n} empty texts"), flood(&nested(&[NODE, 5, 9], n), 1));
        table.ends(&format!("{n} empty graphs"), flood(&nested(&[NODE, 5, 6], 1), n));
    }
    let mut sets = vec![0x08, 8];
    sets.extend(message(8, &[]).repeat(2_000_000));
    sets.extend(message(7, &[]));
    table.ends("two million operator sets", sets);
    let mut pairs = one(picture(), "Relu", &["x"]).build();
    pairs.extend(message(14, &message(1, b"k")).repeat(1_000_000));
    table.ends("a million pairs", pairs);
    table.done();
}

#[test]
fn floods_of_numbers_are_small() {
    let mut table = Table::default();
    let weights = |tensor: TensorProto| {
        edited(one(picture(), "Add", &["x", "w"]), |graph| {
            graph.initializer.push(TensorProto { name: Some("w".into()), ..tensor });
        })
    };
    let n = 4_000_000;
    let ints = TensorProto { dims: vec![n as i64], data_type: Some(DataType::INT64), ..Default::default() };
    table.ends("numbers of a byte", weights(TensorProto { int64_data: vec![1; n], ..ints.clone() }));
    let small = TensorProto { data_type: Some(DataType::INT32), int32_data: vec![1; n], ..ints.clone() };
    table.ends("short numbers of a byte", weights(small));
    let floats = TensorProto { data_type: Some(DataType::FLOAT), float_data: vec![1.0; n], ..ints };
    table.ends("floats", weights(floats));
    let list = one(picture(), "Relu", &["x"]).attribute_list("strides", &vec![1; 1_000_000]);
    table.ends("a list of a million", list);
    table.done();
}

/// A small file whose values all have every dimension that they may have, fixed ones or open ones.
#[test]
fn many_values_of_many_dimensions_are_small() {
    let mut table = Table::default();
    for open in [false, true] {
        let dims: Vec<nv_infer::Dim> =
            (1..=16).map(|d| if open { format!("d{d}").as_str().into() } else { d.into() }).collect();
        let mut builder = OnnxBuilder::new().input("v0", &dims).integers("t", &[2; 16]);
        for i in 0..16_000 {
            let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
            let inputs = if i % 1000 == 5 { vec![from.as_str(), "t"] } else { vec![from.as_str()] };
            builder = builder.node(if inputs.len() == 2 { "Tile" } else { "Relu" }, &inputs, &[&to]);
        }
        table.ends("sixteen dimensions", builder.output_of_any_shape("v16000"));
        let mut wide = OnnxBuilder::new();
        for i in 0..60_000 {
            wide = wide.input(&format!("v{i}"), &dims[..4]);
        }
        table.ends("sixty thousand inputs", one(wide, "Relu", &["v0"]));
        // Every open dimension of its own name, which the file does not spell out.
        let unnamed: Vec<nv_infer::Dim> = vec!["".into(); 16];
        let mut wide = OnnxBuilder::new();
        for i in 0..60_000 {
            wide = wide.input(&format!("v{i}"), &unnamed);
        }
        table.ends("a million open dimensions", one(wide, "Relu", &["v0"]));
    }
    table.done();
}
