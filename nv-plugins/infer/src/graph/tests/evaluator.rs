//! Computes a graph in the plainest way, in 64 bits: what fused nodes mean, written down once more.

use std::collections::{BTreeMap, HashMap};

use crate::graph::ir::{Graph, Node, ValueId};
use crate::graph::op::{
    Activation, AutoPad, Binary, Coordinates, Op, Reduction, Residual, ResizeMode, Rounding, Unary, Window,
};
use crate::graph::shapes::{axis_of, bounds, permutation};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

/// What the graph gives for these inputs, in their order. Panics where a result has another shape than was inferred.
pub(crate) fn evaluate(graph: &Graph, sizes: &BTreeMap<String, i64>, inputs: &[Array]) -> Vec<Array> {
    let mut values: HashMap<ValueId, Array> = HashMap::new();
    for (id, input) in graph.inputs.iter().zip(inputs) {
        values.insert(*id, input.clone());
    }
    let get = |values: &HashMap<ValueId, Array>, id: ValueId| match graph.constant(id) {
        Some(constant) => Array {
            shape: constant.shape().to_vec(),
            data: match constant.as_floats() {
                Some(floats) => floats.iter().map(|&v| f64::from(v)).collect(),
                None => constant.as_ints().expect("numbers").iter().map(|&v| v as f64).collect(),
            },
        },
        None => values.get(&id).unwrap_or_else(|| panic!("{} comes later", graph.value(id).text())).clone(),
    };
    for node in &graph.nodes {
        let arrays: Vec<Option<Array>> = node.inputs.iter().map(|id| id.map(|id| get(&values, id))).collect();
        let shapes: Vec<Vec<usize>> = node
            .outputs
            .iter()
            .map(|&id| {
                let shape = graph.shape(id).unwrap_or_else(|| panic!("{}: shape not known", graph.value(id).text()));
                shape.iter().map(|d| usize::try_from(d.at(sizes).expect("every size is given")).unwrap()).collect()
            })
            .collect();
        for (id, array) in node.outputs.iter().zip(compute(node, &arrays, &shapes)) {
            let len: usize = array.shape.iter().product();
            assert_eq!(array.data.len(), len, "{}", graph.value(*id).text());
            let at = node.outputs.iter().position(|o| o == id).unwrap();
            assert_eq!(array.shape, shapes[at], "{}", graph.value(*id).text());
            values.insert(*id, array);
        }
    }
    graph.outputs.iter().map(|(_, id)| get(&values, *id)).collect()
}

