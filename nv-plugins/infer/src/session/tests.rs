use nv_core::Tensor;

use super::*;
use crate::InferErrorKind;
use crate::testing::{OnnxBuilder, classifier, constant_model};

fn session(bytes: Vec<u8>) -> Session {
    Session::new(&Model::from_bytes("m.onnx", bytes).unwrap(), &SessionOptions::default()).unwrap()
}

/// Values that don't add up to round numbers, so that another order of summation shows.
fn picture(entries: usize, side: usize) -> Tensor {
    let data = (0..entries * 3 * side * side).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::new([entries, 3, side, side], data).unwrap()
}

fn entry(batch: &Tensor, i: usize) -> Tensor {
    let shape = [&[1], &batch.shape()[1..]].concat();
    Tensor::new(shape, batch.outer(i).unwrap().to_vec()).unwrap()
}

#[test]
fn a_batch_is_bit_for_bit_its_entries() {
    fn check(batch: Dim) {
        let bytes = OnnxBuilder::new()
            .input("x", &[batch.clone(), 3.into(), 8.into(), 8.into()])
            .initializer("w", &[5, 3, 3, 3], &(0..135).map(|i| (i as f32).cos()).collect::<Vec<_>>())
            .node("Conv", &["x", "w"], &["h"])
            // Optional in ONNX; exporters write it and the executor relies on it.
            .attribute_list("kernel_shape", &[3, 3])
            .node("Sigmoid", &["h"], &["y"])
            .node("GlobalAveragePool", &["y"], &["z"])
            .output("y", &[batch.clone(), 5.into(), 6.into(), 6.into()])
            .output("z", &[batch.clone(), 5.into(), 1.into(), 1.into()])
            .build();
        let session = session(bytes);
        for n in 1..=5 {
            let input = picture(n, 8);
            let outputs = session.run(std::slice::from_ref(&input)).unwrap();
            assert_eq!(outputs[0].shape(), [n, 5, 6, 6], "{batch}");
            for i in 0..n {
                let single = session.run(&[entry(&input, i)]).unwrap();
                for (all, one) in outputs.iter().zip(&single) {
                    assert_eq!(all.outer(i).unwrap(), one.data(), "{batch}: entry {i} of {n}");
                }
            }
        }
    }
    check(1.into());
    check("batch".into());
    check(2.into());
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let session = session(classifier(8, 4));
    let check = |inputs: &[Tensor], expected: &str| {
        let error = session.run(inputs).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
        assert!(error.to_string().ends_with(expected), "{error}");
    };
    check(&[], "has 1 inputs, 0 were given");
    check(&[picture(1, 9)], "input \"input\" has the shape 1×3×9×9, 1×3×8×8 is needed");
    check(&[Tensor::zeros([3, 8, 8])], "has the shape 3×8×8, 1×3×8×8 is needed");
    check(&[Tensor::zeros([0, 3, 8, 8])], "at least one entry is needed");
}

#[test]
fn an_open_or_overridden_size_takes_any() {
    // The declared 10×3×32×32 says less than the graph can do.
    let bytes = OnnxBuilder::new()
        .input("x", &[10.into(), 3.into(), 32.into(), 32.into()])
        .node("Relu", &["x"], &["y"])
        .output("y", &[10.into(), 3.into(), 32.into(), 32.into()])
        .build();
    let model = Model::from_bytes("m.onnx", bytes).unwrap();
    let mut options = SessionOptions::default();
    let open = vec!["n".into(), 3.into(), "h".into(), "w".into()];
    options.input_shapes.insert("x".into(), open);
    let session = Session::new(&model, &options).unwrap();
    assert_eq!(session.outputs()[0].shape_text(), "?×?×?×?");
    let outputs = session.run(&[Tensor::zeros([2, 3, 5, 7])]).unwrap();
    assert_eq!(outputs[0].shape(), [2, 3, 5, 7]);

    for (name, shape) in [("x", vec![1.into()]), ("y", vec![1.into()])] {
        let mut options = SessionOptions::default();
        options.input_shapes.insert(name.into(), shape);
        let error = Session::new(&model, &options).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::ShapeMismatch, "{error}");
    }
}

#[test]
fn integer_inputs_are_rounded_and_saturate() {
    let bytes = OnnxBuilder::new()
        .input_u8("x", &[1.into(), 4.into()])
        .node("Identity", &["x"], &["y"])
        .output("y", &[1.into(), 4.into()])
        .build();
    let input = Tensor::new([1, 4], vec![-3.0, 2.6, 254.5, 900.0]).unwrap();
    assert_eq!(session(bytes).run(&[input]).unwrap()[0].data(), [0.0, 3.0, 254.0, 255.0]);
}

#[test]
fn an_unknown_operator_is_named_with_its_node() {
    let bytes =
        OnnxBuilder::new().input("x", &[1.into()]).node("Frobnicate", &["x"], &["y"]).output("y", &[1.into()]).build();
    let model = Model::from_bytes("m.onnx", bytes).unwrap();
    let error = Session::new(&model, &SessionOptions::default()).unwrap_err();
    assert_eq!(error.kind(), InferErrorKind::UnsupportedOperator);
    let text = error.to_string();
    assert!(text.contains("operator Frobnicate (node \"Frobnicate_y\")"), "{text}");
}

