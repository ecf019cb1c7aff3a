use crate::plan::{Gather, Kind, Values};

use super::{Code, Draft, Element, Program, coordinates, each, line, position};

/// An element an invocation.
///
/// Constant indices within range are a table. All others are looked at in the run: one that is out of range is taken for the
/// nearest that is not, so that nothing is read beyond the data, and the first such of each entry is noted as a fault.
///
/// `None` where there is nothing to pick from, so that every index is wrong, and where there is more than an index can say.
pub(super) fn program(step: &Gather, mut draft: Draft<'_>) -> Option<Program> {
    let len = i32::try_from(step.len).ok().filter(|len| *len > 0)?;
    let kind = draft.kind(step.output.array);
    draft.input("data", step.data.array, step.data.offset, Element::One(kind));
    draft.output("out", step.output.array, step.output.offset, Element::One(kind));
    let (o, p) = (step.outer.len(), step.picked.len());
    let dims = [&step.outer[..], &step.picked, &step.inner].concat();
    let count = dims.iter().product();
    let strides = &step.data.strides;
    let along = |range: std::ops::Range<usize>, strides: &[isize]| {
        // What is no coordinate of this part does not move it.
        let mut all = vec![0; dims.len()];
        all[range].copy_from_slice(strides);
        all
    };
    let workgroup = draft.tuning.workgroup_for(count);
    let (mut code, mut body) = (Code::default(), Code::default());
    coordinates(&mut body, "i", "d", &dims);
    match known(step, &draft) {
        Some(picks) => {
            draft.table("picks", "u32", picks);
            let row = crate::plan::row_major(&step.picked);
            line!(body, "    let pick = picks[{}];", position("0u", "d", &along(o..o + p, &row), 1));
        }
        None => {
            draft.input("indices", step.indices.array, step.indices.offset, Element::One(Kind::Int));
            draft.faults("faults");
            line!(draft.head, "var<workgroup> first: atomic<u32>;");
            note(&mut code, step, workgroup);
            let at = position("indices_at", "d", &along(o..o + p, &step.indices.strides), 1);
            line!(body, "    let index = load_indices({at});");
            line!(body, "    let pick = u32(clamp(select(index, index + {len}, index < 0), 0, {}));", len - 1);
        }
    }
    let outer = along(0..o, &strides[..o]);
    let inner = along(o + p..dims.len(), &strides[o + 1..]);
    let start = position(&position("data_at", "d", &outer, 1), "d", &inner, 1);
    let to = position("out_at", "d", &step.output.strides, 1);
    line!(body, "    store_out({to}, load_data({start} + pick * {}u));", strides[o] as u32);
    let (body, groups, workgroup) = each(workgroup, count, &body);
    code.0.push_str(&body.0);
    Some(draft.finish("Gather", workgroup, code, groups))
}

/// Has the first workgroup of an entry look at all indices, and note the first that is out of range; as there is something to
/// pick from, that is not 0. One workgroup can tell which is the first and note it in one word. For the price of it, that others
/// have less to do, there are seldom more than some thousand indices.
fn note(code: &mut Code, step: &Gather, workgroup: usize) {
    let (count, len) = (step.picked.iter().product::<usize>(), step.len);
    line!(code, "    if (group.x == 0u && group.y == 0u) {{");
    line!(code, "    if (lane == 0u) {{ atomicStore(&first, {count}u); }}");
    line!(code, "    workgroupBarrier();");
    line!(code, "    var own = {count}u;");
    line!(code, "    var wrong = 0;");
    line!(code, "    for (var p = lane; p < {count}u; p += {workgroup}u) {{");
    coordinates(code, "p", "q", &step.picked);
    line!(code, "    let index = load_indices({});", position("indices_at", "q", &step.indices.strides, 1));
    line!(code, "    if (index < -{len} || index >= {len}) {{");
    line!(code, "        atomicMin(&first, p);");
    line!(code, "        own = p;");
    line!(code, "        wrong = index;");
    line!(code, "        break;");
    line!(code, "    }}");
    line!(code, "    }}");
    line!(code, "    workgroupBarrier();");
    line!(code, "    if (own < {count}u && own == atomicLoad(&first)) {{ faults[group.z] = wrong; }}");
    line!(code, "    }}");
}

/// Indices that are constants, counted from the beginning, row-major; `None` where they are not, or one is out of range.
fn known(step: &Gather, draft: &Draft<'_>) -> Option<Vec<u32>> {
    let Some(Values::Ints(indices)) = &draft.arrays[step.indices.array.index()].constant else { return None };
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
