//! From the parsed file to a [`Graph`].

mod arity;
mod attributes;
mod operators;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use rten_onnx::onnx;

use super::constant::Constant;
use super::infer::{MAX_OPEN, MAX_RANK};
use super::ir::{Graph, Node, ValueId};
use super::op::Op;
use super::size::Size;
use crate::ElementType;
use crate::model::operator_name;
use crate::text::{short_name, shortened};
use attributes::Attributes;

/// Operators that are the same in every operator set, those before 7 too.
const UNCHANGED: [&str; 3] = ["GlobalAveragePool", "GlobalMaxPool", "Not"];

/// The most nodes that a graph may have. The largest detectors have a few thousand; work grows with the square of the number
/// in places.
const MAX_NODES: usize = 16_384;
/// The most values that a graph may have, each counted once for each node that uses it.
const MAX_LINKS: usize = 4 * MAX_NODES;
/// How many bytes a name may have. Exporters that write the whole path of a layer stay below 500.
const MAX_NAME: usize = 1024;
/// How many bytes of a value's name go into those of its open dimensions.
const MAX_OWN_NAME: usize = 64;

/// Reads a graph. Takes over the values of its tensors.
///
/// Nodes whose operator is not known are kept as [`Op::Other`]. The error says which node or tensor contradicts itself.
pub(crate) fn import(proto: onnx::ModelProto) -> Result<Graph, String> {
    let opset = proto.opset_import.iter().find(|set| is_onnx(set.domain.as_deref())).and_then(|set| set.version);
    let mut file = proto.graph.ok_or("it has no graph")?;
    check_size(&file)?;
    let mut importer = Importer::default();
    for tensor in &mut file.initializer {
        let name = tensor.name.clone().unwrap_or_default();
        let failed = |reason: String| format!("tensor {name:?}: {reason}");
        let constant = Constant::read(tensor).map_err(failed)?;
        let id = importer.define(&name).map_err(failed)?;
        importer.graph.fix(id, constant);
    }
    for input in &file.input {
        let name = input.name.as_deref().unwrap_or_default();
        // Up to IR version 3 tensors with a value had to be listed as inputs too.
        if importer.names.get(name).is_none_or(|id| importer.graph.constant(*id).is_none()) {
            let id = importer.define(name).map_err(|reason| format!("input {name:?}: {reason}"))?;
            importer.declare(id, input)?;
            importer.graph.inputs.push(id);
        }
    }
    for node in &file.node {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let failed = |reason: String| {
                let (operator, name) = (short_name(&operator_name(node)), node.name.as_deref().unwrap_or_default());
                format!("{operator} node {name:?}: {reason}")
            };
            importer.define(name).map_err(failed)?;
        }
    }
    for info in file.value_info.iter().chain(&file.output) {
        let known = info.name.as_deref().and_then(|name| importer.names.get(name)).copied();
        if let Some(id) = known.filter(|id| importer.graph.shape(*id).is_none()) {
            importer.declare(id, info)?;
        }
    }
    for node in file.node {
        importer.node(node, opset.unwrap_or_default())?;
    }
    for output in &file.output {
        let name = output.name.clone().unwrap_or_default();
        let id = *importer.names.get(&name).ok_or_else(|| format!("nothing computes the output {name:?}"))?;
        importer.graph.outputs.push((name, id));
    }
    check_sources(&importer.graph)?;
    sort(&mut importer.graph)?;
    Ok(importer.graph)
}

/// That the graph is of a size that can be worked with.
fn check_size(file: &onnx::GraphProto) -> Result<(), String> {
    let (nodes, given) = (file.node.len(), file.initializer.len() + file.input.len());
    let declared = file.value_info.len() + file.output.len();
    let links = file.node.iter().map(|n| n.input.len() + n.output.len()).sum::<usize>() + given;
    if nodes > MAX_NODES || links > MAX_LINKS || declared > MAX_LINKS {
        return Err(format!(
            "its graph has {nodes} nodes, which use and give {links} values, and declares {declared} more; {MAX_NODES}, \
             {MAX_LINKS} and as many are the most"
        ));
    }
    let of_nodes = file
        .node
        .iter()
        .flat_map(|n| [&n.name, &n.op_type, &n.domain].into_iter().flatten().chain(&n.input).chain(&n.output));
    let of_tensors = file.initializer.iter().filter_map(|t| t.name.as_ref());
    let of_values = file.input.iter().chain(&file.value_info).chain(&file.output);
    let long = of_nodes
        .chain(of_tensors)
        .chain(of_values.filter_map(|value| value.name.as_ref()))
        .find(|name| name.len() > MAX_NAME);
    match long {
        Some(name) => Err(format!("the name {:?} has {} bytes; {MAX_NAME} are the most", short_name(name), name.len())),
        None => Ok(()),
    }
}

