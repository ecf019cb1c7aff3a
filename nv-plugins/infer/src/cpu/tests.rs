//! Every kind of step against what its documentation says.

pub(crate) mod convs;
mod plans;
mod steps;
mod vectors;

use crate::plan::{Action, ArrayId, Picture, Span, Values};

use super::{Memory, scalar};

/// Numbers that don't add up to round ones, from −1 to 1, different for each seed.
pub(crate) fn numbers(seed: usize, len: usize) -> Vec<f32> {
    let mut state = seed as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let next = || {
        // SplitMix64 (Steele et al., 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A picture that holds these values (channels × rows × columns), and the array that it is all of. Whatever is not a channel
/// is NaN. Between rows there may be a gap of so many pixels.
pub(crate) fn picture(
    array: u32,
    values: &[f32],
    [channels, height, width]: [usize; 3],
    block: usize,
    gap: usize,
) -> (Picture, Values) {
    let mut picture = Picture::blocked(ArrayId(array), 3 * block, [channels, height, width], block);
    picture.strides[1] += gap * block;
    picture.strides[0] = picture.strides[1] * height;
    let mut data = vec![f32::NAN; picture.span().map_or(0, |span| span.end)];
    for (i, value) in values.iter().enumerate() {
        data[place(&picture, i)] = *value;
    }
    (picture, Values::Floats(data.into()))
}

/// What a picture holds: channels × rows × columns.
fn planar(picture: &Picture, memory: &Memory) -> Vec<f32> {
    let span = Span { array: picture.array, begin: 0, end: picture.span().map_or(0, |span| span.end) };
    let data = memory.floats(span);
    (0..picture.channels * picture.height * picture.width).map(|i| data[place(picture, i)]).collect()
}

/// Where an element of a picture is, counted channel by channel, row by row.
fn place(picture: &Picture, i: usize) -> usize {
    let (x, row) = (i % picture.width, i / picture.width);
    let (y, c) = (row % picture.height, row / picture.height);
    let [b, ys, xs] = picture.strides;
    picture.offset + c / picture.block * b + y * ys + x * xs + c % picture.block
}

/// The memory after one step in plain Rust.
fn run(action: &Action, arrays: &[Values]) -> Memory {
    let mut memory = Memory::of_arrays(arrays);
    scalar::run(action, &mut memory).expect("the step has no way to fail");
    memory
}

/// Fails where a value is further from what is wanted than the tolerance, relative to 1 or to the value.
#[track_caller]
fn close(got: &[f32], want: &[f64], tolerance: f64, what: &dyn std::fmt::Debug) {
    assert_eq!(got.len(), want.len(), "{what:?}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let far = (f64::from(got) - want).abs() / want.abs().max(1.0);
        assert!(far <= tolerance, "element {i} is {got}, not {want}: {what:?}");
    }
}
