use crate::plan::{Function, Kind, Map, View};

use super::{Code, Draft, Element, Program, coordinates, function, line, position};

/// Four indices an invocation, along the last dimension; or one, where that does not come out even. Where fours change places, as
/// between planes and blocks, sixteen.
pub(super) fn program(step: &Map, mut draft: Draft<'_>) -> Program {
    if let Some(turned) = Turned::of(step, &draft) {
        return turned.program(step, draft);
    }
    let wide = step.dims.last().is_some_and(|n| n.is_multiple_of(4));
    let mut dims = step.dims.clone();
    if let (true, Some(last)) = (wide, dims.last_mut()) {
        *last /= 4;
    }
    let (declarations, expression) = function::of(step.function, draft.kind(step.inputs[0].array));
    draft.head.0.push_str(&function::aliases(if wide { 4 } else { 1 }));
    draft.head.0.push_str(&declarations);
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &dims);
    for (name, view) in ["a", "b", "c"].into_iter().zip(&step.inputs) {
        let ty = if draft.kind(view.array) == Kind::Float { "F" } else { "I" };
        let name_in = format!("{name}_in");
        let (element, places) = places(&draft, &mut body, &name_in, view, wide);
        draft.input(&name_in, view.array, view.offset, element);
        let values: Vec<_> = places.iter().map(|place| format!("load_{name_in}({place})")).collect();
        // One that is repeated is read once.
        let count = if places.iter().all(|place| *place == places[0]) { 1 } else { values.len() };
        line!(body, "    let {name} = {ty}({});", values[..count].join(", "));
    }
    let (element, places) = places(&draft, &mut body, "out", &step.output, wide);
    draft.output("out", step.output.array, step.output.offset, element);
    line!(body, "    let result = {expression};");
    match &places[..] {
        [place] => line!(body, "    store_out({place}, result);"),
        places => places.iter().enumerate().for_each(|(n, place)| line!(body, "    store_out({place}, result[{n}]);")),
    }
    draft.finish_each("Map", dims.iter().product(), &body)
}

/// A copy of squares of 4×4: what lies side by side along the last dimension but one on one side lies along the last on the other.
struct Turned {
    /// Whether it is the input that lies along the last.
    from_lanes: bool,
}

impl Turned {
    fn of(step: &Map, draft: &Draft<'_>) -> Option<Self> {
        let [.., rows, 4] = step.dims[..] else { return None };
        let ([input], Function::Copy, true) = (&step.inputs[..], step.function, rows.is_multiple_of(4)) else {
            return None;
        };
        let ([others @ .., a, b], [to_others @ .., c, d]) = (&input.strides[..], &step.output.strides[..]) else {
            return None;
        };
        let by_fours = |view: &View, others: &[isize], across: isize| {
            draft.by_four(view.array, view.offset, others.iter().copied().chain([across]))
        };
        match (*a, *b, *c, *d) {
            (along, 1, 1, across) | (1, across, along, 1) if along % 4 == 0 && across % 4 == 0 => {
                let fits = by_fours(input, others, if *b == 1 { along } else { across })
                    && by_fours(&step.output, to_others, if *d == 1 { along } else { across });
                fits.then_some(Self { from_lanes: *b == 1 })
            }
            _ => None,
        }
    }

    fn program(self, step: &Map, mut draft: Draft<'_>) -> Program {
        let (input, output) = (&step.inputs[0], &step.output);
        let kind = draft.kind(input.array);
        let n = step.dims.len() - 2;
        let mut dims = step.dims[..=n].to_vec();
        dims[n] /= 4;
        let mut body = Code::default();
        coordinates(&mut body, "i", "d", &dims);
        // The first of a square, and the step to the next four of it, in fours.
        let side = |view: &View, lanes: bool| {
            let mut strides = view.strides[..=n].to_vec();
            strides[n] *= 4;
            (strides, (if lanes { view.strides[n] } else { view.strides[n + 1] } / 4) as u32)
        };
        let (from, from_step) = side(input, self.from_lanes);
        let (to, to_step) = side(output, !self.from_lanes);
        draft.input("a_in", input.array, input.offset, Element::Four(kind));
        draft.output("out", output.array, output.offset, Element::Four(kind));
        line!(body, "    let first = {};", position("a_in_at", "d", &from, 4));
        line!(body, "    let begin = {};", position("out_at", "d", &to, 4));
        for k in 0..4 {
            line!(body, "    let v{k} = load_a_in(first + {}u);", from_step.wrapping_mul(k));
        }
        for (k, lane) in ["x", "y", "z", "w"].into_iter().enumerate() {
            let ty = Element::Four(kind).text();
            line!(
                body,
                "    store_out(begin + {}u, {ty}(v0.{lane}, v1.{lane}, v2.{lane}, v3.{lane}));",
                to_step.wrapping_mul(k as u32)
            );
        }
        draft.finish_each("Map", dims.iter().product(), &body)
    }
}

/// Where the elements of an invocation are, and what they are taken by: all in one place, or each in its own.
fn places(draft: &Draft<'_>, body: &mut Code, name: &str, view: &View, wide: bool) -> (Element, Vec<String>) {
    let kind = draft.kind(view.array);
    let mut strides = view.strides.clone();
    let Some(last) = strides.last_mut().filter(|_| wide) else {
        return (Element::One(kind), vec![position(&format!("{name}_at"), "d", &strides, 1)]);
    };
    let step = *last;
    *last *= 4;
    if step == 1 && draft.by_four(view.array, view.offset, strides.iter().copied()) {
        return (Element::Four(kind), vec![position(&format!("{name}_at"), "d", &strides, 4)]);
    }
    line!(body, "    let {name}_from = {};", position(&format!("{name}_at"), "d", &strides, 1));
    (Element::One(kind), (0..4).map(|n| format!("{name}_from + {}u", (n * step) as u32)).collect())
}
