//! `cargo xtask test`: what CI runs, phase by phase, with the time of each.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use crate::test_data::TestData;
use crate::workspace::Workspace;
use crate::{Result, arm, fuzz, plugins, process, table, tools};

/// The flags of `cargo xtask test`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// Long runs besides: many more cases for each property, schedules for the model checker and seeds for the simulation, ten
    /// minutes of faults, every test several times over, ARM's kernels in an emulator, and five minutes of fuzzing
    #[arg(long)]
    deep: bool,
    /// Only these phases (repeat the flag for several)
    #[arg(long, value_name = "PHASE")]
    only: Vec<Phase>,
}

/// The phases in the order in which they run: what fails fast comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Make sure of the tools and of the data that tests compare with, get what is missing
    Setup,
    /// `cargo fmt --check`
    Format,
    /// `cargo deny check`: licences, banned crates, where crates come from
    Deny,
    /// `cargo clippy`, warnings are errors
    Clippy,
    /// `cargo doc`, warnings are errors
    Docs,
    /// The runtime's protocols between threads under many schedules, in a model checker
    Model,
    /// Compile everything for the tests and install the plugins (`cargo xtask plugins`)
    Plugins,
    /// `cargo nextest run`
    Tests,
    /// `cargo test --doc`
    Doctests,
    /// ARM's kernels in an emulator, where one can be had (only with `--deep`, or when named)
    Arm,
    /// Hostile model files, made and tried without pause (only with `--deep`, or when named)
    Fuzz,
}

/// How many cases a property is tried with in a deep run (proptest's own default is 256).
const DEEP_CASES: &str = "8192";
/// How often a deep run repeats every test, to catch what fails once in a while.
const DEEP_REPEATS: &str = "5";

/// Runs the phases; stops at the first that fails, and says how to run that one alone.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let started = Instant::now();
    match workspace.test_assets() {
        Some(folder) => eprintln!("tests on real video read {}", folder.display()),
        None => eprintln!("no NV_ASSETS and no ../shared/assets: tests on real video skip themselves"),
    }
    let mut report = Vec::new();
    let mut failure = None;
    for phase in Phase::value_variants().iter().copied().filter(|phase| options.wants(*phase)) {
        eprintln!("\n== {}", phase.name());
        let began = Instant::now();
        let done = phase.run(workspace, options.deep);
        report.push((phase, began.elapsed(), done.is_ok()));
        if let Err(error) = done {
            failure = Some((phase, error));
            break;
        }
    }
    println!("\n{}", render(&report, started.elapsed()));
    // Of the tests themselves: another phase may have left its own count, and this one not have come to it.
    let tested = report.iter().any(|(phase, ..)| *phase == Phase::Tests);
    if let Some(tests) = TestCount::read(&workspace.target, started).filter(|_| tested) {
        println!("{tests}");
    }
    match failure {
        None => Ok(()),
        Some((phase, error)) => {
            let name = phase.name();
            Err(format!("phase {name} failed: {error}\nto run it alone: cargo xtask test --only {name}").into())
        }
    }
}

impl Options {
    fn wants(&self, phase: Phase) -> bool {
        match self.only.is_empty() {
            true => self.deep || !matches!(phase, Phase::Arm | Phase::Fuzz),
            false => self.only.contains(&phase),
        }
    }
}

impl Phase {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self, workspace: &Workspace, deep: bool) -> Result<()> {
        let cargo = |args: &[&str]| {
            let mut command = Command::new(process::cargo());
            command.current_dir(&workspace.root).args(args);
            command.envs(workspace.test_assets().map(|folder| ("NV_ASSETS", folder)));
            command
        };
        // Many tests panic on purpose. Backtraces of that would cost seconds each on a busy machine, and say nothing: a test
        // that fails names its line without one.
        let nextest = |args: &[&str], data: &TestData| {
            let mut command = cargo(&["nextest", "run", "--workspace"]);
            command.args(args).env("RUST_BACKTRACE", "0").envs(data.variables());
            command
        };
        let data = || TestData::of(workspace.test_assets().as_deref());
        match self {
            Phase::Setup => {
                tools::ensure_test_tools()?;
                data()?.fetch()?;
                if deep { tools::ensure_fuzzer() } else { Ok(()) }
            }
            Phase::Format => process::run(&mut cargo(&["fmt", "--all", "--check"])),
            Phase::Deny => process::run(&mut cargo(&["deny", "check", "licenses", "bans", "sources"])),
            Phase::Clippy => process::run(&mut cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ])),
            Phase::Docs => process::run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")),
            Phase::Model => {
                let only = ["nextest", "run", "--package", "nv-runtime", "--features", "model-check", "--lib"];
                let mut command = cargo(&only);
                // Other tests would ask the model checker's locks for what they only do in a model.
                command.args(["-E", "test(/(^|::)model::/)"]).env("RUST_BACKTRACE", "0");
                process::run(command.envs(deep.then_some(("NV_TEST_DEEP", "1"))))
            }
            // The very units that the tests need, so that nothing is compiled a second time with other features.
            Phase::Plugins => {
                let targets = ["--workspace", "--lib", "--bins", "--tests", "--examples"];
                plugins::build(workspace, plugins::Profile::Dev, &targets).map(drop)
            }
            Phase::Tests => {
                // A phase before this one writes it too.
                TestCount::forget(&workspace.target);
                let data = data()?;
                process::run(&mut nextest(&[], &data))?;
                if deep {
                    let seed =
                        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()).to_string();
                    println!("random cases are drawn with PROPTEST_RNG_SEED={seed}");
                    let mut cases = nextest(&[], &data);
                    cases.env("PROPTEST_RNG_SEED", seed).env("PROPTEST_CASES", DEEP_CASES).env("NV_TEST_DEEP", "1");
                    process::run(&mut cases)?;
                    process::run(&mut nextest(&["--stress-count", DEEP_REPEATS], &data))?;
                }
                Ok(())
            }
            Phase::Doctests => process::run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"])),
            Phase::Arm => arm::test(workspace),
            Phase::Fuzz => fuzz::models(workspace),
        }
    }
}

