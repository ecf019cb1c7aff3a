//! The cases: what load is put on a runtime, and what must come of it.

use std::time::Duration;

/// One row, or a few, of the table.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What `--case` calls it.
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    pub(crate) model: Model,
    pub(crate) batch: Batch,
    /// How long it is measured, after the warm-up.
    pub(crate) window: Duration,
    pub(crate) warm_up: Duration,
    /// Runs only when it is named: a harder form of a case of the table.
    pub(crate) extra: bool,
    pub(crate) required: Vec<Requirement>,
}

/// The feeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// Files: frames as fast as they are taken.
    Files(usize),
    /// Cameras: frames at their own pace.
    Cameras(Cameras),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cameras {
    pub(crate) count: usize,
    /// Further ones that are opened and never give a frame.
    pub(crate) dead: usize,
    /// The first ones, each third frame of which the processor fails on.
    pub(crate) failing: usize,
    /// From one burst to the next.
    pub(crate) interval: Duration,
    /// Frames in a burst.
    pub(crate) burst: u32,
    pub(crate) phase: Phase,
}

/// How the cameras' times lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// All at the same instant.
    Aligned,
    /// Evenly over the interval.
    Spread,
}

/// The processor: it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) base: Duration,
    pub(crate) per_entry: Duration,
    pub(crate) failure: Failure,
}

/// What the processor does with a frame that it fails on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Reports it for that entry, where the runtime has a way to say so; else for the batch.
    Entry,
    /// Fails the whole batch. It says that it may be asked again.
    Batch,
}

/// What differs from the one config that all cases have: 16 entries, 2 ms of hold, one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) max_size: usize,
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) slots: Option<usize>,
}

/// How long a batch may be held for entries that are still to come. The same for both runtimes, in all cases.
pub(crate) const HOLD: Duration = Duration::from_millis(2);

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Requirement {
    /// Frames per second: at least this share of what full batches without a gap would give.
    ShareOfBound(f64),
    /// Frames per second: at least this share of the ancestor's.
    ShareOfAncestor(f64),
    /// The median latency: at most this many milliseconds above that of one batch of all the cameras, at once.
    AboveBound(f64),
    /// The median latency, in milliseconds.
    Latency(f64),
    /// Jain's index of fairness over what each feed got.
    Fairness(f64),
    /// No frame is lost, in any round.
    NothingLost,
    /// Share of the computed frames that came out.
    Goodput(f64),
    /// Share of the frames of the cameras that do not fail that came out.
    OthersUnharmed(f64),
    /// CPU time per frame: at most this share of the ancestor's.
    CpuOfAncestor(f64),
}

impl Model {
    /// How long it sleeps for a batch of `n`.
    pub(crate) fn time(&self, n: usize) -> Duration {
        // A batch has at most `max_size` entries.
        self.base + self.per_entry * n as u32
    }

    /// Whether it does nothing at all.
    pub(crate) fn is_free(&self) -> bool {
        self.base.is_zero() && self.per_entry.is_zero()
    }
}

impl Load {
    /// All feeds, the dead ones too.
    pub(crate) fn feeds(&self) -> usize {
        match self {
            Self::Files(n) => *n,
            Self::Cameras(c) => c.count + c.dead,
        }
    }

    /// Feeds that give frames; they come before those that don't.
    pub(crate) fn giving(&self) -> usize {
        match self {
            Self::Files(n) => *n,
            Self::Cameras(c) => c.count,
        }
    }

    /// Feeds that fail; they come first.
    pub(crate) fn failing(&self) -> usize {
        match self {
            Self::Files(_) => 0,
            Self::Cameras(c) => c.failing,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Cameras(_))
    }
}

impl Case {
    fn new(name: &'static str, title: &'static str, load: Load, required: &[Requirement]) -> Self {
        Self {
            name,
            title,
            load,
            model: Model {
                base: Duration::from_millis(4),
                per_entry: Duration::from_micros(500),
                failure: Failure::Entry,
            },
            batch: Batch { max_size: 16, response_timeout: None, slots: None },
            window: Duration::from_secs(5),
            warm_up: Duration::from_secs(1),
            extra: false,
            required: required.to_vec(),
        }
    }

    fn extra(mut self, name: &'static str, title: &'static str, load: Load) -> Self {
        (self.name, self.title, self.load, self.extra) = (name, title, load, true);
        self
    }
}

