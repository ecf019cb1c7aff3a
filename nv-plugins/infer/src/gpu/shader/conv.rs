//! Dense convolutions in which an invocation keeps a tile of sums, output channels × pixels, in registers, and reads what it
//! needs of weights and picture from where they are.
//!
//! Weights come by one load for eight lanes, each of which takes four of them, and are handed round
//! ([`ConvFamily::Broadcast`]); or all lanes load the same.

use std::collections::BTreeSet;

use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::gpu::weights::Packing;
use crate::plan::{Activation, Conv, Kind, Picture, Residual};

use super::{Code, Draft, Element, LANES, Program, function, line};

/// How a kernel's work is cut.
struct Cut {
    /// Output channels of an invocation, a multiple of four.
    tile: usize,
    /// Pixels of an invocation, side by side.
    pixels: usize,
    /// Whether the taps of a row are written out, so that pixels share what they read.
    rows: bool,
    /// Whether pixels are counted through, whatever rows they are in.
    flat: bool,
}

/// The most multiply-adds in a loop's body: more takes drivers long to compile.
const MAX_BODY: usize = 800;

pub(super) fn program(step: &Conv, mut draft: Draft<'_>) -> Program {
    let cut = Cut::of(step, draft.tuning);
    let planar = step.input.block == 1;
    let inner = match (planar, cut.rows) {
        (false, _) => 4,
        (true, true) => step.kernel[1],
        (true, false) => 1,
    };
    let packing = Packing::Tiles { tile: cut.tile, inner, planar };
    let element = match planar {
        false => Element::Four(Kind::Float),
        true if pairs(step, &cut, &draft) => Element::Two,
        true => Element::One(Kind::Float),
    };
    draft.input("x", step.input.array, step.input.offset, element);
    draft.output("out", step.output.array, step.output.offset, Element::Four(Kind::Float));
    if let Some((picture, _)) = &step.residual {
        draft.input("res", picture.array, picture.offset, Element::Four(Kind::Float));
    }
    draft.weights("w", packing, packing.len(step));
    let tails = Packing::Tails { tile: cut.tile };
    draft.weights("tails", tails, tails.len(step));
    epilogue_function(step, &mut draft);

    let (workgroup, output) = (draft.tuning.workgroup, &step.output);
    let broadcast = draft.tuning.family == ConvFamily::Broadcast;
    let writer = Writer { step, cut: &cut, planar, element, inner, broadcast, workgroup };
    writer.sizes(&mut draft);
    let mut body = Code::default();
    writer.pixels(&mut body);
    writer.begin_sums(&mut body);
    writer.add_up(&mut body);
    writer.store(&mut body);
    let groups = [cut.units(output).div_ceil(workgroup), output.channels.div_ceil(cut.tile)];
    draft.finish("Conv", workgroup, body, groups)
}

/// Whether the columns that an invocation reads of a planar picture can be taken by twos: it then begins with an even one.
fn pairs(step: &Conv, cut: &Cut, draft: &Draft<'_>) -> bool {
    let (input, [block, row, column]) = (&step.input, step.input.strides);
    let even = (cut.pixels * step.stride[1]).is_multiple_of(2) && input.width.is_multiple_of(2);
    let strides = [block, row].into_iter().map(|s| s as isize);
    draft.tuning.pairs && cut.rows && even && column == 1 && draft.comes_by(2, input.array, input.offset, strides)
}

