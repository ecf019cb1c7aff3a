use crate::plan::{Gather, Values};

use super::{Code, Draft, Element, Program, coordinates, line, position};

/// An element an invocation. Indices must be known: one that is out of range is an error of the run, which a device can't
/// tell.
pub(super) fn program(step: &Gather, mut draft: Draft<'_>) -> Option<Program> {
    let Some(Values::Ints(indices)) = &draft.arrays[step.indices.array.index()].constant else { return None };
    let picks = picks(step, indices)?;
    let kind = draft.kind(step.output.array);
    draft.input("data", step.data.array, step.data.offset, Element::One(kind));
    draft.output("out", step.output.array, step.output.offset, Element::One(kind));
    draft.table("picks", "u32", picks);
    let (o, p) = (step.outer.len(), step.picked.len());
    let dims = [&step.outer[..], &step.picked, &step.inner].concat();
    let strides = &step.data.strides;
    let along = |range: std::ops::Range<usize>, strides: &[isize]| {
        // What is no coordinate of this part does not move it.
        let mut all = vec![0; dims.len()];
        all[range].copy_from_slice(strides);
        all
    };
    let row = crate::plan::row_major(&step.picked);
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &dims);
    line!(body, "    let pick = picks[{}];", position("0u", "d", &along(o..o + p, &row), 1));
    let outer = along(0..o, &strides[..o]);
    let inner = along(o + p..dims.len(), &strides[o + 1..]);
    let start = position(&position("data_at", "d", &outer, 1), "d", &inner, 1);
    let to = position("out_at", "d", &step.output.strides, 1);
    line!(body, "    store_out({to}, load_data({start} + pick * {}u));", strides[o] as u32);
    Some(draft.finish_each("Gather", dims.iter().product(), &body))
}

/// The indices counted from the beginning, row-major; `None` where one is out of range.
fn picks(step: &Gather, indices: &[i32]) -> Option<Vec<u32>> {
    let mut picks = Vec::with_capacity(step.picked.iter().product());
    let mut valid = true;
    crate::cpu::walk(&step.picked, [step.indices.offset], [&step.indices.strides], |[at]| {
        let pick = i64::from(indices[at]);
        let pick = if pick < 0 { pick + step.len as i64 } else { pick };
        valid &= (0..step.len as i64).contains(&pick);
        picks.push(pick as u32);
    });
    valid.then_some(picks)
}
