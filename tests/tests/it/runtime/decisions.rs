//! Decisions that are recorded, and made again from the record.

use std::io;
use std::sync::Mutex;

use nv_perception::testing::read_frame_number;
use nv_perception::{BatchEntry, StageError, StageErrorKind, StageOutput};
use nv_runtime::{DecisionLog, LogEnd, ReplayReport, StageFactory, StepErrorPolicy};
use nv_tests::{fed_source, idempotent_processor, stage};

use super::*;

/// What a runtime decides, as it is written down.
#[derive(Clone, Default)]
pub(super) struct Recording(Arc<Mutex<Vec<u8>>>);

impl io::Write for Recording {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A runtime whose decisions are recorded. Not every test has one: what is recorded takes another time.
pub(super) fn recorded() -> (Runtime, Recording) {
    let recording = Recording::default();
    let decisions = DecisionLog::new("the test's", recording.clone()).unwrap();
    (Runtime::new(RuntimeConfig { decisions: Some(decisions), ..RuntimeConfig::default() }), recording)
}

impl Recording {
    /// Checks that all of it is decided again, byte for byte. For after the runtime's shutdown.
    pub(super) fn check(&self) -> ReplayReport {
        let log = self.0.lock().unwrap();
        let report = nv_runtime::replay(&log[..]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.end, LogEnd::Whole);
        let total = report.total();
        let lines = log.iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(total.cores + total.decisions + 2, lines, "every line but the first and the last");
        report
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Live feeds whose claims are bound at dispatch, a processor that fails for some frames and breaks for others, and a tracker
/// that breaks too.
#[test]
fn what_goes_wrong_is_decided_again_as_it_was() {
    let (runtime, recording) = recorded();
    let number = |entry: &BatchEntry| read_frame_number(entry.frame()).unwrap();
    let unsteady = idempotent_processor(move |batch: &mut [BatchEntry]| {
        assert!(batch.iter().all(|e| number(e) % 10 != 7), "seven is too much");
        for entry in batch.iter_mut() {
            let bad = number(entry) % 10 == 3;
            entry.finish(if bad { Err(StageError::input("three is not seen")) } else { Ok(StageOutput::default()) });
        }
        if batch.iter().any(|e| number(e) % 10 == 5) {
            return Err(StageError::new(StageErrorKind::Transient, "five fails for all"));
        }
        Ok(())
    });
    let detector = batch(&runtime, unsteady, BatchConfig { instances: 2, ..BatchConfig::default() });
    let tracker: StageFactory = stage(|input| match input.frame().seq() {
        11 => panic!("eleven is too much"),
        _ => Ok(StageOutput::default()),
    });
    let cameras: Vec<_> = ["gate", "yard", "hall"]
        .into_iter()
        .map(|name| {
            let pipeline = detect(&detector, &tracker);
            let (feeder, source) = fed_source(true);
            let (feed, _) = feed(&runtime, name, source, pipeline, |c| {
                c.on_step_error = if name == "hall" { StepErrorPolicy::Pass } else { StepErrorPolicy::Drop };
            });
            (feeder, feed)
        })
        .collect();
    for n in 0..40 {
        for (feeder, feed) in &cameras {
            feeder.frame(n);
            match n {
                20 => feed.pause(),
                24 => feed.resume(),
                _ => {}
            }
        }
    }
    for (feeder, feed) in cameras {
        drop(feeder);
        feed.wait();
        assert!(feed.stats().frames.is_balanced());
    }
    shut_down(&runtime);
    let report = recording.check();
    let of = |kind: &str| report.cores.get(kind).map_or((0, 0), |n| (n.cores, n.decisions));
    assert_eq!((of("batch").0, of("feed").0, of("intake").0, of("restarts").0), (1, 3, 3, 3), "{report:?}");
    let log = recording.text();
    for part in
        ["\"bind\"", "\"claim\"", "\"guilty\"", "\"instance_lost\"", "\"paused\"", "\"failed\"", "\"answered_badly\""]
    {
        assert!(log.contains(part), "nothing was recorded of {part}");
    }

    // The same log says otherwise if a single one of its decisions is another.
    let line = log.lines().position(|l| l.contains("\"compute\"")).unwrap();
    let other = log.lines().nth(line).unwrap().replacen("\"part\":0", "\"part\":1", 1);
    let other: Vec<_> = log.lines().enumerate().map(|(i, l)| if i == line { other.as_str() } else { l }).collect();
    let error = nv_runtime::replay((other.join("\n") + "\n").as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("line {}: batch detector #1 decides otherwise", line + 1)), "{error}");
}

fn detect(detector: &BatchHandle, tracker: &StageFactory) -> FeedPipeline {
    FeedPipeline::builder().batch(detector).stage("track", tracker.clone()).build().unwrap()
}
