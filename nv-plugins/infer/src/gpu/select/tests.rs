use std::sync::Arc;

use super::*;
use crate::gpu::in_flight::InFlight;
use crate::gpu::pipeline::Checks;
use crate::gpu::testing::{context, single};
use crate::gpu::{Executor, Weights};
use crate::plan::{Action, Function, Map, Values, View};
use crate::rows::{self, RowOutput};

/// A plan whose outputs are its inputs, so that any numbers can be selected from; its one step copies a number elsewhere.
fn plan(outputs: &[(Vec<usize>, Kind)]) -> Plan {
    let blank = |(shape, kind): &(Vec<usize>, Kind)| {
        let len = shape.iter().product();
        match kind {
            Kind::Float => Values::Floats(vec![0.0; len].into()),
            Kind::Int => Values::Ints(vec![0; len].into()),
        }
    };
    let arrays: Vec<Values> =
        outputs.iter().chain(&[(vec![1], Kind::Float), (vec![1], Kind::Float)]).map(blank).collect();
    let number = |i: usize| View { array: ArrayId((outputs.len() + i) as u32), offset: 0, strides: vec![] };
    let mut plan = single(Action::Map(Map::new(Function::Copy, &[], vec![number(0)], number(1))), &arrays);
    for (port, (shape, _)) in plan.outputs.iter_mut().zip(outputs) {
        port.dims = [&[1], &shape[..]].concat();
    }
    plan
}

fn executor(context: &Arc<Context>, selection: &RowSelection, options: ExecutorOptions) -> Executor {
    let outputs = selection.groups.iter().flat_map(|group| &group.outputs);
    let mut shapes: Vec<(usize, Vec<usize>)> = outputs.map(|output| (output.output, output.shape.clone())).collect();
    shapes.sort_unstable();
    shapes.dedup();
    let outputs: Vec<(Vec<usize>, Kind)> = shapes.into_iter().map(|(_, shape)| (shape, Kind::Float)).collect();
    Executor::new(Arc::clone(context), Arc::new(plan(&outputs)), &Weights::default(), options).unwrap()
}

/// Begins a run. `numbers` are those of each output, of all entries.
fn submit(
    executor: &mut Executor,
    entries: usize,
    numbers: &[Vec<f32>],
    selection: &RowSelection,
) -> Result<InFlight, GpuError> {
    let other = vec![0.0; entries];
    let inputs: Vec<&[f32]> = numbers.iter().chain([&other, &other]).map(Vec::as_slice).collect();
    executor.submit(entries, &inputs, Some(selection))
}

/// What the CPU selects.
fn expected(entries: usize, numbers: &[Vec<f32>], selection: &RowSelection) -> Vec<Vec<ScoredRows>> {
    let entry = |n: usize| {
        let part = |all: &'_ Vec<f32>| n * all.len() / entries..(n + 1) * all.len() / entries;
        let outputs: Vec<&[f32]> = numbers.iter().map(|all| &all[part(all)]).collect();
        rows::Selector::default().select(selection, &outputs)
    };
    (0..entries).map(entry).collect()
}

