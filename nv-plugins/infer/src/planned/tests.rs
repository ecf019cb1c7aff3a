//! Devices that fail while a session uses them.

use super::*;
use crate::gpu::{Checks, Shader};
use crate::testing::classifier;

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