fn render(report: &[(Phase, Duration, bool)], total: Duration) -> String {
    let mut rows = vec![["phase", "time", "result"].map(str::to_owned).to_vec()];
    for (phase, time, ok) in report {
        rows.push(vec![phase.name(), table::seconds(*time), if *ok { "ok" } else { "FAILED" }.to_owned()]);
    }
    rows.push(vec!["total".to_owned(), table::seconds(total)]);
    table::render(&rows)
}

/// Where nextest leaves its report, in the target folder.
const REPORT: &str = "nextest/default/junit.xml";

/// What nextest wrote into its JUnit report of this run.
#[derive(Debug, PartialEq, Eq)]
struct TestCount {
    run: usize,
    failed: usize,
    /// Tests that passed without having looked: they printed `skipped: …` because their clips are not here.
    without_assets: usize,
}

impl TestCount {
    /// Takes the report away, so that none is taken for the one that is to come.
    fn forget(target: &Path) {
        // There may be none.
        let _ = fs::remove_file(target.join(REPORT));
    }

    /// The report of the last test run, unless that run was before `started`.
    fn read(target: &Path, started: Instant) -> Option<Self> {
        let path = target.join(REPORT);
        let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().ok()?;
        (age <= started.elapsed()).then(|| fs::read_to_string(&path).ok().and_then(|report| Self::parse(&report)))?
    }

    fn parse(report: &str) -> Option<Self> {
        let suites = report.split_once("<testsuites ")?.1.split_once('>')?.0;
        let number = |key: &str| -> Option<usize> {
            let value = suites.split_once(&format!(" {key}=\""))?.1;
            value.split_once('"')?.0.parse().ok()
        };
        let failed = number("failures")? + number("errors")?;
        let without_assets = report.split("<testcase ").skip(1).filter(|case| case.contains("\nskipped: ")).count();
        Some(Self { run: number("tests")?, failed, without_assets })
    }
}

impl std::fmt::Display for TestCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run, failed, without_assets } = self;
        write!(f, "{run} tests run: {} passed, {failed} failed", run - failed)?;
        if *without_assets > 0 {
            write!(f, " ({without_assets} skipped themselves for want of assets)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_phases_times_and_the_failure() {
        let report =
            [(Phase::Format, Duration::from_millis(1200), true), (Phase::Clippy, Duration::from_secs(90), false)];
        let text = render(&report, Duration::from_secs(92));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "phase         time  result",
                "format       1.2 s      ok",
                "clippy  1 min 30 s  FAILED",
                "total   1 min 32 s",
            ]
        );
    }

    #[test]
    fn without_only_every_phase_is_wanted_that_is_not_for_long_runs() {
        let some = Options { only: vec![Phase::Docs], ..Options::default() };
        assert!(some.wants(Phase::Docs) && !some.wants(Phase::Tests));
        let wanted = |options: &Options| Phase::value_variants().iter().filter(|phase| options.wants(**phase)).count();
        let deep = Options { deep: true, ..Options::default() };
        assert_eq!(wanted(&deep), Phase::value_variants().len());
        assert_eq!(wanted(&Options::default()), Phase::value_variants().len() - 2);
        assert!(!Options::default().wants(Phase::Fuzz) && !Options::default().wants(Phase::Arm));
    }

    #[test]
    fn the_count_comes_from_the_junit_report() {
        let report = r#"<?xml version="1.0"?>
<testsuites name="nextest-run" tests="3" failures="1" errors="0" uuid="x" time="1.0">
  <testsuite name="a" tests="3" failures="1">
    <testcase name="one" time="0.1"><system-out>
running 1 test
skipped: one: no assets at /x
</system-out></testcase>
    <testcase name="two" time="0.1"></testcase>
    <testcase name="three" time="0.1"><failure>no</failure></testcase>
  </testsuite>
</testsuites>"#;
        let count = TestCount::parse(report).expect("a report");
        assert_eq!(count, TestCount { run: 3, failed: 1, without_assets: 1 });
        assert_eq!(count.to_string(), "3 tests run: 2 passed, 1 failed (1 skipped themselves for want of assets)");
        assert_eq!(TestCount::parse("<html>"), None);
    }
}