/// What lies on the threshold may be seen either way, unless nothing is computed.
#[track_caller]
fn check(found: &[Vec<ScoredRows>], expected: &[Vec<ScoredRows>], selection: &RowSelection) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        for ((found, expected), group) in found.iter().zip(expected).zip(&selection.groups) {
            let plain = |factor: &ScoreFactor| factor.activation == ScoreActivation::None && factor.power == 1.0;
            let exact = group.score.iter().all(plain);
            let sure = |score: f32| exact || (score - selection.threshold).abs() > 1e-5;
            let (mut found, mut expected) = (found.iter().peekable(), expected.iter().peekable());
            loop {
                match (found.peek().copied(), expected.peek().copied()) {
                    (None, None) => break,
                    (Some((a, values)), Some((b, others))) if a.index == b.index => {
                        assert_eq!(a.class, b.class, "{a:?} {b:?} {selection:?}");
                        let near = if exact { a.score == b.score } else { (a.score - b.score).abs() < 1e-5 };
                        assert!(near, "{a:?} {b:?} {selection:?}");
                        assert_eq!(bits(values), bits(others), "{selection:?}");
                        found.next();
                        expected.next();
                    }
                    (Some((a, _)), b) if b.is_none_or(|(b, _)| a.index < b.index) => {
                        assert!(!sure(a.score), "more: {a:?} {b:?} {selection:?}");
                        found.next();
                    }
                    (a, Some((b, _))) => {
                        assert!(!sure(b.score), "missing: {b:?} {a:?} {selection:?}");
                        expected.next();
                    }
                    (Some(a), None) => panic!("{a:?}"),
                }
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn rows(selected: Selected) -> Vec<Vec<ScoredRows>> {
    match selected {
        Selected::Rows(rows) => rows,
        Selected::Overflow { rows } => panic!("an entry has {rows} rows"),
    }
}

fn output(output: usize, rows: usize, columns: usize, layout: RowLayout) -> RowOutput {
    let shape = if layout == RowLayout::Rows { vec![rows, columns] } else { vec![columns, rows] };
    RowOutput { output, shape, columns, layout }
}

fn factor(output: usize, columns: std::ops::Range<usize>, activation: ScoreActivation, power: f32) -> ScoreFactor {
    ScoreFactor { of: RowColumns { output, columns }, activation, power }
}

/// The same numbers at every run of the tests (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn columns(&mut self, outputs: &[RowOutput], least: usize) -> RowColumns {
        let output = self.below(outputs.len());
        let start = self.below(outputs[output].columns);
        let columns = start..start + least + self.below(outputs[output].columns - start + 1 - least);
        RowColumns { output, columns }
    }

    /// A group whose outputs are counted from `first` on.
    fn group(&mut self, first: usize) -> RowGroup {
        let (part, times) = (1 + self.below(40), 1 + self.below(3));
        let outputs: Vec<RowOutput> = (0..1 + self.below(3))
            .map(|n| {
                // One may be gone through again and again.
                let rows = if n > 0 && self.below(2) == 0 { part } else { part * times };
                let layout = self.pick(&[RowLayout::Rows, RowLayout::Columns]);
                output(first + n, rows, 1 + self.below(6), layout)
            })
            .collect();
        let score = (0..1 + self.below(2)).map(|_| {
            let activation = self.pick(&[ScoreActivation::None, ScoreActivation::Sigmoid, ScoreActivation::Softmax]);
            let power = self.pick(&[1.0, 1.0, 0.5, 0.4, 2.0]);
            ScoreFactor { of: self.columns(&outputs, 1), activation, power }
        });
        let score = score.collect();
        let values = (0..self.below(3)).map(|_| self.columns(&outputs, 0)).collect();
        RowGroup { rows: part * times, outputs, score, values }
    }

    fn selection(&mut self) -> RowSelection {
        let mut groups = vec![self.group(0)];
        if self.below(2) == 0 {
            groups.push(self.group(groups[0].outputs.len()));
        }
        // The same outputs, with a score made otherwise.
        let mut again = groups[0].clone();
        again.score.iter_mut().for_each(|factor| factor.power = self.pick(&[1.0, 0.5]));
        groups.push(again);
        RowSelection { groups, threshold: 0.0 }
    }

    /// Of few sorts, so that there are equal ones; some are none.
    fn number(&mut self) -> f32 {
        match self.below(60) {
            0 | 1 => f32::NAN,
            2 => f32::INFINITY,
            3 => f32::NEG_INFINITY,
            n if n < 20 => n as f32 / 20.0,
            n => (n as f32 - 40.0) / 5.0,
        }
    }
}

