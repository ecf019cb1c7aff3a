use crate::plan::{Kind, Shuffle};

use super::{Code, Draft, Element, Program, coordinates, line};

/// A pixel of a block of channels an invocation; `None` where there are more inputs than a kernel may be given.
pub(super) fn program(step: &Shuffle, mut draft: Draft<'_>) -> Option<Program> {
    // The output and the table are bound too.
    if step.inputs.len() + 2 > draft.tuning.max_storage_buffers {
        return None;
    }
    let output = &step.output;
    for (n, input) in step.inputs.iter().enumerate() {
        draft.array(&format!("x{n}"), input.array, input.offset, Element::One(Kind::Float));
    }
    draft.array("out", output.array, output.offset, Element::Four(Kind::Float));
    let table = step.channels.iter().flat_map(|&(input, channel)| {
        let picture = &step.inputs[input as usize];
        let at = channel as usize / picture.block * picture.strides[0] + channel as usize % picture.block;
        [input, at as u32]
    });
    draft.table("channels", "vec2<u32>", table.collect());
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &[output.blocks(), output.height, output.width]);
    line!(body, "    var result = vec4<f32>(0.0);");
    line!(body, "    for (var c = 0u; c < 4u; c++) {{");
    line!(body, "        let source = channels[min(d0 * 4u + c, {}u)];", output.channels - 1);
    line!(body, "        switch (source.x) {{");
    for (n, input) in step.inputs.iter().enumerate() {
        let case = if n == 0 { "default".into() } else { format!("case {n}u") };
        let [_, row, column] = input.strides;
        line!(body, "        {case}: {{ result[c] = x{n}[x{n}_at + source.y + d1 * {row}u + d2 * {column}u]; }}");
    }
    line!(body, "        }}");
    line!(body, "    }}");
    let [block, row, column] = output.strides.map(|s| s / 4);
    line!(body, "    out[out_at + d0 * {block}u + d1 * {row}u + d2 * {column}u] = result;");
    Some(draft.finish_each("Shuffle", output.blocks() * output.height * output.width, &body))
}
