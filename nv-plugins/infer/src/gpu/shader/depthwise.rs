//! Depthwise convolutions. An invocation has a patch of pixels of four channels: windows overlap, and what neighbours share is
//! read once.

use std::collections::BTreeSet;

use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::gpu::weights::Packing;
use crate::plan::{Activation, Conv, Kind};

use super::{Code, Draft, Element, Program, conv, line};

/// The most multiply-adds of fours in a kernel.
const MAX_BODY: usize = 320;

/// The most loads and stores in a kernel.
const MAX_ACCESSES: usize = 64;

pub(super) fn program(step: &Conv, mut draft: Draft<'_>) -> Program {
    let patch = patch(step, draft.tuning);
    let (input, output) = (&step.input, &step.output);
    let four = Element::Four(Kind::Float);
    draft.input("x", input.array, input.offset, four);
    draft.output("out", output.array, output.offset, four);
    if let Some((picture, _)) = &step.residual {
        draft.input("res", picture.array, picture.offset, four);
    }
    draft.weights("w", Packing::Depthwise, Packing::Depthwise.len(step));
    conv::epilogue_function(step, &mut draft);

    let workgroup = draft.tuning.workgroup;
    let tiles = [output.height.div_ceil(patch[0]), output.width.div_ceil(patch[1])];
    let units = tiles[0] * tiles[1];
    for (name, picture) in [("x", input), ("out", output)] {
        draft.strides(name, picture, four);
        draft.size(&format!("{name}_height"), picture.height);
        draft.size(&format!("{name}_width"), picture.width);
    }
    if let Some((picture, _)) = &step.residual {
        draft.strides("res", picture, four);
    }
    draft.size("across", tiles[1]);
    draft.size("units", units);
    draft.size("top", step.pad[0]);
    draft.size("left", step.pad[1]);
    let mut body = Code::default();
    line!(body, "    let number = group.x * {workgroup}u + lane;");
    line!(body, "    let unit = min(number, units - 1u);");
    line!(body, "    let y0 = unit / across * {}u;", patch[0]);
    line!(body, "    let x0 = unit % across * {}u;", patch[1]);
    line!(body, "    let iy = i32(y0 * {}u) - i32(top);", step.stride[0]);
    line!(body, "    let ix = i32(x0 * {}u) - i32(left);", step.stride[1]);
    let writer = Writer { step, patch, unrolled: is_unrolled(step) };
    let broadcast = draft.tuning.family == ConvFamily::Broadcast;
    writer.weights(&mut body, broadcast);
    writer.columns(&mut body);
    writer.add_up(&mut body);
    writer.store(&mut body);
    draft.finish("Conv", workgroup, body, [units.div_ceil(workgroup), output.blocks()])
}

/// Whether all taps are written out. A window that is too large for that is looped over.
fn is_unrolled(step: &Conv) -> bool {
    step.kernel[0] * step.kernel[1] <= 49
}

/// Rows and columns of an invocation: those with which least is read.
fn patch(step: &Conv, tuning: &Tuning) -> [usize; 2] {
    let taps = step.kernel[0] * step.kernel[1];
    let [height, width] = [step.output.height, step.output.width];
    if !is_unrolled(step) {
        return [1, 1];
    }
    let cost = |patch: &[usize; 2]| {
        let offsets = |axis| offsets(step, *patch, axis).len();
        let units = height.div_ceil(patch[0]) * width.div_ceil(patch[1]);
        // A result is written, and the weights are read for each patch, in half the time.
        let each = offsets(0) * offsets(1) + patch[0] * patch[1] + taps.div_ceil(16);
        each * units.next_multiple_of(tuning.workgroup)
    };
    let patches = [1, 2, 4, 8].into_iter().flat_map(|rows| [1, 2, 4, 8].map(|columns| [rows, columns]));
    let fits = |[rows, columns]: &[usize; 2]| {
        let sums = rows * columns * 4;
        let accesses =
            offsets(step, [*rows, *columns], 0).len() * offsets(step, [*rows, *columns], 1).len() + rows * columns;
        sums <= tuning.max_sums.min(64) && rows * columns * taps <= MAX_BODY && accesses <= MAX_ACCESSES
    };
    patches.filter(fits).min_by_key(cost).unwrap_or([1, 1])
}

/// Distances of what a patch reads from its first pixel's first tap along an axis.
fn offsets(step: &Conv, patch: [usize; 2], axis: usize) -> BTreeSet<usize> {
    let (stride, dilation, taps) = (step.stride[axis], step.dilation[axis], step.kernel[axis]);
    (0..patch[axis]).flat_map(|j| (0..taps).map(move |k| j * stride + k * dilation)).collect()
}

struct Writer<'a> {
    step: &'a Conv,
    patch: [usize; 2],
    unrolled: bool,
}

