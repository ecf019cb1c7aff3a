//! From a fused graph whose sizes are numbers to a [`Plan`].
//!
//! Values have up to two forms: a strided view of an array, and blocked pictures of one. Each form is made when somebody wants
//! it ([`forms`]). What only renames, permutes or picks elements in a regular way computes nothing: it is another view
//! ([`alias`]). Convolutions and whatever works channel by channel next to them stay with pictures.
//!
//! Where a value ends up in a Concat or in an output, it is computed there if it can be ([`destination`]), whatever Reshapes
//! and Transposes lie between.

mod alias;
mod conv;
mod destination;
mod elementwise;
mod forms;
mod movement;
mod pool;
mod prefer;
mod reduce;
mod resize;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::access::Accesses;
use super::memory::Slot;
use super::{Action, Array, ArrayId, Function, Kind, Map, MemoryPlan, Picture, Plan, Port, Step, Values, View};
use crate::ElementType;
use crate::graph::fold::fixed_shape;
use crate::graph::ir::{Graph, Links, Node, ValueId};
use crate::graph::op::{Binary, Op};
use crate::graph::shapes::axis_of;
use crate::text::short_name;

/// What an executor asks of its plans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Channels that lie side by side in a picture.
    pub(crate) block: usize,
    /// Whether depthwise convolutions may be of planes ([`Conv::fits_planes`](super::Conv::fits_planes)).
    pub(crate) planes: bool,
    /// The most elements in one buffer, for one entry.
    pub(crate) buffer_limit: usize,
    /// The most elements in all buffers and made-up constants together, for one entry.
    pub(crate) memory_limit: usize,
}

/// Why there is no plan for a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The operator, where it is one that is at fault.
    pub(crate) operator: String,
    /// The name of its node.
    pub(crate) node: String,
    /// What is wrong.
    pub(crate) reason: String,
    /// Whether it is the memory that is called for.
    pub(crate) too_large: bool,
}

/// A plan has at most so many steps, and twice as many arrays: a few hundred bytes each. Models have some hundreds.
const MAX_STEPS: usize = 1 << 17;

/// No array, and no dimension of one that is empty, is longer: taps and channels are counted in 32 bits.
const MAX_LEN: usize = i32::MAX as usize;

/// Numbers that lowering may make up, besides a few for each in the file: weights of groups made dense, padded channels,
/// tables of taps and windows.
const MAX_MADE_UP: usize = 1 << 23;

/// Views of views, and parts of parts, so many deep; what lies deeper is computed on its way. Models have some ten.
const MAX_NESTING: usize = 64;

/// A reason, without the node that it is about.
type Result<T> = std::result::Result<T, Reason>;

/// Why a node can't be lowered.
#[derive(Debug)]
enum Reason {
    Unsupported(String),
    TooLarge(String),
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::Unsupported(text)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self::Unsupported(text.into())
    }
}

/// Makes a plan. Shapes must have been inferred, and passes have run.
///
/// # Errors
/// The node that can't be lowered: an operator or a form of it that executors don't know, a shape that depends on data, more
/// memory than there may be.
pub(crate) fn lower(graph: &Graph, target: &Target) -> std::result::Result<Plan, Refusal> {
    let mut lowering = Lowering {
        graph,
        links: graph.links(),
        block: target.block,
        planes: target.planes,
        limit: target.memory_limit.min(MAX_LEN),
        numbers: graph.numbers(),
        held: 0,
        made_up: 0,
        packed: 0,
        weights: HashMap::new(),
        parts: HashMap::new(),
        even: HashMap::new(),
        depths: HashMap::new(),
        nesting: 0,
        arrays: Vec::new(),
        steps: Vec::new(),
        plains: HashMap::new(),
        pictures: HashMap::new(),
        wholes: HashMap::new(),
        places: HashMap::new(),
        prefers: HashSet::new(),
        rows: HashMap::new(),
        selected: HashMap::new(),
        node: String::new(),
    };
    let refusal = |node: Option<&Node>, reason: Reason| {
        let (too_large, reason) = match reason {
            Reason::Unsupported(reason) => (false, reason),
            Reason::TooLarge(reason) => (true, reason),
        };
        let (operator, name) = node.map(|n| (n.op.name(), n.name.clone())).unwrap_or_default();
        Refusal { operator, node: name, reason, too_large }
    };
    let inputs = lowering.inputs().map_err(|reason| refusal(None, reason))?;
    lowering.find_parts();
    lowering.find_preferences();
    for node in &graph.nodes {
        lowering.node = format!("{} node {:?}", short_name(&node.op.name()), short_name(&node.name));
        lowering.lower(node).map_err(|reason| refusal(Some(node), reason))?;
    }
    lowering.node = "output".into();
    let outputs = lowering.outputs().map_err(|reason| refusal(None, reason))?;
    lowering.finish(inputs, outputs, target).map_err(|reason| refusal(None, reason))
}

