//! Sessions whose device fails them: what they say, and that everything that they are given is computed.

use std::sync::mpsc;

use nv_core::Tensor;

use super::*;
use crate::testing::OnnxBuilder;
use crate::{Device, Dim, Engine, Session, SessionOptions};

/// Two convolutions and the mean of each channel, of a picture whose sides are given or open.
fn network(side: Option<usize>) -> Model {
    let side = |name: &str| side.map_or(Dim::from(name), Dim::from);
    let values = |len: usize| (0..len).map(|i| (i as f32 * 0.7).sin() * 0.3).collect::<Vec<f32>>();
    let file = OnnxBuilder::new()
        .input("x", &["n".into(), 3.into(), side("h"), side("w")])
        .initializer("first", &[16, 3, 3, 3], &values(16 * 27))
        .initializer("second", &[10, 16, 3, 3], &values(160 * 9))
        .node("Conv", &["x", "first"], &["a"])
        .attribute_list("pads", &[1; 4])
        .node("Relu", &["a"], &["b"])
        .node("Conv", &["b", "second"], &["c"])
        .node("GlobalAveragePool", &["c"], &["y"])
        .output_of_any_shape("y")
        .build();
    Model::from_bytes("network.onnx", file).unwrap()
}

fn pictures(entries: usize, side: usize) -> Tensor {
    let len = entries * 3 * side * side;
    Tensor::new([entries, 3, side, side], (0..len).map(|i| (i as f32 * 0.013).cos()).collect()).unwrap()
}

/// At most two entries at once.
fn session(model: &Model, device: Device) -> Session {
    Session::new(model, &SessionOptions { device, max_batch: 2, ..SessionOptions::default() }).unwrap()
}

fn run(session: &Session, input: &Tensor) -> Tensor {
    session.run(std::slice::from_ref(input)).unwrap().remove(0)
}

#[track_caller]
fn close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.shape(), expected.shape());
    let far = found.data().iter().zip(expected.data()).fold(0.0, |far: f32, (a, b)| far.max((a - b).abs()));
    assert!(far < 1e-5, "{far}: {found:?} for {expected:?}");
}

/// It says once, by name, which shader did not compile, and computes on the CPU what a session on the CPU would.
#[track_caller]
fn has_fallen_back(session: &Session) {
    let notices = session.take_notices();
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert!(notice.contains("the shader Conv does not compile: ") && notice.contains("the CPU computes"), "{notice}");
    assert_eq!((session.engine(), session.device()), (Engine::Cpu, Device::Cpu));
    assert_eq!(session.take_notices(), [] as [&str; 0]);
}

#[test]
fn a_session_whose_shaders_do_not_compile_computes_on_the_cpu() {
    let Some(context) = context("a_session_whose_shaders_do_not_compile_computes_on_the_cpu") else { return };
    context.kernels().break_shaders("Conv");
    let model = network(Some(24));
    let session = session(&model, Device::Software);
    has_fallen_back(&session);
    let input = pictures(5, 24);
    let expected = run(&super::sessions::session(&model, Device::Cpu), &input);
    assert_eq!(run(&session, &input), expected);
    // Nobody else's kernels are to blame: the device is as it was.
    assert_eq!(context.lost(), None);
}

/// A picture of another size has other kernels.
#[test]
fn a_shader_that_does_not_compile_in_mid_stream_loses_nothing() {
    let Some(context) = context("a_shader_that_does_not_compile_in_mid_stream_loses_nothing") else { return };
    let model = network(None);
    let [session, cpu] = [Device::Software, Device::Cpu].map(|device| session(&model, device));
    let [small, large] = [pictures(3, 16), pictures(5, 21)];
    close(&run(&session, &small), &run(&cpu, &small));
    assert_eq!((session.engine(), session.device()), (Engine::Gpu, Device::Software));
    context.kernels().break_shaders("Conv");
    assert_eq!(run(&session, &large), run(&cpu, &large));
    has_fallen_back(&session);
    assert_eq!(run(&session, &small), run(&cpu, &small));
}

/// The device goes while a batch of seven, which is four submissions, is on its way, at whatever moment that is: every entry
/// comes back nevertheless. It is set up anew twice; then the CPU takes over.
#[test]
fn a_device_that_is_lost_in_the_middle_of_a_run_loses_no_entry() {
    let test = "a_device_that_is_lost_in_the_middle_of_a_run_loses_no_entry";
    if context(test).is_none() {
        return;
    }
    let model = network(Some(64));
    let session = session(&model, Device::Software);
    let input = pictures(7, 64);
    let expected = run(&super::sessions::session(&model, Device::Cpu), &input);
    let (begin, begun) = mpsc::channel();
    let (destroyed, gone) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for () in begun {
                // The one that the session uses, which shares it.
                Context::open(Device::Software).unwrap().expect("it was there").destroy();
                destroyed.send(()).unwrap();
            }
        });
        for loss in 1..=3 {
            close(&run(&session, &input), &expected);
            assert_eq!(session.engine(), Engine::Gpu);
            assert_eq!(session.take_notices(), [] as [&str; 0]);
            begin.send(()).unwrap();
            // It may come through; the one after it does not.
            close(&run(&session, &input), &expected);
            gone.recv().unwrap();
            close(&run(&session, &input), &expected);
            let notices = session.take_notices();
            let [notice] = &notices[..] else { panic!("{notices:?}") };
            let what = if loss < 3 { "set up anew on" } else { "the CPU computes" };
            assert!(notice.contains("the GPU was lost") && notice.contains(what), "{notice}");
        }
        drop(begin);
    });
    assert_eq!((session.engine(), session.device()), (Engine::Cpu, Device::Cpu));
    close(&run(&session, &input), &expected);
}
