//! What a step reads and writes, and whether a plan keeps to its own memory.

use super::{Action, Function, Kind, Picture, Plan, Resample, Span, Taps, View};

/// The spans that a step touches, each with the kind that it must be of; `None`: of any.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    pub(crate) reads: Vec<(Span, Option<Kind>)>,
    pub(crate) writes: Vec<(Span, Option<Kind>)>,
    /// One that is written through a view whose dimensions do not [nest](View::nests).
    pub(crate) tangled: Option<Span>,
}

impl Accesses {
    /// Those of a step.
    pub(crate) fn of(action: &Action) -> Self {
        let mut all = Self::default();
        let (float, int) = (Some(Kind::Float), Some(Kind::Int));
        match action {
            Action::Conv(conv) => {
                all.read(conv.input.span(), float);
                all.read(conv.residual.as_ref().and_then(|(picture, _)| picture.span()), float);
                all.write_picture(&conv.output);
            }
            Action::Pool(pool) => {
                all.read(pool.input.span(), float);
                all.write_picture(&pool.output);
            }
            Action::Map(map) => {
                let kinds = |i: usize| match map.function {
                    Function::Where if i == 0 => int,
                    Function::MulAdd => float,
                    _ => None,
                };
                map.inputs.iter().enumerate().for_each(|(i, input)| all.read(input.span(&map.dims), kinds(i)));
                let kind = match map.function {
                    Function::MulAdd => float,
                    Function::Binary(binary, _) if binary.is_truth() => int,
                    Function::Cast(element) => Kind::of(element),
                    _ => None,
                };
                all.write(&map.output, &map.dims, kind);
            }
            Action::Reduce(reduce) => {
                all.read(reduce.input.span(&[&reduce.kept[..], &reduce.reduced].concat()), None);
                all.write(&reduce.output, &reduce.kept, None);
            }
            Action::MatMul(m) => {
                let dims = |r: usize, c: usize| [&m.batch[..], &[r, c]].concat();
                all.read(m.left.span(&dims(m.rows, m.depth)), float);
                all.read(m.right.span(&dims(m.depth, m.columns)), float);
                let out = dims(m.rows, m.columns);
                all.read(m.add.as_ref().and_then(|add| add.span(&out)), float);
                all.write(&m.output, &out, float);
            }
            Action::Softmax(softmax) => {
                all.read(softmax.input.span(&softmax.dims), float);
                all.write(&softmax.output, &softmax.dims, float);
            }
            Action::Resample(resample) => {
                all.read(resampled(resample), None);
                all.write(&resample.output, &resample.dims, None);
            }
            Action::Gather(g) => {
                all.read(g.data.span(&[&g.outer[..], &[g.len], &g.inner].concat()), None);
                all.read(g.indices.span(&g.picked), int);
                all.write(&g.output, &[&g.outer[..], &g.picked, &g.inner].concat(), None);
            }
            Action::ArgMax(a) => {
                all.read(a.input.span(&[&a.kept[..], &[a.len]].concat()), None);
                all.write(&a.output, &a.kept, int);
            }
            Action::TopK(t) => {
                all.read(t.input.span(&[&t.kept[..], &[t.len]].concat()), None);
                let out = [&t.kept[..], &[t.k]].concat();
                all.write(&t.values, &out, None);
                all.write(&t.indices, &out, int);
            }
            Action::NonMaxSuppression(n) => {
                all.read(n.corners.span(&[n.batches, n.boxes, 4]), float);
                all.read(n.scores.span(&[n.batches, n.classes, n.boxes]), float);
                all.write(&n.output, &[n.batches * n.classes * n.limit.min(n.boxes), 3], int);
                all.write(&n.count, &[], int);
            }
            Action::Shuffle(shuffle) => {
                shuffle.inputs.iter().for_each(|input| all.read(input.span(), float));
                all.write_picture(&shuffle.output);
            }
        }
        all
    }

    /// Whether something that is written is read too.
    pub(crate) fn meet(&self) -> bool {
        self.writes.iter().any(|(written, _)| self.reads.iter().any(|(read, _)| read.overlaps(written)))
    }

    /// The arrays.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = super::ArrayId> {
        self.reads.iter().chain(&self.writes).map(|(span, _)| span.array)
    }

    fn read(&mut self, span: Option<Span>, kind: Option<Kind>) {
        self.reads.extend(span.map(|span| (span, kind)));
    }

    fn write(&mut self, view: &View, dims: &[usize], kind: Option<Kind>) {
        let Some(span) = view.span(dims) else { return };
        self.writes.push((span, kind));
        if !view.nests(dims) {
            self.tangled.get_or_insert(span);
        }
    }

    fn write_picture(&mut self, picture: &Picture) {
        self.write(&picture.view(), &picture.dims(), Some(Kind::Float));
    }
}

