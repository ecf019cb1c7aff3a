#![allow(clippy::all, missing_docs, clippy::print_stdout)]
//! TEMPORARY
use super::testing::*;
use super::tests::*;
use super::*;
use crate::graph::tests::models::load;
use crate::plan::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn cpu() -> f64 {
    let mut total = 0u64;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        if let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) {
            total += text.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    total as f64 * 1e-6
}

#[test]
fn bench_model() {
    let file = std::env::var("MODEL").unwrap_or("yolox_nano_coco_416.onnx".into());
    let (t, c0) = (Instant::now(), cpu());
    let context = context("bench").unwrap();
    println!("context {:.0} ms cpu {:.0}", t.elapsed().as_secs_f64() * 1e3, cpu() - c0);
    let model = load("x", &file).unwrap();
    let c0 = cpu();
    let plan = plan(&model, &context, 1);
    println!("plan cpu {:.0}", cpu() - c0);
    let (t, c1) = (Instant::now(), cpu());
    let mut e = Executor::new(
        context.clone(),
        plan.clone(),
        &Weights::default(),
        ExecutorOptions { limit: Duration::from_secs(600), ..Default::default() },
    )
    .unwrap();
    println!(
        "new: {:.0} ms cpu {:.0}; {} kernels of {} steps",
        t.elapsed().as_secs_f64() * 1e3,
        cpu() - c1,
        context.kernels().len(),
        plan.steps.len()
    );
    if std::env::var("COLD").is_ok() {
        let mut rows = Vec::new();
        for i in 0..plan.steps.len() {
            let c = cpu();
            e.only(i);
            rows.push((cpu() - c, describe(&plan.steps[i].action), e.text(i)));
        }
        println!("cold total {:.0}", rows.iter().map(|r| r.0).sum::<f64>());
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        for r in rows.iter().take(45) {
            println!("{:7.0} ms {} {}", r.0, r.2, r.1);
        }
    }
    let (t, c1) = (Instant::now(), cpu());
    e.warm_up().unwrap();
    println!("warm_up: {:.0} ms cpu {:.0}", t.elapsed().as_secs_f64() * 1e3, cpu() - c1);
    let inputs = inputs(&plan, 1);
    let s = slices(&inputs);
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..10 {
        let (t, c) = (Instant::now(), cpu());
        let _ = run(&mut e, &plan, 1, &s);
        best = (best.0.min(t.elapsed().as_secs_f64() * 1e3), best.1.min(cpu() - c));
    }
    println!("RUN {file}: wall {:.1} cpu {:.1}", best.0, best.1);
    if std::env::var("PROFILE").is_ok() {
        let mut rows = Vec::new();
        for i in 0..plan.steps.len() {
            let mut m = f64::MAX;
            for _ in 0..5 {
                let c = cpu();
                e.only(i);
                m = m.min((cpu() - c) / super::executor::REP as f64);
            }
            let text = describe(&plan.steps[i].action);
            rows.push((m, text));
        }
        let mut kinds = std::collections::BTreeMap::<String, (usize, f64)>::new();
        for (m, text) in &rows {
            let k = kinds.entry(text.split(' ').next().unwrap().to_owned()).or_default();
            k.0 += 1;
            k.1 += m;
        }
        println!("{kinds:?}");
        let mut merged = std::collections::BTreeMap::<String, (usize, f64)>::new();
        for (m, t) in rows {
            let k = merged.entry(t).or_default();
            k.0 += 1;
            k.1 += m;
        }
        let mut rows: Vec<_> = merged.into_iter().collect();
        rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (text, (n, m)) in rows.iter().take(50) {
            println!("{m:7.3} ms {n}x {text}");
        }
    }
}