#[test]
fn a_gpu_is_not_pretended() {
    let model = Model::from_bytes("m.onnx", classifier(8, 4)).unwrap();
    for device in [Device::Gpu, Device::Software] {
        let options = SessionOptions { device, ..SessionOptions::default() };
        match Session::new(&model, &options) {
            Ok(session) => assert_eq!((session.device(), session.engine()), (device, Engine::Gpu)),
            Err(error) => {
                assert_eq!(error.kind(), InferErrorKind::NoDevice);
                let text = error.to_string();
                assert!(text.contains(&format!("device {device} was demanded, but there is no")), "{text}");
                assert!(text.contains("use auto or cpu") || text.contains("or use auto"), "{text}");
            }
        }
    }
}

/// Of numbers as many as the caller likes it makes all products, and then something that only the fall-back knows.
#[test]
fn what_inputs_of_open_size_would_take_is_seen_before_the_run() {
    let bytes = OnnxBuilder::new()
        .input("x", &["n".into(), 1.into()])
        .node("Transpose", &["x"], &["t"])
        .node("MatMul", &["x", "t"], &["p"])
        .node("Sign", &["p"], &["s"])
        .output_of_any_shape("s")
        .build();
    let model = Model::from_bytes("m.onnx", bytes).unwrap();
    let options = SessionOptions { memory_limit: 1 << 20, batching: Batching::Whole, ..SessionOptions::default() };
    let session = Session::new(&model, &options).unwrap();
    assert_eq!(session.engine(), Engine::Rten);
    for n in [100, 300, 1000, 100] {
        match session.run(&[Tensor::zeros([n, 1])]) {
            Ok(outputs) => assert_eq!((n <= 300, outputs[0].shape()), (true, &[n, n][..])),
            Err(error) => assert_eq!((n, error.kind()), (1000, InferErrorKind::TooLarge), "{error}"),
        }
    }
}

#[test]
fn a_graph_that_fails_when_run_is_an_error() {
    let bytes = OnnxBuilder::new()
        .input("x", &["n".into(), "c".into()])
        .integers("shape", &[7, 11])
        .node("Reshape", &["x", "shape"], &["y"])
        .output("y", &[7.into(), 11.into()])
        .build();
    let error = session(bytes).run(&[Tensor::zeros([1, 3])]).unwrap_err();
    assert_eq!(error.kind(), InferErrorKind::Run);
    assert!(error.to_string().contains("Reshape"), "{error}");
}

#[test]
fn a_whole_graph_is_computed_as_declared() {
    // The mean over what would else be the batch, and an input that has no batch.
    let bytes = OnnxBuilder::new()
        .input("x", &[3.into(), "w".into()])
        .input("scale", &[])
        .node("ReduceMean", &["x"], &["mean"])
        .attribute_list("axes", &[0])
        .attribute("keepdims", 0)
        .node("Mul", &["mean", "scale"], &["y"])
        .node("ReduceMean", &["y"], &["z"])
        .attribute("keepdims", 0)
        .output("y", &["w".into()])
        .output("z", &[])
        .build();
    let model = Model::from_bytes("m.onnx", bytes).unwrap();
    let options = SessionOptions { batching: Batching::Whole, ..SessionOptions::default() };
    let session = Session::new(&model, &options).unwrap();
    assert_eq!(session.preferred_batch(), 1);
    let tensor = |shape: &[usize], data: &[f32]| Tensor::new(shape, data.to_vec()).unwrap();
    let (x, scale) = (tensor(&[3, 2], &[1., 2., 3., 4., 8., 9.]), tensor(&[], &[10.0]));
    let outputs = session.run(&[x.clone(), scale.clone()]).unwrap();
    assert_eq!(outputs, [tensor(&[2], &[40.0, 50.0]), tensor(&[], &[45.0])]);

    let check = |inputs: &[Tensor], expected: &str| {
        let error = session.run(inputs).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
        assert!(error.to_string().ends_with(expected), "{error}");
    };
    check(std::slice::from_ref(&x), "has 2 inputs, 1 were given");
    check(&[tensor(&[1, 2], &[0.0; 2]), scale], "input \"x\" has the shape 1×2, 3×w is needed");
    check(&[x, tensor(&[1], &[0.0])], "input \"scale\" has the shape 1, scalar is needed");
}

#[test]
fn an_output_without_a_batch_can_not_be_split() {
    let session = session(constant_model(&[1.into(), 2.into()], &[("y", &[3], &[1., 2., 3.])]));
    assert_eq!(session.run(&[Tensor::zeros([1, 2])]).unwrap()[0].data(), [1., 2., 3.]);
    let error = session.run(&[Tensor::zeros([2, 2])]).unwrap_err();
    assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
    assert!(error.to_string().contains("output \"y\" has the shape 3"), "{error}");
}
