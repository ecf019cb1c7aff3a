//! The machine: what it is, and how busy it is with us and with others.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What a result was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that a program may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
}

/// Cores that others may use on a machine that counts as idle.
pub const IDLE: f64 = 0.1;

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: first_line(fs::read_to_string("/proc/sys/kernel/osrelease").ok()),
            rustc: first_line(output("rustc", &["--version"])),
        }
    }
}

/// The commit that the code under test is at, and whether that code was changed since. `tested`: its folders from the
/// repository's root.
pub fn commit(tested: &[&str]) -> (String, bool) {
    let commit = first_line(output("git", &["rev-parse", "--short", "HEAD"]));
    let folders: Vec<_> = tested.iter().map(|folder| format!(":/{folder}")).collect();
    let mut status = vec!["status", "--porcelain", "--"];
    status.extend(folders.iter().map(String::as_str));
    let changed = output("git", &status).is_some_and(|changes| !changes.trim().is_empty());
    (commit, changed)
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn first_line(text: Option<String>) -> String {
    text.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned())
}

/// CPU time, at one instant.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    /// What this process has used.
    pub process: Duration,
    /// What everybody has used, us too; `None` where the system does not say.
    pub everybody: Option<Duration>,
}

impl CpuTime {
    /// As of now.
    pub fn now() -> Self {
        Self {
            process: Self::of_process(),
            everybody: fs::read_to_string("/proc/stat").ok().and_then(|stat| busy(&stat)),
        }
    }

    /// What this process has used, all its threads, as of now.
    pub fn of_process() -> Duration {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Time in `/proc/stat` that was not idle, of all cores. Its unit is 1/100 s (proc(5), `USER_HZ`).
fn busy(stat: &str) -> Option<Duration> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
    let ticks = fields.iter().take(3).sum::<u64>() + fields.get(5..8)?.iter().sum::<u64>();
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_idle_and_guests_out() {
        let stat = "cpu  100 20 3 9999 888 4 5 6 77 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(1380)));
        assert_eq!(busy("intr 5\n"), None);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = CpuTime::now().process;
        let mut x = 1u64;
        while CpuTime::now().process == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(CpuTime::now().process > before);
    }
}
