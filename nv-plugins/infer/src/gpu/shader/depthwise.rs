//! Depthwise convolutions. An invocation has a patch of pixels of four channels: windows overlap, and what neighbours share is
//! read once.

use std::collections::BTreeSet;

use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::gpu::weights::Packing;
use crate::plan::{Activation, Conv, Kind, Picture};

use super::{Code, Draft, Element, Program, conv, line};

/// The most multiply-adds of fours in a kernel.
const MAX_BODY: usize = 320;

pub(super) fn program(step: &Conv, mut draft: Draft<'_>) -> Program {
    let patch = patch(step, draft.tuning);
    let (input, output) = (&step.input, &step.output);
    let four = Element::Four(Kind::Float);
    draft.array("x", input.array, input.offset, four);
    draft.array("out", output.array, output.offset, four);
    if let Some((picture, _)) = &step.residual {
        draft.array("res", picture.array, picture.offset, four);
    }
    draft.weights(Packing::Depthwise, Packing::Depthwise.len(step));
    conv::epilogue_function(step, &mut draft);

    let workgroup = draft.tuning.workgroup;
    let tiles = [output.height.div_ceil(patch[0]), output.width.div_ceil(patch[1])];
    let units = tiles[0] * tiles[1];
    let mut body = Code::default();
    line!(body, "    let number = group.x * {workgroup}u + lane;");
    line!(body, "    let unit = min(number, {}u);", units - 1);
    line!(body, "    let y0 = unit / {}u * {}u;", tiles[1], patch[0]);
    line!(body, "    let x0 = unit % {}u * {}u;", tiles[1], patch[1]);
    line!(body, "    let iy = i32(y0 * {}u) - {};", step.stride[0], step.pad[0]);
    line!(body, "    let ix = i32(x0 * {}u) - {};", step.stride[1], step.pad[1]);
    let writer = Writer { step, patch, unrolled: is_unrolled(step) };
    let broadcast = draft.tuning.family == ConvFamily::Broadcast;
    writer.weights(&mut body, broadcast);
    writer.columns(&mut body);
    writer.add_up(&mut body);
    writer.store(&mut body, units);
    draft.finish("Conv", workgroup, body, [units.div_ceil(workgroup), output.blocks()])
}

/// Whether all taps are written out. A window that is too large for that is looped over.
fn is_unrolled(step: &Conv) -> bool {
    step.kernel[0] * step.kernel[1] <= 49
}

/// Rows and columns of an invocation.
fn patch(step: &Conv, tuning: &Tuning) -> [usize; 2] {
    let taps = step.kernel[0] * step.kernel[1];
    if !is_unrolled(step) {
        return [1, 1];
    }
    let wanted = if tuning.max_sums >= 64 { [4, 4] } else { [4, 1] };
    let mut patch = [wanted[0].min(step.output.height), wanted[1].min(step.output.width)];
    while patch[0] * patch[1] * taps > MAX_BODY && patch != [1, 1] {
        let longer = usize::from(patch[1] > patch[0]);
        patch[longer] = patch[longer].div_ceil(2);
    }
    patch
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
                line!(code, "    let v{load} = w[at + {}u + (subgroup_lane & 7u)];", load * 8);
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
                line!(code, "    let {name} = w[at + {n}u];");
            }
        }
    }

    /// Distances of what is read from the first pixel's first tap along an axis.
    fn offsets(&self, axis: usize) -> BTreeSet<usize> {
        let (stride, dilation, taps) = (self.step.stride[axis], self.step.dilation[axis], self.step.kernel[axis]);
        (0..self.patch[axis]).flat_map(|j| (0..taps).map(move |k| j * stride + k * dilation)).collect()
    }

    fn columns(&self, code: &mut Code) {
        let (width, column) = (self.step.input.width, self.step.input.strides[2] / 4);
        if self.unrolled {
            for offset in self.offsets(1) {
                line!(code, "    let o{offset} = u32(clamp(ix + {offset}, 0, {})) * {column}u;", width - 1);
                line!(code, "    let m{offset} = ix + {offset} >= 0 && ix + {offset} < {width};");
            }
        }
        for y in 0..self.patch[0] {
            (0..self.patch[1]).for_each(|x| line!(code, "    var c{y}_{x} = bias;"));
        }
    }

    fn add_up(&self, code: &mut Code) {
        let (step, input) = (self.step, &self.step.input);
        let (height, width) = (input.height, input.width);
        let [block, row, column] = input.strides.map(|s| s / 4);
        if !self.unrolled {
            let [rows, columns] = step.kernel;
            line!(code, "    for (var j = 0; j < {rows}; j++) {{ for (var k = 0; k < {columns}; k++) {{");
            line!(code, "        let r = iy + j * {};", step.dilation[0]);
            line!(code, "        let s = ix + k * {};", step.dilation[1]);
            line!(code, "        let inside = r >= 0 && r < {height} && s >= 0 && s < {width};");
            line!(
                code,
                "        let from_pixel = u32(clamp(r, 0, {})) * {row}u + u32(clamp(s, 0, {})) * {column}u;",
                height - 1,
                width - 1
            );
            line!(code, "        let value = select(F(0.0), x[x_at + group.y * {block}u + from_pixel], inside);");
            line!(code, "        c0_0 = fma(w[at + u32(j * {columns} + k)], value, c0_0);");
            line!(code, "    }} }}");
            return;
        }
        for offset in self.offsets(0) {
            line!(code, "    {{");
            line!(code, "        let r = iy + {offset};");
            line!(code, "        let is_row = r >= 0 && r < {height};");
            let line_at = format!("x_at + group.y * {block}u + u32(clamp(r, 0, {})) * {row}u", height - 1);
            line!(code, "        let line = {line_at};");
            for column in self.offsets(1) {
                line!(code, "        let x{column} = select(F(0.0), x[line + o{column}], is_row && m{column});");
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

    fn store(&self, code: &mut Code, units: usize) {
        let output = &self.step.output;
        let slope = if matches!(self.step.activation, Some(Activation::PRelu(_))) { "slope" } else { "F(0.0)" };
        line!(code, "    if (number < {units}u) {{");
        for y in 0..self.patch[0] {
            for x in 0..self.patch[1] {
                let axes = [("y0", y, output.height, self.patch[0]), ("x0", x, output.width, self.patch[1])];
                let conditions: Vec<String> = axes
                    .into_iter()
                    .filter(|(_, n, size, patch)| *n > 0 && !size.is_multiple_of(*patch))
                    .map(|(name, n, size, _)| format!("{name} + {n}u < {size}u"))
                    .collect();
                let at = |picture: &Picture, name: &str| {
                    let [block, row, column] = picture.strides.map(|s| s / 4);
                    format!("{name}_at + group.y * {block}u + (y0 + {y}u) * {row}u + (x0 + {x}u) * {column}u")
                };
                let r = match &self.step.residual {
                    Some((picture, _)) => format!("res[{}]", at(picture, "res")),
                    None => "F(0.0)".into(),
                };
                let store = format!("out[{}] = finish(c{y}_{x}, {r}, {slope});", at(output, "out"));
                if conditions.is_empty() {
                    line!(code, "        {store}");
                } else {
                    line!(code, "        if ({}) {{ {store} }}", conditions.join(" && "));
                }
            }
        }
        line!(code, "    }}");
    }
}
