//! ONNX's own backend node tests (`onnx/backend/test/data/node` in the Python package), for the operators and types that our
//! executors must have.

mod bake;
mod case;
mod values;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use nv_core::Tensor;
use nv_infer::{Batching, Model};

use crate::engines::{Subject, engines};
use crate::{announce, data};
use case::{Case, DataSet};
use values::Values;

/// Cases that are of our operators and types and are not run, by a part of their name.
const SKIPPED: &[(&str, &str)] = &[
    ("pool_3d", "windows over volumes: ours are over lines and pictures"),
    ("convtranspose_3d", "windows over volumes: ours are over lines and pictures"),
    ("maxpool_with_argmax", "the places of the greatest values serve to undo a pool, which is not among ours"),
    ("test_training_dropout", "training: what is dropped is random"),
    ("_training_mode", "training: the statistics of the batch itself"),
];

/// How many cases our operators and types select, at least: with fewer the data, or the rule, is not what it was.
const SELECTED: usize = 500;
/// How many cases one of our executors gets right, at least.
const RIGHT: usize = 470;
/// How many of them rten gets right, at least. What it lacks: default strides of pools and ConvTranspose, dilated pools,
/// arithmetic on 8-bit integers, SpaceToDepth, Dropout, several modes of Resize.
const RIGHT_ON_RTEN: usize = 385;

#[test]
fn every_engine_gives_what_the_reference_gives() {
    let test = "every_engine_gives_what_the_reference_gives";
    let Some(folder) = data::folder("NV_ONNX_NODE_TESTS", test) else { return };
    let cases = cases(&folder);
    assert!(cases.len() >= SELECTED, "{} cases are of our operators, {SELECTED} are the least", cases.len());
    for subject in engines(test) {
        let tally = Tally::of(&cases, subject);
        announce(&tally.text(subject));
        // What rten can't do is said, and is no failure of ours.
        assert!(tally.failed.is_empty() || !subject.is_ours(), "{} of the cases fail", tally.failed.len());
        let least = if subject.is_ours() { RIGHT } else { RIGHT_ON_RTEN };
        assert!(tally.right >= least, "{} cases were right, {least} are the least", tally.right);
    }
}

fn cases(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    folders.sort();
    folders.iter().filter_map(|folder| Case::read(folder)).collect()
}

/// How the cases went on one engine.
#[derive(Default)]
struct Tally {
    right: usize,
    /// Those of `right` that have the operator.
    by_operator: BTreeMap<String, usize>,
    /// With the reason.
    skipped: Vec<(String, &'static str)>,
    /// With what is wrong.
    failed: Vec<(String, String)>,
}

impl Tally {
    fn of(cases: &[Case], subject: Subject) -> Self {
        let mut tally = Self::default();
        for case in cases {
            if let Some((_, reason)) = SKIPPED.iter().find(|(part, _)| case.name.contains(part)) {
                tally.skipped.push((case.name.clone(), reason));
                continue;
            }
            match case.sets.iter().try_for_each(|set| guarded(|| run(case, set, subject))) {
                Ok(()) => {
                    tally.right += 1;
                    for operator in &case.operators {
                        *tally.by_operator.entry(operator.clone()).or_default() += 1;
                    }
                }
                Err(Reason::Skip(reason)) => tally.skipped.push((case.name.clone(), reason)),
                Err(Reason::Fail(what)) => tally.failed.push((case.name.clone(), what)),
            }
        }
        tally
    }

    fn text(&self, subject: Subject) -> String {
        let operators: Vec<_> = self.by_operator.iter().map(|(operator, n)| format!("{operator} {n}")).collect();
        let mut text = format!(
            "node tests on {}: {} right, {} wrong, {} skipped\nby operator: {}\n",
            subject.device,
            self.right,
            self.failed.len(),
            self.skipped.len(),
            operators.join(", ")
        );
        self.skipped.iter().for_each(|(name, reason)| text += &format!("left out: {name}: {reason}\n"));
        self.failed.iter().for_each(|(name, what)| text += &format!("wrong: {name}: {what}\n"));
        text
    }
}

/// Why a case is not right.
enum Reason {
    Skip(&'static str),
    Fail(String),
}

impl From<String> for Reason {
    fn from(what: String) -> Self {
        Self::Fail(what)
    }
}

/// One case that panics must not hide the others.
fn guarded(run: impl FnOnce() -> Result<(), Reason>) -> Result<(), Reason> {
    panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(Reason::Fail("it panicked; the message is above".into())))
}

fn run(case: &Case, set: &DataSet, subject: Subject) -> Result<(), Reason> {
    let mut proto = case.model();
    let inputs: Option<Vec<Tensor>> = bake::bake(&mut proto, &set.inputs)
        .into_iter()
        .map(|input| Ok(Values::read(input)?.tensor()))
        .collect::<Result<_, String>>()?;
    let inputs = inputs.ok_or(Reason::Skip("an integer that f32, in which sessions take inputs, does not have"))?;
    let bytes = proto.write_buf().map_err(|error| error.to_string())?;
    let model = Model::from_bytes(format!("{}.onnx", case.name), bytes).map_err(|error| error.to_string())?;
    let session = subject.session(&model, Batching::Whole)?;
    let outputs = subject.run(&session, &inputs)?;
    if outputs.len() != set.outputs.len() {
        return Err(Reason::Fail(format!("{} outputs instead of {}", outputs.len(), set.outputs.len())));
    }
    for (output, (found, expected)) in outputs.iter().zip(&set.outputs).enumerate() {
        if let Some(difference) = Values::read(expected)?.difference(found) {
            return Err(Reason::Fail(format!("output {output}: {difference}")));
        }
    }
    Ok(())
}
