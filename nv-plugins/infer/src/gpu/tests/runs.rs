//! Runs in flight, runs that fail, and what a device leaves to the CPU.

use super::*;
use crate::Device;
use crate::testing::OnnxBuilder;

/// The plan of a small model, for one entry.
fn small(builder: OnnxBuilder, context: &Context, max_batch: usize) -> Arc<Plan> {
    let model = Model::from_bytes("m.onnx", builder.output_of_any_shape("y").build()).unwrap();
    plan(&model, context, max_batch)
}

/// y = exp(x), of 2 × 3.
fn exp() -> OnnxBuilder {
    OnnxBuilder::new().input("x", &[1.into(), 2.into(), 3.into()]).node("Exp", &["x"], &["y"])
}

fn executor(context: &Arc<Context>, plan: &Arc<Plan>, options: ExecutorOptions) -> Executor {
    Executor::new(Arc::clone(context), Arc::clone(plan), &Weights::default(), options).unwrap()
}

#[test]
fn runs_in_flight_keep_what_is_theirs() {
    let Some(context) = context("runs_in_flight_keep_what_is_theirs") else { return };
    let plan = small(exp(), &context, 2);
    let options = ExecutorOptions { max_batch: 2, in_flight: 2, ..ExecutorOptions::default() };
    let mut executor = executor(&context, &plan, options);
    let first = executor.submit(2, &[&[0.0; 12]], None).unwrap();
    let second = executor.submit(1, &[&[1.0; 6]], None).unwrap();
    let busy = executor.submit(1, &[&[2.0; 6]], None).unwrap_err();
    assert_eq!(busy, GpuError::Busy { most: 2 });
    let mut outputs = [vec![0.5]];
    second.finish(&mut outputs).unwrap();
    first.finish(&mut outputs).unwrap();
    assert_eq!((outputs[0].len(), outputs[0][0]), (19, 0.5), "they are appended");
    assert!(outputs[0][1..7].iter().all(|v| (v - 1f32.exp()).abs() < 1e-5) && outputs[0][7..] == [1.0; 12]);
    // One that nobody waits for gives its place back.
    drop(executor.submit(1, &[&[2.0; 6]], None).unwrap());
    for wrong in [0, 3] {
        let error = executor.submit(wrong, &[&vec![0.0; wrong * 6]], None).unwrap_err();
        assert!(matches!(error, GpuError::Invalid { .. }), "{error}");
    }
    let error = executor.run(1, &[&[1.0; 5]], &mut outputs).unwrap_err();
    assert_eq!(error.to_string(), "a run: the inputs are not 1 entries of the plan's");
}

#[test]
fn a_device_lost_in_mid_stream_is_replaced() {
    let Some(context) = context("a_device_lost_in_mid_stream_is_replaced") else { return };
    let plan = small(exp(), &context, 1);
    let mut first = executor(&context, &plan, ExecutorOptions::default());
    let in_flight = first.submit(1, &[&[0.0; 6]], None).unwrap();
    context.destroy();
    let mut outputs = [Vec::new()];
    // What was on its way may still have come through.
    if let Err(error) = in_flight.finish(&mut outputs) {
        assert!(error.is_lost(), "{error}");
    }
    let later = first.run(1, &[&[0.0; 6]], &mut outputs);
    assert!(later.as_ref().is_err_and(GpuError::is_lost), "{later:?}");

    let fresh = Context::open(Device::Software).unwrap().unwrap();
    let mut second = executor(&fresh, &plan, ExecutorOptions::default());
    assert_eq!(run(&mut second, &plan, 1, &[&[0.0; 6]]), [[1.0; 6]]);
}

/// The three best of each row, which the CPU finds, between steps of the device and others that follow.
#[test]
fn what_a_device_can_not_do_is_done_on_the_cpu() {
    let Some(context) = context("what_a_device_can_not_do_is_done_on_the_cpu") else { return };
    let builder = OnnxBuilder::new()
        .input("x", &[1.into(), 2.into(), 5.into()])
        .integers("k", &[3])
        .node("Neg", &["x"], &["n"])
        .node("TopK", &["n", "k"], &["v", "i"])
        .node("Neg", &["v"], &["y"]);
    let plan = small(builder, &context, 2);
    let mut executor = executor(&context, &plan, ExecutorOptions { max_batch: 2, ..ExecutorOptions::default() });
    let places: Vec<Placement> = executor.placement().collect();
    assert_eq!(places, [Placement::Device, Placement::Cpu, Placement::Cpu]);
    let input: Vec<f32> = [5, 3, 1, 2, 4, 0, 9, 8, 7, 6, 1, 1, 1, 1, 0, 2, 2, 3, 1, 5].map(|n| n as f32).to_vec();
    let found = run(&mut executor, &plan, 2, &[&input]);
    assert_eq!(found, [[1., 2., 3., 0., 6., 7., 0., 1., 1., 1., 2., 2.]]);
}

#[test]
fn an_index_out_of_range_is_an_error_of_the_run() {
    let Some(context) = context("an_index_out_of_range_is_an_error_of_the_run") else { return };
    let builder = OnnxBuilder::new()
        .input("x", &[1.into(), 2.into()])
        .initializer("t", &[3], &[10.0, 20.0, 30.0])
        .node("Cast", &["x"], &["i"])
        .attribute("to", 7)
        .node("Gather", &["t", "i"], &["y"])
        .attribute("axis", 0);
    let plan = small(builder, &context, 1);
    let mut executor = executor(&context, &plan, ExecutorOptions::default());
    assert_eq!(run(&mut executor, &plan, 1, &[&[2.0, -3.0]]), [[30.0, 10.0]]);
    let error = executor.run(1, &[&[0.0, 3.0]], &mut [Vec::new()]).unwrap_err();
    assert!(matches!(error, GpuError::Step { .. }), "{error}");
    assert!(error.to_string().ends_with("the index 3 is out of range: there are 3 elements"), "{error}");
}
