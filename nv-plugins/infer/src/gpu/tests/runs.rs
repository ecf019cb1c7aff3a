//! Runs in flight, runs that fail, and what a device leaves to the CPU.

use super::*;
use crate::Device;
use crate::cpu::RunError;
use crate::rows::{RowColumns, RowGroup, RowLayout, RowOutput, RowSelection, ScoreActivation, ScoreFactor};
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

/// Most kinds of steps, a convolution among them, behind one that is for the CPU.
#[test]
fn what_follows_on_the_cpu_is_what_plain_rust_computes() {
    let Some(context) = context("what_follows_on_the_cpu_is_what_plain_rust_computes") else { return };
    let numbers = |len: usize| (0..len).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
    let builder = OnnxBuilder::new()
        .input("x", &[1.into(), 8.into(), 16.into()])
        .integers("k", &[16])
        .integers("shape", &[1, 3, 8, 8])
        .initializer("m", &[16, 24], &numbers(16 * 24))
        .initializer("w", &[5, 3, 3, 3], &numbers(135))
        .node("TopK", &["x", "k"], &["v", "i"])
        .node("MatMul", &["v", "m"], &["p"])
        .node("Softmax", &["p"], &["s"])
        .attribute("axis", -1)
        .node("Reshape", &["s", "shape"], &["r"])
        .node("Conv", &["r", "w"], &["c"])
        .attribute_list("pads", &[1; 4])
        .node("Tanh", &["c"], &["t"])
        .node("ReduceMean", &["t"], &["y"])
        .attribute_list("axes", &[2]);
    let plan = small(builder, &context, 2);
    let inputs = inputs(&plan, 2);
    let pool = Arc::new(Pool::new(1));
    let plain = cpu::Executor::new(Arc::clone(&plan), &Packed::default(), pool, SimdLevel::Scalar);
    let (mut plain, mut expected) = (plain.unwrap(), [Vec::new()]);
    (0..2).for_each(|n| plain.run(&entry(&inputs, 2, n), &mut expected).unwrap());
    for threads in [1, 2] {
        let options = ExecutorOptions { max_batch: 2, threads, ..ExecutorOptions::default() };
        let mut executor = executor(&context, &plan, options);
        assert!(executor.placement().all(|place| place == Placement::Cpu));
        let found = run(&mut executor, &plan, 2, &slices(&inputs));
        assert_eq!(found[0].len(), expected[0].len());
        let far = found[0].iter().zip(&expected[0]).fold(0.0, |far: f32, (a, b)| far.max((a - b).abs()));
        assert!(far < 1e-5, "{far}: {found:?} for {expected:?}");
    }
}

/// y has of five pairs those at x, which is three numbers; before that, of nine numbers those at x and 4.
fn picking() -> OnnxBuilder {
    let pairs: Vec<f32> = (0..10).map(|i| (i / 2 * 10 + i % 2) as f32).collect();
    OnnxBuilder::new()
        .input("x", &[1.into(), 3.into()])
        .initializer("nine", &[9], &[0.0; 9])
        .initializer("pairs", &[5, 2], &pairs)
        .integers("four", &[4])
        .node("Cast", &["x"], &["i"])
        .attribute("to", 7)
        .node("Add", &["i", "four"], &["j"])
        .node("Gather", &["nine", "j"], &["zeros"])
        .attribute("axis", 0)
        .node("Gather", &["pairs", "i"], &["picked"])
        .attribute("axis", 0)
        .integers("last", &[-1])
        .node("Unsqueeze", &["zeros", "last"], &["column"])
        .node("Add", &["picked", "column"], &["y"])
}

