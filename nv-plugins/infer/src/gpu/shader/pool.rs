use crate::plan::{Kind, Pool, PoolAxis, PoolKind};

use super::{Code, Draft, Element, Program, coordinates, line};

/// Some rows of a column of a block of channels an invocation. What windows that lie below one another share is gone through
/// once, row by row.
pub(super) fn program(step: &Pool, mut draft: Draft<'_>) -> Program {
    let (input, output) = (&step.input, &step.output);
    let strip = strip(step, draft.tuning.max_sums);
    draft.input("x", input.array, input.offset, Element::Four(Kind::Float));
    draft.output("out", output.array, output.offset, Element::Four(Kind::Float));
    // Begin, end, divisor.
    let row_end = |axis: &PoolAxis| axis.begin + (axis.count - 1) * step.dilation[0] + 1;
    let rows = step.rows.iter().flat_map(|axis| [axis.begin, row_end(axis), axis.divisor]);
    let columns = step.columns.iter().flat_map(|axis| [axis.begin, axis.count, axis.divisor]);
    let words = rows.chain(columns).map(|n| n as u32);
    // WGSL has no way to write infinity.
    draft.table("windows", "u32", words.chain([f32::NEG_INFINITY.to_bits()]).collect());
    let first_column = output.height * 3;
    let infinity = first_column + output.width * 3;
    let ([block, row, column], [dy, dx]) = (input.strides.map(|s| s / 4), step.dilation);
    let strips = output.height.div_ceil(strip);

    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &[output.blocks(), strips, output.width]);
    line!(body, "    let columns = windows[{first_column}u + d2 * 3u + 1u];");
    line!(body, "    let start = x_at + d0 * {block}u + windows[{first_column}u + d2 * 3u] * {column}u;");
    let (least, add) = match step.kind {
        PoolKind::Max => (format!("vec4<f32>(bitcast<f32>(windows[{infinity}u]))"), "max"),
        PoolKind::Average => ("vec4<f32>(0.0)".into(), "plus"),
    };
    if step.kind == PoolKind::Average {
        line!(draft.head, "fn plus(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {{ return a + b; }}");
    }
    line!(body, "    let least = {least};");
    for r in 0..strip {
        line!(body, "    let y{r} = min(d1 * {strip}u + {r}u, {}u);", output.height - 1);
        line!(body, "    let begin{r} = windows[y{r} * 3u];");
        line!(body, "    let end{r} = windows[y{r} * 3u + 1u];");
        line!(body, "    var result{r} = least;");
    }
    line!(body, "    for (var j = begin0; j < end{}; j += {dy}u) {{", strip - 1);
    line!(body, "        let line = start + j * {row}u;");
    line!(body, "        var value = load_x(line);");
    line!(body, "        for (var k = 1u; k < columns; k++) {{");
    line!(body, "            value = {add}(value, load_x(line + k * {}u));", column * dx);
    line!(body, "        }}");
    for r in 0..strip {
        let result = format!("{add}(result{r}, value)");
        if strip == 1 {
            line!(body, "        result{r} = {result};");
        } else {
            line!(body, "        result{r} = select(result{r}, {result}, j >= begin{r} && j < end{r});");
        }
    }
    line!(body, "    }}");
    let [block, row, column] = output.strides.map(|s| s / 4);
    for r in 0..strip {
        let result = match step.kind {
            PoolKind::Max => format!("result{r}"),
            PoolKind::Average => {
                let divisor = format!("windows[y{r} * 3u + 2u] * windows[{first_column}u + d2 * 3u + 2u]");
                format!("result{r} / f32({divisor})")
            }
        };
        line!(body, "    store_out(out_at + d0 * {block}u + y{r} * {row}u + d2 * {column}u, {result});");
    }
    draft.finish_each("Pool", output.blocks() * strips * output.width, &body)
}

/// How many rows are worth to go through together. They must follow on one another.
fn strip(step: &Pool, max_sums: usize) -> usize {
    let follows = |pair: &[PoolAxis]| {
        let [above, below] = [pair[0], pair[1]];
        above.begin <= below.begin && above.begin + above.count <= below.begin + below.count
    };
    if step.dilation[0] != 1 || !step.rows.windows(2).all(follows) {
        return 1;
    }
    // Rows of the input that are read, in all.
    let cost = |strip: usize| -> usize {
        let rows = |strip: &[PoolAxis]| match strip {
            [only] => only.count,
            [first, .., last] => last.begin + last.count - first.begin,
            [] => 0,
        };
        step.rows.chunks(strip).map(rows).sum()
    };
    [1, 2, 4, 8]
        .into_iter()
        .filter(|strip| *strip <= step.rows.len() && strip * 8 <= max_sums)
        .min_by_key(|s| cost(*s))
        .unwrap_or(1)
}