/// All cases, in the order of the table; each extra one after the case that it is a form of.
pub(crate) fn all() -> Vec<Case> {
    use Requirement::*;
    let ms = Duration::from_millis;
    let aligned = |count, fps| Cameras {
        count,
        dead: 0,
        failing: 0,
        interval: Duration::from_secs(1) / fps,
        burst: 1,
        phase: Phase::Aligned,
    };
    let spread = |cameras| Load::Cameras(Cameras { phase: Phase::Spread, ..cameras });

    let mut cases = vec![
        Case::new("files-1", "1 saturated file feed", Load::Files(1), &[ShareOfBound(0.92)]),
        Case::new("files-4", "4 saturated file feeds", Load::Files(4), &[ShareOfBound(0.92)]),
        Case::new("files-64", "64 saturated file feeds", Load::Files(64), &[ShareOfAncestor(0.99), ShareOfBound(0.96)]),
        Case::new("camera-1", "1 camera, 30 fps", Load::Cameras(aligned(1, 30)), &[AboveBound(0.7), NothingLost]),
        Case::new(
            "cameras-8",
            "8 cameras, 30 fps, aligned",
            Load::Cameras(aligned(8, 30)),
            &[AboveBound(1.5), NothingLost],
        ),
        Case::new(
            "cameras-8-dead",
            "the same and a ninth, dead one",
            Load::Cameras(Cameras { dead: 1, ..aligned(8, 30) }),
            &[AboveBound(2.0), NothingLost],
        ),
    ];

    // 8 · 3 frames each 72 ms are 333 a second: a quarter of 16 entries each 12 ms.
    let bursts = Cameras { interval: ms(72), burst: 3, ..aligned(8, 30) };
    let case = Case::new("bursts", "8 cameras in bursts of 3, 25 % load", Load::Cameras(bursts), &[NothingLost]);
    let form = case.clone().extra("bursts-spread", "8 cameras in bursts of 3, not aligned", spread(bursts));
    cases.extend([case, form]);

    let case = Case::new(
        "overload",
        "64 cameras, 30 fps (1.44 × overload)",
        spread(aligned(64, 30)),
        &[Latency(40.0), Fairness(0.99)],
    );
    let case = Case { window: Duration::from_secs(10), ..case };
    let form = case.clone().extra("overload-aligned", "64 cameras, 30 fps, aligned", Load::Cameras(aligned(64, 30)));
    cases.extend([case, form]);

    let case = Case::new(
        "aligned-64",
        "64 cameras, 5 fps, aligned, 4 + 1·n ms, batches of 4",
        Load::Cameras(aligned(64, 5)),
        &[NothingLost],
    );
    cases.push(Case {
        model: Model { per_entry: ms(1), ..case.model },
        batch: Batch { max_size: 4, ..case.batch },
        ..case
    });

    let case = Case::new(
        "goodput",
        "64 file feeds, 100·n ms, 5 s timeout, slots 1",
        Load::Files(64),
        &[Goodput(0.95), NothingLost],
    );
    cases.push(Case {
        model: Model { base: Duration::ZERO, per_entry: ms(100), ..case.model },
        batch: Batch { response_timeout: Some(ms(5000)), slots: Some(1), ..case.batch },
        // Several times round all feeds.
        window: Duration::from_secs(40),
        warm_up: Duration::from_secs(8),
        ..case
    });

    // Aligned, so that those who fail share every batch with the others.
    let failing = [
        (1, Failure::Entry, "fail-1-entry", "1 of 8 aligned cameras fails, per entry", 0.995),
        (2, Failure::Entry, "fail-2-entry", "2 of 8 aligned cameras fail, per entry", 0.995),
        (1, Failure::Batch, "fail-1-batch", "1 of 8 aligned cameras fails, whole batches", 0.97),
        (2, Failure::Batch, "fail-2-batch", "2 of 8 aligned cameras fail, whole batches", 0.97),
    ];
    for (count, failure, name, title, share) in failing {
        let load = Load::Cameras(Cameras { failing: count, ..aligned(8, 30) });
        let case = Case::new(name, title, load, &[OthersUnharmed(share)]);
        cases.push(Case { model: Model { failure, ..case.model }, ..case });
    }
    let load = spread(Cameras { failing: 2, ..aligned(8, 30) });
    let case = Case::new("", "", load, &[OthersUnharmed(0.97)]);
    let case = Case { model: Model { failure: Failure::Batch, ..case.model }, ..case };
    cases.push(case.extra("fail-2-batch-spread", "2 of 8 cameras fail, whole batches, not aligned", load));

    for (name, title, feeds) in
        [("free-8", "free processor, 8 file feeds", 8), ("free-32", "free processor, 32 file feeds", 32)]
    {
        let case = Case::new(name, title, Load::Files(feeds), &[CpuOfAncestor(0.75)]);
        cases.push(Case { model: Model { base: Duration::ZERO, per_entry: Duration::ZERO, ..case.model }, ..case });
    }
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let cases = all();
        let names: HashSet<_> = cases.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn loads_are_what_their_titles_say() {
        fn check(name: &str, expected: f64) {
            let case = all().into_iter().find(|c| c.name == name).expect("a case of that name");
            let Load::Cameras(c) = case.load else { panic!("{name} has no cameras") };
            let offered = c.count as f64 * f64::from(c.burst) / c.interval.as_secs_f64();
            let capacity = case.batch.max_size as f64 / case.model.time(case.batch.max_size).as_secs_f64();
            assert!((offered / capacity - expected).abs() < 0.005, "{name}: {}", offered / capacity);
        }
        check("bursts", 0.25);
        check("overload", 1.44);
        check("aligned-64", 0.64);
    }
}