struct Lowering<'a> {
    graph: &'a Graph,
    links: Links,
    block: usize,
    planes: bool,
    /// How many elements an array may have, so that nothing absurd is begun.
    limit: usize,
    /// How many numbers the graph's constants have.
    numbers: usize,
    /// Elements of all arrays that are no constants.
    held: usize,
    /// Numbers in constants and tables that are not the file's.
    made_up: usize,
    /// Numbers in the weights of all convolutions: executors pack them for each.
    packed: usize,
    /// Weights that convolutions share.
    weights: HashMap<ValueId, Arc<[f32]>>,
    /// Where a part begins: of a Concat (the output, the part), and of what a Split takes apart (the input, the part).
    parts: HashMap<(ValueId, ValueId), usize>,
    /// Of Concats along channels: whether each part is whole blocks.
    even: HashMap<ValueId, bool>,
    /// How many views and Concats a value that is not computed yet is away from memory.
    depths: HashMap<ValueId, usize>,
    /// How many destinations within destinations are being found.
    nesting: usize,
    arrays: Vec<Array>,
    steps: Vec<Step>,
    /// Values as strided views.
    plains: HashMap<ValueId, View>,
    /// Values as blocked pictures.
    pictures: HashMap<ValueId, Pictures>,
    /// Blocked memory of Concats that parts are computed into.
    wholes: HashMap<ValueId, Pictures>,
    /// Strided memory that values are to be computed into.
    places: HashMap<ValueId, View>,
    /// Values that are computed as pictures.
    prefers: HashSet<ValueId>,
    /// Of outputs of NonMaxSuppression: how many rows there are.
    rows: HashMap<ValueId, ArrayId>,
    /// And the shape that there is room for.
    selected: HashMap<ValueId, Vec<usize>>,
    /// The node at hand, for the steps that come from it.
    node: String,
}

/// The pictures of a value of four dimensions (or three: then of one row each), one after another.
#[derive(Clone, Debug, PartialEq)]
struct Pictures {
    first: Picture,
    images: usize,
    /// From one to the next.
    stride: usize,
}

impl Pictures {
    fn iter(&self) -> impl Iterator<Item = Picture> {
        (0..self.images).map(|i| self.image(i))
    }

    fn image(&self, i: usize) -> Picture {
        Picture { offset: self.first.offset + i * self.stride, ..self.first.clone() }
    }

    /// The same channels of each.
    fn part(&self, first: usize, channels: usize) -> Self {
        Self { first: self.first.part(first, channels), ..self.clone() }
    }

    /// Images, blocks, rows, columns, lanes: the dimensions in which all of the memory is seen.
    fn dims(&self) -> [usize; 5] {
        [self.images, self.first.blocks(), self.first.height, self.first.width, self.first.block]
    }

    /// The view over [`dims`](Self::dims).
    fn view(&self) -> View {
        let [c, y, x] = self.first.strides.map(|s| s as isize);
        View { array: self.first.array, offset: self.first.offset, strides: vec![self.stride as isize, c, y, x, 1] }
    }
}

impl<'a> Lowering<'a> {
    fn lower(&mut self, node: &'a Node) -> Result<()> {
        for &id in &node.outputs {
            // The shape of one that depends on data is asked for where it is needed.
            if let Ok(dims) = self.dims(id) {
                self.check_extent(&dims).map_err(|bytes| self.too_large(id, bytes))?;
            }
        }
        self.lower_sized(node)?;
        self.deepen(node)
    }

