use crate::plan::{Kind, Softmax};

use super::{Code, Draft, Element, Program, coordinates, line, position};

/// One row an invocation.
pub(super) fn program(step: &Softmax, mut draft: Draft<'_>) -> Program {
    draft.input("x", step.input.array, step.input.offset, Element::One(Kind::Float));
    draft.output("out", step.output.array, step.output.offset, Element::One(Kind::Float));
    let last = step.dims.len() - 1;
    let (rows, len) = (&step.dims[..last], step.dims[last]);
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", rows);
    line!(body, "    let start = {};", position("x_at", "d", &step.input.strides[..last], 1));
    line!(body, "    let to = {};", position("out_at", "d", &step.output.strides[..last], 1));
    let x = format!("load_x({})", position("start", "r", &step.input.strides[last..], 1));
    let out = position("to", "r", &step.output.strides[last..], 1);
    let each = format!("for (var r0 = 0u; r0 < {len}u; r0++)");
    line!(body, "    var greatest = load_x(start);");
    line!(body, "    {each} {{ greatest = max(greatest, {x}); }}");
    line!(body, "    var sum = 0.0;");
    line!(body, "    {each} {{");
    line!(body, "        let e = exp({x} - greatest);");
    line!(body, "        store_out({out}, e);");
    line!(body, "        sum += e;");
    line!(body, "    }}");
    line!(body, "    {each} {{ store_out({out}, load_out({out}) / sum); }}");
    draft.finish_each("Softmax", rows.iter().product(), &body)
}
