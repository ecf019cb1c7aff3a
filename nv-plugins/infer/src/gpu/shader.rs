//! From a step to the WGSL that computes it.
//!
//! Each kind of step has a module that writes the text of its kernel. Where arrays lie, and where in an array a step begins, is
//! no part of the text but comes in a small uniform, so that equal steps have equal texts, which are compiled once. For
//! convolutions, which take drivers long to compile, sizes of pictures come with it.
//!
//! A dispatch's third dimension is the entry of the batch. No kernel knows how many entries there are, and none exchanges
//! anything between entries: what is computed of one does not depend on the others.

mod arg_max;
mod conv;
mod depthwise;
mod function;
mod gather;
mod map;
mod matmul;
mod planes;
mod pool;
mod reduce;
mod resample;
mod shuffle;
mod softmax;
#[cfg(test)]
mod tests;
mod tiled;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::gpu::tuning::{Space, Tuning};
use crate::gpu::weights::Packing;
use crate::plan::{Action, Array, ArrayId, Kind, Picture, View};

/// A kernel for one step.
#[derive(Debug)]
pub(super) struct Program {
    /// What kind of step it is for, as errors name it.
    pub(super) label: &'static str,
    pub(super) source: String,
    /// What it is bound to, from binding 1 on. Binding 0 has the places of the arrays among them ([`place`]), and then the
    /// sizes.
    pub(super) operands: Vec<Operand>,
    pub(super) sizes: Vec<u32>,
    /// How many workgroups there are for one entry.
    pub(super) groups: [u32; 2],
}

/// Something that a kernel is bound to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// A whole array. The kernel's view of it begins at `offset`, in numbers; it takes them by one or by four.
    Array { id: ArrayId, offset: usize, lanes: usize },
    /// Numbers of the step itself, as bits.
    Table(Arc<[u32]>),
    /// The weights of the step, which is a convolution.
    Weights { packing: Packing, space: Space },
    /// A number for each entry, which is 0 before the run: the first index that is out of range.
    Faults,
}

/// Writes the kernel for a step; `None` where the step can't be done on a device: what it computes follows from data step by
/// step, or is more than a dispatch has.
pub(super) fn program(action: &Action, arrays: &[Array], tuning: &Tuning) -> Option<Program> {
    let draft = Draft::new(arrays, tuning);
    let program = match action {
        Action::Conv(step) if step.output.block == 1 => Some(planes::program(step, draft)),
        Action::Conv(step) if step.depthwise => Some(depthwise::program(step, draft)),
        Action::Conv(step) if tiled::fits(step, tuning) => Some(tiled::program(step, draft)),
        Action::Conv(step) => Some(conv::program(step, draft)),
        Action::Pool(step) => Some(pool::program(step, draft)),
        Action::Map(step) => Some(map::program(step, draft)),
        Action::Reduce(step) => Some(reduce::program(step, draft)),
        Action::MatMul(step) => Some(matmul::program(step, draft)),
        Action::Softmax(step) => Some(softmax::program(step, draft)),
        Action::Resample(step) => Some(resample::program(step, draft)),
        Action::Gather(step) => gather::program(step, draft),
        Action::ArgMax(step) => Some(arg_max::program(step, draft)),
        Action::Shuffle(step) => shuffle::program(step, draft),
        Action::TopK(_) | Action::NonMaxSuppression(_) => None,
    };
    program.filter(|program| program.groups.iter().all(|n| *n as usize <= MAX_GROUPS))
}

/// What binding 0 holds for an array: where the kernel's view begins in an entry, and how far entries are apart, both counted
/// in what the kernel takes the array by.
pub(super) fn place(arrays: &[Array], id: ArrayId, offset: usize, lanes: usize) -> [u32; 4] {
    [(offset / lanes) as u32, (entry_stride(arrays, id) / lanes) as u32, 0, 0]
}

/// From one entry of an array to the next, in numbers: constants are shared by all.
fn entry_stride(arrays: &[Array], id: ArrayId) -> usize {
    let array = &arrays[id.index()];
    if array.constant.is_some() { 0 } else { array.len }
}

