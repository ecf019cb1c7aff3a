//! Whole plans, made by hand.

use std::sync::Arc;

use super::numbers;
use crate::ElementType;
use crate::cpu::{Executor, Packed, Pool, RunError, SimdLevel};
use crate::graph::op::Unary;
use crate::plan::{
    Action, Activation, Array, ArrayId, Conv, Function, Gather, Kind, Map, MemoryPlan, Picture, Plan, Port, Slot, Step,
    Values, View,
};

/// Collects a plan, and from which step to which its arrays live.
#[derive(Default)]
struct Builder {
    arrays: Vec<Array>,
    lives: Vec<(usize, usize)>,
    steps: Vec<Step>,
}

impl Builder {
    fn array(&mut self, kind: Kind, len: usize, first: usize, last: usize) -> ArrayId {
        self.arrays.push(Array { name: format!("a{}", self.arrays.len()), kind, len, constant: None });
        self.lives.push((first, last));
        ArrayId(self.arrays.len() as u32 - 1)
    }

    fn constant(&mut self, values: &[i32]) -> ArrayId {
        let id = self.array(Kind::Int, values.len(), 0, 0);
        self.arrays[id.index()].constant = Some(Values::Ints(values.into()));
        id
    }

    fn step(&mut self, action: Action) {
        self.steps.push(Step { node: format!("node \"n{}\"", self.steps.len()), action });
    }

    fn finish(self, block: usize, inputs: Vec<Port>, outputs: Vec<Port>) -> Plan {
        let alive = self.arrays.iter().zip(&self.lives).enumerate().filter(|(_, (array, _))| array.constant.is_none());
        let slots = alive.map(|(i, (array, &(first, last)))| {
            Slot::new(ArrayId(i as u32), array.kind, array.len, first, last).expect("small")
        });
        let memory = MemoryPlan::pack(slots.collect(), usize::MAX).expect("there is no limit");
        Plan { block, arrays: self.arrays, steps: self.steps, inputs, outputs, memory }
    }
}

fn port(array: ArrayId, dims: &[usize], element: ElementType) -> Port {
    Port { name: format!("p{}", array.0), array, dims: dims.to_vec(), element, rows: None }
}

/// A picture of 3 × 9 × 7 through two convolutions and back, and a gather of whole numbers that comes along.
fn network(block: usize) -> Plan {
    let mut b = Builder::default();
    let (c, h, w) = (3, 9, 7);
    let size = |channels: usize| channels.div_ceil(block) * block * h * w;
    let input = b.array(Kind::Float, c * h * w, 0, 1);
    let picks = b.array(Kind::Int, 2, 0, 4);
    let first = b.array(Kind::Float, size(20), 1, 2);
    let second = b.array(Kind::Float, size(5), 2, 3);
    let output = b.array(Kind::Float, 5 * h * w, 3, 5);
    let picked = b.array(Kind::Int, 2, 4, 5);
    let table = b.constant(&[10, 20, 30]);
    let planar = Picture { block: 1, ..Picture::blocked(input, 0, [c, h, w], 1) };
    let conv = |key, input: Picture, output: Picture| {
        Action::Conv(Box::new(Conv {
            key,
            weights: numbers(key, input.channels * output.channels * 9).into(),
            bias: None,
            depthwise: false,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [1, 1],
            activation: Some(Activation::Unary(Unary::Silu)),
            residual: None,
            input,
            output,
        }))
    };
    let hidden = Picture::blocked(first, 0, [20, h, w], block);
    let last = Picture::blocked(second, 0, [5, h, w], block);
    b.step(conv(1, planar, hidden.clone()));
    b.step(conv(2, hidden, last.clone()));
    assert!(block > 4, "five channels are in one block");
    let [_, row, column] = last.strides.map(|s| s as isize);
    b.step(Action::Map(Map {
        function: Function::Copy,
        dims: vec![5, h, w],
        inputs: vec![View { array: second, offset: 0, strides: vec![1, row, column] }],
        output: View::whole(output, &[5, h, w]),
    }));
    b.step(Action::Gather(Gather {
        outer: vec![],
        picked: vec![2],
        inner: vec![],
        len: 3,
        data: View::whole(table, &[3]),
        indices: View::whole(picks, &[2]),
        output: View::whole(picked, &[2]),
    }));
    let inputs = vec![
        port(input, &[1, c, h, w], ElementType::Float),
        Port { element: ElementType::Int64, ..port(picks, &[2], ElementType::Int64) },
    ];
    let outputs = vec![port(output, &[1, 5, h, w], ElementType::Float), port(picked, &[2], ElementType::Int64)];
    b.finish(block, inputs, outputs)
}

