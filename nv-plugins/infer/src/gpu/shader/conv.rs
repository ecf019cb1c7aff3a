//! Dense convolutions in which an invocation keeps a tile of sums, output channels × pixels, in registers, and reads what it
//! needs of weights and picture from where they are.
//!
//! Weights come by one load for eight lanes, each of which takes four of them, and are handed round
//! ([`ConvFamily::Broadcast`]); or all lanes load the same.

use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::gpu::weights::Packing;
use crate::plan::{Activation, Conv, Kind, Picture, Residual};

use super::{Code, Draft, Element, Program, function, line};

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
const MAX_BODY: usize = 1600;

pub(super) fn program(step: &Conv, mut draft: Draft<'_>) -> Program {
    let cut = Cut::of(step, draft.tuning);
    let planar = step.input.block == 1;
    let inner = match (planar, cut.rows) {
        (false, _) => 4,
        (true, true) => step.kernel[1],
        (true, false) => 1,
    };
    let packing = Packing::Tiles { tile: cut.tile, inner, planar };
    let element = if planar { Element::One(Kind::Float) } else { Element::Four(Kind::Float) };
    draft.array("x", step.input.array, step.input.offset, element);
    draft.array("out", step.output.array, step.output.offset, Element::Four(Kind::Float));
    if let Some((picture, _)) = &step.residual {
        draft.array("res", picture.array, picture.offset, Element::Four(Kind::Float));
    }
    draft.weights(packing, packing.len(step));
    epilogue_function(step, &mut draft);

    let workgroup = draft.tuning.workgroup;
    let broadcast = draft.tuning.family == ConvFamily::Broadcast;
    let kernel = Writer { step, cut: &cut, planar, inner, broadcast, workgroup };
    let mut body = Code::default();
    let units = kernel.pixels(&mut body);
    kernel.begin_sums(&mut body);
    kernel.add_up(&mut body);
    kernel.store(&mut body);
    draft.finish("Conv", workgroup, body, [units.div_ceil(workgroup), step.output.channels.div_ceil(cut.tile)])
}

impl Cut {
    fn of(step: &Conv, tuning: &Tuning) -> Self {
        let outs = step.output.channels;
        let dense = |p: &Picture| p.strides[1] == p.width * p.strides[2];
        let flat = step.kernel == [1, 1]
            && step.stride == [1, 1]
            && step.pad == [0, 0]
            && [&step.input, &step.output].into_iter().all(dense)
            && step.residual.as_ref().is_none_or(|(p, _)| dense(p))
            && [step.input.height, step.input.width] == [step.output.height, step.output.width];
        let pixels = 4.min(if flat { step.output.width * step.output.height } else { step.output.width });
        // The widest tile that is not mostly empty in the end.
        let widest = (tuning.max_sums / pixels.max(1)).clamp(8, 32);
        let tile = [32, 16, 8]
            .into_iter()
            .filter(|tile| *tile <= widest)
            .min_by_key(|tile| {
                let padded = outs.div_ceil(*tile) * tile;
                // What is loaded for each pixel again and again, as much as eight sums.
                padded * (tile + 8) / tile
            })
            .unwrap_or(8);
        let inner = if step.input.block == 1 { 1 } else { 4 };
        let rows = step.kernel[1] * inner * tile * pixels <= MAX_BODY;
        Self { tile, pixels, rows, flat }
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
    /// Input numbers of a step of the sum.
    inner: usize,
    broadcast: bool,
    workgroup: usize,
}

const LANE: [&str; 4] = ["x", "y", "z", "w"];

impl Writer<'_> {
    fn taps(&self) -> std::ops::Range<usize> {
        0..if self.cut.rows { self.step.kernel[1] } else { 1 }
    }

    fn quads(&self) -> usize {
        self.cut.tile / 4
    }

    /// Strides of a picture in what it is taken by.
    fn strides(picture: &Picture) -> [usize; 3] {
        if picture.block == 1 { picture.strides } else { picture.strides.map(|s| s / 4) }
    }

    /// Says which pixels an invocation has. How many invocations are needed for all.
    fn pixels(&self, code: &mut Code) -> usize {
        let (output, n) = (&self.step.output, self.cut.pixels);
        let invocation = format!("group.x * {}u + lane", self.workgroup);
        if self.cut.flat {
            let count = output.width * output.height;
            // Neighbours in memory are neighbours in the workgroup.
            for j in 0..n {
                let first = format!("group.x * {}u + {}u + lane", self.workgroup * n, self.workgroup * j);
                line!(code, "    let p{j} = {first};");
                line!(code, "    let q{j} = min(p{j}, {}u);", count - 1);
            }
            return count.div_ceil(n);
        }
        let across = output.width.div_ceil(n);
        let units = across * output.height;
        line!(code, "    let unit = min({invocation}, {}u);", units - 1);
        line!(code, "    let y = unit / {across}u;");
        line!(code, "    let x0 = (unit % {across}u) * {n}u;");
        line!(code, "    let inside = {invocation} < {units}u;");
        let [dy, dx] = self.step.stride;
        let [top, left] = self.step.pad;
        line!(code, "    let iy = i32(y * {dy}u) - {top};");
        line!(code, "    let ix = i32(x0 * {dx}u) - {left};");
        let [_, _, column] = Self::strides(&self.step.input);
        for offset in self.offsets() {
            if self.cut.rows {
                self.column(code, offset, &format!("ix + {offset}"), column, "    ");
            }
        }
        units
    }

