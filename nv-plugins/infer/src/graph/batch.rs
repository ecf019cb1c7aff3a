//! Makes the batch of a graph free: proves that every entry of a batch is computed by itself, and gives the graph a symbol
//! in place of the one entry that the file was exported with.

use std::collections::{BTreeSet, HashMap};

use super::constant::Constant;
use super::infer::{Inference, describe, disbelieve, finish};
use super::ir::{Graph, Node, ValueId};
use super::op::{Coordinates, Op};
use super::shapes::{self, Inputs, axes_at, axis_of, ordered_axes, permutation};
use super::size::{Size, shape_text};
use crate::text::{short_name, shortened};

/// A graph that computes any number of entries, each as it would be alone.
pub(crate) struct Batched {
    pub(crate) graph: Graph,
    /// The symbol of the batch.
    pub(crate) symbol: String,
}

/// Frees the batch of an imported graph. The error says which node can't be shown to compute each entry by itself, and why.
///
/// The argument is by induction over the nodes. A value either does not depend on the entry, or has one dimension of the
/// size N·k along which its entries lie one after another, each k long and each computed from its own entry alone. Every
/// operator either keeps that so or is refused.
pub(crate) fn free(imported: &Graph) -> Result<Batched, String> {
    let symbol = symbol(imported)?;
    let shape = imported.inputs.first().and_then(|&id| imported.shape(id));
    let of_one = shape.and_then(<[Size]>::first).is_some_and(|batch| batch.is(1));
    let batch = Size::symbol(&symbol);
    let mut pass = Pass { graph: imported.clone(), batch, symbol, of_one, ..Default::default() };
    pass.graph.sweep();
    // What the file declares was true of the batch that it was exported with.
    disbelieve(&mut pass.graph);
    for &input in &imported.inputs {
        if let Some(batch) = pass.graph.value_mut(input).shape.as_mut().and_then(|shape| shape.first_mut()) {
            *batch = pass.batch.clone();
        }
        pass.entries.insert(input, 0);
    }
    for index in 0..pass.graph.nodes.len() {
        pass.node(index)?;
    }
    for (name, output) in &pass.graph.outputs {
        let value = pass.graph.value(*output);
        match (pass.entries.get(output), value.shape.as_deref()) {
            (Some(0), Some([batch, ..])) if *batch == pass.batch => {}
            (None, _) => return Err(format!("output {name:?} is the same for every entry")),
            (Some(axis), _) => {
                return Err(format!("output {name:?} ({}) has its entries along axis {axis}", value.text()));
            }
        }
    }
    finish(&mut pass.graph);
    Ok(Batched { graph: pass.graph, symbol: pass.symbol })
}

/// The symbol of the batch: the file's own, or `N` for a file that fixes one entry.
fn symbol(graph: &Graph) -> Result<String, String> {
    let mut batch: Option<&Size> = None;
    let mut others = BTreeSet::new();
    for &input in &graph.inputs {
        let value = graph.value(input);
        let Some([first, rest @ ..]) = value.shape.as_deref() else {
            return Err(format!("input {:?} has no batch dimension", value.name));
        };
        if batch.is_some_and(|batch| batch != first) {
            return Err(format!("inputs differ in their batch: {} in {:?}", shortened(first, 80), value.name));
        }
        batch = Some(first);
        rest.iter().for_each(|d| d.collect_symbols(&mut others));
    }
    let batch = batch.ok_or("the graph has no input")?;
    match batch.as_fixed() {
        Some(1) => {
            let free = ["N", "batch", "entries"].into_iter().find(|name| !others.contains(*name));
            free.map(Into::into).ok_or_else(|| "its other dimensions are called N, batch and entries".into())
        }
        Some(n) => Err(format!("the file fixes a batch of {n}")),
        None => {
            let name = batch.to_string();
            if others.contains(&name) {
                Err(format!("{} is the batch and another dimension too", short_name(&name)))
            } else {
                Ok(name)
            }
        }
    }
}

#[derive(Default)]
struct Pass {
    graph: Graph,
    symbol: String,
    batch: Size,
    /// Whether the file was exported with one entry, rather than with any number.
    of_one: bool,
    inference: Inference,
    /// The dimension along which entries lie, of the values that depend on the entry.
    entries: HashMap<ValueId, usize>,
}