/// That whatever is used or asked for is given, constant or computed.
fn check_sources(graph: &Graph) -> Result<(), String> {
    let mut given: HashSet<ValueId> = graph.inputs.iter().copied().collect();
    given.extend(graph.nodes.iter().flat_map(|node| &node.outputs));
    let lacks = |id: &ValueId| graph.constant(*id).is_none() && !given.contains(id);
    for node in &graph.nodes {
        if let Some(id) = node.used().find(lacks) {
            return Err(format!(
                "{} node {:?}: nothing computes its input {:?}",
                node.op.name(),
                node.name,
                graph.value(id).name
            ));
        }
    }
    match graph.outputs.iter().find(|(_, id)| lacks(id)) {
        Some((name, _)) => Err(format!("nothing computes the output {name:?}")),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Importer {
    graph: Graph,
    names: HashMap<String, ValueId>,
    /// What has been declared of open dimensions, by [`Size::weight`].
    open: usize,
}

impl Importer {
    fn define(&mut self, name: &str) -> Result<ValueId, String> {
        let id = self.graph.add(name.into());
        match self.names.insert(name.into(), id) {
            None => Ok(id),
            Some(_) => Err(format!("two things are called {name:?}")),
        }
    }

    /// Notes what the file says of a value.
    fn declare(&mut self, id: ValueId, info: &onnx::ValueInfoProto) -> Result<(), String> {
        let Some(tensor) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return Ok(()) };
        let value = self.graph.value_mut(id);
        value.element = ElementType::read(tensor.elem_type);
        let Some(dims) = tensor.shape.as_ref().map(|shape| &shape.dim) else { return Ok(()) };
        if dims.len() > MAX_RANK {
            let name = short_name(&value.name);
            return Err(format!("{name:?} is declared with {} dimensions; {MAX_RANK} are the most", dims.len()));
        }
        let names = dims.iter().filter_map(|dim| dim.dim_param.as_ref());
        if let Some(name) = names.clone().find(|name| name.len() > MAX_NAME) {
            let (of, bytes) = (short_name(&value.name), name.len());
            return Err(format!("a dimension of {of:?} has a name of {bytes} bytes; {MAX_NAME} are the most"));
        }
        let size = |(axis, dim): (usize, &onnx::Dimension)| match (dim.dim_value, dim.dim_param.as_deref()) {
            // Some exporters write 0 or -1 for a size that is open.
            (Some(n), _) if n > 0 => Size::fixed(n),
            (_, Some(name)) if !name.is_empty() => Size::symbol(name),
            _ if value.name.len() <= MAX_OWN_NAME => Size::symbol(&format!("{}.{axis}", value.name)),
            _ => Size::symbol(&format!("{}.{}.{axis}", shortened(&value.name, MAX_OWN_NAME), id.index())),
        };
        let shape: Vec<Size> = dims.iter().enumerate().map(size).collect();
        self.open += shape.iter().map(Size::weight).sum::<usize>();
        if self.open > MAX_OPEN {
            return Err(format!("its values are declared with more than {MAX_OPEN} open dimensions"));
        }
        value.shape = Some(shape);
        Ok(())
    }

    fn node(&mut self, mut node: onnx::NodeProto, opset: i64) -> Result<(), String> {
        let name = node.name.take().unwrap_or_default();
        let described = operator_name(&node);
        let failed = |reason: String| format!("{} node {name:?}: {reason}", short_name(&described));
        let operator = node.op_type.take().unwrap_or_default();
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            let id = match input.as_str() {
                "" => None,
                name => Some(*self.names.get(name).ok_or_else(|| {
                    failed(format!("its input {name:?} is neither an input of the graph, nor a constant, nor computed"))
                })?),
            };
            inputs.push(id);
        }
        if operator == "Constant" && is_onnx(node.domain.as_deref()) {
            let constant = literal(Attributes(&mut node.attribute)).map_err(failed)?;
            if let (Some(constant), Some(id)) = (constant, node.output.first().and_then(|n| self.names.get(n))) {
                self.graph.fix(*id, constant);
                return Ok(());
            }
        }
        while node.output.last().is_some_and(String::is_empty) {
            node.output.pop();
        }
        if node.output.is_empty() {
            return Err(failed("it has no output".into()));
        }
        let has_subgraph = node.attribute.iter().any(|a| a.g.is_some());
        let parsed =
            match (is_onnx(node.domain.as_deref()), has_subgraph, opset < 7 && !UNCHANGED.contains(&&*operator)) {
                (false, ..) => Err("not of ONNX's own operator set"),
                (_, true, _) => Err("it has a graph within it"),
                (.., true) => Err("of an operator set before 7"),
                _ => operators::operator(&operator, opset, Attributes(&mut node.attribute), node.output.len())
                    .map_err(failed)?,
            };
        let op = match parsed {
            Ok(parsed) => {
                for (place, constant) in parsed.inputs {
                    if inputs.len() <= place {
                        inputs.resize(place + 1, None);
                    }
                    if inputs[place].is_none() {
                        let hint = node.output.first().map_or("", String::as_str);
                        inputs[place] = Some(self.graph.add_constant(format!("{hint}.{place}"), constant));
                    }
                }
                // Upsample has its scales second, Resize of operator set 10 too.
                let old = operator == "Upsample" || operator == "Resize" && opset < 11;
                if let (true, &[x, scales]) = (old, &inputs[..]) {
                    inputs = vec![x, None, scales];
                }
                if matches!(parsed.op, Op::Resize(_)) {
                    // Up to operator set 12 some exporters leave one of scales and sizes out by giving it no values.
                    let empty = |id: ValueId| self.graph.constant(id).is_some_and(|c| c.len() == 0);
                    inputs.iter_mut().skip(1).filter(|id| id.is_some_and(empty)).for_each(|id| *id = None);
                }
                while inputs.last().is_some_and(Option::is_none) {
                    inputs.pop();
                }
                arity::check(&parsed.op, &inputs, node.output.len()).map_err(failed)?;
                match parsed.op {
                    Op::Dropout if self.trains(&inputs) => {
                        Op::Other { name: described.clone(), why: "it may be in training" }
                    }
                    op => op,
                }
            }
            Err(why) => {
                let mut captured = BTreeSet::new();
                for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
                    self.captures(graph, &mut captured);
                }
                inputs.extend(captured.into_iter().map(Some));
                Op::Other { name: described.clone(), why }
            }
        };
        let mut outputs = Vec::with_capacity(node.output.len());
        for (place, output) in node.output.iter().enumerate() {
            outputs.push(match self.names.get(output) {
                Some(id) if !output.is_empty() => *id,
                _ => self.graph.add(format!("{name}.{place}")),
            });
        }
        self.graph.nodes.push(Node { name, op, inputs, outputs });
        Ok(())
    }

    /// Whether a Dropout with these inputs drops anything, for all that is known.
    fn trains(&self, inputs: &[Option<ValueId>]) -> bool {
        let Some(Some(training)) = inputs.get(2) else { return false };
        let off = self.graph.constant(*training).filter(|c| c.len() == 1).and_then(|c| Some(c.as_ints()?[0] == 0));
        off != Some(true)
    }

    /// Adds what a subgraph takes from around it. The check of the file's bytes has bounded how deep graphs nest.
    fn captures(&self, graph: &onnx::GraphProto, into: &mut BTreeSet<ValueId>) {
        for node in &graph.node {
            into.extend(node.input.iter().filter_map(|name| self.names.get(name)));
            for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
                self.captures(inner, into);
            }
        }
        into.extend(graph.output.iter().filter_map(|o| self.names.get(o.name.as_deref()?)));
    }
}

