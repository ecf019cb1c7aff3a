//! What the system knows of this process.

use std::fs;
use std::time::Duration;

/// Memory that is in use, in bytes.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(number);
    kibibytes.expect("the system says it of every process") * 1024
}

/// Threads of the runtime, by their names; those of the test harness come and go as they like.
pub(crate) fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("this is Linux");
    // One that ends meanwhile is none.
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(name).filter(|name| name.starts_with("nv-")).count()
}

/// CPU time so far, of all threads, of those too that have ended; in steps of 10 ms.
pub(crate) fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    // The name may hold spaces; what follows it is fields 3 and on. 14 and 15: in the program, and in the system for it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    // Linux tells the world of hundredths, whatever it counts by itself.
    Duration::from_millis(ticks * 10)
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
