use crate::plan::{Kind, Pool, PoolAxis, PoolKind};

use super::{Code, Draft, Element, Program, coordinates, line};

/// A pixel of a block of channels an invocation.
pub(super) fn program(step: &Pool, mut draft: Draft<'_>) -> Program {
    let (input, output) = (&step.input, &step.output);
    draft.array("x", input.array, input.offset, Element::Four(Kind::Float));
    draft.array("out", output.array, output.offset, Element::Four(Kind::Float));
    let words = |axis: &PoolAxis| [axis.begin as u32, axis.count as u32, axis.divisor as u32];
    draft.table("windows", "u32", step.rows.iter().chain(&step.columns).flat_map(words).collect());
    let columns = step.rows.len() * 3;
    let ([block, row, column], [dy, dx]) = (input.strides.map(|s| s / 4), step.dilation);
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &[output.blocks(), output.height, output.width]);
    line!(body, "    let rows = windows[d1 * 3u + 1u];");
    line!(body, "    let columns = windows[{columns}u + d2 * 3u + 1u];");
    line!(
        body,
        "    let start = x_at + d0 * {block}u + windows[d1 * 3u] * {row}u + windows[{columns}u + d2 * 3u] * {column}u;"
    );
    let first = if step.kind == PoolKind::Max { "x[start]" } else { "vec4<f32>(0.0)" };
    line!(body, "    var result = {first};");
    line!(body, "    for (var j = 0u; j < rows; j++) {{");
    line!(body, "        for (var k = 0u; k < columns; k++) {{");
    line!(body, "            let value = x[start + j * {}u + k * {}u];", row * dy, column * dx);
    match step.kind {
        PoolKind::Max => line!(body, "            result = max(result, value);"),
        PoolKind::Average => line!(body, "            result += value;"),
    }
    line!(body, "        }}");
    line!(body, "    }}");
    if step.kind == PoolKind::Average {
        line!(body, "    result /= f32(windows[d1 * 3u + 2u] * windows[{columns}u + d2 * 3u + 2u]);");
    }
    let [block, row, column] = output.strides.map(|s| s / 4);
    line!(body, "    out[out_at + d0 * {block}u + d1 * {row}u + d2 * {column}u] = result;");
    draft.finish_each("Pool", output.blocks() * output.height * output.width, &body)
}