/// What a Constant node holds; `None` for texts and sparse tensors.
fn literal(mut a: Attributes<'_>) -> Result<Option<Constant>, String> {
    if let Some(tensor) = a.tensor("value")? {
        return Ok(Some(tensor));
    }
    if let Some(value) = a.optional_int("value_int")? {
        return Ok(Some(Constant::ints(Vec::new(), vec![value])));
    }
    if let Some(values) = a.ints("value_ints")? {
        return Ok(Some(Constant::ints(vec![values.len()], values)));
    }
    if let Some(value) = a.any_float("value_float")? {
        return Ok(Some(Constant::floats(Vec::new(), vec![value])));
    }
    Ok(a.floats("value_floats")?.map(|values| Constant::floats(vec![values.len()], values)))
}

/// Brings the nodes into an order in which they can be computed, that of the file where it is one.
fn sort(graph: &mut Graph) -> Result<(), String> {
    let links = graph.links();
    let mut waits: Vec<usize> =
        graph.nodes.iter().map(|n| n.used().filter(|&id| links.producer(id).is_some()).count()).collect();
    let mut ready: VecDeque<usize> = (0..waits.len()).filter(|&i| waits[i] == 0).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(index) = ready.pop_front() {
        order.push(index);
        for output in &graph.nodes[index].outputs {
            for user in links.users(*output) {
                if let super::ir::User::Node(user) = user {
                    waits[*user] -= 1;
                    if waits[*user] == 0 {
                        ready.push_back(*user);
                    }
                }
            }
        }
    }
    if let Some(stuck) = waits.iter().position(|&n| n > 0) {
        let node = &graph.nodes[stuck];
        return Err(format!("{} node {:?} depends on itself, or on a node that does", node.op.name(), node.name));
    }
    // Where the file's order serves, it is the order that people know from other tools.
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &index)| place[index] = at);
    let serves = graph
        .nodes
        .iter()
        .enumerate()
        .all(|(index, node)| node.used().filter_map(|id| links.producer(id)).all(|producer| producer < index));
    if !serves {
        let mut nodes: Vec<_> = std::mem::take(&mut graph.nodes).into_iter().zip(place).collect();
        nodes.sort_by_key(|(_, at)| *at);
        graph.nodes = nodes.into_iter().map(|(node, _)| node).collect();
    }
    Ok(())
}

fn is_onnx(domain: Option<&str>) -> bool {
    matches!(domain, None | Some("" | "ai.onnx"))
}
