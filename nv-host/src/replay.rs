//! `nv replay`: what a run decided, decided again.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use nv_runtime::{LogEnd, ReplayError, ReplayReport, ReplayedCores};
use serde_json::{Value, json};

use crate::console::{Console, print};
use crate::exit::{Exit, Failure, Result};

/// Plays a log of decisions back. `-` is standard input.
pub(crate) fn replay(path: &Path, as_json: bool, console: &Console) -> Result<Exit> {
    let (name, log): (String, Box<dyn Read>) = if path == Path::new("-") {
        ("standard input".into(), Box::new(stdin().lock()))
    } else {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| unreadable(&name, &error.to_string()))?;
        (name, Box::new(file))
    };
    let report = nv_runtime::replay(log).map_err(|error| match error {
        ReplayError::Differs(_) => Failure::runtime(format!("{name}: {error}")),
        error => unreadable(&name, &error.to_string()),
    })?;
    match report.end {
        LogEnd::Torn { line } => console.warning(&format!(
            "{name} ends in the middle of line {line}: the run that wrote it did not come to its end; all before that line \
             was replayed"
        )),
        LogEnd::Missing => console.warning(&format!(
            "{name} does not say that it is whole: the run that wrote it did not come to its end; all that is there was \
             replayed"
        )),
        _ => {}
    }
    print(&if as_json { format!("{:#}\n", record(&report)) } else { text(&report) })?;
    Ok(Exit::Done)
}

fn unreadable(name: &str, reason: &str) -> Failure {
    Failure::usage(format!("{name}: {reason}; give a file that `nv run --record-decisions FILE` wrote"))
}

fn text(report: &ReplayReport) -> String {
    let count = |n: u64, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let told = |n: &ReplayedCores| (count(n.decisions, "decision"), count(n.cores, "core"));
    let (decisions, cores) = told(&report.total());
    let mut text = format!("{decisions} of {cores} reproduced\n");
    for (kind, n) in &report.cores {
        let (decisions, cores) = told(n);
        let _ = writeln!(text, "  {kind:9}  {decisions} of {cores}");
    }
    text
}

fn record(report: &ReplayReport) -> Value {
    let counts = |n: &ReplayedCores| json!({ "cores": n.cores, "decisions": n.decisions });
    let kinds: serde_json::Map<_, _> = report.cores.iter().map(|(kind, n)| (kind.clone(), counts(n))).collect();
    json!({
        "schema": "nv.replay/1",
        "reproduced": counts(&report.total()),
        "kinds": kinds,
        "whole": report.end == LogEnd::Whole,
    })
}
