//! Whole models against onnxruntime.

use std::path::Path;

use nv_core::Tensor;
use nv_infer::Batching;
use serde_json::Value;

use crate::engines::engines;
use crate::{announce, data};

/// How far an output may be from the reference: the largest difference over the largest value.
const TOLERANCE: f64 = 1e-4;
/// What differences of some outputs may amount to whatever the largest value is: the outputs of these models whose names begin
/// so. onnxruntime's logistic function is a rational approximation that is off by up to 1.3e-7 on these (against one of 64 bits
/// of its own logits). Where all of an output are probabilities near zero, that is more than `TOLERANCE` of the largest: of
/// YuNet's `obj_32` on noise, whose largest is 6.0e-4, it is 1.6e-4, and our own difference is that one.
const REFERENCE_ERRORS: [(&str, &str, f64); 1] = [("yunet_s_dynamic", "obj_", 1e-7)];

/// How far an output may be from the reference whose largest value is `largest`.
fn allowed(model: &str, output: &str, largest: f64) -> f64 {
    let mut errors = REFERENCE_ERRORS.iter().filter(|(of, prefix, _)| *of == model && output.starts_with(prefix));
    TOLERANCE * largest + errors.next().map_or(0.0, |(_, _, error)| *error)
}

#[test]
fn whole_models_give_what_onnxruntime_gives() {
    let test = "whole_models_give_what_onnxruntime_gives";
    let models = data::models(test);
    if models.is_empty() {
        return;
    }
    let Some(folder) = data::folder("NV_REFERENCE_OUTPUTS", test) else { return };
    let text = std::fs::read_to_string(folder.join("cases.json")).expect("the folder has its list");
    let reference: Value = serde_json::from_str(&text).expect("the list is JSON");
    for subject in engines(test) {
        for (name, model) in &models {
            let session = subject.session(model, Batching::Entries).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut cases = 0;
            for case in list(&reference, "cases").filter(|case| case["model"] == *name) {
                let input = tensor(&folder, &case["input"]);
                let context = format!("{name} on {}, {} of {:?}", subject.device, case["content"], input.shape());
                let outputs = subject.run(&session, &[input]).unwrap_or_else(|error| panic!("{context}: {error}"));
                let expected: Vec<_> = list(case, "outputs").map(|output| tensor(&folder, output)).collect();
                assert_eq!(outputs.len(), expected.len(), "{context}");
                let mut worst = 0.0;
                for ((found, expected), info) in outputs.iter().zip(&expected).zip(session.outputs()) {
                    assert_eq!(found.shape(), expected.shape(), "{context}: {info}");
                    let (difference, size) = (largest_difference(found, expected), largest(expected));
                    // Not a number is not close to anything.
                    let close = difference <= allowed(name, &info.name, size);
                    assert!(close, "{context}: {info}: off by {difference:e} of {size:e}");
                    worst = f64::max(worst, difference / size);
                }
                announce(&format!("{context}: off by {worst:.1e}"));
                cases += 1;
            }
            assert!(cases >= 2, "{name}: {cases} reference cases");
        }
    }
}

/// max|a − b|; NaN where either has one.
fn largest_difference(found: &Tensor, expected: &Tensor) -> f64 {
    let pairs = found.data().iter().zip(expected.data());
    magnitude(pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)))
}

/// max|b|; NaN where it has one.
fn largest(expected: &Tensor) -> f64 {
    magnitude(expected.data().iter().map(|&b| f64::from(b)))
}

fn magnitude(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |most: f64, v| if v.is_nan() || most.is_nan() { f64::NAN } else { most.max(v.abs()) })
}

fn tensor(folder: &Path, entry: &Value) -> Tensor {
    let file = folder.join(entry["file"].as_str().expect("a file"));
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let data = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let shape = list(entry, "shape").map(|n| n.as_u64().expect("a size") as usize).collect::<Vec<_>>();
    Tensor::new(shape, data).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key:?}")).iter()
}

#[test]
fn a_difference_is_the_largest_one_and_nan_is_no_number() {
    fn check(found: &[f32], expected: &[f32], difference: f64, size: f64) {
        let [found, expected] = [found, expected].map(|v| Tensor::new([v.len()], v.to_vec()).unwrap());
        let measured = [largest_difference(&found, &expected), largest(&expected)];
        for (measured, expected) in measured.into_iter().zip([difference, size]) {
            assert!(measured == expected || measured.is_nan() && expected.is_nan(), "{measured} for {expected}");
        }
    }
    check(&[1.0, 2.0], &[1.0, 2.0], 0.0, 2.0);
    check(&[1.0, 2.0], &[1.5, -2.5], 4.5, 2.5);
    check(&[f32::INFINITY], &[0.25], f64::INFINITY, 0.25);
    check(&[f32::NAN, 9.0], &[1.0, 1.0], f64::NAN, 1.0);
    check(&[1.0, 1.0], &[1.0, f32::NAN], f64::NAN, f64::NAN);
}
