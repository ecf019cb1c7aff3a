use crate::plan::{ArgMax, Kind};

use super::{Code, Draft, Element, Program, coordinates, line, position};

/// One row an invocation.
pub(super) fn program(step: &ArgMax, mut draft: Draft<'_>) -> Program {
    let kind = draft.kind(step.input.array);
    draft.input("x", step.input.array, step.input.offset, Element::One(kind));
    draft.output("out", step.output.array, step.output.offset, Element::One(Kind::Int));
    let rank = step.kept.len();
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &step.kept);
    line!(body, "    let start = {};", position("x_at", "d", &step.input.strides[..rank], 1));
    line!(body, "    var found = false;");
    line!(body, "    var best = {}(0);", Element::One(kind).text());
    line!(body, "    var index = 0u;");
    line!(body, "    for (var r0 = 0u; r0 < {}u; r0++) {{", step.len);
    line!(body, "        let value = load_x({});", position("start", "r", &step.input.strides[rank..], 1));
    // As bits, because a driver may take it that there is no NaN.
    let is_number = match kind {
        Kind::Float => "(bitcast<u32>(value) & 0x7fffffffu) <= 0x7f800000u",
        Kind::Int => "true",
    };
    let better = if step.last { ">=" } else { ">" };
    line!(body, "        if ({is_number} && (!found || value {better} best)) {{");
    line!(body, "            found = true;");
    line!(body, "            best = value;");
    line!(body, "            index = r0;");
    line!(body, "        }}");
    line!(body, "    }}");
    line!(body, "    store_out({}, i32(index));", position("out_at", "d", &step.output.strides, 1));
    draft.finish_each("ArgMax", step.kept.iter().product(), &body)
}
