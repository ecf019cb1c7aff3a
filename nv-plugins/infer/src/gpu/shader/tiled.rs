//! Dense convolutions as products of matrices, in which a workgroup puts tiles of weights and picture into memory that its
//! invocations share: what one of them loads, sixteen use.

use crate::gpu::tuning::{ConvFamily, Tuning};
use crate::gpu::weights::Packing;
use crate::plan::{Activation, Conv, Kind};

use super::{Code, Draft, Element, LANES, Program, conv, line};

/// Pixels of a workgroup, and of an invocation.
const PIXELS: usize = 64;
const PIXELS_EACH: usize = 4;
/// Invocations side by side along the pixels.
const ACROSS: usize = PIXELS / PIXELS_EACH;
/// Steps of the sum that are in the shared memory at a time, each of four input channels of one tap.
const STEPS: usize = 4;

/// Whether it is the way to compute the convolution: for few channels there is little to share.
pub(super) fn fits(step: &Conv, tuning: &Tuning) -> bool {
    tuning.family == ConvFamily::Shared && step.input.block == 4 && step.output.channels >= 8
}

pub(super) fn program(step: &Conv, mut draft: Draft<'_>) -> Program {
    let (input, output) = (&step.input, &step.output);
    // Output channels of a workgroup; an invocation has eight, or four of the smallest tile.
    let tile = if output.channels > 32 {
        64
    } else if output.channels > 16 {
        32
    } else {
        16
    };
    let each = if tile == 16 { 1 } else { 2 };
    let (quads, workgroup) = (tile / 4, ACROSS * tile / 4 / each);
    let packing = Packing::Tiles { tile, inner: 4, planar: false };
    let (steps, taps) = (Packing::steps(step, 4, false), step.kernel[0] * step.kernel[1]);
    let four = Element::Four(Kind::Float);
    draft.input("x", input.array, input.offset, four);
    draft.output("out", output.array, output.offset, four);
    if let Some((picture, _)) = &step.residual {
        draft.input("res", picture.array, picture.offset, four);
    }
    draft.weights("w", packing, packing.len(step));
    let tails = Packing::Tails { tile };
    draft.weights("tails", tails, tails.len(step));
    conv::epilogue_function(step, &mut draft);
    line!(draft.head, "var<workgroup> weights: array<vec4<f32>, {}>;", STEPS * tile);
    line!(draft.head, "var<workgroup> pixels: array<vec4<f32>, {}>;", STEPS * PIXELS);

    let mut body = Code::default();
    let count = output.width * output.height;
    let (width, [block, row, column]) = (output.width, input.strides.map(|s| s / 4));
    line!(body, "    let across = lane % {ACROSS}u;");
    line!(body, "    let down = lane / {ACROSS}u;");
    for e in 0..each {
        let bias = format!("load_tails(group.y * {}u + down * {each}u + {e}u)", Packing::tail_len(step, tile));
        (0..PIXELS_EACH).for_each(|j| line!(body, "    var c{e}_{j} = {bias};"));
    }
    line!(body, "    for (var s = 0u; s < {steps}u; s += {STEPS}u) {{");
    // Weights lie in the order in which they are shared.
    line!(body, "        for (var e = lane; e < {}u; e += {workgroup}u) {{", STEPS * tile);
    let end = packing.len(step) - 1;
    let weights = format!("load_w(min((group.y * {steps}u + s) * {tile}u + e, {end}u))");
    line!(body, "            weights[e] = select(F(0.0), {weights}, s + e / {tile}u < {steps}u);");
    line!(body, "        }}");
    line!(body, "        for (var e = lane; e < {}u; e += {workgroup}u) {{", STEPS * PIXELS);
    line!(body, "            let at = min(s + e / {PIXELS}u, {}u);", steps - 1);
    line!(body, "            let p = min(group.x * {PIXELS}u + e % {PIXELS}u, {}u);", count - 1);
    line!(body, "            let c = at / {taps}u;");
    line!(body, "            let tap = at % {taps}u;");
    let ([dy, dx], [jy, jx], [top, left]) = (step.stride, step.dilation, step.pad);
    let across = step.kernel[1];
    line!(body, "            let r = i32(p / {width}u * {dy}u + tap / {across}u * {jy}u) - {top};");
    line!(body, "            let k = i32(p % {width}u * {dx}u + tap % {across}u * {jx}u) - {left};");
    let (height, width) = (input.height, input.width);
    line!(
        body,
        "            let inside = s + e / {PIXELS}u < {steps}u && r >= 0 && r < {height} && k >= 0 && k < {width};"
    );
    line!(
        body,
        "            let at_pixel = u32(clamp(r, 0, {})) * {row}u + u32(clamp(k, 0, {})) * {column}u;",
        height - 1,
        width - 1
    );
    line!(body, "            var value = select(F(0.0), load_x(x_at + c * {block}u + at_pixel), inside);");
    if !input.channels.is_multiple_of(4) {
        for lane in &LANES[input.channels % 4..] {
            line!(body, "            value.{lane} = select(0.0, value.{lane}, c < {}u);", input.blocks() - 1);
        }
    }
    line!(body, "            pixels[e] = value;");
    line!(body, "        }}");
    line!(body, "        workgroupBarrier();");
    line!(body, "        for (var k = 0u; k < {STEPS}u; k++) {{");
    for j in 0..PIXELS_EACH {
        line!(body, "            let x{j} = pixels[k * {PIXELS}u + across + {}u];", j * ACROSS);
    }
    for (i, lane) in LANES.into_iter().enumerate() {
        for e in 0..each {
            let at = format!("k * {tile}u + {}u + down * {each}u + {e}u", i * quads);
            line!(body, "            let w{i}_{e} = weights[{at}];");
            for j in 0..PIXELS_EACH {
                line!(body, "            c{e}_{j} = fma(w{i}_{e}, F(x{j}.{lane}), c{e}_{j});");
            }
        }
    }
    line!(body, "        }}");
    line!(body, "        workgroupBarrier();");
    line!(body, "    }}");
    store(step, &mut body, each, quads);
    let groups = [count.div_ceil(PIXELS), output.channels.div_ceil(tile)];
    draft.finish("Conv", workgroup, body, groups)
}

