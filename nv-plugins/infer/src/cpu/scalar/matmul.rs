use crate::cpu::Memory;
use crate::cpu::walk::walk;
use crate::plan::MatMul;

use super::Seen;

pub(super) fn matmul(step: &MatMul, memory: &mut Memory) {
    let dims = |rows: usize, columns: usize| [&step.batch[..], &[rows, columns]].concat();
    let out_dims = dims(step.rows, step.columns);
    let Some(span) = step.output.span(&out_dims) else { return };
    let ([out], others) = memory.writing([span]);
    let out = out.floats();
    let left = Seen::<f32>::new(&others, &step.left, &dims(step.rows, step.depth));
    let right = Seen::<f32>::new(&others, &step.right, &dims(step.depth, step.columns));
    let add = step.add.as_ref().map(|add| Seen::<f32>::new(&others, add, &out_dims));
    let rank = step.batch.len();
    let (left_depth, right_depth) = (left.strides[rank + 1], right.strides[rank]);
    // Over batch, rows and columns: a view that lacks one of them stays where it is.
    let left_strides = [&left.strides[..=rank], &[0]].concat();
    let right_strides = [&right.strides[..rank], &[0, right.strides[rank + 1]]].concat();
    let none = vec![0; rank + 2];
    let add_strides = add.map_or(&none[..], |add| add.strides);
    walk(
        &out_dims,
        [step.output.offset - span.begin, left.from, right.from, add.map_or(0, |add| add.from)],
        [&step.output.strides, &left_strides, &right_strides, add_strides],
        |[to, mut l, mut r, a]| {
            let mut sum = 0.0;
            for d in 0..step.depth {
                if d > 0 {
                    (l, r) = (l.wrapping_add_signed(left_depth), r.wrapping_add_signed(right_depth));
                }
                sum += left.data[l] * right.data[r];
            }
            out[to] = step.alpha * sum + add.map_or(0.0, |add| step.beta * add.data[a]);
        },
    );
}
