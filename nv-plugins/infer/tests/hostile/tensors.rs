//! Tensors that are not what they say.

use nv_infer::testing::OnnxBuilder;
use rten_onnx::onnx::{DataLocation, DataType, StringStringEntryProto, TensorProto};

use crate::table::{Table, edited, one, picture};

/// `x` plus a tensor.
fn plus(tensor: TensorProto) -> Vec<u8> {
    edited(one(picture(), "Add", &["x", "w"]), |graph| graph.initializer.push(tensor))
}

fn tensor(dims: &[i64], data_type: DataType) -> TensorProto {
    TensorProto { name: Some("w".into()), dims: dims.into(), data_type: Some(data_type), ..Default::default() }
}

#[test]
fn tensors_that_are_not_what_they_declare() {
    let mut table = Table::default();
    let float = |dims: &[i64]| tensor(dims, DataType::FLOAT);
    table.refused(
        "10 GB in a small file",
        plus(float(&[50_000, 50_000])),
        &["tensor \"w\"", "2500000000 values, 0 are"],
    );
    table.refused("a negative size", plus(float(&[4, -1])), &["tensor \"w\"", "[4, -1]"]);
    table.refused(
        "beyond counting",
        plus(float(&[i64::MAX; 3])),
        &["tensor \"w\"", "more elements than can be counted"],
    );
    table.refused("a thousand dimensions", plus(float(&[1; 1000])), &["it has 1000 dimensions; 16 are the most"]);
    let one_value = |dims: &[i64]| TensorProto { float_data: vec![1.0], ..float(dims) };
    table.refused("a value for two", plus(one_value(&[2])), &["calls for 2 values, 1 are there"]);
    table.refused("a value for none", plus(one_value(&[0])), &["calls for 0 values, 1 are there"]);
    table.analysed("a scalar", plus(one_value(&[])), &["Add 1"]);
    let raw = |bytes: usize| TensorProto { raw_data: Some(vec![0; bytes].into()), ..float(&[1]) };
    table.refused("half a value", plus(raw(6)), &["it has 6 bytes, and 4 for each value"]);
    table.refused("two values", plus(raw(8)), &["calls for 1 values, 2 are there"]);
    let other = TensorProto { int64_data: vec![1], ..float(&[1]) };
    table.refused("values of another type", plus(other), &["float, but its values are in int64_data"]);
    table.ends("ten thousand million texts", plus(tensor(&[1 << 40], DataType::STRING)));
    let unheard = TensorProto { data_type: Some(DataType(77)), ..float(&[1 << 40]) };
    table.ends("a type that is not there", plus(unheard));
    let elsewhere = |file: &str| TensorProto {
        data_location: Some(DataLocation::EXTERNAL),
        external_data: vec![StringStringEntryProto { key: Some("location".into()), value: Some(file.into()) }],
        ..float(&[50_000, 50_000])
    };
    for file in ["../../../../etc/passwd", "/dev/zero", "weights.bin"] {
        table.refused("values elsewhere", plus(elsewhere(file)), &["tensor \"w\"", "in another file", file]);
    }
    table.done();
}

#[test]
fn declared_shapes() {
    let mut table = Table::default();
    let x = |dims: &[usize]| {
        let dims: Vec<_> = dims.iter().map(|&d| d.into()).collect();
        one(OnnxBuilder::new().input("x", &dims), "Relu", &["x"])
    };
    table.analysed("an input of 10 GB", x(&[1, 50_000, 50_000]), &["1×50000×50000 takes 10000000000 bytes"]);
    table.analysed("an input beyond counting", x(&[1, 1 << 62, 1 << 62]), &["unknown"]);
    table.refused("an input of a hundred dimensions", x(&[1; 100]), &["\"x\" is declared with 100 dimensions"]);
    let negative = edited(x(&[1, 2]), |graph| {
        let tensor = graph.input[0].r#type.as_mut().and_then(|t| t.tensor_type.as_mut()).expect("a tensor");
        tensor.shape.as_mut().expect("a shape").dim[1].dim_value = Some(-5);
    });
    table.analysed("an input of less than nothing", negative, &["input       x float 1×?"]);
    table.analysed("an input of nothing", x(&[1, 0]), &["x float"]);
    let untyped = edited(x(&[1]), |graph| graph.input[0].r#type = None);
    table.analysed("an input of no type", untyped, &["input       x other ?"]);
    // What is declared of a value that is computed is not believed.
    let lie = one(picture(), "Relu", &["x"]).output("y", &[1.into(), 100_000.into(), 100_000.into()]);
    table.analysed("an output of another shape", lie, &["y float N×4×8×8"]);
    // The target is known to nobody before the model runs.
    let target = OnnxBuilder::new().input("x", &[1.into(), 4.into()]).input("t", &[2.into()]);
    let target = target.node("Cast", &["t"], &["shape"]).attribute("to", 7);
    let file = target.node("Reshape", &["x", "shape"], &["y"]).output("y", &[100_000.into(), 100_000.into()]);
    table.analysed("a shape that is given", file, &["y float of unknown shape"]);
    table.done();
}

/// Weights that many convolutions share, each of which folds something of its own into them.
#[test]
fn shared_weights_are_not_multiplied() {
    let mut table = Table::default();
    let channels = 256;
    let x = OnnxBuilder::new().input("x", &[1.into(), 256.into(), 4.into(), 4.into()]);
    let mut builder = x.initializer("w", &[channels, 256, 3, 3], &vec![0.01; 256 * 256 * 9]);
    for name in ["s", "b", "m", "v"] {
        builder = builder.initializer(name, &[channels], &[1.0; 256]);
    }
    for i in 0..1000 {
        let [conv, norm] = [format!("c{i}"), format!("n{i}")];
        builder = builder.node("Conv", &["x", "w"], &[&conv]).attribute_list("pads", &[1; 4]);
        builder = builder.node("BatchNormalization", &[&conv, "s", "b", "m", "v"], &[&norm]).output_of_any_shape(&norm);
    }
    table.analysed("a thousand convolutions", builder, &["BatchNormalization folded", "Conv 1000, BatchNormalization"]);
    let x = OnnxBuilder::new().input("x", &[1.into(), 1.into(), 4.into()]);
    let mut builder = x.initializer("w", &[1_000_000, 1, 1], &vec![0.01; 1_000_000]).initializer("b", &[], &[1.0]);
    for i in 0..4000 {
        let [conv, sum] = [format!("c{i}"), format!("s{i}")];
        builder = builder.node("Conv", &["x", "w"], &[&conv]).node("Add", &[&conv, "b"], &[&sum]);
        builder = builder.output_of_any_shape(&sum);
    }
    table.analysed("four thousand sums of a million", builder, &["bias added by the convolution"]);
    table.done();
}
