use crate::cpu::Memory;
use crate::cpu::memory::Written;
use crate::cpu::walk::walk;
use crate::graph::op::Reduction;
use crate::plan::{Reduce, Softmax};

use super::Seen;

pub(super) fn reduce(step: &Reduce, memory: &mut Memory) {
    let Some(span) = step.output.span(&step.kept) else { return };
    let ([out], others) = memory.writing([span]);
    let dims = [&step.kept[..], &step.reduced].concat();
    let (kept, reduced) = step.input.strides.split_at(step.kept.len());
    let count: usize = step.reduced.iter().product();
    let begin = step.output.offset - span.begin;
    match out {
        Written::Floats(out) => {
            let input = Seen::<f32>::new(&others, &step.input, &dims);
            walk(&step.kept, [begin, input.from], [&step.output.strides, kept], |[to, from]| {
                let mut total = if step.kind == Reduction::Max { f32::NEG_INFINITY } else { 0.0 };
                walk(&step.reduced, [from], [reduced], |[at]| match step.kind {
                    Reduction::Max => total = total.max(input.data[at]),
                    Reduction::Sum | Reduction::Mean => total += input.data[at],
                });
                out[to] = if step.kind == Reduction::Mean { total / count as f32 } else { total };
            });
        }
        Written::Ints(out) => {
            let input = Seen::<i32>::new(&others, &step.input, &dims);
            walk(&step.kept, [begin, input.from], [&step.output.strides, kept], |[to, from]| {
                let mut total = if step.kind == Reduction::Max { i64::MIN } else { 0 };
                walk(&step.reduced, [from], [reduced], |[at]| match step.kind {
                    Reduction::Max => total = total.max(input.data[at].into()),
                    Reduction::Sum | Reduction::Mean => total += i64::from(input.data[at]),
                });
                out[to] = if step.kind == Reduction::Mean { total / count.max(1) as i64 } else { total } as i32;
            });
        }
    }
}

pub(super) fn softmax(step: &Softmax, memory: &mut Memory) {
    let Some(span) = step.output.span(&step.dims) else { return };
    let ([out], others) = memory.writing([span]);
    let out = out.floats();
    let input = Seen::<f32>::new(&others, &step.input, &step.dims);
    let last = step.dims.len() - 1;
    let (dims, along) = step.dims.split_at(last);
    let (to_strides, to_along) = step.output.strides.split_at(last);
    let (from_strides, from_along) = input.strides.split_at(last);
    walk(dims, [step.output.offset - span.begin, input.from], [to_strides, from_strides], |[to, from]| {
        let mut greatest = f32::NEG_INFINITY;
        walk(along, [from], [from_along], |[from]| greatest = greatest.max(input.data[from]));
        let mut sum = 0.0;
        walk(along, [to, from], [to_along, from_along], |[to, from]| {
            out[to] = (input.data[from] - greatest).exp();
            sum += out[to];
        });
        walk(along, [to], [to_along], |[to]| out[to] /= sum);
    });
}