    fn lower_sized(&mut self, node: &'a Node) -> Result<()> {
        match &node.op {
            Op::Conv { .. } => self.conv(node),
            Op::ConvTranspose { .. } => self.conv_transpose(node),
            Op::MaxPool(_) | Op::AveragePool { .. } => self.pool(node),
            Op::GlobalAveragePool | Op::GlobalMaxPool | Op::Reduce { .. } => self.reduce(node),
            Op::BatchNormalization { epsilon } => self.batch_normalization(node, *epsilon),
            Op::InstanceNormalization { epsilon } => self.instance_normalization(node, *epsilon),
            Op::Gemm { .. } => self.gemm(node),
            Op::MatMul => self.matmul(node),
            Op::Softmax { axis, flat } => self.softmax(node, *axis, *flat),
            Op::Unary(unary) => self.unary(node, *unary),
            Op::PRelu => self.elementwise(node, Function::PRelu),
            Op::Clip => self.clip(node),
            Op::Binary(binary) => self.binary(node, *binary),
            Op::Where => self.elementwise(node, Function::Where),
            Op::Cast(to) => self.elementwise(node, Function::Cast(*to)),
            Op::ArgMax { axis, last, .. } => self.arg_max(node, *axis, *last),
            Op::TopK { axis, largest, .. } => self.top_k(node, *axis, *largest),
            Op::NonMaxSuppression { center_point } => self.non_max_suppression(node, *center_point),
            Op::Resize(resize) => self.resize(node, resize),
            Op::Pad(mode) => self.pad(node, *mode),
            Op::Tile => self.tile(node),
            Op::Gather { axis } => self.gather(node, *axis),
            Op::ConstantOfShape(value) => self.constant_of_shape(node, value),
            Op::DepthToSpace { .. } | Op::SpaceToDepth { .. } => Err("its blocks do not come out even".into()),
            // Views of their inputs, which are made when somebody wants them.
            op if alias::is_alias(op) => self.mask(node),
            // Its parts are copied when somebody wants the whole.
            Op::Concat { .. } => Ok(()),
            Op::Range | Op::Shape { .. } => Err("its result depends on data".into()),
            Op::Other { why, .. } => Err((*why).into()),
            _ => Err("there is no step for it".into()),
        }
    }

    /// Computes what would lie too deep in views and Concats that are not made yet: making them goes down all the way.
    fn deepen(&mut self, node: &Node) -> Result<()> {
        if !(self.is_alias_node(node) || matches!(node.op, Op::Concat { .. })) {
            return Ok(());
        }
        let depth = 1 + node.used().filter_map(|id| self.depths.get(&id)).max().copied().unwrap_or(0);
        for &id in &node.outputs {
            if depth < MAX_NESTING {
                self.depths.insert(id, depth);
            } else if self.links.users(id).is_empty() {
            } else if self.prefers.contains(&id) {
                self.blocked(id)?;
            } else {
                self.plain(id)?;
            }
        }
        Ok(())
    }

    /// Finds where the parts of Concats and Splits begin. Those whose shapes depend on data have none.
    fn find_parts(&mut self) {
        for node in &self.graph.nodes {
            let (whole, axis, parts): (_, _, Vec<ValueId>) = match (&node.op, node.input(0)) {
                (Op::Concat { axis }, _) => (node.outputs[0], *axis, node.used().collect()),
                (Op::Split { axis }, Some(input)) => (input, *axis, node.outputs.clone()),
                _ => continue,
            };
            let Ok(Ok(axis)) = self.dims(whole).map(|dims| axis_of(axis, dims.len())) else { continue };
            let (mut at, mut even) = (0usize, true);
            for part in parts {
                let len = self.dims(part).ok().and_then(|dims| dims.get(axis).copied());
                let Some(next) = len.and_then(|len| at.checked_add(len)) else { break };
                even &= (next - at).is_multiple_of(self.block);
                self.parts.entry((whole, part)).or_insert(at);
                at = next;
            }
            self.even.insert(node.outputs[0], even);
        }
    }

    /// Where a part of a Concat or Split begins.
    fn part_at(&self, whole: ValueId, part: ValueId) -> Result<usize> {
        let at = self.parts.get(&(whole, part)).copied();
        at.ok_or_else(|| format!("the shape of {} depends on data", self.graph.value(part).text()).into())
    }

    /// That neither a value of this shape is too large, nor one of its dimensions where it is empty.
    ///
    /// # Errors
    /// How many bytes it would take.
    fn check_extent(&self, dims: &[usize]) -> std::result::Result<(), u128> {
        let extent = dims.iter().fold(1u128, |n, &d| n.saturating_mul(d.max(1) as u128));
        if extent > self.limit as u128 { Err(extent.saturating_mul(4)) } else { Ok(()) }
    }

    fn too_large(&self, id: ValueId, bytes: u128) -> Reason {
        too_large(&self.graph.value(id).text(), bytes)
    }

    /// Counts numbers that are made up.
    fn make_up(&mut self, numbers: usize) -> Result<()> {
        self.made_up = self.made_up.saturating_add(numbers);
        let most = self.numbers.saturating_mul(4).saturating_add(MAX_MADE_UP.min(self.limit));
        if self.made_up > most {
            let bytes = self.made_up as u128 * 4;
            return Err(Reason::TooLarge(format!(
                "tables and weights made for it and those before take {bytes} bytes"
            )));
        }
        Ok(())
    }