fn store(step: &Conv, body: &mut Code, each: usize, quads: usize) {
    let output = &step.output;
    let (len, slopes) = (Packing::tail_len(step, quads * 4), Packing::slopes_at(quads * 4));
    for j in 0..PIXELS_EACH {
        line!(body, "    let p{j} = group.x * {PIXELS}u + across + {}u;", j * ACROSS);
        for e in 0..each {
            line!(body, "    {{");
            line!(body, "        let q = group.y * {quads}u + down * {each}u + {e}u;");
            line!(body, "        if (p{j} < {}u && q < {}u) {{", output.width * output.height, output.blocks());
            let at = |strides: [usize; 3]| {
                let [block, row, column] = strides.map(|s| s / 4);
                let (y, x) = (format!("p{j} / {}u", output.width), format!("p{j} % {}u", output.width));
                format!("q * {block}u + {y} * {row}u + {x} * {column}u")
            };
            let r = match &step.residual {
                Some((picture, _)) => format!("load_res(res_at + {})", at(picture.strides)),
                None => "F(0.0)".into(),
            };
            let s = match &step.activation {
                Some(Activation::PRelu(_)) => {
                    format!("load_tails(group.y * {len}u + {slopes}u + down * {each}u + {e}u)")
                }
                _ => "F(0.0)".into(),
            };
            line!(body, "            store_out(out_at + {}, finish(c{e}_{j}, {r}, {s}));", at(output.strides));
            line!(body, "        }}");
            line!(body, "    }}");
        }
    }
}
