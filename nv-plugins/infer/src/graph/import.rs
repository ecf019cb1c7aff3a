//! From the parsed file to a [`Graph`].

mod attributes;
mod operators;

use std::collections::{HashMap, VecDeque};

use rten_onnx::onnx;

use super::constant::Constant;
use super::infer::MAX_RANK;
use super::ir::{Graph, Node, ValueId};
use super::op::Op;
use super::size::Size;
use crate::ElementType;
use crate::model::operator_name;
use attributes::Attributes;

/// The most nodes that a graph may have. The largest detectors have a few thousand; work grows with the square of the number
/// in places.
const MAX_NODES: usize = 32_768;
/// The most inputs and outputs that all nodes may have together.
const MAX_LINKS: usize = 4 * MAX_NODES;

/// Reads a graph. Takes over the values of its tensors.
///
/// Nodes whose operator is not known are kept as [`Op::Other`]. The error says which node or tensor contradicts itself.
pub(crate) fn import(proto: onnx::ModelProto) -> Result<Graph, String> {
    let opset = proto.opset_import.iter().find(|set| is_onnx(set.domain.as_deref())).and_then(|set| set.version);
    let mut file = proto.graph.ok_or("it has no graph")?;
    let links: usize = file.node.iter().map(|n| n.input.len() + n.output.len()).sum();
    if file.node.len() > MAX_NODES || links > MAX_LINKS {
        let nodes = file.node.len();
        return Err(format!(
            "its graph has {nodes} nodes with {links} links; {MAX_NODES} and {MAX_LINKS} are the most"
        ));
    }
    let mut importer = Importer::default();
    for tensor in &mut file.initializer {
        let name = tensor.name.clone().unwrap_or_default();
        let constant = Constant::read(tensor).map_err(|reason| format!("tensor {name:?}: {reason}"))?;
        let id = importer.define(&name)?;
        importer.graph.fix(id, constant);
    }
    for input in &file.input {
        let name = input.name.as_deref().unwrap_or_default();
        // Up to IR version 3 tensors with a value had to be listed as inputs too.
        if !importer.names.contains_key(name) {
            let id = importer.define(name)?;
            importer.declare(id, input);
            importer.graph.inputs.push(id);
        }
    }
    for node in &file.node {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            importer.define(name)?;
        }
    }
    for info in file.value_info.iter().chain(&file.output) {
        let known = info.name.as_deref().and_then(|name| importer.names.get(name)).copied();
        if let Some(id) = known.filter(|id| importer.graph.shape(*id).is_none()) {
            importer.declare(id, info);
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
    sort(&mut importer.graph)?;
    Ok(importer.graph)
}

#[derive(Default)]
struct Importer {
    graph: Graph,
    names: HashMap<String, ValueId>,
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
    fn declare(&mut self, id: ValueId, info: &onnx::ValueInfoProto) {
        let Some(tensor) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return };
        let value = self.graph.value_mut(id);
        value.element = ElementType::read(tensor.elem_type);
        let size = |(axis, dim): (usize, &onnx::Dimension)| match (dim.dim_value, dim.dim_param.as_deref()) {
            // Some exporters write 0 or -1 for a size that is open.
            (Some(n), _) if n > 0 => Size::fixed(n),
            (_, Some(name)) if !name.is_empty() => Size::symbol(name),
            _ => Size::symbol(&format!("{}.{axis}", value.name)),
        };
        // With more dimensions than can be, the shape is as good as unknown.
        let shape = tensor.shape.as_ref().filter(|shape| shape.dim.len() <= MAX_RANK);
        let shape = shape.map(|shape| shape.dim.iter().enumerate().map(size).collect());
        value.shape = shape;
    }

    fn node(&mut self, mut node: onnx::NodeProto, opset: i64) -> Result<(), String> {
        let name = node.name.take().unwrap_or_default();
        let described = operator_name(&node);
        let failed = |reason: String| format!("{described} node {name:?}: {reason}");
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
        let has_subgraph = node.attribute.iter().any(|a| a.g.is_some());
        let parsed = match (is_onnx(node.domain.as_deref()), has_subgraph, opset < 7) {
            (false, ..) => Err("not of ONNX's own operator set"),
            (_, true, _) => Err("it has a graph within it"),
            (.., true) => Err("of an operator set before 7"),
            _ => operators::operator(&operator, opset, Attributes(&mut node.attribute))
                .map_err(failed)?
                .ok_or("an operator that is not known"),
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
                parsed.op
            }
            Err(why) => {
                for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
                    self.captures(graph, &mut inputs);
                }
                Op::Other { name: described.clone(), why }
            }
        };
        let mut outputs = Vec::with_capacity(node.output.len());
        while node.output.last().is_some_and(String::is_empty) {
            node.output.pop();
        }
        for (place, output) in node.output.iter().enumerate() {
            outputs.push(match self.names.get(output) {
                Some(id) if !output.is_empty() => *id,
                _ => self.graph.add(format!("{name}.{place}")),
            });
        }
        if outputs.is_empty() {
            return Err(failed("it has no output".into()));
        }
        self.graph.nodes.push(Node { name, op, inputs, outputs });
        Ok(())
    }

    /// Adds what a subgraph takes from around it. The check of the file's bytes has bounded how deep graphs nest.
    fn captures(&self, graph: &onnx::GraphProto, into: &mut Vec<Option<ValueId>>) {
        for node in &graph.node {
            into.extend(node.input.iter().filter_map(|name| self.names.get(name)).map(|id| Some(*id)));
            for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
                self.captures(inner, into);
            }
        }
        into.extend(graph.output.iter().filter_map(|o| self.names.get(o.name.as_deref()?)).map(|id| Some(*id)));
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
    if let Some(value) = a.optional_float("value_float")? {
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
