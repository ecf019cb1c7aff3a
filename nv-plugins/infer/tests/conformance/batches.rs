//! That entries of a batch have nothing to do with each other.

use nv_core::Tensor;
use nv_infer::{Batching, TensorInfo};

use crate::data;
use crate::engines::engines;

/// Where a model leaves a side open, the picture's: a multiple of 32, which YuNet asks for.
const SIDE: usize = 96;

/// Batch n is n × batch 1, bit for bit, on the same engine.
#[test]
fn a_batch_is_bit_for_bit_its_entries() {
    let test = "a_batch_is_bit_for_bit_its_entries";
    let models = data::models(test);
    for subject in engines(test) {
        for (name, model) in &models {
            let session = subject.session(model, Batching::Entries).unwrap_or_else(|error| panic!("{name}: {error}"));
            let input = pictures(&session.inputs()[0], 8);
            let run = |part: Tensor| subject.run(&session, &[part]).unwrap_or_else(|error| panic!("{name}: {error}"));
            let alone: Vec<_> = (0..8).map(|i| run(part(&input, i, 1))).collect();
            // The smallest first, the largest first: what an earlier batch left behind must not show.
            for n in [1, 8, 3, 8, 1] {
                let outputs = run(part(&input, 8 - n, n));
                for (output, info) in outputs.iter().zip(session.outputs()) {
                    assert_eq!(output.shape()[0], n, "{name} on {}: {info}", subject.device);
                }
                for i in 0..n {
                    for ((all, one), info) in outputs.iter().zip(&alone[8 - n + i]).zip(session.outputs()) {
                        let same = all.outer(i).is_some_and(|all| same_bits(all, one.data()));
                        assert!(same, "{name} on {}: {info}: entry {i} of {n}", subject.device);
                    }
                }
            }
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Entries that differ, of values that don't add up to round numbers.
fn pictures(input: &TensorInfo, count: usize) -> Tensor {
    let dims = input.shape.as_ref().expect("these models declare their inputs' shapes");
    let entry: Vec<usize> = dims[1..].iter().map(|dim| dim.fixed().unwrap_or(SIDE)).collect();
    let len = entry.iter().product::<usize>();
    let value = |i: usize| 127.5 + 127.5 * ((i % len) as f32 * 0.37 + (i / len) as f32).sin();
    let shape = [&[count], &entry[..]].concat();
    Tensor::new(shape, (0..count * len).map(value).collect()).expect("as many values")
}

fn part(batch: &Tensor, start: usize, count: usize) -> Tensor {
    let data = (start..start + count).flat_map(|i| batch.outer(i).expect("an entry").to_vec()).collect();
    Tensor::new([&[count], &batch.shape()[1..]].concat(), data).expect("as many values")
}
