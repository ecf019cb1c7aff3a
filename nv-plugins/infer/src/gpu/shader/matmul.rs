use crate::plan::{Kind, MatMul, View};

use super::{Code, Draft, Element, Program, coordinates, last, line, number, position};

/// Rows and columns that an invocation computes.
const TILE: [usize; 2] = [4, 4];

/// A tile of a product an invocation. At the edges the last row and column are read again for those that are not there.
pub(super) fn program(step: &MatMul, mut draft: Draft<'_>) -> Program {
    let float = Element::One(Kind::Float);
    let rank = step.batch.len();
    draft.input("left", step.left.array, step.left.offset, float);
    draft.input("right", step.right.array, step.right.offset, float);
    if let Some(add) = &step.add {
        draft.input("add", add.array, add.offset, float);
    }
    draft.output("out", step.output.array, step.output.offset, float);
    let [height, width] = [step.rows.min(TILE[0]), step.columns.min(TILE[1])];
    let tiles = [step.rows.div_ceil(height), step.columns.div_ceil(width)];
    let dims = [&step.batch[..], &tiles].concat();
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &dims);
    let begin = |name: &str, view: &View| position(&format!("{name}_at"), "d", &view.strides[..rank], 1);
    let rows: Vec<usize> = (0..height).collect();
    let columns: Vec<usize> = (0..width).collect();
    for r in &rows {
        line!(body, "    let r{r} = min(d{rank} * {height}u + {r}u, {}u);", step.rows - 1);
    }
    for c in &columns {
        line!(body, "    let c{c} = min(d{} * {width}u + {c}u, {}u);", rank + 1, step.columns - 1);
    }
    let [left_row, left_depth] = [last(&step.left, 2)[0], last(&step.left, 2)[1]].map(|s| s as u32);
    let [right_depth, right_column] = [last(&step.right, 2)[0], last(&step.right, 2)[1]].map(|s| s as u32);
    line!(body, "    let left_from = {};", begin("left", &step.left));
    line!(body, "    let right_from = {};", begin("right", &step.right));
    for r in &rows {
        line!(body, "    let l{r} = left_from + r{r} * {left_row}u;");
        columns.iter().for_each(|c| line!(body, "    var sum{r}_{c} = 0.0;"));
    }
    for c in &columns {
        line!(body, "    let g{c} = right_from + c{c} * {right_column}u;");
    }
    line!(body, "    for (var k = 0u; k < {}u; k++) {{", step.depth);
    for r in &rows {
        line!(body, "        let a{r} = load_left(l{r} + k * {left_depth}u);");
    }
    for c in &columns {
        line!(body, "        let b{c} = load_right(g{c} + k * {right_depth}u);");
    }
    for r in &rows {
        columns.iter().for_each(|c| line!(body, "        sum{r}_{c} = fma(a{r}, b{c}, sum{r}_{c});"));
    }
    line!(body, "    }}");
    line!(body, "    let out_from = {};", begin("out", &step.output));
    if let Some(add) = &step.add {
        line!(body, "    let add_from = {};", begin("add", add));
    }
    let at = |name: &str, view: &View, r: usize, c: usize| {
        let [row, column] = [last(view, 2)[0], last(view, 2)[1]].map(|s| s as u32);
        format!("{name}_from + r{r} * {row}u + c{c} * {column}u")
    };
    for &r in &rows {
        for &c in &columns {
            let inside = [(r, "d", rank, height, step.rows), (c, "d", rank + 1, width, step.columns)]
                .into_iter()
                .filter(|(_, _, _, tile, size)| !size.is_multiple_of(*tile))
                .map(|(n, d, axis, tile, size)| format!("{d}{axis} * {tile}u + {n}u < {size}u"))
                .collect::<Vec<_>>()
                .join(" && ");
            let product = format!("{} * sum{r}_{c}", number(step.alpha));
            let result = match &step.add {
                Some(add) => format!("{product} + {} * load_add({})", number(step.beta), at("add", add, r, c)),
                None => product,
            };
            let store = format!("store_out({}, {result});", at("out", &step.output, r, c));
            if inside.is_empty() {
                line!(body, "    {store}");
            } else {
                line!(body, "    if ({inside}) {{ {store} }}");
            }
        }
    }
    draft.finish_each("MatMul", dims.iter().product(), &body)
}
