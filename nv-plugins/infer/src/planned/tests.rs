//! Devices that fail while a session uses them.

use super::*;
use crate::gpu::{Checks, Shader};
use crate::testing::classifier;
use crate::{RowColumns, RowGroup, RowLayout, RowOutput, ScoreActivation, ScoreFactor, ScoredRows};

/// A model on a software adapter; `None` after saying that `test` is skipped without one.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn on_software(test: &str) -> Option<(Model, Planned)> {
    let model = Model::from_bytes("m.onnx", classifier(8, 4)).unwrap();
    let options = SessionOptions { device: Device::Software, ..SessionOptions::default() };
    match Planned::new(&model, model.inputs(), &options) {
        Ok(planned) => Some((model, planned)),
        Err(Unplanned::Error(error @ InferError::NoDevice { .. })) => {
            println!("skipped: {test}: {error}");
            None
        }
        Err(Unplanned::Error(error)) => panic!("{error}"),
        Err(Unplanned::Lacking(lacking)) => panic!("{lacking:?}"),
    }
}

fn run(model: &Model, planned: &Planned) -> Vec<f32> {
    let shape: Vec<usize> = model.inputs()[0].shape.as_ref().unwrap().iter().map(|d| d.fixed().unwrap_or(1)).collect();
    let len = shape.iter().product::<usize>();
    let input: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
    let job = Job { shapes: &[shape], source: Source::Values(&[&input]), groups: 1, selection: None };
    match planned.run(model, &job, &mut Host::new()).unwrap() {
        Results::Outputs(mut outputs) => outputs.remove(0).1,
        Results::Rows(_) => panic!("rows were not asked for"),
    }
}

/// How many pictures the rows of [`select`] are from: more than are in flight at once.
const PICTURES: usize = 40;

/// Of each picture the classes whose score is above one half.
fn select(model: &Model, planned: &Planned) -> Vec<Vec<ScoredRows>> {
    let score =
        ScoreFactor { of: RowColumns { output: 0, columns: 0..1 }, activation: ScoreActivation::None, power: 1.0 };
    let group = RowGroup {
        rows: 4,
        outputs: vec![RowOutput { output: 0, shape: vec![4], columns: 1, layout: RowLayout::Rows }],
        values: vec![score.of.clone()],
        score: vec![score],
    };
    // No score is near it.
    let selection = RowSelection { groups: vec![group], threshold: 0.51 };
    let shape = vec![1, 3, 8, 8];
    let input: Vec<f32> = (0..PICTURES).flat_map(|i| [i as f32 / PICTURES as f32; 3 * 8 * 8]).collect();
    let source = Source::Values(&[&input]);
    let job = Job { shapes: &[shape], source, groups: PICTURES, selection: Some(&selection) };
    match planned.run(model, &job, &mut Host::new()).unwrap() {
        Results::Rows(rows) => rows,
        Results::Outputs(_) => panic!("rows were asked for"),
    }
}

fn context(planned: &Planned) -> Option<Arc<Context>> {
    match &planned.lock().backend {
        Backend::Gpu { context, .. } => Some(Arc::clone(context)),
        Backend::Cpu { .. } => None,
    }
}

fn close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
}

#[test]
fn a_lost_device_is_set_up_anew_and_in_the_end_the_cpu_computes() {
    let Some((model, planned)) = on_software("a_lost_device_is_set_up_anew_and_in_the_end_the_cpu_computes") else {
        return;
    };
    let expected = run(&model, &planned);
    assert_eq!((planned.engine(), planned.take_notices()), (Engine::Gpu, vec![]));
    for loss in 1..=MAX_LOSSES + 1 {
        context(&planned).expect("it runs on a GPU").destroy();
        close(&run(&model, &planned), &expected);
        let notices = planned.take_notices();
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert!(notice.contains("the GPU was lost"), "{notice}");
        let last = loss > MAX_LOSSES;
        assert_eq!(planned.engine(), if last { Engine::Cpu } else { Engine::Gpu });
        assert!(notice.contains(if last { "the CPU computes" } else { "set up anew on" }), "{notice}");
    }
    close(&run(&model, &planned), &expected);
    assert_eq!(planned.take_notices(), [] as [&str; 0]);
}

#[test]
fn no_row_is_lost_with_a_device() {
    let Some((model, planned)) = on_software("no_row_is_lost_with_a_device") else { return };
    let expected = select(&model, &planned);
    let all: usize = expected.iter().flatten().map(ScoredRows::len).sum();
    assert!(expected.len() == PICTURES && all > 10 && all < 4 * PICTURES, "{all}");
    let check = |found: &[Vec<ScoredRows>]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            let indices = |rows: &ScoredRows| rows.iter().map(|(row, _)| row.index).collect::<Vec<_>>();
            let values = |rows: &ScoredRows| rows.iter().flat_map(|(_, values)| values.to_vec()).collect::<Vec<_>>();
            assert_eq!(indices(found), indices(expected));
            close(&values(found), &values(expected));
        }
    };
    let mut losses = 0;
    while let Some(context) = context(&planned) {
        let begin = std::sync::Barrier::new(2);
        // At some time in the middle of it, before, or after.
        let found = std::thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                context.destroy();
            });
            begin.wait();
            select(&model, &planned)
        });
        check(&found);
        check(&select(&model, &planned));
        losses += 1;
        assert_eq!(planned.take_notices().len(), 1);
    }
    assert_eq!((losses, planned.engine()), (MAX_LOSSES + 1, Engine::Cpu));
    check(&select(&model, &planned));
}

#[test]
fn where_a_shader_does_not_compile_the_cpu_computes() {
    let Some((model, planned)) = on_software("where_a_shader_does_not_compile_the_cpu_computes") else { return };
    let expected = run(&model, &planned);
    let context = context(&planned).expect("it runs on a GPU");
    // What a driver says that can't compile one.
    let broken = Shader { label: "conv 3×3", source: "@compute @workgroup_size(1) fn main() { let x = nothing; }" };
    let error = context.kernel(broken, Checks::Trusted).unwrap_err();
    planned.replace(&error, &mut planned.lock());
    let notices = planned.take_notices();
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert!(notice.contains("the shader conv 3×3 does not compile") && notice.contains("the CPU computes"), "{notice}");
    close(&run(&model, &planned), &expected);
    assert_eq!(planned.engine(), Engine::Cpu);
}
