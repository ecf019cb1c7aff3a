//! What moves elements: resampling by taps, and picking by index.

use crate::cpu::Memory;
use crate::cpu::memory::{Others, Written};
use crate::cpu::walk::walk;
use crate::plan::access::resampled;
use crate::plan::{Gather, Picture, Resample, Shuffle, Span, Taps};

use super::{Element, Seen, by_kind};

pub(super) fn resample(step: &Resample, memory: &mut Memory) {
    let Some(span) = step.output.span(&step.dims) else { return };
    let ([out], others) = memory.writing([span]);
    match out {
        Written::Floats(out) => {
            let add = |sum: f32, weight: f32, value: f32| sum + weight * value;
            resample_as(step, span, out, &others, add);
        }
        // Of whole numbers one is picked: all weights are 1.
        Written::Ints(out) => resample_as(step, span, out, &others, |_: i32, _, value| value),
    }
}

fn resample_as<T: Element>(
    step: &Resample,
    span: Span,
    out: &mut [T],
    others: &Others<'_>,
    add: impl Fn(T, f32, T) -> T,
) {
    let reads = resampled(step);
    let input = reads.map_or(&[][..], |span| T::read(others, span));
    let from = step.input.offset.wrapping_sub(reads.map_or(0, |span| span.begin));
    let mut index = vec![0; step.dims.len()];
    let total: usize = step.dims.iter().product();
    for flat in 0..total {
        let mut rest = flat;
        for d in (0..step.dims.len()).rev() {
            index[d] = rest % step.dims[d];
            rest /= step.dims[d];
        }
        let at = index.iter().zip(&step.output.strides);
        let to = at.fold(step.output.offset - span.begin, |at, (&i, &s)| at.wrapping_add_signed(i as isize * s));
        out[to] = tapped(step, &index, 0, from, 1.0, T::default(), input, &add).unwrap_or(T::of(step.fill));
    }
}

/// Adds what the taps of `index` from dimension `d` on give; `None` where one is outside.
#[expect(clippy::too_many_arguments, reason = "a recursion over dimensions carries all of its state along")]
fn tapped<T: Element>(
    step: &Resample,
    index: &[usize],
    d: usize,
    at: usize,
    weight: f32,
    sum: T,
    input: &[T],
    add: &impl Fn(T, f32, T) -> T,
) -> Option<T> {
    let Some(taps) = step.taps.get(d) else { return Some(add(sum, weight, input[at])) };
    let stride = step.input.strides[d];
    let tap = |sum: T, i: i32, w: f32| {
        let i = usize::try_from(i).ok()? as isize;
        tapped(step, index, d + 1, at.wrapping_add_signed(i * stride), weight * w, sum, input, add)
    };
    match taps {
        Taps::Same => tap(sum, index[d] as i32, 1.0),
        Taps::Pick(picks) => tap(sum, picks[index[d]], 1.0),
        Taps::Blend { width, index: picks, weight: weights } => {
            let these = index[d] * width..(index[d] + 1) * width;
            picks[these.clone()].iter().zip(&weights[these]).try_fold(sum, |sum, (&i, &w)| tap(sum, i, w))
        }
    }
}

/// # Errors
/// An index that is out of range.
pub(super) fn gather(step: &Gather, memory: &mut Memory) -> Result<(), String> {
    let out_dims = [&step.outer[..], &step.picked, &step.inner].concat();
    let Some(span) = step.output.span(&out_dims) else { return Ok(()) };
    let ([out], others) = memory.writing([span]);
    let picks = Seen::<i32>::new(&others, &step.indices, &step.picked);
    let len = i64::try_from(step.len).unwrap_or(i64::MAX);
    let mut wrong = None;
    walk(&step.picked, [picks.from], [picks.strides], |[at]| {
        let pick = picks.data[at];
        if !(-len..len).contains(&i64::from(pick)) {
            wrong.get_or_insert(pick);
        }
    });
    if let Some(pick) = wrong {
        return Err(step.out_of_range(pick));
    }
    by_kind!(out, out => gather_as(step, span, out, &others, picks));
    Ok(())
}

fn gather_as<T: Element>(step: &Gather, span: Span, out: &mut [T], others: &Others<'_>, picks: Seen<'_, i32>) {
    let data = Seen::<T>::new(others, &step.data, &[&step.outer[..], &[step.len], &step.inner].concat());
    let (o, p) = (step.outer.len(), step.picked.len());
    let (outer, rest) = data.strides.split_at(o);
    let (stride, inner) = (rest[0], &rest[1..]);
    let (out_outer, out_rest) = step.output.strides.split_at(o);
    let (out_picked, out_inner) = out_rest.split_at(p);
    walk(&step.outer, [step.output.offset - span.begin, data.from], [out_outer, outer], |[to, from]| {
        walk(&step.picked, [to, picks.from], [out_picked, picks.strides], |[to, pick]| {
            let pick = picks.data[pick] as isize;
            let pick = if pick < 0 { pick + step.len as isize } else { pick };
            let from = from.wrapping_add_signed(pick * stride);
            walk(&step.inner, [to, from], [out_inner, inner], |[to, from]| out[to] = data.data[from]);
        });
    });
}

/// Channel by channel.
pub(super) fn shuffle(step: &Shuffle, memory: &mut Memory) {
    let Some(span) = step.output.span() else { return };
    let ([out], others) = memory.writing([span]);
    let out = out.floats();
    let data = |picture: &Picture| picture.span().map_or(&[][..], |span| others.floats(span));
    let inputs: Vec<&[f32]> = step.inputs.iter().map(data).collect();
    for (c, &(input, channel)) in step.channels.iter().enumerate() {
        let (picture, channel) = (&step.inputs[input as usize], channel as usize);
        let from = channel / picture.block * picture.strides[0] + channel % picture.block;
        let to = c / step.output.block * step.output.strides[0] + c % step.output.block;
        for y in 0..step.output.height {
            for x in 0..step.output.width {
                out[to + y * step.output.strides[1] + x * step.output.strides[2]] =
                    inputs[input as usize][from + y * picture.strides[1] + x * picture.strides[2]];
            }
        }
    }
}
