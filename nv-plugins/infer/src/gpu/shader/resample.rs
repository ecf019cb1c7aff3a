use crate::plan::{Kind, Resample, Taps};

use super::{Code, Draft, Element, Program, coordinates, line, position};

/// An element an invocation; or four, where the last dimension stays as it is and can be taken by fours.
pub(super) fn program(step: &Resample, mut draft: Draft<'_>) -> Program {
    let kind = draft.kind(step.output.array);
    let (wide, dims, input, output) = shape(step, &draft);
    let element = if wide { Element::Four(kind) } else { Element::One(kind) };
    let (lanes, ty) = (element.lanes(), element.text());
    draft.input("x", step.input.array, step.input.offset, element);
    draft.output("out", step.output.array, step.output.offset, element);
    let mut table = vec![match kind {
        Kind::Float => step.fill.to_bits(),
        Kind::Int => (step.fill as i32) as u32,
    }];
    let mut same = vec![0; dims.len()];
    let (mut body, mut loops, mut inside) = (Code::default(), Code::default(), Vec::new());
    let (mut from, mut weight, mut ends) = (String::from("start"), String::new(), 0);
    for (d, taps) in step.taps.iter().enumerate() {
        let stride = (input[d] / lanes as isize) as u32;
        let (width, index, weights) = match taps {
            Taps::Same => {
                same[d] = input[d];
                continue;
            }
            Taps::Pick(index) => (1, index, None),
            Taps::Blend { width, index, weight } => (*width, index, Some(weight)),
        };
        let begin = table.len();
        table.extend(index.iter().map(|&i| i as u32));
        inside.push(format!("taps[{begin}u + d{d} * {width}u] >= 0"));
        line!(loops, "    for (var t{d} = 0u; t{d} < {width}u; t{d}++) {{");
        ends += 1;
        from.push_str(&format!(" + u32(taps[{begin}u + d{d} * {width}u + t{d}]) * {stride}u"));
        if let Some(weights) = weights {
            let begin = table.len();
            table.extend(weights.iter().map(|w| w.to_bits()));
            let factor = format!("bitcast<f32>(taps[{begin}u + d{d} * {width}u + t{d}])");
            weight = if weight.is_empty() { factor } else { format!("{weight} * {factor}") };
        }
    }
    draft.table("taps", "i32", table);
    coordinates(&mut body, "i", "d", &dims);
    let fill = if kind == Kind::Float { "bitcast<f32>(taps[0])" } else { "taps[0]" };
    line!(body, "    var result = {ty}({fill});");
    inside.push("true".into());
    line!(body, "    if ({}) {{", inside.join(" && "));
    line!(body, "    let start = {};", position("x_at", "d", &same, lanes));
    line!(body, "    result = {ty}(0);");
    body.0.push_str(&loops.0);
    match weight.as_str() {
        // Of several taps, the last: only blends have several.
        "" => line!(body, "    result = load_x({from});"),
        weight => line!(body, "    result += {weight} * load_x({from});"),
    }
    line!(body, "    {}", "}".repeat(ends + 1));
    line!(body, "    store_out({}, result);", position("out_at", "d", &output, lanes));
    draft.finish_each("Resample", dims.iter().product(), &body)
}

/// Whether it goes by fours, the dimensions for that, and the strides of input and output.
fn shape(step: &Resample, draft: &Draft<'_>) -> (bool, Vec<usize>, Vec<isize>, Vec<isize>) {
    let (mut dims, mut input, mut output) =
        (step.dims.clone(), step.input.strides.clone(), step.output.strides.clone());
    let wide = step.taps.last() == Some(&Taps::Same)
        && dims.last().is_some_and(|n| n.is_multiple_of(4))
        && [&step.input, &step.output].into_iter().all(|view| {
            let (last, rest) = view.strides.split_last().expect("as many as dims");
            *last == 1 && draft.by_four(view.array, view.offset, rest.iter().copied())
        });
    if let (true, Some(dim), Some(from), Some(to)) = (wide, dims.last_mut(), input.last_mut(), output.last_mut()) {
        (*dim, *from, *to) = (*dim / 4, 4, 4);
    }
    (wide, dims, input, output)
}