#[test]
fn a_device_selects_what_the_cpu_does() {
    let Some(context) = context("a_device_selects_what_the_cpu_does") else { return };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut selected, mut all) = (0, 0);
    for _ in 0..24 {
        let mut selection = random.selection();
        assert_eq!(selection.check(), Ok(()));
        let options = ExecutorOptions { max_batch: 3, ..ExecutorOptions::default() };
        let mut executors = [Checks::Trusted, Checks::Added]
            .map(|checks| executor(&context, &selection, ExecutorOptions { checks, ..options }));
        let mut lens: Vec<(usize, usize)> =
            selection.groups.iter().flat_map(|g| &g.outputs).map(|o| (o.output, o.values())).collect();
        lens.sort_unstable();
        lens.dedup();
        for threshold in [0.3, 0.0, 0.6, 1.0, 0.05, 2.0, -0.5] {
            selection.threshold = threshold;
            let entries = 1 + random.below(3);
            let numbers: Vec<Vec<f32>> =
                lens.iter().map(|(_, len)| (0..len * entries).map(|_| random.number()).collect()).collect();
            let expected = expected(entries, &numbers, &selection);
            for executor in &mut executors {
                let in_flight = submit(executor, entries, &numbers, &selection).unwrap();
                assert!(in_flight.selects());
                check(&rows(in_flight.finish_rows().unwrap()), &expected, &selection);
            }
            selected += expected.iter().flatten().map(ScoredRows::len).sum::<usize>();
            all += entries * selection.groups.iter().map(|group| group.rows).sum::<usize>();
        }
    }
    assert!(selected > all / 10 && selected < all / 10 * 9, "{selected} of {all} rows are selected");
}

/// Scores are the first of eight columns, the last comes with a row.
fn plain(rows: usize, threshold: f32) -> RowSelection {
    let group = RowGroup {
        rows,
        outputs: vec![output(0, rows, 8, RowLayout::Rows)],
        score: vec![factor(0, 0..1, ScoreActivation::None, 1.0)],
        values: vec![RowColumns { output: 0, columns: 7..8 }],
    };
    RowSelection { groups: vec![group], threshold }
}

/// Rows whose score is `score` of their place.
fn scored(rows: usize, score: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..rows).flat_map(|row| [score(row), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, row as f32]).collect()
}

#[test]
fn where_there_is_no_room_for_rows_it_is_said() {
    let Some(context) = context("where_there_is_no_room_for_rows_it_is_said") else { return };
    for checks in [Checks::Trusted, Checks::Added] {
        let selection = plain(3000, 0.5);
        let options = ExecutorOptions { max_batch: 2, checks, ..ExecutorOptions::default() };
        let mut executor = executor(&context, &selection, options);
        let found = |executor: &mut Executor, counts: [usize; 2]| {
            let first_ones = |count: usize| scored(3000, move |row| if row * 7 % 3000 < count { 1.0 } else { 0.0 });
            let numbers = [counts.map(first_ones).concat()];
            let in_flight = submit(executor, 2, &numbers, &selection).unwrap();
            assert!(in_flight.selects());
            (in_flight.finish_rows().unwrap(), expected(2, &numbers, &selection))
        };
        for counts in [[0, CAPACITY], [CAPACITY, 1], [0, 0]] {
            let (found, expected) = found(&mut executor, counts);
            let lens: Vec<usize> = expected.iter().map(|entry| entry[0].len()).collect();
            assert_eq!((rows(found), lens), (expected, counts.to_vec()));
        }
        for (counts, most) in [([CAPACITY + 1, 0], CAPACITY + 1), ([7, 3000], 3000), ([2000, 1500], 2000)] {
            assert_eq!(found(&mut executor, counts).0, Selected::Overflow { rows: most });
        }
        // From then on there is room for more; less than there was is no reason for less of it.
        executor.expect_rows(2000);
        executor.expect_rows(10);
        let (selected, expected) = found(&mut executor, [2000, 2048]);
        assert_eq!(rows(selected), expected);
        assert_eq!(found(&mut executor, [2049, 0]).0, Selected::Overflow { rows: 2049 });
    }
}