    /// Input columns that the pixels need, from the first one's first on; with a loop over taps, of one tap.
    fn offsets(&self) -> std::collections::BTreeSet<usize> {
        let (stride, dilation) = (self.step.stride[1], self.step.dilation[1]);
        let taps = self.taps();
        (0..self.cut.pixels).flat_map(|j| taps.clone().map(move |k| j * stride + k * dilation)).collect()
    }

    /// Declares where in a row the column is, and whether it is there.
    fn column(&self, code: &mut Code, offset: usize, column: &str, stride: usize, indent: &str) {
        let width = self.step.input.width;
        line!(code, "{indent}let o{offset} = u32(clamp({column}, 0, {})) * {stride}u;", width - 1);
        if self.can_miss(1) {
            line!(code, "{indent}let m{offset} = {column} >= 0 && {column} < {width};");
        }
    }

    /// Whether a window of an output pixel may reach out of the picture along an axis.
    fn can_miss(&self, axis: usize) -> bool {
        let (step, input, output) = (self.step, &self.step.input, &self.step.output);
        let (size, out) = ([input.height, input.width][axis], [output.height, output.width][axis]);
        let reach = (out - 1) * step.stride[axis] + (step.kernel[axis] - 1) * step.dilation[axis];
        step.pad[axis] > 0 || reach >= size
    }

    /// Fours that are loaded from `base` on, as many as `count`, by name `{name}{n}`, or the text that gives each.
    fn load(&self, code: &mut Code, name: &str, base: &str, count: usize, indent: &str) -> Vec<String> {
        if self.broadcast {
            for load in 0..count.div_ceil(8) {
                line!(code, "{indent}let {name}{load} = w[{base} + {}u + (subgroup_lane & 7u)];", load * 8);
            }
            (0..count).map(|n| format!("subgroupBroadcast({name}{}, {}u)", n / 8, n % 8)).collect()
        } else {
            (0..count).map(|n| format!("w[{base} + {n}u]")).collect()
        }
    }

    fn steps(&self) -> usize {
        Packing::steps(self.step, self.inner, self.planar)
    }

    fn step_len(&self) -> usize {
        Packing::step_len(self.cut.tile, self.inner)
    }

    /// Where the bias begins.
    fn tail(&self) -> usize {
        self.step.output.channels.div_ceil(self.cut.tile) * self.steps() * self.step_len()
    }

    fn begin_sums(&self, code: &mut Code) {
        let quads = self.quads();
        if self.step.bias.is_some() {
            let base = format!("{}u + group.y * {quads}u", self.tail());
            let bias = self.load(code, "b", &base, quads, "    ");
            for (q, bias) in bias.iter().enumerate() {
                line!(code, "    let bias{q} = {bias};");
            }
        }
        for q in 0..quads {
            let first = if self.step.bias.is_some() { format!("bias{q}") } else { "vec4<f32>(0.0)".into() };
            (0..self.cut.pixels).for_each(|j| line!(code, "    var c{q}_{j} = {first};"));
        }
    }

    /// The loops over channels and taps.
    fn add_up(&self, code: &mut Code) {
        let (step, input) = (self.step, &self.step.input);
        let [channel, row, column] = Self::strides(input);
        let channels = if self.planar { input.channels } else { input.blocks() };
        let (steps, len) = (self.steps(), self.step_len());
        line!(code, "    for (var c = 0u; c < {channels}u; c++) {{");
        let rows = step.kernel[0];
        let mut index = String::from("c");
        if !self.cut.flat {
            line!(code, "    for (var j = 0; j < {rows}; j++) {{");
            line!(code, "        let r = iy + j * {};", step.dilation[0]);
            let height = input.height;
            line!(code, "        let line = x_at + c * {channel}u + u32(clamp(r, 0, {})) * {row}u;", height - 1);
            if self.can_miss(0) {
                line!(code, "        let is_row = r >= 0 && r < {height};");
            }
            index = format!("(c * {rows}u + u32(j))");
            if !self.cut.rows {
                line!(code, "    for (var k = 0; k < {}; k++) {{", step.kernel[1]);
                index = format!("({index} * {}u + u32(k))", step.kernel[1]);
                for offset in self.offsets() {
                    let at = format!("ix + {offset} + k * {}", step.dilation[1]);
                    self.column(code, offset, &at, column, "        ");
                }
            }
        }
        self.read(code, channel, column);
        // A step for each tap of a row; of a planar picture one for all of them.
        let steps_here = if self.planar { 1 } else { self.taps().len() };
        let index = if steps_here > 1 { format!("{index} * {steps_here}u") } else { index };
        line!(code, "        let at = (group.y * {steps}u + {index}) * {len}u;");
        for t in 0..steps_here {
            self.multiply(code, t);
        }
        if !self.cut.flat {
            line!(code, "{}", if self.cut.rows { "    }" } else { "    } }" });
        }
        line!(code, "    }}");
    }