fn compute(node: &Node, inputs: &[Option<Array>], shapes: &[Vec<usize>]) -> Vec<Array> {
    let x = inputs[0].as_ref().expect("a first input");
    let input = |i: usize| inputs.get(i).and_then(Option::as_ref);
    let out = &shapes[0];
    let array = |data: Vec<f64>| vec![Array { shape: out.clone(), data }];
    match &node.op {
        Op::Conv { window, group, epilogue } => {
            let mut y = conv(x, input(1).unwrap(), input(2), window, *group as usize, out);
            let add = |y: &mut Array| {
                let other = input(3).expect("a residual");
                y.data.iter_mut().zip(&other.data).for_each(|(y, r)| *y += r);
            };
            if epilogue.residual == Some(Residual::BeforeActivation) {
                add(&mut y);
            }
            match epilogue.activation {
                Some(Activation::Unary(unary)) => y.data.iter_mut().for_each(|v| *v = apply(unary, *v)),
                Some(Activation::PRelu) => y = prelu(&y, input(4).expect("slopes")),
                None => {}
            }
            if epilogue.residual == Some(Residual::AfterActivation) {
                add(&mut y);
            }
            vec![y]
        }
        Op::MaxPool(window) => vec![pool(x, window, out, |values, _| values.iter().copied().fold(f64::MIN, f64::max))],
        Op::AveragePool { window, count_include_pad } => {
            let mean = |values: &[f64], padded: usize| {
                values.iter().sum::<f64>() / if *count_include_pad { padded } else { values.len() } as f64
            };
            vec![pool(x, window, out, mean)]
        }
        Op::GlobalAveragePool => {
            let area = x.shape[2..].iter().product::<usize>();
            array(x.data.chunks(area).map(|c| c.iter().sum::<f64>() / area as f64).collect())
        }
        Op::BatchNormalization { epsilon } => {
            let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|i| &input(i).unwrap().data);
            let norm =
                |c: usize, v: f64| (v - mean[c]) / (variance[c] + f64::from(*epsilon)).sqrt() * scale[c] + shift[c];
            array(indices(out).zip(&x.data).map(|(i, v)| norm(i[1], *v)).collect())
        }
        Op::Unary(unary) => array(x.data.iter().map(|&v| apply(*unary, v)).collect()),
        Op::PRelu => vec![prelu(x, input(1).unwrap())],
        Op::Clip => {
            let bound = |i: usize, open: f64| input(i).map_or(open, |b| b.data[0]);
            array(x.data.iter().map(|v| v.max(bound(1, f64::MIN)).min(bound(2, f64::MAX))).collect())
        }
        Op::Binary(binary) => {
            let y = input(1).unwrap();
            array(indices(out).map(|i| combine(*binary, spread(x, &i), spread(y, &i))).collect())
        }
        Op::Cast(_)
        | Op::Identity
        | Op::Dropout
        | Op::Reshape { .. }
        | Op::Flatten { .. }
        | Op::Squeeze
        | Op::Unsqueeze => array(x.data.clone()),
        Op::Expand => array(indices(out).map(|i| spread(x, &i)).collect()),
        Op::Transpose { perm } => vec![transposed(x, &permutation(perm.as_deref(), x.shape.len()).unwrap())],
        Op::IndexMap(map) => {
            // One size of the split may follow the batch: it is what is left.
            let fixed: Vec<Option<usize>> = map.split.iter().map(|d| d.as_fixed().map(|d| d as usize)).collect();
            let known: usize = fixed.iter().flatten().product();
            let split = fixed.iter().map(|d| d.unwrap_or(x.data.len() / known)).collect();
            array(transposed(&Array { shape: split, data: x.data.clone() }, &map.perm).data)
        }
        Op::Concat { axis } => {
            let axis = axis_of(*axis, out.len()).unwrap();
            let all: Vec<&Array> = inputs.iter().map(|i| i.as_ref().unwrap()).collect();
            let pick = |mut index: Vec<usize>| {
                let part = all.iter().find(|part| {
                    let inside = index[axis] < part.shape[axis];
                    index[axis] -= if inside { 0 } else { part.shape[axis] };
                    inside
                });
                at(part.unwrap(), &index)
            };
            array(indices(out).map(pick).collect())
        }
        Op::Split { axis } => {
            let axis = axis_of(*axis, x.shape.len()).unwrap();
            let mut begins = vec![0; x.shape.len()];
            let mut parts = Vec::new();
            for shape in shapes {
                parts.push(window_of(x, shape, &begins));
                begins[axis] += shape[axis];
            }
            parts
        }
        Op::Slice => {
            let ints = |i: usize| input(i).map(|a| a.data.iter().map(|&v| v as i64).collect::<Vec<_>>());
            let (starts, ends) = (ints(1).unwrap(), ints(2).unwrap());
            let axes = ints(3).unwrap_or_else(|| (0..starts.len() as i64).collect());
            let steps = ints(4).unwrap_or_else(|| vec![1; starts.len()]);
            let mut from = vec![(0, 1); x.shape.len()];
            for (i, axis) in axes.iter().enumerate() {
                let axis = axis_of(*axis, x.shape.len()).unwrap();
                from[axis] = (bounds(x.shape[axis] as i64, starts[i], ends[i], steps[i]).0, steps[i]);
            }
            let source =
                |i: Vec<usize>| i.iter().zip(&from).map(|(&i, (b, s))| (b + s * i as i64) as usize).collect::<Vec<_>>();
            array(indices(out).map(|i| at(x, &source(i))).collect())
        }
        Op::Gather { axis } => {
            let axis = axis_of(*axis, x.shape.len()).unwrap();
            let picks = input(1).unwrap();
            let rank = picks.shape.len();
            let pick = |i: Vec<usize>| {
                let pick = at(picks, &i[axis..axis + rank]) as i64;
                let pick = if pick < 0 { pick + x.shape[axis] as i64 } else { pick } as usize;
                at(x, &[&i[..axis], &[pick], &i[axis + rank..]].concat())
            };
            array(indices(out).map(pick).collect())
        }
        Op::Pad(_) => {
            let pads = &input(1).unwrap().data;
            let value = input(2).map_or(0.0, |v| v.data[0]);
            let source = |i: Vec<usize>| {
                let inside =
                    i.iter().zip(pads).zip(&x.shape).map(|((&i, p), &d)| i.checked_sub(*p as usize).filter(|i| *i < d));
                inside.collect::<Option<Vec<_>>>().map_or(value, |i| at(x, &i))
            };
            array(indices(out).map(source).collect())
        }
        Op::Softmax { axis, flat } => {
            let axis = axis_of(*axis, out.len()).unwrap();
            let group = |i: &[usize]| {
                let mut group = i.to_vec();
                if *flat {
                    group.truncate(axis)
                } else {
                    group[axis] = 0
                }
                group
            };
            let mut sums: HashMap<Vec<usize>, f64> = HashMap::new();
            indices(out).zip(&x.data).for_each(|(i, v)| *sums.entry(group(&i)).or_default() += v.exp());
            array(indices(out).zip(&x.data).map(|(i, v)| v.exp() / sums[&group(&i)]).collect())
        }
        Op::Reduce { kind, .. } => {
            let axes: Vec<usize> =
                input(1).unwrap().data.iter().map(|&a| axis_of(a as i64, x.shape.len()).unwrap()).collect();
            let mut groups: BTreeMap<Vec<usize>, Vec<f64>> = BTreeMap::new();
            for (mut i, v) in indices(&x.shape).zip(&x.data) {
                axes.iter().for_each(|&a| i[a] = 0);
                groups.entry(i).or_default().push(*v);
            }
            let reduce = |values: Vec<f64>| match kind {
                Reduction::Max => values.into_iter().fold(f64::MIN, f64::max),
                Reduction::Sum => values.iter().sum(),
                Reduction::Mean => values.iter().sum::<f64>() / values.len() as f64,
            };
            array(groups.into_values().map(reduce).collect())
        }
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            let b = input(1).unwrap();
            let inner = x.shape[usize::from(!trans_a)];
            let cell = |i: Vec<usize>| {
                let a = |k: usize| at(x, &if *trans_a { [k, i[0]] } else { [i[0], k] });
                let b = |k: usize| at(b, &if *trans_b { [i[1], k] } else { [k, i[1]] });
                let sum: f64 = (0..inner).map(|k| a(k) * b(k)).sum();
                f64::from(*alpha) * sum + input(2).map_or(0.0, |c| f64::from(*beta) * spread(c, &i))
            };
            array(indices(out).map(cell).collect())
        }
        Op::MatMul => {
            let b = input(1).unwrap();
            let [rows, columns] = [out[out.len() - 2], out[out.len() - 1]];
            let inner = x.shape[x.shape.len() - 1];
            assert!(b.shape.len() == 2 && rows * columns > 0, "as far as the tests go");
            array(
                indices(out)
                    .map(|i| {
                        let last = i.len() - 1;
                        (0..inner).map(|k| at(x, &[&i[..last], &[k]].concat()) * at(b, &[k, i[last]])).sum()
                    })
                    .collect(),
            )
        }
        Op::Resize(resize) => {
            let scale: Vec<f64> = match input(2).filter(|s| !s.data.is_empty()) {
                Some(scales) => scales.data.clone(),
                None => out.iter().zip(&x.shape).map(|(o, i)| *o as f64 / *i as f64).collect(),
            };
            let place = |axis: usize, i: usize| {
                let (i, n) = (i as f64, out[axis] as f64);
                match resize.coordinates {
                    Coordinates::Asymmetric => i / scale[axis],
                    Coordinates::HalfPixel => (i + 0.5) / scale[axis] - 0.5,
                    Coordinates::PytorchHalfPixel if out[axis] == 1 => 0.0,
                    Coordinates::PytorchHalfPixel => (i + 0.5) / scale[axis] - 0.5,
                    Coordinates::AlignCorners if out[axis] == 1 => 0.0,
                    Coordinates::AlignCorners => i * (x.shape[axis] as f64 - 1.0) / (n - 1.0),
                    other => panic!("{other:?} is further than the tests go"),
                }
            };
            let clamp = |axis: usize, i: f64| (i.max(0.0) as usize).min(x.shape[axis] - 1);
            let cell = |i: Vec<usize>| {
                let places: Vec<f64> = i.iter().enumerate().map(|(a, &i)| place(a, i)).collect();
                if resize.mode == ResizeMode::Nearest {
                    let round = |v: f64| match resize.rounding {
                        Rounding::Floor => v.floor(),
                        Rounding::Ceil => v.ceil(),
                        Rounding::PreferFloor => (v - 0.5).ceil(),
                        Rounding::PreferCeil => (v + 0.5).floor(),
                    };
                    return at(x, &places.iter().enumerate().map(|(a, &p)| clamp(a, round(p))).collect::<Vec<_>>());
                }
                (0..1usize << places.len())
                    .map(|corner| {
                        let mut weight = 1.0;
                        let index = places.iter().enumerate().map(|(a, &p)| {
                            let p = p.clamp(0.0, x.shape[a] as f64 - 1.0);
                            let upper = corner >> a & 1 == 1;
                            weight *= if upper { p.fract() } else { 1.0 - p.fract() };
                            clamp(a, p.floor() + f64::from(u8::from(upper)))
                        });
                        let index: Vec<usize> = index.collect();
                        weight * at(x, &index)
                    })
                    .sum()
            };
            array(indices(out).map(cell).collect())
        }
        other => panic!("{other:?} is further than the tests go"),
    }
}

