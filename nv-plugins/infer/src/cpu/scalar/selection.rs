//! The greatest element, the best few, and the boxes that stand out.

use std::cmp::Ordering;

use crate::cpu::Memory;
use crate::cpu::memory::{Others, Written};
use crate::cpu::walk::walk;
use crate::plan::{ArgMax, Kind, NonMaxSuppression, Span, TopK};

use super::{Element, Seen, by_kind};

pub(super) fn arg_max(step: &ArgMax, memory: &mut Memory) {
    let Some(span) = step.output.span(&step.kept) else { return };
    let ([out], others) = memory.writing([span]);
    match others.kind(step.input.array) {
        Kind::Float => arg_max_as::<f32>(step, span, out.ints(), &others),
        Kind::Int => arg_max_as::<i32>(step, span, out.ints(), &others),
    }
}

fn arg_max_as<T: Element>(step: &ArgMax, span: Span, out: &mut [i32], others: &Others<'_>) {
    let input = Seen::<T>::new(others, &step.input, &[&step.kept[..], &[step.len]].concat());
    let (kept, along) = input.strides.split_at(step.kept.len());
    let begin = step.output.offset - span.begin;
    walk(&step.kept, [begin, input.from], [&step.output.strides, kept], |[to, from]| {
        let mut best: Option<(T, usize)> = None;
        for i in 0..step.len {
            let value = input.data[from.wrapping_add_signed(i as isize * along[0])];
            let better = match best {
                // NaN is not even equal to itself.
                None => value.partial_cmp(&value).is_some(),
                Some((greatest, _)) => value > greatest || (step.last && value == greatest),
            };
            if better {
                best = Some((value, i));
            }
        }
        out[to] = best.map_or(0, |(_, i)| i as i32);
    });
}

pub(super) fn top_k(step: &TopK, memory: &mut Memory) {
    let dims = [&step.kept[..], &[step.k]].concat();
    let (Some(values), Some(indices)) = (step.values.span(&dims), step.indices.span(&dims)) else { return };
    let ([out, picks], others) = memory.writing([values, indices]);
    let picks = picks.ints();
    let begins = [step.values.offset - values.begin, step.indices.offset - indices.begin];
    by_kind!(out, out => top_k_as(step, begins, out, picks, &others));
}

fn top_k_as<T: Element>(step: &TopK, begins: [usize; 2], out: &mut [T], picks: &mut [i32], others: &Others<'_>) {
    let input = Seen::<T>::new(others, &step.input, &[&step.kept[..], &[step.len]].concat());
    let rank = step.kept.len();
    let (kept, along) = input.strides.split_at(rank);
    let (out_kept, out_along) = step.values.strides.split_at(rank);
    let (pick_kept, pick_along) = step.indices.strides.split_at(rank);
    let mut order: Vec<usize> = Vec::with_capacity(step.len);
    let [values_at, picks_at] = begins;
    walk(&step.kept, [values_at, picks_at, input.from], [out_kept, pick_kept, kept], |[to, pick, from]| {
        let value = |i: usize| input.data[from.wrapping_add_signed(i as isize * along[0])];
        // NaN comes last.
        let better = |a: usize, b: usize| {
            let (x, y) = (value(a), value(b));
            let order = if step.largest { y.partial_cmp(&x) } else { x.partial_cmp(&y) };
            let is_nan = |v: T| v.partial_cmp(&v).is_none();
            order.unwrap_or_else(|| is_nan(x).cmp(&is_nan(y))).then(a.cmp(&b))
        };
        order.clear();
        order.extend(0..step.len);
        if step.k < step.len {
            order.select_nth_unstable_by(step.k, |&a, &b| better(a, b));
            order.truncate(step.k);
        }
        order.sort_unstable_by(|&a, &b| better(a, b));
        for (n, &i) in order.iter().enumerate() {
            out[to.wrapping_add_signed(n as isize * out_along[0])] = value(i);
            picks[pick.wrapping_add_signed(n as isize * pick_along[0])] = i as i32;
        }
    });
}

pub(super) fn non_max_suppression(step: &NonMaxSuppression, memory: &mut Memory) {
    let rows = step.batches * step.classes * step.limit.min(step.boxes);
    let count_span = step.count.span(&[]).expect("one element");
    // Without rows nothing of the output may be touched.
    let Some(span) = step.output.span(&[rows, 3]) else {
        let ([count], _) = memory.writing([count_span]);
        count.ints().fill(0);
        return;
    };
    let ([out, count], others) = memory.writing([span, count_span]);
    let out = out.ints();
    let corners = Seen::<f32>::new(&others, &step.corners, &[step.batches, step.boxes, 4]);
    let scores = Seen::<f32>::new(&others, &step.scores, &[step.batches, step.classes, step.boxes]);
    let mut selected = Vec::new();
    for batch in 0..step.batches {
        let boxes: Vec<[f32; 4]> = (0..step.boxes)
            .map(|i| {
                let number = |n: usize| {
                    let steps = [batch, i, n].into_iter().zip(corners.strides);
                    corners.data[steps.fold(corners.from, |at, (i, &s)| at.wrapping_add_signed(i as isize * s))]
                };
                rectangle([number(0), number(1), number(2), number(3)], step.center_point)
            })
            .collect();
        for class in 0..step.classes {
            let score = |i: usize| {
                let steps = [batch, class, i].into_iter().zip(scores.strides);
                scores.data[steps.fold(scores.from, |at, (i, &s)| at.wrapping_add_signed(i as isize * s))]
            };
            let mut order: Vec<usize> =
                (0..step.boxes).filter(|&i| step.threshold.is_none_or(|least| score(i) > least)).collect();
            order.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal));
            let first = selected.len();
            for i in order {
                if selected.len() - first == step.limit {
                    break;
                }
                let stands_out = |&[_, _, other]: &[usize; 3]| iou(&boxes[i], &boxes[other]) <= step.iou;
                if selected[first..].iter().all(stands_out) {
                    selected.push([batch, class, i]);
                }
            }
        }
    }
    count.ints()[0] = selected.len() as i32;
    selected.resize(rows, [0; 3]);
    let begin = step.output.offset - span.begin;
    let mut numbers = selected.iter().flatten();
    walk(&[rows, 3], [begin], [&step.output.strides], |[to]| out[to] = *numbers.next().expect("as many") as i32);
}

/// Least y and x, greatest y and x (or with the two swapped: that is the same to an intersection).
fn rectangle([a, b, c, d]: [f32; 4], center_point: bool) -> [f32; 4] {
    if center_point {
        [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0]
    } else {
        [a.min(c), b.min(d), a.max(c), b.max(d)]
    }
}

/// Intersection over union; 0 for boxes without an area.
fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |r: &[f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let height = a[2].min(b[2]) - a[0].max(b[0]);
    let width = a[3].min(b[3]) - a[1].max(b[1]);
    let (area_a, area_b) = (area(a), area(b));
    if height <= 0.0 || width <= 0.0 || area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let common = height * width;
    common / (area_a + area_b - common)
}
