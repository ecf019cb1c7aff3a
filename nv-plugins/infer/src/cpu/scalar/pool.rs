use crate::cpu::Memory;
use crate::plan::{Pool, PoolKind};

/// Element by element. Lanes beyond the last channel are computed with the rest: whatever they hold, they stay apart.
pub(super) fn pool(step: &Pool, memory: &mut Memory) {
    let Some(span) = step.output.span() else { return };
    let ([out], others) = memory.writing([span]);
    let out = out.floats();
    let input = others.floats(step.input.span().expect("each window covers something"));
    let block = step.output.block;
    let ([from_b, from_y, from_x], [to_b, to_y, to_x]) = (step.input.strides, step.output.strides);
    for b in 0..step.output.blocks() {
        for (y, rows) in step.rows.iter().enumerate() {
            for (x, columns) in step.columns.iter().enumerate() {
                let pixel = &mut out[b * to_b + y * to_y + x * to_x..][..block];
                pixel.fill(if step.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 });
                for j in 0..rows.count {
                    for k in 0..columns.count {
                        let (row, column) = (rows.begin + j * step.dilation[0], columns.begin + k * step.dilation[1]);
                        let source = &input[b * from_b + row * from_y + column * from_x..][..block];
                        for (to, &from) in pixel.iter_mut().zip(source) {
                            match step.kind {
                                PoolKind::Max => *to = to.max(from),
                                PoolKind::Average => *to += from,
                            }
                        }
                    }
                }
                if step.kind == PoolKind::Average {
                    let divisor = (rows.divisor * columns.divisor) as f32;
                    pixel.iter_mut().for_each(|to| *to /= divisor);
                }
            }
        }
    }
}