/// Where a window begins along each spatial axis, padding taken off.
fn begins(window: &Window, kernel: &[usize], from: &[usize], out: &[usize]) -> Vec<i64> {
    let rank = kernel.len();
    let of = |values: &[i64], axis: usize, default: i64| values.get(axis).copied().unwrap_or(default);
    let total = |axis: usize| {
        let extent = (kernel[axis] as i64 - 1) * of(&window.dilations, axis, 1) + 1;
        ((out[axis] as i64 - 1) * of(&window.strides, axis, 1) + extent - from[axis] as i64).max(0)
    };
    (0..rank)
        .map(|axis| match window.auto_pad {
            AutoPad::Explicit => of(&window.pads, axis, 0),
            AutoPad::SameUpper => total(axis) / 2,
            AutoPad::SameLower => (total(axis) + 1) / 2,
            AutoPad::Valid => 0,
        })
        .collect()
}

/// The elements under a window: what is inside the picture of `from`, and the offset in the kernel.
fn under(window: &Window, kernel: &[usize], begin: &[i64], from: &[usize], place: &[usize]) -> Vec<(usize, usize)> {
    let of = |values: &[i64], axis: usize| values.get(axis).copied().unwrap_or(1);
    let mut found = Vec::new();
    for (k, offset) in indices(kernel).enumerate() {
        let inside = (0..kernel.len()).try_fold(0usize, |at, axis| {
            let i = place[axis] as i64 * of(&window.strides, axis) + offset[axis] as i64 * of(&window.dilations, axis)
                - begin[axis];
            (0..from[axis] as i64).contains(&i).then(|| at * from[axis] + i as usize)
        });
        found.extend(inside.map(|i| (i, k)));
    }
    found
}

