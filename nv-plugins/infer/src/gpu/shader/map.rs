use crate::plan::{Kind, Map, View};

use super::{Code, Draft, Element, Program, coordinates, function, line, position};

/// Four indices an invocation, along the last dimension; or one, where that does not come out even.
pub(super) fn program(step: &Map, mut draft: Draft<'_>) -> Program {
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
        let places = Places::bind(&mut draft, &mut body, &format!("{name}_in"), view, wide);
        line!(body, "    let {name} = {ty}({});", places.0.join(", "));
    }
    let places = Places::bind(&mut draft, &mut body, "out", &step.output, wide);
    line!(body, "    let result = {expression};");
    match &places.0[..] {
        [place] => line!(body, "    {place} = result;"),
        places => places.iter().enumerate().for_each(|(n, place)| line!(body, "    {place} = result[{n}];")),
    }
    draft.finish_each("Map", dims.iter().product(), &body)
}

/// Where the elements of an invocation are: all in one place, or each in its own.
struct Places(Vec<String>);

impl Places {
    /// Binds a view.
    fn bind(draft: &mut Draft<'_>, body: &mut Code, name: &str, view: &View, wide: bool) -> Self {
        let kind = draft.kind(view.array);
        let mut strides = view.strides.clone();
        let Some(last) = strides.last_mut().filter(|_| wide) else {
            draft.array(name, view.array, view.offset, Element::One(kind));
            let at = position(&format!("{name}_at"), "d", &strides, 1);
            return Self(vec![format!("{name}[{at}]")]);
        };
        let step = *last;
        *last *= 4;
        if step == 1 && draft.by_four(view.array, view.offset, strides.iter().copied()) {
            draft.array(name, view.array, view.offset, Element::Four(kind));
            let at = position(&format!("{name}_at"), "d", &strides, 4);
            return Self(vec![format!("{name}[{at}]")]);
        }
        draft.array(name, view.array, view.offset, Element::One(kind));
        line!(body, "    let {name}_from = {};", position(&format!("{name}_at"), "d", &strides, 1));
        // One that is repeated is read once.
        let count = if step == 0 && name != "out" { 1 } else { 4 };
        Self((0..count).map(|n| format!("{name}[{name}_from + {}u]", (n * step) as u32)).collect())
    }
}
