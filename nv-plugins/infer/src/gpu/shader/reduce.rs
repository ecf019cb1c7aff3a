use crate::graph::op::Reduction;
use crate::plan::{Kind, Reduce};

use super::{Code, Draft, Element, Program, coordinates, line, position};

/// One result an invocation.
pub(super) fn program(step: &Reduce, mut draft: Draft<'_>) -> Program {
    let kind = draft.kind(step.output.array);
    let ty = Element::One(kind).text();
    draft.input("x", step.input.array, step.input.offset, Element::One(kind));
    draft.output("out", step.output.array, step.output.offset, Element::One(kind));
    let (kept, reduced) = step.input.strides.split_at(step.kept.len());
    let count: usize = step.reduced.iter().product();
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &step.kept);
    line!(body, "    let start = {};", position("x_at", "d", kept, 1));
    let first = if step.kind == Reduction::Max { "load_x(start)".into() } else { format!("{ty}(0)") };
    line!(body, "    var total = {first};");
    for (r, dim) in step.reduced.iter().enumerate() {
        line!(body, "    for (var r{r} = 0u; r{r} < {dim}u; r{r}++) {{");
    }
    let x = format!("load_x({})", position("start", "r", reduced, 1));
    match step.kind {
        Reduction::Max => line!(body, "    total = max(total, {x});"),
        Reduction::Sum | Reduction::Mean => line!(body, "    total += {x};"),
    }
    for _ in &step.reduced {
        line!(body, "    }}");
    }
    let result = match (step.kind, kind) {
        (Reduction::Mean, Kind::Float) => format!("total / {count}.0"),
        (Reduction::Mean, Kind::Int) => format!("total / {count}"),
        _ => "total".into(),
    };
    line!(body, "    store_out({}, {result});", position("out_at", "d", &step.output.strides, 1));
    draft.finish_each("Reduce", step.kept.iter().product(), &body)
}