fn conv(x: &Array, w: &Array, bias: Option<&Array>, window: &Window, group: usize, out: &[usize]) -> Array {
    let (from, kernel) = (&x.shape[2..], &w.shape[2..]);
    let (area, taps) = (from.iter().product::<usize>(), kernel.iter().product::<usize>());
    let begin = begins(window, kernel, from, &out[2..]);
    let places: Vec<_> = indices(&out[2..]).map(|place| under(window, kernel, &begin, from, &place)).collect();
    let (channels, per_group) = (w.shape[1], w.shape[0] / group);
    let mut data = Vec::with_capacity(out.iter().product());
    for n in 0..out[0] {
        for oc in 0..out[1] {
            let mut sums = vec![bias.map_or(0.0, |b| b.data[oc]); places.len()];
            for c in 0..channels {
                let plane = &x.data[(n * x.shape[1] + oc / per_group * channels + c) * area..][..area];
                let weights = &w.data[(oc * channels + c) * taps..][..taps];
                for (sum, place) in sums.iter_mut().zip(&places) {
                    *sum += place.iter().map(|&(i, k)| plane[i] * weights[k]).sum::<f64>();
                }
            }
            data.extend(sums);
        }
    }
    Array { shape: out.to_vec(), data }
}

fn pool(x: &Array, window: &Window, out: &[usize], reduce: impl Fn(&[f64], usize) -> f64) -> Array {
    let kernel: Vec<usize> = window.kernel.iter().map(|&k| k as usize).collect();
    let (from, area) = (&x.shape[2..], x.shape[2..].iter().product::<usize>());
    let begin = begins(window, &kernel, from, &out[2..]);
    let mut data = Vec::new();
    for plane in x.data.chunks(area) {
        for place in indices(&out[2..]) {
            let values: Vec<f64> =
                under(window, &kernel, &begin, from, &place).iter().map(|&(i, _)| plane[i]).collect();
            data.push(reduce(&values, kernel.iter().product()));
        }
    }
    Array { shape: out.to_vec(), data }
}