    /// Reads what the step at hand needs of the picture, as `x{column}`; where pixels are counted through, as `x{pixel}`.
    fn read(&self, code: &mut Code, channel: usize, column: usize) {
        if self.cut.flat {
            for j in 0..self.cut.pixels {
                line!(code, "        var x{j} = x[x_at + c * {channel}u + q{j} * {column}u];");
                self.cut_channels(code, &format!("x{j}"));
            }
            return;
        }
        let zero = if self.planar { "0.0" } else { "vec4<f32>(0.0)" };
        for offset in self.offsets() {
            let conditions = [(0, "is_row".to_owned()), (1, format!("m{offset}"))];
            let conditions: Vec<_> =
                conditions.into_iter().filter(|(axis, _)| self.can_miss(*axis)).map(|(_, text)| text).collect();
            let value = format!("x[line + o{offset}]");
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
        let (channels, blocks) = (self.step.input.channels, self.step.input.blocks());
        if !self.planar && !channels.is_multiple_of(4) {
            for lane in &LANE[channels % 4..] {
                line!(code, "        {name}.{lane} = select(0.0, {name}.{lane}, c < {}u);", blocks - 1);
            }
        }
    }

    /// Adds the products of one step, the `t`th of those at hand.
    fn multiply(&self, code: &mut Code, t: usize) {
        let (quads, len) = (self.quads(), self.step_len());
        let base = format!("at + {}u", t * len);
        let weights = self.load(code, &format!("v{t}_"), &base, self.inner * quads, "        ");
        let (stride, dilation) = (self.step.stride[1], self.step.dilation[1]);
        for k in 0..self.inner {
            for q in 0..quads {
                let weight = format!("t{t}_{k}_{q}");
                line!(code, "        let {weight} = {};", weights[k * quads + q]);
                for j in 0..self.cut.pixels {
                    let x = match (self.cut.flat, self.planar) {
                        (true, true) => format!("x{j}"),
                        (true, false) => format!("x{j}.{}", LANE[k]),
                        (false, true) => format!("x{}", j * stride + k * dilation),
                        (false, false) => format!("x{}.{}", j * stride + t * dilation, LANE[k]),
                    };
                    line!(code, "        c{q}_{j} = fma({weight}, F({x}), c{q}_{j});");
                }
            }
        }
    }

    fn store(&self, code: &mut Code) {
        let (step, quads, output) = (self.step, self.quads(), &self.step.output);
        let slopes = matches!(step.activation, Some(Activation::PRelu(_)));
        if slopes {
            let tiles = output.channels.div_ceil(self.cut.tile);
            let base = format!("{}u + group.y * {quads}u", self.tail() + tiles * quads);
            let loaded = self.load(code, "s", &base, quads, "    ");
            loaded.iter().enumerate().for_each(|(q, s)| line!(code, "    let slope{q} = {s};"));
        }
        let ragged = !output.blocks().is_multiple_of(quads);
        for j in 0..self.cut.pixels {
            let condition = if self.cut.flat {
                format!("p{j} < {}u", output.width * output.height)
            } else if output.width.is_multiple_of(self.cut.pixels) {
                "inside".into()
            } else {
                format!("inside && x0 + {j}u < {}u", output.width)
            };
            line!(code, "    if ({condition}) {{");
            let at = |picture: &Picture, name: &str| {
                let [block, row, column] = Self::strides(picture);
                let pixel = if self.cut.flat {
                    format!("q{j} * {column}u")
                } else {
                    format!("y * {row}u + (x0 + {j}u) * {column}u")
                };
                (format!("{name}_at + group.y * {}u + {pixel}", block * quads), block)
            };
            let (to, block) = at(output, "out");
            line!(code, "        let to = {to};");
            let mut residual = None;
            if let Some((picture, _)) = &step.residual {
                let (other, block) = at(picture, "res");
                line!(code, "        let other = {other};");
                residual = Some(block);
            }
            for q in 0..quads {
                let r = residual.map_or("F(0.0)".into(), |block| format!("res[other + {}u]", q * block));
                let s = if slopes { format!("slope{q}") } else { "F(0.0)".into() };
                let store = format!("out[to + {}u] = finish(c{q}_{j}, {r}, {s});", q * block);
                if ragged {
                    let blocks = output.blocks();
                    line!(code, "        if (group.y * {quads}u + {q}u < {blocks}u) {{ {store} }}");
                } else {
                    line!(code, "        {store}");
                }
            }
            line!(code, "    }}");
        }
    }
}