impl Pass {
    fn node(&mut self, index: usize) -> Result<(), String> {
        let node = self.graph.nodes[index].clone();
        let refused = |pass: &Self, reason: &str| describe(&pass.graph, &node, reason);
        let placed: Vec<Option<usize>> = node.inputs.iter().map(|id| self.entries.get(&(*id)?).copied()).collect();
        if matches!(node.op, Op::Other { .. }) {
            return Err(refused(self, "what it does is not known"));
        }
        if let (Op::Reduce { keep_dims: true, .. }, Some(Some(axis))) = (&node.op, placed.first()) {
            self.keep_apart(index, *axis);
        }
        let node = self.graph.nodes[index].clone();
        let facts = self.inference.facts(&self.graph, &node);
        // Over sizes that were computed from shapes the fixed batch of the file would go unnoticed.
        let target = match (&node.op, placed.first().copied().flatten()) {
            (Op::Reshape { .. }, Some(axis)) => {
                Some(self.reshaped(&node, &facts, axis).map_err(|reason| refused(self, &reason))?)
            }
            _ => None,
        };
        self.inference.step(&mut self.graph, index)?;
        let output = node.outputs[0];
        if let Some((shape, axis)) = target {
            self.graph.value_mut(output).shape = Some(shape);
            self.graph.nodes[index].inputs.truncate(1);
            self.entries.insert(output, axis);
            return Ok(());
        }
        let axis = if placed.iter().any(Option::is_some) {
            let shapes = matches!(node.op, Op::Resize(_) | Op::Expand | Op::Slice | Op::Tile | Op::Pad(_));
            let counts = node.used().any(|id| self.inference.sizes(id).is_some_and(|s| self.depends_on_batch(s)));
            if counts && !shapes {
                return Err(refused(self, "it computes with the number of entries"));
            }
            if let Op::Resize(resize) = &node.op
                && resize.coordinates != Coordinates::TfCropAndResize
            {
                self.keep_entries(&node, &placed);
            }
            let axis = self.axis(&node, &placed, &facts).map_err(|reason| refused(self, &reason))?;
            if matches!(node.op, Op::Shape { .. }) { None } else { Some(axis) }
        } else {
            self.made(&node).map_err(|reason| refused(self, &reason))?
        };
        for &output in &node.outputs {
            let Some(axis) = axis else { continue };
            let shape = self.graph.shape(output).ok_or("the shape of its output can't be told for every batch");
            shape.map_err(String::from).and_then(|s| self.check(s, axis)).map_err(|reason| refused(self, &reason))?;
            self.entries.insert(output, axis);
        }
        Ok(())
    }

    /// That the batch is in one dimension, as a factor.
    fn check(&self, shape: &[Size], axis: usize) -> Result<(), String> {
        let apart = |(i, size): (usize, &Size)| match i == axis {
            true => size.divided_evenly(&self.batch).is_some_and(|k| !self.depends_on_batch(&[k])),
            false => !self.depends_on_batch(std::slice::from_ref(size)),
        };
        let holds = axis < shape.len() && shape.iter().enumerate().all(apart);
        if holds { Ok(()) } else { Err(format!("its output {} has no batch along axis {axis}", shape_text(shape))) }
    }