fn apply(unary: Unary, v: f64) -> f64 {
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    match unary {
        Unary::Relu => v.max(0.0),
        Unary::LeakyRelu { alpha } => {
            if v < 0.0 {
                f64::from(alpha) * v
            } else {
                v
            }
        }
        Unary::Sigmoid => sigmoid(v),
        Unary::HardSigmoid { alpha, beta } => (f64::from(alpha) * v + f64::from(beta)).clamp(0.0, 1.0),
        Unary::HardSwish => v * (v / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Silu => v * sigmoid(v),
        Unary::Clamp { least, greatest } => v.max(f64::from(least)).min(f64::from(greatest)),
        Unary::Tanh => v.tanh(),
        Unary::Exp => v.exp(),
        Unary::Sqrt => v.sqrt(),
        Unary::Neg => -v,
        Unary::Abs => v.abs(),
        other => panic!("{other:?} is further than the tests go"),
    }
}

fn combine(binary: Binary, a: f64, b: f64) -> f64 {
    match binary {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        other => panic!("{other:?} is further than the tests go"),
    }
}

fn prelu(x: &Array, slopes: &Array) -> Array {
    let each = |(i, v): (Vec<usize>, &f64)| if *v < 0.0 { spread(slopes, &i) * v } else { *v };
    Array { shape: x.shape.clone(), data: indices(&x.shape).zip(&x.data).map(each).collect() }
}

fn transposed(x: &Array, perm: &[usize]) -> Array {
    let shape: Vec<usize> = perm.iter().map(|&a| x.shape[a]).collect();
    let mut source = vec![0; perm.len()];
    let data = indices(&shape).map(|i| {
        perm.iter().zip(i).for_each(|(&a, i)| source[a] = i);
        at(x, &source)
    });
    let data = data.collect();
    Array { shape, data }
}

fn window_of(x: &Array, shape: &[usize], begins: &[usize]) -> Array {
    let source = |i: Vec<usize>| i.iter().zip(begins).map(|(i, b)| i + b).collect::<Vec<_>>();
    Array { shape: shape.to_vec(), data: indices(shape).map(|i| at(x, &source(i))).collect() }
}

fn at(x: &Array, index: &[usize]) -> f64 {
    x.data[x.shape.iter().zip(index).fold(0, |at, (d, i)| at * d + i)]
}

/// The element that an index into what `x` is broadcast to means.
fn spread(x: &Array, index: &[usize]) -> f64 {
    let skip = index.len() - x.shape.len();
    x.data[x.shape.iter().zip(&index[skip..]).fold(0, |at, (&d, &i)| at * d + if d == 1 { 0 } else { i })]
}

/// Every index into a tensor of this shape, in row-major order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<'_> {
    (0..shape.iter().product::<usize>()).map(|mut flat| {
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = flat % shape[axis];
            flat /= shape[axis];
        }
        index
    })
}
