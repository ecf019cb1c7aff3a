use crate::plan::{Map, View};

use super::{Code, Draft, Element, Program, coordinates, function, line, position};

/// An index an invocation; where everything lies so that it can be taken by fours, four of them.
pub(super) fn program(step: &Map, mut draft: Draft<'_>) -> Program {
    let wide = is_wide(step, &draft);
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
        let at = bind(&mut draft, &format!("{name}_in"), view, wide);
        let kind = draft.kind(view.array);
        let ty = if kind == crate::plan::Kind::Float { "F" } else { "I" };
        line!(body, "    let {name} = {ty}({name}_in[{at}]);");
    }
    let at = bind(&mut draft, "out", &step.output, wide);
    line!(body, "    out[{at}] = {expression};");
    draft.finish_each("Map", dims.iter().product(), &body)
}

/// Binds a view and gives the position of the element that the coordinates `d` have. A view that repeats an element along the
/// last dimension is taken one by one.
fn bind(draft: &mut Draft<'_>, name: &str, view: &View, wide: bool) -> String {
    let kind = draft.kind(view.array);
    let by_four = wide && view.strides.last().is_some_and(|s| *s == 1);
    draft.array(name, view.array, view.offset, if by_four { Element::Four(kind) } else { Element::One(kind) });
    let mut strides = view.strides.clone();
    if let (true, Some(last)) = (by_four, strides.last_mut()) {
        *last = 4;
    }
    position(&format!("{name}_at"), "d", &strides, if by_four { 4 } else { 1 })
}

fn is_wide(step: &Map, draft: &Draft<'_>) -> bool {
    let Some((last, rest)) = step.dims.split_last() else { return false };
    let by_four = |view: &View| {
        let (along, others) = view.strides.split_at(rest.len());
        others == [1] && draft.by_four(view.array, view.offset, along.iter().copied())
    };
    let repeats = |view: &View| view.strides.last().is_some_and(|s| *s == 0);
    last.is_multiple_of(4) && by_four(&step.output) && step.inputs.iter().all(|v| by_four(v) || repeats(v))
}
