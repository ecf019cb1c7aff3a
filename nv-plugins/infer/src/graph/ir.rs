//! The graph between the file and whatever computes it: every value is assigned once, nodes are in an order in which they
//! can be computed.

use std::collections::{HashMap, HashSet};

use super::constant::Constant;
use super::op::Op;
use super::size::{Size, shape_text};
use crate::ElementType;
use crate::text::short_name;

/// A value of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ValueId(u32);

impl ValueId {
    /// Its place among the values of its graph.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tensor: an input, a constant, or what a node computes.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Its name in the file, or one made from it.
    pub(crate) name: String,
    /// The type of its elements.
    pub(crate) element: ElementType,
    /// Its shape, once that is known.
    pub(crate) shape: Option<Vec<Size>>,
    /// Its values, where the file or folding fixes them.
    pub(crate) constant: Option<Constant>,
}

impl Value {
    /// `name float N×3×416×416`, shortened where it is very long.
    pub(crate) fn text(&self) -> String {
        let shape = self.shape.as_ref().map_or("of unknown shape".into(), |shape| shape_text(shape));
        format!("{} {} {shape}", short_name(&self.name), self.element)
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name in the file; may be empty.
    pub(crate) name: String,
    /// What it does.
    pub(crate) op: Op,
    /// What it does it to; optional inputs that are left out are `None`.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// What it computes.
    pub(crate) outputs: Vec<ValueId>,
}

impl Node {
    /// The input at `index`, where there is one.
    pub(crate) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// All inputs that are there.
    pub(crate) fn used(&self) -> impl Iterator<Item = ValueId> {
        self.inputs.iter().copied().flatten()
    }
}

/// A model's graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    values: Vec<Value>,
    /// In an order in which they can be computed.
    pub(crate) nodes: Vec<Node>,
    /// What is given; never a constant.
    pub(crate) inputs: Vec<ValueId>,
    /// What is asked for, with the name that the caller knows it by.
    pub(crate) outputs: Vec<(String, ValueId)>,
}

impl Graph {
    /// Adds a value of which only the name is known.
    pub(crate) fn add(&mut self, name: String) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("import bounds the number of values"));
        self.values.push(Value { name, element: ElementType::Other, shape: None, constant: None });
        id
    }

    /// Adds a constant.
    pub(crate) fn add_constant(&mut self, name: String, constant: Constant) -> ValueId {
        let id = self.add(name);
        self.fix(id, constant);
        id
    }

    /// Makes a value a constant.
    pub(crate) fn fix(&mut self, id: ValueId, constant: Constant) {
        let value = self.value_mut(id);
        value.element = constant.element();
        value.shape = Some(constant.shape().iter().map(|&d| d.into()).collect());
        value.constant = Some(constant);
    }

    /// How many values there are, those that nobody uses any more counted too.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The value.
    pub(crate) fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value, to be changed.
    pub(crate) fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// The value's shape, where it is known.
    pub(crate) fn shape(&self, id: ValueId) -> Option<&[Size]> {
        self.value(id).shape.as_deref()
    }

    /// The value's constant, where it is one.
    pub(crate) fn constant(&self, id: ValueId) -> Option<&Constant> {
        self.value(id).constant.as_ref()
    }

    /// The constant at a node's input, where there is one.
    pub(crate) fn constant_input(&self, node: &Node, index: usize) -> Option<&Constant> {
        self.constant(node.input(index)?)
    }

    /// How many numbers its constants hold.
    pub(crate) fn numbers(&self) -> usize {
        self.values.iter().filter_map(|value| value.constant.as_ref()).map(Constant::len).fold(0, usize::saturating_add)
    }

    /// Who computes and who uses each value, as the graph is now.
    pub(crate) fn links(&self) -> Links {
        let mut links = Links { producer: vec![None; self.values.len()], users: vec![Vec::new(); self.values.len()] };
        for (index, node) in self.nodes.iter().enumerate() {
            for output in &node.outputs {
                links.producer[output.index()] = Some(index);
            }
            for input in node.used() {
                links.users[input.index()].push(User::Node(index));
            }
        }
        for (_, output) in &self.outputs {
            links.users[output.index()].push(User::Output);
        }
        links
    }

    /// Has whoever uses a key of `names` use its value instead.
    pub(crate) fn replace(&mut self, names: &HashMap<ValueId, ValueId>) {
        let inputs = self.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().flatten());
        for id in inputs.chain(self.outputs.iter_mut().map(|(_, id)| id)) {
            *id = *names.get(id).unwrap_or(id);
        }
    }

    /// Drops the nodes whose outputs nobody uses, and the values of constants that nobody uses.
    pub(crate) fn sweep(&mut self) {
        let mut used: HashSet<ValueId> = self.outputs.iter().map(|(_, id)| *id).collect();
        let mut keep = vec![false; self.nodes.len()];
        for (node, keep) in self.nodes.iter().zip(&mut keep).rev() {
            if node.outputs.iter().any(|output| used.contains(output)) {
                *keep = true;
                used.extend(node.used());
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next() == Some(true));
        for (index, value) in self.values.iter_mut().enumerate() {
            if !used.contains(&ValueId(index as u32)) {
                value.constant = None;
            }
        }
    }
}

/// Who uses a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The node at this place.
    Node(usize),
    /// The graph's caller.
    Output,
}

/// Who computes and who uses the values of a graph. A snapshot: changing the graph makes it stale.
pub(crate) struct Links {
    producer: Vec<Option<usize>>,
    users: Vec<Vec<User>>,
}

impl Links {
    /// The place of the node that computes the value; `None` for inputs and constants.
    pub(crate) fn producer(&self, id: ValueId) -> Option<usize> {
        self.producer[id.index()]
    }

    /// Who uses the value, once per use.
    pub(crate) fn users(&self, id: ValueId) -> &[User] {
        &self.users[id.index()]
    }
}