    fn inputs(&mut self) -> Result<Vec<Port>> {
        let ids = self.graph.inputs.clone();
        ids.into_iter()
            .map(|id| {
                let (dims, kind) = (self.dims(id)?, self.kind(id)?);
                self.check_extent(&dims).map_err(|bytes| self.too_large(id, bytes))?;
                let array = self.allocate(id, kind, volume(&dims)?)?;
                self.plains.insert(id, View::whole(array, &dims));
                let value = self.graph.value(id);
                Ok(Port { name: value.name.clone(), array, dims, element: value.element, rows: None })
            })
            .collect()
    }

    fn outputs(&mut self) -> Result<Vec<Port>> {
        let (mut ports, mut taken) = (Vec::new(), HashSet::new());
        taken.extend(self.graph.inputs.iter().filter_map(|id| Some(self.plains.get(id)?.array)));
        for (name, id) in self.graph.outputs.clone() {
            let (dims, kind) = (self.dims(id)?, self.kind(id)?);
            let mut view = self.plain(id)?;
            let array = &self.arrays[view.array.index()];
            let whole = view.offset == 0 && view.is_contiguous(&dims) && array.len == volume(&dims)?;
            if !whole || array.constant.is_some() || !taken.insert(view.array) {
                let array = self.allocate(id, kind, volume(&dims)?)?;
                let copy = View::whole(array, &dims);
                self.copy(&dims, view, copy.clone())?;
                view = copy;
                taken.insert(array);
            }
            let element = self.graph.value(id).element;
            ports.push(Port { name, array: view.array, dims, element, rows: self.rows.get(&id).copied() });
        }
        Ok(ports)
    }