/// What a kernel takes an array by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    /// A number of this kind.
    One(Kind),
    /// Two floats, side by side.
    Two,
    /// Four numbers of this kind, side by side.
    Four(Kind),
}

impl Element {
    fn lanes(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two => 2,
            Self::Four(_) => 4,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::One(Kind::Float) => "f32",
            Self::One(Kind::Int) => "i32",
            Self::Two => "vec2<f32>",
            Self::Four(Kind::Float) => "vec4<f32>",
            Self::Four(Kind::Int) => "vec4<i32>",
        }
    }
}

/// How a binding has what a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    AsTaken(Element),
    /// Two numbers as one word.
    Pair,
    /// Four numbers as two words.
    Pairs,
}

impl Stored {
    fn text(self) -> &'static str {
        match self {
            Self::AsTaken(element) => element.text(),
            Self::Pair => "u64",
            Self::Pairs => "vec2<u64>",
        }
    }
}

/// Between numbers and the words that two each are stored as, the first in the lower half.
const PAIRS: &str = "fn two(word: u64) -> vec2<u32> { return vec2<u32>(u32(word), u32(word >> 32u)); }
fn four(words: vec2<u64>) -> vec4<u32> { return vec4<u32>(two(words.x), two(words.y)); }
fn pair(n: vec2<u32>) -> u64 { return u64(n.x) | (u64(n.y) << 32u); }
fn pairs(n: vec4<u32>) -> vec2<u64> { return vec2<u64>(pair(n.xy), pair(n.zw)); }
";

/// Lines of WGSL.
#[derive(Debug, Default)]
pub(super) struct Code(pub(super) String);

impl Code {
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }
}

/// Adds a line to a [`Code`].
macro_rules! line {
    ($code:expr, $($text:tt)*) => { $code.line(format_args!($($text)*)) };
}
pub(super) use line;

/// A kernel that is being written.
struct Draft<'a> {
    arrays: &'a [Array],
    tuning: &'a Tuning,
    head: Code,
    /// The first lines of `main`.
    begin: Code,
    operands: Vec<Operand>,
    placed: usize,
    /// By name.
    sizes: Vec<(String, u32)>,
}

impl<'a> Draft<'a> {
    fn new(arrays: &'a [Array], tuning: &'a Tuning) -> Self {
        let (head, begin, operands, sizes) = Default::default();
        Self { arrays, tuning, head, begin, operands, placed: 0, sizes }
    }

    fn kind(&self, id: ArrayId) -> Kind {
        self.arrays[id.index()].kind
    }

    /// Whether a view that begins at `offset` and steps by these strides can be taken by so many.
    fn comes_by(&self, lanes: usize, id: ArrayId, offset: usize, mut strides: impl Iterator<Item = isize>) -> bool {
        let whole = |n: usize| n.is_multiple_of(lanes);
        let constant = self.arrays[id.index()].constant.is_some();
        // A constant's memory is rounded up to fours, an entry's is not.
        (constant || whole(self.arrays[id.index()].len)) && whole(offset) && strides.all(|s| whole(s.unsigned_abs()))
    }

    fn by_four(&self, id: ArrayId, offset: usize, strides: impl Iterator<Item = isize>) -> bool {
        self.comes_by(4, id, offset, strides)
    }

    /// Binds an array that the kernel reads. It has the view's first element of its entry at `{name}_at`, and gets elements by
    /// `load_{name}(i)`.
    ///
    /// All are bound as writable, since arrays that a kernel reads share a buffer with the one that it writes.
    fn input(&mut self, name: &str, id: ArrayId, offset: usize, element: Element) {
        let access = if self.arrays[id.index()].constant.is_some() { "read" } else { "read_write" };
        let variable = format!("var<storage, {access}> {name}");
        let stored = self.stored(element);
        self.declare(&variable, &format!("array<{}>", stored.text()));
        self.declare_load(name, element, stored);
        self.place(name, id, offset, element);
    }