pub(crate) fn describe(a: &Action) -> String {
    match a {
        Action::Conv(c) => {
            let macs = c.output.channels
                * c.output.height
                * c.output.width
                * c.kernel[0]
                * c.kernel[1]
                * if c.depthwise { 1 } else { c.input.channels };
            format!(
                "{} {}b{} {}x{} -> {} {}x{} k{:?} s{:?} res {} act {:?} {:.1} MMAC",
                if c.depthwise {
                    "dw"
                } else if c.kernel == [1, 1] {
                    "conv1x1"
                } else {
                    "convkxk"
                },
                c.input.channels,
                c.input.block,
                c.input.height,
                c.input.width,
                c.output.channels,
                c.output.height,
                c.output.width,
                c.kernel,
                c.stride,
                c.residual.is_some(),
                c.activation.as_ref().map(|a| format!("{a:?}").chars().take(14).collect::<String>()),
                macs as f64 / 1e6
            )
        }
        Action::Map(m) => format!(
            "map {:?} {:?} {:?} -> {:?}",
            m.function,
            m.dims,
            m.inputs.iter().map(|v| v.strides.clone()).collect::<Vec<_>>(),
            m.output.strides
        ),
        Action::Pool(p) => format!(
            "pool {:?} {}x{}x{} window {}x{}",
            p.kind,
            p.output.channels,
            p.output.height,
            p.output.width,
            p.rows[p.rows.len() / 2].count,
            p.columns[p.columns.len() / 2].count
        ),
        Action::Resample(r) => format!("resample {:?}", r.dims),
        Action::Reduce(r) => format!("reduce {:?} {:?}", r.kept, r.reduced),
        Action::Shuffle(s) => {
            format!("shuffle {} {}x{} of {}", s.output.channels, s.output.height, s.output.width, s.inputs.len())
        }
        Action::MatMul(m) => format!("matmul {}x{}x{}", m.rows, m.depth, m.columns),
        Action::Softmax(m) => format!("softmax {:?}", m.dims),
        other => format!("{other:?}").chars().take(20).collect(),
    }
}

#[test]
fn bench_maps() {
    use crate::cpu::tests::numbers;
    let context = context("bench").unwrap();
    for (name, function, len) in [
        ("nothing", Function::Copy, 16usize),
        ("copy", Function::Copy, 64 * 52 * 52),
        ("silu", Function::Unary(crate::graph::op::Unary::Silu), 64 * 52 * 52),
        ("exp", Function::Unary(crate::graph::op::Unary::Exp), 64 * 52 * 52),
        ("relu", Function::Unary(crate::graph::op::Unary::Relu), 64 * 52 * 52),
        ("sigm", Function::Unary(crate::graph::op::Unary::Sigmoid), 64 * 52 * 52),
    ] {
        let arrays = [Values::Floats(numbers(3, len).into()), Values::Floats(vec![0.0; len].into())];
        let map = Map {
            function,
            dims: vec![len],
            inputs: vec![View::whole(ArrayId(0), &[len])],
            output: View::whole(ArrayId(1), &[len]),
        };
        let plan = Arc::new(single(Action::Map(map), &arrays));
        let mut e = Executor::new(context.clone(), plan.clone(), &Weights::default(), Default::default()).unwrap();
        let mut m = f64::MAX;
        for _ in 0..30 {
            let c = cpu();
            e.only(0);
            m = m.min((cpu() - c) / super::executor::REP as f64);
        }
        println!("MAP {name}: {m:.3}");
    }
}

#[test]
fn bench_convs() {
    use crate::cpu::tests::numbers;
    let context = context("bench").unwrap();
    let side: usize = std::env::var("SIDE").ok().and_then(|s| s.parse().ok()).unwrap_or(52);
    for (name, k, depthwise, ci, co) in [
        ("1x1", 1usize, false, 64usize, 64usize),
        ("3x3", 3, false, 64, 64),
        ("dw3x3", 3, true, 64, 64),
        ("dw5x5", 5, true, 64, 64),
        ("1x1 32>32", 1, false, 32, 32),
        ("1x1 16>16", 1, false, 16, 16),
    ] {
        let len = ci.max(co) * side * side;
        let conv = Conv {
            key: 0,
            input: Picture::blocked(ArrayId(0), 0, [ci, side, side], 4),
            weights: numbers(1, if depthwise { ci * k * k } else { ci * co * k * k }).into(),
            bias: Some(numbers(2, co).into()),
            depthwise,
            kernel: [k, k],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [k / 2, k / 2],
            activation: None,
            residual: None,
            output: Picture::blocked(ArrayId(1), 0, [co, side, side], 4),
        };
        let macs = (co * side * side * k * k * if depthwise { 1 } else { ci }) as f64;
        let arrays = [Values::Floats(numbers(3, len).into()), Values::Floats(vec![0.0; len].into())];
        let plan = Arc::new(single(Action::Conv(Box::new(conv)), &arrays));
        let c = cpu();
        let mut e = Executor::new(
            context.clone(),
            plan.clone(),
            &Weights::default(),
            ExecutorOptions { limit: Duration::from_secs(600), ..Default::default() },
        )
        .unwrap();
        e.only(0);
        let cold = cpu() - c;
        let mut m = f64::MAX;
        for _ in 0..30 {
            let c = cpu();
            e.only(0);
            m = m.min((cpu() - c) / super::executor::REP as f64);
        }
        println!("CONV {name}: {m:.3} cpu-ms {:.1} GF/s, first {cold:.0}", 2.0 * macs / m / 1e6);
    }
}