impl Cut {
    /// The cheapest one.
    fn of(step: &Conv, tuning: &Tuning) -> Self {
        let (output, planar) = (&step.output, step.input.block == 1);
        let dense = |p: &Picture| p.strides[1] == p.width * p.strides[2];
        let flat = step.kernel == [1, 1]
            && step.stride == [1, 1]
            && step.pad == [0, 0]
            && [&step.input, output].into_iter().all(dense)
            && step.residual.as_ref().is_none_or(|(p, _)| dense(p))
            && [step.input.height, step.input.width] == [output.height, output.width];
        let mut best = (f64::INFINITY, Self { tile: 4, pixels: 1, rows: false, flat });
        for (tile, pixels) in (4..=32).step_by(4).flat_map(|tile| [1, 2, 4, 8].map(|pixels| (tile, pixels))) {
            for rows in [true, false] {
                let cut = Self { tile, pixels, rows, flat };
                let taps = if rows { step.kernel[1] } else { 1 };
                let body = taps * if planar { 1 } else { 4 } * tile * pixels;
                let allowed = tile * pixels <= tuning.max_sums && body <= MAX_BODY;
                if (allowed || (tile, pixels, rows) == (4, 1, false)) && (!flat || rows) {
                    let cost = cut.cost(step, tuning);
                    if cost < best.0 {
                        best = (cost, cut);
                    }
                }
            }
        }
        best.1
    }

    /// What a channel and row of taps costs in all, in the time that a load of a number takes, as measured with llvmpipe.
    fn cost(&self, step: &Conv, tuning: &Tuning) -> f64 {
        let (output, planar) = (&step.output, step.input.block == 1);
        let (taps, repeats) = if self.rows { (step.kernel[1], 1) } else { (1, step.kernel[1]) };
        let lanes = if planar { 1 } else { 4 };
        let columns: BTreeSet<usize> =
            (0..self.pixels).flat_map(|j| (0..taps).map(move |k| j * step.stride[1] + k * step.dilation[1])).collect();
        let loads = if self.flat { self.pixels } else { columns.len() } * lanes;
        let inner = if planar { taps } else { 4 };
        let steps = if planar { 1 } else { taps };
        let fours = steps * Packing::step_len(self.tile, inner);
        let weights = if tuning.family == ConvFamily::Broadcast { fours / 8 } else { fours } * 4;
        let sums = self.tile * self.pixels;
        let each = loads as f64
            + weights as f64 * if tuning.uniform_weights { 0.44 } else { 1.0 }
            + (sums * taps * lanes) as f64 * 0.011
            // A loop keeps them aside for lanes that have left it.
            + sums as f64 * 0.035;
        let units = self.units(output);
        let tiles = output.channels.div_ceil(self.tile);
        each * (repeats * tiles * units.next_multiple_of(tuning.workgroup)) as f64
    }

    /// How many invocations there are for all pixels.
    fn units(&self, output: &Picture) -> usize {
        if self.flat {
            (output.width * output.height).div_ceil(self.pixels)
        } else {
            output.width.div_ceil(self.pixels) * output.height
        }
    }
}

/// Declares `finish`, which makes results of the sums of four channels: `r` is what is added, `s` are slopes.
pub(super) fn epilogue_function(step: &Conv, draft: &mut Draft<'_>) {
    let mut text = function::aliases(4);
    let (before, after) = match step.residual {
        Some((_, Residual::BeforeActivation)) => (" + r", ""),
        Some((_, Residual::AfterActivation)) => ("", " + r"),
        None => ("", ""),
    };
    let (declarations, expression) = match &step.activation {
        Some(Activation::Unary(unary)) => function::unary(*unary, "x"),
        Some(Activation::PRelu(_)) => (String::new(), "select(x, s * x, x < F(0.0))".into()),
        None => (String::new(), "x".into()),
    };
    text.push_str(&declarations);
    text.push_str(&format!(
        "fn finish(sum: F, r: F, s: F) -> F {{
    let x = sum{before};
    return ({expression}){after};
}}
"
    ));
    draft.head.0.push_str(&text);
}

struct Writer<'a> {
    step: &'a Conv,
    cut: &'a Cut,
    planar: bool,
    /// What the input is taken by.
    element: Element,
    /// Input numbers of a step of the sum.
    inner: usize,
    broadcast: bool,
    workgroup: usize,
}

