//! Batch points and feeds in virtual time: the cores as they are, with threads, sources, processors and sinks played around
//! them from a seed. After every event it is checked that nothing which must hold was broken.

mod checks;
mod fairness;
mod feed;
mod instance;
mod intake;
mod planted;
mod point;
mod processor;
mod scenario;
mod sink;
mod source;
mod stage;
mod table;
mod tally;
mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nv_core::DropReason;

use self::checks::Violation;
use self::planted::Planted;
use self::scenario::Scenario;
use self::world::{Seen, World};
use crate::guard::panic_error;

/// Seeds of a usual run, and of a deep one.
const SEEDS: (u64, u64) = (1_000, 20_000);
/// Failures that are shown: the others are likely to be the same.
const SHOWN: usize = 8;
/// Tests that share them, so that they run side by side.
const SHARES: u64 = 8;

/// A seed whose run broke something.
struct Failure {
    seed: u64,
    violation: Violation,
    /// The latest events.
    story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, at {:.6} ms: {}", self.seed, self.violation.at.as_millis_f64(), self.violation.what)
    }
}

/// Runs a seed's scenario.
fn run(seed: u64, planted: Option<Planted>) -> Result<World, Box<Failure>> {
    let mut world = World::new(Scenario::new(seed), planted, false);
    // A core that panics has failed like any other, and its seed is to be named.
    let ran = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic_error("a core", panic).message().to_owned();
        Err(Violation { what: text, at: world.context.now })
    });
    match ran {
        Ok(()) => Ok(world),
        Err(violation) => Err(Box::new(Failure { seed, violation, story: world.story() })),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}: it must be a number")))
}

fn seeds() -> u64 {
    let deep = std::env::var_os("NV_TEST_DEEP").is_some();
    number("NV_SIM_SEEDS").unwrap_or(if deep { SEEDS.1 } else { SEEDS.0 })
}

/// Runs every `SHARES`th seed.
fn share(nth: u64) {
    let failures = (nth..seeds()).step_by(SHARES as usize).filter_map(|seed| run(seed, None).err());
    let failures: Vec<_> = failures.take(SHOWN).collect();
    let Some(first) = failures.first() else { return };
    let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
    panic!(
        "{}\nlatest events of the first:\n{}replay it: NV_SIM_SEED={} cargo test -p nv-runtime --lib simulation::replay -- --nocapture",
        all.join("\n"),
        first.story,
        first.seed,
    );
}

macro_rules! shares {
    ($($name:ident: $nth:literal),*) => {
        $(#[test]
        fn $name() {
            share($nth);
        })*
    };
}

shares!(seeds_0: 0, seeds_1: 1, seeds_2: 2, seeds_3: 3, seeds_4: 4, seeds_5: 5, seeds_6: 6, seeds_7: 7);

/// Runs the seed that `NV_SIM_SEED` names, and tells what happens.
#[test]
fn replay() {
    use std::io::Write as _;

    let Some(seed) = number("NV_SIM_SEED") else { return };
    let mut world = World::new(Scenario::new(seed), None, true);
    let result = world.run();
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{:#?}\n{}", world.scenario, world.story());
    if let Err(violation) = result {
        panic!("seed {seed}, at {:.6} ms: {}", violation.at.as_millis_f64(), violation.what);
    }
}

/// Each check finds what it is there to find.
#[test]
fn planted_faults_are_found() {
    for planted in Planted::ALL {
        let failure = (0..64).find_map(|seed| run(seed, Some(planted)).err());
        let Some(failure) = failure else { panic!("{planted:?} was not found") };
        assert!(planted.is_found_by(&failure.violation.what), "{planted:?} was taken for something else: {failure}");
    }
}

/// Seeds reach everything that can become of a frame, and what is rare at batch points.
#[test]
fn everything_happens() {
    let mut ends = BTreeSet::new();
    let mut seen = Seen::default();
    for world in (0..160).filter_map(|seed| run(seed, None).ok()) {
        for intake in &world.intakes {
            ends.extend(intake.core.counts().dropped.into_keys());
        }
        seen.add(&world.context.seen);
    }
    for reason in DropReason::ALL {
        // A hung stage is given up by a thread that watches over it, and by no core.
        let reached = ends.contains(&reason) || reason == DropReason::StageHung;
        assert!(reached, "no frame was dropped for {reason}");
    }
    assert!(seen.is_all(), "{seen:?}");
}

/// The same seed is the same run.
#[test]
fn a_seed_says_it_all() {
    let story = |seed| {
        let mut world = World::new(Scenario::new(seed), None, true);
        let _ = world.run();
        world.story()
    };
    assert!(story(11).lines().count() > 100);
    assert_eq!(story(11), story(11));
    assert_ne!(story(11), story(12));
}