#[test]
fn runs_in_flight_keep_what_they_found() {
    let Some(context) = context("runs_in_flight_keep_what_they_found") else { return };
    let (selection, other) = (plain(500, 0.5), plain(500, 0.9));
    let mut executor = executor(&context, &selection, ExecutorOptions::default());
    let numbers = |n: usize| [scored(500, move |row| if row % (n + 2) == 0 { 0.6 + row as f32 / 1000.0 } else { 0.1 })];
    let first = submit(&mut executor, 1, &numbers(0), &selection).unwrap();
    let second = submit(&mut executor, 1, &numbers(1), &selection).unwrap();
    let busy = submit(&mut executor, 1, &numbers(2), &selection);
    assert!(matches!(busy, Err(GpuError::Busy { most: 2 })));
    // Of another selection, and all outputs, after those.
    let third = submit(&mut executor, 1, &numbers(2), &other).unwrap();
    let numbers_of_all = numbers(3);
    let whole = executor.submit(1, &[&numbers_of_all[0], &[1.0], &[0.0]], None).unwrap();
    assert!(!whole.selects());
    let mut outputs = vec![Vec::new(); 3];
    whole.finish(&mut outputs).unwrap();
    assert_eq!(outputs, [numbers(3)[0].clone(), vec![1.0], vec![1.0]]);
    for (in_flight, n, selection) in [(second, 1, &selection), (third, 2, &other), (first, 0, &selection)] {
        let expected = expected(1, &numbers(n), selection);
        assert!(!expected[0][0].is_empty());
        assert_eq!(rows(in_flight.finish_rows().unwrap()), expected);
    }
    // One that nobody waits for leaves nothing behind.
    drop(submit(&mut executor, 1, &numbers(0), &selection).unwrap());
    let nothing = submit(&mut executor, 1, &[vec![0.0; 4000]], &selection).unwrap();
    assert_eq!(rows(nothing.finish_rows().unwrap()), [[ScoredRows::default()]]);
}

#[test]
fn what_is_not_for_the_device_is_left_to_the_cpu_or_refused() {
    let Some(context) = context("what_is_not_for_the_device_is_left_to_the_cpu_or_refused") else { return };
    let selection = plain(10, 0.5);
    let whole_numbers = plan(&[(vec![10, 8], Kind::Int)]);
    let options = ExecutorOptions::default();
    let mut ints = Executor::new(Arc::clone(&context), Arc::new(whole_numbers), &Weights::default(), options).unwrap();
    let numbers = [scored(10, |row| row as f32)];
    let in_flight = submit(&mut ints, 1, &numbers, &selection).unwrap();
    assert!(!in_flight.selects());
    let mut outputs = vec![Vec::new(); 3];
    in_flight.finish(&mut outputs).unwrap();
    assert_eq!(outputs[0], numbers[0]);

    let mut floats = executor(&context, &selection, options);
    let error = submit(&mut floats, 1, &numbers, &plain(11, 0.5)).unwrap_err();
    assert!(matches!(&error, GpuError::Invalid { what, .. } if what == "a selection of rows"), "{error}");
    let mut none = selection.clone();
    none.groups[0].score.clear();
    let error = submit(&mut floats, 1, &numbers, &none).unwrap_err();
    assert!(error.to_string().contains("at least one factor"), "{error}");
    let in_flight = submit(&mut floats, 1, &numbers, &selection).unwrap();
    assert!(in_flight.finish(&mut [Vec::new()]).is_err_and(|error| !error.is_lost()));
    // No row is as high as what is no number.
    let in_flight = submit(&mut floats, 1, &numbers, &plain(10, f32::NAN)).unwrap();
    assert!(!in_flight.selects() && in_flight.finish_rows().is_err());
}

#[test]
fn a_device_lost_in_the_middle_of_a_selection_is_an_error_of_that_run() {
    let Some(context) = context("a_device_lost_in_the_middle_of_a_selection_is_an_error_of_that_run") else { return };
    let selection = plain(500, 0.5);
    let mut executor = executor(&context, &selection, ExecutorOptions::default());
    let numbers = [scored(500, |row| row as f32 / 500.0)];
    let in_flight = submit(&mut executor, 1, &numbers, &selection).unwrap();
    context.destroy();
    match in_flight.finish_rows() {
        // What was on its way may still have come through.
        Ok(selected) => assert_eq!(rows(selected), expected(1, &numbers, &selection)),
        Err(error) => assert!(error.is_lost(), "{error}"),
    }
    let later = submit(&mut executor, 1, &numbers, &selection).and_then(InFlight::finish_rows);
    assert!(later.as_ref().is_err_and(GpuError::is_lost), "{later:?}");
}