fn executor(plan: &Plan, threads: usize, level: SimdLevel) -> Executor {
    let pool = Arc::new(Pool::new(threads));
    Executor::new(Arc::new(plan.clone()), &Packed::default(), pool, level).expect("a sound plan")
}

fn outputs(executor: &mut Executor, picture: &[f32], picks: &[f32]) -> Result<[Vec<f32>; 2], RunError> {
    let mut outputs = [Vec::new(), Vec::new()];
    executor.run(&[picture, picks], &mut outputs)?;
    Ok(outputs)
}

#[test]
fn a_run_depends_on_its_inputs_alone() {
    for level in SimdLevel::available() {
        let plan = network(level.block().max(8));
        let (a, b) = (numbers(1, 189), numbers(2, 189));
        let mut plain = executor(&plan, 1, level);
        let first = outputs(&mut plain, &a, &[2.4, -3.0]).unwrap();
        assert_eq!(first[1], [30.0, 10.0]);
        assert_ne!(outputs(&mut plain, &b, &[0.0, 0.0]).unwrap()[0], first[0]);
        assert_eq!(outputs(&mut plain, &a, &[2.0, 0.0]).unwrap(), first, "{level}");
        for threads in [1, 2, 3] {
            let mut poisoned = executor(&plan, threads, level).poisoned();
            assert_eq!(outputs(&mut poisoned, &a, &[2.0, 0.0]).unwrap(), first, "{level}, {threads} threads");
        }
    }
}

#[test]
fn a_failing_step_is_named() {
    let mut executor = executor(&network(8), 1, SimdLevel::Scalar);
    let error = outputs(&mut executor, &numbers(1, 189), &[3.0, 0.0]).unwrap_err();
    assert_eq!(error.to_string(), "node \"n3\": the index 3 is out of range: there are 3 elements");
    let error = outputs(&mut executor, &[1.0], &[0.0, 0.0]).unwrap_err();
    assert_eq!(error.to_string(), "the inputs are not those of the plan");
}

#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    let check = |change: &dyn Fn(&mut Plan), expected: &str| {
        let mut plan = network(8);
        change(&mut plan);
        let made = Executor::new(Arc::new(plan), &Packed::default(), Arc::new(Pool::new(1)), SimdLevel::Scalar);
        let error = made.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|plan| plan.arrays[2].len -= 1, "is not inside of the 1511 elements of \"a2\"");
    check(&|plan| plan.arrays[2].kind = Kind::Int, "\"a2\" holds Int");
    check(&|plan| plan.arrays[4].constant = Some(Values::Floats([0.0; 315].into())), "the constant \"a4\" is written");
    let itself = |plan: &mut Plan| match &mut plan.steps[2].action {
        Action::Map(map) => map.output = map.inputs[0].clone(),
        other => panic!("{other:?}"),
    };
    check(&itself, "while it uses");
}

#[test]
fn only_the_rows_that_are_there_are_read() {
    let mut b = Builder::default();
    let x = b.array(Kind::Float, 6, 0, 2);
    let n = b.array(Kind::Int, 1, 0, 2);
    let step = Function::Unary(Unary::Neg);
    let y = b.array(Kind::Float, 6, 1, 2);
    let whole = |id| View::whole(id, &[6]);
    b.step(Action::Map(Map { function: step, dims: vec![6], inputs: vec![whole(x)], output: whole(y) }));
    let inputs = vec![port(x, &[3, 2], ElementType::Float), port(n, &[1], ElementType::Int64)];
    let outputs = vec![Port { rows: Some(n), ..port(y, &[3, 2], ElementType::Float) }];
    let mut executor = executor(&b.finish(8, inputs, outputs), 1, SimdLevel::Scalar);
    let mut read = [vec![0.5]];
    executor.run(&[&[1., 2., 3., 4., 5., 6.], &[2.0]], &mut read).unwrap();
    assert_eq!(read[0], [0.5, -1., -2., -3., -4.]);
}
