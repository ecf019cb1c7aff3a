//! Every kernel of every level that this machine has, against plain Rust.

use proptest::prelude::*;

use super::convs::{ConvCase, conv_case};
use super::{planar, run};
use crate::cpu::simd::Instructions;
use crate::cpu::vector::{Cut, Packed, Prepared};
use crate::cpu::{Memory, Pool, SimdLevel};
use crate::plan::{Action, Array, Kind, MemoryPlan, Plan, Step, Values, access};

/// A plan of one step over these arrays.
fn plan(action: &Action, arrays: &[Values], block: usize) -> Plan {
    let array = |values: &Values| match values {
        Values::Floats(v) => Array { name: String::new(), kind: Kind::Float, len: v.len(), constant: None },
        Values::Ints(v) => Array { name: String::new(), kind: Kind::Int, len: v.len(), constant: None },
    };
    let plan = Plan {
        block,
        arrays: arrays.iter().map(array).collect(),
        steps: vec![Step { node: String::new(), action: action.clone() }],
        inputs: Vec::new(),
        outputs: Vec::new(),
        memory: MemoryPlan::default(),
    };
    access::check(&plan).expect("a sound step");
    plan
}

/// The memory after a step with the instructions of a level, cut into so small pieces; whether there is a kernel for it.
fn run_with(level: SimdLevel, cut: Cut, action: &Action, arrays: &[Values]) -> (Memory, bool) {
    let plan = plan(action, arrays, level.block());
    let prepared = Prepared::new(&plan.steps[0], &plan, &Packed::default(), Instructions::of(level), cut);
    let mut memory = Memory::of_arrays(arrays);
    prepared.run(action, &mut memory, &Pool::new(cut.threads)).expect("the step has no way to fail");
    (memory, !matches!(prepared, Prepared::Scalar))
}

fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::available().filter(|level| *level != SimdLevel::Scalar)
}

/// Whole, and in as many pieces as can be.
fn cuts() -> [Cut; 2] {
    [Cut { threads: 1, ..Cut::new(1) }, Cut { threads: 3, worth: 1 }]
}

/// Fails where the two differ by more than the tolerance, relative to 1 or to the value.
#[track_caller]
fn close(got: &[f32], want: &[f32], tolerance: f32, what: &dyn std::fmt::Debug) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = got == want || got.is_nan() && want.is_nan();
        assert!(same || (got - want).abs() <= tolerance * want.abs().max(1.0), "{i}: {got}, not {want}: {what:?}");
    }
}

fn check_conv(case: &ConvCase) {
    for level in levels() {
        let (conv, arrays) = case.build(level.block());
        let output = conv.output.clone();
        let action = Action::Conv(Box::new(conv));
        let expected = planar(&output, &run(&action, &arrays));
        let [whole, cut] = cuts().map(|cut| {
            let (memory, has_kernel) = run_with(level, cut, &action, &arrays);
            assert!(has_kernel, "{level}: {case:?}");
            planar(&output, &memory)
        });
        close(&whole, &expected, 3e-5, &(level, case));
        assert_eq!(whole, cut, "{level} in pieces: {case:?}");
    }
}

proptest! {
    #[test]
    fn convolutions_are_as_in_plain_rust(case in conv_case()) {
        check_conv(&case);
    }
}

/// Shapes that random ones are too small for.
#[test]
fn long_rows_and_many_channels_are_as_in_plain_rust() {
    let plain = ConvCase {
        depthwise: false,
        channels: 3,
        outputs: 40,
        size: [9, 150],
        out: [5, 75],
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pad: [1, 1],
        bias: true,
        activation: None,
        residual: None,
        plain: true,
        gap: 0,
    };
    check_conv(&plain);
    let blocked = ConvCase { plain: false, channels: 20, ..plain.clone() };
    check_conv(&blocked);
    check_conv(&ConvCase { size: [17, 31], out: [17, 31], stride: [1, 1], ..blocked.clone() });
    let pointwise = ConvCase { kernel: [1, 1], stride: [1, 1], pad: [0, 0], out: [9, 150], ..blocked.clone() };
    check_conv(&ConvCase { channels: 500, ..pointwise });
    let depthwise = ConvCase { depthwise: true, size: [16, 8], out: [1, 1], kernel: [16, 8], pad: [0, 0], ..blocked };
    check_conv(&depthwise);
    check_conv(&ConvCase { size: [40, 67], out: [40, 67], kernel: [3, 3], pad: [1, 1], stride: [1, 1], ..depthwise });
}