impl Writer<'_> {
    fn taps(&self) -> std::ops::Range<usize> {
        0..if self.cut.rows { self.step.kernel[1] } else { 1 }
    }

    fn quads(&self) -> usize {
        self.cut.tile / 4
    }

    /// Whether the last tile has fewer blocks than the others.
    fn is_ragged(&self) -> bool {
        !self.step.output.blocks().is_multiple_of(self.quads())
    }

    /// What the text leaves open.
    fn sizes(&self, draft: &mut Draft<'_>) {
        let (input, output) = (&self.step.input, &self.step.output);
        let four = Element::Four(Kind::Float);
        draft.strides("x", input, self.element);
        draft.strides("out", output, four);
        if let Some((picture, _)) = &self.step.residual {
            draft.strides("res", picture, four);
        }
        draft.size("channels", if self.planar { input.channels } else { input.blocks() });
        draft.size("steps", Packing::steps(self.step, self.inner, self.planar));
        if self.is_ragged() {
            draft.size("blocks", output.blocks());
        }
        if self.cut.flat {
            draft.size("count", output.width * output.height);
            return;
        }
        draft.size("across", output.width.div_ceil(self.cut.pixels));
        draft.size("units", self.cut.units(output));
        draft.size("width", output.width);
        draft.size("x_height", input.height);
        draft.size("x_width", input.width);
        draft.size("top", self.step.pad[0]);
        draft.size("left", self.step.pad[1]);
    }

    /// Says which pixels an invocation has.
    fn pixels(&self, code: &mut Code) {
        let n = self.cut.pixels;
        if self.cut.flat {
            for j in 0..n {
                // Neighbours in memory are neighbours in the workgroup.
                let first = format!("group.x * {}u + {}u + lane", self.workgroup * n, self.workgroup * j);
                line!(code, "    let p{j} = {first};");
                line!(code, "    let q{j} = min(p{j}, count - 1u);");
            }
            return;
        }
        line!(code, "    let number = group.x * {}u + lane;", self.workgroup);
        line!(code, "    let unit = min(number, units - 1u);");
        line!(code, "    let y = unit / across;");
        line!(code, "    let x0 = (unit - y * across) * {n}u;");
        line!(code, "    let inside = number < units;");
        let [dy, dx] = self.step.stride;
        line!(code, "    let iy = i32(y * {dy}u) - i32(top);");
        line!(code, "    let ix = i32(x0 * {dx}u) - i32(left);");
        if self.element == Element::Two {
            for n in self.pairs() {
                let column = (n * 2) as isize - self.before_even() as isize;
                line!(code, "        let o{n} = u32(clamp(ix + {column}, 0, i32(x_width) - 1)) / 2u;");
                line!(code, "        let m{n} = ix + {column} >= 0 && ix + {column} < i32(x_width);");
            }
        } else if self.cut.rows {
            for offset in self.offsets() {
                self.column(code, offset, &format!("ix + {offset}"));
            }
        }
    }

    /// How far the first column is from the even one before it.
    fn before_even(&self) -> usize {
        self.step.pad[1] % 2
    }

    /// Which twos of columns the pixels need, from the one with the first pixel's first column on.
    fn pairs(&self) -> BTreeSet<usize> {
        self.offsets().into_iter().map(|offset| (offset + self.before_even()) / 2).collect()
    }

    /// Input columns that the pixels need, from the first one's first on; with a loop over taps, of one tap.
    fn offsets(&self) -> BTreeSet<usize> {
        let (stride, dilation) = (self.step.stride[1], self.step.dilation[1]);
        let taps = self.taps();
        (0..self.cut.pixels).flat_map(|j| taps.clone().map(move |k| j * stride + k * dilation)).collect()
    }

    /// Declares where in a row the column is, and whether it is there.
    fn column(&self, code: &mut Code, offset: usize, column: &str) {
        line!(code, "        let o{offset} = u32(clamp({column}, 0, i32(x_width) - 1)) * x_column;");
        if self.can_miss(1) {
            line!(code, "        let m{offset} = {column} >= 0 && {column} < i32(x_width);");
        }
    }

    /// Whether a window of an output pixel may reach out of the picture along an axis.
    fn can_miss(&self, axis: usize) -> bool {
        let (step, input, output) = (self.step, &self.step.input, &self.step.output);
        let (size, out) = ([input.height, input.width][axis], [output.height, output.width][axis]);
        let reach = (out - 1) * step.stride[axis] + (step.kernel[axis] - 1) * step.dilation[axis];
        step.pad[axis] > 0 || reach >= size
    }

    /// Fours that are loaded from `base` of `array` on, as many as `count`: the text that gives each. Broadcast, they are
    /// loaded by eights as `{name}{n}`.
    fn load(&self, code: &mut Code, [name, array, base]: [&str; 3], count: usize) -> Vec<String> {
        if self.broadcast {
            for load in 0..count.div_ceil(8) {
                line!(code, "        let {name}{load} = load_{array}({base} + {}u + (subgroup_lane & 7u));", load * 8);
            }
            (0..count).map(|n| format!("subgroupBroadcast({name}{}, {}u)", n / 8, n % 8)).collect()
        } else {
            (0..count).map(|n| format!("load_{array}({base} + {n}u)")).collect()
        }
    }

    fn begin_sums(&self, code: &mut Code) {
        let base = format!("group.y * {}u", Packing::tail_len(self.step, self.cut.tile));
        let bias = self.load(code, ["b", "tails", &base], self.quads());
        for (q, bias) in bias.iter().enumerate() {
            line!(code, "    let bias{q} = {bias};");
            (0..self.cut.pixels).for_each(|j| line!(code, "    var c{q}_{j} = bias{q};"));
        }
    }

    /// The loops over channels and taps.
    fn add_up(&self, code: &mut Code) {
        let ([rows, columns], [down, across]) = (self.step.kernel, self.step.dilation);
        let len = Packing::step_len(self.cut.tile, self.inner);
        line!(code, "    for (var c = 0u; c < channels; c++) {{");
        let mut index = String::from("c");
        if !self.cut.flat {
            line!(code, "    for (var j = 0; j < {rows}; j++) {{");
            line!(code, "        let r = iy + j * {down};");
            let row = "u32(clamp(r, 0, i32(x_height) - 1)) * x_row";
            line!(code, "        let line = x_at + c * x_block + {row};");
            if self.can_miss(0) {
                line!(code, "        let is_row = r >= 0 && r < i32(x_height);");
            }
            index = format!("(c * {rows}u + u32(j))");
            if !self.cut.rows {
                line!(code, "    for (var k = 0; k < {columns}; k++) {{");
                index = format!("({index} * {columns}u + u32(k))");
                for offset in self.offsets() {
                    self.column(code, offset, &format!("ix + {offset} + k * {across}"));
                }
            }
        }
        self.read(code);
        // A step for each tap of a row; of a planar picture one for all of them.
        let steps_here = if self.planar { 1 } else { self.taps().len() };
        let index = if steps_here > 1 { format!("{index} * {steps_here}u") } else { index };
        line!(code, "        let at = (group.y * steps + {index}) * {len}u;");
        for t in 0..steps_here {
            self.multiply(code, t, len);
        }
        let loops = if self.cut.flat { 1 } else { 2 } + usize::from(!self.cut.rows);
        line!(code, "    {}", "}".repeat(loops));
    }

    /// Reads what the step at hand needs of the picture, as `x{column}`; where pixels are counted through, as `x{pixel}`.
    fn read(&self, code: &mut Code) {
        if self.cut.flat {
            for j in 0..self.cut.pixels {
                line!(code, "        var x{j} = load_x(x_at + c * x_block + q{j} * x_column);");
                self.cut_channels(code, &format!("x{j}"));
            }
            return;
        }
        if self.element == Element::Two {
            for n in self.pairs() {
                let inside = if self.can_miss(0) { format!("is_row && m{n}") } else { format!("m{n}") };
                line!(code, "        let two{n} = select(vec2<f32>(0.0), load_x(line + o{n}), {inside});");
            }
            for offset in self.offsets() {
                let at = offset + self.before_even();
                line!(code, "        let x{offset} = two{}.{};", at / 2, LANES[at % 2]);
            }
            return;
        }
        let zero = if self.planar { "0.0" } else { "vec4<f32>(0.0)" };
        for offset in self.offsets() {
            let conditions = [(0, "is_row".to_owned()), (1, format!("m{offset}"))];
            let conditions: Vec<_> =
                conditions.into_iter().filter(|(axis, _)| self.can_miss(*axis)).map(|(_, text)| text).collect();
            let value = format!("load_x(line + o{offset})");
            if conditions.is_empty() {
                line!(code, "        var x{offset} = {value};");
            } else {
                line!(code, "        var x{offset} = select({zero}, {value}, {});", conditions.join(" && "));
            }
            self.cut_channels(code, &format!("x{offset}"));
        }
    }

    /// Drops what is beyond the last channel, which may be anything.
    fn cut_channels(&self, code: &mut Code, name: &str) {
        let channels = self.step.input.channels;
        if !self.planar && !channels.is_multiple_of(4) {
            for lane in &LANES[channels % 4..] {
                line!(code, "        {name}.{lane} = select(0.0, {name}.{lane}, c < channels - 1u);");
            }
        }
    }

    /// Adds the products of one step, the `t`th of those at hand. Sums are gone through one after another, and each takes all
    /// of its products: so they stay in registers, if not all of them.
    fn multiply(&self, code: &mut Code, t: usize, len: usize) {
        let quads = self.quads();
        let base = format!("at + {}u", t * len);
        let weights = self.load(code, [&format!("v{t}_"), "w", &base], self.inner * quads);
        for q in 0..quads {
            for k in 0..self.inner {
                line!(code, "        let t{t}_{k}_{q} = {};", weights[k * quads + q]);
            }
            for j in 0..self.cut.pixels {
                for k in 0..self.inner {
                    let x = self.factor(j, t, k);
                    line!(code, "        c{q}_{j} = fma(t{t}_{k}_{q}, F({x}), c{q}_{j});");
                }
            }
        }
    }

    /// The input number of the step that pixel `j` has its `k`th product from.
    fn factor(&self, j: usize, t: usize, k: usize) -> String {
        let (stride, dilation) = (self.step.stride[1], self.step.dilation[1]);
        match (self.cut.flat, self.planar) {
            (true, true) => format!("x{j}"),
            (true, false) => format!("x{j}.{}", LANES[k]),
            (false, true) => format!("x{}", j * stride + k * dilation),
            (false, false) => format!("x{}.{}", j * stride + t * dilation, LANES[k]),
        }
    }

    fn store(&self, code: &mut Code) {
        let (tile, quads) = (self.cut.tile, self.quads());
        let slopes = matches!(self.step.activation, Some(Activation::PRelu(_)));
        if slopes {
            let (len, start) = (Packing::tail_len(self.step, tile), Packing::slopes_at(tile));
            let loaded = self.load(code, ["s", "tails", &format!("group.y * {len}u + {start}u")], quads);
            loaded.iter().enumerate().for_each(|(q, s)| line!(code, "    let slope{q} = {s};"));
        }
        for j in 0..self.cut.pixels {
            let at = |name: &str| {
                let pixel = if self.cut.flat {
                    format!("q{j} * {name}_column")
                } else {
                    format!("y * {name}_row + (x0 + {j}u) * {name}_column")
                };
                format!("{name}_at + group.y * {quads}u * {name}_block + {pixel}")
            };
            let condition =
                if self.cut.flat { format!("p{j} < count") } else { format!("inside && x0 + {j}u < width") };
            line!(code, "    if ({condition}) {{");
            line!(code, "        let to = {};", at("out"));
            if self.step.residual.is_some() {
                line!(code, "        let other = {};", at("res"));
            }
            for q in 0..quads {
                let r = if self.step.residual.is_some() {
                    format!("load_res(other + {q}u * res_block)")
                } else {
                    "F(0.0)".into()
                };
                let s = if slopes { format!("slope{q}") } else { "F(0.0)".into() };
                let store = format!("store_out(to + {q}u * out_block, finish(c{q}_{j}, {r}, {s}));");
                if self.is_ragged() {
                    line!(code, "        if (group.y * {quads}u + {q}u < blocks) {{ {store} }}");
                } else {
                    line!(code, "        {store}");
                }
            }
            line!(code, "    }}");
        }
    }
}