    /// The shape that a Reshape gives, and where the entries lie in it.
    fn reshaped(&self, node: &Node, facts: &[Option<shapes::Fact>], axis: usize) -> Result<(Vec<Size>, usize), String> {
        let unknown = "the shape that it gives can't be told for every batch";
        let from = self.graph.shape(node.inputs[0].ok_or("it has no input")?).ok_or(unknown)?;
        let before = Size::product(&from[..axis])?;
        let target = facts.get(1).and_then(|f| f.as_ref()?.content.as_ref()?.as_ints()).ok_or(unknown)?;
        let follows_batch = self.depends_on_batch(target);
        let mut facts = facts.to_vec();
        if !follows_batch && let Some(Some(fact)) = facts.first_mut() {
            // Made for one entry: seen as such, then given the batch.
            let one = from.iter().map(|d| d.with(&self.symbol, &Size::fixed(1))).collect::<Result<_, _>>()?;
            fact.shape = Some(one);
        }
        let shape = shapes::infer(&node.op, &Inputs(&facts), 1)?.remove(0).shape.ok_or(unknown)?;
        let own = from[axis].divided_evenly(&self.batch);
        let mut best: Option<(u8, usize)> = None;
        let mut product = Size::fixed(1);
        for (place, size) in shape.iter().enumerate() {
            let fits = product == before && (!follows_batch || size.divided_evenly(&self.batch).is_some());
            // A dimension of its own is what the exporter had; then one as long as it was.
            let rank = if size.is(1) || *size == self.batch { 0 } else { 2 - u8::from(Some(size) == own.as_ref()) };
            if fits && best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, place));
            }
            product = product.times(size)?;
        }
        let (_, place) = best.ok_or_else(|| format!("in {} no dimension holds whole entries", shape_text(&shape)))?;
        let mut shape = shape;
        if !follows_batch {
            shape[place] = shape[place].times(&self.batch)?;
        }
        if Size::product(&shape)? != Size::product(from)? {
            return Err(format!("{} has another number of elements", shape_text(&shape)));
        }
        self.check(&shape, place)?;
        Ok((shape, place))
    }

    /// Over the one entry of the file a reduction does nothing: it leaves that axis out, so that it does nothing to many.
    fn keep_apart(&mut self, index: usize, axis: usize) {
        let node = &self.graph.nodes[index];
        let shape = node.input(0).and_then(|id| self.graph.shape(id));
        let (Some(shape), true) = (shape, self.of_one) else { return };
        let rank = shape.len();
        let axes = node.input(1).and_then(|id| self.graph.constant(id));
        let axes = axes.filter(|axes| axes.len() > 1 && axes.len() <= rank && shape[axis] == self.batch);
        let axes = axes.and_then(|axes| axes.as_ints()).map(|axes| axes.into_owned());
        let Some(axes) = axes else { return };
        let others: Vec<i64> = axes.iter().copied().filter(|&a| axis_of(a, rank) != Ok(axis)).collect();
        if others.len() < axes.len() && !others.is_empty() {
            let name = format!("{}.axes", self.graph.value(node.outputs[0]).name);
            let others = self.graph.add_constant(name, Constant::ints(vec![others.len()], others));
            self.graph.nodes[index].inputs[1] = Some(others);
        }
    }

    /// A Resize to sizes has the one entry of the file among them.
    fn keep_entries(&mut self, node: &Node, placed: &[Option<usize>]) {
        let (Some(Some(axis)), Some(input)) = (placed.first(), node.input(0)) else { return };
        let Some(entries) = self.graph.shape(input).and_then(|shape| shape.get(*axis)).cloned() else { return };
        let one = entries.with(&self.symbol, &Size::fixed(1));
        let output = self.graph.value_mut(node.outputs[0]);
        if let Some(size) = output.shape.as_mut().and_then(|shape| shape.get_mut(*axis))
            && one.is_ok_and(|one| one == *size)
            && node.input(3).is_some()
        {
            *size = entries;
        }
    }

    /// Where the entries lie in what is made of values that don't depend on them, but of the batch's size.
    fn made(&self, node: &Node) -> Result<Option<usize>, String> {
        let output = node.outputs[0];
        let of_batch = node.used().any(|id| self.inference.sizes(id).is_some_and(|s| self.depends_on_batch(s)));
        if !of_batch || self.inference.sizes(output).is_some() || self.graph.constant(output).is_some() {
            return Ok(None);
        }
        let shape = self.graph.shape(output).ok_or("it computes with the number of entries")?;
        let axis = shape.iter().position(|d| self.depends_on_batch(std::slice::from_ref(d)));
        match (&node.op, axis) {
            (Op::ConstantOfShape(_) | Op::Expand, Some(axis)) if shape[axis] == self.batch => Ok(Some(axis)),
            (Op::ConstantOfShape(_) | Op::Expand | Op::Reshape { .. } | Op::Slice | Op::Resize(_), None) => Ok(None),
            _ => Err("it computes with the number of entries".into()),
        }
    }

    fn depends_on_batch(&self, sizes: &[Size]) -> bool {
        sizes.iter().any(|size| size.depends_on(&self.symbol))
    }

    /// Where the entries lie in a node's outputs, given where they lie in its inputs, at least one of which has them.
    fn axis(&self, node: &Node, placed: &[Option<usize>], facts: &[Option<shapes::Fact>]) -> Result<usize, String> {
        let inputs = Inputs(facts);
        let shape = |index: usize| node.input(index).and_then(|id| self.graph.shape(id));
        let rank = |index: usize| shape(index).map(<[Size]>::len).ok_or("the shape of an input is not known");
        let out = node.outputs.first().and_then(|&id| self.graph.shape(id));
        let axis = placed.first().copied().flatten();
        let alone = || -> Result<usize, String> {
            let others = placed.iter().skip(1).any(Option::is_some);
            axis.filter(|_| !others).ok_or_else(|| "an input other than the first depends on the entry".into())
        };
        let mixes = |axis: usize| format!("it mixes entries: they lie along axis {axis}");
        let ordered = |axes: &[i64], rank: usize| axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>();
        match &node.op {
            Op::Identity | Op::Dropout | Op::Cast(_) | Op::Unary(_) | Op::Clip | Op::Shape { .. } => alone(),
            // Places are counted through all entries.
            Op::MaxPool(_) if node.outputs.len() > 1 => {
                Err("the places that it gives depend on the entries before".into())
            }
            Op::Conv { .. }
            | Op::ConvTranspose { .. }
            | Op::MaxPool(_)
            | Op::AveragePool { .. }
            | Op::GlobalAveragePool
            | Op::GlobalMaxPool
            | Op::BatchNormalization { .. }
            | Op::InstanceNormalization { .. }
            | Op::DepthToSpace { .. }
            | Op::SpaceToDepth { .. } => match alone()? {
                0 => Ok(0),
                axis => Err(mixes(axis)),
            },
            Op::PRelu | Op::Binary(_) | Op::Where => self.aligned(node, placed, 0),
            Op::MatMul => self.matmul(node, placed),
            Op::Gemm { trans_a, .. } => {
                let rows = usize::from(*trans_a);
                let spread = shape(2).is_some_and(|c| c.len() > 1 && !c[0].is(1));
                match alone()? {
                    axis if axis == rows && !spread => Ok(0),
                    axis => Err(mixes(axis)),
                }
            }
            Op::Softmax { axis: over, flat } => {
                let axis = alone()?;
                let over = axis_of(*over, rank(0)?)?;
                if axis < over || (!flat && axis != over) { Ok(axis) } else { Err(mixes(axis)) }
            }
            Op::Reduce { keep_dims, empty_is_noop, .. } => {
                let axis = alone()?;
                let mut axes = axes_at(&inputs, 1, rank(0)?)?.ok_or("its axes are not known")?;
                if axes.is_empty() && !empty_is_noop {
                    axes = (0..rank(0)?).collect();
                }
                if facts.get(1).is_none_or(Option::is_none) && *empty_is_noop {
                    axes.clear();
                }
                if axes.contains(&axis) {
                    return Err(mixes(axis));
                }
                Ok(if *keep_dims { axis } else { axis - axes.iter().filter(|a| **a < axis).count() })
            }
            Op::ArgMax { axis: over, keep_dims, .. } => {
                let (axis, over) = (alone()?, axis_of(*over, rank(0)?)?);
                if axis == over {
                    return Err(mixes(axis));
                }
                Ok(if *keep_dims || over > axis { axis } else { axis - 1 })
            }
            Op::TopK { axis: over, .. } | Op::Split { axis: over } => {
                let axis = alone()?;
                if axis == axis_of(*over, rank(0)?)? { Err(mixes(axis)) } else { Ok(axis) }
            }
            Op::Concat { axis: over } => {
                if placed.iter().any(Option::is_none) {
                    return Err("an input that is the same for every entry would have to be repeated".into());
                }
                let over = axis_of(*over, rank(0)?)?;
                match axis.filter(|axis| *axis != over && placed.iter().all(|p| *p == Some(*axis))) {
                    Some(axis) => Ok(axis),
                    None => Err(mixes(axis.unwrap_or(over))),
                }
            }
            Op::Slice | Op::Pad(_) | Op::Resize(_) | Op::Tile | Op::Expand => {
                let axis = alone()?;
                if let Op::Resize(resize) = &node.op
                    && resize.coordinates == Coordinates::TfCropAndResize
                    && (resize.axes.is_empty() || ordered(&resize.axes, rank(0)?)?.contains(&axis))
                {
                    return Err("it crops along the batch too".into());
                }
                let from = shape(0).ok_or("the shape of its input is not known")?;
                let to = out.ok_or("the shape of its output can't be told for every batch")?;
                let skip = to.len().checked_sub(from.len()).ok_or("its output has fewer dimensions than its input")?;
                let padded = matches!(node.op, Op::Pad(_)) && {
                    let axes = ordered_axes(&inputs, 3, from.len())?.ok_or("its axes are not known")?;
                    let pads = facts
                        .get(1)
                        .and_then(|f| f.as_ref()?.content.as_ref()?.as_ints())
                        .ok_or("its pads are not known")?;
                    axes.iter().enumerate().any(|(i, a)| *a == axis && !(pads[i].is(0) && pads[i + axes.len()].is(0)))
                };
                if to[axis + skip] == from[axis] && !padded { Ok(axis + skip) } else { Err(mixes(axis)) }
            }
            Op::Gather { axis: over } => {
                let over = axis_of(*over, rank(0)?)?;
                match (axis, placed.get(1).copied().flatten()) {
                    (Some(axis), None) if axis < over => Ok(axis),
                    (Some(axis), None) if axis > over => Ok(axis + rank(1)? - 1),
                    (None, Some(axis)) => Ok(over + axis),
                    (axis, _) => Err(mixes(axis.unwrap_or(over))),
                }
            }
            Op::Flatten { axis: from } => {
                let axis = alone()?;
                let shape = shape(0).ok_or("the shape of its input is not known")?;
                let at = if *from == shape.len() as i64 { shape.len() } else { axis_of(*from, shape.len())? };
                let begins = if axis < at { 0 } else { at };
                let first = shape[begins..axis].iter().all(|d| d.is(1));
                if first { Ok(usize::from(axis >= at)) } else { Err(mixes(axis)) }
            }
            Op::Transpose { perm } => {
                let axis = alone()?;
                let perm = permutation(perm.as_deref(), rank(0)?)?;
                perm.iter().position(|&a| a == axis).ok_or_else(|| mixes(axis))
            }
            Op::Squeeze => {
                let axis = alone()?;
                let shape = shape(0).ok_or("the shape of its input is not known")?;
                let lost: Vec<usize> = match facts.get(1).is_some_and(Option::is_some) {
                    true => axes_at(&inputs, 1, shape.len())?.ok_or("its axes are not known")?,
                    false => (0..shape.len()).filter(|&a| shape[a].is(1) || shape[a] == self.batch).collect(),
                };
                if lost.contains(&axis) {
                    return Err("it drops the batch dimension".into());
                }
                Ok(axis - lost.iter().filter(|a| **a < axis).count())
            }
            Op::Unsqueeze => {
                let axis = alone()?;
                let rank = out.map(<[Size]>::len).ok_or("its axes are not known")?;
                let new = axes_at(&inputs, 1, rank)?.ok_or("its axes are not known")?;
                (0..rank).filter(|a| !new.contains(a)).nth(axis).ok_or_else(|| mixes(axis))
            }
            Op::NonMaxSuppression { .. }
            | Op::ConstantOfShape(_)
            | Op::Range
            | Op::Reshape { .. }
            | Op::IndexMap(_)
            | Op::Other { .. } => Err("entries are not apart in what it gives".into()),
        }
    }

    /// For operators that broadcast. The last `spare` dimensions of every input are not among those that are broadcast.
    fn aligned(&self, node: &Node, placed: &[Option<usize>], spare: usize) -> Result<usize, String> {
        let shapes: Option<Vec<&[Size]>> = node.inputs.iter().map(|id| self.graph.shape((*id)?)).collect();
        let shapes = shapes.ok_or("the shape of an input is not known")?;
        let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
        let mut found: Option<(usize, &Size)> = None;
        for (shape, axis) in shapes.iter().zip(placed) {
            if let Some(axis) = axis {
                let here = (rank - shape.len() + axis, &shape[*axis]);
                if axis + spare >= shape.len() || found.is_some_and(|found| found != here) {
                    return Err(format!("it mixes entries: they lie along axis {axis} of {}", shape_text(shape)));
                }
                found = Some(here);
            }
        }
        let (axis, _) = found.ok_or("no input depends on the entry")?;
        for (shape, _) in shapes.iter().zip(placed).filter(|(_, axis)| axis.is_none()) {
            let size = (axis + shape.len()).checked_sub(rank).and_then(|axis| shape.get(axis));
            if size.is_some_and(|size| !size.is(1)) {
                return Err(format!("{} would have to be repeated for every entry", shape_text(shape)));
            }
        }
        Ok(axis)
    }

    fn matmul(&self, node: &Node, placed: &[Option<usize>]) -> Result<usize, String> {
        let shape = |index: usize| node.input(index).and_then(|id| self.graph.shape(id));
        let (Some(a), Some(b)) = (shape(0), shape(1)) else { return Err("the shape of an input is not known".into()) };
        let rank = a.len().max(b.len());
        match placed {
            // The rows of the first and the columns of the second are apart from one another as they are.
            [Some(axis), None] if axis + 2 == a.len() => Ok(rank - 2),
            [None, Some(axis)] if axis + 1 == b.len() && b.len() > 1 => Ok(rank - 1),
            _ if a.len() < 2 || b.len() < 2 => Err("it mixes entries: a vector takes part".into()),
            _ => self.aligned(node, placed, 2),
        }
    }
}
