//! Every kernel of every level that this machine has, against plain Rust.

mod functions;
mod views;

use proptest::prelude::*;

use super::convs::{ConvCase, PoolCase, conv_case, pool_case};
use super::{numbers, picture, planar, run};
use crate::cpu::simd::Instructions;
use crate::cpu::vector::{Cut, Packed, Prepared};
use crate::cpu::{Memory, Pool, SimdLevel};
use crate::plan::{Action, Array, ArrayId, Kind, MemoryPlan, Picture, Plan, Shuffle, Span, Step, Values, access};

/// A plan of one step over these arrays, some of which are constants.
///
/// It says of its pictures that they are in blocks as a GPU has them: what kernels there are for a step, the step alone decides.
fn plan(action: &Action, arrays: &[Values], constants: &[usize]) -> Plan {
    let array = |(i, values): (usize, &Values)| {
        let (kind, len) = match values {
            Values::Floats(v) => (Kind::Float, v.len()),
            Values::Ints(v) => (Kind::Int, v.len()),
        };
        Array { name: String::new(), kind, len, constant: constants.contains(&i).then(|| values.clone()) }
    };
    let plan = Plan {
        block: 4,
        arrays: arrays.iter().enumerate().map(array).collect(),
        steps: vec![Step { node: String::new(), action: action.clone() }],
        inputs: Vec::new(),
        outputs: Vec::new(),
        memory: MemoryPlan::default(),
    };
    access::check(&plan).expect("a sound step");
    plan
}

/// The memory after a step with the instructions of a level, cut into so small pieces; whether there is a kernel for it.
fn run_with(level: SimdLevel, cut: Cut, action: &Action, arrays: &[Values], constants: &[usize]) -> (Memory, bool) {
    let plan = plan(action, arrays, constants);
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

/// Fails where kernels leave something else in an array than plain Rust does, or something that depends on how the work is cut
/// up; and, where it is asked for, where there is no kernel.
#[track_caller]
fn check(action: &Action, arrays: &[Values], output: usize, tolerance: f32, has_kernel: bool) {
    check_with_constants(action, arrays, &[], output, tolerance, has_kernel);
}

/// The same, where some arrays are constants.
#[track_caller]
fn check_with_constants(
    action: &Action,
    arrays: &[Values],
    constants: &[usize],
    output: usize,
    tolerance: f32,
    has_kernel: bool,
) {
    let expected = run(action, arrays);
    for level in levels() {
        let cut = cuts().map(|cut| run_with(level, cut, action, arrays, constants));
        let [(whole, found), (pieces, _)] = &cut;
        assert!(*found || !has_kernel, "{level} has no kernel for {action:?}");
        let span = |len| Span { array: ArrayId(output as u32), begin: 0, end: len };
        match &arrays[output] {
            Values::Floats(values) => {
                let span = span(values.len());
                close(whole.floats(span), expected.floats(span), tolerance, &(level, action));
                let bits = |m: &Memory| m.floats(span).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(whole), bits(pieces), "{level} in pieces: {action:?}");
            }
            Values::Ints(values) => {
                let span = span(values.len());
                assert_eq!(whole.ints(span), expected.ints(span), "{level}: {action:?}");
                assert_eq!(whole.ints(span), pieces.ints(span), "{level} in pieces: {action:?}");
            }
        }
    }
}

/// The same for a step that writes a picture: lanes beyond its channels may hold anything. What it writes is the last array.
fn check_picture(build: impl Fn(usize) -> (Action, Vec<Values>, Picture), tolerance: f32) {
    for level in levels() {
        let (action, arrays, output) = build(level.block());
        let expected = planar(&output, &run(&action, &arrays));
        let [whole, cut] = cuts().map(|cut| {
            let (memory, has_kernel) = run_with(level, cut, &action, &arrays, &[]);
            let empty = output.span().is_none();
            assert!(has_kernel || empty, "{level} has no kernel for {action:?}");
            planar(&output, &memory)
        });
        close(&whole, &expected, tolerance, &(level, &action));
        assert_eq!(whole, cut, "{level} in pieces: {action:?}");
    }
}

fn check_conv(case: &ConvCase) {
    let build = |block| {
        let (conv, arrays) = case.build(block);
        let output = conv.output.clone();
        (Action::Conv(Box::new(conv)), arrays, output)
    };
    check_picture(build, 3e-5);
}

fn check_pool(case: &PoolCase) {
    let build = |block| {
        let (pool, arrays) = case.build(block);
        let output = pool.output.clone();
        (Action::Pool(pool), arrays, output)
    };
    check_picture(build, 1e-6);
}

proptest! {
    #[test]
    fn convolutions_are_as_in_plain_rust(case in conv_case()) {
        check_conv(&case);
    }

    #[test]
    fn pools_are_as_in_plain_rust(case in pool_case()) {
        check_pool(&case);
    }

    #[test]
    fn shuffles_are_as_in_plain_rust(
        sizes in prop::collection::vec(1usize..40, 1..4), size in [1usize..9, 1usize..9], seed in any::<usize>(),
        channels in 1usize..60, in_order in any::<bool>(),
    ) {
        let build = |block: usize| {
            let (mut inputs, mut arrays) = (Vec::new(), Vec::new());
            for (i, &channels) in sizes.iter().enumerate() {
                let shape = [channels, size[0], size[1]];
                let (input, values) = picture(i as u32, &numbers(i, shape.iter().product()), shape, block, i);
                inputs.push(input);
                arrays.push(values);
            }
            let random = numbers(seed, 2 * channels).into_iter().map(|v| (v + 1.0) / 2.0).collect::<Vec<_>>();
            let below = |v: f32, n: usize| ((v * n as f32) as usize).min(n - 1) as u32;
            let pick = |c: usize| {
                let input = below(random[2 * c], sizes.len());
                let channels = sizes[input as usize];
                (input, if in_order { (c % channels) as u32 } else { below(random[2 * c + 1], channels) })
            };
            let channels: Vec<(u32, u32)> = (0..channels).map(pick).collect();
            let (output, values) = picture(sizes.len() as u32, &[], [channels.len(), size[0], size[1]], block, 2);
            arrays.push(values);
            let shuffle = Shuffle { inputs, channels: channels.into(), output: output.clone() };
            (Action::Shuffle(shuffle), arrays, output)
        };
        check_picture(build, 0.0);
    }
}

#[test]
fn large_windows_over_long_rows_are_as_in_plain_rust() {
    let case = PoolCase {
        average: false,
        channels: 5,
        size: [9, 250],
        kernel: [9, 13],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [4, 6],
        count_pad: false,
    };
    check_pool(&case);
    check_pool(&PoolCase { stride: [2, 3], dilation: [1, 2], pad: [0, 0], ..case });
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
