//! What a run cost.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nv_bench_harness::CpuTime;
use serde::{Deserialize, Serialize};

use crate::quality::{Truth, Written};

/// What was seen of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// CPU time of the process and its children from its start to its end, user and system, in seconds.
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    /// The most memory that it, or one of its children, had resident at a time, in MiB.
    pub(crate) peak_mib: f64,
    /// Cores that other programs used meanwhile; 0 where the system does not say.
    pub(crate) cores_others: f64,
    /// CPU time that it says it took before the first frame, in seconds; `None` where it says nothing.
    pub(crate) start_cpu_s: Option<f64>,
    /// Lines that it wrote: one for each frame.
    pub(crate) frames: usize,
    /// How well its tracks agree with the ground truth.
    pub(crate) mota: f64,
    pub(crate) idf1: f64,
}

/// The one thing that the Python loop says of itself that is of use here.
#[derive(Deserialize)]
struct Said {
    start_cpu_s: f64,
}

/// Runs a command to its end. It must be the only child that this process ever has.
pub(crate) fn measure(command: &mut Command) -> Result<Sample, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (before, began) = (CpuTime::now(), Instant::now());
    let done = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().map_err(|e| format!("{program}: {e}"))?;
    let (after, wall_s) = (CpuTime::now(), began.elapsed().as_secs_f64());
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{program} ended with {}: {}", done.status, said.trim()));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| e.to_string())?;
    let cpu_s = cpu_s(&usage);
    let mut sample = Sample {
        cpu_s,
        wall_s,
        peak_mib: peak_mib(&usage),
        cores_others: 0.0,
        start_cpu_s: serde_json::from_slice::<Said>(&done.stdout).ok().map(|said| said.start_cpu_s),
        frames: 0,
        mota: 0.0,
        idf1: 0.0,
    };
    if let (Some(from), Some(to)) = (before.everybody, after.everybody) {
        sample.cores_others = (to.saturating_sub(from).as_secs_f64() - cpu_s).max(0.0) / wall_s;
    }
    Ok(sample)
}

fn cpu_s(usage: &Usage) -> f64 {
    let micros = |time: TimeVal| time.num_microseconds() as f64;
    (micros(usage.user_time()) + micros(usage.system_time())) / 1e6
}

fn peak_mib(usage: &Usage) -> f64 {
    // In bytes there, in KiB elsewhere (getrusage(2)).
    let unit = if cfg!(target_vendor = "apple") { 1.0 } else { 1024.0 };
    usage.max_rss() as f64 * unit / f64::from(1 << 20)
}

impl Sample {
    /// Reads what was written, and holds it against the ground truth.
    pub(crate) fn judge(&mut self, truth: &Truth, output: &Path) -> Result<(), String> {
        let written = Written::read(output)?;
        let summary = truth.compare(&written);
        (self.frames, self.mota, self.idf1) = (written.frames, summary.mota(), summary.idf1());
        Ok(())
    }

    pub(crate) fn frames_per_cpu_s(&self) -> f64 {
        self.frames as f64 / self.cpu_s
    }

    /// Without what it took before the first frame, if it says.
    pub(crate) fn frames_per_cpu_s_once_started(&self) -> f64 {
        self.frames as f64 / (self.cpu_s - self.start_cpu_s.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_its_children_cost() {
        // A shell that has a child count: what is seen is of both.
        let mut command = Command::new("sh");
        command
            .args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo '{\"start_cpu_s\": 0.5}'"]);
        let sample = measure(&mut command).expect("it ends well");
        assert!(sample.cpu_s > 0.01 && sample.peak_mib > 0.5, "{sample:?}");
        assert_eq!(sample.start_cpu_s, Some(0.5));

        let failed = measure(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"]));
        assert!(failed.as_ref().is_err_and(|e| e.contains("oh no")), "{failed:?}");
    }
}