/// What is said of it is what the CPU says.
#[test]
fn an_index_out_of_range_is_an_error_of_the_run() {
    let Some(context) = context("an_index_out_of_range_is_an_error_of_the_run") else { return };
    let plan = small(picking(), &context, 3);
    let pool = Arc::new(Pool::new(1));
    let cpu = cpu::Executor::new(Arc::clone(&plan), &Packed::default(), pool, SimdLevel::Scalar);
    let mut cpu = cpu.unwrap();
    let selection = RowSelection {
        groups: vec![RowGroup {
            rows: 3,
            outputs: vec![RowOutput { output: 0, shape: vec![3, 2], columns: 2, layout: RowLayout::Rows }],
            score: vec![ScoreFactor {
                of: RowColumns { output: 0, columns: 1..2 },
                activation: ScoreActivation::None,
                power: 1.0,
            }],
            values: vec![RowColumns { output: 0, columns: 0..1 }],
        }],
        threshold: 0.5,
    };
    for checks in [Checks::Trusted, Checks::Added] {
        let options = ExecutorOptions { max_batch: 3, checks, ..ExecutorOptions::default() };
        let mut executor = executor(&context, &plan, options);
        assert!(executor.placement().all(|place| place == Placement::Device));
        let mut check = |inputs: &[f32], expected: Option<&str>| {
            let entries = inputs.len() / 3;
            let mut outputs = vec![Vec::new()];
            let on_cpu = inputs.chunks(3).try_for_each(|input| cpu.run(&[input], &mut outputs));
            let mut found = [Vec::new()];
            let result = executor.run(entries, &[inputs], &mut found);
            // Of rows no other is selected than what is read of all.
            let rows = executor.submit(entries, &[inputs], Some(&selection)).unwrap();
            assert!(rows.selects());
            let rows = rows.finish_rows();
            match (on_cpu, expected) {
                (Ok(()), None) => {
                    assert_eq!((result, &found[..]), (Ok(()), &outputs[..]));
                    let Ok(Selected::Rows(rows)) = rows else { panic!("{rows:?}") };
                    let values = rows.iter().flatten().flat_map(|rows| rows.iter().map(|(_, values)| values[0]));
                    assert_eq!(values.collect::<Vec<_>>(), found[0].iter().copied().step_by(2).collect::<Vec<_>>());
                }
                (Err(RunError { node, reason }), Some(expected)) => {
                    let error = GpuError::Step { node, reason };
                    assert!(error.to_string().ends_with(expected), "{error}, not {expected}");
                    assert_eq!((result, rows), (Err(error.clone()), Err(error)));
                }
                (on_cpu, expected) => panic!("{on_cpu:?}, not {expected:?}"),
            }
        };
        check(&[2., -3., 4., 0., -1., -5.], None);
        check(&[0., 5., 7.], Some("the index 9 is out of range: there are 9 elements"));
        check(&[4., 0., 0.], None);
        // The first entry's, although the other has one in an earlier step.
        check(&[0., 1., 2., 0., 1., -6., 9., 9., 9.], Some("the index -6 is out of range: there are 5 elements"));
        check(&[0., 1., 2., -20., 5., 5., -6., -6., -6.], Some("the index -16 is out of range: there are 9 elements"));
        check(&[0., 1., 2., -1., -2., -3., 3., 3., 3.], None);
    }
}

#[test]
fn an_index_out_of_range_is_an_error_of_no_other_run() {
    let Some(context) = context("an_index_out_of_range_is_an_error_of_no_other_run") else { return };
    let plan = small(picking(), &context, 1);
    let mut executor = executor(&context, &plan, ExecutorOptions::default());
    for bad_first in [true, false] {
        let inputs = if bad_first { [[0., 7., 0.], [0., 1., 0.]] } else { [[0., 1., 0.], [0., 7., 0.]] };
        let runs = inputs.map(|input| executor.submit(1, &[&input], None).unwrap());
        let results = runs.map(|run| {
            let mut outputs = [Vec::new()];
            run.finish(&mut outputs).map(|()| outputs.concat())
        });
        for (result, input) in results.into_iter().zip(inputs) {
            match result {
                Ok(found) => assert_eq!((input[1], &found[..]), (1., &[0., 1., 10., 11., 0., 1.][..])),
                Err(error) => assert_eq!((input[1], matches!(error, GpuError::Step { .. })), (7., true), "{error}"),
            }
        }
    }
}
