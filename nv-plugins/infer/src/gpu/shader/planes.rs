//! Depthwise convolutions of planes, for what comes in as planes and goes out as such: channels are not put side by side in
//! between. An invocation goes along some rows of a channel, four pixels at a time, and keeps those before and after them, so that
//! it reads nothing twice.

use crate::gpu::tuning::Tuning;
use crate::gpu::weights::Packing;
use crate::plan::{Activation, Conv, Kind};

use super::{Code, Draft, Element, LANES, Program, conv, coordinates, line};

/// The most multiply-adds of fours in a kernel.
const MAX_BODY: usize = 200;

/// Which four columns an invocation has at hand of a row, from the left.
const AT_HAND: [&str; 3] = ["before", "here", "after"];

/// Of a convolution that [fits](Conv::fits_planes).
pub(super) fn program(step: &Conv, mut draft: Draft<'_>) -> Program {
    let (input, output) = (&step.input, &step.output);
    let four = Element::Four(Kind::Float);
    draft.input("x", input.array, input.offset, four);
    draft.output("out", output.array, output.offset, four);
    draft.weights("w", Packing::Planes, Packing::Planes.len(step));
    conv::epilogue_function(step, &mut draft);

    let [rows, strips, stretches] = cut(step, draft.tuning);
    let stretch = draft.tuning.stretch;
    let writer = Writer { step, rows };
    let mut body = Code::default();
    coordinates(&mut body, "i", "d", &[output.channels, strips, stretches]);
    let len = Packing::plane_len(step);
    (0..len).for_each(|n| line!(body, "    let w{n} = load_w(d0 * {len}u + {n}u);"));
    line!(body, "    let begin = d2 * {stretch}u;");
    line!(body, "    let end = min(begin + {stretch}u, {}u);", output.width / 4);
    writer.rows(&mut body);
    line!(body, "    for (var b = begin; b < end; b++) {{");
    writer.add_up(&mut body);
    line!(body, "    }}");
    draft.finish_each("Conv", output.channels * strips * stretches, &body)
}

/// Rows of an invocation, those with which least is read and written; how many strips of them there are, and how many
/// stretches of one.
fn cut(step: &Conv, tuning: &Tuning) -> [usize; 3] {
    let stretches = (step.output.width / 4).div_ceil(tuning.stretch);
    let cost = |rows: &usize| {
        let strips = step.output.height.div_ceil(*rows);
        // To write takes as long as to read, and to keep a row's columns a quarter of it.
        let each = (rows + step.kernel[0] - 1) * 5 + rows * 4;
        let units = step.output.channels * strips * stretches;
        each * units.next_multiple_of(tuning.workgroup_for(units))
    };
    let fits = |rows: &usize| rows * step.kernel[0] * step.kernel[1] <= MAX_BODY;
    let rows = [1, 2, 4, 8].into_iter().filter(fits).min_by_key(cost).unwrap_or(1);
    [rows, step.output.height.div_ceil(rows), stretches]
}

struct Writer<'a> {
    step: &'a Conv,
    /// Of the output.
    rows: usize,
}

impl Writer<'_> {
    /// Rows of the input.
    fn sources(&self) -> std::ops::Range<usize> {
        0..self.rows + self.step.kernel[0] - 1
    }

    /// Declares of each row of the input where it is, whether it is there, and its first columns.
    fn rows(&self, code: &mut Code) {
        let (input, [block, row, _]) = (&self.step.input, self.step.input.strides.map(|s| s / 4));
        let (last, fours) = (input.height - 1, input.width / 4);
        for r in self.sources() {
            line!(code, "    let y{r} = i32(d1 * {}u) + {};", self.rows, r as isize - self.step.pad[0] as isize);
            line!(code, "    let is{r} = y{r} >= 0 && y{r} <= {last};");
            line!(code, "    let line{r} = x_at + d0 * {block}u + u32(clamp(y{r}, 0, {last})) * {row}u;");
            let at = |index: &str, there: &str| {
                format!("select(F(0.0), load_x(line{r} + min({index}, {}u)), is{r} && {there})", fours - 1)
            };
            line!(
                code,
                "    var before{r} = {};",
                at("max(begin, 1u) - 1u", &format!("begin > 0u && begin <= {fours}u"))
            );
            line!(code, "    var here{r} = {};", at("begin", &format!("begin < {fours}u")));
        }
    }

    /// Four columns of each row.
    fn add_up(&self, code: &mut Code) {
        let (step, [block, row, _]) = (self.step, self.step.output.strides.map(|s| s / 4));
        let fours = step.input.width / 4;
        for r in self.sources() {
            let value = format!("load_x(line{r} + min(b + 1u, {}u))", fours - 1);
            line!(code, "        let after{r} = select(F(0.0), {value}, is{r} && b + 1u < {fours}u);");
        }
        let [rows, columns] = step.kernel;
        let taps = rows * columns;
        let slope = match &step.activation {
            Some(Activation::PRelu(_)) => splat(taps + 1),
            _ => "F(0.0)".into(),
        };
        for y in 0..self.rows {
            line!(code, "        var c{y} = {};", splat(taps));
            for t in 0..taps {
                let (r, shift) = (y + t / columns, t % columns + 4 - step.pad[1]);
                line!(code, "        c{y} = fma({}, {}, c{y});", splat(t), shifted(r, shift));
            }
            let to = format!("out_at + d0 * {block}u + (d1 * {}u + {y}u) * {row}u + b", self.rows);
            let store = format!("store_out({to}, finish(c{y}, F(0.0), {slope}));");
            if step.output.height.is_multiple_of(self.rows) {
                line!(code, "        {store}");
            } else {
                line!(code, "        if (d1 * {}u + {y}u < {}u) {{ {store} }}", self.rows, step.output.height);
            }
        }
        for r in self.sources() {
            line!(code, "        before{r} = here{r};");
            line!(code, "        here{r} = after{r};");
        }
    }
}

/// A number of the channel's, four times.
fn splat(n: usize) -> String {
    format!("F(w{}.{})", n / 4, LANES[n % 4])
}

/// Four columns of row `r`, from column `first` of those at hand on.
fn shifted(r: usize, first: usize) -> String {
    if first.is_multiple_of(4) {
        return format!("{}{r}", AT_HAND[first / 4]);
    }
    let column = |n: usize| format!("{}{r}.{}", AT_HAND[n / 4], LANES[n % 4]);
    let columns: Vec<_> = (first..first + 4).map(column).collect();
    format!("F({})", columns.join(", "))
}