impl Writer<'_> {
    fn taps(&self) -> usize {
        self.step.kernel[0] * self.step.kernel[1]
    }

    /// Declares `w{tap}` where taps are written out, `bias` and `slope`.
    fn weights(&self, code: &mut Code, broadcast: bool) {
        let (taps, len) = (self.taps(), Packing::depthwise_len(self.step));
        line!(code, "    let at = group.y * {len}u;");
        let first = if self.unrolled { 0 } else { taps };
        if broadcast {
            for load in first / 8..len.div_ceil(8) {
                line!(code, "    let v{load} = load_w(at + {}u + (subgroup_lane & 7u));", load * 8);
            }
        }
        for n in first..len {
            let name = match n.checked_sub(taps) {
                None => format!("w{n}"),
                Some(0) => "bias".into(),
                Some(_) => "slope".into(),
            };
            if broadcast {
                line!(code, "    let {name} = subgroupBroadcast(v{}, {}u);", n / 8, n % 8);
            } else {
                line!(code, "    let {name} = load_w(at + {n}u);");
            }
        }
    }

    fn columns(&self, code: &mut Code) {
        if self.unrolled {
            for offset in offsets(self.step, self.patch, 1) {
                line!(code, "    let o{offset} = u32(clamp(ix + {offset}, 0, i32(x_width) - 1)) * x_column;");
                line!(code, "    let m{offset} = ix + {offset} >= 0 && ix + {offset} < i32(x_width);");
            }
        }
        for y in 0..self.patch[0] {
            (0..self.patch[1]).for_each(|x| line!(code, "    var c{y}_{x} = bias;"));
        }
    }

    fn add_up(&self, code: &mut Code) {
        let step = self.step;
        let row = "u32(clamp(r, 0, i32(x_height) - 1)) * x_row";
        if !self.unrolled {
            let [rows, columns] = step.kernel;
            line!(code, "    for (var j = 0; j < {rows}; j++) {{ for (var k = 0; k < {columns}; k++) {{");
            line!(code, "        let r = iy + j * {};", step.dilation[0]);
            line!(code, "        let s = ix + k * {};", step.dilation[1]);
            line!(code, "        let inside = r >= 0 && r < i32(x_height) && s >= 0 && s < i32(x_width);");
            line!(code, "        let pixel = {row} + u32(clamp(s, 0, i32(x_width) - 1)) * x_column;");
            line!(code, "        let value = select(F(0.0), load_x(x_at + group.y * x_block + pixel), inside);");
            line!(code, "        c0_0 = fma(load_w(at + u32(j * {columns} + k)), value, c0_0);");
            line!(code, "    }} }}");
            return;
        }
        for offset in offsets(step, self.patch, 0) {
            line!(code, "    {{");
            line!(code, "        let r = iy + {offset};");
            line!(code, "        let is_row = r >= 0 && r < i32(x_height);");
            line!(code, "        let line = x_at + group.y * x_block + {row};");
            for column in offsets(step, self.patch, 1) {
                line!(code, "        let x{column} = select(F(0.0), load_x(line + o{column}), is_row && m{column});");
            }
            for y in 0..self.patch[0] {
                let Some(tap) = self.tap(0, y, offset) else { continue };
                for x in 0..self.patch[1] {
                    for k in 0..step.kernel[1] {
                        let column = x * step.stride[1] + k * step.dilation[1];
                        let weight = tap * step.kernel[1] + k;
                        line!(code, "        c{y}_{x} = fma(w{weight}, x{column}, c{y}_{x});");
                    }
                }
            }
            line!(code, "    }}");
        }
    }

    /// Which tap of pixel `n` of the patch is at `offset`, if any is.
    fn tap(&self, axis: usize, n: usize, offset: usize) -> Option<usize> {
        let distance = offset.checked_sub(n * self.step.stride[axis])?;
        let dilation = self.step.dilation[axis];
        (distance.is_multiple_of(dilation) && distance / dilation < self.step.kernel[axis]).then(|| distance / dilation)
    }

    fn store(&self, code: &mut Code) {
        let slope = if matches!(self.step.activation, Some(Activation::PRelu(_))) { "slope" } else { "F(0.0)" };
        line!(code, "    if (number < units) {{");
        for y in 0..self.patch[0] {
            for x in 0..self.patch[1] {
                let at = |name: &str| {
                    let pixel = format!("(y0 + {y}u) * {name}_row + (x0 + {x}u) * {name}_column");
                    format!("{name}_at + group.y * {name}_block + {pixel}")
                };
                let r = if self.step.residual.is_some() { format!("load_res({})", at("res")) } else { "F(0.0)".into() };
                let store = format!("store_out({}, finish(c{y}_{x}, {r}, {slope}));", at("out"));
                line!(code, "        if (y0 + {y}u < out_height && x0 + {x}u < out_width) {{ {store} }}");
            }
        }
        line!(code, "    }}");
    }
}
