use crate::plan::{Kind, Picture, Shuffle};

use super::{Code, Draft, Element, Program, coordinates, line};

/// A pixel of a block of channels an invocation; `None` where there are more inputs than a kernel may be given.
pub(super) fn program(step: &Shuffle, mut draft: Draft<'_>) -> Option<Program> {
    // The output and the tables are bound too.
    if step.inputs.len() + 3 > draft.tuning.max_storage_buffers {
        return None;
    }
    let output = &step.output;
    for (n, input) in step.inputs.iter().enumerate() {
        draft.input(&format!("x{n}"), input.array, input.offset, Element::One(Kind::Float));
    }
    draft.output("out", output.array, output.offset, Element::Four(Kind::Float));
    // By fours, as the output has them; those that it does not have are the last.
    let (mut inputs, mut places) = (Vec::new(), Vec::new());
    for c in 0..output.blocks() * 4 {
        let (input, channel) = step.channels[c.min(output.channels - 1)];
        let picture = &step.inputs[input as usize];
        let at = channel as usize / picture.block * picture.strides[0] + channel as usize % picture.block;
        inputs.push(input);
        places.push(at as u32);
    }
    draft.table("places", "vec4<u32>", places);
    let several = step.inputs.len() > 1;
    if several {
        draft.table("inputs", "vec4<u32>", inputs);
    }
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &[output.blocks(), output.height, output.width]);
    line!(body, "    let four = places[d0];");
    if several {
        line!(body, "    let input = inputs[d0];");
    }
    for lane in ["x", "y", "z", "w"] {
        let at = |n: usize, input: &Picture| {
            let [_, row, column] = input.strides;
            format!("load_x{n}(x{n}_at + four.{lane} + d1 * {row}u + d2 * {column}u)")
        };
        if !several {
            line!(body, "    let {lane} = {};", at(0, &step.inputs[0]));
            continue;
        }
        line!(body, "    var {lane} = 0.0;");
        line!(body, "    switch (input.{lane}) {{");
        for (n, input) in step.inputs.iter().enumerate() {
            let case = if n == 0 { "default".into() } else { format!("case {n}u") };
            line!(body, "        {case}: {{ {lane} = {}; }}", at(n, input));
        }
        line!(body, "    }}");
    }
    let [block, row, column] = output.strides.map(|s| s / 4);
    line!(body, "    store_out(out_at + d0 * {block}u + d1 * {row}u + d2 * {column}u, vec4<f32>(x, y, z, w));");
    Some(draft.finish_each("Shuffle", output.blocks() * output.height * output.width, &body))
}