    /// Binds the array that the kernel writes, as [`input`](Self::input); it also puts elements by `store_{name}(i, value)`.
    fn output(&mut self, name: &str, id: ArrayId, offset: usize, element: Element) {
        self.input(name, id, offset, element);
        let value = match self.stored(element) {
            Stored::AsTaken(_) => "value",
            Stored::Pair => "pair(bitcast<vec2<u32>>(value))",
            Stored::Pairs => "pairs(bitcast<vec4<u32>>(value))",
        };
        line!(self.head, "fn store_{name}(i: u32, value: {}) {{ {name}[i] = {value}; }}", element.text());
    }

    /// Declares the next binding.
    fn declare(&mut self, variable: &str, ty: &str) {
        line!(self.head, "@group(0) @binding({}) {variable}: {ty};", self.operands.len() + 1);
    }

    fn declare_load(&mut self, name: &str, element: Element, stored: Stored) {
        let ty = element.text();
        let value = match stored {
            Stored::AsTaken(_) => format!("{name}[i]"),
            Stored::Pair => format!("bitcast<{ty}>(two({name}[i]))"),
            Stored::Pairs => format!("bitcast<{ty}>(four({name}[i]))"),
        };
        line!(self.head, "fn load_{name}(i: u32) -> {ty} {{ return {value}; }}");
    }

    fn stored(&self, element: Element) -> Stored {
        match element {
            Element::Four(_) if self.tuning.pairs => Stored::Pairs,
            Element::Two if self.tuning.pairs => Stored::Pair,
            element => Stored::AsTaken(element),
        }
    }

    fn place(&mut self, name: &str, id: ArrayId, offset: usize, element: Element) {
        let n = self.placed;
        line!(self.begin, "    let {name}_at = place[{n}].x + group.z * place[{n}].y;");
        self.placed += 1;
        self.operands.push(Operand::Array { id, offset, lanes: element.lanes() });
    }

    /// Binds numbers of the step itself, as an array of `ty`.
    fn table(&mut self, name: &str, ty: &str, words: Vec<u32>) {
        self.declare(&format!("var<storage, read> {name}"), &format!("array<{ty}>"));
        self.operands.push(Operand::Table(words.into()));
    }

    /// Gives the kernel a number under a name, without its being part of the text.
    fn size(&mut self, name: &str, value: usize) {
        self.sizes.push((name.to_owned(), value as u32));
    }

    /// The strides of a picture, in what it is taken by, as `{name}_block`, `{name}_row`, `{name}_column`.
    fn strides(&mut self, name: &str, picture: &Picture, element: Element) {
        for (part, stride) in ["block", "row", "column"].into_iter().zip(picture.strides) {
            self.size(&format!("{name}_{part}"), stride / element.lanes());
        }
    }

    /// Binds weights of the step, which are `len` fours, under a name. The kernel gets them by `load_{name}(i)`.
    fn weights(&mut self, name: &str, packing: Packing, len: usize) {
        let element = Element::Four(Kind::Float);
        let (space, stored) = (self.tuning.space(len), self.stored(element));
        match space {
            // Its length is part of the text.
            Space::Uniform { len } => {
                self.declare(&format!("var<uniform> {name}"), &format!("array<{}, {len}>", stored.text()));
            }
            Space::Storage => {
                self.declare(&format!("var<storage, read> {name}"), &format!("array<{}>", stored.text()));
            }
        }
        self.declare_load(name, element, stored);
        self.operands.push(Operand::Weights { packing, space });
    }

    /// Binds what the step notes of indices that are out of range, as a number for each entry.
    fn faults(&mut self, name: &str) {
        self.declare(&format!("var<storage, read_write> {name}"), "array<i32>");
        self.operands.push(Operand::Faults);
    }