    fn finish(mut self, inputs: Vec<Port>, outputs: Vec<Port>, target: &Target) -> Result<Plan> {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.arrays.len()];
        let mut alive = |array: ArrayId, at: usize| {
            let life = lives[array.index()].get_or_insert((at, at));
            *life = (life.0.min(at), life.1.max(at));
        };
        inputs.iter().for_each(|port| alive(port.array, 0));
        for (index, step) in self.steps.iter().enumerate() {
            Accesses::of(&step.action).arrays().for_each(|array| alive(array, index + 1));
        }
        let end = self.steps.len() + 1;
        for port in &outputs {
            // An output that nothing writes, being empty, is there all the same.
            [Some(port.array), port.rows].into_iter().flatten().for_each(|array| alive(array, end));
        }
        let mut slots = Vec::new();
        for (index, (array, life)) in self.arrays.iter().zip(&lives).enumerate() {
            let (None, Some((first, last))) = (&array.constant, life) else { continue };
            let slot = Slot::new(ArrayId(index as u32), array.kind, array.len, *first, *last);
            slots.push(slot.ok_or_else(|| too_large(&array.name, array.len as u128 * 4))?);
        }
        let memory = MemoryPlan::pack(slots, target.buffer_limit)
            .map_err(|slot| too_large(&self.arrays[slot.array.index()].name, slot.len as u128 * 4))?;
        if memory.total() > target.memory_limit {
            let [needed, limit] = [memory.total(), target.memory_limit].map(|n| (n as u64).saturating_mul(4));
            return Err(Reason::TooLarge(format!("it takes {needed} bytes, {limit} are the most")));
        }
        // What nobody reads in the end was made in vain.
        for (array, life) in self.arrays.iter_mut().zip(&lives) {
            if life.is_none() {
                array.constant = array.constant.take().map(|_| Values::Floats(Arc::new([])));
                array.len = 0;
            }
        }
        Ok(Plan { block: self.block, arrays: self.arrays, steps: self.steps, inputs, outputs, memory })
    }

    /// The value's shape.
    fn dims(&self, id: ValueId) -> Result<Vec<usize>> {
        if let Some(room) = self.selected.get(&id) {
            return Ok(room.clone());
        }
        let value = self.graph.value(id);
        let dims = value.shape.as_deref().and_then(fixed_shape);
        dims.ok_or_else(|| format!("the shape of {} depends on data", value.text()).into())
    }

    /// How the value's elements are held.
    fn kind(&self, id: ValueId) -> Result<Kind> {
        let value = self.graph.value(id);
        Kind::of(value.element).ok_or_else(|| format!("{} has elements of another type", value.text()).into())
    }

    fn element(&self, id: ValueId) -> ElementType {
        self.graph.value(id).element
    }

    /// The node's input, which the operator can't do without.
    fn input(&self, node: &Node, index: usize) -> Result<ValueId> {
        node.input(index).ok_or_else(|| format!("its input {} is missing", index + 1).into())
    }

    /// The floats of an input that must be a constant.
    fn constant_floats(&self, node: &Node, index: usize) -> Result<Vec<f32>> {
        let id = self.input(node, index)?;
        let constant = self.graph.constant(id);
        let values = constant.and_then(|c| c.to_floats());
        values.ok_or_else(|| format!("its input {} is not a constant of floats", index + 1).into())
    }

    /// The whole numbers of an input that must be a constant.
    fn constant_ints(&self, node: &Node, index: usize) -> Result<Vec<i64>> {
        let id = self.input(node, index)?;
        let values = self.graph.constant(id).and_then(|c| c.as_ints().map(|v| v.into_owned()));
        values.ok_or_else(|| format!("its input {} is not a constant of whole numbers", index + 1).into())
    }

    /// A new array for a value.
    fn allocate(&mut self, id: ValueId, kind: Kind, len: usize) -> Result<ArrayId> {
        if len > self.limit {
            return Err(self.too_large(id, len as u128 * 4));
        }
        self.allocate_named(short_name(&self.graph.value(id).name), kind, len, None)
    }

    /// A new array for something between nodes.
    fn allocate_temporary(&mut self, kind: Kind, dims: &[usize]) -> Result<View> {
        let array = self.allocate_named(self.node.clone(), kind, volume(dims)?, None)?;
        Ok(View::whole(array, dims))
    }

    /// An array of numbers that are known.
    fn allocate_constant(&mut self, values: Values) -> Result<ArrayId> {
        let (kind, len) = match &values {
            Values::Floats(values) => (Kind::Float, values.len()),
            Values::Ints(values) => (Kind::Int, values.len()),
        };
        self.make_up(len)?;
        self.allocate_named(self.node.clone(), kind, len, Some(values))
    }

    fn allocate_named(&mut self, name: String, kind: Kind, len: usize, constant: Option<Values>) -> Result<ArrayId> {
        if constant.is_none() {
            self.held = self.held.saturating_add(len);
            // Far more than is alive at one time, and still nothing that could not be listed.
            if self.held / 64 > self.limit || len > self.limit {
                return Err(too_large(&name, len as u128 * 4));
            }
        }
        if self.arrays.len() >= 2 * MAX_STEPS {
            return Err(Reason::TooLarge(format!("it takes more than {} arrays", 2 * MAX_STEPS)));
        }
        let id = ArrayId(u32::try_from(self.arrays.len()).map_err(|_| "it has too many values")?);
        self.arrays.push(Array { name, kind, len, constant });
        Ok(id)
    }

    /// Adds a step; where it would read what it writes, by way of memory of its own.
    fn push(&mut self, mut action: Action) -> Result<()> {
        let accesses = Accesses::of(&action);
        if accesses.writes.is_empty() {
            return Ok(());
        }
        let mut after = None;
        if accesses.meet() {
            let (dims, output) = action.output_view().ok_or("it would write what it reads")?;
            let kind = self.arrays[output.array.index()].kind;
            let aside = self.allocate_temporary(kind, &dims)?;
            after = Some((dims, aside.clone(), output));
            action.set_output(aside);
        }
        if self.steps.len() >= MAX_STEPS {
            return Err(Reason::TooLarge(format!("it takes more than {MAX_STEPS} steps")));
        }
        self.steps.push(Step { node: self.node.clone(), action });
        match after {
            Some((dims, from, to)) => self.copy(&dims, from, to),
            None => Ok(()),
        }
    }

    fn map(&mut self, function: Function, dims: &[usize], inputs: Vec<View>, output: View) -> Result<()> {
        self.push(Action::Map(Map::new(function, dims, inputs, output)))
    }

    fn copy(&mut self, dims: &[usize], from: View, to: View) -> Result<()> {
        if from.is_same(&to, dims) { Ok(()) } else { self.map(Function::Copy, dims, vec![from], to) }
    }

    /// The function of two, for elements of a type.
    fn of_two(binary: Binary, element: ElementType) -> Function {
        Function::Binary(binary, element)
    }
}

/// How many elements a tensor of this shape has.
fn volume(dims: &[usize]) -> Result<usize> {
    crate::graph::constant::volume(dims).ok_or_else(|| Reason::TooLarge(format!("{dims:?} can't be counted")))
}

fn too_large(name: &str, bytes: u128) -> Reason {
    Reason::TooLarge(format!("{name} takes {bytes} bytes, which is more than there may be"))
}