/// What a resampling reads: `None` where some dimension's taps are all none.
pub(crate) fn resampled(resample: &Resample) -> Option<Span> {
    let mut view = resample.input.clone();
    let mut dims = Vec::with_capacity(resample.dims.len());
    for (d, (taps, &dim)) in resample.taps.iter().zip(&resample.dims).enumerate() {
        let (least, greatest) = match taps {
            Taps::Same => (0, dim.checked_sub(1)?),
            Taps::Pick(index) | Taps::Blend { index, .. } => {
                let inside = || index.iter().filter(|&&i| i >= 0).map(|&i| i as usize);
                (inside().min()?, inside().max()?)
            }
        };
        view.offset = view.offset.wrapping_add_signed(view.strides[d] * least as isize);
        dims.push(greatest - least + 1);
    }
    view.span(&dims)
}

/// Whether every step keeps to its arrays, writes no constant, reads nothing that it writes, and writes nothing twice. Kernels
/// rely on the spans, and threads on having each element of the output for themselves; what is wrong inside of a step, kernels
/// refuse themselves.
///
/// # Errors
/// The first step that doesn't, and what is wrong with it.
pub(crate) fn check(plan: &Plan) -> Result<(), (String, String)> {
    for step in &plan.steps {
        let wrong = |what: String| Err((step.node.clone(), what));
        let accesses = Accesses::of(&step.action);
        for (span, kind) in accesses.reads.iter().chain(&accesses.writes) {
            let Some(array) = plan.arrays.get(span.array.index()) else {
                return wrong(format!("there is no array {}", span.array.0));
            };
            if span.begin > span.end || span.end > array.len {
                return wrong(format!("{span:?} is not inside of the {} elements of {:?}", array.len, array.name));
            }
            if kind.is_some_and(|kind| kind != array.kind) {
                return wrong(format!("{:?} holds {:?}, not {kind:?}", array.name, array.kind));
            }
        }
        if let Some(span) = accesses.tangled {
            return wrong(format!("the view through which it writes {span:?} overlaps itself"));
        }
        for (i, (span, _)) in accesses.writes.iter().enumerate() {
            if plan.array(span.array).constant.is_some() {
                return wrong(format!("the constant {:?} is written", plan.array(span.array).name));
            }
            let others = accesses.reads.iter().chain(&accesses.writes[..i]);
            if let Some((other, _)) = others.into_iter().find(|(other, _)| other.overlaps(span)) {
                return wrong(format!("it writes {span:?} while it uses {other:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::Reduction;
    use crate::plan::{Array, ArrayId, Map, MemoryPlan, Reduce, Step};

    /// What is wrong with a plan of one step over two arrays of floats.
    fn wrong(action: Action) -> Option<String> {
        let array = |name: &str| Array { name: name.into(), kind: Kind::Float, len: 64, constant: None };
        let plan = Plan {
            block: 8,
            arrays: vec![array("x"), array("y")],
            steps: vec![Step { node: "a node".into(), action }],
            inputs: Vec::new(),
            outputs: Vec::new(),
            memory: MemoryPlan::default(),
        };
        check(&plan).err().map(|(_, what)| what)
    }

    #[test]
    fn a_step_that_writes_a_place_twice_is_refused() {
        let view =
            |array: u32, strides: &[isize]| View { array: ArrayId(array), offset: 32, strides: strides.to_vec() };
        let copy = |dims: &[usize], strides: &[isize]| {
            let input = view(0, &vec![0; dims.len()]);
            let function = Function::Copy;
            Action::Map(Map { function, dims: dims.to_vec(), inputs: vec![input], output: view(1, strides) })
        };
        let refused = |action| wrong(action).is_some_and(|what| what.contains("overlaps itself"));
        assert_eq!(wrong(copy(&[2, 3], &[3, -1])), None);
        assert!(refused(copy(&[2, 3], &[0, 1])));
        assert!(refused(copy(&[2, 3], &[2, 1])));
        let sum = Reduce {
            kind: Reduction::Sum,
            kept: vec![4],
            reduced: vec![2],
            input: view(0, &[2, 1]),
            output: view(1, &[0]),
        };
        assert!(refused(Action::Reduce(sum)));
    }
}