    /// Ends a kernel whose workgroups are `groups` for an entry, of `workgroup` invocations each. In the body `group` is the
    /// workgroup and `lane` the invocation in it.
    fn finish(self, label: &'static str, workgroup: usize, body: Code, groups: [usize; 2]) -> Program {
        let (head, begin) = (self.head.0, self.begin.0);
        let n = self.placed + self.sizes.len().div_ceil(4);
        let mut sizes = Code::default();
        for (i, (name, _)) in self.sizes.iter().enumerate() {
            line!(sizes, "    let {name} = place[{}].{};", self.placed + i / 4, LANES[i % 4]);
        }
        let pairs = if head.contains("u64") { PAIRS } else { "" };
        let subgroup =
            if body.0.contains("subgroup_lane") { ", @builtin(subgroup_invocation_id) subgroup_lane: u32" } else { "" };
        let source = format!(
            "@group(0) @binding(0) var<uniform> place: array<vec4<u32>, {n}>;
{pairs}{head}@compute @workgroup_size({workgroup})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32{subgroup}) {{
{begin}{sizes}{body}}}
",
            sizes = sizes.0,
            body = body.0
        );
        let sizes = self.sizes.into_iter().map(|(_, value)| value).collect();
        Program { label, source, operands: self.operands, sizes, groups: groups.map(|n| n as u32) }
    }

    /// Ends a kernel that does the same for each `i` below `count`.
    fn finish_each(self, label: &'static str, count: usize, body: &Code) -> Program {
        let (code, groups, workgroup) = each(self.tuning.workgroup_for(count), count, body);
        self.finish(label, workgroup, code, groups)
    }
}

/// The components of a vector.
const LANES: [&str; 4] = ["x", "y", "z", "w"];

/// The most workgroups in one dimension of a dispatch.
pub(super) const MAX_GROUPS: usize = 65535;

/// Has `body` done for each `i` below `count`, by workgroups of `workgroup` invocations: the lines of `main`, how many workgroups
/// there are, and of how many invocations.
pub(super) fn each(workgroup: usize, count: usize, body: &Code) -> (Code, [usize; 2], usize) {
    let groups = count.div_ceil(workgroup).max(1);
    let spread = [groups.min(MAX_GROUPS), groups.div_ceil(MAX_GROUPS)];
    let number = if spread[1] > 1 { format!("(group.y * {MAX_GROUPS}u + group.x)") } else { "group.x".into() };
    let mut code = Code::default();
    line!(code, "    let i = {number} * {workgroup}u + lane;");
    line!(code, "    if (i < {count}u) {{");
    code.0.push_str(&body.0);
    line!(code, "    }}");
    (code, spread, workgroup)
}

/// Takes an index apart: from `{from}` to `{name}0`, `{name}1`, … below `dims`, the last varying fastest.
fn coordinates(code: &mut Code, from: &str, name: &str, dims: &[usize]) {
    let mut rest = from.to_owned();
    for (d, &dim) in dims.iter().enumerate().rev() {
        if d == 0 {
            line!(code, "    let {name}0 = {rest};");
        } else {
            line!(code, "    let {name}{d} = {rest} % {dim}u;");
            line!(code, "    let {name}{d}_rest = {rest} / {dim}u;");
            rest = format!("{name}{d}_rest");
        }
    }
}

/// The position `{at} + {name}0·strides[0] + …`, where strides count numbers and the array is taken by `lanes` of them. A
/// backward stride wraps round, and what is added wraps back.
fn position(at: &str, name: &str, strides: &[isize], lanes: usize) -> String {
    let mut text = at.to_owned();
    for (d, &stride) in strides.iter().enumerate() {
        let _ = match stride / lanes as isize {
            0 => Ok(()),
            1 => write!(text, " + {name}{d}"),
            stride => write!(text, " + {name}{d} * {}u", stride as u32),
        };
    }
    text
}

/// A finite number as a WGSL expression.
pub(super) fn number(value: f32) -> String {
    format!("{value:?}f")
}

/// A view's strides, those of its last `n` dimensions alone.
fn last(view: &View, n: usize) -> &[isize] {
    &view.strides[view.strides.len() - n..]
}
