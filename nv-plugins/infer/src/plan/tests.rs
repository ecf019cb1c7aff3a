//! Plans of real files: whole, in order, within memory.

use super::*;
use crate::Model;
use crate::graph::concrete::concrete;
use crate::graph::import::import;

fn target(block: usize) -> Target {
    Target { block, buffer_limit: usize::MAX, memory_limit: 1 << 28 }
}

/// A plan for inputs of these shapes.
fn planned(model: &Model, shapes: &[Vec<usize>], block: usize) -> Plan {
    let imported = import(crate::model::parse(model.path(), model.bytes()).unwrap()).unwrap();
    let (graph, _) = concrete(&imported, shapes).unwrap();
    lower(&graph, &target(block)).unwrap()
}

/// What must hold of every plan: nothing is read before it is written, no step reads what it writes, no array that lives is
/// where another one is.
fn check(plan: &Plan) {
    let mut written: Vec<bool> = plan.arrays.iter().map(|array| array.constant.is_some()).collect();
    plan.inputs.iter().for_each(|port| written[port.array.index()] = true);
    assert_eq!(access::check(plan), Ok(()));
    for step in &plan.steps {
        let accesses = access::Accesses::of(&step.action);
        for (read, _) in &accesses.reads {
            assert!(written[read.array.index()], "{step:?} reads what nobody wrote");
        }
        accesses.writes.iter().for_each(|(span, _)| written[span.array.index()] = true);
    }
    for port in plan.inputs.iter().chain(&plan.outputs) {
        assert!(written[port.array.index()], "{port:?}");
        assert_eq!(plan.array(port.array).len, port.dims.iter().product::<usize>(), "{port:?}");
    }
}

#[test]
fn real_models_have_whole_plans() {
    for (file, shape) in [
        ("yolox_nano_coco_416.onnx", vec![1, 3, 416, 416]),
        ("ultraface_rfb_320.onnx", vec![1, 3, 240, 320]),
        ("fastestdet_coco_352.onnx", vec![1, 3, 352, 352]),
        ("yunet_s_dynamic.onnx", vec![1, 3, 320, 320]),
        ("yunet_s_dynamic.onnx", vec![2, 3, 192, 256]),
        ("person-reidentification-retail-0248.onnx", vec![1, 256, 128, 3]),
    ] {
        let Some(model) = crate::graph::tests::models::load("real_models_have_whole_plans", file) else { continue };
        for block in [4, 8, 16] {
            let plan = planned(&model, std::slice::from_ref(&shape), block);
            check(&plan);
        }
    }
}
